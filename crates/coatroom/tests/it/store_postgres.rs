//! What the PostgreSQL store does when its server does not do what it should.

use std::time::Duration;

use coatroom::store::postgres::PostgresStore;
use coatroom::store::{SessionStore as _, StoreError};
use coatroom_core::config::{StoreKind, StoreSettings};
use coatroom_core::secret::Secret;
use coatroom_core::store::Replaced;
use coatroom_core::store::{EntryKey, RecordVersion};
use sqlx::{Executor as _, Row as _};
use tokio::task::JoinSet;

use crate::support::contract::{LONG, name, record};
use crate::support::postgres_server::PostgresServer;

pub(crate) fn store(url: &str) -> PostgresStore {
    store_with(url, Duration::from_secs(20), "coatroom:", None)
}

fn store_with(url: &str, timeout: Duration, prefix: &str, ca: Option<&str>) -> PostgresStore {
    let settings = StoreSettings {
        kind: StoreKind::Postgres,
        url: Secret::new(url),
        ca: ca.map(|ca| ca.as_bytes().to_vec()),
        prefix: prefix.into(),
        timeout,
    };
    PostgresStore::new(&settings).expect("good settings")
}

fn said(error: &StoreError, what: &str) {
    assert!(error.to_string().contains(what), "{error}");
}

/// Opens many connections at once.
async fn fill_the_pool(store: &PostgresStore) {
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        tasks.spawn(async move { store.ping().await });
    }
    for outcome in tasks.join_all().await {
        outcome.expect("it answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_and_dead_connections_are_nobodys_sign_out() {
    let mut server = PostgresServer::start().await;
    let store = store(&server.url("postgres"));
    let (key, gone) = (name(), name());
    store.insert(&key, &record(1)).await.expect("it answers");
    store.insert(&gone, &record(1)).await.expect("it answers");

    fill_the_pool(&store).await;
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'coatroom'";
    server.say("postgres", kill).await;
    assert!(store.load(&key).await.expect("the next call works").is_some());
    fill_the_pool(&store).await;
    server.say("postgres", kill).await;
    assert_eq!(store.delete(&gone).await, Ok(true), "and is done once");
    fill_the_pool(&store).await;
    server.say("postgres", kill).await;
    assert_eq!(store.claim(&EntryKey(name().0), LONG).await, Ok(true));

    fill_the_pool(&store).await;
    server.stop();
    let impatient = store_with(
        &server.url("postgres"),
        Duration::from_millis(500),
        "coatroom:",
        None,
    );
    let began = std::time::Instant::now();
    impatient.ping().await.expect_err("nobody is there");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    server.go_on().await;
    assert!(store.load(&key).await.expect("it is back by itself").is_some());
    impatient.ping().await.expect("so it is for who saw it gone");
    let replaced = store.replace(&key, RecordVersion(1), &record(2)).await;
    assert_eq!(replaced, Ok(Replaced::Yes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_reads_or_hangs_is_an_outage_of_a_bounded_time() {
    let server = PostgresServer::start().await;
    let url = server.url("postgres");
    let key = name();
    store(&url).insert(&key, &record(1)).await.expect("it answers");

    server
        .say(
            "postgres",
            "alter database postgres set default_transaction_read_only = on",
        )
        .await;
    let reader = store(&url);
    assert!(reader.load(&key).await.expect("reads work").is_some());
    said(&reader.ping().await.expect_err("no writes"), "25006");
    said(
        &reader.insert(&name(), &record(1)).await.expect_err("no writes"),
        "25006",
    );
    said(&reader.delete(&key).await.expect_err("no writes"), "25006");
    let mut connection = server.connect("postgres").await;
    for back in [
        "set default_transaction_read_only = off",
        "alter database postgres reset default_transaction_read_only",
    ] {
        connection.execute(back).await.expect("good SQL");
    }

    let impatient = store_with(&url, Duration::from_secs(1), "coatroom:", None);
    impatient.ping().await.expect("it answers");
    connection
        .execute("begin; lock table coatroom_sessions in access exclusive mode")
        .await
        .expect("good SQL");
    let began = std::time::Instant::now();
    // more than the pool has connections
    let mut tasks = JoinSet::new();
    for _ in 0..40 {
        let store = impatient.clone();
        tasks.spawn(async move { store.load(&key).await.err().expect("it hangs") });
    }
    tasks.join_all().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    connection.execute("rollback").await.expect("good SQL");
    assert!(impatient.load(&key).await.expect("it goes on").is_some());

    // a load that somebody gave up leaves no connection with an answer in it
    for _ in 0..40 {
        let load = impatient.load(&key);
        drop(tokio::time::timeout(Duration::from_micros(50), load).await);
    }
    assert!(impatient.load(&key).await.expect("it goes on").is_some());
    assert!(impatient.load(&name()).await.expect("it goes on").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_made_once_by_whoever_comes_first_and_newer_ones_are_left_alone() {
    let server = PostgresServer::start().await;
    let url = server.url("postgres");
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let store = store(&url);
        tasks.spawn(async move { store.insert(&name(), &record(1)).await });
    }
    for outcome in tasks.join_all().await {
        outcome.expect("all of them can use it");
    }
    let mut connection = server.connect("postgres").await;
    let versions = "select count(*) from coatroom_migrations";
    let row = connection.fetch_one(versions).await.expect("one row");
    assert_eq!(row.get::<i64, _>(0), 1);

    // a role that may not create anything
    let role = "create role service login; revoke create on schema public from public; grant select, \
                insert, update, delete on all tables in schema public to service; grant usage on all \
                sequences in schema public to service";
    connection.execute(role).await.expect("good SQL");
    let least = url.replace("postgres://postgres@", "postgres://service@");
    let key = name();
    let service = store(&least);
    service.insert(&key, &record(1)).await.expect("it may");
    service.purge().await.expect("it may");
    let other = store_with(&least, Duration::from_secs(20), "other_", None);
    said(
        &other.ping().await.expect_err("it may not create"),
        "permission denied",
    );
    let other = store_with(&url, Duration::from_secs(20), "other_", None);
    assert!(other.load(&key).await.expect("tables of its own").is_none());

    let newer = "insert into coatroom_migrations (version, description, success, checksum, execution_time) \
                 values (2, 'later', true, '', 0)";
    connection.execute(newer).await.expect("good SQL");
    said(
        &store(&url).load(&key).await.err().expect("newer tables"),
        "have version 2",
    );
    assert!(
        service
            .load(&key)
            .await
            .expect("who was here before goes on")
            .is_some()
    );
    let many = "delete from coatroom_migrations where version = 2; insert into coatroom_sessions select \
                sha256(i::text::bytea), i, 0, 1, 1, '', '', '' from generate_series(1, 12000) i";
    connection.execute(many).await.expect("good SQL");
    let store = store(&url);
    assert_eq!(store.purge().await, Ok(10_000));
    assert_eq!(store.purge().await, Ok(2_000));
    assert_eq!(store.purge().await, Ok(0));
    let next = "update coatroom_sessions set format = 2";
    connection.execute(next).await.expect("good SQL");
    said(&store.load(&key).await.err().expect("a newer record"), "format 2");

    let drop = "drop table coatroom_sessions, coatroom_indexes, coatroom_marks, coatroom_ended, \
                coatroom_leases, coatroom_entries, coatroom_migrations";
    connection.execute(drop).await.expect("good SQL");
    said(&store.load(&key).await.err().expect("no tables"), "42P01");
    assert!(store.load(&key).await.expect("new tables").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announcement_that_is_committed_late_is_heard() {
    let server = PostgresServer::start().await;
    let store = store(&server.url("postgres"));
    let (cursor, _) = store.ended_since(None).await.expect("it answers");
    let mut late = server.connect("postgres").await;
    let announce = "begin; insert into coatroom_ended (position, kind, name, expires_at) values \
                    (cast(cast(pg_current_xact_id() as text) as bigint), 2, sha256(''), 9e15)";
    late.execute(announce).await.expect("good SQL");
    let early = coatroom_core::store::Ended::Marked(coatroom_core::store::MarkKey(name().0));
    store.announce(&[early]).await.expect("it answers");
    let (cursor, heard) = store.ended_since(Some(&cursor)).await.expect("it answers");
    assert_eq!(heard, [early]);
    late.execute("commit").await.expect("good SQL");
    let (cursor, heard) = store.ended_since(Some(&cursor)).await.expect("it answers");
    assert_eq!(heard.len(), 2, "the late one, and once more the other: {heard:?}");
    let (_, heard) = store.ended_since(Some(&cursor)).await.expect("it answers");
    assert_eq!(heard, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_has_to_show_the_certificate_of_the_configured_authority() {
    let issue = || rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("it can be made");
    let (ours, theirs) = (issue(), issue());
    let (certificate, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let files = [("server.crt", certificate.as_str()), ("server.key", key.as_str())];
    let server = PostgresServer::with(Some(port), &files).await;
    let near = format!("postgres://postgres@localhost:{port}/postgres");
    let timeout = Duration::from_secs(20);
    let good = store_with(&near, timeout, "coatroom:", Some(&certificate));
    good.ping().await.expect("its own certificate");
    drop(server.connect("postgres").await);
    for (url, ca) in [
        (near.clone(), theirs.cert.pem()),
        (near.replace("localhost", "127.0.0.1"), certificate.clone()),
        (
            near.replace("localhost", "127.0.0.1") + "?sslmode=verify-full",
            certificate.clone(),
        ),
    ] {
        let refused = store_with(&url, timeout, "coatroom:", Some(&ca)).ping().await;
        said(&refused.expect_err("not the right one"), "TLS");
    }
}
