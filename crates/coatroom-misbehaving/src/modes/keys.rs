//! What can be wrong with the JWK set (RFC 7517), and with when it changes (OIDC Core §10.1.1).

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::jwt::{Signer, rsa_jwk};
use crate::mode::{ACCEPTED, Mode, Place, Wanted, accepted_with, mode, unavailable, unusable};
use crate::twist::{Facts, Twist};

const fn answer(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    mode(Place::Keys, id, wrong, source, wanted, Twist::KeysAnswer(change))
}

const fn set(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Vec<Value>),
) -> Mode {
    mode(Place::Keys, id, wrong, source, wanted, Twist::Keys(change))
}

/// The token is signed with the key that the set has, by RSA.
const BY_RSA: Twist = Twist::IdToken(|_, token| {
    token.header["alg"] = json!("RS256");
    token.signer = Signer::Rsa;
});

const WITHOUT_KID: Twist = Twist::IdToken(|_, token| token.without_header("kid"));

const STATUS: &str = "OIDC Discovery §3";
const NO_JSON: Wanted = unusable("the jwk set: it is not a json object with unique members");
const NO_KEY: Wanted = unusable("id token: no key of the provider's jwk set fits its `kid`");

pub(super) const MODES: &[Mode] = &[
    answer(
        "keys-500",
        "status 500",
        STATUS,
        unavailable("jwk set: status 500"),
        |facts, _| Answer::text(500, "text/html", facts.canary.clone()),
    ),
    answer(
        "keys-404",
        "status 404",
        STATUS,
        unusable("jwk set: expected status 200, got 404"),
        |facts, _| Answer::text(404, "text/html", facts.canary.clone()),
    ),
    answer(
        "keys-redirect",
        "a redirect to another host",
        STATUS,
        unusable("jwk set: expected status 200, got 307"),
        |facts, _| Answer::redirect(307, format!("{}/{}", facts.trap, facts.canary)),
    ),
    answer(
        "keys-empty",
        "nothing with status 200",
        "RFC 7517 §5",
        NO_JSON,
        |_, _| Answer::status(200),
    ),
    answer(
        "keys-html",
        "a page with status 200",
        "RFC 7517 §5",
        NO_JSON,
        |facts, _| Answer::text(200, "text/html", facts.canary.clone()),
    ),
    answer(
        "keys-array",
        "the keys without the object around them",
        "RFC 7517 §5",
        NO_JSON,
        |facts, answer| answer.with_body(json!([facts.keys.jwk()]).to_string()),
    ),
    answer(
        "keys-member-missing",
        "no `keys`",
        "RFC 7517 §5.1",
        unusable("the jwk set: `keys` is not an array"),
        |facts, answer| answer.with_body(facts.keys.jwk().to_string()),
    ),
    answer(
        "keys-member-object",
        "`keys` is an object",
        "RFC 7517 §5.1",
        unusable("the jwk set: `keys` is not an array"),
        |facts, answer| {
            answer.with_body(json!({"keys": {facts.canary.clone(): facts.keys.jwk()}}).to_string())
        },
    ),
    answer(
        "keys-member-twice",
        "`keys` twice, another's first",
        "RFC 7517 §4",
        NO_JSON,
        |facts, answer| {
            let twice = format!("{{\"keys\":[{}],", facts.keys.rogue_jwk());
            answer.edited(|text| text.replacen('{', &twice, 1))
        },
    ),
    answer(
        "keys-huge",
        "ten mebibytes",
        "a bound of Coatroom's own",
        unavailable("jwk set: its answer is longer than 1 mib"),
        |_, answer| answer.huge(),
    ),
    answer(
        "keys-cut-off",
        "breaks off before the announced length",
        "RFC 9112 §8",
        unavailable("jwk set: the connection broke off"),
        |_, answer| answer.cut_off(),
    ),
    answer(
        "keys-silent",
        "never answers",
        "a deadline: `provider.timeout`",
        unavailable("jwk set: it did not answer in time"),
        |_, _| Answer::silent(),
    ),
    set(
        "keys-none",
        "`keys` is empty",
        "OIDC Core §10.1",
        NO_KEY,
        |_, keys| keys.clear(),
    ),
    set(
        "keys-too-many",
        "sixty-five keys",
        "a bound of Coatroom's own",
        unusable("the jwk set: `keys` has more than 64 usable keys"),
        |facts, keys| keys.resize(65, facts.keys.jwk()),
    ),
    set(
        "keys-no-objects",
        "`keys` has everything but keys",
        "RFC 7517 §5",
        NO_KEY,
        |facts, keys| {
            *keys = vec![
                json!(null),
                json!(Facts::NUMBER),
                json!(facts.canary),
                json!([{}]),
            ]
        },
    ),
    set(
        "keys-private",
        "the provider's private key is published",
        "RFC 7517 §9.2",
        NO_KEY,
        |facts, keys| keys[0]["d"] = json!(facts.canary),
    ),
    set(
        "keys-symmetric",
        "a symmetric key, and the ID token is signed with it",
        "RFC 8725 §2.1; oidcc-client-test-invalid-sig-hs256",
        unusable("`alg` is none, symmetric or unknown"),
        |_, keys| *keys = vec![json!({"kty": "oct", "kid": "key-1", "alg": "HS256", "k": "Y2FuYXJ5"})],
    )
    .and(Twist::IdToken(|_, token| {
        token.header["alg"] = json!("HS256");
        token.signer = Signer::Hmac(b"canary".to_vec());
    })),
    set(
        "keys-weak-rsa",
        "an RSA key of 1,024 bits",
        "RFC 7518 §3.3",
        NO_KEY,
        |_, keys| *keys = vec![rsa_jwk(128)],
    )
    .and(BY_RSA),
    set(
        "keys-rsa-exponent-one",
        "an RSA key whose exponent is 1: every signature is its own message",
        "RFC 8017 §3.1",
        NO_KEY,
        |_, keys| {
            *keys = vec![rsa_jwk(256)];
            keys[0]["e"] = json!("AQ");
        },
    )
    .and(BY_RSA),
    set(
        "keys-point-off-curve",
        "an elliptic key whose point is not on its curve",
        "RFC 7518 §6.2.1.3",
        unusable("id token: its signature is wrong"),
        |facts, keys| keys[0]["y"] = facts.keys.rogue_jwk()["x"].clone(),
    ),
    set(
        "keys-point-short",
        "an elliptic key with a coordinate of 31 bytes",
        "RFC 7518 §6.2.1.2",
        NO_KEY,
        |_, keys| keys[0]["x"] = json!("A".repeat(42)),
    ),
    set(
        "keys-for-encryption",
        "the key's `use` is `enc`",
        "RFC 7517 §4.2",
        NO_KEY,
        |_, keys| keys[0]["use"] = json!("enc"),
    ),
    set(
        "keys-operations-without-verify",
        "the key's `key_ops` has no `verify`",
        "RFC 7517 §4.3",
        NO_KEY,
        |facts, keys| keys[0]["key_ops"] = json!(["sign", facts.canary]),
    ),
    set(
        "keys-algorithm-other",
        "the key's `alg` is another than the token's",
        "RFC 7517 §4.4; RFC 8725 §3.1",
        NO_KEY,
        |_, keys| keys[0]["alg"] = json!("ES384"),
    ),
    set(
        "keys-kid-number",
        "the key's `kid` is a number",
        "RFC 7517 §4.5",
        NO_KEY,
        |_, keys| keys[0]["kid"] = json!(Facts::NUMBER),
    ),
    set(
        "keys-kid-case",
        "the key's `kid` differs from the token's by case",
        "RFC 7517 §4.5",
        NO_KEY,
        |_, keys| keys[0]["kid"] = json!("KEY-1"),
    ),
    set(
        "keys-kid-twice",
        "two keys of one name, another's first",
        "RFC 7517 §4.5: should be distinct",
        ACCEPTED,
        |facts, keys| keys.insert(0, facts.keys.rogue_jwk()),
    ),
    set(
        "keys-of-strangers",
        "beside ours keys of unknown types and with unknown members",
        "RFC 7517 §5: ignored",
        ACCEPTED,
        |facts, keys| {
            keys[0]["x5t"] = json!(Facts::NUMBER);
            keys.push(json!({"kty": facts.canary, "kid": "key-1", "alg": ["x"]}));
            keys.push(json!({"kty": "EC", "crv": "secp256k1", "kid": "key-1", "x": "AA", "y": "AA"}));
        },
    ),
    set(
        "keys-rsa",
        "an RSA key signs (RS256)",
        "oidcc-client-test-idtoken-sig-rs256",
        ACCEPTED,
        |_, keys| *keys = vec![rsa_jwk(256)],
    )
    .and(BY_RSA),
    mode(
        Place::Keys,
        "keys-one-without-kid",
        "the ID token has no `kid`, and there is one key",
        "oidcc-client-test-kid-absent-single-jwks",
        ACCEPTED,
        WITHOUT_KID,
    ),
    set(
        "keys-two-without-kid",
        "the ID token has no `kid`, and there are two keys that fit",
        "oidcc-client-test-kid-absent-multiple-jwks: may be tried or refused",
        ACCEPTED,
        |facts, keys| {
            let mut other = facts.keys.rogue_jwk();
            other["kid"] = json!("key-2");
            keys.insert(0, other);
        },
    )
    .and(WITHOUT_KID),
    set(
        "keys-five-without-kid",
        "the ID token has no `kid`, and there are five keys that fit",
        "OIDC Core §10.1: a `kid` must be there",
        NO_KEY,
        |facts, keys| keys.resize(5, facts.keys.rogue_jwk()),
    )
    .and(WITHOUT_KID),
    set(
        "keys-rotated-just-before-signing",
        "the key that signs is published only after the set was fetched",
        "OIDC Core §10.1.1; oidcc-client-test-signing-key-rotation-just-before-signing",
        ACCEPTED,
        |facts, keys| {
            if facts.asked == 0 {
                keys[0]["kid"] = json!("key-0");
            }
        },
    ),
    set(
        "keys-never-published",
        "the key that signs is never published",
        "OIDC Core §10.1.1",
        NO_KEY,
        |_, keys| keys[0]["kid"] = json!("key-0"),
    ),
    set(
        "keys-replaced-by-a-rogue",
        "another's key is published under the name of the key that signs",
        "OIDC Core §10.1",
        unusable("id token: its signature is wrong"),
        |facts, keys| *keys = vec![facts.keys.rogue_jwk()],
    ),
    answer(
        "keys-gone-after-rotation",
        "the set without the new key, and then status 500",
        "OIDC Core §10.1.1",
        NO_KEY,
        |facts, answer| match facts.asked {
            0 => answer.edited(|text| text.replace("key-1", "key-0")),
            _ => Answer::text(500, "text/html", facts.canary.clone()),
        },
    ),
    answer(
        "keys-nonsense-after-rotation",
        "the set without the new key, and then nonsense: the old keys stay",
        "OIDC Core §10.1.1",
        Wanted {
            log: "cannot fetch the provider's keys, keeping the old ones",
            ..NO_KEY
        },
        |facts, answer| match facts.asked {
            0 => answer.edited(|text| text.replace("key-1", "key-0")),
            _ => Answer::text(200, "application/json", facts.canary.clone()),
        },
    ),
    answer(
        "keys-as-text",
        "the set as `text/plain`",
        "RFC 7517 §8.5: application/jwk-set+json",
        accepted_with(""),
        |_, answer| answer.header("content-type", "text/plain"),
    ),
];
