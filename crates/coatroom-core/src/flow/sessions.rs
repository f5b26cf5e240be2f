//! A user's sessions: listed, ended one by one, or all at once with a sign-out.
//!
//! Whoever asks shows a session of their own, and sees and ends those of the same user at the same
//! issuer alone. What a store has of them is found by keyed hashes; nothing here reads one.

use super::provider_logout::ProviderLogout;
use super::{AgentResponse, Input, Refusal, Seen, StoreView};
use crate::error::Error;
use crate::flow::status::{issuer_of, owner_of};
use crate::flow::visible::State;
use crate::handler::Handler;
use crate::session::SessionId;
use crate::session::metadata::{SessionMetadata, sessions_json};
use crate::store::IndexKey;
use crate::time::UnixTime;

/// A user whose session was shown.
pub struct SessionsOf {
    current: SessionId,
    all: ProviderLogout,
}

impl SessionsOf {
    /// The session that was shown.
    pub fn current(&self) -> SessionId {
        self.current
    }

    /// The indexes that lead to the user's records.
    pub fn indexes(&self) -> Vec<IndexKey> {
        self.all.indexes()
    }
}

impl Handler {
    /// `GET sessions`, `DELETE sessions/{id}`: whose they are.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] without a session, [`Error::SessionExpired`] for one that ended.
    pub fn sessions_of<'a>(&self, seen: impl Into<Seen<'a>>, now: UnixTime) -> Result<SessionsOf, Refusal> {
        let jar = self.jar(seen);
        match self.visible(&jar, now).state {
            State::Live(session) => {
                let sub = owner_of(&session.tokens.id_token);
                let sub = sub.ok_or(Error::Bug("a verified ID token without a `sub`"))?;
                Ok(SessionsOf {
                    current: session.id,
                    all: self.user_logout_at(
                        &issuer_of(&session.tokens.id_token).unwrap_or_default(),
                        &sub,
                        now,
                    ),
                })
            }
            State::Absent | State::Elsewhere(_) => {
                Err(Error::Unauthorized("no session cookies that open").into())
            }
            State::Conflict => Err(Error::Unauthorized("the cookies show several sessions").into()),
            State::Ended { why, .. } => Err(Error::from(why).into()),
        }
    }

    /// The answer to `GET sessions`.
    pub fn sessions_listed(&self, of: &SessionsOf, found: &[SessionMetadata]) -> AgentResponse {
        AgentResponse::json(sessions_json(found, of.current), Vec::new())
    }

    /// The answer to `DELETE sessions/{id}`: JSON, as everywhere.
    pub fn session_ended(&self) -> AgentResponse {
        AgentResponse::json(serde_json::json!({}), Vec::new())
    }

    /// With a sign-out: every session of the user, if `everywhere=true` asks for that. None where
    /// nobody is signed in: then there is nobody whose sessions could be meant.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for another value, or without a store; [`Error::StoreUnavailable`] where
    /// it could not be asked.
    pub fn everywhere<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        input: &Input,
        now: UnixTime,
    ) -> Result<Option<ProviderLogout>, Error> {
        match input.single("everywhere")? {
            None | Some("false") => return Ok(None),
            Some("true") => {}
            Some(_) => return Err(Error::InvalidRequest("`everywhere` is neither true nor false")),
        }
        if self.app.session.storage.settings().is_none() {
            return Err(Error::InvalidRequest(
                "`everywhere` needs a session store or a revocation store",
            ));
        }
        let jar = self.jar(seen);
        // whose sessions are meant is in the record: a sign-out of this one alone would be another answer
        if jar.view().is_some_and(StoreView::is_unavailable) {
            return Err(Error::StoreUnavailable {
                reason: "sessions are to be ended everywhere, and it cannot be asked whose".to_owned(),
                retry_after: RETRY_AFTER,
            });
        }
        Ok(match self.visible(&jar, now).state {
            State::Live(session) => {
                let id_token = &session.tokens.id_token;
                let user = issuer_of(id_token).zip(owner_of(id_token));
                user.map(|(issuer, sub)| self.user_logout_at(&issuer, &sub, now))
            }
            State::Absent | State::Conflict | State::Ended { .. } | State::Elsewhere(_) => None,
        })
    }
}

/// After how many seconds an outage is worth another try.
const RETRY_AFTER: u32 = 2;
