//! OAuth 2.0 and OpenID Connect messages, one file per specification.
//!
//! Everything that is sent to the provider is built here, and everything that comes from it becomes
//! a checked type here: metadata (RFC 8414), keys (RFC 7517), the authorization request and response
//! (RFC 6749 §4.1, RFC 9207), PKCE (RFC 7636), client authentication (RFC 6749 §2.3), tokens
//! (RFC 6749 §5), ID tokens (OIDC Core §3.1.3.7), revocation (RFC 7009), RP-initiated logout and
//! logout tokens.
//! Nothing here performs a request, reads a clock, or decides what a session is.

pub(crate) mod authorization;
pub(crate) mod client_auth;
pub(crate) mod end_session;
pub(crate) mod id_token;
mod json;
pub(crate) mod jwk;
pub(crate) mod logout_token;
pub(crate) mod metadata;
pub(crate) mod pkce;
pub(crate) mod revocation;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod token;

pub use jwk::JwkSet;
pub use metadata::Metadata;
use url::Url;

/// What is known of the provider right now: its metadata and its keys, fetched together.
pub struct ProviderSnapshot {
    /// The provider's metadata (RFC 8414).
    pub metadata: Metadata,
    /// The keys it signs with (RFC 7517).
    pub keys: JwkSet,
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
