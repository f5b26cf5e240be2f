//! Rate limits: how often a client address or a session may ask, and 429 for what is beyond.
//!
//! The generic cell rate algorithm: a number for each key, the time at which its burst is whole
//! again. Keys are addresses (of IPv6 the first 64 bits, since whoever has one has all of them) and
//! ids of sessions that opened, never anything that a client can make up at will. The table has a
//! fixed size: where it is full, the key that is nearest to being forgotten anyway makes place, so a
//! flood of keys costs memory once and frees nobody who asks much. Counts are this process's own.
//! A refusal changes no cookie; signing out is limited by session only, never by address.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coatroom_core::config::{AgentLimits, Application, LimitBy, RateLimit, RouteLimit, defaults};
use coatroom_core::error::Error;
use coatroom_core::headers::ClientFacts;
use coatroom_core::peers::TrustedPeers;
use coatroom_core::route::Endpoint;
use coatroom_core::session::SessionId;

/// The rate limits of one application.
pub(crate) struct RateLimits {
    agent: Agent,
    /// By the route's index; most have none.
    routes: Box<[Option<Route>]>,
}

struct Agent {
    settings: AgentLimits,
    address: Arc<Limiter>,
    session: Arc<Limiter>,
    sign_out: Arc<Limiter>,
    /// Sign-outs by a link, whose `sid` is not read yet: apart from a user's own.
    link: Arc<Limiter>,
    /// Calls that no user makes: apart, so that neither takes the other's place.
    provider: Arc<Limiter>,
    /// Of those, what nobody signed: all together.
    frames: Arc<Limiter>,
}

struct Route {
    settings: RouteLimit,
    prefix: String,
    limiter: Arc<Limiter>,
}

impl RateLimits {
    /// The limits of an application. Counts go on where the one before it had the same limits.
    pub(crate) fn new(application: &Application, known: Option<&Self>) -> Self {
        let settings = application.rate_limits;
        let same = known.filter(|known| known.agent.settings == settings);
        let agent = match same {
            Some(known) => Agent {
                settings,
                address: known.agent.address.clone(),
                session: known.agent.session.clone(),
                sign_out: known.agent.sign_out.clone(),
                link: known.agent.link.clone(),
                provider: known.agent.provider.clone(),
                frames: known.agent.frames.clone(),
            },
            None => Agent {
                settings,
                address: Arc::new(Limiter::new(settings.address)),
                session: Arc::new(Limiter::new(settings.session)),
                sign_out: Arc::new(Limiter::new(defaults::SIGN_OUT_LIMIT)),
                link: Arc::new(Limiter::new(defaults::SIGN_OUT_LIMIT)),
                provider: Arc::new(Limiter::new(defaults::PROVIDER_LOGOUT_LIMIT)),
                frames: Arc::new(Limiter::new(defaults::FRONTCHANNEL_LIMIT)),
            },
        };
        let limiter = |prefix: &str, settings: RouteLimit| {
            let same = known.and_then(|known| {
                let mut routes = known.routes.iter().flatten();
                routes.find(|route| route.prefix == prefix && route.settings == settings)
            });
            same.map_or_else(
                || Arc::new(Limiter::new(settings.limit)),
                |same| same.limiter.clone(),
            )
        };
        let routes = application.routes.iter().map(|route| {
            let settings = route.rate_limit?;
            let prefix = route.prefix.as_str().to_owned();
            Some(Route {
                limiter: limiter(&prefix, settings),
                settings,
                prefix,
            })
        });
        Self {
            agent,
            routes: routes.collect(),
        }
    }

    /// Whether the agent may be asked once more; `session` is looked for only where it counts.
    ///
    /// # Errors
    /// [`Error::RateLimited`].
    pub(crate) fn check_agent(
        &self,
        application: &Application,
        endpoint: Endpoint,
        client: &ClientFacts,
        peers: &TrustedPeers,
        session: impl FnOnce() -> Option<SessionId>,
        now: Duration,
    ) -> Result<(), Error> {
        let agent = &self.agent;
        let name = application.id.as_str();
        let refused = |(by, limiter): (&'static str, &Limiter), wait| {
            limiter.refused(now, || {
                tracing::warn!(
                    application = name,
                    route = "agent",
                    by,
                    "the agent is called too often, answering 429"
                );
            });
            too_often(wait)
        };
        let by_session = |limiter: &Limiter, by| match session() {
            Some(id) => limiter
                .check(limiter.key(&id.0), now)
                .map_err(|wait| refused((by, limiter), wait)),
            None => Ok(()),
        };
        let by_address =
            |limiter: &Limiter| match client.address.filter(|address| self.counts(*address, peers)) {
                Some(address) => limiter
                    .check(limiter.key(&network(address)), now)
                    .map_err(|wait| refused(("address", limiter), wait)),
                None => Ok(()),
            };
        match endpoint {
            // what is left of a session's end is a redirect
            Endpoint::LogoutContinue | Endpoint::LogoutCallback => Ok(()),
            Endpoint::Logout => by_session(&agent.sign_out, "session"),
            // a wrong one takes nothing from the user's other calls, and much polling nothing from it
            Endpoint::LogoutLink => by_session(&agent.link, "session"),
            Endpoint::BackchannelLogout => by_address(&agent.provider),
            Endpoint::FrontchannelLogout => {
                by_address(&agent.provider)?;
                let frames = &agent.frames;
                frames
                    .check(frames.key(b"frames"), now)
                    .map_err(|wait| refused(("application", frames), wait))
            }
            Endpoint::LoginStart
            | Endpoint::LoginEnd
            | Endpoint::Session
            | Endpoint::User
            | Endpoint::Refresh
            | Endpoint::Login
            | Endpoint::Callback
            | Endpoint::FormPost
            | Endpoint::Sessions
            | Endpoint::SessionEnd => {
                by_address(&agent.address)?;
                by_session(&agent.session, "session")
            }
        }
    }

    /// Whether an address is one client's. A listed peer's own is not, and neither is one of a private
    /// network as long as nobody said which peers are proxies, or that it is to be counted.
    fn counts(&self, address: IpAddr, peers: &TrustedPeers) -> bool {
        if !peers.is_empty() {
            return !peers.lists(Some(address));
        }
        self.agent.settings.is_address_written || is_public(address)
    }

    /// Whether a route may be called once more, as far as its limit is by address.
    ///
    /// # Errors
    /// [`Error::RateLimited`].
    pub(crate) fn check_route_by_address(
        &self,
        application: &Application,
        index: usize,
        client: &ClientFacts,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), Error> {
        match self.routes.get(index) {
            Some(Some(route)) if route.settings.by == LimitBy::Address => {
                route.check(application, None, client, now())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a route may be called once more, as far as its limit is by session; without a session
    /// it is by address.
    ///
    /// # Errors
    /// [`Error::RateLimited`].
    pub(crate) fn check_route_by_session(
        &self,
        application: &Application,
        index: usize,
        session: impl FnOnce() -> Option<SessionId>,
        client: &ClientFacts,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), Error> {
        match self.routes.get(index) {
            Some(Some(route)) if route.settings.by == LimitBy::Session => {
                route.check(application, session(), client, now())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Adds what was refused, as lines of the Prometheus text format.
    pub(crate) fn render(&self, application: &Application, out: &mut String) {
        let agent = [
            ("session", &self.agent.session),
            ("sign_out", &self.agent.sign_out),
            ("sign_out_link", &self.agent.link),
            ("address", &self.agent.address),
            ("provider", &self.agent.provider),
        ];
        let agent = agent.map(|(by, limiter)| ("agent", by, limiter));
        let routes = self.routes.iter().flatten().map(|route| {
            let by = match route.settings.by {
                LimitBy::Address => "address",
                LimitBy::Session => "session",
            };
            (route.prefix.as_str(), by, &route.limiter)
        });
        for (route, by, limiter) in agent.into_iter().chain(routes) {
            let _ = writeln!(
                out,
                "{REFUSED}{{application=\"{}\",route=\"{route}\",limit=\"{by}\"}} {}",
                application.id.as_str(),
                limiter.refusals.load(Ordering::Relaxed)
            );
        }
    }
}

/// The head of what [`RateLimits::render`] adds.
pub(crate) fn render_head(out: &mut String) {
    let _ = writeln!(
        out,
        "# HELP {REFUSED} Requests answered with 429, by the limit they were over.\n# TYPE {REFUSED} counter"
    );
}

const REFUSED: &str = "coatroom_rate_limited_total";

impl Route {
    fn check(
        &self,
        application: &Application,
        session: Option<SessionId>,
        client: &ClientFacts,
        now: Duration,
    ) -> Result<(), Error> {
        let limiter = &self.limiter;
        let key = match (session, client.address) {
            (Some(id), _) => limiter.key(&id.0),
            (None, Some(address)) => limiter.key(&network(address)),
            (None, None) => return Ok(()),
        };
        limiter.check(key, now).map_err(|wait| {
            limiter.refused(now, || {
                tracing::warn!(
                    application = application.id.as_str(),
                    route = self.prefix,
                    "a route is called too often, answering 429"
                );
            });
            too_often(wait)
        })
    }
}

fn too_often(wait: Duration) -> Error {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    Error::RateLimited {
        retry_after: u32::try_from(seconds.max(1)).unwrap_or(u32::MAX),
    }
}

/// What is one client: an IPv4 address, or the network that an IPv6 customer has at least. The
/// lengths differ from each other and from that of a session id.
fn network(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().into_iter().take(8).collect(),
    }
}

/// Whether an address is of the internet (RFC 1918, 3927, 4193, 4291, 6598 are not).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let is_shared = matches!(address.octets(), [100, 64..=127, _, _]);
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || is_shared)
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local())
        }
    }
}

/// One limit and everybody it is counting.
struct Limiter {
    /// Time that one request takes off the burst.
    cost: u64,
    /// Time that the whole burst is worth.
    whole: u64,
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    refusals: AtomicU64,
    /// When the log is to say so again.
    told: AtomicU64,
}

/// A part of the table; made at its first use.
#[derive(Default)]
struct Shard {
    slots: Box<[Slot]>,
}

/// A key, and when its burst is whole again, in nanoseconds. Empty: whole at the beginning of time.
#[derive(Clone, Copy, Default)]
struct Slot {
    key: u64,
    whole_at: u64,
}

impl Limiter {
    fn new(limit: RateLimit) -> Self {
        let cost = nanoseconds(limit.per) / u64::from(limit.requests.max(1));
        Self {
            cost: cost.max(1),
            whole: cost.max(1).saturating_mul(u64::from(limit.burst.max(1))),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            refusals: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// A key's place, which nobody outside can predict.
    fn key(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes).max(1)
    }

    /// Takes one request off a key's burst, or says how long to wait.
    fn check(&self, key: u64, now: Duration) -> Result<(), Duration> {
        let now = nanoseconds(now);
        let shard = usize::try_from(key % SHARDS as u64).unwrap_or(0);
        let Some(shard) = self.shards.get(shard) else {
            return Ok(());
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = shard.slot(key);
        let whole_at = slot.whole_at.max(now).saturating_add(self.cost);
        let latest = now.saturating_add(self.whole);
        if whole_at > latest {
            return Err(Duration::from_nanos(whole_at - latest));
        }
        *slot = Slot { key, whole_at };
        Ok(())
    }

    /// Counts a refusal, and says so in the log once in a while.
    fn refused(&self, now: Duration, tell: impl FnOnce()) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        let now = nanoseconds(now).max(1);
        let told = self.told.load(Ordering::Relaxed);
        let is_due = told == 0 || now.saturating_sub(told) >= nanoseconds(TELL_EVERY);
        let mine = || {
            self.told
                .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        if is_due && mine() {
            tell();
        }
    }
}

impl Shard {
    /// The key's slot, or the one in its set that is the least loss, emptied.
    fn slot(&mut self, key: u64) -> &mut Slot {
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); SETS * WAYS].into_boxed_slice();
        }
        let set = usize::try_from(key / SHARDS as u64 % SETS as u64).unwrap_or(0);
        let ways = self
            .slots
            .chunks_exact_mut(WAYS)
            .nth(set)
            .expect("there are as many chunks as sets");
        let place = match ways.iter().position(|slot| slot.key == key) {
            Some(place) => place,
            None => {
                let least = ways.iter().enumerate().min_by_key(|(_, slot)| slot.whole_at);
                let place = least.map_or(0, |(place, _)| place);
                if let Some(slot) = ways.get_mut(place) {
                    *slot = Slot::default();
                }
                place
            }
        };
        ways.get_mut(place).expect("it was found in this set")
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Parts of a table, each with a lock of its own.
const SHARDS: usize = 16;

/// Sets of a part.
const SETS: usize = 256;

/// Places of a set. A whole table has 32,768 places in 512 KiB.
const WAYS: usize = 8;

/// How often the log says that a limit refuses.
const TELL_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use coatroom_core::config::{ApplicationConfig, ProviderConfig};
    use coatroom_core::secret::Secret;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limiter(requests: u32, per: Duration, burst: u32) -> Limiter {
        Limiter::new(RateLimit { requests, per, burst })
    }

    fn passed(limiter: &Limiter, key: u64, tries: usize, now: Duration) -> usize {
        (0..tries).filter(|_| limiter.check(key, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let limiter = limiter(10, SECOND, 30);
        let start = SECOND * 1000;
        assert_eq!(passed(&limiter, 1, 100, start), 30);
        assert_eq!(passed(&limiter, 2, 100, start), 30, "each for itself");
        assert_eq!(limiter.check(1, start), Err(SECOND / 10), "and says how long");
        assert_eq!(passed(&limiter, 1, 100, start + SECOND / 10), 1);
        assert_eq!(passed(&limiter, 1, 100, start + SECOND * 2), 19);
        assert_eq!(
            passed(&limiter, 1, 100, start + SECOND * 60),
            30,
            "never more than the burst"
        );
    }

    #[test]
    fn the_providers_calls_and_a_users_take_nothing_from_each_other() {
        let provider = ProviderConfig::new("https://login.example", "shop", Secret::new("hush"));
        let config = ApplicationConfig::new("shop", "https://shop.example", provider);
        let application = config.check().unwrap_or_else(|problems| panic!("{problems:?}"));
        let limits = RateLimits::new(&application, None);
        let peers = TrustedPeers::nobody();
        let client = ClientFacts {
            address: Some(IpAddr::from([203, 0, 113, 1])),
        };
        let passes = |endpoint| {
            limits
                .check_agent(&application, endpoint, &client, &peers, || None, SECOND * 1000)
                .is_ok()
        };
        for number in 0..defaults::FRONTCHANNEL_LIMIT.burst {
            assert!(passes(Endpoint::FrontchannelLogout), "{number}");
        }
        // what nobody signed has a limit for all together
        assert!(!passes(Endpoint::FrontchannelLogout));
        while passes(Endpoint::BackchannelLogout) {}
        assert!(!passes(Endpoint::FrontchannelLogout));
        // who floods the one signs in and out all the same
        assert!(passes(Endpoint::LoginStart) && passes(Endpoint::Sessions) && passes(Endpoint::Logout));
        while passes(Endpoint::SessionEnd) {}
        assert!(!passes(Endpoint::Session) && !passes(Endpoint::Sessions));
    }

    #[test]
    fn links_that_sign_out_leave_a_users_own_sign_outs_alone() {
        let provider = ProviderConfig::new("https://login.example", "shop", Secret::new("hush"));
        let mut config = ApplicationConfig::new("shop", "https://shop.example", provider);
        config.compatibility = Some("duende".to_owned());
        let application = config.check().unwrap_or_else(|problems| panic!("{problems:?}"));
        let limits = RateLimits::new(&application, None);
        let (client, peers) = (ClientFacts { address: None }, TrustedPeers::nobody());
        let passes = |endpoint| {
            let session = || Some(SessionId([7; 16]));
            limits
                .check_agent(&application, endpoint, &client, &peers, session, SECOND * 1000)
                .is_ok()
        };
        let mut links = 0;
        while passes(Endpoint::LogoutLink) {
            links += 1;
        }
        // each right one may ask the provider to revoke tokens
        assert_eq!(links, defaults::SIGN_OUT_LIMIT.burst);
        assert!(passes(Endpoint::Logout));
        let mut others = 0;
        while passes(Endpoint::User) {
            others += 1;
        }
        assert_eq!(others, defaults::AGENT_SESSION_LIMIT.burst);
    }

    #[test]
    fn a_refusal_takes_nothing_off() {
        let limiter = limiter(1, SECOND, 1);
        assert_eq!(passed(&limiter, 1, 1, SECOND), 1);
        assert_eq!(passed(&limiter, 1, 1000, SECOND * 3 / 2), 0);
        assert_eq!(passed(&limiter, 1, 1, SECOND * 2), 1);
    }

    #[test]
    fn time_that_stands_still_or_goes_back_frees_nobody_and_breaks_nothing() {
        let limiter = limiter(1, SECOND, 2);
        assert_eq!(passed(&limiter, 1, 10, SECOND * 100), 2);
        assert_eq!(passed(&limiter, 1, 10, SECOND * 50), 0);
        // the end of time, where nothing overflows
        passed(&limiter, 1, 10, Duration::MAX);
    }

    #[test]
    fn a_flood_of_keys_neither_grows_the_table_nor_frees_who_asks_much() {
        let limiter = limiter(1, SECOND, 100);
        let now = SECOND * 1000;
        let heavy = limiter.key(b"heavy");
        assert_eq!(passed(&limiter, heavy, 200, now), 100);
        for number in 0..1_000_000_u32 {
            let key = limiter.key(&number.to_be_bytes());
            assert!(limiter.check(key, now).is_ok(), "newcomers pass");
        }
        assert!(limiter.check(heavy, now).is_err(), "still over the limit");
        let places: usize = limiter
            .shards
            .iter()
            .map(|shard| shard.lock().expect("no panic").slots.len())
            .sum();
        assert_eq!(places, SHARDS * SETS * WAYS);
    }

    #[test]
    fn an_ipv6_customer_is_one_client_and_addresses_are_apart() {
        let key = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    }

    #[test]
    fn addresses_of_private_networks_are_not_clients_of_the_internet() {
        for (address, public) in [
            ("203.0.113.7", true),
            ("2001:db8::1", true),
            ("100.128.0.1", true),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.0.1", false),
            ("::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(
                is_public(address.parse().expect("an address")),
                public,
                "{address}"
            );
        }
    }

    #[test]
    fn waits_are_whole_seconds_and_never_none() {
        for (wait, seconds) in [
            (Duration::from_nanos(1), 1),
            (SECOND, 1),
            (SECOND + Duration::from_nanos(1), 2),
            (Duration::MAX, u32::MAX),
        ] {
            assert_eq!(too_often(wait), Error::RateLimited { retry_after: seconds });
        }
    }

    #[test]
    fn the_log_says_once_in_a_while_that_a_limit_refuses() {
        let limiter = limiter(1, SECOND, 1);
        let mut told = 0;
        for second in 0..=120 {
            for _ in 0..10 {
                limiter.refused(SECOND * (1000 + second), || told += 1);
            }
        }
        assert_eq!(told, 3);
        assert_eq!(limiter.refusals.load(Ordering::Relaxed), 1210);
    }
}
