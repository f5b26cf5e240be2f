//! Rest for a token endpoint that does not answer.
//!
//! Discovery has a back-off of its own; refreshes come from every browser. After three different
//! sessions in a row got no usable answer, the provider is left alone for a second, then two, four
//! and at most five, while callers are told so at once; after each rest one caller asks, and the
//! rest is over when it gets an answer, whatever that says.
//!
//! Nobody can hold up the others. A session that failed may try again at once, after that it waits
//! a second by itself each time; it counts once however often it tries, and is the last to ask
//! after a rest, so that a provider that fails for one user only is soon asked by another. Redemptions of codes do not
//! count and are not put off, since anybody can make one fail. A single failure rests nothing, so
//! that a provider that fails now and then is not made to fail more. This file never decides what
//! an answer means, and holds nothing of a request but a keyed digest.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coatroom_core::error::Error;
use coatroom_core::handler::MemoryKey;
use coatroom_core::time::UnixTime;

/// What is known of one provider's token endpoint.
#[derive(Default)]
pub(crate) struct Outage {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whose refreshes failed since the last answer, the latest last.
    failed: VecDeque<Failed>,
    /// The rest that the endpoint has or had last.
    rest: Option<Rest>,
}

/// One session's failures.
#[derive(Clone, Copy)]
struct Failed {
    key: MemoryKey,
    last: UnixTime,
    times: u32,
}

#[derive(Clone, Copy)]
struct Rest {
    length: Duration,
    until: UnixTime,
    /// Whether somebody asked after it.
    probed: bool,
}

impl Outage {
    /// Whether the endpoint may be asked now for the refresh token with this key. The caller that
    /// may after a rest is the only one for another rest, unless it [notes](Self::note) an answer
    /// before.
    ///
    /// # Errors
    /// [`Error::ProviderUnavailable`] with the time that is left.
    pub(crate) fn may_ask(&self, key: &MemoryKey, now: UnixTime) -> Result<(), Error> {
        let mut state = self.state();
        let failed = state.failed(key);
        if let Some(failed) = failed.filter(|failed| failed.times > FREE_TRIES) {
            wait_until(failed.last.plus(OWN_PAUSE), now)?;
        }
        if let Some(rest) = state.rest {
            wait_until(rest.until, now)?;
            if failed.is_some() {
                // others first
                wait_until(rest.until.plus(LAST_TURN), now)?;
            }
            let until = now.plus(rest.length);
            state.rest = Some(Rest {
                until,
                probed: true,
                ..rest
            });
        }
        Ok(())
    }

    /// Notes how a request went.
    pub(crate) fn note<T>(&self, key: &MemoryKey, outcome: &Result<T, Error>, now: UnixTime) {
        let mut state = self.state();
        match outcome {
            Err(Error::ProviderUnavailable { .. }) => {
                let times = state.failed(key).map_or(0, |failed| failed.times);
                state.failed.retain(|failed| failed.key != *key);
                state.failed.push_back(Failed {
                    key: *key,
                    last: now,
                    times: times.saturating_add(1),
                });
                if state.failed.len() > REMEMBERED {
                    state.failed.pop_front();
                }
                if state.failed.len() >= SESSIONS {
                    let length = match state.rest {
                        None => FIRST_REST,
                        Some(rest) if rest.probed => (rest.length * 2).min(LONGEST),
                        // what was on its way when the rest began says nothing new
                        Some(rest) => rest.length,
                    };
                    let until = now.plus(length);
                    state.rest = Some(Rest {
                        length,
                        until,
                        probed: false,
                    });
                }
            }
            Ok(_) | Err(_) => *state = State::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failed(&self, key: &MemoryKey) -> Option<Failed> {
        self.failed.iter().find(|failed| failed.key == *key).copied()
    }
}

fn wait_until(until: UnixTime, now: UnixTime) -> Result<(), Error> {
    // what lies further ahead than anything here is from before a clock was set back
    if until <= now || until > now.plus(LONGEST).plus(LAST_TURN) {
        return Ok(());
    }
    Err(Error::ProviderUnavailable {
        reason: "it did not answer the last refreshes and is given a rest".to_owned(),
        retry_after: u32::try_from(until.seconds_from(now)).unwrap_or(1),
    })
}

/// How many sessions have to fail without an answer between them to begin a rest.
const SESSIONS: usize = 3;

/// How many sessions that failed are known.
const REMEMBERED: usize = 64;

/// After how many failures a session may try again at once.
const FREE_TRIES: u32 = 1;

/// How long a session that failed more often waits by itself.
const OWN_PAUSE: Duration = Duration::from_secs(1);

/// How long after a rest those wait who failed before it.
const LAST_TURN: Duration = Duration::from_secs(2);

/// The first rest.
const FIRST_REST: Duration = Duration::from_secs(1);

/// The longest rest.
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Result<(), Error> {
        Err(Error::ProviderUnavailable {
            reason: "away".to_owned(),
            retry_after: 5,
        })
    }

    fn key(number: u8) -> MemoryKey {
        MemoryKey::from_bytes([number; 32])
    }

    fn retry_after(outage: &Outage, who: u8, now: u64) -> Option<u32> {
        match outage.may_ask(&key(who), UnixTime(now)) {
            Ok(()) => None,
            Err(Error::ProviderUnavailable { retry_after, .. }) => Some(retry_after),
            Err(other) => panic!("{other}"),
        }
    }

    /// Three sessions failed at this time.
    fn resting(now: u64) -> Outage {
        let outage = Outage::default();
        for who in 1..=3 {
            assert_eq!(retry_after(&outage, who, now), None);
            outage.note(&key(who), &failed(), UnixTime(now));
        }
        outage
    }

    #[test]
    fn three_sessions_in_a_row_begin_a_rest_that_grows() {
        let mut now = 1_000;
        let outage = resting(now);
        for (rest, who) in [(1, 10), (2, 11), (4, 12), (5, 13), (5, 14)] {
            assert_eq!(retry_after(&outage, 99, now), Some(rest));
            now += u64::from(rest);
            assert_eq!(retry_after(&outage, who, now), None, "one may try");
            assert!(retry_after(&outage, 99, now).is_some(), "and one only");
            outage.note(&key(who), &failed(), UnixTime(now));
        }
    }

    #[test]
    fn one_session_waits_by_itself_and_holds_up_nobody() {
        let outage = Outage::default();
        outage.note(&key(1), &failed(), UnixTime(1_000));
        for second in 1_000..1_060 {
            assert_eq!(retry_after(&outage, 1, second), None);
            outage.note(&key(1), &failed(), UnixTime(second));
            for _ in 0..10 {
                assert_eq!(retry_after(&outage, 1, second), Some(1), "once a second");
            }
            assert_eq!(retry_after(&outage, 2, second), None, "another is free to ask");
        }
    }

    #[test]
    fn who_failed_before_a_rest_asks_last_after_it() {
        let outage = resting(1_000);
        assert_eq!(retry_after(&outage, 1, 1_001), Some(2));
        assert_eq!(retry_after(&outage, 4, 1_001), None, "one who has not failed");
        outage.note(&key(4), &Ok(()), UnixTime(1_001));
        assert_eq!(retry_after(&outage, 1, 1_001), None, "an answer frees everybody");
        // and where there is nobody else, they do ask
        let outage = resting(1_000);
        assert_eq!(retry_after(&outage, 1, 1_003), None);
    }

    #[test]
    fn failures_that_were_on_their_way_do_not_make_a_rest_longer() {
        let outage = resting(1_000);
        for who in 20..60 {
            outage.note(&key(who), &failed(), UnixTime(1_000));
        }
        assert_eq!(retry_after(&outage, 99, 1_000), Some(1));
    }

    #[test]
    fn any_answer_ends_it() {
        for answer in [
            Ok(()),
            Err(Error::GrantEnded),
            Err(Error::Provider("nonsense".to_owned())),
        ] {
            let outage = resting(1_000);
            assert!(retry_after(&outage, 99, 1_000).is_some());
            outage.note(&key(4), &answer, UnixTime(1_000));
            assert_eq!(retry_after(&outage, 99, 1_000), None);
            outage.note(&key(5), &failed(), UnixTime(1_000));
            assert_eq!(retry_after(&outage, 99, 1_000), None, "one failure is none");
        }
    }

    #[test]
    fn a_caller_that_never_comes_back_holds_nobody_for_longer_than_a_rest() {
        let outage = resting(1_000);
        assert_eq!(retry_after(&outage, 4, 1_001), None);
        assert_eq!(retry_after(&outage, 5, 1_001), Some(1));
        assert_eq!(retry_after(&outage, 5, 1_002), None);
    }

    #[test]
    fn a_clock_that_was_set_back_rests_nobody_for_hours() {
        let outage = resting(9_000);
        assert_eq!(retry_after(&outage, 99, 1_000), None);
    }
}
