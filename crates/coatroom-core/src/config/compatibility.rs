//! `compatibility`: whose endpoints an agent offers beside its own, so that an SPA moves over as it is.
//!
//! One client library is known: Duende BFF's, whose pages call `user`, `login` and `logout` below
//! `/bff` with `X-CSRF: 1`. This file says what is a default then; `flow/duende.rs` answers. It
//! loosens no rule: guard, return URLs and clocks are those of every other application.

use super::check::Problems;
use super::defaults;

/// Whose endpoints are offered beside our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// Those of Duende BFF.
    DuendeBff(AnonymousUser),
}

/// What `user` answers where nobody is signed in: Duende's `AnonymousSessionResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonymousUser {
    /// 401, as every call without a session.
    Unauthorized,
    /// 200 and `null`.
    Null,
}

impl Compatibility {
    /// Every one, by its name in the configuration.
    pub const NAMED: [(&'static str, Self); 2] = [
        ("duende", Self::DuendeBff(AnonymousUser::Unauthorized)),
        ("duende-200", Self::DuendeBff(AnonymousUser::Null)),
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::DuendeBff(AnonymousUser::Unauthorized) => "duende",
            Self::DuendeBff(AnonymousUser::Null) => "duende-200",
        }
    }

    /// What its clients call a return URL, whatever the case of the letters.
    pub(crate) fn return_to_name(self) -> &'static str {
        match self {
            Self::DuendeBff(_) => "returnUrl",
        }
    }

    pub(super) fn base_path(this: Option<Self>) -> &'static str {
        match this {
            None => defaults::BASE_PATH,
            Some(Self::DuendeBff(_)) => defaults::DUENDE_BASE_PATH,
        }
    }

    pub(super) fn csrf_header(this: Option<Self>) -> &'static str {
        match this {
            None => defaults::CSRF_HEADER,
            Some(Self::DuendeBff(_)) => defaults::DUENDE_CSRF_HEADER,
        }
    }
}

/// Takes the setting; its clients finish no sign-in themselves, so the provider returns to the agent.
pub(super) fn check_compatibility(
    written: Option<&str>,
    login_callback: Option<&str>,
    problems: &mut Problems,
) -> Option<Compatibility> {
    let written = written?;
    let named = Compatibility::NAMED
        .into_iter()
        .find(|(name, _)| *name == written);
    let Some((_, compatibility)) = named else {
        problems.add(
            &["compatibility"],
            "expected `duende` or `duende-200`",
            "compatibility: duende",
        );
        return None;
    };
    if login_callback.is_some_and(|callback| callback != defaults::LOGIN_CALLBACK) {
        problems.add(
            &["login_callback"],
            "with `compatibility` the provider returns to the agent: such an SPA never posts `login/end`",
            "callback: agent",
        );
    }
    Some(compatibility)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApplicationConfig;
    use crate::config::testing::{checked, config};

    fn written(compatibility: &str) -> ApplicationConfig {
        ApplicationConfig {
            compatibility: Some(compatibility.to_owned()),
            ..config()
        }
    }

    #[test]
    fn the_defaults_are_those_that_the_clients_know() {
        for (name, compatibility) in Compatibility::NAMED {
            assert_eq!(compatibility.name(), name);
            let application = checked(written(name));
            assert_eq!(application.compatibility, Some(compatibility));
            assert_eq!(application.base_path, "/bff");
            assert_eq!(application.csrf_header, "x-csrf");
        }
        let moved = checked(ApplicationConfig {
            base_path: Some("/session".to_owned()),
            csrf_header: Some("X-Shop".to_owned()),
            ..written("duende")
        });
        assert_eq!(moved.base_path, "/session");
        assert_eq!(moved.csrf_header, "x-shop");
        assert_eq!(checked(config()).compatibility, None);
    }

    #[test]
    fn an_unknown_name_and_a_page_as_callback_are_problems() {
        let page = ApplicationConfig {
            login_callback: Some("/signed-in".to_owned()),
            ..written("duende")
        };
        for (config, place) in [
            (written("Duende"), "compatibility"),
            (written("oidc-client"), "compatibility"),
            (page, "login_callback"),
        ] {
            let problems = config.check().err().expect("a problem");
            let places: Vec<String> = problems.iter().map(|problem| problem.at.join(".")).collect();
            assert_eq!(places, [place]);
        }
    }
}
