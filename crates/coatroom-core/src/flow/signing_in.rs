//! The end of every sign-in: who the user is, is known, and the session is made.
//!
//! Whoever comes here has proved that; nothing here checks a token, and a token of an API that cannot be
//! had costs nobody the sign-in.

use std::sync::Arc;

use crate::assurance::Authentication;
use crate::config::{Application, Provider};
use crate::error::Error;
use crate::flow::apis::{self, Fetched};
use crate::flow::exchange::SignedIn;
use crate::seal::ProofKey;
use crate::session::{Kept, Session, SessionId, Tokens};
use crate::step::{Context, Step};

/// A sign-in whose code was redeemed, but for who the user is.
pub(super) struct SigningIn {
    pub(super) app: Arc<Application>,
    pub(super) provider: Arc<Provider>,
    pub(super) proof_key: Option<ProofKey>,
    pub(super) login_state: [u8; 8],
}

impl SigningIn {
    /// With everything that is known of the user: the tokens of APIs, and the session.
    pub(super) fn finish(
        self,
        tokens: Tokens,
        authentication: Authentication,
        context: &mut Context<'_>,
    ) -> Result<Step<SignedIn>, Error> {
        let stateful = self.app.session.storage.is_stateful();
        let (proof_key, login_state) = (self.proof_key, self.login_state);
        let fetched = apis::fetch(
            self.app,
            self.provider,
            tokens,
            Vec::new(),
            proof_key.clone(),
            context,
        )?;
        fetched.and_then(context, move |fetched, context| {
            let Fetched { tokens, failures } = fetched;
            let kept = stateful.then(|| Kept::generate(context.rng));
            Ok(Step::Done(SignedIn {
                session: Session {
                    id: SessionId::generate(context.rng),
                    created_at: context.now,
                    last_active: context.now,
                    written_at: context.now,
                    login_state,
                    tokens,
                    authentication,
                    proof_key,
                    kept,
                },
                api_failures: failures,
            }))
        })
    }
}
