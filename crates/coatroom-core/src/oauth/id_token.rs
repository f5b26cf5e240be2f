//! ID tokens (OIDC Core §2, §3.1.3.7 and §12.2; RFC 7515, RFC 7519).
//!
//! A [`Verified`] exists only after the signature and every claim were checked: there is no other
//! way to read an ID token in this crate. The signature comes first, over the exact bytes, with a
//! key of the provider's set and an algorithm the provider announces; keys in the token's own
//! header (`jwk`, `jku`, `x5c`, `x5u`) are never looked at, `crit` is always refused, and neither
//! `none` nor a symmetric algorithm exists. No error repeats a claim.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::json;
use super::jwk::{self, JwkSet};
use super::metadata::Metadata;
use crate::config::Tenants;
use crate::error::Error;
use crate::secret::Secret;
use crate::time::UnixTime;

/// What an ID token has to say.
pub(crate) struct Expected<'a> {
    /// Our client id: the audience.
    pub(crate) client_id: &'a str,
    /// The nonce of the authorization request; none for a refreshed ID token, which need not have
    /// one ([`same_subject`] compares it if it has).
    pub(crate) nonce: Option<&'a str>,
    /// The access token it came with, for `at_hash`.
    pub(crate) access_token: Option<&'a Secret>,
    /// Tolerated clock difference.
    pub(crate) leeway: Duration,
}

/// Why an ID token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdTokenFailure {
    /// No key of the set is the one it was signed with: with fresh keys it may pass, so fetch them
    /// once and verify again.
    UnknownKey,
    /// It is not acceptable, and will not be.
    Invalid(&'static str),
}

impl From<IdTokenFailure> for Error {
    fn from(failure: IdTokenFailure) -> Self {
        Self::Provider(match failure {
            IdTokenFailure::UnknownKey => {
                "id token: no key of the provider's jwk set fits its `kid`".to_owned()
            }
            IdTokenFailure::Invalid(why) => format!("id token: {why}"),
        })
    }
}

/// The claims of an ID token that passed every check. Personal data: no `Debug`.
pub(crate) struct Verified {
    claims: Map<String, Value>,
}

impl Verified {
    /// All of them.
    pub(crate) fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// A claim that passed.
    pub(crate) fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }
}

/// Verifies an ID token (OIDC Core §3.1.3.7).
///
/// # Errors
/// [`IdTokenFailure::UnknownKey`] when fresh keys may help, else [`IdTokenFailure::Invalid`].
pub(crate) fn verify(
    raw: &Secret,
    expected: &Expected<'_>,
    keys: &JwkSet,
    metadata: &Metadata,
    now: UnixTime,
) -> Result<Verified, IdTokenFailure> {
    let invalid = IdTokenFailure::Invalid;
    let Signed {
        algorithm,
        header,
        claims,
    } = check_signature(raw, keys, metadata)?;
    check_type(header.get("typ")).map_err(invalid)?;
    check_claims(&claims, expected, metadata, now).map_err(invalid)?;
    if let (Some(hash), Some(token)) = (claims.get("at_hash"), expected.access_token) {
        let expected = at_hash(algorithm, token).ok_or_else(|| invalid("`at_hash` cannot be checked"))?;
        if !hash
            .as_str()
            .is_some_and(|hash| constant_time_eq(hash, &expected))
        {
            return Err(invalid("`at_hash` is not that of the access token"));
        }
    }
    Ok(Verified { claims })
}

/// Checks that a refreshed ID token is about the same sign-in (OIDC Core §12.2), given the claims of
/// the first one or those of them that were kept: `iss` and `sub` must be among them. `aud`, `azp`,
/// `auth_time` and `nonce` are compared where both have them.
///
/// # Errors
/// [`IdTokenFailure::Invalid`] naming the claim that changed.
pub(crate) fn same_subject(
    original: &Map<String, Value>,
    refreshed: &Verified,
) -> Result<(), IdTokenFailure> {
    let differs = |name: &str| original.get(name) != refreshed.claims.get(name);
    let both = |name: &str| original.contains_key(name) && refreshed.claims.contains_key(name);
    let checks = [
        (differs("iss"), "the refreshed token has another `iss`"),
        (differs("sub"), "the refreshed token has another `sub`"),
        (
            both("aud") && sorted_audiences(original) != sorted_audiences(&refreshed.claims),
            "the refreshed token has another `aud`",
        ),
        (
            both("azp") && differs("azp"),
            "the refreshed token has another `azp`",
        ),
        (
            both("auth_time") && differs("auth_time"),
            "the refreshed token has another `auth_time`",
        ),
        (
            both("nonce") && differs("nonce"),
            "the refreshed token has another `nonce`",
        ),
    ];
    match checks.into_iter().find(|(failed, _)| *failed) {
        None => Ok(()),
        Some((_, why)) => Err(IdTokenFailure::Invalid(why)),
    }
}

/// A JWT whose signature is the provider's, and of whose claims nothing is known yet.
pub(super) struct Signed {
    algorithm: Algorithm,
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
}

/// The algorithms that the provider announces for a kind of JWT, if it does.
pub(super) struct Announced<'a> {
    pub(super) algorithms: Option<&'a [String]>,
    /// What is said of a JWT that is signed with another one.
    pub(super) otherwise: &'static str,
    /// The tenants that the issuer stands for, if it does.
    pub(super) tenants: Option<&'a Tenants>,
}

/// Checks the signature of a JWT in compact form (RFC 7515 §5.2, RFC 7519 §7.2).
pub(super) fn check_signature(
    raw: &Secret,
    keys: &JwkSet,
    metadata: &Metadata,
) -> Result<Signed, IdTokenFailure> {
    let announced = Announced {
        algorithms: metadata.id_token_signing_alg_values_supported.as_deref(),
        otherwise: "`alg` is not among `id_token_signing_alg_values_supported`",
        tenants: metadata.tenants.as_ref(),
    };
    check_signature_by(raw, keys, &announced)
}

/// The same for another kind of JWT than an ID token.
pub(super) fn check_signature_by(
    raw: &Secret,
    keys: &JwkSet,
    announced: &Announced<'_>,
) -> Result<Signed, IdTokenFailure> {
    let invalid = IdTokenFailure::Invalid;
    if raw.len() > MAX_TOKEN {
        return Err(invalid("it is longer than 64 kib"));
    }
    let raw = raw.expose();
    let segments: Vec<&str> = raw.splitn(6, '.').collect();
    let [header, payload, signature] = segments[..] else {
        return Err(invalid(match segments.len() {
            5 => "it is encrypted, which is not understood here",
            _ => "it is not a signed token of three parts",
        }));
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let bytes = decode(header).ok_or_else(|| invalid("its header is not base64url"))?;
    let header_members =
        json::object(&bytes).ok_or_else(|| invalid("its header is not an object with unique members"))?;
    if header_members.contains_key("crit") {
        return Err(invalid("its header has `crit`, and no extension is understood"));
    }
    if header_members.contains_key("b64") {
        // RFC 7797 §7: never in a JWT, and whoever does not know it would read another payload
        return Err(invalid("its header has `b64`, which no jwt may have"));
    }
    let Some(Value::String(alg)) = header_members.get("alg") else {
        return Err(invalid("its header has no `alg`"));
    };
    let algorithm = jwk::algorithm(alg).ok_or_else(|| invalid("`alg` is none, symmetric or unknown"))?;
    if announced.algorithms.is_some_and(|listed| !listed.contains(alg)) {
        return Err(invalid(announced.otherwise));
    }
    let kid = match header_members.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.as_str()),
        Some(_) => return Err(invalid("`kid` is not a string")),
    };
    let signature = decode(signature).ok_or_else(|| invalid("its signature is not base64url"))?;
    let message = header
        .len()
        .checked_add(1)
        .and_then(|end| end.checked_add(payload.len()));
    let message = message
        .and_then(|end| raw.get(..end))
        .ok_or_else(|| invalid("it is cut off"))?;

    let candidates = keys.candidates(kid, algorithm);
    if let Some(key) = candidates
        .iter()
        .find(|key| key.verifies(algorithm, message.as_bytes(), &signature))
    {
        let payload = decode(payload).ok_or_else(|| invalid("its payload is not base64url"))?;
        let claims = json::object(&payload)
            .ok_or_else(|| invalid("its claims are not an object with unique members"))?;
        let iss = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        if let Some(tenants) = announced.tenants
            && !tenants.may_sign(key.issuer(), iss)
        {
            return Err(invalid("its key is another tenant's"));
        }
        return Ok(Signed {
            algorithm,
            claims,
            header: header_members,
        });
    }
    // Without a `kid` a failed signature and a key that is not there yet look the same.
    match kid {
        Some(_) if !candidates.is_empty() => Err(invalid("its signature is wrong")),
        Some(_) | None => Err(IdTokenFailure::UnknownKey),
    }
}

/// No specification gives ID tokens a type of their own, and providers write what they like; but a
/// token that says it is of another kind is not taken for one (RFC 8725 §3.11).
pub(super) fn check_type(typ: Option<&Value>) -> Result<(), &'static str> {
    let is_other = |typ: &str| {
        let typ = typ.strip_prefix("application/").unwrap_or(typ);
        OTHER_TYPES.contains(&typ)
    };
    match typ {
        Some(Value::String(typ)) if is_other(&typ.to_ascii_lowercase()) => {
            Err("its `typ` is that of another kind of token")
        }
        Some(Value::String(_)) | None => Ok(()),
        Some(_) => Err("its `typ` is not a string"),
    }
}

fn check_claims(
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
    metadata: &Metadata,
    now: UnixTime,
) -> Result<(), &'static str> {
    check_issuer_and_audience(claims, expected.client_id, metadata)?;
    let latest = now.plus(expected.leeway);
    let exp = date(claims, "exp", "`exp` is not a number")?.ok_or("`exp` is missing")?;
    if exp.plus(expected.leeway) <= now {
        return Err("it has expired (`exp`)");
    }
    let iat = date(claims, "iat", "`iat` is not a number")?.ok_or("`iat` is missing")?;
    if iat > latest {
        return Err("it was issued in the future (`iat`); check the clocks");
    }
    if date(claims, "nbf", "`nbf` is not a number")?.is_some_and(|nbf| nbf > latest) {
        return Err("it is not valid yet (`nbf`); check the clocks");
    }
    date(claims, "auth_time", "`auth_time` is not a number")?;
    subject(claims)?;
    match (expected.nonce, claims.get("nonce")) {
        (None, _) => Ok(()),
        (Some(_), None) => Err("`nonce` is missing"),
        (Some(expected), Some(Value::String(nonce))) if constant_time_eq(nonce, expected) => Ok(()),
        (Some(_), Some(_)) => Err("`nonce` is not that of the sign-in"),
    }
}

/// Whether a token is the issuer's, and meant for us (OIDC Core §3.1.3.7, 2 to 5).
pub(super) fn check_issuer_and_audience(
    claims: &Map<String, Value>,
    client_id: &str,
    metadata: &Metadata,
) -> Result<(), &'static str> {
    match claims.get("iss") {
        Some(Value::String(iss)) if metadata.is_issuer(iss) => check_tenant(iss, claims, metadata)?,
        Some(_) if metadata.tenants.is_some() => {
            return Err("`iss` is not the issuer of one of `allowed_tenants`");
        }
        Some(_) => return Err("`iss` is not the issuer"),
        None => return Err("`iss` is missing"),
    }
    let audiences = audiences(claims.get("aud").ok_or("`aud` is missing")?)
        .ok_or("`aud` is not a string or an array of strings")?;
    if !audiences.contains(&client_id) {
        return Err("`aud` does not contain `client_id`");
    }
    let azp = claims.get("azp");
    if azp.is_some_and(|azp| azp != client_id) {
        return Err("`azp` is not `client_id`");
    }
    if azp.is_none() && audiences.iter().any(|audience| *audience != client_id) {
        return Err("`aud` has other audiences and there is no `azp`");
    }
    Ok(())
}

/// Where an issuer stands for many tenants, `tid` says which of them: the one in `iss`.
fn check_tenant(iss: &str, claims: &Map<String, Value>, metadata: &Metadata) -> Result<(), &'static str> {
    let Some(tenants) = &metadata.tenants else {
        return Ok(());
    };
    match claims.get("tid") {
        Some(Value::String(tid)) if tenants.tenant_of(iss) == Some(tid) => Ok(()),
        Some(_) => Err("`tid` is not the tenant of `iss`"),
        None => Err("`tid` is missing"),
    }
}

/// The user: a string of 1 to 255 bytes (OIDC Core §2) that can stand in a log or a header.
pub(super) fn subject(claims: &Map<String, Value>) -> Result<&str, &'static str> {
    match claims.get("sub") {
        None => Err("`sub` is missing"),
        Some(Value::String(sub)) if sub.is_empty() => Err("`sub` is empty"),
        Some(Value::String(sub)) if sub.len() > 255 => Err("`sub` is longer than 255 bytes"),
        Some(Value::String(sub)) if sub.chars().any(char::is_control) => {
            Err("`sub` contains a control character")
        }
        Some(Value::String(sub)) => Ok(sub),
        Some(_) => Err("`sub` is not a string"),
    }
}

/// One audience or several (RFC 7519 §4.1.3).
fn audiences(aud: &Value) -> Option<Vec<&str>> {
    match aud {
        Value::String(audience) => Some(vec![audience]),
        Value::Array(audiences) => audiences.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn sorted_audiences(claims: &Map<String, Value>) -> Option<Vec<&str>> {
    let mut audiences = audiences(claims.get("aud")?)?;
    audiences.sort_unstable();
    audiences.dedup();
    Some(audiences)
}

/// A `NumericDate` (RFC 7519 §2), if it is there.
pub(super) fn date(
    claims: &Map<String, Value>,
    name: &str,
    why: &'static str,
) -> Result<Option<UnixTime>, &'static str> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(UnixTime(json::seconds(number)))),
        Some(_) => Err(why),
    }
}

/// The left half of the hash that goes with the algorithm (OIDC Core §3.1.3.6); Ed25519 hashes with
/// SHA-512 (RFC 8032).
fn at_hash(algorithm: Algorithm, access_token: &Secret) -> Option<String> {
    let hash = match algorithm {
        Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => &SHA256,
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &SHA384,
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &SHA512,
        _ => return None,
    };
    let digest = digest(hash, access_token.expose().as_bytes());
    let (left, _) = digest.as_ref().split_at(digest.as_ref().len() / 2);
    Some(URL_SAFE_NO_PAD.encode(left))
}

fn constant_time_eq(a: &str, b: &str) -> bool {
    verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

/// What is signed by the same keys and is no ID token: RFC 9068, Back-Channel Logout, RFC 8417, RFC
/// 9701, RFC 9101, RFC 9449.
const OTHER_TYPES: [&str; 6] = [
    "at+jwt",
    "logout+jwt",
    "secevent+jwt",
    "token-introspection+jwt",
    "oauth-authz-req+jwt",
    "dpop+jwt",
];

/// The longest token that is read, in bytes.
const MAX_TOKEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use serde_json::json;

    use super::*;
    use crate::oauth::testing::{CLIENT_ID, ISSUER, SigningKey, key_set, metadata, metadata_with};

    const NOW: UnixTime = UnixTime(1_700_000_000);
    const LEEWAY: Duration = Duration::from_secs(10);

    fn claims() -> Value {
        json!({
            "iss": ISSUER,
            "sub": "ann",
            "aud": CLIENT_ID,
            "exp": NOW.0 + 300,
            "iat": NOW.0,
            "nonce": "n-1",
            "name": "Ann",
        })
    }

    /// The claims with some changed; `null` removes one.
    fn claims_with(changes: &[(&str, Value)]) -> Value {
        let mut claims = claims();
        for (name, value) in changes {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(*name)),
                value => claims[*name] = value.clone(),
            }
        }
        claims
    }

    fn expected() -> Expected<'static> {
        Expected {
            client_id: CLIENT_ID,
            nonce: Some("n-1"),
            access_token: None,
            leeway: LEEWAY,
        }
    }

    fn check(raw: &Secret, keys: &JwkSet) -> Result<Verified, IdTokenFailure> {
        verify(raw, &expected(), keys, &metadata(), NOW)
    }

    fn invalid(name: &str, result: Result<Verified, IdTokenFailure>) -> &'static str {
        match result.err() {
            Some(IdTokenFailure::Invalid(why)) => why,
            Some(IdTokenFailure::UnknownKey) => panic!("{name}: unknown key"),
            None => panic!("{name}: accepted"),
        }
    }

    #[test]
    fn every_supported_algorithm_is_accepted() {
        for alg in [
            "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519",
        ] {
            let key = SigningKey::generate(alg, Some("k"));
            let verified = check(&key.sign(&claims()), &key_set(&[&key]));
            assert_eq!(verified.expect(alg).claims["sub"], "ann", "{alg}");
        }
    }

    #[test]
    fn claims_within_the_bounds_are_accepted() {
        let key = SigningKey::generate("ES256", Some("k"));
        let keys = key_set(&[&key]);
        let cases: &[(&str, &[(&str, Value)])] = &[
            ("an array of us", &[("aud", json!([CLIENT_ID]))]),
            (
                "several audiences with azp",
                &[("aud", json!(["api", CLIENT_ID])), ("azp", json!(CLIENT_ID))],
            ),
            ("azp alone", &[("azp", json!(CLIENT_ID))]),
            ("expired within the leeway", &[("exp", json!(NOW.0 - 9))]),
            ("a fractional expiry", &[("exp", json!(NOW.0 as f64 + 0.5))]),
            ("an expiry at the end of time", &[("exp", json!(1e300))]),
            ("an expiry beyond 2^31", &[("exp", json!(4_294_967_296_u64))]),
            ("issued within the leeway", &[("iat", json!(NOW.0 + 10))]),
            ("issued at a fraction", &[("iat", json!(NOW.0 as f64 + 0.9))]),
            ("issued long ago", &[("iat", json!(0))]),
            ("issued before the epoch", &[("iat", json!(-5))]),
            ("valid within the leeway", &[("nbf", json!(NOW.0 + 10))]),
            ("the longest sub", &[("sub", json!("a".repeat(255)))]),
            ("a sub beyond ascii", &[("sub", json!("Änne"))]),
        ];
        for (name, changes) in cases {
            if let Err(failure) = check(&key.sign(&claims_with(changes)), &keys) {
                panic!("{name}: {failure:?}");
            }
        }
    }

    #[test]
    fn a_claim_that_is_wrong_is_refused_by_name() {
        let key = SigningKey::generate("ES256", Some("k"));
        let keys = key_set(&[&key]);
        let cases: &[(&str, &str, Value)] = &[
            ("another issuer", "iss", json!("https://evil.example.com")),
            ("a trailing slash", "iss", json!("https://login.example.com/")),
            (
                "issuer in another case",
                "iss",
                json!("https://Login.example.com"),
            ),
            ("no issuer", "iss", Value::Null),
            ("an issuer list", "iss", json!([ISSUER])),
            ("another audience", "aud", json!("other")),
            ("our id as a prefix", "aud", json!("shop-admin")),
            ("a prefix of our id", "aud", json!("sho")),
            ("our id in another case", "aud", json!("Shop")),
            ("our id with a space", "aud", json!("shop ")),
            ("an array without us", "aud", json!(["api", "other"])),
            ("an empty array", "aud", json!([])),
            ("an array with a number", "aud", json!([CLIENT_ID, 7])),
            ("an audience object", "aud", json!({"shop": true})),
            ("no audience", "aud", Value::Null),
            ("another azp", "azp", json!("other")),
            ("an empty azp", "azp", json!("")),
            ("an azp list", "azp", json!([CLIENT_ID])),
            ("expired", "exp", json!(NOW.0 - 10)),
            ("expired long ago", "exp", json!(-1e300)),
            ("no expiry", "exp", Value::Null),
            ("an expiry in text", "exp", json!((NOW.0 + 300).to_string())),
            ("issued in the future", "iat", json!(NOW.0 + 11)),
            ("issued at the end of time", "iat", json!(1e300)),
            ("no issue time", "iat", Value::Null),
            ("an issue time in text", "iat", json!("now")),
            ("not valid yet", "nbf", json!(NOW.0 + 11)),
            ("a start in text", "nbf", json!("0")),
            ("another nonce", "nonce", json!("n-2")),
            ("a longer nonce", "nonce", json!("n-11")),
            ("an empty nonce", "nonce", json!("")),
            ("a nonce list", "nonce", json!(["n-1"])),
            ("no nonce", "nonce", Value::Null),
            ("no sub", "sub", Value::Null),
            ("an empty sub", "sub", json!("")),
            ("a number as sub", "sub", json!(7)),
            ("a sub list", "sub", json!(["ann"])),
            ("a sub too long", "sub", json!("a".repeat(256))),
            ("a sub with a line end", "sub", json!("ann\r\nX-Admin: 1")),
            ("an auth_time in text", "auth_time", json!("now")),
        ];
        for (name, claim, value) in cases {
            let why = invalid(
                name,
                check(&key.sign(&claims_with(&[(claim, value.clone())])), &keys),
            );
            assert!(why.contains(&format!("`{claim}`")), "{name}: {why}");
            assert!(!why.contains("evil"), "{name} repeats input: {why}");
        }
    }

    #[test]
    fn a_second_audience_needs_azp() {
        let key = SigningKey::generate("ES256", Some("k"));
        let token = key.sign(&claims_with(&[("aud", json!([CLIENT_ID, "api"]))]));
        assert!(invalid("no azp", check(&token, &key_set(&[&key]))).contains("`azp`"));
    }

    #[test]
    fn the_algorithm_is_never_the_tokens_choice() {
        let key = SigningKey::generate("RS256", Some("k"));
        let keys = key_set(&[&key]);
        let good = key.sign(&claims());
        let (message, _) = good.expose().rsplit_once('.').unwrap();
        let (_, payload) = message.split_once('.').unwrap();

        for alg in [
            "none", "None", "NONE", "nOnE", "", "RS256 ", "rs256", "HS256", "ES256K", "RSA1_5", "A128KW",
        ] {
            let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": "k"}).to_string());
            for signature in ["", "AA", "e30"] {
                let token = Secret::new(format!("{header}.{payload}.{signature}"));
                assert!(invalid(alg, check(&token, &keys)).contains("`alg`"));
            }
        }
        for secret in [key.public_bytes(), b"s3cret".to_vec(), Vec::new()] {
            for (alg, algorithm) in [
                ("HS256", hmac::HMAC_SHA256),
                ("HS384", hmac::HMAC_SHA384),
                ("HS512", hmac::HMAC_SHA512),
            ] {
                let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": "k"}).to_string());
                let message = format!("{header}.{payload}");
                let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), message.as_bytes());
                let token = Secret::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag)));
                assert!(invalid(alg, check(&token, &keys)).contains("`alg`"));
            }
        }
        // A true signature in an algorithm that the key is not for.
        let other = SigningKey::generate("PS256", Some("k"));
        assert_eq!(
            check(&other.sign(&claims()), &keys).err(),
            Some(IdTokenFailure::UnknownKey)
        );
        // Another family's name over a true signature.
        let relabelled = key.sign_as(&json!({"alg": "ES256", "kid": "k"}), &claims());
        assert_eq!(check(&relabelled, &keys).err(), Some(IdTokenFailure::UnknownKey));
        for header in [
            json!({"kid": "k"}),
            json!({"alg": 7, "kid": "k"}),
            json!({"alg": ["RS256"]}),
        ] {
            assert!(invalid("no alg", check(&key.sign_as(&header, &claims()), &keys)).contains("`alg`"));
        }
    }

    #[test]
    fn an_algorithm_that_the_metadata_does_not_list_is_refused() {
        let key = SigningKey::generate("ES256", Some("k"));
        let (token, keys) = (key.sign(&claims()), key_set(&[&key]));
        for (listed, good) in [
            (Value::Null, true),
            (json!(["RS256", "ES256"]), true),
            (json!(["RS256"]), false),
            (json!(["es256"]), false),
            (json!([]), false),
        ] {
            let metadata = metadata_with(&[("id_token_signing_alg_values_supported", listed.clone())]);
            let result = verify(&token, &expected(), &keys, &metadata, NOW);
            assert_eq!(result.is_ok(), good, "{listed}");
        }
        // `none` and HMAC stay out although the metadata lists them.
        let metadata = metadata_with(&[("id_token_signing_alg_values_supported", json!(["none", "HS256"]))]);
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let token = Secret::new(format!(
            "{header}.{}.",
            URL_SAFE_NO_PAD.encode(claims().to_string())
        ));
        assert!(invalid("none", verify(&token, &expected(), &keys, &metadata, NOW)).contains("`alg`"));
    }

    #[test]
    fn a_wrong_signature_is_refused_and_an_unknown_key_asks_for_fresh_ones() {
        let key = SigningKey::generate("ES256", Some("k"));
        let rogue = SigningKey::generate("ES256", Some("k"));
        let next = SigningKey::generate("ES256", Some("next"));
        let keys = key_set(&[&key]);

        assert!(invalid("rogue", check(&rogue.sign(&claims()), &keys)).contains("signature"));
        assert_eq!(
            check(&next.sign(&claims()), &keys).err(),
            Some(IdTokenFailure::UnknownKey)
        );
        assert!(check(&next.sign(&claims()), &key_set(&[&key, &next])).is_ok());
        assert_eq!(
            check(&key.sign(&claims()), &key_set(&[])).err(),
            Some(IdTokenFailure::UnknownKey)
        );
        // Two keys of one name: the right one is found.
        assert!(check(&key.sign(&claims()), &key_set(&[&rogue, &key])).is_ok());
    }

    #[test]
    fn without_kid_the_fitting_keys_are_tried() {
        let key = SigningKey::generate("ES256", None);
        let token = key.sign(&claims());
        let others: Vec<_> = (0..4)
            .map(|_| SigningKey::generate("ES256", Some("other")))
            .collect();
        let rsa = SigningKey::generate("RS256", Some("rsa"));
        let [a, b, c, d] = &others[..] else { unreachable!() };
        assert!(check(&token, &key_set(&[&key])).is_ok(), "one key");
        assert!(check(&token, &key_set(&[&rsa, a, b, &key])).is_ok(), "a few");
        let unknown = Some(IdTokenFailure::UnknownKey);
        assert_eq!(check(&token, &key_set(&[a, b])).err(), unknown, "rotated");
        assert_eq!(
            check(&token, &key_set(&[a, b, c, d, &key])).err(),
            unknown,
            "too many to tell"
        );
    }

    #[test]
    fn changed_tokens_are_refused() {
        let key = SigningKey::generate("ES256", Some("k"));
        let keys = key_set(&[&key]);
        let token = key.sign(&claims());
        let parts: Vec<_> = token.expose().split('.').collect();
        let [header, payload, signature] = parts[..] else {
            unreachable!()
        };
        let admin = URL_SAFE_NO_PAD.encode(claims_with(&[("sub", json!("admin"))]).to_string());
        let long = "a".repeat(MAX_TOKEN);
        let cases = [
            ("another payload", format!("{header}.{admin}.{signature}")),
            ("no signature", format!("{header}.{payload}.")),
            ("two parts", format!("{header}.{payload}")),
            ("four parts", format!("{header}.{payload}.{signature}.")),
            ("five parts", format!("{header}.{payload}.{signature}.a.b")),
            ("many parts", ".".repeat(1000)),
            ("nothing", String::new()),
            ("one dot", ".".to_owned()),
            ("two dots", "..".to_owned()),
            ("padding", format!("{header}.{payload}.{signature}==")),
            ("a space", format!("{header}.{payload}.{signature} ")),
            ("a line end", format!("{header}.{payload}\n.{signature}")),
            ("standard base64", format!("{header}.{payload}.++//")),
            ("not ascii", format!("{header}.{payload}.é")),
            ("too long", format!("{header}.{long}.{signature}")),
        ];
        for (name, token) in cases {
            invalid(name, check(&Secret::new(token), &keys));
        }
    }

    #[test]
    fn what_is_no_signed_token_is_told_apart() {
        let keys = key_set(&[]);
        let parts = |count: usize| vec!["YQ"; count].join(".");
        for (name, token, why) in [
            ("one part", parts(1), "it is not a signed token of three parts"),
            ("four parts", parts(4), "it is not a signed token of three parts"),
            (
                "encrypted",
                parts(5),
                "it is encrypted, which is not understood here",
            ),
            ("six parts", parts(6), "it is not a signed token of three parts"),
            (
                "as long as may be",
                "a".repeat(65_536),
                "it is not a signed token of three parts",
            ),
            ("longer by one", "a".repeat(65_537), "it is longer than 64 kib"),
            ("much longer", "a".repeat(70_000), "it is longer than 64 kib"),
        ] {
            assert_eq!(invalid(name, check(&Secret::new(token), &keys)), why, "{name}");
        }
    }

    #[test]
    fn the_header_brings_no_key_and_no_extension() {
        let key = SigningKey::generate("ES256", Some("k"));
        let rogue = SigningKey::generate("ES256", Some("rogue"));
        let keys = key_set(&[&key]);
        let with = |name: &str, value: Value| {
            let mut header = key.header();
            header[name] = value;
            header
        };
        // Ignored where the key is ours, useless where it is not.
        for (name, value) in [
            ("jwk", rogue.jwk()),
            ("jku", json!("https://evil.example.com/jwks")),
            ("x5u", json!("https://evil.example.com/cert")),
            ("x5c", json!(["MIIB"])),
            ("typ", json!("jwt")),
            ("typ", json!("id_token+jwt")),
        ] {
            let header = with(name, value.clone());
            assert!(check(&key.sign_as(&header, &claims()), &keys).is_ok(), "{name}");
            invalid(name, check(&rogue.sign_as(&header, &claims()), &keys));
            let mut foreign = rogue.header();
            foreign[name] = value;
            let unknown = check(&rogue.sign_as(&foreign, &claims()), &keys);
            assert_eq!(unknown.err(), Some(IdTokenFailure::UnknownKey), "{name}");
        }
        for (name, value) in [
            ("crit", json!(["exp"])),
            ("crit", json!([])),
            ("crit", Value::Null),
            // never in a JWT, whether or not `crit` says so (RFC 7797 §7)
            ("b64", json!(false)),
            ("b64", json!(true)),
            // another kind of token, signed with the same key (RFC 8725 §3.11)
            ("typ", json!("at+jwt")),
            ("typ", json!("application/at+jwt")),
            ("typ", json!("Logout+JWT")),
            ("typ", json!("secevent+jwt")),
            ("typ", json!("token-introspection+jwt")),
            ("typ", json!("oauth-authz-req+jwt")),
            ("typ", json!("dpop+jwt")),
            ("typ", json!(["JWT"])),
            ("typ", Value::Null),
            ("kid", json!(7)),
            ("kid", json!(["k"])),
        ] {
            let why = invalid(name, check(&key.sign_as(&with(name, value), &claims()), &keys));
            assert!(why.contains(&format!("`{name}`")), "{why}");
        }
    }

    #[test]
    fn json_that_two_parsers_could_read_differently_is_refused() {
        let key = SigningKey::generate("ES256", Some("k"));
        let keys = key_set(&[&key]);
        let (header, claims) = (key.header().to_string(), claims().to_string());
        let twice = claims.replacen('{', r#"{"sub":"admin","#, 1);
        for (name, header, claims) in [
            ("a claim twice", header.as_str(), twice.as_str()),
            ("claims in an array", &header, "[]"),
            ("claims that are a string", &header, "\"ann\""),
            ("claims that are nothing", &header, ""),
            ("something behind the claims", &header, &format!("{claims}x")),
            (
                "a header member twice",
                r#"{"alg":"ES256","alg":"none","kid":"k"}"#,
                &claims,
            ),
            ("a header in an array", r#"["ES256"]"#, &claims),
        ] {
            invalid(name, check(&key.sign_text(header, claims), &keys));
        }
    }

    #[test]
    fn at_hash_is_checked_where_it_is_present() {
        let token = Secret::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y");
        let other = Secret::new("another token");
        for alg in ["RS256", "ES384", "PS512", "EdDSA"] {
            let key = SigningKey::generate(alg, Some("k"));
            let keys = key_set(&[&key]);
            let hash = at_hash(jwk::algorithm(alg).unwrap(), &token);
            let signed = key.sign(&claims_with(&[("at_hash", json!(hash))]));
            let against = |access_token| {
                verify(
                    &signed,
                    &Expected {
                        access_token,
                        ..expected()
                    },
                    &keys,
                    &metadata(),
                    NOW,
                )
            };
            assert!(against(Some(&token)).is_ok(), "{alg}");
            assert!(against(None).is_ok(), "{alg}: no token to compare");
            assert!(invalid(alg, against(Some(&other))).contains("`at_hash`"));
            for wrong in [json!(7), json!(""), json!([hash])] {
                let signed = key.sign(&claims_with(&[("at_hash", wrong)]));
                let expected = Expected {
                    access_token: Some(&token),
                    ..expected()
                };
                assert!(
                    invalid(alg, verify(&signed, &expected, &keys, &metadata(), NOW)).contains("`at_hash`")
                );
            }
        }
    }

    #[test]
    fn the_at_hash_of_the_specifications_example_comes_out() {
        // OIDC Core appendix A.3: `at_hash` of its access token under RS256.
        let token = Secret::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y");
        assert_eq!(
            at_hash(Algorithm::RS256, &token).as_deref(),
            Some("77QmUPtjPfzWtF2AnpK9RQ")
        );
    }

    #[test]
    fn a_refreshed_token_needs_no_nonce_and_keeps_its_subject() {
        let key = SigningKey::generate("ES256", Some("k"));
        let keys = key_set(&[&key]);
        let first = claims_with(&[("auth_time", json!(5)), ("azp", json!(CLIENT_ID))]);
        let Value::Object(first) = first else {
            unreachable!()
        };
        let refresh = |changes: &[(&str, Value)]| {
            let expected = Expected {
                nonce: None,
                ..expected()
            };
            verify(
                &key.sign(&claims_with(changes)),
                &expected,
                &keys,
                &metadata(),
                NOW,
            )
            .unwrap()
        };
        type Changes<'a> = &'a [(&'a str, Value)];
        let cases: &[(&str, Changes<'_>, bool)] = &[
            ("the same", &[("auth_time", json!(5))], true),
            ("without nonce", &[("nonce", Value::Null)], true),
            (
                "with another expiry",
                &[("exp", json!(NOW.0 + 900)), ("iat", json!(NOW.0 - 5))],
                true,
            ),
            ("the audience as an array", &[("aud", json!([CLIENT_ID]))], true),
            ("another user", &[("sub", json!("bob"))], false),
            ("the user in another case", &[("sub", json!("Ann"))], false),
            ("another nonce", &[("nonce", json!("n-2"))], false),
            (
                "another audience",
                &[("aud", json!([CLIENT_ID, "api"])), ("azp", json!(CLIENT_ID))],
                false,
            ),
            ("another sign-in time", &[("auth_time", json!(6))], false),
        ];
        for (name, changes, good) in cases {
            assert_eq!(same_subject(&first, &refresh(changes)).is_ok(), *good, "{name}");
        }

        let same = refresh(&[]);
        for (name, claim) in [("another issuer", "iss"), ("another user", "sub")] {
            let mut changed = first.clone();
            changed.insert(claim.to_owned(), json!("other"));
            assert!(same_subject(&changed, &same).is_err(), "{name}");
            changed.remove(claim);
            assert!(same_subject(&changed, &same).is_err(), "{name}: not kept");
        }
        let kept: Map<_, _> = first
            .into_iter()
            .filter(|(name, _)| name == "iss" || name == "sub")
            .collect();
        assert!(
            same_subject(&kept, &same).is_ok(),
            "only what was kept is compared"
        );
    }

    #[test]
    fn failures_are_the_providers_fault() {
        for failure in [
            IdTokenFailure::UnknownKey,
            IdTokenFailure::Invalid("`exp` is missing"),
        ] {
            assert!(matches!(Error::from(failure), Error::Provider(text) if text.starts_with("id token: ")));
        }
    }
}
