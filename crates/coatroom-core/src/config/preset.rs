//! Presets: what a provider of that kind commonly needs, as one table.
//!
//! A preset fills settings that were not written and changes none that was. Nothing looks at a
//! provider's name afterwards: whatever a preset does, a setting does. `coatroom check` lists what one
//! filled in, and docs/providers.md has the reasons with their sources. A preset never weakens a check
//! whose failing lets somebody else in.

use super::{ClientAuthConfig, EndpointsConfig, Provider, ProviderConfig, SessionConfig, defaults};

/// What one kind of provider commonly needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// How it is written.
    pub name: &'static str,
    scopes: &'static [&'static str],
    parameters: &'static [(&'static str, &'static str)],
    allowed_parameters: &'static [&'static str],
    /// `logout.return_parameter`.
    logout_return_parameter: Option<&'static str>,
    /// `auth_time_may_change`.
    auth_time_may_change: bool,
    /// `frontchannel_logout_without_iss`.
    frontchannel_logout_without_iss: bool,
    /// A fixed parameter without which the access token is of no use to an API, and what it is here.
    pub wants_parameter: Option<(&'static str, &'static str)>,
    /// What it does in place of OpenID Connect.
    plain: Option<PlainPreset>,
}

/// What a kind of provider without ID tokens commonly needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PlainPreset {
    /// `endpoints`, below the issuer.
    authorization: &'static str,
    token: &'static str,
    /// `user.endpoint`, for the issuer that everybody means; who runs a server of their own writes it.
    user: (&'static str, &'static str),
    /// `user.subject`.
    subject: &'static str,
    /// `client_auth`.
    client_auth: &'static str,
}

/// A setting that a preset filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The setting, by the name that the configuration file has for it.
    pub setting: &'static str,
    /// Its value, as text.
    pub value: String,
}

impl Preset {
    /// The preset of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|preset| preset.name)
    }

    /// Fills in what is not written, and says what that was.
    pub(super) fn fill(&self, written: &mut ProviderConfig) -> Vec<Filled> {
        let mut filled = Vec::new();
        let mut note = |setting, value: String| filled.push(Filled { setting, value });
        if written.scopes.is_none() && !self.scopes.is_empty() {
            note("scopes", self.scopes.join(" "));
            written.scopes = Some(self.scopes.iter().map(|&scope| scope.to_owned()).collect());
        }
        if written.authorization_parameters.is_empty() {
            // what the SPA is to choose is not fixed
            let is_open = |name: &str| written.allowed_parameters.iter().any(|open| open == name);
            let parameters = self.parameters.iter().filter(|(name, _)| !is_open(name));
            let fixed: Vec<(String, String)> = parameters
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            if !fixed.is_empty() {
                let texts: Vec<String> = fixed
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                note("parameters", texts.join(" "));
            }
            written.authorization_parameters = fixed;
        }
        if written.allowed_parameters.is_empty() {
            let fixed = &written.authorization_parameters;
            let is_fixed = |name: &str| fixed.iter().any(|(fixed, _)| fixed == name);
            let allowed = self.allowed_parameters.iter().filter(|name| !is_fixed(name));
            let allowed: Vec<String> = allowed.map(|&name| name.to_owned()).collect();
            if !allowed.is_empty() {
                note("allowed_parameters", allowed.join(" "));
            }
            written.allowed_parameters = allowed;
        }
        let habits = &mut written.habits;
        if let (None, Some(parameter)) = (&habits.logout_return_parameter, self.logout_return_parameter) {
            note("logout.return_parameter", parameter.to_owned());
            habits.logout_return_parameter = Some(parameter.to_owned());
        }
        for (setting, place, value) in [
            (
                "auth_time_may_change",
                &mut habits.auth_time_may_change,
                self.auth_time_may_change,
            ),
            (
                "frontchannel_logout_without_iss",
                &mut habits.frontchannel_logout_without_iss,
                self.frontchannel_logout_without_iss,
            ),
        ] {
            if place.is_none() && value {
                note(setting, "true".to_owned());
                *place = Some(true);
            }
        }
        if let Some(plain) = &self.plain {
            plain.fill(written, &mut filled);
        }
        filled
    }
}

impl PlainPreset {
    fn fill(&self, written: &mut ProviderConfig, filled: &mut Vec<Filled>) {
        let mut note = |setting, value: &str| {
            filled.push(Filled {
                setting,
                value: value.to_owned(),
            });
        };
        let plain = &mut written.plain;
        if plain.protocol.is_none() {
            note("protocol", "oauth2");
            plain.protocol = Some("oauth2".to_owned());
        }
        let below = |path| format!("{}{path}", written.issuer.trim_end_matches('/'));
        if plain.endpoints.is_none() && written.habits.discovery.is_none() {
            let endpoints = EndpointsConfig {
                authorization: below(self.authorization),
                token: below(self.token),
                ..EndpointsConfig::default()
            };
            note("endpoints.authorization", &endpoints.authorization);
            note("endpoints.token", &endpoints.token);
            plain.endpoints = Some(endpoints);
        }
        let user = plain.user.get_or_insert_default();
        if user.subject.is_none() {
            note("user.subject", self.subject);
            user.subject = Some(self.subject.to_owned());
        }
        let is_asked = user.subject.as_deref() != Some("none");
        if is_asked && user.endpoint.is_none() && written.issuer == self.user.0 {
            note("user.endpoint", self.user.1);
            user.endpoint = Some(self.user.1.to_owned());
        }
        if matches!(written.client_auth, ClientAuthConfig::FromMetadata) {
            note("client_auth", self.client_auth);
            written.client_auth =
                ClientAuthConfig::ClientSecret(format!("client_secret_{}", self.client_auth));
        }
        for (setting, place) in [
            ("token_errors_with_200", &mut plain.token_errors_with_200),
            ("scopes_with_commas", &mut plain.scopes_with_commas),
        ] {
            if place.is_none() {
                note(setting, "true");
                *place = Some(true);
            }
        }
    }
}

/// The same for what a session lasts: access tokens of a provider that says of none when it ends, and
/// gives nothing to renew it with, are good for as long as the session may last. That is of this
/// provider's tokens only.
pub(super) fn fill_token_life(provider: &mut Provider, session: &SessionConfig) {
    let Some((preset, filled)) = &mut provider.habits.preset else {
        return;
    };
    if preset.plain.is_none() || session.default_token_life.is_some() {
        return;
    }
    filled.push(Filled {
        setting: "session.default_token_life",
        value: "as long as the session".to_owned(),
    });
    provider.habits.token_life = Some(session.absolute.unwrap_or(defaults::ABSOLUTE));
}

/// A provider with no habit at all.
const PLAIN: Preset = Preset {
    name: "",
    scopes: &[],
    parameters: &[],
    allowed_parameters: &[],
    logout_return_parameter: None,
    auth_time_may_change: false,
    frontchannel_logout_without_iss: false,
    wants_parameter: None,
    plain: None,
};

/// The table; each row has its section in docs/providers.md.
const PRESETS: [Preset; 9] = [
    Preset {
        name: "adfs",
        allowed_parameters: &["domain_hint"],
        wants_parameter: Some((
            "resource",
            "the identifier of the Web API in the application group",
        )),
        ..PLAIN
    },
    Preset {
        name: "auth0",
        scopes: &["openid", "profile", "offline_access"],
        allowed_parameters: &["connection", "invitation", "organization", "screen_hint"],
        wants_parameter: Some(("audience", "the identifier of the API")),
        ..PLAIN
    },
    Preset {
        name: "cognito",
        scopes: &["openid", "email"],
        allowed_parameters: &["identity_provider", "idp_identifier"],
        logout_return_parameter: Some("logout_uri"),
        auth_time_may_change: true,
        ..PLAIN
    },
    Preset {
        name: "entra",
        scopes: &["openid", "profile", "offline_access"],
        allowed_parameters: &["domain_hint"],
        frontchannel_logout_without_iss: true,
        ..PLAIN
    },
    Preset {
        name: "github",
        allowed_parameters: &["login", "allow_signup"],
        plain: Some(PlainPreset {
            authorization: "/authorize",
            token: "/access_token",
            user: ("https://github.com/login/oauth", "https://api.github.com/user"),
            subject: "id",
            client_auth: "post",
        }),
        ..PLAIN
    },
    Preset {
        name: "gitlab",
        scopes: &["openid", "profile", "email"],
        allowed_parameters: &["root_namespace_id"],
        auth_time_may_change: true,
        ..PLAIN
    },
    Preset {
        name: "google",
        scopes: &["openid", "profile", "email"],
        parameters: &[("access_type", "offline"), ("prompt", "consent")],
        allowed_parameters: &["hd"],
        ..PLAIN
    },
    Preset {
        name: "keycloak",
        scopes: &["openid", "profile"],
        allowed_parameters: &["kc_idp_hint"],
        auth_time_may_change: true,
        ..PLAIN
    },
    Preset {
        name: "okta",
        scopes: &["openid", "profile", "offline_access"],
        allowed_parameters: &["idp"],
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::testing::{checked, config};
    use crate::config::{ApplicationConfig, PlainConfig, User, UserConfig};
    use crate::secret::Secret;

    fn written() -> ProviderConfig {
        ProviderConfig::new("https://login.example.com", "shop", Secret::new("hush"))
    }

    fn settings(filled: &[Filled]) -> Vec<&'static str> {
        filled.iter().map(|filled| filled.setting).collect()
    }

    #[test]
    fn every_preset_passes_the_check_alone_and_asks_for_an_id_token() {
        let names: Vec<_> = Preset::names().collect();
        assert!(names.is_sorted(), "in the order of the alphabet");
        for name in names {
            let mut config = config();
            let provider = config.provider.as_mut().expect("an agent");
            provider.habits.preset = Some(name.to_owned());
            if name == "github" {
                provider.issuer = "https://github.com/login/oauth".to_owned();
            }
            let provider = checked(config).provider.expect("an agent");
            let asks = provider.scopes.iter().any(|scope| scope == "openid");
            assert_eq!(asks, provider.plain.is_none(), "{name}");
            let (preset, filled) = provider.habits.preset.as_ref().expect("the preset");
            assert_eq!(preset.name, name);
            assert!(!filled.is_empty(), "{name} does nothing");
        }
    }

    #[test]
    fn what_is_written_stays_as_it_is() {
        for preset in &PRESETS {
            let mut config = written();
            config.scopes = Some(vec!["openid".to_owned()]);
            config.authorization_parameters = vec![("ours".to_owned(), "1".to_owned())];
            config.allowed_parameters = vec!["own".to_owned()];
            config.habits.logout_return_parameter = Some("back".to_owned());
            config.habits.auth_time_may_change = Some(false);
            config.habits.frontchannel_logout_without_iss = Some(false);
            config.client_auth = ClientAuthConfig::ClientSecret("client_secret_basic".to_owned());
            config.plain = PlainConfig {
                protocol: Some("openid".to_owned()),
                endpoints: Some(EndpointsConfig::default()),
                user: Some(UserConfig {
                    subject: Some("none".to_owned()),
                    ..UserConfig::default()
                }),
                token_errors_with_200: Some(false),
                scopes_with_commas: Some(false),
            };
            assert_eq!(
                settings(&preset.fill(&mut config)),
                [] as [&str; 0],
                "{}",
                preset.name
            );
            assert_eq!(config.allowed_parameters, ["own"]);
            assert_eq!(config.habits.logout_return_parameter.as_deref(), Some("back"));
            assert_eq!(config.habits.auth_time_may_change, Some(false));
        }
    }

    #[test]
    fn github_is_known_by_its_issuer_and_a_server_of_ones_own_by_what_is_written() {
        let with = |issuer: &str, endpoint: Option<&str>| {
            let mut config = config();
            let provider = config.provider.as_mut().expect("an agent");
            provider.issuer = issuer.to_owned();
            provider.habits.preset = Some("github".to_owned());
            provider.plain.user = endpoint.map(|endpoint| UserConfig {
                endpoint: Some(endpoint.to_owned()),
                ..UserConfig::default()
            });
            config.check()
        };
        let Ok(app) = with("https://github.com/login/oauth", None) else {
            panic!("it is complete")
        };
        // tokens that say of no end, and that nothing renews
        let provider = app.provider.expect("an agent");
        assert_eq!(provider.token_life(&app.session), app.session.absolute);
        let plain = provider.plain.as_ref().expect("no ID tokens");
        let endpoints = plain.endpoints.as_ref().expect("no metadata");
        assert_eq!(
            endpoints.token.as_str(),
            "https://github.com/login/oauth/access_token"
        );
        assert!(plain.token_errors_with_200 && plain.scopes_with_commas);
        let User::Asked {
            endpoint, subject, ..
        } = &plain.user
        else {
            panic!("somebody is asked")
        };
        assert_eq!(
            endpoint.as_ref().map(|url| url.as_str()),
            Some("https://api.github.com/user")
        );
        assert_eq!(subject, "id");
        let own = "https://git.example.com/login/oauth";
        assert!(with(own, None).is_err(), "nobody knows where its API is");
        assert!(with(own, Some("https://git.example.com/api/v3/user")).is_ok());
    }

    #[test]
    fn what_a_preset_says_of_tokens_is_said_of_no_other_providers() {
        let lives = |life: Option<u64>| {
            let corp = config().provider.expect("an agent");
            let mut github = corp.clone();
            github.issuer = "https://github.com/login/oauth".to_owned();
            github.habits.preset = Some("github".to_owned());
            let mut written = ApplicationConfig {
                provider: None,
                providers: Some(vec![("corp".to_owned(), corp), ("github".to_owned(), github)]),
                ..config()
            };
            written.session.absolute = Some(Duration::from_secs(7_200));
            written.session.default_token_life = life.map(Duration::from_secs);
            let app = checked(written);
            let lives = app.providers.iter();
            let lives: Vec<u64> = lives
                .map(|provider| provider.token_life(&app.session).as_secs())
                .collect();
            lives
        };
        assert_eq!(lives(None), [300, 7_200]);
        assert_eq!(lives(Some(60)), [60, 60]);
    }

    #[test]
    fn no_parameter_is_both_fixed_and_open() {
        let google = Preset::named("google").expect("google");
        let mut config = written();
        config.allowed_parameters = vec!["prompt".to_owned()];
        assert_eq!(settings(&google.fill(&mut config)), ["scopes", "parameters"]);
        assert_eq!(
            config.authorization_parameters,
            [("access_type".to_owned(), "offline".to_owned())]
        );
        let mut config = written();
        config.authorization_parameters = vec![("hd".to_owned(), "example.com".to_owned())];
        assert_eq!(settings(&google.fill(&mut config)), ["scopes"]);
        assert!(config.allowed_parameters.is_empty());
    }

    #[test]
    fn nobody_is_named_who_is_not_there() {
        assert!(Preset::named("Entra").is_none());
        assert!(Preset::named("").is_none());
    }
}
