//! The executor of the simulation: it decides what happens next.
//!
//! A [`Run`] polls the tasks itself and has them wait at every operation. What may happen next is a
//! list of [`Action`]s: an operation takes place, its answer is lost, a replica dies, a process
//! freezes, the store goes away, time passes. Whoever drives the run picks one. Nothing here knows
//! the algorithm, and no run depends on anything but its choices.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use coatroom_core::error::Error;
use tokio::sync::oneshot;

use super::model::{Model, Op, Reply, Reuse, State, Time};
use super::waiting::{OpId, Pending, Shared, lock};
use super::{Config, Role, Sim};

/// Something that may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A task begins.
    Start(usize),
    /// An operation takes place, or its answer arrives.
    Step(OpId),
    /// It does not, and whoever asked hears of it.
    Fail(OpId),
    /// It does, and the answer is lost.
    Lose(OpId),
    /// Whoever asked gives up, and it takes place later or never.
    Late(OpId),
    /// All tasks of a replica end here.
    Crash(usize),
    /// A task stands still while time goes on.
    Freeze(usize),
    Thaw(usize),
    OutageBegins,
    OutageEnds,
    /// What nobody waits for takes place.
    Ghost(usize),
    /// Time passes until something is due.
    Time,
}

impl Action {
    /// Whether the world may do without.
    pub(super) const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Fail(_)
                | Self::Lose(_)
                | Self::Late(_)
                | Self::Crash(_)
                | Self::Freeze(_)
                | Self::OutageBegins
        )
    }
}

type Outcome = Result<State, Error>;

struct Task {
    role: Role,
    replica: usize,
    held: State,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    answer: Option<oneshot::Receiver<Outcome>>,
    outcome: Option<Outcome>,
    stage: Stage,
    /// What it has seen: with the same past it is in the same state.
    past: u64,
    begun: Time,
    /// Since when it cannot write what must not be lost.
    stuck_since: Option<Time>,
    after_sign_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Waiting,
    Running,
    Frozen,
    Ended,
    Crashed,
}

/// One run of everything, from the beginning.
pub(super) struct Run<'c> {
    config: &'c Config,
    shared: Arc<Mutex<Shared>>,
    tasks: Vec<Task>,
    faults_left: u32,
    outage_since: Option<Time>,
    /// Whether a lease may be left behind.
    trouble: bool,
    pub(super) steps: u32,
    /// How many sessions were lost that may be.
    pub(super) lost: u32,
}

impl<'c> Run<'c> {
    pub(super) fn new(config: &'c Config) -> Self {
        let sessions = 1 + config.tasks.iter().map(|task| task.session).max().unwrap_or(0);
        let model = Model::new(sessions, config.reuse, config.deadline);
        let mut run = Self {
            config,
            shared: Arc::new(Mutex::new(Shared {
                model,
                ops: BTreeMap::new(),
                replies: BTreeMap::new(),
                asked: Vec::new(),
                ghosts: Vec::new(),
                op_time: config.op_time,
            })),
            tasks: Vec::new(),
            faults_left: config.faults,
            outage_since: None,
            trouble: false,
            steps: 0,
            lost: 0,
        };
        for (index, task) in config.tasks.iter().enumerate() {
            run.add(task.role, task.session, index % config.replicas);
        }
        run
    }

    fn add(&mut self, role: Role, session: usize, replica: usize) {
        let mut shared = lock(&self.shared);
        let held = shared.model.sessions[session].record.unwrap_or(State {
            version: 0,
            refreshes: 0,
            token: 0,
            user: session,
        });
        shared.asked.push(0);
        shared.model.senders.push(super::model::Sender {
            session,
            ..Default::default()
        });
        drop(shared);
        self.tasks.push(Task {
            role,
            replica,
            held,
            future: None,
            answer: None,
            outcome: None,
            stage: Stage::Waiting,
            past: 0,
            begun: 0,
            stuck_since: None,
            after_sign_out: false,
        });
    }

    pub(super) fn is_over(&self) -> bool {
        self.tasks
            .iter()
            .all(|task| matches!(task.stage, Stage::Ended | Stage::Crashed))
    }

    pub(super) fn breach(&self) -> Option<String> {
        lock(&self.shared).model.breach.clone()
    }

    /// Everything that may happen next, in an order that depends on nothing else.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let shared = lock(&self.shared);
        let can_fail = self.faults_left > 0;
        // in a coarse run not at every instant of an outage, for there are too many
        let age = self.outage_since.map_or(0, |since| shared.model.now - since);
        let at_any_time = !self.config.coarse || age.is_multiple_of(COARSE);
        let kinds = &self.config.kinds;
        for (index, task) in self.tasks.iter().enumerate() {
            let twin = self.tasks[..index].iter().any(|other| {
                other.stage == Stage::Waiting
                    && (other.role, other.held, other.replica) == (task.role, task.held, task.replica)
            });
            match task.stage {
                Stage::Waiting if !twin && at_any_time => actions.push(Action::Start(index)),
                Stage::Frozen => actions.push(Action::Thaw(index)),
                Stage::Running if can_fail && kinds.freeze && task.role.renews() => {
                    actions.push(Action::Freeze(index));
                }
                Stage::Waiting | Stage::Running | Stage::Ended | Stage::Crashed => {}
            }
            let is_first = self.tasks[..index]
                .iter()
                .all(|other| other.replica != task.replica);
            if can_fail && kinds.crash && is_first && task.stage == Stage::Running {
                actions.push(Action::Crash(task.replica));
            }
        }
        for (&id, pending) in &shared.ops {
            let frozen = self.tasks[id.0].stage == Stage::Frozen;
            let overdue = pending.due <= shared.model.now;
            match pending.op {
                Op::Pause(_) if overdue && !frozen => actions.push(Action::Step(id)),
                Op::Pause(_) => {}
                Op::Send(_, None) if overdue && !frozen => actions.push(Action::Late(id)),
                Op::Send(_, None) => {
                    actions.push(Action::Step(id));
                    if can_fail && kinds.provider && !frozen {
                        actions.push(Action::Fail(id));
                    }
                }
                _ if frozen => {}
                Op::Send(_, Some(_)) => {
                    actions.push(Action::Step(id));
                    if overdue || can_fail && kinds.provider {
                        actions.push(Action::Lose(id));
                    }
                }
                Op::Revoke(_) | Op::Discard(_) | Op::Kill => actions.push(Action::Step(id)),
                // that calls fail changes nothing but their tasks: in a coarse run in one order only
                _ if self.outage_since.is_some() => {
                    if !self.config.coarse || !actions.iter().any(|action| matches!(action, Action::Fail(_)))
                    {
                        actions.push(Action::Fail(id));
                    }
                }
                _ => {
                    actions.push(Action::Step(id));
                    if can_fail && kinds.store {
                        actions.extend([Action::Fail(id), Action::Lose(id)]);
                    }
                    if can_fail && kinds.late {
                        actions.push(Action::Late(id));
                    }
                }
            }
        }
        actions.extend((0..shared.ghosts.len()).map(Action::Ghost));
        match self.outage_since {
            Some(_) if at_any_time => actions.push(Action::OutageEnds),
            None if can_fail && kinds.outage => actions.push(Action::OutageBegins),
            Some(_) | None => {}
        }
        if self.next_instant(&shared).is_some() {
            actions.push(Action::Time);
        }
        actions
    }

    /// The next instant at which something changes by itself, if nothing has to happen before it.
    fn next_instant(&self, shared: &Shared) -> Option<Time> {
        let now = shared.model.now;
        let awake = |id: &OpId| self.tasks[id.0].stage != Stage::Frozen;
        let due = |id: &OpId, pending: &Pending| match pending.op {
            Op::Send(..) if !self.config.slow_provider && awake(id) => now,
            _ => pending.due,
        };
        let ops = shared.ops.iter().filter(|(id, _)| awake(id));
        let bound = ops.map(|(id, pending)| due(id, pending)).min();
        let outage = self.outage_since.map(|since| since + self.config.longest_outage);
        let leases = shared.model.sessions.iter().enumerate();
        let leases = leases.flat_map(|(index, session)| {
            [
                session.lease.map(|(_, until)| until),
                Some(shared.model.rest_until(index)),
            ]
        });
        let next = leases
            .flatten()
            .chain(bound)
            .chain(outage)
            .filter(|&at| at > now)
            .min();
        let must_stop = bound.into_iter().chain(outage).any(|at| at <= now);
        next.filter(|_| !must_stop)
    }

    /// Has it happen.
    pub(super) fn act(&mut self, action: Action) {
        self.steps += 1;
        if action.is_fault() {
            let free = match action {
                Action::Fail(_) => self.outage_since.is_some(),
                Action::Lose(id) | Action::Late(id) => {
                    let shared = lock(&self.shared);
                    let pending = &shared.ops[&id];
                    matches!(pending.op, Op::Send(..)) && pending.due <= shared.model.now
                }
                _ => false,
            };
            self.faults_left -= u32::from(!free);
        }
        match action {
            Action::Start(index) => self.start(index),
            Action::Step(id) => self.step(id),
            Action::Fail(id) => self.lose(id, Effect::None),
            Action::Lose(id) => self.lose(id, Effect::Now),
            Action::Late(id) => self.lose(id, Effect::Later),
            Action::Crash(replica) => self.crash(replica),
            Action::Freeze(index) => {
                self.trouble();
                self.tasks[index].stage = Stage::Frozen;
                lock(&self.shared).model.senders[index].absent = true;
            }
            Action::Thaw(index) => self.tasks[index].stage = Stage::Running,
            Action::OutageBegins => {
                self.trouble();
                self.outage_since = Some(lock(&self.shared).model.now);
            }
            Action::OutageEnds => self.outage_since = None,
            Action::Ghost(index) => {
                let mut shared = lock(&self.shared);
                let (task, mut op) = shared.ghosts.remove(index);
                shared.model.perform(task, &mut op);
                if matches!(op, Op::Send(..)) {
                    shared.model.excuse(task);
                }
            }
            Action::Time => {
                let mut shared = lock(&self.shared);
                if let Some(next) = self.next_instant(&shared) {
                    shared.model.now = next;
                }
            }
        }
        let endless = self.steps > MAX_STEPS;
        lock(&self.shared).model.check(!endless, "it does not end");
    }

    fn start(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        let shared = lock(&self.shared);
        let session = &shared.model.sessions[shared.model.senders[index].session];
        if task.role == Role::RenewLatest
            && let Some(record) = session.record
        {
            task.held = record;
        }
        task.after_sign_out = session.signed_out;
        task.begun = shared.model.now;
        let (answer, answered) = oneshot::channel();
        let sim = Sim {
            shared: Arc::clone(&self.shared),
            task: index,
            held: task.held,
            broken: self.config.broken,
            coarse: self.config.coarse,
            asked_at: shared.model.now.into(),
        };
        drop(shared);
        task.answer = task.role.renews().then_some(answered);
        task.future = Some(task.role.play(sim, task.held, answer));
        task.stage = Stage::Running;
        self.poll(index);
    }

    fn step(&mut self, id: OpId) {
        let mut guard = lock(&self.shared);
        let shared = &mut *guard;
        let Some(pending) = shared.ops.get_mut(&id) else {
            return;
        };
        let asked = pending.op;
        let reply = shared.model.perform(id.0, &mut pending.op);
        if matches!(asked, Op::Send(_, None)) {
            return; // the answer is on its way
        }
        shared.ops.remove(&id);
        shared.replies.insert(id, reply);
        drop(guard);
        self.replied(id, reply);
    }

    fn lose(&mut self, id: OpId, effect: Effect) {
        let mut guard = lock(&self.shared);
        let shared = &mut *guard;
        let Some(mut pending) = shared.ops.remove(&id) else {
            return;
        };
        match (pending.op, effect) {
            (Op::Send(..), effect) => {
                if effect == Effect::Now {
                    shared.model.excuse(id.0);
                }
                if effect == Effect::Later {
                    shared.ghosts.push((id.0, pending.op));
                }
                shared.model.failed(id.0);
                if !shared.model.senders[id.0].absent && self.outage_since.is_none() {
                    shared.model.needs_rest(id.0);
                }
            }
            (_, Effect::None) => {}
            (_, Effect::Now) => drop(shared.model.perform(id.0, &mut pending.op)),
            (op, Effect::Later) => shared.ghosts.push((id.0, op)),
        }
        shared.replies.insert(id, Reply::Lost);
        let now = shared.model.now;
        if !matches!(pending.op, Op::Send(..)) {
            shared.model.forgive_rests();
            // giving the lease back is tried more often than calls fail
            self.trouble |= effect == Effect::Later || self.config.faults > 2;
        }
        if matches!(pending.op, Op::Save(..) | Op::End(_)) {
            self.tasks[id.0].stuck_since.get_or_insert(now);
        }
        drop(guard);
        self.replied(id, Reply::Lost);
    }

    fn crash(&mut self, replica: usize) {
        self.trouble();
        for index in 0..self.tasks.len() {
            let task = &mut self.tasks[index];
            if task.replica != replica || !matches!(task.stage, Stage::Running | Stage::Frozen) {
                continue;
            }
            task.stage = Stage::Crashed;
            let future = task.future.take();
            let mut shared = lock(&self.shared);
            shared.model.senders[index].absent = true;
            shared.model.lost(index);
            if matches!(task.role, Role::SignOut | Role::BackChannel) {
                // what it was to revoke stays alive
                shared.model.excuse(index);
            }
            drop(shared);
            drop(future);
        }
    }

    fn trouble(&mut self) {
        self.trouble = true;
        lock(&self.shared).model.forgive_rests();
    }

    fn replied(&mut self, id: OpId, reply: Reply) {
        let mut hasher = DefaultHasher::new();
        let now = lock(&self.shared).model.now;
        (self.tasks[id.0].past, id.1, reply, now).hash(&mut hasher);
        self.tasks[id.0].past = hasher.finish();
        self.poll(id.0);
    }

    fn poll(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        let Some(future) = &mut task.future else { return };
        let ended = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready();
        if let Some(answer) = &mut task.answer
            && let Ok(outcome) = answer.try_recv()
        {
            task.answer = None;
            task.outcome = Some(outcome);
            self.answered(index);
        }
        if ended {
            self.ended(index);
        }
    }

    /// What an answer may not be.
    fn answered(&self, index: usize) {
        let task = &self.tasks[index];
        let model = &mut lock(&self.shared).model;
        let gone = model.sessions[model.senders[index].session].record.is_none();
        let waited = model.now - task.begun;
        if !model.senders[index].absent {
            let bound = self.config.longest_answer();
            model.check(waited <= bound, "somebody waited too long for an answer");
            let stuck = model.now - task.stuck_since.unwrap_or(model.now);
            let bound = self.config.longest_patience();
            model.check(stuck <= bound, "somebody waited too long for the store");
        }
        let session = &model.sessions[model.senders[index].session];
        match &task.outcome {
            Some(Ok(state)) => {
                let saved = session.versions.contains(&state.version);
                model.check(!task.after_sign_out, "tokens were given out after a sign-out");
                model.check(state.user == task.held.user, "somebody got another user's tokens");
                model.check(
                    state.refreshes > task.held.refreshes,
                    "somebody got no newer tokens",
                );
                model.check(saved, "tokens were given out that are not saved");
            }
            Some(Err(Error::GrantEnded | Error::SessionExpired(_))) => {
                model.check(gone, "a session that is there was said to have ended");
            }
            Some(Err(Error::ProviderUnavailable { .. } | Error::StoreUnavailable { .. })) => {}
            Some(Err(_)) | None => model.check(false, "an answer that is none"),
        }
    }

    fn ended(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        task.stage = Stage::Ended;
        task.future = None;
        let answered = task.outcome.is_some() || !task.role.renews();
        let mut shared = lock(&self.shared);
        let model = &mut shared.model;
        model.check(answered, "it ended without an answer");
        if model.senders[index].unsettled.is_some() {
            let may_give_up = self.config.longest_outage >= 120_000;
            model.check(may_give_up, "new tokens were given up");
            model.lost(index);
        }
    }

    /// Lets everything come to rest, asks once more, and judges what has become of the sessions.
    pub(super) fn conclude(&mut self) {
        self.outage_since = None;
        let sessions = {
            let shared = &mut *lock(&self.shared);
            let longest = shared.model.deadline + 20_000;
            for index in 0..shared.model.sessions.len() {
                let (lease, now) = (shared.model.sessions[index].lease, shared.model.now);
                let left = lease.map_or(0, |(_, until)| until.saturating_sub(now));
                let stuck = left > if self.trouble { longest } else { 0 };
                shared.model.check(!stuck, "a lease is stuck");
            }
            shared.ghosts.clear();
            shared.model.now += 600_000;
            shared.model.forgive_rests();
            shared.model.sessions.len()
        };
        self.faults_left = 0;
        for session in 0..sessions {
            let index = self.tasks.len();
            self.add(Role::RenewLatest, session, usize::MAX);
            self.act(Action::Start(index));
            while !self.is_over() && self.breach().is_none() {
                let Some(next) = self.actions().first().copied() else {
                    break;
                };
                self.act(next);
            }
            self.judge(index, session);
        }
    }

    fn judge(&mut self, last: usize, index: usize) {
        let model = &mut lock(&self.shared).model;
        let Some(outcome) = &self.tasks[last].outcome else {
            return model.check(false, "a session cannot be refreshed any more");
        };
        let session = &model.sessions[index];
        self.lost += u32::from(outcome.is_err() && !session.ended_otherwise);
        let may_be_lost = session.excuses > 0 && matches!(model.reuse, Reuse::Kills | Reuse::Refused);
        let orphans = session.signed_out && session.excuses == 0 && model.is_alive(index);
        let good = match outcome {
            Ok(_) => !session.signed_out,
            Err(Error::GrantEnded | Error::SessionExpired(_)) => session.ended_otherwise || may_be_lost,
            Err(_) => false,
        };
        model.check(good, "a session was lost, or revived");
        model.check(!orphans, "tokens that nobody holds are alive after a sign-out");
    }

    /// What this state is, for as much as the future depends on it.
    pub(super) fn digest(&self) -> u64 {
        let shared = lock(&self.shared);
        let mut hasher = DefaultHasher::new();
        shared.model.hash(&mut hasher);
        (&shared.ops, &shared.ghosts).hash(&mut hasher);
        (self.faults_left, self.outage_since, self.trouble).hash(&mut hasher);
        for task in &self.tasks {
            (
                task.stage,
                task.past,
                task.held,
                task.begun,
                task.stuck_since,
                task.after_sign_out,
            )
                .hash(&mut hasher);
        }
        hasher.finish()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Now,
    Later,
}

/// How long a part of an outage is in a coarse run.
const COARSE: Time = 24_000;

/// More than any run needs.
const MAX_STEPS: u32 = 5_000;
