//! What can be wrong with the answer that holds the metadata document.

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
    mode(
        Place::Discovery,
        id,
        wrong,
        source,
        wanted,
        Twist::MetadataAnswer(change),
    )
}

const STATUS: &str = "OIDC Discovery §4.2: 200";
const JSON: &str = "RFC 8259 §2";
const NO_JSON: Wanted = unusable("the metadata document: it is not a json object with unique members");

pub(super) const MODES: &[Mode] = &[
    answer(
        "discovery-500",
        "status 500",
        STATUS,
        unavailable("metadata document: status 500"),
        |facts, _| Answer::text(500, "text/html", facts.canary.clone()),
    ),
    answer(
        "discovery-503",
        "status 503 for an hour",
        STATUS,
        unavailable("metadata document: status 503"),
        |_, _| Answer::status(503).header("retry-after", "3600"),
    ),
    answer(
        "discovery-429",
        "status 429",
        STATUS,
        unavailable("metadata document: status 429"),
        |_, _| Answer::status(429),
    ),
    answer(
        "discovery-404",
        "status 404",
        STATUS,
        unusable("metadata document: expected status 200, got 404; check `issuer`"),
        |facts, _| Answer::text(404, "text/html", facts.canary.clone()),
    ),
    answer(
        "discovery-401",
        "status 401 with a challenge",
        STATUS,
        unusable("metadata document: expected status 200, got 401"),
        |facts, _| Answer::status(401).header("www-authenticate", format!("Basic realm={}", facts.canary)),
    ),
    answer(
        "discovery-204",
        "status 204",
        STATUS,
        unusable("metadata document: expected status 200, got 204"),
        |_, _| Answer::raw(b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n"),
    ),
    answer(
        "discovery-206",
        "status 206 with the whole document",
        STATUS,
        unusable("metadata document: expected status 200, got 206"),
        |_, answer| answer.with_status(206),
    ),
    answer(
        "discovery-redirect",
        "a redirect to another host",
        STATUS,
        unusable("metadata document: expected status 200, got 302"),
        |facts, _| Answer::redirect(302, format!("{}/{}", facts.trap, facts.canary)),
    ),
    answer(
        "discovery-redirect-permanent",
        "a permanent redirect to another host",
        STATUS,
        unusable("metadata document: expected status 200, got 308"),
        |facts, _| Answer::redirect(308, format!("{}/{}", facts.trap, facts.canary)),
    ),
    answer(
        "discovery-html",
        "a page with status 200",
        JSON,
        NO_JSON,
        |facts, _| Answer::text(200, "text/html", format!("<html>{}</html>", facts.canary)),
    ),
    answer(
        "discovery-empty",
        "nothing with status 200",
        JSON,
        NO_JSON,
        |_, _| Answer::status(200),
    ),
    answer(
        "discovery-array",
        "the document in an array",
        JSON,
        NO_JSON,
        |_, answer| answer.edited(|text| format!("[{text}]")),
    ),
    answer(
        "discovery-issuer-twice",
        "`issuer` twice, another one first",
        "RFC 8259 §4",
        NO_JSON,
        |facts, answer| {
            let twice = format!("{{\"issuer\":\"{}\",", facts.canary);
            answer.edited(|text| text.replacen('{', &twice, 1))
        },
    ),
    answer(
        "discovery-issuer-twice-escaped",
        "`issuer` twice, once with an escaped letter",
        "RFC 8259 §8.3",
        NO_JSON,
        |facts, answer| {
            let twice = format!("{{\"\\u0069ssuer\":\"{}\",", facts.canary);
            answer.edited(|text| text.replacen('{', &twice, 1))
        },
    ),
    answer(
        "discovery-member-twice-below",
        "a member of a member twice",
        "RFC 8259 §4",
        NO_JSON,
        |facts, answer| {
            let twice = format!("{{\"x\":{{\"a\":\"{}\",\"a\":1}},", facts.canary);
            answer.edited(|text| text.replacen('{', &twice, 1))
        },
    ),
    answer(
        "discovery-not-utf8",
        "a byte that is no UTF-8",
        "RFC 8259 §8.1",
        NO_JSON,
        |_, answer| {
            let mut body = answer.body.clone();
            body.splice(1..1, *b"\"x\":\"\xff\",");
            answer.with_body(body)
        },
    ),
    answer(
        "discovery-utf16",
        "in UTF-16",
        "RFC 8259 §8.1",
        NO_JSON,
        |_, answer| {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            answer.with_body(
                text.encode_utf16()
                    .flat_map(u16::to_be_bytes)
                    .collect::<Vec<u8>>(),
            )
        },
    ),
    answer(
        "discovery-byte-order-mark",
        "a byte order mark in front",
        "RFC 8259 §8.1: must not be added",
        NO_JSON,
        |_, answer| answer.edited(|text| format!("\u{feff}{text}")),
    ),
    answer(
        "discovery-deep",
        "a member that is nested 100,000 times",
        "RFC 8259 §9",
        NO_JSON,
        |_, answer| {
            let deep = format!("{{\"x\":{}{},", "[".repeat(100_000), "]".repeat(100_000));
            answer.edited(|text| text.replacen('{', &deep, 1))
        },
    ),
    answer(
        "discovery-trailing-garbage",
        "something behind the object",
        JSON,
        NO_JSON,
        |facts, answer| answer.edited(|text| format!("{text}{{\"issuer\":\"{}\"}}", facts.canary)),
    ),
    answer(
        "discovery-comment",
        "a comment in front",
        JSON,
        NO_JSON,
        |facts, answer| answer.edited(|text| format!("/* {} */{text}", facts.canary)),
    ),
    answer(
        "discovery-number-out-of-range",
        "a number that no float holds",
        "RFC 8259 §6",
        NO_JSON,
        |_, answer| answer.edited(|text| text.replacen('{', "{\"x\":1e400,", 1)),
    ),
    answer(
        "discovery-gzip",
        "compressed, although nobody asked for it",
        "RFC 9110 §12.5.3",
        NO_JSON,
        |_, answer| answer.gzipped(),
    ),
    answer(
        "discovery-huge",
        "ten mebibytes",
        "a bound of Coatroom's own",
        unavailable("metadata document: its answer is longer than 1 mib"),
        |_, answer| answer.huge(),
    ),
    answer(
        "discovery-endless",
        "chunks without end",
        "a bound of Coatroom's own",
        unavailable("metadata document: its answer is longer than 1 mib"),
        |_, answer| answer.endless(),
    ),
    answer(
        "discovery-length-too-long",
        "breaks off before the announced length",
        "RFC 9112 §8",
        unavailable("metadata document: the connection broke off"),
        |_, answer| answer.cut_off(),
    ),
    answer(
        "discovery-length-too-short",
        "announces half of its length",
        "RFC 9112 §6.3",
        NO_JSON,
        |_, answer| answer.announced_too_short(),
    ),
    answer(
        "discovery-two-lengths",
        "announces two lengths",
        "RFC 9112 §6.3",
        unavailable("metadata document: the connection broke off"),
        |_, answer| answer.announced_twice(),
    ),
    answer(
        "discovery-no-http",
        "an answer that is no HTTP",
        "RFC 9112 §2",
        unavailable("metadata document: the connection broke off"),
        |_, _| Answer::raw(b"SSH-2.0-OpenSSH_9.2p1 canary.discovery-no-http\r\n"),
    ),
    answer(
        "discovery-closed",
        "closes the connection without an answer",
        "RFC 9112 §9.5",
        unavailable("metadata document: the connection broke off"),
        |_, _| Answer::closed(),
    ),
    answer(
        "discovery-silent",
        "never answers",
        "a deadline: `provider.timeout`",
        unavailable("metadata document: it did not answer in time"),
        |_, _| Answer::silent(),
    ),
    answer(
        "discovery-stalled",
        "stops in the middle of a chunk",
        "a deadline: `provider.timeout`",
        unavailable("metadata document: it did not answer in time"),
        |_, answer| answer.stalled(),
    ),
    answer(
        "discovery-as-text",
        "the document as `text/plain`",
        "OIDC Discovery §4.2: application/json",
        ACCEPTED,
        |_, answer| answer.header("content-type", "text/plain"),
    ),
];
