//! When an HTTP/2 connection ends: told to by the core, idle, or without a word of its client.
//!
//! HTTP/1.1 connections rest instead (`idle.rs`), and one that is told to end just ends. Over HTTP/2
//! the client is sent a GOAWAY and has to answer it (RFC 9113 §6.8): one that does not is given up once
//! no request is under way. There is no timer while requests come.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use coatroom::timer::{CoarseSleep, CoarseTimer};
use tokio::time::Instant;

use super::super::admission::Reason;
use super::super::connections::{Open, Word};
use super::super::idle::{Activity, Watched};
use super::Limits;

/// How one connection comes to its end.
pub(super) struct Ending<'a> {
    timer: &'a CoarseTimer,
    limits: Limits,
    open: &'a Open,
    activity: Rc<Activity>,
    watched: Watched,
    /// While there is something to wait for: the first request, the next one, a farewell.
    deadline: Option<CoarseSleep>,
    told: Option<Told>,
}

/// Since when it is told to end, and how far it had come at the last look.
struct Told {
    since: Instant,
    moved: u64,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is told to end after the requests in flight.
    Tell,
    /// It ends now.
    Cut(Option<Reason>),
}

impl<'a> Ending<'a> {
    pub(super) fn new(
        timer: &'a CoarseTimer,
        limits: Limits,
        open: &'a Open,
        activity: Rc<Activity>,
        watched: Watched,
    ) -> Self {
        Self {
            timer,
            limits,
            open,
            activity,
            watched,
            deadline: None,
            told: None,
        }
    }

    /// What is to be done next. To be polled after the connection: what is there already is taken.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.told.is_some() {
            return self.poll_farewell(cx);
        }
        let has_begun = self.activity.has_begun();
        match self.open.word(cx) {
            Word::GoOn => {}
            Word::MakeRoom if !has_begun => return Poll::Ready(Step::Cut(None)),
            Word::MakeRoom | Word::Drain => return Poll::Ready(self.tell()),
        }
        if has_begun && !self.watched.is_idle(cx) {
            if self.deadline.is_some() {
                self.deadline = None;
            }
            return Poll::Pending;
        }
        let (timer, limit) = (self.timer, self.limits.header_timeout);
        let deadline = self.deadline.get_or_insert_with(|| timer.sleep(limit));
        ready!(Pin::new(deadline).poll(cx));
        Poll::Ready(if has_begun {
            self.tell()
        } else {
            Step::Cut(Some(Reason::NoRequest))
        })
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        while let (Some(told), Some(deadline)) = (&mut self.told, &mut self.deadline) {
            ready!(Pin::new(deadline).poll(cx));
            let moved = self.open.moved().total();
            let is_still = moved == std::mem::replace(&mut told.moved, moved)
                || told.since.elapsed() >= self.limits.write_timeout;
            if is_still && self.activity.is_idle() {
                break;
            }
            self.deadline = Some(self.timer.sleep(FAREWELL));
        }
        Poll::Ready(Step::Cut(None))
    }

    fn tell(&mut self) -> Step {
        self.told = Some(Told {
            since: Instant::now(),
            moved: self.open.moved().total(),
        });
        self.deadline = Some(self.timer.sleep(FAREWELL));
        Step::Tell
    }
}

/// For how long nothing may move over a connection that was told to end and has no request under way.
const FAREWELL: Duration = Duration::from_secs(5);
