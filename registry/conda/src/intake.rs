//! A package that arrives piece by piece: hashed, read and brought to the object store as it does, wherever it comes from.
//! Nothing is an object before everything about it has been checked.

use granary_core::Sha256;
use granary_http::Refusal;
use granary_store::Channel;
use granary_store::objects::{Upload, UploadError};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use crate::format::facts::facts;
use crate::format::patch::PatchError;
use crate::format::{PackageError, PackageFile, PackageReader, Record, RecordError, patch};
use crate::patches::is_patch_package;
use crate::publish::Package;
use crate::state::Conda;

/// Why a package is not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// It is no package that can be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// What it says of itself is wrong.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It holds patch instructions that are none.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// It is another one than was announced.
    #[error("Wrong SHA256 checksum")]
    Digest,
    /// The object store does not take it.
    #[error(transparent)]
    Upload(#[from] UploadError),
}

impl From<IntakeError> for Refusal {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Upload(error) => error.into(),
            IntakeError::Digest => Self::new(StatusCode::NOT_ACCEPTABLE, error.to_string()),
            error => Self::bad_request(granary_core::report(&error)),
        }
    }
}

/// A package on its way in.
pub(crate) struct Intake {
    file: PackageFile,
    /// Large, and moved with every future that takes in a package.
    reader: Box<PackageReader>,
    upload: Upload,
}

impl Intake {
    /// Begins to take in a package of at most `limit` bytes.
    pub(crate) async fn begin(state: &Conda, channel: &Channel, limit: u64, file: PackageFile) -> Self {
        let reader = Box::new(PackageReader::new(&file, is_patch_package(channel, file.name())));
        let upload = state.store.uploads().begin(&channel.bucket, limit).await;
        Self { file, reader, upload }
    }

    /// The next bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), IntakeError> {
        self.reader.write(bytes)?;
        Ok(self.upload.write(bytes).await?)
    }

    /// The package, once all of it has come. Its bytes are with the object store then, not yet an object. `indexed_at` is when the
    /// channel first lists it.
    pub(crate) fn finish(
        self,
        expected: Option<Sha256>,
        indexed_at: Timestamp,
    ) -> Result<(Package, Upload), IntakeError> {
        let Self { file, reader, upload } = self;
        let digests = upload.digests();
        if expected.is_some_and(|expected| expected != digests.sha256) {
            return Err(IntakeError::Digest);
        }
        let contents = reader.finish()?;
        let record = Record::read(&contents, &file, &digests, indexed_at)?;
        let facts = Value::Object(facts(&contents)).to_string();
        for instructions in contents.patches.values() {
            patch::read(instructions)?;
        }
        // What cannot be read describes nothing, and is in nobody's way.
        let about = contents.about.and_then(|about| serde_json::from_slice::<Value>(&about).ok());
        let about = about.map(|about| about.to_string());
        let (patches, commands) = (contents.patches, contents.commands);
        let package = Package { file, record, about, facts, patches, commands, indexed_at };
        Ok((package, upload))
    }
}
