//! What systemd passes in and wants to be told: sockets (`LISTEN_FDS`), readiness, the watchdog.
//!
//! Sockets come from `listenfd`, which owns the one unsafe step, and are told apart by their names
//! (`FileDescriptorName=`). Everything here does nothing where no systemd, or a program that does as
//! it does, started the process. A failure to tell is no failure to serve.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use listenfd::ListenFd;
use sd_notify::NotifyState;

use super::listener::Bound;

/// The sockets that the process was started with, each with its name.
#[derive(Default)]
pub(crate) struct PassedSockets(Vec<(String, Bound)>);

impl PassedSockets {
    /// Takes them. To be called once: whoever has a socket owns it.
    ///
    /// # Errors
    /// When one is neither a TCP nor a Unix socket that listens.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let mut passed = ListenFd::from_env();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
            let socket = take(&mut passed, index).with_context(|| {
                format!(
                    "the socket {name:?} that systemd passed is neither a TCP nor a Unix stream socket\nhint: write \
                     `ListenStream=127.0.0.1:8080` into the socket unit"
                )
            })?;
            if let Some(socket) = socket {
                sockets.push((name.to_owned(), socket));
            }
        }
        Ok(Self(sockets))
    }

    /// Those of a name; without one, those that nobody else asks for by name.
    pub(super) fn take(&mut self, name: Option<&str>, others: &[&str]) -> Vec<Bound> {
        let (taken, left): (Vec<_>, Vec<_>) = self.0.drain(..).partition(|(its, _)| match name {
            Some(name) => its == name,
            None => !others.contains(&its.as_str()),
        });
        self.0 = left;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }

    /// The names of those that nobody took.
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[cfg(test)]
    pub(super) fn of(sockets: Vec<(&str, Bound)>) -> Self {
        Self(
            sockets
                .into_iter()
                .map(|(name, socket)| (name.to_owned(), socket))
                .collect(),
        )
    }
}

fn take(passed: &mut ListenFd, index: usize) -> io::Result<Option<Bound>> {
    let socket = match passed.take_tcp_listener(index) {
        Ok(socket) => socket.map(Bound::Tcp),
        Err(_) => passed.take_unix_listener(index)?.map(Bound::Unix),
    };
    if let Some(socket) = &socket {
        socket.check_listening()?;
    }
    Ok(socket)
}

/// The process serves, or serves again after a reload.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload begins (`Type=notify-reload` wants to know since when).
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The process is about to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told how this process fares");
    }
}

/// How long systemd waits for a sign of life, if it does.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// Signs of life: each data core counts up, and systemd is told only if all of them did.
#[derive(Clone)]
pub(super) struct Heartbeat {
    interval: Duration,
    beats: Arc<[AtomicU64]>,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, cores: usize) -> Self {
        Self {
            interval,
            beats: (0..cores).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Counts up as long as the core's runtime turns.
    pub(super) async fn beat(self, core: usize) {
        let mut every = tokio::time::interval(self.interval / 4);
        loop {
            every.tick().await;
            if let Some(beats) = self.beats.get(core) {
                beats.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Tells systemd, as long as every core turns.
    pub(super) async fn report(self) {
        let mut seen = Vec::new();
        let mut every = tokio::time::interval(self.interval / 2);
        loop {
            every.tick().await;
            if self.is_alive(&mut seen) {
                tell(&[NotifyState::Watchdog]);
            }
        }
    }

    /// Whether every core counted since the call before. The first call knows nothing.
    fn is_alive(&self, seen: &mut Vec<u64>) -> bool {
        let now: Vec<u64> = self
            .beats
            .iter()
            .map(|beats| beats.load(Ordering::Relaxed))
            .collect();
        let alive = seen.is_empty() || now.iter().zip(seen.iter()).all(|(now, before)| now != before);
        *seen = now;
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_taken_by_name_and_the_nameless_setting_gets_the_rest() {
        let socket = || Bound::Tcp(std::net::TcpListener::bind("127.0.0.1:0").expect("bound"));
        let all = || PassedSockets::of(vec![("a", socket()), ("admin", socket()), ("b", socket())]);
        for (name, others, taken, left) in [
            (None, &["admin"][..], 2, &["admin"][..]),
            (None, &[], 3, &[]),
            (Some("a"), &[], 1, &["admin", "b"]),
            (Some("admin"), &[], 1, &["a", "b"]),
            (Some("c"), &[], 0, &["a", "admin", "b"]),
        ] {
            let mut sockets = all();
            assert_eq!(sockets.take(name, others).len(), taken, "{name:?}");
            assert_eq!(sockets.names(), left, "{name:?}");
        }
    }

    #[test]
    fn a_core_that_stands_still_is_noticed() {
        let heartbeat = Heartbeat::new(Duration::from_secs(10), 2);
        let beat = |core: usize| heartbeat.beats[core].fetch_add(1, Ordering::Relaxed);
        let mut seen = Vec::new();
        assert!(heartbeat.is_alive(&mut seen), "nothing is known yet");
        beat(0);
        assert!(!heartbeat.is_alive(&mut seen), "the second stood still");
        beat(0);
        beat(1);
        assert!(heartbeat.is_alive(&mut seen));
        assert!(!heartbeat.is_alive(&mut seen));
    }
}
