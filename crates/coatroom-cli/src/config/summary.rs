//! What `coatroom check` shows beside what is served: where things come from.
//!
//! It names places, never what is there.

use super::overrides::Override;
use super::secret::Reference;

/// What only a summary shows.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// How many processes share the keys.
    pub(crate) replicas: u16,
    /// How many data cores were asked for; none is one for each core of the machine.
    pub(crate) workers: Option<u16>,
    /// The secrets, in the order in which they were fetched.
    pub(crate) secrets: Vec<Secret>,
    /// The settings that the environment overrides.
    pub(crate) overrides: Vec<Override>,
}

/// Where a secret came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    /// The setting.
    pub(crate) path: Vec<String>,
    /// The kind of place: `file`, `env`, `credential` or `command`.
    pub(crate) kind: &'static str,
    /// The place; of a command only the program, since its arguments may say more than they should.
    pub(crate) place: String,
}

impl Secret {
    /// Where the secret at this key path came from.
    pub(crate) fn new(path: Vec<String>, reference: &Reference) -> Self {
        let (kind, place) = match reference {
            Reference::File(path) => ("file", path.display().to_string()),
            Reference::Env(name) => ("env", name.clone()),
            Reference::Credential(name) => ("credential", name.clone()),
            Reference::Command(argv) => ("command", argv.first().cloned().unwrap_or_default()),
        };
        let place = place.chars().filter(|c| !c.is_control()).collect();
        Self { path, kind, place }
    }
}
