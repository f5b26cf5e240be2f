//! Notices that a configuration, or a file it refers to, changed.
//!
//! By looking at each file's identity, size and times, not by asking the kernel to tell: that sees
//! what Kubernetes, network file systems and bind mounts do too (they swap symbolic links, or tell
//! nothing), and needs no descriptor. A change counts once nothing moves any more, so a file that
//! is being written is not read halfway. No content is read here.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config;

/// The files of one configuration as they were when it was last read.
pub(crate) struct Watch {
    file: PathBuf,
    paths: Vec<PathBuf>,
    /// As they were when they were read.
    known: Vec<Stamp>,
    /// As they were at the last look, if that was different.
    moving: Option<Vec<Stamp>>,
}

/// What tells two states of a file apart; none where there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(Option<[i64; 7]>);

impl Watch {
    /// Begins with the files as they are now: call it before they are read, so that a change
    /// in between is noticed.
    pub(crate) fn begin(file: &Path) -> Self {
        let mut watch = Self {
            file: file.to_owned(),
            paths: Vec::new(),
            known: Vec::new(),
            moving: None,
        };
        watch.mark();
        watch
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Takes the files as they are now for known: call it before they are read again.
    pub(crate) fn mark(&mut self) {
        self.paths = config::sources(&self.file);
        self.known = self.stamps();
        self.moving = None;
    }

    /// Whether something changed since the last mark, and nothing since the last look.
    pub(crate) fn has_changed(&mut self) -> bool {
        let now = self.stamps();
        if now == self.known {
            self.moving = None;
            return false;
        }
        let settled = self.moving.as_ref() == Some(&now);
        self.moving = Some(now);
        settled
    }

    fn stamps(&self) -> Vec<Stamp> {
        self.paths.iter().map(|path| Stamp::of(path)).collect()
    }
}

impl Stamp {
    fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().map(|metadata| {
            [
                metadata.dev().cast_signed(),
                metadata.ino().cast_signed(),
                metadata.size().cast_signed(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ]
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn set_up() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, key) = (
            folder.path().join("coatroom.yaml"),
            folder.path().join("coatroom.key"),
        );
        fs::write(&file, "keys: [{file: coatroom.key}]\n").expect("written");
        fs::write(&key, "1").expect("written");
        (folder, file, key)
    }

    #[test]
    fn a_change_counts_once_nothing_moves_any_more() {
        let (_folder, file, key) = set_up();
        let mut watch = Watch::begin(&file);
        assert!(!watch.has_changed());
        fs::write(&key, "22").expect("written");
        assert!(!watch.has_changed(), "it may still be written to");
        fs::write(&key, "333").expect("written");
        assert!(!watch.has_changed(), "it was");
        assert!(watch.has_changed());
        assert!(watch.has_changed(), "until it is read");
        watch.mark();
        assert!(!watch.has_changed());
    }

    #[test]
    fn what_goes_comes_or_is_swapped_is_a_change() {
        let (folder, file, key) = set_up();
        let other = folder.path().join("other");
        fs::write(&other, "1").expect("written");
        let changes: [(&str, &dyn Fn()); 4] = [
            ("removed", &|| fs::remove_file(&key).expect("removed")),
            ("back", &|| fs::write(&key, "1").expect("written")),
            ("renamed over", &|| {
                fs::rename(&other, &key).expect("renamed");
            }),
            ("a link to another file of the same content", &|| {
                fs::remove_file(&key).expect("removed");
                fs::write(&other, "1").expect("written");
                std::os::unix::fs::symlink(&other, &key).expect("linked");
            }),
        ];
        let mut watch = Watch::begin(&file);
        for (name, change) in changes {
            change();
            assert!(!watch.has_changed() && watch.has_changed(), "{name}");
            watch.mark();
        }
    }

    #[test]
    fn what_the_file_refers_to_now_is_watched_from_the_next_mark_on() {
        let (folder, file, _) = set_up();
        let second = folder.path().join("second.key");
        let mut watch = Watch::begin(&file);
        fs::write(&second, "1").expect("written");
        assert!(
            !watch.has_changed() && !watch.has_changed(),
            "nobody refers to it"
        );
        fs::write(&file, "keys: [{file: second.key}]\n").expect("written");
        assert!(!watch.has_changed() && watch.has_changed());
        watch.mark();
        fs::write(&second, "22").expect("written");
        assert!(!watch.has_changed() && watch.has_changed());
    }
}
