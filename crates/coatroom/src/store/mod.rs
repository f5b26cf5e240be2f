//! Session stores: what every one of them can do, whatever stands behind it.
//!
//! A store keeps opaque records, marks and small entries under names that tell nothing, see
//! [`coatroom_core::store`]. Every operation is atomic by itself, can be repeated without harm when
//! its answer was lost, and fails with [`StoreError`] only, which says that the store cannot be had
//! now: never that a session is over. Stores connect when they are first asked and by themselves
//! again after a failure; making one never waits for a server. No store ever sees a token, a subject
//! or a session's handle.

mod guarded;
pub mod memory;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod migrations;
mod open;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod statements;
#[cfg(test)]
pub(crate) mod testing;

pub use guarded::{Guarded, StoreHealth, StoreTrouble};
pub use open::{Stores, open};

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use coatroom_core::store::{
    Ended, EntryKey, Holder, IndexKey, Lease, Mark, MarkKey, NewRecord, Record, RecordKey, RecordVersion,
    Replaced,
};
use coatroom_core::time::UnixTime;

/// A store's answer to come.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store did not do what was asked. The texts are for the log; no password, key or value is in
/// them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be had now, or not for this.
    #[error("the session store is unavailable: {0}")]
    Unavailable(String),
    /// It answered, with something that this version of Coatroom cannot read: a newer one, or somebody
    /// else, wrote it. Everything else in it may be well.
    #[error("what the session store has cannot be read: {0}")]
    Unreadable(String),
    /// Announcements behind the cursor of [`SessionStore::ended_since`] may have been dropped already:
    /// the caller forgets what it remembers of sessions and begins anew from nowhere.
    #[error("the session store keeps no announcements from that long ago")]
    CursorTooOld,
}

impl StoreError {
    /// What happened, without what it means.
    pub fn reason(&self) -> &str {
        match self {
            Self::Unavailable(reason) | Self::Unreadable(reason) => reason,
            Self::CursorTooOld => "the cursor is older than what is kept",
        }
    }
}

/// What [`SessionStore::list`] shows of a record that cannot be read.
#[cfg(any(feature = "redis", feature = "sqlite", feature = "postgres"))]
fn unreadable() -> Record {
    Record {
        version: RecordVersion(0),
        last_active: UnixTime(0),
        metadata: Vec::new(),
        access: Vec::new(),
        agent: Vec::new(),
    }
}

/// What a server calls its version, as far as it is digits and dots.
#[cfg(any(feature = "redis", feature = "sqlite", feature = "postgres"))]
fn plain_version(said: &[u8]) -> Option<String> {
    let digits = said
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
    let version: String = digits.take(20).map(|byte| char::from(*byte)).collect();
    (!version.is_empty()).then_some(version)
}

impl StoreFacts {
    /// The same with what its clock says.
    #[cfg(feature = "redis")]
    fn at(self, now: Option<UnixTime>) -> Self {
        Self { now, ..self }
    }
}

/// Where a reader of the ends has got to: opaque, of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Keeps sessions and what is known of ended ones. See the module for what all of it has in common.
pub trait SessionStore: Send + Sync + 'static {
    /// One record, in one round trip; none if there is none or its life is over.
    fn load<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, Option<Record>>;

    /// A new record under a name that was never used. The same record again (by version) is well.
    /// Its index entries are found by [`list`](Self::list) no later than the record itself.
    fn insert<'a>(&'a self, key: &'a RecordKey, record: &'a NewRecord) -> StoreFuture<'a, ()>;

    /// A record's next state, if it still is at `expected`; its indexes stay and live on with it.
    /// [`Replaced::Yes`] as well when it is at the new version already. Never makes a record.
    fn replace<'a>(
        &'a self,
        key: &'a RecordKey,
        expected: RecordVersion,
        next: &'a NewRecord,
    ) -> StoreFuture<'a, Replaced>;

    /// A user did something: moves `last_active` forward, never back, and gives the record at least
    /// this long to live from now. Changes no version and makes no record.
    fn touch<'a>(&'a self, key: &'a RecordKey, last_active: UnixTime, life: Duration) -> StoreFuture<'a, ()>;

    /// Removes a record for good; whether there was one.
    fn delete<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, bool>;

    /// Removes a record if it still is at `expected`: [`Replaced::Yes`] when it is gone now,
    /// [`Replaced::Gone`] when it was already.
    fn delete_at<'a>(&'a self, key: &'a RecordKey, expected: RecordVersion) -> StoreFuture<'a, Replaced>;

    /// The living records that an index leads to. One that this version cannot read is there with
    /// empty parts, so that it can be deleted.
    fn list<'a>(&'a self, index: &'a IndexKey) -> StoreFuture<'a, Vec<(RecordKey, Record)>>;

    /// Sets marks; one that is there keeps the later time and the longer life.
    fn mark<'a>(&'a self, marks: &'a [Mark]) -> StoreFuture<'a, ()>;

    /// The times of these marks, in their order, in one round trip.
    fn marks<'a>(&'a self, keys: &'a [MarkKey]) -> StoreFuture<'a, Vec<Option<UnixTime>>>;

    /// Tells every replica that these have ended. Kept for at least five minutes.
    fn announce<'a>(&'a self, ended: &'a [Ended]) -> StoreFuture<'a, ()>;

    /// What was announced since the cursor, once or several times each, never not at all; from
    /// nowhere: nothing, and where to begin.
    fn ended_since<'a>(&'a self, cursor: Option<&'a Cursor>) -> StoreFuture<'a, (Cursor, Vec<Ended>)>;

    /// Asks for the lease `key` for `life`. Whoever holds it already extends it by asking again.
    fn acquire<'a>(&'a self, key: &'a EntryKey, holder: Holder, life: Duration) -> StoreFuture<'a, Lease>;

    /// Gives a lease back, if it is the holder's, and has everybody rest for `rest` (zero: not at
    /// all).
    fn release<'a>(&'a self, key: &'a EntryKey, holder: Holder, rest: Duration) -> StoreFuture<'a, ()>;

    /// Keeps a small value for `life`; one that is there is replaced.
    fn remember<'a>(&'a self, key: &'a EntryKey, value: &'a [u8], life: Duration) -> StoreFuture<'a, ()>;

    /// The values under these names, in their order, in one round trip.
    fn recall<'a>(&'a self, keys: &'a [EntryKey]) -> StoreFuture<'a, Vec<Option<Vec<u8>>>>;

    /// Takes a name for `life`; whether nobody had it.
    fn claim<'a>(&'a self, key: &'a EntryKey, life: Duration) -> StoreFuture<'a, bool>;

    /// Forgets what is over, where the server does not by itself; how many records went. Bounded
    /// work: what is left is for the next time.
    fn purge(&self) -> StoreFuture<'_, u64>;

    /// Whether the store answers, and may be written to.
    fn ping(&self) -> StoreFuture<'_, ()>;

    /// What the server says of itself, for whoever examines it; nothing where it says nothing.
    fn facts(&self) -> StoreFuture<'_, StoreFacts> {
        Box::pin(std::future::ready(Ok(StoreFacts::default())))
    }
}

/// What the server behind a store says of itself: what it does not tell us is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFacts {
    /// Its version: digits and dots.
    pub version: Option<String>,
    /// Its clock.
    pub now: Option<UnixTime>,
    /// Whether it throws entries away that are not over yet, when its memory is full.
    pub evicts: Option<bool>,
    /// Whether what it was told survives its restart.
    pub persists: Option<bool>,
}
