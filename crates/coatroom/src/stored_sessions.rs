//! Sessions in a store, for whoever operates it: listed and ended without a cookie, whether or not
//! anything serves them.
//!
//! Whoever holds the keys and reaches the store may do this; nobody is asked who they are. Nothing here
//! reads or revokes a token: what ends here may live on at the provider.

use std::sync::Arc;

use coatroom_core::config::{Application, ProviderName, SessionStorage};
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
    /// One for each provider.
    handlers: Vec<Handler>,
    store: Arc<dyn SessionStore>,
}

/// Which of them. Personal data: no `Debug`.
#[derive(Clone, Copy)]
pub enum Whose<'a> {
    /// Those of a user of the application's provider: `sub` of the ID token. Where it has several, the name
    /// of one may stand in front, as in `corp/alice`, and else those of each are meant.
    User(&'a str),
    /// Those that belong to a session at the provider: `sid` of the ID token, with a name in front as
    /// above.
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
        let names: Vec<_> = application
            .providers
            .iter()
            .filter_map(|known| known.name.clone())
            .collect();
        let handlers = match names.is_empty() {
            true => vec![Handler::new(application, keys).map_err(StoredSessionsError::Application)?],
            false => names
                .iter()
                .map(|name| Handler::for_provider(Arc::clone(&application), name, Arc::clone(&keys)))
                .collect::<Result<_, _>>()
                .map_err(StoredSessionsError::Application)?,
        };
        Ok(Self { handlers, store })
    }

    /// The living sessions; one that these keys do not open is not among them.
    ///
    /// # Errors
    /// [`StoredSessionsError::InCookies`], [`StoredSessionsError::Store`].
    pub async fn list(&self, whose: Whose<'_>) -> Result<Vec<SessionMetadata>, StoredSessionsError> {
        self.in_records()?;
        let indexes = match whose {
            Whose::Session(id) => vec![self.any().public_id_index(id)],
            whose => {
                let named = self.named(whose, NEVER);
                named.iter().flat_map(ProviderLogout::indexes).collect()
            }
        };
        let found = find(self.any(), &*self.store, &indexes).await?;
        Ok(found.into_iter().map(|(_, metadata)| metadata).collect())
    }

    /// What opens an application's records is the same for all its providers.
    fn any(&self) -> &Handler {
        self.handlers.first().expect("an agent has a provider")
    }

    /// What ends the sessions that an operator names: at one provider, or at each.
    fn named(&self, whose: Whose<'_>, at: UnixTime) -> Vec<ProviderLogout> {
        let (Whose::User(name) | Whose::ProviderSession(name)) = whose else {
            return Vec::new();
        };
        let in_front = name.split_once('/').and_then(|(provider, rest)| {
            let is_it = |own: &ProviderName| own.as_str() == provider;
            let mut handlers = self.handlers.iter();
            let handler = handlers.find(|handler| handler.provider().name.as_ref().is_some_and(is_it))?;
            Some((std::slice::from_ref(handler), rest))
        });
        let (handlers, name) = in_front.unwrap_or((&self.handlers, name));
        let logouts = handlers.iter().map(|handler| match whose {
            Whose::ProviderSession(_) => handler.sid_logout(name, at),
            Whose::User(_) | Whose::Session(_) => handler.user_logout(name, at),
        });
        logouts.collect()
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
            Whose::Session(id) => self.end_one(id).await,
            whose => {
                let mut ended: Vec<SessionMetadata> = Vec::new();
                for logout in self.named(whose, now) {
                    for session in self.end_all(&logout).await? {
                        if ended.iter().all(|known| known.id != session.id) {
                            ended.push(session);
                        }
                    }
                }
                Ok(ended)
            }
        }
    }

    async fn end_all(&self, logout: &ProviderLogout) -> Result<Vec<SessionMetadata>, StoredSessionsError> {
        let metadata = |key: &_, record: &_| self.any().metadata(key, record);
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
        let indexes = [self.any().public_id_index(id)];
        let found = find(self.any(), &*self.store, &indexes).await?;
        // nothing lives on them in this process; those that serve hear of it
        let ends = SessionEnds::new();
        for (key, metadata) in &found {
            end_record(&ends, &*self.store, key, metadata.id).await?;
        }
        Ok(found.into_iter().map(|(_, metadata)| metadata).collect())
    }

    fn in_records(&self) -> Result<(), StoredSessionsError> {
        match &self.any().application().session.storage {
            SessionStorage::Store(_) => Ok(()),
            SessionStorage::Cookie | SessionStorage::CookieWithRevocations(_) => {
                Err(StoredSessionsError::InCookies)
            }
        }
    }
}

/// For who only wants to know where to look: nothing is ended.
const NEVER: UnixTime = UnixTime(0);
