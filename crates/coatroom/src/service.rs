//! The tower Layer: routes each request to the agent, to the wrapped service, or to a refusal.
//!
//! Works under any tower stack: no `Send` bound on the wrapped service, nothing boxed on the hot
//! path. It never opens a connection: the agent's work runs on the control runtime, API calls go
//! to the wrapped service.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use coatroom_core::error::Error;
use coatroom_core::headers;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::api::{AgentFuture, Carried, LookUpFuture, LookedUp, Passage, Passed};
use std::sync::Arc;

use crate::handler::TokenHandler;
use crate::respond;
use crate::snapshot::Local;

/// Wraps a service with a [`TokenHandler`]. Made by [`TokenHandler::layer`].
#[derive(Clone)]
pub struct TokenHandlerLayer {
    handler: TokenHandler,
}

impl TokenHandlerLayer {
    pub(crate) fn new(handler: TokenHandler) -> Self {
        Self { handler }
    }
}

impl<S> Layer<S> for TokenHandlerLayer {
    type Service = TokenHandlerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TokenHandlerService {
            local: Local::new(self.handler.clone()),
            inner,
            failed: None,
        }
    }
}

/// The token handler in front of a service. Its own errors are answers, so it never fails.
#[derive(Clone)]
pub struct TokenHandlerService<S> {
    local: Arc<Local>,
    inner: S,
    /// Why the wrapped service is not to be called any more.
    failed: Option<Error>,
}

impl<S, B, R> Service<Request<B>> for TokenHandlerService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Into<Error>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body<R>>;
    type Error = Infallible;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // a wrapped service that failed takes its own calls with it, not the agent's
        self.inner.poll_ready(context).map(|outcome| {
            self.failed = outcome.err().map(Into::into);
            Ok(())
        })
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let http1 = Http1::of(&request);
        let passage = self.local.current().pass(request, None, Carried::default());
        match (passage, self.failed.take()) {
            (Passage::LookUp(request, looked_up, carried), failed) => {
                // the one that is ready goes with the request, as tower has it
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::LookUp {
                    waiting: Some(Box::new(Waiting {
                        request,
                        looked_up,
                        carried,
                        local: Arc::clone(&self.local),
                        inner,
                        failed,
                        rounds: 1,
                    })),
                    http1,
                }
            }
            (Passage::Inner(_, passed), Some(error)) => ResponseFuture::Ready {
                response: Some(passed.refuse(&error)),
            },
            (Passage::Inner(request, passed), None) => ResponseFuture::Forward {
                future: self.inner.call(request),
                passed: Some(passed),
                http1,
            },
            (Passage::Agent(future), _) => ResponseFuture::Agent { future },
            (Passage::Answer(response), _) => ResponseFuture::Ready {
                response: Some(http1.refuse(response)),
            },
        }
    }
}

/// What an HTTP/1.1 connection has to know about a request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http1 {
    Connect,
    Other,
    /// HTTP/2 frames its streams, and resets those that it does not understand.
    Not,
}

impl Http1 {
    fn of<B>(request: &Request<B>) -> Self {
        match (request.version() <= Version::HTTP_11, request.method()) {
            (false, _) => Self::Not,
            (true, &Method::CONNECT) => Self::Connect,
            (true, _) => Self::Other,
        }
    }

    /// Where we and the client may disagree about what was sent, and behind a tunnel that is not to
    /// be, nothing that follows is read as a request of its own (RFC 9112 §11.2, RFC 9110 §9.3.6).
    fn refuse(self, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        let closes = match self {
            Self::Connect => true,
            // by the code as well: towards gRPC the status is 200
            Self::Other => {
                let code = response.headers().get(&respond::ERROR_HEADER);
                response.status() == StatusCode::BAD_REQUEST
                    || code.is_some_and(|code| code == Error::InvalidRequest("").answer().code)
            }
            Self::Not => false,
        };
        if closes {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

/// A request that waits for what a store says of its session, or the provider of its token.
#[expect(unnameable_types, reason = "a part of the future, and nobody's business")]
pub struct Waiting<S, B> {
    request: Request<B>,
    looked_up: LookUpFuture,
    carried: Carried,
    local: Arc<Local>,
    inner: S,
    failed: Option<Error>,
    rounds: u8,
}

pin_project! {
    #[expect(missing_docs, reason = "the macro takes no documentation on fields")]
    /// The answer to come: the wrapped service's, the agent's, or one that is there already.
    #[project = ResponseFutureProjection]
    pub enum ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        /// The wrapped service answers.
        Forward {
            #[pin]
            future: S::Future,
            passed: Option<Passed>,
            http1: Http1,
        },
        /// The agent answers; its work runs on the control runtime.
        Agent {
            future: AgentFuture,
        },
        /// A store is asked about the session first, or the provider about its token.
        LookUp {
            waiting: Option<Box<Waiting<S, B>>>,
            http1: Http1,
        },
        /// A refusal or a preflight.
        Ready {
            response: Option<Response<Full<Bytes>>>,
        },
    }
}

impl<S, B> Waiting<S, B>
where
    S: Service<Request<B>>,
    S::Error: Into<Error>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Decides again, with what was looked up.
    fn go_on(self, looked_up: LookedUp, http1: Http1) -> ResponseFuture<S, B> {
        let Self {
            request,
            carried,
            local,
            mut inner,
            failed,
            rounds,
            ..
        } = self;
        match (local.current().pass(request, Some(looked_up), carried), failed) {
            (Passage::Inner(_, passed), Some(error)) => ResponseFuture::Ready {
                response: Some(passed.refuse(&error)),
            },
            (Passage::Inner(request, passed), None) => ResponseFuture::Forward {
                future: inner.call(request),
                passed: Some(passed),
                http1,
            },
            (Passage::LookUp(request, looked_up, carried), failed) if rounds < MAX_ROUNDS => {
                ResponseFuture::LookUp {
                    waiting: Some(Box::new(Self {
                        request,
                        looked_up,
                        carried,
                        local,
                        inner,
                        failed,
                        rounds: rounds.saturating_add(1),
                    })),
                    http1,
                }
            }
            (Passage::LookUp(request, _, carried), _) => {
                let looked_up = LookedUp::Session {
                    known: Err(Error::AccessTokenExpired),
                    generation: 0,
                };
                match local.current().pass(request, Some(looked_up), carried) {
                    Passage::Answer(response) => ResponseFuture::Ready {
                        response: Some(http1.refuse(response)),
                    },
                    Passage::Inner(..) | Passage::Agent(_) | Passage::LookUp(..) => ResponseFuture::Ready {
                        response: Some(respond::error(
                            &Error::Bug("a look-up has no end"),
                            respond::Reader::Script,
                        )),
                    },
                }
            }
            (Passage::Agent(future), _) => ResponseFuture::Agent { future },
            (Passage::Answer(response), _) => ResponseFuture::Ready {
                response: Some(http1.refuse(response)),
            },
        }
    }
}

/// How often a request may have to be looked up: its record, its new tokens, what the provider says of
/// them, and once more for a core that forgot meanwhile.
const MAX_ROUNDS: u8 = 5;

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<Error>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Response<Body<R>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        while let ResponseFutureProjection::LookUp { waiting, http1 } = self.as_mut().project() {
            let (pending, http1) = (
                waiting
                    .as_mut()
                    .expect("a future is not polled again after it is ready"),
                *http1,
            );
            let looked_up = std::task::ready!(pending.looked_up.as_mut().poll(context));
            let waiting = waiting.take().expect("it was there a line above");
            self.set(waiting.go_on(looked_up, http1));
        }
        match self.project() {
            ResponseFutureProjection::LookUp { .. } => unreachable!("the loop above has left none"),
            ResponseFutureProjection::Forward {
                future,
                passed,
                http1,
            } => {
                let outcome = std::task::ready!(future.poll(context));
                let passed = passed
                    .take()
                    .expect("a future is not polled again after it is ready");
                let judged = outcome.map_err(Into::into).and_then(|response| {
                    passed.judge(&response)?;
                    Ok(response)
                });
                Poll::Ready(Ok(match judged {
                    Ok(response) => {
                        // What a client has sent ahead of a tunnel that is not to be is no request
                        // (RFC 9110 §7.8).
                        let closes = *http1 != Http1::Not
                            && passed.is_websocket()
                            && response.status() != StatusCode::SWITCHING_PROTOCOLS;
                        let mut response = passed.clean(response);
                        if closes {
                            let close = HeaderValue::from_static("close");
                            response.headers_mut().insert(CONNECTION, close);
                        }
                        response.map(|body| Body::Upstream { body })
                    }
                    Err(error) => {
                        let refusal = http1.refuse(passed.refuse(&error));
                        refusal.map(|body| Body::Own { body })
                    }
                }))
            }
            ResponseFutureProjection::Agent { future } => future
                .as_mut()
                .poll(context)
                .map(|response| Ok(response.map(|body| Body::Own { body }))),
            ResponseFutureProjection::Ready { response } => {
                let response = response
                    .take()
                    .expect("a future is not polled again after it is ready");
                Poll::Ready(Ok(response.map(|body| Body::Own { body })))
            }
        }
    }
}

pin_project! {
    #[expect(missing_docs, reason = "the macro takes no documentation on fields")]
    /// A response body: the wrapped service's, streamed as it is but for trailers that would not
    /// pass as headers, or one of ours.
    #[project = BodyProjection]
    pub enum Body<B> {
        /// The wrapped service's.
        Upstream {
            #[pin]
            body: B,
        },
        /// Ours.
        Own {
            #[pin]
            body: Full<Bytes>,
        },
    }
}

impl<B: http_body::Body<Data = Bytes>> http_body::Body for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, B::Error>>> {
        match self.project() {
            BodyProjection::Upstream { body } => body.poll_frame(context).map_ok(|mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::clean_response_trailers(trailers);
                }
                frame
            }),
            BodyProjection::Own { body } => body
                .poll_frame(context)
                .map(|frame| frame.map(|outcome| outcome.map_err(|never| match never {}))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream { body } => body.is_end_stream(),
            Self::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Upstream { body } => body.size_hint(),
            Self::Own { body } => body.size_hint(),
        }
    }
}

impl<B: Default> Default for Body<B> {
    fn default() -> Self {
        Self::Upstream { body: B::default() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, stream};
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    #[test]
    fn behind_a_refusal_of_what_was_sent_the_connection_ends_whatever_its_status() {
        for (status, code, http1, closes) in [
            (400, "invalid_request", Http1::Other, true),
            // towards gRPC
            (200, "invalid_request", Http1::Other, true),
            (200, "unauthorized", Http1::Other, false),
            (401, "unauthorized", Http1::Other, false),
            (405, "method_not_allowed", Http1::Connect, true),
            (400, "invalid_request", Http1::Not, false),
        ] {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            let code = HeaderValue::from_static(code);
            response.headers_mut().insert(respond::ERROR_HEADER, code.clone());
            let response = http1.refuse(response);
            let close = response.headers().get(CONNECTION);
            assert_eq!(close.is_some(), closes, "{status} {code:?} {http1:?}");
        }
    }

    #[test]
    fn trailers_of_an_answer_say_nothing_that_its_headers_may_not() {
        let trailers: HeaderMap = [
            ("grpc-status", "0"),
            ("access-control-allow-origin", "*"),
            ("clear-site-data", "\"cookies\""),
            ("token-handler-error", "unauthorized"),
            ("set-cookie", "a=b"),
        ]
        .into_iter()
        .map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect();
        let frames = [Frame::data(Bytes::from_static(b"hi")), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        let collected = Body::Upstream { body }.collect().now_or_never();
        let collected = collected.expect("never pending").expect("infallible");
        let names: Vec<_> = collected.trailers().expect("trailers").keys().collect();
        assert_eq!(names, ["grpc-status"]);
        assert_eq!(collected.to_bytes(), "hi");
    }
}
