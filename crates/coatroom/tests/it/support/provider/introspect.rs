//! Introspection of the scripted provider (RFC 7662, RFC 9701), and the JWT of a phantom token.
//!
//! It shares no code with what reads its answers.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use coatroom::clock::Clock as _;
use serde_json::{Value, json};

use super::{Shared, is_our_client, overlay};

/// What introspection answers, and was asked.
#[derive(Default)]
pub(crate) struct Introspection {
    /// Every token that was asked about, and what was accepted.
    pub(crate) asked: Vec<(String, String)>,
    /// Every JWT that was answered.
    pub(crate) answered: Vec<String>,
    /// Members that replace those of the answer; null removes one.
    pub(crate) members: Value,
    /// This status with this body of a type instead.
    pub(crate) fault: Option<(u16, &'static str, &'static str)>,
    /// Tokens that are worth nothing any more.
    pub(crate) ended: Vec<String>,
}

pub(super) async fn introspect(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let answer = {
        let mut script = shared.state.lock().expect("no test panicked here");
        let form: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect();
        if !is_our_client(&headers) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        assert_eq!(form["token_type_hint"], "access_token");
        let accepts = headers["accept"].to_str().expect("ASCII").to_owned();
        let token = form["token"].clone();
        script.introspection.asked.push((token.clone(), accepts.clone()));
        let now = script.clock.as_ref().expect("the rig sets the clock").now().0;
        let issuer = script.issuer.clone();
        let is_good = script.issued.contains(&token) && !script.introspection.ended.contains(&token);
        let mut members = match is_good {
            true => json!({
                "active": true, "client_id": "shop", "sub": "alice", "scope": "openid profile",
                "iss": issuer, "iat": now, "exp": now + 300,
            }),
            false => json!({"active": false}),
        };
        if let (true, Value::Object(_)) = (is_good, &script.introspection.members) {
            overlay(&mut members, &script.introspection.members);
        }
        match (script.introspection.fault, &*accepts) {
            (Some((status, kind, body)), _) => (status, kind, body.to_owned()),
            (None, "application/json") => (200, "application/json", members.to_string()),
            (None, "application/jwt") if !is_good => (204, "text/plain", String::new()),
            (None, "application/jwt") => {
                members["aud"] = json!("orders");
                members.as_object_mut().expect("an object").remove("active");
                let jwt = script.sign(&shared, "JWT", &members);
                script.introspection.answered.push(jwt.clone());
                (200, "application/jwt", jwt)
            }
            (None, _) => {
                let claims =
                    json!({"iss": issuer, "aud": "shop", "iat": now, "token_introspection": members});
                let jwt = script.sign(&shared, "token-introspection+jwt", &claims);
                script.introspection.answered.push(jwt.clone());
                (200, "application/token-introspection+jwt", jwt)
            }
        }
    };
    // the provider has decided; its answer may be on the way for long
    shared.gate.acquire().await.expect("the gate stays").forget();
    let (status, content_type, body) = answer;
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", content_type)], body).into_response()
}
