//! Every session store against the one contract, `support::contract`.

use std::sync::Arc;
use std::time::Duration;

use coatroom::clock::ManualClock;
use coatroom::store::memory::MemoryStore;

use crate::support::START;
use crate::support::contract::{self, Subject};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    let clock = Arc::new(ManualClock::new(START));
    let store = MemoryStore::new(clock.clone());
    contract::run(Subject {
        make: Box::new(move || Arc::new(store.clone())),
        advance: Box::new(move |by| {
            clock.advance(by);
            Box::pin(std::future::ready(()))
        }),
        tick: Duration::from_secs(1),
    })
    .await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let make = move || Arc::new(crate::store_sqlite::store(&path)) as Arc<dyn coatroom::store::SessionStore>;
    contract::run(Subject::real(make)).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    let server = crate::support::postgres_server::PostgresServer::start().await;
    let url = server.url("postgres");
    let make = move || Arc::new(crate::store_postgres::store(&url)) as Arc<dyn coatroom::store::SessionStore>;
    contract::run(Subject::real(make)).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_keeps_the_contract() {
    let server = crate::support::redis_server::Server::start();
    let settings = server.settings();
    let make =
        move || Arc::new(crate::store_redis::store(&settings)) as Arc<dyn coatroom::store::SessionStore>;
    contract::run(Subject::real(make)).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_keeps_the_contract() {
    let cluster = crate::support::redis_server::Cluster::start();
    let settings = cluster.settings();
    let make =
        move || Arc::new(crate::store_redis::store(&settings)) as Arc<dyn coatroom::store::SessionStore>;
    contract::run(Subject::real(make)).await;
}
