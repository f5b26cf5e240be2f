//! What can be wrong when metadata and keys are fetched again: what was good before stays in use.

use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::mode::{Mode, Place, accepted_with, mode};
use crate::twist::{Facts, Twist};

const fn renewal(id: &'static str, wrong: &'static str, log: &'static str, twist: Twist) -> Mode {
    mode(Place::Renewal, id, wrong, SOURCE, accepted_with(log), twist)
}

const fn document(
    id: &'static str,
    wrong: &'static str,
    log: &'static str,
    change: fn(&Facts, &mut Map<String, Value>),
) -> Mode {
    renewal(id, wrong, log, Twist::Metadata(change))
}

const fn metadata(
    id: &'static str,
    wrong: &'static str,
    log: &'static str,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    renewal(id, wrong, log, Twist::MetadataAnswer(change))
}

const fn keys(
    id: &'static str,
    wrong: &'static str,
    log: &'static str,
    change: fn(&Facts, Answer) -> Answer,
) -> Mode {
    renewal(id, wrong, log, Twist::KeysAnswer(change))
}

const SOURCE: &str = "OIDC Discovery §4.3";

pub(super) const MODES: &[Mode] = &[
    metadata(
        "renewal-500",
        "the metadata document: status 500",
        "metadata document: status 500",
        |facts, _| Answer::text(500, "text/html", facts.canary.clone()),
    ),
    metadata(
        "renewal-404",
        "the metadata document: status 404",
        "metadata document: expected status 200, got 404",
        |facts, _| Answer::text(404, "text/html", facts.canary.clone()),
    ),
    metadata(
        "renewal-redirect",
        "the metadata document: a redirect to another host",
        "metadata document: expected status 200, got 301",
        |facts, _| Answer::redirect(301, format!("{}/{}", facts.trap, facts.canary)),
    ),
    metadata(
        "renewal-html",
        "the metadata document: a page with status 200",
        "it is not a json object with unique members",
        |facts, _| Answer::text(200, "text/html", facts.canary.clone()),
    ),
    metadata(
        "renewal-closed",
        "the metadata document: no answer",
        "metadata document: the connection broke off",
        |_, _| Answer::closed(),
    ),
    document(
        "renewal-issuer-other",
        "`issuer` has become another",
        "`issuer` differs from the configured one",
        |facts, document| {
            document["issuer"] = json!(facts.canary);
        },
    ),
    document(
        "renewal-token-endpoint-http",
        "`token_endpoint` has moved to where there is no TLS",
        "`token_endpoint` cannot be used: plain http",
        |facts, document| {
            document["token_endpoint"] = json!(format!("http://{}.example/token", facts.canary));
        },
    ),
    document(
        "renewal-jwks-uri-missing",
        "`jwks_uri` has gone",
        "`jwks_uri` is missing",
        |_, document| {
            drop(document.remove("jwks_uri"));
        },
    ),
    keys(
        "renewal-keys-503",
        "the JWK set: status 503",
        "jwk set: status 503",
        |_, _| Answer::status(503),
    ),
    keys(
        "renewal-keys-html",
        "the JWK set: a page with status 200",
        "the jwk set: it is not a json object with unique members",
        |facts, _| Answer::text(200, "text/html", facts.canary.clone()),
    ),
    keys(
        "renewal-keys-cut-off",
        "the JWK set: breaks off",
        "jwk set: the connection broke off",
        |_, answer| answer.cut_off(),
    ),
];
