//! Several providers of one application: whom a request is for, and that no token reaches another.
//!
//! Each provider has a handler of its own. Every one of them opens the application's cookies, and treats
//! as its own only what was sealed under its provider's name (RFC 9700 §4.4): sessions, sign-ins and
//! sign-outs of the others are seen, can be ended, and are never used. What the front channel says
//! chooses a handler and proves nothing: the handler's own checks follow.

use std::sync::Arc;

use http::HeaderMap;

use super::{Input, Seen};
use crate::config::{Provider, ProviderName};
use crate::cookie::{Jar, Kind, LoginTag};
use crate::error::Error;
use crate::flow::status::{claims_of, issuer_of};
use crate::flow::visible::State;
use crate::guard::Navigation;
use crate::handler::Handler;
use crate::secret::Secret;
use crate::session::{LoginTransaction, Session, Tokens};
use crate::step::Context;
use crate::time::UnixTime;

impl Handler {
    /// The provider that a sign-in is asked for by name; none where nobody says, or the application gives
    /// no names. A page of another site chooses none: it would choose as whom the user is here.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a name that none of the application's providers has.
    pub fn requested_provider(
        &self,
        input: &Input,
        navigation: Option<Navigation>,
    ) -> Result<Option<ProviderName>, Error> {
        let foreign = navigation.is_some_and(|navigation| navigation.cross_site_or_unlabelled);
        if !self.app.names_providers() || foreign {
            return Ok(None);
        }
        let Some(name) = input.single(PARAMETER)?.filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let provider = self.app.provider_named(name).ok_or(Error::InvalidRequest(
            "`provider` is none of this application's providers",
        ))?;
        Ok(provider.name.clone())
    }

    /// Whose session the cookies show, over or not.
    pub fn provider_of_session<'a>(&self, seen: impl Into<Seen<'a>>, now: UnixTime) -> Option<ProviderName> {
        match self.visible(&self.jar(seen), now).state {
            State::Live(session)
            | State::Elsewhere(session)
            | State::Ended {
                session: Some(session),
                ..
            } => session.tokens.issued_by,
            State::Absent | State::Conflict | State::Ended { session: None, .. } => None,
        }
    }

    /// Where the sign-in was begun that a page of the SPA hands over. A signed answer is not verified
    /// for that: its `state` only leads to the sign-in.
    pub fn provider_of_sign_in(&self, headers: &HeaderMap, input: &Input) -> Option<ProviderName> {
        let state = match input.single("response").ok()? {
            Some(response) => claims_of(&Secret::new(response))?
                .get("state")?
                .as_str()?
                .to_owned(),
            None => input.single("state").ok()??.to_owned(),
        };
        let kind = Kind::Login(LoginTag::of(&state));
        let state = Secret::new(state);
        self.transactions(kind, &self.jar(headers))
            .find(|transaction| transaction.state == state)?
            .provider
    }

    /// Where a sign-out goes on that was begun here.
    pub fn provider_of_logout(&self, headers: &HeaderMap, now: UnixTime) -> Option<ProviderName> {
        self.pending_logouts(headers, now)
            .find_map(|transaction| transaction.provider)
    }

    /// A sign-in's further parameters: whom it is for has been decided.
    pub(super) fn without_provider(&self, mut pairs: Vec<(String, String)>) -> Vec<(String, String)> {
        if self.app.names_providers() {
            pairs.retain(|(name, _)| name != PARAMETER);
        }
        pairs
    }

    /// Whether these tokens are this provider's.
    pub(crate) fn owns(&self, tokens: &Tokens) -> bool {
        tokens.issued_by == self.provider.name
    }

    /// No token leaves for another provider than the one that issued it.
    pub(super) fn check_own(&self, issued_by: Option<&ProviderName>) -> Result<(), Error> {
        match issued_by == self.provider.name.as_ref() {
            true => Ok(()),
            false => Err(Error::Bug(
                "a token is for the provider that issued it, and no other",
            )),
        }
    }

    /// Whether this provider issued a session's tokens.
    pub(super) fn is_own(&self, session: &Session) -> bool {
        let issuer = issuer_of(&session.tokens.id_token);
        let owner = issuer.and_then(|issuer| self.app.owner(session.tokens.issued_by.as_ref(), &issuer));
        owner.is_some_and(|owner| owner.name == self.provider.name)
    }

    /// A session that was opened, under the name of the provider whose it is; none where that is none of
    /// the application's (any more): no token of it may reach another.
    pub(super) fn owned(&self, mut session: Session) -> Option<Session> {
        let issuer = issuer_of(&session.tokens.id_token)?;
        let owner = self.app.owner(session.tokens.issued_by.as_ref(), &issuer)?;
        session.tokens.issued_by.clone_from(&owner.name);
        Some(session)
    }

    /// The answer is for this provider's sign-in: each has a redirect URI of its own or says who
    /// answered, and one that arrives elsewhere was mixed up (RFC 9700 §4.4).
    pub(super) fn check_begun_here(&self, transaction: &LoginTransaction) -> Result<(), Error> {
        match (&transaction.provider, &self.provider.name) {
            (began_at, own) if began_at == own => Ok(()),
            (Some(_), Some(_)) => Err(Error::IssuerMismatch),
            (None, Some(_)) | (_, None) => Err(Error::LoginStateInvalid(
                "the sign-in was begun before the configuration named its providers so",
            )),
        }
    }

    /// Whether a return whose sign-in nobody knows may begin one here: anybody's link may be that. It is
    /// no user's wish to sign in where that is asked for (FAPI 2.0 Security Profile §5.3.3.1), and it
    /// chooses none of several providers.
    pub(super) fn may_restart_unknown(&self) -> bool {
        let default = self.app.provider.as_ref();
        let is_default = default.is_some_and(|default| default.name == self.provider.name);
        let is_strict = |provider: &Arc<Provider>| provider.profile.is_fapi2();
        is_default && !self.app.providers.iter().any(is_strict)
    }

    /// Where all providers return to one page, none begins a sign-in whose answer will not say whose it
    /// is.
    pub(super) fn check_answers_say_whose(&self, context: &Context<'_>) -> Result<(), Error> {
        let authorization = &self.provider.authorization;
        let says_iss = context
            .provider
            .metadata
            .authorization_response_iss_parameter_supported;
        match authorization.require_iss && !authorization.response_mode.is_signed() && !says_iss {
            false => Ok(()),
            true => Err(Error::Provider(
                "its metadata do not say `authorization_response_iss_parameter_supported`, and `require_iss` \
                 wants that"
                    .to_owned(),
            )),
        }
    }

    /// Whether the cookies show a session of a provider whose name is gone.
    pub(super) fn is_orphaned(session: Option<&Session>) -> bool {
        session.is_some_and(|session| session.tokens.issued_by.is_some())
    }

    /// The pending sign-ins with this `state`: one, or none.
    pub(super) fn transactions<'j>(
        &'j self,
        kind: Kind,
        jar: &'j Jar<'_>,
    ) -> impl Iterator<Item = LoginTransaction> + 'j {
        self.cookies
            .open(kind, jar, &self.keys)
            .filter_map(|opened| LoginTransaction::decode(opened.plaintext()))
    }
}

/// The parameter of a sign-in that names a provider.
pub(crate) const PARAMETER: &str = "provider";

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::HeaderValue;

    use super::*;
    use crate::assurance::Authentication;
    use crate::config::testing::{checked, config};
    use crate::config::{ApplicationConfig, SessionStorage, StoreConfig};
    use crate::cookie::testing::Browser;
    use crate::flow::{CodeExchange, Lookup, Redemption, StoreView, StoreWrite};
    use crate::oauth::ProviderSnapshot;
    use crate::oauth::testing::{SigningKey, snapshot};
    use crate::rng::testing::Counter;
    use crate::seal::{KeyRing, MasterKey};
    use crate::session::{Kept, LogoutTransaction, SessionId};

    const NOW: UnixTime = UnixTime(1_800_000_000);

    /// Two providers of one application: only the name tells them apart where `same_issuer`.
    fn handlers(same_issuer: bool, is_stored: bool) -> [Handler; 2] {
        let corp = config().provider.expect("an agent");
        let mut google = corp.clone();
        "other".clone_into(&mut google.client_id);
        if !same_issuer {
            "https://accounts.example.org".clone_into(&mut google.issuer);
        }
        let mut written = ApplicationConfig {
            provider: None,
            providers: Some(vec![("corp".to_owned(), corp), ("google".to_owned(), google)]),
            ..config()
        };
        if is_stored {
            let store = StoreConfig::new(Secret::new("memory")).check().expect("a store");
            written.session.storage = SessionStorage::Store(Box::new(store));
        }
        let app = Arc::new(checked(written));
        let key = MasterKey::parse(&format!("coatroom-key-1:{}", "A".repeat(43))).expect("a key");
        let keys = Arc::new(KeyRing::new(vec![key]).expect("one key"));
        ["corp", "google"].map(|name| {
            let name = ProviderName::parse(name).expect("a name");
            Handler::for_provider(app.clone(), &name, keys.clone()).expect("it is there")
        })
    }

    fn session_of(handler: &Handler, is_stored: bool) -> Session {
        let claims = serde_json::json!({"iss": handler.provider.issuer, "sub": "alice"});
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        Session {
            id: SessionId([7; 16]),
            created_at: NOW,
            last_active: NOW,
            written_at: NOW,
            login_state: [3; 8],
            authentication: Authentication::default(),
            tokens: Tokens {
                access_token: Secret::new("access"),
                access_expires_at: UnixTime(NOW.0 + 300),
                refresh_token: Some(Secret::new("refresh")),
                refresh_expires_at: None,
                id_token: Secret::new(format!("e30.{payload}.c2ln")),
                scope: None,
                apis: Vec::new(),
                userinfo: None,
                issued_by: handler.provider.name.clone(),
            },
            proof_key: None,
            kept: is_stored.then(|| Kept::generate(&mut Counter(9))),
        }
    }

    /// A browser with the session's cookies, and what the store has of it.
    fn seen_of(handler: &Handler, session: &Session, provider: &ProviderSnapshot) -> (HeaderMap, StoreView) {
        let rng = &mut Counter(1);
        let write = handler.insertion(session, None, NOW, rng).expect("a record");
        let records = write.into_iter().filter_map(|write| match write {
            StoreWrite::Insert { key, record, .. } => Some((key, record.record)),
            _ => None,
        });
        let mut context = Context {
            provider,
            now: NOW,
            rng,
        };
        let lines = handler
            .session_cookies(session, &Jar::new([]), &mut context)
            .expect("cookies");
        let browser = Browser::with(&lines);
        let mut headers = HeaderMap::new();
        let value = HeaderValue::try_from(browser.header()).expect("ASCII");
        headers.insert(http::header::COOKIE, value);
        (headers, StoreView::new(records.collect(), Vec::new()))
    }

    fn bug<T>(outcome: &Result<T, Error>) -> bool {
        matches!(outcome, Err(Error::Bug(_)))
    }

    /// THE claim of the file: each flow, with a session of one and the handler of the other.
    #[test]
    fn no_flow_takes_a_session_of_one_provider_to_another() {
        let provider = snapshot(&SigningKey::generate("ES256", None));
        for (same_issuer, is_stored) in [(false, false), (true, false), (false, true), (true, true)] {
            let pair = handlers(same_issuer, is_stored);
            for (own, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                let case = format!("same issuer {same_issuer}, stored {is_stored}");
                let session = session_of(own, is_stored);
                let (headers, view) = seen_of(own, &session, &provider);
                let seen = || Seen::with(&headers, &view);
                let none = Input::form(b"").expect("no parameters");
                // both know whose it is
                let name = own.provider.name.clone();
                assert!(own.provider_of_session(seen(), NOW) == name, "{case}");
                assert!(other.provider_of_session(seen(), NOW) == name, "{case}");
                // it is used by its own and by no other
                for (handler, is_own) in [(own, true), (other, false)] {
                    let answer = handler.session(seen(), NOW).json.expect("JSON");
                    assert_eq!(answer["is_logged_in"], is_own, "{case}");
                    let refreshes = match is_stored {
                        true => handler.refresh_stored(seen(), &none, NOW).is_ok(),
                        false => handler.refresh(seen(), &none, NOW).is_ok(),
                    };
                    assert_eq!(refreshes, is_own, "{case}");
                    assert_eq!(handler.sessions_of(seen(), NOW).is_ok(), is_own, "{case}");
                    assert_eq!(handler.user(seen(), "", NOW).is_ok(), is_own, "{case}");
                    let mut context = Context {
                        provider: &provider,
                        now: NOW,
                        rng: &mut Counter(2),
                    };
                    let redemption = Redemption::of(&session).expect("a refresh token");
                    let sent = handler.refresh_tokens(&redemption, &mut context);
                    assert_eq!(sent.is_ok(), is_own, "{case}");
                    assert!(is_own || bug(&sent), "{case}");
                    for revocation in session.revocations() {
                        let sent = handler.revoke(&revocation, &mut context);
                        assert_eq!(sent.is_ok(), is_own, "{case}");
                        assert!(is_own || bug(&sent), "{case}");
                    }
                    // it can be signed out by either; the tokens keep the name of whose they are, and the
                    // ID token goes along as a hint to its own only
                    let out = handler
                        .logout(seen(), Some(&provider), NOW, &mut Counter(3))
                        .unwrap_or_else(|refusal| panic!("{case}: {}", refusal.error));
                    assert_eq!(out.effects.ended, [session.id], "{case}");
                    let mut revoked = out.effects.revoke.iter();
                    assert!(revoked.all(|revocation| revocation.issued_by() == name.as_ref()));
                    assert_eq!(out.effects.revoke.len(), 2, "{case}");
                    assert_eq!(out.effects.store.len(), usize::from(is_stored), "{case}");
                    if let Some(kept) = &session.kept {
                        let lookup = Lookup::record_of(session.id, &kept.handle, &handler.app, false);
                        let record = view.record(kept.handle.record_key(&handler.app.id));
                        let record = record.expect("it is stored");
                        assert_eq!(handler.stored(&lookup, record).is_some(), is_own, "{case}");
                        let found = handler.stored_anywhere(&lookup, record).expect("to be ended");
                        assert_eq!(handler.stored_redemption(&found, NOW).is_ok(), is_own, "{case}");
                    }
                }
            }
        }
    }

    fn transaction(handler: &Handler) -> LoginTransaction {
        LoginTransaction {
            state: Secret::new("0state"),
            nonce: Secret::new("nonce"),
            verifier: Secret::new("verifier"),
            return_to: "https://shop.example.com/".to_owned(),
            started_at: NOW,
            replaces: Vec::new(),
            ends: Vec::new(),
            expected_sub: None,
            tombstones: crate::tombstones::Tombstones::default(),
            issuer: None,
            records: Vec::new(),
            proof_key: None,
            acr_values: None,
            max_age: None,
            scope: None,
            asked_scope: None,
            provider: handler.provider.name.clone(),
        }
    }

    #[test]
    fn no_code_and_no_hint_of_one_provider_goes_to_another() {
        let provider = snapshot(&SigningKey::generate("ES256", None));
        let pair = handlers(true, false);
        for (own, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let begun = transaction(own);
            assert!(own.check_begun_here(&begun).is_ok());
            assert!(matches!(
                other.check_begun_here(&begun),
                Err(Error::IssuerMismatch)
            ));
            let kind = Kind::Login(LoginTag::of("0state"));
            let exchange = CodeExchange::new(
                Secret::new("code"),
                begun,
                kind,
                crate::flow::login::Via::Navigation,
                None,
            );
            let mut context = Context {
                provider: &provider,
                now: NOW,
                rng: &mut Counter(2),
            };
            assert!(own.redeem(&exchange, &mut context).is_ok());
            assert!(bug(&other.redeem(&exchange, &mut context)));

            let pending = LogoutTransaction {
                state: Secret::new("state"),
                id_token_hint: Some(Secret::new("e30.e30.c2ln")),
                started_at: NOW,
                return_to: None,
                provider: own.provider.name.clone(),
            };
            let life = crate::session::TRANSACTION_LIFE;
            let jar = Jar::new([]);
            let lines = own.cookies.seal(
                Kind::Logout,
                &pending.encode(),
                life,
                &own.keys,
                &jar,
                &mut Counter(4),
            );
            let browser = Browser::with(&lines.expect("a cookie"));
            let mut headers = HeaderMap::new();
            headers.insert(
                http::header::COOKIE,
                HeaderValue::try_from(browser.header()).expect("ASCII"),
            );
            assert!(other.provider_of_logout(&headers, NOW) == own.provider.name);
            let onward = |handler: &Handler| {
                let answer = handler.logout_continue(&headers, Some(&provider), NOW);
                let answer = answer.unwrap_or_else(|refusal| panic!("{}", refusal.error));
                answer.location.expect("somewhere")
            };
            assert!(onward(own).to_str().expect("ASCII").contains("id_token_hint"));
            assert_eq!(onward(other), "https://shop.example.com/");
        }
    }

    #[test]
    fn a_link_to_a_callback_begins_a_sign_in_at_the_default_only() {
        let pair = handlers(false, false);
        assert_eq!(pair.map(|handler| handler.may_restart_unknown()), [true, false]);
        let mut pair = handlers(false, false);
        for handler in &mut pair {
            let mut app = (*handler.app).clone();
            let strict = Provider {
                profile: crate::config::Profile::Fapi2,
                ..crate::oauth::testing::provider()
            };
            *app.providers.last_mut().expect("two") = Arc::new(strict);
            handler.app = Arc::new(app);
        }
        assert_eq!(pair.map(|handler| handler.may_restart_unknown()), [false, false]);
    }

    #[test]
    fn a_name_inside_a_seal_is_appended_and_comes_back() {
        let pair = handlers(false, false);
        let session = session_of(&pair[1], false);
        let tokens = crate::session::decode_tokens(&crate::session::encode_tokens(&session.tokens));
        assert!(tokens.expect("they decode").issued_by == pair[1].provider.name);
        let begun = LoginTransaction::decode(&transaction(&pair[0]).encode()).expect("it decodes");
        assert!(begun.provider == pair[0].provider.name);
    }
}
