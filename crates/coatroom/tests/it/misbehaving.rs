//! Every mode of the misbehaving provider, through the whole service: what is wanted is what comes.
//!
//! For each mode a session is made while the provider is correct; then it misbehaves, and a replica that
//! has never seen it has to cope. Looked at are the answer, the cookies, what `session` says, the log, and
//! that no broken value and no token is repeated anywhere. Then the provider is correct again, and what
//! was not ended has to go on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use coatroom::clock::{Clock as _, ManualClock};
use coatroom::store::SessionStore;
use coatroom::store::memory::MemoryStore;
use coatroom::{TokenHandler, TokenHandlerService};
use coatroom_core::config::{
    ClientCredentialsConfig, IntrospectionConfig, PlainConfig, PrivateKeyPem, RouteConfig, SessionStorage,
    TokenConfig, UserConfig,
};
use coatroom_core::secret::Secret;
use coatroom_misbehaving::{
    CLIENT_SECRET, MODES, Misbehaving, Mode, Outcome, Place, SUBJECT, Wanted, decryption_key,
};
use futures_util::FutureExt as _;
use http::{Method, Request, StatusCode, header};
use tower::Layer as _;

use crate::secrets::Log;
use crate::support::browser::{Answer, Browser, Site, StoredCookie};
use crate::support::{Api, START, checked, config, keys, provider_of, route, store_settings};

/// A provider in one mode, a service that knew it before, and what replicas share.
struct Bench {
    mode: Mode,
    provider: Misbehaving,
    clock: Arc<ManualClock>,
    store: Arc<dyn SessionStore>,
    storage: SessionStorage,
    service: TokenHandlerService<Api>,
    log: Log,
    /// Everything that came from the service since the provider misbehaves.
    answers: Vec<String>,
}

impl Bench {
    async fn new(mode: &Mode, storage: SessionStorage, log: &Log) -> Self {
        let provider = Misbehaving::start(mode).await.expect("a free port");
        let clock = Arc::new(ManualClock::new(START));
        let store: Arc<dyn SessionStore> = Arc::new(MemoryStore::new(clock.clone()));
        let service = replica(&provider, &clock, &store, &storage, PATIENT, None);
        let bench = Self {
            mode: *mode,
            provider,
            clock,
            store,
            storage,
            service,
            log: log.clone(),
            answers: Vec::new(),
        };
        bench.heal();
        bench
    }

    /// The same for another mode, once all that has to rest has rested. Making a service takes fifty
    /// milliseconds, so one serves many modes.
    fn switch(self, mode: &Mode) -> Self {
        self.provider.switch(mode);
        self.heal();
        Self { mode: *mode, ..self }
    }

    /// A browser that signed in while all was well.
    async fn signed_in(&self) -> Browser {
        let mut browser = Browser::new(self.service.clone(), self.clock.clone());
        let (started, ended) = self.sign_in(&mut browser).await;
        assert_eq!(started.status, StatusCode::OK, "{}", started.body);
        assert_eq!(ended.expect("it was started").status, StatusCode::OK);
        browser
    }

    /// By `login/start` and `login/end`; the second answer is there if the first is good.
    async fn sign_in(&self, browser: &mut Browser) -> (Answer, Option<Answer>) {
        let started = browser.fetch(Method::POST, "/auth/login/start", "").await;
        if started.status != StatusCode::OK {
            return (started, None);
        }
        let json = started.json();
        let query = self
            .provider
            .approve(json["authorization_url"].as_str().expect("a URL"));
        let ended = browser.fetch(Method::POST, "/auth/login/end", &query).await;
        (started, Some(ended))
    }

    /// From now on the provider misbehaves; what was logged and answered before does not count. Gives
    /// the service that meets it: a new one where it has to meet what was fetched already.
    fn misbehave(&mut self) -> TokenHandlerService<Api> {
        self.provider.misbehave();
        self.log.0.lock().expect("no panic").clear();
        self.answers.clear();
        let timeout = if waits(&self.mode) { IMPATIENT } else { PATIENT };
        if is_fetched_once(&self.mode) || waits(&self.mode) {
            let place = Some(self.mode.place);
            return replica(
                &self.provider,
                &self.clock,
                &self.store,
                &self.storage,
                timeout,
                place,
            );
        }
        self.service.clone()
    }

    /// The provider is correct, and what had to rest has rested.
    fn heal(&self) {
        self.provider.behave();
        self.clock.advance(Duration::from_secs(60));
        self.provider.set_time(self.clock.now().0);
    }

    /// Waits for something that happens beside an answer, five seconds at most: then it is looked for.
    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..5_000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn note(&mut self, answer: &Answer) {
        self.answers.push(readable(answer));
    }

    fn logged(&self) -> String {
        String::from_utf8_lossy(&self.log.0.lock().expect("no panic")).into_owned()
    }

    /// Whether an answer is what is wanted where it is not all good.
    fn check_refusal(&mut self, answer: &Answer) {
        self.note(answer);
        let got = (answer.status.as_u16(), answer.error_code());
        let got = (got.0, got.1.as_str());
        match self.mode.wanted.outcome {
            Outcome::Accepted => panic!("refused: {got:?}, log: {}", warnings(&self.logged())),
            Outcome::Refused { status, error_code } => {
                assert_eq!(got, (status, error_code), "log: {}", warnings(&self.logged()));
            }
            Outcome::Unavailable => {
                assert_eq!(got, (503, "provider_unavailable"));
                let seconds = answer.headers[header::RETRY_AFTER].to_str().expect("ASCII");
                assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds >= 1));
            }
            Outcome::SessionEnded => assert_eq!(got, (401, "session_expired")),
        }
    }

    /// What holds for every mode, whatever is wanted.
    fn check_discretion(&self) {
        let log = self.logged();
        let wanted = self.mode.wanted.log;
        assert!(
            log.contains(wanted),
            "the log lacks {wanted:?}: {}",
            warnings(&log)
        );
        let mut secrets = self.provider.issued();
        secrets.extend(self.provider.canaries());
        secrets.push(CLIENT_SECRET.to_owned());
        for secret in &secrets {
            assert!(
                !log.contains(secret.as_str()),
                "{secret} is in the log: {}",
                line_with(&log, secret)
            );
            for answer in &self.answers {
                assert!(
                    !answer.contains(secret.as_str()),
                    "{secret} is in an answer: {answer}"
                );
            }
        }
        assert_eq!(self.provider.trapped(), 0, "somebody was led elsewhere");
    }
}

/// Another process, which has not asked the provider for anything yet.
fn replica(
    provider: &Misbehaving,
    clock: &Arc<ManualClock>,
    store: &Arc<dyn SessionStore>,
    storage: &SessionStorage,
    timeout: Duration,
    meets: Option<Place>,
) -> TokenHandlerService<Api> {
    let mut config = config(provider.issuer());
    config.session.storage = storage.clone();
    config.routes.push(RouteConfig {
        auth: Some("none".to_owned()),
        token: Some(TokenConfig {
            client_credentials: Some(ClientCredentialsConfig {
                scopes: Some(vec!["catalogue:read".to_owned()]),
                ..ClientCredentialsConfig::default()
            }),
            ..TokenConfig::default()
        }),
        ..route("/ours/")
    });
    let settings = provider_of(&mut config);
    settings.client_secret = Some(Secret::new(CLIENT_SECRET));
    settings.timeout = Some(timeout);
    config.routes.push(introspected("/about/", "json"));
    config.routes.push(introspected("/signed/", "jwt"));
    let settings = provider_of(&mut config);
    match meets {
        Some(Place::EncryptedIdToken) => {
            settings.id_token_decryption_keys = vec![PrivateKeyPem::new(decryption_key())];
        }
        Some(Place::Userinfo) => settings.userinfo = Some("always".to_owned()),
        Some(Place::User) => {
            settings.scopes = None;
            let issuer = provider.issuer();
            settings.habits.discovery = Some(format!("{issuer}/.well-known/openid-configuration"));
            settings.plain = PlainConfig {
                protocol: Some("oauth2".to_owned()),
                user: Some(UserConfig {
                    subject: Some("sub".to_owned()),
                    ..UserConfig::default()
                }),
                ..PlainConfig::default()
            };
        }
        _ => {}
    }
    let handler = TokenHandler::builder(vec![checked(config)], keys())
        .clock(clock.clone())
        .store(store.clone())
        .build();
    handler.expect("the handler builds").layer().layer(Api::default())
}

/// A route whose calls wait for what the provider says of their token.
fn introspected(path: &str, response: &str) -> RouteConfig {
    RouteConfig {
        token: Some(TokenConfig {
            introspection: Some(IntrospectionConfig {
                response: Some(response.to_owned()),
                ..IntrospectionConfig::default()
            }),
            ..TokenConfig::default()
        }),
        ..route(path)
    }
}

/// Whether a service that has met the provider before would not notice.
fn is_fetched_once(mode: &Mode) -> bool {
    // whether `iss` has to be there is in the metadata
    let is_in_metadata = mode.id.ends_with("-unannounced");
    let is_configured = matches!(
        mode.place,
        Place::EncryptedIdToken | Place::Userinfo | Place::User
    );
    matches!(mode.place, Place::Discovery | Place::Keys) || is_configured || is_in_metadata
}

/// Whether the provider says nothing, so that somebody has to wait for it.
fn waits(mode: &Mode) -> bool {
    mode.id.ends_with("-silent") || mode.id.ends_with("-stalled")
}

/// Everything of an answer; what is sealed in its cookies cannot be read, and is looked at all the same.
fn readable(answer: &Answer) -> String {
    let lines = answer
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    lines.collect::<String>() + &answer.body
}

fn warnings(log: &str) -> String {
    let ours = log.lines().filter(|line| line.contains(" coatroom"));
    ours.collect::<Vec<_>>().join("\n")
}

fn line_with<'a>(log: &'a str, text: &str) -> &'a str {
    log.lines().find(|line| line.contains(text)).unwrap_or_default()
}

/// The cookies but for those of pending sign-ins.
fn session_cookies(browser: &Browser) -> Vec<StoredCookie> {
    let jar = browser.jar.iter();
    jar.filter(|cookie| !cookie.name.contains("-login-"))
        .cloned()
        .collect()
}

async fn session_id(browser: &mut Browser) -> Option<String> {
    let session = browser.session().await;
    assert_eq!(session["is_logged_in"], !session["session"].is_null());
    session["session"]["id"].as_str().map(str::to_owned)
}

/// A sign-in by `fetch` in a browser that has a session, and one by navigation in a fresh one.
async fn sign_in(bench: &mut Bench) {
    let mode = bench.mode;
    let mut browser = bench.signed_in().await;
    let before = (session_id(&mut browser).await, session_cookies(&browser));
    let service = bench.misbehave();
    let mut browser = browser.at(service.clone());
    let (started, ended) = bench.sign_in(&mut browser).await;
    bench.note(&started);
    let never_started = ended.is_none();
    let answer = ended.unwrap_or(started);
    if mode.wanted.outcome == Outcome::Accepted && answer.status == StatusCode::OK {
        bench.note(&answer);
        assert_eq!(answer.json()["id_token_claims"]["sub"], SUBJECT);
        assert_ne!(session_id(&mut browser).await, before.0, "a new session");
    } else {
        bench.check_refusal(&answer);
        assert_eq!(
            session_cookies(&browser),
            before.1,
            "no cookie of the session changes"
        );
        assert_eq!(session_id(&mut browser).await, before.0, "the session stays");
    }

    let mut fresh = Browser::new(service.clone(), bench.clock.clone());
    if never_started {
        let page = fresh.navigate("/auth/login", Site::Same).await;
        bench.note(&page);
        assert_eq!(page.status, answer.status);
    } else {
        navigate(bench, &mut fresh).await;
    }
    let accepted = mode.wanted.outcome == Outcome::Accepted;
    assert_eq!(fresh.is_signed_in().await, accepted, "a fresh browser");
    assert!(
        accepted || session_cookies(&fresh).is_empty(),
        "no cookie of a session"
    );
    bench.check_discretion();

    if never_started {
        bench.heal();
        let (_, ended) = bench.sign_in(&mut fresh).await;
        assert_eq!(
            ended.map(|ended| ended.status),
            Some(StatusCode::OK),
            "afterwards"
        );
    }
}

/// By `login/start` and `callback`.
async fn navigate(bench: &mut Bench, browser: &mut Browser) {
    let started = browser.fetch(Method::POST, "/auth/login/start", "").await;
    bench.note(&started);
    let json = started.json();
    let query = bench
        .provider
        .approve(json["authorization_url"].as_str().expect("a URL"));
    let answer = browser
        .navigate(&format!("/auth/callback?{query}"), Site::Cross)
        .await;
    bench.note(&answer);
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let location = answer.location();
    let restarts = location.starts_with(&format!("{}/authorize?", bench.provider.issuer()));
    let error = location.split_once("login_error=").map(|(_, code)| code);
    match bench.mode.wanted.outcome {
        Outcome::Accepted => assert!(!restarts && error.is_none(), "{location}"),
        Outcome::Unavailable => assert_eq!(error, Some("provider_unavailable")),
        Outcome::Refused { error_code, .. } => {
            let registered = ["access_denied", "login_required"];
            let is_ours = error == Some(error_code);
            let is_theirs = error_code == "authorization_failed"
                && error.is_some_and(|error| registered.contains(&error));
            let is_fresh_start = error_code == "login_state_invalid" && restarts;
            assert!(is_ours || is_theirs || is_fresh_start, "{location}");
        }
        Outcome::SessionEnded => panic!("nothing ends at a sign-in"),
    }
}

/// A sign-in at a service that has good metadata and keys, and gets none when they are old.
async fn renewal(bench: &mut Bench) {
    let mut browser = bench.signed_in().await;
    bench.clock.advance(FRESH);
    bench.provider.set_time(bench.clock.now().0);
    browser = browser.at(bench.misbehave());
    let started = browser.fetch(Method::POST, "/auth/login/start", "").await;
    assert_eq!(started.status, StatusCode::OK, "{}", started.body);
    bench
        .until(|bench| bench.logged().contains("keeping the old one"))
        .await;
    let (started, ended) = bench.sign_in(&mut browser).await;
    let ended = ended.expect("it was started");
    bench.note(&started);
    bench.note(&ended);
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.body);
    bench.check_discretion();
}

/// `refresh` of a session, wherever it is kept.
async fn refresh(bench: &mut Bench) {
    let mode = bench.mode;
    let mut browser = bench.signed_in().await;
    let before = (session_id(&mut browser).await, session_cookies(&browser));
    let mut browser = browser.at(bench.misbehave());
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    let id = session_id(&mut browser).await;
    match mode.wanted.outcome {
        Outcome::Accepted if answer.status == StatusCode::OK => {
            bench.note(&answer);
            assert_eq!(answer.json()["id_token_claims"]["sub"], SUBJECT);
            assert_eq!(id, before.0);
        }
        Outcome::SessionEnded => {
            bench.check_refusal(&answer);
            assert_eq!(id, None, "the session is over");
        }
        _ => {
            bench.check_refusal(&answer);
            assert_eq!(session_cookies(&browser), before.1, "no cookie changes");
            assert_eq!(id, before.0, "the session stays");
        }
    }
    bench.check_discretion();
    if mode.wanted.outcome != Outcome::SessionEnded {
        bench.heal();
        let again = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(again.status, StatusCode::OK, "afterwards: {}", again.body);
        assert_eq!(session_id(&mut browser).await, before.0, "afterwards");
    }
}

/// A call of a route that carries the client's own token, by somebody who is signed in.
async fn client_credentials(bench: &mut Bench) {
    let accepted = bench.mode.wanted.outcome == Outcome::Accepted;
    // a token of before is over
    bench.clock.advance(Duration::from_secs(300));
    bench.heal();
    let mut browser = bench.signed_in().await;
    let before = (session_id(&mut browser).await, session_cookies(&browser));
    let mut browser = browser.at(bench.misbehave());
    let answer = browser.fetch(Method::GET, "/ours/1", "").await;
    if accepted && answer.status == StatusCode::OK {
        bench.note(&answer);
    } else {
        bench.check_refusal(&answer);
    }
    assert_eq!(session_cookies(&browser), before.1, "no cookie changes");
    assert_eq!(session_id(&mut browser).await, before.0, "the session stays");
    bench.check_discretion();
    bench.heal();
    let again = browser.fetch(Method::GET, "/ours/1", "").await;
    assert_eq!(again.status, StatusCode::OK, "afterwards: {}", again.body);
}

/// A back-channel logout request, after a good one.
async fn logout_token(bench: &mut Bench) {
    let mode = bench.mode;
    let mut first = bench.signed_in().await;
    let good = bench.provider.logout_request();
    assert_eq!(backchannel(&first, &good).await.status, StatusCode::OK);
    assert!(
        !first.is_signed_in().await,
        "a good logout token ends its session"
    );
    let browser = bench.signed_in().await;
    let mut browser = browser.at(bench.misbehave());
    let request = bench.provider.logout_request();
    let answer = backchannel(&browser, &request).await;
    let accepted = mode.wanted.outcome == Outcome::Accepted;
    if accepted && answer.status == StatusCode::OK {
        bench.note(&answer);
        let again = backchannel(&browser, &request).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST, "it counts once");
        assert!(again.body.contains("it was used before"), "{}", again.body);
    } else {
        bench.check_refusal(&answer);
        let said = answer.json()["detailed_error"].to_string();
        assert!(said.contains(mode.wanted.log), "{said} lacks {}", mode.wanted.log);
    }
    assert_eq!(browser.is_signed_in().await, !accepted);
    bench.check_discretion();
}

/// As the provider calls: no cookie, no `Origin`.
async fn backchannel(browser: &Browser, form: &str) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/auth/backchannel-logout")
        .header(header::HOST, "shop.example")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form.to_owned().into());
    browser.send(request.expect("a good request")).await
}

/// `logout`, whose revocations go wrong behind its back.
async fn revocation(bench: &mut Bench) {
    let browser = bench.signed_in().await;
    let mut browser = browser.at(bench.misbehave());
    // so that it knows where tokens are revoked
    let started = browser.fetch(Method::POST, "/auth/login/start", "").await;
    assert_eq!(started.status, StatusCode::OK);
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    bench.note(&answer);
    assert_eq!(answer.status, StatusCode::OK, "a sign-out waits for nobody");
    assert!(!browser.is_signed_in().await);
    // refresh token and access token, and what became of the first
    let is_done =
        |bench: &Bench| bench.provider.revocations() >= 2 && bench.logged().contains(bench.mode.wanted.log);
    bench.until(is_done).await;
    assert!(bench.provider.revocations() >= 2, "both tokens were sent");
    bench.check_discretion();
}

/// A call whose token the provider is asked about.
async fn introspection(bench: &mut Bench) {
    let path = match bench.mode.place {
        Place::SignedIntrospection => "/signed/1",
        _ => "/about/1",
    };
    let mut browser = bench.signed_in().await;
    let before = (session_id(&mut browser).await, session_cookies(&browser));
    let mut browser = browser.at(bench.misbehave());
    let answer = browser.fetch(Method::GET, path, "").await;
    match bench.mode.wanted.outcome {
        Outcome::Accepted if answer.status == StatusCode::OK => bench.note(&answer),
        _ => bench.check_refusal(&answer),
    }
    assert_eq!(session_cookies(&browser), before.1, "no cookie changes");
    assert_eq!(session_id(&mut browser).await, before.0, "the session stays");
    bench.check_discretion();
    bench.heal();
    if is_fetched_once(&bench.mode) {
        // one that has never seen good metadata does not ask again so soon
        browser = browser.at(bench.service.clone());
    }
    let again = browser.fetch(Method::GET, path, "").await;
    assert_eq!(again.status, StatusCode::OK, "afterwards: {}", again.body);
}

/// What is done to meet a mode, and where sessions are meanwhile.
async fn check(mode: &Mode, shelf: &mut Shelf) {
    match mode.place {
        Place::Discovery
        | Place::Keys
        | Place::AuthorizationResponse
        | Place::TokenEndpoint
        | Place::IdToken
        | Place::EncryptedIdToken
        | Place::Userinfo
        | Place::User => {
            let mut bench = shelf.take(mode, Storage::Cookies).await;
            sign_in(&mut bench).await;
            shelf.cookies = Some(bench);
        }
        Place::Renewal => {
            // on the shelf is one that may just be renewing what it has
            let mut bench = Bench::new(mode, SessionStorage::Cookie, &shelf.log).await;
            renewal(&mut bench).await;
        }
        Place::Introspection | Place::SignedIntrospection => {
            let mut bench = shelf.take(mode, Storage::Cookies).await;
            introspection(&mut bench).await;
            shelf.cookies = Some(bench);
            let mut bench = shelf.take(mode, Storage::Store).await;
            introspection(&mut bench).await;
            shelf.store = Some(bench);
        }
        Place::Refresh => {
            let mut bench = shelf.take(mode, Storage::Cookies).await;
            refresh(&mut bench).await;
            shelf.cookies = Some(bench);
            let mut bench = shelf.take(mode, Storage::Store).await;
            refresh(&mut bench).await;
            shelf.store = Some(bench);
        }
        Place::ClientCredentials => {
            // on the shelf is one that may have a token with a long life
            let mut bench = Bench::new(mode, SessionStorage::Cookie, &shelf.log).await;
            client_credentials(&mut bench).await;
        }
        Place::LogoutToken => {
            let mut bench = shelf.take(mode, Storage::Store).await;
            logout_token(&mut bench).await;
            shelf.store = Some(bench);
        }
        Place::Revocation => {
            let mut bench = shelf.take(mode, Storage::Cookies).await;
            revocation(&mut bench).await;
            shelf.cookies = Some(bench);
        }
    }
}

/// What one thread has built already; what a mode leaves in disorder is not put back.
struct Shelf {
    log: Log,
    cookies: Option<Bench>,
    store: Option<Bench>,
}

#[derive(Clone, Copy)]
enum Storage {
    Cookies,
    Store,
}

impl Shelf {
    async fn take(&mut self, mode: &Mode, storage: Storage) -> Bench {
        let (bench, storage) = match storage {
            Storage::Cookies => (self.cookies.take(), SessionStorage::Cookie),
            Storage::Store => (
                self.store.take(),
                SessionStorage::Store(Box::new(store_settings())),
            ),
        };
        match bench {
            Some(bench) => bench.switch(mode),
            None => Bench::new(mode, storage, &self.log).await,
        }
    }
}

/// Why a mode did not come out as wanted.
async fn mismatch(mode: &Mode, shelf: &mut Shelf) -> Option<String> {
    let panicked = AssertUnwindSafe(check(mode, shelf)).catch_unwind().await.err()?;
    let text = panicked.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panicked.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(format!("{}: {}", mode.id, text.unwrap_or_default()))
}

/// A log of this thread alone: the runtime has no other.
fn capture() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

/// Checks modes until there are none left, on a thread of its own: a log is a thread's.
fn work(modes: &[&Mode], next: &AtomicUsize) -> Vec<String> {
    let (log, _guard) = capture();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (cookies, store) = (None, None);
    let mut shelf = Shelf { log, cookies, store };
    let mut mismatches = Vec::new();
    while let Some(mode) = modes.get(next.fetch_add(1, Ordering::Relaxed)) {
        mismatches.extend(runtime.block_on(mismatch(mode, &mut shelf)));
    }
    // connections end before what they run on
    runtime.block_on(async move { drop(shelf) });
    mismatches
}

#[test]
fn every_mode_of_a_misbehaving_provider_leads_to_what_is_wanted() {
    let only = std::env::var("COATROOM_MODE").unwrap_or_default();
    let modes: Vec<&Mode> = MODES.iter().filter(|mode| mode.id.contains(&only)).collect();
    let next = AtomicUsize::new(0);
    let mismatches: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| scope.spawn(|| work(&modes, &next)))
            .collect();
        let ended = workers
            .into_iter()
            .map(|worker| worker.join().expect("it catches panics"));
        ended.flatten().collect()
    });
    assert!(
        mismatches.is_empty(),
        "{} of {} modes:\n{}",
        mismatches.len(),
        modes.len(),
        mismatches.join("\n")
    );
    eprintln!("{} modes, wanted = got", modes.len());
}

#[test]
fn an_outcome_that_is_not_the_wanted_one_is_noticed() {
    let wants = |id: &str, outcome, log| {
        let known = MODES.iter().find(|mode| mode.id == id);
        let mut mode = *known.expect("a mode");
        mode.wanted = Wanted { outcome, log };
        mode
    };
    let refused = |status, error_code| Outcome::Refused { status, error_code };
    let modes = [
        wants("id-token-iss-other", Outcome::Accepted, ""),
        wants("id-token-iss-other", refused(400, "provider_error"), ""),
        wants("id-token-iss-other", refused(502, "provider_unavailable"), ""),
        wants("id-token-iss-other", refused(502, "provider_error"), "`aud`"),
        wants("id-token-aud-list-of-us", refused(502, "provider_error"), ""),
        wants("discovery-500", refused(502, "provider_error"), ""),
        wants("token-503", Outcome::Accepted, ""),
        wants("refresh-invalid-grant", refused(401, "session_expired"), ""),
        wants("refresh-400-empty", Outcome::SessionEnded, ""),
        wants("refresh-503", Outcome::Accepted, ""),
        wants("client-scope-more", Outcome::Accepted, ""),
        wants("client-503", refused(502, "provider_error"), ""),
        wants("introspection-inactive", Outcome::Accepted, ""),
        wants("introspection-jwt-rogue", Outcome::Accepted, ""),
        wants("introspection-least", refused(502, "provider_error"), ""),
        wants("logout-sid-alone", refused(400, "invalid_request"), ""),
        wants("logout-iss-other", Outcome::Accepted, ""),
    ];
    let mismatches = work(&modes.iter().collect::<Vec<_>>(), &AtomicUsize::new(0));
    assert_eq!(mismatches.len(), modes.len(), "{}", mismatches.join("\n"));
}

#[test]
fn the_page_about_misbehaving_providers_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/misbehaving.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let (before, rest) = page.split_once(BEGIN).expect("the mark");
    let (_, after) = rest.split_once(END).expect("the mark");
    let expected = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var("COATROOM_TRANSCRIPTS").is_ok_and(|what| what == "write") {
        std::fs::write(path, expected).expect("written");
    } else {
        assert!(
            page == expected,
            "docs/misbehaving.md is stale: COATROOM_TRANSCRIPTS=write cargo test -p coatroom --test it misbehaving"
        );
    }
}

/// What the page says of every mode.
fn table() -> String {
    let mut out = format!("\n{} modes.\n", MODES.len());
    for place in Place::ALL {
        out += &format!(
            "\n### {place}\n\n| mode | what is wrong | wanted | in the log | after |\n|---|---|---|---|---|\n"
        );
        for mode in MODES.iter().filter(|mode| mode.place == place) {
            let log = match mode.wanted.log {
                "" => String::new(),
                // it names settings and claims in backticks itself
                log => format!("`` {log} ``"),
            };
            let (id, wrong, outcome, source) = (mode.id, mode.wrong, mode.wanted.outcome, mode.source);
            out += &format!("| `{id}` | {wrong} | {outcome} | {log} | {source} |\n");
        }
    }
    out + "\n"
}

const BEGIN: &str = "<!-- generated by crates/coatroom/tests/it/misbehaving.rs: begin -->\n";
const END: &str = "<!-- generated: end -->";

/// How many modes are tried at once: most of the time is spent waiting for each other's answers.
const WORKERS: usize = 4;

/// What waits for a provider that never answers waits this long.
const IMPATIENT: Duration = Duration::from_millis(300);

/// After this long metadata and keys are fetched again.
const FRESH: Duration = Duration::from_secs(2 * 60 * 60);

/// What does not, must never be too slow.
const PATIENT: Duration = Duration::from_secs(20);
