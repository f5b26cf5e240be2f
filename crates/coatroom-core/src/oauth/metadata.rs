//! The provider's metadata (RFC 8414, OpenID Connect Discovery 1.0).
//!
//! Turns the discovery document into checked endpoints and facts. The `issuer` must equal the
//! configured one as a string (RFC 8414 §3.3), and an endpoint without TLS is accepted on this
//! machine only, when the issuer lives there too. This file never fetches anything and never falls
//! back to an endpoint that the document does not name.

use serde_json::{Map, Value, json};
use url::Url;

use super::json;
use crate::config::{self, DpopAlgorithm, Endpoints, FAPI2_ALGORITHMS, Plain, Profile, Tenants, is_loopback};
use crate::error::Error;

/// The provider's metadata, checked.
#[derive(Clone)]
pub struct Metadata {
    /// The issuer, equal to the configured one.
    pub(crate) issuer: String,
    /// The tenants that `issuer` stands for; then no token has it in `iss`.
    pub(crate) tenants: Option<Tenants>,
    /// Where users sign in.
    pub(crate) authorization_endpoint: Url,
    /// Where codes and refresh tokens are redeemed.
    pub(crate) token_endpoint: Url,
    /// Where the keys are; an OpenID Provider has some.
    pub(crate) jwks_uri: Option<Url>,
    /// Where RP-initiated logout goes, if the provider has it.
    pub(crate) end_session_endpoint: Option<Url>,
    /// Where tokens are revoked (RFC 7009), if the provider has it.
    pub(crate) revocation_endpoint: Option<Url>,
    /// Where tokens are asked about (RFC 7662), if the provider has it.
    pub(crate) introspection_endpoint: Option<Url>,
    /// What signed answers to that are signed with (RFC 9701 §7), if it says.
    pub(crate) introspection_signing_alg_values_supported: Option<Vec<String>>,
    /// Where the user's claims are (OIDC Core §5.3), if the provider has it.
    pub(crate) userinfo_endpoint: Option<Url>,
    /// What signed userinfo is signed with (OIDC Discovery §3), if it says.
    pub(crate) userinfo_signing_alg_values_supported: Option<Vec<String>>,
    /// Whether every authorization response carries `iss` (RFC 9207 §3).
    pub(crate) authorization_response_iss_parameter_supported: bool,
    /// How clients may authenticate at the token endpoint, if it says.
    pub(crate) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// What ID tokens are signed with, if it says.
    pub(crate) id_token_signing_alg_values_supported: Option<Vec<String>>,
    /// Where authorization requests are pushed to (RFC 9126 §5), if the provider has it.
    pub(crate) pushed_authorization_request_endpoint: Option<Url>,
    /// Whether it takes no authorization request that was not pushed (RFC 9126 §5).
    pub(crate) require_pushed_authorization_requests: bool,
    /// Whether it takes no authorization request that is not signed (RFC 9101 §10.5).
    pub(crate) require_signed_request_object: bool,
    /// What request objects may be signed with (RFC 9101 §9.2), if it says.
    pub(crate) request_object_signing_alg_values_supported: Option<Vec<String>>,
    /// What authorization responses are signed with (JARM §4), if it says.
    pub(crate) authorization_signing_alg_values_supported: Option<Vec<String>>,
    /// How authorization responses may come back (RFC 8414 §2), if it says.
    pub(crate) response_modes_supported: Option<Vec<String>>,
    /// What client assertions may be signed with (RFC 8414 §2), if it says.
    pub(crate) token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    /// Endpoints, and where a client that uses mutual TLS finds each instead (RFC 8705 §5).
    pub(crate) mtls_endpoint_aliases: Vec<(Url, Url)>,
    /// The PKCE methods (RFC 7636), if it says. S256 is used in any case.
    pub(crate) code_challenge_methods_supported: Option<Vec<String>>,
    /// What DPoP proofs may be signed with (RFC 9449 §5.1), if it says.
    pub(crate) dpop_signing_alg_values_supported: Option<Vec<String>>,
}

impl Metadata {
    /// Where the metadata of `issuer` is (OIDC Discovery §4): below its path, whether or not that
    /// ends with a slash.
    ///
    /// # Errors
    /// [`Error::Provider`] when `issuer` is not an `https` URL (on this machine also `http`), or has
    /// a query, a fragment or user information.
    pub fn discovery_url(issuer: &str) -> Result<Url, Error> {
        let mut url = issuer_url(issuer)?;
        let path = format!("{}{WELL_KNOWN}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }

    /// Where the metadata of a provider without ID tokens are (RFC 8414 §3.1): between its host and its
    /// path.
    ///
    /// # Errors
    /// As [`discovery_url`](Self::discovery_url).
    pub fn oauth_discovery_url(issuer: &str) -> Result<Url, Error> {
        let mut url = issuer_url(issuer)?;
        let path = format!("{OAUTH_WELL_KNOWN}{}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }

    /// Where the metadata of a provider are; none where the configuration has its endpoints.
    ///
    /// # Errors
    /// As [`discovery_url`](Self::discovery_url).
    pub fn place(provider: &config::Provider) -> Result<Option<Url>, Error> {
        match (&provider.habits.discovery, &provider.plain) {
            (
                _,
                Some(Plain {
                    endpoints: Some(_), ..
                }),
            ) => Ok(None),
            (Some(url), _) => Ok(Some(url.clone())),
            (None, Some(_)) => Self::oauth_discovery_url(&provider.issuer).map(Some),
            (None, None) => Self::discovery_url(&provider.issuer).map(Some),
        }
    }

    /// Checks a discovery document that was fetched for `issuer`.
    ///
    /// # Errors
    /// [`Error::Provider`] naming the member that is missing or unusable.
    pub fn parse(body: &[u8], issuer: &str) -> Result<Self, Error> {
        let metadata = Self::parse_plain(body, issuer)?;
        match metadata.jwks_uri {
            Some(_) => Ok(metadata),
            None => Err(refuse("`jwks_uri` is missing")),
        }
    }

    /// What the configuration says of a provider without metadata (RFC 6749 §3).
    ///
    /// # Errors
    /// [`Error::Provider`] naming the endpoint that is unusable.
    pub fn of_endpoints(endpoints: &Endpoints, issuer: &str) -> Result<Self, Error> {
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": endpoints.authorization.as_str(),
            "token_endpoint": endpoints.token.as_str(),
            "revocation_endpoint": endpoints.revocation.as_ref().map(Url::as_str),
            "introspection_endpoint": endpoints.introspection.as_ref().map(Url::as_str),
        });
        Self::parse_plain(document.to_string().as_bytes(), issuer)
    }

    /// The same as [`parse`](Self::parse) for a provider without ID tokens (RFC 8414), which needs no
    /// keys.
    ///
    /// # Errors
    /// [`Error::Provider`] naming the member that is missing or unusable.
    pub fn parse_plain(body: &[u8], issuer: &str) -> Result<Self, Error> {
        let document =
            json::object(body).ok_or_else(|| refuse("it is not a json object with unique members"))?;
        match document.get("issuer") {
            Some(Value::String(named)) if named == issuer => {}
            Some(Value::String(named)) if named.trim_end_matches('/') == issuer.trim_end_matches('/') => {
                return Err(refuse(
                    "`issuer` differs from the configured one by a trailing slash; they must be equal",
                ));
            }
            Some(Value::String(_)) => {
                return Err(refuse(
                    "`issuer` differs from the configured one; they must be equal",
                ));
            }
            Some(_) => return Err(refuse("`issuer` is not a string")),
            None => return Err(refuse("`issuer` is missing")),
        }
        let tls = match issuer_url(issuer)?.scheme() {
            "https" => Tls::Required,
            _ => Tls::RequiredOffLoopback,
        };
        let required =
            |name| endpoint(&document, name, tls)?.ok_or_else(|| refuse(&format!("`{name}` is missing")));
        Ok(Self {
            issuer: issuer.to_owned(),
            tenants: None,
            authorization_endpoint: required("authorization_endpoint")?,
            token_endpoint: required("token_endpoint")?,
            jwks_uri: endpoint(&document, "jwks_uri", tls)?,
            end_session_endpoint: endpoint(&document, "end_session_endpoint", tls)?,
            revocation_endpoint: endpoint(&document, "revocation_endpoint", tls)?,
            introspection_endpoint: endpoint(&document, "introspection_endpoint", tls)?,
            introspection_signing_alg_values_supported: list(
                &document,
                "introspection_signing_alg_values_supported",
            )?,
            userinfo_endpoint: endpoint(&document, "userinfo_endpoint", tls)?,
            userinfo_signing_alg_values_supported: list(&document, "userinfo_signing_alg_values_supported")?,
            authorization_response_iss_parameter_supported: flag(
                &document,
                "authorization_response_iss_parameter_supported",
            )?,
            token_endpoint_auth_methods_supported: list(&document, "token_endpoint_auth_methods_supported")?,
            id_token_signing_alg_values_supported: list(&document, "id_token_signing_alg_values_supported")?,
            pushed_authorization_request_endpoint: endpoint(
                &document,
                "pushed_authorization_request_endpoint",
                tls,
            )?,
            require_pushed_authorization_requests: flag(&document, "require_pushed_authorization_requests")?,
            require_signed_request_object: flag(&document, "require_signed_request_object")?,
            request_object_signing_alg_values_supported: list(
                &document,
                "request_object_signing_alg_values_supported",
            )?,
            authorization_signing_alg_values_supported: list(
                &document,
                "authorization_signing_alg_values_supported",
            )?,
            response_modes_supported: list(&document, "response_modes_supported")?,
            token_endpoint_auth_signing_alg_values_supported: list(
                &document,
                "token_endpoint_auth_signing_alg_values_supported",
            )?,
            mtls_endpoint_aliases: aliases(&document, tls)?,
            code_challenge_methods_supported: list(&document, "code_challenge_methods_supported")?,
            dpop_signing_alg_values_supported: list(&document, "dpop_signing_alg_values_supported")?,
        })
    }

    /// The same, held to a profile: what it asks of the provider is expected whether or not that is
    /// announced.
    #[must_use]
    pub fn for_profile(mut self, profile: Profile) -> Self {
        if !profile.is_fapi2() {
            return self;
        }
        let restrict = |offered: &mut Option<Vec<String>>| {
            let allowed = FAPI2_ALGORITHMS.map(str::to_owned).to_vec();
            match offered {
                Some(offered) => offered.retain(|alg| allowed.contains(alg)),
                None => *offered = Some(allowed),
            }
        };
        restrict(&mut self.id_token_signing_alg_values_supported);
        restrict(&mut self.authorization_signing_alg_values_supported);
        restrict(&mut self.userinfo_signing_alg_values_supported);
        restrict(&mut self.introspection_signing_alg_values_supported);
        // FAPI 2.0 Security Profile §5.3.3.2: `iss` is checked, so it has to be there
        self.authorization_response_iss_parameter_supported = true;
        self
    }

    /// The same for an issuer that stands for these tenants ([`Provider::metadata_issuer`]): whose
    /// tokens are accepted. Without this nobody's are.
    ///
    /// [`Provider::metadata_issuer`]: crate::config::Provider::metadata_issuer
    #[must_use]
    pub fn for_tenants(self, tenants: Option<Tenants>) -> Self {
        Self { tenants, ..self }
    }

    /// Whether an issuer is this provider, as a string.
    pub(crate) fn is_issuer(&self, issuer: &str) -> bool {
        match &self.tenants {
            Some(tenants) => tenants.tenant_of(issuer).is_some(),
            None => issuer == self.issuer,
        }
    }

    /// Where the provider's keys are (RFC 7517); an OpenID Provider has some.
    pub fn jwks_uri(&self) -> Option<&Url> {
        self.jwks_uri.as_ref()
    }

    /// The same without what only OpenID Connect has: nothing may be asked that takes an ID token.
    #[must_use]
    pub fn for_plain(self, plain: Option<&Plain>) -> Self {
        match plain {
            Some(_) => Self {
                end_session_endpoint: None,
                ..self
            },
            None => self,
        }
    }

    /// Where an endpoint of this metadata is for a client that uses mutual TLS (RFC 8705 §5): at its
    /// alias, or else where it is for everybody.
    pub(crate) fn with_mutual_tls<'a>(&'a self, endpoint: &'a Url) -> &'a Url {
        let aliases = &self.mtls_endpoint_aliases;
        let alias = aliases.iter().find(|(plain, _)| plain == endpoint);
        alias.map_or(endpoint, |(_, alias)| alias)
    }

    /// Whether the provider says that it understands PKCE with S256; nothing when it does not say.
    pub fn offers_s256(&self) -> Option<bool> {
        let methods = self.code_challenge_methods_supported.as_ref()?;
        Some(methods.iter().any(|method| method == "S256"))
    }

    /// Whether the provider says that it takes DPoP proofs of this algorithm; nothing when it does not
    /// say, which RFC 9449 §5.1 allows.
    pub fn offers_dpop(&self, algorithm: DpopAlgorithm) -> Option<bool> {
        let algorithms = self.dpop_signing_alg_values_supported.as_ref()?;
        Some(algorithms.iter().any(|offered| offered == algorithm.alg()))
    }

    /// Whether the provider says what it knows of a token (RFC 7662).
    pub fn offers_introspection(&self) -> bool {
        self.introspection_endpoint.is_some()
    }

    /// Whether the provider has RP-initiated logout.
    pub fn offers_end_session(&self) -> bool {
        self.end_session_endpoint.is_some()
    }
}

/// Whether plain http is acceptable somewhere.
#[derive(Clone, Copy)]
enum Tls {
    Required,
    RequiredOffLoopback,
}

fn issuer_url(issuer: &str) -> Result<Url, Error> {
    let url = checked_url(issuer, Tls::RequiredOffLoopback)
        .map_err(|why| Error::Provider(format!("the configured `issuer` cannot be used: {why}")))?;
    if url.query().is_some() {
        return Err(Error::Provider(
            "the configured `issuer` cannot be used: it has a query".to_owned(),
        ));
    }
    Ok(url)
}

fn endpoint(document: &Map<String, Value>, name: &str, tls: Tls) -> Result<Option<Url>, Error> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => checked_url(text, tls)
            .map(Some)
            .map_err(|why| refuse(&format!("`{name}` cannot be used: {why}"))),
        Some(_) => Err(refuse(&format!("`{name}` is not a string"))),
    }
}

/// What is wrong with an alias is an error even if there is the plain endpoint: falling back to that
/// would make a token that is bound to nothing.
fn aliases(document: &Map<String, Value>, tls: Tls) -> Result<Vec<(Url, Url)>, Error> {
    let members = match document.get("mtls_endpoint_aliases") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(refuse("`mtls_endpoint_aliases` is not an object")),
    };
    let mut aliases = Vec::new();
    for name in BACK_CHANNEL {
        let alias = match members.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => checked_url(text, tls),
            Some(_) => Err("it is not a string"),
        };
        let alias = alias.map_err(|why| {
            refuse(&format!(
                "`{name}` of `mtls_endpoint_aliases` cannot be used: {why}"
            ))
        })?;
        if let Some(plain) = endpoint(document, name, tls)? {
            aliases.push((plain, alias));
        }
    }
    Ok(aliases)
}

/// The one rule for URLs that this process or the browser is sent to.
fn checked_url(text: &str, tls: Tls) -> Result<Url, &'static str> {
    // The parser drops tabs, line ends and spaces around; a document has none of them.
    if text.len() > MAX_URL || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("it is not a url of visible ascii characters");
    }
    let url = Url::parse(text).map_err(|_| "it is not an absolute url")?;
    let insecure_is_fine = matches!(tls, Tls::RequiredOffLoopback) && is_loopback(&url);
    match url.scheme() {
        "https" => {}
        "http" if insecure_is_fine => {}
        "http" => return Err("plain http is accepted on loopback only, with an http issuer on loopback"),
        _ => return Err("its scheme is not https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it carries user information");
    }
    if url.fragment().is_some() {
        return Err("it carries a fragment");
    }
    Ok(url)
}

fn list(document: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, Error> {
    let values = match document.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(values)) => values,
        Some(_) => return Err(refuse(&format!("`{name}` is not an array"))),
    };
    values
        .iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect::<Option<Vec<_>>>()
        .map(Some)
        .ok_or_else(|| refuse(&format!("`{name}` has a member that is not a string")))
}

fn flag(document: &Map<String, Value>, name: &str) -> Result<bool, Error> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(refuse(&format!("`{name}` is not a boolean"))),
    }
}

fn refuse(why: &str) -> Error {
    Error::Provider(format!("the metadata document: {why}"))
}

/// The endpoints that this process calls with authentication.
const BACK_CHANNEL: [&str; 5] = [
    "token_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "pushed_authorization_request_endpoint",
    "userinfo_endpoint",
];

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const OAUTH_WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";

/// The longest URL that is accepted, in bytes.
const MAX_URL: usize = 2048;

#[cfg(test)]
mod tests {
    #[test]
    fn a_profile_takes_fewer_algorithms_and_wants_iss() {
        let metadata = |offered: Value| {
            let changes = [
                ("id_token_signing_alg_values_supported", offered.clone()),
                ("authorization_signing_alg_values_supported", offered.clone()),
                ("userinfo_signing_alg_values_supported", offered.clone()),
                ("introspection_signing_alg_values_supported", offered),
                ("authorization_response_iss_parameter_supported", json!(false)),
            ];
            crate::oauth::testing::metadata_with(&changes)
        };
        for (offered, left) in [
            (
                json!(["RS256", "PS256", "ES384", "ES256"]),
                vec!["PS256", "ES256"],
            ),
            (json!(["RS256"]), vec![]),
            (Value::Null, vec!["PS256", "ES256", "EdDSA"]),
        ] {
            let strict = metadata(offered.clone()).for_profile(Profile::Fapi2);
            for lists in [
                strict.id_token_signing_alg_values_supported,
                strict.authorization_signing_alg_values_supported,
                strict.userinfo_signing_alg_values_supported,
                strict.introspection_signing_alg_values_supported,
            ] {
                assert_eq!(lists.unwrap(), left, "{offered}");
            }
            assert!(strict.authorization_response_iss_parameter_supported);
            let as_it_is = metadata(offered).for_profile(Profile::None);
            assert!(!as_it_is.authorization_response_iss_parameter_supported);
        }
    }

    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://login.example.com";
    const LOOPBACK: &str = "http://127.0.0.1:9000";

    fn document(issuer: &str) -> Value {
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "end_session_endpoint": format!("{issuer}/logout"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "authorization_response_iss_parameter_supported": true,
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "code_challenge_methods_supported": ["S256"],
            "claims_supported": ["sub"],
        })
    }

    fn parse(document: &Value, issuer: &str) -> Result<Metadata, Error> {
        Metadata::parse(&serde_json::to_vec(document).unwrap(), issuer)
    }

    fn error(result: Result<Metadata, Error>) -> String {
        match result {
            Err(Error::Provider(text)) => text,
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[test]
    fn the_discovery_url_is_below_the_issuers_path() {
        let cases = [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/realms/x",
                "https://a.example/realms/x/.well-known/openid-configuration",
            ),
            (
                "https://a.example/realms/x/",
                "https://a.example/realms/x/.well-known/openid-configuration",
            ),
            (
                "http://localhost:8080/a",
                "http://localhost:8080/a/.well-known/openid-configuration",
            ),
        ];
        for (issuer, url) in cases {
            assert_eq!(Metadata::discovery_url(issuer).unwrap().as_str(), url);
        }
    }

    #[test]
    fn the_metadata_of_plain_oauth_are_between_host_and_path() {
        for (issuer, url) in [
            (
                "https://login.example.com",
                "https://login.example.com/.well-known/oauth-authorization-server",
            ),
            (
                "https://github.com/login/oauth",
                "https://github.com/.well-known/oauth-authorization-server/login/oauth",
            ),
            (
                "https://login.example.com/a/",
                "https://login.example.com/.well-known/oauth-authorization-server/a",
            ),
        ] {
            assert_eq!(Metadata::oauth_discovery_url(issuer).unwrap().as_str(), url);
        }
    }

    #[test]
    fn plain_oauth_needs_no_keys_and_an_openid_provider_does() {
        let mut document = document(ISSUER);
        document.as_object_mut().unwrap().remove("jwks_uri");
        let body = serde_json::to_vec(&document).unwrap();
        assert!(error(Metadata::parse(&body, ISSUER)).contains("`jwks_uri` is missing"));
        let metadata = Metadata::parse_plain(&body, ISSUER).ok().unwrap();
        assert!(metadata.jwks_uri().is_none());
        assert!(error(Metadata::parse_plain(&body, "https://other.example.com")).contains("issuer"));
    }

    #[test]
    fn an_issuer_that_is_no_plain_https_url_has_no_discovery_url() {
        for issuer in [
            "",
            "login.example.com",
            "http://login.example.com",
            "ftp://login.example.com",
            "https://login.example.com?a=b",
            "https://login.example.com#a",
            "https://user@login.example.com",
            "https://login.example.com\n",
        ] {
            assert!(
                matches!(Metadata::discovery_url(issuer), Err(Error::Provider(_))),
                "{issuer:?}"
            );
        }
    }

    #[test]
    fn a_complete_document_is_understood() {
        let metadata = parse(&document(ISSUER), ISSUER).unwrap();
        assert_eq!(metadata.issuer, ISSUER);
        assert_eq!(
            metadata.token_endpoint.as_str(),
            "https://login.example.com/token"
        );
        assert_eq!(
            metadata.jwks_uri().unwrap().as_str(),
            "https://login.example.com/jwks"
        );
        assert!(metadata.offers_end_session());
        assert!(metadata.revocation_endpoint.is_some());
        assert!(metadata.authorization_response_iss_parameter_supported);
        assert_eq!(metadata.offers_s256(), Some(true));
        assert_eq!(
            metadata.id_token_signing_alg_values_supported.as_deref(),
            Some(&["RS256".to_owned(), "ES256".to_owned()][..])
        );
    }

    #[test]
    fn what_is_optional_may_be_missing_or_null() {
        for absent in [None, Some(Value::Null)] {
            let mut document = document(ISSUER);
            for name in [
                "end_session_endpoint",
                "revocation_endpoint",
                "authorization_response_iss_parameter_supported",
                "token_endpoint_auth_methods_supported",
                "id_token_signing_alg_values_supported",
                "code_challenge_methods_supported",
            ] {
                match &absent {
                    Some(null) => document[name] = null.clone(),
                    None => drop(document.as_object_mut().unwrap().remove(name)),
                }
            }
            let metadata = parse(&document, ISSUER).unwrap();
            assert!(!metadata.offers_end_session());
            assert!(metadata.revocation_endpoint.is_none());
            assert!(!metadata.authorization_response_iss_parameter_supported);
            assert!(metadata.token_endpoint_auth_methods_supported.is_none());
            assert_eq!(metadata.offers_s256(), None);
        }
    }

    #[test]
    fn a_bad_member_is_refused_by_name() {
        let missing = Value::Null;
        let cases: &[(&str, Value)] = &[
            ("issuer", json!("https://evil.example.com")),
            ("issuer", json!("https://login.example.com/")),
            ("issuer", json!("https://LOGIN.example.com")),
            ("issuer", json!([ISSUER])),
            ("issuer", missing.clone()),
            ("authorization_endpoint", missing.clone()),
            ("token_endpoint", missing.clone()),
            ("jwks_uri", missing),
            ("authorization_endpoint", json!(7)),
            ("authorization_endpoint", json!("/authorize")),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            (
                "authorization_endpoint",
                json!("https://user:pw@login.example.com/authorize"),
            ),
            (
                "authorization_endpoint",
                json!("https://login.example.com/authorize#x"),
            ),
            (
                "authorization_endpoint",
                json!("https://login.example.com/\tauthorize"),
            ),
            ("token_endpoint", json!("http://login.example.com/token")),
            ("token_endpoint", json!("http://127.0.0.1/token")),
            ("token_endpoint", json!("file:///etc/passwd")),
            ("jwks_uri", json!("http://login.example.com/jwks")),
            (
                "jwks_uri",
                json!(format!("https://login.example.com/{}", "a".repeat(2048))),
            ),
            ("end_session_endpoint", json!("http://login.example.com/logout")),
            ("revocation_endpoint", json!({"url": "https://login.example.com"})),
            ("authorization_response_iss_parameter_supported", json!("true")),
            (
                "token_endpoint_auth_methods_supported",
                json!("client_secret_basic"),
            ),
            ("id_token_signing_alg_values_supported", json!(["RS256", 7])),
            ("code_challenge_methods_supported", json!({"S256": true})),
            (
                "pushed_authorization_request_endpoint",
                json!("http://login.example.com/par"),
            ),
            ("require_pushed_authorization_requests", json!("true")),
            ("require_signed_request_object", json!(1)),
            ("request_object_signing_alg_values_supported", json!("ES256")),
            ("authorization_signing_alg_values_supported", json!([7])),
            ("response_modes_supported", json!({"jwt": true})),
            ("token_endpoint_auth_signing_alg_values_supported", json!("ES256")),
            ("mtls_endpoint_aliases", json!(["token_endpoint"])),
            ("mtls_endpoint_aliases", json!({"token_endpoint": 7})),
            ("mtls_endpoint_aliases", json!({"token_endpoint": "/token"})),
            (
                "mtls_endpoint_aliases",
                json!({"token_endpoint": "http://mtls.example.com/token"}),
            ),
            (
                "mtls_endpoint_aliases",
                json!({"revocation_endpoint": "https://u@mtls.example.com/revoke"}),
            ),
        ];
        for (name, value) in cases {
            let mut document = document(ISSUER);
            document[*name] = value.clone();
            let text = error(parse(&document, ISSUER));
            assert!(text.contains(&format!("`{name}`")), "{name} = {value}: {text}");
            assert!(!text.contains("evil"), "repeats input: {text}");
        }
    }

    #[test]
    fn a_client_with_a_certificate_goes_to_the_aliases_that_there_are() {
        let mut document = document(ISSUER);
        document["userinfo_endpoint"] = json!("https://login.example.com/me");
        document["mtls_endpoint_aliases"] = json!({
            "token_endpoint": "https://mtls.example.com/token",
            "userinfo_endpoint": "https://mtls.example.com/me",
            // one without the endpoint itself, one of another kind, and none at all
            "introspection_endpoint": "https://mtls.example.com/introspect",
            "device_authorization_endpoint": 7,
            "pushed_authorization_request_endpoint": null,
        });
        let metadata = parse(&document, ISSUER).unwrap();
        for (endpoint, expected) in [
            (
                "https://login.example.com/token",
                "https://mtls.example.com/token",
            ),
            ("https://login.example.com/me", "https://mtls.example.com/me"),
            (
                "https://login.example.com/revoke",
                "https://login.example.com/revoke",
            ),
        ] {
            let endpoint = Url::parse(endpoint).unwrap();
            assert_eq!(metadata.with_mutual_tls(&endpoint).as_str(), expected);
        }
    }

    #[test]
    fn plain_http_endpoints_need_an_issuer_on_loopback_and_loopback_themselves() {
        assert!(parse(&document(LOOPBACK), LOOPBACK).is_ok());
        assert!(parse(&document("http://idp.localhost:1"), "http://idp.localhost:1").is_ok());

        let mut elsewhere = document(LOOPBACK);
        elsewhere["token_endpoint"] = json!("http://login.example.com/token");
        assert!(error(parse(&elsewhere, LOOPBACK)).contains("`token_endpoint`"));

        let mut secure = document(LOOPBACK);
        secure["token_endpoint"] = json!("https://login.example.com/token");
        assert!(parse(&secure, LOOPBACK).is_ok());
    }

    #[test]
    fn a_trailing_slash_too_many_is_named() {
        let text = error(parse(&document("https://login.example.com/"), ISSUER));
        assert!(text.contains("trailing slash"), "{text}");
    }

    #[test]
    fn what_is_no_unambiguous_object_is_refused() {
        for body in [
            &b""[..],
            b"<html>",
            b"[]",
            b"null",
            br#"{"issuer":"https://login.example.com","issuer":"https://login.example.com"}"#,
        ] {
            assert!(error(Metadata::parse(body, ISSUER)).contains("json object"));
        }
    }
}
