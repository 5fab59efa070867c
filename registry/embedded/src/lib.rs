//! What `granary dev` and `granary store` run in their own process, so that one command gives a whole registry on a bare
//! machine, or a whole database and object store in one container: an S3 server over files ([`object_store`]) and a
//! private `PostgreSQL` ([`postgres`]).
//!
//! Neither is a stand-in: the registry talks to both as it would to a bucket and a database of a cloud, and both keep
//! what they acknowledged over a loss of power.

mod folder_lock;
pub mod object_store;
pub mod postgres;

use std::io;
use std::path::Path;

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// What it can hold, in bytes.
    pub size: u64,
    /// What this process can still write to it, in bytes.
    pub free: u64,
}

/// Asks the file system that holds `path`.
///
/// # Errors
/// As of `statvfs(3)`: the path is not there, or may not be looked at.
pub fn volume(path: &Path) -> io::Result<Volume> {
    let answer = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
    Ok(Volume { size: bytes(answer.f_blocks), free: bytes(answer.f_bavail) })
}
