//! What an agent endpoint can see of sessions in a request's cookies.
//!
//! The anchor says which session; the narrow session cookie counts only when the id inside its
//! seal equals the anchor's. Several anchors with different ids open nothing. Never decides
//! whether a request is trusted (`guard`), never writes.

use crate::cookie::{Jar, Kind};
use crate::error::Error;
use crate::flow::known::GONE;
use crate::flow::{Lookup, StoreView, StoreWrite};
use crate::handler::Handler;
use crate::seal::Handle;
use crate::session::{Anchor, Holds, Session, SessionId};
use crate::time::UnixTime;
use crate::tombstones::Tombstones;

pub(crate) struct Visible {
    pub(crate) tombstones: Tombstones,
    pub(crate) state: State,
    /// Every session whose anchor opens, whatever else is wrong with it.
    pub(crate) anchors: Vec<Anchor>,
}

pub(crate) enum State {
    /// No anchor, or an anchor without its session cookie.
    Absent,
    /// Anchors of different sessions: nobody can say which is meant.
    Conflict,
    /// It was a session once. Where it still shows its tokens, they are here.
    Ended { why: Ended, session: Option<Session> },
    /// A session.
    Live(Session),
    /// A session of another of the application's providers: it can be ended here, and no more.
    Elsewhere(Session),
}

/// Why a session is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    SignedOut,
    Absolute,
    Idle,
    /// Its refresh token was refused.
    Refused,
    /// The store has no record of it (any more).
    Gone,
    /// The configuration here does not have its provider: not any more, or not yet. Another replica may,
    /// so whoever only asks clears nothing.
    NoProvider,
}

impl From<Ended> for Error {
    fn from(why: Ended) -> Self {
        match why {
            Ended::SignedOut => Self::SessionExpired("signed out"),
            Ended::Absolute => Self::SessionExpired("absolute limit, or no new tokens to be had"),
            Ended::Idle => Self::SessionExpired("idle limit"),
            Ended::Refused => Self::GrantEnded,
            Ended::Gone => Self::SessionExpired(GONE),
            Ended::NoProvider => Self::SessionExpired("its provider is not configured here"),
        }
    }
}

impl Handler {
    /// The session that an agent request shows first, whatever else is wrong with it: for counting,
    /// and for nothing else. Nobody but us can make one up.
    pub fn shown_session(&self, headers: &http::HeaderMap) -> Option<SessionId> {
        self.cookies
            .open(Kind::Access, &self.jar(headers), &self.keys)
            .find_map(|opened| Anchor::decode(opened.plaintext()))
            .map(|anchor| anchor.id)
    }

    /// Looks at the cookies of an agent request.
    pub(crate) fn visible(&self, jar: &Jar<'_>, now: UnixTime) -> Visible {
        let tombstones = self.tombstones(jar);
        let stateful = self.app.session.storage.is_stateful();
        let anchors: Vec<Anchor> = self
            .cookies
            .open(Kind::Access, jar, &self.keys)
            .filter_map(|opened| Anchor::decode(opened.plaintext()))
            // from before the configuration kept sessions elsewhere
            .filter(|anchor| matches!(anchor.holds, Holds::Handle(_)) == stateful)
            .collect();
        let state = self.state(jar, &tombstones, &anchors, now);
        Visible {
            tombstones,
            state,
            anchors,
        }
    }

    fn state(&self, jar: &Jar<'_>, tombstones: &Tombstones, anchors: &[Anchor], now: UnixTime) -> State {
        let is_marked = |anchor: &Anchor| jar.view().is_some_and(|view| view.has_ended(anchor));
        let signed_out = |anchor: &Anchor| tombstones.has_session(anchor.id) || is_marked(anchor);
        let usable = || {
            anchors
                .iter()
                .filter(|anchor| !signed_out(anchor) && anchor.ends_at > now)
        };
        let Some(anchor) = usable().max_by_key(|anchor| anchor.honoured_until) else {
            return match anchors.first() {
                None => State::Absent,
                Some(anchor) => State::Ended {
                    why: if signed_out(anchor) {
                        Ended::SignedOut
                    } else {
                        Ended::Absolute
                    },
                    session: self.any_session_of(anchor, jar),
                },
            };
        };
        if usable().any(|other| other.id != anchor.id) {
            return State::Conflict;
        }
        let opened = self.opened(anchor, jar);
        let is_orphaned = Self::is_orphaned(opened.as_ref());
        let Some(session) = opened.and_then(|session| self.owned(session)) else {
            return match &anchor.holds {
                _ if is_orphaned => State::Ended {
                    why: Ended::NoProvider,
                    session: None,
                },
                Holds::Token(_) | Holds::Nothing => State::Absent,
                Holds::Handle(_) => State::Ended {
                    why: Ended::Gone,
                    session: None,
                },
            };
        };
        if session
            .tokens
            .refresh_token
            .as_ref()
            .is_some_and(|token| self.refused(jar).has_refresh_token(token))
        {
            return State::Ended {
                why: Ended::Refused,
                session: Some(session),
            };
        }
        let limits = &self.app.session;
        if session.idle_ends_at(limits) <= now {
            // a stored session may be over before its anchor is
            let why = match session.ends_at(limits) <= now {
                true => Ended::Absolute,
                false => Ended::Idle,
            };
            return State::Ended {
                why,
                session: Some(session),
            };
        }
        match self.owns(&session.tokens) {
            true => State::Live(session),
            false => State::Elsewhere(session),
        }
    }

    /// The sessions that the cookies prove: an anchor with a session cookie of the same id.
    pub(crate) fn proved(&self, anchors: &[Anchor], jar: &Jar<'_>) -> Vec<SessionId> {
        let proved = anchors.iter().filter(|anchor| match &anchor.holds {
            Holds::Token(_) | Holds::Nothing => self
                .cookies
                .open(Kind::Session, jar, &self.keys)
                .any(|opened| Session::join(anchor, opened.plaintext()).is_some()),
            Holds::Handle(handle) => self.stored_session_of(anchor, handle, jar).is_some(),
        });
        proved.map(|anchor| anchor.id).collect()
    }

    /// What the store has to forget of these sessions. While it cannot be asked, nobody can say whose
    /// a record is, and a handle is proof enough to remove what it leads to.
    pub(crate) fn deletions(&self, anchors: &[Anchor], jar: &Jar<'_>) -> Vec<StoreWrite> {
        let handles = anchors.iter().filter_map(|anchor| match &anchor.holds {
            Holds::Token(_) | Holds::Nothing => None,
            Holds::Handle(handle) => Some((anchor, handle)),
        });
        let deletions = handles.filter_map(|(anchor, handle)| {
            let key = handle.record_key(&self.app.id);
            let record = jar.view().and_then(|view| view.record(key));
            let opens = record.is_some_and(|record| self.open_record(anchor.id, handle, record).is_some());
            let stored = record.and_then(|record| self.stored_session(anchor.id, handle, record));
            let unknown = jar.view().is_none_or(StoreView::is_unavailable);
            (opens || unknown).then(|| StoreWrite::Delete {
                key,
                session: opens.then_some(anchor.id),
                lookup: unknown.then(|| Lookup::record_of(anchor.id, handle, &self.app, false)),
                stored: stored.map(Box::new),
            })
        });
        deletions.collect()
    }

    fn stored_session_of(&self, anchor: &Anchor, handle: &Handle, jar: &Jar<'_>) -> Option<Session> {
        let record = jar.view()?.record(handle.record_key(&self.app.id))?;
        self.open_record(anchor.id, handle, record)
    }

    /// The newest session record that belongs to the anchor, of any of the application's providers. One
    /// that another issuer made, before the configuration named these, is none.
    pub(crate) fn any_session_of(&self, anchor: &Anchor, jar: &Jar<'_>) -> Option<Session> {
        self.owned(self.opened(anchor, jar)?)
    }

    fn opened(&self, anchor: &Anchor, jar: &Jar<'_>) -> Option<Session> {
        if let Holds::Handle(handle) = &anchor.holds {
            return self.stored_session_of(anchor, handle, jar);
        }
        self.cookies
            .open(Kind::Session, jar, &self.keys)
            .filter_map(|opened| Session::join(anchor, opened.plaintext()))
            .max_by_key(|session| session.written_at)
    }
}
