//! What can be wrong when a refresh token is redeemed (RFC 6749 §6, OIDC Core §12).

use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::jwt::{Jwt, Signer};
use crate::mode::{ACCEPTED, Mode, Outcome, Place, Wanted, accepted_with, mode, unavailable, unusable};
use crate::twist::{Facts, Twist};

const fn answer(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    mode(
        Place::Refresh,
        id,
        wrong,
        source,
        wanted,
        Twist::TokenAnswer(change),
    )
}

const fn response(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Map<String, Value>),
) -> Mode {
    mode(
        Place::Refresh,
        id,
        wrong,
        source,
        wanted,
        Twist::TokenResponse(change),
    )
}

const fn token(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Jwt),
) -> Mode {
    mode(Place::Refresh, id, wrong, source, wanted, Twist::IdToken(change))
}

const SAME: &str = "OIDC Core §12.2";
const ERRORS: &str = "RFC 6749 §5.2";
const NO_JSON: Wanted = unusable("token endpoint: a success without a json object, or with a member twice");
const NO_ERROR: Wanted = unusable("token endpoint: status 4xx without a json `error`");
const NO_TOKEN_REQUEST: Wanted = unusable("token endpoint: a redirect or another status");
const ENDED: Wanted = Wanted {
    outcome: Outcome::SessionEnded,
    log: "the provider refused the refresh token (invalid_grant)",
};

pub(super) const MODES: &[Mode] = &[
    response(
        "refresh-without-refresh-token",
        "no new refresh token: the old one stays",
        "RFC 6749 §6",
        ACCEPTED,
        |_, response| {
            drop(response.remove("refresh_token"));
        },
    ),
    response(
        "refresh-with-empty-refresh-token",
        "an empty refresh token: the old one stays",
        "RFC 6749 §6",
        ACCEPTED,
        |_, response| {
            response["refresh_token"] = json!("");
        },
    ),
    response(
        "refresh-without-id-token",
        "no ID token: the old one stays",
        "OIDC Core §12.2",
        ACCEPTED,
        |_, response| {
            drop(response.remove("id_token"));
        },
    ),
    response(
        "refresh-without-life",
        "no `expires_in`",
        "RFC 6749 §5.1: recommended",
        ACCEPTED,
        |_, response| {
            drop(response.remove("expires_in"));
        },
    ),
    response(
        "refresh-type-foreign",
        "`token_type` is one that nobody knows",
        "RFC 6749 §7.1",
        unusable("token endpoint: `token_type`"),
        |facts, response| {
            response["token_type"] = json!(facts.canary);
        },
    ),
    response(
        "refresh-type-missing",
        "no `token_type`",
        "RFC 6749 §5.1",
        unusable("token endpoint: `token_type` is missing"),
        |_, response| {
            drop(response.remove("token_type"));
        },
    ),
    response(
        "refresh-access-token-missing",
        "no `access_token`",
        "RFC 6749 §5.1",
        unusable("token endpoint: `access_token` is missing"),
        |_, response| {
            drop(response.remove("access_token"));
        },
    ),
    response(
        "refresh-access-token-line-end",
        "`access_token` holds a line end and a header",
        "RFC 6749 appendix A.12",
        unusable("token endpoint: `access_token` is empty or not visible ascii"),
        |facts, response| response["access_token"] = json!(format!("a\r\nx-admin: {}", facts.canary)),
    ),
    response(
        "refresh-token-number",
        "`refresh_token` is a number",
        "RFC 6749 §5.1",
        unusable("token endpoint: `refresh_token` is not a string"),
        |_, response| {
            response["refresh_token"] = json!(Facts::NUMBER);
        },
    ),
    response(
        "refresh-life-in-words",
        "`expires_in` is a word",
        "RFC 6749 §5.1",
        unusable("token endpoint: `expires_in` is not a number"),
        |facts, response| {
            response["expires_in"] = json!(facts.canary);
        },
    ),
    response(
        "refresh-id-token-object",
        "`id_token` is an object",
        "RFC 7519 §1: compact",
        unusable("token endpoint: `id_token` is not a string"),
        |facts, response| {
            response["id_token"] = json!({"payload": facts.canary});
        },
    ),
    token(
        "refresh-sub-other",
        "the new ID token is another user's",
        "OIDC Core §12.2; oidcc-client-test-refresh-token-invalid-sub",
        unusable("id token: the refreshed token has another `sub`"),
        |facts, token| {
            token.claim("sub", json!(facts.canary));
        },
    ),
    token(
        "refresh-iss-other",
        "the new ID token is another issuer's",
        "OIDC Core §12.2; oidcc-client-test-refresh-token-invalid-issuer",
        unusable("id token: `iss` is not the issuer"),
        |facts, token| {
            token.claim("iss", json!(facts.canary));
        },
    ),
    token(
        "refresh-aud-other",
        "the new ID token is another client's",
        SAME,
        unusable("id token: `aud` does not contain `client_id`"),
        |facts, token| {
            token.claim("aud", json!(facts.canary));
        },
    ),
    token(
        "refresh-aud-more",
        "the new ID token has one more audience",
        SAME,
        unusable("id token: the refreshed token has another `aud`"),
        |facts, token| {
            token.claim("aud", json!(["shop", facts.canary]));
            token.claim("azp", json!("shop"));
        },
    ),
    token(
        "refresh-auth-time-other",
        "the new ID token is from another sign-in at the provider",
        SAME,
        unusable("id token: the refreshed token has another `auth_time`"),
        |facts, token| {
            token.claim("auth_time", json!(facts.now));
        },
    ),
    token(
        "refresh-nonce-other",
        "the new ID token has another `nonce`",
        SAME,
        unusable("id token: the refreshed token has another `nonce`"),
        |facts, token| {
            token.claim("nonce", json!(facts.canary));
        },
    ),
    token(
        "refresh-nonce-missing",
        "the new ID token has no `nonce`",
        "OIDC Core §12.2: should not have one",
        ACCEPTED,
        |_, token| {
            token.without("nonce");
        },
    ),
    token(
        "refresh-auth-time-missing",
        "the new ID token has no `auth_time`",
        "OIDC Core §12.2",
        ACCEPTED,
        |_, token| {
            token.without("auth_time");
        },
    ),
    token(
        "refresh-expired",
        "the new ID token has expired",
        SAME,
        unusable("id token: it has expired (`exp`)"),
        |facts, token| {
            token.claim("exp", json!(facts.now - 60));
        },
    ),
    token(
        "refresh-iat-missing",
        "the new ID token has no `iat`",
        SAME,
        unusable("id token: `iat` is missing"),
        |_, token| {
            token.without("iat");
        },
    ),
    token(
        "refresh-at-hash-other",
        "the new ID token's `at_hash` is another",
        "OIDC Core §3.1.3.8",
        unusable("id token: `at_hash` is not that of the access token"),
        |facts, token| {
            token.claim("at_hash", json!(facts.canary));
        },
    ),
    token(
        "refresh-alg-none",
        "the new ID token is not signed",
        "RFC 8725 §3.2",
        unusable("id token: `alg` is none, symmetric or unknown"),
        |_, token| {
            token.header["alg"] = json!("none");
            token.signer = Signer::Bytes(Vec::new());
        },
    ),
    token(
        "refresh-rogue-key",
        "the new ID token is signed with another's key under the name of ours",
        "OIDC Core §10.1",
        unusable("id token: its signature is wrong"),
        |_, token| {
            token.signer = Signer::Rogue;
        },
    ),
    token(
        "refresh-key-unknown",
        "the new ID token is signed with a key that is not published: the old one stays",
        "OIDC Core §10.1.1",
        accepted_with(
            "the refreshed ID token is signed with a key that the provider does not publish; the old one stays",
        ),
        |facts, token| {
            token.header["kid"] = json!(facts.canary);
            token.signer = Signer::Rogue;
        },
    ),
    token(
        "refresh-typ-access-token",
        "the new ID token is an access token",
        "RFC 8725 §3.11; RFC 9068 §2.1",
        unusable("id token: its `typ` is that of another kind of token"),
        |_, token| {
            token.header["typ"] = json!("at+jwt");
        },
    ),
    answer(
        "refresh-invalid-grant",
        "`invalid_grant`: the one answer that ends a session",
        ERRORS,
        ENDED,
        |facts, _| {
            let body = format!(
                "{{\"error\":\"invalid_grant\",\"error_description\":\"{}\"}}",
                facts.canary
            );
            Answer::text(400, "application/json", body)
        },
    ),
    answer(
        "refresh-invalid-grant-403",
        "`invalid_grant` with status 403, as Auth0 has it",
        ERRORS,
        ENDED,
        |_, _| Answer::error(403, "invalid_grant"),
    ),
    answer(
        "refresh-invalid-grant-500",
        "`invalid_grant` with status 500",
        ERRORS,
        unavailable("token endpoint: status 5xx"),
        |_, _| Answer::error(500, "invalid_grant"),
    ),
    answer(
        "refresh-invalid-grant-200",
        "`invalid_grant` with status 200",
        ERRORS,
        unusable("token endpoint: "),
        |_, _| Answer::error(200, "invalid_grant"),
    ),
    answer(
        "refresh-invalid-grant-302",
        "`invalid_grant` with a redirect to another host",
        ERRORS,
        NO_TOKEN_REQUEST,
        |facts, _| {
            Answer::error(302, "invalid_grant").header("location", format!("{}/{}", facts.trap, facts.canary))
        },
    ),
    answer(
        "refresh-invalid-grant-404",
        "`invalid_grant` with status 404",
        ERRORS,
        unusable("token endpoint: "),
        |_, _| Answer::error(404, "invalid_grant"),
    ),
    answer(
        "refresh-invalid-grant-capital",
        "`INVALID_GRANT`",
        ERRORS,
        unusable("token endpoint: an unregistered error"),
        |_, _| Answer::error(400, "INVALID_GRANT"),
    ),
    answer(
        "refresh-invalid-grant-list",
        "`invalid_grant` in an array",
        ERRORS,
        NO_ERROR,
        |facts, _| {
            Answer::text(
                400,
                "application/json",
                format!("{{\"error\":[\"invalid_grant\",\"{}\"]}}", facts.canary),
            )
        },
    ),
    answer(
        "refresh-invalid-grant-second",
        "`error` twice, `invalid_grant` second",
        "RFC 8259 §4",
        NO_ERROR,
        |_, _| {
            Answer::text(
                400,
                "application/json",
                "{\"error\":\"invalid_client\",\"error\":\"invalid_grant\"}",
            )
        },
    ),
    answer(
        "refresh-invalid-grant-described",
        "another error that describes itself as `invalid_grant`",
        ERRORS,
        unusable("token endpoint: invalid_request"),
        |_, _| {
            Answer::text(
                400,
                "application/json",
                "{\"error\":\"invalid_request\",\"error_description\":\"invalid_grant\"}",
            )
        },
    ),
    answer(
        "refresh-400-empty",
        "status 400 without a body, as Glewlwyd has it",
        ERRORS,
        NO_ERROR,
        |_, _| Answer::status(400),
    ),
    answer(
        "refresh-400-html",
        "status 400 with a page",
        ERRORS,
        NO_ERROR,
        |facts, _| {
            Answer::text(
                400,
                "text/html",
                format!("<html>invalid_grant {}</html>", facts.canary),
            )
        },
    ),
    answer(
        "refresh-401-empty",
        "status 401 without a body",
        ERRORS,
        unusable("token endpoint: invalid_client: client_secret_basic is refused; check `client_id`"),
        |_, _| Answer::status(401),
    ),
    answer(
        "refresh-401-invalid-client",
        "`invalid_client`",
        ERRORS,
        unusable("token endpoint: invalid_client"),
        |_, _| Answer::error(401, "invalid_client"),
    ),
    answer(
        "refresh-403-html",
        "status 403 with a page, as a firewall has it",
        ERRORS,
        NO_ERROR,
        |facts, _| Answer::text(403, "text/html", facts.canary.clone()),
    ),
    answer("refresh-404", "status 404", ERRORS, NO_ERROR, |_, _| {
        Answer::status(404)
    }),
    answer(
        "refresh-429",
        "status 429",
        ERRORS,
        unavailable("token endpoint: status 429"),
        |_, _| Answer::status(429),
    ),
    answer(
        "refresh-503",
        "status 503",
        ERRORS,
        unavailable("token endpoint: status 5xx"),
        |facts, _| Answer::text(503, "text/html", facts.canary.clone()),
    ),
    answer(
        "refresh-redirect",
        "a redirect to another host that repeats method and body",
        "RFC 9700 §4.12",
        NO_TOKEN_REQUEST,
        |facts, _| Answer::redirect(308, format!("{}/{}", facts.trap, facts.canary)),
    ),
    answer(
        "refresh-html",
        "a page with status 200",
        "RFC 6749 §5.1",
        NO_JSON,
        |facts, _| Answer::text(200, "text/html", facts.canary.clone()),
    ),
    answer(
        "refresh-access-token-twice",
        "`access_token` twice, another first",
        "RFC 8259 §4",
        NO_JSON,
        |facts, answer| {
            let twice = format!("{{\"access_token\":\"{}\",", facts.canary);
            answer.edited(|text| text.replacen('{', &twice, 1))
        },
    ),
    answer(
        "refresh-gzip",
        "compressed, although nobody asked for it",
        "RFC 9110 §12.5.3",
        NO_JSON,
        |_, answer| answer.gzipped(),
    ),
    answer(
        "refresh-huge",
        "ten mebibytes",
        "a bound of Coatroom's own",
        unavailable("token endpoint: its answer is longer than 1 mib"),
        |_, answer| answer.huge(),
    ),
    answer(
        "refresh-cut-off",
        "breaks off before the announced length",
        "RFC 9112 §8",
        unavailable("token endpoint: the connection broke off"),
        |_, answer| answer.cut_off(),
    ),
    answer(
        "refresh-closed",
        "closes the connection without an answer",
        "RFC 9112 §9.5",
        unavailable("token endpoint: the connection broke off"),
        |_, _| Answer::closed(),
    ),
    answer(
        "refresh-silent",
        "never answers",
        "a deadline: `provider.timeout`",
        unavailable("token endpoint: it did not answer in time"),
        |_, _| Answer::silent(),
    ),
];
