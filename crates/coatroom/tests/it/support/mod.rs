//! The cast of the in-process tests: a scripted provider, a cookie-keeping browser, a manual clock.
//!
//! The service under test is the real Layer; only the provider listens (on loopback, because the
//! provider client speaks HTTP). Nothing here sleeps: time is an argument.

pub(crate) mod browser;
pub(crate) mod contract;
pub(crate) mod dpop;
pub(crate) mod faulty_store;
#[cfg(feature = "postgres")]
pub(crate) mod postgres_server;
pub(crate) mod provider;
#[cfg(feature = "redis")]
pub(crate) mod redis_server;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use coatroom::clock::{Clock as _, ManualClock};
use coatroom::store::SessionStore;
use coatroom::store::memory::MemoryStore;
use coatroom::{Matched, TokenHandler, TokenHandlerService};
use coatroom_core::config::{
    Application, ApplicationConfig, ProviderConfig, RateLimitConfig, RouteConfig, RouteTargetConfig,
    SessionStorage, StoreConfig, StoreSettings,
};
use coatroom_core::seal::{KeyRing, MasterKey, ProxyRing};
use coatroom_core::secret::Secret;
use coatroom_core::time::UnixTime;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer as _, Service};

use self::provider::ScriptedProvider;

/// When every test begins.
pub(crate) const START: UnixTime = UnixTime(1_800_000_000);

/// The client secret of every test; must never show up in a log or an answer.
pub(crate) const CLIENT_SECRET: &str = "canary-client-secret";

/// The API behind the proxy: records what it got, answers what the test wants.
#[derive(Clone, Default)]
pub(crate) struct Api {
    pub(crate) seen: Arc<Mutex<Vec<http::request::Parts>>>,
    pub(crate) answer: Arc<Mutex<Vec<(http::HeaderName, http::HeaderValue)>>>,
}

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let (parts, _) = request.into_parts();
        assert!(
            parts.extensions.get::<Matched>().is_some(),
            "the Layer names the route"
        );
        self.seen.lock().expect("no test panicked here").push(parts);
        let mut response = Response::new(Full::from("{\"from\":\"api\"}"));
        for (name, value) in self.answer.lock().expect("no test panicked here").iter() {
            response.headers_mut().append(name.clone(), value.clone());
        }
        ready(Ok(response))
    }
}

impl Api {
    /// The last request that it got.
    pub(crate) fn last(&self) -> Request<()> {
        let mut seen = self.seen.lock().expect("no test panicked here");
        Request::from_parts(seen.pop().expect("it got one"), ())
    }
}

/// One application in front of one API, with a scripted provider.
pub(crate) struct Rig {
    pub(crate) provider: ScriptedProvider,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) api: Api,
    pub(crate) handler: TokenHandler,
    pub(crate) service: TokenHandlerService<Api>,
    /// What replicas share, whether or not the application uses it.
    pub(crate) store: Arc<dyn SessionStore>,
    storage: SessionStorage,
}

impl Rig {
    /// The usual application, with its sessions in a store.
    pub(crate) async fn stored() -> Self {
        Self::kept_in(SessionStorage::Store(Box::new(store_settings()))).await
    }

    /// The usual application, with its sessions in cookies and their ends in a store.
    pub(crate) async fn with_revocations() -> Self {
        Self::kept_in(SessionStorage::CookieWithRevocations(Box::new(store_settings()))).await
    }

    async fn kept_in(storage: SessionStorage) -> Self {
        let provider = ScriptedProvider::start().await;
        let clock = Arc::new(ManualClock::new(START));
        provider.set_clock(clock.clone());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Self::of(provider, clock, store, storage, |_| {})
    }

    /// Another process with the same keys and other settings, at the same provider and store.
    pub(crate) fn replica_with(
        &self,
        storage: SessionStorage,
        change: impl FnOnce(&mut ApplicationConfig),
    ) -> Self {
        let (provider, clock) = (self.provider.clone(), self.clock.clone());
        Self::of(provider, clock, self.store.clone(), storage, change)
    }

    /// Where its sessions are.
    pub(crate) fn storage(&self) -> SessionStorage {
        self.storage.clone()
    }

    /// The same with something between the service and its store.
    pub(crate) fn behind(&self, store: Arc<dyn SessionStore>) -> Self {
        let (provider, clock) = (self.provider.clone(), self.clock.clone());
        Self::of(provider, clock, store, self.storage.clone(), |_| {})
    }

    /// The same with other settings as well.
    pub(crate) fn replica_behind(
        &self,
        store: Arc<dyn SessionStore>,
        change: impl FnOnce(&mut ApplicationConfig),
    ) -> Self {
        let (provider, clock) = (self.provider.clone(), self.clock.clone());
        Self::of(provider, clock, store, self.storage.clone(), change)
    }

    /// The usual application.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The usual application, for thousands of calls of one session in no time.
    pub(crate) async fn unlimited() -> Self {
        Self::with(|config| {
            config.rate_limits.session = Some(RateLimitConfig {
                requests: 1_000_000,
                per: std::time::Duration::from_millis(1),
                burst: None,
            });
        })
        .await
    }

    /// The usual application, changed.
    pub(crate) async fn with(change: impl FnOnce(&mut ApplicationConfig)) -> Self {
        let provider = ScriptedProvider::start().await;
        let clock = Arc::new(ManualClock::new(START));
        provider.set_clock(clock.clone());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Self::of(provider, clock, store, SessionStorage::Cookie, change)
    }

    /// Another process with the same keys, at the same provider.
    pub(crate) fn replica(&self) -> Self {
        self.behind(self.store.clone())
    }

    fn of(
        provider: ScriptedProvider,
        clock: Arc<ManualClock>,
        store: Arc<dyn SessionStore>,
        storage: SessionStorage,
        change: impl FnOnce(&mut ApplicationConfig),
    ) -> Self {
        let mut config = config(&provider.issuer);
        config.session.storage = storage.clone();
        change(&mut config);
        let handler = TokenHandler::builder(vec![checked(config)], keys())
            .clock(clock.clone())
            .store(store.clone())
            .build()
            .expect("the handler builds");
        let api = Api::default();
        let service = handler.layer().layer(api.clone());
        Self {
            provider,
            clock,
            api,
            handler,
            service,
            store,
            storage,
        }
    }

    /// An instance beside this agent that only forwards API calls.
    pub(crate) fn proxy_only(&self) -> Self {
        self.proxy_only_with(|_| {})
    }

    /// The same with other settings.
    pub(crate) fn proxy_only_with(&self, change: impl FnOnce(&mut ApplicationConfig)) -> Self {
        let mut config = config(&self.provider.issuer);
        config.provider = None;
        config.session.storage = self.storage.clone();
        change(&mut config);
        let keys = ProxyRing::new(vec![MasterKey::parse(OLD_KEY).expect("a good key").proxy_key()]);
        let handler = TokenHandler::builder(vec![checked(config)], keys.expect("one key is enough"))
            .clock(self.clock.clone())
            .store(self.store.clone())
            .build()
            .expect("the handler builds");
        let api = Api::default();
        let service = handler.layer().layer(api.clone());
        Self {
            provider: self.provider.clone(),
            clock: self.clock.clone(),
            api,
            handler,
            service,
            store: self.store.clone(),
            storage: self.storage.clone(),
        }
    }

    /// Moves the clock forward by seconds.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(std::time::Duration::from_secs(seconds));
    }

    /// Waits for something that happens beside an answer; the test fails if it does not.
    pub(crate) async fn until(&self, is_so: impl Fn() -> bool) {
        for _ in 0..5_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("it did not happen within five seconds");
    }

    /// Lets what was begun beside an answer go on, as far as it waits for nobody outside.
    pub(crate) async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// What time it is, in seconds.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().0
    }

    /// A fresh browser.
    pub(crate) fn browser(&self) -> browser::Browser {
        browser::Browser::new(self.service.clone(), self.clock.clone())
    }

    /// A browser that signed in by `login/start` and `callback`.
    pub(crate) async fn signed_in(&self) -> browser::Browser {
        let mut browser = self.browser();
        browser.sign_in(&self.provider, "alice").await;
        browser
    }
}

/// Settings of a store that is given: nobody looks at them.
pub(crate) fn store_settings() -> StoreSettings {
    StoreConfig::new(Secret::new("redis://127.0.0.1:6379"))
        .check()
        .expect("good settings")
}

/// A key ring that is the same in every test.
pub(crate) fn keys() -> KeyRing {
    ring(&[OLD_KEY])
}

/// A ring of key files, the first one seals.
pub(crate) fn ring(texts: &[&str]) -> KeyRing {
    let keys = texts
        .iter()
        .map(|text| MasterKey::parse(text).expect("a good key"));
    KeyRing::new(keys.collect()).expect("good keys")
}

/// The key of every test.
pub(crate) const OLD_KEY: &str = "coatroom-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// The key that takes its place.
pub(crate) const NEW_KEY: &str = "coatroom-key-1:__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA";

/// The usual application as written.
pub(crate) fn config(issuer: &str) -> ApplicationConfig {
    let mut provider = ProviderConfig::new(issuer, "shop", Secret::new(CLIENT_SECRET));
    provider.scopes = Some(vec!["openid".to_owned(), "profile".to_owned()]);
    ApplicationConfig::new("shop", "https://shop.example", provider)
        .route(RouteConfig {
            strip_prefix: true,
            ..route("/api/")
        })
        .route(RouteConfig {
            auth: Some("optional".to_owned()),
            ..route("/maybe/")
        })
        .route(RouteConfig {
            auth: Some("none".to_owned()),
            ..route("/public/")
        })
        .route(RouteConfig {
            resources: true,
            ..route("/media/")
        })
}

/// The provider of a test's configuration.
pub(crate) fn provider_of(config: &mut ApplicationConfig) -> &mut ProviderConfig {
    config.provider.as_mut().expect("the usual application has one")
}

/// A route to the wrapped service.
pub(crate) fn route(path: &str) -> RouteConfig {
    RouteConfig::new(path, RouteTargetConfig::Inner)
}

/// The checked application; a test's configuration has no problems.
pub(crate) fn checked(config: ApplicationConfig) -> Application {
    match config.check() {
        Ok(application) => application,
        Err(problems) => panic!("the test's configuration is wrong: {problems:?}"),
    }
}
