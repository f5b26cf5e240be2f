//! How many calls of a route are under way in this process, where the route has a limit.
//!
//! The count is shared by all cores, so it is one atomic for each route with `max_concurrent`; a
//! route without one never comes here. A call counts from its head to the last byte of its
//! answer, a WebSocket until it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The calls of one route.
#[derive(Default)]
pub(super) struct Gate(AtomicU32);

/// A call that is counted until this is dropped.
pub(super) struct Permit(Arc<Gate>);

impl Gate {
    /// Counts one more call, unless there are `most` already.
    pub(super) fn enter(self: &Arc<Self>, most: u32) -> Option<Permit> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
                (calls < most).then(|| calls.saturating_add(1))
            })
            .ok()
            .map(|_| Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_are_under_way_and_a_lower_limit_counts_those_before_it() {
        let gate = Arc::new(Gate::default());
        let first = gate.enter(2).expect("the first");
        let second = gate.enter(2).expect("the second");
        assert!(gate.enter(2).is_none());
        let third = gate.enter(3).expect("the limit was raised");
        drop(first);
        assert!(gate.enter(2).is_none());
        drop(second);
        drop(third);
        assert!(gate.enter(1).is_some());
    }

    #[test]
    fn cores_that_come_at_once_never_pass_the_limit() {
        let gate = Arc::new(Gate::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let gate = gate.clone();
                std::thread::spawn(move || (0..1000).filter_map(|_| gate.enter(100)).collect::<Vec<_>>())
            })
            .collect();
        let permits: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect();
        assert_eq!(permits.len(), 100);
        drop(permits);
        assert!(gate.enter(1).is_some());
    }
}
