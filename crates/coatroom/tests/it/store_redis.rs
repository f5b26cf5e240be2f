//! What is Redis' own about its store, against real servers: commands, lives, clusters, failovers,
//! and every outage that a server can have.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coatroom::store::redis::RedisStore;
use coatroom::store::{Cursor, SessionStore, StoreError};
use coatroom_core::config::{StoreKind, StoreSettings};
use coatroom_core::session::SessionId;
use coatroom_core::store::{
    Ended, EntryKey, Holder, IndexKey, Lease, Mark, MarkKey, NewRecord, Record, RecordKey, RecordVersion,
    Replaced,
};
use coatroom_core::time::UnixTime;

use crate::support::redis_server::{ACL, Cluster, Sentinels, Server, USER, settings};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn store(settings: &StoreSettings) -> RedisStore {
    RedisStore::new(settings).expect("the settings are good")
}

fn record(version: u64) -> Record {
    Record {
        version: RecordVersion(version),
        last_active: UnixTime(1_800_000_000),
        metadata: b"metadata".to_vec(),
        access: vec![0, 255, b'\r', b'\n'],
        agent: vec![7; 2000],
    }
}

fn new(version: u64, indexes: &[IndexKey]) -> NewRecord {
    NewRecord {
        record: record(version),
        indexes: indexes.to_vec(),
        life: HOUR,
    }
}

/// Names that spread over the slots of a cluster.
fn key(number: u8) -> RecordKey {
    RecordKey([number; 32])
}

/// Every operation once, wherever the store is.
async fn everything(store: &dyn SessionStore) -> Result<(), StoreError> {
    store.ping().await?;
    let (alice, session) = (IndexKey([1; 32]), IndexKey([2; 32]));
    assert!(store.load(&key(1)).await?.is_none());
    for number in 1..=20 {
        store
            .insert(&key(number), &new(u64::from(number), &[alice, session]))
            .await?;
    }
    store.insert(&key(1), &new(1, &[alice, session])).await?;
    assert!(
        store.insert(&key(1), &new(2, &[])).await.is_err(),
        "the name is taken"
    );
    assert!(store.load(&key(1)).await? == Some(record(1)));

    let next = new(100, &[]);
    let cases = [
        (key(1), 5, Replaced::Changed),
        (key(1), 1, Replaced::Yes),
        (key(1), 1, Replaced::Yes),
        (key(99), 1, Replaced::Gone),
    ];
    for (name, expected, outcome) in cases {
        let replaced = store.replace(&name, RecordVersion(expected), &next).await?;
        assert_eq!(replaced, outcome, "{name:?} {expected}");
    }
    for (at, then) in [(1_800_000_500, 1_800_000_500), (1_800_000_400, 1_800_000_500)] {
        store.touch(&key(1), UnixTime(at), HOUR).await?;
        let loaded = store.load(&key(1)).await?.expect("it is there");
        assert_eq!((loaded.last_active.0, loaded.version), (then, RecordVersion(100)));
    }
    // a refresh that began before the touch does not take it back
    store.replace(&key(1), RecordVersion(100), &new(101, &[])).await?;
    let loaded = store.load(&key(1)).await?.expect("it is there");
    assert_eq!((loaded.last_active.0, loaded.version.0), (1_800_000_500, 101));
    store.touch(&key(98), UnixTime(1), HOUR).await?;
    assert!(store.load(&key(98)).await?.is_none());

    assert!(store.delete(&key(20)).await?);
    assert!(!store.delete(&key(20)).await?);
    for index in [alice, session] {
        let mut listed = store.list(&index).await?;
        listed.sort_by_key(|(name, _)| *name);
        let names: Vec<_> = listed.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, (1..20).map(key).collect::<Vec<_>>());
        assert_eq!(listed[0].1.version, RecordVersion(101));
    }
    assert!(store.list(&IndexKey([3; 32])).await?.is_empty());

    let mark = |number, at| Mark {
        key: MarkKey([number; 32]),
        at: UnixTime(at),
        life: HOUR,
    };
    store.mark(&[mark(1, 50), mark(2, 60)]).await?;
    store.mark(&[mark(1, 40), mark(2, 70)]).await?;
    let marks = store
        .marks(&[3, 2, 1].map(|number| MarkKey([number; 32])))
        .await?;
    assert_eq!(marks, [None, Some(UnixTime(70)), Some(UnixTime(50))]);
    assert!(store.marks(&[]).await?.is_empty());

    let (start, nothing) = store.ended_since(None).await?;
    assert!(nothing.is_empty());
    let ended = [
        Ended::Session(SessionId([5; 16])),
        Ended::Marked(MarkKey([6; 32])),
    ];
    store.announce(&ended).await?;
    let (then, seen) = store.ended_since(Some(&start)).await?;
    assert_eq!(seen, ended);
    let (then, seen) = store.ended_since(Some(&then)).await?;
    assert_eq!(seen, []);
    store.announce(&ended[..1]).await?;
    assert_eq!(store.ended_since(Some(&then)).await?.1, ended[..1]);

    let (entry, first, second) = (EntryKey([1; 32]), Holder([1; 16]), Holder([2; 16]));
    let fresh = Lease::Acquired { after_death: false };
    assert_eq!(store.acquire(&entry, first, HOUR).await?, fresh);
    assert_eq!(store.acquire(&entry, first, HOUR).await?, fresh);
    let held = store.acquire(&entry, second, HOUR).await?;
    assert!(matches!(held, Lease::Held { left } if left <= HOUR), "{held:?}");
    store.release(&entry, second, HOUR).await?;
    store.release(&entry, first, HOUR).await?;
    let rests = store.acquire(&entry, first, HOUR).await?;
    assert!(
        matches!(rests, Lease::Resting { left } if left <= HOUR),
        "{rests:?}"
    );
    let entry = EntryKey([2; 32]);
    store.acquire(&entry, first, HOUR).await?;
    store.release(&entry, first, Duration::ZERO).await?;
    assert_eq!(store.acquire(&entry, second, HOUR).await?, fresh);

    store.remember(&entry, b"one", HOUR).await?;
    store.remember(&entry, b"\0two", HOUR).await?;
    let recalled = store.recall(&[EntryKey([9; 32]), entry]).await?;
    assert_eq!(recalled, [None, Some(b"\0two".to_vec())]);
    assert!(store.claim(&entry, HOUR).await?);
    assert!(!store.claim(&entry, HOUR).await?);
    assert_eq!(store.purge().await?, 0);
    Ok(())
}

/// Asks until it goes well; a failover or a restart may take its time, but not for ever.
async fn eventually<T, F: Future<Output = Result<T, StoreError>>>(ask: impl Fn() -> F) -> T {
    let mut last = None;
    for _ in 0..1500 {
        match ask().await {
            Ok(value) => return value,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never went well: {last:?}");
}

#[tokio::test]
async fn everything_works_with_one_server_and_the_least_privileges() {
    let server = Server::with_user();
    everything(&store(&server.settings_of_user()))
        .await
        .expect("it works");
    let refused: Vec<redis::Value> = server.ask(redis::cmd("ACL").arg("LOG"));
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn the_documentation_has_the_acl_that_is_tested() {
    let page = include_str!("../../../../docs/stores.md");
    assert!(page.contains(ACL), "docs/stores.md lacks:\n{ACL}");
}

#[tokio::test]
async fn everything_works_with_valkey() {
    let Some(server) = Server::valkey() else {
        eprintln!("valkey-server is not installed (e2e/install.sh does it): Valkey is not tested");
        return;
    };
    everything(&store(&server.settings_of_user()))
        .await
        .expect("it works");
    let refused: Vec<redis::Value> = server.ask(redis::cmd("ACL").arg("LOG"));
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn everything_works_in_a_numbered_database() {
    let server = Server::start();
    let address = format!("redis://127.0.0.1:{}/3", server.port);
    everything(&store(&settings(StoreKind::Redis, &address)))
        .await
        .expect("it works");
    let keys: String = server.ask(redis::cmd("INFO").arg("keyspace"));
    assert!(keys.contains("db3:") && !keys.contains("db0:"), "{keys}");
}

#[tokio::test]
async fn tls_trusts_the_configured_authority_and_no_other() {
    let (server, authority) = Server::tls();
    let address = format!("rediss://localhost:{}", server.port);
    let mut settings = settings(StoreKind::Redis, &address);
    let error = store(&settings).ping().await.expect_err("an unknown authority");
    assert!(error.reason().contains("TLS: invalid certificate"), "{error}");
    settings.ca = Some(authority);
    everything(&store(&settings)).await.expect("it works");
    // whatever it is, its authorities are read before anything connects
    let kinds = [
        (StoreKind::Redis, "rediss://h"),
        (StoreKind::RedisCluster, "rediss+cluster://h"),
        (StoreKind::RedisSentinel, "rediss+sentinel://h/main"),
    ];
    for (kind, address) in kinds {
        settings.kind = kind;
        settings.url = coatroom_core::secret::Secret::new(address);
        RedisStore::new(&settings).expect("a good authority");
        let good = settings
            .ca
            .replace(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
        assert!(RedisStore::new(&settings).is_err(), "{address}");
        settings.ca = good;
    }
}

#[tokio::test]
async fn everything_works_in_a_cluster_and_when_it_loses_a_master() {
    let mut cluster = Cluster::start();
    let store = store(&cluster.settings());
    everything(&store).await.expect("it works");
    for server in &cluster.servers {
        let refused: Vec<redis::Value> = server.ask(redis::cmd("ACL").arg("LOG"));
        assert!(refused.is_empty(), "{refused:?}");
    }
    let masters_with_keys = (cluster.servers.iter())
        .filter(|server| {
            server.ask::<u64>(&redis::cmd("DBSIZE")) > 0 && server.number("connected_slaves") > 0
        })
        .count();
    assert_eq!(masters_with_keys, 3, "names spread over the slots");

    cluster.servers[0].kill();
    eventually(|| async {
        for number in 1..20 {
            store.load(&key(number)).await?;
            store.touch(&key(number), UnixTime(1), HOUR).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_store_behind_sentinels_follows_the_master() {
    let mut sentinels = Sentinels::start();
    let store = store(&sentinels.settings());
    everything(&store).await.expect("it works");

    // told to: the old master lives on, as a replica
    sentinels.fail_over();
    let (name, fifty) = (key(50), new(50, &[]));
    eventually(|| store.insert(&name, &fifty)).await;
    assert!(eventually(|| store.load(&name)).await.is_some());

    // killed
    let master = sentinels.master();
    let replicated: i64 = sentinels.servers[master].ask(redis::cmd("WAIT").arg(1).arg(10_000));
    assert!(replicated >= 1, "a replica has it");
    sentinels.servers[master].kill();
    sentinels.failed_over();
    eventually(|| store.touch(&name, UnixTime(1), HOUR)).await;
    assert!(store.load(&name).await.expect("it answers").is_some());
}

#[tokio::test]
async fn loading_is_one_command_and_so_are_marks_and_recalls() {
    let server = Server::start();
    let store = store(&server.settings());
    store.insert(&key(1), &new(1, &[])).await.expect("it works");
    server.tell(&["CONFIG", "RESETSTAT"]);
    store.load(&key(1)).await.expect("it works").expect("it is there");
    assert_eq!(server.calls(), [("get".to_owned(), 1)]);
    server.tell(&["CONFIG", "RESETSTAT"]);
    store
        .marks(&[MarkKey([1; 32]), MarkKey([2; 32])])
        .await
        .expect("it works");
    assert_eq!(server.calls(), [("mget".to_owned(), 1)]);
    server.tell(&["CONFIG", "RESETSTAT"]);
    store
        .recall(&[EntryKey([1; 32]), EntryKey([2; 32])])
        .await
        .expect("it works");
    assert_eq!(server.calls(), [("mget".to_owned(), 1)]);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = Server::start();
    let store = store(&server.settings());
    for version in 1..4 {
        server.tell(&["SCRIPT", "FLUSH"]);
        store
            .insert(&RecordKey([version; 32]), &new(1, &[IndexKey([1; 32])]))
            .await
            .expect("it works");
    }
    assert_eq!(store.list(&IndexKey([1; 32])).await.expect("it works").len(), 3);
}

/// The name of a key as `docs/stores.md` has it.
fn named(kind: char, byte: u8) -> String {
    format!("coatroom:{kind}:{}", format!("{byte:02x}").repeat(32))
}

fn life_of(server: &Server, name: &str) -> i64 {
    server.ask(redis::cmd("PTTL").arg(name))
}

#[tokio::test]
async fn everything_written_has_a_life_and_an_index_outlives_its_records() {
    let server = Server::start();
    let store = store(&server.settings());
    everything(&store).await.expect("it works");
    let names: Vec<String> = server.ask(redis::cmd("KEYS").arg("*"));
    assert!(names.len() > 20);
    for name in &names {
        assert!(name.starts_with("coatroom:"), "{name}");
        assert!(life_of(&server, name) > 0, "{name} is there for ever");
    }
    // a long life, then short ones: the index keeps the longest
    let (index, name) = (IndexKey([40; 32]), named('i', 40));
    store.insert(&key(40), &new(1, &[index])).await.expect("it works");
    let mut short = new(2, &[index]);
    short.life = Duration::from_secs(1);
    store.insert(&key(41), &short).await.expect("it works");
    assert!(life_of(&server, &name) > 7_000_000, "twice the life of the first");
    // and grows with what touches its records
    store
        .touch(&key(41), UnixTime(1), HOUR * 10)
        .await
        .expect("it works");
    assert!(life_of(&server, &name) > 71_000_000);
    assert!(life_of(&server, &named('s', 41)) > 35_000_000);
    short.record.version = RecordVersion(3);
    short.life = HOUR * 20;
    store
        .replace(&key(41), RecordVersion(2), &short)
        .await
        .expect("it works");
    assert!(life_of(&server, &name) > 143_000_000);
}

#[tokio::test]
async fn an_index_forgets_what_is_over_and_never_what_is_to_come() {
    let server = Server::start();
    let store = store(&server.settings());
    let (index, name) = (IndexKey([1; 32]), named('i', 1));
    let size = || server.ask::<u64>(redis::cmd("ZCARD").arg(&name));
    for number in 1..=3 {
        store
            .insert(&key(number), &new(1, &[index]))
            .await
            .expect("it works");
    }
    // a record that a list does not find may be about to be written: its entry stays
    server.tell(&["DEL", &named('s', 1)]);
    assert_eq!(store.list(&index).await.expect("it works").len(), 2);
    assert_eq!(size(), 3);
    // one that is deleted takes its entry along
    store.delete(&key(2)).await.expect("it works");
    assert_eq!(size(), 2);
    // and what is over goes when the index is written to
    server.ask::<()>(redis::cmd("ZADD").arg(&name).arg(1).arg(&[1_u8; 32]));
    store.touch(&key(3), UnixTime(1), HOUR).await.expect("it works");
    assert_eq!(size(), 1);
}

#[tokio::test]
async fn a_lease_that_was_never_given_back_says_so_also_when_asked_twice() {
    let server = Server::start();
    let store = store(&server.settings());
    let (entry, first, second) = (EntryKey([1; 32]), Holder([1; 16]), Holder([2; 16]));
    store
        .acquire(&entry, first, Duration::from_millis(1))
        .await
        .expect("it works");
    let after_death = Lease::Acquired { after_death: true };
    assert_eq!(
        eventually(|| async {
            match store.acquire(&entry, second, HOUR).await? {
                Lease::Held { .. } => Err(StoreError::Unavailable("still held".to_owned())),
                lease => Ok(lease),
            }
        })
        .await,
        after_death
    );
    // as when the first answer was lost
    assert_eq!(store.acquire(&entry, second, HOUR).await, Ok(after_death));
    let left = life_of(&server, &named('l', 1));
    assert!(
        left > 4_100_000,
        "the key outlives the lease by ten minutes: {left}"
    );
}

#[tokio::test]
async fn announcements_are_read_again_from_another_server_and_never_lost_silently() {
    let mut server = Server::durable();
    let store = store(&server.settings());
    let (start, _) = store.ended_since(None).await.expect("it works");
    let many: Vec<Ended> = (0..2500_u32)
        .map(|number| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            Ended::Session(SessionId(id))
        })
        .collect();
    for announced in futures_util::future::join_all(many.chunks(1).map(|ended| store.announce(ended))).await {
        announced.expect("it works");
    }
    let (mut cursor, mut seen) = (start, Vec::new());
    loop {
        let (next, some) = store.ended_since(Some(&cursor)).await.expect("it works");
        cursor = next;
        if some.is_empty() {
            break;
        }
        seen.extend(some);
    }
    let number = |ended: &Ended| match ended {
        Ended::Session(id) => u32::from_be_bytes([id.0[0], id.0[1], id.0[2], id.0[3]]),
        Ended::Marked(_) => u32::MAX,
    };
    seen.sort_by_key(number);
    assert!(seen == many, "each once, whatever fits into one answer");

    // another connection may be another server: all of it once more, then nothing
    server.restart();
    let (here, again) = eventually(|| store.ended_since(Some(&cursor))).await;
    assert_eq!(again.len(), 1000);

    // a cursor ahead of the server's clock, as after a failover
    let connection = here.0.split('/').next().unwrap_or_default();
    let ahead = Cursor(format!("{connection}/9999999999999-0"));
    let (_, again) = store.ended_since(Some(&ahead)).await.expect("it works");
    assert_eq!(again.len(), 1000);

    // and one from before anything that is kept
    for old in ["1/1700000000000-0", "17"] {
        let error = store
            .ended_since(Some(&Cursor(old.to_owned())))
            .await
            .expect_err(old);
        assert_eq!(error, StoreError::CursorTooOld);
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_fails_no_call() {
    let server = Server::start();
    let store = Arc::new(store(&server.settings()));
    store.insert(&key(1), &new(1, &[])).await.expect("it works");
    for _ in 0..5 {
        server.tell(&["CLIENT", "KILL", "TYPE", "normal"]);
        let before = server.number("total_connections_received");
        let calls = (0..100).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.load(&key(1)).await })
        });
        for call in futures_util::future::join_all(calls).await {
            assert!(call.expect("no panic").expect("no call fails").is_some());
        }
        let made = server.number("total_connections_received") - before;
        // one, and the one that asks
        assert_eq!(made, 2, "no herd");
    }
}

#[tokio::test]
async fn a_durable_server_that_was_killed_keeps_everybody_signed_in() {
    let mut server = Server::durable();
    let store = store(&server.settings());
    store.insert(&key(1), &new(1, &[])).await.expect("it works");
    // between two calls: nobody notices
    server.restart();
    assert!(store.load(&key(1)).await.expect("it works") == Some(record(1)));
    // during calls: an outage, and back by itself
    server.kill();
    for _ in 0..20 {
        let error = store.load(&key(1)).await.err().expect("it is down");
        assert_eq!(error.reason(), "load: connecting: connection refused");
    }
    server.restart();
    let name = key(1);
    assert!(eventually(|| store.load(&name)).await == Some(record(1)));
    store.touch(&key(1), UnixTime(1), HOUR).await.expect("it works");
}

#[tokio::test]
async fn a_server_that_came_back_empty_has_no_session() {
    let mut server = Server::start();
    let store = store(&server.settings());
    store.insert(&key(1), &new(1, &[])).await.expect("it works");
    server.restart();
    assert!(store.load(&key(1)).await.expect("it works").is_none());
}

#[tokio::test]
async fn a_full_server_is_read_from_and_signed_out_of() {
    let server = Server::start();
    let store = store(&server.settings());
    let index = IndexKey([1; 32]);
    store.insert(&key(1), &new(1, &[index])).await.expect("it works");
    server.tell(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let full = " (it is full: maxmemory is reached)";
    let error = store
        .insert(&key(2), &new(1, &[index]))
        .await
        .expect_err("it is full");
    assert_eq!(error.reason(), format!("insert: the server answered OOM{full}"));
    let error = store.ping().await.expect_err("it is full");
    assert_eq!(error.reason(), format!("ping: the server answered OOM{full}"));
    assert!(
        store
            .announce(&[Ended::Session(SessionId([1; 16]))])
            .await
            .is_err()
    );
    assert!(store.load(&key(1)).await.expect("reads work").is_some());
    assert_eq!(store.list(&index).await.expect("reads work").len(), 1);
    assert!(store.delete(&key(1)).await.expect("deleting makes room"));
    server.tell(&["CONFIG", "SET", "maxmemory", "0"]);
    store.ping().await.expect("it is not full any more");
}

#[tokio::test]
async fn a_replica_is_read_from_and_not_connected_to_for_each_write() {
    let server = Server::start();
    let store = store(&server.settings());
    store.insert(&key(1), &new(1, &[])).await.expect("it works");
    server.tell(&["REPLICAOF", "127.0.0.1", "1"]);
    let before = server.number("total_connections_received");
    for _ in 0..50 {
        let error = store
            .touch(&key(1), UnixTime(1), HOUR)
            .await
            .expect_err("a replica");
        assert_eq!(
            error.reason(),
            "touch: the server answered READONLY (a replica that takes no writes)"
        );
        assert!(store.load(&key(1)).await.expect("reads work").is_some());
    }
    let made = server.number("total_connections_received") - before;
    assert!(made < 10, "{made} connections");
    server.tell(&["REPLICAOF", "NO", "ONE"]);
    store
        .touch(&key(1), UnixTime(1), HOUR)
        .await
        .expect("a master again");
}

#[tokio::test]
async fn a_server_that_stalls_times_out_in_time() {
    let server = Server::start();
    let mut settings = server.settings();
    settings.timeout = Duration::from_millis(300);
    let store = Arc::new(store(&settings));
    eventually(|| store.ping()).await;
    server.tell(&["CLIENT", "PAUSE", "2000", "ALL"]);
    let began = Instant::now();
    let calls = (0..50).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.load(&key(1)).await })
    });
    for call in futures_util::future::join_all(calls).await {
        let error = call.expect("no panic").err().expect("it stalls");
        assert_eq!(error.reason(), "load: timed out after 300ms");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let name = key(1);
    assert!(eventually(|| store.load(&name)).await.is_none());
}

#[tokio::test]
async fn failures_to_get_in_say_why_and_not_with_what() {
    let server = Server::with_user();
    server.tell(&["CONFIG", "SET", "requirepass", "another"]);
    let address = |login: &str| format!("redis://{login}127.0.0.1:{}", server.port);
    let cases = [
        (
            address(""),
            "ping: the server answered NOAUTH (it wants a password)",
        ),
        (
            address(&format!("{}:canary-wrong@", USER.0)),
            "ping: connecting: the server refused the user or the password",
        ),
        (
            "redis://127.0.0.1:1".to_owned(),
            "ping: connecting: connection refused",
        ),
    ];
    for (address, expected) in cases {
        let error = store(&settings(StoreKind::Redis, &address))
            .ping()
            .await
            .expect_err(expected);
        assert_eq!(error.reason(), expected);
    }
    let mut other = server.settings_of_user();
    other.prefix = "other:".to_owned();
    let error = store(&other).ping().await.expect_err("not its keys");
    assert_eq!(
        error.reason(),
        "ping: the server answered NOPERM (its ACL lacks a command or a key pattern)"
    );
}

#[tokio::test]
async fn a_value_of_somebody_elses_is_no_session_and_no_end_of_one() {
    let server = Server::start();
    let store = store(&server.settings());
    server.tell(&["SET", &named('s', 1), "canary"]);
    let error = store.load(&key(1)).await.err().expect("not ours");
    let told = StoreError::Unreadable("load: a value that this version of Coatroom cannot read".to_owned());
    assert_eq!(error, told);
    let mut ours = new(1, &[]);
    ours.indexes = vec![IndexKey([9; 32])];
    store.insert(&key(3), &ours).await.expect("room");
    server.tell(&["SET", &named('s', 3), "2 of tomorrow"]);
    let listed = store.list(&IndexKey([9; 32])).await.expect("it is there");
    assert!(
        listed
            .iter()
            .all(|(name, record)| *name == key(3) && record.metadata.is_empty()),
        "so that it can be deleted"
    );
    assert_eq!(listed.len(), 1);
    server.tell(&["SADD", &named('s', 2), "canary"]);
    let error = store.load(&key(2)).await.err().expect("not ours");
    assert!(
        error.reason().starts_with("load: the server answered WRONGTYPE"),
        "{error}"
    );
}

#[test]
fn each_runtime_has_a_connection_and_outlives_the_others() {
    let server = Server::start();
    let store = store(&server.settings());
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime
            .block_on(async {
                store.ping().await?;
                store.load(&key(1)).await
            })
            .expect("it works");
    }
}

/// Memory and time for so many sessions, in a release build: `COATROOM_FIGURES=1000000 cargo test
/// --release -p coatroom --features redis --test it store_redis::figures -- --nocapture`.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "figures are for whoever asked for them")]
async fn figures() {
    let Some(sessions) = std::env::var("COATROOM_FIGURES").ok() else {
        return;
    };
    let sessions: u32 = sessions.parse().expect("a number of sessions");
    let sessions = sessions.next_multiple_of(500).max(10_000);
    let server = Server::start();
    let store = Arc::new(store(&server.settings()));
    let name = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let mut large = new(1, &[]);
    large.record.metadata = vec![1; 300];
    large.record.access = vec![2; 1000];
    large.record.agent = vec![3; 1300];
    store.ping().await.expect("it works");
    let before = server.number("used_memory");
    let began = Instant::now();
    for from in (0..sessions).step_by(500) {
        let inserts = (from..from + 500).map(|number| {
            let (store, mut new) = (store.clone(), large.clone());
            new.indexes = vec![IndexKey(name(number)), IndexKey(name(number + sessions))];
            async move { store.insert(&RecordKey(name(number)), &new).await }
        });
        for insert in futures_util::future::join_all(inserts).await {
            insert.expect("it works");
        }
    }
    let took = began.elapsed();
    println!(
        "{sessions} sessions of 2.6 KB under two indexes each: {} bytes a session, {:.0} inserts/s",
        (server.number("used_memory") - before) / u64::from(sessions),
        f64::from(sessions) / took.as_secs_f64()
    );
    let began = Instant::now();
    for number in 0..10_000 {
        store
            .load(&RecordKey(name(number)))
            .await
            .expect("it works")
            .expect("there");
    }
    println!("one load after the other: {:?} each", began.elapsed() / 10_000);
    let began = Instant::now();
    for number in 0..10_000 {
        let index = IndexKey(name(number));
        assert_eq!(store.list(&index).await.expect("it works").len(), 1);
    }
    println!("one list after the other: {:?} each", began.elapsed() / 10_000);
    for crowd in [16, 64, 256] {
        let began = Instant::now();
        let readers = (0..crowd).map(|reader| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..200_000 / crowd {
                    let key = RecordKey(name((number * crowd + reader) % sessions));
                    store.load(&key).await.expect("it works").expect("there");
                }
            })
        });
        for reader in futures_util::future::join_all(readers).await {
            reader.expect("no panic");
        }
        println!(
            "{crowd} at once over one connection: {:.0} loads/s",
            200_000.0 / began.elapsed().as_secs_f64()
        );
    }
    let began = Instant::now();
    for number in 0..10_000 {
        assert!(store.delete(&RecordKey(name(number))).await.expect("it works"));
    }
    println!("one removal after the other: {:?} each", began.elapsed() / 10_000);
}
