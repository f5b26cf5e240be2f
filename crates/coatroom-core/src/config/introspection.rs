//! A route's `token.introspection`: calls wait for what the provider says of their token (RFC 7662).
//!
//! Says in which form that is wanted, and what such a route cannot be: a token that is bound to a key or
//! a certificate is worth nothing to an API in another token's place, and who never asks the provider
//! cannot ask about a token. Nothing here asks.

use std::sync::Arc;
use std::time::Duration;

use super::apis::gets_a_token;
use super::check::Problems;
use super::{Provider, Route, TokenConfig, defaults};
use crate::assurance::Demands;
use crate::route::RoutePrefix;
use crate::seal::digest_of;

/// An introspection as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntrospectionConfig {
    /// `jwt` (default), `phantom_token` or `json`: what the provider is asked for, and the API gets.
    pub response: Option<String>,
    /// For whom the JWT has to be; default: this client with `jwt`, anybody with `phantom_token`.
    pub audience: Option<String>,
    /// For how long an answer counts at most; default: 60 s with `json`, else as long as the token.
    pub cache: Option<Duration>,
}

/// The same, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// What the provider is asked for.
    pub response: IntrospectionResponse,
    /// For whom the JWT has to be, if that is said.
    pub audience: Option<String>,
    /// For how long an answer counts at most, if that is said.
    pub cache: Option<Duration>,
    /// Whose tokens the provider may be asked about: its own.
    pub(crate) whose: Demands,
}

/// What an introspection answers, and an API gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntrospectionResponse {
    /// A signed answer about the token (RFC 9701): the API gets that.
    Jwt,
    /// The access token as a JWT, as Curity and others answer it: the API gets that.
    PhantomToken,
    /// An answer about the token (RFC 7662): the API gets the token itself.
    Json,
}

impl IntrospectionResponse {
    /// Whether the API gets another token than the session's.
    pub fn replaces_the_token(self) -> bool {
        match self {
            Self::Jwt | Self::PhantomToken => true,
            Self::Json => false,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::PhantomToken => "phantom_token",
            Self::Json => "json",
        }
    }
}

impl Provider {
    /// That a session's tokens are this one's.
    fn as_demand(&self) -> Demands {
        Demands::issued_by(self.name.as_ref(), &self.issuer, &self.client_id)
    }
}

impl Route {
    /// All that has to be known of a session before its token is attached.
    pub(crate) fn all_demands(&self) -> impl Iterator<Item = &Demands> {
        let whose = self.introspection.as_deref().map(|asked| &asked.whose);
        self.demands.as_deref().into_iter().chain(whose)
    }
}

impl Introspection {
    /// Whether this provider may be asked.
    pub(crate) fn is_for(&self, provider: &Provider) -> bool {
        self.whose == provider.as_demand()
    }

    /// Names an answer about a token: by the token, and by all that the answer depends on.
    pub(crate) fn name_of(&self, credentials: &[u8]) -> [u8; 32] {
        let audience = self.audience.as_deref().unwrap_or_default();
        let seconds = self.cache.map_or(u64::MAX, |cache| cache.as_secs());
        digest_of(
            "introspection",
            &[
                self.response.as_str().as_bytes(),
                audience.as_bytes(),
                &seconds.to_be_bytes(),
                credentials,
            ],
        )
    }
}

/// Gives the routes their introspections, and answers what of `written` asks for tokens of their own.
pub(super) fn check_introspections(
    written: Vec<(String, TokenConfig)>,
    routes: &mut [Route],
    providers: &[Provider],
    problems: &mut Problems,
) -> Vec<(String, TokenConfig)> {
    let mut others = Vec::new();
    for (path, mut token) in written {
        let Some(introspection) = token.introspection.take() else {
            others.push((path, token));
            continue;
        };
        let checked = check_introspection(&path, introspection, providers, problems);
        let prefix = RoutePrefix::parse(&path).ok();
        // one that is not there is a problem already
        let route = routes
            .iter_mut()
            .find(|route| Some(&route.prefix) == prefix.as_ref());
        if let (Some(checked), Some(route)) = (checked, route)
            && gets_a_token(&path, route, problems)
        {
            route.introspection = Some(Arc::new(checked));
        }
        if token != TokenConfig::default() {
            others.push((path, token));
        }
    }
    others
}

fn check_introspection(
    path: &str,
    written: IntrospectionConfig,
    providers: &[Provider],
    problems: &mut Problems,
) -> Option<Introspection> {
    let at = ["routes", path, "token", "introspection"];
    let at_key = |key| ["routes", path, "token", "introspection", key];
    let before = problems.0.len();
    let response = match written.response.as_deref() {
        None | Some("jwt") => IntrospectionResponse::Jwt,
        Some("phantom_token") => IntrospectionResponse::PhantomToken,
        Some("json") => IntrospectionResponse::Json,
        Some(_) => {
            problems.add(
                &at_key("response"),
                "expected jwt, phantom_token or json",
                "response: jwt",
            );
            return None;
        }
    };
    match providers {
        [] => problems.add(
            &at,
            "an instance that only forwards API calls asks no provider about their tokens",
            "remove `introspection`, and route such calls to the agent",
        ),
        // the hot path knows no provider's name, and none is asked about another's token
        [_, _, ..] => problems.add(
            &at,
            "with several `providers` a call does not tell whose token it carries, and none is asked about another's",
            "remove `introspection`, or give such routes to an application with one `provider`",
        ),
        [provider] if response.replaces_the_token() && provider.dpop.is_some() => problems.add(
            &at,
            "with `dpop` access tokens are bound to a key, and an API would get another token without one",
            "token: {introspection: {response: json}}",
        ),
        [provider] if response.replaces_the_token() && provider.certificate_bound_access_tokens => {
            problems.add(
                &at,
                "with `certificate_bound_access_tokens` tokens are bound to the certificate, and an API would get \
                 another token that is not",
                "token: {introspection: {response: json}}",
            );
        }
        [_] => {}
    }
    if let [provider] = providers
        && let Some(endpoints) = provider.plain.as_ref().and_then(|plain| plain.endpoints.as_ref())
    {
        if endpoints.introspection.is_none() {
            problems.add(
                &at,
                "the provider's `endpoints` name none that could be asked",
                "endpoints: {introspection: https://login.example.com/introspect}",
            );
        }
        if response.replaces_the_token() {
            problems.add(
                &at_key("response"),
                "a JWT is verified by keys that the provider's metadata name, and with `endpoints` there are none",
                "response: json",
            );
        }
    }
    match written.audience.as_deref() {
        Some(_) if response == IntrospectionResponse::Json => problems.add(
            &at_key("audience"),
            "with `response: json` the API gets the token that the provider issued, and no other",
            "remove `audience`",
        ),
        Some(name) if name.is_empty() || !name.bytes().all(|b| (0x20..0x7f).contains(&b)) => problems.add(
            &at_key("audience"),
            "expected the name of the API as it stands in `aud`",
            "audience: https://api.example.com",
        ),
        Some(_) | None => {}
    }
    if written
        .cache
        .is_some_and(|cache| cache > defaults::MAX_INTROSPECTION_CACHE)
    {
        problems.add(
            &at_key("cache"),
            "whatever is revoked at the provider passes for that long: at most an hour",
            "cache: 60s",
        );
    }
    (problems.0.len() == before).then_some(Introspection {
        response,
        audience: written.audience,
        cache: written.cache,
        whose: providers.first()?.as_demand(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, files, upstream};
    use crate::config::{ApplicationConfig, EndpointsConfig, PlainConfig, RouteConfig, UserConfig};

    const INTROSPECT: &str = "https://login.example.com/introspect";

    fn route(introspection: IntrospectionConfig) -> RouteConfig {
        RouteConfig {
            token: Some(TokenConfig {
                introspection: Some(introspection),
                ..TokenConfig::default()
            }),
            ..upstream("/a", "https://api.example.com", None)
        }
    }

    fn responding(response: &str) -> IntrospectionConfig {
        IntrospectionConfig {
            response: Some(response.to_owned()),
            ..IntrospectionConfig::default()
        }
    }

    fn problems(config: ApplicationConfig) -> Vec<String> {
        match config.check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    #[test]
    fn a_route_says_in_which_form_and_may_have_a_token_of_its_own() {
        for (written, response) in [
            (IntrospectionConfig::default(), IntrospectionResponse::Jwt),
            (responding("jwt"), IntrospectionResponse::Jwt),
            (responding("phantom_token"), IntrospectionResponse::PhantomToken),
            (responding("json"), IntrospectionResponse::Json),
        ] {
            let mut own = route(written.clone());
            own.token.as_mut().expect("a token").audience = Some("orders".to_owned());
            for (route, has_own) in [(route(written), false), (own, true)] {
                let application = checked(ApplicationConfig {
                    routes: vec![route],
                    ..config()
                });
                let [route] = application.routes.as_slice() else {
                    panic!("one route")
                };
                let asked = route.introspection.as_deref().expect("an introspection");
                assert_eq!(asked.response, response);
                assert_eq!(route.token.is_some(), has_own);
                assert_eq!(application.sends_session_token(), !has_own);
            }
        }
    }

    #[test]
    fn what_could_never_pass_is_refused() {
        let whole = "routes./a.token.introspection";
        let with = |written: IntrospectionConfig| ApplicationConfig {
            routes: vec![route(written)],
            ..config()
        };
        let bound = |written| {
            let mut config = with(written);
            config.provider.as_mut().expect("an agent").dpop = Some("ES256".to_owned());
            config
        };
        let audience = |audience: &str, response: &str| IntrospectionConfig {
            audience: Some(audience.to_owned()),
            ..responding(response)
        };
        let cache = |seconds| IntrospectionConfig {
            cache: Some(Duration::from_secs(seconds)),
            ..responding("json")
        };
        let beside = |change: fn(&mut RouteConfig)| {
            let mut config = with(responding("jwt"));
            change(&mut config.routes[0]);
            config
        };
        let at_endpoints = |response, introspection: Option<&str>| {
            let mut config = with(responding(response));
            config.provider.as_mut().expect("an agent").plain = PlainConfig {
                protocol: Some("oauth2".to_owned()),
                endpoints: Some(EndpointsConfig {
                    authorization: "https://login.example.com/authorize".to_owned(),
                    token: "https://login.example.com/token".to_owned(),
                    introspection: introspection.map(str::to_owned),
                    revocation: None,
                }),
                user: Some(UserConfig {
                    subject: Some("none".to_owned()),
                    ..UserConfig::default()
                }),
                ..PlainConfig::default()
            };
            config
        };
        let own = |key: &str| format!("{whole}.{key}");
        for (name, config, places) in [
            ("another word", with(responding("xml")), vec![own("response")]),
            ("bound to a key", bound(responding("jwt")), vec![whole.to_owned()]),
            (
                "bound to a key, by another name",
                bound(responding("phantom_token")),
                vec![whole.to_owned()],
            ),
            ("bound to a key, as it is", bound(responding("json")), vec![]),
            (
                "for somebody, as it is",
                with(audience("orders", "json")),
                vec![own("audience")],
            ),
            ("for nobody", with(audience("", "jwt")), vec![own("audience")]),
            ("no name", with(audience("a\nb", "jwt")), vec![own("audience")]),
            ("an hour", with(cache(3600)), vec![]),
            ("no time at all", with(cache(0)), vec![]),
            ("a long time", with(cache(3601)), vec![own("cache")]),
            (
                "no session",
                beside(|route| route.auth = Some("none".to_owned())),
                vec!["routes./a.token".to_owned()],
            ),
            (
                "a client's token",
                beside(|route| route.auth = Some("bearer".to_owned())),
                vec!["routes./a.token".to_owned()],
            ),
            (
                "files",
                beside(|route| route.target = files("/a", "dist").target),
                vec!["routes./a.token".to_owned()],
            ),
            (
                "several providers",
                {
                    let config = with(responding("json"));
                    let provider = config.provider.clone().expect("an agent");
                    let mut other = provider.clone();
                    "other".clone_into(&mut other.client_id);
                    ApplicationConfig {
                        provider: None,
                        providers: Some(vec![("corp".to_owned(), provider), ("other".to_owned(), other)]),
                        ..config
                    }
                },
                vec![whole.to_owned()],
            ),
            (
                "endpoints without one to ask",
                at_endpoints("json", None),
                vec![whole.to_owned()],
            ),
            (
                "endpoints, and no keys",
                at_endpoints("jwt", Some(INTROSPECT)),
                vec![own("response")],
            ),
            (
                "endpoints, and no keys, by another name",
                at_endpoints("phantom_token", Some(INTROSPECT)),
                vec![own("response")],
            ),
            (
                "endpoints, and no keys needed",
                at_endpoints("json", Some(INTROSPECT)),
                vec![],
            ),
            (
                "no agent",
                ApplicationConfig {
                    provider: None,
                    ..with(responding("json"))
                },
                vec![whole.to_owned()],
            ),
        ] {
            assert_eq!(problems(config), places, "{name}");
        }
    }

    #[test]
    fn an_answer_counts_for_its_token_and_for_what_was_asked() {
        let asked = |response, audience: Option<&str>, cache| Introspection {
            response,
            audience: audience.map(str::to_owned),
            cache,
            whose: Demands::issued_by(None, "https://login.example.com", "shop"),
        };
        let all = [
            asked(IntrospectionResponse::Jwt, None, None),
            asked(IntrospectionResponse::PhantomToken, None, None),
            asked(IntrospectionResponse::Json, None, None),
            asked(IntrospectionResponse::Jwt, Some("a"), None),
            asked(IntrospectionResponse::Jwt, None, Some(Duration::ZERO)),
        ];
        let names: Vec<_> = all
            .iter()
            .flat_map(|asked| [asked.name_of(b"Bearer a"), asked.name_of(b"Bearer b")])
            .collect();
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name), "{index}");
        }
    }
}
