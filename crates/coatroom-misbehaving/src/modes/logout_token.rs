//! What can be wrong with a logout token (OpenID Connect Back-Channel Logout 1.0 §2.4 to §2.6).

use serde_json::{Value, json};

use crate::jwt::{Jwt, Signer};
use crate::mode::{ACCEPTED, Mode, Place, Wanted, bad_request, mode};
use crate::twist::{Facts, Twist};
use crate::{CLIENT_ID, SUBJECT};

const fn token(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Jwt),
) -> Mode {
    mode(
        Place::LogoutToken,
        id,
        wrong,
        source,
        wanted,
        Twist::LogoutToken(change),
    )
}

const fn request(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &str) -> String,
) -> Mode {
    mode(
        Place::LogoutToken,
        id,
        wrong,
        source,
        wanted,
        Twist::LogoutRequest(change),
    )
}

/// The fault of whoever called.
const fn refused(log: &'static str) -> Wanted {
    bad_request("invalid_request", log)
}

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
const CLAIMS: &str = "Back-Channel Logout §2.4, §2.6";
const EVENTS: &str = "Back-Channel Logout §2.6 (5)";
const ISS: Wanted = refused("`iss` is not the issuer");
const AUD: Wanted = refused("`aud` does not contain `client_id`");
const SUB: Wanted = refused("`sub` is not a string");
const JTI: Wanted = refused("`jti` is not a string of 1 to 1024 bytes");
const SID: Wanted = refused("`sid` is not a string of 1 to 1024 bytes");
const EXPIRED: Wanted = refused("it has expired (`exp`)");
const FUTURE: Wanted = refused("it was issued in the future (`iat`)");
const ALG: Wanted = refused("`alg` is none, symmetric or unknown");
const NO_EVENT: Wanted = refused("`events` does not name back-channel logout");

pub(super) const MODES: &[Mode] = &[
    token(
        "logout-iss-other",
        "`iss` is another",
        CLAIMS,
        ISS,
        |facts, token| token.claim("iss", json!(facts.canary)),
    ),
    token(
        "logout-iss-trailing-slash",
        "`iss` has a slash more",
        CLAIMS,
        ISS,
        |facts, token| {
            token.claim("iss", json!(format!("{}/", facts.issuer)));
        },
    ),
    token(
        "logout-iss-missing",
        "no `iss`",
        CLAIMS,
        refused("`iss` is missing"),
        |_, token| token.without("iss"),
    ),
    token(
        "logout-aud-other",
        "`aud` is another client",
        CLAIMS,
        AUD,
        |facts, token| token.claim("aud", json!(facts.canary)),
    ),
    token(
        "logout-aud-prefix",
        "`aud` begins with our client id",
        CLAIMS,
        AUD,
        |facts, token| {
            token.claim("aud", json!(format!("{CLIENT_ID}{}", facts.canary)));
        },
    ),
    token(
        "logout-aud-missing",
        "no `aud`",
        CLAIMS,
        refused("`aud` is missing"),
        |_, token| token.without("aud"),
    ),
    token(
        "logout-aud-number",
        "`aud` is a number",
        CLAIMS,
        refused("`aud` is not a string or an array of strings"),
        |_, token| {
            token.claim("aud", json!(Facts::NUMBER));
        },
    ),
    token(
        "logout-iat-missing",
        "no `iat`",
        CLAIMS,
        refused("`iat` is missing"),
        |_, token| token.without("iat"),
    ),
    token(
        "logout-iat-text",
        "`iat` is text",
        CLAIMS,
        refused("`iat` is not a number"),
        |facts, token| {
            token.claim("iat", json!(facts.canary));
        },
    ),
    token(
        "logout-iat-future",
        "`iat` is in a minute",
        CLAIMS,
        FUTURE,
        |facts, token| token.claim("iat", json!(facts.now + 60)),
    ),
    token(
        "logout-iat-two-days-ago",
        "`iat` was two days ago",
        "a bound of Coatroom's own",
        refused("it was issued more than a day ago (`iat`)"),
        |facts, token| {
            token.claim("iat", json!(facts.now - 2 * 86_400));
        },
    ),
    token(
        "logout-exp-missing",
        "no `exp`",
        CLAIMS,
        refused("`exp` is missing; for a provider that sends none: `logout_token_without_exp: true`"),
        |_, token| {
            token.without("exp");
        },
    ),
    token(
        "logout-exp-past",
        "`exp` was a minute ago",
        CLAIMS,
        EXPIRED,
        |facts, token| {
            token.claim("iat", json!(facts.now - 120));
            token.claim("exp", json!(facts.now - 60));
        },
    ),
    token(
        "logout-exp-text",
        "`exp` is text",
        CLAIMS,
        refused("`exp` is not a number"),
        |facts, token| {
            token.claim("exp", json!((facts.now + 120).to_string()));
        },
    ),
    token(
        "logout-nbf-future",
        "`nbf` is in a minute",
        "RFC 7519 §4.1.5",
        refused("it is not valid yet (`nbf`)"),
        |facts, token| {
            token.claim("nbf", json!(facts.now + 60));
        },
    ),
    token(
        "logout-jti-missing",
        "no `jti`",
        CLAIMS,
        refused("`jti` is missing"),
        |_, token| token.without("jti"),
    ),
    token(
        "logout-jti-number",
        "`jti` is a number",
        CLAIMS,
        JTI,
        |_, token| token.claim("jti", json!(Facts::NUMBER)),
    ),
    token("logout-jti-empty", "`jti` is empty", CLAIMS, JTI, |_, token| {
        token.claim("jti", json!(""))
    }),
    token(
        "logout-jti-long",
        "`jti` has more than 1,024 bytes",
        "a bound of Coatroom's own",
        JTI,
        |facts, token| {
            token.claim("jti", json!(facts.canary.repeat(100)));
        },
    ),
    token(
        "logout-events-missing",
        "no `events`",
        EVENTS,
        refused("`events` is missing"),
        |_, token| token.without("events"),
    ),
    token(
        "logout-events-other",
        "`events` names another event",
        EVENTS,
        NO_EVENT,
        |facts, token| {
            token.claim("events", json!({facts.canary.clone(): {}}));
        },
    ),
    token(
        "logout-events-empty",
        "`events` is empty",
        EVENTS,
        NO_EVENT,
        |_, token| token.claim("events", json!({})),
    ),
    token(
        "logout-events-list",
        "`events` is an array",
        EVENTS,
        refused("`events` is not an object"),
        |_, token| {
            token.claim("events", json!([EVENT]));
        },
    ),
    token(
        "logout-events-text",
        "`events` is the event's name",
        EVENTS,
        refused("`events` is not an object"),
        |_, token| {
            token.claim("events", json!(EVENT));
        },
    ),
    token(
        "logout-event-null",
        "the event's value is null",
        EVENTS,
        refused("the member of `events` for back-channel logout is not an object"),
        |_, token| {
            token.claim("events", json!({EVENT: null}));
        },
    ),
    token(
        "logout-nonce",
        "there is a `nonce`",
        "Back-Channel Logout §2.6 (7)",
        refused("`nonce` is forbidden in a logout token"),
        |facts, token| {
            token.claim("nonce", json!(facts.canary));
        },
    ),
    token(
        "logout-nonce-null",
        "there is a `nonce`, and it is null",
        "Back-Channel Logout §2.6 (7)",
        refused("`nonce` is forbidden in a logout token"),
        |_, token| {
            token.claim("nonce", json!(null));
        },
    ),
    token(
        "logout-nobody",
        "neither `sub` nor `sid`",
        "Back-Channel Logout §2.6 (6)",
        refused("neither `sub` nor `sid` is there"),
        |_, token| {
            token.without("sub");
            token.without("sid");
        },
    ),
    token(
        "logout-sub-number",
        "`sub` is a number",
        CLAIMS,
        SUB,
        |_, token| token.claim("sub", json!(Facts::NUMBER)),
    ),
    token("logout-sub-null", "`sub` is null", CLAIMS, SUB, |_, token| {
        token.claim("sub", json!(null))
    }),
    token(
        "logout-sub-control-character",
        "`sub` holds a line end",
        CLAIMS,
        refused("`sub` contains a control character"),
        |facts, token| {
            token.claim("sub", json!(format!("{}\n", facts.canary)));
        },
    ),
    token(
        "logout-sid-number",
        "`sid` is a number",
        CLAIMS,
        SID,
        |_, token| token.claim("sid", json!(Facts::NUMBER)),
    ),
    token("logout-sid-empty", "`sid` is empty", CLAIMS, SID, |_, token| {
        token.claim("sid", json!(""))
    }),
    token(
        "logout-typ-access-token",
        "`typ` is that of an access token",
        "RFC 8725 §3.11",
        refused("`typ` is neither `logout+jwt` nor `JWT`"),
        |_, token| {
            token.header["typ"] = json!("at+jwt");
        },
    ),
    token(
        "logout-typ-number",
        "`typ` is a number",
        "RFC 7515 §4.1.9",
        refused("`typ` is neither `logout+jwt` nor `JWT`"),
        |_, token| {
            token.header["typ"] = json!(Facts::NUMBER);
        },
    ),
    token(
        "logout-alg-none",
        "not signed",
        "RFC 8725 §3.2",
        ALG,
        |_, token| {
            token.header["alg"] = json!("none");
            token.signer = Signer::Bytes(Vec::new());
        },
    ),
    token(
        "logout-hmac-client-secret",
        "signed with the client secret (HS256)",
        "RFC 8725 §2.1",
        ALG,
        |_, token| {
            token.header["alg"] = json!("HS256");
            token.signer = Signer::Hmac(crate::CLIENT_SECRET.as_bytes().to_vec());
        },
    ),
    token(
        "logout-rogue-key",
        "signed with another's key under the name of ours",
        "OIDC Core §10.1",
        refused("its signature is wrong"),
        |_, token| {
            token.signer = Signer::Rogue;
        },
    ),
    token(
        "logout-kid-unknown",
        "signed with a key that nobody knows",
        "OIDC Core §10.1",
        refused("no key of the provider's jwk set fits its `kid`"),
        |facts, token| {
            token.header["kid"] = json!(facts.canary);
            token.signer = Signer::Rogue;
        },
    ),
    token(
        "logout-crit",
        "`crit` names an extension",
        "RFC 7515 §4.1.11",
        refused("its header has `crit`"),
        |facts, token| {
            token.header["crit"] = json!([facts.canary]);
        },
    ),
    token(
        "logout-claims-twice",
        "`sub` twice, another first",
        "RFC 7519 §4",
        refused("its claims are not an object with unique members"),
        |facts, token| {
            let twice = format!("{{\"sub\":\"{}\",", facts.canary);
            token.edit_claims(|text| text.replacen('{', &twice, 1));
        },
    ),
    token(
        "logout-id-token",
        "an ID token in place of a logout token",
        "Back-Channel Logout §2.6 (5)",
        refused("`events` is missing: it is another token than a logout token"),
        |facts, token| {
            *token = Jwt::new(
                "JWT",
                json!({
                    "iss": facts.issuer, "sub": SUBJECT, "aud": CLIENT_ID, "sid": "provider-session",
                    "iat": facts.now, "exp": facts.now + 3600, "jti": facts.canary,
                }),
            );
        },
    ),
    mode(
        Place::LogoutToken,
        "logout-replayed",
        "a logout token that was used before",
        "Back-Channel Logout §2.6 (8)",
        refused("it was used before (`jti`)"),
        Twist::LogoutReplayed,
    ),
    request(
        "logout-request-empty",
        "an empty form",
        "Back-Channel Logout §2.5",
        refused("`logout_token` is missing"),
        |_, _| String::new(),
    ),
    request(
        "logout-request-twice",
        "two logout tokens",
        "RFC 6749 §3.1",
        refused(""),
        |facts, token| format!("logout_token={token}&logout_token={}", facts.canary),
    ),
    request(
        "logout-request-garbage",
        "no token at all",
        "RFC 7515 §7.1",
        refused("it is not a signed token of three parts"),
        |facts, _| format!("logout_token={}", facts.canary.replace('.', "-")),
    ),
    request(
        "logout-request-with-strangers",
        "a parameter that nobody knows",
        "Back-Channel Logout §2.5: ignored",
        ACCEPTED,
        |facts, token| format!("x={}&logout_token={token}", facts.canary),
    ),
    token(
        "logout-typ-jwt",
        "`typ` is `JWT`",
        "Back-Channel Logout §2.4: recommended",
        ACCEPTED,
        |_, token| {
            token.header["typ"] = json!("JWT");
        },
    ),
    token(
        "logout-typ-missing",
        "no `typ`",
        "Back-Channel Logout §2.4: recommended",
        ACCEPTED,
        |_, token| token.without_header("typ"),
    ),
    token(
        "logout-sub-alone",
        "no `sid`: every session of the user",
        CLAIMS,
        ACCEPTED,
        |_, token| token.without("sid"),
    ),
    token("logout-sid-alone", "no `sub`", CLAIMS, ACCEPTED, |_, token| {
        token.without("sub")
    }),
    token(
        "logout-event-with-members",
        "the event has members, and there is another one",
        CLAIMS,
        ACCEPTED,
        |facts, token| {
            token.claim(
                "events",
                json!({EVENT: {"reason": facts.canary}, "urn:x": Value::Null}),
            );
        },
    ),
];
