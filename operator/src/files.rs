//! Certificates that clients want as files, in a folder of their own.

use std::io;
use std::path::PathBuf;

use tempfile::TempDir;

/// A folder that goes when it is dropped.
#[derive(Debug)]
pub struct Files(TempDir);

impl Files {
    /// A new folder.
    pub fn new() -> io::Result<Self> {
        tempfile::Builder::new().prefix("granary-operator-").tempdir().map(Self)
    }

    /// Writes a text down, where there is one, and says where.
    pub fn pem(&self, name: &str, text: Option<&str>) -> io::Result<Option<PathBuf>> {
        let Some(text) = text else { return Ok(None) };
        let path = self.0.path().join(name);
        std::fs::write(&path, text)?;
        Ok(Some(path))
    }

    /// The folder itself.
    pub fn folder(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}
