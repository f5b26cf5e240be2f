//! How authorization requests are made, and how their answers come back: as written, and checked.
//!
//! Pushed (RFC 9126), signed (RFC 9101), with `claims` (OIDC Core §5.5) and `resource` (RFC 8707);
//! answered by a plain redirect, a signed one (JARM), or a form (OAuth 2.0 Form Post Response Mode).
//! Whether the provider has what is asked for is known once its metadata are: it is judged where a
//! request is made, never here.

use serde_json::Value;
use url::Url;

use super::check::Problems;
use super::{Callback, ClientAuth, PrivateKeyPem};
use crate::oauth::{SigningKey, SigningKeyError};

/// How authorization requests are made, as written.
#[derive(Clone, Default)]
pub struct AuthorizationConfig {
    /// Whether requests are pushed: `auto` (default), `required` or `never`.
    pub pushed_authorization_requests: Option<String>,
    /// Signs requests; default: they are not signed.
    pub request_object: Option<RequestObjectConfig>,
    /// Signs them with the key of `private_key_jwt`, in place of one of their own.
    pub signed_by_client_key: bool,
    /// How answers come back: `query` (default), `jwt`, `query.jwt` or `form_post`.
    pub response_mode: Option<String>,
    /// The `claims` parameter: an object with `userinfo`, `id_token` or both.
    pub claims: Option<Value>,
    /// The `resource` parameter: absolute URIs without a fragment.
    pub resource: Vec<String>,
    /// Refuses an answer without `iss` (RFC 9207), whatever the metadata say; default no.
    pub require_iss: bool,
}

/// The key that signs authorization requests, as written.
#[derive(Clone)]
pub struct RequestObjectConfig {
    /// A private key in PEM.
    pub key: PrivateKeyPem,
    /// The algorithm; default: the one that the kind of key suggests.
    pub algorithm: Option<String>,
    /// The key's id at the provider; default: its thumbprint (RFC 7638).
    pub kid: Option<String>,
}

/// How authorization requests are made, checked. Holds a private key: no `Debug`.
#[derive(Clone, Default)]
pub struct Authorization {
    /// Whether requests are pushed.
    pub pushed: PushedRequests,
    /// What signs them, if they are signed.
    pub request_object: Option<SigningKey>,
    /// How answers come back.
    pub response_mode: ResponseMode,
    /// The `claims` parameter as JSON.
    pub claims: Option<String>,
    /// The `resource` parameters.
    pub resource: Vec<String>,
    /// Those of them that the session's own token is for, where routes' tokens are for others and calls
    /// carry both: a provider that is not told may make it good for all (RFC 8707 §2.2).
    pub own_resource: Vec<String>,
    /// Whether an answer without `iss` is refused, whatever the metadata say.
    pub require_iss: bool,
}

/// Whether authorization requests are pushed (RFC 9126).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PushedRequests {
    /// Where the provider's metadata has an endpoint for it.
    #[default]
    Auto,
    /// Always: without an endpoint nobody signs in.
    Required,
    /// Never: where the provider insists nobody signs in.
    Never,
}

/// How authorization responses come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseMode {
    /// As parameters of a redirect (RFC 6749 §4.1.2).
    #[default]
    Query,
    /// Signed, in the way that belongs to the response type (JARM §2.3.4): in a redirect's query.
    Jwt,
    /// Signed, in a redirect's query (JARM §2.3.1).
    QueryJwt,
    /// As a form that the provider's page posts.
    FormPost,
}

impl ResponseMode {
    /// The `response_mode` parameter; none for what every provider does anyway.
    pub fn parameter(self) -> Option<&'static str> {
        match self {
            Self::Query => None,
            Self::Jwt => Some("jwt"),
            Self::QueryJwt => Some("query.jwt"),
            Self::FormPost => Some("form_post"),
        }
    }

    /// Whether answers are signed (JARM).
    pub fn is_signed(self) -> bool {
        match self {
            Self::Jwt | Self::QueryJwt => true,
            Self::Query | Self::FormPost => false,
        }
    }
}

impl Authorization {
    /// Whether a setting of its own fixes the parameter of this name.
    pub(crate) fn fixes(&self, parameter: &str) -> bool {
        match parameter {
            "claims" => self.claims.is_some(),
            "resource" => !self.resource.is_empty(),
            _ => false,
        }
    }
}

pub(super) fn check_authorization(written: &AuthorizationConfig, problems: &mut Problems) -> Authorization {
    let pushed = match written.pushed_authorization_requests.as_deref() {
        None | Some("auto") => PushedRequests::Auto,
        Some("required") => PushedRequests::Required,
        Some("never") => PushedRequests::Never,
        Some(_) => {
            problems.add(
                &["provider", "pushed_authorization_requests"],
                "expected auto, required or never",
                "pushed_authorization_requests: required",
            );
            PushedRequests::Auto
        }
    };
    let response_mode = match written.response_mode.as_deref() {
        None | Some("query") => ResponseMode::Query,
        Some("jwt") => ResponseMode::Jwt,
        Some("query.jwt") => ResponseMode::QueryJwt,
        Some("form_post") => ResponseMode::FormPost,
        Some(_) => {
            problems.add(
                &["provider", "response_mode"],
                "expected query, jwt, query.jwt or form_post",
                "response_mode: jwt",
            );
            ResponseMode::Query
        }
    };
    Authorization {
        pushed,
        request_object: written
            .request_object
            .as_ref()
            .and_then(|written| check_request_object(written, problems)),
        response_mode,
        claims: written
            .claims
            .as_ref()
            .and_then(|claims| check_claims(claims, problems)),
        resource: check_resource(&written.resource, problems),
        // known once the routes are
        own_resource: Vec::new(),
        require_iss: written.require_iss,
    }
}

/// A form can be posted to the agent, not to a page of files.
pub(super) fn check_response_mode(mode: ResponseMode, callback: &Callback, problems: &mut Problems) {
    if mode == ResponseMode::FormPost && *callback != Callback::Agent {
        problems.add(
            &["provider", "response_mode"],
            "a form cannot be posted to a page of the SPA, and `login.callback` is one",
            "remove `login.callback`, or write `response_mode: jwt`",
        );
    }
}

/// The key that proves who this client is signs its requests as well.
pub(super) fn check_client_key(auth: &ClientAuth, problems: &mut Problems) -> Option<SigningKey> {
    match auth {
        ClientAuth::PrivateKeyJwt(jwt) => Some(jwt.key.clone()),
        ClientAuth::Secret(..) | ClientAuth::Tls(_) | ClientAuth::AssertionFile(_) => {
            problems.add(
                &["provider", "request_object"],
                "only `client_auth: {method: private_key_jwt}` has a key that could sign requests too",
                "request_object: {key: {file: request-object.pem}}",
            );
            None
        }
    }
}

fn check_request_object(written: &RequestObjectConfig, problems: &mut Problems) -> Option<SigningKey> {
    let (algorithm, kid) = (written.algorithm.as_deref(), written.kid.as_deref());
    let error = match SigningKey::from_pem(written.key.pem().as_bytes(), algorithm, kid) {
        Ok(key) => return Some(key.identified()),
        Err(error) => error,
    };
    let (name, hint) = match error {
        SigningKeyError::AnotherAlgorithm => {
            ("algorithm", "remove `algorithm`: then the kind of key decides")
        }
        SigningKeyError::NotAKey | SigningKeyError::TooShort => (
            "key",
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out request-object.pem",
        ),
    };
    problems.add(&["provider", "request_object", name], error.to_string(), hint);
    None
}

/// OIDC Core §5.5: `userinfo` and `id_token`, whose members are null or objects. What is inside those
/// is between the operator and the provider.
fn check_claims(written: &Value, problems: &mut Problems) -> Option<String> {
    let hint = "claims: {id_token: {acr: {essential: true, values: [phr]}}}";
    let requests = |value: &Value| {
        value
            .as_object()
            .is_some_and(|claims| claims.values().all(|claim| claim.is_null() || claim.is_object()))
    };
    let good = written.as_object().is_some_and(|members| {
        !members.is_empty()
            && members
                .iter()
                .all(|(name, value)| matches!(name.as_str(), "userinfo" | "id_token") && requests(value))
    });
    if !good {
        problems.add(
            &["provider", "claims"],
            "expected `id_token`, `userinfo` or both, with claims that are null or a mapping \
             (OpenID Connect Core §5.5)",
            hint,
        );
        return None;
    }
    let text = written.to_string();
    if text.len() > MAX_CLAIMS {
        problems.add(
            &["provider", "claims"],
            "it is longer than 4096 bytes as JSON",
            "ask for fewer claims, or for a scope that stands for them",
        );
        return None;
    }
    Some(text)
}

/// RFC 8707 §2: absolute URIs without a fragment.
fn check_resource(written: &[String], problems: &mut Problems) -> Vec<String> {
    for (index, resource) in written.iter().enumerate() {
        let number = index.to_string();
        let at = ["provider", "resource", number.as_str()];
        let visible = resource.bytes().all(|b| b.is_ascii_graphic());
        let good = Url::parse(resource).is_ok_and(|uri| uri.fragment().is_none());
        if !visible || !good {
            problems.add(
                &at,
                "expected an absolute URI without a fragment (RFC 8707 §2)",
                "resource: [https://api.example.com]",
            );
        } else if written.iter().take(index).any(|earlier| earlier == resource) {
            problems.add(&at, "the resource is there twice", "remove one of them");
        }
    }
    written.to_vec()
}

/// The longest `claims`, in bytes of JSON: it travels in a URL where nothing is pushed.
const MAX_CLAIMS: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::testing::{checked, config};
    use crate::config::{ApplicationConfig, ClientAuthConfig, PrivateKeyJwtConfig, ProviderConfig};

    fn places(change: impl FnOnce(&mut ProviderConfig)) -> Vec<String> {
        let mut config = config();
        change(config.provider.as_mut().expect("an agent"));
        places_of(config)
    }

    fn places_of(config: ApplicationConfig) -> Vec<String> {
        match config.check() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|problem| problem.at.join(".")).collect(),
        }
    }

    #[test]
    fn what_is_not_written_is_off() {
        let provider = checked(config()).provider.expect("an agent");
        let authorization = &provider.authorization;
        assert_eq!(authorization.pushed, PushedRequests::Auto);
        assert_eq!(authorization.response_mode.parameter(), None);
        assert!(authorization.request_object.is_none() && authorization.claims.is_none());
        assert!(authorization.resource.is_empty());
    }

    #[test]
    fn words_are_those_of_the_specifications() {
        for (word, good) in [
            ("auto", true),
            ("required", true),
            ("never", true),
            ("", false),
            ("true", false),
        ] {
            let found = places(|provider| {
                provider.authorization.pushed_authorization_requests = Some(word.to_owned());
            });
            assert_eq!(found.is_empty(), good, "{word}: {found:?}");
        }
        for (word, good) in [
            ("query", true),
            ("jwt", true),
            ("query.jwt", true),
            ("form_post", true),
            ("form_post.jwt", false),
            ("fragment", false),
            ("JWT", false),
        ] {
            let found = places(|provider| provider.authorization.response_mode = Some(word.to_owned()));
            assert_eq!(found.is_empty(), good, "{word}: {found:?}");
        }
    }

    #[test]
    fn a_form_is_posted_to_the_agent_only() {
        let mut config = config();
        config.login_callback = Some("/signed-in".to_owned());
        let provider = config.provider.as_mut().expect("an agent");
        provider.authorization.response_mode = Some("form_post".to_owned());
        assert_eq!(places_of(config), ["provider.response_mode"]);
    }

    #[test]
    fn claims_are_requests_for_claims() {
        let long = json!({"id_token": {"a": {"value": "x".repeat(5000)}}});
        for (claims, good) in [
            (
                json!({"id_token": {"acr": {"essential": true}, "email": null}}),
                true,
            ),
            (json!({"userinfo": {"email": null}, "id_token": {}}), true),
            (json!({}), false),
            (json!(null), false),
            (json!("email"), false),
            (json!({"email": null}), false),
            (json!({"id_token": null}), false),
            (json!({"id_token": {"email": true}}), false),
            (json!({"id_token": ["email"]}), false),
            (long, false),
        ] {
            let found = places(|provider| provider.authorization.claims = Some(claims.clone()));
            let expected: &[&str] = if good { &[] } else { &["provider.claims"] };
            assert_eq!(found, expected, "{claims}");
        }
    }

    #[test]
    fn resources_are_absolute_uris_that_are_set_in_one_place() {
        for (resources, expected) in [
            (&["https://api.example.com", "urn:api"][..], &[][..]),
            (&["/api"], &["provider.resource.0"]),
            (&["https://a", "https://a#x"], &["provider.resource.1"]),
            (&["https://a", "https://a"], &["provider.resource.1"]),
            (&[" https://a"], &["provider.resource.0"]),
        ] {
            let resources: Vec<String> = resources.iter().map(|&text| text.to_owned()).collect();
            let found = places(|provider| provider.authorization.resource = resources.clone());
            assert_eq!(found, expected, "{resources:?}");
        }
        for name in ["resource", "claims"] {
            let set = |provider: &mut ProviderConfig| {
                provider.authorization.resource = vec!["https://a".to_owned()];
                provider.authorization.claims = Some(json!({"id_token": {"acr": null}}));
            };
            let fixed = places(|provider| {
                set(provider);
                provider.authorization_parameters = vec![(name.to_owned(), "x".to_owned())];
            });
            assert_eq!(fixed, [format!("provider.authorization_parameters.{name}")]);
            let allowed = places(|provider| {
                set(provider);
                provider.allowed_parameters = vec![name.to_owned()];
            });
            assert_eq!(allowed, ["provider.allowed_parameters.0"]);
        }
    }

    #[test]
    fn a_key_has_an_id_and_may_be_the_one_that_proves_who_we_are() {
        let key = || PrivateKeyPem::new(crate::oauth::testing::one_private_key_pem());
        let signing = |kid: Option<&str>| RequestObjectConfig {
            key: key(),
            algorithm: None,
            kid: kid.map(str::to_owned),
        };
        let key_of = |change: &dyn Fn(&mut ProviderConfig)| {
            let mut config = config();
            change(config.provider.as_mut().expect("an agent"));
            let provider = checked(config).provider.expect("an agent");
            let key = provider.authorization.request_object.clone();
            key.expect("requests are signed")
        };
        let own = key_of(&|provider| provider.authorization.request_object = Some(signing(None)));
        assert_eq!(own.kid(), Some(own.thumbprint().as_str()));
        let named = key_of(&|provider| provider.authorization.request_object = Some(signing(Some("k1"))));
        assert_eq!(named.kid(), Some("k1"));
        let with_key = |provider: &mut ProviderConfig| {
            provider.client_secret = None;
            provider.client_auth = ClientAuthConfig::PrivateKeyJwt(PrivateKeyJwtConfig {
                key: key(),
                algorithm: None,
                kid: Some("k2".to_owned()),
                audience: None,
            });
            provider.authorization.signed_by_client_key = true;
        };
        assert_eq!(key_of(&with_key).kid(), Some("k2"));
        // a client secret signs nothing that others verify
        let found = places(|provider| provider.authorization.signed_by_client_key = true);
        assert_eq!(found, ["provider.request_object"]);
    }

    #[test]
    fn nothing_that_is_signed_is_addressed_to_the_template_of_many_tenants() {
        let key = || PrivateKeyPem::new(crate::oauth::testing::one_private_key_pem());
        let signing = |provider: &mut ProviderConfig| {
            provider.authorization.request_object = Some(RequestObjectConfig {
                key: key(),
                algorithm: None,
                kid: None,
            });
        };
        let asserting = |audience: Option<&'static str>| {
            move |provider: &mut ProviderConfig| {
                provider.client_secret = None;
                provider.client_auth = ClientAuthConfig::PrivateKeyJwt(PrivateKeyJwtConfig {
                    key: key(),
                    algorithm: None,
                    kid: None,
                    audience: audience.map(str::to_owned),
                });
            }
        };
        let of = |change: &dyn Fn(&mut ProviderConfig)| {
            places(|provider| {
                provider.issuer = "https://login.example.com/common/v2.0".to_owned();
                provider.habits.danger_any_tenant = true;
                change(provider);
            })
        };
        assert_eq!(of(&signing), ["provider.request_object"]);
        assert_eq!(of(&asserting(Some("issuer"))), ["provider.client_auth.audience"]);
        for audience in [None, Some("token_endpoint")] {
            assert!(of(&asserting(audience)).is_empty(), "{audience:?}");
        }
    }

    #[test]
    fn a_key_that_does_not_sign_is_refused_by_name() {
        let object = |key: &str, algorithm: Option<&str>| RequestObjectConfig {
            key: PrivateKeyPem::new(key),
            algorithm: algorithm.map(str::to_owned),
            kid: None,
        };
        let good = crate::oauth::testing::one_private_key_pem();
        for (written, expected) in [
            (object(&good, None), &[][..]),
            (object(&good, Some("ES256")), &[]),
            (
                object(&good, Some("RS256")),
                &["provider.request_object.algorithm"],
            ),
            (
                object(&good, Some("HS256")),
                &["provider.request_object.algorithm"],
            ),
            (object("hunter2", None), &["provider.request_object.key"]),
        ] {
            let found = places(|provider| provider.authorization.request_object = Some(written.clone()));
            assert_eq!(found, expected);
        }
    }
}
