//! Client authentication at the provider (RFC 6749 §2.3, RFC 7521 §4.2, RFC 7523 §2.2, RFC 8705 §2).
//!
//! Builds every request of ours that carries the client's credentials, and with them a code, a
//! verifier or a token: one of the two places where a secret leaves the process. Values are
//! form-encoded, always; the credentials header is marked sensitive, the body is zeroed when dropped.
//! Each request has an assertion of its own, so that none is ever a replay. Nothing is sent from here
//! and nothing is logged.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::jws::{SigningKey, sign_hs256};
use super::metadata::Metadata;
use crate::config::{AssertionAudience, ClientAuth, ClientAuthMethod, PrivateKeyJwt, Provider};
use crate::error::Error;
use crate::rng::random_text;
use crate::secret::Secret;
use crate::step::{Context, ProviderRequest};

/// A form POST to `endpoint`, authenticated as this client. A client that shows a certificate asks
/// the endpoint's alias, where there is one (RFC 8705 §5).
///
/// # Errors
/// [`Error::Provider`] when the metadata offers no method that a client secret can be used with, or
/// the credentials do not fit the configured one; [`Error::ProviderUnavailable`] while there is no
/// assertion that somebody else makes; [`Error::Bug`] when a key does not sign.
pub(crate) fn post(
    endpoint: &Url,
    parameters: &[(&str, &str)],
    provider: &Provider,
    context: &mut Context<'_>,
) -> Result<ProviderRequest, Error> {
    let snapshot = context.provider;
    let metadata = &snapshot.metadata;
    let endpoint = back_channel(endpoint, provider, metadata);
    let mut headers = vec![
        (ACCEPT, HeaderValue::from_static("application/json")),
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        ),
    ];
    let id = provider.client_id.as_str();
    let with_assertion = |assertion: &Secret| {
        // RFC 7521 §4.2 leaves `client_id` out, and providers need it to find the key (Entra, Okta)
        let credentials = [
            ("client_id", id),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion.expose()),
        ];
        form(&[parameters, &credentials].concat())
    };
    let body = match &provider.client_auth {
        ClientAuth::Secret(method, secret) => {
            let value = secret.expose();
            match sent(*method, metadata)? {
                Sent::Basic => {
                    headers.push((AUTHORIZATION, basic(&encoded(&[id]), &encoded(&[value]))?));
                    form(parameters)
                }
                Sent::BasicRaw if id.contains(':') => {
                    return Err(Error::Provider(
                        "`client_id` contains a colon, which http basic without encoding cannot carry; use \
                         client_secret_basic or client_secret_post"
                            .to_owned(),
                    ));
                }
                Sent::BasicRaw => {
                    headers.push((AUTHORIZATION, basic(id.as_bytes(), value.as_bytes())?));
                    form(parameters)
                }
                Sent::Post => form(&[parameters, &[("client_id", id), ("client_secret", value)]].concat()),
                Sent::Jwt => {
                    let claims = assertion_claims(AssertionAudience::Issuer, provider, context);
                    with_assertion(&sign_hs256(value.as_bytes(), &assertion_header(), &claims))
                }
            }
        }
        ClientAuth::PrivateKeyJwt(jwt) => {
            let claims = assertion_claims(jwt.audience, provider, context);
            with_assertion(&signing_key(jwt, metadata).sign(&assertion_header(), &claims)?)
        }
        // RFC 8705 §2: the certificate proves, `client_id` says what
        ClientAuth::Tls(_) => form(&[parameters, &[("client_id", id)]].concat()),
        ClientAuth::AssertionFile(_) => match &snapshot.live.client_assertion {
            Some(assertion) => with_assertion(assertion),
            None => {
                return Err(Error::ProviderUnavailable {
                    reason: "the file of `client_auth` holds no client assertion that can be used".to_owned(),
                    retry_after: RETRY_AFTER,
                });
            }
        },
    };
    Ok(ProviderRequest {
        method: Method::POST,
        url: endpoint.clone(),
        headers,
        body,
    })
}

/// Where an endpoint of the back channel is for this client: everything that authenticates, or
/// carries a token that is bound to the certificate, has to go there.
pub(crate) fn back_channel<'a>(endpoint: &'a Url, provider: &Provider, metadata: &'a Metadata) -> &'a Url {
    match provider.client_certificate {
        Some(_) => metadata.with_mutual_tls(endpoint),
        None => endpoint,
    }
}

/// What it means that the provider does not take the credentials: which were used, and what to look at.
pub(crate) fn refused(provider: &Provider, metadata: &Metadata) -> &'static str {
    match &provider.client_auth {
        ClientAuth::Secret(method, _) => match sent(*method, metadata) {
            Ok(Sent::Basic | Sent::BasicRaw) => {
                "invalid_client: client_secret_basic is refused; check `client_id` and `client_secret`, and \
                 whether the client is registered for another `client_auth`"
            }
            Ok(Sent::Post) => {
                "invalid_client: client_secret_post is refused; check `client_id` and `client_secret`, and \
                 whether the client is registered for another `client_auth`"
            }
            Ok(Sent::Jwt) => {
                "invalid_client: client_secret_jwt is refused; check `client_id`, `client_secret`, the clocks, \
                 and whether the client is registered for this `client_auth` with HS256"
            }
            Err(_) => "invalid_client: check `client_id`, `client_secret` and `client_auth`",
        },
        ClientAuth::PrivateKeyJwt(_) => {
            "invalid_client: private_key_jwt is refused; check `client_id`, whether the public half of \
             `client_auth.key` is registered (`coatroom keygen --jwks FILE` prints it), the algorithm, the \
             clocks, and whether the provider wants `client_auth.audience: token_endpoint`"
        }
        ClientAuth::Tls(_) => {
            "invalid_client: the client certificate is refused; check `client_id`, whether the certificate of \
             `client_auth` (its subject, or itself if it is self-signed) is registered and has not expired, and \
             whether the provider has `mtls_endpoint_aliases`"
        }
        ClientAuth::AssertionFile(_) => {
            "invalid_client: the assertion in the file of `client_auth` is refused; check `client_id`, the \
             issuer, subject and audience that the provider expects of it, and whether it has expired"
        }
    }
}

/// What it means that the provider does not take the credentials: how they were used, and what to look
/// at, as far as there is something to say of either.
pub fn refused_credentials(provider: &Provider, metadata: &Metadata) -> (&'static str, &'static str) {
    let text = refused(provider, metadata);
    let text = text.strip_prefix("invalid_client: ").unwrap_or(text);
    text.split_once("; ")
        .unwrap_or(("the credentials are refused", text))
}

/// Why a file holds no client assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionProblem {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is longer than [`MAX_ASSERTION`].
    #[error("it is longer than 16 kib")]
    TooLong,
    /// It is anything but one compact JWS (RFC 7515 §7.1).
    #[error("it is not a jwt")]
    NotAJwt,
}

/// Reads a client assertion that somebody else made, as a file holds it: line ends and blanks around
/// it are none of it. Whether it is a good one only the provider can say.
///
/// # Errors
/// [`AssertionProblem`].
pub fn read_client_assertion(file: &[u8]) -> Result<Secret, AssertionProblem> {
    if file.len() > MAX_ASSERTION {
        return Err(AssertionProblem::TooLong);
    }
    let text = file.trim_ascii();
    if text.is_empty() {
        return Err(AssertionProblem::Empty);
    }
    let mut parts = 0_usize;
    for part in text.split(|b| *b == b'.') {
        if part.is_empty() || URL_SAFE_NO_PAD.decode(part).is_err() {
            return Err(AssertionProblem::NotAJwt);
        }
        parts = parts.saturating_add(1);
    }
    match str::from_utf8(text) {
        Ok(text) if parts == 3 => Ok(Secret::new(text)),
        Ok(_) | Err(_) => Err(AssertionProblem::NotAJwt),
    }
}

/// The longest client assertion in a file, in bytes.
pub const MAX_ASSERTION: usize = 16 * 1024;

/// The media type of every assertion. Not `client-authentication+jwt`, which a revision of RFC 7523
/// is about to recommend: libraries of providers refuse a `typ` that they do not know.
fn assertion_header() -> Value {
    json!({"typ": "JWT"})
}

/// What a client assertion says (RFC 7523 §3, OpenID Connect Core §9), and nothing else.
fn assertion_claims(audience: AssertionAudience, provider: &Provider, context: &mut Context<'_>) -> Value {
    let metadata = &context.provider.metadata;
    let id = &provider.client_id;
    json!({
        "iss": id,
        "sub": id,
        // one string: a provider that is asked in a list may find itself in somebody else's
        "aud": match audience {
            AssertionAudience::Issuer if metadata.tenants.is_none() => metadata.issuer.as_str(),
            // of many tenants the issuer is a template, which nobody is called
            AssertionAudience::Issuer | AssertionAudience::TokenEndpoint => metadata.token_endpoint.as_str(),
        },
        "jti": random_text::<16>(context.rng),
        "iat": context.now.0,
        "exp": context.now.plus(ASSERTION_LIFE).0,
    })
}

/// The key with an algorithm that the provider takes. What was written stays as it is.
fn signing_key<'a>(jwt: &'a PrivateKeyJwt, metadata: &Metadata) -> &'a SigningKey {
    let offered = metadata
        .token_endpoint_auth_signing_alg_values_supported
        .as_deref();
    let offers = |alg: &str| offered.is_some_and(|offered| offered.iter().any(|one| one == alg));
    match &jwt.rs256 {
        Some(rs256) if offers("RS256") && !offers("PS256") => rs256,
        Some(_) | None => &jwt.key,
    }
}

/// How the secret is used, decided.
enum Sent {
    Basic,
    BasicRaw,
    Post,
    Jwt,
}

fn sent(configured: ClientAuthMethod, metadata: &Metadata) -> Result<Sent, Error> {
    match configured {
        ClientAuthMethod::Basic => Ok(Sent::Basic),
        ClientAuthMethod::BasicRaw => Ok(Sent::BasicRaw),
        ClientAuthMethod::Post => Ok(Sent::Post),
        ClientAuthMethod::Jwt => Ok(Sent::Jwt),
        ClientAuthMethod::FromMetadata => {
            let offers = |wanted: &str, offered: &[String]| offered.iter().any(|method| method == wanted);
            match metadata.token_endpoint_auth_methods_supported.as_deref() {
                // RFC 8414 §2: omitted means client_secret_basic.
                None | Some([]) => Ok(Sent::Basic),
                Some(offered) if offers("client_secret_basic", offered) => Ok(Sent::Basic),
                Some(offered) if offers("client_secret_post", offered) => Ok(Sent::Post),
                Some(_) => Err(Error::Provider(
                    "`token_endpoint_auth_methods_supported` has neither client_secret_basic nor \
                     client_secret_post; set `client_auth` if the provider takes one all the same"
                        .to_owned(),
                )),
            }
        }
    }
}

/// The value of `Authorization` (RFC 7617 §2).
fn basic(id: &[u8], secret: &[u8]) -> Result<HeaderValue, Error> {
    let credentials = Zeroizing::new([id, b":", secret].concat());
    let encoded = Zeroizing::new(STANDARD.encode(&credentials));
    let line = Zeroizing::new(["Basic ", &encoded].concat());
    let mut value = HeaderValue::from_str(&line).map_err(|_| Error::Bug("base64 is no header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `application/x-www-form-urlencoded`, in a buffer that never grows and so leaves no copies.
/// `client_id` belongs to some requests as well as to some ways to authenticate (RFC 9126 §2.1):
/// it is there once.
fn form(parameters: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let first_id = parameters.iter().position(|(name, _)| *name == "client_id");
    let parts: Vec<&str> = parameters
        .iter()
        .enumerate()
        .filter(|(index, (name, _))| *name != "client_id" || Some(*index) == first_id)
        .flat_map(|(_, (name, value))| [*name, *value])
        .collect();
    encoded(&parts)
}

/// Form-encodes the parts and joins them by `=` and `&` in turn.
fn encoded(parts: &[&str]) -> Zeroizing<Vec<u8>> {
    let longest = parts
        .iter()
        .map(|part| part.len().saturating_mul(3).saturating_add(1))
        .sum();
    let mut out = Zeroizing::new(Vec::with_capacity(longest));
    for (index, part) in parts.iter().enumerate() {
        match index {
            0 => {}
            odd if odd % 2 == 1 => out.push(b'='),
            _ => out.push(b'&'),
        }
        for piece in form_urlencoded::byte_serialize(part.as_bytes()) {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    out
}

/// RFC 7523 §2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is good: for one request, and for clocks that differ by most of a minute.
const ASSERTION_LIFE: Duration = Duration::from_secs(60);

/// Seconds until somebody else may have written an assertion.
const RETRY_AFTER: u32 = 5;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use aws_lc_rs::hmac;

    use super::*;
    use crate::config::{ClientCertificate, PrivateKeyPem, TlsMethod};
    use crate::oauth::testing::{key_set, metadata, metadata_with, private_key_pem, provider, with_context};
    use crate::oauth::{JwkSet, ProviderSnapshot, jwk};
    use crate::rng::testing::Counter;
    use crate::time::UnixTime;

    fn credentials(request: &ProviderRequest) -> Option<String> {
        let (_, value) = request.headers.iter().find(|(name, _)| name == AUTHORIZATION)?;
        assert!(value.is_sensitive(), "credentials are marked sensitive");
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        Some(String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap())
    }

    fn body(request: &ProviderRequest) -> &str {
        std::str::from_utf8(&request.body).unwrap()
    }

    fn request(
        method: ClientAuthMethod,
        id: &str,
        secret: &str,
        offered: Value,
    ) -> Result<ProviderRequest, Error> {
        let mut provider = provider();
        provider.client_id = id.to_owned();
        provider.client_auth = ClientAuth::Secret(method, Secret::new(secret));
        let metadata = metadata_with(&[("token_endpoint_auth_methods_supported", offered)]);
        let endpoint = metadata.token_endpoint.clone();
        with_context(metadata, |context| {
            post(&endpoint, &[("grant_type", "x")], &provider, context)
        })
    }

    #[test]
    fn credentials_travel_as_configured() {
        use ClientAuthMethod::{Basic, BasicRaw, Post};
        // name, method, id, secret, header after base64, body
        let cases = [
            (
                "plain",
                Basic,
                "shop",
                "s3cret",
                Some("shop:s3cret"),
                "grant_type=x",
            ),
            (
                "encoded first",
                Basic,
                "a:b c",
                "p%+/=&ü",
                Some("a%3Ab+c:p%25%2B%2F%3D%26%C3%BC"),
                "grant_type=x",
            ),
            (
                "hyphens stay",
                Basic,
                "a-b.c_d",
                "x",
                Some("a-b.c_d:x"),
                "grant_type=x",
            ),
            (
                "raw",
                BasicRaw,
                "shop",
                "p%+/=&ü",
                Some("shop:p%+/=&ü"),
                "grant_type=x",
            ),
            (
                "in the body",
                Post,
                "a:b",
                "p%+/=&",
                None,
                "grant_type=x&client_id=a%3Ab&client_secret=p%25%2B%2F%3D%26",
            ),
        ];
        for (name, method, id, secret, header, form) in cases {
            let request = request(method, id, secret, Value::Null).expect(name);
            assert_eq!(credentials(&request).as_deref(), header, "{name}");
            assert_eq!(body(&request), form, "{name}");
        }
    }

    #[test]
    fn without_a_configured_method_the_metadata_decides() {
        let cases = [
            (Value::Null, "basic"),
            (json!([]), "basic"),
            (json!(["client_secret_post", "client_secret_basic"]), "basic"),
            (json!(["client_secret_post"]), "post"),
            (json!(["private_key_jwt", "client_secret_post"]), "post"),
            (json!(["private_key_jwt", "none"]), "refused"),
        ];
        for (offered, expected) in cases {
            let outcome = match request(ClientAuthMethod::FromMetadata, "shop", "s", offered.clone()) {
                Ok(request) if credentials(&request).is_some() => "basic",
                Ok(_) => "post",
                Err(Error::Provider(text)) => {
                    assert!(text.contains("`token_endpoint_auth_methods_supported`"));
                    "refused"
                }
                Err(_) => "another error",
            };
            assert_eq!(outcome, expected, "{offered}");
        }
    }

    #[test]
    fn a_configured_method_beats_the_metadata() {
        let request = request(
            ClientAuthMethod::Post,
            "shop",
            "s",
            json!(["client_secret_basic"]),
        )
        .unwrap();
        assert_eq!(credentials(&request), None);
    }

    #[test]
    fn a_colon_in_the_id_is_refused_without_encoding() {
        let refused = request(ClientAuthMethod::BasicRaw, "a:b", "s", Value::Null);
        assert!(matches!(refused, Err(Error::Provider(text)) if text.contains("`client_id`")));
    }

    #[test]
    fn the_client_id_of_a_request_is_not_repeated_by_its_authentication() {
        let mut provider = provider();
        for (method, expected) in [
            (ClientAuthMethod::Basic, "client_id=shop&a=b"),
            (ClientAuthMethod::Post, "client_id=shop&a=b&client_secret=s3cret"),
        ] {
            provider.client_auth = ClientAuth::Secret(method, Secret::new("s3cret"));
            let endpoint = metadata().token_endpoint;
            let request = with_context(metadata(), |context| {
                post(
                    &endpoint,
                    &[("client_id", "shop"), ("a", "b")],
                    &provider,
                    context,
                )
                .unwrap()
            });
            assert_eq!(body(&request), expected);
        }
    }

    #[test]
    fn the_request_is_a_form_post_that_asks_for_json() {
        let parameters = [("a", "1 2"), ("b&c", "ü\n"), ("d", "")];
        let endpoint = metadata().token_endpoint;
        let request = with_context(metadata(), |context| {
            post(&endpoint, &parameters, &provider(), context).unwrap()
        });
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.url.as_str(), "https://login.example.com/token");
        assert_eq!(body(&request), "a=1+2&b%26c=%C3%BC%0A&d=");
        assert!(
            request
                .headers
                .contains(&(ACCEPT, HeaderValue::from_static("application/json")))
        );
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        assert!(request.headers.contains(&(CONTENT_TYPE, form)));
    }

    fn fields(request: &ProviderRequest) -> BTreeMap<String, String> {
        let pairs = form_urlencoded::parse(&request.body).into_owned();
        let all: Vec<(String, String)> = pairs.collect();
        let fields: BTreeMap<_, _> = all.iter().cloned().collect();
        assert_eq!(fields.len(), all.len(), "nothing is there twice");
        fields
    }

    /// A request as this client makes it, with metadata changed.
    fn sent_by(client_auth: ClientAuth, changes: &[(&str, Value)]) -> ProviderRequest {
        let mut provider = provider();
        provider.client_auth = client_auth;
        let metadata = metadata_with(changes);
        let endpoint = metadata.token_endpoint.clone();
        with_context(metadata, |context| {
            post(&endpoint, &[("grant_type", "x")], &provider, context).unwrap()
        })
    }

    /// Header and claims of the assertion in a request, after a look at the rest.
    fn assertion(request: &ProviderRequest) -> (Value, Value, String, Vec<u8>) {
        let fields = fields(request);
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "client_assertion",
                "client_assertion_type",
                "client_id",
                "grant_type"
            ]
        );
        assert_eq!(fields["client_id"], "shop");
        assert_eq!(
            fields["client_assertion_type"],
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        );
        assert!(request.headers.iter().all(|(name, _)| name != AUTHORIZATION));
        let (message, signature) = fields["client_assertion"].rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let json = |part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        (json(header), json(claims), message.to_owned(), signature)
    }

    fn private_key(alg: &str, written: Option<&str>, audience: AssertionAudience) -> PrivateKeyJwt {
        let pem = private_key_pem(alg);
        let read = |alg| {
            SigningKey::from_pem(pem.as_bytes(), alg, None)
                .unwrap()
                .identified()
        };
        PrivateKeyJwt {
            key: read(written),
            rs256: (alg == "PS256" && written.is_none()).then(|| read(Some("RS256"))),
            audience,
        }
    }

    #[test]
    fn an_assertion_says_who_for_whom_and_for_how_long_and_nothing_else() {
        use AssertionAudience::{Issuer, TokenEndpoint};
        for (alg, audience, aud) in [
            ("ES256", Issuer, "https://login.example.com"),
            ("ES384", Issuer, "https://login.example.com"),
            ("EdDSA", TokenEndpoint, "https://login.example.com/token"),
            ("PS256", TokenEndpoint, "https://login.example.com/token"),
        ] {
            let jwt = private_key(alg, None, audience);
            let mut public = jwt.key.public_jwk().clone();
            public["alg"] = alg.into();
            let kid = jwt.key.thumbprint();
            let request = sent_by(ClientAuth::PrivateKeyJwt(Box::new(jwt)), &[]);
            let (header, mut claims, message, signature) = assertion(&request);
            assert_eq!(header, json!({"alg": alg, "kid": kid, "typ": "JWT"}));
            let jti = claims["jti"].take();
            assert_eq!(URL_SAFE_NO_PAD.decode(jti.as_str().unwrap()).unwrap().len(), 16);
            let now = 1_900_000_000_u64;
            assert_eq!(
                claims,
                json!({"iss": "shop", "sub": "shop", "aud": aud, "iat": now, "exp": now + 60, "jti": null})
            );
            // the code that verifies the provider's signatures knows nothing of the one that makes ours
            let set = JwkSet::parse(json!({"keys": [public]}).to_string().as_bytes()).unwrap();
            let algorithm = jwk::algorithm(alg).unwrap();
            assert!(
                set.candidates(None, algorithm)[0].verifies(algorithm, message.as_bytes(), &signature),
                "{alg}"
            );
        }
    }

    #[test]
    fn an_assertion_for_a_provider_of_many_tenants_is_never_addressed_to_their_template() {
        let tenants = crate::config::Tenants::any("https://login.example.com/common/v2.0");
        let mut provider = provider();
        for audience in [AssertionAudience::Issuer, AssertionAudience::TokenEndpoint] {
            let jwt = private_key("ES256", None, audience);
            provider.client_auth = ClientAuth::PrivateKeyJwt(Box::new(jwt));
            let metadata = metadata().for_tenants(Some(tenants.clone()));
            let endpoint = metadata.token_endpoint.clone();
            let request = with_context(metadata, |context| {
                post(&endpoint, &[("grant_type", "x")], &provider, context).unwrap()
            });
            assert_eq!(assertion(&request).1["aud"], endpoint.as_str());
        }
    }

    #[test]
    fn a_client_secret_signs_and_does_not_travel() {
        let secret = "0123456789abcdef0123456789abcdef";
        let request = sent_by(
            ClientAuth::Secret(ClientAuthMethod::Jwt, Secret::new(secret)),
            &[(
                "token_endpoint_auth_methods_supported",
                json!(["client_secret_basic"]),
            )],
        );
        assert!(!body(&request).contains(secret));
        let (header, claims, message, signature) = assertion(&request);
        assert_eq!(header, json!({"alg": "HS256", "typ": "JWT"}));
        assert_eq!(claims["aud"], "https://login.example.com");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, message.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn no_two_requests_share_an_assertion() {
        let mut provider = provider();
        provider.client_auth =
            ClientAuth::PrivateKeyJwt(Box::new(private_key("EdDSA", None, AssertionAudience::Issuer)));
        let metadata = metadata();
        let endpoint = metadata.token_endpoint.clone();
        let ids: BTreeSet<String> = with_context(metadata, |context| {
            let requests =
                (0..100).map(|_| post(&endpoint, &[("grant_type", "x")], &provider, context).unwrap());
            requests
                .map(|request| assertion(&request).1["jti"].as_str().unwrap().to_owned())
                .collect()
        });
        assert_eq!(ids.len(), 100);
    }

    #[test]
    fn an_rsa_key_signs_as_the_provider_offers_unless_the_algorithm_is_written() {
        for (written, offered, expected) in [
            (None, Value::Null, "PS256"),
            (None, json!(["RS256"]), "RS256"),
            (None, json!(["RS256", "PS256"]), "PS256"),
            (None, json!(["ES256"]), "PS256"),
            (Some("PS256"), json!(["RS256"]), "PS256"),
            (Some("RS512"), json!(["PS256"]), "RS512"),
        ] {
            let jwt = private_key("PS256", written, AssertionAudience::Issuer);
            let offer = (
                "token_endpoint_auth_signing_alg_values_supported",
                offered.clone(),
            );
            let request = sent_by(ClientAuth::PrivateKeyJwt(Box::new(jwt)), &[offer]);
            assert_eq!(assertion(&request).0["alg"], expected, "{written:?} {offered}");
        }
    }

    #[test]
    fn a_certificate_proves_and_the_body_says_whose_it_is() {
        let aliases = json!({"token_endpoint": "https://mtls.example.com/token"});
        for (has_certificate, url) in [
            (true, "https://mtls.example.com/token"),
            (false, "https://login.example.com/token"),
        ] {
            for method in [
                ClientAuth::Tls(TlsMethod::Pki),
                ClientAuth::Tls(TlsMethod::SelfSigned),
                // its tokens are bound to the certificate where there is one
                ClientAuth::PrivateKeyJwt(Box::new(private_key(
                    "ES256",
                    None,
                    AssertionAudience::TokenEndpoint,
                ))),
            ] {
                let by_certificate = matches!(method, ClientAuth::Tls(_));
                let mut provider = provider();
                provider.client_auth = method;
                provider.client_certificate = has_certificate.then(|| ClientCertificate {
                    chain: "chain".to_owned(),
                    key: PrivateKeyPem::new("key"),
                });
                let metadata = metadata_with(&[("mtls_endpoint_aliases", aliases.clone())]);
                let endpoint = metadata.token_endpoint.clone();
                let request = with_context(metadata, |context| {
                    post(&endpoint, &[("grant_type", "x")], &provider, context).unwrap()
                });
                assert_eq!(request.url.as_str(), url);
                if by_certificate {
                    assert_eq!(body(&request), "grant_type=x&client_id=shop");
                    assert!(request.headers.iter().all(|(name, _)| name != AUTHORIZATION));
                } else {
                    // whom it is for is what the metadata says, wherever the request goes
                    assert_eq!(assertion(&request).1["aud"], "https://login.example.com/token");
                }
            }
        }
    }

    #[test]
    fn somebody_elses_assertion_is_sent_as_it_is_now_and_missing_it_is_an_outage() {
        let mut provider = provider();
        provider.client_auth = ClientAuth::AssertionFile("/run/token".into());
        let mut snapshot = ProviderSnapshot::new(metadata(), key_set(&[]));
        let mut request = |assertion: Option<&str>| {
            snapshot.live.client_assertion = assertion.map(Secret::new);
            let endpoint = snapshot.metadata.token_endpoint.clone();
            let mut context = Context {
                provider: &snapshot,
                now: UnixTime(1_900_000_000),
                rng: &mut Counter(1),
            };
            post(&endpoint, &[("grant_type", "x")], &provider, &mut context)
        };
        for assertion in ["e30.e30.c2ln", "e30.e30.b3RoZXI"] {
            let request = request(Some(assertion)).unwrap();
            let fields = fields(&request);
            assert_eq!(fields["client_assertion"], assertion);
            assert_eq!(fields["client_assertion_type"], JWT_BEARER);
            assert_eq!(fields["client_id"], "shop");
        }
        match request(None) {
            Err(Error::ProviderUnavailable { reason, retry_after }) => {
                assert!(reason.contains("`client_auth`") && retry_after > 0);
            }
            _ => panic!("no outage"),
        }
    }

    #[test]
    fn a_file_holds_one_jwt_and_perhaps_a_line_end() {
        let long = format!("e30.e30.{}", "A".repeat(MAX_ASSERTION - 8));
        for (file, expected) in [
            ("e30.e30.c2ln", Ok("e30.e30.c2ln")),
            (" e30.e30.c2ln\r\n\n", Ok("e30.e30.c2ln")),
            (&long, Ok(long.as_str())),
            (&format!("{long}\n"), Err(AssertionProblem::TooLong)),
            ("", Err(AssertionProblem::Empty)),
            (" \n", Err(AssertionProblem::Empty)),
            ("e30.e30", Err(AssertionProblem::NotAJwt)),
            ("e30.e30.", Err(AssertionProblem::NotAJwt)),
            ("e30..c2ln", Err(AssertionProblem::NotAJwt)),
            ("e30.e30.c2ln.e30.e30", Err(AssertionProblem::NotAJwt)),
            ("e30.e30.c2ln\ne30.e30.c2ln", Err(AssertionProblem::NotAJwt)),
            ("e30.e30.c2l&x=y", Err(AssertionProblem::NotAJwt)),
            ("hush", Err(AssertionProblem::NotAJwt)),
            ("\u{fc}.e30.c2ln", Err(AssertionProblem::NotAJwt)),
        ] {
            let found = read_client_assertion(file.as_bytes());
            let found = found.as_ref().map(Secret::expose);
            assert_eq!(found.map_err(|problem| *problem), expected, "{file}");
        }
    }

    #[test]
    fn a_refusal_names_the_method_and_what_to_look_at() {
        let secret = |method| ClientAuth::Secret(method, Secret::new("hush"));
        let post_only = [(
            "token_endpoint_auth_methods_supported",
            json!(["client_secret_post"]),
        )];
        let key =
            || ClientAuth::PrivateKeyJwt(Box::new(private_key("ES256", None, AssertionAudience::Issuer)));
        for (client_auth, changes, words) in [
            (
                secret(ClientAuthMethod::FromMetadata),
                &[][..],
                ["client_secret_basic", "`client_secret`"],
            ),
            (
                secret(ClientAuthMethod::FromMetadata),
                &post_only,
                ["client_secret_post", "`client_secret`"],
            ),
            (
                secret(ClientAuthMethod::BasicRaw),
                &post_only,
                ["client_secret_basic", "`client_secret`"],
            ),
            (
                secret(ClientAuthMethod::Jwt),
                &[],
                ["client_secret_jwt", "clocks"],
            ),
            (key(), &[], ["private_key_jwt", "`client_auth.key`"]),
            (
                ClientAuth::Tls(TlsMethod::Pki),
                &[],
                ["certificate", "`client_auth`"],
            ),
            (
                ClientAuth::AssertionFile("/run/token".into()),
                &[],
                ["file", "`client_auth`"],
            ),
        ] {
            let mut provider = provider();
            provider.client_auth = client_auth;
            let text = refused(&provider, &metadata_with(changes));
            assert!(
                text.starts_with("invalid_client: ") && text.contains("`client_id`"),
                "{text}"
            );
            for word in words {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
}
