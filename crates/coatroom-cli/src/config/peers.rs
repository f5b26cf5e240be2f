//! Peers that are believed, and what connections may cost: the settings of the public listener
//! beyond its address.
//!
//! Nothing here is an application's, so nothing of it changes while the process serves.

use std::time::Duration;

use coatroom_core::config::{Application, LimitBy, RouteLimit};
use coatroom_core::peers::{PeerHeader, PeerProblem, TrustedPeers};

use super::findings::Findings;
use super::schema;
use super::values::{Interval, Listen};

/// How connections begin and how many there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Who is believed.
    pub(crate) trusted_peers: TrustedPeers,
    /// Whether each connection begins with a PROXY protocol header.
    pub(crate) proxy_protocol: bool,
    /// How many at most; none: as many as the open files allow.
    pub(crate) max: Option<u32>,
    /// How many of one address, if that is bounded.
    pub(crate) max_per_address: Option<u32>,
    /// How long a client may take nothing of its answer.
    pub(crate) write_timeout: Duration,
    /// How long a client may send nothing of a body that is waited for.
    pub(crate) body_timeout: Duration,
}

impl Connections {
    /// What the section of this name holds.
    pub(crate) fn costs(&self) -> (Option<u32>, Option<u32>, Duration, Duration) {
        let timeouts = (self.write_timeout, self.body_timeout);
        (self.max, self.max_per_address, timeouts.0, timeouts.1)
    }
}

/// Checks everything about connections.
pub(super) fn connections(
    peers: &[String],
    header: Option<schema::PeerHeader>,
    proxy_protocol: bool,
    written: &schema::Connections,
    listen: &Listen,
    workers: usize,
    findings: &mut Findings<'_>,
) -> Connections {
    let at = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let header = match header {
        None | Some(schema::PeerHeader::XForwardedFor) => PeerHeader::XForwardedFor,
        Some(schema::PeerHeader::Forwarded) => PeerHeader::Forwarded,
    };
    let trusted_peers = TrustedPeers::parse(peers, header).unwrap_or_else(|(index, problem)| {
        let hint = match problem {
            PeerProblem::NoAddress => "write for example `trusted_peers: [127.0.0.1, 10.0.0.0/8, \"::1\"]`",
            PeerProblem::HostBits => {
                "write the range's first address, such as `10.0.0.0/8`, or the one address without a prefix"
            }
            PeerProblem::Everybody => {
                "list only the addresses that your proxies connect from, such as `10.0.0.0/8`"
            }
        };
        findings.error(
            at(&["trusted_peers", &index.to_string()]),
            problem.to_string(),
            hint.to_owned(),
        );
        TrustedPeers::nobody()
    });
    if proxy_protocol && peers.is_empty() {
        findings.error(
            at(&["proxy_protocol"]),
            "nobody is listed in `trusted_peers`, so every connection would be refused".to_owned(),
            "list what your load balancer connects from: `trusted_peers: [10.0.0.0/8]`".to_owned(),
        );
    }
    if proxy_protocol && matches!(listen, Listen::Unix(_)) && !peers.iter().any(|peer| peer == "unix") {
        findings.error(
            at(&["proxy_protocol"]),
            "`listen` is a Unix socket, and `trusted_peers` does not list `unix`".to_owned(),
            "write `trusted_peers: [unix]`".to_owned(),
        );
    }
    if matches!(header, PeerHeader::Forwarded) && peers.is_empty() {
        findings.warning(
            at(&["peer_header"]),
            "nobody is listed in `trusted_peers`, so the header is never read".to_owned(),
            "list what your proxy connects from: `trusted_peers: [10.0.0.0/8]`".to_owned(),
        );
    }
    let mut deadline = |name: &str, written: Option<Interval>, default: Duration| {
        let Some(Interval(written)) = written else {
            return default;
        };
        if !(SHORTEST..=LONGEST).contains(&written) {
            findings.error(
                at(&["connections", name]),
                "expected a duration between 1s and 1h".to_owned(),
                format!("{name}: {}", super::shown(default)),
            );
        }
        written
    };
    let write_timeout = deadline("write_timeout", written.write_timeout, schema::WRITE_TIMEOUT);
    let body_timeout = deadline("body_timeout", written.body_timeout, schema::BODY_TIMEOUT);
    for (name, count, least) in [
        ("max", written.max, crate::serve::least(workers)),
        ("max_per_address", written.max_per_address, 1),
    ] {
        if count.is_some_and(|count| !(least..=schema::MOST_CONNECTIONS).contains(&count)) {
            findings.error(
                at(&["connections", name]),
                format!(
                    "expected a number of connections between {least} and {}",
                    schema::MOST_CONNECTIONS
                ),
                format!("remove `{name}`, or write for example `{name}: 1000`"),
            );
        }
    }
    Connections {
        trusted_peers,
        proxy_protocol,
        max: written.max,
        max_per_address: written.max_per_address,
        write_timeout,
        body_timeout,
    }
}

/// Warns of limits by address where no client has one.
pub(super) fn limits_of_nobody(
    listen: &Listen,
    peers: &TrustedPeers,
    applications: &[Application],
    findings: &mut Findings<'_>,
) {
    if !matches!(listen, Listen::Unix(_)) || peers.lists(None) {
        return;
    }
    for application in applications {
        let by_address = |limit: &RouteLimit| limit.by == LimitBy::Address;
        let routes = application.routes.iter();
        let routes = routes.filter(|route| route.rate_limit.as_ref().is_some_and(by_address));
        let routes = routes.map(|route| vec!["routes", route.prefix.as_str(), "rate_limit"]);
        let agent = application
            .rate_limits
            .is_address_written
            .then(|| vec!["rate_limits", "address"]);
        for setting in agent.into_iter().chain(routes) {
            let path = ["apps", application.id.as_str()].into_iter().chain(setting);
            findings.warning(
                path.map(str::to_owned).collect(),
                "`listen` is a Unix socket and `trusted_peers` does not list `unix`, so no client has an address and nobody is limited"
                    .to_owned(),
                "write `trusted_peers: [unix]`, and let what connects to the socket say who its client is".to_owned(),
            );
        }
    }
}

const SHORTEST: Duration = Duration::from_secs(1);

const LONGEST: Duration = Duration::from_secs(60 * 60);
