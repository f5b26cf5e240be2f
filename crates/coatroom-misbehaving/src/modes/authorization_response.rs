//! What can be wrong in the query with which the browser comes back (RFC 6749 §4.1.2, RFC 9207).

use serde_json::json;

use crate::mode::{ACCEPTED, Mode, Place, Wanted, bad_request, mode, unusable};
use crate::twist::{Facts, Twist};

const fn response(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Vec<(String, String)>),
) -> Mode {
    mode(
        Place::AuthorizationResponse,
        id,
        wrong,
        source,
        wanted,
        Twist::AuthorizationResponse(change),
    )
}

/// Sets a parameter.
fn set(parameters: &mut [(String, String)], name: &str, value: impl Into<String>) {
    let place = parameters.iter_mut().find(|(there, _)| there == name);
    place.expect("a parameter of every response").1 = value.into();
}

fn remove(parameters: &mut Vec<(String, String)>, name: &str) {
    parameters.retain(|(there, _)| there != name);
}

fn add(parameters: &mut Vec<(String, String)>, name: &str, value: impl Into<String>) {
    parameters.push((name.to_owned(), value.into()));
}

/// An error in place of the code.
fn error(parameters: &mut Vec<(String, String)>, code: &str) {
    remove(parameters, "code");
    add(parameters, "error", code);
}

/// The provider does not say that it sends `iss`.
const WITHOUT_ISS: Twist = Twist::Metadata(|_, document| {
    document.remove("authorization_response_iss_parameter_supported");
});

const fn malformed(log: &'static str) -> Wanted {
    bad_request("invalid_request", log)
}

const fn state_invalid(log: &'static str) -> Wanted {
    bad_request("login_state_invalid", log)
}

const fn refused(log: &'static str) -> Wanted {
    bad_request("authorization_failed", log)
}

const NOT_THE_ISSUER: Wanted = state_invalid("`iss` is missing or not the configured `issuer`");
const TWICE: Wanted = malformed("a parameter of the authorization response appears twice");
const STATE: &str = "RFC 6749 §4.1.2, §10.12";
const ISS: &str = "RFC 9207 §2.4";

pub(super) const MODES: &[Mode] = &[
    response(
        "state-missing",
        "no `state`",
        STATE,
        state_invalid("`state` is missing"),
        |_, query| {
            remove(query, "state");
        },
    ),
    response(
        "state-empty",
        "`state` is empty",
        STATE,
        state_invalid("`state` is missing"),
        |_, query| {
            set(query, "state", "");
        },
    ),
    response(
        "state-other",
        "`state` is another",
        STATE,
        state_invalid("sign-in transaction not usable"),
        |facts, query| set(query, "state", &facts.canary),
    ),
    response(
        "state-goes-on",
        "`state` has something behind it",
        STATE,
        state_invalid("sign-in transaction not usable"),
        |facts, query| {
            let longer = query
                .iter()
                .find(|(name, _)| name == "state")
                .expect("it is there")
                .1
                .clone();
            set(query, "state", longer + &facts.canary);
        },
    ),
    response(
        "state-twice",
        "`state` twice, another second",
        "RFC 6749 §3.1",
        TWICE,
        |facts, query| {
            add(query, "state", &facts.canary);
        },
    ),
    response(
        "state-control-character",
        "`state` holds a line end",
        "RFC 6749 appendix A.5",
        malformed("`state` is malformed"),
        |facts, query| set(query, "state", format!("{}\r\nset-cookie: a=b", facts.canary)),
    ),
    response(
        "state-long",
        "`state` has 8,000 bytes",
        "a bound of Coatroom's own",
        malformed("`state` is malformed"),
        |facts, query| set(query, "state", facts.canary.repeat(8_000 / facts.canary.len())),
    ),
    response(
        "iss-missing",
        "no `iss`, although it was announced",
        ISS,
        NOT_THE_ISSUER,
        |_, query| {
            remove(query, "iss");
        },
    ),
    response(
        "iss-other",
        "`iss` is another",
        ISS,
        NOT_THE_ISSUER,
        |facts, query| {
            set(query, "iss", format!("https://{}.example", facts.canary));
        },
    ),
    response(
        "iss-trailing-slash",
        "`iss` has a slash more",
        ISS,
        NOT_THE_ISSUER,
        |facts, query| {
            set(query, "iss", format!("{}/", facts.issuer));
        },
    ),
    response(
        "iss-case",
        "`iss` has another case",
        ISS,
        NOT_THE_ISSUER,
        |facts, query| {
            set(query, "iss", facts.issuer.to_uppercase());
        },
    ),
    response("iss-empty", "`iss` is empty", ISS, NOT_THE_ISSUER, |_, query| {
        set(query, "iss", "")
    }),
    response(
        "iss-twice",
        "`iss` twice, another first",
        ISS,
        TWICE,
        |facts, query| {
            query.insert(0, ("iss".to_owned(), facts.canary.clone()));
        },
    ),
    response(
        "iss-control-character",
        "`iss` holds a control character",
        ISS,
        malformed("`iss` is malformed"),
        |facts, query| set(query, "iss", format!("{}\u{1b}[2J", facts.canary)),
    ),
    response(
        "iss-other-unannounced",
        "`iss` is another, and was not announced",
        ISS,
        NOT_THE_ISSUER,
        |facts, query| set(query, "iss", &facts.canary),
    )
    .and(WITHOUT_ISS),
    response(
        "iss-missing-unannounced",
        "no `iss`, and none was announced",
        ISS,
        ACCEPTED,
        |_, query| remove(query, "iss"),
    )
    .and(WITHOUT_ISS),
    response(
        "code-missing",
        "neither a code nor an error",
        "RFC 6749 §4.1.2",
        malformed("has no `code` and no `error`"),
        |_, query| remove(query, "code"),
    ),
    response(
        "code-empty",
        "an empty code",
        "RFC 6749 §4.1.2",
        malformed("has no `code` and no `error`"),
        |_, query| set(query, "code", ""),
    ),
    response(
        "code-twice",
        "two codes",
        "RFC 6749 §3.1",
        TWICE,
        |facts, query| {
            add(query, "code", &facts.canary);
        },
    ),
    response(
        "code-control-character",
        "a code with a NUL",
        "RFC 6749 appendix A.11",
        malformed("`code` is malformed"),
        |facts, query| set(query, "code", format!("{}\0", facts.canary)),
    ),
    response(
        "code-long",
        "a code of 12,000 bytes",
        "a bound of Coatroom's own",
        malformed("`code` is malformed"),
        |facts, query| set(query, "code", facts.canary.repeat(12_000 / facts.canary.len())),
    ),
    response(
        "code-unknown",
        "a code that the provider does not know",
        "RFC 6749 §5.2",
        state_invalid("the provider does not take this authorization code"),
        |facts, query| set(query, "code", &facts.canary),
    ),
    mode(
        Place::AuthorizationResponse,
        "code-of-another-sign-in",
        "the code of somebody else's sign-in, and the provider looks at PKCE",
        "RFC 9700 §4.5",
        state_invalid("the provider does not take this authorization code"),
        Twist::CodeOfAnotherSignIn,
    ),
    mode(
        Place::AuthorizationResponse,
        "code-of-another-sign-in-without-pkce",
        "the code of somebody else's sign-in, and the provider does not look at PKCE",
        "RFC 9700 §4.5.3.2",
        unusable("id token: `nonce` is not that of the sign-in"),
        Twist::CodeOfAnotherSignIn,
    )
    .and(Twist::NoPkce),
    response(
        "code-and-error",
        "a code and an error",
        "RFC 6749 §4.1.2.1",
        malformed("has both `code` and `error`"),
        |facts, query| add(query, "error", &facts.canary),
    ),
    response(
        "error-access-denied",
        "the user says no",
        "RFC 6749 §4.1.2.1",
        refused("the provider refused the authorization request: access_denied"),
        |facts, query| {
            error(query, "access_denied");
            add(query, "error_description", format!("<b>{}</b>", facts.canary));
            add(query, "error_uri", format!("{}/{}", facts.trap, facts.canary));
        },
    ),
    response(
        "error-login-required",
        "nobody is signed in at the provider",
        "OIDC Core §3.1.2.6",
        refused("the provider refused the authorization request: login_required"),
        |_, query| error(query, "login_required"),
    ),
    response(
        "error-unregistered",
        "an error that no specification knows",
        "RFC 6749 §4.1.2.1",
        refused("the provider refused the authorization request: an unregistered error"),
        |facts, query| error(query, &facts.canary),
    ),
    response(
        "error-without-state",
        "an error without `state`",
        "RFC 6749 §4.1.2.1",
        state_invalid("`state` is missing"),
        |_, query| {
            error(query, "access_denied");
            remove(query, "state");
        },
    ),
    response(
        "error-of-another-issuer",
        "an error, and `iss` is another",
        ISS,
        NOT_THE_ISSUER,
        |facts, query| {
            error(query, "access_denied");
            set(query, "iss", &facts.canary);
        },
    ),
    response(
        "error-twice",
        "two errors",
        "RFC 6749 §3.1",
        TWICE,
        |facts, query| {
            error(query, "access_denied");
            add(query, "error", &facts.canary);
        },
    ),
    response(
        "error-description-twice",
        "two descriptions of one error",
        "RFC 6749 §3.1",
        TWICE,
        |facts, query| {
            error(query, "access_denied");
            add(query, "error_description", &facts.canary);
            add(query, "error_description", &facts.canary);
        },
    ),
    response(
        "response-long",
        "a response of more than 16 KiB",
        "a bound of Coatroom's own",
        malformed("the authorization response is longer than 16 kib"),
        |facts, query| add(query, "x", facts.canary.repeat(20_000 / facts.canary.len())),
    ),
    response(
        "response-of-many-parameters",
        "a response with more than 64 parameters",
        "a bound of Coatroom's own",
        malformed("the authorization response has more than 64 parameters"),
        |facts, query| (0..80).for_each(|number| add(query, &format!("x{number}"), &facts.canary)),
    ),
    response(
        "response-with-tokens",
        "tokens in the front channel, which nobody asked for",
        "OAuth 2.0 Multiple Response Types §2.1; RFC 9700 §2.1.2",
        ACCEPTED,
        |facts, query| {
            add(query, "id_token", &facts.canary);
            add(query, "access_token", &facts.canary);
            add(query, "token_type", "Bearer");
        },
    ),
    response(
        "response-with-strangers",
        "parameters that nobody knows, twice",
        "RFC 6749 §4.1.2: ignored",
        ACCEPTED,
        |facts, query| {
            for name in ["session_state", "authuser", "utm_source", "utm_source"] {
                add(query, name, &facts.canary);
            }
            add(query, "claims", json!({"x": facts.canary}).to_string());
        },
    ),
];
