//! The request body on its way to the upstream: counted, bounded, never buffered.
//!
//! A frame that would pass the limit is not sent: the body fails, and with it the upstream
//! connection or stream. The body also notes when it last moved and whether it waits for the
//! client, so that a deadline for the upstream's answer does not count the client's time. Where
//! the client asked first (`Expect: 100-continue`, RFC 9110 §10.1.1) it begins only when the
//! upstream says so. It can be lent, to be had back as long as nothing of it was sent, or, where that
//! was asked for, with the little that was sent so far. It never changes a byte; trailers pass, but for those that would not pass as headers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use coatroom_core::error::Error;
use coatroom_core::headers;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::expect::Gate;

/// What an inner service needs of a request body.
pub trait RequestBody: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + 'static {}

impl<B> RequestBody for B where B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + 'static {}

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body with a limit. Most requests have none, and then this is next to nothing: the
/// request it belongs to is moved many times.
pub(super) struct LimitedBody<B>(Option<Box<Upload<B>>>);

struct Upload<B> {
    inner: Source<B>,
    left: u64,
    csrf_header: HeaderName,
    progress: Rc<Progress>,
    gate: Option<Gate>,
}

enum Source<B> {
    Own(B),
    Lent(Rc<Lent<B>>),
}

/// A body that can be had back while nothing of it was taken; none where there is no body.
pub(super) struct Loan<B>(Option<Rc<Lent<B>>>);

struct Lent<B> {
    /// None once it is over, or was taken back.
    body: RefCell<Option<B>>,
    begun: Cell<bool>,
    /// What goes before it: it was sent once before.
    again: RefCell<VecDeque<Frame<Bytes>>>,
    /// What has passed, if somebody asked for it and it was not too much.
    kept: RefCell<Option<Kept>>,
}

#[derive(Default)]
struct Kept {
    frames: VecDeque<Frame<Bytes>>,
    length: usize,
}

/// How an upload is doing.
pub(super) struct Progress {
    moved: Cell<Instant>,
    client: Cell<Client>,
    fault: Cell<Option<Fault>>,
}

/// Who is to move the request body next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// The client owes bytes.
    Awaited,
    /// The body is over, or the upstream is slow to take it.
    NotAwaited,
}

/// What the client did wrong with its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooLarge,
    Broken,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLarge => Self::PayloadTooLarge,
            Fault::Broken => Self::InvalidRequest("the request body broke off"),
        }
    }
}

/// Why a request body failed. The causes are the client's.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestBodyError {
    #[error("request body over the limit")]
    TooLarge,
    #[error("the client broke off its request body")]
    Broken(#[source] BoxError),
}

impl<B: RequestBody> LimitedBody<B> {
    /// Puts the limit on a body; none when the body already says that it is longer.
    pub(super) fn new(inner: B, limit: u64, csrf_header: &HeaderName) -> Option<Self> {
        Self::of(Source::Own(inner), limit, csrf_header)
    }

    fn of(inner: Source<B>, limit: u64, csrf_header: &HeaderName) -> Option<Self> {
        if inner.is_end_stream() {
            return Some(Self(None));
        }
        if inner.size_hint().lower() > limit {
            return None;
        }
        Some(Self(Some(Box::new(Upload {
            inner,
            left: limit,
            csrf_header: csrf_header.clone(),
            progress: Rc::new(Progress {
                moved: Cell::new(Instant::now()),
                client: Cell::new(Client::NotAwaited),
                fault: Cell::new(None),
            }),
            gate: None,
        }))))
    }

    /// How the upload is doing; none when there is no body.
    pub(super) fn progress(&self) -> Option<Rc<Progress>> {
        self.0.as_ref().map(|upload| upload.progress.clone())
    }

    /// Keeps the body back until the gate opens.
    pub(super) fn hold(&mut self, gate: Gate) {
        if let Some(upload) = &mut self.0 {
            upload.gate = Some(gate);
        }
    }

    /// The same body, and the way to have it back.
    pub(super) fn lend(self) -> (Self, Loan<B>) {
        let Some(upload) = self.0 else {
            return (Self(None), Loan(None));
        };
        let lent = match upload.inner {
            Source::Own(body) => Rc::new(Lent::new(body)),
            Source::Lent(lent) => lent,
        };
        let upload = Upload {
            inner: Source::Lent(lent.clone()),
            ..*upload
        };
        (Self(Some(Box::new(upload))), Loan(Some(lent)))
    }
}

impl<B: RequestBody> Loan<B> {
    /// The body with its limit, if nothing of it was taken; whoever has the other half finds it over.
    pub(super) fn take_back(&self, limit: u64, csrf_header: &HeaderName) -> Option<LimitedBody<B>> {
        let Some(lent) = &self.0 else {
            return Some(LimitedBody(None));
        };
        if lent.begun.get() {
            return None;
        }
        lent.take(lent.again.take())?.limited(limit, csrf_header)
    }

    /// From now on keeps what passes, as long as that is little.
    pub(super) fn keep(&self) {
        if let Some(lent) = &self.0 {
            let mut kept = lent.kept.borrow_mut();
            if !lent.begun.get() && kept.is_none() {
                *kept = Some(Kept::default());
            }
        }
    }

    /// The body from its beginning, if all that has passed was kept; whoever has the other half finds
    /// it over.
    pub(super) fn replay(&self, limit: u64, csrf_header: &HeaderName) -> Option<LimitedBody<B>> {
        let Some(lent) = &self.0 else {
            return Some(LimitedBody(None));
        };
        let kept = lent.kept.take()?;
        lent.take(kept.frames)?.limited(limit, csrf_header)
    }
}

impl<B: RequestBody> Lent<B> {
    fn new(body: B) -> Self {
        Self {
            body: RefCell::new(Some(body)),
            begun: Cell::new(false),
            again: RefCell::default(),
            kept: RefCell::default(),
        }
    }

    /// What is left, with these frames before it.
    fn take(&self, before: VecDeque<Frame<Bytes>>) -> Option<Self> {
        let body = self.body.take();
        (body.is_some() || !before.is_empty()).then(|| Self {
            body: RefCell::new(body),
            begun: Cell::new(false),
            again: RefCell::new(before),
            kept: RefCell::default(),
        })
    }

    fn limited(self, limit: u64, csrf_header: &HeaderName) -> Option<LimitedBody<B>> {
        LimitedBody::of(Source::Lent(Rc::new(self)), limit, csrf_header)
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.again.borrow_mut().pop_front() {
            self.begun.set(true);
            return Poll::Ready(Some(Ok(frame)));
        }
        let mut place = self.body.borrow_mut();
        let Some(body) = place.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(frame) => {
                self.begun.set(true);
                match frame {
                    Some(Ok(frame)) => self.note(frame),
                    Some(Err(_)) => drop(self.kept.take()),
                    None => *place = None,
                }
            }
        }
        polled
    }

    /// Keeps a frame if it may.
    fn note(&self, frame: &Frame<Bytes>) {
        let mut place = self.kept.borrow_mut();
        let Some(kept) = place.as_mut() else { return };
        let copy = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                kept.length = kept.length.saturating_add(data.len());
                Some(Frame::data(data.clone()))
            }
            (None, Some(trailers)) => Some(Frame::trailers(trailers.clone())),
            (None, None) => None,
        };
        match copy.filter(|_| kept.length <= MOST_KEPT && kept.frames.len() < MOST_FRAMES) {
            Some(copy) => kept.frames.push_back(copy),
            None => *place = None,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.again.borrow().is_empty() && self.body.borrow().as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.borrow();
        let mut hint = rest
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let again = self.again.borrow();
        if !again.is_empty() {
            let lengths = again.iter().filter_map(Frame::data_ref).map(Bytes::len);
            let before = u64::try_from(lengths.sum::<usize>()).unwrap_or(u64::MAX);
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(before));
            }
            hint.set_lower(hint.lower().saturating_add(before));
        }
        hint
    }
}

impl Progress {
    /// When the last frame went through.
    pub(super) fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// Who is to move next.
    pub(super) fn client(&self) -> Client {
        self.client.get()
    }

    /// What the client did wrong, if it did.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    fn note(&self, fault: Fault) {
        self.fault.set(Some(fault));
    }
}

impl<B: RequestBody> Source<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self {
            Self::Own(body) => Pin::new(body).poll_frame(cx),
            Self::Lent(loan) => loan.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Lent(loan) => loan.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Lent(loan) => loan.size_hint(),
        }
    }
}

impl<B: RequestBody> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(this) = &mut self.get_mut().0 else {
            return Poll::Ready(None);
        };
        if let Some(gate) = &mut this.gate {
            ready!(gate.poll_open(cx));
            this.gate = None;
        }
        let polled = this.inner.poll_frame(cx);
        let progress = &this.progress;
        if polled.is_pending() {
            progress.client.set(Client::Awaited);
        } else {
            progress.client.set(Client::NotAwaited);
            progress.moved.set(Instant::now());
        }
        let mut frame = match ready!(polled) {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                progress.note(Fault::Broken);
                return Poll::Ready(Some(Err(RequestBodyError::Broken(error.into()))));
            }
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            match this.left.checked_sub(length) {
                Some(left) => this.left = left,
                None => {
                    progress.note(Fault::TooLarge);
                    return Poll::Ready(Some(Err(RequestBodyError::TooLarge)));
                }
            }
        }
        if let Some(trailers) = frame.trailers_mut() {
            headers::strip_request_trailers(trailers, &this.csrf_header);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            None => true,
            Some(upload) => upload.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(upload) => upload.inner.size_hint(),
        }
    }
}

/// How many bytes of a body are kept in case it has to be sent once more.
const MOST_KEPT: usize = 64 * 1024;

/// In how many frames, since each costs more than its bytes.
const MOST_FRAMES: usize = 1024;

// Nothing in it is ever pinned.
impl<B> Unpin for LimitedBody<B> {}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, stream};
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    fn limited<B: RequestBody>(inner: B, limit: u64) -> Option<LimitedBody<B>> {
        LimitedBody::new(inner, limit, &HeaderName::from_static("token-handler-version"))
    }

    fn chunks(sizes: &[usize]) -> impl RequestBody {
        let frames: Vec<Result<_, std::io::Error>> = sizes
            .iter()
            .map(|size| Ok(Frame::data(Bytes::from(vec![0; *size]))))
            .collect();
        StreamBody::new(stream::iter(frames))
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_before_a_byte() {
        assert!(limited(Full::new(Bytes::from_static(b"12345")), 4).is_none());
        assert!(limited(Full::new(Bytes::from_static(b"1234")), 4).is_some());
    }

    #[test]
    fn a_body_passes_up_to_the_limit_and_fails_beyond() {
        for (name, sizes, limit, passes) in [
            ("empty", &[][..], 0, true),
            ("one chunk below", &[3], 4, true),
            ("exactly the limit", &[3, 1], 4, true),
            ("one byte over", &[3, 2], 4, false),
            ("at once over", &[9], 4, false),
            ("nothing allowed", &[1], 0, false),
        ] {
            let body = limited(chunks(sizes), limit).expect("length unknown");
            let outcome = body.collect().now_or_never().expect("never pending");
            assert_eq!(outcome.is_ok(), passes, "{name}");
            if let Err(error) = outcome {
                assert!(matches!(error, RequestBodyError::TooLarge), "{name}");
            }
        }
    }

    #[test]
    fn a_clients_failure_is_told_from_the_limit() {
        let failing = StreamBody::new(stream::iter([Err::<Frame<Bytes>, _>(std::io::Error::other(
            "left",
        ))]));
        let body = limited(failing, 9).expect("length unknown");
        let outcome = body.collect().now_or_never().expect("never pending");
        assert!(matches!(outcome, Err(RequestBodyError::Broken(_))));
    }

    #[test]
    fn trailers_pass_and_do_not_count() {
        let trailers: http::HeaderMap = [(http::header::ETAG, http::HeaderValue::from_static("1"))]
            .into_iter()
            .collect();
        let frames: [Result<_, std::io::Error>; 2] = [
            Ok(Frame::data(Bytes::from_static(b"1234"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let body = limited(StreamBody::new(stream::iter(frames)), 4).expect("length unknown");
        let collected = body
            .collect()
            .now_or_never()
            .expect("never pending")
            .expect("passes");
        assert_eq!(collected.trailers(), Some(&trailers));
    }

    #[test]
    fn what_does_not_pass_as_a_header_does_not_pass_as_a_trailer() {
        let trailers: http::HeaderMap = [
            ("x-sum", "6"),
            ("x-forwarded-user", "admin"),
            ("x_forwarded_user", "admin"),
            ("cookie", "a=b"),
            ("content-length", "1"),
            ("token-handler-version", "1"),
        ]
        .into_iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )
        })
        .collect();
        let frames = [Ok::<_, std::io::Error>(Frame::trailers(trailers))];
        let body = limited(StreamBody::new(stream::iter(frames)), 4).expect("length unknown");
        let collected = body
            .collect()
            .now_or_never()
            .expect("never pending")
            .expect("passes");
        let names: Vec<_> = collected.trailers().expect("trailers").keys().collect();
        assert_eq!(names, ["x-sum"]);
    }

    #[test]
    fn it_is_known_whether_the_client_is_awaited() {
        let waiting = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let mut body = limited(waiting, 4).expect("length unknown");
        let progress = body.progress().expect("there is a body");
        assert_eq!(progress.client(), Client::NotAwaited);
        assert!(body.frame().now_or_never().is_none());
        assert_eq!(progress.client(), Client::Awaited);
        assert!(
            limited(Full::<Bytes>::default(), 4)
                .expect("empty")
                .progress()
                .is_none()
        );
    }
}
