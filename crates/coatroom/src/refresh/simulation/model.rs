//! The world of the simulation: a store, a provider, and what must never happen in them.
//!
//! Every operation is one atomic step; when it happens, and whether its answer arrives, the executor
//! decides. The model holds no opinion about the algorithm: its rules are those of a session store
//! and of an authorization server that rotates refresh tokens (RFC 9700 §4.14.2). The first breach
//! of a rule is kept in `breach`.

use std::collections::BTreeMap;
use std::time::Duration;

use coatroom_core::store::Lease;

use super::super::{Ended, Saved};

/// Milliseconds.
pub(super) type Time = u64;

/// What a provider does about a refresh token that was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reuse {
    /// Refuses it and ends everything that came from it.
    Kills,
    /// Refuses it.
    Refused,
    /// Takes it once more: a grace period.
    Grace,
    /// There is no other token: it does not rotate.
    Kept,
}

/// A session's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) version: u16,
    pub(super) refreshes: u16,
    pub(super) token: u16,
    pub(super) user: usize,
}

/// What the provider answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fresh {
    pub(super) version: u16,
    pub(super) token: u16,
    pub(super) user: usize,
}

/// One operation that a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Load,
    Acquire(usize, Time),
    Release(usize, Time),
    /// A request with this state's token, and the answer once it was processed.
    Send(State, Option<Option<Fresh>>),
    Save(State, Fresh),
    End(State),
    Discard(Fresh),
    Pause(Time),
    /// A sign-out: the record goes, whatever it is.
    Take,
    Revoke(u16),
    /// The provider ends the session by itself.
    Kill,
    /// Another writer changes the record and leaves its tokens alone.
    Amend,
}

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reply {
    Done,
    State(Option<State>),
    Lease(LeaseReply),
    Sent(Option<Fresh>),
    Saved(Saved<State>),
    Ended(Ended<State>),
    /// The store or the provider gave no answer.
    Lost,
}

/// A lease's answer that can be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LeaseReply {
    Acquired(bool),
    Held(Time),
    Resting(Time),
}

impl From<LeaseReply> for Lease {
    fn from(reply: LeaseReply) -> Self {
        match reply {
            LeaseReply::Acquired(after_death) => Self::Acquired { after_death },
            LeaseReply::Held(left) => Self::Held {
                left: Duration::from_millis(left),
            },
            LeaseReply::Resting(left) => Self::Resting {
                left: Duration::from_millis(left),
            },
        }
    }
}

/// One user's session: its record, its lease, and its tokens at the provider.
#[derive(Clone, Debug, Hash)]
pub(super) struct Session {
    pub(super) record: Option<State>,
    /// Who holds the lease, until when.
    pub(super) lease: Option<(usize, Time)>,
    rest_until: Time,
    /// Until when no request may be sent, since the last one failed.
    rest_due: Time,
    /// Whether a sign-out was answered.
    pub(super) signed_out: bool,
    /// Whether anything but a refresh has ended it.
    pub(super) ended_otherwise: bool,
    /// How often it may be lost: a use of its token got no answer that anybody has.
    pub(super) excuses: u16,
    /// Uses of a refresh token, by how often it was refreshed before: begun, and come to nothing.
    uses: BTreeMap<u16, (u16, u16)>,
    /// Every version that its record had.
    pub(super) versions: Vec<u16>,
}

/// What the model knows of a task.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Sender {
    pub(super) session: usize,
    /// The request that it has not settled yet: neither saved, nor failed.
    pub(super) unsettled: Option<u16>,
    /// It died or was frozen: others may rightly believe that it is dead.
    pub(super) absent: bool,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Token {
    session: usize,
    used: bool,
}

/// The world.
#[derive(Clone, Debug, Hash)]
pub(super) struct Model {
    pub(super) now: Time,
    pub(super) reuse: Reuse,
    pub(super) deadline: Time,
    pub(super) sessions: Vec<Session>,
    pub(super) senders: Vec<Sender>,
    tokens: Vec<Token>,
    /// Whether the provider still knows each session.
    alive: Vec<bool>,
    versions: u16,
    pub(super) breach: Option<String>,
}

impl Model {
    pub(super) fn new(sessions: usize, reuse: Reuse, deadline: Time) -> Self {
        let mut model = Self {
            now: 1_000,
            reuse,
            deadline,
            sessions: Vec::new(),
            senders: Vec::new(),
            tokens: Vec::new(),
            alive: vec![true; sessions],
            versions: 0,
            breach: None,
        };
        for user in 0..sessions {
            let first = State {
                version: model.version(),
                refreshes: 0,
                token: model.token(user),
                user,
            };
            model.sessions.push(Session {
                record: Some(first),
                lease: None,
                rest_until: 0,
                rest_due: 0,
                signed_out: false,
                ended_otherwise: false,
                excuses: 0,
                uses: BTreeMap::new(),
                versions: vec![first.version],
            });
        }
        model
    }

    /// A task asks for something: what can be wrong with that alone.
    pub(super) fn asked(&mut self, task: usize, op: &Op) {
        if let Op::Send(state, _) = op {
            let session = self.senders[task].session;
            let lease = self.sessions[session].lease;
            let outlives =
                lease.is_some_and(|(holder, until)| holder == task && until >= self.now + self.deadline);
            self.check(outlives, "a request was sent without a lease that outlives it");
            let rested = self.sessions[session].rest_due <= self.now;
            self.check(rested, "a failed refresh was tried again at once");
            let (begun, failed) = self.sessions[session].uses.entry(state.refreshes).or_default();
            *begun += 1;
            let justified = *begun <= *failed + 1;
            self.check(
                justified,
                "a refresh token was used again, although its last use may be answered",
            );
            self.senders[task].unsettled = Some(state.refreshes);
        }
    }

    /// Does it, and says what came of it.
    pub(super) fn perform(&mut self, task: usize, op: &mut Op) -> Reply {
        let index = self.senders[task].session;
        match *op {
            Op::Load => Reply::State(self.sessions[index].record),
            Op::Acquire(holder, life) => Reply::Lease(self.acquire(index, holder, life)),
            Op::Release(holder, rest) => {
                let now = self.now;
                let session = &mut self.sessions[index];
                if session.lease.is_some_and(|(by, _)| by == holder) {
                    session.lease = None;
                    session.rest_until = now + rest;
                }
                Reply::Done
            }
            Op::Send(state, ref mut answer) => {
                let fresh = *answer.get_or_insert_with(|| self.process(state.token));
                Reply::Sent(fresh)
            }
            Op::Save(base, fresh) => Reply::Saved(self.save(task, base, fresh)),
            Op::End(state) => Reply::Ended(self.end(task, state)),
            Op::Discard(fresh) => {
                self.revoke(fresh.token);
                self.senders[task].unsettled = None;
                Reply::Done
            }
            Op::Pause(_) => Reply::Done,
            Op::Take => {
                self.sessions[index].ended_otherwise = true;
                Reply::State(self.sessions[index].record.take())
            }
            Op::Revoke(token) => {
                self.revoke(token);
                Reply::Done
            }
            Op::Kill => {
                self.alive[index] = false;
                self.sessions[index].ended_otherwise = true;
                Reply::Done
            }
            Op::Amend => {
                let version = self.version();
                let session = &mut self.sessions[index];
                if let Some(record) = &mut session.record {
                    record.version = version;
                    session.versions.push(version);
                }
                Reply::Done
            }
        }
    }

    fn acquire(&mut self, index: usize, holder: usize, life: Time) -> LeaseReply {
        let now = self.now;
        let session = &mut self.sessions[index];
        match session.lease {
            Some((by, until)) if by != holder && until > now => return LeaseReply::Held(until - now),
            _ if session.rest_until > now => return LeaseReply::Resting(session.rest_until - now),
            _ => {}
        }
        let last = session.lease.replace((holder, now + life));
        let Some((by, until)) = last.filter(|(by, until)| by != &holder || *until <= now) else {
            return LeaseReply::Acquired(false);
        };
        debug_assert!(until <= now, "a lease was taken away");
        // whoever lived all the time was to save before anybody else asks
        if by != holder && self.senders[by].absent {
            self.lost(by);
        }
        LeaseReply::Acquired(true)
    }

    fn process(&mut self, token: u16) -> Option<Fresh> {
        let Token { session, used } = self.tokens[usize::from(token)];
        if used && self.reuse == Reuse::Kills {
            self.alive[session] = false;
        }
        if !self.takes(token) {
            return None;
        }
        let successor = if self.reuse == Reuse::Kept {
            token
        } else {
            self.tokens[usize::from(token)].used = true;
            self.token(session)
        };
        Some(Fresh {
            version: self.version(),
            token: successor,
            user: session,
        })
    }

    /// Whether the provider would refresh with this token.
    fn takes(&self, token: u16) -> bool {
        let Token { session, used } = self.tokens[usize::from(token)];
        self.alive[session] && (!used || self.reuse == Reuse::Grace)
    }

    fn save(&mut self, task: usize, base: State, fresh: Fresh) -> Saved<State> {
        let session = &mut self.sessions[self.senders[task].session];
        let outcome = match session.record {
            None => Saved::Gone,
            Some(record) if record.version == fresh.version => Saved::Yes(record),
            Some(record) if record.version != base.version => Saved::Changed(record),
            Some(record) => {
                let next = State {
                    version: fresh.version,
                    refreshes: record.refreshes + 1,
                    token: fresh.token,
                    user: fresh.user,
                };
                session.record = Some(next);
                session.versions.push(next.version);
                Saved::Yes(next)
            }
        };
        let is_settled = match outcome {
            Saved::Yes(_) => true,
            // a change that is no refresh has it saved again
            Saved::Changed(record) => record.refreshes != base.refreshes,
            // there are tokens to discard
            Saved::Gone => false,
        };
        if is_settled {
            self.senders[task].unsettled = None;
        }
        outcome
    }

    fn end(&mut self, task: usize, state: State) -> Ended<State> {
        let session = &mut self.sessions[self.senders[task].session];
        match session.record {
            Some(record) if record.version != state.version => {
                if record.refreshes != state.refreshes {
                    self.senders[task].unsettled = None;
                }
                return Ended::Changed(record);
            }
            None => {}
            Some(record) => {
                session.record = None;
                let needless = self.takes(record.token);
                self.check(
                    !needless,
                    "a session was ended that the provider would still refresh",
                );
            }
        }
        self.senders[task].unsettled = None;
        Ended::Yes
    }

    /// As RFC 7009 §2.1 has it at its least: a token that was replaced is nothing any more.
    fn revoke(&mut self, token: u16) {
        if !self.tokens[usize::from(token)].used || self.reuse == Reuse::Kept {
            self.alive[self.tokens[usize::from(token)].session] = false;
        }
    }

    /// A use of a token came to nothing that anybody has: it may be used once more, and that may be
    /// the session's end.
    pub(super) fn failed(&mut self, task: usize) {
        if let Some(refreshes) = self.senders[task].unsettled.take() {
            let session = &mut self.sessions[self.senders[task].session];
            session.uses.entry(refreshes).or_default().1 += 1;
        }
    }

    /// The same, and the provider may have rotated without anybody having what it answered.
    pub(super) fn lost(&mut self, task: usize) {
        if self.senders[task].unsettled.is_some() {
            self.excuse(task);
            self.failed(task);
        }
    }

    /// The session may be lost.
    pub(super) fn excuse(&mut self, task: usize) {
        self.sessions[self.senders[task].session].excuses += 1;
    }

    /// A request got no answer, and everything works: nobody asks again for a while.
    pub(super) fn needs_rest(&mut self, task: usize) {
        self.sessions[self.senders[task].session].rest_due = self.now + 1_000;
    }

    /// Something else is out of order, which may keep a rest from being noted.
    pub(super) fn forgive_rests(&mut self) {
        for session in &mut self.sessions {
            session.rest_due = 0;
        }
    }

    /// Whether the provider would still give tokens to somebody who has any of the session's.
    pub(super) fn is_alive(&self, session: usize) -> bool {
        self.alive[session]
    }

    /// Who holds the lease of a task's session.
    pub(super) fn lease_of(&self, task: usize) -> Option<usize> {
        self.sessions[self.senders[task].session]
            .lease
            .map(|(holder, _)| holder)
    }

    pub(super) fn rest_until(&self, session: usize) -> Time {
        self.sessions[session].rest_until
    }

    pub(super) fn check(&mut self, holds: bool, rule: &str) {
        if !holds && self.breach.is_none() {
            self.breach = Some(rule.to_owned());
        }
    }

    fn version(&mut self) -> u16 {
        self.versions += 1;
        self.versions
    }

    fn token(&mut self, session: usize) -> u16 {
        let token = self.tokens.len();
        self.tokens.push(Token { session, used: false });
        u16::try_from(token).expect("few tokens")
    }
}
