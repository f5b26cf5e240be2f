//! One connection, from the first byte to the last: HTTP/1.1 or HTTP/2 on it, under TLS or not.
//!
//! A connection is handed to HTTP only once it has something to read, and taken out of HTTP again
//! when it idles (`idle.rs`), so one that is not used holds no buffer. Under TLS the protocol is the one
//! agreed by ALPN; in the clear it is HTTP/2 where the client begins with its preface
//! (RFC 9113 §3.3), else HTTP/1.1. Heads are bounded in size and time, and so are handshakes and idle
//! connections. Nothing here looks at a request.

use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use coatroom::Peer;
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::super::admission::{Occupied, Reason};
use super::super::connections::{Open, Word};
use super::super::guarded::{Guarded, Watch};
use super::super::idle::{self, Activity, Home, Idle};
use super::super::listener::Accepted;
use super::super::proxy_protocol;
use super::answering::PerConnection;
use super::ending::{Ending, Step};
use super::{HttpService, Limits};

/// What the connections of a core share.
pub(super) struct Server<S> {
    service: S,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    watch: Watch,
    /// Whether the process is about to stop: answers say so from then on.
    stopping: Rc<Cell<bool>>,
    idle: Idle,
    http1: http1::Builder,
    http2: http2::Builder<Local>,
}

/// Why there is no first byte.
enum First {
    Gone,
    Late,
    Told,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl<S: HttpService> Server<S> {
    pub(super) fn new(
        service: S,
        tls: Option<Arc<ServerConfig>>,
        limits: Limits,
        watch: Watch,
        stopping: Rc<Cell<bool>>,
    ) -> Self {
        let timer = &watch.timer;
        let head_size = usize::try_from(limits.head_size).unwrap_or(usize::MAX);
        let mut http1 = http1::Builder::new();
        http1
            .timer(timer.clone())
            .header_read_timeout(limits.header_timeout)
            .max_header_size(head_size)
            .max_buf_size(head_size.max(SMALLEST_BUFFER));
        let mut http2 = http2::Builder::new(Local);
        http2
            .timer(timer.clone())
            .max_concurrent_streams(limits.streams)
            // more CONTINUATION frames than such a list needs end the connection
            .max_header_list_size(limits.head_size)
            .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPTED)
            .max_local_error_reset_streams(RESET_FOR_ERRORS)
            .max_send_buf_size(STREAM_BUFFER)
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(PING_TIMEOUT)
            // WebSockets over HTTP/2 (RFC 8441): the core's guard judges them as any other
            .enable_connect_protocol();
        Self {
            service,
            tls: tls.map(TlsAcceptor::from),
            limits,
            idle: Idle::new(watch.timer.clone()),
            watch,
            stopping,
            http1,
            http2,
        }
    }

    /// One connection, from the first byte to the last.
    pub(super) async fn connection(self: Rc<Self>, accepted: Accepted, open: Open, mut place: Occupied) {
        let (mut stream, address) = match accepted {
            Accepted::Tcp(stream, address) => (Stream::Tcp(stream), Some(address)),
            Accepted::Unix(stream) => (Stream::Unix(stream), None),
        };
        let tls = self.tls.is_some();
        let admission = &self.watch.admission;
        let address = if admission.wants_proxy_protocol() {
            match Box::pin(self.proxied(&mut stream, address, &open)).await {
                Ok(address) => address,
                Err(Some(reason)) => return admission.count(reason),
                Err(None) => return self.made_room(&open),
            }
        } else {
            address
        };
        if !place.claim(address) {
            return admission.count(Reason::Address);
        }
        let peer = Peer { address, tls };
        // By hand, since each layer of futures would hold the one below twice.
        let mut deadline = self.watch.timer.sleep(self.limits.header_timeout);
        let first = std::future::poll_fn(|cx| {
            if let Poll::Ready(protocol) = stream.poll_begin(cx) {
                return Poll::Ready(protocol.ok_or(First::Gone));
            }
            if !matches!(open.word(cx), Word::GoOn) {
                return Poll::Ready(Err(First::Told));
            }
            Pin::new(&mut deadline).poll(cx).map(|()| Err(First::Late))
        });
        let protocol = match first.await {
            Ok(protocol) => protocol,
            Err(First::Gone) => return,
            Err(First::Late) => return admission.count(Reason::NoRequest),
            Err(First::Told) => return self.made_room(&open),
        };
        drop(deadline);
        let watch = self.watch.clone();
        // In boxes: until something comes a connection is what is above, and no larger.
        match stream {
            Stream::Tcp(stream) => {
                let stream = Guarded::new(stream, open.moved(), watch, place);
                Box::pin(self.begin(stream, protocol, peer, open)).await;
            }
            Stream::Unix(stream) => {
                let stream = Guarded::new(stream, open.moved(), watch, place);
                Box::pin(self.begin(stream, protocol, peer, open)).await;
            }
        }
    }

    async fn begin<T: idle::Stream>(&self, stream: T, protocol: Protocol, peer: Peer, open: Open) {
        match &self.tls {
            Some(tls) => Box::pin(self.secure(tls, stream, peer, open)).await,
            None => Box::pin(self.http(stream, protocol, peer, open)).await,
        }
    }

    /// Who is behind the load balancer. Fails without a reason when the connection is told to end.
    async fn proxied(
        &self,
        stream: &mut Stream,
        peer: Option<IpAddr>,
        open: &Open,
    ) -> Result<Option<IpAddr>, Option<Reason>> {
        let admission = &self.watch.admission;
        if !admission.lists(peer) {
            tracing::debug!("a peer that is not in `trusted_peers` connected, its connection is closed");
            return Err(Some(Reason::UnlistedPeer));
        }
        let header = async {
            match stream {
                Stream::Tcp(stream) => proxy_protocol::read(stream).await,
                Stream::Unix(stream) => proxy_protocol::read(stream).await,
            }
        };
        let header = self.watch.timer.timeout(self.limits.handshake_timeout, header);
        match open.unless_told(header).await {
            Some(Ok(Ok(client))) => Ok(client.or(peer)),
            Some(Ok(Err(error))) => {
                tracing::debug!(%error, "a connection is closed");
                Err(Some(Reason::ProxyProtocol))
            }
            Some(Err(_)) => Err(Some(Reason::ProxyProtocol)),
            None => Err(None),
        }
    }

    /// Counts a connection that was told to end because others wait for its place.
    fn made_room(&self, open: &Open) {
        if open.made_room() {
            self.watch.admission.count(Reason::Crowded);
        }
    }

    async fn secure<T: idle::Stream>(&self, tls: &TlsAcceptor, stream: T, peer: Peer, open: Open) {
        // In a box, since it is over when the connection has hardly begun.
        let handshake = Box::pin(
            self.watch
                .timer
                .timeout(self.limits.handshake_timeout, tls.accept(stream)),
        );
        let stream = match open.unless_told(handshake).await {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(_)) | Err(_)) => {
                tracing::debug!("a tls handshake failed or took too long");
                return self.watch.admission.count(Reason::Handshake);
            }
            None => return self.made_room(&open),
        };
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Box::pin(self.http(stream, protocol, peer, open)).await;
    }

    async fn http<T: idle::Stream>(&self, stream: T, protocol: Protocol, peer: Peer, open: Open) {
        let activity = Rc::<Activity>::default();
        let outcome = match protocol {
            Protocol::Http1 => self.http1(stream, peer, &activity, &open).await,
            Protocol::Http2 => Box::pin(self.http2(stream, peer, &activity, &open)).await,
        };
        self.made_room(&open);
        if let Err(error) = outcome {
            if error.is_timeout() && !activity.has_begun() {
                self.watch.admission.count(Reason::NoRequest);
            }
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// In and out of HTTP, as requests come and stay away.
    async fn http1<T: idle::Stream>(
        &self,
        mut stream: T,
        peer: Peer,
        activity: &Rc<Activity>,
        open: &Open,
    ) -> hyper::Result<()> {
        let timer = &self.watch.timer;
        loop {
            let wait = timer.timeout(self.limits.header_timeout, stream.readable());
            let came = open.unless_told(wait).await;
            if !matches!(came, Some(Ok(()))) {
                if came.is_some() && !activity.has_begun() {
                    self.watch.admission.count(Reason::NoRequest);
                }
                // TLS says goodbye here; a client that does not let it is not waited for.
                let _ = timer.timeout(GOODBYE, stream.shutdown()).await;
                return Ok(());
            }
            let (home, lent) = Home::lend(stream);
            let mut watched = self.idle.watch(activity.clone());
            let service = self.service_of(peer, activity);
            let connection = self.http1.serve_connection(TokioIo::new(lent), service);
            let mut connection = Box::pin(connection.with_upgrades());
            let can_rest = |cx: &mut Context<'_>| watched.can_rest(&home, cx);
            if let Some(outcome) = drive(connection.as_mut(), open, activity, can_rest).await {
                return outcome;
            }
            drop(connection);
            stream = match home.take() {
                Some(stream) => stream,
                None => return Ok(()),
            };
        }
    }

    async fn http2<T: idle::Stream>(
        &self,
        stream: T,
        peer: Peer,
        activity: &Rc<Activity>,
        open: &Open,
    ) -> hyper::Result<()> {
        let service = self.service_of(peer, activity);
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(stream), service));
        let watched = self.idle.watch(activity.clone());
        let mut ending = Ending::new(&self.watch.timer, self.limits, open, activity.clone(), watched);
        std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
                    return Poll::Ready(outcome);
                }
                match std::task::ready!(ending.poll(cx)) {
                    Step::Tell => connection.as_mut().graceful_shutdown(),
                    Step::Cut(reason) => {
                        if let Some(reason) = reason {
                            self.watch.admission.count(reason);
                        }
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        })
        .await
    }

    fn service_of(&self, peer: Peer, activity: &Rc<Activity>) -> PerConnection<S> {
        let service = self.service.clone();
        PerConnection::new(service, peer, activity.clone(), self.stopping.clone())
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Waits for the first bytes and tells the protocol they begin, without taking them; none
    /// when the connection ends.
    fn poll_begin(&self, cx: &mut Context<'_>) -> Poll<Option<Protocol>> {
        match self {
            Self::Tcp(stream) => {
                let mut start = [0; PREFACE.len()];
                let mut start = ReadBuf::new(&mut start);
                let outcome = std::task::ready!(stream.poll_peek(cx, &mut start));
                let _ = stream.set_nodelay(true);
                Poll::Ready(match (outcome, start.filled()) {
                    (Err(_), _) | (Ok(_), []) => None,
                    (Ok(_), start) if start == PREFACE => Some(Protocol::Http2),
                    (Ok(_), _) => Some(Protocol::Http1),
                })
            }
            // A Unix socket cannot be peeked at: what is in front of it speaks HTTP/1.1.
            Self::Unix(stream) => stream
                .poll_read_ready(cx)
                .map(|outcome| outcome.ok().map(|()| Protocol::Http1)),
        }
    }
}

/// Polls a connection, and tells it once to end when it should. One over which no request ever came
/// is over at once when others wait for its place. None when it can rest.
async fn drive<I, S>(
    mut connection: Pin<&mut http1::UpgradeableConnection<I, PerConnection<S>>>,
    open: &Open,
    activity: &Activity,
    mut can_rest: impl FnMut(&mut Context<'_>) -> bool,
) -> Option<hyper::Result<()>>
where
    I: Read + Write + Unpin + Send + 'static,
    S: HttpService,
{
    let mut told = false;
    std::future::poll_fn(|cx| {
        // a request that is there already is taken before the connection is told to end
        if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if told {
            return Poll::Pending;
        }
        match open.word(cx) {
            Word::GoOn if can_rest(cx) => return Poll::Ready(None),
            Word::GoOn => return Poll::Pending,
            Word::MakeRoom if !activity.has_begun() => return Poll::Ready(Some(Ok(()))),
            Word::MakeRoom | Word::Drain => {}
        }
        told = true;
        connection.as_mut().graceful_shutdown();
        connection.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Runs what a connection starts on its own thread.
#[derive(Clone, Copy)]
pub(super) struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Enough of the HTTP/2 preface to tell it from any method of HTTP/1.1.
const PREFACE: &[u8; 4] = b"PRI ";

/// How long an idle connection may take to be closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// What hyper needs at least.
const SMALLEST_BUFFER: usize = 8 * 1024;

/// Streams that a client reset before they were looked at (rapid reset, CVE-2023-44487); one more ends
/// the connection. As h2 has it by default.
const RESET_BEFORE_ACCEPTED: usize = 20;

/// Streams that we reset for errors a client provoked (CVE-2025-8671); one more ends the connection.
/// hyper's default is 1024, which is for clients that err and mean it.
const RESET_FOR_ERRORS: usize = 128;

/// What is kept of one stream's answer while its client has no window; hyper's default is 400 KiB.
const STREAM_BUFFER: usize = 64 * 1024;

/// Until an HTTP/2 client that does not answer pings counts as gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
