//! A session that is kept in a store: opened from its record, renewed, and sealed into the next one.
//!
//! The record's version is chosen by whoever writes, so that a repeated write is recognised. A
//! session keeps its handle and its id for life; only sign-in makes new ones. Reads and writes
//! nothing: a shell does, and decides nothing about it.

use std::time::Duration;

use super::known::SLACK;
use super::refresh::{Redemption, Refreshed};
use super::{AgentResponse, Lookup, Refusal, Revocation, StoreWrite};
use crate::error::Error;
use crate::flow::seen::Seen;
use crate::flow::visible::State;
use crate::flow::{Effects, Extended, Input};
use crate::handler::Handler;
use crate::rng::Rng;
use crate::seal::{Handle, Opens as _, Part};
use crate::session::{Kept, Session, SessionId, TokenPlace};
use crate::store::{NewRecord, Record, RecordKey, RecordVersion};
use crate::time::UnixTime;

/// A session as its record says it. Whoever has one may renew it.
#[derive(Clone)]
pub struct StoredSession {
    key: RecordKey,
    session: Session,
    /// As it is in the record: it does not change.
    metadata: Vec<u8>,
}

/// Who asked for a refresh, and of what.
pub struct StoredRefresh {
    stored: StoredSession,
    by_user: bool,
}

impl StoredRefresh {
    /// Whether its access token is worth renewing: not where that was just done, nor where it cannot
    /// be.
    pub fn wants_tokens(&self, now: UnixTime) -> bool {
        let session = &self.stored.session;
        let renewed_lately =
            now.seconds_from(session.written_at) < JUST_RENEWED && session.created_at != session.written_at;
        session.tokens.refresh_token.is_some() && !renewed_lately
    }

    /// The session to renew.
    pub fn stored(&self) -> &StoredSession {
        &self.stored
    }
}

impl StoredSession {
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The record's name.
    pub fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The session's id.
    pub fn session_id(&self) -> SessionId {
        self.session.id
    }

    /// Which state of the record it is.
    pub fn version(&self) -> RecordVersion {
        self.session
            .kept
            .as_ref()
            .map_or(RecordVersion(0), |kept| kept.version)
    }

    /// Whether its tokens are from a later refresh than those of `other`.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let renewals = |stored: &Self| stored.session.kept.as_ref().map(|kept| kept.renewals);
        renewals(self) > renewals(other)
    }

    /// What has to be revoked if nobody is to have these tokens.
    pub fn revocations(&self) -> Vec<Revocation> {
        self.session.revocations()
    }

    /// Until when it may be found by whoever holds its cookie.
    pub fn clocks(&self, limits: &crate::config::SessionLimits) -> Extended {
        Extended {
            session: self.session.id,
            ends_at: self.session.ends_at(limits),
            idle_ends_at: self.session.idle_ends_at(limits),
        }
    }
}

impl Handler {
    /// The session of a record that an API call looked up; none where it does not open, or is another
    /// issuer's.
    pub fn stored(&self, lookup: &Lookup, record: &Record) -> Option<StoredSession> {
        self.stored_anywhere(lookup, record)
            .filter(|stored| self.owns(&stored.session.tokens))
    }

    /// The same where it may be that of any of the application's providers: to end it.
    pub fn stored_anywhere(&self, lookup: &Lookup, record: &Record) -> Option<StoredSession> {
        self.stored_session(lookup.session(), lookup.handle()?, record)
    }

    pub(crate) fn stored_session(
        &self,
        id: SessionId,
        handle: &Handle,
        record: &Record,
    ) -> Option<StoredSession> {
        let session = self.owned(self.open_record(id, handle, record)?)?;
        Some(StoredSession {
            key: handle.record_key(&self.app.id),
            session,
            metadata: record.metadata.clone(),
        })
    }

    /// A later record of the same session.
    pub fn reopened(&self, known: &StoredSession, record: &Record) -> Option<StoredSession> {
        let kept = known.session.kept.as_ref()?;
        let session = self.owned(self.open_record(known.session.id, &kept.handle, record)?)?;
        if session.tokens.issued_by != known.session.tokens.issued_by {
            return None;
        }
        Some(StoredSession {
            key: known.key,
            session,
            metadata: record.metadata.clone(),
        })
    }

    /// How an API call's session is looked up again, after it was renewed.
    pub fn lookup_of(&self, known: &StoredSession) -> Option<Lookup> {
        let kept = known.session.kept.as_ref()?;
        Some(Lookup::record_of(
            known.session.id,
            &kept.handle,
            &self.app,
            false,
        ))
    }

    /// The session of a record, whosever it is: see [`owned`](Self::owned).
    pub(crate) fn open_record(&self, id: SessionId, handle: &Handle, record: &Record) -> Option<Session> {
        let open = |part, sealed: &[u8]| self.keys.open_part(part, handle, &self.app.id, sealed);
        let access = open(Part::Access, &record.access)?;
        let agent = open(Part::Agent, &record.agent)?;
        let kept = Some(Kept {
            handle: handle.clone(),
            version: record.version,
            renewals: 0,
        });
        let session = Session::of_parts(id, access.plaintext(), agent.plaintext(), kept)?;
        Some(Session {
            last_active: record.last_active.max(session.last_active),
            ..session
        })
    }

    /// What is redeemed for new tokens.
    ///
    /// # Errors
    /// [`Error::SessionExpired`] when the session has no refresh token, or one of its limits has
    /// passed.
    pub fn stored_redemption(&self, stored: &StoredSession, now: UnixTime) -> Result<Redemption, Error> {
        let limits = &self.app.session;
        if stored.session.created_at.plus(limits.absolute) <= now {
            return Err(Error::SessionExpired("absolute limit"));
        }
        if stored.session.last_active.plus(limits.idle) <= now {
            return Err(Error::SessionExpired("idle limit"));
        }
        self.check_own(stored.session.tokens.issued_by.as_ref())?;
        Redemption::of(&stored.session).ok_or(Error::SessionExpired("no new tokens to be had"))
    }

    /// The session with new tokens, as the record's next state says it.
    pub fn renewed(
        &self,
        stored: &StoredSession,
        refreshed: &Refreshed,
        version: RecordVersion,
        now: UnixTime,
    ) -> StoredSession {
        let kept = stored.session.kept.as_ref().map(|kept| Kept {
            handle: kept.handle.clone(),
            version,
            renewals: kept.renewals.saturating_add(1),
        });
        StoredSession {
            key: stored.key,
            metadata: stored.metadata.clone(),
            session: Session {
                written_at: now,
                kept,
                ..stored
                    .session
                    .with_tokens(refreshed.tokens().clone(), &self.provider.habits)
            },
        }
    }

    /// A session as a record on its way into the store.
    ///
    /// # Errors
    /// [`Error::Bug`] for one that is not kept in a store.
    pub fn record(
        &self,
        stored: &StoredSession,
        now: UnixTime,
        rng: &mut dyn Rng,
    ) -> Result<NewRecord, Error> {
        self.seal_record(&stored.session, stored.metadata.clone(), now, rng)
    }

    fn seal_record(
        &self,
        session: &Session,
        metadata: Vec<u8>,
        now: UnixTime,
        rng: &mut dyn Rng,
    ) -> Result<NewRecord, Error> {
        let kept = session
            .kept
            .as_ref()
            .ok_or(Error::Bug("a session without a handle has no record"))?;
        let limits = &self.app.session;
        let assurance = self.assurance_of(session);
        let mut seal = |part, plaintext: &[u8]| {
            self.keys
                .seal_part(part, &kept.handle, &self.app.id, plaintext, rng)
        };
        Ok(NewRecord {
            record: Record {
                version: kept.version,
                last_active: session.last_active,
                access: seal(
                    Part::Access,
                    &session.encode_access_part(limits, assurance.as_ref()),
                ),
                agent: seal(Part::Agent, &session.encode_session(TokenPlace::Anchor)),
                metadata,
            },
            indexes: self.indexes_of(session),
            life: self.record_life(session.idle_ends_at(limits), now),
        })
    }

    pub(crate) fn record_life(&self, until: UnixTime, now: UnixTime) -> Duration {
        Duration::from_secs(until.seconds_from(now)).saturating_add(SLACK)
    }

    /// `POST refresh` with a store: what there is to renew.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] without a session, [`Error::SessionExpired`] for one that ended.
    pub fn refresh_stored<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        input: &Input,
        now: UnixTime,
    ) -> Result<StoredRefresh, Refusal> {
        let by_user = super::refresh::is_by_user(input)?;
        let jar = self.jar(seen);
        match self.visible(&jar, now).state {
            State::Live(session) => {
                let key = self
                    .record_key(&session)
                    .ok_or(Error::Bug("a session without a handle has no record"))?;
                let record = jar.view().and_then(|view| view.record(key));
                let metadata = record.map(|record| record.metadata.clone()).unwrap_or_default();
                Ok(StoredRefresh {
                    stored: StoredSession {
                        key,
                        session,
                        metadata,
                    },
                    by_user,
                })
            }
            State::Absent | State::Elsewhere(_) => {
                Err(Error::Unauthorized("no session cookie that opens").into())
            }
            State::Conflict => Err(Refusal::with_cookies(
                Error::Unauthorized("the cookies show several sessions"),
                self.cookies.clear_everything(&jar),
            )),
            State::Ended { why, .. } => Err(Error::from(why).into()),
        }
    }

    /// The answer to a refresh: the session's clocks, and no cookie, since its handle stays.
    pub fn refreshed_stored(
        &self,
        refresh: &StoredRefresh,
        newest: StoredSession,
        now: UnixTime,
    ) -> AgentResponse {
        let mut session = newest.session;
        let mut effects = Effects::default();
        if refresh.by_user {
            session.last_active = now;
            effects.store.push(StoreWrite::Touch {
                key: newest.key,
                last_active: now,
                life: self.record_life(session.idle_ends_at(&self.app.session), now),
            });
        }
        let limits = &self.app.session;
        AgentResponse {
            effects,
            extended: Some(Extended {
                session: session.id,
                ends_at: session.ends_at(limits),
                idle_ends_at: session.idle_ends_at(limits),
            }),
            ..AgentResponse::json(self.session_json(&session, now), Vec::new())
        }
    }

    /// A new session's way into the store; none where sessions live in cookies.
    pub(crate) fn insertion(
        &self,
        session: &Session,
        user_agent: Option<String>,
        now: UnixTime,
        rng: &mut dyn Rng,
    ) -> Result<Option<StoreWrite>, Error> {
        let Some(key) = self.record_key(session) else {
            return Ok(None);
        };
        let metadata = self.seal_metadata(session, user_agent, &key, rng);
        let record = self.seal_record(session, metadata, now, rng)?;
        Ok(Some(StoreWrite::Insert {
            key,
            record,
            session: session.id,
            created_at: session.created_at,
            marks: self.marks_of_session(session),
        }))
    }

    pub(crate) fn record_key(&self, session: &Session) -> Option<RecordKey> {
        let kept = session.kept.as_ref()?;
        Some(kept.handle.record_key(&self.app.id))
    }
}

/// For how many seconds new tokens are new enough for whoever asks for new ones.
const JUST_RENEWED: u64 = 5;
