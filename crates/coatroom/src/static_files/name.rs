//! From a request's path to the name of a file, and what the name alone tells.
//!
//! A name is made of ordinary segments only: nothing that leads out of the folder, no dotfile,
//! nothing hidden by percent-encoding. Nothing here touches the file system.

use std::path::PathBuf;

/// The place of a file below the folder: ordinary segments, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    /// Relative; empty for the folder itself.
    pub(super) path: PathBuf,
    /// Whether the request's path ends in a slash, as only a folder's may.
    pub(super) is_folder: bool,
}

impl FileName {
    /// Takes the normalised path of a request.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        let is_folder = rest.is_empty() || rest.ends_with('/');
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut name = PathBuf::new();
        if !rest.is_empty() {
            for (depth, segment) in rest.split('/').enumerate() {
                let segment = decoded(segment)?;
                if !is_ordinary(&segment, depth) {
                    return None;
                }
                name.push(segment);
            }
        }
        Some(Self {
            path: name,
            is_folder,
        })
    }

    /// The page of the folder itself.
    pub(super) fn index() -> Self {
        Self {
            path: PathBuf::new(),
            is_folder: true,
        }
    }
}

/// Whether a segment names something that may be served; `/.well-known/` (RFC 8615) may.
pub(super) fn is_ordinary(segment: &str, depth: usize) -> bool {
    let hidden = segment.starts_with('.') && !(depth == 0 && segment == ".well-known");
    !segment.is_empty() && !hidden && !segment.contains(['/', '\\', '\0'])
}

/// Percent-decoded once; nothing when that is malformed or no UTF-8.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            u8::try_from(value).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

/// Whether the path asks for a file: its last segment has an extension.
pub(super) fn is_asset_like(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|last| last.contains('.'))
}

/// Whether the file's name carries a content hash, as bundlers write it: `app-3f2a9c1b.js`,
/// `main.3f2a9c1b.chunk.css`, `main-5YVL7XQJ.js`, `assets/index-DiwrgTda.js`.
///
/// Taking a plain name for a hash would keep an old file alive for a year, so words, dates and
/// version numbers must not pass; a hash that is missed is merely revalidated.
pub(super) fn has_content_hash(path: &str) -> bool {
    let mut segments = path.rsplit('/');
    let name = segments.next().unwrap_or_default();
    let in_assets = segments.next() == Some("assets");
    let Some((stem, _extension)) = name.rsplit_once('.') else {
        return false;
    };
    stem.split('.').enumerate().any(|(index, part)| {
        let after_dash = part.rsplit_once('-').map(|(_, tail)| tail);
        // Base64url hashes may hold a dash themselves: eight characters from the end.
        let last_eight = part
            .len()
            .checked_sub(8)
            .and_then(|at| part.split_at_checked(at))
            .filter(|(head, _)| head.ends_with('-'))
            .map(|(_, tail)| tail);
        let whole = (index > 0).then_some(part);
        [after_dash, whole].into_iter().flatten().any(is_hash)
            || last_eight.is_some_and(|tail| is_base64_hash(tail, in_assets))
    })
}

fn is_hash(text: &str) -> bool {
    let digits = text.bytes().any(|b| b.is_ascii_digit());
    let letters = text.bytes().any(|b| b.is_ascii_alphabetic());
    let hex = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let base32 = text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    digits && letters && ((hex && text.len() >= 8) || (base32 && text.len() == 8))
}

fn is_base64_hash(text: &str, in_assets: bool) -> bool {
    let count = |class: fn(&u8) -> bool| text.bytes().filter(class).count();
    let alphabet = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let mixed = count(u8::is_ascii_lowercase) > 0 && count(u8::is_ascii_uppercase) > 0;
    alphabet && mixed && (in_assets || count(u8::is_ascii_digit) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ordinary_segments_make_a_name() {
        for (path, name) in [
            ("/", Some("")),
            ("/a.js", Some("a.js")),
            ("/a/b.js", Some("a/b.js")),
            ("/a/", Some("a")),
            ("/%61.js", Some("a.js")),
            ("/a%20b", Some("a b")),
            ("/%C3%A9", Some("é")),
            ("/.well-known/security.txt", Some(".well-known/security.txt")),
            ("", None),
            ("a.js", None),
            ("//a.js", None),
            ("/a//b", None),
            ("/a//", None),
            ("/..", None),
            ("/a/../b", None),
            ("/.", None),
            ("/.env", None),
            ("/a/.env", None),
            ("/a/.well-known/x", None),
            ("/%2eenv", None),
            ("/%2E%2e/x", None),
            ("/a%2fb", None),
            ("/a%5cb", None),
            ("/a\\b", None),
            ("/a%00.html", None),
            ("/%", None),
            ("/%4", None),
            ("/%zz", None),
            ("/%+1", None),
            ("/%ff", None),
            ("/%c3", None),
            ("/...", None),
        ] {
            let found = FileName::parse(path).map(|name| name.path);
            assert_eq!(found, name.map(PathBuf::from), "{path}");
        }
        assert!(FileName::parse("/a/").is_some_and(|name| name.is_folder));
        assert!(FileName::parse("/a").is_some_and(|name| !name.is_folder));
    }

    #[test]
    fn content_hashes_are_told_from_words() {
        for (path, hashed) in [
            ("/app-3f2a9c1b.js", true),
            ("/static/js/main.3f2a9c1b.js", true),
            ("/static/js/main.8e6d3f1a.chunk.js", true),
            ("/main-5YVL7XQJ.js", true),
            ("/main.9dce6d6e0a1b2c3d.css", true),
            ("/assets/index-DiwrgTda.js", true),
            ("/assets/index-B-x3kQ9a.js", true),
            ("/assets/index-a_x3kQ9a.js.map", true),
            ("/build/index-Dix3kQ9a.js", true),
            ("/index.html", false),
            ("/service-worker.js", false),
            ("/my-component.js", false),
            ("/build/logo-MyBanner.svg", false),
            ("/photo-20240101.jpg", false),
            ("/assets/photo-20240101.jpg", false),
            ("/jquery-3.7.1.min.js", false),
            ("/chunk-deadbeef.js", false),
            ("/facade12.js", false),
            ("/app-3f2a9c1b", false),
            ("/a-é3f2a9c1.js", false),
            ("", false),
        ] {
            assert_eq!(has_content_hash(path), hashed, "{path}");
        }
    }
}
