//! Sign-in, second half: the code becomes a session.
//!
//! A [`CodeExchange`] exists only after `state` and `iss` matched, a [`SignedIn`] only after the
//! token response and the ID token passed (OIDC Core §3.1.3). Redeeming is idempotent: a shell
//! coalesces by [`CodeExchange::key`] and each browser answer is completed on its own.

use http::HeaderValue;
use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::{CborLen, Decode, Encode};
use zeroize::Zeroizing;

use crate::assurance::{Assurance, Authentication};
use crate::cookie::{Jar, Kind};
use crate::error::Error;
use crate::flow::apis::ApiFailure;
use crate::flow::asked::as_asked;
use crate::flow::login::{Via, state_digest};
use crate::flow::signing_in::SigningIn;
pub(super) use crate::flow::status::{issuer_of, user_of};
use crate::flow::verifying::{Verifying, tokens};
use crate::flow::visible::State;
use crate::flow::{AgentResponse, Effects, Refusal, Revocation, Seen, StoreWrite};
use crate::handler::{Handler, MemoryKey};
use crate::oauth::id_token::IdTokenFailure;
use crate::oauth::userinfo::Asked;
use crate::oauth::{dpop, jwe, plain, token};
use crate::return_to::ReturnTo;
use crate::seal::Handle;
use crate::secret::Secret;
use crate::session::metadata::user_agent;
use crate::session::{Anchor, Kept, LoginTransaction, Session, SessionId, TokenPlace, Tokens, encode};
use crate::step::{Context, Step};
use crate::store::RecordVersion;
use crate::tombstones::Tombstones;

/// A code whose `state` and `iss` are proved to belong to a sign-in of this browser.
pub struct CodeExchange {
    code: Secret,
    transaction: LoginTransaction,
    cookie: Kind,
    via: Via,
    /// Who said to have answered (RFC 9207): an issuer of this provider.
    answered_by: Option<String>,
}

/// A completed sign-in, not yet written into cookies.
#[derive(Clone)]
pub struct SignedIn {
    pub(super) session: Session,
    pub(super) api_failures: Vec<ApiFailure>,
}

impl CodeExchange {
    pub(super) fn new(
        code: Secret,
        transaction: LoginTransaction,
        cookie: Kind,
        via: Via,
        answered_by: Option<String>,
    ) -> Self {
        Self {
            code,
            transaction,
            cookie,
            via,
            answered_by,
        }
    }
}

impl SignedIn {
    /// The new session's id.
    pub fn session_id(&self) -> SessionId {
        self.session.id
    }

    /// The APIs whose tokens could not be had with it.
    pub fn api_failures(&self) -> &[ApiFailure] {
        &self.api_failures
    }
}

impl Handler {
    /// Under which key one redemption serves everybody who proved the same code and state.
    pub fn exchange_key(&self, exchange: &CodeExchange) -> MemoryKey {
        let mut data = Zeroizing::new(exchange.code.expose().as_bytes().to_vec());
        data.push(0);
        data.extend_from_slice(exchange.transaction.state.expose().as_bytes());
        MemoryKey(self.memory_keys.fingerprint("code", &data))
    }

    /// Redeems the code (RFC 6749 §4.1.3) and checks everything that comes back.
    ///
    /// # Errors
    /// [`Error::Bug`] only; the steps fail with [`Error::Provider`],
    /// [`Error::ProviderUnavailable`], or [`Error::LoginStateInvalid`] when the provider no longer
    /// takes the code.
    pub fn redeem(
        &self,
        exchange: &CodeExchange,
        context: &mut Context<'_>,
    ) -> Result<Step<SignedIn>, Error> {
        self.check_own(exchange.transaction.provider.as_ref())?;
        let (code, verifier) = (exchange.code.clone(), exchange.transaction.verifier.clone());
        let (redirect_uri, client) = (self.redirect_uri(), self.provider.clone());
        let request = move |context: &mut Context<'_>| {
            token::code_request(&code, &redirect_uri, &verifier, &client, context)
        };
        let proof_key = exchange.transaction.proof_key.clone();
        let token_type = dpop::token_type(proof_key.as_ref());
        let (provider, default_life) = (self.provider.clone(), self.provider.token_life(&self.app.session));
        let nonce = exchange.transaction.nonce.clone();
        let answered_by = exchange.answered_by.clone();
        let signing_in = SigningIn {
            app: self.app.clone(),
            provider: self.provider.clone(),
            proof_key: proof_key.clone(),
            login_state: state_digest(exchange.transaction.state.expose()),
        };
        let LoginTransaction {
            scope, asked_scope, ..
        } = &exchange.transaction;
        let asked = scope.clone().or_else(|| asked_scope.clone());
        dpop::converse(
            exchange.transaction.proof_key.as_ref(),
            context,
            request,
            move |reply, context| {
                let mut response =
                    plain::parse_token_reply(&reply, token_type, &provider).map_err(|failure| {
                        failure
                            .of_client(&provider, context)
                            .into_error(Error::LoginStateInvalid(
                                "the provider does not take this authorization code (any more)",
                            ))
                    })?;
                // RFC 6749 §5.1: as asked for, where it does not say
                response.scope = response.scope.or(asked);
                if provider.plain.is_some() {
                    return super::plain::sign_in(response, signing_in, context);
                }
                let Some(id_token) = response.id_token.take() else {
                    return Err(Error::Provider(
                        "the token response has no id_token; is `openid` among the scopes".to_owned(),
                    ));
                };
                let id_token = jwe::id_token(id_token, &provider.id_token_decryption_keys)?;
                let access_token = response.access_token.clone();
                let provider_to_ask = provider.clone();
                let issued_by = provider.name.clone();
                let verifying = Verifying {
                    provider,
                    id_token: id_token.clone(),
                    access_token,
                    nonce: Some(nonce),
                };
                verifying
                    .step(context)?
                    .and_then(context, move |verified, context| {
                        let verified = verified.ok_or(IdTokenFailure::UnknownKey)?;
                        let authentication = Authentication::of(verified.claims());
                        // of many tenants the one that answered is the one whose user this is
                        let issuer = verified.claim("iss").and_then(serde_json::Value::as_str);
                        if answered_by.is_some() && answered_by.as_deref() != issuer {
                            return Err(Error::IssuerMismatch);
                        }
                        let tokens = tokens(response, id_token, default_life, issued_by, context.now);
                        let asking = Asked {
                            provider: provider_to_ask,
                            access_token: tokens.access_token.clone(),
                            proof_key: proof_key.clone(),
                            sub: user_of(&tokens.id_token),
                        };
                        asking.step(context)?.and_then(context, move |userinfo, context| {
                            let tokens = Tokens { userinfo, ..tokens };
                            signing_in.finish(tokens, authentication, context)
                        })
                    })
            },
        )
    }

    /// Turns the outcome of a redemption into this browser's answer; a restart may have to be announced
    /// to the provider first.
    ///
    /// # Errors
    /// As [`redeem`](Self::redeem) for `login/end`; by navigation failures become redirects.
    pub fn complete<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        exchange: &CodeExchange,
        outcome: Result<SignedIn, Error>,
        context: &mut Context<'_>,
    ) -> Result<Step<AgentResponse>, Refusal> {
        let seen = seen.into();
        let jar = exchange.via.view(self.jar(seen));
        let user_agent = user_agent(seen.headers);
        let failure = match outcome {
            Ok(signed_in) => {
                match self.write_session(&signed_in.session, user_agent, exchange, &jar, context) {
                    Ok(answer) => return Ok(Step::Done(answer)),
                    // nobody will ever hold these tokens
                    Err(error) => Refusal {
                        effects: Effects {
                            revoke: worth_revoking(&signed_in.session, &exchange.transaction, &error),
                            ..Effects::default()
                        },
                        ..error.into()
                    },
                }
            }
            Err(error) => Refusal::from(error),
        };
        // an outage keeps the transaction: the same page can be tried again
        let set_cookies = match failure.error {
            Error::ProviderUnavailable { .. } | Error::StoreUnavailable { .. } => Vec::new(),
            _ => self.cookies.clear(exchange.cookie, &jar),
        };
        let refusal = Refusal {
            set_cookies,
            ..failure
        };
        match exchange.via {
            Via::Fetch => Err(refusal),
            Via::Navigation | Via::FormPost => self.recover(&exchange.transaction, refusal, &jar, context),
        }
    }

    fn write_session(
        &self,
        session: &Session,
        user_agent: Option<String>,
        exchange: &CodeExchange,
        jar: &Jar<'_>,
        context: &mut Context<'_>,
    ) -> Result<AgentResponse, Error> {
        let transaction = &exchange.transaction;
        let user = self.person_of(&session.tokens.id_token);
        if transaction.expected_sub.is_some() && transaction.expected_sub != user {
            return Err(Error::AnotherUser);
        }
        as_asked(
            transaction,
            &session.authentication,
            self.provider.leeway,
            context.now,
        )?;
        // a configuration that changed meanwhile costs the return URL, not the sign-in
        let return_to = ReturnTo::revalidate(&transaction.return_to, &self.app)
            .unwrap_or_else(|_| ReturnTo::home(&self.app));
        let visible = self.visible(jar, context.now);
        let mut effects = Effects::default();
        for id in transaction
            .ends
            .iter()
            .copied()
            .chain(self.proved(&visible.anchors, jar))
        {
            if id != session.id && !effects.ended.contains(&id) {
                effects.ended.push(id);
            }
        }
        let others: Vec<Anchor> = visible
            .anchors
            .iter()
            .filter(|anchor| anchor.id != session.id)
            .cloned()
            .collect();
        effects.store.extend(self.deletions(&others, jar));
        let known = transaction.records.iter().copied();
        effects.store.extend(
            known
                .zip(transaction.ends.iter().copied())
                .filter(|(_, id)| *id != session.id)
                .map(|(key, id)| StoreWrite::Delete {
                    key,
                    session: Some(id),
                    stored: None,
                    lookup: None,
                }),
        );
        effects
            .store
            .extend(self.insertion(session, user_agent, context.now, context.rng)?);
        let seen = visible.anchors.iter().map(|anchor| anchor.id);
        let replaced: Vec<SessionId> = transaction
            .replaces
            .iter()
            .copied()
            .chain(seen)
            .filter(|id| *id != session.id)
            .collect();
        if let State::Live(old)
        | State::Elsewhere(old)
        | State::Ended {
            session: Some(old), ..
        } = visible.state
            && old.id != session.id
        {
            // Some providers end everything of a user at this client with one refresh token, the
            // session that was just made included: for the same user only the access token goes.
            let same_user = self.owns(&old.tokens) && self.person_of(&old.tokens.id_token) == user;
            let revocations = old.revocations().into_iter();
            effects
                .revoke
                .extend(revocations.filter(|revocation| !same_user || !revocation.is_refresh_token()));
        }
        let mut set_cookies = self.session_cookies(session, jar, context)?;
        if !replaced.is_empty() {
            let mut tombstones = transaction.tombstones.clone();
            tombstones.merge(&visible.tombstones);
            replaced.iter().for_each(|id| tombstones.add_session(*id));
            set_cookies.extend(self.tombstone_cookies(Kind::Ended, &tombstones, context.rng)?);
        }
        set_cookies.extend(self.cookies.clear(exchange.cookie, jar));
        // a form comes without a Lax cookie as well
        if exchange.via == Via::FormPost || self.shows(Kind::Logout, jar) {
            // or a foreign page could still finish the sign-out that nobody finished
            set_cookies.extend(self.cookies.clear(Kind::Logout, jar));
        }
        let response = match exchange.via {
            Via::Navigation | Via::FormPost => AgentResponse::see_other(return_to.as_str(), set_cookies)?,
            Via::Fetch => {
                let mut json = self.session_json(session, context.now);
                if let Some(object) = json.as_object_mut() {
                    object.insert("return_to".to_owned(), return_to.as_str().into());
                }
                AgentResponse::json(json, set_cookies)
            }
        };
        Ok(AgentResponse { effects, ..response })
    }

    /// What tells the users of this provider apart: `sub` or, where the issuer stands for many tenants,
    /// the tenant's issuer with it, since each has users of its own.
    pub(crate) fn person_of(&self, id_token: &Secret) -> Option<String> {
        let sub = user_of(id_token)?;
        match &self.provider.habits.tenants {
            None => Some(sub),
            // no `sub` has a control character in it
            Some(_) => Some(format!("{}\n{sub}", issuer_of(id_token)?)),
        }
    }

    /// The anchor and the session cookie of a session.
    pub(crate) fn session_cookies(
        &self,
        session: &Session,
        jar: &Jar<'_>,
        context: &mut Context<'_>,
    ) -> Result<Vec<HeaderValue>, Error> {
        let limits = &self.app.session;
        let ends_at = match &session.kept {
            Some(_) => session.created_at.plus(limits.absolute),
            None => session.ends_at(limits),
        };
        let life = std::time::Duration::from_secs(ends_at.seconds_from(context.now));
        let facts = self.facts_of(session);
        let assurance = self.assurance_of(session);
        let mut lines = self.cookies.seal(
            Kind::Access,
            &session.encode_anchor(limits, facts.as_ref(), assurance.as_ref(), self.token_place()),
            life,
            &self.keys,
            jar,
            context.rng,
        )?;
        if session.kept.is_some() {
            // everything else is in the store; what an earlier configuration left goes
            if self.shows(Kind::Session, jar) {
                lines.extend(self.cookies.clear(Kind::Session, jar));
            }
            return Ok(lines);
        }
        lines.extend(self.cookies.seal(
            Kind::Session,
            &session.encode_session(self.token_place()),
            life,
            &self.keys,
            jar,
            context.rng,
        )?);
        lines.extend(self.api_cookies(session, life, context)?);
        Ok(lines)
    }

    /// The cookies with the tokens of APIs. The agent is not sent them: a sign-in clears every form of
    /// each that an earlier session may have left, a refresh the one that would outlive a change from
    /// one piece to several or back.
    fn api_cookies(
        &self,
        session: &Session,
        life: std::time::Duration,
        context: &mut Context<'_>,
    ) -> Result<Vec<HeaderValue>, Error> {
        let is_new = session.created_at == session.written_at;
        let mut lines = Vec::new();
        for (index, cookie) in (0..).zip(&self.app.apis.cookies) {
            let kind = Kind::Api(index);
            let plaintext = session
                .tokens
                .of_api(cookie.api)
                .and_then(|token| session.encode_api_cookie(token));
            let Some(plaintext) = plaintext else { continue };
            let name = self.cookies.name(kind);
            let one_of_each_form = format!("{name}=; {name}.1=");
            let jar = match is_new {
                true => Jar::new([]).hiding_strict(),
                false => Jar::new([one_of_each_form.as_bytes()]),
            };
            let sealed = self
                .cookies
                .seal(kind, &plaintext, life, &self.keys, &jar, context.rng)?;
            lines.extend(sealed);
        }
        Ok(lines)
    }

    /// What is known of a sign-in, in the terms of what the routes demand now.
    pub(crate) fn assurance_of(&self, session: &Session) -> Option<Assurance> {
        let demands = self
            .app
            .routes
            .iter()
            .filter_map(|route| route.demands.as_deref());
        let introspections = self
            .app
            .routes
            .iter()
            .filter_map(|route| route.introspection.as_deref());
        // by the session and not by who writes it: a refresh elsewhere makes nothing another's
        let whose = introspections
            .filter(|_| self.is_own(session))
            .map(|asked| &asked.whose);
        let claims = self.claims_of_session(session);
        // what was granted is known from the sign-in on: what is configured now says nothing of it
        let scope = session.tokens.scope.as_deref().unwrap_or_default();
        Assurance::judge(demands.chain(whose), &session.authentication, scope, &claims)
    }

    /// A tombstone cookie: too small for chunks, so nothing of it is left over.
    pub(crate) fn tombstone_cookies(
        &self,
        kind: Kind,
        tombstones: &Tombstones,
        rng: &mut dyn crate::rng::Rng,
    ) -> Result<Vec<HeaderValue>, Error> {
        let life = self.app.session.absolute;
        self.cookies
            .seal(kind, &tombstones.encode(), life, &self.keys, &Jar::new([]), rng)
    }

    /// Seals a completed sign-in for the short memory.
    pub fn remember_sign_in(
        &self,
        key: &MemoryKey,
        signed_in: &SignedIn,
        rng: &mut dyn crate::rng::Rng,
    ) -> Vec<u8> {
        let access = signed_in.session.encode_access_part(&self.app.session, None);
        let session = signed_in.session.encode_session(TokenPlace::Anchor);
        let kept = signed_in.session.kept.as_ref();
        let plaintext = encode(&RememberedSignIn {
            id: ByteArray::from(signed_in.session.id.0),
            access: <&ByteSlice>::from(&access[..]),
            session: <&ByteSlice>::from(&session[..]),
            handle: kept.map(|kept| ByteArray::from(*kept.handle.bytes())),
            version: kept.map(|kept| kept.version.0),
        });
        self.seal_memory(key, &plaintext, rng)
    }

    /// Opens what [`remember_sign_in`](Self::remember_sign_in) sealed.
    pub fn recall_sign_in(&self, key: &MemoryKey, sealed: &[u8]) -> Option<SignedIn> {
        let plaintext = self.open_memory(key, sealed)?;
        let record: RememberedSignIn<'_> = minicbor::decode(plaintext.plaintext()).ok()?;
        let kept = match (record.handle, record.version) {
            (Some(handle), Some(version)) => Some(Kept {
                handle: Handle::from_bytes(*handle),
                version: RecordVersion(version),
                renewals: 0,
            }),
            _ => None,
        };
        let session = Session::of_parts(SessionId(*record.id), record.access, record.session, kept)?;
        Some(SignedIn {
            session,
            api_failures: Vec::new(),
        })
    }
}

/// What the short memory holds of a sign-in.
#[derive(Encode, Decode, CborLen)]
struct RememberedSignIn<'a> {
    #[n(0)]
    id: ByteArray<16>,
    #[b(1)]
    access: &'a ByteSlice,
    #[b(2)]
    session: &'a ByteSlice,
    #[n(3)]
    handle: Option<ByteArray<32>>,
    #[n(4)]
    version: Option<u64>,
}

/// What of a session that nobody gets has to be revoked. After a step-up that did not succeed the same
/// user's session goes on, and some providers end it together with the refresh token. Where nobody was
/// signed in there is nothing to spare.
fn worth_revoking(session: &Session, transaction: &LoginTransaction, error: &Error) -> Vec<Revocation> {
    let spare = matches!(error, Error::StepUpUnmet(_)) && transaction.expected_sub.is_some();
    let all = session.revocations().into_iter();
    all.filter(|revocation| !spare || !revocation.is_refresh_token())
        .collect()
}
