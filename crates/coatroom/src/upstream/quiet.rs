//! A waker that keeps quiet while its task is looking anyway.
//!
//! An upstream's connection is polled by the call that uses it. When it hands over what it read, it
//! wakes the receiver, which is the very task that is polling it: the runtime would then run that
//! task once more, through the client's connection and all, to find nothing. This waker notes such
//! a wake-up instead and the poll is repeated in place; every other one goes to the task. It never
//! loses a wake-up, from whichever thread it comes.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The waker of one upstream connection.
pub(super) struct Quiet {
    shared: Arc<Shared>,
    waker: Waker,
}

#[derive(Default)]
struct Shared {
    task: AtomicWaker,
    polling: AtomicBool,
    woken: AtomicBool,
}

impl Quiet {
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let waker = Waker::from(Arc::clone(&shared));
        Self { shared, waker }
    }

    /// Polls until nothing wakes the poll itself any more; other wake-ups go to the task of `cx`.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let shared = &*self.shared;
        shared.task.register(cx.waker());
        for _ in 0..MOST_ROUNDS {
            shared.polling.store(true, Ordering::SeqCst);
            // Read, not overwritten: what another thread did before it woke us is seen by this poll.
            shared.woken.swap(false, Ordering::SeqCst);
            let polled = poll(&mut Context::from_waker(&self.waker));
            shared.polling.store(false, Ordering::SeqCst);
            // Whoever is ready is polled again before anything is waited for.
            if polled.is_ready() || !shared.woken.load(Ordering::SeqCst) {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Runs what wakes the connection's own task, which is about to poll it.
    pub(super) fn before_poll<T>(&self, run: impl FnOnce() -> T) -> T {
        self.shared.polling.store(true, Ordering::SeqCst);
        let done = run();
        self.shared.polling.store(false, Ordering::SeqCst);
        done
    }
}

/// Polls with that waker, where there is one.
pub(super) fn quietly<T>(
    quiet: Option<Rc<Quiet>>,
    cx: &mut Context<'_>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    match quiet {
        Some(quiet) => quiet.poll(cx, poll),
        None => poll(cx),
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // First the note, then the look: either the poll sees the note, or this sees that it is over.
        self.woken.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

/// After so many rounds others get their turn.
const MOST_ROUNDS: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn a_poll_that_wakes_itself_is_repeated_and_the_task_is_not_woken() {
        let (count, waker) = counted();
        let quiet = Quiet::new();
        let mut rounds = 0;
        let polled = quiet.poll(&mut Context::from_waker(&waker), |cx| {
            rounds += 1;
            if rounds < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, count.0.load(Ordering::SeqCst)), (3, 0));
    }

    #[test]
    fn a_wake_up_from_outside_reaches_the_task() {
        let (count, waker) = counted();
        let quiet = Quiet::new();
        let mut kept = None;
        let polled = quiet.poll(&mut Context::from_waker(&waker), |cx| {
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        kept.expect("kept").wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_poll_that_never_rests_gives_way_and_is_woken_again() {
        let (count, waker) = counted();
        let quiet = Quiet::new();
        let mut rounds = 0;
        let polled = quiet.poll(&mut Context::from_waker(&waker), |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, count.0.load(Ordering::SeqCst)), (MOST_ROUNDS, 1));
    }

    #[test]
    fn no_wake_up_of_another_thread_is_lost() {
        for _ in 0..200 {
            let (count, waker) = counted();
            let quiet = Quiet::new();
            let set = Arc::new(AtomicBool::new(false));
            let mut thread = None;
            let polled = quiet.poll(&mut Context::from_waker(&waker), |cx| {
                if set.load(Ordering::SeqCst) {
                    return Poll::Ready(());
                }
                if thread.is_none() {
                    let (set, waker) = (Arc::clone(&set), cx.waker().clone());
                    thread = Some(std::thread::spawn(move || {
                        set.store(true, Ordering::SeqCst);
                        waker.wake();
                    }));
                }
                Poll::Pending
            });
            thread.expect("started").join().expect("ended");
            assert!(polled.is_ready() || count.0.load(Ordering::SeqCst) > 0);
        }
    }
}
