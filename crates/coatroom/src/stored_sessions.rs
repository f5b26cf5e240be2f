//! Sessions in a store, for whoever operates it: listed and ended without a cookie, whether or not
//! anything serves them.
//!
//! Whoever holds the keys and reaches the store may do this; nobody is asked who they are. Nothing here
//! reads or revokes a token: what ends here may live on at the provider.

use std::sync::Arc;

use coatroom_core::config::{Application, SessionStorage};
use coatroom_core::error::Error;
use coatroom_core::flow::ProviderLogout;
use coatroom_core::handler::Handler;
use coatroom_core::seal::KeyRing;
use coatroom_core::session::metadata::{PublicSessionId, SessionMetadata};
use coatroom_core::time::UnixTime;

use crate::provider_logout::{Kept, serve};
use crate::session_end::SessionEnds;
use crate::sessions::find;
use crate::store::{SessionStore, StoreError};
use crate::stored::end_record;

/// The sessions of one application in its store.
pub struct StoredSessions {
    handler: Handler,
    store: Arc<dyn SessionStore>,
}

/// Which of them. Personal data: no `Debug`.
#[derive(Clone, Copy)]
pub enum Whose<'a> {
    /// Those of a user of the application's provider: `sub` of the ID token.
    User(&'a str),
    /// Those that belong to a session at the provider: `sid` of the ID token.
    ProviderSession(&'a str),
    /// One, by its public id.
    Session(PublicSessionId),
}

/// Why sessions were not listed or ended.
#[derive(Debug, thiserror::Error)]
pub enum StoredSessionsError {
    /// The application keeps them in cookies: who has one is not known.
    #[error("sessions are in cookies: they cannot be listed, nor one of them be found by its public id")]
    InCookies,
    /// The store cannot be had now. What was begun can be done again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The application is not one whose sessions are opened with these keys.
    #[error(transparent)]
    Application(Error),
}

impl StoredSessions {
    /// Those of a checked application, with the keys that its agent has, in the store that its settings
    /// name; [`Stores::of`](crate::store::Stores::of) opens it.
    ///
    /// # Errors
    /// [`StoredSessionsError::Application`] for one that only forwards API calls.
    pub fn new(
        application: Arc<Application>,
        keys: Arc<KeyRing>,
        store: Arc<dyn SessionStore>,
    ) -> Result<Self, StoredSessionsError> {
        let handler = Handler::new(application, keys).map_err(StoredSessionsError::Application)?;
        Ok(Self { handler, store })
    }

    /// The living sessions; one that these keys do not open is not among them.
    ///
    /// # Errors
    /// [`StoredSessionsError::InCookies`], [`StoredSessionsError::Store`].
    pub async fn list(&self, whose: Whose<'_>) -> Result<Vec<SessionMetadata>, StoredSessionsError> {
        self.in_records()?;
        let indexes = match whose {
            Whose::User(sub) => self.handler.user_logout(sub, NEVER).indexes(),
            Whose::ProviderSession(sid) => self.handler.sid_logout(sid, NEVER).indexes(),
            Whose::Session(id) => vec![self.handler.public_id_index(id)],
        };
        let found = find(&self.handler, &*self.store, &indexes).await?;
        Ok(found.into_iter().map(|(_, metadata)| metadata).collect())
    }

    /// Ends what began until `now`, and tells every replica. Answers what was in the store; of sessions
    /// in cookies nobody can tell. Doing it again does no harm.
    ///
    /// # Errors
    /// [`StoredSessionsError::InCookies`] for a public id: what marks one session in cookies as ended is
    /// its whole id. [`StoredSessionsError::Store`].
    pub async fn end(
        &self,
        whose: Whose<'_>,
        now: UnixTime,
    ) -> Result<Vec<SessionMetadata>, StoredSessionsError> {
        match whose {
            Whose::User(sub) => self.end_all(&self.handler.user_logout(sub, now)).await,
            Whose::ProviderSession(sid) => self.end_all(&self.handler.sid_logout(sid, now)).await,
            Whose::Session(id) => self.end_one(id).await,
        }
    }

    async fn end_all(&self, logout: &ProviderLogout) -> Result<Vec<SessionMetadata>, StoredSessionsError> {
        let metadata = |key: &_, record: &_| self.handler.metadata(key, record);
        let kept = Kept {
            store: &*self.store,
            metadata: &metadata,
        };
        serve(kept, logout).await.map_err(|error| match error {
            Error::StoreUnavailable { reason, .. } => StoreError::Unavailable(reason).into(),
            other => StoredSessionsError::Application(other),
        })
    }

    async fn end_one(&self, id: PublicSessionId) -> Result<Vec<SessionMetadata>, StoredSessionsError> {
        self.in_records()?;
        let indexes = [self.handler.public_id_index(id)];
        let found = find(&self.handler, &*self.store, &indexes).await?;
        // nothing lives on them in this process; those that serve hear of it
        let ends = SessionEnds::new();
        for (key, metadata) in &found {
            end_record(&ends, &*self.store, key, metadata.id).await?;
        }
        Ok(found.into_iter().map(|(_, metadata)| metadata).collect())
    }

    fn in_records(&self) -> Result<(), StoredSessionsError> {
        match &self.handler.application().session.storage {
            SessionStorage::Store(_) => Ok(()),
            SessionStorage::Cookie | SessionStorage::CookieWithRevocations(_) => {
                Err(StoredSessionsError::InCookies)
            }
        }
    }
}

/// For who only wants to know where to look: nothing is ended.
const NEVER: UnixTime = UnixTime(0);
