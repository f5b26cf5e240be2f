//! The scripted provider's front door: pushed and signed authorization requests, signed responses.
//!
//! Strict, so that a test fails where Coatroom is lax: a `request_uri` works once, nothing may be beside
//! it or beside a request object, and nothing may be there twice.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coatroom::clock::Clock as _;
use serde_json::{Value, json};

use super::{Fault, ScriptedProvider, Shared, overlay};

/// What the front door does and has done.
#[derive(Default)]
pub(crate) struct Front {
    pushed: HashMap<String, HashMap<String, String>>,
    /// What the endpoint for pushed requests does instead of its work.
    pub(crate) par_fault: Option<Fault>,
    /// The status of every pushed request.
    pub(crate) par_requests: Vec<u16>,
    /// The parameters of the last request that was approved.
    pub(crate) requested: HashMap<String, String>,
    /// Claims that replace those of a signed response; null removes one.
    pub(crate) response_claims: Value,
}

impl ScriptedProvider {
    /// From the next discovery on it takes pushed requests, or only those.
    pub(crate) fn offer_par(&self, required: bool) {
        let endpoint = format!("{}/par", self.issuer);
        let mut script = self.script();
        let offered = json!({
            "pushed_authorization_request_endpoint": endpoint,
            "require_pushed_authorization_requests": required,
        });
        overlay(&mut script.metadata, &offered);
    }

    /// The authorization request that a URL stands for.
    pub(crate) fn requested(&self, authorization_url: &str) -> Result<HashMap<String, String>, String> {
        let url = url::Url::parse(authorization_url).expect("a URL");
        let outside = unique(url.query_pairs().into_owned())?;
        if let Some(request_uri) = outside.get("request_uri") {
            if outside.len() != 2 || outside.get("client_id").is_none_or(|id| id != "shop") {
                return Err("there is more than `client_id` and `request_uri`".to_owned());
            }
            let found = self.script().front.pushed.remove(request_uri);
            return found.ok_or_else(|| "this `request_uri` is unknown or was used".to_owned());
        }
        let script = self.script();
        if script.metadata["require_pushed_authorization_requests"] == true {
            return Err("the request was not pushed".to_owned());
        }
        let now = script.clock.as_ref().expect("the rig sets the clock").now().0;
        unfolded(outside, &self.issuer, now)
    }

    /// The answer to a request.
    pub(super) fn respond(&self, mode: &str, code: &str, state: &str) -> String {
        match mode {
            "jwt" | "query.jwt" => {
                let response = self.signed_response(&json!({"code": code, "state": state}));
                format!("response={response}")
            }
            _ => url::form_urlencoded::Serializer::new(String::new())
                .append_pair("code", code)
                .append_pair("state", state)
                .append_pair("iss", &self.issuer)
                .append_pair("session_state", "ignored")
                .finish(),
        }
    }

    /// A signed response with these claims beside those that it always has.
    pub(crate) fn signed_response(&self, claims: &Value) -> String {
        let script = self.script();
        let now = script.clock.as_ref().expect("the rig sets the clock").now().0;
        let mut all = json!({"iss": script.issuer, "aud": "shop", "exp": now + 600});
        overlay(&mut all, claims);
        if script.front.response_claims.is_object() {
            overlay(&mut all, &script.front.response_claims);
        }
        script.sign(&self.shared, "JWT", &all)
    }
}

pub(super) async fn push(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let mut script = shared.state.lock().expect("no test panicked here");
    let (status, content_type, body) = match script.front.par_fault {
        Some(Fault::Answer(status, content_type, body)) => (status, content_type, body.to_owned()),
        None => {
            let now = script.clock.as_ref().expect("the rig sets the clock").now().0;
            let request = unique(url::form_urlencoded::parse(body.as_bytes()).into_owned())
                .and_then(|outside| unfolded(outside, &script.issuer, now));
            let form = url::form_urlencoded::parse(body.as_bytes())
                .into_owned()
                .collect();
            let (status, answer) = match request {
                _ if !script.knows(&headers, &form) => (401, json!({"error": "invalid_client"})),
                Ok(request) if request.contains_key("request_uri") => {
                    (400, json!({"error": "invalid_request"}))
                }
                Ok(request) => {
                    script.counter += 1;
                    let request_uri = format!("urn:ietf:params:oauth:request_uri:{}", script.counter);
                    script.front.pushed.insert(request_uri.clone(), request);
                    (201, json!({"request_uri": request_uri, "expires_in": 60}))
                }
                Err(why) => (400, json!({"error": "invalid_request", "error_description": why})),
            };
            (status, "application/json", answer.to_string())
        }
    };
    script.front.par_requests.push(status);
    (
        StatusCode::from_u16(status).expect("a status"),
        [("content-type", content_type)],
        body,
    )
        .into_response()
}

/// Parameters of which none but `resource` is there twice.
fn unique(pairs: impl Iterator<Item = (String, String)>) -> Result<HashMap<String, String>, String> {
    let mut found = HashMap::new();
    for (name, value) in pairs {
        match found.remove(&name) {
            Some(earlier) if name == "resource" => {
                found.insert(name, format!("{earlier} {value}"));
            }
            Some(_) => return Err(format!("`{name}` is there twice")),
            None => {
                found.insert(name, value);
            }
        }
    }
    Ok(found)
}

/// The request itself: what is in the request object, if there is one.
fn unfolded(
    outside: HashMap<String, String>,
    issuer: &str,
    now: u64,
) -> Result<HashMap<String, String>, String> {
    if outside.get("client_id").is_none_or(|id| id != "shop") {
        return Err("another client".to_owned());
    }
    let Some(object) = outside.get("request") else {
        return Ok(outside);
    };
    if outside.len() != 2 {
        return Err("there is more than `client_id` and `request`".to_owned());
    }
    let (message, signature) = object.rsplit_once('.').ok_or("no jws")?;
    let decoded = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| "no base64url");
    let key = client_key();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref())
        .verify(message.as_bytes(), &decoded(signature)?)
        .map_err(|_| "the signature is wrong")?;
    let (header, claims) = message.split_once('.').ok_or("no jws")?;
    let json = |part| serde_json::from_slice::<Value>(&decoded(part)?).map_err(|_| "no json");
    let (header, claims) = (json(header)?, json(claims)?);
    if header != json!({"alg": "ES256", "kid": "client-key", "typ": "oauth-authz-req+jwt"}) {
        return Err(format!("the header is {header}"));
    }
    let date = |name: &str| claims[name].as_u64().unwrap_or_default();
    let (exp, nbf, iat) = (date("exp"), date("nbf"), date("iat"));
    if claims["iss"] != "shop" || claims["aud"] != issuer || claims["client_id"] != "shop" {
        return Err("it is not this client's for this provider".to_owned());
    }
    if exp <= now || exp > now + 300 || nbf > now || iat != now || claims["jti"].as_str().is_none() {
        return Err("it does not count now".to_owned());
    }
    let own = ["iss", "aud", "exp", "nbf", "iat", "jti"];
    let members = claims.as_object().ok_or("no object")?.iter();
    Ok(members
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (name.clone(), text)
        })
        .collect())
}

/// The key with which this client signs.
fn client_key() -> &'static EcdsaKeyPair {
    static KEY: OnceLock<EcdsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
}

/// The same in PEM.
pub(crate) fn client_key_pem() -> String {
    let der = client_key().to_pkcs8v1().expect("it can be written");
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}
