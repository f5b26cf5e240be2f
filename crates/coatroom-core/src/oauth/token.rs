//! The token endpoint (RFC 6749 §4.1.3, §4.1.4, §5.1, §5.2, §6; RFC 6750; RFC 7636 §4.5).
//!
//! Builds the requests that redeem a code or a refresh token and turns every possible answer into
//! tokens or into one of three failures: the grant is dead, the provider is not there, or its answer
//! cannot be used. Only the first may end a session, and only a JSON `invalid_grant` is the first.
//! The answer is read as JSON whatever its content type says. No error repeats any of it.

use std::fmt;

use http::StatusCode;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::client_auth;
use super::json::saturating_seconds;
use crate::config::Provider;
use crate::error::Error;
use crate::secret::Secret;
use crate::step::{Context, ProviderRequest, ProviderResponse, Reply};

/// The request that redeems an authorization code (RFC 6749 §4.1.3). `redirect_uri` is the one of the
/// authorization request.
///
/// # Errors
/// [`Error::Provider`] when this client cannot authenticate with what the metadata offers.
pub(crate) fn code_request(
    code: &Secret,
    redirect_uri: &str,
    code_verifier: &Secret,
    provider: &Provider,
    context: &mut Context<'_>,
) -> Result<ProviderRequest, Error> {
    let grant = [
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", redirect_uri),
        ("code_verifier", code_verifier.expose()),
    ];
    let parameters: Vec<_> = grant.into_iter().chain(own_resource(provider)).collect();
    let metadata = &context.provider.metadata;
    client_auth::post(&metadata.token_endpoint, &parameters, provider, context)
}

/// The request that redeems a refresh token (RFC 6749 §6), for all its scopes unless fewer are named.
///
/// # Errors
/// [`Error::Provider`] when this client cannot authenticate with what the metadata offers.
pub(crate) fn refresh_request(
    refresh_token: &Secret,
    scope: Option<&str>,
    provider: &Provider,
    context: &mut Context<'_>,
) -> Result<ProviderRequest, Error> {
    let grant = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.expose()),
    ];
    let scope = scope.map(|scope| ("scope", scope));
    let all = grant.into_iter().chain(scope).chain(own_resource(provider));
    let parameters: Vec<_> = all.collect();
    let metadata = &context.provider.metadata;
    client_auth::post(&metadata.token_endpoint, &parameters, provider, context)
}

/// For which APIs the session's own token is, where that has to be said (RFC 8707 §2.2).
fn own_resource(provider: &Provider) -> impl Iterator<Item = (&'static str, &str)> {
    let own = provider.authorization.own_resource.iter();
    own.map(|uri| ("resource", uri.as_str()))
}

/// What a successful answer holds (RFC 6749 §5.1).
pub(crate) struct TokenResponse {
    /// The access token, a `Bearer` token (RFC 6750).
    pub(crate) access_token: Secret,
    /// Its life in seconds, if the provider says.
    pub(crate) expires_in: Option<u64>,
    /// The next refresh token; after a refresh without one the old one stays.
    pub(crate) refresh_token: Option<Secret>,
    /// How long the refresh token can be used, in seconds, if the provider says. No specification
    /// has it: Keycloak calls it `refresh_expires_in` (0 where there is no limit), Entra and GitHub
    /// `refresh_token_expires_in`.
    pub(crate) refresh_expires_in: Option<u64>,
    /// The ID token, unverified.
    pub(crate) id_token: Option<Secret>,
    /// What was granted.
    pub(crate) scope: Granted,
    /// Of which kind the token is (RFC 8693 §2.2.1), if the provider says.
    pub(crate) issued_token_type: Option<String>,
}

/// The scopes of an access token (RFC 6749 §5.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Granted {
    /// Nothing is said: those that were asked for.
    AsAsked,
    /// These, with blanks between them.
    Scopes(String),
    /// Something is said that is no text.
    Unreadable,
}

impl Granted {
    /// What was asked for, where nothing is said and that is known.
    #[must_use]
    pub(crate) fn or(self, asked: Option<String>) -> Self {
        match (self, asked) {
            (Self::AsAsked, Some(asked)) => Self::Scopes(asked),
            (said, _) => said,
        }
    }

    /// The same from a provider that has commas where RFC 6749 §3.3 has blanks.
    #[must_use]
    pub(crate) fn between_commas(self) -> Self {
        match self {
            Self::Scopes(scopes) => Self::Scopes(scopes.replace(',', " ")),
            Self::AsAsked | Self::Unreadable => self,
        }
    }

    /// As a text; what cannot be read grants nothing that a route could demand.
    pub(crate) fn into_text(self) -> Option<String> {
        match self {
            Self::AsAsked => None,
            Self::Scopes(scopes) => Some(scopes),
            Self::Unreadable => Some(String::new()),
        }
    }
}

/// The refresh token of an answer whose access token cannot be used: it may be the only good one.
pub(crate) fn rescued_refresh_token(reply: &Reply) -> Option<Secret> {
    let Reply::Response(response) = reply else {
        return None;
    };
    let members = Members::read(&response.body).filter(|_| response.status.is_success())?;
    members.refresh_token.into_token("").ok().flatten()
}

/// Why there are no tokens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenFailure {
    /// The code or refresh token is no longer good (RFC 6749 §5.2 `invalid_grant`).
    InvalidGrant,
    /// The user has to do something at the provider first (Entra, with the error of OIDC Core §3.1.2.6):
    /// a second factor, a consent. With this grant there will be no tokens of this kind.
    InteractionRequired,
    /// No answer, 429 or 5xx: nothing is decided, trying again later makes sense.
    Unavailable(&'static str),
    /// The provider does not take our credentials (RFC 6749 §5.2 `invalid_client`).
    InvalidClient,
    /// An answer that does not help. The text is for the operator.
    Unusable(&'static str),
}

impl TokenFailure {
    /// The same, where credentials are refused with which they were and what to look at.
    #[must_use]
    pub(crate) fn of_client(self, provider: &Provider, context: &Context<'_>) -> Self {
        match self {
            Self::InvalidClient => Self::Unusable(client_auth::refused(provider, &context.provider.metadata)),
            Self::InvalidGrant | Self::InteractionRequired | Self::Unavailable(_) | Self::Unusable(_) => self,
        }
    }

    /// The same for the refresh of a session's own tokens, which is over where a user has to act.
    #[must_use]
    pub(crate) fn of_session(self) -> Self {
        match self {
            Self::InteractionRequired => Self::InvalidGrant,
            Self::InvalidGrant | Self::InvalidClient | Self::Unavailable(_) | Self::Unusable(_) => self,
        }
    }

    /// As an [`Error`]. What a dead grant means differs between a sign-in and a refresh.
    pub(crate) fn into_error(self, invalid_grant: Error) -> Error {
        match self {
            Self::InvalidGrant => invalid_grant,
            Self::InteractionRequired => Error::AuthorizationFailed {
                provider_error: Some("interaction_required"),
            },
            Self::Unavailable(why) => Error::ProviderUnavailable {
                reason: format!("token endpoint: {why}"),
                retry_after: RETRY_AFTER,
            },
            Self::InvalidClient => Error::Provider(format!("token endpoint: {INVALID_CLIENT}")),
            Self::Unusable(why) => Error::Provider(format!("token endpoint: {why}")),
        }
    }
}

/// What kind of access token is wanted (RFC 6749 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenType {
    /// Whoever has it may use it (RFC 6750).
    Bearer,
    /// Bound to a key of ours (RFC 9449 §5). A `Bearer` token in its place is a downgrade.
    Dpop,
}

/// Reads the outcome of a token request; an access token of another type than the wanted one is refused.
pub(crate) fn parse_token_reply(reply: &Reply, wanted: TokenType) -> Result<TokenResponse, TokenFailure> {
    match reply {
        Reply::Response(response) => parse_token_response(response, wanted),
        Reply::Unreachable(why) => Err(TokenFailure::Unavailable(why)),
        Reply::Keys => Err(TokenFailure::Unusable("asked for tokens, got keys")),
    }
}

/// Reads an answer of the token endpoint.
pub(crate) fn parse_token_response(
    response: &ProviderResponse,
    wanted: TokenType,
) -> Result<TokenResponse, TokenFailure> {
    let status = response.status;
    if status.is_success() {
        let members = Members::read(&response.body).ok_or(TokenFailure::Unusable(
            "a success without a json object, or with a member twice",
        ))?;
        return members.into_tokens(wanted).map_err(TokenFailure::Unusable);
    }
    if status.is_server_error() {
        return Err(TokenFailure::Unavailable("status 5xx"));
    }
    match status {
        StatusCode::TOO_MANY_REQUESTS => return Err(TokenFailure::Unavailable("status 429")),
        StatusCode::REQUEST_TIMEOUT => return Err(TokenFailure::Unavailable("status 408")),
        _ => {}
    }
    if !status.is_client_error() {
        return Err(TokenFailure::Unusable(
            "a redirect or another status that no token request gets",
        ));
    }
    let error = match Members::read(&response.body).map(|members| members.error) {
        Some(Member::Text(error)) => error,
        _ if status == StatusCode::UNAUTHORIZED => {
            // what else could a 401 mean here
            return Err(TokenFailure::InvalidClient);
        }
        _ => return Err(TokenFailure::Unusable("status 4xx without a json `error`")),
    };
    Err(failure_of(error.expose(), status))
}

/// What an error code of the token endpoint means (RFC 6749 §5.2).
pub(super) fn failure_of(code: &str, status: StatusCode) -> TokenFailure {
    // RFC 6749 §5.2 says 400, with 401 for failed authentication; Auth0 says 403.
    let may_end_a_grant = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    );
    match code {
        "invalid_grant" if may_end_a_grant => TokenFailure::InvalidGrant,
        "interaction_required" if may_end_a_grant => TokenFailure::InteractionRequired,
        "invalid_client" => TokenFailure::InvalidClient,
        "temporarily_unavailable" | "server_error" | "slow_down" => {
            TokenFailure::Unavailable("the error says to try later")
        }
        code => {
            let known = ERRORS.iter().find(|(error, _)| *error == code);
            TokenFailure::Unusable(known.map_or("an unregistered error", |(_, text)| text))
        }
    }
}

/// The error of a success that carries no access token: some providers refuse in this way.
pub(super) fn error_alone(body: &[u8]) -> Option<Secret> {
    match Members::read(body)? {
        Members {
            error: Member::Text(error),
            access_token: Member::Absent,
            ..
        } => Some(error).filter(|error| !error.is_empty()),
        _ => None,
    }
}

/// The members of an answer that matter, of whatever type. The tokens in it are zeroed when dropped.
#[derive(Default)]
struct Members {
    access_token: Member,
    token_type: Member,
    expires_in: Member,
    refresh_token: Member,
    refresh_expires_in: Member,
    refresh_token_expires_in: Member,
    id_token: Member,
    scope: Member,
    issued_token_type: Member,
    error: Member,
}

#[derive(Default)]
enum Member {
    /// Not there, or null.
    #[default]
    Absent,
    Text(Secret),
    Number(f64),
    /// True, false, an array or an object.
    Other,
}

impl Members {
    fn read(body: &[u8]) -> Option<Self> {
        // as text: what is skipped in bytes is not looked at, and RFC 8259 §8.1 asks for UTF-8
        serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
    }

    fn into_tokens(self, wanted: TokenType) -> Result<TokenResponse, &'static str> {
        match &self.error {
            Member::Absent => {}
            Member::Text(error) if error.is_empty() => {}
            // whoever says both cannot be believed in either
            Member::Text(_) | Member::Number(_) | Member::Other => {
                return Err("a success that carries an `error`");
            }
        }
        let (name, another) = match wanted {
            TokenType::Bearer => ("bearer", "`token_type` is not Bearer"),
            TokenType::Dpop => ("dpop", NOT_BOUND),
        };
        match self.token_type {
            Member::Text(kind) if kind.expose().eq_ignore_ascii_case(name) => {}
            Member::Text(_) => return Err(another),
            Member::Absent => return Err("`token_type` is missing"),
            Member::Number(_) | Member::Other => return Err("`token_type` is not a string"),
        }
        let access_token = match self.access_token {
            Member::Text(token) if is_access_token(&token) => token,
            Member::Text(_) => return Err("`access_token` is empty or not visible ascii"),
            Member::Absent => return Err("`access_token` is missing"),
            Member::Number(_) | Member::Other => return Err("`access_token` is not a string"),
        };
        Ok(TokenResponse {
            access_token,
            expires_in: self.expires_in.into_seconds()?,
            refresh_token: self
                .refresh_token
                .into_token("`refresh_token` is not a string of ascii characters")?,
            refresh_expires_in: [self.refresh_expires_in, self.refresh_token_expires_in]
                .into_iter()
                // an extension that is malformed is no reason to sign nobody in
                .find_map(|member| member.into_seconds().ok().flatten().filter(|life| *life > 0)),
            id_token: self
                .id_token
                .into_token("`id_token` is not a string of ascii characters")?,
            scope: match self.scope {
                Member::Absent => Granted::AsAsked,
                Member::Text(scopes) => Granted::Scopes(scopes.expose().to_owned()),
                Member::Number(_) | Member::Other => Granted::Unreadable,
            },
            issued_token_type: match self.issued_token_type {
                Member::Text(kind) => Some(kind.expose().to_owned()),
                Member::Absent | Member::Number(_) | Member::Other => None,
            },
        })
    }
}

impl Member {
    /// A token if there is one; an empty string is none.
    fn into_token(self, why: &'static str) -> Result<Option<Secret>, &'static str> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(token) if token.is_empty() => Ok(None),
            // VSCHAR, RFC 6749 appendix A.
            Self::Text(token) if token.expose().bytes().all(|b| (0x20..0x7f).contains(&b)) => Ok(Some(token)),
            Self::Text(_) | Self::Number(_) | Self::Other => Err(why),
        }
    }

    /// Seconds from now: a number or, from some providers, its decimal text.
    fn into_seconds(self) -> Result<Option<u64>, &'static str> {
        let number = match self {
            Self::Absent => return Ok(None),
            Self::Text(text) if text.is_empty() => return Ok(None),
            Self::Number(number) => number,
            Self::Text(text) => {
                let text = text.expose().trim();
                let decimal = text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
                let number = text.parse::<f64>().ok().filter(|_| decimal);
                number.ok_or("`expires_in` is not a number")?
            }
            Self::Other => return Err("`expires_in` is not a number"),
        };
        Ok(Some(saturating_seconds(number).min(MAX_EXPIRES_IN)))
    }
}

/// Visible ASCII: all of `b64token` (RFC 6750 §2.1), what real providers send beyond it, and nothing
/// that could end a header line.
fn is_access_token(token: &Secret) -> bool {
    !token.is_empty() && token.expose().bytes().all(|b| b.is_ascii_graphic())
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a json object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                let mut seen: Vec<String> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let place = match name.as_str() {
                        "access_token" => Some(&mut members.access_token),
                        "token_type" => Some(&mut members.token_type),
                        "expires_in" => Some(&mut members.expires_in),
                        "refresh_expires_in" => Some(&mut members.refresh_expires_in),
                        "refresh_token_expires_in" => Some(&mut members.refresh_token_expires_in),
                        "refresh_token" => Some(&mut members.refresh_token),
                        "id_token" => Some(&mut members.id_token),
                        "scope" => Some(&mut members.scope),
                        "issued_token_type" => Some(&mut members.issued_token_type),
                        "error" => Some(&mut members.error),
                        _ => None,
                    };
                    match place {
                        Some(place) => *place = map.next_value()?,
                        None => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    }
                    if seen.contains(&name) {
                        return Err(serde::de::Error::custom("a member appears twice"));
                    }
                    seen.push(name);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor;

        impl<'de> Visitor<'de> for MemberVisitor {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any json value")
            }

            fn visit_unit<E>(self) -> Result<Member, E> {
                Ok(Member::Absent)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_u64<E>(self, number: u64) -> Result<Member, E> {
                Ok(Member::Number(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Member, E> {
                Ok(Member::Number(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Member, E> {
                Ok(Member::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Member, E> {
                Ok(Member::Text(Secret::new(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Member, A::Error> {
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }
        }

        deserializer.deserialize_any(MemberVisitor)
    }
}

/// What is said where nobody knows which credentials they were.
const INVALID_CLIENT: &str =
    "invalid_client: our credentials are refused; check `client_id`, `client_secret` and `client_auth`";

/// RFC 6749 §5.2, RFC 8707 §2, RFC 9449 §5 and §8, with what an operator can do about each.
const ERRORS: [(&str, &str); 8] = [
    (
        "invalid_dpop_proof",
        "invalid_dpop_proof: the provider refuses our proof; check `dpop`, and this machine's clock",
    ),
    (
        "invalid_grant",
        "invalid_grant with a status that does not go with it",
    ),
    (
        "invalid_request",
        "invalid_request: the request is refused as malformed",
    ),
    ("invalid_scope", "invalid_scope: check `scopes`"),
    (
        "invalid_target",
        "invalid_target: the provider does not know the resource or audience",
    ),
    (
        "unauthorized_client",
        "unauthorized_client: allow the grants authorization_code and refresh_token for `client_id` at the provider",
    ),
    (
        "unsupported_grant_type",
        "unsupported_grant_type: the provider must support authorization_code and refresh_token",
    ),
    (
        "use_dpop_nonce",
        "use_dpop_nonce: the provider wants dpop for `client_id` (`dpop: true`), or it refused its own nonce",
    ),
];

/// A token that anybody may use, where one was asked for that is bound to our key.
const NOT_BOUND: &str = "`token_type` is not DPoP: the token is not bound to the session's key; does the provider \
                         support dpop, and is it on for `client_id`";

/// No token lives longer than this many seconds (136 years), whatever the provider says.
const MAX_EXPIRES_IN: u64 = u32::MAX as u64;

/// Seconds until another try makes sense when the provider is unavailable.
const RETRY_AFTER: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::testing::{metadata, provider, with_context};

    fn answer(status: u16, body: &str) -> Result<TokenResponse, TokenFailure> {
        answer_of(TokenType::Bearer, status, body)
    }

    fn answer_of(wanted: TokenType, status: u16, body: &str) -> Result<TokenResponse, TokenFailure> {
        let response = ProviderResponse {
            status: StatusCode::from_u16(status).unwrap(),
            content_type: Some("text/plain".to_owned()),
            dpop_nonce: None,
            body: body.as_bytes().to_vec().into(),
        };
        parse_token_reply(&Reply::Response(response), wanted)
    }

    fn success(body: &str) -> TokenResponse {
        match answer(200, body) {
            Ok(tokens) => tokens,
            Err(failure) => panic!("{body}: {failure:?}"),
        }
    }

    #[test]
    fn redeeming_a_code_says_where_it_came_from_and_proves_who_asked() {
        let (code, verifier) = (Secret::new("c&d"), Secret::new("verifier"));
        let redirect_uri = "https://shop.example.com/auth/callback";
        let request = with_context(metadata(), |context| {
            code_request(&code, redirect_uri, &verifier, &provider(), context).unwrap()
        });
        assert_eq!(request.url.as_str(), "https://login.example.com/token");
        assert_eq!(
            std::str::from_utf8(&request.body).unwrap(),
            "grant_type=authorization_code&code=c%26d\
             &redirect_uri=https%3A%2F%2Fshop.example.com%2Fauth%2Fcallback&code_verifier=verifier"
        );
    }

    #[test]
    fn refreshing_sends_the_token_and_a_scope_only_if_asked() {
        let token = Secret::new("r=t");
        for (scope, expected) in [
            (None, "grant_type=refresh_token&refresh_token=r%3Dt"),
            (
                Some("openid a"),
                "grant_type=refresh_token&refresh_token=r%3Dt&scope=openid+a",
            ),
        ] {
            let request = with_context(metadata(), |context| {
                refresh_request(&token, scope, &provider(), context).unwrap()
            });
            assert_eq!(std::str::from_utf8(&request.body).unwrap(), expected);
        }
    }

    #[test]
    fn a_complete_answer_is_read_whatever_its_content_type() {
        let tokens = success(
            r#" {"access_token":"a.b-c_d~e+f/g==","token_type":"Bearer","expires_in":300,"refresh_token":"r t",
                "id_token":"x.y.z","scope":"openid profile","x":{"y":[1,{"z":null}]},"x":1} "#,
        );
        assert_eq!(tokens.access_token.expose(), "a.b-c_d~e+f/g==");
        assert_eq!(tokens.expires_in, Some(300));
        assert_eq!(tokens.refresh_token.unwrap().expose(), "r t");
        assert_eq!(tokens.id_token.unwrap().expose(), "x.y.z");
    }

    #[test]
    fn what_is_optional_may_be_missing_null_or_empty() {
        for body in [
            r#"{"access_token":"a","token_type":"bEARER"}"#,
            r#"{"access_token":"a","token_type":"Bearer","expires_in":null,"refresh_token":null,"id_token":null,"scope":null}"#,
            r#"{"access_token":"a","token_type":"Bearer","expires_in":"","refresh_token":"","id_token":"","scope":""}"#,
            r#"{"access_token":"a","token_type":"Bearer","error":null}"#,
            r#"{"access_token":"a","token_type":"Bearer","error":""}"#,
        ] {
            let tokens = success(body);
            assert!(tokens.expires_in.is_none() && tokens.refresh_token.is_none());
            assert!(tokens.id_token.is_none());
        }
    }

    #[test]
    fn a_refresh_tokens_life_is_read_under_either_name_and_never_in_the_way() {
        for (member, expected) in [
            (r#""refresh_expires_in":1800"#, Some(1800)),
            (r#""refresh_token_expires_in":"86400""#, Some(86_400)),
            // Keycloak: no limit
            (r#""refresh_expires_in":0"#, None),
            (r#""refresh_expires_in":-5"#, None),
            (r#""refresh_expires_in":"never""#, None),
            (r#""refresh_expires_in":[1]"#, None),
            (r#""refresh_expires_in":null"#, None),
            (
                r#""refresh_expires_in":"never","refresh_token_expires_in":60"#,
                Some(60),
            ),
            (r#""x":1"#, None),
        ] {
            let body = format!(r#"{{"access_token":"a","token_type":"Bearer",{member}}}"#);
            assert_eq!(success(&body).refresh_expires_in, expected, "{member}");
        }
    }

    #[test]
    fn lives_are_read_from_numbers_and_their_texts_and_saturate() {
        let cases = [
            ("3600", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("\" 60 \"", Some(60)),
            ("59.9", Some(59)),
            ("\"59.9\"", Some(59)),
            ("0", Some(0)),
            ("-5", Some(0)),
            ("\"-5\"", Some(0)),
            ("-1e300", Some(0)),
            ("1e300", Some(MAX_EXPIRES_IN)),
            ("18446744073709551616", Some(MAX_EXPIRES_IN)),
            ("4294967296", Some(MAX_EXPIRES_IN)),
            ("null", None),
        ];
        for (life, expected) in cases {
            let body = format!(r#"{{"access_token":"a","token_type":"Bearer","expires_in":{life}}}"#);
            assert_eq!(success(&body).expires_in, expected, "{life}");
        }
    }

    #[test]
    fn a_success_that_is_none_is_unusable_and_says_why() {
        let cases = [
            ("html", "<html>ok</html>", "json object"),
            ("nothing", "", "json object"),
            ("an array", r#"["a","Bearer"]"#, "json object"),
            ("null", "null", "json object"),
            (
                "cut off",
                r#"{"access_token":"a","token_type":"Bea"#,
                "json object",
            ),
            (
                "two objects",
                r#"{"access_token":"a","token_type":"Bearer"}{}"#,
                "json object",
            ),
            (
                "a token twice",
                r#"{"access_token":"a","token_type":"Bearer","access_token":"b"}"#,
                "twice",
            ),
            (
                "a type twice",
                r#"{"access_token":"a","token_type":"Bearer","token_type":"x"}"#,
                "twice",
            ),
            (
                "null, then a token",
                r#"{"access_token":null,"token_type":"Bearer","access_token":"b"}"#,
                "twice",
            ),
            ("no type", r#"{"access_token":"a"}"#, "`token_type`"),
            (
                "tokens and an error",
                r#"{"access_token":"a","token_type":"Bearer","error":"x"}"#,
                "`error`",
            ),
            (
                "tokens and an error object",
                r#"{"access_token":"a","token_type":"Bearer","error":{"code":1}}"#,
                "`error`",
            ),
            ("an error alone", r#"{"error":"invalid_grant"}"#, "`error`"),
            (
                "a foreign type",
                r#"{"access_token":"a","token_type":"MAC"}"#,
                "`token_type`",
            ),
            (
                "a bound type",
                r#"{"access_token":"a","token_type":"DPoP"}"#,
                "`token_type`",
            ),
            (
                "an empty type",
                r#"{"access_token":"a","token_type":""}"#,
                "`token_type`",
            ),
            (
                "a type with a space",
                r#"{"access_token":"a","token_type":"Bearer "}"#,
                "`token_type`",
            ),
            (
                "a type list",
                r#"{"access_token":"a","token_type":["Bearer"]}"#,
                "`token_type`",
            ),
            ("no token", r#"{"token_type":"Bearer"}"#, "`access_token`"),
            (
                "an empty token",
                r#"{"access_token":"","token_type":"Bearer"}"#,
                "`access_token`",
            ),
            (
                "a number as token",
                r#"{"access_token":7,"token_type":"Bearer"}"#,
                "`access_token`",
            ),
            (
                "an object as token",
                r#"{"access_token":{"a":1},"token_type":"Bearer"}"#,
                "`access_token`",
            ),
            (
                "a token with CR LF",
                r#"{"access_token":"a\r\nX: y","token_type":"Bearer"}"#,
                "`access_token`",
            ),
            (
                "a token with CR",
                r#"{"access_token":"a\rb","token_type":"Bearer"}"#,
                "`access_token`",
            ),
            (
                "a token with LF at its end",
                r#"{"access_token":"a\n","token_type":"Bearer"}"#,
                "`access_token`",
            ),
            (
                "a token with NUL",
                r#"{"access_token":"a\u0000","token_type":"Bearer"}"#,
                "`access_token`",
            ),
            (
                "a token with a space",
                r#"{"access_token":"a b","token_type":"Bearer"}"#,
                "`access_token`",
            ),
            (
                "a token beyond ascii",
                r#"{"access_token":"aé","token_type":"Bearer"}"#,
                "`access_token`",
            ),
            (
                "a life in words",
                r#"{"access_token":"a","token_type":"Bearer","expires_in":"1h"}"#,
                "`expires_in`",
            ),
            (
                "infinite life",
                r#"{"access_token":"a","token_type":"Bearer","expires_in":"inf"}"#,
                "`expires_in`",
            ),
            (
                "a life list",
                r#"{"access_token":"a","token_type":"Bearer","expires_in":[1]}"#,
                "`expires_in`",
            ),
            (
                "a refresh token list",
                r#"{"access_token":"a","token_type":"Bearer","refresh_token":["r"]}"#,
                "`refresh_token`",
            ),
            (
                "a refresh token with LF",
                r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r\n"}"#,
                "`refresh_token`",
            ),
            (
                "true as id token",
                r#"{"access_token":"a","token_type":"Bearer","id_token":true}"#,
                "`id_token`",
            ),
        ];
        for (name, body, why) in cases {
            match answer(200, body) {
                Err(TokenFailure::Unusable(text)) => assert!(text.contains(why), "{name}: {text}"),
                Err(other) => panic!("{name}: {other:?}"),
                Ok(_) => panic!("{name}: accepted"),
            }
        }
    }

    #[test]
    fn an_answer_that_is_not_utf8_is_none_wherever_the_byte_is() {
        for body in [
            &b"{\"access_token\":\"a\",\"token_type\":\"Bearer\",\"x\":\"\xff\"}"[..],
            b"{\"access_token\":\"a\xff\",\"token_type\":\"Bearer\"}",
        ] {
            let outcome = parse_token_reply(
                &Reply::Response(ProviderResponse {
                    status: StatusCode::OK,
                    content_type: None,
                    dpop_nonce: None,
                    body: body.to_vec().into(),
                }),
                TokenType::Bearer,
            );
            assert!(matches!(outcome, Err(TokenFailure::Unusable(_))));
        }
    }

    #[test]
    fn nothing_but_a_json_invalid_grant_is_a_dead_grant() {
        #[derive(Debug, PartialEq)]
        enum Is {
            Dead,
            Interactive,
            Unavailable,
            Unusable,
        }
        let cases = [
            (400, r#"{"error":"invalid_grant"}"#, Is::Dead),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"x"}"#,
                Is::Dead,
            ),
            (401, r#"{"error":"invalid_grant"}"#, Is::Dead),
            (403, r#"{"error":"invalid_grant"}"#, Is::Dead),
            (404, r#"{"error":"invalid_grant"}"#, Is::Unusable),
            (400, r#"{"error":"interaction_required"}"#, Is::Interactive),
            (404, r#"{"error":"interaction_required"}"#, Is::Unusable),
            (400, "", Is::Unusable),
            (400, "invalid_grant", Is::Unusable),
            (400, "error=invalid_grant", Is::Unusable),
            (400, r#""invalid_grant""#, Is::Unusable),
            (400, r#"["invalid_grant"]"#, Is::Unusable),
            (400, r#"{"error":["invalid_grant"]}"#, Is::Unusable),
            (400, r#"{"error":{"code":"invalid_grant"}}"#, Is::Unusable),
            (400, r#"{"error":"INVALID_GRANT"}"#, Is::Unusable),
            (
                400,
                r#"{"error":"invalid_client","error":"invalid_grant"}"#,
                Is::Unusable,
            ),
            (400, r#"{"error_code":"invalid_grant"}"#, Is::Unusable),
            (400, "<html>invalid_grant</html>", Is::Unusable),
            (401, "", Is::Unusable),
            (401, r#"{"error":"invalid_client"}"#, Is::Unusable),
            (200, r#"{"error":"invalid_grant"}"#, Is::Unusable),
            (302, r#"{"error":"invalid_grant"}"#, Is::Unusable),
            (307, "", Is::Unusable),
            (304, "", Is::Unusable),
            (204, "", Is::Unusable),
            (400, r#"{"error":"temporarily_unavailable"}"#, Is::Unavailable),
            (408, r#"{"error":"invalid_grant"}"#, Is::Unavailable),
            (429, r#"{"error":"invalid_grant"}"#, Is::Unavailable),
            (500, r#"{"error":"invalid_grant"}"#, Is::Unavailable),
            (502, "<html>", Is::Unavailable),
            (503, "", Is::Unavailable),
        ];
        for (status, body, expected) in cases {
            let outcome = match answer(status, body) {
                Err(TokenFailure::InvalidGrant) => Is::Dead,
                Err(TokenFailure::InteractionRequired) => Is::Interactive,
                Err(TokenFailure::Unavailable(_)) => Is::Unavailable,
                Err(TokenFailure::Unusable(_) | TokenFailure::InvalidClient) => Is::Unusable,
                Ok(_) => panic!("{status} {body}: accepted"),
            };
            assert_eq!(outcome, expected, "{status} {body}");
        }
        assert!(matches!(
            parse_token_reply(&Reply::Unreachable("timeout"), TokenType::Bearer),
            Err(TokenFailure::Unavailable("timeout"))
        ));
        assert!(matches!(
            parse_token_reply(&Reply::Keys, TokenType::Bearer),
            Err(TokenFailure::Unusable(_))
        ));
    }

    #[test]
    fn refused_credentials_name_the_settings_to_check() {
        for (status, body) in [
            (401, r#"{"error":"invalid_client"}"#),
            (400, r#"{"error":"invalid_client"}"#),
            (401, ""),
        ] {
            let Err(failure) = answer(status, body) else {
                panic!("accepted")
            };
            let text = failure.into_error(Error::Bug("not this one")).to_string();
            for setting in ["`client_id`", "`client_secret`", "`client_auth`"] {
                assert!(text.contains(setting), "{text}");
            }
        }
    }

    #[test]
    fn failures_become_errors_by_whose_fault_they_are() {
        let ended = Error::SessionExpired("the provider ended it");
        assert_eq!(TokenFailure::InvalidGrant.into_error(ended.clone()), ended);
        // ends a session, and begins none: what the SPA can do about it has a code
        let Err(failure) = answer(400, r#"{"error":"interaction_required"}"#) else {
            panic!("accepted")
        };
        assert_eq!(
            failure.into_error(ended.clone()),
            Error::AuthorizationFailed {
                provider_error: Some("interaction_required")
            }
        );
        let of_session = TokenFailure::InteractionRequired.of_session();
        assert_eq!(of_session.into_error(ended.clone()), ended);
        let unavailable = TokenFailure::Unavailable("status 5xx").into_error(ended.clone());
        assert!(matches!(unavailable, Error::ProviderUnavailable { .. }));
        assert!(matches!(
            TokenFailure::Unusable("x").into_error(ended),
            Error::Provider(_)
        ));
    }

    #[test]
    fn an_error_text_never_comes_from_the_answer() {
        let Err(failure) = answer(
            400,
            r#"{"error":"s3cret-canary","error_description":"s3cret-canary"}"#,
        ) else {
            panic!("accepted")
        };
        assert!(
            !failure
                .into_error(Error::Bug("not this one"))
                .to_string()
                .contains("canary")
        );
    }
}
