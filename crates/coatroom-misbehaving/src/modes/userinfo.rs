//! Userinfo (OIDC Core §5.3), for a client that asks it.

use serde_json::json;

use crate::answer::Answer;
use crate::jwt::{Jwt, Signer};
use crate::mode::{ACCEPTED, Mode, Place, Wanted, mode, unavailable, unusable};
use crate::twist::{Facts, Twist};

const fn answer(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    mode(
        Place::Userinfo,
        id,
        wrong,
        source,
        wanted,
        Twist::UserinfoAnswer(change),
    )
}

fn signed(facts: &Facts, change: fn(&Facts, &mut Jwt)) -> Answer {
    let claims = json!({"iss": facts.issuer, "aud": crate::CLIENT_ID, "sub": crate::SUBJECT, "email": "alice@example.com"});
    let mut token = Jwt::new("JWT", claims);
    change(facts, &mut token);
    Answer::text(200, "application/jwt", token.compact(facts))
}

fn json(text: &str) -> Answer {
    Answer::text(200, "application/json", text)
}

const SUB: &str = "OIDC Core §5.3.2";
const SIGNED: &str = "OIDC Core §5.3.2";
const FORM: Wanted = unusable("userinfo: it is neither application/json nor application/jwt");
const OBJECT: Wanted = unusable("userinfo: it is not a json object with unique members");
const TAKEN: Wanted = unusable("userinfo: the access token is not taken");

pub(super) const MODES: &[Mode] = &[
    answer(
        "userinfo-signed",
        "a signed answer",
        SIGNED,
        ACCEPTED,
        |facts, _| signed(facts, |_, _| {}),
    ),
    answer(
        "userinfo-of-the-sign-in",
        "claims that only the ID token may say",
        SUB,
        ACCEPTED,
        |_, _| json(r#"{"sub":"alice","acr":"gold","amr":["mfa"],"auth_time":1,"sid":"s","nonce":"n"}"#),
    ),
    answer(
        "userinfo-other-sub",
        "another user",
        "oidcc-client-test-userinfo-invalid-sub",
        unusable("userinfo: `sub` is not that of the id token"),
        |facts, _| Answer::json(&json!({"sub": facts.canary})),
    ),
    answer(
        "userinfo-no-sub",
        "no `sub`",
        SUB,
        unusable("userinfo: `sub` is missing"),
        |_, _| json(r#"{"email":"alice@example.com"}"#),
    ),
    answer(
        "userinfo-sub-list",
        "a `sub` that is a list",
        SUB,
        unusable("userinfo: `sub` is not a string"),
        |_, _| json(r#"{"sub":["alice"]}"#),
    ),
    answer(
        "userinfo-sub-twice",
        "`sub` twice",
        "RFC 8259 §4",
        OBJECT,
        |_, _| json(r#"{"sub":"bob","sub":"alice"}"#),
    ),
    answer("userinfo-array", "an array", SUB, OBJECT, |_, _| {
        json(r#"[{"sub":"alice"}]"#)
    }),
    answer("userinfo-cut", "JSON that is cut off", SUB, OBJECT, |_, _| {
        json(r#"{"sub":"alice""#)
    }),
    answer("userinfo-empty", "nothing", SUB, OBJECT, |_, _| json("")),
    answer(
        "userinfo-long",
        "more than 4 KiB",
        "a bound of Coatroom's own",
        unusable("userinfo: its claims are longer"),
        |facts, _| Answer::json(&json!({"sub": crate::SUBJECT, "x": facts.canary.repeat(1_000)})),
    ),
    answer("userinfo-html", "a page", SUB, FORM, |facts, _| {
        Answer::text(200, "text/html", format!("<p>{}", facts.canary))
    }),
    answer(
        "userinfo-json-as-html",
        "the right JSON as a page",
        SUB,
        FORM,
        |_, _| Answer::text(200, "text/html", r#"{"sub":"alice"}"#),
    ),
    answer(
        "userinfo-redirect",
        "a redirect",
        SUB,
        unusable("userinfo: neither 200"),
        |facts, _| Answer::redirect(302, facts.trap.clone()),
    ),
    answer("userinfo-401", "401", "RFC 6750 §3.1", TAKEN, |_, _| {
        Answer::status(401)
    }),
    answer("userinfo-403", "403", "RFC 6750 §3.1", TAKEN, |_, _| {
        Answer::status(403)
    }),
    answer(
        "userinfo-404",
        "404",
        SUB,
        unusable("userinfo: neither 200"),
        |_, _| Answer::status(404),
    ),
    answer(
        "userinfo-204",
        "204",
        SUB,
        unusable("userinfo: neither 200"),
        |_, _| Answer::status(204),
    ),
    answer(
        "userinfo-500",
        "500",
        SUB,
        unavailable("userinfo: status 5xx"),
        |_, _| Answer::status(500),
    ),
    answer(
        "userinfo-429",
        "429",
        SUB,
        unavailable("userinfo: status 429"),
        |_, _| Answer::status(429),
    ),
    answer(
        "userinfo-no-endpoint",
        "no endpoint",
        "OIDC Discovery §3",
        unusable("userinfo: the metadata names no"),
        |_, answer| answer,
    )
    .and(Twist::Metadata(|_, document| {
        drop(document.remove("userinfo_endpoint"))
    })),
    answer(
        "userinfo-jwt-none",
        "a JWT that is not signed",
        SIGNED,
        unusable("userinfo: `alg` is none"),
        |facts, _| {
            signed(facts, |_, token| {
                token.header["alg"] = json!("none");
                token.signer = Signer::Bytes(Vec::new());
            })
        },
    ),
    answer(
        "userinfo-jwt-rogue",
        "signed by somebody else",
        SIGNED,
        unusable("userinfo: its signature is wrong"),
        |facts, _| signed(facts, |_, token| token.signer = Signer::Rogue),
    ),
    answer(
        "userinfo-jwt-hs256",
        "HS256 with the public key",
        "RFC 8725 §3.1",
        unusable("userinfo: `alg` is none, symmetric"),
        |facts, _| {
            signed(facts, |facts, token| {
                token.header["alg"] = json!("HS256");
                token.signer = Signer::Hmac(facts.keys.public_bytes());
            })
        },
    ),
    answer(
        "userinfo-jwt-iss",
        "another issuer",
        SIGNED,
        unusable("userinfo: `iss` is not the issuer"),
        |facts, _| signed(facts, |facts, token| token.claim("iss", json!(facts.trap))),
    ),
    answer(
        "userinfo-jwt-no-iss",
        "no issuer",
        SIGNED,
        unusable("userinfo: `iss` is missing"),
        |facts, _| signed(facts, |_, token| token.without("iss")),
    ),
    answer(
        "userinfo-jwt-aud",
        "for another client",
        SIGNED,
        unusable("userinfo: `aud` does not contain"),
        |facts, _| signed(facts, |facts, token| token.claim("aud", json!(facts.canary))),
    ),
    answer(
        "userinfo-jwt-sub",
        "signed, of another user",
        SIGNED,
        unusable("userinfo: `sub` is not that of the id token"),
        |facts, _| signed(facts, |facts, token| token.claim("sub", json!(facts.canary))),
    ),
    answer(
        "userinfo-jwt-old",
        "signed, and expired",
        SIGNED,
        unusable("userinfo: it has expired"),
        |facts, _| signed(facts, |facts, token| token.claim("exp", json!(facts.now - 600))),
    ),
    answer(
        "userinfo-jwt-typ",
        "an access token",
        "RFC 8725 §3.11",
        unusable("userinfo: its `typ` is that of another"),
        |facts, _| signed(facts, |_, token| token.header["typ"] = json!("at+jwt")),
    ),
    answer(
        "userinfo-jwt-id-token",
        "an ID token",
        "RFC 8725 §3.11",
        unusable("userinfo: it is another kind of token"),
        |facts, _| signed(facts, |facts, token| token.claim("nonce", json!(facts.canary))),
    ),
    answer(
        "userinfo-jwt-as-json",
        "a JWT that is called JSON",
        SIGNED,
        OBJECT,
        |facts, _| {
            let body = signed(facts, |_, _| {}).body;
            Answer::text(200, "application/json", body)
        },
    ),
];
