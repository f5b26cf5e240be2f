//! From settings to stores: one for equal settings, kept for as long as somebody has these settings.
//!
//! Opening a store connects to nothing; a kind that this build has no client for is refused here, at
//! the start. No address is shown but by its label, which has no credentials.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coatroom_core::config::{StoreKind, StoreSettings};

use super::guarded::{Guarded, StoreHealth};
use super::{SessionStore, StoreError};
use crate::clock::Clock;

/// A store as its kind has it, without a guard. Most callers want [`Stores::of`].
///
/// # Errors
/// When this build has no client for the kind, or the client refuses the settings.
pub fn open(settings: &StoreSettings, clock: Arc<dyn Clock>) -> Result<Arc<dyn SessionStore>, StoreError> {
    match &settings.kind {
        StoreKind::Memory => memory(clock),
        StoreKind::Sqlite(_) => sqlite(settings),
        StoreKind::Postgres => postgres(settings),
        StoreKind::Redis | StoreKind::RedisCluster | StoreKind::RedisSentinel => redis(settings),
    }
}

/// The stores of a process.
pub struct Stores {
    clock: Arc<dyn Clock>,
    open: Mutex<Vec<Open>>,
}

struct Open {
    settings: StoreSettings,
    store: Arc<Guarded>,
}

impl Stores {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            open: Mutex::default(),
        }
    }

    /// The store with these settings, [guarded](Guarded); equal settings share one.
    ///
    /// # Errors
    /// As [`open`].
    pub fn of(&self, settings: &StoreSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
        self.of_kind(settings, open)
    }

    /// Forgets the stores that none of these settings name: after a reload that was taken on. Whoever
    /// still uses one keeps it.
    pub fn retain<'s>(&self, used: impl IntoIterator<Item = &'s StoreSettings>) {
        let used: Vec<_> = used.into_iter().collect();
        self.open()
            .retain(|open| used.iter().any(|settings| is_same(&open.settings, settings)));
    }

    /// How each of them is.
    pub fn health(&self) -> Vec<StoreHealth> {
        self.open().iter().map(|open| open.store.health()).collect()
    }

    /// Their counters as Prometheus text; nothing where there is no store.
    pub fn render(&self, out: &mut String) {
        let open = self.open();
        let stores: Vec<_> = open.iter().map(|open| open.store.as_ref()).collect();
        super::guarded::render(&stores, out);
    }

    fn of_kind(
        &self,
        settings: &StoreSettings,
        open: impl FnOnce(&StoreSettings, Arc<dyn Clock>) -> Result<Arc<dyn SessionStore>, StoreError>,
    ) -> Result<Arc<dyn SessionStore>, StoreError> {
        let mut all = self.open();
        if let Some(known) = all.iter().find(|open| is_same(&open.settings, settings)) {
            return Ok(known.store.clone());
        }
        let store = open(settings, self.clock.clone())?;
        let name = name(settings, &all);
        let store = Arc::new(Guarded::new(store, name, settings.timeout, self.clock.clone()));
        all.push(Open {
            settings: settings.clone(),
            store: store.clone(),
        });
        Ok(store)
    }

    fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether both mean one store. A memory is one whatever deadline it has: a reload that changes the
/// deadline must not empty it.
fn is_same(one: &StoreSettings, other: &StoreSettings) -> bool {
    match (&one.kind, &other.kind) {
        (StoreKind::Memory, StoreKind::Memory) => one.prefix == other.prefix,
        _ => one == other,
    }
}

/// A name for people and metrics: no two open stores have the same.
fn name(settings: &StoreSettings, open: &[Open]) -> String {
    let label = settings.label();
    let is_taken = |name: &str| open.iter().any(|open| open.store.name() == name);
    let mut name = label.clone();
    let mut number = 1_u32;
    while is_taken(&name) {
        number = number.saturating_add(1);
        name.clone_from(&label);
        let _ = write!(name, " ({number})");
    }
    name
}

fn memory(clock: Arc<dyn Clock>) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(Arc::new(super::memory::MemoryStore::new(clock)))
}

#[cfg(feature = "sqlite")]
fn sqlite(settings: &StoreSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(Arc::new(super::sqlite::SqliteStore::new(settings)?))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_: &StoreSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
    Err(not_built("sqlite"))
}

#[cfg(feature = "postgres")]
fn postgres(settings: &StoreSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(Arc::new(super::postgres::PostgresStore::new(settings)?))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &StoreSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
    Err(not_built("postgres"))
}

#[cfg(feature = "redis")]
fn redis(settings: &StoreSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(Arc::new(super::redis::RedisStore::new(settings)?))
}

#[cfg(not(feature = "redis"))]
fn redis(_: &StoreSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
    Err(not_built("redis"))
}

#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "redis")))]
fn not_built(feature: &str) -> StoreError {
    StoreError::Unavailable(format!("this build has no client for it (feature `{feature}`)"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coatroom_core::config::StoreConfig;
    use coatroom_core::secret::Secret;
    use coatroom_core::time::UnixTime;

    use super::super::testing::Scripted;
    use super::*;
    use crate::clock::ManualClock;

    fn settings(url: &str, timeout: u64) -> StoreSettings {
        let config = StoreConfig {
            timeout: Some(Duration::from_secs(timeout)),
            ..StoreConfig::new(Secret::new(url))
        };
        config.check().unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn stores() -> Stores {
        Stores::new(Arc::new(ManualClock::new(UnixTime(1_000))))
    }

    fn of(stores: &Stores, settings: &StoreSettings) -> Arc<dyn SessionStore> {
        let scripted = |_: &StoreSettings, _| Ok(Arc::new(Scripted::default()) as Arc<dyn SessionStore>);
        stores.of_kind(settings, scripted).expect("opened")
    }

    fn is_one(a: &Arc<dyn SessionStore>, b: &Arc<dyn SessionStore>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
    }

    #[test]
    fn equal_settings_share_a_store_and_others_do_not() {
        let stores = stores();
        for (one, other, expected) in [
            (settings("redis://h", 2), settings("redis://h", 2), true),
            (settings("redis://h", 2), settings("redis://:a@h", 2), false),
            (settings("redis://:a@h", 2), settings("redis://:b@h", 2), false),
            (settings("redis://h", 2), settings("redis://h", 3), false),
            (settings("redis://h/1", 2), settings("redis://h/2", 2), false),
            (settings("memory", 2), settings("memory", 3), true),
            (settings("sqlite:/a", 2), settings("sqlite:/b", 2), false),
        ] {
            assert_eq!(
                is_one(&of(&stores, &one), &of(&stores, &other)),
                expected,
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn a_reload_keeps_what_is_still_named_and_forgets_the_rest() {
        let stores = stores();
        let (kept, gone) = (settings("redis://kept", 2), settings("redis://gone", 2));
        let (first, _) = (of(&stores, &kept), of(&stores, &gone));
        assert_eq!(stores.health().len(), 2);
        stores.retain([&kept]);
        assert!(is_one(&first, &of(&stores, &kept)));
        assert_eq!(stores.health().len(), 1);
    }

    #[test]
    fn stores_of_one_address_have_names_of_their_own_and_none_shows_a_password() {
        let stores = stores();
        for url in ["redis://h", "redis://:hunter2@h", "redis://:hunter3@h"] {
            of(&stores, &settings(url, 2));
        }
        let names: Vec<_> = stores.health().into_iter().map(|health| health.name).collect();
        assert_eq!(
            names,
            ["redis://h:6379", "redis://h:6379 (2)", "redis://h:6379 (3)"]
        );
    }
}
