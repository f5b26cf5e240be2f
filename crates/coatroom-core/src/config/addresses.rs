//! Checks of where things are: `url`, `app_url`, `origins`, `hosts`, `base_path`, `login.callback`.
//!
//! Origins are compared letter for letter later, so they are taken only as browsers write them
//! (RFC 6454 §6.2). No wildcard, no suffix, no repair.

use url::{Host, Url};

use super::check::{Insecure, Problems};
use super::{Callback, Origin, Route};
use crate::route::{self, NormalPath};

pub(super) fn check_url(text: &str, insecure: Insecure, problems: &mut Problems) -> Option<(Url, Origin)> {
    let url = Url::parse(text).ok().filter(is_plain);
    let Some((url, origin)) = url.and_then(|url| Origin::of(&url).map(|origin| (url, origin))) else {
        problems.add(
            &["url"],
            "expected an http or https origin",
            "url: https://shop.example.com",
        );
        return None;
    };
    if text.strip_suffix('/').unwrap_or(text) != origin.as_str() {
        problems.add(
            &["url"],
            "expected an origin: no path, no upper case, no default port",
            format!("url: {}", origin.as_str()),
        );
        return None;
    }
    if !insecure.allows(&url) {
        problems.add(
            &["url"],
            "plain http is for loopback only (or `danger_insecure_http: true`)",
            format!("url: {}", with_https(&origin)),
        );
        return None;
    }
    Some((url, origin))
}

pub(super) fn check_app_url(text: &str, insecure: Insecure, problems: &mut Problems) -> Option<Url> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| is_plain(url) && Origin::of(url).is_some());
    let Some(url) = url else {
        problems.add(
            &["app_url"],
            "expected an http or https URL without user, query and fragment",
            "app_url: https://www.example.com",
        );
        return None;
    };
    let normal = NormalPath::parse(url.path()).is_ok_and(|path| path.as_str() == url.path());
    if !normal || !text.starts_with(&url.origin().ascii_serialization()) {
        problems.add(
            &["app_url"],
            "the URL is not in normal form",
            format!("app_url: {url}"),
        );
        return None;
    }
    if !insecure.allows(&url) {
        problems.add(
            &["app_url"],
            "plain http is for loopback only (or `danger_insecure_http: true`)",
            "app_url: https://www.example.com",
        );
        return None;
    }
    Some(url)
}

/// The SPA's address is not the agent's.
pub(super) fn check_home(
    app_url: &Url,
    own: &Origin,
    base_path: &str,
    routes: &[Route],
    problems: &mut Problems,
) {
    let taken = Origin::of(app_url).as_ref() == Some(own)
        && NormalPath::parse(app_url.path())
            .is_ok_and(|home| !route::is_page(base_path, routes, &home, &home));
    if taken {
        problems.add(
            &["app_url"],
            "the SPA's address is under the agent's base path, or reads like another route's",
            "app_url: https://shop.example.com/app/",
        );
    }
}

pub(super) fn check_origins(
    listed: Option<&[String]>,
    app_url: Option<&Url>,
    insecure: Insecure,
    problems: &mut Problems,
) -> Option<Vec<Origin>> {
    let own = app_url.and_then(Origin::of);
    let Some(listed) = listed else {
        return own.map(|own| vec![own]);
    };
    let mut origins: Vec<Origin> = Vec::new();
    for (index, text) in listed.iter().enumerate() {
        let index = index.to_string();
        let at = ["origins", index.as_str()];
        let url = Url::parse(text).ok().filter(is_plain);
        match (Origin::parse(text), url) {
            (Some(origin), Some(url)) if !insecure.allows(&url) => {
                problems.add(
                    &at,
                    "plain http is for loopback only (or `danger_insecure_http: true`)",
                    with_https(&origin),
                );
            }
            (Some(origin), Some(_)) if origins.contains(&origin) => {
                problems.add(&at, "the origin is listed twice", "remove one of them");
            }
            (Some(origin), Some(_)) => origins.push(origin),
            (None, Some(url)) => {
                let origin = url.origin().ascii_serialization();
                problems.add(&at, "expected exactly what browsers send as Origin", origin);
            }
            (_, None) => problems.add(
                &at,
                "expected an exact origin: scheme, host and perhaps a port; no wildcard, no `null`",
                "https://www.example.com",
            ),
        }
    }
    if let Some(own) = own
        && !origins.contains(&own)
    {
        let all: Vec<&str> = std::iter::once(&own)
            .chain(&origins)
            .map(Origin::as_str)
            .collect();
        problems.add(
            &["origins"],
            "the SPA's own origin (that of `app_url`) is not listed",
            format!("origins: [{}]", all.join(", ")),
        );
    }
    Some(origins)
}

/// `url`'s host first, then the further ones; lower case, without the scheme's default port.
pub(super) fn check_hosts(listed: &[String], url: Option<&Url>, problems: &mut Problems) -> Vec<String> {
    let scheme = url.map_or("https", Url::scheme);
    let mut hosts: Vec<String> = url.and_then(authority).into_iter().collect();
    for (index, text) in listed.iter().enumerate() {
        let index = index.to_string();
        let parsed = (!text.contains(['/', '@', '?', '#', '\\', ' ']))
            .then(|| Url::parse(&[scheme, "://", text].concat()).ok())
            .flatten()
            .filter(is_plain)
            .and_then(|url| authority(&url));
        match parsed {
            Some(host) if hosts.contains(&host) => {}
            Some(host) => hosts.push(host),
            None => problems.add(
                &["hosts", &index],
                "expected a host name, perhaps with a port",
                "shop.internal:8080",
            ),
        }
    }
    hosts
}

pub(super) fn check_base_path(
    written: Option<&str>,
    default: &str,
    problems: &mut Problems,
) -> Option<String> {
    let path = written.unwrap_or(default);
    let simple = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    let good = path.len() > 1
        && !path.ends_with('/')
        && path.bytes().all(simple)
        && NormalPath::parse(path).is_ok_and(|normal| normal.as_str() == path);
    if !good {
        problems.add(
            &["base_path"],
            "expected a path of letters, digits and -._~ below `/`, without a slash at its end",
            "base_path: /auth",
        );
    }
    good.then(|| path.to_owned())
}

pub(super) fn check_callback(
    page: &str,
    app_url: &Url,
    own: &Origin,
    base_path: &str,
    routes: &[Route],
    problems: &mut Problems,
) -> Option<Callback> {
    let at = ["login", "callback"];
    let path = NormalPath::parse(page).ok().filter(|path| path.as_str() == page);
    let (Some(path), Ok(home)) = (path, NormalPath::parse(app_url.path())) else {
        problems.add(
            &at,
            "expected `agent` or the absolute path of an SPA page",
            "callback: agent",
        );
        return None;
    };
    let same_origin = Origin::of(app_url).as_ref() == Some(own);
    if same_origin && !route::is_page(base_path, routes, &home, &path) {
        problems.add(
            &at,
            "the path belongs to the agent or to a proxied route, so the SPA never sees it",
            "callback: agent",
        );
        return None;
    }
    let mut url = app_url.clone();
    url.set_path(path.as_str());
    Some(Callback::Spa(url))
}

/// A URL with a host that can be compared and nothing that hides: no user, query, fragment,
/// wildcard or trailing dot.
pub(super) fn is_plain(url: &Url) -> bool {
    let good_host = url
        .host_str()
        .is_some_and(|host| !host.is_empty() && !host.ends_with('.') && !host.contains('*'));
    good_host
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
}

/// Host and, where it is not the default, port, as in a `Host` header.
fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(match url.port() {
        None => host.to_owned(),
        Some(port) => format!("{host}:{port}"),
    })
}

fn with_https(origin: &Origin) -> String {
    origin.as_str().replacen("http:", "https:", 1)
}

impl Origin {
    /// The origin of a URL with a tuple origin (http, https), else none.
    pub fn of(url: &Url) -> Option<Self> {
        let origin = url.origin();
        (matches!(url.scheme(), "http" | "https") && origin.is_tuple())
            .then(|| Self(origin.ascii_serialization()))
    }

    /// Takes an origin written the way browsers write it, and nothing else: no path, no upper
    /// case, no default port.
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        Self::of(&url).filter(|origin| origin.0 == text)
    }

    /// As browsers write it in `Origin`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a host is this machine: `localhost`, `*.localhost`, `127.0.0.0/8`, `[::1]`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
