//! Where a user goes after sign-in: only to a page of the SPA (RFC 9700 §4.11, no open redirector).
//!
//! A return URL is a path on the SPA's origin, or an absolute URL that starts with a listed origin
//! letter for letter. It is judged as text before a URL parser may repair it, and judged again
//! when it is used. This file never follows what a parser made of a doubtful input.

use std::borrow::Cow;
use std::fmt::Write as _;

use url::Url;

use crate::config::{Application, Origin};
use crate::error::Error;
use crate::route::{self, NormalPath};

/// An absolute URL on one of the application's origins, and not an API's or the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// Where a sign-in leads that names no return URL: the SPA's address.
    pub fn home(application: &Application) -> Self {
        Self(application.app_url.as_str().to_owned())
    }

    /// Takes a `return_to` parameter. A path belongs to the request's (listed) origin, else to
    /// that of `app_url`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for everything but a page of the SPA.
    pub fn parse(
        input: &str,
        request_origin: Option<&Origin>,
        application: &Application,
    ) -> Result<Self, Error> {
        let own = Origin::of(&application.app_url).ok_or(Error::Bug("`app_url` has no origin"))?;
        let absolute = application.origins.iter().find_map(|origin| {
            let rest = input.strip_prefix(origin.as_str())?;
            (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some((origin, rest))
        });
        match absolute {
            Some((origin, rest)) => checked(origin, rest, application),
            None if input.starts_with('/') => {
                let origin = request_origin.filter(|origin| application.origins.contains(origin));
                checked(origin.unwrap_or(&own), input, application)
            }
            None => Err(Error::InvalidRequest(
                "`return_to` is neither a path nor a URL on a listed origin",
            )),
        }
    }

    /// Takes a return URL that was accepted earlier, under a configuration that may have changed.
    ///
    /// # Errors
    /// As [`ReturnTo::parse`].
    pub fn revalidate(text: &str, application: &Application) -> Result<Self, Error> {
        if text.starts_with('/') {
            return Err(Error::InvalidRequest("`return_to` was not sealed as a URL"));
        }
        Self::parse(text, None, application)
    }

    /// The URL, in visible ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The SPA's address with `login_error`, for a sign-in that cannot be finished. `code` is one of
/// our own error codes, never what the front channel said.
pub fn login_error_url(application: &Application, code: &'static str) -> Url {
    let mut url = application.app_url.clone();
    url.query_pairs_mut().append_pair("login_error", code);
    url
}

/// `rest` is empty, or starts with `/`, `?` or `#`.
fn checked(origin: &Origin, rest: &str, application: &Application) -> Result<ReturnTo, Error> {
    let too_long = Error::InvalidRequest("`return_to` is too long");
    let elsewhere = Error::InvalidRequest("`return_to` is not on a listed origin");
    if rest.len() > MAX_LENGTH {
        return Err(too_long);
    }
    if rest.chars().any(|c| c.is_control() || c == '\\') || rest.trim() != rest {
        return Err(Error::InvalidRequest(
            "`return_to` has a backslash, a control character or a blank at its end",
        ));
    }
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (path, suffix) = rest.split_at(end);
    let path = escape(if path.is_empty() { "/" } else { path });
    let path = NormalPath::parse(&path)
        .map_err(|_| Error::InvalidRequest("`return_to` has a path that can be read in two ways"))?;
    let mut url = Url::parse(origin.as_str()).map_err(|_| elsewhere.clone())?;
    if !application.origins.contains(origin) {
        return Err(elsewhere);
    }
    let home = NormalPath::parse(application.app_url.path())
        .map_err(|_| Error::Bug("the path of `app_url` is not in normal form"))?;
    if *origin == application.url
        && !route::is_page(&application.base_path, &application.routes, &home, &path)
    {
        return Err(Error::InvalidRequest(
            "`return_to` leads to the agent or to a proxied route, not to a page",
        ));
    }
    url = url
        .join(&[origin.as_str(), path.as_str(), suffix].concat())
        .map_err(|_| elsewhere.clone())?;
    // What a browser will make of it is what was judged.
    let same = Origin::of(&url).as_ref() == Some(origin)
        && url.path() == path.as_str()
        && url.username().is_empty()
        && url.password().is_none();
    if !same {
        return Err(elsewhere);
    }
    if url.as_str().len() > MAX_LENGTH {
        return Err(too_long);
    }
    Ok(ReturnTo(url.into()))
}

/// A path with blanks and characters beyond ASCII percent-encoded, as a browser would send it.
fn escape(path: &str) -> Cow<'_, str> {
    if path.bytes().all(|b| b.is_ascii_graphic()) {
        return Cow::Borrowed(path);
    }
    let mut escaped = String::with_capacity(path.len().saturating_mul(2));
    for byte in path.bytes() {
        if byte.is_ascii_graphic() {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("a String takes everything");
        }
    }
    Cow::Owned(escaped)
}

/// The longest return URL, in bytes.
const MAX_LENGTH: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, files, sibling, upstream};
    use crate::config::{ApplicationConfig, RouteConfig};

    fn own() -> Application {
        checked(config())
    }

    fn two_origins() -> Application {
        checked(ApplicationConfig {
            origins: Some(vec![
                "https://www.example.com".to_owned(),
                "https://beta.example.com:8443".to_owned(),
            ]),
            ..sibling()
        })
    }

    fn parse(input: &str, application: &Application) -> Result<String, Error> {
        ReturnTo::parse(input, None, application).map(|url| url.as_str().to_owned())
    }

    #[test]
    fn a_page_of_the_spa_is_a_return_url() {
        let own = own();
        for (input, expected) in [
            ("/", "https://shop.example.com/"),
            ("/deep/link", "https://shop.example.com/deep/link"),
            (
                "/deep/link/?a=b&c=/x#/hash?d",
                "https://shop.example.com/deep/link/?a=b&c=/x#/hash?d",
            ),
            ("/?next=//evil.net", "https://shop.example.com/?next=//evil.net"),
            ("/#top", "https://shop.example.com/#top"),
            (
                "/caf\u{e9} 1?q=\u{e9} 2#\u{e9}",
                "https://shop.example.com/caf%C3%A9%201?q=%C3%A9%202#%C3%A9",
            ),
            ("/%7euser", "https://shop.example.com/~user"),
            ("/a?x=%0d%0a", "https://shop.example.com/a?x=%0d%0a"),
            ("/authors", "https://shop.example.com/authors"),
            ("/apiary", "https://shop.example.com/apiary"),
            ("/a;b@c", "https://shop.example.com/a;b@c"),
            ("https://shop.example.com", "https://shop.example.com/"),
            ("https://shop.example.com/x", "https://shop.example.com/x"),
            ("https://shop.example.com?x", "https://shop.example.com/?x"),
            ("https://shop.example.com#x", "https://shop.example.com/#x"),
        ] {
            let parsed = parse(input, &own).expect(input);
            assert_eq!(parsed, expected);
            let again = ReturnTo::revalidate(&parsed, &own).expect("what was accepted stays accepted");
            assert_eq!(again.as_str(), parsed);
        }
    }

    #[test]
    fn the_bound_on_the_length_is_exact_and_comes_first() {
        let own = own();
        let origin = "https://shop.example.com".len();
        let path = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert!(parse(&path(2000 - origin), &own).is_ok());
        assert!(parse(&path(2001 - origin), &own).is_err());
        let too_long = Some(Error::InvalidRequest("`return_to` is too long"));
        for (length, is_too_long) in [(2000, false), (2001, true), (5000, true)] {
            let refused = parse(&(path(length - 1) + "\\"), &own).err();
            assert_eq!(refused == too_long, is_too_long, "{length}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let own = own();
        let long = format!("/{}", "a".repeat(2000));
        let grows = format!("/{}", "\u{e9}".repeat(500));
        for input in [
            "",
            " ",
            ".",
            "x",
            "deep/link",
            "?a",
            "#a",
            "//evil.net",
            "///evil.net",
            "////evil.net",
            "//",
            "/\\evil.net",
            "\\/evil.net",
            "\\\\evil.net",
            "/\\/evil.net",
            "//\\evil.net",
            "/\t/evil.net",
            "/\n/evil.net",
            "/\r/evil.net",
            "\t//evil.net",
            " //evil.net",
            " /x",
            "/x ",
            "/x\n",
            "/\0",
            "/%09/evil.net",
            "/%5cevil.net",
            "/%5Cevil.net",
            "/%2f%2fevil.net",
            "/%2fevil.net",
            "/%2Fevil.net",
            "/%252fevil.net",
            "/%255cevil.net",
            "/.//evil.net",
            "/..//evil.net",
            "/./\\evil.net",
            "/x/..//evil.net",
            "/%2e%2e//evil.net",
            "/..",
            "/a/../b",
            "/%2e/x",
            "/;@evil.net//",
            "/x//evil.net",
            "/%0d%0aLocation: x",
            "/%00",
            "/a\\b",
            "/a?b=\\",
            "/\u{85}x",
            "/%c2%85x",
            "/%ef%bc%8e%ef%bc%8e/x",
            "/%zz",
            "/%",
            "javascript:alert(1)",
            "JaVaScRiPt://shop.example.com/%0aalert(1)",
            "data:text/html,x",
            "vbscript:x",
            "blob:https://shop.example.com/x",
            "https:",
            "https:/evil.net",
            "https:///evil.net",
            "https:evil.net",
            "http://shop.example.com/",
            "https://evil.net",
            "https://evil.net/https://shop.example.com/",
            "https://shop.example.com.evil.net/",
            "https://shop.example.com@evil.net/",
            "https://shop.example.com:443@evil.net/",
            "https://shop.example.com:80/",
            "https://shop.example.com:8443/",
            "https://shop.example.com:443/",
            "https://evil-shop.example.com/",
            "https://evil.net#shop.example.com",
            "https://evil.net?https://shop.example.com",
            "https://evil.net\\@shop.example.com/",
            "https://shop.example.com\\.evil.net",
            "https://shop.example.com\\evil",
            "https://shop.example.com./x",
            "https://shop.example.com%2eevil.net/",
            "https://shop.example.com\u{3002}evil.net/",
            "https://shop\u{ff0e}example.com/",
            "https://user@shop.example.com/",
            "https://user:x@shop.example.com/",
            "HTTPS://shop.example.com/",
            "https://SHOP.example.com/",
            "https://shop.example.com//evil.net",
            "https://shop.example.com/../x",
            "null",
            "https://www.example.com/",
            "/auth",
            "/auth/",
            "/auth/logout",
            "/%61uth/login",
            "/auth/../x",
            "/api",
            "/api/",
            "/api/orders",
            "/%61pi/x",
            "https://shop.example.com/auth/login",
            "https://shop.example.com/api/x",
            &long,
            &grows,
        ] {
            assert!(
                matches!(parse(input, &own), Err(Error::InvalidRequest(_))),
                "{input:?} was accepted"
            );
        }
    }

    #[test]
    fn a_path_belongs_to_the_requests_listed_origin_else_to_app_url() {
        let application = two_origins();
        let beta = Origin::parse("https://beta.example.com:8443").expect("an origin");
        let foreign = Origin::parse("https://evil.net").expect("an origin");
        for (origin, input, expected) in [
            (None, "/x", "https://www.example.com/x"),
            (Some(&beta), "/x", "https://beta.example.com:8443/x"),
            (Some(&foreign), "/x", "https://www.example.com/x"),
            (
                Some(&beta),
                "https://www.example.com/x",
                "https://www.example.com/x",
            ),
            (
                None,
                "https://beta.example.com:8443/x",
                "https://beta.example.com:8443/x",
            ),
            // The agent and the API are on another origin, so these are pages.
            (None, "/api/x", "https://www.example.com/api/x"),
            (None, "/auth/x", "https://www.example.com/auth/x"),
        ] {
            let parsed = ReturnTo::parse(input, origin, &application).expect(input);
            assert_eq!(parsed.as_str(), expected);
        }
        for input in [
            "https://shop.example.com/",
            "https://beta.example.com/",
            "https://beta.example.com:84430/",
        ] {
            assert!(parse(input, &application).is_err(), "{input}");
        }
    }

    #[test]
    fn the_route_that_serves_the_spa_is_no_api() {
        let api = "http://127.0.0.1:5000";
        let application = checked(ApplicationConfig {
            routes: vec![
                upstream("/api", api, None),
                files("/files", "files"),
                upstream("/", "http://127.0.0.1:3000", Some("none")),
            ],
            ..config()
        });
        for (input, good) in [
            ("/x", true),
            ("/files/x", true),
            ("/api/x", false),
            ("/API/x", false),
        ] {
            assert_eq!(parse(input, &application).is_ok(), good, "{input}");
        }
        let elsewhere = checked(ApplicationConfig {
            app_url: Some("https://shop.example.com/app/".to_owned()),
            routes: vec![files("/app", "dist"), upstream("/", api, None)],
            ..config()
        });
        assert!(parse("/app/x", &elsewhere).is_ok());
        assert!(parse("/x", &elsewhere).is_err());
        assert_eq!(
            ReturnTo::home(&elsewhere).as_str(),
            "https://shop.example.com/app/"
        );
    }

    #[test]
    fn a_sealed_url_is_judged_again_under_the_configuration_of_the_day() {
        let before = two_origins();
        let url = parse("https://beta.example.com:8443/x", &before).expect("listed");
        let after = checked(sibling());
        assert!(ReturnTo::revalidate(&url, &after).is_err());
        assert!(ReturnTo::revalidate("/x", &after).is_err());
        assert!(ReturnTo::revalidate("https://www.example.com/x", &after).is_ok());
        let page = parse("/later", &own()).expect("a page");
        let routed = checked(ApplicationConfig {
            routes: vec![
                RouteConfig {
                    ..upstream("/later", "http://127.0.0.1:5000", None)
                },
                files("/", "dist"),
            ],
            ..config()
        });
        assert!(ReturnTo::revalidate(&page, &routed).is_err());
    }

    #[test]
    fn a_failed_sign_in_leads_to_the_spa_with_its_code() {
        assert_eq!(
            login_error_url(&own(), "authorization_failed").as_str(),
            "https://shop.example.com/?login_error=authorization_failed"
        );
    }

    /// Whatever is accepted, a browser that follows it stays on a listed origin, outside agent and
    /// API: from the callback's page, and taken relative to any other page.
    #[test]
    fn no_generated_input_leaves_the_listed_origins() {
        const PREFIXES: [&str; 14] = [
            "",
            "/",
            "//",
            "///",
            "/\\",
            "\\",
            "/x",
            "/x/",
            "https:",
            "https:/",
            "https://",
            "https://shop.example.com",
            "https://shop.example.com/",
            "javascript:",
        ];
        const SEPARATORS: [&str; 34] = [
            "", "/", "//", "\\", "\\\\", "/\\", "\t", "\n", "\r", " ", "\0", "%09", "%0a", "%00", "%20",
            "%2f", "%2F%2f", "%5c", "%5C", "%252f", "%255c", "%25252f", "..", "../", "..;/", "%2e%2e/", "./",
            "@", "%40", ":", "?", "#", "\u{3002}", "\u{2215}",
        ];
        const HOSTS: [&str; 11] = [
            "evil.net",
            "evil.net/",
            "@evil.net",
            ":x@evil.net",
            ".evil.net",
            "shop.example.com@evil.net",
            "evil.net%23",
            "[::1]",
            "0x7f.1",
            "auth/logout",
            "api/x",
        ];
        let applications = [own(), two_origins()];
        let bases: Vec<Url> = [
            "https://shop.example.com/auth/callback?code=x",
            "https://www.example.com/",
            "https://evil.net/",
        ]
        .iter()
        .map(|base| Url::parse(base).expect("a URL"))
        .collect();
        let (mut tried, mut accepted) = (0_u32, 0_u32);
        for prefix in PREFIXES {
            for one in SEPARATORS {
                for two in SEPARATORS {
                    for host in HOSTS {
                        let input = [prefix, one, two, host].concat();
                        for application in &applications {
                            tried = tried.saturating_add(1);
                            let Ok(url) = ReturnTo::parse(&input, None, application) else {
                                continue;
                            };
                            accepted = accepted.saturating_add(1);
                            for base in &bases {
                                let followed = base.join(url.as_str()).expect("a browser can follow it");
                                assert_stays(&input, &followed, application);
                            }
                        }
                    }
                }
            }
        }
        assert!(tried > 300_000, "{tried}");
        assert!(accepted > 5_000, "{accepted}");
    }

    fn assert_stays(input: &str, followed: &Url, application: &Application) {
        let origin = followed.origin().ascii_serialization();
        assert!(
            application.origins.iter().any(|listed| listed.as_str() == origin),
            "{input:?} leads to {followed}"
        );
        assert!(
            followed.username().is_empty() && followed.password().is_none(),
            "{input:?}"
        );
        if origin == "https://shop.example.com" {
            let path = followed.path();
            let kept_off = ["/auth", "/api"]
                .iter()
                .any(|base| path == *base || path.starts_with(&format!("{base}/")));
            assert!(!kept_off, "{input:?} leads to {followed}");
        }
        assert!(
            followed.as_str().bytes().all(|b| b.is_ascii_graphic()),
            "{input:?}"
        );
    }
}
