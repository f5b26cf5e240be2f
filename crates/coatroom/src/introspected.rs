//! What the provider said of access tokens: for routes whose calls wait for that (RFC 7662, RFC 9701).
//!
//! Answers are kept in memory only, under digests, by application, no longer than the core says and no
//! more of them than [`MOST`]; what failed is remembered for a moment, so that no client can have the
//! provider asked at each call. Calls with one token wait for one request together. What an answer means
//! is the core's. Calls of routes without an introspection never come here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coatroom_core::config::{Introspection, Route};
use coatroom_core::error::Error;
use coatroom_core::flow::{AnswerName, Decision, Introspected, Question};
use coatroom_core::step::Context;
use coatroom_core::time::UnixTime;
use hashlink::LruCache;

use crate::api::{LookUpFuture, LookedUp};
use crate::clock::SystemRng;
use crate::handler::{Agent, App, Role, Shared};
use crate::snapshot::Snapshot;
use crate::stored::{self, Coalesced};

/// What is known of the tokens of one application.
pub(crate) struct Introspections {
    known: Mutex<LruCache<AnswerName, Known>>,
    under_way: Arc<Coalesced<Introspected, AnswerName>>,
}

/// What was asked for a call, and what came of it.
pub(crate) struct Answered {
    name: AnswerName,
    outcome: Result<Introspected, Error>,
}

struct Known {
    outcome: Result<Introspected, Error>,
    /// It counts from here: a clock that was set back makes nothing live longer.
    from: UnixTime,
    until: UnixTime,
}

impl Default for Introspections {
    fn default() -> Self {
        Self {
            known: Mutex::new(LruCache::new(MOST)),
            under_way: Arc::default(),
        }
    }
}

impl Introspections {
    fn recall(&self, name: &AnswerName, now: UnixTime) -> Option<Result<Introspected, Error>> {
        let mut known = self.known();
        let found = known.get(name)?;
        if found.from <= now && now < found.until {
            return Some(found.outcome.clone());
        }
        known.remove(name);
        None
    }

    fn remember(&self, name: AnswerName, outcome: &Result<Introspected, Error>, now: UnixTime) {
        let until = match outcome {
            Ok(answer) => answer.counts_until(),
            Err(Error::ProviderUnavailable { retry_after, .. }) => {
                now.plus(Duration::from_secs(u64::from(*retry_after)).min(OF_A_FAILURE))
            }
            Err(Error::Provider(_)) => now.plus(OF_A_FAILURE),
            // a failure of our own says nothing of the token
            Err(_) => return,
        };
        if now < until {
            let outcome = outcome.clone();
            let known = Known {
                outcome,
                from: now,
                until,
            };
            self.known().insert(name, known);
        }
    }

    fn known(&self) -> MutexGuard<'_, LruCache<AnswerName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call of such a route has waited for already.
pub(crate) struct Came<'a> {
    /// What the provider says of its token.
    pub(crate) answered: Option<&'a Answered>,
    /// Its session was looked up for this call just now.
    pub(crate) is_fresh: bool,
}

/// Has a call that may pass go on only as far as the provider's word on its token lets it; what to wait
/// for, where that is not known.
///
/// # Errors
/// [`Error::AccessTokenExpired`] for a token that is not active; [`Error::InsufficientScope`]; and why the
/// provider's word could not be had.
pub(crate) fn judge(
    snapshot: &Snapshot,
    app: &Arc<App>,
    route: &Route,
    introspection: &Arc<Introspection>,
    decision: &mut Decision<'_>,
    came: &Came<'_>,
) -> Result<Option<LookUpFuture>, Error> {
    let shared = &snapshot.shared;
    match judge_token(shared, app, route, introspection, decision, came.answered) {
        // a refresh may have come since this core was told of the session: only a fresh look tells
        Err(Error::AccessTokenExpired) if !came.is_fresh => {
            let application = app.application();
            let lookup = decision.session().and_then(|session| {
                snapshot.with_memo(app.index, |memo| memo.look_again(session.id, application, route))
            });
            match lookup {
                Some(lookup) => Ok(Some(stored::look_up(shared, app, lookup))),
                None => Err(Error::AccessTokenExpired),
            }
        }
        judged => judged,
    }
}

fn judge_token(
    shared: &Arc<Shared>,
    app: &App,
    route: &Route,
    introspection: &Arc<Introspection>,
    decision: &mut Decision<'_>,
    came: Option<&Answered>,
) -> Result<Option<LookUpFuture>, Error> {
    let Some(name) = decision.introspection(introspection) else {
        // nobody is signed in, and the route lets them pass
        return Ok(None);
    };
    let agent = match &app.role {
        Role::Agent(agent) => agent,
        Role::Proxy(_) => return Err(Error::Bug("a proxy has no provider to ask about a token")),
    };
    let now = shared.clock.now();
    let outcome = match came.filter(|came| came.name == name) {
        Some(came) => Some(came.outcome.clone()),
        None => agent.introspections.recall(&name, now),
    };
    let Some(outcome) = outcome else {
        return Ok(Some(ask(shared, agent, decision.question(introspection)?)));
    };
    let scopes = route.demands.as_ref().map(|demands| &demands.wanted.scopes);
    decision.introspected(&outcome?, scopes.map_or(&[], Vec::as_slice))?;
    Ok(None)
}

/// Asks the provider, once for all calls with this token.
fn ask(shared: &Arc<Shared>, agent: &Arc<Agent>, question: Question) -> LookUpFuture {
    let name = question.name();
    let (control, agent) = (shared.control.clone(), Arc::clone(agent));
    let shared = Arc::clone(shared);
    let under_way = Arc::clone(&agent.introspections.under_way);
    let joined = under_way.join(name, &control, move || async move {
        // whoever asked a moment ago may be done since this call looked
        if let Some(known) = agent.introspections.recall(&name, shared.clock.now()) {
            return known;
        }
        let outcome = converse(&shared, &agent, question).await;
        let now = shared.clock.now();
        agent.introspections.remember(name, &outcome, now);
        outcome
    });
    Box::pin(async move {
        let outcome = joined.await;
        LookedUp::Token(Answered { name, outcome })
    })
}

async fn converse(shared: &Shared, agent: &Agent, question: Question) -> Result<Introspected, Error> {
    let provider = agent.provider.snapshot().await?;
    let step = agent.handler.introspect(
        question,
        &mut Context {
            provider: &provider,
            now: shared.clock.now(),
            rng: &mut SystemRng,
        },
    )?;
    agent.provider.drive(step).await
}

/// How many answers of one application are kept: with a JWT of 2 KiB each, 20 MiB.
const MOST: usize = 10_000;

/// For how long a failure is remembered, at most.
const OF_A_FAILURE: Duration = Duration::from_secs(5);
