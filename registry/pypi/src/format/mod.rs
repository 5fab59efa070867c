//! The formats of Python packaging, with no I/O.
//!
//! Input is parsed once, at the edge, into types that can hold nothing invalid:
//!
//! | input | type | source |
//! |---|---|---|
//! | project names | [`ProjectName`], [`NormalizedName`] | PEP 508, PEP 503 |
//! | versions | [`Version`] | PEP 440 |
//! | file names | [`DistributionFile`] | PEP 427, PEP 625 |
//! | `METADATA`, `PKG-INFO` | [`CoreMetadata`] | PEP 566, 643, 639, 794 |
//! | the bytes of a wheel or sdist | [`ArchiveReader`] | |
//! | the form of an upload | [`UploadForm`] | the legacy upload API |
//!
//! Output is rendered record by record, so that a document can be spliced from kept parts: [`simple`] for
//! the simple index in HTML and JSON, [`json_api`] for the project and release documents.

pub mod archive;
pub mod filename;
pub mod json_api;
pub mod metadata;
pub mod name;
pub mod negotiation;
pub mod simple;
pub mod upload;
pub mod version;

pub use archive::{ArchiveContents, ArchiveError, ArchiveReader};
pub use filename::{DistributionFile, FilenameError, PackageType};
pub use metadata::{CoreMetadata, Details, MetadataError};
pub use name::{NormalizedName, ProjectName, ProjectNameError};
pub use negotiation::{NotAcceptable, Representation, negotiate};
pub use upload::{Release, UploadError, UploadForm, ValidForm};
pub use version::{Version, VersionError};
