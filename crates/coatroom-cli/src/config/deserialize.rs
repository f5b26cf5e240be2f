//! Reads typed values from the tree of a document, and finds every wrong shape at once.
//!
//! A serde `Deserializer` over [`Node`], so that the types in `schema.rs` stay plain derives. Where
//! serde stops at the first error, this one leaves the offending node out and reads again, until
//! nothing new is found. Messages name what was expected and the kind of what came; they never
//! quote a value. A type's own error may carry a hint on its second line.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::diagnostic::Diagnostic;
use super::document::{Entry, Kind, Node};
use super::nearest::nearest;
use super::shape::{ShapeError, What, list};

/// Reads a `T`.
///
/// # Errors
/// Every place where the shape is wrong; values below unknown keys are added to `masks`.
pub(crate) fn read<'d, T: Deserialize<'d>>(
    root: &'d Node,
    masks: &mut Vec<Range<usize>>,
) -> Result<T, Vec<Diagnostic>> {
    let mut skipped = BTreeSet::new();
    let mut found = Vec::new();
    loop {
        let error = match T::deserialize(Reader {
            node: root,
            skipped: &skipped,
        }) {
            Ok(value) if found.is_empty() => return Ok(value),
            Ok(_) => return Err(found),
            Err(error) => error,
        };
        let id = error.node.unwrap_or(root.id);
        if !error.is_consequence {
            found.push(error.diagnostic(root, id, masks));
        }
        if id == root.id || !skipped.insert(id) || found.len() >= MOST {
            return Err(found);
        }
    }
}

/// Enough to be told at once.
const MOST: usize = 50;

/// The name of a newtype that takes whatever is written, as JSON in text.
pub(crate) const AS_JSON: &str = "coatroom: as json";

/// The name of a newtype that is read as whatever it is, and never shown where that is one value.
pub(crate) const HIDDEN: &str = "coatroom: hidden";

/// A node as JSON: what has no quotes and is a number, `true` or `false` there is one here. (A key that
/// is there twice was refused when the document was read.)
fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Scalar { text, quoted: false } => match serde_json::from_str(text) {
            Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Null)) => value,
            Ok(_) | Err(_) => Value::from(text.as_str()),
        },
        Kind::Scalar { text, quoted: true } => Value::from(text.as_str()),
        Kind::Sequence(items) => items.iter().map(json).collect(),
        Kind::Mapping(entries) => {
            let members = entries
                .iter()
                .map(|entry| (entry.key.clone(), json(&entry.value)));
            Value::Object(members.collect())
        }
    }
}

/// Reads from one node.
#[derive(Clone, Copy)]
struct Reader<'d, 's> {
    node: &'d Node,
    skipped: &'s BTreeSet<usize>,
}

impl<'d, 's> Reader<'d, 's> {
    fn scalar(self, what: &str, hint: &str) -> Result<&'d str, ShapeError> {
        self.node
            .text()
            .ok_or_else(|| ShapeError::expected(what, self.node, hint))
    }

    fn items(self) -> Result<Items<'d, 's>, ShapeError> {
        match &self.node.kind {
            Kind::Sequence(items) => Ok(Items {
                items: items.iter(),
                skipped: self.skipped,
            }),
            Kind::Null | Kind::Scalar { .. } | Kind::Mapping(_) => Err(ShapeError::expected(
                "a list",
                self.node,
                "write it as a list: `[…, …]`",
            )),
        }
    }

    fn entries(self) -> Result<Entries<'d, 's>, ShapeError> {
        match &self.node.kind {
            Kind::Mapping(entries) => Ok(Entries {
                entries: entries.iter(),
                value: None,
                skipped: self.skipped,
            }),
            Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_) => {
                let hint = "write it as a mapping: `{key: value}`, or one `key: value` a line below";
                let error = ShapeError::expected("a mapping", self.node, hint);
                // A line that lost its key is taken for the value of the one above it.
                Err(if self.node.text().is_some() {
                    error.hidden()
                } else {
                    error
                })
            }
        }
    }

    /// Whether a missing key is explained by an entry that was left out: the key itself, or a slip.
    fn explains(self, missing: &str, fields: &[&str]) -> bool {
        let Kind::Mapping(entries) = &self.node.kind else {
            return false;
        };
        entries
            .iter()
            .filter(|entry| self.skipped.contains(&entry.value.id))
            .any(|entry| entry.key == missing || nearest(&entry.key, fields) == Some(missing))
    }

    fn number<T: std::str::FromStr>(self) -> Result<T, ShapeError> {
        let hint = "write digits only, for example `2`, and not too many";
        let text = self.scalar("a whole number", hint)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let leading_zero = text.len() > 1 && text.starts_with('0');
        let number = (digits && !leading_zero).then(|| text.parse().ok()).flatten();
        number.ok_or_else(|| {
            ShapeError::new(What::Text(format!("expected a whole number\n{hint}"))).at(self.node)
        })
    }
}

impl<'d> Deserializer<'d> for Reader<'d, '_> {
    type Error = ShapeError;

    fn deserialize_any<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match &self.node.kind {
            Kind::Null => Err(ShapeError::expected(
                "a value",
                self.node,
                "give the key a value, or remove it",
            )),
            Kind::Scalar { text, .. } => visitor.visit_borrowed_str(text),
            Kind::Sequence(_) => visitor.visit_seq(self.items()?),
            Kind::Mapping(entries) => visitor
                .visit_map(self.entries()?)
                .map_err(|mut error: ShapeError| {
                    // What was left out is likely what is missing now.
                    let incomplete = entries.iter().any(|entry| self.skipped.contains(&entry.value.id));
                    error.is_consequence |= error.node.is_none() && incomplete;
                    error
                }),
        }
        .map_err(|error: ShapeError| error.at(self.node))
    }

    fn deserialize_option<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'d>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        match name {
            AS_JSON => visitor
                .visit_string(json(self.node).to_string())
                .map_err(|error: ShapeError| error.at(self.node)),
            // one that is refused may be a key, where it should have been named
            HIDDEN => self
                .deserialize_any(visitor)
                .map_err(|error| match self.node.text() {
                    Some(_) => error.hidden(),
                    None => error,
                }),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_bool<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        let value = match &self.node.kind {
            Kind::Scalar { text, quoted: false } if text == "true" => true,
            Kind::Scalar { text, quoted: false } if text == "false" => false,
            Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) => {
                let text = "expected true or false\nwrite `true` or `false`, without quotes";
                return Err(ShapeError::new(What::Text(text.to_owned())).at(self.node));
            }
        };
        visitor.visit_bool(value)
    }

    fn deserialize_u16<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor
            .visit_u16(self.number()?)
            .map_err(|error: ShapeError| error.at(self.node))
    }

    fn deserialize_u32<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor
            .visit_u32(self.number()?)
            .map_err(|error: ShapeError| error.at(self.node))
    }

    fn deserialize_u64<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor
            .visit_u64(self.number()?)
            .map_err(|error: ShapeError| error.at(self.node))
    }

    fn deserialize_str<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        let text = self.scalar(
            "text",
            "give it a single value; quote it if it holds `: ` or ` #`",
        )?;
        visitor
            .visit_borrowed_str(text)
            .map_err(|error: ShapeError| error.at(self.node))
    }

    fn deserialize_string<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor
            .visit_seq(self.items()?)
            .map_err(|error: ShapeError| error.at(self.node))
    }

    fn deserialize_map<V: Visitor<'d>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor
            .visit_map(self.entries()?)
            .map_err(|error: ShapeError| error.at(self.node))
    }

    fn deserialize_struct<V: Visitor<'d>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        visitor
            .visit_map(self.entries()?)
            .map_err(|mut error: ShapeError| {
                if let (What::Missing(key), None) = (&error.what, error.node) {
                    error.is_consequence = self.explains(key, fields);
                }
                error.at(self.node)
            })
    }

    fn deserialize_enum<V: Visitor<'d>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        let text = self.scalar("a single word", &format!("write one of {}", list(variants)))?;
        visitor.visit_enum(Word(text)).map_err(|mut error: ShapeError| {
            if let What::Text(message) = &mut error.what {
                let hint = match (nearest(text, variants), variants.first()) {
                    (Some(near), _) => format!("did you mean `{near}`?"),
                    (None, first) => format!("write for example `{}`", first.unwrap_or(&"")),
                };
                *message = format!("{message}\n{hint}");
            }
            error.at(self.node)
        })
    }

    forward_to_deserialize_any! {
        <V: Visitor<'d>>
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct ignored_any
    }
}

struct Items<'d, 's> {
    items: std::slice::Iter<'d, Node>,
    skipped: &'s BTreeSet<usize>,
}

impl<'d> SeqAccess<'d> for Items<'d, '_> {
    type Error = ShapeError;

    fn next_element_seed<T: DeserializeSeed<'d>>(&mut self, seed: T) -> Result<Option<T::Value>, ShapeError> {
        let skipped = self.skipped;
        match self.items.find(|node| !skipped.contains(&node.id)) {
            Some(node) => seed
                .deserialize(Reader { node, skipped })
                .map(Some)
                .map_err(|error| error.at(node)),
            None => Ok(None),
        }
    }
}

struct Entries<'d, 's> {
    entries: std::slice::Iter<'d, Entry>,
    value: Option<&'d Node>,
    skipped: &'s BTreeSet<usize>,
}

impl<'d> MapAccess<'d> for Entries<'d, '_> {
    type Error = ShapeError;

    fn next_key_seed<K: DeserializeSeed<'d>>(&mut self, seed: K) -> Result<Option<K::Value>, ShapeError> {
        let skipped = self.skipped;
        let Some(entry) = self.entries.find(|entry| !skipped.contains(&entry.value.id)) else {
            return Ok(None);
        };
        self.value = Some(&entry.value);
        let key: BorrowedStrDeserializer<'d, ShapeError> = BorrowedStrDeserializer::new(&entry.key);
        seed.deserialize(key)
            .map(Some)
            .map_err(|error: ShapeError| error.at(&entry.value))
    }

    fn next_value_seed<V: DeserializeSeed<'d>>(&mut self, seed: V) -> Result<V::Value, ShapeError> {
        let node = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        seed.deserialize(Reader {
            node,
            skipped: self.skipped,
        })
        .map_err(|error| error.at(node))
    }
}

/// A variant without content.
struct Word<'d>(&'d str);

impl<'d> EnumAccess<'d> for Word<'d> {
    type Error = ShapeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'d>>(self, seed: V) -> Result<(V::Value, Self), ShapeError> {
        let name: StrDeserializer<'_, ShapeError> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'d> VariantAccess<'d> for Word<'d> {
    type Error = ShapeError;

    fn unit_variant(self) -> Result<(), ShapeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'d>>(self, _: T) -> Result<T::Value, ShapeError> {
        Err(de::Error::custom("this word takes no value"))
    }

    fn tuple_variant<V: Visitor<'d>>(self, _: usize, _: V) -> Result<V::Value, ShapeError> {
        Err(de::Error::custom("this word takes no value"))
    }

    fn struct_variant<V: Visitor<'d>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ShapeError> {
        Err(de::Error::custom("this word takes no value"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read for its errors only")]
    struct Outer {
        name: String,
        #[serde(default)]
        numbers: Vec<u64>,
        flag: Option<bool>,
        word: Option<Word>,
        inner: Option<Inner>,
    }

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read for its errors only")]
    struct Inner {
        client_secret: String,
        port: Option<u16>,
    }

    #[derive(serde::Deserialize, Debug, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Text,
        Json,
    }

    fn errors(source: &str) -> Vec<String> {
        let root = document::parse(source).unwrap_or_else(|error| panic!("{}", error.message));
        let mut masks = Vec::new();
        match read::<Outer>(&root, &mut masks) {
            Ok(_) => Vec::new(),
            Err(found) => found
                .into_iter()
                .map(|d| {
                    let at = d.at.expect("shape errors have a position");
                    format!(
                        "{}|{}|{}|{}",
                        &source[at],
                        document::dotted(&d.path),
                        d.message,
                        d.hint
                    )
                })
                .collect(),
        }
    }

    #[test]
    fn a_good_document_is_read() {
        let source =
            "name: 0123\nnumbers: [1, 20]\nflag: true\nword: json\ninner: {client_secret: x, port: 8080}\n";
        let root = document::parse(source).unwrap_or_else(|error| panic!("{}", error.message));
        let outer: Outer = read(&root, &mut Vec::new()).expect("it is well formed");
        assert_eq!(outer.name, "0123");
        assert_eq!(outer.numbers, [1, 20]);
        assert_eq!(outer.flag, Some(true));
        assert_eq!(outer.word, Some(Word::Json));
    }

    #[test]
    fn wrong_shapes_are_named_without_their_values() {
        for (source, expected) in [
            ("nme: hunter2\n", "nme||unknown key `nme`|did you mean `name`?"),
            (
                "name: a\nxxxxx: hunter2\n",
                "xxxxx||unknown key `xxxxx`|the keys here are `name`, `numbers`, `flag`, `word` and `inner`",
            ),
            ("flag: true\n", "||`name` is missing|add `name: …`"),
            ("name: [hunter2]\n", "name|name|expected text, found a list|"),
            ("name:\n", "name|name|expected text, found nothing|"),
            (
                "name: a\nnumbers: hunter2\n",
                "hunter2|numbers|expected a list, found a single value|",
            ),
            (
                "name: a\nnumbers: [1, -2]\n",
                "-2|numbers[1]|expected a whole number|",
            ),
            (
                "name: a\nnumbers: [1, 010]\n",
                "010|numbers[1]|expected a whole number|",
            ),
            ("name: a\nflag: yes\n", "yes|flag|expected true or false|"),
            ("name: a\nflag: 'true'\n", "'true'|flag|expected true or false|"),
            (
                "name: a\nword: jsn\n",
                "jsn|word|expected one of `text` and `json`|did you mean `json`?",
            ),
            (
                "name: a\nword: {json: 1}\n",
                "word|word|expected a single word, found a mapping|",
            ),
            (
                "name: a\ninner: hunter2\n",
                "hunter2|inner|expected a mapping, found a single value|",
            ),
            (
                "name: a\ninner:\n",
                "inner|inner|expected a mapping, found nothing|",
            ),
            (
                "name: a\ninner: {client_secret: a, port: 70000}\n",
                "70000|inner.port|expected a whole number|",
            ),
            ("hunter2\n", "hunter2||expected a mapping, found a single value|"),
        ] {
            let found = errors(source);
            assert_eq!(found.len(), 1, "{source}: {found:?}");
            assert!(found[0].starts_with(expected), "{source}: {found:?}");
        }
    }

    #[test]
    fn every_wrong_shape_is_found_at_once_and_none_twice() {
        let found = errors("nme: a\nnumbers: [x, 1, y]\nflag: 3\ninner: {client_secrt: hunter2, prt: 1}\n");
        let keys: Vec<_> = found
            .iter()
            .map(|error| error.split('|').next().unwrap_or_default())
            .collect();
        assert_eq!(keys, ["nme", "x", "y", "3", "client_secrt", "prt"]);
    }

    #[test]
    fn values_below_unknown_keys_are_masked() {
        let source = "name: a\nwhatever: {b: [hunter2], c: hunter2}\n";
        let root = document::parse(source).unwrap_or_else(|error| panic!("{}", error.message));
        let mut masks = Vec::new();
        assert!(read::<Outer>(&root, &mut masks).is_err());
        let hidden: Vec<_> = masks.into_iter().map(|mask| &source[mask]).collect();
        assert_eq!(hidden, ["hunter2", "hunter2"]);
    }
}
