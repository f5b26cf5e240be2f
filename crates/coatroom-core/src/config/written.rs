//! An application as a person writes it, before anything of it is checked.
//!
//! Public fields, defaults for all that may be left out, and no meaning: that is what
//! [`ApplicationConfig::check`] gives it.

use std::path::PathBuf;
use std::time::Duration;

use super::{
    AgentLimitsConfig, AuthorizationConfig, ClientAuthConfig, ClientCertificate, FilesConfig, HabitsConfig,
    HstsConfig, PlainConfig, PrivateKeyPem, RouteLimitConfig, SessionStorage, TokenConfig, UpstreamConfig,
};
use crate::assurance::DemandsConfig;
use crate::secret::Secret;

/// One application as written.
#[derive(Clone)]
pub struct ApplicationConfig {
    /// The application's id: `[a-z0-9]+`, part of its cookies' names.
    pub id: String,
    /// The public origin of agent and proxy.
    pub url: String,
    /// Where the SPA lives; default: `url`.
    pub app_url: Option<String>,
    /// The SPA's origins (CORS); default: `app_url`'s.
    pub origins: Option<Vec<String>>,
    /// Further exact `Host` values by which this application is reached internally.
    pub hosts: Vec<String>,
    /// The agent's base path; default `/auth`.
    pub base_path: Option<String>,
    /// Where the provider returns to: `agent` (default) or the path of an SPA page.
    pub login_callback: Option<String>,
    /// The OpenID Provider; none for an instance that only forwards API calls.
    pub provider: Option<ProviderConfig>,
    /// Several of them by name, in place of `provider`: who signs in chooses.
    pub providers: Option<Vec<(String, ProviderConfig)>>,
    /// Which of several is meant where nobody says; default: the first.
    pub default_provider: Option<String>,
    /// The session's limits.
    pub session: SessionConfig,
    /// The custom header every `fetch` carries; default `token-handler-version`.
    pub csrf_header: Option<String>,
    /// Whose endpoints are offered beside our own: `duende` or `duende-200`; default nobody's.
    pub compatibility: Option<String>,
    /// How often the agent may be called; default: an office of some hundreds behind one address.
    pub rate_limits: AgentLimitsConfig,
    /// Routes by path prefix.
    pub routes: Vec<RouteConfig>,
    /// `Strict-Transport-Security`; default: written where `url` is `https` and not on loopback.
    pub hsts: HstsConfig,
    /// Allows an `http://` url off loopback. Everything can be read on the way.
    pub danger_insecure_http: bool,
}

/// The OpenID Provider as written.
#[derive(Clone)]
pub struct ProviderConfig {
    /// The issuer identifier, exactly as the provider's metadata says it.
    pub issuer: String,
    /// This client's id at the provider.
    pub client_id: String,
    /// The client secret, resolved; none where `client_auth` needs none.
    pub client_secret: Option<Secret>,
    /// How this client authenticates; default: with the secret, as the metadata offers,
    /// `client_secret_basic` first.
    pub client_auth: ClientAuthConfig,
    /// The certificate that the provider's back channel is shown (RFC 8705).
    pub client_certificate: Option<ClientCertificate>,
    /// Whether access tokens are bound to that certificate (RFC 8705 §3); then APIs are shown it, too.
    pub certificate_bound_access_tokens: bool,
    /// The authorities that are trusted for the provider, in PEM, in place of the platform's.
    pub ca: Option<String>,
    /// The scopes asked for; default `openid`. `openid` must be among them.
    pub scopes: Option<Vec<String>>,
    /// Fixed extra authorization parameters, such as `audience`.
    pub authorization_parameters: Vec<(String, String)>,
    /// Further authorization parameters the SPA may set, beside the built-in allow-list.
    pub allowed_parameters: Vec<String>,
    /// How authorization requests are made, and how their answers come back.
    pub authorization: AuthorizationConfig,
    /// Tolerated clock difference for token times; default 10 s.
    pub leeway: Option<Duration>,
    /// Deadline of one request to the provider; default 10 s.
    pub timeout: Option<Duration>,
    /// Takes logout tokens without `exp`, for providers that send none; default no.
    pub logout_token_without_exp: bool,
    /// What this provider does and others don't; default nothing.
    pub habits: HabitsConfig,
    /// The private keys that ID tokens are encrypted to (RFC 7516); default: they are not encrypted.
    pub id_token_decryption_keys: Vec<PrivateKeyPem>,
    /// Whether userinfo is asked for claims: `never` (default) or `always`.
    pub userinfo: Option<String>,
    /// A profile that fills in what it wants and refuses what contradicts it: `fapi2` or
    /// `fapi2-message-signing`; default none.
    pub profile: Option<String>,
    /// Binds each session's tokens to a key of its own (RFC 9449), which signs with this algorithm:
    /// `ES256` or `EdDSA`; default: they are bearer tokens.
    pub dpop: Option<String>,
    /// What there is in place of ID tokens, where it is a provider of plain OAuth 2.0.
    pub plain: PlainConfig,
}

/// Session limits as written.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SessionConfig {
    /// Ends after this long without use; default 30 min.
    pub idle: Option<Duration>,
    /// Ends this long after sign-in; default 12 h.
    pub absolute: Option<Duration>,
    /// Access-token life when the provider sends no `expires_in`; default 5 min.
    pub default_token_life: Option<Duration>,
    /// Which ID-token claims `session` answers; default: all but the protocol's own.
    pub claims: Option<Vec<String>>,
    /// Where sessions are kept, checked by [`StoreConfig::check`]; default: in cookies.
    pub storage: SessionStorage,
}

/// One route as written.
#[derive(Clone)]
pub struct RouteConfig {
    /// The path prefix, such as `/api/`.
    pub path: String,
    /// Where it goes.
    pub target: RouteTargetConfig,
    /// Whether the prefix is removed before forwarding.
    pub strip_prefix: bool,
    /// `required` (default), `optional`, `none` or `bearer`.
    pub auth: Option<String>,
    /// What its API's access tokens are for; default: calls carry the session's own token.
    pub token: Option<TokenConfig>,
    /// The methods it takes; default: all but CONNECT and TRACE.
    pub methods: Option<Vec<String>>,
    /// Lets `GET`/`HEAD` pass on Fetch Metadata instead of the custom header (`<img>`, downloads).
    pub resources: bool,
    /// `private` (default) or `public`: whether a shared cache may keep answers to token requests.
    pub cache: Option<String>,
    /// Names of cookies passed on to the upstream; default none.
    pub cookies: Vec<String>,
    /// The longest request body, in bytes; default 10 MiB.
    pub body_limit: Option<u64>,
    /// Deadline for the connection to the upstream; default 5 s.
    pub connect_timeout: Option<Duration>,
    /// Deadline for the upstream's response head; default 60 s.
    pub timeout: Option<Duration>,
    /// How the upstream is reached, and what its calls are allowed.
    pub upstream: UpstreamConfig,
    /// What the API takes for its own address, in place of that in `target`: for proofs of possession.
    pub public_url: Option<String>,
    /// How often it may be called; default: no limit.
    pub rate_limit: Option<RouteLimitConfig>,
    /// Whether the upstream also gets `Forwarded` (RFC 7239), beside `X-Forwarded-*`.
    pub forwarded: bool,
    /// What it demands of a session beyond being there (RFC 9470); default: nothing.
    pub require: Option<DemandsConfig>,
    /// What the files of a static route are answered with.
    pub files: FilesConfig,
}

/// A route's target as written.
#[derive(Clone)]
pub enum RouteTargetConfig {
    /// An API: its origin, optionally with a base path, or `unix:` and the path of a socket.
    Upstream(String),
    /// The same in several places: calls are balanced over them.
    Upstreams(Vec<String>),
    /// A folder with the SPA's files.
    Static(PathBuf),
    /// A development server's origin, on loopback.
    DevServer(String),
    /// The service that the Layer wraps (embedders).
    Inner,
}

/// Something wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key path below the application, such as `provider`, `issuer`.
    pub at: Vec<String>,
    /// What is wrong: what was expected and what came. Never a secret.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl ApplicationConfig {
    /// An application with every setting at its default and no route yet.
    pub fn new(id: impl Into<String>, url: impl Into<String>, provider: ProviderConfig) -> Self {
        Self {
            provider: Some(provider),
            ..Self::proxy(id, url)
        }
    }

    /// The same for an instance that only forwards API calls: no provider, no sign-in.
    pub fn proxy(id: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            url: url.into(),
            app_url: None,
            origins: None,
            hosts: Vec::new(),
            base_path: None,
            login_callback: None,
            provider: None,
            providers: None,
            default_provider: None,
            session: SessionConfig::default(),
            csrf_header: None,
            compatibility: None,
            rate_limits: AgentLimitsConfig::default(),
            routes: Vec::new(),
            hsts: HstsConfig::default(),
            danger_insecure_http: false,
        }
    }

    /// Adds a route.
    #[must_use]
    pub fn route(mut self, route: RouteConfig) -> Self {
        self.routes.push(route);
        self
    }
}

impl ProviderConfig {
    /// A provider with every setting at its default.
    pub fn new(issuer: impl Into<String>, client_id: impl Into<String>, client_secret: Secret) -> Self {
        Self {
            issuer: issuer.into(),
            client_id: client_id.into(),
            client_secret: Some(client_secret),
            client_auth: ClientAuthConfig::default(),
            client_certificate: None,
            certificate_bound_access_tokens: false,
            ca: None,
            scopes: None,
            authorization_parameters: Vec::new(),
            allowed_parameters: Vec::new(),
            authorization: AuthorizationConfig::default(),
            leeway: None,
            timeout: None,
            logout_token_without_exp: false,
            habits: HabitsConfig::default(),
            dpop: None,
            id_token_decryption_keys: Vec::new(),
            userinfo: None,
            profile: None,
            plain: PlainConfig::default(),
        }
    }
}

impl RouteConfig {
    /// A route with every setting at its default: a session is required.
    pub fn new(path: impl Into<String>, target: RouteTargetConfig) -> Self {
        Self {
            path: path.into(),
            target,
            strip_prefix: false,
            auth: None,
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
}
