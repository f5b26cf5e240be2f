//! Paths in one normal form (RFC 3986 §6.2.2), or refused.
//!
//! A path that two readers could read differently is refused, never repaired: what is left to
//! decode after this file is the same for everybody. [`skeleton`] is what the most lenient reader
//! would make of a normal path, for the rule that no such reading may lead past another route.

use std::borrow::Cow;

use crate::error::Error;

/// A path in the one normal form: no empty, `.` or `..` segments however they are written, no
/// hidden separators, unreserved characters decoded, hexadecimal digits in upper case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'a>(Cow<'a, str>);

/// A request target: its path in normal form, its query as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path.
    pub path: NormalPath<'a>,
    /// What came after the `?`.
    pub query: Option<&'a str>,
}

/// A route's path prefix in normal form. `/api` and `/api/` are the same prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePrefix {
    /// Without a trailing slash; empty for the root.
    pub(super) path: String,
    /// What a lenient upstream would make of it, see [`skeleton`].
    pub(super) skeleton: String,
}

impl<'a> NormalPath<'a> {
    /// Brings a path into normal form; borrowed when it is in it already.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for everything that two readers could read differently.
    pub fn parse(path: &'a str) -> Result<Self, Error> {
        if !path.starts_with('/') {
            return Err(Error::InvalidRequest("the path does not start with a slash"));
        }
        if path.bytes().all(|b| b == b'/' || is_pchar(b)) {
            if path.contains('.') || path.as_bytes().windows(2).any(|two| two == b"//") {
                check_segments(path)?;
            }
            return Ok(Self(Cow::Borrowed(path)));
        }
        let normal = rewrite(path)?;
        check_segments(&normal)?;
        check_escapes(&normal)?;
        Ok(Self(if normal == path {
            Cow::Borrowed(path)
        } else {
            Cow::Owned(normal)
        }))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> Target<'a> {
    /// Splits a request target in origin form (RFC 9112 §3.2.1).
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a path without a normal form, a fragment, or characters that
    /// no target may have.
    pub fn parse(target: &'a str) -> Result<Self, Error> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        if query.is_some_and(|query| !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#')) {
            return Err(Error::InvalidRequest(
                "the query has a character that a request target cannot have",
            ));
        }
        Ok(Self {
            path: NormalPath::parse(path)?,
            query,
        })
    }
}

impl RoutePrefix {
    /// Takes a prefix that is in normal form already.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when it is not, or has path parameters.
    pub fn parse(prefix: &str) -> Result<Self, Error> {
        let normal = NormalPath::parse(prefix)?;
        if normal.as_str() != prefix || prefix.contains([';', ',']) {
            return Err(Error::InvalidRequest("the prefix is not in normal form"));
        }
        let path = prefix.strip_suffix('/').unwrap_or(prefix);
        Ok(Self {
            path: path.to_owned(),
            skeleton: skeleton(path).into_owned(),
        })
    }

    /// The prefix without a trailing slash; `/` for the root.
    pub fn as_str(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// Whether a path is this prefix or below it, by whole segments.
    pub fn matches(&self, path: &NormalPath<'_>) -> bool {
        below(path.as_str(), &self.path).is_some()
    }

    /// Whether every reader takes it for what it says.
    pub(super) fn is_plain(&self) -> bool {
        self.path == self.skeleton
    }

    /// Whether this prefix is `path` or below it, so that `path` always comes first.
    pub(crate) fn is_at_or_below(&self, path: &str) -> bool {
        below(&self.path, path).is_some()
    }

    /// The path without this prefix, starting with a slash; the whole path if it does not match.
    pub fn strip<'p>(&self, path: &'p NormalPath<'_>) -> &'p str {
        match below(path.as_str(), &self.path) {
            Some("") => "/",
            Some(rest) => rest,
            None => path.as_str(),
        }
    }
}

/// What follows `prefix` in `path` if it is above it by whole segments.
pub(super) fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// RFC 3986 §3.3, without percent-encoding.
fn is_pchar(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Refuses empty segments (but for a trailing slash) and segments that are nothing but dots once
/// parameters and blanks are taken off.
fn check_segments(path: &str) -> Result<(), Error> {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(Error::InvalidRequest("the path has an empty segment"));
        }
        let name = segment.split(SEMICOLONS).next().unwrap_or_default().trim();
        if !name.is_empty() && name.chars().all(|c| DOTS.contains(&c)) {
            return Err(Error::InvalidRequest("the path has a dot segment"));
        }
    }
    Ok(())
}

/// One level of percent-encoding: unreserved characters decoded, the rest encoded in upper case.
fn rewrite(path: &str) -> Result<String, Error> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match *byte {
            b'%' => {
                let (value, tail) = escaped(tail)
                    .ok_or(Error::InvalidRequest("the path has a malformed percent-encoding"))?;
                rest = tail;
                if matches!(value, b'/' | b'\\') || value.is_ascii_control() {
                    return Err(Error::InvalidRequest(
                        "the path has an encoded separator or control character",
                    ));
                }
                if is_unreserved(value) {
                    normal.push(char::from(value));
                } else {
                    push_escaped(&mut normal, value);
                }
            }
            b'/' => normal.push('/'),
            byte if is_pchar(byte) => normal.push(char::from(byte)),
            byte if b"\"<>[]^`{|}".contains(&byte) => push_escaped(&mut normal, byte),
            _ => {
                return Err(Error::InvalidRequest(
                    "the path has a character that a request target cannot have",
                ));
            }
        }
    }
    Ok(normal)
}

/// Refuses what only shows after decoding once (invalid UTF-8, controls) or more than once
/// (separators, dots, controls).
fn check_escapes(normal: &str) -> Result<(), Error> {
    let refused = Error::InvalidRequest("the path has a doubly encoded separator, dot or control character");
    let not_utf8 = Error::InvalidRequest("the path is not UTF-8 once decoded");
    let mut text = match decoded(normal, |_| true) {
        Some(Ok(text)) => text,
        Some(Err(())) => return Err(not_utf8),
        None => return Ok(()),
    };
    for _ in 0..MAX_NESTING {
        check_segments(&text)?;
        if text.chars().any(|c| c.is_control() || SLASHES.contains(&c)) || has_unicode_escape(&text) {
            return Err(refused);
        }
        let hidden = |byte: u8| !matches!(byte, b'/' | b'\\' | b'.') && !byte.is_ascii_control();
        match decoded(&text, hidden) {
            Some(Ok(next)) => text = next,
            Some(Err(())) => return Err(refused),
            None => return Ok(()),
        }
    }
    Err(Error::InvalidRequest("the path is encoded too many times"))
}

/// Whether no reader takes a normal path for anything but what it says, see [`skeleton`].
pub(super) fn is_plain(normal: &str) -> bool {
    let mut after_dot = false;
    let plain = normal.bytes().all(|b| {
        let droppable = after_dot && b == b'/';
        after_dot = b == b'.';
        !droppable && !matches!(b, b'%' | b';' | b'A'..=b'Z')
    });
    plain && !after_dot
}

/// What a reader that drops everything droppable sees: fully decoded, without path parameters, a
/// query or fragment that only shows then, trailing dots and blanks, case, compatibility forms
/// (NFKC), and empty segments. No trailing slash; empty for the root.
pub(super) fn skeleton(normal: &str) -> Cow<'_, str> {
    if is_plain(normal) {
        return Cow::Borrowed(normal.strip_suffix('/').unwrap_or(normal));
    }
    let mut text = Cow::Borrowed(normal);
    for _ in 0..=MAX_NESTING {
        match decoded(&text, |_| true) {
            Some(Ok(next)) => text = Cow::Owned(next),
            Some(Err(())) | None => break,
        }
    }
    if !text.is_ascii() {
        text = Cow::Owned(text.chars().map(compatible).collect());
    }
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let mut reading = String::with_capacity(text.len());
    for segment in text.split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        let name = name.trim_end_matches([' ', '.']);
        if !name.is_empty() {
            reading.push('/');
            // There and back, so that letters with one upper case (such as the long s) meet.
            reading.push_str(&name.to_uppercase().to_lowercase());
        }
    }
    Cow::Owned(reading)
}

/// `text` with well-formed escapes decoded once: nothing if there are none, an error if a decoded
/// byte is not acceptable or the result is not UTF-8.
fn decoded(text: &str, acceptable: impl Fn(u8) -> bool) -> Option<Result<String, ()>> {
    let mut found = false;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match escaped(tail) {
            Some((value, _)) if *byte == b'%' && !acceptable(value) => return Some(Err(())),
            Some((value, tail)) if *byte == b'%' => {
                found = true;
                bytes.push(value);
                rest = tail;
            }
            _ => bytes.push(*byte),
        }
    }
    found.then(|| String::from_utf8(bytes).map_err(drop))
}

/// The ASCII character that a reader takes this for once it normalises compatibility forms (NFKC, or
/// the best fit of an old code page).
fn compatible(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => u32::from(character)
            .checked_sub(0xfee0)
            .and_then(char::from_u32)
            .unwrap_or(character),
        _ if DOTS.contains(&character) => '.',
        _ if SEMICOLONS.contains(&character) => ';',
        _ => character,
    }
}

/// `%u002f`, as some servers read it.
fn has_unicode_escape(text: &str) -> bool {
    text.as_bytes().windows(6).any(
        |window| matches!(window, [b'%', b'u' | b'U', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit)),
    )
}

fn escaped(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, tail @ ..] = bytes else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(((digit(*high)? << 4) | digit(*low)?, tail))
}

fn push_escaped(text: &mut String, byte: u8) {
    let digit = |d: u8| {
        char::from_digit(u32::from(d), 16)
            .unwrap_or('0')
            .to_ascii_uppercase()
    };
    text.push('%');
    text.push(digit(byte >> 4));
    text.push(digit(byte & 15));
}

/// Characters that some reader takes for a dot: the dot, and what Unicode normalisation makes one.
const DOTS: [char; 9] = [
    '.', '\u{2024}', '\u{2025}', '\u{2026}', '\u{3002}', '\u{fe19}', '\u{fe52}', '\u{ff0e}', '\u{ff61}',
];

/// Characters beyond ASCII that some reader takes for a slash or a backslash, or for text with one.
const SLASHES: [char; 10] = [
    '\u{2044}', '\u{2215}', '\u{2216}', '\u{fe68}', '\u{ff0f}', '\u{ff3c}', '\u{2100}', '\u{2101}',
    '\u{2105}', '\u{2106}',
];

/// Characters that some reader takes for the semicolon in front of path parameters.
const SEMICOLONS: [char; 4] = [';', '\u{37e}', '\u{fe54}', '\u{ff1b}'];

/// How often a path may be encoded before nobody can tell what it means.
const MAX_NESTING: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_normal_form() {
        for (written, normal) in [
            ("/", "/"),
            ("/api/orders", "/api/orders"),
            ("/api/", "/api/"),
            ("/%61pi/%7Euser", "/api/~user"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b%2520c", "/a%20b%2520c"),
            ("/a%23b%3fc", "/a%23b%3Fc"),
            ("/%2ewell-known/x", "/.well-known/x"),
            ("/items[0]|{x}\"^`<>", "/items%5B0%5D%7C%7Bx%7D%22%5E%60%3C%3E"),
            ("/a;v=1/b:c@d", "/a;v=1/b:c@d"),
            ("/a%3bv", "/a%3Bv"),
            ("/v1.2/a..b", "/v1.2/a..b"),
            ("/;jsessionid=1", "/;jsessionid=1"),
            ("/100%25", "/100%25"),
        ] {
            let parsed = NormalPath::parse(written).expect(written);
            assert_eq!(parsed.as_str(), normal, "{written}");
            let again = NormalPath::parse(parsed.as_str()).expect("a normal path is accepted");
            assert_eq!(again.as_str(), parsed.as_str(), "{written}");
            assert!(matches!(again.0, Cow::Borrowed(_)), "{written}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        for path in [
            "",
            "*",
            "api",
            "http://x/api",
            "//",
            "//api",
            "/api//x",
            "/a//",
            "/.",
            "/..",
            "/./a",
            "/a/..",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/%2e/a",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/.;/b",
            "/a/..%3b/b",
            "/a/..%3Bx/b",
            "/a/%2e%2e;x/b",
            "/a/...",
            "/a/..%20/b",
            "/a/%20../b",
            "/a/%ef%bc%8e%ef%bc%8e/b",
            "/a/%e2%80%a6/b",
            "/a/%e3%80%82/b",
            "/a/%ef%b9%92%ef%b9%92/b",
            "/a/..%ef%bc%9b/b",
            "/a/..%cd%bex/b",
            "/a%ef%bc%8fb",
            "/a%ef%bc%bcb",
            "/a%ef%b9%a8b",
            "/a%e2%88%95b",
            "/a%e2%88%96b",
            "/a%e2%81%84b",
            "/%e2%84%80",
            "/a%25ef%25bc%258fb",
            "/a\\b",
            "/\\a",
            "/a%5cb",
            "/a%5C..",
            "/a%2fb",
            "/a%2Fb",
            "/..%2fa",
            "/a%00",
            "/a%0a",
            "/a%0d%0aX: y",
            "/a%7f",
            "/a%09",
            "/a\tb",
            "/a\nb",
            "/a\rb",
            "/a b",
            "/a\0",
            "/café",
            "/a#b",
            "/#",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
            "/a%u002f",
            "/a%c0%af",
            "/a%ff",
            "/a%c3",
            "/a%ed%a0%80",
            "/a%c2%80",
            "/a%c2%9b",
            "/a%252fb",
            "/a%252Fb",
            "/a%255cb",
            "/a%252e%252e/b",
            "/a/%252e%252e/b",
            "/a%2500",
            "/a%250d",
            "/a%25252fb",
            "/a%25252e",
            "/a%2525252f",
            "/a%252525252f",
            "/a%25c0%25af",
            "/a%25u002f",
            "/a%252525252525",
            "/a%25252525252541",
            "/a%%32%66",
            "/a%25%32%66",
            "/a%2%66",
        ] {
            assert!(
                matches!(NormalPath::parse(path), Err(Error::InvalidRequest(_))),
                "{path:?} was accepted"
            );
        }
    }

    #[test]
    fn a_target_is_split_at_the_first_question_mark() {
        let target = Target::parse("/a?b=/../c?d%0a").expect("a query is not a path");
        assert_eq!(target.path.as_str(), "/a");
        assert_eq!(target.query, Some("b=/../c?d%0a"));
        assert_eq!(Target::parse("/a").expect("plain").query, None);
        assert_eq!(Target::parse("/a?").expect("plain").query, Some(""));
        for bad in ["/a?b#c", "/a#b?c", "/a?b c", "/a?\u{e9}", "/a?\r", "?a", "*"] {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        let rows = [
            ("/api/", "/api", Some("/")),
            ("/api/", "/api/", Some("/")),
            ("/api", "/api/x/y", Some("/x/y")),
            ("/api", "/apix", None),
            ("/api", "/API", None),
            ("/api", "/api;x", None),
            ("/", "/", Some("/")),
            ("/", "/x", Some("/x")),
            ("/a/b", "/a", None),
            ("/a/b", "/a/b/", Some("/")),
        ];
        for (prefix, path, stripped) in rows {
            let prefix = RoutePrefix::parse(prefix).expect("a good prefix");
            let path = NormalPath::parse(path).expect("a good path");
            assert_eq!(prefix.matches(&path), stripped.is_some(), "{prefix:?} {path:?}");
            assert_eq!(prefix.strip(&path), stripped.unwrap_or(path.as_str()));
        }
        assert_eq!(RoutePrefix::parse("/api/"), RoutePrefix::parse("/api"));
        assert_eq!(RoutePrefix::parse("/").expect("root").as_str(), "/");
    }

    #[test]
    fn a_prefix_that_is_not_in_normal_form_is_refused() {
        for prefix in [
            "",
            "api",
            "/%61pi",
            "/a//",
            "/a/../b",
            "/a;x",
            "/a,b",
            "/caf%c3%a9",
            "/a b",
        ] {
            assert!(RoutePrefix::parse(prefix).is_err(), "{prefix:?}");
        }
        assert!(RoutePrefix::parse("/caf%C3%A9").is_ok());
    }

    #[test]
    fn a_skeleton_drops_what_some_reader_drops() {
        for (normal, reading) in [
            ("/", ""),
            ("/api/x", "/api/x"),
            ("/api/", "/api"),
            ("/API;v=1/X.", "/api/x"),
            ("/api%3Bv/x%20", "/api/x"),
            ("/%2561pi", "/api"),
            ("/;x/api", "/api"),
            ("/%C5%BFhop", "/shop"),
            ("/%E2%84%AAey", "/key"),
            ("/%EF%BD%81%EF%BC%B0i", "/api"),
            ("/api%3F/x", "/api"),
            ("/api/x%23y/z", "/api/x"),
            ("/api%E3%80%82%EF%BC%9Bx/y%EF%BC%8E", "/api/y"),
            ("/v1.2", "/v1.2"),
        ] {
            assert_eq!(skeleton(normal), reading, "{normal}");
        }
    }
}
