//! Conversations with the provider, as data.
//!
//! The core never talks to the provider. It returns a [`Step`]: a request to send together with
//! the [`Continuation`] that owns every check of its response. A shell has one loop that drives
//! steps and cannot forget, skip or repeat a check; the number of rounds is bounded here.

use http::{HeaderName, HeaderValue, Method, StatusCode};
use url::Url;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::oauth::ProviderSnapshot;
use crate::rng::Rng;
use crate::time::UnixTime;

/// What a shell has to do next.
#[must_use]
pub enum Step<T> {
    /// Send this request to the provider and resume with its outcome.
    Send(ProviderRequest, Continuation<T>),
    /// Fetch the provider's JWK set again (throttled), then resume with [`Reply::Keys`].
    FetchKeys(Continuation<T>),
    /// The conversation is over.
    Done(T),
}

/// What the shell knows when it resumes a conversation.
pub struct Context<'a> {
    /// The provider's metadata and keys as of now.
    pub provider: &'a ProviderSnapshot,
    /// The current time.
    pub now: UnixTime,
    /// The source of randomness.
    pub rng: &'a mut dyn Rng,
}

/// The outcome of what a [`Step`] asked for.
pub enum Reply {
    /// The provider answered.
    Response(ProviderResponse),
    /// It did not answer: what failed, in our own words.
    Unreachable(&'static str),
    /// The keys in the [`Context`] are as fresh as the throttle allows.
    Keys,
}

/// The rest of a conversation, waiting for a [`Reply`].
#[must_use]
pub struct Continuation<T> {
    rounds_left: u8,
    resume: Resume<T>,
}

type Resume<T> = Box<dyn FnOnce(Reply, &mut Context<'_>) -> Result<Step<T>, Error> + Send>;

/// How many requests one conversation may take; enough for PAR, token, userinfo, DPoP retries.
const MAX_ROUNDS: u8 = 16;

impl<T: 'static> Step<T> {
    /// Asks the shell to send `request`; `resume` checks the outcome.
    pub(crate) fn send(
        request: ProviderRequest,
        resume: impl FnOnce(Reply, &mut Context<'_>) -> Result<Self, Error> + Send + 'static,
    ) -> Self {
        Self::Send(
            request,
            Continuation {
                rounds_left: MAX_ROUNDS,
                resume: Box::new(resume),
            },
        )
    }

    /// Asks the shell for fresh keys.
    pub(crate) fn fetch_keys(
        resume: impl FnOnce(&mut Context<'_>) -> Result<Self, Error> + Send + 'static,
    ) -> Self {
        Self::FetchKeys(Continuation {
            rounds_left: MAX_ROUNDS,
            resume: Box::new(move |reply, context| match reply {
                Reply::Keys => resume(context),
                Reply::Response(_) | Reply::Unreachable(_) => {
                    Err(Error::Bug("asked for keys, got another reply"))
                }
            }),
        })
    }

    /// Continues with `next` once this conversation is done.
    pub(crate) fn and_then<U: 'static>(
        self,
        context: &mut Context<'_>,
        next: impl FnOnce(T, &mut Context<'_>) -> Result<Step<U>, Error> + Send + 'static,
    ) -> Result<Step<U>, Error> {
        Ok(match self {
            Self::Done(value) => next(value, context)?,
            Self::Send(request, continuation) => Step::Send(request, continuation.and_then(next)),
            Self::FetchKeys(continuation) => Step::FetchKeys(continuation.and_then(next)),
        })
    }
}

impl<T: 'static> Continuation<T> {
    /// Hands over the outcome and gets the next step.
    ///
    /// # Errors
    /// Whatever the check of this outcome refuses, and [`Error::Provider`] when the conversation
    /// takes too many rounds.
    pub fn resume(self, reply: Reply, context: &mut Context<'_>) -> Result<Step<T>, Error> {
        let rounds_left = self.rounds_left.saturating_sub(1);
        match (self.resume)(reply, context)? {
            Step::Done(value) => Ok(Step::Done(value)),
            Step::Send(..) | Step::FetchKeys(_) if rounds_left == 0 => Err(Error::Provider(
                "the conversation takes too many rounds".to_owned(),
            )),
            Step::Send(request, rest) => Ok(Step::Send(request, Self { rounds_left, ..rest })),
            Step::FetchKeys(rest) => Ok(Step::FetchKeys(Self { rounds_left, ..rest })),
        }
    }

    fn and_then<U: 'static>(
        self,
        next: impl FnOnce(T, &mut Context<'_>) -> Result<Step<U>, Error> + Send + 'static,
    ) -> Continuation<U> {
        Continuation {
            rounds_left: self.rounds_left,
            resume: Box::new(move |reply, context| (self.resume)(reply, context)?.and_then(context, next)),
        }
    }
}

/// A request to the provider. Carries secrets: no `Debug`.
pub struct ProviderRequest {
    /// `GET` or `POST`.
    pub method: Method,
    /// The absolute URL, from the provider's metadata.
    pub url: Url,
    /// Its headers; credentials are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body, zeroed when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

/// What the provider answered. The shell bounds the body ([`MAX_RESPONSE`]) and follows no redirects.
pub struct ProviderResponse {
    /// The status.
    pub status: StatusCode,
    /// The `Content-Type`, if one was sent.
    pub content_type: Option<String>,
    /// The body, zeroed when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

/// The longest body a shell accepts from the provider, in bytes.
pub const MAX_RESPONSE: usize = 1024 * 1024;
