//! What the files of a `static` route are answered with: Content-Security-Policy and further headers.
//!
//! Content Security Policy Level 3. There is one default, in [`DEFAULT_POLICY`]; a route adds
//! sources to it, writes a policy of its own, or says by a setting that begins with `danger` that
//! it wants none. A policy of the operator's own is taken as it is; `policy.rs` says what it
//! leaves open. Nothing here is made out of a request.

use http::{HeaderName, HeaderValue, header};
use url::Url;

use super::check::Problems;
use super::is_loopback;

/// What a route says about its files, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesConfig {
    /// The policy of documents, in place of the default.
    pub content_security_policy: Option<String>,
    /// Sources added to the default policy, by directive.
    pub allowed_sources: Vec<(String, Vec<String>)>,
    /// Further headers on every file.
    pub headers: Vec<(String, String)>,
    /// No policy at all: whatever gets into a page may load and run anything.
    pub danger_no_content_security_policy: bool,
}

/// What the files of a route are answered with, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHeaders {
    /// Where the policy comes from, for whoever shows it.
    pub policy: PolicyChoice,
    /// The policy of documents; none where it is switched off.
    pub content_security_policy: Option<HeaderValue>,
    /// Further headers on every file.
    pub further: Vec<(HeaderName, HeaderValue)>,
}

/// Which Content-Security-Policy a route chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChoice {
    /// The default.
    Default,
    /// The default with these sources, by directive.
    Extended(Vec<(String, Vec<String>)>),
    /// One of the operator's own.
    Own,
    /// None at all.
    Off,
}

impl PolicyChoice {
    fn of(written: &FilesConfig) -> Self {
        if written.danger_no_content_security_policy {
            Self::Off
        } else if written.content_security_policy.is_some() {
            Self::Own
        } else if written.allowed_sources.is_empty() {
            Self::Default
        } else {
            Self::Extended(written.allowed_sources.clone())
        }
    }
}

impl Default for FileHeaders {
    fn default() -> Self {
        Self {
            policy: PolicyChoice::Default,
            content_security_policy: HeaderValue::try_from(policy(&[])).ok(),
            further: Vec::new(),
        }
    }
}

/// What kind of target a route has, as far as its files are concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Has {
    Files,
    NoFiles,
}

/// Checks what a route says about its files.
pub(super) fn check_files(
    path: &str,
    written: &FilesConfig,
    has: Has,
    problems: &mut Problems,
) -> FileHeaders {
    if has == Has::NoFiles {
        for (key, is_written) in [
            (
                "content_security_policy",
                written.content_security_policy.is_some(),
            ),
            ("allowed_sources", !written.allowed_sources.is_empty()),
            ("headers", !written.headers.is_empty()),
            (
                "danger_no_content_security_policy",
                written.danger_no_content_security_policy,
            ),
        ] {
            if is_written {
                problems.add(
                    &["routes", path, key],
                    "only a route with `static` has files, the answers of this one are somebody else's",
                    "remove the setting, or write `static: ./dist`",
                );
            }
        }
        return FileHeaders::default();
    }
    FileHeaders {
        policy: PolicyChoice::of(written),
        content_security_policy: check_policy(path, written, problems),
        further: check_headers(path, &written.headers, problems),
    }
}

fn check_policy(path: &str, written: &FilesConfig, problems: &mut Problems) -> Option<HeaderValue> {
    let off = written.danger_no_content_security_policy;
    match (
        &written.content_security_policy,
        written.allowed_sources.as_slice(),
    ) {
        (None, _) if off && written.allowed_sources.is_empty() => None,
        (None, added) if !off => {
            for (directive, sources) in added {
                check_added(path, directive, sources, problems);
            }
            HeaderValue::try_from(policy(added)).ok()
        }
        (Some(own), []) if !off => {
            if let Some(wrong) = unsendable(own) {
                problems.add(
                    &["routes", path, "content_security_policy"],
                    wrong,
                    "content_security_policy: \"default-src 'self'; base-uri 'self'; frame-ancestors 'none'\"",
                );
            }
            HeaderValue::try_from(own).ok()
        }
        (_, added) => {
            let key = match (off, added) {
                (true, _) => "danger_no_content_security_policy",
                (false, _) => "allowed_sources",
            };
            problems.add(
                &["routes", path, key],
                "`content_security_policy`, `allowed_sources` and `danger_no_content_security_policy` exclude each other",
                "keep one of them; sources go into a policy of your own as they are",
            );
            None
        }
    }
}

/// Why a policy cannot be sent as one header, if it cannot.
fn unsendable(policy: &str) -> Option<&'static str> {
    if policy.trim().is_empty() {
        return Some(
            "an empty policy allows everything; to have none, write `danger_no_content_security_policy: true`",
        );
    }
    if !policy.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Some("expected one line of visible ASCII characters (in YAML, `>-` folds lines into one)");
    }
    policy
        .contains(',')
        .then_some("a comma would begin a second policy; directives are separated by `;`, sources by blanks")
}

fn check_added(path: &str, directive: &str, sources: &[String], problems: &mut Problems) {
    let at = ["routes", path, "allowed_sources", directive];
    if !EXTENSIBLE.contains(&directive) {
        problems.add(
            &at,
            format!("expected one of the directives {}", EXTENSIBLE.join(", ")),
            "allowed_sources: {img-src: [https://images.example.com]}",
        );
        return;
    }
    for source in sources {
        if !is_acceptable(directive, source) {
            problems.add(
                &at,
                "expected origins with https or wss (plain http or ws on loopback), `'self'`, `data:` or `blob:` \
                 where no script is meant, `https:` for images and media, hashes for scripts and styles, or \
                 `'wasm-unsafe-eval'` for scripts; anything wider needs a policy of your own",
                "allowed_sources: {connect-src: [https://api.example.com, wss://live.example.com]}",
            );
        }
    }
}

/// Whether a source may be added to the default policy (CSP Level 3 §2.3.1).
fn is_acceptable(directive: &str, source: &str) -> bool {
    let script = directive == "script-src";
    let style = directive == "style-src";
    let loads = !matches!(directive, "form-action" | "frame-ancestors");
    match source {
        "'self'" => true,
        "'wasm-unsafe-eval'" => script,
        "data:" | "blob:" => loads && !script,
        // Pictures that users choose come from anywhere.
        "https:" => matches!(directive, "img-src" | "media-src"),
        _ => match source.strip_prefix('\'') {
            Some(rest) => (script || style) && is_hash(rest),
            None => is_host_source(source),
        },
    }
}

fn is_hash(rest: &str) -> bool {
    let digest = ["sha256-", "sha384-", "sha512-"]
        .iter()
        .find_map(|algorithm| rest.strip_prefix(algorithm))
        .and_then(|digest| digest.strip_suffix('\''));
    digest.is_some_and(|digest| {
        digest.len() >= 43
            && digest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b))
    })
}

fn is_host_source(source: &str) -> bool {
    let separates = |c: char| c.is_whitespace() || matches!(c, ';' | ',' | '\'' | '"' | '\\');
    if source.contains(separates) || !source.is_ascii() {
        return false;
    }
    // `*.example.com` is a host of a policy and none of a URL.
    let named = source.replacen("://*.", "://", 1);
    let wild = named.len() != source.len();
    let Ok(url) = Url::parse(&named) else {
        return false;
    };
    let dotted = url.domain().is_some_and(|domain| domain.contains('.'));
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && !named.contains('*')
        && named.contains("://");
    plain
        && (!wild || dotted)
        && match url.scheme() {
            "https" | "wss" => url.host_str().is_some(),
            "http" | "ws" => !wild && is_loopback(&url),
            _ => false,
        }
}

/// The default policy with further sources.
fn policy(added: &[(String, Vec<String>)]) -> String {
    let mut directives: Vec<(&str, Vec<&str>)> = DEFAULT_POLICY
        .iter()
        .map(|(name, sources)| (*name, sources.to_vec()))
        .collect();
    for (name, sources) in added {
        let more = sources.iter().map(String::as_str);
        match directives.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => {
                known.retain(|source| *source != "'none'");
                known.extend(more);
            }
            // What it would otherwise fall back to, `default-src`.
            None => directives.push((name, std::iter::once("'self'").chain(more).collect())),
        }
    }
    let directives: Vec<String> = directives
        .iter()
        .map(|(name, sources)| format!("{name} {}", sources.join(" ")))
        .collect();
    directives.join("; ")
}

fn check_headers(
    path: &str,
    written: &[(String, String)],
    problems: &mut Problems,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in written {
        let at = ["routes", path, "headers", name];
        let checked = HeaderName::from_bytes(name.as_bytes()).ok();
        let Some(checked) = checked.filter(|name| !is_written_by_us(name.as_str())) else {
            problems.add(
                &at,
                "expected a header that is not written for each file anyway and that sets no cookie",
                "headers: {Cross-Origin-Opener-Policy: same-origin}",
            );
            continue;
        };
        let visible = !value.trim().is_empty() && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        match HeaderValue::try_from(value.as_str()) {
            Ok(_) if headers.iter().any(|(known, _)| *known == checked) => problems.add(
                &at,
                "the header is written twice, names of headers ignore case",
                "remove one of them",
            ),
            Ok(value) if visible => headers.push((checked, value)),
            Ok(_) | Err(_) => problems.add(
                &at,
                "expected one line of visible ASCII characters",
                "headers: {Permissions-Policy: \"camera=()\"}",
            ),
        }
    }
    headers
}

/// Whether a header is decided file by file, by the connection, or by a setting of its own.
fn is_written_by_us(name: &str) -> bool {
    let trial = header::CONTENT_SECURITY_POLICY_REPORT_ONLY;
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    name != trial.as_str()
        && (begins(&["content-", "access-control-", "proxy-", "sec-", "token-handler-"])
            || RESERVED.contains(&name))
}

/// Fits what bundlers emit: scripts and styles from here, small images and fonts inlined as
/// `data:`, styles that component libraries insert at run time. Scripts are never inline. Injected
/// styles could only carry data away by loading something, and nothing is loaded from elsewhere.
const DEFAULT_POLICY: [(&str, &[&str]); 11] = [
    ("default-src", &["'self'"]),
    ("script-src", &["'self'"]),
    ("style-src", &["'self'", "'unsafe-inline'"]),
    ("img-src", &["'self'", "data:", "blob:"]),
    ("font-src", &["'self'", "data:"]),
    ("connect-src", &["'self'"]),
    ("worker-src", &["'self'", "blob:"]),
    ("object-src", &["'none'"]),
    ("base-uri", &["'self'"]),
    ("form-action", &["'self'"]),
    ("frame-ancestors", &["'none'"]),
];

/// Directives to which `allowed_sources` adds.
const EXTENSIBLE: [&str; 11] = [
    "connect-src",
    "img-src",
    "font-src",
    "media-src",
    "style-src",
    "script-src",
    "frame-src",
    "worker-src",
    "manifest-src",
    "form-action",
    "frame-ancestors",
];

/// Headers that are decided file by file, by the connection, or never by a file.
const RESERVED: [&str; 19] = [
    "accept-ranges",
    "age",
    "allow",
    "cache-control",
    "clear-site-data",
    "connection",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "location",
    "set-cookie",
    "set-cookie2",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "x-content-type-options",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{config, files, upstream};
    use crate::config::{ApplicationConfig, RouteConfig, policy_weaknesses};

    fn check(files_config: FilesConfig) -> Result<FileHeaders, Vec<String>> {
        let route = RouteConfig {
            files: files_config,
            ..files("/", "dist")
        };
        let config = ApplicationConfig {
            routes: vec![route],
            ..config()
        };
        match config.check() {
            Ok(application) => Ok(application.routes.first().expect("one route").files.clone()),
            Err(problems) => Err(problems.iter().map(|problem| problem.at.join(".")).collect()),
        }
    }

    fn with_policy(policy: &str) -> FilesConfig {
        FilesConfig {
            content_security_policy: Some(policy.to_owned()),
            ..FilesConfig::default()
        }
    }

    fn with_source(directive: &str, source: &str) -> FilesConfig {
        FilesConfig {
            allowed_sources: vec![(directive.to_owned(), vec![source.to_owned()])],
            ..FilesConfig::default()
        }
    }

    fn sent(files: FilesConfig) -> Option<String> {
        let headers = check(files).expect("good");
        let policy = headers.content_security_policy?;
        Some(policy.to_str().expect("text").to_owned())
    }

    const DEFAULT: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; \
         object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'";

    #[test]
    fn the_policy_is_the_strict_one_unless_the_route_says_otherwise() {
        assert_eq!(sent(FilesConfig::default()).as_deref(), Some(DEFAULT));
        assert_eq!(
            sent(with_policy("default-src 'none'")).as_deref(),
            Some("default-src 'none'")
        );
        let off = FilesConfig {
            danger_no_content_security_policy: true,
            ..FilesConfig::default()
        };
        assert_eq!(sent(off), None);
    }

    #[test]
    fn what_was_chosen_is_told() {
        let added = with_source("img-src", "https://i.example.com");
        let off = FilesConfig {
            danger_no_content_security_policy: true,
            ..FilesConfig::default()
        };
        for (written, expected) in [
            (FilesConfig::default(), PolicyChoice::Default),
            (
                added.clone(),
                PolicyChoice::Extended(added.allowed_sources.clone()),
            ),
            (with_policy("default-src 'none'"), PolicyChoice::Own),
            (off, PolicyChoice::Off),
        ] {
            assert_eq!(check(written).expect("good").policy, expected);
        }
    }

    #[test]
    fn the_default_policy_has_no_weakness() {
        assert_eq!(policy_weaknesses(DEFAULT), Vec::<String>::new());
    }

    #[test]
    fn sources_are_added_where_they_belong() {
        for (directive, source, expected) in [
            (
                "img-src",
                "https://i.example.com",
                "img-src 'self' data: blob: https://i.example.com;",
            ),
            (
                "frame-ancestors",
                "https://p.example.com",
                "frame-ancestors https://p.example.com",
            ),
            (
                "media-src",
                "https://m.example.com",
                "media-src 'self' https://m.example.com",
            ),
        ] {
            let policy = sent(with_source(directive, source)).expect("a policy");
            assert!(policy.contains(expected), "{policy}");
            assert!(!policy.contains("frame-ancestors 'none' "), "{policy}");
        }
    }

    #[test]
    fn only_sources_that_keep_the_policys_sense_are_added() {
        let hash = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='";
        for (directive, source, good) in [
            ("connect-src", "https://api.example.com", true),
            ("connect-src", "wss://live.example.com:8443", true),
            ("connect-src", "http://localhost:5000", true),
            ("connect-src", "ws://127.0.0.1:5000", true),
            ("connect-src", "http://api.example.com", false),
            ("connect-src", "https:", false),
            ("connect-src", "*", false),
            ("img-src", "https:", true),
            ("img-src", "https://*.example.com", true),
            ("img-src", "https://*.com", false),
            ("img-src", "https://*", false),
            ("img-src", "https://i.example.com/a?b", false),
            ("img-src", "https://u@i.example.com", false),
            ("img-src", "images.example.com", false),
            ("img-src", "https://i.example.com; script-src *", false),
            ("img-src", "https://i.example.com script-src", false),
            ("img-src", "https://i.example.com,x", false),
            ("img-src", "", false),
            ("media-src", "blob:", true),
            ("frame-src", "https://player.example.com/embed/", true),
            ("script-src", hash, true),
            ("style-src", hash, true),
            ("img-src", hash, false),
            ("script-src", "'wasm-unsafe-eval'", true),
            ("script-src", "https://cdn.example.com", true),
            ("script-src", "'unsafe-inline'", false),
            ("script-src", "'unsafe-eval'", false),
            ("script-src", "'nonce-abc'", false),
            ("script-src", "data:", false),
            ("script-src", "blob:", false),
            ("script-src", "https:", false),
            ("script-src", "'sha256-short'", false),
            ("form-action", "https://login.example.com", true),
            ("form-action", "data:", false),
            ("frame-ancestors", "'self'", true),
            ("default-src", "https://a.example.com", false),
            ("base-uri", "https://a.example.com", false),
            ("object-src", "https://a.example.com", false),
            ("img-scr", "https://a.example.com", false),
        ] {
            let answer = check(with_source(directive, source)).map(|_| ());
            let expected = if good {
                Ok(())
            } else {
                Err(vec![format!("routes./.allowed_sources.{directive}")])
            };
            assert_eq!(answer, expected, "{directive} {source}");
        }
    }

    #[test]
    fn a_policy_of_ones_own_fits_into_one_header() {
        let at = || Err(vec!["routes./.content_security_policy".to_owned()]);
        for policy in [
            "",
            "  ",
            "default-src 'self'\nSet-Cookie: a=b",
            "default-src 'self'\r\n",
            "default-src 'self', script-src *",
            "default-src é",
            "default-src\t'self'",
            "default-src \u{0}",
        ] {
            assert_eq!(check(with_policy(policy)).map(|_| ()), at(), "{policy:?}");
        }
    }

    #[test]
    fn one_way_to_say_the_policy_excludes_the_others() {
        let own = || Some("default-src 'none'".to_owned());
        let added = || with_source("img-src", "https://i.example.com").allowed_sources;
        for (content_security_policy, allowed_sources, off, at) in [
            (own(), added(), false, "allowed_sources"),
            (own(), Vec::new(), true, "danger_no_content_security_policy"),
            (None, added(), true, "danger_no_content_security_policy"),
            (own(), added(), true, "danger_no_content_security_policy"),
        ] {
            let answer = check(FilesConfig {
                content_security_policy,
                allowed_sources,
                danger_no_content_security_policy: off,
                headers: Vec::new(),
            });
            assert_eq!(answer, Err(vec![format!("routes./.{at}")]));
        }
    }

    #[test]
    fn further_headers_are_none_that_are_written_anyway() {
        for (name, value, good) in [
            ("Cross-Origin-Opener-Policy", "same-origin", true),
            ("Permissions-Policy", "camera=(), microphone=()", true),
            ("referrer-policy", "no-referrer", true),
            ("content-security-policy-report-only", "default-src 'none'", true),
            ("Set-Cookie", "a=b", false),
            ("content-security-policy", "x", false),
            ("Content-Type", "text/html", false),
            ("cache-control", "public", false),
            ("access-control-allow-origin", "*", false),
            ("clear-site-data", "*", false),
            ("transfer-encoding", "chunked", false),
            ("vary", "*", false),
            ("bad name", "x", false),
            ("", "x", false),
            ("x-a", "", false),
            ("x-a", "a\r\nset-cookie: b", false),
            ("x-a", "é", false),
        ] {
            let answer = check(FilesConfig {
                headers: vec![(name.to_owned(), value.to_owned())],
                ..FilesConfig::default()
            });
            let expected = if good {
                Ok(())
            } else {
                Err(vec![format!("routes./.headers.{name}")])
            };
            assert_eq!(answer.map(|_| ()), expected, "{name}: {value:?}");
        }
        let twice = check(FilesConfig {
            headers: vec![
                ("x-a".to_owned(), "1".to_owned()),
                ("X-A".to_owned(), "2".to_owned()),
            ],
            ..FilesConfig::default()
        });
        assert_eq!(twice, Err(vec!["routes./.headers.X-A".to_owned()]));
    }

    #[test]
    fn what_is_said_of_files_needs_files() {
        for (key, files_config) in [
            ("content_security_policy", with_policy("default-src 'none'")),
            ("allowed_sources", with_source("img-src", "https://i.example.com")),
            (
                "headers",
                FilesConfig {
                    headers: vec![("x-a".to_owned(), "1".to_owned())],
                    ..FilesConfig::default()
                },
            ),
            (
                "danger_no_content_security_policy",
                FilesConfig {
                    danger_no_content_security_policy: true,
                    ..FilesConfig::default()
                },
            ),
        ] {
            let route = RouteConfig {
                files: files_config,
                ..upstream("/api", "http://127.0.0.1:5000", None)
            };
            let config = ApplicationConfig {
                routes: vec![route],
                ..config()
            };
            let places: Vec<String> = match config.check() {
                Ok(_) => Vec::new(),
                Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
            };
            assert_eq!(places, [format!("routes./api.{key}")]);
        }
    }
}
