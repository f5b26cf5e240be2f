//! Checks of the settings for what one provider does and others don't.
//!
//! Each is a named difference from the specifications, with the narrowest effect that makes the
//! provider usable; docs/providers.md says who has which. Nothing here looks at a provider's name.

use std::time::Duration;

use url::Url;

use super::addresses::is_plain;
use super::check::{Insecure, Problems};
use super::preset::{Filled, Preset};
use super::tenants::{self, Tenants, is_tenant};
use super::{Provider, SessionLimits};
use crate::oauth::authorization::is_protocol_parameter;

/// A provider's habits as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HabitsConfig {
    /// Fills in what a provider of this kind commonly needs.
    pub preset: Option<String>,
    /// Where the metadata document is, if not below the issuer. Its `issuer` still must be the issuer.
    pub discovery: Option<String>,
    /// The tenants behind an issuer of many that may sign in.
    pub allowed_tenants: Vec<String>,
    /// Lets every tenant sign in: anybody can have one.
    pub danger_any_tenant: bool,
    /// Where sign-out goes on; default: `end_session_endpoint` of the metadata.
    pub logout_endpoint: Option<String>,
    /// The parameter that says where sign-out ends; default `post_logout_redirect_uri`.
    pub logout_return_parameter: Option<String>,
    /// Whether the ID token of a refresh may have another `auth_time`; default no.
    pub auth_time_may_change: Option<bool>,
    /// Whether a front-channel logout may lack `iss`; default no.
    pub frontchannel_logout_without_iss: Option<bool>,
}

/// A provider's habits, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    /// The preset, and what it filled in.
    pub preset: Option<(&'static Preset, Vec<Filled>)>,
    /// Where the metadata document is; none: below the issuer.
    pub discovery: Option<Url>,
    /// The tenants, where the issuer stands for many.
    pub tenants: Option<Tenants>,
    /// Where sign-out goes on; none: where the metadata says.
    pub logout_endpoint: Option<Url>,
    /// How sign-out says where it ends.
    pub logout_return: LogoutReturn,
    /// Whether the ID token of a refresh may have another `auth_time`: it then says nothing of how and
    /// when this session's user signed in.
    pub auth_time_may_change: bool,
    /// Whether a front-channel logout may lack `iss`.
    pub frontchannel_logout_without_iss: bool,
    /// What a preset says of access tokens without `expires_in`: see [`Provider::token_life`].
    pub token_life: Option<Duration>,
}

impl Provider {
    /// How long an access token of this provider is good that says nothing of it.
    pub fn token_life(&self, session: &SessionLimits) -> Duration {
        self.habits.token_life.unwrap_or(session.default_token_life)
    }
}

/// How sign-out says where it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogoutReturn {
    /// As OpenID Connect RP-Initiated Logout 1.0 §2 says: with `post_logout_redirect_uri`, the ID token
    /// and `state`.
    #[default]
    Standard,
    /// With this parameter and `client_id` alone, as logout pages do that are older than that: neither
    /// the ID token nor `state` is sent, and no `state` comes back.
    Parameter(String),
}

pub(super) fn check_habits(
    written: HabitsConfig,
    preset: Option<(&'static Preset, Vec<Filled>)>,
    issuer: &str,
    problems: &mut Problems,
) -> Habits {
    Habits {
        preset,
        discovery: address(written.discovery, "discovery", problems),
        tenants: check_tenants(
            &written.allowed_tenants,
            written.danger_any_tenant,
            issuer,
            problems,
        ),
        logout_endpoint: address(written.logout_endpoint, "logout_endpoint", problems),
        logout_return: check_return(written.logout_return_parameter, problems),
        auth_time_may_change: written.auth_time_may_change.unwrap_or_default(),
        frontchannel_logout_without_iss: written.frontchannel_logout_without_iss.unwrap_or_default(),
        token_life: None,
    }
}

/// The preset of that name.
pub(super) fn check_preset(name: Option<&str>, problems: &mut Problems) -> Option<&'static Preset> {
    let found = Preset::named(name?);
    if found.is_none() {
        let names: Vec<_> = Preset::names().collect();
        problems.add(
            &["provider", "preset"],
            format!("expected one of {}", names.join(", ")),
            "remove it: without a preset nothing is filled in",
        );
    }
    found
}

fn address(written: Option<String>, name: &str, problems: &mut Problems) -> Option<Url> {
    let text = written?;
    let url = Url::parse(&text).ok().filter(|url| {
        let mut plain = url.clone();
        // some have a query of their own
        plain.set_query(None);
        is_plain(&plain) && Insecure(false).allows(url)
    });
    if url.is_none() {
        problems.add(
            &["provider", name],
            "expected an https URL (http on loopback) without user and fragment",
            match name {
                "discovery" => "discovery: https://login.example.com/.well-known/openid-configuration",
                _ => "logout: {endpoint: https://login.example.com/logout}",
            },
        );
    }
    url
}

fn check_tenants(
    allowed: &[String],
    danger_any_tenant: bool,
    issuer: &str,
    problems: &mut Problems,
) -> Option<Tenants> {
    let at = ["provider", "allowed_tenants"];
    if issuer.contains('{') {
        problems.add(
            &["provider", "issuer"],
            "a placeholder is no issuer: name the tenants, and write what stands for all of them",
            "issuer: https://login.microsoftonline.com/organizations/v2.0",
        );
        return None;
    }
    if allowed.is_empty() && !danger_any_tenant {
        if tenants::stands_for_tenants(issuer) {
            problems.add(
                &["provider", "issuer"],
                "this issuer stands for every tenant there is, and anybody can have one: say which may sign in",
                "allowed_tenants: [8eaef023-2b34-4da1-9baa-8bc8c9d6a490]",
            );
        }
        return None;
    }
    if !allowed.is_empty() && danger_any_tenant {
        problems.add(
            &["provider", "danger_any_tenant"],
            "with `danger_any_tenant` the list of `allowed_tenants` means nothing",
            "remove one of them",
        );
    }
    let mut tenants: Vec<String> = Vec::new();
    for (index, tenant) in allowed.iter().enumerate() {
        let tenant = tenant.to_ascii_lowercase();
        let number = index.to_string();
        let at = [at[0], at[1], number.as_str()];
        if !is_tenant(&tenant) {
            problems.add(
                &at,
                "expected a tenant's id, a GUID: a name can be given to another tenant",
                "allowed_tenants: [8eaef023-2b34-4da1-9baa-8bc8c9d6a490]",
            );
        } else if tenants.contains(&tenant) {
            problems.add(&at, "the tenant is there twice", "remove one of them");
        } else {
            tenants.push(tenant);
        }
    }
    let found = Tenants::behind(issuer, (!danger_any_tenant).then_some(tenants));
    if found.is_none() {
        problems.add(
            if danger_any_tenant {
                &["provider", "danger_any_tenant"]
            } else {
                &at
            },
            "tenants belong to an issuer that stands for many; this one stands for itself",
            "issuer: https://login.microsoftonline.com/organizations/v2.0",
        );
    }
    found
}

fn check_return(written: Option<String>, problems: &mut Problems) -> LogoutReturn {
    let Some(name) = written else {
        return LogoutReturn::Standard;
    };
    let is_name = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if name == "post_logout_redirect_uri" {
        return LogoutReturn::Standard;
    }
    if !is_name || is_protocol_parameter(&name) || name == "id_token_hint" {
        problems.add(
            &["provider", "logout_return_parameter"],
            "expected the parameter that says where sign-out ends",
            "logout: {return_parameter: logout_uri}",
        );
    }
    LogoutReturn::Parameter(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config};

    const TENANT: &str = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490";
    const ISSUER: &str = "https://login.microsoftonline.com/organizations/v2.0";

    fn places(issuer: &str, habits: HabitsConfig) -> Vec<String> {
        let mut config = config();
        let provider = config.provider.as_mut().expect("an agent");
        provider.issuer = issuer.to_owned();
        provider.habits = habits;
        match config.check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    fn tenants(allowed: &[&str]) -> HabitsConfig {
        HabitsConfig {
            allowed_tenants: allowed.iter().map(|&tenant| tenant.to_owned()).collect(),
            ..HabitsConfig::default()
        }
    }

    #[test]
    fn an_issuer_of_many_tenants_says_which_may_sign_in() {
        let any = HabitsConfig {
            danger_any_tenant: true,
            ..HabitsConfig::default()
        };
        let both = HabitsConfig {
            danger_any_tenant: true,
            ..tenants(&[TENANT])
        };
        let upper = TENANT.to_uppercase();
        let single = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        for (name, issuer, habits, expected) in [
            (
                "nothing said",
                ISSUER,
                HabitsConfig::default(),
                &["provider.issuer"][..],
            ),
            ("one", ISSUER, tenants(&[TENANT]), &[]),
            ("in upper case", ISSUER, tenants(&[&upper]), &[]),
            ("all", ISSUER, any.clone(), &[]),
            ("both", ISSUER, both, &["provider.danger_any_tenant"]),
            (
                "twice",
                ISSUER,
                tenants(&[TENANT, &upper]),
                &["provider.allowed_tenants.1"],
            ),
            (
                "a domain, which may change hands",
                ISSUER,
                tenants(&["contoso.onmicrosoft.com"]),
                &["provider.allowed_tenants.0"],
            ),
            (
                "the template itself",
                "https://login.microsoftonline.com/{tenantid}/v2.0",
                tenants(&[TENANT]),
                &["provider.issuer"],
            ),
            ("one tenant's issuer", &single, HabitsConfig::default(), &[]),
            (
                "and a list",
                &single,
                tenants(&[TENANT]),
                &["provider.allowed_tenants"],
            ),
            ("and all", &single, any, &["provider.danger_any_tenant"]),
            (
                "a realm of that name",
                "https://sso.example.com/realms/common",
                HabitsConfig::default(),
                &[],
            ),
        ] {
            assert_eq!(places(issuer, habits), expected, "{name}");
        }
    }

    #[test]
    fn addresses_are_https_or_on_loopback() {
        for (address, good) in [
            ("https://shop.auth.eu-central-1.amazoncognito.com/logout", true),
            ("https://login.example.com/logout?federated", true),
            ("http://127.0.0.1:8080/logout", true),
            ("http://login.example.com/logout", false),
            ("https://u:p@login.example.com/logout", false),
            ("https://login.example.com/logout#x", false),
            ("javascript:alert(1)", false),
            ("/logout", false),
        ] {
            for (place, habits) in [
                (
                    "provider.logout_endpoint",
                    HabitsConfig {
                        logout_endpoint: Some(address.to_owned()),
                        ..HabitsConfig::default()
                    },
                ),
                (
                    "provider.discovery",
                    HabitsConfig {
                        discovery: Some(address.to_owned()),
                        ..HabitsConfig::default()
                    },
                ),
            ] {
                let expected: &[&str] = if good { &[] } else { &[place] };
                assert_eq!(places("https://login.example.com", habits), expected, "{address}");
            }
        }
    }

    #[test]
    fn the_return_parameter_is_a_name_that_nobody_else_uses() {
        for (name, good) in [
            ("logout_uri", true),
            ("returnTo", true),
            ("post_logout_redirect_uri", true),
            ("", false),
            ("a b", false),
            ("client_id", false),
            ("state", false),
            ("id_token_hint", false),
        ] {
            let habits = HabitsConfig {
                logout_return_parameter: Some(name.to_owned()),
                ..HabitsConfig::default()
            };
            let expected: &[&str] = if good {
                &[]
            } else {
                &["provider.logout_return_parameter"]
            };
            assert_eq!(places("https://login.example.com", habits), expected, "{name}");
        }
        let mut standard = config();
        let provider = standard.provider.as_mut().expect("an agent");
        provider.habits.logout_return_parameter = Some("post_logout_redirect_uri".to_owned());
        let provider = checked(standard).provider.expect("an agent");
        assert_eq!(provider.habits.logout_return, LogoutReturn::Standard);
    }

    #[test]
    fn an_unknown_preset_is_refused() {
        let habits = HabitsConfig {
            preset: Some("azure".to_owned()),
            ..HabitsConfig::default()
        };
        assert_eq!(places("https://login.example.com", habits), ["provider.preset"]);
    }
}
