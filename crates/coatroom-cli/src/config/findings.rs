//! What the checks of one file found: errors and warnings, each at its place in the document.

use std::path::Path;

use super::diagnostic::Diagnostic;
use super::document::Node;
use super::secret::Reference;

/// Collects, never stops.
pub(crate) struct Findings<'d> {
    root: &'d Node,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'d> Findings<'d> {
    /// Nothing found yet.
    pub(crate) fn new(root: &'d Node) -> Self {
        Self {
            root,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Something is wrong at this key path, or at its nearest existing parent.
    pub(crate) fn error(&mut self, path: Vec<String>, message: String, hint: String) {
        let at = Some(self.root.locate(&path));
        self.errors.push(Diagnostic {
            at,
            path,
            message,
            hint,
        });
    }

    /// Something deserves a look.
    pub(crate) fn warning(&mut self, path: Vec<String>, message: String, hint: String) {
        let at = Some(self.root.locate(&path));
        self.warnings.push(Diagnostic {
            at,
            path,
            message,
            hint,
        });
    }

    /// Fetches a secret; what keeps it from being had is an error, who else can read it a warning.
    pub(crate) fn secret(
        &mut self,
        reference: &Reference,
        path: Vec<String>,
        folder: &Path,
    ) -> Option<String> {
        match reference.resolve(folder) {
            Ok(resolved) => {
                if let Some(warning) = resolved.warning {
                    self.warning(path, warning.message, warning.hint);
                }
                Some(resolved.text)
            }
            Err(failure) => {
                self.error(path, failure.message, failure.hint);
                None
            }
        }
    }

    /// How many errors there are.
    pub(crate) fn errors(&self) -> usize {
        self.errors.len()
    }

    /// The errors, and the warnings.
    pub(crate) fn into_parts(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        (self.errors, self.warnings)
    }
}
