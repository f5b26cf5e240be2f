//! The clock and the randomness that the core takes as arguments.
//!
//! The only file of this crate that reads the wall clock or the operating system's generator for the
//! core. Deadlines belong to tokio's clock; what is measured here is how often somebody asks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use coatroom_core::rng::Rng;
use coatroom_core::time::UnixTime;

/// Says what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> UnixTime;

    /// Time since some start, which nobody sets back: for rates. By default as coarse as [`now`](Self::now).
    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.now().0)
    }
}

/// The wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        // A clock before 1970 is as good as none: everything sealed then counts as not expired yet,
        // and every token of a provider as issued in the future, so nobody signs in with it.
        UnixTime(
            SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |since| since.as_secs()),
        )
    }

    fn elapsed(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: UnixTime) -> Self {
        Self(AtomicU64::new(start.0))
    }

    /// Moves it forward by whole seconds.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    /// Moves it to a point, backwards too.
    pub fn set(&self, now: UnixTime) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::SeqCst))
    }
}

/// The operating system's generator, through aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    /// # Panics
    /// When there is no randomness: nothing that would be made without it may leave the process.
    fn fill(&mut self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the operating system has randomness");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(UnixTime(100));
        assert_eq!(clock.now(), UnixTime(100));
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), UnixTime(105));
        clock.set(UnixTime(7));
        assert_eq!(clock.now(), UnixTime(7));
    }

    #[test]
    fn the_wall_clock_is_past_the_day_this_was_written() {
        assert!(SystemClock.now() > UnixTime(1_700_000_000));
    }

    #[test]
    fn two_draws_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        SystemRng.fill(&mut a);
        SystemRng.fill(&mut b);
        assert!(a != b && a != [0; 32]);
    }
}
