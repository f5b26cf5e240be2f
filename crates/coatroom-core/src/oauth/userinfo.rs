//! Userinfo (OpenID Connect Core §5.3): what the provider says of the user beyond the ID token.
//!
//! The request carries the access token, as a bearer token or with a proof of the key that it is bound to
//! (RFC 9449 §7). The answer is JSON, or a JWT whose signature, issuer and audience are checked as those of
//! an ID token; its `sub` must be the ID token's, or it is somebody else's (§5.3.2). What belongs to the
//! sign-in (`acr`, `auth_time`, `sid`, …) is never taken from it: only the ID token says that. What stays
//! is bounded, since it is kept in the session. No error repeats a claim.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};
use url::{Position, Url};
use zeroize::Zeroizing;

use super::client_auth::back_channel;
use super::dpop::{self, DPOP, Proved, Prover};
use super::id_token::{self, Announced, IdTokenFailure, Signed};
use super::json;
use crate::config::{Provider, Userinfo};
use crate::error::Error;
use crate::seal::ProofKey;
use crate::secret::Secret;
use crate::step::{Context, ProviderRequest, ProviderResponse, Reply, Step};

/// The claims that are kept, as JSON. Personal data: no `Debug`.
#[derive(Clone)]
pub(crate) struct UserinfoClaims(Zeroizing<Vec<u8>>);

impl UserinfoClaims {
    /// What was sealed before.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// What goes into a seal.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The claims.
    pub(crate) fn claims(&self) -> Map<String, Value> {
        json::object(&self.0).unwrap_or_default()
    }
}

/// Whom to ask about, and by what right.
pub(crate) struct Asked {
    pub(crate) provider: Arc<Provider>,
    pub(crate) access_token: Secret,
    /// What the token is bound to.
    pub(crate) proof_key: Option<ProofKey>,
    /// The user of the ID token.
    pub(crate) sub: Option<String>,
}

impl Asked {
    /// Asks, where the configuration says so.
    ///
    /// # Errors
    /// [`Error::Provider`] where the metadata names no endpoint, and for an answer that is not acceptable;
    /// [`Error::ProviderUnavailable`] for an outage; [`Error::Bug`].
    pub(crate) fn step(self, context: &mut Context<'_>) -> Result<Step<Option<UserinfoClaims>>, Error> {
        if self.provider.userinfo == Userinfo::Never {
            return Ok(Step::Done(None));
        }
        let metadata = &context.provider.metadata;
        let endpoint = metadata.userinfo_endpoint.as_ref().ok_or_else(|| {
            refuse("the metadata names no `userinfo_endpoint`, which `userinfo: always` needs")
        })?;
        let question = Question {
            url: back_channel(endpoint, &self.provider, metadata).clone(),
            accept: "application/jwt, application/json",
            access_token: self.access_token.clone(),
            proof_key: self.proof_key.clone(),
        };
        question.conversation(context, move |reply, context| self.read(reply, context))
    }
    fn read(self, reply: Reply, context: &Context<'_>) -> Result<Step<Option<UserinfoClaims>>, Error> {
        let response = match reply {
            Reply::Response(response) => response,
            Reply::Unreachable(why) => return Err(unavailable(why)),
            Reply::Keys => return Err(Error::Bug("asked for userinfo, got keys")),
        };
        let raw = match form(&response)? {
            Form::Json => {
                let claims = json::object(&response.body)
                    .ok_or_else(|| refuse("it is not a json object with unique members"))?;
                return self.kept(claims).map(|claims| Step::Done(Some(claims)));
            }
            Form::Jwt => {
                let text = str::from_utf8(&response.body).map_err(|_| refuse("it is not a jwt"))?;
                Secret::new(text.trim())
            }
        };
        match self.verify(&raw, context) {
            Ok(claims) => Ok(Step::Done(Some(self.kept(claims)?))),
            Err(IdTokenFailure::Invalid(why)) => Err(refuse(why)),
            // one chance for fresh keys
            Err(IdTokenFailure::UnknownKey) => Ok(Step::fetch_keys(move |context| {
                match self.verify(&raw, context) {
                    Ok(claims) => Ok(Step::Done(Some(self.kept(claims)?))),
                    Err(IdTokenFailure::Invalid(why)) => Err(refuse(why)),
                    Err(IdTokenFailure::UnknownKey) => {
                        Err(refuse("no key of the provider's jwk set fits its `kid`"))
                    }
                }
            })),
        }
    }

    /// Checks a signed answer (§5.3.2).
    fn verify(&self, raw: &Secret, context: &Context<'_>) -> Result<Map<String, Value>, IdTokenFailure> {
        let invalid = IdTokenFailure::Invalid;
        let metadata = &context.provider.metadata;
        let announced = Announced {
            algorithms: metadata.userinfo_signing_alg_values_supported.as_deref(),
            otherwise: "`alg` is not among `userinfo_signing_alg_values_supported`",
            tenants: metadata.tenants.as_ref(),
        };
        let Signed { header, claims, .. } =
            id_token::check_signature_by(raw, &context.provider.keys, &announced)?;
        id_token::check_type(header.get("typ")).map_err(invalid)?;
        // an ID token is signed by the same keys for the same client, and has a nonce
        if claims.contains_key("nonce") || claims.contains_key("events") {
            return Err(invalid("it is another kind of token"));
        }
        id_token::check_issuer_and_audience(&claims, &self.provider.client_id, metadata).map_err(invalid)?;
        let exp = id_token::date(&claims, "exp", "`exp` is not a number").map_err(invalid)?;
        if exp.is_some_and(|exp| exp.plus(self.provider.leeway) <= context.now) {
            return Err(invalid("it has expired (`exp`)"));
        }
        Ok(claims)
    }

    /// What of the claims stays, once they are this user's.
    fn kept(&self, mut claims: Map<String, Value>) -> Result<UserinfoClaims, Error> {
        let sub = id_token::subject(&claims).map_err(refuse)?;
        if self.sub.as_deref() != Some(sub) {
            return Err(refuse("`sub` is not that of the id token: it is another user's"));
        }
        claims.retain(|name, _| !OF_THE_SIGN_IN.contains(&name.as_str()));
        let text = Value::Object(claims).to_string().into_bytes();
        if text.len() > MAX_CLAIMS {
            return Err(refuse(
                "its claims are longer than 4 kib, and have to be kept in the session; ask for fewer `scopes` \
                 or `claims`, or have the provider release fewer",
            ));
        }
        Ok(UserinfoClaims(Zeroizing::new(text)))
    }
}

/// Something that is asked with an access token (RFC 6750 §2.1, RFC 9449 §7.1).
pub(super) struct Question {
    pub(super) url: Url,
    pub(super) accept: &'static str,
    pub(super) access_token: Secret,
    /// What the token is bound to.
    pub(super) proof_key: Option<ProofKey>,
}

impl Question {
    /// Asks, once more with the nonce that is wanted in the proof.
    pub(super) fn conversation<T: 'static>(
        self,
        context: &mut Context<'_>,
        read: impl FnOnce(Reply, &mut Context<'_>) -> Result<Step<T>, Error> + Send + 'static,
    ) -> Result<Step<T>, Error> {
        let nonce = context.provider.live.dpop_nonce.clone();
        let request = self.request(nonce.as_deref(), context)?;
        Ok(Step::send(request, move |reply, context| {
            let Some(nonce) = self.demanded_nonce(&reply) else {
                return read(reply, context);
            };
            let request = self.request(Some(&nonce), context)?;
            Ok(Step::send(request, read))
        }))
    }

    fn request(&self, nonce: Option<&str>, context: &mut Context<'_>) -> Result<ProviderRequest, Error> {
        let url = &self.url;
        let mut headers = vec![(ACCEPT, HeaderValue::from_static(self.accept))];
        let token = self.access_token.expose();
        let scheme = match &self.proof_key {
            None => "Bearer ",
            Some(key) => {
                let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
                let proved = Proved {
                    htm: Method::GET.as_str(),
                    htu: &url[..Position::AfterPath],
                    ath: Some(&ath),
                    nonce,
                };
                let proof = Prover::new(key)?.proof(&proved, context.now, context.rng)?;
                headers.push((DPOP, proof));
                "DPoP "
            }
        };
        let line = Zeroizing::new([scheme, token].concat());
        let mut credentials =
            HeaderValue::from_str(&line).map_err(|_| refuse("the access token cannot stand in a header"))?;
        credentials.set_sensitive(true);
        headers.push((AUTHORIZATION, credentials));
        Ok(ProviderRequest {
            method: Method::GET,
            url: url.clone(),
            headers,
            body: Zeroizing::default(),
        })
    }

    /// The nonce that is wanted in the proof, where that may be why it refuses (RFC 9449 §9): the one that
    /// came with it. What it says beside that is not looked at, since it is asked once more in any case.
    fn demanded_nonce(&self, reply: &Reply) -> Option<Arc<str>> {
        match reply {
            Reply::Response(response)
                if self.proof_key.is_some() && response.status == StatusCode::UNAUTHORIZED =>
            {
                dpop::nonce(response.dpop_nonce.as_deref()?)
            }
            Reply::Response(_) | Reply::Unreachable(_) | Reply::Keys => None,
        }
    }
}

enum Form {
    Json,
    Jwt,
}

/// Whether there is an answer to read.
pub(super) fn check_status(response: &ProviderResponse) -> Result<(), Error> {
    match response.status {
        StatusCode::OK => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => Err(unavailable("status 429")),
        StatusCode::REQUEST_TIMEOUT => Err(unavailable("status 408")),
        status if status.is_server_error() => Err(unavailable("status 5xx")),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refuse(
            "the access token is not taken: is it for another API only (`resource`, `audience`)?",
        )),
        _ => Err(refuse("neither 200 nor a status that says why not")),
    }
}

fn form(response: &ProviderResponse) -> Result<Form, Error> {
    check_status(response)?;
    let essence = response.content_type.as_deref().unwrap_or_default();
    let essence = essence.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "application/json" => Ok(Form::Json),
        "application/jwt" => Ok(Form::Jwt),
        _ => Err(refuse("it is neither application/json nor application/jwt")),
    }
}

pub(super) fn refuse(why: &str) -> Error {
    Error::Provider(format!("userinfo: {why}"))
}

pub(super) fn unavailable(why: &str) -> Error {
    Error::ProviderUnavailable {
        reason: format!("userinfo: {why}"),
        retry_after: RETRY_AFTER,
    }
}

/// What a JWT says of itself, and what only the ID token says of the sign-in. `sub` is there already.
pub(super) const OF_THE_SIGN_IN: [&str; 16] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "azp",
    "nonce",
    "at_hash",
    "c_hash",
    "s_hash",
    "acr",
    "amr",
    "auth_time",
    "sid",
];

/// The most that is kept, in bytes of JSON.
pub(super) const MAX_CLAIMS: usize = 4096;

/// Seconds until the endpoint may be there again.
const RETRY_AFTER: u32 = 5;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::DpopAlgorithm;
    use crate::oauth::testing::{CLIENT_ID, ISSUER, SigningKey, key_set, metadata_with, provider};
    use crate::oauth::{JwkSet, ProviderSnapshot};
    use crate::rng::testing::Counter;
    use crate::time::UnixTime;

    const NOW: UnixTime = UnixTime(1_700_000_000);
    const JSON: Option<&str> = Some("application/json");
    const JWT: Option<&str> = Some("application/jwt");

    type Outcome = Result<Step<Option<UserinfoClaims>>, Error>;

    fn asked(proof_key: Option<ProofKey>) -> Asked {
        Asked {
            provider: Arc::new(Provider {
                userinfo: Userinfo::Always,
                ..provider()
            }),
            access_token: Secret::new("at-1"),
            proof_key,
            sub: Some("alice".to_owned()),
        }
    }

    fn with<T>(keys: JwkSet, changes: &[(&str, Value)], look: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let endpoint = ("userinfo_endpoint", json!(format!("{ISSUER}/me?tenant=1")));
        let metadata = metadata_with(&[&[endpoint], changes].concat());
        look(&mut Context {
            provider: &ProviderSnapshot::new(metadata, keys),
            now: NOW,
            rng: &mut Counter(1),
        })
    }

    fn response(status: u16, content_type: Option<&str>, body: impl AsRef<[u8]>) -> Reply {
        Reply::Response(ProviderResponse {
            status: StatusCode::from_u16(status).expect("a status"),
            content_type: content_type.map(str::to_owned),
            dpop_nonce: None,
            body: body.as_ref().to_vec().into(),
        })
    }

    fn claims(outcome: Outcome) -> Result<Value, Error> {
        match outcome? {
            Step::Done(Some(claims)) => Ok(Value::Object(claims.claims())),
            Step::Done(None) => panic!("it was asked"),
            Step::Send(..) => panic!("once is enough"),
            Step::FetchKeys(_) => panic!("no keys are missing"),
        }
    }

    fn header(request: &ProviderRequest, name: &str) -> Option<String> {
        let mut headers = request.headers.iter();
        let value = headers.find_map(|(header, value)| (header == name).then_some(value))?;
        assert_eq!(value.is_sensitive(), name != "accept");
        Some(value.to_str().expect("ascii").to_owned())
    }

    /// The header and the claims of a proof.
    fn proof(request: &ProviderRequest) -> [Value; 2] {
        let proof = header(request, "dpop").expect("a proof");
        let mut parts = proof.split('.').map(|part| URL_SAFE_NO_PAD.decode(part));
        [(); 2].map(|()| {
            let part = parts.next().expect("a part").expect("base64url");
            serde_json::from_slice(&part).expect("json")
        })
    }

    #[test]
    fn it_is_asked_with_the_access_token_where_that_is_wanted() {
        with(key_set(&[]), &[], |context| {
            let Ok(Step::Send(request, _)) = asked(None).step(context) else {
                panic!("something is sent")
            };
            assert_eq!(
                (request.method.as_str(), request.url.as_str()),
                ("GET", "https://login.example.com/me?tenant=1")
            );
            assert_eq!(header(&request, "authorization").as_deref(), Some("Bearer at-1"));
            assert_eq!(header(&request, "dpop"), None);
            let accepted = header(&request, "accept").expect("what is wanted");
            assert_eq!(accepted, "application/jwt, application/json");

            let never = Asked {
                provider: Arc::new(provider()),
                ..asked(None)
            };
            assert!(matches!(never.step(context), Ok(Step::Done(None))));
            let in_two_lines = Asked {
                access_token: Secret::new("at\r\nx: y"),
                ..asked(None)
            };
            assert!(matches!(in_two_lines.step(context), Err(Error::Provider(_))));
        });
        with(key_set(&[]), &[("userinfo_endpoint", Value::Null)], |context| {
            assert!(matches!(asked(None).step(context), Err(Error::Provider(_))));
        });
    }

    #[test]
    fn a_bound_token_is_shown_with_a_proof_and_once_more_with_the_nonce() {
        let key = || ProofKey::generate(DpopAlgorithm::Es256).expect("a key");
        let refusing = |status, nonce: &str| {
            let Reply::Response(response) = response(status, None, "") else {
                panic!("a response")
            };
            Reply::Response(ProviderResponse {
                dpop_nonce: Some(nonce.to_owned()),
                ..response
            })
        };
        with(key_set(&[]), &[], |context| {
            let Ok(Step::Send(first, rest)) = asked(Some(key())).step(context) else {
                panic!("something is sent")
            };
            assert_eq!(header(&first, "authorization").as_deref(), Some("DPoP at-1"));
            let [_, said] = proof(&first);
            // RFC 9449 §4.2: without query; the hash of `at-1`
            assert_eq!(said["htu"], "https://login.example.com/me");
            assert_eq!((&said["htm"], &said["nonce"]), (&json!("GET"), &Value::Null));
            let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, b"at-1"));
            assert_eq!(said["ath"], ath);
            let Ok(Step::Send(second, rest)) = rest.resume(refusing(401, "n-1"), context) else {
                panic!("once more")
            };
            let [_, again] = proof(&second);
            assert_eq!((&again["nonce"], &again["ath"]), (&json!("n-1"), &said["ath"]));
            assert_ne!(again["jti"], said["jti"]);
            let third = rest.resume(refusing(401, "n-2"), context);
            assert!(matches!(third, Err(Error::Provider(_))), "no third time");

            for (name, key, reply) in [
                ("a bearer token", None, refusing(401, "n-1")),
                ("another status", Some(key()), refusing(403, "n-1")),
                ("no nonce", Some(key()), response(401, None, "")),
                ("no good nonce", Some(key()), refusing(401, "n 1\"")),
            ] {
                let Ok(Step::Send(_, rest)) = asked(key).step(context) else {
                    panic!("{name}: something is sent")
                };
                assert!(
                    matches!(rest.resume(reply, context), Err(Error::Provider(_))),
                    "{name}"
                );
            }
        });
    }

    #[test]
    fn only_json_of_this_user_with_the_right_type_is_taken() {
        let good = r#"{"sub":"alice","email":"a@example.com"}"#;
        let padded = |length: usize| {
            let frame = json!({"sub": "alice", "x": ""}).to_string().len() - r#""sub":"alice","#.len();
            json!({"sub": "alice", "x": "x".repeat(length - frame)}).to_string()
        };
        let (longest, too_long) = (padded(MAX_CLAIMS), padded(MAX_CLAIMS + 1));
        for (name, status, content_type, body, taken) in [
            ("as it should be", 200, JSON, good, true),
            (
                "parameters, capitals",
                200,
                Some("Application/JSON ; charset=utf-8"),
                good,
                true,
            ),
            ("as long as may be", 200, JSON, longest.as_str(), true),
            ("too long", 200, JSON, &too_long, false),
            ("no type", 200, None, good, false),
            ("text", 200, Some("text/plain"), good, false),
            (
                "a type in a parameter",
                200,
                Some("text/html; application/json"),
                good,
                false,
            ),
            ("a type like it", 200, Some("application/json-seq"), good, false),
            ("said to be a jwt", 200, JWT, good, false),
            ("another user", 200, JSON, r#"{"sub":"bob"}"#, false),
            ("a user in capitals", 200, JSON, r#"{"sub":"Alice"}"#, false),
            ("nobody", 200, JSON, r#"{"email":"a@example.com"}"#, false),
            ("a number", 200, JSON, r#"{"sub":7}"#, false),
            ("empty", 200, JSON, r#"{"sub":""}"#, false),
            ("twice", 200, JSON, r#"{"sub":"alice","sub":"bob"}"#, false),
            ("a list", 200, JSON, r#"[{"sub":"alice"}]"#, false),
            ("nothing", 200, JSON, "", false),
            ("created", 201, JSON, good, false),
            ("no content", 204, JSON, good, false),
            ("a redirect", 302, JSON, good, false),
            ("unauthorized", 401, JSON, good, false),
            ("forbidden", 403, JSON, good, false),
            ("not there", 404, JSON, good, false),
        ] {
            with(key_set(&[]), &[], |context| {
                let outcome = claims(asked(None).read(response(status, content_type, body), context));
                assert_eq!(outcome.is_ok(), taken, "{name}");
                if let Err(error) = outcome {
                    assert!(matches!(&error, Error::Provider(_)), "{name}: {error}");
                    assert!(!error.to_string().contains("bob"), "{name} repeats a claim");
                }
            });
        }
        let no_user = Asked {
            sub: None,
            ..asked(None)
        };
        let outcome = with(key_set(&[]), &[], |context| {
            no_user.read(response(200, JSON, good), context)
        });
        assert!(outcome.is_err(), "nobody to compare with");
    }

    #[test]
    fn an_outage_is_none_of_the_users_fault() {
        for (name, reply) in [
            ("no answer", Reply::Unreachable("it is not there")),
            ("429", response(429, JSON, r#"{"sub":"alice"}"#)),
            ("408", response(408, JSON, "")),
            ("500", response(500, JSON, r#"{"sub":"alice"}"#)),
            ("503", response(503, None, "")),
        ] {
            let outcome = with(key_set(&[]), &[], |context| {
                claims(asked(None).read(reply, context))
            });
            assert!(
                matches!(outcome, Err(Error::ProviderUnavailable { retry_after, .. }) if retry_after > 0),
                "{name}"
            );
        }
        let keys = with(key_set(&[]), &[], |context| {
            claims(asked(None).read(Reply::Keys, context))
        });
        assert!(matches!(keys, Err(Error::Bug(_))));
    }

    #[test]
    fn what_is_signed_is_the_providers_and_for_us() {
        let key = SigningKey::generate("ES256", Some("k"));
        let rogue = SigningKey::generate("ES256", Some("k"));
        let said = |changes: Value| {
            let mut claims = json!({"iss": ISSUER, "aud": CLIENT_ID, "sub": "alice", "role": "admin"});
            for (name, value) in changes.as_object().expect("an object") {
                match value {
                    Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
                    value => claims[name] = value.clone(),
                }
            }
            claims
        };
        let typed = |typ: Value| {
            let mut header = key.header();
            header["typ"] = typ;
            key.sign_as(&header, &said(json!({})))
        };
        let with_crit = {
            let mut header = key.header();
            header["crit"] = json!(["exp"]);
            key.sign_as(&header, &said(json!({})))
        };
        let signed = |changes: Value| key.sign(&said(changes));
        for (name, raw, good) in [
            ("as it should be", signed(json!({})), true),
            ("good for a while", signed(json!({"exp": NOW.0 + 1})), true),
            ("within the leeway", signed(json!({"exp": NOW.0 - 9})), true),
            ("expired", signed(json!({"exp": NOW.0 - 10})), false),
            ("an end in words", signed(json!({"exp": "never"})), false),
            (
                "another issuer",
                signed(json!({"iss": "https://evil.example"})),
                false,
            ),
            ("no issuer", signed(json!({"iss": null})), false),
            ("another client", signed(json!({"aud": "evil"})), false),
            ("no audience", signed(json!({"aud": null})), false),
            ("several", signed(json!({"aud": [CLIENT_ID, "evil"]})), false),
            ("an id token", signed(json!({"nonce": "n"})), false),
            ("a logout token", signed(json!({"events": {}})), false),
            ("another user", signed(json!({"sub": "bob"})), false),
            ("nobody", signed(json!({"sub": null})), false),
            ("typ", typed(json!("application/jwt")), true),
            ("an access token", typed(json!("at+jwt")), false),
            ("an introspection", typed(json!("token-introspection+jwt")), false),
            ("a type in numbers", typed(json!(7)), false),
            ("crit", with_crit, false),
            ("by another", rogue.sign(&said(json!({}))), false),
            ("encrypted", Secret::new("a.b.c.d.e"), false),
        ] {
            let outcome = with(key_set(&[&key]), &[], |context| {
                claims(asked(None).read(response(200, JWT, raw.expose()), context))
            });
            match outcome {
                Ok(kept) => assert!(good && kept == json!({"role": "admin"}), "{name}"),
                Err(error) => assert!(!good && matches!(&error, Error::Provider(_)), "{name}: {error}"),
            }
            let as_json = with(key_set(&[&key]), &[], |context| {
                claims(asked(None).read(response(200, JSON, raw.expose()), context))
            });
            assert!(as_json.is_err(), "{name}, said to be json");
        }
        for (name, value, good) in [
            ("userinfo_signing_alg_values_supported", "ES256", true),
            ("userinfo_signing_alg_values_supported", "PS256", false),
            ("id_token_signing_alg_values_supported", "PS256", true),
        ] {
            let raw = signed(json!({}));
            let outcome = with(key_set(&[&key]), &[(name, json!([value]))], |context| {
                claims(asked(None).read(response(200, JWT, raw.expose()), context))
            });
            assert_eq!(outcome.is_ok(), good, "{name}: {value}");
        }
    }

    #[test]
    fn a_key_that_is_not_known_is_looked_for_once() {
        let (old, new) = (
            SigningKey::generate("ES256", Some("old")),
            SigningKey::generate("ES256", Some("new")),
        );
        let said =
            |sub: &str| new.sign(&json!({"iss": ISSUER, "aud": CLIENT_ID, "sub": sub, "role": "admin"}));
        for (name, sub, fresh, good) in [
            ("it is there", "alice", &new, true),
            ("it is not", "alice", &old, false),
            ("it is there, for another user", "bob", &new, false),
        ] {
            let rest = with(key_set(&[&old]), &[], |context| {
                match asked(None).read(response(200, JWT, said(sub).expose()), context) {
                    Ok(Step::FetchKeys(rest)) => rest,
                    _ => panic!("{name}: keys are fetched"),
                }
            });
            let outcome = with(key_set(&[fresh]), &[], |context| {
                claims(rest.resume(Reply::Keys, context))
            });
            match outcome {
                Ok(kept) => assert!(good && kept == json!({"role": "admin"}), "{name}"),
                Err(error) => assert!(!good && matches!(&error, Error::Provider(_)), "{name}: {error}"),
            }
        }
    }

    #[test]
    fn what_only_the_id_token_says_is_not_kept() {
        let mut said = json!({"sub": "alice", "email": "a@example.com", "groups": ["a", "b"]});
        for name in [
            "iss",
            "aud",
            "exp",
            "iat",
            "nbf",
            "jti",
            "azp",
            "nonce",
            "at_hash",
            "c_hash",
            "s_hash",
            "acr",
            "amr",
            "auth_time",
            "sid",
        ] {
            said[name] = json!("x");
        }
        let kept = with(key_set(&[]), &[], |context| {
            claims(asked(None).read(response(200, JSON, said.to_string()), context))
        });
        let kept = kept.expect("taken");
        assert_eq!(kept, json!({"email": "a@example.com", "groups": ["a", "b"]}));
        let bytes = kept.to_string().into_bytes();
        let sealed = UserinfoClaims::from_bytes(&bytes);
        assert_eq!(
            (sealed.bytes(), Value::Object(sealed.claims())),
            (&bytes[..], kept)
        );
    }
}
