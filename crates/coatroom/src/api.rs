//! The OAuth proxy: from a request to the wrapped service, the agent, or a refusal.
//!
//! Finds the application, the route and the core's decision; has the core clean the request on the
//! way in and the response on the way out. No await, no lock. It never chooses an upstream from
//! anything but the configuration.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use coatroom_core::config::{Application, Route, RouteTarget};
use coatroom_core::error::Error;
use coatroom_core::flow::{AgentResponse, KnownSession, Outcome, Refusal};
use coatroom_core::guard::{self, Cors};
use coatroom_core::head::Head;
use coatroom_core::headers::{self, ClientFacts, ResponseRules};
use coatroom_core::oauth::dpop::{DPOP, is_nonce_challenge};
use coatroom_core::route::{self, Endpoint, Resolved, Target as PathAndQuery};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;

use crate::client_credentials::{self, Standing, Used};
use crate::dpop::DpopSigner;
use crate::extensions::{Matched, Peer, RequestId, Session};
use crate::grpc;
use crate::handler::{App, Role};
use crate::introspected;
use crate::respond::{self, Reader};
use crate::snapshot::Snapshot;
use crate::static_files::is_navigation;
use crate::stored;
use crate::telemetry::{self, Target};
use crate::to_agent::{Named, to_agent};

/// Where a request goes.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the hot path, which allocates nothing"
)]
pub(crate) enum Passage<B> {
    /// To the wrapped service, cleaned.
    Inner(Request<B>, Passed),
    /// To the agent.
    Agent(AgentFuture),
    /// The same request again, once this is looked up.
    LookUp(Request<B>, LookUpFuture, Carried),
    /// Nowhere: this is the answer.
    Answer(Response<Full<Bytes>>),
}

/// What a store or the provider says, to come.
pub(crate) type LookUpFuture = Pin<Box<dyn Future<Output = LookedUp> + Send>>;

/// What was looked up for a request.
pub(crate) enum LookedUp {
    /// What a store says of its session, and how often one had ended when it was asked.
    Session {
        known: Result<KnownSession, Error>,
        generation: u64,
    },
    /// What the provider says of its token.
    Token(introspected::Answered),
    /// Whether there was an attempt to get the client's own token.
    Client(Result<(), Error>),
}

/// What a request that waits takes along from one look-up to the next.
#[derive(Default)]
pub(crate) struct Carried {
    /// What the provider said of its token. It counts for this request whatever its time: what a store
    /// said counts for two seconds, and while that is asked again this must not get lost.
    answered: Option<Box<introspected::Answered>>,
    /// Its route's rate limit has let it pass.
    is_counted: bool,
}

/// The agent's answer to come.
pub(crate) type AgentFuture = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

/// A request on its way through the wrapped service: what has to happen to the answer.
pub struct Passed {
    exchange: Exchange,
    route: usize,
    rules: ResponseRules,
    reader: Reader,
    /// Where the token that was attached is bound to a key.
    signer: Option<DpopSigner>,
    /// Where that was the client's own.
    used: Option<Box<Used>>,
}

/// One request and its answer, as far as counting and logging go.
pub(crate) struct Exchange {
    pub(crate) snapshot: Arc<Snapshot>,
    /// The application's index.
    app: Option<usize>,
    target: Target,
    method: Method,
    id: RequestId,
    cors: Cors,
}

impl Snapshot {
    pub(crate) fn pass<B>(
        self: Arc<Self>,
        request: Request<B>,
        looked_up: Option<LookedUp>,
        carried: Carried,
    ) -> Passage<B>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let mut exchange = Exchange {
            snapshot: Arc::clone(&self),
            app: None,
            target: Target::Nothing,
            method: parts.method.clone(),
            id: self.shared.telemetry.request_id(),
            cors: Cors::default(),
        };
        let app = match self.find(&parts) {
            Ok(app) => app,
            Err(error) => return Passage::Answer(exchange.refuse(&error, Reader::Script)),
        };
        let application = app.application();
        exchange.app = Some(app.index);
        exchange.target = Target::Unrouted {
            application: app.index,
        };
        exchange.cors = Cors::of(application, &head(&parts));
        let target = match headers::check_framing(&parts.headers)
            .and_then(|()| PathAndQuery::parse(head(&parts).target))
        {
            Ok(target) => target,
            Err(error) => return Passage::Answer(exchange.refuse(&error, Reader::Script)),
        };
        if let Some(preflight) = guard::preflight(application, &head(&parts), &target.path) {
            return Passage::Answer(match preflight {
                Ok(preflight) => {
                    // it says itself what is allowed
                    exchange.cors = Cors::default();
                    exchange.count(preflight_answer(preflight.headers))
                }
                Err(error) => exchange.refuse(&error, Reader::Script),
            });
        }
        let resolved = route::resolve(application, &parts.method, &target.path);
        if let Ok(resolved) = &resolved {
            exchange.cors = exchange.cors.at(resolved);
        }
        match resolved {
            Ok(Resolved::Agent(endpoint)) => {
                exchange.target = Target::Agent {
                    application: app.index,
                };
                match &app.role {
                    Role::Agent(agent) => {
                        let query = target.query.unwrap_or_default().to_owned();
                        let agent = Arc::clone(agent);
                        let named = Named {
                            session: route::named_session(application, &target.path),
                            provider: route::named_provider(application, endpoint, &target.path),
                        };
                        to_agent(agent, app, (endpoint, named), query, parts, body, exchange)
                    }
                    // the agent is elsewhere; here nobody can sign in or out
                    Role::Proxy(_) => Passage::Answer(exchange.refuse(&Error::NotFound, Reader::Script)),
                }
            }
            Ok(Resolved::Proxy { index, route }) => {
                exchange.target = Target::Route {
                    application: app.index,
                    route: index,
                };
                let reader = reader_of(route, &parts.method, &parts.headers);
                let uri = forwarded(route, &target, &parts.uri);
                match uri
                    .and_then(|uri| self.to_inner(app, index, uri, parts, &exchange, (looked_up, carried)))
                {
                    Ok(Admitted::LookUp(parts, lookup, carried)) => {
                        Passage::LookUp(Request::from_parts(*parts, body), lookup, carried)
                    }
                    Ok(Admitted::Passes(parts, rules, signer, used)) => Passage::Inner(
                        Request::from_parts(parts, body),
                        Passed {
                            exchange,
                            route: index,
                            rules,
                            reader,
                            signer,
                            used,
                        },
                    ),
                    Err(error) => Passage::Answer(exchange.refuse(&error, reader.unless_person())),
                }
            }
            Err(error) => Passage::Answer(exchange.refuse(&error, Reader::Script)),
        }
    }

    fn find(&self, parts: &Parts) -> Result<&Arc<App>, Error> {
        let apps = &self.shared.apps;
        let applications = apps.iter().map(|app| app.application().as_ref());
        let found = route::find_application(applications, &head(parts))?;
        let app = apps
            .iter()
            .find(|app| std::ptr::eq(app.application().as_ref(), found));
        app.ok_or(Error::Bug("the application that was found is none of ours"))
    }

    /// Who asks, as far as the connection and listed peers say.
    pub(crate) fn client(&self, parts: &Parts) -> Result<ClientFacts, Error> {
        let peer = parts.extensions.get::<Peer>().copied().unwrap_or_default();
        if self.shared.peers.is_empty() {
            let address = peer.address;
            return Ok(ClientFacts { address });
        }
        self.shared.peers.client(peer.address, &parts.headers)
    }

    /// Decides, then makes the request one that the wrapped service may see.
    fn to_inner(
        &self,
        app: &Arc<App>,
        index: usize,
        uri: Uri,
        mut parts: Parts,
        exchange: &Exchange,
        (looked_up, mut carried): (Option<LookedUp>, Carried),
    ) -> Result<Admitted, Error> {
        let application = app.application();
        let route = application
            .routes
            .get(index)
            .ok_or(Error::Bug("a route that is not there"))?;
        let shared = &self.shared;
        let client = self.client(&parts)?;
        let elapsed = || shared.clock.elapsed();
        let known = match looked_up {
            None => None,
            Some(LookedUp::Session { known, generation }) => Some((known?, generation)),
            Some(LookedUp::Token(answered)) => {
                carried.answered = Some(Box::new(answered));
                None
            }
            Some(LookedUp::Client(attempted)) => {
                attempted?;
                None
            }
        };
        let outcome = self.with_memo(app.index, |memo| {
            if app.store.is_some() {
                memo.at_generation(shared.ends.generation().number());
                if let Some((known, generation)) = &known {
                    memo.learn_at(known, *generation);
                }
            }
            let known = known.as_ref().map(|(known, _)| known);
            app.api(route, &head(&parts), shared.clock.now(), memo, known)
        })?;
        let mut decision = match outcome {
            Outcome::Decided(decision) => decision,
            Outcome::Lookup(lookup) => {
                let lookup = stored::look_up(shared, app, lookup);
                return Ok(Admitted::LookUp(Box::new(parts), lookup, carried));
            }
        };
        // behind the guard, so that no other site uses up what this address may ask; and once, before
        // the provider is asked anything
        if !carried.is_counted {
            app.rate_limits
                .check_route_by_address(application, index, &client, elapsed)?;
            let session = || decision.session().map(|session| session.id);
            app.rate_limits
                .check_route_by_session(application, index, session, &client, elapsed)?;
            carried.is_counted = true;
        }
        // it is noted as done: whatever becomes of the call
        if let Some(chore) = decision.take_chore() {
            stored::do_chore(shared, app, chore);
        }
        let used = match client_credentials::attach(shared, app, &mut decision)? {
            Standing::Good(used) => used,
            Standing::LookUp(lookup) => return Ok(Admitted::LookUp(Box::new(parts), lookup, carried)),
        };
        if let Some(introspection) = &route.introspection {
            let came = introspected::Came {
                answered: carried.answered.as_deref(),
                is_fresh: known.is_some(),
            };
            let wait = introspected::judge(self, app, route, introspection, &mut decision, &came)?;
            if let Some(lookup) = wait {
                return Ok(Admitted::LookUp(Box::new(parts), lookup, carried));
            }
        }
        let token = decision.write_request(&mut parts.headers, application, route, &client)?;
        let signer = match token {
            None => None,
            Some(token) => {
                let proofs = token.at(application, route, uri.path())?;
                let signer = DpopSigner::new(proofs, &exchange.snapshot, app.index, index);
                // what becomes of a WebSocket's handshake on the way is the upstream's business
                let method = Some(&parts.method).filter(|method| **method != Method::CONNECT);
                let proof = signer.proof(method.unwrap_or(&Method::GET))?;
                parts.headers.insert(DPOP, proof);
                parts.extensions.insert(signer.clone());
                Some(signer)
            }
        };
        parts.headers.insert(X_REQUEST_ID, exchange.id.header());
        if let Some(facts) = decision.session() {
            parts.extensions.insert(Session::of(&facts));
        }
        let copy = self.applications.get(app.index);
        parts.extensions.insert(Matched {
            application: Arc::clone(copy.ok_or(Error::Bug("an application that has no copy"))?),
            route: index,
        });
        parts.uri = uri;
        let rules = decision.response_rules(route, exchange.cors.clone());
        Ok(Admitted::Passes(parts, rules, signer, used))
    }
}

/// What became of a request to a route.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the hot path, which allocates nothing"
)]
enum Admitted {
    /// It may go on.
    Passes(Parts, ResponseRules, Option<DpopSigner>, Option<Box<Used>>),
    /// It is as it came, and has to wait for this.
    LookUp(Box<Parts>, LookUpFuture, Carried),
}

/// Who reads that a route failed. An API's caller is a script; a development server that does not
/// run is met by whoever wants to see the page.
fn reader_of(route: &Route, method: &Method, headers: &HeaderMap) -> Reader {
    match route.target {
        RouteTarget::DevServer(_) if is_navigation(headers) => Reader::Person,
        RouteTarget::Upstream(_) | RouteTarget::Inner => {
            grpc::dialect(method, headers).map_or(Reader::Script, Reader::Grpc)
        }
        RouteTarget::DevServer(_) | RouteTarget::Static(_) => Reader::Script,
    }
}

impl Passed {
    /// Whether the answer is for the client; else why not. Challenges to us are not: a client would
    /// take them for its own session's end.
    pub(crate) fn judge<R>(&self, response: &Response<R>) -> Result<(), Error> {
        let (status, headers) = (response.status(), response.headers());
        if let Some(used) = &self.used {
            used.judge(&self.exchange.snapshot.shared, status, headers);
        }
        let Some(signer) = &self.signer else {
            return Ok(());
        };
        match (
            signer.wants_another_proof(status, headers),
            is_nonce_challenge(status, headers),
        ) {
            (false, false) => Ok(()),
            // the next call has it
            (true, _) => Err(Error::UpstreamNonce),
            (false, true) => Err(Error::UpstreamUnavailable(
                "it wants a dpop nonce, and gives none that can be used".to_owned(),
            )),
        }
    }

    pub(crate) fn clean<R>(self, mut response: Response<R>) -> Response<R> {
        let status = response.status();
        headers::clean_response(response.headers_mut(), status, &self.rules);
        self.exchange.write_hsts(response.headers_mut());
        self.exchange.answered(status);
        response
    }

    pub(crate) fn is_websocket(&self) -> bool {
        self.rules.is_websocket()
    }

    /// The answer to a failure in the wrapped service.
    pub(crate) fn refuse(self, error: &Error) -> Response<Full<Bytes>> {
        let exchange = self.exchange;
        exchange
            .snapshot
            .shared
            .telemetry
            .upstream_error(exchange.target, error);
        exchange.refuse(error, self.reader)
    }

    /// The route that the request matched.
    pub fn route(&self) -> usize {
        self.route
    }
}

impl Exchange {
    /// An error as an answer: logged, counted, readable from a listed origin.
    pub(crate) fn refuse(&self, error: &Error, reader: Reader) -> Response<Full<Bytes>> {
        self.log(error);
        self.count(respond::error(error, reader))
    }

    /// The agent's answer: counted, and what went wrong logged, also behind a redirect.
    pub(crate) fn answer(
        &self,
        endpoint: Endpoint,
        outcome: Result<AgentResponse, Refusal>,
        reader: Reader,
    ) -> Response<Full<Bytes>> {
        let error = match &outcome {
            Ok(answer) => answer.failure.as_ref(),
            Err(refusal) => Some(&refusal.error),
        };
        self.count_agent(endpoint, error);
        if let Some(error) = error {
            self.log(error);
        }
        self.count(respond::answer(outcome, reader))
    }

    fn log(&self, error: &Error) {
        if matches!(error, Error::RateLimited { .. }) {
            // its limit says so, once in a while
            return;
        }
        telemetry::log_error(&self.id, self.application_id(), self.route(), error);
    }

    fn count(&self, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        self.cors.write(response.headers_mut());
        self.write_hsts(response.headers_mut());
        self.answered(response.status());
        response
    }

    fn write_hsts(&self, headers: &mut HeaderMap) {
        if let Some(application) = self.application() {
            application.hsts.write(headers);
        }
    }

    fn answered(&self, status: StatusCode) {
        self.snapshot.shared.telemetry.request(self.target, status);
        telemetry::log_access(
            &self.id,
            self.application_id(),
            self.route(),
            &self.method,
            status,
        );
    }

    pub(crate) fn count_agent(&self, endpoint: Endpoint, error: Option<&Error>) {
        if let Some(app) = self.app {
            self.snapshot
                .shared
                .telemetry
                .agent(app, endpoint, error.map(|error| error.answer().code));
        }
    }

    fn application(&self) -> Option<&Application> {
        self.snapshot.applications.get(self.app?).map(Arc::as_ref)
    }

    fn application_id(&self) -> &str {
        self.application()
            .map_or("none", |application| application.id.as_str())
    }

    fn route(&self) -> &str {
        match self.target {
            Target::Nothing | Target::Unrouted { .. } => "none",
            Target::Agent { .. } => "agent",
            Target::Route { route, .. } => self
                .application()
                .and_then(|application| application.routes.get(route))
                .map_or("none", |route| route.prefix.as_str()),
        }
    }
}

pub(crate) fn head(parts: &Parts) -> Head<'_, HeaderMap> {
    Head {
        method: &parts.method,
        target: parts
            .uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str),
        authority: parts.uri.authority().map(http::uri::Authority::as_str),
        // it comes with no other method (RFC 8441 §4)
        protocol: match parts.method {
            Method::CONNECT => parts.extensions.get::<hyper::ext::Protocol>(),
            _ => None,
        }
        .map(hyper::ext::Protocol::as_str),
        headers: &parts.headers,
    }
}

/// The target as the route's upstream sees it; the received one, if nothing about it changes.
fn forwarded(route: &Route, target: &PathAndQuery<'_>, received: &Uri) -> Result<Uri, Error> {
    if let Some(same) = received.path_and_query()
        && same.path() == route.forwarded_path(&target.path)
    {
        return Ok(same.clone().into());
    }
    Uri::try_from(route.forwarded_target(target))
        .map_err(|_| Error::InvalidRequest("the request target is not a URI"))
}

fn preflight_answer(headers: HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = headers;
    response
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
