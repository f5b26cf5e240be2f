//! The part of the contract that is about everything but records: marks, ends, leases, entries.

use std::sync::Arc;
use std::time::Duration;

use coatroom::store::{Cursor, StoreError};
use coatroom_core::session::SessionId;
use coatroom_core::store::{Ended, Lease, Mark, MarkKey};
use coatroom_core::time::UnixTime;
use tokio::task::JoinSet;

use super::{LONG, Store, Subject, entry, fifty, holder, name};

pub(super) async fn marks_keep_the_later_time(a: &Store, b: &Store) {
    let keys: Vec<MarkKey> = (0..3).map(|_| MarkKey(name().0)).collect();
    assert_eq!(a.marks(&keys).await, Ok(vec![None; 3]));
    assert_eq!(a.marks(&[]).await, Ok(Vec::new()));
    a.mark(&[]).await.expect("it answers");
    let mark = |key: usize, at| Mark {
        key: keys[key],
        at: UnixTime(at),
        life: LONG,
    };
    a.mark(&[mark(0, 10), mark(2, 30)]).await.expect("it answers");
    assert_eq!(
        b.marks(&keys).await,
        Ok(vec![Some(UnixTime(10)), None, Some(UnixTime(30))])
    );
    b.mark(&[mark(0, 5), mark(2, 31)]).await.expect("it answers");
    b.mark(&[mark(1, 8), mark(1, 9), mark(1, 7)])
        .await
        .expect("one name twice");
    let expected = [10, 9, 31].map(|at| Some(UnixTime(at)));
    assert_eq!(a.marks(&keys).await, Ok(expected.to_vec()));
    let [first, _, third] = expected;
    let again = [keys[2], keys[0], keys[2]];
    assert_eq!(
        a.marks(&again).await,
        Ok(vec![third, first, third]),
        "in the order asked for"
    );

    let keys = [keys[0], keys[1]];
    fifty(a, b, move |store, number| async move {
        let mark = |key, at| Mark {
            key,
            at: UnixTime(at),
            life: LONG,
        };
        let mut marks = [mark(keys[0], 1000 + number), mark(keys[1], 2000 - number)];
        if number % 2 == 0 {
            marks.reverse();
        }
        store.mark(&marks).await.expect("writers do not stop each other");
    })
    .await;
    let latest = vec![Some(UnixTime(1049)), Some(UnixTime(2000))];
    assert_eq!(b.marks(&keys).await, Ok(latest));
}

pub(super) async fn marks_end_by_the_clock(subject: &Subject, a: &Store, b: &Store) {
    let (short, kept) = (MarkKey(name().0), MarkKey(name().0));
    let mark = |key, at, life| Mark {
        key,
        at: UnixTime(at),
        life,
    };
    a.mark(&[mark(short, 10, subject.short()), mark(kept, 10, LONG)])
        .await
        .expect("it answers");
    a.mark(&[mark(kept, 20, subject.short())])
        .await
        .expect("it answers");
    subject
        .until("a mark ends", || async {
            b.marks(&[short]).await == Ok(vec![None])
        })
        .await;
    let longer = b.marks(&[kept]).await;
    assert_eq!(longer, Ok(vec![Some(UnixTime(20))]), "the longer life counts");
    a.mark(&[mark(short, 3, LONG)]).await.expect("it answers");
    assert_eq!(
        b.marks(&[short]).await,
        Ok(vec![Some(UnixTime(3))]),
        "what is over does not count"
    );
}

pub(super) async fn what_ended_reaches_everybody(a: &Store, b: &Store) {
    let (start, before) = b.ended_since(None).await.expect("it answers");
    assert_eq!(before, [], "from nowhere: nothing");
    let session = Ended::Session(SessionId(name().0[..16].try_into().expect("sixteen")));
    let user = Ended::Marked(MarkKey(name().0));
    a.announce(&[]).await.expect("it answers");
    a.announce(&[session, user]).await.expect("it answers");
    let (next, heard) = b.ended_since(Some(&start)).await.expect("it answers");
    assert!(heard.contains(&session) && heard.contains(&user), "{heard:?}");
    let (_, again) = a.ended_since(Some(&start)).await.expect("it answers");
    assert!(again.contains(&session), "every reader hears it");
    let last = Ended::Marked(MarkKey(name().0));
    b.announce(&[last]).await.expect("it answers");
    let (_, heard) = b.ended_since(Some(&next)).await.expect("it answers");
    assert!(heard.contains(&last), "{heard:?}");
    let (mut cursor, mut left) = (next, 1);
    for _ in 0..20 {
        let (next, heard) = a.ended_since(Some(&cursor)).await.expect("it answers");
        (cursor, left) = (next, heard.len());
    }
    assert_eq!(left, 0, "once everything was heard there is nothing left to hear");
    let lost = Cursor("of another store".into());
    match a.ended_since(Some(&lost)).await {
        Ok((_, heard)) => assert!(heard.contains(&last), "a cursor that is none misses nothing"),
        Err(error) => assert_eq!(error, StoreError::CursorTooOld, "or says that it does"),
    }
}

pub(super) async fn nothing_announced_by_many_is_missed(a: &Store, b: &Store) {
    let (mut cursor, _) = b.ended_since(None).await.expect("it answers");
    let mut tasks = JoinSet::new();
    for number in 0..50_u64 {
        let store = Arc::clone(if number % 2 == 0 { a } else { b });
        tasks.spawn(async move {
            let ended = Ended::Marked(MarkKey(name().0));
            store.announce(&[ended]).await.expect("it answers");
            ended
        });
    }
    let (mut announced, mut heard) = (Vec::new(), Vec::new());
    // reads while others write
    while let Some(ended) = tasks.join_next().await {
        announced.push(ended.expect("no task panics"));
        let (next, some) = a.ended_since(Some(&cursor)).await.expect("it answers");
        cursor = next;
        heard.extend(some);
    }
    let (_, rest) = a.ended_since(Some(&cursor)).await.expect("it answers");
    heard.extend(rest);
    for ended in &announced {
        assert!(heard.contains(ended), "{ended:?} was missed");
    }
}

pub(super) async fn a_lease_has_one_holder(a: &Store, b: &Store) {
    let key = entry();
    let outcomes = fifty(a, b, move |store, number| async move {
        let lease = store.acquire(&key, holder(number), LONG).await;
        (number, lease.expect("it answers"))
    })
    .await;
    let mut holders = Vec::new();
    for (number, lease) in outcomes {
        match lease {
            Lease::Acquired { after_death } => {
                assert!(!after_death, "nobody had it before");
                holders.push(number);
            }
            Lease::Held { left } => assert!(left <= LONG, "{left:?}"),
            Lease::Resting { .. } => panic!("nobody gave it back"),
        }
    }
    let [winner] = holders[..] else {
        panic!("one holder, not {holders:?}")
    };
    let extended = b.acquire(&key, holder(winner), LONG * 2).await;
    assert_eq!(
        extended,
        Ok(Lease::Acquired { after_death: false }),
        "its holder extends it"
    );
    let other = a.acquire(&key, holder(77), LONG).await.expect("it answers");
    assert!(
        matches!(other, Lease::Held { left } if left > LONG && left <= LONG * 2),
        "{other:?}"
    );
    a.release(&key, holder(77), Duration::ZERO)
        .await
        .expect("it answers");
    let other = a.acquire(&key, holder(77), LONG).await.expect("it answers");
    assert!(
        matches!(other, Lease::Held { .. }),
        "only its holder gives it back: {other:?}"
    );
    for _ in 0..2 {
        b.release(&key, holder(winner), Duration::ZERO)
            .await
            .expect("it answers");
    }
    let next = a.acquire(&key, holder(77), LONG).await;
    assert_eq!(
        next,
        Ok(Lease::Acquired { after_death: false }),
        "it was given back"
    );
    b.release(&key, holder(winner), Duration::ZERO)
        .await
        .expect("a late repetition");
    let other = b.acquire(&key, holder(78), LONG).await.expect("it answers");
    assert!(matches!(other, Lease::Held { .. }), "{other:?}");
}

pub(super) async fn a_lease_that_was_not_given_back_is_known_to_be_dead(
    subject: &Subject,
    a: &Store,
    b: &Store,
) {
    let key = entry();
    let lease = a.acquire(&key, holder(1), subject.short()).await;
    assert_eq!(lease, Ok(Lease::Acquired { after_death: false }));
    subject
        .until("a lease ends", || async {
            match b.acquire(&key, holder(2), LONG).await.expect("it answers") {
                Lease::Acquired { after_death } => {
                    assert!(after_death);
                    true
                }
                Lease::Held { .. } => false,
                Lease::Resting { .. } => panic!("nobody gave it back"),
            }
        })
        .await;
    a.release(&key, holder(1), Duration::ZERO)
        .await
        .expect("the dead one is late");
    let other = a.acquire(&key, holder(1), LONG).await.expect("it answers");
    assert!(matches!(other, Lease::Held { .. }), "{other:?}");
    b.release(&key, holder(2), Duration::ZERO)
        .await
        .expect("it answers");
    let next = a.acquire(&key, holder(3), LONG).await;
    assert_eq!(
        next,
        Ok(Lease::Acquired { after_death: false }),
        "a death is told once"
    );
}

pub(super) async fn a_lease_rests(subject: &Subject, a: &Store, b: &Store) {
    let (key, rest) = (entry(), subject.short() * 5);
    a.release(&key, holder(1), LONG).await.expect("it answers");
    let lease = a.acquire(&key, holder(1), LONG).await;
    assert_eq!(
        lease,
        Ok(Lease::Acquired { after_death: false }),
        "nothing was given back"
    );
    a.release(&key, holder(1), LONG).await.expect("it answers");
    let resting = b.acquire(&key, holder(1), LONG).await.expect("it answers");
    assert!(
        matches!(resting, Lease::Resting { left } if left <= LONG),
        "{resting:?}"
    );

    let key = entry();
    let lease = a.acquire(&key, holder(1), LONG).await;
    assert_eq!(lease, Ok(Lease::Acquired { after_death: false }));
    a.release(&key, holder(1), rest).await.expect("it answers");
    subject
        .until("a rest ends", || async {
            match b.acquire(&key, holder(2), LONG).await.expect("it answers") {
                Lease::Acquired { after_death } => {
                    assert!(!after_death, "it was given back");
                    true
                }
                Lease::Resting { left } => {
                    assert!(left <= rest, "{left:?}");
                    false
                }
                Lease::Held { .. } => panic!("nobody has it"),
            }
        })
        .await;
}

pub(super) async fn entries_are_kept_and_end(subject: &Subject, a: &Store, b: &Store) {
    let (short, kept) = (entry(), entry());
    assert_eq!(a.recall(&[short]).await, Ok(vec![None]));
    assert_eq!(a.recall(&[]).await, Ok(Vec::new()));
    let every_byte: Vec<u8> = (0..=255).collect();
    a.remember(&kept, b"first", subject.short())
        .await
        .expect("it answers");
    a.remember(&kept, &every_byte, LONG).await.expect("it answers");
    a.remember(&short, b"", subject.short())
        .await
        .expect("it answers");
    subject
        .until("an entry ends", || async {
            b.recall(&[short]).await == Ok(vec![None])
        })
        .await;
    let recalled = b.recall(&[short, kept, entry(), kept]).await;
    let value = Some(every_byte);
    assert_eq!(
        recalled,
        Ok(vec![None, value.clone(), None, value]),
        "replaced, with its own life"
    );
}

pub(super) async fn a_name_is_claimed_once(subject: &Subject, a: &Store, b: &Store) {
    let key = entry();
    let claims = fifty(a, b, move |store, _| async move {
        store.claim(&key, LONG).await.expect("it answers")
    })
    .await;
    assert_eq!(claims.iter().filter(|claimed| **claimed).count(), 1);
    let key = entry();
    assert_eq!(a.claim(&key, subject.short()).await, Ok(true));
    subject
        .until("a claim ends", || async { b.claim(&key, LONG).await == Ok(true) })
        .await;
    assert_eq!(a.claim(&key, LONG).await, Ok(false));
}
