//! Why a value has not the shape of its type, and where that is.
//!
//! Messages name what was expected and the kind of what came, never the value. What serde would
//! say about a value is dropped, since it quotes it.

use std::fmt;
use std::ops::Range;

use serde::de::{self, Unexpected};

use super::diagnostic::Diagnostic;
use super::document::{Entry, Kind, Node};
use super::mask;
use super::nearest::nearest;
use super::schema::{EXAMPLES, is_not_yet};

/// Why a value has not the shape of its type.
#[derive(Debug)]
pub(crate) struct ShapeError {
    pub(crate) what: What,
    /// The node to leave out on the next reading.
    pub(crate) node: Option<usize>,
    /// Whether an error that was already found explains this one.
    pub(crate) is_consequence: bool,
    /// Whether the value is so far from what was expected that it may be anything, a secret too.
    hide: bool,
}

/// What is wrong.
#[derive(Debug)]
pub(crate) enum What {
    /// A message, and perhaps a hint on the second line.
    Text(String),
    /// The mapping has no such key.
    Missing(&'static str),
    /// The node is the value of a key that is not one of these.
    UnknownKey(&'static [&'static str]),
}

impl ShapeError {
    /// Wrong, no matter where.
    pub(crate) fn new(what: What) -> Self {
        Self {
            what,
            node: None,
            is_consequence: false,
            hide: false,
        }
    }

    /// At this node, unless a node further down was named.
    pub(crate) fn at(mut self, node: &Node) -> Self {
        self.node.get_or_insert(node.id);
        self
    }

    /// Another kind of node was expected.
    pub(crate) fn expected(what: &str, node: &Node, hint: &str) -> Self {
        Self::new(What::Text(format!(
            "expected {what}, found {}\n{hint}",
            node.kind.name()
        )))
        .at(node)
    }

    /// The same, with the value masked.
    pub(crate) fn hidden(mut self) -> Self {
        self.hide = true;
        self
    }

    /// As it is shown; values below an unknown key are added to `masks`.
    pub(crate) fn diagnostic(self, root: &Node, id: usize, masks: &mut Vec<Range<usize>>) -> Diagnostic {
        let path = root.path_of(id).unwrap_or_default();
        match self.what {
            What::Text(text) => {
                if self.hide {
                    masks.push(spot(root, id));
                }
                let (message, hint) = text.split_once('\n').unwrap_or((&text, ""));
                Diagnostic {
                    at: Some(spot(root, id)),
                    path,
                    message: message.to_owned(),
                    hint: hint.to_owned(),
                }
            }
            What::Missing(key) => {
                let is_store = path
                    .last()
                    .is_some_and(|last| mask::STORES.contains(&last.as_str()));
                let example = match EXAMPLES.iter().find(|(name, _)| *name == key) {
                    Some(_) if is_store => "{env: REDIS_URL}",
                    Some((_, example)) => example,
                    None => "…",
                };
                Diagnostic {
                    at: Some(spot(root, id)),
                    path,
                    message: format!("`{key}` is missing"),
                    hint: format!("add `{key}: {example}`"),
                }
            }
            What::UnknownKey(known) => {
                let Some((parent, entry)) = entry_of(root, id) else {
                    return Diagnostic {
                        at: None,
                        path,
                        message: "unknown key".to_owned(),
                        hint: String::new(),
                    };
                };
                mask::scalars(&entry.value, masks);
                let mut path = path;
                path.pop();
                let name: String = entry.key.chars().filter(|c| !c.is_control()).take(80).collect();
                // A key that this build refuses is none to be offered.
                let offered = known.iter().copied().filter(|key| !is_not_yet(key));
                let known: Vec<&str> = offered.collect();
                let near = nearest(&entry.key, &known);
                // A word without a value may be a value that lost its key.
                let is_stray = matches!(entry.value.kind, Kind::Null) && near.is_none();
                if is_stray {
                    masks.push(entry.key_span.clone());
                }
                let message = if parent.sensitive || is_stray {
                    "unknown key".to_owned()
                } else {
                    format!("unknown key `{name}`")
                };
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the keys here are {}", list(&known)),
                };
                Diagnostic {
                    at: Some(entry.key_span.clone()),
                    path,
                    message,
                    hint,
                }
            }
        }
    }
}

/// `a`, `b` and `c`.
pub(crate) fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Where to point for a node: a scalar itself, the key of anything else.
fn spot(root: &Node, id: usize) -> Range<usize> {
    match entry_of(root, id) {
        Some((_, entry)) if entry.value.text().is_none() => entry.key_span.clone(),
        Some((_, entry)) => entry.value.span.clone(),
        None => span_of(root, id).unwrap_or_default(),
    }
}

fn span_of(node: &Node, id: usize) -> Option<Range<usize>> {
    if node.id == id {
        return Some(match node.kind {
            Kind::Scalar { .. } => node.span.clone(),
            Kind::Null | Kind::Sequence(_) | Kind::Mapping(_) => node.span.start..node.span.start,
        });
    }
    node.children().find_map(|child| span_of(child, id))
}

fn entry_of(node: &Node, id: usize) -> Option<(&Node, &Entry)> {
    if let Kind::Mapping(entries) = &node.kind
        && let Some(entry) = entries.iter().find(|entry| entry.value.id == id)
    {
        return Some((node, entry));
    }
    node.children().find_map(|child| entry_of(child, id))
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar { .. } => "a single value",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Text(text) => f.write_str(text),
            What::Missing(key) => write!(f, "`{key}` is missing"),
            What::UnknownKey(_) => f.write_str("unknown key"),
        }
    }
}

impl std::error::Error for ShapeError {}

impl de::Error for ShapeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Text(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Text(format!("expected {expected}")))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Text(format!("expected {expected}")))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::Text(format!("expected one of {}", list(expected))))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::UnknownKey(expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Missing(field))
    }
}
