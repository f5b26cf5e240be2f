//! Connections to one server, to a cluster, to whichever master the Sentinels name.
//!
//! One multiplexed connection for each tokio runtime that asks: a connection belongs to the runtime
//! that reads from it, and a data core that waits for no other core is the faster one. It is made when
//! first asked for, by one task at a time, and after a failure not before a pause that grows, so that a
//! server that comes back is not run over. A connection that turns out dead (closed by the server
//! while idle, gone with a failover) costs its operations one more attempt on a fresh one; all of them
//! can be repeated. Behind Sentinels each new connection asks them anew. Nothing here blocks a thread,
//! and no operation outlives its deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline,
    RedisConnectionInfo, RedisError, RedisFuture, TlsCertificates, TlsMode, Value,
};
use arc_swap::{ArcSwap, ArcSwapOption};
use coatroom_core::config::{StoreKind, StoreSettings};
use coatroom_core::rng::Rng as _;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, timeout_at};

use super::address::{Address, Credentials};
use super::failure::{Blame, Failure};
use crate::clock::SystemRng;
use crate::store::StoreError;

/// All connections of a store.
pub(super) struct Connections {
    plan: Plan,
    timeout: Duration,
    slots: ArcSwap<Vec<(Id, Arc<Slot>)>>,
    generations: AtomicU64,
}

/// What to connect to.
enum Plan {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
    Sentinel(Box<Sentinels>),
}

/// What the Sentinels are asked with, and what the master they name is.
struct Sentinels {
    addresses: Vec<ConnectionAddr>,
    address: Address,
    certificates: Option<TlsCertificates>,
}

/// The connection of one runtime.
#[derive(Default)]
struct Slot {
    live: ArcSwapOption<Live>,
    dial: tokio::sync::Mutex<Dial>,
}

/// A connection that answered once.
struct Live {
    link: Link,
    generation: u64,
    since: Instant,
}

/// What is known of attempts to connect: held by whoever makes one.
#[derive(Default)]
struct Dial {
    failures: u32,
    rest: Option<(Instant, Failure)>,
}

/// A connection of either kind; a clone shares it.
#[derive(Clone)]
pub(super) enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connections {
    /// Prepares them; connects to nothing.
    ///
    /// # Errors
    /// The address or the authorities cannot be used.
    pub(super) fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let address = Address::parse(settings)?;
        let plan = plan(settings, address).map_err(|error| {
            StoreError::Unavailable(format!("the Redis store: {}", Failure::from(error).text))
        })?;
        Ok(Self {
            plan,
            timeout: settings.timeout,
            slots: ArcSwap::default(),
            generations: AtomicU64::new(1),
        })
    }

    /// Runs an operation, which can be repeated without harm: once more where its connection was dead.
    /// It gets the connection and the connection's number.
    pub(super) async fn run<T, F>(
        &self,
        operation: &'static str,
        attempt: impl Fn(Link, u64) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + self.timeout;
        let slot = self.slot();
        let fails = |text: &str| StoreError::Unavailable(format!("{operation}: {text}"));
        let timed_out = || fails(&format!("timed out after {:?}", self.timeout));
        for again in [true, false] {
            let live = timeout_at(deadline, slot.live(self))
                .await
                .map_err(|_| timed_out())?
                .map_err(|failure| fails(&failure.text))?;
            let outcome = timeout_at(deadline, attempt(live.link.clone(), live.generation)).await;
            let blame = match &outcome {
                Ok(Ok(_)) => Blame::Nobody,
                Ok(Err(failure)) => failure.blame,
                Err(_) => Blame::Server,
            };
            let fresh_one_may_do = self.give_up(&slot, &live, blame);
            match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(_)) if again && fresh_one_may_do => {}
                Ok(Err(failure)) => return Err(fails(&failure.text)),
                Err(_) => return Err(timed_out()),
            }
        }
        Err(fails("the connection failed"))
    }

    /// Forgets a connection that did what it is blamed for; whether the next one may do better.
    fn give_up(&self, slot: &Slot, live: &Arc<Live>, blame: Blame) -> bool {
        let old_enough = match (&self.plan, blame) {
            (_, Blame::Nobody) => return false,
            // it looks after its nodes itself; this is for when all of them have moved
            (Plan::Cluster(_), _) => Duration::from_secs(5),
            (_, Blame::Connection) => Duration::ZERO,
            // a server that stays as it is must not be connected to for each call
            (_, Blame::Server) => Duration::from_secs(1),
        };
        if live.since.elapsed() < old_enough {
            return false;
        }
        // only if nobody has put another one in its place
        slot.live.compare_and_swap(live, None);
        true
    }

    /// The slot of the runtime that asks.
    fn slot(&self) -> Arc<Slot> {
        let id = Handle::current().id();
        let find = |slots: &[(Id, Arc<Slot>)]| {
            slots
                .iter()
                .find(|(of, _)| *of == id)
                .map(|(_, slot)| slot.clone())
        };
        if let Some(slot) = find(&self.slots.load()) {
            return slot;
        }
        let new = Arc::new(Slot::default());
        self.slots.rcu(|slots| {
            let mut slots = Vec::clone(slots);
            if find(&slots).is_none() {
                // runtimes that are gone leave theirs behind
                slots.drain(..(slots.len() + 1).saturating_sub(MOST_RUNTIMES));
                slots.push((id, new.clone()));
            }
            slots
        });
        find(&self.slots.load()).unwrap_or(new)
    }
}

impl Slot {
    /// The connection, made by whoever asks first.
    async fn live(&self, connections: &Connections) -> Result<Arc<Live>, Failure> {
        if let Some(live) = self.live.load_full() {
            return Ok(live);
        }
        let mut dial = self.dial.lock().await;
        if let Some(live) = self.live.load_full() {
            return Ok(live);
        }
        if let Some((until, failure)) = &dial.rest
            && *until > Instant::now()
        {
            return Err(failure.clone());
        }
        // so that a failure is known before those who wait for it have given up
        let limit = connections.timeout.mul_f32(0.75);
        let outcome = match timeout_at(Instant::now() + limit, connections.plan.connect(limit)).await {
            Ok(outcome) => outcome.map_err(Failure::from),
            Err(_) => Err(Failure {
                text: "timed out".to_owned(),
                blame: Blame::Nobody,
            }),
        };
        match outcome {
            Ok(link) => {
                *dial = Dial::default();
                let live = Arc::new(Live {
                    link,
                    generation: connections.generations.fetch_add(1, Ordering::Relaxed),
                    since: Instant::now(),
                });
                self.live.store(Some(live.clone()));
                Ok(live)
            }
            Err(failure) => {
                let failure = Failure {
                    text: format!("connecting: {}", failure.text),
                    ..failure
                };
                dial.failures = dial.failures.saturating_add(1);
                dial.rest = Some((Instant::now() + pause(dial.failures), failure.clone()));
                Err(failure)
            }
        }
    }
}

/// How long nobody tries after so many failures: twice as long each time, between half and all of it.
fn pause(failures: u32) -> Duration {
    let most = SHORTEST_PAUSE
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
        .min(LONGEST_PAUSE);
    let mut byte = [0];
    SystemRng.fill(&mut byte);
    most / 2 + most / 2 * u32::from(byte[0]) / 255
}

impl Plan {
    async fn connect(&self, limit: Duration) -> Result<Link, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            // deadlines are kept for whole operations
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        match self {
            Self::Single(client) => client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map(Link::Single),
            Self::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
            Self::Sentinel(sentinels) => {
                let mut asked = sentinels.client()?;
                let master = asked.async_get_client().await?.get_connection_info().clone();
                let quiet = master.redis_settings().clone().set_skip_set_lib_name();
                Client::open(master.set_redis_settings(quiet).set_tcp_settings(tcp()))?
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
                    .map(Link::Single)
            }
        }
    }
}

impl Sentinels {
    fn client(&self) -> Result<::redis::sentinel::SentinelClient, RedisError> {
        let Address {
            credentials,
            sentinel_credentials,
            database,
            ..
        } = &self.address;
        let mut builder = SentinelClientBuilder::new(
            self.addresses.clone(),
            &self.address.monitored,
            SentinelServerType::Master,
        )?
        .set_client_to_redis_db(i64::from(*database));
        if let Some(username) = &credentials.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &credentials.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(username) = &sentinel_credentials.username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &sentinel_credentials.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if self.address.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        builder.build()
    }
}

fn plan(settings: &StoreSettings, address: Address) -> Result<Plan, RedisError> {
    let certificates = (settings.ca.as_ref())
        .filter(|_| address.tls)
        .map(|pem| TlsCertificates {
            client_tls: None,
            root_cert: Some(pem.clone()),
        });
    let addresses: Vec<ConnectionAddr> = address
        .hosts
        .iter()
        .map(|(host, port)| match address.tls {
            false => ConnectionAddr::Tcp(host.clone(), *port),
            true => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
        })
        .collect();
    Ok(match settings.kind {
        StoreKind::RedisSentinel => {
            let sentinels = Sentinels {
                addresses,
                address,
                certificates,
            };
            // what is wrong with the authorities shows now
            sentinels.client()?;
            Plan::Sentinel(Box::new(sentinels))
        }
        StoreKind::RedisCluster => {
            let nodes = addresses
                .into_iter()
                .map(|node| info(node, &address.credentials, 0))
                .collect::<Result<Vec<_>, _>>()?;
            let mut builder = ClusterClientBuilder::new(nodes)
                .tcp_settings(tcp())
                .connection_timeout(settings.timeout)
                .response_timeout(settings.timeout)
                .retries(CLUSTER_RETRIES)
                .min_retry_wait(10)
                .max_retry_wait(200);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            Plan::Cluster(Box::new(builder.build()?))
        }
        _ => {
            let node = addresses.into_iter().next().ok_or((
                ::redis::ErrorKind::InvalidClientConfig,
                "the address names no host",
            ))?;
            let info = info(node, &address.credentials, address.database)?;
            let client = match certificates {
                Some(certificates) => Client::build_with_tls(info, certificates),
                None => Client::open(info),
            };
            Plan::Single(Box::new(client?))
        }
    })
}

fn info(
    node: ConnectionAddr,
    credentials: &Credentials,
    database: u16,
) -> Result<ConnectionInfo, RedisError> {
    let mut settings = RedisConnectionInfo::default()
        .set_db(i64::from(database))
        // one command less to allow
        .set_skip_set_lib_name();
    if let Some(username) = &credentials.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &credentials.password {
        settings = settings.set_password(password);
    }
    Ok(node
        .into_connection_info()?
        .set_redis_settings(settings)
        .set_tcp_settings(tcp()))
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// More runtimes than a process has: the oldest beyond this lose their connection.
const MOST_RUNTIMES: usize = 256;

/// Commands that wait to be written before callers wait.
const PIPELINE: usize = 1024;

/// How often the cluster's client itself tries again: after redirections, while a slot moves.
const CLUSTER_RETRIES: u32 = 4;

const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_are_never_the_same_for_all() {
        for (failures, most) in [(1, 20), (2, 40), (3, 80), (7, 1_000), (u32::MAX, 1_000)] {
            let most = Duration::from_millis(most);
            for _ in 0..50 {
                let pause = pause(failures);
                assert!(pause >= most / 2 && pause <= most, "{failures}: {pause:?}");
            }
        }
    }
}
