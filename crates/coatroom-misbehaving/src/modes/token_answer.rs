//! What can be wrong with an answer of the token endpoint as a whole (RFC 6749 §5.2, RFC 9112).

use crate::answer::Answer;
use crate::mode::{ACCEPTED, Mode, Place, Wanted, bad_request, mode, unavailable, unusable};
use crate::twist::{Facts, Twist};

const fn answer(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    mode(
        Place::TokenEndpoint,
        id,
        wrong,
        source,
        wanted,
        Twist::TokenAnswer(change),
    )
}

const JSON: &str = "RFC 6749 §5.1; RFC 8259";
const ERRORS: &str = "RFC 6749 §5.2";
const NO_JSON: Wanted = unusable("token endpoint: a success without a json object, or with a member twice");
const NO_TOKEN_REQUEST: Wanted = unusable("token endpoint: a redirect or another status");
const NO_ERROR: Wanted = unusable("token endpoint: status 4xx without a json `error`");

pub(super) const MODES: &[Mode] = &[
    answer(
        "token-html",
        "a page with status 200",
        JSON,
        NO_JSON,
        |facts, _| Answer::text(200, "text/html", format!("<html>{}</html>", facts.canary)),
    ),
    answer("token-empty", "nothing with status 200", JSON, NO_JSON, |_, _| {
        Answer::status(200)
    }),
    answer(
        "token-array",
        "the response in an array",
        JSON,
        NO_JSON,
        |_, answer| answer.edited(|text| format!("[{text}]")),
    ),
    answer(
        "token-form",
        "the response as a form",
        JSON,
        NO_JSON,
        |facts, _| {
            let form = format!("access_token={}&token_type=bearer", facts.canary);
            Answer::text(200, "application/x-www-form-urlencoded", form)
        },
    ),
    answer(
        "token-cut-off-json",
        "half of the response",
        JSON,
        NO_JSON,
        |_, answer| answer.edited(|text| text[..text.len() / 2].to_owned()),
    ),
    answer(
        "token-trailing-garbage",
        "something behind the response",
        JSON,
        NO_JSON,
        |facts, answer| answer.edited(|text| text + &facts.canary),
    ),
    answer(
        "token-not-utf8",
        "a byte that is no UTF-8",
        JSON,
        NO_JSON,
        |_, answer| {
            let mut body = answer.body.clone();
            body.splice(1..1, *b"\"scope\":\"\xc3\x28\",");
            answer.with_body(body)
        },
    ),
    answer(
        "token-access-token-twice",
        "`access_token` twice, another first",
        "RFC 6749 §5.1; RFC 8259 §4",
        NO_JSON,
        |facts, answer| {
            let twice = format!("{{\"access_token\":\"{}\",", facts.canary);
            answer.edited(|text| text.replacen('{', &twice, 1))
        },
    ),
    answer(
        "token-id-token-twice-escaped",
        "`id_token` twice, once with an escaped letter",
        "RFC 8259 §8.3",
        NO_JSON,
        |facts, answer| {
            let twice = format!("{{\"\\u0069d_token\":\"{}\",", facts.canary);
            answer.edited(|text| text.replacen('{', &twice, 1))
        },
    ),
    answer(
        "token-life-out-of-range",
        "`expires_in` is 1e400, which no float holds",
        "RFC 8259 §6",
        NO_JSON,
        |_, answer| answer.edited(|text| text.replace("\"expires_in\":300", "\"expires_in\":1e400")),
    ),
    answer(
        "token-gzip",
        "compressed, although nobody asked for it",
        "RFC 9110 §12.5.3",
        NO_JSON,
        |_, answer| answer.gzipped(),
    ),
    answer(
        "token-length-too-short",
        "announces half of its length",
        "RFC 9112 §6.3",
        NO_JSON,
        |_, answer| answer.announced_too_short(),
    ),
    answer("token-204", "status 204", JSON, NO_JSON, |_, _| {
        Answer::raw(b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n")
    }),
    answer(
        "token-as-html",
        "the response as `text/html`",
        "RFC 6749 §5.1: application/json",
        ACCEPTED,
        |_, answer| answer.header("content-type", "text/html"),
    ),
    answer(
        "token-201",
        "the response with status 201",
        "RFC 6749 §5.1: 200",
        ACCEPTED,
        |_, answer| answer.with_status(201),
    ),
    answer(
        "token-cached",
        "the response may be cached",
        "RFC 6749 §5.1: no-store",
        ACCEPTED,
        |_, answer| answer.header("cache-control", "public, max-age=3600"),
    ),
    answer(
        "token-sets-a-cookie",
        "the response sets a cookie",
        "nobody keeps it",
        ACCEPTED,
        |facts, answer| answer.header("set-cookie", format!("a={}", facts.canary)),
    ),
    answer(
        "token-early-hints",
        "an informational response in front",
        "RFC 9110 §15.2",
        NO_JSON,
        |_, _| {
            Answer::raw(b"HTTP/1.1 103 X\r\nlink: </x>\r\n\r\nHTTP/1.1 200 X\r\nconnection: close\r\n\r\n")
        },
    ),
    answer(
        "token-redirect",
        "a redirect to another host, which would get the code",
        "RFC 9700 §4.12",
        NO_TOKEN_REQUEST,
        |facts, _| Answer::redirect(302, format!("{}/{}", facts.trap, facts.canary)),
    ),
    answer(
        "token-redirect-with-body",
        "a redirect to another host that repeats method and body: it would get code and secret",
        "RFC 9700 §4.12",
        NO_TOKEN_REQUEST,
        |facts, _| Answer::redirect(307, format!("{}/{}", facts.trap, facts.canary)),
    ),
    answer("token-304", "status 304", ERRORS, NO_TOKEN_REQUEST, |_, _| {
        Answer::raw(b"HTTP/1.1 304 X\r\nconnection: close\r\n\r\n")
    }),
    answer(
        "token-400-empty",
        "status 400 without a body, as Glewlwyd has it",
        ERRORS,
        NO_ERROR,
        |_, _| Answer::status(400),
    ),
    answer(
        "token-400-html",
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
        "token-400-list",
        "status 400 with an array as `error`",
        ERRORS,
        NO_ERROR,
        |facts, _| {
            let body = format!("{{\"error\":[\"invalid_grant\",\"{}\"]}}", facts.canary);
            Answer::text(400, "application/json", body)
        },
    ),
    answer(
        "token-400-unregistered",
        "an error that no specification knows",
        ERRORS,
        unusable("token endpoint: an unregistered error"),
        |facts, _| Answer::error(400, &facts.canary),
    ),
    answer(
        "token-400-invalid-request",
        "`invalid_request`, with a description",
        ERRORS,
        unusable("token endpoint: invalid_request"),
        |facts, _| {
            let body = format!(
                "{{\"error\":\"invalid_request\",\"error_description\":\"{}\"}}",
                facts.canary
            );
            Answer::text(400, "application/json", body)
        },
    ),
    answer(
        "token-400-invalid-grant",
        "`invalid_grant`",
        ERRORS,
        bad_request(
            "login_state_invalid",
            "the provider does not take this authorization code",
        ),
        |_, _| Answer::error(400, "invalid_grant"),
    ),
    answer(
        "token-400-unauthorized-client",
        "`unauthorized_client`",
        ERRORS,
        unusable("token endpoint: unauthorized_client"),
        |_, _| Answer::error(400, "unauthorized_client"),
    ),
    answer(
        "token-400-try-later",
        "`temporarily_unavailable`",
        ERRORS,
        unavailable("token endpoint: the error says to try later"),
        |_, _| Answer::error(400, "temporarily_unavailable"),
    ),
    answer(
        "token-401-empty",
        "status 401 without a body",
        ERRORS,
        unusable("token endpoint: invalid_client: client_secret_basic is refused; check `client_id`"),
        |_, _| Answer::status(401),
    ),
    answer(
        "token-401-invalid-client",
        "`invalid_client`, with a challenge",
        ERRORS,
        unusable("token endpoint: invalid_client"),
        |facts, _| {
            Answer::error(401, "invalid_client")
                .header("www-authenticate", format!("Basic realm={}", facts.canary))
        },
    ),
    answer(
        "token-403-html",
        "status 403 with a page, as a firewall has it",
        ERRORS,
        NO_ERROR,
        |facts, _| Answer::text(403, "text/html", facts.canary.clone()),
    ),
    answer("token-404", "status 404", ERRORS, NO_ERROR, |_, _| {
        Answer::status(404)
    }),
    answer(
        "token-408",
        "status 408",
        ERRORS,
        unavailable("token endpoint: status 408"),
        |_, _| Answer::status(408),
    ),
    answer(
        "token-429",
        "status 429",
        ERRORS,
        unavailable("token endpoint: status 429"),
        |_, _| Answer::status(429).header("retry-after", "99999999999999999999"),
    ),
    answer(
        "token-500-invalid-grant",
        "status 500 with `invalid_grant`",
        ERRORS,
        unavailable("token endpoint: status 5xx"),
        |_, _| Answer::error(500, "invalid_grant"),
    ),
    answer(
        "token-503",
        "status 503",
        ERRORS,
        unavailable("token endpoint: status 5xx"),
        |facts, _| Answer::text(503, "text/html", facts.canary.clone()),
    ),
    answer(
        "token-status-unknown",
        "status 799",
        "RFC 9110 §15",
        NO_TOKEN_REQUEST,
        |_, answer| answer.with_status(799),
    ),
    answer(
        "token-huge",
        "ten mebibytes",
        "a bound of Coatroom's own",
        unavailable("token endpoint: its answer is longer than 1 mib"),
        |_, answer| answer.huge(),
    ),
    answer(
        "token-endless",
        "chunks without end",
        "a bound of Coatroom's own",
        unavailable("token endpoint: its answer is longer than 1 mib"),
        |_, answer| answer.endless(),
    ),
    answer(
        "token-length-too-long",
        "breaks off before the announced length",
        "RFC 9112 §8",
        unavailable("token endpoint: the connection broke off"),
        |_, answer| answer.cut_off(),
    ),
    answer(
        "token-two-lengths",
        "announces two lengths",
        "RFC 9112 §6.3",
        unavailable("token endpoint: the connection broke off"),
        |_, answer| answer.announced_twice(),
    ),
    answer(
        "token-no-http",
        "an answer that is no HTTP",
        "RFC 9112 §2",
        unavailable("token endpoint: the connection broke off"),
        |_, _| Answer::raw(b"220 canary.token-no-http ESMTP\r\n"),
    ),
    answer(
        "token-closed",
        "closes the connection without an answer",
        "RFC 9112 §9.5",
        unavailable("token endpoint: the connection broke off"),
        |_, _| Answer::closed(),
    ),
    answer(
        "token-silent",
        "never answers",
        "a deadline: `provider.timeout`",
        unavailable("token endpoint: it did not answer in time"),
        |_, _| Answer::silent(),
    ),
    answer(
        "token-stalled",
        "stops in the middle of a chunk",
        "a deadline: `provider.timeout`",
        unavailable("token endpoint: it did not answer in time"),
        |_, answer| answer.stalled(),
    ),
];
