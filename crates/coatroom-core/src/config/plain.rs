//! Checks of the settings of a provider without ID tokens: an authorization server of plain OAuth 2.0
//! (RFC 6749), such as GitHub.
//!
//! What such a provider cannot do is refused where it is written: nothing here makes up for an ID token.
//! Who the user is comes from one endpoint that is asked with the access token, or is said to be of no
//! interest; neither is a default. Nothing here asks anybody.

use url::Url;

use super::addresses::is_plain;
use super::check::{Insecure, Problems};
use super::{Profile, ProviderConfig, RouteConfig};
use crate::assurance::DemandsConfig;

/// A provider without ID tokens, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainConfig {
    /// `openid` (default) or `oauth2`: whether there are ID tokens.
    pub protocol: Option<String>,
    /// The endpoints of a provider without metadata; default: its metadata (RFC 8414) name them.
    pub endpoints: Option<EndpointsConfig>,
    /// How it is known who the user is.
    pub user: Option<UserConfig>,
    /// Whether the token endpoint refuses with status 200 (RFC 6749 §5.2 has 400); default no.
    pub token_errors_with_200: Option<bool>,
    /// Whether granted scopes stand between commas (RFC 6749 §3.3 has blanks); default no.
    pub scopes_with_commas: Option<bool>,
}

/// The endpoints of a provider without metadata, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointsConfig {
    /// Where users sign in (RFC 6749 §3.1).
    pub authorization: String,
    /// Where codes and refresh tokens are redeemed (RFC 6749 §3.2).
    pub token: String,
    /// Where tokens are revoked (RFC 7009), if the provider has it.
    pub revocation: Option<String>,
    /// Where tokens are introspected (RFC 7662), if the provider has it.
    pub introspection: Option<String>,
}

/// How it is known who the user is, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserConfig {
    /// What answers who the user of an access token is; default: the metadata's `userinfo_endpoint`.
    pub endpoint: Option<String>,
    /// The member of its answer that names the user, or `none`: then nobody asks.
    pub subject: Option<String>,
    /// Whether it is asked at each refresh again: `always` (default) or `never`.
    pub at_refresh: Option<String>,
}

/// A provider without ID tokens, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Its endpoints; none: its metadata name them.
    pub endpoints: Option<Endpoints>,
    /// How it is known who the user is.
    pub user: User,
    /// Whether the token endpoint refuses with status 200.
    pub token_errors_with_200: bool,
    /// Whether granted scopes stand between commas.
    pub scopes_with_commas: bool,
}

impl Plain {
    /// Whether a refresh asks who the user is.
    pub(crate) fn asks_at_refresh(&self) -> bool {
        match self.user {
            User::Asked { at_refresh, .. } => at_refresh,
            User::Nobody => false,
        }
    }
}

/// The endpoints of a provider without metadata, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Where users sign in.
    pub authorization: Url,
    /// Where codes and refresh tokens are redeemed.
    pub token: Url,
    /// Where tokens are revoked.
    pub revocation: Option<Url>,
    /// Where tokens are introspected.
    pub introspection: Option<Url>,
}

/// How it is known who the user is, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// Not at all: whoever has a session may use it, and nobody knows who that is.
    Nobody,
    /// An endpoint is asked, with the access token.
    Asked {
        /// Which one; none: the metadata's `userinfo_endpoint`.
        endpoint: Option<Url>,
        /// The member of its answer that names the user.
        subject: String,
        /// Whether it is asked at each refresh again.
        at_refresh: bool,
    },
}

/// What is written of a provider without ID tokens; none where it is an OpenID Provider.
pub(super) fn check_plain(
    written: &ProviderConfig,
    profile: Profile,
    problems: &mut Problems,
) -> Option<Plain> {
    let plain = &written.plain;
    match plain.protocol.as_deref() {
        Some("oauth2") => {}
        None | Some("openid") => {
            refuse_elsewhere(plain, problems);
            return None;
        }
        Some(_) => {
            problems.add(
                &["provider", "protocol"],
                "expected openid or oauth2",
                "protocol: oauth2",
            );
            return None;
        }
    }
    refuse_what_needs_an_id_token(written, problems);
    let issuer = written.issuer.as_str();
    let endpoints = plain
        .endpoints
        .as_ref()
        .map(|endpoints| check_endpoints(endpoints, issuer, problems));
    if endpoints.is_some() {
        refuse_what_needs_metadata(written, profile, problems);
    }
    let user = check_user(plain, issuer, problems);
    Some(Plain {
        endpoints: endpoints.flatten(),
        user: user?,
        token_errors_with_200: plain.token_errors_with_200.unwrap_or_default(),
        scopes_with_commas: plain.scopes_with_commas.unwrap_or_default(),
    })
}

/// Demands that only an ID token can meet.
pub(super) fn check_demands(routes: &[RouteConfig], problems: &mut Problems) {
    for RouteConfig { path, require, .. } in routes {
        let Some(DemandsConfig { acr, max_age, .. }) = require else {
            continue;
        };
        for (name, is_there) in [("acr", !acr.is_empty()), ("max_age", max_age.is_some())] {
            if is_there {
                problems.add(
                    &["routes", path, "require", name],
                    "only an ID token says how and when the user authenticated, and `protocol: oauth2` has none",
                    "demand `scopes` or `claims`, or sign in at an OpenID Provider",
                );
            }
        }
    }
}

fn refuse_elsewhere(plain: &PlainConfig, problems: &mut Problems) {
    for (name, is_there) in [
        ("endpoints", plain.endpoints.is_some()),
        ("user", plain.user.is_some()),
        ("token_errors_with_200", plain.token_errors_with_200.is_some()),
        ("scopes_with_commas", plain.scopes_with_commas.is_some()),
    ] {
        if is_there {
            problems.add(
                &["provider", name],
                "this is for providers without ID tokens: an OpenID Provider says it in its metadata and ID tokens",
                "write `protocol: oauth2`, or remove it",
            );
        }
    }
}

/// What an ID token is needed for, or who has none has nothing to say of.
fn refuse_what_needs_an_id_token(written: &ProviderConfig, problems: &mut Problems) {
    let habits = &written.habits;
    let authorization = &written.authorization;
    let return_parameter = habits.logout_return_parameter.as_deref();
    let is_standard = return_parameter.is_none_or(|name| name == "post_logout_redirect_uri");
    for (at, is_there, hint) in [
        (
            &["provider", "userinfo"][..],
            written
                .userinfo
                .as_deref()
                .is_some_and(|written| written != "never"),
            "user: {endpoint: https://api.example.com/user, subject: id}",
        ),
        (
            &["provider", "id_token_decryption_keys"],
            !written.id_token_decryption_keys.is_empty(),
            "remove `id_token_decryption_keys`",
        ),
        (
            &["provider", "claims"],
            authorization.claims.is_some(),
            "remove `claims`: which claims there are, `user.endpoint` decides",
        ),
        (
            &["provider", "allowed_tenants"],
            !habits.allowed_tenants.is_empty() || habits.danger_any_tenant,
            "remove it: whose tenant a user is of, only an ID token says",
        ),
        (
            &["provider", "auth_time_may_change"],
            habits.auth_time_may_change == Some(true),
            "remove `auth_time_may_change`",
        ),
        (
            &["provider", "frontchannel_logout_without_iss"],
            habits.frontchannel_logout_without_iss == Some(true),
            "remove `frontchannel_logout_without_iss`",
        ),
        (
            &["provider", "logout_token_without_exp"],
            written.logout_token_without_exp,
            "remove `logout_token_without_exp`",
        ),
        (
            &["provider", "logout_endpoint"],
            habits.logout_endpoint.is_some() && is_standard,
            "remove it, or name the parameter of a logout page: `logout: {endpoint: …, return_parameter: next}`",
        ),
    ] {
        if is_there {
            problems.add(
                at,
                "without ID tokens (`protocol: oauth2`) this means nothing",
                hint,
            );
        }
    }
    for name in ["acr_values", "max_age", "id_token_hint"] {
        let fixed = written.authorization_parameters.iter();
        let open = written.allowed_parameters.iter();
        let places = fixed
            .map(|(fixed, _)| fixed)
            .filter(|fixed| *fixed == name)
            .map(|_| ["provider", "authorization_parameters", name].to_vec())
            .chain(
                open.filter(|open| *open == name)
                    .map(|_| ["provider", "allowed_parameters"].to_vec()),
            );
        for at in places {
            problems.add(
                &at,
                format!(
                    "`{name}` belongs to OpenID Connect: without an ID token nobody learns what came of it"
                ),
                "remove it",
            );
        }
    }
}

fn refuse_what_needs_metadata(written: &ProviderConfig, profile: Profile, problems: &mut Problems) {
    let authorization = &written.authorization;
    let is_signed = authorization
        .response_mode
        .as_deref()
        .is_some_and(|mode| mode.ends_with("jwt"));
    let is_pushed = authorization.pushed_authorization_requests.as_deref() == Some("required");
    for (name, is_there) in [
        ("discovery", written.habits.discovery.is_some()),
        // what a profile fills in is one problem, not three
        ("profile", profile.is_fapi2()),
        ("response_mode", is_signed && !profile.is_fapi2()),
        ("pushed_authorization_requests", is_pushed && !profile.is_fapi2()),
    ] {
        if is_there {
            problems.add(
                &["provider", name],
                "this needs the provider's metadata (RFC 8414), and with `endpoints` none are fetched",
                "remove one of the two",
            );
        }
    }
    // a signed answer is the same as is said above
    if authorization.require_iss && !is_signed && !profile.is_fapi2() {
        problems.add(
            &["provider", "require_iss"],
            "only the provider's metadata (RFC 8414) say that answers have `iss`, and with `endpoints` none are \
             fetched: no sign-in would begin",
            "remove `require_iss`; several providers that return to one page need it, so remove `login.callback`, too",
        );
    }
}

fn check_endpoints(written: &EndpointsConfig, issuer: &str, problems: &mut Problems) -> Option<Endpoints> {
    let mut check = |name: &str, text: &str| {
        let hint = format!("endpoints: {{{name}: https://login.example.com/{name}}}");
        address(text, issuer, &["provider", "endpoints", name], &hint, problems)
    };
    let authorization = check("authorization", &written.authorization);
    let token = check("token", &written.token);
    let mut optional = |name, text: &Option<String>| text.as_deref().map(|text| check(name, text));
    let revocation = optional("revocation", &written.revocation);
    let introspection = optional("introspection", &written.introspection);
    Some(Endpoints {
        authorization: authorization?,
        token: token?,
        revocation: revocation.flatten(),
        introspection: introspection.flatten(),
    })
}

fn check_user(plain: &PlainConfig, issuer: &str, problems: &mut Problems) -> Option<User> {
    let written = plain.user.clone().unwrap_or_default();
    let at_refresh = match written.at_refresh.as_deref() {
        None | Some("always") => true,
        Some("never") => false,
        Some(_) => {
            problems.add(
                &["provider", "user", "at_refresh"],
                "expected always or never",
                "at_refresh: always",
            );
            true
        }
    };
    let endpoint = written.endpoint.as_deref().and_then(|text| {
        let at = ["provider", "user", "endpoint"];
        address(
            text,
            issuer,
            &at,
            "endpoint: https://api.example.com/user",
            problems,
        )
    });
    let example = "user: {endpoint: https://api.example.com/user, subject: id}";
    match written.subject.as_deref() {
        Some("none") => {
            if written.endpoint.is_some() || written.at_refresh.is_some() {
                problems.add(
                    &["provider", "user"],
                    "with `subject: none` nobody asks who the user is",
                    "user: {subject: none}",
                );
            }
            Some(User::Nobody)
        }
        Some(subject) if !subject.is_empty() && !subject.chars().any(char::is_control) => {
            if plain.endpoints.is_some() && written.endpoint.is_none() {
                problems.add(
                    &["provider", "user"],
                    "`endpoint` is missing, and with `endpoints` no metadata name it",
                    example,
                );
            }
            Some(User::Asked {
                endpoint,
                subject: subject.to_owned(),
                at_refresh,
            })
        }
        Some(_) => {
            problems.add(
                &["provider", "user", "subject"],
                "expected the name of the member that names the user, or none",
                example,
            );
            None
        }
        None => {
            problems.add(
                &["provider", "user"],
                "without ID tokens it has to be said how to know who the user is: by which member of which answer \
                 (`subject`), or not at all (`subject: none`)",
                example,
            );
            None
        }
    }
}

/// An endpoint, held to what metadata are held to.
fn address(text: &str, issuer: &str, at: &[&str], hint: &str, problems: &mut Problems) -> Option<Url> {
    let is_local = issuer.starts_with("http://");
    let url = Url::parse(text).ok().filter(|url| {
        let mut bare = url.clone();
        bare.set_query(None);
        let graphic = text.len() <= 2048 && text.bytes().all(|b| b.is_ascii_graphic());
        let is_safe = url.scheme() == "https" || (is_local && Insecure(false).allows(url));
        graphic && is_plain(&bare) && is_safe
    });
    if url.is_none() {
        problems.add(
            at,
            "expected an https URL (http on loopback, with an issuer there) without user and fragment",
            hint,
        );
    }
    url
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::ApplicationConfig;
    use crate::config::testing::config;

    /// One that passes.
    fn good() -> ApplicationConfig {
        let mut config = config();
        let provider = config.provider.as_mut().expect("an agent");
        provider.plain = PlainConfig {
            protocol: Some("oauth2".to_owned()),
            endpoints: Some(EndpointsConfig {
                authorization: "https://login.example.com/authorize".to_owned(),
                token: "https://login.example.com/token".to_owned(),
                ..EndpointsConfig::default()
            }),
            user: Some(UserConfig {
                endpoint: Some("https://api.example.com/user".to_owned()),
                subject: Some("id".to_owned()),
                at_refresh: None,
            }),
            ..PlainConfig::default()
        };
        config
    }

    type Change = fn(&mut ProviderConfig);

    fn places(change: Change) -> Vec<String> {
        let mut config = good();
        change(config.provider.as_mut().expect("an agent"));
        match config.check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    fn endpoints(provider: &mut ProviderConfig) -> &mut EndpointsConfig {
        provider.plain.endpoints.as_mut().expect("there are some")
    }

    fn user(provider: &mut ProviderConfig) -> &mut UserConfig {
        provider.plain.user.as_mut().expect("there is one")
    }

    #[test]
    fn what_cannot_work_without_id_tokens_is_refused_where_it_is_written() {
        let cases: &[(&str, Change, &[&str])] = &[
            ("good", |_| {}, &[]),
            ("scopes", |p| p.scopes = Some(vec!["read:user".to_owned()]), &[]),
            (
                "openid",
                |p| p.scopes = Some(vec!["openid".to_owned()]),
                &["provider.scopes"],
            ),
            (
                "another protocol",
                |p| p.plain.protocol = Some("saml".to_owned()),
                &["provider.protocol"],
            ),
            (
                "an OpenID Provider with all this",
                |p| p.plain.protocol = None,
                &["provider.endpoints", "provider.user"],
            ),
            (
                "an OpenID Provider with habits of others",
                |p| {
                    p.plain = PlainConfig {
                        token_errors_with_200: Some(true),
                        scopes_with_commas: Some(true),
                        ..PlainConfig::default()
                    };
                },
                &["provider.token_errors_with_200", "provider.scopes_with_commas"],
            ),
            ("nobody said who", |p| p.plain.user = None, &["provider.user"]),
            ("no subject", |p| user(p).subject = None, &["provider.user"]),
            (
                "an empty subject",
                |p| user(p).subject = Some(String::new()),
                &["provider.user.subject"],
            ),
            ("no endpoint", |p| user(p).endpoint = None, &["provider.user"]),
            (
                "the metadata's endpoint",
                |p| {
                    user(p).endpoint = None;
                    p.plain.endpoints = None;
                },
                &[],
            ),
            (
                "nobody",
                |p| {
                    p.plain.user = Some(UserConfig {
                        subject: Some("none".to_owned()),
                        ..UserConfig::default()
                    });
                },
                &[],
            ),
            (
                "nobody, and asked all the same",
                |p| user(p).subject = Some("none".to_owned()),
                &["provider.user"],
            ),
            (
                "at a refresh",
                |p| user(p).at_refresh = Some("never".to_owned()),
                &[],
            ),
            (
                "at a refresh, sometimes",
                |p| user(p).at_refresh = Some("sometimes".to_owned()),
                &["provider.user.at_refresh"],
            ),
            (
                "plain http",
                |p| endpoints(p).token = "http://login.example.com/token".to_owned(),
                &["provider.endpoints.token"],
            ),
            (
                "on loopback, but not the issuer",
                |p| endpoints(p).token = "http://127.0.0.1/token".to_owned(),
                &["provider.endpoints.token"],
            ),
            (
                "a fragment",
                |p| endpoints(p).authorization = "https://login.example.com/#a".to_owned(),
                &["provider.endpoints.authorization"],
            ),
            (
                "a blank",
                |p| endpoints(p).revocation = Some(" https://login.example.com/r".to_owned()),
                &["provider.endpoints.revocation"],
            ),
            (
                "a user name",
                |p| user(p).endpoint = Some("https://a:b@api.example.com/".to_owned()),
                &["provider.user.endpoint"],
            ),
            (
                "userinfo",
                |p| p.userinfo = Some("always".to_owned()),
                &["provider.userinfo"],
            ),
            (
                "habits of ID tokens",
                |p| {
                    p.habits.auth_time_may_change = Some(true);
                    p.habits.frontchannel_logout_without_iss = Some(true);
                    p.logout_token_without_exp = true;
                },
                &[
                    "provider.auth_time_may_change",
                    "provider.frontchannel_logout_without_iss",
                    "provider.logout_token_without_exp",
                ],
            ),
            (
                "a logout endpoint that takes an ID token",
                |p| p.habits.logout_endpoint = Some("https://login.example.com/out".to_owned()),
                &["provider.logout_endpoint"],
            ),
            (
                "a logout page",
                |p| {
                    p.habits.logout_endpoint = Some("https://login.example.com/out".to_owned());
                    p.habits.logout_return_parameter = Some("next".to_owned());
                },
                &[],
            ),
            (
                "parameters of OpenID Connect",
                |p| {
                    p.authorization_parameters = vec![("max_age".to_owned(), "60".to_owned())];
                    p.allowed_parameters = vec!["acr_values".to_owned()];
                },
                &[
                    "provider.allowed_parameters",
                    "provider.authorization_parameters.max_age",
                ],
            ),
            (
                "claims",
                |p| p.authorization.claims = Some(serde_json::json!({"id_token": {"acr": null}})),
                &["provider.claims"],
            ),
            (
                "signed answers without keys",
                |p| p.authorization.response_mode = Some("jwt".to_owned()),
                &["provider.response_mode"],
            ),
            (
                "metadata, and none",
                |p| p.habits.discovery = Some("https://login.example.com/metadata".to_owned()),
                &["provider.discovery"],
            ),
            (
                "answers of which nobody knows that they say whose they are",
                |p| p.authorization.require_iss = true,
                &["provider.require_iss"],
            ),
            (
                "the same, signed",
                |p| {
                    p.authorization.require_iss = true;
                    p.authorization.response_mode = Some("jwt".to_owned());
                },
                &["provider.response_mode"],
            ),
            (
                "pushed to nowhere",
                |p| p.authorization.pushed_authorization_requests = Some("required".to_owned()),
                &["provider.pushed_authorization_requests"],
            ),
        ];
        for (name, change, expected) in cases {
            let mut found = places(*change);
            found.sort();
            let mut expected: Vec<String> = expected.iter().map(|&place| place.to_owned()).collect();
            expected.sort();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_route_demands_scopes_and_claims_and_nothing_that_an_id_token_says() {
        let mut config = good();
        for route in &mut config.routes {
            route.require = Some(DemandsConfig {
                acr: vec!["gold".to_owned()],
                max_age: Some(Duration::from_secs(60)),
                scopes: vec!["repo".to_owned()],
                claims: vec![("role".to_owned(), vec!["admin".to_owned()])],
            });
        }
        config.routes.truncate(1);
        let problems = config.clone().check().err().expect("two problems");
        let places: Vec<String> = problems.iter().map(|problem| problem.at.join(".")).collect();
        assert_eq!(
            places,
            ["routes./api/.require.acr", "routes./api/.require.max_age"]
        );
        let demands = config.routes[0].require.as_mut().expect("just set");
        demands.acr.clear();
        demands.max_age = None;
        assert!(config.check().is_ok());
    }
}
