//! Tokens of the client's own for routes of anonymous callers: one for each thing that is asked for.
//!
//! Calls read the token without a lock. Where there is none they wait for the control runtime, all for
//! one request; where it nears its end one call has a new one fetched and does not wait. Tokens are in
//! this process' memory and nowhere else. How long one is used, what a failure means and when one is
//! forgotten is the core's to say. No token is logged, and a caller never learns why there is none.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use coatroom_core::config::{Application, ClientGrant, is_same_client};
use coatroom_core::error::Error;
use coatroom_core::flow::{ClientCredential, ClientKey, ClientStanding, ClientToken, Decision, Renewal};
use coatroom_core::handler::Handler;
use coatroom_core::oauth::is_token_refused;
use http::{HeaderMap, StatusCode};

use crate::agent::converse;
use crate::api::{LookUpFuture, LookedUp};
use crate::clock::SystemRng;
use crate::handler::{Agent, App, Role, Shared, TokenHandler};
use crate::stored::Coalesced;

/// The tokens of one application's client, in the order of its grants.
#[derive(Default)]
pub(crate) struct ClientTokens {
    places: Vec<Arc<Place>>,
    counts: Arc<Counts>,
}

/// Where one token is.
struct Place {
    grant: ClientGrant,
    key: ClientKey,
    held: ArcSwap<ClientCredential>,
    /// The one request that everybody waits for.
    fetches: Arc<Coalesced<(), ()>>,
    /// Whether somebody has a new one fetched already.
    renewing: AtomicBool,
}

/// How often a token was asked for, and what came of it; over reloads.
#[derive(Default)]
struct Counts {
    issued: AtomicU64,
    refused: AtomicU64,
    unavailable: AtomicU64,
    forgotten: AtomicU64,
}

/// The token that a call went upstream with.
pub(crate) struct Used {
    place: Arc<Place>,
    counts: Arc<Counts>,
    token: Arc<ClientToken>,
}

/// What a call without a session's token may do.
pub(crate) enum Standing {
    /// Go on; with this token, if its route carries one.
    Good(Option<Box<Used>>),
    /// Wait for this, and ask again.
    LookUp(LookUpFuture),
}

impl ClientTokens {
    /// The tokens of an application's grants. What another configuration had for the same client is
    /// taken over.
    ///
    /// # Errors
    /// [`Error::Bug`] when no key can be made.
    pub(crate) fn new(handler: &Handler, known: Option<&Agent>) -> Result<Self, Error> {
        let known = known.filter(|known| is_same_client(known.handler.provider(), handler.provider()));
        let kept = |grant: &ClientGrant| {
            let mut places = known?.client_tokens.places.iter();
            places.find(|place| place.grant == *grant).cloned()
        };
        let places = handler.application().client_grants.iter().map(|grant| {
            if let Some(kept) = kept(grant) {
                kept.held.rcu(|held| match held.taken_over() {
                    Some(without) => Arc::new(without),
                    None => Arc::clone(held),
                });
                return Ok(kept);
            }
            Ok(Arc::new(Place {
                grant: grant.clone(),
                key: handler.client_key()?,
                held: ArcSwap::default(),
                fetches: Arc::default(),
                renewing: AtomicBool::new(false),
            }))
        });
        Ok(Self {
            places: places.collect::<Result<_, Error>>()?,
            counts: Arc::default(),
        })
    }

    /// The same, going on with what was counted before.
    pub(crate) fn counting_on(self, known: Option<&Agent>) -> Self {
        let counts = known.map(|known| Arc::clone(&known.client_tokens.counts));
        Self {
            counts: counts.unwrap_or_default(),
            ..self
        }
    }
}

/// Attaches the token that a call's route carries.
///
/// # Errors
/// Those of [`ClientStanding::Refused`], and [`Error::Bug`] where there is no client.
pub(crate) fn attach(
    shared: &Arc<Shared>,
    app: &Arc<App>,
    decision: &mut Decision<'_>,
) -> Result<Standing, Error> {
    let Some(grant) = decision.wanted_grant() else {
        return Ok(Standing::Good(None));
    };
    let Role::Agent(agent) = &app.role else {
        return Err(Error::Bug("an instance that only forwards calls has no client"));
    };
    let place = agent.client_tokens.places.get(grant);
    let place = place.ok_or(Error::Bug("a grant that is not there"))?;
    let held = place.held.load();
    match held.standing(shared.clock.now()) {
        ClientStanding::Good(token, renewal) => {
            if renewal == Renewal::Due && !place.renewing.swap(true, Ordering::AcqRel) {
                // beside the call; who comes without a token joins it
                let (joined, place) = (join(shared, agent, place), Arc::clone(place));
                shared.control.spawn(async move {
                    joined.await;
                    place.renewing.store(false, Ordering::Release);
                });
            }
            decision.attach(token);
            Ok(Standing::Good(Some(Box::new(Used {
                place: Arc::clone(place),
                counts: Arc::clone(&agent.client_tokens.counts),
                token: Arc::clone(token),
            }))))
        }
        ClientStanding::Missing => Ok(Standing::LookUp(join(shared, agent, place))),
        ClientStanding::Refused(error) => Err(error),
    }
}

impl Used {
    /// Has the token forgotten where an API says that it is no longer good. The call stays as it is.
    pub(crate) fn judge(&self, shared: &Shared, status: StatusCode, headers: &HeaderMap) {
        if !is_token_refused(status, headers) {
            return;
        }
        let held = self.place.held.load();
        if let Some(without) = held.forgetting(&self.token, shared.clock.now()) {
            let before = self.place.held.compare_and_swap(&*held, Arc::new(without));
            if Arc::ptr_eq(&before, &held) {
                self.counts.forgotten.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn join(shared: &Arc<Shared>, agent: &Arc<Agent>, place: &Arc<Place>) -> LookUpFuture {
    let work = {
        let (shared, agent, place) = (Arc::clone(shared), Arc::clone(agent), Arc::clone(place));
        move || async move { fetch(&shared, &agent, &place).await }
    };
    let joined = place.fetches.join((), &shared.control, work);
    Box::pin(async move { LookedUp::Client(joined.await) })
}

/// Asks for a token. What comes of it is in its place afterwards, a failure as well.
async fn fetch(shared: &Shared, agent: &Agent, place: &Place) -> Result<(), Error> {
    match place.held.load().standing(shared.clock.now()) {
        // somebody was faster
        ClientStanding::Good(_, Renewal::NotYet) | ClientStanding::Refused(_) => return Ok(()),
        ClientStanding::Good(_, Renewal::Due) | ClientStanding::Missing => {}
    }
    let outcome = converse(shared, agent, |context| {
        agent.handler.client_token(&place.grant, &place.key, context)
    })
    .await;
    let counts = &agent.client_tokens.counts;
    match &outcome {
        Ok(_) => &counts.issued,
        Err(Error::ProviderUnavailable { .. }) => &counts.unavailable,
        Err(_) => &counts.refused,
    }
    .fetch_add(1, Ordering::Relaxed);
    if let Err(error) = &outcome {
        tell(agent, place, error);
    }
    let now = shared.clock.now();
    place.held.rcu(|held| {
        let outcome = outcome.as_ref().map(Arc::clone);
        held.settled(outcome, now, &mut SystemRng)
    });
    Ok(())
}

/// Says what failed: once for each time that was asked, which is seldom while it fails.
fn tell(agent: &Agent, place: &Place, error: &Error) {
    let application = agent.handler.application();
    let routes = paths(application, &place.grant).join(" ");
    let application = application.id.as_str();
    match error {
        Error::ProviderUnavailable { .. } => tracing::warn!(
            application,
            routes,
            "no access token by client_credentials could be had for these routes: {error}"
        ),
        _ => tracing::error!(
            application,
            routes,
            "the provider gives no access token by client_credentials for these routes, check their `token`: {error}"
        ),
    }
}

fn paths<'a>(application: &'a Application, grant: &ClientGrant) -> Vec<&'a str> {
    let position = application.client_grants.iter().position(|known| known == grant);
    let routes = application.routes.iter();
    routes
        .filter(|route| route.client_grant.is_some() && route.client_grant == position)
        .map(|route| route.prefix.as_str())
        .collect()
}

impl TokenHandler {
    /// How often tokens of the client's own were asked for, in the Prometheus text format; nothing where
    /// no route carries one.
    pub fn render_client_tokens(&self, out: &mut String) {
        let current = self.current();
        let agents = current.apps.iter().filter_map(|app| match &app.role {
            Role::Agent(agent) if !agent.client_tokens.places.is_empty() => Some(agent),
            Role::Agent(_) | Role::Proxy(_) => None,
        });
        let agents: Vec<_> = agents.collect();
        if agents.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "# HELP {REQUESTS} Requests for tokens of the client's own, by what came of them.\n# TYPE {REQUESTS} counter"
        );
        for agent in &agents {
            let counts = &agent.client_tokens.counts;
            for (outcome, count) in [
                ("issued", &counts.issued),
                ("refused", &counts.refused),
                ("unavailable", &counts.unavailable),
            ] {
                let (id, count) = (agent.id(), count.load(Ordering::Relaxed));
                let _ = writeln!(
                    out,
                    "{REQUESTS}{{application=\"{id}\",outcome=\"{outcome}\"}} {count}"
                );
            }
        }
        let _ = writeln!(
            out,
            "# HELP {FORGOTTEN} Tokens of the client's own that an API called invalid.\n# TYPE {FORGOTTEN} counter"
        );
        for agent in &agents {
            let (id, counts) = (agent.id(), &agent.client_tokens.counts);
            let count = counts.forgotten.load(Ordering::Relaxed);
            let _ = writeln!(out, "{FORGOTTEN}{{application=\"{id}\"}} {count}");
        }
    }
}

const REQUESTS: &str = "coatroom_client_token_requests_total";
const FORGOTTEN: &str = "coatroom_client_tokens_forgotten_total";
