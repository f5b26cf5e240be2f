//! Ends sessions in the store: what a provider, an operator or the user elsewhere says has ended.
//!
//! Marks first, then the records, then word to every replica, and only then the memory that it was
//! done. A sign-in that is being stored meanwhile either sees the mark or is found in the list, since
//! it stores first and looks at marks afterwards. Whatever breaks off in between is done again from
//! the start when the provider repeats its call: each part can be repeated, and a logout token counts
//! as used only once its work is finished. Nothing here reads a cookie, and no token is revoked.

use std::time::Duration;

use coatroom_core::error::Error;
use coatroom_core::flow::{AgentResponse, Owner, ProviderLogout, Refusal};
use coatroom_core::session::metadata::SessionMetadata;
use coatroom_core::store::{Ended, Record, RecordKey};

use crate::agent::{AgentCall, converse};
use crate::handler::{Agent, Shared};
use crate::store::SessionStore;

/// A store, and what opens the part of a record that tells whose it is.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a> {
    pub(crate) store: &'a dyn SessionStore,
    pub(crate) metadata: &'a (dyn Fn(&RecordKey, &Record) -> Option<SessionMetadata> + Send + Sync),
}

/// `POST backchannel-logout` (OpenID Connect Back-Channel Logout 1.0 §2.5 to §2.8).
pub(crate) async fn backchannel(
    shared: &Shared,
    agent: &Agent,
    call: &AgentCall,
    kept: Option<Kept<'_>>,
) -> Result<AgentResponse, Refusal> {
    let handler = &agent.handler;
    let notice = converse(shared, agent, |context| {
        handler.backchannel_logout(&call.headers, &call.body, context)
    })
    .await?;
    let logout = handler.provider_logout(&notice, shared.clock.now());
    end(shared, agent, &logout, kept).await?;
    Ok(handler.backchannel_logged_out())
}

/// `GET frontchannel-logout` (OpenID Connect Front-Channel Logout 1.0 §3).
pub(crate) async fn frontchannel(
    shared: &Shared,
    agent: &Agent,
    call: &AgentCall,
    kept: Option<Kept<'_>>,
) -> Result<AgentResponse, Refusal> {
    let handler = &agent.handler;
    let logout = handler.frontchannel_logout(&call.query)?;
    end(shared, agent, &logout, kept).await?;
    let provider = agent.provider.known_snapshot();
    Ok(handler.frontchannel_logged_out(provider.as_deref()))
}

/// Ends the sessions, here too.
async fn end(
    shared: &Shared,
    agent: &Agent,
    logout: &ProviderLogout,
    kept: Option<Kept<'_>>,
) -> Result<(), Error> {
    // such an endpoint is not there without a store
    let kept = kept.ok_or(Error::Bug("sessions are to be ended and there is no store"))?;
    let ended = serve(kept, logout).await?;
    for session in &ended {
        shared.ends.end(session.id.0);
    }
    for mark in logout.marks() {
        shared.ends.end_marked(mark.key, mark.at);
    }
    let by = match logout.owner {
        Owner::Sid => "sid",
        Owner::User => "sub",
    };
    let application = agent.id();
    tracing::info!(
        application,
        by,
        sessions = ended.len(),
        "sessions ended by the provider"
    );
    Ok(())
}

/// Ends what `logout` names, in the store and for every replica; which sessions those were, as far as
/// their records say. The caller ends what lives on them in this process.
///
/// # Errors
/// [`Error::LogoutTokenInvalid`] for a logout token that was used before,
/// [`Error::StoreUnavailable`]; then nothing is remembered, and it can be done again.
pub(crate) async fn serve(kept: Kept<'_>, logout: &ProviderLogout) -> Result<Vec<SessionMetadata>, Error> {
    let Kept { store, metadata } = kept;
    if let Some(once) = &logout.once {
        let known = store.recall(&[once.key]).await?;
        if known.iter().any(Option::is_some) {
            return Err(Error::LogoutTokenInvalid("it was used before (`jti`)"));
        }
    }
    let marks = logout.marks();
    store.mark(&marks).await?;
    let mut sessions: Vec<SessionMetadata> = Vec::new();
    for index in logout.indexes() {
        for (key, record) in store.list(&index).await? {
            let found = metadata(&key, &record);
            // a record that nobody can read is nobody's session
            if found
                .as_ref()
                .is_some_and(|session| !logout.ends(session.created_at))
            {
                continue;
            }
            store.delete(&key).await?;
            if let Some(session) = found
                && sessions.iter().all(|known| known.id != session.id)
            {
                sessions.push(session);
            }
        }
    }
    let words = marks.iter().filter(|_| logout.announces_marks());
    let ended: Vec<Ended> = words
        .map(|mark| Ended::Marked(mark.key))
        .chain(sessions.iter().map(|session| Ended::Session(session.id)))
        .collect();
    store.announce(&ended).await?;
    if let Some(once) = &logout.once {
        // a call that is repeated while the first one is under way does the same once more, harmlessly
        let life = once.life.max(SHORTEST_MEMORY);
        store.remember(&once.key, USED, life).await?;
    }
    Ok(sessions)
}

/// What stands under the name of a logout token that was used; it says nothing.
const USED: &[u8] = &[1];

/// No store keeps anything for no time.
const SHORTEST_MEMORY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::{Arc, Mutex};

    use coatroom_core::config::{ApplicationConfig, ProviderConfig};
    use coatroom_core::flow::Once;
    use coatroom_core::handler::Handler;
    use coatroom_core::seal::{KeyRing, MasterKey};
    use coatroom_core::secret::Secret;
    use coatroom_core::session::SessionId;
    use coatroom_core::store::{
        EntryKey, Holder, IndexKey, Lease, Mark, MarkKey, NewRecord, RecordVersion, Replaced,
    };
    use coatroom_core::time::UnixTime;

    use super::*;
    use crate::store::StoreError;
    use crate::store::{Cursor, StoreFuture};

    const NOW: UnixTime = UnixTime(1_800_000_000);

    /// As much of a store as ends sessions; notes what it was asked, and breaks where it is told to.
    #[derive(Default)]
    struct Small {
        state: Mutex<State>,
    }

    #[derive(Default)]
    struct State {
        records: BTreeMap<RecordKey, (Record, Vec<IndexKey>)>,
        marks: BTreeMap<MarkKey, UnixTime>,
        entries: BTreeSet<EntryKey>,
        announced: Vec<Ended>,
        asked: Vec<&'static str>,
        /// After how many operations the connection is gone.
        breaks_after: Option<usize>,
    }

    impl Small {
        fn ask<T: Send + 'static>(
            &self,
            what: &'static str,
            work: impl FnOnce(&mut State) -> T,
        ) -> StoreFuture<'static, T> {
            let mut state = self.state.lock().expect("no test panicked here");
            let outcome = match state.breaks_after {
                Some(after) if state.asked.len() >= after => Err(StoreError::Unavailable("gone".to_owned())),
                _ => {
                    state.asked.push(what);
                    Ok(work(&mut state))
                }
            };
            Box::pin(std::future::ready(outcome))
        }

        fn add(&self, byte: u8, created_at: u64, indexes: &[IndexKey]) {
            let record = Record {
                version: RecordVersion(1),
                last_active: UnixTime(created_at),
                metadata: SessionMetadata {
                    id: SessionId([byte; 16]),
                    created_at: UnixTime(created_at),
                    last_active: UnixTime(created_at),
                    user_agent: None,
                }
                .encode()
                .to_vec(),
                access: Vec::new(),
                agent: Vec::new(),
            };
            let mut state = self.state.lock().expect("no test panicked here");
            state
                .records
                .insert(RecordKey([byte; 32]), (record, indexes.to_vec()));
        }

        fn spoil(&self, byte: u8) {
            let mut state = self.state.lock().expect("no test panicked here");
            let (record, _) = state
                .records
                .get_mut(&RecordKey([byte; 32]))
                .expect("it is there");
            record.metadata.clear();
        }

        fn left(&self) -> Vec<u8> {
            let state = self.state.lock().expect("no test panicked here");
            state.records.keys().map(|key| key.0[0]).collect()
        }

        fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
            look(&mut self.state.lock().expect("no test panicked here"))
        }
    }

    fn never<T: Send + 'static>() -> StoreFuture<'static, T> {
        Box::pin(async { panic!("nobody who ends sessions asks for this") })
    }

    impl SessionStore for Small {
        fn load<'a>(&'a self, _: &'a RecordKey) -> StoreFuture<'a, Option<Record>> {
            never()
        }
        fn insert<'a>(&'a self, _: &'a RecordKey, _: &'a NewRecord) -> StoreFuture<'a, ()> {
            never()
        }
        fn replace<'a>(
            &'a self,
            _: &'a RecordKey,
            _: RecordVersion,
            _: &'a NewRecord,
        ) -> StoreFuture<'a, Replaced> {
            never()
        }
        fn touch<'a>(&'a self, _: &'a RecordKey, _: UnixTime, _: Duration) -> StoreFuture<'a, ()> {
            never()
        }
        fn delete<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, bool> {
            self.ask("delete", |state| state.records.remove(key).is_some())
        }
        fn delete_at<'a>(&'a self, _: &'a RecordKey, _: RecordVersion) -> StoreFuture<'a, Replaced> {
            never()
        }
        fn list<'a>(&'a self, index: &'a IndexKey) -> StoreFuture<'a, Vec<(RecordKey, Record)>> {
            self.ask("list", |state| {
                let found = state.records.iter();
                found
                    .filter(|(_, (_, indexes))| indexes.contains(index))
                    .map(|(key, (record, _))| (*key, record.clone()))
                    .collect()
            })
        }
        fn mark<'a>(&'a self, marks: &'a [Mark]) -> StoreFuture<'a, ()> {
            self.ask("mark", |state| {
                for mark in marks {
                    let at = state.marks.entry(mark.key).or_insert(mark.at);
                    *at = mark.at.max(*at);
                }
            })
        }
        fn marks<'a>(&'a self, _: &'a [MarkKey]) -> StoreFuture<'a, Vec<Option<UnixTime>>> {
            never()
        }
        fn announce<'a>(&'a self, ended: &'a [Ended]) -> StoreFuture<'a, ()> {
            self.ask("announce", |state| state.announced.extend_from_slice(ended))
        }
        fn ended_since<'a>(&'a self, _: Option<&'a Cursor>) -> StoreFuture<'a, (Cursor, Vec<Ended>)> {
            never()
        }
        fn acquire<'a>(&'a self, _: &'a EntryKey, _: Holder, _: Duration) -> StoreFuture<'a, Lease> {
            never()
        }
        fn release<'a>(&'a self, _: &'a EntryKey, _: Holder, _: Duration) -> StoreFuture<'a, ()> {
            never()
        }
        fn remember<'a>(&'a self, key: &'a EntryKey, value: &'a [u8], life: Duration) -> StoreFuture<'a, ()> {
            assert!(!value.is_empty() && !life.is_zero());
            self.ask("remember", |state| {
                state.entries.insert(*key);
            })
        }
        fn recall<'a>(&'a self, keys: &'a [EntryKey]) -> StoreFuture<'a, Vec<Option<Vec<u8>>>> {
            self.ask("recall", |state| {
                let known = keys.iter().map(|key| state.entries.contains(key));
                known.map(|known| known.then(|| vec![1])).collect()
            })
        }
        fn claim<'a>(&'a self, _: &'a EntryKey, _: Duration) -> StoreFuture<'a, bool> {
            never()
        }
        fn purge(&self) -> StoreFuture<'_, u64> {
            never()
        }
        fn ping(&self) -> StoreFuture<'_, ()> {
            never()
        }
    }

    fn handler(keys: &[&str]) -> Handler {
        let provider = ProviderConfig::new("https://login.example", "shop", Secret::new("hush"));
        let config = ApplicationConfig::new("shop", "https://shop.example", provider);
        let app = config.check().unwrap_or_else(|problems| panic!("{problems:?}"));
        let keys = keys.iter().map(|digit| {
            MasterKey::parse(&format!("coatroom-key-1:{}", digit.repeat(43))).expect("a well-formed key")
        });
        let ring = KeyRing::new(keys.collect()).expect("keys");
        Handler::new(Arc::new(app), Arc::new(ring)).expect("a handler")
    }

    /// What a logout token with this `sid` comes to.
    fn signed(mut logout: ProviderLogout) -> ProviderLogout {
        logout.once = Some(Once {
            key: EntryKey([9; 32]),
            life: Duration::from_secs(130),
        });
        logout
    }

    fn metadata(_: &RecordKey, record: &Record) -> Option<SessionMetadata> {
        SessionMetadata::decode(&record.metadata, record.last_active)
    }

    async fn carry_out(store: &Small, logout: &ProviderLogout) -> Result<Vec<SessionId>, Error> {
        let kept = Kept {
            store,
            metadata: &metadata,
        };
        let ended = serve(kept, logout).await?;
        Ok(ended.into_iter().map(|session| session.id).collect())
    }

    fn ids(bytes: &[u8]) -> Vec<SessionId> {
        bytes.iter().map(|byte| SessionId([*byte; 16])).collect()
    }

    #[tokio::test]
    async fn every_session_of_a_user_ends_and_nobody_elses() {
        let handler = handler(&["A"]);
        let (ann, bob) = (handler.user_logout("ann", NOW), handler.user_logout("bob", NOW));
        let store = Small::default();
        store.add(1, NOW.0 - 100, &ann.indexes());
        store.add(2, NOW.0 - 50, &ann.indexes());
        store.add(3, NOW.0 - 50, &bob.indexes());
        // the first session of the user is as much in the list as the newest
        assert_eq!(carry_out(&store, &ann).await, Ok(ids(&[1, 2])));
        assert_eq!(store.left(), [3]);
        store.with(|state| {
            let marked = ann.marks()[0].key;
            assert_eq!(state.marks.get(&marked), Some(&NOW));
            assert_eq!(state.marks.len(), 1);
            let mut expected = vec![Ended::Marked(marked)];
            expected.extend(ids(&[1, 2]).into_iter().map(Ended::Session));
            assert_eq!(state.announced, expected);
        });
    }

    #[tokio::test]
    async fn marks_come_first_and_the_memory_of_the_token_last() {
        let logout = signed(handler(&["A"]).sid_logout("s-1", NOW));
        let store = Small::default();
        store.add(1, NOW.0, &logout.indexes());
        carry_out(&store, &logout).await.expect("the store is well");
        store.with(|state| {
            assert_eq!(
                state.asked,
                ["recall", "mark", "list", "delete", "announce", "remember"]
            );
        });
    }

    #[tokio::test]
    async fn sessions_from_before_a_rotation_of_the_keys_end_too() {
        let before = handler(&["A"]).sid_logout("s-1", NOW);
        let after = handler(&["E", "A"]).sid_logout("s-1", NOW);
        let store = Small::default();
        store.add(1, NOW.0, &before.indexes());
        store.add(2, NOW.0, &after.indexes()[..1]);
        let ended = carry_out(&store, &after).await.expect("the store is well");
        assert_eq!(ended.len(), 2);
        assert_eq!(store.left(), [0; 0]);
        store.with(|state| {
            for mark in before.marks() {
                assert!(state.marks.contains_key(&mark.key));
            }
        });
    }

    #[tokio::test]
    async fn a_session_that_began_later_goes_on_and_one_that_nobody_can_read_does_not() {
        let handler = handler(&["A"]);
        let logout = handler.user_logout("ann", UnixTime(NOW.0 - 60));
        let store = Small::default();
        store.add(1, NOW.0 - 60, &logout.indexes());
        store.add(2, NOW.0 - 59, &logout.indexes());
        store.add(3, NOW.0, &logout.indexes());
        store.spoil(3);
        assert_eq!(carry_out(&store, &logout).await, Ok(ids(&[1])));
        assert_eq!(store.left(), [2]);
    }

    #[tokio::test]
    async fn a_logout_token_that_was_used_is_refused_and_ends_nothing() {
        let logout = signed(handler(&["A"]).user_logout("ann", NOW));
        let store = Small::default();
        carry_out(&store, &logout).await.expect("the store is well");
        // the user signs in again within the same second
        store.add(1, NOW.0, &logout.indexes());
        let refused = carry_out(&store, &logout).await;
        assert_eq!(
            refused,
            Err(Error::LogoutTokenInvalid("it was used before (`jti`)"))
        );
        assert_eq!(store.left(), [1]);
        let answer = refused.err().map(|error| error.answer().code);
        assert_eq!(answer, Some("invalid_request"));
    }

    #[tokio::test]
    async fn a_logout_that_breaks_off_anywhere_is_done_when_it_is_repeated() {
        let handler = handler(&["A"]);
        let logout = signed(handler.user_logout("ann", NOW));
        let whole = 7;
        for breaks_after in 0..=whole {
            let store = Small::default();
            store.add(1, NOW.0, &logout.indexes());
            store.add(2, NOW.0, &logout.indexes());
            store.with(|state| state.breaks_after = Some(breaks_after));
            let first = carry_out(&store, &logout).await;
            if breaks_after == whole {
                assert_eq!(first, Ok(ids(&[1, 2])));
                continue;
            }
            let code = first.err().map(|error| error.answer().code);
            assert_eq!(code, Some("store_unavailable"), "{breaks_after}");
            store.with(|state| state.breaks_after = None);
            carry_out(&store, &logout)
                .await
                .unwrap_or_else(|error| panic!("{breaks_after}: {error}"));
            assert_eq!(store.left(), [0; 0], "{breaks_after}");
            // whoever hears of it only by this word hears of all of it
            let marked = Ended::Marked(logout.marks()[0].key);
            store.with(|state| assert!(state.announced.contains(&marked), "{breaks_after}"));
        }
    }

    #[tokio::test]
    async fn what_is_not_signed_can_be_asked_for_again() {
        let logout = handler(&["A"]).sid_logout("s-1", NOW);
        let store = Small::default();
        for _ in 0..2 {
            assert_eq!(carry_out(&store, &logout).await, Ok(Vec::new()));
        }
        store.with(|state| assert!(state.entries.is_empty()));
    }
}
