//! The encrypted ID token (RFC 7516), of a client that has a key for it.

use serde_json::{Value, json};

use crate::jwe::{seal, seal_to_nobody, spoiled};
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
    mode(
        Place::EncryptedIdToken,
        id,
        wrong,
        source,
        wanted,
        Twist::IdToken(change),
    )
}

/// A sound token inside.
const fn sealed(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    finish: fn(&Facts, String) -> String,
) -> Mode {
    mode(
        Place::EncryptedIdToken,
        id,
        wrong,
        source,
        wanted,
        Twist::Envelope(finish),
    )
}

const HEADER: &str = "RFC 7516 §4.1";
const OPEN: &str = "RFC 7516 §5.2";
const ECDH: &str = "RFC 7518 §4.6";
const SHUT: Wanted = unusable("id token: it does not open");
const PLAIN: Wanted = unusable("id token: it is not encrypted");

fn other_letter(part: &str) -> String {
    let first = if part.starts_with('A') { "B" } else { "A" };
    [first, part.get(1..).unwrap_or_default()].concat()
}

pub(super) const MODES: &[Mode] = &[
    sealed(
        "jwe-odd-kid",
        "a `kid` of the provider's own making",
        HEADER,
        ACCEPTED,
        |_, token| seal(&token, |header| header["kid"] = json!("enc-1")),
    ),
    sealed(
        "jwe-no-cty",
        "no `cty`",
        "RFC 7519 §5.2",
        ACCEPTED,
        |_, token| {
            seal(&token, |header| {
                drop(header.as_object_mut().expect("an object").remove("cty"))
            })
        },
    ),
    sealed(
        "jwe-plain",
        "a signed token that is not encrypted",
        "OIDC Core §10.2",
        PLAIN,
        |_, token| token,
    ),
    sealed(
        "jwe-other-key",
        "encrypted to another key",
        OPEN,
        SHUT,
        |_, token| seal_to_nobody(&token),
    ),
    sealed("jwe-zip", "compressed", "RFC 8725 §3.6", SHUT, |_, token| {
        seal(&token, |header| header["zip"] = json!("DEF"))
    }),
    sealed(
        "jwe-crit",
        "an extension that has to be understood",
        HEADER,
        SHUT,
        |_, token| seal(&token, |header| header["crit"] = json!(["exp"])),
    ),
    sealed(
        "jwe-cty-other",
        "a `cty` of something else",
        "RFC 7519 §5.2",
        SHUT,
        |_, token| seal(&token, |header| header["cty"] = json!("octet-stream")),
    ),
    sealed(
        "jwe-alg-rsa-oaep",
        "RSA-OAEP with SHA-1 in the header",
        "RFC 8725 §3.2",
        SHUT,
        |_, token| seal(&token, |header| header["alg"] = json!("RSA-OAEP")),
    ),
    sealed(
        "jwe-alg-rsa1-5",
        "RSA1_5 in the header",
        "RFC 8725 §3.2",
        SHUT,
        |_, token| seal(&token, |header| header["alg"] = json!("RSA1_5")),
    ),
    sealed(
        "jwe-alg-other-kind",
        "the algorithm of another kind of key",
        OPEN,
        SHUT,
        |_, token| seal(&token, |header| header["alg"] = json!("RSA-OAEP-256")),
    ),
    sealed(
        "jwe-alg-dir",
        "the algorithm `dir`",
        "RFC 7518 §4.5",
        SHUT,
        |_, token| seal(&token, |header| header["alg"] = json!("dir")),
    ),
    sealed(
        "jwe-alg-password",
        "the algorithm PBES2, with a billion rounds",
        "RFC 7518 §4.8",
        SHUT,
        |_, token| {
            seal(&token, |header| {
                header["alg"] = json!("PBES2-HS256+A128KW");
                header["p2c"] = json!(1_000_000_000);
            })
        },
    ),
    sealed("jwe-alg-none", "the algorithm `none`", OPEN, SHUT, |_, token| {
        seal(&token, |header| header["alg"] = json!("none"))
    }),
    sealed(
        "jwe-enc-cbc",
        "CBC in the header",
        "RFC 7518 §5.2",
        SHUT,
        |_, token| seal(&token, |header| header["enc"] = json!("A128CBC-HS256")),
    ),
    sealed(
        "jwe-enc-shorter",
        "A128GCM in the header of A256GCM",
        ECDH,
        SHUT,
        |_, token| seal(&token, |header| header["enc"] = json!("A128GCM")),
    ),
    sealed("jwe-epk-missing", "no `epk`", ECDH, SHUT, |_, token| {
        seal(&token, |header| {
            drop(header.as_object_mut().expect("an object").remove("epk"))
        })
    }),
    sealed(
        "jwe-epk-curve",
        "an `epk` of another curve",
        ECDH,
        SHUT,
        |_, token| seal(&token, |header| header["epk"]["crv"] = json!("P-384")),
    ),
    sealed(
        "jwe-epk-invalid",
        "an `epk` beside the curve",
        "RFC 8725 §3.4",
        SHUT,
        |_, token| seal(&token, |header| header["epk"]["y"] = header["epk"]["x"].clone()),
    ),
    sealed(
        "jwe-header-changed",
        "the header changed afterwards",
        OPEN,
        SHUT,
        |_, token| spoiled(&seal(&token, |_| {}), 0, other_letter),
    ),
    sealed(
        "jwe-encrypted-key",
        "an encrypted key where none belongs",
        ECDH,
        SHUT,
        |_, token| spoiled(&seal(&token, |_| {}), 1, |_| "AAAA".to_owned()),
    ),
    sealed(
        "jwe-iv-short",
        "an initialization vector of 3 bytes",
        "RFC 7518 §5.3",
        SHUT,
        |_, token| spoiled(&seal(&token, |_| {}), 2, |_| "AAAA".to_owned()),
    ),
    sealed(
        "jwe-ciphertext",
        "the ciphertext changed afterwards",
        OPEN,
        SHUT,
        |_, token| spoiled(&seal(&token, |_| {}), 3, other_letter),
    ),
    sealed("jwe-tag", "the tag changed afterwards", OPEN, SHUT, |_, token| {
        spoiled(&seal(&token, |_| {}), 4, other_letter)
    }),
    sealed(
        "jwe-tag-short",
        "a tag of 4 bytes, right as far as it goes",
        "RFC 7518 §5.3",
        SHUT,
        |_, token| {
            spoiled(&seal(&token, |_| {}), 4, |tag| {
                tag.get(..6).unwrap_or_default().to_owned()
            })
        },
    ),
    sealed(
        "jwe-six-parts",
        "six parts",
        "RFC 7516 §7.1",
        PLAIN,
        |_, token| seal(&token, |_| {}) + ".AAAA",
    ),
    sealed(
        "jwe-twice",
        "an envelope inside",
        "RFC 7519 §5.2",
        SHUT,
        |_, token| seal(&seal(&token, |_| {}), |_| {}),
    ),
    sealed(
        "jwe-claims-inside",
        "claims inside that nobody signed",
        "OIDC Core §10.2",
        SHUT,
        |facts, _| {
            seal(
                &json!({"iss": facts.issuer, "sub": facts.canary}).to_string(),
                |_| {},
            )
        },
    ),
    sealed(
        "jwe-long",
        "more than 64 KiB",
        "a bound of Coatroom's own",
        SHUT,
        |_, token| seal(&format!("{token}{}", "A".repeat(70_000)), |_| {}),
    ),
    token(
        "jwe-none-inside",
        "`none` inside",
        "OIDC Core §10.2",
        unusable("id token: `alg` is none"),
        |_, token| {
            token.header["alg"] = json!("none");
            token.signer = Signer::Bytes(Vec::new());
            token.finish = Some(|_, compact| seal(&compact, |_: &mut Value| {}));
        },
    ),
    token(
        "jwe-rogue-inside",
        "signed by somebody else inside",
        "OIDC Core §10.2",
        unusable("id token: its signature is wrong"),
        |_, token| {
            token.signer = Signer::Rogue;
            token.finish = Some(|_, compact| seal(&compact, |_: &mut Value| {}));
        },
    ),
];
