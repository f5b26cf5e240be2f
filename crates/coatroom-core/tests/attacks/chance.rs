//! Chance without surprise: a seeded splitmix64, and how many cases a generator makes.
//!
//! The same seed gives the same cases on every machine. Nothing here is random enough for anything
//! but tests.

/// A sequence that a seed decides.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).expect("small")).expect("small")
    }

    /// Once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// How many cases a generator makes: `usual`, or what `COATROOM_CASES` says.
#[expect(
    clippy::allow_attributes,
    reason = "the ban on the environment holds in one of the crates that share this file"
)]
#[allow(clippy::disallowed_methods, reason = "tests may be told how long to run")]
pub(crate) fn cases(usual: usize) -> usize {
    match std::env::var("COATROOM_CASES") {
        Ok(text) => text.parse().expect("COATROOM_CASES is a whole number"),
        Err(_) => usual,
    }
}

/// One line for whoever reads the test's output.
#[expect(clippy::print_stdout, reason = "how much was tried is part of the result")]
pub(crate) fn report(name: &str, cases: usize, escapes: &[String]) {
    println!("{name}: {cases} cases, {} escapes", escapes.len());
    assert!(
        escapes.is_empty(),
        "{name}: {:#?}",
        &escapes[..escapes.len().min(40)]
    );
}
