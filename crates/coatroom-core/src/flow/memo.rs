//! What one core of a proxy remembers of the anchors that it has just opened.
//!
//! A page that loads sends a dozen calls with the same cookie within a second. Opening it once, and
//! comparing it after that, is a fifth of the work. An entry counts only for exactly the bytes that
//! were opened, by the same application and keys, for a few seconds; everything that can change
//! between two calls (tombstones, clocks, the guard) is looked at each time. It remembers nothing
//! that did not open, never more than a fixed number of entries, and decides nothing. What is too
//! old is never used; it leaves memory when its place is looked at or taken, or with the memo.

use crate::config::{Application, Route};
use crate::cookie::{Candidate, Kind, WriteHeader};
use crate::flow::known::{KnownSession, Lookup};
use crate::secret::wipe;
use crate::session::{ApiAnchor, ApiCookie, SessionId};
use crate::time::UnixTime;

/// Anchors of one application under one ring of keys that were opened a moment ago. A shell has one
/// for each core, and a new one whenever keys or applications change.
#[derive(Default)]
pub struct AnchorMemo {
    anchors: Slots<ApiAnchor>,
    /// The same of cookies with tokens of APIs.
    apis: Slots<ApiCookie>,
    /// What a store said of sessions.
    known: Vec<Option<KnownSession>>,
    /// How often a session had ended when the oldest of those was learned.
    generation: u64,
}

struct Slots<T>(Vec<Option<Entry<T>>>);

struct Entry<T> {
    /// Under which name it was opened: a value is good under no other.
    kind: Kind,
    /// The cookie's value, as it came: all parts, one after the other.
    value: Vec<u8>,
    /// What stood in front of its chunks.
    header: Option<WriteHeader>,
    opened_at: UnixTime,
    opened: T,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Slots<T> {
    fn recall(&mut self, kind: Kind, candidate: &Candidate<'_>, now: UnixTime) -> Option<T> {
        let place = self.0.get_mut(slot(candidate)?)?;
        let entry = place.as_ref()?;
        if now.0.checked_sub(entry.opened_at.0).is_none_or(|age| age >= LIFE) {
            *place = None;
            return None;
        }
        let same =
            entry.kind == kind && candidate.header() == entry.header && is_same(candidate, &entry.value);
        same.then(|| entry.opened.clone())
    }

    fn remember(&mut self, kind: Kind, candidate: &Candidate<'_>, opened: &T, now: UnixTime) {
        let Some(slot) = slot(candidate) else { return };
        if self.0.is_empty() {
            self.0.resize_with(SLOTS, || None);
        }
        if let Some(entry) = self.0.get_mut(slot) {
            *entry = Some(Entry {
                kind,
                value: candidate.parts().concat(),
                header: candidate.header(),
                opened_at: now,
                opened: opened.clone(),
            });
        }
    }
}

impl AnchorMemo {
    /// The anchor of a value that was opened lately.
    pub(crate) fn recall(&mut self, candidate: &Candidate<'_>, now: UnixTime) -> Option<ApiAnchor> {
        self.anchors.recall(Kind::Access, candidate, now)
    }

    /// Remembers what a value opened to.
    pub(crate) fn remember(&mut self, candidate: &Candidate<'_>, anchor: &ApiAnchor, now: UnixTime) {
        self.anchors.remember(Kind::Access, candidate, anchor, now);
    }

    /// The same of a cookie with an API's token.
    pub(crate) fn recall_api(
        &mut self,
        kind: Kind,
        candidate: &Candidate<'_>,
        now: UnixTime,
    ) -> Option<ApiCookie> {
        self.apis.recall(kind, candidate, now)
    }

    pub(crate) fn remember_api(
        &mut self,
        kind: Kind,
        candidate: &Candidate<'_>,
        cookie: &ApiCookie,
        now: UnixTime,
    ) {
        self.apis.remember(kind, candidate, cookie, now);
    }
}

impl AnchorMemo {
    /// Forgets what a store said if a session has ended in this process since: `generation` counts
    /// those ends.
    pub fn at_generation(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.known.clear();
        }
    }

    /// Keeps what a store said, if it was asked at the present generation.
    pub fn learn_at(&mut self, known: &KnownSession, generation: u64) {
        if self.generation == generation {
            self.learn(known.clone());
        }
    }

    pub(crate) fn learn(&mut self, known: KnownSession) {
        if self.known.is_empty() {
            self.known.resize_with(KNOWN, || None);
        }
        if let Some(place) = self.known.get_mut(place(known.id)) {
            *place = Some(known);
        }
    }

    /// What to look up of a session again, although something is known of it: that is forgotten. For a
    /// call whose token turned out to be over before its time, since a refresh may have come meanwhile.
    pub fn look_again(&mut self, id: SessionId, application: &Application, route: &Route) -> Option<Lookup> {
        let place = self.known.get_mut(place(id))?;
        let known = place.take_if(|known| known.id == id && known.handle.is_some())?;
        let lookup = Lookup::record_of(id, known.handle.as_ref()?, application, false);
        Some(lookup.for_route(route))
    }

    /// What a store said of a session a moment ago.
    pub(crate) fn known(&mut self, id: SessionId, now: UnixTime) -> Option<&KnownSession> {
        self.known_mut(id, now).map(|known| &*known)
    }

    pub(crate) fn known_mut(&mut self, id: SessionId, now: UnixTime) -> Option<&mut KnownSession> {
        let place = self.known.get_mut(place(id))?;
        let age = place.as_ref().map(|known| now.0.checked_sub(known.read_at.0));
        if age?.is_none_or(|age| age >= STALE) {
            *place = None;
        }
        place.as_mut().filter(|known| known.id == id)
    }
}

/// The place of a session: ids are random.
fn place(id: SessionId) -> usize {
    let [a, b, ..] = id.0;
    usize::from(u16::from_be_bytes([a, b])) % KNOWN
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        wipe(&mut self.value);
    }
}

/// The place of a value: by characters of its nonce, which are random.
fn slot(candidate: &Candidate<'_>) -> Option<usize> {
    let first = candidate.parts().first()?;
    let nonce: &[u8; 8] = first.get(8..16)?.try_into().ok()?;
    let mixed = u64::from_le_bytes(*nonce).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 57).ok()
}

/// Whether the parts make up the value: all of it is looked at, whatever differs, so that the time
/// tells nothing about a cookie that somebody guesses at.
fn is_same(candidate: &Candidate<'_>, value: &[u8]) -> bool {
    let length: usize = candidate.parts().iter().map(|part| part.len()).sum();
    if length != value.len() {
        return false;
    }
    let mut rest = value;
    let mut difference = 0;
    for part in candidate.parts() {
        let Some((known, after)) = rest.split_at_checked(part.len()) else {
            return false;
        };
        difference |= part
            .iter()
            .zip(known)
            .fold(0, |difference, (a, b)| difference | (a ^ b));
        rest = after;
    }
    difference == 0
}

/// Seven bits of the mixed nonce choose among them.
const SLOTS: usize = 128;

/// Of how many sessions a core remembers what the store said.
const KNOWN: usize = 1024;

/// For how many seconds it does: the bound on how late a core may learn what another replica did.
const STALE: u64 = 2;

/// For how many seconds an anchor is remembered.
const LIFE: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiId;
    use crate::cookie::Jar;
    use crate::cookie::testing::{Browser, keys, plaintext, shop};
    use crate::flow::known::Known;
    use crate::headers::Authorization;
    use crate::seal::Handle;
    use crate::secret::Secret;
    use crate::session::{ApiCredential, Holds};

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn anchor(number: u8) -> ApiAnchor {
        ApiAnchor {
            assurance: None,
            id: SessionId([number; 16]),
            ends_at: UnixTime(u64::MAX),
            honoured_until: UnixTime(u64::MAX),
            holds: Holds::Token(Authorization::bearer(&Secret::new("t0ken"))),
            facts: None,
            is_last: false,
        }
    }

    /// The `Cookie` header of a browser with a sealed anchor, whole or in chunks.
    fn cookie(length: usize, write: u64) -> String {
        let mut browser = Browser::default();
        browser.seal(&shop(), Kind::Access, &plaintext(length), &keys("a"), write);
        browser.header()
    }

    fn with<T>(cookie: &str, look: impl FnOnce(&Candidate<'_>) -> T) -> T {
        let table = shop();
        let jar = Jar::new([cookie.as_bytes()]);
        let candidate = table.candidates(Kind::Access, &jar).next().expect("a candidate");
        look(&candidate)
    }

    fn recalled(memo: &mut AnchorMemo, cookie: &str, now: UnixTime) -> Option<SessionId> {
        with(cookie, |candidate| {
            memo.recall(candidate, now).map(|anchor| anchor.id)
        })
    }

    /// Whoever can seal anchors may name anybody's session in one, with a handle of their own.
    #[test]
    fn what_is_known_of_a_session_is_for_its_handle_alone() {
        let (handle, other) = (Handle::from_bytes([1; 32]), Handle::from_bytes([2; 32]));
        let mut memo = AnchorMemo::default();
        memo.learn(KnownSession {
            id: SessionId([7; 16]),
            handle: Some(handle.clone()),
            read_at: NOW,
            state: Known::Ended("signed out"),
        });
        let known = memo.known(SessionId([7; 16]), NOW).expect("known");
        assert!(known.is_of(&handle) && !known.is_of(&other));
        assert!(memo.known(SessionId([8; 16]), NOW).is_none());
        assert!(memo.known(SessionId([7; 16]), UnixTime(NOW.0 + STALE)).is_none());
    }

    #[test]
    fn a_session_that_ended_here_empties_what_is_known() {
        let known = KnownSession {
            id: SessionId([7; 16]),
            handle: None,
            read_at: NOW,
            state: Known::Clear,
        };
        let mut memo = AnchorMemo::default();
        memo.at_generation(1);
        memo.learn_at(&known, 1);
        assert!(memo.known(known.id, NOW).is_some());
        memo.at_generation(2);
        assert!(memo.known(known.id, NOW).is_none());
        // asked for before it ended, answered after
        memo.learn_at(&known, 1);
        assert!(memo.known(known.id, NOW).is_none());
    }

    #[test]
    fn each_value_recalls_its_own_anchor_and_no_other() {
        let mut memo = AnchorMemo::default();
        for length in [100, 9000] {
            let cookies: Vec<String> = (0..200).map(|write| cookie(length, write)).collect();
            for (number, cookie) in (0..).zip(&cookies) {
                with(cookie, |candidate| memo.remember(candidate, &anchor(number), NOW));
                assert_eq!(recalled(&mut memo, cookie, NOW), Some(SessionId([number; 16])));
            }
            // some places were taken by others since: then nothing is recalled, never another's
            let mut left = 0;
            for (number, cookie) in (0..).zip(&cookies) {
                let found = recalled(&mut memo, cookie, NOW);
                assert!(found.is_none_or(|id| id == SessionId([number; 16])), "{number}");
                left += usize::from(found.is_some());
            }
            assert!((SLOTS / 4..=SLOTS).contains(&left), "{left}");
        }
    }

    #[test]
    fn a_value_that_differs_anywhere_is_not_recalled() {
        for length in [100, 9000] {
            let known = cookie(length, 1);
            let mut memo = AnchorMemo::default();
            with(&known, |candidate| memo.remember(candidate, &anchor(1), NOW));
            for (position, letter) in known.char_indices().filter(|(_, c)| c.is_ascii_lowercase()) {
                let mut other = known.clone();
                other.replace_range(position..=position, &letter.to_ascii_uppercase().to_string());
                let jar = Jar::new([other.as_bytes()]);
                for candidate in shop().candidates(Kind::Access, &jar) {
                    assert!(memo.recall(&candidate, NOW).is_none(), "{position}");
                }
            }
        }
    }

    #[test]
    fn a_value_is_recalled_under_the_name_that_it_was_opened_under_and_no_other() {
        let known = cookie(100, 1);
        let token = ApiCookie {
            session: SessionId([1; 16]),
            credential: ApiCredential {
                api: ApiId([1; 8]),
                honoured_until: UnixTime(u64::MAX),
                authorization: Ok(Authorization::bearer(&Secret::new("t0ken"))),
            },
        };
        let mut memo = AnchorMemo::default();
        with(&known, |candidate| {
            memo.remember_api(Kind::Api(0), candidate, &token, NOW);
            assert!(memo.recall_api(Kind::Api(0), candidate, NOW).is_some());
            assert!(memo.recall_api(Kind::Api(1), candidate, NOW).is_none());
            assert!(memo.recall(candidate, NOW).is_none());
        });
    }

    #[test]
    fn an_anchor_is_remembered_for_seconds_and_not_in_the_past() {
        let cookie = cookie(100, 1);
        let mut memo = AnchorMemo::default();
        with(&cookie, |candidate| memo.remember(candidate, &anchor(1), NOW));
        for (now, known) in [
            (NOW.0, true),
            (NOW.0 + LIFE - 1, true),
            (NOW.0 + LIFE, false),
            (NOW.0 - 1, false),
        ] {
            with(&cookie, |candidate| memo.remember(candidate, &anchor(1), NOW));
            assert_eq!(
                recalled(&mut memo, &cookie, UnixTime(now)).is_some(),
                known,
                "{now}"
            );
        }
    }
}
