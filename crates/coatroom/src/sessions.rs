//! The user's sessions in the store: `GET sessions`, `DELETE sessions/{id}`, `logout` everywhere.
//!
//! Records are found by the user's keyed hash and told apart by what their metadata say. Only a
//! session of the same user is ever listed or ended. No token is read here.

use std::sync::Arc;

use coatroom_core::error::Error;
use coatroom_core::flow::{AgentResponse, Refusal, Seen};
use coatroom_core::handler::Handler;
use coatroom_core::session::metadata::{PublicSessionId, SessionMetadata};
use coatroom_core::store::{IndexKey, RecordKey};

use crate::agent::AgentCall;
use crate::handler::{Agent, Shared};
use crate::provider_logout::{Kept, serve};
use crate::store::{SessionStore, StoreError};
use crate::stored;

/// `GET sessions`.
pub(crate) async fn list(
    shared: &Shared,
    agent: &Agent,
    store: &Arc<dyn SessionStore>,
    headers: Seen<'_>,
) -> Result<AgentResponse, Refusal> {
    let of = agent.handler.sessions_of(headers, shared.clock.now())?;
    let found = find(&agent.handler, &**store, &of.indexes())
        .await
        .map_err(Error::from)?;
    let found: Vec<SessionMetadata> = found.into_iter().map(|(_, metadata)| metadata).collect();
    Ok(agent.handler.sessions_listed(&of, &found))
}

/// `DELETE sessions/{id}`: the session is gone for every replica before this is answered. One that
/// is not there (any more) is as good as ended.
pub(crate) async fn end(
    shared: &Shared,
    agent: &Agent,
    store: &Arc<dyn SessionStore>,
    call: &AgentCall,
    headers: Seen<'_>,
) -> Result<AgentResponse, Refusal> {
    let of = agent.handler.sessions_of(headers, shared.clock.now())?;
    let named = call.session.ok_or(Error::NotFound)?;
    let found = find(&agent.handler, &**store, &of.indexes())
        .await
        .map_err(Error::from)?;
    for (key, metadata) in found {
        if PublicSessionId::of(metadata.id) == named {
            stored::end_record(&shared.ends, &**store, &key, metadata.id)
                .await
                .map_err(Error::from)?;
        }
    }
    Ok(agent.handler.session_ended())
}

/// What `everywhere=true` adds to a sign-out, before it.
pub(crate) async fn end_everywhere(
    shared: &Shared,
    agent: &Agent,
    store: Option<&Arc<dyn SessionStore>>,
    call: &AgentCall,
    headers: Seen<'_>,
) -> Result<(), Refusal> {
    let (handler, now) = (&agent.handler, shared.clock.now());
    let Some(logout) = handler.everywhere(headers, &call.input()?, now)? else {
        return Ok(());
    };
    let store = store.ok_or(Error::Bug("sessions are to be ended and there is no store"))?;
    let metadata = |key: &_, record: &_| handler.metadata(key, record);
    let kept = Kept {
        store: &**store,
        metadata: &metadata,
    };
    for session in serve(kept, &logout).await? {
        shared.ends.end(session.id.0);
    }
    for mark in logout.marks() {
        shared.ends.end_marked(mark.key, mark.at);
    }
    Ok(())
}

/// The sessions that these indexes lead to, and that their metadata tell something of.
pub(crate) async fn find(
    handler: &Handler,
    store: &dyn SessionStore,
    indexes: &[IndexKey],
) -> Result<Vec<(RecordKey, SessionMetadata)>, StoreError> {
    let mut found: Vec<(RecordKey, SessionMetadata)> = Vec::new();
    for index in indexes {
        for (key, record) in store.list(index).await? {
            if let Some(metadata) = handler.metadata(&key, &record)
                && found.iter().all(|(known, _)| *known != key)
            {
                found.push((key, metadata));
            }
        }
    }
    Ok(found)
}
