//! Header hygiene on the way to an upstream and back.
//!
//! RFC 9110 §7.6.1 (hop-by-hop fields), RFC 9700 §4.13 (a reverse proxy sanitises what it sets),
//! RFC 9111 §5.2 (caching), RFC 6265bis §5.7 (cookie names). What a client says about identity,
//! credentials or its own address never reaches an upstream; what we say is written afterwards.
//! Neither cookies of our own shape nor CORS or site-data instructions come back from one. This
//! file never looks at `Host`, which a shell sets with the upstream's authority, nor at bodies.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use url::Url;

use crate::config::{Application, Auth, Route};
use crate::cookie::{is_ours, sets_ours};
use crate::error::Error;
use crate::guard::{Cors, TrustedRequest};
use crate::head::Single;
use crate::oauth::dpop::{BoundToken, Unaddressed};
use crate::packed::unpack_behind;
use crate::seal::ProofKey;
use crate::secret::Secret;

mod cache;
mod names;

/// What a shell knows about a client, from the connection and from listed peers
/// ([`TrustedPeers`](crate::peers::TrustedPeers)), never from what the client says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientFacts {
    /// Its address.
    pub address: Option<IpAddr>,
}

/// What has to happen to the answer of a forwarded request; decided before the request leaves.
#[derive(Clone, Debug)]
pub struct ResponseRules {
    caching: Caching,
    websocket: bool,
    /// Whether the client makes its own proofs, with nonces of the API (RFC 9449 §9).
    nonces: bool,
    cors: Cors,
}

/// Whether a token went upstream with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// One of ours did.
    Attached,
    /// The client's own did.
    Passed,
    /// None did.
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caching {
    /// The upstream's word stands.
    AsSaid,
    /// The route can attach a token and did not: caches must tell such answers from others.
    VaryByCookie,
    /// A token was attached: no shared cache may keep the answer.
    Private,
    /// A client's own token was passed on: the same, and answers differ by it.
    PrivateByToken,
}

/// Refuses a body framed by anything but `chunked`, once (RFC 9112 §6.1): another reader may take
/// the rest for something else. What HTTP libraries refuse anyway never gets here.
///
/// # Errors
/// [`Error::InvalidRequest`].
pub fn check_framing(headers: &HeaderMap) -> Result<(), Error> {
    match crate::head::single(headers, &header::TRANSFER_ENCODING) {
        Single::Absent => Ok(()),
        Single::Value(coding) if coding.eq_ignore_ascii_case("chunked") => Ok(()),
        Single::Value(_) | Single::Ambiguous => Err(Error::InvalidRequest(
            "`Transfer-Encoding` is something else than `chunked`",
        )),
    }
}

/// Takes everything off a request that is not the client's to say. Run before [`write_ours`].
///
/// # Errors
/// [`Error::InvalidRequest`] for a header name with an underscore: a CGI-like upstream reads it as
/// another name, with hyphens, and nobody's browser sends one.
pub fn strip_request(
    headers: &mut HeaderMap,
    application: &Application,
    route: &Route,
    request: &TrustedRequest<'_>,
) -> Result<(), Error> {
    let wants_trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|value| has_token(value, b"trailers"));
    let cookies = kept_cookies(headers, &route.cookies);
    remove_connection_named(headers);
    let mut underscore = false;
    remove_where(headers, |name| {
        if *name == application.csrf_header {
            return true;
        }
        let removed = names::never_forwarded(name.as_str());
        underscore |= removed && name.as_str().contains('_');
        removed
    });
    if underscore {
        return Err(Error::InvalidRequest("a header name has an underscore"));
    }
    if let Some(cookies) = cookies {
        headers.insert(header::COOKIE, cookies);
    }
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if request.is_websocket() {
        write_upgrade(headers);
    }
    Ok(())
}

/// Takes off a request's trailers what is taken off its headers: an upstream may merge the two.
pub fn strip_request_trailers(trailers: &mut HeaderMap, csrf_header: &HeaderName) {
    remove_where(trailers, |name| {
        name == csrf_header
            || names::never_forwarded(name.as_str())
            || names::FRAMING.contains(&name.as_str())
    });
}

/// Writes what we know: the token, the client's address, the public scheme and host.
///
/// # Errors
/// [`Error::Provider`] when the token cannot be written into a header.
pub fn write_ours(
    headers: &mut HeaderMap,
    application: &Application,
    authorization: Option<Authorization>,
    client: &ClientFacts,
) -> Result<(), Error> {
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization.into_value()?);
    }
    if let Some(address) = client.address.and_then(address_value) {
        headers.insert(X_FORWARDED_FOR, address);
    }
    let url = application.url.as_str();
    let (scheme, host) = match url.strip_prefix("https://") {
        Some(host) => ("https", host),
        None => ("http", url.strip_prefix("http://").unwrap_or_default()),
    };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(X_FORWARDED_HOST, host);
    }
    Ok(())
}

/// Writes what we know once more as `Forwarded` (RFC 7239): one element, since what other hops said
/// of each other is nobody's to rely on.
pub(crate) fn write_forwarded(headers: &mut HeaderMap, application: &Application, client: &ClientFacts) {
    let Some((scheme, host)) = application.url.as_str().split_once("://") else {
        return;
    };
    let node = match client.address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
        None => "unknown".to_owned(),
    };
    if let Ok(value) = HeaderValue::try_from(format!("for={node};host=\"{host}\";proto={scheme}")) {
        headers.insert(header::FORWARDED, value);
    }
}

/// Tells a development server that a request comes from its own pages, where it comes from the
/// application's: it serves them, and knows only its own address. A foreign origin stays foreign.
pub(crate) fn write_dev_server_origin(headers: &mut HeaderMap, application: &Application, dev_server: &Url) {
    let ours = |value: &HeaderValue| {
        application
            .origins
            .iter()
            .any(|origin| origin.as_str().as_bytes() == value.as_bytes())
    };
    let one = headers.get_all(header::ORIGIN).iter().count() == 1;
    if one
        && headers.get(header::ORIGIN).is_some_and(ours)
        && let Ok(own) = HeaderValue::try_from(dev_server.origin().ascii_serialization())
    {
        headers.insert(header::ORIGIN, own);
    }
}

impl ResponseRules {
    /// Whether the request asked for a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// The rules for the answer to `request` on `route`.
    pub fn new(route: &Route, request: &TrustedRequest<'_>, credential: Credential, cors: Cors) -> Self {
        let caching = match (credential, route.cache_public, route.auth) {
            (_, true, _) | (Credential::Absent, _, Auth::None) => Caching::AsSaid,
            (Credential::Absent, false, Auth::Optional | Auth::Required) => Caching::VaryByCookie,
            (Credential::Passed, false, _) | (Credential::Absent, false, Auth::Bearer) => {
                Caching::PrivateByToken
            }
            (Credential::Attached, false, _) => Caching::Private,
        };
        Self {
            caching,
            websocket: request.is_websocket(),
            nonces: credential == Credential::Passed,
            cors,
        }
    }
}

/// Takes everything off an answer that is not the upstream's to say, and adds ours.
pub fn clean_response(headers: &mut HeaderMap, status: StatusCode, rules: &ResponseRules) {
    keep_one_length(headers);
    remove_connection_named(headers);
    remove_where(headers, |name| {
        names::never_returned(name.as_str()) && !(rules.nonces && name.as_str() == names::DPOP_NONCE)
    });
    remove_our_cookies(headers);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    match rules.caching {
        Caching::AsSaid => {}
        Caching::VaryByCookie => vary(headers, "cookie", HeaderValue::from_static("Cookie")),
        Caching::Private => cache::keep_private(headers, &header::COOKIE),
        Caching::PrivateByToken => cache::keep_private(headers, &header::AUTHORIZATION),
    }
    rules.cors.write(headers);
    if rules.websocket && status == StatusCode::SWITCHING_PROTOCOLS {
        write_upgrade(headers);
    }
}

/// Takes off an answer's trailers what is taken off its headers.
pub fn clean_response_trailers(trailers: &mut HeaderMap) {
    remove_where(trailers, |name| {
        names::never_returned(name.as_str())
            || *name == header::SET_COOKIE
            || names::FRAMING.contains(&name.as_str())
    });
}

/// Leaves an answer one length at most, and none beside a transfer coding: the next reader must not
/// have to choose (RFC 9112 §6.3, RFC 9110 §8.6). The HTTP library has read the body by then, by
/// the coding or by lengths that agree.
fn keep_one_length(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(length), more) = (lengths.next(), lengths.next()) else {
        return;
    };
    let digits = length.as_bytes().iter().all(u8::is_ascii_digit);
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    } else if more.is_some() || !digits {
        let first = length.as_bytes().split(|b| *b == b',').next().unwrap_or_default();
        let one = HeaderValue::from_bytes(first.trim_ascii());
        headers.remove(header::CONTENT_LENGTH);
        if let Ok(one) = one {
            headers.insert(header::CONTENT_LENGTH, one);
        }
    }
}

/// Adds to `Vary` unless `name` (lower case) is in it already.
pub(crate) fn vary(headers: &mut HeaderMap, name: &str, value: HeaderValue) {
    let there = headers
        .get_all(header::VARY)
        .iter()
        .any(|value| has_token(value, name.as_bytes()) || has_token(value, b"*"));
    if !there {
        headers.append(header::VARY, value);
    }
}

/// The credentials of a forwarded request: `Bearer` and the token (RFC 6750 §2.1), or `DPoP` and one
/// that is bound to a key (RFC 9449 §7.1).
///
/// One of the two places where a token is exposed.
#[derive(Clone)]
pub struct Authorization {
    value: Option<HeaderValue>,
    /// The key that the token is bound to, if it is.
    bound: Option<Arc<BoundToken>>,
}

impl Authorization {
    /// The credentials for a token.
    pub fn bearer(token: &Secret) -> Self {
        Self::of(["Bearer ", token.expose()].concat().into_bytes(), BEARER)
    }

    /// Those for a packed token, if these bytes are one.
    pub(crate) fn unpack(packed: &[u8]) -> Option<Self> {
        let mut text = unpack_behind(BEARER, packed)?;
        Some(Self::of(std::mem::take(&mut *text), BEARER))
    }

    /// Those for a packed token that is bound to a key, if the bytes are a token and a key.
    pub(crate) fn unpack_bound(packed: &[u8], key: &ProofKey) -> Option<Self> {
        let mut text = unpack_behind(DPOP, packed)?;
        let bound = BoundToken::new(key, text.get(DPOP.len()..)?)?;
        let authorization = Self::of(std::mem::take(&mut *text), DPOP);
        Some(Self {
            bound: Some(bound),
            ..authorization
        })
    }

    /// Those for a token that a client passes on.
    pub(crate) fn passed_bearer(token: &str) -> Self {
        Self::of([BEARER, token.as_bytes()].concat(), BEARER)
    }

    /// Those for one that is bound to a key of the client, which makes the proofs itself.
    pub(crate) fn passed_dpop(token: &str) -> Self {
        Self::of([DPOP, token.as_bytes()].concat(), DPOP)
    }

    /// The key of a token of the client's own, ready to sign; none for bytes that are no key.
    pub(crate) fn bind(key: &ProofKey, token: &Secret) -> Option<Arc<BoundToken>> {
        BoundToken::new(key, token.expose().as_bytes())
    }

    /// Those for a token of the client's own, which may be bound to a key.
    pub(crate) fn of_client(token: &Secret, bound: Option<&Arc<BoundToken>>) -> Self {
        match bound {
            None => Self::bearer(token),
            Some(bound) => Self {
                bound: Some(Arc::clone(bound)),
                ..Self::of([DPOP, token.expose().as_bytes()].concat(), DPOP)
            },
        }
    }

    /// What makes the proofs that have to go with it, where the token is bound to a key.
    pub(crate) fn proofs(&self) -> Option<Unaddressed> {
        self.bound.clone().map(Unaddressed::of)
    }

    fn of(text: Vec<u8>, scheme: &[u8]) -> Self {
        // Without an early end the loop becomes vector instructions: tokens are long.
        let token = text.get(scheme.len()..).unwrap_or_default();
        let graphic = token.iter().fold(true, |good, b| good & b.is_ascii_graphic());
        let good = !token.is_empty() && graphic;
        let value = good.then(|| HeaderValue::try_from(text).ok()).flatten();
        Self {
            value: value.map(|mut value| {
                value.set_sensitive(true);
                value
            }),
            bound: None,
        }
    }

    /// The token alone, for whoever has to ask about it.
    pub(crate) fn token(&self) -> Option<Secret> {
        let (_, token) = self.value.as_ref()?.to_str().ok()?.split_once(' ')?;
        Some(Secret::new(token))
    }

    /// Scheme and token, for a digest of them.
    pub(crate) fn credentials(&self) -> Option<&[u8]> {
        Some(self.value.as_ref()?.as_bytes())
    }

    pub(crate) fn into_value(self) -> Result<HeaderValue, Error> {
        self.value.ok_or_else(|| {
            Error::Provider("the access token has characters that no header can carry".to_owned())
        })
    }
}

/// An address as a header value. IPv4 is written by hand, at a tenth of what formatting costs.
fn address_value(address: IpAddr) -> Option<HeaderValue> {
    let IpAddr::V4(address) = address.to_canonical() else {
        return HeaderValue::try_from(address.to_string()).ok();
    };
    let mut text = [0; 15];
    let mut left = text.iter_mut();
    for (position, octet) in address.octets().into_iter().enumerate() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let skipped = match octet {
            0..10 => 2,
            10..100 => 1,
            100.. => 0,
        };
        let dot = (position > 0).then_some(b'.');
        let digits = digits.into_iter().skip(skipped).map(|digit| b'0' | digit);
        for (byte, slot) in dot.into_iter().chain(digits).zip(&mut left) {
            *slot = byte;
        }
    }
    let unused = left.len();
    HeaderValue::from_bytes(text.get(..text.len().checked_sub(unused)?)?).ok()
}

/// The cookies that the route names, as one header value.
fn kept_cookies(headers: &HeaderMap, names: &[String]) -> Option<HeaderValue> {
    if names.is_empty() {
        return None;
    }
    let mut kept: Vec<u8> = Vec::new();
    for pair in headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b';'))
    {
        let pair = pair.trim_ascii();
        // without a `=` it is a value without a name (RFC 6265bis §5.7)
        let Some(equals) = pair.iter().position(|b| *b == b'=') else {
            continue;
        };
        let name = pair.get(..equals).unwrap_or_default().trim_ascii_end();
        let named = names.iter().any(|known| known.as_bytes() == name) && !is_ours(name);
        if named {
            if !kept.is_empty() {
                kept.extend_from_slice(b"; ");
            }
            kept.extend_from_slice(pair);
        }
    }
    let mut value = HeaderValue::from_bytes(&kept).ok().filter(|_| !kept.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}

/// Removes what `Connection` names, before anything of ours is written, so that a client can have
/// removed what it sent itself and nothing else. What frames or describes the content stays.
fn remove_connection_named(headers: &mut HeaderMap) {
    let more: Vec<HeaderValue> = headers
        .get_all(header::CONNECTION)
        .iter()
        .skip(1)
        .cloned()
        .collect();
    let Some(first) = headers.remove(header::CONNECTION) else {
        return;
    };
    for line in std::iter::once(&first).chain(&more) {
        for token in line.as_bytes().split(|b| *b == b',') {
            let token = token.trim_ascii();
            // what nearly every line says: no header's name, or one that never passes
            if token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close") {
                continue;
            }
            if let Ok(name) = std::str::from_utf8(token)
                && !names::FRAMING.iter().any(|kept| kept.eq_ignore_ascii_case(name))
            {
                headers.remove(name);
            }
        }
    }
}

/// Drops `Set-Cookie` lines whose name has the shape of ours.
fn remove_our_cookies(headers: &mut HeaderMap) {
    let ours = |line: &HeaderValue| sets_ours(line.as_bytes());
    if !headers.get_all(header::SET_COOKIE).iter().any(ours) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter(|line| !ours(line))
        .cloned()
        .collect();
    headers.remove(header::SET_COOKIE);
    for line in kept {
        headers.append(header::SET_COOKIE, line);
    }
}

fn write_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

fn has_token(value: &HeaderValue, token: &[u8]) -> bool {
    value
        .as_bytes()
        .split(|b| matches!(b, b',' | b';'))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// Removes every header whose name `doomed` picks: one pass, no allocation, a second pass only
/// where there was more to remove than the array holds.
fn remove_where(headers: &mut HeaderMap, mut doomed: impl FnMut(&HeaderName) -> bool) {
    loop {
        let mut found: [Option<HeaderName>; 8] = [const { None }; 8];
        {
            let mut picks = headers.keys().filter(|name| doomed(name));
            for slot in &mut found {
                *slot = picks.next().cloned();
            }
        }
        let full = found.iter().all(Option::is_some);
        for name in found.into_iter().flatten() {
            headers.remove(name);
        }
        if !full {
            return;
        }
    }
}

/// The scheme of a token that whoever has it may use.
const BEARER: &[u8] = b"Bearer ";

/// The scheme of one that is bound to a key.
const DPOP: &[u8] = b"DPoP ";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, dev_server, sibling, upstream};
    use crate::config::{ApplicationConfig, RouteConfig};
    use crate::guard::{Class, trust};
    use crate::head::Head;
    use http::Method;

    fn application(route: RouteConfig) -> Application {
        checked(ApplicationConfig {
            routes: vec![route],
            ..sibling()
        })
    }

    fn api(auth: Option<&str>) -> RouteConfig {
        upstream("/api", "http://127.0.0.1:5000", auth)
    }

    fn map(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("name: value");
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
            );
        }
        headers
    }

    /// In the order of names; removal from a `HeaderMap` does not keep any.
    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<(&str, String)> = headers
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str(),
                    format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())),
                )
            })
            .collect();
        lines.sort_by_key(|(name, _)| *name);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    fn trusted<'a>(application: &'a Application, headers: &HeaderMap) -> TrustedRequest<'a> {
        let head = Head {
            method: &Method::GET,
            target: "/api",
            authority: None,
            protocol: None,
            headers,
        };
        trust(Class::ProxiedNone, &head, application).expect("a request that needs no proof")
    }

    fn stripped(application: &Application, request: &[&str]) -> Vec<String> {
        let mut headers = map(request);
        let plain: Vec<&str> = request
            .iter()
            .copied()
            .filter(|line| !line.starts_with("upgrade: h2c"))
            .collect();
        let request = trusted(application, &map(&plain));
        let route = application.routes.first().expect("one route");
        strip_request(&mut headers, application, route, &request).expect("no underscore");
        lines(&headers)
    }

    #[test]
    fn a_development_server_takes_the_applications_pages_for_its_own_and_no_others() {
        let application = checked(ApplicationConfig {
            url: "http://localhost:8080".to_owned(),
            routes: vec![dev_server("/", "http://127.0.0.1:5173")],
            ..config()
        });
        let url = Url::parse("http://127.0.0.1:5173").expect("a url");
        for (sent, seen) in [
            (
                &["origin: http://localhost:8080"][..],
                &["origin: http://127.0.0.1:5173"][..],
            ),
            (
                &["origin: http://localhost:8081"],
                &["origin: http://localhost:8081"],
            ),
            (
                &["origin: https://evil.example"],
                &["origin: https://evil.example"],
            ),
            (&["origin: null"], &["origin: null"]),
            (
                &["origin: http://localhost:8080", "origin: https://evil.example"],
                &["origin: http://localhost:8080", "origin: https://evil.example"],
            ),
            (&[], &[]),
        ] {
            let mut headers = map(sent);
            write_dev_server_origin(&mut headers, &application, &url);
            assert_eq!(lines(&headers), seen, "{sent:?}");
        }
    }

    #[test]
    fn a_request_goes_upstream_without_what_the_client_may_not_say() {
        let application = application(api(None));
        let rows: &[(&str, &[&str], &[&str])] = &[
            (
                "nothing to do",
                &["accept: */*", "host: x"],
                &["accept: */*", "host: x"],
            ),
            (
                "credentials",
                &[
                    "authorization: Bearer x",
                    "authorization: Basic x",
                    "cookie: a=b",
                    "cookie: c=d",
                    "dpop: x",
                ],
                &[],
            ),
            (
                "the custom header",
                &["token-handler-version: 1", "token-handler-version: 2", "x: y"],
                &["x: y"],
            ),
            (
                "identity in any case",
                &[
                    "X-Forwarded-User: admin",
                    "REMOTE-USER: admin",
                    "X.Forwarded.User: admin",
                ],
                &[],
            ),
            (
                "many at once",
                &[
                    "x-forwarded-a: 1",
                    "x-forwarded-b: 1",
                    "x-forwarded-c: 1",
                    "x-forwarded-d: 1",
                    "x-forwarded-e: 1",
                    "x-forwarded-f: 1",
                    "x-forwarded-g: 1",
                    "x-forwarded-h: 1",
                    "x-forwarded-i: 1",
                    "b: 2",
                    "x-real-ip: 1",
                ],
                &["b: 2"],
            ),
            (
                "hop by hop",
                &[
                    "connection: close, X-Hop",
                    "keep-alive: 1",
                    "transfer-encoding: chunked",
                    "x-hop: 1",
                    "x-end: 1",
                ],
                &["x-end: 1"],
            ),
            (
                "two Connection headers",
                &[
                    "connection: x-a",
                    "connection: , x-b ,\u{e9}",
                    "x-a: 1",
                    "x-b: 1",
                    "x-c: 1",
                ],
                &["x-c: 1"],
            ),
            (
                "what frames the body stays",
                &[
                    "connection: content-length, HOST, Content-Type",
                    "content-length: 1",
                    "host: x",
                    "content-type: a/b",
                ],
                &["content-length: 1", "host: x", "content-type: a/b"],
            ),
            ("TE", &["te: gzip, trailers;q=1"], &["te: trailers"]),
            ("TE without trailers", &["te: gzip"], &[]),
            (
                "Connection names TE",
                &["te: trailers", "connection: te"],
                &["te: trailers"],
            ),
            ("an upgrade that is none", &["connection: upgrade"], &[]),
            (
                "h2c",
                &[
                    "upgrade: h2c",
                    "connection: upgrade, http2-settings",
                    "http2-settings: x",
                ],
                &[],
            ),
            (
                "a websocket",
                &[
                    "upgrade: websocket",
                    "connection: keep-alive, upgrade",
                    "sec-websocket-key: k",
                ],
                &[
                    "sec-websocket-key: k",
                    "connection: upgrade",
                    "upgrade: websocket",
                ],
            ),
        ];
        for (name, request, expected) in rows {
            assert_eq!(stripped(&application, request), lines(&map(expected)), "{name}");
        }
    }

    #[test]
    fn a_body_is_chunked_once_or_not_at_all() {
        for (request, good) in [
            (&["content-length: 1"][..], true),
            (&["transfer-encoding: chunked"], true),
            (&["transfer-encoding: Chunked"], true),
            (&["transfer-encoding: chunked, chunked"], false),
            (
                &["transfer-encoding: chunked", "transfer-encoding: chunked"],
                false,
            ),
            (&["transfer-encoding: gzip, chunked"], false),
            (&["transfer-encoding: identity"], false),
            (&["transfer-encoding: "], false),
        ] {
            assert_eq!(check_framing(&map(request)).is_ok(), good, "{request:?}");
        }
    }

    #[test]
    fn only_named_cookies_go_upstream_and_never_ours() {
        let application = application(RouteConfig {
            cookies: vec!["locale".to_owned(), "theme".to_owned()],
            ..api(None)
        });
        for (cookies, expected) in [
            ("locale=en", Some("locale=en")),
            (
                "a=b; locale=en;theme=dark ; LOCALE=x",
                Some("locale=en; theme=dark"),
            ),
            ("theme; locale; theme=dark; =theme", Some("theme=dark")),
            ("xlocale=1; locale2=1", None),
            ("__Host-Http-shop-access=secret; locale=", Some("locale=")),
            ("locale", None),
            ("", None),
        ] {
            let line = format!("cookie: {cookies}");
            let expected: Vec<String> = expected.iter().map(|kept| format!("cookie: {kept}")).collect();
            assert_eq!(stripped(&application, &[&line]), expected, "{cookies}");
        }
        assert_eq!(
            stripped(&application, &["cookie: locale=en", "cookie: x=y; theme=dark"]),
            ["cookie: locale=en; theme=dark"]
        );
    }

    #[test]
    fn an_answer_keeps_one_length_and_none_beside_chunks() {
        for (lines, left) in [
            (&["content-length: 5"][..], Some("5")),
            (&["content-length: 5", "content-length: 5"], Some("5")),
            (&["content-length: 5, 5"], Some("5")),
            (&["content-length: 5 ,5", "content-length: 5"], Some("5")),
            (&["content-length: 5", "transfer-encoding: chunked"], None),
            (&["transfer-encoding: chunked", "content-length: 0"], None),
            (&["content-length: 5", "transfer-encoding: gzip"], None),
            (&["transfer-encoding: chunked"], None),
            (&[], None),
        ] {
            let mut headers = map(lines);
            keep_one_length(&mut headers);
            let kept: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
            assert_eq!(kept, left.into_iter().collect::<Vec<_>>(), "{lines:?}");
        }
    }

    #[test]
    fn a_header_name_with_an_underscore_is_refused() {
        let application = application(api(None));
        let route = application.routes.first().expect("one route");
        for (line, good) in [
            ("x_forwarded_user: admin", false),
            ("content_length: 5", false),
            ("_a: b", false),
            ("x-a_: b", false),
            ("x.a: b", true),
            ("x-a: b_c", true),
        ] {
            let mut headers = map(&[line]);
            let request = trusted(&application, &headers);
            let outcome = strip_request(&mut headers, &application, route, &request);
            assert_eq!(outcome.is_ok(), good, "{line}");
        }
    }

    #[test]
    fn connection_cannot_remove_what_we_write() {
        let application = application(api(None));
        let request = ["connection: authorization, x-forwarded-for, x-forwarded-host, x-forwarded-proto"];
        let mut headers = map(&request);
        let trusted = trusted(&application, &headers);
        let route = application.routes.first().expect("one route");
        strip_request(&mut headers, &application, route, &trusted).expect("no underscore");
        let client = ClientFacts {
            address: Some("::ffff:192.0.2.1".parse().expect("an address")),
        };
        write_ours(
            &mut headers,
            &application,
            Some(Authorization::bearer(&Secret::new("t0ken"))),
            &client,
        )
        .expect("a token");
        assert_eq!(
            lines(&headers),
            [
                "authorization: Bearer t0ken",
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-host: shop.example.com",
                "x-forwarded-proto: https",
            ]
        );
        assert!(
            headers
                .get(header::AUTHORIZATION)
                .expect("written")
                .is_sensitive()
        );
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        let application = checked(config());
        for token in ["", "a b", "a\r\nX: y", "a\0", "\u{e9}"] {
            let mut headers = HeaderMap::new();
            let result = write_ours(
                &mut headers,
                &application,
                Some(Authorization::bearer(&Secret::new(token))),
                &ClientFacts::default(),
            );
            assert!(matches!(result, Err(Error::Provider(_))));
            assert!(headers.is_empty());
        }
        let mut headers = HeaderMap::new();
        write_ours(&mut headers, &application, None, &ClientFacts::default()).expect("no token");
        assert_eq!(
            lines(&headers),
            ["x-forwarded-host: shop.example.com", "x-forwarded-proto: https"]
        );
    }

    #[test]
    fn request_trailers_carry_nothing_that_headers_may_not() {
        let application = checked(config());
        let mut trailers = map(&[
            "grpc-status: 0",
            "authorization: x",
            "cookie: x",
            "x-forwarded-user: x",
            "host: x",
            "content-length: 1",
            "token-handler-version: 1",
        ]);
        strip_request_trailers(&mut trailers, &application.csrf_header);
        assert_eq!(lines(&trailers), ["grpc-status: 0"]);
    }

    fn cleaned(
        application: &Application,
        credential: Credential,
        status: StatusCode,
        answer: &[&str],
    ) -> Vec<String> {
        let request = if status == StatusCode::SWITCHING_PROTOCOLS {
            map(&["upgrade: websocket", "connection: upgrade"])
        } else {
            HeaderMap::new()
        };
        let route = application.routes.first().expect("one route");
        let rules = ResponseRules::new(
            route,
            &trusted(application, &request),
            credential,
            Cors::default(),
        );
        let mut headers = map(answer);
        clean_response(&mut headers, status, &rules);
        lines(&headers)
    }

    #[test]
    fn an_answer_comes_back_without_what_the_upstream_may_not_say() {
        const NOSNIFF: &str = "x-content-type-options: nosniff";
        let application = application(api(Some("none")));
        let rows: &[(&str, &[&str], &[&str])] = &[
            (
                "plain",
                &["content-type: a/b", "x-content-type-options: x"],
                &["content-type: a/b", NOSNIFF],
            ),
            (
                "hop by hop",
                &[
                    "connection: close, x-hop",
                    "x-hop: 1",
                    "keep-alive: 1",
                    "transfer-encoding: chunked",
                    "upgrade: h2c",
                    "proxy-authenticate: x",
                ],
                &[NOSNIFF],
            ),
            (
                "site data and CORS",
                &[
                    "clear-site-data: \"*\"",
                    "access-control-allow-origin: *",
                    "access-control-allow-credentials: true",
                    "access-control-anything: x",
                ],
                &[NOSNIFF],
            ),
            (
                "our own header",
                &["token-handler-error: session_expired"],
                &[NOSNIFF],
            ),
            (
                "what Connection may not remove",
                &["connection: content-length", "content-length: 1"],
                &["content-length: 1", NOSNIFF],
            ),
            (
                "its cookies",
                &["set-cookie: a=b; Path=/", "set-cookie: c=d"],
                &["set-cookie: a=b; Path=/", "set-cookie: c=d", NOSNIFF],
            ),
            (
                "cookies like ours",
                &[
                    "set-cookie: a=b",
                    "set-cookie: __Host-Http-shop-access=x",
                    "set-cookie:   __secure-SHOP-session.1 =x",
                    "set-cookie: =__Host-Http-shop-ended=x",
                    "set-cookie: __Host-Http-shop-logout",
                    "set-cookie: c=__Secure-shop-session",
                ],
                &["set-cookie: a=b", "set-cookie: c=__Secure-shop-session", NOSNIFF],
            ),
        ];
        for (name, answer, expected) in rows {
            let mut expected: Vec<&str> = expected.to_vec();
            let mut now = cleaned(&application, Credential::Absent, StatusCode::OK, answer);
            expected.sort_unstable();
            now.sort_unstable();
            assert_eq!(now, expected, "{name}");
        }
    }

    #[test]
    fn a_websocket_answer_keeps_its_upgrade() {
        let application = application(api(Some("none")));
        let answer = [
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-accept: x",
        ];
        assert_eq!(
            cleaned(
                &application,
                Credential::Absent,
                StatusCode::SWITCHING_PROTOCOLS,
                &answer
            ),
            [
                "connection: upgrade",
                "sec-websocket-accept: x",
                "upgrade: websocket",
                "x-content-type-options: nosniff",
            ]
        );
        assert_eq!(
            cleaned(&application, Credential::Absent, StatusCode::OK, &answer),
            ["sec-websocket-accept: x", "x-content-type-options: nosniff"]
        );
    }

    #[test]
    fn caching_depends_on_route_and_credential() {
        let public = RouteConfig {
            cache: Some("public".to_owned()),
            ..api(None)
        };
        let as_said = ["cache-control: public", "x-content-type-options: nosniff"];
        let varies = [
            "cache-control: public",
            "vary: Cookie",
            "x-content-type-options: nosniff",
        ];
        let private = [
            "cache-control: private",
            "vary: Cookie",
            "x-content-type-options: nosniff",
        ];
        for (route, credential, expected) in [
            (api(None), Credential::Attached, &private[..]),
            (api(Some("optional")), Credential::Attached, &private),
            (api(Some("optional")), Credential::Absent, &varies),
            (api(Some("none")), Credential::Absent, &as_said),
            (public, Credential::Attached, &as_said),
        ] {
            let application = application(route);
            let mut now = cleaned(
                &application,
                credential,
                StatusCode::OK,
                &["cache-control: public"],
            );
            now.sort_unstable();
            assert_eq!(now, expected);
        }
    }

    #[test]
    fn ours_replaces_the_upstreams_cors() {
        let application = application(api(None));
        let request = map(&["origin: https://www.example.com"]);
        let head = Head {
            method: &Method::GET,
            target: "/api",
            authority: None,
            protocol: None,
            headers: &request,
        };
        let route = application.routes.first().expect("one route");
        let rules = ResponseRules::new(
            route,
            &trusted(&application, &request),
            Credential::Attached,
            Cors::of(&application, &head),
        );
        let mut headers = map(&["access-control-allow-origin: *", "vary: accept"]);
        clean_response(&mut headers, StatusCode::OK, &rules);
        assert_eq!(
            headers
                .get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN)
                .iter()
                .collect::<Vec<_>>(),
            ["https://www.example.com"]
        );
        assert_eq!(
            headers.get_all(header::VARY).iter().collect::<Vec<_>>(),
            ["accept", "Cookie", "Origin"]
        );
    }

    #[test]
    fn response_trailers_set_no_cookies() {
        let mut trailers = map(&[
            "grpc-status: 0",
            "set-cookie: a=b",
            "clear-site-data: x",
            "access-control-allow-origin: *",
            "content-length: 1",
        ]);
        clean_response_trailers(&mut trailers);
        assert_eq!(lines(&trailers), ["grpc-status: 0"]);
    }
}
