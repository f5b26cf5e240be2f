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

/// How many requests one conversation may take; enough for a token, keys, userinfo, one token for each
/// of [`MAX_APIS`](crate::config::defaults::MAX_APIS), and each of them once more for a DPoP nonce.
const MAX_ROUNDS: u8 = 32;

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

    /// The same with its failure as a value, for whoever has to answer that in a way of its own.
    pub(crate) fn caught(self) -> Step<Result<T, Error>> {
        match self {
            Self::Done(value) => Step::Done(Ok(value)),
            Self::Send(request, continuation) => Step::Send(request, continuation.caught()),
            Self::FetchKeys(continuation) => Step::FetchKeys(continuation.caught()),
        }
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

    fn caught(self) -> Continuation<Result<T, Error>> {
        Continuation {
            rounds_left: self.rounds_left,
            resume: Box::new(move |reply, context| {
                Ok(match (self.resume)(reply, context) {
                    Ok(step) => step.caught(),
                    Err(error) => Step::Done(Err(error)),
                })
            }),
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
    /// The `DPoP-Nonce`, if one was sent (RFC 9449 §8).
    pub dpop_nonce: Option<String>,
    /// The body, zeroed when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

/// The longest body a shell accepts from the provider, in bytes.
pub const MAX_RESPONSE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::testing::{SigningKey, snapshot};
    use crate::rng::testing::Counter;

    /// What a conversation asks for next, by how many answers it has had.
    type Asks = fn(u8) -> Option<What>;

    enum What {
        Request,
        Keys,
    }

    const ASKS: [(&str, Asks); 3] = [
        ("requests", |_| Some(What::Request)),
        ("keys", |_| Some(What::Keys)),
        ("both in turn", |had| {
            Some(if had % 2 == 0 { What::Request } else { What::Keys })
        }),
    ];

    /// A conversation that asks until it is told to be done, and then says how many answers it had.
    fn conversation(asks: Asks, had: u8) -> Step<u8> {
        let next = move || Ok(conversation(asks, had.saturating_add(1)));
        match asks(had) {
            Some(What::Request) => Step::send(request(), move |_, _| next()),
            Some(What::Keys) => Step::fetch_keys(move |_| next()),
            None => Step::Done(had),
        }
    }

    fn request() -> ProviderRequest {
        ProviderRequest {
            method: Method::GET,
            url: Url::parse("https://login.example.com/token").expect("a URL"),
            headers: Vec::new(),
            body: Zeroizing::default(),
        }
    }

    /// Carries it out as a shell does; what came out, and how many rounds it took.
    fn driven(start: impl FnOnce(&mut Context<'_>) -> Result<Step<u8>, Error>) -> (Result<u8, Error>, usize) {
        let provider = snapshot(&SigningKey::generate("ES256", None));
        let mut context = Context {
            provider: &provider,
            now: UnixTime(1_900_000_000),
            rng: &mut Counter(1),
        };
        let mut step = start(&mut context);
        // far more than the bound
        for rounds in 0..1_000 {
            let (reply, rest) = match step {
                Err(error) => return (Err(error), rounds),
                Ok(Step::Done(value)) => return (Ok(value), rounds),
                Ok(Step::Send(_, rest)) => (Reply::Unreachable("it is not there"), rest),
                Ok(Step::FetchKeys(rest)) => (Reply::Keys, rest),
            };
            step = rest.resume(reply, &mut context);
        }
        panic!("it went on for ever");
    }

    fn takes_too_many_rounds(outcome: &Result<u8, Error>) -> bool {
        matches!(outcome, Err(Error::Provider(text)) if text == "the conversation takes too many rounds")
    }

    #[test]
    fn a_conversation_that_never_ends_is_stopped() {
        for (name, asks) in ASKS {
            let (outcome, rounds) = driven(|_| Ok(conversation(asks, 0)));
            assert!(takes_too_many_rounds(&outcome), "{name}: {outcome:?}");
            assert_eq!(rounds, usize::from(MAX_ROUNDS), "{name}");
        }
    }

    #[test]
    fn one_conversation_behind_another_gets_no_rounds_of_its_own() {
        for (name, asks) in ASKS {
            let short: Asks = |had| (had < 5).then_some(What::Request);
            let (outcome, rounds) = driven(|context| {
                let first = conversation(short, 0);
                first.and_then(context, move |_, _| Ok(conversation(asks, 0)))
            });
            assert!(takes_too_many_rounds(&outcome), "{name}: {outcome:?}");
            assert_eq!(rounds, usize::from(MAX_ROUNDS), "{name}");
        }
    }

    #[test]
    fn the_last_round_may_still_end_a_conversation() {
        let asks: Asks = |had| (had < MAX_ROUNDS).then_some(What::Request);
        let (outcome, rounds) = driven(|_| Ok(conversation(asks, 0)));
        assert_eq!(outcome, Ok(MAX_ROUNDS));
        assert_eq!(rounds, usize::from(MAX_ROUNDS));
    }

    #[test]
    fn a_failure_that_is_caught_is_a_value_and_frees_nobody_from_the_bound() {
        let failing = || Step::<u8>::send(request(), |_, _| Err(Error::Provider("no".to_owned())));
        let (outcome, rounds) = driven(|context| {
            failing().caught().and_then(context, |outcome, _| {
                assert_eq!(outcome, Err(Error::Provider("no".to_owned())));
                Ok(Step::Done(7))
            })
        });
        assert_eq!((outcome, rounds), (Ok(7), 1));
        for (name, asks) in ASKS {
            let (outcome, rounds) = driven(|context| {
                let caught = conversation(asks, 0).caught();
                caught.and_then(context, |outcome, _| outcome.map(Step::Done))
            });
            assert!(takes_too_many_rounds(&outcome), "{name}: {outcome:?}");
            assert_eq!(rounds, usize::from(MAX_ROUNDS), "{name}");
        }
    }

    #[test]
    fn an_answer_to_another_question_is_refused() {
        let outcome = driven(|context| {
            let Step::FetchKeys(rest) = conversation(|_| Some(What::Keys), 0) else {
                panic!("it asks for keys")
            };
            rest.resume(Reply::Unreachable("it is not there"), context)
        });
        assert_eq!(outcome, (Err(Error::Bug("asked for keys, got another reply")), 0));
    }
}
