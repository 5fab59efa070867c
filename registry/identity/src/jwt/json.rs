//! JSON that says one thing: no member twice, numbers as they are written.
//!
//! RFC 7519 leaves it to the reader which of two claims of one name counts. A reader that takes the last one can be told
//! something else than the issuer's own checks were.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deep objects and arrays may lie within each other, the outermost counted.
const MAX_DEPTH: usize = 16;

/// A text that is no JSON, or none that says one thing.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is no JSON, or an object has two members of one name.
    #[error("it is no JSON, or has a name twice")]
    Syntax(#[from] serde_json::Error),
    /// It is nested more than 16 deep.
    #[error("it is nested more than {MAX_DEPTH} deep")]
    Depth,
}

/// The members of an object.
pub(crate) type Object = BTreeMap<String, Json>;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it is written: two numbers that are written differently are never made equal by rounding.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Object),
}

impl Json {
    /// Reads the whole of a text.
    pub(crate) fn read(text: &str) -> Result<Self, JsonError> {
        Self::from_raw(serde_json::from_str(text)?, MAX_DEPTH)
    }

    fn from_raw(raw: &RawValue, depth: usize) -> Result<Self, JsonError> {
        let text = raw.get();
        let deeper = || depth.checked_sub(1).ok_or(JsonError::Depth);
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let depth = deeper()?;
                let Members(members) = serde_json::from_str(text)?;
                let read = |(name, value)| Ok((name, Self::from_raw(value, depth)?));
                Self::Object(members.into_iter().map(read).collect::<Result<_, JsonError>>()?)
            }
            Some(b'[') => {
                let depth = deeper()?;
                let values: Vec<&RawValue> = serde_json::from_str(text)?;
                let read = |value| Self::from_raw(value, depth);
                Self::Array(values.into_iter().map(read).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Self::Text(serde_json::from_str(text)?),
            Some(b't' | b'f') => Self::Bool(serde_json::from_str(text)?),
            Some(b'n') => Self::Null,
            _ => Self::Number(text.to_owned()),
        })
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// An object whose members are yet to be read.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = BTreeMap<String, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice in an object"));
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Read).map(Members)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        let text =
            r#" {"a": [1, -0.50, 12345678901234567890123], "b": {"c": "\u00e9\n"}, "d": null, "e": true} "#;
        let Json::Object(object) = Json::read(text).unwrap() else { panic!() };
        let numbers = ["1", "-0.50", "12345678901234567890123"].map(|number| Json::Number(number.to_owned()));
        assert_eq!(object["a"], Json::Array(numbers.to_vec()));
        assert_eq!(object["b"], Json::Object(Object::from([("c".to_owned(), Json::Text("é\n".to_owned()))])));
        assert_eq!(object["d"], Json::Null);
        assert_eq!(object["e"], Json::Bool(true));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
            r#"{"a":1} {}"#,
            r#"{"a":01}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1,}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"x":["\ud800"]}"#,
            "",
            "\u{feff}{}",
        ] {
            assert!(matches!(Json::read(text), Err(JsonError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::read(&nested(MAX_DEPTH)).is_ok());
        assert!(matches!(Json::read(&nested(MAX_DEPTH + 1)), Err(JsonError::Depth)));
        assert!(Json::read(&nested(8000)).is_err());
    }
}
