//! Errors of ours in the way that gRPC and gRPC-web clients read them.
//!
//! Such a client looks at `grpc-status` and not at a JSON body: the answer is HTTP 200 with the
//! status among the headers and no body at all, which the gRPC protocol calls "Trailers-Only" and
//! gRPC-web takes too. The mapping follows what gRPC itself makes of an HTTP status, but where
//! ours says more. Messages are our own sentences; nothing of the request is repeated.

use bytes::Bytes;
use coatroom_core::error::Error;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;

use crate::respond::ERROR_HEADER;

/// The `Content-Type` of an answer to a gRPC request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect(&'static str);

/// Whether a request is gRPC's, and which of its dialects. One is always a `POST`.
pub(crate) fn dialect(method: &Method, headers: &HeaderMap) -> Option<Dialect> {
    if *method != Method::POST {
        return None;
    }
    let value = headers.get(header::CONTENT_TYPE)?.as_bytes();
    DIALECTS.into_iter().find_map(|name| {
        let (start, rest) = value.split_at_checked(name.len())?;
        let ends = matches!(rest.first(), None | Some(b'+' | b';' | b' '));
        (start.eq_ignore_ascii_case(name.as_bytes()) && ends).then_some(Dialect(name))
    })
}

/// An error, by the core's one table.
pub(crate) fn error(error: &Error, dialect: Dialect) -> Response<Full<Bytes>> {
    let answer = error.answer();
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(dialect.0));
    headers.insert(GRPC_STATUS, u16::from(status(answer.status)).into());
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&answer.detail)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(ERROR_HEADER, HeaderValue::from_static(answer.code));
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The gRPC status for an HTTP status of ours.
fn status(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 3,              // INVALID_ARGUMENT
        401 => 16,             // UNAUTHENTICATED
        403 => 7,              // PERMISSION_DENIED
        404 | 405 | 421 => 12, // UNIMPLEMENTED
        413 | 429 => 8,        // RESOURCE_EXHAUSTED
        500 => 13,             // INTERNAL
        502 | 503 => 14,       // UNAVAILABLE
        504 => 4,              // DEADLINE_EXCEEDED
        _ => 2,                // UNKNOWN
    }
}

/// A `grpc-message`: printable ASCII, the rest and `%` percent-encoded.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            plain => out.push(char::from(plain)),
        }
    }
    out
}

/// Longer names first: each is a beginning of the one before.
const DIALECTS: [&str; 3] = [
    "application/grpc-web-text",
    "application/grpc-web",
    "application/grpc",
];

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[test]
    fn a_grpc_request_is_known_by_method_and_content_type() {
        for (method, content_type, wanted) in [
            (Method::POST, "application/grpc", Some("application/grpc")),
            (Method::POST, "application/grpc+proto", Some("application/grpc")),
            (
                Method::POST,
                "Application/gRPC; charset=x",
                Some("application/grpc"),
            ),
            (
                Method::POST,
                "application/grpc-web+proto",
                Some("application/grpc-web"),
            ),
            (
                Method::POST,
                "application/grpc-web-text",
                Some("application/grpc-web-text"),
            ),
            (Method::POST, "application/grpcx", None),
            (Method::POST, "application/json", None),
            (Method::POST, "", None),
            (Method::GET, "application/grpc", None),
        ] {
            let headers: HeaderMap = [(
                header::CONTENT_TYPE,
                HeaderValue::from_str(content_type).expect("a value"),
            )]
            .into_iter()
            .collect();
            let found = dialect(&method, &headers).map(|dialect| dialect.0);
            assert_eq!(found, wanted, "{method} {content_type}");
        }
        assert_eq!(dialect(&Method::POST, &HeaderMap::new()), None);
    }

    #[test]
    fn each_kind_of_error_has_its_grpc_status_and_no_body() {
        for (failure, status, code) in [
            (Error::InvalidRequest("x"), "3", "invalid_request"),
            (Error::Unauthorized("x"), "16", "unauthorized"),
            (Error::TokenRequired("x"), "16", "unauthorized"),
            (Error::AccessTokenExpired, "16", "access_token_expired"),
            (Error::CsrfRejected("x"), "7", "csrf_rejected"),
            (Error::NotFound, "12", "not_found"),
            (Error::PayloadTooLarge, "8", "payload_too_large"),
            (Error::Bug("x"), "13", "server_error"),
            (
                Error::UpstreamUnavailable("secret".to_owned()),
                "14",
                "upstream_unavailable",
            ),
            (Error::UpstreamTimeout, "4", "upstream_timeout"),
        ] {
            let response = error(&failure, Dialect("application/grpc"));
            assert_eq!(response.status(), 200, "{code}");
            assert_eq!(response.headers()["content-type"], "application/grpc");
            assert_eq!(response.headers()["grpc-status"], status, "{code}");
            assert_eq!(response.headers()["token-handler-error"], code);
            assert_eq!(response.headers()["cache-control"], "no-store");
            let message = response.headers()["grpc-message"].to_str().expect("ascii");
            assert!(!message.is_empty() && !message.contains("secret"));
            assert!(response.body().is_end_stream());
        }
    }

    #[test]
    fn a_message_is_printable_whatever_it_says() {
        assert_eq!(percent_encoded("a b, 100 %\n\u{e9}"), "a b, 100 %25%0A%C3%A9");
    }
}
