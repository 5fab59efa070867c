//! What an index says of one package: `info/index.json` (CEP 34), checked against the file's name, with its digests.

use std::collections::BTreeMap;

use granary_core::Digests;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::name::{NameError, PackageFile, Subdir};
use super::package::PackageContents;

/// Of `info/index.json`, but of no index: what describes the machine that built it.
const LEFT_OUT: [&str; 10] = [
    "arch",
    "has_prefix",
    "mtime",
    "platform",
    "ucs",
    "requires_features",
    "binstar",
    "target-triplet",
    "machine",
    "operatingsystem",
];

/// Metadata that is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or no object.
    #[error("{file} is not a JSON object")]
    Json {
        /// Which file.
        file: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// A field that is missing, or is not what it should be.
    #[error("info/index.json: {field} is not {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The file's name says something else.
    #[error("info/index.json says the {field} {said:?}, and the name of the file {named:?}")]
    Differs {
        /// The field.
        field: &'static str,
        /// What the metadata say.
        said: String,
        /// What the name says.
        named: String,
    },
    /// The subdir is none.
    #[error("info/index.json: {0}")]
    Subdir(#[source] NameError),
}

/// What an index says of one package.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    subdir: Subdir,
    build_number: u64,
    fields: BTreeMap<String, Value>,
    run_exports: Value,
}

fn object(file: &'static str, bytes: &[u8]) -> Result<Map<String, Value>, RecordError> {
    serde_json::from_slice(bytes).map_err(|source| RecordError::Json { file, source })
}

impl Record {
    /// The record of a package that was read to its end. `indexed_at` is when the channel first listed it (CEP 47).
    ///
    /// # Errors
    /// [`RecordError`] where the metadata are not those of this file.
    pub fn read(
        contents: &PackageContents,
        file: &PackageFile,
        digests: &Digests,
        indexed_at: Timestamp,
    ) -> Result<Self, RecordError> {
        let mut fields: BTreeMap<String, Value> =
            object("info/index.json", &contents.index)?.into_iter().collect();
        for (field, named) in
            [("name", file.name().as_str()), ("version", file.version()), ("build", file.build())]
        {
            let said = text(&fields, field)?;
            if said != named {
                return Err(RecordError::Differs { field, said: said.to_owned(), named: named.to_owned() });
            }
        }
        let subdir = text(&fields, "subdir")?.parse().map_err(RecordError::Subdir)?;
        let build_number = fields.get("build_number").and_then(Value::as_u64);
        let build_number = build_number
            .ok_or(RecordError::Field { field: "build_number", expected: "a number from 0 on" })?;
        for field in ["depends", "constrains"] {
            let texts =
                |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
            if !fields.get(field).is_none_or(texts) {
                return Err(RecordError::Field { field, expected: "a list of texts" });
            }
        }
        for field in LEFT_OUT {
            fields.remove(field);
        }
        fields.insert("md5".to_owned(), digests.md5.to_hex().into());
        fields.insert("sha256".to_owned(), digests.sha256.to_hex().into());
        fields.insert("size".to_owned(), digests.size.into());
        fields.insert("indexed_timestamp".to_owned(), indexed_at.as_millisecond().into());
        let run_exports = match &contents.run_exports {
            Some(bytes) => Value::Object(object("info/run_exports.json", bytes)?),
            None => Value::Object(Map::new()),
        };
        Ok(Self { subdir, build_number, fields, run_exports })
    }

    /// A record as [`Record::to_json`] wrote it, and what it exports as JSON.
    ///
    /// # Errors
    /// [`RecordError`] where it did not.
    pub fn from_json(record: &str, run_exports: &str) -> Result<Self, RecordError> {
        let json = |source| RecordError::Json { file: "a record", source };
        let run_exports = serde_json::from_str(run_exports).map_err(json)?;
        let fields: BTreeMap<String, Value> = serde_json::from_str(record).map_err(json)?;
        let subdir = text(&fields, "subdir")?.parse().map_err(RecordError::Subdir)?;
        let build_number = fields.get("build_number").and_then(Value::as_u64).unwrap_or_default();
        Ok(Self { subdir, build_number, fields, run_exports })
    }

    /// The folder that it says to belong to.
    pub const fn subdir(&self) -> &Subdir {
        &self.subdir
    }

    /// The number of the build.
    pub const fn build_number(&self) -> u64 {
        self.build_number
    }

    /// The fields, in the order of their names.
    pub(super) const fn fields(&self) -> &BTreeMap<String, Value> {
        &self.fields
    }

    /// What packages that are built with it depend on (CEP 12); an empty object where it says nothing.
    pub const fn run_exports(&self) -> &Value {
        &self.run_exports
    }

    /// Of which `.tar.bz2` it was made: its MD5 in hex and its length in bytes.
    pub fn set_legacy(&mut self, md5: &str, size: u64) {
        self.fields.insert("legacy_bz2_md5".to_owned(), md5.into());
        self.fields.insert("legacy_bz2_size".to_owned(), size.into());
    }

    /// The MD5 of the `.tar.bz2` that it was made of, where it was.
    pub fn legacy_md5(&self) -> Option<&str> {
        self.fields.get("legacy_bz2_md5").and_then(Value::as_str)
    }

    /// The record as an index tells it: the fields in the order of their names.
    ///
    /// # Errors
    /// None that is known: every value came from JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.fields)
    }
}

fn text<'a>(fields: &'a BTreeMap<String, Value>, field: &'static str) -> Result<&'a str, RecordError> {
    fields.get(field).and_then(Value::as_str).ok_or(RecordError::Field { field, expected: "a text" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use granary_core::{Blake2b256, Md5, Sha256};
    use serde_json::json;

    use super::*;

    fn digests() -> Digests {
        Digests {
            sha256: Sha256::of(b""),
            md5: Md5::try_from([7; 16].as_slice()).unwrap(),
            blake2b256: Blake2b256::try_from([0; 32].as_slice()).unwrap(),
            size: 1234,
        }
    }

    fn read(index: &Value) -> Result<Record, RecordError> {
        let contents = PackageContents {
            index: serde_json::to_vec(index).unwrap(),
            run_exports: Some(br#"{"weak":["zlib >=1.3"]}"#.to_vec()),
            ..PackageContents::default()
        };
        let file = "zlib-1.3.1-h_0.conda".parse().unwrap();
        Record::read(&contents, &file, &digests(), Timestamp::from_millisecond(1_700_000_000_123).unwrap())
    }

    fn index() -> Value {
        json!({"name": "zlib", "version": "1.3.1", "build": "h_0", "build_number": 0, "subdir": "linux-64",
            "depends": ["libgcc >=13"], "arch": "x86_64", "platform": "linux", "unknown": {"b": 1, "a": [null]}})
    }

    #[test]
    fn a_record_is_the_metadata_with_the_digests() {
        let record = read(&index()).unwrap();
        assert_eq!((record.subdir().as_str(), record.build_number()), ("linux-64", 0));
        let json = record.to_json().unwrap();
        assert!(json.starts_with(r#"{"build":"h_0","build_number":0,"depends":["libgcc >=13"],"indexed_timestamp":1700000000123,"md5":"07070707"#), "{json}");
        assert!(!json.contains("arch") && json.contains(r#""size":1234"#) && json.contains(r#""unknown""#));
        assert_eq!(record.run_exports(), &json!({"weak": ["zlib >=1.3"]}));
        assert_eq!(Record::from_json(&json, &record.run_exports().to_string()).unwrap(), record);
    }

    #[test]
    fn metadata_that_lie_are_refused() {
        for (field, value, message) in [
            ("name", json!("other"), "says the name \"other\""),
            ("version", json!("1.3"), "says the version"),
            ("build", json!(0), "build is not a text"),
            ("build_number", json!(-1), "build_number is not a number"),
            ("build_number", json!("0"), "build_number is not a number"),
            ("subdir", json!("../linux-64"), "a subdir is noarch"),
            ("subdir", Value::Null, "subdir is not a text"),
            ("depends", json!("libgcc"), "depends is not a list"),
            ("constrains", json!([1]), "constrains is not a list"),
        ] {
            let mut lying = index();
            lying[field] = value;
            let error = granary_core::report(&read(&lying).unwrap_err());
            assert!(error.contains(message), "{field}: {error}");
        }
        assert!(matches!(read(&json!([])), Err(RecordError::Json { .. })));
    }
}
