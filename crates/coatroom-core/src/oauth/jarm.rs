//! Signed authorization responses (JWT Secured Authorization Response Mode, JARM §2).
//!
//! The front channel carries one parameter, `response`: a JWT of the provider with the code or the error
//! inside. The signature comes first, with the keys and the rules of ID tokens (`id_token`), then whose
//! it is and for whom; only then are `code`, `state` and `error` read, from inside and from nowhere else.
//! An encrypted response is refused. No error repeats a claim.

use std::time::Duration;

use serde_json::{Map, Value};

use super::authorization::{AuthorizationResponse, MAX_RESPONSE_LENGTH, MAX_RESPONSE_PARAMETERS};
use super::id_token::{self, Announced, IdTokenFailure, Signed};
use super::jwk::JwkSet;
use super::metadata::Metadata;
use crate::error::Error;
use crate::secret::Secret;
use crate::time::UnixTime;

/// Why a signed response is not accepted.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No key of the set is the one it was signed with: with fresh keys it may pass, so fetch them
    /// once and verify again.
    UnknownKey,
    /// It is not acceptable, and will not be.
    Refused(Error),
}

/// The one `response` among the parameters that came back; what is beside it counts for nothing.
///
/// # Errors
/// [`Error::InvalidRequest`] when there is none, or several, or it is too long: a provider that was
/// asked for a signed answer gives no other.
pub(crate) fn response<N: AsRef<str>, V: AsRef<str>>(
    pairs: impl IntoIterator<Item = (N, V)>,
) -> Result<Secret, Error> {
    let mut found = None;
    for (count, (name, value)) in pairs.into_iter().enumerate() {
        if count >= MAX_RESPONSE_PARAMETERS {
            return Err(Error::InvalidRequest(
                "the authorization response has more than 64 parameters",
            ));
        }
        if name.as_ref() != "response" {
            continue;
        }
        if value.as_ref().len() > MAX_RESPONSE_LENGTH {
            return Err(Error::InvalidRequest(
                "the authorization response is longer than 16 kib",
            ));
        }
        if found.replace(Secret::new(value.as_ref())).is_some() {
            return Err(Error::InvalidRequest(
                "a parameter of the authorization response appears twice",
            ));
        }
    }
    found
        .filter(|response| !response.is_empty())
        .ok_or(Error::InvalidRequest(
            "the signed `response` is missing, which `response_mode` asks the provider for",
        ))
}

/// Verifies a signed response and reads what is inside (§2.4).
///
/// # Errors
/// [`Failure`].
pub(crate) fn verify(
    raw: &Secret,
    client_id: &str,
    leeway: Duration,
    keys: &JwkSet,
    metadata: &Metadata,
    now: UnixTime,
) -> Result<AuthorizationResponse, Failure> {
    let announced = Announced {
        algorithms: metadata.authorization_signing_alg_values_supported.as_deref(),
        otherwise: "`alg` is not among `authorization_signing_alg_values_supported`",
        tenants: metadata.tenants.as_ref(),
    };
    let Signed { header, claims, .. } =
        id_token::check_signature_by(raw, keys, &announced).map_err(|failure| match failure {
            IdTokenFailure::UnknownKey => Failure::UnknownKey,
            IdTokenFailure::Invalid(why) => Failure::Refused(Error::ResponseInvalid(why)),
        })?;
    id_token::check_type(header.get("typ"))
        .and_then(|()| check_claims(&claims, client_id, leeway, metadata, now))
        .map_err(|why| Failure::Refused(Error::ResponseInvalid(why)))?;
    AuthorizationResponse::from_pairs(parameters(&claims).map_err(Failure::Refused)?)
        .map_err(Failure::Refused)
}

fn check_claims(
    claims: &Map<String, Value>,
    client_id: &str,
    leeway: Duration,
    metadata: &Metadata,
    now: UnixTime,
) -> Result<(), &'static str> {
    id_token::check_issuer_and_audience(claims, client_id, metadata)?;
    let exp = id_token::date(claims, "exp", "`exp` is not a number")?.ok_or("`exp` is missing")?;
    if exp.plus(leeway) <= now {
        return Err("it has expired (`exp`)");
    }
    if exp > now.plus(MAX_LIFE).plus(leeway) {
        return Err("it counts for more than an hour (`exp`)");
    }
    let latest = now.plus(leeway);
    for (name, not_a_number, early) in [
        (
            "iat",
            "`iat` is not a number",
            "it was issued in the future (`iat`); check the clocks",
        ),
        (
            "nbf",
            "`nbf` is not a number",
            "it is not valid yet (`nbf`); check the clocks",
        ),
    ] {
        if id_token::date(claims, name, not_a_number)?.is_some_and(|at| at > latest) {
            return Err(early);
        }
    }
    Ok(())
}

/// The parameters inside (§2.1). `iss` is the issuer's, which was checked, so that it stands for that of
/// RFC 9207 as well.
fn parameters(claims: &Map<String, Value>) -> Result<Vec<(&'static str, &str)>, Error> {
    let mut parameters = Vec::new();
    for name in ["code", "state", "iss", "error", "error_description", "error_uri"] {
        match claims.get(name) {
            None => {}
            Some(Value::String(text)) => parameters.push((name, text.as_str())),
            Some(_) => return Err(Error::ResponseInvalid("a parameter in it is not a string")),
        }
    }
    Ok(parameters)
}

/// JARM §2.1 recommends ten minutes at most.
const MAX_LIFE: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::oauth::testing::{CLIENT_ID, ISSUER, SigningKey, key_set, metadata, metadata_with};

    const NOW: UnixTime = UnixTime(1_700_000_000);

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    /// The claims of a good response with some changed; `null` removes one.
    fn claims_with(changes: &[(&str, Value)]) -> Value {
        let mut claims = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "exp": NOW.0 + 600, "code": "c-1", "state": "s-1",
        });
        for (name, value) in changes {
            match value {
                Value::Null => drop(claims.as_object_mut().expect("an object").remove(*name)),
                value => claims[*name] = value.clone(),
            }
        }
        claims
    }

    fn judge(raw: &Secret, keys: &JwkSet) -> Result<AuthorizationResponse, Failure> {
        verify(raw, CLIENT_ID, Duration::from_secs(10), keys, &metadata(), NOW)
    }

    fn refused(name: &str, outcome: Result<AuthorizationResponse, Failure>) -> Error {
        match outcome {
            Err(Failure::Refused(error)) => error,
            Err(Failure::UnknownKey) => panic!("{name}: unknown key"),
            Ok(_) => panic!("{name}: accepted"),
        }
    }

    #[test]
    fn a_code_or_an_error_is_read_from_inside() {
        let key = SigningKey::generate("ES256", Some("k"));
        let keys = key_set(&[&key]);
        match judge(&key.sign(&claims_with(&[])), &keys) {
            Ok(AuthorizationResponse::Code { code, state, iss }) => {
                assert_eq!(
                    (code.expose(), state.as_str(), iss.as_deref()),
                    ("c-1", "s-1", Some(ISSUER))
                );
            }
            _ => panic!("a code"),
        }
        let error = [("code", Value::Null), ("error", json!("access_denied"))];
        match judge(&key.sign(&claims_with(&error)), &keys) {
            Ok(AuthorizationResponse::Refused { error, state, .. }) => {
                assert_eq!((error, state.as_str()), (Some("access_denied"), "s-1"));
            }
            _ => panic!("an error"),
        }
        for good in [
            &[("aud", json!([CLIENT_ID]))][..],
            &[("exp", json!(NOW.0 - 9))],
            &[("exp", json!(NOW.0 + 3610))],
            &[("iat", json!(NOW.0 + 10)), ("nbf", json!(NOW.0))],
            // a name that means something outside only
            &[("response", json!("x")), ("id_token", json!("y"))],
        ] {
            assert!(judge(&key.sign(&claims_with(good)), &keys).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn claims_that_are_wrong_or_missing_are_refused() {
        let key = SigningKey::generate("ES256", Some("k"));
        let keys = key_set(&[&key]);
        let cases: &[(&str, &[(&str, Value)])] = &[
            ("another issuer", &[("iss", json!("https://evil.example"))]),
            ("the issuer with a slash", &[("iss", json!(format!("{ISSUER}/")))]),
            ("no issuer", &[("iss", Value::Null)]),
            ("another client", &[("aud", json!("evil"))]),
            ("a client whose id begins like ours", &[("aud", json!("shop2"))]),
            ("several clients", &[("aud", json!([CLIENT_ID, "evil"]))]),
            ("no audience", &[("aud", Value::Null)]),
            ("expired", &[("exp", json!(NOW.0 - 10))]),
            ("without an end", &[("exp", Value::Null)]),
            ("an end in words", &[("exp", json!("never"))]),
            ("an end of time", &[("exp", json!(1e300))]),
            ("more than an hour", &[("exp", json!(NOW.0 + 3611))]),
            ("from the future", &[("iat", json!(NOW.0 + 11))]),
            ("not yet", &[("nbf", json!(NOW.0 + 11))]),
            ("neither code nor error", &[("code", Value::Null)]),
            ("both", &[("error", json!("access_denied"))]),
            ("a code that is a number", &[("code", json!(7))]),
            ("a state that is a list", &[("state", json!(["s-1"]))]),
        ];
        for (name, changes) in cases {
            let error = refused(name, judge(&key.sign(&claims_with(changes)), &keys));
            assert_eq!(error.answer().code, "invalid_request", "{name}");
            assert!(!error.to_string().contains("evil"), "{name} repeats input");
        }
        let stateless = judge(&key.sign(&claims_with(&[("state", Value::Null)])), &keys);
        assert!(matches!(
            refused("no state", stateless),
            Error::LoginStateInvalid(_)
        ));
    }

    #[test]
    fn only_the_providers_signature_counts() {
        let key = SigningKey::generate("ES256", Some("k"));
        let rsa = SigningKey::generate("RS256", Some("r"));
        let keys = key_set(&[&key, &rsa]);
        let rogue = SigningKey::generate("ES256", Some("k"));
        let encode = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let mut cases = vec![
            ("a rogue key of that name", rogue.sign(&claims_with(&[]))),
            (
                "no signature",
                Secret::new(format!(
                    "{}.{}.",
                    encode(json!({"alg": "none"})),
                    encode(claims_with(&[]))
                )),
            ),
            (
                "encrypted",
                Secret::new(format!(
                    "{}.a.b.c.d",
                    encode(json!({"alg": "RSA-OAEP", "enc": "A256GCM"}))
                )),
            ),
            ("no jwt", Secret::new("code=c-1&state=s-1")),
            ("another kind of token", {
                let mut header = key.header();
                header["typ"] = json!("at+jwt");
                key.sign_as(&header, &claims_with(&[]))
            }),
            ("crit", {
                let mut header = key.header();
                header["crit"] = json!(["exp"]);
                key.sign_as(&header, &claims_with(&[]))
            }),
        ];
        for secret in [rsa.public_bytes(), b"s3cret".to_vec()] {
            let message = format!(
                "{}.{}",
                encode(json!({"alg": "HS256", "kid": "r"})),
                encode(claims_with(&[]))
            );
            let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
            cases.push((
                "symmetric",
                Secret::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))),
            ));
        }
        let good = key.sign(&claims_with(&[]));
        let mut parts = good.expose().splitn(3, '.');
        let (header, signature) = (parts.next().expect("1"), parts.nth(1).expect("3"));
        let other = encode(claims_with(&[("code", json!("evil"))]));
        cases.push((
            "other claims under the signature",
            Secret::new(format!("{header}.{other}.{signature}")),
        ));
        for (name, raw) in cases {
            assert!(
                matches!(refused(name, judge(&raw, &keys)), Error::ResponseInvalid(_)),
                "{name}"
            );
        }
        let unknown = SigningKey::generate("ES256", Some("new")).sign(&claims_with(&[]));
        assert!(matches!(judge(&unknown, &keys), Err(Failure::UnknownKey)));
    }

    #[test]
    fn the_announced_algorithms_are_those_of_responses_not_of_id_tokens() {
        let key = SigningKey::generate("ES256", Some("k"));
        let raw = key.sign(&claims_with(&[]));
        for (name, listed, good) in [
            (
                "authorization_signing_alg_values_supported",
                json!(["ES256"]),
                true,
            ),
            (
                "authorization_signing_alg_values_supported",
                json!(["PS256"]),
                false,
            ),
            ("id_token_signing_alg_values_supported", json!(["PS256"]), true),
        ] {
            let metadata = metadata_with(&[(name, listed.clone())]);
            let outcome = verify(
                &raw,
                CLIENT_ID,
                Duration::from_secs(10),
                &key_set(&[&key]),
                &metadata,
                NOW,
            );
            assert_eq!(outcome.is_ok(), good, "{name}: {listed}");
        }
    }

    #[test]
    fn one_response_is_taken_and_nothing_instead_of_it() {
        let (longest, long) = ("a".repeat(16 * 1024), "a".repeat(16 * 1024 + 1));
        let many: Vec<(&str, &str)> = std::iter::repeat_n(("x", "y"), 65).collect();
        let cases: [(&str, Pairs<'_>, bool); 9] = [
            ("alone", &[("response", "a.b.c")], true),
            (
                "beside others",
                &[
                    ("code", "x"),
                    ("code", "y"),
                    ("response", "a.b.c"),
                    ("state", "z"),
                ],
                true,
            ),
            ("none", &[("code", "x"), ("state", "y")], false),
            ("empty", &[("response", "")], false),
            ("twice", &[("response", "a"), ("response", "a")], false),
            ("twice, once empty", &[("response", ""), ("response", "a")], false),
            ("as long as may be", &[("response", &longest)], true),
            ("too long", &[("response", &long)], false),
            ("too many", &many, false),
        ];
        for (name, pairs, good) in cases {
            let outcome = response(pairs.iter().copied());
            assert_eq!(outcome.is_ok(), good, "{name}");
            if let Err(error) = outcome {
                assert!(matches!(error, Error::InvalidRequest(_)), "{name}");
            }
        }
    }
}
