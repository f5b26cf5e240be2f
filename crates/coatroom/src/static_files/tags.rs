//! Entity tags: a digest of the content, and a memory of the digests.
//!
//! Not of length and modification time: builds that set every time to the same moment make an
//! `index.html` of the same length with other file names in it, and a browser that is told "not
//! modified" then asks for files that are gone. Digests are the same on every replica. Only of a
//! large file the tag says where and when it was written. A digest is remembered under everything
//! that changes when a file is written or replaced, and not while the file is so young that a
//! second change could leave no trace.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The digests of one folder's files. Bounded.
#[derive(Default)]
pub(super) struct Tags {
    known: Mutex<HashMap<Stamp, String>>,
}

/// What cannot stay the same when a file is replaced or written to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Tags {
    /// The digest of an open file's content, which is left at its start.
    pub(super) fn digest(&self, file: &mut File, metadata: &Metadata, now: SystemTime) -> io::Result<String> {
        let stamp = Stamp::of(metadata);
        if let Some(stamp) = &stamp {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(digest) = known.get(stamp) {
                return Ok(digest.clone());
            }
        }
        let mut context = Context::new(&SHA256);
        match &stamp {
            Some(stamp) if metadata.len() > LARGE => stamp.feed(&mut context),
            Some(_) | None => feed_content(&mut context, file)?,
        }
        let digest = text(context);
        if let Some(stamp) = stamp
            && stamp.is_settled(now)
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(stamp, digest.clone());
        }
        Ok(digest)
    }
}

impl Stamp {
    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Option<Self> {
        None
    }

    /// Whether the last change is long enough ago that another one would show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(SystemTime::UNIX_EPOCH) else {
            return false;
        };
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        now.checked_sub(Duration::from_secs(changed))
            .is_some_and(|age| age > YOUNG)
    }

    fn feed(&self, context: &mut Context) {
        for part in [self.device, self.inode, self.length] {
            context.update(&part.to_le_bytes());
        }
        for part in [self.modified.0, self.modified.1, self.changed.0, self.changed.1] {
            context.update(&part.to_le_bytes());
        }
    }
}

/// A short digest of text, for what beside the content makes an answer another one.
pub(super) fn short<'t>(parts: impl IntoIterator<Item = &'t [u8]>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        context.update(part);
    }
    let mut digest = text(context);
    digest.truncate(6);
    digest
}

fn feed_content(context: &mut Context, file: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        context.update(buffer.get(..count).unwrap_or_default());
    }
    file.seek(SeekFrom::Start(0)).map(drop)
}

/// 120 bits: nobody meets two contents with one tag by chance, and nobody gains by making them.
fn text(context: Context) -> String {
    let digest = context.finish();
    URL_SAFE_NO_PAD.encode(digest.as_ref().get(..15).unwrap_or_default())
}

/// Files beyond this are not read to make a tag.
const LARGE: u64 = 16 * 1024 * 1024;

/// File systems tell times in steps; this is longer than any of them.
const YOUNG: Duration = Duration::from_secs(3);

/// How many digests are remembered.
const MOST: usize = 8192;

const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(tags: &Tags, path: &std::path::Path, now: SystemTime) -> String {
        let mut file = File::open(path).expect("there");
        let metadata = file.metadata().expect("readable");
        let digest = tags.digest(&mut file, &metadata, now).expect("read");
        assert_eq!(file.stream_position().expect("a position"), 0);
        digest
    }

    #[test]
    fn a_digest_follows_the_content_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for path in [&one, &two] {
            std::fs::write(path, "same").expect("a file");
        }
        let now = SystemTime::now();
        let tags = Tags::default();
        let first = digest(&tags, &one, now);
        assert_eq!(first, digest(&tags, &two, now));
        assert_eq!(first.len(), 20);
        std::fs::write(&one, "othr").expect("a file");
        let file = File::options().write(true).open(&one).expect("a file");
        let old = std::fs::metadata(&two)
            .expect("there")
            .modified()
            .expect("a time");
        file.set_modified(old).expect("set");
        assert_ne!(first, digest(&tags, &one, now), "same length, same time");
    }

    #[test]
    fn young_files_are_read_each_time_and_others_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        std::fs::write(&path, "a").expect("a file");
        let remembered = |now| {
            let tags = Tags::default();
            digest(&tags, &path, now);
            let known = tags.known.lock().expect("unpoisoned");
            known.len()
        };
        let now = SystemTime::now();
        assert_eq!(remembered(now), 0);
        assert_eq!(remembered(now - Duration::from_secs(100)), 0, "from the future");
        assert_eq!(remembered(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(remembered(now + Duration::from_secs(60)), 1);
    }

    #[test]
    fn a_large_file_has_a_tag_without_being_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let file = File::create(&path).expect("a file");
        // A hole: it takes no room, and reading it would take its time.
        file.set_len(LARGE + 1).expect("a hole");
        let now = SystemTime::now();
        let tags = Tags::default();
        let first = digest(&tags, &path, now);
        assert_eq!(first, digest(&tags, &path, now));
        file.set_len(LARGE + 2).expect("a hole");
        assert_ne!(first, digest(&tags, &path, now));
    }

    #[test]
    fn the_memory_is_bounded() {
        let tags = Tags::default();
        let stamp = |inode| Stamp {
            device: 1,
            inode,
            length: 1,
            modified: (0, 0),
            changed: (0, 0),
        };
        let mut known = tags.known.lock().expect("unpoisoned");
        for inode in 0..u64::try_from(MOST).expect("small") {
            known.insert(stamp(inode), String::new());
        }
        drop(known);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        std::fs::write(&path, "a").expect("a file");
        digest(&tags, &path, SystemTime::now() + Duration::from_secs(60));
        assert_eq!(tags.known.lock().expect("unpoisoned").len(), 1);
    }

    #[test]
    fn short_digests_tell_lists_apart() {
        let one = short([&b"ab"[..], b"c"]);
        assert_eq!(one.len(), 6);
        assert_ne!(one, short([&b"a"[..], b"bc"]));
    }
}
