//! Active health checks: a `GET` to every endpoint from time to time, on the control runtime.
//!
//! A check carries no credential and reads no body; an answer of 2xx within the deadline is good,
//! everything else is bad. It speaks what calls speak: an upstream of HTTP/2 alone is asked over it.
//! The first check decides at once, later ones only several in a row, so a
//! single lost packet takes nobody out. What is found is one relaxed read for the cores.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use coatroom_core::config::HealthCheck;
use coatroom_core::error::Error;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, sleep_until, timeout};

use super::directory::Group;
use super::endpoint::{Endpoint, Health, Protocol};

/// Checks the endpoints of a group for as long as somebody uses it.
pub(super) async fn keep_checked(group: Weak<Group>, check: HealthCheck) {
    let mut tallies: HashMap<usize, Tally> = HashMap::new();
    loop {
        let begun = Instant::now();
        {
            let Some(group) = Group::in_use(&group) else {
                return;
            };
            let endpoints = group.endpoints();
            let outcomes = endpoints.iter().map(|endpoint| checked(endpoint, &check));
            let outcomes = futures_util::future::join_all(outcomes).await;
            let mut next = HashMap::with_capacity(endpoints.len());
            for (endpoint, outcome) in endpoints.iter().zip(outcomes) {
                let key = Arc::as_ptr(endpoint).addr();
                let tally = tallies.remove(&key).unwrap_or_default();
                next.insert(key, tally.after(endpoint, &check, outcome));
            }
            tallies = next;
        }
        let next = begun.checked_add(check.interval).unwrap_or(begun);
        sleep_until(next.max(Instant::now())).await;
    }
}

/// How many checks in a row came out otherwise than what is known.
#[derive(Clone, Copy, Default)]
struct Tally(u32);

impl Tally {
    fn after(self, endpoint: &Endpoint, check: &HealthCheck, outcome: Result<(), String>) -> Self {
        let now = match outcome {
            Ok(()) => Health::Healthy,
            Err(_) => Health::Unhealthy,
        };
        let before = endpoint.health();
        if now == before {
            return Self(0);
        }
        let needed = match (before, now) {
            (Health::Unknown, _) => 1,
            (_, Health::Healthy) => check.healthy_threshold,
            (_, Health::Unhealthy | Health::Unknown) => check.unhealthy_threshold,
        };
        let count = self.0.saturating_add(1);
        if count < needed {
            return Self(count);
        }
        endpoint.set_health(now);
        let (upstream, address) = (&endpoint.site.shown, endpoint.address());
        match (outcome, before) {
            (Err(reason), _) => {
                tracing::warn!(
                    upstream,
                    address,
                    "health checks fail, it is not called: {reason}"
                );
            }
            (Ok(()), Health::Unhealthy) => {
                tracing::info!(upstream, address, "health checks are good again, it is called");
            }
            (Ok(()), Health::Unknown | Health::Healthy) => {}
        }
        Self(0)
    }
}

/// One check: why it is bad, if it is.
pub(super) async fn checked(endpoint: &Endpoint, check: &HealthCheck) -> Result<(), String> {
    match timeout(check.timeout, ask(endpoint, Method::GET, check.path.clone())).await {
        Ok(Ok((status, _))) if status.is_success() => Ok(()),
        Ok(Ok((status, _))) => Err(format!("it answers {}", status.as_u16())),
        Ok(Err(error)) => Err(why(error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Why a check could not be made, in words.
pub(super) fn why(error: Error) -> String {
    match error {
        Error::UpstreamUnavailable(reason) => reason,
        _ => "the check could not be made".to_owned(),
    }
}

/// Asks once, over a connection of its own; what spoke, and the status.
pub(super) async fn ask(
    endpoint: &Endpoint,
    method: Method,
    path: PathAndQuery,
) -> Result<(StatusCode, Protocol), Error> {
    let broken = |_| Error::UpstreamUnavailable("it closed the connection without an answer".to_owned());
    let (io, speaks) = endpoint.connect_for_check().await?;
    let request = question(endpoint, method, path, speaks)?;
    let answer = match speaks {
        Protocol::Http1 => {
            let (mut sender, connection) = http1::handshake(io).await.map_err(broken)?;
            first_of(sender.send_request(request), connection).await
        }
        Protocol::Http2 => {
            let handshake = http2::handshake(TokioExecutor::new(), io);
            let (mut sender, connection) = handshake.await.map_err(broken)?;
            first_of(sender.send_request(request), connection).await
        }
    };
    Ok((answer.map_err(broken)?.status(), speaks))
}

fn question(
    endpoint: &Endpoint,
    method: Method,
    path: PathAndQuery,
    speaks: Protocol,
) -> Result<Request<Empty<Bytes>>, Error> {
    let site = Uri::try_from(&endpoint.site.url).map_err(|_| Error::Bug("a checked url does not parse"))?;
    let mut target = site.into_parts();
    target.path_and_query = Some(path.clone());
    let host = target
        .authority
        .as_ref()
        .map_or("", |authority| authority.as_str());
    let request = match speaks {
        Protocol::Http1 => Request::get(path)
            .header(HOST, host)
            .header(CONNECTION, HeaderValue::from_static("close")),
        Protocol::Http2 => {
            let uri = Uri::from_parts(target).map_err(|_| Error::Bug("a checked url has no authority"))?;
            Request::get(uri).version(Version::HTTP_2)
        }
    };
    request
        .method(method)
        .header(USER_AGENT, HeaderValue::from_static("coatroom-health-check"))
        .body(Empty::new())
        .map_err(|_| Error::Bug("a checked path is no request target"))
}

/// Drives a connection until there is an answer.
async fn first_of<T>(answer: impl Future<Output = T>, connection: impl Future) -> T {
    tokio::pin!(answer, connection);
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::connect::Place;
    use super::super::endpoint::Site;
    use super::*;
    use coatroom_core::config::{Http2, UpstreamAddress, Upstreams};

    #[test]
    fn the_first_check_decides_and_later_ones_only_in_a_row() {
        let check = HealthCheck {
            path: "/".parse().expect("a path"),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        };
        for (outcomes, health) in [
            ("g", Health::Healthy),
            ("b", Health::Unhealthy),
            ("gbb", Health::Healthy),
            ("gbbgbb", Health::Healthy),
            ("gbbb", Health::Unhealthy),
            ("bg", Health::Unhealthy),
            ("bgbg", Health::Unhealthy),
            ("bgg", Health::Healthy),
            ("bgggbbgbbb", Health::Unhealthy),
        ] {
            let address = UpstreamAddress::Unix("/run/a.sock".into());
            let upstreams = Upstreams {
                addresses: vec![address.clone()],
                health_check: None,
                tls: None,
                http2: Http2::Negotiated,
            };
            let site = Site::new(&address, &upstreams, &super::super::tests::tls());
            let place = Place::Unix("/run/a.sock".into());
            let endpoint = Endpoint::new(Arc::new(site), place, Arc::default());
            let mut tally = Tally::default();
            for outcome in outcomes.chars() {
                let outcome = match outcome {
                    'g' => Ok(()),
                    _ => Err("bad".to_owned()),
                };
                tally = tally.after(&endpoint, &check, outcome);
            }
            assert_eq!(endpoint.health(), health, "{outcomes}");
        }
    }
}
