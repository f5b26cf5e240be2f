//! `coatroom keygen`: a new key on standard output, and nothing else there.
//!
//! It writes no file: `coatroom keygen > coatroom.key` leaves place and mode to the shell's umask.

use std::io::Write as _;

use anyhow::Context as _;
use coatroom_core::seal::MasterKey;

/// Prints a new key.
///
/// # Errors
/// When the system has no random bytes, or standard output takes none.
pub(crate) fn run() -> anyhow::Result<()> {
    let text = MasterKey::generate()?.to_text();
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("the key cannot be written to standard output")
}
