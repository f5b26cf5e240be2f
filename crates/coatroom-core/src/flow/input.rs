//! The parameters of an agent call: from a query, a form or a JSON object to name-value pairs.
//!
//! Bounded in number; duplicates are kept, so that whoever reads a parameter can refuse them. It
//! never decides which parameters are allowed.

use crate::error::Error;

/// The parameters of an agent call: name-value pairs, decoded, in order.
pub struct Input {
    pairs: Vec<Pair>,
}

/// Name and value.
type Pair = (String, String);

impl Input {
    /// `application/x-www-form-urlencoded`, or a query.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when it is not UTF-8 or has too many parameters.
    pub fn form(bytes: &[u8]) -> Result<Self, Error> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| Error::InvalidRequest("the parameters are not UTF-8"))?;
        let pairs: Vec<_> = url::form_urlencoded::parse(text.as_bytes())
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .take(MAX_PARAMETERS + 1)
            .collect();
        Self::bounded(pairs)
    }

    /// `application/json`: one object of strings, numbers and booleans.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for anything else.
    pub fn json(bytes: &[u8]) -> Result<Self, Error> {
        let Pairs(pairs) = serde_json::from_slice(bytes).map_err(|_| {
            Error::InvalidRequest("the body is not a JSON object of strings, numbers and booleans")
        })?;
        Self::bounded(pairs)
    }

    /// Names and values.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&String, &String)> {
        self.pairs.iter().map(|(name, value)| (name, value))
    }

    fn bounded(pairs: Vec<Pair>) -> Result<Self, Error> {
        match pairs.len() > MAX_PARAMETERS {
            true => Err(Error::InvalidRequest("too many parameters")),
            false => Ok(Self { pairs }),
        }
    }

    /// The return URL, by its name or that of another library's clients (to whom an empty one is none),
    /// and everything else.
    pub(super) fn take_return_to(self, alias: Option<&str>) -> Result<(Option<String>, Vec<Pair>), Error> {
        let is_return_to =
            |name: &str| name == "return_to" || alias.is_some_and(|alias| name.eq_ignore_ascii_case(alias));
        let (mut return_to, pairs): (Vec<_>, Vec<_>) =
            self.pairs.into_iter().partition(|(name, _)| is_return_to(name));
        if return_to.len() > 1 {
            return Err(Error::InvalidRequest("`return_to` occurs more than once"));
        }
        let return_to = return_to.pop().map(|(_, value)| value);
        Ok((return_to.filter(|url| alias.is_none() || !url.is_empty()), pairs))
    }

    /// The value of a parameter that may occur once, whatever the case of its name's letters.
    pub(super) fn single_in_any_case(&self, name: &'static str) -> Result<Option<&str>, Error> {
        let mut values = self
            .pairs
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => Ok(Some(value)),
            (Some(_), Some(_)) => Err(Error::InvalidRequest("a parameter occurs more than once")),
        }
    }

    /// The value of a parameter that may occur once.
    pub(crate) fn single(&self, name: &'static str) -> Result<Option<&str>, Error> {
        let mut values = self.pairs.iter().filter(|(known, _)| known == name);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => Ok(Some(value)),
            (Some(_), Some(_)) => Err(Error::InvalidRequest("a parameter occurs more than once")),
        }
    }
}

/// A JSON object as pairs, duplicates kept so that they can be refused.
struct Pairs(Vec<Pair>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                use serde::de::Error as _;
                use serde_json::Value;
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    match value {
                        Value::String(text) => pairs.push((name, text)),
                        Value::Number(number) => pairs.push((name, number.to_string())),
                        Value::Bool(flag) => pairs.push((name, flag.to_string())),
                        Value::Null => {}
                        Value::Array(_) | Value::Object(_) => return Err(A::Error::custom("a nested value")),
                    }
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// How many parameters a call may have.
const MAX_PARAMETERS: usize = 64;
