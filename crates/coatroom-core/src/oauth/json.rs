//! JSON objects from outside, without the two ways in which parsers disagree.
//!
//! A member that appears twice is refused at every depth (RFC 8259 §4 leaves it open, RFC 7519 §4
//! asks for it), and a top level that is not an object is refused. Depth is bounded by serde_json.
//! This file never repeats input in an error.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses an object whose members are unique at every depth.
pub(crate) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Unique(Value::Object(members))) => Some(members),
        Ok(_) | Err(_) => None,
    }
}

/// A count of seconds (RFC 7519 `NumericDate`): fractions are cut off, what is negative becomes
/// zero, what is too large becomes the largest.
pub(crate) fn seconds(number: &Number) -> u64 {
    match (number.as_u64(), number.as_f64()) {
        (Some(whole), _) => whole,
        (None, Some(other)) => saturating_seconds(other),
        (None, None) => 0,
    }
}

/// The same for a number that is a float already.
pub(crate) fn saturating_seconds(number: f64) -> u64 {
    // A float cast saturates at both ends and turns NaN into zero.
    number as u64
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("json with unique members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unique(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let Unique(value) = members.next_value()?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member appears twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_with_unique_members_pass() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        let cases: &[(&str, &[u8], bool)] = &[
            ("an empty object", b"{}", true),
            ("white space around", b" \n{\"a\": 1}\t", true),
            (
                "values of every kind",
                br#"{"a":[null,true,-1,1,1.5,"x",{"b":{}}]}"#,
                true,
            ),
            ("a huge number", b"{\"a\":1e300}", true),
            ("an array", b"[]", false),
            ("a string", b"\"{}\"", false),
            ("null", b"null", false),
            ("nothing", b"", false),
            ("a member twice", br#"{"a":1,"a":1}"#, false),
            ("a member twice, escaped once", br#"{"a":1,"\u0061":1}"#, false),
            ("a member twice below", br#"{"x":{"a":1,"a":2}}"#, false),
            ("a member twice in an array", br#"{"x":[{"a":1,"a":2}]}"#, false),
            ("something behind", b"{}{}", false),
            ("cut off", b"{\"a\":", false),
            ("not utf-8", b"{\"a\":\"\xff\"}", false),
            ("html", b"<html></html>", false),
            ("too deep", deep.as_bytes(), false),
        ];
        for (name, input, good) in cases {
            assert_eq!(object(input).is_some(), *good, "{name}");
        }
    }

    #[test]
    fn numeric_dates_saturate_and_never_wrap() {
        let cases = [
            ("0", 0),
            ("1700000000", 1_700_000_000),
            ("1700000000.9", 1_700_000_000),
            ("-1", 0),
            ("-1e300", 0),
            ("4294967296", 4_294_967_296),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551616", u64::MAX),
            ("1e300", u64::MAX),
        ];
        for (text, expected) in cases {
            let number: Number = serde_json::from_str(text).unwrap();
            assert_eq!(seconds(&number), expected, "{text}");
        }
    }
}
