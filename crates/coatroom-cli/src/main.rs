//! The binary: parses the command line, dispatches, exits.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 the command line is wrong. Errors go to standard
//! error as `error:` and `hint:`; colour only where a terminal reads.

mod check;
mod cli;
mod config;
mod keygen;
mod serve;
mod start;

use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match cli::parse() {
        cli::Command::Serve { config } => cli::load(&config).and_then(start::run),
        cli::Command::Check { config } => cli::load(&config).and_then(|loaded| check::run(&config, &loaded)),
        cli::Command::Keygen => keygen::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::show(&error);
            ExitCode::FAILURE
        }
    }
}
