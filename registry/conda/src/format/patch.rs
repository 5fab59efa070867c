//! `patch_instructions.json`: what a channel says of its packages' records after they were built (CEP 21 for version 2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::name::{ArchiveKind, PackageFile};

/// The newest version of the format.
const NEWEST: u64 = 2;
/// The first version that patches what packages export.
const WITH_RUN_EXPORTS: u64 = 2;
/// What nobody patches: what a package is, its bytes, and when it was first listed (CEP 47).
const FIXED: [&str; 9] =
    ["name", "version", "build", "subdir", "fn", "md5", "sha256", "size", "indexed_timestamp"];
/// What a package depends on that was revoked.
const REVOKED: &str = "package_has_been_revoked";

/// Instructions that are refused.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// Not JSON, or not of the shape.
    #[error("patch_instructions.json cannot be read")]
    Json(#[from] serde_json::Error),
    /// Of a version that is not known.
    #[error("patch_instructions.json is of version {0}; versions up to 2 are known")]
    Version(u64),
    /// A field would become what no index can hold.
    #[error("patch_instructions.json makes {field} of {file} something else than {expected}")]
    Field {
        /// The file.
        file: String,
        /// The field.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
}

/// What is said of one file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilePatch {
    /// Fields that become these; without a value, fields that go.
    #[serde(skip_serializing_if = "Map::is_empty")]
    set: Map<String, Value>,
    /// What it exports from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_exports: Option<Value>,
    /// It stays listed, and cannot be installed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    revoke: bool,
    /// It is listed among what is removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    remove: bool,
}

/// A record after its patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patched {
    /// The record, where it became another one: JSON with the fields in the order of their names.
    pub record: Option<String>,
    /// What it exports, where that became something else.
    pub run_exports: Option<String>,
    /// Whether it is taken out of the index.
    pub is_out: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Written {
    patch_instructions_version: u64,
    packages: BTreeMap<String, Map<String, Value>>,
    #[serde(rename = "packages.conda")]
    conda: BTreeMap<String, Map<String, Value>>,
    remove: Vec<String>,
    revoke: Vec<String>,
}

/// What the instructions of a subdir say, by the names of files.
///
/// What is said of a `.tar.bz2` holds for the `.conda` of the same name too, unless something else is said of that. Names that
/// no package's file can have are passed over.
///
/// # Errors
/// [`PatchError`].
pub fn read(json: &[u8]) -> Result<BTreeMap<String, FilePatch>, PatchError> {
    // A list would be read as the fields in their order.
    let written: Map<String, Value> = serde_json::from_slice(json)?;
    let written: Written = serde_json::from_value(Value::Object(written))?;
    let version = written.patch_instructions_version;
    if version > NEWEST {
        return Err(PatchError::Version(version));
    }
    let mut patches: BTreeMap<String, FilePatch> = BTreeMap::new();
    let named = |file: String| {
        let file: Option<PackageFile> = file.parse().ok();
        let twin = file.as_ref().filter(|file| file.kind() == ArchiveKind::TarBz2);
        let twin = twin.map(|file| format!("{}{}", file.stem(), ArchiveKind::Conda.extension()));
        file.map(|file| file.to_string()).into_iter().chain(twin)
    };
    for (file, set) in written.packages.into_iter().chain(written.conda) {
        check(&file, &set)?;
        for file in named(file) {
            patches.entry(file).or_default().add(&set, version);
        }
    }
    for file in written.revoke {
        named(file).for_each(|file| patches.entry(file).or_default().revoke = true);
    }
    for file in written.remove {
        named(file).for_each(|file| patches.entry(file).or_default().remove = true);
    }
    Ok(patches)
}

fn check(file: &str, set: &Map<String, Value>) -> Result<(), PatchError> {
    type Field<'a> = (&'static str, &'static str, &'a dyn Fn(&Value) -> bool);
    let texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    let fields: [Field<'_>; 5] = [
        ("depends", "a list of texts", &texts),
        ("constrains", "a list of texts", &|value| value.is_null() || texts(value)),
        ("build_number", "a number from 0 on", &Value::is_u64),
        ("timestamp", "a number", &|value| value.is_null() || value.is_number()),
        ("run_exports", "an object", &Value::is_object),
    ];
    for (field, expected, is_right) in fields {
        if set.get(field).is_some_and(|value| !is_right(value)) {
            return Err(PatchError::Field { file: file.to_owned(), field, expected });
        }
    }
    Ok(())
}

impl FilePatch {
    fn add(&mut self, set: &Map<String, Value>, version: u64) {
        for (field, value) in set {
            if field == "run_exports" {
                if version >= WITH_RUN_EXPORTS {
                    self.run_exports = Some(value.clone());
                }
            } else if !FIXED.contains(&field.as_str()) {
                self.set.insert(field.clone(), value.clone());
            }
        }
    }

    /// What becomes of a record and of what it exports, which are JSON.
    ///
    /// # Errors
    /// Where the record is none.
    pub fn apply(&self, record: &str, run_exports: &str) -> Result<Patched, serde_json::Error> {
        let before: BTreeMap<String, Value> = serde_json::from_str(record)?;
        let mut fields = before.clone();
        for (field, value) in &self.set {
            if value.is_null() {
                fields.remove(field);
            } else {
                merge(fields.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
        if self.revoke {
            fields.insert("revoked".to_owned(), true.into());
            let depends = fields.entry("depends".to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(depends) = depends {
                depends.push(REVOKED.into());
            }
        }
        let record = (fields != before).then(|| serde_json::to_string(&fields)).transpose()?;
        let exports: Value = serde_json::from_str(run_exports)?;
        let changed = self.run_exports.as_ref().filter(|changed| **changed != exports);
        Ok(Patched { record, run_exports: changed.map(Value::to_string), is_out: self.remove })
    }
}

/// Objects become one; of everything else the new one stands.
fn merge(base: &mut Value, new: &Value) {
    match (base, new) {
        (Value::Object(base), Value::Object(new)) => {
            for (field, value) in new {
                merge(base.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
        (base, new) => base.clone_from(new),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    const RECORD: &str = r#"{"build":"0","constrains":["x"],"depends":["a"],"name":"p","version":"1"}"#;

    fn applied(instructions: &Value, file: &str) -> Patched {
        let patches = read(instructions.to_string().as_bytes()).unwrap();
        patches.get(file).cloned().unwrap_or_default().apply(RECORD, "{}").unwrap()
    }

    #[test]
    fn fields_are_set_and_go() {
        let instructions = json!({"patch_instructions_version": 1, "packages": {
            "p-1-0.tar.bz2": {"depends": ["b"], "constrains": null, "version": "9", "sha256": "x", "run_exports": {"weak": ["p"]}},
            "not a file": {"depends": []}},
            "packages.conda": {"p-1-0.conda": {"depends": ["c"]}}});
        let tar = applied(&instructions, "p-1-0.tar.bz2");
        assert_eq!(tar.record.unwrap(), r#"{"build":"0","depends":["b"],"name":"p","version":"1"}"#);
        assert_eq!(tar.run_exports, None);
        let conda = applied(&instructions, "p-1-0.conda");
        assert_eq!(conda.record.unwrap(), r#"{"build":"0","depends":["c"],"name":"p","version":"1"}"#);
        assert_eq!(
            applied(&instructions, "q-1-0.conda"),
            Patched { record: None, run_exports: None, is_out: false }
        );
    }

    #[test]
    fn packages_are_revoked_and_removed() {
        let instructions = json!({"revoke": ["p-1-0.tar.bz2"], "remove": ["p-1-0.conda"]});
        let tar = applied(&instructions, "p-1-0.tar.bz2");
        assert!(tar.record.unwrap().contains(r#""depends":["a","package_has_been_revoked"]"#) && !tar.is_out);
        let conda = applied(&instructions, "p-1-0.conda");
        assert!(conda.is_out && conda.record.unwrap().contains(r#""revoked":true"#));
    }

    #[test]
    fn version_two_patches_what_packages_export() {
        let instructions = json!({"patch_instructions_version": 2, "packages.conda": {"p-1-0.conda": {"run_exports": {"weak": ["p"]}}}});
        let patched = applied(&instructions, "p-1-0.conda");
        assert_eq!(
            patched,
            Patched { record: None, run_exports: Some(r#"{"weak":["p"]}"#.to_owned()), is_out: false }
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (json, message) in [
            ("no JSON", "cannot be read"),
            ("[]", "cannot be read"),
            (r#"{"packages": []}"#, "cannot be read"),
            (r#"{"remove": "p"}"#, "cannot be read"),
            (r#"{"patch_instructions_version": 3}"#, "of version 3"),
            (r#"{"packages": {"p-1-0.tar.bz2": {"depends": "a"}}}"#, "depends of p-1-0.tar.bz2"),
            (r#"{"packages": {"p-1-0.tar.bz2": {"build_number": -1}}}"#, "build_number of"),
        ] {
            let error = granary_core::report(&read(json.as_bytes()).unwrap_err());
            assert!(error.contains(message), "{json}: {error}");
        }
        assert!(read(b"{}").unwrap().is_empty());
    }
}
