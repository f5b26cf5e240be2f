//! Deadlines that cost almost nothing: a list per core, looked through four times a second.
//!
//! A proxy sets a deadline for every request and nearly all of them are dropped unused, so
//! setting and dropping must be cheap and firing may be late: up to [`TICK`], never early. The
//! ticking task exists only while something waits. Nothing here measures time; do not use it
//! where a quarter of a second matters.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// Where "never" would overflow the clock.
const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// How late a deadline may fire.
pub const TICK: Duration = Duration::from_millis(250);

/// One core's deadlines. Clones share them.
#[derive(Clone, Default)]
pub struct CoarseTimer {
    shared: Arc<Mutex<Deadlines>>,
}

/// Resolves when its deadline has passed, up to [`TICK`] late.
pub struct CoarseSleep {
    shared: Arc<Mutex<Deadlines>>,
    deadline: Instant,
    /// The index in the list, once something waits.
    slot: Option<usize>,
}

#[derive(Default)]
struct Deadlines {
    slots: Vec<Slot>,
    free: Vec<usize>,
    ticking: bool,
}

enum Slot {
    Free,
    Waiting(Instant, Waker),
    Fired,
}

impl CoarseTimer {
    /// A timer with nothing to wait for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Resolves after `duration`.
    pub fn sleep(&self, duration: Duration) -> CoarseSleep {
        let now = Instant::now();
        self.sleep_until(now.checked_add(duration).unwrap_or_else(|| now + FAR))
    }

    /// Resolves at `deadline`.
    pub fn sleep_until(&self, deadline: Instant) -> CoarseSleep {
        CoarseSleep {
            shared: self.shared.clone(),
            deadline,
            slot: None,
        }
    }

    /// Runs `future`, but no longer than `duration`.
    ///
    /// # Errors
    /// [`Elapsed`] when the time is over first.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        let mut future = std::pin::pin!(future);
        let mut sleep = self.sleep(duration);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }
}

/// The time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct Elapsed;

impl CoarseSleep {
    /// Moves the deadline.
    pub fn reset(&mut self, deadline: Instant) {
        self.release();
        self.deadline = deadline;
    }

    fn release(&mut self) {
        if let Some(slot) = self.slot.take() {
            let mut deadlines = lock(&self.shared);
            // A waker's drop may run foreign code: not under the lock.
            let old = deadlines
                .slots
                .get_mut(slot)
                .map(|s| std::mem::replace(s, Slot::Free));
            deadlines.free.push(slot);
            drop(deadlines);
            drop(old);
        }
    }
}

impl Future for CoarseSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(slot) = this.slot else {
            // The clock is not asked: one that is over already fires with the next tick.
            let start = {
                let mut deadlines = lock(&this.shared);
                this.slot = Some(deadlines.insert(Slot::Waiting(this.deadline, cx.waker().clone())));
                !std::mem::replace(&mut deadlines.ticking, true)
            };
            if start {
                tokio::spawn(tick(this.shared.clone()));
            }
            return Poll::Pending;
        };
        let mut deadlines = lock(&this.shared);
        match deadlines.slots.get_mut(slot) {
            Some(Slot::Waiting(_, waker)) => {
                if !waker.will_wake(cx.waker()) {
                    let old = std::mem::replace(waker, cx.waker().clone());
                    drop(deadlines);
                    drop(old);
                }
                Poll::Pending
            }
            Some(Slot::Fired | Slot::Free) | None => Poll::Ready(()),
        }
    }
}

impl Drop for CoarseSleep {
    fn drop(&mut self) {
        self.release();
    }
}

impl Deadlines {
    fn insert(&mut self, slot: Slot) -> usize {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.slots.get_mut(index)
        {
            *place = slot;
            return index;
        }
        self.slots.push(slot);
        self.slots.len() - 1
    }

    /// Fires what is due into `due`; whether anything still waits.
    fn fire(&mut self, now: Instant, due: &mut Vec<Waker>) -> bool {
        let mut waiting = false;
        for slot in &mut self.slots {
            match slot {
                Slot::Waiting(deadline, _) if *deadline <= now => {
                    if let Slot::Waiting(_, waker) = std::mem::replace(slot, Slot::Fired) {
                        due.push(waker);
                    }
                }
                Slot::Waiting(..) => waiting = true,
                Slot::Fired | Slot::Free => {}
            }
        }
        if !waiting && self.free.len() == self.slots.len() {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        waiting
    }
}

async fn tick(shared: Arc<Mutex<Deadlines>>) {
    let mut due = Vec::new();
    loop {
        tokio::time::sleep(TICK).await;
        let waiting = {
            let mut deadlines = lock(&shared);
            let waiting = deadlines.fire(Instant::now(), &mut due);
            deadlines.ticking = waiting;
            waiting
        };
        for waker in due.drain(..) {
            waker.wake();
        }
        if !waiting {
            return;
        }
    }
}

fn lock(shared: &Mutex<Deadlines>) -> MutexGuard<'_, Deadlines> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl hyper::rt::Sleep for CoarseSleep {}

impl hyper::rt::Timer for CoarseTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Self::sleep(self, duration))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Self::sleep_until(self, deadline.into()))
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, deadline: std::time::Instant) {
        match sleep.as_mut().downcast_mut_pin::<CoarseSleep>() {
            Some(sleep) => sleep.get_mut().reset(deadline.into()),
            None => *sleep = hyper::rt::Timer::sleep_until(self, deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_deadline_fires_late_by_one_tick_at_most_and_never_early() {
        let timer = CoarseTimer::new();
        let start = Instant::now();
        timer.sleep(SECOND).await;
        let took = start.elapsed();
        assert!(took >= SECOND && took <= SECOND + TICK * 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_ends_what_takes_too_long_and_lets_the_rest_pass() {
        let timer = CoarseTimer::new();
        assert_eq!(
            timer.timeout(SECOND, std::future::pending::<()>()).await,
            Err(Elapsed)
        );
        assert_eq!(timer.timeout(SECOND, async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn many_deadlines_fire_each_at_its_own_time() {
        let timer = CoarseTimer::new();
        let start = Instant::now();
        let all = (1..=20).map(|n| {
            let timer = timer.clone();
            async move {
                timer.sleep(SECOND * n).await;
                (start.elapsed().as_millis() / 1000) as u32 == n
            }
        });
        assert!(
            futures_util::future::join_all(all)
                .await
                .into_iter()
                .all(|good| good)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_can_be_moved() {
        let timer = CoarseTimer::new();
        let start = Instant::now();
        let mut sleep = timer.sleep(SECOND);
        assert_eq!((&mut sleep).now_or_never(), None);
        sleep.reset(start + SECOND * 5);
        sleep.await;
        assert!(start.elapsed() >= SECOND * 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_ticking_stops_with_the_last_deadline_and_starts_again() {
        let timer = CoarseTimer::new();
        let mut dropped = timer.sleep(SECOND * 100);
        assert_eq!((&mut dropped).now_or_never(), None);
        assert!(lock(&timer.shared).ticking);
        drop(dropped);
        tokio::task::yield_now().await;
        tokio::time::advance(TICK * 2).await;
        tokio::task::yield_now().await;
        assert!(!lock(&timer.shared).ticking);
        assert!(lock(&timer.shared).slots.is_empty(), "nothing is kept");
        timer.sleep(SECOND).await;
    }
}
