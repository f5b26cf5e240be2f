//! What a Redis or Valkey server says of itself in `INFO` and `CONFIG GET save`: its version, and
//! whether it keeps what it is told.
//!
//! Asks nobody, and shows nothing of the answer but these.

use super::super::{StoreFacts, plain_version};

/// Reads an answer to `INFO`, and the setting `save` where it may be asked for.
pub(super) fn of(info: &str, save: Option<&str>) -> StoreFacts {
    let value = |wanted: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value.trim())
    };
    let version = value("valkey_version").or_else(|| value("redis_version"));
    // `noeviction` refuses writes when the memory is full: an outage, which ends no session
    let evicts = value("maxmemory_policy").map(|policy| {
        let is_bounded = value("maxmemory").is_some_and(|bytes| bytes != "0");
        is_bounded && policy != "noeviction"
    });
    // a managed server may hide its settings: then nobody can say that it saves no snapshots
    let appends = value("aof_enabled").map(|value| value == "1");
    let persists = match (appends, save) {
        (Some(true), _) => Some(true),
        (_, Some(save)) => Some(!save.is_empty()),
        _ => None,
    };
    StoreFacts {
        version: version.and_then(|version| plain_version(version.as_bytes())),
        now: None,
        evicts,
        persists,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_read() {
        let facts = |version: Option<&str>, evicts, persists| StoreFacts {
            version: version.map(str::to_owned),
            now: None,
            evicts,
            persists,
        };
        for (name, info, save, expected) in [
            ("nothing", "", None, facts(None, None, None)),
            (
                "a cache",
                "# Server\r\nredis_version:7.0.15\r\nmaxmemory:1048576\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0\r\n",
                Some(""),
                facts(Some("7.0.15"), Some(true), Some(false)),
            ),
            (
                "a policy without a bound",
                "redis_version:7.0.15\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n",
                Some(""),
                facts(Some("7.0.15"), Some(false), Some(true)),
            ),
            (
                "snapshots",
                "redis_version:7.2.4\r\nvalkey_version:8.0.1\r\nmaxmemory:9\r\nmaxmemory_policy:noeviction\r\naof_enabled:0\r\n",
                Some("3600 1"),
                facts(Some("8.0.1"), Some(false), Some(true)),
            ),
            (
                "hidden",
                "redis_version:7.2.4\r\naof_enabled:0\r\n",
                None,
                facts(Some("7.2.4"), None, None),
            ),
            (
                "nonsense",
                "redis_version:hunter2\r\n",
                None,
                facts(None, None, None),
            ),
        ] {
            assert_eq!(of(info, save), expected, "{name}");
        }
    }
}
