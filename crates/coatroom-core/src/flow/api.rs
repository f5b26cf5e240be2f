//! HOT PATH: a request head becomes a [`Decision`].
//!
//! Order: is there an anchor at all (401 without one) ▸ guard ▸ open ▸ tombstones ▸ clocks. No
//! lock, no await, and no allocation but for the cookie that is opened and remembered. It never writes
//! a cookie, never contacts the provider and never redirects. Where a store has a say in it and
//! nothing is known of the session for the moment, the outcome is what to look up ([`Lookup`]).

use std::time::Duration;

use http::HeaderMap;

use super::client_credentials::OwnToken;
use super::known::{GONE, Known, KnownSession, Lookup, SLACK};
use super::memo::AnchorMemo;
use super::passed::PassedToken;
use crate::config::{Application, Auth, Route, RouteTarget, RouteToken};
use crate::cookie::{Candidate, Cookies, Jar, Kind};
use crate::error::Error;
use crate::guard::{self, Class, Cors, TrustedRequest};
use crate::handler::Handler;
use crate::head::{Head, Headers};
use crate::headers::{self, Authorization, ClientFacts, Credential, ResponseRules};
use crate::oauth::dpop::Unaddressed;
use crate::route::Resolved;
use crate::seal::{Handle, KeyRing, Opens};
use crate::session::{ApiAnchor, ApiCookie, ApiCredential, Holds, NoToken, SessionId};
use crate::store::MarkKey;
use crate::time::UnixTime;
use crate::tombstones::Tombstones;

/// What a call to a route comes to.
pub enum Outcome<'a> {
    /// It is decided.
    Decided(Decision<'a>),
    /// Something has to be looked up first; then the same question again, with what is known.
    Lookup(Lookup),
}

/// Something to be done beside a call that passes, without holding it up.
pub struct Chore {
    /// The session.
    pub lookup: Lookup,
    /// Its access token nears its end: renew it.
    pub renew: bool,
    /// A user did something that the store should know of: when, and how long the record lives.
    pub touch: Option<(UnixTime, Duration)>,
}

/// What to do with a call to a route: forward it, with or without the session's token.
pub struct Decision<'a> {
    trusted: TrustedRequest<'a>,
    forward: Option<Forward>,
    /// The client's own token, where the route passes it on.
    passed: Option<Box<PassedToken>>,
    /// A token of this client's own, where the route carries that.
    pub(super) client: Option<OwnToken>,
    /// Rare, and boxed: a decision is moved often.
    pub(super) chore: Option<Box<Chore>>,
}

/// Proof that a request may carry the session's token. Exists only for a trusted request whose
/// anchor opened, is not tombstoned, and is within its clocks.
struct Forward {
    /// None once it is written.
    authorization: Option<Authorization>,
    session: SessionFacts,
    inactive: Inactive,
}

/// What it means where the provider says that the token of a call is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inactive {
    /// It has expired before its time: a refresh may bring another.
    Expired,
    /// So has the session, which has no refresh token.
    SessionOver,
    /// No other token for this API can be had; the session lives.
    NoToken,
}

/// What an API call shows of its session: the anchor holds no claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its id.
    pub id: SessionId,
    /// When it ends at the latest, as far as its cookie knows: at the absolute limit, or when its
    /// tokens can no longer be had. A refresh may move the latter.
    pub ends_at: UnixTime,
    /// Until when its access token is attached; after that the client has to refresh, or a store's
    /// session is renewed.
    pub honoured_until: UnixTime,
    /// When it began, as far as the cookie says.
    pub created_at: Option<UnixTime>,
    /// Under which names it may be ended from elsewhere, where sessions are in cookies.
    pub marks: [Option<MarkKey>; 2],
}

impl Handler {
    /// Decides about a call to a proxied route. The memo is this handler's alone; a fresh one does.
    /// `known` is what was looked up for this call, if something was.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], [`Error::AccessTokenExpired`], [`Error::SessionExpired`] (401);
    /// [`Error::TokenRequired`] on a route of tokens (401);
    /// [`Error::CsrfRejected`], [`Error::OriginNotAllowed`] (403); [`Error::InvalidRequest`] for an
    /// upgrade to anything but a WebSocket, and for a client's token that cannot be passed on.
    pub fn api<H: Headers>(
        &self,
        route: &Route,
        head: &Head<'_, H>,
        now: UnixTime,
        memo: &mut AnchorMemo,
        known: Option<&KnownSession>,
    ) -> Result<Outcome<'_>, Error> {
        self.proxy().api(route, head, now, memo, known)
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
pub(super) struct Proxy<'a, K> {
    pub(super) app: &'a Application,
    pub(super) keys: &'a K,
    pub(super) cookies: &'a Cookies,
}

impl<'a, K: Opens> Proxy<'a, K> {
    pub(super) fn api<H: Headers>(
        &self,
        route: &Route,
        head: &Head<'_, H>,
        now: UnixTime,
        memo: &mut AnchorMemo,
        known: Option<&KnownSession>,
    ) -> Result<Outcome<'a>, Error> {
        let class = Class::of(&Resolved::Proxy { index: 0, route });
        let public = matches!(route.target, RouteTarget::Static(_) | RouteTarget::DevServer(_));
        if route.auth == Auth::None || public {
            if matches!(route.target, RouteTarget::DevServer(_)) {
                guard::check_dev_server(head)?;
            }
            return Ok(Outcome::Decided(Decision {
                trusted: guard::trust(class, head, self.app)?,
                forward: None,
                passed: None,
                // on such a route alone: whoever has a session elsewhere that ended is not anonymous
                client: route.client_grant.map(OwnToken::Wanted),
                chore: None,
            }));
        }
        if route.auth == Auth::Bearer {
            return Ok(Outcome::Decided(Decision {
                trusted: guard::trust(class, head, self.app)?,
                forward: None,
                passed: Some(Box::new(PassedToken::of(head, self.cookies)?)),
                client: None,
                chore: None,
            }));
        }
        let jar = Jar::of(head.headers);
        if !self.cookies.shows(Kind::Access, &jar) {
            return self.signed_out(route, head, Error::Unauthorized("no session cookie"));
        }
        let trusted = guard::trust(class, head, self.app)?;
        match self.anchor(&jar, now, memo)? {
            Visible::Anchor(anchor) if anchor.honoured_until > now => {
                let known = known.filter(|known| known.id == anchor.id);
                let in_store = matches!(anchor.holds, Holds::Handle(_));
                let judged = match (anchor.holds, &anchor.facts) {
                    (Holds::Handle(handle), _) => {
                        self.by_record(anchor.id, &handle, route, known, memo, now)?
                    }
                    // a store that the configuration does not name any more has no say
                    (holds, Some(facts)) if self.app.session.storage.settings().is_some() => {
                        match known
                            .or_else(|| memo.known(anchor.id, now))
                            .map(|known| &known.state)
                        {
                            None => Judged::Lookup(Lookup::marks_of(anchor.id, facts)),
                            Some(Known::Ended(why)) => Judged::Ended(why),
                            Some(Known::Clear | Known::Live(_)) => {
                                self.by_cookie(anchor.id, holds, route.token, &jar, now, memo)?
                            }
                        }
                    }
                    (holds, _) => self.by_cookie(anchor.id, holds, route.token, &jar, now, memo)?,
                };
                for demands in route.all_demands() {
                    let live = known
                        .or_else(|| memo.known(anchor.id, now))
                        .map(|known| &known.state);
                    let assurance = match (anchor.assurance.as_deref(), live) {
                        (_, Some(Known::Live(live))) => live.assurance.as_deref(),
                        (assurance, _) => assurance,
                    };
                    if matches!(judged, Judged::Forward(..)) {
                        // nobody judged this yet: a refresh does
                        if !in_store && !demands.knows(assurance) {
                            return Err(Error::AccessTokenExpired);
                        }
                        demands.check(assurance, now)?;
                    }
                }
                let (authorization, of_record) = match judged {
                    Judged::Forward(authorization, of_record) => (authorization, of_record),
                    Judged::Lookup(lookup) => return Ok(Outcome::Lookup(lookup)),
                    Judged::Ended(why) => return self.signed_out(route, head, Error::SessionExpired(why)),
                };
                let OfRecord {
                    ends_at,
                    honoured_until,
                    inactive,
                    chore,
                } = of_record.unwrap_or(OfRecord {
                    ends_at: anchor.ends_at,
                    honoured_until: anchor.honoured_until,
                    inactive: match anchor.is_last && route.token.is_none() {
                        true => Inactive::SessionOver,
                        false => Inactive::Expired,
                    },
                    chore: None,
                });
                let forward = Forward {
                    authorization: Some(authorization),
                    session: SessionFacts {
                        id: anchor.id,
                        ends_at,
                        honoured_until,
                        created_at: anchor.facts.as_ref().map(|facts| facts.created_at),
                        marks: anchor
                            .facts
                            .as_ref()
                            .map(|facts| [Some(facts.user), facts.at_provider])
                            .unwrap_or_default(),
                    },
                    inactive,
                };
                Ok(Outcome::Decided(Decision {
                    trusted,
                    forward: Some(forward),
                    passed: None,
                    client: None,
                    chore,
                }))
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

    /// The token of a session in cookies: the anchor's, or that of the route's API.
    fn by_cookie(
        &self,
        id: SessionId,
        holds: Holds<Authorization>,
        token: Option<RouteToken>,
        jar: &Jar<'_>,
        now: UnixTime,
        memo: &mut AnchorMemo,
    ) -> Result<Judged, Error> {
        let Some(token) = token else {
            return match holds {
                Holds::Token(authorization) => Ok(Judged::Forward(authorization, None)),
                // from before the configuration gave this route the session's token
                Holds::Nothing | Holds::Handle(_) => Err(Error::AccessTokenExpired),
            };
        };
        let kind = Kind::Api(token.cookie);
        let mut best: Option<ApiCredential> = None;
        for candidate in self.cookies.candidates(kind, jar) {
            let Some(cookie) = self.open_api(kind, &candidate, now, memo) else {
                continue;
            };
            // whoever has a session here has cookies that open: only the anchor's count, and only for
            // the API that the token was asked for
            let credential = cookie.credential;
            let counts = cookie.session == id && credential.api == token.api;
            let newer = best
                .as_ref()
                .is_none_or(|best| best.honoured_until < credential.honoured_until);
            if counts && newer {
                best = Some(credential);
            }
        }
        let credential = best.filter(|best| best.honoured_until > now);
        let credential = credential.ok_or(Error::AccessTokenExpired)?;
        let until = credential.honoured_until;
        let authorization = credential.authorization.map_err(|why| why.error(until, now))?;
        Ok(Judged::Forward(authorization, None))
    }

    fn open_api(
        &self,
        kind: Kind,
        candidate: &Candidate<'_>,
        now: UnixTime,
        memo: &mut AnchorMemo,
    ) -> Option<ApiCookie> {
        if let Some(known) = memo.recall_api(kind, candidate, now) {
            return Some(known);
        }
        let opened = self.cookies.open_one(kind, candidate, self.keys)?;
        let cookie = ApiCookie::decode(opened.plaintext())?;
        memo.remember_api(kind, candidate, &cookie, now);
        Some(cookie)
    }

    /// What the record of a stored session says, as far as it is known.
    fn by_record(
        &self,
        id: SessionId,
        handle: &Handle,
        route: &Route,
        known: Option<&KnownSession>,
        memo: &mut AnchorMemo,
        now: UnixTime,
    ) -> Result<Judged, Error> {
        let api = route.token.map(|token| token.api);
        let lookup = |expired| Lookup::record_of(id, handle, self.app, expired).for_route(route);
        let mut own = known.cloned();
        let live = match memo
            .known_mut(id, now)
            .filter(|known| known.is_of(handle))
            .or_else(|| own.as_mut().filter(|known| known.is_of(handle)))
            .map(|known| &mut known.state)
        {
            None => return Ok(Judged::Lookup(lookup(false))),
            Some(Known::Clear) => return Ok(Judged::Ended(GONE)),
            Some(Known::Ended(why)) => return Ok(Judged::Ended(why)),
            Some(Known::Live(live)) => live,
        };
        let idle_until = live.last_active.plus(live.idle);
        if live.ends_at <= now {
            return Ok(Judged::Ended("absolute limit, or no new tokens to be had"));
        }
        if idle_until <= now {
            return Ok(Judged::Ended("idle limit"));
        }
        let until = live.token_until(api);
        let unjudged = live.is_not_judged_by(route.all_demands());
        if (until <= now || unjudged) && !live.just_renewed {
            if live.is_renewable() {
                return Ok(Judged::Lookup(lookup(true)));
            }
            // the session lives, and this API's token is over for good: that ends nothing else
            return Err(NoToken::Refused.error(until, now));
        }
        let authorization = match api {
            None => live.authorization.clone(),
            Some(api) => match live.of_api(api).map(|known| &known.authorization) {
                Some(Ok(authorization)) => authorization.clone(),
                Some(Err(why)) => return Err(why.error(until, now)),
                // an agent with another configuration than this instance's
                None => return Err(NoToken::Refused.error(until, now)),
            },
        };
        let renew = live.refresh_at <= now && !live.renewing;
        // often enough for the idle limit, and no more
        let touch = live.last_active.plus(live.idle / 10) <= now;
        let chore = (renew || touch).then(|| {
            Box::new(Chore {
                lookup: lookup(false),
                renew,
                touch: touch.then(|| {
                    let until = now.plus(live.idle).min(live.ends_at);
                    (
                        now,
                        Duration::from_secs(until.seconds_from(now)).saturating_add(SLACK),
                    )
                }),
            })
        });
        live.renewing |= renew;
        if touch {
            live.last_active = now;
        }
        let of_record = OfRecord {
            ends_at: live.ends_at,
            honoured_until: until,
            inactive: match (live.is_renewable(), api) {
                (true, _) => Inactive::Expired,
                (false, None) => Inactive::SessionOver,
                (false, Some(_)) => Inactive::NoToken,
            },
            chore,
        };
        Ok(Judged::Forward(authorization, Some(of_record)))
    }

    fn anchor(&self, jar: &Jar<'_>, now: UnixTime, memo: &mut AnchorMemo) -> Result<Visible, Error> {
        let tombstones = self.tombstones(Kind::Ended, jar);
        let mut best: Option<ApiAnchor> = None;
        let mut other = Visible::Nothing;
        for candidate in self.cookies.candidates(Kind::Access, jar) {
            let Some(anchor) = self.open(&candidate, now, memo) else {
                continue;
            };
            let stateful = self.app.session.storage.is_stateful();
            if matches!(anchor.holds, Holds::Handle(_)) != stateful {
                // from before the configuration kept sessions elsewhere
                continue;
            }
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
    ) -> Result<Outcome<'a>, Error> {
        match route.auth {
            Auth::Required | Auth::Bearer => Err(error),
            Auth::Optional | Auth::None => Ok(Outcome::Decided(Decision {
                trusted: guard::trust(Class::ProxiedNone, head, self.app)?,
                forward: None,
                passed: None,
                client: None,
                chore: None,
            })),
        }
    }
}

/// What is known of a session, for one call.
enum Judged {
    /// With this token, and what a record says where the anchor does not.
    Forward(Authorization, Option<OfRecord>),
    Lookup(Lookup),
    Ended(&'static str),
}

struct OfRecord {
    ends_at: UnixTime,
    honoured_until: UnixTime,
    inactive: Inactive,
    chore: Option<Box<Chore>>,
}

enum Visible {
    Anchor(ApiAnchor),
    Over,
    SignedOut,
    Nothing,
}

impl<'a> Outcome<'a> {
    /// The decision, where nothing has to be looked up.
    pub fn decided(self) -> Option<Decision<'a>> {
        match self {
            Self::Decided(decision) => Some(decision),
            Self::Lookup(_) => None,
        }
    }
}

impl Decision<'_> {
    /// What is to be done beside the call, once.
    pub fn take_chore(&mut self) -> Option<Chore> {
        self.chore.take().map(|chore| *chore)
    }

    /// The credentials of the session, if there is one and they are not written yet.
    pub(super) fn authorization(&self) -> Option<&Authorization> {
        self.forward.as_ref()?.authorization.as_ref()
    }

    /// Puts other credentials in their place.
    pub(super) fn carry(&mut self, authorization: Authorization) {
        if let Some(forward) = &mut self.forward {
            forward.authorization = Some(authorization);
        }
    }

    /// The session whose token is attached, if one is.
    pub fn session(&self) -> Option<SessionFacts> {
        self.forward.as_ref().map(|forward| forward.session)
    }

    /// Makes a request's headers those that an upstream may see: takes off what is not the
    /// client's to say, then writes the token and what we know of the client. Where the token is bound
    /// to a key, what comes back makes the proof that the request has to carry as well.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a header name with an underscore, [`Error::Provider`] when the
    /// token fits into no header, [`Error::Bug`] while a [grant's](Self::wanted_grant) is not attached.
    pub fn write_request(
        &mut self,
        headers: &mut HeaderMap,
        application: &Application,
        route: &Route,
        client: &ClientFacts,
    ) -> Result<Option<Unaddressed>, Error> {
        headers::strip_request(headers, application, route, &self.trusted)?;
        if let RouteTarget::DevServer(url) = &route.target {
            headers::write_dev_server_origin(headers, application, url);
        }
        let authorization = match (&mut self.forward, self.passed.take(), self.client.take()) {
            (_, _, Some(OwnToken::Wanted(_))) => {
                return Err(Error::Bug(
                    "a call goes on without the token that its route carries",
                ));
            }
            (Some(forward), ..) => forward.authorization.take(),
            (None, Some(passed), _) => Some(passed.write_proof(headers)),
            (None, None, Some(OwnToken::Attached(authorization))) => Some(*authorization),
            (None, None, None) => None,
        };
        let proofs = authorization.as_ref().and_then(Authorization::proofs);
        headers::write_ours(headers, application, authorization, client)?;
        if route.forwarded {
            headers::write_forwarded(headers, application, client);
        }
        Ok(proofs)
    }

    /// What it means where the provider says that its token is worth nothing.
    pub(super) fn inactive(&self) -> Inactive {
        self.forward
            .as_ref()
            .map_or(Inactive::Expired, |forward| forward.inactive)
    }

    /// What has to happen to the upstream's answer.
    pub fn response_rules(&self, route: &Route, cors: Cors) -> ResponseRules {
        let credential = match (&self.forward, route.auth) {
            (Some(_), _) => Credential::Attached,
            (None, Auth::None) if route.client_grant.is_some() => Credential::Attached,
            (None, Auth::Bearer) => Credential::Passed,
            (None, Auth::Required | Auth::Optional | Auth::None) => Credential::Absent,
        };
        ResponseRules::new(route, &self.trusted, credential, cors)
    }
}
