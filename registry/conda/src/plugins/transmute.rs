//! Transmutation: each `.tar.bz2` of a channel gets a `.conda` with the same contents beside it, by jobs.
//!
//! A package is read once, as a stream; its two parts grow in files of the system's folder for temporary ones, since a zip archive
//! says how long they are before they come. The result is read and published as an upload is.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use futures_util::TryStreamExt;
use granary_core::{ChannelName, Format, Sha256};
use granary_http::Refusal;
use granary_store::objects::{ObjectError, Upload, UploadError, verified};
use granary_store::{Channel, DbError, Done, JobFailure, Jobs, NewJob, PublishTx, Scope};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::author::Author;
use crate::format::transmute::{Part, TransmuteError, Transmuter, frame};
use crate::format::{ArchiveKind, PackageFile, Record, Subdir};
use crate::intake::{Intake, IntakeError};
use crate::publish::Package;
use crate::state::{Conda, read_digest};

/// Transmutes one package.
const ONE: &str = "conda-transmute";
/// Looks for packages that are to be transmuted.
pub(crate) const ALL: &str = "conda-transmute-all";
/// How often it is looked for packages that were there before the channel was to transmute.
const LOOK_EVERY: SignedDuration = SignedDuration::from_mins(10);
/// How many of them are put on the queue at a time.
const AT_A_TIME: i64 = 1_000;
/// After so many failures a package is left as it is.
const ATTEMPTS: i32 = 5;
/// How many pieces may wait between the object store and the compressor.
const PIECES: usize = 4;
/// How much of a part is read at a time.
const PIECE: usize = 64 << 10;

/// Why a package was not transmuted.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("the package cannot be read from the object store")]
    Object(#[from] ObjectError),
    #[error("the new package cannot be stored")]
    Upload(#[from] UploadError),
    #[error("the package cannot be transmuted")]
    Transmute(#[from] TransmuteError),
    #[error("the new package is none")]
    Intake(#[from] IntakeError),
    #[error("a temporary file cannot be used")]
    Temporary(#[from] std::io::Error),
    #[error("the work was broken off")]
    Interrupted(#[from] tokio::task::JoinError),
    #[error("the new package cannot be published")]
    Publish(#[from] Refusal),
}

/// A package as it lies in the object store.
struct Source {
    record: Record,
    sha256: Sha256,
    md5: String,
    size: u64,
    key: String,
}

fn job(channel: &ChannelName, subdir: &str, filename: &str, now: Timestamp) -> NewJob {
    NewJob {
        kind: ONE,
        dedup_key: Some(format!("{ONE}:{channel}/{subdir}/{filename}")),
        payload: json!({"channel": channel.as_str(), "subdir": subdir, "file": filename}),
        run_at: now,
        max_attempts: ATTEMPTS,
    }
}

impl Conda {
    /// Adds what runs the jobs of transmutation.
    pub(crate) fn handle_transmutation(self: &Arc<Self>, jobs: Jobs) -> Jobs {
        let (one, all) = (Arc::clone(self), Arc::clone(self));
        jobs.handle(ONE, move |payload| {
            let conda = Arc::clone(&one);
            async move {
                conda.transmute_job(&payload).await?;
                Ok::<_, JobFailure>(Done::Finished)
            }
        })
        .handle(ALL, move |_| {
            let conda = Arc::clone(&all);
            async move {
                let found = conda.find_packages_to_transmute().await?;
                if found > 0 {
                    tracing::info!(found, "packages are to be transmuted");
                }
                Ok::<_, JobFailure>(Done::Again(LOOK_EVERY))
            }
        })
    }

    /// Has a package transmuted that is being published.
    pub(crate) async fn enqueue_transmutation(
        &self,
        tx: &PublishTx,
        channel: &Channel,
        package: &Package,
    ) -> Result<(), DbError> {
        if channel.settings.conda.transmutation && package.file.kind() == ArchiveKind::TarBz2 {
            let (subdir, file) = (package.record.subdir().as_str(), package.file.to_string());
            tx.enqueue(&job(&channel.name, subdir, &file, package.indexed_at)).await?;
        }
        Ok(())
    }

    async fn find_packages_to_transmute(&self) -> Result<usize, DbError> {
        let rows = self.store.database().query(&self.plugins.sql.to_transmute, &[&AT_A_TIME]).await?;
        let jobs = self.store.jobs();
        for row in &rows {
            let name = ChannelName::parse(Format::Conda, row.try_get(0)?);
            let name = name.map_err(|error| DbError::decode("channel name", error))?;
            jobs.enqueue(&job(&name, row.try_get(1)?, row.try_get(2)?, self.store.clock().now())).await?;
        }
        Ok(rows.len())
    }

    async fn transmute_job(&self, payload: &Value) -> Result<(), Failure> {
        let text = |field: &str| payload.get(field).and_then(Value::as_str).unwrap_or_default();
        let unreadable = |error| DbError::decode("job", granary_core::report(&error));
        let name = ChannelName::parse(Format::Conda, text("channel"));
        let name = name.map_err(|error| DbError::decode("job", error))?;
        let subdir: Subdir = text("subdir").parse().map_err(unreadable)?;
        let file: PackageFile = text("file").parse().map_err(unreadable)?;
        self.store.revisions().refresh(&[Scope::REGISTRY]).await?;
        let Some(channel) = self.store.directory().find(Format::Conda, &name).await? else { return Ok(()) };
        if channel.settings.conda.transmutation {
            self.transmute(&channel, &subdir, &file).await?;
        }
        Ok(())
    }

    async fn transmute(
        &self,
        channel: &Arc<Channel>,
        subdir: &Subdir,
        file: &PackageFile,
    ) -> Result<(), Failure> {
        let Some(source) = self.source(channel, subdir, file).await? else { return Ok(()) };
        let twin = file.with_kind(ArchiveKind::Conda);
        let standing = self.source(channel, subdir, &twin).await?;
        let replace = match &standing {
            None => false,
            Some(standing) => match standing.record.legacy_md5() {
                // What somebody uploaded stays, and what is made of this very file is there already.
                None => return Ok(()),
                Some(md5) if md5 == source.md5 => return Ok(()),
                Some(_) => true,
            },
        };
        let (info, contents) = self.parts(channel, &source).await?;
        let (package, upload) = self.assemble(channel, &twin, &source, info, contents).await?;
        let stored = upload.finish().await?;
        let author = Author::job("transmutation");
        if !self.publish(&author, channel, &package, &stored, replace).await? {
            self.store.doom(&stored).await?;
        }
        Ok(())
    }

    async fn source(
        &self,
        channel: &Channel,
        subdir: &Subdir,
        file: &PackageFile,
    ) -> Result<Option<Source>, DbError> {
        let sql = &self.plugins.sql.transmute_source;
        let filename = file.to_string();
        let row = self.store.database().query_opt(sql, &[&channel.id(), &subdir.as_str(), &filename]).await?;
        let Some(row) = row else { return Ok(None) };
        let record = Record::from_json(row.try_get(0)?, row.try_get(1)?);
        let size: i64 = row.try_get(4)?;
        Ok(Some(Source {
            record: record.map_err(|error| DbError::decode("record", error))?,
            sha256: read_digest(row.try_get(2)?)?,
            md5: hex::encode(row.try_get::<_, &[u8]>(3)?),
            size: u64::try_from(size).map_err(|error| DbError::decode("size", error))?,
            key: row.try_get(5)?,
        }))
    }

    /// Reads the package and writes the parts of its twin: `info/` first.
    async fn parts(&self, channel: &Channel, source: &Source) -> Result<(Part<File>, Part<File>), Failure> {
        let object = self.store.objects().open(&channel.bucket, &source.key, None).await?;
        let mut bytes = verified(object, source.sha256, source.size);
        let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(PIECES);
        let compressing = tokio::task::spawn_blocking(move || {
            let mut transmuter = Transmuter::new(tempfile::tempfile()?, tempfile::tempfile()?)?;
            while let Some(piece) = receiver.blocking_recv() {
                transmuter.write(&piece)?;
            }
            Ok::<_, Failure>(transmuter.finish()?)
        });
        while let Some(piece) = bytes.try_next().await? {
            // It has given up, and says why.
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(sender);
        compressing.await?
    }

    /// Lays the parts end to end on their way to the object store, and reads the package that they make up.
    async fn assemble(
        &self,
        channel: &Channel,
        twin: &PackageFile,
        source: &Source,
        info: Part<File>,
        contents: Part<File>,
    ) -> Result<(Package, Upload), Failure> {
        let [head, between, tail] = frame(twin, &info, &contents)?;
        let framing = (head.len() + between.len() + tail.len()) as u64;
        let size = info.length + contents.length + framing;
        let mut intake = Intake::begin(self, channel, size, twin.clone()).await;
        for (frame, part) in [(head, Some(contents)), (between, Some(info)), (tail, None)] {
            intake.write(&frame).await?;
            let Some(mut part) = part else { continue };
            part.file.seek(SeekFrom::Start(0))?;
            let mut file = tokio::fs::File::from_std(part.file);
            let mut piece = vec![0; PIECE];
            loop {
                let length = file.read(&mut piece).await?;
                if length == 0 {
                    break;
                }
                intake.write(&piece[..length]).await?;
            }
        }
        let (mut package, upload) = intake.finish(None, self.store.clock().now())?;
        package.record.set_legacy(&source.md5, source.size);
        Ok((package, upload))
    }
}
