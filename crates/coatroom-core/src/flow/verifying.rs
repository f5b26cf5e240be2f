//! From a token response to tokens: the ID token's verification, with one chance for fresh keys.
//!
//! Shared by sign-in and refresh. It decides nothing about sessions, and no error repeats a token.

use crate::config::ProviderName;
use crate::error::Error;
use crate::oauth::id_token::{self, Expected, IdTokenFailure, Verified};
use crate::oauth::token::TokenResponse;
use crate::secret::Secret;
use crate::session::Tokens;
use crate::step::{Context, Step};
use crate::time::UnixTime;

/// An ID token on its way through verification, with one chance for fresh keys.
pub(super) struct Verifying {
    pub(super) provider: std::sync::Arc<crate::config::Provider>,
    pub(super) id_token: Secret,
    pub(super) access_token: Secret,
    pub(super) nonce: Option<Secret>,
}

impl Verifying {
    /// Verifies; none if the provider's keys, fetched again, still have not the one that signed.
    pub(super) fn step(self, context: &Context<'_>) -> Result<Step<Option<Verified>>, Error> {
        match self.verify(context) {
            Ok(verified) => Ok(Step::Done(Some(verified))),
            Err(IdTokenFailure::UnknownKey) => {
                Ok(Step::fetch_keys(move |context| match self.verify(context) {
                    Ok(verified) => Ok(Step::Done(Some(verified))),
                    Err(IdTokenFailure::UnknownKey) => Ok(Step::Done(None)),
                    Err(failure @ IdTokenFailure::Invalid(_)) => Err(failure.into()),
                }))
            }
            Err(failure @ IdTokenFailure::Invalid(_)) => Err(failure.into()),
        }
    }

    fn verify(&self, context: &Context<'_>) -> Result<Verified, IdTokenFailure> {
        let expected = Expected {
            client_id: &self.provider.client_id,
            nonce: self.nonce.as_ref().map(Secret::expose),
            access_token: Some(&self.access_token),
            leeway: self.provider.leeway,
        };
        id_token::verify(
            &self.id_token,
            &expected,
            &context.provider.keys,
            &context.provider.metadata,
            context.now,
        )
    }
}

/// Tokens from a response that passed, with the ID token that is valid from now on.
pub(super) fn tokens(
    response: TokenResponse,
    id_token: Secret,
    default_life: std::time::Duration,
    issued_by: Option<ProviderName>,
    now: UnixTime,
) -> Tokens {
    let life = response
        .expires_in
        .map_or(default_life, std::time::Duration::from_secs);
    let refreshable = response.refresh_expires_in.map(std::time::Duration::from_secs);
    Tokens {
        access_expires_at: now.plus(life),
        access_token: response.access_token,
        refresh_token: response.refresh_token,
        refresh_expires_at: refreshable.map(|life| now.plus(life)),
        id_token,
        scope: response.scope.into_text(),
        apis: Vec::new(),
        userinfo: None,
        issued_by,
    }
}
