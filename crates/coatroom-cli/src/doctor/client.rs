//! Does the provider know this client, and where to send its users back to? Both are tried.
//!
//! A wrong secret and an unregistered redirect URI are what most first sign-ins fail for, and neither
//! shows before somebody tries. What is said of an answer that proves nothing is that it proves
//! nothing.

use coatroom::clock::{Clock as _, SystemClock, SystemRng};
use coatroom::provider::Provider;
use coatroom_core::flow::{ClientVerdict, RedirectVerdict};
use coatroom_core::handler::Handler;
use coatroom_core::oauth::ProviderSnapshot;
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
) {
    let (of_client, of_redirect) = tokio::join!(
        authentication(client, handler, snapshot),
        redirect(client, handler, snapshot)
    );
    match of_client {
        Ok(verdict) => said_of_client(sheet, verdict),
        Err((found, todo)) => sheet.failed("client", found, todo),
    }
    match of_redirect {
        Ok(verdict) => said_of_redirect(sheet, verdict, &handler.registered_redirect_uri()),
        Err((found, todo)) => sheet.failed("redirect URI", found, todo),
    }
}

/// What was found, and what to do.
type Trouble = (String, &'static str);

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
        Ok(Err(error)) => Err((error.to_string(), "see `provider.client_auth`")),
        Err(_) => Err(("the token endpoint did not answer in time".to_owned(), AWAY)),
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
            let todo = "see `provider.parameters` and `provider.pushed_authorization_requests`";
            return Err((error.to_string(), todo));
        }
        Err(_) => return Err(("the pushed request got no answer in time".to_owned(), AWAY)),
    };
    let looked = look(client, get(url, "text/html")).await.map_err(|why| {
        let todo =
            "is the provider up? it is browsers that go there, so this may be a matter of this machine alone";
        (format!("the authorization endpoint: {why}"), todo)
    })?;
    let (status, location) = (looked.response.status, looked.location.as_deref());
    Ok(handler.redirect_verdict(status, location, &looked.response.body))
}

fn said_of_client(sheet: &Sheet, verdict: ClientVerdict) {
    match verdict {
        ClientVerdict::Authenticated => {
            sheet.good("client", "the provider knows it, and its secret and method are right");
        }
        ClientVerdict::Refused => sheet.failed(
            "client",
            "the provider refuses it: unknown `client_id`, wrong secret, or another method",
            "compare `provider.client_id` with the provider's console, make a new secret there and put it where \
             `provider.client_secret` reads it; if both are right, set `provider.client_auth` to the method that is chosen there",
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
            let (what, todo) = match error {
                Some("invalid_scope") => (
                    "invalid_scope",
                    "correct `provider.scopes`, or allow them for this client there",
                ),
                Some("unauthorized_client") => (
                    "unauthorized_client",
                    "allow the authorization code flow for this client at the provider",
                ),
                Some("unsupported_response_type") => (
                    "unsupported_response_type",
                    "allow `response_type=code` for this client at the provider",
                ),
                Some("invalid_target") => (
                    "invalid_target",
                    "correct `resource` in `provider.authorization_parameters`",
                ),
                Some(error) => (error, "see the provider's log for the reason"),
                None => (
                    "an error that is not registered",
                    "see the provider's log for the reason",
                ),
            };
            sheet.failed(
                "redirect URI",
                format!("{uri} is registered, but a sign-in would fail: {what}"),
                todo,
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
            (RedirectVerdict::Unavailable(503), State::Failed),
        ];
        let sheet = Sheet::new(None, "provider");
        clients
            .iter()
            .for_each(|(verdict, _)| said_of_client(&sheet, *verdict));
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
