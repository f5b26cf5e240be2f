//! Token revocation (RFC 7009).
//!
//! Builds the request and reads its outcome. A sign-out never waits for or fails by it: that is why
//! the outcome is a plain fact here and never an error.

use http::StatusCode;

use super::client_auth;
use crate::config::Provider;
use crate::error::Error;
use crate::secret::Secret;
use crate::step::{Context, ProviderRequest, Reply};

/// What kind of token is revoked (RFC 7009 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenTypeHint {
    /// With it the access tokens of the same grant usually go too.
    RefreshToken,
    /// One access token.
    AccessToken,
}

/// The request that revokes `token`; none where the provider has no revocation endpoint.
///
/// # Errors
/// [`Error::Provider`] when this client cannot authenticate with what the metadata offers.
pub(crate) fn revocation_request(
    token: &Secret,
    hint: TokenTypeHint,
    provider: &Provider,
    context: &mut Context<'_>,
) -> Result<Option<ProviderRequest>, Error> {
    let Some(endpoint) = &context.provider.metadata.revocation_endpoint else {
        return Ok(None);
    };
    let hint = match hint {
        TokenTypeHint::RefreshToken => "refresh_token",
        TokenTypeHint::AccessToken => "access_token",
    };
    let parameters = [("token", token.expose()), ("token_type_hint", hint)];
    client_auth::post(endpoint, &parameters, provider, context).map(Some)
}

/// Whether the token is revoked now. The provider says 200 also for tokens it never knew (§2.2).
pub(crate) fn is_revoked(reply: &Reply) -> bool {
    match reply {
        // 204 is not what the RFC says, and providers send it.
        Reply::Response(response) => matches!(response.status, StatusCode::OK | StatusCode::NO_CONTENT),
        Reply::Unreachable(_) | Reply::Keys => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::oauth::testing::{metadata, metadata_with, provider, with_context};
    use crate::step::ProviderResponse;

    #[test]
    fn the_request_names_the_token_and_its_type() {
        for (hint, name) in [
            (TokenTypeHint::RefreshToken, "refresh_token"),
            (TokenTypeHint::AccessToken, "access_token"),
        ] {
            let request = with_context(metadata(), |context| {
                revocation_request(&Secret::new("t+k/n"), hint, &provider(), context)
            });
            let request = request.unwrap().unwrap();
            assert_eq!(request.url.as_str(), "https://login.example.com/revoke");
            let body = std::str::from_utf8(&request.body).unwrap();
            assert_eq!(body, format!("token=t%2Bk%2Fn&token_type_hint={name}"));
            assert!(
                request
                    .headers
                    .iter()
                    .any(|(name, _)| name == http::header::AUTHORIZATION)
            );
        }
    }

    #[test]
    fn without_an_endpoint_there_is_no_request() {
        let metadata = metadata_with(&[("revocation_endpoint", Value::Null)]);
        let request = with_context(metadata, |context| {
            let hint = TokenTypeHint::RefreshToken;
            revocation_request(&Secret::new("t"), hint, &provider(), context)
        });
        assert!(matches!(request, Ok(None)));
    }

    #[test]
    fn only_a_success_counts_as_revoked() {
        for (status, revoked) in [
            (200, true),
            (204, true),
            (302, false),
            (400, false),
            (401, false),
            (503, false),
        ] {
            let reply = Reply::Response(ProviderResponse {
                status: StatusCode::from_u16(status).unwrap(),
                content_type: None,
                dpop_nonce: None,
                body: Vec::new().into(),
            });
            assert_eq!(is_revoked(&reply), revoked, "{status}");
        }
        assert!(!is_revoked(&Reply::Unreachable("timeout")));
    }
}
