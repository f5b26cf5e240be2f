//! Which address a call goes to: one core's view of a group of endpoints.
//!
//! Of two endpoints taken at random the one with fewer calls under way is called ("power of two
//! choices"), counted on this core alone. An endpoint that fails is left out for a while that
//! doubles with each time, and then gets one call to prove itself; one that health checks say is
//! sick is left out too. When nobody is left, all are called: a wrong suspicion must not be an
//! outage. What an API answers, its own 5xx included, is never a failure here.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use coatroom_core::error::Error;
use tokio::time::Instant;

use super::concurrency::Permit;
use super::directory::{Group, Known};
use super::endpoint::Endpoint;
use super::limit::RequestBody;
use super::pool::Origin;

/// The endpoints of one group, with this core's connections to them.
pub(super) struct Balancer<B: RequestBody> {
    group: Arc<Group>,
    generation: Cell<u64>,
    origins: RefCell<Vec<Rc<Origin<B>>>>,
    random: Cell<u64>,
}

/// An endpoint that a call was given, until the call is over.
pub(super) struct Lease<B: RequestBody> {
    pub(super) origin: Rc<Origin<B>>,
    /// The call's place among those that its route may have.
    pub(super) permit: Option<Permit>,
    /// Whether this call tries an endpoint that is ejected.
    tries: bool,
}

/// How an endpoint fares on this core.
#[derive(Default)]
pub(super) struct Pulse {
    in_flight: Cell<u32>,
    /// In a row.
    failures: Cell<u32>,
    /// In a row; they make the pauses longer.
    ejections: Cell<u32>,
    ejected_until: Cell<Option<Instant>>,
    /// Whether a call is under way that tries it since; streams from before do not count.
    tried: Cell<bool>,
}

/// How a call failed that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no connection.
    Connect,
    /// The connection closed or spoke nonsense, or no head came in time.
    Answer,
}

impl<B: RequestBody> Balancer<B> {
    pub(super) fn new(group: Arc<Group>) -> Self {
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).expect("the operating system has randomness");
        let this = Self {
            group,
            generation: Cell::new(0),
            origins: RefCell::default(),
            // never zero: such a generator stays there
            random: Cell::new(u64::from_be_bytes(seed) | 1),
        };
        this.update();
        this
    }

    pub(super) fn is_for(&self, group: &Arc<Group>) -> bool {
        Arc::ptr_eq(&self.group, group)
    }

    /// An endpoint for a call, but none of `tried`. None while no address is known, and when all
    /// were tried.
    pub(super) fn choose(&self, tried: &[Rc<Origin<B>>]) -> Option<Lease<B>> {
        if self.group.generation() != self.generation.get() {
            self.update();
        }
        let origins = self.origins.borrow();
        let origin = match origins.as_slice() {
            [only] if tried.is_empty() => only,
            several => self.choose_of(several, tried)?,
        };
        Some(Lease::new(origin.clone()))
    }

    /// An endpoint that is well, for a call that this one would not process; none if there is no
    /// other.
    pub(super) fn other_than(&self, origin: &Rc<Origin<B>>) -> Option<Lease<B>> {
        let origins = self.origins.borrow();
        let is_other = |other: &Rc<Origin<B>>| !Rc::ptr_eq(origin, other) && self.takes_calls(other);
        let other = self.of_those(&origins, is_other)?;
        Some(Lease::new(other.clone()))
    }

    fn choose_of<'o>(
        &self,
        origins: &'o [Rc<Origin<B>>],
        tried: &[Rc<Origin<B>>],
    ) -> Option<&'o Rc<Origin<B>>> {
        let is_new = |origin: &Rc<Origin<B>>| !tried.iter().any(|other| Rc::ptr_eq(origin, other));
        self.of_those(origins, |origin| is_new(origin) && self.takes_calls(origin))
            .or_else(|| self.of_those(origins, is_new))
    }

    /// Whether it is thought to be well.
    fn takes_calls(&self, origin: &Origin<B>) -> bool {
        origin.pulse.takes_calls() && !(self.group.is_checked() && origin.endpoint.is_unhealthy())
    }

    fn of_those<'o>(
        &self,
        origins: &'o [Rc<Origin<B>>],
        is_fit: impl Fn(&Rc<Origin<B>>) -> bool,
    ) -> Option<&'o Rc<Origin<B>>> {
        let fit = || origins.iter().filter(|origin| is_fit(origin));
        self.of_two(fit().count(), |index| fit().nth(index))
    }

    /// The less busy of two random ones.
    fn of_two<'o>(
        &self,
        count: usize,
        at: impl Fn(usize) -> Option<&'o Rc<Origin<B>>>,
    ) -> Option<&'o Rc<Origin<B>>> {
        let first = self.below(count)?;
        let Some(step) = self.below(count.saturating_sub(1)) else {
            return at(first);
        };
        let (first, second) = (at(first)?, at((first + 1 + step) % count)?);
        let busier = second.pulse.in_flight.get() < first.pulse.in_flight.get();
        Some(if busier { second } else { first })
    }

    /// A random number below `count`: Marsaglia's xorshift. It spreads load and guards nothing.
    fn below(&self, count: usize) -> Option<usize> {
        let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        usize::try_from(x % count).ok()
    }

    /// Resolves once there is an address to call.
    pub(super) fn known(&self) -> impl Future<Output = Result<(), Error>> + 'static {
        let group = self.group.clone();
        async move {
            match group.first_look_up().await {
                Known::Some => Ok(()),
                Known::None | Known::NotYet => Err(Error::UpstreamUnavailable(
                    "its name cannot be looked up".to_owned(),
                )),
            }
        }
    }

    /// Takes on the endpoints as they are now. Connections to those that are gone are closed as
    /// soon as their calls are over.
    pub(super) fn update(&self) {
        self.generation.set(self.group.generation());
        let mut origins = self.origins.borrow_mut();
        let mut before = std::mem::take(&mut *origins);
        for endpoint in self.group.endpoints() {
            let known = before
                .iter()
                .position(|origin| Arc::ptr_eq(&origin.endpoint, &endpoint));
            let origin = match known {
                Some(index) => Some(before.swap_remove(index)),
                None => Origin::new(endpoint).map(Rc::new),
            };
            origins.extend(origin);
        }
        before.iter().for_each(|origin| origin.retire());
    }

    /// A call failed.
    pub(super) fn failed(&self, origin: &Origin<B>, failure: Failure) {
        if failure == Failure::Connect {
            origin.endpoint.look_again();
        }
        // there is nobody else to call
        if self.origins.borrow().len() < 2 {
            return;
        }
        if let Some(pause) = origin.pulse.failed(failure) {
            report_ejection(&origin.endpoint, pause);
        }
    }

    /// For the sweeper.
    pub(super) fn each(&self, mut visit: impl FnMut(&Origin<B>)) {
        if self.group.generation() != self.generation.get() {
            self.update();
        }
        self.origins.borrow().iter().for_each(|origin| visit(origin));
    }

    #[cfg(test)]
    pub(super) fn origins(&self) -> Vec<Rc<Origin<B>>> {
        self.origins.borrow().clone()
    }
}

fn report_ejection(endpoint: &Endpoint, pause: Duration) {
    endpoint.count_ejection();
    let (upstream, address, seconds) = (&endpoint.site.shown, endpoint.address(), pause.as_secs());
    tracing::warn!(
        upstream,
        address,
        seconds,
        "it fails, this core does not call it for a while"
    );
}

impl<B: RequestBody> Lease<B> {
    fn new(origin: Rc<Origin<B>>) -> Self {
        let pulse = &origin.pulse;
        pulse.in_flight.set(pulse.in_flight.get().saturating_add(1));
        let tries = pulse.ejected_until.get().is_some();
        if tries {
            pulse.tried.set(true);
        }
        Self {
            origin,
            permit: None,
            tries,
        }
    }
}

impl<B: RequestBody> Drop for Lease<B> {
    fn drop(&mut self) {
        let pulse = &self.origin.pulse;
        pulse.in_flight.set(pulse.in_flight.get().saturating_sub(1));
        if self.tries {
            pulse.tried.set(false);
        }
    }
}

impl<B: RequestBody> Deref for Lease<B> {
    type Target = Origin<B>;

    fn deref(&self) -> &Origin<B> {
        &self.origin
    }
}

impl Pulse {
    /// Whether it may be called: not while it is ejected, and after that by one call at a time
    /// until one succeeded.
    fn takes_calls(&self) -> bool {
        match self.ejected_until.get() {
            None => true,
            Some(until) => !self.tried.get() && until <= Instant::now(),
        }
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// An answer's head came.
    pub(super) fn succeeded(&self) {
        if self.failures.get() != 0 {
            self.failures.set(0);
        }
        if self.ejected_until.get().is_some() {
            self.ejected_until.set(None);
            self.ejections.set(0);
        }
    }

    /// Notes a failure; how long it is ejected for, if it is now.
    fn failed(&self, failure: Failure) -> Option<Duration> {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        // Nothing was lost by a connection that did not come about, but one call without an answer
        // may be that call's own fault.
        let enough = failure == Failure::Connect || failures >= FAILURES;
        let now = Instant::now();
        let is_ejected = self.ejected_until.get().is_some_and(|until| until > now);
        if !enough || is_ejected {
            return None;
        }
        let times = self.ejections.get();
        self.ejections.set(times.saturating_add(1));
        let pause = FIRST_PAUSE
            .saturating_mul(2u32.saturating_pow(times))
            .min(LAST_PAUSE);
        self.ejected_until.set(now.checked_add(pause));
        Some(pause)
    }
}

/// Calls without an answer, in a row, after which an endpoint is ejected.
const FAILURES: u32 = 3;

/// How long an endpoint is ejected for the first time; each time is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn streams_from_before_do_not_keep_an_endpoint_away() {
        let pulse = Pulse::default();
        pulse.in_flight.set(1);
        let pause = pulse.failed(Failure::Connect).expect("ejected");
        tokio::time::advance(pause).await;
        assert!(pulse.takes_calls());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_and_one_answer_ends_them() {
        let pulse = Pulse::default();
        assert_eq!(pulse.failed(Failure::Answer), None);
        assert_eq!(pulse.failed(Failure::Answer), None);
        assert!(pulse.takes_calls());
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = pulse.failed(Failure::Answer).expect("ejected");
            assert_eq!(pause.as_secs(), seconds);
            assert_eq!(
                pulse.failed(Failure::Connect),
                None,
                "calls from before do not count twice"
            );
            assert!(!pulse.takes_calls());
            tokio::time::advance(pause).await;
            assert!(pulse.takes_calls());
        }
        pulse.succeeded();
        assert_eq!(pulse.failed(Failure::Answer), None, "in a row, not in all");
        assert_eq!(
            pulse.failed(Failure::Connect).map(|pause| pause.as_secs()),
            Some(1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_one_call_proves_it_and_not_a_herd() {
        let pulse = Pulse::default();
        pulse.failed(Failure::Connect);
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(pulse.takes_calls());
        pulse.tried.set(true);
        assert!(!pulse.takes_calls(), "the one is under way");
        pulse.succeeded();
        assert!(pulse.takes_calls());
    }
}
