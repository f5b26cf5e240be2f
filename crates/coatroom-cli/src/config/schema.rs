//! The configuration file as written: one type for each mapping, one field for each key.
//!
//! Unknown keys are refused everywhere, and so is a documented key that this build does not have:
//! a key that is accepted and ignored would be a lie. Values are checked by `application.rs` and the
//! core; here is only their shape.
//!
//! The comments of the fields are for users: the JSON Schema and the reference page are made from
//! them (`json_schema.rs`, `reference.rs`), and a last sentence `Default: …` is what a key means when
//! it is not there and no constant can say it. Every other default is a constant that the code uses.

use std::path::PathBuf;

use coatroom_core::config::defaults;
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use demands::Require;
pub(crate) use habits::{PresetSetting, ProviderLogout};
pub(crate) use limits::{
    BODY_TIMEOUT, Connections, MOST_CONNECTIONS, PeerHeader, RateLimit, RateLimits, RouteLimit, WRITE_TIMEOUT,
};
pub(crate) use log::{Format, Log};
pub(crate) use plain::{Endpoints, Protocol, User, config as plain};
pub(crate) use session::Session;
pub(crate) use token::{ClientCredentials, RouteToken, TokenExchange, TokenIntrospection};

use super::authorization::{Claims, ProfileSetting, PushedRequests, RequestObjectSetting, ResponseMode};
use super::client_auth::ClientAuthSetting;
use super::schema_dpop::DpopSetting;
use super::schema_tls::{Certificate, HstsSetting, TlsSetting};
use super::secret::Reference;
use super::store::StoreSetting;
use super::tokens::Userinfo;
use super::upstream::{Addresses, HealthCheck, UpstreamTls};
use super::values::{
    Interval, Listen, Mode, Named, NotYet, Size, WholeSeconds, Written, shown, size_shown, written,
};

mod demands;
mod habits;
mod limits;
mod log;
mod plain;
mod session;
mod token;

/// A Coatroom configuration file.
///
/// Durations are whole numbers with units, the larger first: `30m`, `12h`, `1h30m`, `1500ms`.
/// Relative paths start at the folder of the file. Secrets are references, never values.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The public listener, for browsers or the TLS terminator in front: an IP address and a port, or
    /// `unix:` and the path of a socket. `localhost:PORT` is `127.0.0.1:PORT`. `systemd` is every socket
    /// that systemd passes and `admin` does not name, `systemd:NAME` the ones of that name.
    #[schemars(extend("default" = Listen::PUBLIC.to_string()))]
    pub(crate) listen: Option<Listen>,
    /// The admin listener: health, readiness, metrics. On this machine only (loopback or a Unix
    /// socket), unless `danger_public_admin` says otherwise. `systemd:NAME` is a socket that systemd
    /// passes.
    #[schemars(extend("default" = Listen::ADMIN.to_string()))]
    pub(crate) admin: Option<Listen>,
    /// Allows an admin listener that other machines reach. It has no password, and tells everybody who
    /// reaches it how the service fares.
    #[serde(default)]
    pub(crate) danger_public_admin: bool,
    /// TLS on the public listener. Without it the listener speaks plain HTTP, which is right behind a
    /// TLS terminator. Default: none.
    pub(crate) tls: Option<TlsSetting>,
    /// The proxies in front, by the addresses they connect from: addresses, ranges such as `10.0.0.0/8`,
    /// and `unix` for whoever connects to a Unix socket. Only they are believed when they say which
    /// client they ask for. Default: nobody.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "pattern": r"^(unix|[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/[0-9]{1,3})?)$"}))]
    pub(crate) trusted_peers: Vec<String>,
    /// The one header in which they say it, read from right to left up to the first address that is not
    /// listed. The other one is ignored: a proxy passes it on as the client sent it.
    #[schemars(extend("default" = PeerHeader::XForwardedFor.as_str()))]
    pub(crate) peer_header: Option<PeerHeader>,
    /// Whether each connection to `listen` begins with a PROXY protocol header, version 2. Then one
    /// without it, or from a peer that is not in `trusted_peers`, is closed.
    #[serde(default)]
    pub(crate) proxy_protocol: bool,
    /// What connections to `listen` may cost.
    #[serde(default)]
    pub(crate) connections: Connections,
    /// The permissions of the Unix socket that `listen` makes, in octal: whoever may write to it may
    /// connect. Default: what the process' umask leaves of `777`.
    pub(crate) unix_mode: Option<Mode>,
    /// The path of a Unix socket at which the next process of this user gets the listening sockets:
    /// one that is started beside this one then takes its place without losing a connection. Relative
    /// to the folder of the file. Default: none.
    #[schemars(extend("minLength" = 1))]
    pub(crate) handover: Option<PathBuf>,
    /// The keys that seal cookies: the first seals, every one opens. `coatroom keygen` makes one.
    #[schemars(extend("minItems" = 1))]
    pub(crate) keys: Vec<Reference>,
    /// The applications, by id. An id is 1 to 32 of `a-z` and `0-9` and part of the cookies' names, so
    /// changing it signs everybody out. Applications of one process are isolated from each other, and
    /// each has an origin of its own.
    #[schemars(extend("minProperties" = 1, "propertyNames" = {"pattern": "^[a-z0-9]{1,32}$"}))]
    pub(crate) apps: Named<App>,
    /// The log, on standard error.
    #[serde(default)]
    pub(crate) log: Log,
    /// How many data cores serve requests. Default: one for each core of the machine.
    #[schemars(range(min = 1, max = MAX_WORKERS))]
    pub(crate) workers: Option<u16>,
    /// How many processes share these keys and serve these applications. It changes no behaviour: with
    /// more than one, `check` and `serve` say what sessions in cookies can lose then.
    #[schemars(range(min = 1, max = MAX_REPLICAS), extend("default" = DEFAULT_REPLICAS))]
    pub(crate) replicas: Option<u16>,
    #[serde(rename = "forward_auth")]
    #[schemars(skip)]
    _forward_auth: Option<NotYet>,
}

/// One application: an SPA, its OpenID Provider, its APIs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    /// The public origin of agent and proxy as browsers see it: scheme, host, perhaps a port, no path.
    /// `https`, on loopback also `http`.
    #[schemars(
        regex(pattern = r"^https?://[^/?#@\s]+/?$"),
        example = "https://shop.example.com"
    )]
    pub(crate) url: String,
    /// Where the SPA lives, if that is elsewhere; may have a path. Default: `url`.
    #[schemars(regex(pattern = r"^https?://[^?#@\s]+$"))]
    pub(crate) app_url: Option<String>,
    /// The exact origins of the SPA, for CORS and return URLs; that of `app_url` must be among them.
    /// No wildcards. Default: the origin of `app_url`.
    #[schemars(extend("items" = {"type": "string", "pattern": r"^https?://[^/?#@\s]+$"}))]
    pub(crate) origins: Option<Vec<String>>,
    /// Further exact `Host` values by which this application is reached, for internal names.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    /// Where the agent's endpoints are, below `url`.
    #[schemars(regex(pattern = r"^(/[A-Za-z0-9._~-]+)+$"), extend("default" = defaults::BASE_PATH))]
    pub(crate) base_path: Option<String>,
    /// Sign-in.
    #[serde(default)]
    pub(crate) login: Login,
    /// The OpenID Provider. Only an instance with a proxy's keys has none.
    pub(crate) provider: Option<Provider>,
    /// Several of them by name, in place of `provider`: each sign-in says which it is at, and each has a
    /// redirect URI of its own. A name is 1 to 32 of `a-z`, `0-9` and `-`.
    #[schemars(extend(
        "minProperties" = 1,
        "maxProperties" = 16,
        "propertyNames" = {"pattern": "^[a-z0-9][a-z0-9-]{0,31}$"}
    ))]
    pub(crate) providers: Option<Named<Provider>>,
    /// Which of `providers` is meant where a sign-in does not say. Default: the first.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]{0,31}$"))]
    pub(crate) default_provider: Option<String>,
    /// The session's limits and claims.
    #[serde(default)]
    pub(crate) session: Session,
    /// The custom header that every `fetch` carries, with any value: the CSRF defence of RFC 10017
    /// §6.1.3.3.
    #[schemars(regex(pattern = r"^[A-Za-z0-9-]+$"), extend("default" = defaults::CSRF_HEADER))]
    pub(crate) csrf_header: Option<String>,
    /// Whose endpoints the agent offers beside its own, so that an SPA moves over as it is. With either
    /// value `base_path` is `/bff` and `csrf_header` is `x-csrf` unless they are written. Default: nobody's.
    pub(crate) compatibility: Option<CompatibilitySetting>,
    /// How often the agent may be called, before it answers 429.
    #[serde(default)]
    pub(crate) rate_limits: RateLimits,
    /// The routes, by path prefix. The longest prefix wins, by whole path segments; `/api` and `/api/`
    /// are the same prefix.
    #[schemars(extend("propertyNames" = {"pattern": "^/"}))]
    pub(crate) routes: Named<Route>,
    /// `Strict-Transport-Security` (RFC 6797), which keeps browsers from ever using plain http with this
    /// host: a mapping, or `off` where somebody in front writes it. Default: written with the defaults
    /// below on every answer of an `https` application, off on loopback.
    pub(crate) hsts: Option<HstsSetting>,
    /// Allows plain `http://` for `url`, `app_url`, `origins` and upstreams off loopback. Everything
    /// can be read and changed on the way then, tokens included.
    #[serde(default)]
    pub(crate) danger_insecure_http: bool,
}

/// Whose endpoints the agent offers beside its own.
#[derive(Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub(crate) enum CompatibilitySetting {
    /// The `user`, `login`, `logout` and `backchannel` of Duende BFF; `user` is 401 when nobody is signed in.
    #[serde(rename = "duende")]
    Duende,
    /// The same, but then `user` is 200 and `null`.
    #[serde(rename = "duende-200")]
    DuendeWithNull,
}

/// Sign-in.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Login {
    /// Where the provider returns to (the redirect URI, RFC 6749 §3.1.2): `agent` for the agent's own
    /// `callback`, or the path of a page of the SPA that posts `login/end`.
    #[schemars(regex(pattern = r"^(agent$|/)"), extend("default" = defaults::LOGIN_CALLBACK))]
    pub(crate) callback: Option<String>,
}

/// The OpenID Provider, and this client at it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "anyOf" = [{"required": ["client_secret"]}, {"required": ["client_auth"]}],
    "if" = {"anyOf": [
        {"properties": {"protocol": {"const": "oauth2"}}, "required": ["protocol"]},
        {"properties": {"preset": {"const": "github"}}, "required": ["preset"]}
    ]},
    "else" = {"properties": {"scopes": {"contains": {"const": "openid"}}}}
))]
pub(crate) struct Provider {
    /// The issuer identifier, exactly as the provider's metadata has it, trailing slash included
    /// (OpenID Connect Discovery §4.3). `https`, on loopback also `http`.
    #[schemars(
        regex(pattern = r"^https?://[^?#@\s]+$"),
        example = "https://login.example.com"
    )]
    pub(crate) issuer: String,
    /// This client's id at the provider (RFC 6749 §2.2).
    #[schemars(extend("type" = ["string", "integer"], "minLength" = 1))]
    pub(crate) client_id: String,
    /// This client's secret at the provider (RFC 6749 §2.3.1), as a reference. Needed unless
    /// `client_auth` is a mapping, and refused with one.
    pub(crate) client_secret: Option<Reference>,
    /// How this client authenticates: a word for what is done with the client secret (RFC 6749 §2.3.1),
    /// or a mapping. Default: with the client secret, as the provider's metadata offers, `basic` first.
    pub(crate) client_auth: Option<ClientAuthSetting>,
    /// A certificate that the provider's token endpoint and its like are shown (RFC 8705), beside a
    /// `client_auth` that has none. Default: none.
    pub(crate) client_certificate: Option<Certificate>,
    /// Whether the provider binds access tokens to the client certificate (RFC 8705 §3). Then every
    /// route that attaches a token shows that certificate to its upstream, which has to be `https`.
    #[serde(default)]
    pub(crate) certificate_bound_access_tokens: bool,
    /// The certificates of the authorities that are trusted for the provider, in PEM, in place of the
    /// system's. Default: the system's.
    pub(crate) ca: Option<Reference>,
    /// The scopes that are asked for (RFC 6749 §3.3); `openid` must be among them. Many providers give
    /// a refresh token only for `offline_access`; without one a session ends with its access token. With
    /// `protocol: oauth2` none is needed, and `openid` must not be there.
    #[schemars(extend(
        "default" = defaults::SCOPES,
        "items" = {"type": "string", "pattern": r"^[!#-\[\]-~]+$"}
    ))]
    pub(crate) scopes: Option<Vec<String>>,
    /// Fixed extra parameters of the authorization request, such as `{audience: …}`. Default: none.
    #[schemars(extend("additionalProperties" = {"type": ["string", "number", "boolean"]}))]
    pub(crate) parameters: Option<Named<String>>,
    /// Further authorization parameters that the SPA may set, beside `prompt`, `login_hint`,
    /// `acr_values`, `max_age`, `ui_locales` and `scope`.
    #[serde(default)]
    pub(crate) allowed_parameters: Vec<String>,
    /// Tolerated difference of the provider's clock, in whole seconds, at most `5m`.
    #[schemars(extend("default" = shown(defaults::LEEWAY)))]
    pub(crate) leeway: Option<WholeSeconds>,
    /// Deadline of one request to the provider.
    #[schemars(extend("default" = shown(defaults::PROVIDER_TIMEOUT)))]
    pub(crate) timeout: Option<Interval>,
    /// Takes logout tokens without `exp` (OpenID Connect Back-Channel Logout 1.0 §2.4 requires it), for
    /// providers that send none: for ten minutes after `iat`.
    #[serde(default)]
    pub(crate) logout_token_without_exp: bool,
    /// Binds the tokens of each session that begins from now on to a key of its own (DPoP, RFC 9449), so
    /// that a stolen token is worth nothing without it: `true`, or a mapping. The provider and each API
    /// have to support it. Default: bearer tokens.
    pub(crate) dpop: Option<DpopSetting>,
    /// Fills in what a provider of this kind commonly needs, and changes nothing that is written.
    /// `coatroom check` lists what it filled in. Default: none.
    pub(crate) preset: Option<PresetSetting>,
    /// Where the metadata document is, if not below `issuer`; its `issuer` still must be this one.
    /// `https`, on loopback also `http`. Default: `issuer`, then `/.well-known/openid-configuration`.
    #[schemars(regex(pattern = r"^https?://[^#@\s]+$"))]
    pub(crate) discovery: Option<String>,
    /// The tenants that may sign in, by their ids, where `issuer` stands for many of them as
    /// `https://login.microsoftonline.com/organizations/v2.0` does. Default: none.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "pattern": TENANT}))]
    pub(crate) allowed_tenants: Vec<String>,
    /// Lets every tenant sign in where `issuer` stands for many. Anybody can have a tenant, and write
    /// there what they like into most claims, e-mail addresses included.
    #[serde(default)]
    pub(crate) danger_any_tenant: bool,
    /// Where sign-out goes on at the provider, and how. Default: as the provider's metadata says.
    #[serde(default)]
    pub(crate) logout: ProviderLogout,
    /// Whether the ID token of a refresh may have another `auth_time` than the first (OpenID Connect
    /// Core §12.2 forbids it), for providers that send such: its `auth_time`, `acr` and `amr` then count
    /// as not sent, and those of the sign-in stay. Default: `false`, unless `preset` says otherwise.
    pub(crate) auth_time_may_change: Option<bool>,
    /// Whether a front-channel logout may lack `iss` (OpenID Connect Front-Channel Logout 1.0 §3 has it
    /// beside `sid`), for providers that leave it out. Default: `false`, unless `preset` says otherwise.
    pub(crate) frontchannel_logout_without_iss: Option<bool>,
    /// Whether authorization requests are pushed to the provider before the browser goes there (RFC 9126).
    #[schemars(extend("default" = PushedRequests::default().as_str()))]
    pub(crate) pushed_authorization_requests: Option<PushedRequests>,
    /// Signs authorization requests (RFC 9101) with this key, or, with `true`, with that of `client_auth:
    /// {method: private_key_jwt}`. Default: they are not signed.
    pub(crate) request_object: Option<RequestObjectSetting>,
    /// How the authorization response comes back. An answer that comes in another way is refused.
    #[schemars(extend("default" = ResponseMode::default().as_str()))]
    pub(crate) response_mode: Option<ResponseMode>,
    /// The `claims` parameter (OpenID Connect Core §5.5), such as `{id_token: {acr: {essential: true}}}`.
    /// Default: none.
    pub(crate) claims: Option<Claims>,
    /// The APIs that the access token is for: `resource` parameters (RFC 8707 §2), absolute URIs without a
    /// fragment. Default: none.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "pattern": r"^[A-Za-z][A-Za-z0-9+.-]*:[^#\s]*$"}))]
    pub(crate) resource: Vec<String>,
    /// Refuses an authorization response without `iss` (RFC 9207), and begins no sign-in while the metadata
    /// do not say that it will be there. Needed where several providers return to one page of the SPA,
    /// unless `response_mode` is `jwt`.
    #[serde(default)]
    pub(crate) require_iss: bool,
    /// A profile of FAPI 2.0: fills in what it wants, and refuses what contradicts it. Default: none.
    pub(crate) profile: Option<ProfileSetting>,
    /// The private keys that ID tokens are encrypted to (RFC 7516), in PEM (PKCS#8): P-256, or RSA with
    /// 2048 bits at least; four at most, for a change of keys. With one, an ID token that is not encrypted
    /// is refused. Default: they are not encrypted.
    #[serde(default)]
    #[schemars(extend("maxItems" = 4))]
    pub(crate) id_token_decryption_keys: Vec<Reference>,
    /// Whether the userinfo endpoint (OpenID Connect Core §5.3) is asked for claims beside those of the ID
    /// token. What it says is kept in the session: at most 4 KiB.
    #[schemars(extend("default" = Userinfo::default().as_str()))]
    pub(crate) userinfo: Option<Userinfo>,
    /// Whether the provider gives ID tokens: `oauth2` is for providers of OAuth 2.0 (RFC 6749) alone, such
    /// as GitHub.
    #[schemars(extend("default" = Protocol::default().as_str()))]
    pub(crate) protocol: Option<Protocol>,
    /// The endpoints of a provider without metadata, for `protocol: oauth2`. Default: its metadata (RFC
    /// 8414) name them, at `/.well-known/oauth-authorization-server` between the issuer's host and path.
    pub(crate) endpoints: Option<Endpoints>,
    /// How it is known who the user is, for `protocol: oauth2`, which needs it. Default: an ID token says
    /// it.
    pub(crate) user: Option<User>,
    /// Whether the token endpoint refuses with status 200 and a JSON `error` (RFC 6749 §5.2 has 400), for
    /// `protocol: oauth2`. Default: `false`, unless `preset` says otherwise.
    pub(crate) token_errors_with_200: Option<bool>,
    /// Whether commas stand between the scopes that were granted (RFC 6749 §3.3 has blanks), for
    /// `protocol: oauth2`. Default: `false`, unless `preset` says otherwise.
    pub(crate) scopes_with_commas: Option<bool>,
}

/// One route: exactly one target, and who may call it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["upstream"]}, {"required": ["static"]}, {"required": ["dev_server"]}]))]
pub(crate) struct Route {
    /// The API behind this route: an origin, perhaps with a base path (`https`, on loopback also
    /// `http`), or `unix:` and the path of a socket. A list is the same API in several places, all with
    /// one scheme and base path: calls are balanced over them, and over all addresses of a name.
    pub(crate) upstream: Option<Addresses>,
    /// A folder with the SPA's files. They are public, and take `GET` and `HEAD` only.
    #[serde(rename = "static")]
    #[schemars(extend("minLength" = 1))]
    pub(crate) folder: Option<PathBuf>,
    /// A development server such as Vite's: `http://localhost:5173`. Its pages, modules and
    /// hot-reload WebSocket go through Coatroom, without a token, a cookie or a
    /// Content-Security-Policy of ours. It and the application's `url` must be on loopback.
    #[schemars(
        regex(pattern = r"^https?://[^/?#@\s]+/?$"),
        example = "http://localhost:5173"
    )]
    pub(crate) dev_server: Option<String>,
    /// Whether the prefix is removed before a request is forwarded.
    #[serde(default)]
    pub(crate) strip_prefix: bool,
    /// Who may call the route. Static files are always `none`.
    #[schemars(extend("default" = defaults::ROUTE_AUTH))]
    pub(crate) auth: Option<RouteAuth>,
    /// The methods that the route takes, in upper case. Default: all but `CONNECT` and `TRACE`.
    #[schemars(extend("minItems" = 1, "items" = {"type": "string", "pattern": r"^[A-Z-]+$"}))]
    pub(crate) methods: Option<Vec<String>>,
    /// Lets `GET` and `HEAD` pass on Fetch Metadata instead of the custom header: for `<img>`,
    /// downloads and `EventSource`, which cannot send one.
    #[serde(default)]
    pub(crate) resources: bool,
    /// Whether shared caches may keep answers to calls with a token.
    #[schemars(extend("default" = defaults::CACHE))]
    pub(crate) cache: Option<Cache>,
    /// Names of the upstream's own cookies that are passed on to it, in exactly this spelling; never
    /// Coatroom's.
    #[serde(default)]
    pub(crate) cookies: Vec<String>,
    /// The longest request body.
    #[schemars(extend("default" = size_shown(defaults::BODY_LIMIT), "minimum" = 1))]
    pub(crate) body_limit: Option<Size>,
    /// Deadline for the head of the upstream's answer. The time in which an upload still moves does not
    /// count.
    #[schemars(extend("default" = shown(defaults::ROUTE_TIMEOUT)))]
    pub(crate) timeout: Option<Interval>,
    /// Deadline for the connection to the upstream.
    #[schemars(extend("default" = shown(defaults::CONNECT_TIMEOUT)))]
    pub(crate) connect_timeout: Option<Interval>,
    /// With `upstream`: how long the body of an answer may stand still before the call is broken off.
    /// Default: for ever, since event streams and long polls do.
    pub(crate) idle_timeout: Option<Interval>,
    /// With `upstream`: how long a call may take from its head to the last byte of its answer. A
    /// WebSocket that was accepted has no such end. Default: for ever.
    pub(crate) total_timeout: Option<Interval>,
    /// With `upstream`: how many calls of this route may be under way in this process, WebSockets
    /// included. Whoever comes beyond that is answered 503 `upstream_busy`. Default: any number.
    #[schemars(range(min = 1))]
    pub(crate) max_concurrent: Option<u16>,
    /// With `upstream`: asks each of its addresses whether it is well. Default: nobody asks; an address
    /// that fails calls is left out for a while in any case.
    pub(crate) health_check: Option<HealthCheck>,
    /// With `upstream`: TLS with a private authority, a client certificate, or another name. Default:
    /// the platform's authorities, no client certificate, the host of the URL.
    pub(crate) upstream_tls: Option<UpstreamTls>,
    /// Whether the upstream is spoken to in HTTP/2: `true` always (in the clear with prior
    /// knowledge, as gRPC servers expect it), `false` never. Default: over https if it agrees, by
    /// ALPN; HTTP/1.1 over http.
    pub(crate) http2: Option<bool>,
    /// What the API takes for its own address, where that is not the `upstream` of this route: proofs of
    /// possession (`provider.dpop`) name it, with the forwarded path behind it. Needed for several
    /// upstreams or a socket. Default: the address in `upstream`.
    #[schemars(regex(pattern = r"^https?://[^?#@\s]+$"), example = "https://api.example.com")]
    pub(crate) public_url: Option<String>,
    /// How often the route may be called, before it answers 429. Default: no limit.
    pub(crate) rate_limit: Option<RouteLimit>,
    /// What the route demands of a session beyond being there: how strongly and how lately the user
    /// signed in (RFC 9470), scopes, claims. Default: nothing.
    pub(crate) require: Option<Require>,
    /// Whether the upstream also gets `Forwarded` (RFC 7239), beside `X-Forwarded-For`, `-Host` and
    /// `-Proto`.
    #[serde(default)]
    pub(crate) forwarded: bool,
    /// With `static`: sources added to the default Content-Security-Policy, by directive, such as
    /// `{connect-src: [https://api.example.com], img-src: [https://images.example.com]}`. Takes
    /// origins with https or wss (`http` and `ws` on loopback), `'self'`, `data:` and `blob:` where
    /// no script is meant, `https:` for images and media, hashes for scripts and styles,
    /// `'wasm-unsafe-eval'` for scripts. YAML needs quotes around these: `"data:"`, `"'sha256-…'"`.
    pub(crate) allowed_sources: Option<Named<Vec<String>>>,
    /// With `static`: a Content-Security-Policy for documents, in place of the default one. It is
    /// sent as it is; `check` warns of what obviously defeats it.
    pub(crate) content_security_policy: Option<String>,
    /// With `static`: sends no Content-Security-Policy. Whatever gets into a page may then load
    /// and run anything.
    #[serde(default)]
    pub(crate) danger_no_content_security_policy: bool,
    /// With `static`: further headers on every file, such as
    /// `{Cross-Origin-Opener-Policy: same-origin}`. None that is written for each file anyway.
    pub(crate) headers: Option<Named<String>>,
    /// The access token that the route's calls carry: one for its API alone, by refresh (RFC 8707) or
    /// by exchange (RFC 8693), what the provider says of it (RFC 7662), or the application's own for anonymous
    /// callers (RFC 6749 §4.4). Routes with the same `token` share one. Default: the session's own.
    pub(crate) token: Option<RouteToken>,
}

/// A route's `auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteAuth(pub(crate) &'static str);

/// A route's `cache`.
#[derive(Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Cache {
    /// Such answers stay with the browser.
    Private,
    /// A shared cache may keep them.
    Public,
}

/// The keys that are known and refused ([`NotYet`]): no hint offers one.
pub(crate) const NOT_YET: [&str; 3] = ["forward_auth", "revocable", "acme"];

/// Whether a key is such a one.
pub(crate) fn is_not_yet(key: &str) -> bool {
    NOT_YET.contains(&key)
}

/// What a required key may look like, for the hint when it is missing.
pub(crate) const EXAMPLES: [(&str, &str); 16] = [
    ("authorization", "https://login.example.com/authorize"),
    ("token", "https://login.example.com/token"),
    ("requests", "100"),
    ("per", "1s"),
    ("keys", "[{file: coatroom.key}]"),
    ("apps", "{shop: {…}}"),
    ("url", "https://shop.example.com"),
    (
        "provider",
        "{issuer: https://login.example.com, client_id: shop, client_secret: {env: SHOP_CLIENT_SECRET}}",
    ),
    ("issuer", "https://login.example.com"),
    ("client_id", "shop"),
    ("client_secret", "{env: SHOP_CLIENT_SECRET}"),
    ("routes", "{/api/: {upstream: http://127.0.0.1:5000}}"),
    ("certificate", "{file: tls.crt}"),
    ("key", "{file: tls.key}"),
    ("path", "/healthz"),
    ("method", "private_key_jwt"),
];

/// A GUID.
const TENANT: &str = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$";

/// More data cores than any machine has.
pub(crate) const MAX_WORKERS: u16 = 1024;

/// More processes than anybody shares a key among.
pub(crate) const MAX_REPLICAS: u16 = 1000;

/// `replicas`.
pub(crate) const DEFAULT_REPLICAS: u16 = 1;

impl Written for RouteAuth {
    const EXPECTED: &'static str = "who may call the route";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "required" => Ok(Self("required")),
            "optional" => Ok(Self("optional")),
            "none" => Ok(Self("none")),
            "bearer" => Ok(Self("bearer")),
            _ => Err("expected one of `required`, `optional`, `none` and `bearer`\n\
                      write `auth: required`, or remove the key: that is the default"
                .to_owned()),
        }
    }
}

impl<'d> Deserialize<'d> for RouteAuth {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl CompatibilitySetting {
    /// As it is written, which is also the core's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Duende => "duende",
            Self::DuendeWithNull => "duende-200",
        }
    }
}

impl Cache {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{deserialize, document};
    use super::*;

    fn errors(source: &str) -> Vec<(String, String, String)> {
        let root = document::parse(source).unwrap_or_else(|error| panic!("{}", error.message));
        match deserialize::read::<File>(&root, &mut Vec::new()) {
            Ok(_) => Vec::new(),
            Err(found) => found
                .into_iter()
                .map(|d| (document::dotted(&d.path), d.message, d.hint))
                .collect(),
        }
    }

    /// The smallest file with one more line in the provider, the session, or the route.
    fn file(provider: &str, session: &str, route: &str) -> String {
        format!(
            "keys: [{{file: k}}]\napps:\n  shop:\n    url: https://a\n    provider:\n      issuer: https://b\n      \
             client_id: c\n      client_secret: {{env: S}}\n      {provider}\n    session: {{{session}}}\n    \
             routes:\n      /: {{{route}}}\n"
        )
    }

    #[test]
    fn every_key_of_the_schema_is_read() {
        let source = "
listen: 127.0.0.1:8080
admin: unix:/run/admin.sock
danger_public_admin: true
tls:
  certificate: {file: c}
  key: {credential: k}
  certificates: [{certificate: {file: d}, key: {file: e}}]
  minimum: \"1.3\"
unix_mode: 660
handover: handover.sock
keys: [{file: a}, {command: [b, c]}]
log: {format: json, level: debug}
workers: 4
trusted_peers: [10.0.0.0/8, unix]
peer_header: forwarded
proxy_protocol: true
connections: {max: 1000, max_per_address: 50, write_timeout: 30s, body_timeout: 20s}
apps:
  shop:
    url: https://a
    app_url: https://b
    origins: [https://b]
    hosts: [internal]
    base_path: /auth
    login: {callback: /signed-in}
    csrf_header: x-csrf
    rate_limits: {address: {requests: 10, per: 1s}, session: {requests: 1, per: 1s, burst: 5}}
    hsts: {max_age: 365d, include_subdomains: true, preload: true}
    danger_insecure_http: false
    provider:
      issuer: https://i
      client_id: 12345
      client_secret: {env: S}
      client_auth: {method: private_key_jwt, key: {file: a}, algorithm: ES256, kid: b, audience: issuer,
                    certificate: {file: c}, file: d}
      client_certificate: {certificate: {file: a}, key: {file: b}}
      certificate_bound_access_tokens: true
      ca: {file: a}
      scopes: [openid]
      response_mode: query.jwt
      pushed_authorization_requests: required
      request_object: {key: {file: r}, algorithm: PS256, kid: k}
      claims: {id_token: {acr: {essential: true, values: [a, '1']}, email: }, userinfo: {name: null}}
      resource: [https://api]
      parameters: {audience: x}
      allowed_parameters: [organization]
      leeway: 5s
      timeout: 1500ms
      dpop: {algorithm: ES256}
    session: {store: cookie, idle: 30m, absolute: 12h, default_token_life: 5m, claims: [sub],
              revocation_store: {url: {env: R}, ca: {file: a}, prefix: x, timeout: 1s}}
    routes:
      /api/: {upstream: http://127.0.0.1, strip_prefix: true, auth: optional, methods: [GET], resources: true,
              cache: public, cookies: [a], body_limit: 1 MB, timeout: 1s, connect_timeout: 1s,
              idle_timeout: 5m, total_timeout: 1h, max_concurrent: 100, http2: true,
              health_check: {path: /healthz, interval: 5s, timeout: 2s, healthy_threshold: 2, unhealthy_threshold: 3},
              upstream_tls: {ca: {file: a}, certificate: {file: b}, key: {file: c}, server_name: d},
              rate_limit: {requests: 1, per: 1m, burst: 5, by: session}, forwarded: true,
              require: {acr: [gold], max_age: 5m, scopes: [openid], claims: {role: [admin]}},
              public_url: https://a,
              token: {resource: https://a, audience: b, scopes: [c],
                      exchange: {resource: https://a, audience: b, scopes: [c], requested_token_type: d},
                      client_credentials: {resource: https://a, audience: b, scopes: [c]},
                      introspection: {response: phantom_token, audience: e, cache: 5s}}}
      /many/: {upstream: [https://a, https://b]}
      /: {static: dist, allowed_sources: {img-src: ['https:']}, headers: {x-a: b},
          danger_no_content_security_policy: false, content_security_policy: default-src 'self'}
      /dev/: {dev_server: http://localhost:5173}
";
        assert_eq!(errors(source), []);
    }

    #[test]
    fn documented_settings_that_this_build_does_not_have_are_errors() {
        let later = "this build does not have this setting yet";
        for (source, path, message) in [
            (
                file("", "revocable: true", "static: a"),
                "apps.shop.session.revocable",
                later,
            ),
            (
                format!("forward_auth: {{listen: a}}\n{}", file("", "", "static: a")),
                "forward_auth",
                later,
            ),
            (
                format!("tls: {{acme: {{domains: [a]}}}}\n{}", file("", "", "static: a")),
                "tls.acme",
                later,
            ),
        ] {
            let found = errors(&source);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].0.as_str(), found[0].1.as_str()), (path, message));
            assert!(!found[0].2.is_empty(), "{path} has a hint");
        }
    }

    #[test]
    fn stores_of_a_wrong_shape_are_refused() {
        for (store, path, message) in [
            ("[redis://h]", "", "expected a store, found a list"),
            ("", "", "expected a value, found nothing"),
            ("{prefix: a}", "", "`url` is missing"),
            (
                "{url: [redis://h]}",
                ".url",
                "expected the address of a store, found a list",
            ),
            ("{url: {env: a, file: b}}", ".url", "expected exactly one place"),
            (
                "{url: redis://h, ca: a}",
                ".ca",
                "a secret is never written here, only where it is",
            ),
            (
                "{url: redis://h, timeout: 2}",
                ".timeout",
                "expected a duration: whole numbers with the units d, h, m, s, ms, the larger first",
            ),
            ("{url: redis://h, tls: true}", "", "unknown key `tls`"),
        ] {
            for key in ["store", "revocation_store"] {
                let found = errors(&file("", &format!("{key}: {store}"), "static: a"));
                assert_eq!(found.len(), 1, "{store}: {found:?}");
                assert_eq!(
                    (found[0].0.clone(), found[0].1.as_str()),
                    (format!("apps.shop.session.{key}{path}"), message),
                    "{store}"
                );
                assert!(!found[0].2.is_empty(), "{store} has a hint");
            }
        }
    }
}
