//! A session store: does it answer, does it keep what it is told, and for how long?
//!
//! It is asked as sessions ask it, with a record of our own under a random name that no session has,
//! which is deleted again. A file that does not exist yet is not made here: it would belong to
//! whoever runs this, not to whoever serves.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coatroom::clock::{Clock as _, SystemClock, SystemRng};
use coatroom::store::{SessionStore, StoreError, StoreFacts, open};
use coatroom_core::config::{Application, SessionStorage, StoreKind, StoreSettings, StoreTransport};
use coatroom_core::rng::Rng as _;
use coatroom_core::store::{NewRecord, Record, RecordKey, RecordVersion};

use super::sheet::Sheet;

/// Examines it.
pub(super) async fn examine(sheet: Sheet, application: &Application, settings: &StoreSettings) {
    look_at(&sheet, application, settings).await;
    sheet.done();
}

async fn look_at(sheet: &Sheet, application: &Application, settings: &StoreSettings) {
    match &settings.kind {
        StoreKind::Memory => {
            sheet.warning(
                "persistence",
                "in the memory of the process: a restart signs everybody out",
                "set `session.store` to `sqlite:FILE`, `postgres://…` or `redis://…`, if that is too often",
            );
            return;
        }
        StoreKind::Sqlite(file) if !file.exists() => {
            new_file(sheet, file);
            return;
        }
        _ => {}
    }
    match settings.transport() {
        StoreTransport::Local | StoreTransport::Encrypted => {}
        StoreTransport::Unverified | StoreTransport::Plain => sheet.warning(
            "transport",
            "whoever listens on the way reads its password",
            "`rediss://…`, or `?sslmode=verify-full` for PostgreSQL",
        ),
    }
    let store = match open(settings, Arc::new(SystemClock)) {
        Ok(store) => store,
        Err(error) => {
            sheet.failed("connection", error.reason(), "correct the address of the store");
            return;
        }
    };
    if let Err(error) = store.ping().await {
        sheet.failed("connection", error.reason(), hint(settings));
        return;
    }
    match kept(&*store).await {
        Ok(took) => latency(sheet, application, took),
        Err((doing, error)) => {
            let found = format!("{doing}: {}", error.reason());
            sheet.failed("an entry", found, hint(settings));
            return;
        }
    }
    match store.facts().await {
        Ok(facts) => said(sheet, application, &facts),
        Err(error) => sheet.unclear("server", error.reason(), ""),
    }
}

fn new_file(sheet: &Sheet, file: &Path) {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    if folder.is_dir() {
        sheet.good("file", "it is not there yet: whoever serves makes it");
    } else {
        sheet.failed(
            "file",
            "neither it nor its folder is there",
            "make the folder, and give it to the user who runs `coatroom serve` (StateDirectory= in systemd)",
        );
    }
}

/// Writes, reads and deletes; how long reading took, which is what calls with a session wait for.
async fn kept(store: &dyn SessionStore) -> Result<Duration, (&'static str, StoreError)> {
    let mut random = [0; 40];
    SystemRng.fill(&mut random);
    let (name, version) = random.split_at(32);
    let key = RecordKey(name.try_into().unwrap_or_default());
    let version = RecordVersion(u64::from_be_bytes(version.try_into().unwrap_or_default()));
    let record = NewRecord {
        record: Record {
            version,
            last_active: SystemClock.now(),
            metadata: b"coatroom doctor".to_vec(),
            access: b"coatroom doctor".to_vec(),
            agent: b"coatroom doctor".to_vec(),
        },
        indexes: Vec::new(),
        // gone by itself, should the deletion fail
        life: Duration::from_secs(60),
    };
    store
        .insert(&key, &record)
        .await
        .map_err(|error| ("writing one", error))?;
    let begun = Instant::now();
    let read = store.load(&key).await.map_err(|error| ("reading it", error));
    let took = begun.elapsed();
    let deleted = store.delete(&key).await.map_err(|error| ("deleting it", error));
    let found = read?;
    if found.is_none_or(|found| found.version != version) {
        let lost = "what was written is not there: a replica that lags, or somebody who evicts";
        return Err(("reading it", StoreError::Unavailable(lost.to_owned())));
    }
    deleted.map(|_| took)
}

fn latency(sheet: &Sheet, application: &Application, took: Duration) {
    let found = match took.as_millis() {
        0 => "written, read and deleted; read in less than 1ms".to_owned(),
        took => format!("written, read and deleted; read in {took}ms"),
    };
    let waits = application.session.storage.is_stateful();
    if took >= SLOW && waits {
        sheet.warning(
            "an entry",
            found,
            "put the store next to Coatroom: calls with a session wait for it",
        );
    } else {
        sheet.good("an entry", found);
    }
}

fn said(sheet: &Sheet, application: &Application, facts: &StoreFacts) {
    if let Some(version) = &facts.version {
        sheet.good("server", format!("version {version}"));
    }
    if facts.evicts == Some(true) {
        sheet.failed(
            "eviction",
            "its `maxmemory-policy` throws sessions, and what says that one has ended, away when its memory is full",
            "`CONFIG SET maxmemory-policy noeviction`, and in redis.conf; give it enough memory",
        );
    }
    let lost = match &application.session.storage {
        SessionStorage::Store(_) => "everybody",
        SessionStorage::Cookie | SessionStorage::CookieWithRevocations(_) => {
            "nobody, and forgets who has been,"
        }
    };
    match facts.persists {
        Some(true) => sheet.good("persistence", "what it is told survives its restart"),
        Some(false) => sheet.warning(
            "persistence",
            format!("its restart signs {lost} out: it writes nothing to a disk"),
            "`appendonly yes` in redis.conf",
        ),
        None => {}
    }
    if let Some(now) = facts.now {
        let here = SystemClock.now();
        let off = now.seconds_from(here).max(here.seconds_from(now));
        if off > CLOCKS {
            sheet.warning(
                "clock",
                format!("its clock and this machine's differ by {off}s"),
                "set the clocks (timedatectl, chrony): sessions end by the store's, tokens by ours",
            );
        } else {
            sheet.good("clock", "as this machine's");
        }
    }
}

fn hint(settings: &StoreSettings) -> &'static str {
    match settings.kind {
        StoreKind::Sqlite(_) => {
            "may this user write the file and its folder, is the disk full? (`session.store`); run this as the user who serves"
        }
        StoreKind::Postgres => {
            "is it up, may this machine and this user connect (pg_hba.conf), are its password and its rights right? \
             (`session.store`; the words are in docs/stores.md)"
        }
        StoreKind::Redis | StoreKind::RedisCluster | StoreKind::RedisSentinel => {
            "is it up, may this machine connect, are its password and ACL right, is it a replica? (`session.store`; the \
             words are in docs/stores.md)"
        }
        StoreKind::Memory => "restart",
    }
}

/// A store that takes longer than this makes every call slow.
const SLOW: Duration = Duration::from_millis(50);

/// Seconds that clocks may differ by before anybody notices.
const CLOCKS: u64 = 5;

#[cfg(test)]
mod tests {
    use coatroom::store::memory::MemoryStore;
    use coatroom_core::config::{ApplicationConfig, ProviderConfig, SessionConfig, StoreConfig};
    use coatroom_core::secret::Secret;

    use super::super::sheet::State;
    use super::*;

    fn examined(url: &str) -> Vec<super::super::sheet::Finding> {
        let settings = StoreConfig::new(Secret::new(url)).check();
        let settings = settings.unwrap_or_else(|problems| panic!("{problems:?}"));
        let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("hush"));
        let mut config = ApplicationConfig::new("shop", "https://shop.example.com", provider);
        config.session = SessionConfig {
            storage: SessionStorage::Store(Box::new(settings.clone())),
            ..SessionConfig::default()
        };
        let application = config.check().unwrap_or_else(|problems| panic!("{problems:?}"));
        let sheet = Sheet::new(None, "store");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(examine(sheet.clone(), &application, &settings));
        sheet.findings()
    }

    #[test]
    fn a_store_that_keeps_what_it_is_told_is_good_and_keeps_nothing_of_ours() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let store = MemoryStore::new(Arc::new(SystemClock));
        runtime
            .block_on(kept(&store))
            .map_err(|(doing, _)| doing)
            .expect("kept");
    }

    #[test]
    fn a_file_is_examined_and_one_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("sessions.db");
        let url = format!("sqlite:{}", file.display());
        let before = examined(&url);
        assert_eq!((before.len(), before[0].state), (1, State::Good), "{before:?}");
        assert!(!file.exists());

        let mut private = std::fs::OpenOptions::new();
        let private = std::os::unix::fs::OpenOptionsExt::mode(&mut private, 0o600);
        private
            .create(true)
            .truncate(true)
            .write(true)
            .open(&file)
            .expect("our folder");
        let findings = examined(&url);
        assert!(
            findings.iter().all(|finding| finding.state != State::Failed),
            "{findings:?}"
        );
        let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, ["an entry", "server", "persistence", "clock"]);

        let nowhere = examined(&format!("sqlite:{}/nowhere/sessions.db", folder.path().display()));
        assert_eq!(nowhere[0].state, State::Failed);
    }

    #[test]
    fn a_store_that_is_away_is_a_failure_with_a_hint() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = gone.local_addr().expect("bound").port();
        drop(gone);
        for url in [
            format!("redis://:hunter2@127.0.0.1:{port}"),
            format!("postgres://a:hunter2@127.0.0.1:{port}/b"),
        ] {
            let findings = examined(&url);
            let last = findings.last().expect("one");
            assert_eq!(
                (last.check, last.state),
                ("connection", State::Failed),
                "{findings:?}"
            );
            assert!(
                !last.todo.is_empty() && !format!("{findings:?}").contains("hunter2"),
                "{findings:?}"
            );
        }
    }
}
