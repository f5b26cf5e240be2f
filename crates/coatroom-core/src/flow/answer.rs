//! What an agent endpoint answers, as data, and what has to happen beside the answer.
//!
//! Never holds a token in clear text but the [`Revocation`]s, which go to the provider only.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde_json::Value;

use crate::config::ProviderName;
use crate::error::Error;
use crate::flow::{Lookup, StoredSession};
use crate::oauth::revocation::TokenTypeHint;
use crate::secret::Secret;
use crate::session::{ApiState, Session, SessionId, Tokens};
use crate::store::{Mark, MarkKey, NewRecord, RecordKey};
use crate::time::UnixTime;

/// The answer of an agent endpoint.
#[must_use]
pub struct AgentResponse {
    /// 200, or 303 for navigations.
    pub status: StatusCode,
    /// Where a 303 leads.
    pub location: Option<HeaderValue>,
    /// `Set-Cookie` lines.
    pub set_cookies: Vec<HeaderValue>,
    /// The JSON body, none for a redirect.
    pub json: Option<Value>,
    /// An empty HTML page in place of the JSON: its Content-Security-Policy.
    pub empty_page: Option<HeaderValue>,
    /// What has to happen beside the answer.
    pub effects: Effects,
    /// A session whose clocks moved: its sockets and streams may go on for as long.
    pub extended: Option<Extended>,
    /// What went wrong where the answer is a redirect all the same: to be logged and counted.
    pub failure: Option<Error>,
}

/// What has to happen beside an answer: before it is sent, except for the provider's part, which
/// never delays it.
#[derive(Default)]
pub struct Effects {
    /// Sessions that ended here: sockets and streams of theirs are closed.
    pub ended: Vec<SessionId>,
    /// Tokens to be revoked at the provider, in the background.
    pub revoke: Vec<Revocation>,
    /// What the store has to take before the answer is sent.
    pub store: Vec<StoreWrite>,
}

/// Something for the session store.
pub enum StoreWrite {
    /// A new session. Where one of the marks says that what began then has ended, it must not stay.
    Insert {
        /// Its record's name.
        key: RecordKey,
        /// Its record.
        record: NewRecord,
        /// Its id.
        session: SessionId,
        /// When it began.
        created_at: UnixTime,
        /// Its user's name, and its own at the provider.
        marks: Vec<MarkKey>,
    },
    /// A user did something.
    Touch {
        /// The record's name.
        key: RecordKey,
        /// When.
        last_active: UnixTime,
        /// How long the record lives from now.
        life: Duration,
    },
    /// Sessions in cookies have ended.
    Mark {
        /// What says so.
        marks: Vec<Mark>,
        /// Their ids: other replicas are told.
        sessions: Vec<SessionId>,
    },
    /// A session has ended.
    Delete {
        /// Its record's name.
        key: RecordKey,
        /// Its id, if that is proved: other replicas are told.
        session: Option<SessionId>,
        /// As it was when its tokens were taken for revocation: a refresh that was saved since has
        /// others.
        stored: Option<Box<StoredSession>>,
        /// How to find out whose it is, where that could not be told.
        lookup: Option<Lookup>,
    },
}

/// The clocks of a session after a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Which session.
    pub session: SessionId,
    /// When it ends whatever the user does.
    pub ends_at: UnixTime,
    /// When it ends if the user does nothing more.
    pub idle_ends_at: UnixTime,
}

/// A token to be revoked (RFC 7009).
#[derive(Clone)]
pub struct Revocation {
    pub(crate) token: Secret,
    pub(crate) hint: TokenTypeHint,
    pub(crate) issued_by: Option<ProviderName>,
}

impl Revocation {
    /// Whether it is a refresh token: then its newest successor has to go as well.
    pub fn is_refresh_token(&self) -> bool {
        self.hint == TokenTypeHint::RefreshToken
    }

    /// Which of several providers it is for: the one that issued the token.
    pub fn issued_by(&self) -> Option<&ProviderName> {
        self.issued_by.as_ref()
    }
}

impl Session {
    /// Everything of it that the provider should forget.
    pub(crate) fn revocations(&self) -> Vec<Revocation> {
        self.tokens.revocations()
    }
}

impl Tokens {
    /// The refresh token first: where the provider honours RFC 7009 §2.1 the rest goes with it.
    pub(crate) fn revocations(&self) -> Vec<Revocation> {
        let revocation = |token: &Secret, hint| Revocation {
            token: token.clone(),
            hint,
            issued_by: self.issued_by.clone(),
        };
        let refresh = self.refresh_token.iter();
        let refresh = refresh.map(|token| revocation(token, TokenTypeHint::RefreshToken));
        let access = revocation(&self.access_token, TokenTypeHint::AccessToken);
        let apis = self.apis.iter().filter_map(|token| match &token.state {
            ApiState::Token(token) => Some(revocation(token, TokenTypeHint::AccessToken)),
            ApiState::InBrowser | ApiState::Missing(_) => None,
        });
        refresh.chain([access]).chain(apis).collect()
    }
}

/// A refused agent request: the error, and cookies that go with it all the same.
pub struct Refusal {
    /// What was wrong.
    pub error: Error,
    /// `Set-Cookie` lines that go with the error.
    pub set_cookies: Vec<HeaderValue>,
    /// What has to happen beside the answer.
    pub effects: Effects,
}

impl AgentResponse {
    /// A 200 with JSON.
    pub(crate) fn json(json: Value, set_cookies: Vec<HeaderValue>) -> Self {
        Self {
            status: StatusCode::OK,
            location: None,
            set_cookies,
            json: Some(json),
            empty_page: None,
            effects: Effects::default(),
            extended: None,
            failure: None,
        }
    }

    /// A 303 (RFC 9700 §4.12: never a 307).
    pub(crate) fn see_other(location: &str, set_cookies: Vec<HeaderValue>) -> Result<Self, Error> {
        let location = HeaderValue::from_str(location)
            .map_err(|_| Error::Bug("a URL does not fit into a Location header"))?;
        Ok(Self {
            status: StatusCode::SEE_OTHER,
            location: Some(location),
            set_cookies,
            json: None,
            empty_page: None,
            effects: Effects::default(),
            extended: None,
            failure: None,
        })
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            error,
            set_cookies: Vec::new(),
            effects: Effects::default(),
        }
    }
}

impl Refusal {
    pub(crate) fn with_cookies(error: Error, set_cookies: Vec<HeaderValue>) -> Self {
        Self {
            error,
            set_cookies,
            effects: Effects::default(),
        }
    }
}
