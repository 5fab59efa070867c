//! Packages that come along from another registry, as files.

use std::path::PathBuf;

use granary_core::Sha256;
use granary_http::Refusal;
use granary_store::objects::UploadError;
use granary_store::{Channel, DbError};
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::author::Author;
use crate::format::{NameError, PackageFile, Subdir};
use crate::intake::{Intake, IntakeError};
use crate::state::Conda;

/// The largest package that is brought along.
const LARGEST: u64 = 1 << 40;
/// How much of a file is read at once.
const PIECE: usize = 256 << 10;

/// A package that is to come along.
#[derive(Debug, Clone)]
pub struct Arriving {
    /// Where it is.
    pub path: PathBuf,
    /// The subdir that the old registry listed it in.
    pub subdir: String,
    /// Its name there.
    pub filename: String,
    /// What the old registry says of its bytes.
    pub sha256: Option<Sha256>,
    /// Who uploaded it there.
    pub uploaded_by: String,
    /// When.
    pub uploaded_at: Timestamp,
}

/// What became of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is in the channel now; so many bytes.
    Done(u64),
    /// The same bytes were there already.
    WasThere,
}

/// Why a package does not come along.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Its name is none, or its subdir.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The file cannot be read.
    #[error("the file cannot be read")]
    File(#[from] std::io::Error),
    /// The file's bytes are not those that the old registry knows.
    #[error("the file has other bytes than the old registry knows it by")]
    Digest,
    /// It is no package that is taken.
    #[error("it is no package that is taken")]
    Unfit(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It says that it belongs elsewhere.
    #[error("it is a package for {0}")]
    Subdir(Subdir),
    /// Another package stands under its name.
    #[error("the channel has another package of this name")]
    Differs,
    /// The object store failed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// It could not be published.
    #[error("it could not be published")]
    Publish(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ImportError {
    /// Whether it is about this package alone, and the next one may fare better.
    pub const fn is_about_the_package(&self) -> bool {
        !matches!(self, Self::Upload(_) | Self::Database(_) | Self::Publish(_))
    }
}

impl From<IntakeError> for ImportError {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Upload(error) => Self::Upload(error),
            IntakeError::Digest => Self::Digest,
            error => Self::Unfit(error.into()),
        }
    }
}

impl Conda {
    /// Brings a package into a channel, with the time and the uploader that it has. What is there already is left alone.
    ///
    /// # Errors
    /// [`ImportError`]; nothing of the package is in the channel then.
    pub async fn import_package(
        &self,
        channel: &Channel,
        arriving: &Arriving,
    ) -> Result<Imported, ImportError> {
        let file: PackageFile = arriving.filename.parse()?;
        let subdir: Subdir = arriving.subdir.parse()?;
        let there = self.file(channel, &subdir, &file).await?.map(|there| there.sha256);
        if there.is_some() && there == arriving.sha256 {
            return Ok(Imported::WasThere);
        }
        let mut source = File::open(&arriving.path).await?;
        let mut intake = Intake::begin(self, channel, LARGEST, file).await;
        let mut piece = vec![0; PIECE];
        loop {
            match source.read(&mut piece).await? {
                0 => break,
                length => intake.write(&piece[..length]).await?,
            }
        }
        let (package, upload) = intake.finish(arriving.sha256, arriving.uploaded_at)?;
        if *package.record.subdir() != subdir {
            return Err(ImportError::Subdir(package.record.subdir().clone()));
        }
        if there.is_some() {
            let same = there == Some(upload.digests().sha256);
            return if same { Ok(Imported::WasThere) } else { Err(ImportError::Differs) };
        }
        let stored = upload.finish().await?;
        let author = Author::imported(&arriving.uploaded_by);
        let published = self.publish(&author, channel, &package, &stored, false).await;
        if !published.map_err(|refusal: Refusal| ImportError::Publish(cause(refusal)))? {
            self.store.doom(&stored).await?;
            return Err(ImportError::Differs);
        }
        Ok(Imported::Done(stored.digests.size))
    }
}

fn cause(refusal: Refusal) -> Box<dyn std::error::Error + Send + Sync> {
    refusal.cause.unwrap_or_else(|| refusal.message.into())
}
