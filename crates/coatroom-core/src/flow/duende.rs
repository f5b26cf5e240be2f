//! `user` and `logout?sid=…`: the session as clients of Duende BFF ask for it and end it.
//!
//! Only where the application's `compatibility` says so. The answers have the form that such clients
//! read; which session it is, what ends it and where a browser may go is decided where it is decided
//! for everybody. A sign-out by `GET` would be any foreign page's to cause, so the link names its
//! session by an id that only this application's own pages are told; where `user` says that nobody is
//! signed in there is none to tell, and the link needs none. No token is in any answer.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde_json::{Value, json};

use crate::config::{AnonymousUser, Compatibility};
use crate::error::Error;
use crate::flow::visible::State;
use crate::flow::{AgentResponse, Effects, Extended, Input, Refusal, Seen, StoreWrite};
use crate::handler::Handler;
use crate::oauth::ProviderSnapshot;
use crate::return_to::ReturnTo;
use crate::rng::Rng;
use crate::route::Endpoint;
use crate::seal::digest32;
use crate::secret::Secret;
use crate::session::{Session, SessionId};
use crate::time::UnixTime;

impl Handler {
    /// `GET user`: the claims as a list of types and values, or whatever means that nobody is signed
    /// in. Where sessions are kept in a store asking is a sign of the user, unless `slide=false` says
    /// that it is a timer's.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], [`Error::SessionExpired`] or [`Error::GrantEnded`] without a session,
    /// unless the application answers that with `null`; [`Error::InvalidRequest`] for a parameter that
    /// occurs twice.
    pub fn user<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        query: &str,
        now: UnixTime,
    ) -> Result<AgentResponse, Refusal> {
        let input = Input::form(query.as_bytes())?;
        let slides = !input
            .single_in_any_case("slide")?
            .is_some_and(|value| value.eq_ignore_ascii_case("false"));
        let jar = self.jar(seen);
        let session = match self.visible(&jar, now).state {
            State::Live(session) => session,
            State::Absent | State::Elsewhere(_) => {
                return self.nobody(Error::Unauthorized("no session cookie that opens"), Vec::new());
            }
            State::Ended { why, .. } => return self.nobody(why.into(), Vec::new()),
            State::Conflict => {
                let error = Error::Unauthorized("the cookies show several sessions");
                return self.nobody(error, self.cookies.clear_everything(&jar));
            }
        };
        Ok(match self.slid(&session, now) {
            Some((slid, effects)) if slides => {
                let limits = &self.app.session;
                AgentResponse {
                    effects,
                    extended: Some(Extended {
                        session: slid.id,
                        ends_at: slid.ends_at(limits),
                        idle_ends_at: slid.idle_ends_at(limits),
                    }),
                    ..AgentResponse::json(self.user_json(&slid, now), Vec::new())
                }
            }
            _ => AgentResponse::json(self.user_json(&session, now), Vec::new()),
        })
    }

    /// `GET logout?sid=…`: ends the session that the link names, and goes on to the provider.
    /// `returnUrl` is where the browser is in the end. Of a session that is over already nobody is told
    /// the `sid`, so what its cookies left is cleared without one.
    ///
    /// # Errors
    /// [`Error::CsrfRejected`] unless `sid` is that of a session which the cookies show, or `user` would
    /// answer that nobody is signed in; [`Error::InvalidRequest`] for a parameter that occurs twice or a
    /// `returnUrl` that is no page of the SPA; then nothing has ended.
    pub fn logout_link<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        query: &str,
        provider: Option<&ProviderSnapshot>,
        now: UnixTime,
        rng: &mut dyn Rng,
    ) -> Result<AgentResponse, Refusal> {
        let input = Input::form(query.as_bytes())?;
        let return_to = match input
            .single_in_any_case("returnUrl")?
            .filter(|url| !url.is_empty())
        {
            Some(url) => ReturnTo::parse(url, None, &self.app)?,
            None => ReturnTo::home(&self.app),
        };
        let named = input.single_in_any_case("sid")?.map(Secret::new);
        let jar = self.jar(seen);
        let visible = self.visible(&jar, now);
        if visible.anchors.is_empty() {
            // nothing to end, and nothing to prove
            return Ok(AgentResponse::see_other(return_to.as_str(), Vec::new())?);
        }
        let is_named = visible
            .anchors
            .iter()
            .any(|anchor| named == Some(Secret::new(sid(anchor.id))));
        let needs_none = match &visible.state {
            // no page is told the `sid` of what is over; a store that is away cannot say that it is
            State::Ended { .. } | State::Absent => jar.view().is_some_and(|view| !view.is_unavailable()),
            State::Live(_) | State::Elsewhere(_) | State::Conflict => false,
        };
        if !is_named && !needs_none {
            let error = Error::CsrfRejected("the link does not name the session by its `sid`");
            return Err(error.into());
        }
        let ending = self.sign_out(visible, &jar, Some(&return_to), provider, now, rng)?;
        let onward = match ending.goes_on {
            true => self.agent_url(Endpoint::LogoutContinue.path()),
            false => return_to.as_str().to_owned(),
        };
        Ok(AgentResponse {
            effects: ending.effects,
            ..AgentResponse::see_other(&onward, ending.set_cookies)?
        })
    }

    fn nobody(&self, error: Error, set_cookies: Vec<HeaderValue>) -> Result<AgentResponse, Refusal> {
        match self.app.compatibility {
            Some(Compatibility::DuendeBff(AnonymousUser::Null)) => {
                Ok(AgentResponse::json(Value::Null, set_cookies))
            }
            Some(Compatibility::DuendeBff(AnonymousUser::Unauthorized)) | None => {
                Err(Refusal::with_cookies(error, set_cookies))
            }
        }
    }

    /// The session after a sign of the user, and what the store has to be told; none where that is not
    /// worth a write yet, or has no place: cookies are written by a refresh only.
    fn slid(&self, session: &Session, now: UnixTime) -> Option<(Session, Effects)> {
        let limits = &self.app.session;
        let key = self.record_key(session)?;
        if session.last_active.plus(limits.idle / 10) > now {
            return None;
        }
        let slid = Session {
            last_active: now,
            ..session.clone()
        };
        let touch = StoreWrite::Touch {
            key,
            last_active: now,
            life: self.record_life(slid.idle_ends_at(limits), now),
        };
        let effects = Effects {
            store: vec![touch],
            ..Effects::default()
        };
        Some((slid, effects))
    }

    fn user_json(&self, session: &Session, now: UnixTime) -> Value {
        let mut claims = self.visible_claims(session);
        let mut list = Vec::new();
        if let Some(claims) = claims.as_object_mut() {
            // the provider's name of its session is for logout tokens; what begins so is ours to say
            claims.retain(|name, _| name != "sid" && !name.starts_with(OURS));
            for (name, value) in claims {
                entries(name, value, &mut list);
            }
        }
        let sid = sid(session.id);
        let logout_url = format!("{}/{}?sid={sid}", self.app.base_path, Endpoint::Logout.path());
        list.push(json!({"type": "sid", "value": sid}));
        list.push(json!({"type": "bff:logout_url", "value": logout_url}));
        let rest = session.idle_ends_at(&self.app.session).seconds_from(now);
        list.push(json!({"type": "bff:session_expires_in", "value": rest}));
        Value::Array(list)
    }
}

/// One entry for each value, as text: a list of values is as many entries, what has an inside is JSON.
fn entries(name: &str, value: &Value, list: &mut Vec<Value>) {
    match value {
        Value::Array(values) => {
            for value in values.iter().filter(|value| !value.is_null()) {
                list.push(json!({"type": name, "value": text(value)}));
            }
        }
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            list.push(json!({"type": name, "value": text(value)}));
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The proof in a session's sign-out link: a digest of its id, under a name of its own. Neither the id
/// that logs and lists show nor the provider's `sid`, which other clients know, leads to it.
fn sid(id: SessionId) -> String {
    URL_SAFE_NO_PAD.encode(digest32("duende sid", &id.0))
}

/// In front of the names of the entries that no provider may write.
const OURS: &str = "bff:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_claim_is_an_entry_with_a_text() {
        let claims = json!({
            "name": "Alice \u{1f9e5}",
            "auth_time": 1_800_000_000,
            "email_verified": true,
            "role": ["reader", "writer", null, 7],
            "address": {"locality": "Bonn"},
            "middle_name": null,
            "empty": [],
        });
        let mut list = Vec::new();
        for (name, value) in claims.as_object().expect("an object") {
            entries(name, value, &mut list);
        }
        for (name, values) in [
            ("name", ["Alice \u{1f9e5}"].as_slice()),
            ("auth_time", &["1800000000"]),
            ("email_verified", &["true"]),
            ("role", &["reader", "writer", "7"]),
            ("address", &[r#"{"locality":"Bonn"}"#]),
            ("middle_name", &[]),
            ("empty", &[]),
        ] {
            let of: Vec<&Value> = list.iter().filter(|entry| entry["type"] == name).collect();
            let found: Vec<&str> = of.iter().filter_map(|entry| entry["value"].as_str()).collect();
            assert_eq!(found, values, "{name}");
            assert_eq!(of.len(), values.len(), "{name}: every value is text");
        }
    }

    #[test]
    fn the_proof_in_a_link_is_one_sessions_and_no_other_name_of_it() {
        let id = SessionId([7; 16]);
        assert_eq!(sid(id), sid(id));
        assert_ne!(sid(id), sid(SessionId([8; 16])));
        assert_eq!(sid(id).len(), 43);
        assert!(!sid(id).starts_with(&id.public()));
        assert_ne!(sid(id), URL_SAFE_NO_PAD.encode(id.0));
    }
}
