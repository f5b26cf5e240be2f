//! The command line, and how errors look on it.
//!
//! No flag changes what the configuration file says, so that the file that was checked is the file
//! that is served.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::check;
use crate::client_keygen;
use crate::config::{self, Loaded, Report, Style, headed};
use crate::doctor;
use crate::sessions_command;

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
        #[arg(short, long, value_name = "FILE", env = "COATROOM_CONFIG")]
        config: PathBuf,
    },
    /// Check a configuration file and show what it means; binds nothing
    Check {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", env = "COATROOM_CONFIG")]
        config: PathBuf,
    },
    /// Ask the provider, the stores and the upstreams of a configuration file, and say what is wrong
    Doctor(doctor::Asked),
    /// Print the JSON Schema of the configuration file, for editors and checks
    Schema {
        /// Print the reference page of all settings instead, in Markdown
        #[arg(long)]
        markdown: bool,
    },
    /// Print a new key for `keys`: (umask 077; coatroom keygen > coatroom.key); or make what this client
    /// proves itself with at the provider
    Keygen {
        /// Print the part of a key that an instance needs which only forwards API calls
        #[arg(long, requires = "key")]
        proxy: bool,
        /// The key that the part is of; `-` is standard input
        #[arg(long, value_name = "FILE", requires = "proxy")]
        key: Option<PathBuf>,
        /// Make a private key for `client_auth`, and print the key set to register at the provider
        #[arg(
            long,
            value_name = "ALGORITHM",
            num_args = 0..=1,
            default_missing_value = "ES256",
            value_parser = client_keygen::ALGORITHMS,
            conflicts_with_all = ["proxy", "client_certificate", "jwks"]
        )]
        client: Option<String>,
        /// Make a self-signed certificate for `client_auth`, with this name in it, and its key
        #[arg(long, value_name = "NAME", conflicts_with_all = ["proxy", "jwks"])]
        client_certificate: Option<String>,
        /// Print the key set of a private key that is there already; `-` is standard input
        #[arg(long, value_name = "FILE", conflicts_with = "proxy")]
        jwks: Option<PathBuf>,
        /// Where to write it: `client.pem`, or `client` for `client.crt` and `client.key`
        #[arg(long, value_name = "FILE", conflicts_with_all = ["proxy", "jwks"])]
        out: Option<PathBuf>,
    },
    /// List or end sessions that are in a store, whether or not anything serves them
    Sessions {
        #[command(subcommand)]
        action: sessions_command::Action,
    },
    /// Make a certificate for HTTPS on this machine, and a CA that is good for nothing else
    DevCert {
        /// The folder to write to
        #[arg(
            short,
            long,
            value_name = "DIR",
            default_value = ".",
            hide_default_value = true
        )]
        out: PathBuf,
        /// Replace files that are there already
        #[arg(long)]
        force: bool,
        /// Names below `localhost` or `test`, loopback addresses [default: localhost 127.0.0.1 ::1]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
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
    warn(&loaded);
    Ok(loaded)
}

/// Loads a configuration and shows what it means, the warnings last.
///
/// # Errors
/// The [`Report`] of what is wrong with it, or when standard output takes nothing.
pub(crate) fn check(file: &Path) -> anyhow::Result<()> {
    let loaded = config::load(file)?;
    check::run(file, &loaded)?;
    warn(&loaded);
    Ok(())
}

fn warn(loaded: &Loaded) {
    let warnings = loaded.warnings.render("warning", style());
    if !warnings.is_empty() {
        write(&format!("{warnings}\n"));
    }
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

/// A path as a shell takes it, for a command that can be pasted.
pub(crate) fn quoted(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@%=:".contains(&b);
    if !path.is_empty() && path.bytes().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
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
            ("schema", Some("schema")),
            ("schema --markdown", Some("schema")),
            ("schema f", None),
            ("doctor -c f --app shop --json", Some("doctor")),
            ("doctor", None),
            ("sessions list -c f --sub a", Some("sessions")),
            ("sessions end -c f --session AAECAwQFBgc", Some("sessions")),
            ("sessions end -c f", None),
            ("sessions", None),
            ("dev-cert", Some("dev-cert")),
            (
                "dev-cert --out d --force localhost ::1",
                Some("dev-cert with everything"),
            ),
            ("dev-cert --forced", None),
            ("serve", None),
            ("serve f", None),
            ("keygen --proxy --key f", Some("keygen proxy")),
            ("keygen --proxy", None),
            ("keygen --key f", None),
            ("keygen --client", Some("keygen client ES256")),
            ("keygen --client EdDSA --out f", Some("keygen client EdDSA")),
            ("keygen --client RS256", None),
            ("keygen --client --jwks f", None),
            ("keygen --client-certificate shop", Some("keygen certificate")),
            ("keygen --jwks f", Some("keygen jwks")),
            ("keygen --jwks f --proxy --key f", None),
            ("keygen f", None),
            ("run", None),
            ("", None),
        ] {
            let words = ["coatroom"].into_iter().chain(line.split_whitespace());
            let name = Cli::try_parse_from(words).ok().map(|cli| match cli.command {
                Command::Serve { config: file } if file == config() => "serve",
                Command::Check { config: file } if file == config() => "check",
                Command::Serve { .. } | Command::Check { .. } => "another file",
                Command::Schema { .. } => "schema",
                Command::Sessions { .. } => "sessions",
                Command::Doctor(_) => "doctor",
                Command::Keygen {
                    client: Some(client), ..
                } if client == "ES256" => "keygen client ES256",
                Command::Keygen {
                    client: Some(client), ..
                } if client == "EdDSA" => "keygen client EdDSA",
                Command::Keygen {
                    client_certificate: Some(_),
                    ..
                } => "keygen certificate",
                Command::Keygen { jwks: Some(file), .. } if file == config() => "keygen jwks",
                Command::Keygen {
                    proxy: false,
                    key: None,
                    ..
                } => "keygen",
                Command::Keygen {
                    proxy: true,
                    key: Some(key),
                    ..
                } if key == config() => "keygen proxy",
                Command::Keygen { .. } => "another keygen",
                Command::DevCert { out, force, names } => {
                    if (out, force, names.len()) == (PathBuf::from("."), false, 0) {
                        "dev-cert"
                    } else {
                        "dev-cert with everything"
                    }
                }
            });
            assert_eq!(name, expected, "{line}");
        }
    }
}
