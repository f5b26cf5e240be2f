//! Sessions that end without their browser: the provider says so, an operator, or the user elsewhere.
//!
//! OpenID Connect Back-Channel Logout 1.0 and Front-Channel Logout 1.0. A logout token is believed for
//! its signature, a front-channel call for knowing the `sid`; no cookie is read, and no token is
//! revoked. The outcome is a [`ProviderLogout`]: the names under which a store finds the sessions. It
//! ends what is named and nothing else, however often it is carried out. This file reaches no store.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use serde_json::json;

use crate::config::Provider;
use crate::error::Error;
use crate::flow::names::{OwnerKey, fields};
use crate::flow::{AgentResponse, Input};
use crate::handler::Handler;
use crate::head::{Single, single};
use crate::oauth::ProviderSnapshot;
use crate::oauth::id_token::IdTokenFailure;
use crate::oauth::jwe;
use crate::oauth::logout_token::{self, Expected, LogoutToken};
use crate::seal::digest32;
use crate::secret::Secret;
use crate::step::{Context, Step};
use crate::store::{EntryKey, IndexKey, Mark};
use crate::time::UnixTime;

/// Sessions to be ended, by whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderLogout {
    /// What they have in common.
    pub owner: Owner,
    names: Vec<OwnerKey>,
    at: UnixTime,
    mark_life: Duration,
    is_stateful: bool,
    /// What is to be remembered once they have ended, so that it is not done again; none where
    /// nothing was signed.
    pub once: Option<Once>,
}

/// A logout token that was verified. Personal data: no `Debug`.
pub struct LogoutNotice {
    token: LogoutToken,
}

/// What the sessions of a [`ProviderLogout`] have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A session at the provider.
    Sid,
    /// The user.
    User,
}

/// A logout token that counts once (its `jti`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// Names it: a digest.
    pub key: EntryKey,
    /// For how long nobody may forget it.
    pub life: Duration,
}

impl ProviderLogout {
    /// Whether it ends a session that began then.
    pub fn ends(&self, created_at: UnixTime) -> bool {
        created_at <= self.at
    }

    /// What has to be marked as ended, under every key that there is.
    pub fn marks(&self) -> Vec<Mark> {
        let marks = self.names.iter().map(|name| Mark {
            key: name.mark(),
            at: self.at,
            life: self.mark_life,
        });
        marks.collect()
    }

    /// Whether the marks themselves are word for other replicas: where sessions are in cookies, whose
    /// ids nobody knows.
    pub fn announces_marks(&self) -> bool {
        !self.is_stateful
    }

    /// The indexes that lead to the records, under every key that there is.
    pub fn indexes(&self) -> Vec<IndexKey> {
        self.names.iter().map(|name| name.index()).collect()
    }
}

impl Handler {
    /// `POST backchannel-logout`: verifies the logout token. Of the headers only `Content-Type` is
    /// looked at.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a body that is no form with one `logout_token`;
    /// [`Error::LogoutTokenInvalid`], also from the step.
    pub fn backchannel_logout(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        context: &Context<'_>,
    ) -> Result<Step<LogoutNotice>, Error> {
        if !is_form(headers) {
            return Err(Error::InvalidRequest(
                "the body is not application/x-www-form-urlencoded",
            ));
        }
        let input = Input::form(body)?;
        let raw = input
            .single("logout_token")?
            .ok_or(Error::InvalidRequest("`logout_token` is missing"))?;
        let verifying = Verifying {
            provider: self.provider.clone(),
            raw: jwe::perhaps(Secret::new(raw), &self.provider.id_token_decryption_keys).map_err(refused)?,
        };
        match verifying.verify(context) {
            Ok(token) => Ok(Step::Done(LogoutNotice { token })),
            // one chance for fresh keys
            Err(IdTokenFailure::UnknownKey) => Ok(Step::fetch_keys(move |context| {
                let token = verifying.verify(context).map_err(refused)?;
                Ok(Step::Done(LogoutNotice { token }))
            })),
            Err(failure @ IdTokenFailure::Invalid(_)) => Err(refused(failure)),
        }
    }

    /// Which sessions a logout token ends.
    pub fn provider_logout(&self, notice: &LogoutNotice, now: UnixTime) -> ProviderLogout {
        let token = &notice.token;
        let named = match (token.sid(), token.sub()) {
            // A session at the provider that has ended never comes back: whatever belongs to it ends.
            (Some(sid), _) => self.sid_logout_at(&[token.issuer()], sid, NEVER),
            // A user does come back: what began after the token was issued is none of its business,
            // however late, or however often, it arrives.
            (None, sub) => ProviderLogout {
                at: now.min(token.issued_at().plus(self.provider.leeway)),
                ..self.user_logout_at(token.issuer(), sub.unwrap_or_default(), now)
            },
        };
        let texts = [self.app.id.as_str(), token.issuer(), token.jti()];
        ProviderLogout {
            once: Some(Once {
                key: EntryKey(digest32("logout token", &fields(&texts))),
                life: Duration::from_secs(token.accepted_until().seconds_from(now)),
            }),
            ..named
        }
    }

    /// The answer once the sessions have ended (§2.8).
    pub fn backchannel_logged_out(&self) -> AgentResponse {
        AgentResponse::json(json!({}), Vec::new())
    }

    /// `GET frontchannel-logout` (§3): `iss` must be the issuer, exactly, and `sid` be there. Whoever
    /// knows a `sid` may ask: it is the one thing that says so. Where the provider leaves `iss` out, the
    /// session may be at any issuer that is known by name.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn frontchannel_logout(&self, query: &str) -> Result<ProviderLogout, Error> {
        let input = Input::form(query.as_bytes())?;
        let known = self.provider.issuers();
        let issuers: Vec<&str> = match input.single("iss")? {
            Some(issuer) if self.provider.is_issuer(issuer) => vec![issuer],
            Some(_) => return Err(Error::InvalidRequest("`iss` is not the configured issuer")),
            None if self.provider.habits.frontchannel_logout_without_iss && !known.is_empty() => {
                known.iter().map(String::as_str).collect()
            }
            None => return Err(Error::InvalidRequest("`iss` is missing")),
        };
        match input.single("sid")? {
            Some(sid) if !sid.is_empty() => Ok(self.sid_logout_at(&issuers, sid, NEVER)),
            Some(_) | None => Err(Error::InvalidRequest("`sid` is missing")),
        }
    }

    /// The answer once it has ended, or if there was none: an empty page, which the provider's own
    /// pages may frame and which may do nothing. `provider` is what is known of it; none while it
    /// cannot be reached.
    pub fn frontchannel_logged_out(&self, provider: Option<&ProviderSnapshot>) -> AgentResponse {
        let metadata = provider.map(|known| &known.metadata);
        let mut origins: Vec<String> = url::Url::parse(&self.provider.issuer)
            .into_iter()
            .chain(metadata.and_then(|known| known.end_session_endpoint.clone()))
            .chain(metadata.map(|known| known.authorization_endpoint.clone()))
            .map(|url| url.origin().ascii_serialization())
            .collect();
        origins.sort_unstable();
        origins.dedup();
        let policy = format!(
            "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors {}",
            origins.join(" ")
        );
        AgentResponse {
            // an origin of a URL is ASCII without blanks; if ever not, nobody frames it
            empty_page: Some(
                HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
            ),
            ..AgentResponse::json(json!(null), Vec::new())
        }
    }

    /// Every session of a user, as of now: for operators. Where the issuer stands for many tenants, `sub`
    /// may be written with one of them in front, as in `8eaef023-2b34-4da1-9baa-8bc8c9d6a490/AbC`, and
    /// else means that of every tenant which is listed.
    pub fn user_logout(&self, sub: &str, now: UnixTime) -> ProviderLogout {
        let (issuers, sub) = self.named(sub);
        let names = issuers
            .iter()
            .flat_map(|issuer| self.user_keys(issuer, sub))
            .collect();
        self.user_names_logout(names, now)
    }

    /// Every session of a user at one issuer, as of now.
    pub(crate) fn user_logout_at(&self, issuer: &str, sub: &str, now: UnixTime) -> ProviderLogout {
        self.user_names_logout(self.user_keys(issuer, sub), now)
    }

    fn user_names_logout(&self, names: Vec<OwnerKey>, now: UnixTime) -> ProviderLogout {
        ProviderLogout {
            owner: Owner::User,
            names,
            at: now,
            mark_life: self.mark_life(),
            is_stateful: self.app.session.storage.is_stateful(),
            once: None,
        }
    }

    /// Every session that belongs to a session at the provider, as far as it began by then. A tenant may
    /// stand in front, as with [`user_logout`](Self::user_logout).
    pub fn sid_logout(&self, sid: &str, at: UnixTime) -> ProviderLogout {
        let (issuers, sid) = self.named(sid);
        let issuers: Vec<&str> = issuers.iter().map(String::as_str).collect();
        self.sid_logout_at(&issuers, sid, at)
    }

    /// Where something is that an operator names, and how it is called there.
    fn named<'n>(&self, name: &'n str) -> (Vec<String>, &'n str) {
        let tenants = self.provider.habits.tenants.as_ref();
        let at_one = tenants
            .zip(name.split_once('/'))
            .and_then(|(tenants, (tenant, rest))| {
                let issuer = tenants.issuer_of(tenant);
                self.provider.is_issuer(&issuer).then_some((vec![issuer], rest))
            });
        at_one.unwrap_or_else(|| (self.provider.issuers(), name))
    }

    fn sid_logout_at(&self, issuers: &[&str], sid: &str, at: UnixTime) -> ProviderLogout {
        let names = issuers
            .iter()
            .flat_map(|issuer| self.sid_keys(issuer, sid))
            .collect();
        ProviderLogout {
            owner: Owner::Sid,
            names,
            at,
            mark_life: self.mark_life(),
            is_stateful: self.app.session.storage.is_stateful(),
            once: None,
        }
    }
}

/// A session that has ended at the provider never comes back, whatever a replica's clock says.
const NEVER: UnixTime = UnixTime(u64::MAX >> 1);

/// A logout token on its way through verification.
struct Verifying {
    provider: Arc<Provider>,
    raw: Secret,
}

impl Verifying {
    fn verify(&self, context: &Context<'_>) -> Result<LogoutToken, IdTokenFailure> {
        let expected = Expected {
            client_id: &self.provider.client_id,
            leeway: self.provider.leeway,
            without_exp: self.provider.logout_token_without_exp,
        };
        logout_token::verify(
            &self.raw,
            &expected,
            &context.provider.keys,
            &context.provider.metadata,
            context.now,
        )
    }
}

/// Whoever sent it, it is the caller's fault: nobody else is asked to answer for it.
fn refused(failure: IdTokenFailure) -> Error {
    Error::LogoutTokenInvalid(match failure {
        IdTokenFailure::UnknownKey => "no key of the provider's jwk set fits its `kid`",
        IdTokenFailure::Invalid(why) => why,
    })
}

pub(super) fn is_form(headers: &HeaderMap) -> bool {
    match single(headers, &header::CONTENT_TYPE) {
        Single::Value(value) => value.split(';').next().is_some_and(|essence| {
            essence
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        }),
        Single::Absent | Single::Ambiguous => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::ApplicationConfig;
    use crate::config::testing::{checked, config};
    use crate::oauth::testing::{CLIENT_ID, ISSUER, SigningKey, snapshot};
    use crate::rng::testing::Counter;
    use crate::seal::{KeyRing, MasterKey};
    use crate::step::Reply;

    const NOW: UnixTime = UnixTime(1_800_000_000);
    const FORM: &str = "application/x-www-form-urlencoded";

    fn handler() -> Handler {
        let keys = ["A", "E"].map(|digit| {
            MasterKey::parse(&format!("coatroom-key-1:{}", digit.repeat(43))).expect("a well-formed key")
        });
        let app = Arc::new(checked(ApplicationConfig { ..config() }));
        Handler::new(app, Arc::new(KeyRing::new(keys.into()).expect("keys"))).expect("a handler")
    }

    fn claims(whose: &Value, issued_at: u64) -> Value {
        let mut claims = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "iat": issued_at, "exp": NOW.0 + 120, "jti": "j-1",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        for (name, value) in whose.as_object().expect("an object") {
            claims[name.as_str()] = value.clone();
        }
        claims
    }

    fn typed(content_type: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type.parse().expect("a value"));
        }
        headers
    }

    fn post(
        provider: &ProviderSnapshot,
        headers: &HeaderMap,
        body: &str,
    ) -> Result<Step<LogoutNotice>, Error> {
        handler().backchannel_logout(
            headers,
            body.as_bytes(),
            &Context {
                provider,
                now: NOW,
                rng: &mut Counter(1),
            },
        )
    }

    fn told(whose: &Value, issued_at: u64) -> ProviderLogout {
        let key = SigningKey::generate("ES256", Some("k"));
        let token = key.sign(&claims(whose, issued_at));
        let body = format!("logout_token={}", token.expose());
        match post(&snapshot(&key), &typed(Some(FORM)), &body) {
            Ok(Step::Done(notice)) => handler().provider_logout(&notice, NOW),
            Ok(_) => panic!("a key is missing"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_logout_token_comes_alone_in_a_form() {
        let key = SigningKey::generate("ES256", Some("k"));
        let provider = snapshot(&key);
        let token = key.sign(&claims(&json!({"sub": "ann"}), NOW.0));
        let token = token.expose();
        let once = format!("logout_token={token}");
        let outcome = |headers: &HeaderMap, body: &str| match post(&provider, headers, body) {
            Ok(Step::Done(_)) => "taken".to_owned(),
            Ok(_) => "a key is missing".to_owned(),
            Err(error) => error.to_string(),
        };
        let rows: &[(&str, Option<&str>, String, &str)] = &[
            ("alone", Some(FORM), once.clone(), "taken"),
            (
                "with a charset",
                Some("Application/x-www-form-urlencoded; charset=utf-8"),
                once.clone(),
                "taken",
            ),
            (
                "beside what nobody knows",
                Some(FORM),
                format!("a=1&{once}&a=2&state=x"),
                "taken",
            ),
            (
                "twice",
                Some(FORM),
                format!("{once}&{once}"),
                "invalid request: a parameter occurs more than once",
            ),
            (
                "twice, once encoded",
                Some(FORM),
                format!("{once}&logout%5Ftoken=x"),
                "invalid request: a parameter occurs more than once",
            ),
            (
                "not at all",
                Some(FORM),
                "state=x".to_owned(),
                "invalid request: `logout_token` is missing",
            ),
            (
                "nothing",
                Some(FORM),
                String::new(),
                "invalid request: `logout_token` is missing",
            ),
            (
                "empty",
                Some(FORM),
                "logout_token=".to_owned(),
                "the logout token is not accepted: it is not a signed token of three parts",
            ),
            (
                "as JSON",
                Some("application/json"),
                format!("{{\"logout_token\": \"{token}\"}}"),
                "invalid request: the body is not application/x-www-form-urlencoded",
            ),
            (
                "as a JWT",
                Some("application/logout+jwt"),
                token.to_owned(),
                "invalid request: the body is not application/x-www-form-urlencoded",
            ),
            (
                "as nothing",
                None,
                once,
                "invalid request: the body is not application/x-www-form-urlencoded",
            ),
        ];
        for (name, content_type, body, expected) in rows {
            assert_eq!(outcome(&typed(*content_type), body), *expected, "{name}");
        }
        let mut twice = typed(Some(FORM));
        twice.append(header::CONTENT_TYPE, FORM.parse().expect("a value"));
        assert!(outcome(&twice, &format!("logout_token={token}")).contains("the body is not"));
    }

    #[test]
    fn a_logout_token_that_is_not_accepted_is_the_callers_fault() {
        let key = SigningKey::generate("ES256", Some("k"));
        let id_token = key.sign(&json!({"iss": ISSUER, "aud": CLIENT_ID, "sub": "ann",
            "iat": NOW.0, "exp": NOW.0 + 60, "nonce": "n"}));
        let body = format!("logout_token={}", id_token.expose());
        let error = post(&snapshot(&key), &typed(Some(FORM)), &body)
            .err()
            .expect("refused");
        let answer = error.answer();
        assert_eq!((answer.status.as_u16(), answer.code), (400, "invalid_request"));
        assert!(answer.detail.contains("`events` is missing"), "{}", answer.detail);
    }

    #[test]
    fn an_unknown_key_is_fetched_once_and_then_refused() {
        let (old, new) = (
            SigningKey::generate("ES256", Some("old")),
            SigningKey::generate("ES256", Some("new")),
        );
        let token = new.sign(&claims(&json!({"sid": "s-1"}), NOW.0));
        let body = format!("logout_token={}", token.expose());
        for (fetched, good) in [(&new, true), (&old, false)] {
            let Ok(Step::FetchKeys(rest)) = post(&snapshot(&old), &typed(Some(FORM)), &body) else {
                panic!("it asks for keys")
            };
            let provider = snapshot(fetched);
            let mut context = Context {
                provider: &provider,
                now: NOW,
                rng: &mut Counter(1),
            };
            match rest.resume(Reply::Keys, &mut context) {
                Ok(Step::Done(_)) => assert!(good),
                Ok(_) => panic!("asked twice"),
                Err(error) => {
                    assert!(!good);
                    let expected =
                        Error::LogoutTokenInvalid("no key of the provider's jwk set fits its `kid`");
                    assert_eq!(error, expected);
                }
            }
        }
    }

    #[test]
    fn a_sid_is_narrower_than_a_user_and_goes_first() {
        let handler = handler();
        let sid = told(&json!({"sid": "s-1", "sub": "ann"}), NOW.0);
        assert_eq!(sid.owner, Owner::Sid);
        assert_eq!(sid.marks(), handler.sid_logout("s-1", NEVER).marks());
        assert_eq!(sid.indexes(), handler.sid_logout("s-1", NEVER).indexes());
        let user = told(&json!({"sub": "ann"}), NOW.0);
        assert_eq!(user.owner, Owner::User);
        assert_eq!(user.indexes(), handler.user_logout("ann", NOW).indexes());
        assert_ne!(user.indexes(), handler.user_logout("bob", NOW).indexes());
        // both keys of the ring, and each mark for as long as a session may live
        for logout in [&sid, &user] {
            assert_eq!((logout.marks().len(), logout.indexes().len()), (2, 2));
            for mark in logout.marks() {
                assert!(mark.life >= handler.app.session.absolute);
            }
        }
    }

    #[test]
    fn a_logout_token_that_comes_late_or_again_ends_no_newer_session_of_the_user() {
        let late = told(&json!({"sub": "ann"}), NOW.0 - 60);
        // within the leeway nobody can tell, and it ends
        assert!(late.ends(UnixTime(NOW.0 - 50)));
        assert!(!late.ends(UnixTime(NOW.0 - 49)));
        assert!(late.marks().iter().all(|mark| mark.at == UnixTime(NOW.0 - 50)));
        // a clock of the provider's that is ahead ends nothing that has not begun
        let ahead = told(&json!({"sub": "ann"}), NOW.0 + 5);
        assert!(ahead.ends(NOW) && !ahead.ends(UnixTime(NOW.0 + 1)));
        // a session at the provider never comes back
        assert!(told(&json!({"sid": "s-1"}), NOW.0 - 60).ends(NOW));
    }

    #[test]
    fn a_logout_token_is_remembered_by_its_jti_whatever_the_keys_are() {
        let once = told(&json!({"sub": "ann"}), NOW.0).once.expect("it counts once");
        assert_eq!(once.life, Duration::from_secs(130));
        assert_eq!(
            once.key.to_hex(),
            "c4fa103acc27c15242a68bb9adc9d7d31bb782b39c87c9bfb145178e98aebc29"
        );
        assert_ne!(
            told(&json!({"sub": "ann", "jti": "j-2"}), NOW.0)
                .once
                .map(|once| once.key),
            Some(once.key)
        );
        assert_eq!(handler().user_logout("ann", NOW).once, None);
    }

    #[test]
    fn a_front_channel_call_names_the_issuer_exactly_and_one_session() {
        let handler = handler();
        let good = format!("iss={ISSUER}&sid=s-1");
        assert_eq!(
            handler.frontchannel_logout(&good),
            Ok(handler.sid_logout("s-1", NEVER))
        );
        assert!(
            handler
                .frontchannel_logout(&format!("{good}&ui_locales=de"))
                .is_ok()
        );
        for (name, query) in [
            ("nothing", String::new()),
            ("no issuer", "sid=s-1".to_owned()),
            ("no session", format!("iss={ISSUER}")),
            ("an empty session", format!("iss={ISSUER}&sid=")),
            ("another issuer", "iss=https://evil.example&sid=s-1".to_owned()),
            ("a slash more", format!("iss={ISSUER}/&sid=s-1")),
            ("another case", format!("iss={}&sid=s-1", ISSUER.to_uppercase())),
            ("two issuers", format!("{good}&iss={ISSUER}")),
            ("two sessions", format!("{good}&sid=s-2")),
            ("a user", format!("iss={ISSUER}&sub=ann")),
            ("not text", format!("iss={ISSUER}&s=%FF")),
        ] {
            let error = handler.frontchannel_logout(&query).expect_err(name);
            assert_eq!(error.answer().code, "invalid_request", "{name}");
        }
    }

    #[test]
    fn the_page_of_a_front_channel_logout_does_nothing_and_only_the_provider_frames_it() {
        let key = SigningKey::generate("ES256", None);
        let policy = |answer: AgentResponse| {
            let policy = answer.empty_page.expect("a page");
            policy.to_str().expect("ASCII").to_owned()
        };
        let nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors";
        assert_eq!(
            policy(handler().frontchannel_logged_out(Some(&snapshot(&key)))),
            format!("{nothing} {ISSUER}")
        );
        assert_eq!(
            policy(handler().frontchannel_logged_out(None)),
            format!("{nothing} {ISSUER}")
        );
        let elsewhere = crate::oauth::testing::metadata_with(&[(
            "end_session_endpoint",
            json!("https://id.example.com:8443/bye?x=1"),
        )]);
        let known = ProviderSnapshot {
            metadata: Arc::new(elsewhere),
            ..snapshot(&key)
        };
        assert_eq!(
            policy(handler().frontchannel_logged_out(Some(&known))),
            format!("{nothing} https://id.example.com:8443 {ISSUER}")
        );
    }
}
