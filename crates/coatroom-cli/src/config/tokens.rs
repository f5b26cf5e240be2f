//! Tokens of other shapes: keys of encrypted ID tokens, and userinfo.
//!
//! As in `schema.rs` the comments are for users; whether a key can be used is the core's to say. No error
//! quotes a file.

use std::path::Path;

use coatroom_core::config::PrivateKeyPem;
use schemars::JsonSchema;
use serde::Deserialize;

use super::findings::Findings;
use super::secret::Reference;

/// Whether the userinfo endpoint is asked for claims.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Userinfo {
    /// Claims are those of the ID token.
    #[default]
    Never,
    /// At each sign-in and each refresh; claims of the ID token win.
    Always,
}

impl Userinfo {
    /// As it is written, which is also the core's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}

/// The keys that ID tokens are encrypted to, fetched. `at` is their place.
pub(crate) fn decryption_keys(
    written: &[Reference],
    at: &[String],
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Vec<PrivateKeyPem> {
    let mut keys = Vec::new();
    for (index, reference) in written.iter().enumerate() {
        let place = at.iter().cloned().chain([index.to_string()]).collect();
        keys.extend(findings.secret(reference, place, folder).map(PrivateKeyPem::new));
    }
    keys
}
