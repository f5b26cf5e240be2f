//! Rate limits: as written, and checked.
//!
//! A limit is a rate and a burst: so many requests in so much time, and so many at once after a
//! quiet while. How requests are counted, and by which client, is the shell's (`coatroom::rate`).

use std::time::Duration;

use super::check::Problems;
use super::{Auth, defaults};

/// A rate limit as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimitConfig {
    /// So many requests …
    pub requests: u32,
    /// … in so much time.
    pub per: Duration,
    /// So many at once; default: as many as `requests`.
    pub burst: Option<u32>,
}

/// A route's rate limit as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteLimitConfig {
    /// The limit.
    pub limit: RateLimitConfig,
    /// `address` or `session`; default: `session` where the route requires one.
    pub by: Option<String>,
}

/// The agent's rate limits as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentLimitsConfig {
    /// For each client address.
    pub address: Option<RateLimitConfig>,
    /// For each session.
    pub session: Option<RateLimitConfig>,
}

/// A rate limit, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// So many requests …
    pub requests: u32,
    /// … in so much time.
    pub per: Duration,
    /// So many at once.
    pub burst: u32,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitBy {
    /// Those of one client address (of IPv6 the first 64 bits).
    Address,
    /// Those of one session; without one, those of the address.
    Session,
}

/// A route's rate limit, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteLimit {
    /// The limit.
    pub limit: RateLimit,
    /// Whose requests.
    pub by: LimitBy,
}

/// The rate limits of an application's agent, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentLimits {
    /// For each client address.
    pub address: RateLimit,
    /// Whether that was written. One that was not is for addresses of the internet only: one of a
    /// private network is likely a proxy's, behind which everybody is.
    pub is_address_written: bool,
    /// For each session.
    pub session: RateLimit,
}

pub(super) fn check_agent_limits(written: &AgentLimitsConfig, problems: &mut Problems) -> AgentLimits {
    let mut limit = |name, written: Option<RateLimitConfig>, default| {
        written
            .and_then(|written| check_limit(&["rate_limits", name], written, problems))
            .unwrap_or(default)
    };
    AgentLimits {
        address: limit("address", written.address, defaults::AGENT_ADDRESS_LIMIT),
        is_address_written: written.address.is_some(),
        session: limit("session", written.session, defaults::AGENT_SESSION_LIMIT),
    }
}

pub(super) fn check_route_limit(
    path: &str,
    written: Option<&RouteLimitConfig>,
    auth: Auth,
    problems: &mut Problems,
) -> Option<RouteLimit> {
    let written = written?;
    let at = ["routes", path, "rate_limit"];
    let limit = check_limit(&at, written.limit, problems);
    let by = match (written.by.as_deref(), auth) {
        (Some("address"), _) | (None, Auth::Optional | Auth::None | Auth::Bearer) => LimitBy::Address,
        (None, Auth::Required) | (Some("session"), Auth::Required | Auth::Optional) => LimitBy::Session,
        (Some("session"), Auth::None | Auth::Bearer) => {
            problems.add(
                &["routes", path, "rate_limit", "by"],
                "nobody's session is looked at on this route",
                "by: address",
            );
            LimitBy::Address
        }
        (Some(_), _) => {
            problems.add(
                &["routes", path, "rate_limit", "by"],
                "expected address or session",
                "by: address",
            );
            LimitBy::Address
        }
    };
    limit.map(|limit| RouteLimit { limit, by })
}

fn check_limit(at: &[&str], written: RateLimitConfig, problems: &mut Problems) -> Option<RateLimit> {
    let burst = written.burst.unwrap_or(written.requests);
    let in_range = |count: u32| (1..=defaults::MAX_RATE).contains(&count);
    if !in_range(written.requests) || !in_range(burst) {
        problems.add(
            at,
            "expected `requests` and `burst` between 1 and 1000000",
            EXAMPLE,
        );
        return None;
    }
    if written.per.is_zero() || written.per > defaults::MAX_RATE_PERIOD {
        problems.add(at, "expected `per` between 1ms and 1h", EXAMPLE);
        return None;
    }
    Some(RateLimit {
        requests: written.requests,
        per: written.per,
        burst,
    })
}

const EXAMPLE: &str = "{requests: 100, per: 1s, burst: 200}";

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limit(requests: u32, per: Duration, burst: Option<u32>) -> RateLimitConfig {
        RateLimitConfig { requests, per, burst }
    }

    #[test]
    fn a_limit_that_refuses_everything_or_nothing_is_a_problem() {
        for (name, written, good) in [
            ("good", limit(100, SECOND, Some(200)), true),
            ("the burst is the rate", limit(100, SECOND, None), true),
            ("no requests", limit(0, SECOND, Some(1)), false),
            ("no burst", limit(1, SECOND, Some(0)), false),
            ("no time", limit(1, Duration::ZERO, None), false),
            ("for ever", limit(1, SECOND * 3601, None), false),
            ("no limit at all", limit(1_000_001, SECOND, None), false),
        ] {
            let mut problems = Problems::default();
            let checked = check_limit(&["rate_limit"], written, &mut problems);
            assert_eq!((checked.is_some(), problems.0.is_empty()), (good, good), "{name}");
        }
        let checked = check_limit(&[], limit(7, SECOND, None), &mut Problems::default());
        assert_eq!(checked.map(|limit| limit.burst), Some(7));
    }

    #[test]
    fn a_limit_by_session_needs_routes_that_look_at_one() {
        use LimitBy::{Address, Session};
        for (by, auth, expected) in [
            (None, Auth::Required, Some(Session)),
            (None, Auth::Optional, Some(Address)),
            (None, Auth::None, Some(Address)),
            (Some("session"), Auth::Optional, Some(Session)),
            (Some("address"), Auth::Required, Some(Address)),
            (None, Auth::Bearer, Some(Address)),
            (Some("session"), Auth::Bearer, None),
            (Some("session"), Auth::None, None),
            (Some("user"), Auth::Required, None),
        ] {
            let written = RouteLimitConfig {
                limit: limit(1, SECOND, None),
                by: by.map(str::to_owned),
            };
            let mut problems = Problems::default();
            let checked = check_route_limit("/api/", Some(&written), auth, &mut problems);
            let found = checked
                .filter(|_| problems.0.is_empty())
                .map(|checked| checked.by);
            assert_eq!(found, expected, "{by:?} {auth:?}");
        }
    }
}
