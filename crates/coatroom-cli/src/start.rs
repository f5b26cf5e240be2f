//! From a loaded configuration to a running process: logs, the token handler, the upstreams.
//!
//! Everything is built before anything is bound. This file decides nothing about requests, and no
//! secret passes through it but inside the key ring and the applications.

use std::io::IsTerminal as _;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use coatroom::TokenHandler;
use coatroom::clock::{Clock as _, SystemClock};
use coatroom::store::Stores;
use coatroom::upstream::{Connector, Upstream};
use coatroom_core::config::Application;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tower::Layer as _;
use tracing_subscriber::EnvFilter;

use crate::config::{self, Connections, Format, Loaded, Log, Tls};
use crate::reload::{Fixed, Reloader, Reloads, Watch};
use crate::serve::{
    self, Admission, Certificates, Core, Limits, Pace, Part, PartState, Parts, PassedSockets, Pem, Rules,
    ServeConfig, systemd,
};

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
        danger_public_admin,
        unix_mode,
        handover,
        tls,
        connections,
        keys,
        applications,
        workers,
        log: _,
        summary: _,
        warnings: _,
    } = loaded;
    let minimum = tls.as_ref().map(|tls| tls.minimum).unwrap_or_default();
    let certificates = tls.map(|tls| Certificates::new(&pems(tls))).transpose()?;
    let admission = doors(&connections, workers);
    let config = ServeConfig {
        listen,
        admin: Some(admin),
        danger_public_admin,
        unix_mode,
        handover,
        passed: PassedSockets::from_environment()?,
        watchdog: systemd::watchdog(),
        tls: certificates.clone().map(|certificates| (certificates, minimum)),
        workers,
        drain: DRAIN,
        limits: Limits {
            write_timeout: connections.write_timeout,
            ..Limits::default()
        },
        admission: admission.clone(),
    };
    serve::run(config, move |control| {
        let stores = Arc::new(Stores::new(Arc::new(SystemClock)));
        open_stores(&stores, &applications)?;
        let handler = TokenHandler::builder(applications, keys)
            .runtime(control.clone())
            .trusted_peers(connections.trusted_peers.clone())
            .stores(stores.clone())
            .build()
            .context("setting up the token handler")?;
        handler.warm_up();
        let connector = Connector::platform().context("setting up TLS to the upstreams")?;
        let connector = connector.runtime(control.clone());
        connector.attend(&handler);
        let reloads = Arc::<Reloads>::default();
        reload_when_asked(
            control,
            Reloader {
                watch,
                handler: handler.clone(),
                upstreams: connector.clone(),
                certificates,
                set_log,
                fixed,
                stores: stores.clone(),
                reloads: reloads.clone(),
                refused_for: Vec::new(),
            },
        )?;
        let (status, counters) = (handler.clone(), handler.clone());
        let ending = handler.clone();
        let part = reloads.clone();
        let (upstreams, their_counters) = (connector.clone(), connector.clone());
        let counts = admission.clone();
        let their_health = stores.clone();
        Ok(Parts {
            make_service: move |core: Core| {
                tracing::debug!(core = core.index, "starting a data core");
                let ends = handler.session_ends().clone();
                let upstream = Upstream::new(connector.clone(), core.timer.clone(), ends);
                let (body_timeout, write_timeout) = (connections.body_timeout, connections.write_timeout);
                let pace = Pace::new(core.timer, admission.clone(), body_timeout, write_timeout);
                pace.layer(handler.layer().layer(upstream))
            },
            status: Arc::new(move || {
                let mut parts = parts(&status);
                parts.extend(upstream_parts(&upstreams));
                parts.extend(store_parts(&their_health));
                parts.push(part.part());
                parts
            }),
            finished: Arc::new(move || {
                let ending = ending.clone();
                Box::pin(async move { ending.finished().await })
            }),
            metrics: Arc::new(move || {
                let mut text = counters.telemetry().render();
                counts.render(&mut text);
                counters.render_rate_limits(&mut text);
                counters.render_client_tokens(&mut text);
                their_counters.render(&mut text);
                stores.render(&mut text);
                reloads.render(&mut text);
                text
            }),
        })
    })
}

/// The doors of the public listener: as many connections as is written, else as the open files allow.
fn doors(connections: &Connections, workers: usize) -> Admission {
    let fitting = serve::fitting(getrlimit(Resource::Nofile).current, workers);
    let max = connections.max.unwrap_or(fitting);
    if max > fitting {
        tracing::warn!(
            max,
            fitting,
            "`connections.max` is more than the limit of open files has room for; raise that limit \
             (`LimitNOFILE=`, `ulimit -Hn`), or requests will fail before connections have to wait"
        );
    }
    Admission::new(Rules {
        max,
        max_per_address: connections.max_per_address,
        peers: connections.trusted_peers.clone(),
        proxy_protocol: connections.proxy_protocol,
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

/// The certificates as what serves them takes them.
pub(crate) fn pems(tls: Tls) -> Vec<Pem> {
    let pem = |pem: config::Pem| Pem {
        certificate: pem.certificate.into(),
        key: pem.key.into(),
    };
    tls.certificates.into_iter().map(pem).collect()
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

/// Each upstream that somebody looks after. One that is away fails its own routes only.
fn upstream_parts(connector: &Connector) -> impl Iterator<Item = Part> {
    connector.upstreams().into_iter().map(|upstream| Part {
        state: upstream.trouble().map_or(PartState::Ready, PartState::Degraded),
        name: format!("upstream {}", upstream.name),
    })
}

/// Opens what the applications keep sessions in; nothing is connected to yet.
///
/// # Errors
/// When this build has no client for one.
pub(crate) fn open_stores(stores: &Stores, applications: &[Application]) -> anyhow::Result<()> {
    for application in applications {
        if let Some(settings) = application.session.storage.settings() {
            stores.of(settings).with_context(|| {
                format!(
                    "opening {}, where `{}` keeps sessions",
                    settings.label(),
                    application.id.as_str()
                )
            })?;
        }
    }
    Ok(())
}

/// Each store. One that is away fails the sessions in it only, and taking this process out helps none.
fn store_parts(stores: &Stores) -> impl Iterator<Item = Part> {
    stores.health().into_iter().map(|health| Part {
        name: format!("session store {}", health.name),
        state: health.trouble.map_or(PartState::Ready, |trouble| {
            let seconds = SystemClock.now().seconds_from(trouble.since);
            let lasts = config::shown(Duration::from_secs(seconds));
            PartState::Degraded(format!("for {lasts}: {}", trouble.error))
        }),
    })
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
