//! The provider: what a correct one does, and the place where a mode's twists come in.
//!
//! OpenID Connect Discovery, the code flow with PKCE (RFC 7636) and `iss` (RFC 9207), refresh, revocation
//! (RFC 7009), back-channel logout. Nothing expires, is used up or rotates, so that whatever goes wrong
//! is the mode's doing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::answer::Answer;
use crate::jwt::{Jwt, Keys};
use crate::mode::{MOST_TWISTS, Mode, Place};
use crate::server::Request;
use crate::twist::{Facts, Twist};
use crate::{CLIENT_ID, CLIENT_SECRET, SUBJECT};

/// A provider and what it has done.
pub(crate) struct Provider {
    issuer: String,
    trap: String,
    keys: Arc<Keys>,
    /// Seconds since 1970; zero: ask the system.
    time: AtomicU64,
    trapped: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    mode: Mode,
    behaves: bool,
    counter: u64,
    grants: HashMap<String, Grant>,
    issued: Vec<String>,
    /// How often a path was asked for since the misbehaviour began.
    asked: HashMap<String, usize>,
    revocations: usize,
    logout_request: String,
    /// The session at the provider of the last sign-in.
    sid: String,
}

/// What a code or a refresh token stands for.
#[derive(Clone, Default)]
struct Grant {
    nonce: String,
    challenge: String,
    redirect_uri: String,
    sid: String,
}

/// What a token request redeems.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Redeems {
    Code,
    RefreshToken,
    /// Nothing: the client asks in its own name.
    Nothing,
}

impl Provider {
    pub(crate) fn new(mode: Mode, issuer: String, trap: String) -> Self {
        Self {
            issuer,
            trap,
            keys: Arc::new(Keys::generate()),
            time: AtomicU64::new(0),
            trapped: AtomicUsize::new(0),
            state: Mutex::new(State::new(mode)),
        }
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn misbehave(&self, misbehaves: bool) {
        let mut state = self.state();
        state.behaves = !misbehaves;
        state.asked.clear();
    }

    pub(crate) fn switch(&self, mode: Mode) {
        *self.state() = State::new(mode);
        self.trapped.store(0, Ordering::Relaxed);
    }

    pub(crate) fn set_time(&self, now: u64) {
        self.time.store(now, Ordering::Relaxed);
    }

    pub(crate) fn canaries(&self) -> Vec<String> {
        vec![self.state().canary(), Facts::NUMBER.to_string()]
    }

    pub(crate) fn issued(&self) -> Vec<String> {
        self.state().issued.clone()
    }

    pub(crate) fn trapped(&self) -> usize {
        self.trapped.load(Ordering::Relaxed)
    }

    pub(crate) fn note_trapped(&self) {
        self.trapped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn revocations(&self) -> usize {
        self.state().revocations
    }

    /// The user approves.
    pub(crate) fn approve(&self, authorization_url: &str) -> String {
        let query = authorization_url.split_once('?').map_or("", |(_, query)| query);
        let asked = form(query.as_bytes());
        let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
        let mut state = self.state();
        let facts = self.facts(&state, 0);
        let twists = &state.twists();
        state.counter += 1;
        state.sid = format!("provider-session-{}-{}", state.counter, state.mode.id);
        let mut grant = Grant {
            nonce: of("nonce"),
            challenge: of("code_challenge"),
            redirect_uri: of("redirect_uri"),
            sid: state.sid.clone(),
        };
        if twists
            .iter()
            .any(|twist| matches!(twist, Twist::CodeOfAnotherSignIn))
        {
            grant.nonce = facts.canary.clone();
            grant.challenge = facts.canary.clone();
        }
        let code = state.token("code", &grant);
        let mut parameters = vec![
            ("code".to_owned(), code),
            ("state".to_owned(), of("state")),
            ("iss".to_owned(), self.issuer.clone()),
        ];
        for twist in twists {
            if let Twist::AuthorizationResponse(twist) = twist {
                twist(&facts, &mut parameters);
            }
        }
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish()
    }

    /// A back-channel logout request.
    pub(crate) fn logout_request(&self) -> String {
        let mut state = self.state();
        let facts = self.facts(&state, 0);
        let twists = &state.twists();
        if twists.iter().any(|twist| matches!(twist, Twist::LogoutReplayed)) {
            return state.logout_request.clone();
        }
        state.counter += 1;
        let mut token = Jwt::new(
            "logout+jwt",
            json!({
                "iss": self.issuer, "aud": CLIENT_ID, "sub": SUBJECT, "sid": state.sid,
                "iat": facts.now, "exp": facts.now + 120, "jti": format!("logout-{}-{}", state.counter, state.mode.id),
                "events": {EVENT: {}},
            }),
        );
        for twist in twists {
            if let Twist::LogoutToken(twist) = twist {
                twist(&facts, &mut token);
            }
        }
        let token = token.compact(&facts);
        state.issued.push(token.clone());
        let encoded: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
        let mut request = format!("logout_token={encoded}");
        for twist in twists {
            if let Twist::LogoutRequest(twist) = twist {
                request = twist(&facts, &token);
            }
        }
        if state.behaves {
            state.logout_request.clone_from(&request);
        }
        request
    }

    /// Answers a request.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let mut state = self.state();
        let asked = state.asked.get(&request.path).copied().unwrap_or_default();
        state.asked.insert(request.path.clone(), asked + 1);
        let facts = self.facts(&state, asked);
        match request.path.as_str() {
            "/.well-known/openid-configuration" => self.metadata(&state, &facts),
            "/jwks" => self.jwks(&state, &facts),
            "/token" => self.token(&mut state, &facts, request),
            "/revoke" => {
                state.revocations += 1;
                let answer = Answer::status(200);
                state.twists().iter().fold(answer, |answer, twist| match twist {
                    Twist::RevocationAnswer(twist) => twist(&facts, answer),
                    _ => answer,
                })
            }
            "/userinfo" => {
                let answer = Answer::json(&json!({"sub": SUBJECT, "email": "alice@example.com"}));
                state.twists().iter().fold(answer, |answer, twist| match twist {
                    Twist::UserinfoAnswer(twist) => twist(&facts, answer),
                    _ => answer,
                })
            }
            "/introspect" => self.introspect(&mut state, &facts, request),
            _ => Answer::status(404),
        }
    }

    /// RFC 7662, or RFC 9701 where that is what a mode is about.
    fn introspect(&self, state: &mut State, facts: &Facts, request: &Request) -> Answer {
        let token = form(&request.body).remove("token").unwrap_or_default();
        let is_active = state.grants.contains_key(&token);
        let about = json!({
            "active": is_active, "client_id": CLIENT_ID, "sub": SUBJECT, "scope": "openid",
            "iss": self.issuer, "exp": facts.now + 300,
        });
        let twists = state.twists();
        let answer = match state.mode.place == Place::SignedIntrospection {
            false => Answer::json(&about),
            true => {
                let mut signed = Jwt::new(
                    "token-introspection+jwt",
                    json!({"iss": self.issuer, "aud": CLIENT_ID, "iat": facts.now, "token_introspection": about}),
                );
                for twist in &twists {
                    if let Twist::Introspection(twist) = twist {
                        twist(facts, &mut signed);
                    }
                }
                let signed = signed.compact(facts);
                state.issued.push(signed.clone());
                Answer::text(200, "application/token-introspection+jwt", signed)
            }
        };
        twists.iter().fold(answer, |answer, twist| match twist {
            Twist::IntrospectionAnswer(twist) => twist(facts, answer),
            _ => answer,
        })
    }

    fn metadata(&self, state: &State, facts: &Facts) -> Answer {
        let issuer = &self.issuer;
        let mut document = members(json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "introspection_endpoint": format!("{issuer}/introspect"),
            "end_session_endpoint": format!("{issuer}/end"),
            "authorization_response_iss_parameter_supported": true,
            "code_challenge_methods_supported": ["S256"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }));
        let twists = state.twists();
        for twist in &twists {
            if let Twist::Metadata(twist) = twist {
                twist(facts, &mut document);
            }
        }
        let answer = Answer::json(&Value::Object(document));
        twists.iter().fold(answer, |answer, twist| match twist {
            Twist::MetadataAnswer(twist) => twist(facts, answer),
            _ => answer,
        })
    }

    fn jwks(&self, state: &State, facts: &Facts) -> Answer {
        let mut keys = vec![self.keys.jwk()];
        let twists = state.twists();
        for twist in &twists {
            if let Twist::Keys(twist) = twist {
                twist(facts, &mut keys);
            }
        }
        let answer = Answer::json(&json!({ "keys": keys }));
        twists.iter().fold(answer, |answer, twist| match twist {
            Twist::KeysAnswer(twist) => twist(facts, answer),
            _ => answer,
        })
    }

    fn token(&self, state: &mut State, facts: &Facts, request: &Request) -> Answer {
        let asked = form(&request.body);
        let of = |name: &str| asked.get(name).map_or("", String::as_str);
        let redeems = match of("grant_type") {
            "authorization_code" => Redeems::Code,
            "refresh_token" => Redeems::RefreshToken,
            "client_credentials" => Redeems::Nothing,
            _ => return Answer::error(400, "unsupported_grant_type"),
        };
        // a session that is refreshed wrongly has to be made first
        let meant = match state.mode.place {
            Place::Refresh => Redeems::RefreshToken,
            Place::ClientCredentials => Redeems::Nothing,
            _ => Redeems::Code,
        };
        let is_meant = redeems == meant;
        let twists = if is_meant { &state.twists()[..] } else { &[] };
        let answer = self.redeem(state, facts, request, redeems, &of, twists);
        twists.iter().fold(answer, |answer, twist| match twist {
            Twist::TokenAnswer(twist) => twist(facts, answer),
            _ => answer,
        })
    }

    fn redeem<'a>(
        &self,
        state: &mut State,
        facts: &Facts,
        request: &Request,
        redeems: Redeems,
        of: &dyn Fn(&str) -> &'a str,
        twists: &[Twist],
    ) -> Answer {
        let basic = format!(
            "Basic {}",
            STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"))
        );
        let by_post = of("client_id") == CLIENT_ID && of("client_secret") == CLIENT_SECRET;
        if !by_post && request.authorization.as_deref() != Some(&*basic) {
            return Answer::error(401, "invalid_client");
        }
        let presented = match redeems {
            Redeems::Code => of("code"),
            Redeems::RefreshToken => of("refresh_token"),
            Redeems::Nothing => return state.of_client(facts, of("scope"), twists),
        };
        let Some(grant) = state.grants.get(presented).cloned() else {
            return Answer::error(400, "invalid_grant");
        };
        if redeems == Redeems::Code {
            let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, of("code_verifier").as_bytes()));
            let proved =
                challenge == grant.challenge || twists.iter().any(|twist| matches!(twist, Twist::NoPkce));
            if !proved || of("redirect_uri") != grant.redirect_uri {
                return Answer::error(400, "invalid_grant");
            }
        }
        let access_token = state.token("access", &grant);
        let refresh_token = state.token("refresh", &grant);
        let mut id_token = Jwt::new(
            "JWT",
            json!({
                "iss": self.issuer, "sub": SUBJECT, "aud": CLIENT_ID, "nonce": grant.nonce, "sid": grant.sid,
                "iat": facts.now, "exp": facts.now + 3600, "auth_time": AUTH_TIME, "name": "Alice Example",
                "at_hash": at_hash(&access_token),
            }),
        );
        for twist in twists {
            if let Twist::IdToken(twist) = twist {
                twist(facts, &mut id_token);
            }
            if let Twist::Envelope(twist) = twist {
                id_token.finish = Some(*twist);
            }
        }
        let id_token = id_token.compact(facts);
        state.issued.push(id_token.clone());
        let mut answer = members(json!({
            "access_token": access_token, "token_type": "Bearer", "expires_in": 300,
            "refresh_token": refresh_token, "id_token": id_token,
        }));
        for twist in twists {
            if let Twist::TokenResponse(twist) = twist {
                twist(facts, &mut answer);
            }
        }
        Answer::json(&Value::Object(answer)).header("cache-control", "no-store")
    }

    fn facts(&self, state: &State, asked: usize) -> Facts {
        Facts {
            issuer: self.issuer.clone(),
            canary: state.canary(),
            trap: self.trap.clone(),
            now: self.now(),
            asked,
            keys: Arc::clone(&self.keys),
        }
    }

    fn now(&self) -> u64 {
        match self.time.load(Ordering::Relaxed) {
            0 => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            set => set,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            behaves: false,
            counter: 0,
            grants: HashMap::new(),
            issued: Vec::new(),
            asked: HashMap::new(),
            revocations: 0,
            logout_request: String::new(),
            sid: String::new(),
        }
    }

    /// A token of the client's own (RFC 6749 §4.4.3).
    fn of_client(&mut self, facts: &Facts, scope: &str, twists: &[Twist]) -> Answer {
        self.counter += 1;
        let token = format!("canary-client-{}-{}", self.counter, self.mode.id);
        self.issued.push(token.clone());
        let mut answer = members(json!({
            "access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": scope,
        }));
        for twist in twists {
            if let Twist::TokenResponse(twist) = twist {
                twist(facts, &mut answer);
            }
        }
        Answer::json(&Value::Object(answer)).header("cache-control", "no-store")
    }

    /// What is wrong now.
    fn twists(&self) -> [Twist; MOST_TWISTS] {
        if self.behaves {
            [Twist::Nothing; MOST_TWISTS]
        } else {
            self.mode.twists
        }
    }

    fn canary(&self) -> String {
        format!("canary.{}", self.mode.id)
    }

    /// A new code or token for a grant.
    fn token(&mut self, kind: &str, grant: &Grant) -> String {
        self.counter += 1;
        let token = format!("canary-{kind}-{}-{}", self.counter, self.mode.id);
        self.grants.insert(token.clone(), grant.clone());
        self.issued.push(token.clone());
        token
    }
}

/// OIDC Core §3.1.3.6 for ES256.
fn at_hash(access_token: &str) -> String {
    let hash = digest(&SHA256, access_token.as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16])
}

fn form(bytes: &[u8]) -> HashMap<String, String> {
    form_urlencoded::parse(bytes).into_owned().collect()
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// When the user signed in there.
const AUTH_TIME: u64 = 1_700_000_000;

/// The event of a logout token (OpenID Connect Back-Channel Logout §2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
