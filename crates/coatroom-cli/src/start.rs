//! From a loaded configuration to a running process: logs, the token handler, the upstreams.
//!
//! Everything is built before anything is bound. This file decides nothing about requests, and no
//! secret passes through it but inside the key ring and the applications.

use std::io::IsTerminal as _;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use coatroom::TokenHandler;
use coatroom::upstream::{Connector, Upstream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tower::Layer as _;
use tracing_subscriber::EnvFilter;

use crate::config::{Format, Loaded, Log, Tls};
use crate::reload::{Fixed, Reloader, Reloads, Watch};
use crate::serve::{self, Certificates, Core, Limits, Part, PartState, Parts, Pem, ServeConfig};

/// What comes before anything is read. SIGHUP would end a process that does not listen for it yet,
/// and the number of files that may be open is raised as far as the system lets us: each
/// connection is one, and whoever opens many should not take the health checks with them.
pub(crate) fn prepare() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    if let Ok(runtime) = runtime {
        let _inside = runtime.enter();
        // tokio's handler stays, and without a listener it does nothing
        let _ = signal(SignalKind::hangup());
    }
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When a part cannot be set up or a listener cannot be bound.
pub(crate) fn run(loaded: Loaded, watch: Watch) -> anyhow::Result<()> {
    let set_log = start_log(loaded.log)?;
    let fixed = Fixed::of(&loaded);
    let Loaded {
        listen,
        admin,
        tls,
        keys,
        applications,
        workers,
        log: _,
        summary: _,
        warnings: _,
    } = loaded;
    let certificates = tls.map(|tls| Certificates::new(&Pem::from(tls))).transpose()?;
    let config = ServeConfig {
        listen,
        admin: Some(admin),
        tls: certificates.clone(),
        workers,
        drain: DRAIN,
        limits: Limits::default(),
    };
    serve::run(config, move |control| {
        let handler = TokenHandler::builder(applications, keys)
            .runtime(control.clone())
            .build()
            .context("setting up the token handler")?;
        handler.warm_up();
        let connector = Connector::platform().context("setting up TLS to the upstreams")?;
        let reloads = Arc::<Reloads>::default();
        reload_when_asked(
            control,
            Reloader {
                watch,
                handler: handler.clone(),
                certificates,
                set_log,
                fixed,
                reloads: reloads.clone(),
                refused_for: Vec::new(),
            },
        )?;
        let (status, counters) = (handler.clone(), handler.clone());
        let part = reloads.clone();
        Ok(Parts {
            make_service: move |core: Core| {
                tracing::debug!(core = core.index, "starting a data core");
                let upstream = Upstream::new(connector.clone(), core.timer, handler.session_ends().clone());
                handler.layer().layer(upstream)
            },
            status: Arc::new(move || {
                let mut parts = parts(&status);
                parts.push(part.part());
                parts
            }),
            metrics: Arc::new(move || {
                let mut text = counters.telemetry().render();
                reloads.render(&mut text);
                text
            }),
        })
    })
}

/// Hands SIGHUP to a thread that reloads, and that looks for changed files itself.
fn reload_when_asked(control: &Handle, reloader: Reloader) -> anyhow::Result<()> {
    let (hangup, hangups) = mpsc::channel();
    let mut signal = {
        let _inside = control.enter();
        signal(SignalKind::hangup()).context("listening for SIGHUP")?
    };
    control.spawn(async move {
        // ends with the thread, or with the runtime
        while signal.recv().await.is_some() && hangup.send(()).is_ok() {}
    });
    std::thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || reloader.run(&hangups))
        .context("starting the reload thread")?;
    Ok(())
}

impl From<Tls> for Pem {
    fn from(tls: Tls) -> Self {
        Self {
            certificate: tls.certificate.into(),
            key: tls.key.into(),
        }
    }
}

/// Each application's provider. One that is away fails nobody who is signed in.
fn parts(handler: &TokenHandler) -> Vec<Part> {
    let part = |(id, health): (String, coatroom::provider::Health)| {
        let state = match (health.ready, health.last_error) {
            (true, None) => PartState::Ready,
            (_, Some(error)) => PartState::Degraded(error),
            (false, None) => PartState::Degraded("its metadata has not been fetched yet".to_owned()),
        };
        Part {
            name: format!("provider of {id}"),
            state,
        }
    };
    handler.health().into_iter().map(part).collect()
}

/// Starts the log; what it answers changes what is worth a line.
fn start_log(log: Log) -> anyhow::Result<Box<dyn Fn(Log) + Send>> {
    let (filter, by_environment) = match std::env::var("COATROOM_LOG") {
        Ok(directives) => {
            // the library's own words repeat the value, and say no more
            let filter = EnvFilter::builder().parse(directives).map_err(|_| {
                anyhow::anyhow!(
                    "the environment variable COATROOM_LOG is not a log filter\nhint: COATROOM_LOG=warn,coatroom=debug"
                )
            })?;
            (filter, true)
        }
        Err(_) => (filter_of(log), false),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let set: Box<dyn Fn(EnvFilter) + Send> = match log.format {
        Format::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            // nobody takes the subscriber away
            Box::new(move |filter| drop(handle.reload(filter)))
        }
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| drop(handle.reload(filter)))
        }
    };
    Ok(Box::new(move |log| {
        if !by_environment {
            set(filter_of(log));
        }
    }))
}

/// The libraries below us are quiet unless they are asked for by name.
fn filter_of(log: Log) -> EnvFilter {
    EnvFilter::new(format!("warn,coatroom={level}", level = log.level.as_str()))
}

/// How long requests in flight may take after a signal.
const DRAIN: Duration = Duration::from_secs(25);
