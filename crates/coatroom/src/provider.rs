//! The OpenID Provider as seen from here: its metadata and keys, and the requests sent to it.
//!
//! One HTTP client for everything: TLS by rustls, no redirects, no cookies, no decompression, bounded
//! bodies, deadlines. Where this client has a certificate (RFC 8705) a second one of the same settings
//! shows it to the back channel; metadata and keys are fetched without. Discovery (RFC 8414, OIDC
//! Discovery §4) happens when it is first needed, by one caller for all, with exponential back-off; afterwards the metadata and the JWK set are renewed in
//! the background and the old ones stay in use while that fails. What a response means is never
//! decided here: [`Provider::drive`] hands it to the core. Nothing here logs a URL, header or body.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use coatroom_core::config;
use coatroom_core::error::Error;
use coatroom_core::oauth::{ProviderSnapshot, dpop};
use coatroom_core::step::{Context, MAX_RESPONSE, ProviderRequest, ProviderResponse, Reply, Step};
use coatroom_core::time::UnixTime;
use http::header::{ACCEPT, CONTENT_TYPE, DATE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;

use self::assertion::AssertionFile;
use self::client::{Settings, reason};
use crate::clock::{Clock, SystemRng};

mod assertion;
mod client;
mod metadata;

/// The client of one provider. Clones share everything.
///
/// Its connections belong to the runtime that polls its futures: call it from one runtime only.
#[derive(Clone)]
pub struct Provider {
    shared: Arc<Shared>,
}

/// What a readiness check says about a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether metadata and keys are known, fresh or not.
    pub ready: bool,
    /// What went wrong when they were last fetched, if it did. Our own words, never the provider's.
    pub last_error: Option<String>,
}

/// An answer as whoever examines a provider sees it, see [`Provider::look`].
pub struct Looked {
    /// The answer.
    pub response: ProviderResponse,
    /// What it says the time is (RFC 9110 §6.6.1), if it says so.
    pub date: Option<UnixTime>,
    /// Where it redirects to, if it does.
    pub location: Option<String>,
}

/// The HTTP client cannot be set up, for instance because the system has no CA certificates.
#[derive(Debug, thiserror::Error)]
#[error("the http client for the provider cannot be set up")]
pub struct SetupError(#[source] reqwest::Error);

struct Shared {
    /// For what everybody may fetch.
    client: reqwest::Client,
    /// For the back channel: the same, or one that shows our certificate.
    back_channel: reqwest::Client,
    settings: Settings,
    issuer: String,
    /// Where the metadata are, if not below the issuer.
    discovery: Option<Url>,
    /// What there is in place of ID tokens, if there are none.
    plain: Option<config::Plain>,
    /// The issuer that they must name.
    metadata_issuer: String,
    tenants: Option<config::Tenants>,
    profile: config::Profile,
    assertion: Option<AssertionFile>,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
    /// Held by whoever is fetching metadata or keys.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    /// The snapshot, and when it should be renewed.
    snapshot: Option<(Arc<ProviderSnapshot>, UnixTime)>,
    failure: Option<Failure>,
    /// When keys were last fetched on request.
    key_fetches: VecDeque<UnixTime>,
    /// How many attempts to fetch something have ended, well or not.
    attempts: u64,
    /// The newest nonce that it gave for DPoP proofs.
    dpop_nonce: Option<Arc<str>>,
}

/// The last attempt failed, and so did `count - 1` before it.
struct Failure {
    error: Error,
    count: u32,
    retry_at: UnixTime,
}

impl Provider {
    /// A client for the provider of `config`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SetupError`] when there are no CA certificates to trust, or one of the configured certificates
    /// or keys cannot be read.
    pub fn new(config: &config::Provider, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        Self::knowing(config, clock, Arc::default(), Arc::default()).map_err(SetupError)
    }

    fn knowing(
        config: &config::Provider,
        clock: Arc<dyn Clock>,
        state: Arc<Mutex<State>>,
        turn: Arc<tokio::sync::Mutex<()>>,
    ) -> Result<Self, reqwest::Error> {
        let (client, back_channel) = client::build(config)?;
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                back_channel,
                settings: Settings::of(config),
                issuer: config.issuer.clone(),
                discovery: config.habits.discovery.clone(),
                plain: config.plain.clone(),
                metadata_issuer: config.metadata_issuer(),
                tenants: config.habits.tenants.clone(),
                profile: config.profile,
                assertion: config.client_auth.assertion_file().map(AssertionFile::new),
                clock,
                state,
                turn,
            }),
        })
    }

    /// Whether what is known of the provider holds with these settings as well.
    fn is_at(&self, config: &config::Provider) -> bool {
        self.shared.issuer == config.issuer
            && self.shared.discovery == config.habits.discovery
            && self.shared.plain == config.plain
            && self.shared.tenants == config.habits.tenants
            && self.shared.profile == config.profile
    }

    /// The client that these settings make. At the same provider it goes on with what this one knows.
    ///
    /// # Errors
    /// Those of [`Provider::new`].
    pub(crate) fn successor(&self, config: &config::Provider) -> Result<Self, SetupError> {
        let (clock, shared) = (Arc::clone(&self.shared.clock), &self.shared);
        if !self.is_at(config) {
            return Self::new(config, clock);
        }
        let (state, turn) = (Arc::clone(&shared.state), Arc::clone(&shared.turn));
        let successor = Self::knowing(config, clock, state, turn).map_err(SetupError)?;
        // what failed may have failed by the old settings
        successor.shared.state().failure = None;
        Ok(successor)
    }

    /// Whether these settings make the same client, so that it can go on with what it knows.
    pub(crate) fn is_for(&self, config: &config::Provider) -> bool {
        let assertion = self.shared.assertion.as_ref().map(AssertionFile::path);
        self.is_at(config)
            && self.shared.settings == Settings::of(config)
            && assertion == config.client_auth.assertion_file()
    }

    /// Metadata and keys: at once if they are known, else by discovery. Callers that come while
    /// somebody discovers wait for the same outcome; after a failure callers fail at once until the
    /// back-off (1 s, doubling up to 30 s) is over.
    ///
    /// # Errors
    /// [`Error::ProviderUnavailable`] when the provider does not answer, [`Error::Provider`] when its
    /// answer cannot be used. Never once discovery has succeeded.
    pub async fn snapshot(&self) -> Result<Arc<ProviderSnapshot>, Error> {
        let snapshot = self.discovered().await?;
        Ok(self.shared.with_assertion(snapshot).await)
    }

    async fn discovered(&self) -> Result<Arc<ProviderSnapshot>, Error> {
        if let Some(outcome) = self.known() {
            return outcome;
        }
        let _turn = self.shared.turn.lock().await;
        if let Some(outcome) = self.known() {
            return outcome;
        }
        let outcome = self.shared.discover().await;
        self.shared.settle(outcome)
    }

    /// The snapshot if there is one already: for what must not wait for the provider. It holds no
    /// client assertion of somebody else's.
    pub fn known_snapshot(&self) -> Option<Arc<ProviderSnapshot>> {
        self.known()?.ok()
    }

    /// The snapshot with the JWK set fetched again, for a signature by an unknown key. At most three
    /// times in 30 s, since tokens of anybody can cause it; beyond that, and when fetching fails, it
    /// is the snapshot as it is. Callers that come while somebody fetches share the outcome.
    ///
    /// # Errors
    /// Those of [`Provider::snapshot`] as long as there is none.
    pub async fn fetch_keys(&self) -> Result<Arc<ProviderSnapshot>, Error> {
        let before = self.discovered().await?;
        let attempts = self.shared.state().attempts;
        let _turn = self.shared.turn.lock().await;
        let current = self.snapshot_or(&before);
        let somebody_tried_meanwhile = self.shared.state().attempts != attempts;
        if somebody_tried_meanwhile || !self.shared.may_fetch_keys() {
            return Ok(current);
        }
        let outcome = self.shared.keys(&current.metadata).await;
        let mut state = self.shared.state();
        state.attempts = state.attempts.wrapping_add(1);
        match outcome {
            Ok(keys) => {
                let mut renewed = (*current).clone();
                renewed.keys = Arc::new(keys);
                // or what was learned meanwhile is lost
                renewed.live.dpop_nonce.clone_from(&state.dpop_nonce);
                let renewed = Arc::new(renewed);
                if let Some((snapshot, _)) = &mut state.snapshot {
                    *snapshot = Arc::clone(&renewed);
                }
                Ok(renewed)
            }
            Err(error) => {
                let issuer = &self.shared.issuer;
                tracing::warn!(issuer, %error, "cannot fetch the provider's keys, keeping the old ones");
                Ok(current)
            }
        }
    }

    /// Sends one request. Whatever happens is a [`Reply`]; a redirect is a response like any other.
    ///
    /// A token request whose future is dropped may have been answered: spawn what must be completed.
    pub async fn send(&self, request: ProviderRequest) -> Reply {
        self.shared.send(&self.shared.back_channel, request).await
    }

    /// Sends one request and tells more of its answer than a conversation needs to know.
    ///
    /// # Errors
    /// Why there was no answer, in our own words.
    pub async fn look(&self, request: ProviderRequest) -> Result<Looked, &'static str> {
        let (response, headers) = self.shared.answer(&self.shared.client, request).await?;
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let date = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
        let since = date.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
        Ok(Looked {
            date: since.map(|since| UnixTime(since.as_secs())),
            location: text(LOCATION).map(str::to_owned),
            response,
        })
    }

    /// Carries out a conversation to its end. The one loop that there is.
    ///
    /// # Errors
    /// Those of [`Provider::snapshot`] before anything was sent, and whatever the core refuses.
    pub async fn drive<T: Send + 'static>(&self, step: Step<T>) -> Result<T, Error> {
        let mut step = step;
        let mut snapshot = match &step {
            Step::Done(_) => None,
            Step::Send(..) | Step::FetchKeys(_) => Some(self.snapshot().await?),
        };
        loop {
            let (reply, continuation) = match step {
                Step::Done(value) => return Ok(value),
                Step::Send(request, continuation) => {
                    let reply = self.send(request).await;
                    // with what the answer taught
                    snapshot = snapshot.map(|before| assertion::carried(&before, self.snapshot_or(&before)));
                    (reply, continuation)
                }
                Step::FetchKeys(continuation) => {
                    // beyond the limit it is the keys that are there: what was answered already,
                    // maybe the only good refresh token, must not wait for others' look-ups
                    if let Ok(fetched) = tokio::time::timeout(KEYS_LIMIT, self.fetch_keys()).await {
                        snapshot = Some(self.shared.with_assertion(fetched?).await);
                    }
                    (Reply::Keys, continuation)
                }
            };
            let Some(provider) = &snapshot else {
                return Err(Error::Bug("a finished conversation went on"));
            };
            let mut context = Context {
                provider,
                now: self.shared.clock.now(),
                rng: &mut SystemRng,
            };
            step = continuation.resume(reply, &mut context)?;
        }
    }

    /// The state for a readiness check. It starts nothing: ask for [`Provider::snapshot`] first, so
    /// that a provider which came back is noticed without a user.
    pub fn health(&self) -> Health {
        let state = self.shared.state();
        Health {
            ready: state.snapshot.is_some(),
            last_error: state.failure.as_ref().map(|failure| failure.error.to_string()),
        }
    }

    /// What is known without asking anybody: a snapshot, or that it is too early to ask again.
    fn known(&self) -> Option<Result<Arc<ProviderSnapshot>, Error>> {
        let now = self.shared.clock.now();
        let state = self.shared.state();
        let too_early = state.too_early(now);
        match &state.snapshot {
            Some((snapshot, stale_at)) => {
                if *stale_at <= now && too_early.is_none() {
                    self.renew();
                }
                Some(Ok(Arc::clone(snapshot)))
            }
            None => too_early.map(Err),
        }
    }

    fn snapshot_or(&self, otherwise: &Arc<ProviderSnapshot>) -> Arc<ProviderSnapshot> {
        let state = self.shared.state();
        Arc::clone(
            state
                .snapshot
                .as_ref()
                .map_or(otherwise, |(snapshot, _)| snapshot),
        )
    }

    /// Discovers again in the background, unless somebody is at it.
    fn renew(&self) {
        let Ok(turn) = Arc::clone(&self.shared.turn).try_lock_owned() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let outcome = shared.discover().await;
            if let Err(error) = shared.settle(outcome) {
                tracing::warn!(issuer = shared.issuer, %error, "cannot renew the provider's metadata, keeping the old one");
            }
            drop(turn);
        });
    }
}

impl Shared {
    /// With the client assertion that somebody else made, as it is now, where that is how we authenticate.
    async fn with_assertion(&self, snapshot: Arc<ProviderSnapshot>) -> Arc<ProviderSnapshot> {
        let Some(file) = &self.assertion else {
            return snapshot;
        };
        let mut snapshot = (*snapshot).clone();
        snapshot.live.client_assertion = file.read(&self.issuer).await;
        Arc::new(snapshot)
    }

    async fn discover(&self) -> Result<ProviderSnapshot, Error> {
        let metadata = self
            .metadata()
            .await?
            .for_plain(self.plain.as_ref())
            .for_tenants(self.tenants.clone())
            .for_profile(self.profile);
        let keys = self.keys(&metadata).await?;
        Ok(ProviderSnapshot::new(metadata, keys))
    }

    /// Keeps the outcome of a discovery.
    fn settle(&self, outcome: Result<ProviderSnapshot, Error>) -> Result<Arc<ProviderSnapshot>, Error> {
        let now = self.clock.now();
        let mut state = self.state();
        state.attempts = state.attempts.wrapping_add(1);
        match outcome {
            Ok(mut snapshot) => {
                snapshot.live.dpop_nonce.clone_from(&state.dpop_nonce);
                let snapshot = Arc::new(snapshot);
                state.snapshot = Some((Arc::clone(&snapshot), now.plus(FRESH)));
                state.failure = None;
                Ok(snapshot)
            }
            Err(error) => {
                let count = state
                    .failure
                    .as_ref()
                    .map_or(0, |failure| failure.count)
                    .saturating_add(1);
                let retry_at = now.plus(back_off(count));
                state.failure = Some(Failure {
                    error: error.clone(),
                    count,
                    retry_at,
                });
                Err(state.too_early(now).unwrap_or(error))
            }
        }
    }

    /// Takes one of the fetches that may be requested.
    fn may_fetch_keys(&self) -> bool {
        let now = self.clock.now();
        let fetches = &mut self.state().key_fetches;
        // What lies in the future was noted by a clock that was set back since.
        fetches.retain(|at| *at <= now && at.plus(KEY_FETCH_WINDOW) > now);
        let allowed = fetches.len() < KEY_FETCHES;
        if allowed {
            fetches.push_back(now);
        }
        allowed
    }

    async fn get(&self, what: &str, url: Url) -> Result<ProviderResponse, Error> {
        let request = ProviderRequest {
            method: Method::GET,
            url,
            headers: vec![(ACCEPT, HeaderValue::from_static("application/json"))],
            body: Vec::new().into(),
        };
        let unavailable = |why: &str| Error::ProviderUnavailable {
            reason: format!("{what}: {why}"),
            // Replaced by the back-off's.
            retry_after: 1,
        };
        let response = match self.send(&self.client, request).await {
            Reply::Response(response) => response,
            Reply::Unreachable(why) => return Err(unavailable(why)),
            Reply::Keys => return Err(Error::Bug("sent a request, got keys")),
        };
        let status = response.status;
        if status == StatusCode::OK {
            Ok(response)
        } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            Err(unavailable(&format!("status {}", status.as_u16())))
        } else {
            Err(Error::Provider(format!(
                "{what}: expected status 200, got {}; check `issuer`",
                status.as_u16()
            )))
        }
    }

    async fn send(&self, client: &reqwest::Client, request: ProviderRequest) -> Reply {
        // what is fetched may be anywhere, on another server with nonces of its own
        let is_post = request.method == Method::POST;
        match self.answer(client, request).await {
            Ok((response, _)) => {
                if is_post {
                    self.state().learn(response.dpop_nonce.as_deref());
                }
                Reply::Response(response)
            }
            Err(why) => Reply::Unreachable(why),
        }
    }

    async fn answer(
        &self,
        client: &reqwest::Client,
        request: ProviderRequest,
    ) -> Result<(ProviderResponse, HeaderMap), &'static str> {
        let mut outgoing = reqwest::Request::new(request.method, request.url);
        outgoing.headers_mut().extend(request.headers);
        if !request.body.is_empty() {
            // Zeroed when the last reference is dropped.
            *outgoing.body_mut() = Some(Bytes::from_owner(request.body).into());
        }
        exchange(client, outgoing).await.map_err(|broken| match broken {
            Broken::TooLong => "its answer is longer than 1 mib",
            Broken::Transport(error) => reason(&error),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn exchange(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> Result<(ProviderResponse, HeaderMap), Broken> {
    let mut response = client.execute(request).await.map_err(Broken::Transport)?;
    let announced = response
        .content_length()
        .map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced > MAX_RESPONSE {
        return Err(Broken::TooLong);
    }
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let (status, content_type) = (response.status(), content_type.map(str::to_owned));
    let dpop_nonce = response
        .headers()
        .get(dpop::DPOP_NONCE)
        .and_then(|value| value.to_str().ok());
    let dpop_nonce = dpop_nonce.map(str::to_owned);
    let mut answer = ProviderResponse {
        status,
        content_type,
        dpop_nonce,
        // With room for an ordinary answer, so that growing leaves few copies of a token behind.
        body: Vec::with_capacity(announced.max(ORDINARY_RESPONSE)).into(),
    };
    while let Some(chunk) = response.chunk().await.map_err(Broken::Transport)? {
        if chunk.len() > MAX_RESPONSE.saturating_sub(answer.body.len()) {
            return Err(Broken::TooLong);
        }
        answer.body.extend_from_slice(&chunk);
    }
    Ok((answer, std::mem::take(response.headers_mut())))
}

enum Broken {
    TooLong,
    Transport(reqwest::Error),
}

impl State {
    /// Keeps the nonce that an answer carried for the next DPoP proof.
    fn learn(&mut self, nonce: Option<&str>) {
        let Some(nonce) = nonce.and_then(dpop::nonce).map(Some) else {
            return;
        };
        if self.dpop_nonce == nonce {
            return;
        }
        if let Some((snapshot, _)) = &mut self.snapshot {
            Arc::make_mut(snapshot).live.dpop_nonce.clone_from(&nonce);
        }
        self.dpop_nonce = nonce;
    }

    /// The last failure, with the time that is left, while it is too early to try again.
    fn too_early(&self, now: UnixTime) -> Option<Error> {
        let failure = self.failure.as_ref()?;
        let left = failure.retry_at.seconds_from(now);
        // More than any back-off is left only when the clock was set back.
        let left = u32::try_from(left)
            .ok()
            .filter(|left| (1..=MAX_BACK_OFF).contains(left))?;
        Some(match &failure.error {
            Error::ProviderUnavailable { reason, .. } => Error::ProviderUnavailable {
                reason: reason.clone(),
                retry_after: left,
            },
            other => other.clone(),
        })
    }
}

/// 1 s after the first failure, doubling.
fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(5);
    Duration::from_secs((1_u64 << doublings).min(MAX_BACK_OFF.into()))
}

/// How long metadata and keys are fresh.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// The longest wait between two attempts, in seconds.
const MAX_BACK_OFF: u32 = 30;

/// How often keys are fetched on request within [`KEY_FETCH_WINDOW`].
const KEY_FETCHES: usize = 3;

/// See [`KEY_FETCHES`].
const KEY_FETCH_WINDOW: Duration = Duration::from_secs(30);

/// How long a conversation waits for the provider's keys.
pub(crate) const KEYS_LIMIT: Duration = Duration::from_secs(5);

/// An answer of this many bytes is read without growing its buffer.
const ORDINARY_RESPONSE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use std::net::Ipv4Addr;

    use coatroom_core::secret::Secret;
    use http::{HeaderName, Response};
    use http_body_util::combinators::BoxBody;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use hyper::body::{Frame, Incoming};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::ManualClock;

    const START: UnixTime = UnixTime(1_700_000_000);

    /// What the fake provider does with a request for a path.
    #[derive(Clone)]
    enum Answer {
        Json(String),
        Status(u16),
        Redirect,
        /// Announces a length, then closes.
        Truncated,
        /// This many bytes without announcing a length.
        Endless(usize),
        Hang,
    }

    /// A provider on loopback, its clock and the client under test.
    struct Rig {
        origin: String,
        answers: Arc<Mutex<HashMap<&'static str, Answer>>>,
        seen: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
        clock: Arc<ManualClock>,
        provider: Provider,
    }

    const METADATA: &str = "/.well-known/openid-configuration";
    const JWKS: &str = "/jwks";

    fn key(kid: &str) -> String {
        // RFC 7515 appendix A.3.
        format!(
            r#"{{"kty":"EC","crv":"P-256","kid":"{kid}","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}}"#
        )
    }

    impl Rig {
        async fn start() -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let origin = format!("http://{}", listener.local_addr().unwrap());
            let answers = Arc::new(Mutex::new(HashMap::new()));
            let seen = Arc::new(Mutex::new(Vec::new()));
            tokio::spawn(serve(listener, Arc::clone(&answers), Arc::clone(&seen)));
            let clock = Arc::new(ManualClock::new(START));
            let provider = Provider::new(&configured(&origin), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
            let rig = Self {
                origin,
                answers,
                seen,
                clock,
                provider,
            };
            rig.works();
            rig
        }

        /// Metadata and one key, as they should be.
        fn works(&self) {
            let origin = &self.origin;
            let metadata = format!(
                r#"{{"issuer":"{origin}","authorization_endpoint":"{origin}/authorize","token_endpoint":"{origin}/token","jwks_uri":"{origin}{JWKS}"}}"#
            );
            self.answer(METADATA, Answer::Json(metadata));
            self.answer(JWKS, Answer::Json(format!(r#"{{"keys":[{}]}}"#, key("first"))));
        }

        fn answer(&self, path: &'static str, answer: Answer) {
            self.answers.lock().unwrap().insert(path, answer);
        }

        fn count(&self, path: &str) -> usize {
            self.seen
                .lock()
                .unwrap()
                .iter()
                .filter(|(seen, ..)| seen == path)
                .count()
        }

        fn advance(&self, seconds: u64) {
            self.clock.advance(Duration::from_secs(seconds));
        }

        /// Waits for whoever is fetching in the background.
        async fn settled(&self) {
            drop(self.provider.shared.turn.lock().await);
        }

        async fn error(&self) -> Error {
            match self.provider.snapshot().await {
                Err(error) => error,
                Ok(_) => panic!("a snapshot"),
            }
        }

        async fn retry_after(&self) -> u32 {
            match self.error().await {
                Error::ProviderUnavailable { retry_after, .. } => retry_after,
                other => panic!("{other}"),
            }
        }

        async fn post(&self, path: &str) -> Reply {
            self.provider.send(post(&format!("{}{path}", self.origin))).await
        }
    }

    fn configured(issuer: &str) -> config::Provider {
        config::Provider {
            name: None,
            issuer: issuer.to_owned(),
            client_id: "shop".to_owned(),
            client_auth: config::ClientAuth::Secret(
                config::ClientAuthMethod::FromMetadata,
                Secret::new("s3cret"),
            ),
            client_certificate: None,
            certificate_bound_access_tokens: false,
            ca: None,
            scopes: vec!["openid".to_owned()],
            authorization_parameters: Vec::new(),
            allowed_parameters: Vec::new(),
            authorization: config::Authorization::default(),
            leeway: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            logout_token_without_exp: false,
            habits: config::Habits::default(),
            dpop: None,
            profile: config::Profile::None,
            plain: None,
            id_token_decryption_keys: Vec::new(),
            userinfo: config::Userinfo::Never,
        }
    }

    fn post(url: &str) -> ProviderRequest {
        ProviderRequest {
            method: Method::POST,
            url: Url::parse(url).unwrap(),
            headers: vec![(
                HeaderName::from_static("x-test"),
                HeaderValue::from_static("here"),
            )],
            body: b"grant_type=x".to_vec().into(),
        }
    }

    fn unreachable_because(reply: &Reply) -> &'static str {
        match reply {
            Reply::Unreachable(why) => why,
            Reply::Response(response) => panic!("an answer: {}", response.status),
            Reply::Keys => panic!("keys"),
        }
    }

    type Body = BoxBody<Bytes, std::io::Error>;

    async fn serve(
        listener: TcpListener,
        answers: Arc<Mutex<HashMap<&'static str, Answer>>>,
        seen: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
    ) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
            let service = service_fn(move |request: http::Request<Incoming>| {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let path = head.uri.path().to_owned();
                    let answer = answers.lock().unwrap().get(path.as_str()).cloned();
                    seen.lock().unwrap().push((path, head.headers, body));
                    Ok::<_, Infallible>(respond(answer.unwrap_or(Answer::Status(404))).await)
                }
            });
            tokio::spawn(async move {
                // A client that hangs up is part of the tests.
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    }

    async fn respond(answer: Answer) -> Response<Body> {
        let full = |text: String| {
            Full::new(Bytes::from(text))
                .map_err(|never| match never {})
                .boxed()
        };
        let response = Response::builder();
        let response = match answer {
            Answer::Json(body) => response.header(CONTENT_TYPE, "application/json").body(full(body)),
            Answer::Status(status) => response.status(status).body(full(String::new())),
            Answer::Redirect => response
                .status(307)
                .header("location", "/token")
                .body(full(String::new())),
            Answer::Truncated => {
                let cut = [
                    Ok(Frame::data(Bytes::from_static(b"{\"a\":"))),
                    Err(std::io::Error::other("cut")),
                ];
                response
                    .header("content-length", "100")
                    .body(StreamBody::new(futures_util::stream::iter(cut)).boxed())
            }
            Answer::Endless(bytes) => {
                let chunks = (0..bytes / 1024).map(|_| Ok(Frame::data(Bytes::from_static(&[b'x'; 1024]))));
                let chunks: Vec<_> = chunks.collect();
                response.body(StreamBody::new(futures_util::stream::iter(chunks)).boxed())
            }
            Answer::Hang => std::future::pending().await,
        };
        response.unwrap()
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_discovery() {
        let rig = Rig::start().await;
        assert_eq!(
            rig.provider.health(),
            Health {
                ready: false,
                last_error: None
            }
        );
        let all = futures_util::future::join_all((0..20).map(|_| rig.provider.snapshot())).await;
        for snapshot in all {
            assert_eq!(snapshot.unwrap().keys.len(), 1);
        }
        assert_eq!((rig.count(METADATA), rig.count(JWKS)), (1, 1));
        assert_eq!(
            rig.provider.health(),
            Health {
                ready: true,
                last_error: None
            }
        );
    }

    #[tokio::test]
    async fn a_caller_that_leaves_does_not_take_discovery_with_it() {
        let rig = Rig::start().await;
        rig.answer(METADATA, Answer::Hang);
        let leaving = rig.provider.snapshot();
        let arrived = async {
            while rig.count(METADATA) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = leaving => panic!("an outcome"),
            () = arrived => {}
        }
        rig.works();
        assert!(rig.provider.snapshot().await.is_ok());
    }

    #[tokio::test]
    async fn failed_discovery_backs_off_and_fails_at_once_meanwhile() {
        let rig = Rig::start().await;
        rig.answer(METADATA, Answer::Status(503));
        let all = futures_util::future::join_all((0..20).map(|_| rig.provider.snapshot())).await;
        assert!(
            all.iter()
                .all(|outcome| matches!(outcome, Err(Error::ProviderUnavailable { .. })))
        );
        assert_eq!(rig.count(METADATA), 1, "callers share the failure as well");

        for (attempt, wait) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30)] {
            assert_eq!(rig.retry_after().await, wait, "attempt {attempt}");
            assert_eq!(rig.count(METADATA), attempt, "no request inside the back-off");
            rig.advance(u64::from(wait) - 1);
            if wait > 1 {
                assert_eq!(rig.retry_after().await, 1);
            }
            rig.advance(1);
            assert_eq!(rig.retry_after().await, [2, 4, 8, 16, 30, 30, 30][attempt - 1]);
        }
        let health = rig.provider.health();
        assert!(
            !health.ready
                && health
                    .last_error
                    .unwrap()
                    .contains("metadata document: status 503")
        );

        rig.works();
        rig.advance(30);
        assert!(rig.provider.snapshot().await.is_ok());
        assert_eq!(
            rig.provider.health(),
            Health {
                ready: true,
                last_error: None
            }
        );
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_does_not_prolong_the_back_off() {
        let rig = Rig::start().await;
        rig.answer(METADATA, Answer::Status(500));
        assert_eq!(rig.retry_after().await, 1);
        rig.works();
        rig.clock.set(UnixTime(1000));
        assert!(rig.provider.snapshot().await.is_ok());
    }

    #[tokio::test]
    async fn unusable_documents_say_what_is_wrong() {
        let cases = [
            (METADATA, Answer::Status(404), "status 200, got 404"),
            (METADATA, Answer::Redirect, "status 200, got 307"),
            (METADATA, Answer::Json("<html>".to_owned()), "json object"),
            (
                METADATA,
                Answer::Json(r#"{"issuer":"https://evil.example.com"}"#.to_owned()),
                "`issuer`",
            ),
            (JWKS, Answer::Json("[]".to_owned()), "jwk set"),
            (JWKS, Answer::Status(404), "jwk set"),
        ];
        for (path, answer, expected) in cases {
            let rig = Rig::start().await;
            rig.answer(path, answer);
            for _ in 0..2 {
                match rig.error().await {
                    Error::Provider(text) => assert!(text.contains(expected), "{text}"),
                    other => panic!("{expected}: {other}"),
                }
            }
            assert_eq!(rig.count(path), 1, "{expected}: fails at once the second time");
            assert_eq!(rig.count("/token"), 0, "redirects are not followed");
        }
        let rig = Rig::start().await;
        rig.answer(JWKS, Answer::Status(500));
        assert_eq!(rig.retry_after().await, 1);
    }

    #[tokio::test]
    async fn old_metadata_is_renewed_in_the_background() {
        let rig = Rig::start().await;
        let first = rig.provider.snapshot().await.unwrap();
        rig.answer(
            JWKS,
            Answer::Json(format!(r#"{{"keys":[{},{}]}}"#, key("first"), key("second"))),
        );
        rig.advance(3599);
        assert!(Arc::ptr_eq(&first, &rig.provider.snapshot().await.unwrap()));
        rig.settled().await;
        assert_eq!(rig.count(METADATA), 1);

        rig.advance(1);
        for _ in 0..3 {
            assert!(
                Arc::ptr_eq(&first, &rig.provider.snapshot().await.unwrap()),
                "nobody waits"
            );
        }
        rig.settled().await;
        assert_eq!(rig.provider.snapshot().await.unwrap().keys.len(), 2);
        assert_eq!(rig.count(METADATA), 2);
    }

    #[tokio::test]
    async fn when_renewing_fails_the_old_metadata_stays_and_the_back_off_holds() {
        let rig = Rig::start().await;
        let first = rig.provider.snapshot().await.unwrap();
        rig.answer(JWKS, Answer::Status(500));
        rig.advance(3600);
        for (after, requests) in [(0, 2), (0, 2), (1, 3), (1, 3), (1, 4)] {
            rig.advance(after);
            assert!(Arc::ptr_eq(&first, &rig.provider.snapshot().await.unwrap()));
            rig.settled().await;
            assert_eq!(rig.count(METADATA), requests);
        }
        let health = rig.provider.health();
        assert!(health.ready && health.last_error.unwrap().contains("jwk set: status 500"));
        rig.works();
        rig.advance(30);
        drop(rig.provider.snapshot().await);
        rig.settled().await;
        assert_eq!(
            rig.provider.health(),
            Health {
                ready: true,
                last_error: None
            }
        );
    }

    #[tokio::test]
    async fn keys_are_fetched_on_request_at_most_three_times_in_thirty_seconds() {
        let rig = Rig::start().await;
        assert_eq!(rig.provider.fetch_keys().await.unwrap().keys.len(), 1);
        assert_eq!(rig.count(JWKS), 2, "discovery, then the request");
        rig.answer(
            JWKS,
            Answer::Json(format!(r#"{{"keys":[{},{}]}}"#, key("first"), key("second"))),
        );
        rig.advance(10);
        assert_eq!(rig.provider.fetch_keys().await.unwrap().keys.len(), 2);
        assert_eq!(rig.provider.snapshot().await.unwrap().keys.len(), 2);

        rig.answer(JWKS, Answer::Status(500));
        assert_eq!(
            rig.provider.fetch_keys().await.unwrap().keys.len(),
            2,
            "a failure keeps what is there"
        );
        rig.works();
        for _ in 0..10 {
            assert_eq!(
                rig.provider.fetch_keys().await.unwrap().keys.len(),
                2,
                "throttled"
            );
        }
        assert_eq!((rig.count(JWKS), rig.count(METADATA)), (4, 1));
        rig.advance(20);
        assert_eq!(rig.provider.fetch_keys().await.unwrap().keys.len(), 1);
        rig.provider.fetch_keys().await.unwrap();
        assert_eq!(
            rig.count(JWKS),
            5,
            "the oldest of three is forgotten, and no other"
        );
        rig.clock.set(UnixTime(1000));
        rig.provider.fetch_keys().await.unwrap();
        assert_eq!(
            rig.count(JWKS),
            6,
            "a clock that was set back throttles nobody for ever"
        );
    }

    #[tokio::test]
    async fn requests_for_keys_at_the_same_time_share_one_fetch() {
        for (answer, keys) in [
            (
                Answer::Json(format!(r#"{{"keys":[{},{}]}}"#, key("first"), key("second"))),
                2,
            ),
            (Answer::Status(500), 1),
        ] {
            let rig = Rig::start().await;
            rig.provider.snapshot().await.unwrap();
            rig.answer(JWKS, answer);
            let all = futures_util::future::join_all((0..20).map(|_| rig.provider.fetch_keys())).await;
            assert!(
                all.iter()
                    .all(|outcome| outcome.as_ref().is_ok_and(|snapshot| snapshot.keys.len() == keys))
            );
            assert_eq!(rig.count(JWKS), 2);
        }
    }

    #[tokio::test]
    async fn without_a_snapshot_there_are_no_keys() {
        let rig = Rig::start().await;
        rig.answer(METADATA, Answer::Status(500));
        assert!(matches!(
            rig.provider.fetch_keys().await,
            Err(Error::ProviderUnavailable { .. })
        ));
    }

    #[tokio::test]
    async fn a_request_is_sent_as_it_is_and_its_answer_read() {
        let rig = Rig::start().await;
        rig.answer("/token", Answer::Json(r#"{"a":1}"#.to_owned()));
        let Reply::Response(response) = rig.post("/token").await else {
            panic!("no answer")
        };
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(response.content_type.as_deref(), Some("application/json"));
        assert_eq!(&response.body[..], br#"{"a":1}"#);

        let seen = rig.seen.lock().unwrap();
        let (_, headers, body) = &seen[0];
        assert_eq!(&body[..], b"grant_type=x");
        assert_eq!(headers["x-test"], "here");
        assert_eq!(
            headers["user-agent"],
            concat!("coatroom/", env!("CARGO_PKG_VERSION"))
        );
        for absent in ["cookie", "referer", "accept-encoding", "authorization"] {
            assert!(!headers.contains_key(absent), "{absent}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let rig = Rig::start().await;
        rig.answer("/redirect", Answer::Redirect);
        let Reply::Response(response) = rig.post("/redirect").await else {
            panic!("no answer")
        };
        assert_eq!(response.status, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(rig.count("/token"), 0);
    }

    #[tokio::test]
    async fn answers_are_bounded_with_and_without_an_announced_length() {
        let rig = Rig::start().await;
        rig.answer("/announced", Answer::Json("x".repeat(MAX_RESPONSE + 1)));
        rig.answer("/endless", Answer::Endless(10 * MAX_RESPONSE));
        for path in ["/announced", "/endless"] {
            assert!(
                unreachable_because(&rig.post(path).await).contains("1 mib"),
                "{path}"
            );
        }
        rig.answer("/announced", Answer::Json("x".repeat(MAX_RESPONSE)));
        rig.answer("/endless", Answer::Endless(MAX_RESPONSE));
        for path in ["/announced", "/endless"] {
            let Reply::Response(response) = rig.post(path).await else {
                panic!("{path}")
            };
            assert_eq!(response.body.len(), MAX_RESPONSE, "{path}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_off_is_none() {
        let rig = Rig::start().await;
        rig.answer("/token", Answer::Truncated);
        assert_eq!(
            unreachable_because(&rig.post("/token").await),
            "the connection broke off"
        );
    }

    #[tokio::test]
    async fn a_provider_that_hangs_runs_into_the_deadline() {
        let rig = Rig::start().await;
        rig.answer("/token", Answer::Hang);
        let mut config = configured(&rig.origin);
        config.timeout = Duration::from_millis(20);
        let provider = Provider::new(&config, Arc::clone(&rig.clock) as Arc<dyn Clock>).unwrap();
        let reply = provider.send(post(&format!("{}/token", rig.origin))).await;
        assert_eq!(unreachable_because(&reply), "it did not answer in time");
    }

    #[tokio::test]
    async fn a_provider_that_is_not_there_cannot_be_connected_to() {
        let rig = Rig::start().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let closed = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        assert_eq!(
            unreachable_because(&rig.provider.send(post(&closed)).await),
            "it cannot be connected to"
        );
    }

    #[tokio::test]
    async fn plain_http_where_tls_is_expected_is_a_failed_handshake() {
        let rig = Rig::start().await;
        let reply = rig
            .provider
            .send(post(&rig.origin.replace("http://", "https://")))
            .await;
        assert!(
            unreachable_because(&reply).contains("tls"),
            "{}",
            unreachable_because(&reply)
        );
    }

    #[tokio::test]
    async fn names_below_localhost_are_this_machine() {
        let rig = Rig::start().await;
        rig.answer("/token", Answer::Status(200));
        for host in ["localhost", "idp.localhost", "a.b.localhost"] {
            let url = rig.origin.replace("127.0.0.1", host);
            let reply = rig.provider.send(post(&format!("{url}/token"))).await;
            assert!(matches!(reply, Reply::Response(_)), "{host}");
        }
    }

    #[tokio::test]
    async fn a_finished_conversation_asks_nobody() {
        let rig = Rig::start().await;
        assert_eq!(rig.provider.drive(Step::Done(7)).await, Ok(7));
        assert!(rig.seen.lock().unwrap().is_empty());
    }

    #[test]
    fn futures_can_move_between_threads() {
        fn check(_: &impl Send) {}
        let config = configured("http://127.0.0.1:1");
        let provider = Provider::new(&config, Arc::new(ManualClock::new(START))).unwrap();
        check(&provider.snapshot());
        check(&provider.fetch_keys());
        check(&provider.send(post("http://127.0.0.1:1")));
        check(&provider.drive(Step::Done(1)));
    }
}
