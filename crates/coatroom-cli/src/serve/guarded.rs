//! A client's socket that gives up a client which takes nothing.
//!
//! When the kernel takes no byte for the time allowed, writing fails and the connection is over,
//! whatever it speaks: HTTP/1.1, HTTP/2, a WebSocket. Idle is not stalled: nothing runs while there
//! is nothing to write. A socket that takes its bytes costs a look at an `Option` for each write.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use coatroom::timer::{CoarseSleep, CoarseTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::admission::{Admission, Occupied, Reason};
use super::idle;

/// Counts the bytes of a connection, for whoever wants to know whether it moves. Has one writer.
#[derive(Clone, Default)]
pub(super) struct Moved(Arc<AtomicU64>);

impl Moved {
    /// How far it came.
    pub(super) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let total = self.0.load(Ordering::Relaxed).wrapping_add(count);
        self.0.store(total, Ordering::Relaxed);
    }
}

/// A client's socket and its place.
pub(super) struct Guarded<T> {
    socket: T,
    moved: Moved,
    watch: Watch,
    stalled: Option<Stall>,
    /// Until the socket is closed, also when a WebSocket took it over.
    _place: Occupied,
}

/// What a socket is held to.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) timer: CoarseTimer,
    pub(super) admission: Admission,
    /// How long a client may take nothing.
    pub(super) write_timeout: Duration,
}

struct Stall {
    since: Instant,
    sleep: CoarseSleep,
}

impl<T: AsFd> Guarded<T> {
    pub(super) fn new(socket: T, moved: Moved, watch: Watch, place: Occupied) -> Self {
        Self {
            socket,
            moved,
            watch,
            stalled: None,
            _place: place,
        }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(outcome) => {
                if self.stalled.is_some() {
                    self.stalled = None;
                }
                if let Ok(count) = &outcome {
                    self.moved.add(*count);
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => self.poll_stall(cx).map(Err),
        }
    }

    /// Resolves when the client had its time.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Watch {
            timer,
            admission,
            write_timeout,
        } = &self.watch;
        // in slices, since it may get crowded meanwhile
        let slice = (*write_timeout).min(WHEN_FULL);
        let stall = self.stalled.get_or_insert_with(|| Stall {
            since: Instant::now(),
            sleep: timer.sleep(slice),
        });
        loop {
            std::task::ready!(Pin::new(&mut stall.sleep).poll(cx));
            let waited = stall.since.elapsed();
            if waited >= *write_timeout || (waited >= WHEN_FULL && admission.was_full()) {
                admission.count(Reason::WriteTimeout);
                // what it did not take is not kept for it in the kernel either
                let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            stall.sleep = timer.sleep(slice.min(write_timeout.saturating_sub(waited)));
        }
    }
}

impl<T: AsFd + idle::Stream> idle::Stream for Guarded<T> {
    async fn readable(&mut self) {
        idle::Stream::readable(&mut self.socket).await;
    }
}

impl<T: AsFd + AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if outcome.is_ready() {
            self.moved.add(buffer.filled().len().saturating_sub(before));
        }
        outcome
    }
}

impl<T: AsFd + AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.wrote(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.wrote(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

/// How long a client may take nothing while others wait for a place.
const WHEN_FULL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::super::admission::testing::doors;
    use super::*;

    fn guarded(admission: &Admission, write_timeout: Duration) -> (Guarded<UnixStream>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let watch = Watch {
            timer: CoarseTimer::new(),
            admission: admission.clone(),
            write_timeout,
        };
        let place = admission.place().now_or_never().expect("a place");
        let guarded = Guarded::new(ours, Moved::default(), watch, place.occupy());
        (guarded, theirs)
    }

    /// Writes until it fails.
    async fn fill(socket: &mut Guarded<UnixStream>) -> (io::ErrorKind, Duration) {
        let start = Instant::now();
        loop {
            if let Err(error) = socket.write_all(&[7; 65_536]).await {
                return (error.kind(), start.elapsed());
            }
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_in_time() {
        let admission = doors(16);
        let (mut socket, _theirs) = guarded(&admission, MINUTE);
        let (kind, took) = fill(&mut socket).await;
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(
            took >= MINUTE && took < MINUTE + Duration::from_secs(2),
            "{took:?}"
        );
        assert_eq!(admission.counted(Reason::WriteTimeout), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn while_others_wait_it_is_given_up_sooner() {
        let admission = doors(16);
        let (mut socket, _theirs) = guarded(&admission, MINUTE);
        let _others: Vec<_> = (0..15)
            .map(|_| admission.place().now_or_never().expect("a place"))
            .collect();
        let (_, took) = fill(&mut socket).await;
        assert!(took >= WHEN_FULL && took < WHEN_FULL * 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_a_little_now_and_then_is_not() {
        let admission = doors(16);
        let (mut socket, mut theirs) = guarded(&admission, MINUTE);
        let taking = async {
            let mut buffer = vec![0; 300_000];
            for _ in 0..20 {
                tokio::time::sleep(MINUTE - Duration::from_secs(5)).await;
                theirs.read_exact(&mut buffer).await.expect("bytes");
            }
        };
        tokio::select! {
            (kind, took) = fill(&mut socket) => panic!("{kind:?} after {took:?}"),
            () = taking => {}
        }
        assert!(socket.moved.total() >= 20 * 300_000);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_idle_is_not() {
        let admission = doors(16);
        let (mut socket, mut theirs) = guarded(&admission, MINUTE);
        socket.write_all(b"hello").await.expect("written");
        let mut byte = [0];
        let idle = tokio::time::timeout(MINUTE * 60, socket.read(&mut byte)).await;
        assert!(idle.is_err(), "nothing came");
        socket.write_all(b"again").await.expect("written");
        let mut all = [0; 10];
        theirs.read_exact(&mut all).await.expect("bytes");
        assert_eq!(&all, b"helloagain");
        assert_eq!(admission.counted(Reason::WriteTimeout), 0);
    }
}
