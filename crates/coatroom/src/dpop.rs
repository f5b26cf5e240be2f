//! Proofs of possession on the way to an API (RFC 9449): one for each request, with the API's nonce.
//!
//! Nonces are kept by application and route, for all cores, and never mixed with the provider's. They
//! are read without a lock. What signs is the core's; here is what it needs and may not have itself:
//! the time, randomness, and what the API said last. No key, proof or nonce is ever logged.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use coatroom_core::error::Error;
use coatroom_core::oauth::dpop::{self, Proofs};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::clock::SystemRng;
use crate::snapshot::Snapshot;

/// The newest nonce of each API, by application and route.
pub(crate) struct ApiNonces(Vec<Vec<ArcSwapOption<Arc<str>>>>);

impl ApiNonces {
    /// Nothing is known yet: so many routes has each application.
    pub(crate) fn new(routes: impl Iterator<Item = usize>) -> Self {
        let none = |count| (0..count).map(|_| ArcSwapOption::empty()).collect();
        Self(routes.map(none).collect())
    }

    fn of(&self, application: usize, route: usize) -> Option<&ArcSwapOption<Arc<str>>> {
        self.0.get(application)?.get(route)
    }
}

/// Makes the proofs of one call, whose access token is bound to its session's key. A request carries
/// it as an extension; the first proof is in its `DPoP` header already.
///
/// A wrapped service that sends the request on asks it for another proof for every time it does so,
/// and when the API's answer is one that [`wants_another_proof`](Self::wants_another_proof). One that
/// does neither still works: Coatroom learns the nonce from the answer, and the client is told to come
/// again.
#[derive(Clone)]
pub struct DpopSigner(Arc<Signer>);

struct Signer {
    proofs: Proofs,
    snapshot: Arc<Snapshot>,
    application: usize,
    route: usize,
}

impl DpopSigner {
    pub(crate) fn new(proofs: Proofs, snapshot: &Arc<Snapshot>, application: usize, route: usize) -> Self {
        Self(Arc::new(Signer {
            proofs,
            snapshot: Arc::clone(snapshot),
            application,
            route,
        }))
    }

    /// A new proof for a request with this method, for its `DPoP` header.
    ///
    /// # Errors
    /// [`Error::Bug`] when the backend does not sign.
    pub fn proof(&self, method: &Method) -> Result<HeaderValue, Error> {
        let shared = &self.0.snapshot.shared;
        let nonce = shared.nonces.of(self.0.application, self.0.route);
        let nonce = nonce.map(|nonce| nonce.load());
        let nonce = nonce.as_ref().and_then(|nonce| nonce.as_deref());
        let nonce = nonce.map(|nonce| &**nonce);
        self.0
            .proofs
            .proof(method, nonce, shared.clock.now(), &mut SystemRng)
    }

    /// Learns the nonce that an answer carries. Whether the answer is a refusal that a new proof with
    /// that nonce would have spared (RFC 9449 §9): then the call may be sent once more.
    pub fn wants_another_proof(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let learned = self.learn(headers);
        learned && dpop::is_nonce_challenge(status, headers)
    }

    fn learn(&self, headers: &HeaderMap) -> bool {
        let Some(nonce) = dpop::nonce_of(headers).and_then(dpop::nonce) else {
            return false;
        };
        let nonces = &self.0.snapshot.shared.nonces;
        let Some(place) = nonces.of(self.0.application, self.0.route) else {
            return false;
        };
        // writing costs every core, and most answers repeat what is known
        let known = place.load();
        if known.as_deref().is_none_or(|known| **known != *nonce) {
            place.store(Some(Arc::new(nonce)));
        }
        true
    }
}
