//! What every session store does, as one suite: `contract::run(subject).await`.
//!
//! A subject says how to make a client of its server and how time passes there. Nothing here sleeps
//! for a fixed time: what ends by the clock is asked for until it has ended, a bounded number of times.

mod small;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coatroom::store::SessionStore;
use coatroom_core::store::{
    EntryKey, Holder, IndexKey, NewRecord, Record, RecordKey, RecordVersion, Replaced,
};
use coatroom_core::time::UnixTime;
use tokio::task::JoinSet;

type Store = Arc<dyn SessionStore>;
type Passing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A kind of store under test.
pub(crate) struct Subject {
    /// A further client of the same server.
    pub(crate) make: Box<dyn Fn() -> Store + Send + Sync>,
    /// Lets some time pass where the store looks for it.
    pub(crate) advance: Box<dyn Fn(Duration) -> Passing + Send + Sync>,
    /// The least that is worth letting pass; ten of it are a short life.
    pub(crate) tick: Duration,
}

impl Subject {
    /// A store by the clock of its server.
    #[allow(dead_code, reason = "without a feature for one every store is in memory")]
    pub(crate) fn real(make: impl Fn() -> Store + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            advance: Box::new(|by| Box::pin(tokio::time::sleep(by))),
            tick: Duration::from_millis(20),
        }
    }

    fn short(&self) -> Duration {
        self.tick * 10
    }

    /// Asks until it is so.
    async fn until<F: Future<Output = bool>>(&self, what: &str, mut is_so: impl FnMut() -> F) {
        for _ in 0..1500 {
            if is_so().await {
                return;
            }
            (self.advance)(self.tick).await;
        }
        panic!("never: {what}");
    }
}

/// Everything, one after the other.
pub(crate) async fn run(subject: Subject) {
    let subject = &subject;
    let (a, b) = &((subject.make)(), (subject.make)());
    a.ping().await.expect("it answers");
    records_come_back_as_they_went(a, b).await;
    a_repeated_write_is_well(a, b).await;
    a_write_needs_the_version_before(a, b).await;
    one_of_fifty_writers_wins(a, b).await;
    a_touch_moves_forward_only_and_revives_nothing(a, b).await;
    a_deletion_wins(a, b).await;
    a_deletion_at_a_version_spares_any_other(a, b).await;
    records_are_found_by_their_indexes(a, b).await;
    records_end_by_the_clock(subject, a, b).await;
    a_touch_and_a_write_give_a_new_life(subject, a, b).await;
    small::marks_keep_the_later_time(a, b).await;
    small::marks_end_by_the_clock(subject, a, b).await;
    small::what_ended_reaches_everybody(a, b).await;
    small::nothing_announced_by_many_is_missed(a, b).await;
    small::a_lease_has_one_holder(a, b).await;
    small::a_lease_that_was_not_given_back_is_known_to_be_dead(subject, a, b).await;
    small::a_lease_rests(subject, a, b).await;
    small::entries_are_kept_and_end(subject, a, b).await;
    small::a_name_is_claimed_once(subject, a, b).await;
    a.purge().await.expect("it answers");
    b.ping().await.expect("it answers");
}

async fn records_come_back_as_they_went(a: &Store, b: &Store) {
    assert!(found(a, &name()).await.is_none());
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = every_byte.iter().copied().cycle().take(64 * 1024).collect();
    let parts = [
        vec![],
        every_byte,
        large,
        b"'; drop table x; --\0{}$1 %s".to_vec(),
    ];
    for (index, version) in [0, 1, u64::MAX, 1 << 63].into_iter().enumerate() {
        let key = name();
        let mut new = record(version);
        new.record.metadata = parts[index].clone();
        new.record.access = parts[(index + 1) % 4].clone();
        new.record.agent = parts[(index + 2) % 4].clone();
        new.record.last_active = UnixTime(u64::from(u32::MAX) * 3);
        a.insert(&key, &new).await.expect("it answers");
        assert!(
            found(b, &key).await.as_ref() == Some(&new.record),
            "seen by everybody at once"
        );
        assert!(found(a, &key).await == Some(new.record));
    }
}

async fn a_repeated_write_is_well(a: &Store, b: &Store) {
    let (key, first, second) = (name(), record(1), record(2));
    a.insert(&key, &first).await.expect("it answers");
    b.insert(&key, &first).await.expect("the same again");
    assert_eq!(a.list(&first.indexes[0]).await.expect("it answers").len(), 1);
    for store in [a, b, a] {
        let replaced = store.replace(&key, RecordVersion(1), &second).await;
        assert_eq!(replaced, Ok(Replaced::Yes));
    }
    assert!(found(b, &key).await == Some(second.record));
}

async fn a_write_needs_the_version_before(a: &Store, b: &Store) {
    let key = name();
    assert_eq!(
        a.replace(&key, RecordVersion(1), &record(2)).await,
        Ok(Replaced::Gone)
    );
    assert!(found(a, &key).await.is_none(), "a write makes no record");
    a.insert(&key, &record(1)).await.expect("it answers");
    assert_eq!(
        b.replace(&key, RecordVersion(7), &record(2)).await,
        Ok(Replaced::Changed)
    );
    assert_eq!(
        b.replace(&key, RecordVersion(1), &record(2)).await,
        Ok(Replaced::Yes)
    );
    assert_eq!(
        a.replace(&key, RecordVersion(1), &record(3)).await,
        Ok(Replaced::Changed)
    );
    assert_eq!(
        found(a, &key).await.map(|record| record.version),
        Some(RecordVersion(2))
    );
}

async fn one_of_fifty_writers_wins(a: &Store, b: &Store) {
    let key = name();
    a.insert(&key, &record(1)).await.expect("it answers");
    let outcomes = fifty(a, b, move |store, number| async move {
        let replaced = store.replace(&key, RecordVersion(1), &record(100 + number)).await;
        (number, replaced.expect("it answers"))
    })
    .await;
    let winners: Vec<u64> = outcomes
        .iter()
        .filter(|(_, replaced)| *replaced == Replaced::Yes)
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert!(outcomes.iter().all(|(_, replaced)| *replaced != Replaced::Gone));
    let stays = found(b, &key).await.map(|record| record.version);
    assert_eq!(stays, Some(RecordVersion(100 + winners[0])));
}

async fn a_touch_moves_forward_only_and_revives_nothing(a: &Store, b: &Store) {
    let key = name();
    a.touch(&key, UnixTime(9), LONG).await.expect("it answers");
    assert!(found(a, &key).await.is_none(), "a touch makes no record");
    a.insert(&key, &record(1)).await.expect("it answers");
    for (touched, expected) in [(2000, 2000), (1500, 2000), (2000, 2000), (2001, 2001)] {
        b.touch(&key, UnixTime(touched), LONG).await.expect("it answers");
        let record = found(a, &key).await.expect("it lives");
        assert_eq!((record.last_active.0, record.version.0), (expected, 1));
    }
    let mut earlier = record(2);
    earlier.record.last_active = UnixTime(1800);
    assert_eq!(
        a.replace(&key, RecordVersion(1), &earlier).await,
        Ok(Replaced::Yes)
    );
    let record = found(b, &key).await.expect("it lives");
    assert_eq!(
        record.last_active,
        UnixTime(2001),
        "a write that did not know loses no touch"
    );
}

async fn a_deletion_wins(a: &Store, b: &Store) {
    let (key, new) = (name(), record(1));
    assert_eq!(a.delete(&key).await, Ok(false));
    a.insert(&key, &new).await.expect("it answers");
    assert_eq!(b.delete(&key).await, Ok(true));
    assert_eq!(a.delete(&key).await, Ok(false));
    assert_eq!(
        a.replace(&key, RecordVersion(1), &record(2)).await,
        Ok(Replaced::Gone)
    );
    a.touch(&key, UnixTime(5000), LONG).await.expect("it answers");
    assert!(found(b, &key).await.is_none());
    assert!(a.list(&new.indexes[0]).await.expect("it answers").is_empty());

    for _ in 0..4 {
        let key = name();
        a.insert(&key, &record(1)).await.expect("it answers");
        fifty(a, b, move |store, number| async move {
            match number {
                25 => assert_eq!(store.delete(&key).await, Ok(true)),
                even if even % 2 == 0 => {
                    let next = record(100 + number);
                    store
                        .replace(&key, RecordVersion(1), &next)
                        .await
                        .expect("it answers");
                }
                _ => store
                    .touch(&key, UnixTime(2000 + number), LONG)
                    .await
                    .expect("it answers"),
            }
        })
        .await;
        assert!(found(a, &key).await.is_none(), "gone for good");
    }
}

async fn a_deletion_at_a_version_spares_any_other(a: &Store, b: &Store) {
    let (key, first, second) = (name(), record(1), record(2));
    assert_eq!(a.delete_at(&key, RecordVersion(1)).await, Ok(Replaced::Gone));
    a.insert(&key, &first).await.expect("it answers");
    let replaced = b.replace(&key, RecordVersion(1), &second).await;
    assert_eq!(replaced, Ok(Replaced::Yes));
    assert_eq!(a.delete_at(&key, RecordVersion(1)).await, Ok(Replaced::Changed));
    assert!(found(b, &key).await == Some(second.record));
    assert_eq!(a.delete_at(&key, RecordVersion(2)).await, Ok(Replaced::Yes));
    assert!(found(b, &key).await.is_none());
    assert_eq!(b.delete_at(&key, RecordVersion(2)).await, Ok(Replaced::Gone));
    assert!(a.list(&second.indexes[0]).await.expect("it answers").is_empty());
}

async fn records_are_found_by_their_indexes(a: &Store, b: &Store) {
    let (user, sid) = (index(), index());
    assert!(a.list(&user).await.expect("it answers").is_empty());
    let mut keys = Vec::new();
    for version in 0..12 {
        let key = name();
        let mut new = record(version);
        new.indexes = if version == 0 { vec![user, sid] } else { vec![user] };
        a.insert(&key, &new).await.expect("it answers");
        keys.push(key);
    }
    let mut none = record(1);
    none.indexes.clear();
    a.insert(&name(), &none)
        .await
        .expect("a record may have no index");
    keys.sort();
    let listed = async |index| {
        let mut listed = b.list(index).await.expect("it answers");
        listed.sort_by_key(|(key, _)| *key);
        listed.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(listed(&user).await, keys);
    let [(of_sid, one)] = &b.list(&sid).await.expect("it answers")[..] else {
        panic!("one record")
    };
    assert_eq!(one.version, RecordVersion(0));
    let mut next = record(77);
    next.indexes = vec![user, sid];
    assert_eq!(
        a.replace(of_sid, RecordVersion(0), &next).await,
        Ok(Replaced::Yes)
    );
    assert_eq!(listed(&sid).await, [*of_sid], "its indexes stay");
    assert_eq!(a.delete(of_sid).await, Ok(true));
    assert_eq!(listed(&sid).await, []);
    keys.retain(|key| key != of_sid);
    assert_eq!(listed(&user).await, keys);
}

async fn records_end_by_the_clock(subject: &Subject, a: &Store, b: &Store) {
    let (key, mut new) = (name(), record(1));
    new.life = subject.short();
    a.insert(&key, &new).await.expect("it answers");
    subject
        .until("a record ends", || async { found(b, &key).await.is_none() })
        .await;
    assert_eq!(
        a.replace(&key, RecordVersion(1), &record(2)).await,
        Ok(Replaced::Gone)
    );
    a.touch(&key, UnixTime(5000), LONG).await.expect("it answers");
    assert!(found(a, &key).await.is_none(), "nothing revives it");
    assert!(a.list(&new.indexes[0]).await.expect("it answers").is_empty());
    assert_eq!(b.delete(&key).await, Ok(false), "there was none any more");
}

async fn a_touch_and_a_write_give_a_new_life(subject: &Subject, a: &Store, b: &Store) {
    let (control, touched, written) = (name(), name(), name());
    for key in [control, touched, written] {
        let mut new = record(1);
        new.indexes = vec![index_of(key)];
        new.life = subject.short() * 10;
        a.insert(&key, &new).await.expect("it answers");
    }
    a.touch(&touched, UnixTime(5000), LONG).await.expect("it answers");
    let mut next = record(2);
    next.indexes = vec![index_of(written)];
    assert_eq!(
        b.replace(&written, RecordVersion(1), &next).await,
        Ok(Replaced::Yes)
    );
    subject
        .until("what nobody used ends", || async {
            found(b, &control).await.is_none()
        })
        .await;
    for key in [touched, written] {
        assert!(found(b, &key).await.is_some());
        assert_eq!(
            a.list(&index_of(key)).await.expect("it answers").len(),
            1,
            "indexes live on"
        );
    }
}

/// Fifty at once, over two clients; what became of them.
async fn fifty<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    a: &Store,
    b: &Store,
    work: impl Fn(Store, u64) -> F,
) -> Vec<T> {
    let mut tasks = JoinSet::new();
    for number in 0..50 {
        let store = if number % 2 == 0 { a } else { b };
        tasks.spawn(work(Arc::clone(store), number));
    }
    tasks.join_all().await
}

async fn found(store: &Store, key: &RecordKey) -> Option<Record> {
    store.load(key).await.expect("it answers")
}

/// A record of the usual size, under an index of its own.
pub(crate) fn record(version: u64) -> NewRecord {
    NewRecord {
        record: Record {
            version: RecordVersion(version),
            last_active: UnixTime(1000),
            metadata: vec![1; 200],
            access: vec![2; 1000],
            agent: vec![3; 1400],
        },
        indexes: vec![index()],
        life: LONG,
    }
}

/// A name that nobody had before, in any store.
pub(crate) fn name() -> RecordKey {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let mut name = [0xff; 32];
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    // neighbours are far apart, as digests are
    name[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    name[8..16].copy_from_slice(&number.to_be_bytes());
    RecordKey(name)
}

fn index() -> IndexKey {
    IndexKey(name().0)
}

fn index_of(key: RecordKey) -> IndexKey {
    IndexKey(key.0)
}

fn entry() -> EntryKey {
    EntryKey(name().0)
}

fn holder(number: u64) -> Holder {
    let mut holder = [7; 16];
    holder[..8].copy_from_slice(&number.to_be_bytes());
    Holder(holder)
}

/// Longer than any test.
pub(crate) const LONG: Duration = Duration::from_secs(600);
