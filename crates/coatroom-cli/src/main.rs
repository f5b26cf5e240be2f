//! The binary: parses the command line, dispatches, exits.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 the command line is wrong, 3 no session found. Errors go to standard
//! error as `error:` and `hint:`; colour only where a terminal reads.

mod check;
mod cli;
mod client_keygen;
mod config;
mod dev_cert;
mod doctor;
mod keygen;
mod reload;
mod schema_command;
mod serve;
mod sessions_command;
mod start;

use std::process::ExitCode;

use dev_cert::Existing;
use doctor::Health;
use schema_command::Form;
use sessions_command::Found;

/// Fewer instructions for each of the many small pieces of memory that a request needs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match cli::parse() {
        cli::Command::Serve { config } => {
            start::prepare();
            let watch = reload::Watch::begin(&config);
            cli::load(&config).and_then(|loaded| start::run(loaded, watch))
        }
        cli::Command::Check { config } => cli::check(&config),
        cli::Command::Doctor(asked) => match doctor::run(&asked) {
            Ok(Health::Failed) => return ExitCode::FAILURE,
            Ok(Health::Good) => Ok(()),
            Err(error) => Err(error),
        },
        cli::Command::Schema { markdown } => schema_command::run(if markdown {
            Form::ReferencePage
        } else {
            Form::JsonSchema
        }),
        cli::Command::Sessions { action } => match sessions_command::run(&action) {
            Ok(Found::None) => return ExitCode::from(3),
            Ok(Found::Some) => Ok(()),
            Err(error) => Err(error),
        },
        cli::Command::Keygen { proxy: true, key, .. } => keygen::proxy(&key.unwrap_or_else(|| "-".into())),
        cli::Command::Keygen { jwks: Some(file), .. } => client_keygen::jwks(&file),
        cli::Command::Keygen {
            client: Some(algorithm),
            out,
            ..
        } => client_keygen::key(&algorithm, &out.unwrap_or_else(|| "client.pem".into())),
        cli::Command::Keygen {
            client_certificate: Some(name),
            out,
            ..
        } => client_keygen::certificate(&name, &out.unwrap_or_else(|| "client".into())),
        cli::Command::Keygen { out: Some(_), .. } => Err(anyhow::anyhow!(
            "`--out` says where `--client` or `--client-certificate` write\nhint: {}",
            keygen::KEYGEN
        )),
        cli::Command::Keygen { .. } => keygen::run(),
        cli::Command::DevCert { out, force, names } => {
            let existing = if force { Existing::Replaced } else { Existing::Kept };
            dev_cert::run(&out, &names, existing)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::show(&error);
            ExitCode::FAILURE
        }
    }
}
