//! From a request's host and path to an application and to an endpoint or a route.
//!
//! A path becomes a [`NormalPath`] once or the request is refused: route, guard and upstream all
//! see that one form. The application is found by `Host` (RFC 9110 §7.2, §7.4). This file never
//! looks at a query to decide anything and never falls back to a default application or route.

use std::borrow::Cow;
use std::sync::Arc;

use http::{Method, header};

use crate::config::{Application, Auth, Provider, ProviderName, ResponseMode, Route, RouteTarget};
use crate::error::Error;
use crate::head::{Head, Headers, Single};
use crate::session::metadata::PublicSessionId;

mod path;

pub use path::{NormalPath, RoutePrefix, Target};
use path::{below, is_plain, skeleton};

/// An endpoint of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST login/start`: the SPA asks for an authorization URL.
    LoginStart,
    /// `POST login/end`: the SPA hands over the authorization response.
    LoginEnd,
    /// `GET session`: who is signed in.
    Session,
    /// `POST refresh`: new tokens.
    Refresh,
    /// `POST logout`: the session ends.
    Logout,
    /// `GET login`: sign-in by navigation.
    Login,
    /// `GET callback`: the provider returns.
    Callback,
    /// `GET logout/continue`: on to the provider's end-session endpoint.
    LogoutContinue,
    /// `GET logout/callback`: the provider returns after sign-out.
    LogoutCallback,
    /// `GET sessions`: the user's sessions.
    Sessions,
    /// `DELETE sessions/{id}`: one of them ends; see [`named_session`].
    SessionEnd,
    /// `POST backchannel-logout`: the provider says that sessions have ended.
    BackchannelLogout,
    /// `GET frontchannel-logout`: the same by a frame in the user's browser.
    FrontchannelLogout,
    /// `GET user`: who is signed in, as clients of Duende BFF read it.
    User,
    /// `GET logout?sid=…`: sign-out by a link that names its session, for the same clients.
    LogoutLink,
    /// `POST callback`: the provider's page posts its answer.
    FormPost,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub enum Resolved<'a> {
    /// To the agent.
    Agent(Endpoint),
    /// To a route of the proxy.
    Proxy {
        /// The route's position in [`Application::routes`].
        index: usize,
        /// The route.
        route: &'a Route,
    },
}

/// Finds the application that a request is for, by its `Host` or `:authority`.
///
/// # Errors
/// [`Error::Misdirected`] when the host is missing, unknown or contradicts the target,
/// [`Error::InvalidRequest`] when there are several (RFC 9112 §3.2).
pub fn find_application<'a>(
    applications: impl IntoIterator<Item = &'a Application>,
    head: &Head<'_, impl Headers>,
) -> Result<&'a Application, Error> {
    let host = match (head.single(&header::HOST), head.authority) {
        (Single::Ambiguous, _) => {
            return Err(Error::InvalidRequest("exactly one `Host` header was expected"));
        }
        (Single::Absent, None) => return Err(Error::Misdirected("there is no Host header")),
        (Single::Absent, Some(authority)) => authority,
        (Single::Value(host), _) => host,
    };
    let application = applications
        .into_iter()
        .find(|application| host_matches(application, host))
        .ok_or(Error::Misdirected("no application has this host"))?;
    match head.authority {
        Some(authority) if !same_host(application, authority, host) => Err(Error::Misdirected(
            "the Host header differs from the request target's authority",
        )),
        _ => Ok(application),
    }
}

/// Whether a `Host` value means this application: case and the scheme's default port do not
/// matter, a trailing dot does.
pub fn host_matches(application: &Application, host: &str) -> bool {
    application
        .hosts
        .iter()
        .any(|known| same_host(application, known, host))
}

/// Where a request goes; the method is checked as well.
///
/// # Errors
/// [`Error::NotFound`] when nothing is there, [`Error::MethodNotAllowed`], and
/// [`Error::InvalidRequest`] when a lenient upstream could read the path as another route's.
pub fn resolve<'a>(
    application: &'a Application,
    method: &Method,
    path: &NormalPath<'_>,
) -> Result<Resolved<'a>, Error> {
    let resolved = locate(application, path)?;
    if resolved.takes(method) {
        return Ok(resolved);
    }
    // with `compatibility` two endpoints are at one path
    let mut allow = resolved.methods();
    if let Resolved::Agent(first) = resolved {
        for other in endpoints_at(application, path).filter(|endpoint| *endpoint != first) {
            if other.method() == *method {
                return Ok(Resolved::Agent(other));
            }
            allow.push(other.method());
        }
    }
    Err(Error::MethodNotAllowed { allow })
}

/// Where a path leads, whatever the method (a CORS preflight asks before it sends).
///
/// # Errors
/// As [`resolve`], but for the method.
pub(crate) fn locate<'a>(application: &'a Application, path: &NormalPath<'_>) -> Result<Resolved<'a>, Error> {
    if below(path.as_str(), &application.base_path).is_some() {
        return endpoints_at(application, path)
            .next()
            .map(Resolved::Agent)
            .ok_or(Error::NotFound);
    }
    let (index, route) = matching(&application.routes, path).ok_or(Error::NotFound)?;
    if has_other_reading(&application.base_path, &application.routes, index, path) {
        return Err(Error::InvalidRequest(
            "the path can be read as another route's; write it plainly",
        ));
    }
    Ok(Resolved::Proxy { index, route })
}

/// The endpoints that are served at a path.
fn endpoints_at<'a>(
    application: &'a Application,
    path: &'a NormalPath<'_>,
) -> impl Iterator<Item = Endpoint> + 'a {
    let rest = below(path.as_str(), &application.base_path).and_then(|rest| rest.strip_prefix('/'));
    Endpoint::ALL.into_iter().filter(move |endpoint| {
        rest.is_some_and(|rest| endpoint.is_at(rest, application)) && endpoint.is_served_by(application)
    })
}

/// Which session a path of [`Endpoint::SessionEnd`] names.
pub fn named_session(application: &Application, path: &NormalPath<'_>) -> Option<PublicSessionId> {
    let rest = below(path.as_str(), &application.base_path)?.strip_prefix('/')?;
    PublicSessionId::parse(rest.strip_prefix(SESSIONS_BELOW)?)
}

/// Which of several providers the path of an endpoint names.
pub fn named_provider(
    application: &Application,
    endpoint: Endpoint,
    path: &NormalPath<'_>,
) -> Option<ProviderName> {
    if !application.names_providers() {
        return None;
    }
    let rest = below(path.as_str(), &application.base_path)?.strip_prefix('/')?;
    endpoint.provider_at(rest, application)?.name.clone()
}

/// Whether a path on the agent's origin can be a page of the SPA: not the agent's, and not an
/// API's. The route that serves `home` (the SPA's own address) is never taken for an API.
pub(crate) fn is_page(
    base_path: &str,
    routes: &[Route],
    home: &NormalPath<'_>,
    path: &NormalPath<'_>,
) -> bool {
    if below(path.as_str(), base_path).is_some() {
        return false;
    }
    match matching(routes, path) {
        None => true,
        Some((_, route)) if has_pages(route) => true,
        Some((index, _)) => {
            matching(routes, home).is_some_and(|(own, _)| own == index)
                && !has_other_reading(base_path, routes, index, path)
        }
    }
}

/// Whether an upstream that is more lenient than we are (drops path parameters and trailing dots,
/// ignores case, decodes once more) could read a path as belonging to a rule that is stricter than
/// the matched route's, or to another target. Static files are read by us, never leniently; a
/// development server gets nothing that a lenient reading could misuse.
pub(crate) fn has_other_reading(
    base_path: &str,
    routes: &[Route],
    matched: usize,
    path: &NormalPath<'_>,
) -> bool {
    let Some(route) = routes.get(matched) else {
        return true;
    };
    if has_pages(route) {
        return false;
    }
    let reading = skeleton(path.as_str());
    // A plain path among plain prefixes is read by everybody as it is written.
    if matches!(reading, Cow::Borrowed(_))
        && is_plain(base_path)
        && routes.iter().all(|route| route.prefix.is_plain())
    {
        return false;
    }
    let read_as =
        |other: &str| other.len() >= route.prefix.skeleton.len() && below(&reading, other).is_some();
    let agent = below(path.as_str(), base_path).is_none() && read_as(&skeleton(base_path));
    agent
        || routes.iter().enumerate().any(|(index, other)| {
            index != matched
                && read_as(&other.prefix.skeleton)
                && !other.prefix.matches(path)
                && !covers(route, other)
        })
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 16] = [
        Self::LoginStart,
        Self::LoginEnd,
        Self::Session,
        Self::Refresh,
        Self::Logout,
        Self::Login,
        Self::Callback,
        Self::LogoutContinue,
        Self::LogoutCallback,
        Self::Sessions,
        Self::SessionEnd,
        Self::BackchannelLogout,
        Self::FrontchannelLogout,
        Self::User,
        Self::LogoutLink,
        Self::FormPost,
    ];

    /// Its path below the agent's base path, without a leading slash; what differs from call to call
    /// is in braces.
    pub const fn path(self) -> &'static str {
        match self {
            Self::LoginStart => "login/start",
            Self::LoginEnd => "login/end",
            Self::Session => "session",
            Self::Refresh => "refresh",
            Self::Logout => "logout",
            Self::Login => "login",
            Self::Callback | Self::FormPost => "callback",
            Self::LogoutContinue => "logout/continue",
            Self::LogoutCallback => "logout/callback",
            Self::Sessions => "sessions",
            Self::SessionEnd => "sessions/{id}",
            Self::BackchannelLogout => "backchannel-logout",
            Self::FrontchannelLogout => "frontchannel-logout",
            Self::User => "user",
            Self::LogoutLink => "logout?sid={sid}",
        }
    }

    /// What tells it from the others in a metric: its path, and the way it is called where that is not
    /// enough.
    pub const fn label(self) -> &'static str {
        match self {
            Self::FormPost => "callback (form_post)",
            other => other.path(),
        }
    }

    /// Whether it is there at all: what needs a list of sessions, or a memory of ended ones, is
    /// where a store has it, and what other libraries' clients call is where the application says so.
    pub fn is_served_by(self, application: &Application) -> bool {
        let storage = &application.session.storage;
        match self {
            Self::LoginStart
            | Self::LoginEnd
            | Self::Session
            | Self::Refresh
            | Self::Logout
            | Self::Login
            | Self::Callback
            | Self::LogoutContinue
            | Self::LogoutCallback => true,
            Self::Sessions | Self::SessionEnd => storage.is_stateful(),
            Self::BackchannelLogout | Self::FrontchannelLogout => storage.settings().is_some(),
            Self::User | Self::LogoutLink => application.compatibility.is_some(),
            Self::FormPost => application.providers.iter().any(|provider| takes_forms(provider)),
        }
    }

    fn is_at(self, rest: &str, application: &Application) -> bool {
        match self {
            Self::SessionEnd => rest
                .strip_prefix(SESSIONS_BELOW)
                .is_some_and(|id| PublicSessionId::parse(id).is_some()),
            Self::LogoutLink => rest == Self::Logout.path(),
            _ if self.is_of_one_provider() && application.names_providers() => {
                let provider = self.provider_at(rest, application);
                provider.is_some_and(|provider| self != Self::FormPost || takes_forms(provider))
            }
            Self::BackchannelLogout => {
                rest == self.path() || (application.compatibility.is_some() && rest == DUENDE_BACKCHANNEL)
            }
            _ => rest == self.path(),
        }
    }

    /// Whether each of several providers has a path of its own for it.
    pub const fn is_of_one_provider(self) -> bool {
        matches!(
            self,
            Self::Callback | Self::FormPost | Self::BackchannelLogout | Self::FrontchannelLogout
        )
    }

    /// Which of several providers calls, or sends the browser, here: each has a path of its own behind
    /// that of the endpoint.
    fn provider_at<'a>(self, rest: &str, application: &'a Application) -> Option<&'a Arc<Provider>> {
        let alias = match self {
            Self::BackchannelLogout => application.compatibility.map(|_| DUENDE_BACKCHANNEL),
            _ => None,
        };
        let below = |path: &str| rest.strip_prefix(path)?.strip_prefix('/');
        let name = below(self.path()).or_else(|| below(alias?))?;
        application.provider_named(name)
    }

    /// The one method it takes. `HEAD` is refused: these answers change state or are personal.
    pub const fn method(self) -> Method {
        match self {
            Self::LoginStart
            | Self::LoginEnd
            | Self::Refresh
            | Self::Logout
            | Self::BackchannelLogout
            | Self::FormPost => Method::POST,
            Self::Session
            | Self::Login
            | Self::Callback
            | Self::LogoutContinue
            | Self::LogoutCallback
            | Self::Sessions
            | Self::FrontchannelLogout
            | Self::User
            | Self::LogoutLink => Method::GET,
            Self::SessionEnd => Method::DELETE,
        }
    }
}

impl Resolved<'_> {
    /// Whether it takes a method. A `CONNECT` counts as the `GET` of a WebSocket (RFC 8441); the
    /// guard refuses any other.
    pub fn takes(&self, method: &Method) -> bool {
        match self {
            Self::Agent(endpoint) => endpoint.method() == *method,
            Self::Proxy { route, .. } => {
                let method = if *method == Method::CONNECT {
                    &Method::GET
                } else {
                    method
                };
                match &route.methods {
                    Some(methods) => methods.contains(method),
                    None => !matches!(method.as_str(), "TRACE" | "TRACK"),
                }
            }
        }
    }

    /// The methods it takes, for `Allow`.
    pub fn methods(&self) -> Vec<Method> {
        match self {
            Self::Agent(endpoint) => vec![endpoint.method()],
            Self::Proxy { route, .. } => route.methods.clone().unwrap_or_else(|| USUAL_METHODS.to_vec()),
        }
    }
}

impl Route {
    /// The path and query as the route's target sees them: the normal path with or without the
    /// prefix, the query as received. A base path of the target goes in front.
    pub fn forwarded_target(&self, target: &Target<'_>) -> String {
        let path = self.forwarded_path(&target.path);
        match target.query {
            None => path.to_owned(),
            Some(query) => [path, "?", query].concat(),
        }
    }

    /// The path as the route's target sees it.
    pub fn forwarded_path<'p>(&self, path: &'p NormalPath<'_>) -> &'p str {
        if self.strip_prefix {
            self.prefix.strip(path)
        } else {
            path.as_str()
        }
    }
}

/// Whether a route serves the SPA's own files, built or in development.
fn has_pages(route: &Route) -> bool {
    match route.target {
        RouteTarget::Static(_) | RouteTarget::DevServer(_) => true,
        RouteTarget::Upstream(_) | RouteTarget::Inner => false,
    }
}

/// Whether a provider's page posts its answer.
fn takes_forms(provider: &Provider) -> bool {
    provider.authorization.response_mode == ResponseMode::FormPost
}

fn matching<'a>(routes: &'a [Route], path: &NormalPath<'_>) -> Option<(usize, &'a Route)> {
    routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.prefix.matches(path))
        .max_by_key(|(_, route)| route.prefix.path.len())
}

/// Whether a request that passed `route`'s rule would pass `other`'s too, at the same target.
fn covers(route: &Route, other: &Route) -> bool {
    let as_strict = match (route.auth, other.auth) {
        (_, Auth::None)
        | (Auth::Required | Auth::Optional, Auth::Optional)
        | (Auth::Required, Auth::Required)
        | (Auth::Bearer, Auth::Bearer) => true,
        // neither a session nor a client's own token stands in for the other
        (Auth::None, Auth::Optional | Auth::Required | Auth::Bearer)
        | (Auth::Optional, Auth::Required | Auth::Bearer)
        | (Auth::Required, Auth::Bearer)
        | (Auth::Bearer, Auth::Optional | Auth::Required) => false,
    };
    let methods = match (&route.methods, &other.methods) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(ours), Some(theirs)) => ours.iter().all(|method| theirs.contains(method)),
    };
    let demands = match (&route.demands, &other.demands) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(ours), Some(theirs)) => ours.cover(theirs),
    };
    // whose token it is, not in which cookie: neither of two is good in the other's place
    let api = |route: &Route| route.token.map(|token| token.api);
    route.target == other.target
        && demands
        && api(route) == api(other)
        && route.client_grant == other.client_grant
        && route.introspection == other.introspection
        && route.strip_prefix == other.strip_prefix
        && as_strict
        && methods
        && (other.resources || !route.resources)
        && (other.cache_public || !route.cache_public)
        && route.cookies.iter().all(|name| other.cookies.contains(name))
}

/// Two hosts are the same when only case and the default port of the application's scheme differ.
fn same_host(application: &Application, one: &str, other: &str) -> bool {
    if one == other && !one.is_empty() {
        return true;
    }
    let default_port = if application.url.as_str().starts_with("https:") {
        ":443"
    } else {
        ":80"
    };
    let bare = |host: &str| -> usize { host.strip_suffix(default_port).map_or(host.len(), str::len) };
    match (one.get(..bare(one)), other.get(..bare(other))) {
        (Some(one), Some(other)) => !one.is_empty() && one.eq_ignore_ascii_case(other),
        _ => false,
    }
}

/// Where Duende BFF takes logout tokens, and its operators registered it.
const DUENDE_BACKCHANNEL: &str = "backchannel";

/// In front of the id of [`Endpoint::SessionEnd`].
const SESSIONS_BELOW: &str = "sessions/";

/// What a route without `methods` takes, as told in `Allow`; in fact it takes all but `TRACE`.
const USUAL_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assurance::DemandsConfig;
    use crate::config::TokenConfig;
    use crate::config::testing::{checked, config, files, upstream};
    use crate::config::{ApplicationConfig, RouteConfig, SessionStorage, StoreKind, StoreSettings};
    use crate::secret::Secret;
    use http::HeaderMap;
    use std::time::Duration;

    const A: &str = "http://127.0.0.1:5000";
    const B: &str = "http://127.0.0.1:6000";

    fn application(routes: Vec<RouteConfig>) -> Application {
        checked(ApplicationConfig { routes, ..config() })
    }

    fn mixed() -> Application {
        application(vec![
            upstream("/api/", A, None),
            upstream("/api/public/", A, Some("none")),
            upstream("/api/maybe/", A, Some("optional")),
            upstream("/other/", B, Some("none")),
            files("/files/", "./files"),
            upstream("/", A, Some("none")),
        ])
    }

    fn name(resolved: Result<Resolved<'_>, Error>) -> String {
        match resolved {
            Ok(Resolved::Agent(endpoint)) => format!("agent {}", endpoint.path()),
            Ok(Resolved::Proxy { route, .. }) => format!("route {}", route.prefix.as_str()),
            Err(error) => error.answer().code.to_owned(),
        }
    }

    #[test]
    fn what_needs_a_store_is_there_where_the_store_has_it() {
        let store = || {
            Box::new(StoreSettings {
                kind: StoreKind::Memory,
                url: Secret::new("memory"),
                ca: None,
                prefix: String::new(),
                timeout: Duration::from_secs(2),
            })
        };
        let named = "/auth/sessions/AAAAAAAAAAA";
        let calls = [
            ("POST", "/auth/backchannel-logout", "agent backchannel-logout"),
            ("GET", "/auth/frontchannel-logout", "agent frontchannel-logout"),
            ("GET", "/auth/sessions", "agent sessions"),
            ("DELETE", named, "agent sessions/{id}"),
            // the wrong method shows as little as the right one
            ("GET", "/auth/backchannel-logout", "method_not_allowed"),
            ("POST", "/auth/frontchannel-logout", "method_not_allowed"),
            ("HEAD", "/auth/frontchannel-logout", "method_not_allowed"),
            ("DELETE", "/auth/sessions", "method_not_allowed"),
            ("GET", named, "method_not_allowed"),
        ];
        for (storage, there) in [
            (SessionStorage::Cookie, [false, false]),
            (SessionStorage::CookieWithRevocations(store()), [true, false]),
            (SessionStorage::Store(store()), [true, true]),
        ] {
            let mut application = mixed();
            application.session.storage = storage;
            for (method, path, expected) in calls {
                let served = if path.contains("sessions") {
                    there[1]
                } else {
                    there[0]
                };
                let normal = NormalPath::parse(path).expect(path);
                let method: Method = method.parse().expect("a method");
                let expected = if served { expected } else { "not_found" };
                assert_eq!(
                    name(resolve(&application, &method, &normal)),
                    expected,
                    "{method} {path}"
                );
            }
        }
    }

    #[test]
    fn a_session_to_end_is_named_by_eleven_characters() {
        let mut application = mixed();
        application.session.storage = SessionStorage::Store(Box::new(StoreSettings {
            kind: StoreKind::Memory,
            url: Secret::new("memory"),
            ca: None,
            prefix: String::new(),
            timeout: Duration::from_secs(2),
        }));
        let id = PublicSessionId::of(crate::session::SessionId([5; 16]));
        for (path, named) in [
            (format!("/auth/sessions/{id}"), Some(id)),
            ("/auth/sessions/".to_owned(), None),
            ("/auth/sessions/AAAAAAAAAA".to_owned(), None),
            ("/auth/sessions/AAAAAAAAAAAA".to_owned(), None),
            ("/auth/sessions/AAAAAAAAAA+".to_owned(), None),
            ("/auth/sessions/AAAAAAAAAAB".to_owned(), None),
            ("/auth/sessions/{id}".to_owned(), None),
            (format!("/auth/sessions/{id}/x"), None),
            (format!("/sessions/{id}"), None),
        ] {
            let Ok(normal) = NormalPath::parse(&path) else {
                assert_eq!(named, None, "{path}");
                continue;
            };
            assert_eq!(named_session(&application, &normal), named, "{path}");
            let resolved = resolve(&application, &Method::DELETE, &normal);
            let is_agents = matches!(resolved, Ok(Resolved::Agent(Endpoint::SessionEnd)));
            assert_eq!(is_agents, named.is_some(), "{path}");
        }
    }

    #[test]
    fn requests_resolve_to_endpoints_and_longest_routes() {
        let application = mixed();
        for (method, path, expected) in [
            ("GET", "/auth/session", "agent session"),
            ("GET", "/%61uth/sess%69on", "agent session"),
            ("POST", "/auth/login/start", "agent login/start"),
            ("POST", "/auth/login/end", "agent login/end"),
            ("POST", "/auth/refresh", "agent refresh"),
            ("POST", "/auth/logout", "agent logout"),
            ("GET", "/auth/login", "agent login"),
            ("GET", "/auth/callback", "agent callback"),
            ("GET", "/auth/logout/continue", "agent logout/continue"),
            ("GET", "/auth/logout/callback", "agent logout/callback"),
            ("POST", "/auth/session", "method_not_allowed"),
            ("HEAD", "/auth/session", "method_not_allowed"),
            ("GET", "/auth/logout", "method_not_allowed"),
            ("OPTIONS", "/auth/logout", "method_not_allowed"),
            ("CONNECT", "/auth/session", "method_not_allowed"),
            ("GET", "/auth", "not_found"),
            ("GET", "/auth/", "not_found"),
            ("GET", "/auth/session/", "not_found"),
            ("GET", "/auth/sessionx", "not_found"),
            ("GET", "/auth/index.html", "not_found"),
            ("GET", "/authx", "route /"),
            ("GET", "/api", "route /api"),
            ("PROPFIND", "/api/x", "route /api"),
            ("CONNECT", "/api/x", "route /api"),
            ("TRACE", "/api/x", "method_not_allowed"),
            ("TRACK", "/api/x", "method_not_allowed"),
            ("GET", "/apix", "route /"),
            ("GET", "/api/public", "route /api/public"),
            ("GET", "/api/publicity", "route /api"),
            ("GET", "/files/a", "route /files"),
        ] {
            let path = NormalPath::parse(path).expect(path);
            let method = method.parse().expect("a method");
            assert_eq!(
                name(resolve(&application, &method, &path)),
                expected,
                "{method} {path:?}"
            );
        }
    }

    #[test]
    fn the_endpoints_of_another_library_are_there_where_compatibility_says_so() {
        let with = |compatibility: Option<&str>| {
            let mut application = checked(ApplicationConfig {
                compatibility: compatibility.map(str::to_owned),
                base_path: Some("/bff".to_owned()),
                ..config()
            });
            application.session.storage = SessionStorage::Store(Box::new(StoreSettings {
                kind: StoreKind::Memory,
                url: Secret::new("memory"),
                ca: None,
                prefix: String::new(),
                timeout: Duration::from_secs(2),
            }));
            application
        };
        let (own, duende) = (with(None), with(Some("duende")));
        for (method, path, expected, with_duende) in [
            ("GET", "/bff/user", "not_found", "agent user"),
            ("POST", "/bff/user", "not_found", "method_not_allowed"),
            ("HEAD", "/bff/user", "not_found", "method_not_allowed"),
            ("POST", "/bff/logout", "agent logout", "agent logout"),
            (
                "GET",
                "/bff/logout",
                "method_not_allowed",
                "agent logout?sid={sid}",
            ),
            ("HEAD", "/bff/logout", "method_not_allowed", "method_not_allowed"),
            ("GET", "/bff/login", "agent login", "agent login"),
            (
                "POST",
                "/bff/backchannel",
                "not_found",
                "agent backchannel-logout",
            ),
            ("GET", "/bff/backchannel", "not_found", "method_not_allowed"),
            (
                "POST",
                "/bff/backchannel-logout",
                "agent backchannel-logout",
                "agent backchannel-logout",
            ),
            ("GET", "/bff/session", "agent session", "agent session"),
            ("POST", "/bff/refresh", "agent refresh", "agent refresh"),
            ("GET", "/bff/silent-login", "not_found", "not_found"),
            ("GET", "/bff/silent-login-callback", "not_found", "not_found"),
            ("GET", "/bff/diagnostics", "not_found", "not_found"),
            ("GET", "/bff/logout%3fsid=%7bsid%7d", "not_found", "not_found"),
            ("GET", "/user", "route /", "route /"),
        ] {
            let path = NormalPath::parse(path).expect(path);
            let method = method.parse().expect("a method");
            assert_eq!(name(resolve(&own, &method, &path)), expected, "{method} {path:?}");
            assert_eq!(
                name(resolve(&duende, &method, &path)),
                with_duende,
                "{method} {path:?}"
            );
        }
        let path = NormalPath::parse("/bff/logout").expect("a path");
        assert_eq!(
            resolve(&duende, &Method::PUT, &path).err(),
            Some(Error::MethodNotAllowed {
                allow: vec![Method::POST, Method::GET]
            })
        );
    }

    #[test]
    fn a_route_says_which_methods_it_takes() {
        let application = application(vec![RouteConfig {
            methods: Some(vec!["GET".to_owned(), "POST".to_owned()]),
            ..upstream("/api", A, None)
        }]);
        let path = NormalPath::parse("/api/x").expect("a path");
        assert!(resolve(&application, &Method::GET, &path).is_ok());
        assert!(resolve(&application, &Method::CONNECT, &path).is_ok());
        assert_eq!(
            resolve(&application, &Method::DELETE, &path).err(),
            Some(Error::MethodNotAllowed {
                allow: vec![Method::GET, Method::POST]
            })
        );
        let elsewhere = NormalPath::parse("/x").expect("a path");
        assert_eq!(
            resolve(&application, &Method::GET, &elsewhere).err(),
            Some(Error::NotFound)
        );
    }

    #[test]
    fn a_path_that_a_lenient_upstream_reads_as_a_stricter_route_is_refused() {
        let application = mixed();
        for (path, expected) in [
            ("/API/x", "invalid_request"),
            ("/api;v=1/x", "invalid_request"),
            ("/api%3bv/x", "invalid_request"),
            ("/api./x", "invalid_request"),
            ("/api%20/x", "invalid_request"),
            ("/%2561pi/x", "invalid_request"),
            ("/;a/api/x", "invalid_request"),
            ("/Auth/session", "invalid_request"),
            ("/auth;x/session", "invalid_request"),
            ("/FILES/x", "invalid_request"),
            ("/api/Maybe/x", "route /api"),
            ("/api/PUBLIC/x", "route /api"),
            ("/api/public;v/x", "route /api"),
            ("/api/public/API/x", "route /api/public"),
            ("/api/X;y/z.", "route /api"),
            ("/files/API;x", "route /files"),
            ("/x;y/Z.", "route /"),
        ] {
            let path = NormalPath::parse(path).expect(path);
            assert_eq!(
                name(resolve(&application, &Method::GET, &path)),
                expected,
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_lenient_reading_cannot_dodge_a_routes_other_rules() {
        let strict: [(&str, RouteConfig); 6] = [
            (
                "require",
                RouteConfig {
                    require: Some(DemandsConfig {
                        acr: vec!["gold".to_owned()],
                        ..DemandsConfig::default()
                    }),
                    ..upstream("/api/x", A, None)
                },
            ),
            (
                "token",
                RouteConfig {
                    token: Some(TokenConfig {
                        audience: Some("x".to_owned()),
                        ..TokenConfig::default()
                    }),
                    ..upstream("/api/x", A, None)
                },
            ),
            (
                "methods",
                RouteConfig {
                    methods: Some(vec!["POST".to_owned()]),
                    ..upstream("/api/x", A, None)
                },
            ),
            ("target", upstream("/api/x", B, None)),
            (
                "prefix",
                RouteConfig {
                    strip_prefix: true,
                    ..upstream("/api/x", A, None)
                },
            ),
            ("auth", upstream("/api/x", A, Some("required"))),
        ];
        for (rule, strict) in strict {
            let wide = if rule == "auth" { Some("optional") } else { None };
            let application = application(vec![upstream("/api", A, wide), strict]);
            let path = NormalPath::parse("/api/X/y").expect("a path");
            assert_eq!(
                name(resolve(&application, &Method::GET, &path)),
                "invalid_request",
                "{rule}"
            );
        }
        // the other way round: a token for one API at a path that gets the session's own, and the same
        // token or demand on both
        let token = |path: &str, audience: &str| RouteConfig {
            token: Some(TokenConfig {
                audience: Some(audience.to_owned()),
                ..TokenConfig::default()
            }),
            ..upstream(path, A, None)
        };
        let demanding = |path: &str, seconds| RouteConfig {
            require: Some(DemandsConfig {
                max_age: Some(Duration::from_secs(seconds)),
                ..DemandsConfig::default()
            }),
            ..upstream(path, A, None)
        };
        for (routes, expected) in [
            (
                vec![token("/api", "a"), upstream("/api/x", A, None)],
                "invalid_request",
            ),
            (vec![token("/api", "a"), token("/api/x", "a")], "route /api"),
            (vec![demanding("/api", 60), demanding("/api/x", 60)], "route /api"),
            (
                vec![demanding("/api", 61), demanding("/api/x", 60)],
                "invalid_request",
            ),
            (
                vec![demanding("/api", 60), upstream("/api/x", A, None)],
                "route /api",
            ),
        ] {
            let application = application(routes);
            let path = NormalPath::parse("/api/X/y").expect("a path");
            assert_eq!(name(resolve(&application, &Method::GET, &path)), expected);
        }
        let loose = RouteConfig {
            resources: true,
            cache: Some("public".to_owned()),
            cookies: vec!["locale".to_owned()],
            ..upstream("/api", A, None)
        };
        let application = application(vec![loose, upstream("/api/x", A, None)]);
        let path = NormalPath::parse("/api/X/y").expect("a path");
        assert_eq!(
            name(resolve(&application, &Method::GET, &path)),
            "invalid_request"
        );
    }

    /// Every path that is let through, read again by every combination of lenient readings, belongs
    /// to the same route or to one that is not stricter, at the same target.
    #[test]
    fn no_reading_of_an_accepted_path_leads_past_a_rule() {
        let application = mixed();
        let rank = |auth| match auth {
            Auth::None => 0,
            Auth::Optional => 1,
            Auth::Required | Auth::Bearer => 2,
        };
        let mut accepted = 0_u32;
        for path in generated_paths() {
            let Ok(normal) = NormalPath::parse(&path) else {
                continue;
            };
            let Ok(Resolved::Proxy { route, .. }) = locate(&application, &normal) else {
                continue;
            };
            accepted = accepted.saturating_add(1);
            if matches!(route.target, RouteTarget::Static(_)) {
                continue;
            }
            for choice in 0_u8..64 {
                let read = lenient(normal.as_str(), choice);
                assert!(
                    !(read == "/auth" || read.starts_with("/auth/")),
                    "{path} reads as the agent's {read}"
                );
                let other = application
                    .routes
                    .iter()
                    .filter(|route| {
                        let prefix = route.prefix.as_str();
                        prefix == "/" || read == prefix || read.starts_with(&format!("{prefix}/"))
                    })
                    .max_by_key(|route| route.prefix.as_str().len())
                    .expect("the root route takes everything");
                assert!(
                    other.prefix == route.prefix
                        || (other.target == route.target && rank(other.auth) <= rank(route.auth)),
                    "{path} was matched as {} and reads as {read}",
                    route.prefix.as_str()
                );
            }
        }
        assert!(accepted > 5_000, "only {accepted} paths were accepted");
    }

    fn generated_paths() -> impl Iterator<Item = String> {
        const ATOMS: [&str; 42] = [
            "api",
            "API",
            "%61pi",
            "%41pi",
            "%2561pi",
            "%2541pi",
            "%252541pi",
            "api;x",
            "api%3bx",
            "api%253Bx",
            "api.",
            "api%2e",
            "api%20",
            "api%20.",
            "api%2520",
            "public",
            "Public;",
            "publi%63.",
            "maybe",
            "MAYBE",
            "auth",
            "Auth;x",
            "a%75th.",
            "files",
            "FILES",
            "other",
            "Other.",
            "x",
            "",
            ";x",
            "..",
            "%2e%2e",
            "%252e%252e",
            "..;",
            "..%3b",
            "%2f",
            "..%5c",
            "%252f",
            "%c0%ae%c0%ae",
            "a%00",
            "%20",
            "%ef%bc%8e",
        ];
        ATOMS.iter().flat_map(|first| {
            ATOMS.iter().flat_map(move |second| {
                ATOMS
                    .iter()
                    .map(move |third| format!("/{first}/{second}/{third}"))
            })
        })
    }

    /// What a server makes of a path that reads as `choice` says: each bit one leniency.
    fn lenient(path: &str, choice: u8) -> String {
        let on = |bit: u8| choice & (1 << bit) != 0;
        let decode = |text: &str| {
            url::form_urlencoded::parse(
                format!("k={}", text.replace('+', "%2B").replace('&', "%26")).as_bytes(),
            )
            .next()
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
        };
        let mut text = decode(path);
        if on(0) {
            text = decode(&text);
        }
        if on(1) {
            text = decode(&decode(&text));
        }
        text = text.replace('\\', "/");
        let mut segments: Vec<String> = Vec::new();
        for segment in text.split('/') {
            let mut segment = segment.to_owned();
            if on(2) {
                segment.truncate(segment.find(';').unwrap_or(segment.len()));
            }
            if on(3) {
                segment.truncate(segment.trim_end_matches('.').len());
            }
            if on(4) {
                segment.truncate(segment.trim_end_matches(['.', ' ']).len());
            }
            if on(5) {
                segment.make_ascii_lowercase();
            }
            match segment.as_str() {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                _ => segments.push(segment),
            }
        }
        format!("/{}", segments.join("/"))
    }

    #[test]
    fn the_forwarded_target_keeps_the_query_and_drops_the_prefix_where_it_says_so() {
        for (url, strip, target, expected) in [
            ("http://127.0.0.1:5000", false, "/api/x?y=/..", "/api/x?y=/.."),
            ("http://127.0.0.1:5000", true, "/api/x", "/x"),
            ("http://127.0.0.1:5000/", true, "/api", "/"),
            ("http://127.0.0.1:5000/v1/", true, "/api/x/", "/x/"),
            ("http://127.0.0.1:5000/v1", false, "/%61pi?", "/api?"),
        ] {
            let application = application(vec![RouteConfig {
                strip_prefix: strip,
                ..upstream("/api/", url, None)
            }]);
            let route = application.routes.first().expect("one route");
            let target = Target::parse(target).expect("a target");
            assert_eq!(route.forwarded_target(&target), expected);
        }
    }

    #[test]
    fn several_hosts_are_refused_even_if_they_agree() {
        let applications = [checked(config())];
        for hosts in [
            &["shop.example.com", "shop.example.com"][..],
            &["shop.example.com", "evil.example"],
            &["evil.example", "shop.example.com"],
            &["shop.example.com", ""],
            &["shop.ex\u{e4}mple.com"],
        ] {
            for authority in [None, Some("shop.example.com")] {
                let mut headers = HeaderMap::new();
                for host in hosts {
                    let host = header::HeaderValue::from_bytes(host.as_bytes()).expect("a value");
                    headers.append(header::HOST, host);
                }
                let head = Head {
                    method: &Method::GET,
                    target: "/",
                    authority,
                    protocol: None,
                    headers: &headers,
                };
                let found = find_application(&applications, &head);
                assert!(matches!(found, Err(Error::InvalidRequest(_))), "{hosts:?}");
            }
        }
    }

    #[test]
    fn an_application_is_found_by_its_host_only() {
        let shop = checked(ApplicationConfig {
            hosts: vec!["Shop.Internal:8080".to_owned()],
            ..config()
        });
        let blog = checked(ApplicationConfig {
            id: "blog".to_owned(),
            url: "http://localhost:3000".to_owned(),
            ..config()
        });
        let applications = [shop, blog];
        for (hosts, authority, expected) in [
            (&["shop.example.com"][..], None, Some("shop")),
            (&["SHOP.example.COM"], None, Some("shop")),
            (&["shop.example.com:443"], None, Some("shop")),
            (&["shop.internal:8080"], None, Some("shop")),
            (&["localhost:3000"], None, Some("blog")),
            (&[], Some("shop.example.com"), Some("shop")),
            (&["shop.example.com"], Some("Shop.Example.com:443"), Some("shop")),
            (&["shop.example.com:80"], None, None),
            (&["shop.example.com:8443"], None, None),
            (&["shop.example.com."], None, None),
            (&["shop.example.com:"], None, None),
            (&["evil-shop.example.com"], None, None),
            (&["shop.example.com.evil.net"], None, None),
            (&["shop.example.com@evil.net"], None, None),
            (&["user@shop.example.com"], None, None),
            (&["shop.internal"], None, None),
            (&["localhost"], None, None),
            (&[""], None, None),
            (&[":443"], None, None),
            (&["127.0.0.1"], None, None),
            (&[], None, None),
            (&["shop.example.com"], Some("localhost:3000"), None),
            (&["shop.example.com"], Some("shop.internal:8080"), None),
            (&["shop.example.com"], Some(""), None),
            (&["evil.net"], Some("shop.example.com"), None),
            (&[], Some("user@shop.example.com"), None),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().expect("a header value"));
            }
            let head = Head {
                method: &Method::GET,
                target: "/",
                authority,
                protocol: None,
                headers: &headers,
            };
            let found = find_application(&applications, &head);
            match expected {
                Some(id) => assert_eq!(
                    found.ok().map(|found| found.id.as_str()),
                    Some(id),
                    "{hosts:?} {authority:?}"
                ),
                None => assert!(
                    matches!(found, Err(Error::Misdirected(_))),
                    "{hosts:?} {authority:?} was accepted"
                ),
            }
        }
    }
}
