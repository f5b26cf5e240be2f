//! Who signed the ID token, and how (RFC 7515, RFC 7518, RFC 8725).

use serde_json::json;

use crate::jwt::{Jwt, Signer};
use crate::mode::{ACCEPTED, Mode, Place, Wanted, mode, unusable};
use crate::twist::{Facts, Twist};

const fn token(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Jwt),
) -> Mode {
    mode(Place::IdToken, id, wrong, source, wanted, Twist::IdToken(change))
}

/// Unsigned, under this name.
fn unsigned(token: &mut Jwt, alg: &str) {
    token.header["alg"] = json!(alg);
    token.signer = Signer::Bytes(Vec::new());
}

/// Signed with what an attacker takes for the key.
fn hmac(token: &mut Jwt, key: &[u8]) {
    token.header["alg"] = json!("HS256");
    token.signer = Signer::Hmac(key.to_vec());
}

/// Signed by somebody else, who shows his key in the header.
fn rogue(token: &mut Jwt, kid: &str) {
    token.header["kid"] = json!(kid);
    token.signer = Signer::Rogue;
}

const ALG: Wanted = unusable("id token: `alg` is none, symmetric or unknown");
const NO_KEY: Wanted = unusable("id token: no key of the provider's jwk set fits its `kid`");
const WRONG: Wanted = unusable("id token: its signature is wrong");
const NONE: &str = "RFC 8725 §3.2; oidcc-client-test-idtoken-sig-none";
const OWN_KEY: &str = "RFC 8725 §3.10";

pub(super) const MODES: &[Mode] = &[
    token(
        "id-token-signature-changed",
        "one bit of the signature is another",
        "oidcc-client-test-invalid-sig-es256",
        WRONG,
        |_, token| {
            token.finish = Some(|_, compact| {
                let (message, signature) = compact.rsplit_once('.').expect("three parts");
                let first = if signature.starts_with('A') { "B" } else { "A" };
                format!("{message}.{first}{}", &signature[1..])
            });
        },
    ),
    token(
        "id-token-signature-missing",
        "the signature is empty",
        "RFC 7515 §5.2",
        WRONG,
        |_, token| {
            token.signer = Signer::Bytes(Vec::new());
        },
    ),
    token(
        "id-token-signature-of-another-token",
        "the claims were changed after signing",
        "RFC 7515 §5.2",
        WRONG,
        |_, token| {
            token.finish = Some(|facts, compact| {
                let mut other = Jwt::new("JWT", json!({"sub": facts.canary}));
                other.signer = Signer::Bytes(Vec::new());
                let other = other.compact(facts);
                let payload = other.split('.').nth(1).expect("three parts");
                let parts: Vec<&str> = compact.split('.').collect();
                [parts[0], payload, parts[2]].join(".")
            });
        },
    ),
    token(
        "id-token-signature-zeros",
        "the signature is two zeros, which some libraries took",
        "CVE-2022-21449",
        WRONG,
        |_, token| {
            token.signer = Signer::Bytes(vec![0; 64]);
        },
    ),
    token(
        "id-token-signature-der",
        "the signature is in the form of X.509",
        "RFC 7518 §3.4",
        WRONG,
        |_, token| {
            token.signer = Signer::OursInDer;
        },
    ),
    token(
        "id-token-signature-other-spelling",
        "the same signature, and unused bits of its text are set",
        "RFC 4648 §3.5",
        unusable("id token: its signature is not base64url"),
        |_, token| {
            token.finish = Some(|_, compact| {
                const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
                let (rest, last) = compact.split_at(compact.len() - 1);
                let value = ALPHABET.find(last).expect("base64url") + 1;
                format!("{rest}{}", &ALPHABET[value..=value])
            });
        },
    ),
    token(
        "id-token-rogue-key",
        "another's key under the name of ours",
        "RFC 8725 §3.10",
        WRONG,
        |_, token| {
            token.signer = Signer::Rogue;
        },
    ),
    token(
        "id-token-kid-unknown",
        "another's key under a name that nobody knows",
        "OIDC Core §10.1",
        NO_KEY,
        |facts, token| {
            rogue(token, &facts.canary);
        },
    ),
    token(
        "id-token-kid-missing",
        "another's key without a name",
        "OIDC Core §10.1",
        NO_KEY,
        |_, token| {
            token.without_header("kid");
            token.signer = Signer::Rogue;
        },
    ),
    token(
        "id-token-kid-path",
        "`kid` is a path with an empty file at its end",
        "RFC 8725 §3.10",
        NO_KEY,
        |_, token| {
            token.header["kid"] = json!("../../../../dev/null");
        },
    ),
    token(
        "id-token-kid-query",
        "`kid` is a piece of SQL",
        "RFC 8725 §3.10",
        NO_KEY,
        |facts, token| {
            token.header["kid"] = json!(format!("x' UNION SELECT '{}'; --", facts.canary));
        },
    ),
    token(
        "id-token-kid-number",
        "`kid` is a number",
        "RFC 7515 §4.1.4",
        unusable("id token: `kid` is not a string"),
        |_, token| {
            token.header["kid"] = json!(Facts::NUMBER);
        },
    ),
    token(
        "id-token-kid-null",
        "`kid` is null",
        "RFC 7515 §4.1.4",
        unusable("id token: `kid` is not a string"),
        |_, token| {
            token.header["kid"] = json!(null);
        },
    ),
    token(
        "id-token-jwk",
        "the key that signed stands in the header",
        OWN_KEY,
        NO_KEY,
        |facts, token| {
            rogue(token, &facts.canary);
            token.header["jwk"] = facts.keys.rogue_jwk();
        },
    ),
    token(
        "id-token-jku",
        "the header names another host's keys",
        OWN_KEY,
        NO_KEY,
        |facts, token| {
            rogue(token, &facts.canary);
            token.header["jku"] = json!(format!("{}/{}", facts.trap, facts.canary));
        },
    ),
    token(
        "id-token-x5u",
        "the header names another host's certificate",
        OWN_KEY,
        NO_KEY,
        |facts, token| {
            rogue(token, &facts.canary);
            token.header["x5u"] = json!(format!("{}/{}", facts.trap, facts.canary));
        },
    ),
    token(
        "id-token-x5c",
        "a certificate stands in the header",
        OWN_KEY,
        NO_KEY,
        |facts, token| {
            rogue(token, &facts.canary);
            token.header["x5c"] = json!([facts.canary]);
        },
    ),
    token(
        "id-token-jwk-under-our-kid",
        "the key that signed stands in the header, under the name of ours",
        OWN_KEY,
        WRONG,
        |facts, token| {
            token.signer = Signer::Rogue;
            token.header["jwk"] = facts.keys.rogue_jwk();
        },
    ),
    token("id-token-alg-none", "`alg` is `none`", NONE, ALG, |_, token| {
        unsigned(token, "none")
    }),
    token(
        "id-token-alg-none-capital",
        "`alg` is `None`",
        NONE,
        ALG,
        |_, token| unsigned(token, "None"),
    ),
    token(
        "id-token-alg-none-mixed",
        "`alg` is `nOnE`",
        NONE,
        ALG,
        |_, token| unsigned(token, "nOnE"),
    ),
    token(
        "id-token-alg-none-space",
        "`alg` is `none` and a space",
        NONE,
        ALG,
        |_, token| unsigned(token, "none "),
    ),
    token(
        "id-token-alg-none-signed",
        "`alg` is `none`, and there is a good signature",
        NONE,
        ALG,
        |_, token| {
            token.header["alg"] = json!("none");
        },
    ),
    token(
        "id-token-alg-empty",
        "`alg` is empty",
        "RFC 7515 §4.1.1",
        ALG,
        |_, token| unsigned(token, ""),
    ),
    token(
        "id-token-alg-missing",
        "no `alg`",
        "RFC 7515 §4.1.1",
        unusable("id token: its header has no `alg`"),
        |_, token| {
            token.without_header("alg");
        },
    ),
    token(
        "id-token-alg-list",
        "`alg` is an array",
        "RFC 7515 §4.1.1",
        unusable("id token: its header has no `alg`"),
        |facts, token| {
            token.header["alg"] = json!(["ES256", facts.canary]);
        },
    ),
    token(
        "id-token-alg-case",
        "`alg` is `es256`",
        "RFC 7515 §4.1.1: case-sensitive",
        ALG,
        |_, token| {
            token.header["alg"] = json!("es256");
        },
    ),
    token(
        "id-token-alg-unknown",
        "`alg` is one that nobody knows",
        "RFC 7515 §4.1.1",
        ALG,
        |facts, token| {
            token.header["alg"] = json!(facts.canary);
        },
    ),
    token(
        "id-token-alg-es256k",
        "`alg` is ES256K",
        "RFC 8812 §3.2",
        ALG,
        |_, token| token.header["alg"] = json!("ES256K"),
    ),
    token(
        "id-token-alg-es384",
        "`alg` is ES384, and the key is on another curve",
        "RFC 8725 §3.1",
        NO_KEY,
        |_, token| {
            token.header["alg"] = json!("ES384");
        },
    ),
    token(
        "id-token-alg-rs256",
        "`alg` is RS256, and the key is an elliptic one",
        "RFC 8725 §3.1",
        NO_KEY,
        |_, token| {
            token.header["alg"] = json!("RS256");
        },
    ),
    token(
        "id-token-hmac-client-secret",
        "signed with the client secret (HS256)",
        "RFC 8725 §2.1; oidcc-client-test-invalid-sig-hs256",
        ALG,
        |_, token| {
            hmac(token, crate::CLIENT_SECRET.as_bytes());
        },
    ),
    token(
        "id-token-hmac-public-key",
        "signed with the public key's bytes as a secret (HS256)",
        "RFC 8725 §2.1",
        ALG,
        |facts, token| {
            hmac(token, &facts.keys.public_bytes());
        },
    ),
    token(
        "id-token-hmac-jwk",
        "signed with the public key's JWK as a secret (HS256)",
        "RFC 8725 §2.1",
        ALG,
        |facts, token| {
            hmac(token, facts.keys.jwk().to_string().as_bytes());
        },
    ),
    token(
        "id-token-hmac-empty",
        "signed with an empty secret (HS256)",
        "RFC 8725 §3.5",
        ALG,
        |_, token| hmac(token, b""),
    ),
    token(
        "id-token-crit",
        "`crit` names an extension",
        "RFC 7515 §4.1.11",
        unusable("id token: its header has `crit`"),
        |facts, token| {
            token.header["crit"] = json!([facts.canary]);
            token.header[facts.canary.clone()] = json!(true);
        },
    ),
    token(
        "id-token-crit-empty",
        "`crit` is empty",
        "RFC 7515 §4.1.11",
        unusable("id token: its header has `crit`"),
        |_, token| {
            token.header["crit"] = json!([]);
        },
    ),
    token(
        "id-token-crit-b64",
        "the payload is not encoded, and `crit` says so",
        "RFC 7797 §7",
        unusable("id token: its header has `crit`"),
        |_, token| {
            token.header["b64"] = json!(false);
            token.header["crit"] = json!(["b64"]);
        },
    ),
    token(
        "id-token-b64",
        "`b64` is false, and `crit` does not say so",
        "RFC 7797 §6, §7: never in a JWT",
        unusable("id token: its header has `b64`"),
        |_, token| {
            token.header["b64"] = json!(false);
        },
    ),
    token(
        "id-token-typ-missing",
        "no `typ`",
        "RFC 7519 §5.1: optional",
        ACCEPTED,
        |_, token| token.without_header("typ"),
    ),
    token(
        "id-token-typ-access-token",
        "`typ` is that of an access token",
        "RFC 8725 §3.11; RFC 9068 §2.1",
        unusable("id token: its `typ` is that of another kind of token"),
        |_, token| {
            token.header["typ"] = json!("at+jwt");
        },
    ),
    token(
        "id-token-typ-logout-token",
        "`typ` is that of a logout token",
        "RFC 8725 §3.11; OpenID Connect Back-Channel Logout §2.4",
        unusable("id token: its `typ` is that of another kind of token"),
        |_, token| {
            token.header["typ"] = json!("application/Logout+JWT");
        },
    ),
];
