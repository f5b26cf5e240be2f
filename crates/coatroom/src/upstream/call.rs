//! One call of an upstream: handed to a connection, sent once more where that is safe, made a
//! tunnel where both sides agree, or given up when its answer is overdue.
//!
//! It never looks at a header but those of a WebSocket and `Expect`, and never at a body.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use coatroom_core::error::Error;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper_util::rt::TokioIo;

use super::balance::{Balancer, Lease};
use super::body::{Driven, UpstreamBody, Watch};
use super::connect::Io;
use super::deadlines::Deadlines;
use super::expect::Gate;
use super::http2::{Unprocessed, unprocessed};
use super::limit::{Client, LimitedBody, Loan, Progress, RequestBody};
use super::pool::{Live, Origin, Pool, Purpose, Used};
use super::proving::{Answered, Proving};
use super::websocket::{Handshake, Outcome};
use super::{State, Step, Terms, tunnel};
use crate::timer::CoarseSleep;

pub(super) struct Call<B: RequestBody> {
    pub(super) pool: Rc<Pool<B>>,
    pub(super) balancer: Rc<Balancer<B>>,
    pub(super) origin: Lease<B>,
    /// Those that could not be connected to.
    pub(super) tried: Vec<Rc<Origin<B>>>,
    pub(super) terms: Terms,
    /// The upload, if there is one.
    pub(super) progress: Option<Rc<Progress>>,
    pub(super) watch: Watch,
    pub(super) websocket: Option<Handshake>,
    /// Whether the client waits to be told to send its body.
    pub(super) expects: bool,
    /// What it takes to send the request once more, if it was sent over HTTP/2.
    pub(super) again: Option<Box<Again<B>>>,
    pub(super) repeated: bool,
    /// Where the token is bound to a key.
    pub(super) proving: Option<Box<Proving<B>>>,
    /// For the answer's head; set when the request is handed to a connection.
    pub(super) deadline: Option<CoarseSleep>,
    /// For all of it, on a route with `total_timeout`.
    pub(super) total: Option<Box<CoarseSleep>>,
}

/// A request that an upstream may say it did not process.
pub(super) struct Again<B> {
    head: Parts,
    body: Loan<B>,
}

impl<B: RequestBody> Call<B> {
    pub(super) fn purpose(&self) -> Purpose {
        match self.websocket {
            Some(_) => Purpose::WebSocket,
            None => Purpose::Request,
        }
    }

    pub(super) fn dial(self: Box<Self>, request: Request<LimitedBody<B>>) -> State<B> {
        let purpose = self.purpose();
        State::Dialling {
            dial: Box::pin(
                self.origin
                    .origin
                    .dial(&self.pool, purpose, self.terms.connect_timeout),
            ),
            request,
            call: self,
        }
    }

    pub(super) fn send(
        mut self: Box<Self>,
        mut live: Box<Live<B>>,
        mut request: Request<LimitedBody<B>>,
    ) -> Step<B> {
        self.deadline = Some(self.pool.timer.sleep(self.terms.timeout));
        if let Some(proving) = &mut self.proving {
            request = proving.keep(request);
        }
        if live.http2().is_some() {
            request = match self.prepare_http2(request) {
                Ok(request) => request,
                Err(error) => return Step::Done(Err(error)),
            };
        } else {
            if let Some(websocket) = &mut self.websocket
                && let Err(error) = websocket.ask_http1(&mut request)
            {
                return Step::Done(Err(error));
            }
            if self.expects && self.progress.is_some() {
                let gate = Gate::on(&mut request, &self.pool.timer);
                request.body_mut().hold(gate);
                request.headers_mut().insert(EXPECT, CONTINUE);
            }
        }
        let answer = live.send(request);
        Step::Next(State::Waiting {
            live,
            answer,
            call: self,
        })
    }

    /// Keeps what it takes to send the request once more. Over HTTP/2 an upstream may refuse what
    /// it did not process, at any time and for reasons of its own.
    fn prepare_http2(&mut self, request: Request<LimitedBody<B>>) -> Result<Request<LimitedBody<B>>, Error> {
        let (head, body) = request.into_parts();
        let (body, loan) = body.lend();
        self.again = Some(Box::new(Again {
            head: head.clone(),
            body: loan,
        }));
        let mut request = Request::from_parts(head, body);
        if let Some(websocket) = &self.websocket {
            websocket.ask_http2(&mut request)?;
            if let Some(proving) = &self.proving {
                proving.prove(&mut request)?;
            }
        }
        Ok(request)
    }

    /// The head has arrived.
    pub(super) fn respond(
        mut self: Box<Self>,
        mut live: Box<Live<B>>,
        mut response: Response<Incoming>,
        cx: &mut Context<'_>,
    ) -> Step<B> {
        self.origin.pulse.succeeded();
        if self.proving.is_some() {
            match self.prove_again(live, response, cx) {
                Answered::Challenged(step) => return step,
                Answered::Plainly(own, same, answer) => (self, live, response) = (own, same, answer),
            }
        }
        if let Some(websocket) = self.websocket.take() {
            let is_http2 = live.http2().is_some();
            let outcome = match is_http2 {
                true => websocket.judge_http2(&mut response),
                false => websocket.judge_http1(&mut response),
            };
            match (outcome, is_http2) {
                (Err(error), _) => return Step::Done(Err(error)),
                (Ok(Outcome::Agreed), false) => {
                    return Step::Next(State::Switching {
                        live,
                        response,
                        websocket,
                        call: self,
                    });
                }
                (Ok(Outcome::Agreed), true) => {
                    return Step::Done(Ok(self.tunnel_http2(live, response, websocket)));
                }
                (Ok(Outcome::Declined), _) => {}
            }
        } else if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Step::Done(Err(Error::UpstreamUnavailable(
                "it switched to a protocol nobody asked for".to_owned(),
            )));
        }
        live.note_keep_alive(response.headers());
        let Self {
            pool,
            origin,
            watch,
            terms,
            total,
            ..
        } = *self;
        let deadlines = Deadlines::new(terms.limits, total, &pool.timer);
        Step::Done(Ok(response.map(|incoming| {
            UpstreamBody::Upstream(Driven::new(incoming, live, origin, pool, watch, deadlines, cx))
        })))
    }

    /// The connection failed before the head arrived. Only what it provably never began to write
    /// may be sent once more, and only if it may have gone stale while it was idle; or what an
    /// upstream of HTTP/2 says it did not process, once, and to another address if there is one.
    pub(super) fn retry(
        mut self: Box<Self>,
        live: &Live<B>,
        mut error: TrySendError<Request<LimitedBody<B>>>,
        cx: &mut Context<'_>,
    ) -> Step<B> {
        let again = self.again.take();
        match error.take_message() {
            Some(request) if live.used == Used::Before => {
                let request = match again {
                    Some(again) => Request::from_parts(again.head, request.into_body()),
                    None => request,
                };
                return Step::Next(self.dial(request));
            }
            _ => {}
        }
        if let Some(fault) = self.progress.as_ref().and_then(|progress| progress.fault()) {
            return Step::Done(Err(fault.into()));
        }
        let error = error.into_error();
        if let (Some(why), Some(again), false) = (unprocessed(&error), again, self.repeated) {
            if let (Unprocessed::GoingAway, Some(stream)) = (why, live.http2()) {
                stream.retire();
            }
            let terms = &self.terms;
            if let Some(body) = again.body.take_back(terms.body_limit, &terms.csrf_header) {
                self.repeated = true;
                self.progress = body.progress();
                let mut request = Request::from_parts(again.head, body);
                self.try_another(&mut request);
                return match self.origin.check_out(self.purpose(), cx) {
                    Some(live) => self.send(live, request),
                    None => Step::Next(self.dial(request)),
                };
            }
        }
        Step::Done(Err(self.failed(failure(&error))))
    }

    /// Both sides have agreed to speak WebSocket, the upstream over a connection of its own.
    pub(super) fn tunnel(
        self: Box<Self>,
        io: Io,
        already_read: Bytes,
        response: Response<Incoming>,
        websocket: Handshake,
    ) -> Response<UpstreamBody<B>> {
        let (client, ended, timer) = (
            websocket.client,
            self.watch.into_signal(),
            self.pool.timer.clone(),
        );
        // as long as it lives it counts as a call
        let origin = self.origin;
        tokio::task::spawn_local(async move {
            // The client's side exists once it is answered; a client that left has none.
            if let Ok(client) = client.await {
                tunnel::run(
                    TokioIo::new(client),
                    TokioIo::new(io),
                    already_read,
                    ended,
                    &timer,
                )
                .await;
            }
            drop(origin);
        });
        response.map(|_| UpstreamBody::Empty)
    }

    /// The same, over a stream of a shared connection.
    fn tunnel_http2(
        self: Box<Self>,
        live: Box<Live<B>>,
        mut response: Response<Incoming>,
        websocket: Handshake,
    ) -> Response<UpstreamBody<B>> {
        let upstream = hyper::upgrade::on(&mut response);
        let (client, ended, timer) = (
            websocket.client,
            self.watch.into_signal(),
            self.pool.timer.clone(),
        );
        let origin = self.origin;
        tokio::task::spawn_local(async move {
            if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
                let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                tunnel::run(client, upstream, Bytes::new(), ended, &timer).await;
            }
            // The place on the connection is taken until here, and the call counts.
            drop((live, origin));
        });
        response.map(|_| UpstreamBody::Empty)
    }

    /// Ready when the answer's head is overdue. The time in which the request's body still moves
    /// does not count; a client that stops sending is not the upstream's fault.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if self.is_over(cx) {
            return Poll::Ready(Error::UpstreamTimeout);
        }
        loop {
            let Some(deadline) = &mut self.deadline else {
                return Poll::Pending;
            };
            if Pin::new(&mut *deadline).poll(cx).is_pending() {
                return Poll::Pending;
            }
            let Some(progress) = &self.progress else {
                return Poll::Ready(Error::UpstreamTimeout);
            };
            let Some(extended) = progress.moved().checked_add(self.terms.timeout) else {
                return Poll::Pending;
            };
            if extended <= tokio::time::Instant::now() {
                return Poll::Ready(match progress.client() {
                    Client::Awaited => Error::InvalidRequest("the request body stopped coming"),
                    Client::NotAwaited => Error::UpstreamTimeout,
                });
            }
            deadline.reset(extended);
        }
    }
}

/// What an upstream did wrong. What the client did is known before this is asked.
fn failure(error: &hyper::Error) -> Error {
    let reset = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    match reset {
        Some(cause) if cause.is_remote() => {
            Error::UpstreamUnavailable("it reset the stream without an answer".to_owned())
        }
        Some(cause) if cause.is_library() => Error::UpstreamUnavailable("its answer is not http".to_owned()),
        _ if error.is_parse() => Error::UpstreamUnavailable("its answer is not http".to_owned()),
        _ => no_answer(),
    }
}

pub(super) fn no_answer() -> Error {
    Error::UpstreamUnavailable("it closed the connection without an answer".to_owned())
}

const CONTINUE: HeaderValue = HeaderValue::from_static("100-continue");
