//! Questions that sign nobody in: does the provider know this client, and its redirect URI?
//!
//! They are asked with the messages of a real sign-in, so that what is proved is what users will meet:
//! a token request with a code that nobody issued (RFC 6749 §4.1.3, §5.2), and an authorization
//! request with `prompt=none` (OIDC Core §3.1.2.1). Nothing that a provider says is kept or shown:
//! each answer becomes one of a few verdicts, and where it proves nothing the verdict says so.

mod form;

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;
use url::Url;

use crate::config::{Provider, ResponseMode};
use crate::error::Error;
use crate::flow::{AgentResponse, Input, Refusal};
use crate::handler::Handler;
use crate::oauth::authorization::AuthorizationResponse;
use crate::oauth::{ProviderSnapshot, dpop, jarm, pkce, token};
use crate::rng::random_text;
use crate::seal::ProofKey;
use crate::secret::Secret;
use crate::step::{Context, ProviderResponse, Reply, Step};
use crate::time::UnixTime;

/// What the token endpoint made of this client and a code that nobody issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientVerdict {
    /// `invalid_grant`: the client is known and authenticated, the code is not.
    Authenticated,
    /// `invalid_client`, or 401 without a reason: unknown client, wrong secret, or another method.
    Refused,
    /// `unauthorized_client`: authenticated, but it may not redeem codes.
    NotAllowed,
    /// `unsupported_grant_type`.
    NoCodes,
    /// `invalid_dpop_proof`, or another nonce each time (RFC 9449 §5, §8): nothing is known of the client.
    ProofRefused,
    /// `invalid_request`: most providers look at the client first, then at the request.
    Malformed,
    /// 403 without an OAuth error: something in front of the provider, or a policy of it.
    Forbidden,
    /// It issued tokens for a code that nobody issued, or says so.
    Success,
    /// No answer, 429 or 5xx; why, in our own words.
    Unavailable(&'static str),
    /// Another answer, such as the empty 400 of Glewlwyd: it proves nothing. Its status.
    Unclear(u16),
}

/// What the authorization endpoint made of this client's redirect URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectVerdict {
    /// It redirects there and says that nobody is signed in: registered, and the request is good.
    Registered,
    /// It redirects there with an error that users would meet: registered, but the request is not
    /// good. The registered error, `None` where it is no registered one.
    RegisteredWithError(Option<&'static str>),
    /// An error page in place of a redirect: most likely not registered. The status.
    ErrorPage(u16),
    /// It leads somewhere else, to its own pages: nobody can tell. The status.
    Elsewhere(u16),
    /// It comes back in a way that proves nothing; why, in our own words.
    Unclear(&'static str),
    /// 429 or 5xx. The status.
    Unavailable(u16),
}

impl Handler {
    /// Where the provider has to send users back to: what is registered there.
    pub fn registered_redirect_uri(&self) -> String {
        self.redirect_uri()
    }

    /// Where users come back to after a sign-out at the provider: what is registered there.
    pub fn registered_post_logout_redirect_uri(&self) -> String {
        self.agent_url("logout/callback")
    }

    /// Redeems a code that nobody issued, authenticated as this client is, and with a proof of a key that
    /// is thrown away where sessions have one.
    ///
    /// # Errors
    /// [`Error::Provider`] when this client cannot authenticate with what the metadata offers.
    pub fn try_client(&self, context: &mut Context<'_>) -> Result<Step<ClientVerdict>, Error> {
        redeem_nothing(self.redirect_uri(), Arc::clone(&self.provider), context)
    }

    /// The authorization request of a sign-in that must not show anything (`prompt=none`). No cookie
    /// goes with it, so its answer can begin no session.
    ///
    /// # Errors
    /// As [`login_start`](Handler::login_start).
    pub fn try_redirect(&self, context: &mut Context<'_>) -> Result<Step<Url>, Error> {
        let start = |input: &[u8], context: &mut Context<'_>| {
            self.login_start(&http::HeaderMap::new(), None, Input::form(input)?, context)
        };
        let started = match start(b"prompt=none", context) {
            // the configuration may fix `prompt`
            Err(Refusal {
                error: Error::InvalidRequest(_),
                ..
            }) => start(b"", context),
            other => other,
        };
        let started: Step<AgentResponse> = started.map_err(|refusal| refusal.error)?;
        started.and_then(context, |answer, _| {
            let json = answer.json.as_ref();
            let url = json.and_then(|json| json["authorization_url"].as_str());
            let url = url.and_then(|url| Url::parse(url).ok());
            let url = url.ok_or(Error::Bug("a sign-in that began has no authorization url"))?;
            Ok(Step::Done(url))
        })
    }

    /// What an answer to [`try_redirect`](Self::try_redirect) says, with what is known of the provider.
    pub fn redirect_verdict(
        &self,
        status: StatusCode,
        location: Option<&str>,
        body: &[u8],
        known: &ProviderSnapshot,
        now: UnixTime,
    ) -> RedirectVerdict {
        let (provider, mode) = (&self.provider, self.provider.authorization.response_mode);
        let open = |signed: &str| {
            let (signed, client_id) = (Secret::new(signed), &provider.client_id);
            jarm::verify(
                &signed,
                client_id,
                provider.leeway,
                &known.keys,
                &known.metadata,
                now,
            )
            .ok()
        };
        redirect_verdict(&self.redirect_uri(), mode, status, location, body, open)
    }
}

fn redeem_nothing(
    redirect_uri: String,
    provider: Arc<Provider>,
    context: &mut Context<'_>,
) -> Result<Step<ClientVerdict>, Error> {
    let code = Secret::new(random_text::<24>(context.rng));
    let verifier = pkce::verifier(context.rng);
    let key = provider.dpop.map(ProofKey::generate).transpose()?;
    let request = move |context: &mut Context<'_>| {
        token::code_request(&code, &redirect_uri, &verifier, &provider, context)
    };
    dpop::converse(key.as_ref(), context, request, |reply, _| {
        Ok(Step::Done(client_verdict(&reply)))
    })
}

fn client_verdict(reply: &Reply) -> ClientVerdict {
    match reply {
        Reply::Response(response) => client_verdict_of(response),
        Reply::Unreachable(why) => ClientVerdict::Unavailable(why),
        Reply::Keys => ClientVerdict::Unavailable("asked for tokens, got keys"),
    }
}

fn client_verdict_of(response: &ProviderResponse) -> ClientVerdict {
    let status = response.status;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return ClientVerdict::Unavailable(match status {
            StatusCode::TOO_MANY_REQUESTS => "status 429: too many requests",
            _ => "status 5xx",
        });
    }
    if status.is_success() {
        return ClientVerdict::Success;
    }
    let body: Option<Value> = serde_json::from_slice(&response.body).ok();
    let error = body.as_ref().and_then(|body| body["error"].as_str());
    match error {
        Some("invalid_grant") => ClientVerdict::Authenticated,
        Some("invalid_client") => ClientVerdict::Refused,
        Some("unauthorized_client") => ClientVerdict::NotAllowed,
        Some("unsupported_grant_type") => ClientVerdict::NoCodes,
        Some("invalid_dpop_proof" | "use_dpop_nonce") => ClientVerdict::ProofRefused,
        Some("invalid_request") => ClientVerdict::Malformed,
        _ if status == StatusCode::UNAUTHORIZED => ClientVerdict::Refused,
        None if status == StatusCode::FORBIDDEN => ClientVerdict::Forbidden,
        _ => ClientVerdict::Unclear(status.as_u16()),
    }
}

fn redirect_verdict(
    redirect_uri: &str,
    mode: ResponseMode,
    status: StatusCode,
    location: Option<&str>,
    body: &[u8],
    open: impl FnOnce(&str) -> Option<AuthorizationResponse>,
) -> RedirectVerdict {
    let number = status.as_u16();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return RedirectVerdict::Unavailable(number);
    }
    if !status.is_redirection() {
        let page = std::str::from_utf8(body).unwrap_or_default();
        let ours = |action: &str| Url::parse(action).is_ok_and(|action| leads_to(redirect_uri, &action));
        // an error page shows the address at most; a form with an error may come with status 400
        return match form::find(page, ours) {
            None => RedirectVerdict::ErrorPage(number),
            Some(_) if mode != ResponseMode::FormPost => {
                RedirectVerdict::Unclear("a page with a form that leads there, which nobody asked for")
            }
            Some(form) => match (form.field("error"), form.field("code")) {
                (Some(error), _) => error_verdict(error),
                (None, Some(_)) => RedirectVerdict::Registered,
                (None, None) => RedirectVerdict::Unclear(
                    "a form that leads there, with neither a code nor an error in it",
                ),
            },
        };
    }
    let Some(location) = location.and_then(|location| Url::parse(location).ok()) else {
        return RedirectVerdict::Elsewhere(number);
    };
    if !leads_to(redirect_uri, &location) {
        let is_error_page = location.path().to_ascii_lowercase().contains("error");
        return match is_error_page {
            true => RedirectVerdict::ErrorPage(number),
            false => RedirectVerdict::Elsewhere(number),
        };
    }
    if mode == ResponseMode::FormPost {
        return RedirectVerdict::Unclear(
            "a redirect there, where `response_mode: form_post` wants a form: a sign-in that ends like this is refused",
        );
    }
    let parameter = |wanted: &str| {
        let mut pairs = location.query_pairs();
        pairs.find_map(|(name, value)| (name == wanted).then_some(value))
    };
    let (error, signed) = (parameter("error"), parameter("response"));
    if error.is_none() && (signed.is_some() || mode.is_signed()) {
        return match signed
            .filter(|_| mode.is_signed())
            .and_then(|signed| open(&signed))
        {
            Some(AuthorizationResponse::Code { .. }) => RedirectVerdict::Registered,
            Some(AuthorizationResponse::Refused { error, .. }) => error_verdict(error.unwrap_or_default()),
            None => RedirectVerdict::Unclear(
                "a redirect there, with an answer that `response_mode` is not about or \
                                              whose signature cannot be verified",
            ),
        };
    }
    // else a code: somebody is signed in, whoever asks
    error.map_or(RedirectVerdict::Registered, |error| error_verdict(&error))
}

fn error_verdict(error: &str) -> RedirectVerdict {
    match error {
        error if NOBODY_IS_SIGNED_IN.contains(&error) => RedirectVerdict::Registered,
        error => RedirectVerdict::RegisteredWithError(
            REGISTERED_ERRORS
                .into_iter()
                .find(|registered| *registered == error),
        ),
    }
}

fn leads_to(redirect_uri: &str, location: &Url) -> bool {
    let Ok(ours) = Url::parse(redirect_uri) else {
        return false;
    };
    ours.origin() == location.origin() && ours.path() == location.path()
}

/// What `prompt=none` is answered with where nobody is signed in (OIDC Core §3.1.2.6).
const NOBODY_IS_SIGNED_IN: [&str; 4] = [
    "login_required",
    "interaction_required",
    "consent_required",
    "account_selection_required",
];

/// What else may be wrong with a request (RFC 6749 §4.1.2.1, OIDC Core §3.1.2.6, RFC 8707 §2, RFC 9101 §7).
const REGISTERED_ERRORS: [&str; 14] = [
    "invalid_request",
    "unauthorized_client",
    "access_denied",
    "unsupported_response_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
    "invalid_target",
    "invalid_request_uri",
    "invalid_request_object",
    "request_not_supported",
    "request_uri_not_supported",
    "registration_not_supported",
    "unmet_authentication_requirements",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DpopAlgorithm;
    use crate::oauth::testing::{metadata, provider, with_context};

    #[test]
    fn what_a_token_endpoint_says_of_a_code_that_nobody_issued() {
        use ClientVerdict::{
            Authenticated, Forbidden, Malformed, NoCodes, NotAllowed, ProofRefused, Refused, Success,
            Unavailable, Unclear,
        };
        for (name, status, body, verdict) in [
            (
                "as it should be",
                400,
                r#"{"error":"invalid_grant"}"#,
                Authenticated,
            ),
            ("Auth0", 403, r#"{"error":"invalid_grant"}"#, Authenticated),
            ("wrong secret", 401, r#"{"error":"invalid_client"}"#, Refused),
            ("the same as 400", 400, r#"{"error":"invalid_client"}"#, Refused),
            ("no json at all", 401, "Unauthorized", Refused),
            ("an error of its own", 401, r#"{"error":"bad_secret"}"#, Refused),
            (
                "not for codes",
                400,
                r#"{"error":"unauthorized_client"}"#,
                NotAllowed,
            ),
            ("no codes", 400, r#"{"error":"unsupported_grant_type"}"#, NoCodes),
            ("a proof", 400, r#"{"error":"invalid_dpop_proof"}"#, ProofRefused),
            (
                "one more nonce",
                401,
                r#"{"error":"use_dpop_nonce"}"#,
                ProofRefused,
            ),
            ("a strict one", 400, r#"{"error":"invalid_request"}"#, Malformed),
            ("a firewall", 403, "<html>", Forbidden),
            ("Glewlwyd", 400, "", Unclear(400)),
            ("its own error", 400, r#"{"error":"hunter2"}"#, Unclear(400)),
            ("not a text", 400, r#"{"error":7}"#, Unclear(400)),
            ("a redirect", 302, "", Unclear(302)),
            ("not there", 404, "", Unclear(404)),
            ("tokens for nothing", 200, r#"{"access_token":"x"}"#, Success),
            ("an html page", 200, "<html>", Success),
            (
                "away",
                503,
                r#"{"error":"invalid_grant"}"#,
                Unavailable("status 5xx"),
            ),
            ("busy", 429, "", Unavailable("status 429: too many requests")),
        ] {
            let response = ProviderResponse {
                status: StatusCode::from_u16(status).expect("a status"),
                content_type: None,
                dpop_nonce: None,
                body: body.as_bytes().to_vec().into(),
            };
            assert_eq!(client_verdict_of(&response), verdict, "{name}");
        }
    }

    #[test]
    fn what_an_authorization_endpoint_says_of_a_redirect_uri() {
        use RedirectVerdict::{Elsewhere, ErrorPage, Registered, RegisteredWithError, Unavailable, Unclear};
        const URI: &str = "https://shop.example.com/auth/callback";
        let back = |query: &str| Some(format!("{URI}?{query}"));
        let to = |url: &str| Some(url.to_owned());
        for (name, status, location, body, verdict) in [
            (
                "nobody",
                302,
                back("error=login_required&state=x"),
                "",
                Registered,
            ),
            ("consent", 303, back("error=consent_required"), "", Registered),
            ("a code", 302, back("code=x"), "", Registered),
            ("a jwt", 302, back("response=x"), "", Unclear("")),
            (
                "scope",
                302,
                back("error=invalid_scope"),
                "",
                RegisteredWithError(Some("invalid_scope")),
            ),
            (
                "its own",
                302,
                back("error=hunter2"),
                "",
                RegisteredWithError(None),
            ),
            (
                "a slash more",
                302,
                to(&format!("{URI}/?error=login_required")),
                "",
                Elsewhere(302),
            ),
            (
                "another host",
                302,
                to("https://evil.example/auth/callback?error=login_required"),
                "",
                Elsewhere(302),
            ),
            (
                "its login page",
                302,
                to("https://login.example.com/login"),
                "",
                Elsewhere(302),
            ),
            ("a relative one", 302, to("/login"), "", Elsewhere(302)),
            ("nowhere", 302, None, "", Elsewhere(302)),
            (
                "Google",
                302,
                to("https://login.example.com/signin/oauth/error?authError=x"),
                "",
                ErrorPage(302),
            ),
            (
                "Keycloak",
                400,
                None,
                "<html>Invalid parameter: redirect_uri",
                ErrorPage(400),
            ),
            ("Entra", 200, None, "<html>AADSTS50011", ErrorPage(200)),
            ("form_post", 200, None, FORM, Unclear("")),
            (
                "shows it",
                400,
                None,
                "https://shop.example.com/auth/callback is not registered",
                ErrorPage(400),
            ),
            ("away", 502, None, "", Unavailable(502)),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let (location, body) = (location.as_deref(), body.as_bytes());
            let came = redirect_verdict(URI, ResponseMode::Query, status, location, body, |_| None);
            assert_eq!(without_words(came), verdict, "{name}");
        }
    }

    const FORM: &str = "<form method=post action=\"https://shop.example.com/auth/callback\">\
                        <input name=error value=login_required>";

    fn without_words(verdict: RedirectVerdict) -> RedirectVerdict {
        match verdict {
            RedirectVerdict::Unclear(why) => {
                assert!(!why.is_empty());
                RedirectVerdict::Unclear("")
            }
            other => other,
        }
    }

    #[test]
    fn an_answer_is_judged_in_the_way_that_it_was_asked_for() {
        use RedirectVerdict::{Registered, RegisteredWithError, Unclear};
        const URI: &str = "https://shop.example.com/auth/callback";
        let refused = |error| {
            let state = "s".to_owned();
            Some(AuthorizationResponse::Refused {
                error,
                state,
                iss: None,
            })
        };
        let redirect = |query: &str| Some(format!("{URI}?{query}"));
        for (name, mode, location, opened, verdict) in [
            ("a form", ResponseMode::FormPost, None, None, Registered),
            ("another form", ResponseMode::Jwt, None, None, Unclear("")),
            (
                "no form",
                ResponseMode::FormPost,
                redirect("error=login_required"),
                None,
                Unclear(""),
            ),
            (
                "signed",
                ResponseMode::Jwt,
                redirect("response=x"),
                refused(Some("login_required")),
                Registered,
            ),
            (
                "scope",
                ResponseMode::QueryJwt,
                redirect("response=x"),
                refused(Some("invalid_scope")),
                RegisteredWithError(Some("invalid_scope")),
            ),
            (
                "its own",
                ResponseMode::Jwt,
                redirect("response=x"),
                refused(None),
                RegisteredWithError(None),
            ),
            (
                "by nobody",
                ResponseMode::Jwt,
                redirect("response=x"),
                None,
                Unclear(""),
            ),
            (
                "not signed",
                ResponseMode::Jwt,
                redirect("code=x"),
                None,
                Unclear(""),
            ),
            (
                "nobody asked",
                ResponseMode::Query,
                redirect("response=x"),
                refused(Some("login_required")),
                Unclear(""),
            ),
        ] {
            let status = if location.is_some() {
                StatusCode::FOUND
            } else {
                StatusCode::OK
            };
            let body = FORM.as_bytes();
            let came = redirect_verdict(URI, mode, status, location.as_deref(), body, |_| opened);
            assert_eq!(without_words(came), verdict, "{name}");
        }
    }

    #[test]
    fn what_a_page_would_post_counts_and_not_its_status() {
        use RedirectVerdict::{ErrorPage, Registered, RegisteredWithError, Unavailable, Unclear};
        const URI: &str = "https://shop.example.com/auth/callback";
        let form =
            |action: &str, fields: &str| format!("<FORM METHOD=POST ACTION='{action}'>{fields}</FORM>");
        let error = |error: &str| form(URI, &format!("<input name=error value=\"{error}\">"));
        for (name, status, page, verdict) in [
            ("oidc-provider, nobody", 400, error("login_required"), Registered),
            ("nobody", 200, error("interaction_required"), Registered),
            (
                "a code",
                200,
                form(URI, "<input name=code value=x><input name=state value=y>"),
                Registered,
            ),
            (
                "scope",
                400,
                error("invalid_scope"),
                RegisteredWithError(Some("invalid_scope")),
            ),
            ("its own", 200, error("hunter2"), RegisteredWithError(None)),
            ("nothing in it", 200, form(URI, ""), Unclear("")),
            (
                "its login form",
                200,
                form("/login", "<input name=error value=login_required>"),
                ErrorPage(200),
            ),
            ("a slash more", 200, form(&format!("{URI}/"), ""), ErrorPage(200)),
            ("away", 503, error("login_required"), Unavailable(503)),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let came = redirect_verdict(URI, ResponseMode::FormPost, status, None, page.as_bytes(), |_| {
                None
            });
            assert_eq!(without_words(came), verdict, "{name}");
        }
    }

    #[test]
    fn a_client_whose_tokens_are_bound_is_tried_with_a_proof_and_once_more_with_a_nonce() {
        let bound = Provider {
            dpop: Some(DpopAlgorithm::Es256),
            ..provider()
        };
        for (name, provider, proofs) in [("bound", bound, 1), ("bearer", provider(), 0)] {
            let answer = |error: &str| {
                Reply::Response(ProviderResponse {
                    status: StatusCode::BAD_REQUEST,
                    content_type: None,
                    dpop_nonce: Some("n-1".to_owned()),
                    body: format!(r#"{{"error":"{error}"}}"#).into_bytes().into(),
                })
            };
            let verdict = with_context(metadata(), |context| {
                let mut step =
                    redeem_nothing("https://a.example/cb".to_owned(), Arc::new(provider), context)?;
                for error in ["use_dpop_nonce", "invalid_grant"] {
                    step = match step {
                        Step::Send(request, rest) => {
                            let sent = request.headers.iter().filter(|(name, _)| *name == dpop::DPOP);
                            assert_eq!(sent.count(), proofs, "{name}");
                            rest.resume(answer(error), context)?
                        }
                        other => other,
                    };
                }
                Ok::<_, Error>(match step {
                    Step::Done(verdict) => verdict,
                    Step::Send(..) | Step::FetchKeys(_) => panic!("{name}: twice is enough"),
                })
            });
            let expected = match proofs {
                1 => ClientVerdict::Authenticated,
                _ => ClientVerdict::ProofRefused,
            };
            assert!(verdict.is_ok_and(|verdict| verdict == expected), "{name}");
        }
    }
}
