//! A guard around a store: a deadline for each operation, rest after failures, counters, two log
//! lines for an outage.
//!
//! A store that failed three times in a row is asked by one call at a time and at most once a second,
//! while all others fail at once: an outage makes no pile of calls that wait. The first answer ends
//! it. The guard retries nothing and decides nothing about sessions: what it refuses is as if the
//! store could not be had. Names of stores have no credentials; keys and values are never shown.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coatroom_core::store::{
    Ended, EntryKey, Holder, IndexKey, Lease, Mark, MarkKey, NewRecord, Record, RecordKey, RecordVersion,
    Replaced,
};
use coatroom_core::time::UnixTime;

use super::{Cursor, SessionStore, StoreError, StoreFacts, StoreFuture};
use crate::clock::Clock;
use crate::telemetry::{family, series};

/// A store with a guard.
pub struct Guarded {
    inner: Arc<dyn SessionStore>,
    name: String,
    limit: Duration,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    counts: [Counts; OPERATIONS.len()],
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    /// Its address without credentials.
    pub name: String,
    /// What is wrong with it, if anything is.
    pub trouble: Option<StoreTrouble>,
}

/// What is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreTrouble {
    /// Since when.
    pub since: UnixTime,
    /// What it said last.
    pub error: String,
}

#[derive(Default)]
struct State {
    /// Failures without an answer between them.
    failures: u32,
    /// Since when, by the wall clock and by the one that nobody sets back.
    since: Option<(UnixTime, Duration)>,
    last_error: String,
    /// Until when nobody asks, and whether somebody does now.
    rests_until: Duration,
    is_probed: bool,
}

/// What was counted of one operation.
#[derive(Default)]
struct Counts {
    outcomes: [AtomicU64; OUTCOMES.len()],
    /// Answers and failures by how long they took, each in the first bucket that holds it.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
}

/// What a store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Load,
    Insert,
    Replace,
    Touch,
    Delete,
    List,
    Mark,
    Marks,
    Announce,
    EndedSince,
    Acquire,
    Release,
    Remember,
    Recall,
    Claim,
    Purge,
    Ping,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    Failed,
    Late,
    /// Nobody asked: the store rests.
    Resting,
}

impl Guarded {
    /// Puts a guard before a store. `name` is for people: no credentials. `limit` is how long one
    /// operation may take.
    pub fn new(
        inner: Arc<dyn SessionStore>,
        name: impl Into<String>,
        limit: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            inner,
            name: name.into(),
            limit,
            clock,
            state: Mutex::default(),
            counts: Default::default(),
        }
    }

    /// Its address without credentials.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is, by what was asked of it last: nobody is asked now.
    pub fn health(&self) -> StoreHealth {
        let state = self.state();
        StoreHealth {
            name: self.name.clone(),
            trouble: state.since.map(|(since, _)| StoreTrouble {
                since,
                error: state.last_error.clone(),
            }),
        }
    }

    fn run<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        ask: impl FnOnce(&'a dyn SessionStore) -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let turn = self.turn(operation)?;
            let begun = self.clock.elapsed();
            let answer = within(self.limit(operation), ask(self.inner.as_ref())).await;
            let took = self.clock.elapsed().saturating_sub(begun);
            let outcome = match &answer {
                Some(Ok(_)) => Outcome::Answered,
                Some(Err(_)) => Outcome::Failed,
                None => Outcome::Late,
            };
            let answer =
                answer.unwrap_or_else(|| Err(StoreError::Unavailable("no answer in time".to_owned())));
            self.counts[operation as usize].add(outcome, Some(took));
            turn.over(answer.as_ref().err());
            answer
        })
    }

    fn limit(&self, operation: Operation) -> Duration {
        match operation {
            // It works through what is over, and nobody waits for it.
            Operation::Purge => self.limit.max(PURGE_LIMIT),
            _ => self.limit,
        }
    }

    /// Leave to ask.
    fn turn(&self, operation: Operation) -> Result<Turn<'_>, StoreError> {
        let mut state = self.state();
        let mut is_probe = false;
        if state.failures >= FAILURES {
            let now = self.clock.elapsed();
            // what lies further ahead than a rest is from before a clock was set back
            let rests = now < state.rests_until && state.rests_until <= now.saturating_add(REST);
            if rests || state.is_probed || operation == Operation::Purge {
                self.counts[operation as usize].add(Outcome::Resting, None);
                return Err(StoreError::Unavailable(format!(
                    "it rests after failures: {}",
                    state.last_error
                )));
            }
            state.is_probed = true;
            is_probe = true;
        }
        Ok(Turn {
            guarded: self,
            operation,
            is_probe,
        })
    }

    fn note(&self, turn: &Turn<'_>, error: Option<&StoreError>) {
        let mut state = self.state();
        // what cannot be read is no outage: one record of a newer version would take it from everybody
        let Some(StoreError::Unavailable(error)) = error else {
            let since = state.since.take();
            state.failures = 0;
            drop(state);
            if let Some((_, begun)) = since {
                let lasted = self.clock.elapsed().saturating_sub(begun).as_secs();
                tracing::info!(
                    store = self.name,
                    seconds = lasted,
                    "the session store answers again"
                );
            }
            return;
        };
        // Nobody waits for it, and it fails for reasons of its own.
        if turn.operation == Operation::Purge {
            return;
        }
        let now = self.clock.elapsed();
        let is_news = state.since.is_none();
        state.since = state.since.or_else(|| Some((self.clock.now(), now)));
        state.failures = state.failures.saturating_add(1);
        // what was on its way when the rest began says nothing new
        if turn.is_probe || state.failures == FAILURES {
            state.rests_until = now.saturating_add(REST);
        }
        state.last_error.clone_from(error);
        drop(state);
        if is_news {
            tracing::error!(
                store = self.name,
                operation = turn.operation.name(),
                error,
                "the session store cannot be had; nothing more is said of it until it answers"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to ask once; the next may ask when it is over, or dropped because the caller went away.
struct Turn<'g> {
    guarded: &'g Guarded,
    operation: Operation,
    is_probe: bool,
}

impl Turn<'_> {
    fn over(self, error: Option<&StoreError>) {
        self.guarded.note(&self, error);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.guarded.state().is_probed = false;
        }
    }
}

/// The answer, if it comes in time.
async fn within<F: Future>(limit: Duration, answer: F) -> Option<F::Output> {
    tokio::time::timeout(limit, answer).await.ok()
}

impl Counts {
    fn add(&self, outcome: Outcome, took: Option<Duration>) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(took) = took {
            let bucket = BUCKETS.iter().position(|(_, bound)| took <= *bound);
            self.buckets[bucket.unwrap_or(BUCKETS.len())].fetch_add(1, Ordering::Relaxed);
            let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        }
    }
}

/// The counters of these stores as Prometheus text; nothing where there is no store.
pub(super) fn render(stores: &[&Guarded], out: &mut String) {
    use std::fmt::Write as _;
    if stores.is_empty() {
        return;
    }
    let name = "coatroom_store_up";
    family(
        out,
        name,
        "gauge",
        "Whether a session store answered when it was asked last.",
    );
    for store in stores {
        let is_up = store.state().since.is_none();
        series(out, name, &[("store", &store.name)], u64::from(is_up));
    }
    let name = "coatroom_store_operations_total";
    family(out, name, "counter", "Operations of session stores by outcome.");
    for (store, operation, counts) in used(stores) {
        for (index, outcome) in OUTCOMES.into_iter().enumerate() {
            let labels = [("store", store), ("operation", operation), ("outcome", outcome)];
            series(out, name, &labels, counts.outcomes[index].load(Ordering::Relaxed));
        }
    }
    let name = "coatroom_store_seconds";
    family(
        out,
        name,
        "histogram",
        "How long operations of session stores took.",
    );
    for (store, operation, counts) in used(stores) {
        let mut sum = 0_u64;
        let bounds = BUCKETS.iter().map(|(label, _)| *label).chain(["+Inf"]);
        for (bound, count) in bounds.zip(&counts.buckets) {
            sum = sum.saturating_add(count.load(Ordering::Relaxed));
            let labels = [("store", store), ("operation", operation), ("le", bound)];
            series(out, "coatroom_store_seconds_bucket", &labels, sum);
        }
        let labels = [("store", store), ("operation", operation)];
        let micros = counts.microseconds.load(Ordering::Relaxed);
        let mut line = String::new();
        series(
            &mut line,
            "coatroom_store_seconds_sum",
            &labels,
            micros / 1_000_000,
        );
        let _ = writeln!(out, "{}.{:06}", line.trim_end(), micros % 1_000_000);
        series(out, "coatroom_store_seconds_count", &labels, sum);
    }
}

/// The operations that anybody asked for.
fn used<'s>(stores: &'s [&'s Guarded]) -> impl Iterator<Item = (&'s str, &'static str, &'s Counts)> {
    stores.iter().flat_map(|store| {
        let counts = OPERATIONS.into_iter().zip(&store.counts);
        let counts = counts.filter(|(_, counts)| {
            counts
                .outcomes
                .iter()
                .any(|count| count.load(Ordering::Relaxed) > 0)
        });
        counts.map(|(operation, counts)| (store.name.as_str(), operation, counts))
    })
}

impl Operation {
    fn name(self) -> &'static str {
        OPERATIONS[self as usize]
    }
}

impl SessionStore for Guarded {
    fn load<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, Option<Record>> {
        self.run(Operation::Load, |store| store.load(key))
    }

    fn insert<'a>(&'a self, key: &'a RecordKey, record: &'a NewRecord) -> StoreFuture<'a, ()> {
        self.run(Operation::Insert, |store| store.insert(key, record))
    }

    fn replace<'a>(
        &'a self,
        key: &'a RecordKey,
        expected: RecordVersion,
        next: &'a NewRecord,
    ) -> StoreFuture<'a, Replaced> {
        self.run(Operation::Replace, move |store| {
            store.replace(key, expected, next)
        })
    }

    fn touch<'a>(&'a self, key: &'a RecordKey, last_active: UnixTime, life: Duration) -> StoreFuture<'a, ()> {
        self.run(Operation::Touch, move |store| store.touch(key, last_active, life))
    }

    fn delete<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, bool> {
        self.run(Operation::Delete, |store| store.delete(key))
    }

    fn delete_at<'a>(&'a self, key: &'a RecordKey, expected: RecordVersion) -> StoreFuture<'a, Replaced> {
        self.run(Operation::Delete, move |store| store.delete_at(key, expected))
    }

    fn list<'a>(&'a self, index: &'a IndexKey) -> StoreFuture<'a, Vec<(RecordKey, Record)>> {
        self.run(Operation::List, |store| store.list(index))
    }

    fn mark<'a>(&'a self, marks: &'a [Mark]) -> StoreFuture<'a, ()> {
        self.run(Operation::Mark, |store| store.mark(marks))
    }

    fn marks<'a>(&'a self, keys: &'a [MarkKey]) -> StoreFuture<'a, Vec<Option<UnixTime>>> {
        self.run(Operation::Marks, |store| store.marks(keys))
    }

    fn announce<'a>(&'a self, ended: &'a [Ended]) -> StoreFuture<'a, ()> {
        self.run(Operation::Announce, |store| store.announce(ended))
    }

    fn ended_since<'a>(&'a self, cursor: Option<&'a Cursor>) -> StoreFuture<'a, (Cursor, Vec<Ended>)> {
        self.run(Operation::EndedSince, move |store| store.ended_since(cursor))
    }

    fn acquire<'a>(&'a self, key: &'a EntryKey, holder: Holder, life: Duration) -> StoreFuture<'a, Lease> {
        self.run(Operation::Acquire, move |store| store.acquire(key, holder, life))
    }

    fn release<'a>(&'a self, key: &'a EntryKey, holder: Holder, rest: Duration) -> StoreFuture<'a, ()> {
        self.run(Operation::Release, move |store| store.release(key, holder, rest))
    }

    fn remember<'a>(&'a self, key: &'a EntryKey, value: &'a [u8], life: Duration) -> StoreFuture<'a, ()> {
        self.run(Operation::Remember, move |store| store.remember(key, value, life))
    }

    fn recall<'a>(&'a self, keys: &'a [EntryKey]) -> StoreFuture<'a, Vec<Option<Vec<u8>>>> {
        self.run(Operation::Recall, |store| store.recall(keys))
    }

    fn claim<'a>(&'a self, key: &'a EntryKey, life: Duration) -> StoreFuture<'a, bool> {
        self.run(Operation::Claim, move |store| store.claim(key, life))
    }

    fn purge(&self) -> StoreFuture<'_, u64> {
        self.run(Operation::Purge, |store| store.purge())
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        self.run(Operation::Ping, |store| store.ping())
    }

    // asked by whoever examines a store, not by a call: neither counted nor held back
    fn facts(&self) -> StoreFuture<'_, StoreFacts> {
        self.inner.facts()
    }
}

/// In the order of [`Operation`].
const OPERATIONS: [&str; 17] = [
    "load",
    "insert",
    "replace",
    "touch",
    "delete",
    "list",
    "mark",
    "marks",
    "announce",
    "ended_since",
    "acquire",
    "release",
    "remember",
    "recall",
    "claim",
    "purge",
    "ping",
];

/// In the order of [`Outcome`].
const OUTCOMES: [&str; 4] = ["answered", "failed", "late", "resting"];

/// The bounds of the histogram.
const BUCKETS: [(&str, Duration); 6] = [
    ("0.001", Duration::from_millis(1)),
    ("0.005", Duration::from_millis(5)),
    ("0.025", Duration::from_millis(25)),
    ("0.1", Duration::from_millis(100)),
    ("0.5", Duration::from_millis(500)),
    ("2.5", Duration::from_millis(2500)),
];

/// How many failures in a row make an outage.
const FAILURES: u32 = 3;

/// How long nobody asks after a failure in an outage.
const REST: Duration = Duration::from_secs(1);

/// How long a purge may take.
const PURGE_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::super::testing::{Behaviour, Scripted};
    use super::*;
    use crate::clock::ManualClock;

    struct Fixture {
        scripted: Arc<Scripted>,
        clock: Arc<ManualClock>,
        store: Guarded,
    }

    fn fixture() -> Fixture {
        let scripted = Arc::new(Scripted::default());
        let clock = Arc::new(ManualClock::new(UnixTime(1_000)));
        let store = Guarded::new(
            scripted.clone(),
            "redis://h:6379",
            Duration::from_secs(2),
            clock.clone(),
        );
        Fixture {
            scripted,
            clock,
            store,
        }
    }

    impl Fixture {
        /// What this many calls are told, one after the other, and how many of them reached the store.
        async fn pings(&self, calls: usize) -> (Vec<bool>, usize) {
            let before = self.scripted.asked();
            let mut told = Vec::new();
            for _ in 0..calls {
                told.push(self.store.ping().await.is_ok());
            }
            (told, self.scripted.asked() - before)
        }
    }

    #[tokio::test]
    async fn three_failures_in_a_row_make_a_rest_and_one_asks_after_it() {
        let fixture = fixture();
        fixture.scripted.behave(Behaviour::Fails);
        assert_eq!(fixture.pings(10).await, (vec![false; 10], 3));
        for _ in 0..3 {
            fixture.clock.advance(Duration::from_secs(1));
            assert_eq!(fixture.pings(10).await, (vec![false; 10], 1), "once a second");
        }
        fixture.scripted.behave(Behaviour::Answers);
        assert_eq!(fixture.pings(1).await, (vec![false], 0), "it still rests");
        fixture.clock.advance(Duration::from_secs(1));
        assert_eq!(fixture.pings(10).await, (vec![true; 10], 10), "an answer ends it");
    }

    #[tokio::test]
    async fn failures_with_answers_between_them_make_no_rest() {
        let fixture = fixture();
        for _ in 0..5 {
            fixture.scripted.behave(Behaviour::Fails);
            assert_eq!(fixture.pings(2).await, (vec![false; 2], 2));
            fixture.scripted.behave(Behaviour::Answers);
            assert_eq!(fixture.pings(1).await, (vec![true], 1));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error_and_no_outage() {
        let fixture = fixture();
        fixture.scripted.behave(Behaviour::Garbles);
        assert_eq!(fixture.pings(10).await, (vec![false; 10], 10));
        assert!(fixture.store.health().trouble.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_in_time_is_a_failure() {
        let fixture = fixture();
        fixture.scripted.behave(Behaviour::Hangs);
        let begun = tokio::time::Instant::now();
        assert_eq!(
            fixture.store.ping().await,
            Err(StoreError::Unavailable("no answer in time".to_owned()))
        );
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
        assert_eq!(fixture.pings(10).await, (vec![false; 10], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn while_one_asks_the_others_fail_at_once() {
        let fixture = fixture();
        fixture.scripted.behave(Behaviour::Fails);
        fixture.pings(3).await;
        fixture.clock.advance(Duration::from_secs(1));
        fixture.scripted.behave(Behaviour::Hangs);
        let begun = tokio::time::Instant::now();
        let (probe, ()) = tokio::join!(fixture.store.ping(), async {
            assert_eq!(fixture.pings(5).await, (vec![false; 5], 0));
            assert_eq!(begun.elapsed(), Duration::ZERO);
        });
        assert!(probe.is_err());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_while_it_asks_leaves_its_turn_to_the_next() {
        let fixture = fixture();
        fixture.scripted.behave(Behaviour::Fails);
        fixture.pings(3).await;
        fixture.clock.advance(Duration::from_secs(1));
        fixture.scripted.behave(Behaviour::Hangs);
        {
            let mut probe = std::pin::pin!(fixture.store.ping());
            assert!(futures_util::poll!(&mut probe).is_pending());
            assert_eq!(fixture.pings(1).await, (vec![false], 0));
        }
        fixture.scripted.behave(Behaviour::Answers);
        assert_eq!(fixture.pings(1).await, (vec![true], 1));
    }

    #[tokio::test]
    async fn a_purge_that_fails_is_no_outage() {
        let fixture = fixture();
        fixture.scripted.behave(Behaviour::Fails);
        for _ in 0..5 {
            assert!(fixture.store.purge().await.is_err());
        }
        assert_eq!(fixture.store.health().trouble, None);
        assert_eq!(fixture.pings(4).await, (vec![false; 4], 3));
        fixture.clock.advance(Duration::from_secs(1));
        assert!(fixture.store.purge().await.is_err());
        assert_eq!(
            fixture.scripted.asked(),
            8,
            "and none asks while the store is away"
        );
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_rests_nobody_for_hours() {
        let fixture = fixture();
        fixture.scripted.behave(Behaviour::Fails);
        fixture.pings(3).await;
        fixture.clock.set(UnixTime(10));
        fixture.scripted.behave(Behaviour::Answers);
        assert_eq!(fixture.pings(1).await, (vec![true], 1));
    }

    #[tokio::test]
    async fn its_health_says_since_when_and_why() {
        let fixture = fixture();
        assert_eq!(fixture.store.health().trouble, None);
        fixture.scripted.behave(Behaviour::Fails);
        fixture.pings(2).await;
        fixture.clock.advance(Duration::from_secs(7));
        fixture.pings(2).await;
        let trouble = fixture.store.health().trouble.expect("trouble");
        assert_eq!((trouble.since, trouble.error.as_str()), (UnixTime(1_000), "away"));
        fixture.scripted.behave(Behaviour::Answers);
        fixture.clock.advance(Duration::from_secs(1));
        fixture.pings(1).await;
        assert_eq!(fixture.store.health().trouble, None);
    }

    #[tokio::test]
    async fn an_outage_is_two_lines_in_the_log() {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .without_time()
            .with_ansi(false)
            .finish();
        let _logged = tracing::subscriber::set_default(subscriber);
        let fixture = fixture();
        fixture.scripted.behave(Behaviour::Fails);
        for _ in 0..30 {
            fixture.pings(5).await;
            fixture.clock.advance(Duration::from_secs(1));
        }
        fixture.scripted.behave(Behaviour::Answers);
        fixture.pings(5).await;
        let log = String::from_utf8(log.0.lock().expect("unpoisoned").clone()).expect("text");
        let lines: Vec<_> = log.lines().map(|line| line.trim_start()).collect();
        assert_eq!(
            lines,
            [
                r#"ERROR coatroom::store::guarded: the session store cannot be had; nothing more is said of it until it answers store="redis://h:6379" operation="ping" error="away""#,
                r#"INFO coatroom::store::guarded: the session store answers again store="redis://h:6379" seconds=30"#,
            ]
        );
    }

    #[tokio::test]
    async fn operations_are_counted_by_how_they_went() {
        let fixture = fixture();
        let mut out = String::new();
        render(&[], &mut out);
        assert_eq!(out, "");
        fixture.pings(2).await;
        assert_eq!(fixture.store.marks(&[]).await, Ok(Vec::new()));
        fixture.scripted.behave(Behaviour::Fails);
        fixture.pings(5).await;
        render(&[&fixture.store], &mut out);
        let ping = r#"store="redis://h:6379",operation="ping""#;
        for line in [
            r#"coatroom_store_up{store="redis://h:6379"} 0"#.to_owned(),
            format!(r#"coatroom_store_operations_total{{{ping},outcome="answered"}} 2"#),
            format!(r#"coatroom_store_operations_total{{{ping},outcome="failed"}} 3"#),
            format!(r#"coatroom_store_operations_total{{{ping},outcome="late"}} 0"#),
            format!(r#"coatroom_store_operations_total{{{ping},outcome="resting"}} 2"#),
            format!(r#"coatroom_store_seconds_bucket{{{ping},le="0.001"}} 5"#),
            format!(r#"coatroom_store_seconds_bucket{{{ping},le="+Inf"}} 5"#),
            format!("coatroom_store_seconds_sum{{{ping}}} 0.000000"),
            format!("coatroom_store_seconds_count{{{ping}}} 5"),
        ] {
            assert!(out.lines().any(|found| found == line), "{line}\n{out}");
        }
        assert!(out.contains("operation=\"marks\"") && !out.contains("operation=\"load\""));
    }

    #[test]
    fn times_are_summed_and_put_into_buckets() {
        let counts = Counts::default();
        for millis in [1, 2, 26, 3_000] {
            counts.add(Outcome::Answered, Some(Duration::from_millis(millis)));
        }
        let found: Vec<_> = counts
            .buckets
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        assert_eq!(found, [1, 1, 0, 1, 0, 0, 1]);
        assert_eq!(counts.microseconds.load(Ordering::Relaxed), 3_029_000);
    }
}
