//! JSON Web Key sets (RFC 7517), and signatures checked with their keys (RFC 7515, 7518, 8037).
//!
//! A set is read tolerantly: a key of another type, for another use or with broken members is
//! skipped, since a provider may publish keys that are not for us. Symmetric keys are never used, a
//! key is never taken from a token's own header, and a key never verifies with an algorithm of
//! another family or one that its `alg` does not name. Curves, padding and hashes are not
//! implemented here: jsonwebtoken's aws-lc backend does it, without its process-global default.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::json;
use crate::error::Error;

/// The provider's signing keys; none by default, as of a provider that signs nothing.
#[derive(Default)]
pub struct JwkSet {
    keys: Vec<Jwk>,
}

/// One key that signatures can be checked with.
pub(crate) struct Jwk {
    kid: Option<String>,
    alg: Option<Algorithm>,
    kind: Kind,
    key: DecodingKey,
    /// Whose it is, where keys of several tenants are in one set; no specification has it.
    issuer: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl JwkSet {
    /// Reads a JWK set. A set without a usable key is no error: its tokens find no key.
    ///
    /// # Errors
    /// [`Error::Provider`] when the document is not an object with unique members and an array
    /// `keys`, or has more than 64 usable keys.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Provider(format!("the jwk set: {why}"));
        let document =
            json::object(body).ok_or_else(|| refuse("it is not a json object with unique members"))?;
        let Some(Value::Array(keys)) = document.get("keys") else {
            return Err(refuse("`keys` is not an array"));
        };
        let usable = keys.iter().filter_map(|key| Jwk::read(key.as_object()?));
        let keys: Vec<_> = usable.take(MAX_KEYS + 1).collect();
        if keys.len() > MAX_KEYS {
            return Err(refuse("`keys` has more than 64 usable keys"));
        }
        Ok(Self { keys })
    }

    /// Whether signatures of that algorithm are accepted at all (RFC 7518 §3.1).
    pub fn accepts(name: &str) -> bool {
        algorithm(name).is_some()
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that may have signed with `algorithm`.
    ///
    /// With a `kid` only keys of that name. Without one OIDC Core §10.1 allows a single key in the
    /// set; providers with one key per algorithm, and with an old and a new one, exist, so up to
    /// four that fit are tried. With more nobody could tell, and there is no candidate.
    pub(crate) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<&Jwk> {
        let fitting: Vec<_> = self
            .keys
            .iter()
            .filter(|key| key.fits(algorithm) && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid)))
            .take(MAX_CANDIDATES + 1)
            .collect();
        if fitting.len() > MAX_CANDIDATES {
            Vec::new()
        } else {
            fitting
        }
    }
}

impl Jwk {
    /// Reads one key; nothing if it is not for us or not sound.
    fn read(members: &Map<String, Value>) -> Option<Self> {
        // A private key that was published proves nothing about who signed.
        if members.contains_key("d") || members.contains_key("k") {
            return None;
        }
        if optional_text(members, "use")?.is_some_and(|usage| usage != "sig") {
            return None;
        }
        match members.get("key_ops") {
            None => {}
            Some(Value::Array(operations)) if operations.iter().any(|op| op == "verify") => {}
            Some(_) => return None,
        }
        let alg = match optional_text(members, "alg")? {
            None => None,
            Some(name) => Some(algorithm(name)?),
        };
        let (kind, key) = material(members)?;
        let key = Self {
            kid: optional_text(members, "kid")?.map(str::to_owned),
            alg,
            kind,
            key,
            issuer: optional_text(members, "issuer")?.map(str::to_owned),
        };
        key.alg.is_none_or(|alg| key.fits(alg)).then_some(key)
    }

    /// The issuer whose it is, if it says so.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        kind_of(algorithm) == Some(self.kind) && self.alg.is_none_or(|alg| alg == algorithm)
    }

    /// Whether `signature` over `message` was made with this key.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &Vec<u8>) -> bool {
        self.fits(algorithm)
            && (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &self.key)
                .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }
}

/// The algorithm of that name (RFC 7518 §3.1, RFC 8037, RFC 9864), if it is one of those with a
/// public key that are accepted. `none` and the HMAC family are not among them.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" | "Ed25519" => Algorithm::EdDSA,
        _ => return None,
    })
}

fn kind_of(algorithm: Algorithm) -> Option<Kind> {
    match algorithm {
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => Some(Kind::Rsa),
        Algorithm::ES256 => Some(Kind::P256),
        Algorithm::ES384 => Some(Kind::P384),
        Algorithm::EdDSA => Some(Kind::Ed25519),
        // HMAC, and whatever the library learns later.
        _ => None,
    }
}

fn material(members: &Map<String, Value>) -> Option<(Kind, DecodingKey)> {
    match (text(members, "kty")?, members.get("crv").and_then(Value::as_str)) {
        ("RSA", _) => {
            let (n, e) = (number(members, "n")?, number(members, "e")?);
            (sound_modulus(&n) && sound_exponent(&e))
                .then(|| (Kind::Rsa, DecodingKey::from_rsa_raw_components(&n, &e)))
        }
        ("EC", Some("P-256")) => Some((Kind::P256, point(members, 32)?)),
        ("EC", Some("P-384")) => Some((Kind::P384, point(members, 48)?)),
        ("OKP", Some("Ed25519")) => {
            let x = bytes(members, "x")?;
            (x.len() == 32).then(|| (Kind::Ed25519, DecodingKey::from_ed_der(&x)))
        }
        _ => None,
    }
}

/// An uncompressed point (SEC 1 §2.3.3); whether it is on the curve is checked when it is used.
fn point(members: &Map<String, Value>, length: usize) -> Option<DecodingKey> {
    let (x, y) = (bytes(members, "x")?, bytes(members, "y")?);
    (x.len() == length && y.len() == length)
        .then(|| DecodingKey::from_ec_der(&[&[UNCOMPRESSED][..], &x, &y].concat()))
}

/// 2048 to 8192 bits (RFC 7518 §3.3 sets the lower bound), odd.
fn sound_modulus(n: &[u8]) -> bool {
    let full_bits = n.len().saturating_mul(8);
    let unused = n.first().map_or(0, |first| first.leading_zeros());
    let bits = full_bits.saturating_sub(unused as usize);
    (2048..=8192).contains(&bits) && n.last().is_some_and(|last| last & 1 == 1)
}

/// Odd, at least 3, at most 32 bits.
fn sound_exponent(e: &[u8]) -> bool {
    (1..=4).contains(&e.len()) && e != [1] && e.last().is_some_and(|last| last & 1 == 1)
}

/// A `Base64urlUInt` (RFC 7518 §2); the leading zero bytes that some libraries write are dropped.
fn number(members: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    let mut number = bytes(members, name)?;
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    Some(number.split_off(zeros))
}

fn bytes(members: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text(members, name)?).ok()
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str()
}

/// The outer option fails on another type, the inner one says whether the member is there.
#[expect(
    clippy::option_option,
    reason = "a failed read and an absent member differ, and `?` fits"
)]
fn optional_text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<Option<&'a str>> {
    match members.get(name) {
        None => Some(None),
        Some(Value::String(text)) => Some(Some(text)),
        Some(_) => None,
    }
}

const UNCOMPRESSED: u8 = 4;

/// More usable keys than this are refused.
const MAX_KEYS: usize = 64;

/// More keys than this are never tried for one signature.
const MAX_CANDIDATES: usize = 4;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::testing::SigningKey;

    fn set(keys: &Value) -> Result<JwkSet, Error> {
        JwkSet::parse(&serde_json::to_vec(&json!({ "keys": keys })).unwrap())
    }

    fn usable(key: &Value) -> bool {
        !set(&json!([key])).unwrap().is_empty()
    }

    /// RFC 7515 appendix A.2.
    fn rsa() -> Value {
        json!({
            "kty": "RSA",
            "n": concat!(
                "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4Ql",
                "L-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUs",
                "LA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoud",
                "F8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
            ),
            "e": "AQAB",
        })
    }

    /// RFC 7515 appendix A.3.
    fn p256() -> Value {
        json!({
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        })
    }

    /// RFC 8037 appendix A.2.
    fn ed25519() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    #[test]
    fn the_specifications_examples_verify_and_changed_ones_do_not() {
        const PAYLOAD: &str = concat!(
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0",
            "cnVlfQ"
        );
        let cases = [
            (
                "RFC 7515 A.2",
                rsa(),
                Algorithm::RS256,
                format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}"),
                concat!(
                    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W",
                    "2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkS",
                    "jtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnv",
                    "Wh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
                ),
            ),
            (
                "RFC 7515 A.3",
                p256(),
                Algorithm::ES256,
                format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}"),
                "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            ),
            (
                "RFC 8037 A.4",
                ed25519(),
                Algorithm::EdDSA,
                "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
                "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            ),
        ];
        for (name, jwk, algorithm, message, signature) in cases {
            let keys = set(&json!([jwk])).unwrap();
            let candidates = keys.candidates(None, algorithm);
            let [key] = candidates[..] else {
                panic!("{name}: not one candidate")
            };
            let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(key.verifies(algorithm, message.as_bytes(), &signature), "{name}");
            assert!(!key.verifies(algorithm, b"another message", &signature), "{name}");
            signature[0] ^= 1;
            assert!(!key.verifies(algorithm, message.as_bytes(), &signature), "{name}");
            assert!(
                !key.verifies(algorithm, message.as_bytes(), &Vec::new()),
                "{name}"
            );
        }
    }

    #[test]
    fn keys_that_are_not_for_signatures_or_not_sound_are_skipped() {
        let modulus = |bytes: usize| {
            let mut n = vec![0xff; bytes];
            n[0] = 0x80;
            json!(URL_SAFE_NO_PAD.encode(n))
        };
        let cases = [
            ("RSA", rsa(), true),
            ("P-256", p256(), true),
            ("Ed25519", ed25519(), true),
            ("RSA for signatures", with(rsa(), "use", json!("sig")), true),
            ("RSA for encryption", with(rsa(), "use", json!("enc")), false),
            (
                "a use that is no string",
                with(rsa(), "use", json!(["sig"])),
                false,
            ),
            (
                "key_ops with verify",
                with(rsa(), "key_ops", json!(["verify"])),
                true,
            ),
            (
                "key_ops without verify",
                with(rsa(), "key_ops", json!(["encrypt", "wrapKey"])),
                false,
            ),
            (
                "key_ops of the wrong type",
                with(rsa(), "key_ops", json!("verify")),
                false,
            ),
            (
                "an algorithm of its family",
                with(rsa(), "alg", json!("PS384")),
                true,
            ),
            (
                "an algorithm of another family",
                with(rsa(), "alg", json!("ES256")),
                false,
            ),
            (
                "an encryption algorithm",
                with(rsa(), "alg", json!("RSA-OAEP")),
                false,
            ),
            (
                "a symmetric algorithm on an RSA key",
                with(rsa(), "alg", json!("HS256")),
                false,
            ),
            ("algorithm none", with(rsa(), "alg", json!("none")), false),
            ("ES384 on P-256", with(p256(), "alg", json!("ES384")), false),
            (
                "the fully specified name",
                with(ed25519(), "alg", json!("Ed25519")),
                true,
            ),
            ("a kid that is no string", with(rsa(), "kid", json!(7)), false),
            ("a published private key", with(p256(), "d", json!("AAAA")), false),
            ("a symmetric key", json!({"kty": "oct", "k": "c2VjcmV0"}), false),
            ("an unknown key type", with(rsa(), "kty", json!("LWE")), false),
            ("no key type", json!({"n": "AQAB", "e": "AQAB"}), false),
            ("1024 bits", with(rsa(), "n", modulus(128)), false),
            (
                "2047 bits",
                with(rsa(), "n", json!(URL_SAFE_NO_PAD.encode([0x7f; 256]))),
                false,
            ),
            ("2048 bits", with(rsa(), "n", modulus(256)), true),
            ("16384 bits", with(rsa(), "n", modulus(2048)), false),
            (
                "1024 bits behind zeros",
                with(
                    rsa(),
                    "n",
                    json!(URL_SAFE_NO_PAD.encode([[0; 128], [0xff; 128]].concat())),
                ),
                false,
            ),
            (
                "an even modulus",
                with(rsa(), "n", json!(URL_SAFE_NO_PAD.encode([0xfe; 256]))),
                false,
            ),
            ("exponent 1", with(rsa(), "e", json!("AQ")), false),
            ("exponent 0", with(rsa(), "e", json!("AA")), false),
            ("an even exponent", with(rsa(), "e", json!("Ag")), false),
            ("exponent 3", with(rsa(), "e", json!("Aw")), true),
            (
                "a modulus that is no base64url",
                with(rsa(), "n", json!("+/+/")),
                false,
            ),
            ("a missing exponent", with(rsa(), "e", Value::Null), false),
            ("a short coordinate", with(p256(), "x", json!("AQAB")), false),
            ("an unknown curve", with(p256(), "crv", json!("secp256k1")), false),
            ("P-521", with(p256(), "crv", json!("P-521")), false),
            ("Ed448", with(ed25519(), "crv", json!("Ed448")), false),
            ("X25519", with(ed25519(), "crv", json!("X25519")), false),
            ("not an object", json!("key"), false),
        ];
        for (name, key, good) in cases {
            assert_eq!(usable(&key), good, "{name}");
        }
    }

    #[test]
    fn leading_zeros_in_a_modulus_do_no_harm() {
        let n = URL_SAFE_NO_PAD.decode(rsa()["n"].as_str().unwrap()).unwrap();
        let padded = URL_SAFE_NO_PAD.encode([&[0, 0][..], &n].concat());
        assert!(usable(&with(rsa(), "n", json!(padded))));
    }

    #[test]
    fn broken_documents_are_refused_and_empty_sets_are_not() {
        for body in [
            &b""[..],
            b"[]",
            b"{}",
            b"null",
            br#"{"keys":{}}"#,
            br#"{"keys":[],"keys":[]}"#,
            b"<html>",
        ] {
            assert!(matches!(JwkSet::parse(body), Err(Error::Provider(_))));
        }
        assert!(JwkSet::parse(br#"{"keys":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn the_number_of_usable_keys_is_bounded() {
        let keys = |usable: usize, others: usize| {
            let mut keys = vec![p256(); usable];
            keys.extend(vec![json!({"kty": "oct", "k": "c2VjcmV0"}); others]);
            Value::Array(keys)
        };
        assert_eq!(set(&keys(64, 500)).unwrap().len(), 64);
        assert!(matches!(set(&keys(65, 0)), Err(Error::Provider(text)) if text.contains("64")));
    }

    #[test]
    fn candidates_follow_kid_and_algorithm() {
        let keys = set(&json!([
            with(with(rsa(), "kid", json!("r1")), "alg", json!("RS256")),
            with(rsa(), "kid", json!("r2")),
            with(p256(), "kid", json!("e1")),
            with(p256(), "kid", json!("twice")),
            with(rsa(), "kid", json!("twice")),
            ed25519(),
        ]))
        .unwrap();
        let cases = [
            ("by name", Some("r1"), Algorithm::RS256, 1),
            ("by name, not its alg", Some("r1"), Algorithm::PS256, 0),
            ("by name, any alg of the family", Some("r2"), Algorithm::PS512, 1),
            ("by name, another family", Some("e1"), Algorithm::RS256, 0),
            (
                "by a name that two types share",
                Some("twice"),
                Algorithm::ES256,
                1,
            ),
            ("an unknown name", Some("r3"), Algorithm::RS256, 0),
            ("an empty name", Some(""), Algorithm::EdDSA, 0),
            ("no name, one fits", None, Algorithm::EdDSA, 1),
            ("no name, two fit", None, Algorithm::ES256, 2),
            ("no name, three fit", None, Algorithm::RS256, 3),
            ("no name, none fits", None, Algorithm::ES384, 0),
            ("symmetric", None, Algorithm::HS256, 0),
        ];
        for (name, kid, algorithm, count) in cases {
            assert_eq!(keys.candidates(kid, algorithm).len(), count, "{name}");
        }
    }

    #[test]
    fn without_kid_at_most_four_keys_are_tried() {
        assert_eq!(
            set(&json!(vec![p256(); 4]))
                .unwrap()
                .candidates(None, Algorithm::ES256)
                .len(),
            4
        );
        assert_eq!(
            set(&json!(vec![p256(); 5]))
                .unwrap()
                .candidates(None, Algorithm::ES256)
                .len(),
            0
        );
    }

    #[test]
    fn a_key_never_verifies_with_another_algorithm() {
        let key = SigningKey::generate("PS256", None);
        let signature = key.sign_bytes(b"message");
        let keys = set(&json!([with(key.jwk(), "alg", Value::Null)]));
        assert!(keys.unwrap().is_empty(), "a null alg is no alg");
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        let keys = set(&json!([jwk])).unwrap();
        let key = keys.candidates(None, Algorithm::PS256)[0];
        assert!(key.verifies(Algorithm::PS256, b"message", &signature));
        assert!(!key.verifies(Algorithm::RS256, b"message", &signature));
        assert!(!key.verifies(Algorithm::HS256, b"message", &signature));
        assert!(!key.verifies(Algorithm::ES256, b"message", &signature));
    }
}
