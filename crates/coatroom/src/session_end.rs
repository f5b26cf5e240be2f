//! The session-end signal: from a session's id to everything that lives on it in this process.
//!
//! Sockets and long streams subscribe and stop when their session ends, whoever ends it. Caches
//! compare [`SessionEnds::generation`], one relaxed load, and take no lock. A subscription that
//! is made late names the generation at which its session was last known to be good, so an end
//! in between is not missed; where the short memory of past ends cannot tell, the answer is
//! "ended". This file never decides that a session has ended and never sees a token. Memory is
//! bounded by the living subscriptions and a fixed number of remembered ends.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How often any session was ended in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

/// The process-wide registry. Clones share it.
#[derive(Clone)]
pub struct SessionEnds {
    shared: Arc<Shared>,
}

/// Resolves when the session it was made for ends; pending until then.
pub struct SessionEnded {
    shared: Arc<Shared>,
    session: [u8; 16],
    /// The key of the subscription; none once the session has ended.
    ticket: Option<u64>,
}

struct Shared {
    generation: AtomicU64,
    tickets: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    subscribed: HashMap<[u8; 16], Vec<Subscription>>,
    /// Past ends, oldest first.
    ended: VecDeque<(u64, [u8; 16])>,
    /// The newest generation that has dropped out of `ended`.
    forgotten: u64,
}

struct Subscription {
    ticket: u64,
    waker: Option<Waker>,
}

impl SessionEnds {
    /// An empty registry.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                generation: AtomicU64::new(0),
                tickets: AtomicU64::new(0),
                shards: std::array::from_fn(|_| Mutex::default()),
            }),
        }
    }

    /// How often a session was ended so far. A cache that remembers another value is out of date.
    pub fn generation(&self) -> Generation {
        Generation(self.shared.generation.load(Ordering::Relaxed))
    }

    /// A future that resolves when the session ends, or at once if it is remembered to have ended:
    /// ids never come back.
    pub fn subscribe(&self, session: [u8; 16]) -> SessionEnded {
        let shard = self.shared.shard(session);
        match shard.remembers(session) {
            true => self.over(session),
            false => self.subscribed(shard, session),
        }
    }

    /// Like [`subscribe`](Self::subscribe), for a session that was good at generation `since`.
    pub fn subscribe_since(&self, session: [u8; 16], since: Generation) -> SessionEnded {
        let shard = self.shared.shard(session);
        match shard.forgotten > since.0 || shard.remembers(session) {
            true => self.over(session),
            false => self.subscribed(shard, session),
        }
    }

    /// Ends a session: the generation moves on, then every subscription resolves.
    pub fn end(&self, session: [u8; 16]) {
        let subscribed = {
            let mut shard = self.shared.shard(session);
            let generation = self
                .shared
                .generation
                .fetch_add(1, Ordering::Relaxed)
                .saturating_add(1);
            if shard.ended.len() >= REMEMBERED
                && let Some((oldest, _)) = shard.ended.pop_front()
            {
                shard.forgotten = oldest;
            }
            shard.ended.push_back((generation, session));
            shard.subscribed.remove(&session)
        };
        for waker in subscribed.into_iter().flatten().filter_map(|s| s.waker) {
            waker.wake();
        }
    }

    fn over(&self, session: [u8; 16]) -> SessionEnded {
        SessionEnded {
            shared: self.shared.clone(),
            session,
            ticket: None,
        }
    }

    fn subscribed(&self, mut shard: MutexGuard<'_, Shard>, session: [u8; 16]) -> SessionEnded {
        let ticket = self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        shard
            .subscribed
            .entry(session)
            .or_default()
            .push(Subscription { ticket, waker: None });
        SessionEnded {
            shared: self.shared.clone(),
            session,
            ticket: Some(ticket),
        }
    }
}

impl Shard {
    fn remembers(&self, session: [u8; 16]) -> bool {
        self.ended.iter().any(|(_, ended)| *ended == session)
    }
}

impl Default for SessionEnds {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn shard(&self, session: [u8; 16]) -> MutexGuard<'_, Shard> {
        let [first, ..] = session;
        self.shards[usize::from(first) % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionEnded {
    /// Whether the session has ended, without waiting.
    pub fn is_ended(&self) -> bool {
        let Some(ticket) = self.ticket else { return true };
        let shard = self.shared.shard(self.session);
        let subscribed = shard.subscribed.get(&self.session);
        !subscribed.is_some_and(|all| all.iter().any(|subscription| subscription.ticket == ticket))
    }
}

impl Future for SessionEnded {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(ticket) = this.ticket else {
            return Poll::Ready(());
        };
        let mut shard = this.shared.shard(this.session);
        let subscription = shard
            .subscribed
            .get_mut(&this.session)
            .and_then(|all| all.iter_mut().find(|s| s.ticket == ticket));
        match subscription {
            Some(subscription) => {
                if !subscription
                    .waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(cx.waker()))
                {
                    subscription.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            None => {
                drop(shard);
                this.ticket = None;
                Poll::Ready(())
            }
        }
    }
}

impl Drop for SessionEnded {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut shard = self.shared.shard(self.session);
        if let Some(all) = shard.subscribed.get_mut(&self.session) {
            all.retain(|s| s.ticket != ticket);
            if all.is_empty() {
                shard.subscribed.remove(&self.session);
            }
        }
    }
}

/// Cores subscribe and end at once; one lock for all of them would be waited for.
const SHARDS: usize = 16;

/// Past ends kept in each shard, for subscriptions that come a little late.
const REMEMBERED: usize = 256;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const ALICE: [u8; 16] = [1; 16];
    const BOB: [u8; 16] = [2; 16];

    fn subscriptions(ends: &SessionEnds) -> usize {
        ends.shared
            .shards
            .iter()
            .map(|shard| shard.lock().expect("no test panics with it").subscribed.len())
            .sum()
    }

    #[test]
    fn a_subscription_resolves_when_its_session_ends_and_not_before() {
        let ends = SessionEnds::new();
        let mut alice = ends.subscribe(ALICE);
        let mut bob = ends.subscribe(BOB);
        assert_eq!((&mut alice).now_or_never(), None);
        ends.end(ALICE);
        assert_eq!((&mut alice).now_or_never(), Some(()));
        assert_eq!((&mut alice).now_or_never(), Some(()), "and stays resolved");
        assert_eq!((&mut bob).now_or_never(), None, "another session is not touched");
    }

    #[test]
    fn all_subscriptions_of_a_session_resolve() {
        let ends = SessionEnds::new();
        let all: Vec<_> = (0..3).map(|_| ends.subscribe(ALICE)).collect();
        ends.end(ALICE);
        assert!(all.into_iter().all(|one| one.now_or_never().is_some()));
    }

    #[tokio::test]
    async fn a_waiting_task_is_woken() {
        let ends = SessionEnds::new();
        let waiting = tokio::spawn(ends.subscribe(ALICE));
        tokio::task::yield_now().await;
        ends.end(ALICE);
        waiting.await.expect("the task ends");
    }

    #[test]
    fn the_generation_moves_with_every_end() {
        let ends = SessionEnds::new();
        let before = ends.generation();
        ends.end(ALICE);
        assert!(ends.clone().generation() > before, "and clones see it");
    }

    #[test]
    fn an_end_between_the_check_and_the_subscription_is_not_missed() {
        let ends = SessionEnds::new();
        ends.end(BOB);
        let since = ends.generation();
        ends.end(ALICE);
        assert_eq!(ends.subscribe_since(ALICE, since).now_or_never(), Some(()));
        assert_eq!(
            ends.subscribe_since(BOB, since).now_or_never(),
            Some(()),
            "ids never come back: an end before the check counts too"
        );
    }

    #[test]
    fn where_memory_cannot_tell_the_session_counts_as_ended() {
        let ends = SessionEnds::new();
        let since = ends.generation();
        for _ in 0..=REMEMBERED {
            ends.end(BOB);
        }
        let [first, ..] = BOB;
        let mut same_shard = [9; 16];
        same_shard[0] = first;
        assert_eq!(ends.subscribe_since(same_shard, since).now_or_never(), Some(()));
    }

    #[test]
    fn memory_is_bounded() {
        let ends = SessionEnds::new();
        for _ in 0..1000 {
            drop(ends.subscribe(ALICE));
            ends.end(BOB);
        }
        assert_eq!(subscriptions(&ends), 0, "subscriptions go with their future");
        let remembered: usize = ends
            .shared
            .shards
            .iter()
            .map(|s| s.lock().expect("no test panics with it").ended.len())
            .sum();
        assert_eq!(remembered, REMEMBERED);
    }

    #[test]
    fn dropping_one_of_two_leaves_the_other() {
        let ends = SessionEnds::new();
        let first = ends.subscribe(ALICE);
        let second = ends.subscribe(ALICE);
        drop(first);
        ends.end(ALICE);
        assert_eq!(second.now_or_never(), Some(()));
    }
}
