//! Sign-out: here at once, at the provider as far as it answers.
//!
//! Needs no valid session, and nothing that the provider does or fails to do can prevent it:
//! cookies are cleared and tombstoned first, tokens are revoked in the background (RFC 7009), and
//! the browser is sent through RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0) from a
//! sealed cookie, because a fetch cannot follow a redirect to another site.

use http::{HeaderMap, HeaderValue};
use serde_json::json;

use crate::config::LogoutReturn;
use crate::cookie::{Jar, Kind};
use crate::error::Error;
use crate::flow::visible::{State, Visible};
use crate::flow::{AgentResponse, Effects, Refusal, Revocation, Seen};
use crate::handler::Handler;
use crate::oauth::ProviderSnapshot;
use crate::oauth::end_session::{EndSession, end_session_endpoint};
use crate::oauth::plain::is_statement;
use crate::oauth::revocation::{is_revoked, revocation_request};
use crate::return_to::ReturnTo;
use crate::rng::{Rng, random_text};
use crate::route::Endpoint;
use crate::secret::Secret;
use crate::session::{LogoutTransaction, Session, TRANSACTION_LIFE};
use crate::step::{Context, Reply, Step};
use crate::time::UnixTime;

/// A sign-out as far as this browser and this process go.
pub(super) struct SignOut {
    /// Whether it goes on at `logout/continue`.
    pub(super) goes_on: bool,
    pub(super) set_cookies: Vec<HeaderValue>,
    pub(super) effects: Effects,
}

impl Handler {
    /// `POST logout`. `provider` is what is known of it; none while it cannot be reached.
    ///
    /// # Errors
    /// [`Error::Bug`] only.
    pub fn logout<'a>(
        &self,
        seen: impl Into<Seen<'a>>,
        provider: Option<&ProviderSnapshot>,
        now: UnixTime,
        rng: &mut dyn Rng,
    ) -> Result<AgentResponse, Refusal> {
        let jar = self.jar(seen);
        let visible = self.visible(&jar, now);
        let ending = self.sign_out(visible, &jar, None, provider, now, rng)?;
        let body = match ending.goes_on {
            true => json!({"logout_url": self.agent_url(Endpoint::LogoutContinue.path())}),
            false => json!({}),
        };
        Ok(AgentResponse {
            effects: ending.effects,
            ..AgentResponse::json(body, ending.set_cookies)
        })
    }

    /// Ends what the cookies show. `return_to` is where the browser is in the end; none: in the app.
    pub(super) fn sign_out(
        &self,
        visible: Visible,
        jar: &Jar<'_>,
        return_to: Option<&ReturnTo>,
        provider: Option<&ProviderSnapshot>,
        now: UnixTime,
        rng: &mut dyn Rng,
    ) -> Result<SignOut, Error> {
        let sessions: Vec<Session> = match visible.state {
            State::Live(session) | State::Elsewhere(session) => vec![session],
            State::Ended { session, .. } => session.into_iter().collect(),
            // whichever is meant, all of them end
            State::Conflict => visible
                .anchors
                .iter()
                .filter_map(|anchor| self.any_session_of(anchor, jar))
                .collect(),
            State::Absent => Vec::new(),
        };
        // an anchor alone is enough for this browser, and not for the whole process
        let ended = self.proved(&visible.anchors, jar);
        let store = self.deletions(&visible.anchors, jar);
        let mut tombstones = visible.tombstones;
        for anchor in &visible.anchors {
            tombstones.add_session(anchor.id);
        }
        let mut set_cookies = self.cookies.clear_everything(jar);
        if !tombstones.is_empty() {
            set_cookies.extend(self.tombstone_cookies(Kind::Ended, &tombstones, rng)?);
        }
        let provider_has_none =
            provider.is_some_and(|known| end_session_endpoint(&self.provider, &known.metadata).is_none());
        let own = sessions.iter().find(|session| self.owns(&session.tokens));
        let goes_on = match own {
            Some(session) if !provider_has_none => {
                let transaction = LogoutTransaction {
                    state: Secret::new(random_text::<16>(rng)),
                    id_token_hint: Some(session.tokens.id_token.clone()).filter(|token| !is_statement(token)),
                    started_at: now,
                    return_to: return_to.map(|url| url.as_str().to_owned()),
                    provider: self.provider.name.clone(),
                };
                let lines = self.logout_cookie(&transaction, jar, rng)?;
                set_cookies.extend(lines);
                true
            }
            _ => false,
        };
        let revoke = sessions.iter().flat_map(Session::revocations).collect();
        Ok(SignOut {
            goes_on,
            set_cookies,
            effects: Effects { ended, revoke, store },
        })
    }

    /// An ID token too large for cookies costs the hint, not the sign-out.
    fn logout_cookie(
        &self,
        transaction: &LogoutTransaction,
        jar: &Jar<'_>,
        rng: &mut dyn Rng,
    ) -> Result<Vec<HeaderValue>, Error> {
        match self.cookies.seal(
            Kind::Logout,
            &transaction.encode(),
            TRANSACTION_LIFE,
            &self.keys,
            jar,
            rng,
        ) {
            Err(Error::CookieTooLarge { .. }) => {
                let bare = LogoutTransaction {
                    state: transaction.state.clone(),
                    id_token_hint: None,
                    return_to: transaction.return_to.clone(),
                    provider: transaction.provider.clone(),
                    ..*transaction
                };
                self.cookies.seal(
                    Kind::Logout,
                    &bare.encode(),
                    TRANSACTION_LIFE,
                    &self.keys,
                    jar,
                    rng,
                )
            }
            other => other,
        }
    }

    /// `GET logout/continue`: on to the provider; without a pending logout, or while the provider
    /// cannot be reached, to the app.
    ///
    /// # Errors
    /// [`Error::Bug`] only.
    pub fn logout_continue(
        &self,
        headers: &HeaderMap,
        provider: Option<&ProviderSnapshot>,
        now: UnixTime,
    ) -> Result<AgentResponse, Refusal> {
        let pending = self.pending_logout(headers, now).into_iter().next();
        let home = self.after(pending.as_ref());
        let target = pending.and_then(|transaction| {
            let provider = provider?;
            EndSession {
                id_token_hint: transaction.id_token_hint.as_ref(),
                post_logout_redirect_uri: &self.agent_url("logout/callback"),
                state: transaction.state.expose(),
            }
            .url(&self.provider, &provider.metadata)
        });
        Ok(AgentResponse::see_other(
            target.as_ref().map_or(home.as_str(), |url| url.as_str()),
            Vec::new(),
        )?)
    }

    /// `GET logout/callback`: back in the app; a wrong `state` changes nothing.
    ///
    /// # Errors
    /// [`Error::Bug`] only.
    pub fn logout_callback(
        &self,
        headers: &HeaderMap,
        query: &str,
        now: UnixTime,
    ) -> Result<AgentResponse, Refusal> {
        let mut states = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "state");
        let returned = match (states.next(), states.next()) {
            (Some((_, state)), None) => Some(Secret::new(state)),
            (None, _) | (Some(_), Some(_)) => None,
        };
        // a logout page that was sent no `state` returns none: then the browser's own cookie says it all
        let knows_no_state = self.provider.habits.logout_return != LogoutReturn::Standard;
        let mut pending = self.pending_logout(headers, now).into_iter();
        let finished = match returned {
            Some(state) => pending.find(|transaction| transaction.state == state),
            None if knows_no_state && query.is_empty() => pending.next(),
            None => None,
        };
        let set_cookies = match &finished {
            Some(_) => self.cookies.clear(Kind::Logout, &self.jar(headers)),
            None => Vec::new(),
        };
        let home = self.after(finished.as_ref());
        Ok(AgentResponse::see_other(home.as_str(), set_cookies)?)
    }

    /// Where a browser is after a sign-out; what was sealed is judged again.
    fn after(&self, transaction: Option<&LogoutTransaction>) -> ReturnTo {
        transaction
            .and_then(|transaction| transaction.return_to.as_deref())
            .and_then(|url| ReturnTo::revalidate(url, &self.app).ok())
            .unwrap_or_else(|| ReturnTo::home(&self.app))
    }

    /// Those of this provider: its `id_token_hint` is for nobody else.
    fn pending_logout(&self, headers: &HeaderMap, now: UnixTime) -> Vec<LogoutTransaction> {
        self.pending_logouts(headers, now)
            .filter(|transaction| transaction.provider == self.provider.name)
            .collect()
    }

    /// Those of all of them.
    pub(super) fn pending_logouts(
        &self,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> impl Iterator<Item = LogoutTransaction> + use<> {
        let pending: Vec<_> = self
            .cookies
            .open(Kind::Logout, &self.jar(headers), &self.keys)
            .filter_map(|opened| LogoutTransaction::decode(opened.plaintext()))
            .filter(|transaction| !transaction.is_expired(now))
            .collect();
        pending.into_iter()
    }

    /// Revokes one token (RFC 7009); whatever the provider answers is the end of it.
    ///
    /// # Errors
    /// [`Error::Provider`] if client authentication cannot be applied.
    pub fn revoke(&self, revocation: &Revocation, context: &mut Context<'_>) -> Result<Step<Revoked>, Error> {
        self.check_own(revocation.issued_by())?;
        let Some(request) = revocation_request(&revocation.token, revocation.hint, &self.provider, context)?
        else {
            return Ok(Step::Done(Revoked::NotSupported));
        };
        Ok(Step::send(request, |reply, _| {
            Ok(Step::Done(match reply {
                reply if is_revoked(&reply) => Revoked::Yes,
                Reply::Response(response) => Revoked::Refused(response.status.as_u16()),
                Reply::Unreachable(_) | Reply::Keys => Revoked::Unreachable,
            }))
        }))
    }
}

/// How a revocation went: for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The provider forgot the token.
    Yes,
    /// The provider has no revocation endpoint.
    NotSupported,
    /// It answered with this status.
    Refused(u16),
    /// It did not answer.
    Unreachable,
}
