//! The address of a Redis or Valkey store: one server, a cluster, or Sentinels with a monitored name.
//!
//! Addresses of several hosts are no URLs, so they are taken apart here. An error names the part that
//! is wrong and never shows what was written there: it may be the password.

use coatroom_core::config::{StoreKind, StoreSettings};

use crate::store::StoreError;

/// An address, taken apart.
pub(super) struct Address {
    pub(super) tls: bool,
    /// At least one.
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) credentials: Credentials,
    /// The name that Sentinels monitor; there for Sentinels only.
    pub(super) monitored: String,
    pub(super) database: u16,
    /// Towards Sentinels that ask for a password of their own.
    pub(super) sentinel_credentials: Credentials,
}

/// A user and a password, as far as they are given.
#[derive(Default)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

impl Address {
    /// Takes the address of a store apart.
    ///
    /// # Errors
    /// Where the address is not one of the store's kind; without a piece of it.
    pub(super) fn parse(settings: &StoreSettings) -> Result<Self, StoreError> {
        parse(settings.address(), &settings.kind)
            .map_err(|problem| StoreError::Unavailable(format!("the address of the Redis store: {problem}")))
    }
}

fn parse(address: &str, kind: &StoreKind) -> Result<Address, &'static str> {
    let (scheme, rest) = address.split_once("://").ok_or("has no `://`")?;
    let tls = match (kind, scheme) {
        (StoreKind::Redis, "redis")
        | (StoreKind::RedisCluster, "redis+cluster")
        | (StoreKind::RedisSentinel, "redis+sentinel") => false,
        (StoreKind::Redis, "rediss")
        | (StoreKind::RedisCluster, "rediss+cluster")
        | (StoreKind::RedisSentinel, "rediss+sentinel") => true,
        _ => {
            return Err(
                "expected `redis://`, `rediss://`, `redis+cluster://`, `rediss+cluster://`, \
                        `redis+sentinel://` or `rediss+sentinel://`",
            );
        }
    };
    if rest.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err("has a space or a control character in it; write it as `%20`");
    }
    if rest.contains('#') {
        return Err("has a `#` in it; in a password write it as `%23`");
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // a password may hold an `@` that nobody escaped, a host never does
    let (user_info, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (username, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let default_port = if *kind == StoreKind::RedisSentinel {
        26379
    } else {
        6379
    };
    let hosts: Vec<_> = hosts
        .split(',')
        .map(|host| host_and_port(host, default_port))
        .collect::<Result<_, _>>()?;
    if *kind == StoreKind::Redis && hosts.len() > 1 {
        return Err("names several hosts; that is `redis+cluster://` or `redis+sentinel://`");
    }
    let (monitored, database) = match kind {
        StoreKind::RedisSentinel => {
            let (monitored, database) = path.split_once('/').unwrap_or((path, ""));
            if monitored.is_empty() {
                return Err("lacks the name that the Sentinels monitor: `redis+sentinel://host:port/NAME`");
            }
            (decoded(monitored)?, database)
        }
        _ => (String::new(), path),
    };
    let database = match database {
        "" => 0,
        number => number.parse().map_err(|_| "the database is not a number")?,
    };
    if *kind == StoreKind::RedisCluster && database != 0 {
        return Err("a cluster has no numbered databases");
    }
    let mut sentinel_credentials = Credentials::default();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match (kind, parameter.split_once('=')) {
            (StoreKind::RedisSentinel, Some(("sentinel_username", value))) => {
                sentinel_credentials.username = Some(decoded(value)?);
            }
            (StoreKind::RedisSentinel, Some(("sentinel_password", value))) => {
                sentinel_credentials.password = Some(decoded(value)?);
            }
            _ => {
                return Err(
                    "has a parameter that is not known; there are `sentinel_username` and \
                            `sentinel_password`, with Sentinels",
                );
            }
        }
    }
    Ok(Address {
        tls,
        hosts,
        credentials: Credentials {
            username: Some(decoded(username)?).filter(|name| !name.is_empty()),
            password: Some(decoded(password)?).filter(|password| !password.is_empty()),
        },
        monitored,
        database,
        sentinel_credentials,
    })
}

fn host_and_port(text: &str, default_port: u16) -> Result<(String, u16), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or("an IPv6 address lacks its closing `]`")?;
            (
                host,
                port.strip_prefix(':')
                    .or(if port.is_empty() { Some("") } else { None }),
            )
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address belongs into brackets: `[::1]:6379`");
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    if host.is_empty() {
        return Err("a host is empty");
    }
    let port = match port.ok_or("an IPv6 address is followed by something that is no port")? {
        "" => default_port,
        port => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("a port is not a number from 1 to 65535")?,
    };
    Ok((host.to_owned(), port))
}

/// Percent-decoding (RFC 3986 §2.1), of whole UTF-8.
fn decoded(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err("has a `%` that is not followed by two hexadecimal digits; write it as `%25`");
        };
        bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 once decoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(address: &str, kind: &StoreKind) -> String {
        match parse(address, kind) {
            Err(problem) => problem.to_owned(),
            Ok(address) => format!(
                "{} {:?} {:?}:{:?} {:?} {} {:?}",
                address.tls,
                address.hosts,
                address.credentials.username,
                address.credentials.password,
                address.monitored,
                address.database,
                address.sentinel_credentials.password,
            ),
        }
    }

    #[test]
    fn addresses_are_taken_apart() {
        use StoreKind::{Redis, RedisCluster, RedisSentinel};
        let cases = [
            (Redis, "redis://h", r#"false [("h", 6379)] None:None "" 0 None"#),
            (Redis, "rediss://h:1/", r#"true [("h", 1)] None:None "" 0 None"#),
            (
                Redis,
                "redis://:p%40:%25@[::1]:7/3",
                r#"false [("::1", 7)] None:Some("p@:%") "" 3 None"#,
            ),
            (
                Redis,
                "redis://u:p@x@h",
                r#"false [("h", 6379)] Some("u"):Some("p@x") "" 0 None"#,
            ),
            (
                RedisCluster,
                "redis+cluster://u:p@a:1,b:2,[::2]",
                r#"false [("a", 1), ("b", 2), ("::2", 6379)] Some("u"):Some("p") "" 0 None"#,
            ),
            (
                RedisSentinel,
                "rediss+sentinel://u:p@a,b:2/main/4?sentinel_password=s%21",
                r#"true [("a", 26379), ("b", 2)] Some("u"):Some("p") "main" 4 Some("s!")"#,
            ),
        ];
        for (kind, address, expected) in cases {
            assert_eq!(seen(address, &kind), expected, "{address}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_and_never_shown() {
        use StoreKind::{Redis, RedisCluster, RedisSentinel};
        let cases = [
            (Redis, "canary", "no `://`"),
            (Redis, "http://canary", "expected `redis://`"),
            (Redis, "redis+cluster://canary", "expected `redis://`"),
            (Redis, "redis://canary,b", "several hosts"),
            (Redis, "redis://:canary@", "a host is empty"),
            (Redis, "redis://:canary@h:0", "not a number from 1"),
            (Redis, "redis://:canary@h:66000", "not a number from 1"),
            (Redis, "redis://::1:canary", "brackets"),
            (Redis, "redis://[::1", "closing"),
            (Redis, "redis://[::1]canary", "no port"),
            (Redis, "redis://:canary%@h", "`%25`"),
            (Redis, "redis://:canary#@h", "`%23`"),
            (Redis, "redis://:can ary@h", "`%20`"),
            (Redis, "redis://:%ff@h", "UTF-8"),
            (Redis, "redis://h/canary", "database"),
            (Redis, "redis://h?canary=1", "parameter"),
            (Redis, "redis://h?sentinel_password=canary", "parameter"),
            (RedisCluster, "redis+cluster://canary/1", "no numbered"),
            (RedisSentinel, "redis+sentinel://canary", "lacks the name"),
        ];
        for (kind, address, expected) in cases {
            let problem = seen(address, &kind);
            assert!(problem.contains(expected), "{address}: {problem}");
            assert!(!problem.contains("canary"), "{address}: {problem}");
        }
    }
}
