//! What can be wrong when the client asks for a token of its own (RFC 6749 §4.4.3).
//!
//! Data only. The client asks for the scope `catalogue:read`.

use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::mode::{ACCEPTED, Mode, Place, Wanted, mode, unavailable, unusable};
use crate::twist::{Facts, Twist};

const fn answer(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    let twist = Twist::TokenAnswer(change);
    mode(Place::ClientCredentials, id, wrong, source, wanted, twist)
}

const fn response(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Map<String, Value>),
) -> Mode {
    let twist = Twist::TokenResponse(change);
    mode(Place::ClientCredentials, id, wrong, source, wanted, twist)
}

const ERRORS: &str = "RFC 6749 §5.2";
const NO_JSON: Wanted = unusable("token endpoint: a success without a json object, or with a member twice");
const NO_ERROR: Wanted = unusable("token endpoint: status 4xx without a json `error`");

pub(super) const MODES: &[Mode] = &[
    response(
        "client-refresh-token",
        "a refresh token comes along",
        "RFC 6749 §4.4.3: should not",
        ACCEPTED,
        |facts, response| {
            response.insert("refresh_token".to_owned(), json!(facts.canary));
        },
    ),
    response(
        "client-id-token",
        "an ID token comes along, of nobody",
        "OIDC Core §3.1.3.3",
        ACCEPTED,
        |facts, response| {
            response.insert("id_token".to_owned(), json!(facts.canary));
        },
    ),
    response(
        "client-scope-missing",
        "no `scope`: as asked",
        "RFC 6749 §5.1",
        ACCEPTED,
        |_, response| {
            drop(response.remove("scope"));
        },
    ),
    response(
        "client-scope-fewer",
        "an empty `scope`",
        "RFC 6749 §5.1",
        ACCEPTED,
        |_, response| {
            response.insert("scope".to_owned(), json!(""));
        },
    ),
    response(
        "client-scope-more",
        "a scope more than was asked for",
        "RFC 6749 §3.3",
        unusable("token endpoint: more scopes were granted"),
        |facts, response| {
            let more = format!("catalogue:read {}", facts.canary);
            response.insert("scope".to_owned(), json!(more));
        },
    ),
    response(
        "client-scope-openid",
        "the scope of a user's sign-in",
        "RFC 6749 §3.3",
        unusable("token endpoint: more scopes were granted"),
        |_, response| {
            response.insert("scope".to_owned(), json!("catalogue:read openid"));
        },
    ),
    response(
        "client-scope-list",
        "`scope` is a list",
        "RFC 6749 §5.1",
        unusable("token endpoint: `scope` is not a string"),
        |_, response| {
            response.insert("scope".to_owned(), json!(["catalogue:read"]));
        },
    ),
    response(
        "client-type-missing",
        "no `token_type`",
        "RFC 6749 §5.1",
        unusable("token endpoint: `token_type` is missing"),
        |_, response| {
            drop(response.remove("token_type"));
        },
    ),
    response(
        "client-type-foreign",
        "`token_type` is one that nobody knows",
        "RFC 6749 §7.1",
        unusable("token endpoint: `token_type` is not Bearer"),
        |facts, response| {
            response["token_type"] = json!(facts.canary);
        },
    ),
    response(
        "client-type-dpop",
        "bound to a key that nobody showed",
        "RFC 9449 §5",
        unusable("token endpoint: `token_type` is not Bearer"),
        |_, response| {
            response["token_type"] = json!("DPoP");
        },
    ),
    response(
        "client-access-token-missing",
        "no `access_token`",
        "RFC 6749 §5.1",
        unusable("token endpoint: `access_token` is missing"),
        |_, response| {
            drop(response.remove("access_token"));
        },
    ),
    response(
        "client-access-token-empty",
        "an empty `access_token`",
        "RFC 6749 §5.1",
        unusable("token endpoint: `access_token` is empty"),
        |_, response| {
            response["access_token"] = json!("");
        },
    ),
    response(
        "client-access-token-list",
        "`access_token` is a list",
        "RFC 6749 §5.1",
        unusable("token endpoint: `access_token` is not a string"),
        |facts, response| {
            response["access_token"] = json!([facts.canary]);
        },
    ),
    response(
        "client-access-token-line-end",
        "`access_token` ends the header it would be in",
        "RFC 6750 §2.1; RFC 9110 §5.5",
        unusable("token endpoint: `access_token` is empty or not visible ascii"),
        |facts, response| {
            response["access_token"] = json!(format!("{}\r\nx: y", facts.canary));
        },
    ),
    response(
        "client-life-missing",
        "no `expires_in`",
        "RFC 6749 §5.1: recommended",
        ACCEPTED,
        |_, response| {
            drop(response.remove("expires_in"));
        },
    ),
    response(
        "client-life-long",
        "a life of three thousand years",
        "RFC 6749 §5.1",
        ACCEPTED,
        |_, response| {
            response["expires_in"] = json!(100_000_000_000_u64);
        },
    ),
    response(
        "client-life-zero",
        "the token is over as soon as it is there",
        "RFC 6749 §5.1",
        unusable("token endpoint: the token of client_credentials is over"),
        |_, response| {
            response["expires_in"] = json!(0);
        },
    ),
    response(
        "client-life-negative",
        "it was over before",
        "RFC 6749 §5.1",
        unusable("token endpoint: the token of client_credentials is over"),
        |_, response| {
            response["expires_in"] = json!(-300);
        },
    ),
    response(
        "client-life-in-words",
        "`expires_in` is a word",
        "RFC 6749 §5.1",
        unusable("token endpoint: `expires_in` is not a number"),
        |facts, response| {
            response["expires_in"] = json!(facts.canary);
        },
    ),
    response(
        "client-error-beside",
        "a success that carries an `error`",
        "RFC 6749 §5.1, §5.2",
        unusable("token endpoint: a success that carries an `error`"),
        |_, response| {
            response.insert("error".to_owned(), json!("invalid_scope"));
        },
    ),
    answer(
        "client-html",
        "a page with status 200",
        "RFC 6749 §5.1",
        NO_JSON,
        |facts, _| Answer::text(200, "text/html", facts.canary.clone()),
    ),
    answer(
        "client-array",
        "the response in an array",
        "RFC 6749 §5.1",
        NO_JSON,
        |_, answer| answer.edited(|text| format!("[{text}]")),
    ),
    answer(
        "client-access-token-twice",
        "`access_token` twice",
        "RFC 8259 §4",
        NO_JSON,
        |facts, answer| {
            let twice = format!("{{\"access_token\":\"{}\",", facts.canary);
            answer.edited(|text| text.replacen('{', &twice, 1))
        },
    ),
    answer(
        "client-cut-off",
        "the connection breaks off in the middle",
        "RFC 9112 §6.3",
        unavailable("token endpoint: "),
        |_, answer| answer.cut_off(),
    ),
    answer(
        "client-silent",
        "no answer",
        "RFC 9110 §15.6.5",
        unavailable("token endpoint: "),
        |_, _| Answer::silent(),
    ),
    answer(
        "client-invalid-client",
        "`invalid_client`",
        ERRORS,
        unusable("token endpoint: invalid_client: client_secret_basic is refused"),
        |_, _| Answer::error(401, "invalid_client"),
    ),
    answer(
        "client-401-empty",
        "status 401 and nothing more",
        ERRORS,
        unusable("token endpoint: invalid_client"),
        |_, _| Answer::status(401),
    ),
    answer(
        "client-unauthorized-client",
        "the grant is not allowed for this client",
        ERRORS,
        unusable("token endpoint: unauthorized_client: allow the grant client_credentials"),
        |_, _| Answer::error(400, "unauthorized_client"),
    ),
    answer(
        "client-invalid-scope",
        "the scope is not for this client",
        ERRORS,
        unusable("token endpoint: invalid_scope: check the `scopes` of the route"),
        |_, _| Answer::error(400, "invalid_scope"),
    ),
    answer(
        "client-unsupported",
        "the provider has no such grant",
        ERRORS,
        unusable("token endpoint: unsupported_grant_type: the provider has no client_credentials"),
        |_, _| Answer::error(400, "unsupported_grant_type"),
    ),
    answer(
        "client-invalid-grant",
        "`invalid_grant`: nobody's grant has ended",
        ERRORS,
        unusable("token endpoint: it speaks of a user's grant"),
        |_, _| Answer::error(400, "invalid_grant"),
    ),
    answer(
        "client-interaction-required",
        "a user should do something, and there is none",
        "OIDC Core §3.1.2.6",
        unusable("token endpoint: it speaks of a user's grant"),
        |_, _| Answer::error(400, "interaction_required"),
    ),
    answer(
        "client-unregistered-error",
        "an error that nobody knows",
        ERRORS,
        unusable("token endpoint: an unregistered error"),
        |facts, _| Answer::error(400, &facts.canary),
    ),
    answer(
        "client-400-empty",
        "status 400 and nothing more",
        ERRORS,
        NO_ERROR,
        |_, _| Answer::status(400),
    ),
    answer("client-404", "status 404", ERRORS, NO_ERROR, |_, _| {
        Answer::status(404)
    }),
    answer(
        "client-429",
        "status 429",
        ERRORS,
        unavailable("token endpoint: status 429"),
        |_, _| Answer::status(429),
    ),
    answer(
        "client-503",
        "status 503",
        "RFC 9110 §15.6.4",
        unavailable("token endpoint: status 5xx"),
        |facts, _| Answer::text(503, "text/html", facts.canary.clone()),
    ),
    answer(
        "client-redirect",
        "a redirect elsewhere",
        "RFC 9700 §4.12",
        unusable("token endpoint: a redirect or another status"),
        |facts, _| Answer::redirect(308, format!("{}/{}", facts.trap, facts.canary)),
    ),
];
