//! HOT PATH: a request head becomes a [`Decision`].
//!
//! Order: is there an anchor at all (401 without one) ▸ guard ▸ open ▸ tombstones ▸ clocks. No
//! lock, no await, and no allocation but for the cookie that is opened and remembered. It never writes
//! a cookie, never contacts the provider and never redirects.

use std::sync::Arc;

use http::HeaderMap;

use super::memo::AnchorMemo;
use crate::config::{Application, Auth, Route, RouteTarget};
use crate::cookie::{Candidate, Cookies, Jar, Kind};
use crate::error::Error;
use crate::guard::{self, Class, Cors, TrustedRequest};
use crate::handler::Handler;
use crate::head::{Head, Headers};
use crate::headers::{self, Authorization, ClientFacts, Credential, ResponseRules};
use crate::route::Resolved;
use crate::seal::{KeyRing, Opens, ProxyRing};
use crate::session::{ApiAnchor, SessionId};
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
    /// None once it is written.
    authorization: Option<Authorization>,
    session: SessionFacts,
}

/// What an API call shows of its session: the anchor holds no claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its id.
    pub id: SessionId,
    /// When it ends at the latest, as far as its cookie knows: at the absolute limit, or when its
    /// tokens can no longer be had. A refresh may move the latter.
    pub ends_at: UnixTime,
    /// Until when its access token is attached; after that the client has to refresh.
    pub honoured_until: UnixTime,
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
        memo: &mut AnchorMemo,
    ) -> Result<Decision<'_>, Error> {
        let (app, keys, cookies) = (&*self.app, &*self.keys, &self.cookies);
        Proxy { app, keys, cookies }.api(route, head, now, memo)
    }
}

impl Handler {
    /// Decides about a call to a proxied route. The memo is this handler's alone; a fresh one does.
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
        memo: &mut AnchorMemo,
    ) -> Result<Decision<'_>, Error> {
        self.proxy().api(route, head, now, memo)
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
        memo: &mut AnchorMemo,
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
        match self.anchor(&jar, now, memo)? {
            Visible::Anchor(anchor) if anchor.honoured_until > now => {
                let forward = Forward {
                    authorization: Some(anchor.authorization),
                    session: SessionFacts {
                        id: anchor.id,
                        ends_at: anchor.ends_at,
                        honoured_until: anchor.honoured_until,
                    },
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

    fn anchor(&self, jar: &Jar<'_>, now: UnixTime, memo: &mut AnchorMemo) -> Result<Visible, Error> {
        let tombstones = self.tombstones(Kind::Ended, jar);
        let mut best: Option<ApiAnchor> = None;
        let mut other = Visible::Nothing;
        for candidate in self.cookies.candidates(Kind::Access, jar) {
            let Some(anchor) = self.open(&candidate, now, memo) else {
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

    fn open(&self, candidate: &Candidate<'_>, now: UnixTime, memo: &mut AnchorMemo) -> Option<ApiAnchor> {
        if let Some(known) = memo.recall(candidate, now) {
            return Some(known);
        }
        let opened = self.cookies.open_one(Kind::Access, candidate, self.keys)?;
        let anchor = ApiAnchor::decode(opened.plaintext())?;
        memo.remember(candidate, &anchor, now);
        Some(anchor)
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
    Anchor(ApiAnchor),
    Over,
    SignedOut,
    Nothing,
}

impl Decision<'_> {
    /// The session whose token is attached, if one is.
    pub fn session(&self) -> Option<SessionFacts> {
        self.forward.as_ref().map(|forward| forward.session)
    }

    /// Makes a request's headers those that an upstream may see: takes off what is not the
    /// client's to say, then writes the token and what we know of the client.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a header name with an underscore, [`Error::Provider`] when the
    /// token fits into no header.
    pub fn write_request(
        &mut self,
        headers: &mut HeaderMap,
        application: &Application,
        route: &Route,
        client: &ClientFacts,
    ) -> Result<(), Error> {
        headers::strip_request(headers, application, route, &self.trusted)?;
        if let RouteTarget::DevServer(url) = &route.target {
            headers::write_dev_server_origin(headers, application, url);
        }
        let authorization = self
            .forward
            .as_mut()
            .and_then(|forward| forward.authorization.take());
        headers::write_ours(headers, application, authorization, client)?;
        if route.forwarded {
            headers::write_forwarded(headers, application, client);
        }
        Ok(())
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
