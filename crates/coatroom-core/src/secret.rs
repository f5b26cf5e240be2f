//! Secrets: tokens, client secrets, codes, verifiers.
//!
//! A [`Secret`] has no `Debug` and no `Display`, is compared in constant time, and is zeroed when
//! dropped, so that a log line or an error cannot carry one by accident. This file never prints,
//! formats or serialises a secret. In the clear a token leaves the process in two places only:
//! the `Authorization` header of an upstream request, and a request to the provider.

/// A string that must never be shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes a string under protection.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
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

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.0).into_bytes());
    }
}

/// Zeroes a buffer, all of its capacity, by one `memset`: `Zeroizing` writes each byte on its own,
/// which on a hot path costs more than a decryption.
pub(crate) fn wipe(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(buffer.capacity(), 0);
    // For the compiler somebody looks at the zeros now.
    zeroize::optimization_barrier(buffer.as_slice());
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for Secret {}
