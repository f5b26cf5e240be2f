//! What an upstream answers with: a body that drives its own connection.
//!
//! Frames are passed on one by one as the client takes them, trailers included; nothing is
//! collected. A complete body gives its connection back to the pool, an incomplete one closes it,
//! which tells the upstream that nobody listens any more. A body that has to wait subscribes to
//! the end of its session and breaks off when that comes: ending it cleanly would pass off a part
//! as the whole.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::balance::Lease;
use super::deadlines::{Deadlines, Overdue};
use super::limit::RequestBody;
use super::pool::{Live, Pool};
use super::quiet::quietly;
use crate::extensions::Session;
use crate::session_end::{Generation, SessionEnded, SessionEnds, Until};
use crate::static_files::FileBody;

/// The body of an answer.
pub enum UpstreamBody<B: RequestBody> {
    /// None, as in a 101.
    Empty,
    /// An upstream's, together with the connection it comes from.
    Upstream(Driven<B>),
    /// A file's.
    File(FileBody),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamBodyError {
    /// The upstream's connection failed, or the request's body did.
    #[error("the upstream's answer broke off")]
    Upstream(#[from] hyper::Error),
    /// A file could not be read.
    #[error("a file could not be read")]
    File(#[from] io::Error),
    /// The session that the answer belongs to has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// The connection was gone before the body was complete.
    #[error("the upstream's connection closed early")]
    Incomplete,
    /// The upstream has sent nothing for `idle_timeout`.
    #[error("the upstream's answer stood still for `idle_timeout`")]
    Idle,
    /// The call has taken `total_timeout`.
    #[error("the call took longer than `total_timeout`")]
    TooLong,
}

impl From<Overdue> for UpstreamBodyError {
    fn from(overdue: Overdue) -> Self {
        match overdue {
            Overdue::Idle => Self::Idle,
            Overdue::Total => Self::TooLong,
        }
    }
}

/// A body and the connection that it is read from.
pub struct Driven<B: RequestBody> {
    incoming: Incoming,
    /// None once the connection is closed or given back.
    live: Option<Box<Live<B>>>,
    origin: Lease<B>,
    pool: Rc<Pool<B>>,
    watch: Watch,
    /// None on most routes.
    deadlines: Option<Box<Deadlines>>,
}

/// What lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasting {
    /// A body whose length was announced: as long as its session can last at all.
    Download,
    /// A socket, or a body without an end in sight: as long as its session, idle limit included.
    /// Its own traffic is no sign of a user.
    Stream,
}

/// The session of a call.
pub(super) enum Watch {
    /// There is none, or its end does not matter any more.
    Nothing,
    /// A session that was good at this generation, and how long it may be idle.
    Later(Rc<SessionEnds>, Session, Generation, Duration),
    /// Subscribed.
    Now(SessionEnded),
}

impl Watch {
    /// The signal, subscribing if that was not done yet.
    pub(super) fn signal(&mut self, lasting: Lasting) -> Option<&mut SessionEnded> {
        if let Self::Later(ends, session, since, idle) = self {
            let until = match lasting {
                Lasting::Download => Until::EndsAt(session.ends_at),
                Lasting::Stream => Until::IdleOrEndsAt(session.ends_at, *idle),
            };
            let ended = ends.subscribe_until(session.id.0, *since, until);
            ends.name(session.id.0, session.marks, session.created_at);
            *self = Self::Now(ended);
        }
        match self {
            Self::Now(ended) => Some(ended),
            Self::Nothing | Self::Later(..) => None,
        }
    }

    /// Whether any session has ended since, or it is subscribed anyway.
    fn may_have_ended(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Later(ends, _, since, _) => ends.generation() != *since,
            Self::Now(_) => true,
        }
    }

    pub(super) fn into_signal(mut self) -> Option<SessionEnded> {
        self.signal(Lasting::Stream);
        match self {
            Self::Now(ended) => Some(ended),
            Self::Nothing | Self::Later(..) => None,
        }
    }
}

impl<B: RequestBody> Driven<B> {
    /// Takes over the connection after the answer's head.
    pub(super) fn new(
        incoming: Incoming,
        live: Box<Live<B>>,
        origin: Lease<B>,
        pool: Rc<Pool<B>>,
        watch: Watch,
        deadlines: Option<Box<Deadlines>>,
        cx: &mut Context<'_>,
    ) -> Self {
        let mut this = Self {
            incoming,
            live: Some(live),
            origin,
            pool,
            watch,
            deadlines,
        };
        // A server does not poll a body that is over.
        if this.incoming.is_end_stream() {
            this.complete(cx);
        }
        this
    }

    /// The body is over: the connection may serve somebody else.
    fn complete(&mut self, cx: &mut Context<'_>) {
        self.watch = Watch::Nothing;
        if let Some(live) = self.live.take() {
            self.pool.check_in(&self.origin, live, cx);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        // Also where the client is the slow one and there is always a frame to be had.
        if let Some(deadlines) = &mut self.deadlines
            && deadlines.is_over(cx)
        {
            self.live = None;
            return Poll::Ready(Some(Err(Overdue::Total.into())));
        }
        if self.watch.may_have_ended() && self.poll_ended(cx) {
            return Poll::Ready(Some(Err(UpstreamBodyError::SessionEnded)));
        }
        let quiet = self.live.as_ref().and_then(|live| live.quiet());
        if let Poll::Ready(frame) = quietly(quiet, cx, |cx| self.poll_connection(cx)) {
            return self.moved(frame);
        }
        if self.poll_ended(cx) {
            return Poll::Ready(Some(Err(UpstreamBodyError::SessionEnded)));
        }
        if let Some(deadlines) = &mut self.deadlines
            && let Poll::Ready(overdue) = deadlines.poll(cx)
        {
            self.live = None;
            return Poll::Ready(Some(Err(overdue.into())));
        }
        Poll::Pending
    }

    /// Whether the session has ended; then the connection is gone.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        let lasting = match self.incoming.size_hint().exact() {
            Some(_) => Lasting::Download,
            None => Lasting::Stream,
        };
        let ended = self
            .watch
            .signal(lasting)
            .is_some_and(|ended| Pin::new(ended).poll(cx).is_ready());
        if ended {
            self.live = None;
            self.watch = Watch::Nothing;
        }
        ended
    }

    fn poll_connection(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        if let Poll::Ready(frame) = self.poll_incoming(cx) {
            return Poll::Ready(frame);
        }
        let closed = match &mut self.live {
            Some(live) => live.poll(cx).is_ready(),
            None => true,
        };
        if let Poll::Ready(frame) = self.poll_incoming(cx) {
            return Poll::Ready(frame);
        }
        if closed {
            self.live = None;
            return Poll::Ready(Some(Err(UpstreamBodyError::Incomplete)));
        }
        Poll::Pending
    }

    /// Something came from the upstream.
    fn moved(
        &mut self,
        frame: Option<Result<Frame<Bytes>, UpstreamBodyError>>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.moved();
        }
        Poll::Ready(frame)
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                if self.incoming.is_end_stream() {
                    self.complete(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.live = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.complete(cx);
                Poll::Ready(None)
            }
        }
    }
}

impl<B: RequestBody> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = UpstreamBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Upstream(driven) => driven.poll(cx),
            Self::File(file) => Pin::new(file)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Upstream(driven) => driven.incoming.is_end_stream(),
            Self::File(file) => file.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Upstream(driven) => driven.incoming.size_hint(),
            Self::File(file) => file.size_hint(),
        }
    }
}

// Nothing in it is ever pinned: bodies and connections are.
impl<B: RequestBody> Unpin for Driven<B> {}
