//! The open connections of one data core, and how they are told to end.
//!
//! A connection asks at each of its polls, which costs one look at a cell; its task is woken once
//! when the core begins to drain, or when places are short and nothing has moved over it for a
//! while. Nothing here cuts a connection that has a request in flight: the runtime's end does.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::guarded::Moved;

/// One core's open connections.
#[derive(Clone, Default)]
pub(super) struct Connections(Rc<Shared>);

#[derive(Default)]
struct Shared {
    draining: Cell<bool>,
    open: Cell<usize>,
    /// One for each connection; the index is its key.
    places: RefCell<Vec<Option<Place>>>,
    free: RefCell<Vec<usize>>,
    /// Whoever waits for the last connection to end.
    waiting: RefCell<Option<Waker>>,
}

/// What is known of one connection.
struct Place {
    /// Once it has looked.
    waker: Option<Waker>,
    told: Rc<Cell<bool>>,
    moved: Moved,
    /// How far it had come at the last look at all of them, and how many looks ago that began.
    seen: u64,
    still: u32,
}

/// One open connection; it is over when this is dropped.
pub(super) struct Open {
    shared: Rc<Shared>,
    key: usize,
    /// Whether it was told to end to make room.
    told: Rc<Cell<bool>>,
    moved: Moved,
}

/// Whether a connection should go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// As before.
    GoOn,
    /// It ends after the requests in flight: the core drains.
    Drain,
    /// It ends after the requests in flight, if there are any: others wait for its place.
    MakeRoom,
}

impl Connections {
    /// One more connection.
    pub(super) fn open(&self) -> Open {
        self.0.open.set(self.0.open.get().saturating_add(1));
        let (told, moved) = (Rc::<Cell<bool>>::default(), Moved::default());
        let place = Some(Place {
            waker: None,
            told: told.clone(),
            moved: moved.clone(),
            seen: 0,
            still: 0,
        });
        let mut places = self.0.places.borrow_mut();
        let key = match self.0.free.borrow_mut().pop() {
            Some(key) => {
                if let Some(free) = places.get_mut(key) {
                    *free = place;
                }
                key
            }
            None => {
                places.push(place);
                places.len() - 1
            }
        };
        Open {
            shared: self.0.clone(),
            key,
            told,
            moved,
        }
    }

    /// Looks at all of them; `is_full` when somebody waits. Who has not moved for [`STILL`] looks then
    /// is told to make room: an eighth of all at a time, since those who go may come back at once.
    pub(super) fn look(&self, is_full: bool) {
        let mut wakers = Vec::new();
        let mut left = if is_full {
            self.0.open.get().div_ceil(8).max(LEAST_AT_A_TIME)
        } else {
            0
        };
        for place in self.0.places.borrow_mut().iter_mut().flatten() {
            let total = place.moved.total();
            if total != place.seen {
                place.seen = total;
                place.still = 0;
                continue;
            }
            place.still = place.still.saturating_add(1);
            if left > 0 && place.still >= STILL && !place.told.replace(true) {
                left -= 1;
                wakers.extend(place.waker.take());
            }
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Tells every connection to end when it can.
    pub(super) fn drain(&self) {
        self.0.draining.set(true);
        let wakers: Vec<_> = self
            .0
            .places
            .borrow_mut()
            .iter_mut()
            .flatten()
            .filter_map(|place| place.waker.take())
            .collect();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Resolves when no connection is open.
    pub(super) async fn all_closed(&self) {
        std::future::poll_fn(|cx| {
            if self.0.open.get() == 0 {
                return Poll::Ready(());
            }
            *self.0.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Open {
    /// Whether the connection should end; if not, the task is woken when that changes.
    pub(super) fn word(&self, cx: &mut Context<'_>) -> Word {
        if self.shared.draining.get() {
            return Word::Drain;
        }
        if self.told.get() {
            return Word::MakeRoom;
        }
        let mut places = self.shared.places.borrow_mut();
        if let Some(Some(place)) = places.get_mut(self.key)
            && !place
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            place.waker = Some(cx.waker().clone());
        }
        Word::GoOn
    }

    /// Whether it was told to make room.
    pub(super) fn made_room(&self) -> bool {
        self.told.get()
    }

    /// Where its socket counts its bytes.
    pub(super) fn moved(&self) -> Moved {
        self.moved.clone()
    }

    /// Runs `future` unless the connection is told to end first. What is ready is taken even then.
    pub(super) async fn unless_told<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            match self.word(cx) {
                Word::GoOn => Poll::Pending,
                Word::Drain | Word::MakeRoom => Poll::Ready(None),
            }
        })
        .await
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(place) = self.shared.places.borrow_mut().get_mut(self.key) {
            *place = None;
        }
        self.shared.free.borrow_mut().push(self.key);
        let left = self.shared.open.get().saturating_sub(1);
        self.shared.open.set(left);
        if left == 0
            && let Some(waker) = self.shared.waiting.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// For how many looks nothing may move over a connection whose place others wait for.
const STILL: u32 = 5;

/// How many are told to make room at a look, at least.
const LEAST_AT_A_TIME: usize = 8;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(flavor = "local")]
    async fn who_does_not_move_makes_room_when_somebody_waits() {
        let connections = Connections::default();
        let (idle, busy) = (connections.open(), connections.open());
        let waiting = idle.unless_told(std::future::pending::<()>());
        let mut waiting = pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        for _ in 0..STILL * 3 {
            connections.look(false);
        }
        assert!(waiting.as_mut().now_or_never().is_none(), "nobody waits");
        busy.moved().add(1);
        connections.look(true);
        assert_eq!(waiting.await, None);
        let goes_on = busy.unless_told(std::future::pending::<()>());
        assert!(goes_on.now_or_never().is_none());
        for _ in 0..STILL {
            connections.look(true);
        }
        assert_eq!(busy.unless_told(std::future::pending::<()>()).await, None);
        assert_eq!(
            busy.unless_told(async { 7 }).await,
            Some(7),
            "what is ready is taken"
        );
    }

    #[test]
    fn of_a_crowd_an_eighth_makes_room_at_a_time() {
        let connections = Connections::default();
        let all: Vec<_> = (0..80).map(|_| connections.open()).collect();
        let told = || all.iter().filter(|open| open.made_room()).count();
        for _ in 1..STILL {
            connections.look(true);
        }
        assert_eq!(told(), 0);
        for expected in [10, 20, 30] {
            connections.look(true);
            assert_eq!(told(), expected);
        }
        connections.look(false);
        assert_eq!(told(), 30);
        let few = Connections::default();
        let both = [few.open(), few.open()];
        for _ in 0..STILL {
            few.look(true);
        }
        assert!(both.iter().all(Open::made_room));
    }

    #[tokio::test(flavor = "local")]
    async fn draining_wakes_those_that_wait_and_the_last_end_is_noticed() {
        let connections = Connections::default();
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let open = connections.open();
                tokio::task::spawn_local(async move { open.unless_told(std::future::pending::<()>()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        connections.drain();
        connections.all_closed().await;
        for task in tasks {
            assert_eq!(task.await.expect("no panic"), None);
        }
    }

    #[tokio::test(flavor = "local")]
    async fn what_is_ready_is_taken_and_what_comes_late_is_not() {
        let connections = Connections::default();
        let open = connections.open();
        assert_eq!(open.unless_told(async { 7 }).await, Some(7));
        connections.drain();
        assert_eq!(open.unless_told(async { 7 }).await, Some(7));
        assert_eq!(open.unless_told(std::future::pending::<()>()).await, None);
        assert_eq!(
            connections.open().unless_told(std::future::pending::<()>()).await,
            None
        );
    }

    #[tokio::test(flavor = "local")]
    async fn places_are_used_again() {
        let connections = Connections::default();
        for _ in 0..100 {
            let waits_once = tokio::task::yield_now();
            assert_eq!(connections.open().unless_told(waits_once).await, Some(()));
        }
        assert_eq!(connections.0.places.borrow().len(), 1);
        connections.all_closed().await;
    }
}
