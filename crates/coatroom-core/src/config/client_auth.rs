//! How this client proves who it is: with a secret, a key, a certificate, or an assertion of somebody
//! else's (RFC 6749 §2.3, RFC 7521 §4.2, RFC 7523 §2.2, RFC 8705 §2).
//!
//! Checks that what is written goes together: a method has what it needs, and nothing is configured
//! that no request would use. Certificates pass through unread, since reading them is the TLS
//! library's business; a key that signs is read here. No message shows a key or a secret.

use std::path::{Path, PathBuf};

use super::check::Problems;
use super::{PrivateKeyPem, Provider, RouteConfig, RouteTargetConfig, UpstreamTlsConfig};
use crate::oauth::{SigningKey, SigningKeyError};
use crate::secret::Secret;

/// How this client authenticates, as written.
#[derive(Clone, Default)]
pub enum ClientAuthConfig {
    /// With the client secret, as the metadata offers.
    #[default]
    FromMetadata,
    /// With the client secret, in this way: `client_secret_basic`, `client_secret_basic_raw`,
    /// `client_secret_post` or `client_secret_jwt`.
    ClientSecret(String),
    /// With assertions that a key signs (RFC 7523 §2.2).
    PrivateKeyJwt(PrivateKeyJwtConfig),
    /// With the client certificate (RFC 8705 §2).
    Tls(TlsMethod),
    /// With an assertion that somebody else writes into this file, and renews (RFC 7523 §3).
    AssertionFile(PathBuf),
}

/// `private_key_jwt` as written.
#[derive(Clone)]
pub struct PrivateKeyJwtConfig {
    /// The private key in PEM.
    pub key: PrivateKeyPem,
    /// The algorithm; default: the one that the kind of key suggests.
    pub algorithm: Option<String>,
    /// The key's id; default: its thumbprint (RFC 7638).
    pub kid: Option<String>,
    /// `issuer` (default) or `token_endpoint`: whom assertions are addressed to.
    pub audience: Option<String>,
}

/// A certificate that this client shows, with its key. No `Debug`: the key.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain in PEM, the client's own certificate first.
    pub chain: String,
    /// Its private key.
    pub key: PrivateKeyPem,
}

/// Client authentication, checked. No `Debug`: it holds a secret or a key.
#[derive(Clone)]
pub enum ClientAuth {
    /// The client secret, and how it is sent or used.
    Secret(ClientAuthMethod, Secret),
    /// Assertions signed with a key (RFC 7523 §2.2).
    PrivateKeyJwt(Box<PrivateKeyJwt>),
    /// The client certificate of every connection (RFC 8705 §2).
    Tls(TlsMethod),
    /// An assertion that somebody else makes and renews, in this file.
    AssertionFile(PathBuf),
}

/// How the client secret is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMethod {
    /// `client_secret_basic` if the metadata offers it or says nothing, else `client_secret_post`.
    FromMetadata,
    /// HTTP Basic, id and secret form-encoded first (RFC 6749 §2.3.1).
    Basic,
    /// HTTP Basic without the encoding, for providers that do not decode.
    BasicRaw,
    /// In the body.
    Post,
    /// Not at all: it is the key of an HMAC (`client_secret_jwt`, OpenID Connect Core §9).
    Jwt,
}

/// What a client certificate proves by (RFC 8705 §2.1, §2.2). On the wire both are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMethod {
    /// `tls_client_auth`: an authority that the provider trusts has signed it.
    Pki,
    /// `self_signed_tls_client_auth`: the provider knows this very certificate.
    SelfSigned,
}

/// The key of `private_key_jwt`, and whom its assertions are for.
#[derive(Clone)]
pub struct PrivateKeyJwt {
    /// The key, with the algorithm that was written or that it suggests.
    pub key: SigningKey,
    /// The same key with `RS256`, for a provider whose metadata offers that in place of `PS256`; none
    /// where the algorithm was written.
    pub rs256: Option<SigningKey>,
    /// Whom the assertions are for.
    pub audience: AssertionAudience,
}

/// The `aud` of a client assertion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssertionAudience {
    /// The issuer identifier, as one string (FAPI 2.0 Security Profile §5.3.3.1).
    #[default]
    Issuer,
    /// The URL of the token endpoint, for providers of before that (OpenID Connect Core §9).
    TokenEndpoint,
}

impl ClientAuth {
    /// The method's registered name (RFC 7591 §2, RFC 8705 §2); none where the metadata decides, or
    /// where none is registered.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Secret(ClientAuthMethod::FromMetadata, _) | Self::AssertionFile(_) => None,
            Self::Secret(ClientAuthMethod::Basic | ClientAuthMethod::BasicRaw, _) => {
                Some("client_secret_basic")
            }
            Self::Secret(ClientAuthMethod::Post, _) => Some("client_secret_post"),
            Self::Secret(ClientAuthMethod::Jwt, _) => Some("client_secret_jwt"),
            Self::PrivateKeyJwt(_) => Some("private_key_jwt"),
            Self::Tls(TlsMethod::Pki) => Some("tls_client_auth"),
            Self::Tls(TlsMethod::SelfSigned) => Some("self_signed_tls_client_auth"),
        }
    }

    /// The file of an assertion that somebody else makes.
    pub fn assertion_file(&self) -> Option<&Path> {
        match self {
            Self::AssertionFile(file) => Some(file),
            Self::Secret(..) | Self::PrivateKeyJwt(_) | Self::Tls(_) => None,
        }
    }
}

/// What of the provider section this file checks.
pub(super) struct Written<'a> {
    pub(super) client_secret: Option<Secret>,
    pub(super) client_auth: ClientAuthConfig,
    pub(super) client_certificate: Option<&'a ClientCertificate>,
    pub(super) certificate_bound_access_tokens: bool,
}

pub(super) fn check_client_auth(written: Written<'_>, problems: &mut Problems) -> Option<ClientAuth> {
    let has_certificate = written.client_certificate.is_some();
    if written.certificate_bound_access_tokens && !has_certificate {
        problems.add(
            &["provider", "certificate_bound_access_tokens"],
            "there is no client certificate that access tokens could be bound to",
            "client_certificate: {certificate: {file: client.crt}, key: {file: client.key}}",
        );
    }
    let secret = written.client_secret;
    let unused = |problems: &mut Problems| {
        if secret.is_some() {
            problems.add(
                &["provider", "client_secret"],
                "this `client_auth` uses no client secret",
                "remove `client_secret`, and have the provider forget it",
            );
        }
    };
    match written.client_auth {
        ClientAuthConfig::FromMetadata => with_secret(ClientAuthMethod::FromMetadata, secret, problems),
        ClientAuthConfig::ClientSecret(name) => {
            let method = match name.as_str() {
                "client_secret_basic" => Some(ClientAuthMethod::Basic),
                "client_secret_basic_raw" => Some(ClientAuthMethod::BasicRaw),
                "client_secret_post" => Some(ClientAuthMethod::Post),
                "client_secret_jwt" => Some(ClientAuthMethod::Jwt),
                _ => None,
            };
            if method.is_none() {
                problems.add(
                    &["provider", "client_auth"],
                    "expected client_secret_basic, client_secret_basic_raw, client_secret_post or client_secret_jwt",
                    "client_auth: client_secret_basic",
                );
            }
            with_secret(method?, secret, problems)
        }
        ClientAuthConfig::PrivateKeyJwt(written) => {
            unused(problems);
            check_key(&written, problems).map(|key| ClientAuth::PrivateKeyJwt(Box::new(key)))
        }
        ClientAuthConfig::Tls(method) => {
            unused(problems);
            if !has_certificate {
                problems.add(
                    &["provider", "client_auth"],
                    "mutual TLS needs a client certificate and its key",
                    "client_auth: {method: tls_client_auth, certificate: {file: client.crt}, key: {file: client.key}}",
                );
            }
            Some(ClientAuth::Tls(method))
        }
        ClientAuthConfig::AssertionFile(file) => {
            unused(problems);
            Some(ClientAuth::AssertionFile(file))
        }
    }
}

fn with_secret(
    method: ClientAuthMethod,
    secret: Option<Secret>,
    problems: &mut Problems,
) -> Option<ClientAuth> {
    let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
        problems.add(
            &["provider", "client_secret"],
            "there is no client secret, or it is empty",
            "client_secret: {env: SHOP_CLIENT_SECRET}",
        );
        return None;
    };
    // RFC 7518 §3.2: the key of an HMAC is no shorter than its output
    if method == ClientAuthMethod::Jwt && secret.len() < MIN_HMAC_KEY {
        problems.add(
            &["provider", "client_secret"],
            "client_secret_jwt needs a client secret of at least 32 bytes (RFC 7518 §3.2)",
            "have the provider make a longer one, or use a key: `client_auth: {method: private_key_jwt, key: {file: client.pem}}`",
        );
    }
    Some(ClientAuth::Secret(method, secret))
}

fn check_key(written: &PrivateKeyJwtConfig, problems: &mut Problems) -> Option<PrivateKeyJwt> {
    let at = |key| ["provider", "client_auth", key];
    let visible = |kid: &str| !kid.is_empty() && kid.bytes().all(|b| (0x20..0x7f).contains(&b));
    if written.kid.as_deref().is_some_and(|kid| !visible(kid)) {
        problems.add(
            &at("kid"),
            "expected the key's id at the provider, in visible ASCII",
            "remove `kid`: then it is the key's thumbprint (RFC 7638)",
        );
    }
    let audience = match written.audience.as_deref() {
        None | Some("issuer") => Some(AssertionAudience::Issuer),
        Some("token_endpoint") => Some(AssertionAudience::TokenEndpoint),
        Some(_) => {
            problems.add(
                &at("audience"),
                "expected issuer or token_endpoint",
                "audience: issuer",
            );
            None
        }
    };
    let algorithm = written.algorithm.as_deref();
    let read = |algorithm| {
        let key = SigningKey::from_pem(written.key.pem().as_bytes(), algorithm, written.kid.as_deref());
        key.map(SigningKey::identified)
    };
    match read(algorithm) {
        Ok(key) => {
            let may_change = algorithm.is_none() && key.alg() == "PS256";
            Some(PrivateKeyJwt {
                rs256: may_change.then(|| read(Some("RS256")).ok()).flatten(),
                key,
                audience: audience?,
            })
        }
        Err(error) => {
            let (key, hint) = match error {
                SigningKeyError::AnotherAlgorithm => {
                    ("algorithm", "remove `algorithm`: the key suggests one")
                }
                SigningKeyError::NotAKey => ("key", NEW_KEY),
                SigningKeyError::TooShort => ("key", NEW_KEY),
            };
            problems.add(&at(key), error.to_string(), hint);
            None
        }
    }
}

/// Where access tokens are bound to the client certificate (RFC 8705 §3), an API has to see that
/// certificate: routes that carry a session's token, or the client's own, show it, and have to be able to.
pub(super) fn bind_routes(routes: &mut [RouteConfig], provider: &Provider, problems: &mut Problems) {
    let Some(bound) = &provider.client_certificate else {
        return;
    };
    if !provider.certificate_bound_access_tokens {
        return;
    }
    for route in routes {
        let path = route.path.as_str();
        let addresses = match &route.target {
            RouteTargetConfig::Upstream(one) => std::slice::from_ref(one),
            RouteTargetConfig::Upstreams(several) => several.as_slice(),
            RouteTargetConfig::Static(_) | RouteTargetConfig::DevServer(_) | RouteTargetConfig::Inner => {
                continue;
            }
        };
        let carries_ours = route
            .token
            .as_ref()
            .is_some_and(|token| token.client_credentials.is_some());
        if !carries_ours && !matches!(route.auth.as_deref(), None | Some("required" | "optional")) {
            continue;
        }
        let over_tls = |address: &String| {
            address
                .get(..8)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
        };
        if !addresses.iter().all(over_tls) {
            problems.add(
                &["routes", path, "upstream"],
                "access tokens are bound to the client certificate, which an API sees over TLS only",
                "upstream: https://api.internal",
            );
            continue;
        }
        let tls = route.upstream.tls.get_or_insert_with(UpstreamTlsConfig::default);
        match (&tls.certificate, &tls.key) {
            (None, None) => {
                tls.certificate = Some(bound.chain.clone());
                tls.key = Some(bound.key.clone());
            }
            (Some(chain), _) if *chain == bound.chain => {}
            (Some(_), _) => problems.add(
                &["routes", path, "upstream_tls", "certificate"],
                "access tokens are bound to another certificate, that of `provider`: the API would refuse them",
                "remove `certificate` and `key`: the provider's are used",
            ),
            // half of a pair is a problem of its own
            (None, Some(_)) => {}
        }
    }
}

/// The shortest key of an HMAC with SHA-256, in bytes.
const MIN_HMAC_KEY: usize = 32;

const NEW_KEY: &str = "make one: `coatroom keygen --client ES256 --out client.pem`";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, upstream};
    use crate::config::{Application, ApplicationConfig, ProviderConfig, RouteTarget};
    use crate::oauth::testing::private_key_pem;

    fn with(change: impl FnOnce(&mut ProviderConfig)) -> ApplicationConfig {
        let mut config = config();
        change(config.provider.as_mut().expect("an agent"));
        config
    }

    fn places(config: ApplicationConfig) -> Vec<String> {
        match config.check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    fn key(change: impl FnOnce(&mut PrivateKeyJwtConfig)) -> ClientAuthConfig {
        let mut key = PrivateKeyJwtConfig {
            key: PrivateKeyPem::new(private_key_pem("ES256")),
            algorithm: None,
            kid: None,
            audience: None,
        };
        change(&mut key);
        ClientAuthConfig::PrivateKeyJwt(key)
    }

    fn certificate() -> ClientCertificate {
        ClientCertificate {
            chain: "chain".to_owned(),
            key: PrivateKeyPem::new("key"),
        }
    }

    #[test]
    fn a_method_has_what_it_needs_and_nothing_else() {
        let none = Vec::<&str>::new();
        let secret = |name: &str| ClientAuthConfig::ClientSecret(name.to_owned());
        let long = "0123456789abcdef0123456789abcdef";
        let file = || ClientAuthConfig::AssertionFile("/run/token".into());
        // name, method, secret, has a certificate, problems
        let cases = [
            (
                "secret",
                ClientAuthConfig::FromMetadata,
                Some("s"),
                false,
                none.clone(),
            ),
            (
                "no secret",
                ClientAuthConfig::FromMetadata,
                None,
                false,
                vec!["provider.client_secret"],
            ),
            (
                "empty secret",
                secret("client_secret_post"),
                Some(""),
                false,
                vec!["provider.client_secret"],
            ),
            (
                "unknown",
                secret("none"),
                Some("s"),
                false,
                vec!["provider.client_auth"],
            ),
            (
                "hmac",
                secret("client_secret_jwt"),
                Some(long),
                false,
                none.clone(),
            ),
            (
                "short hmac",
                secret("client_secret_jwt"),
                Some(&long[1..]),
                false,
                vec!["provider.client_secret"],
            ),
            ("key", key(|_| {}), None, false, none.clone()),
            (
                "key and secret",
                key(|_| {}),
                Some("s"),
                false,
                vec!["provider.client_secret"],
            ),
            ("key and certificate", key(|_| {}), None, true, none.clone()),
            (
                "certificate",
                ClientAuthConfig::Tls(TlsMethod::Pki),
                None,
                true,
                none.clone(),
            ),
            (
                "no certificate",
                ClientAuthConfig::Tls(TlsMethod::SelfSigned),
                None,
                false,
                vec!["provider.client_auth"],
            ),
            (
                "certificate and secret",
                ClientAuthConfig::Tls(TlsMethod::Pki),
                Some("s"),
                true,
                vec!["provider.client_secret"],
            ),
            ("file", file(), None, false, none.clone()),
            (
                "file and secret",
                file(),
                Some("s"),
                false,
                vec!["provider.client_secret"],
            ),
            (
                "no key",
                key(|k| k.key = PrivateKeyPem::new("hush")),
                None,
                false,
                vec!["provider.client_auth.key"],
            ),
            (
                "not its algorithm",
                key(|k| k.algorithm = Some("RS256".into())),
                None,
                false,
                vec!["provider.client_auth.algorithm"],
            ),
            (
                "no algorithm",
                key(|k| k.algorithm = Some("none".into())),
                None,
                false,
                vec!["provider.client_auth.algorithm"],
            ),
            (
                "empty kid",
                key(|k| k.kid = Some(String::new())),
                None,
                false,
                vec!["provider.client_auth.kid"],
            ),
            (
                "broken kid",
                key(|k| k.kid = Some("a\nb".into())),
                None,
                false,
                vec!["provider.client_auth.kid"],
            ),
            (
                "audience",
                key(|k| k.audience = Some("token_endpoint".into())),
                None,
                false,
                none.clone(),
            ),
            (
                "bad audience",
                key(|k| k.audience = Some("https://a".into())),
                None,
                false,
                vec!["provider.client_auth.audience"],
            ),
        ];
        for (name, method, secret, has_certificate, expected) in cases {
            let found = places(with(|provider| {
                provider.client_auth = method;
                provider.client_secret = secret.map(Secret::new);
                provider.client_certificate = has_certificate.then(certificate);
            }));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_key_is_known_by_its_thumbprint_and_an_rsa_key_may_change_its_algorithm() {
        for (alg, rs256) in [
            ("ES256", false),
            ("ES384", false),
            ("EdDSA", false),
            ("PS256", true),
        ] {
            let application = checked(with(|provider| {
                provider.client_secret = None;
                provider.client_auth = key(|key| key.key = PrivateKeyPem::new(private_key_pem(alg)));
            }));
            let provider = application.provider.expect("an agent");
            let ClientAuth::PrivateKeyJwt(jwt) = &provider.client_auth else {
                panic!("{alg}")
            };
            assert_eq!(jwt.key.alg(), alg);
            assert_eq!(jwt.key.kid(), Some(jwt.key.thumbprint().as_str()));
            let other = jwt.rs256.as_ref().map(|key| (key.alg(), key.kid()));
            assert_eq!(other, rs256.then_some(("RS256", jwt.key.kid())), "{alg}");
        }
    }

    fn bound(routes: Vec<RouteConfig>) -> ApplicationConfig {
        let mut config = with(|provider| {
            provider.client_certificate = Some(certificate());
            provider.certificate_bound_access_tokens = true;
        });
        config.routes = routes;
        config
    }

    #[test]
    fn routes_with_a_token_show_the_certificate_that_it_is_bound_to() {
        let own = |mut route: RouteConfig, chain: &str| {
            route.upstream.tls = Some(UpstreamTlsConfig {
                certificate: Some(chain.to_owned()),
                key: Some(PrivateKeyPem::new("key")),
                ..UpstreamTlsConfig::default()
            });
            route
        };
        let api = |auth| upstream("/api/", "https://api.example.com", auth);
        let client = |application: &Application| match &application.routes[0].target {
            RouteTarget::Upstream(upstreams) => upstreams.tls.as_ref().and_then(|tls| tls.client.clone()),
            _ => panic!("an API"),
        };
        for auth in [None, Some("required"), Some("optional")] {
            let (chain, key) = client(&checked(bound(vec![api(auth)]))).expect("a certificate");
            assert_eq!((chain.as_str(), key.pem()), ("chain", "key"));
        }
        assert!(client(&checked(bound(vec![api(Some("none"))]))).is_none());
        assert!(client(&checked(bound(vec![own(api(None), "chain")]))).is_some());
        assert_eq!(
            places(bound(vec![own(api(None), "another")])),
            ["routes./api/.upstream_tls.certificate"]
        );
        // a route without a token may show another
        assert!(places(bound(vec![own(api(Some("none")), "another")])).is_empty());
        for plain in ["http://127.0.0.1:5000", "unix:/run/api.sock"] {
            assert_eq!(
                places(bound(vec![upstream("/api/", plain, None)])),
                ["routes./api/.upstream"]
            );
            assert!(places(bound(vec![upstream("/api/", plain, Some("none"))])).is_empty());
        }
        let mut unbound = bound(vec![api(None)]);
        unbound
            .provider
            .as_mut()
            .expect("an agent")
            .certificate_bound_access_tokens = false;
        assert!(client(&checked(unbound)).is_none());
        let mut nothing = bound(vec![api(None)]);
        nothing.provider.as_mut().expect("an agent").client_certificate = None;
        assert_eq!(places(nothing), ["provider.certificate_bound_access_tokens"]);
    }
}
