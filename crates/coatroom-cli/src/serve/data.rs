//! One data core: accepts connections and serves HTTP/1.1 and HTTP/2 on them.
//!
//! A connection is handed to HTTP only once it has something to read, so one that was opened and
//! never used holds no buffer. Under TLS the protocol is the one agreed by ALPN; in the clear it
//! is HTTP/2 where the client begins with its preface (RFC 9113 §3.3), else HTTP/1.1. Heads are
//! bounded in size and time, and so are handshakes and idle connections. Everything stays on this
//! thread. Nothing here looks at a request.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use coatroom::Peer;
use coatroom::timer::CoarseTimer;
use futures_util::TryFutureExt as _;
use futures_util::future::MapOk;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tower::util::Oneshot;

use super::connections::{Connections, Open};
use super::listener::{self, Accepted, Bound};

/// A service that can be served on a data core. It need not be `Send`.
pub(crate) trait HttpService:
    tower::Service<
        Request<Incoming>,
        Response = Response<Self::ResponseBody>,
        Error: Into<BoxError>,
        Future: 'static,
    > + Clone
    + 'static
{
    /// The body of its answers.
    type ResponseBody: Body<Error: Into<BoxError>> + 'static;
}

impl<S, B> HttpService for S
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: 'static>
        + Clone
        + 'static,
    B: Body<Error: Into<BoxError>> + 'static,
{
    type ResponseBody = B;
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Until a head is complete; a connection that idles this long is closed too.
    pub(crate) header_timeout: Duration,
    /// Until a TLS handshake is complete.
    pub(crate) handshake_timeout: Duration,
    /// The longest head, in bytes.
    pub(crate) head_size: u32,
    /// Concurrent streams of one HTTP/2 connection.
    pub(crate) streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            head_size: 64 * 1024,
            streams: 200,
        }
    }
}

/// What a data core is started with.
pub(super) struct DataCore {
    pub(super) socket: Bound,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) limits: Limits,
    pub(super) drain: Duration,
    /// Turns true when the core is to stop.
    pub(super) stop: watch::Receiver<bool>,
    pub(super) timer: CoarseTimer,
}

/// Accepts and serves until told to stop, then until the connections are done or the time for
/// that is over.
pub(super) async fn serve<S: HttpService>(
    mut core: DataCore,
    service: S,
    started: impl FnOnce(),
) -> std::io::Result<()> {
    let mut listener = core.socket.listen()?;
    let connections = Connections::default();
    let stopping = Rc::new(Cell::new(false));
    let server = Server::new(
        service,
        core.tls,
        core.limits,
        core.timer.clone(),
        stopping.clone(),
    );
    let server = Rc::new(server);
    let serve = |accepted| {
        tokio::task::spawn_local(server.clone().connection(accepted, connections.open()));
    };
    started();
    loop {
        tokio::select! {
            biased;
            // A stop that can no longer come is a stop.
            _ = core.stop.wait_for(|stop| *stop) => break,
            accepted = listener::accept(&mut listener) => serve(accepted),
        }
    }
    stopping.set(true);
    // Whoever connected or sent something before the signal is answered: the kernel hands it out
    // over the next turns of the loop.
    let last_call = Instant::now() + LAST_CALL;
    while Instant::now() < last_call {
        tokio::select! {
            biased;
            accepted = listener::accept(&mut listener) => serve(accepted),
            () = tokio::time::sleep_until(last_call) => {}
        }
    }
    drop(listener);
    tokio::time::sleep(LAST_CALL).await;
    connections.drain();
    let _ = core.timer.timeout(core.drain, connections.all_closed()).await;
    Ok(())
}

/// What the connections of a core share.
struct Server<S> {
    service: S,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    timer: CoarseTimer,
    /// Whether the process is about to stop: answers say so from then on.
    stopping: Rc<Cell<bool>>,
    http1: http1::Builder,
    http2: http2::Builder<Local>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl<S: HttpService> Server<S> {
    fn new(
        service: S,
        tls: Option<Arc<ServerConfig>>,
        limits: Limits,
        timer: CoarseTimer,
        stopping: Rc<Cell<bool>>,
    ) -> Self {
        let head_size = usize::try_from(limits.head_size).unwrap_or(usize::MAX);
        let mut http1 = http1::Builder::new();
        http1
            .timer(timer.clone())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(head_size.max(SMALLEST_BUFFER));
        let mut http2 = http2::Builder::new(Local);
        http2
            .timer(timer.clone())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.head_size)
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(PING_TIMEOUT);
        Self {
            service,
            tls: tls.map(TlsAcceptor::from),
            limits,
            timer,
            stopping,
            http1,
            http2,
        }
    }

    /// One connection, from the first byte to the last.
    async fn connection(self: Rc<Self>, accepted: Accepted, mut open: Open) {
        let peer = Peer {
            address: match &accepted {
                Accepted::Tcp(_, address) => Some(*address),
                Accepted::Unix(_) => None,
            },
            tls: self.tls.is_some(),
        };
        let stream = match accepted {
            Accepted::Tcp(stream, _) => Stream::Tcp(stream),
            Accepted::Unix(stream) => Stream::Unix(stream),
        };
        let first = self.timer.timeout(self.limits.header_timeout, stream.begin());
        let Some(Ok(Some(protocol))) = open.unless_draining(first).await else {
            return;
        };
        match (&self.tls, stream) {
            (Some(tls), Stream::Tcp(stream)) => self.secure(tls, stream, peer, open).await,
            (Some(tls), Stream::Unix(stream)) => self.secure(tls, stream, peer, open).await,
            (None, Stream::Tcp(stream)) => self.http(stream, protocol, peer, open).await,
            (None, Stream::Unix(stream)) => self.http(stream, protocol, peer, open).await,
        }
    }

    async fn secure<T>(&self, tls: &TlsAcceptor, stream: T, peer: Peer, mut open: Open)
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = self
            .timer
            .timeout(self.limits.handshake_timeout, tls.accept(stream));
        let Some(Ok(Ok(stream))) = open.unless_draining(handshake).await else {
            tracing::debug!("a tls handshake failed or took too long");
            return;
        };
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        self.http(stream, protocol, peer, open).await;
    }

    async fn http<T>(&self, stream: T, protocol: Protocol, peer: Peer, mut open: Open)
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let heard = Rc::new(Cell::new(false));
        let service = PerConnection {
            service: self.service.clone(),
            peer,
            heard: heard.clone(),
            stopping: self.stopping.clone(),
        };
        let io = TokioIo::new(stream);
        let outcome = match protocol {
            Protocol::Http1 => {
                let connection = pin!(self.http1.serve_connection(io, service).with_upgrades());
                drive(connection, &mut open).await
            }
            Protocol::Http2 => {
                let connection = pin!(self.http2.serve_connection(io, service));
                let driven = drive(connection, &mut open);
                // HTTP/1.1 minds its heads itself; here a client could stop after the preface.
                self.unless_silent(driven, &heard).await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// Ends a connection over which no request comes in time.
    async fn unless_silent(
        &self,
        connection: impl Future<Output = hyper::Result<()>>,
        heard: &Cell<bool>,
    ) -> hyper::Result<()> {
        let mut connection = pin!(connection);
        let mut deadline = self.timer.sleep(self.limits.header_timeout);
        let silent = std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            if heard.get() {
                return Poll::Ready(None);
            }
            Pin::new(&mut deadline).poll(cx).map(|()| Some(Ok(())))
        });
        match silent.await {
            Some(outcome) => outcome,
            None => connection.await,
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Waits for the first bytes and tells the protocol they begin, without taking them; none
    /// when the connection ends.
    async fn begin(&self) -> Option<Protocol> {
        match self {
            Self::Tcp(stream) => {
                let mut start = [0; PREFACE.len()];
                let count = stream.peek(&mut start).await.ok().filter(|count| *count > 0)?;
                let _ = stream.set_nodelay(true);
                Some(if start == *PREFACE && count == PREFACE.len() {
                    Protocol::Http2
                } else {
                    Protocol::Http1
                })
            }
            // A Unix socket cannot be peeked at: what is in front of it speaks HTTP/1.1.
            Self::Unix(stream) => stream.readable().await.ok().map(|()| Protocol::Http1),
        }
    }
}

/// Polls a connection, and tells it once to end when the core drains.
async fn drive<C: Graceful>(mut connection: Pin<&mut C>, open: &mut Open) -> hyper::Result<()> {
    let mut told = false;
    std::future::poll_fn(|cx| {
        // a request that is there already is taken before the connection is told to end
        if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        if !told && open.is_draining(cx) {
            told = true;
            connection.as_mut().end();
            return connection.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

/// A connection that can be asked to end after the requests in flight.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::UpgradeableConnection<I, PerConnection<S>>
where
    I: Read + Write + Unpin + Send + 'static,
    S: HttpService,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Graceful for http2::Connection<I, PerConnection<S>, Local>
where
    I: Read + Write + Unpin + 'static,
    S: HttpService,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// The service as one connection sees it: it knows its peer.
struct PerConnection<S> {
    service: S,
    peer: Peer,
    /// Whether a request has come.
    heard: Rc<Cell<bool>>,
    stopping: Rc<Cell<bool>>,
}

impl<S: HttpService> hyper::service::Service<Request<Incoming>> for PerConnection<S> {
    type Response = Response<S::ResponseBody>;
    type Error = S::Error;
    type Future = MapOk<Oneshot<S, Request<Incoming>>, Last<S::ResponseBody>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.heard.set(true);
        request.extensions_mut().insert(self.peer);
        // HTTP/2 has a frame for this
        let is_last = self.stopping.get() && request.version() <= Version::HTTP_11;
        let last: Last<S::ResponseBody> = if is_last { closing } else { |response| response };
        self.service.clone().oneshot(request).map_ok(last)
    }
}

/// What becomes of an answer that may be the last one of its connection.
type Last<B> = fn(Response<B>) -> Response<B>;

/// Tells the client not to send another request over this connection (RFC 9112 §9.6).
fn closing<B>(mut response: Response<B>) -> Response<B> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// Runs what a connection starts on its own thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// How long after the signal new connections are still taken, and then how long what they and the
/// others have sent is still read before idle ones are closed.
const LAST_CALL: Duration = Duration::from_millis(100);

/// Enough of the HTTP/2 preface to tell it from any method of HTTP/1.1.
const PREFACE: &[u8; 4] = b"PRI ";

/// What hyper needs at least.
const SMALLEST_BUFFER: usize = 8 * 1024;

/// Until an HTTP/2 client that does not answer pings counts as gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;

#[cfg(test)]
mod framing_tests;
#[cfg(test)]
mod http2_tests;
#[cfg(test)]
mod raw_upstream;
