//! What the ID token says (OIDC Core §2, §3.1.3.7).

use serde_json::json;

use crate::CLIENT_ID;
use crate::jwt::Jwt;
use crate::mode::{ACCEPTED, Mode, Place, Wanted, mode, unusable};
use crate::twist::{Facts, Twist};

const fn token(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut Jwt),
) -> Mode {
    mode(Place::IdToken, id, wrong, source, wanted, Twist::IdToken(change))
}

const ISS: &str = "OIDC Core §3.1.3.7 (2)";
const AUD: &str = "OIDC Core §3.1.3.7 (3)";
const AZP: &str = "OIDC Core §3.1.3.7 (4, 5)";
const EXP: &str = "OIDC Core §3.1.3.7 (9)";
const IAT: &str = "OIDC Core §2, §3.1.3.7 (10)";
const NBF: &str = "RFC 7519 §4.1.5";
const NONCE: &str = "OIDC Core §3.1.3.7 (11); oidcc-client-test-nonce-invalid";
const SUB: &str = "OIDC Core §2";
const HASH: &str = "OIDC Core §3.1.3.8; oidcc-client-test-invalid-athash";
const ANOTHER_ISS: Wanted = unusable("id token: `iss` is not the issuer");
const ANOTHER_AUD: Wanted = unusable("id token: `aud` does not contain `client_id`");
const NO_AUD: Wanted = unusable("id token: `aud` is not a string or an array of strings");
const ANOTHER_AZP: Wanted = unusable("id token: `azp` is not `client_id`");
const EXPIRED: Wanted = unusable("id token: it has expired (`exp`)");
const NO_EXP: Wanted = unusable("id token: `exp` is not a number");
const NO_IAT: Wanted = unusable("id token: `iat` is not a number");
const FUTURE: Wanted = unusable("id token: it was issued in the future (`iat`); check the clocks");
const ANOTHER_NONCE: Wanted = unusable("id token: `nonce` is not that of the sign-in");
const NO_SUB: Wanted = unusable("id token: `sub` is not a string");
const ANOTHER_HASH: Wanted = unusable("id token: `at_hash` is not that of the access token");
const OUT_OF_RANGE: Wanted = unusable("id token: its claims are not an object with unique members");

pub(super) const MODES: &[Mode] = &[
    token(
        "id-token-iss-other",
        "`iss` is another",
        "oidcc-client-test-invalid-iss",
        ANOTHER_ISS,
        |facts, token| {
            token.claim("iss", json!(format!("https://{}.example", facts.canary)));
        },
    ),
    token(
        "id-token-iss-trailing-slash",
        "`iss` has a slash more",
        ISS,
        ANOTHER_ISS,
        |facts, token| {
            token.claim("iss", json!(format!("{}/", facts.issuer)));
        },
    ),
    token(
        "id-token-iss-case",
        "`iss` has another case",
        ISS,
        ANOTHER_ISS,
        |facts, token| {
            token.claim("iss", json!(facts.issuer.to_uppercase()));
        },
    ),
    token(
        "id-token-iss-without-scheme",
        "`iss` lacks its scheme, as Google's once did",
        ISS,
        ANOTHER_ISS,
        |facts, token| {
            token.claim("iss", json!(facts.issuer.trim_start_matches("http://")));
        },
    ),
    token(
        "id-token-iss-list",
        "`iss` is an array",
        ISS,
        ANOTHER_ISS,
        |facts, token| {
            token.claim("iss", json!([facts.issuer, facts.canary]));
        },
    ),
    token(
        "id-token-iss-missing",
        "no `iss`",
        ISS,
        unusable("id token: `iss` is missing"),
        |_, token| token.without("iss"),
    ),
    token(
        "id-token-aud-other",
        "`aud` is another client",
        "oidcc-client-test-invalid-aud",
        ANOTHER_AUD,
        |facts, token| {
            token.claim("aud", json!(facts.canary));
        },
    ),
    token(
        "id-token-aud-prefix",
        "`aud` begins with our client id",
        AUD,
        ANOTHER_AUD,
        |facts, token| {
            token.claim("aud", json!(format!("{CLIENT_ID}{}", facts.canary)));
        },
    ),
    token(
        "id-token-aud-case",
        "`aud` is our client id in capitals",
        AUD,
        ANOTHER_AUD,
        |_, token| {
            token.claim("aud", json!(CLIENT_ID.to_uppercase()));
        },
    ),
    token(
        "id-token-aud-list-of-others",
        "`aud` is a list of others",
        AUD,
        ANOTHER_AUD,
        |facts, token| {
            token.claim("aud", json!([facts.canary, "api"]));
        },
    ),
    token(
        "id-token-aud-words",
        "`aud` is a string with our client id among its words",
        AUD,
        ANOTHER_AUD,
        |facts, token| {
            token.claim("aud", json!(format!("{CLIENT_ID} {}", facts.canary)));
        },
    ),
    token(
        "id-token-aud-empty-list",
        "`aud` is an empty array",
        AUD,
        ANOTHER_AUD,
        |_, token| token.claim("aud", json!([])),
    ),
    token(
        "id-token-aud-missing",
        "no `aud`",
        "oidcc-client-test-missing-aud",
        unusable("id token: `aud` is missing"),
        |_, token| {
            token.without("aud");
        },
    ),
    token("id-token-aud-null", "`aud` is null", AUD, NO_AUD, |_, token| {
        token.claim("aud", json!(null))
    }),
    token(
        "id-token-aud-object",
        "`aud` is an object",
        AUD,
        NO_AUD,
        |facts, token| {
            token.claim("aud", json!({CLIENT_ID: facts.canary}));
        },
    ),
    token(
        "id-token-aud-numbers",
        "`aud` has a number",
        AUD,
        NO_AUD,
        |_, token| {
            token.claim("aud", json!([CLIENT_ID, Facts::NUMBER]));
        },
    ),
    token(
        "id-token-aud-others-too",
        "`aud` has another audience, and there is no `azp`",
        AZP,
        unusable("id token: `aud` has other audiences and there is no `azp`"),
        |facts, token| token.claim("aud", json!([CLIENT_ID, facts.canary])),
    ),
    token(
        "id-token-aud-list-of-us",
        "`aud` is an array of our client id",
        AUD,
        ACCEPTED,
        |_, token| {
            token.claim("aud", json!([CLIENT_ID]));
        },
    ),
    token(
        "id-token-aud-others-too-with-azp",
        "`aud` has another audience, and `azp` is us",
        AZP,
        ACCEPTED,
        |_, token| {
            token.claim("aud", json!([CLIENT_ID, "api"]));
            token.claim("azp", json!(CLIENT_ID));
        },
    ),
    token(
        "id-token-azp-other",
        "`azp` is another client",
        AZP,
        ANOTHER_AZP,
        |facts, token| token.claim("azp", json!(facts.canary)),
    ),
    token(
        "id-token-azp-list",
        "`azp` is an array",
        AZP,
        ANOTHER_AZP,
        |_, token| token.claim("azp", json!([CLIENT_ID])),
    ),
    token(
        "id-token-azp-null",
        "`azp` is null",
        AZP,
        ANOTHER_AZP,
        |_, token| token.claim("azp", json!(null)),
    ),
    token(
        "id-token-exp-past",
        "`exp` was a minute ago",
        EXP,
        EXPIRED,
        |facts, token| token.claim("exp", json!(facts.now - 60)),
    ),
    token(
        "id-token-exp-negative",
        "`exp` is negative",
        EXP,
        EXPIRED,
        |_, token| token.claim("exp", json!(-1)),
    ),
    token(
        "id-token-exp-fraction-past",
        "`exp` is a fraction, a minute ago",
        EXP,
        EXPIRED,
        |facts, token| {
            token.claim("exp", json!(facts.now as f64 - 60.5));
        },
    ),
    token(
        "id-token-exp-missing",
        "no `exp`",
        EXP,
        unusable("id token: `exp` is missing"),
        |_, token| token.without("exp"),
    ),
    token(
        "id-token-exp-text",
        "`exp` is text",
        EXP,
        NO_EXP,
        |facts, token| {
            token.claim("exp", json!((facts.now + 300).to_string()));
        },
    ),
    token(
        "id-token-exp-date",
        "`exp` is a date",
        "RFC 7519 §2: NumericDate",
        NO_EXP,
        |_, token| {
            token.claim("exp", json!("2099-01-01T00:00:00Z"));
        },
    ),
    token("id-token-exp-null", "`exp` is null", EXP, NO_EXP, |_, token| {
        token.claim("exp", json!(null))
    }),
    token("id-token-exp-true", "`exp` is true", EXP, NO_EXP, |_, token| {
        token.claim("exp", json!(true))
    }),
    token(
        "id-token-exp-out-of-range",
        "`exp` is 1e400, which no float holds",
        "RFC 8259 §6",
        OUT_OF_RANGE,
        |_, token| {
            token.claim("exp", json!(Facts::NUMBER));
            token.edit_claims(|text| text.replace(&Facts::NUMBER.to_string(), "1e400"));
        },
    ),
    token(
        "id-token-exp-fraction",
        "`exp` is a fraction, in an hour",
        "RFC 7519 §2",
        ACCEPTED,
        |facts, token| {
            token.claim("exp", json!(facts.now as f64 + 3600.5));
        },
    ),
    token(
        "id-token-exp-huge",
        "`exp` is 1e300",
        "RFC 7519 §2",
        ACCEPTED,
        |_, token| token.claim("exp", json!(1e300)),
    ),
    token(
        "id-token-exp-within-leeway",
        "`exp` was five seconds ago",
        "RFC 7519 §4.1.4: some leeway",
        ACCEPTED,
        |facts, token| {
            token.claim("exp", json!(facts.now - 5));
        },
    ),
    token(
        "id-token-iat-missing",
        "no `iat`",
        "oidcc-client-test-missing-iat",
        unusable("id token: `iat` is missing"),
        |_, token| {
            token.without("iat");
        },
    ),
    token(
        "id-token-iat-future",
        "`iat` is in a minute",
        IAT,
        FUTURE,
        |facts, token| token.claim("iat", json!(facts.now + 60)),
    ),
    token(
        "id-token-iat-milliseconds",
        "`iat` is in milliseconds",
        "RFC 7519 §2: seconds",
        FUTURE,
        |facts, token| {
            token.claim("iat", json!(facts.now * 1000));
        },
    ),
    token(
        "id-token-iat-text",
        "`iat` is text",
        IAT,
        NO_IAT,
        |facts, token| token.claim("iat", json!(facts.now.to_string())),
    ),
    token(
        "id-token-iat-object",
        "`iat` is an object",
        IAT,
        NO_IAT,
        |facts, token| token.claim("iat", json!({"at": facts.canary})),
    ),
    token(
        "id-token-iat-fraction",
        "`iat` is a fraction",
        "RFC 7519 §2",
        ACCEPTED,
        |facts, token| {
            token.claim("iat", json!(facts.now as f64 - 0.5));
        },
    ),
    token(
        "id-token-iat-within-leeway",
        "`iat` is in five seconds",
        "FAPI 2.0 Security Profile §5.3.3.1",
        ACCEPTED,
        |facts, token| {
            token.claim("iat", json!(facts.now + 5));
        },
    ),
    token(
        "id-token-nbf-future",
        "`nbf` is in a minute",
        NBF,
        unusable("id token: it is not valid yet (`nbf`); check the clocks"),
        |facts, token| {
            token.claim("nbf", json!(facts.now + 60));
        },
    ),
    token(
        "id-token-nbf-text",
        "`nbf` is text",
        NBF,
        unusable("id token: `nbf` is not a number"),
        |facts, token| {
            token.claim("nbf", json!(facts.canary));
        },
    ),
    token(
        "id-token-auth-time-text",
        "`auth_time` is text",
        "OIDC Core §2",
        unusable("id token: `auth_time` is not a number"),
        |facts, token| {
            token.claim("auth_time", json!(facts.canary));
        },
    ),
    token(
        "id-token-nonce-missing",
        "no `nonce`",
        NONCE,
        unusable("id token: `nonce` is missing"),
        |_, token| token.without("nonce"),
    ),
    token(
        "id-token-nonce-other",
        "`nonce` is another",
        NONCE,
        ANOTHER_NONCE,
        |facts, token| token.claim("nonce", json!(facts.canary)),
    ),
    token(
        "id-token-nonce-empty",
        "`nonce` is empty",
        NONCE,
        ANOTHER_NONCE,
        |_, token| token.claim("nonce", json!("")),
    ),
    token(
        "id-token-nonce-null",
        "`nonce` is null",
        NONCE,
        ANOTHER_NONCE,
        |_, token| token.claim("nonce", json!(null)),
    ),
    token(
        "id-token-nonce-number",
        "`nonce` is a number",
        NONCE,
        ANOTHER_NONCE,
        |_, token| token.claim("nonce", json!(Facts::NUMBER)),
    ),
    token(
        "id-token-nonce-list",
        "`nonce` is an array with the right one",
        NONCE,
        ANOTHER_NONCE,
        |facts, token| {
            let right = token.claims["nonce"].clone();
            token.claim("nonce", json!([right, facts.canary]));
        },
    ),
    token(
        "id-token-nonce-case",
        "`nonce` has another case",
        NONCE,
        ANOTHER_NONCE,
        |_, token| {
            let right = token.claims["nonce"].as_str().unwrap_or_default().to_owned();
            let upper = right.to_uppercase();
            token.claim(
                "nonce",
                json!(if right == upper {
                    right.to_lowercase()
                } else {
                    upper
                }),
            );
        },
    ),
    token(
        "id-token-sub-missing",
        "no `sub`",
        "oidcc-client-test-missing-sub",
        unusable("id token: `sub` is missing"),
        |_, token| {
            token.without("sub");
        },
    ),
    token(
        "id-token-sub-empty",
        "`sub` is empty",
        SUB,
        unusable("id token: `sub` is empty"),
        |_, token| token.claim("sub", json!("")),
    ),
    token(
        "id-token-sub-number",
        "`sub` is a number",
        SUB,
        NO_SUB,
        |_, token| token.claim("sub", json!(Facts::NUMBER)),
    ),
    token("id-token-sub-null", "`sub` is null", SUB, NO_SUB, |_, token| {
        token.claim("sub", json!(null))
    }),
    token(
        "id-token-sub-list",
        "`sub` is an array",
        SUB,
        NO_SUB,
        |facts, token| token.claim("sub", json!([facts.canary])),
    ),
    token(
        "id-token-sub-long",
        "`sub` has 256 bytes and more",
        SUB,
        unusable("id token: `sub` is longer than 255 bytes"),
        |facts, token| {
            token.claim("sub", json!(facts.canary.repeat(16)));
        },
    ),
    token(
        "id-token-sub-control-character",
        "`sub` holds a line end",
        SUB,
        unusable("id token: `sub` contains a control character"),
        |facts, token| token.claim("sub", json!(format!("{}\r\nadmin", facts.canary))),
    ),
    token(
        "id-token-at-hash-other",
        "`at_hash` is another",
        HASH,
        ANOTHER_HASH,
        |facts, token| {
            token.claim("at_hash", json!(facts.canary));
        },
    ),
    token(
        "id-token-at-hash-empty",
        "`at_hash` is empty",
        HASH,
        ANOTHER_HASH,
        |_, token| token.claim("at_hash", json!("")),
    ),
    token(
        "id-token-at-hash-null",
        "`at_hash` is null",
        HASH,
        ANOTHER_HASH,
        |_, token| token.claim("at_hash", json!(null)),
    ),
    token(
        "id-token-at-hash-number",
        "`at_hash` is a number",
        HASH,
        ANOTHER_HASH,
        |_, token| {
            token.claim("at_hash", json!(Facts::NUMBER));
        },
    ),
    token(
        "id-token-at-hash-missing",
        "no `at_hash`",
        "OIDC Core §3.1.3.6: optional; oidcc-client-test-missing-athash",
        ACCEPTED,
        |_, token| {
            token.without("at_hash");
        },
    ),
];
