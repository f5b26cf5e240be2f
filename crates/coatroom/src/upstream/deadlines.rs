//! Deadlines of an answer's body: how long it may stand still, and the end of the whole call.
//!
//! Both are off unless the route says otherwise, and then a body has none of this. Only the time
//! in which the upstream is waited for counts as standing still: a slow client is not its fault.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use coatroom_core::config::CallLimits;

use crate::timer::{CoarseSleep, CoarseTimer};

/// The deadlines of one answer.
pub(super) struct Deadlines {
    timer: CoarseTimer,
    idle: Option<Duration>,
    /// Set while the upstream is waited for.
    still: Option<CoarseSleep>,
    total: Option<Box<CoarseSleep>>,
}

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    Idle,
    Total,
}

impl Deadlines {
    /// Those of a route; none where it has none. `total` runs since the call began.
    pub(super) fn new(
        limits: CallLimits,
        total: Option<Box<CoarseSleep>>,
        timer: &CoarseTimer,
    ) -> Option<Box<Self>> {
        let some = limits.idle_timeout.is_some() || total.is_some();
        some.then(|| {
            Box::new(Self {
                timer: timer.clone(),
                idle: limits.idle_timeout,
                still: None,
                total,
            })
        })
    }

    /// Something came.
    pub(super) fn moved(&mut self) {
        self.still = None;
    }

    /// Whether the time for the whole call is over.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let total = self.total.as_mut();
        total.is_some_and(|total| Pin::new(total).poll(cx).is_ready())
    }

    /// Nothing came: ready when it should have by now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        if let Some(total) = &mut self.total
            && Pin::new(total).poll(cx).is_ready()
        {
            return Poll::Ready(Overdue::Total);
        }
        let Some(idle) = self.idle else {
            return Poll::Pending;
        };
        let still = self.still.get_or_insert_with(|| self.timer.sleep(idle));
        Pin::new(still).poll(cx).map(|()| Overdue::Idle)
    }
}
