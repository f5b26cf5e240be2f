//! Sign-in and refresh without an ID token: who the user is, is asked.
//!
//! At a sign-in nobody is signed in before the answer came. At a refresh the refresh token is redeemed,
//! so that nothing that comes of the question may lose what came for it: an answer that names another
//! user ends the session, and every other one that does not help leaves it at what is known. Nothing here
//! decides what an answer means.

use std::sync::Arc;

use crate::assurance::Authentication;
use crate::config::{Application, Plain, Provider};
use crate::error::Error;
use crate::flow::exchange::SignedIn;
use crate::flow::refresh::{Redeemed, Refreshed};
use crate::flow::signing_in::SigningIn;
use crate::flow::status::user_of;
use crate::flow::verifying::tokens;
use crate::oauth::plain::{Asked, Identity};
use crate::oauth::token::TokenResponse;
use crate::oauth::userinfo::UserinfoClaims;
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
        let life = signing_in.provider.token_life(&signing_in.app.session);
        let issued_by = signing_in.provider.name.clone();
        let tokens = Tokens {
            userinfo: claims?,
            ..tokens(response, statement, life, issued_by, context.now)
        };
        signing_in.finish(tokens, Authentication::default(), context)
    })
}

/// A refresh: new tokens with what is known of the user, and why no more is.
pub(super) fn again(
    mut refreshed: Refreshed,
    known: Option<UserinfoClaims>,
    app: Arc<Application>,
    provider: Arc<Provider>,
    proof_key: Option<ProofKey>,
    context: &mut Context<'_>,
) -> Result<Step<Redeemed>, Error> {
    refreshed.tokens.userinfo = known;
    if !provider.plain.as_ref().is_some_and(Plain::asks_at_refresh) {
        return Ok(Step::Done(Redeemed::Tokens(refreshed)));
    }
    let asked = Asked {
        app,
        provider,
        access_token: refreshed.tokens.access_token.clone(),
        proof_key,
    };
    let step = match asked.step(context) {
        Ok(step) => step.caught(),
        Err(error) => Step::Done(Err(error)),
    };
    step.and_then(context, move |outcome, _| {
        let claims = match outcome {
            Ok(Identity { statement, .. }) if !is_same(&refreshed.tokens.id_token, &statement) => {
                return Ok(Step::Done(Redeemed::Anothers(refreshed.revocations())));
            }
            Ok(Identity { statement, claims }) => {
                refreshed.tokens.id_token = statement;
                claims
            }
            Err(error) => Err(error),
        };
        match claims {
            Ok(claims) => refreshed.tokens.userinfo = claims,
            // the claims that were known stay
            Err(error) => refreshed.userinfo = Some(error),
        }
        Ok(Step::Done(Redeemed::Tokens(refreshed)))
    })
}

/// Whether the session's user is the answer's: one that began without a user has none.
fn is_same(old: &Secret, new: &Secret) -> bool {
    let user = user_of(old);
    user.is_some() && user == user_of(new)
}
