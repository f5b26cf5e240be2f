//! Randomness as the core knows it: an argument.
//!
//! Ids, state, nonces, verifiers and seal nonces draw from here. A shell passes the operating
//! system's generator; failure of that is fatal there, never here.

/// A source of unpredictable bytes. In production: the operating system's.
pub trait Rng {
    /// Fills the whole slice.
    fn fill(&mut self, out: &mut [u8]);
}

/// `N` random bytes.
pub(crate) fn random<const N: usize>(rng: &mut dyn Rng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill(&mut out);
    out
}

/// `N` random bytes as base64url without padding.
pub(crate) fn random_text<const N: usize>(rng: &mut dyn Rng) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random::<N>(rng))
}

#[cfg(test)]
pub(crate) mod testing {
    //! A generator whose bytes differ on every call and repeat in every run.

    /// Counts; unpredictable enough for tests only.
    pub(crate) struct Counter(pub(crate) u64);

    impl super::Rng for Counter {
        fn fill(&mut self, out: &mut [u8]) {
            for byte in out {
                self.0 = self
                    .0
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                *byte = (self.0 >> 33) as u8;
            }
        }
    }
}
