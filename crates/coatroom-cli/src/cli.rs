//! The command line, and how errors look on it.
//!
//! No flag changes what the configuration file says, so that the file that was checked is the file
//! that is served.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::config::{self, Loaded, Report, Style, headed};

/// A token handler for single-page applications: it keeps tokens out of the browser.
#[derive(Parser)]
#[command(name = "coatroom", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve the applications of a configuration file
    Serve {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration file and show what it means; binds nothing
    Check {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print a new key for `keys`: coatroom keygen > coatroom.key
    Keygen,
}

/// Reads the command line; exits with 2 if it is wrong, with 0 after `--help` and `--version`.
pub(crate) fn parse() -> Command {
    Cli::parse().command
}

/// Loads a configuration and shows its warnings.
///
/// # Errors
/// The [`Report`] of what is wrong with it.
pub(crate) fn load(file: &Path) -> anyhow::Result<Loaded> {
    let loaded = config::load(file)?;
    let warnings = loaded.warnings.render("warning", style());
    if !warnings.is_empty() {
        write(&format!(
            "{warnings}
"
        ));
    }
    Ok(loaded)
}

/// Shows an error.
pub(crate) fn show(error: &anyhow::Error) {
    write(&match error.downcast_ref::<Report>() {
        Some(report) => report.render("error", style()),
        None => format!("{}{error:#}\n", headed("error", style())),
    });
}

fn write(text: &str) {
    // When standard error is gone there is nowhere left to say so.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn style() -> Style {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted && std::io::stderr().is_terminal() {
        Style::Coloured
    } else {
        Style::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_read_and_slips_refused() {
        let config = || PathBuf::from("f");
        for (line, expected) in [
            ("serve --config f", Some("serve")),
            ("serve -c f", Some("serve")),
            ("check --config=f", Some("check")),
            ("keygen", Some("keygen")),
            ("serve", None),
            ("serve f", None),
            ("keygen f", None),
            ("run", None),
            ("", None),
        ] {
            let words = ["coatroom"].into_iter().chain(line.split_whitespace());
            let name = Cli::try_parse_from(words).ok().map(|cli| match cli.command {
                Command::Serve { config: file } if file == config() => "serve",
                Command::Check { config: file } if file == config() => "check",
                Command::Serve { .. } | Command::Check { .. } => "another file",
                Command::Keygen => "keygen",
            });
            assert_eq!(name, expected, "{line}");
        }
    }
}
