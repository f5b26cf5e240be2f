//! What a setting is when it is not written, and the bounds of those that have some.
//!
//! Each is here once: the checks use these constants, and so do the JSON Schema and the reference
//! page of the configuration file. Nothing here decides anything.

use std::time::Duration;

/// `base_path`.
pub const BASE_PATH: &str = "/auth";

/// `login_callback`: the agent's own endpoint.
pub const LOGIN_CALLBACK: &str = "agent";

/// `csrf_header`.
pub const CSRF_HEADER: &str = "token-handler-version";

/// `provider.scopes`.
pub const SCOPES: [&str; 1] = ["openid"];

/// `provider.leeway`.
pub const LEEWAY: Duration = Duration::from_secs(10);

/// `provider.leeway`, at most: clocks that differ by more are broken.
pub const MAX_LEEWAY: Duration = Duration::from_secs(5 * 60);

/// `provider.timeout`.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(10);

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

/// A route's `auth`; that of static files is `none`.
pub const ROUTE_AUTH: &str = "required";

/// A route's `cache`.
pub const CACHE: &str = "private";

/// A route's `body_limit`, in bytes.
pub const BODY_LIMIT: u64 = 10 * 1024 * 1024;

/// A route's `connect_timeout`.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A route's `timeout`.
pub const ROUTE_TIMEOUT: Duration = Duration::from_secs(60);
