//! From the core's answers and errors to HTTP responses.
//!
//! JSON is `application/json` exactly. Nothing of the request is repeated in a body: the internal
//! text goes to the log, the fixed sentence of the table to the caller. Everything of ours is
//! `no-store`.

use bytes::Bytes;
use coatroom_core::error::Error;
use coatroom_core::flow::{AgentResponse, Refusal};
use http::{HeaderName, HeaderValue, Response, header};
use http_body_util::Full;

use crate::grpc;

/// Says which error an answer of ours is, for clients that lose the body, and to tell our 401
/// from the API's.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("token-handler-error");

/// What kind of client reads an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// JSON.
    Script,
    /// A small page, without any text of the request.
    Person,
    /// A `grpc-status`, without a body.
    Grpc(grpc::Dialect),
}

impl Reader {
    /// The same, but that nobody is shown a page.
    pub(crate) fn unless_person(self) -> Self {
        match self {
            Self::Person => Self::Script,
            Self::Script | Self::Grpc(_) => self,
        }
    }
}

/// An agent endpoint's answer.
pub(crate) fn answer(outcome: Result<AgentResponse, Refusal>, reader: Reader) -> Response<Full<Bytes>> {
    let (mut response, set_cookies) = match outcome {
        Ok(answer) => {
            let body = answer.json.map(|json| json.to_string()).unwrap_or_default();
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = answer.status;
            match answer.location {
                Some(location) => {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                None => {
                    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
                }
            }
            if let Some(policy) = answer.empty_page {
                *response.body_mut() = Full::new(Bytes::from_static(EMPTY_PAGE));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HTML);
                headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            (response, answer.set_cookies)
        }
        Err(refusal) => (error(&refusal.error, reader), refusal.set_cookies),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::REFERRER_POLICY, NO_REFERRER);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    for line in set_cookies {
        headers.append(header::SET_COOKIE, line);
    }
    response
}

/// An error, by the core's one table.
pub(crate) fn error(error: &Error, reader: Reader) -> Response<Full<Bytes>> {
    let answer = error.answer();
    let (content_type, body) = match reader {
        Reader::Grpc(dialect) => return grpc::error(error, dialect),
        Reader::Script => {
            let mut json = serde_json::json!({"error_code": answer.code, "detailed_error": answer.detail});
            if let (Some(code), Some(object)) = (error.provider_error(), json.as_object_mut()) {
                object.insert("provider_error".to_owned(), code.into());
            }
            (JSON, json.to_string())
        }
        Reader::Person => {
            let retry = match error {
                Error::DevServerUnavailable { .. } => LOOK_AGAIN,
                _ => "",
            };
            (HTML, page(answer.code, &answer.detail, retry))
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    // the address may have a code in it (RFC 9700 §4.2.4)
    headers.insert(header::REFERRER_POLICY, NO_REFERRER);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(ERROR_HEADER, HeaderValue::from_static(answer.code));
    if reader == Reader::Person {
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        );
    }
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(challenge) = error
        .challenge()
        .and_then(|text| HeaderValue::try_from(text).ok())
    {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Error::MethodNotAllowed { allow } = error {
        let allow = allow
            .iter()
            .map(http::Method::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        if let Ok(value) = HeaderValue::from_str(&allow) {
            headers.insert(header::ALLOW, value);
        }
    }
    response
}

/// A page; `head` is markup of ours.
fn page(code: &str, detail: &str, head: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>This did not work</title>{head}\
         <h1>This did not work</h1><p>{detail}.</p><p>Code: {code}</p></html>"
    )
}

/// The page comes by itself once the development server runs.
const LOOK_AGAIN: &str = "<meta http-equiv=\"refresh\" content=\"2\">";

/// A page without anything, not even a title to show in a frame.
const EMPTY_PAGE: &[u8] = b"<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title></title></html>";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn body(error: &Error, reader: Reader) -> (Response<()>, String) {
        let (parts, body) = super::error(error, reader).into_parts();
        let bytes = body.collect().await.expect("in memory").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        (Response::from_parts(parts, ()), text)
    }

    #[tokio::test]
    async fn a_development_server_that_does_not_run_is_named() {
        let error = Error::DevServerUnavailable {
            address: "http://localhost:5173".to_owned(),
            reason: "no connection: connection refused".to_owned(),
        };
        for reader in [Reader::Script, Reader::Person] {
            let (response, text) = body(&error, reader).await;
            assert_eq!(response.status(), 502);
            assert_eq!(response.headers()[ERROR_HEADER], "upstream_unavailable");
            assert!(
                text.contains("nothing answers at http://localhost:5173;"),
                "{text}"
            );
            assert!(text.contains("`npm run dev`"), "{text}");
            assert!(!text.contains("refused"), "the reason is for the log");
            let looks_again = text.contains("http-equiv=\"refresh\"");
            assert_eq!(looks_again, reader == Reader::Person);
        }
    }

    #[tokio::test]
    async fn no_other_page_looks_again_by_itself() {
        let (_, text) = body(&Error::UpstreamUnavailable(String::new()), Reader::Person).await;
        assert!(!text.contains("refresh"), "{text}");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_read_is_said_to_be_one() {
        let (response, text) = body(
            &Error::FilesUnavailable("entity not found".to_owned()),
            Reader::Script,
        )
        .await;
        assert_eq!(response.status(), 502);
        assert!(
            text.contains("the folder with the application's files cannot be read"),
            "{text}"
        );
        assert!(!text.contains("entity"), "{text}");
    }
}
