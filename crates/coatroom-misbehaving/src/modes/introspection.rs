//! Introspection (RFC 7662), as JSON and as a signed answer (RFC 9701), for a client that asks it at API calls.

use serde_json::json;

use crate::answer::Answer;
use crate::jwt::{Jwt, Signer};
use crate::mode::{ACCEPTED, Mode, Outcome, Place, Wanted, mode, unavailable, unusable};
use crate::twist::{Facts, Twist};

const fn answer(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    mode(
        Place::Introspection,
        id,
        wrong,
        source,
        wanted,
        Twist::IntrospectionAnswer(change),
    )
}

const fn signed(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Jwt),
) -> Mode {
    mode(
        Place::SignedIntrospection,
        id,
        wrong,
        source,
        wanted,
        Twist::Introspection(change),
    )
}

fn json(text: &str) -> Answer {
    Answer::text(200, "application/json", text)
}

/// As an access token that has expired: no session ends.
const INACTIVE: Wanted = Wanted {
    outcome: Outcome::Refused {
        status: 401,
        error_code: "access_token_expired",
    },
    log: "",
};

pub(super) const MODES: &[Mode] = &[
    answer(
        "introspection-least",
        "nothing but that it is active",
        "RFC 7662 §2.2",
        ACCEPTED,
        |_, _| json(r#"{"active":true}"#),
    ),
    answer(
        "introspection-inactive",
        "a token that is not active",
        "RFC 7662 §2.2",
        INACTIVE,
        |_, _| json(r#"{"active":false}"#),
    ),
    answer(
        "introspection-active-text",
        "`active` in words",
        "RFC 7662 §2.2",
        unusable("introspection: `active` is not a boolean"),
        |_, _| json(r#"{"active":"true"}"#),
    ),
    answer(
        "introspection-active-missing",
        "no `active`",
        "RFC 7662 §2.2",
        unusable("introspection: `active` is missing"),
        |_, _| json(r#"{"sub":"alice"}"#),
    ),
    answer(
        "introspection-active-twice",
        "`active` twice",
        "RFC 8259 §4",
        unusable("introspection: it is not a json object with unique members"),
        |_, _| json(r#"{"active":false,"active":true}"#),
    ),
    answer(
        "introspection-expired",
        "active, and over",
        "RFC 7662 §2.2",
        INACTIVE,
        |facts, _| Answer::json(&json!({"active": true, "exp": facts.now - 600})),
    ),
    answer(
        "introspection-early",
        "active, and not yet valid",
        "RFC 7662 §2.2",
        unusable("introspection: it is not valid yet"),
        |facts, _| Answer::json(&json!({"active": true, "nbf": facts.now + 600})),
    ),
    answer(
        "introspection-exp-text",
        "`exp` in words",
        "RFC 7662 §2.2",
        unusable("introspection: `exp` is not a number"),
        |facts, _| Answer::json(&json!({"active": true, "exp": facts.canary})),
    ),
    answer(
        "introspection-scope-list",
        "scopes in a list",
        "RFC 7662 §2.2",
        unusable("introspection: `scope` is not a string"),
        |facts, _| Answer::json(&json!({"active": true, "scope": [facts.canary]})),
    ),
    answer(
        "introspection-other-client",
        "another client's token",
        "RFC 7662 §2.2",
        unusable("introspection: `client_id` is not ours"),
        |facts, _| Answer::json(&json!({"active": true, "client_id": facts.canary})),
    ),
    answer(
        "introspection-iss",
        "another issuer",
        "RFC 7662 §2.2",
        unusable("introspection: `iss` is not the issuer"),
        |facts, _| Answer::json(&json!({"active": true, "iss": facts.trap})),
    ),
    answer(
        "introspection-array",
        "an array",
        "RFC 7662 §2.2",
        unusable("introspection: it is not a json object with unique members"),
        |_, _| json(r#"[{"active":true}]"#),
    ),
    answer(
        "introspection-cut",
        "JSON that is cut off",
        "RFC 7662 §2.2",
        unusable("introspection: it is not a json object with unique members"),
        |_, _| json(r#"{"active":true"#),
    ),
    answer(
        "introspection-html",
        "a page",
        "RFC 7662 §2.2",
        unusable("introspection: it is not application/json"),
        |facts, _| Answer::text(200, "text/html", format!("<p>{}", facts.canary)),
    ),
    answer(
        "introspection-json-as-html",
        "the right JSON as a page",
        "RFC 7662 §2.2",
        unusable("introspection: it is not application/json"),
        |_, _| Answer::text(200, "text/html", r#"{"active":true}"#),
    ),
    answer(
        "introspection-jwt-instead",
        "a JWT where JSON was asked for",
        "RFC 9701 §4",
        unusable("introspection: it is not application/json"),
        |facts, _| Answer::text(200, "application/token-introspection+jwt", facts.canary.clone()),
    ),
    answer(
        "introspection-redirect",
        "a redirect that repeats the token",
        "RFC 7662 §2.2",
        unusable("introspection: neither 200"),
        |facts, _| Answer::redirect(307, facts.trap.clone()),
    ),
    answer(
        "introspection-204",
        "204",
        "RFC 7662 §2.2",
        unusable("introspection: neither 200"),
        |_, _| Answer::status(204),
    ),
    answer(
        "introspection-400",
        "400",
        "RFC 6749 §5.2",
        unusable("introspection: neither 200"),
        |facts, _| Answer::error(400, &facts.canary),
    ),
    answer(
        "introspection-401",
        "401",
        "RFC 7662 §2.3",
        unusable("introspection: invalid_client: client_secret_basic is refused"),
        |_, _| Answer::error(401, "invalid_client"),
    ),
    answer(
        "introspection-403",
        "403",
        "RFC 7662 §2.3",
        unusable("introspection: status 403"),
        |_, _| Answer::status(403),
    ),
    answer(
        "introspection-429",
        "429",
        "RFC 6585 §4",
        unavailable("introspection: status 429"),
        |_, _| Answer::status(429),
    ),
    answer(
        "introspection-500",
        "500",
        "RFC 9110 §15.6",
        unavailable("introspection: status 5xx"),
        |_, _| Answer::status(500),
    ),
    answer(
        "introspection-huge",
        "ten mebibytes",
        "a bound of Coatroom's own",
        unavailable("introspection: "),
        |_, answer| answer.huge(),
    ),
    answer(
        "introspection-closed",
        "closes the connection without an answer",
        "RFC 9110 §15.6",
        unavailable("introspection: "),
        |_, _| Answer::closed(),
    ),
    answer(
        "introspection-silent",
        "never answers",
        "RFC 9110 §15.6",
        unavailable("introspection: "),
        |_, _| Answer::silent(),
    ),
    answer(
        "introspection-unannounced",
        "no endpoint",
        "RFC 8414 §2",
        unusable("introspection: the metadata names no"),
        |_, answer| answer,
    )
    .and(Twist::Metadata(|_, document| {
        drop(document.remove("introspection_endpoint"))
    })),
    signed(
        "introspection-jwt",
        "the whole media type in `typ`",
        "RFC 9701 §5",
        ACCEPTED,
        |_, token| token.header["typ"] = json!("application/token-introspection+jwt"),
    ),
    signed(
        "introspection-jwt-aud-list",
        "a list of audiences",
        "RFC 7519 §4.1.3",
        ACCEPTED,
        |_, token| token.claim("aud", json!(["api", crate::CLIENT_ID])),
    ),
    signed(
        "introspection-jwt-inactive",
        "signed, and not active",
        "RFC 7662 §2.2",
        INACTIVE,
        |_, token| token.claim("token_introspection", json!({"active": false})),
    ),
    signed(
        "introspection-jwt-typ-access-token",
        "an access token",
        "RFC 9701 §8.1",
        unusable("introspection: its `typ` is not token-introspection+jwt"),
        |_, token| token.header["typ"] = json!("at+jwt"),
    ),
    signed(
        "introspection-jwt-typ-none",
        "no type",
        "RFC 9701 §8.1",
        unusable("introspection: its `typ` is not token-introspection+jwt"),
        |_, token| token.without_header("typ"),
    ),
    signed(
        "introspection-jwt-none",
        "a JWT that is not signed",
        "RFC 8725 §3.1",
        unusable("introspection: `alg` is none"),
        |_, token| {
            token.header["alg"] = json!("none");
            token.signer = Signer::Bytes(Vec::new());
        },
    ),
    signed(
        "introspection-jwt-hs256",
        "HS256 with the public key",
        "RFC 8725 §3.1",
        unusable("introspection: `alg` is none, symmetric"),
        |facts, token| {
            token.header["alg"] = json!("HS256");
            token.signer = Signer::Hmac(facts.keys.public_bytes());
        },
    ),
    signed(
        "introspection-jwt-rogue",
        "signed by somebody else",
        "RFC 9701 §5",
        unusable("introspection: its signature is wrong"),
        |_, token| token.signer = Signer::Rogue,
    ),
    signed(
        "introspection-jwt-iss",
        "another issuer",
        "RFC 9701 §5",
        unusable("introspection: `iss` is not the issuer"),
        |facts, token| token.claim("iss", json!(facts.trap)),
    ),
    signed(
        "introspection-jwt-no-iss",
        "no issuer",
        "RFC 9701 §5",
        unusable("introspection: `iss` is missing"),
        |_, token| token.without("iss"),
    ),
    signed(
        "introspection-jwt-aud",
        "for another client",
        "RFC 9701 §5",
        unusable("introspection: `aud` does not contain `client_id`"),
        |facts, token| token.claim("aud", json!(facts.canary)),
    ),
    signed(
        "introspection-jwt-no-aud",
        "for nobody",
        "RFC 9701 §5",
        unusable("introspection: `aud` is missing"),
        |_, token| token.without("aud"),
    ),
    signed(
        "introspection-jwt-no-iat",
        "no `iat`",
        "RFC 9701 §5",
        unusable("introspection: `iat` is missing"),
        |_, token| token.without("iat"),
    ),
    signed(
        "introspection-jwt-early",
        "issued in an hour",
        "RFC 9701 §5",
        unusable("introspection: it was issued in the future"),
        |facts, token| token.claim("iat", json!(facts.now + 3600)),
    ),
    signed(
        "introspection-jwt-old",
        "expired by itself",
        "RFC 7519 §4.1.4",
        unusable("introspection: it has expired"),
        |facts, token| token.claim("exp", json!(facts.now - 600)),
    ),
    signed(
        "introspection-jwt-id-token",
        "an ID token",
        "RFC 8725 §3.11",
        unusable("introspection: it is another kind of token"),
        |facts, token| token.claim("nonce", json!(facts.canary)),
    ),
    signed(
        "introspection-jwt-empty",
        "about nothing",
        "RFC 9701 §5",
        unusable("introspection: `token_introspection` is missing"),
        |_, token| token.without("token_introspection"),
    ),
    signed(
        "introspection-jwt-text",
        "about a text",
        "RFC 9701 §5",
        unusable("introspection: `token_introspection` is not an object"),
        |facts, token| token.claim("token_introspection", json!(facts.canary)),
    ),
    signed(
        "introspection-jwt-active-outside",
        "`active` beside what it is about",
        "RFC 9701 §5",
        unusable("introspection: `active` is missing"),
        |_, token| {
            token.claim("active", json!(true));
            token.claim("token_introspection", json!({}));
        },
    ),
    signed(
        "introspection-jwt-other-client",
        "another client's token",
        "RFC 7662 §2.2",
        unusable("introspection: `client_id` is not ours"),
        |facts, token| token.claims["token_introspection"]["client_id"] = json!(facts.canary),
    ),
    signed(
        "introspection-jwt-bound",
        "a token that is bound to a key",
        "RFC 9449 §6.2",
        unusable("introspection: the token is bound (`cnf`)"),
        |facts, token| token.claims["token_introspection"]["cnf"] = json!({"jkt": facts.canary}),
    ),
    signed(
        "introspection-jwt-claim-twice",
        "`iss` twice",
        "RFC 7519 §4",
        unusable("introspection: its claims are not an object"),
        |_, token| token.edit_claims(|text| text.replacen('{', r#"{"iss":"x","#, 1)),
    ),
    mode(
        Place::SignedIntrospection,
        "introspection-jwt-as-json",
        "an answer that is not signed",
        "RFC 9701 §6",
        unusable("introspection: it is not signed"),
        Twist::IntrospectionAnswer(|_, _| json(r#"{"active":true}"#)),
    ),
    mode(
        Place::SignedIntrospection,
        "introspection-jwt-as-html",
        "a signed answer as a page",
        "RFC 9701 §5",
        unusable("introspection: it is neither"),
        Twist::IntrospectionAnswer(|_, answer| answer.header("content-type", "text/html")),
    ),
    mode(
        Place::SignedIntrospection,
        "introspection-jwt-encrypted",
        "encrypted to nobody",
        "RFC 9701 §5",
        unusable("introspection: "),
        Twist::IntrospectionAnswer(|facts, answer| {
            answer.with_body(format!("e30.a.b.c.{}", facts.canary.replace('.', "")))
        }),
    ),
];
