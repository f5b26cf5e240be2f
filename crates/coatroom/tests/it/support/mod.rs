//! The cast of the in-process tests: a scripted provider, a cookie-keeping browser, a manual clock.
//!
//! The service under test is the real Layer; only the provider listens (on loopback, because the
//! provider client speaks HTTP). Nothing here sleeps: time is an argument.

pub(crate) mod browser;
pub(crate) mod provider;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use coatroom::clock::{Clock as _, ManualClock};
use coatroom::{Matched, TokenHandler, TokenHandlerService};
use coatroom_core::config::{
    Application, ApplicationConfig, ProviderConfig, RateLimitConfig, RouteConfig, RouteTargetConfig,
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

/// One application in front of one API, with a scripted provider.
pub(crate) struct Rig {
    pub(crate) provider: ScriptedProvider,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) api: Api,
    pub(crate) handler: TokenHandler,
    pub(crate) service: TokenHandlerService<Api>,
}

impl Rig {
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
        Self::of(provider, clock, change)
    }

    /// Another process with the same keys, at the same provider.
    pub(crate) fn replica(&self) -> Self {
        Self::of(self.provider.clone(), self.clock.clone(), |_| {})
    }

    fn of(
        provider: ScriptedProvider,
        clock: Arc<ManualClock>,
        change: impl FnOnce(&mut ApplicationConfig),
    ) -> Self {
        let mut config = config(&provider.issuer);
        change(&mut config);
        let handler = TokenHandler::builder(vec![checked(config)], keys())
            .clock(clock.clone())
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
        }
    }

    /// An instance beside this agent that only forwards API calls.
    pub(crate) fn proxy_only(&self) -> Self {
        let mut config = config(&self.provider.issuer);
        config.provider = None;
        let keys = ProxyRing::new(vec![MasterKey::parse(OLD_KEY).expect("a good key").proxy_key()]);
        let handler = TokenHandler::builder(vec![checked(config)], keys.expect("one key is enough"))
            .clock(self.clock.clone())
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
        }
    }

    /// Moves the clock forward by seconds.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(std::time::Duration::from_secs(seconds));
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
