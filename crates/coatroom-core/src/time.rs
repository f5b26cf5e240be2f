//! Time as the core knows it: whole seconds since the Unix epoch, always an argument.
//!
//! Arithmetic saturates, it never wraps (a provider may send `exp: 1e300`). This file never reads
//! a clock.

use std::time::Duration;

/// A point in time: seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This time plus a duration (whole seconds), saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// This time minus a duration (whole seconds), saturating at the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }

    /// Seconds from `now` until this time; zero when it is past.
    pub fn seconds_from(self, now: Self) -> u64 {
        self.0.saturating_sub(now.0)
    }
}
