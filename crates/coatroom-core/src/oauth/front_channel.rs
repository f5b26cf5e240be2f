//! Which way an authorization request takes: in the URL, as a signed request object (RFC 9101), pushed
//! (RFC 9126), or both.
//!
//! The one place that makes the URL a browser is sent to: a sign-in, a step-up and a restart all come
//! here, so none of them forgets what the provider or the configuration insists on. What cannot be had
//! is an error that names the setting or the metadata; nothing falls back to a weaker way.

use std::sync::Arc;

use url::Url;

use super::authorization::AuthorizationRequest;
use super::metadata::Metadata;
use super::{par, request_object, with_parameters};
use crate::config::{Provider, PushedRequests, ResponseMode};
use crate::error::Error;
use crate::step::{Context, Step};

impl AuthorizationRequest<'_> {
    /// The URL to send the browser to. A query that the authorization endpoint has already is kept
    /// (RFC 6749 §3.1) but for names that are set here.
    ///
    /// # Errors
    /// [`Error::Provider`] when the metadata lack what is configured, or ask for what is not, also
    /// from the step, when the provider refuses a pushed request; [`Error::ProviderUnavailable`] from
    /// the step.
    pub(crate) fn begin(
        &self,
        provider: &Arc<Provider>,
        context: &mut Context<'_>,
    ) -> Result<Step<Url>, Error> {
        let metadata = Arc::clone(&context.provider.metadata);
        check_response_mode(provider.authorization.response_mode, &metadata)?;
        let is_pushed = is_pushed(provider, &metadata)?;
        let parameters = self.parameters(provider);
        let parameters = match &provider.authorization.request_object {
            Some(key) => {
                let request = request_object::sign(key, &parameters, provider, context)?;
                vec![
                    ("client_id".to_owned(), provider.client_id.clone()),
                    ("request".to_owned(), request),
                ]
            }
            None if metadata.require_signed_request_object => {
                return Err(Error::Provider(
                    "the metadata document has `require_signed_request_object`; set `request_object`"
                        .to_owned(),
                ));
            }
            None => parameters,
        };
        if is_pushed {
            return par::push(&parameters, provider, context);
        }
        let parameters: Vec<(&str, &str)> = parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let url = with_parameters(&metadata.authorization_endpoint, &parameters);
        if provider.authorization.request_object.is_some() && url.as_str().len() > MAX_SIGNED_URL {
            return Err(Error::Provider(
                "the authorization request is longer than 8000 bytes with its signed request object; it has to \
                 be pushed, at a provider with `pushed_authorization_request_endpoint`"
                    .to_owned(),
            ));
        }
        Ok(Step::Done(url))
    }
}

fn is_pushed(provider: &Provider, metadata: &Metadata) -> Result<bool, Error> {
    let has_endpoint = metadata.pushed_authorization_request_endpoint.is_some();
    match (
        provider.authorization.pushed,
        metadata.require_pushed_authorization_requests,
    ) {
        (PushedRequests::Never, true) => Err(Error::Provider(
            "the metadata document has `require_pushed_authorization_requests`, and the configuration \
             `pushed_authorization_requests: never`"
                .to_owned(),
        )),
        (PushedRequests::Never, false) => Ok(false),
        (PushedRequests::Auto, true) if !has_endpoint => Err(Error::Provider(
            "the metadata document has `require_pushed_authorization_requests` and no \
             `pushed_authorization_request_endpoint`"
                .to_owned(),
        )),
        (PushedRequests::Required, _) if !has_endpoint => Err(Error::Provider(
            "the metadata document has no `pushed_authorization_request_endpoint`, and the configuration \
             `pushed_authorization_requests: required`"
                .to_owned(),
        )),
        (PushedRequests::Auto | PushedRequests::Required, _) => Ok(has_endpoint),
    }
}

/// A provider that says what it can do is not asked for anything else: most would answer in another
/// way, which is refused when it comes.
fn check_response_mode(mode: ResponseMode, metadata: &Metadata) -> Result<(), Error> {
    let Some(supported) = &metadata.response_modes_supported else {
        return Ok(());
    };
    let offers = |wanted: &str| supported.iter().any(|mode| mode == wanted);
    let good = match mode {
        // what comes back without the parameter too
        ResponseMode::Query => true,
        ResponseMode::Jwt => offers("jwt") || offers("query.jwt"),
        ResponseMode::QueryJwt => offers("query.jwt"),
        ResponseMode::FormPost => offers("form_post"),
    };
    good.then_some(()).ok_or_else(|| {
        Error::Provider("`response_modes_supported` does not have the configured `response_mode`".to_owned())
    })
}

/// The longest URL with a request object, in bytes: many servers and gateways take no longer line.
const MAX_SIGNED_URL: usize = 8000;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::authorization::RequestedParameters;
    use crate::oauth::testing::{ISSUER, metadata_with, one_private_key_pem, provider, with_context};

    fn begin(provider: Provider, changes: &[(&str, Value)]) -> Result<Step<Url>, Error> {
        let requested = RequestedParameters::default();
        let request = AuthorizationRequest {
            dpop_jkt: None,
            redirect_uri: "https://shop.example.com/auth/callback",
            state: "s",
            nonce: "n",
            code_challenge: "c",
            requested: &requested,
        };
        with_context(metadata_with(changes), |context| {
            request.begin(&Arc::new(provider), context)
        })
    }

    fn with(change: impl FnOnce(&mut crate::config::Authorization)) -> Provider {
        let mut provider = provider();
        change(&mut provider.authorization);
        provider
    }

    fn key() -> crate::oauth::SigningKey {
        crate::oauth::SigningKey::from_pem(one_private_key_pem().as_bytes(), None, Some("k1")).expect("a key")
    }

    #[test]
    fn what_is_configured_and_what_the_metadata_say_decide_the_way() {
        use PushedRequests::{Auto, Never, Required};
        let endpoint = (
            "pushed_authorization_request_endpoint",
            json!(format!("{ISSUER}/par")),
        );
        let required = ("require_pushed_authorization_requests", json!(true));
        let signed = ("require_signed_request_object", json!(true));
        struct Case<'a> {
            name: &'a str,
            pushed: PushedRequests,
            metadata: &'a [(&'a str, Value)],
            way: &'a str,
        }
        let case = |name, pushed, metadata, way| Case {
            name,
            pushed,
            metadata,
            way,
        };
        let (both, all) = (
            [endpoint.clone(), required.clone()],
            [endpoint.clone(), required.clone(), signed.clone()],
        );
        for case in [
            case("nothing is said", Auto, &[], "direct"),
            case("it is offered", Auto, &both[..1], "pushed"),
            case("it is offered and wanted", Required, &both[..1], "pushed"),
            case("it is offered and not wanted", Never, &both[..1], "direct"),
            case("it is demanded", Auto, &both, "pushed"),
            case(
                "it is demanded and not wanted",
                Never,
                &both,
                "pushed_authorization_requests: never",
            ),
            case(
                "it is demanded and there is no endpoint",
                Auto,
                &both[1..],
                "pushed_authorization_request_endpoint",
            ),
            case(
                "it is wanted and there is no endpoint",
                Required,
                &[],
                "pushed_authorization_requests: required",
            ),
            case("a signature is demanded", Auto, &all, "set `request_object`"),
        ] {
            let found = begin(with(|settings| settings.pushed = case.pushed), case.metadata);
            match found {
                Ok(Step::Done(url)) => {
                    assert_eq!(case.way, "direct", "{}", case.name);
                    assert!(url.query().is_some_and(|query| query.contains("state=s")));
                }
                Ok(Step::Send(request, _)) => {
                    assert_eq!(case.way, "pushed", "{}", case.name);
                    assert_eq!(request.url.as_str(), "https://login.example.com/par");
                }
                Ok(Step::FetchKeys(_)) => panic!("{}: no key is needed", case.name),
                Err(Error::Provider(text)) => assert!(text.contains(case.way), "{}: {text}", case.name),
                Err(other) => panic!("{}: {other}", case.name),
            }
        }
    }

    #[test]
    fn a_response_mode_that_the_provider_does_not_have_is_not_asked_for() {
        use ResponseMode::{FormPost, Jwt, Query, QueryJwt};
        for (mode, supported, good) in [
            (Query, json!(["form_post"]), true),
            (Jwt, Value::Null, true),
            (Jwt, json!(["jwt"]), true),
            (Jwt, json!(["query.jwt"]), true),
            (Jwt, json!(["query", "form_post.jwt"]), false),
            (QueryJwt, json!(["query.jwt"]), true),
            (QueryJwt, json!(["jwt"]), false),
            (FormPost, json!(["form_post"]), true),
            (FormPost, json!(["query"]), false),
            (FormPost, Value::Null, true),
        ] {
            let found = begin(
                with(|settings| settings.response_mode = mode),
                &[("response_modes_supported", supported.clone())],
            );
            assert_eq!(found.is_ok(), good, "{mode:?} of {supported}");
        }
    }

    #[test]
    fn outside_a_request_object_there_are_the_client_id_and_nothing_else() {
        let Ok(Step::Done(url)) = begin(with(|settings| settings.request_object = Some(key())), &[]) else {
            panic!("it needs no conversation")
        };
        let names: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["client_id", "request"]);
    }

    #[test]
    fn a_request_object_that_is_too_long_for_a_url_has_to_be_pushed() {
        let long = |settings: &mut crate::config::Authorization| {
            settings.request_object = Some(key());
            settings.resource = (0..100)
                .map(|number| format!("https://{number}.{}.example", "a".repeat(60)))
                .collect();
        };
        let refused = begin(with(long), &[]);
        assert!(matches!(refused, Err(Error::Provider(text)) if text.contains("pushed")));
        let endpoint = (
            "pushed_authorization_request_endpoint",
            json!(format!("{ISSUER}/par")),
        );
        assert!(matches!(begin(with(long), &[endpoint]), Ok(Step::Send(..))));
    }
}
