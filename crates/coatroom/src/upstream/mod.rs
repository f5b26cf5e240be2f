//! The inner service that forwards to configured origins and serves the SPA's folder.
//!
//! One instance for each core, with connections of its own. The connection to the upstream is
//! polled by the call that uses it and then by the answer's body, so back-pressure reaches both
//! ways without a buffer and a client that leaves takes its upstream call with it. A request is
//! sent a second time only if the first connection provably wrote none of it. Which upstream is
//! called follows from the matched route and from nothing in the request; redirects are passed
//! on, never followed (RFC 9700 §4.13, RFC 9110 §7.6). Hop-by-hop headers, credentials and
//! forwarding headers are the Layer's business: they arrive here as they are to be sent.

mod body;
mod connect;
mod limit;
mod pool;
mod tunnel;

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use coatroom_core::config::{FileHeaders, RouteTarget};
use coatroom_core::error::Error;
use http::header::{CONNECTION, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tower::Service;

use self::body::Watch;
pub use self::body::{Driven, UpstreamBody, UpstreamBodyError};
pub use self::connect::Connector;
pub use self::limit::{BoxError, RequestBody};
use self::limit::{Client, LimitedBody, Progress, RequestBodyError};
use self::pool::{Answer, Live, Origin, Pool, Used};
use crate::extensions::{Matched, RequestId, SessionId};
use crate::session_end::SessionEnds;
use crate::static_files::StaticFiles;
use crate::timer::{CoarseSleep, CoarseTimer};

/// Forwards requests to the upstream of their [`Matched`] route. Clones share one core's pools.
///
/// It wants to run where `tokio::task::spawn_local` works: in a `LocalRuntime` or a `LocalSet`.
pub struct Upstream<B: RequestBody> {
    core: Rc<Core<B>>,
}

struct Core<B: RequestBody> {
    pool: Rc<Pool<B>>,
    ends: SessionEnds,
    folders: RefCell<Vec<(PathBuf, FileHeaders, StaticFiles)>>,
}

/// What a route says about a call.
#[derive(Clone, Debug)]
struct Terms {
    body_limit: u64,
    connect_timeout: Duration,
    timeout: Duration,
    /// The application's custom header, which no upstream sees.
    csrf_header: HeaderName,
}

impl<B: RequestBody> Upstream<B> {
    /// The upstreams of one core.
    pub fn new(connector: Connector, timer: CoarseTimer, ends: SessionEnds) -> Self {
        Self {
            core: Rc::new(Core {
                pool: Pool::new(connector, timer),
                ends,
                folders: RefCell::default(),
            }),
        }
    }

    fn dispatch(&self, mut request: Request<B>) -> Result<State<B>, Error> {
        let matched = request.extensions_mut().remove::<Matched>();
        let matched = matched.ok_or(Error::Bug("a call reached the upstream without a matched route"))?;
        let route = matched.route();
        let terms = || Terms {
            body_limit: route.body_limit,
            connect_timeout: route.connect_timeout,
            timeout: route.timeout,
            csrf_header: matched.application.csrf_header.clone(),
        };
        match &route.target {
            RouteTarget::Upstream(url) => self.forward(request, url.as_str(), terms()),
            RouteTarget::Static(folder) => Ok(self.serve(&request, folder, &route.files)),
            RouteTarget::DevServer(url) => self.forward(request, url.as_str(), terms()),
            RouteTarget::Inner => Err(Error::Bug("an `inner` route has no service to call")),
        }
    }

    fn forward(&self, mut request: Request<B>, url: &str, terms: Terms) -> Result<State<B>, Error> {
        let pool = self.core.pool.clone();
        let origin = pool.origin(url)?;
        let session = request.extensions_mut().remove::<SessionId>();
        let watch = match session {
            Some(SessionId(id)) => Watch::Later(self.core.ends.clone(), id, self.core.ends.generation()),
            None => Watch::Nothing,
        };
        let request_id = request.extensions_mut().remove::<RequestId>();
        let websocket = asks_for_websocket(request.headers());
        // What follows such a head may be a body to one reader and the tunnel's first bytes to
        // another; HTTP/1.0 has no upgrade at all (RFC 9110 §7.8).
        if websocket && (!request.body().is_end_stream() || request.version() == Version::HTTP_10) {
            return Err(Error::InvalidRequest(
                "a WebSocket begins with a request of HTTP/1.1 that has no body",
            ));
        }
        let client = websocket.then(|| hyper::upgrade::on(&mut request));

        let headers = request.headers_mut();
        // The body is asked for, and with it the client told to go on, once we are connected.
        headers.remove(EXPECT);
        headers.remove(X_REQUEST_ID);
        if let Some(id) = request_id {
            headers.insert(X_REQUEST_ID, id.header());
        }
        if client.is_some() {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        } else {
            headers.remove(CONNECTION);
            headers.remove(UPGRADE);
        }
        origin.address(&mut request)?;

        let (mut parts, body) = request.into_parts();
        // Of a `GET` whose length is not known the body would be left out without a word.
        if !body.is_end_stream() && body.size_hint().exact().is_none() {
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(TRANSFER_ENCODING, chunked);
        }
        let body = LimitedBody::new(body, terms.body_limit, terms.csrf_header.clone())
            .ok_or(Error::PayloadTooLarge)?;
        let progress = body.progress();
        Ok(State::Start {
            request: Request::from_parts(parts, body),
            call: Call {
                deadline: None,
                pool,
                origin,
                terms,
                progress,
                watch,
                client,
            },
        })
    }

    fn serve(&self, request: &Request<B>, folder: &Path, headers: &FileHeaders) -> State<B> {
        let files = self.core.files(folder, headers);
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let path = request.uri().path().to_owned();
        State::Static(Box::pin(async move {
            let response = files.serve(&method, &path, &headers).await?;
            Ok(response.map(UpstreamBody::File))
        }))
    }
}

impl<B: RequestBody> Core<B> {
    fn files(&self, folder: &Path, headers: &FileHeaders) -> StaticFiles {
        let mut folders = self.folders.borrow_mut();
        let known = folders
            .iter()
            .find(|(known, with, _)| known == folder && with == headers);
        if let Some((.., files)) = known {
            return files.clone();
        }
        let files = StaticFiles::new(folder, headers.clone());
        folders.push((folder.to_owned(), headers.clone(), files.clone()));
        files
    }
}

/// The origin of the development server that a route leads to.
fn dev_server(matched: &Matched) -> Option<String> {
    match &matched.route().target {
        RouteTarget::DevServer(url) => Some(url.origin().ascii_serialization()),
        RouteTarget::Upstream(_) | RouteTarget::Static(_) | RouteTarget::Inner => None,
    }
}

/// Whether the Layer let a WebSocket handshake through (RFC 6455 §4.1).
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// A call of an upstream.
pub struct UpstreamFuture<B: RequestBody> {
    state: State<B>,
    /// The address of the development server that is called, if it is one.
    dev_server: Option<String>,
}

enum State<B: RequestBody> {
    Refused(Error),
    Static(Boxed<Response<UpstreamBody<B>>>),
    Start {
        request: Request<LimitedBody<B>>,
        call: Call<B>,
    },
    Dialling {
        dial: Boxed<Box<Live<B>>>,
        request: Request<LimitedBody<B>>,
        call: Call<B>,
    },
    Waiting {
        live: Box<Live<B>>,
        answer: Answer<B>,
        call: Call<B>,
    },
    Switching {
        live: Box<Live<B>>,
        response: Response<Incoming>,
        client: OnUpgrade,
        call: Call<B>,
    },
    Done,
}

/// What is off the hot path may cost an allocation.
type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

struct Call<B: RequestBody> {
    pool: Rc<Pool<B>>,
    origin: Rc<Origin<B>>,
    terms: Terms,
    /// The upload, if there is one.
    progress: Option<Rc<Progress>>,
    watch: Watch,
    /// The client's side of a WebSocket.
    client: Option<OnUpgrade>,
    /// For the answer's head; set when the request is handed to a connection.
    deadline: Option<CoarseSleep>,
}

impl<B: RequestBody> UpstreamFuture<B> {
    fn step(state: State<B>, cx: &mut Context<'_>) -> Step<B> {
        match state {
            State::Refused(error) => Step::Done(Err(error)),
            State::Static(mut serving) => match serving.as_mut().poll(cx) {
                Poll::Ready(response) => Step::Done(response),
                Poll::Pending => Step::Pending(State::Static(serving)),
            },
            State::Start { request, call } => Step::Next(match call.origin.check_out(cx) {
                Some(live) => call.send(live, request),
                None => call.dial(request),
            }),
            State::Dialling {
                mut dial,
                request,
                call,
            } => match dial.as_mut().poll(cx) {
                Poll::Ready(Ok(live)) => Step::Next(call.send(live, request)),
                Poll::Ready(Err(error)) => Step::Done(Err(error)),
                Poll::Pending => Step::Pending(State::Dialling { dial, request, call }),
            },
            State::Waiting {
                mut live,
                mut answer,
                mut call,
            } => {
                let closed = live.poll(cx).is_ready();
                match answer.as_mut().poll(cx) {
                    Poll::Ready(Ok(response)) => call.respond(live, response, cx),
                    Poll::Ready(Err(error)) => call.retry(&live, error),
                    Poll::Pending if closed => Step::Done(Err(no_answer())),
                    Poll::Pending => match call.poll_deadline(cx) {
                        Poll::Ready(error) => Step::Done(Err(error)),
                        Poll::Pending => Step::Pending(State::Waiting { live, answer, call }),
                    },
                }
            }
            State::Switching {
                mut live,
                response,
                client,
                mut call,
            } => {
                if live.poll(cx).is_ready() {
                    return Step::Done(Ok(call.tunnel(*live, response, client)));
                }
                match call.poll_deadline(cx) {
                    Poll::Ready(error) => Step::Done(Err(error)),
                    Poll::Pending => Step::Pending(State::Switching {
                        live,
                        response,
                        client,
                        call,
                    }),
                }
            }
            State::Done => Step::Done(Err(Error::Bug("an upstream call was polled after its end"))),
        }
    }
}

enum Step<B: RequestBody> {
    Next(State<B>),
    Pending(State<B>),
    Done(Result<Response<UpstreamBody<B>>, Error>),
}

impl<B: RequestBody> Call<B> {
    fn dial(self, request: Request<LimitedBody<B>>) -> State<B> {
        State::Dialling {
            dial: Box::pin(self.origin.dial(&self.pool, self.terms.connect_timeout)),
            request,
            call: self,
        }
    }

    fn send(mut self, mut live: Box<Live<B>>, request: Request<LimitedBody<B>>) -> State<B> {
        self.deadline = Some(self.pool.timer.sleep(self.terms.timeout));
        let answer = live.send(request);
        State::Waiting {
            live,
            answer,
            call: self,
        }
    }

    /// The head has arrived.
    fn respond(
        mut self,
        mut live: Box<Live<B>>,
        response: Response<Incoming>,
        cx: &mut Context<'_>,
    ) -> Step<B> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match self.client.take() {
                Some(client) if asks_for_websocket(response.headers()) => Step::Next(State::Switching {
                    live,
                    response,
                    client,
                    call: self,
                }),
                _ => Step::Done(Err(Error::UpstreamUnavailable(
                    "it switched to a protocol nobody asked for".to_owned(),
                ))),
            };
        }
        live.note_keep_alive(response.headers());
        let Self {
            pool, origin, watch, ..
        } = self;
        Step::Done(Ok(response.map(|incoming| {
            UpstreamBody::Upstream(Driven::new(incoming, live, origin, pool, watch, cx))
        })))
    }

    /// The connection failed before the head arrived. Only what it provably never began to write
    /// may be sent once more, and only if it may have gone stale while it was idle.
    fn retry(self, live: &Live<B>, mut error: TrySendError<Request<LimitedBody<B>>>) -> Step<B> {
        match error.take_message() {
            Some(request) if live.used == Used::Before => Step::Next(self.dial(request)),
            _ => Step::Done(Err(failure(&error.into_error()))),
        }
    }

    /// Both sides have agreed to speak WebSocket.
    fn tunnel(
        self,
        live: Live<B>,
        response: Response<Incoming>,
        client: OnUpgrade,
    ) -> Response<UpstreamBody<B>> {
        let (upstream, already_read) = live.into_io();
        tokio::spawn(tunnel::run(
            client,
            upstream,
            already_read,
            self.watch.into_signal(),
            self.pool.timer.clone(),
        ));
        response.map(|_| UpstreamBody::Empty)
    }

    /// Ready when the answer's head is overdue. The time in which the request's body still moves
    /// does not count; a client that stops sending is not the upstream's fault.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
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

/// Whose fault a failed exchange is.
fn failure(error: &hyper::Error) -> Error {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<RequestBodyError>());
    match cause {
        Some(RequestBodyError::TooLarge) => Error::PayloadTooLarge,
        Some(RequestBodyError::Broken(_)) => Error::InvalidRequest("the request body broke off"),
        None if error.is_parse() => Error::UpstreamUnavailable("its answer is not http".to_owned()),
        None => no_answer(),
    }
}

fn no_answer() -> Error {
    Error::UpstreamUnavailable("it closed the connection without an answer".to_owned())
}

impl<B: RequestBody> Future for UpstreamFuture<B> {
    type Output = Result<Response<UpstreamBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match Self::step(std::mem::replace(&mut this.state, State::Done), cx) {
                Step::Next(state) => this.state = state,
                Step::Pending(state) => {
                    this.state = state;
                    return Poll::Pending;
                }
                Step::Done(result) => {
                    return Poll::Ready(result.map_err(|error| match (error, this.dev_server.take()) {
                        (Error::UpstreamUnavailable(reason), Some(address)) => {
                            Error::DevServerUnavailable { address, reason }
                        }
                        (error, _) => error,
                    }));
                }
            }
        }
    }
}

// Bodies inside are pinned by the connection that sends them, not by this future.
impl<B: RequestBody> Unpin for UpstreamFuture<B> {}

impl<B: RequestBody> Service<Request<B>> for Upstream<B> {
    type Response = Response<UpstreamBody<B>>;
    type Error = Error;
    type Future = UpstreamFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> UpstreamFuture<B> {
        let dev_server = request.extensions().get::<Matched>().and_then(dev_server);
        let state = self.dispatch(request).unwrap_or_else(State::Refused);
        UpstreamFuture { state, dev_server }
    }
}

impl<B: RequestBody> Clone for Upstream<B> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
        }
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests;
