//! Access tokens of the client's own (RFC 6749 §4.4, RFC 8707 §2.2).
//!
//! [`request`] asks for one and [`read`] judges the answer: a token counts only if it says of itself
//! nothing beyond what was asked for. A refresh token in the answer is not looked at: none should be
//! there (§4.4.3), and the client can ask again whenever it likes. No error repeats an answer.

use http::{HeaderMap, StatusCode};

use super::client_auth;
use super::dpop::names_error;
use super::plain;
use super::resource::judge_scopes;
use super::token::{TokenFailure, TokenType};
use crate::config::{ClientGrant, Provider};
use crate::error::Error;
use crate::secret::Secret;
use crate::step::{Context, ProviderRequest, Reply};

/// The request for a token of the client's own (RFC 6749 §4.4.2).
///
/// # Errors
/// [`Error::Provider`] when this client cannot authenticate with what the metadata offers.
pub(crate) fn request(
    grant: &ClientGrant,
    provider: &Provider,
    context: &mut Context<'_>,
) -> Result<ProviderRequest, Error> {
    let scope = grant.scopes.join(" ");
    let mut parameters = vec![("grant_type", "client_credentials")];
    parameters.extend(grant.target.as_ref().map(|target| target.parameter()));
    if !scope.is_empty() {
        parameters.push(("scope", &scope));
    }
    let metadata = &context.provider.metadata;
    client_auth::post(&metadata.token_endpoint, &parameters, provider, context)
}

/// Judges the answer: the token and its life in seconds, if the provider says.
///
/// # Errors
/// [`Error::ProviderUnavailable`] where it may help to ask again, [`Error::Provider`] where somebody has
/// to change something first.
pub(crate) fn read(
    grant: &ClientGrant,
    reply: &Reply,
    wanted: TokenType,
    provider: &Provider,
    context: &Context<'_>,
) -> Result<(Secret, Option<u64>), Error> {
    let outcome = plain::parse_token_reply(reply, wanted, provider).and_then(|response| {
        judge_scopes(&grant.scopes, &response.scope)?;
        Ok((response.access_token, response.expires_in))
    });
    outcome.map_err(|failure| match failure.of_client(provider, context) {
        TokenFailure::InvalidGrant | TokenFailure::InteractionRequired => Error::Provider(
            "token endpoint: it speaks of a user's grant, and client_credentials are nobody's".to_owned(),
        ),
        TokenFailure::Unusable(why) => {
            let name = why.split(':').next().unwrap_or_default();
            let own = HINTS.iter().find(|(error, _)| *error == name);
            Error::Provider(format!("token endpoint: {}", own.map_or(why, |(_, hint)| hint)))
        }
        other @ (TokenFailure::Unavailable(_) | TokenFailure::InvalidClient) => {
            other.into_error(Error::Bug("a dead grant where there is none"))
        }
    })
}

/// Whether an API says that the token of a call is no longer good (RFC 6750 §3.1, RFC 9449 §7.1).
pub fn is_token_refused(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED && names_error(headers, &["bearer", "dpop"], "invalid_token")
}

/// What an error means where no user is: the usual hints are about sign-ins.
const HINTS: [(&str, &str); 3] = [
    (
        "invalid_scope",
        "invalid_scope: check the `scopes` of the route's `client_credentials`, and what this client may have",
    ),
    (
        "unauthorized_client",
        "unauthorized_client: allow the grant client_credentials for `client_id` at the provider",
    ),
    (
        "unsupported_grant_type",
        "unsupported_grant_type: the provider has no client_credentials",
    ),
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::ApiTarget;
    use crate::oauth::testing::{metadata, plain, provider, with_context};
    use crate::step::ProviderResponse;

    fn grant(target: Option<ApiTarget>, scopes: &[&str]) -> ClientGrant {
        ClientGrant {
            target,
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_configured_is_asked_for_and_nothing_else() {
        let resource = || Some(ApiTarget::Resource("https://api.example.com/?a".to_owned()));
        let audience = || Some(ApiTarget::Audience("stock".to_owned()));
        for (grant, expected) in [
            (grant(None, &[]), "grant_type=client_credentials"),
            (
                grant(None, &["a:read", "b"]),
                "grant_type=client_credentials&scope=a%3Aread+b",
            ),
            (
                grant(resource(), &["a"]),
                "grant_type=client_credentials&resource=https%3A%2F%2Fapi.example.com%2F%3Fa&scope=a",
            ),
            (
                grant(audience(), &[]),
                "grant_type=client_credentials&audience=stock",
            ),
        ] {
            let body = with_context(metadata(), |context| {
                let request = request(&grant, &provider(), context).expect("it can authenticate");
                assert!(request.headers.iter().any(|(name, _)| name == "authorization"));
                String::from_utf8(request.body.to_vec()).expect("ASCII")
            });
            assert_eq!(body, expected);
        }
    }

    fn answered(grant: &ClientGrant, status: u16, body: &Value) -> Result<(Secret, Option<u64>), Error> {
        answered_by(&provider(), grant, status, body)
    }

    fn answered_by(
        provider: &Provider,
        grant: &ClientGrant,
        status: u16,
        body: &Value,
    ) -> Result<(Secret, Option<u64>), Error> {
        let reply = Reply::Response(ProviderResponse {
            status: StatusCode::from_u16(status).expect("a status"),
            content_type: None,
            dpop_nonce: None,
            body: body.to_string().into_bytes().into(),
        });
        with_context(metadata(), |context| {
            read(grant, &reply, TokenType::Bearer, provider, context)
        })
    }

    #[test]
    fn the_habits_of_plain_oauth_are_those_of_the_clients_own_token() {
        let commas = json!({"access_token": "t", "token_type": "bearer", "scope": "b,a"});
        let refused = json!({"error": "incorrect_client_credentials"});
        let away = json!({"error": "temporarily_unavailable"});
        let grant = grant(None, &["a", "b"]);
        for habits in [true, false] {
            let answered = |body| answered_by(&plain(habits), &grant, 200, body);
            assert_eq!(answered(&commas).is_ok(), habits);
            let error = answered(&refused).err().expect("there is no token").to_string();
            assert_eq!(error.contains("invalid_client"), habits, "{error}");
            let error = answered(&away).err().expect("there is no token");
            assert_eq!(
                matches!(error, Error::ProviderUnavailable { .. }),
                habits,
                "{error}"
            );
        }
    }

    #[test]
    fn a_token_is_taken_for_what_was_asked_for_and_nothing_more() {
        for (name, scopes, members, good) in [
            ("silence", &["a", "b"][..], json!({}), true),
            ("as asked", &["a", "b"], json!({"scope": "b a"}), true),
            ("fewer", &["a", "b"], json!({"scope": "a"}), true),
            ("more", &["a"], json!({"scope": "a b"}), false),
            ("a user's", &["a"], json!({"scope": "a openid"}), false),
            ("no text", &["a"], json!({"scope": ["a"]}), false),
            ("any, where none are named", &[], json!({"scope": "x"}), true),
            ("another type", &[], json!({"token_type": "DPoP"}), false),
            ("no type", &[], json!({"token_type": null}), false),
            ("no token", &[], json!({"access_token": null}), false),
            ("an error with it", &[], json!({"error": "invalid_scope"}), false),
            ("a life that is none", &[], json!({"expires_in": []}), false),
            ("a refresh token", &["a"], json!({"refresh_token": "r"}), true),
        ] {
            let mut body = json!({"access_token": "t0ken", "token_type": "bearer", "expires_in": 60});
            let all = body.as_object_mut().expect("an object");
            all.extend(members.as_object().expect("an object").clone());
            match answered(&grant(None, scopes), 200, &body) {
                Ok((token, life)) => {
                    assert!(
                        good && token == Secret::new("t0ken") && life == Some(60),
                        "{name}"
                    );
                }
                Err(error) => assert!(!good && matches!(error, Error::Provider(_)), "{name}: {error}"),
            }
        }
    }

    #[test]
    fn an_error_tells_the_operator_what_to_do_and_whether_it_will_pass() {
        for (status, body, begins) in [
            (
                400,
                json!({"error": "invalid_scope"}),
                "token endpoint: invalid_scope: check the `scopes`",
            ),
            (
                400,
                json!({"error": "unauthorized_client"}),
                "token endpoint: unauthorized_client: allow the grant client_credentials",
            ),
            (
                400,
                json!({"error": "unsupported_grant_type"}),
                "token endpoint: unsupported_grant_type: the provider has no",
            ),
            (
                401,
                json!({"error": "invalid_client"}),
                "token endpoint: invalid_client: ",
            ),
            (
                400,
                json!({"error": "invalid_target"}),
                "token endpoint: invalid_target: ",
            ),
            (
                400,
                json!({"error": "invalid_grant"}),
                "token endpoint: it speaks of a user's grant",
            ),
            (
                400,
                json!({"error": "interaction_required"}),
                "token endpoint: it speaks of a user's grant",
            ),
        ] {
            match answered(&grant(None, &[]), status, &body) {
                Err(Error::Provider(text)) => assert!(text.starts_with(begins), "{text}"),
                _ => panic!("{body} is final"),
            }
        }
        for (status, body) in [
            (503, json!({})),
            (429, json!({})),
            (400, json!({"error": "slow_down"})),
        ] {
            assert!(
                matches!(
                    answered(&grant(None, &[]), status, &body),
                    Err(Error::ProviderUnavailable { .. })
                ),
                "{status}"
            );
        }
    }

    #[test]
    fn only_a_challenge_that_names_the_token_says_that_it_is_no_longer_good() {
        for (status, challenge, refused) in [
            (401, r#"Bearer error="invalid_token""#, true),
            (
                401,
                r#"Bearer realm="a", error="invalid_token", error_description="x""#,
                true,
            ),
            (401, r#"DPoP error="invalid_token", algs="ES256""#, true),
            (401, r#"bearer error=invalid_token"#, true),
            (401, r#"Basic realm="x", Bearer error="invalid_token""#, true),
            (401, "Bearer", false),
            (401, r#"Basic error="invalid_token""#, false),
            (401, r#"Bearer error="insufficient_scope""#, false),
            (401, r#"DPoP error="use_dpop_nonce""#, false),
            (403, r#"Bearer error="invalid_token""#, false),
            (200, r#"Bearer error="invalid_token""#, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("www-authenticate", HeaderValue::from_static(challenge));
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                is_token_refused(status, &headers),
                refused,
                "{status} {challenge}"
            );
        }
        assert!(!is_token_refused(StatusCode::UNAUTHORIZED, &HeaderMap::new()));
    }
}
