//! What can be wrong when tokens are revoked at sign-out (RFC 7009): a sign-out never waits for it.

use crate::answer::Answer;
use crate::mode::{Mode, Place, accepted_with, mode};
use crate::twist::{Facts, Twist};

const fn answer(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    log: &'static str,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    mode(
        Place::Revocation,
        id,
        wrong,
        source,
        accepted_with(log),
        Twist::RevocationAnswer(change),
    )
}

const ANSWERS: &str = "RFC 7009 §2.2";
const REFUSED: &str = "a token could not be revoked";

pub(super) const MODES: &[Mode] = &[
    answer(
        "revocation-400",
        "`unsupported_token_type`",
        "RFC 7009 §2.2.1",
        REFUSED,
        |facts, _| Answer::error(400, &facts.canary),
    ),
    answer("revocation-401", "`invalid_client`", ANSWERS, REFUSED, |_, _| {
        Answer::error(401, "invalid_client")
    }),
    answer("revocation-404", "status 404", ANSWERS, REFUSED, |facts, _| {
        Answer::text(404, "text/html", facts.canary.clone())
    }),
    answer("revocation-503", "status 503", ANSWERS, REFUSED, |_, _| {
        Answer::status(503)
    }),
    answer(
        "revocation-redirect",
        "a redirect to another host that repeats the token",
        ANSWERS,
        REFUSED,
        |facts, _| Answer::redirect(307, format!("{}/{}", facts.trap, facts.canary)),
    ),
    answer(
        "revocation-huge",
        "ten mebibytes",
        ANSWERS,
        REFUSED,
        |_, answer| answer.huge(),
    ),
    answer(
        "revocation-closed",
        "closes the connection without an answer",
        ANSWERS,
        REFUSED,
        |_, _| Answer::closed(),
    ),
    answer("revocation-silent", "never answers", ANSWERS, REFUSED, |_, _| {
        Answer::silent()
    }),
    answer(
        "revocation-200-html",
        "a page with status 200",
        ANSWERS,
        "",
        |facts, _| Answer::text(200, "text/html", facts.canary.clone()),
    ),
    answer("revocation-204", "status 204", ANSWERS, "", |_, _| {
        Answer::raw(b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n")
    }),
];
