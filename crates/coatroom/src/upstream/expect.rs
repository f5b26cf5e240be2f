//! `Expect: 100-continue` (RFC 9110 §10.1.1): the upstream is asked before the body is.
//!
//! The client's question is passed on, and its body is first read when the upstream has answered
//! 100: the listener says "continue" to the client when a body is first read. An upstream that
//! refuses from the head alone so never sees a byte of it, and neither do we. Upstreams that do
//! not know the question stay silent, so the body goes after [`PATIENCE`] all the same.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode};

use crate::timer::{CoarseSleep, CoarseTimer};

/// Holds a body back.
pub(super) struct Gate {
    word: Arc<Word>,
    patience: CoarseSleep,
}

/// The upstream's word. Hyper wants the callback to be `Send`.
#[derive(Default)]
struct Word {
    given: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// Whether the client waits to be told to go on, by the value of its `Expect`.
pub(super) fn is_asked(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

impl Gate {
    /// A gate that opens when the answer to `request` begins with 100.
    pub(super) fn on<T>(request: &mut Request<T>, timer: &CoarseTimer) -> Self {
        let word = Arc::new(Word::default());
        let heard = word.clone();
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                heard.give();
            }
        });
        Self {
            word,
            patience: timer.sleep(PATIENCE),
        }
    }

    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.word.given.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waker = self.word.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *waker = Some(cx.waker().clone());
        drop(waker);
        if self.word.given.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        Pin::new(&mut self.patience).poll(cx)
    }
}

impl Word {
    fn give(&self) {
        self.given.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// How long a silent upstream keeps a client's body back.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
