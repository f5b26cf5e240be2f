//! `coatroom serve`: the topology of the process.
//!
//! One data thread for each core, with a single-threaded runtime, a listening socket and upstream
//! connections of its own, and one control runtime for everything that is shared: the provider,
//! the stores, the admin listener, the signals. Nothing is bound before the configuration passed.
//! With `handover`, a process that is started beside this one takes its sockets, and its place once
//! every core of that one accepts.
//! On SIGTERM or SIGINT the process turns unready, takes what was sent before, stops accepting,
//! finishes what is in flight within a bound, cuts what is left and ends well; a second signal cuts
//! at once.

mod admin;
mod admission;
mod connections;
mod data;
mod guarded;
mod handover;
mod idle;
mod listener;
mod pace;
mod proxy_protocol;
pub(crate) mod systemd;
mod tls;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Listen, TlsVersion};
use anyhow::Context as _;
use coatroom::timer::CoarseTimer;
use tokio::runtime::{Handle, LocalOptions, Runtime};
use tokio::sync::{mpsc, watch};

use handover::{Offered, Received};
use listener::Sources;
use systemd::Heartbeat;

pub(crate) use admin::{Part, PartState};
pub(crate) use admission::{Admission, Rules, fitting, least};
pub(crate) use data::{HttpService, Limits};
pub(crate) use pace::Pace;
pub(crate) use systemd::PassedSockets;
pub(crate) use tls::{CertificateSet, Certificates, Pem, dns_names};

/// What is served where.
pub(crate) struct ServeConfig {
    /// The public listener.
    pub(crate) listen: Listen,
    /// The admin listener; none turns it off.
    pub(crate) admin: Option<Listen>,
    /// Whether an admin listener that other machines reach is meant.
    pub(crate) danger_public_admin: bool,
    /// The permissions of the Unix socket that `listen` makes.
    pub(crate) unix_mode: Option<u32>,
    /// Where the process after this one gets its sockets.
    pub(crate) handover: Option<PathBuf>,
    /// What systemd passed.
    pub(crate) passed: PassedSockets,
    /// How often systemd wants a sign of life.
    pub(crate) watchdog: Option<Duration>,
    /// TLS on the public listener.
    pub(crate) tls: Option<(Arc<Certificates>, TlsVersion)>,
    /// How many data cores; at least one is started.
    pub(crate) workers: usize,
    /// How long requests in flight may take after a signal.
    pub(crate) drain: Duration,
    /// Bounds on connections.
    pub(crate) limits: Limits,
    /// How many connections there may be, and of whom.
    pub(crate) admission: Admission,
}

/// What is served: made inside the control runtime, before anything is bound.
pub(crate) struct Parts<M> {
    /// Makes the service of one data core; called on that core's thread.
    pub(crate) make_service: M,
    /// The state of everything that can fail.
    pub(crate) status: Arc<dyn Fn() -> Vec<Part> + Send + Sync>,
    /// Resolves when nothing is left that outlives its request.
    pub(crate) finished: Arc<dyn Fn() -> Finished + Send + Sync>,
    /// The counters as Prometheus text.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What ends once everything is finished.
pub(crate) type Finished = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A data core, as its service sees it.
pub(crate) struct Core {
    /// Counts from zero.
    pub(crate) index: usize,
    /// The core's timer, for its upstreams too.
    pub(crate) timer: CoarseTimer,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When `build` fails, a listener cannot be bound, the TLS files cannot be used, or a data core
/// ends although nobody asked it to.
pub(crate) fn run<M, S>(
    config: ServeConfig,
    build: impl FnOnce(&Handle) -> anyhow::Result<Parts<M>>,
) -> anyhow::Result<()>
where
    M: Fn(Core) -> S + Send + Sync + 'static,
    S: HttpService,
{
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("starting the control runtime")?;
    let signals = {
        let _inside = control.enter();
        Signals::new().context("listening for signals")?
    };
    let done = serve(config, &control, build, signals, |bound| {
        tracing::info!(listen = bound.listen, admin = bound.admin, "listening");
        systemd::ready();
    });
    control.shutdown_background();
    done
}

/// Where the listeners are, as text.
struct Addresses {
    listen: String,
    admin: Option<String>,
}

/// What tells the process to stop.
trait Stop {
    /// Resolves at each signal.
    fn signal(&mut self) -> impl Future<Output = ()> + Send;
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Stop for Signals {
    async fn signal(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn serve<M, S>(
    config: ServeConfig,
    control: &Runtime,
    build: impl FnOnce(&Handle) -> anyhow::Result<Parts<M>>,
    mut stop: impl Stop,
    bound: impl FnOnce(Addresses),
) -> anyhow::Result<()>
where
    M: Fn(Core) -> S + Send + Sync + 'static,
    S: HttpService,
{
    let _inside = control.enter();
    let parts = build(control.handle())?;
    let finished = Arc::clone(&parts.finished);
    let tls = config
        .tls
        .map(|(certificates, minimum)| tls::server_config(certificates, minimum))
        .transpose()?;
    let workers = config.workers.max(1);

    let mut passed = config.passed;
    let before = config.handover.as_deref().map(Received::ask).transpose();
    let mut before = before.context("`handover`")?.flatten();
    let offered = Offered::default();
    let listen_name = systemd_name(Some(&config.listen));
    let admin_name = systemd_name(config.admin.as_ref());
    let sources = Sources {
        before: before.as_mut(),
        passed: &mut passed,
        others: admin_name.into_iter().collect(),
        mode: config.unix_mode,
    };
    let (listeners, listen) = listener::sockets("listen", &config.listen, workers, sources)?;
    let admin = match &config.admin {
        Some(admin) => {
            let sources = Sources {
                before: before.as_mut(),
                passed: &mut passed,
                others: listen_name.into_iter().collect(),
                mode: None,
            };
            let (sockets, address) = listener::sockets("admin", admin, 1, sources)?;
            anyhow::ensure!(
                sockets.is_local() || config.danger_public_admin,
                "`admin`: other machines can reach the socket that systemd passed\nhint: write \
                 `ListenStream=127.0.0.1:9090` into its unit"
            );
            Some((sockets, address))
        }
        None => None,
    };
    if config.handover.is_some() {
        listeners.offer("listen", &offered)?;
        if let Some((sockets, _)) = &admin {
            sockets.offer("admin", &offered)?;
        }
    }
    let listeners = listeners.for_cores(workers)?;
    let (taken, mut taken_over) = mpsc::unbounded_channel();
    let prepare = |path: &PathBuf| {
        let prepared = offered.clone().prepare(path, taken.clone());
        prepared.with_context(|| format!("`handover`: cannot wait at {}", path.display()))
    };
    let prepared = config.handover.as_ref().map(prepare).transpose()?;

    let readiness = admin::Readiness::new(workers, parts.status);
    let (admin_socket, admin_address) = admin.unzip();
    let mut admin_tasks = Vec::new();
    for socket in admin_socket
        .map(|sockets| sockets.for_cores(1))
        .transpose()?
        .into_iter()
        .flatten()
    {
        for listener in socket.listen().context("`admin`")?.each() {
            let serving = admin::serve(listener, readiness.clone(), parts.metrics.clone());
            admin_tasks.push(control.spawn(serving));
        }
    }
    let heartbeat = config.watchdog.map(|interval| Heartbeat::new(interval, workers));

    let (stopping, stopped) = watch::channel(false);
    let (told, mut endings) = mpsc::unbounded_channel();
    let make_service = Arc::new(parts.make_service);
    let spawned = listeners.into_iter().enumerate().try_for_each(|(index, socket)| {
        let core = data::DataCore {
            socket,
            tls: tls.clone(),
            limits: config.limits,
            admission: config.admission.clone(),
            drain: config.drain,
            stop: stopped.clone(),
            timer: CoarseTimer::new(),
        };
        let (make_service, readiness) = (make_service.clone(), readiness.clone());
        let heartbeat = heartbeat.clone();
        let ending = Ending {
            told: told.clone(),
            outcome: None,
        };
        std::thread::Builder::new()
            .name(format!("data-{index}"))
            .spawn(move || ending.of(|| data_thread(index, core, &*make_service, &readiness, heartbeat)))
            .context("starting a data thread")
            .map(drop)
    });
    drop(told);

    // Of the same sockets: until it is told to go, the process before; later, the one after.
    let mut another_serves = before.is_some();
    let outcome = control.block_on(async {
        let started = async {
            spawned?;
            match before {
                Some(_) => cores_started(&readiness, &mut endings).await,
                None => Ok(()),
            }
        };
        let started = tokio::select! {
            biased;
            started = started => started.map(|()| true),
            () = stop.signal() => Ok(false),
        };
        let mut failed = Ok(());
        match started {
            Ok(true) => {
                handover::follow(before.as_ref(), prepared);
                another_serves = false;
                if let Some(heartbeat) = heartbeat {
                    control.spawn(heartbeat.report());
                }
                bound(Addresses {
                    listen,
                    admin: admin_address,
                });
                tokio::select! {
                    () = stop.signal() => {}
                    _ = taken_over.recv() => another_serves = true,
                    early = endings.recv() => return ended_early(early),
                }
                tracing::info!(
                    "stopping: what was sent before the signal is taken, then requests in flight are finished"
                );
            }
            Err(error) if !another_serves => return Err(error),
            not_started => {
                tracing::warn!("this process did not come to serve, the one before goes on");
                failed = not_started.map(drop);
            }
        }
        if another_serves {
            // Health is asked of that process.
            admin_tasks.iter().for_each(tokio::task::JoinHandle::abort);
        } else {
            systemd::stopping();
        }
        readiness.drain();
        offered.withdraw();
        stopping.send_replace(true);
        let all_ended = async {
            let mut outcome = Ok(());
            while let Some(ending) = endings.recv().await {
                outcome = outcome.and(ending);
            }
            finished().await;
            outcome
        };
        failed.and(tokio::select! {
            outcome = all_ended => outcome,
            () = stop.signal() => {
                tracing::warn!("a second signal: requests in flight are cut");
                Ok(())
            }
            () = tokio::time::sleep(config.drain.saturating_add(GRACE)) => {
                tracing::warn!("a data core did not stop in time");
                Ok(())
            }
        })
    });
    let own = [Some(&config.listen), config.admin.as_ref()];
    for listen in own.into_iter().flatten().filter(|_| !another_serves) {
        listener::remove(listen);
    }
    // The channel is open until here, else nobody to take over would look like somebody.
    drop(taken);
    outcome
}

/// Waits until every core accepts connections.
///
/// # Errors
/// When one ends first, or the time for that is over.
async fn cores_started(
    readiness: &admin::Readiness,
    endings: &mut mpsc::UnboundedReceiver<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        early = endings.recv() => ended_early(early),
        () = readiness.all_started() => Ok(()),
        () = tokio::time::sleep(handover::START) => {
            anyhow::bail!("the data cores did not start within {} s", handover::START.as_secs())
        }
    }
}

/// How a core ended that nobody asked to.
fn ended_early(ending: Option<anyhow::Result<()>>) -> anyhow::Result<()> {
    ending.transpose()?;
    anyhow::bail!("a data core ended although nobody asked it to")
}

/// The name of the socket that a setting asks systemd for.
fn systemd_name(listen: Option<&Listen>) -> Option<&str> {
    match listen {
        Some(Listen::Systemd(name)) => name.as_deref(),
        Some(Listen::Tcp(_) | Listen::Unix(_)) | None => None,
    }
}

/// One data core, from its first to its last connection.
fn data_thread<M, S>(
    index: usize,
    core: data::DataCore,
    make_service: &M,
    readiness: &admin::Readiness,
    heartbeat: Option<Heartbeat>,
) -> anyhow::Result<()>
where
    M: Fn(Core) -> S,
    S: HttpService,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(FILE_THREADS)
        .build_local(LocalOptions::default())
        .context("starting a data runtime")?;
    let outcome = runtime.block_on(async {
        if let Some(heartbeat) = heartbeat {
            tokio::task::spawn_local(heartbeat.beat(index));
        }
        let service = make_service(Core {
            index,
            timer: core.timer.clone(),
        });
        data::serve(core, service, || readiness.core_started()).await
    });
    // What is still there was given its time.
    runtime.shutdown_background();
    outcome.context("`listen`")
}

/// Tells the control runtime how a thread ended; a thread that panics says so too.
struct Ending {
    told: mpsc::UnboundedSender<anyhow::Result<()>>,
    outcome: Option<anyhow::Result<()>>,
}

impl Ending {
    fn of(mut self, thread: impl FnOnce() -> anyhow::Result<()>) {
        self.outcome = Some(thread());
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let outcome = self.outcome.take();
        let _ = self
            .told
            .send(outcome.unwrap_or_else(|| Err(anyhow::anyhow!("a data core panicked"))));
    }
}

/// How many threads of one core read files: more would wait for the disk, and each costs memory.
const FILE_THREADS: usize = 16;

/// Time beyond the drain until a data core counts as stuck.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
