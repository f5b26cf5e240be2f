//! What a setting is when it is not written, and the bounds of those that have some.
//!
//! Each is here once: the checks use these constants, and so do the JSON Schema and the reference
//! page of the configuration file. Nothing here decides anything.

use std::time::Duration;

use super::RateLimit;

/// `base_path`.
pub const BASE_PATH: &str = "/auth";

/// `login_callback`: the agent's own endpoint.
pub const LOGIN_CALLBACK: &str = "agent";

/// `csrf_header`.
pub const CSRF_HEADER: &str = "token-handler-version";

/// `base_path` with the endpoints of Duende BFF.
pub const DUENDE_BASE_PATH: &str = "/bff";

/// `csrf_header` with the endpoints of Duende BFF.
pub const DUENDE_CSRF_HEADER: &str = "x-csrf";

/// `provider.scopes`.
pub const SCOPES: [&str; 1] = ["openid"];

/// `provider.leeway`.
pub const LEEWAY: Duration = Duration::from_secs(10);

/// `provider.leeway`, at most: clocks that differ by more are broken.
pub const MAX_LEEWAY: Duration = Duration::from_secs(5 * 60);

/// `provider.timeout`.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(10);

/// `provider.dpop.algorithm`.
pub const DPOP_ALGORITHM: &str = "ES256";

/// `session.idle`.
pub const IDLE: Duration = Duration::from_secs(30 * 60);

/// `session.idle`, at least.
pub const MIN_IDLE: Duration = Duration::from_secs(60);

/// `session.absolute`.
pub const ABSOLUTE: Duration = Duration::from_secs(12 * 60 * 60);

/// `session.absolute`, at most: browsers keep no cookie longer.
pub const MAX_ABSOLUTE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// `session.default_token_life`.
pub const TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);

/// What stands in front of every name in a store.
pub const STORE_PREFIX: &str = "coatroom:";

/// How long one operation of a store may take.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// The same, at least.
pub const MIN_STORE_TIMEOUT: Duration = Duration::from_millis(50);

/// The same, at most: a refresh has to be over before the lease on it is.
pub const MAX_STORE_TIMEOUT: Duration = Duration::from_secs(3);

/// A route's `auth`; that of static files is `none`.
pub const ROUTE_AUTH: &str = "required";

/// APIs with a token of their own, at most: each is asked for at each sign-in and refresh, one after
/// the other.
pub const MAX_APIS: usize = 8;

/// A route's `token.introspection.cache` with `response: json`, and where nothing says when a token
/// expires.
pub const INTROSPECTION_CACHE: Duration = Duration::from_secs(60);

/// The same, at most.
pub const MAX_INTROSPECTION_CACHE: Duration = Duration::from_secs(3600);

/// A route's `cache`.
pub const CACHE: &str = "private";

/// A route's `body_limit`, in bytes.
pub const BODY_LIMIT: u64 = 10 * 1024 * 1024;

/// A route's `connect_timeout`.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A route's `timeout`.
pub const ROUTE_TIMEOUT: Duration = Duration::from_secs(60);

/// Upstreams in one list, at most.
pub const MAX_UPSTREAMS: usize = 64;

/// `health_check.interval`.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// `health_check.interval`, at least.
pub const MIN_HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// `health_check.timeout`.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// `health_check.healthy_threshold`.
pub const HEALTHY_THRESHOLD: u32 = 2;

/// `health_check.unhealthy_threshold`.
pub const UNHEALTHY_THRESHOLD: u32 = 2;

/// Both thresholds, at most.
pub const MAX_HEALTH_THRESHOLD: u32 = 1000;

/// `rate_limits.address`: an office of 500 behind one address signs in within the burst, and
/// signing in takes about five requests of each.
pub const AGENT_ADDRESS_LIMIT: RateLimit = RateLimit {
    requests: 100,
    per: Duration::from_secs(1),
    burst: 5000,
};

/// `rate_limits.session`: several tabs that load at once, and then one that polls.
pub const AGENT_SESSION_LIMIT: RateLimit = RateLimit {
    requests: 5,
    per: Duration::from_secs(1),
    burst: 100,
};

/// Sign-outs of one session: each may ask the provider to revoke tokens. No address has such a
/// limit, so that nobody can keep others from signing out.
pub const SIGN_OUT_LIMIT: RateLimit = RateLimit {
    requests: 1,
    per: Duration::from_secs(1),
    burst: 10,
};

/// Calls of the provider's own (logout tokens) and of frames that it shows, from one address: counted
/// apart from users, and wide, since a provider that ends everybody's sessions calls once for each.
pub const PROVIDER_LOGOUT_LIMIT: RateLimit = RateLimit {
    requests: 100,
    per: Duration::from_secs(1),
    burst: 10_000,
};

/// Frames that say that a session has ended, from everywhere together: anybody can ask for one, and
/// each leaves something in the store.
pub const FRONTCHANNEL_LIMIT: RateLimit = RateLimit {
    requests: 20,
    per: Duration::from_secs(1),
    burst: 200,
};

/// The most requests that a limit may allow at once, or in one `per`.
pub const MAX_RATE: u32 = 1_000_000;

/// The longest `per`.
pub const MAX_RATE_PERIOD: Duration = Duration::from_secs(60 * 60);
/// `hsts.max_age`: 365 days.
pub const HSTS_MAX_AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How many different demands the `require` of routes may make of a sign-in.
pub const MAX_DEMANDS: usize = 32;
