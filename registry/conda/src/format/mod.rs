//! The formats of conda: names, packages, records, index documents. Pure: no I/O.
//!
//! | what | read by | written by | source |
//! |---|---|---|---|
//! | file names | [`PackageFile`] | its `Display` | CEP 26 |
//! | the bytes of a package | [`PackageReader`] | | CEP 35 |
//! | `info/index.json` | [`Record`] | | CEP 34 |
//! | `repodata.json` | | [`repodata`] | CEP 36 |
//! | shards and their index | | [`shards`] | CEP 16 |
//! | what other registries wrote | [`foreign`] | [`foreign`] | |

pub mod foreign;
mod name;
mod package;
mod record;
pub mod repodata;
pub mod shards;

pub use name::{ArchiveKind, NameError, PackageFile, PackageName, Subdir};
pub use package::{PackageContents, PackageError, PackageReader};
pub use record::{Record, RecordError};
