//! Peers, connections and rate limits as they are written.

use std::time::Duration;

use coatroom_core::config::defaults;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Interval, shown};

/// The header in which a listed peer names its client.
#[derive(Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum PeerHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What connections to `listen` may cost.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Connections {
    /// How many there may be at once. More wait until one is over; meanwhile those over which nothing
    /// has moved for some seconds are closed. At least 16, and 4 for each data core.
    /// Default: half of what the limit of open files leaves, at most 65536.
    #[schemars(range(min = LEAST_CONNECTIONS, max = MOST_CONNECTIONS))]
    pub(crate) max: Option<u32>,
    /// How many of one client address (of IPv6 the first 64 bits); more are closed at once. Peers in
    /// `trusted_peers` are not counted. Default: no bound.
    #[schemars(range(min = 1, max = MOST_CONNECTIONS))]
    pub(crate) max_per_address: Option<u32>,
    /// How long a client may take nothing of its answer before it is given up. From `1s` to `1h`.
    #[schemars(extend("default" = shown(WRITE_TIMEOUT)))]
    pub(crate) write_timeout: Option<Interval>,
    /// How long a request body may keep us waiting: this long, and 1 s more for each 500 bytes that
    /// came. gRPC calls and WebSockets are not bounded. From `1s` to `1h`.
    #[schemars(extend("default" = shown(BODY_TIMEOUT)))]
    pub(crate) body_timeout: Option<Interval>,
}

/// How often an application's agent may be called, before it answers 429.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RateLimits {
    /// From one client address (of IPv6 the first 64 bits). Signing out does not count. What is not
    /// written here is for addresses of the internet only: one of a private network may be a proxy's,
    /// unless `trusted_peers` says which are.
    #[schemars(extend("default" = limit_shown(defaults::AGENT_ADDRESS_LIMIT)))]
    pub(crate) address: Option<RateLimit>,
    /// In one session, wherever it is used.
    #[schemars(extend("default" = limit_shown(defaults::AGENT_SESSION_LIMIT)))]
    pub(crate) session: Option<RateLimit>,
}

/// A rate, and how much of it may come at once. Each process counts for itself.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimit {
    /// So many requests in each `per`.
    #[schemars(range(min = 1, max = defaults::MAX_RATE))]
    pub(crate) requests: u32,
    /// The time that `requests` are for, at most `1h`.
    pub(crate) per: Interval,
    /// So many at once, after a quiet while. Default: as many as `requests`.
    #[schemars(range(min = 1, max = defaults::MAX_RATE))]
    pub(crate) burst: Option<u32>,
}

/// How often a route may be called, before it answers 429. Each process counts for itself.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteLimit {
    /// So many requests in each `per`.
    #[schemars(range(min = 1, max = defaults::MAX_RATE))]
    pub(crate) requests: u32,
    /// The time that `requests` are for, at most `1h`.
    pub(crate) per: Interval,
    /// So many at once, after a quiet while. Default: as many as `requests`.
    #[schemars(range(min = 1, max = defaults::MAX_RATE))]
    pub(crate) burst: Option<u32>,
    /// Whose requests are counted together. Default: `session` where `auth` is `required`, else
    /// `address`.
    pub(crate) by: Option<LimitBy>,
}

/// Whose requests are counted together.
#[derive(Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum LimitBy {
    /// Those of one client address (of IPv6 the first 64 bits).
    Address,
    /// Those of one session; without one, those of the address.
    Session,
}

/// Fewer connections serve nobody.
pub(crate) const LEAST_CONNECTIONS: u32 = 16;

/// More connections than a process can have.
pub(crate) const MOST_CONNECTIONS: u32 = 1_000_000;

/// `connections.write_timeout`.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// `connections.body_timeout`.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

fn limit_shown(limit: coatroom_core::config::RateLimit) -> serde_json::Value {
    serde_json::json!({"requests": limit.requests, "per": shown(limit.per), "burst": limit.burst})
}

impl PeerHeader {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

impl LimitBy {
    /// As it is written, which is also the core's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Session => "session",
        }
    }
}
