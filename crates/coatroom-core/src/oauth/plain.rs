//! Plain OAuth 2.0 (RFC 6749): answers of providers that have no ID tokens.
//!
//! Who the user is comes from one endpoint that is asked with the access token; the member that names
//! the user, and the issuer, stand in the session where an ID token would be ([`statement`]): not signed,
//! sealed like everything else, and never sent to anybody. An ID token that comes all the same is
//! dropped, since nothing here could verify it. Two habits are known, each by a setting of its own:
//! errors with status 200, and scopes between commas. No error repeats a claim.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::json;
use super::token::{self, TokenFailure, TokenResponse, TokenType};
use super::userinfo::{self, MAX_CLAIMS, OF_THE_SIGN_IN, UserinfoClaims};
use crate::config::{Application, Provider, User};
use crate::error::Error;
use crate::rng::random_text;
use crate::seal::ProofKey;
use crate::secret::Secret;
use crate::step::{Context, ProviderResponse, Reply, Step};

/// The member of a statement that stands for a user whom nobody asked about: another text in each session.
pub(crate) const NOBODY: &str = "coatroom_session";

/// What stands in a session where an ID token would be.
#[derive(Clone)]
pub(crate) struct Identity {
    /// Who the user is.
    pub(crate) statement: Secret,
    /// What else the session keeps of the answer, or why that cannot be kept: who it is, is known all
    /// the same.
    pub(crate) claims: Result<Option<UserinfoClaims>, Error>,
}

/// Whom to ask about, and by what right.
pub(crate) struct Asked {
    pub(crate) app: Arc<Application>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) access_token: Secret,
    /// What the token is bound to.
    pub(crate) proof_key: Option<ProofKey>,
}

impl Asked {
    /// Asks who the user is; where nobody is to be asked, that is somebody new each time.
    ///
    /// # Errors
    /// [`Error::Provider`] where no endpoint is known, and for an answer that names nobody;
    /// [`Error::ProviderUnavailable`] for an outage; [`Error::Bug`].
    pub(crate) fn step(self, context: &mut Context<'_>) -> Result<Step<Identity>, Error> {
        let subject = match self.provider.plain.as_ref().map(|plain| &plain.user) {
            Some(User::Asked { subject, .. }) => subject.clone(),
            Some(User::Nobody) => {
                let somebody = random_text::<16>(context.rng);
                return Ok(Step::Done(Identity {
                    statement: statement(&self.provider.issuer, NOBODY, &somebody),
                    claims: Ok(None),
                }));
            }
            None => {
                return Err(Error::Bug(
                    "an OpenID Provider says who the user is in an ID token",
                ));
            }
        };
        let asked = self.question(context)?;
        let app = self.app;
        let issuer = self.provider.issuer.clone();
        asked.conversation(context, move |reply, _| {
            Ok(Step::Done(read(&reply, &subject, &issuer, &app)?))
        })
    }

    fn question(&self, context: &Context<'_>) -> Result<userinfo::Question, Error> {
        let metadata = &context.provider.metadata;
        let written = match self.provider.plain.as_ref().map(|plain| &plain.user) {
            Some(User::Asked { endpoint, .. }) => endpoint.as_ref(),
            Some(User::Nobody) | None => None,
        };
        let endpoint = written.or(metadata.userinfo_endpoint.as_ref()).ok_or_else(|| {
            refuse("the metadata names no `userinfo_endpoint`; write `user: {endpoint: …}`")
        })?;
        let url = super::client_auth::back_channel(endpoint, &self.provider, metadata).clone();
        Ok(userinfo::Question {
            url,
            accept: "application/json",
            access_token: self.access_token.clone(),
            proof_key: self.proof_key.clone(),
        })
    }
}

/// What is sealed into a session in place of an ID token: the claims alone, as a JWT without header and
/// signature, which nobody takes for one that was signed.
pub(crate) fn statement(issuer: &str, member: &str, value: &str) -> Secret {
    let claims = json!({"iss": issuer, member: value}).to_string();
    Secret::new(format!(".{}.", URL_SAFE_NO_PAD.encode(claims)))
}

/// Whether this is one, and no ID token.
pub(crate) fn is_statement(id_token: &Secret) -> bool {
    id_token.expose().starts_with('.')
}

/// Reads the outcome of a token request, with the habits that the configuration names.
///
/// # Errors
/// Those of [`token::parse_token_reply`].
pub(crate) fn parse_token_reply(
    reply: &Reply,
    wanted: TokenType,
    provider: &Provider,
) -> Result<TokenResponse, TokenFailure> {
    let Some(plain) = &provider.plain else {
        return token::parse_token_reply(reply, wanted);
    };
    if let Some(error) = error_with_200(reply, provider) {
        // GitHub's own words for what RFC 6749 §5.2 has names for
        let code = match error.expose() {
            "bad_verification_code" | "bad_refresh_token" => "invalid_grant",
            "incorrect_client_credentials" => "invalid_client",
            code => code,
        };
        return Err(token::failure_of(code, StatusCode::BAD_REQUEST));
    }
    let mut response = token::parse_token_reply(reply, wanted)?;
    // nothing could verify it
    response.id_token = None;
    if plain.scopes_with_commas {
        response.scope = response.scope.between_commas();
    }
    Ok(response)
}

/// The refresh token of an answer whose access token cannot be used; a refusal has none, whatever its
/// status.
pub(crate) fn rescued_refresh_token(reply: &Reply, provider: &Provider) -> Option<Secret> {
    match error_with_200(reply, provider) {
        Some(_) => None,
        None => token::rescued_refresh_token(reply),
    }
}

fn error_with_200(reply: &Reply, provider: &Provider) -> Option<Secret> {
    let Reply::Response(response) = reply else {
        return None;
    };
    let plain = provider.plain.as_ref();
    let says_so = plain.is_some_and(|plain| plain.token_errors_with_200);
    (says_so && response.status == StatusCode::OK)
        .then(|| token::error_alone(&response.body))
        .flatten()
}

fn read(reply: &Reply, subject: &str, issuer: &str, app: &Application) -> Result<Identity, Error> {
    let response = match reply {
        Reply::Response(response) => response,
        Reply::Unreachable(why) => return Err(userinfo::unavailable(why)),
        Reply::Keys => return Err(Error::Bug("asked for the user, got keys")),
    };
    userinfo::check_status(response)?;
    if !is_json(response) {
        return Err(refuse("it is not application/json"));
    }
    let mut answer =
        json::object(&response.body).ok_or_else(|| refuse("it is not a json object with unique members"))?;
    let sub = named(&answer, subject)?;
    Ok(Identity {
        statement: statement(issuer, "sub", &sub),
        claims: kept(&mut answer, app),
    })
}

/// `application/json`, or a format of JSON (RFC 6839 §3.1), as some APIs say.
fn is_json(response: &ProviderResponse) -> bool {
    let essence = response.content_type.as_deref().unwrap_or_default();
    let essence = essence.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Who that is, as a text: a number that is no integer could be another one's, rounded.
fn named(answer: &Map<String, Value>, subject: &str) -> Result<String, Error> {
    match answer.get(subject) {
        Some(Value::String(text)) => {
            let is_good =
                !text.is_empty() && text.len() <= MAX_SUBJECT && !text.chars().any(char::is_control);
            is_good
                .then(|| text.clone())
                .ok_or_else(|| refuse("the member of `user.subject` is empty, too long, or no plain text"))
        }
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => Ok(number.to_string()),
        Some(_) => Err(refuse(
            "the member of `user.subject` is neither a string nor an integer",
        )),
        None => Err(refuse("the member of `user.subject` is missing")),
    }
}

/// What the session keeps: what the SPA is to see and what routes demand, and no claim that would say
/// something of the sign-in.
fn kept(answer: &mut Map<String, Value>, app: &Application) -> Result<Option<UserinfoClaims>, Error> {
    let demanded = |name: &str| {
        let routes = app.routes.iter().filter_map(|route| route.demands.as_ref());
        routes
            .flat_map(|demands| &demands.wanted.claims)
            .any(|(wanted, _)| wanted == name)
    };
    let shown = |name: &str| {
        let listed = app.session.claims.as_ref();
        listed.is_none_or(|listed| listed.iter().any(|wanted| wanted == name))
    };
    answer.retain(|name, _| {
        !OF_THE_SIGN_IN.contains(&name.as_str()) && name != NOBODY && (shown(name) || demanded(name))
    });
    if answer.is_empty() {
        return Ok(None);
    }
    let text = Value::Object(std::mem::take(answer)).to_string().into_bytes();
    if text.len() > MAX_CLAIMS {
        return Err(refuse(
            "its claims are longer than 4 kib, and have to be kept in the session; name those that the SPA needs: \
             `session: {claims: [sub, name]}`",
        ));
    }
    Ok(Some(UserinfoClaims::from_bytes(&text)))
}

fn refuse(why: &str) -> Error {
    userinfo::refuse(why)
}

/// The longest name of a user, in bytes (OIDC Core §2 has 255 for `sub`).
const MAX_SUBJECT: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApplicationConfig;
    use crate::config::testing::{checked, config};
    use crate::oauth::testing::{plain, provider};
    use crate::oauth::token::Granted;

    fn answer(status: u16, content_type: &str, body: &str) -> Reply {
        Reply::Response(ProviderResponse {
            status: StatusCode::from_u16(status).unwrap(),
            content_type: Some(content_type.to_owned()),
            dpop_nonce: None,
            body: body.as_bytes().to_vec().into(),
        })
    }

    #[test]
    fn a_refusal_with_200_is_one_only_by_the_setting_and_only_without_a_token() {
        let cases = [
            (r#"{"error":"bad_verification_code"}"#, TokenFailure::InvalidGrant),
            (r#"{"error":"bad_refresh_token"}"#, TokenFailure::InvalidGrant),
            (r#"{"error":"invalid_grant"}"#, TokenFailure::InvalidGrant),
            (
                r#"{"error":"incorrect_client_credentials"}"#,
                TokenFailure::InvalidClient,
            ),
            (
                r#"{"error":"temporarily_unavailable"}"#,
                TokenFailure::Unavailable("the error says to try later"),
            ),
            (
                r#"{"error":"unverified_user_email"}"#,
                TokenFailure::Unusable("an unregistered error"),
            ),
            (
                r#"{"error":"bad_refresh_token","access_token":"a","token_type":"bearer"}"#,
                TokenFailure::Unusable("a success that carries an `error`"),
            ),
            (
                r#"{"error":["bad_refresh_token"]}"#,
                TokenFailure::Unusable("a success that carries an `error`"),
            ),
        ];
        for (body, expected) in cases {
            let reply = answer(200, "application/json", body);
            let failure = |provider: Provider| parse_token_reply(&reply, TokenType::Bearer, &provider).err();
            assert_eq!(failure(plain(true)), Some(expected), "{body}");
            // by the book no success ends a grant
            let unusable = Some(TokenFailure::Unusable("a success that carries an `error`"));
            assert_eq!(failure(plain(false)), unusable, "{body}");
            assert_eq!(failure(provider()), unusable, "{body}");
        }
        let away = answer(503, "application/json", r#"{"error":"bad_refresh_token"}"#);
        assert_eq!(
            parse_token_reply(&away, TokenType::Bearer, &plain(true)).err(),
            Some(TokenFailure::Unavailable("status 5xx"))
        );
    }

    #[test]
    fn an_id_token_that_nobody_verifies_is_dropped_and_commas_are_a_habit() {
        let body = r#"{"access_token":"gho_x","token_type":"bearer","scope":"repo,gist","id_token":"a.b.c"}"#;
        let reply = answer(200, "application/json", body);
        for (provider, scope, has_id_token) in [
            (plain(true), "repo gist", false),
            (plain(false), "repo,gist", false),
            (provider(), "repo,gist", true),
        ] {
            let response = parse_token_reply(&reply, TokenType::Bearer, &provider)
                .ok()
                .unwrap();
            assert_eq!(response.scope, Granted::Scopes(scope.to_owned()));
            assert_eq!(response.id_token.is_some(), has_id_token);
        }
    }

    fn app(claims: Option<&[&str]>) -> Application {
        let written = ApplicationConfig {
            session: crate::config::SessionConfig {
                claims: claims.map(|claims| claims.iter().map(|&claim| claim.to_owned()).collect()),
                ..crate::config::SessionConfig::default()
            },
            ..config()
        };
        checked(written)
    }

    #[test]
    fn who_the_user_is_stands_in_one_member_and_is_nobody_elses() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(256));
        for (body, expected) in [
            (r#"{"id":583231}"#, Some("583231")),
            (r#"{"id":0}"#, Some("0")),
            (r#"{"id":-5}"#, Some("-5")),
            (r#"{"id":"octocat"}"#, Some("octocat")),
            // two users that one number stands for
            (r#"{"id":18446744073709551616}"#, None),
            (r#"{"id":1.0}"#, None),
            (r#"{"id":1e3}"#, None),
            (r#"{"id":true}"#, None),
            (r#"{"id":null}"#, None),
            (r#"{"id":["a"]}"#, None),
            (r#"{"id":""}"#, None),
            (r#"{"id":"a\nb"}"#, None),
            (r#"{"id":1,"id":2}"#, None),
            (r#"{"sub":"a"}"#, None),
            (r#"["id"]"#, None),
            ("", None),
            (long.as_str(), None),
        ] {
            let reply = answer(200, "application/json; charset=utf-8", body);
            let identity = read(&reply, "id", "https://login.example.com", &app(None));
            let statement = identity.ok().map(|identity| identity.statement);
            let claims = statement.and_then(|statement| crate::flow::claims_of(&statement));
            let sub = claims.as_ref().and_then(|claims| claims.get("sub")?.as_str());
            assert_eq!(sub, expected, "{body}");
        }
        for (status, content_type, is_outage) in [
            (200, "text/html", false),
            (200, "application/vnd.api+json", false),
            (302, "application/json", false),
            (401, "application/json", false),
            (404, "application/json", false),
            (429, "application/json", true),
            (500, "application/json", true),
        ] {
            let reply = answer(status, content_type, r#"{"id":1}"#);
            match read(&reply, "id", "https://login.example.com", &app(None)) {
                Ok(_) => assert!(content_type.ends_with("+json"), "{status} {content_type}"),
                Err(error) => {
                    let unavailable = matches!(error, Error::ProviderUnavailable { .. });
                    assert_eq!(unavailable, is_outage, "{status} {content_type}");
                }
            }
        }
    }

    #[test]
    fn only_what_is_shown_is_kept_and_nothing_that_a_sign_in_says() {
        let body = r#"{"id":1,"login":"octocat","name":"O","sub":"other","iss":"x","acr":"gold","auth_time":5,
            "sid":"s","coatroom_session":"forged"}"#;
        let kept = |claims: Option<&[&str]>| {
            let reply = answer(200, "application/json", body);
            let identity = read(&reply, "id", "https://login.example.com", &app(claims))
                .ok()
                .unwrap();
            identity
                .claims
                .ok()
                .flatten()
                .map(|claims| Value::Object(claims.claims()))
        };
        assert_eq!(
            kept(None),
            Some(json!({"id": 1, "login": "octocat", "name": "O"}))
        );
        assert_eq!(kept(Some(&["login", "sub"])), Some(json!({"login": "octocat"})));
        assert_eq!(kept(Some(&["sub"])), None);
        let long = format!(r#"{{"id":1,"bio":"{}"}}"#, "x".repeat(5000));
        let reply = answer(200, "application/json", &long);
        let claims = |listed| {
            let identity = read(&reply, "id", "https://login.example.com", &app(listed));
            // who it is, is known in any case
            identity.expect("it names somebody").claims
        };
        assert!(claims(None).is_err());
        assert!(claims(Some(&["id"])).is_ok());
    }

    #[test]
    fn a_statement_is_no_jwt_and_comes_back_from_a_session() {
        let statement = statement("https://login.example.com", "sub", "1");
        assert!(is_statement(&statement));
        assert!(!is_statement(&Secret::new("a.b.c")));
        let packed = crate::packed::pack(&statement);
        assert!(crate::packed::unpack(&packed).is_some_and(|again| again == statement));
    }
}
