//! A borrowed view of a request's head: what every decision looks at.
//!
//! Not `http::request::Parts`, so that a gateway check, another codec or wasm can ask as well.
//! It never sees a body.

use http::{HeaderMap, HeaderName, Method};

/// Method, target and headers of one request.
pub struct Head<'a, H> {
    /// The request method.
    pub method: &'a Method,
    /// Path and query, as received: `/api/orders?page=2`.
    pub target: &'a str,
    /// The authority of an absolute-form target or `:authority`, if there was one.
    pub authority: Option<&'a str>,
    /// Whether this is an HTTP/2 extended CONNECT or an HTTP/1.1 upgrade to a WebSocket is read
    /// from the headers and the method; `protocol` is the `:protocol` pseudo-header.
    pub protocol: Option<&'a str>,
    /// The headers.
    pub headers: &'a H,
}

/// Header look-ups.
pub trait Headers {
    /// All values of a header, in order.
    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]>;
}

impl Headers for HeaderMap {
    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).into_iter().map(http::HeaderValue::as_bytes)
    }
}

/// The only value of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Single<'a> {
    /// The header is not there.
    Absent,
    /// It is there once, as visible ASCII.
    Value(&'a str),
    /// It is there more than once, or not as visible ASCII: nobody should have to choose.
    Ambiguous,
}

impl<'a, H: Headers> Head<'a, H> {
    /// The only value of `name`.
    pub fn single(&self, name: &HeaderName) -> Single<'a> {
        single(self.headers, name)
    }
}

/// The only value of `name` in `headers`.
pub fn single<'a>(headers: &'a impl Headers, name: &HeaderName) -> Single<'a> {
    let mut values = headers.values(name);
    match (values.next(), values.next()) {
        (None, _) => Single::Absent,
        (Some(value), None) => match std::str::from_utf8(value) {
            Ok(text) if text.bytes().all(|b| (0x20..0x7f).contains(&b)) => Single::Value(text),
            _ => Single::Ambiguous,
        },
        (Some(_), Some(_)) => Single::Ambiguous,
    }
}
