//! The session-end signal: from a session's id to everything that lives on it in this process.
//!
//! Sockets and long streams subscribe and stop when their session ends, whoever ends it. Caches
//! compare [`SessionEnds::generation`], one relaxed load, and take no lock. A subscription that
//! is made late names the generation at which its session was last known to be good, so an end
//! in between is not missed; where the short memory of past ends cannot tell, the answer is
//! "ended". A subscription may also name when its session ends by the clock: one task for all
//! looks at those once a second, and a refresh in this process moves them. This file never sees a
//! token. Memory is bounded by the living subscriptions and a fixed number of remembered ends.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use coatroom_core::store::MarkKey;
use coatroom_core::time::UnixTime;

use crate::clock::{Clock, SystemClock};

/// How often any session was ended in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

/// The process-wide registry. Clones share it.
#[derive(Clone)]
pub struct SessionEnds {
    shared: Arc<Shared>,
}

impl Session {
    fn new() -> Self {
        Self {
            ends_at: UnixTime(0),
            idle_ends_at: UnixTime(0),
            marks: [None; 2],
            created_at: None,
            subscriptions: Vec::new(),
        }
    }
}

/// Which of a session's clocks end a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// None: only that the session is ended.
    Ended,
    /// When the session ends at the latest.
    EndsAt(UnixTime),
    /// That, or when it may have been idle for too long: this long from now, unless a refresh in
    /// this process says otherwise.
    IdleOrEndsAt(UnixTime, Duration),
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
    clock: Arc<dyn Clock>,
    /// Whether somebody looks at the clock.
    watched: AtomicBool,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    subscribed: HashMap<[u8; 16], Session>,
    /// Past ends, oldest first.
    ended: VecDeque<(u64, [u8; 16])>,
    /// The newest generation that has dropped out of `ended`.
    forgotten: u64,
}

/// A session that something lives on.
struct Session {
    /// When it ends by the clock, as far as is known; the latest of what was said.
    ends_at: UnixTime,
    idle_ends_at: UnixTime,
    /// Under which other names it may be ended.
    marks: [Option<MarkKey>; 2],
    /// When it began, as far as is known.
    created_at: Option<UnixTime>,
    subscriptions: Vec<Subscription>,
}

struct Subscription {
    ticket: u64,
    until: Until,
    waker: Option<Waker>,
}

impl Generation {
    /// As a number, for caches.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl SessionEnds {
    /// An empty registry, by the system's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty registry by another clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                generation: AtomicU64::new(0),
                tickets: AtomicU64::new(0),
                clock,
                watched: AtomicBool::new(false),
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
            false => self.subscribed(shard, session, Until::Ended),
        }
    }

    /// Like [`subscribe`](Self::subscribe), for a session that was good at generation `since`.
    pub fn subscribe_since(&self, session: [u8; 16], since: Generation) -> SessionEnded {
        self.subscribe_until(session, since, Until::Ended)
    }

    /// Like [`subscribe_since`](Self::subscribe_since), and resolves when the clock says that the
    /// session is over, up to two seconds late. It wants to be called on a tokio runtime.
    pub fn subscribe_until(&self, session: [u8; 16], since: Generation, until: Until) -> SessionEnded {
        let shard = self.shared.shard(session);
        if shard.forgotten > since.0 || shard.remembers(session) {
            return self.over(session);
        }
        let subscribed = self.subscribed(shard, session, until);
        if until != Until::Ended {
            self.shared.watch();
        }
        subscribed
    }

    /// A refresh moved a session's clocks: what lives on it may go on for as long.
    pub fn extend(&self, session: [u8; 16], ends_at: UnixTime, idle_ends_at: UnixTime) {
        if let Some(known) = self.shared.shard(session).subscribed.get_mut(&session) {
            known.ends_at = known.ends_at.max(ends_at);
            known.idle_ends_at = known.idle_ends_at.max(idle_ends_at);
        }
    }

    /// A user of a session did something in this process.
    pub(crate) fn extend_idle(&self, session: [u8; 16], idle_ends_at: UnixTime) {
        if let Some(known) = self.shared.shard(session).subscribed.get_mut(&session) {
            known.idle_ends_at = known.idle_ends_at.max(idle_ends_at);
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
        let subscriptions = subscribed.into_iter().flat_map(|session| session.subscriptions);
        for waker in subscriptions.filter_map(|s| s.waker) {
            waker.wake();
        }
    }

    /// The names under which a session that something lives on may be ended from elsewhere.
    pub(crate) fn name(&self, session: [u8; 16], marks: [Option<MarkKey>; 2], created_at: Option<UnixTime>) {
        if let Some(known) = self.shared.shard(session).subscribed.get_mut(&session) {
            (known.marks, known.created_at) = (marks, created_at);
        }
    }

    /// Nobody can say any more what ended elsewhere: caches look again at every session, and sockets
    /// and streams are cut, since only a new request asks the store. No session ends by it.
    pub(crate) fn forget(&self) {
        let before = self.shared.generation.fetch_add(1, Ordering::Relaxed);
        let mut cut = Vec::new();
        for shard in &self.shared.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            // whoever subscribes late is cut, too
            shard.forgotten = shard.forgotten.max(before.saturating_add(1));
            shard.subscribed.retain(|_, session| {
                session.subscriptions.retain_mut(|subscription| {
                    // what waits for an end alone would take this for one
                    let stays = subscription.until == Until::Ended;
                    if !stays {
                        cut.extend(subscription.waker.take());
                    }
                    stays
                });
                !session.subscriptions.is_empty()
            });
        }
        for waker in cut {
            waker.wake();
        }
    }

    /// Whether the end of this session is remembered.
    pub(crate) fn remembers(&self, session: [u8; 16]) -> bool {
        self.shared.shard(session).remembers(session)
    }

    /// Ends every session of this name that began no later than `at` and that something lives on, and
    /// has caches look again.
    pub(crate) fn end_marked(&self, key: MarkKey, at: UnixTime) {
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
        let mut named = Vec::new();
        for shard in &self.shared.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let of_that_name = shard.subscribed.iter().filter(|(_, session)| {
                session.marks.contains(&Some(key)) && session.created_at.is_none_or(|begun| begun <= at)
            });
            named.extend(of_that_name.map(|(id, _)| *id));
        }
        for session in named {
            self.end(session);
        }
    }

    fn over(&self, session: [u8; 16]) -> SessionEnded {
        SessionEnded {
            shared: self.shared.clone(),
            session,
            ticket: None,
        }
    }

    fn subscribed(&self, mut shard: MutexGuard<'_, Shard>, session: [u8; 16], until: Until) -> SessionEnded {
        let ticket = self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        let known = shard.subscribed.entry(session).or_insert_with(Session::new);
        match until {
            Until::Ended => {}
            Until::EndsAt(ends_at) => known.ends_at = known.ends_at.max(ends_at),
            Until::IdleOrEndsAt(ends_at, idle) => {
                known.ends_at = known.ends_at.max(ends_at);
                let at_the_latest = self.shared.clock.now().plus(idle);
                known.idle_ends_at = known.idle_ends_at.max(at_the_latest);
            }
        }
        known.subscriptions.push(Subscription {
            ticket,
            until,
            waker: None,
        });
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

    /// Has somebody look at the clock, if nobody does.
    fn watch(self: &Arc<Self>) {
        if self.watched.load(Ordering::Acquire) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if !self.watched.swap(true, Ordering::AcqRel) {
            runtime.spawn(watch(Watching(Arc::downgrade(self))));
        }
    }

    /// Whether any subscription depends on the clock.
    fn has_clocks(&self) -> bool {
        self.shards.iter().any(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let mut all = shard
                .subscribed
                .values()
                .flat_map(|session| &session.subscriptions);
            all.any(|subscription| subscription.until != Until::Ended)
        })
    }

    /// Resolves what is over by the clock; whether anything is left that may be some day.
    fn look(&self) -> bool {
        let now = self.clock.now();
        let mut left = false;
        let mut due = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.subscribed.retain(|_, session| {
                let (over, idle) = (session.ends_at <= now, session.idle_ends_at <= now);
                session.subscriptions.retain_mut(|subscription| {
                    let is_due = match subscription.until {
                        Until::Ended => return true,
                        Until::EndsAt(_) => over,
                        Until::IdleOrEndsAt(..) => over || idle,
                    };
                    if is_due {
                        due.extend(subscription.waker.take());
                    } else {
                        left = true;
                    }
                    !is_due
                });
                !session.subscriptions.is_empty()
            });
        }
        for waker in due {
            waker.wake();
        }
        left
    }
}

/// Whoever looks at the clock; when it stops, whyever, the next subscription finds another.
struct Watching(Weak<Shared>);

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.watched.store(false, Ordering::Release);
        }
    }
}

async fn watch(watching: Watching) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(shared) = watching.0.upgrade() else {
            return;
        };
        if !shared.look() {
            break;
        }
    }
    // One that subscribed since the look found somebody watching.
    let weak = watching.0.clone();
    drop(watching);
    if let Some(shared) = weak.upgrade()
        && shared.has_clocks()
    {
        shared.watch();
    }
}

impl SessionEnded {
    /// Whether the session has ended, without waiting.
    pub fn is_ended(&self) -> bool {
        let Some(ticket) = self.ticket else { return true };
        let shard = self.shared.shard(self.session);
        let subscribed = shard.subscribed.get(&self.session);
        !subscribed.is_some_and(|session| session.subscriptions.iter().any(|s| s.ticket == ticket))
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
            .and_then(|session| session.subscriptions.iter_mut().find(|s| s.ticket == ticket));
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
        if let Some(session) = shard.subscribed.get_mut(&self.session) {
            session.subscriptions.retain(|s| s.ticket != ticket);
            if session.subscriptions.is_empty() {
                shard.subscribed.remove(&self.session);
            }
        }
    }
}

/// Cores subscribe and end at once; one lock for all of them would be waited for.
const SHARDS: usize = 16;

/// How often somebody looks whether a session is over by the clock.
const LOOK: Duration = Duration::from_secs(1);

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
    fn what_may_have_ended_elsewhere_is_cut_and_no_session_ends() {
        let ends = SessionEnds::new();
        let since = ends.generation();
        let until = Until::EndsAt(UnixTime(u64::MAX));
        let mut stream = ends.subscribe_until(ALICE, since, until);
        let mut refresh = ends.subscribe(ALICE);
        ends.forget();
        assert_eq!((&mut stream).now_or_never(), Some(()));
        assert_eq!((&mut refresh).now_or_never(), None, "its session goes on");
        assert!(!ends.remembers(ALICE));
        assert_ne!(ends.generation(), since);
        assert!(!ends.subscribe_until(ALICE, ends.generation(), until).is_ended());
        assert!(
            ends.subscribe_until(ALICE, since, until).is_ended(),
            "who comes late is late"
        );
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

    #[tokio::test(start_paused = true)]
    async fn the_clock_ends_what_lives_on_a_session_and_a_refresh_moves_it() {
        const START: UnixTime = UnixTime(1_000_000);
        const IDLE: Duration = Duration::from_secs(60);
        let at = |seconds: u64| START.plus(Duration::from_secs(seconds));
        for (name, until, extended, lasts) in [
            ("the signal only", Until::Ended, None, None),
            ("the absolute limit", Until::EndsAt(at(100)), None, Some(100)),
            (
                "idle comes first",
                Until::IdleOrEndsAt(at(100), IDLE),
                None,
                Some(60),
            ),
            (
                "idle comes later",
                Until::IdleOrEndsAt(at(30), IDLE),
                None,
                Some(30),
            ),
            (
                "used since",
                Until::IdleOrEndsAt(at(100), IDLE),
                Some((100, 95)),
                Some(95),
            ),
            (
                "refreshed by a timer",
                Until::IdleOrEndsAt(at(100), IDLE),
                Some((100, 40)),
                Some(60),
            ),
            (
                "the provider gave more",
                Until::EndsAt(at(100)),
                Some((200, 0)),
                Some(200),
            ),
        ] {
            let clock = Arc::new(crate::clock::ManualClock::new(START));
            let ends = SessionEnds::with_clock(clock.clone());
            let mut session = ends.subscribe_until(ALICE, ends.generation(), until);
            if let Some((ends_at, idle_ends_at)) = extended {
                ends.extend(ALICE, at(ends_at), at(idle_ends_at));
            }
            let mut lasted = None;
            for second in 0..300 {
                if (&mut session).now_or_never().is_some() {
                    lasted = Some(second);
                    break;
                }
                clock.advance(LOOK);
                tokio::time::sleep(LOOK).await;
            }
            let near = |lasted: u64, wanted: u64| lasted >= wanted && lasted <= wanted + 2;
            match (lasted, lasts) {
                (None, None) => {}
                (Some(lasted), Some(lasts)) => assert!(near(lasted, lasts), "{name}: {lasted}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_at_the_clock_when_nothing_depends_on_it() {
        let ends = SessionEnds::new();
        let far = Until::EndsAt(UnixTime(u64::MAX));
        let session = ends.subscribe_until(ALICE, ends.generation(), far);
        assert!(ends.shared.watched.load(Ordering::Acquire));
        drop(session);
        tokio::time::sleep(LOOK * 2).await;
        assert!(!ends.shared.watched.load(Ordering::Acquire));
        let _session = ends.subscribe_until(ALICE, ends.generation(), far);
        assert!(ends.shared.watched.load(Ordering::Acquire), "and again");
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
