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
use url::Position;
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
        let nonce = context.provider.live.dpop_nonce.clone();
        let request = self.request(nonce.as_deref(), context)?;
        Ok(Step::send(request, move |reply, context| {
            let Some(nonce) = self.demanded_nonce(&reply) else {
                return self.read(reply, context);
            };
            let request = self.request(Some(&nonce), context)?;
            Ok(Step::send(request, move |reply, context| {
                self.read(reply, context)
            }))
        }))
    }

    fn request(&self, nonce: Option<&str>, context: &mut Context<'_>) -> Result<ProviderRequest, Error> {
        let metadata = &context.provider.metadata;
        let endpoint = metadata.userinfo_endpoint.as_ref().ok_or_else(|| {
            refuse("the metadata names no `userinfo_endpoint`, which `userinfo: always` needs")
        })?;
        let url = back_channel(endpoint, &self.provider, metadata).clone();
        let mut headers = vec![(
            ACCEPT,
            HeaderValue::from_static("application/jwt, application/json"),
        )];
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
            url,
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

enum Form {
    Json,
    Jwt,
}

fn form(response: &ProviderResponse) -> Result<Form, Error> {
    match response.status {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => return Err(unavailable("status 429")),
        StatusCode::REQUEST_TIMEOUT => return Err(unavailable("status 408")),
        status if status.is_server_error() => return Err(unavailable("status 5xx")),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(refuse(
                "the access token is not taken: is it for another API only (`resource`, `audience`)?",
            ));
        }
        _ => return Err(refuse("neither 200 nor a status that says why not")),
    }
    let essence = response.content_type.as_deref().unwrap_or_default();
    let essence = essence.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "application/json" => Ok(Form::Json),
        "application/jwt" => Ok(Form::Jwt),
        _ => Err(refuse("it is neither application/json nor application/jwt")),
    }
}

fn refuse(why: &str) -> Error {
    Error::Provider(format!("userinfo: {why}"))
}

fn unavailable(why: &str) -> Error {
    Error::ProviderUnavailable {
        reason: format!("userinfo: {why}"),
        retry_after: RETRY_AFTER,
    }
}

/// What a JWT says of itself, and what only the ID token says of the sign-in. `sub` is there already.
const OF_THE_SIGN_IN: [&str; 16] = [
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
const MAX_CLAIMS: usize = 4096;

/// Seconds until the endpoint may be there again.
const RETRY_AFTER: u32 = 5;
