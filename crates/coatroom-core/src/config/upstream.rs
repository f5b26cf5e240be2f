//! The upstreams of a route: where the API is, how it is reached, and what keeps a sick one out.
//!
//! A route has one upstream or several that are the same API: the same scheme, the same base path.
//! What is checked here is what somebody wrote; whether anybody answers there is for the shell.
//! Certificates and keys pass through unread, since reading them is the TLS library's business.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::addresses::is_plain;
use super::check::{Insecure, Problems, check_deadline};
use super::{Http2, Origin, defaults};
use crate::route::NormalPath;

/// How a route's upstreams are reached, as written. All of it has defaults.
#[derive(Clone, Default)]
pub struct UpstreamConfig {
    /// Asks each upstream whether it is well; default: nobody asks.
    pub health_check: Option<HealthCheckConfig>,
    /// TLS to the upstreams, where the platform's authorities are not enough.
    pub tls: Option<UpstreamTlsConfig>,
    /// Whether they are spoken to in HTTP/2; default: over TLS, if they agree (ALPN).
    pub http2: Option<bool>,
    /// How long an answer's body may stand still; default: for ever, event streams do.
    pub idle_timeout: Option<Duration>,
    /// How long a call may take from its head to the last byte of its answer; default: for ever.
    pub total_timeout: Option<Duration>,
    /// How many calls of this route may be under way in this process; default: any number.
    pub max_concurrent: Option<u32>,
}

/// Health checks as written.
#[derive(Clone)]
pub struct HealthCheckConfig {
    /// What is asked for with `GET`: a path, perhaps with a query.
    pub path: String,
    /// How often; default 5 s.
    pub interval: Option<Duration>,
    /// Deadline of one check, connecting included; default 2 s.
    pub timeout: Option<Duration>,
    /// Good checks in a row until an unhealthy upstream is used again; default 2.
    pub healthy_threshold: Option<u32>,
    /// Bad checks in a row until an upstream is not used any more; default 2.
    pub unhealthy_threshold: Option<u32>,
}

/// TLS to an upstream as written: PEM texts.
#[derive(Clone, Default)]
pub struct UpstreamTlsConfig {
    /// The authorities that are trusted, in place of the platform's.
    pub ca: Option<String>,
    /// Our certificate chain, where the upstream asks for one.
    pub certificate: Option<String>,
    /// Its private key.
    pub key: Option<PrivateKeyPem>,
    /// The name in the upstream's certificate, if it is not the host of the URL.
    pub server_name: Option<String>,
}

/// A private key in PEM. It is never shown, and zeroed when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(Zeroizing<String>);

/// The upstreams of a route, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams {
    /// At least one; all with one scheme and base path, or all Unix sockets.
    pub addresses: Vec<UpstreamAddress>,
    /// Whether and how they are asked for their health.
    pub health_check: Option<HealthCheck>,
    /// TLS beyond the platform's authorities.
    pub tls: Option<UpstreamTls>,
    /// Whether they are spoken to in HTTP/2.
    pub http2: Http2,
}

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// Origin plus base path (no trailing slash).
    Url(Url),
    /// A Unix socket that speaks HTTP.
    Unix(PathBuf),
}

/// Health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for.
    pub path: PathAndQuery,
    /// How often.
    pub interval: Duration,
    /// Deadline of one check.
    pub timeout: Duration,
    /// Good checks in a row that make an upstream healthy.
    pub healthy_threshold: u32,
    /// Bad checks in a row that make it unhealthy.
    pub unhealthy_threshold: u32,
}

/// TLS to an upstream.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The authorities that are trusted in place of the platform's, in PEM.
    pub ca: Option<String>,
    /// Our certificate chain and its key, in PEM.
    pub client: Option<(String, PrivateKeyPem)>,
    /// The name that the certificate must have, if not the URL's host.
    pub server_name: Option<String>,
}

/// What a route allows its calls beyond the deadlines that every route has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// How long an answer's body may stand still.
    pub idle_timeout: Option<Duration>,
    /// How long a call may take as a whole.
    pub total_timeout: Option<Duration>,
    /// How many calls may be under way.
    pub max_concurrent: Option<u32>,
}

impl PrivateKeyPem {
    /// Takes a key under protection.
    pub fn new(pem: impl Into<String>) -> Self {
        Self(Zeroizing::new(pem.into()))
    }

    /// The key itself, for the TLS library.
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl Upstreams {
    /// One upstream without any further setting.
    pub fn of(url: Url) -> Self {
        Self {
            addresses: vec![UpstreamAddress::Url(url)],
            health_check: None,
            tls: None,
            http2: Http2::default(),
        }
    }
}

impl fmt::Display for UpstreamAddress {
    /// As it is written, without the slash that stands for no path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url.as_str().strip_suffix('/').unwrap_or(url.as_str())),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("has_ca", &self.ca.is_some())
            .field("has_client_certificate", &self.client.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

/// Checks the addresses of a route and how they are reached.
pub(super) fn check_upstreams(
    path: &str,
    written: &[String],
    config: &UpstreamConfig,
    insecure: Insecure,
    problems: &mut Problems,
) -> Option<Upstreams> {
    let before = problems.0.len();
    let several = written.len() != 1;
    if written.is_empty() {
        problems.add(
            &["routes", path, "upstream"],
            "the list of upstreams is empty",
            "upstream: http://127.0.0.1:5000",
        );
    }
    if written.len() > defaults::MAX_UPSTREAMS {
        problems.add(
            &["routes", path, "upstream"],
            format!("more than {} upstreams in one list", defaults::MAX_UPSTREAMS),
            "give them one name in the DNS: `upstream: https://api.internal`",
        );
    }
    let mut addresses: Vec<UpstreamAddress> = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let index = index.to_string();
        let at = ["routes", path, "upstream", &index];
        let at = if several {
            &at[..]
        } else {
            at.get(..3).unwrap_or(&at)
        };
        let Some(address) = check_address(at, text, insecure, problems) else {
            continue;
        };
        if addresses.contains(&address) {
            problems.add(at, "this upstream is already in the list", "remove it");
        } else if addresses.first().is_some_and(|first| !is_alike(first, &address)) {
            problems.add(
                at,
                "the upstreams of a route are one API: the same scheme and base path, or all of them Unix sockets",
                "upstream: [http://127.0.0.1:5000, http://127.0.0.1:5001]",
            );
        } else {
            addresses.push(address);
        }
    }
    let tls = config.tls.clone();
    let tls = tls.and_then(|tls| check_tls(path, tls, &addresses, problems));
    let health_check = config.health_check.as_ref();
    let health_check = health_check.and_then(|written| check_health(path, written, problems));
    (problems.0.len() == before).then_some(Upstreams {
        addresses,
        health_check,
        tls,
        http2: match config.http2 {
            None => Http2::Negotiated,
            Some(true) => Http2::Always,
            Some(false) => Http2::Never,
        },
    })
}

fn check_address(
    at: &[&str],
    text: &str,
    insecure: Insecure,
    problems: &mut Problems,
) -> Option<UpstreamAddress> {
    if let Some(socket) = text.strip_prefix("unix:") {
        // sockaddr_un holds 108 bytes with the final zero
        if !socket.starts_with('/') || socket.len() >= 108 || socket.contains('\0') {
            problems.add(
                at,
                "expected the absolute path of a Unix socket, shorter than 108 bytes",
                "upstream: unix:/run/api.sock",
            );
            return None;
        }
        return Some(UpstreamAddress::Unix(socket.into()));
    }
    let url = Url::parse(text)
        .ok()
        .filter(|url| is_plain(url) && Origin::of(url).is_some());
    let Some(mut url) = url else {
        problems.add(
            at,
            "expected an http or https URL without user, query and fragment, or `unix:` and a path",
            "upstream: http://127.0.0.1:5000",
        );
        return None;
    };
    if !insecure.allows(&url) {
        problems.add(
            at,
            "plain http upstreams are for loopback only, the token could be read on the way (or `danger_insecure_http: true`)",
            "upstream: https://api.internal",
        );
        return None;
    }
    if !NormalPath::parse(url.path()).is_ok_and(|normal| normal.as_str() == url.path()) {
        problems.add(
            at,
            "the upstream's base path is not in normal form",
            "upstream: http://127.0.0.1:5000/base",
        );
        return None;
    }
    if let Some(bare) = url.path().strip_suffix('/').map(str::to_owned) {
        url.set_path(&bare);
    }
    Some(UpstreamAddress::Url(url))
}

/// Whether a request can go to the one as well as to the other.
fn is_alike(one: &UpstreamAddress, other: &UpstreamAddress) -> bool {
    match (one, other) {
        (UpstreamAddress::Url(one), UpstreamAddress::Url(other)) => {
            one.scheme() == other.scheme() && one.path() == other.path()
        }
        (UpstreamAddress::Unix(_), UpstreamAddress::Unix(_)) => true,
        (UpstreamAddress::Url(_), UpstreamAddress::Unix(_))
        | (UpstreamAddress::Unix(_), UpstreamAddress::Url(_)) => false,
    }
}

fn check_tls(
    path: &str,
    written: UpstreamTlsConfig,
    addresses: &[UpstreamAddress],
    problems: &mut Problems,
) -> Option<UpstreamTls> {
    let before = problems.0.len();
    let is_https =
        |address: &UpstreamAddress| matches!(address, UpstreamAddress::Url(url) if url.scheme() == "https");
    // without an address there is a problem already
    if addresses.first().is_some_and(|first| !is_https(first)) {
        problems.add(
            &["routes", path, "upstream_tls"],
            "the upstream is reached without TLS, so this would have no effect",
            "upstream: https://api.internal",
        );
    }
    let name = written.server_name.as_deref();
    if name.is_some_and(|name| Host::parse(name).is_err() || name.ends_with('.')) {
        problems.add(
            &["routes", path, "upstream_tls", "server_name"],
            "expected the host name in the upstream's certificate, without a port",
            "server_name: api.internal",
        );
    }
    let client = match (written.certificate, written.key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            problems.add(
                &["routes", path, "upstream_tls"],
                "a client certificate needs both `certificate` and `key`",
                "upstream_tls: {certificate: {file: client.crt}, key: {file: client.key}}",
            );
            None
        }
    };
    (problems.0.len() == before).then_some(UpstreamTls {
        ca: written.ca,
        client,
        server_name: written.server_name,
    })
}

fn check_health(path: &str, written: &HealthCheckConfig, problems: &mut Problems) -> Option<HealthCheck> {
    let at = |key| ["routes", path, "health_check", key];
    let good =
        written.path.starts_with('/') && written.path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let asked: Option<PathAndQuery> = written.path.parse().ok().filter(|_| good);
    if asked.is_none() {
        problems.add(
            &at("path"),
            "expected a path that starts with `/`, perhaps with a query",
            "health_check: {path: /healthz}",
        );
    }
    let interval = written.interval.unwrap_or(defaults::HEALTH_INTERVAL);
    if interval < defaults::MIN_HEALTH_INTERVAL {
        problems.add(
            &at("interval"),
            format!(
                "expected at least {}ms between two checks",
                defaults::MIN_HEALTH_INTERVAL.as_millis()
            ),
            format!("interval: {}s", defaults::HEALTH_INTERVAL.as_secs()),
        );
    }
    let timeout = check_deadline(
        &at("timeout"),
        written.timeout,
        defaults::HEALTH_TIMEOUT,
        problems,
    );
    let healthy_threshold = written.healthy_threshold.unwrap_or(defaults::HEALTHY_THRESHOLD);
    let unhealthy_threshold = written
        .unhealthy_threshold
        .unwrap_or(defaults::UNHEALTHY_THRESHOLD);
    for (key, threshold) in [
        ("healthy_threshold", healthy_threshold),
        ("unhealthy_threshold", unhealthy_threshold),
    ] {
        if !(1..=defaults::MAX_HEALTH_THRESHOLD).contains(&threshold) {
            problems.add(
                &at(key),
                format!(
                    "expected a number of checks between 1 and {}",
                    defaults::MAX_HEALTH_THRESHOLD
                ),
                format!("{key}: 2"),
            );
        }
    }
    Some(HealthCheck {
        path: asked?,
        interval,
        timeout,
        healthy_threshold,
        unhealthy_threshold,
    })
}

/// Checks what a route allows its calls.
pub(super) fn check_call_limits(path: &str, written: &UpstreamConfig, problems: &mut Problems) -> CallLimits {
    let mut deadline = |key: &str, written: Option<Duration>, example: Duration| {
        written.map(|written| check_deadline(&["routes", path, key], Some(written), example, problems))
    };
    let idle_timeout = deadline("idle_timeout", written.idle_timeout, Duration::from_secs(300));
    let total_timeout = deadline("total_timeout", written.total_timeout, Duration::from_secs(600));
    if written.max_concurrent == Some(0) {
        problems.add(
            &["routes", path, "max_concurrent"],
            "0 would refuse every call",
            "max_concurrent: 100",
        );
    }
    CallLimits {
        idle_timeout,
        total_timeout,
        max_concurrent: written.max_concurrent,
    }
}

/// Refuses what has no meaning for a route without an upstream.
pub(super) fn check_no_upstream(path: &str, written: &UpstreamConfig, problems: &mut Problems) {
    for (key, is_written) in [
        ("health_check", written.health_check.is_some()),
        ("upstream_tls", written.tls.is_some()),
        ("idle_timeout", written.idle_timeout.is_some()),
        ("total_timeout", written.total_timeout.is_some()),
        ("max_concurrent", written.max_concurrent.is_some()),
        ("http2", written.http2.is_some()),
    ] {
        if is_written {
            problems.add(
                &["routes", path, key],
                "this is for routes with an `upstream`",
                format!("remove `{key}`"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, dev_server, files, upstream};
    use crate::config::{ApplicationConfig, RouteConfig, RouteTarget, RouteTargetConfig};

    fn route(addresses: &[&str], upstream_config: UpstreamConfig) -> RouteConfig {
        let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
        RouteConfig {
            target: RouteTargetConfig::Upstreams(addresses),
            upstream: upstream_config,
            ..upstream("/api", "", None)
        }
    }

    fn check(route: RouteConfig) -> Result<Upstreams, Vec<String>> {
        let config = ApplicationConfig {
            routes: vec![route],
            ..config()
        };
        match config.check() {
            Ok(application) => match &application.routes.first().expect("a route").target {
                RouteTarget::Upstream(upstreams) => Ok(Upstreams::clone(upstreams)),
                other => panic!("{other:?}"),
            },
            Err(problems) => Err(problems
                .iter()
                .map(|problem| problem.at.get(2..).unwrap_or_default().join("."))
                .collect()),
        }
    }

    fn health(path: &str) -> HealthCheckConfig {
        HealthCheckConfig {
            path: path.to_owned(),
            interval: None,
            timeout: None,
            healthy_threshold: None,
            unhealthy_threshold: None,
        }
    }

    #[test]
    fn a_list_is_one_api_in_several_places() {
        for (addresses, outcome) in [
            (&["http://127.0.0.1:1", "http://127.0.0.1:2"][..], Ok(2)),
            (&["http://localhost:1/v1/", "http://127.0.0.1:2/v1"], Ok(2)),
            (&["unix:/run/a.sock", "unix:/run/b.sock"], Ok(2)),
            (&["https://api.internal"], Ok(1)),
            (&[], Err("upstream")),
            (&["http://127.0.0.1:1", "http://127.0.0.1:1/"], Err("upstream.1")),
            (&["http://127.0.0.1:1", "https://127.0.0.1:2"], Err("upstream.1")),
            (
                &["http://127.0.0.1:1/a", "http://127.0.0.1:2/b"],
                Err("upstream.1"),
            ),
            (&["http://127.0.0.1:1", "unix:/run/a.sock"], Err("upstream.1")),
            (&["unix:/run/a.sock", "http://api.internal"], Err("upstream.1")),
            (&["unix:a.sock"], Err("upstream")),
            (&["unix:"], Err("upstream")),
            (&["ftp://a", "http://127.0.0.1:1"], Err("upstream.0")),
        ] {
            let found = check(route(addresses, UpstreamConfig::default()));
            let found = found.map(|upstreams| upstreams.addresses.len());
            let expected = outcome.map_err(|at: &str| vec![at.to_owned()]);
            assert_eq!(found, expected, "{addresses:?}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert!(check(route(&[&long], UpstreamConfig::default())).is_err());
        let many: Vec<String> = (1..=defaults::MAX_UPSTREAMS + 1)
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(check(route(&many, UpstreamConfig::default())).is_err());
    }

    #[test]
    fn an_upstream_is_spoken_to_in_http2_as_the_route_says() {
        for (written, wanted) in [
            (None, Http2::Negotiated),
            (Some(true), Http2::Always),
            (Some(false), Http2::Never),
        ] {
            let config = UpstreamConfig {
                http2: written,
                ..UpstreamConfig::default()
            };
            let found = check(route(&["https://api.internal"], config));
            assert_eq!(found.map(|upstreams| upstreams.http2), Ok(wanted));
        }
    }

    #[test]
    fn addresses_are_shown_as_they_are_written() {
        for text in [
            "http://127.0.0.1:1",
            "https://api.internal/v1",
            "unix:/run/a.sock",
        ] {
            let upstreams = check(route(&[text], UpstreamConfig::default())).expect(text);
            assert_eq!(
                upstreams.addresses.first().map(ToString::to_string).as_deref(),
                Some(text)
            );
        }
    }

    #[test]
    fn health_checks_have_defaults_and_bounds() {
        let with = |check| UpstreamConfig {
            health_check: Some(check),
            ..UpstreamConfig::default()
        };
        let good = check(route(&["http://127.0.0.1:1"], with(health("/healthz?a=b")))).expect("good");
        let good = good.health_check.expect("a check");
        assert_eq!(good.path.as_str(), "/healthz?a=b");
        assert_eq!(
            (good.interval, good.timeout),
            (Duration::from_secs(5), Duration::from_secs(2))
        );
        assert_eq!((good.healthy_threshold, good.unhealthy_threshold), (2, 2));
        for (written, at) in [
            (health("healthz"), "path"),
            (health(""), "path"),
            (health("/a b"), "path"),
            (health("/a#b"), "path"),
            (health("/a\r\nx: y"), "path"),
            (
                HealthCheckConfig {
                    interval: Some(Duration::from_millis(99)),
                    ..health("/")
                },
                "interval",
            ),
            (
                HealthCheckConfig {
                    timeout: Some(Duration::ZERO),
                    ..health("/")
                },
                "timeout",
            ),
            (
                HealthCheckConfig {
                    healthy_threshold: Some(0),
                    ..health("/")
                },
                "healthy_threshold",
            ),
            (
                HealthCheckConfig {
                    unhealthy_threshold: Some(1001),
                    ..health("/")
                },
                "unhealthy_threshold",
            ),
        ] {
            let found = check(route(&["http://127.0.0.1:1"], with(written)));
            assert_eq!(found, Err(vec![format!("health_check.{at}")]), "{at}");
        }
    }

    #[test]
    fn tls_to_the_upstream_is_for_https_and_whole() {
        let pem = || Some("-".to_owned());
        let key = || Some(PrivateKeyPem::new("-"));
        let with = |ca, certificate, key, server_name: Option<&str>| UpstreamTlsConfig {
            ca,
            certificate,
            key,
            server_name: server_name.map(str::to_owned),
        };
        for (url, tls, at) in [
            (
                "https://api.internal",
                with(pem(), pem(), key(), Some("api")),
                None,
            ),
            ("https://10.0.0.1", with(None, None, None, Some("10.0.0.1")), None),
            (
                "http://127.0.0.1:1",
                with(pem(), None, None, None),
                Some("upstream_tls"),
            ),
            (
                "unix:/run/a.sock",
                with(pem(), None, None, None),
                Some("upstream_tls"),
            ),
            (
                "https://a.example",
                with(None, pem(), None, None),
                Some("upstream_tls"),
            ),
            (
                "https://a.example",
                with(None, None, key(), None),
                Some("upstream_tls"),
            ),
            (
                "https://a.example",
                with(None, None, None, Some("a:443")),
                Some("upstream_tls.server_name"),
            ),
            (
                "https://a.example",
                with(None, None, None, Some("")),
                Some("upstream_tls.server_name"),
            ),
        ] {
            let config = UpstreamConfig {
                tls: Some(tls),
                ..UpstreamConfig::default()
            };
            let found = check(route(&[url], config)).map(|_| ());
            let expected = at.map_or(Ok(()), |at| Err(vec![at.to_owned()]));
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn a_private_key_is_never_shown() {
        let tls = UpstreamTls {
            ca: None,
            client: Some(("c".to_owned(), PrivateKeyPem::new("hunter2"))),
            server_name: None,
        };
        assert!(!format!("{tls:?}").contains("hunter2"));
    }

    #[test]
    fn deadlines_and_the_number_of_calls_are_not_zero() {
        let config = UpstreamConfig {
            idle_timeout: Some(Duration::ZERO),
            total_timeout: Some(Duration::ZERO),
            max_concurrent: Some(0),
            ..UpstreamConfig::default()
        };
        assert_eq!(
            check(route(&["http://127.0.0.1:1"], config)),
            Err(vec![
                "idle_timeout".to_owned(),
                "total_timeout".to_owned(),
                "max_concurrent".to_owned()
            ])
        );
        let application = checked(config_with(CallLimits {
            idle_timeout: Some(Duration::from_secs(1)),
            total_timeout: None,
            max_concurrent: Some(3),
        }));
        let limits = application.routes.first().expect("a route").limits;
        assert_eq!(
            (limits.idle_timeout, limits.total_timeout, limits.max_concurrent),
            (Some(Duration::from_secs(1)), None, Some(3))
        );
    }

    fn config_with(limits: CallLimits) -> ApplicationConfig {
        let upstream = UpstreamConfig {
            idle_timeout: limits.idle_timeout,
            total_timeout: limits.total_timeout,
            max_concurrent: limits.max_concurrent,
            ..UpstreamConfig::default()
        };
        ApplicationConfig {
            routes: vec![route(&["http://127.0.0.1:1"], upstream)],
            ..config()
        }
    }

    #[test]
    fn files_development_servers_and_an_embedders_service_take_none_of_it() {
        let all = || UpstreamConfig {
            health_check: Some(health("/")),
            tls: Some(UpstreamTlsConfig::default()),
            idle_timeout: Some(Duration::from_secs(1)),
            total_timeout: Some(Duration::from_secs(1)),
            max_concurrent: Some(1),
            http2: Some(false),
        };
        let inner = RouteConfig {
            target: RouteTargetConfig::Inner,
            ..upstream("/", "", None)
        };
        for bare in [
            files("/", "dist"),
            dev_server("/", "http://localhost:5173"),
            inner,
        ] {
            let route = RouteConfig {
                upstream: all(),
                ..bare
            };
            let config = ApplicationConfig {
                url: "http://localhost:8080".to_owned(),
                routes: vec![route],
                ..config()
            };
            let problems = config.check().err().expect("refused");
            assert_eq!(problems.len(), 6);
        }
    }
}
