//! From what a person wrote to an [`Application`]: every check of the configuration.
//!
//! All problems are collected, each with a hint that can be pasted. Nothing is repaired silently:
//! what is accepted means what it says. Secrets are looked at for presence only.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use url::Url;

use super::addresses::{
    check_app_url, check_base_path, check_callback, check_home, check_hosts, check_origins, check_url,
};
use super::apis::{ask_for, check_tokens};
use super::authorization::check_response_mode;
use super::client_auth::bind_routes;
use super::client_credentials::{Who, check_client_credentials};
use super::compatibility::{Compatibility, check_compatibility};
use super::hsts::Hsts;
use super::introspection::check_introspections;
use super::limits::check_agent_limits;
use super::plain;
use super::preset;
use super::routes::{check_proved, check_routes};
use super::several::{self, at_provider, check_mix_up, check_providers};
use super::{
    AppId, Application, ApplicationConfig, Callback, Problem, SessionConfig, SessionLimits, SessionStorage,
    StoreKind, defaults, is_loopback,
};

impl ApplicationConfig {
    /// Checks everything.
    ///
    /// # Errors
    /// Every problem there is, in the order of the file.
    pub fn check(self) -> Result<Application, Vec<Problem>> {
        let mut problems = Problems::default();
        let insecure = Insecure(self.danger_insecure_http);
        let id = check_id(&self.id, &mut problems);
        let url = check_url(&self.url, insecure, &mut problems);
        let app_url = match &self.app_url {
            Some(app_url) => check_app_url(app_url, insecure, &mut problems),
            None => url.as_ref().map(|(url, _)| url.clone()),
        };
        let origins = check_origins(self.origins.as_deref(), app_url.as_ref(), insecure, &mut problems);
        let hosts = check_hosts(&self.hosts, url.as_ref().map(|(url, _)| url), &mut problems);
        let compatibility = check_compatibility(
            self.compatibility.as_deref(),
            self.login_callback.as_deref(),
            &mut problems,
        );
        let base_path = check_base_path(
            self.base_path.as_deref(),
            Compatibility::base_path(compatibility),
            &mut problems,
        );
        let csrf_header = check_csrf_header(
            self.csrf_header.as_deref(),
            Compatibility::csrf_header(compatibility),
            &mut problems,
        );
        let hsts = Hsts::check(&self.hsts, url.as_ref().map(|(url, _)| url), &mut problems);
        let rate_limits = check_agent_limits(&self.rate_limits, &mut problems);
        let is_proxy = self.provider.is_none() && self.providers.is_none();
        let written_providers = several::Written {
            provider: self.provider,
            providers: self.providers,
            default_provider: self.default_provider,
        };
        let (mut providers, default) = check_providers(written_providers, &mut problems);
        if is_proxy {
            check_proxy(&self.session, self.login_callback.as_deref(), &mut problems);
        }
        for provider in &mut providers {
            preset::fill_token_life(provider, &self.session);
        }
        let session = check_session(self.session, &mut problems);
        let mut written_routes = self.routes;
        for provider in &providers {
            bind_routes(&mut written_routes, provider, &mut problems);
            if provider.plain.is_some() {
                plain::check_demands(&written_routes, &mut problems);
            }
        }
        let own = url.as_ref().map(|(url, _)| url);
        let paths: Vec<String> = written_routes.iter().map(|route| route.path.clone()).collect();
        let tokens = written_routes
            .iter()
            .filter_map(|route| Some((route.path.clone(), route.token.clone()?)))
            .collect();
        let mut routes = check_routes(written_routes, own, base_path.as_deref(), insecure, &mut problems);
        let who = if is_proxy { Who::Nobody } else { Who::Client };
        let (client_grants, tokens) = check_client_credentials(tokens, &mut routes, who, &mut problems);
        if providers.iter().any(|provider| provider.dpop.is_some()) {
            check_proved(&paths, &routes, &mut problems);
        }
        let tokens = check_introspections(tokens, &mut routes, &providers, &mut problems);
        let apis = check_tokens(tokens, &mut routes, &mut problems);
        for provider in &mut providers {
            let name = provider.name.clone();
            at_provider(name.as_ref(), &mut problems, |problems| {
                ask_for(&apis, &routes, provider, problems);
            });
        }
        if let (Some(app_url), Some((_, own)), Some(base_path)) = (&app_url, &url, &base_path) {
            check_home(app_url, own, base_path, &routes, &mut problems);
        }
        let callback = match (self.login_callback.as_deref(), &app_url, &url, &base_path) {
            (None | Some("agent"), ..) => Some(Callback::Agent),
            (Some(page), Some(app_url), Some((_, own)), Some(base_path)) => {
                check_callback(page, app_url, own, base_path, &routes, &mut problems)
            }
            (Some(_), ..) => None,
        };
        if let Some(callback) = &callback {
            for provider in &providers {
                at_provider(provider.name.as_ref(), &mut problems, |problems| {
                    check_response_mode(provider.authorization.response_mode, callback, problems);
                });
            }
            check_mix_up(&providers, callback, &mut problems);
        }
        if !problems.0.is_empty() {
            return Err(problems.0);
        }
        let providers: Vec<_> = providers.into_iter().map(Arc::new).collect();
        // Each of these is there, or a problem was noted.
        let checked = (|| {
            Some(Application {
                id: id?,
                url: url?.1,
                app_url: app_url?,
                origins: origins?,
                hosts,
                base_path: base_path?,
                callback: callback?,
                provider: match is_proxy {
                    true => None,
                    false => Some(Arc::clone(providers.get(default)?)),
                },
                providers,
                session,
                csrf_header: csrf_header?,
                compatibility,
                hsts,
                rate_limits,
                routes,
                apis,
                client_grants,
            })
        })();
        checked.ok_or_else(|| {
            problems.add(
                &[],
                "the configuration cannot be checked",
                "start from the smallest example",
            );
            problems.0
        })
    }
}

/// Checks what concerns several applications in one process: ids, origins and hosts are distinct.
/// The first part of each problem's place is the application's id.
pub fn check_together(applications: &[Application]) -> Vec<Problem> {
    let mut problems = Problems::default();
    for (index, application) in applications.iter().enumerate() {
        let id = application.id.as_str();
        for earlier in applications.iter().take(index) {
            if earlier.id == application.id {
                problems.add(
                    &[id],
                    "the id is used twice",
                    "give each application its own id, such as `shop2:`",
                );
            }
            if earlier.url == application.url {
                problems.add(
                    &[id, "url"],
                    format!("`{}` has this url already", earlier.id.as_str()),
                    "one application per origin: give this one its own host",
                );
            } else if let Some(host) = application.hosts.iter().find(|host| earlier.hosts.contains(host)) {
                problems.add(
                    &[id, "hosts"],
                    format!("`{}` has the host `{host}` already", earlier.id.as_str()),
                    "requests find their application by host: remove it from one of them",
                );
            }
        }
    }
    problems.0
}

/// Whether plain http is tolerated off loopback.
#[derive(Clone, Copy)]
pub(super) struct Insecure(pub(super) bool);

impl Insecure {
    pub(super) fn allows(self, url: &Url) -> bool {
        url.scheme() == "https" || (url.scheme() == "http" && (self.0 || is_loopback(url)))
    }
}

#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, at: &[&str], message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem {
            at: at.iter().map(|&part| part.to_owned()).collect(),
            message: message.into(),
            hint: hint.into(),
        });
    }
}

fn check_id(id: &str, problems: &mut Problems) -> Option<AppId> {
    let checked = AppId::parse(id);
    if checked.is_none() {
        problems.add(
            &[],
            "an application's id is 1 to 32 of a-z and 0-9, it becomes part of cookie names",
            "shop:",
        );
    }
    checked
}

fn check_csrf_header(written: Option<&str>, default: &str, problems: &mut Problems) -> Option<HeaderName> {
    let name = written.unwrap_or(default).to_ascii_lowercase();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let useless = UNPREFLIGHTED_HEADERS.contains(&name.as_str())
        || name.starts_with("sec-")
        || name.starts_with("proxy-")
        || name.starts_with("access-control-");
    if useless || !name.bytes().all(plain) || name.is_empty() {
        problems.add(
            &["csrf_header"],
            "expected the name of a header that no page can send across origins without a preflight",
            "csrf_header: token-handler-version",
        );
        return None;
    }
    HeaderName::from_bytes(name.as_bytes()).ok()
}

/// What only a sign-in uses has no place where nobody can sign in. Where sessions are kept has one:
/// a proxy reads them there.
fn check_proxy(session: &SessionConfig, login_callback: Option<&str>, problems: &mut Problems) {
    let message = "an instance that only forwards API calls has no use for it: the agent says it";
    let storage = &session.storage;
    if storage
        .settings()
        .is_some_and(|store| store.kind == StoreKind::Memory)
    {
        let (key, hint) = if storage.is_stateful() {
            ("store", "name the agent's store: `store: redis://…`")
        } else {
            (
                "revocation_store",
                "name the agent's: `revocation_store: redis://…`",
            )
        };
        problems.add(
            &["session", key],
            "no agent writes into this process' memory, so no session would ever be found there",
            hint,
        );
    }
    let beside_storage = SessionConfig {
        storage: SessionStorage::Cookie,
        ..session.clone()
    };
    if beside_storage != SessionConfig::default() {
        problems.add(&["session"], message, "remove `session`");
    }
    if login_callback.is_some() {
        problems.add(&["login_callback"], message, "remove `login`");
    }
}

fn check_session(written: SessionConfig, problems: &mut Problems) -> SessionLimits {
    let limits = SessionLimits {
        idle: written.idle.unwrap_or(defaults::IDLE),
        absolute: written.absolute.unwrap_or(defaults::ABSOLUTE),
        default_token_life: written.default_token_life.unwrap_or(defaults::TOKEN_LIFE),
        claims: written.claims,
        storage: written.storage,
    };
    if limits.idle < defaults::MIN_IDLE {
        problems.add(
            &["session", "idle"],
            "an idle limit below a minute signs people out while they read",
            "idle: 30m",
        );
    }
    if limits.absolute > defaults::MAX_ABSOLUTE {
        problems.add(
            &["session", "absolute"],
            "browsers keep no cookie longer than 400 days",
            "absolute: 12h",
        );
    }
    if limits.idle > limits.absolute {
        problems.add(
            &[
                "session",
                if written.idle.is_some() {
                    "idle"
                } else {
                    "absolute"
                },
            ],
            "the idle limit (default 30m) is longer than the absolute limit (default 12h)",
            "session: {idle: 30m, absolute: 12h}",
        );
    }
    if limits.default_token_life < Duration::from_secs(1) {
        problems.add(
            &["session", "default_token_life"],
            "expected at least a second",
            "default_token_life: 5m",
        );
    }
    limits
}

pub(super) fn check_deadline(
    at: &[&str],
    written: Option<Duration>,
    default: Duration,
    problems: &mut Problems,
) -> Duration {
    let deadline = written.unwrap_or(default);
    if deadline.is_zero() {
        let key = at.last().copied().unwrap_or_default();
        problems.add(
            at,
            "a deadline of zero is none that can be met",
            format!("{key}: {}s", default.as_secs()),
        );
    }
    deadline
}

/// Headers that a page can send anywhere without a preflight, or that it can never set (Fetch
/// §2.2.2): as a proof of origin worth nothing, or never there.
const UNPREFLIGHTED_HEADERS: [&str; 36] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "connection",
    "content-language",
    "content-length",
    "content-type",
    "cookie",
    "cookie2",
    "date",
    "device-memory",
    "dnt",
    "downlink",
    "dpr",
    "ect",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "last-event-id",
    "origin",
    "priority",
    "purpose",
    "range",
    "referer",
    "rtt",
    "save-data",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "viewport-width",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreConfig;
    use crate::config::testing::{checked, config, sibling, upstream};
    use crate::secret::Secret;

    fn places(config: ApplicationConfig) -> Vec<String> {
        match config.check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn the_smallest_configuration_has_all_its_defaults() {
        let application = checked(config());
        assert_eq!(application.id.as_str(), "shop");
        assert_eq!(application.url.as_str(), "https://shop.example.com");
        assert_eq!(application.app_url.as_str(), "https://shop.example.com/");
        assert_eq!(application.origins, std::slice::from_ref(&application.url));
        assert_eq!(application.hosts, ["shop.example.com"]);
        assert_eq!(application.base_path, "/auth");
        assert_eq!(application.callback, Callback::Agent);
        assert_eq!(application.csrf_header, "token-handler-version");
        assert_eq!(application.session.idle, Duration::from_secs(1800));
        assert_eq!(application.session.absolute, Duration::from_secs(43_200));
        assert_eq!(application.session.default_token_life, Duration::from_secs(300));
        assert_eq!(application.provider.expect("an agent").scopes, ["openid"]);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let config = ApplicationConfig {
            id: "Shop".to_owned(),
            url: "shop.example.com".to_owned(),
            base_path: some("/"),
            csrf_header: some("accept"),
            session: SessionConfig {
                idle: Some(Duration::ZERO),
                ..SessionConfig::default()
            },
            routes: vec![upstream("api", "ftp://x", Some("maybe"))],
            ..config()
        };
        assert_eq!(
            places(config),
            [
                "",
                "url",
                "base_path",
                "csrf_header",
                "session.idle",
                "routes.api",
                "routes.api.upstream",
                "routes.api.auth"
            ]
        );
    }

    #[test]
    fn a_problem_says_what_was_expected_and_what_to_write() {
        let problems = ApplicationConfig {
            url: "https://Shop.example.com:443/".to_owned(),
            ..config()
        }
        .check()
        .err()
        .expect("a problem");
        assert_eq!(
            problems,
            [Problem {
                at: list(&["url"]),
                message: "expected an origin: no path, no upper case, no default port".to_owned(),
                hint: "url: https://shop.example.com".to_owned(),
            }]
        );
    }

    #[test]
    fn ids_are_lower_case_letters_and_digits() {
        for (id, good) in [
            ("shop2", true),
            ("", false),
            ("Shop", false),
            ("a-b", false),
            ("a_b", false),
            ("\u{e9}", false),
        ] {
            let id_config = ApplicationConfig {
                id: id.to_owned(),
                ..config()
            };
            assert_eq!(id_config.check().is_ok(), good, "{id}");
        }
        assert!(
            !places(ApplicationConfig {
                id: "a".repeat(33),
                ..config()
            })
            .is_empty()
        );
    }

    #[test]
    fn the_url_is_an_origin() {
        for (url, good) in [
            ("https://shop.example.com", true),
            ("https://shop.example.com/", true),
            ("https://shop.example.com:8443", true),
            ("http://localhost:3000", true),
            ("http://shop.localhost", true),
            ("http://127.0.0.9:1", true),
            ("http://[::1]:1", true),
            ("http://shop.example.com", false),
            ("http://localhost.example.com", false),
            ("https://shop.example.com/app", false),
            ("https://shop.example.com?x", false),
            ("https://shop.example.com#x", false),
            ("https://user@shop.example.com", false),
            ("https://shop.example.com.", false),
            ("https://*.example.com", false),
            ("https://SHOP.example.com", false),
            ("https://shop.example.com:443", false),
            (" https://shop.example.com", false),
            ("ftp://shop.example.com", false),
            ("shop.example.com", false),
            ("", false),
        ] {
            let expected = if good { Vec::new() } else { vec!["url".to_owned()] };
            assert_eq!(
                places(ApplicationConfig {
                    url: url.to_owned(),
                    ..config()
                }),
                expected,
                "{url}"
            );
        }
        let insecure = ApplicationConfig {
            url: "http://shop.example.com".to_owned(),
            danger_insecure_http: true,
            ..config()
        };
        assert_eq!(checked(insecure).url.as_str(), "http://shop.example.com");
    }

    #[test]
    fn the_spas_address_may_have_a_path() {
        for (app_url, good) in [
            ("https://www.example.com", true),
            ("https://www.example.com/app/", true),
            ("https://www.example.com/a?b", false),
            ("https://www.example.com/a#b", false),
            ("https://www.example.com/a//b", false),
            ("https://www.example.com/%61", false),
            ("https://user@www.example.com", false),
            ("https://WWW.example.com", false),
            ("http://www.example.com", false),
            ("mailto:x", false),
            ("www", false),
        ] {
            let expected = if good {
                Vec::new()
            } else {
                vec!["app_url".to_owned()]
            };
            assert_eq!(
                places(ApplicationConfig {
                    app_url: some(app_url),
                    ..config()
                }),
                expected,
                "{app_url}"
            );
        }
    }

    #[test]
    fn the_spas_address_is_not_the_agents() {
        for (app_url, good) in [
            ("https://shop.example.com/auth", false),
            ("https://shop.example.com/auth/app", false),
            ("https://shop.example.com/authors", true),
            ("https://www.example.com/auth", true),
        ] {
            let expected = if good {
                Vec::new()
            } else {
                vec!["app_url".to_owned()]
            };
            let config = ApplicationConfig {
                app_url: some(app_url),
                ..config()
            };
            assert_eq!(places(config), expected, "{app_url}");
        }
    }

    #[test]
    fn origins_are_exact_and_contain_the_spas_own() {
        let www = "https://www.example.com";
        for (origins, expected) in [
            (&[www][..], &[][..]),
            (&[www, "https://x.example.com:8443", "http://localhost:5173"], &[]),
            (&[www, "*"], &["origins.1"]),
            (&[www, "null"], &["origins.1"]),
            (&[www, "https://*.example.com"], &["origins.1"]),
            (&[www, "https://x.example.com/"], &["origins.1"]),
            (&[www, "https://x.example.com/a"], &["origins.1"]),
            (&[www, "https://X.example.com"], &["origins.1"]),
            (&[www, "https://x.example.com:443"], &["origins.1"]),
            (&[www, "http://x.example.com"], &["origins.1"]),
            (&[www, "https://x.example.com."], &["origins.1"]),
            (&[www, www], &["origins.1"]),
            (&[], &["origins"]),
            (&["https://x.example.com"], &["origins"]),
        ] {
            let config = ApplicationConfig {
                origins: Some(list(origins)),
                ..sibling()
            };
            assert_eq!(places(config), *expected, "{origins:?}");
        }
    }

    #[test]
    fn hosts_are_normalised() {
        let application = checked(ApplicationConfig {
            url: "https://shop.example.com:8443".to_owned(),
            hosts: list(&["Shop.Internal:443", "shop.internal", "[::1]:80", "10.0.0.1:8080"]),
            ..config()
        });
        assert_eq!(
            application.hosts,
            [
                "shop.example.com:8443",
                "shop.internal",
                "[::1]:80",
                "10.0.0.1:8080"
            ]
        );
        for host in [
            "",
            "a/b",
            "https://x",
            "u@x",
            "x?",
            "x#",
            "x.",
            "*.x",
            "x:99999",
            "x y",
        ] {
            let config = ApplicationConfig {
                hosts: list(&[host]),
                ..config()
            };
            assert_eq!(places(config), ["hosts.0"], "{host}");
        }
    }

    #[test]
    fn the_base_path_is_plain_and_not_the_root() {
        for (path, good) in [
            ("/auth", true),
            ("/a/b", true),
            ("/", false),
            ("", false),
            ("auth", false),
            ("/auth/", false),
            ("//auth", false),
            ("/a/../b", false),
            ("/a;b", false),
            ("/%61", false),
            ("/a b", false),
        ] {
            let expected = if good {
                Vec::new()
            } else {
                vec!["base_path".to_owned()]
            };
            assert_eq!(
                places(ApplicationConfig {
                    base_path: some(path),
                    ..config()
                }),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn the_callback_is_the_agents_or_a_page() {
        let page = checked(ApplicationConfig {
            login_callback: some("/signed-in"),
            ..sibling()
        });
        assert_eq!(
            page.callback,
            Callback::Spa(Url::parse("https://www.example.com/signed-in").expect("a URL"))
        );
        assert_eq!(
            checked(ApplicationConfig {
                login_callback: some("agent"),
                ..config()
            })
            .callback,
            Callback::Agent
        );
        for callback in [
            "",
            "signed-in",
            "//x",
            "/a/../b",
            "/a?b",
            "/a#b",
            "/auth/x",
            "/auth",
            "/api/x",
            "https://x/y",
        ] {
            let config = ApplicationConfig {
                login_callback: some(callback),
                ..config()
            };
            assert_eq!(places(config), ["login.callback"], "{callback}");
        }
    }

    #[test]
    fn the_custom_header_is_one_that_needs_a_preflight() {
        for (name, good) in [
            ("X-My-Header", true),
            ("x-csrf", true),
            ("", false),
            ("a b", false),
            ("a_b", false),
            ("accept", false),
            ("Content-Type", false),
            ("origin", false),
            ("cookie", false),
            ("range", false),
            ("sec-x", false),
            ("proxy-x", false),
            ("access-control-request-method", false),
        ] {
            let expected = if good {
                Vec::new()
            } else {
                vec!["csrf_header".to_owned()]
            };
            assert_eq!(
                places(ApplicationConfig {
                    csrf_header: some(name),
                    ..config()
                }),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn session_limits_are_sane() {
        let seconds = |n: u64| Some(Duration::from_secs(n));
        for (idle, absolute, life, expected) in [
            (seconds(60), seconds(60), seconds(1), &[][..]),
            (seconds(59), None, None, &["session.idle"]),
            (seconds(0), None, None, &["session.idle"]),
            (seconds(600), seconds(300), None, &["session.idle"]),
            (None, seconds(600), None, &["session.absolute"]),
            (None, seconds(0), None, &["session.absolute"]),
            (None, seconds(401 * 86_400), None, &["session.absolute"]),
            (None, None, seconds(0), &["session.default_token_life"]),
        ] {
            let session = SessionConfig {
                idle,
                absolute,
                default_token_life: life,
                claims: None,
                storage: SessionStorage::Cookie,
            };
            assert_eq!(places(ApplicationConfig { session, ..config() }), *expected);
        }
    }

    #[test]
    fn a_proxy_reads_the_agents_store_and_has_none_of_its_own() {
        let store = |url: &str| {
            let settings = StoreConfig::new(Secret::new(url)).check();
            Box::new(settings.unwrap_or_else(|problems| panic!("{problems:?}")))
        };
        for (storage, expected) in [
            (SessionStorage::Store(store("redis://h")), &[] as &[&str]),
            (SessionStorage::CookieWithRevocations(store("redis://h")), &[]),
            (SessionStorage::Store(store("memory")), &["session.store"]),
            (
                SessionStorage::CookieWithRevocations(store("memory")),
                &["session.revocation_store"],
            ),
        ] {
            let session = SessionConfig {
                storage,
                ..SessionConfig::default()
            };
            let agent = ApplicationConfig {
                session: session.clone(),
                ..config()
            };
            assert!(checked(agent).session.storage == session.storage);
            let proxy = ApplicationConfig {
                provider: None,
                session,
                ..config()
            };
            assert_eq!(places(proxy), expected);
        }
    }

    #[test]
    fn applications_side_by_side_share_no_id_origin_or_host() {
        let application = |id: &str, url: &str, hosts: &[&str]| {
            checked(ApplicationConfig {
                id: id.to_owned(),
                url: url.to_owned(),
                hosts: list(hosts),
                ..config()
            })
        };
        let shop = || application("shop", "https://shop.example.com", &["internal"]);
        let rows = [
            (application("blog", "https://blog.example.com", &[]), &[][..]),
            (application("blog", "https://shop.example.com:8443", &[]), &[]),
            (application("shop", "https://blog.example.com", &[]), &["shop"]),
            (
                application("blog", "https://shop.example.com", &[]),
                &["blog.url"],
            ),
            (
                application("blog", "https://blog.example.com", &["Internal:443"]),
                &["blog.hosts"],
            ),
            (
                application("shop", "https://x.example.com", &["shop.example.com"]),
                &["shop", "shop.hosts"],
            ),
        ];
        for (other, expected) in rows {
            let problems = check_together(&[shop(), other]);
            let places: Vec<String> = problems.iter().map(|problem| problem.at.join(".")).collect();
            assert_eq!(places, *expected);
        }
    }
}
