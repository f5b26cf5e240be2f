//! `session`: who is signed in, and how long each clock still runs.
//!
//! Reads only: asking never extends a session and never contacts the provider. No token is ever
//! in the answer, and of the claims not those that belong to the protocol alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::assurance::Authentication;
use crate::error::Error;
use crate::flow::elsewhere;
use crate::flow::visible::State;
use crate::flow::{AgentResponse, Seen};
use crate::handler::Handler;
use crate::oauth::plain::NOBODY;
use crate::secret::Secret;
use crate::session::Session;
use crate::time::UnixTime;

/// Claims of use to the protocol only, hashes of secrets among them.
const PROTOCOL_CLAIMS: [&str; 4] = ["nonce", "at_hash", "c_hash", "s_hash"];

/// How and when the user signed in (OIDC Core §2).
const AUTHENTICATION_CLAIMS: [&str; 3] = ["acr", "amr", "auth_time"];

impl Handler {
    /// `GET session`: 200 also when signed out.
    pub fn session<'a>(&self, seen: impl Into<Seen<'a>>, now: UnixTime) -> AgentResponse {
        let jar = self.jar(seen);
        match self.visible(&jar, now).state {
            State::Live(session) => AgentResponse::json(self.session_json(&session, now), Vec::new()),
            State::Absent | State::Elsewhere(_) | State::Ended { .. } => {
                AgentResponse::json(signed_out_json(), Vec::new())
            }
            State::Conflict => AgentResponse {
                failure: Some(Error::Unauthorized("the cookies show several sessions")),
                ..AgentResponse::json(signed_out_json(), self.cookies.clear_everything(&jar))
            },
        }
    }

    /// The session JSON of http-api: the same for `session`, `login/end` and `refresh`.
    pub(crate) fn session_json(&self, session: &Session, now: UnixTime) -> Value {
        let limits = &self.app.session;
        let token_until = match &session.kept {
            // with a store calls are activity, and renew the token
            Some(_) => session.tokens.access_expires_at.min(session.idle_ends_at(limits)),
            None => session.honoured_until(limits),
        };
        let mut json = json!({
            "is_logged_in": true,
            "id_token_claims": self.visible_claims(session),
            "access_token_expires_in": token_until.seconds_from(now),
            "session": {
                "id": session.id.public(),
                "idle_expires_in": session.idle_ends_at(limits).seconds_from(now),
                "expires_in": session.ends_at(limits).seconds_from(now),
                "provider_expires_in": session.tokens.refresh_expires_at.map(|at| at.seconds_from(now)),
            },
        });
        if let (Some(name), Some(members)) = (&self.provider.name, json.as_object_mut()) {
            members.insert("provider".to_owned(), name.as_str().into());
        }
        json
    }

    /// The claims of a session's ID token. Where that tells of a sign-in elsewhere, what is known of
    /// this session's own stands in its place: nothing else of how and when is believed.
    pub(crate) fn claims_of_session(&self, session: &Session) -> Map<String, Value> {
        let mut claims = session.tokens.claims();
        claims.remove(NOBODY);
        let known = &session.authentication;
        let told = Authentication::of(&claims).auth_time;
        if self.provider.habits.auth_time_may_change && told != known.auth_time {
            claims.retain(|name, _| !AUTHENTICATION_CLAIMS.contains(&name.as_str()));
            let auth_time = known.auth_time.map(|at| ("auth_time", json!(at.0)));
            let acr = known.acr.as_ref().map(|acr| ("acr", json!(acr)));
            let own = auth_time.into_iter().chain(acr);
            claims.extend(own.map(|(name, value)| (name.to_owned(), value)));
        }
        claims
    }

    pub(super) fn visible_claims(&self, session: &Session) -> Value {
        let mut claims = self.claims_of_session(session);
        match &self.app.session.claims {
            Some(wanted) => elsewhere::keep(&mut claims, wanted),
            None => claims.retain(|name, _| !PROTOCOL_CLAIMS.contains(&name.as_str())),
        }
        elsewhere::without_tokens(&mut claims);
        Value::Object(claims)
    }
}

fn signed_out_json() -> Value {
    json!({"is_logged_in": false, "id_token_claims": null, "access_token_expires_in": null, "session": null})
}

/// The claims of an ID token that was verified before it was sealed.
pub(crate) fn claims_of(id_token: &Secret) -> Option<Map<String, Value>> {
    let payload = id_token.expose().split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The user of a sealed ID token.
pub(super) fn user_of(id_token: &Secret) -> Option<String> {
    text_claim(id_token, "sub")
}

/// Whose a session is: its user's or, where nobody asked who that is, its own.
pub(super) fn owner_of(id_token: &Secret) -> Option<String> {
    user_of(id_token).or_else(|| text_claim(id_token, NOBODY))
}

/// The issuer of a sealed ID token.
pub(super) fn issuer_of(id_token: &Secret) -> Option<String> {
    text_claim(id_token, "iss")
}

fn text_claim(id_token: &Secret, name: &str) -> Option<String> {
    let claims = claims_of(id_token)?;
    claims.get(name).and_then(Value::as_str).map(str::to_owned)
}
