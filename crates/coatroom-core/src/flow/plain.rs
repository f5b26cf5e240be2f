//! Sign-in and refresh without an ID token: who the user is, is asked.
//!
//! At a sign-in nobody is signed in before the answer came; at a refresh the user has to be the same,
//! and only an outage leaves it at what is known. Nothing here decides what an answer means.

use std::sync::Arc;

use crate::assurance::Authentication;
use crate::config::{Application, Provider, User};
use crate::error::Error;
use crate::flow::exchange::SignedIn;
use crate::flow::signing_in::SigningIn;
use crate::flow::status::user_of;
use crate::flow::verifying::tokens;
use crate::oauth::plain::{Asked, Identity};
use crate::oauth::token::TokenResponse;
use crate::seal::ProofKey;
use crate::secret::Secret;
use crate::session::Tokens;
use crate::step::{Context, Step};

/// A sign-in whose code was redeemed.
pub(super) fn sign_in(
    response: TokenResponse,
    signing_in: SigningIn,
    context: &mut Context<'_>,
) -> Result<Step<SignedIn>, Error> {
    let asked = Asked {
        app: signing_in.app.clone(),
        provider: signing_in.provider.clone(),
        access_token: response.access_token.clone(),
        proof_key: signing_in.proof_key.clone(),
    };
    asked.step(context)?.and_then(context, move |identity, context| {
        let Identity { statement, claims } = identity;
        let life = signing_in.app.session.default_token_life;
        let issued_by = signing_in.provider.name.clone();
        let tokens = Tokens {
            userinfo: claims,
            ..tokens(response, statement, life, issued_by, context.now)
        };
        signing_in.finish(tokens, Authentication::default(), context)
    })
}

/// A refresh: new tokens with what is known of the user, and why no more is.
pub(super) fn again(
    app: Arc<Application>,
    provider: Arc<Provider>,
    tokens: Tokens,
    proof_key: Option<ProofKey>,
    context: &mut Context<'_>,
) -> Result<Step<(Tokens, Option<Error>)>, Error> {
    let is_asked = match provider.plain.as_ref().map(|plain| &plain.user) {
        Some(User::Asked { at_refresh, .. }) => *at_refresh,
        Some(User::Nobody) | None => false,
    };
    if !is_asked {
        return Ok(Step::Done((tokens, None)));
    }
    let asked = Asked {
        app,
        provider,
        access_token: tokens.access_token.clone(),
        proof_key,
    };
    let step = asked.step(context)?.caught();
    step.and_then(context, move |outcome, _| match outcome {
        Ok(Identity { statement, claims }) => {
            if !is_same(&tokens.id_token, &statement) {
                return Err(Error::Provider(
                    "the new access token is another user's, or the session began without one".to_owned(),
                ));
            }
            let tokens = Tokens {
                userinfo: claims,
                id_token: statement,
                ..tokens
            };
            Ok(Step::Done((tokens, None)))
        }
        // nobody is signed out by an outage, and nobody becomes somebody else
        Err(error @ Error::ProviderUnavailable { .. }) => Ok(Step::Done((tokens, Some(error)))),
        Err(error) => Err(error),
    })
}

fn is_same(old: &Secret, new: &Secret) -> bool {
    let user = user_of(old);
    user.is_some() && user == user_of(new)
}
