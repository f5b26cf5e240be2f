//! Secrets: tokens, client secrets, codes, verifiers.
//!
//! A [`Secret`] has no `Debug` and no `Display`, is compared in constant time, and is zeroed when
//! dropped, so that a log line or an error cannot carry one by accident. This file never prints,
//! formats or serialises a secret. In the clear a token leaves the process in two places only:
//! the `Authorization` header of an upstream request, and a request to the provider.

use zeroize::Zeroizing;

/// A string that must never be shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a string under protection.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The secret itself. Each call site is one place where a secret could leak: keep them few.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its length in bytes, which is no secret.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for Secret {}
