//! A route's `token: {client_credentials: …}`: the client's own access token (RFC 6749 §4.4).
//!
//! Whoever reaches such a route acts with the client's authority, so it is for anonymous callers alone:
//! with any other `auth` it is refused, and a user's call is never carried by it in place of a token of
//! the user's. Routes that ask for the same share one [`ClientGrant`], and so one token. Nothing here
//! asks for one.

use super::apis::{check_scopes, check_target};
use super::check::Problems;
use super::{ApiTarget, Auth, ClientAuth, Provider, Route, RouteTarget, TokenConfig};
use crate::route::RoutePrefix;

/// What is asked for, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCredentialsConfig {
    /// The API's resource indicator (RFC 8707 §2.2).
    pub resource: Option<String>,
    /// The same for providers that call it `audience`.
    pub audience: Option<String>,
    /// The scopes that the API may see, and no others; default: whatever the provider gives.
    pub scopes: Option<Vec<String>>,
}

/// What is asked for, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientGrant {
    /// For whom the token is, if that is said.
    pub target: Option<ApiTarget>,
    /// Its scopes; empty: none are named.
    pub scopes: Vec<String>,
}

/// Gives the routes their grants: each once, in the order of the routes as written. `written` has the
/// paths with a `token`; what is not about client credentials is left.
pub(super) fn check_client_credentials(
    written: Vec<(String, TokenConfig)>,
    routes: &mut [Route],
    who: Who,
    problems: &mut Problems,
) -> (Vec<ClientGrant>, Vec<(String, TokenConfig)>) {
    let (mut grants, mut others) = (Vec::new(), Vec::new());
    for (path, mut token) in written {
        let Some(asked) = token.client_credentials.take() else {
            others.push((path, token));
            continue;
        };
        if token != TokenConfig::default() {
            problems.add(
                &["routes", &path, "token"],
                "with `client_credentials`, what is asked for is written below it",
                "token: {client_credentials: {audience: orders, scopes: [orders:read]}}",
            );
            continue;
        }
        let Some(grant) = check_grant(&path, asked, problems) else {
            continue;
        };
        let prefix = RoutePrefix::parse(&path).ok();
        // one that is not there is a problem already
        let Some(route) = routes
            .iter_mut()
            .find(|route| Some(&route.prefix) == prefix.as_ref())
        else {
            continue;
        };
        if !may_carry_it(&path, route, who, problems) {
            continue;
        }
        let known = grants.iter().position(|known| *known == grant);
        route.client_grant = Some(known.unwrap_or(grants.len()));
        if known.is_none() {
            grants.push(grant);
        }
    }
    (grants, others)
}

/// What an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// An agent: it is a client of its provider.
    Client,
    /// It only forwards calls.
    Nobody,
}

/// Whether two providers' settings make the same client of the same provider, so that a token which
/// the one was given is good for the other. A key that was replaced under the name of another is the
/// same one here.
pub fn is_same_client(one: &Provider, other: &Provider) -> bool {
    one.issuer == other.issuer
        && one.client_id == other.client_id
        && one.habits.discovery == other.habits.discovery
        && one.habits.tenants == other.habits.tenants
        && one.plain == other.plain
        && one.profile == other.profile
        && one.dpop == other.dpop
        && one.client_certificate == other.client_certificate
        && one.certificate_bound_access_tokens == other.certificate_bound_access_tokens
        && match (&one.client_auth, &other.client_auth) {
            (ClientAuth::Secret(one, secret), ClientAuth::Secret(other, other_secret)) => {
                one == other && secret == other_secret
            }
            (ClientAuth::PrivateKeyJwt(one), ClientAuth::PrivateKeyJwt(other)) => {
                one.audience == other.audience
                    && one.key.alg() == other.key.alg()
                    && one.key.kid() == other.key.kid()
            }
            (ClientAuth::Tls(one), ClientAuth::Tls(other)) => one == other,
            (ClientAuth::AssertionFile(one), ClientAuth::AssertionFile(other)) => one == other,
            (
                ClientAuth::Secret(..)
                | ClientAuth::PrivateKeyJwt(_)
                | ClientAuth::Tls(_)
                | ClientAuth::AssertionFile(_),
                _,
            ) => false,
        }
}

fn check_grant(path: &str, asked: ClientCredentialsConfig, problems: &mut Problems) -> Option<ClientGrant> {
    let at = ["routes", path, "token", "client_credentials"];
    let ClientCredentialsConfig {
        resource,
        audience,
        scopes,
    } = asked;
    let target = match (resource, audience) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            problems.add(
                &at,
                "expected at most one of `resource` and `audience`: for whom the token is",
                "client_credentials: {resource: https://api.example.com}",
            );
            return None;
        }
        (resource, audience) => Some(check_target(&at, resource, audience, problems)?),
    };
    let scopes = check_scopes(&[&at[..], &["scopes"]].concat(), scopes, problems)?;
    Some(ClientGrant { target, scopes })
}

fn may_carry_it(path: &str, route: &Route, who: Who, problems: &mut Problems) -> bool {
    let at = ["routes", path, "token", "client_credentials"];
    let (message, hint) = match (&route.target, route.auth, who) {
        (RouteTarget::Static(_) | RouteTarget::DevServer(_), ..) => {
            ("files and development servers get no token", "remove `token`")
        }
        (_, Auth::Required | Auth::Optional | Auth::Bearer, _) => (
            "the application's own token is for anonymous callers, and never stands in for a user's",
            "auth: none",
        ),
        (_, Auth::None, Who::Nobody) => (
            "an instance that only forwards API calls is no client of a provider: it has no token of its own",
            "have the agent's instance serve this route",
        ),
        (RouteTarget::Upstream(_) | RouteTarget::Inner, Auth::None, Who::Client) => return true,
    };
    problems.add(&at, message, hint);
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, files, upstream};
    use crate::config::{
        ApplicationConfig, ClientCertificate, EndpointsConfig, PlainConfig, PrivateKeyPem, ProviderConfig,
        RouteConfig, SessionConfig, UserConfig,
    };
    use crate::secret::Secret;

    fn asks(grant: ClientCredentialsConfig) -> TokenConfig {
        TokenConfig {
            client_credentials: Some(grant),
            ..TokenConfig::default()
        }
    }

    fn scoped(scope: &str) -> ClientCredentialsConfig {
        ClientCredentialsConfig {
            scopes: Some(vec![scope.to_owned()]),
            ..ClientCredentialsConfig::default()
        }
    }

    fn route(path: &str, auth: Option<&str>, token: TokenConfig) -> RouteConfig {
        RouteConfig {
            token: Some(token),
            ..upstream(path, "http://127.0.0.1:5000", auth)
        }
    }

    fn places(config: ApplicationConfig) -> Vec<String> {
        match config.check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    fn of(routes: Vec<RouteConfig>) -> Vec<String> {
        places(ApplicationConfig { routes, ..config() })
    }

    #[test]
    fn only_anonymous_callers_are_carried_by_the_clients_own_token() {
        let at = "routes./a.token.client_credentials";
        for (auth, problems) in [
            (Some("none"), vec![]),
            (None, vec![at]),
            (Some("required"), vec![at]),
            (Some("optional"), vec![at]),
            (Some("bearer"), vec![at]),
        ] {
            assert_eq!(
                of(vec![route("/a", auth, asks(scoped("a")))]),
                problems,
                "{auth:?}"
            );
        }
        let page = RouteConfig {
            token: Some(asks(scoped("a"))),
            ..files("/a", "dist")
        };
        assert_eq!(of(vec![page]), [at]);
        let proxy = ApplicationConfig {
            provider: None,
            session: SessionConfig::default(),
            routes: vec![route("/a", Some("none"), asks(scoped("a")))],
            ..config()
        };
        assert_eq!(places(proxy), [at]);
    }

    #[test]
    fn what_is_asked_for_is_one_thing_and_well_formed() {
        let none = ClientCredentialsConfig::default;
        let text = |text: &str| Some(text.to_owned());
        let at = "routes./a.token.client_credentials";
        for (name, token, problems) in [
            ("nothing", asks(none()), vec![]),
            ("scopes", asks(scoped("a:read")), vec![]),
            (
                "a resource",
                asks(ClientCredentialsConfig {
                    resource: text("https://a"),
                    ..none()
                }),
                vec![],
            ),
            (
                "a fragment",
                asks(ClientCredentialsConfig {
                    resource: text("https://a/#b"),
                    ..none()
                }),
                vec![at.to_owned()],
            ),
            (
                "both",
                asks(ClientCredentialsConfig {
                    resource: text("https://a"),
                    audience: text("a"),
                    ..none()
                }),
                vec![at.to_owned()],
            ),
            (
                "no audience",
                asks(ClientCredentialsConfig {
                    audience: text(""),
                    ..none()
                }),
                vec![at.to_owned()],
            ),
            (
                "two scopes in one",
                asks(scoped("a b")),
                vec![format!("{at}.scopes")],
            ),
            (
                "beside it",
                TokenConfig {
                    audience: text("a"),
                    ..asks(none())
                },
                vec!["routes./a.token".to_owned()],
            ),
        ] {
            assert_eq!(of(vec![route("/a", Some("none"), token)]), problems, "{name}");
        }
    }

    #[test]
    fn routes_that_ask_for_the_same_share_one_grant_and_sign_ins_ask_for_nothing_more() {
        let application = checked(ApplicationConfig {
            routes: vec![
                route("/a", Some("none"), asks(scoped("x"))),
                route("/b", Some("none"), asks(scoped("y"))),
                route("/c", Some("none"), asks(scoped("x"))),
                upstream("/d", "http://127.0.0.1:5000", Some("none")),
                upstream("/e", "http://127.0.0.1:5000", None),
            ],
            ..config()
        });
        let grants: Vec<Option<usize>> = application
            .routes
            .iter()
            .map(|route| route.client_grant)
            .collect();
        assert_eq!(grants, [Some(0), Some(1), Some(0), None, None]);
        assert_eq!(application.client_grants.len(), 2);
        assert!(application.apis.list.is_empty() && application.sends_session_token());
        assert_eq!(application.provider.expect("an agent").scopes, ["openid"]);
    }

    #[test]
    fn with_dpop_the_api_of_such_a_route_has_an_address_that_proofs_can_name() {
        let with = |public_url: Option<&str>| {
            let mut config = ApplicationConfig {
                routes: vec![RouteConfig {
                    public_url: public_url.map(str::to_owned),
                    ..route("/a", Some("none"), asks(scoped("x")))
                }],
                ..config()
            };
            config.routes[0].target = crate::config::RouteTargetConfig::Upstreams(vec![
                "http://127.0.0.1:5000".to_owned(),
                "http://127.0.0.1:5001".to_owned(),
            ]);
            config.provider.as_mut().expect("an agent").dpop = Some("ES256".to_owned());
            places(config)
        };
        assert_eq!(with(None), ["routes./a.public_url"]);
        assert!(with(Some("https://api.example.com")).is_empty());
    }

    #[test]
    fn with_bound_tokens_such_a_route_shows_the_certificate_and_has_to_be_able_to() {
        let bound = |url: &str| {
            let mut config = ApplicationConfig {
                routes: vec![
                    RouteConfig {
                        token: Some(asks(scoped("x"))),
                        ..upstream("/a", url, Some("none"))
                    },
                    upstream("/open", "http://127.0.0.1:5000", Some("none")),
                ],
                ..config()
            };
            let provider = config.provider.as_mut().expect("an agent");
            provider.client_certificate = Some(ClientCertificate {
                chain: "chain".to_owned(),
                key: PrivateKeyPem::new("key"),
            });
            provider.certificate_bound_access_tokens = true;
            config
        };
        assert_eq!(places(bound("http://127.0.0.1:5000")), ["routes./a.upstream"]);
        let application = checked(bound("https://api.internal"));
        for route in &application.routes {
            let RouteTarget::Upstream(upstreams) = &route.target else {
                panic!("an upstream");
            };
            let shows = upstreams.tls.as_ref().is_some_and(|tls| tls.client.is_some());
            assert_eq!(shows, route.client_grant.is_some(), "{}", route.prefix.as_str());
        }
    }

    #[test]
    fn another_client_or_provider_has_other_tokens() {
        type Change = fn(&mut ProviderConfig);
        let provider = |change: Change| {
            let mut config = config();
            change(config.provider.as_mut().expect("an agent"));
            checked(config).provider.expect("an agent")
        };
        let plain: Change = |p| {
            p.scopes = None;
            p.plain = PlainConfig {
                protocol: Some("oauth2".into()),
                endpoints: Some(EndpointsConfig {
                    authorization: "https://login.example.com/authorize".into(),
                    token: "https://login.example.com/token".into(),
                    ..EndpointsConfig::default()
                }),
                user: Some(UserConfig {
                    subject: Some("none".into()),
                    ..UserConfig::default()
                }),
                ..PlainConfig::default()
            };
        };
        let elsewhere = |provider| {
            let mut provider: Provider = std::sync::Arc::into_inner(provider).expect("nobody else has it");
            let endpoints = provider.plain.as_mut().and_then(|plain| plain.endpoints.as_mut());
            endpoints.expect("they are written").token.set_path("/other");
            provider
        };
        assert!(is_same_client(&provider(plain), &provider(plain)));
        assert!(
            !is_same_client(&provider(plain), &elsewhere(provider(plain))),
            "another place"
        );
        let cases: [(&str, Change, bool); 7] = [
            ("nothing", |_| {}, true),
            (
                "scopes of sign-ins",
                |p| p.scopes = Some(vec!["openid".into(), "x".into()]),
                true,
            ),
            ("another client", |p| p.client_id = "other".into(), false),
            (
                "another secret",
                |p| p.client_secret = Some(Secret::new("other")),
                false,
            ),
            (
                "another issuer",
                |p| p.issuer = "https://other.example.com".into(),
                false,
            ),
            ("without ID tokens", plain, false),
            ("bound to a key", |p| p.dpop = Some("ES256".into()), false),
        ];
        for (name, change, same) in cases {
            assert_eq!(
                is_same_client(&provider(|_| {}), &provider(change)),
                same,
                "{name}"
            );
        }
    }
}
