//! Several providers of one application: their names, which is the default, what has to differ.
//!
//! A name stands in redirect URIs and inside the seal of everything that leads to tokens, so that what
//! one provider issued is never shown to another (RFC 9700 §4.4). An application with one `provider` has
//! no names, and nothing here concerns it.

use std::sync::Arc;

use super::check::Problems;
use super::provider::check_provider;
use super::{Application, Callback, Provider, ProviderConfig};
use crate::flow::PROVIDER_PARAMETER as PARAMETER;

/// The name of one of several providers: `[a-z0-9][a-z0-9-]{0,31}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProviderName(Arc<str>);

impl ProviderName {
    /// Checks a name.
    pub fn parse(name: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = name.len() <= LONGEST_NAME
            && name.bytes().next().is_some_and(plain)
            && name.bytes().all(|b| plain(b) || b == b'-');
        good.then(|| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an application says of its providers.
pub(super) struct Written {
    pub(super) provider: Option<ProviderConfig>,
    pub(super) providers: Option<Vec<(String, ProviderConfig)>>,
    pub(super) default_provider: Option<String>,
}

/// Checks each provider, and what they are to each other. The default is the second of the pair: its
/// position.
pub(super) fn check_providers(written: Written, problems: &mut Problems) -> (Vec<Provider>, usize) {
    let Written {
        provider,
        providers,
        default_provider,
    } = written;
    let Some(several) = providers else {
        if default_provider.is_some() {
            problems.add(
                &["default_provider"],
                "there is one provider, which needs no name",
                "remove `default_provider`",
            );
        }
        let checked = provider.and_then(|provider| check_provider(provider, problems));
        return (checked.into_iter().collect(), 0);
    };
    if provider.is_some() {
        problems.add(
            &["provider"],
            "`provider` and `providers` are both there",
            "move it into `providers`, under a name of its own",
        );
    }
    if several.is_empty() || several.len() > MOST_PROVIDERS {
        problems.add(
            &["providers"],
            format!("expected 1 to {MOST_PROVIDERS} providers by name"),
            "providers: {corp: {issuer: …, client_id: …, client_secret: {env: …}}}",
        );
    }
    let names: Vec<String> = several.iter().map(|(name, _)| name.clone()).collect();
    let default = match default_provider {
        None => 0,
        Some(default) => names.iter().position(|name| *name == default).unwrap_or_else(|| {
            problems.add(
                &["default_provider"],
                "`providers` has none of this name",
                format!("default_provider: {}", names.first().map_or("corp", |name| name)),
            );
            0
        }),
    };
    let mut checked: Vec<Provider> = Vec::new();
    for (index, (name, written)) in several.into_iter().enumerate() {
        let parsed = ProviderName::parse(&name);
        if parsed.is_none() {
            problems.add(
                &["providers", &name],
                "a provider's name is 1 to 32 of a-z, 0-9 and `-`, and does not begin with `-`: it stands in URLs",
                "providers: {corp: …}",
            );
        }
        if names.iter().take(index).any(|earlier| *earlier == name) {
            problems.add(
                &["providers", &name],
                "the name is used twice",
                "give each its own",
            );
        }
        let provider = at_name(&name, problems, |problems| check_provider(written, problems));
        let Some(provider) = provider else { continue };
        let is_same = |earlier: &&Provider| {
            (&earlier.issuer, &earlier.client_id) == (&provider.issuer, &provider.client_id)
        };
        if checked.iter().any(|earlier| is_same(&earlier)) {
            problems.add(
                &["providers", &name, "issuer"],
                "another of the providers has this issuer and this client id already",
                "remove one of the two",
            );
        }
        if let Some(index) = provider
            .allowed_parameters
            .iter()
            .position(|open| open == PARAMETER)
        {
            problems.add(
                &["providers", &name, "allowed_parameters", &index.to_string()],
                "this parameter of a sign-in names the provider",
                "remove it",
            );
        }
        if provider.certificate_bound_access_tokens && names.len() > 1 {
            problems.add(
                &["providers", &name, "certificate_bound_access_tokens"],
                "routes show their API one certificate for all sessions, and there are several providers",
                "bind tokens to a key per session instead: `dpop: true`",
            );
        }
        checked.push(Provider {
            name: parsed,
            ..provider
        });
    }
    (checked, default)
}

/// With one page for all providers the redirect URI does not tell who answered, so the answer has to:
/// by `iss` (RFC 9207) or by being signed (JARM), each of them (RFC 9700 §4.4.2.1).
pub(super) fn check_mix_up(providers: &[Provider], callback: &Callback, problems: &mut Problems) {
    if *callback == Callback::Agent || providers.len() < 2 {
        return;
    }
    for provider in providers {
        let authorization = &provider.authorization;
        let Some(name) = &provider.name else { continue };
        if !authorization.require_iss && !authorization.response_mode.is_signed() {
            problems.add(
                &["providers", name.as_str(), "require_iss"],
                "all of several providers return to one page of the SPA, so each answer has to say whose it is",
                "require_iss: true",
            );
        }
    }
}

/// Has the problems of `provider` stand where that provider is written.
pub(super) fn at_name<T>(name: &str, problems: &mut Problems, check: impl FnOnce(&mut Problems) -> T) -> T {
    let known = problems.0.len();
    let outcome = check(problems);
    for problem in problems.0.iter_mut().skip(known) {
        if problem.at.first().is_some_and(|first| first == "provider") {
            let place = ["providers".to_owned(), name.to_owned()];
            problem.at.splice(..1, place);
        }
    }
    outcome
}

/// The same for a provider that has a name or none.
pub(super) fn at_provider<T>(
    name: Option<&ProviderName>,
    problems: &mut Problems,
    check: impl FnOnce(&mut Problems) -> T,
) -> T {
    match name {
        None => check(problems),
        Some(name) => at_name(name.as_str(), problems, check),
    }
}

impl Application {
    /// Whether its providers have names, and thereby redirect URIs of their own.
    pub fn names_providers(&self) -> bool {
        self.providers.iter().any(|provider| provider.name.is_some())
    }

    /// The provider of this name.
    pub fn provider_named(&self, name: &str) -> Option<&Arc<Provider>> {
        let is_it = |own: &ProviderName| own.as_str() == name;
        let mut providers = self.providers.iter();
        providers.find(|provider| provider.name.as_ref().is_some_and(is_it))
    }

    /// Whose tokens of this issuer are that were sealed under this name. What was sealed before the
    /// application had several providers has no name: it is that of the one that the issuer means, if
    /// it means one. What was sealed under a name that is gone is nobody's.
    pub(crate) fn owner(&self, name: Option<&ProviderName>, issuer: &str) -> Option<&Arc<Provider>> {
        let mut at_issuer = self
            .providers
            .iter()
            .filter(|provider| provider.is_issuer(issuer));
        match name {
            Some(name) => at_issuer.find(|provider| provider.name.as_ref() == Some(name)),
            None => {
                let first = at_issuer.next()?;
                at_issuer.next().is_none().then_some(first)
            }
        }
    }
}

/// How many providers an application may have.
const MOST_PROVIDERS: usize = 16;

/// The longest name, in characters.
const LONGEST_NAME: usize = 32;
