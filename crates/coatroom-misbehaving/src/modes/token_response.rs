//! What can be wrong in a token response (RFC 6749 §5.1, RFC 6750), member by member.

use serde_json::{Map, Value, json};

use crate::mode::{ACCEPTED, Mode, Place, Wanted, mode, unusable};
use crate::twist::{Facts, Twist};

const fn response(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Map<String, Value>),
) -> Mode {
    mode(
        Place::TokenEndpoint,
        id,
        wrong,
        source,
        wanted,
        Twist::TokenResponse(change),
    )
}

const TYPE: &str = "RFC 6749 §5.1, §7.1";
const TOKEN: &str = "RFC 6749 §5.1, appendix A.12";
const LIFE: &str = "RFC 6749 §5.1";
const NO_TYPE: Wanted = unusable("token endpoint: `token_type` is not Bearer");
const NO_TOKEN: Wanted = unusable("token endpoint: `access_token` is empty or not visible ascii");
const NO_LIFE: Wanted = unusable("token endpoint: `expires_in` is not a number");
const NO_ID_TOKEN: Wanted = unusable("the token response has no id_token");

pub(super) const MODES: &[Mode] = &[
    response(
        "token-type-missing",
        "no `token_type`",
        TYPE,
        unusable("token endpoint: `token_type` is missing"),
        |_, response| drop(response.remove("token_type")),
    ),
    response(
        "token-type-foreign",
        "`token_type` is one that nobody knows",
        TYPE,
        NO_TYPE,
        |facts, response| {
            response["token_type"] = json!(facts.canary);
        },
    ),
    response(
        "token-type-empty",
        "`token_type` is empty",
        TYPE,
        NO_TYPE,
        |_, response| {
            response["token_type"] = json!("");
        },
    ),
    response(
        "token-type-list",
        "`token_type` is an array",
        TYPE,
        unusable("token endpoint: `token_type` is not a string"),
        |facts, response| response["token_type"] = json!(["Bearer", facts.canary]),
    ),
    response(
        "token-type-dpop",
        "`token_type` is DPoP, and nobody proved a key",
        "RFC 9449 §5",
        unusable("token endpoint: `token_type`"),
        |_, response| response["token_type"] = json!("DPoP"),
    ),
    response(
        "token-type-case",
        "`token_type` is `bEARER`",
        "RFC 6749 §5.1: any case",
        ACCEPTED,
        |_, response| {
            response["token_type"] = json!("bEARER");
        },
    ),
    response(
        "access-token-missing",
        "no `access_token`",
        TOKEN,
        unusable("token endpoint: `access_token` is missing"),
        |_, response| drop(response.remove("access_token")),
    ),
    response(
        "access-token-null",
        "`access_token` is null",
        TOKEN,
        unusable("token endpoint: `access_token` is missing"),
        |_, response| response["access_token"] = Value::Null,
    ),
    response(
        "access-token-empty",
        "`access_token` is empty",
        TOKEN,
        NO_TOKEN,
        |_, response| {
            response["access_token"] = json!("");
        },
    ),
    response(
        "access-token-number",
        "`access_token` is a number",
        TOKEN,
        unusable("token endpoint: `access_token` is not a string"),
        |_, response| response["access_token"] = json!(Facts::NUMBER),
    ),
    response(
        "access-token-line-end",
        "`access_token` holds a line end and a header",
        TOKEN,
        NO_TOKEN,
        |facts, response| {
            response["access_token"] = json!(format!("a\r\nx-admin: {}", facts.canary));
        },
    ),
    response(
        "access-token-nul",
        "`access_token` holds a NUL",
        TOKEN,
        NO_TOKEN,
        |facts, response| {
            response["access_token"] = json!(format!("{}\0", facts.canary));
        },
    ),
    response(
        "access-token-space",
        "`access_token` holds a space",
        "RFC 6750 §2.1",
        NO_TOKEN,
        |facts, response| {
            response["access_token"] = json!(format!("a {}", facts.canary));
        },
    ),
    response(
        "access-token-umlaut",
        "`access_token` is not ASCII",
        "RFC 6750 §2.1",
        NO_TOKEN,
        |facts, response| {
            response["access_token"] = json!(format!("{}ü", facts.canary));
        },
    ),
    response(
        "access-token-of-another-answer",
        "`access_token` is not the one that the ID token's `at_hash` is for",
        "OIDC Core §3.1.3.8; oidcc-client-test-invalid-athash",
        unusable("id token: `at_hash` is not that of the access token"),
        |facts, response| response["access_token"] = json!(facts.canary),
    ),
    response(
        "refresh-token-list",
        "`refresh_token` is an array",
        "RFC 6749 §5.1, appendix A.17",
        unusable("token endpoint: `refresh_token` is not a string of ascii characters"),
        |facts, response| response["refresh_token"] = json!([facts.canary]),
    ),
    response(
        "refresh-token-line-end",
        "`refresh_token` ends with a line end",
        "RFC 6749 §5.1, appendix A.17",
        unusable("token endpoint: `refresh_token` is not a string of ascii characters"),
        |facts, response| response["refresh_token"] = json!(format!("{}\n", facts.canary)),
    ),
    response(
        "refresh-token-missing",
        "no `refresh_token`",
        "RFC 6749 §5.1: optional",
        ACCEPTED,
        |_, response| {
            drop(response.remove("refresh_token"));
        },
    ),
    response(
        "refresh-token-null",
        "`refresh_token` is null",
        "RFC 6749 §5.1",
        ACCEPTED,
        |_, response| {
            response["refresh_token"] = Value::Null;
        },
    ),
    response(
        "expires-in-missing",
        "no `expires_in`",
        "RFC 6749 §5.1: recommended",
        ACCEPTED,
        |_, response| {
            drop(response.remove("expires_in"));
        },
    ),
    response(
        "expires-in-text",
        "`expires_in` is the text `300`",
        LIFE,
        ACCEPTED,
        |_, response| {
            response["expires_in"] = json!("300");
        },
    ),
    response(
        "expires-in-fraction",
        "`expires_in` is 299.9",
        LIFE,
        ACCEPTED,
        |_, response| {
            response["expires_in"] = json!(299.9);
        },
    ),
    response(
        "expires-in-zero",
        "`expires_in` is 0",
        LIFE,
        ACCEPTED,
        |_, response| {
            response["expires_in"] = json!(0);
        },
    ),
    response(
        "expires-in-negative",
        "`expires_in` is negative: the token has expired",
        LIFE,
        ACCEPTED,
        |_, response| {
            response["expires_in"] = json!(-300);
        },
    ),
    response(
        "expires-in-huge",
        "`expires_in` is 1e300: the session ends all the same",
        LIFE,
        ACCEPTED,
        |_, response| {
            response["expires_in"] = json!(1e300);
        },
    ),
    response(
        "expires-in-words",
        "`expires_in` is a word",
        LIFE,
        NO_LIFE,
        |facts, response| {
            response["expires_in"] = json!(facts.canary);
        },
    ),
    response(
        "expires-in-infinite",
        "`expires_in` is the text `inf`",
        LIFE,
        NO_LIFE,
        |_, response| {
            response["expires_in"] = json!("inf");
        },
    ),
    response(
        "expires-in-object",
        "`expires_in` is an object",
        LIFE,
        NO_LIFE,
        |facts, response| {
            response["expires_in"] = json!({"seconds": facts.canary});
        },
    ),
    response(
        "refresh-expires-in-nonsense",
        "Keycloak's `refresh_expires_in` is nonsense",
        "no specification has it",
        ACCEPTED,
        |facts, response| drop(response.insert("refresh_expires_in".to_owned(), json!([facts.canary]))),
    ),
    response(
        "scope-reduced",
        "`scope` is less than what was asked for",
        "RFC 6749 §3.3",
        ACCEPTED,
        |_, response| drop(response.insert("scope".to_owned(), json!("openid"))),
    ),
    response(
        "id-token-missing",
        "no `id_token`",
        "OIDC Core §3.1.3.3",
        NO_ID_TOKEN,
        |_, response| {
            drop(response.remove("id_token"));
        },
    ),
    response(
        "id-token-null",
        "`id_token` is null",
        "OIDC Core §3.1.3.3",
        NO_ID_TOKEN,
        |_, response| {
            response["id_token"] = Value::Null;
        },
    ),
    response(
        "id-token-empty",
        "`id_token` is empty",
        "OIDC Core §3.1.3.3",
        NO_ID_TOKEN,
        |_, response| {
            response["id_token"] = json!("");
        },
    ),
    response(
        "id-token-json-serialization",
        "`id_token` is a signed object (JWS JSON serialization)",
        "RFC 7519 §1: compact",
        unusable("token endpoint: `id_token` is not a string of ascii characters"),
        |facts, response| response["id_token"] = json!({"payload": facts.canary, "signatures": []}),
    ),
    response(
        "id-token-json-serialization-as-text",
        "`id_token` is the text of a signed object",
        "RFC 7519 §1: compact",
        unusable("id token: it is not a signed token of three parts"),
        |facts, response| {
            response["id_token"] = json!(json!({"payload": facts.canary, "signature": ""}).to_string());
        },
    ),
    response(
        "token-response-with-error",
        "tokens and an `error`",
        "RFC 6749 §5.2",
        unusable("token endpoint: a success that carries an `error`"),
        |facts, response| drop(response.insert("error".to_owned(), json!(facts.canary))),
    ),
    response(
        "token-response-with-strangers",
        "members that nobody knows",
        "RFC 6749 §5.1: ignored",
        ACCEPTED,
        |facts, response| {
            response.insert("not-before-policy".to_owned(), json!(0));
            response.insert(facts.canary.clone(), json!({"a": [{"b": null}]}));
        },
    ),
];
