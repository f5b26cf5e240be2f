//! Sign-in, first half: the start, and the way back until `state` and `iss` are proved.
//!
//! The pending sign-in lives in a sealed cookie of its own, one per `state` (RFC 6749 §10.12,
//! RFC 9700 §4.7): no server state, no tab overwrites another's. What the front channel says is
//! believed only once its `state` opened such a cookie, and its text is never shown. This file
//! never redeems a code (`exchange`) and never touches an existing session on failure.

use std::sync::Arc;

use http::HeaderValue;
use url::Url;

use crate::config::{Application, Compatibility, Origin};
use crate::cookie::{Jar, Kind, LoginTag};
use crate::error::Error;
use crate::flow::asked::{Mark, is_step_up};
use crate::flow::visible::State;
use crate::flow::{AgentResponse, Arrived, CodeExchange, Input, Refusal, Seen};
use crate::guard::Navigation;
use crate::handler::Handler;
use crate::oauth::authorization::{
    AuthorizationRequest, AuthorizationResponse, Caller, RequestedParameters, issuer_matches,
};
use crate::oauth::dpop::Prover;
use crate::oauth::pkce;
use crate::return_to::{ReturnTo, login_error_url};
use crate::rng::random_text;
use crate::seal::{ProofKey, digest8};
use crate::secret::Secret;
use crate::session::{LoginTransaction, SessionId, TRANSACTION_LIFE};
use crate::step::{Context, Step};
use crate::store::RecordKey;
use crate::time::UnixTime;
use crate::tombstones::Tombstones;

/// Pending sign-ins per browser: the oldest goes.
const MAX_PENDING: usize = 5;

/// What the provider's answer led to.
#[must_use]
pub enum Arrival {
    /// Nothing to redeem: answer this, once a restart that it may need has been announced.
    Answer(Step<AgentResponse>),
    /// `state` and `iss` are proved: redeem the code.
    Exchange(CodeExchange),
}

/// Everything that a new authorization request is made from.
struct Beginning {
    return_to: ReturnTo,
    requested: RequestedParameters,
    /// Whether it takes the place of one that got lost.
    is_restart: bool,
    replaces: Vec<SessionId>,
    ends: Vec<SessionId>,
    /// The user who is signed in; sealed for a step-up only.
    expected_sub: Option<String>,
    tombstones: Tombstones,
    /// The records of those in `ends`, in their order, where sessions are kept in a store.
    records: Vec<RecordKey>,
}

/// How the provider's answer reached the agent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// The browser was sent to `callback`.
    Navigation,
    /// A page of the provider posted it to `callback`.
    FormPost,
    /// The SPA posted `login/end`.
    Fetch,
}

impl Via {
    /// The cookies that count: what another site causes comes without Strict ones, which are there all
    /// the same.
    pub(super) fn view(self, jar: Jar<'_>) -> Jar<'_> {
        match self {
            Self::Navigation | Self::FormPost => jar.hiding_strict(),
            Self::Fetch => jar,
        }
    }
}

/// An authorization request that is ready for the browser.
struct Begun {
    url: Url,
    set_cookies: Vec<HeaderValue>,
}

impl Handler {
    /// `POST login/start`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for parameters off the allow-list and return URLs off the origins;
    /// [`Error::Provider`] when a request cannot be made as configured, also from the step, as
    /// [`Error::ProviderUnavailable`].
    pub fn login_start<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        origin: Option<&Origin>,
        input: Input,
        context: &mut Context<'_>,
    ) -> Result<Step<AgentResponse>, Refusal> {
        let (return_to, pairs) = input.take_return_to(None)?;
        let return_to = self.return_to(return_to.as_deref(), origin)?;
        let pairs = self.without_provider(pairs);
        let requested = RequestedParameters::parse(pairs, &self.provider, Caller::Fetch)?;
        let jar = self.jar(seen);
        let beginning = Beginning {
            requested,
            ..self.beginning(return_to, &jar, context.now)
        };
        let begun = self.begin(&beginning, &jar, context)?;
        Ok(begun.and_then(context, |Begun { url, set_cookies }, _| {
            let json = serde_json::json!({"authorization_url": url.as_str()});
            Ok(Step::Done(AgentResponse::json(json, set_cookies)))
        })?)
    }

    /// `GET login`: the same by navigation. What the provider is to blame for leads into the app.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] as for [`login_start`](Self::login_start).
    pub fn login<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        navigation: Navigation,
        query: &str,
        context: &mut Context<'_>,
    ) -> Result<Step<AgentResponse>, Refusal> {
        if navigation.cross_site_or_unlabelled && self.provider.profile.is_fapi2() {
            // FAPI 2.0 Security Profile §5.3.3.1: nobody else begins a sign-in
            return Err(Error::CsrfRejected("the profile lets no other site begin a sign-in").into());
        }
        let alias = self.app.compatibility.map(Compatibility::return_to_name);
        let (return_to, pairs) = Input::form(query.as_bytes())?.take_return_to(alias)?;
        let return_to = self.return_to(return_to.as_deref(), None)?;
        let (caller, jar) = match navigation.cross_site_or_unlabelled {
            // a foreign page chooses no scopes, no prompt, no user
            true => (Caller::CrossSiteNavigation, self.jar(seen).hiding_strict()),
            false => (Caller::Navigation, self.jar(seen)),
        };
        let requested = RequestedParameters::parse(pairs, &self.provider, caller)?;
        let beginning = Beginning {
            requested,
            ..self.beginning(return_to, &jar, context.now)
        };
        let begun = self.begun(&beginning, &jar, context);
        let app = Arc::clone(&self.app);
        Ok(begun.and_then(context, move |outcome, _| {
            Ok(Step::Done(match outcome {
                Ok(Begun { url, set_cookies }) => AgentResponse::see_other(url.as_str(), set_cookies)?,
                Err(error @ (Error::Provider(_) | Error::ProviderUnavailable { .. })) => {
                    into_the_app(&app, error.into())?
                }
                Err(error) => return Err(error),
            }))
        })?)
    }

    /// Which sign-in an answer of the provider belongs to. By navigation it always ends in the app, at
    /// the provider again (once), or in an exchange.
    ///
    /// # Errors
    /// From `login/end` only, beside [`Error::Bug`]: [`Error::LoginStateInvalid`],
    /// [`Error::AuthorizationFailed`], [`Error::InvalidRequest`], [`Error::ResponseInvalid`],
    /// [`Error::IssuerMismatch`].
    pub fn arrive<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        arrived: Arrived,
        context: &mut Context<'_>,
    ) -> Result<Arrival, Refusal> {
        let Arrived { via, outcome } = arrived;
        let jar = via.view(self.jar(seen));
        match via {
            Via::Fetch => self.arrive_by_fetch(&outcome?, &jar, context),
            Via::Navigation | Via::FormPost => self.arrive_by_navigation(via, outcome, &jar, context),
        }
    }

    fn arrive_by_fetch(
        &self,
        response: &AuthorizationResponse,
        jar: &Jar<'_>,
        context: &Context<'_>,
    ) -> Result<Arrival, Refusal> {
        match self.prove(response, jar, Via::Fetch, context) {
            Ok(exchange) => Ok(Arrival::Exchange(exchange)),
            Err(Unproved { refusal, .. }) if matches!(refusal.error, Error::LoginStateInvalid(_)) => {
                // a reload, or React's double effects: the state that made this session again
                match self.visible(jar, context.now).state {
                    State::Live(session) if session.login_state == state_digest(response.state()) => {
                        Ok(Arrival::Answer(Step::Done(AgentResponse::json(
                            self.session_json(&session, context.now),
                            Vec::new(),
                        ))))
                    }
                    _ => Err(refusal),
                }
            }
            Err(Unproved { refusal, .. }) => Err(refusal),
        }
    }

    fn arrive_by_navigation(
        &self,
        via: Via,
        outcome: Result<AuthorizationResponse, Error>,
        jar: &Jar<'_>,
        context: &mut Context<'_>,
    ) -> Result<Arrival, Refusal> {
        let answer = |answer| Ok(Arrival::Answer(Step::Done(answer)));
        let response = match outcome {
            Ok(response) => response,
            // a bookmark of the callback
            Err(Error::LoginStateInvalid(_) | Error::InvalidRequest(_) | Error::ResponseInvalid(_))
                if self.is_signed_in(jar, context.now) =>
            {
                return answer(AgentResponse::see_other(self.app.app_url.as_str(), Vec::new())?);
            }
            Err(error) => return answer(self.sign_in_failed(error.into())?),
        };
        match self.prove(&response, jar, via, context) {
            Ok(exchange) => Ok(Arrival::Exchange(exchange)),
            // late, and nobody is signed in: what was asked is known all the same
            Err(Unproved {
                refusal,
                late: Some(transaction),
            }) if !self.is_signed_in(jar, context.now) => {
                let step = self.recover(&transaction, refusal, jar, context)?;
                Ok(Arrival::Answer(step))
            }
            Err(Unproved { refusal, .. }) => {
                let step = self.recover_unknown(&response, refusal, jar, context)?;
                Ok(Arrival::Answer(step))
            }
        }
    }

    fn is_signed_in(&self, jar: &Jar<'_>, now: UnixTime) -> bool {
        matches!(self.visible(jar, now).state, State::Live(_) | State::Elsewhere(_))
    }

    /// A return whose sign-in nobody knows: into the app where a session is visible, else to one fresh
    /// start if it brought a code and asked for nothing of its own, else to the app with an advisory
    /// error code.
    fn recover_unknown(
        &self,
        response: &AuthorizationResponse,
        refusal: Refusal,
        jar: &Jar<'_>,
        context: &mut Context<'_>,
    ) -> Result<Step<AgentResponse>, Refusal> {
        if !matches!(refusal.error, Error::LoginStateInvalid(_)) {
            return self.sign_in_failed(refusal).map(Step::Done);
        }
        if self.is_signed_in(jar, context.now) {
            return Ok(Step::Done(AgentResponse::see_other(
                self.app.app_url.as_str(),
                refusal.set_cookies,
            )?));
        }
        // a "no" stays one; FAPI 2.0 Security Profile §5.3.3.1: a link to the callback is no user's wish
        // to sign in
        let restarts = response.has_code() && Mark::of(response.state()) == Mark::Fresh;
        if !restarts || !self.may_restart_unknown() {
            return self.sign_in_failed(refusal).map(Step::Done);
        }
        let beginning = Beginning {
            is_restart: true,
            ..self.beginning(ReturnTo::home(&self.app), jar, context.now)
        };
        self.restart(&beginning, refusal, jar, context)
    }

    /// The end of a known sign-in by navigation that cannot be finished: one fresh start for the
    /// same page where it asks for no less, else the app with an advisory error code. A step-up is never
    /// restarted: it would no longer be for its user alone.
    pub(crate) fn recover(
        &self,
        transaction: &LoginTransaction,
        refusal: Refusal,
        jar: &Jar<'_>,
        context: &mut Context<'_>,
    ) -> Result<Step<AgentResponse>, Refusal> {
        let restarts = matches!(refusal.error, Error::LoginStateInvalid(_))
            && Mark::of(transaction.state.expose()) != Mark::Last
            && transaction.expected_sub.is_none();
        if !restarts {
            return self.sign_in_failed(refusal).map(Step::Done);
        }
        let beginning = Beginning {
            return_to: ReturnTo::revalidate(&transaction.return_to, &self.app)
                .unwrap_or_else(|_| ReturnTo::home(&self.app)),
            requested: RequestedParameters::again(transaction),
            is_restart: true,
            replaces: transaction.replaces.clone(),
            ends: transaction.ends.clone(),
            expected_sub: None,
            tombstones: transaction.tombstones.clone(),
            records: transaction.records.clone(),
        };
        self.restart(&beginning, refusal, jar, context)
    }

    fn restart(
        &self,
        beginning: &Beginning,
        refusal: Refusal,
        jar: &Jar<'_>,
        context: &mut Context<'_>,
    ) -> Result<Step<AgentResponse>, Refusal> {
        let begun = self.begun(beginning, jar, context);
        let app = Arc::clone(&self.app);
        Ok(begun.and_then(context, move |outcome, _| {
            Ok(Step::Done(match outcome {
                Ok(Begun { url, mut set_cookies }) => {
                    set_cookies.extend(refusal.set_cookies);
                    AgentResponse {
                        effects: refusal.effects,
                        failure: Some(refusal.error),
                        ..AgentResponse::see_other(url.as_str(), set_cookies)?
                    }
                }
                // what the first one left is cleared and revoked all the same
                Err(error) => into_the_app(&app, Refusal { error, ..refusal })?,
            }))
        })?)
    }

    /// 303 to the app with `?login_error=<code>`: advisory, the SPA asks `session` first.
    ///
    /// # Errors
    /// [`Error::Bug`] if the URL does not fit into a header.
    pub fn sign_in_failed(&self, refusal: Refusal) -> Result<AgentResponse, Refusal> {
        Ok(into_the_app(&self.app, refusal)?)
    }

    fn return_to(&self, input: Option<&str>, origin: Option<&Origin>) -> Result<ReturnTo, Error> {
        match input {
            Some(input) => ReturnTo::parse(input, origin, &self.app),
            None => Ok(ReturnTo::home(&self.app)),
        }
    }

    /// A beginning as far as the request's cookies decide it.
    fn beginning(&self, return_to: ReturnTo, jar: &Jar<'_>, now: UnixTime) -> Beginning {
        let visible = self.visible(jar, now);
        let ends = self.proved(&visible.anchors, jar);
        let handles = visible.anchors.iter().filter(|anchor| ends.contains(&anchor.id));
        Beginning {
            records: handles
                .filter_map(|anchor| anchor.record_key(&self.app.id))
                .collect(),
            return_to,
            requested: RequestedParameters::default(),
            is_restart: false,
            replaces: visible.anchors.iter().map(|anchor| anchor.id).collect(),
            ends,
            expected_sub: match &visible.state {
                State::Live(session) => self.person_of(&session.tokens.id_token),
                // whoever is signed in elsewhere cannot come back from here
                State::Absent | State::Conflict | State::Ended { .. } | State::Elsewhere(_) => None,
            },
            tombstones: visible.tombstones,
        }
    }

    /// The same with its failure as a value.
    fn begun(
        &self,
        beginning: &Beginning,
        jar: &Jar<'_>,
        context: &mut Context<'_>,
    ) -> Step<Result<Begun, Error>> {
        match self.begin(beginning, jar, context) {
            Ok(step) => step.caught(),
            Err(error) => Step::Done(Err(error)),
        }
    }

    /// Every sign-in begins here, a restart as well: the cookie is sealed, the request made and, where
    /// that is how, pushed.
    fn begin(
        &self,
        beginning: &Beginning,
        jar: &Jar<'_>,
        context: &mut Context<'_>,
    ) -> Result<Step<Begun>, Error> {
        self.check_answers_say_whose(context)?;
        let proof_key = self.proof_key(context)?;
        let prover = proof_key.as_ref().map(Prover::new).transpose()?;
        let dpop_jkt = prover.map(|prover| prover.jkt());
        let verifier = pkce::verifier(context.rng);
        let challenge = pkce::challenge(&verifier);
        let mark = match beginning.is_restart {
            true => Mark::Last,
            false => Mark::of_request(&beginning.requested),
        };
        let transaction = LoginTransaction {
            state: Secret::new(mark.prefix().to_owned() + &random_text::<16>(context.rng)),
            nonce: Secret::new(random_text::<16>(context.rng)),
            verifier,
            return_to: beginning.return_to.as_str().to_owned(),
            started_at: context.now,
            replaces: beginning.replaces.clone(),
            ends: beginning.ends.clone(),
            // a step-up must bring the same user back
            expected_sub: beginning
                .expected_sub
                .clone()
                .filter(|_| is_step_up(&beginning.requested)),
            tombstones: beginning.tombstones.clone(),
            issuer: Some(issuer_digest(&self.provider.issuer)),
            records: beginning.records.clone(),
            proof_key,
            acr_values: beginning.requested.get("acr_values").map(str::to_owned),
            max_age: self.max_age_of(&beginning.requested),
            scope: beginning.requested.get("scope").map(str::to_owned),
            asked_scope: self.asked_scope(&beginning.requested),
            provider: self.provider.name.clone(),
        };
        let step = AuthorizationRequest {
            redirect_uri: &self.redirect_uri(),
            state: transaction.state.expose(),
            nonce: transaction.nonce.expose(),
            code_challenge: &challenge,
            dpop_jkt: dpop_jkt.as_deref(),
            requested: &beginning.requested,
        }
        .begin(&self.provider, context)?;
        let kind = Kind::Login(LoginTag::of(transaction.state.expose()));
        let mut set_cookies = self.cookies.seal(
            kind,
            &transaction.encode(),
            TRANSACTION_LIFE,
            &self.keys,
            jar,
            context.rng,
        )?;
        set_cookies.extend(self.drop_oldest_pending(jar, context.now));
        step.and_then(context, |url, _| Ok(Step::Done(Begun { url, set_cookies })))
    }

    /// The key of a session that begins now, if it is to have one.
    fn proof_key(&self, context: &Context<'_>) -> Result<Option<ProofKey>, Error> {
        let Some(algorithm) = self.provider.dpop else {
            return Ok(None);
        };
        if context.provider.metadata.offers_dpop(algorithm) == Some(false) {
            return Err(Error::Provider(
                "its `dpop_signing_alg_values_supported` does not have the algorithm of `dpop`".to_owned(),
            ));
        }
        ProofKey::generate(algorithm).map(Some)
    }

    /// Clears pending sign-ins until one more fits, the oldest first; what does not open goes before.
    fn drop_oldest_pending(&self, jar: &Jar<'_>, now: UnixTime) -> Vec<HeaderValue> {
        let mut pending: Vec<(u64, Kind)> = self
            .cookies
            .pending_logins(jar)
            .into_iter()
            .map(|tag| {
                let kind = Kind::Login(tag);
                let started = self
                    .transactions(kind, jar)
                    .filter(|transaction| !transaction.is_expired(now))
                    .map(|transaction| transaction.started_at.0)
                    .max();
                (started.unwrap_or(0), kind)
            })
            .collect();
        pending.sort_by_key(|(started, _)| *started);
        let surplus = (pending.len() + 1).saturating_sub(MAX_PENDING);
        pending
            .iter()
            .take(surplus)
            .flat_map(|(_, kind)| self.cookies.clear(*kind, jar))
            .collect()
    }

    /// Proof before use: a [`CodeExchange`] exists only once `state` and `iss` matched.
    fn prove(
        &self,
        response: &AuthorizationResponse,
        jar: &Jar<'_>,
        via: Via,
        context: &Context<'_>,
    ) -> Result<CodeExchange, Unproved> {
        let kind = Kind::Login(LoginTag::of(response.state()));
        let state = Secret::new(response.state());
        let transaction = self
            .transactions(kind, jar)
            .find(|transaction| transaction.state == state)
            .ok_or(Error::LoginStateInvalid(
                "there is no pending sign-in with this `state` in this browser",
            ))?;
        // nothing is cleared: the sign-in can still be finished where it was begun
        self.check_begun_here(&transaction)?;
        let cleared = || self.cookies.clear(kind, jar);
        // the configuration names another provider since: its code is not for this one (RFC 9700 §4.4)
        let issuer = issuer_digest(&self.provider.issuer);
        if transaction.issuer.is_some_and(|began_at| began_at != issuer) {
            let error = Error::LoginStateInvalid("the sign-in was begun at another provider");
            return Err(Refusal::with_cookies(error, cleared()).into());
        }
        // a "no" is one however late it comes
        if response.has_code() && transaction.is_expired(context.now) {
            let error = Error::LoginStateInvalid("the sign-in was started more than 10 minutes ago");
            return Err(Unproved {
                refusal: Refusal::with_cookies(error, cleared()),
                late: Some(Box::new(transaction)),
            });
        }
        // RFC 9207 §2.4: also for an error response
        let is_missing = self.provider.authorization.require_iss && response.iss().is_none();
        if is_missing || !issuer_matches(response.iss(), &context.provider.metadata) {
            return Err(Refusal::with_cookies(Error::IssuerMismatch, cleared()).into());
        }
        match response {
            AuthorizationResponse::Code { code, .. } => {
                let answered_by = response.iss().map(str::to_owned);
                Ok(CodeExchange::new(
                    code.clone(),
                    transaction,
                    kind,
                    via,
                    answered_by,
                ))
            }
            AuthorizationResponse::Refused { error, .. } => {
                let error = Error::AuthorizationFailed {
                    provider_error: *error,
                };
                Err(Refusal::with_cookies(error, cleared()).into())
            }
        }
    }
}

/// Why there is nothing to redeem.
struct Unproved {
    refusal: Refusal,
    /// The sign-in, where it is ours in everything but time.
    late: Option<Box<LoginTransaction>>,
}

impl<T: Into<Refusal>> From<T> for Unproved {
    fn from(refusal: T) -> Self {
        let (refusal, late) = (refusal.into(), None);
        Self { refusal, late }
    }
}

/// See [`Handler::sign_in_failed`].
fn into_the_app(app: &Application, refusal: Refusal) -> Result<AgentResponse, Error> {
    let error = &refusal.error;
    let code = error.provider_error().unwrap_or_else(|| error.answer().code);
    let answer = AgentResponse::see_other(login_error_url(app, code).as_str(), refusal.set_cookies)?;
    Ok(AgentResponse {
        effects: refusal.effects,
        failure: Some(refusal.error),
        ..answer
    })
}

/// Names an issuer in a sealed transaction.
fn issuer_digest(issuer: &str) -> [u8; 8] {
    digest8("issuer", issuer.as_bytes())
}

/// Remembers in a session which `state` made it.
pub(crate) fn state_digest(state: &str) -> [u8; 8] {
    digest8("session state", state.as_bytes())
}
