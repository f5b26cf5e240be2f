//! The other side of DPoP (RFC 9449): what a provider and an API check of a proof, and an API that does.
//!
//! It shares no code with what makes proofs: signatures are verified by aws-lc directly.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::provider::ScriptedProvider;

/// A proof that was verified as far as it can be without knowing the request.
pub(crate) struct Proof {
    pub(crate) claims: Value,
    /// The thumbprint of its key.
    pub(crate) jkt: String,
}

/// The one proof of a request; none if there is none, or not exactly one that is good.
pub(crate) fn proof(headers: &HeaderMap) -> Option<Proof> {
    let mut all = headers.get_all("dpop").iter();
    let text = all.next()?.to_str().ok()?;
    if all.next().is_some() {
        return None;
    }
    let (message, signature) = text.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let (header, claims, signature) = (
        json(header)?,
        json(claims)?,
        URL_SAFE_NO_PAD.decode(signature).ok()?,
    );
    let jwk = header["jwk"].as_object()?;
    let is_private = jwk.contains_key("d");
    if header["typ"] != "dpop+jwt" || is_private || claims["jti"].as_str()?.len() < 16 {
        return None;
    }
    let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
    let (good, thumbprint) = match header["alg"].as_str()? {
        "ES256" => {
            let point = [vec![4], part("x")?, part("y")?].concat();
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
            let (x, y) = (jwk["x"].as_str()?, jwk["y"].as_str()?);
            (
                key.verify(message.as_bytes(), &signature).is_ok(),
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#),
            )
        }
        "EdDSA" => {
            let key = UnparsedPublicKey::new(&ED25519, part("x")?);
            let x = jwk["x"].as_str()?;
            (
                key.verify(message.as_bytes(), &signature).is_ok(),
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            )
        }
        _ => return None,
    };
    good.then(|| Proof {
        claims,
        jkt: URL_SAFE_NO_PAD.encode(digest(&SHA256, thumbprint.as_bytes())),
    })
}

/// Nonces that a server demands.
pub(crate) struct Nonces {
    name: &'static str,
    count: u64,
    /// Whether a proof without the newest one is refused.
    pub(crate) demanded: bool,
    /// Whether each answer has a new one.
    pub(crate) rotates: bool,
    seen: HashSet<String>,
}

impl Nonces {
    pub(crate) fn of(name: &'static str) -> Self {
        Self {
            name,
            count: 0,
            demanded: false,
            rotates: false,
            seen: HashSet::new(),
        }
    }

    /// Whether a proof may be used: never twice, and with the nonce of the moment.
    pub(crate) fn takes(&mut self, proof: &Proof) -> bool {
        let jti = proof.claims["jti"].to_string();
        assert!(self.seen.insert(jti), "a proof was used twice");
        !self.demanded || proof.claims["nonce"] == self.current()
    }

    /// The nonce of the moment.
    pub(crate) fn current(&self) -> String {
        format!("canary-nonce-{}-{}", self.name, self.count)
    }

    /// Another nonce from now on.
    pub(crate) fn next(&mut self) {
        self.count += 1;
    }
}

/// An API on a socket that takes tokens of the scripted provider with proofs, and nothing else.
pub(crate) struct ProvingApi {
    pub(crate) url: String,
    state: Arc<Mutex<Book>>,
}

/// What the API does and has done.
pub(crate) struct Book {
    provider: Option<ScriptedProvider>,
    base: String,
    pub(crate) nonces: Nonces,
    /// How each call was answered.
    pub(crate) answered: Vec<u16>,
    /// The key of each call that it took.
    pub(crate) keys: Vec<String>,
    /// How long the body was of each call that it took.
    pub(crate) bodies: Vec<usize>,
    /// Refuses before it has read the body.
    pub(crate) hasty: bool,
    /// The challenge that it answers everything with.
    pub(crate) always: Option<&'static str>,
}

impl ProvingApi {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(Mutex::new(Book {
            provider: None,
            base: url.clone(),
            nonces: Nonces::of("api"),
            answered: Vec::new(),
            keys: Vec::new(),
            bodies: Vec::new(),
            hasty: false,
            always: None,
        }));
        let router = axum::Router::new().fallback(serve).with_state(Arc::clone(&state));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // what a client does to its connection is the test's business
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, state }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.state.lock().expect("no test panicked here")
    }

    /// Whose tokens it takes.
    pub(crate) fn trust(&self, provider: &ScriptedProvider) {
        self.book().provider = Some(provider.clone());
    }

    /// What it takes for its own address.
    pub(crate) fn call_itself(&self, base: &str) {
        self.book().base = base.to_owned();
    }
}

async fn serve(State(state): State<Arc<Mutex<Book>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let lock = || state.lock().expect("no test panicked here");
    let hasty = lock().hasty;
    let refusal = lock().judge(&parts);
    if hasty && let Err((status, challenge)) = refusal {
        return lock().answer(status, Some(challenge));
    }
    let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
    let mut book = lock();
    match refusal {
        Ok(jkt) => {
            book.keys.push(jkt);
            book.bodies.push(length);
            book.answer(StatusCode::OK, None)
        }
        Err((status, challenge)) => book.answer(status, Some(challenge)),
    }
}

impl Book {
    fn judge(&mut self, parts: &http::request::Parts) -> Result<String, (StatusCode, &'static str)> {
        let refused = |challenge| Err((StatusCode::UNAUTHORIZED, challenge));
        if let Some(challenge) = self.always {
            return refused(challenge);
        }
        let Some(proof) = proof(&parts.headers) else {
            return refused(r#"DPoP error="invalid_dpop_proof""#);
        };
        let token = parts
            .headers
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let Some(token) = token.and_then(|value| value.strip_prefix("DPoP ")) else {
            return refused(r#"DPoP error="invalid_token""#);
        };
        let htu = format!("{}{}", self.base, parts.uri.path());
        let good = proof.claims["htm"] == parts.method.as_str()
            && proof.claims["htu"] == htu
            && proof.claims["ath"] == URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
        if !good {
            return refused(r#"DPoP error="invalid_dpop_proof", error_description="another request""#);
        }
        let provider = self.provider.as_ref().expect("the test says whose tokens");
        if provider.key_of(token).as_ref() != Some(&proof.jkt) {
            return refused(r#"DPoP error="invalid_token", error_description="another key""#);
        }
        match self.nonces.takes(&proof) {
            true => Ok(proof.jkt),
            false => refused(r#"DPoP error="use_dpop_nonce", error_description="a nonce, please""#),
        }
    }

    fn answer(&mut self, status: StatusCode, challenge: Option<&'static str>) -> Response {
        self.answered.push(status.as_u16());
        if self.nonces.rotates {
            self.nonces.next();
        }
        let mut response = (status, "{\"from\":\"api\"}").into_response();
        let headers = response.headers_mut();
        if self.nonces.demanded {
            let nonce = self.nonces.current().parse().expect("a header's value");
            headers.insert("dpop-nonce", nonce);
        }
        if let Some(challenge) = challenge {
            headers.insert("www-authenticate", http::HeaderValue::from_static(challenge));
        }
        response
    }
}
