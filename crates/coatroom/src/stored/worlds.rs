//! The two worlds in which one refresh is had for all replicas: of stored sessions, and of sessions
//! in cookies whose replicas share a memory.
//!
//! The algorithm is `refresh`'s; here is what its steps do to the store and to the provider. A lease
//! is named by the session and never by a token. This file never decides who may refresh.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use coatroom_core::error::Error;
use coatroom_core::flow::{IdToken, Redemption, Refresh, Refreshed, StoredSession};
use coatroom_core::handler::MemoryKey;
use coatroom_core::rng::Rng as _;
use coatroom_core::store::{Ended as Announced, EntryKey, Holder, Lease, RecordVersion, Replaced};

use crate::agent::{redeem, revoke_all};
use crate::clock::SystemRng;
use crate::handler::{Agent, Shared};
use crate::provider::KEYS_LIMIT;
use crate::refresh::{self, Ended, Note, Saved, World};
use crate::store::{SessionStore, StoreError};
use crate::stored::{Busy, note_clocks};
use crate::telemetry;

/// Newer tokens for a stored session than those of `held`: one refresh at a time, here and elsewhere.
pub(crate) async fn renew(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    store: &Arc<dyn SessionStore>,
    held: StoredSession,
) -> Result<StoredSession, Error> {
    let world = StoredWorld {
        common: Common::new(
            shared,
            agent,
            store,
            held.session_id(),
            agent.handler.requests_of_renewal(&held),
        ),
        held: held.clone(),
    };
    let name = held.key().0;
    let (runtime, asked) = (shared.control.clone(), Arc::clone(agent));
    let work = || async move {
        // what the provider is comes before the lease, so that a lease lives for one request
        asked.provider.snapshot().await?;
        refresh::renew(&runtime, Arc::new(world), held).await
    };
    agent.renewals.join(name, &shared.control, work).await
}

/// The same for a session in cookies: its refresh, followed to the newest tokens.
pub(crate) async fn renew_shared(
    shared: &Arc<Shared>,
    agent: &Arc<Agent>,
    store: &Arc<dyn SessionStore>,
    held: Refresh,
) -> Result<Refresh, Error> {
    let session = held.session_id();
    let world = SharedWorld {
        common: Common::new(
            shared,
            agent,
            store,
            session,
            agent.handler.requests_of_refresh(&held),
        ),
        held: held.clone(),
    };
    // by the token that the browser holds: another tab's may be another link of the chain
    let keys = agent.handler.shared_refresh_keys(&held);
    let name = keys.first().map_or([0; 32], |key| key.0);
    let (runtime, asked) = (shared.control.clone(), Arc::clone(agent));
    let work = || async move {
        // what the provider is comes before the lease, so that a lease lives for one request
        asked.provider.snapshot().await?;
        refresh::renew(&runtime, Arc::new(world), held).await
    };
    agent.shared_refreshes.join(name, &shared.control, work).await
}

/// What both have.
struct Common {
    shared: Arc<Shared>,
    agent: Arc<Agent>,
    store: Arc<dyn SessionStore>,
    session: coatroom_core::session::SessionId,
    lease: EntryKey,
    /// How many requests it takes at most.
    requests: u32,
    /// Until the refresh is over, whoever still waits for it.
    _busy: Busy,
}

impl Common {
    fn new(
        shared: &Arc<Shared>,
        agent: &Arc<Agent>,
        store: &Arc<dyn SessionStore>,
        session: coatroom_core::session::SessionId,
        requests: u32,
    ) -> Self {
        Self {
            requests,
            shared: Arc::clone(shared),
            agent: Arc::clone(agent),
            store: Arc::clone(store),
            session,
            _busy: shared.unfinished.begin(),
            lease: agent.handler.lease_key(session),
        }
    }

    async fn redeem(&self, redemption: &Redemption) -> Result<Refreshed, Error> {
        let (shared, agent) = (&self.shared, &self.agent);
        let key = MemoryKey::from_bytes(self.lease.0);
        agent.outage.may_ask(&key, shared.clock.now())?;
        let outcome = redeem(shared, agent, redemption).await;
        agent.outage.note(&key, &outcome, shared.clock.now());
        if let Ok(refreshed) = &outcome {
            agent.note_missing(refreshed.api_failures(), shared.clock.now());
        }
        if let Ok(refreshed) = &outcome
            && refreshed.id_token() == IdToken::NoKey
        {
            tracing::warn!(
                application = agent.id(),
                "the refreshed ID token is signed with a key that the provider does not publish; the old one stays"
            );
        }
        if let Ok(refreshed) = &outcome
            && let Some(error) = refreshed.userinfo_failure()
        {
            tracing::warn!(
                application = agent.id(),
                %error,
                "userinfo cannot be had at a refresh; the claims that were known stay"
            );
        }
        outcome
    }

    async fn acquire(&self, holder: Holder, life: Duration) -> Result<Lease, Error> {
        Ok(self.store.acquire(&self.lease, holder, life).await?)
    }

    async fn release(&self, holder: Holder, rest: Duration) -> Result<(), Error> {
        Ok(self.store.release(&self.lease, holder, rest).await?)
    }

    /// Its requests, and once the provider's keys: its metadata is there.
    fn deadline(&self) -> Duration {
        let timeout = self.agent.handler.provider().timeout;
        timeout.saturating_mul(self.requests).saturating_add(KEYS_LIMIT)
    }

    fn note(&self, note: Note) {
        let application = self.agent.id();
        match note {
            Note::Coalesced => self
                .shared
                .telemetry
                .refresh(self.agent.index, telemetry::Refreshed::Coalesced),
            Note::Sent => {}
            Note::AfterDeath => tracing::info!(
                application,
                session = self.session.public(),
                "whoever refreshed this session last went away with its lease; the refresh is tried once more"
            ),
            Note::LeaseLost => tracing::warn!(
                application,
                session = self.session.public(),
                "the lease of a refresh ran out while the provider was asked"
            ),
            Note::NotSavedYet => tracing::warn!(
                application,
                session = self.session.public(),
                "new tokens cannot be saved now, it is tried again"
            ),
            Note::NotSaved => tracing::error!(
                application,
                session = self.session.public(),
                "new tokens could not be saved in time and are lost; the user may have to sign in again"
            ),
        }
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRng.fill(&mut bytes);
    bytes
}

fn jittered(pause: Duration) -> Duration {
    let [byte] = random::<1>();
    pause / 2 + (pause / 2).mul_f64(f64::from(byte) / 255.0)
}

fn elapsed() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

struct StoredWorld {
    common: Common,
    held: StoredSession,
}

/// New tokens, and the version of the record that will have them.
struct NewTokens {
    refreshed: Refreshed,
    version: RecordVersion,
}

impl StoredWorld {
    async fn reload(&self, known: &StoredSession) -> Result<Option<StoredSession>, Error> {
        let common = &self.common;
        let record = common.store.load(known.key()).await?;
        Ok(record.and_then(|record| common.agent.handler.reopened(known, &record)))
    }
}

impl World for StoredWorld {
    type State = StoredSession;
    type Fresh = NewTokens;

    async fn load(&self) -> Result<Option<StoredSession>, Error> {
        self.reload(&self.held).await
    }

    fn is_newer(&self, held: &StoredSession, loaded: &StoredSession) -> bool {
        loaded.is_newer_than(held)
    }

    async fn acquire(&self, holder: Holder, life: Duration) -> Result<Lease, Error> {
        self.common.acquire(holder, life).await
    }

    async fn release(&self, holder: Holder, rest: Duration) -> Result<(), Error> {
        self.common.release(holder, rest).await
    }

    async fn send(&self, state: &StoredSession) -> Result<NewTokens, Error> {
        let common = &self.common;
        let redemption = common
            .agent
            .handler
            .stored_redemption(state, common.shared.clock.now())?;
        let refreshed = common.redeem(&redemption).await?;
        let version = RecordVersion(u64::from_be_bytes(random()));
        Ok(NewTokens { refreshed, version })
    }

    async fn save(&self, base: &StoredSession, fresh: &NewTokens) -> Result<Saved<StoredSession>, Error> {
        let common = &self.common;
        let (handler, now) = (&common.agent.handler, common.shared.clock.now());
        let renewed = handler.renewed(base, &fresh.refreshed, fresh.version, now);
        let record = handler.record(&renewed, now, &mut SystemRng)?;
        match common.store.replace(base.key(), base.version(), &record).await? {
            Replaced::Yes => {
                note_clocks(&common.shared, &common.agent, &renewed);
                Ok(Saved::Yes(renewed))
            }
            Replaced::Changed => Ok(match self.reload(base).await? {
                Some(state) => Saved::Changed(state),
                None => Saved::Gone,
            }),
            Replaced::Gone => Ok(Saved::Gone),
        }
    }

    async fn discard(&self, fresh: NewTokens) {
        let common = &self.common;
        revoke_all(&common.shared, &common.agent, fresh.refreshed.revocations()).await;
    }

    async fn end(&self, state: &StoredSession) -> Result<Ended<StoredSession>, Error> {
        let common = &self.common;
        match common.store.delete_at(state.key(), state.version()).await? {
            Replaced::Yes | Replaced::Gone => {
                common.shared.ends.end(common.session.0);
                common
                    .store
                    .announce(&[Announced::Session(common.session)])
                    .await?;
                Ok(Ended::Yes)
            }
            Replaced::Changed => Ok(match self.reload(state).await? {
                Some(state) => Ended::Changed(state),
                None => Ended::Yes,
            }),
        }
    }

    async fn pause(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }

    fn jittered(&self, pause: Duration) -> Duration {
        jittered(pause)
    }

    fn holder(&self) -> Holder {
        Holder(random())
    }

    fn elapsed(&self) -> Duration {
        elapsed()
    }

    fn deadline(&self) -> Duration {
        self.common.deadline()
    }

    fn note(&self, note: Note) {
        self.common.note(note);
    }
}

struct SharedWorld {
    common: Common,
    held: Refresh,
}

impl SharedWorld {
    async fn has_ended(&self) -> Result<bool, Error> {
        let handler = &self.common.agent.handler;
        let times = self
            .common
            .store
            .marks(&handler.marks_of_refresh(&self.held))
            .await?;
        Ok(handler.refresh_has_ended(&self.held, &times))
    }
}

async fn remember(store: &dyn SessionStore, keys: &[EntryKey], sealed: &[u8]) -> Result<(), StoreError> {
    for key in keys {
        store.remember(key, sealed, MEMORY).await?;
    }
    Ok(())
}

impl World for SharedWorld {
    type State = Refresh;
    type Fresh = Refreshed;

    /// Along the chain of remembered refreshes to its end.
    async fn load(&self) -> Result<Option<Refresh>, Error> {
        let common = &self.common;
        let handler = &common.agent.handler;
        if self.has_ended().await? {
            return Ok(None);
        }
        let mut newest = self.held.clone();
        loop {
            let keys = handler.shared_refresh_keys(&newest);
            let found = common.store.recall(&keys).await?;
            let further = found
                .iter()
                .flatten()
                .find_map(|sealed| handler.follow_shared(&newest, sealed));
            match further {
                Some(further) => newest = further,
                None => return Ok(Some(newest)),
            }
        }
    }

    fn is_newer(&self, held: &Refresh, loaded: &Refresh) -> bool {
        loaded.hops() > held.hops() && loaded.is_fresh(self.common.shared.clock.now())
    }

    async fn acquire(&self, holder: Holder, life: Duration) -> Result<Lease, Error> {
        self.common.acquire(holder, life).await
    }

    async fn release(&self, holder: Holder, rest: Duration) -> Result<(), Error> {
        self.common.release(holder, rest).await
    }

    async fn send(&self, state: &Refresh) -> Result<Refreshed, Error> {
        let common = &self.common;
        let redemption = common.agent.handler.redemption(state);
        let redemption = redemption.ok_or(Error::Bug("there is no refresh token to redeem"))?;
        common.redeem(&redemption).await
    }

    async fn save(&self, base: &Refresh, fresh: &Refreshed) -> Result<Saved<Refresh>, Error> {
        let common = &self.common;
        let handler = &common.agent.handler;
        if let Some(sealed) = handler.share_refresh(base, fresh, &mut SystemRng) {
            let keys = handler.shared_refresh_keys(base);
            if let Err(error) = remember(&*common.store, &keys, &sealed).await {
                // The browser's cookie is where these tokens live; the memory is for late duplicates.
                common.note(Note::NotSavedYet);
                tracing::debug!(application = common.agent.id(), "{error}");
                let (store, busy) = (Arc::clone(&common.store), common.shared.unfinished.begin());
                common.shared.control.spawn(async move {
                    let _busy = busy;
                    for _ in 0..TRIES {
                        tokio::time::sleep(BETWEEN_TRIES).await;
                        if remember(&*store, &keys, &sealed).await.is_ok() {
                            return;
                        }
                    }
                });
                return Ok(Saved::Yes(base.after(fresh)));
            }
        }
        // signed out elsewhere while the provider was asked: nobody is to have these tokens
        match self.has_ended().await {
            Ok(true) => Ok(Saved::Gone),
            Ok(false) | Err(_) => Ok(Saved::Yes(base.after(fresh))),
        }
    }

    async fn discard(&self, fresh: Refreshed) {
        let common = &self.common;
        revoke_all(&common.shared, &common.agent, fresh.revocations()).await;
    }

    async fn end(&self, _: &Refresh) -> Result<Ended<Refresh>, Error> {
        // each browser learns it by itself, see the tombstones of refused refresh tokens
        Ok(Ended::Yes)
    }

    async fn pause(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }

    fn jittered(&self, pause: Duration) -> Duration {
        jittered(pause)
    }

    fn holder(&self) -> Holder {
        Holder(random())
    }

    fn elapsed(&self) -> Duration {
        elapsed()
    }

    fn deadline(&self) -> Duration {
        self.common.deadline()
    }

    fn note(&self, note: Note) {
        self.common.note(note);
    }
}

/// How long a refresh is remembered for late duplicates: as long as a replica remembers its own.
const MEMORY: Duration = Duration::from_secs(60);

/// How often, and how far apart, it is tried again: as long as the memory would last.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_secs(3);
