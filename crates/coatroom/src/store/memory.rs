//! Sessions in this process: for one instance, for development and for tests; gone with the process.
//!
//! Time is its clock's alone. What it keeps is bounded, and when it is full it says so: nobody is
//! signed out to make room for somebody else. Nothing here waits, and the lock is never held across
//! an await.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::ready;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coatroom_core::store::{
    Ended, EntryKey, Holder, IndexKey, Lease, Mark, MarkKey, NewRecord, Record, RecordKey, RecordVersion,
    Replaced,
};
use coatroom_core::time::UnixTime;

use super::{Cursor, SessionStore, StoreError, StoreFuture};
use crate::clock::Clock;

/// How many records it keeps, and how many marks, leases, entries and announcements each.
pub const CAPACITY: usize = 100_000;

/// A store in this process; clones share what they keep.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    shared: Arc<Mutex<Shared>>,
}

impl MemoryStore {
    /// An empty store that lives by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_capacity(clock, CAPACITY)
    }

    fn with_capacity(clock: Arc<dyn Clock>, capacity: usize) -> Self {
        let shared = Shared {
            capacity,
            records: Expiring::new(capacity),
            indexes: HashMap::new(),
            marks: Expiring::new(capacity),
            leases: Expiring::new(capacity),
            entries: Expiring::new(capacity),
            ended: VecDeque::new(),
            announced: 0,
        };
        Self {
            clock,
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Everything, and the time, which nobody sets back.
    fn open(&self) -> (MutexGuard<'_, Shared>, Duration) {
        // Nothing below panics halfway through a change.
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        (shared, self.clock.elapsed())
    }
}

struct Shared {
    capacity: usize,
    records: Expiring<RecordKey, (Record, Vec<IndexKey>)>,
    indexes: HashMap<IndexKey, BTreeSet<RecordKey>>,
    marks: Expiring<MarkKey, UnixTime>,
    leases: Expiring<EntryKey, State>,
    entries: Expiring<EntryKey, Vec<u8>>,
    ended: VecDeque<(Duration, Ended)>,
    /// How many were ever announced: the position behind the last of `ended`.
    announced: u64,
}

/// What is known of a lease.
#[derive(Clone, Copy)]
enum State {
    Held {
        by: Holder,
        until: Duration,
        after_death: bool,
    },
    Resting,
}

impl Shared {
    /// Forgets records that are over, at most so many.
    fn forget(&mut self, now: Duration, most: usize) -> u64 {
        let mut gone = 0;
        while gone < most
            && let Some(key) = self.records.first_over(now)
        {
            self.remove(key);
            gone += 1;
        }
        gone as u64
    }

    fn remove(&mut self, key: RecordKey) -> bool {
        let Some((_, indexes)) = self.records.remove(key) else {
            return false;
        };
        for index in indexes {
            if let Some(keys) = self.indexes.get_mut(&index) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.indexes.remove(&index);
                }
            }
        }
        true
    }

    fn insert(&mut self, key: RecordKey, new: &NewRecord, now: Duration) -> Result<(), StoreError> {
        match self.records.get(key, now) {
            Some((there, _)) if there.version == new.record.version => return Ok(()),
            Some(_) => {
                return Err(StoreError::Unavailable(
                    "another record has this name already".into(),
                ));
            }
            None => self.remove(key),
        };
        if self.records.is_full() {
            self.forget(now, 1);
        }
        let value = (new.record.clone(), new.indexes.clone());
        self.records.put(key, value, now.saturating_add(new.life), now)?;
        for index in &new.indexes {
            self.indexes.entry(*index).or_default().insert(key);
        }
        Ok(())
    }

    fn replace(
        &mut self,
        key: RecordKey,
        expected: RecordVersion,
        next: &NewRecord,
        now: Duration,
    ) -> Replaced {
        let Some((record, _)) = self.records.get_mut(key, now) else {
            return Replaced::Gone;
        };
        if record.version == next.record.version {
            return Replaced::Yes;
        }
        if record.version != expected {
            return Replaced::Changed;
        }
        // A touch in between changed no version, and must not be lost.
        let last_active = record.last_active.max(next.record.last_active);
        *record = next.record.clone();
        record.last_active = last_active;
        self.records.extend(key, now.saturating_add(next.life));
        Replaced::Yes
    }

    fn acquire(
        &mut self,
        key: EntryKey,
        holder: Holder,
        life: Duration,
        now: Duration,
    ) -> Result<Lease, StoreError> {
        let after_death = match self.leases.get(key, now).copied() {
            None => false,
            Some(State::Resting) => {
                let left = self.leases.left(key, now);
                return Ok(Lease::Resting { left });
            }
            Some(State::Held { by, after_death, .. }) if by == holder => after_death,
            Some(State::Held { until, .. }) if until > now => return Ok(Lease::Held { left: until - now }),
            Some(State::Held { .. }) => true,
        };
        let until = now.saturating_add(life);
        let state = State::Held {
            by: holder,
            until,
            after_death,
        };
        self.leases.put(key, state, until.saturating_add(DEAD), now)?;
        Ok(Lease::Acquired { after_death })
    }

    fn release(&mut self, key: EntryKey, holder: Holder, rest: Duration, now: Duration) {
        match self.leases.get_mut(key, now) {
            Some(state @ State::Held { .. }) if matches!(*state, State::Held { by, .. } if by == holder) => {
                *state = State::Resting;
                self.leases.extend(key, now.saturating_add(rest));
            }
            Some(_) | None => {}
        }
    }

    fn announce(&mut self, ended: &[Ended], now: Duration) -> Result<(), StoreError> {
        while self.ended.front().is_some_and(|(until, _)| *until <= now) {
            self.ended.pop_front();
        }
        if self.ended.len() + ended.len() > self.capacity {
            return Err(full(self.capacity));
        }
        let until = now.saturating_add(ANNOUNCED);
        self.ended.extend(ended.iter().map(|ended| (until, *ended)));
        self.announced += ended.len() as u64;
        Ok(())
    }

    fn ended_since(&self, cursor: Option<&Cursor>) -> (Cursor, Vec<Ended>) {
        let ended = cursor.map_or_else(Vec::new, |Cursor(position)| {
            let oldest = self.announced - self.ended.len() as u64;
            // what is no cursor of this store has seen nothing
            let position = position.parse().ok().filter(|at| *at <= self.announced);
            let seen = position.unwrap_or(0).saturating_sub(oldest);
            let seen = usize::try_from(seen).unwrap_or(usize::MAX);
            self.ended.iter().skip(seen).map(|(_, ended)| *ended).collect()
        });
        (Cursor(self.announced.to_string()), ended)
    }
}

fn answer<'a, T: Send + 'a>(answer: Result<T, StoreError>) -> StoreFuture<'a, T> {
    Box::pin(ready(answer))
}

impl SessionStore for MemoryStore {
    fn load<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, Option<Record>> {
        let (shared, now) = self.open();
        answer(Ok(shared
            .records
            .get(*key, now)
            .map(|(record, _)| record.clone())))
    }

    fn insert<'a>(&'a self, key: &'a RecordKey, new: &'a NewRecord) -> StoreFuture<'a, ()> {
        let (mut shared, now) = self.open();
        answer(shared.insert(*key, new, now))
    }

    fn replace<'a>(
        &'a self,
        key: &'a RecordKey,
        expected: RecordVersion,
        next: &'a NewRecord,
    ) -> StoreFuture<'a, Replaced> {
        let (mut shared, now) = self.open();
        answer(Ok(shared.replace(*key, expected, next, now)))
    }

    fn touch<'a>(&'a self, key: &'a RecordKey, last_active: UnixTime, life: Duration) -> StoreFuture<'a, ()> {
        let (mut shared, now) = self.open();
        if let Some((record, _)) = shared.records.get_mut(*key, now) {
            record.last_active = record.last_active.max(last_active);
            let left = shared.records.left(*key, now);
            shared.records.extend(*key, now.saturating_add(life.max(left)));
        }
        answer(Ok(()))
    }

    fn delete<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, bool> {
        let (mut shared, now) = self.open();
        let lived = shared.records.get(*key, now).is_some();
        shared.remove(*key);
        answer(Ok(lived))
    }

    fn delete_at<'a>(&'a self, key: &'a RecordKey, expected: RecordVersion) -> StoreFuture<'a, Replaced> {
        let (mut shared, now) = self.open();
        let version = shared.records.get(*key, now).map(|(record, _)| record.version);
        answer(Ok(match version {
            None => Replaced::Gone,
            Some(version) if version == expected => {
                shared.remove(*key);
                Replaced::Yes
            }
            Some(_) => Replaced::Changed,
        }))
    }

    fn list<'a>(&'a self, index: &'a IndexKey) -> StoreFuture<'a, Vec<(RecordKey, Record)>> {
        let (shared, now) = self.open();
        let living = |key: &RecordKey| Some((*key, shared.records.get(*key, now)?.0.clone()));
        let keys = shared.indexes.get(index);
        answer(Ok(keys.into_iter().flatten().filter_map(living).collect()))
    }

    fn mark<'a>(&'a self, marks: &'a [Mark]) -> StoreFuture<'a, ()> {
        let (mut shared, now) = self.open();
        answer(marks.iter().try_for_each(|mark| {
            let (there, left) = match shared.marks.get(mark.key, now) {
                Some(at) => (*at, shared.marks.left(mark.key, now)),
                None => (mark.at, Duration::ZERO),
            };
            let until = now.saturating_add(mark.life.max(left));
            shared.marks.put(mark.key, there.max(mark.at), until, now)
        }))
    }

    fn marks<'a>(&'a self, keys: &'a [MarkKey]) -> StoreFuture<'a, Vec<Option<UnixTime>>> {
        let (shared, now) = self.open();
        let at = |key: &MarkKey| shared.marks.get(*key, now).copied();
        answer(Ok(keys.iter().map(at).collect()))
    }

    fn announce<'a>(&'a self, ended: &'a [Ended]) -> StoreFuture<'a, ()> {
        let (mut shared, now) = self.open();
        answer(shared.announce(ended, now))
    }

    fn ended_since<'a>(&'a self, cursor: Option<&'a Cursor>) -> StoreFuture<'a, (Cursor, Vec<Ended>)> {
        let (shared, _) = self.open();
        answer(Ok(shared.ended_since(cursor)))
    }

    fn acquire<'a>(&'a self, key: &'a EntryKey, holder: Holder, life: Duration) -> StoreFuture<'a, Lease> {
        let (mut shared, now) = self.open();
        answer(shared.acquire(*key, holder, life, now))
    }

    fn release<'a>(&'a self, key: &'a EntryKey, holder: Holder, rest: Duration) -> StoreFuture<'a, ()> {
        let (mut shared, now) = self.open();
        shared.release(*key, holder, rest, now);
        answer(Ok(()))
    }

    fn remember<'a>(&'a self, key: &'a EntryKey, value: &'a [u8], life: Duration) -> StoreFuture<'a, ()> {
        let (mut shared, now) = self.open();
        let until = now.saturating_add(life);
        answer(shared.entries.put(*key, value.to_vec(), until, now))
    }

    fn recall<'a>(&'a self, keys: &'a [EntryKey]) -> StoreFuture<'a, Vec<Option<Vec<u8>>>> {
        let (shared, now) = self.open();
        let value = |key: &EntryKey| shared.entries.get(*key, now).cloned();
        answer(Ok(keys.iter().map(value).collect()))
    }

    fn claim<'a>(&'a self, key: &'a EntryKey, life: Duration) -> StoreFuture<'a, bool> {
        let (mut shared, now) = self.open();
        if shared.entries.get(*key, now).is_some() {
            return answer(Ok(false));
        }
        let until = now.saturating_add(life);
        answer(shared.entries.put(*key, Vec::new(), until, now).map(|()| true))
    }

    fn purge(&self) -> StoreFuture<'_, u64> {
        let (mut shared, now) = self.open();
        shared.marks.forget(now);
        shared.leases.forget(now);
        shared.entries.forget(now);
        answer(Ok(shared.forget(now, BATCH)))
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        answer(Ok(()))
    }
}

/// A bounded map whose values have an end; those that are over count as absent.
struct Expiring<K, V> {
    capacity: usize,
    values: HashMap<K, (V, Duration)>,
    /// The same, by their end.
    ends: BTreeSet<(Duration, K)>,
}

impl<K: Copy + Ord + Hash, V> Expiring<K, V> {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            values: HashMap::new(),
            ends: BTreeSet::new(),
        }
    }

    fn get(&self, key: K, now: Duration) -> Option<&V> {
        let (value, until) = self.values.get(&key)?;
        (*until > now).then_some(value)
    }

    fn get_mut(&mut self, key: K, now: Duration) -> Option<&mut V> {
        let (value, until) = self.values.get_mut(&key)?;
        (*until > now).then_some(value)
    }

    fn left(&self, key: K, now: Duration) -> Duration {
        let until = self.values.get(&key).map(|(_, until)| *until);
        until.unwrap_or_default().saturating_sub(now)
    }

    fn is_full(&self) -> bool {
        self.values.len() >= self.capacity
    }

    /// Whatever was there is replaced. When it is full what is over makes room, and nothing else.
    fn put(&mut self, key: K, value: V, until: Duration, now: Duration) -> Result<(), StoreError> {
        self.remove(key);
        if self.is_full() {
            self.forget(now);
        }
        if self.is_full() {
            return Err(full(self.capacity));
        }
        self.values.insert(key, (value, until));
        self.ends.insert((until, key));
        Ok(())
    }

    fn extend(&mut self, key: K, until: Duration) {
        if let Some((_, end)) = self.values.get_mut(&key) {
            self.ends.remove(&(*end, key));
            *end = until;
            self.ends.insert((until, key));
        }
    }

    fn remove(&mut self, key: K) -> Option<V> {
        let (value, until) = self.values.remove(&key)?;
        self.ends.remove(&(until, key));
        Some(value)
    }

    fn first_over(&self, now: Duration) -> Option<K> {
        let (until, key) = self.ends.first()?;
        (*until <= now).then_some(*key)
    }

    fn forget(&mut self, now: Duration) {
        for _ in 0..BATCH {
            let Some(key) = self.first_over(now) else { break };
            self.remove(key);
        }
    }
}

fn full(capacity: usize) -> StoreError {
    StoreError::Unavailable(format!(
        "the memory is full: it keeps {capacity} of each kind, use a store on a server for more"
    ))
}

/// How many a purge forgets of each kind.
const BATCH: usize = 10_000;

/// How long what was announced is kept.
const ANNOUNCED: Duration = Duration::from_secs(300);

/// For how long it is known that a lease's holder died.
const DEAD: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn new_record(version: u64, life: u64) -> NewRecord {
        let part = vec![0; 3];
        NewRecord {
            record: Record {
                version: RecordVersion(version),
                last_active: UnixTime(0),
                metadata: part.clone(),
                access: part.clone(),
                agent: part,
            },
            indexes: vec![IndexKey([1; 32])],
            life: Duration::from_secs(life),
        }
    }

    #[tokio::test]
    async fn when_it_is_full_nobody_is_signed_out_and_what_is_over_makes_room() {
        let clock = Arc::new(ManualClock::new(UnixTime(1000)));
        let store = MemoryStore::with_capacity(clock.clone(), 3);
        for name in 0..3 {
            let life = 10 + u64::from(name);
            store
                .insert(&RecordKey([name; 32]), &new_record(1, life))
                .await
                .expect("room");
            store
                .remember(&EntryKey([name; 32]), b"x", Duration::from_secs(10))
                .await
                .expect("room");
        }
        let one_more = RecordKey([9; 32]);
        let refused = store
            .insert(&one_more, &new_record(1, 60))
            .await
            .expect_err("full");
        assert!(refused.to_string().contains("full"), "{refused}");
        assert!(
            store
                .claim(&EntryKey([9; 32]), Duration::from_secs(1))
                .await
                .is_err()
        );
        let marks: Vec<Mark> = (0..4)
            .map(|name| Mark {
                key: MarkKey([name; 32]),
                at: UnixTime(1),
                life: Duration::from_secs(10),
            })
            .collect();
        assert!(store.mark(&marks).await.is_err());
        assert!(
            store
                .announce(&[Ended::Marked(MarkKey([0; 32])); 4])
                .await
                .is_err()
        );
        for name in 0..3 {
            assert!(
                store
                    .load(&RecordKey([name; 32]))
                    .await
                    .expect("memory")
                    .is_some()
            );
        }
        clock.advance(Duration::from_secs(10));
        store
            .insert(&one_more, &new_record(1, 60))
            .await
            .expect("one is over");
        assert_eq!(store.list(&IndexKey([1; 32])).await.expect("memory").len(), 3);
        assert!(
            store
                .claim(&EntryKey([9; 32]), Duration::from_secs(1))
                .await
                .expect("room")
        );
        clock.advance(Duration::from_secs(10));
        assert_eq!(store.purge().await, Ok(2));
        assert_eq!(store.purge().await, Ok(0));
    }
}
