//! Sessions and a store: what API calls look up, what answers write, what replicas tell each other.
//!
//! Everything here runs on the control runtime. What a record or a mark means is the core's; how one
//! refresh is had for all replicas is `refresh`'s. A store that cannot be asked is an outage
//! ([`Error::StoreUnavailable`]) and never the end of a session. No token is kept here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use coatroom_core::error::Error;
use coatroom_core::flow::{
    Asks, Chore, Effects, KnownSession, Lookup, LookupName, Revocation, StoreView, StoreWrite, StoredSession,
};
use coatroom_core::store::{Ended, Record, RecordKey, Replaced};
use coatroom_core::time::UnixTime;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared as SharedFuture, join_all};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::agent::revoke_all;
use crate::api::{LookUpFuture, LookedUp};
use crate::clock::SystemRng;
use crate::handler::{Agent, App, Role, Shared};
use crate::session_end::SessionEnds;
use crate::store::{SessionStore, StoreError};

mod worlds;

pub(crate) use worlds::{renew, renew_shared};

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::StoreUnavailable {
            reason: error.reason().to_owned(),
            retry_after: RETRY_AFTER,
        }
    }
}

/// Work on one thing that everybody in this process waits for together. Nothing is remembered once
/// it is done.
pub(crate) struct Coalesced<T, K: Eq + Hash = [u8; 32]> {
    under_way: Mutex<HashMap<K, Joined<T>>>,
}

/// What is looked up for which calls, and how often a session had ended when it was asked for.
pub(crate) type LookUpName = (LookupName, u64);

type Joined<T> = SharedFuture<BoxFuture<'static, Result<T, Error>>>;

impl<T, K: Eq + Hash> Default for Coalesced<T, K> {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
        }
    }
}

impl<T: Clone + Send + Sync + 'static, K: Copy + Eq + Hash + Send + 'static> Coalesced<T, K> {
    /// Joins the work under this name, or begins it as a task of its own.
    pub(crate) fn join<F>(self: &Arc<Self>, name: K, runtime: &Handle, work: impl FnOnce() -> F) -> Joined<T>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joined) = under_way.get(&name) {
            return joined.clone();
        }
        let done = Done(Arc::clone(self), name);
        let work = work();
        let task = runtime.spawn(async move {
            let outcome = work.await;
            drop(done);
            outcome
        });
        let joined = task
            .map(|joined| joined.unwrap_or(Err(Error::Bug("a task ended early"))))
            .boxed()
            .shared();
        under_way.insert(name, joined.clone());
        joined
    }
}

/// Makes way for the next one, even if the work panics.
struct Done<T, K: Eq + Hash>(Arc<Coalesced<T, K>>, K);

impl<T, K: Eq + Hash> Drop for Done<T, K> {
    fn drop(&mut self) {
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.1);
    }
}

/// What has begun and must not be cut off when the process ends: refreshes whose request may have been
/// sent, sessions that are still to be removed.
#[derive(Clone, Default)]
pub(crate) struct Unfinished(Arc<AtomicUsize>);

/// One such thing, until it is dropped.
pub(crate) struct Busy(Arc<AtomicUsize>);

impl Unfinished {
    pub(crate) fn begin(&self) -> Busy {
        self.0.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(&self.0))
    }

    /// Waits until nothing of it is left.
    pub(crate) async fn finished(&self) {
        while self.0.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Looks up what an API call has to know of its session: once for all calls of it that come while
/// somebody looks.
pub(crate) fn look_up(shared: &Arc<Shared>, app: &Arc<App>, lookup: Lookup) -> LookUpFuture {
    let generation = shared.ends.generation().number();
    let control = shared.control.clone();
    let name = lookup.name();
    let work = {
        let (shared, app) = (Arc::clone(shared), Arc::clone(app));
        move || async move { answer(&shared, &app, &lookup).await }
    };
    match (name, &app.role) {
        // What was asked for before a session ended here is not for calls that come after that. Where
        // nobody renews, nor is what was asked for before the agent did.
        (Some(name), Role::Agent(_)) => {
            let joined = app.look_ups.join((name, generation), &control, work);
            Box::pin(async move {
                let known = joined.await;
                LookedUp::Session { known, generation }
            })
        }
        (None, _) | (Some(_), Role::Proxy(_)) => {
            let task = control.spawn(work());
            Box::pin(async move {
                let known = task.await.unwrap_or(Err(Error::Bug("a look-up ended early")));
                LookedUp::Session { known, generation }
            })
        }
    }
}

async fn answer(shared: &Arc<Shared>, app: &App, lookup: &Lookup) -> Result<KnownSession, Error> {
    let store = app.store()?;
    let Some(key) = lookup.record() else {
        let times = store.marks(lookup.marks()).await?;
        return Ok(lookup.answered_by_marks(&times, shared.clock.now()));
    };
    let record = store.load(key).await?;
    // of a provider that is not configured any more it is as good as gone
    let record = record.filter(|record| app.has_provider_of(lookup, record));
    let now = shared.clock.now();
    let known = app.know(lookup, record.as_ref(), now);
    if let Some(clocks) = known.clocks() {
        // used elsewhere, or renewed there: what lives on it here may go on
        shared
            .ends
            .extend(clocks.session.0, clocks.ends_at, clocks.idle_ends_at);
    }
    // by the record and not by what the caller knew: another replica may have renewed it since
    if !known.wants_tokens(lookup, now) {
        return Ok(known);
    }
    let Some((agent, stored)) = record.and_then(|record| app.agent_of_record(lookup, &record)) else {
        return Ok(known);
    };
    let newest = renew(shared, agent, store, stored).await?;
    let now = shared.clock.now();
    let record = agent.handler.record(&newest, now, &mut SystemRng)?.record;
    Ok(app.know(lookup, Some(&record), now).just_renewed())
}

/// What is done beside an API call, and never holds it up.
pub(crate) fn do_chore(shared: &Arc<Shared>, app: &Arc<App>, chore: Chore) {
    let (shared, app) = (Arc::clone(shared), Arc::clone(app));
    let control = shared.control.clone();
    control.spawn(async move {
        if let Err(error) = chores(&shared, &app, &chore).await {
            // the call has passed; the next one that needs it will say so itself
            tracing::debug!(
                application = app.application().id.as_str(),
                "beside a call: {error}"
            );
        }
    });
}

async fn chores(shared: &Arc<Shared>, app: &App, chore: &Chore) -> Result<(), Error> {
    let store = app.store()?;
    let Some(key) = chore.lookup.record() else {
        return Ok(());
    };
    if let Some((last_active, life)) = chore.touch {
        store.touch(key, last_active, life).await?;
        shared.ends.extend_idle(
            chore.lookup.session().0,
            last_active.plus(app.application().session.idle),
        );
    }
    // each core of each replica comes here: who comes late finds a record that is not due any more
    if chore.renew
        && !app.agents.is_empty()
        && let Some(record) = store.load(key).await?
        && let now = shared.clock.now()
        && app.know(&chore.lookup, Some(&record), now).nears_its_end(now)
        && let Some((agent, stored)) = app.agent_of_record(&chore.lookup, &record)
    {
        renew(shared, agent, store, stored).await?;
    }
    Ok(())
}

/// What the store says about an agent request.
pub(crate) async fn view(store: &dyn SessionStore, asks: &Asks) -> Result<StoreView, Error> {
    let records = join_all(asks.records.iter().map(|key| async move {
        let record = store.load(key).await?;
        Ok::<_, StoreError>(record.map(|record| (*key, record)))
    }));
    let records: Vec<_> = records.await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let times = match asks.marks.is_empty() {
        true => Vec::new(),
        false => store.marks(&asks.marks).await?,
    };
    let marks = asks.marks.iter().copied().zip(times);
    Ok(StoreView::new(
        records.into_iter().flatten().collect(),
        marks.filter_map(|(key, at)| Some((key, at?))).collect(),
    ))
}

/// Writes what an answer needs to be true. New sessions before anything else: where that fails,
/// nothing has happened.
pub(crate) async fn write(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    store: &Arc<dyn SessionStore>,
    effects: &mut Effects,
) -> Result<(), Error> {
    let (insertions, others): (Vec<_>, Vec<_>) = std::mem::take(&mut effects.store)
        .into_iter()
        .partition(|write| matches!(write, StoreWrite::Insert { .. }));
    for insertion in insertions {
        insert(shared, &**store, insertion).await?;
    }
    let mut others = others;
    if !agent.handler.application().session.storage.is_stateful() && !effects.ended.is_empty() {
        let marks = effects.ended.iter().map(|id| agent.handler.end_mark(*id));
        others.push(StoreWrite::Mark {
            marks: marks.collect(),
            sessions: effects.ended.clone(),
        });
    }
    let mut left = Vec::new();
    for mut write in others {
        let outcome = finish(shared, agent, &**store, &mut write).await;
        if let Ok(revocations) = outcome {
            effects.revoke.extend(revocations);
        } else if let Err(error) = outcome {
            tracing::warn!(
                application = agent.id(),
                "what has ended or was used here cannot be written to the store now, it is tried again: {error}"
            );
            // the next sign of the user is as good
            if !matches!(write, StoreWrite::Touch { .. }) {
                left.push(write);
            }
        }
    }
    if !left.is_empty() {
        let (shared, agent, store) = (Arc::clone(shared), Arc::clone(agent), Arc::clone(store));
        let control = shared.control.clone();
        control.spawn(async move {
            let _busy = shared.unfinished.begin();
            keep_trying(&shared, &agent, &*store, left).await;
        });
    }
    Ok(())
}

/// Carries out one write; what is to be revoked beyond what is known already.
async fn finish(
    shared: &Shared,
    agent: &Agent,
    store: &dyn SessionStore,
    write: &mut StoreWrite,
) -> Result<Vec<Revocation>, StoreError> {
    let mut revocations = identify(agent, store, write).await?;
    let newer = renewed_since(agent, store, write).await?;
    if !newer.is_empty() {
        revocations = newer;
    }
    carry_out(shared, store, write).await?;
    Ok(revocations)
}

/// A session that was signed out while nobody could say whose it was: its record says so now.
async fn identify(
    agent: &Agent,
    store: &dyn SessionStore,
    write: &mut StoreWrite,
) -> Result<Vec<Revocation>, StoreError> {
    let StoreWrite::Delete {
        key,
        session,
        stored: stored @ None,
        lookup: Some(lookup),
    } = write
    else {
        return Ok(Vec::new());
    };
    let Some(record) = readable(store.load(key).await)? else {
        return Ok(Vec::new());
    };
    let Some(found) = agent.handler.stored_anywhere(lookup, &record) else {
        return Ok(Vec::new());
    };
    *session = Some(found.session_id());
    let revocations = found.revocations();
    *stored = Some(Box::new(found));
    Ok(revocations)
}

/// What cannot be read has nothing to revoke, and is removed all the same.
fn readable(loaded: Result<Option<Record>, StoreError>) -> Result<Option<Record>, StoreError> {
    match loaded {
        Err(StoreError::Unreadable(_)) => Ok(None),
        loaded => loaded,
    }
}

/// Deletes a session as it was seen; where a refresh has been saved since, its tokens are what has to
/// be revoked.
async fn renewed_since(
    agent: &Agent,
    store: &dyn SessionStore,
    write: &mut StoreWrite,
) -> Result<Vec<Revocation>, StoreError> {
    let mut revocations = Vec::new();
    let StoreWrite::Delete {
        key,
        stored: Some(stored),
        ..
    } = write
    else {
        return Ok(revocations);
    };
    for _ in 0..MOST_REFRESHES {
        if store.delete_at(key, stored.version()).await? != Replaced::Changed {
            break;
        }
        let Some(record) = readable(store.load(key).await)? else {
            break;
        };
        let Some(newer) = agent.handler.reopened(stored, &record) else {
            break;
        };
        if newer.is_newer_than(stored) {
            revocations = newer.revocations();
        }
        **stored = newer;
    }
    Ok(revocations)
}

/// Tries until all of it is written, for ten minutes: nobody waits for it.
async fn keep_trying(
    shared: &Shared,
    agent: &Arc<Agent>,
    store: &dyn SessionStore,
    mut left: Vec<StoreWrite>,
) {
    for _ in 0..TRIES {
        tokio::time::sleep(BETWEEN_TRIES).await;
        let mut still = Vec::new();
        for mut write in left {
            match finish(shared, agent, store, &mut write).await {
                // Long after the sign-out: the same user may be back, and then a refresh token takes
                // the new session along at many providers (RFC 7009 §2.1). Nobody has it any more.
                Ok(revocations) => {
                    let of_nobody_else = revocations
                        .into_iter()
                        .filter(|revocation| !revocation.is_refresh_token());
                    revoke_all(shared, agent, of_nobody_else.collect()).await;
                }
                Err(_) => still.push(write),
            }
        }
        left = still;
        if left.is_empty() {
            return;
        }
    }
    tracing::error!(
        application = agent.id(),
        "sessions that were signed out here could not be removed from the store"
    );
}

async fn insert(shared: &Shared, store: &dyn SessionStore, insertion: StoreWrite) -> Result<(), Error> {
    let StoreWrite::Insert {
        key,
        record,
        session,
        created_at,
        marks,
    } = insertion
    else {
        return Ok(());
    };
    store.insert(&key, &record).await?;
    // A sign-out of everything of this user that came meanwhile has looked for records already, or
    // finds this one; its mark was set before.
    let marked = store.marks(&marks).await?;
    if marked.iter().flatten().any(|at| *at >= created_at) {
        store.delete(&key).await?;
        shared.ends.end(session.0);
        return Err(Error::SessionExpired("signed out while signing in"));
    }
    Ok(())
}

async fn carry_out(shared: &Shared, store: &dyn SessionStore, write: &StoreWrite) -> Result<(), StoreError> {
    match write {
        StoreWrite::Insert { .. } => Ok(()),
        StoreWrite::Touch {
            key,
            last_active,
            life,
        } => store.touch(key, *last_active, *life).await,
        StoreWrite::Mark { marks, sessions } => {
            store.mark(marks).await?;
            let ended: Vec<Ended> = sessions.iter().copied().map(Ended::Session).collect();
            store.announce(&ended).await
        }
        StoreWrite::Delete { key, session, .. } => {
            store.delete(key).await?;
            if let Some(session) = session {
                shared.ends.end(session.0);
                store.announce(&[Ended::Session(*session)]).await?;
            }
            Ok(())
        }
    }
}

/// Removes one stored session for good, wherever it is in use.
pub(crate) async fn end_record(
    ends: &SessionEnds,
    store: &dyn SessionStore,
    key: &RecordKey,
    session: coatroom_core::session::SessionId,
) -> Result<(), StoreError> {
    store.delete(key).await?;
    ends.end(session.0);
    store.announce(&[Ended::Session(session)]).await
}

/// Hears what other replicas ended, and has the store forget what is over, as long as somebody has
/// the store.
pub(crate) fn follow(control: &Handle, store: &Arc<dyn SessionStore>, ends: SessionEnds) {
    let store = Arc::downgrade(store);
    control.spawn(async move {
        let mut hearing = Hearing::default();
        let (mut rounds, mut is_said) = (0_u32, false);
        loop {
            let Some(store) = Weak::upgrade(&store) else {
                return;
            };
            match hearing.listen(&*store, &ends).await {
                Ok(()) => is_said = false,
                // said by whoever guards the store
                Err(StoreError::Unavailable(_)) => {}
                Err(_) if is_said => {}
                Err(error) => {
                    is_said = true;
                    tracing::warn!("what ended on other replicas cannot be heard now: {error}");
                }
            }
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(PURGE_ROUNDS) {
                let _ = store.purge().await;
            }
            drop(store);
            tokio::time::sleep(LISTEN).await;
        }
    });
}

/// Where a process has got to in what replicas tell each other.
#[derive(Default)]
pub(crate) struct Hearing {
    cursor: Option<crate::store::Cursor>,
    /// The last time that the store told it.
    heard: Option<Instant>,
}

impl Hearing {
    /// Ends here what has ended elsewhere since the last time.
    pub(crate) async fn listen(
        &mut self,
        store: &dyn SessionStore,
        ends: &SessionEnds,
    ) -> Result<(), StoreError> {
        let (told, mut is_known) = match store.ended_since(self.cursor.as_ref()).await {
            Err(StoreError::CursorTooOld) => (store.ended_since(None).await?, false),
            outcome => (outcome?, true),
        };
        is_known &= self.heard.is_some_and(|heard| heard.elapsed() <= ANNOUNCED);
        if !is_known {
            // nobody can say what ended before: nothing that was remembered counts
            ends.forget();
        }
        let (cursor, ended) = told;
        for ended in ended {
            match ended {
                // our own come back as well
                Ended::Session(id) if ends.remembers(id.0) => {}
                Ended::Session(id) => ends.end(id.0),
                Ended::Marked(key) => {
                    // only what began no later: its user may be back already
                    let at = store.marks(&[key]).await?.into_iter().flatten().next();
                    ends.end_marked(key, at.unwrap_or(UnixTime(0)));
                }
            }
        }
        // not before: what could not be carried out is heard once more
        self.cursor = Some(cursor);
        self.heard = Some(Instant::now());
        Ok(())
    }
}

impl App {
    /// Its store.
    ///
    /// # Errors
    /// [`Error::Bug`] where the configuration names none.
    pub(crate) fn store(&self) -> Result<&Arc<dyn SessionStore>, Error> {
        self.store.as_ref().ok_or(Error::Bug("there is no store to ask"))
    }
}

/// Whether a stored session is known to be newer: for whoever only wants its clocks.
pub(crate) fn note_clocks(shared: &Shared, agent: &Agent, stored: &StoredSession) {
    let clocks = stored.clocks(&agent.handler.application().session);
    shared
        .ends
        .extend(clocks.session.0, clocks.ends_at, clocks.idle_ends_at);
}

/// After how many seconds an outage is worth another try.
const RETRY_AFTER: u32 = 2;

/// How often a process hears what others ended: beside the caches' own bound.
const LISTEN: Duration = Duration::from_secs(1);

/// After how long unheard an announcement may be gone: stores keep them for five minutes, and take a
/// moment to say so.
const ANNOUNCED: Duration = Duration::from_secs(240);

/// Every how many of those a store forgets what is over.
const PURGE_ROUNDS: u32 = 60;

/// How many refreshes one sign-out may meet on its way.
const MOST_REFRESHES: u32 = 5;

/// How often the end of a process asks whether everything is finished.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const TRIES: u32 = 200;
const BETWEEN_TRIES: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use coatroom_core::session::SessionId;
    use coatroom_core::store::MarkKey;

    use crate::store::memory::MemoryStore;
    use crate::store::testing::Scripted;

    #[tokio::test]
    async fn an_end_that_could_not_be_carried_out_is_heard_once_more() {
        let (ends, store, mut hearing) = (SessionEnds::new(), Scripted::default(), Hearing::default());
        hearing.listen(&store, &ends).await.expect("it answers");
        let session = SessionId([7; 16]);
        store.has_ended(&[Ended::Marked(MarkKey([1; 32])), Ended::Session(session)]);
        store.set_marks_away(true);
        hearing
            .listen(&store, &ends)
            .await
            .expect_err("it cannot say of when the mark is");
        assert!(!ends.remembers(session.0));
        store.set_marks_away(false);
        hearing.listen(&store, &ends).await.expect("it answers");
        assert!(ends.remembers(session.0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_heard_the_store_for_minutes_believes_nothing_that_it_knew() {
        let ends = SessionEnds::new();
        let store = MemoryStore::new(Arc::new(SystemClock));
        let mut hearing = Hearing::default();
        for (unheard, forgets) in [
            (0, true),
            (1, false),
            (239, false),
            (240, false),
            (241, true),
            (1, false),
        ] {
            tokio::time::advance(Duration::from_secs(unheard)).await;
            let before = ends.generation();
            hearing.listen(&store, &ends).await.expect("it answers");
            assert_eq!(ends.generation() != before, forgets, "after {unheard} s");
        }
    }
}
