//! The Postgres schema that a registry lives in, and SQL that is qualified with it once, at start.

use std::fmt;
use std::str::FromStr;

/// The name of the schema: never `public`, never one of Postgres' own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schema(String);

/// A text that cannot be the schema of a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the schema {0:?} cannot be used: choose 1 to 63 of a-z, 0-9 and '_', beginning with a letter; not public, not pg_*"
)]
pub struct SchemaError(String);

impl FromStr for Schema {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let well_formed = text.len() <= 63
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if well_formed && text != "public" && text != "information_schema" && !text.starts_with("pg_") {
            Ok(Self(text.to_owned()))
        } else {
            Err(SchemaError(text.to_owned()))
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Schema {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts the schema before every `@table` of a statement, so that it depends on no session state.
    pub fn qualify(&self, sql: &str) -> String {
        let mut qualified = String::with_capacity(sql.len() + 64);
        let mut rest = sql;
        while let Some(at) = rest.find('@') {
            let (before, after) = rest.split_at(at);
            qualified.push_str(before);
            rest = &after[1..];
            if rest.starts_with(|c: char| c.is_ascii_lowercase()) {
                qualified.push('"');
                qualified.push_str(&self.0);
                qualified.push_str("\".");
            } else {
                qualified.push('@');
            }
        }
        qualified.push_str(rest);
        qualified
    }
}

/// Declares a struct of SQL statements, each written with `@table` and qualified when it is made.
#[macro_export]
macro_rules! statements {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($field:ident = $sql:expr;)* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        $vis struct $name { $(pub $field: String,)* }

        impl $name {
            /// The statements for this schema.
            $vis fn new(schema: &$crate::Schema) -> Self {
                Self { $($field: schema.qualify($sql),)* }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn only_names_of_our_own_are_schemas() {
        assert!("granary".parse::<Schema>().is_ok());
        for name in ["", "public", "pg_x", "Granary", "a-b", "1a", "a\"b", "information_schema"] {
            assert!(name.parse::<Schema>().is_err(), "{name}");
        }
    }

    #[test]
    fn tables_are_qualified_and_operators_left_alone() {
        let schema: Schema = "g1".parse().unwrap();
        assert_eq!(
            schema.qualify("select 1 from @blob b, @change where x @> y"),
            "select 1 from \"g1\".blob b, \"g1\".change where x @> y"
        );
    }
}
