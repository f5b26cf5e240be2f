//! What of a configuration file may never be shown.
//!
//! A snippet in an error quotes the operator's file, and that file may hold a secret: written
//! inline by mistake, or under a misspelt key. This file decides which bytes a snippet replaces by
//! `*****`. It errs on the side of hiding: a masked harmless value costs a look into the file, a
//! shown secret costs a rotation. It never formats or prints anything itself.

use std::ops::Range;

use super::document::{Kind, Node};
use super::nearest::distance;

/// Whether the values below this key are secrets, or look as if they were meant to be.
pub(crate) fn is_sensitive(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if NOT_SECRET.contains(&key.as_str()) {
        return false;
    }
    FRAGMENTS.iter().any(|fragment| key.contains(fragment))
        || distance(&key, "client_secret") <= 3
        || key.split(['_', '-', '.']).any(|word| {
            NEIGHBOURS
                .iter()
                .any(|(secret, tolerance)| distance(word, secret) <= *tolerance)
        })
}

/// The secrets of a document that was read: every scalar under a sensitive key where it is
/// written (for an alias that is the anchor), and keys there that are no way to name a secret,
/// since `{hunter2}` is a mapping to YAML.
pub(crate) fn secrets(node: &Node, into: &mut Vec<Range<usize>>) {
    match &node.kind {
        Kind::Scalar { .. } if node.sensitive => into.push(node.span.clone()),
        Kind::Scalar { .. } | Kind::Null => {}
        Kind::Sequence(items) => items.iter().for_each(|item| secrets(item, into)),
        Kind::Mapping(entries) => {
            for entry in entries {
                if node.sensitive && !REFERENCES.contains(&entry.key.as_str()) {
                    into.push(entry.key_span.clone());
                }
                secrets(&entry.value, into);
            }
        }
    }
}

/// Marks the addresses of stores, which often have a password in them, and what stands in their
/// place: anything but a plain word such as `cookie`.
pub(crate) fn mark_stores(node: &mut Node) {
    match &mut node.kind {
        Kind::Null | Kind::Scalar { .. } => {}
        Kind::Sequence(items) => items.iter_mut().for_each(mark_stores),
        Kind::Mapping(entries) => {
            for entry in entries {
                if STORES.contains(&entry.key.as_str()) {
                    mark_store(&mut entry.value);
                }
                mark_stores(&mut entry.value);
            }
        }
    }
}

fn mark_store(node: &mut Node) {
    match &mut node.kind {
        Kind::Scalar { text, .. } if text.bytes().all(|b| b.is_ascii_lowercase()) => {}
        Kind::Mapping(entries) => entries
            .iter_mut()
            .filter(|entry| ["url", "ca"].contains(&entry.key.as_str()))
            .for_each(|entry| entry.value.mark_sensitive()),
        Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_) => node.mark_sensitive(),
    }
}

/// Every scalar below a node, for a key that is not known: who knows what it was meant to be.
pub(crate) fn scalars(node: &Node, into: &mut Vec<Range<usize>>) {
    match &node.kind {
        Kind::Scalar { .. } => into.push(node.span.clone()),
        Kind::Null => {}
        Kind::Sequence(items) => items.iter().for_each(|item| scalars(item, into)),
        Kind::Mapping(entries) => entries.iter().for_each(|entry| scalars(&entry.value, into)),
    }
}

/// What may be a secret in a file that is not YAML, judged line by line: everything but the keys
/// that are known to be harmless and their values. A slip may have split any other key in two.
pub(crate) fn unparsed(source: &str) -> Vec<Range<usize>> {
    let mut masks = Vec::new();
    let mut open = Open::default();
    let mut below: Option<usize> = None;
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let content = line.trim();
        let indent = line.len() - line.trim_start().len();
        let (begin, end) = (start + indent, start + line.trim_end().len());
        start += line.len();
        if content.is_empty() {
            continue;
        }
        let deeper =
            below.is_some_and(|parent| indent > parent || (indent == parent && content.starts_with('-')));
        if open.is_open() || deeper {
            masks.push(begin..end);
            open.take(content);
            continue;
        }
        below = None;
        open = Open::default();
        if let Some(after) = harmless(content) {
            if begin + after < end {
                masks.push(begin + after..end);
            }
            let rest = content.get(after..).unwrap_or_default();
            open.take(rest);
            // `{client_secret:` with its value on the next line, at whatever indentation.
            open.pending = rest.trim().is_empty() && content.contains(['{', '[']);
            // `shop:` alone is an application; below anything else may be the rest of a secret.
            let alone = rest.trim().is_empty() && !content.get(..after).is_some_and(ends_with_sensitive_word);
            below = (!alone).then_some(indent);
        }
    }
    masks
}

/// User-info and query strings of URLs, wherever they stand: `redis://:password@host`.
pub(crate) fn url_parts(line: &str) -> Vec<Range<usize>> {
    let mut masks = Vec::new();
    let mut from = 0;
    while let Some(found) = line.get(from..).and_then(|rest| rest.find("://")) {
        let begin = from + found + 3;
        let rest = line.get(begin..).unwrap_or_default();
        let end = begin
            + rest
                .find(|c: char| c.is_whitespace() || "\"'".contains(c))
                .unwrap_or(rest.len());
        // In a flow collection a comma or bracket may follow.
        let url = line
            .get(begin..end)
            .unwrap_or_default()
            .trim_end_matches([',', ']', '}']);
        let end = begin + url.len();
        let authority = url.split(['/', '?', '#']).next().unwrap_or_default();
        let port = authority.rsplit(':').next().unwrap_or_default();
        if let Some(at) = url.rfind('@') {
            masks.push(begin..begin + at);
        } else if authority.contains(':')
            && !port.bytes().all(|b| b.is_ascii_digit())
            && !authority.starts_with('[')
        {
            // `//user:password` that nothing ends.
            masks.push(begin..begin + authority.len());
        }
        if let Some(query) = url.find('?') {
            masks.push(begin + query + 1..end);
        }
        from = end;
    }
    masks
}

/// The names of anchors, aliases and tags, wherever they stand: to YAML `&hunter2` is no value.
pub(crate) fn decorations(line: &str) -> Vec<Range<usize>> {
    let mut masks = Vec::new();
    let mut before = ' ';
    for (offset, c) in line.char_indices() {
        if "&*!".contains(c) && (before.is_whitespace() || "[{,&*!".contains(before)) {
            let name = line.get(offset + 1..).unwrap_or_default();
            let len = name
                .find(|c: char| c.is_whitespace() || ",]}".contains(c))
                .unwrap_or(name.len());
            if len > 0 {
                masks.push(offset + 1..offset + 1 + len);
            }
        }
        before = c;
    }
    masks
}

/// Quotes and brackets that a sensitive value left open at the end of its line.
#[derive(Default)]
struct Open {
    brackets: i32,
    quote: Option<char>,
    pending: bool,
}

impl Open {
    fn is_open(&self) -> bool {
        self.brackets > 0 || self.quote.is_some() || self.pending
    }

    fn take(&mut self, text: &str) {
        self.pending = false;
        for c in text.chars() {
            match (self.quote, c) {
                (Some(quote), _) if c == quote => self.quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => self.quote = Some(c),
                (None, '{' | '[') => self.brackets = self.brackets.saturating_add(1),
                (None, '}' | ']') => self.brackets = self.brackets.saturating_sub(1).max(0),
                (None, _) => {}
            }
        }
    }
}

/// How much of a line can be shown: up to behind the first key that is sensitive or not known.
/// `None` is all of it.
fn harmless(line: &str) -> Option<usize> {
    let mut is_first = true;
    for (range, is_key) in words(line) {
        let word = line.get(range.clone()).unwrap_or_default();
        let known = HARMLESS.contains(&word);
        let behind = behind_colon(line, range.end);
        if is_sensitive(word) || REFERENCES.contains(&word) {
            return Some(behind);
        }
        match (is_first, is_key, known) {
            (_, _, true) | (false, false, false) => {}
            (true, true, false) => return Some(behind),
            (true, false, false) if line.starts_with('/') => {}
            (true, false, false) | (false, true, false) => return Some(range.start),
        }
        is_first = false;
    }
    // A line without a word is a bracket, or a route such as `/: {`.
    None
}

fn ends_with_sensitive_word(line: &str) -> bool {
    words(line).last().is_some_and(|(range, _)| {
        let word = line.get(range.clone()).unwrap_or_default();
        is_sensitive(word) || REFERENCES.contains(&word)
    })
}

/// The words of a line, and whether each stands where a key does: before a colon and a blank.
fn words(line: &str) -> Vec<(Range<usize>, bool)> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut found = Vec::new();
    let mut start = None;
    for (offset, c) in line.char_indices().chain([(line.len(), ' ')]) {
        match (start, in_word(c)) {
            (None, true) if c != '-' => start = Some(offset),
            (Some(begin), false) => {
                let behind = behind_colon(line, offset);
                let blank = line
                    .get(behind..)
                    .is_none_or(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
                found.push((begin..offset, behind > offset && blank));
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// The offset behind the colon that follows a word, or else behind the word.
fn behind_colon(line: &str, end: usize) -> usize {
    let rest = line.get(end..).unwrap_or_default();
    let punctuation = rest.len() - rest.trim_start_matches(['"', '\'', ' ']).len();
    let colon = rest.get(punctuation..).is_some_and(|rest| rest.starts_with(':'));
    end + if colon { punctuation + 1 } else { 0 }
}

/// The settings whose values are no secrets, in a file of which nothing else is certain.
const HARMLESS: [&str; 52] = [
    "listen",
    "admin",
    "tls",
    "certificate",
    "certificates",
    "minimum",
    "unix_mode",
    "handover",
    "hsts",
    "max_age",
    "include_subdomains",
    "preload",
    "apps",
    "log",
    "format",
    "level",
    "workers",
    "url",
    "app_url",
    "origins",
    "hosts",
    "base_path",
    "login",
    "callback",
    "provider",
    "issuer",
    "client_id",
    "client_auth",
    "scopes",
    "response_mode",
    "allowed_parameters",
    "leeway",
    "timeout",
    "session",
    "idle",
    "absolute",
    "default_token_life",
    "claims",
    "routes",
    "upstream",
    "static",
    "strip_prefix",
    "auth",
    "methods",
    "resources",
    "cache",
    "cookies",
    "body_limit",
    "connect_timeout",
    "http2",
    "csrf_header",
    "danger_public_admin",
];

/// Settings whose values are stores.
pub(crate) const STORES: [&str; 2] = ["store", "revocation_store"];

/// The ways to name a secret without writing it.
pub(crate) const REFERENCES: [&str; 4] = ["file", "env", "credential", "command"];

/// Settings that only sound like secrets.
const NOT_SECRET: [&str; 2] = ["default_token_life", "certificate_bound_access_tokens"];

const FRAGMENTS: [&str; 9] = [
    "secret",
    "key",
    "passw",
    "passphrase",
    "pwd",
    "token",
    "credential",
    "private",
    "apikey",
];

/// Words and how many slips of the finger still make them.
const NEIGHBOURS: [(&str, usize); 5] = [
    ("secret", 2),
    ("password", 2),
    ("credential", 2),
    ("token", 1),
    ("keys", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_sound_like_secrets_and_their_misspellings_are_sensitive() {
        let sensitive = [
            "client_secret",
            "client_secrt",
            "clientsecret",
            "Client_Secret",
            "client_sercet",
            "secert",
            "keys",
            "kyes",
            "key",
            "api_key",
            "password",
            "pasword",
            "token",
            "tokne",
            "credential",
            "credentails",
            "pwd",
        ];
        for key in sensitive {
            assert!(is_sensitive(key), "{key}");
        }
    }

    #[test]
    fn settings_of_the_schema_that_hold_no_secret_are_not_sensitive() {
        for key in HARMLESS
            .iter()
            .chain(&["store", "parameters", "danger_insecure_http"])
        {
            assert!(!is_sensitive(key), "{key}");
        }
    }

    #[test]
    fn a_file_that_is_not_yaml_shows_no_secret() {
        struct Case {
            name: &'static str,
            source: &'static str,
        }
        let cases = [
            Case {
                name: "same line",
                source: "client_secret: hunter2\n",
            },
            Case {
                name: "no colon",
                source: "client_secret hunter2\n",
            },
            Case {
                name: "equals sign",
                source: "client_secret=hunter2\n",
            },
            Case {
                name: "misspelt",
                source: "client_secrt: hunter2\n",
            },
            Case {
                name: "quoted key",
                source: "'client_secret' : hunter2\n",
            },
            Case {
                name: "flow",
                source: "{issuer: a, client_secret: hunter2, b: c}\n",
            },
            Case {
                name: "flow over lines",
                source: "p: {client_secret:\nhunter2}\n",
            },
            Case {
                name: "list",
                source: "keys:\n- hunter2\n",
            },
            Case {
                name: "deeper list",
                source: "keys:\n  - file: a\n  - hunter2\n",
            },
            Case {
                name: "block",
                source: "client_secret: |\n  abc\n  hunter2\n",
            },
            Case {
                name: "open quote",
                source: "client_secret: \"abc\nhunter2\nx: y\n",
            },
            Case {
                name: "open bracket",
                source: "keys: [\nhunter2,\n",
            },
            Case {
                name: "plain over lines",
                source: "client_secret:\n  hunter2\n",
            },
            Case {
                name: "complex key",
                source: "? a\n: hunter2\n",
            },
            Case {
                name: "split key",
                source: "k: ys: [hunter2]\n",
            },
            Case {
                name: "split key of a list",
                source: "ke ys:\n- hunter2\n",
            },
            Case {
                name: "split key in flow",
                source: "{issuer: a, client_se: cret: hunter2}\n",
            },
            Case {
                name: "no key at all",
                source: "apps:\n hunter2\n",
            },
            Case {
                name: "anchor",
                source: "x: &s hunter2\n",
            },
        ];
        for case in cases {
            let hidden = unparsed(case.source);
            let at = case.source.find("hunter2").expect("the table holds a canary");
            assert!(
                hidden.iter().any(|mask| mask.start <= at && at + 7 <= mask.end),
                "{}: {hidden:?}",
                case.name
            );
        }
    }

    #[test]
    fn a_file_that_is_not_yaml_still_shows_what_is_no_secret() {
        let source = "listen: 127.0.0.1:8080\nkeys: [{file: a}]\napps:\n  shop:\n    url: https://a\n";
        let hidden = unparsed(source);
        assert_eq!(hidden.len(), 1);
        assert_eq!(&source[hidden[0].clone()], " [{file: a}]");
    }

    #[test]
    fn names_of_anchors_aliases_and_tags_are_hidden() {
        for (line, hidden) in [
            ("a: &hunter2 b", vec!["hunter2"]),
            ("a: [*hunter2, !hunter2 c]", vec!["hunter2", "hunter2"]),
            ("a: !!hunter2", vec!["!hunter2", "hunter2"]),
            ("a: b&c \"*\" & d", vec![]),
        ] {
            let found: Vec<_> = decorations(line).into_iter().map(|mask| &line[mask]).collect();
            assert_eq!(found, hidden, "{line}");
        }
    }

    #[test]
    fn addresses_of_stores_are_marked_and_words_are_not() {
        for (store, hidden) in [
            ("cookie", false),
            ("cookies", false),
            ("hunter2", true),
            ("\"redis://:hunter2@h\"", true),
            ("[hunter2]", true),
            ("{url: hunter2}", true),
            ("{url: {env: hunter2}}", true),
            ("{url: {hunter2: x}}", true),
            ("{url: x, ca: hunter2}", true),
        ] {
            for key in STORES {
                let source = format!("session: {{{key}: {store}}}\n");
                let mut root = super::super::document::parse(&source).expect("YAML");
                mark_stores(&mut root);
                let mut masks = Vec::new();
                secrets(&root, &mut masks);
                let found = masks.iter().any(|mask| source[mask.clone()].contains("hunter2"));
                assert_eq!(found, hidden, "{source}");
            }
        }
    }

    #[test]
    fn user_info_and_queries_of_urls_are_hidden() {
        for (line, hidden) in [
            ("a: http://user:hunter2@host/x", vec!["user:hunter2"]),
            ("a: \"redis://:hunter2@host\"", vec![":hunter2"]),
            ("a: https://host/?password=hunter2 b", vec!["password=hunter2"]),
            ("a: redis://:hunter2", vec![":hunter2"]),
            ("a: http://u:hunter2/x", vec!["u:hunter2"]),
            ("a: http://host:8080/x", vec![]),
            ("{a: http://host:8080, b: [http://host:1]}", vec![]),
            ("a: http://[::1]/x", vec![]),
            ("a: https://host/x", vec![]),
            ("a://b", vec![]),
        ] {
            let found: Vec<_> = url_parts(line).into_iter().map(|mask| &line[mask]).collect();
            assert_eq!(found, hidden, "{line}");
        }
    }
}
