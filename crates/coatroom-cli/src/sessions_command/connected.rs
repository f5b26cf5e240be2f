//! From a loaded configuration to the sessions in its stores.
//!
//! Uses the stores as `serve` does: the same settings, keys and deadlines. Binds nothing, serves nothing,
//! asks no provider, and shows no error that holds a password.

use std::sync::Arc;

use anyhow::Context as _;
use coatroom::clock::{Clock as _, SystemClock};
use coatroom::store::Stores;
use coatroom::{Keys, StoredSessions, Whose};
use coatroom_core::config::Application;
use coatroom_core::seal::KeyRing;
use coatroom_core::session::metadata::{PublicSessionId, SessionMetadata};
use tokio::runtime::Runtime;

use super::{ListedSession, SessionAdmin, Which};
use crate::config::Loaded;

/// Reaches the stores of a configuration.
pub(super) struct Connected {
    runtime: Runtime,
    stores: Stores,
    keys: Arc<KeyRing>,
}

impl Connected {
    /// Nothing is connected to yet.
    ///
    /// # Errors
    /// With keys that only forward API calls.
    pub(super) fn new(loaded: &Loaded) -> anyhow::Result<Self> {
        let keys = match &loaded.keys {
            Keys::Agent(keys) => Arc::clone(keys),
            Keys::Proxy(_) => anyhow::bail!(
                "`keys` are for an instance that only forwards API calls, and they open no list of sessions\n\
                 hint: run it with the agent's configuration"
            ),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let stores = Stores::new(Arc::new(SystemClock));
        Ok(Self {
            runtime,
            stores,
            keys,
        })
    }

    fn sessions(&self, application: &Application) -> anyhow::Result<StoredSessions> {
        let settings = application.session.storage.settings();
        let settings = settings.context("the application names no store")?;
        let _inside = self.runtime.enter();
        let store = self.stores.of(settings)?;
        let application = Arc::new(application.clone());
        Ok(StoredSessions::new(application, Arc::clone(&self.keys), store)?)
    }
}

impl SessionAdmin for Connected {
    fn list(&self, application: &Application, which: Which<'_>) -> anyhow::Result<Vec<ListedSession>> {
        let sessions = self.sessions(application)?;
        let found = self.runtime.block_on(sessions.list(which.into()))?;
        Ok(listed(found))
    }

    fn end(&self, application: &Application, which: Which<'_>) -> anyhow::Result<Vec<ListedSession>> {
        let sessions = self.sessions(application)?;
        let ended = self
            .runtime
            .block_on(sessions.end(which.into(), SystemClock.now()))?;
        Ok(listed(ended))
    }
}

impl<'a> From<Which<'a>> for Whose<'a> {
    fn from(which: Which<'a>) -> Self {
        match which {
            Which::Subject(sub) => Self::User(sub),
            Which::ProviderSession(sid) => Self::ProviderSession(sid),
            Which::Session(id) => Self::Session(id),
        }
    }
}

/// The one that was used last comes first.
fn listed(mut sessions: Vec<SessionMetadata>) -> Vec<ListedSession> {
    sessions.sort_by_key(|session| std::cmp::Reverse((session.last_active, session.created_at)));
    let listed = sessions.into_iter().map(|session| ListedSession {
        id: PublicSessionId::of(session.id).to_string(),
        created_at: session.created_at,
        last_active: session.last_active,
        user_agent: session.user_agent,
    });
    listed.collect()
}
