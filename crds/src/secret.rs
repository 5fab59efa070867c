//! Secrets in a spec.

use std::fmt;
use std::io;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in the place of a secret wherever a spec is printed.
const HIDDEN: &str = "[hidden]";

/// A text that debug output, logs and serialised specs never show. Wiped from memory when dropped.
#[derive(Clone, Default)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The text in the wrapper that the rest of the product uses.
    pub fn into_secret_string(self) -> SecretString {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Refuses the placeholder, so that a printed spec which is read again cannot pass it off as the secret.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == HIDDEN {
            return Err(serde::de::Error::custom("this secret was hidden when the file was printed"));
        }
        Ok(Self::new(text))
    }
}

/// Where a secret stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the spec or the environment itself.
    Inline(Secret),
    /// In a file, as a mounted Kubernetes Secret is.
    File(PathBuf),
}

impl SecretSource {
    /// The secret. A file is read anew each time, since a mounted Secret is rotated under the process; line
    /// ends at its end do not belong to the secret.
    pub fn load(&self) -> io::Result<Secret> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)?;
                Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_is_never_printed_and_never_read_back_as_its_placeholder() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "[hidden]");
        let printed = serde_json::to_string(&secret).unwrap();
        assert_eq!(printed, "\"[hidden]\"");
        assert!(serde_json::from_str::<Secret>(&printed).is_err());
    }
}
