//! HOT PATH: a request head becomes a [`Decision`].
//!
//! Order: is there an anchor at all (401 without one) ▸ guard ▸ open ▸ tombstones ▸ clocks. No
//! lock, no await, and no allocation but for the opened cookie. It never writes a cookie, never
//! contacts the provider and never redirects.

use std::sync::Arc;

use http::HeaderMap;

use crate::config::{Application, Auth, Route, RouteTarget};
use crate::cookie::{Cookies, Jar, Kind};
use crate::error::Error;
use crate::guard::{self, Class, Cors, TrustedRequest};
use crate::handler::Handler;
use crate::head::{Head, Headers};
use crate::headers::{self, ClientFacts, Credential, ResponseRules};
use crate::route::Resolved;
use crate::seal::{KeyRing, Opens, ProxyRing};
use crate::secret::Secret;
use crate::session::{Anchor, SessionId};
use crate::time::UnixTime;
use crate::tombstones::Tombstones;

/// What to do with a call to a route: forward it, with or without the session's token.
pub struct Decision<'a> {
    trusted: TrustedRequest<'a>,
    forward: Option<Forward>,
}

/// Proof that a request may carry the session's token. Exists only for a trusted request whose
/// anchor opened, is not tombstoned, and is within its clocks.
struct Forward {
    access_token: Secret,
    session_id: SessionId,
}

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
    /// [`Error::Bug`] when the application's base path cannot be a cookie's path, which a checked
    /// configuration rules out.
    pub fn new(app: Arc<Application>, keys: Arc<ProxyRing>) -> Result<Self, Error> {
        let cookies = Cookies::new(&app.id, &app.base_path, &app.callback)?;
        Ok(Self { app, keys, cookies })
    }

    /// The application it decides for.
    pub fn application(&self) -> &Arc<Application> {
        &self.app
    }

    /// As [`Handler::api`]. A session whose access token has expired is refreshed at the agent: the
    /// answer is [`Error::AccessTokenExpired`] here too.
    ///
    /// # Errors
    /// Those of [`Handler::api`].
    pub fn api<H: Headers>(
        &self,
        route: &Route,
        head: &Head<'_, H>,
        now: UnixTime,
    ) -> Result<Decision<'_>, Error> {
        let (app, keys, cookies) = (&*self.app, &*self.keys, &self.cookies);
        Proxy { app, keys, cookies }.api(route, head, now)
    }
}

impl Handler {
    /// Decides about a call to a proxied route.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], [`Error::AccessTokenExpired`], [`Error::SessionExpired`] (401);
    /// [`Error::CsrfRejected`], [`Error::OriginNotAllowed`] (403); [`Error::InvalidRequest`] for an
    /// upgrade to anything but a WebSocket.
    pub fn api<H: Headers>(
        &self,
        route: &Route,
        head: &Head<'_, H>,
        now: UnixTime,
    ) -> Result<Decision<'_>, Error> {
        self.proxy().api(route, head, now)
    }

    /// Every tombstone of a session that the request shows.
    pub(crate) fn tombstones(&self, jar: &Jar<'_>) -> Tombstones {
        self.proxy().tombstones(Kind::Ended, jar)
    }

    /// The refresh tokens that the provider refused. A cookie of their own, because a refresh that
    /// comes late may write it and must never write over the tombstones of a sign-out.
    pub(crate) fn refused(&self, jar: &Jar<'_>) -> Tombstones {
        self.proxy().tombstones(Kind::Refused, jar)
    }

    fn proxy(&self) -> Proxy<'_, KeyRing> {
        Proxy {
            app: &self.app,
            keys: &self.keys,
            cookies: &self.cookies,
        }
    }
}

/// What decides about API calls, whatever else the instance can do.
struct Proxy<'a, K> {
    app: &'a Application,
    keys: &'a K,
    cookies: &'a Cookies,
}

impl<'a, K: Opens> Proxy<'a, K> {
    fn api<H: Headers>(
        &self,
        route: &Route,
        head: &Head<'_, H>,
        now: UnixTime,
    ) -> Result<Decision<'a>, Error> {
        let class = Class::of(&Resolved::Proxy { index: 0, route });
        let public = matches!(route.target, RouteTarget::Static(_) | RouteTarget::DevServer(_));
        if route.auth == Auth::None || public {
            if matches!(route.target, RouteTarget::DevServer(_)) {
                guard::check_dev_server(head)?;
            }
            return Ok(Decision {
                trusted: guard::trust(class, head, self.app)?,
                forward: None,
            });
        }
        let jar = Jar::of(head.headers);
        if !self.cookies.shows(Kind::Access, &jar) {
            return self.signed_out(route, head, Error::Unauthorized("no session cookie"));
        }
        let trusted = guard::trust(class, head, self.app)?;
        match self.anchor(&jar, now)? {
            Visible::Anchor(anchor) if anchor.honoured_until > now => {
                let forward = Forward {
                    access_token: anchor.access_token,
                    session_id: anchor.id,
                };
                Ok(Decision {
                    trusted,
                    forward: Some(forward),
                })
            }
            Visible::Anchor(_) => Err(Error::AccessTokenExpired),
            Visible::Over => Err(Error::SessionExpired(
                "absolute limit, or no new tokens to be had",
            )),
            Visible::SignedOut => self.signed_out(route, head, Error::SessionExpired("signed out")),
            Visible::Nothing => {
                self.signed_out(route, head, Error::Unauthorized("no session cookie that opens"))
            }
        }
    }

    fn anchor(&self, jar: &Jar<'_>, now: UnixTime) -> Result<Visible, Error> {
        let tombstones = self.tombstones(Kind::Ended, jar);
        let mut best: Option<Anchor> = None;
        let mut other = Visible::Nothing;
        for opened in self.cookies.open_with(Kind::Access, jar, self.keys) {
            let Some(anchor) = Anchor::decode(opened.plaintext()) else {
                continue;
            };
            if tombstones.has_session(anchor.id) {
                other = Visible::SignedOut;
                continue;
            }
            if anchor.ends_at <= now {
                other = Visible::Over;
                continue;
            }
            match &best {
                Some(known) if known.id != anchor.id => {
                    return Err(Error::Unauthorized("the cookies show several sessions"));
                }
                Some(known) if known.honoured_until >= anchor.honoured_until => {}
                _ => best = Some(anchor),
            }
        }
        Ok(best.map_or(other, Visible::Anchor))
    }

    fn tombstones(&self, kind: Kind, jar: &Jar<'_>) -> Tombstones {
        let mut all = Tombstones::default();
        for opened in self.cookies.open_with(kind, jar, self.keys) {
            if let Some(more) = Tombstones::decode(opened.plaintext()) {
                all.merge(&more);
            }
        }
        all
    }

    /// Nobody is signed in: an error where somebody must be, an anonymous call where not.
    fn signed_out<H: Headers>(
        &self,
        route: &Route,
        head: &Head<'_, H>,
        error: Error,
    ) -> Result<Decision<'a>, Error> {
        match route.auth {
            Auth::Required => Err(error),
            Auth::Optional | Auth::None => Ok(Decision {
                trusted: guard::trust(Class::ProxiedNone, head, self.app)?,
                forward: None,
            }),
        }
    }
}

enum Visible {
    Anchor(Anchor),
    Over,
    SignedOut,
    Nothing,
}

impl Decision<'_> {
    /// The session whose token is attached, if one is.
    pub fn session_id(&self) -> Option<SessionId> {
        self.forward.as_ref().map(|forward| forward.session_id)
    }

    /// Makes a request's headers those that an upstream may see: takes off what is not the
    /// client's to say, then writes the token and what we know of the client.
    ///
    /// # Errors
    /// [`Error::Provider`] when the token fits into no header.
    pub fn write_request(
        &self,
        headers: &mut HeaderMap,
        application: &Application,
        route: &Route,
        client: &ClientFacts,
    ) -> Result<(), Error> {
        headers::strip_request(headers, application, route, &self.trusted);
        if let RouteTarget::DevServer(url) = &route.target {
            headers::write_dev_server_origin(headers, application, url);
        }
        let token = self.forward.as_ref().map(|forward| &forward.access_token);
        headers::write_ours(headers, application, token, client)
    }

    /// What has to happen to the upstream's answer.
    pub fn response_rules(&self, route: &Route, cors: Cors) -> ResponseRules {
        let credential = match self.forward {
            Some(_) => Credential::Attached,
            None => Credential::Absent,
        };
        ResponseRules::new(route, &self.trusted, credential, cors)
    }
}
