//! A YAML document as a tree in which every node knows where it is written.
//!
//! The parser (serde-saphyr) runs once, under limits that bound aliases, depth and size; types are
//! read from the tree, and errors found later point into it. Its own error texts quote the file,
//! so they are replaced by ours. No value is interpreted here: `30m`, `true` and `12` are text.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use super::diagnostic::Diagnostic;
use super::mask;

/// One node of the document.
pub(crate) struct Node {
    /// Its number in the document: two uses of one anchor differ.
    pub(crate) id: usize,
    /// Where it is written, in bytes. For an alias: where its anchor is.
    pub(crate) span: Range<usize>,
    /// Whether it stands under a key that names secrets.
    pub(crate) sensitive: bool,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a node is.
pub(crate) enum Kind {
    /// `key:` without a value, `null` or `~`.
    Null,
    /// Text as written, and whether it was in quotes (then `"true"` is no boolean).
    Scalar {
        /// The text, without its quotes.
        text: String,
        /// Whether it was quoted, so that it can only be text.
        quoted: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the file.
    Mapping(Vec<Entry>),
}

/// One entry of a mapping.
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: String,
    /// Where the key is written.
    pub(crate) key_span: Range<usize>,
    /// The value.
    pub(crate) value: Node,
}

/// Reads a document.
///
/// # Errors
/// The one thing that keeps it from being YAML, and the position.
pub(crate) fn parse(source: &str) -> Result<Node, Box<Diagnostic>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_events: 50_000,
            max_nodes: 50_000,
            max_aliases: 200,
            max_anchors: 200,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 100,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        reject_unsupported_tags: true,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(source, options)
        .map_err(|error| Box::new(diagnose(source, &error)))?;
    Ok(Build { source, next_id: 0 }.node(raw, false))
}

impl Node {
    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Null | Kind::Sequence(_) | Kind::Mapping(_) => None,
        }
    }

    /// The entry of a mapping.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_) => None,
        }
    }

    /// The highest number in this tree.
    pub(crate) fn last_id(&self) -> usize {
        self.children().map(Self::last_id).fold(self.id, usize::max)
    }

    /// Moves a tree behind another: its numbers and its positions.
    pub(crate) fn shift(&mut self, ids: usize, bytes: usize) {
        self.id += ids;
        self.span = self.span.start + bytes..self.span.end + bytes;
        match &mut self.kind {
            Kind::Null | Kind::Scalar { .. } => {}
            Kind::Sequence(items) => items.iter_mut().for_each(|item| item.shift(ids, bytes)),
            Kind::Mapping(entries) => {
                for entry in entries {
                    entry.key_span = entry.key_span.start + bytes..entry.key_span.end + bytes;
                    entry.value.shift(ids, bytes);
                }
            }
        }
    }

    /// This tree stands under a key that names secrets.
    pub(crate) fn mark_sensitive(&mut self) {
        self.sensitive = true;
        match &mut self.kind {
            Kind::Null | Kind::Scalar { .. } => {}
            Kind::Sequence(items) => items.iter_mut().for_each(Self::mark_sensitive),
            Kind::Mapping(entries) => entries.iter_mut().for_each(|entry| entry.value.mark_sensitive()),
        }
    }

    /// The nodes directly below.
    pub(crate) fn children(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        match &self.kind {
            Kind::Null | Kind::Scalar { .. } => Box::new(std::iter::empty()),
            Kind::Sequence(items) => Box::new(items.iter()),
            Kind::Mapping(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        }
    }

    /// Whether there is something at a key path.
    pub(crate) fn has(&self, path: &[String]) -> bool {
        let Some((name, rest)) = path.split_first() else {
            return true;
        };
        let next = match &self.kind {
            Kind::Mapping(entries) => entries
                .iter()
                .find(|entry| entry.key == *name)
                .map(|entry| &entry.value),
            Kind::Sequence(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
            Kind::Null | Kind::Scalar { .. } => None,
        };
        next.is_some_and(|next| next.has(rest))
    }

    /// Where to point for a key path: at the value if it is a scalar, else at its key, else at the
    /// nearest parent that exists.
    pub(crate) fn locate(&self, path: &[String]) -> Range<usize> {
        let mut node = self;
        let mut span = self.span.start..self.span.start;
        for name in path {
            match &node.kind {
                Kind::Mapping(entries) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == *name) else {
                        return span;
                    };
                    span = match entry.value.kind {
                        Kind::Scalar { .. } => entry.value.span.clone(),
                        Kind::Null | Kind::Sequence(_) | Kind::Mapping(_) => entry.key_span.clone(),
                    };
                    node = &entry.value;
                }
                Kind::Sequence(items) => {
                    let Some(item) = name.parse().ok().and_then(|index: usize| items.get(index)) else {
                        return span;
                    };
                    span = match item.kind {
                        Kind::Scalar { .. } => item.span.clone(),
                        Kind::Null | Kind::Sequence(_) | Kind::Mapping(_) => item.span.start..item.span.start,
                    };
                    node = item;
                }
                Kind::Null | Kind::Scalar { .. } => return span,
            }
        }
        span
    }

    /// The key path of the node with this number; parts that may be secrets are left out.
    pub(crate) fn path_of(&self, id: usize) -> Option<Vec<String>> {
        if self.id == id {
            return Some(Vec::new());
        }
        let (name, mut rest) = match &self.kind {
            Kind::Null | Kind::Scalar { .. } => return None,
            Kind::Sequence(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, item)| Some((index.to_string(), item.path_of(id)?)))?,
            Kind::Mapping(entries) => entries.iter().find_map(|entry| {
                let hidden = self.sensitive && !mask::REFERENCES.contains(&entry.key.as_str());
                let name = if hidden { "…" } else { &entry.key };
                Some((name.to_owned(), entry.value.path_of(id)?))
            })?,
        };
        rest.insert(0, name);
        Some(rest)
    }
}

/// A key path as people write it: `apps.shop.routes[/api/].upstream`, `keys[0]`.
pub(crate) fn dotted(path: &[String]) -> String {
    let mut out = String::new();
    for name in path {
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !plain {
            out.push('[');
            out.extend(name.chars().filter(|c| !c.is_control()));
            out.push(']');
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(name);
        }
    }
    out
}

/// What the parser hands over, before spans are bytes.
enum Raw {
    Null,
    /// A plain scalar that could be more than text; its text is read from the source.
    Typed,
    Text(String),
    Sequence(Vec<Spanned<Self>>),
    Mapping(Vec<(Spanned<String>, Spanned<Self>)>),
}

struct Build<'s> {
    source: &'s str,
    next_id: usize,
}

impl Build<'_> {
    fn node(&mut self, raw: Spanned<Raw>, sensitive: bool) -> Node {
        let id = self.next_id;
        self.next_id += 1;
        let span = bytes(self.source, raw.defined);
        let kind = match raw.value {
            Raw::Null => Kind::Null,
            Raw::Typed => Kind::Scalar {
                text: self
                    .source
                    .get(span.clone())
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
                quoted: false,
            },
            Raw::Text(text) => {
                let quoted = self
                    .source
                    .get(span.clone())
                    .is_some_and(|written| written.starts_with(['"', '\'']));
                Kind::Scalar { text, quoted }
            }
            Raw::Sequence(items) => {
                Kind::Sequence(items.into_iter().map(|item| self.node(item, sensitive)).collect())
            }
            Raw::Mapping(entries) => Kind::Mapping(
                entries
                    .into_iter()
                    .map(|(key, value)| Entry {
                        key_span: bytes(self.source, key.defined),
                        value: self.node(value, sensitive || mask::is_sensitive(&key.value)),
                        key: key.value,
                    })
                    .collect(),
            ),
        };
        Node {
            id,
            span,
            sensitive,
            kind,
        }
    }
}

/// The bytes a location covers; without byte offsets, the rest of its line.
fn bytes(source: &str, location: Location) -> Range<usize> {
    let span = location.span();
    if let (Some(start), Some(len)) = (span.byte_offset(), span.byte_len()) {
        let to_usize = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let start = to_usize(start).min(source.len());
        let end = start.saturating_add(to_usize(len)).min(source.len());
        if source.is_char_boundary(start) && source.is_char_boundary(end) {
            return start..end;
        }
    }
    let line = usize::try_from(location.line().saturating_sub(1)).unwrap_or(usize::MAX);
    let column = usize::try_from(location.column().saturating_sub(1)).unwrap_or(usize::MAX);
    let mut start = 0;
    for (number, text) in source.split_inclusive('\n').enumerate() {
        let end = start + text.trim_end_matches(['\n', '\r']).len();
        if number == line {
            let skip: usize = text.chars().take(column).map(char::len_utf8).sum();
            return (start + skip).min(end)..end;
        }
        start += text.len();
    }
    source.len()..source.len()
}

/// The parser's error in our words: never a scalar, never a line of the file.
fn diagnose(source: &str, error: &serde_saphyr::Error) -> Diagnostic {
    use serde_saphyr::Error as E;
    let mut error = error.without_snippet();
    while let E::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
    }
    let (message, hint) = match error {
        E::ExternalMessage { msg, .. } => (
            format!("this is not valid YAML: {msg}"),
            "indent with spaces, two a level; quote a value that holds `: `, ` #` or starts with one of {[&*!|>'\"%@`",
        ),
        E::DuplicateMappingKey { .. } => ("this key is already there".to_owned(), "keep one of the two"),
        E::MultipleDocuments { .. } => (
            "the file holds more than one YAML document".to_owned(),
            "keep one document",
        ),
        E::UnknownAnchor { .. } => (
            "this alias names no anchor".to_owned(),
            "quote the value if it was not meant as an alias: \"*…\"",
        ),
        E::Budget { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. }
        | E::AliasReplayCounterOverflow { .. } => (
            "the file is nested too deeply, too long, or uses too many aliases".to_owned(),
            "write repeated parts out instead of using anchors and aliases",
        ),
        E::TaggedScalarCannotDeserializeIntoString { .. } | E::InvalidScalar { .. } | E::Message { .. } => (
            "this value cannot be read".to_owned(),
            "remove the tag (`!…`), or quote the value",
        ),
        E::Eof { .. } => (
            "the file ends where a value was expected".to_owned(),
            "see the smallest useful file in the README",
        ),
        _ => (
            "this is not valid YAML".to_owned(),
            "keys are plain text, and tags (`!…`) and merge keys of anything but mappings are not supported",
        ),
    };
    Diagnostic {
        at: error.location().map(|location| bytes(source, location)),
        path: Vec::new(),
        message,
        hint: hint.to_owned(),
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML node")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element()? {
            out.push(item);
        }
        Ok(Raw::Sequence(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut out = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            out.push(entry);
        }
        Ok(Raw::Mapping(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn tree(source: &str) -> Node {
        parse(source).unwrap_or_else(|error| panic!("{}", error.message))
    }

    #[test]
    fn scalars_keep_the_text_they_were_written_with() {
        let source = "a: 0123\nb: yes\nc: 1.50\nd: \"x\\ty\"\ne: 'true'\nf: true\ng: 30m\nh: 0x10\ni: .inf\nj: 1_000\n";
        let root = tree(source);
        let Kind::Mapping(entries) = &root.kind else {
            panic!("a mapping")
        };
        let texts: Vec<_> = entries
            .iter()
            .map(|entry| entry.value.text().unwrap_or("-"))
            .collect();
        assert_eq!(
            texts,
            [
                "0123", "yes", "1.50", "x\ty", "true", "true", "30m", "0x10", ".inf", "1_000"
            ]
        );
        let quoted: Vec<_> = entries
            .iter()
            .filter(|entry| matches!(entry.value.kind, Kind::Scalar { quoted: true, .. }))
            .map(|entry| entry.key.as_str())
            .collect();
        assert_eq!(quoted, ["d", "e"]);
    }

    #[test]
    fn every_node_knows_where_it_is_written() {
        let source = "é: 1\nlist:\n  - one\n  - {two: \"zwei\"}\nanchor: &a text\nalias: *a\n";
        let root = tree(source);
        for (names, written) in [
            (&["é"] as &[&str], "1"),
            (&["list"], "list"),
            (&["list", "0"], "one"),
            (&["list", "1", "two"], "\"zwei\""),
            (&["list", "1", "missing"], ""),
            (&["list", "9"], "list"),
            (&["anchor"], "text"),
            (&["alias"], "text"),
            (&["missing", "below"], ""),
        ] {
            assert_eq!(&source[root.locate(&path(names))], written, "{names:?}");
        }
    }

    #[test]
    fn secrets_are_covered_wherever_they_are_written() {
        for source in [
            "client_secret: hunter2\n",
            "client_secret: \"hunter2\"\n",
            "client_secret: |\n  hunter2\n  more\n",
            "client_secret: >-\n  a\n  hunter2\n",
            "client_secret: a\n  hunter2\n",
            "client_secret: {env: hunter2}\n",
            "client_secret: {hunter2}\n",
            "client_secret: {hunter2: x}\n",
            "client_secret: [hunter2]\n",
            "keys:\n- hunter2\n",
            "x: &s hunter2\nclient_secret: *s\n",
            "x: &s {file: hunter2}\nclient_secret: *s\n",
            "a: &s {client_secret: hunter2}\nb: {<<: *s}\n",
        ] {
            let mut masks = Vec::new();
            mask::secrets(&tree(source), &mut masks);
            let at = source.find("hunter2").expect("the table holds a canary");
            assert!(
                masks.iter().any(|mask| mask.start <= at && at + 7 <= mask.end),
                "{source}{masks:?}"
            );
        }
    }

    #[test]
    fn what_is_not_one_bounded_document_is_refused_without_being_quoted() {
        let bomb = format!(
            "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [{0}]\nc: &c [{1}]\nd: &d [{2}]\ne: [{3}]\n",
            ["*a"; 10].join(","),
            ["*b"; 10].join(","),
            ["*c"; 10].join(","),
            ["*d"; 10].join(","),
        );
        let deep = format!("a: {}{}", "[".repeat(200), "]".repeat(200));
        for (source, line) in [
            ("a: [hunter2\n", None),
            ("a: hunter2: b\n", Some(1)),
            ("a: 1\na: hunter2\n", Some(2)),
            ("a: 1\n---\nb: hunter2\n", None),
            ("a: *hunter2\n", Some(1)),
            ("a: !!int hunter2\n", Some(1)),
            ("a: !hunter2 x\n", Some(1)),
            ("? [a, b]\n: hunter2\n", Some(1)),
            ("a: &a [*a]\n", None),
            (&bomb, None),
            (&deep, None),
        ] {
            let Err(error) = parse(source) else {
                panic!("accepted: {source}")
            };
            assert!(!error.message.contains("hunter2"), "{}", error.message);
            assert!(!error.hint.contains("hunter2"), "{}", error.hint);
            if let Some(line) = line {
                let at = error.at.as_ref().map_or(0, |at| at.start);
                assert_eq!(source[..at].matches('\n').count() + 1, line, "{source}");
            }
        }
    }

    #[test]
    fn key_paths_are_found_and_written_as_people_write_them() {
        let root =
            tree("apps:\n  shop:\n    routes: {/api/: {upstream: x}}\nkeys: [{file: a, hunter2: b}]\n");
        let dotted_of = |text: &str| {
            (0..20)
                .filter_map(|id| root.path_of(id))
                .map(|path| dotted(&path))
                .any(|path| path == text)
        };
        for path in [
            "",
            "apps.shop",
            "apps.shop.routes[/api/].upstream",
            "keys[0].file",
            "keys[0][…]",
        ] {
            assert!(dotted_of(path), "{path}");
        }
    }
}
