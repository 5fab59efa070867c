//! A token's claims as texts by their path, which is how permissions name them.

use std::collections::{BTreeMap, HashSet};

use crate::jwt::json::{Json, Object};

/// How many claims a token may have, those within others counted one by one.
const MAX_CLAIMS: usize = 128;
/// How many names a path may have.
const MAX_DEPTH: usize = 4;

/// Claims that permissions cannot name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// Two claims have the same path: one of them has a name with a `/`.
    #[error("two claims of the token read the same once those within others are named by their path")]
    Ambiguous,
    /// There are more than 128.
    #[error("the token has more than {MAX_CLAIMS} claims")]
    TooMany,
    /// They lie more than four deep within each other.
    #[error("the token's claims lie more than {MAX_DEPTH} deep within each other")]
    TooDeep,
    /// A name or a text holds the character U+0000, which the database cannot keep.
    #[error("a claim of the token holds the character U+0000")]
    Null,
}

/// All texts, numbers (as written) and truth values, those within objects by their path: `kubernetes.io/namespace`.
/// Arrays and nulls are left out, but a path that they have is taken.
pub(super) fn flatten(payload: &Object) -> Result<BTreeMap<String, String>, ClaimsError> {
    let mut claims = Claims::default();
    claims.add(payload, None, 1)?;
    Ok(claims.found)
}

#[derive(Default)]
struct Claims {
    found: BTreeMap<String, String>,
    /// Those of what is left out, too.
    paths: HashSet<String>,
}

impl Claims {
    fn add(&mut self, object: &Object, within: Option<&str>, depth: usize) -> Result<(), ClaimsError> {
        for (name, value) in object {
            if depth > MAX_DEPTH {
                return Err(ClaimsError::TooDeep);
            }
            let path = match within {
                Some(within) => format!("{within}/{name}"),
                None => name.clone(),
            };
            if !self.paths.insert(path.clone()) {
                return Err(ClaimsError::Ambiguous);
            }
            let text = match value {
                Json::Text(text) | Json::Number(text) => text.clone(),
                Json::Bool(value) => value.to_string(),
                Json::Object(inner) => {
                    self.add(inner, Some(&path), depth + 1)?;
                    continue;
                }
                Json::Array(_) | Json::Null => continue,
            };
            if path.contains('\0') || text.contains('\0') {
                return Err(ClaimsError::Null);
            }
            if self.found.len() == MAX_CLAIMS {
                return Err(ClaimsError::TooMany);
            }
            self.found.insert(path, text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn flat(text: &str) -> Result<BTreeMap<String, String>, ClaimsError> {
        let Json::Object(object) = Json::read(text).unwrap() else { panic!() };
        flatten(&object)
    }

    fn claims(text: &str) -> Vec<(String, String)> {
        flat(text).unwrap().into_iter().collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_token_of_a_service_account() {
        let token = r#"{
            "aud": ["granary"], "exp": 1731613413, "iat": 1700077413,
            "iss": "https://kubernetes.default.svc.cluster.local",
            "jti": "ea28ed49-2e11-4280-9ec5-bc3d1d84661a",
            "kubernetes.io": {
                "namespace": "team-a",
                "node": {"name": "node-1", "uid": "97f4a6f0"},
                "pod": {"name": "publish-x7k2p", "uid": "c9e4b0b4"},
                "serviceaccount": {"name": "publisher", "uid": "b77dc7c4"},
                "warnafter": 1700081020
            },
            "nbf": 1700077413, "sub": "system:serviceaccount:team-a:publisher"
        }"#;
        let expected = pairs(&[
            ("exp", "1731613413"),
            ("iat", "1700077413"),
            ("iss", "https://kubernetes.default.svc.cluster.local"),
            ("jti", "ea28ed49-2e11-4280-9ec5-bc3d1d84661a"),
            ("kubernetes.io/namespace", "team-a"),
            ("kubernetes.io/node/name", "node-1"),
            ("kubernetes.io/node/uid", "97f4a6f0"),
            ("kubernetes.io/pod/name", "publish-x7k2p"),
            ("kubernetes.io/pod/uid", "c9e4b0b4"),
            ("kubernetes.io/serviceaccount/name", "publisher"),
            ("kubernetes.io/serviceaccount/uid", "b77dc7c4"),
            ("kubernetes.io/warnafter", "1700081020"),
            ("nbf", "1700077413"),
            ("sub", "system:serviceaccount:team-a:publisher"),
        ]);
        assert_eq!(claims(token), expected);
    }

    #[test]
    fn texts_numbers_and_truth_values_count_as_they_are_written() {
        let token = r#"{"ref_protected": true, "run_attempt": 1.50, "groups": ["a"], "environment": null, "empty": {}, "": "x"}"#;
        let expected = [("", "x"), ("ref_protected", "true"), ("run_attempt", "1.50")];
        assert_eq!(claims(token), pairs(&expected));
    }

    #[test]
    fn a_name_with_a_slash_stands_for_itself_alone() {
        let url = r#"{"https://ci.example/team": "a"}"#;
        assert_eq!(claims(url), pairs(&[("https://ci.example/team", "a")]));
        for token in [
            r#"{"a": {"b": "1"}, "a/b": "1"}"#,
            r#"{"a": {"b/c": "1", "b": {"c": "2"}}}"#,
            r#"{"a/b": {"c": "1"}, "a": {"b/c": "2"}}"#,
            // What is left out has been said, too.
            r#"{"a": {"b": ["1"]}, "a/b": "1"}"#,
            r#"{"a": {"b": null}, "a/b": "1"}"#,
            r#"{"a": {"b": {}}, "a/b": "1"}"#,
        ] {
            assert_eq!(flat(token), Err(ClaimsError::Ambiguous), "{token}");
        }
    }

    #[test]
    fn depth_number_and_characters_are_bounded() {
        assert_eq!(claims(r#"{"a":{"b":{"c":{"d":1}}}}"#), pairs(&[("a/b/c/d", "1")]));
        assert_eq!(flat(r#"{"a":{"b":{"c":{"d":{"e":1}}}}}"#), Err(ClaimsError::TooDeep));
        let of = |count: usize| {
            let members: Vec<String> = (0..count).map(|i| format!(r#""c{i}":1"#)).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(claims(&of(MAX_CLAIMS)).len(), MAX_CLAIMS);
        assert_eq!(flat(&of(MAX_CLAIMS + 1)), Err(ClaimsError::TooMany));
        assert_eq!(flat(r#"{"a":"\u0000"}"#), Err(ClaimsError::Null));
        assert_eq!(flat(r#"{"\u0000":"a"}"#), Err(ClaimsError::Null));
    }
}
