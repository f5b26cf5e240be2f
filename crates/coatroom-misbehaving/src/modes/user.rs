//! Who the user is where no ID token says it: the answer to the access token of a client of plain OAuth
//! 2.0 (RFC 6749), which takes its member `sub` for the user.

use serde_json::json;

use crate::answer::Answer;
use crate::jwt::Jwt;
use crate::mode::{ACCEPTED, Mode, Place, Wanted, mode, unavailable, unusable};
use crate::twist::{Facts, Twist};

const fn of(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    twist: Twist,
) -> Mode {
    mode(Place::User, id, wrong, source, wanted, twist)
}

const fn answer(
    id: &'static str,
    wrong: &'static str,
    wanted: Wanted,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    of(id, wrong, OWN, wanted, Twist::UserinfoAnswer(change))
}

fn json(text: &str) -> Answer {
    Answer::text(200, "application/json", text)
}

const OWN: &str = "a rule of Coatroom's own";
const OBJECT: Wanted = unusable("userinfo: it is not a json object with unique members");
const KIND: Wanted = unusable("userinfo: the member of `user.subject` is neither a string nor an integer");
const TEXT: Wanted = unusable("userinfo: the member of `user.subject` is empty");
const FORM: Wanted = unusable("userinfo: it is not application/json");

pub(super) const MODES: &[Mode] = &[
    of(
        "user-no-id-token",
        "no ID token",
        "RFC 6749 §5.1",
        ACCEPTED,
        Twist::TokenResponse(|_, answer| drop(answer.remove("id_token"))),
    ),
    of(
        "user-id-token-of-another",
        "an ID token of somebody else, which nobody asked for",
        OWN,
        ACCEPTED,
        Twist::IdToken(|facts, token| token.claim("sub", json!(facts.canary))),
    ),
    of(
        "user-id-token-of-no-form",
        "an ID token that is none",
        OWN,
        ACCEPTED,
        Twist::TokenResponse(|facts, answer| {
            answer.insert("id_token".to_owned(), json!(facts.canary));
        }),
    ),
    of(
        "user-no-keys",
        "metadata without `jwks_uri`",
        "RFC 8414 §2",
        ACCEPTED,
        Twist::Metadata(|_, document| drop(document.remove("jwks_uri"))),
    ),
    of(
        "user-no-endpoint",
        "metadata without an endpoint to ask",
        OWN,
        unusable("userinfo: the metadata names no"),
        Twist::Metadata(|_, document| drop(document.remove("userinfo_endpoint"))),
    ),
    of(
        "user-error-with-200",
        "a refusal with status 200, which no setting expects",
        "RFC 6749 §5.2",
        unusable("token endpoint: a success that carries an `error`"),
        Twist::TokenAnswer(|_, _| Answer::json(&json!({"error": "bad_verification_code"}))),
    ),
    of(
        "user-form-encoded",
        "tokens as a form",
        "RFC 6749 §5.1",
        unusable("token endpoint: a success without a json object"),
        Twist::TokenAnswer(|facts, _| {
            let body = format!("access_token={}&token_type=bearer", facts.canary);
            Answer::text(200, "application/x-www-form-urlencoded", body)
        }),
    ),
    answer(
        "user-not-named",
        "nobody is named",
        unusable("userinfo: the member of `user.subject` is missing"),
        |facts, _| Answer::json(&json!({"login": facts.canary})),
    ),
    answer("user-null", "null is named", KIND, |_, _| json(r#"{"sub":null}"#)),
    answer("user-list", "a list is named", KIND, |_, _| {
        json(r#"{"sub":["alice"]}"#)
    }),
    answer("user-fraction", "a number that is no integer", KIND, |_, _| {
        json(r#"{"sub":1.5}"#)
    }),
    answer(
        "user-too-large",
        "an integer for which numbers have no room, so that two users would be one",
        KIND,
        |_, _| json(r#"{"sub":36893488147419103233}"#),
    ),
    answer("user-empty", "an empty text is named", TEXT, |_, _| {
        json(r#"{"sub":""}"#)
    }),
    answer(
        "user-control-character",
        "a text with a line end is named",
        TEXT,
        |_, _| json(r#"{"sub":"ali\nce"}"#),
    ),
    answer("user-twice", "two are named", OBJECT, |_, _| {
        json(r#"{"sub":"bob","sub":"alice"}"#)
    }),
    answer("user-array", "an array of users", OBJECT, |_, _| {
        json(r#"[{"sub":"alice"}]"#)
    }),
    answer("user-html", "a page", FORM, |facts, _| {
        Answer::text(200, "text/html", format!("<p>{}", facts.canary))
    }),
    answer(
        "user-jwt",
        "a JWT, which nobody could verify",
        FORM,
        |facts, _| {
            let token = Jwt::new("JWT", json!({"sub": crate::SUBJECT}));
            Answer::text(200, "application/jwt", token.compact(facts))
        },
    ),
    answer(
        "user-long",
        "more than 4 KiB",
        unusable("userinfo: its claims are longer"),
        |facts, _| Answer::json(&json!({"sub": crate::SUBJECT, "x": facts.canary.repeat(1_000)})),
    ),
    answer(
        "user-redirect",
        "a redirect",
        unusable("userinfo: neither 200"),
        |facts, _| Answer::redirect(302, facts.trap.clone()),
    ),
    answer(
        "user-401",
        "401 to the access token that it just gave",
        unusable("userinfo: the access token is not taken"),
        |_, _| Answer::status(401),
    ),
    answer("user-500", "500", unavailable("userinfo: status 5xx"), |_, _| {
        Answer::status(500)
    }),
    answer(
        "user-of-the-sign-in",
        "claims that only an ID token may say",
        ACCEPTED,
        |_, _| json(r#"{"sub":"alice","iss":"https://other.example","acr":"gold","auth_time":1,"sid":"s"}"#),
    ),
];
