//! The service as one connection sees it: requests know their peer, and are counted until their
//! answers were taken. Nothing here looks at a request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use coatroom::Peer;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower::{Service, ServiceExt as _};

use super::super::idle::{Activity, Exchange};
use super::HttpService;

/// The service as one connection sees it: it knows its peer.
pub(super) struct PerConnection<S> {
    service: Rc<RefCell<S>>,
    peer: Peer,
    activity: Rc<Activity>,
    stopping: Rc<Cell<bool>>,
}

impl<S> PerConnection<S> {
    pub(super) fn new(service: S, peer: Peer, activity: Rc<Activity>, stopping: Rc<Cell<bool>>) -> Self {
        Self {
            service: Rc::new(RefCell::new(service)),
            peer,
            activity,
            stopping,
        }
    }
}

impl<S: HttpService> hyper::service::Service<Request<Incoming>> for PerConnection<S> {
    type Response = Response<Answer<S::ResponseBody>>;
    type Error = S::Error;
    type Future = Answering<Calling<S>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let is_http1 = request.version() <= Version::HTTP_11;
        // HTTP/2 frames it, and resets what is not read
        let has_body = is_http1 && !request.body().is_end_stream();
        let exchange = self.activity.begin(has_body);
        request.extensions_mut().insert(self.peer);
        let may_tunnel = !is_http1 && request.method() == Method::CONNECT;
        let future = if has_body {
            Calling::Waiting {
                service: self.service.clone(),
                request: Some(request),
            }
        } else {
            Calling::begin(&self.service, request)
        };
        Answering {
            future,
            exchange: Some(exchange),
            // HTTP/2 has a frame for this
            is_last: is_http1 && self.stopping.get(),
            may_tunnel,
        }
    }
}

pin_project! {
    /// A call of the service.
    #[project = CallingProjection]
    pub(super) enum Calling<S>
    where
        S: Service<Request<Incoming>>,
    {
        /// Not yet: once a body is dropped, as a refusal drops it, hyper drains one more piece of it and
        /// gives up the connection if that is not the end. So the call begins when it is polled, after
        /// hyper has read what came with the head: behind a small body the connection goes on.
        Waiting {
            service: Rc<RefCell<S>>,
            request: Option<Request<Incoming>>,
        },
        /// It began.
        Begun {
            #[pin]
            future: S::Future,
        },
        /// The service was not ready.
        Unready {
            #[pin]
            future: Oneshot<S, Request<Incoming>>,
        },
    }
}

impl<S: HttpService> Calling<S> {
    /// Calls a service that is ready, as ours always is, without a copy of it.
    fn begin(service: &RefCell<S>, request: Request<Incoming>) -> Self {
        let mut service = service.borrow_mut();
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Self::Begun {
                future: service.call(request),
            },
            Poll::Ready(Err(_)) | Poll::Pending => Self::Unready {
                future: service.clone().oneshot(request),
            },
        }
    }
}

impl<S: HttpService> Future for Calling<S> {
    type Output = Result<Response<S::ResponseBody>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let begun = match self.as_mut().project() {
                CallingProjection::Begun { future } => return future.poll(cx),
                CallingProjection::Unready { future } => return future.poll(cx),
                CallingProjection::Waiting { service, request } => {
                    let request = request.take();
                    Self::begin(service, request.expect("it is taken once, and then replaced"))
                }
            };
            self.set(begun);
        }
    }
}

pin_project! {
    /// An answer to come.
    pub(super) struct Answering<F> {
        #[pin]
        future: F,
        exchange: Option<Exchange>,
        is_last: bool,
        may_tunnel: bool,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Answer<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = std::task::ready!(this.future.poll(cx));
        let exchange = this.exchange.take();
        Poll::Ready(response.map(|response| {
            if *this.may_tunnel
                && response.status().is_success()
                && let Some(exchange) = &exchange
            {
                exchange.becomes_tunnel();
            }
            let response = if *this.is_last {
                closing(response)
            } else {
                response
            };
            response.map(|body| Answer {
                body,
                _exchange: exchange,
            })
        }))
    }
}

pin_project! {
    /// The body of an answer; the request is over when it is dropped.
    pub(super) struct Answer<B> {
        #[pin]
        body: B,
        _exchange: Option<Exchange>,
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells the client not to send another request over this connection (RFC 9112 §9.6).
fn closing<B>(mut response: Response<B>) -> Response<B> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}
