//! Addresses of stores: what one says, and what is wrong with it.
//!
//! An address may hold a password, so nothing here quotes one: messages name the part, and a label
//! is put together from what is known to be harmless (kind, hosts, database). No client's own parser
//! is trusted with an address that was not read here first: one of them logs the value of a parameter
//! that it does not know.

use std::fmt::Write as _;
use std::path::PathBuf;

use url::{Host, Url};

use super::{StoreKind, StoreTransport};

/// An address that was understood, without whoever connects.
pub(super) struct Address {
    /// What kind of store it leads to.
    pub(super) kind: StoreKind,
    /// The address without credentials and parameters.
    pub(super) label: String,
    /// What travels in the clear on the way there.
    pub(super) transport: StoreTransport,
    /// Whether the server's certificate is looked at, so that authorities for it have a use.
    pub(super) verifies: bool,
}

/// What is wrong with an address; neither text quotes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: &'static str,
    pub(super) hint: &'static str,
}

/// Reads an address.
pub(super) fn parse(text: &str) -> Result<Address, Wrong> {
    if text == "memory" {
        return Ok(Address {
            kind: StoreKind::Memory,
            label: "memory".to_owned(),
            transport: StoreTransport::Local,
            verifies: false,
        });
    }
    if let Some(file) = text.strip_prefix("sqlite:") {
        return sqlite(file);
    }
    let (scheme, rest) = text.split_once("://").ok_or(UNKNOWN)?;
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong(
            "the address has a blank in it",
            "remove it; in a password a blank is `%20`",
        ));
    }
    match scheme {
        "postgres" | "postgresql" => postgres(text, rest),
        "redis" => redis(StoreKind::Redis, scheme, rest),
        "rediss" => redis(StoreKind::Redis, scheme, rest),
        "redis+cluster" | "rediss+cluster" => redis(StoreKind::RedisCluster, scheme, rest),
        "redis+sentinel" | "rediss+sentinel" => redis(StoreKind::RedisSentinel, scheme, rest),
        "valkey" | "valkeys" => Err(wrong(
            "Valkey is reached by the address of a Redis",
            "write `redis://…`, or `rediss://…` for TLS",
        )),
        _ => Err(UNKNOWN),
    }
}

/// Whether an address holds what should not stand in a file: a password, or a name that is good for
/// nothing without one. Errs on the side of yes.
pub(super) fn holds_credentials(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.contains('@');
    };
    let has_password = rest.split(['?', '&', '#']).skip(1).any(|parameter| {
        let parameter = parameter.to_ascii_lowercase();
        let name = parameter.split('=').next().unwrap_or_default();
        name.contains("passw") || name.starts_with("sentinel_")
    });
    // A user of PostgreSQL may have no password: a certificate, or a socket that knows who asks.
    let has_user = match rest.rsplit_once('@') {
        Some((user, _)) => !scheme.starts_with("postgres") || user.contains(':'),
        None => false,
    };
    has_password || has_user
}

fn sqlite(file: &str) -> Result<Address, Wrong> {
    let is_memory = file.starts_with(':');
    if is_memory {
        return Err(wrong(
            "a database in memory has a kind of its own",
            "write `memory`",
        ));
    }
    if file.starts_with("//") || file.is_empty() || file.ends_with('/') || file.contains(['?', '\0', '\n']) {
        return Err(wrong(
            "expected `sqlite:` and the path of a file, without parameters",
            "write for example `sqlite:/var/lib/coatroom/sessions.db`",
        ));
    }
    Ok(Address {
        kind: StoreKind::Sqlite(PathBuf::from(file)),
        label: format!("sqlite:{file}"),
        transport: StoreTransport::Local,
        verifies: false,
    })
}

/// What stands before and behind the end of the host's part.
fn split(rest: &str) -> Result<(&str, &str), Wrong> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let (user, _) = authority.rsplit_once('@').unwrap_or(("", ""));
    if tail.contains('@') || user.contains('@') || !is_percent_encoded(user) {
        return Err(wrong(
            "a character of the user or the password is not percent-encoded",
            "write `%2F` for `/`, `%3F` for `?`, `%23` for `#`, `%40` for `@`, `%25` for `%`",
        ));
    }
    Ok((authority, tail))
}

fn is_percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let mut digits = rest.bytes().take(2);
        digits.clone().count() == 2 && digits.all(|b| b.is_ascii_hexdigit())
    })
}

fn redis(kind: StoreKind, scheme: &str, rest: &str) -> Result<Address, Wrong> {
    let (authority, tail) = split(rest)?;
    let tail = match (&kind, tail.split_once('?')) {
        (StoreKind::RedisSentinel, Some((tail, parameters))) => {
            sentinel_parameters(parameters)?;
            tail
        }
        _ => tail,
    };
    if tail.contains(['?', '#']) {
        return Err(wrong(
            "such an address has no parameters and no fragment",
            "end it behind the database, for example `redis://cache.example.com/0`",
        ));
    }
    let default_port = match kind {
        StoreKind::RedisSentinel => 26379,
        _ => 6379,
    };
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let places: Option<Vec<Place>> = hosts.split(',').map(|host| place(host, default_port)).collect();
    let places = places.ok_or(wrong(
        "expected a host, perhaps with a port",
        "write for example `redis://cache.example.com:6379`, an IPv6 address in brackets",
    ))?;
    if kind == StoreKind::Redis && places.len() > 1 {
        return Err(wrong(
            "one server has one host",
            "write `redis+cluster://…` for a cluster, `redis+sentinel://…/NAME` for Sentinels",
        ));
    }
    let path = tail.strip_prefix('/').unwrap_or(tail);
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_good = match kind {
        StoreKind::RedisCluster => path.is_empty() || path == "0",
        StoreKind::RedisSentinel => {
            let (name, database) = path.split_once('/').unwrap_or((path, "0"));
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            !name.is_empty() && name.bytes().all(plain) && is_database(database)
        }
        _ => path.is_empty() || is_database(path),
    };
    if !is_good {
        return Err(match kind {
            StoreKind::RedisCluster => wrong(
                "a cluster has the database 0 only",
                "end the address behind the last host",
            ),
            StoreKind::RedisSentinel => wrong(
                "expected the name that the Sentinels monitor, then perhaps a database",
                "write for example `redis+sentinel://a.example.com,b.example.com/mymaster/0`",
            ),
            _ => wrong(
                "expected the number of a database",
                "write for example `redis://cache.example.com/0`",
            ),
        });
    }
    let is_tls = scheme.starts_with("rediss");
    let transport = match is_tls {
        true => StoreTransport::Encrypted,
        false if places.iter().all(Place::is_loopback) => StoreTransport::Local,
        false => StoreTransport::Plain,
    };
    let mut label = format!("{scheme}://");
    for (index, place) in places.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(label, "{comma}{}:{}", place.host, place.port);
    }
    if !path.is_empty() {
        let _ = write!(label, "/{path}");
    }
    Ok(Address {
        kind,
        label,
        transport,
        verifies: is_tls,
    })
}

/// Who connects to Sentinels that want to know: each at most once, and with a value.
fn sentinel_parameters(text: &str) -> Result<(), Wrong> {
    let mut known = vec!["sentinel_username", "sentinel_password"];
    for parameter in text.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let position = known.iter().position(|known| *known == name);
        match position {
            Some(position)
                if !value.is_empty() && is_percent_encoded(value) && !value.contains(['?', '#']) =>
            {
                known.swap_remove(position);
            }
            _ => {
                return Err(wrong(
                    "the address has a parameter that is not known, one twice, or one without a value",
                    "known are `sentinel_username` and `sentinel_password`; in a value write `%26` for `&`, \
                     `%3F` for `?`, `%23` for `#`, `%40` for `@`, `%25` for `%`",
                ));
            }
        }
    }
    Ok(())
}

fn is_database(text: &str) -> bool {
    text.len() <= 5 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn postgres(text: &str, rest: &str) -> Result<Address, Wrong> {
    let (authority, _) = split(rest)?;
    let url = Url::parse(text)
        .ok()
        .filter(|url| url.fragment().is_none() && !authority.contains(','));
    let url = url.ok_or(POSTGRES)?;
    let mut host = url.host_str().unwrap_or_default().to_owned();
    let mut port = url.port().unwrap_or(5432);
    let mut database = url.path().strip_prefix('/').unwrap_or_default().to_owned();
    let mut mode = String::new();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in url.query_pairs() {
        if !PARAMETERS.contains(&name.as_ref()) || seen.iter().any(|seen| *seen == name) {
            return Err(wrong(
                "the address has a parameter that is not known, or one twice",
                "known are `sslmode`, `host`, `port`, `dbname`, `user`, `password`, `application_name`, `options` and \
                 `statement-cache-capacity`; authorities are `ca: {file: …}` beside `url`",
            ));
        }
        match name.as_ref() {
            "sslmode" => mode = value.into_owned(),
            "host" => host = value.into_owned(),
            "port" => port = value.parse().map_err(|_| POSTGRES)?,
            "dbname" => database = value.into_owned(),
            _ => {}
        }
        seen.push(name.into_owned());
    }
    // Before that they are `%2Fvar%2Frun`.
    let host = host.replace("%2F", "/").replace("%2f", "/");
    let is_socket = host.starts_with('/');
    let place = place(&host, port);
    if database.is_empty() || database.contains('/') || (!is_socket && place.is_none()) {
        return Err(POSTGRES);
    }
    let is_local = is_socket || place.as_ref().is_some_and(Place::is_loopback);
    let transport = match mode.as_str() {
        _ if is_socket => StoreTransport::Local,
        "verify-full" | "verify-ca" => StoreTransport::Encrypted,
        "" | "disable" | "allow" | "prefer" | "require" if is_local => StoreTransport::Local,
        // where nothing is said, the client verifies
        "" => StoreTransport::Encrypted,
        "allow" | "prefer" | "require" => StoreTransport::Unverified,
        "disable" => StoreTransport::Plain,
        _ => {
            return Err(wrong(
                "expected one of the values of `sslmode`",
                "write `sslmode=verify-full`; `disable`, `allow`, `prefer`, `require` and `verify-ca` are the others",
            ));
        }
    };
    let label = match place {
        Some(place) if !is_socket => format!("postgres://{}:{}/{database}", place.host, place.port),
        _ => format!("postgres:{host}/{database}"),
    };
    Ok(Address {
        kind: StoreKind::Postgres,
        label: label.chars().filter(|c| !c.is_control()).collect(),
        verifies: !is_socket && matches!(mode.as_str(), "" | "verify-full" | "verify-ca"),
        transport,
    })
}

/// A host and its port.
struct Place {
    host: Host<String>,
    port: u16,
}

impl Place {
    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        }
    }
}

fn place(text: &str, default_port: u16) -> Option<Place> {
    let end = match text.strip_prefix('[') {
        Some(_) => text.find(']')?.checked_add(1)?,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at_checked(end)?;
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0)?
        }
        Some(_) => return None,
        None if port.is_empty() => default_port,
        None => return None,
    };
    let host = Host::parse(host).ok()?;
    Some(Place { host, port })
}

const fn wrong(message: &'static str, hint: &'static str) -> Wrong {
    Wrong { message, hint }
}

const UNKNOWN: Wrong = wrong(
    "expected the address of a store",
    "write for example `memory`, `sqlite:sessions.db`, `postgres://db.example.com/coatroom` or \
     `rediss://cache.example.com`",
);

const POSTGRES: Wrong = wrong(
    "expected a host, perhaps with a port, and a database",
    "write for example `postgres://db.example.com/coatroom?sslmode=verify-full`",
);

/// The parameters of an address of PostgreSQL that do what they say here.
const PARAMETERS: [&str; 9] = [
    "sslmode",
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
];
