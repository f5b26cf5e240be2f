//! The form of the ID token: parts, encodings, JSON (RFC 7515 §7.1, RFC 7519 §7.2).

use serde_json::json;

use crate::jwt::Jwt;
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

const COMPACT: &str = "RFC 7515 §7.1";
const BASE64: &str = "RFC 7515 §2";
const HEADER: Wanted = unusable("id token: its header is not an object with unique members");
const CLAIMS: Wanted = unusable("id token: its claims are not an object with unique members");
const PARTS: Wanted = unusable("id token: it is not a signed token of three parts");

pub(super) const MODES: &[Mode] = &[
    token("id-token-text", "no token at all", COMPACT, PARTS, |_, token| {
        token.finish = Some(|facts, _| facts.canary.replace('.', "-"));
    }),
    token("id-token-two-parts", "two parts", COMPACT, PARTS, |_, token| {
        token.finish = Some(|_, compact| compact.rsplit_once('.').expect("three parts").0.to_owned());
    }),
    token("id-token-four-parts", "four parts", COMPACT, PARTS, |_, token| {
        token.finish = Some(|facts, compact| format!("{compact}.{}", facts.canary.replace('.', "-")));
    }),
    token(
        "id-token-five-parts",
        "five parts that are no encrypted token",
        "RFC 7516 §7.1",
        unusable("id token: "),
        |_, token| {
            token.finish =
                Some(|facts, compact| format!("{compact}.{0}.{0}", facts.canary.replace('.', "-")));
        },
    ),
    token(
        "id-token-dots",
        "ten thousand dots",
        COMPACT,
        PARTS,
        |_, token| {
            token.finish = Some(|_, compact| compact + &".".repeat(10_000));
        },
    ),
    token(
        "id-token-long",
        "more than 64 KiB",
        "a bound of Coatroom's own",
        unusable("id token: it is longer than 64 kib"),
        |facts, token| {
            token.claim("padding", json!(facts.canary.repeat(70_000 / facts.canary.len())));
        },
    ),
    token(
        "id-token-space",
        "a space in front",
        COMPACT,
        unusable("id token: its header is not base64url"),
        |_, token| {
            token.finish = Some(|_, compact| format!(" {compact}"));
        },
    ),
    token(
        "id-token-line-end",
        "a line end behind",
        COMPACT,
        unusable("`id_token` is not a string of ascii characters"),
        |_, token| {
            token.finish = Some(|_, compact| format!("{compact}\n"));
        },
    ),
    token(
        "id-token-padding",
        "the signature is padded with `=`",
        BASE64,
        unusable("id token: its signature is not base64url"),
        |_, token| {
            token.finish = Some(|_, compact| format!("{compact}=="));
        },
    ),
    token(
        "id-token-header-padding",
        "the header is padded with `=`",
        BASE64,
        unusable("id token: its header is not base64url"),
        |_, token| {
            token.finish = Some(|_, compact| compact.replacen('.', "=.", 1));
        },
    ),
    token(
        "id-token-header-empty",
        "an empty header",
        BASE64,
        HEADER,
        |_, token| token.header_text = Some(String::new()),
    ),
    token(
        "id-token-header-array",
        "the header is an array",
        "RFC 7515 §4",
        HEADER,
        |_, token| {
            token.edit_header(|text| format!("[{text}]"));
        },
    ),
    token(
        "id-token-header-text",
        "the header is no JSON",
        "RFC 7515 §4",
        HEADER,
        |facts, token| {
            token.header_text = Some(facts.canary.clone());
        },
    ),
    token(
        "id-token-alg-twice",
        "`alg` twice, `none` first",
        "RFC 7515 §4",
        HEADER,
        |_, token| {
            token.edit_header(|text| text.replacen('{', "{\"alg\":\"none\",", 1));
        },
    ),
    token(
        "id-token-kid-twice",
        "`kid` twice, another first",
        "RFC 7515 §4",
        HEADER,
        |facts, token| {
            let twice = format!("{{\"kid\":\"{}\",", facts.canary);
            token.edit_header(|text| text.replacen('{', &twice, 1));
        },
    ),
    token(
        "id-token-claims-empty",
        "an empty payload",
        "RFC 7519 §7.2",
        CLAIMS,
        |_, token| token.payload = Some(Vec::new()),
    ),
    token(
        "id-token-claims-array",
        "the claims in an array",
        "RFC 7519 §7.2",
        CLAIMS,
        |_, token| {
            token.edit_claims(|text| format!("[{text}]"));
        },
    ),
    token(
        "id-token-claims-text",
        "the claims are no JSON",
        "RFC 7519 §7.2",
        CLAIMS,
        |facts, token| {
            token.payload = Some(facts.canary.clone().into_bytes());
        },
    ),
    token(
        "id-token-claims-not-utf8",
        "the claims hold a byte that is no UTF-8",
        "RFC 7519 §7.2",
        CLAIMS,
        |_, token| {
            let mut payload = token.claims.to_string().into_bytes();
            payload.splice(1..1, *b"\"x\":\"\xff\",");
            token.payload = Some(payload);
        },
    ),
    token(
        "id-token-claims-twice",
        "`sub` twice, another first",
        "RFC 7519 §4",
        CLAIMS,
        |facts, token| {
            let twice = format!("{{\"sub\":\"{}\",", facts.canary);
            token.edit_claims(|text| text.replacen('{', &twice, 1));
        },
    ),
    token(
        "id-token-claims-twice-escaped",
        "`sub` twice, once with an escaped letter",
        "RFC 7519 §4; RFC 8259 §8.3",
        CLAIMS,
        |facts, token| {
            let twice = format!("{{\"\\u0073ub\":\"{}\",", facts.canary);
            token.edit_claims(|text| text.replacen('{', &twice, 1));
        },
    ),
    token(
        "id-token-claims-twice-below",
        "a member of a claim twice",
        "RFC 7519 §4",
        CLAIMS,
        |facts, token| {
            let twice = format!("{{\"address\":{{\"a\":1,\"a\":\"{}\"}},", facts.canary);
            token.edit_claims(|text| text.replacen('{', &twice, 1));
        },
    ),
    token(
        "id-token-claims-deep",
        "a claim that is nested 10,000 times",
        "RFC 8259 §9",
        CLAIMS,
        |_, token| {
            let deep = format!("{{\"x\":{}{},", "[".repeat(10_000), "]".repeat(10_000));
            token.edit_claims(|text| text.replacen('{', &deep, 1));
        },
    ),
    token(
        "id-token-claims-trailing-garbage",
        "something behind the claims",
        "RFC 7519 §7.2",
        CLAIMS,
        |facts, token| {
            token.edit_claims(|text| format!("{text}{{\"sub\":\"{}\"}}", facts.canary));
        },
    ),
    token(
        "id-token-claims-nul",
        "a NUL behind the claims",
        "RFC 8259 §2",
        CLAIMS,
        |_, token| {
            token.edit_claims(|text| text + "\0");
        },
    ),
    token(
        "id-token-claims-lone-surrogate",
        "half a character in a claim",
        "RFC 8259 §8.2",
        CLAIMS,
        |_, token| {
            token.edit_claims(|text| text.replacen('{', "{\"x\":\"\\ud800\",", 1));
        },
    ),
    token(
        "id-token-header-with-strangers",
        "parameters of the header that nobody knows",
        "RFC 7515 §4: ignored",
        ACCEPTED,
        |facts, token| {
            token.header[facts.canary.clone()] = json!([1, {"a": null}]);
            token.header["cty"] = json!(facts.canary);
        },
    ),
];
