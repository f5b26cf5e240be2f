//! What the cookies weigh: the table in DESIGN.md, made here and compared with what stands there.
//!
//! Tests only. The tokens are random bytes in the shape of tokens, because nothing else would be
//! honest: no text compresses and nothing in a seal does.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::assurance::Authentication;
use crate::config::testing::{checked, config};
use crate::cookie::Jar;
use crate::handler::Handler;
use crate::oauth::testing::{SigningKey, snapshot};
use crate::rng::random;
use crate::rng::testing::Counter;
use crate::seal::{KeyRing, MasterKey};
use crate::secret::Secret;
use crate::session::{Session, SessionId, Tokens};
use crate::step::Context;
use crate::time::UnixTime;

/// A token of exactly `length` characters in the shape of an ES256 JWT.
fn jwt(length: usize, rng: &mut Counter) -> Secret {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"at+jwt","kid":"key-1"}"#);
    let signature = URL_SAFE_NO_PAD.encode(random::<64>(rng));
    let mut payload = length - header.len() - signature.len() - 2;
    // no base64url text has a length of 4n + 1
    if payload % 4 == 1 {
        payload -= 1;
    }
    let bytes: Vec<u8> = (0..payload * 3 / 4).flat_map(|_| random::<1>(rng)).collect();
    Secret::new(format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(bytes)))
}

#[test]
fn the_table_in_design_md_is_what_the_cookies_weigh() {
    let application = Arc::new(checked(crate::config::ApplicationConfig {
        id: "shop".to_owned(),
        ..config()
    }));
    let keys = Arc::new(KeyRing::new(vec![MasterKey::generate().expect("randomness")]).expect("one key"));
    let handler = Handler::new(application, keys).expect("a checked application");
    let rng = &mut Counter(1);
    let mut table = String::from(
        "| access token | its bytes | anchor | of it above 1.05 × the token | session cookie |\n|---|---|---|---|---|\n",
    );
    let tokens = [
        ("opaque", Secret::new(URL_SAFE_NO_PAD.encode(random::<32>(rng)))),
        ("JWT", jwt(1200, rng)),
        ("JWT", jwt(3500, rng)),
    ];
    for (shape, access_token) in tokens {
        let length = access_token.len();
        let session = Session {
            id: SessionId([7; 16]),
            created_at: UnixTime(1_800_000_000),
            last_active: UnixTime(1_800_000_000),
            written_at: UnixTime(1_800_000_000),
            login_state: [3; 8],
            authentication: Authentication::default(),
            tokens: Tokens {
                access_token,
                access_expires_at: UnixTime(1_800_000_300),
                refresh_token: Some(Secret::new(URL_SAFE_NO_PAD.encode(random::<32>(rng)))),
                refresh_expires_at: Some(UnixTime(1_800_086_400)),
                id_token: jwt(1024, rng),
                scope: None,
                apis: Vec::new(),
                userinfo: None,
                issued_by: None,
            },
            proof_key: None,
            kept: None,
        };
        let provider = snapshot(&SigningKey::generate("ES256", None));
        let mut context = Context {
            provider: &provider,
            now: UnixTime(1_800_000_000),
            rng,
        };
        let lines = handler
            .session_cookies(&session, &Jar::new([]), &mut context)
            .expect("it fits");
        let weight = |name: &str| -> usize {
            let pairs = lines
                .iter()
                .filter_map(|line| line.to_str().ok()?.split(';').next());
            pairs.filter(|pair| pair.starts_with(name)).map(str::len).sum()
        };
        let (anchor, session) = (weight("__Host-Http-shop-access"), weight("__Secure-shop-session"));
        let above = anchor.saturating_sub(length * 105 / 100);
        assert!(
            above <= 110,
            "an anchor of {anchor} bytes for a token of {length}"
        );
        table.push_str(&format!(
            "| {shape} | {length} | {anchor} | {above} | {session} |\n"
        ));
    }
    let design = include_str!("../../../../DESIGN.md");
    assert!(
        design.contains(&table),
        "DESIGN.md should contain this table:\n\n{table}"
    );
}
