//! OAuth 2.0 and OpenID Connect messages, one file per specification.
//!
//! Everything that is sent to the provider is built here, and everything that comes from it becomes
//! a checked type here: metadata (RFC 8414), keys (RFC 7517), the authorization request and response
//! (RFC 6749 §4.1, RFC 9207), pushed (RFC 9126), as a signed request object (RFC 9101) and as a signed
//! response (JARM), PKCE (RFC 7636), client authentication (RFC 6749 §2.3), tokens
//! (RFC 6749 §5), ID tokens (OIDC Core §3.1.3.7), encrypted ones (RFC 7516), userinfo (OIDC Core §5.3), revocation (RFC 7009),
//! introspection (RFC 7662, RFC 9701), RP-initiated logout and
//! logout tokens.
//! Nothing here performs a request, reads a clock, or decides what a session is.

pub(crate) mod authorization;
mod challenges;
pub(crate) mod client_auth;
pub(crate) mod client_credentials;
pub mod dpop;
pub(crate) mod end_session;
pub(crate) mod front_channel;
pub(crate) mod id_token;
pub(crate) mod introspection;
pub(crate) mod jarm;
pub(crate) mod json;
pub(crate) mod jwe;
pub(crate) mod jwk;
pub(crate) mod jws;
pub(crate) mod logout_token;
pub(crate) mod metadata;
pub(crate) mod par;
pub(crate) mod pkce;
pub(crate) mod plain;
pub(crate) mod request_object;
pub(crate) mod resource;
pub(crate) mod revocation;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod token;
pub(crate) mod userinfo;

use std::sync::Arc;

pub use client_auth::{AssertionProblem, MAX_ASSERTION, read_client_assertion, refused_credentials};
pub use client_credentials::is_token_refused;
pub use jwe::{DecryptionKey, DecryptionKeyError};
pub use jwk::JwkSet;
pub use jws::{SigningKey, SigningKeyError};
pub use metadata::Metadata;
pub use par::pushed_refusal;
use url::Url;

use crate::secret::Secret;

/// What is known of the provider right now.
#[derive(Clone)]
pub struct ProviderSnapshot {
    /// The provider's metadata (RFC 8414).
    pub metadata: Arc<Metadata>,
    /// The keys it signs with (RFC 7517), fetched together with the metadata.
    pub keys: Arc<JwkSet>,
    /// What changes from request to request.
    pub live: Live,
}

/// What a shell knows of the provider that may be another thing at the next request.
#[derive(Clone, Default)]
pub struct Live {
    /// The newest nonce for DPoP proofs that the authorization server gave (RFC 9449 §8).
    pub dpop_nonce: Option<Arc<str>>,
    /// The client assertion that somebody else made and renews (RFC 7521 §4.2), as it is now.
    pub client_assertion: Option<Secret>,
}

impl ProviderSnapshot {
    /// Metadata and keys that were just fetched.
    pub fn new(metadata: Metadata, keys: JwkSet) -> Self {
        Self {
            metadata: Arc::new(metadata),
            keys: Arc::new(keys),
            live: Live::default(),
        }
    }
}

/// An endpoint with parameters added. A query that it has already is kept (RFC 6749 §3.1) but for
/// names that are set here, so that nothing appears twice.
fn with_parameters(endpoint: &Url, parameters: &[(&str, &str)]) -> Url {
    let mut url = endpoint.clone();
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !parameters.iter().any(|(set, _)| set == name))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    url.query_pairs_mut().extend_pairs(kept).extend_pairs(parameters);
    url
}
