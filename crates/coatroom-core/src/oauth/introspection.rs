//! Token introspection (RFC 7662), as a JWT (RFC 9701), and as the access token in a JWT (phantom tokens).
//!
//! Asks what a token of ours is worth, and takes an answer for what it is: signed ones are verified like
//! any other JWT of the provider's, with a type of their own, and a token that is for another client, that
//! is over, or that is bound to a key which the API would never be shown is not passed on as good. What
//! is not said to be active is not. Nothing is kept here, and no error repeats what came.

use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::client_auth;
use super::id_token::{self, Announced, IdTokenFailure, Signed};
use super::json;
use super::jwe;
use super::metadata::Metadata;
use crate::config::{Introspection, IntrospectionResponse, Provider};
use crate::error::Error;
use crate::secret::Secret;
use crate::step::{Context, ProviderResponse, Reply, Step};
use crate::time::UnixTime;

/// What the provider says of a token.
#[derive(Clone)]
pub(crate) enum Answered {
    /// It is worth nothing, or it is not ours to know (RFC 7662 §2.2).
    Inactive,
    /// It is good.
    Active(Active),
}

/// A good token.
#[derive(Clone)]
pub(crate) struct Active {
    /// What the API gets in its place, if that is another.
    pub(crate) replacement: Option<Secret>,
    /// Its scopes, if the provider says.
    pub(crate) scope: Option<String>,
    /// When it ends, if the provider says.
    pub(crate) expires_at: Option<UnixTime>,
}

/// A token, and how to ask about it.
pub(crate) struct Asked {
    pub(crate) provider: Arc<Provider>,
    pub(crate) introspection: Arc<Introspection>,
    pub(crate) token: Secret,
}

impl Asked {
    /// Asks.
    ///
    /// # Errors
    /// [`Error::Provider`] where the metadata names no endpoint, where this client cannot authenticate, and
    /// for an answer that is not acceptable; [`Error::ProviderUnavailable`] for an outage; [`Error::Bug`].
    pub(crate) fn step(self, context: &mut Context<'_>) -> Result<Step<Answered>, Error> {
        let snapshot = context.provider;
        let endpoint = snapshot.metadata.introspection_endpoint.as_ref();
        let endpoint = endpoint.ok_or_else(|| {
            refuse("the metadata names no `introspection_endpoint`, which a route's `token` needs")
        })?;
        let parameters = [
            ("token", self.token.expose()),
            ("token_type_hint", "access_token"),
        ];
        let mut request = client_auth::post(endpoint, &parameters, &self.provider, context)?;
        request.headers.retain(|(name, _)| name != ACCEPT);
        request.headers.push((ACCEPT, self.accepts()));
        Ok(Step::send(request, move |reply, context| {
            self.read(&reply, context)
        }))
    }

    fn accepts(&self) -> HeaderValue {
        HeaderValue::from_static(match self.introspection.response {
            IntrospectionResponse::Jwt => "application/token-introspection+jwt, application/jwt",
            // alone: Keycloak looks for exactly this
            IntrospectionResponse::PhantomToken => "application/jwt",
            IntrospectionResponse::Json => "application/json",
        })
    }

    fn read(self, reply: &Reply, context: &Context<'_>) -> Result<Step<Answered>, Error> {
        let response = match reply {
            Reply::Response(response) => response,
            Reply::Unreachable(why) => return Err(unavailable(why)),
            Reply::Keys => return Err(Error::Bug("asked about a token, got keys")),
        };
        let raw = match self.form(response, context)? {
            Form::Nothing => return Ok(Step::Done(Answered::Inactive)),
            Form::Jwt(raw) => raw,
            Form::Json(members) => match self.inside(&members)? {
                Some(raw) => raw,
                None => {
                    let answered = self.judge(&members, None, context).map_err(refuse)?;
                    return Ok(Step::Done(answered));
                }
            },
        };
        let keys = &self.provider.id_token_decryption_keys;
        let raw = jwe::perhaps(raw, keys).map_err(|failure| refuse(reason(failure)))?;
        match self.verify(&raw, context) {
            Ok(answered) => Ok(Step::Done(answered)),
            // one chance for fresh keys
            Err(IdTokenFailure::UnknownKey) => Ok(Step::fetch_keys(move |context| {
                let answered = self.verify(&raw, context);
                answered
                    .map(Step::Done)
                    .map_err(|failure| refuse(reason(failure)))
            })),
            Err(failure @ IdTokenFailure::Invalid(_)) => Err(refuse(reason(failure))),
        }
    }

    fn form(&self, response: &ProviderResponse, context: &Context<'_>) -> Result<Form, Error> {
        let wanted = self.introspection.response;
        match response.status {
            StatusCode::OK => {}
            // Curity, of a token that is over: there is no JWT to show
            StatusCode::NO_CONTENT if wanted == IntrospectionResponse::PhantomToken => {
                return Ok(Form::Nothing);
            }
            StatusCode::TOO_MANY_REQUESTS => return Err(unavailable("status 429")),
            StatusCode::REQUEST_TIMEOUT => return Err(unavailable("status 408")),
            status if status.is_server_error() => return Err(unavailable("status 5xx")),
            StatusCode::UNAUTHORIZED => {
                let metadata = &context.provider.metadata;
                return Err(refuse(client_auth::refused(&self.provider, metadata)));
            }
            StatusCode::FORBIDDEN => {
                return Err(refuse(
                    "status 403: this client may not introspect tokens; allow it at the provider",
                ));
            }
            _ => return Err(refuse("neither 200 nor a status that says why not")),
        }
        let essence = response.content_type.as_deref().unwrap_or_default();
        let essence = essence.split(';').next().unwrap_or_default().trim();
        let jwt = || {
            let text = str::from_utf8(&response.body).map_err(|_| refuse("it is not a jwt"))?;
            Ok(Form::Jwt(Secret::new(text.trim())))
        };
        match (wanted, essence.to_ascii_lowercase().as_str()) {
            (IntrospectionResponse::Jwt, "application/token-introspection+jwt" | "application/jwt")
            | (IntrospectionResponse::PhantomToken, "application/jwt") => jwt(),
            (IntrospectionResponse::Json | IntrospectionResponse::PhantomToken, "application/json") => {
                json::object(&response.body)
                    .map(Form::Json)
                    .ok_or_else(|| refuse("it is not a json object with unique members"))
            }
            (IntrospectionResponse::Jwt, "application/json") => Err(refuse(
                "it is not signed; register the client with `introspection_signed_response_alg` (RFC 9701 §6), \
                 or see `response: phantom_token` and `response: json`",
            )),
            (IntrospectionResponse::Jwt, _) => Err(refuse(
                "it is neither application/token-introspection+jwt nor application/jwt",
            )),
            (IntrospectionResponse::PhantomToken, _) => {
                Err(refuse("it is neither application/jwt nor application/json"))
            }
            (IntrospectionResponse::Json, _) => Err(refuse("it is not application/json")),
        }
    }

    /// The access token as a JWT inside of an answer: Curity's token procedures call it `phantom_token`,
    /// Keycloak `jwt`.
    fn inside(&self, members: &Map<String, Value>) -> Result<Option<Secret>, Error> {
        let is_active = members.get("active") == Some(&Value::Bool(true));
        if self.introspection.response != IntrospectionResponse::PhantomToken || !is_active {
            return Ok(None);
        }
        match (members.get("phantom_token"), members.get("jwt")) {
            (Some(Value::String(jwt)), None) | (None, Some(Value::String(jwt))) => Ok(Some(Secret::new(jwt))),
            (None, None) => Err(refuse(
                "it has no jwt in it: neither `phantom_token` nor `jwt`; have the provider answer application/jwt",
            )),
            (_, _) => Err(refuse("expected one text in either `phantom_token` or `jwt`")),
        }
    }

    /// Checks a signed answer, or a signed access token.
    fn verify(&self, raw: &Secret, context: &Context<'_>) -> Result<Answered, IdTokenFailure> {
        let invalid = IdTokenFailure::Invalid;
        let metadata = &context.provider.metadata;
        let is_answer = self.introspection.response == IntrospectionResponse::Jwt;
        let announced = Announced {
            // nothing announces how access tokens are signed
            algorithms: match is_answer {
                true => metadata.introspection_signing_alg_values_supported.as_deref(),
                false => None,
            },
            otherwise: "`alg` is not among `introspection_signing_alg_values_supported`",
            tenants: metadata.tenants.as_ref(),
        };
        let Signed { header, claims, .. } =
            id_token::check_signature_by(raw, &context.provider.keys, &announced)?;
        self.check_type(header.get("typ")).map_err(invalid)?;
        check_issuer(&claims, metadata).map_err(invalid)?;
        self.check_audience(&claims).map_err(invalid)?;
        // a JWT of another kind has these, and is signed by the same keys
        if claims.contains_key("nonce") || claims.contains_key("events") {
            return Err(invalid("it is another kind of token"));
        }
        let iat = id_token::date(&claims, "iat", "`iat` is not a number").map_err(invalid)?;
        if iat.is_some_and(|iat| iat > context.now.plus(self.provider.leeway)) {
            return Err(invalid("it was issued in the future (`iat`); check the clocks"));
        }
        let answered = match (is_answer, claims.get("token_introspection")) {
            (true, Some(Value::Object(members))) => {
                iat.ok_or_else(|| invalid("`iat` is missing"))?;
                // RFC 9701 §5 advises against both, and where they are they count
                if self.times(&claims, context).map_err(invalid)?.is_over {
                    return Err(invalid("it has expired (`exp`)"));
                }
                self.judge(members, Some(raw), context)
            }
            (true, Some(_)) => Err("`token_introspection` is not an object"),
            (true, None) => Err("`token_introspection` is missing"),
            (false, Some(_)) => Err("it is an answer about a token, for which there is `response: jwt`"),
            (false, None) if !claims.contains_key("exp") => Err("`exp` is missing"),
            (false, None)
                if claims
                    .get("azp")
                    .is_some_and(|azp| *azp != self.provider.client_id) =>
            {
                Err("`azp` is not `client_id`")
            }
            (false, None) => self.active(&claims, Some(raw), context),
        };
        answered.map_err(invalid)
    }

    fn check_type(&self, typ: Option<&Value>) -> Result<(), &'static str> {
        let typ = match typ {
            None => None,
            Some(Value::String(typ)) => Some(typ.to_ascii_lowercase()),
            Some(_) => return Err("its `typ` is not a string"),
        };
        let typ = typ
            .as_deref()
            .map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        match (self.introspection.response, typ) {
            (IntrospectionResponse::Jwt, Some("token-introspection+jwt"))
            | (IntrospectionResponse::PhantomToken, None | Some("jwt" | "at+jwt")) => Ok(()),
            (IntrospectionResponse::PhantomToken, _) => Err("its `typ` is not that of an access token"),
            // RFC 9701 §8.1
            (IntrospectionResponse::Jwt | IntrospectionResponse::Json, _) => Err(
                "its `typ` is not token-introspection+jwt; for a provider that answers the access token as a jwt: \
                 `response: phantom_token`",
            ),
        }
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), &'static str> {
        let named = self.introspection.audience.as_deref();
        let wanted = match self.introspection.response {
            // who asks is the audience (RFC 9701 §5)
            IntrospectionResponse::Jwt => Some(named.unwrap_or(&self.provider.client_id)),
            IntrospectionResponse::PhantomToken | IntrospectionResponse::Json => named,
        };
        let is_there = match claims.get("aud") {
            None if wanted.is_none() => return Ok(()),
            None => return Err("`aud` is missing"),
            Some(Value::String(audience)) => wanted.is_none_or(|wanted| wanted == audience),
            Some(Value::Array(several)) if several.iter().all(Value::is_string) => {
                wanted.is_none_or(|wanted| several.iter().any(|audience| audience == wanted))
            }
            Some(_) => return Err("`aud` is not a string or an array of strings"),
        };
        match (is_there, named) {
            (true, _) => Ok(()),
            (false, Some(_)) => Err("`aud` does not contain `audience`"),
            (false, None) => Err(
                "`aud` does not contain `client_id`; where the provider names the API: `introspection: {audience}`",
            ),
        }
    }

    /// What the members of an answer say (RFC 7662 §2.2).
    fn judge(
        &self,
        members: &Map<String, Value>,
        raw: Option<&Secret>,
        context: &Context<'_>,
    ) -> Result<Answered, &'static str> {
        match members.get("active") {
            Some(Value::Bool(true)) => self.active(members, raw, context),
            Some(Value::Bool(false)) => Ok(Answered::Inactive),
            Some(_) => Err("`active` is not a boolean"),
            None => Err("`active` is missing"),
        }
    }

    /// What is said of a good token, here or in its claims; it may be over since, by its `exp`.
    fn active(
        &self,
        members: &Map<String, Value>,
        raw: Option<&Secret>,
        context: &Context<'_>,
    ) -> Result<Answered, &'static str> {
        let replaces = self.introspection.response.replaces_the_token();
        if members.contains_key("iss") {
            check_issuer(members, &context.provider.metadata)?;
        }
        match members.get("client_id") {
            None => {}
            Some(Value::String(id)) if *id == self.provider.client_id => {}
            Some(_) => return Err("`client_id` is not ours: it is about another client's token"),
        }
        if members.contains_key("sub") {
            id_token::subject(members)?;
        }
        let bound = members.get("cnf").is_some_and(|cnf| !cnf.is_null());
        if bound && replaces {
            return Err("the token is bound (`cnf`), and a route with this `response` cannot show to what");
        }
        let scope = match members.get("scope") {
            None | Some(Value::Null) => None,
            Some(Value::String(scope)) => Some(scope.clone()),
            Some(_) => return Err("`scope` is not a string"),
        };
        let times = self.times(members, context)?;
        if times.is_over {
            return Ok(Answered::Inactive);
        }
        Ok(Answered::Active(Active {
            replacement: raw.filter(|_| replaces).cloned(),
            scope,
            expires_at: times.exp,
        }))
    }

    /// When something ends, if that is said.
    fn times(&self, members: &Map<String, Value>, context: &Context<'_>) -> Result<Times, &'static str> {
        let (now, leeway) = (context.now, self.provider.leeway);
        let exp = id_token::date(members, "exp", "`exp` is not a number")?;
        let nbf = id_token::date(members, "nbf", "`nbf` is not a number")?;
        if nbf.is_some_and(|nbf| nbf > now.plus(leeway)) {
            return Err("it is not valid yet (`nbf`); check the clocks");
        }
        Ok(Times {
            exp,
            is_over: exp.is_some_and(|exp| exp.plus(leeway) <= now),
        })
    }
}

struct Times {
    exp: Option<UnixTime>,
    is_over: bool,
}

enum Form {
    Nothing,
    Jwt(Secret),
    Json(Map<String, Value>),
}

fn check_issuer(claims: &Map<String, Value>, metadata: &Metadata) -> Result<(), &'static str> {
    match claims.get("iss") {
        Some(Value::String(iss)) if metadata.is_issuer(iss) => Ok(()),
        Some(_) => Err("`iss` is not the issuer"),
        None => Err("`iss` is missing"),
    }
}

fn reason(failure: IdTokenFailure) -> &'static str {
    match failure {
        IdTokenFailure::UnknownKey => "no key of the provider's jwk set fits its `kid`",
        IdTokenFailure::Invalid(why) => why,
    }
}

fn refuse(why: &str) -> Error {
    Error::Provider(format!("introspection: {why}"))
}

fn unavailable(why: &str) -> Error {
    Error::ProviderUnavailable {
        reason: format!("introspection: {why}"),
        retry_after: RETRY_AFTER,
    }
}

/// Seconds until the endpoint may be there again: until then its failure is remembered.
const RETRY_AFTER: u32 = 2;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeroize::Zeroizing;

    use super::*;
    use crate::assurance::Demands;
    use crate::oauth::testing::{CLIENT_ID, ISSUER, SigningKey, key_set, metadata_with, provider};
    use crate::oauth::{JwkSet, ProviderSnapshot};
    use crate::rng::testing::Counter;
    use crate::step::ProviderRequest;

    const NOW: UnixTime = UnixTime(1_700_000_000);
    const TOKEN: &str = "0paque+t/ken";

    type Changes<'a> = &'a [(&'a str, Value)];

    fn snapshot(keys: JwkSet) -> ProviderSnapshot {
        let metadata = metadata_with(&[
            ("introspection_endpoint", json!(format!("{ISSUER}/introspect"))),
            (
                "introspection_signing_alg_values_supported",
                json!(["ES256", "RS256"]),
            ),
        ]);
        ProviderSnapshot::new(metadata, keys)
    }

    fn asked(response: IntrospectionResponse, audience: Option<&str>) -> Asked {
        Asked {
            provider: Arc::new(provider()),
            introspection: Arc::new(Introspection {
                response,
                audience: audience.map(str::to_owned),
                cache: None,
                whose: Demands::issued_by(None, &provider().issuer, &provider().client_id),
            }),
            token: Secret::new(TOKEN),
        }
    }

    fn answer(status: u16, content_type: &str, body: &str) -> Reply {
        Reply::Response(ProviderResponse {
            status: StatusCode::from_u16(status).expect("a status"),
            content_type: Some(content_type.to_owned()),
            dpop_nonce: None,
            body: Zeroizing::new(body.as_bytes().to_vec()),
        })
    }

    /// What was sent, and what the answer comes to; a second fetch of keys brings `later`.
    fn converse(
        asked: Asked,
        reply: Reply,
        before: &ProviderSnapshot,
        later: &ProviderSnapshot,
    ) -> (ProviderRequest, Result<Answered, Error>) {
        fn context<'a>(provider: &'a ProviderSnapshot, rng: &'a mut Counter) -> Context<'a> {
            Context {
                provider,
                now: NOW,
                rng,
            }
        }
        let rng = &mut Counter(1);
        let step = asked.step(&mut context(before, rng)).expect("a request");
        let Step::Send(request, rest) = step else {
            panic!("it has to ask")
        };
        let outcome = match rest.resume(reply, &mut context(before, rng)) {
            Ok(Step::Done(answered)) => Ok(answered),
            Ok(Step::FetchKeys(rest)) => match rest.resume(Reply::Keys, &mut context(later, rng)) {
                Ok(Step::Done(answered)) => Ok(answered),
                Ok(_) => panic!("it asks for more"),
                Err(error) => Err(error),
            },
            Ok(Step::Send(..)) => panic!("it asks for more"),
            Err(error) => Err(error),
        };
        (request, outcome)
    }

    fn outcome(asked: Asked, reply: Reply, snapshot: &ProviderSnapshot) -> String {
        told(&converse(asked, reply, snapshot, snapshot).1)
    }

    fn told(outcome: &Result<Answered, Error>) -> String {
        match outcome {
            Ok(Answered::Inactive) => "inactive".to_owned(),
            Ok(Answered::Active(active)) => {
                let replaced = active.replacement.is_some();
                let until = active.expires_at.map(|at| at.0.saturating_sub(NOW.0));
                format!("active: {replaced} {:?} {until:?}", active.scope.as_deref())
            }
            Err(Error::Provider(why)) => why.trim_start_matches("introspection: ").to_owned(),
            Err(Error::ProviderUnavailable {
                reason,
                retry_after: 2,
            }) => format!("away: {reason}"),
            Err(other) => panic!("{other}"),
        }
    }

    fn changed(mut members: Value, changes: Changes<'_>) -> Value {
        for (name, value) in changes {
            match value {
                Value::Null => drop(members.as_object_mut().expect("an object").remove(*name)),
                value => members[*name] = value.clone(),
            }
        }
        members
    }

    fn members() -> Value {
        json!({
            "active": true, "client_id": CLIENT_ID, "sub": "ann", "scope": "openid orders",
            "exp": NOW.0 + 300, "iat": NOW.0 - 5, "iss": ISSUER, "token_type": "Bearer",
        })
    }

    fn claims(changes: Changes<'_>, about: Changes<'_>) -> Value {
        let claims = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "iat": NOW.0,
            "token_introspection": changed(members(), about),
        });
        changed(claims, changes)
    }

    fn phantom(changes: Changes<'_>) -> Value {
        let claims = json!({
            "iss": ISSUER, "aud": "orders", "sub": "ann", "exp": NOW.0 + 300, "iat": NOW.0,
            "client_id": CLIENT_ID, "scope": "openid orders",
        });
        changed(claims, changes)
    }

    fn typed(key: &SigningKey, typ: Value) -> Value {
        let mut header = key.header();
        match typ {
            Value::Null => drop(header.as_object_mut().expect("an object").remove("typ")),
            typ => header["typ"] = typ,
        }
        header
    }

    const GOOD: &str = "active: true Some(\"openid orders\") Some(300)";
    const JWT: &str = "application/token-introspection+jwt";

    #[test]
    fn the_request_names_the_token_and_authenticates() {
        for (response, accept) in [
            (
                IntrospectionResponse::Jwt,
                "application/token-introspection+jwt, application/jwt",
            ),
            (IntrospectionResponse::PhantomToken, "application/jwt"),
            (IntrospectionResponse::Json, "application/json"),
        ] {
            let snapshot = snapshot(key_set(&[]));
            let reply = answer(200, "application/json", r#"{"active":false}"#);
            let (request, _) = converse(asked(response, None), reply, &snapshot, &snapshot);
            assert_eq!(request.url.as_str(), "https://login.example.com/introspect");
            let body = std::str::from_utf8(&request.body).expect("text");
            assert_eq!(body, "token=0paque%2Bt%2Fken&token_type_hint=access_token");
            let accepts: Vec<_> = request
                .headers
                .iter()
                .filter(|(name, _)| name == ACCEPT)
                .collect();
            assert_eq!(accepts.len(), 1);
            assert_eq!(accepts[0].1, accept);
            let authenticates = |name| name == http::header::AUTHORIZATION;
            assert!(request.headers.iter().any(|(name, _)| authenticates(name)));
        }
    }

    #[test]
    fn a_signed_answer_passes_with_what_it_says_and_is_what_the_api_gets() {
        let key = SigningKey::generate("ES256", Some("k"));
        let snapshot = snapshot(key_set(&[&key]));
        let cases: &[(&str, Value, Option<&str>, Value, &str)] = &[
            (
                "as it should be",
                json!("token-introspection+jwt"),
                None,
                claims(&[], &[]),
                GOOD,
            ),
            (
                "the whole media type, in another case",
                json!("application/Token-Introspection+JWT"),
                None,
                claims(&[], &[]),
                GOOD,
            ),
            (
                "a list of audiences",
                json!("token-introspection+jwt"),
                None,
                claims(&[("aud", json!(["orders", CLIENT_ID]))], &[]),
                GOOD,
            ),
            (
                "the api's audience",
                json!("token-introspection+jwt"),
                Some("orders"),
                claims(&[("aud", json!("orders"))], &[]),
                GOOD,
            ),
            (
                "the least",
                json!("token-introspection+jwt"),
                None,
                claims(&[("token_introspection", json!({"active": true}))], &[]),
                "active: true None None",
            ),
            (
                "inactive",
                json!("token-introspection+jwt"),
                None,
                claims(&[("token_introspection", json!({"active": false}))], &[]),
                "inactive",
            ),
        ];
        for (name, typ, audience, claims, expected) in cases {
            let raw = key.sign_as(&typed(&key, typ.clone()), claims);
            for content_type in [JWT, "Application/JWT; charset=utf-8"] {
                let reply = answer(200, content_type, raw.expose());
                let asked = asked(IntrospectionResponse::Jwt, *audience);
                let (_, outcome) = converse(asked, reply, &snapshot, &snapshot);
                assert_eq!(told(&outcome), *expected, "{name}");
                if let Ok(Answered::Active(active)) = outcome {
                    assert!(active.replacement == Some(raw.clone()), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_signed_answer_that_is_wrong_is_refused_by_name() {
        let key = SigningKey::generate("ES256", Some("k"));
        let snapshot = snapshot(key_set(&[&key]));
        let about = |name, value| claims(&[], &[(name, value)]);
        let beside = |name, value| claims(&[(name, value)], &[]);
        for (name, claims, expected) in [
            ("no issuer", beside("iss", Value::Null), "`iss` is missing"),
            (
                "another issuer",
                beside("iss", json!("https://evil.example.com")),
                "`iss` is not the issuer",
            ),
            (
                "a list of issuers",
                beside("iss", json!([ISSUER])),
                "`iss` is not the issuer",
            ),
            ("for nobody", beside("aud", Value::Null), "`aud` is missing"),
            (
                "for a number",
                beside("aud", json!(1)),
                "`aud` is not a string or an array of strings",
            ),
            (
                "for others",
                beside("aud", json!(["orders"])),
                "`aud` does not contain `client_id`; where the provider names the API: `introspection: {audience}`",
            ),
            ("at no time", beside("iat", Value::Null), "`iat` is missing"),
            (
                "in the future",
                beside("iat", json!(NOW.0 + 11)),
                "it was issued in the future (`iat`); check the clocks",
            ),
            (
                "over by itself",
                beside("exp", json!(NOW.0 - 10)),
                "it has expired (`exp`)",
            ),
            (
                "an id token",
                beside("nonce", json!("n")),
                "it is another kind of token",
            ),
            (
                "a logout token",
                beside("events", json!({})),
                "it is another kind of token",
            ),
            (
                "about nothing",
                beside("token_introspection", Value::Null),
                "`token_introspection` is missing",
            ),
            (
                "about a text",
                beside("token_introspection", json!("active")),
                "`token_introspection` is not an object",
            ),
            ("not said", about("active", Value::Null), "`active` is missing"),
            (
                "said in words",
                about("active", json!("true")),
                "`active` is not a boolean",
            ),
            (
                "another client's",
                about("client_id", json!("other")),
                "`client_id` is not ours: it is about another client's token",
            ),
            (
                "another issuer's",
                about("iss", json!("https://evil.example.com")),
                "`iss` is not the issuer",
            ),
            ("over", about("exp", json!(NOW.0 - 10)), "inactive"),
            (
                "over some day",
                about("exp", json!("soon")),
                "`exp` is not a number",
            ),
            (
                "not yet",
                about("nbf", json!(NOW.0 + 11)),
                "it is not valid yet (`nbf`); check the clocks",
            ),
            ("nobody's", about("sub", json!(7)), "`sub` is not a string"),
            (
                "scopes in a list",
                about("scope", json!(["orders"])),
                "`scope` is not a string",
            ),
            (
                "bound",
                about("cnf", json!({"jkt": "x"})),
                "the token is bound (`cnf`), and a route with this `response` cannot show to what",
            ),
        ] {
            let raw = key.sign_as(&typed(&key, json!("token-introspection+jwt")), &claims);
            let reply = answer(200, JWT, raw.expose());
            assert_eq!(
                outcome(asked(IntrospectionResponse::Jwt, None), reply, &snapshot),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn a_jwt_of_another_kind_or_hand_is_no_answer() {
        let key = SigningKey::generate("ES256", Some("k"));
        let (other, rsa, stranger) = (
            SigningKey::generate("ES384", Some("k2")),
            SigningKey::generate("PS256", Some("k3")),
            SigningKey::generate("ES256", Some("k")),
        );
        let snapshot = snapshot(key_set(&[&key, &other, &rsa]));
        let typ = json!("token-introspection+jwt");
        let good = claims(&[], &[]);
        let untyped = "its `typ` is not token-introspection+jwt; for a provider that answers the access token as a \
                       jwt: `response: phantom_token`";
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoidG9rZW4taW50cm9zcGVjdGlvbitqd3QifQ.e30.";
        let listed = "`alg` is not among `introspection_signing_alg_values_supported`";
        for (name, raw, expected) in [
            ("no type", key.sign_as(&typed(&key, Value::Null), &good), untyped),
            (
                "an access token",
                key.sign_as(&typed(&key, json!("at+jwt")), &good),
                untyped,
            ),
            (
                "an id token",
                key.sign_as(&typed(&key, json!("JWT")), &good),
                untyped,
            ),
            (
                "a number",
                key.sign_as(&typed(&key, json!(1)), &good),
                "its `typ` is not a string",
            ),
            (
                "another algorithm",
                other.sign_as(&typed(&other, typ.clone()), &good),
                listed,
            ),
            (
                "one that is not announced",
                rsa.sign_as(&typed(&rsa, typ.clone()), &good),
                listed,
            ),
            (
                "another hand",
                stranger.sign_as(&typed(&stranger, typ.clone()), &good),
                "its signature is wrong",
            ),
            (
                "no signature",
                Secret::new(unsigned),
                "`alg` is none, symmetric or unknown",
            ),
            (
                "no jwt",
                Secret::new("{}"),
                "it is not a signed token of three parts",
            ),
            (
                "a member twice",
                key.sign_text(&typed(&key, typ.clone()).to_string(), r#"{"iss":"a","iss":"a"}"#),
                "its claims are not an object with unique members",
            ),
        ] {
            let reply = answer(200, JWT, raw.expose());
            assert_eq!(
                outcome(asked(IntrospectionResponse::Jwt, None), reply, &snapshot),
                expected,
                "{name}"
            );
        }
        let encrypted = answer(200, JWT, "e30.a.b.c.d");
        let why = outcome(asked(IntrospectionResponse::Jwt, None), encrypted, &snapshot);
        assert!(why.contains("encrypted"), "{why}");
    }

    #[test]
    fn a_key_that_is_not_known_yet_is_fetched_once() {
        let key = SigningKey::generate("ES256", Some("new"));
        let (before, later) = (snapshot(key_set(&[])), snapshot(key_set(&[&key])));
        let raw = key.sign_as(&typed(&key, json!("token-introspection+jwt")), &claims(&[], &[]));
        for (keys, expected) in [
            (&later, GOOD),
            (&before, "no key of the provider's jwk set fits its `kid`"),
        ] {
            let reply = answer(200, JWT, raw.expose());
            let (_, outcome) = converse(asked(IntrospectionResponse::Jwt, None), reply, &before, keys);
            assert_eq!(told(&outcome), expected);
        }
    }

    #[test]
    fn an_access_token_as_a_jwt_is_verified_as_one() {
        let key = SigningKey::generate("ES384", Some("k"));
        let snapshot = snapshot(key_set(&[&key]));
        let with = |name, value| phantom(&[(name, value)]);
        let typ = "its `typ` is not that of an access token";
        for (name, typ, audience, claims, expected) in [
            ("no type", Value::Null, None, phantom(&[]), GOOD),
            ("any jwt", json!("JWT"), None, phantom(&[]), GOOD),
            ("rfc 9068", json!("at+jwt"), Some("orders"), phantom(&[]), GOOD),
            (
                "the whole type",
                json!("application/AT+JWT"),
                None,
                phantom(&[]),
                GOOD,
            ),
            ("no audience", json!("JWT"), None, with("aud", Value::Null), GOOD),
            (
                "no audience, and one is wanted",
                json!("JWT"),
                Some("orders"),
                with("aud", Value::Null),
                "`aud` is missing",
            ),
            (
                "for others",
                json!("JWT"),
                Some("orders"),
                with("aud", json!(["stock"])),
                "`aud` does not contain `audience`",
            ),
            (
                "an answer",
                json!("token-introspection+jwt"),
                None,
                phantom(&[]),
                typ,
            ),
            ("a logout token", json!("logout+jwt"), None, phantom(&[]), typ),
            (
                "an answer without a type",
                json!("JWT"),
                None,
                with("token_introspection", json!({"active": true})),
                "it is an answer about a token, for which there is `response: jwt`",
            ),
            (
                "an id token",
                json!("JWT"),
                None,
                with("nonce", json!("n")),
                "it is another kind of token",
            ),
            (
                "for ever",
                json!("JWT"),
                None,
                with("exp", Value::Null),
                "`exp` is missing",
            ),
            (
                "over",
                json!("JWT"),
                None,
                with("exp", json!(NOW.0 - 10)),
                "inactive",
            ),
            (
                "another issuer's",
                json!("JWT"),
                None,
                with("iss", json!("https://evil.example.com")),
                "`iss` is not the issuer",
            ),
            (
                "another client's",
                json!("JWT"),
                None,
                with("client_id", json!("other")),
                "`client_id` is not ours: it is about another client's token",
            ),
            (
                "another client's, by azp",
                json!("JWT"),
                None,
                with("azp", json!("other")),
                "`azp` is not `client_id`",
            ),
            (
                "bound",
                json!("JWT"),
                None,
                with("cnf", json!({"jkt": "x"})),
                "the token is bound (`cnf`), and a route with this `response` cannot show to what",
            ),
        ] {
            let raw = key.sign_as(&typed(&key, typ), &claims);
            let inside = |member: &str| json!({"active": true, member: raw.expose()}).to_string();
            for reply in [
                answer(200, "application/jwt", raw.expose()),
                answer(200, "application/json", &inside("phantom_token")),
                answer(200, "application/json", &inside("jwt")),
            ] {
                let asked = asked(IntrospectionResponse::PhantomToken, audience);
                assert_eq!(outcome(asked, reply, &snapshot), expected, "{name}");
            }
        }
    }

    #[test]
    fn an_answer_in_json_says_whether_the_token_may_go_on() {
        let snapshot = snapshot(key_set(&[]));
        let active = "active: false Some(\"openid orders\") Some(300)";
        let json = |changes: Changes<'_>| changed(members(), changes).to_string();
        for (name, body, expected) in [
            ("good", json(&[]), active),
            (
                "bound, as it may be",
                json(&[("cnf", json!({"jkt": "x"}))]),
                active,
            ),
            ("inactive", r#"{"active":false}"#.to_owned(), "inactive"),
            (
                "the least",
                r#"{"active":true}"#.to_owned(),
                "active: false None None",
            ),
            (
                "not said",
                json(&[("active", Value::Null)]),
                "`active` is missing",
            ),
            (
                "said in words",
                json(&[("active", json!("true"))]),
                "`active` is not a boolean",
            ),
            (
                "said in numbers",
                json(&[("active", json!(1))]),
                "`active` is not a boolean",
            ),
            ("over", json(&[("exp", json!(1))]), "inactive"),
            (
                "another client's",
                json(&[("client_id", json!("other"))]),
                "`client_id` is not ours: it is about another client's token",
            ),
            (
                "said twice",
                r#"{"active":true,"active":false}"#.to_owned(),
                "it is not a json object with unique members",
            ),
            (
                "a list",
                "[]".to_owned(),
                "it is not a json object with unique members",
            ),
        ] {
            let reply = answer(200, "application/json;charset=UTF-8", &body);
            assert_eq!(
                outcome(asked(IntrospectionResponse::Json, None), reply, &snapshot),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn statuses_and_types_are_told_apart() {
        let snapshot = snapshot(key_set(&[]));
        let no_status = "neither 200 nor a status that says why not";
        use IntrospectionResponse::{Json, Jwt, PhantomToken};
        for (response, status, content_type, body, expected) in [
            (Json, 500, "", "", "away: introspection: status 5xx"),
            (Json, 503, "", "", "away: introspection: status 5xx"),
            (Json, 429, "", "", "away: introspection: status 429"),
            (Json, 408, "", "", "away: introspection: status 408"),
            (Json, 302, "", "", no_status),
            (Json, 400, "application/json", "{}", no_status),
            (Json, 404, "", "", no_status),
            (Json, 204, "", "", no_status),
            (Jwt, 204, "", "", no_status),
            (PhantomToken, 204, "", "", "inactive"),
            (
                PhantomToken,
                200,
                "application/json",
                r#"{"active":false}"#,
                "inactive",
            ),
            (
                PhantomToken,
                200,
                "application/json",
                r#"{"active":true}"#,
                "it has no jwt in it: neither `phantom_token` nor `jwt`; have the provider answer application/jwt",
            ),
            (
                PhantomToken,
                200,
                "application/json",
                r#"{"active":true,"jwt":"a.b.c","phantom_token":"a.b.c"}"#,
                "expected one text in either `phantom_token` or `jwt`",
            ),
            (
                PhantomToken,
                200,
                "text/html",
                "",
                "it is neither application/jwt nor application/json",
            ),
            (
                Json,
                200,
                "text/plain",
                r#"{"active":true}"#,
                "it is not application/json",
            ),
            (
                Json,
                200,
                "application/jwt",
                "a.b.c",
                "it is not application/json",
            ),
            (
                Jwt,
                200,
                "text/html",
                "",
                "it is neither application/token-introspection+jwt nor application/jwt",
            ),
            (
                Jwt,
                200,
                "application/json",
                r#"{"active":true}"#,
                "it is not signed; register the client with `introspection_signed_response_alg` (RFC 9701 §6), or see \
                 `response: phantom_token` and `response: json`",
            ),
            (
                Json,
                403,
                "",
                "",
                "status 403: this client may not introspect tokens; allow it at the provider",
            ),
        ] {
            let reply = answer(status, content_type, body);
            assert_eq!(
                outcome(asked(response, None), reply, &snapshot),
                expected,
                "{status} {content_type}"
            );
        }
        let refused = outcome(asked(Json, None), answer(401, "", ""), &snapshot);
        assert!(
            refused.starts_with("invalid_client: client_secret_basic is refused"),
            "{refused}"
        );
        let silent = outcome(asked(Json, None), Reply::Unreachable("timeout"), &snapshot);
        assert_eq!(silent, "away: introspection: timeout");
    }

    #[test]
    fn without_an_endpoint_nothing_is_asked() {
        let snapshot = ProviderSnapshot::new(metadata_with(&[]), key_set(&[]));
        let mut context = Context {
            provider: &snapshot,
            now: NOW,
            rng: &mut Counter(1),
        };
        let outcome = asked(IntrospectionResponse::Json, None).step(&mut context).err();
        assert!(matches!(outcome, Some(Error::Provider(why)) if why.contains("introspection_endpoint")));
    }
}
