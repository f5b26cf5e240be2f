//! The refresh, run through everything that can happen to it.
//!
//! The code under test is the one that serves: the world below it is a [`model`] of a store and a
//! provider, and an [`executor`] that decides what happens next. [`exhaustively`] takes every choice
//! that a small configuration has, and [`at_random`] many through large ones, the same at each run.
//! `COATROOM_SCHEDULES` says how many (default a few thousand), and has larger configurations taken to
//! the end; a schedule that breaks a rule is printed step by step.
//!
//! Why an executor of our own: `stateright` checks state machines that are written for it, and not
//! this code; `shuttle` runs the code, but knows neither the death of a task nor time, and does not
//! recognise a state that it has seen; `turmoil` draws schedules from seeds and enumerates none.

mod executor;
mod model;
mod waiting;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coatroom_core::error::Error;
use coatroom_core::store::{Holder, Lease};
use tokio::sync::oneshot;

use self::executor::{Action, Run};
use self::model::{Fresh, LeaseReply, Op, Reply, Reuse, State, Time};
use self::waiting::{Shared, ask, lock};
use super::{Ended, GRACE, LONGEST_PAUSE, Note, PATIENCE, SLACK, Saved, World, carry_out};

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// Refreshes, with the tokens of the sign-in in its hands.
    Renew,
    /// Refreshes, with the tokens that are stored when it begins.
    RenewLatest,
    /// Signs out: removes the record, then revokes what was in it.
    SignOut,
    /// The provider ended the session and says so.
    BackChannel,
    /// Changes the record, but not its tokens.
    Amend,
}

impl Role {
    const fn renews(self) -> bool {
        matches!(self, Self::Renew | Self::RenewLatest)
    }

    fn play(
        self,
        sim: Sim,
        held: State,
        answer: oneshot::Sender<Result<State, Error>>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self {
            Self::Renew | Self::RenewLatest => Box::pin(async move { carry_out(&sim, &held, answer).await }),
            Self::SignOut => Box::pin(async move { sim.sign_out().await }),
            Self::BackChannel => Box::pin(async move {
                sim.ask(Op::Kill).await;
                sim.take().await;
            }),
            Self::Amend => Box::pin(async move {
                sim.ask(Op::Amend).await;
            }),
        }
    }
}

/// A task of a configuration.
#[derive(Clone, Copy, Debug)]
struct Player {
    role: Role,
    session: usize,
}

/// Which faults there may be.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    crash: bool,
    freeze: bool,
    outage: bool,
    /// A call to the store fails, before or after it has taken effect.
    store: bool,
    /// It takes effect after its caller has given up.
    late: bool,
    /// The provider refuses, or its answer is lost.
    provider: bool,
}

/// What is run.
#[derive(Clone, Debug)]
struct Config {
    tasks: Vec<Player>,
    reuse: Reuse,
    faults: u32,
    kinds: Faults,
    /// How long the provider may take at most.
    deadline: Time,
    slow_provider: bool,
    /// How long a call to the store may take.
    op_time: Time,
    longest_outage: Time,
    /// Fewer, longer pauses: fewer states.
    coarse: bool,
    /// Over how many replicas the tasks are spread: what dies dies together.
    replicas: usize,
    broken: Option<Broken>,
}

impl Config {
    fn new(roles: &[Role], reuse: Reuse) -> Self {
        let tasks = roles.iter().map(|&role| Player { role, session: 0 }).collect();
        Self {
            tasks,
            reuse,
            faults: 0,
            kinds: Faults::default(),
            deadline: 2_000,
            slow_provider: false,
            op_time: 0,
            longest_outage: 60_000,
            coarse: true,
            replicas: usize::MAX,
            broken: None,
        }
    }

    /// The longest that anybody whose process runs may wait for an answer: for another's refresh, the
    /// grace of a dead one, the own, and some patience with the store.
    fn longest_answer(&self) -> Time {
        let pause = if self.coarse { COARSE_PAUSE } else { LONGEST_PAUSE };
        2 * self.deadline + millis(SLACK + GRACE + PATIENCE + 3 * pause) + 10 * self.op_time
    }

    /// How long anybody waits for the store once the provider has answered.
    fn longest_patience(&self) -> Time {
        let pause = if self.coarse { COARSE_PAUSE } else { LONGEST_PAUSE };
        millis(PATIENCE + pause) + 2 * self.op_time
    }

    fn with(mut self, faults: u32, kinds: Faults) -> Self {
        (self.faults, self.kinds) = (faults, kinds);
        self
    }
}

/// A way in which the refresh would be wrong, as a world that lies to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// It sends what it held, and not what is stored once it has the lease.
    NoSecondLoad,
    /// It never notices that its lease ran out.
    NoLookAtTheClock,
    /// It asks nobody for the lease.
    NoLease,
    /// It keeps the lease.
    NoRelease,
    /// It releases a lease that has become somebody else's.
    ReleaseOfAnothersLease,
    /// It has nobody rest after a failure.
    NoRest,
    /// It does not wait for a dead holder that lives.
    NoGrace,
    /// It takes a session that is gone for saved.
    SaveIgnoresGone,
    /// It gives up new tokens when they cannot be saved at once.
    SaveOnce,
    /// It gives out tokens that are not saved.
    NotSaved,
    /// It lets tokens lie that nobody holds.
    NoDiscard,
    /// It ends the session although newer tokens are stored.
    EndWithoutLook,
    /// It does not record that the provider ended the session.
    EndForgotten,
    /// It takes no tokens for newer than its own.
    NeverNewer,
    /// All holders have one name.
    OneHolder,
}

/// The world of one task.
struct Sim {
    shared: Arc<Mutex<Shared>>,
    task: usize,
    held: State,
    broken: Option<Broken>,
    coarse: bool,
    /// When it last asked for the lease.
    asked_at: AtomicU64,
}

impl Sim {
    async fn ask(&self, op: Op) -> Reply {
        ask(&self.shared, self.task, op).await
    }

    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// Removes the record, however often that has to be tried.
    async fn take(&self) -> Option<State> {
        let mut lost = false;
        loop {
            if let Reply::State(state) = self.ask(Op::Take).await {
                let model = &mut lock(&self.shared).model;
                let session = &mut model.sessions[model.senders[self.task].session];
                session.signed_out = true;
                // an answer that was lost had the token in it
                session.excuses += u16::from(lost);
                return state;
            }
            lost = true;
            self.pause(LONGEST_PAUSE).await;
        }
    }

    async fn sign_out(&self) {
        if let Some(state) = self.take().await {
            self.ask(Op::Revoke(state.token)).await;
        }
    }
}

impl World for Sim {
    type State = State;
    type Fresh = Fresh;

    async fn load(&self) -> Result<Option<State>, Error> {
        match self.ask(Op::Load).await {
            Reply::State(Some(_)) if self.is(Broken::NoSecondLoad) => Ok(Some(self.held)),
            Reply::State(state) => Ok(state),
            _ => Err(store_away()),
        }
    }

    fn is_newer(&self, held: &State, loaded: &State) -> bool {
        loaded.refreshes > held.refreshes && !self.is(Broken::NeverNewer)
    }

    async fn acquire(&self, holder: Holder, life: Duration) -> Result<Lease, Error> {
        let [name, ..] = holder.0;
        self.asked_at
            .store(lock(&self.shared).model.now, Ordering::Relaxed);
        match self.ask(Op::Acquire(name.into(), millis(life))).await {
            Reply::Lease(LeaseReply::Held(_)) if self.is(Broken::NoLease) => {
                Ok(Lease::Acquired { after_death: false })
            }
            Reply::Lease(lease) => Ok(lease.into()),
            _ => Err(store_away()),
        }
    }

    async fn release(&self, holder: Holder, rest: Duration) -> Result<(), Error> {
        let [name, ..] = holder.0;
        let holder = match lock(&self.shared).model.lease_of(self.task) {
            Some(other) if self.is(Broken::ReleaseOfAnothersLease) => other,
            _ => name.into(),
        };
        let rest = if self.is(Broken::NoRest) { 0 } else { millis(rest) };
        if self.is(Broken::NoRelease) {
            return Ok(());
        }
        match self.ask(Op::Release(holder, rest)).await {
            Reply::Done => Ok(()),
            _ => Err(store_away()),
        }
    }

    async fn send(&self, state: &State) -> Result<Fresh, Error> {
        match self.ask(Op::Send(*state, None)).await {
            Reply::Sent(Some(fresh)) => Ok(fresh),
            Reply::Sent(None) => Err(Error::GrantEnded),
            _ => Err(Error::ProviderUnavailable {
                reason: "no answer".to_owned(),
                retry_after: 1,
            }),
        }
    }

    async fn save(&self, base: &State, fresh: &Fresh) -> Result<Saved<State>, Error> {
        let next = State {
            version: fresh.version,
            refreshes: base.refreshes + 1,
            token: fresh.token,
            user: fresh.user,
        };
        if self.is(Broken::NotSaved) {
            return Ok(Saved::Yes(next));
        }
        match self.ask(Op::Save(*base, *fresh)).await {
            Reply::Saved(Saved::Gone) if self.is(Broken::SaveIgnoresGone) => Ok(Saved::Yes(next)),
            Reply::Saved(saved) => Ok(saved),
            _ if self.is(Broken::SaveOnce) => Ok(Saved::Gone),
            _ => Err(store_away()),
        }
    }

    async fn discard(&self, fresh: Fresh) {
        if !self.is(Broken::NoDiscard) {
            self.ask(Op::Discard(fresh)).await;
        }
    }

    async fn end(&self, state: &State) -> Result<Ended<State>, Error> {
        if self.is(Broken::EndForgotten) {
            return Ok(Ended::Yes);
        }
        match self.ask(Op::End(*state)).await {
            Reply::Ended(Ended::Changed(newer)) if self.is(Broken::EndWithoutLook) => {
                self.ask(Op::End(newer)).await;
                Ok(Ended::Yes)
            }
            Reply::Ended(ended) => Ok(ended),
            _ => Err(store_away()),
        }
    }

    async fn pause(&self, length: Duration) {
        if length != GRACE || !self.is(Broken::NoGrace) {
            self.ask(Op::Pause(millis(length))).await;
        }
    }

    fn jittered(&self, pause: Duration) -> Duration {
        if self.coarse { COARSE_PAUSE } else { pause }
    }

    fn holder(&self) -> Holder {
        let name = if self.is(Broken::OneHolder) { 0 } else { self.task };
        Holder([u8::try_from(name).expect("few tasks"); 16])
    }

    fn elapsed(&self) -> Duration {
        if self.is(Broken::NoLookAtTheClock) {
            return Duration::from_millis(self.asked_at.load(Ordering::Relaxed));
        }
        Duration::from_millis(lock(&self.shared).model.now)
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(lock(&self.shared).model.deadline)
    }

    fn note(&self, _: Note) {}
}

fn store_away() -> Error {
    Error::StoreUnavailable {
        reason: "no answer".to_owned(),
        retry_after: 1,
    }
}

fn millis(length: Duration) -> Time {
    Time::try_from(length.as_millis()).expect("short")
}

/// What an exploration has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    states: usize,
    runs: usize,
    steps: u64,
    /// Sessions that were lost, as some have to be.
    lost: u32,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.states += other.states;
        self.runs += other.runs;
        self.steps += other.steps;
        self.lost += other.lost;
    }
}

/// What was broken, and how it came to that.
#[derive(Debug)]
struct Breach {
    rule: String,
    schedule: Vec<Action>,
}

/// Every schedule that a configuration has. A state is recognised by what the world is and what each
/// task has seen, so that two schedules that lead to the same are gone on with once.
fn exhaustively(config: &Config) -> Result<Seen, Breach> {
    let mut known = HashSet::new();
    let mut seen = Seen::default();
    // the choice at each step so far, and how many there were
    let mut path: Vec<(usize, usize)> = Vec::new();
    loop {
        let mut run = Run::new(config);
        let mut schedule = Vec::new();
        for &(choice, _) in &path {
            let action = run.actions()[choice];
            schedule.push(action);
            run.act(action);
        }
        loop {
            if let Some(rule) = run.breach() {
                return Err(Breach { rule, schedule });
            }
            if !known.insert(run.digest()) {
                break;
            }
            assert!(known.len() < MOST_STATES, "too many states: {config:?}");
            if run.is_over() {
                run.conclude();
                seen.runs += 1;
                seen.steps += u64::from(run.steps);
                seen.lost += run.lost;
                if let Some(rule) = run.breach() {
                    return Err(Breach { rule, schedule });
                }
                break;
            }
            let actions = run.actions();
            let Some(&first) = actions.first() else {
                let rule = "nothing can happen any more".to_owned();
                return Err(Breach { rule, schedule });
            };
            path.push((0, actions.len()));
            schedule.push(first);
            run.act(first);
        }
        // the deepest choice that has another one
        while path
            .last()
            .is_some_and(|(choice, choices)| choice + 1 == *choices)
        {
            path.pop();
        }
        let Some((choice, _)) = path.last_mut() else {
            seen.states = known.len();
            return Ok(seen);
        };
        *choice += 1;
    }
}

/// One schedule, drawn from a seed.
fn at_random(config: &Config, seed: u64) -> Result<Seen, Breach> {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut run = Run::new(config);
    let mut schedule = Vec::new();
    while !run.is_over() && run.breach().is_none() {
        let actions = run.actions();
        if actions.is_empty() {
            let rule = "nothing can happen any more".to_owned();
            return Err(Breach { rule, schedule });
        }
        let weights = actions.iter().map(|action| weight(*action));
        let mut left = chance.below(weights.clone().sum());
        let choice = weights
            .enumerate()
            .find_map(|(index, weight)| {
                let found = left < weight;
                left = left.saturating_sub(weight);
                found.then_some(index)
            })
            .expect("it is below the sum");
        schedule.push(actions[choice]);
        run.act(actions[choice]);
    }
    if run.breach().is_none() {
        run.conclude();
    }
    match run.breach() {
        Some(rule) => Err(Breach { rule, schedule }),
        None => Ok(Seen {
            states: 0,
            runs: 1,
            steps: run.steps.into(),
            lost: run.lost,
        }),
    }
}

const fn weight(action: Action) -> u64 {
    match action {
        Action::Start(_) | Action::Thaw(_) => 4,
        Action::Step(_) => 40,
        Action::Time => 20,
        Action::Ghost(_) => 6,
        Action::OutageEnds => 2,
        Action::Fail(_) | Action::Lose(_) | Action::Late(_) => 3,
        Action::Crash(_) | Action::Freeze(_) | Action::OutageBegins => 1,
    }
}

/// Numbers that look random, the same at each run (xorshift64).
struct Chance(u64);

impl Chance {
    const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Pauses of a coarse run: still shorter than the grace for a holder that lives.
const COARSE_PAUSE: Duration = Duration::from_secs(4);

const MOST_STATES: usize = 2_000_000;

mod tests;
