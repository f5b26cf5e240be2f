//! A service between the Layer and the upstream that notes what is handed on, frame by frame: for the
//! tests of the listener, what we think we sent.
//!
//! It changes nothing.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::Request;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use pin_project_lite::pin_project;
use tower::Service;

/// Notes what passes through it.
#[derive(Clone)]
pub(super) struct Recorder<S> {
    inner: S,
    seen: Seen,
}

/// What passed.
#[derive(Clone, Default)]
pub(super) struct Seen(Rc<RefCell<Vec<Rc<RefCell<Note>>>>>);

struct Note {
    line: Vec<u8>,
    body: Vec<u8>,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Awaited,
    Reached,
    /// Nobody waits for the answer any more, since the client went: it may have arrived or not.
    GivenUp,
    Failed,
}

impl<S> Recorder<S> {
    pub(super) fn new(inner: S) -> (Self, Seen) {
        let seen = Seen::default();
        let recorder = Self {
            inner,
            seen: seen.clone(),
        };
        (recorder, seen)
    }
}

impl Seen {
    /// Method, target and body of everything that came to its end and was answered.
    pub(super) fn whole(&self) -> Vec<Vec<u8>> {
        self.that(End::Reached)
    }

    /// The same of everything whose client went before the answer.
    pub(super) fn given_up(&self) -> Vec<Vec<u8>> {
        self.that(End::GivenUp)
    }

    fn that(&self, end: End) -> Vec<Vec<u8>> {
        let notes = self.0.borrow();
        let ended = notes.iter().filter(|note| note.borrow().end == end);
        ended
            .map(|note| {
                let note = note.borrow();
                match note.body.as_slice() {
                    [] => note.line.clone(),
                    body => [&note.line, &b"="[..], body].concat(),
                }
            })
            .collect()
    }
}

impl<S: Service<Request<Recorded>>> Service<Request<Incoming>> for Recorder<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let note = Rc::new(RefCell::new(Note {
            line: format!("{} {}", request.method(), request.uri()).into_bytes(),
            body: Vec::new(),
            end: if request.body().is_end_stream() {
                End::Reached
            } else {
                End::Awaited
            },
        }));
        self.seen.0.borrow_mut().push(note.clone());
        let awaited = Awaited(Some(note.clone()));
        let future = self.inner.call(request.map(|body| Recorded { body, note }));
        Answer { future, awaited }
    }
}

pin_project! {
    /// An answer to come.
    pub(super) struct Answer<F> {
        #[pin]
        future: F,
        awaited: Awaited,
    }
}

/// Whoever waits for an answer, until it is there.
struct Awaited(Option<Rc<RefCell<Note>>>);

impl<F: Future<Output = Result<R, E>>, R, E> Future for Answer<F> {
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.future.poll(context));
        if let Some(note) = this.awaited.0.take()
            && outcome.is_err()
        {
            note.borrow_mut().end = End::Failed;
        }
        Poll::Ready(outcome)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(note) = &self.0
            && let end @ End::Reached = &mut note.borrow_mut().end
        {
            *end = End::GivenUp;
        }
    }
}

/// A body of which a note is taken.
pub(super) struct Recorded {
    body: Incoming,
    note: Rc<RefCell<Note>>,
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let mut note = self.note.borrow_mut();
        match &frame {
            None => note.end = End::Reached,
            Some(Err(_)) => note.end = End::Failed,
            Some(Ok(frame)) => {
                note.body.extend(frame.data_ref().into_iter().flatten());
                if note.end == End::Awaited && (frame.is_trailers() || self.body.is_end_stream()) {
                    note.end = End::Reached;
                }
            }
        }
        drop(note);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
