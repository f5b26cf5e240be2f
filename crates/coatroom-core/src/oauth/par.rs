//! Pushed authorization requests (RFC 9126).
//!
//! The request goes to the provider directly, authenticated as this client, and the browser gets no more
//! of it than a reference. The answer is a `request_uri` or one of three failures: the provider is not
//! there, it refuses (by a registered code), or its answer cannot be used. No error repeats any of it.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;
use url::Url;

use super::authorization::{is_protocol_parameter, registered_error};
use super::metadata::Metadata;
use super::{client_auth, json};
use crate::config::Provider;
use crate::error::Error;
use crate::step::{Context, ProviderRequest, Reply, Step};

/// Pushes a request; the URL to send the browser to has `client_id` and `request_uri` only (§4).
///
/// # Errors
/// [`Error::Provider`] when there is no endpoint or this client cannot authenticate there; from the
/// step [`Error::Provider`] and [`Error::ProviderUnavailable`].
pub(super) fn push(
    parameters: &[(String, String)],
    provider: &Arc<Provider>,
    context: &mut Context<'_>,
) -> Result<Step<Url>, Error> {
    let request = request(parameters, provider, context)?;
    let (provider, metadata) = (Arc::clone(provider), Arc::clone(&context.provider.metadata));
    Ok(Step::send(request, move |reply, _| {
        let request_uri = parse_reply(&reply, &provider, &metadata)?;
        let endpoint = &metadata.authorization_endpoint;
        Ok(Step::Done(front_channel(
            endpoint,
            &provider.client_id,
            &request_uri,
        )))
    }))
}

/// Every pushed request is built here, also one that has to be sent again.
fn request(
    parameters: &[(String, String)],
    provider: &Provider,
    context: &mut Context<'_>,
) -> Result<ProviderRequest, Error> {
    let metadata = &context.provider.metadata;
    let endpoint = metadata
        .pushed_authorization_request_endpoint
        .as_ref()
        .ok_or(Error::Bug("a request is pushed, and there is no endpoint"))?;
    let parameters: Vec<(&str, &str)> = parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    client_auth::post(endpoint, &parameters, provider, context)
}

/// The endpoint's own query is kept (RFC 6749 §3.1), but for what belongs to the request that was
/// pushed: whatever is beside a `request_uri` has to be ignored, and not everybody does.
fn front_channel(endpoint: &Url, client_id: &str, request_uri: &str) -> Url {
    let mut url = endpoint.clone();
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !is_protocol_parameter(name) && name != "scope")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    url.query_pairs_mut()
        .extend_pairs(kept)
        .extend_pairs([("client_id", client_id), ("request_uri", request_uri)]);
    url
}

/// The `request_uri` of an answer (§2.2), which means something to the provider alone.
fn parse_reply(reply: &Reply, provider: &Provider, metadata: &Metadata) -> Result<String, Error> {
    let response = match reply {
        Reply::Response(response) => response,
        Reply::Unreachable(why) => return Err(unavailable(why)),
        Reply::Keys => return Err(Error::Bug("pushed a request, got keys")),
    };
    match response.status {
        // §2.2 says 201; what some providers say
        StatusCode::CREATED | StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => return Err(unavailable("status 429")),
        StatusCode::REQUEST_TIMEOUT => return Err(unavailable("status 408")),
        status if status.is_server_error() => return Err(unavailable("status 5xx")),
        status if status.is_client_error() => {
            return Err(refusal(status, &response.body, provider, metadata));
        }
        _ => return Err(unusable("a redirect or another status that no request gets")),
    }
    let members = json::object(&response.body)
        .ok_or_else(|| unusable("it is not a json object with unique members"))?;
    match members.get("expires_in") {
        Some(Value::Number(number)) if json::seconds(number) > 0 => {}
        Some(_) => return Err(unusable("`expires_in` is not a positive number")),
        None => return Err(unusable("`expires_in` is missing")),
    }
    match members.get("request_uri") {
        Some(Value::String(uri)) if is_request_uri(uri) => Ok(uri.clone()),
        Some(_) => Err(unusable(
            "`request_uri` is not an absolute URI of at most 512 visible ascii characters",
        )),
        None => Err(unusable("`request_uri` is missing")),
    }
}

fn is_request_uri(text: &str) -> bool {
    text.len() <= MAX_REQUEST_URI
        && text.bytes().all(|b| b.is_ascii_graphic())
        && Url::parse(text).is_ok_and(|uri| !matches!(uri.scheme(), "javascript" | "data"))
}

/// An error answer (§2.3), reduced to its registered code.
fn refusal(status: StatusCode, body: &[u8], provider: &Provider, metadata: &Metadata) -> Error {
    let members = json::object(body);
    let error = members
        .as_ref()
        .and_then(|members| members.get("error")?.as_str());
    match error {
        Some("temporarily_unavailable" | "server_error") => unavailable("the error says to try later"),
        Some("invalid_client") => {
            let refused = client_auth::refused(provider, metadata);
            Error::Provider(format!("{WHAT}{REFUSED}{refused}"))
        }
        Some(code) => {
            let known = registered_error(code).or_else(|| {
                let known = TOKEN_ERRORS.iter().find(|known| **known == code);
                known.copied()
            });
            let known = known.unwrap_or("an unregistered error");
            Error::Provider(format!("{WHAT}{REFUSED}{known}"))
        }
        None if status == StatusCode::UNAUTHORIZED => {
            let (refused, look_at) = client_auth::refused_credentials(provider, metadata);
            unusable(&format!(
                "status 401 without a json `error`: {refused}; {look_at}"
            ))
        }
        None => unusable("status 4xx without a json `error`"),
    }
}

/// The code by which the provider refused a pushed request, where that is what an error is about.
pub fn pushed_refusal(error: &Error) -> Option<&str> {
    match error {
        Error::Provider(text) => text.strip_prefix(WHAT)?.strip_prefix(REFUSED)?.split(':').next(),
        _ => None,
    }
}

fn unusable(why: &str) -> Error {
    Error::Provider(format!("{WHAT}: {why}"))
}

fn unavailable(why: &str) -> Error {
    Error::ProviderUnavailable {
        reason: format!("{WHAT}: {why}"),
        retry_after: RETRY_AFTER,
    }
}

const WHAT: &str = "pushed authorization request";

/// What stands between that and a code.
const REFUSED: &str = ": the provider refused the request: ";

/// The longest `request_uri`, in bytes.
const MAX_REQUEST_URI: usize = 512;

/// As for a token request that got no answer, in seconds.
const RETRY_AFTER: u32 = 5;

/// What a provider says here beside the errors of an authorization request (RFC 6749 §5.2, RFC 9449 §5
/// and §12.2).
const TOKEN_ERRORS: [&str; 3] = ["invalid_dpop_proof", "invalid_grant", "use_dpop_nonce"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config;
    use crate::oauth::testing::{ISSUER, metadata, metadata_with, provider, with_context};
    use crate::step::{Continuation, ProviderResponse};

    fn pushed(endpoint: &str) -> (String, Continuation<Url>) {
        let metadata = metadata_with(&[
            (
                "pushed_authorization_request_endpoint",
                json!(format!("{ISSUER}/par")),
            ),
            ("authorization_endpoint", json!(endpoint)),
        ]);
        let parameters = [("client_id", "shop"), ("state", "s&t"), ("scope", "openid")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        with_context(metadata, |context| {
            match push(&parameters, &Arc::new(provider()), context) {
                Ok(Step::Send(request, rest)) => {
                    assert_eq!(request.url.as_str(), "https://login.example.com/par");
                    let body = String::from_utf8(request.body.to_vec()).expect("UTF-8");
                    let authenticated = request.headers.iter().any(|(name, _)| name == "authorization");
                    assert!(authenticated, "as this client");
                    (body, rest)
                }
                _ => panic!("something is sent"),
            }
        })
    }

    fn answered(endpoint: &str, reply: Reply) -> Result<Url, Error> {
        let (_, rest) = pushed(endpoint);
        with_context(metadata(), |context| match rest.resume(reply, context)? {
            Step::Done(url) => Ok(url),
            Step::Send(..) | Step::FetchKeys(_) => panic!("one request is enough"),
        })
    }

    fn response(status: u16, body: &str) -> Reply {
        Reply::Response(ProviderResponse {
            status: StatusCode::from_u16(status).expect("a status"),
            content_type: None,
            dpop_nonce: None,
            body: body.as_bytes().to_vec().into(),
        })
    }

    const GOOD: &str = r#"{"request_uri":"urn:ietf:params:oauth:request_uri:a-1","expires_in":60}"#;

    #[test]
    fn the_whole_request_is_pushed_and_the_browser_gets_a_reference() {
        let (body, _) = pushed("https://login.example.com/authorize");
        assert_eq!(body, "client_id=shop&state=s%26t&scope=openid");
        for status in [201, 200] {
            let url = answered("https://login.example.com/authorize", response(status, GOOD));
            assert_eq!(
                url.expect("a URL").as_str(),
                "https://login.example.com/authorize?client_id=shop\
                 &request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Aa-1"
            );
        }
    }

    #[test]
    fn of_the_endpoints_own_query_nothing_is_left_that_belongs_to_the_request() {
        let endpoint =
            "https://login.example.com/authorize?p=policy&state=x&scope=y&request_uri=z&client_id=w";
        let url = answered(endpoint, response(201, GOOD)).expect("a URL");
        assert_eq!(
            url.query(),
            Some("p=policy&client_id=shop&request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Aa-1")
        );
    }

    #[test]
    fn an_answer_that_is_none_is_refused_and_not_repeated() {
        let long = format!(r#"{{"request_uri":"urn:{}","expires_in":60}}"#, "a".repeat(509));
        let cases = [
            ("a redirect", 302, GOOD, "a redirect"),
            ("no content", 204, "", "a redirect"),
            ("html", 201, "<html>evil", "json object"),
            (
                "twice",
                201,
                r#"{"request_uri":"urn:a","request_uri":"urn:evil","expires_in":1}"#,
                "unique",
            ),
            ("no uri", 201, r#"{"expires_in":60}"#, "`request_uri` is missing"),
            (
                "no life",
                201,
                r#"{"request_uri":"urn:evil"}"#,
                "`expires_in` is missing",
            ),
            (
                "no life left",
                201,
                r#"{"request_uri":"urn:evil","expires_in":0}"#,
                "not a positive",
            ),
            (
                "a negative life",
                201,
                r#"{"request_uri":"urn:evil","expires_in":-1}"#,
                "not a positive",
            ),
            (
                "a number",
                201,
                r#"{"request_uri":7,"expires_in":60}"#,
                "not an absolute URI",
            ),
            (
                "empty",
                201,
                r#"{"request_uri":"","expires_in":60}"#,
                "not an absolute URI",
            ),
            (
                "a path",
                201,
                r#"{"request_uri":"/evil","expires_in":60}"#,
                "not an absolute URI",
            ),
            (
                "a line end",
                201,
                r#"{"request_uri":"urn:evil\r\nx:y","expires_in":60}"#,
                "not an absolute URI",
            ),
            (
                "a script",
                201,
                r#"{"request_uri":"javascript:evil()","expires_in":60}"#,
                "not an absolute URI",
            ),
            ("too long", 201, &long, "not an absolute URI"),
            (
                "the client is refused",
                401,
                r#"{"error":"invalid_client"}"#,
                "invalid_client",
            ),
            (
                "the request is refused",
                400,
                r#"{"error":"invalid_request","error_description":"evil"}"#,
                "refused the request: invalid_request",
            ),
            (
                "the object is refused",
                400,
                r#"{"error":"invalid_request_object"}"#,
                "invalid_request_object",
            ),
            (
                "an error that nobody registered",
                400,
                r#"{"error":"evil"}"#,
                "an unregistered error",
            ),
            ("too large", 413, "", "status 4xx without"),
            (
                "401 in words",
                401,
                "evil",
                "without a json `error`: client_secret_basic is refused",
            ),
        ];
        for (name, status, body, text) in cases {
            let refused = answered("https://login.example.com/authorize", response(status, body));
            let Err(Error::Provider(said)) = refused else {
                panic!("{name}: {refused:?}")
            };
            assert!(said.contains(text), "{name}: {said}");
            assert!(!said.contains("evil"), "{name} repeats input: {said}");
        }
    }

    #[test]
    fn a_refused_client_is_told_by_its_own_method() {
        let assertion = config::ClientAuth::AssertionFile("/run/assertion".into());
        let (basic, assertion) = (
            provider(),
            Provider {
                client_auth: assertion,
                ..provider()
            },
        );
        for (name, provider, own, others) in [
            ("a secret", &basic, "`client_secret`", "assertion"),
            (
                "an assertion",
                &assertion,
                "the assertion in the file",
                "client_secret",
            ),
        ] {
            for body in [r#"{"error":"invalid_client"}"#, "evil"] {
                let refused = parse_reply(&response(401, body), provider, &metadata());
                let Err(error @ Error::Provider(_)) = refused else {
                    panic!("{name}: {refused:?}")
                };
                let said = error.to_string();
                assert!(said.contains(own) && !said.contains(others), "{name}: {said}");
                let code = body.starts_with('{').then_some("invalid_client");
                assert_eq!(pushed_refusal(&error), code, "{name}");
            }
        }
    }

    #[test]
    fn an_outage_is_none_of_the_requests_fault() {
        for (name, reply) in [
            ("no answer", Reply::Unreachable("it is not there")),
            ("500", response(500, "")),
            ("503", response(503, r#"{"error":"invalid_request"}"#)),
            ("429", response(429, "")),
            ("408", response(408, "")),
            (
                "in words",
                response(400, r#"{"error":"temporarily_unavailable"}"#),
            ),
            ("in other words", response(400, r#"{"error":"server_error"}"#)),
        ] {
            let outcome = answered("https://login.example.com/authorize", reply);
            assert!(
                matches!(outcome, Err(Error::ProviderUnavailable { retry_after, .. }) if retry_after > 0),
                "{name}"
            );
        }
    }
}
