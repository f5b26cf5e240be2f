//! Proofs of possession (RFC 9449): what a request carries to show that a session's key is here.
//!
//! A [`Prover`] is a key with the part of its proofs that never changes, a [`BoundToken`] one with the
//! digest of the access token that is bound to it, [`Proofs`] what signs the calls to one address.
//! Each proof is made for one request and never used again. [`converse`] is the one way in which the
//! provider's endpoints are asked: it demands nothing of a session without a key, and where the
//! provider wants another nonce it asks once more, with everything made anew. Nothing here remembers
//! a nonce, and no key, proof or nonce is ever shown.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use url::Position;

use super::challenges::{self, Token};
use super::json;
use super::token::TokenType;
use crate::config::{Application, Route, RouteTarget, UpstreamAddress};
use crate::error::Error;
use crate::rng::{Rng, random};
use crate::seal::{ProofKey, ProofSigner};
use crate::step::{Context, ProviderRequest, Reply, Step};
use crate::time::UnixTime;

/// The header that carries a proof (RFC 9449 §4.1).
pub const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The header by which a server says what the next proof for it has to repeat (RFC 9449 §8.1).
pub const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// A key, and what its proofs have in common.
pub(crate) struct Prover {
    signer: ProofSigner,
    jwk: String,
    /// The encoded JOSE header with the dot behind it.
    header: String,
}

/// What one proof is for.
pub(crate) struct Proved<'a> {
    /// The request's method.
    pub(crate) htm: &'a str,
    /// Its URL without query and fragment.
    pub(crate) htu: &'a str,
    /// Of the access token that goes with it.
    pub(crate) ath: Option<&'a str>,
    /// What the server asked to be repeated.
    pub(crate) nonce: Option<&'a str>,
}

impl Prover {
    /// Opens a session's key.
    ///
    /// # Errors
    /// [`Error::Bug`] when it is none: what was sealed was one.
    pub(crate) fn new(key: &ProofKey) -> Result<Self, Error> {
        let signer = key.open().ok_or(Error::Bug("the session's key is no key"))?;
        let (jwk, alg) = (signer.public_jwk(), signer.alg());
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"{alg}","jwk":{jwk}}}"#);
        let header = URL_SAFE_NO_PAD.encode(header) + ".";
        Ok(Self { signer, jwk, header })
    }

    /// The key's thumbprint (RFC 7638): what tokens bound to it name, and `dpop_jkt`.
    pub(crate) fn jkt(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, self.jwk.as_bytes()))
    }

    /// A proof for one request (RFC 9449 §4.2).
    pub(crate) fn proof(
        &self,
        proved: &Proved<'_>,
        now: UnixTime,
        rng: &mut dyn Rng,
    ) -> Result<HeaderValue, Error> {
        let mut jti = [0; 24];
        let engine = crate::cookie::base64url();
        let jti = match engine.encode_slice(random::<16>(rng), &mut jti) {
            Ok(written) => jti.get(..written).unwrap_or_default(),
            Err(_) => return Err(Error::Bug("sixteen bytes are more than 24 characters")),
        };
        let nonce = proved.nonce.unwrap_or_default();
        let room = 224_usize
            .saturating_add(proved.htu.len())
            .saturating_add(nonce.len());
        let mut claims = Vec::with_capacity(room);
        claims.extend_from_slice(br#"{"jti":""#);
        claims.extend_from_slice(jti);
        claims.extend_from_slice(br#"","htm":"#);
        push(&mut claims, proved.htm)?;
        claims.extend_from_slice(br#","htu":"#);
        push(&mut claims, proved.htu)?;
        claims.extend_from_slice(br#","iat":"#);
        serde_json::to_writer(&mut claims, &now.0).map_err(|_| UNWRITTEN)?;
        if let Some(ath) = proved.ath {
            claims.extend_from_slice(br#","ath":""#);
            claims.extend_from_slice(ath.as_bytes());
            claims.push(b'"');
        }
        if let Some(nonce) = proved.nonce {
            claims.extend_from_slice(br#","nonce":"#);
            push(&mut claims, nonce)?;
        }
        claims.push(b'}');
        let encoded = claims
            .len()
            .div_ceil(3)
            .saturating_mul(4)
            .saturating_add(SIGNATURE);
        let mut proof = String::with_capacity(self.header.len().saturating_add(encoded));
        proof.push_str(&self.header);
        engine.encode_string(&claims, &mut proof);
        let signature = self.signer.sign(proof.as_bytes());
        let signature = signature.ok_or(Error::Bug("a key that was accepted does not sign"))?;
        proof.push('.');
        engine.encode_string(signature, &mut proof);
        let mut value = HeaderValue::try_from(proof).map_err(|_| UNWRITTEN)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Puts a proof on a request to the provider.
    fn prove(
        &self,
        mut request: ProviderRequest,
        nonce: Option<&str>,
        context: &mut Context<'_>,
    ) -> Result<ProviderRequest, Error> {
        let proved = Proved {
            htm: request.method.as_str(),
            htu: &request.url[..Position::AfterPath],
            ath: None,
            nonce,
        };
        let proof = self.proof(&proved, context.now, context.rng)?;
        request.headers.push((DPOP, proof));
        Ok(request)
    }
}

/// A string of JSON: a path may have characters that mean something there.
fn push(claims: &mut Vec<u8>, text: &str) -> Result<(), Error> {
    serde_json::to_writer(claims, text).map_err(|_| UNWRITTEN)
}

/// Asks an endpoint of the provider that issues tokens, or that a request for some begins at (RFC 9449
/// §5, §10.1). With a key the request carries a proof, with the newest nonce that is known; where the
/// provider wants another nonce (§8), `build` makes a second request, so that nothing in it is a
/// replay, and whatever comes then is for `check`.
///
/// # Errors
/// Those of `build`, and [`Error::Bug`] for a key that is none.
pub(crate) fn converse<T: 'static>(
    key: Option<&ProofKey>,
    context: &mut Context<'_>,
    build: impl Fn(&mut Context<'_>) -> Result<ProviderRequest, Error> + Send + 'static,
    check: impl FnOnce(Reply, &mut Context<'_>) -> Result<Step<T>, Error> + Send + 'static,
) -> Result<Step<T>, Error> {
    let request = build(context)?;
    ask(request, key, context, build, check)
}

/// The same, with a first request that is there.
///
/// # Errors
/// [`Error::Bug`] for a key that is none.
pub(crate) fn ask<T: 'static>(
    request: ProviderRequest,
    key: Option<&ProofKey>,
    context: &mut Context<'_>,
    build: impl Fn(&mut Context<'_>) -> Result<ProviderRequest, Error> + Send + 'static,
    check: impl FnOnce(Reply, &mut Context<'_>) -> Result<Step<T>, Error> + Send + 'static,
) -> Result<Step<T>, Error> {
    let Some(key) = key else {
        return Ok(Step::send(request, check));
    };
    let prover = Prover::new(key)?;
    let nonce = context.provider.live.dpop_nonce.clone();
    let request = prover.prove(request, nonce.as_deref(), context)?;
    Ok(Step::send(request, move |reply, context| {
        let Some(nonce) = demanded_nonce(&reply) else {
            return check(reply, context);
        };
        // what is known by now must not be lost: then this answer is the one that counts
        let Ok(request) = build(context) else {
            return check(reply, context);
        };
        Ok(Step::send(prover.prove(request, Some(&nonce), context)?, check))
    }))
}

/// What kind of access token a session with or without a key is given (RFC 9449 §5).
pub(crate) fn token_type(key: Option<&ProofKey>) -> TokenType {
    match key {
        Some(_) => TokenType::Dpop,
        None => TokenType::Bearer,
    }
}

/// The nonce that the provider wants in a proof, where that is why it refuses (RFC 9449 §8).
fn demanded_nonce(reply: &Reply) -> Option<Arc<str>> {
    let Reply::Response(response) = reply else {
        return None;
    };
    if !matches!(
        response.status,
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED
    ) {
        return None;
    }
    let error = json::object(&response.body)?;
    (error.get("error")?.as_str()? == USE_NONCE).then_some(())?;
    nonce(response.dpop_nonce.as_deref()?)
}

/// A nonce that a proof may repeat; none for text that is not one (RFC 9449 §8.1), or a very long one.
pub fn nonce(text: &str) -> Option<Arc<str>> {
    let good = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    (!text.is_empty() && text.len() <= MAX_NONCE && text.bytes().all(good)).then(|| text.into())
}

/// The nonce that an answer carries, if it carries one.
pub fn nonce_of(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(DPOP_NONCE).iter();
    let value = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(value)
}

/// Whether an API refuses a call because it wants another nonce in its proof (RFC 9449 §9).
pub fn is_nonce_challenge(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED && names_error(headers, &["dpop"], USE_NONCE)
}

/// Whether a list of challenges has one of these schemes that names this error (RFC 9110 §11.6.1).
pub(crate) fn names_error(headers: &HeaderMap, schemes: &[&str], error: &str) -> bool {
    headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|challenges| names_error_in(challenges, schemes, error))
}

fn names_error_in(challenges: &str, schemes: &[&str], error: &str) -> bool {
    let mut is_one = false;
    challenges::tokens(challenges).any(|token| match token {
        Token::Scheme(scheme) => {
            is_one = schemes.iter().any(|one| scheme.eq_ignore_ascii_case(one));
            false
        }
        Token::Parameter(name, value) => is_one && name.eq_ignore_ascii_case("error") && value == error,
    })
}

/// An access token's key, with what each proof says of the token.
pub(crate) struct BoundToken {
    prover: Prover,
    ath: String,
}

impl BoundToken {
    /// The key of a session, for one of its tokens; none for bytes that are no key.
    pub(crate) fn new(key: &ProofKey, token: &[u8]) -> Option<Arc<Self>> {
        let ath = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token));
        let prover = Prover::new(key).ok()?;
        Some(Arc::new(Self { prover, ath }))
    }
}

/// What signs the calls to an API with a token that is bound to a key (RFC 9449 §7). Each call, and
/// each time that one is sent again, takes a proof of its own.
#[derive(Clone)]
pub struct Proofs {
    bound: Arc<BoundToken>,
    htu: Arc<str>,
}

impl Proofs {
    /// The proof for one request with this method.
    ///
    /// # Errors
    /// [`Error::Bug`] when the backend does not sign.
    pub fn proof(
        &self,
        method: &Method,
        nonce: Option<&str>,
        now: UnixTime,
        rng: &mut dyn Rng,
    ) -> Result<HeaderValue, Error> {
        let proved = Proved {
            htm: method.as_str(),
            htu: &self.htu,
            ath: Some(&self.bound.ath),
            nonce,
        };
        self.bound.prover.proof(&proved, now, rng)
    }
}

/// The same, before it is known where the call goes. The token was written; without a proof no API
/// takes it.
#[must_use = "a token that is bound to a key is worth nothing without a proof"]
pub struct Unaddressed(Arc<BoundToken>);

impl Unaddressed {
    pub(crate) fn of(bound: Arc<BoundToken>) -> Self {
        Self(bound)
    }

    /// For calls of a route, to this path as it is forwarded, without its query.
    ///
    /// # Errors
    /// [`Error::UpstreamUnavailable`] when the route has several addresses, or a socket, and nothing
    /// says what the API calls itself: a checked agent has no such route, an instance that only
    /// forwards calls may have one.
    pub fn at(self, application: &Application, route: &Route, path: &str) -> Result<Proofs, Error> {
        let base = proved_base(application, route).ok_or_else(|| {
            Error::UpstreamUnavailable(
                "the session's token is bound to a key (dpop), and nothing says which url the api has; set the \
                 route's `public_url`"
                    .to_owned(),
            )
        })?;
        let htu: Arc<str> = [base, path].concat().into();
        Ok(Proofs { bound: self.0, htu })
    }
}

/// What stands before a forwarded path in the URL that the API sees: `public_url`, else the one
/// address of its upstream, else, behind a Layer, the application's own. No slash at its end.
pub(crate) fn proved_base<'a>(application: &'a Application, route: &'a Route) -> Option<&'a str> {
    if let Some(url) = &route.public_url {
        return Some(url.as_str().trim_end_matches('/'));
    }
    match &route.target {
        RouteTarget::Upstream(upstreams) => match upstreams.addresses.as_slice() {
            [UpstreamAddress::Url(url)] => Some(url.as_str().trim_end_matches('/')),
            _ => None,
        },
        RouteTarget::Inner => Some(application.url.as_str()),
        RouteTarget::Static(_) | RouteTarget::DevServer(_) => None,
    }
}

const USE_NONCE: &str = "use_dpop_nonce";

/// The longest nonce that is repeated, in bytes: a proof with it has to fit into a header.
const MAX_NONCE: usize = 1024;

/// A dot and a signature of 64 bytes.
const SIGNATURE: usize = 87;

const UNWRITTEN: Error = Error::Bug("a proof cannot be written");

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
    use serde_json::{Value, json};

    use super::*;
    use crate::config::testing::{checked, config, upstream};
    use crate::config::{ApplicationConfig, DpopAlgorithm, RouteConfig, RouteTargetConfig};
    use crate::oauth::testing::{metadata, provider, with_context};
    use crate::oauth::{client_auth, token};
    use crate::rng::testing::Counter;
    use crate::secret::Secret;
    use crate::step::ProviderResponse;

    const NOW: UnixTime = UnixTime(1_900_000_000);

    fn decoded(segment: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(segment).expect("base64url")).expect("json")
    }

    /// Header and claims of a proof whose signature the key in its header made. Shares no code with
    /// what made it.
    fn verified(proof: &HeaderValue) -> (Value, Value) {
        let text = proof.to_str().expect("ASCII");
        let (message, signature) = text.rsplit_once('.').expect("three parts");
        let (header, claims) = message.split_once('.').expect("three parts");
        let (header, claims) = (decoded(header), decoded(claims));
        let part = |name: &str| {
            let text = header["jwk"][name].as_str().expect("a coordinate");
            URL_SAFE_NO_PAD.decode(text).expect("base64url")
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let outcome = match header["alg"].as_str() {
            Some("ES256") => {
                let point = [vec![4], part("x"), part("y")].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &signature)
            }
            Some("EdDSA") => {
                UnparsedPublicKey::new(&ED25519, part("x")).verify(message.as_bytes(), &signature)
            }
            other => panic!("{other:?}"),
        };
        outcome.expect("the key in the header signed it");
        (header, claims)
    }

    fn key() -> ProofKey {
        ProofKey::generate(DpopAlgorithm::Es256).expect("a key")
    }

    fn names(object: &Value) -> Vec<&str> {
        let mut names: Vec<_> = object
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names
    }

    /// RFC 9449 §4.2, §4.3: each member, and none beyond.
    #[test]
    fn a_proof_says_what_it_is_for_and_the_key_in_it_signed_it() {
        for (algorithm, members) in [
            (DpopAlgorithm::Es256, &["crv", "kty", "x", "y"][..]),
            (DpopAlgorithm::EdDsa, &["crv", "kty", "x"]),
        ] {
            let key = ProofKey::generate(algorithm).expect("a key");
            let prover = Prover::new(&key).expect("it opens");
            let proved = Proved {
                htm: "POST",
                htu: r#"https://api.example.com/a"b\c"#,
                ath: None,
                nonce: None,
            };
            let proof = prover.proof(&proved, NOW, &mut Counter(1)).expect("a proof");
            assert!(proof.is_sensitive());
            let (header, claims) = verified(&proof);
            assert_eq!(names(&header), ["alg", "jwk", "typ"]);
            assert_eq!(
                (&header["typ"], &header["alg"]),
                (&json!("dpop+jwt"), &json!(algorithm.alg()))
            );
            assert_eq!(names(&header["jwk"]), members, "the public members and no other");
            assert_eq!(names(&claims), ["htm", "htu", "iat", "jti"]);
            assert_eq!(claims["htm"], "POST");
            assert_eq!(claims["htu"], r#"https://api.example.com/a"b\c"#);
            assert_eq!(claims["iat"], NOW.0);
            let jti = claims["jti"].as_str().expect("text");
            assert_eq!(
                URL_SAFE_NO_PAD.decode(jti).expect("base64url").len(),
                16,
                "128 bits"
            );
            let full = Proved {
                ath: Some("ath"),
                nonce: Some("eyJ7S.no-nce~"),
                ..proved
            };
            let (_, claims) = verified(&prover.proof(&full, NOW, &mut Counter(2)).expect("a proof"));
            assert_eq!(names(&claims), ["ath", "htm", "htu", "iat", "jti", "nonce"]);
            assert_eq!(claims["nonce"], "eyJ7S.no-nce~");
        }
    }

    #[test]
    fn no_proof_is_like_another() {
        let prover = Prover::new(&key()).expect("it opens");
        let proved = Proved {
            htm: "GET",
            htu: "https://api.example.com/",
            ath: None,
            nonce: None,
        };
        let rng = &mut Counter(1);
        let mut proofs = [(); 3].map(|()| prover.proof(&proved, NOW, rng).expect("a proof"));
        let ids = proofs.each_ref().map(|proof| verified(proof).1["jti"].clone());
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
        proofs.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        assert!(proofs[0] != proofs[1] && proofs[1] != proofs[2]);
    }

    /// RFC 9449 §7.1, figure 13.
    #[test]
    fn the_digest_of_a_token_is_that_of_the_rfc() {
        let token = b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
        let bound = BoundToken::new(&key(), token).expect("a key");
        assert_eq!(bound.ath, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    }

    /// RFC 9449 §6.1: the key of figure 2 has the thumbprint of figure 10.
    #[test]
    fn the_thumbprint_of_a_key_is_that_of_the_rfc() {
        let mut prover = Prover::new(&key()).expect("it opens");
        prover.jwk = r#"{"crv":"P-256","kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}"#.to_owned();
        assert_eq!(prover.jkt(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        let own = Prover::new(&key()).expect("it opens");
        let jwk: Value = serde_json::from_str(&own.jwk).expect("json");
        // serde_json keeps them in order
        assert_eq!(own.jwk, jwk.to_string());
    }

    #[test]
    fn a_proof_names_the_address_that_the_api_has() {
        let base = |url: Option<&str>, target: RouteTargetConfig| {
            let route = RouteConfig {
                public_url: url.map(str::to_owned),
                ..RouteConfig::new("/api", target)
            };
            let application = checked(ApplicationConfig {
                routes: vec![route],
                ..config()
            });
            let route = application.routes.first().expect("one route");
            proved_base(&application, route).map(str::to_owned)
        };
        let one = |url: &str| RouteTargetConfig::Upstream(url.to_owned());
        let several = || {
            let urls = ["https://a.example.com", "https://b.example.com"];
            RouteTargetConfig::Upstreams(urls.map(str::to_owned).to_vec())
        };
        for (name, url, target, expected) in [
            (
                "plain",
                None,
                one("https://api.example.com"),
                Some("https://api.example.com"),
            ),
            (
                "case and default port (RFC 3986 §6.2)",
                None,
                one("HTTPS://API.Example.COM:443/"),
                Some("https://api.example.com"),
            ),
            (
                "base path and port",
                None,
                one("http://127.0.0.1:5000/v1/"),
                Some("http://127.0.0.1:5000/v1"),
            ),
            (
                "another name",
                Some("https://api.example.com"),
                one("http://127.0.0.1:5000/v1"),
                Some("https://api.example.com"),
            ),
            (
                "with a path",
                Some("https://API.example.com/orders/"),
                one("http://127.0.0.1:5000"),
                Some("https://api.example.com/orders"),
            ),
            ("several", None, several(), None),
            (
                "several, named",
                Some("https://api.example.com"),
                several(),
                Some("https://api.example.com"),
            ),
            ("a socket", None, one("unix:/run/api.sock"), None),
            (
                "a service behind a Layer",
                None,
                RouteTargetConfig::Inner,
                Some("https://shop.example.com"),
            ),
        ] {
            assert_eq!(base(url, target).as_deref(), expected, "{name}");
        }
        let application = checked(ApplicationConfig {
            routes: vec![upstream("/api", "http://127.0.0.1:5000/v1", None)],
            ..config()
        });
        let bound = BoundToken::new(&key(), b"t").expect("a key");
        let route = application.routes.first().expect("one route");
        let proofs = Unaddressed::of(bound).at(&application, route, "/api/orders");
        let proof = proofs
            .expect("one address")
            .proof(&Method::PUT, Some("n"), NOW, &mut Counter(1));
        let (_, claims) = verified(&proof.expect("a proof"));
        assert_eq!(claims["htu"], "http://127.0.0.1:5000/v1/api/orders");
        assert_eq!(claims["htm"], "PUT");
        assert_eq!(claims["nonce"], "n");
    }

    #[test]
    fn a_nonce_is_short_and_needs_no_escape() {
        let long = "n".repeat(MAX_NONCE + 1);
        for (text, good) in [
            ("eyJ7S_zG.eyJH0-Z.HX4w-7v", true),
            ("~!#$&'()*+,:;=?@[]", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a\\b", false),
            ("a\nb", false),
            ("é", false),
        ] {
            assert_eq!(nonce(text).as_deref(), Some(text).filter(|_| good), "{text:?}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(nonce_of(&headers), None);
        headers.append(DPOP_NONCE, HeaderValue::from_static("a"));
        assert_eq!(nonce_of(&headers), Some("a"));
        headers.append(DPOP_NONCE, HeaderValue::from_static("b"));
        assert_eq!(nonce_of(&headers), None, "which of two, nobody knows");
    }

    #[test]
    fn only_a_challenge_of_dpop_that_names_the_nonce_is_one() {
        for (status, challenges, expected) in [
            // RFC 9449 §9
            (
                401,
                &[
                    r#"DPoP error="use_dpop_nonce", error_description="Resource server requires nonce in DPoP proof""#,
                ][..],
                true,
            ),
            (
                401,
                &[r#"Bearer realm="x", DPoP algs="ES256", error="use_dpop_nonce""#],
                true,
            ),
            (401, &["Bearer", r#"dpop Error=use_dpop_nonce"#], true),
            (401, &[r#"DPoP error="invalid_token""#], false),
            (
                401,
                &[r#"DPoP algs="ES256", Bearer error="use_dpop_nonce""#],
                false,
            ),
            (401, &[r#"Bearer error="use_dpop_nonce""#], false),
            // a comma in quotes ends nothing
            (401, &[r#"Bearer realm="a, DPoP error=use_dpop_nonce""#], false),
            (
                401,
                &[r#"DPoP error_description="no, Basic", error="use_dpop_nonce""#],
                true,
            ),
            (401, &["DPoP"], false),
            (401, &[], false),
            (400, &[r#"DPoP error="use_dpop_nonce""#], false),
        ] {
            let mut headers = HeaderMap::new();
            for challenge in challenges {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                is_nonce_challenge(status, &headers),
                expected,
                "{status} {challenges:?}"
            );
        }
    }

    fn answer(status: u16, body: &str, nonce: Option<&str>) -> Reply {
        Reply::Response(ProviderResponse {
            status: StatusCode::from_u16(status).expect("a status"),
            content_type: None,
            dpop_nonce: nonce.map(str::to_owned),
            body: body.as_bytes().to_vec().into(),
        })
    }

    fn proof_of(request: &ProviderRequest) -> Option<(Value, Value)> {
        let mut all = request.headers.iter().filter(|(name, _)| *name == DPOP);
        let (_, proof) = all.next()?;
        assert!(all.next().is_none(), "one proof");
        Some(verified(proof))
    }

    /// What the provider is asked while it answers this; and whether that was tokens in the end.
    fn conversation(key: Option<&ProofKey>, answers: Vec<Reply>) -> (Vec<ProviderRequest>, Option<bool>) {
        with_context(metadata(), |context| {
            let wanted = token_type(key);
            let build = |context: &mut Context<'_>| {
                let mut endpoint = context.provider.metadata.token_endpoint.clone();
                endpoint.set_query(Some("tenant=1"));
                let jti = crate::rng::random_text::<8>(context.rng);
                client_auth::post(
                    &endpoint,
                    &[("grant_type", "x"), ("assertion", &jti)],
                    &provider(),
                    context,
                )
            };
            let check = move |reply: Reply, _: &mut Context<'_>| {
                Ok(Step::Done(token::parse_token_reply(&reply, wanted).is_ok()))
            };
            let mut step = converse(key, context, build, check).expect("it begins");
            let mut sent = Vec::new();
            for reply in answers {
                step = match step {
                    Step::Send(request, rest) => {
                        sent.push(request);
                        rest.resume(reply, context).expect("it goes on")
                    }
                    Step::FetchKeys(_) | Step::Done(_) => panic!("it has ended"),
                };
            }
            match step {
                Step::Done(tokens) => (sent, Some(tokens)),
                Step::Send(..) | Step::FetchKeys(_) => (sent, None),
            }
        })
    }

    const BOUND: &str = r#"{"access_token":"a","token_type":"dpop"}"#;
    const WANTS_NONCE: &str = r#"{"error":"use_dpop_nonce"}"#;

    #[test]
    fn the_provider_is_asked_again_once_and_with_everything_made_anew() {
        let key = key();
        let (sent, tokens) = conversation(
            Some(&key),
            vec![answer(400, WANTS_NONCE, Some("first")), answer(200, BOUND, None)],
        );
        assert_eq!((sent.len(), tokens), (2, Some(true)));
        let proofs: Vec<_> = sent
            .iter()
            .map(|request| proof_of(request).expect("a proof"))
            .collect();
        for (header, claims) in &proofs {
            assert_eq!(claims["htm"], "POST");
            assert_eq!(claims["htu"], "https://login.example.com/token");
            assert_eq!(header["jwk"], proofs[0].0["jwk"], "the session's key");
        }
        assert_eq!(proofs[0].1.get("nonce"), None);
        assert_eq!(proofs[1].1["nonce"], "first");
        assert_ne!(proofs[0].1["jti"], proofs[1].1["jti"]);
        assert_ne!(
            sent[0].body, sent[1].body,
            "a client assertion is made anew as well"
        );

        let (sent, tokens) = conversation(
            Some(&key),
            vec![
                answer(401, WANTS_NONCE, Some("a")),
                answer(400, WANTS_NONCE, Some("b")),
            ],
        );
        assert_eq!(
            (sent.len(), tokens),
            (2, Some(false)),
            "a second demand is an error"
        );
        for (name, reply) in [
            ("no nonce", answer(400, WANTS_NONCE, None)),
            ("no nonce that can be", answer(400, WANTS_NONCE, Some("a b"))),
            (
                "another error",
                answer(400, r#"{"error":"invalid_grant"}"#, Some("a")),
            ),
            ("another status", answer(403, WANTS_NONCE, Some("a"))),
            (
                "a downgrade",
                answer(200, r#"{"access_token":"a","token_type":"Bearer"}"#, Some("a")),
            ),
            ("nothing", Reply::Unreachable("gone")),
        ] {
            let (sent, tokens) = conversation(Some(&key), vec![reply]);
            assert_eq!((sent.len(), tokens), (1, Some(false)), "{name}");
        }
    }

    #[test]
    fn without_a_key_nothing_is_proved_and_no_bound_token_is_taken() {
        let (sent, tokens) = conversation(None, vec![answer(200, BOUND, Some("n"))]);
        assert_eq!(tokens, Some(false));
        assert!(proof_of(&sent[0]).is_none());
        let bearer = r#"{"access_token":"a","token_type":"Bearer"}"#;
        assert_eq!(conversation(None, vec![answer(200, bearer, None)]).1, Some(true));
        let (sent, tokens) = conversation(None, vec![answer(400, WANTS_NONCE, Some("n"))]);
        assert_eq!((sent.len(), tokens), (1, Some(false)));
    }

    #[test]
    fn a_stored_credential_keeps_its_key_through_the_record() {
        let key = key();
        let packed = crate::packed::pack(&Secret::new("t0ken"));
        let bound = crate::headers::Authorization::unpack_bound(&packed, &key).expect("both are good");
        assert!(bound.proofs().is_some());
        let broken = ProofKey::from_bytes([0; crate::seal::PROOF_KEY]);
        assert!(crate::headers::Authorization::unpack_bound(&packed, &broken).is_none());
        assert!(
            crate::headers::Authorization::unpack(&packed)
                .expect("good")
                .proofs()
                .is_none()
        );
    }
}
