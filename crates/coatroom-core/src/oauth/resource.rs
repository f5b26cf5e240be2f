//! Access tokens for one API of several: by resource indicator at a refresh (RFC 8707 §2.2, RFC 6749
//! §6), or by token exchange (RFC 8693).
//!
//! [`request`] asks for one API's token and [`read`] judges the answer: a token counts only if it says
//! of itself nothing beyond what was asked for. A refresh token that comes along is kept whatever
//! else is wrong with the answer, because it may be the only good one. No error repeats an answer.

use super::token::{Granted, TokenFailure, TokenResponse, TokenType};
use super::{client_auth, plain};
use crate::config::apis::{ACCESS_TOKEN_TYPE, TOKEN_TYPES};
use crate::config::{Api, ApiGrant, Provider};
use crate::error::Error;
use crate::secret::Secret;
use crate::step::{Context, ProviderRequest, Reply};

/// What an answer to [`request`] comes to.
pub(crate) struct Answered {
    /// The refresh token from now on, if there is a new one.
    pub(crate) refresh_token: Option<Secret>,
    /// How long it can be used, in seconds, if the provider says.
    pub(crate) refresh_expires_in: Option<u64>,
    /// The access token and its life in seconds.
    pub(crate) outcome: Result<(Secret, Option<u64>), TokenFailure>,
}

/// The request for an API's token, by what the session has: its newest refresh token, or its access
/// token. None without the former where it is needed.
///
/// # Errors
/// [`Error::Provider`] when this client cannot authenticate with what the metadata offers.
pub(crate) fn request(
    api: &Api,
    refresh_token: Option<&Secret>,
    access_token: &Secret,
    provider: &Provider,
    context: &mut Context<'_>,
) -> Result<Option<ProviderRequest>, Error> {
    let scope = api.scopes.join(" ");
    let mut parameters = match (&api.grant, refresh_token) {
        (ApiGrant::Refresh, None) => return Ok(None),
        (ApiGrant::Refresh, Some(refresh_token)) => vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
        ],
        (ApiGrant::Exchange { requested_token_type }, _) => {
            let mut parameters = vec![
                ("grant_type", TOKEN_EXCHANGE),
                ("subject_token", access_token.expose()),
                ("subject_token_type", ACCESS_TOKEN_TYPE),
            ];
            let requested = requested_token_type.as_deref();
            parameters.extend(requested.map(|kind| ("requested_token_type", kind)));
            parameters
        }
    };
    parameters.push(api.target.parameter());
    if !scope.is_empty() {
        parameters.push(("scope", &scope));
    }
    let metadata = &context.provider.metadata;
    client_auth::post(&metadata.token_endpoint, &parameters, provider, context).map(Some)
}

/// Judges the answer.
pub(crate) fn read(api: &Api, reply: &Reply, wanted: TokenType, provider: &Provider) -> Answered {
    let by_refresh = api.grant == ApiGrant::Refresh;
    match plain::parse_token_reply(reply, wanted, provider) {
        Ok(mut response) => {
            // what comes along with an exchanged token belongs to that token (RFC 8693 §2.2.1)
            let refresh_token = response.refresh_token.take().filter(|_| by_refresh);
            Answered {
                refresh_token,
                refresh_expires_in: response.refresh_expires_in.filter(|_| by_refresh),
                outcome: judge(api, response),
            }
        }
        Err(failure) => Answered {
            refresh_token: plain::rescued_refresh_token(reply, provider).filter(|_| by_refresh),
            refresh_expires_in: None,
            outcome: Err(failure),
        },
    }
}

fn judge(api: &Api, response: TokenResponse) -> Result<(Secret, Option<u64>), TokenFailure> {
    if let ApiGrant::Exchange { requested_token_type } = &api.grant {
        // required by RFC 8693 §2.2.1; who leaves it out says by `token_type` that it is an access token
        let issued = response.issued_token_type.as_deref();
        let good = issued.is_none_or(|issued| match requested_token_type {
            Some(requested) => issued == requested,
            None => TOKEN_TYPES.contains(&issued),
        });
        if !good {
            return Err(TokenFailure::Unusable(
                "`issued_token_type` is not what was asked for, or no access token's",
            ));
        }
    }
    judge_scopes(&api.scopes, &response.scope)?;
    Ok((response.access_token, response.expires_in))
}

/// Whether what was granted is no more than what was asked for, where scopes were named.
pub(crate) fn judge_scopes(asked: &[String], granted: &Granted) -> Result<(), TokenFailure> {
    match granted {
        Granted::AsAsked => Ok(()),
        Granted::Unreadable if asked.is_empty() => Ok(()),
        Granted::Unreadable => Err(TokenFailure::Unusable("`scope` is not a string")),
        Granted::Scopes(granted) => {
            let mut granted = granted.split(' ').filter(|scope| !scope.is_empty());
            let was_asked = |scope: &str| asked.iter().any(|asked| asked == scope);
            if !asked.is_empty() && !granted.all(was_asked) {
                return Err(TokenFailure::Unusable(
                    "more scopes were granted than were asked for; the API is to see those of `token.scopes` alone",
                ));
            }
            Ok(())
        }
    }
}

/// RFC 8693 §2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{ApiId, ApiTarget};
    use crate::oauth::testing::{metadata, plain, provider, with_context};
    use crate::step::ProviderResponse;

    fn api(grant: ApiGrant, target: ApiTarget, scopes: &[&str]) -> Api {
        Api {
            id: ApiId([1; 8]),
            grant,
            target,
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        }
    }

    fn resource() -> ApiTarget {
        ApiTarget::Resource("https://api.example.com/?a=b&c".to_owned())
    }

    fn exchange(kind: Option<&str>) -> ApiGrant {
        ApiGrant::Exchange {
            requested_token_type: kind.map(str::to_owned),
        }
    }

    fn body(api: &Api, refresh_token: Option<&str>) -> Option<String> {
        let (refresh_token, access_token) = (refresh_token.map(Secret::new), Secret::new("acc+ess"));
        with_context(metadata(), |context| {
            let request = request(api, refresh_token.as_ref(), &access_token, &provider(), context);
            let request = request.expect("it can authenticate")?;
            Some(String::from_utf8(request.body.to_vec()).expect("ASCII"))
        })
    }

    #[test]
    fn each_api_is_asked_for_alone() {
        let audience = || ApiTarget::Audience("stock".to_owned());
        let refresh = |target, scopes: &[&str]| api(ApiGrant::Refresh, target, scopes);
        for (name, api, expected) in [
            (
                "a resource",
                refresh(resource(), &["a:read", "b"]),
                "grant_type=refresh_token&refresh_token=r%26&resource=https%3A%2F%2Fapi.example.com%2F%3Fa%3Db%26c&scope=a%3Aread+b",
            ),
            (
                "an audience",
                refresh(audience(), &[]),
                "grant_type=refresh_token&refresh_token=r%26&audience=stock",
            ),
            (
                "an exchange",
                api(exchange(None), audience(), &["s"]),
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=acc%2Bess\
                 &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&audience=stock&scope=s",
            ),
            (
                "an exchange for a jwt",
                api(exchange(Some(TOKEN_TYPES[1])), audience(), &[]),
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=acc%2Bess\
                 &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
                 &requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&audience=stock",
            ),
        ] {
            assert_eq!(body(&api, Some("r&")).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(body(&refresh(resource(), &[]), None), None);
        assert!(body(&api(exchange(None), resource(), &[]), None).is_some());
    }

    fn answered(api: &Api, status: u16, body: &Value) -> Answered {
        answered_by(&provider(), api, status, body)
    }

    fn answered_by(provider: &Provider, api: &Api, status: u16, body: &Value) -> Answered {
        let response = ProviderResponse {
            status: StatusCode::from_u16(status).expect("a status"),
            content_type: None,
            dpop_nonce: None,
            body: body.to_string().into_bytes().into(),
        };
        read(api, &Reply::Response(response), TokenType::Bearer, provider)
    }

    #[test]
    fn a_token_is_taken_for_what_was_asked_for_and_nothing_more() {
        let scoped = || api(ApiGrant::Refresh, resource(), &["a", "b"]);
        let unscoped = || api(ApiGrant::Refresh, resource(), &[]);
        let exchanged = |kind| api(exchange(kind), resource(), &[]);
        let id_token = "urn:ietf:params:oauth:token-type:id_token";
        for (name, api, members, good) in [
            ("silence means as asked", scoped(), json!({}), true),
            (
                "as asked, in another order",
                scoped(),
                json!({"scope": "b a"}),
                true,
            ),
            ("fewer", scoped(), json!({"scope": "a"}), true),
            ("none", scoped(), json!({"scope": ""}), true),
            ("more", scoped(), json!({"scope": "a b c"}), false),
            ("openid is more", scoped(), json!({"scope": "a openid"}), false),
            ("another case", scoped(), json!({"scope": "A"}), false),
            ("no text", scoped(), json!({"scope": ["a"]}), false),
            ("null", scoped(), json!({"scope": null}), true),
            (
                "any, where none are named",
                unscoped(),
                json!({"scope": "x y"}),
                true,
            ),
            (
                "a list, where none are named",
                unscoped(),
                json!({"scope": ["a"]}),
                true,
            ),
            ("no bearer token", unscoped(), json!({"token_type": "N_A"}), false),
            (
                "exchanged",
                exchanged(None),
                json!({"issued_token_type": ACCESS_TOKEN_TYPE}),
                true,
            ),
            (
                "exchanged for a jwt",
                exchanged(None),
                json!({"issued_token_type": TOKEN_TYPES[1]}),
                true,
            ),
            ("exchanged, unnamed", exchanged(None), json!({}), true),
            (
                "exchanged for an ID token",
                exchanged(None),
                json!({"issued_token_type": id_token}),
                false,
            ),
            (
                "exchanged for another kind",
                exchanged(Some(ACCESS_TOKEN_TYPE)),
                json!({"issued_token_type": TOKEN_TYPES[1]}),
                false,
            ),
        ] {
            let mut body = json!({"access_token": "t0ken", "token_type": "bearer", "expires_in": 60});
            let all = body.as_object_mut().expect("an object");
            all.extend(members.as_object().expect("an object").clone());
            let answered = answered(&api, 200, &body);
            assert_eq!(answered.outcome.is_ok(), good, "{name}");
            if let Ok((token, life)) = answered.outcome {
                assert!(token == Secret::new("t0ken") && life == Some(60), "{name}");
            }
        }
    }

    #[test]
    fn the_habits_of_plain_oauth_are_those_of_an_apis_token() {
        let commas = json!({"access_token": "t", "token_type": "bearer", "scope": "b,a"});
        let refused = json!({"error": "bad_refresh_token", "refresh_token": "next"});
        for grant in [ApiGrant::Refresh, exchange(None)] {
            let api = api(grant, resource(), &["a", "b"]);
            for habits in [true, false] {
                let answered = answered_by(&plain(habits), &api, 200, &commas);
                assert_eq!(answered.outcome.is_ok(), habits);
                let answered = answered_by(&plain(habits), &api, 200, &refused);
                let failure = answered.outcome.err().expect("there is no token");
                assert_eq!(failure == TokenFailure::InvalidGrant, habits);
                let rescued = !habits && api.grant == ApiGrant::Refresh;
                assert_eq!(answered.refresh_token.is_some(), rescued);
            }
        }
    }

    #[test]
    fn a_rotated_refresh_token_is_kept_whatever_else_is_wrong() {
        let by_refresh = api(ApiGrant::Refresh, resource(), &["a"]);
        let by_exchange = api(exchange(None), resource(), &["a"]);
        for (name, api, status, body, kept) in [
            (
                "good",
                &by_refresh,
                200,
                json!({"access_token": "t", "token_type": "Bearer", "refresh_token": "next"}),
                true,
            ),
            (
                "more scopes",
                &by_refresh,
                200,
                json!({"access_token": "t", "token_type": "Bearer", "refresh_token": "next", "scope": "a b"}),
                true,
            ),
            (
                "no token type",
                &by_refresh,
                200,
                json!({"access_token": "t", "refresh_token": "next"}),
                true,
            ),
            (
                "an error",
                &by_refresh,
                400,
                json!({"error": "invalid_target", "refresh_token": "next"}),
                false,
            ),
            (
                "an exchanged token's own",
                &by_exchange,
                200,
                json!({"access_token": "t", "token_type": "Bearer", "refresh_token": "next"}),
                false,
            ),
            (
                "of no token type",
                &by_exchange,
                200,
                json!({"access_token": "t", "refresh_token": "next"}),
                false,
            ),
        ] {
            let answered = answered(api, status, &body);
            let next = answered.refresh_token;
            assert_eq!(next == Some(Secret::new("next")), kept, "{name}");
            assert_eq!(next.is_some(), kept, "{name}");
        }
        for (api, life) in [(&by_refresh, Some(1800)), (&by_exchange, None)] {
            let body = json!({"access_token": "t", "token_type": "Bearer", "refresh_token": "next", "refresh_expires_in": 1800});
            assert_eq!(answered(api, 200, &body).refresh_expires_in, life);
        }
    }
}
