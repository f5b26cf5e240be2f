//! One request at a time for one thing, and a short memory of how it went.
//!
//! Keyed by a keyed digest (of a refresh token, of a code). The first caller starts the flight on
//! the control runtime, where it runs to its end even if every caller hangs up; the others join
//! it. Afterwards its sealed outcome is remembered for a minute, so that a late duplicate gets the
//! same answer. Bounded: the oldest entry goes first. It never holds a token in the clear once the
//! flight is over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coatroom_core::error::Error;
use coatroom_core::handler::MemoryKey;
use coatroom_core::time::UnixTime;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;

use crate::session_end::SessionEnded;

/// A flight that several callers wait for.
pub(crate) type Flight<T> = Shared<BoxFuture<'static, Result<T, Error>>>;

/// What is known under a key.
pub(crate) enum Found<T> {
    /// Somebody is on the way already.
    Flying(Flight<T>),
    /// It ended well: the sealed outcome.
    Remembered(Arc<[u8]>),
    /// It ended with an answer that will not change.
    Failed(Error),
    /// Nothing is known.
    Nothing,
}

/// How a flight is remembered.
pub(crate) enum Landing {
    /// With its sealed outcome, until the session that it is about ends.
    Remember(Vec<u8>, SessionEnded),
    /// With an error that will not change.
    Fail(Error),
    /// Not at all: the next caller flies again.
    Forget,
}

/// The flights of one kind.
pub(crate) struct Flights<T> {
    entries: Mutex<Entries<T>>,
}

struct Entries<T> {
    known: HashMap<MemoryKey, Entry<T>>,
    /// Landed entries, oldest first.
    landed: VecDeque<(UnixTime, MemoryKey)>,
}

enum Entry<T> {
    Flying(Flight<T>, Option<SessionEnded>),
    Remembered(Arc<[u8]>, SessionEnded),
    Failed(Error),
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::new(Entries {
                known: HashMap::new(),
                landed: VecDeque::new(),
            }),
        })
    }

    /// What is known under `key`.
    pub(crate) fn look(&self, key: &MemoryKey, now: UnixTime) -> Found<T> {
        let mut entries = self.lock();
        entries.expire(now);
        match entries.known.get(key) {
            None => Found::Nothing,
            Some(Entry::Flying(flight, _)) => Found::Flying(flight.clone()),
            Some(Entry::Remembered(sealed, _)) => Found::Remembered(sealed.clone()),
            Some(Entry::Failed(error)) => Found::Failed(error.clone()),
        }
    }

    /// Whether the session of what is known under `key` has ended since: then nobody may have it
    /// any more, however early their cookies are from.
    pub(crate) fn is_over(&self, key: &MemoryKey) -> bool {
        match self.lock().known.get(key) {
            Some(Entry::Flying(_, Some(ended)) | Entry::Remembered(_, ended)) => ended.is_ended(),
            Some(Entry::Flying(_, None) | Entry::Failed(_)) | None => false,
        }
    }

    /// Joins the flight under `key`, or starts `flight` on `runtime`, for the session of `ended` if
    /// there is one already. None if meanwhile an outcome is remembered: look again.
    pub(crate) fn join_or_start<F>(
        self: &Arc<Self>,
        key: MemoryKey,
        runtime: &Handle,
        ended: Option<SessionEnded>,
        flight: impl FnOnce() -> F,
    ) -> Option<Flight<T>>
    where
        F: Future<Output = (Result<T, Error>, Landing, UnixTime)> + Send + 'static,
    {
        let mut entries = self.lock();
        match entries.known.get(&key) {
            Some(Entry::Flying(flight, _)) => return Some(flight.clone()),
            Some(Entry::Remembered(..) | Entry::Failed(_)) => return None,
            None => {}
        }
        let flights = Arc::clone(self);
        let flight = flight();
        let task = runtime.spawn(async move {
            let mut guard = Landed {
                flights,
                key,
                landing: Some((Landing::Forget, UnixTime(0))),
            };
            let (outcome, landing, now) = flight.await;
            guard.landing = Some((landing, now));
            drop(guard);
            outcome
        });
        let shared = task
            .map(|joined| joined.unwrap_or(Err(Error::Bug("a task ended early"))))
            .boxed()
            .shared();
        entries.known.insert(key, Entry::Flying(shared.clone(), ended));
        Some(shared)
    }

    fn land(&self, key: MemoryKey, landing: Landing, now: UnixTime) {
        let mut entries = self.lock();
        let entry = match landing {
            Landing::Forget => {
                entries.known.remove(&key);
                return;
            }
            Landing::Remember(sealed, ended) => Entry::Remembered(sealed.into(), ended),
            Landing::Fail(error) => Entry::Failed(error),
        };
        entries.known.insert(key, entry);
        entries.landed.push_back((now.plus(MEMORY), key));
        if entries.landed.len() > CAPACITY
            && let Some((_, oldest)) = entries.landed.pop_front()
        {
            entries.known.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Entries<T> {
    fn expire(&mut self, now: UnixTime) {
        // What lies further ahead than the memory reaches is from before a clock was set back.
        while let Some((until, key)) = self.landed.front()
            && (*until <= now || *until > now.plus(MEMORY))
        {
            self.known.remove(key);
            self.landed.pop_front();
        }
    }
}

/// Lands the flight even if it panics: nobody waits for ever.
struct Landed<T: Clone + Send + Sync + 'static> {
    flights: Arc<Flights<T>>,
    key: MemoryKey,
    landing: Option<(Landing, UnixTime)>,
}

impl<T: Clone + Send + Sync + 'static> Drop for Landed<T> {
    fn drop(&mut self) {
        if let Some((landing, now)) = self.landing.take() {
            self.flights.land(self.key, landing, now);
        }
    }
}

/// How long an outcome is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// How many outcomes are remembered; about 3 KB each.
const CAPACITY: usize = 20_000;

#[cfg(test)]
mod tests {
    use coatroom_core::config::{ApplicationConfig, ProviderConfig};
    use coatroom_core::flow::{Arrival, Input};
    use coatroom_core::handler::Handler;
    use coatroom_core::oauth::{JwkSet, Metadata, ProviderSnapshot};
    use coatroom_core::seal::{KeyRing, MasterKey};
    use coatroom_core::secret::Secret;
    use coatroom_core::step::{Context, Step};
    use http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::clock::SystemRng;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    /// The key of a code: the core gives one for nothing less than a `state` that was proved.
    fn key() -> MemoryKey {
        let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("s"));
        let application = ApplicationConfig::new("shop", "https://shop.example.com", provider)
            .check()
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        let ring = KeyRing::new(vec![MasterKey::generate().expect("a key")]).expect("one is enough");
        let handler = Handler::new(Arc::new(application), Arc::new(ring)).expect("a good path");
        let metadata =
            br#"{"issuer": "https://login.example.com", "jwks_uri": "https://login.example.com/jwks",
            "authorization_endpoint": "https://login.example.com/authorize",
            "token_endpoint": "https://login.example.com/token"}"#;
        let provider = ProviderSnapshot::new(
            Metadata::parse(metadata, "https://login.example.com").expect("good metadata"),
            JwkSet::parse(br#"{"keys": []}"#).expect("a set"),
        );
        let mut context = Context {
            provider: &provider,
            now: NOW,
            rng: &mut SystemRng,
        };
        let input = Input::form(b"").expect("empty");
        let started = handler.login_start(&HeaderMap::new(), None, input, &mut context);
        let Ok(Step::Done(started)) = started else {
            panic!("nothing is pushed here")
        };
        let url = started.json.expect("an answer")["authorization_url"].to_string();
        let state = url
            .split(['?', '&', '"'])
            .find_map(|pair| pair.strip_prefix("state="));
        let cookie = started.set_cookies[0].to_str().expect("ASCII").split(';').next();
        let cookie = HeaderValue::from_str(cookie.expect("a pair")).expect("a value");
        let headers = HeaderMap::from_iter([(header::COOKIE, cookie)]);
        let query = format!("code=x&state={}", state.expect("a state"));
        let Ok(Step::Done(arrived)) = handler.callback(&query, &context) else {
            panic!("nothing is signed here")
        };
        match handler.arrive(&headers, arrived, &mut context) {
            Ok(Arrival::Exchange(exchange)) => handler.exchange_key(&exchange),
            _ => panic!("the state is proved"),
        }
    }

    #[tokio::test]
    async fn a_flight_that_panics_lands_and_the_next_caller_flies_again() {
        let (flights, key, runtime) = (Flights::<u8>::new(), key(), Handle::current());
        let crash = flights.join_or_start(key, &runtime, None, || async { panic!("on purpose") });
        let crash = crash.expect("nothing was known");
        assert!(matches!(crash.await, Err(Error::Bug(_))));
        assert!(matches!(flights.look(&key, NOW), Found::Nothing));
        let again = flights.join_or_start(key, &runtime, None, || async { (Ok(7), Landing::Forget, NOW) });
        assert_eq!(again.expect("it flies").await.ok(), Some(7));
    }
}
