//! What failed at a Redis or Valkey server, in words for the log, and what it means for the connection.
//!
//! Never passes on what a server or a library wrote: their texts name keys, users and values. A code of
//! the server's is passed on, as are the kinds of errors of the operating system.

use std::error::Error;
use std::io;
use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why an operation failed.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) blame: Blame,
}

/// What a failure says about the connection that it came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// It is dead: the operation may go well over another one.
    Connection,
    /// It leads to a server that is not, or not any more, the one to write to.
    Server,
    /// Nothing: another connection would fail the same way.
    Nobody,
}

impl Failure {
    /// A failure that is no server's: what came cannot be what Coatroom wrote.
    pub(super) fn ours(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            blame: Blame::Nobody,
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let (text, blame) = match error.kind() {
            ErrorKind::Io => io_failure(&error),
            ErrorKind::Server(kind) => (with_code(kind_code(&error)), blame_of(kind)),
            ErrorKind::Extension => (with_code(kind_code(&error)), Blame::Nobody),
            ErrorKind::AuthenticationFailed => (
                "the server refused the user or the password".to_owned(),
                Blame::Nobody,
            ),
            ErrorKind::MasterNameNotFoundBySentinel => (
                "the Sentinels name no master under this name that can be reached".to_owned(),
                Blame::Nobody,
            ),
            ErrorKind::ClusterConnectionNotFound => (
                "no node of the cluster can be reached".to_owned(),
                Blame::Connection,
            ),
            ErrorKind::Parse => (
                "the server answered something that is no Redis protocol".to_owned(),
                Blame::Connection,
            ),
            ErrorKind::UnexpectedReturnType => ("an answer of the wrong type".to_owned(), Blame::Nobody),
            _ => match tls_error(&error) {
                Some(text) => (text, Blame::Nobody),
                None => (error.category().to_owned(), Blame::Nobody),
            },
        };
        Self { text, blame }
    }
}

fn io_failure(error: &RedisError) -> (String, Blame) {
    if let Some(text) = tls_error(error) {
        return (text, Blame::Connection);
    }
    let kind = cause(error)
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => ("timed out".to_owned(), Blame::Server),
        Some(io::ErrorKind::Other) | None => ("the connection failed".to_owned(), Blame::Connection),
        Some(kind) => (kind.to_string(), Blame::Connection),
    }
}

/// What rustls says of a server's certificate: our own words and its own, none of the server's.
fn tls_error(error: &RedisError) -> Option<String> {
    let cause = cause(error)?;
    let tls = cause.downcast_ref::<rustls::Error>().or_else(|| {
        let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
        inner.downcast_ref::<rustls::Error>()
    })?;
    Some(match tls {
        rustls::Error::InvalidCertificate(reason) => format!("TLS: invalid certificate: {reason}"),
        rustls::Error::AlertReceived(alert) => format!("TLS: the server sent the alert {alert:?}"),
        _ => "TLS: the handshake failed".to_owned(),
    })
}

/// What is behind an error: the library shows it in the `Arc` that it shares it by.
fn cause(error: &RedisError) -> Option<&(dyn Error + 'static)> {
    let source = error.source()?;
    match source.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        Some(shared) => Some(&**shared),
        None => Some(source),
    }
}

fn kind_code(error: &RedisError) -> &str {
    error.code().unwrap_or_default()
}

fn blame_of(kind: ServerErrorKind) -> Blame {
    match kind {
        ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown => Blame::Server,
        _ => Blame::Nobody,
    }
}

/// The code of a server's error, and what it means to an operator.
fn with_code(code: &str) -> String {
    let meaning = match code {
        "READONLY" => "a replica that takes no writes",
        "OOM" => "it is full: maxmemory is reached",
        "NOAUTH" => "it wants a password",
        "WRONGPASS" => "the user or the password is wrong",
        "NOPERM" => "its ACL lacks a command or a key pattern",
        "LOADING" => "it is still loading its data",
        "MASTERDOWN" => "a replica that has lost its master",
        "CLUSTERDOWN" => "the cluster does not serve this slot",
        "TRYAGAIN" => "the slot is on its way to another node",
        "NOREPLICAS" => "it has fewer replicas than min-replicas-to-write",
        "MISCONF" => "it cannot save its data and takes no writes",
        "BUSY" => "a script of somebody's holds it up",
        "WRONGTYPE" => "a value that Coatroom did not write: is the prefix shared?",
        "CROSSSLOT" | "MOVED" | "ASK" => "it is part of a cluster: the address is `redis+cluster://`",
        _ => "",
    };
    // a code is upper case by convention; anything else may be text
    let is_code = !code.is_empty() && code.bytes().all(|letter| letter.is_ascii_uppercase());
    match (is_code, meaning) {
        (false, _) => "the server answered an error".to_owned(),
        (true, "") => format!("the server answered {code}"),
        (true, meaning) => format!("the server answered {code} ({meaning})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_their_kind_and_nothing_of_the_servers_text() {
        let server = |code: &str| {
            Failure::from(::redis::make_extension_error(
                code.to_owned(),
                Some("canary".to_owned()),
            ))
        };
        let cases = [
            (server("OOM"), "OOM (it is full", Blame::Nobody),
            (server("NEWCODE"), "answered NEWCODE", Blame::Nobody),
            (server("canary"), "answered an error", Blame::Nobody),
            (
                Failure::from(RedisError::from(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    "canary",
                ))),
                "connection refused",
                Blame::Connection,
            ),
            (
                Failure::from(RedisError::from(io::Error::other("canary"))),
                "the connection failed",
                Blame::Connection,
            ),
            (
                Failure::from(RedisError::from((
                    ErrorKind::AuthenticationFailed,
                    "canary",
                    "canary".to_owned(),
                ))),
                "refused the user",
                Blame::Nobody,
            ),
            (
                Failure::from(RedisError::from((
                    ServerErrorKind::ReadOnly.into(),
                    "canary",
                    "canary".to_owned(),
                ))),
                "READONLY (a replica",
                Blame::Server,
            ),
        ];
        for (failure, expected, blame) in cases {
            assert!(failure.text.contains(expected), "{expected}: {}", failure.text);
            assert!(!failure.text.contains("canary"), "{}", failure.text);
            assert_eq!(failure.blame, blame, "{expected}");
        }
    }
}
