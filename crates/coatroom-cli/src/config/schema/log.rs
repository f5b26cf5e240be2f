//! The log as it is written. What is worth a line is decided where it is logged.

use schemars::JsonSchema;
use serde::Deserialize;

/// The log.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// How a line looks.
    #[schemars(extend("default" = Format::default().as_str()))]
    pub(crate) format: Format,
    /// What is worth a line. The environment variable `COATROOM_LOG` goes before it.
    #[schemars(extend("default" = Level::default().as_str()))]
    pub(crate) level: Level,
}

/// How a log line looks.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// What is worth a log line.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Level {
    /// Somebody must look.
    Error,
    /// Somebody should look.
    Warn,
    /// Worth counting.
    #[default]
    Info,
    /// Everyday.
    Debug,
    /// Everything.
    Trace,
}

impl Format {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Level {
    /// As it is written, which is also how `tracing` names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
