//! A call whose token is bound to a key: sent once more, with another proof, where the API wants that.
//!
//! An API may answer 401 and name a nonce that the proof lacked (RFC 9449 §9): it has done nothing
//! then. The request goes once more with a proof made for it; its body goes again as far as it was
//! small, and on from there. Whatever else an API answers, and a second demand, is not looked at here:
//! a challenge that is left goes to the Layer, which tells the client to come again.

use std::task::Context;

use coatroom_core::error::Error;
use coatroom_core::oauth::dpop::DPOP;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;

use super::Step;
use super::call::Call;
use super::limit::{LimitedBody, Loan, RequestBody};
use super::pool::Live;
use crate::dpop::DpopSigner;

/// What it takes to send a call once more with another proof.
pub(super) struct Proving<B> {
    signer: DpopSigner,
    /// Since it was sent for the first time.
    sent: Option<(Parts, Loan<B>)>,
    repeated: bool,
}

impl<B: RequestBody> Proving<B> {
    pub(super) fn new(signer: DpopSigner) -> Box<Self> {
        Box::new(Self {
            signer,
            sent: None,
            repeated: false,
        })
    }

    /// Keeps the head, and as much of the body as will pass, of a request on its way.
    pub(super) fn keep(&mut self, request: Request<LimitedBody<B>>) -> Request<LimitedBody<B>> {
        if self.repeated {
            return request;
        }
        let (head, body) = request.into_parts();
        let (body, loan) = body.lend();
        loan.keep();
        self.sent = Some((head.clone(), loan));
        Request::from_parts(head, body)
    }

    /// Writes a proof for the request as it is: the method may be another than the client's.
    pub(super) fn prove<T>(&self, request: &mut Request<T>) -> Result<(), Error> {
        let proof = self.signer.proof(request.method())?;
        request.headers_mut().insert(DPOP, proof);
        Ok(())
    }
}

impl<B: RequestBody> Call<B> {
    /// Sends the call once more if that is what the answer asks for; the same answer otherwise.
    pub(super) fn prove_again(
        mut self: Box<Self>,
        live: Box<Live<B>>,
        response: Response<Incoming>,
        cx: &mut Context<'_>,
    ) -> Answered<B> {
        let request = match self.repetition(&response) {
            None => return Answered::Plainly(self, live, response),
            Some(Err(error)) => return Answered::Challenged(Step::Done(Err(error))),
            Some(Ok(request)) => request,
        };
        self.progress = request.body().progress();
        self.give_back(live, response, cx);
        Answered::Challenged(match self.origin.check_out(self.purpose(), cx) {
            Some(live) => self.send(live, request),
            None => Step::Next(self.dial(request)),
        })
    }

    fn repetition(
        &mut self,
        response: &Response<Incoming>,
    ) -> Option<Result<Request<LimitedBody<B>>, Error>> {
        let proving = self.proving.as_mut()?;
        let wanted = proving
            .signer
            .wants_another_proof(response.status(), response.headers());
        let (mut head, loan) = proving.sent.take()?;
        if !wanted {
            return None;
        }
        let body = loan.replay(self.terms.body_limit, &self.terms.csrf_header)?;
        proving.repeated = true;
        // a WebSocket's method is written, and proved, when it is known what the upstream speaks
        let method = Some(&head.method).filter(|method| **method != Method::CONNECT);
        Some(proving.signer.proof(method.unwrap_or(&Method::GET)).map(|proof| {
            head.headers.insert(DPOP, proof);
            Request::from_parts(head, body)
        }))
    }

    /// Lets somebody else have the connection if all of the answer is there already; else it closes.
    fn give_back(&self, mut live: Box<Live<B>>, response: Response<Incoming>, cx: &mut Context<'_>) {
        live.note_keep_alive(response.headers());
        let mut rest = response.into_body();
        for _ in 0..MOST_FRAMES {
            let over = rest.is_end_stream() || {
                let _ = live.poll(cx);
                match std::pin::Pin::new(&mut rest).poll_frame(cx) {
                    std::task::Poll::Ready(frame) => frame.is_none(),
                    std::task::Poll::Pending => return,
                }
            };
            if over {
                return self.pool.check_in(&self.origin, live, cx);
            }
        }
    }
}

/// What became of an answer.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made, on the way of every answer"
)]
pub(super) enum Answered<B: RequestBody> {
    /// It asked for another proof; this happens next.
    Challenged(Step<B>),
    /// It is what it is.
    Plainly(Box<Call<B>>, Box<Live<B>>, Response<Incoming>),
}

/// How much of a refusal is read before its connection is rather closed.
const MOST_FRAMES: usize = 16;
