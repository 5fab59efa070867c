//! Texts with a grammar of their own, as they stand in a spec and as they are read from it.

mod network;
mod quantity;

use std::fmt;
use std::marker::PhantomData;

use granary_core::{NameError, PackagePattern, PatternError, Subject, SubjectError, SubjectName};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use network::{Cidr, HostName, HttpUrl, ListenAddress};
pub use quantity::ByteSize;

/// A text that is not what the field wants. The messages say what to write, and never repeat the text itself: it
/// might hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a size.
    #[error("write a size such as 512Mi, 1Gi or 1073741824 (bytes; Ki, Mi, Gi, Ti or k, M, G, T)")]
    Size,
    /// Not a span of time.
    #[error("write a span of time such as 500ms, 30s, 5m, 1h30m or 7d")]
    Duration,
    /// Not an address to listen on.
    #[error("write an address such as 0.0.0.0:8080, [::]:8080 or unix:/run/granary.sock?mode=660")]
    Listen,
    /// Not a network.
    #[error("write an address or a network such as 10.0.0.0/8, 192.0.2.7 or fd00::/8")]
    Cidr,
    /// Bits beyond the prefix.
    #[error("the network has bits beyond its prefix; write {0}")]
    CidrBits(Cidr),
    /// Not a URL.
    #[error("write a URL such as https://packages.example or http://store:9000, with no query and no user")]
    Url,
    /// Not a host.
    #[error(
        "write the name of a host such as packages.example.com: lower-case letters, digits, '-' and '.', with no port"
    )]
    Host,
    /// Not a schema.
    #[error(
        "write a schema name of at most 63 lower-case letters, digits and '_', beginning with a letter or '_'"
    )]
    Schema,
    /// A schema that is not ours to take.
    #[error("write a schema of its own: public, information_schema and pg_* belong to Postgres")]
    SchemaReserved,
    /// Not a subject.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not a pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Something that a text in a spec is read as.
pub trait Value: Sized {
    /// What to call it in the option reference.
    const KIND: &'static str;
    /// Whether a number may stand in the spec instead of a text.
    const MAY_BE_NUMBER: bool = false;

    /// Reads the text.
    fn read(text: &str) -> Result<Self, ValueError>;
}

/// A text of a spec that validation will read as a `T`. Keeping it as written lets validation tell every problem
/// of an object at once, with the field's path.
pub struct Raw<T> {
    text: String,
    read_as: PhantomData<fn() -> T>,
}

impl<T> Raw<T> {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), read_as: PhantomData }
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: Value> Raw<T> {
    /// Reads the text.
    pub fn read(&self) -> Result<T, ValueError> {
        T::read(&self.text)
    }
}

// By hand, since a derive would ask the same of `T`.
impl<T> Clone for Raw<T> {
    fn clone(&self) -> Self {
        Self::new(self.text.clone())
    }
}

impl<T> Default for Raw<T> {
    fn default() -> Self {
        Self::new("")
    }
}

impl<T> PartialEq for Raw<T> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<T> Eq for Raw<T> {}

impl<T> fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<T> Serialize for Raw<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, T: Value> Deserialize<'de> for Raw<T> {
    /// From a text, or where that is meant a whole number (`maxSize: 0`).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;

        impl de::Visitor<'_> for TextOrNumber {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
                Ok(number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
                Ok(number.to_string())
            }
        }

        if T::MAY_BE_NUMBER {
            deserializer.deserialize_any(TextOrNumber).map(Self::new)
        } else {
            // YAML that could be a number (a package called 010) stays as it was written.
            String::deserialize(deserializer).map(Self::new)
        }
    }
}

/// The Postgres schema that a registry's tables stand in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// The name, which needs no quoting in SQL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for SchemaName {
    const KIND: &'static str = "text";

    fn read(text: &str) -> Result<Self, ValueError> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !starts_well || text.len() > 63 || !text.bytes().all(legal) {
            return Err(ValueError::Schema);
        }
        if text.starts_with("pg_") || matches!(text, "public" | "information_schema") {
            return Err(ValueError::SchemaReserved);
        }
        Ok(Self(text.to_owned()))
    }
}

impl Value for SubjectName {
    const KIND: &'static str = "text";

    fn read(text: &str) -> Result<Self, ValueError> {
        Ok(text.parse()?)
    }
}

impl Value for PackagePattern {
    const KIND: &'static str = "text";

    fn read(text: &str) -> Result<Self, ValueError> {
        Ok(text.parse()?)
    }
}

impl Value for Subject {
    const KIND: &'static str = "text";

    fn read(text: &str) -> Result<Self, ValueError> {
        Ok(text.parse()?)
    }
}

#[cfg(test)]
mod tests;
