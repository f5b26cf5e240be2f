//! Keys that DPoP proofs are signed with (RFC 9449): made here, kept as 33 bytes, opened to sign.
//!
//! A [`ProofKey`] is what a session keeps of its key: one byte that names the algorithm, and the
//! private scalar (P-256) or seed (Ed25519). The public half follows from it and is not kept. To make
//! a key and to sign take aws-lc's own randomness, which it lets nobody else choose. Nothing here
//! shows a private key, and none has a `Debug`.

use aws_lc_rs::encoding::{AsBigEndian as _, Curve25519SeedBin, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::config::DpopAlgorithm;
use crate::error::Error;

/// A session's key, as it is kept. Zeroed when dropped.
#[derive(Clone)]
pub(crate) struct ProofKey(Zeroizing<[u8; LENGTH]>);

/// The same, ready to sign.
pub(crate) enum ProofSigner {
    /// P-256 (`ES256`).
    P256(EcdsaKeyPair),
    /// Ed25519 (`EdDSA`).
    Ed25519(Ed25519KeyPair),
}

impl ProofKey {
    /// A new key.
    ///
    /// # Errors
    /// [`Error::Bug`] when the backend makes none.
    pub(crate) fn generate(algorithm: DpopAlgorithm) -> Result<Self, Error> {
        let failed = Error::Bug("no key for dpop proofs can be made");
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let (format, private) = bytes.split_at_mut(1);
        match algorithm {
            DpopAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
                let pair = pair.map_err(|_| failed.clone())?;
                let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().map_err(|_| failed)?;
                format.fill(P256);
                private.copy_from_slice(scalar.as_ref());
            }
            DpopAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate().map_err(|_| failed.clone())?;
                let seed = pair.seed().map_err(|_| failed.clone())?;
                let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| failed)?;
                format.fill(ED25519);
                private.copy_from_slice(seed.as_ref());
            }
        }
        Ok(Self(bytes))
    }

    /// What a record keeps.
    pub(crate) fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// The key of a record. Whether it is a good one is seen when it is opened.
    pub(crate) fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key, ready to sign; none for bytes that are no key.
    pub(crate) fn open(&self) -> Option<ProofSigner> {
        let (format, private) = self.0.split_first()?;
        match *format {
            P256 => {
                let document = Zeroizing::new([PKCS8_P256, private].concat());
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document).ok()?;
                Some(ProofSigner::P256(pair))
            }
            ED25519 => {
                let pair = Ed25519KeyPair::from_seed_unchecked(private).ok()?;
                Some(ProofSigner::Ed25519(pair))
            }
            _ => None,
        }
    }
}

impl ProofSigner {
    /// The algorithm's name (RFC 7518 §3.1, RFC 8037 §3.1).
    pub(crate) fn alg(&self) -> &'static str {
        match self {
            Self::P256(_) => DpopAlgorithm::Es256.alg(),
            Self::Ed25519(_) => DpopAlgorithm::EdDsa.alg(),
        }
    }

    /// The public half: a JWK of its required members in the order of RFC 7638 §3.2, without blanks.
    pub(crate) fn public_jwk(&self) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::P256(pair) => {
                // the first byte says that the point is not compressed
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at_checked(32).unwrap_or_default();
                let (x, y) = (text(x), text(y));
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Self::Ed25519(pair) => {
                let x = text(pair.public_key().as_ref());
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
            }
        }
    }

    /// The signature over a message, in the form of a JWS: 64 bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        match self {
            Self::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).ok()?;
                signature.as_ref().try_into().ok()
            }
            Self::Ed25519(pair) => pair.try_sign(message).ok()?.as_ref().try_into().ok(),
        }
    }
}

/// How many bytes a record keeps of a key.
pub(crate) const LENGTH: usize = 33;

/// The first byte: the scalar of a P-256 key follows.
const P256: u8 = 1;

/// The first byte: the seed of an Ed25519 key follows.
const ED25519: u8 = 2;

/// What stands before the scalar in PKCS#8 (RFC 5208, RFC 5915): the public half is left out, since
/// it is computed and checked when the key is read.
const PKCS8_P256: &[u8] = &[
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
    0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04,
    0x20,
];

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519 as VERIFY_ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_key_that_was_kept_signs_as_the_same_key() {
        for algorithm in [DpopAlgorithm::Es256, DpopAlgorithm::EdDsa] {
            let key = ProofKey::generate(algorithm).expect("a key");
            let kept = ProofKey::from_bytes(*key.bytes());
            let (one, other) = (key.open().expect("it opens"), kept.open().expect("it opens"));
            assert_eq!(one.public_jwk(), other.public_jwk());
            assert_eq!(one.alg(), algorithm.alg());
            let signature = other.sign(b"message").expect("it signs");
            match &one {
                ProofSigner::P256(pair) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
                        .verify(b"message", &signature)
                }
                ProofSigner::Ed25519(pair) => {
                    UnparsedPublicKey::new(&VERIFY_ED25519, pair.public_key().as_ref())
                        .verify(b"message", &signature)
                }
            }
            .expect("it verifies");
        }
    }

    #[test]
    fn each_key_is_another() {
        for algorithm in [DpopAlgorithm::Es256, DpopAlgorithm::EdDsa] {
            let (one, other) = (ProofKey::generate(algorithm), ProofKey::generate(algorithm));
            assert_ne!(one.expect("a key").bytes(), other.expect("a key").bytes());
        }
    }

    #[test]
    fn bytes_that_are_no_key_do_not_open() {
        let mut unknown = [7; LENGTH];
        unknown[0] = 3;
        let mut zero = [0; LENGTH];
        zero[0] = P256;
        // above the order of the curve
        let mut above = [0xff; LENGTH];
        above[0] = P256;
        for (name, bytes) in [
            ("no format", [0; LENGTH]),
            ("an unknown format", unknown),
            ("zero", zero),
            ("above the order", above),
        ] {
            assert!(ProofKey::from_bytes(bytes).open().is_none(), "{name}");
        }
    }
}
