//! A store that can be taken away: everything goes through to another one until it is.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coatroom::store::{Cursor, SessionStore, StoreError, StoreFuture};
use coatroom_core::store::{
    Ended, EntryKey, Holder, IndexKey, Lease, Mark, MarkKey, NewRecord, Record, RecordKey, RecordVersion,
    Replaced,
};
use coatroom_core::time::UnixTime;
use tokio::sync::Notify;

/// In front of another store.
pub(crate) struct FaultyStore {
    inner: Arc<dyn SessionStore>,
    is_away: AtomicBool,
    leases_are_away: AtomicBool,
    is_read_only: AtomicBool,
    is_unreadable: AtomicBool,
    late: Mutex<Option<Arc<Notify>>>,
    loads: AtomicUsize,
    writes: AtomicUsize,
}

impl FaultyStore {
    pub(crate) fn before(inner: Arc<dyn SessionStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            is_away: AtomicBool::new(false),
            leases_are_away: AtomicBool::new(false),
            is_read_only: AtomicBool::new(false),
            is_unreadable: AtomicBool::new(false),
            late: Mutex::default(),
            loads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
        })
    }

    /// Takes it away, or brings it back.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// Refuses every lease, or none.
    pub(crate) fn set_leases_away(&self, are_away: bool) {
        self.leases_are_away.store(are_away, Ordering::SeqCst);
    }

    /// Lets it be read and not written to.
    pub(crate) fn set_read_only(&self) {
        self.is_read_only.store(true, Ordering::SeqCst);
    }

    /// Records are in a format that nobody here knows.
    pub(crate) fn set_unreadable(&self) {
        self.is_unreadable.store(true, Ordering::SeqCst);
    }

    /// What is read next is answered when this is notified.
    pub(crate) fn hold_next_load(&self) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        *self.late.lock().expect("no test panicked here") = Some(notify.clone());
        notify
    }

    /// How often a record was loaded.
    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// How often anything was written.
    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    fn through<'a, T: Send + 'a>(
        &'a self,
        ask: impl FnOnce(&'a dyn SessionStore) -> StoreFuture<'a, T>,
    ) -> StoreFuture<'a, T> {
        match self.is_away.load(Ordering::SeqCst) {
            true => taken_away(),
            false => ask(&*self.inner),
        }
    }

    fn write<'a, T: Send + 'a>(
        &'a self,
        ask: impl FnOnce(&'a dyn SessionStore) -> StoreFuture<'a, T>,
    ) -> StoreFuture<'a, T> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if self.is_read_only.load(Ordering::SeqCst) {
            return taken_away();
        }
        self.through(ask)
    }
}

fn taken_away<'a, T: Send + 'a>() -> StoreFuture<'a, T> {
    let error = StoreError::Unavailable("taken away".to_owned());
    Box::pin(std::future::ready(Err(error)))
}

impl SessionStore for FaultyStore {
    fn load<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, Option<Record>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        if self.is_unreadable.load(Ordering::SeqCst) {
            let error = StoreError::Unreadable("a format of tomorrow".to_owned());
            return Box::pin(std::future::ready(Err(error)));
        }
        let late = self.late.lock().expect("no test panicked here").take();
        let answer = self.through(|store| store.load(key));
        Box::pin(async move {
            let answer = answer.await;
            if let Some(late) = late {
                late.notified().await;
            }
            answer
        })
    }
    fn insert<'a>(&'a self, key: &'a RecordKey, record: &'a NewRecord) -> StoreFuture<'a, ()> {
        self.write(|store| store.insert(key, record))
    }
    fn replace<'a>(
        &'a self,
        key: &'a RecordKey,
        expected: RecordVersion,
        next: &'a NewRecord,
    ) -> StoreFuture<'a, Replaced> {
        self.write(|store| store.replace(key, expected, next))
    }
    fn touch<'a>(&'a self, key: &'a RecordKey, last_active: UnixTime, life: Duration) -> StoreFuture<'a, ()> {
        self.write(|store| store.touch(key, last_active, life))
    }
    fn delete<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, bool> {
        self.write(|store| store.delete(key))
    }
    fn delete_at<'a>(&'a self, key: &'a RecordKey, expected: RecordVersion) -> StoreFuture<'a, Replaced> {
        self.write(|store| store.delete_at(key, expected))
    }
    fn list<'a>(&'a self, index: &'a IndexKey) -> StoreFuture<'a, Vec<(RecordKey, Record)>> {
        self.through(|store| store.list(index))
    }
    fn mark<'a>(&'a self, marks: &'a [Mark]) -> StoreFuture<'a, ()> {
        self.write(|store| store.mark(marks))
    }
    fn marks<'a>(&'a self, keys: &'a [MarkKey]) -> StoreFuture<'a, Vec<Option<UnixTime>>> {
        self.through(|store| store.marks(keys))
    }
    fn announce<'a>(&'a self, ended: &'a [Ended]) -> StoreFuture<'a, ()> {
        self.write(|store| store.announce(ended))
    }
    fn ended_since<'a>(&'a self, cursor: Option<&'a Cursor>) -> StoreFuture<'a, (Cursor, Vec<Ended>)> {
        self.through(|store| store.ended_since(cursor))
    }
    fn acquire<'a>(&'a self, key: &'a EntryKey, holder: Holder, life: Duration) -> StoreFuture<'a, Lease> {
        if self.leases_are_away.load(Ordering::SeqCst) {
            return taken_away();
        }
        self.write(|store| store.acquire(key, holder, life))
    }
    fn release<'a>(&'a self, key: &'a EntryKey, holder: Holder, rest: Duration) -> StoreFuture<'a, ()> {
        self.write(|store| store.release(key, holder, rest))
    }
    fn remember<'a>(&'a self, key: &'a EntryKey, value: &'a [u8], life: Duration) -> StoreFuture<'a, ()> {
        self.write(|store| store.remember(key, value, life))
    }
    fn recall<'a>(&'a self, keys: &'a [EntryKey]) -> StoreFuture<'a, Vec<Option<Vec<u8>>>> {
        self.through(|store| store.recall(keys))
    }
    fn claim<'a>(&'a self, key: &'a EntryKey, life: Duration) -> StoreFuture<'a, bool> {
        self.write(|store| store.claim(key, life))
    }
    fn purge(&self) -> StoreFuture<'_, u64> {
        self.write(|store| store.purge())
    }
    fn ping(&self) -> StoreFuture<'_, ()> {
        self.through(|store| store.ping())
    }
}
