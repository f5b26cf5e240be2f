//! Refresh without a store: new tokens for the session that the cookies show.
//!
//! Beside sign-in only this endpoint writes tokens. Equal refresh tokens are redeemed once; a short sealed memory
//! follows the chain, so that a late duplicate is answered with the newest known successor. Only
//! `invalid_grant` ends a session, and a loser clears nothing: it leaves a tombstone for the
//! refresh token in a cookie of its own, never one that would hit the winner or a sign-out. This file never holds the memory itself.

use zeroize::Zeroizing;

use crate::config::{Provider, ProviderName};
use crate::cookie::{Jar, Kind};
use crate::error::Error;
use crate::flow::apis::{self, ApiFailure};
use crate::flow::exchange::user_of;
use crate::flow::verifying::{Verifying, tokens};
use crate::flow::visible::{Ended, State};
use crate::flow::{AgentResponse, Effects, Extended, Input, Refusal, Revocation, Seen};
use crate::handler::{Handler, MemoryKey};
use crate::oauth::id_token::same_subject;
use crate::oauth::userinfo::{Asked, UserinfoClaims};
use crate::oauth::{dpop, jwe, plain, token};
use crate::rng::Rng;
use crate::seal::{Associated, ProofKey, Purpose, digest_of};
use crate::secret::Secret;
use crate::session::{ApiToken, Session, SessionId, Tokens, decode_tokens, encode_tokens};
use crate::step::{Context, Step};
use crate::store::EntryKey;
use crate::time::UnixTime;

/// A refresh that this browser may have: follow it through the memory, then send it.
#[derive(Clone)]
pub struct Refresh {
    session: Session,
    activity: Activity,
    /// The refresh token that the browser holds.
    held: Option<Secret>,
    /// The refresh token to look up or redeem next.
    current: Option<Secret>,
    hops: u16,
}

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Activity {
    /// A user's doing: restarts the idle clock.
    User,
    /// A timer's (`background=true`): does not.
    Timer,
}

/// What a redemption brought.
#[expect(clippy::large_enum_variant, reason = "one for each refresh, and moved once")]
pub enum Redeemed {
    /// New tokens.
    Tokens(Refreshed),
    /// Tokens of another user, which have to be revoked: the session is over, as by [`Error::GrantEnded`].
    Anothers(Vec<Revocation>),
}

/// New tokens, not yet written into cookies.
#[derive(Clone)]
pub struct Refreshed {
    pub(super) tokens: Tokens,
    id_token: IdToken,
    api_failures: Vec<ApiFailure>,
    /// Why userinfo was not had; then the claims that were known stay.
    pub(super) userinfo: Option<Error>,
}

/// What became of the ID token of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdToken {
    /// There was none, or it passed.
    Good,
    /// The keys to verify it cannot be had now. That is an outage and ends nothing: it counts as
    /// not sent, the old one stays.
    NoKey,
}

/// One redemption of a refresh token, shared by everybody who holds it.
pub struct Redemption {
    refresh_token: Secret,
    refresh_expires_at: Option<UnixTime>,
    id_token: Secret,
    scope: Option<String>,
    userinfo: Option<UserinfoClaims>,
    /// What the session's access tokens are bound to: the new one has to be, too.
    proof_key: Option<ProofKey>,
    /// What the session has for its APIs.
    apis: Vec<ApiToken>,
    /// Who issued the refresh token.
    issued_by: Option<ProviderName>,
}

/// Where the memory leads.
#[expect(clippy::large_enum_variant, reason = "one for each refresh, and moved once")]
pub enum Follow {
    /// Look up the next key.
    Again(Refresh),
    /// The memory has the newest tokens.
    Ready(Refresh, Refreshed),
    /// Nobody has redeemed this refresh token yet: send it.
    Send(Refresh),
}

impl Refresh {
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// How many refreshes it has followed: those of the same session that has followed more has the
    /// newer tokens.
    pub fn hops(&self) -> u16 {
        self.hops
    }

    /// Whether it has followed the chain to tokens that are good for some seconds.
    pub fn is_fresh(&self, now: UnixTime) -> bool {
        self.hops > 0 && self.session.tokens.access_expires_at > now.plus(FRESH)
    }

    /// The tokens that it has been followed to.
    pub fn outcome(&self) -> Refreshed {
        Refreshed::known(self.session.tokens.clone())
    }

    /// The same refresh, one link further: with what was just redeemed.
    #[must_use]
    pub fn after(&self, refreshed: &Refreshed) -> Self {
        let mut further = self.clone();
        further.current = refreshed.tokens.refresh_token.clone();
        further.session.tokens = refreshed.tokens.clone();
        further.session.tokens.issued_by = self.session.tokens.issued_by.clone();
        apis::inherit(&mut further.session.tokens, &self.session.tokens.apis);
        further.hops = self.hops.saturating_add(1);
        further
    }

    /// The session it is for.
    pub fn session_id(&self) -> SessionId {
        self.session.id
    }
}

impl Handler {
    /// `POST refresh`: what there is to refresh.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] without a session, [`Error::SessionExpired`] for one that ended.
    pub fn refresh<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        input: &Input,
        now: UnixTime,
    ) -> Result<Refresh, Refusal> {
        let activity = match is_by_user(input)? {
            true => Activity::User,
            false => Activity::Timer,
        };
        let jar = self.jar(seen);
        match self.visible(&jar, now).state {
            State::Live(session) => Ok(Refresh {
                held: session.tokens.refresh_token.clone(),
                current: session.tokens.refresh_token.clone(),
                session,
                activity,
                hops: 0,
            }),
            State::Absent | State::Elsewhere(_) => {
                Err(Error::Unauthorized("no session cookies that open").into())
            }
            State::Conflict => Err(Refusal::with_cookies(
                Error::Unauthorized("the cookies show several sessions"),
                self.cookies.clear_everything(&jar),
            )),
            State::Ended { why, session } => {
                // a late answer wrote these back after the sign-out: make sure they are dead
                let signed_out = session.filter(|_| why == Ended::SignedOut);
                let revoke = signed_out
                    .map(|session| session.revocations())
                    .unwrap_or_default();
                let effects = Effects {
                    revoke,
                    ..Effects::default()
                };
                Err(Refusal {
                    effects,
                    ..Error::from(why).into()
                })
            }
        }
    }

    /// Under which names a memory that replicas share may know the refresh token that is to be
    /// redeemed next: one for each key, since replicas change keys one after the other.
    pub fn shared_refresh_keys(&self, refresh: &Refresh) -> Vec<EntryKey> {
        let token = refresh.current.iter();
        token
            .flat_map(|token| {
                let data = [self.app.id.as_str().as_bytes(), b"\0", token.expose().as_bytes()].concat();
                let data = Zeroizing::new(data);
                let all: Vec<_> = self.keys.fingerprints("shared refresh token", &data).collect();
                all.into_iter().map(EntryKey)
            })
            .collect()
    }

    /// What the shared memory keeps of a redeemed refresh token: its successor, sealed. None where
    /// the refresh token stayed the same: then there is no chain to follow.
    pub fn share_refresh(
        &self,
        refresh: &Refresh,
        refreshed: &Refreshed,
        rng: &mut dyn Rng,
    ) -> Option<Vec<u8>> {
        (refresh.current != refreshed.tokens.refresh_token).then(|| {
            self.keys.seal(
                Purpose::Memory,
                &self.shared_memory(refresh),
                &encode_tokens(&refreshed.tokens),
                rng,
            )
        })
    }

    /// Goes one link along the shared chain; none where `sealed` does not open.
    pub fn follow_shared(&self, refresh: &Refresh, sealed: &[u8]) -> Option<Refresh> {
        let opened = self
            .keys
            .open(Purpose::Memory, &self.shared_memory(refresh), sealed)?;
        let tokens = decode_tokens(opened.plaintext())?;
        (refresh.hops < MAX_HOPS).then(|| refresh.after(&Refreshed::known(tokens)))
    }

    fn shared_memory<'a>(&'a self, refresh: &'a Refresh) -> Associated<'a> {
        Associated {
            application: &self.app.id,
            name: "shared memory",
            chunk_header: &refresh.session.id.0,
        }
    }

    /// Names the lease under which one replica at a time refreshes a session.
    pub fn lease_key(&self, session: SessionId) -> EntryKey {
        EntryKey(digest_of(
            "refresh lease",
            &[self.app.id.as_str().as_bytes(), &session.0],
        ))
    }

    /// Under which key the memory knows the refresh token that is to be redeemed next; none when
    /// the session has no refresh token.
    pub fn refresh_key(&self, refresh: &Refresh) -> Option<MemoryKey> {
        refresh.current.as_ref().map(|token| self.token_key(token))
    }

    /// Goes one link along the chain: `remembered` is what the memory holds under
    /// [`refresh_key`](Self::refresh_key).
    pub fn follow(&self, refresh: Refresh, remembered: Option<&[u8]>, now: UnixTime) -> Follow {
        let Some(current) = refresh.current.clone() else {
            // no refresh token: nothing to redeem, but a user's doing still counts
            let tokens = refresh.session.tokens.clone();
            return Follow::Ready(refresh, Refreshed::known(tokens));
        };
        let opened = remembered.and_then(|sealed| self.open_memory(&self.token_key(&current), sealed));
        match opened.and_then(|plaintext| decode_tokens(plaintext.plaintext())) {
            Some(mut found) if refresh.hops < MAX_HOPS => {
                let next = found.refresh_token.clone();
                let mut session = refresh.session;
                apis::inherit(&mut found, &session.tokens.apis);
                found.issued_by = session.tokens.issued_by;
                session.tokens = found;
                Follow::Again(Refresh {
                    current: next,
                    session,
                    hops: refresh.hops.saturating_add(1),
                    ..refresh
                })
            }
            // the end of the chain: where it was reached by following, its tokens serve while they
            // are fresh; where the browser holds the newest token itself, it asks for new ones
            _ if refresh.hops > 0 && refresh.session.tokens.access_expires_at > now.plus(FRESH) => {
                let tokens = refresh.session.tokens.clone();
                Follow::Ready(refresh, Refreshed::known(tokens))
            }
            _ => Follow::Send(refresh),
        }
    }

    /// What [`Follow::Send`] asks to be redeemed; none without a refresh token.
    pub fn redemption(&self, refresh: &Refresh) -> Option<Redemption> {
        let current = refresh.current.clone();
        let redemption = Redemption::of(&refresh.session)?;
        Some(Redemption {
            refresh_token: current?,
            ..redemption
        })
    }

    /// Redeems the refresh token (RFC 6749 §6) and checks what comes back; a new ID token keeps
    /// `iss`, `sub` and `aud` (OIDC Core §12.2).
    ///
    /// # Errors
    /// [`Error::Bug`] only; the steps fail with [`Error::SessionExpired`] for `invalid_grant`,
    /// [`Error::ProviderUnavailable`] or [`Error::Provider`], which end nothing.
    pub fn refresh_tokens(
        &self,
        redemption: &Redemption,
        context: &mut Context<'_>,
    ) -> Result<Step<Redeemed>, Error> {
        self.check_own(redemption.issued_by.as_ref())?;
        let token = redemption.refresh_token.clone();
        let known_expiry = redemption.refresh_expires_at;
        let (redeemed, client) = (token.clone(), self.provider.clone());
        let request =
            move |context: &mut Context<'_>| token::refresh_request(&redeemed, None, &client, context);
        let proof_key = redemption.proof_key.as_ref();
        let token_type = dpop::token_type(proof_key);
        let (provider, default_life) = (self.provider.clone(), self.provider.token_life(&self.app.session));
        let auth_time_may_change = self.provider.habits.auth_time_may_change;
        let old_id_token = redemption.id_token.clone();
        let (app, before) = (self.app.clone(), redemption.apis.clone());
        let api_key = redemption.proof_key.clone();
        let old_scope = redemption.scope.clone();
        let step = dpop::converse(proof_key, context, request, move |reply, context| {
            let mut response =
                plain::parse_token_reply(&reply, token_type, &provider).map_err(|failure| {
                    failure
                        .of_client(&provider, context)
                        .of_session()
                        .into_error(Error::GrantEnded)
                })?;
            // RFC 6749 §6: as before, where it does not say
            response.scope = response.scope.or(old_scope);
            if response.refresh_token.is_none() {
                // RFC 6749 §6: without a new one the old one stays valid, and expires when it would
                response.refresh_token = Some(token);
                let left = known_expiry.map(|at| at.seconds_from(context.now));
                response.refresh_expires_in = response.refresh_expires_in.or(left);
            }
            let with_apis = move |tokens: Tokens, id_token: IdToken, provider, context: &mut Context<'_>| {
                apis::fetch(app, provider, tokens, before, api_key, context)?.and_then(
                    context,
                    move |fetched, _| {
                        Ok(Step::Done(Refreshed {
                            tokens: fetched.tokens,
                            id_token,
                            api_failures: fetched.failures,
                            userinfo: None,
                        }))
                    },
                )
            };
            let Some(id_token) = response.id_token.take() else {
                let issued_by = provider.name.clone();
                let tokens = tokens(response, old_id_token, default_life, issued_by, context.now);
                return with_apis(tokens, IdToken::Good, provider, context);
            };
            let id_token = jwe::id_token(id_token, &provider.id_token_decryption_keys)?;
            let access_token = response.access_token.clone();
            let verifying = Verifying {
                provider: provider.clone(),
                id_token: id_token.clone(),
                access_token,
                nonce: None,
            };
            verifying
                .step(context)?
                .and_then(context, move |verified, context| {
                    let issued_by = provider.name.clone();
                    let Some(verified) = verified else {
                        let tokens = tokens(response, old_id_token, default_life, issued_by, context.now);
                        return with_apis(tokens, IdToken::NoKey, provider, context);
                    };
                    let mut old = crate::flow::status::claims_of(&old_id_token)
                        .ok_or(Error::Bug("the sealed ID token has no claims"))?;
                    if auth_time_may_change {
                        // the session keeps what is known of its own sign-in
                        old.remove("auth_time");
                    }
                    same_subject(&old, &verified)?;
                    let tokens = tokens(response, id_token, default_life, issued_by, context.now);
                    with_apis(tokens, IdToken::Good, provider, context)
                })
        })?;
        let (known, provider) = (redemption.userinfo.clone(), self.provider.clone());
        let (proof_key, app) = (redemption.proof_key.clone(), self.app.clone());
        step.and_then(context, move |refreshed: Refreshed, context| {
            if provider.plain.is_some() {
                return super::plain::again(refreshed, known, app, provider, proof_key, context);
            }
            refreshed.with_userinfo(known, provider, proof_key, context)
        })
    }

    /// Turns the outcome of a refresh into this browser's answer.
    ///
    /// # Errors
    /// The outcome's error; after `invalid_grant` with a tombstone for the refresh token.
    pub fn refreshed<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        refresh: &Refresh,
        outcome: Result<Refreshed, Error>,
        context: &mut Context<'_>,
    ) -> Result<AgentResponse, Refusal> {
        let jar = self.jar(seen);
        match outcome {
            Ok(refreshed) => {
                let mut session = refresh
                    .session
                    .with_tokens(refreshed.tokens, &self.provider.habits);
                session.written_at = context.now;
                if refresh.activity == Activity::User {
                    session.last_active = context.now;
                }
                let set_cookies = self.session_cookies(&session, &jar, context)?;
                let limits = &self.app.session;
                let extended = Extended {
                    session: session.id,
                    ends_at: session.ends_at(limits),
                    idle_ends_at: session.idle_ends_at(limits),
                };
                let mut answer = AgentResponse::json(self.session_json(&session, context.now), set_cookies);
                answer.extended = Some(extended);
                Ok(answer)
            }
            Err(error @ Error::GrantEnded) => {
                let set_cookies = self.bury(refresh, &jar, context)?;
                Err(Refusal {
                    error,
                    set_cookies,
                    effects: Effects::default(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tombstones for the refresh token that this browser holds and the one that was refused.
    fn bury(
        &self,
        refresh: &Refresh,
        jar: &Jar<'_>,
        context: &mut Context<'_>,
    ) -> Result<Vec<http::HeaderValue>, Error> {
        let mut refused = self.refused(jar);
        for token in refresh.held.iter().chain(&refresh.current) {
            refused.add_refresh_token(token);
        }
        self.tombstone_cookies(Kind::Refused, &refused, context.rng)
    }

    /// Seals new tokens for the short memory under the key of the refresh token that bought them;
    /// none where the refresh token stayed the same (then there is no chain to follow).
    pub fn remember_refresh(
        &self,
        key: &MemoryKey,
        refreshed: &Refreshed,
        rng: &mut dyn Rng,
    ) -> Option<Vec<u8>> {
        let rotated = refreshed
            .tokens
            .refresh_token
            .as_ref()
            .is_none_or(|token| self.token_key(token) != *key);
        rotated.then(|| self.seal_memory(key, &encode_tokens(&refreshed.tokens), rng))
    }

    /// Under which key the memory knows the successor of a token that is to be revoked.
    pub fn revocation_key(&self, revocation: &Revocation) -> MemoryKey {
        self.token_key(&revocation.token)
    }

    /// The revocations that follow from what the memory holds under
    /// [`revocation_key`](Self::revocation_key): the successor has to go as well.
    pub fn revoke_successor(&self, key: &MemoryKey, sealed: &[u8]) -> Vec<Revocation> {
        let tokens = self
            .open_memory(key, sealed)
            .and_then(|plaintext| decode_tokens(plaintext.plaintext()));
        tokens.map(|tokens| tokens.revocations()).unwrap_or_default()
    }

    fn token_key(&self, token: &Secret) -> MemoryKey {
        MemoryKey(
            self.memory_keys
                .fingerprint("refresh token", token.expose().as_bytes()),
        )
    }
}

impl Redemption {
    /// What a session can redeem; none without a refresh token.
    pub(super) fn of(session: &Session) -> Option<Self> {
        Some(Self {
            refresh_token: session.tokens.refresh_token.clone()?,
            refresh_expires_at: session.tokens.refresh_expires_at,
            id_token: session.tokens.id_token.clone(),
            scope: session.tokens.scope.clone(),
            userinfo: session.tokens.userinfo.clone(),
            proof_key: session.proof_key.clone(),
            apis: session.tokens.apis.clone(),
            issued_by: session.tokens.issued_by.clone(),
        })
    }
}

/// Whether a refresh is a user's doing, and not a timer's.
pub(super) fn is_by_user(input: &Input) -> Result<bool, Error> {
    match input.single("background")? {
        None | Some("false") => Ok(true),
        Some("true") => Ok(false),
        Some(_) => Err(Error::InvalidRequest("`background` is neither true nor false")),
    }
}

impl Refreshed {
    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn known(tokens: Tokens) -> Self {
        Self::of(tokens, Vec::new())
    }

    pub(super) fn of(tokens: Tokens, api_failures: Vec<ApiFailure>) -> Self {
        Self {
            tokens,
            id_token: IdToken::Good,
            api_failures,
            userinfo: None,
        }
    }

    /// The APIs whose tokens could not be had with it.
    pub fn api_failures(&self) -> &[ApiFailure] {
        &self.api_failures
    }

    /// Why userinfo was not had, where it was asked: that ends nothing, the claims that were known stay.
    pub fn userinfo_failure(&self) -> Option<&Error> {
        self.userinfo.as_ref()
    }

    /// Asks for what userinfo says now (OIDC Core §5.3). The refresh token is redeemed, so that nothing
    /// that comes of this may lose what came for it.
    fn with_userinfo(
        mut self,
        known: Option<UserinfoClaims>,
        provider: std::sync::Arc<Provider>,
        proof_key: Option<ProofKey>,
        context: &mut Context<'_>,
    ) -> Result<Step<Redeemed>, Error> {
        let asking = Asked {
            provider,
            access_token: self.tokens.access_token.clone(),
            proof_key,
            sub: user_of(&self.tokens.id_token),
        };
        let step = match asking.step(context) {
            Ok(step) => step.caught(),
            Err(error) => Step::Done(Err(error)),
        };
        step.and_then(context, move |outcome, _| {
            match outcome {
                Ok(userinfo) => self.tokens.userinfo = userinfo,
                Err(error) => {
                    self.tokens.userinfo = known;
                    self.userinfo = Some(error);
                }
            }
            Ok(Step::Done(Redeemed::Tokens(self)))
        })
    }

    /// What became of the ID token.
    pub fn id_token(&self) -> IdToken {
        self.id_token
    }

    /// What has to be revoked if nobody is to have these tokens.
    pub fn revocations(&self) -> Vec<Revocation> {
        self.tokens.revocations()
    }
}

/// How many links of the chain are followed: more refreshes than anybody makes in the memory's
/// minute.
const MAX_HOPS: u16 = 1_000;

/// Remembered tokens serve a late duplicate while the access token lives longer than this.
const FRESH: std::time::Duration = std::time::Duration::from_secs(5);
