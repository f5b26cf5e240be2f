//! Where an application says its sessions are kept: as it is written, and then addresses resolved,
//! certificates fetched, and what several processes make of it.
//!
//! As in `schema.rs` the comments of the fields are for users. What an address means is the core's to
//! say. Nothing here connects to a store, and no message quotes an address: it may hold a password.

use std::fmt;
use std::path::{Path, PathBuf};

use coatroom_core::config::{
    Application, Problem, SessionStorage, StoreConfig, StoreKind, StoreSettings, StoreTransport, defaults,
};
use coatroom_core::secret::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};

use super::findings::Findings;
use super::secret::Reference;
use super::upstream::holds_authorities;
use super::values::{Interval, shown};

/// `store` or `revocation_store`: a word or an address, or a mapping.
pub(crate) enum StoreSetting {
    /// `cookie`, or an address.
    Text(String),
    /// An address and how to reach it.
    Mapping(Store),
}

/// A store: its address, and how it is reached. Where the address is all there is to say, it can
/// stand in place of this mapping. Equal stores share connections.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// The address: `memory`, `sqlite:FILE`, `postgres://HOST/DATABASE`, `redis://HOST/DATABASE`,
    /// `redis+cluster://HOST,HOST`, `redis+sentinel://HOST,HOST/NAME/DATABASE`, with `rediss` for TLS.
    /// One that holds a password is a reference.
    pub(crate) url: StoreAddress,
    /// The certificates of the authorities that are trusted for the store, in PEM, in place of the
    /// public ones. With PostgreSQL the address says `sslmode=verify-full` then. Default: the public ones.
    pub(crate) ca: Option<Reference>,
    /// What stands in front of every name in the store, so that several installations can share one.
    #[schemars(regex(pattern = r"^[A-Za-z0-9:._-]{1,64}$"), extend("default" = defaults::STORE_PREFIX))]
    pub(crate) prefix: Option<String>,
    /// How long one operation of the store may take, connecting included, between `50ms` and `30s`.
    #[schemars(extend("default" = shown(defaults::STORE_TIMEOUT)))]
    pub(crate) timeout: Option<Interval>,
}

/// A store's `url`.
pub(crate) enum StoreAddress {
    /// Written here, which is for addresses without a password only.
    Inline(String),
    /// Somewhere else.
    Reference(Reference),
}

/// Where sessions are kept. `at` is the place of `session`.
pub(crate) fn storage(
    store: Option<StoreSetting>,
    revocation_store: Option<StoreSetting>,
    at: &[String],
    folder: &Path,
    findings: &mut Findings<'_>,
) -> SessionStorage {
    let at = |key: &str| at.iter().cloned().chain([key.to_owned()]).collect::<Vec<_>>();
    let store = store.filter(|store| !matches!(store, StoreSetting::Text(word) if word == COOKIE));
    // without settings the configuration is refused in the end, but other problems are shown too
    match (store, revocation_store) {
        (None, None) => SessionStorage::Cookie,
        (None, Some(StoreSetting::Text(word))) if word == COOKIE => {
            findings.error(
                at("revocation_store"),
                "cookies are where sessions are; what has ended needs another place".to_owned(),
                "write an address, for example `redis://cache.example.com`, or remove `revocation_store`"
                    .to_owned(),
            );
            SessionStorage::Cookie
        }
        (None, Some(revocations)) => settings(revocations, &at("revocation_store"), folder, findings)
            .map_or(SessionStorage::Cookie, |settings| {
                SessionStorage::CookieWithRevocations(Box::new(settings))
            }),
        (Some(store), revocations) => {
            if revocations.is_some() {
                findings.error(
                    at("revocation_store"),
                    "it is for sessions in cookies: a store of sessions knows itself what has ended"
                        .to_owned(),
                    "remove `revocation_store`".to_owned(),
                );
            }
            settings(store, &at("store"), folder, findings).map_or(SessionStorage::Cookie, |settings| {
                SessionStorage::Store(Box::new(settings))
            })
        }
    }
}

/// What several processes make of where their sessions are.
pub(crate) fn replicated(replicas: u16, applications: &[Application], findings: &mut Findings<'_>) {
    if replicas < 2 {
        return;
    }
    let mut lonely = false;
    for application in applications {
        let storage = &application.session.storage;
        let Some(settings) = storage.settings() else {
            lonely = true;
            continue;
        };
        let key = if storage.is_stateful() {
            "store"
        } else {
            "revocation_store"
        };
        let at = ["apps", application.id.as_str(), "session", key].map(str::to_owned);
        match &settings.kind {
            StoreKind::Memory => findings.error(
                at.to_vec(),
                format!("each of the {replicas} processes would have a memory of its own, and know nothing of the others"),
                format!("write a store that all of them reach, for example `{key}: {{url: {{env: REDIS_URL}}}}`, or `replicas: 1`"),
            ),
            StoreKind::Sqlite(_) => findings.warning(
                at.to_vec(),
                format!("the {replicas} processes have to be on one machine: a file on a network file system loses sessions"),
                format!("write a store that other machines reach, for example `{key}: {{url: {{env: REDIS_URL}}}}`"),
            ),
            StoreKind::Postgres | StoreKind::Redis | StoreKind::RedisCluster | StoreKind::RedisSentinel => {}
        }
    }
    if lonely {
        findings.warning(
            vec!["replicas".to_owned()],
            "the replicas share no memory: where the provider rotates refresh tokens and detects their reuse, a \
             refresh whose answer is lost and which is repeated at another replica can cost that user the session"
                .to_owned(),
            "share one: `session: {revocation_store: {url: {env: REDIS_URL}}}`; or let the SPA run one refresh at a \
             time (the lock of the client), keep a browser at one replica (balancer affinity), or give the provider a \
             grace period for rotated tokens; see docs/operations.md, \"Several replicas\""
                .to_owned(),
        );
    }
}

fn settings(
    written: StoreSetting,
    at: &[String],
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<StoreSettings> {
    let is_mapping = matches!(written, StoreSetting::Mapping(_));
    let (address, ca, prefix, timeout) = match written {
        StoreSetting::Text(text) => (StoreAddress::Inline(text), None, None, None),
        StoreSetting::Mapping(store) => (store.url, store.ca, store.prefix, store.timeout),
    };
    let at = |key: &str| {
        let key = is_mapping.then(|| key.to_owned());
        at.iter().cloned().chain(key).collect::<Vec<_>>()
    };
    let address = match address {
        StoreAddress::Inline(text) if StoreConfig::holds_credentials(&text) => {
            findings.error(
                at("url"),
                "a password is never written here, only where it is".to_owned(),
                "put the whole address elsewhere, and write `{url: {env: NAME}}` or `{url: {file: PATH}}`"
                    .to_owned(),
            );
            None
        }
        StoreAddress::Inline(text) => Some(text),
        StoreAddress::Reference(reference) => findings.secret(&reference, at("url"), folder),
    };
    let ca = ca.map(|reference| findings.public(&reference, at("ca"), folder));
    if let Some(Some(ca)) = &ca
        && !holds_authorities(ca)
    {
        findings.error(
            at("ca"),
            "the file holds no certificate that can be used, or one that cannot".to_owned(),
            "point to a PEM file with certificates of authorities only (`-----BEGIN CERTIFICATE-----`)"
                .to_owned(),
        );
    }
    let config = StoreConfig {
        url: Secret::new(placed(address?, folder)),
        ca: ca.map(|ca| ca.unwrap_or_default().into_bytes()),
        prefix,
        timeout: timeout.map(|Interval(timeout)| timeout),
    };
    match config.check() {
        Ok(settings) => {
            remarks(&settings, at("url"), findings);
            Some(settings)
        }
        Err(problems) => {
            for Problem {
                at: key,
                message,
                hint,
            } in problems
            {
                let key = key.first().map_or("url", String::as_str);
                findings.error(at(key), message, hint);
            }
            None
        }
    }
}

/// What works, and deserves a look.
fn remarks(settings: &StoreSettings, at: Vec<String>, findings: &mut Findings<'_>) {
    match settings.transport() {
        StoreTransport::Local | StoreTransport::Encrypted => {}
        StoreTransport::Plain => findings.warning(
            at.clone(),
            "whoever listens on the way to the store reads its password, and with it can end sessions or bring ended \
             ones back (what is kept is sealed, and stays so)"
                .to_owned(),
            match settings.kind {
                StoreKind::Postgres => "add `?sslmode=verify-full` to the address",
                _ => "write `rediss://…`, `rediss+cluster://…` or `rediss+sentinel://…`",
            }
            .to_owned(),
        ),
        StoreTransport::Unverified => findings.warning(
            at.clone(),
            "nobody verifies that the server at this address is the store: whoever is on the way can take its place"
                .to_owned(),
            "add `?sslmode=verify-full` to the address, and `ca: {file: …}` for an authority of your own".to_owned(),
        ),
    }
    if let StoreKind::Sqlite(file) = &settings.kind
        && !file.parent().is_some_and(Path::is_dir)
    {
        findings.warning(
            at,
            "there is no folder for the file of the store yet: until then nobody can sign in".to_owned(),
            "make it, for example by `StateDirectory=coatroom` in the systemd unit".to_owned(),
        );
    }
}

/// The address, a relative file made absolute.
fn placed(address: String, folder: &Path) -> String {
    match address.strip_prefix("sqlite:") {
        Some(file) if !file.is_empty() && !file.starts_with([':', '/']) => {
            let file: PathBuf = folder.join(file).components().collect();
            // A slash at the end means a folder, which is for the core to refuse.
            let slash = if address.ends_with('/') { "/" } else { "" };
            format!("sqlite:{}{slash}", file.display())
        }
        _ => address,
    }
}

impl<'d> Deserialize<'d> for StoreSetting {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMapping;

        impl<'d> Visitor<'d> for TextOrMapping {
            type Value = StoreSetting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a store")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StoreSetting, E> {
                Ok(StoreSetting::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'d>>(self, _: A) -> Result<StoreSetting, A::Error> {
                Err(A::Error::custom(format!(
                    "expected a store, found a list\n{FORMS}"
                )))
            }

            fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<StoreSetting, A::Error> {
                Store::deserialize(MapAccessDeserializer::new(map)).map(StoreSetting::Mapping)
            }
        }

        deserializer.deserialize_any(TextOrMapping)
    }
}

impl<'d> Deserialize<'d> for StoreAddress {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrReference;

        impl<'d> Visitor<'d> for TextOrReference {
            type Value = StoreAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the address of a store")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StoreAddress, E> {
                Ok(StoreAddress::Inline(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'d>>(self, _: A) -> Result<StoreAddress, A::Error> {
                Err(A::Error::custom(
                    "expected the address of a store, found a list\n\
                     the hosts of a cluster stand in one address: `redis+cluster://a.example.com,b.example.com`",
                ))
            }

            fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<StoreAddress, A::Error> {
                Reference::deserialize(MapAccessDeserializer::new(map)).map(StoreAddress::Reference)
            }
        }

        deserializer.deserialize_any(TextOrReference)
    }
}

/// The word for no store at all.
pub(crate) const COOKIE: &str = "cookie";

const FORMS: &str = "write an address, for example `redis://cache.example.com`, or `{url: {env: REDIS_URL}}`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_from_the_folder_of_the_configuration() {
        let placed = |address: &str| placed(address.to_owned(), Path::new("/etc/coatroom"));
        for (address, expected) in [
            ("sqlite:sessions.db", "sqlite:/etc/coatroom/sessions.db"),
            ("sqlite:./a/../b.db", "sqlite:/etc/coatroom/a/../b.db"),
            ("sqlite:/var/lib/s.db", "sqlite:/var/lib/s.db"),
            ("sqlite:folder/", "sqlite:/etc/coatroom/folder/"),
            ("sqlite::memory:", "sqlite::memory:"),
            ("sqlite:", "sqlite:"),
            ("redis://h", "redis://h"),
        ] {
            assert_eq!(placed(address), expected);
        }
    }
}
