//! What many sessions cost in the SQL stores. Measures nothing unless `COATROOM_STORE_FIGURES` says
//! how many sessions: `COATROOM_STORE_FIGURES=1000000 cargo test … store_figures -- --nocapture`.

use std::time::{Duration, Instant};

use coatroom::store::SessionStore;
use coatroom_core::store::{IndexKey, RecordKey};
use coatroom_core::time::UnixTime;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};

use crate::support::contract::LONG;
use crate::support::postgres_server::PostgresServer;

fn count() -> Option<u64> {
    std::env::var("COATROOM_STORE_FIGURES").ok()?.parse().ok()
}

/// Sessions of 2.6 KB with one index each; a tenth of them are over.
fn fill(count: u64, series: &str, key: &str, bytes: [&str; 3]) -> [String; 2] {
    let [metadata, access, agent] = bytes;
    [
        format!(
            "insert into coatroom_sessions select {key}, i, 1000, case when i % 10 = 0 then 1 else \
             9000000000000 end, 1, {metadata}, {access}, {agent} from {series}"
        )
        .replace("{count}", &count.to_string()),
        "insert into coatroom_indexes select key, key from coatroom_sessions".into(),
    ]
}

#[tokio::test]
async fn sessions_in_postgres() {
    let Some(count) = count() else { return };
    let server = PostgresServer::start().await;
    let store = crate::store_postgres::store(&server.url("postgres"));
    store.ping().await.expect("it answers");
    let bytes = [200, 1000, 1400].map(|size| format!("decode(repeat('a7', {size}), 'hex')"));
    let bytes = [&*bytes[0], &*bytes[1], &*bytes[2]];
    let began = Instant::now();
    let key = "sha256(i::text::bytea)";
    for statement in fill(count, "generate_series(1, {count}) i", key, bytes) {
        server.say("postgres", &statement).await;
    }
    server.say("postgres", "analyze").await;
    let mut connection = server.connect("postgres").await;
    let size = connection
        .fetch_one("select pg_database_size('postgres')")
        .await
        .expect("one row");
    report("postgres", count, began, size.get::<i64, _>(0).unsigned_abs());
    let rows = connection
        .fetch_all("select key from coatroom_sessions where expires_at > 1 order by random() limit 20000")
        .await
        .expect("rows");
    let keys = rows.iter().map(|row| row.get::<Vec<u8>, _>(0)).collect();
    measure(&store, keys).await;
}

#[tokio::test]
async fn sessions_in_sqlite() {
    let Some(count) = count() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let store = crate::store_sqlite::store(&path);
    store.ping().await.expect("it answers");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .pragma("cache_size", "-500000")
        .pragma("synchronous", "off");
    let mut connection = options.connect().await.expect("it opens");
    let bytes = ["randomblob(200)", "randomblob(1000)", "randomblob(1400)"];
    let began = Instant::now();
    let series = "(with recursive n (i) as (values (1) union all select i + 1 from n where i < {count}) \
                  select i from n)";
    for statement in fill(count, series, "randomblob(32)", bytes) {
        connection
            .execute(AssertSqlSafe(statement))
            .await
            .expect("good SQL");
    }
    for statement in ["pragma wal_checkpoint(truncate)", "analyze"] {
        connection.execute(statement).await.expect("good SQL");
    }
    report(
        "sqlite",
        count,
        began,
        path.metadata().expect("it is there").len(),
    );
    let rows = connection
        .fetch_all("select key from coatroom_sessions where expires_at > 1 order by random() limit 20000")
        .await
        .expect("rows");
    let keys = rows.iter().map(|row| row.get::<Vec<u8>, _>(0)).collect();
    measure(&store, keys).await;
}

fn report(name: &str, count: u64, began: Instant, size: u64) {
    say(&format!(
        "{name}: {count} sessions, filled in {:?}, {} bytes each",
        began.elapsed(),
        size / count
    ));
}

async fn measure(store: &dyn SessionStore, keys: Vec<Vec<u8>>) {
    let keys: Vec<[u8; 32]> = keys
        .into_iter()
        .map(|key| key.try_into().expect("a name"))
        .collect();
    let (mut loads, mut lists, mut touches) = (Vec::new(), Vec::new(), Vec::new());
    for (number, key) in keys.iter().enumerate() {
        let began = Instant::now();
        let found = store.load(&RecordKey(*key)).await.expect("it answers");
        loads.push(began.elapsed());
        assert!(found.is_some());
        if number % 10 == 0 {
            let began = Instant::now();
            assert_eq!(store.list(&IndexKey(*key)).await.expect("it answers").len(), 1);
            lists.push(began.elapsed());
            let began = Instant::now();
            let key = RecordKey(*key);
            let touched = store.touch(&key, UnixTime(2000), LONG).await;
            touched.expect("it answers");
            touches.push(began.elapsed());
        }
    }
    for (name, times) in [
        ("load", &mut loads),
        ("list", &mut lists),
        ("touch", &mut touches),
    ] {
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        say(&format!(
            "  {name}: p50 {:?}, p99 {:?}, of {}",
            at(50),
            at(99),
            times.len()
        ));
    }
    let (began, mut gone, mut longest) = (Instant::now(), 0, Duration::ZERO);
    for _ in 0..10 {
        let one = Instant::now();
        gone += store.purge().await.expect("it answers");
        longest = longest.max(one.elapsed());
    }
    let took = began.elapsed();
    say(&format!(
        "  purge: {gone} in {took:?}, ten calls, the longest {longest:?}"
    ));
}

#[expect(clippy::print_stderr, reason = "figures are for whoever asked for them")]
fn say(line: &str) {
    eprintln!("{line}");
}
