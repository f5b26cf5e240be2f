//! Checks of the `provider` section.
//!
//! The issuer stays the string that was written, because it is compared as one (RFC 8414 §3.3).
//! No parameter may be set from two sides: providers differ in which of two they believe.

use url::Url;

use super::addresses::is_plain;
use super::authorization::{check_authorization, check_client_key};
use super::check::{Insecure, Problems, check_deadline};
use super::client_auth::{self, check_client_auth};
use super::habits::{check_habits, check_preset};
use super::plain::check_plain;
use super::profile;
use super::{Authorization, ClientAuthConfig, PrivateKeyPem, Provider, ProviderConfig, defaults};
use crate::oauth::DecryptionKey;
use crate::oauth::authorization::{is_protocol_parameter, is_scope_token};
use crate::oauth::jwe::MAX_KEYS;

/// What DPoP proofs are signed with (RFC 9449 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpopAlgorithm {
    /// ECDSA with P-256 and SHA-256 (RFC 7518 §3.4).
    Es256,
    /// Ed25519 (RFC 8037 §3.1).
    EdDsa,
}

impl DpopAlgorithm {
    /// Its name in a JWS.
    pub const fn alg(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// Whether the userinfo endpoint (OpenID Connect Core §5.3) is asked for claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Userinfo {
    /// Claims are those of the ID token.
    #[default]
    Never,
    /// At each sign-in, and at each refresh; claims of the ID token win.
    Always,
}

pub(super) fn check_provider(mut written: ProviderConfig, problems: &mut Problems) -> Option<Provider> {
    let preset = check_preset(written.habits.preset.as_deref(), problems);
    let preset = preset.map(|preset| (preset, preset.fill(&mut written)));
    let profile = profile::fill(&mut written, problems);
    let is_plain_oauth = written.plain.protocol.as_deref() == Some("oauth2");
    let plain = check_plain(&written, profile, problems);
    let issuer = Url::parse(&written.issuer).ok();
    let good_issuer = issuer.is_some_and(|url| is_plain(&url) && Insecure(false).allows(&url));
    if !good_issuer || written.issuer.trim() != written.issuer {
        problems.add(
            &["provider", "issuer"],
            "expected an https URL (http on loopback) without user, query and fragment",
            "issuer: https://login.example.com",
        );
    }
    if written.client_id.is_empty() || written.client_id.bytes().any(|b| !(0x20..0x7f).contains(&b)) {
        problems.add(
            &["provider", "client_id"],
            "expected this client's id at the provider, in visible ASCII",
            "client_id: shop",
        );
    }
    let names_issuer = matches!(&written.client_auth, ClientAuthConfig::PrivateKeyJwt(jwt)
        if jwt.audience.as_deref() == Some("issuer"));
    let mut client_auth = check_client_auth(
        client_auth::Written {
            client_secret: written.client_secret,
            client_auth: written.client_auth,
            client_certificate: written.client_certificate.as_ref(),
            certificate_bound_access_tokens: written.certificate_bound_access_tokens,
        },
        problems,
    );
    let scopes = match is_plain_oauth {
        true => check_scopes_of_plain(written.scopes, problems),
        false => check_scopes(written.scopes, problems),
    };
    let mut authorization = check_authorization(&written.authorization, problems);
    if let Some(auth) = client_auth
        .as_ref()
        .filter(|_| written.authorization.signed_by_client_key)
    {
        authorization.request_object = check_client_key(auth, problems);
    }
    if let Some(client_auth) = &mut client_auth {
        profile::check(profile, client_auth, &mut authorization, problems);
    }
    check_parameters(
        &written.authorization_parameters,
        &written.allowed_parameters,
        &authorization,
        problems,
    );
    let leeway = written.leeway.unwrap_or(defaults::LEEWAY);
    if leeway > defaults::MAX_LEEWAY {
        problems.add(
            &["provider", "leeway"],
            "clocks that differ by more than five minutes are broken",
            "leeway: 10s",
        );
    }
    let timeout = check_deadline(
        &["provider", "timeout"],
        written.timeout,
        defaults::PROVIDER_TIMEOUT,
        problems,
    );
    let habits = check_habits(written.habits, preset, &written.issuer, problems);
    if habits.tenants.is_some() {
        check_addressed(names_issuer, &authorization, problems);
    }
    let dpop = check_dpop(written.dpop.as_deref(), problems);
    let id_token_decryption_keys = check_decryption_keys(&written.id_token_decryption_keys, problems);
    let userinfo = check_userinfo(written.userinfo.as_deref(), problems);
    Some(Provider {
        name: None,
        habits,
        issuer: written.issuer,
        client_id: written.client_id,
        client_auth: client_auth?,
        client_certificate: written.client_certificate,
        certificate_bound_access_tokens: written.certificate_bound_access_tokens,
        ca: written.ca,
        scopes,
        authorization_parameters: written.authorization_parameters,
        allowed_parameters: written.allowed_parameters,
        authorization,
        leeway,
        timeout,
        logout_token_without_exp: written.logout_token_without_exp,
        dpop,
        profile,
        id_token_decryption_keys,
        userinfo,
        plain,
    })
}

/// Where one issuer stands for many tenants, none is called what its metadata say: nothing that is
/// signed can be addressed to it.
fn check_addressed(assertions: bool, authorization: &Authorization, problems: &mut Problems) {
    if assertions {
        problems.add(
            &["provider", "client_auth", "audience"],
            "an issuer of many tenants has no name that an assertion could be addressed to",
            "audience: token_endpoint",
        );
    }
    if authorization.request_object.is_some() {
        problems.add(
            &["provider", "request_object"],
            "an issuer of many tenants has no name that a signed request could be addressed to",
            "remove `request_object`, or write the issuer of one tenant",
        );
    }
}

fn check_dpop(written: Option<&str>, problems: &mut Problems) -> Option<DpopAlgorithm> {
    match written? {
        "ES256" => Some(DpopAlgorithm::Es256),
        "EdDSA" => Some(DpopAlgorithm::EdDsa),
        _ => {
            problems.add(
                &["provider", "dpop", "algorithm"],
                "expected ES256 or EdDSA",
                "algorithm: ES256",
            );
            None
        }
    }
}

fn check_userinfo(written: Option<&str>, problems: &mut Problems) -> Userinfo {
    match written {
        None | Some("never") => Userinfo::Never,
        Some("always") => Userinfo::Always,
        Some(_) => {
            problems.add(
                &["provider", "userinfo"],
                "expected never or always",
                "userinfo: always",
            );
            Userinfo::Never
        }
    }
}

fn check_decryption_keys(written: &[PrivateKeyPem], problems: &mut Problems) -> Vec<DecryptionKey> {
    let name = "id_token_decryption_keys";
    if written.len() > MAX_KEYS {
        problems.add(
            &["provider", name],
            "there are more than four keys, and no more are tried",
            "keep those that the provider still encrypts to",
        );
    }
    let read = |(index, pem): (usize, &PrivateKeyPem)| match DecryptionKey::from_pem(pem.pem().as_bytes()) {
        Ok(key) => Some(key),
        Err(error) => {
            let index = index.to_string();
            problems.add(
                &["provider", name, index.as_str()],
                error.to_string(),
                "make one: `coatroom keygen --client --out id-token.pem`",
            );
            None
        }
    };
    written.iter().enumerate().filter_map(read).collect()
}

/// Scopes are optional there (RFC 6749 §3.3), and none asks for an ID token.
fn check_scopes_of_plain(written: Option<Vec<String>>, problems: &mut Problems) -> Vec<String> {
    let scopes = written.unwrap_or_default();
    if !scopes.iter().all(|scope| is_scope_token(scope)) {
        problems.add(
            &["provider", "scopes"],
            "expected a list of scopes without blanks, quotes and backslashes",
            "scopes: [read:user]",
        );
    } else if scopes.iter().any(|scope| scope == "openid") {
        problems.add(
            &["provider", "scopes"],
            "`openid` asks for an ID token, and with `protocol: oauth2` none is looked at",
            "protocol: openid",
        );
    }
    scopes
}

fn check_scopes(written: Option<Vec<String>>, problems: &mut Problems) -> Vec<String> {
    let scopes = written.unwrap_or_else(|| defaults::SCOPES.map(str::to_owned).to_vec());
    if !scopes.iter().all(|scope| is_scope_token(scope)) {
        problems.add(
            &["provider", "scopes"],
            "expected a list of scopes without blanks, quotes and backslashes",
            "scopes: [openid, profile]",
        );
    } else if !scopes.iter().any(|scope| scope == "openid") {
        let all: Vec<&str> = std::iter::once("openid")
            .chain(scopes.iter().map(String::as_str))
            .collect();
        problems.add(
            &["provider", "scopes"],
            "`openid` is missing, without it there is no ID token",
            format!("scopes: [{}]", all.join(", ")),
        );
    }
    scopes
}

/// Which of two equal parameters counts, each provider decides for itself: so none occurs twice.
fn check_parameters(
    fixed: &[(String, String)],
    allowed: &[String],
    authorization: &Authorization,
    problems: &mut Problems,
) {
    for (index, (name, value)) in fixed.iter().enumerate() {
        let at = ["provider", "authorization_parameters", name.as_str()];
        if name.is_empty() || is_ours(name) {
            problems.add(&at, "this parameter is set by the protocol", "remove it");
        } else if authorization.fixes(name) {
            problems.add(
                &at,
                "this parameter has a setting of its own, which is there too",
                "remove it from one of the two",
            );
        } else if name == "max_age" && (value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit())) {
            problems.add(&at, "expected a number of seconds", "max_age: 3600");
        } else if fixed.iter().take(index).any(|(earlier, _)| earlier == name) && name != "resource" {
            problems.add(&at, "the parameter is there twice", "remove one of them");
        }
    }
    for (index, name) in allowed.iter().enumerate() {
        let number = index.to_string();
        let at = ["provider", "allowed_parameters", number.as_str()];
        let own = ["return_to", "background", "everywhere"].contains(&name.as_str());
        if name.is_empty() || own || is_ours(name) {
            problems.add(
                &at,
                "this parameter is set by the protocol or means something to the agent",
                "remove it",
            );
        } else if authorization.fixes(name) {
            problems.add(
                &at,
                "a setting of its own fixes this parameter, so the SPA cannot set it",
                "remove it from one of the two",
            );
        } else if fixed.iter().any(|(fixed, _)| fixed == name) {
            problems.add(
                &at,
                "`authorization_parameters` fixes this parameter, so the SPA cannot set it",
                "remove it from one of the two",
            );
        } else if allowed.iter().take(index).any(|earlier| earlier == name) {
            problems.add(&at, "the parameter is there twice", "remove one of them");
        }
    }
}

/// Whether an authorization request has this parameter from us; scopes have a setting of their own.
fn is_ours(parameter: &str) -> bool {
    is_protocol_parameter(parameter) || parameter == "scope"
}

impl Provider {
    /// The issuer that the metadata document must name: the configured one or, where that stands for
    /// many tenants, theirs with a placeholder.
    pub fn metadata_issuer(&self) -> String {
        match &self.habits.tenants {
            Some(tenants) => tenants.template(),
            None => self.issuer.clone(),
        }
    }

    /// Whether an issuer is this provider: the configured one, as a string, or that of a tenant which
    /// may sign in.
    pub(crate) fn is_issuer(&self, issuer: &str) -> bool {
        match &self.habits.tenants {
            Some(tenants) => tenants.tenant_of(issuer).is_some(),
            None => issuer == self.issuer,
        }
    }

    /// Every issuer that is known by name: one, or those of the tenants that are listed.
    pub(crate) fn issuers(&self) -> Vec<String> {
        match &self.habits.tenants {
            Some(tenants) => tenants.issuers().collect(),
            None => vec![self.issuer.clone()],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::testing::{checked, config};
    use crate::config::{ApplicationConfig, ClientAuthConfig};
    use crate::secret::Secret;

    fn places(change: impl FnOnce(&mut ProviderConfig)) -> Vec<String> {
        let mut config = config();
        change(config.provider.as_mut().expect("an agent"));
        match config.check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    fn pairs(names: &[&str]) -> Vec<(String, String)> {
        names
            .iter()
            .map(|&name| (name.to_owned(), "x".to_owned()))
            .collect()
    }

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn the_issuer_is_https_or_loopback_and_stays_as_written() {
        for (issuer, good) in [
            ("https://login.example.com", true),
            ("https://login.example.com/", true),
            ("https://login.example.com/realms/A%20b", true),
            ("http://localhost:8080/x", true),
            ("http://login.example.com", false),
            ("https://login.example.com?x", false),
            ("https://login.example.com#x", false),
            ("https://u:p@login.example.com", false),
            (" https://login.example.com", false),
            ("login.example.com", false),
            ("", false),
        ] {
            let expected = if good {
                Vec::new()
            } else {
                vec!["provider.issuer".to_owned()]
            };
            assert_eq!(
                places(|provider| provider.issuer = issuer.to_owned()),
                expected,
                "{issuer}"
            );
        }
        let mut slash = config();
        slash.provider.as_mut().expect("an agent").issuer = "https://login.example.com/".to_owned();
        assert_eq!(
            checked(slash).provider.expect("an agent").issuer,
            "https://login.example.com/"
        );
        let insecure = ApplicationConfig {
            danger_insecure_http: true,
            ..config()
        };
        let mut insecure = insecure;
        insecure.provider.as_mut().expect("an agent").issuer = "http://login.example.com".to_owned();
        assert!(insecure.check().is_err());
    }

    #[test]
    fn client_and_scopes_are_checked() {
        assert_eq!(
            places(|provider| provider.client_id = String::new()),
            ["provider.client_id"]
        );
        assert_eq!(
            places(|provider| provider.client_id = "a\nb".to_owned()),
            ["provider.client_id"]
        );
        assert_eq!(
            places(|provider| provider.client_secret = Some(Secret::new(""))),
            ["provider.client_secret"]
        );
        assert_eq!(
            places(|provider| provider.client_auth = ClientAuthConfig::ClientSecret("none".to_owned())),
            ["provider.client_auth"]
        );
        for (scopes, good) in [
            (&["openid"][..], true),
            (&["profile", "openid"], true),
            (&[], false),
            (&["profile"], false),
            (&["openid profile"], false),
            (&["openid", ""], false),
            (&["openid", "a\"b"], false),
        ] {
            let expected = if good {
                Vec::new()
            } else {
                vec!["provider.scopes".to_owned()]
            };
            assert_eq!(
                places(|provider| provider.scopes = Some(list(scopes))),
                expected,
                "{scopes:?}"
            );
        }
        assert_eq!(
            places(|provider| provider.timeout = Some(Duration::ZERO)),
            ["provider.timeout"]
        );
        assert_eq!(
            places(|provider| provider.leeway = Some(Duration::from_secs(301))),
            ["provider.leeway"]
        );
        assert!(places(|provider| provider.leeway = Some(Duration::ZERO)).is_empty());
    }

    #[test]
    fn bound_tokens_need_an_algorithm_and_one_address_of_each_api() {
        use crate::config::testing::upstream;
        use crate::config::{RouteConfig, RouteTargetConfig};

        for (algorithm, good) in [("ES256", true), ("EdDSA", true), ("RS256", false), ("", false)] {
            let found = places(|provider| provider.dpop = Some(algorithm.to_owned()));
            let expected: &[&str] = if good { &[] } else { &["provider.dpop.algorithm"] };
            assert_eq!(found, expected, "{algorithm}");
        }
        let several = || {
            let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(str::to_owned);
            RouteConfig::new("/api", RouteTargetConfig::Upstreams(urls.to_vec()))
        };
        let named = |url: &str| RouteConfig {
            public_url: Some(url.to_owned()),
            ..several()
        };
        let problem = &["routes./api.public_url"][..];
        for (name, dpop, route, expected) in [
            ("bearer tokens", None, several(), &[][..]),
            ("several addresses", Some("ES256"), several(), problem),
            (
                "a socket",
                Some("ES256"),
                upstream("/api", "unix:/run/api.sock", None),
                problem,
            ),
            ("named", Some("ES256"), named("https://api.example.com/v1"), &[]),
            (
                "one address",
                Some("ES256"),
                upstream("/api", "http://127.0.0.1:1", None),
                &[],
            ),
            (
                "no token",
                Some("ES256"),
                RouteConfig {
                    auth: Some("none".to_owned()),
                    ..several()
                },
                &[],
            ),
            ("plain http", None, named("http://api.example.com"), problem),
            ("a query", None, named("https://api.example.com/?a"), problem),
            ("no url", None, named("api.example.com"), problem),
            (
                "files",
                None,
                RouteConfig {
                    public_url: Some("https://api.example.com".to_owned()),
                    ..RouteConfig::new("/api", RouteTargetConfig::Static("dist".into()))
                },
                problem,
            ),
        ] {
            let mut config = config();
            config.provider.as_mut().expect("an agent").dpop = dpop.map(str::to_owned);
            config.routes = vec![route];
            let found: Vec<String> = match config.check() {
                Ok(_) => Vec::new(),
                Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
            };
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn no_parameter_is_set_from_two_sides() {
        for name in [
            "client_id",
            "redirect_uri",
            "state",
            "nonce",
            "scope",
            "request",
            "code_challenge",
        ] {
            assert_eq!(
                places(|provider| provider.authorization_parameters = pairs(&[name])),
                [format!("provider.authorization_parameters.{name}")]
            );
            assert_eq!(
                places(|provider| provider.allowed_parameters = list(&[name])),
                ["provider.allowed_parameters.0"]
            );
        }
        for (fixed, allowed, expected) in [
            (&["audience", "prompt"][..], &["kc_idp_hint"][..], &[][..]),
            (&["resource", "resource"], &[], &[]),
            (
                &["audience", "audience"],
                &[],
                &["provider.authorization_parameters.audience"],
            ),
            (&["audience"], &["audience"], &["provider.allowed_parameters.0"]),
            (&[], &["x", "x"], &["provider.allowed_parameters.1"]),
            (&[], &["return_to"], &["provider.allowed_parameters.0"]),
            (&[], &["background"], &["provider.allowed_parameters.0"]),
            (&[], &[""], &["provider.allowed_parameters.0"]),
            (&[""], &[], &["provider.authorization_parameters."]),
        ] {
            let found = places(|provider| {
                provider.authorization_parameters = pairs(fixed);
                provider.allowed_parameters = list(allowed);
            });
            assert_eq!(found, *expected, "{fixed:?} {allowed:?}");
        }
    }
}
