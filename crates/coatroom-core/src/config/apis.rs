//! A route's `token`: APIs that get access tokens of their own (RFC 8707, RFC 8693).
//!
//! Routes that ask for the same are one [`Api`]: one token request, one token. In a browser each path
//! has a cookie of its own, so that an API's token travels to that API's path and to no other; what
//! would send one API's cookie to another is refused here. Nothing here asks for a token.

use url::Url;

use super::check::Problems;
use super::{
    Application, Auth, ClientCredentialsConfig, IntrospectionConfig, Provider, Route, RouteTarget, defaults,
};
use crate::oauth::authorization::is_scope_token;
use crate::route::RoutePrefix;
use crate::seal::digest8;

/// A route's token as written: what its API's access tokens are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenConfig {
    /// The API's resource indicator, for a token by refresh (RFC 8707 §2.2).
    pub resource: Option<String>,
    /// The same for providers that call it `audience`.
    pub audience: Option<String>,
    /// The scopes that the API may see, and no others; default: whatever the provider gives.
    pub scopes: Option<Vec<String>>,
    /// A token by token exchange instead (RFC 8693).
    pub exchange: Option<ExchangeConfig>,
    /// The client's own token instead, for anonymous callers (RFC 6749 §4.4).
    pub client_credentials: Option<ClientCredentialsConfig>,
    /// Whether calls wait for what the provider says of the token (RFC 7662).
    pub introspection: Option<IntrospectionConfig>,
}

/// A token exchange as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// Where the token will be used, as a URI (RFC 8693 §2.1).
    pub resource: Option<String>,
    /// The same as a name.
    pub audience: Option<String>,
    /// The scopes that the API may see, and no others; default: whatever the provider gives.
    pub scopes: Option<Vec<String>>,
    /// The kind of token that is asked for (RFC 8693 §3); default: not said.
    pub requested_token_type: Option<String>,
}

/// An API with access tokens of its own, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// What distinguishes it: a token counts for the API that it was asked for, however routes and
    /// settings change.
    pub id: ApiId,
    /// How its token is had.
    pub grant: ApiGrant,
    /// For whom the token is.
    pub target: ApiTarget,
    /// Its scopes; empty: none are named.
    pub scopes: Vec<String>,
}

/// Names an API by all that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApiId(pub [u8; 8]);

/// How an API's token is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiGrant {
    /// By the session's refresh token (RFC 6749 §6, RFC 8707 §2.2).
    Refresh,
    /// By exchange of the session's access token (RFC 8693 §2.1).
    Exchange {
        /// The kind of token that is asked for, if that is said.
        requested_token_type: Option<String>,
    },
}

/// For whom an API's token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiTarget {
    /// `resource`: a URI.
    Resource(String),
    /// `audience`: a name.
    Audience(String),
}

/// A cookie with one API's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiCookie {
    /// The last part of its name: the path's letters and digits.
    pub id: String,
    /// Its path: that of the outermost route of the API.
    pub path: String,
    /// Whose token it has.
    pub api: ApiId,
}

/// The token that a route's calls carry in place of the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteToken {
    /// Its API.
    pub api: ApiId,
    /// Which of the application's cookies has it, where sessions are in cookies.
    pub cookie: u8,
}

/// The APIs of an application, and their cookies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apis {
    /// Each once, in the order of their paths' lengths.
    pub list: Vec<Api>,
    /// Their cookies.
    pub cookies: Vec<ApiCookie>,
}

impl Application {
    /// Whether any route's calls carry the session's own access token. Where none do, the browser does
    /// not show it to every path.
    pub fn sends_session_token(&self) -> bool {
        self.apis.list.is_empty() || self.routes.iter().any(takes_session_token)
    }
}

fn takes_session_token(route: &Route) -> bool {
    let is_api = matches!(route.target, RouteTarget::Upstream(_) | RouteTarget::Inner);
    is_api && matches!(route.auth, Auth::Required | Auth::Optional) && route.token.is_none()
}

impl ApiTarget {
    /// The request parameter and its value.
    pub fn parameter(&self) -> (&'static str, &str) {
        match self {
            Self::Resource(uri) => ("resource", uri),
            Self::Audience(name) => ("audience", name),
        }
    }
}

/// Gives the routes their tokens. `written` has the paths with a `token`, as they were written.
pub(super) fn check_tokens(
    written: Vec<(String, TokenConfig)>,
    routes: &mut [Route],
    problems: &mut Problems,
) -> Apis {
    let mut asked: Vec<(String, RoutePrefix, Api)> = Vec::new();
    for (path, token) in written {
        let Some(prefix) = RoutePrefix::parse(&path).ok() else {
            // a problem already
            continue;
        };
        if let Some(api) = check_token(&path, token, problems)
            && let Some(route) = routes.iter().find(|route| route.prefix == prefix)
            && gets_a_token(&path, route, problems)
        {
            asked.push((path, prefix, api));
        }
    }
    // outer paths first: an inner route of the same API needs no cookie of its own
    asked.sort_by_key(|(_, prefix, _)| prefix.as_str().len());
    let mut apis = Apis::default();
    for (path, prefix, api) in asked {
        let outer = apis
            .cookies
            .iter()
            .position(|cookie| is_below(&prefix, &cookie.path));
        let cookie = match outer {
            Some(outer) if apis.cookies.get(outer).is_some_and(|outer| outer.api == api.id) => outer,
            Some(_) => {
                problems.add(
                    &["routes", &path, "token"],
                    "the route is below another one with a token of its own: its calls would carry both APIs' cookies",
                    "give the two routes paths of which none begins with the other",
                );
                continue;
            }
            None => match new_cookie(&path, &prefix, &api, &apis.cookies, problems) {
                Some(cookie) => {
                    apis.cookies.push(cookie);
                    apis.cookies.len().saturating_sub(1)
                }
                None => continue,
            },
        };
        if let Some(route) = routes.iter_mut().find(|route| route.prefix == prefix) {
            let cookie = u8::try_from(cookie).unwrap_or(u8::MAX);
            route.token = Some(RouteToken { api: api.id, cookie });
        }
        if !apis.list.iter().any(|known| known.id == api.id) {
            apis.list.push(api);
        }
    }
    let (many, most) = (apis.list.len().max(apis.cookies.len()), defaults::MAX_APIS);
    if many > most {
        problems.add(
            &["routes"],
            format!("{many} routes have a token of their own: each sign-in and refresh asks for each, at most {most}"),
            "let routes share a token, or put a gateway with token exchange of its own behind one route",
        );
    }
    apis
}

/// A sign-in has to be asked for what is to be had later: resources (RFC 8707 §2.1) and scopes
/// (RFC 6749 §6). What is exchanged is the provider's to decide.
pub(super) fn ask_for(apis: &Apis, routes: &[Route], provider: &mut Provider, problems: &mut Problems) {
    let resource = |name: &str| name == "resource";
    let fixed_ones = provider.authorization_parameters.iter();
    let fixed_ones = fixed_ones.filter(|(name, _)| resource(name)).map(|(_, uri)| uri);
    let own: Vec<String> = provider
        .authorization
        .resource
        .iter()
        .chain(fixed_ones)
        .cloned()
        .collect();
    // what is fixed already is a problem already
    let fixed = provider.authorization.fixes("resource")
        || provider
            .authorization_parameters
            .iter()
            .any(|(name, _)| resource(name));
    let by_resource =
        |api: &Api| api.grant == ApiGrant::Refresh && matches!(api.target, ApiTarget::Resource(_));
    let open = provider.allowed_parameters.iter().position(|name| resource(name));
    if let Some(index) = open.filter(|_| !fixed && apis.list.iter().any(by_resource)) {
        problems.add(
            &["provider", "allowed_parameters", &index.to_string()],
            "a route's `token` fixes this parameter, so the SPA cannot set it",
            "remove it from one of the two",
        );
    }
    if apis.list.iter().any(by_resource) && routes.iter().any(takes_session_token) {
        // a route whose `token` is a problem already looks as if it had none
        let refused = problems
            .0
            .iter()
            .any(|problem| problem.at.iter().any(|part| part == "token"));
        if own.is_empty() && !refused {
            problems.add(
                &["provider"],
                "some routes carry the session's own access token, and nothing says for which API it is: a provider \
                 may make it good at those that other routes' `token` names as well (RFC 8707 §2.2)",
                "name it: `resource: [https://api.example.com]`, or give each of those routes a `token`",
            );
        }
        provider.authorization.own_resource = own;
    }
    for api in apis.list.iter().filter(|api| api.grant == ApiGrant::Refresh) {
        if let ApiTarget::Resource(uri) = &api.target {
            let own = &mut provider.authorization.resource;
            let parameter = ("resource".to_owned(), uri.clone());
            // both in one place: a request has only those of the setting where there are any
            if own.is_empty() {
                if !provider.authorization_parameters.contains(&parameter) {
                    provider.authorization_parameters.push(parameter);
                }
            } else if !own.contains(uri) {
                own.push(parameter.1);
            }
        }
        for scope in &api.scopes {
            if !provider.scopes.contains(scope) {
                provider.scopes.push(scope.clone());
            }
        }
    }
}

fn check_token(path: &str, written: TokenConfig, problems: &mut Problems) -> Option<Api> {
    let at = ["routes", path, "token"];
    let TokenConfig {
        resource,
        audience,
        scopes,
        exchange,
        // checked elsewhere
        client_credentials: _,
        introspection: _,
    } = written;
    let (grant, resource, audience, scopes) = match exchange {
        None => (ApiGrant::Refresh, resource, audience, scopes),
        Some(exchange) if resource.is_none() && audience.is_none() && scopes.is_none() => {
            let requested_token_type = exchange.requested_token_type;
            if let Some(kind) = &requested_token_type
                && !TOKEN_TYPES.contains(&kind.as_str())
            {
                problems.add(
                    &["routes", path, "token", "exchange", "requested_token_type"],
                    "expected the type of an access token (RFC 8693 §3)",
                    format!("requested_token_type: {ACCESS_TOKEN_TYPE}"),
                );
            }
            let grant = ApiGrant::Exchange { requested_token_type };
            (grant, exchange.resource, exchange.audience, exchange.scopes)
        }
        Some(_) => {
            problems.add(
                &at,
                "with `exchange`, what is asked for is written below it",
                "token: {exchange: {audience: orders, scopes: [orders:read]}}",
            );
            return None;
        }
    };
    let target = check_target(&at, resource, audience, problems)?;
    let scopes = check_scopes(&[&at[..], &["scopes"]].concat(), scopes, problems)?;
    let id = id_of(&grant, &target, &scopes);
    Some(Api {
        id,
        grant,
        target,
        scopes,
    })
}

/// For whom a token is: one of both has to say.
pub(super) fn check_target(
    at: &[&str],
    resource: Option<String>,
    audience: Option<String>,
    problems: &mut Problems,
) -> Option<ApiTarget> {
    match (resource, audience) {
        (Some(uri), None) if is_resource(&uri) => Some(ApiTarget::Resource(uri)),
        (Some(_), None) => {
            problems.add(
                at,
                "expected `resource` to be an absolute URI without a fragment (RFC 8707 §2)",
                "token: {resource: https://api.example.com}",
            );
            None
        }
        (None, Some(name)) if !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
            Some(ApiTarget::Audience(name))
        }
        (None, _) | (Some(_), Some(_)) => {
            problems.add(
                at,
                "expected one of `resource` and `audience`: for whom the token is",
                "token: {resource: https://api.example.com}",
            );
            None
        }
    }
}

/// The scopes of a token: sorted, each once.
pub(super) fn check_scopes(
    at: &[&str],
    written: Option<Vec<String>>,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let mut scopes = written.unwrap_or_default();
    if !scopes.iter().all(|scope| is_scope_token(scope)) {
        problems.add(
            at,
            "expected a list of scopes without blanks, quotes and backslashes",
            "scopes: [orders:read]",
        );
        return None;
    }
    scopes.sort();
    scopes.dedup();
    Some(scopes)
}

/// An API is what is asked for: each part stands behind its length, so no two mean the same bytes.
fn id_of(grant: &ApiGrant, target: &ApiTarget, scopes: &[String]) -> ApiId {
    let (name, value) = target.parameter();
    let kind = match grant {
        ApiGrant::Refresh => ["refresh", ""],
        ApiGrant::Exchange { requested_token_type } => {
            ["exchange", requested_token_type.as_deref().unwrap_or_default()]
        }
    };
    let scopes = scopes.iter().map(String::as_str);
    let mut data = Vec::new();
    for part in kind.into_iter().chain([name, value]).chain(scopes) {
        data.extend_from_slice(&part.len().to_be_bytes());
        data.extend_from_slice(part.as_bytes());
    }
    ApiId(digest8("api", &data))
}

fn is_resource(uri: &str) -> bool {
    uri.bytes().all(|b| b.is_ascii_graphic()) && Url::parse(uri).is_ok_and(|url| url.fragment().is_none())
}

/// Whether calls of the route carry a token at all.
pub(super) fn gets_a_token(path: &str, route: &Route, problems: &mut Problems) -> bool {
    let why = match (&route.target, route.auth) {
        (RouteTarget::Static(_) | RouteTarget::DevServer(_), _) => {
            "files and development servers get no token"
        }
        (_, Auth::None) => "with `auth: none` no token is attached",
        (_, Auth::Bearer) => "with `auth: bearer` the client's own token is passed on",
        (RouteTarget::Upstream(_) | RouteTarget::Inner, Auth::Required | Auth::Optional) => return true,
    };
    problems.add(&["routes", path, "token"], why, "remove `token`");
    false
}

fn new_cookie(
    path: &str,
    prefix: &RoutePrefix,
    api: &Api,
    known: &[ApiCookie],
    problems: &mut Problems,
) -> Option<ApiCookie> {
    let id = cookie_id(prefix);
    if id.len() > MAX_ID {
        problems.add(
            &["routes", path, "token"],
            format!("the path becomes a part of a cookie's name, of at most {MAX_ID} characters"),
            "choose a shorter path",
        );
        return None;
    }
    if let Some(other) = known.iter().find(|other| other.id == id) {
        problems.add(
            &["routes", path, "token"],
            format!(
                "the cookies of this route and of `{}` would have the same name, ending in `api-{id}`",
                other.path
            ),
            "choose paths that differ in letters or digits",
        );
        return None;
    }
    Some(ApiCookie {
        id,
        path: prefix.as_str().to_owned(),
        api: api.id,
    })
}

/// The letters and digits of a path, in lower case, with one hyphen for what is between them.
fn cookie_id(prefix: &RoutePrefix) -> String {
    let words = prefix.as_str().split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    match words.is_empty() {
        true => ROOT.to_owned(),
        false => words.join("-"),
    }
}

/// Whether a cookie of this path goes along with calls of the route (RFC 6265 §5.1.4).
fn is_below(prefix: &RoutePrefix, path: &str) -> bool {
    path == "/" || prefix.is_at_or_below(path)
}

/// The end of the name of the cookie at `/`.
const ROOT: &str = "root";

/// The longest end of a cookie's name.
const MAX_ID: usize = 64;

/// An OAuth 2.0 access token (RFC 8693 §3).
pub(crate) const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The types that an access token may have (RFC 8693 §3, RFC 9068 is a `jwt`).
pub(crate) const TOKEN_TYPES: [&str; 2] = [ACCESS_TOKEN_TYPE, "urn:ietf:params:oauth:token-type:jwt"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, files, upstream};
    use crate::config::{ApplicationConfig, RouteConfig};

    fn api(path: &str, token: TokenConfig) -> RouteConfig {
        RouteConfig {
            token: Some(token),
            ..upstream(path, "http://127.0.0.1:5000", None)
        }
    }

    fn resource(uri: &str) -> TokenConfig {
        TokenConfig {
            resource: Some(uri.to_owned()),
            ..TokenConfig::default()
        }
    }

    fn audience(name: &str) -> TokenConfig {
        TokenConfig {
            audience: Some(name.to_owned()),
            ..TokenConfig::default()
        }
    }

    fn exchange(exchange: ExchangeConfig) -> TokenConfig {
        TokenConfig {
            exchange: Some(exchange),
            ..TokenConfig::default()
        }
    }

    fn scoped(token: TokenConfig, scopes: &[&str]) -> TokenConfig {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        TokenConfig {
            scopes: Some(scopes),
            ..token
        }
    }

    fn with(routes: Vec<RouteConfig>) -> ApplicationConfig {
        ApplicationConfig { routes, ..config() }
    }

    fn problems(routes: Vec<RouteConfig>) -> Vec<String> {
        match with(routes).check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    fn cookies(application: &Application) -> Vec<(&str, &str)> {
        let all = application.apis.cookies.iter();
        all.map(|cookie| (cookie.id.as_str(), cookie.path.as_str()))
            .collect()
    }

    #[test]
    fn routes_that_ask_for_the_same_are_one_api_with_a_cookie_for_each_path() {
        let application = checked(with(vec![
            api(
                "/orders/",
                scoped(resource("https://orders.example.com"), &["b", "a"]),
            ),
            api(
                "/orders/uploads",
                scoped(resource("https://orders.example.com"), &["a", "b", "a"]),
            ),
            api(
                "/other/Orders.v2",
                scoped(resource("https://orders.example.com"), &["a", "b"]),
            ),
            api("/stock", audience("stock")),
            upstream("/stock/public", "http://127.0.0.1:5000", Some("none")),
            files("/", "dist"),
        ]));
        assert_eq!(application.apis.list.len(), 2);
        assert_eq!(
            cookies(&application),
            [
                ("stock", "/stock"),
                ("orders", "/orders"),
                ("other-orders-v2", "/other/Orders.v2")
            ]
        );
        let token = |path: &str| {
            let route = application
                .routes
                .iter()
                .find(|route| route.prefix.as_str() == path);
            route.and_then(|route| route.token)
        };
        let (outer, inner) = (
            token("/orders").expect("a token"),
            token("/orders/uploads").expect("a token"),
        );
        assert_eq!(outer, inner);
        assert_eq!(token("/other/Orders.v2").map(|other| other.api), Some(outer.api));
        assert!(token("/stock").is_some_and(|stock| stock.api != outer.api));
        assert_eq!(token("/stock/public"), None);
    }

    #[test]
    fn what_distinguishes_apis_is_all_that_is_asked_for() {
        let id = |token: TokenConfig| {
            let application = checked(with(vec![api("/a", token)]));
            application.apis.list.first().map(|api| api.id).expect("one")
        };
        let by_exchange = |kind: Option<&str>| {
            exchange(ExchangeConfig {
                audience: Some("x".to_owned()),
                requested_token_type: kind.map(str::to_owned),
                ..ExchangeConfig::default()
            })
        };
        let all = [
            id(resource("x:y")),
            id(audience("x:y")),
            id(audience("x")),
            id(scoped(audience("x"), &["a", "b"])),
            id(scoped(audience("x"), &["ab"])),
            id(by_exchange(None)),
            id(by_exchange(Some(ACCESS_TOKEN_TYPE))),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all.iter().skip(index + 1).any(|other| other == one), "{index}");
        }
        assert_eq!(id(audience("x")), id(scoped(audience("x"), &[])));
    }

    #[test]
    fn a_token_that_no_call_could_carry_alone_is_refused() {
        let token = || resource("https://api.example.com");
        let auth_none = RouteConfig {
            auth: Some("none".to_owned()),
            ..api("/a", token())
        };
        let of_files = RouteConfig {
            token: Some(token()),
            ..files("/a", "dist")
        };
        let many = |n: usize| -> Vec<RouteConfig> {
            (0..n)
                .map(|i| api(&format!("/a{i}"), audience(&format!("a{i}"))))
                .collect()
        };
        for (name, routes, at) in [
            (
                "nobody's",
                vec![api("/a", TokenConfig::default())],
                "routes./a.token",
            ),
            (
                "two at once",
                vec![api(
                    "/a",
                    TokenConfig {
                        audience: Some("x".to_owned()),
                        ..token()
                    },
                )],
                "routes./a.token",
            ),
            ("no uri", vec![api("/a", resource("api"))], "routes./a.token"),
            (
                "a fragment",
                vec![api("/a", resource("https://api.example.com/#x"))],
                "routes./a.token",
            ),
            (
                "a line break",
                vec![api("/a", resource("https://api.example.com/\n"))],
                "routes./a.token",
            ),
            ("no name", vec![api("/a", audience(""))], "routes./a.token"),
            ("no ascii", vec![api("/a", audience("\u{e9}"))], "routes./a.token"),
            (
                "scopes",
                vec![api("/a", scoped(token(), &["a b"]))],
                "routes./a.token.scopes",
            ),
            (
                "beside an exchange",
                vec![api(
                    "/a",
                    TokenConfig {
                        exchange: Some(ExchangeConfig::default()),
                        ..token()
                    },
                )],
                "routes./a.token",
            ),
            (
                "an ID token",
                vec![api(
                    "/a",
                    exchange(ExchangeConfig {
                        audience: Some("x".to_owned()),
                        requested_token_type: Some("urn:ietf:params:oauth:token-type:id_token".to_owned()),
                        ..ExchangeConfig::default()
                    }),
                )],
                "routes./a.token.exchange.requested_token_type",
            ),
            ("no session", vec![auth_none], "routes./a.token"),
            ("files", vec![of_files], "routes./a.token"),
            (
                "one below the other",
                vec![api("/a", token()), api("/a/b", audience("b"))],
                "routes./a/b.token",
            ),
            (
                "one below all",
                vec![api("/", token()), api("/b", audience("b"))],
                "routes./b.token",
            ),
            (
                "one name for two",
                vec![api("/a/b", token()), api("/a-b", audience("b"))],
                "routes./a-b.token",
            ),
            (
                "a long name",
                vec![api(&format!("/{}", "a".repeat(65)), token())],
                "routes./aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.token",
            ),
            ("too many", many(defaults::MAX_APIS + 1), "routes"),
        ] {
            assert_eq!(problems(routes), [at], "{name}");
        }
        assert!(problems(many(defaults::MAX_APIS)).is_empty());
        assert!(problems(vec![api("/", token())]).is_empty());
    }

    #[test]
    fn a_routes_resource_stands_where_the_others_do_and_nobody_else_sets_it() {
        let all = ["https://own", "https://orders"];
        let config = |own: &[&str], fixed: Option<&str>, allowed: &[&str]| {
            let mut config = with(vec![api("/orders/", resource(all[1]))]);
            let provider = config.provider.as_mut().expect("an agent");
            provider.authorization.resource = own.iter().map(|&uri| uri.to_owned()).collect();
            let fixed = fixed.map(|uri| ("resource".to_owned(), uri.to_owned()));
            provider.authorization_parameters = fixed.into_iter().collect();
            provider.allowed_parameters = allowed.iter().map(|&name| name.to_owned()).collect();
            config
        };
        for own in [&all[..1], &all[..]] {
            let provider = checked(config(own, None, &[])).provider.expect("an agent");
            assert_eq!(provider.authorization.resource, all);
            assert!(provider.authorization_parameters.is_empty());
        }
        let problem = "provider.allowed_parameters.1";
        for (own, fixed) in [(None, None), (Some(all[0]), None), (None, Some(all[0]))] {
            let own: Vec<&str> = own.into_iter().collect();
            let Err(problems) = config(&own, fixed, &["x", "resource"]).check() else {
                panic!("accepted: {own:?}, {fixed:?}")
            };
            let places: Vec<String> = problems.iter().map(|problem| problem.at.join(".")).collect();
            assert_eq!(places, [problem], "{own:?}, {fixed:?}");
        }
    }

    #[test]
    fn a_sign_in_asks_for_what_a_refresh_will_want() {
        let application = checked(with(vec![
            api(
                "/a",
                scoped(resource("https://a.example.com"), &["a:read", "openid"]),
            ),
            api("/b", scoped(audience("b"), &["b:read"])),
            api(
                "/c",
                exchange(ExchangeConfig {
                    resource: Some("https://c.example.com".to_owned()),
                    scopes: Some(vec!["c:read".to_owned()]),
                    ..ExchangeConfig::default()
                }),
            ),
        ]));
        let provider = application.provider.expect("an agent");
        assert_eq!(provider.scopes, ["openid", "a:read", "b:read"]);
        let resources: Vec<_> = provider.authorization_parameters.iter().collect();
        assert_eq!(
            resources,
            [&("resource".to_owned(), "https://a.example.com".to_owned())]
        );
    }

    #[test]
    fn where_some_routes_name_a_resource_the_others_have_one_too() {
        let own = || upstream("/b", "http://127.0.0.1:5000", None);
        let named = || api("/a", resource("https://a.example.com"));
        let exchanged = ExchangeConfig {
            resource: Some("https://c.example.com".to_owned()),
            ..ExchangeConfig::default()
        };
        const B: &[&str] = &["https://b.example.com"];
        // routes, `resource`, whether it passes, for what the session's own token is
        type Case = (
            Vec<RouteConfig>,
            &'static [&'static str],
            Option<&'static [&'static str]>,
        );
        let cases: [Case; 7] = [
            (vec![named(), own()], &[], None),
            (vec![named(), own()], B, Some(B)),
            (vec![named()], &[], Some(&[])),
            // nobody but the provider is shown it
            (vec![named()], B, Some(&[])),
            (vec![own()], B, Some(&[])),
            (vec![api("/a", audience("a")), own()], &[], Some(&[])),
            (vec![api("/a", exchange(exchanged)), own()], &[], Some(&[])),
        ];
        for (routes, written, expected) in cases {
            for by_parameter in [false, true] {
                let mut config = with(routes.clone());
                let provider = config.provider.as_mut().expect("an agent");
                let texts = written.iter().map(|&uri| uri.to_owned());
                match by_parameter {
                    true => provider
                        .authorization_parameters
                        .extend(texts.map(|uri| ("resource".to_owned(), uri))),
                    false => provider.authorization.resource = texts.collect(),
                }
                let found = config.check().ok().map(|application| {
                    let provider = application.provider.expect("an agent");
                    provider.authorization.own_resource.clone()
                });
                let expected: Option<Vec<String>> =
                    expected.map(|all| all.iter().map(|&uri| uri.to_owned()).collect());
                assert_eq!(found, expected, "{written:?} {by_parameter}");
            }
        }
    }

    #[test]
    fn the_sessions_own_token_is_for_the_routes_that_name_none() {
        let sends = |routes| checked(with(routes)).sends_session_token();
        let token = || resource("https://api.example.com");
        assert!(sends(vec![upstream("/a", "http://127.0.0.1:5000", None)]));
        assert!(sends(vec![
            api("/a", audience("a")),
            upstream("/b", "http://127.0.0.1:5000", Some("optional"))
        ]));
        assert!(!sends(vec![
            api("/a", token()),
            upstream("/b", "http://127.0.0.1:5000", Some("none")),
            files("/", "dist"),
        ]));
        // nobody knows what an embedder's routes will be
        assert!(sends(vec![files("/", "dist")]));
    }
}
