//! What a store says of the sessions that a request's cookies name.
//!
//! The core asks ([`Asks`], [`Lookup`]), a shell reads, and gives back what it read (a `StoreView`
//! for the agent, [`KnownSession`] for API calls). What a store does not say is not known: a session
//! whose record is gone has ended. Nothing here reads a store, and a store is never believed about
//! who somebody is: parts open under our keys and the cookie's handle alone.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::assurance::{Assurance, DemandId, Demands};
use crate::config::{ApiId, Application, Introspection, Route, SessionStorage};
use crate::cookie::Kind;
use crate::flow::names::OwnerKey;
use crate::flow::status::claims_of;
use crate::flow::{Asks, Extended, Refresh};
use crate::handler::Handler;
use crate::headers::Authorization;
use crate::oauth::plain::NOBODY;
use crate::rng::Rng;
use crate::seal::{Associated, Handle, Opens, Part, Purpose, digest_of};
use crate::session::metadata::{PublicSessionId, SessionMetadata};
use crate::session::{AccessPart, Anchor, ApiCredential, Facts, Holds, Session, SessionId, TRANSACTION_LIFE};
use crate::store::{IndexKey, Mark, MarkKey, Record, RecordKey};
use crate::time::UnixTime;

/// What an API call has to be answered with before it can be decided.
#[derive(Clone)]
pub struct Lookup {
    id: SessionId,
    wanted: Wanted,
}

/// Tells look-ups of records apart: those of one name have one answer, and wait for the same tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LookupName {
    key: RecordKey,
    api: Option<ApiId>,
    /// Whether the route demands anything, and what of it is judged at a refresh.
    demands: (bool, Option<DemandId>),
    /// Whose its token has to be.
    whose: Option<DemandId>,
}

#[derive(Clone)]
enum Wanted {
    Record {
        key: RecordKey,
        handle: Handle,
        /// The token of the record that is known is over.
        expired: bool,
        /// Whose token the call needs, where that is not the session's own.
        api: Option<ApiId>,
        /// What the call's route demands.
        demands: Option<Arc<Demands>>,
        /// What has to be asked about its token, which says whose it has to be.
        introspection: Option<Arc<Introspection>>,
    },
    Marks {
        keys: Vec<MarkKey>,
        created_at: UnixTime,
    },
}

impl Lookup {
    pub(crate) fn record_of(id: SessionId, handle: &Handle, app: &Application, expired: bool) -> Self {
        let wanted = Wanted::Record {
            key: handle.record_key(&app.id),
            handle: handle.clone(),
            expired,
            api: None,
            demands: None,
            introspection: None,
        };
        Self { id, wanted }
    }

    /// The same for a call to a route, which may need an API's token and demand more.
    pub(crate) fn for_route(mut self, route: &Route) -> Self {
        if let Wanted::Record {
            api,
            demands,
            introspection,
            ..
        } = &mut self.wanted
        {
            *api = route.token.map(|token| token.api);
            demands.clone_from(&route.demands);
            introspection.clone_from(&route.introspection);
        }
        self
    }

    /// Whose token the call needs, where that is not the session's own.
    pub fn api(&self) -> Option<ApiId> {
        match &self.wanted {
            Wanted::Record { api, .. } => *api,
            Wanted::Marks { .. } => None,
        }
    }

    /// What it has in common with every look-up that may share its answer; none where it is of marks.
    pub fn name(&self) -> Option<LookupName> {
        match &self.wanted {
            Wanted::Record {
                key,
                api,
                demands,
                introspection,
                ..
            } => Some(LookupName {
                key: *key,
                api: *api,
                demands: (
                    demands.is_some(),
                    demands.as_ref().and_then(|demands| demands.id()),
                ),
                whose: introspection.as_ref().and_then(|asked| asked.whose.id()),
            }),
            Wanted::Marks { .. } => None,
        }
    }

    fn demands(&self) -> impl Iterator<Item = &Demands> {
        let (demands, introspection) = match &self.wanted {
            Wanted::Record {
                demands,
                introspection,
                ..
            } => (demands.as_deref(), introspection.as_deref()),
            Wanted::Marks { .. } => (None, None),
        };
        let whose = introspection.map(|asked| &asked.whose);
        demands.into_iter().chain(whose)
    }

    pub(crate) fn marks_of(id: SessionId, facts: &Facts) -> Self {
        let wanted = Wanted::Marks {
            keys: marks_of(id, facts),
            created_at: facts.created_at,
        };
        Self { id, wanted }
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.id
    }

    /// The record to load, if it is one.
    pub fn record(&self) -> Option<&RecordKey> {
        match &self.wanted {
            Wanted::Record { key, .. } => Some(key),
            Wanted::Marks { .. } => None,
        }
    }

    /// Otherwise the marks to look at.
    pub fn marks(&self) -> &[MarkKey] {
        match &self.wanted {
            Wanted::Record { .. } => &[],
            Wanted::Marks { keys, .. } => keys,
        }
    }

    /// Whether the session needs new tokens before the call can pass.
    pub fn wants_refresh(&self) -> bool {
        matches!(self.wanted, Wanted::Record { expired: true, .. })
    }

    /// The same question, as if nothing had been known.
    pub(crate) fn forgetting(mut self) -> Self {
        if let Wanted::Record { expired, .. } = &mut self.wanted {
            *expired = false;
        }
        self
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        match &self.wanted {
            Wanted::Record { handle, .. } => Some(handle),
            Wanted::Marks { .. } => None,
        }
    }

    /// What the marks, in the order of [`marks`](Self::marks), say of the session.
    pub fn answered_by_marks(&self, times: &[Option<UnixTime>], now: UnixTime) -> KnownSession {
        let state = match &self.wanted {
            Wanted::Marks { keys, created_at } if keys.len() == times.len() => {
                match times.iter().flatten().any(|at| at >= created_at) {
                    true => Known::Ended("signed out"),
                    false => Known::Clear,
                }
            }
            Wanted::Marks { .. } | Wanted::Record { .. } => Known::Ended("it cannot be told"),
        };
        KnownSession {
            id: self.id,
            handle: None,
            read_at: now,
            state,
        }
    }
}

/// What is known of a session for a moment.
#[derive(Clone)]
pub struct KnownSession {
    pub(crate) id: SessionId,
    /// By which handle its record was found and opened.
    pub(crate) handle: Option<Handle>,
    pub(crate) read_at: UnixTime,
    pub(crate) state: Known,
}

impl KnownSession {
    /// Whether it was found by this handle: an id alone is no proof of anything, whoever sealed it.
    pub(crate) fn is_of(&self, handle: &Handle) -> bool {
        self.handle.as_ref().is_some_and(|known| known.is_same(handle))
    }

    /// Whether the call that looked it up has to wait for new tokens: the session lives, and the token
    /// that it needs does not.
    pub fn wants_tokens(&self, lookup: &Lookup, now: UnixTime) -> bool {
        let live = match &self.state {
            Known::Live(live) => live,
            Known::Clear | Known::Ended(_) => return false,
        };
        (live.token_until(lookup.api()) <= now || live.is_not_judged_by(lookup.demands()))
            && live.is_renewable()
            && live.ends_at > now
            && live.last_active.plus(live.idle) > now
    }

    /// Whether its tokens are near enough to their end to be renewed beside a call.
    pub fn nears_its_end(&self, now: UnixTime) -> bool {
        matches!(&self.state, Known::Live(live) if live.refresh_at <= now)
    }

    /// The same, just renewed: a call waits for that once.
    #[must_use]
    pub fn just_renewed(mut self) -> Self {
        if let Known::Live(live) = &mut self.state {
            live.just_renewed = true;
        }
        self
    }

    /// When it ends whatever the user does, and if the user does nothing more; none where that is not
    /// known.
    pub fn clocks(&self) -> Option<Extended> {
        match &self.state {
            Known::Live(live) => Some(Extended {
                session: self.id,
                ends_at: live.ends_at,
                idle_ends_at: live.last_active.plus(live.idle).min(live.ends_at),
            }),
            Known::Clear | Known::Ended(_) => None,
        }
    }
}

#[derive(Clone)]
pub(crate) enum Known {
    /// Nothing says that it has ended; its cookie has everything else.
    Clear,
    /// It has, for this reason.
    Ended(&'static str),
    /// Its record.
    Live(Live),
}

#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) authorization: Authorization,
    pub(crate) access_expires_at: UnixTime,
    pub(crate) refresh_at: UnixTime,
    pub(crate) ends_at: UnixTime,
    pub(crate) last_active: UnixTime,
    pub(crate) idle: Duration,
    /// It was renewed for the call that it was looked up for: what is over all the same was over when
    /// the provider gave it.
    pub(crate) just_renewed: bool,
    /// Somebody of this core asked for new tokens a moment ago.
    pub(crate) renewing: bool,
    /// How the user authenticated, in the terms of what the routes demanded when it was written.
    pub(crate) assurance: Option<Arc<Assurance>>,
    /// The tokens of APIs that have their own.
    pub(crate) apis: Arc<[ApiCredential]>,
}

impl Live {
    pub(crate) fn of_api(&self, api: ApiId) -> Option<&ApiCredential> {
        self.apis.iter().find(|credential| credential.api == api)
    }

    /// Whether new tokens can be had: without a refresh token there is no time to renew at.
    pub(crate) fn is_renewable(&self) -> bool {
        self.refresh_at != UnixTime(u64::MAX)
    }

    /// Whether new tokens have to be had before a route's demands can be judged.
    pub(crate) fn is_not_judged_by<'a>(&self, mut demands: impl Iterator<Item = &'a Demands>) -> bool {
        let unknown = demands.any(|demands| !demands.knows(self.assurance.as_deref()));
        unknown && self.is_renewable()
    }

    /// Until when calls pass with what is known: no longer than now where an API has nothing.
    pub(crate) fn token_until(&self, api: Option<ApiId>) -> UnixTime {
        match api {
            None => self.access_expires_at,
            Some(api) => self.of_api(api).map_or(UnixTime(0), |known| known.honoured_until),
        }
    }
}

/// What the record, if there is one, says of the session that was looked up.
pub(crate) fn answered_by_record(
    lookup: &Lookup,
    record: Option<&Record>,
    app: &Application,
    keys: &impl Opens,
    now: UnixTime,
) -> KnownSession {
    let state = match (record, lookup.handle()) {
        (Some(record), Some(handle)) => keys
            .open_part(Part::Access, handle, &app.id, &record.access)
            .and_then(|opened| AccessPart::decode(opened.plaintext()))
            .filter(|part| part.id == lookup.id)
            .map_or(Known::Ended("its record does not open"), |part| {
                Known::Live(Live {
                    authorization: part.authorization,
                    access_expires_at: part.access_expires_at,
                    refresh_at: part.refresh_at,
                    ends_at: part.ends_at,
                    last_active: record.last_active,
                    idle: part.idle,
                    just_renewed: false,
                    renewing: false,
                    assurance: part.assurance.map(Arc::new),
                    apis: part.apis.into(),
                })
            }),
        _ => Known::Ended(GONE),
    };
    KnownSession {
        id: lookup.id,
        handle: lookup.handle().cloned(),
        read_at: now,
        state,
    }
}

/// The names under which a session in cookies may be marked as ended.
pub(super) fn marks_of(id: SessionId, facts: &Facts) -> Vec<MarkKey> {
    let own = session_mark(id);
    [own, facts.user].into_iter().chain(facts.at_provider).collect()
}

fn session_mark(id: SessionId) -> MarkKey {
    MarkKey(digest_of("session mark", &[&id.0]))
}

impl Handler {
    /// What a store has to be asked before an agent request with these headers can be answered.
    pub fn asks(&self, headers: &HeaderMap) -> Asks {
        let mut asks = Asks::default();
        if self.app.session.storage.settings().is_none() {
            return asks;
        }
        for opened in self.cookies.open(Kind::Access, &self.jar(headers), &self.keys) {
            let Some(anchor) = Anchor::decode(opened.plaintext()) else {
                continue;
            };
            match &anchor.holds {
                Holds::Handle(handle) => {
                    let key = handle.record_key(&self.app.id);
                    if !asks.records.contains(&key) {
                        asks.records.push(key);
                    }
                }
                Holds::Token(_) | Holds::Nothing => {
                    let facts = anchor.facts.iter();
                    let names = facts.flat_map(|facts| marks_of(anchor.id, facts));
                    asks.marks.extend(names);
                }
            }
        }
        asks
    }

    /// The mark that says that this session in cookies has ended.
    pub fn end_mark(&self, id: SessionId) -> Mark {
        Mark {
            key: session_mark(id),
            // whenever it began
            at: UnixTime(u64::MAX >> 1),
            life: self.mark_life(),
        }
    }

    /// What a cookie has to say of its session so that it can be ended without the cookie.
    pub(crate) fn facts_of(&self, session: &Session) -> Option<Facts> {
        let storage = &self.app.session.storage;
        if !matches!(storage, SessionStorage::CookieWithRevocations(_)) {
            return None;
        }
        let mut names = self.names_of(session).into_iter();
        Some(Facts {
            created_at: session.created_at,
            user: names.next()?.mark(),
            at_provider: names.next().map(OwnerKey::mark),
        })
    }

    /// Under which names a session can be found without its handle: whose it is, and its public id.
    pub(crate) fn indexes_of(&self, session: &Session) -> Vec<IndexKey> {
        let owners = self.names_of(session).into_iter().map(OwnerKey::index);
        owners
            .chain([self.public_id_index(PublicSessionId::of(session.id))])
            .collect()
    }

    /// The index that leads to the one session with this public id. Browsers and logs show that id, so
    /// a digest hides it as well as a keyed hash would, and no rotation of the keys changes it.
    pub fn public_id_index(&self, id: PublicSessionId) -> IndexKey {
        let application = self.app.id.as_str().as_bytes();
        IndexKey(digest_of("public session id", &[application, &id.bytes()]))
    }

    pub(crate) fn marks_of_session(&self, session: &Session) -> Vec<MarkKey> {
        self.names_of(session).into_iter().map(OwnerKey::mark).collect()
    }

    /// The user's name, then the session's at the provider, if it has one there.
    fn names_of(&self, session: &Session) -> Vec<OwnerKey> {
        let claims = claims_of(&session.tokens.id_token).unwrap_or_default();
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
        // of several tenants each has users and sessions of its own, so the token's own issuer counts
        let issuer = text("iss").unwrap_or(&self.provider.issuer);
        let owner = text("sub").or_else(|| text(NOBODY));
        let user = owner.and_then(|sub| self.user_keys(issuer, sub).into_iter().next());
        let at_provider = text("sid").and_then(|sid| self.sid_keys(issuer, sid).into_iter().next());
        user.into_iter().chain(at_provider).collect()
    }

    /// What a record is listed by, under a key of the server's alone.
    pub(crate) fn seal_metadata(
        &self,
        session: &Session,
        user_agent: Option<String>,
        key: &RecordKey,
        rng: &mut dyn Rng,
    ) -> Vec<u8> {
        let metadata = SessionMetadata {
            id: session.id,
            created_at: session.created_at,
            last_active: session.last_active,
            user_agent,
        };
        self.keys
            .seal(Purpose::Metadata, &self.metadata_of(key), &metadata.encode(), rng)
    }

    /// What a record is listed by; none if it does not open.
    pub fn metadata(&self, key: &RecordKey, record: &Record) -> Option<SessionMetadata> {
        let opened = self
            .keys
            .open(Purpose::Metadata, &self.metadata_of(key), &record.metadata)?;
        SessionMetadata::decode(opened.plaintext(), record.last_active)
    }

    fn metadata_of<'a>(&'a self, key: &'a RecordKey) -> Associated<'a> {
        Associated {
            application: &self.app.id,
            name: "record metadata",
            chunk_header: &key.0,
        }
    }

    /// Under which names the session of a refresh may have ended, its own first.
    pub fn marks_of_refresh(&self, refresh: &Refresh) -> Vec<MarkKey> {
        let session = refresh.session();
        let own = session_mark(session.id);
        std::iter::once(own)
            .chain(self.marks_of_session(session))
            .collect()
    }

    /// Whether it has, by the times of those marks.
    pub fn refresh_has_ended(&self, refresh: &Refresh, times: &[Option<UnixTime>]) -> bool {
        times
            .iter()
            .flatten()
            .any(|at| *at >= refresh.session().created_at)
    }

    /// How long a mark has to be kept: as long as a session in cookies that began before it may live.
    /// Stored ones are found and removed; there a mark only has to outlive a sign-in that is on its way.
    pub(crate) fn mark_life(&self) -> Duration {
        match self.app.session.storage.is_stateful() {
            true => TRANSACTION_LIFE,
            false => self.app.session.absolute.saturating_add(SLACK),
        }
    }

    /// What the record, if there is one, says of the session that an API call looked up.
    pub fn know(&self, lookup: &Lookup, record: Option<&Record>, now: UnixTime) -> KnownSession {
        answered_by_record(lookup, record, &self.app, &self.keys, now)
    }
}

/// Clocks of replicas differ, and so do those of stores.
pub(crate) const SLACK: Duration = Duration::from_secs(120);

/// Why a session without a record is over.
pub(crate) const GONE: &str = "its record is gone: signed out, idle for too long, or ended elsewhere";
