//! HTTP/2 connections to upstreams (RFC 9113): one, or a few, for each core and upstream.
//!
//! Many calls share such a connection, so no single call can drive it, as it is done with
//! HTTP/1.1: a task on the same thread does. A connection takes calls once the upstream's SETTINGS
//! are known, so its limit on streams is kept from the first call on, and whether it takes
//! WebSockets (RFC 8441) is known. What a call needs is a [`Stream`], a place on a connection;
//! dropping the answer resets it. Flow control of a stream is the back-pressure of its call:
//! window and send buffer bound what is held of a body. It never decides whether a call may be
//! repeated; it only says what the upstream provably did not process.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use coatroom_core::error::Error;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Scheme};
use http::{Request, Uri, Version};
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Io;
use super::limit::{LimitedBody, RequestBody};
use super::pool::Answer;
use crate::timer::CoarseTimer;

/// One connection, shared by the calls of one core.
pub(super) struct Multiplexed<B: RequestBody> {
    sender: SendRequest<LimitedBody<B>>,
    connection: Driven<B>,
    scheme: Scheme,
    authority: Authority,
    /// Calls that have a place on it.
    open: Cell<usize>,
    /// The upstream takes no further call on it.
    going_away: Cell<bool>,
    /// The sweeper's round in which the last call left.
    idle_since: Cell<u32>,
}

/// A call's place on a connection.
pub(super) struct Stream<B: RequestBody> {
    connection: Rc<Multiplexed<B>>,
}

type Driven<B> = Rc<RefCell<Connection<Wire, LimitedBody<B>, Local>>>;
type Wire = TokioIo<Greeted<TokioIo<Io>>>;

impl<B: RequestBody> Multiplexed<B> {
    /// Begins HTTP/2 on a connection, and waits for the upstream's SETTINGS.
    pub(super) async fn begin(io: Io, origin: &Uri, timer: &CoarseTimer) -> Result<Rc<Self>, Error> {
        let (Some(scheme), Some(authority)) = (origin.scheme(), origin.authority()) else {
            return Err(Error::Bug("an upstream without scheme or authority"));
        };
        let greeting = Rc::new(Greeting::default());
        let io = Greeted {
            io: TokioIo::new(io),
            greeting: greeting.clone(),
            head: Vec::new(),
        };
        let (sender, connection) = Builder::new(Local)
            .timer(timer.clone())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|_| Error::UpstreamUnavailable("the connection closed at once".to_owned()))?;
        let connection = Rc::new(RefCell::new(connection));
        let driven = connection.clone();
        tokio::task::spawn_local(std::future::poll_fn(move |cx| {
            Pin::new(&mut *driven.borrow_mut()).poll(cx).map(drop)
        }));
        greeting.arrived().await?;
        Ok(Rc::new(Self {
            sender,
            connection,
            scheme: scheme.clone(),
            authority: authority.clone(),
            open: Cell::new(0),
            going_away: Cell::new(false),
            idle_since: Cell::new(0),
        }))
    }

    /// Whether it can take a call now or later.
    pub(super) fn is_alive(&self) -> bool {
        !self.going_away.get() && !self.sender.is_closed()
    }

    /// How many more calls it may take now, by the upstream's limit and ours.
    pub(super) fn room(&self) -> usize {
        let limit = self
            .connection
            .try_borrow()
            .map_or(MAX_STREAMS, |connection| connection.current_max_send_streams());
        limit.min(MAX_STREAMS).saturating_sub(self.open.get())
    }

    /// Calls that have a place on it.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Whether the upstream takes WebSockets over it (RFC 8441 §3).
    pub(super) fn takes_websockets(&self) -> bool {
        self.connection
            .try_borrow()
            .is_ok_and(|connection| connection.is_extended_connect_protocol_enabled())
    }

    /// For how many of the sweeper's rounds nobody has used it.
    pub(super) fn idle_rounds(&self, round: u32) -> u32 {
        if self.open.get() > 0 {
            self.idle_since.set(round);
        }
        round.wrapping_sub(self.idle_since.get())
    }

    /// Notes that it is used now.
    pub(super) fn touch(&self, round: u32) {
        self.idle_since.set(round);
    }
}

impl<B: RequestBody> Stream<B> {
    /// Takes a place.
    pub(super) fn on(connection: Rc<Multiplexed<B>>) -> Self {
        connection.open.set(connection.open.get().saturating_add(1));
        Self { connection }
    }

    /// Hands a request over. One above the upstream's limit waits until another is over.
    pub(super) fn send(&self, request: Request<LimitedBody<B>>) -> Answer<B> {
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.into_parts().path_and_query;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.connection.scheme.clone());
        uri.authority = Some(self.connection.authority.clone());
        uri.path_and_query = target.or_else(|| Some(http::uri::PathAndQuery::from_static("/")));
        parts.uri = Uri::from_parts(uri).expect("all three parts are there");
        parts.version = Version::HTTP_2;
        // RFC 9113 §8.2.2; `:authority` says what `Host` said
        for name in [HOST, CONNECTION, UPGRADE, TRANSFER_ENCODING] {
            parts.headers.remove(name);
        }
        let request = Request::from_parts(parts, body);
        Box::pin(self.connection.sender.clone().try_send_request(request))
    }

    /// Nothing new is to be begun on its connection.
    pub(super) fn retire(&self) {
        self.connection.going_away.set(true);
    }
}

impl<B: RequestBody> Drop for Stream<B> {
    fn drop(&mut self) {
        let open = self.connection.open.get().saturating_sub(1);
        self.connection.open.set(open);
    }
}

/// What an upstream said about a call that it did not process (RFC 9113 §8.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unprocessed {
    /// This call only.
    Refused,
    /// Everything from this call on, since the connection is going away.
    GoingAway,
}

/// What the upstream provably did not process: a stream reset with REFUSED_STREAM, or one above
/// the last that a GOAWAY names; `h2` gives a GOAWAY of the peer as error to no other stream.
pub(super) fn unprocessed(error: &hyper::Error) -> Option<Unprocessed> {
    let cause = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    if !cause.is_remote() {
        return None;
    }
    if cause.is_go_away() {
        return Some(Unprocessed::GoingAway);
    }
    (cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Unprocessed::Refused)
}

/// Whether the upstream's first frame has come, which is its SETTINGS (RFC 9113 §3.4).
#[derive(Default)]
struct Greeting {
    state: Cell<Heard>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Heard {
    #[default]
    Nothing,
    Settings,
    /// The connection is closed, or what came was no HTTP/2.
    Nonsense,
}

impl Greeting {
    async fn arrived(&self) -> Result<(), Error> {
        let heard = std::future::poll_fn(|cx| match self.state.get() {
            Heard::Nothing => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            heard => Poll::Ready(heard),
        })
        .await;
        match heard {
            Heard::Settings => Ok(()),
            Heard::Nothing | Heard::Nonsense => Err(Error::UpstreamUnavailable(
                "it does not begin HTTP/2, see the route's `http2`".to_owned(),
            )),
        }
    }

    fn note(&self, heard: Heard) {
        if self.state.get() == Heard::Nothing {
            self.state.set(heard);
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// A connection whose first frame is looked at as it passes.
struct Greeted<T> {
    io: T,
    greeting: Rc<Greeting>,
    /// The first frame as far as it has come; not kept once it is complete.
    head: Vec<u8>,
}

impl<T> Greeted<T> {
    fn look(&mut self, bytes: &[u8]) {
        let missing = MAX_GREETING.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(missing));
        let [a, b, c, kind, _, _, _, _, _, payload @ ..] = self.head.as_slice() else {
            return;
        };
        let length = u32::from_be_bytes([0, *a, *b, *c]);
        let heard = match usize::try_from(length) {
            Ok(length) if *kind == SETTINGS_FRAME && length <= MAX_GREETING - 9 => {
                if payload.len() < length {
                    return;
                }
                Heard::Settings
            }
            _ => Heard::Nonsense,
        };
        self.head = Vec::new();
        self.greeting.note(heard);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Greeted<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        if this.greeting.state.get() == Heard::Nothing {
            match buffer.filled().get(before..) {
                Some(bytes) if !bytes.is_empty() => this.look(bytes),
                _ => this.greeting.note(Heard::Nonsense),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Greeted<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<T> Drop for Greeted<T> {
    fn drop(&mut self) {
        self.greeting.note(Heard::Nonsense);
    }
}

/// Runs what a connection starts on its own thread.
#[derive(Clone, Copy)]
pub(super) struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// The frame type of SETTINGS (RFC 9113 §6.5).
const SETTINGS_FRAME: u8 = 4;

/// The longest first frame: far more settings than there are.
const MAX_GREETING: usize = 9 + 6 * 100;

/// What an upstream may send of one answer before the client has taken it: as much as is read
/// ahead over HTTP/1.1.
const STREAM_WINDOW: u32 = 128 * 1024;

/// The same, of all answers on one connection: clients that do not read hold up nobody else.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;

/// What is kept of one request body until the upstream's window opens.
const SEND_BUFFER: usize = 64 * 1024;

/// The longest head of an answer.
const MAX_HEAD: u32 = 128 * 1024;

/// Calls on one connection before another one is opened.
const MAX_STREAMS: usize = 128;

/// How long an upstream may be silent under open calls before it is pinged. Servers of gRPC take
/// a ping in less than five minutes of silence for an attack, and close.
const PING_INTERVAL: Duration = Duration::from_secs(330);

/// Until an upstream that does not answer a ping counts as gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_is_known_however_it_is_cut() {
        let empty = [0, 0, 0, 4, 0, 0, 0, 0, 0].to_vec();
        let one = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1].to_vec();
        let http1 = b"HTTP/1.1 400 Bad Request\r\n".to_vec();
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].to_vec();
        let huge = [0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0].to_vec();
        for (name, bytes, wanted) in [
            ("no settings", empty, Heard::Settings),
            ("one setting", one, Heard::Settings),
            ("HTTP/1.1", http1, Heard::Nonsense),
            ("another frame", ping, Heard::Nonsense),
            ("a frame of 16 MB", huge, Heard::Nonsense),
        ] {
            for cut in [1, 2, 8, 100] {
                let mut greeted = Greeted {
                    io: (),
                    greeting: Rc::new(Greeting::default()),
                    head: Vec::new(),
                };
                for part in bytes.chunks(cut) {
                    if greeted.greeting.state.get() == Heard::Nothing {
                        greeted.look(part);
                    }
                }
                assert!(greeted.greeting.state.get() == wanted, "{name} by {cut}");
                assert!(greeted.head.is_empty(), "nothing is kept");
            }
        }
    }
}
