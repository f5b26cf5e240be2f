//! Connections of one core, by endpoint.
//!
//! An HTTP/1.1 connection is driven by whoever uses it: nothing is spawned for it. While it is idle
//! nobody polls it, so it is polled once when it is taken out (an upstream that has hung up is seen
//! then) and from time to time by one sweeper for all, which also closes what has been idle for
//! long. A connection goes back only when request and response are both complete. HTTP/2
//! connections are kept beside them and shared by calls (`http2.rs`). None is ever shared between
//! cores or carries state of a request.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Weak as SharedWeak};
use std::task::{Context, Poll};
use std::time::Duration;

use coatroom_core::config::{Http2, Upstreams};
use coatroom_core::error::Error;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest};
use tokio::time::Instant;
use url::Url;

use super::balance::{Balancer, Pulse};
use super::connect::{Connector, Io, Offer, agreed_on_http2};
use super::endpoint::Endpoint;
use super::http2::{Multiplexed, Stream};
use super::limit::{LimitedBody, RequestBody};
use super::quiet::{Quiet, quietly};
use crate::timer::CoarseTimer;

/// One core's connections and what opens new ones.
pub(super) struct Pool<B: RequestBody> {
    pub(super) connector: Connector,
    pub(super) timer: CoarseTimer,
    /// By the upstreams of a configuration, which may be gone by now.
    balancers: RefCell<Vec<Met<B>>>,
    /// Development servers, by URL.
    dev_servers: RefCell<Vec<(Url, Arc<Upstreams>)>>,
    sweeping: Cell<bool>,
}

/// Upstreams that a call was for, and what chooses among them.
type Met<B> = (SharedWeak<Upstreams>, Rc<Balancer<B>>);

/// One endpoint of an upstream: its address, and how requests to it are written.
pub(super) struct Origin<B: RequestBody> {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) pulse: Pulse,
    /// Whether it is no endpoint of its upstream any more.
    retired: Cell<bool>,
    /// What its connections speak, as far as that is known.
    speaks: Cell<Speaks>,
    /// Whether each new connection may turn out to be either.
    negotiates: bool,
    /// Scheme and authority.
    uri: Uri,
    host: HeaderValue,
    /// Without a trailing slash; empty for the root.
    base_path: String,
    idle: RefCell<VecDeque<Box<Live<B>>>>,
    /// Open HTTP/2 connections.
    shared: RefCell<Vec<Rc<Multiplexed<B>>>>,
    /// Held by who opens one of these, so that many calls at once do not open many.
    opening: tokio::sync::Mutex<()>,
    /// How often the sweeper came by: the age of idle connections is counted in this.
    round: Cell<u32>,
}

/// An open connection, or a call's place on one.
pub(super) struct Live<B: RequestBody> {
    wire: Wire<B>,
    /// Whether it has served a request before this one.
    pub(super) used: Used,
    /// When the upstream said it would close it (`Keep-Alive: timeout`).
    expires: Option<Instant>,
    /// The sweeper's round in which it became idle.
    idle_since: u32,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the plain case, which is to have one allocation"
)]
enum Wire<B: RequestBody> {
    Http1 {
        sender: SendRequest<LimitedBody<B>>,
        connection: Connection<Io, LimitedBody<B>>,
        state: State,
        quiet: Rc<Quiet>,
    },
    Http2(Stream<B>),
}

/// What is known of an upstream's protocol before a connection is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
    /// Nobody has asked yet.
    Unknown,
}

/// Why a call got no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// There is none. Nobody has seen the call, so another address may get it.
    Unreachable(Error),
    /// There is one, but the upstream takes no such call.
    Unsuitable(Error),
}

impl From<Error> for NoConnection {
    fn from(error: Error) -> Self {
        Self::Unreachable(error)
    }
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Request,
    WebSocket,
}

/// Whether a connection has served a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Used {
    Fresh,
    Before,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closed,
}

/// The answer to a request on a connection, once the connection is driven.
pub(super) type Answer<B> =
    Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<LimitedBody<B>>>>>>>;

impl<B: RequestBody> Pool<B> {
    pub(super) fn new(connector: Connector, timer: CoarseTimer) -> Rc<Self> {
        Rc::new(Self {
            connector,
            timer,
            balancers: RefCell::default(),
            dev_servers: RefCell::default(),
            sweeping: Cell::new(false),
        })
    }

    /// What chooses among these upstreams.
    pub(super) fn balancer(&self, upstreams: &Arc<Upstreams>) -> Rc<Balancer<B>> {
        let balancers = self.balancers.borrow();
        let known = balancers
            .iter()
            .find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(upstreams)));
        if let Some((_, balancer)) = known {
            return balancer.clone();
        }
        drop(balancers);
        self.meet(upstreams)
    }

    /// The first call of a route since the configuration was read. Equal upstreams share their
    /// connections, also with the route as it was before.
    fn meet(&self, upstreams: &Arc<Upstreams>) -> Rc<Balancer<B>> {
        let group = self.connector.directory.group(upstreams);
        let mut balancers = self.balancers.borrow_mut();
        let known = balancers.iter().find(|(_, balancer)| balancer.is_for(&group));
        let balancer = match known {
            Some((_, balancer)) => balancer.clone(),
            None => Rc::new(Balancer::new(group)),
        };
        balancers.retain(|(key, _)| key.strong_count() > 0);
        balancers.push((Arc::downgrade(upstreams), balancer.clone()));
        balancer
    }

    /// The same for a development server.
    pub(super) fn dev_server(&self, url: &Url) -> Rc<Balancer<B>> {
        let mut known = self.dev_servers.borrow_mut();
        if let Some((_, upstreams)) = known.iter().find(|(known, _)| known == url) {
            return self.balancer(upstreams);
        }
        let upstreams = Arc::new(Upstreams {
            http2: Http2::Never,
            ..Upstreams::of(url.clone())
        });
        known.push((url.clone(), upstreams.clone()));
        self.balancer(&upstreams)
    }

    /// Keeps a connection whose request and response are complete; closes it otherwise.
    pub(super) fn check_in(
        self: &Rc<Self>,
        origin: &Origin<B>,
        mut live: Box<Live<B>>,
        cx: &mut Context<'_>,
    ) {
        if let Wire::Http2(_) = live.wire {
            return;
        }
        if !live.is_ready() {
            let _ = live.poll(cx);
        }
        if !live.is_ready() || origin.retired.get() {
            return;
        }
        live.used = Used::Before;
        live.idle_since = origin.round.get();
        let mut idle = origin.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push_back(live);
            drop(idle);
            self.sweep();
        }
    }

    /// Starts the sweeper, if it does not run.
    fn sweep(self: &Rc<Self>) {
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
    }

    /// One round of the sweeper; whether any connection is left.
    fn sweep_once(&self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut left = false;
        let balancers = self.balancers.borrow();
        for (index, (_, balancer)) in balancers.iter().enumerate() {
            // equal upstreams of several routes share one
            let is_first = !balancers
                .iter()
                .take(index)
                .any(|(_, other)| Rc::ptr_eq(other, balancer));
            if is_first {
                balancer.each(|origin| left |= origin.sweep(&mut cx));
            }
        }
        left
    }
}

async fn sweep<B: RequestBody>(pool: Weak<Pool<B>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.sweep_once() {
            pool.sweeping.set(false);
            return;
        }
    }
}

impl<B: RequestBody> Origin<B> {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Option<Self> {
        let parsed = Uri::try_from(&endpoint.site.url).ok()?;
        // Not the authority as a whole: user information never travels.
        let host = parsed.host()?;
        let authority = match parsed.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let uri = Uri::builder()
            .scheme(parsed.scheme()?.clone())
            .authority(authority.as_str())
            .path_and_query("/")
            .build()
            .ok()?;
        let over_tls = parsed.scheme_str() == Some("https");
        let http2 = endpoint.site.http2;
        Some(Self {
            endpoint,
            pulse: Pulse::default(),
            retired: Cell::new(false),
            speaks: Cell::new(match (http2, over_tls) {
                (Http2::Always, _) => Speaks::Http2,
                (Http2::Negotiated, true) => Speaks::Unknown,
                (Http2::Negotiated, false) | (Http2::Never, _) => Speaks::Http1,
            }),
            negotiates: over_tls && http2 == Http2::Negotiated,
            uri,
            host: HeaderValue::from_str(&authority).ok()?,
            base_path: parsed.path().trim_end_matches('/').to_owned(),
            idle: RefCell::default(),
            shared: RefCell::default(),
            opening: tokio::sync::Mutex::default(),
            round: Cell::new(0),
        })
    }

    /// It is no endpoint any more: nobody gets its connections. Those of HTTP/2 end with the last
    /// of their calls.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        let (idle, shared) = (self.idle.take(), self.shared.take());
        drop((idle, shared));
    }

    /// Writes its `Host` into a request that was pointed at another endpoint of the same upstream.
    pub(super) fn take_over<T>(&self, request: &mut Request<T>) {
        request.headers_mut().insert(HOST, self.host.clone());
    }

    /// Closes what was idle for long; whether any connection is left.
    fn sweep(&self, cx: &mut Context<'_>) -> bool {
        let round = self.round.get().wrapping_add(1);
        self.round.set(round);
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|live| round.wrapping_sub(live.idle_since) < MAX_IDLE_ROUNDS && live.is_alive(cx));
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| connection.is_alive() && connection.idle_rounds(round) < MAX_IDLE_ROUNDS);
        !idle.is_empty() || !shared.is_empty()
    }

    /// Points a request at this upstream: base path before its path, our `Host`, HTTP/1.1.
    pub(super) fn address<T>(&self, request: &mut Request<T>) -> Result<(), Error> {
        let wanted = request.uri().path_and_query().cloned();
        let wanted = wanted.unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = if self.base_path.is_empty() {
            wanted.into()
        } else {
            Uri::try_from(format!("{}{wanted}", self.base_path))
                .map_err(|_| Error::Bug("a normalised path is not a request target"))?
        };
        *request.version_mut() = http::Version::HTTP_11;
        request.headers_mut().insert(HOST, self.host.clone());
        Ok(())
    }

    /// Takes out an idle connection that is still open, or a place on a shared one.
    pub(super) fn check_out(&self, purpose: Purpose, cx: &mut Context<'_>) -> Option<Box<Live<B>>> {
        if self.speaks.get() != Speaks::Http1
            && let Some(live) = self.place(purpose)
        {
            return Some(live);
        }
        loop {
            let mut live = self.idle.borrow_mut().pop_back()?;
            if live.is_alive(cx) {
                return Some(live);
            }
        }
    }

    /// A place on the least used of the shared connections; none if another one should be opened.
    fn place(&self, purpose: Purpose) -> Option<Box<Live<B>>> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| connection.is_alive());
        let usable = shared
            .iter()
            .filter(|connection| purpose == Purpose::Request || connection.takes_websockets());
        let best = usable.min_by_key(|connection| connection.open())?;
        if best.room() == 0 && shared.len() < MAX_SHARED {
            return None;
        }
        best.touch(self.round.get());
        Some(Box::new(Live::shared(best.clone(), Used::Before)))
    }

    /// Opens a new connection; one of HTTP/2 may also have been opened by another call meanwhile.
    pub(super) fn dial(
        self: &Rc<Self>,
        pool: &Rc<Pool<B>>,
        purpose: Purpose,
        deadline: Duration,
    ) -> impl Future<Output = Result<Box<Live<B>>, NoConnection>> + 'static {
        let (origin, pool) = (self.clone(), pool.clone());
        async move {
            // A WebSocket needs no connection that others share.
            let offer = match (origin.speaks.get(), purpose) {
                (Speaks::Http1, _) if !origin.negotiates => Offer::Http1,
                (_, Purpose::WebSocket) if origin.negotiates => Offer::Http1,
                (_, _) if origin.negotiates => Offer::Either,
                (_, _) => Offer::Http2,
            };
            let turn = match (offer, origin.speaks.get()) {
                (Offer::Http1, _) | (_, Speaks::Http1) => None,
                (Offer::Http2 | Offer::Either, Speaks::Http2 | Speaks::Unknown) => {
                    let turn = pool.timer.timeout(deadline, origin.opening.lock()).await;
                    let turn = turn.map_err(|_| {
                        Error::UpstreamUnavailable("connecting took longer than `connect_timeout`".to_owned())
                    })?;
                    if let Some(live) = origin.place(purpose) {
                        return Ok(live);
                    }
                    let takes_none = |shared: &[Rc<Multiplexed<B>>]| {
                        !shared.is_empty() && !shared.iter().any(|connection| connection.takes_websockets())
                    };
                    if purpose == Purpose::WebSocket && takes_none(&origin.shared.borrow()) {
                        return Err(no_websockets());
                    }
                    // Connections of HTTP/1.1 are opened side by side.
                    (origin.speaks.get() != Speaks::Http1).then_some(turn)
                }
            };
            let io = origin.endpoint.connect(offer, deadline, &pool.timer).await?;
            let is_http2 = match offer {
                Offer::Http1 => false,
                Offer::Http2 => true,
                Offer::Either => {
                    let http2 = agreed_on_http2(&io);
                    origin
                        .speaks
                        .set(if http2 { Speaks::Http2 } else { Speaks::Http1 });
                    http2
                }
            };
            if !is_http2 {
                drop(turn);
                return Ok(Live::http1(io).await?);
            }
            let begun = Multiplexed::begin(io, &origin.uri, &pool.timer);
            let Ok(connection) = pool.timer.timeout(deadline, begun).await else {
                let reason = "it did not begin HTTP/2 within `connect_timeout`";
                return Err(Error::UpstreamUnavailable(reason.to_owned()).into());
            };
            let connection = connection?;
            let refused = purpose == Purpose::WebSocket && !connection.takes_websockets();
            connection.touch(origin.round.get());
            if !origin.retired.get() {
                origin.shared.borrow_mut().push(connection.clone());
                pool.sweep();
            }
            if refused {
                return Err(no_websockets());
            }
            Ok(Box::new(Live::shared(connection, Used::Fresh)))
        }
    }

    #[cfg(test)]
    pub(super) fn idle_connections(&self) -> usize {
        self.idle.borrow().len()
    }

    #[cfg(test)]
    pub(super) fn shared_connections(&self) -> usize {
        self.shared.borrow().len()
    }
}

impl<B: RequestBody> Live<B> {
    /// Begins HTTP/1.1 on a connection.
    async fn http1(io: Io) -> Result<Box<Self>, Error> {
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .handshake(io)
            .await
            .map_err(|_| Error::UpstreamUnavailable("the connection closed at once".to_owned()))?;
        Ok(Box::new(Self {
            wire: Wire::Http1 {
                sender,
                connection,
                state: State::Open,
                quiet: Rc::new(Quiet::new()),
            },
            used: Used::Fresh,
            expires: None,
            idle_since: 0,
        }))
    }

    fn shared(connection: Rc<Multiplexed<B>>, used: Used) -> Self {
        Self {
            wire: Wire::Http2(Stream::on(connection)),
            used,
            expires: None,
            idle_since: 0,
        }
    }

    /// Hands a request to the connection. It is sent when the connection is polled.
    pub(super) fn send(&mut self, request: Request<LimitedBody<B>>) -> Answer<B> {
        match &mut self.wire {
            Wire::Http1 { sender, quiet, .. } => {
                quiet.before_poll(|| -> Answer<B> { Box::pin(sender.try_send_request(request)) })
            }
            Wire::Http2(stream) => stream.send(request),
        }
    }

    /// What keeps polls of this connection from waking their own task; a shared one needs nothing.
    pub(super) fn quiet(&self) -> Option<Rc<Quiet>> {
        match &self.wire {
            Wire::Http1 { quiet, .. } => Some(quiet.clone()),
            Wire::Http2(_) => None,
        }
    }

    /// The place on a shared connection, if it is one.
    pub(super) fn http2(&self) -> Option<&Stream<B>> {
        match &self.wire {
            Wire::Http1 { .. } => None,
            Wire::Http2(stream) => Some(stream),
        }
    }

    /// Drives the connection; ready once it is closed or has become another protocol's. A shared
    /// one is driven by a task of its own, and whoever waits on it hears of its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Wire::Http1 {
            connection, state, ..
        } = &mut self.wire
        else {
            return Poll::Pending;
        };
        if *state == State::Open && Pin::new(connection).poll(cx).is_ready() {
            // An error has gone to whoever waits for the answer or its body.
            *state = State::Closed;
        }
        match state {
            State::Open => Poll::Pending,
            State::Closed => Poll::Ready(()),
        }
    }

    /// Remembers how long the upstream keeps an idle connection, less a second for the way.
    pub(super) fn note_keep_alive(&mut self, headers: &HeaderMap) {
        self.expires = headers
            .get(&KEEP_ALIVE)
            .and_then(|value| keep_alive_timeout(value.to_str().ok()?))
            .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds.saturating_sub(1))));
    }

    /// What is left of a connection that has become another protocol's: the socket, and what was
    /// read from it too far. None of a shared one.
    pub(super) fn into_io(self) -> Option<(Io, bytes::Bytes)> {
        let Wire::Http1 { connection, .. } = self.wire else {
            return None;
        };
        let parts = connection.into_parts();
        Some((parts.io, parts.read_buf))
    }

    fn is_ready(&self) -> bool {
        match &self.wire {
            Wire::Http1 { sender, state, .. } => *state == State::Open && sender.is_ready(),
            Wire::Http2(_) => false,
        }
    }

    /// Whether it can take a request now.
    fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        let expired = self.expires.is_some_and(|at| at <= Instant::now());
        !expired && quietly(self.quiet(), cx, |cx| self.poll(cx)).is_pending() && self.is_ready()
    }
}

/// It says so itself, so it is well: this keeps no other call from it.
fn no_websockets() -> NoConnection {
    NoConnection::Unsuitable(Error::UpstreamUnavailable(
        "it takes no WebSocket over HTTP/2, which the route's `http2: true` asks for".to_owned(),
    ))
}

/// The `timeout` parameter of a `Keep-Alive` header.
fn keep_alive_timeout(value: &str) -> Option<u64> {
    value.split(',').find_map(|parameter| {
        let (name, seconds) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("timeout")
            .then(|| seconds.trim().parse().ok())?
    })
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Idle connections kept for one endpoint by one core.
const MAX_IDLE: usize = 256;

/// HTTP/2 connections to one endpoint; beyond that calls wait for a place.
const MAX_SHARED: usize = 64;

/// How often the sweeper looks.
const SWEEP: Duration = Duration::from_secs(15);

/// Rounds of the sweeper that an idle connection survives: about a minute.
const MAX_IDLE_ROUNDS: u32 = 4;

/// Bounds an answer's head, and how much of a body is read ahead.
const MAX_BUFFER: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::super::connect::Place;
    use super::super::endpoint::Site;
    use super::super::limit::BoxError;
    use super::*;

    type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>;

    fn origin(url: &str) -> Origin<Body> {
        let upstreams = Upstreams::of(Url::parse(url).expect(url));
        let address = upstreams.addresses.first().expect("one");
        let site = Site::new(address, &upstreams, &super::super::tests::tls());
        let endpoint = Endpoint::new(Arc::new(site), Place::Tcp(Vec::new()), Arc::default());
        Origin::new(Arc::new(endpoint)).expect(url)
    }

    #[test]
    fn a_request_is_pointed_at_the_upstream_and_nowhere_else() {
        for (url, wanted, target, host) in [
            ("http://api:5000", "/a?b=c", "/a?b=c", "api:5000"),
            ("http://api:5000/", "/a", "/a", "api:5000"),
            ("https://api.example.com/v1", "/a?b", "/v1/a?b", "api.example.com"),
            ("https://api.example.com/v1/", "/", "/v1/", "api.example.com"),
            (
                "http://[::1]:5000",
                "//evil.example/",
                "//evil.example/",
                "[::1]:5000",
            ),
            ("http://user:pass@api", "/", "/", "api"),
            ("http://api", "http://evil.example/a", "/a", "api"),
        ] {
            let origin = origin(url);
            let mut request = Request::builder()
                .version(http::Version::HTTP_2)
                .uri(wanted)
                .header(HOST, "public.example.com")
                .body(())
                .expect("a request");
            origin.address(&mut request).expect(wanted);
            assert_eq!(request.uri().to_string(), target, "{url}");
            assert_eq!(request.headers().get_all(HOST).iter().collect::<Vec<_>>(), [host]);
            assert_eq!(request.version(), http::Version::HTTP_11);
        }
    }

    #[test]
    fn the_keep_alive_timeout_is_read() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("Timeout = 5, max=100", Some(5)),
            ("max=100, timeout=72", Some(72)),
            ("max=100", None),
            ("timeout=", None),
            ("timeout=-1", None),
            ("", None),
        ] {
            assert_eq!(keep_alive_timeout(value), seconds, "{value}");
        }
    }
}
