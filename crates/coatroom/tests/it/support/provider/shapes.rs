//! Encrypted ID tokens (RFC 7516) and userinfo (OpenID Connect Core §5.3) of the scripted provider.
//!
//! It shares no code with what opens them.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Nonces, Shared, dpop, overlay};

/// Tokens of other shapes, as the test wants them.
pub(crate) struct Shapes {
    /// Encrypts ID tokens and logout tokens to this public point; with these members of the header.
    pub(crate) encrypt_to: Option<(Vec<u8>, Value)>,
    /// What userinfo answers.
    pub(crate) userinfo: Userinfo,
    /// How often it was asked.
    pub(crate) asked: usize,
    /// The nonces that it wants in proofs.
    pub(crate) nonces: Nonces,
}

/// What userinfo answers.
pub(crate) enum Userinfo {
    /// These claims, as JSON.
    Json(Value),
    /// The same as a JWT of this type, with `iss` and `aud` unless they are changed.
    Signed(&'static str, Value),
    /// This status with this body of a type.
    Answer(u16, &'static str, String),
}

impl Default for Shapes {
    fn default() -> Self {
        Self {
            encrypt_to: None,
            userinfo: Userinfo::Answer(404, "text/plain", String::new()),
            asked: 0,
            nonces: Nonces::of("userinfo"),
        }
    }
}

/// A new key of the client: its private half in PEM, its public half as a point.
pub(crate) fn client_key() -> (String, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let der = pair.to_pkcs8v1().expect("PKCS#8");
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    (pem, pair.public_key().as_ref().to_vec())
}

/// A JWE in compact form: ECDH-ES and A256GCM, whatever `members` make of the header.
pub(crate) fn encrypt(point: &[u8], members: &Value, inner: &str) -> String {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let own = PrivateKey::generate(&ECDH_P256).expect("a key");
    let public = own.compute_public_key().expect("its public half");
    let (x, y) = (text(&public.as_ref()[1..33]), text(&public.as_ref()[33..]));
    let mut header = json!({
        "alg": "ECDH-ES", "enc": "A256GCM", "cty": "JWT", "epk": {"kty": "EC", "crv": "P-256", "x": x, "y": y},
    });
    overlay(&mut header, members);
    let peer = UnparsedPublicKey::new(&ECDH_P256, point);
    let key = agree(&own, peer, (), |shared| {
        let info = [
            &[0, 0, 0, 1],
            shared,
            &[0, 0, 0, 7],
            b"A256GCM",
            &[0; 8],
            &[0, 0, 1, 0],
        ];
        Ok(digest(&SHA256, &info.concat()))
    })
    .expect("they agree");
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("32 bytes"));
    let protected = text(header.to_string().as_bytes());
    let mut sealed = inner.as_bytes().to_vec();
    let nonce = Nonce::assume_unique_for_key([9; 12]);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(protected.as_bytes()), &mut sealed);
    let tag = tag.expect("it seals");
    format!(
        "{protected}..{}.{}.{}",
        text(&[9; 12]),
        text(&sealed),
        text(tag.as_ref())
    )
}

impl Shapes {
    /// What becomes of a signed token.
    pub(super) fn shaped(&self, signed: String) -> String {
        match &self.encrypt_to {
            Some((point, members)) => encrypt(point, members, &signed),
            None => signed,
        }
    }
}

pub(super) async fn userinfo(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let mut script = shared.state.lock().expect("no test panicked here");
    script.shapes.asked += 1;
    let credentials = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (scheme, token) = credentials.split_once(' ').unwrap_or_default();
    if !script.issued.iter().any(|issued| issued == token) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if let Some(jkt) = script.keys.get(token).cloned() {
        let refused = |nonce: String| (StatusCode::UNAUTHORIZED, [("dpop-nonce", nonce)]).into_response();
        let Some(proof) = dpop::proof(&headers).filter(|_| scheme == "DPoP") else {
            return StatusCode::UNAUTHORIZED.into_response();
        };
        assert_eq!(proof.jkt, jkt);
        assert_eq!(proof.claims["htm"], "GET");
        assert_eq!(proof.claims["htu"], format!("{}/userinfo", script.issuer));
        assert_eq!(
            proof.claims["ath"],
            URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
        );
        if !script.shapes.nonces.takes(&proof) {
            return refused(script.shapes.nonces.current());
        }
    } else {
        assert_eq!(scheme, "Bearer");
    }
    let (status, content_type, body) = match &script.shapes.userinfo {
        Userinfo::Json(claims) => (200, "application/json; charset=utf-8", claims.to_string()),
        Userinfo::Signed(typ, changes) => {
            let mut claims = json!({"iss": script.issuer, "aud": "shop"});
            overlay(&mut claims, changes);
            (200, "application/jwt", script.sign(&shared, typ, &claims))
        }
        Userinfo::Answer(status, content_type, body) => (*status, *content_type, body.clone()),
    };
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", content_type)], body).into_response()
}
