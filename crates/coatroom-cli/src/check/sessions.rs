//! Where the sessions of one application are kept, and what can be done there.

use std::fmt;

use coatroom_core::config::{Application, SessionStorage, StoreKind, StoreSettings, StoreTransport};

use super::table::list;
use crate::config::shown;

/// The place, without who connects to it, and what works with it.
pub(super) fn sessions(out: &mut String, application: &Application) -> fmt::Result {
    let storage = &application.session.storage;
    let kept = match storage {
        SessionStorage::Cookie | SessionStorage::CookieWithRevocations(_) => {
            "in sealed cookies, nothing on a server".to_owned()
        }
        SessionStorage::Store(store) => format!("{}, the cookie holds a handle", place(store)),
    };
    let ended = match storage {
        SessionStorage::Cookie => "noted in the browser alone".to_owned(),
        SessionStorage::CookieWithRevocations(store) => place(store),
        SessionStorage::Store(_) => "gone from the store".to_owned(),
    };
    let memory = match storage.settings().map(|store| &store.kind) {
        None | Some(StoreKind::Memory) => "remembered by each process for itself",
        Some(_) => "remembered in the store, for all replicas",
    };
    let works = match storage {
        SessionStorage::Cookie => "sign-out in the browser at hand only",
        SessionStorage::CookieWithRevocations(_) => {
            "back-channel logout, ending from elsewhere; no list of sessions"
        }
        SessionStorage::Store(_) => "list of sessions, back-channel logout, ending from elsewhere",
    };
    let mut rows = vec![("sessions", kept), ("ended ones", ended)];
    // An instance that only forwards API calls refreshes and ends nothing.
    if application.provider.is_some() {
        rows.push(("refreshes", memory.to_owned()));
        rows.push(("what works", works.to_owned()));
    }
    if let Some(store) = storage.settings() {
        rows.push(("on the way", transport(store).to_owned()));
        rows.push(("names in it", format!("begin with {}", store.prefix)));
        rows.push(("one operation", format!("{} at most", shown(store.timeout))));
    }
    list(
        out,
        "where sessions are kept",
        rows.into_iter().map(|(name, what)| [name.to_owned(), what]),
    )
}

fn place(store: &StoreSettings) -> String {
    let lasting = match store.kind {
        StoreKind::Memory => return "in the memory of this process, gone with it".to_owned(),
        StoreKind::Sqlite(_) => ", one machine",
        StoreKind::Postgres | StoreKind::Redis | StoreKind::RedisCluster | StoreKind::RedisSentinel => "",
    };
    format!("in {} at {}{lasting}", store.kind.name(), store.label())
}

fn transport(store: &StoreSettings) -> &'static str {
    match store.transport() {
        StoreTransport::Local => "stays on this machine",
        StoreTransport::Encrypted if store.ca.is_some() => "TLS, verified by the `ca`",
        StoreTransport::Encrypted => "TLS, verified",
        StoreTransport::Unverified => "TLS if the server has it, with whoever answers",
        StoreTransport::Plain => "in the clear",
    }
}
