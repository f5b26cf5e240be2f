//! Client authentication at the provider (RFC 6749 §2.3.1).
//!
//! Builds every request of ours that carries the client secret, and with it a code, a verifier or a
//! token: one of the two places where a secret leaves the process. Values are form-encoded, always;
//! the credentials header is marked sensitive, the body is zeroed when dropped. Nothing is sent from
//! here and nothing is logged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::metadata::Metadata;
use crate::config::{ClientAuthMethod, Provider};
use crate::error::Error;
use crate::step::{Context, ProviderRequest};

/// A form POST to `endpoint`, authenticated as this client.
///
/// # Errors
/// [`Error::Provider`] when the metadata offers no method that a client secret can be used with, or
/// the credentials do not fit the configured one.
pub(crate) fn post(
    endpoint: &Url,
    parameters: &[(&str, &str)],
    provider: &Provider,
    context: &mut Context<'_>,
) -> Result<ProviderRequest, Error> {
    let metadata = &context.provider.metadata;
    let mut headers = vec![
        (ACCEPT, HeaderValue::from_static("application/json")),
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        ),
    ];
    let (id, secret) = (provider.client_id.as_str(), provider.client_auth.secret.expose());
    let body = match method(provider.client_auth.method, metadata)? {
        Sent::Basic => {
            headers.push((AUTHORIZATION, basic(&encoded(&[id]), &encoded(&[secret]))?));
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
            headers.push((AUTHORIZATION, basic(id.as_bytes(), secret.as_bytes())?));
            form(parameters)
        }
        Sent::Post => form(&[parameters, &[("client_id", id), ("client_secret", secret)]].concat()),
    };
    Ok(ProviderRequest {
        method: Method::POST,
        url: endpoint.clone(),
        headers,
        body,
    })
}

/// How the secret travels, decided.
enum Sent {
    Basic,
    BasicRaw,
    Post,
}

fn method(configured: ClientAuthMethod, metadata: &Metadata) -> Result<Sent, Error> {
    match configured {
        ClientAuthMethod::Basic => Ok(Sent::Basic),
        ClientAuthMethod::BasicRaw => Ok(Sent::BasicRaw),
        ClientAuthMethod::Post => Ok(Sent::Post),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::testing::{metadata, metadata_with, provider, with_context};
    use crate::secret::Secret;

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
        provider.client_auth.method = method;
        provider.client_auth.secret = Secret::new(secret);
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
            provider.client_auth.method = method;
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
}
