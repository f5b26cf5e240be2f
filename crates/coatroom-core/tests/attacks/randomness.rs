//! What must not be guessed is drawn, all of it, from the generator that the shell passes; where that
//! fails, nothing is made.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use coatroom_core::config::{ApplicationConfig, ProviderConfig};
use coatroom_core::flow::{AgentResponse, Input};
use coatroom_core::handler::Handler;
use coatroom_core::oauth::{JwkSet, Metadata, ProviderSnapshot};
use coatroom_core::rng::Rng;
use coatroom_core::seal::{KeyRing, MasterKey};
use coatroom_core::secret::Secret;
use coatroom_core::step::{Context, Step};
use coatroom_core::time::UnixTime;
use http::HeaderMap;

use crate::chance::Chance;

/// Counts what is drawn.
struct Counting {
    source: Chance,
    drawn: usize,
}

impl Rng for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        self.drawn += out.len();
        for byte in out {
            *byte = self.source.next().to_le_bytes()[3];
        }
    }
}

/// As the operating system's generator is when it fails: it never gives a weaker number.
struct Failing {
    after: usize,
}

impl Rng for Failing {
    fn fill(&mut self, out: &mut [u8]) {
        self.after = self.after.checked_sub(out.len()).expect("there is no randomness");
        out.fill(7);
    }
}

fn handler() -> Handler {
    let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("s"));
    let application = match ApplicationConfig::new("shop", "https://shop.example.com", provider).check() {
        Ok(application) => application,
        Err(problems) => panic!("{problems:?}"),
    };
    let key = MasterKey::parse("coatroom-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8").expect("a key");
    let keys = KeyRing::new(vec![key]).expect("one is enough");
    Handler::new(Arc::new(application), Arc::new(keys)).expect("a good path")
}

fn start(handler: &Handler, rng: &mut dyn Rng) -> AgentResponse {
    let metadata = br#"{"issuer": "https://login.example.com", "jwks_uri": "https://login.example.com/jwks",
        "authorization_endpoint": "https://login.example.com/authorize",
        "token_endpoint": "https://login.example.com/token"}"#;
    let provider = ProviderSnapshot::new(
        Metadata::parse(metadata, "https://login.example.com").expect("good metadata"),
        JwkSet::parse(br#"{"keys": []}"#).expect("a set"),
    );
    let mut context = Context {
        provider: &provider,
        now: UnixTime(1_800_000_000),
        rng,
    };
    let input = Input::form(b"").expect("empty");
    match handler.login_start(&HeaderMap::new(), None, input, &mut context) {
        Ok(Step::Done(answer)) => answer,
        Ok(_) => panic!("nothing is pushed here"),
        Err(refusal) => panic!("{}", refusal.error),
    }
}

fn parameter(answer: &AgentResponse, name: &str) -> String {
    let json = answer.json.as_ref().expect("an answer");
    let url = url::Url::parse(json["authorization_url"].as_str().expect("text")).expect("a URL");
    let (_, value) = url
        .query_pairs()
        .find(|(known, _)| known == name)
        .expect("it is there");
    value.into_owned()
}

#[test]
fn a_sign_in_draws_every_secret_and_never_the_same_twice() {
    let handler = handler();
    let mut rng = Counting {
        source: Chance::new(1),
        drawn: 0,
    };
    let answers = [start(&handler, &mut rng), start(&handler, &mut rng)];
    // state and nonce of 16 bytes, a verifier of 32, a nonce of the seal of 12
    assert!(rng.drawn >= 2 * (16 + 16 + 32 + 12), "{} bytes", rng.drawn);
    for name in ["state", "nonce", "code_challenge"] {
        let [one, other] = answers.each_ref().map(|answer| parameter(answer, name));
        // and no longer than every provider takes (FAPI 2.0 Security Profile §5.3.3.2)
        assert!((22..=64).contains(&one.len()) && one != other, "{name}");
    }
    assert_ne!(answers[0].set_cookies, answers[1].set_cookies);
}

#[test]
fn without_randomness_no_sign_in_is_started() {
    let handler = handler();
    for after in [0, 16, 32, 64, 75] {
        let outcome = catch_unwind(AssertUnwindSafe(|| start(&handler, &mut Failing { after })));
        assert!(outcome.is_err(), "with {after} bytes of randomness");
    }
}
