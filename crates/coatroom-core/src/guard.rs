//! Cross-site defence: `Origin`, Fetch Metadata and the custom header become a [`TrustedRequest`].
//!
//! RFC 10017 §6.1.3.3 (CSRF defences of a BFF), Fetch Metadata Request
//! Headers, RFC 6455 §10.2 and RFC 8441 (WebSocket). One table says which rule an
//! endpoint or route is under. `SameSite` cookies are a second line, never the reason to skip this
//! one. Nothing here looks at a cookie or a token.

use http::{HeaderName, Method, header};

use crate::config::{Application, Auth, Origin, RouteTarget};
use crate::error::Error;
use crate::head::{Head, Headers, Single};
use crate::route::{Endpoint, Resolved};

mod cors;

pub use cors::{Cors, Preflight, preflight};

/// The rule an endpoint or a route is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An agent endpoint that the SPA calls with `fetch`.
    Fetch,
    /// A proxied route that may attach a token. `resources` lets `GET` and `HEAD` pass on Fetch
    /// Metadata instead of the custom header.
    ProxiedFetch {
        /// The route's `resources`.
        resources: bool,
    },
    /// Reached from any site, but only as a top-level navigation.
    Navigation,
    /// Called by the provider and authenticated by a signature alone.
    Provider,
    /// A form that a page of the provider posts: a top-level navigation, authenticated by `state`.
    FormPost,
    /// A proxied route that never attaches a credential, or passes on what no browser adds by itself:
    /// only its WebSockets are looked at.
    ProxiedNone,
    /// Static files: nothing to guard.
    None,
}

/// A request that passed the guard of its class. Credentials are attached to nothing else.
#[derive(Clone, Copy, Debug)]
pub struct TrustedRequest<'a> {
    class: Class,
    origin: Option<&'a Origin>,
    websocket: bool,
    navigation: Option<Navigation>,
}

/// What is known of a navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Navigation {
    /// Whether another site may have caused it: then it chooses nothing but harmless parameters.
    pub cross_site_or_unlabelled: bool,
}

impl Class {
    /// The table.
    pub fn of(resolved: &Resolved<'_>) -> Self {
        match resolved {
            Resolved::Agent(endpoint) => match endpoint {
                Endpoint::LoginStart
                | Endpoint::LoginEnd
                | Endpoint::Session
                | Endpoint::Refresh
                | Endpoint::Logout
                | Endpoint::Sessions
                | Endpoint::SessionEnd
                | Endpoint::User => Self::Fetch,
                Endpoint::Login
                | Endpoint::Callback
                | Endpoint::LogoutContinue
                | Endpoint::LogoutCallback
                | Endpoint::LogoutLink => Self::Navigation,
                Endpoint::BackchannelLogout | Endpoint::FrontchannelLogout => Self::Provider,
                Endpoint::FormPost => Self::FormPost,
            },
            Resolved::Proxy { route, .. } => match (&route.target, route.auth) {
                (RouteTarget::Static(_), _) => Self::None,
                // whoever gets through acts with the client's authority
                (RouteTarget::Upstream(_) | RouteTarget::Inner, _) if route.client_grant.is_some() => {
                    Self::ProxiedFetch {
                        resources: route.resources,
                    }
                }
                (RouteTarget::DevServer(_), _)
                | (RouteTarget::Upstream(_) | RouteTarget::Inner, Auth::None | Auth::Bearer) => {
                    Self::ProxiedNone
                }
                (RouteTarget::Upstream(_) | RouteTarget::Inner, Auth::Required | Auth::Optional) => {
                    Self::ProxiedFetch {
                        resources: route.resources,
                    }
                }
            },
        }
    }
}

/// Applies the rule of `class` to a request. The class comes from [`Class::of`]; only an
/// `auth: optional` request that brought no cookie of ours may be judged as
/// [`Class::ProxiedNone`] instead, since nothing will be attached to it.
///
/// # Errors
/// [`Error::CsrfRejected`] and [`Error::OriginNotAllowed`] by the rules of the class,
/// [`Error::InvalidRequest`] for an upgrade that is not a permitted WebSocket, and
/// [`Error::MethodNotAllowed`] for a `CONNECT` that is none.
pub fn trust<'a>(
    class: Class,
    head: &Head<'_, impl Headers>,
    application: &'a Application,
) -> Result<TrustedRequest<'a>, Error> {
    let websocket = is_websocket(head)?;
    let trusted = TrustedRequest {
        class,
        origin: None,
        websocket,
        navigation: None,
    };
    match class {
        Class::Fetch | Class::Navigation | Class::Provider | Class::FormPost | Class::None if websocket => {
            Err(Error::InvalidRequest("nothing here upgrades to a WebSocket"))
        }
        Class::ProxiedFetch { .. } if websocket => {
            let origin = listed_origin(application, head)?
                .ok_or(Error::CsrfRejected("a WebSocket needs an Origin header"))?;
            check_site(head, Some(origin))?;
            Ok(TrustedRequest {
                origin: Some(origin),
                ..trusted
            })
        }
        // Every browser sends Origin with a WebSocket, so the lack of one is not a browser.
        Class::ProxiedNone if websocket => Ok(TrustedRequest {
            origin: listed_origin(application, head)?,
            ..trusted
        }),
        Class::Fetch => Ok(TrustedRequest {
            origin: check_fetch(application, head, Resources::No)?,
            ..trusted
        }),
        Class::ProxiedFetch { resources } => {
            let resources = if resources { Resources::Yes } else { Resources::No };
            Ok(TrustedRequest {
                origin: check_fetch(application, head, resources)?,
                ..trusted
            })
        }
        // which page posted is the flow's question: it takes the provider's metadata
        Class::Navigation | Class::FormPost => Ok(TrustedRequest {
            navigation: Some(check_navigation(application, head)?),
            ..trusted
        }),
        Class::Provider | Class::ProxiedNone | Class::None => Ok(trusted),
    }
}

/// Whether a development server may see a request: a page of another site loads none of the
/// application's sources and starts none of the server's tools, but may link to a page.
///
/// # Errors
/// [`Error::CsrfRejected`] for anything cross-site that is no navigation.
pub(crate) fn check_dev_server(head: &Head<'_, impl Headers>) -> Result<(), Error> {
    let cross_site = head.single(&SEC_FETCH_SITE) == Single::Value("cross-site");
    if cross_site && head.single(&SEC_FETCH_MODE) != Single::Value("navigate") {
        return Err(Error::CsrfRejected(
            "`Sec-Fetch-Site` says that another site asks the development server",
        ));
    }
    Ok(())
}

impl<'a> TrustedRequest<'a> {
    /// The class whose rule it passed.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The listed origin it came from, where it said so.
    pub fn origin(&self) -> Option<&'a Origin> {
        self.origin
    }

    /// Whether it opens a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// What is known of it as a navigation, if it is one.
    pub fn navigation(&self) -> Option<Navigation> {
        self.navigation
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Resources {
    Yes,
    No,
}

/// Rules 1 to 4 of the fetch class.
fn check_fetch<'a>(
    application: &'a Application,
    head: &Head<'_, impl Headers>,
    resources: Resources,
) -> Result<Option<&'a Origin>, Error> {
    let origin = listed_origin(application, head)?;
    if origin.is_none() && !is_safe(head.method) {
        return Err(Error::CsrfRejected(
            "the Origin header is missing on a method that changes state",
        ));
    }
    let site = check_site(head, origin)?;
    let mode = head.single(&SEC_FETCH_MODE);
    if mode == Single::Ambiguous || head.single(&SEC_FETCH_DEST) == Single::Ambiguous {
        return Err(Error::CsrfRejected("a Sec-Fetch header is repeated"));
    }
    match head.single(&application.csrf_header) {
        Single::Value(_) => Ok(origin),
        Single::Ambiguous => Err(Error::CsrfRejected("the custom header is repeated or malformed")),
        Single::Absent => {
            let resource = resources == Resources::Yes && matches!(*head.method, Method::GET | Method::HEAD);
            let cors = origin.is_some() && mode == Single::Value("cors");
            let passes = match site {
                Some(Site::SameOrigin) => resource,
                Some(Site::SameSite) => resource && cors,
                None => false,
            };
            passes
                .then_some(origin)
                .ok_or(Error::CsrfRejected("the custom header is missing"))
        }
    }
}

/// Where a request of a page came from, as Fetch Metadata tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Site {
    SameOrigin,
    SameSite,
}

/// `Sec-Fetch-Site` for calls that only a page makes: `none` (no page) and anything unheard-of are
/// refused like `cross-site`. Nothing when a client sends no Fetch Metadata.
fn check_site(head: &Head<'_, impl Headers>, origin: Option<&Origin>) -> Result<Option<Site>, Error> {
    match head.single(&SEC_FETCH_SITE) {
        Single::Absent => Ok(None),
        Single::Value("same-origin") => Ok(Some(Site::SameOrigin)),
        Single::Value("same-site") if origin.is_some() => Ok(Some(Site::SameSite)),
        Single::Value("same-site") => Err(Error::CsrfRejected(
            "Sec-Fetch-Site is same-site and there is no Origin header",
        )),
        Single::Value(_) => Err(Error::CsrfRejected(
            "Sec-Fetch-Site is neither same-origin nor same-site",
        )),
        Single::Ambiguous => Err(Error::CsrfRejected("a Sec-Fetch header is repeated")),
    }
}

/// The request's origin if it is listed. `null` never is.
fn listed_origin<'a>(
    application: &'a Application,
    head: &Head<'_, impl Headers>,
) -> Result<Option<&'a Origin>, Error> {
    match head.single(&header::ORIGIN) {
        Single::Absent => Ok(None),
        Single::Ambiguous => Err(Error::CsrfRejected("the Origin header is repeated or malformed")),
        Single::Value(value) => application
            .origins
            .iter()
            .find(|origin| origin.as_str() == value)
            .map(Some)
            .ok_or(Error::OriginNotAllowed),
    }
}

/// The rule of the navigation class.
fn check_navigation(application: &Application, head: &Head<'_, impl Headers>) -> Result<Navigation, Error> {
    if head.single(&SEC_PURPOSE) != Single::Absent || head.single(&PURPOSE) == Single::Value("prefetch") {
        return Err(Error::CsrfRejected("this address is not to be prefetched"));
    }
    match head.single(&SEC_FETCH_MODE) {
        Single::Absent | Single::Value("navigate") => {}
        Single::Value(_) | Single::Ambiguous => {
            return Err(Error::CsrfRejected("this address is for navigations only"));
        }
    }
    match head.single(&SEC_FETCH_DEST) {
        Single::Absent | Single::Value("document") => {}
        Single::Value(_) | Single::Ambiguous => {
            return Err(Error::CsrfRejected(
                "this address is for top-level documents only",
            ));
        }
    }
    let cross_site_or_unlabelled = match head.single(&SEC_FETCH_SITE) {
        // `none`: the user's own doing, an address typed or a bookmark.
        Single::Value("same-origin" | "none") => false,
        // A sibling is ours only where the SPA lives on one.
        Single::Value("same-site") => application
            .origins
            .iter()
            .all(|origin| *origin == application.url),
        Single::Value(_) | Single::Absent => true,
        Single::Ambiguous => return Err(Error::CsrfRejected("a Sec-Fetch header is repeated")),
    };
    Ok(Navigation {
        cross_site_or_unlabelled,
    })
}

/// Whether the request opens a WebSocket, by upgrade (RFC 6455 §4.1) or extended `CONNECT`
/// (RFC 8441 §4). Every other upgrade is refused, `h2c` too.
fn is_websocket(head: &Head<'_, impl Headers>) -> Result<bool, Error> {
    let upgrade = head.single(&header::UPGRADE);
    match (head.method, head.protocol, upgrade) {
        (&Method::CONNECT, Some(protocol), Single::Absent) if protocol.eq_ignore_ascii_case("websocket") => {
            Ok(true)
        }
        (&Method::CONNECT, None, _) => Err(Error::MethodNotAllowed { allow: Vec::new() }),
        (_, None, Single::Absent) => Ok(false),
        (&Method::GET, None, Single::Value(protocol))
            if protocol.eq_ignore_ascii_case("websocket") && names_upgrade(head) =>
        {
            Ok(true)
        }
        _ => Err(Error::InvalidRequest(
            "a request may upgrade to nothing but a WebSocket",
        )),
    }
}

fn names_upgrade(head: &Head<'_, impl Headers>) -> bool {
    head.headers
        .values(&header::CONNECTION)
        .flat_map(|value| value.split(|b| *b == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// RFC 9110 §9.2.1, without `TRACE`.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
const PURPOSE: HeaderName = HeaderName::from_static("purpose");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, dev_server, files, sibling, upstream};
    use crate::config::{ApplicationConfig, ClientCredentialsConfig, RouteConfig, TokenConfig};
    use http::{HeaderMap, HeaderValue};

    const FETCH: Class = Class::Fetch;
    const API: Class = Class::ProxiedFetch { resources: false };
    const RESOURCES: Class = Class::ProxiedFetch { resources: true };

    /// The SPA lives on `www`, the agent on `shop`.
    fn application() -> Application {
        checked(sibling())
    }

    fn same_origin_application() -> Application {
        checked(config())
    }

    /// Headers written as lines; `protocol: x` stands for the pseudo-header.
    fn judge<'a>(
        application: &'a Application,
        class: Class,
        method: &str,
        lines: &[&str],
    ) -> Result<TrustedRequest<'a>, Error> {
        let mut headers = HeaderMap::new();
        let mut protocol = None;
        for line in lines {
            let (name, value) = line.split_once(':').expect("name: value");
            if name == "protocol" {
                protocol = Some(value.trim());
            } else {
                let value = HeaderValue::from_bytes(value.trim().as_bytes()).expect("a value");
                headers.append(name.parse::<HeaderName>().expect("a name"), value);
            }
        }
        let method = method.parse().expect("a method");
        let head = Head {
            method: &method,
            target: "/",
            authority: None,
            protocol,
            headers: &headers,
        };
        trust(class, &head, application)
    }

    fn outcome(result: &Result<TrustedRequest<'_>, Error>) -> &'static str {
        match result {
            Ok(_) => "trusted",
            Err(error) => error.answer().code,
        }
    }

    const HEADER: &str = "token-handler-version: 1";
    const WWW: &str = "origin: https://www.example.com";
    const SAME_ORIGIN: &str = "sec-fetch-site: same-origin";
    const SAME_SITE: &str = "sec-fetch-site: same-site";
    const CORS: &str = "sec-fetch-mode: cors";

    #[test]
    fn every_endpoint_and_route_has_its_class() {
        let application = checked(ApplicationConfig {
            routes: vec![
                upstream("/api", "http://127.0.0.1:5000", None),
                upstream("/maybe", "http://127.0.0.1:5000", Some("optional")),
                upstream("/open", "http://127.0.0.1:5000", Some("none")),
                upstream("/clients", "http://127.0.0.1:5000", Some("bearer")),
                RouteConfig {
                    token: Some(TokenConfig {
                        client_credentials: Some(ClientCredentialsConfig::default()),
                        ..TokenConfig::default()
                    }),
                    ..upstream("/ours", "http://127.0.0.1:5000", Some("none"))
                },
                dev_server("/dev", "http://localhost:5173"),
                files("/", "dist"),
            ],
            url: "http://localhost:8080".to_owned(),
            ..config()
        });
        let classes: Vec<Class> = Endpoint::ALL
            .into_iter()
            .map(|endpoint| Class::of(&Resolved::Agent(endpoint)))
            .collect();
        assert_eq!(classes.get(..5), Some(&[Class::Fetch; 5][..]));
        assert_eq!(classes.get(5..9), Some(&[Class::Navigation; 4][..]));
        assert_eq!(classes.get(9..11), Some(&[Class::Fetch; 2][..]));
        assert_eq!(classes.get(11..13), Some(&[Class::Provider; 2][..]));
        let last = [Class::Fetch, Class::Navigation, Class::FormPost];
        assert_eq!(classes.get(13..), Some(&last[..]));
        for route in &application.routes {
            let expected = match route.prefix.as_str() {
                "/api" | "/maybe" | "/ours" => API,
                "/open" | "/clients" | "/dev" => Class::ProxiedNone,
                _ => Class::None,
            };
            assert_eq!(Class::of(&Resolved::Proxy { index: 0, route }), expected);
        }
    }

    #[test]
    fn the_fetch_class_wants_header_origin_and_site() {
        let application = application();
        let rows: &[(&str, &str, &[&str], &str)] = &[
            (
                "the SPA posts",
                "POST",
                &[HEADER, WWW, SAME_SITE, CORS],
                "trusted",
            ),
            ("the SPA gets", "GET", &[HEADER, WWW, SAME_SITE, CORS], "trusted"),
            (
                "an old browser without Fetch Metadata",
                "POST",
                &[HEADER, WWW],
                "trusted",
            ),
            ("a client that is no browser gets", "GET", &[HEADER], "trusted"),
            (
                "an empty header is a header",
                "GET",
                &["token-handler-version:", WWW],
                "trusted",
            ),
            (
                "same-origin without Origin on GET",
                "GET",
                &[HEADER, SAME_ORIGIN],
                "trusted",
            ),
            ("no header", "POST", &[WWW, SAME_SITE], "csrf_rejected"),
            ("no header on GET", "GET", &[WWW, SAME_SITE], "csrf_rejected"),
            ("no header, same-origin", "GET", &[SAME_ORIGIN], "csrf_rejected"),
            ("no header on HEAD", "HEAD", &[SAME_ORIGIN], "csrf_rejected"),
            ("no header on OPTIONS", "OPTIONS", &[WWW], "csrf_rejected"),
            ("two headers", "POST", &[HEADER, HEADER, WWW], "csrf_rejected"),
            (
                "a header with odd bytes",
                "POST",
                &["token-handler-version: \u{e9}", WWW],
                "csrf_rejected",
            ),
            (
                "another header",
                "POST",
                &["x-requested-with: 1", WWW],
                "csrf_rejected",
            ),
            (
                "no Origin on POST",
                "POST",
                &[HEADER, SAME_ORIGIN],
                "csrf_rejected",
            ),
            ("no Origin on DELETE", "DELETE", &[HEADER], "csrf_rejected"),
            (
                "no Origin on an unknown method",
                "FROB",
                &[HEADER],
                "csrf_rejected",
            ),
            (
                "Origin null",
                "POST",
                &[HEADER, "origin: null"],
                "origin_not_allowed",
            ),
            (
                "Origin null on GET",
                "GET",
                &[HEADER, "origin: null"],
                "origin_not_allowed",
            ),
            (
                "an empty Origin",
                "GET",
                &[HEADER, "origin:"],
                "origin_not_allowed",
            ),
            (
                "a foreign Origin",
                "POST",
                &[HEADER, "origin: https://evil.net"],
                "origin_not_allowed",
            ),
            (
                "a foreign Origin on GET",
                "GET",
                &[HEADER, "origin: https://evil.net"],
                "origin_not_allowed",
            ),
            (
                "a suffix Origin",
                "POST",
                &[HEADER, "origin: https://www.example.com.evil.net"],
                "origin_not_allowed",
            ),
            (
                "a prefix Origin",
                "POST",
                &[HEADER, "origin: https://evil-www.example.com"],
                "origin_not_allowed",
            ),
            (
                "another port",
                "POST",
                &[HEADER, "origin: https://www.example.com:8443"],
                "origin_not_allowed",
            ),
            (
                "another scheme",
                "POST",
                &[HEADER, "origin: http://www.example.com"],
                "origin_not_allowed",
            ),
            (
                "another case",
                "POST",
                &[HEADER, "origin: https://WWW.example.com"],
                "origin_not_allowed",
            ),
            (
                "a slash at the end",
                "POST",
                &[HEADER, "origin: https://www.example.com/"],
                "origin_not_allowed",
            ),
            (
                "two in one",
                "POST",
                &[HEADER, "origin: https://www.example.com https://evil.net"],
                "origin_not_allowed",
            ),
            (
                "the agent's own, not listed",
                "POST",
                &[HEADER, "origin: https://shop.example.com"],
                "origin_not_allowed",
            ),
            ("two Origins", "POST", &[HEADER, WWW, WWW], "csrf_rejected"),
            (
                "two different Origins",
                "GET",
                &[HEADER, WWW, "origin: https://evil.net"],
                "csrf_rejected",
            ),
            (
                "cross-site",
                "GET",
                &[HEADER, WWW, "sec-fetch-site: cross-site"],
                "csrf_rejected",
            ),
            (
                "same-site without Origin",
                "GET",
                &[HEADER, SAME_SITE],
                "csrf_rejected",
            ),
            (
                "no page at all",
                "GET",
                &[HEADER, "sec-fetch-site: none"],
                "csrf_rejected",
            ),
            (
                "an unheard-of site",
                "GET",
                &[HEADER, WWW, "sec-fetch-site: near"],
                "csrf_rejected",
            ),
            (
                "two sites",
                "GET",
                &[HEADER, WWW, SAME_ORIGIN, SAME_ORIGIN],
                "csrf_rejected",
            ),
            ("two modes", "GET", &[HEADER, WWW, CORS, CORS], "csrf_rejected"),
            (
                "two destinations",
                "GET",
                &[HEADER, WWW, "sec-fetch-dest: empty", "sec-fetch-dest: empty"],
                "csrf_rejected",
            ),
        ];
        for (name, method, lines, expected) in rows {
            for class in [FETCH, API] {
                let result = judge(&application, class, method, lines);
                assert_eq!(outcome(&result), *expected, "{name}");
                if let Ok(trusted) = result {
                    assert_eq!(trusted.origin().is_some(), lines.contains(&WWW), "{name}");
                    assert_eq!(
                        (trusted.class(), trusted.is_websocket(), trusted.navigation()),
                        (class, false, None)
                    );
                }
            }
        }
    }

    #[test]
    fn a_resources_route_passes_on_fetch_metadata() {
        let application = application();
        let rows: &[(&str, &str, &[&str], &str)] = &[
            (
                "an image of ours",
                "GET",
                &[SAME_ORIGIN, "sec-fetch-mode: no-cors"],
                "trusted",
            ),
            ("a head of ours", "HEAD", &[SAME_ORIGIN], "trusted"),
            (
                "a sibling in CORS mode",
                "GET",
                &[SAME_SITE, WWW, CORS],
                "trusted",
            ),
            ("the header still serves", "GET", &[HEADER], "trusted"),
            ("no Fetch Metadata", "GET", &[], "csrf_rejected"),
            ("no Fetch Metadata but an Origin", "GET", &[WWW], "csrf_rejected"),
            (
                "a sibling's image",
                "GET",
                &[SAME_SITE, "sec-fetch-mode: no-cors"],
                "csrf_rejected",
            ),
            (
                "a sibling's image with Origin",
                "GET",
                &[SAME_SITE, WWW, "sec-fetch-mode: no-cors"],
                "csrf_rejected",
            ),
            (
                "a foreign sibling in CORS mode",
                "GET",
                &[SAME_SITE, "origin: https://x.example.com", CORS],
                "origin_not_allowed",
            ),
            (
                "a foreign site",
                "GET",
                &["sec-fetch-site: cross-site"],
                "csrf_rejected",
            ),
            (
                "an address typed",
                "GET",
                &["sec-fetch-site: none"],
                "csrf_rejected",
            ),
            (
                "a method that changes state",
                "POST",
                &[SAME_ORIGIN, WWW, CORS],
                "csrf_rejected",
            ),
            ("OPTIONS", "OPTIONS", &[SAME_ORIGIN], "csrf_rejected"),
            (
                "two headers",
                "GET",
                &[SAME_ORIGIN, HEADER, HEADER],
                "csrf_rejected",
            ),
            ("two modes", "GET", &[SAME_ORIGIN, CORS, CORS], "csrf_rejected"),
        ];
        for (name, method, lines, expected) in rows {
            assert_eq!(
                outcome(&judge(&application, RESOURCES, method, lines)),
                *expected,
                "{name}"
            );
        }
        assert_eq!(
            outcome(&judge(&application, API, "GET", &[SAME_ORIGIN])),
            "csrf_rejected"
        );
    }

    #[test]
    fn the_navigation_class_takes_top_level_navigations_only() {
        let application = application();
        let rows: &[(&str, &[&str], Option<bool>)] = &[
            ("unlabelled", &[], Some(true)),
            (
                "from another site",
                &[
                    "sec-fetch-site: cross-site",
                    "sec-fetch-mode: navigate",
                    "sec-fetch-dest: document",
                ],
                Some(true),
            ),
            (
                "from the agent's origin",
                &[SAME_ORIGIN, "sec-fetch-mode: navigate"],
                Some(false),
            ),
            ("from the sibling where the SPA lives", &[SAME_SITE], Some(false)),
            ("typed", &["sec-fetch-site: none"], Some(false)),
            ("unheard-of site", &["sec-fetch-site: near"], Some(true)),
            (
                "an image",
                &["sec-fetch-mode: no-cors", "sec-fetch-dest: image"],
                None,
            ),
            ("a fetch", &[CORS], None),
            (
                "a frame",
                &["sec-fetch-mode: navigate", "sec-fetch-dest: iframe"],
                None,
            ),
            (
                "an object",
                &["sec-fetch-mode: navigate", "sec-fetch-dest: object"],
                None,
            ),
            ("a prefetch", &["sec-purpose: prefetch"], None),
            ("a prerender", &["sec-purpose: prefetch;prerender"], None),
            ("two purposes", &["sec-purpose: prefetch", "sec-purpose: x"], None),
            ("an old prefetch", &["purpose: prefetch"], None),
            ("two sites", &[SAME_ORIGIN, SAME_ORIGIN], None),
            (
                "two modes",
                &["sec-fetch-mode: navigate", "sec-fetch-mode: navigate"],
                None,
            ),
            (
                "two destinations",
                &["sec-fetch-dest: document", "sec-fetch-dest: document"],
                None,
            ),
        ];
        for (name, lines, expected) in rows {
            let result = judge(&application, Class::Navigation, "GET", lines);
            match expected {
                Some(foreign) => assert_eq!(
                    result
                        .expect(name)
                        .navigation()
                        .map(|n| n.cross_site_or_unlabelled),
                    Some(*foreign),
                    "{name}"
                ),
                None => assert_eq!(outcome(&result), "csrf_rejected", "{name}"),
            }
        }
        let alone = same_origin_application();
        let trusted = judge(&alone, Class::Navigation, "GET", &[SAME_SITE]).expect("a navigation");
        assert_eq!(
            trusted.navigation(),
            Some(Navigation {
                cross_site_or_unlabelled: true
            })
        );
    }

    #[test]
    fn a_websocket_needs_a_listed_origin_and_no_other_upgrade_passes() {
        const UPGRADE: &str = "upgrade: WebSocket";
        const CONNECTION: &str = "connection: keep-alive, Upgrade";
        let application = application();
        let rows: &[(&str, &str, &[&str], &str, &str)] = &[
            // name, method, headers, on a guarded route, on a route without credentials
            (
                "upgrade",
                "GET",
                &[UPGRADE, CONNECTION, WWW],
                "trusted",
                "trusted",
            ),
            (
                "extended CONNECT",
                "CONNECT",
                &["protocol: websocket", WWW],
                "trusted",
                "trusted",
            ),
            (
                "with Fetch Metadata",
                "GET",
                &[UPGRADE, CONNECTION, WWW, SAME_SITE],
                "trusted",
                "trusted",
            ),
            (
                "no Origin",
                "GET",
                &[UPGRADE, CONNECTION],
                "csrf_rejected",
                "trusted",
            ),
            (
                "CONNECT without Origin",
                "CONNECT",
                &["protocol: websocket"],
                "csrf_rejected",
                "trusted",
            ),
            (
                "no Origin but the header",
                "GET",
                &[UPGRADE, CONNECTION, HEADER],
                "csrf_rejected",
                "trusted",
            ),
            (
                "foreign Origin",
                "GET",
                &[UPGRADE, CONNECTION, "origin: https://evil.net"],
                "origin_not_allowed",
                "origin_not_allowed",
            ),
            (
                "Origin null",
                "GET",
                &[UPGRADE, CONNECTION, "origin: null", HEADER],
                "origin_not_allowed",
                "origin_not_allowed",
            ),
            (
                "two Origins",
                "GET",
                &[UPGRADE, CONNECTION, WWW, WWW],
                "csrf_rejected",
                "csrf_rejected",
            ),
            (
                "cross-site",
                "GET",
                &[UPGRADE, CONNECTION, WWW, "sec-fetch-site: cross-site"],
                "csrf_rejected",
                "trusted",
            ),
            (
                "h2c",
                "GET",
                &["upgrade: h2c", "connection: upgrade, http2-settings", WWW, HEADER],
                "invalid_request",
                "invalid_request",
            ),
            (
                "several protocols",
                "GET",
                &["upgrade: websocket, h2c", CONNECTION, WWW],
                "invalid_request",
                "invalid_request",
            ),
            (
                "two Upgrade headers",
                "GET",
                &[UPGRADE, UPGRADE, CONNECTION, WWW],
                "invalid_request",
                "invalid_request",
            ),
            (
                "by POST",
                "POST",
                &[UPGRADE, CONNECTION, WWW, HEADER],
                "invalid_request",
                "invalid_request",
            ),
            (
                "not named in Connection",
                "GET",
                &[UPGRADE, WWW, HEADER],
                "invalid_request",
                "invalid_request",
            ),
            (
                "CONNECT to something else",
                "CONNECT",
                &["protocol: connect-udp", WWW],
                "invalid_request",
                "invalid_request",
            ),
            (
                "CONNECT and Upgrade",
                "CONNECT",
                &["protocol: websocket", UPGRADE, CONNECTION, WWW],
                "invalid_request",
                "invalid_request",
            ),
            (
                ":protocol on GET",
                "GET",
                &["protocol: websocket", WWW, HEADER],
                "invalid_request",
                "invalid_request",
            ),
            (
                "plain CONNECT",
                "CONNECT",
                &[WWW, HEADER],
                "method_not_allowed",
                "method_not_allowed",
            ),
        ];
        for (name, method, lines, guarded, open) in rows {
            for (class, expected) in [(API, guarded), (RESOURCES, guarded), (Class::ProxiedNone, open)] {
                let result = judge(&application, class, method, lines);
                assert_eq!(outcome(&result), *expected, "{name} {class:?}");
                assert!(result.map_or(true, |trusted| trusted.is_websocket()), "{name}");
            }
            for class in [FETCH, Class::Navigation, Class::Provider, Class::None] {
                assert_ne!(
                    outcome(&judge(&application, class, method, lines)),
                    "trusted",
                    "{name} {class:?}"
                );
            }
        }
    }

    #[test]
    fn a_websocket_is_of_the_origin_that_was_checked() {
        let application = application();
        let upgrade = ["upgrade: websocket", "connection: upgrade", WWW];
        for class in [API, Class::ProxiedNone] {
            let trusted = judge(&application, class, "GET", &upgrade).expect("a listed origin");
            assert_eq!(
                trusted.origin().map(Origin::as_str),
                Some("https://www.example.com"),
                "{class:?}"
            );
        }
    }

    #[test]
    fn another_site_loads_nothing_from_a_development_server() {
        for (name, lines, passes) in [
            (
                "a script tag of another site",
                &["sec-fetch-site: cross-site", "sec-fetch-mode: no-cors"][..],
                false,
            ),
            (
                "a fetch of another site",
                &["sec-fetch-site: cross-site", "sec-fetch-mode: cors"],
                false,
            ),
            ("a mode nobody knows", &["sec-fetch-site: cross-site"], false),
            (
                "a link on another site",
                &["sec-fetch-site: cross-site", "sec-fetch-mode: navigate"],
                true,
            ),
            (
                "the page itself",
                &["sec-fetch-site: same-origin", "sec-fetch-mode: cors"],
                true,
            ),
            ("no browser", &[], true),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                let (name, value) = line.split_once(": ").expect("name: value");
                headers.append(
                    name.parse::<HeaderName>().expect("a name"),
                    HeaderValue::from_str(value).expect("a value"),
                );
            }
            let head = Head {
                method: &Method::GET,
                target: "/src/main.ts",
                authority: None,
                protocol: None,
                headers: &headers,
            };
            assert_eq!(check_dev_server(&head).is_ok(), passes, "{name}");
        }
    }

    #[test]
    fn what_gets_no_credential_is_not_guarded() {
        let application = application();
        for class in [Class::Provider, Class::ProxiedNone, Class::None] {
            let lines = ["origin: https://evil.net", "sec-fetch-site: cross-site"];
            let trusted = judge(&application, class, "POST", &lines).expect("no guard");
            assert_eq!((trusted.origin(), trusted.navigation()), (None, None));
        }
    }

    #[test]
    fn the_custom_headers_name_is_configurable() {
        let application = checked(ApplicationConfig {
            csrf_header: Some("X-My-Header".to_owned()),
            ..config()
        });
        let shop = "origin: https://shop.example.com";
        assert_eq!(
            outcome(&judge(&application, FETCH, "POST", &["x-my-header: 1", shop])),
            "trusted"
        );
        assert_eq!(
            outcome(&judge(&application, FETCH, "POST", &[HEADER, shop])),
            "csrf_rejected"
        );
    }
}
