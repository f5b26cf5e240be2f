//! A task's side of the simulation: it asks for an operation and waits until the executor replies.
//!
//! An operation that nobody waits for any more may take place all the same: it goes on as a ghost.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::model::{Model, Op, Reply, Time};

/// An operation is named by its task and its number there.
pub(super) type OpId = (usize, u32);

/// What tasks and executor share.
pub(super) struct Shared {
    pub(super) model: Model,
    pub(super) ops: BTreeMap<OpId, Pending>,
    pub(super) replies: BTreeMap<OpId, Reply>,
    pub(super) asked: Vec<u32>,
    /// What is on its way although nobody waits for it any more.
    pub(super) ghosts: Vec<(usize, Op)>,
    pub(super) op_time: Time,
}

#[derive(Clone, Copy, Hash)]
pub(super) struct Pending {
    pub(super) op: Op,
    pub(super) due: Time,
}

/// What a task waits for.
pub(super) struct Waiting {
    shared: Arc<Mutex<Shared>>,
    task: usize,
    op: Op,
    id: Option<OpId>,
}

/// Asks for an operation.
pub(super) fn ask(shared: &Arc<Mutex<Shared>>, task: usize, op: Op) -> Waiting {
    Waiting {
        shared: Arc::clone(shared),
        task,
        op,
        id: None,
    }
}

pub(super) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Future for Waiting {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Reply> {
        let (task, op, id) = (self.task, self.op, self.id);
        let mut shared = lock(&self.shared);
        if let Some(id) = id {
            let reply = shared.replies.remove(&id);
            drop(shared);
            return reply.map_or(Poll::Pending, |reply| {
                self.id = None;
                Poll::Ready(reply)
            });
        }
        let id = (task, shared.asked[task]);
        shared.asked[task] += 1;
        shared.model.asked(task, &op);
        let now = shared.model.now;
        let due = match op {
            Op::Pause(length) => now + length,
            Op::Send(..) => now + shared.model.deadline,
            _ => now + shared.op_time,
        };
        shared.ops.insert(id, Pending { op, due });
        drop(shared);
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut shared = lock(&self.shared);
            if let Some(Pending { op, .. }) = shared.ops.remove(&id)
                && !matches!(op, Op::Pause(_) | Op::Send(_, Some(_)))
            {
                shared.ghosts.push((id.0, op));
            }
            shared.replies.remove(&id);
        }
    }
}
