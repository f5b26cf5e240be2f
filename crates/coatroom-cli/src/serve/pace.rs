//! How fast a client must send what it announced, and take what it asked for.
//!
//! A request body may keep us waiting for a credit of time, which the bytes that come restore: a
//! trickle is not enough. Waiting for the upstream does not count. gRPC calls and tunnels talk at a
//! pace of their own and are not bounded here. An answer over HTTP/2 whose stream has no window is
//! invisible to the socket, so it is watched here: one that takes nothing for the time allowed loses
//! its upstream, and the stream is reset once the client looks again. A request without a body over
//! HTTP/1.1 passes through untouched.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coatroom::timer::{CoarseSleep, CoarseTimer};
use http::{Method, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::admission::{Admission, Reason};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a core holds its clients to.
#[derive(Clone)]
pub(crate) struct Pace {
    bodies: &'static Bodies,
    answers: Rc<Answers>,
}

/// What request bodies are held to. There is one for each core as long as the process runs, so that a
/// request which is moved between threads can name it and count no references.
struct Bodies {
    timer: CoarseTimer,
    admission: Admission,
    timeout: Duration,
}

impl Pace {
    /// For the clients of one core.
    pub(crate) fn new(
        timer: CoarseTimer,
        admission: Admission,
        body_timeout: Duration,
        write_timeout: Duration,
    ) -> Self {
        Self {
            answers: Rc::new(Answers {
                timer: timer.clone(),
                admission: admission.clone(),
                most: u32::try_from(write_timeout.as_secs()).unwrap_or(u32::MAX).max(1),
                open: RefCell::default(),
                is_watching: Cell::new(false),
            }),
            bodies: Box::leak(Box::new(Bodies {
                timer,
                admission,
                timeout: body_timeout,
            })),
        }
    }

    /// Holds a service's clients to this pace.
    pub(crate) fn layer<S>(self, service: S) -> Paced<S> {
        Paced { service, pace: self }
    }

    fn request_body<B: Body>(&self, request: Request<B>) -> Request<PacedBody<B>> {
        let is_free = request.body().is_end_stream()
            || request.method() == Method::CONNECT
            || request
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        let waits = (!is_free).then(|| Waits {
            bodies: self.bodies,
            credit: self.bodies.timeout,
            waiting: None,
        });
        let ends_by_flag = request.version() == Version::HTTP_2;
        request.map(|body| PacedBody {
            body,
            waits,
            ends_by_flag,
        })
    }
}

/// A service whose clients keep pace.
#[derive(Clone)]
pub(crate) struct Paced<S> {
    service: S,
    pace: Pace,
}

impl<S, B, R> tower::Service<Request<B>> for Paced<S>
where
    S: tower::Service<Request<PacedBody<B>>, Response = Response<R>>,
    B: Body,
    R: 'static,
{
    type Response = Response<WatchedBody<R>>;
    type Error = S::Error;
    type Future = PacedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answers = (request.version() == Version::HTTP_2).then(|| self.pace.answers.clone());
        PacedFuture {
            future: self.service.call(self.pace.request_body(request)),
            answers,
        }
    }
}

pin_project! {
    /// The answer to come.
    pub(crate) struct PacedFuture<F> {
        #[pin]
        future: F,
        answers: Option<Rc<Answers>>,
    }
}

impl<F, R, E> Future for PacedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: 'static,
{
    type Output = Result<Response<WatchedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let answers = this.answers.take();
        Poll::Ready(Ok(response.map(|body| match answers {
            Some(answers) => WatchedBody::Watched {
                stream: answers.watch(body),
            },
            None => WatchedBody::Plain { body },
        })))
    }
}

pin_project! {
    /// A request body that must keep coming while it is waited for.
    pub(crate) struct PacedBody<B> {
        #[pin]
        body: B,
        waits: Option<Waits>,
        // Whether its end is a flag on a frame, as in HTTP/2.
        ends_by_flag: bool,
    }
}

struct Waits {
    bodies: &'static Bodies,
    /// How much longer it may keep us waiting.
    credit: Duration,
    waiting: Option<(Instant, CoarseSleep)>,
}

/// The body of a request came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the request body came too slowly (`connections.body_timeout`)")]
pub(crate) struct TooSlow;

/// The client cancelled its request before the body was complete.
#[derive(Debug, thiserror::Error)]
#[error("the client cancelled the request in the middle of its body")]
pub(crate) struct Cancelled;

impl Waits {
    /// Resolves when the credit is used up.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (timer, credit) = (&self.bodies.timer, self.credit);
        let waiting = self
            .waiting
            .get_or_insert_with(|| (Instant::now(), timer.sleep(credit)));
        Pin::new(&mut waiting.1).poll(cx)
    }

    fn came(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            let earned = Duration::from_millis(bytes.saturating_mul(1000) / LEAST_PER_SECOND);
            self.credit = self.credit.saturating_add(earned).min(self.bodies.timeout);
        }
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>>> Body for PacedBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        match (this.body.as_mut().poll_frame(cx), this.waits) {
            // The HTTP library ends a body quietly when the client cancels the stream (RFC 9113 §8.1
            // says that such a request is not complete): a part shall not pass for the whole.
            (Poll::Ready(None), _) if *this.ends_by_flag && !this.body.is_end_stream() => {
                Poll::Ready(Some(Err(Cancelled.into())))
            }
            (Poll::Pending, Some(waits)) => waits.poll(cx).map(|()| {
                waits.bodies.admission.count(Reason::BodyTimeout);
                Some(Err(TooSlow.into()))
            }),
            (Poll::Ready(Some(Ok(frame))), Some(waits)) => {
                waits.came(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            (polled, _) => polled.map(|frame| frame.map(|outcome| outcome.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answers over HTTP/2 that are under way on one core.
struct Answers {
    timer: CoarseTimer,
    admission: Admission,
    /// How many looks in a row may find that it is the client's turn.
    most: u32,
    open: RefCell<Vec<Weak<dyn Look>>>,
    is_watching: Cell<bool>,
}

/// Something to look at now and then.
trait Look {
    /// Looks once more; false when the client had its time, and the answer was let go.
    fn look(&self, most: u32) -> bool;
}

impl Answers {
    fn watch<R: 'static>(self: &Rc<Self>, body: R) -> Rc<Stream<R>> {
        let stream = Rc::new(Stream {
            body: RefCell::new(Some(Box::pin(body))),
            is_clients_turn: Cell::new(true),
            looks: Cell::new(0),
        });
        let weak: Weak<dyn Look> = Rc::downgrade(&(stream.clone() as Rc<dyn Look>));
        self.open.borrow_mut().push(weak);
        if !self.is_watching.replace(true) {
            tokio::task::spawn_local(self.clone().look_now_and_then());
        }
        stream
    }

    async fn look_now_and_then(self: Rc<Self>) {
        while !self.open.borrow().is_empty() {
            self.timer.sleep(LOOK).await;
            // letting go of one answer may begin another one
            let mut open = std::mem::take(&mut *self.open.borrow_mut());
            open.retain(|stream| {
                let Some(stream) = stream.upgrade() else {
                    return false;
                };
                let goes_on = stream.look(self.most);
                if !goes_on {
                    self.admission.count(Reason::StreamTimeout);
                }
                goes_on
            });
            self.open.borrow_mut().append(&mut open);
        }
        self.is_watching.set(false);
    }
}

/// One answer over HTTP/2.
pub(crate) struct Stream<R> {
    body: RefCell<Option<Pin<Box<R>>>>,
    /// Whether the client is to take something, as far as the last poll says. Before the first one it
    /// is: nothing is asked for before there is a window.
    is_clients_turn: Cell<bool>,
    looks: Cell<u32>,
}

impl<R> Look for Stream<R> {
    fn look(&self, most: u32) -> bool {
        if !self.is_clients_turn.get() {
            return true;
        }
        self.looks.set(self.looks.get().saturating_add(1));
        if self.looks.get() <= most {
            return true;
        }
        // not under the borrow: its drop closes a connection
        let body = self.body.borrow_mut().take();
        drop(body);
        false
    }
}

pin_project! {
    /// An answer's body, watched or as it is.
    #[project = WatchedProjection]
    pub(crate) enum WatchedBody<R> {
        /// Over HTTP/1.1 the socket tells.
        Plain {
            #[pin]
            body: R,
        },
        /// Over HTTP/2.
        Watched {
            stream: Rc<Stream<R>>,
        },
    }
}

/// The client took nothing of an answer for too long.
#[derive(Debug, thiserror::Error)]
#[error("the client took nothing of its answer in time (`connections.write_timeout`)")]
pub(crate) struct NotTaken;

impl<R: Body<Error: Into<BoxError>>> Body for WatchedBody<R> {
    type Data = R::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, BoxError>>> {
        let polled = match self.project() {
            WatchedProjection::Plain { body } => body.poll_frame(cx),
            WatchedProjection::Watched { stream } => {
                let mut body = stream.body.borrow_mut();
                let Some(body) = body.as_mut() else {
                    return Poll::Ready(Some(Err(NotTaken.into())));
                };
                let polled = body.as_mut().poll_frame(cx);
                stream.looks.set(0);
                stream
                    .is_clients_turn
                    .set(matches!(polled, Poll::Ready(Some(Ok(_)))));
                polled
            }
        };
        polled.map(|frame| frame.map(|outcome| outcome.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain { body } => body.is_end_stream(),
            Self::Watched { stream } => {
                let body = stream.body.borrow();
                body.as_ref().is_some_and(|body| body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain { body } => body.size_hint(),
            Self::Watched { stream } => {
                let body = stream.body.borrow();
                body.as_ref()
                    .map_or_else(SizeHint::default, |body| body.size_hint())
            }
        }
    }
}

/// How often answers over HTTP/2 are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes that buy a second more.
const LEAST_PER_SECOND: u64 = 500;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, StreamBody, channel::Channel};
    use tower::ServiceExt as _;

    use super::super::admission::testing::doors;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(admission: &Admission) -> Pace {
        Pace::new(CoarseTimer::new(), admission.clone(), SECOND * 30, SECOND * 60)
    }

    /// A request whose body comes in `pieces` of this many bytes, with this much time before each.
    fn request(
        method: &str,
        content_type: &str,
        pieces: &'static [(u64, usize)],
    ) -> Request<impl Body<Data = Bytes, Error = Infallible>> {
        let pieces = futures_util::stream::unfold(pieces.iter(), async |mut pieces| {
            let (wait, bytes) = pieces.next()?;
            tokio::time::sleep(SECOND * u32::try_from(*wait).expect("short")).await;
            let frame = Frame::data(Bytes::from(vec![0; *bytes]));
            Some((Ok::<_, Infallible>(frame), pieces))
        });
        Request::builder()
            .method(method)
            .header("content-type", content_type)
            .body(StreamBody::new(Box::pin(pieces)))
            .expect("a request")
    }

    /// A body that is over without the flag that says so.
    struct Quiet;

    impl Body for Quiet {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(None)
        }
    }

    #[tokio::test]
    async fn a_body_that_http2_ends_without_its_flag_is_no_whole_one() {
        for (version, whole) in [(Version::HTTP_11, true), (Version::HTTP_2, false)] {
            let mut request = Request::new(Quiet);
            *request.version_mut() = version;
            *request.method_mut() = Method::POST;
            let body = pace(&doors(1)).request_body(request).into_body();
            assert_eq!(body.collect().await.is_ok(), whole, "{version:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_too_slowly_is_given_up() {
        for (name, method, content_type, pieces, arrives) in [
            ("at once", "POST", "text/plain", &[(0, 1000)][..], true),
            ("one pause", "POST", "text/plain", &[(29, 10), (0, 10)], true),
            ("a long pause", "POST", "text/plain", &[(0, 1000), (32, 1)], false),
            ("nothing", "POST", "text/plain", &[(1000, 1)], false),
            (
                "a trickle",
                "POST",
                "text/plain",
                &[(10, 1), (10, 1), (10, 1), (10, 1)],
                false,
            ),
            (
                "slow but steady",
                "POST",
                "text/plain",
                &[(10, 5000), (10, 5000), (10, 5000), (10, 5000), (25, 1)],
                true,
            ),
            (
                "credit is not saved up",
                "POST",
                "text/plain",
                &[(1, 10_000_000), (40, 1)],
                false,
            ),
            ("grpc", "POST", "application/grpc+proto", &[(1000, 1)], true),
            ("a tunnel", "CONNECT", "", &[(1000, 1)], true),
        ] {
            let admission = doors(16);
            let request = pace(&admission).request_body(request(method, content_type, pieces));
            let outcome = request.into_body().collect().await;
            assert_eq!(outcome.is_ok(), arrives, "{name}");
            let counted = admission.counted(Reason::BodyTimeout);
            assert_eq!(counted, u64::from(!arrives), "{name}");
            if let Err(error) = outcome {
                assert!(error.is::<TooSlow>(), "{name}: {error}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_asks_for_the_body_is_not_the_clients() {
        let admission = doors(16);
        let request = pace(&admission).request_body(request("POST", "", &[(10, 10), (10, 10)]));
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            frame.expect("it came");
            // a slow upstream
            tokio::time::sleep(SECOND * 300).await;
        }
        assert_eq!(admission.counted(Reason::BodyTimeout), 0);
    }

    /// An answer of a service behind the pace, and whether its source is still there.
    async fn answer(
        admission: &Admission,
        version: Version,
    ) -> (
        WatchedBody<Channel<Bytes, Infallible>>,
        http_body_util::channel::Sender<Bytes, Infallible>,
    ) {
        let (sender, body) = Channel::<Bytes, Infallible>::new(10);
        let body = Rc::new(RefCell::new(Some(body)));
        let service = tower::service_fn(move |_: Request<PacedBody<http_body_util::Empty<Bytes>>>| {
            let body = body.borrow_mut().take().expect("one call");
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        let request = Request::builder().version(version);
        let request = request.body(http_body_util::Empty::new()).expect("a request");
        let answer = pace(admission).layer(service).oneshot(request).await;
        (answer.expect("infallible").into_body(), sender)
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn an_http2_answer_that_is_not_taken_loses_its_source() {
        for (name, polls, loses) in [("never a window", 0, true), ("one piece", 1, true)] {
            let admission = doors(16);
            let (mut body, mut source) = answer(&admission, Version::HTTP_2).await;
            for _ in 0..10 {
                source.send_data(Bytes::from_static(b"x")).await.expect("taken");
            }
            for _ in 0..polls {
                body.frame().await.expect("a piece").expect("good");
            }
            tokio::time::sleep(SECOND * 59).await;
            assert_eq!(admission.counted(Reason::StreamTimeout), 0, "{name}");
            tokio::time::sleep(SECOND * 20).await;
            assert_eq!(
                admission.counted(Reason::StreamTimeout),
                u64::from(loses),
                "{name}"
            );
            let gone = source.send_data(Bytes::from_static(b"x")).await.is_err();
            assert_eq!(gone, loses, "{name}");
            let error = body.frame().await.expect("an end").expect_err("a bad one");
            assert!(error.is::<NotTaken>(), "{name}");
        }
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn an_answer_that_waits_for_its_source_is_left_alone() {
        for version in [Version::HTTP_2, Version::HTTP_11] {
            let admission = doors(16);
            let (mut body, mut source) = answer(&admission, version).await;
            let taking = tokio::task::spawn_local(async move {
                let mut count = 0;
                while let Some(frame) = body.frame().await {
                    frame.expect("good");
                    count += 1;
                }
                count
            });
            for _ in 0..3 {
                // a stream of events
                tokio::time::sleep(SECOND * 600).await;
                source.send_data(Bytes::from_static(b"x")).await.expect("taken");
            }
            drop(source);
            assert_eq!(taking.await.expect("no panic"), 3, "{version:?}");
            assert_eq!(admission.counted(Reason::StreamTimeout), 0);
        }
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn the_looking_stops_with_the_last_answer_and_starts_again() {
        let admission = doors(16);
        let pace = pace(&admission);
        for _ in 0..2 {
            let stream = pace.answers.watch(());
            assert!(pace.answers.is_watching.get());
            drop(stream);
            tokio::time::sleep(SECOND * 3).await;
            assert!(!pace.answers.is_watching.get());
            assert!(pace.answers.open.borrow().is_empty());
        }
    }
}
