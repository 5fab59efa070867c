//! The formats of conda: names, packages, records, index documents. Pure: no I/O.
//!
//! | what | read by | written by | source |
//! |---|---|---|---|
//! | file names | [`PackageFile`] | its `Display` | CEP 26 |
//! | the bytes of a package | [`PackageReader`] | | CEP 35 |
//! | `info/index.json` | [`Record`] | | CEP 34 |
//! | `repodata.json` | | [`repodata`] | CEP 36 |
//! | shards and their index | | [`shards`] | CEP 16 |
//! | `bin/`, `Scripts/`, `info/link.json` | [`commands`] | [`commands::map`] | conda-suggest |
//! | `repodata.json.zck` | | [`zchunk`] | `zchunk_format.txt` |
//! | the parts of a `.conda` | | [`transmute`] | CEP 35 |
//! | what other registries wrote | [`foreign`] | [`foreign`] | |
//! | `run_exports.json` | | [`run_exports`] | CEP 12 |
//! | `channeldata.json` | [`facts`] | [`channeldata`] | CEP 38 |
//! | `rss.xml` | | [`rss`] | RSS 2.0 |
//! | `.bz2` | | [`bzip2_stream`] | bzip2 1.0 |
//! | `current_repodata.json` | | [`current`] | conda-index's `current_repodata.py` |
//! | `patch_instructions.json` | [`patch`] | | CEP 21, conda-index |
//! | dependencies | [`MatchSpec`] | | conda's `models/match_spec.py` |
//! | versions | [`version`] | | conda's `models/version.py` |

pub mod bzip2_stream;
pub mod channeldata;
pub mod commands;
pub mod current;
pub mod facts;
pub mod foreign;
mod match_spec;
mod name;
mod package;
pub mod patch;
mod record;
pub mod repodata;
pub mod rss;
pub mod run_exports;
pub mod shards;
pub mod transmute;
pub mod version;
pub mod zchunk;

pub use match_spec::MatchSpec;
pub use name::{ArchiveKind, NameError, PackageFile, PackageName, Subdir};
pub use package::{PackageContents, PackageError, PackageReader};
pub use record::{Record, RecordError};
