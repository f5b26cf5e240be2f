//! A store for tests that answers, fails or hangs as it is told. It keeps nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coatroom_core::store::{
    Ended, EntryKey, Holder, IndexKey, Lease, Mark, MarkKey, NewRecord, Record, RecordKey, RecordVersion,
    Replaced,
};
use coatroom_core::time::UnixTime;

use super::{Cursor, SessionStore, StoreError, StoreFuture};

/// What such a store does from now on.
#[derive(Clone, Copy, Default)]
pub(crate) enum Behaviour {
    /// It has nothing, and says so.
    #[default]
    Answers,
    /// It cannot be had.
    Fails,
    /// It answers what nobody can read.
    Garbles,
    /// It never answers.
    Hangs,
}

/// The store.
#[derive(Default)]
pub(crate) struct Scripted {
    behaviour: Mutex<Behaviour>,
    asked: AtomicUsize,
    ended: Mutex<Vec<Ended>>,
    marks_are_away: AtomicBool,
}

impl Scripted {
    /// From now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// What `ended_since` tells whoever began to listen before.
    pub(crate) fn has_ended(&self, ended: &[Ended]) {
        let mut all = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(ended);
    }

    /// Whether marks alone cannot be read.
    pub(crate) fn set_marks_away(&self, are_away: bool) {
        self.marks_are_away.store(are_away, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn answer<'a, T: Send + 'a>(&self, answer: T) -> StoreFuture<'a, T> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) {
            Behaviour::Answers => Box::pin(std::future::ready(Ok(answer))),
            Behaviour::Fails => Box::pin(std::future::ready(Err(StoreError::Unavailable(
                "away".to_owned(),
            )))),
            Behaviour::Garbles => Box::pin(std::future::ready(Err(StoreError::Unreadable(
                "what?".to_owned(),
            )))),
            Behaviour::Hangs => Box::pin(std::future::pending()),
        }
    }
}

impl SessionStore for Scripted {
    fn load<'a>(&'a self, _: &'a RecordKey) -> StoreFuture<'a, Option<Record>> {
        self.answer(None)
    }

    fn insert<'a>(&'a self, _: &'a RecordKey, _: &'a NewRecord) -> StoreFuture<'a, ()> {
        self.answer(())
    }

    fn replace<'a>(
        &'a self,
        _: &'a RecordKey,
        _: RecordVersion,
        _: &'a NewRecord,
    ) -> StoreFuture<'a, Replaced> {
        self.answer(Replaced::Gone)
    }

    fn touch<'a>(&'a self, _: &'a RecordKey, _: UnixTime, _: Duration) -> StoreFuture<'a, ()> {
        self.answer(())
    }

    fn delete<'a>(&'a self, _: &'a RecordKey) -> StoreFuture<'a, bool> {
        self.answer(false)
    }

    fn delete_at<'a>(&'a self, _: &'a RecordKey, _: RecordVersion) -> StoreFuture<'a, Replaced> {
        self.answer(Replaced::Gone)
    }

    fn list<'a>(&'a self, _: &'a IndexKey) -> StoreFuture<'a, Vec<(RecordKey, Record)>> {
        self.answer(Vec::new())
    }

    fn mark<'a>(&'a self, _: &'a [Mark]) -> StoreFuture<'a, ()> {
        self.answer(())
    }

    fn marks<'a>(&'a self, keys: &'a [MarkKey]) -> StoreFuture<'a, Vec<Option<UnixTime>>> {
        if self.marks_are_away.load(Ordering::SeqCst) {
            let error = StoreError::Unavailable("marks are away".to_owned());
            return Box::pin(std::future::ready(Err(error)));
        }
        self.answer(vec![None; keys.len()])
    }

    fn announce<'a>(&'a self, _: &'a [Ended]) -> StoreFuture<'a, ()> {
        self.answer(())
    }

    fn ended_since<'a>(&'a self, cursor: Option<&'a Cursor>) -> StoreFuture<'a, (Cursor, Vec<Ended>)> {
        let all = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let since = cursor.map_or(all.len(), |Cursor(heard)| heard.parse().expect("its own"));
        self.answer((Cursor(all.len().to_string()), all[since..].to_vec()))
    }

    fn acquire<'a>(&'a self, _: &'a EntryKey, _: Holder, _: Duration) -> StoreFuture<'a, Lease> {
        self.answer(Lease::Acquired { after_death: false })
    }

    fn release<'a>(&'a self, _: &'a EntryKey, _: Holder, _: Duration) -> StoreFuture<'a, ()> {
        self.answer(())
    }

    fn remember<'a>(&'a self, _: &'a EntryKey, _: &'a [u8], _: Duration) -> StoreFuture<'a, ()> {
        self.answer(())
    }

    fn recall<'a>(&'a self, keys: &'a [EntryKey]) -> StoreFuture<'a, Vec<Option<Vec<u8>>>> {
        self.answer(vec![None; keys.len()])
    }

    fn claim<'a>(&'a self, _: &'a EntryKey, _: Duration) -> StoreFuture<'a, bool> {
        self.answer(true)
    }

    fn purge(&self) -> StoreFuture<'_, u64> {
        self.answer(0)
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        self.answer(())
    }
}
