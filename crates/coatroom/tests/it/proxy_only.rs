//! An instance that only forwards API calls, beside an agent: what it does, and what whoever steals
//! its key can and cannot do.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coatroom_core::seal::{Associated, KeyRing, MasterKey, ProxyKey, ProxyRing, Purpose};
use http::{Method, StatusCode};

use crate::support::browser::{Browser, Site};
use crate::support::{OLD_KEY, Rig};

fn at(rig: &Rig, browser: &Browser) -> Browser {
    let mut there = rig.browser();
    there.jar = browser.jar.clone();
    there
}

#[tokio::test]
async fn calls_pass_there_as_they_do_at_the_agent() {
    let agent = Rig::new().await;
    let proxy = agent.proxy_only();
    let mut browser = agent.signed_in().await;
    let mut there = at(&proxy, &browser);
    assert_eq!(
        there.fetch(Method::GET, "/api/orders", "").await.status,
        StatusCode::OK
    );
    let seen = proxy.api.seen.lock().expect("no panic").pop().expect("a call");
    assert!(
        seen.headers["authorization"]
            .to_str()
            .expect("ASCII")
            .starts_with("Bearer canary-access")
    );
    assert!(!seen.headers.contains_key("cookie"));
    // it never refreshes: it says what the agent is needed for
    agent.advance(300);
    let answer = there.fetch(Method::GET, "/api/orders", "").await;
    assert_eq!(answer.error_code(), "access_token_expired");
    assert_eq!(
        browser.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
    let mut there = at(&proxy, &browser);
    assert_eq!(
        there.fetch(Method::GET, "/api/orders", "").await.status,
        StatusCode::OK
    );
    assert_eq!(
        proxy
            .browser()
            .fetch(Method::GET, "/api/orders", "")
            .await
            .error_code(),
        "unauthorized"
    );
}

#[tokio::test]
async fn who_signed_out_at_the_agent_is_signed_out_there() {
    let agent = Rig::new().await;
    let proxy = agent.proxy_only();
    let mut browser = agent.signed_in().await;
    let late = browser.jar.clone();
    browser.fetch(Method::POST, "/auth/logout", "").await;
    // an answer that comes late writes the old cookies back
    browser.jar.extend(late);
    let answer = at(&proxy, &browser).fetch(Method::GET, "/api/orders", "").await;
    assert_eq!(answer.error_code(), "session_expired");
}

#[tokio::test]
async fn there_is_no_agent_there() {
    let agent = Rig::new().await;
    let proxy = agent.proxy_only();
    let browser = agent.signed_in().await;
    let mut there = at(&proxy, &browser);
    for (method, path) in [
        (Method::POST, "/auth/login/start"),
        (Method::POST, "/auth/login/end"),
        (Method::GET, "/auth/session"),
        (Method::POST, "/auth/refresh"),
        (Method::POST, "/auth/logout"),
    ] {
        let answer = there.fetch(method, path, "").await;
        assert_eq!(answer.error_code(), "not_found", "{path}");
    }
    for path in [
        "/auth/login",
        "/auth/callback?code=a&state=b",
        "/auth/logout/continue",
    ] {
        assert_eq!(
            there.navigate(path, Site::Same).await.error_code(),
            "not_found",
            "{path}"
        );
    }
    assert!(proxy.handler.health().is_empty(), "no provider is asked");
}

/// A thief who has the proxy's key and whatever a proxy sees: the access cookies that pass by.
struct Thief {
    keys: ProxyRing,
}

/// The sub-keys as the key file has them, for sealing what a proxy would never seal.
fn stolen() -> (Thief, String) {
    let text = MasterKey::parse(OLD_KEY)
        .expect("a good key")
        .proxy_key()
        .to_text();
    let keys = ProxyRing::new(vec![ProxyKey::parse(&text).expect("a good key")]).expect("one key");
    (Thief { keys }, text.to_string())
}

impl Thief {
    fn open(&self, purpose: Purpose, cookie: &str, browser: &Browser) -> Option<Vec<u8>> {
        let stored = browser.jar.iter().find(|stored| stored.name == cookie)?;
        let sealed = URL_SAFE_NO_PAD.decode(&stored.value).ok()?;
        let shop = coatroom_core::config::AppId::parse("shop").expect("a good id");
        let to = Associated {
            application: &shop,
            name: cookie,
            chunk_header: b"",
        };
        let opened = self.keys.open(purpose, &to, &sealed)?;
        Some(opened.plaintext().to_vec())
    }
}

#[tokio::test]
async fn a_stolen_key_opens_the_access_cookie_and_no_other() {
    let agent = Rig::new().await;
    let browser = agent.signed_in().await;
    let (thief, _) = stolen();
    assert!(
        thief
            .open(Purpose::Access, "__Host-Http-shop-access", &browser)
            .is_some(),
        "that is what the key is for"
    );
    for purpose in [
        Purpose::Access,
        Purpose::Session,
        Purpose::Ended,
        Purpose::Memory,
        Purpose::Login,
        Purpose::Logout,
    ] {
        assert!(thief.open(purpose, "__Secure-shop-session", &browser).is_none());
    }
}

/// An access cookie that only whoever has the access sub-key can make: here the agent's own
/// ring seals it, since no ring of a proxy can.
fn minted(id: &[u8; 16], now: u64) -> String {
    let keys = KeyRing::new(vec![MasterKey::parse(OLD_KEY).expect("a good key")]).expect("one key");
    let shop = coatroom_core::config::AppId::parse("shop").expect("a good id");
    let to = Associated {
        application: &shop,
        name: "__Host-Http-shop-access",
        chunk_header: b"",
    };
    // the anchor's record: id, end, honoured until, packed token (kind 0: as it is)
    let mut record = vec![0x84, 0x50];
    record.extend_from_slice(id);
    for time in [now + 40_000, now + 300] {
        record.push(0x1a);
        record.extend_from_slice(&u32::try_from(time).expect("this century").to_be_bytes());
    }
    let token = b"\x00token-of-the-thief";
    record.push(0x40 | u8::try_from(token.len()).expect("short"));
    record.extend_from_slice(token);
    URL_SAFE_NO_PAD.encode(keys.seal(Purpose::Access, &to, &record, &mut coatroom::clock::SystemRng))
}

#[tokio::test]
async fn a_minted_access_cookie_reaches_apis_and_nothing_of_the_agent() {
    let agent = Rig::new().await;
    let mut victim = agent.signed_in().await;
    let (thief, _) = stolen();
    // the thief saw the victim's cookie pass by, and knows the session's id from it
    let access = thief
        .open(Purpose::Access, "__Host-Http-shop-access", &victim)
        .expect("opens");
    let id: [u8; 16] = access[2..18].try_into().expect("sixteen bytes");
    let mut forged = agent.browser();
    let mut cookie = victim
        .jar
        .iter()
        .find(|stored| stored.name == "__Host-Http-shop-access")
        .expect("signed in")
        .clone();
    cookie.value = minted(&id, agent.now());
    forged.jar.push(cookie.clone());
    // what such a key can do: make calls with a token that the thief has anyway
    assert_eq!(
        forged.fetch(Method::GET, "/api/orders", "").await.status,
        StatusCode::OK
    );
    let seen = agent.api.seen.lock().expect("no panic").pop().expect("a call");
    assert_eq!(seen.headers["authorization"], "Bearer token-of-the-thief");
    // what it cannot: learn who that is, refresh, or end the victim's session
    assert!(!forged.is_signed_in().await);
    let answer = forged.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "unauthorized");
    assert_eq!(agent.provider.count("refresh_token", 200), 0);
    let answer = forged.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "{}"));
    assert!(agent.provider.script().revoked.is_empty());
    assert!(victim.is_signed_in().await);
    assert_eq!(
        victim.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
    // nor by signing in with the forged cookie in the jar
    forged.jar = vec![cookie];
    forged.sign_in(&agent.provider, "mallory").await;
    agent.advance(61);
    assert_eq!(
        victim.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
    assert!(victim.is_signed_in().await);
}
