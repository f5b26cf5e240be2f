//! Sign-in: for each of its endpoints, core step → provider → core step.
//!
//! A request may have to be pushed before the browser gets its address, and an answer verified with keys
//! that have to be fetched; a code is redeemed once for everybody who proved its state. Every check is
//! the core's. It never reads a cookie itself.

use std::sync::Arc;

use coatroom_core::error::Error;
use coatroom_core::flow::{AgentResponse, Arrival, CodeExchange, Refusal, Seen, SignedIn};
use coatroom_core::oauth::ProviderSnapshot;
use coatroom_core::route::Endpoint;
use coatroom_core::step::{Context, Step};

use crate::agent::{AgentCall, converse, fail};
use crate::clock::SystemRng;
use crate::flights::{Found, Landing};
use crate::handler::{Agent, Shared};

/// `POST login/start`.
pub(crate) async fn start(
    shared: &Shared,
    agent: &Agent,
    call: &AgentCall,
    headers: Seen<'_>,
) -> Result<AgentResponse, Refusal> {
    let input = call.input()?;
    let provider = agent.provider.snapshot().await?;
    let step = agent.handler.login_start(
        headers,
        call.origin.as_ref(),
        input,
        &mut context(shared, &provider, &mut SystemRng),
    )?;
    Ok(agent.provider.drive(step).await?)
}

/// `GET login`.
pub(crate) async fn link(
    shared: &Shared,
    agent: &Agent,
    call: &AgentCall,
    headers: Seen<'_>,
) -> Result<AgentResponse, Refusal> {
    let provider = agent.provider.snapshot().await?;
    let navigation = call
        .navigation
        .ok_or(Error::Bug("a sign-in by navigation is no navigation"))?;
    let step = agent.handler.login(
        headers,
        navigation,
        &call.query,
        &mut context(shared, &provider, &mut SystemRng),
    )?;
    Ok(agent.provider.drive(step).await?)
}

/// `POST login/end`, and `callback` by either method.
pub(crate) async fn finish(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    call: &AgentCall,
    headers: Seen<'_>,
) -> Result<AgentResponse, Refusal> {
    match arrive(shared, agent, call, headers).await? {
        Arrival::Answer(step) => match agent.provider.drive(step).await {
            Ok(answer) => Ok(answer),
            Err(error) => fail(agent, call, error),
        },
        Arrival::Exchange(exchange) => redeem(shared, agent, headers, exchange).await,
    }
}

async fn arrive(
    shared: &Shared,
    agent: &Agent,
    call: &AgentCall,
    headers: Seen<'_>,
) -> Result<Arrival, Refusal> {
    let handler = &agent.handler;
    let provider = match agent.provider.snapshot().await {
        Ok(provider) => provider,
        Err(error) => return fail(agent, call, error).map(|answer| Arrival::Answer(Step::Done(answer))),
    };
    let step = {
        let mut rng = SystemRng;
        let context = &context(shared, &provider, &mut rng);
        match call.endpoint {
            Endpoint::FormPost => handler.form_post(&call.headers, &call.body, context)?,
            Endpoint::LoginEnd => handler.login_end(&call.input()?, context),
            _ => handler.callback(&call.query, context)?,
        }
    };
    let arrived = match agent.provider.drive(step).await {
        Ok(arrived) => arrived,
        Err(error) => return fail(agent, call, error).map(|answer| Arrival::Answer(Step::Done(answer))),
    };
    handler.arrive(headers, arrived, &mut context(shared, &provider, &mut SystemRng))
}

/// Redeems a code once, for everybody who proved its state.
async fn redeem(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    headers: Seen<'_>,
    exchange: CodeExchange,
) -> Result<AgentResponse, Refusal> {
    let exchange = Arc::new(exchange);
    let key = agent.handler.exchange_key(&exchange);
    let outcome: Result<SignedIn, Error> = loop {
        match agent.sign_ins.look(&key, shared.clock.now()) {
            Found::Flying(flight) => break flight.await,
            Found::Failed(error) => break Err(error),
            Found::Remembered(sealed) => {
                let recalled = agent.handler.recall_sign_in(&key, &sealed);
                break recalled.ok_or(Error::Bug("the memory of a sign-in does not open"));
            }
            Found::Nothing => {}
        }
        // which session it will be is not known before it is there
        let started = agent.sign_ins.join_or_start(key, &shared.control, None, || {
            let (shared, agent, exchange) = (Arc::clone(shared), Arc::clone(agent), Arc::clone(&exchange));
            async move {
                let outcome = redeem_at_provider(&shared, &agent, &exchange).await;
                let landing = match &outcome {
                    Ok(signed_in) => Landing::Remember(
                        agent.handler.remember_sign_in(&key, signed_in, &mut SystemRng),
                        shared.ends.subscribe(signed_in.session_id().0),
                    ),
                    // the provider may not have seen it: the next try may
                    Err(Error::ProviderUnavailable { .. }) => Landing::Forget,
                    Err(error) => Landing::Fail(error.clone()),
                };
                (outcome, landing, shared.clock.now())
            }
        });
        if let Some(flight) = started {
            break flight.await;
        }
    };
    let outcome = match outcome {
        // signed out since: a duplicate that comes now does not bring the session back
        Ok(_) if agent.sign_ins.is_over(&key) => Err(Error::LoginStateInvalid(
            "the session that this sign-in made has ended since",
        )),
        outcome => outcome,
    };
    let provider = agent.provider.snapshot().await?;
    let step = agent.handler.complete(
        headers,
        &exchange,
        outcome,
        &mut context(shared, &provider, &mut SystemRng),
    )?;
    Ok(agent.provider.drive(step).await?)
}

async fn redeem_at_provider(
    shared: &Shared,
    agent: &Agent,
    exchange: &CodeExchange,
) -> Result<SignedIn, Error> {
    // never put off by the rest that refreshes are given: anybody can post codes, see `outage.rs`
    converse(shared, agent, |context| agent.handler.redeem(exchange, context)).await
}

fn context<'a>(shared: &Shared, provider: &'a ProviderSnapshot, rng: &'a mut SystemRng) -> Context<'a> {
    Context {
        provider,
        now: shared.clock.now(),
        rng,
    }
}
