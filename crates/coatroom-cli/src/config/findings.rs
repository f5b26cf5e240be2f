//! What the checks of one file found: errors and warnings, each at its place in the document.

use std::path::Path;

use super::diagnostic::Diagnostic;
use super::document::Node;
use super::secret::{Reference, Remark};
use super::summary::Secret;

/// Collects, never stops.
pub(crate) struct Findings<'d> {
    root: &'d Node,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    secrets: Vec<Secret>,
}

/// All that was found.
pub(crate) struct Found {
    /// What is wrong.
    pub(crate) errors: Vec<Diagnostic>,
    /// What deserves a look.
    pub(crate) warnings: Vec<Diagnostic>,
    /// Which secrets were fetched, and from where.
    pub(crate) secrets: Vec<Secret>,
}

impl<'d> Findings<'d> {
    /// Nothing found yet.
    pub(crate) fn new(root: &'d Node) -> Self {
        Self {
            root,
            errors: Vec::new(),
            warnings: Vec::new(),
            secrets: Vec::new(),
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
        let (text, warning) = self.fetched(reference, path.clone(), folder)?;
        if let Some(warning) = warning {
            self.warning(path, warning.message, warning.hint);
        }
        Some(text)
    }

    /// Fetches what everybody may read, such as a certificate.
    pub(crate) fn public(
        &mut self,
        reference: &Reference,
        path: Vec<String>,
        folder: &Path,
    ) -> Option<String> {
        self.fetched(reference, path, folder).map(|(text, _)| text)
    }

    fn fetched(
        &mut self,
        reference: &Reference,
        path: Vec<String>,
        folder: &Path,
    ) -> Option<(String, Option<Remark>)> {
        match reference.resolve(folder) {
            Ok(resolved) => {
                self.secrets.push(Secret::new(path, reference));
                Some((resolved.text, resolved.warning))
            }
            Err(failure) => {
                self.error(path, failure.message, failure.hint);
                None
            }
        }
    }

    /// The first of these key paths that the document has, else the first.
    pub(crate) fn nearest(&self, paths: &[Vec<String>]) -> Vec<String> {
        let there = paths.iter().find(|path| self.root.has(path));
        there.or_else(|| paths.first()).cloned().unwrap_or_default()
    }

    /// How many errors there are.
    pub(crate) fn errors(&self) -> usize {
        self.errors.len()
    }

    /// All of it.
    pub(crate) fn into_parts(self) -> Found {
        Found {
            errors: self.errors,
            warnings: self.warnings,
            secrets: self.secrets,
        }
    }
}
