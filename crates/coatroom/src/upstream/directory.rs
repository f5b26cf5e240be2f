//! The upstreams of a process: groups of endpoints, shared by all cores.
//!
//! A group belongs to one set of upstreams as configured. Cores ask for it when they meet a route
//! for the first time and then read one number to see whether its endpoints have changed; the lock
//! is for changes only. Look-ups and health checks run beside it, on the control runtime, for as
//! long as a route or a core uses the group. Nothing here opens a connection for a call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use coatroom_core::config::Upstreams;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::concurrency::Gate;
use super::connect::Place;
use super::endpoint::{At, Endpoint, Health, Site};
use super::health::keep_checked;
use super::resolve::{self, Resolver, keep_resolved};
use crate::telemetry::{family, series};

/// What one process knows of its upstreams.
pub(super) struct Directory {
    platform: ClientConfig,
    resolver: Resolver,
    runtime: OnceLock<Handle>,
    groups: Mutex<Vec<Weak<Group>>>,
    /// Those of the routes in use: they are looked after although nobody has called yet.
    attended: Mutex<Vec<Arc<Group>>>,
    /// By application and route.
    gates: Mutex<BTreeMap<(String, String), Arc<Gate>>>,
}

/// The endpoints of one set of upstreams.
pub(super) struct Group {
    upstreams: Arc<Upstreams>,
    pub(super) sites: Vec<Arc<Site>>,
    pub(super) hurry: Arc<Notify>,
    endpoints: Mutex<Vec<Arc<Endpoint>>>,
    /// Grows with each change of the endpoints.
    generation: AtomicU64,
    known: watch::Sender<Known>,
    lookup_failed: AtomicBool,
    /// Whether nobody is to look after it any more.
    stopped: AtomicBool,
}

/// Whether there is any endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The first look-up is under way.
    NotYet,
    Some,
    /// No look-up has ever found one.
    None,
}

/// How one set of upstreams is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamState {
    /// The upstreams as they are written.
    pub name: String,
    /// The places where they are to be met.
    pub endpoints: Vec<EndpointState>,
    /// Whether a name could not be looked up the last time.
    pub lookup_failed: bool,
}

/// How one address of an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// The upstream as written.
    pub upstream: String,
    /// The address.
    pub address: String,
    /// What health checks say, if there are any and one was made.
    pub healthy: Option<bool>,
    /// How often a core has stopped calling it for a while.
    pub ejections: u64,
}

impl Directory {
    pub(super) fn new(platform: ClientConfig) -> Arc<Self> {
        Self::with_resolver(platform, resolve::system())
    }

    pub(super) fn with_resolver(platform: ClientConfig, resolver: Resolver) -> Arc<Self> {
        Arc::new(Self {
            platform,
            resolver,
            runtime: OnceLock::new(),
            groups: Mutex::default(),
            attended: Mutex::default(),
            gates: Mutex::default(),
        })
    }

    /// The TLS configuration of routes without settings of their own.
    pub(super) fn platform(&self) -> &ClientConfig {
        &self.platform
    }

    pub(super) fn run_on(&self, control: Handle) {
        let _ = self.runtime.set(control);
    }

    /// The group of these upstreams, made if nobody uses it yet.
    pub(super) fn group(&self, upstreams: &Arc<Upstreams>) -> Arc<Group> {
        let mut groups = lock(&self.groups);
        groups.retain(|group| group.strong_count() > 0);
        let known = groups
            .iter()
            .filter_map(Weak::upgrade)
            .find(|group| group.upstreams == *upstreams);
        if let Some(known) = known {
            return known;
        }
        let group = Arc::new(Group::new(upstreams.clone(), &self.platform));
        groups.push(Arc::downgrade(&group));
        drop(groups);
        // asked for only where there is something to run: a plain address needs no runtime
        let runtime = || self.runtime.get().cloned().unwrap_or_else(Handle::current);
        if group.has_names() {
            runtime().spawn(keep_resolved(Arc::downgrade(&group), self.resolver.clone()));
        }
        if let Some(check) = &upstreams.health_check {
            runtime().spawn(keep_checked(Arc::downgrade(&group), check.clone()));
        }
        group
    }

    pub(super) fn attend(&self, upstreams: &[Arc<Upstreams>]) {
        let groups: Vec<_> = upstreams.iter().map(|upstreams| self.group(upstreams)).collect();
        // a core without a call since then may hold on to what is in no route any more
        lock(&self.groups).retain(|known| {
            let Some(known) = known.upgrade() else {
                return false;
            };
            let is_used = groups.iter().any(|group| Arc::ptr_eq(group, &known));
            known.stopped.store(!is_used, Ordering::Relaxed);
            is_used
        });
        let before = std::mem::replace(&mut *lock(&self.attended), groups);
        drop(before);
    }

    /// Where the calls of a route are counted.
    pub(super) fn gate(&self, application: &str, route: &str) -> Arc<Gate> {
        let key = (application.to_owned(), route.to_owned());
        lock(&self.gates).entry(key).or_default().clone()
    }

    pub(super) fn report(&self) -> Vec<UpstreamState> {
        let groups: Vec<_> = lock(&self.groups).iter().filter_map(Weak::upgrade).collect();
        groups.iter().filter_map(|group| group.report()).collect()
    }
}

impl Group {
    fn new(upstreams: Arc<Upstreams>, platform: &ClientConfig) -> Self {
        let hurry = Arc::<Notify>::default();
        let sites: Vec<_> = upstreams
            .addresses
            .iter()
            .map(|address| Arc::new(Site::new(address, &upstreams, platform)))
            .collect();
        let fixed = sites.iter().filter_map(|site| match &site.at {
            At::Fixed(place) => Some((site, place.clone())),
            At::Name(..) => None,
        });
        let endpoints: Vec<_> = fixed
            .map(|(site, place)| Arc::new(Endpoint::new(site.clone(), place, hurry.clone())))
            .collect();
        let known = if endpoints.is_empty() {
            Known::NotYet
        } else {
            Known::Some
        };
        Self {
            upstreams,
            sites,
            hurry,
            endpoints: Mutex::new(endpoints),
            generation: AtomicU64::new(0),
            known: watch::Sender::new(known),
            lookup_failed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    fn has_names(&self) -> bool {
        self.sites.iter().any(|site| matches!(site.at, At::Name(..)))
    }

    /// The group, while somebody is to look after it.
    pub(super) fn in_use(this: &Weak<Self>) -> Option<Arc<Self>> {
        this.upgrade()
            .filter(|group| !group.stopped.load(Ordering::Relaxed))
    }

    /// Whether endpoints are asked for their health.
    pub(super) fn is_checked(&self) -> bool {
        self.upstreams.health_check.is_some()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        lock(&self.endpoints).clone()
    }

    /// Resolves once there is an endpoint or a look-up has found none.
    pub(super) async fn first_look_up(self: Arc<Self>) -> Known {
        let mut known = self.known.subscribe();
        let outcome = known.wait_for(|known| *known != Known::NotYet).await;
        let outcome = outcome.map_or(Known::None, |known| *known);
        if outcome == Known::None {
            self.hurry.notify_one();
        }
        outcome
    }

    /// Takes on what a look-up of each site found; none where there is nothing to look up. What is
    /// known of an endpoint stays with it.
    pub(super) fn take_on(&self, found: Vec<Option<Result<Vec<std::net::SocketAddr>, String>>>) {
        let failed = found.iter().any(|found| matches!(found, Some(Err(_))));
        let had_failed = self.lookup_failed.swap(failed, Ordering::Relaxed);
        let mut endpoints = lock(&self.endpoints);
        let mut next: Vec<Arc<Endpoint>> = Vec::with_capacity(endpoints.len());
        for (site, found) in self.sites.iter().zip(found) {
            let of_site = |endpoint: &&Arc<Endpoint>| Arc::ptr_eq(&endpoint.site, site);
            let before: Vec<_> = endpoints.iter().filter(of_site).cloned().collect();
            match found {
                None => next.extend(before),
                Some(Err(reason)) => {
                    if !had_failed {
                        let upstream = &site.shown;
                        tracing::warn!(
                            upstream,
                            "its name cannot be looked up, known addresses stay in use: {reason}"
                        );
                    }
                    next.extend(before);
                }
                Some(Ok(addresses)) => next.extend(addresses.into_iter().map(|address| {
                    let place = Place::Tcp(vec![address]);
                    let known = before.iter().find(|endpoint| endpoint.place == place);
                    let new = || Arc::new(Endpoint::new(site.clone(), place.clone(), self.hurry.clone()));
                    known.cloned().unwrap_or_else(new)
                })),
            }
        }
        // the resolver may turn the order at each look-up
        let same = next.len() == endpoints.len()
            && next
                .iter()
                .all(|one| endpoints.iter().any(|other| Arc::ptr_eq(one, other)));
        if !same {
            if !endpoints.is_empty() {
                let (upstream, addresses) = (self.name(), next.len());
                tracing::info!(upstream, addresses, "the addresses of its name have changed");
            }
            *endpoints = next;
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        let known = if endpoints.is_empty() {
            Known::None
        } else {
            Known::Some
        };
        drop(endpoints);
        self.known.send_replace(known);
    }

    fn name(&self) -> String {
        let names: Vec<&str> = self.sites.iter().map(|site| site.shown.as_str()).collect();
        names.join(", ")
    }

    /// None where there is nothing to know beyond what the configuration says.
    fn report(&self) -> Option<UpstreamState> {
        let endpoints = self.endpoints();
        let is_plain = endpoints.len() == 1 && !self.has_names() && !self.is_checked();
        (!is_plain).then(|| UpstreamState {
            name: self.name(),
            endpoints: endpoints
                .iter()
                .map(|endpoint| EndpointState {
                    upstream: endpoint.site.shown.clone(),
                    address: endpoint.address(),
                    healthy: match endpoint.health() {
                        Health::Unknown => None,
                        Health::Healthy => Some(true),
                        Health::Unhealthy => Some(false),
                    },
                    ejections: endpoint.ejections(),
                })
                .collect(),
            lookup_failed: self.lookup_failed.load(Ordering::Relaxed),
        })
    }
}

impl UpstreamState {
    /// What is wrong, if anything is.
    pub fn trouble(&self) -> Option<String> {
        if self.endpoints.is_empty() {
            return Some("no address of it is known yet".to_owned());
        }
        let sick = self.endpoints.iter().filter(|one| one.healthy == Some(false));
        match (sick.count(), self.endpoints.len(), self.lookup_failed) {
            (0, _, false) => None,
            (0, _, true) => {
                Some("its name cannot be looked up, the addresses known before stay in use".to_owned())
            }
            (sick, all, _) if sick == all => {
                Some("every address fails its health checks, so all are called".to_owned())
            }
            (sick, all, _) => Some(format!(
                "{sick} of {all} addresses fail their health checks and are not called"
            )),
        }
    }
}

/// The state of upstreams as Prometheus text. An address that several routes reach in different
/// ways is one series: healthy if every check says so.
pub(super) fn render(upstreams: &[UpstreamState], out: &mut String) {
    let mut health: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    let mut ejections: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for endpoint in upstreams.iter().flat_map(|upstream| &upstream.endpoints) {
        let key = (endpoint.upstream.as_str(), endpoint.address.as_str());
        if let Some(healthy) = endpoint.healthy {
            *health.entry(key).or_insert(true) &= healthy;
        }
        let count = ejections.entry(key).or_default();
        *count = count.saturating_add(endpoint.ejections);
    }
    let name = "coatroom_upstream_healthy";
    family(
        out,
        name,
        "gauge",
        "What health checks say of an upstream's address.",
    );
    for ((upstream, address), healthy) in health {
        let labels = [("upstream", upstream), ("address", address)];
        series(out, name, &labels, u64::from(healthy));
    }
    let name = "coatroom_upstream_ejections_total";
    let help = "How often a data core stopped calling an upstream's address for a while.";
    family(out, name, "counter", help);
    for ((upstream, address), count) in ejections {
        series(out, name, &[("upstream", upstream), ("address", address)], count);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use coatroom_core::config::Http2;
    use url::Url;

    use super::*;

    fn group(urls: &[&str]) -> Group {
        let addresses = urls.iter().map(|url| {
            let url = Url::parse(url).expect("a url");
            coatroom_core::config::UpstreamAddress::Url(url)
        });
        let upstreams = Upstreams {
            addresses: addresses.collect(),
            health_check: None,
            tls: None,
            http2: Http2::Negotiated,
        };
        Group::new(Arc::new(upstreams), &super::super::tests::tls())
    }

    fn addresses(group: &Group) -> Vec<String> {
        let endpoints = group.endpoints();
        endpoints.iter().map(|endpoint| endpoint.address()).collect()
    }

    fn found(texts: &[&str]) -> Option<Result<Vec<SocketAddr>, String>> {
        let addresses = texts.iter().map(|text| text.parse().expect("an address"));
        Some(Ok(addresses.collect()))
    }

    #[test]
    fn a_look_up_that_fails_or_turns_the_order_changes_nothing() {
        let group = group(&["https://a.example", "https://10.0.0.9"]);
        assert_eq!(addresses(&group), ["10.0.0.9:443"]);
        group.take_on(vec![found(&["10.0.0.1:443", "10.0.0.2:443"]), None]);
        assert_eq!(
            addresses(&group),
            ["10.0.0.1:443", "10.0.0.2:443", "10.0.0.9:443"]
        );
        let generation = group.generation();
        group.take_on(vec![Some(Err("timed out".to_owned())), None]);
        group.take_on(vec![found(&["10.0.0.2:443", "10.0.0.1:443"]), None]);
        assert_eq!((group.generation(), addresses(&group).len()), (generation, 3));
    }

    #[test]
    fn what_is_known_of_an_address_outlives_a_change_of_the_others() {
        let group = group(&["https://a.example"]);
        group.take_on(vec![found(&["10.0.0.1:443", "10.0.0.2:443"])]);
        let endpoint = group.endpoints().into_iter().next().expect("the first");
        endpoint.set_health(Health::Unhealthy);
        group.take_on(vec![found(&["10.0.0.3:443", "10.0.0.1:443"])]);
        assert_eq!(addresses(&group), ["10.0.0.3:443", "10.0.0.1:443"]);
        let same = group.endpoints().into_iter().nth(1).expect("the second");
        assert!(Arc::ptr_eq(&same, &endpoint) && same.is_unhealthy());
    }

    #[test]
    fn trouble_is_told_and_a_single_fixed_address_has_no_state() {
        assert_eq!(group(&["http://127.0.0.1:1"]).report(), None);
        let named = group(&["https://a.example"]);
        let trouble = |group: &Group| group.report().expect("a state").trouble();
        assert_eq!(trouble(&named).as_deref(), Some("no address of it is known yet"));
        named.take_on(vec![found(&["10.0.0.1:443", "10.0.0.2:443"])]);
        assert_eq!(trouble(&named), None);
        named.take_on(vec![Some(Err("timed out".to_owned()))]);
        assert!(trouble(&named).is_some_and(|text| text.contains("cannot be looked up")));
        let endpoints = named.endpoints();
        let (first, second) = (endpoints.first().expect("one"), endpoints.get(1).expect("two"));
        first.set_health(Health::Unhealthy);
        assert!(trouble(&named).is_some_and(|text| text.starts_with("1 of 2 addresses")));
        second.set_health(Health::Unhealthy);
        assert!(trouble(&named).is_some_and(|text| text.starts_with("every address")));
    }

    #[test]
    fn an_address_is_one_series_however_many_routes_reach_it() {
        let state = |healthy, ejections| UpstreamState {
            name: "a".to_owned(),
            endpoints: vec![EndpointState {
                upstream: "http://a".to_owned(),
                address: "10.0.0.1:80".to_owned(),
                healthy,
                ejections,
            }],
            lookup_failed: false,
        };
        let mut text = String::new();
        render(
            &[state(Some(true), 1), state(Some(false), 2), state(None, 3)],
            &mut text,
        );
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                r#"coatroom_upstream_healthy{upstream="http://a",address="10.0.0.1:80"} 0"#,
                r#"coatroom_upstream_ejections_total{upstream="http://a",address="10.0.0.1:80"} 6"#,
            ]
        );
    }
}
