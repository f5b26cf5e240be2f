//! Tokens for each API that has its own: asked for one after the other, behind the session's tokens.
//!
//! Each request is made with the newest refresh token, since any of them may have rotated it. What
//! goes wrong costs that API alone: its routes answer an error until it is worth asking again, nobody
//! is signed out, and the newest refresh token is never lost. Never asks again by itself.

use std::sync::Arc;

use crate::config::{Api, ApiId, Application, Plain, Provider, Userinfo};
use crate::cookie::{MAX_CHUNKS, MAX_PAIR};
use crate::error::Error;
use crate::flow::{Refresh, Refreshed, StoredSession};
use crate::handler::Handler;
use crate::oauth::dpop;
use crate::oauth::resource::{self, Answered};
use crate::oauth::token::TokenFailure;
use crate::seal::ProofKey;
use crate::secret::Secret;
use crate::session::{ApiState, ApiToken, NoToken, Session, TokenPlace, Tokens};
use crate::step::{Context, Reply, Step};
use crate::time::UnixTime;

/// An API whose token could not be had: for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiFailure {
    /// Which.
    pub api: ApiId,
    /// Whether asking again may help without anybody's doing.
    pub why: NoToken,
    /// What failed, in our own words.
    pub reason: String,
}

/// A session's tokens with those of its APIs, and what went wrong with some.
pub(super) struct Fetched {
    pub(super) tokens: Tokens,
    pub(super) failures: Vec<ApiFailure>,
}

impl Handler {
    /// Whether a session without a refresh token is worth asking for tokens all the same: its own access
    /// token lives, and what is known of some API does not hold any more, or may not: where the provider is
    /// asked about an API's token, that may have been called inactive.
    pub fn wants_exchange(&self, refresh: &Refresh, now: UnixTime) -> bool {
        let tokens = &refresh.session().tokens;
        let is_over = |api: &Api| {
            tokens
                .of_api(api.id)
                .is_none_or(|known| !holds(&self.app, known, now))
        };
        tokens.refresh_token.is_none()
            && tokens.access_expires_at > now
            && self.app.apis.list.iter().any(is_over)
    }

    /// Asks for what can be had by exchange (RFC 8693), and says why the others have nothing; what still
    /// holds is left as it is.
    ///
    /// # Errors
    /// [`Error::Bug`] only; what goes wrong costs the APIs alone.
    pub fn exchange_again(
        &self,
        refresh: &Refresh,
        context: &mut Context<'_>,
    ) -> Result<Step<Refreshed>, Error> {
        let session = refresh.session();
        let mut tokens = session.tokens.clone();
        let fetching = Fetching {
            app: self.app.clone(),
            provider: self.provider.clone(),
            before: std::mem::take(&mut tokens.apis),
            tokens,
            proof_key: session.proof_key.clone(),
            failures: Vec::new(),
            next: 0,
            silent: false,
            wanted: Wanted::Ended,
        };
        fetching.go_on(context)?.and_then(context, |fetched, _| {
            Ok(Step::Done(Refreshed::of(fetched.tokens, fetched.failures)))
        })
    }

    /// How many requests a refresh takes at most, keys aside.
    pub fn requests_of_refresh(&self, refresh: &Refresh) -> u32 {
        self.most_requests(refresh.session())
    }

    /// The same for a session in a store.
    pub fn requests_of_renewal(&self, stored: &StoredSession) -> u32 {
        self.most_requests(stored.session())
    }

    /// The session's own tokens, one for each API, and userinfo or who else says who the user is; each once more where the session has a
    /// key, whatever the configuration says by now: the provider may want another nonce in the proof.
    fn most_requests(&self, session: &Session) -> u32 {
        let apis = u32::try_from(self.app.apis.list.len()).unwrap_or(u32::MAX);
        let asks_user = self.provider.plain.as_ref().is_some_and(Plain::asks_at_refresh);
        let userinfo = u32::from(self.provider.userinfo != Userinfo::Never || asks_user);
        let tries = 1 + u32::from(session.proof_key.is_some());
        apis.saturating_add(1 + userinfo).saturating_mul(tries)
    }

    /// Where the session's own access token goes, while sessions are in cookies.
    pub(super) fn token_place(&self) -> TokenPlace {
        match self.app.sends_session_token() {
            true => TokenPlace::Anchor,
            false => TokenPlace::Session,
        }
    }
}

/// Fetches a token for each API. `before` is what the session had: it stays where there is no newer.
pub(super) fn fetch(
    app: Arc<Application>,
    provider: Arc<Provider>,
    tokens: Tokens,
    before: Vec<ApiToken>,
    proof_key: Option<ProofKey>,
    context: &mut Context<'_>,
) -> Result<Step<Fetched>, Error> {
    let fetching = Fetching {
        app,
        provider,
        tokens,
        before,
        proof_key,
        failures: Vec::new(),
        next: 0,
        silent: false,
        wanted: Wanted::All,
    };
    fetching.go_on(context)
}

/// Which tokens are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Each.
    All,
    /// Those of which nothing is known that is sure to hold still.
    Ended,
}

struct Fetching {
    app: Arc<Application>,
    provider: Arc<Provider>,
    tokens: Tokens,
    before: Vec<ApiToken>,
    /// What the session's access tokens are bound to, if they are.
    proof_key: Option<ProofKey>,
    failures: Vec<ApiFailure>,
    /// The position of the next API.
    next: usize,
    /// The token endpoint did not answer: the others are not waited for, and a refresh token that it
    /// may have taken all the same is not shown again.
    silent: bool,
    wanted: Wanted,
}

impl Fetching {
    fn go_on(mut self, context: &mut Context<'_>) -> Result<Step<Fetched>, Error> {
        loop {
            let Some(api) = self.app.apis.list.get(self.next).cloned() else {
                return Ok(Step::Done(Fetched {
                    tokens: self.tokens,
                    failures: self.failures,
                }));
            };
            self.next = self.next.saturating_add(1);
            if self.wanted == Wanted::Ended
                && let Some(held) = self.held(&api)
                && holds(&self.app, held, context.now)
            {
                let held = held.clone();
                self.tokens.apis.push(held);
                continue;
            }
            if self.silent {
                let failure = TokenFailure::Unavailable("it did not answer for another API");
                self.has_none(&api, &failure, context.now);
                continue;
            }
            let (refresh_token, access_token) =
                (self.tokens.refresh_token.as_ref(), &self.tokens.access_token);
            match resource::request(&api, refresh_token, access_token, &self.provider, context) {
                Ok(Some(request)) => {
                    let key = self.proof_key.clone();
                    let held = (
                        self.tokens.refresh_token.clone(),
                        self.tokens.access_token.clone(),
                    );
                    let (same, provider) = (api.clone(), self.provider.clone());
                    let again = move |context: &mut Context<'_>| {
                        let (refresh_token, access_token) = (held.0.as_ref(), &held.1);
                        resource::request(&same, refresh_token, access_token, &provider, context)?
                            .ok_or(Error::Bug("what was asked a moment ago cannot be asked again"))
                    };
                    return dpop::ask(request, key.as_ref(), context, again, move |reply, context| {
                        self.take(&api, &reply, context);
                        self.go_on(context)
                    });
                }
                Ok(None) => {
                    let failure = TokenFailure::Unusable(
                        "there is no refresh token to ask with; many providers give one for the scope offline_access",
                    );
                    self.has_none(&api, &failure, context.now);
                }
                Err(error) => {
                    let why = match error {
                        Error::ProviderUnavailable { .. } => NoToken::Unavailable,
                        _ => NoToken::Refused,
                    };
                    self.fails(&api, why, error.to_string(), context.now);
                }
            }
        }
    }

    fn take(&mut self, api: &Api, reply: &Reply, context: &Context<'_>) {
        let now = context.now;
        self.silent = matches!(reply, Reply::Unreachable(_));
        let Answered {
            refresh_token,
            refresh_expires_in,
            outcome,
        } = resource::read(
            api,
            reply,
            dpop::token_type(self.proof_key.as_ref()),
            &self.provider,
        );
        if refresh_token.is_some() {
            let life = refresh_expires_in.map(std::time::Duration::from_secs);
            self.tokens.refresh_expires_at = life.map(|life| now.plus(life));
            self.tokens.refresh_token = refresh_token;
        }
        match outcome {
            Ok((token, _)) if !self.fits(&token) => {
                let failure = TokenFailure::Unusable("the token is too long for the cookies of its path");
                self.has_none(api, &failure, now);
            }
            Ok((token, life)) => {
                let unsaid = self.provider.token_life(&self.app.session);
                let life = life.map_or(unsaid, std::time::Duration::from_secs);
                self.tokens.apis.push(ApiToken {
                    api: api.id,
                    expires_at: now.plus(life),
                    state: ApiState::Token(token),
                });
            }
            Err(failure) => self.has_none(api, &failure.of_client(&self.provider, context), now),
        }
    }

    /// Whether calls can carry it beside the anchor.
    fn fits(&self, token: &Secret) -> bool {
        let anchored = match self.app.sends_session_token() {
            true => self.tokens.access_token.len(),
            false => 0,
        };
        let sealed = |length: usize| length.saturating_add(AROUND).div_ceil(3).saturating_mul(4);
        self.app.session.storage.is_stateful()
            || sealed(anchored).saturating_add(sealed(token.len())) <= MAX_COOKIES
    }

    /// What the session had.
    fn held(&self, api: &Api) -> Option<&ApiToken> {
        self.before.iter().find(|held| held.api == api.id)
    }

    fn has_none(&mut self, api: &Api, failure: &TokenFailure, now: UnixTime) {
        let (why, reason) = match *failure {
            TokenFailure::Unavailable(reason) => (NoToken::Unavailable, reason),
            TokenFailure::Unusable(reason) => (NoToken::Refused, reason),
            TokenFailure::InteractionRequired => (
                NoToken::Refused,
                "interaction_required: the user has to sign in again for this API",
            ),
            TokenFailure::InvalidClient => (NoToken::Refused, "invalid_client"),
            TokenFailure::InvalidGrant => (NoToken::Refused, "invalid_grant: the grant is not for this API"),
        };
        self.fails(api, why, reason.to_owned(), now);
    }

    fn fails(&mut self, api: &Api, why: NoToken, reason: String, now: UnixTime) {
        let held = self.held(api);
        let still_good = held.filter(|held| held.is_there() && held.expires_at > now);
        let again = match why {
            NoToken::Refused => AFTER_REFUSAL,
            NoToken::Unavailable => AFTER_OUTAGE,
        };
        self.tokens.apis.push(still_good.cloned().unwrap_or(ApiToken {
            api: api.id,
            expires_at: now.plus(again),
            state: ApiState::Missing(why),
        }));
        self.failures.push(ApiFailure {
            api: api.id,
            why,
            reason,
        });
    }
}

/// Whether what is known of an API is sure to hold still: a token that the provider is asked about may be
/// worth nothing before its time, and a refresh is what a client then does.
fn holds(app: &Application, known: &ApiToken, now: UnixTime) -> bool {
    let mut routes = app.routes.iter();
    let mut is_asked_about = || {
        routes.any(|route| {
            route.introspection.is_some() && route.token.is_some_and(|token| token.api == known.api)
        })
    };
    known.expires_at > now && !(known.is_there() && is_asked_about())
}

/// What a later link of a chain of refreshes leaves in the browser may be there from an earlier one
/// alone: then it is in here.
pub(super) fn inherit(tokens: &mut Tokens, earlier: &[ApiToken]) {
    for token in &mut tokens.apis {
        if matches!(token.state, ApiState::InBrowser)
            && let Some(known) = earlier
                .iter()
                .find(|known| known.api == token.api && known.expires_at == token.expires_at)
        {
            *token = known.clone();
        }
    }
}

/// When it is worth asking again for a token that the provider does not give: mostly somebody has to
/// change something first.
const AFTER_REFUSAL: std::time::Duration = std::time::Duration::from_secs(300);

/// The same, where it could not be asked.
const AFTER_OUTAGE: std::time::Duration = std::time::Duration::from_secs(30);

/// What stands around a token in its cookie, at most: record, seal, names and chunk headers.
const AROUND: usize = 400;

/// How much the anchor and an API's cookie may come to together, in bytes.
const MAX_COOKIES: usize = MAX_PAIR * MAX_CHUNKS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn token(api: u8, expires_at: u64, state: ApiState) -> ApiToken {
        ApiToken {
            api: ApiId([api; 8]),
            expires_at: UnixTime(expires_at),
            state,
        }
    }

    /// A browser that missed the first of two refreshes has neither cookie: the second one left in
    /// place what the first had brought.
    #[test]
    fn what_a_later_refresh_left_in_the_browser_is_inherited_from_the_one_that_brought_it() {
        let here = |text: &str| ApiState::Token(Secret::new(text));
        let earlier = [
            token(1, 100, here("one")),
            token(2, 100, here("two")),
            token(3, 100, here("three")),
        ];
        let mut tokens = Tokens {
            access_token: Secret::new("access"),
            access_expires_at: UnixTime(200),
            refresh_token: None,
            refresh_expires_at: None,
            id_token: Secret::new("a.b.c"),
            scope: None,
            userinfo: None,
            issued_by: None,
            apis: vec![
                token(1, 100, ApiState::InBrowser),
                token(2, 200, here("newer")),
                // from a refresh that neither of the two was
                token(3, 50, ApiState::InBrowser),
                token(4, 100, ApiState::InBrowser),
                token(5, 100, ApiState::Missing(NoToken::Refused)),
            ],
        };
        inherit(&mut tokens, &earlier);
        let texts: Vec<_> = tokens
            .apis
            .iter()
            .map(|token| match &token.state {
                ApiState::Token(token) => token.expose().to_owned(),
                ApiState::InBrowser => "in the browser".to_owned(),
                ApiState::Missing(why) => format!("{why:?}"),
            })
            .collect();
        assert_eq!(
            texts,
            ["one", "newer", "in the browser", "in the browser", "Refused"]
        );
    }
}
