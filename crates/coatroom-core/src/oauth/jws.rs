//! JSON Web Signatures that we make (RFC 7515): client assertions, request objects.
//!
//! A [`SigningKey`] is a private key in PEM with the algorithm that it signs with. Algorithms are those
//! with a public key that `jwk` accepts; what they compute is jsonwebtoken's aws-lc backend, without
//! its process-global default. Nothing here decides what is claimed, and no key is ever shown.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::jwk::algorithm;
use crate::error::Error;
use crate::secret::Secret;

/// A private key of this client, and how it signs. No `Debug`.
#[derive(Clone)]
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
    name: &'static str,
    kid: Option<String>,
    public: Value,
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// It is no private key in PEM that is understood.
    #[error("it is not a private key in PEM: PKCS#8, or PKCS#1 for RSA; P-256, P-384, Ed25519 or RSA")]
    NotAKey,
    /// The algorithm is unknown, or one of another kind of key.
    #[error("the algorithm does not belong to this kind of key")]
    AnotherAlgorithm,
    /// RSA with fewer than 2048 bits.
    #[error("an RSA key needs 2048 bits at least")]
    TooShort,
}

impl SigningKey {
    /// Reads a private key in PEM. Without an `alg` it is the one that the kind of key suggests:
    /// `ES256`, `ES384`, `EdDSA`, and `PS256` for RSA (FAPI 2.0 §5.4.1 allows no `RS256`).
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub fn from_pem(pem: &[u8], alg: Option<&str>, kid: Option<&str>) -> Result<Self, SigningKeyError> {
        let wanted = match alg {
            None => None,
            Some(alg) => Some(algorithm(alg).ok_or(SigningKeyError::AnotherAlgorithm)?),
        };
        let (key, suggested, public) = read(pem).ok_or(SigningKeyError::NotAKey)?;
        let algorithm = wanted.unwrap_or(suggested);
        if !belongs(algorithm, suggested) {
            return Err(SigningKeyError::AnotherAlgorithm);
        }
        let modulus = public.get("n").and_then(Value::as_str);
        if modulus.is_some_and(|n| n.len() < MIN_MODULUS) {
            return Err(SigningKeyError::TooShort);
        }
        let key = Self {
            key,
            algorithm,
            name: name(algorithm),
            kid: kid.map(str::to_owned),
            public,
        };
        // a key that cannot sign is found out now
        key.sign(&json!({}), &json!({}))
            .map_err(|_| SigningKeyError::NotAKey)?;
        Ok(key)
    }

    /// The algorithm's name (RFC 7518 §3.1, RFC 8037).
    pub fn alg(&self) -> &'static str {
        self.name
    }

    /// The key's id, if one was given.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The public half as a JWK (RFC 7517), the required members only (RFC 7638 §3.2).
    pub fn public_jwk(&self) -> &Value {
        &self.public
    }

    /// The thumbprint of the public half (RFC 7638), with SHA-256.
    pub fn thumbprint(&self) -> String {
        // serde_json writes members in the order of their names, without blanks, as §3.3 wants it
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.public.to_string().as_bytes()))
    }

    /// The same key with an id: where none was given, its thumbprint.
    #[must_use]
    pub fn identified(mut self) -> Self {
        let thumbprint = self.thumbprint();
        self.kid.get_or_insert(thumbprint);
        self
    }

    /// A compact JWS (RFC 7515 §7.1): `alg` and `kid` come from the key, the rest of the header from
    /// the caller.
    ///
    /// # Errors
    /// [`Error::Bug`] when the backend cannot sign.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> Result<Secret, Error> {
        let mut header = header.clone();
        if let Some(members) = header.as_object_mut() {
            members.insert("alg".to_owned(), self.name.into());
            if let Some(kid) = &self.kid {
                members.insert("kid".to_owned(), kid.as_str().into());
            }
        }
        let message = [header.to_string(), claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = message.join(".");
        let signer = (DEFAULT_PROVIDER.signer_factory)(&self.algorithm, &self.key);
        let signature = signer
            .ok()
            .and_then(|signer| signer.try_sign(message.as_bytes()).ok())
            .ok_or(Error::Bug("a key that was accepted does not sign"))?;
        Ok(Secret::new(
            [&message, ".", &URL_SAFE_NO_PAD.encode(signature)].concat(),
        ))
    }
}

/// A compact JWS with HS256 (RFC 7518 §3.2).
pub(crate) fn sign_hs256(secret: &[u8], header: &Value, claims: &Value) -> Secret {
    let mut header = header.clone();
    if let Some(members) = header.as_object_mut() {
        members.insert("alg".to_owned(), "HS256".into());
    }
    let message = [header.to_string(), claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = message.join(".");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    Secret::new([&message, ".", &URL_SAFE_NO_PAD.encode(tag)].concat())
}

fn read(pem: &[u8]) -> Option<(EncodingKey, Algorithm, Value)> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let utils = &DEFAULT_PROVIDER.key_utils;
    if let Ok(key) = EncodingKey::from_rsa_pem(pem) {
        let (n, e) = (utils.rsa_pub_components_from_private_key)(key.as_bytes()).ok()?;
        let public = json!({"e": text(&e), "kty": "RSA", "n": text(&n)});
        return Some((key, Algorithm::PS256, public));
    }
    if let Ok(key) = EncodingKey::from_ec_pem(pem) {
        return [(Algorithm::ES256, "P-256"), (Algorithm::ES384, "P-384")]
            .into_iter()
            .find_map(|(algorithm, crv)| {
                let (_, x, y) = (utils.ec_pub_components_from_private_key)(key.as_bytes(), algorithm).ok()?;
                let public = json!({"crv": crv, "kty": "EC", "x": text(&x), "y": text(&y)});
                Some((key.clone(), algorithm, public))
            });
    }
    let key = EncodingKey::from_ed_pem(pem).ok()?;
    let x = (utils.ed_pub_components_from_private_key)(key.as_bytes(), &EllipticCurve::Ed25519).ok()?;
    let public = json!({"crv": "Ed25519", "kty": "OKP", "x": text(&x)});
    Some((key, Algorithm::EdDSA, public))
}

fn belongs(algorithm: Algorithm, suggested: Algorithm) -> bool {
    let rsa = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ];
    algorithm == suggested || (suggested == Algorithm::PS256 && rsa.contains(&algorithm))
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RS256 => "RS256",
        Algorithm::RS384 => "RS384",
        Algorithm::RS512 => "RS512",
        Algorithm::PS384 => "PS384",
        Algorithm::PS512 => "PS512",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        Algorithm::EdDSA => "EdDSA",
        _ => "PS256",
    }
}

/// 2048 bits in base64url.
const MIN_MODULUS: usize = 342;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::JwkSet;
    use crate::oauth::testing::private_key_pem;

    fn keys() -> Vec<(&'static str, String)> {
        let algorithms = ["ES256", "ES384", "EdDSA", "PS256"];
        algorithms.map(|alg| (alg, private_key_pem(alg))).to_vec()
    }

    #[test]
    fn what_is_signed_verifies_with_the_public_half_and_names_the_key() {
        for (alg, pem) in keys() {
            let key =
                SigningKey::from_pem(pem.as_bytes(), None, Some("k1")).unwrap_or_else(|_| panic!("{alg}"));
            assert_eq!(key.alg(), alg);
            let jws = key.sign(&json!({"typ": "x"}), &json!({"iss": "a"})).unwrap();
            let parts: Vec<&str> = jws.expose().split('.').collect();
            let [header, claims, signature] = parts[..] else {
                panic!("{alg}")
            };
            let decoded = |part| URL_SAFE_NO_PAD.decode(part).unwrap();
            let header_json: Value = serde_json::from_slice(&decoded(header)).unwrap();
            assert_eq!(header_json, json!({"alg": alg, "kid": "k1", "typ": "x"}));
            let mut public = key.public_jwk().clone();
            public["alg"] = alg.into();
            let set = JwkSet::parse(json!({"keys": [public]}).to_string().as_bytes()).unwrap();
            let algorithm = algorithm(alg).unwrap();
            let verifies = |message: String| {
                set.candidates(None, algorithm)[0].verifies(
                    algorithm,
                    message.as_bytes(),
                    &decoded(signature),
                )
            };
            assert!(verifies(format!("{header}.{claims}")), "{alg}");
            assert!(!verifies(format!("{header}.{claims}x")), "{alg}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let keys = keys();
        for (alg, pem) in &keys {
            for (other, fits) in [
                ("ES256", *alg == "ES256"),
                ("ES384", *alg == "ES384"),
                ("EdDSA", *alg == "EdDSA"),
                ("RS256", *alg == "PS256"),
                ("PS512", *alg == "PS256"),
                ("HS256", false),
                ("none", false),
            ] {
                let outcome = SigningKey::from_pem(pem.as_bytes(), Some(other), None);
                assert_eq!(outcome.is_ok(), fits, "{alg} {other}");
            }
        }
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "hush", certificate] {
            let outcome = SigningKey::from_pem(text.as_bytes(), None, None);
            assert!(matches!(outcome, Err(SigningKeyError::NotAKey)), "{text}");
        }
    }

    #[test]
    fn the_thumbprint_of_rfc_8037_comes_out_and_names_a_key_that_has_no_id() {
        // RFC 8037 appendix A.1 and A.3, the private key as PKCS#8
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                   -----END PRIVATE KEY-----\n";
        let key = SigningKey::from_pem(pem.as_bytes(), None, None).unwrap();
        assert_eq!(key.kid(), None);
        let thumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        assert_eq!(key.thumbprint(), thumbprint);
        assert_eq!(key.identified().kid(), Some(thumbprint));
        let named = SigningKey::from_pem(pem.as_bytes(), None, Some("k1")).unwrap();
        assert_eq!(named.identified().kid(), Some("k1"));
    }
}
