//! `channeldata.json` (CEP 38): one record a name, of all its packages in all subdirs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::facts::{OF_ANY, OF_NEWEST};
use super::name::{ArchiveKind, PackageFile};
use super::version;

/// Timestamps above are milliseconds: the last second of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// A package, as far as channeldata goes.
#[derive(Debug)]
pub struct Item {
    /// The folder.
    pub subdir: String,
    /// The file.
    pub file: PackageFile,
    /// The record that `repodata.json` has.
    pub record: Map<String, Value>,
    /// What [`facts`](super::facts::facts) told.
    pub facts: Map<String, Value>,
    /// What packages that are built with it depend on.
    pub run_exports: Value,
}

/// What channeldata says of a name.
#[derive(Debug, Clone, PartialEq)]
pub struct NameData {
    /// The record.
    pub record: Value,
    /// When the newest package was built, in seconds since 1970; 0 where none says it.
    pub newest: i64,
}

/// Seconds since 1970 of a record's `timestamp`, which may be milliseconds.
fn seconds(timestamp: i64) -> i64 {
    if timestamp > LAST_SECOND { timestamp / 1000 } else { timestamp }
}

fn timestamp(record: &Map<String, Value>) -> i64 {
    record.get("timestamp").and_then(Value::as_i64).unwrap_or_default()
}

/// Python's truth: what is empty, zero or false counts as absent.
fn is_told(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// What is told of a name that has these packages; `None` where there are none.
///
/// Of each version in a subdir the package that was built last counts, and what it says over what older versions say. A
/// `.tar.bz2` beside a `.conda` of the same name does not count.
pub fn name_data(items: Vec<Item>) -> Option<NameData> {
    let twins: BTreeSet<(String, String)> = items
        .iter()
        .filter(|item| item.file.kind() == ArchiveKind::Conda)
        .map(|item| (item.subdir.clone(), item.file.stem()))
        .collect();
    let mut built_last: BTreeMap<(String, String), Item> = BTreeMap::new();
    for item in items {
        let is_conda = item.file.kind() == ArchiveKind::Conda;
        if !is_conda && twins.contains(&(item.subdir.clone(), item.file.stem())) {
            continue;
        }
        // Of equals the first one counts: `.conda` files before others, each by their names.
        let rank = |item: &Item| (timestamp(&item.record), item.file.kind(), Reverse(item.file.to_string()));
        let key = (item.subdir.clone(), item.file.version().to_owned());
        let better = built_last.get(&key).is_none_or(|known| rank(known) < rank(&item));
        if better {
            built_last.insert(key, item);
        }
    }
    let mut items: Vec<Item> = built_last.into_values().collect();
    items.sort_by(|left, right| {
        version::order(left.file.version(), right.file.version())
            .then_with(|| seconds(timestamp(&left.record)).cmp(&seconds(timestamp(&right.record))))
            .then_with(|| right.subdir.cmp(&left.subdir))
    });
    let last = items.last()?;
    let mut data = Map::new();
    data.insert("version".to_owned(), last.file.version().into());
    let subdirs: BTreeSet<&str> = items.iter().map(|item| item.subdir.as_str()).collect();
    data.insert("subdirs".to_owned(), subdirs.into_iter().collect());
    let mut run_exports = Map::new();
    let mut newest = 0;
    for name in OF_ANY {
        data.insert(name.to_owned(), false.into());
    }
    for item in &items {
        // The record stands over what the recipe and about.json say.
        let told = |name: &str| item.record.get(name).or_else(|| item.facts.get(name)).filter(|v| is_told(v));
        for name in OF_NEWEST {
            if let Some(value) = told(name) {
                data.insert(name.to_owned(), value.clone());
            }
        }
        for name in OF_ANY {
            if told(name).is_some() {
                data.insert(name.to_owned(), true.into());
            }
        }
        if is_told(&item.run_exports) {
            run_exports.insert(item.file.version().to_owned(), item.run_exports.clone());
        }
        newest = newest.max(seconds(timestamp(&item.record)));
    }
    data.insert("run_exports".to_owned(), run_exports.into());
    data.insert("timestamp".to_owned(), newest.into());
    // In the order of their names, like every record.
    let sorted: BTreeMap<String, Value> = data.into_iter().collect();
    Some(NameData { record: Value::Object(sorted.into_iter().collect()), newest })
}

/// What stands before the records.
pub const HEAD: &str = "{\"channeldata_version\":1,\"packages\":{";

/// What stands behind them; the characters of subdirs need no escape.
pub fn tail<'a>(subdirs: impl IntoIterator<Item = &'a str>) -> String {
    let subdirs: Vec<String> = subdirs.into_iter().map(|subdir| format!("\"{subdir}\"")).collect();
    format!("}},\"subdirs\":[{}]}}", subdirs.join(","))
}

/// A record, with the comma before it: `record` is its JSON.
pub fn entry(name: &str, record: &str) -> String {
    // The characters of a package's name need no escape.
    format!(",\n\"{name}\":{record}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    fn item(subdir: &str, file: &str, timestamp: i64, facts: Value, run_exports: Value) -> Item {
        let Value::Object(facts) = facts else { panic!() };
        let Value::Object(record) = json!({"timestamp": timestamp, "license": "MIT"}) else { panic!() };
        Item { subdir: subdir.to_owned(), file: file.parse().unwrap(), record, facts, run_exports }
    }

    #[test]
    fn the_newest_version_tells_what_it_can_and_older_ones_the_rest() {
        let exports = json!({"weak": ["a >=1"]});
        let items = vec![
            item(
                "linux-64",
                "a-1.9-0.conda",
                1_000,
                json!({"summary": "old", "home": "h", "post_link": true}),
                exports.clone(),
            ),
            item("linux-64", "a-1.10-0.conda", 2_000_000_000_000, json!({"summary": "new"}), json!({})),
            item(
                "linux-64",
                "a-1.10-0.tar.bz2",
                2_000_000_000_500,
                json!({"summary": "twin"}),
                exports.clone(),
            ),
            item("linux-64", "a-1.10-1.conda", 500, json!({"summary": "built before"}), json!({})),
            item(
                "noarch",
                "a-1.10-n.tar.bz2",
                2_000_000_000_000,
                json!({"summary": "of a later subdir", "doc_url": "d"}),
                json!({}),
            ),
        ];
        let data = name_data(items).unwrap();
        assert_eq!(
            data.record,
            json!({"activate.d": false, "binary_prefix": false, "deactivate.d": false, "doc_url": "d", "home": "h", "license": "MIT",
                "post_link": true, "pre_link": false, "pre_unlink": false, "run_exports": {"1.9": exports},
                "subdirs": ["linux-64", "noarch"], "summary": "new", "text_prefix": false, "timestamp": 2_000_000_000, "version": "1.10"})
        );
        assert_eq!(data.newest, 2_000_000_000);
        assert_eq!(name_data(Vec::new()), None);
    }

    #[test]
    fn the_pieces_are_json() {
        let text = format!("{HEAD}{}{}", &entry("a", "{}")[1..], tail(["linux-64", "noarch"]));
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            json,
            json!({"channeldata_version": 1, "packages": {"a": {}}, "subdirs": ["linux-64", "noarch"]})
        );
    }
}
