//! What can be wrong in the metadata document (OpenID Connect Discovery §3 and §4, RFC 8414).

use serde_json::{Value, json};

use crate::mode::{ACCEPTED, Mode, Place, Wanted, mode, unusable};
use crate::twist::{Facts, Twist};

const fn document(
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    change: fn(&Facts, &mut serde_json::Map<String, Value>),
) -> Mode {
    mode(
        Place::Discovery,
        id,
        wrong,
        source,
        wanted,
        Twist::Metadata(change),
    )
}

const URLS: &str = "OIDC Discovery §3; RFC 8414 §2";

pub(super) const MODES: &[Mode] = &[
    document(
        "discovery-issuer-other",
        "`issuer` is another one",
        "OIDC Discovery §4.3; oidcc-client-test-discovery-issuer-mismatch",
        unusable("`issuer` differs from the configured one; they must be equal"),
        |facts, document| {
            document["issuer"] = json!(format!("https://{}.example", facts.canary));
        },
    ),
    document(
        "discovery-issuer-trailing-slash",
        "`issuer` has a slash more",
        "RFC 8414 §3.3",
        unusable("by a trailing slash"),
        |facts, document| document["issuer"] = json!(format!("{}/", facts.issuer)),
    ),
    document(
        "discovery-issuer-case",
        "`issuer` has another case",
        "RFC 8414 §3.3, §4",
        unusable("`issuer` differs"),
        |facts, document| document["issuer"] = json!(facts.issuer.to_uppercase()),
    ),
    document(
        "discovery-issuer-longer",
        "`issuer` goes on with a path",
        "RFC 8414 §3.3",
        unusable("`issuer` differs"),
        |facts, document| document["issuer"] = json!(format!("{}/{}", facts.issuer, facts.canary)),
    ),
    document(
        "discovery-issuer-missing",
        "no `issuer`",
        "OIDC Discovery §3",
        unusable("`issuer` is missing"),
        |_, document| drop(document.remove("issuer")),
    ),
    document(
        "discovery-issuer-null",
        "`issuer` is null",
        "OIDC Discovery §3",
        unusable("`issuer` is not a string"),
        |_, document| document["issuer"] = Value::Null,
    ),
    document(
        "discovery-issuer-array",
        "`issuer` is an array with the right one and another",
        "OIDC Discovery §3",
        unusable("`issuer` is not a string"),
        |facts, document| document["issuer"] = json!([facts.issuer, facts.canary]),
    ),
    document(
        "discovery-authorization-endpoint-missing",
        "no `authorization_endpoint`",
        URLS,
        unusable("`authorization_endpoint` is missing"),
        |_, document| drop(document.remove("authorization_endpoint")),
    ),
    document(
        "discovery-authorization-endpoint-javascript",
        "`authorization_endpoint` is a script",
        "RFC 9700 §4.1",
        unusable("`authorization_endpoint` cannot be used: its scheme is not https"),
        |facts, document| {
            document["authorization_endpoint"] = json!(format!("javascript:alert('{}')", facts.canary));
        },
    ),
    document(
        "discovery-authorization-endpoint-http",
        "`authorization_endpoint` has no TLS, off loopback",
        URLS,
        unusable("`authorization_endpoint` cannot be used: plain http"),
        |facts, document| {
            document["authorization_endpoint"] = json!(format!("http://{}.example/", facts.canary));
        },
    ),
    document(
        "discovery-authorization-endpoint-user",
        "`authorization_endpoint` carries user information",
        URLS,
        unusable("`authorization_endpoint` cannot be used: it carries user information"),
        |facts, document| {
            document["authorization_endpoint"] = json!(format!("https://{}@login.example/", facts.canary));
        },
    ),
    document(
        "discovery-authorization-endpoint-line-end",
        "`authorization_endpoint` holds a line end and a header",
        URLS,
        unusable("`authorization_endpoint` cannot be used: it is not a url of visible ascii characters"),
        |facts, document| {
            document["authorization_endpoint"] =
                json!(format!("https://login.example/\r\nset-cookie: {}", facts.canary));
        },
    ),
    document(
        "discovery-authorization-endpoint-long",
        "`authorization_endpoint` has more than 2,048 bytes",
        "a bound of Coatroom's own",
        unusable("`authorization_endpoint` cannot be used"),
        |facts, document| {
            document["authorization_endpoint"] =
                json!(format!("https://a.example/{}", facts.canary.repeat(200)));
        },
    ),
    document(
        "discovery-token-endpoint-missing",
        "no `token_endpoint`",
        URLS,
        unusable("`token_endpoint` is missing"),
        |_, document| drop(document.remove("token_endpoint")),
    ),
    document(
        "discovery-token-endpoint-http",
        "`token_endpoint` has no TLS, off loopback",
        "RFC 6749 §3.2",
        unusable("`token_endpoint` cannot be used: plain http"),
        |facts, document| document["token_endpoint"] = json!(format!("http://{}.example/", facts.canary)),
    ),
    document(
        "discovery-token-endpoint-file",
        "`token_endpoint` is a file",
        URLS,
        unusable("`token_endpoint` cannot be used: its scheme is not https"),
        |facts, document| document["token_endpoint"] = json!(format!("file:///{}", facts.canary)),
    ),
    document(
        "discovery-token-endpoint-relative",
        "`token_endpoint` is a path alone",
        URLS,
        unusable("`token_endpoint` cannot be used: it is not an absolute url"),
        |facts, document| document["token_endpoint"] = json!(format!("/{}", facts.canary)),
    ),
    document(
        "discovery-token-endpoint-number",
        "`token_endpoint` is a number",
        URLS,
        unusable("`token_endpoint` is not a string"),
        |_, document| document["token_endpoint"] = json!(Facts::NUMBER),
    ),
    document(
        "discovery-jwks-uri-missing",
        "no `jwks_uri`",
        URLS,
        unusable("`jwks_uri` is missing"),
        |_, document| drop(document.remove("jwks_uri")),
    ),
    document(
        "discovery-jwks-uri-fragment",
        "`jwks_uri` has a fragment",
        URLS,
        unusable("`jwks_uri` cannot be used: it carries a fragment"),
        |facts, document| document["jwks_uri"] = json!(format!("{}/jwks#{}", facts.issuer, facts.canary)),
    ),
    document(
        "discovery-jwks-uri-data",
        "`jwks_uri` is a `data:` URL with a key",
        URLS,
        unusable("`jwks_uri` cannot be used: its scheme is not https"),
        |facts, document| document["jwks_uri"] = json!(format!("data:application/json,{}", facts.canary)),
    ),
    document(
        "discovery-end-session-endpoint-http",
        "`end_session_endpoint` has no TLS, off loopback",
        "OpenID Connect RP-Initiated Logout §2.1",
        unusable("`end_session_endpoint` cannot be used: plain http"),
        |facts, document| {
            document["end_session_endpoint"] = json!(format!("http://{}.example/", facts.canary));
        },
    ),
    document(
        "discovery-revocation-endpoint-object",
        "`revocation_endpoint` is an object",
        "RFC 8414 §2",
        unusable("`revocation_endpoint` is not a string"),
        |facts, document| document["revocation_endpoint"] = json!({"url": facts.canary}),
    ),
    document(
        "discovery-iss-parameter-text",
        "`authorization_response_iss_parameter_supported` is the text `true`",
        "RFC 9207 §3",
        unusable("`authorization_response_iss_parameter_supported` is not a boolean"),
        |_, document| document["authorization_response_iss_parameter_supported"] = json!("true"),
    ),
    document(
        "discovery-algorithms-text",
        "`id_token_signing_alg_values_supported` is a string",
        "OIDC Discovery §3",
        unusable("`id_token_signing_alg_values_supported` is not an array"),
        |facts, document| {
            document.insert(
                "id_token_signing_alg_values_supported".to_owned(),
                json!(facts.canary),
            );
        },
    ),
    document(
        "discovery-algorithms-numbers",
        "`id_token_signing_alg_values_supported` has a number",
        "OIDC Discovery §3",
        unusable("`id_token_signing_alg_values_supported` has a member that is not a string"),
        |_, document| {
            let algorithms = json!(["ES256", Facts::NUMBER]);
            document.insert("id_token_signing_alg_values_supported".to_owned(), algorithms);
        },
    ),
    document(
        "discovery-algorithms-without-ours",
        "the ID token's `alg` is not among `id_token_signing_alg_values_supported`",
        "OIDC Core §3.1.3.7 (7)",
        unusable("`alg` is not among `id_token_signing_alg_values_supported`"),
        |facts, document| {
            let algorithms = json!(["RS256", "none", facts.canary]);
            document.insert("id_token_signing_alg_values_supported".to_owned(), algorithms);
        },
    ),
    document(
        "discovery-client-authentication-unknown",
        "`token_endpoint_auth_methods_supported` has no method that is known",
        "RFC 8414 §2",
        unusable("`token_endpoint_auth_methods_supported`"),
        |facts, document| document["token_endpoint_auth_methods_supported"] = json!([facts.canary]),
    ),
    document(
        "discovery-optional-null",
        "what is optional is null",
        "OIDC Discovery §4.2: it should not be there",
        ACCEPTED,
        |_, document| {
            document["revocation_endpoint"] = Value::Null;
            document["end_session_endpoint"] = Value::Null;
            document["code_challenge_methods_supported"] = Value::Null;
        },
    ),
    document(
        "discovery-unknown-members",
        "there are members that nobody knows, of every type",
        "OIDC Discovery §3: others may be there",
        ACCEPTED,
        |facts, document| {
            document.insert(facts.canary.clone(), json!([{"a": [null, true, -1, 1.5e300]}]));
        },
    ),
    document(
        "discovery-pkce-plain",
        "`code_challenge_methods_supported` has `plain` alone: S256 is used all the same",
        "RFC 9700 §2.1.1",
        ACCEPTED,
        |_, document| document["code_challenge_methods_supported"] = json!(["plain"]),
    ),
];
