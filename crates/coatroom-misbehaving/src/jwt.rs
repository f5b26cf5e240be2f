//! The keys of a run, and signed tokens in compact form (RFC 7515 §7.1), sound or not.
//!
//! All keys are made when they are needed, and none is ever written anywhere.

use std::sync::OnceLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::twist::Facts;

/// The provider's key, and a key that is nobody's.
pub(crate) struct Keys {
    ours: EcdsaKeyPair,
    rogue: EcdsaKeyPair,
}

impl Keys {
    /// Two new keys.
    pub(crate) fn generate() -> Self {
        let pair = || EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self {
            ours: pair(),
            rogue: pair(),
        }
    }

    /// The provider's public key.
    pub(crate) fn jwk(&self) -> Value {
        public(&self.ours, KID)
    }

    /// The other public key, under the same name.
    pub(crate) fn rogue_jwk(&self) -> Value {
        public(&self.rogue, KID)
    }

    /// The provider's public key as a point: what an attacker takes for an HMAC key.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        self.ours.public_key().as_ref().to_vec()
    }
}

fn public(pair: &EcdsaKeyPair, kid: &str) -> Value {
    let point = pair.public_key().as_ref();
    json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
    })
}

/// An RSA key of 2048 bits; made once for the process, because that is slow.
fn rsa() -> &'static RsaKeyPair {
    static RSA: OnceLock<RsaKeyPair> = OnceLock::new();
    RSA.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
}

/// Its public half, with so many bytes of its modulus left.
pub(crate) fn rsa_jwk(bytes: usize) -> Value {
    let components = signature::RsaPublicKeyComponents::<Vec<u8>>::from(rsa().public_key());
    let from = components.n.len() - bytes;
    json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID,
        "n": URL_SAFE_NO_PAD.encode(&components.n[from..]), "e": URL_SAFE_NO_PAD.encode(&components.e),
    })
}

/// A token on its way to its compact form.
pub(crate) struct Jwt {
    /// The JOSE header.
    pub(crate) header: Value,
    /// The claims.
    pub(crate) claims: Value,
    /// Who signs.
    pub(crate) signer: Signer,
    /// The header's text, if it is not that of `header`.
    pub(crate) header_text: Option<String>,
    /// The payload, if it is not the text of `claims`.
    pub(crate) payload: Option<Vec<u8>>,
    /// What becomes of the compact form.
    pub(crate) finish: Option<fn(&Facts, String) -> String>,
}

/// Who signs, and how.
pub(crate) enum Signer {
    /// The provider.
    Ours,
    /// The provider, with a signature in the form of X.509 (which RFC 7518 §3.4 forbids).
    OursInDer,
    /// Somebody else.
    Rogue,
    /// The provider's RSA key (RS256).
    Rsa,
    /// HS256 with this key.
    Hmac(Vec<u8>),
    /// These bytes are the signature.
    Bytes(Vec<u8>),
}

impl Jwt {
    /// A sound token of a type.
    pub(crate) fn new(typ: &str, claims: Value) -> Self {
        Self {
            header: json!({"alg": "ES256", "typ": typ, "kid": KID}),
            claims,
            signer: Signer::Ours,
            header_text: None,
            payload: None,
            finish: None,
        }
    }

    /// Sets a claim.
    pub(crate) fn claim(&mut self, name: &str, value: Value) {
        self.claims[name] = value;
    }

    /// Removes a claim.
    pub(crate) fn without(&mut self, name: &str) {
        self.claims.as_object_mut().expect("an object").remove(name);
    }

    /// Removes a parameter of the header.
    pub(crate) fn without_header(&mut self, name: &str) {
        self.header.as_object_mut().expect("an object").remove(name);
    }

    /// Changes the claims as text, which need not be JSON any more.
    pub(crate) fn edit_claims(&mut self, edit: impl FnOnce(String) -> String) {
        self.payload = Some(edit(self.claims.to_string()).into_bytes());
    }

    /// Changes the header as text.
    pub(crate) fn edit_header(&mut self, edit: impl FnOnce(String) -> String) {
        self.header_text = Some(edit(self.header.to_string()));
    }

    /// The compact form.
    pub(crate) fn compact(self, facts: &Facts) -> String {
        let header = self.header_text.unwrap_or_else(|| self.header.to_string());
        let payload = self
            .payload
            .unwrap_or_else(|| self.claims.to_string().into_bytes());
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = self.signer.sign(&facts.keys, message.as_bytes());
        let compact = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        match self.finish {
            Some(finish) => finish(facts, compact),
            None => compact,
        }
    }
}

impl Signer {
    fn sign(self, keys: &Keys, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let by = |pair: &EcdsaKeyPair| pair.sign(&random, message).expect("it signs").as_ref().to_vec();
        match self {
            Self::Ours => by(&keys.ours),
            Self::OursInDer => der(&by(&keys.ours)),
            Self::Rogue => by(&keys.rogue),
            Self::Rsa => {
                let mut out = vec![0; rsa().public_modulus_len()];
                rsa()
                    .sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut out)
                    .expect("it signs");
                out
            }
            Self::Hmac(key) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// A signature of two numbers as a DER sequence (RFC 3279 §2.2.3).
fn der(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        // or it would be negative
        let sign = number.first().is_none_or(|first| first & 0x80 != 0);
        let padded: Vec<u8> = sign
            .then_some(0)
            .into_iter()
            .chain(number.iter().copied())
            .collect();
        [&[2, u8::try_from(padded.len()).expect("short")][..], &padded].concat()
    };
    let both = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(both.len()).expect("short")][..], &both].concat()
}

/// The name of the provider's key.
pub(crate) const KID: &str = "key-1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_der_form_is_a_signature_to_who_expects_one() {
        let keys = Keys::generate();
        let verifies = |form: &'static signature::EcdsaVerificationAlgorithm, signer: Signer| {
            signature::UnparsedPublicKey::new(form, keys.public_bytes())
                .verify(b"message", &signer.sign(&keys, b"message"))
                .is_ok()
        };
        assert!(verifies(&signature::ECDSA_P256_SHA256_FIXED, Signer::Ours));
        assert!(!verifies(&signature::ECDSA_P256_SHA256_FIXED, Signer::Rogue));
        assert!(verifies(&signature::ECDSA_P256_SHA256_ASN1, Signer::OursInDer));
        assert!(!verifies(&signature::ECDSA_P256_SHA256_FIXED, Signer::OursInDer));
    }
}
