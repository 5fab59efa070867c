//! What is wrong with a spec, and where.

use std::fmt;

use crate::value::{Raw, Value};

/// One thing that is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, as `spec.permissions[2].role`; for a value from the environment the variable's name.
    pub path: String,
    /// What is wrong and what to write instead. Never holds a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Collects problems, so that all of them are told at once.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// Reads a text of the spec. The caller goes on without the value, and gives up after its last field.
    pub(crate) fn read<T: Value>(&mut self, path: &str, raw: &Raw<T>) -> Option<T> {
        T::read(raw.text()).map_err(|error| self.add(path, error.to_string())).ok()
    }

    /// As [`Problems::read`], for a field that may be absent. The outer option says whether it could be read.
    #[expect(clippy::option_option, reason = "a field that is absent is read well")]
    pub(crate) fn read_optional<T: Value>(&mut self, path: &str, raw: Option<&Raw<T>>) -> Option<Option<T>> {
        match raw {
            None => Some(None),
            Some(raw) => self.read(path, raw).map(Some),
        }
    }

    /// Reads a list, each element under its own path.
    pub(crate) fn read_list<T: Value>(&mut self, path: &str, list: &[Raw<T>]) -> Vec<T> {
        list.iter()
            .enumerate()
            .filter_map(|(index, raw)| self.read(&format!("{path}[{index}]"), raw))
            .collect()
    }

    /// The value if nothing at all was wrong, all problems otherwise.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
