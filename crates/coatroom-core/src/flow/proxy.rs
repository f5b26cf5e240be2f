//! API calls on an instance that forwards them and does nothing else.
//!
//! Decides as the agent beside it does (`flow/api.rs`), with keys that open anchors and nothing more. What
//! only an agent can do is answered as a session whose access token has expired, and what needs a provider
//! is refused when the handler is made.

use std::sync::Arc;

use super::api::{Outcome, Proxy};
use super::known::{KnownSession, Lookup, answered_by_record};
use super::memo::AnchorMemo;
use crate::config::{Application, Route};
use crate::cookie::Cookies;
use crate::error::Error;
use crate::head::{Head, Headers};
use crate::seal::ProxyRing;
use crate::store::Record;
use crate::time::UnixTime;

/// The decisions of an instance that forwards API calls and does nothing else: no sign-in, no
/// refresh, no sign-out, and no key for them.
pub struct ProxyHandler {
    app: Arc<Application>,
    keys: Arc<ProxyRing>,
    cookies: Cookies,
}

impl ProxyHandler {
    /// A handler for one application. Its provider, if it has one, is not looked at.
    ///
    /// # Errors
    /// [`Error::Bug`] when the application's base path cannot be a cookie's path, and when a route carries
    /// the client's own token or waits for what a provider says of one, which a checked configuration
    /// without a provider rules out.
    pub fn new(app: Arc<Application>, keys: Arc<ProxyRing>) -> Result<Self, Error> {
        if !app.client_grants.is_empty() {
            return Err(Error::Bug(
                "an instance that only forwards calls has no client whose token a route could carry",
            ));
        }
        if app.routes.iter().any(|route| route.introspection.is_some()) {
            return Err(Error::Bug(
                "an instance that only forwards calls has no provider to ask about their tokens",
            ));
        }
        let cookies = Cookies::of(&app)?;
        Ok(Self { app, keys, cookies })
    }

    /// The application it decides for.
    pub fn application(&self) -> &Arc<Application> {
        &self.app
    }

    /// As [`Handler::api`](crate::handler::Handler::api). A session whose access token has expired is refreshed at the agent: the
    /// answer is [`Error::AccessTokenExpired`] here too.
    ///
    /// # Errors
    /// Those of [`Handler::api`](crate::handler::Handler::api).
    pub fn api<H: Headers>(
        &self,
        route: &Route,
        head: &Head<'_, H>,
        now: UnixTime,
        memo: &mut AnchorMemo,
        known: Option<&KnownSession>,
    ) -> Result<Outcome<'_>, Error> {
        let (app, keys, cookies) = (&*self.app, &*self.keys, &self.cookies);
        match (Proxy { app, keys, cookies }).api(route, head, now, memo, known)? {
            // what was remembered may be from before the agent's refresh: only a fresh look tells
            Outcome::Lookup(lookup) if lookup.wants_refresh() && known.is_some() => {
                Err(Error::AccessTokenExpired)
            }
            Outcome::Decided(mut decision) => {
                // the agent elsewhere renews
                decision.chore = decision.chore.take().filter(|chore| chore.touch.is_some());
                Ok(Outcome::Decided(decision))
            }
            Outcome::Lookup(lookup) => Ok(Outcome::Lookup(lookup.forgetting())),
        }
    }

    /// As [`Handler::know`](crate::handler::Handler::know).
    pub fn know(&self, lookup: &Lookup, record: Option<&Record>, now: UnixTime) -> KnownSession {
        answered_by_record(lookup, record, &self.app, &self.keys, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{checked, config, upstream};
    use crate::config::{ApplicationConfig, IntrospectionConfig, RouteConfig, TokenConfig};
    use crate::seal::MasterKey;

    const MASTER: &str = "coatroom-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    /// Such a route would let nothing pass, or without its check everything.
    #[test]
    fn a_route_that_needs_a_provider_is_refused() {
        let route = |token| RouteConfig {
            token,
            ..upstream("/a", "https://api.example.com", None)
        };
        let asked = TokenConfig {
            introspection: Some(IntrospectionConfig::default()),
            ..TokenConfig::default()
        };
        for (token, is_made) in [(None, true), (Some(asked), false)] {
            let application = checked(ApplicationConfig {
                routes: vec![route(token)],
                ..config()
            });
            let key = MasterKey::parse(MASTER).expect("a good key");
            let keys = ProxyRing::new(vec![key.proxy_key()]).expect("one key");
            let made = ProxyHandler::new(Arc::new(application), Arc::new(keys));
            assert_eq!(made.is_ok(), is_made);
        }
    }
}
