//! Signed authorization requests (JWT-Secured Authorization Request, RFC 9101).
//!
//! A request object holds every parameter of one request, for one provider, once and for five minutes.
//! Typed, so that it is never taken for a client assertion or another JWT of this client (RFC 8725
//! §3.11). Nothing is encrypted here and nothing is sent.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::SigningKey;
use crate::config::Provider;
use crate::error::Error;
use crate::rng::random_text;
use crate::step::Context;
use crate::time::UnixTime;

/// The request object with these parameters (§4): the value of `request`.
///
/// # Errors
/// [`Error::Provider`] when the metadata do not list the key's algorithm.
pub(super) fn sign(
    key: &SigningKey,
    parameters: &[(String, String)],
    provider: &Provider,
    context: &mut Context<'_>,
) -> Result<String, Error> {
    let metadata = &context.provider.metadata;
    if let Some(listed) = &metadata.request_object_signing_alg_values_supported
        && !listed.iter().any(|alg| is_name_of(alg, key.alg()))
    {
        return Err(Error::Provider(
            "`request_object_signing_alg_values_supported` does not have the algorithm of `request_object`"
                .to_owned(),
        ));
    }
    let now = context.now;
    let mut claims = members(parameters);
    // §4: what the object says of itself goes before parameters of these names, of which there are none
    for (name, value) in [
        ("iss", json!(provider.client_id)),
        ("aud", json!(metadata.issuer)),
        ("iat", json!(now.0)),
        // the provider's clock may be behind ours
        (
            "nbf",
            json!(UnixTime(now.0.saturating_sub(provider.leeway.as_secs())).0),
        ),
        ("exp", json!(now.plus(LIFE).0)),
        ("jti", json!(random_text::<16>(context.rng))),
    ] {
        claims.insert(name.to_owned(), value);
    }
    let header = json!({"typ": "oauth-authz-req+jwt"});
    let object = key.sign(&header, &Value::Object(claims))?;
    Ok(object.expose().to_owned())
}

/// §4: parameters are members; what is a number or an object in JSON is one here, and what is there
/// several times is an array (RFC 8707 §2).
fn members(parameters: &[(String, String)]) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, text) in parameters {
        let value = match name.as_str() {
            "max_age" => text.parse::<u64>().map_or_else(|_| json!(text), Value::from),
            "claims" => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            _ => json!(text),
        };
        match members.remove(name) {
            None => members.insert(name.clone(), value),
            Some(Value::Array(mut values)) => {
                values.push(value);
                members.insert(name.clone(), Value::Array(values))
            }
            Some(earlier) => members.insert(name.clone(), json!([earlier, value])),
        };
    }
    members
}

/// RFC 9864 has a new name for what RFC 8037 calls `EdDSA`.
fn is_name_of(listed: &str, alg: &str) -> bool {
    listed == alg || (listed == "Ed25519" && alg == "EdDSA")
}

/// How long a request object counts.
const LIFE: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::oauth::testing::{
        CLIENT_ID, ISSUER, metadata_with, one_private_key_pem, provider, with_context,
    };

    fn signed(parameters: &[(&str, &str)], changes: &[(&str, Value)]) -> Result<[Value; 2], Error> {
        let key = SigningKey::from_pem(one_private_key_pem().as_bytes(), None, Some("k1")).expect("a key");
        let parameters: Vec<(String, String)> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let object = with_context(metadata_with(changes), |context| {
            sign(&key, &parameters, &provider(), context)
        })?;
        let mut parts = object.split('.').map(|part| {
            let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64url");
            serde_json::from_slice(&bytes).unwrap_or_default()
        });
        Ok([parts.next(), parts.next()].map(|part| part.expect("three parts")))
    }

    #[test]
    fn it_says_who_asks_whom_for_how_long_and_for_what() {
        let parameters = [
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("state", "s\"t"),
            ("max_age", "60"),
            ("claims", r#"{"id_token":{"acr":null}}"#),
            ("resource", "https://a"),
            ("resource", "https://b"),
            ("resource", "https://c"),
        ];
        let [header, mut claims] = signed(&parameters, &[]).expect("signed");
        assert_eq!(
            header,
            json!({"alg": "ES256", "kid": "k1", "typ": "oauth-authz-req+jwt"})
        );
        let jti = claims["jti"].take();
        assert!(jti.as_str().is_some_and(|jti| jti.len() >= 22));
        claims.as_object_mut().expect("an object").remove("jti");
        assert_eq!(
            claims,
            json!({
                "iss": CLIENT_ID, "aud": ISSUER, "client_id": CLIENT_ID,
                "iat": 1_900_000_000, "nbf": 1_899_999_990, "exp": 1_900_000_300,
                "response_type": "code", "state": "s\"t", "max_age": 60,
                "claims": {"id_token": {"acr": null}},
                "resource": ["https://a", "https://b", "https://c"],
            })
        );
    }

    #[test]
    fn an_algorithm_that_the_provider_does_not_take_is_not_used() {
        for (listed, good) in [
            (Value::Null, true),
            (json!(["PS256", "ES256"]), true),
            (json!(["PS256"]), false),
            (json!([]), false),
            (json!(["none"]), false),
        ] {
            let outcome = signed(
                &[],
                &[("request_object_signing_alg_values_supported", listed.clone())],
            );
            assert_eq!(outcome.is_ok(), good, "{listed}");
        }
    }

    #[test]
    fn ed25519_has_two_names_and_nothing_else_has() {
        for (listed, alg, same) in [
            ("EdDSA", "EdDSA", true),
            ("Ed25519", "EdDSA", true),
            ("Ed25519", "ES256", false),
            ("EdDSA", "ES256", false),
            ("ed25519", "EdDSA", false),
        ] {
            assert_eq!(is_name_of(listed, alg), same, "{listed} {alg}");
        }
    }
}
