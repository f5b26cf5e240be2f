//! Where sessions are kept: in cookies, with or without a store for revocations, or in a store.
//!
//! What is written becomes checked settings; nothing here connects to anything. The address may hold
//! a password, so it is a [`Secret`] and only its label is ever shown.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Problems;
use super::{Problem, defaults};
use crate::secret::Secret;

mod address;

/// A store as written: an address, and how to reach it.
#[derive(Clone)]
pub struct StoreConfig {
    /// `memory`, `sqlite:FILE`, `postgres://…`, `redis://…`, `rediss://…`, `redis+cluster://…`,
    /// `rediss+cluster://…`, `redis+sentinel://…` or `rediss+sentinel://…`.
    pub url: Secret,
    /// The authorities that a server's certificate may come from, instead of the system's: PEM.
    pub ca: Option<Vec<u8>>,
    /// What stands in front of every name in the store: 1 to 64 of `A-Z a-z 0-9 : . _ -`; default
    /// `coatroom:`.
    pub prefix: Option<String>,
    /// How long one operation may take, 50 ms to 3 s; default 2 s.
    pub timeout: Option<Duration>,
}

/// What kind of store it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreKind {
    /// In this process, gone with it.
    Memory,
    /// A file of this machine.
    Sqlite(PathBuf),
    /// PostgreSQL.
    Postgres,
    /// One Redis or Valkey server.
    Redis,
    /// A Redis or Valkey cluster: several `host:port` in the address, separated by commas.
    RedisCluster,
    /// Redis or Valkey behind Sentinels: several `host:port` in the address, separated by commas, the
    /// monitored name in the path, then the database: `redis+sentinel://a:1,b:2/mymaster/0`.
    RedisSentinel,
}

/// A store, checked. Equal ones share connections.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Its kind.
    pub kind: StoreKind,
    /// The whole address.
    pub url: Secret,
    /// The authorities, PEM.
    pub ca: Option<Vec<u8>>,
    /// What stands in front of every name.
    pub prefix: String,
    /// How long one operation may take.
    pub timeout: Duration,
}

/// What whoever listens on the way to a store can read: values are sealed before they travel, the
/// password and the names of entries are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreTransport {
    /// Nothing: it does not leave the machine.
    Local,
    /// Nothing: TLS, and the server's certificate is verified.
    Encrypted,
    /// Whatever somebody on the way wants to: TLS with any server, or only if the server offers it.
    Unverified,
    /// All of it.
    Plain,
}

/// Where an application's sessions are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum SessionStorage {
    /// In sealed cookies, and nothing on a server.
    #[default]
    Cookie,
    /// In sealed cookies; what has ended, and the short memory of refreshes, in a store.
    CookieWithRevocations(Box<StoreSettings>),
    /// In a store; the cookie holds a handle.
    Store(Box<StoreSettings>),
}

impl StoreConfig {
    /// A store with every setting at its default.
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            ca: None,
            prefix: None,
            timeout: None,
        }
    }

    /// Whether an address holds a password, or a user who is nobody without one: such an address does
    /// not belong into a file. Errs on the side of yes.
    pub fn holds_credentials(address: &str) -> bool {
        address::holds_credentials(address)
    }

    /// Checks everything.
    ///
    /// # Errors
    /// Every problem there is, at `url`, `ca`, `prefix` or `timeout`; none quotes the address.
    pub fn check(self) -> Result<StoreSettings, Vec<Problem>> {
        let mut problems = Problems::default();
        let address = address::parse(self.url.expose())
            .map_err(|wrong| problems.add(&["url"], wrong.message, wrong.hint))
            .ok();
        if let (Some(address), Some(_)) = (&address, &self.ca)
            && !address.verifies
        {
            let hint = match address.kind {
                StoreKind::Postgres => "add `?sslmode=verify-full` to the address",
                StoreKind::Memory | StoreKind::Sqlite(_) => "remove `ca`",
                StoreKind::Redis | StoreKind::RedisCluster | StoreKind::RedisSentinel => {
                    "write `rediss://…`, `rediss+cluster://…` or `rediss+sentinel://…`"
                }
            };
            problems.add(&["ca"], "nobody looks at the certificate that this is for", hint);
        }
        let prefix = self.prefix.unwrap_or_else(|| defaults::STORE_PREFIX.to_owned());
        let plain = |b: u8| b.is_ascii_alphanumeric() || b":._-".contains(&b);
        if !(1..=MAX_PREFIX).contains(&prefix.len()) || !prefix.bytes().all(plain) {
            problems.add(
                &["prefix"],
                "expected 1 to 64 of A-Z, a-z, 0-9, `:`, `.`, `_` and `-`",
                "prefix: \"coatroom:\"",
            );
        }
        let timeout = self.timeout.unwrap_or(defaults::STORE_TIMEOUT);
        if !(defaults::MIN_STORE_TIMEOUT..=defaults::MAX_STORE_TIMEOUT).contains(&timeout) {
            problems.add(
                &["timeout"],
                "expected between 50ms and 3s: every call with a session waits for its store",
                "timeout: 2s",
            );
        }
        match address {
            Some(address) if problems.0.is_empty() => Ok(StoreSettings {
                kind: address.kind,
                url: self.url,
                ca: self.ca,
                prefix,
                timeout,
            }),
            _ => Err(problems.0),
        }
    }
}

impl StoreSettings {
    /// The address with whatever password is in it, for the client that connects and for nothing else.
    pub fn address(&self) -> &str {
        self.url.expose()
    }

    /// The address without users, passwords and parameters: for logs, metrics and people.
    pub fn label(&self) -> String {
        address::parse(self.url.expose()).map_or_else(
            // Of settings that nobody checked; their address may be anything.
            |_| self.kind.name().to_owned(),
            |address| address.label,
        )
    }

    /// What can be read on the way to it.
    pub fn transport(&self) -> StoreTransport {
        address::parse(self.url.expose()).map_or(StoreTransport::Plain, |address| address.transport)
    }
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "StoreSettings({})", self.label())
    }
}

impl StoreKind {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite(_) => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::RedisCluster => "Redis Cluster",
            Self::RedisSentinel => "Redis Sentinel",
        }
    }
}

impl SessionStorage {
    /// The store, if there is one.
    pub fn settings(&self) -> Option<&StoreSettings> {
        match self {
            Self::Cookie => None,
            Self::CookieWithRevocations(settings) | Self::Store(settings) => Some(settings),
        }
    }

    /// Whether sessions live in the store.
    pub fn is_stateful(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}

/// More than anybody needs to tell applications of one server apart.
const MAX_PREFIX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "hunter2";

    fn check(url: &str) -> Result<StoreSettings, Vec<Problem>> {
        StoreConfig::new(Secret::new(url)).check()
    }

    #[test]
    fn addresses_are_understood_and_shown_without_who_connects() {
        use StoreTransport::{Encrypted, Local, Plain, Unverified};
        for (url, kind, label, transport) in [
            ("memory", "memory", "memory", Local),
            ("sqlite:s.db", "SQLite", "sqlite:s.db", Local),
            (
                "sqlite:/var/lib/a b/s.db",
                "SQLite",
                "sqlite:/var/lib/a b/s.db",
                Local,
            ),
            (
                "postgres://u:hunter2@db/c",
                "PostgreSQL",
                "postgres://db:5432/c",
                Encrypted,
            ),
            (
                "postgresql://db:1/c?sslmode=verify-full",
                "PostgreSQL",
                "postgres://db:1/c",
                Encrypted,
            ),
            (
                "postgres://db/c?sslmode=disable",
                "PostgreSQL",
                "postgres://db:5432/c",
                Plain,
            ),
            (
                "postgres://db/c?sslmode=require",
                "PostgreSQL",
                "postgres://db:5432/c",
                Unverified,
            ),
            (
                "postgres://u:hunter2@127.0.0.1/c",
                "PostgreSQL",
                "postgres://127.0.0.1:5432/c",
                Local,
            ),
            (
                "postgres:///c?host=/run/pg&user=u&password=hunter2",
                "PostgreSQL",
                "postgres:/run/pg/c",
                Local,
            ),
            (
                "postgres://%2Frun%2Fpg/c",
                "PostgreSQL",
                "postgres:/run/pg/c",
                Local,
            ),
            (
                "postgres://localhost/c?host=db.example.com",
                "PostgreSQL",
                "postgres://db.example.com:5432/c",
                Encrypted,
            ),
            ("redis://cache", "Redis", "redis://cache:6379", Plain),
            ("redis://u:hunter2@cache:1/3", "Redis", "redis://cache:1/3", Plain),
            ("redis://:h%2Funter2@cache/", "Redis", "redis://cache:6379", Plain),
            ("redis://[::1]:7", "Redis", "redis://[::1]:7", Local),
            ("redis://redis_1", "Redis", "redis://redis_1:6379", Plain),
            ("redis://localhost", "Redis", "redis://localhost:6379", Local),
            ("rediss://cache", "Redis", "rediss://cache:6379", Encrypted),
            (
                "rediss://localhost",
                "Redis",
                "rediss://localhost:6379",
                Encrypted,
            ),
            (
                "redis+cluster://u:hunter2@a,b:7",
                "Redis Cluster",
                "redis+cluster://a:6379,b:7",
                Plain,
            ),
            (
                "redis+cluster://127.0.0.1:1,127.0.0.1:2/0",
                "Redis Cluster",
                "redis+cluster://127.0.0.1:1,127.0.0.1:2/0",
                Local,
            ),
            (
                "rediss+cluster://a,b",
                "Redis Cluster",
                "rediss+cluster://a:6379,b:6379",
                Encrypted,
            ),
            (
                "redis+sentinel://:hunter2@a,b:1/mymaster",
                "Redis Sentinel",
                "redis+sentinel://a:26379,b:1/mymaster",
                Plain,
            ),
            (
                "rediss+sentinel://a/my-master/2",
                "Redis Sentinel",
                "rediss+sentinel://a:26379/my-master/2",
                Encrypted,
            ),
            (
                "redis+sentinel://u:hunter2@a,b/m/1?sentinel_username=s&sentinel_password=hunter2%26",
                "Redis Sentinel",
                "redis+sentinel://a:26379,b:26379/m/1",
                Plain,
            ),
            (
                "redis+sentinel://a/m?sentinel_password=hunter2",
                "Redis Sentinel",
                "redis+sentinel://a:26379/m",
                Plain,
            ),
        ] {
            let settings = check(url).unwrap_or_else(|problems| panic!("{url}: {problems:?}"));
            assert_eq!(
                (
                    settings.kind.name(),
                    settings.label().as_str(),
                    settings.transport()
                ),
                (kind, label, transport),
                "{url}"
            );
            assert!(!format!("{settings:?}").contains(CANARY), "{url}");
            assert_eq!(settings.address(), url);
        }
    }

    #[test]
    fn addresses_that_cannot_mean_what_they_say_are_refused_without_being_shown() {
        for url in [
            "",
            "cookies",
            "Memory",
            "memory:",
            "hunter2",
            "sqlite",
            "sqlite:",
            "sqlite::memory:",
            "sqlite://hunter2",
            "sqlite:folder/",
            "sqlite:s.db?mode=hunter2",
            "mysql://u:hunter2@h/d",
            "valkey://:hunter2@h",
            "REDIS://h",
            "redis:hunter2",
            "redis://",
            "redis://:hunter2@",
            "redis://:hunter2",
            "redis://h:0",
            "redis://h:65536",
            "redis://h:+1",
            "redis://h:",
            "redis://a,b",
            "redis://::1",
            "redis://h/hunter2",
            "redis://h/0/1",
            "redis://h/-1",
            "redis://:hunter2@h?protocol=resp3",
            "rediss://:hunter2@h/#insecure",
            "redis://:hunt/er2@h",
            "redis://:hunt@er2@h",
            "redis://:hunter%2@h",
            "redis://:hunter2 @h",
            "redis://:hunter2@h\n",
            "redis+cluster://a,,b",
            "redis+cluster://a/1",
            "redis+sentinel://a",
            "redis+sentinel://a/hunter2!",
            "redis+sentinel://a/m/x",
            "redis+sentinel:///m",
            "redis+sentinel://a/m?",
            "redis+sentinel://a/m?password=hunter2",
            "redis+sentinel://a/m?sentinel_password",
            "redis+sentinel://a/m?sentinel_password=",
            "redis+sentinel://a/m?sentinel_password=hunter2&sentinel_password=hunter2",
            "redis+sentinel://a/m?sentinel_password=hunter2&db=1",
            "redis+sentinel://a/m?sentinel_password=hunt%er2",
            "redis+sentinel://a/m?sentinel_password=hunt@er2",
            "redis+sentinel://a/m?sentinel_password=hunt#er2",
            "redis+sentinel://a/m?sentinel_password=hunt?er2",
            "redis+sentinel://a?sentinel_password=hunter2",
            "redis://h?sentinel_password=hunter2",
            "redis+cluster://h?sentinel_password=hunter2",
            "postgres://h",
            "postgres://h/",
            "postgres:///d",
            "postgres://a,b/d",
            "postgres://u:hunt/er2@h/d",
            "postgres://h:x/d",
            "postgres://h/d/e",
            "postgres://h/d#hunter2",
            "postgres://h/d?passwrod=hunter2",
            "postgres://h/d?sslmode=hunter2",
            "postgres://h/d?sslmode=verify-full&sslmode=disable",
            "postgres://h/d?sslrootcert=/etc/ca.pem",
            "postgres://h/d?port=hunter2",
        ] {
            let problems = check(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert_eq!(problems.len(), 1, "{url}");
            assert_eq!(problems[0].at, ["url"], "{url}");
            let said = format!("{problems:?}");
            assert!(
                !said.contains("hunt") && !problems[0].hint.is_empty(),
                "{url}: {said}"
            );
        }
    }

    #[test]
    fn the_other_settings_have_bounds_and_defaults() {
        let settings = check("redis://h").expect("good");
        assert_eq!(
            (settings.prefix.as_str(), settings.timeout),
            ("coatroom:", Duration::from_secs(2))
        );
        let config = |prefix: &str, timeout: u64, ca: bool, url: &str| StoreConfig {
            ca: ca.then(|| b"pem".to_vec()),
            prefix: Some(prefix.to_owned()),
            timeout: Some(Duration::from_millis(timeout)),
            ..StoreConfig::new(Secret::new(url))
        };
        for (prefix, timeout, ca, url, places) in [
            ("shop:", 50, false, "redis://h", &[] as &[&str]),
            (&"a".repeat(64), 3_000, true, "rediss://h", &[]),
            ("a", 1000, true, "postgres://h/d?sslmode=verify-ca", &[]),
            ("", 1000, false, "redis://h", &["prefix"]),
            (&"a".repeat(65), 1000, false, "redis://h", &["prefix"]),
            ("{a}", 1000, false, "redis+cluster://h", &["prefix"]),
            ("a b", 49, false, "redis://h", &["prefix", "timeout"]),
            ("a", 3_001, false, "redis://h", &["timeout"]),
            ("a", 1000, true, "redis://h", &["ca"]),
            ("a", 1000, true, "redis://localhost", &["ca"]),
            ("a", 1000, true, "memory", &["ca"]),
            ("a", 1000, true, "sqlite:s", &["ca"]),
            ("a", 1000, true, "postgres://h/d", &[]),
            ("a", 1000, true, "postgres://localhost/d", &[]),
            ("a", 1000, true, "postgres:///d?host=/run/pg", &["ca"]),
            ("a", 1000, true, "postgres://h/d?sslmode=disable", &["ca"]),
            ("a", 1000, true, "postgres://h/d?sslmode=require", &["ca"]),
            ("\n", 0, true, "cookies", &["url", "prefix", "timeout"]),
        ] {
            let found = match config(prefix, timeout, ca, url).check() {
                Ok(_) => Vec::new(),
                Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
            };
            assert_eq!(found, places, "{prefix:?} {timeout} {ca} {url}");
        }
    }

    #[test]
    fn passwords_are_seen_wherever_they_stand_in_an_address() {
        for (address, expected) in [
            ("memory", false),
            ("sqlite:a", false),
            ("redis://h:6379/0", false),
            ("redis+cluster://a:1,b:2", false),
            ("postgres://h/d?sslmode=verify-full", false),
            ("postgres://u@h/d", false),
            ("postgres://u:p@h/d", true),
            ("postgres://h/d?user=u&password=p", true),
            ("postgres://h/d?PASSWORD=p", true),
            ("postgres://u:p/p@h/d", true),
            ("redis://:p@h", true),
            ("redis://p@h", true),
            ("redis://u:p@h", true),
            ("redis+sentinel://:p@a,b/m", true),
            ("redis+sentinel://a,b/m", false),
            ("redis+sentinel://a/m?sentinel_password=p", true),
            ("redis+sentinel://a/m?sentinel_username=u", true),
            ("postgres://h/passwords?dbname=passwd", false),
            ("redis:p@h", true),
        ] {
            assert_eq!(StoreConfig::holds_credentials(address), expected, "{address}");
        }
    }
}
