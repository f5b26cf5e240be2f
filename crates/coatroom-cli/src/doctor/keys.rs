//! The provider's signing keys: can ID tokens be checked with them, and did it publish what it should
//! not?
//!
//! How many are usable is asked of the code that uses them; no key and no key id is shown.

use std::collections::BTreeSet;

use coatroom::provider::Provider;
use coatroom_core::oauth::{JwkSet, Metadata};
use http::StatusCode;
use serde_json::Value;

use super::discovery::{get, look};
use super::sheet::Sheet;

/// Fetches and judges them; whether a sign-in could go on with them.
pub(super) async fn examine(sheet: &Sheet, client: &Provider, metadata: &Metadata) -> bool {
    // who signs nothing has none, and an OpenID Provider without any was refused before
    let Some(url) = metadata.jwks_uri() else {
        return true;
    };
    let looked = match look(client, get(url.clone(), "application/json")).await {
        Ok(looked) => looked,
        Err(why) => {
            sheet.failed("signing keys", format!("`jwks_uri`: {why}"), FETCHED);
            return false;
        }
    };
    let status = looked.response.status;
    if status != StatusCode::OK {
        sheet.failed(
            "signing keys",
            format!("`jwks_uri` answers {}", status.as_u16()),
            FETCHED,
        );
        return false;
    }
    judge(sheet, &looked.response.body)
}

fn judge(sheet: &Sheet, body: &[u8]) -> bool {
    let set = match JwkSet::parse(body) {
        Ok(set) => set,
        Err(error) => {
            sheet.failed(
                "signing keys",
                error.to_string(),
                "see what the provider publishes at its `jwks_uri`",
            );
            return false;
        }
    };
    let published: Value = serde_json::from_slice(body).unwrap_or_default();
    let keys = published["keys"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let has = |key: &Value, member: &str| key.get(member).is_some_and(|value| !value.is_null());
    if keys.iter().any(|key| has(key, "d") || has(key, "k")) {
        sheet.failed(
            "signing keys",
            "a private or symmetric key is published: whoever reads it can sign for the provider",
            "have the provider replace that key at once, and publish public keys only; such a key is never used here",
        );
    }
    let weak = keys
        .iter()
        .filter(|key| key["kty"] == "RSA" && modulus_bits(key) < 2048)
        .count();
    if weak > 0 {
        sheet.warning(
            "signing keys",
            format!("{weak} of them are RSA keys of fewer than 2048 bits, which are never used"),
            "replace them at the provider",
        );
    }
    let named: Vec<(&str, &Value)> = keys
        .iter()
        .filter_map(|key| Some((key["kid"].as_str()?, &key["kty"])))
        .collect();
    let different: BTreeSet<String> = named.iter().map(|(kid, kty)| format!("{kid} {kty}")).collect();
    if different.len() < named.len() {
        sheet.warning(
            "signing keys",
            "two of them have the same `kid`",
            "give each key of the provider a `kid` of its own: up to four that fit are tried",
        );
    }
    match (set.len(), keys.len()) {
        (0, 0) => {
            sheet.failed(
                "signing keys",
                "there are none",
                "make a signing key at the provider",
            );
            false
        }
        (0, published) => {
            sheet.failed(
                "signing keys",
                format!("none of {published} can be used"),
                "have the provider sign with RSA of 2048 bits and more, P-256, P-384 or Ed25519 (`use`: `sig`)",
            );
            false
        }
        (usable, published) => {
            sheet.good("signing keys", format!("{usable} of {published} can be used"));
            true
        }
    }
}

/// From the length of the modulus in base64url: near enough to tell 1024 from 2048.
fn modulus_bits(key: &Value) -> usize {
    let length = key["n"].as_str().map_or(0, |n| n.trim_end_matches('=').len());
    // a leading zero byte, as some libraries write it, is worth one character and a third
    length.saturating_mul(6).saturating_add(2)
}

const FETCHED: &str = "let this machine fetch the provider's `jwks_uri`: without keys nobody signs in";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sheet::State;
    use super::*;

    /// RFC 7515 appendix A.3.
    fn ec(kid: &str) -> Value {
        json!({"kty": "EC", "crv": "P-256", "kid": kid,
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
    }

    fn with(mut key: Value, member: &str, value: &str) -> Value {
        key[member] = json!(value);
        key
    }

    #[test]
    fn a_key_set_is_judged_by_what_is_usable_and_what_should_not_be_there() {
        use State::{Failed, Good, Warning};
        let weak = json!({"kty": "RSA", "n": "x".repeat(171), "e": "AQAB"});
        for (name, keys, states) in [
            ("one", vec![ec("a")], vec![Good]),
            ("two", vec![ec("a"), ec("b")], vec![Good]),
            ("none", vec![], vec![Failed]),
            ("of no use", vec![json!({"kty": "oct"})], vec![Failed]),
            (
                "private",
                vec![ec("a"), with(ec("b"), "d", "hunter2")],
                vec![Failed, Good],
            ),
            ("weak", vec![weak, ec("a")], vec![Warning, Good]),
            ("twins", vec![ec("a"), ec("a")], vec![Warning, Good]),
        ] {
            let sheet = Sheet::new(None, "provider");
            judge(&sheet, json!({ "keys": keys }).to_string().as_bytes());
            let findings = sheet.findings();
            assert!(!format!("{findings:?}").contains("hunter2"));
            assert_eq!(
                findings.iter().map(|finding| finding.state).collect::<Vec<_>>(),
                states,
                "{name}"
            );
        }
    }
}
