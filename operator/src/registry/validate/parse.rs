//! Reading parts of a spec as types of Kubernetes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::Problems;

/// Reads `json` as a `T` of Kubernetes. A field that a `T` does not have is a problem as well: it is most
/// likely a slip of the pen, and the schema of the resource lets it pass.
pub fn parse<T: DeserializeOwned + Serialize>(
    problems: &mut Problems,
    path: &str,
    kind: &str,
    json: &Json,
) -> Option<T> {
    let parsed: Result<T, _> = T::deserialize(json);
    match parsed.and_then(|parsed| Ok((serde_json::to_value(&parsed)?, parsed))) {
        Ok((known, parsed)) => {
            let mut unknown = Vec::new();
            find_unknown(path, json, &known, &mut unknown);
            for field in &unknown {
                problems.add(field.as_str(), format!("there is no such field in {kind}; check its spelling"));
            }
            unknown.is_empty().then_some(parsed)
        }
        Err(error) => {
            problems.add(path, format!("Kubernetes does not read this as {kind}: {error}"));
            None
        }
    }
}

/// Reads each element of a list.
pub fn parse_list<T: DeserializeOwned + Serialize>(
    problems: &mut Problems,
    path: &str,
    kind: &str,
    list: &[Json],
) -> Vec<T> {
    list.iter()
        .enumerate()
        .filter_map(|(index, json)| parse(problems, &format!("{path}[{index}]"), kind, json))
        .collect()
}

/// The fields of `given` that were not read into `known`.
fn find_unknown(path: &str, given: &Json, known: &Json, unknown: &mut Vec<String>) {
    match (given, known) {
        (Json::Object(given), Json::Object(known)) => {
            for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                let path = format!("{path}.{key}");
                match known.get(key) {
                    Some(known) => find_unknown(&path, value, known, unknown),
                    None => unknown.push(path),
                }
            }
        }
        (Json::Array(given), Json::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                find_unknown(&format!("{path}[{index}]"), given, known, unknown);
            }
        }
        _ => {}
    }
}
