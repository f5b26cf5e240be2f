//! Does the provider know this client, and where to send its users back to? Both are tried.
//!
//! A wrong secret and an unregistered redirect URI are what most first sign-ins fail for, and neither
//! shows before somebody tries. What is said of an answer that proves nothing is that it proves
//! nothing.

use coatroom::clock::{Clock as _, SystemClock, SystemRng};
use coatroom::provider::Provider;
use coatroom_core::config::{self, ClientAuth};
use coatroom_core::flow::{ClientVerdict, RedirectVerdict};
use coatroom_core::handler::Handler;
use coatroom_core::oauth::{Metadata, ProviderSnapshot, pushed_refusal, refused_credentials};
use coatroom_core::step::Context;
use tokio::time::timeout;

use super::QUESTION;
use super::discovery::{get, look};
use super::sheet::{Sheet, quoted};

/// Tries both at once, and tells of them in order.
pub(super) async fn examine(
    sheet: &Sheet,
    client: &Provider,
    handler: &Handler,
    snapshot: &ProviderSnapshot,
    provider: &config::Provider,
) {
    let (of_client, of_redirect) = tokio::join!(
        authentication(client, handler, snapshot),
        redirect(client, handler, snapshot)
    );
    match of_client {
        Ok(verdict) => said_of_client(sheet, verdict, &Method::of(provider, &snapshot.metadata)),
        Err((found, todo)) => sheet.failed("client", found, todo),
    }
    match of_redirect {
        Ok(verdict) => said_of_redirect(sheet, verdict, &handler.registered_redirect_uri()),
        Err((found, todo)) => sheet.failed("redirect URI", found, todo),
    }
}

/// What was found, and what to do.
type Trouble = (String, String);

/// How this client authenticates, in words.
struct Method {
    /// What is right where it is taken.
    known: String,
    refused: &'static str,
    todo: String,
}

impl Method {
    fn of(provider: &config::Provider, metadata: &Metadata) -> Self {
        let (refused, look_at) = refused_credentials(provider, metadata);
        let (known, todo) = match (&provider.client_auth, provider.client_auth.name()) {
            (ClientAuth::Secret(..), _) => (
                "its secret and method are right".to_owned(),
                "compare `provider.client_id` with the provider's console, make a new secret there and put it where \
                 `provider.client_secret` reads it; if both are right, set `provider.client_auth` to the method that is \
                 chosen there"
                    .to_owned(),
            ),
            (_, name) => (
                format!("takes {}", name.unwrap_or("the assertion in the file of `client_auth`")),
                format!("in `provider`: {look_at}"),
            ),
        };
        Self { known, refused, todo }
    }
}

async fn authentication(
    client: &Provider,
    handler: &Handler,
    snapshot: &ProviderSnapshot,
) -> Result<ClientVerdict, Trouble> {
    let step = handler.try_client(&mut Context {
        provider: snapshot,
        now: SystemClock.now(),
        rng: &mut SystemRng,
    });
    let outcome = match step {
        Ok(step) => timeout(QUESTION, client.drive(step)).await,
        Err(error) => Ok(Err(error)),
    };
    match outcome {
        Ok(Ok(verdict)) => Ok(verdict),
        Ok(Err(error)) => Err((error.to_string(), "see `provider.client_auth`".to_owned())),
        Err(_) => Err((
            "the token endpoint did not answer in time".to_owned(),
            AWAY.to_owned(),
        )),
    }
}

async fn redirect(
    client: &Provider,
    handler: &Handler,
    snapshot: &ProviderSnapshot,
) -> Result<RedirectVerdict, Trouble> {
    let step = handler.try_redirect(&mut Context {
        provider: snapshot,
        now: SystemClock.now(),
        rng: &mut SystemRng,
    });
    let outcome = match step {
        Ok(step) => timeout(QUESTION, client.drive(step)).await,
        Err(error) => Ok(Err(error)),
    };
    let url = match outcome {
        Ok(Ok(url)) => url,
        Ok(Err(error)) => {
            return Err(match pushed_refusal(&error) {
                Some(code) => (
                    format!("a sign-in would fail: the provider refuses the pushed request ({code})"),
                    of_pushed(code, &handler.registered_redirect_uri()),
                ),
                None => (
                    error.to_string(),
                    "see `provider.parameters`, and what is said above of pushed requests, request objects and the \
                     response mode"
                        .to_owned(),
                ),
            });
        }
        Err(_) => {
            let found = "the pushed request got no answer in time".to_owned();
            return Err((found, AWAY.to_owned()));
        }
    };
    let looked = look(client, get(url, "text/html")).await.map_err(|why| {
        let todo =
            "is the provider up? it is browsers that go there, so this may be a matter of this machine alone";
        (format!("the authorization endpoint: {why}"), todo.to_owned())
    })?;
    let (status, location) = (looked.response.status, looked.location.as_deref());
    let now = SystemClock.now();
    Ok(handler.redirect_verdict(status, location, &looked.response.body, snapshot, now))
}

/// What to do where a pushed request is refused (RFC 9126 §2.3): what else a page shows is said there.
fn of_pushed(code: &str, uri: &str) -> String {
    let register = format!("register exactly {} as redirect URI of this client", quoted(uri));
    match code {
        "invalid_client" => "see `client` above: this client is refused there as well".to_owned(),
        "invalid_request" => format!(
            "{register} at the provider, no slash more or less; if it is, see `provider.parameters` and the provider's log"
        ),
        "an unregistered error" => {
            format!("{register} at the provider, if it is not; else see the provider's log")
        }
        "invalid_dpop_proof" | "use_dpop_nonce" => "see `provider.dpop`, and the clocks".to_owned(),
        code => of_error(code).to_owned(),
    }
}

/// What to do about a registered error of an authorization request.
fn of_error(code: &str) -> &'static str {
    match code {
        "invalid_scope" => "correct `provider.scopes`, or allow them for this client there",
        "unauthorized_client" => "allow the authorization code flow for this client at the provider",
        "unsupported_response_type" => "allow `response_type=code` for this client at the provider",
        "invalid_target" => "correct `provider.resource`, or `resource` in `provider.parameters`",
        "invalid_request_object" | "request_not_supported" => {
            "see `provider.request_object`: is the public half of its key registered for this client?"
        }
        _ => "see the provider's log for the reason",
    }
}

fn said_of_client(sheet: &Sheet, verdict: ClientVerdict, method: &Method) {
    match verdict {
        ClientVerdict::Authenticated => {
            sheet.good("client", format!("the provider knows it, and {}", method.known));
        }
        ClientVerdict::Refused => sheet.failed(
            "client",
            format!("the provider refuses it: unknown `client_id`, or {}", method.refused),
            method.todo.clone(),
        ),
        ClientVerdict::ProofRefused => sheet.failed(
            "client",
            "the provider refuses the proof of possession (DPoP), before it says anything of the client",
            "set the clocks; set `provider.dpop.algorithm` to one that the provider takes, turn DPoP on for this client there, \
             or remove `provider.dpop`",
        ),
        ClientVerdict::NotAllowed => sheet.failed(
            "client",
            "it is known, and may not redeem authorization codes",
            "allow the authorization code flow (grant `authorization_code`) for this client at the provider",
        ),
        ClientVerdict::NoCodes => sheet.failed(
            "client",
            "the token endpoint redeems no authorization codes",
            "is it the right server, and is the authorization code flow on?",
        ),
        ClientVerdict::Malformed => sheet.unclear(
            "client",
            "the provider calls the request itself invalid: most look at the client first, then it is known",
            "try a sign-in; if it fails, the provider's log has the reason",
        ),
        ClientVerdict::Forbidden => sheet.unclear(
            "client",
            "403 without an OAuth error: something in front of the provider, or a policy of it",
            "let this machine reach the token endpoint; see the log of the firewall, and of the provider",
        ),
        ClientVerdict::Success => sheet.failed(
            "client",
            "the token endpoint says yes to a code that nobody issued",
            "is that a token endpoint? one that takes any code must not be used; a page that answers 200 to everything is none",
        ),
        ClientVerdict::Unavailable(why) => {
            sheet.failed("client", format!("the token endpoint does not answer: {why}"), AWAY);
        }
        ClientVerdict::Unclear(status) => sheet.unclear(
            "client",
            format!("{status} without an error that is registered, which proves nothing (Glewlwyd answers so)"),
            "try a sign-in; if it fails, the provider's log has the reason",
        ),
    }
}

fn said_of_redirect(sheet: &Sheet, verdict: RedirectVerdict, uri: &str) {
    let uri = quoted(uri);
    match verdict {
        RedirectVerdict::Registered => sheet.good("redirect URI", format!("{uri} is registered")),
        RedirectVerdict::RegisteredWithError(error) => {
            let what = error.unwrap_or("an error that is not registered");
            sheet.failed(
                "redirect URI",
                format!("{uri} is registered, but a sign-in would fail: {what}"),
                of_error(what),
            );
        }
        RedirectVerdict::ErrorPage(status) => sheet.failed(
            "redirect URI",
            format!("a page ({status}) in place of a redirect back: probably it is not registered"),
            format!(
                "register exactly {uri} as redirect URI of this client at the provider, no slash more or less"
            ),
        ),
        RedirectVerdict::Elsewhere(status) => sheet.unclear(
            "redirect URI",
            format!("a redirect ({status}) to a page of the provider's: nobody can tell"),
            format!("see that {uri} is registered for this client at the provider; then try a sign-in"),
        ),
        RedirectVerdict::Unclear(why) => sheet.unclear(
            "redirect URI",
            format!("{why}: nobody can tell"),
            "compare `provider.response_mode` with what the provider does for this client; then try a sign-in",
        ),
        RedirectVerdict::Unavailable(status) => {
            sheet.failed(
                "redirect URI",
                format!("the authorization endpoint answers {status}"),
                AWAY,
            );
        }
    }
}

const AWAY: &str = "the provider, or what is in front of it, is broken or busy: see its log, and try again";

#[cfg(test)]
mod tests {
    use super::super::sheet::State;
    use super::*;

    #[test]
    fn whatever_is_not_good_says_what_to_do() {
        let clients = [
            (ClientVerdict::Authenticated, State::Good),
            (ClientVerdict::Refused, State::Failed),
            (ClientVerdict::NotAllowed, State::Failed),
            (ClientVerdict::NoCodes, State::Failed),
            (ClientVerdict::ProofRefused, State::Failed),
            (ClientVerdict::Malformed, State::Unclear),
            (ClientVerdict::Forbidden, State::Unclear),
            (ClientVerdict::Success, State::Failed),
            (ClientVerdict::Unavailable("status 5xx"), State::Failed),
            (ClientVerdict::Unclear(400), State::Unclear),
        ];
        let redirects = [
            (RedirectVerdict::Registered, State::Good),
            (RedirectVerdict::RegisteredWithError(None), State::Failed),
            (
                RedirectVerdict::RegisteredWithError(Some("invalid_scope")),
                State::Failed,
            ),
            (
                RedirectVerdict::RegisteredWithError(Some("access_denied")),
                State::Failed,
            ),
            (RedirectVerdict::ErrorPage(400), State::Failed),
            (RedirectVerdict::Elsewhere(302), State::Unclear),
            (RedirectVerdict::Unclear("a page"), State::Unclear),
            (RedirectVerdict::Unavailable(503), State::Failed),
        ];
        let sheet = Sheet::new(None, "provider");
        let method = Method {
            known: String::new(),
            refused: "its key",
            todo: "another".to_owned(),
        };
        clients
            .iter()
            .for_each(|(verdict, _)| said_of_client(&sheet, *verdict, &method));
        redirects
            .iter()
            .for_each(|(verdict, _)| said_of_redirect(&sheet, *verdict, "https://a.example/cb"));
        let expected = clients
            .iter()
            .map(|(_, state)| state)
            .chain(redirects.iter().map(|(_, state)| state));
        for (finding, state) in sheet.findings().iter().zip(expected) {
            assert_eq!(finding.state, *state, "{finding:?}");
            assert_eq!(finding.todo.is_empty(), *state == State::Good, "{finding:?}");
        }
    }
}
