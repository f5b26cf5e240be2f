//! An application's configuration: raw values in, checked types out, every problem named.
//!
//! [`ApplicationConfig`] is what a person writes (in YAML or in code); [`ApplicationConfig::check`]
//! turns it into an [`Application`] or into the list of all [`Problem`]s at once. It never reads a
//! file or the environment: secrets arrive resolved.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use url::Url;

use crate::assurance::Demands;
use crate::oauth::DecryptionKey;
use crate::route::RoutePrefix;

mod addresses;
pub(crate) mod apis;
mod authorization;
mod check;
mod client_auth;
mod client_credentials;
mod compatibility;
pub mod defaults;
mod files;
mod habits;
mod hsts;
mod introspection;
mod limits;
mod plain;
mod policy;
mod preset;
mod profile;
mod provider;
mod routes;
mod several;
mod store;
mod tenants;
mod upstream;
mod written;

pub use addresses::is_loopback;
pub use apis::{Api, ApiCookie, ApiGrant, ApiId, ApiTarget, Apis, ExchangeConfig, RouteToken, TokenConfig};
pub use authorization::{
    Authorization, AuthorizationConfig, PushedRequests, RequestObjectConfig, ResponseMode,
};
pub use check::check_together;
pub use client_auth::{
    AssertionAudience, ClientAuth, ClientAuthConfig, ClientAuthMethod, ClientCertificate, PrivateKeyJwt,
    PrivateKeyJwtConfig, TlsMethod,
};
pub use client_credentials::{ClientCredentialsConfig, ClientGrant, is_same_client};
pub use compatibility::{AnonymousUser, Compatibility};
pub use files::{FileHeaders, FilesConfig, PolicyChoice};
pub use habits::{Habits, HabitsConfig, LogoutReturn};
pub use hsts::{Hsts, HstsConfig};
pub use introspection::{Introspection, IntrospectionConfig, IntrospectionResponse};
pub use limits::{
    AgentLimits, AgentLimitsConfig, LimitBy, RateLimit, RateLimitConfig, RouteLimit, RouteLimitConfig,
};
pub use plain::{Endpoints, EndpointsConfig, Plain, PlainConfig, User, UserConfig};
pub use policy::policy_weaknesses;
pub use preset::{Filled, Preset};
pub(crate) use profile::ALGORITHMS as FAPI2_ALGORITHMS;
pub use profile::Profile;
pub use provider::{DpopAlgorithm, Userinfo};
pub use several::ProviderName;
pub use store::{SessionStorage, StoreConfig, StoreKind, StoreSettings, StoreTransport};
pub use tenants::Tenants;
pub use upstream::{
    CallLimits, HealthCheck, HealthCheckConfig, PrivateKeyPem, UpstreamAddress, UpstreamConfig, UpstreamTls,
    UpstreamTlsConfig, Upstreams,
};
pub use written::{
    ApplicationConfig, Problem, ProviderConfig, RouteConfig, RouteTargetConfig, SessionConfig,
};

/// An application's id: `[a-z0-9]+`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppId(String);

/// A web origin (RFC 6454): scheme, host, port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

/// An application whose configuration passed every check.
#[derive(Clone)]
pub struct Application {
    /// The id.
    pub id: AppId,
    /// The public origin of agent and proxy.
    pub url: Origin,
    /// Where the SPA lives.
    pub app_url: Url,
    /// The SPA's origins.
    pub origins: Vec<Origin>,
    /// Every `Host` value that means this application: lower case, default port removed.
    pub hosts: Vec<String>,
    /// The agent's base path: starts with `/`, no trailing slash.
    pub base_path: String,
    /// Where the provider returns to.
    pub callback: Callback,
    /// The provider, of several the default; none for an instance that only forwards API calls.
    pub provider: Option<Arc<Provider>>,
    /// Every provider, in the order of the file.
    pub providers: Vec<Arc<Provider>>,
    /// Session limits.
    pub session: SessionLimits,
    /// The custom header.
    pub csrf_header: HeaderName,
    /// Whose endpoints are offered beside our own.
    pub compatibility: Option<Compatibility>,
    /// `Strict-Transport-Security`.
    pub hsts: Hsts,
    /// How often the agent may be called.
    pub rate_limits: AgentLimits,
    /// The routes, longest prefix first.
    pub routes: Vec<Route>,
    /// The APIs that get access tokens of their own.
    pub apis: Apis,
    /// What the client asks for in its own name, each once.
    pub client_grants: Vec<ClientGrant>,
}

/// Where the provider sends the user back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callback {
    /// The agent's own `callback` endpoint.
    Agent,
    /// A page of the SPA (absolute URL), which posts `login/end`.
    Spa(Url),
}

/// The provider, checked.
pub struct Provider {
    /// Its name, where the application gives names to its providers.
    pub name: Option<ProviderName>,
    /// The issuer, exactly as written: compared as a string.
    pub issuer: String,
    /// Our client id.
    pub client_id: String,
    /// How we prove that it is ours.
    pub client_auth: ClientAuth,
    /// What the provider's back channel is shown (RFC 8705), if anything.
    pub client_certificate: Option<ClientCertificate>,
    /// Whether access tokens are bound to it.
    pub certificate_bound_access_tokens: bool,
    /// The authorities that are trusted for the provider in place of the platform's, in PEM.
    pub ca: Option<String>,
    /// Scopes asked for, `openid` among them unless there are no ID tokens.
    pub scopes: Vec<String>,
    /// Fixed extra parameters.
    pub authorization_parameters: Vec<(String, String)>,
    /// Names the SPA may set beside the built-in ones.
    pub allowed_parameters: Vec<String>,
    /// How authorization requests are made, and how their answers come back.
    pub authorization: Authorization,
    /// Tolerated clock difference.
    pub leeway: Duration,
    /// Deadline of one request.
    pub timeout: Duration,
    /// Whether logout tokens may lack `exp`.
    pub logout_token_without_exp: bool,
    /// What this provider does and others don't.
    pub habits: Habits,
    /// Whether the tokens of sessions that begin now are bound to a key, and what it signs with.
    pub dpop: Option<DpopAlgorithm>,
    /// What all of it keeps to.
    pub profile: Profile,
    /// What ID tokens are encrypted to; none: they are not.
    pub id_token_decryption_keys: Vec<DecryptionKey>,
    /// Whether userinfo is asked for claims.
    pub userinfo: Userinfo,
    /// What there is in place of ID tokens; none: it is an OpenID Provider.
    pub plain: Option<Plain>,
}

/// Session limits, checked. Its storage may hold a password: no `Debug`.
#[derive(Clone)]
pub struct SessionLimits {
    /// Idle limit.
    pub idle: Duration,
    /// Absolute limit.
    pub absolute: Duration,
    /// Token life where the provider does not say.
    pub default_token_life: Duration,
    /// Claims that `session` answers, if restricted.
    pub claims: Option<Vec<String>>,
    /// Where sessions are kept.
    pub storage: SessionStorage,
}

/// One route, checked.
#[derive(Clone, Debug)]
pub struct Route {
    /// The prefix, normalised.
    pub prefix: RoutePrefix,
    /// Where it goes.
    pub target: RouteTarget,
    /// Whether the prefix is removed.
    pub strip_prefix: bool,
    /// Who may call it.
    pub auth: Auth,
    /// The token that its calls carry in place of the session's.
    pub token: Option<RouteToken>,
    /// The token of the client's own that its calls carry, by its position in `client_grants`; only with
    /// [`Auth::None`].
    pub client_grant: Option<usize>,
    /// What the provider is asked about that token before a call passes.
    pub introspection: Option<Arc<Introspection>>,
    /// The methods it takes, if restricted.
    pub methods: Option<Vec<Method>>,
    /// Fetch Metadata instead of the custom header for `GET`/`HEAD`.
    pub resources: bool,
    /// Whether shared caches may keep answers to token requests.
    pub cache_public: bool,
    /// Cookies passed on.
    pub cookies: Vec<String>,
    /// Longest request body.
    pub body_limit: u64,
    /// Connect deadline.
    pub connect_timeout: Duration,
    /// Response-head deadline.
    pub timeout: Duration,
    /// What its calls are allowed beyond that.
    pub limits: CallLimits,
    /// What the API takes for its own address, if that is another than the upstream's.
    pub public_url: Option<Url>,
    /// How often it may be called.
    pub rate_limit: Option<RouteLimit>,
    /// What it demands of a session beyond being there.
    pub demands: Option<Arc<Demands>>,
    /// Whether the upstream also gets `Forwarded`.
    pub forwarded: bool,
    /// What the files of a static route are answered with.
    pub files: FileHeaders,
}

/// Whether an upstream is spoken to in HTTP/2 (RFC 9113 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// Over TLS, where the upstream agrees by ALPN; HTTP/1.1 in the clear.
    #[default]
    Negotiated,
    /// And in nothing else: in the clear with prior knowledge.
    Always,
    /// HTTP/1.1 only.
    Never,
}

/// Where a route goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// An API, in one place or several.
    Upstream(Arc<Upstreams>),
    /// A folder.
    Static(PathBuf),
    /// A development server: an origin on loopback.
    DevServer(Url),
    /// The service that the Layer wraps.
    Inner,
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A session is needed.
    Required,
    /// With a session the token is attached; without one the call is anonymous.
    Optional,
    /// No credential is ever attached.
    None,
    /// A client's own access token is passed on, unverified, and no cookie is looked at.
    Bearer,
}

impl AppId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks an id.
    pub fn parse(id: &str) -> Option<Self> {
        let good = !id.is_empty()
            && id.len() <= 32
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        good.then(|| Self(id.to_owned()))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Configurations for tests of every module.

    use super::*;
    use crate::secret::Secret;

    /// The smallest useful application, with an API and static files.
    pub(crate) fn config() -> ApplicationConfig {
        ApplicationConfig {
            id: "shop".to_owned(),
            url: "https://shop.example.com".to_owned(),
            app_url: None,
            origins: None,
            hosts: Vec::new(),
            base_path: None,
            login_callback: None,
            provider: Some(ProviderConfig::new(
                "https://login.example.com",
                "shop",
                Secret::new("hush"),
            )),
            providers: None,
            default_provider: None,
            session: SessionConfig::default(),
            csrf_header: None,
            compatibility: None,
            rate_limits: AgentLimitsConfig::default(),
            routes: vec![
                upstream("/api/", "http://127.0.0.1:5000", None),
                files("/", "./dist"),
            ],
            hsts: HstsConfig::default(),
            danger_insecure_http: false,
        }
    }

    /// The same with the SPA on a sibling origin.
    pub(crate) fn sibling() -> ApplicationConfig {
        ApplicationConfig {
            app_url: Some("https://www.example.com".to_owned()),
            ..config()
        }
    }

    /// A route to an upstream.
    pub(crate) fn upstream(path: &str, url: &str, auth: Option<&str>) -> RouteConfig {
        RouteConfig {
            path: path.to_owned(),
            target: RouteTargetConfig::Upstream(url.to_owned()),
            strip_prefix: false,
            auth: auth.map(str::to_owned),
            token: None,
            methods: None,
            resources: false,
            cache: None,
            cookies: Vec::new(),
            body_limit: None,
            connect_timeout: None,
            timeout: None,
            upstream: UpstreamConfig::default(),
            public_url: None,
            rate_limit: None,
            forwarded: false,
            require: None,
            files: FilesConfig::default(),
        }
    }

    /// A route to files.
    pub(crate) fn files(path: &str, folder: &str) -> RouteConfig {
        RouteConfig {
            target: RouteTargetConfig::Static(folder.into()),
            ..upstream(path, "", None)
        }
    }

    /// A route to a development server.
    pub(crate) fn dev_server(path: &str, url: &str) -> RouteConfig {
        RouteConfig {
            target: RouteTargetConfig::DevServer(url.to_owned()),
            ..upstream(path, "", None)
        }
    }

    /// The application, which must be free of problems.
    pub(crate) fn checked(config: ApplicationConfig) -> Application {
        match config.check() {
            Ok(application) => application,
            Err(problems) => panic!("{problems:#?}"),
        }
    }
}
