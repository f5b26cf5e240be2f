//! The file system as far as it may be seen: regular files and folders below one folder.
//!
//! A name is resolved first, symbolic links included, and what it resolves to must lie below the
//! folder and have no dotfile on the way. It is then opened from the folder downwards, segment by
//! segment and without following any link, so that nothing that is swapped in meanwhile leads out.
//! What is no regular file is never opened for reading. The folder itself may be a symbolic link
//! and is resolved anew for each request. Everything here blocks.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

/// The folder as it is at this moment.
pub(super) struct Folder {
    real: PathBuf,
    #[cfg(unix)]
    descriptor: std::os::fd::OwnedFd,
}

/// What a name stands for.
pub(super) enum Entry {
    /// A regular file, open for reading.
    File(File, Metadata),
    /// A folder.
    Folder,
}

impl Folder {
    /// Goes to where the folder is now.
    pub(super) fn enter(folder: &Path) -> io::Result<Self> {
        let real = folder.canonicalize()?;
        if !real.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self {
            #[cfg(unix)]
            descriptor: rustix::fs::open(&real, unix::SEARCH, rustix::fs::Mode::empty())?,
            real,
        })
    }

    /// What `name` stands for; nothing when it is not there, hidden or outside.
    pub(super) fn open(&self, name: &Path) -> io::Result<Option<Entry>> {
        let opened = self.real.join(name).canonicalize().and_then(|real| {
            let Ok(below) = real.strip_prefix(&self.real) else {
                return Ok(None);
            };
            if has_hidden_segment(below) {
                return Ok(None);
            }
            self.walk(below)
        });
        match opened {
            Err(error) if says_nothing_is_there(&error) => Ok(None),
            other => other,
        }
    }

    #[cfg(unix)]
    fn walk(&self, below: &Path) -> io::Result<Option<Entry>> {
        unix::walk(&self.descriptor, below)
    }

    #[cfg(not(unix))]
    fn walk(&self, below: &Path) -> io::Result<Option<Entry>> {
        let path = self.real.join(below);
        let metadata = path.metadata()?;
        if metadata.is_dir() {
            return Ok(Some(Entry::Folder));
        }
        if !metadata.is_file() {
            return Ok(None);
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then_some(Entry::File(file, metadata)))
    }
}

/// As for names of requests, but for what they resolve to, whose names need not be UTF-8.
fn has_hidden_segment(below: &Path) -> bool {
    below.components().enumerate().any(|(depth, component)| {
        let Component::Normal(name) = component else {
            return true;
        };
        name.as_encoded_bytes().starts_with(b".") && !(depth == 0 && name == ".well-known")
    })
}

/// Errors by which the operating system says that a name leads nowhere, or nowhere for us.
fn says_nothing_is_there(error: &io::Error) -> bool {
    let kind = matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput
    );
    #[cfg(unix)]
    let is_loop = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    #[cfg(not(unix))]
    let is_loop = false;
    kind || is_loop
}

#[cfg(unix)]
mod unix {
    use std::os::fd::{AsFd as _, OwnedFd};

    use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

    use super::{Component, Entry, File, Path, io};

    /// For a folder on the way down.
    pub(super) const SEARCH: OFlags = {
        let flags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
        // A folder that may be searched and not listed is good enough.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let flags = flags.union(OFlags::PATH);
        flags
    };

    /// For a file; a pipe that was swapped in must not keep us waiting.
    const READ: OFlags = OFlags::RDONLY
        .union(OFlags::CLOEXEC)
        .union(OFlags::NOFOLLOW)
        .union(OFlags::NONBLOCK)
        .union(OFlags::NOCTTY);

    pub(super) fn walk(folder: &OwnedFd, below: &Path) -> io::Result<Option<Entry>> {
        let mut held: Option<OwnedFd> = None;
        let mut components = below.components().peekable();
        while let Some(component) = components.next() {
            let Component::Normal(name) = component else {
                return Ok(None);
            };
            let here = held.as_ref().unwrap_or(folder).as_fd();
            let kind = FileType::from_raw_mode(statat(here, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
            match kind {
                FileType::Directory => held = Some(openat(here, name, SEARCH, Mode::empty())?),
                FileType::RegularFile if components.peek().is_none() => {
                    let file = File::from(openat(here, name, READ, Mode::empty())?);
                    let metadata = file.metadata()?;
                    return Ok(metadata.is_file().then_some(Entry::File(file, metadata)));
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(Entry::Folder))
    }
}
