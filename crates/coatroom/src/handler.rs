//! `TokenHandler`: the applications, their providers and keys, ready to be put in front of services.
//!
//! Built once per process on a tokio runtime of any flavour, the *control runtime*: everything
//! that talks to a provider runs there as a task of its own, so that a client that hangs up
//! cancels nothing. Cheap to clone. Applications and keys can be changed while it serves: a
//! request keeps to the end what it began with, and what the process knows of providers, flights
//! and ended sessions is taken over.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use coatroom_core::config::{Application, Route, RouteTarget, StoreSettings, Upstreams};
use coatroom_core::error::Error;
use coatroom_core::flow::{
    AnchorMemo, KnownSession, Lookup, Outcome, ProxyHandler, Refresh, Refreshed, SignedIn, StoredSession,
};
use coatroom_core::handler::Handler;
use coatroom_core::head::{Head, Headers};
use coatroom_core::peers::TrustedPeers;
use coatroom_core::seal::KeyRing;
use coatroom_core::store::Record;
use coatroom_core::time::UnixTime;
use tokio::runtime::Handle;

use crate::client_credentials::ClientTokens;
use crate::clock::{Clock, SystemClock};
use crate::dpop::ApiNonces;
use crate::flights::Flights;
use crate::introspected::Introspections;
use crate::keys::Keys;
use crate::missing_tokens::MissingTokens;
use crate::outage::Outage;
use crate::provider::{Health, Provider, SetupError};
use crate::rate::{self, RateLimits};
use crate::service::TokenHandlerLayer;
use crate::session_end::SessionEnds;
use crate::several;
use crate::snapshot;
use crate::store::{Guarded, SessionStore, StoreError, StoreHealth, Stores};
use crate::stored::{self, Coalesced, LookUpName, Unfinished};
use crate::telemetry::{ApplicationLabels, Telemetry};

/// The token handler of one process. Clones share everything.
#[derive(Clone)]
pub struct TokenHandler {
    pub(crate) current: Arc<ArcSwap<Shared>>,
    /// Held while one configuration takes over from another.
    reloading: Arc<Mutex<()>>,
    ends: SessionEnds,
    stores: Arc<Opener>,
}

/// Where the stores come from.
enum Opener {
    /// From the applications' settings.
    Settings(Arc<Stores>),
    /// From whoever embeds the library: one for all.
    Given(Arc<dyn SessionStore>),
}

impl Opener {
    fn open(&self, settings: &StoreSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
        match self {
            Self::Settings(stores) => stores.of(settings),
            Self::Given(store) => Ok(Arc::clone(store)),
        }
    }
}

/// What one configuration amounts to. Requests hold on to the one that they began with.
pub(crate) struct Shared {
    pub(crate) apps: Vec<Arc<App>>,
    pub(crate) control: Handle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ends: SessionEnds,
    pub(crate) nonces: ApiNonces,
    pub(crate) unfinished: Unfinished,
    pub(crate) telemetry: Telemetry,
    /// Who may say for whom it asks.
    pub(crate) peers: TrustedPeers,
    /// The key ring that the agent of this process began with.
    memory_keys: Option<Arc<KeyRing>>,
    /// Tells configurations apart.
    pub(crate) number: u64,
}

/// One application.
pub(crate) struct App {
    /// Its position among the applications.
    pub(crate) index: usize,
    pub(crate) role: Role,
    /// One agent for each provider; none where this process only forwards.
    pub(crate) agents: Vec<Arc<Agent>>,
    pub(crate) rate_limits: RateLimits,
    /// Where its sessions, or what is known of ended ones, are kept beside cookies.
    pub(crate) store: Option<Arc<dyn SessionStore>>,
    /// Records that are being looked up, and how many sessions had ended when that began.
    pub(crate) look_ups: Arc<Coalesced<KnownSession, LookUpName>>,
}

/// What this process does for an application.
pub(crate) enum Role {
    /// Everything; this agent is the default provider's.
    Agent(Arc<Agent>),
    /// Forwards API calls, and that is all.
    Proxy(Box<ProxyHandler>),
}

/// What the agent of an application needs.
pub(crate) struct Agent {
    /// The application's position.
    pub(crate) index: usize,
    pub(crate) handler: Handler,
    pub(crate) provider: Provider,
    pub(crate) outage: Arc<Outage>,
    pub(crate) sign_ins: Arc<Flights<SignedIn>>,
    pub(crate) refreshes: Arc<Flights<Refreshed>>,
    /// Refreshes of stored sessions under way in this process.
    pub(crate) renewals: Arc<Coalesced<StoredSession>>,
    /// The same of sessions in cookies whose replicas share a store.
    pub(crate) shared_refreshes: Arc<Coalesced<Refresh>>,
    /// What was said of APIs without a token.
    pub(crate) missing_tokens: Arc<MissingTokens>,
    /// Tokens of the client's own.
    pub(crate) client_tokens: ClientTokens,
    /// What the provider said of access tokens.
    pub(crate) introspections: Arc<Introspections>,
}

/// Why a [`TokenHandler`] cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The client for a provider.
    #[error(transparent)]
    Provider(#[from] SetupError),
    /// The client for a session store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An application that did not come from a check.
    #[error(transparent)]
    Application(#[from] Error),
}

/// Collects what a [`TokenHandler`] is made of.
pub struct Builder {
    applications: Vec<Application>,
    keys: Keys,
    control: Option<Handle>,
    clock: Arc<dyn Clock>,
    peers: TrustedPeers,
    store: Option<Opened>,
}

/// Stores that were opened already.
enum Opened {
    One(Arc<dyn SessionStore>),
    Several(Arc<Stores>),
}

impl TokenHandler {
    /// Starts with checked applications and the keys of their cookies: a [`KeyRing`], or a
    /// [`ProxyRing`] for a process that only forwards API calls beside an agent elsewhere.
    pub fn builder(applications: Vec<Application>, keys: impl Into<Keys>) -> Builder {
        Builder {
            applications,
            keys: keys.into(),
            control: None,
            clock: Arc::new(SystemClock),
            peers: TrustedPeers::nobody(),
            store: None,
        }
    }

    /// The tower Layer.
    pub fn layer(&self) -> TokenHandlerLayer {
        TokenHandlerLayer::new(self.clone())
    }

    /// How each application's provider is doing, by application id; of several each one, by id and name
    /// as in `shop/corp`. Asking also makes one that is
    /// not ready be tried again, in the background and within its back-off.
    pub fn health(&self) -> Vec<(String, Health)> {
        self.try_providers(|_, _| {});
        self.current()
            .agents()
            .map(|agent| (agent.label(), agent.provider.health()))
            .collect()
    }

    /// Fetches every provider's metadata and keys in the background, so that the first sign-in
    /// does not wait for it. A provider that is down delays nothing.
    pub fn warm_up(&self) {
        self.try_providers(|application, error| {
            tracing::warn!(
                application,
                "{error}; nobody can sign in until it answers, it is tried again"
            );
        });
    }

    fn try_providers(&self, failed: fn(&str, &Error)) {
        let current = self.current();
        for agent in current.agents().filter(|agent| !agent.provider.health().ready) {
            let agent = Arc::clone(agent);
            current.control.spawn(async move {
                if let Err(error) = agent.provider.snapshot().await {
                    failed(&agent.label(), &error);
                }
            });
        }
    }

    /// Serves other applications, or the same ones with other settings, under other keys from now
    /// on. No request is dropped: those under way end as they began. What the process knows is taken
    /// over by application id: refreshes under way and their short memory, the ended sessions, the
    /// counters, and a provider's metadata and keys where its settings are the same.
    ///
    /// Sessions sealed under a key that is no longer in the ring are gone; keep the old key in the
    /// list, behind the new one, until the longest session is over.
    ///
    /// # Errors
    /// [`BuildError`] when a part cannot be set up; then everything stays as it was.
    pub fn reload(&self, applications: Vec<Application>, keys: impl Into<Keys>) -> Result<(), BuildError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let next = Shared::new(Parts {
            applications,
            keys: keys.into(),
            control: before.control.clone(),
            clock: before.clock.clone(),
            ends: before.ends.clone(),
            peers: before.peers.clone(),
            stores: &self.stores,
            before: Some(&before),
        })?;
        if let Opener::Settings(stores) = &*self.stores {
            let storages = next.apps.iter().map(|app| &app.application().session.storage);
            stores.retain(storages.filter_map(|storage| storage.settings()));
        }
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// The upstreams of every route.
    pub(crate) fn upstreams(&self) -> Vec<Arc<Upstreams>> {
        let current = self.current();
        let routes = current.apps.iter().flat_map(|app| &app.application().routes);
        routes
            .filter_map(|route| match &route.target {
                RouteTarget::Upstream(upstreams) => Some(Arc::clone(upstreams)),
                RouteTarget::Static(_) | RouteTarget::DevServer(_) | RouteTarget::Inner => None,
            })
            .collect()
    }

    /// Waits until what outlives its request is over: refreshes beside calls, sessions that are still
    /// to be removed from a store. For the end of a process, with a bound of its own.
    pub async fn finished(&self) {
        let unfinished = self.current().unfinished.clone();
        unfinished.finished().await;
    }

    /// How each store is doing; none where the applications have none, or one was given.
    pub fn store_health(&self) -> Vec<StoreHealth> {
        match &*self.stores {
            Opener::Settings(stores) => stores.health(),
            Opener::Given(_) => Vec::new(),
        }
    }

    /// What was asked of the stores, in the Prometheus text format.
    pub fn render_stores(&self, out: &mut String) {
        if let Opener::Settings(stores) = &*self.stores {
            stores.render(out);
        }
    }

    /// The counters of this process.
    pub fn telemetry(&self) -> Telemetry {
        self.current().telemetry.clone()
    }

    /// What the rate limits refused, in the Prometheus text format.
    pub fn render_rate_limits(&self, out: &mut String) {
        rate::render_head(out);
        for app in &self.current().apps {
            app.rate_limits.render(app.application(), out);
        }
    }

    /// The sessions that ended in this process, for sockets and streams.
    pub fn session_ends(&self) -> &SessionEnds {
        &self.ends
    }

    pub(crate) fn current(&self) -> Arc<Shared> {
        self.current.load_full()
    }
}

/// What a [`Shared`] is made of.
struct Parts<'a> {
    applications: Vec<Application>,
    keys: Keys,
    control: Handle,
    clock: Arc<dyn Clock>,
    ends: SessionEnds,
    peers: TrustedPeers,
    stores: &'a Opener,
    /// What was served until now.
    before: Option<&'a Shared>,
}

impl Shared {
    fn new(parts: Parts<'_>) -> Result<Self, BuildError> {
        let Parts {
            applications,
            keys,
            control,
            clock,
            ends,
            peers,
            stores,
            before,
        } = parts;
        let rate_limits = |application: &Application| {
            let known = before.and_then(|before| {
                let mut apps = before.apps.iter();
                apps.find(|app| app.application().id == application.id)
            });
            RateLimits::new(application, known.map(|app| &app.rate_limits))
        };
        let store_of = |application: &Application| {
            let settings = application.session.storage.settings();
            settings.map(|settings| stores.open(settings)).transpose()
        };
        let memory_keys = before.and_then(|before| before.memory_keys.clone());
        let applications = applications.into_iter().map(Arc::new).enumerate();
        let (apps, memory_keys) = match keys {
            Keys::Agent(keys) => {
                let memory_keys = memory_keys.unwrap_or_else(|| keys.clone());
                let apps = applications.map(|(index, application)| {
                    let rate_limits = rate_limits(&application);
                    let store = store_of(&application)?;
                    let agents = several::agents(index, &application, &keys, &memory_keys, before, &clock)?;
                    let default = several::default_of(&application, &agents)?;
                    Ok(Arc::new(App {
                        index,
                        role: Role::Agent(default),
                        agents,
                        rate_limits,
                        store,
                        look_ups: Arc::default(),
                    }))
                });
                (
                    apps.collect::<Result<Vec<_>, BuildError>>()?,
                    Some(memory_keys.clone()),
                )
            }
            Keys::Proxy(keys) => {
                let apps = applications.map(|(index, application)| {
                    let rate_limits = rate_limits(&application);
                    let store = store_of(&application)?;
                    let handler = ProxyHandler::new(application, keys.clone())?;
                    Ok(Arc::new(App {
                        index,
                        role: Role::Proxy(Box::new(handler)),
                        agents: Vec::new(),
                        rate_limits,
                        store,
                        look_ups: Arc::default(),
                    }))
                });
                (apps.collect::<Result<Vec<_>, BuildError>>()?, memory_keys)
            }
        };
        for (index, app) in apps.iter().enumerate() {
            let Some(store) = &app.store else { continue };
            let is_same = |other: &Arc<App>| {
                other
                    .store
                    .as_ref()
                    .is_some_and(|other| Arc::ptr_eq(other, store))
            };
            let known = before.is_some_and(|before| before.apps.iter().any(is_same));
            if !known && !apps.iter().take(index).any(is_same) {
                stored::follow(&control, store, ends.clone());
            }
        }
        let labels = apps.iter().map(|app| app.labels()).collect();
        let telemetry = match before {
            Some(before) => before.telemetry.relabelled(labels),
            None => Telemetry::new(labels),
        };
        Ok(Self {
            nonces: ApiNonces::new(apps.iter().map(|app| app.application().routes.len())),
            apps,
            control,
            clock,
            ends,
            unfinished: before.map(|before| before.unfinished.clone()).unwrap_or_default(),
            telemetry,
            peers,
            memory_keys,
            number: snapshot::next_number(),
        })
    }

    fn agents(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.apps.iter().flat_map(|app| &app.agents)
    }
}

impl Agent {
    /// An agent that takes over what the one before it knows.
    pub(crate) fn new(
        index: usize,
        handler: Handler,
        known: Option<&Self>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        let settings = handler.provider();
        // what a provider said counts as long as it is the same
        let (provider, outage, introspections) = match known {
            Some(known) if known.provider.is_for(settings) => (
                known.provider.clone(),
                known.outage.clone(),
                known.introspections.clone(),
            ),
            Some(known) => (
                known.provider.successor(settings)?,
                Arc::default(),
                Arc::default(),
            ),
            None => (
                Provider::new(settings, clock.clone())?,
                Arc::default(),
                Arc::default(),
            ),
        };
        let (sign_ins, refreshes) = match known {
            Some(known) => (known.sign_ins.clone(), known.refreshes.clone()),
            None => (Flights::new(), Flights::new()),
        };
        let (renewals, shared_refreshes) = match known {
            Some(known) => (known.renewals.clone(), known.shared_refreshes.clone()),
            None => (Arc::default(), Arc::default()),
        };
        let client_tokens = ClientTokens::new(&handler, known)?.counting_on(known);
        Ok(Self {
            index,
            handler,
            provider,
            outage,
            sign_ins,
            refreshes,
            renewals,
            shared_refreshes,
            missing_tokens: Arc::default(),
            client_tokens,
            introspections,
        })
    }

    pub(crate) fn id(&self) -> &str {
        self.handler.application().id.as_str()
    }
}

impl App {
    pub(crate) fn application(&self) -> &Arc<Application> {
        match &self.role {
            Role::Agent(agent) => agent.handler.application(),
            Role::Proxy(handler) => handler.application(),
        }
    }

    /// Decides about a call to a proxied route.
    pub(crate) fn api<H: Headers>(
        &self,
        route: &Route,
        head: &Head<'_, H>,
        now: UnixTime,
        memo: &mut AnchorMemo,
        known: Option<&KnownSession>,
    ) -> Result<Outcome<'_>, Error> {
        match &self.role {
            Role::Agent(agent) => agent.handler.api(route, head, now, memo, known),
            Role::Proxy(handler) => handler.api(route, head, now, memo, known),
        }
    }

    /// What the record, if there is one, says of the session that was looked up.
    pub(crate) fn know(&self, lookup: &Lookup, record: Option<&Record>, now: UnixTime) -> KnownSession {
        match &self.role {
            Role::Agent(agent) => agent.handler.know(lookup, record, now),
            Role::Proxy(handler) => handler.know(lookup, record, now),
        }
    }

    fn labels(&self) -> ApplicationLabels {
        let application = self.application();
        ApplicationLabels {
            id: application.id.as_str().to_owned(),
            routes: application
                .routes
                .iter()
                .map(|route| route.prefix.as_str().to_owned())
                .collect(),
        }
    }
}

impl Builder {
    /// The control runtime; default: the runtime that `build` is called on.
    #[must_use]
    pub fn runtime(mut self, control: Handle) -> Self {
        self.control = Some(control);
        self
    }

    /// Another clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// A store of your own, instead of those that the applications' settings name. It serves every
    /// application whose `session.storage` names a store, whichever.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn SessionStore>) -> Self {
        self.store = Some(Opened::One(store));
        self
    }

    /// Stores that are opened already, or shared with others; by default the handler has its own.
    #[must_use]
    pub fn stores(mut self, stores: Arc<Stores>) -> Self {
        self.store = Some(Opened::Several(stores));
        self
    }

    /// The peers that may say for whom they ask; by default nobody. A reload keeps them.
    #[must_use]
    pub fn trusted_peers(mut self, peers: TrustedPeers) -> Self {
        self.peers = peers;
        self
    }

    /// The token handler.
    ///
    /// # Errors
    /// [`BuildError`] when a part cannot be set up.
    ///
    /// # Panics
    /// Without a runtime: called outside of tokio and no [`runtime`](Self::runtime) given.
    pub fn build(self) -> Result<TokenHandler, BuildError> {
        let ends = SessionEnds::with_clock(Arc::clone(&self.clock));
        let stores = match self.store {
            Some(Opened::One(store)) => {
                let guarded = Guarded::new(
                    store,
                    "given",
                    coatroom_core::config::defaults::STORE_TIMEOUT,
                    Arc::clone(&self.clock),
                );
                Opener::Given(Arc::new(guarded))
            }
            Some(Opened::Several(stores)) => Opener::Settings(stores),
            None => Opener::Settings(Arc::new(Stores::new(Arc::clone(&self.clock)))),
        };
        let shared = Shared::new(Parts {
            applications: self.applications,
            keys: self.keys,
            control: self.control.unwrap_or_else(Handle::current),
            clock: self.clock,
            ends: ends.clone(),
            peers: self.peers,
            stores: &stores,
            before: None,
        })?;
        Ok(TokenHandler {
            current: Arc::new(ArcSwap::from_pointee(shared)),
            reloading: Arc::default(),
            ends,
            stores: Arc::new(stores),
        })
    }
}
