//! Sealing: all encryption, key derivation and hashing of Coatroom's own, behind one small module.
//!
//! A [`MasterKey`] comes from a key file; a [`KeyRing`] of them seals and opens values for one
//! [`Purpose`], application and name, and computes keyed hashes; a [`ProxyRing`] opens the little that
//! a proxy needs. All that seals, opens or derives keys is aws-lc-rs, reached from here alone, so
//! that a second backend can be added without touching a caller. There is one construction,
//! AES-256-GCM-SIV (RFC 8452) under sub-keys from HKDF-SHA256 (RFC 5869), and no other beside it:
//! `benches/seal.rs` has what it was measured against. This module never tells why a value did not
//! open, and never shows a key.

mod key;
mod proof_key;
mod proxy;
mod record;
mod ring;

use aws_lc_rs::digest;

pub use key::{KeyError, MasterKey};
pub(crate) use proof_key::{LENGTH as PROOF_KEY, ProofKey, ProofSigner};
pub use proxy::{ProxyKey, ProxyRing};
pub(crate) use record::{Handle, Part, digest_of};
pub(crate) use ring::Opens;
pub(crate) use ring::sealed_len;
pub use ring::{Associated, KeyRing, Opened, Purpose};

/// The first 8 bytes of SHA-256 over a label and the data, for values that need no secret: short
/// names and tombstones of unguessable ids.
///
/// The label is part of the hashed text, with its length in front, so that equal data under two
/// labels have nothing in common.
pub fn digest8(label: &str, data: &[u8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = digest32(label, data);
    [a, b, c, d, e, f, g, h]
}

/// The whole of what [`digest8`] is the head of, for names in a store that need no secret.
pub fn digest32(label: &str, data: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"coatroom-digest-1");
    context.update(&length_prefix(label.len()));
    context.update(label.as_bytes());
    context.update(data);
    *context
        .finish()
        .as_ref()
        .first_chunk()
        .expect("SHA-256 has 32 bytes")
}

/// A length as it stands in front of every variable field that is hashed or authenticated, so that
/// no two lists of fields have the same encoding.
fn length_prefix(length: usize) -> [u8; 8] {
    (length as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_head_of_sha256_over_prefix_label_and_data() {
        // sha256("coatroom-digest-1" + 00 00 00 00 00 00 00 05 + "state" + "xyz")
        assert_eq!(
            digest8("state", b"xyz"),
            [0xf5, 0x17, 0xea, 0xbb, 0x48, 0xce, 0xaa, 0xaf]
        );
    }

    #[test]
    fn a_digest_depends_on_where_the_label_ends() {
        assert_ne!(digest8("ab", b"c"), digest8("a", b"bc"));
        assert_ne!(digest8("", b"abc"), digest8("abc", b""));
    }
}
