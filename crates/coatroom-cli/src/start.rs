//! From a loaded configuration to a running process: logs, the token handler, the upstreams.
//!
//! Everything is built before anything is bound. This file decides nothing about requests, and no
//! secret passes through it but inside the key ring and the applications.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use coatroom::TokenHandler;
use coatroom::upstream::{Connector, Upstream};
use tower::Layer as _;
use tracing_subscriber::EnvFilter;

use crate::config::{Format, Loaded, Log};
use crate::serve::{self, Core, Limits, Part, PartState, Parts, Pem, ServeConfig};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When a part cannot be set up or a listener cannot be bound.
pub(crate) fn run(loaded: Loaded) -> anyhow::Result<()> {
    start_log(loaded.log)?;
    let Loaded {
        listen,
        admin,
        tls,
        keys,
        applications,
        workers,
        log: _,
        warnings: _,
    } = loaded;
    let config = ServeConfig {
        listen,
        admin: Some(admin),
        tls: tls.map(|tls| Pem {
            certificate: tls.certificate.into(),
            key: tls.key.into(),
        }),
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
        let (status, metrics) = (handler.clone(), handler.telemetry().clone());
        Ok(Parts {
            make_service: move |core: Core| {
                tracing::debug!(core = core.index, "starting a data core");
                let upstream = Upstream::new(connector.clone(), core.timer, handler.session_ends().clone());
                handler.layer().layer(upstream)
            },
            status: Arc::new(move || parts(&status)),
            metrics: Arc::new(move || metrics.render()),
        })
    })
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

fn start_log(log: Log) -> anyhow::Result<()> {
    // the libraries below us are quiet unless they are asked for by name
    let filter = match std::env::var("COATROOM_LOG") {
        Ok(directives) => EnvFilter::builder()
            .parse(directives)
            .context("the environment variable COATROOM_LOG is not a log filter, such as `coatroom=debug`")?,
        Err(_) => EnvFilter::new(format!("warn,coatroom={level}", level = log.level.as_str())),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match log.format {
        Format::Text => builder.init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// How long requests in flight may take after a signal.
const DRAIN: Duration = Duration::from_secs(25);
