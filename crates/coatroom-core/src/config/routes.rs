//! Checks of the `routes` section.
//!
//! A route that could never be reached, or whose every request would have to be refused, is a
//! problem here rather than a riddle later.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use url::Url;

use super::addresses::is_plain;
use super::check::{Insecure, Problems, check_deadline};
use super::files::{Has, check_files};
use super::limits::check_route_limit;
use super::upstream::{UpstreamConfig, check_call_limits, check_no_upstream, check_upstreams};
use super::{
    Auth, Origin, Route, RouteConfig, RouteTarget, RouteTargetConfig, UpstreamAddress, defaults, is_loopback,
};
use crate::assurance::{Demands, DemandsConfig};
use crate::cookie::is_ours;
use crate::route::{self, NormalPath, RoutePrefix};

pub(super) fn check_routes(
    written: Vec<RouteConfig>,
    own: Option<&Url>,
    base_path: Option<&str>,
    insecure: Insecure,
    problems: &mut Problems,
) -> Vec<Route> {
    let mut routes: Vec<(String, Route)> = Vec::new();
    for route in written {
        let at = route.path.clone();
        let Some(route) = check_route(route, own, insecure, problems) else {
            continue;
        };
        if routes.iter().any(|(_, earlier)| earlier.prefix == route.prefix) {
            problems.add(
                &["routes", &at],
                "there is a route with this path already, with or without a slash at its end",
                "remove one of them",
            );
            continue;
        }
        if let Some(base_path) = base_path
            && route.prefix.is_at_or_below(base_path)
        {
            problems.add(
                &["routes", &at],
                "the route is under the agent's base path and never gets a request",
                "move the route, or the agent: `base_path: /auth`",
            );
            continue;
        }
        routes.push((at, route));
    }
    routes.sort_by_key(|(_, route)| std::cmp::Reverse(route.prefix.as_str().len()));
    let (paths, routes): (Vec<String>, Vec<Route>) = routes.into_iter().unzip();
    let demands = routes.iter().filter_map(|route| route.demands.as_ref()?.id());
    let many = demands.collect::<HashSet<_>>().len();
    if many > defaults::MAX_DEMANDS {
        let most = defaults::MAX_DEMANDS;
        problems.add(
            &["routes"],
            format!("the routes demand {many} different things of a sign-in, and each takes room in a cookie: at most {most}"),
            "let routes share a `require`; routes that differ in `max_age` alone do",
        );
    }
    for (index, (at, route)) in paths.iter().zip(&routes).enumerate() {
        let unusable = NormalPath::parse(route.prefix.as_str()).map_or(true, |path| {
            base_path.is_some_and(|base_path| route::has_other_reading(base_path, &routes, index, &path))
        });
        if unusable {
            problems.add(
                &["routes", at],
                "an upstream that ignores case, dots or parameters could take this path for another route's, \
                 so its requests would be refused",
                "give the two routes paths that differ in more than that",
            );
        }
    }
    routes
}

fn check_route(
    written: RouteConfig,
    own: Option<&Url>,
    insecure: Insecure,
    problems: &mut Problems,
) -> Option<Route> {
    let path = written.path.as_str();
    let before = problems.0.len();
    let prefix = RoutePrefix::parse(path).ok();
    if prefix.is_none() {
        problems.add(
            &["routes", path],
            "expected a path prefix that starts with `/`, in normal form: no empty or dot segments, no `;` or `,`, nothing encoded needlessly",
            "/api/: {upstream: http://127.0.0.1:5000}",
        );
    }
    let public = match &written.target {
        RouteTargetConfig::Static(_) => Some("static files are public, they take no `auth`"),
        RouteTargetConfig::DevServer(_) => Some("a development server gets no token, it takes no `auth`"),
        RouteTargetConfig::Upstream(_) | RouteTargetConfig::Upstreams(_) | RouteTargetConfig::Inner => None,
    };
    let has = match &written.target {
        RouteTargetConfig::Static(_) => Has::Files,
        RouteTargetConfig::DevServer(_)
        | RouteTargetConfig::Upstream(_)
        | RouteTargetConfig::Upstreams(_)
        | RouteTargetConfig::Inner => Has::NoFiles,
    };
    let public_url = check_public_url(
        path,
        written.public_url.as_deref(),
        &written.target,
        insecure,
        problems,
    );
    let target = check_target(path, written.target, &written.upstream, own, insecure, problems);
    let auth = match (written.auth.as_deref(), public) {
        (None, Some(_)) | (Some("none"), _) => Auth::None,
        (None | Some("required"), None) => Auth::Required,
        (Some("optional"), None) => Auth::Optional,
        (Some("bearer"), None) => Auth::Bearer,
        (Some(_), public) => {
            let message = public.unwrap_or("expected required, optional, none or bearer");
            problems.add(&["routes", path, "auth"], message, "auth: none");
            Auth::Required
        }
    };
    let files = check_files(path, &written.files, has, problems);
    let methods = check_methods(path, written.methods, problems);
    let cache_public = match written.cache.as_deref() {
        None | Some("private") => false,
        Some("public") => true,
        Some(_) => {
            problems.add(
                &["routes", path, "cache"],
                "expected private or public",
                "cache: private",
            );
            false
        }
    };
    for name in &written.cookies {
        if HeaderName::from_bytes(name.as_bytes()).is_err() || is_ours(name.as_bytes()) {
            problems.add(
                &["routes", path, "cookies"],
                "expected names of the upstream's own cookies, never of Coatroom's",
                "cookies: [locale]",
            );
        }
    }
    if auth == Auth::Bearer && !written.cookies.is_empty() {
        problems.add(
            &["routes", path, "cookies"],
            "a route of tokens passes no cookie on: browsers send cookies by themselves, and nothing here guards them",
            "remove `cookies`",
        );
    }
    let body_limit = written.body_limit.unwrap_or(defaults::BODY_LIMIT);
    if body_limit == 0 {
        problems.add(
            &["routes", path, "body_limit"],
            "0 would refuse every body; to take none, restrict the methods",
            "methods: [GET, HEAD]",
        );
    }
    let connect_timeout = check_deadline(
        &["routes", path, "connect_timeout"],
        written.connect_timeout,
        defaults::CONNECT_TIMEOUT,
        problems,
    );
    let timeout = check_deadline(
        &["routes", path, "timeout"],
        written.timeout,
        defaults::ROUTE_TIMEOUT,
        problems,
    );
    let limits = check_call_limits(path, &written.upstream, problems);
    let rate_limit = check_route_limit(path, written.rate_limit.as_ref(), auth, problems);
    let demands = written
        .require
        .filter(|wanted| check_demands(path, wanted, auth, problems));
    if problems.0.len() > before {
        return None;
    }
    Some(Route {
        prefix: prefix?,
        target: target?,
        strip_prefix: written.strip_prefix,
        auth,
        token: None,
        client_grant: None,
        introspection: None,
        methods,
        resources: written.resources,
        cache_public,
        cookies: written.cookies,
        body_limit,
        connect_timeout,
        timeout,
        limits,
        public_url,
        rate_limit,
        demands: demands.map(Demands::new).map(Arc::new),
        forwarded: written.forwarded,
        files,
    })
}

/// Whether demands can be met by anybody, and mean something on such a route.
fn check_demands(path: &str, wanted: &DemandsConfig, auth: Auth, problems: &mut Problems) -> bool {
    let at = ["routes", path, "require"];
    if auth != Auth::Required {
        problems.add(
            &at,
            "only a route that needs a session can demand something of it",
            "auth: required",
        );
        return false;
    }
    if *wanted == DemandsConfig::default() {
        problems.add(&at, "nothing is demanded", "require: {max_age: 10m}");
        return false;
    }
    if wanted.max_age.is_some_and(|age| age < Duration::from_secs(1)) {
        problems.add(
            &["routes", path, "require", "max_age"],
            "nobody has signed in less than a second ago",
            "max_age: 10m",
        );
    }
    let is_word = |text: &String| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b))
    };
    for (name, words) in [("acr", &wanted.acr), ("scopes", &wanted.scopes)] {
        if !words.iter().all(is_word) {
            problems.add(
                &["routes", path, "require", name],
                "expected a list of values without blanks, quotes and backslashes",
                format!("{name}: [a, b]"),
            );
        }
    }
    for (name, values) in &wanted.claims {
        if name.is_empty() || values.is_empty() {
            problems.add(
                &["routes", path, "require", "claims", name],
                "expected a claim of the ID token and the values that pass",
                "claims: {role: [admin]}",
            );
        }
    }
    true
}

/// What the API takes for its own address: an origin, perhaps with a path.
fn check_public_url(
    path: &str,
    written: Option<&str>,
    target: &RouteTargetConfig,
    insecure: Insecure,
    problems: &mut Problems,
) -> Option<Url> {
    let (written, at) = (written?, ["routes", path, "public_url"]);
    if matches!(
        target,
        RouteTargetConfig::Static(_) | RouteTargetConfig::DevServer(_)
    ) {
        let message = "it says what an API calls itself, and no API is behind this route";
        problems.add(&at, message, "remove `public_url`");
        return None;
    }
    let url = Url::parse(written).ok();
    let good = url.filter(|url| is_plain(url) && Origin::of(url).is_some() && insecure.allows(url));
    if good.is_none() {
        problems.add(
            &at,
            "expected the https URL (http on loopback) that the API has for its clients, without user, query and \
             fragment",
            "public_url: https://api.example.com",
        );
    }
    good
}

/// With bound tokens each API has to have one address that proofs can name (RFC 9449 §4.2). `paths` are
/// those of the routes as they are written.
pub(super) fn check_proved(paths: &[String], routes: &[Route], problems: &mut Problems) {
    for route in routes {
        let one_address = match &route.target {
            RouteTarget::Upstream(upstreams) => {
                matches!(upstreams.addresses.as_slice(), [UpstreamAddress::Url(_)])
            }
            RouteTarget::Inner | RouteTarget::Static(_) | RouteTarget::DevServer(_) => true,
        };
        let proves = matches!(route.auth, Auth::Required | Auth::Optional) || route.client_grant.is_some();
        if proves && !one_address && route.public_url.is_none() {
            let is_its = |path: &&String| RoutePrefix::parse(path).is_ok_and(|prefix| prefix == route.prefix);
            let path = paths
                .iter()
                .find(is_its)
                .map_or(route.prefix.as_str(), String::as_str);
            problems.add(
                &["routes", path, "public_url"],
                "with `dpop` each call proves which URL it is for, and several addresses or a socket do not say \
                 which one the API takes for its own",
                "public_url: https://api.example.com",
            );
        }
    }
}

fn check_target(
    path: &str,
    written: RouteTargetConfig,
    upstream: &UpstreamConfig,
    own: Option<&Url>,
    insecure: Insecure,
    problems: &mut Problems,
) -> Option<RouteTarget> {
    let mut upstreams = |addresses: &[String]| {
        let checked = check_upstreams(path, addresses, upstream, insecure, problems);
        checked.map(|checked| RouteTarget::Upstream(Arc::new(checked)))
    };
    match &written {
        RouteTargetConfig::Upstream(address) => return upstreams(std::slice::from_ref(address)),
        RouteTargetConfig::Upstreams(addresses) => return upstreams(addresses),
        RouteTargetConfig::Static(_) | RouteTargetConfig::DevServer(_) | RouteTargetConfig::Inner => {
            check_no_upstream(path, upstream, problems);
        }
    }
    match written {
        RouteTargetConfig::Static(folder) if folder.as_os_str().is_empty() => {
            problems.add(&["routes", path, "static"], "expected a folder", "static: ./dist");
            None
        }
        RouteTargetConfig::Static(folder) => Some(RouteTarget::Static(folder)),
        RouteTargetConfig::DevServer(text) => check_dev_server(path, &text, own, problems),
        RouteTargetConfig::Inner | RouteTargetConfig::Upstream(_) | RouteTargetConfig::Upstreams(_) => {
            Some(RouteTarget::Inner)
        }
    }
}

/// A development server hands out source code and runs what it is told to: it is for the one
/// machine on which somebody develops, and never part of a service that others reach.
fn check_dev_server(
    path: &str,
    text: &str,
    own: Option<&Url>,
    problems: &mut Problems,
) -> Option<RouteTarget> {
    let at = ["routes", path, "dev_server"];
    let url = Url::parse(text)
        .ok()
        .filter(|url| is_plain(url) && Origin::of(url).is_some() && url.path() == "/");
    let Some(url) = url else {
        problems.add(
            &at,
            "expected the origin of a development server, without a path",
            "dev_server: http://localhost:5173",
        );
        return None;
    };
    if !is_loopback(&url) {
        problems.add(
            &at,
            "a development server is taken on loopback only",
            "dev_server: http://localhost:5173",
        );
        return None;
    }
    match own {
        Some(own) if !is_loopback(own) => {
            problems.add(
                &at,
                "`dev_server` is for development, and the application's `url` is not on loopback",
                "static: ./dist",
            );
            None
        }
        // Without a good `url` there is a problem already.
        Some(_) | None => Some(RouteTarget::DevServer(url)),
    }
}

fn check_methods(path: &str, written: Option<Vec<String>>, problems: &mut Problems) -> Option<Vec<Method>> {
    let written = written?;
    let mut methods = Vec::with_capacity(written.len());
    for text in &written {
        match text.parse::<Method>() {
            Ok(method)
                if text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
                    && !["CONNECT", "TRACE", "TRACK"].contains(&text.as_str()) =>
            {
                if !methods.contains(&method) {
                    methods.push(method);
                }
            }
            Ok(_) | Err(_) => problems.add(
                &["routes", path, "methods"],
                "expected methods in upper case, never CONNECT or TRACE",
                "methods: [GET, HEAD, POST]",
            ),
        }
    }
    if written.is_empty() {
        problems.add(
            &["routes", path, "methods"],
            "a route without methods takes nothing",
            "methods: [GET, HEAD]",
        );
    }
    Some(methods)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::testing::{checked, config, dev_server, files, upstream};
    use crate::config::{ApplicationConfig, UpstreamAddress};

    const API: &str = "http://127.0.0.1:5000";

    fn places(routes: Vec<RouteConfig>) -> Vec<String> {
        match (ApplicationConfig { routes, ..config() }).check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    #[test]
    fn routes_are_sorted_and_have_their_defaults() {
        let application = checked(ApplicationConfig {
            routes: vec![
                files("/", "dist"),
                upstream("/api/", API, None),
                upstream("/api/v1", API, Some("optional")),
            ],
            ..config()
        });
        let prefixes: Vec<&str> = application
            .routes
            .iter()
            .map(|route| route.prefix.as_str())
            .collect();
        assert_eq!(prefixes, ["/api/v1", "/api", "/"]);
        let auth: Vec<Auth> = application.routes.iter().map(|route| route.auth).collect();
        assert_eq!(auth, [Auth::Optional, Auth::Required, Auth::None]);
        let api = application.routes.get(1).expect("three routes");
        assert_eq!(
            (api.body_limit, api.timeout, api.connect_timeout),
            (10 * 1024 * 1024, Duration::from_secs(60), Duration::from_secs(5),)
        );
        assert!(!api.resources && !api.cache_public && api.methods.is_none() && api.cookies.is_empty());
    }

    #[test]
    fn an_upstream_is_a_plain_url_and_https_off_loopback() {
        for (url, path) in [
            ("http://127.0.0.1:5000", Some("/")),
            ("http://localhost/base/", Some("/base")),
            ("https://api.internal", Some("/")),
            ("https://api.internal/a/b", Some("/a/b")),
            ("http://api.internal", None),
            ("https://api.internal?x", None),
            ("https://api.internal#x", None),
            ("https://u@api.internal", None),
            ("https://api.internal/a//b", None),
            ("https://api.internal/%61", None),
            ("ftp://api.internal", None),
            ("api.internal", None),
            ("", None),
        ] {
            let config = ApplicationConfig {
                routes: vec![upstream("/api", url, None)],
                ..config()
            };
            let target =
                config
                    .check()
                    .ok()
                    .and_then(|application| match &application.routes.first()?.target {
                        RouteTarget::Upstream(upstreams) => match upstreams.addresses.first()? {
                            UpstreamAddress::Url(url) => Some(url.path().to_owned()),
                            UpstreamAddress::Unix(_) => None,
                        },
                        RouteTarget::Static(_) | RouteTarget::DevServer(_) | RouteTarget::Inner => None,
                    });
            assert_eq!(target.as_deref(), path, "{url}");
        }
        let insecure = ApplicationConfig {
            routes: vec![upstream("/api", "http://api.internal", None)],
            danger_insecure_http: true,
            ..config()
        };
        assert!(insecure.check().is_ok());
    }

    #[test]
    fn a_development_server_is_on_loopback_and_so_is_the_application() {
        for (application, url, auth, at) in [
            ("http://localhost:8080", "http://localhost:5173", None, None),
            (
                "http://localhost:8080",
                "http://127.0.0.1:5173/",
                Some("none"),
                None,
            ),
            ("http://localhost:8080", "http://[::1]:5173", None, None),
            ("https://app.localhost:8443", "https://localhost:5173", None, None),
            (
                "http://localhost:8080",
                "http://localhost:5173",
                Some("required"),
                Some("auth"),
            ),
            (
                "http://localhost:8080",
                "http://localhost:5173",
                Some("optional"),
                Some("auth"),
            ),
            (
                "http://localhost:8080",
                "http://10.0.0.7:5173",
                None,
                Some("dev_server"),
            ),
            (
                "http://localhost:8080",
                "https://dev.example.com",
                None,
                Some("dev_server"),
            ),
            (
                "http://localhost:8080",
                "http://localhost:5173/base/",
                None,
                Some("dev_server"),
            ),
            (
                "http://localhost:8080",
                "http://localhost:5173?x",
                None,
                Some("dev_server"),
            ),
            (
                "http://localhost:8080",
                "http://u@localhost:5173",
                None,
                Some("dev_server"),
            ),
            (
                "http://localhost:8080",
                "localhost:5173",
                None,
                Some("dev_server"),
            ),
            ("http://localhost:8080", "", None, Some("dev_server")),
            (
                "https://shop.example.com",
                "http://localhost:5173",
                None,
                Some("dev_server"),
            ),
        ] {
            let route = RouteConfig {
                auth: auth.map(str::to_owned),
                ..dev_server("/", url)
            };
            for danger_insecure_http in [false, true] {
                let config = ApplicationConfig {
                    url: application.to_owned(),
                    routes: vec![route.clone()],
                    danger_insecure_http,
                    ..config()
                };
                let places: Vec<String> = match config.check() {
                    Ok(application) => {
                        let route = application.routes.first().expect("one route");
                        assert_eq!(route.auth, Auth::None);
                        assert!(matches!(route.target, RouteTarget::DevServer(_)));
                        Vec::new()
                    }
                    Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
                };
                let expected: Vec<String> = at.iter().map(|key| format!("routes./.{key}")).collect();
                assert_eq!(places, expected, "{application} {url} {auth:?}");
            }
        }
    }

    #[test]
    fn paths_are_in_normal_form_and_reachable() {
        for (paths, expected) in [
            (&["/api/", "/apix", "/"][..], &[][..]),
            (&["/api", "/api/"], &["routes./api/"]),
            (&["api"], &["routes.api"]),
            (&[""], &["routes."]),
            (&["/a//b"], &["routes./a//b"]),
            (&["/a/../b"], &["routes./a/../b"]),
            (&["/%61pi"], &["routes./%61pi"]),
            (&["/a;b"], &["routes./a;b"]),
            (&["/auth"], &["routes./auth"]),
            (&["/auth/x/"], &["routes./auth/x/"]),
            (&["/authx"], &[]),
            (&["/Auth"], &["routes./Auth"]),
        ] {
            let routes = paths.iter().map(|path| upstream(path, API, None)).collect();
            assert_eq!(places(routes), *expected, "{paths:?}");
        }
    }

    #[test]
    fn routes_that_a_lenient_upstream_confuses_are_a_problem() {
        let other = "http://127.0.0.1:6000";
        assert_eq!(
            places(vec![upstream("/API", API, None), upstream("/api", other, None)]),
            ["routes./API", "routes./api"]
        );
        assert_eq!(
            places(vec![
                upstream("/API", API, Some("none")),
                upstream("/api", API, None)
            ]),
            ["routes./API"]
        );
        assert!(
            places(vec![
                upstream("/userService", API, None),
                upstream("/", API, None)
            ])
            .is_empty()
        );
    }

    #[test]
    fn a_routes_values_are_checked() {
        let rows: [(&str, RouteConfig, &[&str]); 19] = [
            (
                "unknown auth",
                upstream("/a", API, Some("basic")),
                &["routes./a.auth"],
            ),
            (
                "static with auth",
                RouteConfig {
                    auth: Some("required".to_owned()),
                    ..files("/a", "d")
                },
                &["routes./a.auth"],
            ),
            (
                "static with optional",
                RouteConfig {
                    auth: Some("optional".to_owned()),
                    ..files("/a", "d")
                },
                &["routes./a.auth"],
            ),
            (
                "static with none",
                RouteConfig {
                    auth: Some("none".to_owned()),
                    ..files("/a", "d")
                },
                &[],
            ),
            ("a client's token", upstream("/a", API, Some("bearer")), &[]),
            (
                "a client's token for files",
                RouteConfig {
                    auth: Some("bearer".to_owned()),
                    ..files("/a", "d")
                },
                &["routes./a.auth"],
            ),
            (
                "a client's token and cookies",
                RouteConfig {
                    cookies: vec!["locale".to_owned()],
                    ..upstream("/a", API, Some("bearer"))
                },
                &["routes./a.cookies"],
            ),
            ("no folder", files("/a", ""), &["routes./a.static"]),
            (
                "cache",
                RouteConfig {
                    cache: Some("yes".to_owned()),
                    ..upstream("/a", API, None)
                },
                &["routes./a.cache"],
            ),
            (
                "cookie name",
                RouteConfig {
                    cookies: vec!["a b".to_owned()],
                    ..upstream("/a", API, None)
                },
                &["routes./a.cookies"],
            ),
            (
                "our cookie",
                RouteConfig {
                    cookies: vec!["__Host-Http-shop-access".to_owned()],
                    ..upstream("/a", API, None)
                },
                &["routes./a.cookies"],
            ),
            (
                "its cookie",
                RouteConfig {
                    cookies: vec!["locale".to_owned()],
                    ..upstream("/a", API, None)
                },
                &[],
            ),
            (
                "no methods",
                RouteConfig {
                    methods: Some(Vec::new()),
                    ..upstream("/a", API, None)
                },
                &["routes./a.methods"],
            ),
            (
                "lower case",
                RouteConfig {
                    methods: Some(vec!["get".to_owned()]),
                    ..upstream("/a", API, None)
                },
                &["routes./a.methods"],
            ),
            (
                "trace",
                RouteConfig {
                    methods: Some(vec!["TRACE".to_owned()]),
                    ..upstream("/a", API, None)
                },
                &["routes./a.methods"],
            ),
            (
                "connect",
                RouteConfig {
                    methods: Some(vec!["CONNECT".to_owned()]),
                    ..upstream("/a", API, None)
                },
                &["routes./a.methods"],
            ),
            (
                "body limit",
                RouteConfig {
                    body_limit: Some(0),
                    ..upstream("/a", API, None)
                },
                &["routes./a.body_limit"],
            ),
            (
                "timeout",
                RouteConfig {
                    timeout: Some(Duration::ZERO),
                    ..upstream("/a", API, None)
                },
                &["routes./a.timeout"],
            ),
            (
                "connect timeout",
                RouteConfig {
                    connect_timeout: Some(Duration::ZERO),
                    ..upstream("/a", API, None)
                },
                &["routes./a.connect_timeout"],
            ),
        ];
        for (name, route, expected) in rows {
            assert_eq!(places(vec![route]), *expected, "{name}");
        }
    }

    #[test]
    fn the_routes_demand_no_more_than_a_cookie_has_room_for() {
        let problems = |count: u64, demand: fn(u64) -> DemandsConfig| {
            let mut config = config();
            config.routes.extend((0..count).map(|number| RouteConfig {
                require: Some(demand(number)),
                ..RouteConfig::new(format!("/{number}/"), RouteTargetConfig::Inner)
            }));
            config.check().err().map_or(0, |problems| problems.len())
        };
        let acr = |number: u64| DemandsConfig {
            acr: vec![number.to_string()],
            ..DemandsConfig::default()
        };
        let lately = |number| DemandsConfig {
            acr: vec!["gold".to_owned()],
            max_age: Some(Duration::from_secs(number + 1)),
            ..DemandsConfig::default()
        };
        assert_eq!(problems(32, acr), 0);
        assert_eq!(problems(33, acr), 1);
        assert_eq!(problems(33, lately), 0, "the time takes no room");
    }

    #[test]
    fn rules_that_nobody_can_mean_are_refused() {
        let lately = |seconds| DemandsConfig {
            max_age: Some(Duration::from_secs(seconds)),
            ..DemandsConfig::default()
        };
        let claim = |name: &str, values: &[&str]| DemandsConfig {
            claims: vec![(
                name.to_owned(),
                values.iter().map(|&value| value.to_owned()).collect(),
            )],
            ..DemandsConfig::default()
        };
        let acr = |value: &str| DemandsConfig {
            acr: vec![value.to_owned()],
            ..DemandsConfig::default()
        };
        for (auth, require, good) in [
            (None, lately(60), true),
            (Some("required"), claim("role", &["a"]), true),
            (Some("optional"), lately(60), false),
            (Some("none"), lately(60), false),
            (None, DemandsConfig::default(), false),
            (None, lately(0), false),
            (None, claim("role", &[]), false),
            (None, claim("", &["a"]), false),
            (None, acr("two words"), false),
            (None, acr(""), false),
            (None, acr("a\"b"), false),
        ] {
            let mut config = config();
            config.routes.push(RouteConfig {
                require: Some(require.clone()),
                ..upstream("/strict/", "http://127.0.0.1:5000", auth)
            });
            assert_eq!(config.check().is_ok(), good, "{auth:?} {require:?}");
        }
    }
}
