//! The inner service that forwards to configured origins and serves the SPA's folder.
//!
//! One instance for each core, with connections of its own. A connection of HTTP/1.1 is polled by
//! the call that uses it and then by the answer's body, so back-pressure reaches both ways without
//! a buffer and a client that leaves takes its upstream call with it; over HTTP/2 the stream's
//! windows and its reset do the same. A request is sent a second time only if the first connection
//! provably wrote none of it (it never came about, and then the next address is called, or it had
//! gone stale while it was idle), or the upstream said that it processed none of it. Which upstream
//! is called follows from the matched route and from nothing in the request; redirects are passed
//! on, never followed (RFC 9700 §4.13, RFC 9110 §7.6). Hop-by-hop headers, credentials and
//! forwarding headers are the Layer's business: they arrive here as they are to be sent.

mod addressing;
mod balance;
mod body;
mod call;
mod concurrency;
mod connect;
mod deadlines;
mod directory;
mod endpoint;
mod examine;
mod expect;
mod health;
mod http2;
mod limit;
mod pool;
mod proving;
mod quiet;
mod resolve;
mod tunnel;
mod websocket;

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use coatroom_core::config::{CallLimits, FileHeaders, RouteTarget};
use coatroom_core::error::Error;
use http::header::{CONNECTION, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tower::Service;

use self::addressing::Waiting;
use self::balance::{Balancer, Lease};
use self::body::Watch;
pub use self::body::{Driven, UpstreamBody, UpstreamBodyError};
use self::call::{Call, no_answer};
use self::concurrency::{Gate, Permit};
pub use self::connect::Connector;
pub use self::directory::{EndpointState, UpstreamState};
pub use self::examine::{Examined, Question};
use self::limit::LimitedBody;
pub use self::limit::{BoxError, RequestBody};
use self::pool::{Answer, Live, NoConnection, Pool};
use self::proving::Proving;
use self::quiet::quietly;
use self::websocket::Handshake;
use crate::dpop::DpopSigner;
use crate::extensions::{Matched, Session};
use crate::session_end::SessionEnds;
use crate::static_files::StaticFiles;
use crate::timer::CoarseTimer;

/// Forwards requests to the upstream of their [`Matched`] route. Clones share one core's pools.
///
/// It wants to run where `tokio::task::spawn_local` works: in a `LocalRuntime` or a `LocalSet`.
pub struct Upstream<B: RequestBody> {
    core: Rc<Core<B>>,
}

struct Core<B: RequestBody> {
    pool: Rc<Pool<B>>,
    ends: Rc<SessionEnds>,
    folders: RefCell<Vec<(PathBuf, FileHeaders, StaticFiles)>>,
    /// Of routes with `max_concurrent`, by application and prefix.
    gates: RefCell<Vec<(String, String, Arc<Gate>)>>,
}

/// What a route says about a call.
#[derive(Clone, Debug)]
struct Terms {
    body_limit: u64,
    connect_timeout: Duration,
    timeout: Duration,
    limits: CallLimits,
    /// The session's idle limit.
    idle: Duration,
    /// The application's custom header, which no upstream sees.
    csrf_header: HeaderName,
}

impl<B: RequestBody> Upstream<B> {
    /// The upstreams of one core.
    pub fn new(connector: Connector, timer: CoarseTimer, ends: SessionEnds) -> Self {
        Self {
            core: Rc::new(Core {
                pool: Pool::new(connector, timer),
                ends: Rc::new(ends),
                folders: RefCell::default(),
                gates: RefCell::default(),
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
            limits: route.limits,
            idle: matched.application.session.idle,
            csrf_header: matched.application.csrf_header.clone(),
        };
        match &route.target {
            RouteTarget::Upstream(upstreams) => {
                let permit = match route.limits.max_concurrent {
                    None => None,
                    Some(most) => Some(self.core.enter(&matched, most)?),
                };
                let balancer = self.core.pool.balancer(upstreams);
                self.forward(request, balancer, terms(), permit)
            }
            RouteTarget::Static(folder) => Ok(self.serve(&request, folder, &route.files)),
            RouteTarget::DevServer(url) => {
                let balancer = self.core.pool.dev_server(url);
                self.forward(request, balancer, terms(), None)
            }
            RouteTarget::Inner => Err(Error::Bug("an `inner` route has no service to call")),
        }
    }

    fn call_at(
        &self,
        mut request: Request<B>,
        mut origin: Lease<B>,
        balancer: Rc<Balancer<B>>,
        terms: Terms,
        permit: Option<Permit>,
    ) -> Result<State<B>, Error> {
        origin.permit = permit;
        let pool = self.core.pool.clone();
        let session = request.extensions_mut().remove::<Session>();
        let watch = match session {
            Some(session) => {
                let (ends, since) = (Rc::clone(&self.core.ends), self.core.ends.generation());
                Watch::Later(ends, session, since, terms.idle)
            }
            None => Watch::Nothing,
        };
        let signer = request.extensions_mut().remove::<DpopSigner>();
        let websocket = websocket::take(&mut request)?;

        let headers = request.headers_mut();
        let expects = headers
            .remove(EXPECT)
            .is_some_and(|value| expect::is_asked(&value));
        headers.remove(CONNECTION);
        if websocket.is_none() {
            headers.remove(UPGRADE);
        }
        origin.address(&mut request)?;

        let (mut parts, body) = request.into_parts();
        // Of a `GET` whose length is not known the body would be left out without a word.
        if !body.is_end_stream() && body.size_hint().exact().is_none() {
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(TRANSFER_ENCODING, chunked);
        }
        let body =
            LimitedBody::new(body, terms.body_limit, &terms.csrf_header).ok_or(Error::PayloadTooLarge)?;
        let progress = body.progress();
        let total = terms.limits.total_timeout;
        let total = total.map(|total| Box::new(pool.timer.sleep(total)));
        Ok(State::Start {
            request: Request::from_parts(parts, body),
            call: Box::new(Call {
                deadline: None,
                total,
                pool,
                balancer,
                origin,
                tried: Vec::new(),
                terms,
                progress,
                watch,
                websocket,
                expects,
                again: None,
                repeated: false,
                proving: signer.map(Proving::new),
            }),
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

/// A call of an upstream.
pub struct UpstreamFuture<B: RequestBody> {
    state: State<B>,
    /// The address of the development server that is called, if it is one.
    dev_server: Option<String>,
}

enum State<B: RequestBody> {
    Refused(Error),
    Static(Boxed<Response<UpstreamBody<B>>>),
    /// The very first calls of an upstream wait for its name to be looked up.
    Resolving {
        known: Boxed<()>,
        request: Request<B>,
        waiting: Waiting<B>,
    },
    Start {
        request: Request<LimitedBody<B>>,
        call: Box<Call<B>>,
    },
    Dialling {
        dial: Boxed<Box<Live<B>>, NoConnection>,
        request: Request<LimitedBody<B>>,
        call: Box<Call<B>>,
    },
    Waiting {
        live: Box<Live<B>>,
        answer: Answer<B>,
        call: Box<Call<B>>,
    },
    Switching {
        live: Box<Live<B>>,
        response: Response<Incoming>,
        websocket: Handshake,
        call: Box<Call<B>>,
    },
    Done,
}

/// What is off the hot path may cost an allocation.
type Boxed<T, E = Error> = Pin<Box<dyn Future<Output = Result<T, E>>>>;

impl<B: RequestBody> UpstreamFuture<B> {
    fn advance(&mut self, cx: &mut Context<'_>) -> Step<B> {
        // A call that waits stays where it is: moving it costs more than looking at it.
        let waited = match &mut self.state {
            State::Waiting { live, answer, call } => match poll_answer(live, answer, call, cx) {
                Poll::Ready(waited) => Some(waited),
                Poll::Pending => return Step::Pending,
            },
            _ => None,
        };
        match (std::mem::replace(&mut self.state, State::Done), waited) {
            (State::Waiting { live, call, .. }, Some(waited)) => match waited {
                Waited::Answered(response) => call.respond(live, response, cx),
                Waited::Broken(error) => call.retry(&live, error, cx),
                Waited::Failed(error) => Step::Done(Err(call.failed(error))),
            },
            (state, _) => Self::step(state, cx),
        }
    }

    fn step(state: State<B>, cx: &mut Context<'_>) -> Step<B> {
        match state {
            State::Refused(error) => Step::Done(Err(error)),
            State::Static(mut serving) => match serving.as_mut().poll(cx) {
                Poll::Ready(response) => Step::Done(response),
                Poll::Pending => Step::Stay(State::Static(serving)),
            },
            State::Resolving {
                mut known,
                request,
                waiting,
            } => match known.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => waiting.go_on(request),
                Poll::Ready(Err(error)) => Step::Done(Err(error)),
                Poll::Pending => Step::Stay(State::Resolving {
                    known,
                    request,
                    waiting,
                }),
            },
            State::Start { request, call } => match call.origin.check_out(call.purpose(), cx) {
                Some(live) => call.send(live, request),
                None => Step::Next(call.dial(request)),
            },
            State::Dialling {
                mut dial,
                request,
                mut call,
            } => match dial.as_mut().poll(cx) {
                Poll::Ready(Ok(live)) => call.send(live, request),
                Poll::Ready(Err(why)) => call.elsewhere(request, why),
                Poll::Pending if call.is_over(cx) => Step::Done(Err(Error::UpstreamTimeout)),
                Poll::Pending => Step::Stay(State::Dialling { dial, request, call }),
            },
            waiting @ State::Waiting { .. } => Step::Next(waiting),
            State::Switching {
                mut live,
                response,
                websocket,
                mut call,
            } => {
                if live.poll(cx).is_ready() {
                    return Step::Done(match live.into_io() {
                        Some((io, already_read)) => Ok(call.tunnel(io, already_read, response, websocket)),
                        None => Err(Error::Bug("a shared connection was to be switched")),
                    });
                }
                match call.poll_deadline(cx) {
                    Poll::Ready(error) => Step::Done(Err(error)),
                    Poll::Pending => Step::Stay(State::Switching {
                        live,
                        response,
                        websocket,
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
    Stay(State<B>),
    Pending,
    Done(Result<Response<UpstreamBody<B>>, Error>),
}

/// What a call has waited for.
enum Waited<B: RequestBody> {
    Answered(Response<Incoming>),
    Broken(TrySendError<Request<LimitedBody<B>>>),
    Failed(Error),
}

fn poll_answer<B: RequestBody>(
    live: &mut Live<B>,
    answer: &mut Answer<B>,
    call: &mut Call<B>,
    cx: &mut Context<'_>,
) -> Poll<Waited<B>> {
    let exchanged = quietly(live.quiet(), cx, |cx| {
        let closed = live.poll(cx).is_ready();
        match answer.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Waited::Answered(response)),
            Poll::Ready(Err(error)) => Poll::Ready(Waited::Broken(error)),
            Poll::Pending if closed => Poll::Ready(Waited::Failed(no_answer())),
            Poll::Pending => Poll::Pending,
        }
    });
    match exchanged {
        Poll::Ready(waited) => Poll::Ready(waited),
        Poll::Pending => call.poll_deadline(cx).map(Waited::Failed),
    }
}

impl<B: RequestBody> Future for UpstreamFuture<B> {
    type Output = Result<Response<UpstreamBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this.advance(cx) {
                Step::Next(state) => this.state = state,
                Step::Stay(state) => {
                    this.state = state;
                    return Poll::Pending;
                }
                Step::Pending => return Poll::Pending,
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

#[cfg(test)]
mod tests;
