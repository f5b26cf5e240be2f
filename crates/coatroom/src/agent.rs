//! The OAuth agent: for each endpoint, core step → provider → core step.
//!
//! Runs on the control runtime. Every check is the core's; this file only fetches what the core
//! asks for, lets equal requests share one flight, and carries out the effects beside an answer.
//! It never reads a cookie itself.

use std::sync::Arc;

use bytes::Bytes;
use coatroom_core::config::{Origin, ProviderName};
use coatroom_core::error::Error;
use coatroom_core::flow::{
    AgentResponse, Asks, Effects, Follow, IdToken, Input, Redeemed, Redemption, Refresh, Refreshed, Refusal,
    Revocation, Revoked, Seen, StoreView,
};
use coatroom_core::guard::Navigation;
use coatroom_core::handler::MemoryKey;
use coatroom_core::route::Endpoint;
use coatroom_core::session::metadata::PublicSessionId;
use coatroom_core::step::{Context, Step};
use http::HeaderMap;

use crate::clock::SystemRng;
use crate::flights::{Found, Landing};
use crate::handler::{Agent, App, Shared};
use crate::provider_logout::Kept;
use crate::store::SessionStore;
use crate::{provider_logout, sessions, sign_in, stored, telemetry};

/// A request to an agent endpoint that its guard let pass.
pub(crate) struct AgentCall {
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: HeaderMap,
    pub(crate) query: String,
    pub(crate) body: Bytes,
    /// The listed origin of a fetch.
    pub(crate) origin: Option<Origin>,
    /// What kind of navigation it is.
    pub(crate) navigation: Option<Navigation>,
    /// The session that its path names.
    pub(crate) session: Option<PublicSessionId>,
    /// The provider that its path names, where the application has several.
    pub(crate) provider: Option<ProviderName>,
}

/// Serves one call, effects included. `agent` is the default provider's.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    app: Arc<App>,
    mut agent: Arc<Agent>,
    call: AgentCall,
) -> Result<AgentResponse, Refusal> {
    let mut outcome = match look(app.store.as_ref(), &agent, &call).await {
        Ok(view) => match app.choose(&agent, &call, &view, &shared) {
            Ok(chosen) => {
                agent = chosen;
                answer(&shared, &agent, app.store.as_ref(), &call, &view).await
            }
            Err(error) => Err(error.into()),
        },
        Err(error) => fail(&agent, &call, error),
    };
    let mut effects = match &mut outcome {
        Ok(answer) => std::mem::take(&mut answer.effects),
        Err(refusal) => std::mem::take(&mut refusal.effects),
    };
    if let Some(store) = &app.store {
        // what cannot be written has not happened
        if let Err(error) = stored::write(&shared, &agent, store, &mut effects).await {
            effects = Effects::default();
            outcome = fail(&agent, &call, error);
        }
    }
    carry_out(&shared, &agent, effects);
    if let Ok(AgentResponse {
        extended: Some(extended),
        ..
    }) = &outcome
    {
        let (ends_at, idle_ends_at) = (extended.ends_at, extended.idle_ends_at);
        shared.ends.extend(extended.session.0, ends_at, idle_ends_at);
    }
    outcome
}

/// What the store says of the sessions that the call's cookies name. Signing out needs none of it.
async fn look(
    store: Option<&Arc<dyn SessionStore>>,
    agent: &Agent,
    call: &AgentCall,
) -> Result<StoreView, Error> {
    let asks = match store {
        Some(_) => agent.handler.asks(&call.headers),
        None => Asks::default(),
    };
    let Some(store) = store.filter(|_| !asks.is_empty()) else {
        return Ok(StoreView::default());
    };
    match (stored::view(&**store, &asks).await, call.endpoint) {
        (
            Err(_),
            Endpoint::Logout | Endpoint::LogoutLink | Endpoint::LogoutContinue | Endpoint::LogoutCallback,
        ) => Ok(StoreView::unavailable()),
        (outcome, _) => outcome,
    }
}

/// A failure outside the core as the endpoint answers it.
pub(crate) fn fail(agent: &Agent, call: &AgentCall, error: Error) -> Result<AgentResponse, Refusal> {
    match call.endpoint {
        Endpoint::Callback | Endpoint::FormPost => agent.handler.sign_in_failed(error.into()),
        _ => Err(error.into()),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    store: Option<&Arc<dyn SessionStore>>,
    call: &AgentCall,
    view: &StoreView,
) -> Result<AgentResponse, Refusal> {
    let handler = &agent.handler;
    let headers = Seen::with(&call.headers, view);
    match call.endpoint {
        Endpoint::LoginStart => sign_in::start(shared, agent, call, headers).await,
        Endpoint::Login => sign_in::link(shared, agent, call, headers).await,
        Endpoint::LoginEnd | Endpoint::Callback | Endpoint::FormPost => {
            sign_in::finish(shared, agent, call, headers).await
        }
        Endpoint::Session => Ok(handler.session(headers, shared.clock.now())),
        Endpoint::User => handler.user(headers, &call.query, shared.clock.now()),
        Endpoint::Refresh => match store {
            None => refresh(shared, agent, call).await,
            Some(store) if handler.application().session.storage.is_stateful() => {
                refresh_stored(shared, agent, store, call, headers).await
            }
            Some(store) => refresh_shared(shared, agent, store, call, headers).await,
        },
        Endpoint::Logout => {
            sessions::end_everywhere(shared, agent, store, call, headers).await?;
            // whoever closes the tab meanwhile would stay signed in
            let provider = agent.provider.known_snapshot();
            handler.logout(headers, provider.as_deref(), shared.clock.now(), &mut SystemRng)
        }
        Endpoint::LogoutLink => {
            let provider = agent.provider.known_snapshot();
            let now = shared.clock.now();
            handler.logout_link(headers, &call.query, provider.as_deref(), now, &mut SystemRng)
        }
        Endpoint::LogoutContinue => {
            let provider = agent.provider.snapshot().await.ok();
            handler.logout_continue(&call.headers, provider.as_deref(), shared.clock.now())
        }
        Endpoint::LogoutCallback => handler.logout_callback(&call.headers, &call.query, shared.clock.now()),
        Endpoint::Sessions | Endpoint::SessionEnd => {
            let store = store.ok_or(Error::Bug("a list of sessions, and there is no store"))?;
            match call.endpoint {
                Endpoint::SessionEnd => sessions::end(shared, agent, store, call, headers).await,
                _ => sessions::list(shared, agent, store, headers).await,
            }
        }
        Endpoint::BackchannelLogout => {
            let metadata = |key: &_, record: &_| agent.handler.metadata(key, record);
            let kept = store.map(|store| Kept {
                store: &**store,
                metadata: &metadata,
            });
            provider_logout::backchannel(shared, agent, call, kept).await
        }
        Endpoint::FrontchannelLogout => {
            let metadata = |key: &_, record: &_| agent.handler.metadata(key, record);
            let kept = store.map(|store| Kept {
                store: &**store,
                metadata: &metadata,
            });
            provider_logout::frontchannel(shared, agent, call, kept).await
        }
    }
}

/// Has a conversation with the provider from its first step to its end.
pub(crate) async fn converse<T: Send + 'static>(
    shared: &Shared,
    agent: &Agent,
    first: impl FnOnce(&mut Context<'_>) -> Result<Step<T>, Error>,
) -> Result<T, Error> {
    let provider = agent.provider.snapshot().await?;
    let step = first(&mut Context {
        provider: &provider,
        now: shared.clock.now(),
        rng: &mut SystemRng,
    })?;
    agent.provider.drive(step).await
}

/// A refresh of a stored session: its clocks are the answer, and no cookie changes.
async fn refresh_stored(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    store: &Arc<dyn SessionStore>,
    call: &AgentCall,
    headers: Seen<'_>,
) -> Result<AgentResponse, Refusal> {
    let refresh = agent
        .handler
        .refresh_stored(headers, &call.input()?, shared.clock.now())?;
    let newest = match refresh.wants_tokens(shared.clock.now()) {
        true => stored::renew(shared, agent, store, refresh.stored().clone()).await?,
        false => refresh.stored().clone(),
    };
    Ok(agent
        .handler
        .refreshed_stored(&refresh, newest, shared.clock.now()))
}

/// A refresh of a session in cookies, one at a time for all replicas.
async fn refresh_shared(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    store: &Arc<dyn SessionStore>,
    call: &AgentCall,
    headers: Seen<'_>,
) -> Result<AgentResponse, Refusal> {
    let now = shared.clock.now();
    let refresh = agent.handler.refresh(headers, &call.input()?, now)?;
    let ended = shared.ends.subscribe(refresh.session_id().0);
    let (refresh, mut outcome) = match agent.handler.redemption(&refresh) {
        // nothing to redeem, but a user's doing still counts
        None => {
            let outcome = refresh.outcome();
            (refresh, Ok(outcome))
        }
        Some(_) => match stored::renew_shared(shared, agent, store, refresh.clone()).await {
            // what the other tab's call was, a user's or a timer's, is its own business
            Ok(newest) => (refresh, Ok(newest.outcome())),
            Err(error) => (refresh, Err(error)),
        },
    };
    outcome = exchanged_again(shared, agent, &refresh, outcome).await;
    if ended.is_ended() {
        if let Ok(refreshed) = &outcome {
            revoke_all(shared, agent, refreshed.revocations()).await;
        }
        outcome = Err(Error::SessionExpired("signed out"));
    }
    let provider = agent.provider.snapshot().await?;
    let mut context = Context {
        provider: &provider,
        now: shared.clock.now(),
        rng: &mut SystemRng,
    };
    agent.handler.refreshed(headers, &refresh, outcome, &mut context)
}

async fn refresh(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    call: &AgentCall,
) -> Result<AgentResponse, Refusal> {
    let input = call.input()?;
    let refresh = agent.handler.refresh(&call.headers, &input, shared.clock.now())?;
    let ended = shared.ends.subscribe(refresh.session_id().0);
    if ended.is_ended() {
        return Err(Error::SessionExpired("signed out").into());
    }
    let (refresh, outcome) = refresh_once(shared, agent, refresh).await;
    let mut outcome = exchanged_again(shared, agent, &refresh, outcome).await;
    if outcome
        .as_ref()
        .is_ok_and(|refreshed| refreshed.id_token() == IdToken::NoKey)
    {
        tracing::warn!(
            application = agent.id(),
            "the refreshed ID token is signed with a key that the provider does not publish; the old one stays"
        );
    }
    if let Ok(refreshed) = &outcome
        && let Some(error) = refreshed.userinfo_failure()
    {
        tracing::warn!(
            application = agent.id(),
            %error,
            "userinfo cannot be had at a refresh; the claims that were known stay"
        );
    }
    if ended.is_ended() {
        // signed out, or replaced, in another tab while the provider was asked; the sign-out
        // follows the chain and revokes what came back
        if let (Ok(refreshed), None) = (&outcome, agent.handler.redemption(&refresh)) {
            // there is no chain
            revoke_all(shared, agent, refreshed.revocations()).await;
        }
        outcome = Err(Error::SessionExpired("signed out"));
    }
    let provider = agent.provider.snapshot().await?;
    let mut context = Context {
        provider: &provider,
        now: shared.clock.now(),
        rng: &mut SystemRng,
    };
    agent
        .handler
        .refreshed(&call.headers, &refresh, outcome, &mut context)
}

/// Where there is no refresh token to redeem: the tokens of APIs that the session's own leads to.
async fn exchanged_again(
    shared: &Shared,
    agent: &Agent,
    refresh: &Refresh,
    outcome: Result<Refreshed, Error>,
) -> Result<Refreshed, Error> {
    if outcome.is_err() || !agent.handler.wants_exchange(refresh, shared.clock.now()) {
        return outcome;
    }
    let refreshed = converse(shared, agent, |context| {
        agent.handler.exchange_again(refresh, context)
    })
    .await?;
    agent.note_missing(refreshed.api_failures(), shared.clock.now());
    Ok(refreshed)
}

/// Follows the memory's chain to its end and redeems what is there, once for all callers.
async fn refresh_once(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    mut refresh: Refresh,
) -> (Refresh, Result<Refreshed, Error>) {
    for _ in 0..MAX_LINKS {
        let now = shared.clock.now();
        let key = agent.handler.refresh_key(&refresh);
        if key.is_some_and(|key| agent.refreshes.is_over(&key)) {
            return (refresh, Err(Error::SessionExpired("signed out")));
        }
        let remembered = match key.map_or(Found::Nothing, |key| agent.refreshes.look(&key, now)) {
            Found::Flying(flight) => {
                shared
                    .telemetry
                    .refresh(agent.index, telemetry::Refreshed::Coalesced);
                return (refresh, flight.await);
            }
            Found::Failed(error) => return (refresh, Err(error)),
            Found::Remembered(sealed) => Some(sealed),
            Found::Nothing => None,
        };
        refresh = match agent.handler.follow(refresh, remembered.as_deref(), now) {
            Follow::Again(further) => further,
            Follow::Ready(refresh, refreshed) => {
                shared
                    .telemetry
                    .refresh(agent.index, telemetry::Refreshed::Coalesced);
                return (refresh, Ok(refreshed));
            }
            Follow::Send(refresh) => {
                let (Some(key), Some(redemption)) = (key, agent.handler.redemption(&refresh)) else {
                    return (refresh, Err(Error::Bug("there is no refresh token to redeem")));
                };
                let ended = || shared.ends.subscribe(refresh.session_id().0);
                let started = agent
                    .refreshes
                    .join_or_start(key, &shared.control, Some(ended()), || {
                        let (shared, agent, ended) = (Arc::clone(shared), Arc::clone(agent), ended());
                        async move {
                            let outcome = refresh_at_provider(&shared, &agent, &key, &redemption).await;
                            let landing = match &outcome {
                                Ok(refreshed) => agent
                                    .handler
                                    .remember_refresh(&key, refreshed, &mut SystemRng)
                                    .map_or(Landing::Forget, |sealed| Landing::Remember(sealed, ended)),
                                // the one answer that does not change
                                Err(error @ Error::GrantEnded) => Landing::Fail(error.clone()),
                                Err(_) => Landing::Forget,
                            };
                            (outcome, landing, shared.clock.now())
                        }
                    });
                match started {
                    Some(flight) => return (refresh, flight.await),
                    None => refresh,
                }
            }
        };
    }
    let error = Error::ProviderUnavailable {
        reason: "the session was refreshed too often in a minute to follow".to_owned(),
        retry_after: 60,
    };
    (refresh, Err(error))
}

async fn refresh_at_provider(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    key: &MemoryKey,
    redemption: &Redemption,
) -> Result<Refreshed, Error> {
    agent.outage.may_ask(key, shared.clock.now())?;
    let outcome = redeem(shared, agent, redemption).await;
    agent.outage.note(key, &outcome, shared.clock.now());
    if let Ok(refreshed) = &outcome {
        agent.note_missing(refreshed.api_failures(), shared.clock.now());
    }
    outcome
}

/// Redeems a refresh token. Another user's tokens are nobody's to have: they are revoked behind it.
pub(crate) async fn redeem(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    redemption: &Redemption,
) -> Result<Refreshed, Error> {
    let redeemed = converse(shared, agent, |context| {
        shared.telemetry.refresh(agent.index, telemetry::Refreshed::Sent);
        agent.handler.refresh_tokens(redemption, context)
    });
    match redeemed.await? {
        Redeemed::Tokens(refreshed) => Ok(refreshed),
        Redeemed::Anothers(revocations) => {
            tracing::warn!(
                application = agent.id(),
                "a refresh brought an access token that is not of the session's user: the session has ended"
            );
            let (work, agent) = (Arc::clone(shared), Arc::clone(agent));
            shared
                .control
                .spawn(async move { revoke_all(&work, &agent, revocations).await });
            Err(Error::GrantEnded)
        }
    }
}

/// Ends sessions before the answer is sent; revokes behind it.
fn carry_out(shared: &Arc<Shared>, agent: &Arc<Agent>, effects: Effects) {
    for id in &effects.ended {
        shared.ends.end(id.0);
    }
    if !effects.revoke.is_empty() {
        let (shared, agent) = (Arc::clone(shared), Arc::clone(agent));
        let control = shared.control.clone();
        control.spawn(async move {
            for revocation in effects.revoke {
                revoke(&shared, &agent, revocation).await;
            }
        });
    }
}

/// Revokes a token and, where a refresh replaced it meanwhile, its newest known successor. `agent` is one
/// of the application; the token goes to the provider that issued it.
async fn revoke(shared: &Shared, agent: &Arc<Agent>, revocation: Revocation) {
    let Some(agent) = shared.revoker(agent, &revocation) else {
        return unrevokable(agent);
    };
    let mut newest = vec![revocation];
    for _ in 0..MAX_LINKS {
        let Some(refresh_token) = newest.iter().find(|revocation| revocation.is_refresh_token()) else {
            break;
        };
        let key = agent.handler.revocation_key(refresh_token);
        let successors = match agent.refreshes.look(&key, shared.clock.now()) {
            Found::Flying(flight) => flight
                .await
                .map(|refreshed| refreshed.revocations())
                .unwrap_or_default(),
            Found::Remembered(sealed) => agent.handler.revoke_successor(&key, &sealed),
            Found::Failed(_) | Found::Nothing => break,
        };
        let unchanged = successors
            .iter()
            .find(|revocation| revocation.is_refresh_token())
            .is_none_or(|successor| agent.handler.revocation_key(successor) == key);
        if !successors.is_empty() {
            newest = successors;
        }
        if unchanged {
            break;
        }
    }
    revoke_all(shared, agent, newest).await;
}

/// Revokes these tokens, and says in the log how that went.
pub(crate) async fn revoke_all(shared: &Shared, agent: &Arc<Agent>, revocations: Vec<Revocation>) {
    for revocation in revocations {
        let Some(agent) = shared.revoker(agent, &revocation) else {
            unrevokable(agent);
            continue;
        };
        let outcome = converse(shared, agent, |context| {
            agent.handler.revoke(&revocation, context)
        })
        .await;
        match outcome {
            Ok(revoked @ (Revoked::Yes | Revoked::NotSupported)) => {
                tracing::debug!(application = agent.id(), ?revoked, "token revocation");
            }
            // many providers cannot revoke an access token that is a JWT (RFC 7009 §2.2.1)
            Ok(revoked @ Revoked::Refused(_)) if !revocation.is_refresh_token() => {
                tracing::debug!(application = agent.id(), ?revoked, "token revocation");
            }
            Ok(revoked @ (Revoked::Refused(_) | Revoked::Unreachable)) => {
                tracing::warn!(application = agent.id(), ?revoked, "a token could not be revoked");
            }
            Err(error) => tracing::warn!(application = agent.id(), "a token could not be revoked: {error}"),
        }
    }
}

fn unrevokable(agent: &Agent) {
    let application = agent.id();
    tracing::warn!(
        application,
        "a token is not revoked: its provider is not configured any more"
    );
}

impl AgentCall {
    pub(crate) fn input(&self) -> Result<Input, Error> {
        let content_type = match coatroom_core::head::single(&self.headers, &http::header::CONTENT_TYPE) {
            coatroom_core::head::Single::Absent => "",
            coatroom_core::head::Single::Value(value) => value.split(';').next().unwrap_or_default().trim(),
            coatroom_core::head::Single::Ambiguous => {
                return Err(Error::InvalidRequest("`Content-Type` occurs more than once"));
            }
        };
        match content_type.to_ascii_lowercase().as_str() {
            "application/json" if self.body.is_empty() => Input::form(b""),
            "application/json" => Input::json(&self.body),
            "" | "application/x-www-form-urlencoded" => Input::form(&self.body),
            _ if self.body.is_empty() => Input::form(b""),
            _ => Err(Error::InvalidRequest(
                "the body is neither application/x-www-form-urlencoded nor application/json",
            )),
        }
    }
}

/// How far a late refresh, or a revocation, follows those that overtook it: each link is one look into the memory.
const MAX_LINKS: usize = 1_100;
