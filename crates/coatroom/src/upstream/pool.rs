//! Idle connections of one core, by upstream.
//!
//! A connection is driven by whoever uses it: nothing is spawned for it. While it is idle nobody
//! polls it, so it is polled once when it is taken out (an upstream that has hung up is seen
//! then) and from time to time by one sweeper for all, which also closes what has been idle for
//! long. A connection goes back only when request and response are both complete. It is never
//! shared between cores and carries no state of a request.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use coatroom_core::error::Error;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest};
use tokio::time::Instant;

use super::connect::{Connector, Io};
use super::limit::{LimitedBody, RequestBody};
use crate::timer::CoarseTimer;

/// One core's connections and what opens new ones.
pub(super) struct Pool<B: RequestBody> {
    pub(super) connector: Connector,
    pub(super) timer: CoarseTimer,
    origins: RefCell<Vec<Rc<Origin<B>>>>,
    sweeping: Cell<bool>,
}

/// One upstream as configured: origin and base path.
pub(super) struct Origin<B: RequestBody> {
    url: String,
    /// Scheme and authority.
    uri: Uri,
    host: HeaderValue,
    /// Without a trailing slash; empty for the root.
    base_path: String,
    idle: RefCell<VecDeque<Box<Live<B>>>>,
    /// How often the sweeper came by: the age of idle connections is counted in this.
    round: Cell<u32>,
}

/// An open connection.
pub(super) struct Live<B: RequestBody> {
    sender: SendRequest<LimitedBody<B>>,
    connection: Connection<Io, LimitedBody<B>>,
    state: State,
    /// Whether it has served a request before this one.
    pub(super) used: Used,
    /// When the upstream said it would close it (`Keep-Alive: timeout`).
    expires: Option<Instant>,
    /// The sweeper's round in which it became idle.
    idle_since: u32,
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
            origins: RefCell::default(),
            sweeping: Cell::new(false),
        })
    }

    /// The upstream at `url`, which is an origin with an optional base path.
    pub(super) fn origin(&self, url: &str) -> Result<Rc<Origin<B>>, Error> {
        let mut origins = self.origins.borrow_mut();
        if let Some(known) = origins.iter().find(|origin| origin.url == url) {
            return Ok(known.clone());
        }
        let origin = Rc::new(Origin::new(url).ok_or(Error::Bug("a checked upstream url does not parse"))?);
        origins.push(origin.clone());
        Ok(origin)
    }

    /// Keeps a connection whose request and response are complete; closes it otherwise.
    pub(super) fn check_in(
        self: &Rc<Self>,
        origin: &Origin<B>,
        mut live: Box<Live<B>>,
        cx: &mut Context<'_>,
    ) {
        if !live.is_ready() {
            let _ = live.poll(cx);
        }
        if !live.is_ready() {
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
        for origin in self.origins.borrow().iter() {
            let round = origin.round.get().wrapping_add(1);
            origin.round.set(round);
            let mut idle = origin.idle.borrow_mut();
            idle.retain_mut(|live| {
                round.wrapping_sub(live.idle_since) < MAX_IDLE_ROUNDS && live.is_alive(&mut cx)
            });
            left |= !idle.is_empty();
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
    fn new(url: &str) -> Option<Self> {
        let parsed = Uri::try_from(url).ok()?;
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
        Some(Self {
            url: url.to_owned(),
            uri,
            host: HeaderValue::from_str(&authority).ok()?,
            base_path: parsed.path().trim_end_matches('/').to_owned(),
            idle: RefCell::default(),
            round: Cell::new(0),
        })
    }

    /// Points a request at this upstream: base path before its path, our `Host`, HTTP/1.1.
    pub(super) fn address<T>(&self, request: &mut Request<T>) -> Result<(), Error> {
        let wanted = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let uri = if self.base_path.is_empty() {
            Uri::try_from(wanted)
        } else {
            Uri::try_from(format!("{}{wanted}", self.base_path))
        };
        *request.uri_mut() = uri.map_err(|_| Error::Bug("a normalised path is not a request target"))?;
        *request.version_mut() = http::Version::HTTP_11;
        request.headers_mut().insert(HOST, self.host.clone());
        Ok(())
    }

    /// Takes out an idle connection that is still open.
    pub(super) fn check_out(&self, cx: &mut Context<'_>) -> Option<Box<Live<B>>> {
        loop {
            let mut live = self.idle.borrow_mut().pop_back()?;
            if live.is_alive(cx) {
                return Some(live);
            }
        }
    }

    /// Opens a new connection.
    pub(super) fn dial(
        &self,
        pool: &Pool<B>,
        deadline: Duration,
    ) -> impl Future<Output = Result<Box<Live<B>>, Error>> + 'static {
        let connecting = pool.connector.connect(self.uri.clone(), deadline, &pool.timer);
        async move {
            let io = connecting.await?;
            let (sender, connection) = hyper::client::conn::http1::Builder::new()
                .max_buf_size(MAX_BUFFER)
                .handshake(io)
                .await
                .map_err(|_| Error::UpstreamUnavailable("the connection closed at once".to_owned()))?;
            Ok(Box::new(Live {
                sender,
                connection,
                state: State::Open,
                used: Used::Fresh,
                expires: None,
                idle_since: 0,
            }))
        }
    }

    #[cfg(test)]
    pub(super) fn idle_connections(&self) -> usize {
        self.idle.borrow().len()
    }
}

impl<B: RequestBody> Live<B> {
    /// Hands a request to the connection. It is sent when the connection is polled.
    pub(super) fn send(&mut self, request: Request<LimitedBody<B>>) -> Answer<B> {
        Box::pin(self.sender.try_send_request(request))
    }

    /// Drives the connection; ready once it is closed or has become another protocol's.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state == State::Open && Pin::new(&mut self.connection).poll(cx).is_ready() {
            // An error has gone to whoever waits for the answer or its body.
            self.state = State::Closed;
        }
        match self.state {
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
    /// read from it too far.
    pub(super) fn into_io(self) -> (Io, bytes::Bytes) {
        let parts = self.connection.into_parts();
        (parts.io, parts.read_buf)
    }

    fn is_ready(&self) -> bool {
        self.state == State::Open && self.sender.is_ready()
    }

    /// Whether it can take a request now.
    fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        let expired = self.expires.is_some_and(|at| at <= Instant::now());
        !expired && self.poll(cx).is_pending() && self.is_ready()
    }
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

/// Idle connections kept for one upstream by one core.
const MAX_IDLE: usize = 256;

/// How often the sweeper looks.
const SWEEP: Duration = Duration::from_secs(15);

/// Rounds of the sweeper that an idle connection survives: about a minute.
const MAX_IDLE_ROUNDS: u32 = 4;

/// Bounds an answer's head, and how much of a body is read ahead.
const MAX_BUFFER: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::super::limit::BoxError;
    use super::*;

    type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>;

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
            let origin = Origin::<Body>::new(url).expect(url);
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
