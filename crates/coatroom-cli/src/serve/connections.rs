//! The open connections of one data core, and how they are told to end.
//!
//! A connection asks at each of its polls, which costs one look at a cell; its task is woken once
//! when the core begins to drain. Nothing here cuts a connection: the runtime's end does.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// One core's open connections.
#[derive(Clone, Default)]
pub(super) struct Connections(Rc<Shared>);

#[derive(Default)]
struct Shared {
    draining: Cell<bool>,
    open: Cell<usize>,
    /// One for each connection that has looked; the index is its key.
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    /// Whoever waits for the last connection to end.
    waiting: RefCell<Option<Waker>>,
}

/// One open connection; it is over when this is dropped.
pub(super) struct Open {
    shared: Rc<Shared>,
    key: Option<usize>,
}

impl Connections {
    /// One more connection.
    pub(super) fn open(&self) -> Open {
        self.0.open.set(self.0.open.get().saturating_add(1));
        Open {
            shared: self.0.clone(),
            key: None,
        }
    }

    /// Tells every connection to end when it can.
    pub(super) fn drain(&self) {
        self.0.draining.set(true);
        let wakers: Vec<_> = self
            .0
            .wakers
            .borrow_mut()
            .iter_mut()
            .filter_map(Option::take)
            .collect();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Resolves when no connection is open.
    pub(super) async fn all_closed(&self) {
        std::future::poll_fn(|cx| {
            if self.0.open.get() == 0 {
                return Poll::Ready(());
            }
            *self.0.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Open {
    /// Whether the connection should end; if not, the task is woken when that changes.
    pub(super) fn is_draining(&mut self, cx: &mut Context<'_>) -> bool {
        if self.shared.draining.get() {
            return true;
        }
        let mut wakers = self.shared.wakers.borrow_mut();
        let key = *self.key.get_or_insert_with(|| {
            self.shared.free.borrow_mut().pop().unwrap_or_else(|| {
                wakers.push(None);
                wakers.len() - 1
            })
        });
        if let Some(place) = wakers.get_mut(key)
            && !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *place = Some(cx.waker().clone());
        }
        false
    }

    /// Runs `future` unless the core drains first. What is ready is taken even then.
    pub(super) async fn unless_draining<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if self.is_draining(cx) {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            if let Some(place) = self.shared.wakers.borrow_mut().get_mut(key) {
                *place = None;
            }
            self.shared.free.borrow_mut().push(key);
        }
        let left = self.shared.open.get().saturating_sub(1);
        self.shared.open.set(left);
        if left == 0
            && let Some(waker) = self.shared.waiting.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "local")]
    async fn draining_wakes_those_that_wait_and_the_last_end_is_noticed() {
        let connections = Connections::default();
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let mut open = connections.open();
                tokio::task::spawn_local(
                    async move { open.unless_draining(std::future::pending::<()>()).await },
                )
            })
            .collect();
        tokio::task::yield_now().await;
        connections.drain();
        connections.all_closed().await;
        for task in tasks {
            assert_eq!(task.await.expect("no panic"), None);
        }
    }

    #[tokio::test(flavor = "local")]
    async fn what_is_ready_is_taken_and_what_comes_late_is_not() {
        let connections = Connections::default();
        let mut open = connections.open();
        assert_eq!(open.unless_draining(async { 7 }).await, Some(7));
        connections.drain();
        assert_eq!(open.unless_draining(async { 7 }).await, Some(7));
        assert_eq!(open.unless_draining(std::future::pending::<()>()).await, None);
        assert_eq!(
            connections
                .open()
                .unless_draining(std::future::pending::<()>())
                .await,
            None
        );
    }

    #[tokio::test(flavor = "local")]
    async fn places_are_used_again() {
        let connections = Connections::default();
        for _ in 0..100 {
            let waits_once = tokio::task::yield_now();
            assert_eq!(connections.open().unless_draining(waits_once).await, Some(()));
        }
        assert_eq!(connections.0.wakers.borrow().len(), 1);
        connections.all_closed().await;
    }
}
