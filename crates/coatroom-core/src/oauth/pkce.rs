//! Proof Key for Code Exchange (RFC 7636), method S256.
//!
//! Makes the verifier that stays sealed in the login cookie and the challenge that travels. The
//! method `plain` does not exist here, and a verifier never leaves but in the token request.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::rng::{Rng, random_text};
use crate::secret::Secret;

/// The only method in use (RFC 7636 §4.2).
pub(crate) const METHOD: &str = "S256";

/// A fresh code verifier: 32 random bytes as 43 characters (RFC 7636 §4.1).
pub(crate) fn verifier(rng: &mut dyn Rng) -> Secret {
    Secret::new(random_text::<32>(rng))
}

/// The challenge of a verifier: base64url(SHA-256(ascii)).
pub(crate) fn challenge(verifier: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.expose().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::testing::Counter;

    struct Fixed(&'static [u8]);

    impl Rng for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            out.copy_from_slice(self.0);
        }
    }

    #[test]
    fn the_example_of_rfc_7636_appendix_b_comes_out() {
        let mut octets = Fixed(&[
            116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37, 77, 105,
            214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121,
        ]);
        let verifier = verifier(&mut octets);
        assert_eq!(verifier.expose(), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(
            challenge(&verifier),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn every_verifier_is_another_one_of_the_right_shape() {
        let mut rng = Counter(1);
        let (a, b) = (verifier(&mut rng), verifier(&mut rng));
        assert!(a != b);
        assert_eq!(a.len(), 43);
        assert!(
            a.expose()
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        );
    }
}
