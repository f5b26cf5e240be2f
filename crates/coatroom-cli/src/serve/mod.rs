//! `coatroom serve`: the topology of the process.
//!
//! One data thread for each core, with a single-threaded runtime, a listening socket and upstream
//! connections of its own, and one control runtime for everything that is shared: the provider,
//! the stores, the admin listener, the signals. Nothing is bound before the configuration passed.
//! On SIGTERM or SIGINT the process turns unready, takes what was sent before, stops accepting,
//! finishes what is in flight within a bound, cuts what is left and ends well; a second signal cuts
//! at once.

mod admin;
mod connections;
mod data;
mod listener;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Listen;
use anyhow::Context as _;
use coatroom::timer::CoarseTimer;
use tokio::runtime::{Handle, LocalOptions, Runtime};
use tokio::sync::{mpsc, watch};

pub(crate) use admin::{Part, PartState};
pub(crate) use data::{HttpService, Limits};
pub(crate) use tls::{Certificate, Certificates, Pem};

/// What is served where.
pub(crate) struct ServeConfig {
    /// The public listener.
    pub(crate) listen: Listen,
    /// The admin listener; none turns it off.
    pub(crate) admin: Option<Listen>,
    /// TLS on the public listener.
    pub(crate) tls: Option<Arc<Certificates>>,
    /// How many data cores; at least one is started.
    pub(crate) workers: usize,
    /// How long requests in flight may take after a signal.
    pub(crate) drain: Duration,
    /// Bounds on connections.
    pub(crate) limits: Limits,
}

/// What is served: made inside the control runtime, before anything is bound.
pub(crate) struct Parts<M> {
    /// Makes the service of one data core; called on that core's thread.
    pub(crate) make_service: M,
    /// The state of everything that can fail.
    pub(crate) status: Arc<dyn Fn() -> Vec<Part> + Send + Sync>,
    /// The counters as Prometheus text.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

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
    let tls = config.tls.map(tls::server_config).transpose()?;
    let workers = config.workers.max(1);

    let (listeners, listen) = listener::bind_setting("listen", &config.listen, workers)?;
    let admin = match &config.admin {
        Some(admin) => {
            let (sockets, address) = listener::bind_setting("admin", admin, 1)?;
            sockets.into_iter().next().map(|socket| (socket, address))
        }
        None => None,
    };

    let readiness = admin::Readiness::new(workers, parts.status);
    let (admin_socket, admin_address) = admin.unzip();
    if let Some(socket) = admin_socket {
        let listener = socket.listen().context("`admin`")?;
        control.spawn(admin::serve(listener, readiness.clone(), parts.metrics));
    }

    let (stopping, stopped) = watch::channel(false);
    let (told, mut endings) = mpsc::unbounded_channel();
    let make_service = Arc::new(parts.make_service);
    for (index, socket) in listeners.into_iter().enumerate() {
        let core = data::DataCore {
            socket,
            tls: tls.clone(),
            limits: config.limits,
            drain: config.drain,
            stop: stopped.clone(),
            timer: CoarseTimer::new(),
        };
        let (make_service, readiness) = (make_service.clone(), readiness.clone());
        let ending = Ending {
            told: told.clone(),
            outcome: None,
        };
        std::thread::Builder::new()
            .name(format!("data-{index}"))
            .spawn(move || ending.of(|| data_thread(index, core, &*make_service, &readiness)))
            .context("starting a data thread")?;
    }
    drop(told);
    bound(Addresses {
        listen,
        admin: admin_address,
    });

    let outcome = control.block_on(async {
        tokio::select! {
            () = stop.signal() => {}
            early = endings.recv() => {
                early.transpose()?;
                anyhow::bail!("a data core ended although nobody asked it to");
            }
        }
        tracing::info!(
            "stopping: what was sent before the signal is taken, then requests in flight are finished"
        );
        readiness.drain();
        stopping.send_replace(true);
        let all_ended = async {
            while let Some(ending) = endings.recv().await {
                ending?;
            }
            Ok(())
        };
        tokio::select! {
            outcome = all_ended => outcome,
            () = stop.signal() => {
                tracing::warn!("a second signal: requests in flight are cut");
                Ok(())
            }
            () = tokio::time::sleep(config.drain.saturating_add(GRACE)) => {
                tracing::warn!("a data core did not stop in time");
                Ok(())
            }
        }
    });
    for listen in [Some(&config.listen), config.admin.as_ref()]
        .into_iter()
        .flatten()
    {
        listener::remove(listen);
    }
    outcome
}

/// One data core, from its first to its last connection.
fn data_thread<M, S>(
    index: usize,
    core: data::DataCore,
    make_service: &M,
    readiness: &admin::Readiness,
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
