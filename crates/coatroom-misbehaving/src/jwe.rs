//! Encrypted tokens in compact form (RFC 7516 §7.1), sound or not: ECDH-ES with A256GCM (RFC 7518 §4.6).
//!
//! The client's key is made when it is needed, the same for the whole process, and is never written
//! anywhere.

use std::sync::OnceLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

fn client_key() -> &'static EcdsaKeyPair {
    static KEY: OnceLock<EcdsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
}

/// The private key in PEM (PKCS#8) that encrypted ID tokens are for.
pub fn decryption_key() -> String {
    let der = client_key().to_pkcs8v1().expect("PKCS#8");
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    )
}

/// An envelope for the client; what `change` leaves of its header is what is protected.
pub(crate) fn seal(inner: &str, change: fn(&mut Value)) -> String {
    seal_to(client_key().public_key().as_ref(), inner, change)
}

/// An envelope for nobody.
pub(crate) fn seal_to_nobody(inner: &str) -> String {
    let other = PrivateKey::generate(&ECDH_P256).expect("a key");
    let point = other.compute_public_key().expect("its public half");
    seal_to(point.as_ref(), inner, |_| {})
}

/// The same envelope with one of its five parts changed afterwards.
pub(crate) fn spoiled(envelope: &str, part: usize, change: fn(&str) -> String) -> String {
    let mut parts: Vec<String> = envelope.split('.').map(str::to_owned).collect();
    parts[part] = change(&parts[part]);
    parts.join(".")
}

fn seal_to(point: &[u8], inner: &str, change: fn(&mut Value)) -> String {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let own = PrivateKey::generate(&ECDH_P256).expect("a key");
    let public = own.compute_public_key().expect("its public half");
    let (x, y) = (text(&public.as_ref()[1..33]), text(&public.as_ref()[33..]));
    let mut header = json!({
        "alg": "ECDH-ES", "enc": "A256GCM", "cty": "JWT", "epk": {"kty": "EC", "crv": "P-256", "x": x, "y": y},
    });
    change(&mut header);
    let key = agree(&own, UnparsedPublicKey::new(&ECDH_P256, point), (), |shared| {
        let lengths: [&[u8]; 3] = [&[0, 0, 0, 7], &[0; 8], &[0, 0, 1, 0]];
        let info = [
            &[0, 0, 0, 1],
            shared,
            lengths[0],
            b"A256GCM",
            lengths[1],
            lengths[2],
        ];
        Ok(digest(&SHA256, &info.concat()))
    });
    let key = UnboundKey::new(&AES_256_GCM, key.expect("they agree").as_ref()).expect("32 bytes");
    let protected = text(header.to_string().as_bytes());
    let mut sealed = inner.as_bytes().to_vec();
    let tag = LessSafeKey::new(key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key([5; 12]),
            Aad::from(protected.as_bytes()),
            &mut sealed,
        )
        .expect("it seals");
    let parts = [&[5; 12][..], &sealed, tag.as_ref()].map(text);
    format!("{protected}..{}", parts.join("."))
}
