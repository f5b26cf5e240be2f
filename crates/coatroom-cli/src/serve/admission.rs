//! How many connections there may be, of whom, and what became of them: one count for all cores.
//!
//! Accepting waits for a free place, so more connections than files never exist and the admin
//! listener, the upstreams and the provider keep theirs. While no place is free each core closes
//! what has not moved for a while (`connections.rs`). A connection costs some atomic operations when
//! it comes and when it goes; a request costs none.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coatroom_core::peers::TrustedPeers;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The doors of the public listener. Clones share them.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Shared>);

struct Shared {
    places: Arc<Semaphore>,
    max: usize,
    per_address: Option<PerAddress>,
    peers: TrustedPeers,
    proxy_protocol: bool,
    open: AtomicU64,
    /// When it was last found full by who asked, in milliseconds since `began`.
    seen_full: AtomicU64,
    began: Instant,
    accepted: AtomicU64,
    turned_away: [AtomicU64; Reason::ALL.len()],
}

struct PerAddress {
    max: u32,
    /// As many entries as connections at most.
    counts: Mutex<HashMap<IpAddr, u32>>,
}

/// Why a connection or a stream was not let in, or was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its address has as many as it may.
    Address,
    /// A PROXY protocol header from a peer that is not listed.
    UnlistedPeer,
    /// No PROXY protocol header, or a malformed one.
    ProxyProtocol,
    /// No request in time.
    NoRequest,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// Nothing moved for a while, and others waited for a place.
    Crowded,
    /// The client took nothing of its answer in time.
    WriteTimeout,
    /// One HTTP/2 stream took nothing of its answer in time.
    StreamTimeout,
    /// The body of a request came too slowly.
    BodyTimeout,
}

impl Reason {
    const ALL: [Self; 9] = [
        Self::Address,
        Self::UnlistedPeer,
        Self::ProxyProtocol,
        Self::NoRequest,
        Self::Handshake,
        Self::Crowded,
        Self::WriteTimeout,
        Self::StreamTimeout,
        Self::BodyTimeout,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::UnlistedPeer => "unlisted_peer",
            Self::ProxyProtocol => "proxy_protocol",
            Self::NoRequest => "no_request",
            Self::Handshake => "handshake",
            Self::Crowded => "crowded",
            Self::WriteTimeout => "write_timeout",
            Self::StreamTimeout => "stream_timeout",
            Self::BodyTimeout => "body_timeout",
        }
    }
}

/// How connections are let in.
pub(crate) struct Rules {
    /// How many at most.
    pub(crate) max: u32,
    /// How many of one address.
    pub(crate) max_per_address: Option<u32>,
    /// Peers that are many clients, and may say which.
    pub(crate) peers: TrustedPeers,
    /// Whether each connection begins with a PROXY protocol header.
    pub(crate) proxy_protocol: bool,
}

/// A place for the next connection.
pub(super) struct Place {
    permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
}

/// An open connection's place; free again when this is dropped.
pub(super) struct Occupied {
    _permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
    address: Option<IpAddr>,
}

impl Admission {
    /// Doors with these rules.
    pub(crate) fn new(rules: Rules) -> Self {
        let max = usize::try_from(rules.max).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            places: Arc::new(Semaphore::new(max)),
            max,
            per_address: rules.max_per_address.map(|max| PerAddress {
                max,
                counts: Mutex::default(),
            }),
            peers: rules.peers,
            proxy_protocol: rules.proxy_protocol,
            open: AtomicU64::new(0),
            seen_full: AtomicU64::new(0),
            began: Instant::now(),
            accepted: AtomicU64::new(0),
            turned_away: Default::default(),
        }))
    }

    /// Waits for a place. Nothing is taken when this is given up.
    pub(super) async fn place(&self) -> Place {
        let permit = self.0.places.clone().acquire_owned().await;
        Place {
            permit: permit.expect("nobody closes the semaphore"),
            shared: self.0.clone(),
        }
    }

    /// Whether somebody may be waiting for a place.
    pub(super) fn is_full(&self) -> bool {
        self.0.places.available_permits() == 0
    }

    /// Whether somebody waited a moment ago: a place that became free does not save all the others
    /// whose time is over.
    pub(super) fn was_full(&self) -> bool {
        let now = self.0.elapsed();
        if self.is_full() {
            self.0.seen_full.store(now, Ordering::Relaxed);
            return true;
        }
        let seen = self.0.seen_full.load(Ordering::Relaxed);
        seen > 0 && now.saturating_sub(seen) <= LATELY
    }

    /// Whether it will soon be full: time to look at who does not move.
    pub(super) fn is_crowded(&self) -> bool {
        self.0.places.available_permits() <= self.0.max / 4
    }

    /// Whether each connection begins with a PROXY protocol header.
    pub(super) fn wants_proxy_protocol(&self) -> bool {
        self.0.proxy_protocol
    }

    /// Whether this peer is listed; no address is a Unix socket.
    pub(super) fn lists(&self, peer: Option<IpAddr>) -> bool {
        self.0.peers.lists(peer)
    }

    /// Counts what was not let in, or was given up.
    pub(super) fn count(&self, reason: Reason) {
        self.0.count(reason);
    }

    /// The counters in the Prometheus text format.
    pub(crate) fn render(&self, out: &mut String) {
        let shared = &self.0;
        let _ = write!(
            out,
            "# HELP coatroom_connections_open Connections of clients that are open.\n\
             # TYPE coatroom_connections_open gauge\n\
             coatroom_connections_open {}\n\
             # HELP coatroom_connections_max How many there may be.\n\
             # TYPE coatroom_connections_max gauge\n\
             coatroom_connections_max {}\n\
             # HELP coatroom_connections_total Connections that were accepted.\n\
             # TYPE coatroom_connections_total counter\n\
             coatroom_connections_total {}\n\
             # HELP coatroom_connections_cut_total Connections and streams that were not let in or given up.\n\
             # TYPE coatroom_connections_cut_total counter\n",
            shared.open.load(Ordering::Relaxed),
            shared.max,
            shared.accepted.load(Ordering::Relaxed),
        );
        for reason in Reason::ALL {
            let _ = writeln!(
                out,
                "coatroom_connections_cut_total{{reason=\"{}\"}} {}",
                reason.as_str(),
                shared.counter(reason).load(Ordering::Relaxed)
            );
        }
    }
}

impl Shared {
    /// Milliseconds, at least one.
    fn elapsed(&self) -> u64 {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        passed.saturating_add(1)
    }

    fn counter(&self, reason: Reason) -> &AtomicU64 {
        &self.turned_away[reason as usize]
    }

    fn count(&self, reason: Reason) {
        self.counter(reason).fetch_add(1, Ordering::Relaxed);
    }
}

impl Place {
    /// A connection came.
    pub(super) fn occupy(self) -> Occupied {
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        self.shared.accepted.fetch_add(1, Ordering::Relaxed);
        Occupied {
            _permit: self.permit,
            shared: self.shared,
            address: None,
        }
    }
}

impl Occupied {
    /// Counts the connection to its address, once that is known; false when there are too many of it.
    pub(super) fn claim(&mut self, address: Option<IpAddr>) -> bool {
        let (Some(rule), Some(address)) = (&self.shared.per_address, address) else {
            return true;
        };
        if self.shared.peers.lists(Some(address)) {
            return true;
        }
        let address = network(address);
        let mut counts = rule.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= rule.max {
            return false;
        }
        *count += 1;
        drop(counts);
        self.address = Some(address);
        true
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        let (Some(rule), Some(address)) = (&self.shared.per_address, self.address) else {
            return;
        };
        let mut counts = rule.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

/// What is one client: an IPv4 address, or the network that an IPv6 customer has at least.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// How many connections fit when this many files may be open: each may hold one to an upstream as
/// well, or a file, and some are needed for everything else.
pub(crate) fn fitting(files: Option<u64>, workers: usize) -> u32 {
    let reserved = 64 + 8 * u64::try_from(workers).unwrap_or(u64::MAX / 8);
    let fitting = files.unwrap_or(u64::MAX).saturating_sub(reserved) / 2;
    u32::try_from(fitting)
        .unwrap_or(u32::MAX)
        .clamp(least(workers), MOST)
}

/// Fewer serve nobody: each core holds one place for whoever comes next.
pub(crate) fn least(workers: usize) -> u32 {
    let each = u32::try_from(workers).unwrap_or(u32::MAX).saturating_mul(4);
    each.clamp(LEAST, MOST)
}

/// With one core.
const LEAST: u32 = 16;

/// How long a full house is remembered, in milliseconds: longer than the deadlines of one crowd are
/// apart.
const LATELY: u64 = 1_000;

/// More need a setting: memory, not files, is what runs out then.
const MOST: u32 = 65_536;

#[cfg(test)]
pub(super) mod testing {
    //! Doors for tests.

    use super::*;

    /// Doors that let in this many of anybody.
    pub(crate) fn doors(max: u32) -> Admission {
        Admission::new(Rules {
            max,
            max_per_address: None,
            peers: TrustedPeers::nobody(),
            proxy_protocol: false,
        })
    }

    impl Admission {
        /// How many connections are open.
        pub(crate) fn open(&self) -> u64 {
            self.0.open.load(Ordering::Relaxed)
        }

        /// How often something was given up.
        pub(crate) fn counted(&self, reason: Reason) -> u64 {
            self.0.counter(reason).load(Ordering::Relaxed)
        }
    }
}

#[cfg(test)]
mod tests {
    use coatroom_core::peers::PeerHeader;
    use futures_util::FutureExt as _;

    use super::testing::doors;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_house_is_remembered_for_those_whose_time_is_over_as_well() {
        let admission = doors(1);
        assert!(!admission.was_full());
        let place = admission.place().await.occupy();
        assert!(admission.was_full());
        drop(place);
        assert!(!admission.is_full() && admission.was_full(), "the first one went");
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert!(!admission.was_full());
    }

    #[test]
    fn who_comes_when_all_places_are_taken_waits_for_one() {
        let admission = doors(16);
        let mut open: Vec<_> = (0..16)
            .map(|_| admission.place().now_or_never().expect("a place").occupy())
            .collect();
        assert!(admission.is_full() && admission.is_crowded());
        assert!(admission.place().now_or_never().is_none());
        open.pop();
        assert!(!admission.is_full());
        assert!(admission.place().now_or_never().is_some());
        open.clear();
        let mut text = String::new();
        admission.render(&mut text);
        assert!(text.contains("coatroom_connections_open 0\n"), "{text}");
        assert!(text.contains("coatroom_connections_total 16\n"), "{text}");
    }

    #[test]
    fn an_address_has_its_own_bound_and_listed_peers_have_none() {
        let peers = TrustedPeers::parse(&["10.0.0.0/8"], PeerHeader::default()).expect("a list");
        let admission = Admission::new(Rules {
            max: 100,
            max_per_address: Some(2),
            peers,
            proxy_protocol: false,
        });
        for (address, limited) in [
            (Some("203.0.113.1"), true),
            (Some("203.0.113.2"), true),
            (Some("10.0.0.1"), false),
            (None, false),
        ] {
            let claim = || {
                let place = admission.place().now_or_never().expect("a place");
                let mut occupied = place.occupy();
                let address = address.map(|text| text.parse().expect("an address"));
                let claimed = occupied.claim(address);
                (claimed, occupied)
            };
            let mut open: Vec<_> = (0..3).map(|_| claim()).collect();
            let claimed: Vec<_> = open.iter().map(|(claimed, _)| *claimed).collect();
            assert_eq!(claimed, [true, true, !limited], "{address:?}");
            // one that was refused gives nothing back
            open.pop();
            assert_eq!(claim().0, !limited, "{address:?}");
            open.pop();
            assert!(claim().0, "{address:?}");
        }
        let per_address = admission.0.per_address.as_ref().expect("a rule");
        assert!(per_address.counts.lock().expect("no panic").is_empty());
    }

    #[test]
    fn an_ipv6_customer_is_one_address() {
        let parse = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::f:1"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
    }

    #[test]
    fn the_default_leaves_files_for_everything_else() {
        for (files, workers, connections) in [
            (Some(1024), 2, 472),
            (Some(256), 2, 88),
            (Some(64), 2, 16),
            (Some(0), 64, 256),
            (Some(0), 100_000, 65_536),
            (Some(20_000), 8, 9936),
            (Some(1_048_576), 8, 65_536),
            (None, 8, 65_536),
        ] {
            assert_eq!(fitting(files, workers), connections, "{files:?} {workers}");
        }
    }
}
