//! Reload: the configuration and its secrets as they are now, taken on without dropping a request.
//!
//! On SIGHUP, and when a file of the configuration changed. A configuration that does not pass
//! every check changes nothing: the one in use stays, the log and `/readyz` say so. Applications,
//! keys, the certificate and the log's level are taken on; listeners, `workers` and the log's form
//! wait for the next start, and the log names them. Runs on a thread of its own, since reading
//! files and running commands may block. Nothing here shows a secret.

mod watch;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coatroom::TokenHandler;
use coatroom::store::Stores;
use coatroom::upstream::Connector;
use coatroom_core::config::SessionStorage;

use crate::config::{self, Connections, Listen, Loaded, Log, TlsVersion};
use crate::serve::{CertificateSet, Certificates, Part, PartState, systemd};
use crate::start::{open_stores, pems};
pub(crate) use watch::Watch;

/// How reloads went.
#[derive(Default)]
pub(crate) struct Reloads {
    applied: AtomicU64,
    refused: AtomicU64,
    is_refused: AtomicBool,
    /// Since when one is under way.
    since: Mutex<Option<Instant>>,
}

/// What can be replaced while it serves.
pub(crate) struct Reloader {
    pub(crate) watch: Watch,
    pub(crate) handler: TokenHandler,
    pub(crate) upstreams: Connector,
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// Sets what is worth a log line; does nothing where the environment says it.
    pub(crate) set_log: Box<dyn Fn(Log) + Send>,
    pub(crate) fixed: Fixed,
    pub(crate) stores: Arc<Stores>,
    pub(crate) reloads: Arc<Reloads>,
    /// What was said of the configuration that is refused.
    pub(crate) refused_for: Vec<String>,
}

/// When a refused configuration is tried again: a secret's command may have failed for a moment,
/// or a network file system may have been away.
struct Again {
    at: Instant,
    pause: Duration,
}

impl Again {
    /// After a longer pause than before.
    fn after(before: Option<Self>) -> Self {
        let pause = before.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(LAST_PAUSE));
        Self {
            at: Instant::now() + pause,
            pause,
        }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.at
    }
}

/// What is as it was at the start until the next start.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fixed {
    listen: Listen,
    admin: Listen,
    connections: Connections,
    workers: usize,
    has_tls: bool,
    tls_minimum: Option<TlsVersion>,
    unix_mode: Option<u32>,
    handover: Option<PathBuf>,
    log_format: &'static str,
}

/// How one reload went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Applied,
    Refused,
}

impl Reloads {
    /// The configuration as a part of the process.
    pub(crate) fn part(&self) -> Part {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let state = if since.is_some_and(|since| since.elapsed() > SLOW) {
            PartState::Degraded("reading the configuration and its secrets takes very long".to_owned())
        } else if self.is_refused.load(Ordering::Relaxed) {
            PartState::Degraded(
                "the changed configuration is refused, the one before stays in use".to_owned(),
            )
        } else {
            PartState::Ready
        };
        Part {
            name: "configuration".to_owned(),
            state,
        }
    }

    /// The counters as Prometheus text.
    pub(crate) fn render(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "# HELP coatroom_reloads_total Reloads of the configuration by outcome.\n\
             # TYPE coatroom_reloads_total counter\n\
             coatroom_reloads_total{{outcome=\"applied\"}} {}\n\
             coatroom_reloads_total{{outcome=\"refused\"}} {}",
            self.applied.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
        );
    }

    fn begin(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn count(&self, outcome: Outcome) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let counter = match outcome {
            Outcome::Applied => &self.applied,
            Outcome::Refused => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.is_refused
            .store(outcome == Outcome::Refused, Ordering::Relaxed);
    }
}

impl Fixed {
    /// Those of a configuration.
    pub(crate) fn of(loaded: &Loaded) -> Self {
        Self {
            listen: loaded.listen.clone(),
            admin: loaded.admin.clone(),
            connections: loaded.connections.clone(),
            workers: loaded.workers,
            has_tls: loaded.tls.is_some(),
            tls_minimum: loaded.tls.as_ref().map(|tls| tls.minimum),
            unix_mode: loaded.unix_mode,
            handover: loaded.handover.clone(),
            log_format: loaded.log.format.as_str(),
        }
    }

    /// The names of those that another configuration has otherwise.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        [
            ("listen", self.listen != other.listen),
            ("admin", self.admin != other.admin),
            (
                "trusted_peers",
                self.connections.trusted_peers != other.connections.trusted_peers,
            ),
            (
                "proxy_protocol",
                self.connections.proxy_protocol != other.connections.proxy_protocol,
            ),
            (
                "connections",
                self.connections.costs() != other.connections.costs(),
            ),
            ("workers", self.workers != other.workers),
            ("tls", self.has_tls != other.has_tls),
            (
                "tls.minimum",
                self.has_tls && other.has_tls && self.tls_minimum != other.tls_minimum,
            ),
            ("unix_mode", self.unix_mode != other.unix_mode),
            ("handover", self.handover != other.handover),
            ("log.format", self.log_format != other.log_format),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}

impl Reloader {
    /// Reloads at every message and at every change, until nobody can send any more.
    pub(crate) fn run(mut self, hangups: &Receiver<()>) {
        let mut again: Option<Again> = None;
        loop {
            let why = match hangups.recv_timeout(EVERY) {
                Ok(()) => "SIGHUP",
                Err(RecvTimeoutError::Timeout) if self.watch.has_changed() => "a file changed",
                Err(RecvTimeoutError::Timeout) if again.as_ref().is_some_and(Again::is_due) => TRIED_AGAIN,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            again = match self.reload(why) {
                Outcome::Applied => None,
                Outcome::Refused => Some(Again::after(again.filter(|_| why == TRIED_AGAIN))),
            };
        }
    }

    fn reload(&mut self, why: &str) -> Outcome {
        self.watch.mark();
        self.reloads.begin();
        systemd::reloading();
        let outcome = match config::load(self.watch.file()) {
            Ok(loaded) => self.apply(loaded, why),
            Err(report) => {
                let lines: Vec<_> = report.lines().collect();
                // what is tried again and again by itself is told once; whoever asks is answered
                let is_news = why != TRIED_AGAIN || self.refused_for != lines;
                self.refused_for = lines;
                for line in self.refused_for.iter().filter(|_| is_news) {
                    tracing::error!(
                        "the changed configuration is refused, the one before stays in use: {line}"
                    );
                }
                Outcome::Refused
            }
        };
        self.reloads.count(outcome);
        systemd::ready();
        if outcome == Outcome::Applied {
            self.refused_for.clear();
        }
        outcome
    }

    fn apply(&self, loaded: Loaded, why: &str) -> Outcome {
        let waiting = self.fixed.differences(&Fixed::of(&loaded));
        let applications = loaded.applications.len();
        let keys = loaded.keys.ids();
        for line in loaded.warnings.lines() {
            tracing::warn!("{line}");
        }
        if let Err(error) = self.take_on(loaded) {
            tracing::error!("the changed configuration is refused, the one before stays in use: {error:#}");
            return Outcome::Refused;
        }
        if !waiting.is_empty() {
            tracing::warn!(
                settings = waiting.join(", "),
                "these take effect at the next start"
            );
        }
        tracing::info!(
            why,
            applications,
            keys = keys.join(", "),
            "the configuration was reloaded"
        );
        Outcome::Applied
    }

    fn take_on(&self, loaded: Loaded) -> anyhow::Result<()> {
        // everything that can fail comes first, so that nothing is taken on by half
        let next = loaded.tls.map(|tls| CertificateSet::parse(&pems(tls)));
        let next = next.transpose()?;
        open_stores(&self.stores, &loaded.applications)?;
        let sessions: Vec<_> = loaded
            .applications
            .iter()
            .map(|app| app.session.storage.clone())
            .collect();
        self.handler.reload(loaded.applications, loaded.keys)?;
        self.stores
            .retain(sessions.iter().filter_map(SessionStorage::settings));
        if let (Some(certificates), Some(next)) = (&self.certificates, next) {
            certificates.replace(next);
        }
        (self.set_log)(loaded.log);
        self.handler.warm_up();
        self.upstreams.attend(&self.handler);
        Ok(())
    }
}

/// Why a refused configuration is read again without being asked to.
const TRIED_AGAIN: &str = "tried again";

/// The first pause before a refused configuration is tried again; each is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// Beyond this a reload is worth a look: a file system hangs, or a command.
const SLOW: Duration = Duration::from_secs(30);

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use coatroom::TokenHandler;

    use super::*;

    const KEY: &str = "coatroom-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n";

    fn write(folder: &Path, listen: &str, url: &str, more: &str) {
        std::fs::write(folder.join("coatroom.key"), KEY).expect("written");
        std::fs::write(folder.join("secret"), "s").expect("written");
        let text = format!(
            "listen: {listen}\nkeys: [{{file: coatroom.key}}]\n{more}apps:\n  shop:\n    url: {url}\n    provider: \
             {{issuer: 'http://127.0.0.1:1', client_id: shop, client_secret: {{file: secret}}}}\n    routes: {{/api/: \
             {{upstream: 'http://127.0.0.1:2'}}}}\n"
        );
        std::fs::write(folder.join("coatroom.yaml"), text).expect("written");
    }

    fn reloader(folder: &Path) -> Reloader {
        let file = folder.join("coatroom.yaml");
        let watch = Watch::begin(&file);
        let loaded = config::load(&file).unwrap_or_else(|report| panic!("{report}"));
        let fixed = Fixed::of(&loaded);
        let handler = TokenHandler::builder(loaded.applications, loaded.keys)
            .build()
            .expect("built");
        Reloader {
            watch,
            handler,
            upstreams: Connector::platform().expect("the platform's authorities"),
            certificates: None,
            set_log: Box::new(|_| {}),
            fixed,
            stores: Arc::new(Stores::new(Arc::new(coatroom::clock::SystemClock))),
            reloads: Arc::default(),
            refused_for: Vec::new(),
        }
    }

    fn applications(reloader: &Reloader) -> Vec<String> {
        let parts = reloader.handler.health().into_iter();
        parts.map(|(id, _)| id).collect()
    }

    #[tokio::test]
    async fn a_good_file_is_taken_on_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "127.0.0.1:8080", "http://localhost:8080", "");
        let mut reloader = reloader(folder.path());
        let state = |reloader: &Reloader| {
            let mut text = String::new();
            reloader.reloads.render(&mut text);
            let counts: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix("coatroom_reloads_total"))
                .map(str::to_owned)
                .collect();
            (
                counts.join(" "),
                reloader.reloads.part().state == PartState::Ready,
            )
        };
        let text = std::fs::read_to_string(folder.path().join("coatroom.yaml")).expect("read");
        std::fs::write(
            folder.path().join("coatroom.yaml"),
            text.replace("  shop:", "  desk:"),
        )
        .expect("written");
        reloader.reload("SIGHUP");
        assert_eq!(applications(&reloader), ["desk"]);
        assert_eq!(
            state(&reloader),
            (r#"{outcome="applied"} 1 {outcome="refused"} 0"#.to_owned(), true)
        );

        for broken in [
            "keys: [",
            "apps: {}\nkeys: [{file: coatroom.key}]\n",
            "keys: [{file: gone.key}]\n",
        ] {
            std::fs::write(folder.path().join("coatroom.yaml"), broken).expect("written");
            reloader.reload("SIGHUP");
            assert_eq!(applications(&reloader), ["desk"], "{broken}");
            assert!(!state(&reloader).1);
        }
        write(folder.path(), "127.0.0.1:8080", "http://localhost:8080", "");
        reloader.reload("SIGHUP");
        assert_eq!(
            state(&reloader),
            (r#"{outcome="applied"} 2 {outcome="refused"} 3"#.to_owned(), true)
        );
        assert_eq!(applications(&reloader), ["shop"]);
    }

    #[test]
    fn what_is_refused_is_tried_again_after_longer_and_longer_pauses() {
        let mut again = Again::after(None);
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(again.pause, Duration::from_secs(seconds));
            assert!(!again.is_due());
            again = Again::after(Some(again));
        }
    }

    #[test]
    fn a_reload_that_hangs_shows_in_readiness() {
        let reloads = Reloads::default();
        reloads.begin();
        assert_eq!(reloads.part().state, PartState::Ready);
        let long_ago = Instant::now()
            .checked_sub(SLOW * 2)
            .expect("the machine runs for a minute");
        *reloads.since.lock().expect("no panic") = Some(long_ago);
        assert!(matches!(reloads.part().state, PartState::Degraded(_)));
        reloads.count(Outcome::Applied);
        assert_eq!(reloads.part().state, PartState::Ready);
    }

    #[tokio::test]
    async fn what_waits_for_the_next_start_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "127.0.0.1:8080", "http://localhost:8080", "");
        let reloader = reloader(folder.path());
        write(
            folder.path(),
            "127.0.0.1:8081",
            "http://localhost:8080",
            "workers: 7\nlog: {format: json, level: debug}\n",
        );
        let loaded =
            config::load(&folder.path().join("coatroom.yaml")).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(
            reloader.fixed.differences(&Fixed::of(&loaded)),
            ["listen", "workers", "log.format"]
        );
    }

    #[tokio::test]
    async fn it_ends_when_nobody_can_ask_any_more() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "127.0.0.1:8080", "http://localhost:8080", "");
        let reloader = reloader(folder.path());
        let reloads = reloader.reloads.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        sender.send(()).expect("the receiver is there");
        drop(sender);
        reloader.run(&receiver);
        assert_eq!(reloads.applied.load(Ordering::Relaxed), 1);
    }
}
