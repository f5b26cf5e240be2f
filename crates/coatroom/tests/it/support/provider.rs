//! A scripted OpenID Provider: rotates refresh tokens with reuse detection, and misbehaves on
//! demand. Signs ES256 with a key made for the run.

pub(crate) mod front;
pub(crate) mod introspect;
pub(crate) mod shapes;
mod tokens;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coatroom::clock::{Clock, ManualClock};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::dpop::{self, Nonces};

/// The provider; stops with the test's runtime.
#[derive(Clone)]
pub(crate) struct ScriptedProvider {
    pub(crate) issuer: String,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<Script>,
    /// One permit for each token answer that may leave; plenty unless a test holds them.
    gate: Semaphore,
    key: EcdsaKeyPair,
    rng: aws_lc_rs::rand::SystemRandom,
}

/// Whether a request comes from the client: by its headers and its form. `x-client-certificate` is the
/// SHA-256 of the certificate that a listener with TLS was shown.
pub(crate) type Credentials = Box<dyn FnMut(&HeaderMap, &HashMap<String, String>) -> bool + Send>;

/// What the provider does and has done.
pub(crate) struct Script {
    issuer: String,
    clock: Option<Arc<ManualClock>>,
    codes: HashMap<String, Grant>,
    refresh_tokens: HashMap<String, (Grant, Token)>,
    pub(crate) counter: u64,
    /// Access-token life; none: no `expires_in`.
    pub(crate) expires_in: Option<u64>,
    /// Refresh-token life as Keycloak says it; none: not said.
    pub(crate) refresh_expires_in: Option<u64>,
    /// Whether refresh tokens are issued, and rotated.
    pub(crate) refresh: Rotation,
    /// How the client authenticates; none: with its secret, by basic.
    pub(crate) credentials: Option<Credentials>,
    /// What the token endpoint does instead of its work.
    pub(crate) token_fault: Option<Fault>,
    /// Whether discovery answers 503.
    pub(crate) discovery_down: bool,
    /// Whether discovery takes requests and says nothing.
    pub(crate) discovery_silent: bool,
    /// Members that replace those of the metadata.
    pub(crate) metadata: Value,
    /// Claims that replace those of the ID token; null removes one.
    pub(crate) claims: Value,
    /// Members that replace those of the key.
    pub(crate) jwk: Value,
    /// Members that replace those of token answers.
    pub(crate) token_members: Value,
    /// What an authorization request has to say for a refresh token: a parameter, and a word in it.
    pub(crate) refresh_wants: Option<(&'static str, &'static str)>,
    /// Every authorization request that was approved.
    pub(crate) requests: Vec<HashMap<String, String>>,
    /// Something to make access tokens longer.
    pub(crate) padding: usize,
    /// The key id in use; changing it is a rotation.
    pub(crate) kid: String,
    /// The key id that is published, if another than the one in use.
    pub(crate) jwks_kid: Option<String>,
    /// Whether refresh answers carry an ID token.
    pub(crate) refreshed_id_token: bool,
    /// Every token request: grant type and status.
    pub(crate) token_requests: Vec<(String, u16)>,
    /// Every revoked token.
    pub(crate) revoked: Vec<String>,
    /// Every token that was ever issued: none may show up where it does not belong.
    pub(crate) issued: Vec<String>,
    /// Whether its tokens are bound to the keys of proofs.
    pub(crate) dpop: bool,
    /// Whether it gives bearer tokens all the same.
    pub(crate) downgrades: bool,
    /// The nonces that it wants in proofs.
    pub(crate) nonces: Nonces,
    /// The keys of the tokens.
    keys: HashMap<String, String>,
    /// Every token request's form, without who asks.
    pub(crate) token_forms: Vec<HashMap<String, String>>,
    /// What the token endpoint does instead of its work for one resource or audience.
    pub(crate) target_faults: HashMap<String, Fault>,
    /// Members of a successful answer for one resource or audience that replace the usual ones.
    pub(crate) target_answers: HashMap<String, Value>,
    /// Requests for the JWK set.
    pub(crate) jwks_requests: usize,
    /// Requests for the metadata.
    pub(crate) discovery_requests: usize,
    /// Authorization requests and responses.
    pub(crate) front: front::Front,
    /// Encrypted ID tokens, userinfo.
    pub(crate) shapes: shapes::Shapes,
    /// What tokens are worth.
    pub(crate) introspection: introspect::Introspection,
}

/// How refresh tokens live.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// A new one each time; using an old one kills the family.
    Rotate,
    /// The same for ever, not repeated in the answer.
    Keep,
    /// A new one each time, and an old one can still be used.
    Overlap,
    /// None.
    Never,
}

/// What can be wrong with the token endpoint.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// This status with this body.
    Answer(u16, &'static str, &'static str),
}

#[derive(Clone)]
struct Grant {
    user: String,
    nonce: String,
    challenge: String,
    redirect_uri: String,
    refreshable: bool,
    jkt: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Live,
    Used,
    Dead,
}

impl ScriptedProvider {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let script = Script {
            issuer: issuer.clone(),
            clock: None,
            codes: HashMap::new(),
            refresh_tokens: HashMap::new(),
            counter: 0,
            expires_in: Some(300),
            refresh: Rotation::Rotate,
            credentials: None,
            token_fault: None,
            discovery_down: false,
            discovery_silent: false,
            refresh_expires_in: None,
            metadata: json!({}),
            claims: json!({}),
            jwk: json!({}),
            token_members: json!({}),
            refresh_wants: None,
            requests: Vec::new(),
            padding: 0,
            kid: "key-1".to_owned(),
            jwks_kid: None,
            refreshed_id_token: true,
            token_requests: Vec::new(),
            revoked: Vec::new(),
            issued: Vec::new(),
            dpop: false,
            downgrades: false,
            nonces: Nonces::of("provider"),
            keys: HashMap::new(),
            token_forms: Vec::new(),
            target_faults: HashMap::new(),
            target_answers: HashMap::new(),
            jwks_requests: 0,
            discovery_requests: 0,
            front: front::Front::default(),
            shapes: shapes::Shapes::default(),
            introspection: introspect::Introspection::default(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(script),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            rng: aws_lc_rs::rand::SystemRandom::new(),
        });
        let router = router(&shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { issuer, shared }
    }

    /// The same provider once more, over TLS; the origin for its aliases. Stops with the test's runtime.
    pub(crate) async fn listen_with_tls(&self, config: rustls::ServerConfig) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let router = router(&self.shared);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    // whoever shows no good certificate gets no further
                    let Ok(stream) = acceptor.accept(socket).await else {
                        return;
                    };
                    let shown = stream.get_ref().1.peer_certificates();
                    let shown = shown.and_then(<[_]>::first).map_or_else(String::new, |der| {
                        URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der))
                    });
                    let router = router.layer(axum::middleware::map_request(
                        move |mut request: axum::extract::Request| {
                            let shown = shown.parse().expect("base64 is a header value");
                            request.headers_mut().insert("x-client-certificate", shown);
                            std::future::ready(request)
                        },
                    ));
                    let service = hyper_util::service::TowerToHyperService::new(router);
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let server = hyper::server::conn::http1::Builder::new();
                    // a client that goes away is no failure of the test
                    let _ = server.serve_connection(io, service).await;
                });
            }
        });
        format!("https://localhost:{port}")
    }

    pub(crate) fn set_clock(&self, clock: Arc<ManualClock>) {
        self.script().clock = Some(clock);
    }

    /// The script, to read and to change.
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.state.lock().expect("no test panicked here")
    }

    /// Holds every token answer from now on.
    pub(crate) fn hold_tokens(&self) {
        self.shared.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets token answers go again.
    pub(crate) fn release_tokens(&self) {
        self.shared.gate.add_permits(1_000);
    }

    /// How many token requests of a grant type were answered with a status.
    pub(crate) fn count(&self, grant: &str, status: u16) -> usize {
        self.script()
            .token_requests
            .iter()
            .filter(|(kind, code)| kind == grant && *code == status)
            .count()
    }

    /// The thumbprint of the key that an access token is bound to.
    pub(crate) fn key_of(&self, token: &str) -> Option<String> {
        self.script().keys.get(token).cloned()
    }

    /// The user approves: checks the authorization URL and gives the callback's query, or the body of
    /// the form.
    pub(crate) fn approve(&self, authorization_url: &str, user: &str) -> String {
        let parameters = self.requested(authorization_url).expect("a good request");
        assert_eq!(parameters["response_type"], "code");
        assert_eq!(parameters["code_challenge_method"], "S256");
        assert_eq!(parameters["client_id"], "shop");
        let mut script = self.script();
        let refreshable = script.refresh_wants.is_none_or(|(name, wanted)| {
            let value = parameters.get(name).map_or("", String::as_str);
            value.split(' ').any(|word| word == wanted)
        });
        script.requests.push(parameters.clone());
        script.counter += 1;
        let code = format!("canary-code-{}", script.counter);
        script.codes.insert(
            code.clone(),
            Grant {
                user: user.to_owned(),
                // only an ID token has one
                nonce: parameters.get("nonce").cloned().unwrap_or_default(),
                challenge: parameters["code_challenge"].clone(),
                redirect_uri: parameters["redirect_uri"].clone(),
                refreshable,
                jkt: parameters.get("dpop_jkt").cloned(),
            },
        );
        script.issued.push(code.clone());
        script.front.requested = parameters.clone();
        drop(script);
        let mode = parameters.get("response_mode").map_or("query", String::as_str);
        self.respond(mode, &code, &parameters["state"])
    }

    /// A logout token for the user and the session of every sign-in here, with these claims changed;
    /// `null` removes one.
    pub(crate) fn logout_token(&self, changes: &Value) -> String {
        let mut script = self.script();
        script.counter += 1;
        let now = script.clock.as_ref().expect("the rig sets the clock").now().0;
        let mut claims = json!({
            "iss": script.issuer, "aud": "shop", "iat": now, "exp": now + 120,
            "jti": format!("logout-{}", script.counter), "sub": "alice", "sid": "provider-session",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        overlay(&mut claims, changes);
        let signed = script.sign(&self.shared, "logout+jwt", &claims);
        script.shapes.shaped(signed)
    }
}

fn router(shared: &Arc<Shared>) -> axum::Router {
    axum::Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks", get(jwks))
        .route("/token", post(token))
        .route("/revoke", post(revoke))
        .route("/introspect", post(introspect::introspect))
        .route("/par", post(front::push))
        .route("/userinfo", get(shapes::userinfo))
        // of an issuer with a path, or wherever a test wants it
        .fallback(discovery_elsewhere)
        .with_state(Arc::clone(shared))
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Response {
    let silent = shared
        .state
        .lock()
        .expect("no test panicked here")
        .discovery_silent;
    if silent {
        // the connection stays open, and nothing comes
        std::future::pending::<()>().await;
    }
    let mut script = shared.state.lock().expect("no test panicked here");
    script.discovery_requests += 1;
    if script.discovery_down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let issuer = &script.issuer;
    let mut metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "introspection_endpoint": format!("{issuer}/introspect"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "end_session_endpoint": format!("{issuer}/end"),
        "authorization_response_iss_parameter_supported": true,
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    });
    overlay(&mut metadata, &script.metadata);
    axum::Json(metadata).into_response()
}

async fn discovery_elsewhere(shared: State<Arc<Shared>>, uri: http::Uri) -> Response {
    let is_plain = uri.path().starts_with("/.well-known/oauth-authorization-server");
    match is_plain || uri.path().ends_with("/openid-configuration") {
        true => discovery(shared).await,
        false => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    let mut script = shared.state.lock().expect("no test panicked here");
    script.jwks_requests += 1;
    let point = shared.key.public_key().as_ref();
    let mut key = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": script.jwks_kid.as_ref().unwrap_or(&script.kid),
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
    });
    overlay(&mut key, &script.jwk);
    axum::Json(json!({"keys": [key]})).into_response()
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let answer = {
        let mut script = shared.state.lock().expect("no test panicked here");
        let form: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect();
        let grant = form.get("grant_type").cloned().unwrap_or_default();
        script.token_forms.push(form.clone());
        let target = form.get("resource").or_else(|| form.get("audience"));
        let fault = target.and_then(|target| script.target_faults.get(target).copied());
        let (status, content_type, body) = match script.token_fault.or(fault) {
            Some(Fault::Answer(status, content_type, body)) => (status, content_type, body.to_owned()),
            None => {
                let (status, mut json) = script.token(&shared, &headers, &form);
                if let Some(changes) = target.and_then(|target| script.target_answers.get(target))
                    && status == 200
                {
                    overlay(&mut json, changes);
                }
                (status, "application/json", json.to_string())
            }
        };
        script.token_requests.push((grant, status));
        if script.nonces.rotates {
            script.nonces.next();
        }
        let nonce = script.nonces.demanded.then(|| script.nonces.current());
        (
            StatusCode::from_u16(status).expect("a status"),
            [("content-type", content_type.to_owned())],
            nonce.map(|nonce| [("dpop-nonce", nonce)]),
            body,
        )
    };
    // the provider has decided; its answer may be on the way for long
    shared.gate.acquire().await.expect("the gate stays").forget();
    answer.into_response()
}

async fn revoke(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> StatusCode {
    let mut script = shared.state.lock().expect("no test panicked here");
    let form = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    if script.credentials.is_some() && !script.knows(&headers, &form) {
        return StatusCode::UNAUTHORIZED;
    }
    for (name, value) in url::form_urlencoded::parse(body.as_bytes()) {
        if name == "token" {
            script.revoked.push(value.clone().into_owned());
            if let Some((_, token)) = script.refresh_tokens.get_mut(value.as_ref()) {
                *token = Token::Dead;
            }
        }
    }
    StatusCode::OK
}

fn is_our_client(headers: &HeaderMap) -> bool {
    let basic = format!(
        "Basic {}",
        STANDARD.encode(format!("shop:{}", super::CLIENT_SECRET))
    );
    headers.get("authorization").and_then(|value| value.to_str().ok()) == Some(&basic)
}

fn overlay(target: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => target.as_object_mut().expect("an object").remove(name),
            other => target
                .as_object_mut()
                .expect("an object")
                .insert(name.clone(), other.clone()),
        };
    }
}
