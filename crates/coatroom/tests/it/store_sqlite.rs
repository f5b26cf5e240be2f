//! What the SQLite store does when its file does not do what it should.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use coatroom::store::sqlite::SqliteStore;
use coatroom::store::{SessionStore as _, StoreError};
use coatroom_core::config::{StoreKind, StoreSettings};
use coatroom_core::secret::Secret;
use coatroom_core::store::IndexKey;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::support::contract::{name, record};

pub(crate) fn store(path: &Path) -> SqliteStore {
    store_within(path, Duration::from_secs(20))
}

fn store_within(path: &Path, timeout: Duration) -> SqliteStore {
    let settings = StoreSettings {
        kind: StoreKind::Sqlite(path.to_owned()),
        url: Secret::new("sqlite:"),
        ca: None,
        prefix: "coatroom:".into(),
        timeout,
    };
    SqliteStore::new(&settings).expect("good settings")
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite:{}", path.display()))
        .await
        .expect("it opens")
}

fn said(error: &StoreError, what: &str) {
    assert!(error.to_string().contains(what), "{error}");
}

#[tokio::test]
async fn sessions_survive_a_restart_in_a_file_of_their_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let (key, new) = (name(), record(1));
    let first = store(&path);
    assert!(!path.exists(), "untouched until it is asked");
    first.insert(&key, &new).await.expect("room");
    for file in ["sessions.db", "sessions.db-wal", "sessions.db-shm"] {
        let mode = folder
            .path()
            .join(file)
            .metadata()
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    drop(first);
    let again = store(&path);
    assert!(again.load(&key).await.expect("it opens") == Some(new.record));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("nowhere/sessions.db");
    said(
        &store(&missing).ping().await.expect_err("no folder"),
        "nowhere is not there",
    );

    said(
        &store(folder.path()).ping().await.expect_err("a folder"),
        "cannot be used",
    );

    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, vec![b'x'; 8192]).expect("room");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&garbage, mode).expect("it is ours");
    said(
        &store(&garbage).ping().await.expect_err("garbage"),
        "not a database",
    );
    assert_eq!(
        std::fs::read(&garbage).expect("it is there"),
        vec![b'x'; 8192],
        "left alone"
    );

    let open = folder.path().join("open.db");
    std::fs::write(&open, b"").expect("room");
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&open, mode).expect("it is ours");
    said(&store(&open).ping().await.expect_err("open to all"), "chmod 600");
}

#[tokio::test]
async fn a_failure_to_open_passes_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("later/sessions.db");
    let store = store(&path);
    store.ping().await.expect_err("no folder");
    std::fs::create_dir(folder.path().join("later")).expect("room");
    store.ping().await.expect("the folder is there now");
}

#[tokio::test]
async fn a_file_that_is_deleted_in_use_is_an_outage_and_no_sign_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, aside) = (folder.path().join("sessions.db"), folder.path().join("aside"));
    let store = store(&path);
    let key = name();
    store.insert(&key, &record(1)).await.expect("room");
    std::fs::rename(&path, &aside).expect("it is ours");
    said(&store.load(&key).await.err().expect("an outage"), "moved");
    assert!(!path.exists(), "nothing empty takes its place");
    std::fs::write(&path, b"").expect("room");
    said(&store.load(&key).await.err().expect("an outage"), "replaced");
    std::fs::rename(&aside, &path).expect("it is ours");
    assert!(store.load(&key).await.expect("it is back").is_some());
}

#[tokio::test]
async fn a_full_disk_refuses_new_sessions_and_serves_and_ends_old_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let store = store(&path).limit_pages(200);
    let mut keys = Vec::new();
    let refused = loop {
        let key = name();
        match store.insert(&key, &record(1)).await {
            Ok(()) => keys.push(key),
            Err(error) => break error,
        }
        assert!(keys.len() < 1000, "200 pages hold no 1000 sessions");
    };
    said(&refused, "full");
    assert!(store.load(&keys[0]).await.expect("it reads").is_some());
    for key in &keys[..20] {
        assert_eq!(store.delete(key).await, Ok(true), "a logout needs no room");
    }
    store
        .insert(&name(), &record(1))
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn another_process_that_locks_the_file_costs_a_bounded_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let store = store_within(&path, Duration::from_secs(1));
    let key = name();
    store.insert(&key, &record(1)).await.expect("room");
    let mut other = raw(&path).await;
    other.execute("begin immediate").await.expect("nobody writes");
    let began = std::time::Instant::now();
    said(&store.delete(&key).await.expect_err("locked"), "locked");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(store.load(&key).await.expect("reads go on").is_some());
    other.execute("rollback").await.expect("it answers");
    assert_eq!(store.delete(&key).await, Ok(true));
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let key = name();
    store(&path).insert(&key, &record(1)).await.expect("room");
    let mut other = raw(&path).await;
    let newer = "insert into coatroom_migrations (version, description, success, checksum, execution_time) \
                 values (2, 'later', true, x'00', 0)";
    other.execute(newer).await.expect("good SQL");
    let old = store(&path);
    said(
        &old.load(&key).await.err().expect("newer tables"),
        "have version 2",
    );
    said(&old.ping().await.expect_err("newer tables"), "newer");
    let back = "delete from coatroom_migrations where version = 2; update coatroom_sessions set format = 2";
    other.execute(back).await.expect("good SQL");
    said(
        &store(&path).load(&key).await.err().expect("a newer record"),
        "format 2",
    );
    let indexed =
        "insert into coatroom_indexes (name, session) select zeroblob(32), key from coatroom_sessions";
    other.execute(indexed).await.expect("good SQL");
    let listed = store(&path).list(&IndexKey([0; 32])).await.expect("it is there");
    assert!(
        matches!(&*listed, [(name, record)] if *name == key && record.metadata.is_empty()),
        "so that it can be deleted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_open_a_new_file_at_once_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let store = store(&path);
        tasks.spawn(async move { store.insert(&name(), &record(1)).await });
    }
    for outcome in tasks.join_all().await {
        outcome.expect("all of them can use it");
    }
}

#[tokio::test]
async fn a_purge_forgets_in_bounded_batches_what_is_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sessions.db");
    let store = store(&path);
    let kept = name();
    store.insert(&kept, &record(1)).await.expect("room");
    let many = "with recursive n (i) as (values (1) union all select i + 1 from n where i < 12000) insert \
                into coatroom_sessions select randomblob(32), i, 0, 1, 1, x'', x'', x'' from n";
    raw(&path).await.execute(many).await.expect("good SQL");
    assert_eq!(store.purge().await, Ok(10_000));
    assert_eq!(store.purge().await, Ok(2_000));
    assert_eq!(store.purge().await, Ok(0));
    assert!(store.load(&kept).await.expect("it reads").is_some());
}
