//! Takes idle HTTP/1.1 connections out of HTTP, so that they hold next to nothing.
//!
//! HTTP keeps a read buffer of 8 KiB and its own state for as long as it has a connection. Between
//! two requests neither is needed: once nothing happened for a while, HTTP is dropped, the stream is
//! kept, and the next byte starts HTTP again. That is done only where nothing can get lost: no
//! request is under way, everything written has left, and what was read ended with the end of a
//! request's head (RFC 9112 §2.1), so no byte waits in a buffer. A request costs two counters and a
//! look at the last four bytes read; no lock, no timer. Nothing here looks into a request.
//!
//! HTTP/2 connections are looked at as well, and end when they idle (`data/ending.rs`).

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use coatroom::timer::CoarseTimer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// One core's connections that are in HTTP, looked through now and then.
#[derive(Clone)]
pub(super) struct Idle {
    awake: Rc<RefCell<Awake>>,
    timer: CoarseTimer,
}

#[derive(Default)]
struct Awake {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    is_watched: bool,
}

struct Place {
    activity: Rc<Activity>,
    waker: Waker,
}

/// What happens on one connection.
#[derive(Default)]
pub(super) struct Activity {
    /// How many requests have come, wrapping.
    begun: Cell<u32>,
    /// How many are under way.
    open: Cell<u32>,
    /// Whether the last one had a body: then nobody can tell what the last bytes belonged to.
    had_body: Cell<bool>,
    /// `begun` at the last look.
    seen: Cell<Option<u32>>,
    /// Whether nothing happened between two looks.
    is_quiet: Cell<bool>,
    /// Whether a tunnel was opened in one of its streams: nobody tells when that ends.
    has_tunnel: Cell<bool>,
}

/// A request that is under way until this is dropped.
pub(super) struct Exchange(Rc<Activity>);

/// A connection that is looked at until this is dropped.
pub(super) struct Watched {
    idle: Idle,
    activity: Rc<Activity>,
    place: Option<usize>,
}

impl Idle {
    pub(super) fn new(timer: CoarseTimer) -> Self {
        Self {
            awake: Rc::default(),
            timer,
        }
    }

    /// Looks at a connection from its first poll on.
    pub(super) fn watch(&self, activity: Rc<Activity>) -> Watched {
        activity.seen.set(None);
        activity.is_quiet.set(false);
        Watched {
            idle: self.clone(),
            activity,
            place: None,
        }
    }

    fn insert(&self, activity: Rc<Activity>, waker: Waker) -> usize {
        let mut awake = self.awake.borrow_mut();
        if !std::mem::replace(&mut awake.is_watched, true) {
            tokio::task::spawn_local(self.clone().look_through());
        }
        let place = Some(Place { activity, waker });
        match awake.free.pop() {
            Some(index) => {
                if let Some(free) = awake.places.get_mut(index) {
                    *free = place;
                }
                index
            }
            None => {
                awake.places.push(place);
                awake.places.len() - 1
            }
        }
    }

    /// Wakes who is idle, as long as there is anybody.
    async fn look_through(self) {
        loop {
            self.timer.sleep(PAUSE).await;
            let mut quiet = Vec::new();
            {
                let mut awake = self.awake.borrow_mut();
                if awake.places.len() == awake.free.len() {
                    *awake = Awake::default();
                    return;
                }
                for place in awake.places.iter().flatten() {
                    if place.activity.look() {
                        quiet.push(place.waker.clone());
                    }
                }
            }
            for waker in quiet {
                waker.wake();
            }
        }
    }
}

impl Activity {
    /// A request has come.
    pub(super) fn begin(self: &Rc<Self>, has_body: bool) -> Exchange {
        self.begun.set(self.begun.get().wrapping_add(1));
        self.open.set(self.open.get().saturating_add(1));
        self.had_body.set(has_body);
        self.is_quiet.set(false);
        Exchange(self.clone())
    }

    /// Whether any request has come.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get() > 0
    }

    /// Whether no request is under way, and no tunnel may be.
    pub(super) fn is_idle(&self) -> bool {
        self.open.get() == 0 && !self.has_tunnel.get()
    }

    /// Whether nothing happened since the look before; says so once.
    fn look(&self) -> bool {
        let begun = Some(self.begun.get());
        if self.open.get() > 0 || self.had_body.get() || self.seen.replace(begun) != begun {
            return false;
        }
        !self.is_quiet.replace(true)
    }
}

impl Exchange {
    /// What began as a request becomes a tunnel in a stream of its connection.
    pub(super) fn becomes_tunnel(&self) {
        self.0.has_tunnel.set(true);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

impl Watched {
    /// Whether the connection, which was just polled and is pending, can be taken out of HTTP.
    pub(super) fn can_rest<T>(&mut self, home: &Home<T>, cx: &Context<'_>) -> bool {
        // what is read before the first request is that request: it may not begin again and again
        self.is_idle(cx) && home.is_quiet() && (self.activity.has_begun() || !home.is_touched())
    }

    /// Whether nothing has happened on it for a while. If not, its task is woken when that is so.
    pub(super) fn is_idle(&mut self, cx: &Context<'_>) -> bool {
        if self.place.is_none() {
            let place = self.idle.insert(self.activity.clone(), cx.waker().clone());
            self.place = Some(place);
        }
        self.activity.is_quiet.get() && self.activity.is_idle()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(index) = self.place {
            let mut awake = self.idle.awake.borrow_mut();
            if let Some(place) = awake.places.get_mut(index) {
                *place = None;
                awake.free.push(index);
            }
        }
    }
}

/// Where a stream comes back to when HTTP is dropped.
pub(super) struct Home<T> {
    /// Locked only when it comes and when it is taken.
    stream: Mutex<Option<T>>,
    /// Whether anything was read.
    is_touched: AtomicBool,
    /// Whether what was read so far ended with the end of a head, or nothing was read.
    is_at_boundary: AtomicBool,
    /// Whether everything that was written has left.
    is_flushed: AtomicBool,
}

/// A stream that goes home when it is dropped.
pub(super) struct Lent<T> {
    stream: Option<T>,
    home: Arc<Home<T>>,
    /// The last bytes read.
    tail: [u8; END_OF_HEAD.len()],
}

impl<T> Home<T> {
    /// Lends a stream that has nothing buffered.
    pub(super) fn lend(stream: T) -> (Arc<Self>, Lent<T>) {
        let home = Arc::new(Self {
            stream: Mutex::new(None),
            is_touched: AtomicBool::new(false),
            is_at_boundary: AtomicBool::new(true),
            is_flushed: AtomicBool::new(true),
        });
        let lent = Lent {
            stream: Some(stream),
            home: home.clone(),
            tail: [0; END_OF_HEAD.len()],
        };
        (home, lent)
    }

    /// The stream, unless it was given away in an upgrade.
    pub(super) fn take(&self) -> Option<T> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_touched(&self) -> bool {
        self.is_touched.load(Ordering::Relaxed)
    }

    fn is_quiet(&self) -> bool {
        self.is_at_boundary.load(Ordering::Relaxed) && self.is_flushed.load(Ordering::Relaxed)
    }
}

impl<T> Lent<T> {
    fn stream(&mut self) -> &mut T {
        self.stream.as_mut().expect("it is lent until it is dropped")
    }

    fn writing(&mut self) -> &mut T {
        self.home.is_flushed.store(false, Ordering::Relaxed);
        self.stream()
    }

    fn has_read(&mut self, new: &[u8]) {
        match new.last_chunk() {
            Some(tail) => self.tail = *tail,
            None => {
                for byte in new {
                    self.tail.rotate_left(1);
                    if let Some(last) = self.tail.last_mut() {
                        *last = *byte;
                    }
                }
            }
        }
        self.home.is_touched.store(true, Ordering::Relaxed);
        let is_at_boundary = self.tail == END_OF_HEAD;
        self.home.is_at_boundary.store(is_at_boundary, Ordering::Relaxed);
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        let stream = self.stream.take();
        *self.home.stream.lock().unwrap_or_else(PoisonError::into_inner) = stream;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lent<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(this.stream()).poll_read(cx, buffer);
        match buffer.filled().get(before..) {
            Some(new) if !new.is_empty() => this.has_read(new),
            _ => {}
        }
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lent<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().writing()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().writing()).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    /// HTTP flushes a stream only when its own buffer is empty.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(this.stream()).poll_flush(cx);
        let has_left = matches!(outcome, Poll::Ready(Ok(())));
        this.home.is_flushed.store(has_left, Ordering::Relaxed);
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().writing()).poll_shutdown(cx)
    }
}

/// A stream of which one can learn that there is something to read, without a buffer for it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Resolves when there may be something to read, or the connection ended.
    async fn readable(&mut self);
}

impl Stream for TcpStream {
    async fn readable(&mut self) {
        let _ = Self::readable(self).await;
    }
}

impl Stream for UnixStream {
    async fn readable(&mut self) {
        let _ = Self::readable(self).await;
    }
}

impl<T: Stream> Stream for TlsStream<T> {
    async fn readable(&mut self) {
        let (stream, tls) = self.get_mut();
        let has_something = match tls.process_new_packets() {
            Ok(state) => state.plaintext_bytes_to_read() > 0 || state.peer_has_closed(),
            Err(_) => true,
        };
        if !has_something {
            stream.readable().await;
        }
    }
}

/// Between two looks: a connection is idle for this long at least, and for twice that and two ticks
/// of the timer at most, before it is taken out of HTTP. It is short, since an allocator gives little
/// back to the system: what counts is how many connections are in HTTP at the same time.
const PAUSE: Duration = Duration::from_millis(500);

/// What a request without a body ends with (RFC 9112 §2.1).
const END_OF_HEAD: [u8; 4] = *b"\r\n\r\n";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_stream_is_at_a_boundary_only_after_the_end_of_a_head() {
        for (name, chunks, expected) in [
            ("nothing was read", &[][..], true),
            ("a head", &["GET / HTTP/1.1\r\nhost: a\r\n\r\n"][..], true),
            (
                "a head in pieces",
                &["GET / HTTP/1.1\r\nhost: a", "\r\n", "\r", "\n"],
                true,
            ),
            ("half a head", &["GET / HTTP/1.1\r\nhost: a\r\n"], false),
            (
                "a head and some of the next",
                &["GET / HTTP/1.1\r\n\r\n", "G"],
                false,
            ),
            (
                "the end comes in one piece with the next",
                &["\r\n\r\nGET"],
                false,
            ),
            ("short pieces only", &["\r\n", "\r\n"], true),
        ] {
            let (mut client, server) = tokio::io::duplex(1024);
            let (home, mut lent) = Home::lend(server);
            for chunk in chunks {
                client.write_all(chunk.as_bytes()).await.expect("written");
                let mut read = vec![0; chunk.len()];
                lent.read_exact(&mut read).await.expect("read");
            }
            assert_eq!(home.is_quiet(), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn what_was_written_counts_until_it_was_flushed() {
        let (_client, server) = tokio::io::duplex(1024);
        let (home, mut lent) = Home::lend(server);
        lent.write_all(b"a").await.expect("written");
        assert!(!home.is_quiet());
        lent.flush().await.expect("flushed");
        assert!(home.is_quiet());
        lent.shutdown().await.expect("shut down");
        assert!(!home.is_quiet());
    }

    #[test]
    fn a_stream_comes_home_when_it_is_dropped_and_not_before() {
        let (home, lent) = Home::lend(7);
        assert_eq!(home.take(), None);
        drop(lent);
        assert_eq!(home.take(), Some(7));
        assert_eq!(home.take(), None);
    }

    #[test]
    fn quiet_is_what_two_looks_found_unchanged() {
        let activity = Rc::<Activity>::default();
        assert!(!activity.look(), "the first look knows nothing");
        assert!(activity.look());
        assert!(!activity.look(), "it is said once");
        let exchange = activity.begin(false);
        assert!(!activity.look() && !activity.look(), "a request is under way");
        drop(exchange);
        assert!(!activity.look(), "since the last look a request ended");
        assert!(activity.look());
        drop(activity.begin(true));
        assert!(
            !activity.look() && !activity.look(),
            "its body may have been anything"
        );
    }
}
