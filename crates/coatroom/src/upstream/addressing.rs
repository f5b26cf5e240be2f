//! Which address a call gets: before it is sent, and when there was no connection.
//!
//! A call whose upstream's name is not known yet waits for the look-up, within `connect_timeout`. A
//! call for which there is no connection goes to another address, each at most once: nobody has
//! seen a byte of it. So does one that an upstream of HTTP/2 says it did not process. What else may
//! have been seen is never sent again.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;

use coatroom_core::error::Error;
use http::Request;

use super::balance::{Balancer, Failure, Lease};
use super::call::Call;
use super::concurrency::Permit;
use super::limit::{LimitedBody, RequestBody};
use super::pool::NoConnection;
use super::{Core, State, Step, Terms, Upstream};
use crate::extensions::Matched;

/// A call before there is an address for it.
pub(super) struct Waiting<B: RequestBody> {
    upstream: Upstream<B>,
    balancer: Rc<Balancer<B>>,
    terms: Terms,
    permit: Option<Permit>,
}

impl<B: RequestBody> Upstream<B> {
    /// Begins a call of one of these upstreams.
    pub(super) fn forward(
        &self,
        request: Request<B>,
        balancer: Rc<Balancer<B>>,
        terms: Terms,
        permit: Option<Permit>,
    ) -> Result<State<B>, Error> {
        match balancer.choose(&[]) {
            Some(origin) => self.call_at(request, origin, balancer, terms, permit),
            None => {
                let (known, timer) = (balancer.known(), self.core.pool.timer.clone());
                Ok(State::Resolving {
                    known: Box::pin(async move {
                        let known = timer.timeout(terms.connect_timeout, known).await;
                        known.unwrap_or_else(|_| Err(no_address()))
                    }),
                    request,
                    waiting: Waiting {
                        upstream: self.clone(),
                        balancer,
                        terms,
                        permit,
                    },
                })
            }
        }
    }
}

impl<B: RequestBody> Waiting<B> {
    /// An address is known.
    pub(super) fn go_on(self, request: Request<B>) -> Step<B> {
        let Self {
            upstream,
            balancer,
            terms,
            permit,
        } = self;
        let state = match balancer.choose(&[]) {
            Some(origin) => upstream.call_at(request, origin, balancer, terms, permit),
            None => Err(no_address()),
        };
        match state {
            Ok(state) => Step::Next(state),
            Err(error) => Step::Done(Err(error)),
        }
    }
}

impl<B: RequestBody> Call<B> {
    /// There is no connection, so nobody has seen the request: the next address gets it.
    pub(super) fn elsewhere(
        mut self: Box<Self>,
        mut request: Request<LimitedBody<B>>,
        why: NoConnection,
    ) -> Step<B> {
        let error = match why {
            NoConnection::Unreachable(error) => error,
            NoConnection::Unsuitable(error) => return Step::Done(Err(error)),
        };
        self.balancer.failed(&self.origin, Failure::Connect);
        self.tried.push(self.origin.origin.clone());
        let Some(next) = self.balancer.choose(&self.tried) else {
            return Step::Done(Err(error));
        };
        self.go_to(next, &mut request);
        Step::Next(State::Start { request, call: self })
    }

    /// Its address said that it did not process it: another one that is well gets it. Where there
    /// is none, the same gets it once more.
    pub(super) fn try_another(&mut self, request: &mut Request<LimitedBody<B>>) {
        if let Some(next) = self.balancer.other_than(&self.origin.origin) {
            self.go_to(next, request);
        }
    }

    fn go_to(&mut self, mut next: Lease<B>, request: &mut Request<LimitedBody<B>>) {
        next.permit = self.origin.permit.take();
        next.take_over(request);
        self.origin = next;
    }

    /// An answer did not come, and it is or is not the upstream's fault.
    pub(super) fn failed(&self, error: Error) -> Error {
        if matches!(error, Error::UpstreamUnavailable(_) | Error::UpstreamTimeout) {
            self.balancer.failed(&self.origin, Failure::Answer);
        }
        error
    }

    /// Whether the time for the whole call is over.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.total {
            None => false,
            Some(total) => Pin::new(total).poll(cx).is_ready(),
        }
    }
}

impl<B: RequestBody> Core<B> {
    /// A place among the calls that a route may have under way in this process.
    pub(super) fn enter(&self, matched: &Matched, most: u32) -> Result<Permit, Error> {
        let (application, route) = (matched.application.id.as_str(), matched.route().prefix.as_str());
        let mut gates = self.gates.borrow_mut();
        let known = gates
            .iter()
            .find(|(of, prefix, _)| of == application && prefix == route);
        let gate = match known {
            Some((.., gate)) => gate.clone(),
            None => {
                let gate = self.pool.connector.directory.gate(application, route);
                gates.push((application.to_owned(), route.to_owned(), gate.clone()));
                gate
            }
        };
        gate.enter(most).ok_or(Error::UpstreamBusy)
    }
}

fn no_address() -> Error {
    Error::UpstreamUnavailable("its name was not looked up within `connect_timeout`".to_owned())
}
