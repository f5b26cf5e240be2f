//! `Handler`: one application's configuration and keys, and every question a shell may ask.
//!
//! The methods live in `flow/`; this is the list of them, in the order of a user's day:
//!
//! | question | method | answer |
//! |---|---|---|
//! | begin a sign-in (fetch) | [`login_start`](Handler::login_start) | a step to the [`AgentResponse`](crate::flow::AgentResponse) |
//! | begin a sign-in (navigation) | [`login`](Handler::login) | a step to the [`AgentResponse`](crate::flow::AgentResponse) |
//! | the provider returned (navigation) | [`callback`](Handler::callback) | a step to what [`Arrived`](crate::flow::Arrived) |
//! | the provider returned (a form) | [`form_post`](Handler::form_post) | a step to what [`Arrived`](crate::flow::Arrived) |
//! | the provider returned (fetch) | [`login_end`](Handler::login_end) | a step to what [`Arrived`](crate::flow::Arrived) |
//! | which sign-in that belongs to | [`arrive`](Handler::arrive) | [`Arrival`](crate::flow::Arrival) |
//! | redeem the code | [`redeem`](Handler::redeem), [`complete`](Handler::complete) | a step, then a step to the answer |
//! | an API call (hot path) | [`api`](Handler::api) | [`Decision`](crate::flow::Decision) |
//! | a call that carries the client's own token | [`client_token`](Handler::client_token), [`Decision::attach`](crate::flow::Decision::attach) | a step, then the token in place |
//! | what its token is worth | [`introspect`](Handler::introspect) | a step to [`Introspected`](crate::flow::Introspected) |
//! | who is signed in | [`session`](Handler::session) | [`AgentResponse`](crate::flow::AgentResponse) |
//! | who is signed in, for clients of Duende BFF | [`user`](Handler::user) | [`AgentResponse`](crate::flow::AgentResponse) |
//! | new tokens | [`refresh`](Handler::refresh), [`refresh_tokens`](Handler::refresh_tokens), [`refreshed`](Handler::refreshed) | a plan, a step, the answer |
//! | sign out | [`logout`](Handler::logout), [`revoke`](Handler::revoke) | the answer, then steps |
//! | sign out by a link, for the same | [`logout_link`](Handler::logout_link) | [`AgentResponse`](crate::flow::AgentResponse) |
//! | at the provider and back | [`logout_continue`](Handler::logout_continue), [`logout_callback`](Handler::logout_callback) | [`AgentResponse`](crate::flow::AgentResponse) |
//! | the provider ended sessions | [`backchannel_logout`](Handler::backchannel_logout), [`provider_logout`](Handler::provider_logout), [`frontchannel_logout`](Handler::frontchannel_logout) | a step, then a [`ProviderLogout`](crate::flow::ProviderLogout) |
//! | a user's sessions end elsewhere | [`user_logout`](Handler::user_logout), [`sid_logout`](Handler::sid_logout) | [`ProviderLogout`](crate::flow::ProviderLogout) |
//!
//! It holds no provider state (that is an argument, see [`Context`](crate::step::Context)) and
//! does no I/O.

use std::sync::Arc;

use crate::config::{Application, Callback, Provider, ProviderName};
use crate::cookie::{Cookies, Jar, Kind};
use crate::error::Error;
use crate::flow::Seen;
use crate::seal::{Associated, KeyRing, Opened, Purpose};

impl MemoryKey {
    /// A key of these bytes, for whoever keeps a memory elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// One application's decisions.
pub struct Handler {
    pub(crate) app: Arc<Application>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) keys: Arc<KeyRing>,
    /// The ring of the short memory: see [`Handler::with_memory_keys`].
    pub(crate) memory_keys: Arc<KeyRing>,
    pub(crate) cookies: Cookies,
}

/// Names an entry of the short memory (refresh and redemption): a keyed digest, no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MemoryKey(pub(crate) [u8; 32]);

impl Handler {
    /// A handler for one application.
    ///
    /// # Errors
    /// [`Error::Bug`] when the application has no provider (then it is for a
    /// [`ProxyHandler`](crate::flow::ProxyHandler)), or when its base path cannot be a cookie's path,
    /// which a checked configuration rules out.
    pub fn new(app: Arc<Application>, keys: Arc<KeyRing>) -> Result<Self, Error> {
        let provider = app
            .provider
            .clone()
            .ok_or(Error::Bug("an application without a provider has no agent"))?;
        Self::at(app, provider, keys)
    }

    /// The same for the provider of a name, where the application has several.
    ///
    /// # Errors
    /// As [`new`](Self::new), also when there is none of that name.
    pub fn for_provider(
        app: Arc<Application>,
        name: &ProviderName,
        keys: Arc<KeyRing>,
    ) -> Result<Self, Error> {
        let provider = app
            .provider_named(name.as_str())
            .cloned()
            .ok_or(Error::Bug("an application has no provider of this name"))?;
        Self::at(app, provider, keys)
    }

    fn at(app: Arc<Application>, provider: Arc<Provider>, keys: Arc<KeyRing>) -> Result<Self, Error> {
        let cookies = Cookies::for_provider(&app, Some(&provider))?;
        Ok(Self {
            app,
            provider,
            memory_keys: keys.clone(),
            keys,
            cookies,
        })
    }

    /// Another key ring for the short memory than for the cookies.
    ///
    /// The memory is found by keyed digests, so whoever shares one has to compute them under the
    /// same key. A process that takes on new keys while it runs keeps its memory this way: two
    /// refreshes with one refresh token find each other although keys were rotated between them.
    #[must_use]
    pub fn with_memory_keys(self, memory_keys: Arc<KeyRing>) -> Self {
        Self { memory_keys, ..self }
    }

    /// The application it decides for.
    pub fn application(&self) -> &Arc<Application> {
        &self.app
    }

    /// Its provider.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.provider
    }

    /// The cookies of a request.
    pub(crate) fn jar<'a>(&self, seen: impl Into<Seen<'a>>) -> Jar<'a> {
        let seen = seen.into();
        Jar::of(seen.headers).with_view(seen.view)
    }

    /// Whether a cookie of this kind was sent, whole or in chunks, whatever is in it.
    pub(crate) fn shows(&self, kind: Kind, jar: &Jar<'_>) -> bool {
        self.cookies.shows(kind, jar)
    }

    /// The redirect URI registered at the provider.
    pub(crate) fn redirect_uri(&self) -> String {
        match &self.app.callback {
            Callback::Agent => match &self.provider.name {
                None => self.agent_url("callback"),
                // one for each issuer (RFC 9700 §4.4.2.2)
                Some(name) => self.agent_url(&format!("callback/{}", name.as_str())),
            },
            Callback::Spa(url) => url.as_str().to_owned(),
        }
    }

    /// An endpoint of the agent as an absolute URL.
    pub(crate) fn agent_url(&self, endpoint: &str) -> String {
        format!("{}{}/{endpoint}", self.app.url.as_str(), self.app.base_path)
    }

    /// Seals an entry of the short memory.
    pub(crate) fn seal_memory(
        &self,
        key: &MemoryKey,
        plaintext: &[u8],
        rng: &mut dyn crate::rng::Rng,
    ) -> Vec<u8> {
        self.memory_keys
            .seal(Purpose::Memory, &self.memory(key), plaintext, rng)
    }

    /// Opens an entry of the short memory.
    pub(crate) fn open_memory(&self, key: &MemoryKey, sealed: &[u8]) -> Option<Opened> {
        self.memory_keys.open(Purpose::Memory, &self.memory(key), sealed)
    }

    fn memory<'a>(&'a self, key: &'a MemoryKey) -> Associated<'a> {
        Associated {
            application: &self.app.id,
            name: "memory",
            chunk_header: &key.0,
        }
    }
}
