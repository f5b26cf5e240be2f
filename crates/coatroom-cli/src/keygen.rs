//! `coatroom keygen`: a new key on standard output, and nothing else there.
//!
//! With `--proxy` the part of a key that an instance needs which only forwards API calls. It writes
//! no file: place and mode are the shell's, and the commands in hints ([`KEYGEN`]) keep others out.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use coatroom_core::seal::MasterKey;

/// Prints a new key.
///
/// # Errors
/// When the system has no random bytes, or standard output takes none.
pub(crate) fn run() -> anyhow::Result<()> {
    print(&MasterKey::generate()?.to_text())
}

/// Prints the proxy's part of the key in `file`; `-` is standard input.
///
/// # Errors
/// When the file cannot be read or holds no key.
pub(crate) fn proxy(file: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(LONGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_string(&mut text))
    };
    read.map_err(|error| {
        refused(&format!(
            "the key file {} cannot be read: {error}",
            file.display()
        ))
    })?;
    let key = MasterKey::parse(&text).map_err(|error| {
        refused(&format!(
            "{} is not a key of `coatroom keygen`: {error}",
            file.display()
        ))
    })?;
    print(&key.proxy_key().to_text())
}

fn refused(message: &str) -> anyhow::Error {
    anyhow::anyhow!("{message}\nhint: {PROXY_KEYGEN}")
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("the key cannot be written to standard output")
}

/// Makes a key that nobody else can read.
pub(crate) const KEYGEN: &str = "(umask 077; coatroom keygen > coatroom.key)";

/// Makes a proxy's part of it that nobody else can read.
pub(crate) const PROXY_KEYGEN: &str = "(umask 077; coatroom keygen --proxy --key coatroom.key > proxy.key)";

/// Longer than any key file.
const LONGEST: u64 = 64 * 1024;
