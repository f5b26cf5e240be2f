//! CORS: preflights answered here, actual answers labelled (Fetch §3.3, "CORS protocol").
//!
//! Origins are exact, credentials are allowed (but where clients bring their own token), `*` is never
//! answered. A preflight never travels to
//! an upstream; an origin that is not listed gets no CORS header at all.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::listed_origin;
use crate::config::{Application, Auth};
use crate::error::Error;
use crate::head::{Head, Headers, Single};
use crate::route::{self, NormalPath, Resolved};

/// The answer to a CORS preflight, to be sent with status 204.
#[derive(Debug)]
pub struct Preflight {
    /// All its headers.
    pub headers: HeaderMap,
}

/// What an actual answer has to say about CORS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// The listed origin to name, when the request came from another one than the agent's.
    origin: Option<HeaderValue>,
    /// Whether answers differ by `Origin` at all.
    varies: bool,
    /// Whether callers bring their own token, and browsers shall send nothing by themselves.
    own_token: bool,
}

/// Answers a CORS preflight; nothing if the request is not one. It is never passed on.
///
/// # Errors
/// [`Error::OriginNotAllowed`], [`Error::InvalidRequest`] for header names that are none, and what
/// the path is refused for.
pub fn preflight(
    application: &Application,
    head: &Head<'_, impl Headers>,
    path: &NormalPath<'_>,
) -> Option<Result<Preflight, Error>> {
    let asks = *head.method == Method::OPTIONS
        && head.single(&header::ACCESS_CONTROL_REQUEST_METHOD) != Single::Absent
        && head.single(&header::ORIGIN) != Single::Absent;
    asks.then(|| answer_preflight(application, head, path))
}

impl Cors {
    /// What answers to this request have to say, errors included.
    pub fn of(application: &Application, head: &Head<'_, impl Headers>) -> Self {
        let varies = application
            .origins
            .iter()
            .any(|origin| *origin != application.url);
        let origin = match head.single(&header::ORIGIN) {
            Single::Value(value) if varies && value != application.url.as_str() => application
                .origins
                .iter()
                .find(|origin| origin.as_str() == value)
                .and_then(|origin| HeaderValue::from_str(origin.as_str()).ok()),
            Single::Value(_) | Single::Absent | Single::Ambiguous => None,
        };
        Self {
            origin,
            varies,
            own_token: false,
        }
    }

    /// The same for what a path resolves to: where clients bring their own token nothing that a browser
    /// adds by itself is allowed, and the nonces of their proofs can be read.
    pub fn at(self, resolved: &Resolved<'_>) -> Self {
        let own_token = match resolved {
            Resolved::Agent(_) => false,
            Resolved::Proxy { route, .. } => route.auth == Auth::Bearer,
        };
        Self { own_token, ..self }
    }

    /// Writes the headers of an actual answer.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            if !self.own_token {
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                    HeaderValue::from_static("true"),
                );
            }
            let readable = match self.own_token {
                false => "WWW-Authenticate, Retry-After, token-handler-error",
                true => "WWW-Authenticate, Retry-After, token-handler-error, DPoP-Nonce",
            };
            headers.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(readable),
            );
        }
        if self.varies {
            crate::headers::vary(headers, "origin", HeaderValue::from_static("Origin"));
        }
    }
}

fn answer_preflight(
    application: &Application,
    head: &Head<'_, impl Headers>,
    path: &NormalPath<'_>,
) -> Result<Preflight, Error> {
    listed_origin(application, head)?;
    let resolved = route::locate(application, path)?;
    let mut headers = HeaderMap::new();
    Cors::of(application, head).at(&resolved).write(&mut headers);
    headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
    if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            allowed_methods(&resolved, head)?,
        );
        if let Some(names) = allowed_headers(head)? {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static(PREFLIGHT_MAX_AGE),
        );
    }
    crate::headers::vary(
        &mut headers,
        "access-control-request-method",
        HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    Ok(Preflight { headers })
}

fn allowed_methods(resolved: &Resolved<'_>, head: &Head<'_, impl Headers>) -> Result<HeaderValue, Error> {
    let bad = Error::InvalidRequest("Access-Control-Request-Method is not a method");
    let Single::Value(asked) = head.single(&header::ACCESS_CONTROL_REQUEST_METHOD) else {
        return Err(bad);
    };
    let Ok(asked) = asked.parse::<Method>() else {
        return Err(bad);
    };
    let mut methods = resolved.methods();
    if resolved.takes(&asked) && asked != Method::CONNECT && !methods.contains(&asked) {
        methods.push(asked);
    }
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    HeaderValue::try_from(names.join(", ")).map_err(|_| bad)
}

fn allowed_headers(head: &Head<'_, impl Headers>) -> Result<Option<HeaderValue>, Error> {
    let bad = Error::InvalidRequest("Access-Control-Request-Headers is not a list of header names");
    let list = match head.single(&header::ACCESS_CONTROL_REQUEST_HEADERS) {
        Single::Absent => return Ok(None),
        Single::Ambiguous => return Err(bad),
        Single::Value(list) => list,
    };
    let mut names = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(bad);
        };
        names.push(name);
    }
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    if names.is_empty() {
        return Ok(None);
    }
    HeaderValue::try_from(names.join(", ")).map(Some).map_err(|_| bad)
}

/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_MAX_AGE: &str = "600";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, sibling, upstream};
    use crate::config::{ApplicationConfig, RouteConfig};

    fn application() -> Application {
        checked(sibling())
    }

    fn with_head<T>(method: &str, lines: &[&str], then: impl FnOnce(&Head<'_, HeaderMap>) -> T) -> T {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("name: value");
            headers.append(
                name.parse::<HeaderName>().expect("a name"),
                value.parse().expect("a value"),
            );
        }
        then(&Head {
            method: &method.parse().expect("a method"),
            target: "/",
            authority: None,
            protocol: None,
            headers: &headers,
        })
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ascii")))
            .collect();
        lines.sort();
        lines
    }

    fn asked(
        application: &Application,
        method: &str,
        path: &str,
        head: &[&str],
    ) -> Option<Result<Vec<String>, Error>> {
        let path = NormalPath::parse(path).expect("a path");
        with_head(method, head, |head| {
            preflight(application, head, &path).map(|answer| answer.map(|answer| lines(&answer.headers)))
        })
    }

    const WWW: &str = "origin: https://www.example.com";
    const POST: &str = "access-control-request-method: POST";

    #[test]
    fn a_preflight_from_a_listed_origin_is_answered() {
        let head = [
            WWW,
            POST,
            "access-control-request-headers: token-handler-version, Content-Type",
        ];
        assert_eq!(
            asked(&application(), "OPTIONS", "/auth/login/start", &head),
            Some(Ok(vec![
                "access-control-allow-credentials: true".to_owned(),
                "access-control-allow-headers: token-handler-version, content-type".to_owned(),
                "access-control-allow-methods: POST".to_owned(),
                "access-control-allow-origin: https://www.example.com".to_owned(),
                "access-control-max-age: 600".to_owned(),
                "vary: Access-Control-Request-Method, Access-Control-Request-Headers".to_owned(),
                "vary: Origin".to_owned(),
            ]))
        );
    }

    #[test]
    fn a_preflight_names_the_methods_of_the_route() {
        let narrow = checked(ApplicationConfig {
            routes: vec![RouteConfig {
                methods: Some(vec!["GET".to_owned(), "PUT".to_owned()]),
                ..upstream("/api", "http://127.0.0.1:5000", None)
            }],
            ..sibling()
        });
        for (application, method, expected) in [
            (&narrow, "PUT", "GET, PUT"),
            (&narrow, "DELETE", "GET, PUT"),
            (
                &application(),
                "POST",
                "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            ),
            (
                &application(),
                "REPORT",
                "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, REPORT",
            ),
            (
                &application(),
                "TRACE",
                "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            ),
            (
                &application(),
                "CONNECT",
                "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            ),
        ] {
            let method = format!("access-control-request-method: {method}");
            let answer = asked(application, "OPTIONS", "/api/x", &[WWW, &method])
                .expect("a preflight")
                .expect("an answer");
            assert!(
                answer.contains(&format!("access-control-allow-methods: {expected}")),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn a_preflight_that_is_not_ours_to_grant_is_refused() {
        let application = application();
        let rows: &[(&str, &str, &[&str], &str)] = &[
            (
                "foreign",
                "/api/x",
                &["origin: https://evil.net", POST],
                "origin_not_allowed",
            ),
            ("null", "/api/x", &["origin: null", POST], "origin_not_allowed"),
            (
                "a suffix",
                "/api/x",
                &["origin: https://www.example.com.evil.net", POST],
                "origin_not_allowed",
            ),
            ("two origins", "/api/x", &[WWW, WWW, POST], "csrf_rejected"),
            ("two methods", "/api/x", &[WWW, POST, POST], "invalid_request"),
            (
                "no method",
                "/api/x",
                &[WWW, "access-control-request-method: a b"],
                "invalid_request",
            ),
            (
                "no header name",
                "/api/x",
                &[WWW, POST, "access-control-request-headers: a b"],
                "invalid_request",
            ),
            (
                "two lists",
                "/api/x",
                &[
                    WWW,
                    POST,
                    "access-control-request-headers: a",
                    "access-control-request-headers: b",
                ],
                "invalid_request",
            ),
            ("nothing there", "/auth/x", &[WWW, POST], "not_found"),
        ];
        for (name, path, head, expected) in rows {
            let answer = asked(&application, "OPTIONS", path, head).expect(name);
            assert_eq!(
                answer.map_err(|error| error.answer().code),
                Err(*expected),
                "{name}"
            );
        }
    }

    #[test]
    fn a_route_of_tokens_allows_them_and_no_credentials_of_the_browsers_own() {
        let application = checked(ApplicationConfig {
            routes: vec![upstream("/api", "http://127.0.0.1:5000", Some("bearer"))],
            ..sibling()
        });
        let head = [WWW, POST, "access-control-request-headers: authorization, dpop"];
        let answer = asked(&application, "OPTIONS", "/api/x", &head)
            .expect("a preflight")
            .expect("an answer");
        assert!(answer.contains(&"access-control-allow-headers: authorization, dpop".to_owned()));
        assert!(answer.contains(&"access-control-allow-origin: https://www.example.com".to_owned()));
        assert!(
            !answer.iter().any(|line| line.contains("credentials")),
            "{answer:?}"
        );
        let path = NormalPath::parse("/api/x").expect("a path");
        let resolved = route::locate(&application, &path).expect("a route");
        let mut headers = HeaderMap::new();
        with_head("POST", &[WWW], |head| {
            Cors::of(&application, head).at(&resolved).write(&mut headers);
        });
        assert_eq!(
            lines(&headers),
            [
                "access-control-allow-origin: https://www.example.com",
                "access-control-expose-headers: WWW-Authenticate, Retry-After, token-handler-error, DPoP-Nonce",
                "vary: Origin",
            ]
        );
    }

    #[test]
    fn what_is_no_preflight_is_left_alone() {
        let application = application();
        assert!(asked(&application, "OPTIONS", "/api/x", &[WWW]).is_none());
        assert!(asked(&application, "OPTIONS", "/api/x", &[POST]).is_none());
        assert!(asked(&application, "POST", "/api/x", &[WWW, POST]).is_none());
    }

    #[test]
    fn answers_name_the_exact_origin_or_none() {
        let ours = [
            "access-control-allow-credentials: true",
            "access-control-allow-origin: https://www.example.com",
            "access-control-expose-headers: WWW-Authenticate, Retry-After, token-handler-error",
            "vary: Origin",
        ];
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("listed", &[WWW], &ours),
            ("none", &[], &["vary: Origin"]),
            ("foreign", &["origin: https://evil.net"], &["vary: Origin"]),
            ("null", &["origin: null"], &["vary: Origin"]),
            ("repeated", &[WWW, WWW], &["vary: Origin"]),
            (
                "the agent's own",
                &["origin: https://shop.example.com"],
                &["vary: Origin"],
            ),
        ];
        for (name, head, expected) in rows {
            let mut headers = HeaderMap::new();
            with_head("GET", head, |head| Cors::of(&application(), head)).write(&mut headers);
            assert_eq!(lines(&headers), *expected, "{name}");
        }
    }

    #[test]
    fn the_agents_own_origin_needs_no_cors_though_it_is_listed_beside_others() {
        let application = checked(ApplicationConfig {
            origins: Some(vec![
                "https://www.example.com".to_owned(),
                "https://shop.example.com".to_owned(),
            ]),
            ..sibling()
        });
        let mut headers = HeaderMap::new();
        with_head("GET", &["origin: https://shop.example.com"], |head| {
            Cors::of(&application, head)
        })
        .write(&mut headers);
        assert_eq!(lines(&headers), ["vary: Origin"]);
    }

    #[test]
    fn cors_is_off_when_the_spa_shares_the_agents_origin() {
        let application = checked(config());
        for origin in ["origin: https://shop.example.com", WWW] {
            let mut headers = HeaderMap::new();
            with_head("GET", &[origin], |head| Cors::of(&application, head)).write(&mut headers);
            assert!(headers.is_empty(), "{headers:?}");
        }
    }
}
