//! Profiles of FAPI 2.0: what they ask of a client, as one setting.
//!
//! A profile fills in what is not written and refuses what contradicts it: how this client
//! authenticates, pushes its requests, binds its tokens, has answers signed. What the provider has to do
//! for it is judged where its metadata is used. A profile never weakens a setting.

use super::check::Problems;
use super::client_auth::{AssertionAudience, ClientAuth};
use super::{Authorization, ProviderConfig};
use crate::oauth::SigningKey;

/// What sign-ins at a provider have to keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// What is configured, setting by setting.
    #[default]
    None,
    /// FAPI 2.0 Security Profile (Final) §5.3.3.
    Fapi2,
    /// The same with FAPI 2.0 Message Signing §5.3 and §5.4: signed requests (RFC 9101) and signed
    /// responses (JARM).
    Fapi2MessageSigning,
}

impl Profile {
    /// As it is written; none is not.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Fapi2 => Some("fapi2"),
            Self::Fapi2MessageSigning => Some("fapi2-message-signing"),
        }
    }

    /// Whether it is one of FAPI 2.0.
    pub fn is_fapi2(self) -> bool {
        self != Self::None
    }
}

/// FAPI 2.0 Security Profile §5.4.1.
pub(crate) const ALGORITHMS: [&str; 3] = ["PS256", "ES256", "EdDSA"];

/// Fills in what the profile wants and is not written, and names what contradicts it.
pub(super) fn fill(written: &mut ProviderConfig, problems: &mut Problems) -> Profile {
    let profile = match written.profile.as_deref() {
        None => return Profile::None,
        Some("fapi2") => Profile::Fapi2,
        Some("fapi2-message-signing") => Profile::Fapi2MessageSigning,
        Some(_) => {
            problems.add(
                &["provider", "profile"],
                "expected fapi2 or fapi2-message-signing",
                "profile: fapi2",
            );
            return Profile::None;
        }
    };
    let requests = &mut written.authorization;
    if requests
        .pushed_authorization_requests
        .get_or_insert_with(|| "required".to_owned())
        != "required"
    {
        problems.add(
            &["provider", "pushed_authorization_requests"],
            "FAPI 2.0 pushes every authorization request (Security Profile §5.3.3.2)",
            "remove `pushed_authorization_requests`: the profile requires it",
        );
    }
    if written.dpop.is_none() && !written.certificate_bound_access_tokens {
        written.dpop = Some("ES256".to_owned());
    }
    if profile == Profile::Fapi2MessageSigning {
        let mode = requests.response_mode.get_or_insert_with(|| "jwt".to_owned());
        if !matches!(mode.as_str(), "jwt" | "query.jwt") {
            problems.add(
                &["provider", "response_mode"],
                "FAPI 2.0 Message Signing has authorization responses signed (§5.4)",
                "response_mode: jwt",
            );
        }
    }
    if written.leeway.is_some_and(|leeway| leeway > MAX_LEEWAY) {
        problems.add(
            &["provider", "leeway"],
            "FAPI 2.0 refuses what comes from more than a minute ahead (Security Profile §5.3.2.1)",
            "leeway: 10s",
        );
    }
    profile
}

/// Whether this client can authenticate as the profile wants, and what signs its requests.
pub(super) fn check(
    profile: Profile,
    client_auth: &mut ClientAuth,
    authorization: &mut Authorization,
    problems: &mut Problems,
) {
    if !profile.is_fapi2() {
        return;
    }
    let weak = |key: &SigningKey| !ALGORITHMS.contains(&key.alg());
    let own = match client_auth {
        ClientAuth::PrivateKeyJwt(jwt) => {
            if jwt.audience != AssertionAudience::Issuer {
                problems.add(
                    &["provider", "client_auth", "audience"],
                    "FAPI 2.0 addresses client assertions to the issuer (Security Profile §5.3.3.1)",
                    "audience: issuer",
                );
            }
            if weak(&jwt.key) {
                problems.add(
                    &["provider", "client_auth", "algorithm"],
                    "FAPI 2.0 signs with PS256, ES256 or EdDSA (Security Profile §5.4.1)",
                    "algorithm: ES256",
                );
            }
            // what every other provider may ask of an RSA key
            jwt.rs256 = None;
            Some(&jwt.key)
        }
        ClientAuth::Tls(_) => None,
        ClientAuth::Secret(..) | ClientAuth::AssertionFile(_) => {
            problems.add(
                &["provider", "client_auth"],
                "FAPI 2.0 authenticates clients by private_key_jwt or mutual TLS (Security Profile §5.3.3.1)",
                "client_auth: {method: private_key_jwt, key: {file: client.pem}}",
            );
            return;
        }
    };
    if authorization.request_object.as_ref().is_some_and(weak) {
        problems.add(
            &["provider", "request_object", "algorithm"],
            "FAPI 2.0 signs with PS256, ES256 or EdDSA (Security Profile §5.4.1)",
            "algorithm: ES256",
        );
    }
    if profile == Profile::Fapi2MessageSigning && authorization.request_object.is_none() {
        authorization.request_object = own.cloned();
        if authorization.request_object.is_none() {
            problems.add(
                &["provider", "request_object"],
                "FAPI 2.0 Message Signing signs authorization requests (§5.3), and no key is configured that could",
                "request_object: {key: {file: request-object.pem}}",
            );
        }
    }
}

/// FAPI 2.0 Security Profile §5.3.2.1.
const MAX_LEEWAY: std::time::Duration = std::time::Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::client_auth::{ClientAuthConfig, PrivateKeyJwtConfig};
    use crate::config::testing::config;
    use crate::config::{DpopAlgorithm, PrivateKeyPem, Provider, PushedRequests, ResponseMode};
    use crate::oauth::testing::private_key_pem;
    use crate::secret::Secret;

    fn with_key(written: &mut ProviderConfig, alg: &str, algorithm: Option<&str>) {
        written.client_secret = None;
        written.client_auth = ClientAuthConfig::PrivateKeyJwt(PrivateKeyJwtConfig {
            key: PrivateKeyPem::new(private_key_pem(alg)),
            algorithm: algorithm.map(str::to_owned),
            kid: None,
            audience: None,
        });
    }

    fn checked(change: impl FnOnce(&mut ProviderConfig)) -> Result<std::sync::Arc<Provider>, Vec<String>> {
        let mut config = config();
        let provider = config.provider.as_mut().expect("an agent");
        with_key(provider, "ES256", None);
        provider.profile = Some("fapi2".to_owned());
        change(provider);
        match config.check() {
            Ok(application) => Ok(application.provider.expect("an agent")),
            Err(problems) => Err(problems.iter().map(|problem| problem.at.join(".")).collect()),
        }
    }

    #[test]
    fn a_profile_fills_in_all_that_it_wants() {
        let Ok(provider) = checked(|_| {}) else {
            panic!("a key is enough")
        };
        assert_eq!(provider.profile, Profile::Fapi2);
        assert_eq!(provider.authorization.pushed, PushedRequests::Required);
        assert_eq!(provider.dpop, Some(DpopAlgorithm::Es256));
        assert!(provider.authorization.request_object.is_none());
        let signing = checked(|provider| provider.profile = Some("fapi2-message-signing".to_owned()));
        let Ok(provider) = signing else {
            panic!("a key is enough")
        };
        assert_eq!(provider.authorization.response_mode, ResponseMode::Jwt);
        assert!(provider.authorization.request_object.is_some());
        for (profile, may_change) in [(Some("fapi2"), false), (None, true)] {
            let rsa = checked(|provider| {
                provider.profile = profile.map(str::to_owned);
                with_key(provider, "PS256", None);
            });
            let auth = &rsa.unwrap_or_else(|places| panic!("{places:?}")).client_auth;
            let ClientAuth::PrivateKeyJwt(jwt) = auth else {
                panic!("a key")
            };
            assert_eq!(jwt.key.alg(), "PS256");
            assert_eq!(jwt.rs256.is_some(), may_change, "{profile:?}");
        }
        let Ok(plain) = checked(|provider| provider.profile = None) else {
            panic!("a key is enough")
        };
        assert_eq!(plain.authorization.pushed, PushedRequests::Auto);
        assert_eq!(plain.dpop, None);
    }

    #[test]
    fn what_contradicts_the_profile_is_refused() {
        type Change = fn(&mut ProviderConfig);
        let cases: [(Change, &str); 8] = [
            (|p| p.profile = Some("fapi1".to_owned()), "provider.profile"),
            (
                |p| p.authorization.pushed_authorization_requests = Some("never".to_owned()),
                "provider.pushed_authorization_requests",
            ),
            (
                |p| {
                    p.client_auth = ClientAuthConfig::FromMetadata;
                    p.client_secret = Some(Secret::new("hush"));
                },
                "provider.client_auth",
            ),
            (
                |p| with_key(p, "PS256", Some("RS256")),
                "provider.client_auth.algorithm",
            ),
            (
                |p| {
                    if let ClientAuthConfig::PrivateKeyJwt(jwt) = &mut p.client_auth {
                        jwt.audience = Some("token_endpoint".to_owned());
                    }
                },
                "provider.client_auth.audience",
            ),
            (
                |p| p.leeway = Some(std::time::Duration::from_secs(61)),
                "provider.leeway",
            ),
            (
                |p| {
                    p.profile = Some("fapi2-message-signing".to_owned());
                    p.authorization.response_mode = Some("query".to_owned());
                },
                "provider.response_mode",
            ),
            (
                |p| p.authorization.pushed_authorization_requests = Some("auto".to_owned()),
                "provider.pushed_authorization_requests",
            ),
        ];
        for (change, place) in cases {
            match checked(change) {
                Ok(_) => panic!("{place} passes"),
                Err(places) => assert_eq!(places, [place]),
            }
        }
    }
}
