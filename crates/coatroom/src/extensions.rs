//! What travels beside a request: who sent it, which route it matched, whose session it carries.
//!
//! The listener inserts [`Peer`], the Layer the rest; the inner service reads them. None of them
//! is ever taken from, or written to, a header by this file, and none of them holds a token.

use std::net::IpAddr;
use std::sync::Arc;

use coatroom_core::config::{Application, Route};
use coatroom_core::flow::SessionFacts;
use coatroom_core::store::MarkKey;
use coatroom_core::time::UnixTime;
use http::HeaderValue;

/// The other end of the connection that a request came over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address; none for a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether this process ended the TLS connection.
    pub tls: bool,
}

/// The application and route that a request matched. Only these choose an upstream.
#[derive(Clone)]
pub struct Matched {
    /// The application.
    pub application: Arc<Application>,
    /// The index of the route in [`Application::routes`].
    pub route: usize,
}

impl Matched {
    /// The route.
    ///
    /// # Panics
    /// When `route` is not an index into the application's routes: they come from one look-up.
    pub fn route(&self) -> &Route {
        self.application
            .routes
            .get(self.route)
            .expect("the index came from a look-up in these routes")
    }
}

/// The session whose access token a request carries; not there where none is attached.
///
/// It has what the cookie of an API call truthfully knows. Deliberately absent are claims, which
/// that cookie does not hold (the API reads them from the token, the SPA from `session`), and ways
/// to sign out or to ask for another token, which need cookies that this path does not get. The
/// application and the route are in [`Matched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names it.
    pub id: SessionId,
    /// When it ends at the latest, as far as its cookie knows. What lasts longer than a request
    /// should not outlive this; [`SessionEnds::subscribe_until`](crate::session_end::SessionEnds::subscribe_until)
    /// says when it does, refreshes included.
    pub ends_at: UnixTime,
    /// Until when its access token is attached; after that the SPA refreshes.
    pub honoured_until: UnixTime,
    /// When it began, as far as its cookie says.
    pub(crate) created_at: Option<UnixTime>,
    /// Under which other names it may be ended.
    pub(crate) marks: [Option<MarkKey>; 2],
}

impl Session {
    pub(crate) fn of(facts: &SessionFacts) -> Self {
        Self {
            id: SessionId(facts.id.0),
            ends_at: facts.ends_at,
            honoured_until: facts.honoured_until,
            created_at: facts.created_at,
            marks: facts.marks,
        }
    }
}

/// The id inside the session's anchor: names a session to this process, opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// The id as `session` shows it: for logs and support, says nothing about the id itself.
    pub fn public(&self) -> String {
        coatroom_core::session::SessionId(self.0).public()
    }
}

/// The id of one request, always generated here: a client's own is never accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub(crate) HeaderValue);

impl RequestId {
    /// The id as text, for the log.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header value, for `x-request-id`.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}
