//! `coatroom doctor`: asks everybody whom a configuration names, and says what to do about what is
//! wrong.
//!
//! The provider is asked as a sign-in would ask it, with a code that nobody issued and without a
//! browser; the store keeps an entry of our own for a moment; upstreams get one request without a
//! credential. Nothing is bound for longer than it takes to know that it could be, nobody is signed
//! in, and no secret, token or text of the other side is shown. Every question has a deadline and so
//! has the run: it ends within 30 s, whoever hangs.

mod advertised;
mod client;
mod client_credentials;
mod discovery;
mod keys;
mod network;
mod plain;
mod process;
mod provider;
mod sheet;
mod store;
mod upstreams;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use coatroom_core::config::Application;
use futures_util::future::{LocalBoxFuture, join_all};

use self::sheet::{Sheet, Tally};
use crate::config::{self, Loaded, shown};

/// What to examine, and how to tell.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Asked {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "COATROOM_CONFIG")]
    config: PathBuf,
    /// The application; all of them, if not given
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Whether anything failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing, although something may deserve a look.
    Good,
    /// Something.
    Failed,
}

/// Examines, and prints what was found.
///
/// # Errors
/// When the configuration is wrong, names no such application, or standard output takes nothing.
pub(crate) fn run(asked: &Asked) -> anyhow::Result<Health> {
    let loaded = loaded(asked.config.clone())?;
    let chosen = chosen(&loaded.applications, asked.app.as_deref())?;
    let sheets = examined(&loaded, &chosen, asked)?;
    let text = match asked.json {
        true => sheet::machine_readable(&sheets),
        false => sheet::table(&sheets).context("the findings cannot be written")?,
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("the findings cannot be written to standard output")?;
    Ok(match Tally::of(&sheets).failed {
        0 => Health::Good,
        _ => Health::Failed,
    })
}

/// The configuration, on a thread of its own: the commands of several secrets may take longer than
/// anybody wants to wait.
fn loaded(file: PathBuf) -> anyhow::Result<Loaded> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("configuration".to_owned())
        .spawn(move || drop(sender.send(config::load(&file))))
        .context("starting a thread")?;
    match receiver.recv_timeout(LOADING) {
        Ok(loaded) => Ok(loaded?),
        Err(_) => anyhow::bail!(
            "reading the configuration did not end within {}\n\
             hint: is a secret's `command` waiting for something, or a file on a file system that hangs?",
            shown(LOADING)
        ),
    }
}

fn chosen<'l>(applications: &'l [Application], id: Option<&str>) -> anyhow::Result<Vec<&'l Application>> {
    let named = |application: &&Application| id.is_none_or(|id| application.id.as_str() == id);
    let chosen: Vec<_> = applications.iter().filter(named).collect();
    if chosen.is_empty() {
        let ids: Vec<&str> = applications
            .iter()
            .map(|application| application.id.as_str())
            .collect();
        anyhow::bail!(
            "there is no application of this id\nhint: write `--app {}`",
            ids.join("` or `--app ")
        );
    }
    Ok(chosen)
}

/// Everything at once, until the deadline.
fn examined(loaded: &Loaded, applications: &[&Application], asked: &Asked) -> anyhow::Result<Vec<Sheet>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let mut sheets = Vec::new();
    let mut examinations: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
    let mut sheet = |application: Option<&Application>, title: String| {
        let sheet = Sheet::new(application.map(|application| application.id.as_str()), title);
        sheets.push(sheet.clone());
        sheet
    };
    let whole = sheet(None, "this process".to_owned());
    examinations.push(Box::pin(process::examine(
        whole,
        loaded,
        applications,
        &asked.config,
    )));
    for application in applications.iter().copied() {
        for provider in &application.providers {
            let name = provider.name.as_ref().map(|name| format!("{}, ", name.as_str()));
            let title = format!("provider {}{}", name.unwrap_or_default(), provider.issuer);
            let sheet = sheet(Some(application), title);
            let examination = provider::examine(sheet, application, provider, &loaded.keys);
            examinations.push(Box::pin(examination));
        }
        if let Some(settings) = application.session.storage.settings() {
            let sheet = sheet(Some(application), format!("session store {}", settings.label()));
            examinations.push(Box::pin(store::examine(sheet, application, settings)));
        }
        let sheet = sheet(Some(application), "routes".to_owned());
        examinations.push(Box::pin(upstreams::examine(sheet, application)));
    }
    let _ = runtime.block_on(async { tokio::time::timeout(EXAMINING, join_all(examinations)).await });
    // somebody may still be looking a name up, and nobody waits for that
    runtime.shutdown_background();
    for sheet in &sheets {
        sheet.cut_off(&shown(EXAMINING));
    }
    Ok(sheets)
}

const EXIT_CODES: &str = "\
Exit codes: 0 nothing failed, 1 something did, or the configuration is wrong.
It asks the provider with a code that nobody issued, and each API with a request without a token.";

/// How long reading the configuration may take.
const LOADING: Duration = Duration::from_secs(12);

/// How long everything else may take; both together end before 30 s do.
const EXAMINING: Duration = Duration::from_secs(16);

/// How long one question to the network may take.
const QUESTION: Duration = Duration::from_secs(4);
