//! `TokenHandler`: the applications, their providers and keys, ready to be put in front of services.
//!
//! Built once per process on a tokio runtime of any flavour, the *control runtime*: everything
//! that talks to a provider runs there as a task of its own, so that a client that hangs up
//! cancels nothing. Cheap to clone.

use std::sync::Arc;

use coatroom_core::config::Application;
use coatroom_core::error::Error;
use coatroom_core::flow::{Refreshed, SignedIn};
use coatroom_core::handler::Handler;
use coatroom_core::seal::KeyRing;
use tokio::runtime::Handle;

use crate::clock::{Clock, SystemClock};
use crate::flights::Flights;
use crate::provider::{Health, Provider, SetupError};
use crate::service::TokenHandlerLayer;
use crate::session_end::SessionEnds;
use crate::telemetry::{ApplicationLabels, Telemetry};

/// The token handler of one process.
#[derive(Clone)]
pub struct TokenHandler {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) apps: Vec<Arc<App>>,
    pub(crate) control: Handle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ends: SessionEnds,
    pub(crate) telemetry: Telemetry,
}

/// One application with what its agent needs.
pub(crate) struct App {
    /// Its position among the applications.
    pub(crate) index: usize,
    pub(crate) handler: Handler,
    pub(crate) provider: Provider,
    pub(crate) sign_ins: Arc<Flights<SignedIn>>,
    pub(crate) refreshes: Arc<Flights<Refreshed>>,
}

/// Why a [`TokenHandler`] cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The client for a provider.
    #[error(transparent)]
    Provider(#[from] SetupError),
    /// An application that did not come from a check.
    #[error(transparent)]
    Application(#[from] Error),
}

/// Collects what a [`TokenHandler`] is made of.
pub struct Builder {
    applications: Vec<Application>,
    keys: KeyRing,
    control: Option<Handle>,
    clock: Arc<dyn Clock>,
}

impl TokenHandler {
    /// Starts with checked applications and the key ring that seals their cookies.
    pub fn builder(applications: Vec<Application>, keys: KeyRing) -> Builder {
        Builder {
            applications,
            keys,
            control: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// The tower Layer.
    pub fn layer(&self) -> TokenHandlerLayer {
        TokenHandlerLayer::new(self.clone())
    }

    /// How each application's provider is doing, by application id. Asking also makes one that is
    /// not ready be tried again, in the background and within its back-off.
    pub fn health(&self) -> Vec<(String, Health)> {
        self.try_providers(|_, _| {});
        self.shared
            .apps
            .iter()
            .map(|app| {
                (
                    app.handler.application().id.as_str().to_owned(),
                    app.provider.health(),
                )
            })
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
        for app in &self.shared.apps {
            if app.provider.health().ready {
                continue;
            }
            let app = Arc::clone(app);
            self.shared.control.spawn(async move {
                if let Err(error) = app.provider.snapshot().await {
                    failed(app.handler.application().id.as_str(), &error);
                }
            });
        }
    }

    /// The counters of this process.
    pub fn telemetry(&self) -> &Telemetry {
        &self.shared.telemetry
    }

    /// The sessions that ended in this process, for sockets and streams.
    pub fn session_ends(&self) -> &SessionEnds {
        &self.shared.ends
    }
}

impl App {
    fn labels(&self) -> ApplicationLabels {
        let application = self.handler.application();
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

    /// The token handler.
    ///
    /// # Errors
    /// [`BuildError`] when a part cannot be set up.
    ///
    /// # Panics
    /// Without a runtime: called outside of tokio and no [`runtime`](Self::runtime) given.
    pub fn build(self) -> Result<TokenHandler, BuildError> {
        let control = self.control.unwrap_or_else(Handle::current);
        let keys = Arc::new(self.keys);
        let apps = self
            .applications
            .into_iter()
            .enumerate()
            .map(|(index, application)| {
                let application = Arc::new(application);
                let provider = Provider::new(&application.provider, self.clock.clone())?;
                Ok(Arc::new(App {
                    index,
                    handler: Handler::new(application, keys.clone())?,
                    provider,
                    sign_ins: Flights::new(),
                    refreshes: Flights::new(),
                }))
            })
            .collect::<Result<Vec<_>, BuildError>>()?;
        let telemetry = Telemetry::new(apps.iter().map(|app| app.labels()).collect());
        let shared = Shared {
            apps,
            control,
            clock: self.clock,
            ends: SessionEnds::new(),
            telemetry,
        };
        Ok(TokenHandler {
            shared: Arc::new(shared),
        })
    }
}
