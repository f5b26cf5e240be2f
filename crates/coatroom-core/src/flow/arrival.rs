//! The way back from the provider: what the browser brought is read, before anything of it is believed.
//!
//! By navigation, as a form that the provider's page posts, or through the SPA. Where answers are signed
//! (JARM) the signature is checked here, with one chance for fresh keys, and only what is inside counts;
//! where they are not, a signed one is refused, and the other way round: nobody chooses a weaker way than
//! the configured one. Whose sign-in it is, is decided in `login`. Nothing here reads or writes a cookie.

use std::sync::Arc;

use http::{HeaderMap, header};
use url::Url;

use crate::config::{Callback, Provider, ResponseMode};
use crate::error::Error;
use crate::flow::Input;
use crate::flow::login::Via;
use crate::flow::provider_logout::is_form;
use crate::handler::Handler;
use crate::head::{Single, single};
use crate::oauth::authorization::{AuthorizationResponse, response_pairs};
use crate::oauth::jarm::{self, Failure};
use crate::oauth::metadata::Metadata;
use crate::secret::Secret;
use crate::step::{Context, Step};

/// What came back through the browser, read. No sign-in is known to it yet.
pub struct Arrived {
    pub(super) via: Via,
    pub(super) outcome: Result<AuthorizationResponse, Error>,
}

impl Handler {
    /// `GET callback`: the provider sent the browser back.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the provider returns to a page of the SPA instead.
    pub fn callback(&self, query: &str, context: &Context<'_>) -> Result<Step<Arrived>, Error> {
        if self.app.callback != Callback::Agent {
            return Err(Error::NotFound);
        }
        if self.response_mode() == ResponseMode::FormPost {
            let refused = Error::InvalidRequest(
                "the provider answered by a redirect, and `response_mode` asks it for a form",
            );
            return Ok(done(Via::Navigation, Err(refused)));
        }
        Ok(match response_pairs(query) {
            Ok(pairs) => self.read(Via::Navigation, pairs, context),
            Err(error) => done(Via::Navigation, Err(error)),
        })
    }

    /// `POST callback`: a page of the provider posted its answer. Of the headers only `Origin` and
    /// `Content-Type` are looked at.
    ///
    /// # Errors
    /// [`Error::NotFound`] unless it is configured, [`Error::CsrfRejected`] for a page of anybody else,
    /// [`Error::InvalidRequest`] for a body that is no form.
    pub fn form_post(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        context: &Context<'_>,
    ) -> Result<Step<Arrived>, Error> {
        if self.response_mode() != ResponseMode::FormPost {
            return Err(Error::NotFound);
        }
        check_poster(headers, &context.provider.metadata)?;
        if !is_form(headers) {
            return Err(Error::InvalidRequest(
                "the body is not application/x-www-form-urlencoded",
            ));
        }
        let body = std::str::from_utf8(body)
            .map_err(|_| Error::InvalidRequest("the parameters are not UTF-8"))
            .and_then(response_pairs);
        Ok(match body {
            Ok(pairs) => self.read(Via::FormPost, pairs, context),
            Err(error) => done(Via::FormPost, Err(error)),
        })
    }

    /// `POST login/end`: `input` holds the query parameters of the page the provider returned to.
    pub fn login_end(&self, input: &Input, context: &Context<'_>) -> Step<Arrived> {
        self.read(Via::Fetch, input.pairs(), context)
    }

    fn read<N: AsRef<str>, V: AsRef<str>>(
        &self,
        via: Via,
        pairs: impl IntoIterator<Item = (N, V)>,
        context: &Context<'_>,
    ) -> Step<Arrived> {
        if !self.response_mode().is_signed() {
            return done(via, AuthorizationResponse::from_pairs(pairs));
        }
        let raw = match jarm::response(pairs) {
            Ok(raw) => raw,
            Err(error) => return done(via, Err(error)),
        };
        let verifying = Verifying {
            provider: Arc::clone(&self.provider),
            raw,
        };
        match verifying.verify(context) {
            Ok(response) => done(via, Ok(response)),
            Err(Failure::Refused(error)) => done(via, Err(error)),
            // one chance for fresh keys
            Err(Failure::UnknownKey) => Step::fetch_keys(move |context| {
                let outcome = verifying.verify(context).map_err(|failure| match failure {
                    Failure::Refused(error) => error,
                    Failure::UnknownKey => {
                        Error::ResponseInvalid("no key of the provider's jwk set fits its `kid`")
                    }
                });
                Ok(done(via, outcome))
            }),
        }
    }

    fn response_mode(&self) -> ResponseMode {
        self.provider.authorization.response_mode
    }
}

fn done(via: Via, outcome: Result<AuthorizationResponse, Error>) -> Step<Arrived> {
    Step::Done(Arrived { via, outcome })
}

/// A signed response on its way through verification.
struct Verifying {
    provider: Arc<Provider>,
    raw: Secret,
}

impl Verifying {
    fn verify(&self, context: &Context<'_>) -> Result<AuthorizationResponse, Failure> {
        jarm::verify(
            &self.raw,
            &self.provider.client_id,
            self.provider.leeway,
            &context.provider.keys,
            &context.provider.metadata,
            context.now,
        )
    }
}

/// Only a page of the provider posts its answer: one that says another origin is somebody else's. Where
/// a referrer policy hides the origin a browser says `null`; `state` proves the answer in any case.
fn check_poster(headers: &HeaderMap, metadata: &Metadata) -> Result<(), Error> {
    let issuer = Url::parse(&metadata.issuer).ok();
    let good = match single(headers, &header::ORIGIN) {
        Single::Absent | Single::Value("null") => true,
        Single::Value(origin) => issuer
            .iter()
            .chain([&metadata.authorization_endpoint])
            .any(|url| url.origin().ascii_serialization() == origin),
        Single::Ambiguous => false,
    };
    good.then_some(()).ok_or(Error::CsrfRejected(
        "the form was not posted by a page of the provider",
    ))
}
