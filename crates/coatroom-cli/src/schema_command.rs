//! `coatroom schema`: the JSON Schema of the configuration file on standard output.
//!
//! With `--markdown` the reference page, which is made from the same schema. It reads no file.

use std::io::Write as _;

use anyhow::Context as _;

use crate::config;

/// How the settings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For editors and checks.
    JsonSchema,
    /// For people, in Markdown.
    ReferencePage,
}

/// Prints the schema.
///
/// # Errors
/// When standard output takes none.
pub(crate) fn run(form: Form) -> anyhow::Result<()> {
    let text = match form {
        Form::JsonSchema => config::schema_text(),
        Form::ReferencePage => config::reference_page(),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("the schema cannot be written to standard output")
}
