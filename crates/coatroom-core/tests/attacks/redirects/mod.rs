//! Return URLs as attackers write them, and where a browser or another reader would take them.
//!
//! `grammar.rs` and `families.rs` write them. The oracle here never asks the code that it judges: it
//! reads a URL as browsers do (the `url` crate), as RFC 3986 appendix B does, and as careless readers
//! do.

mod families;
mod grammar;

use url::Url;

pub(crate) use self::families::payloads;
pub(crate) use self::grammar::generate;

/// What a return URL is measured against.
pub(crate) struct Site<'a> {
    /// The origin of agent and proxy.
    pub(crate) agent: &'a str,
    /// The origins of the SPA.
    pub(crate) listed: &'a [&'a str],
    /// Prefixes on the agent's origin that are no pages.
    pub(crate) no_pages: &'a [&'a str],
    /// Whether pages are answered by an upstream, which may read paths more leniently than we do.
    pub(crate) lenient_pages: bool,
}

impl Site<'_> {
    /// How this `Location` leaves the listed pages, by whatever reading; none if it does not.
    pub(crate) fn escape(&self, location: &str) -> Option<String> {
        if !location.bytes().all(|b| b.is_ascii_graphic()) || location.contains('\\') {
            return Some(format!("{location:?} has characters that readers repair"));
        }
        let base = format!("{}/auth/callback", self.agent);
        let browser = Url::parse(&base).expect("a URL").join(location);
        let Ok(browser) = browser else {
            return Some(format!("{location:?} is no URL to a browser"));
        };
        if !browser.username().is_empty() || browser.password().is_some() {
            return Some(format!("{location:?} has user information"));
        }
        let origin = browser.origin().ascii_serialization();
        let mut origins = vec![origin];
        let mut paths = vec![browser.path().to_owned()];
        for at in [At::First, At::Last] {
            let (origin, path) = rfc3986(location, self.agent, at);
            origins.push(origin);
            paths.push(path);
            // somebody decodes before looking for the host
            origins.push(rfc3986(&decoded(location), self.agent, at).0);
        }
        if let Some(elsewhere) = origins
            .iter()
            .find(|origin| !self.listed.contains(&origin.as_str()))
        {
            return Some(format!("{location:?} leads to {elsewhere}"));
        }
        if origins.iter().any(|origin| origin == self.agent) {
            for path in paths {
                let mut readings = vec![path.clone(), decoded(&path)];
                if self.lenient_pages {
                    readings.push(decoded(&decoded(&path)).to_lowercase());
                }
                for reading in readings {
                    let reading = plain(&reading);
                    let hit = self
                        .no_pages
                        .iter()
                        .find(|prefix| reading == **prefix || reading.starts_with(&format!("{prefix}/")));
                    if let Some(prefix) = hit {
                        return Some(format!("{location:?} leads to {prefix}"));
                    }
                }
            }
        }
        None
    }
}

#[derive(Clone, Copy)]
enum At {
    First,
    Last,
}

/// Origin and path by the regular expression of RFC 3986 appendix B and its §5.2, `at` deciding
/// which `@` ends the user information.
fn rfc3986(text: &str, base_origin: &str, at: At) -> (String, String) {
    let scheme_end = text
        .find([':', '/', '?', '#'])
        .filter(|end| text[*end..].starts_with(':'));
    let (scheme, rest) = match scheme_end {
        Some(end) => (Some(text[..end].to_lowercase()), &text[end + 1..]),
        None => (None, text),
    };
    let base_scheme = base_origin.split(':').next().unwrap_or_default().to_owned();
    match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at(end);
            let host = match at {
                At::First => authority.split_once('@').map_or(authority, |(_, host)| host),
                At::Last => authority.rsplit_once('@').map_or(authority, |(_, host)| host),
            };
            let scheme = scheme.unwrap_or(base_scheme);
            let port = if scheme == "https" { ":443" } else { ":80" };
            let host = host.to_lowercase();
            let host = host.strip_suffix(port).unwrap_or(&host);
            (format!("{scheme}://{host}"), path_of(rest))
        }
        None => match scheme {
            Some(scheme) => (format!("{scheme}:"), path_of(rest)),
            None => (base_origin.to_owned(), path_of(rest)),
        },
    }
}

fn path_of(rest: &str) -> String {
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    rest[..end].to_owned()
}

/// Percent-decoded once; what is no escape stays.
pub(crate) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) if bytes[at] == b'%' => {
                out.push(value);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Without empty and dot segments.
pub(crate) fn plain(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}
