//! Encrypted JWTs (RFC 7516, compact): what is inside comes out, or one error that says nothing more.
//!
//! RSA-OAEP-256 and ECDH-ES in its direct form (RFC 7518 §4.3, §4.6), with A128GCM and A256GCM (§5.3);
//! there is neither RSA-OAEP with SHA-1, nor RSA1_5, nor CBC. `zip` is refused, since what is small here
//! may be large there, and so is `crit`. What is inside is a JWS in compact form, which is as unproven as
//! before: encrypting needs no secret, and whoever calls this verifies the signature. Why something does
//! not open is never said, so that nobody learns about a key by asking.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, UnparsedPublicKey};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::id_token::IdTokenFailure;
use super::json;
use super::jws::{SigningKey, SigningKeyError};
use crate::secret::Secret;

/// A private key that something may be encrypted to. No `Debug`.
#[derive(Clone)]
pub struct DecryptionKey {
    key: Arc<PrivateKey>,
    /// Its thumbprint (RFC 7638): its id, where the provider has it from `coatroom keygen`.
    kid: String,
}

enum PrivateKey {
    Rsa(Box<OaepPrivateDecryptingKey>),
    P256(agreement::PrivateKey),
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptionKeyError {
    /// It is no private key in PEM that is understood.
    #[error("it is not a private key in PEM (PKCS#8): RSA or P-256")]
    NotAKey,
    /// RSA with fewer than 2048 bits.
    #[error("an RSA key needs 2048 bits at least")]
    TooShort,
}

impl DecryptionKey {
    /// Reads a private key in PEM (PKCS#8): RSA with 2048 bits and more, or P-256.
    ///
    /// # Errors
    /// [`DecryptionKeyError`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, DecryptionKeyError> {
        let signs = SigningKey::from_pem(pem, None, None).map_err(|error| match error {
            SigningKeyError::TooShort => DecryptionKeyError::TooShort,
            SigningKeyError::NotAKey | SigningKeyError::AnotherAlgorithm => DecryptionKeyError::NotAKey,
        })?;
        let der = pkcs8(pem).ok_or(DecryptionKeyError::NotAKey)?;
        let key = match signs.alg() {
            "ES256" => agreement::PrivateKey::from_private_key_der(&ECDH_P256, &der)
                .ok()
                .map(PrivateKey::P256),
            "PS256" => PrivateDecryptingKey::from_pkcs8(&der)
                .ok()
                .and_then(|key| OaepPrivateDecryptingKey::new(key).ok())
                .map(|key| PrivateKey::Rsa(Box::new(key))),
            _ => None,
        };
        Ok(Self {
            key: Arc::new(key.ok_or(DecryptionKeyError::NotAKey)?),
            kid: signs.thumbprint(),
        })
    }
}

/// What an ID token says that may be encrypted: the JWS inside. Without keys it is the token itself; with
/// keys one that is not encrypted is refused, or whoever can make the provider leave the encryption out
/// would have won by that.
///
/// # Errors
/// [`IdTokenFailure::Invalid`].
pub(crate) fn id_token(raw: Secret, keys: &[DecryptionKey]) -> Result<Secret, IdTokenFailure> {
    match (keys, is_encrypted(&raw)) {
        ([], false) => Ok(raw),
        ([], true) => Err(IdTokenFailure::Invalid(NO_KEYS)),
        (_, false) => Err(IdTokenFailure::Invalid(
            "it is not encrypted, although there are `id_token_decryption_keys`",
        )),
        (keys, true) => open(&raw, keys).ok_or(IdTokenFailure::Invalid(DOES_NOT_OPEN)),
    }
}

/// The same for a token that may be encrypted and need not (OpenID Connect Back-Channel Logout §2.4).
///
/// # Errors
/// [`IdTokenFailure::Invalid`].
pub(crate) fn perhaps(raw: Secret, keys: &[DecryptionKey]) -> Result<Secret, IdTokenFailure> {
    match is_encrypted(&raw) {
        true => id_token(raw, keys),
        false => Ok(raw),
    }
}

fn is_encrypted(raw: &Secret) -> bool {
    raw.expose().bytes().filter(|byte| *byte == b'.').take(5).count() == 4
}

/// Opens a JWE in compact form (RFC 7516 §5.2) that holds a JWS in compact form.
fn open(raw: &Secret, keys: &[DecryptionKey]) -> Option<Secret> {
    if raw.len() > MAX_TOKEN {
        return None;
    }
    let segments: Vec<&str> = raw.expose().splitn(6, '.').collect();
    let [protected, encrypted_key, iv, ciphertext, tag] = segments[..] else {
        return None;
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let header = json::object(&decode(protected)?)?;
    if header.contains_key("crit") || header.contains_key("zip") || !says_jwt(&header) {
        return None;
    }
    let sealed = Sealed {
        protected: protected.as_bytes(),
        encryption: Encryption::named(header.get("enc")?.as_str()?)?,
        iv: decode(iv)?.try_into().ok()?,
        ciphertext: decode(ciphertext)?,
        tag: decode(tag)?.try_into().ok()?,
    };
    let encrypted_key = decode(encrypted_key)?;
    let alg = header.get("alg")?.as_str()?;
    let kid = match header.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str()?),
    };
    // a `kid` of the provider's own making names none of ours, and then each may be the one
    let named = |key: &&DecryptionKey| Some(key.kid.as_str()) == kid;
    let others = keys.iter().filter(|key| !named(key));
    keys.iter()
        .filter(named)
        .chain(others)
        .take(MAX_KEYS)
        .find_map(|key| {
            let content_key = key.content_key(alg, &header, &encrypted_key, sealed.encryption)?;
            sealed.open(&content_key)
        })
}

/// RFC 7519 §5.2: what is inside is a JWT, where it is said at all.
fn says_jwt(header: &Map<String, Value>) -> bool {
    match header.get("cty") {
        None => true,
        Some(Value::String(cty)) => cty.eq_ignore_ascii_case("JWT"),
        Some(_) => false,
    }
}

/// The parts of a JWE, decoded.
struct Sealed<'a> {
    protected: &'a [u8],
    encryption: Encryption,
    iv: [u8; 12],
    ciphertext: Vec<u8>,
    tag: [u8; 16],
}

impl Sealed<'_> {
    fn open(&self, content_key: &[u8]) -> Option<Secret> {
        let key = UnboundKey::new(self.encryption.algorithm(), content_key).ok()?;
        let mut buffer = Zeroizing::new([self.ciphertext.as_slice(), &self.tag].concat());
        let nonce = Nonce::assume_unique_for_key(self.iv);
        let plaintext = LessSafeKey::new(key)
            .open_in_place(nonce, Aad::from(self.protected), &mut buffer)
            .ok()?;
        let text = str::from_utf8(plaintext).ok()?;
        // a JWS, never a second envelope
        let is_jws = text.bytes().filter(|byte| *byte == b'.').take(3).count() == 2;
        is_jws.then(|| Secret::new(text))
    }
}

/// Content encryption (RFC 7518 §5.3).
#[derive(Clone, Copy)]
enum Encryption {
    A128Gcm,
    A256Gcm,
}

impl Encryption {
    fn named(enc: &str) -> Option<Self> {
        match enc {
            "A128GCM" => Some(Self::A128Gcm),
            "A256GCM" => Some(Self::A256Gcm),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::A128Gcm => "A128GCM",
            Self::A256Gcm => "A256GCM",
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::A128Gcm => &AES_128_GCM,
            Self::A256Gcm => &AES_256_GCM,
        }
    }
}

impl DecryptionKey {
    /// The key of the content, if this key and `alg` lead to it.
    fn content_key(
        &self,
        alg: &str,
        header: &Map<String, Value>,
        encrypted_key: &[u8],
        encryption: Encryption,
    ) -> Option<Zeroizing<Vec<u8>>> {
        match (alg, self.key.as_ref()) {
            ("RSA-OAEP-256", PrivateKey::Rsa(key)) => {
                let mut out = Zeroizing::new(vec![0; key.min_output_size()]);
                let found = key.decrypt(&OAEP_SHA256_MGF1SHA256, encrypted_key, &mut out, None);
                found.ok().map(|found| Zeroizing::new(found.to_vec()))
            }
            ("ECDH-ES", PrivateKey::P256(key)) if encrypted_key.is_empty() => {
                let point = ephemeral(header)?;
                let party = |name: &str| match header.get(name) {
                    None => Some(Vec::new()),
                    Some(info) => URL_SAFE_NO_PAD.decode(info.as_str()?).ok(),
                };
                let (apu, apv) = (party("apu")?, party("apv")?);
                let peer = UnparsedPublicKey::new(&ECDH_P256, point);
                agreement::agree(key, peer, (), |shared| {
                    Ok(concat_kdf(shared, encryption, &apu, &apv))
                })
                .ok()
                .flatten()
            }
            _ => None,
        }
    }
}

/// The sender's public key (RFC 7518 §4.6.1.1) as an uncompressed point; whether it is on the curve is
/// checked where it is used.
fn ephemeral(header: &Map<String, Value>) -> Option<Vec<u8>> {
    let epk = header.get("epk")?.as_object()?;
    let is = |name: &str, wanted: &str| epk.get(name).and_then(Value::as_str) == Some(wanted);
    if !is("kty", "EC") || !is("crv", "P-256") || epk.contains_key("d") {
        return None;
    }
    let coordinate = |name: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(epk.get(name)?.as_str()?).ok()?;
        (bytes.len() == 32).then_some(bytes)
    };
    Some([vec![4], coordinate("x")?, coordinate("y")?].concat())
}

/// The Concat KDF (RFC 7518 §4.6.2, NIST SP 800-56A §5.8.1): one round of SHA-256 is enough for either
/// length.
fn concat_kdf(shared: &[u8], encryption: Encryption, apu: &[u8], apv: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let length = encryption.algorithm().key_len();
    let bits = u32::try_from(length.checked_mul(8)?).ok()?;
    let mut digest = Digest::new(&SHA256);
    digest.update(&1_u32.to_be_bytes());
    digest.update(shared);
    for part in [encryption.name().as_bytes(), apu, apv] {
        digest.update(&u32::try_from(part.len()).ok()?.to_be_bytes());
        digest.update(part);
    }
    digest.update(&bits.to_be_bytes());
    let derived = digest.finish();
    derived
        .as_ref()
        .get(..length)
        .map(|key| Zeroizing::new(key.to_vec()))
}

/// The bytes of the one key in a PEM file (RFC 7468 §10).
fn pkcs8(pem: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

/// What is said of an encrypted token where no key is configured.
pub(super) const NO_KEYS: &str = "it is encrypted, and there are no `id_token_decryption_keys`";

const DOES_NOT_OPEN: &str = "it does not open: it is encrypted to another key than `id_token_decryption_keys`, \
     in another way than RSA-OAEP-256 or ECDH-ES with A128GCM or A256GCM, or it is damaged";

/// The longest token that is opened, in bytes.
const MAX_TOKEN: usize = 64 * 1024;

/// How many keys are tried, and how many may be configured: an old one and a new one of each kind.
pub(crate) const MAX_KEYS: usize = 4;

#[cfg(test)]
mod tests {
    use aws_lc_rs::agreement::PrivateKey as Ecdh;
    use aws_lc_rs::rsa::OaepPublicEncryptingKey;
    use serde_json::json;

    use super::*;
    use crate::oauth::testing::private_key_pem;

    const INNER: &str = "aGVhZGVy.Y2xhaW1z.c2lnbmF0dXJl";

    fn key(alg: &str) -> DecryptionKey {
        DecryptionKey::from_pem(private_key_pem(alg).as_bytes())
            .unwrap_or_else(|error| panic!("{alg}: {error}"))
    }

    /// Encrypts with ECDH-ES, whatever the header says; what `change` leaves there is what is protected.
    fn encrypt(to: &DecryptionKey, plaintext: &str, change: impl FnOnce(&mut Value)) -> Secret {
        let PrivateKey::P256(to) = to.key.as_ref() else {
            panic!("an EC key")
        };
        let own = Ecdh::generate(&ECDH_P256).unwrap();
        let point = own.compute_public_key().unwrap();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (text(&point.as_ref()[1..33]), text(&point.as_ref()[33..]));
        let mut header = json!({
            "alg": "ECDH-ES", "enc": "A256GCM", "epk": {"kty": "EC", "crv": "P-256", "x": x, "y": y},
        });
        change(&mut header);
        let encryption =
            Encryption::named(header["enc"].as_str().unwrap_or_default()).unwrap_or(Encryption::A256Gcm);
        let public = to.compute_public_key().unwrap();
        let peer = UnparsedPublicKey::new(&ECDH_P256, public.as_ref());
        let key = agreement::agree(&own, peer, (), |shared| {
            Ok(concat_kdf(shared, encryption, b"", b""))
        });
        let key = UnboundKey::new(encryption.algorithm(), &key.unwrap().unwrap()).unwrap();
        let protected = text(header.to_string().as_bytes());
        let mut buffer = plaintext.as_bytes().to_vec();
        let nonce = Nonce::assume_unique_for_key([7; 12]);
        let tag = LessSafeKey::new(key)
            .seal_in_place_separate_tag(nonce, Aad::from(protected.as_bytes()), &mut buffer)
            .unwrap();
        Secret::new(format!(
            "{protected}..{}.{}.{}",
            text(&[7; 12]),
            text(&buffer),
            text(tag.as_ref())
        ))
    }

    fn opens(raw: &Secret, keys: &[DecryptionKey]) -> bool {
        match id_token(raw.clone(), keys) {
            Ok(inner) => inner.expose() == INNER,
            Err(failure) => {
                assert_eq!(failure, IdTokenFailure::Invalid(DOES_NOT_OPEN));
                false
            }
        }
    }

    #[test]
    fn the_key_of_rfc_7518_appendix_c_comes_out() {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let d = decode("VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw");
        let bob = DecryptionKey {
            key: Arc::new(PrivateKey::P256(Ecdh::from_private_key(&ECDH_P256, &d).unwrap())),
            kid: String::new(),
        };
        let header = json!({
            "alg": "ECDH-ES", "enc": "A128GCM", "apu": "QWxpY2U", "apv": "Qm9i",
            "epk": {
                "kty": "EC", "crv": "P-256",
                "x": "gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
                "y": "SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps",
            },
        });
        let header = header.as_object().unwrap();
        let found = bob
            .content_key("ECDH-ES", header, b"", Encryption::A128Gcm)
            .unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(&*found), "VqqN6vgjbSBcIijNcacQGg");
    }

    #[test]
    fn what_another_implementation_encrypted_opens_in_the_ways_that_are_ours() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/jwe.json")).unwrap();
        let keys: Vec<DecryptionKey> = ["rsa", "p256"]
            .iter()
            .map(|name| DecryptionKey::from_pem(vectors["keys"][name].as_str().unwrap().as_bytes()).unwrap())
            .collect();
        for vector in vectors["tokens"].as_array().unwrap() {
            let name = format!("{} {} {}", vector["alg"], vector["enc"], vector["party"]);
            let raw = Secret::new(vector["token"].as_str().unwrap());
            assert_eq!(opens(&raw, &keys), vector["opens"].as_bool().unwrap(), "{name}");
            // every part of it counts
            let parts: Vec<&str> = raw.expose().split('.').collect();
            for index in 0..parts.len() {
                let mut spoiled: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
                let first = if spoiled[index].starts_with('A') { "B" } else { "A" };
                let rest = spoiled[index].get(1..).unwrap_or("AAA").to_owned();
                spoiled[index] = [first, &rest].concat();
                assert!(
                    !opens(&Secret::new(spoiled.join(".")), &keys),
                    "{name}: part {index}"
                );
            }
        }
    }

    #[test]
    fn a_header_that_is_not_understood_opens_nothing() {
        let to = key("ES256");
        let keys = [to.clone()];
        type Change = fn(&mut Value);
        let cases: [(&str, Change, bool); 21] = [
            ("nothing", |_| {}, true),
            ("cty", |header| header["cty"] = json!("jwt"), true),
            ("another kid", |header| header["kid"] = json!("their-name"), true),
            ("A128GCM", |header| header["enc"] = json!("A128GCM"), true),
            ("zip", |header| header["zip"] = json!("DEF"), false),
            ("zip of null", |header| header["zip"] = Value::Null, false),
            ("crit", |header| header["crit"] = json!(["exp"]), false),
            ("no crit in it", |header| header["crit"] = json!([]), false),
            (
                "another cty",
                |header| header["cty"] = json!("octet-stream"),
                false,
            ),
            (
                "a cty that is no text",
                |header| header["cty"] = json!(["JWT"]),
                false,
            ),
            ("CBC", |header| header["enc"] = json!("A128CBC-HS256"), false),
            (
                "no enc",
                |header| drop(header.as_object_mut().unwrap().remove("enc")),
                false,
            ),
            (
                "no alg",
                |header| drop(header.as_object_mut().unwrap().remove("alg")),
                false,
            ),
            ("dir", |header| header["alg"] = json!("dir"), false),
            (
                "the other kind of key",
                |header| header["alg"] = json!("RSA-OAEP-256"),
                false,
            ),
            ("a kid that is no text", |header| header["kid"] = json!(7), false),
            (
                "another curve",
                |header| header["epk"]["crv"] = json!("P-384"),
                false,
            ),
            (
                "another kind of key in it",
                |header| header["epk"]["kty"] = json!("OKP"),
                false,
            ),
            (
                "a private key in it",
                |header| header["epk"]["d"] = json!("AAAA"),
                false,
            ),
            (
                "coordinates cut elsewhere",
                |header| {
                    let part = |name: &str| {
                        URL_SAFE_NO_PAD
                            .decode(header["epk"][name].as_str().unwrap())
                            .unwrap()
                    };
                    let (x, y) = (part("x"), part("y"));
                    header["epk"]["x"] = json!(URL_SAFE_NO_PAD.encode(&x[..31]));
                    header["epk"]["y"] = json!(URL_SAFE_NO_PAD.encode([&x[31..], &y].concat()));
                },
                false,
            ),
            // an invalid curve would give away the key, bit by bit
            (
                "a point beside the curve",
                |header| header["epk"]["y"] = header["epk"]["x"].clone(),
                false,
            ),
        ];
        for (name, change, good) in cases {
            assert_eq!(opens(&encrypt(&to, INNER, change), &keys), good, "{name}");
        }
    }

    #[test]
    fn an_rsa_key_opens_what_says_the_one_way_that_is_ours() {
        let pem = private_key_pem("PS256");
        let keys = [DecryptionKey::from_pem(pem.as_bytes()).unwrap()];
        let private = PrivateDecryptingKey::from_pkcs8(&pkcs8(pem.as_bytes()).unwrap()).unwrap();
        let public = OaepPublicEncryptingKey::new(private.public_key()).unwrap();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        for (alg, enc, length, good) in [
            ("RSA-OAEP-256", "A256GCM", 32, true),
            ("RSA-OAEP-256", "A128GCM", 16, true),
            ("RSA-OAEP-256", "A256GCM", 16, false),
            ("RSA-OAEP-256", "A128GCM", 32, false),
            // encrypted as above, whatever it says
            ("RSA-OAEP", "A256GCM", 32, false),
            ("RSA-OAEP-512", "A256GCM", 32, false),
            ("RSA1_5", "A256GCM", 32, false),
            ("rsa-oaep-256", "A256GCM", 32, false),
            ("ECDH-ES", "A256GCM", 32, false),
            ("dir", "A256GCM", 32, false),
            ("PBES2-HS256+A128KW", "A256GCM", 32, false),
        ] {
            let content_key = vec![5; length];
            let mut encrypted_key = vec![0; public.ciphertext_size()];
            let encrypted_key = public
                .encrypt(&OAEP_SHA256_MGF1SHA256, &content_key, &mut encrypted_key, None)
                .unwrap();
            let header = json!({"alg": alg, "enc": enc, "p2c": 2_000_000_000_u32, "p2s": "AAAA"});
            let protected = text(header.to_string().as_bytes());
            let algorithm = if length == 16 { &AES_128_GCM } else { &AES_256_GCM };
            let mut buffer = INNER.as_bytes().to_vec();
            let tag = LessSafeKey::new(UnboundKey::new(algorithm, &content_key).unwrap())
                .seal_in_place_separate_tag(
                    Nonce::assume_unique_for_key([7; 12]),
                    Aad::from(protected.as_bytes()),
                    &mut buffer,
                )
                .unwrap();
            let raw = Secret::new(format!(
                "{protected}.{}.{}.{}.{}",
                text(encrypted_key),
                text(&[7; 12]),
                text(&buffer),
                text(tag.as_ref())
            ));
            assert_eq!(opens(&raw, &keys), good, "{alg} {enc} {length}");
        }
    }

    #[test]
    fn only_a_signed_token_comes_out_and_only_of_ours() {
        let (to, other) = (key("ES256"), key("ES256"));
        let sealed = encrypt(&to, INNER, |_| {});
        assert!(
            opens(&sealed, &[other.clone(), to.clone()]),
            "an old key beside a new one"
        );
        assert!(!opens(&sealed, std::slice::from_ref(&other)), "another's key");
        let many = [&other, &other, &other, &other, &to].map(Clone::clone);
        assert!(!opens(&sealed, &many), "no more than four are tried");
        let named = encrypt(&to, INNER, |header| header["kid"] = json!(to.kid));
        assert!(opens(&named, &many), "the one that is named comes first");
        let twice = encrypt(&to, sealed.expose(), |_| {});
        for (name, inner) in [
            ("claims alone", r#"{"sub":"ann"}"#),
            ("two parts", "a.b"),
            ("an envelope", twice.expose()),
        ] {
            let raw = encrypt(&to, inner, |_| {});
            assert!(id_token(raw, std::slice::from_ref(&to)).is_err(), "{name}");
        }
        let long = |length: usize| encrypt(&to, &format!("a.b.{}", "c".repeat(length)), |_| {});
        let about = (65_536 - long(0).len()) / 4 * 3;
        let mut lengths = Vec::new();
        for raw in (about - 6..about + 6).map(long) {
            let opened = id_token(raw.clone(), std::slice::from_ref(&to)).is_ok();
            assert_eq!(opened, raw.len() <= 65_536, "{} bytes", raw.len());
            lengths.push(raw.len());
        }
        assert!(
            lengths.contains(&65_536) && lengths.iter().any(|length| *length > 65_536),
            "{lengths:?}"
        );
    }

    #[test]
    fn with_keys_an_id_token_has_to_be_encrypted_and_without_it_must_not_be() {
        let to = key("ES256");
        let (signed, sealed) = (Secret::new(INNER), encrypt(&to, INNER, |_| {}));
        let keys = &[to.clone()][..];
        for (name, raw, keys, id, perhaps_so) in [
            ("signed", &signed, &[][..], true, true),
            ("encrypted, no keys", &sealed, &[], false, false),
            ("encrypted", &sealed, keys, true, true),
            ("signed, with keys", &signed, keys, false, true),
        ] {
            assert_eq!(id_token(raw.clone(), keys).is_ok(), id, "{name}");
            assert_eq!(perhaps(raw.clone(), keys).is_ok(), perhaps_so, "{name}");
        }
    }

    #[test]
    fn keys_are_rsa_or_p256_in_pkcs8() {
        for (alg, good) in [
            ("ES256", true),
            ("PS256", true),
            ("ES384", false),
            ("EdDSA", false),
        ] {
            let outcome = DecryptionKey::from_pem(private_key_pem(alg).as_bytes());
            assert_eq!(outcome.is_ok(), good, "{alg}");
        }
        for text in [
            "",
            "hush",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let outcome = DecryptionKey::from_pem(text.as_bytes());
            assert!(matches!(outcome, Err(DecryptionKeyError::NotAKey)), "{text}");
        }
    }
}
