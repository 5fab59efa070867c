//! Mirrors: copies of channels of other registries, brought up to date by a job.
//!
//! A synchronisation first lists what there is, row by row into a table, then fetches what is missing or has other bytes, some
//! packages at a time, each through the same door as an upload. It works in turns of some seconds, so that other jobs get
//! theirs, and whoever goes on with it finds in the tables how far it is.

use std::io;
use std::time::Duration;

use futures_util::StreamExt as _;
use granary_core::{ChannelName, Format, Sha256, report};
use granary_crds::{Mirror, Source};
use granary_http::Refusal;
use granary_store::{Channel, DbError, Done, JobFailure, NewJob, Scope};
use granary_upstream::{Client, Inspector, UpstreamError, Url};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::USUAL_SUBDIRS;
use super::rules::wants;
use crate::author::Author;
use crate::format::foreign::Coding;
use crate::format::foreign::document::{self, Facts, Kind, Listed, Sieve};
use crate::format::{PackageFile, Subdir};
use crate::intake::{Intake, IntakeError};
use crate::publish::Standing;
use crate::state::{Conda, read_digest};

/// The kind of the jobs that synchronise.
pub(crate) const MIRROR: &str = "conda mirror";
/// The kind of the periodic job that begins them when they are due.
pub(crate) const MIRRORS: &str = "conda mirrors";
/// How often it is looked for mirrors that are due.
pub(crate) const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// How soon a synchronisation is tried again that failed, where its schedule is slower.
const RETRY_MS: i64 = 5 * 60_000;
/// How long a turn lasts.
const TURN: Duration = Duration::from_secs(20);
/// How many packages are fetched at once, and how many are taken from the list at a time.
const AT_ONCE: usize = 4;
const BATCH: i64 = 64;
/// How many rows of the list are written at a time, and how many files are removed.
const ROWS: usize = 1000;
const REMOVED: i64 = 200;
/// The largest index and the largest package, in bytes, where the channel says nothing.
const MAX_INDEX: u64 = 2 << 30;
const MAX_TEXT: u64 = 4 << 30;
const MAX_PACKAGE: u64 = 8 << 30;

/// Why a synchronisation failed.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("{0} lists no subdir at all")]
    Nothing(String),
    #[error("{url}: {why}")]
    Unreadable { url: Url, why: String },
    #[error("a task was broken off")]
    Interrupted,
}

/// How the synchronisation of a mirror goes, or went.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Progress {
    /// `listing`, `fetching`, `done` or `failed`.
    pub(crate) state: String,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    /// Packages that the mirror is to hold, and what was done since the start.
    pub(crate) wanted: i64,
    pub(crate) fetched: i64,
    pub(crate) fetched_bytes: i64,
    pub(crate) failed: i64,
    pub(crate) removed: i64,
    /// What went wrong.
    pub(crate) error: Option<String>,
}

/// A file of the list.
struct Wanted {
    subdir: Subdir,
    file: PackageFile,
    url: String,
    sha256: Option<Sha256>,
}

#[derive(Debug, Default)]
struct Row {
    filename: String,
    url: String,
    sha256: Option<Vec<u8>>,
    size: Option<i64>,
}

impl Conda {
    /// Begins a synchronisation of the mirror as soon as a worker is free. Where one waits or runs already, that is it.
    pub(crate) async fn synchronize(&self, channel: &Channel) -> Result<(), DbError> {
        self.enqueue_mirror(channel.id(), channel.name.as_str()).await
    }

    /// How the present synchronisation goes, or how the last one went.
    pub(crate) async fn synchronization(&self, channel: &Channel) -> Result<Option<Progress>, DbError> {
        let row = self.store.database().query_opt(&self.sql.mirror, &[&channel.id()]).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Progress {
            state: row.try_get(0)?,
            started_at: row.try_get(1)?,
            ended_at: row.try_get(2)?,
            wanted: row.try_get(3)?,
            fetched: row.try_get(4)?,
            fetched_bytes: row.try_get(5)?,
            failed: row.try_get(6)?,
            removed: row.try_get(7)?,
            error: row.try_get(8)?,
        }))
    }

    async fn enqueue_mirror(&self, id: i64, name: &str) -> Result<(), DbError> {
        let job = NewJob {
            kind: MIRROR,
            dedup_key: Some(format!("{MIRROR}:{id}")),
            payload: json!({ "channel": name }),
            run_at: self.store.clock().now(),
            max_attempts: 10,
        };
        self.store.jobs().enqueue(&job).await
    }

    /// Begins the synchronisations that are due.
    pub(crate) async fn begin_mirrors(&self) -> Result<(), DbError> {
        let now = self.store.clock().now();
        for row in &self.store.database().query(&self.sql.due_mirrors, &[&now, &RETRY_MS]).await? {
            self.enqueue_mirror(row.try_get(0)?, row.try_get(1)?).await?;
        }
        Ok(())
    }

    /// One turn of a synchronisation.
    pub(crate) async fn mirror_turn(&self, payload: &Value) -> Result<Done, JobFailure> {
        let name = payload.get("channel").and_then(Value::as_str).unwrap_or_default();
        let Ok(name) = ChannelName::parse(Format::Conda, name) else { return Ok(Done::Finished) };
        self.store.revisions().refresh(&[Scope::REGISTRY]).await?;
        // It may have gone meanwhile, or be no mirror any more.
        let Some(channel) = self.store.directory().find(Format::Conda, &name).await? else {
            return Ok(Done::Finished);
        };
        let Source::Mirror(mirror) = &channel.settings.source else { return Ok(Done::Finished) };
        match self.go_on(&channel, mirror).await {
            Ok(done) => Ok(done),
            Err(SyncError::Database(error)) => Err(error.into()),
            Err(error) => {
                let told = report(&error);
                tracing::warn!(
                    channel = channel.full_name(),
                    error = told,
                    "a mirror could not be synchronised"
                );
                let now = self.store.clock().now();
                let params = (channel.id(), "failed", Some(told));
                self.store
                    .database()
                    .execute(&self.sql.end_mirror, &[&params.0, &params.1, &now, &params.2])
                    .await?;
                Ok(Done::Finished)
            }
        }
    }

    async fn go_on(&self, channel: &Channel, mirror: &Mirror) -> Result<Done, SyncError> {
        let database = self.store.database();
        let before = self.synchronization(channel).await?;
        let started_at = match before {
            Some(progress) if progress.state == "fetching" => progress.started_at,
            _ => {
                // To the microsecond, as the database keeps it.
                let now = self.store.clock().now().round(jiff::Unit::Microsecond).unwrap_or_default();
                database.execute(&self.sql.start_mirror, &[&channel.id(), &now]).await?;
                self.list(channel, mirror, now).await?;
                database.execute(&self.sql.listed_mirror, &[&channel.id(), &now]).await?;
                now
            }
        };
        let deadline = Instant::now() + TURN;
        while Instant::now() < deadline {
            if self.fetch_some(channel, mirror, started_at).await? == 0 {
                return self.end(channel, mirror, started_at).await;
            }
        }
        Ok(Done::Again(SignedDuration::ZERO))
    }

    /// Writes down what there is.
    async fn list(&self, channel: &Channel, mirror: &Mirror, started_at: Timestamp) -> Result<(), SyncError> {
        let mut found = 0;
        for subdir in self.subdirs_of_mirror(mirror).await? {
            if self.list_subdir(channel, mirror, &subdir, started_at).await? {
                found += 1;
            }
        }
        if found == 0 {
            // More likely a wrong URL than an empty channel: nothing is removed for it.
            return Err(SyncError::Nothing(mirror.url.clone()));
        }
        Ok(())
    }

    /// The subdirs that may be there.
    async fn subdirs_of_mirror(&self, mirror: &Mirror) -> Result<Vec<Subdir>, SyncError> {
        let mut named = mirror.subdirs.clone();
        if named.is_empty() {
            let url = parse(&format!("{}/channeldata.json", mirror.url))?;
            let mut nobody = Lister::new(mirror, None);
            let facts = self.read(mirror, &url, Coding::Plain, move |input| {
                document::pass(Kind::ChannelData, input, &mut io::sink(), &mut nobody)
            });
            named = facts.await?.map(|facts| facts.subdirs).unwrap_or_default();
            named.push(Subdir::NOARCH.to_owned());
        }
        if named.len() == 1 && mirror.subdirs.is_empty() {
            named = USUAL_SUBDIRS.map(str::to_owned).to_vec();
        }
        named.sort();
        named.dedup();
        Ok(named.iter().filter_map(|subdir| subdir.parse().ok()).collect())
    }

    /// Writes down what there is in a subdir. Says whether the other registry has it.
    async fn list_subdir(
        &self,
        channel: &Channel,
        mirror: &Mirror,
        subdir: &Subdir,
        started_at: Timestamp,
    ) -> Result<bool, SyncError> {
        let folder = parse(&format!("{}/{subdir}/", mirror.url))?;
        for (file, coding) in [("repodata.json.zst", Coding::Zstd), ("repodata.json", Coding::Plain)] {
            let url = parse(&format!("{folder}{file}"))?;
            let (sender, mut batches) = mpsc::channel::<Vec<Row>>(2);
            let mut lister = Lister::new(mirror, Some((folder.clone(), sender)));
            let reading = self.read(mirror, &url, coding, move |input| {
                let facts = document::pass(Kind::Repodata, input, &mut io::sink(), &mut lister)?;
                lister.flush();
                Ok(facts)
            });
            let writing = async {
                while let Some(rows) = batches.recv().await {
                    self.put_rows(channel, subdir, started_at, &rows).await?;
                }
                Ok::<_, DbError>(())
            };
            let (facts, written) = tokio::join!(reading, writing);
            written?;
            let Some(facts) = facts? else { continue };
            if let Some(base) = facts.base_url {
                let slash = if base.ends_with('/') { "" } else { "/" };
                let base = folder.join(&format!("{base}{slash}")).map_err(|_| UpstreamError::Url(base))?;
                let params = (channel.id(), subdir.as_str(), folder.as_str(), base.as_str());
                let moved = &self.sql.move_mirror_files;
                let database = self.store.database();
                database.execute(moved, &[&params.0, &params.1, &started_at, &params.2, &params.3]).await?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    async fn put_rows(
        &self,
        channel: &Channel,
        subdir: &Subdir,
        started_at: Timestamp,
        rows: &[Row],
    ) -> Result<(), DbError> {
        let names: Vec<&str> = rows.iter().map(|row| row.filename.as_str()).collect();
        let urls: Vec<&str> = rows.iter().map(|row| row.url.as_str()).collect();
        let digests: Vec<Option<&[u8]>> = rows.iter().map(|row| row.sha256.as_deref()).collect();
        let sizes: Vec<Option<i64>> = rows.iter().map(|row| row.size).collect();
        let params = (channel.id(), subdir.as_str());
        let database = self.store.database();
        database
            .execute(
                &self.sql.put_mirror_files,
                &[&params.0, &params.1, &started_at, &names, &urls, &digests, &sizes],
            )
            .await?;
        Ok(())
    }

    /// Reads a document of the other registry as it comes. `None` where there is no such document.
    async fn read<F>(
        &self,
        mirror: &Mirror,
        url: &Url,
        coding: Coding,
        read: F,
    ) -> Result<Option<Facts>, SyncError>
    where
        F: FnOnce(&mut dyn io::Read) -> Result<Facts, serde_json::Error> + Send + 'static,
    {
        let client = self.upstream.client();
        let Some(mut body) = client.open(url, mirror.allow_private_addresses, MAX_INDEX).await? else {
            return Ok(None);
        };
        let unreadable = |why: String| SyncError::Unreadable { url: url.clone(), why };
        let (sender, facts) = tokio::sync::oneshot::channel();
        let inspector = Inspector::new(move |pieces| {
            let mut input = coding.unpacked(pieces, MAX_TEXT).map_err(|error| report(&error))?;
            // The reader may have gone: then nobody wants to know.
            let _ = sender.send(read(&mut input).map_err(|error| report(&error))?);
            Ok(Value::Null)
        });
        while let Some(piece) = body.next().await? {
            if !inspector.write(piece).await {
                break;
            }
        }
        inspector.finish().await.map_err(unreadable)?;
        facts.await.map(Some).map_err(|_| SyncError::Interrupted)
    }

    /// Fetches some of what is missing. Says of how many that is settled.
    async fn fetch_some(
        &self,
        channel: &Channel,
        mirror: &Mirror,
        started_at: Timestamp,
    ) -> Result<usize, SyncError> {
        let database = self.store.database();
        let rows =
            database.query(&self.sql.missing_mirror_files, &[&channel.id(), &started_at, &BATCH]).await?;
        let mut wanted = Vec::with_capacity(rows.len());
        for row in &rows {
            let (subdir, file): (&str, &str) =
                (row.try_get(0).map_err(DbError::from)?, row.try_get(1).map_err(DbError::from)?);
            let sha256: Option<&[u8]> = row.try_get(3).map_err(DbError::from)?;
            wanted.push(Wanted {
                subdir: subdir.parse().map_err(|error| DbError::decode("subdir", error))?,
                file: file.parse().map_err(|error| DbError::decode("package file", error))?,
                url: row.try_get(2).map_err(DbError::from)?,
                sha256: sha256.map(read_digest).transpose()?,
            });
        }
        let count = wanted.len();
        let fetched = futures_util::stream::iter(wanted).map(async |wanted| {
            let outcome = self.fetch(channel, mirror, &wanted).await;
            (wanted, outcome)
        });
        let mut fetched = std::pin::pin!(fetched.buffer_unordered(AT_ONCE));
        while let Some((Wanted { subdir, file, .. }, outcome)) = fetched.next().await {
            match outcome {
                Ok(bytes) => {
                    database.execute(&self.sql.count_fetched, &[&channel.id(), &bytes]).await?;
                }
                Err(FetchError::Database(error)) => return Err(error.into()),
                Err(error) => {
                    let told = report(&error);
                    tracing::warn!(channel = channel.full_name(), %subdir, %file, error = told, "a package could not be fetched");
                    let params = (channel.id(), subdir.as_str(), file.to_string());
                    database
                        .execute(&self.sql.failed_mirror_file, &[&params.0, &params.1, &params.2, &told])
                        .await?;
                    database.execute(&self.sql.count_failed, &[&channel.id()]).await?;
                }
            }
        }
        Ok(count)
    }

    /// Fetches a package, checks it and publishes it. Says how many bytes it has.
    async fn fetch(&self, channel: &Channel, mirror: &Mirror, wanted: &Wanted) -> Result<i64, FetchError> {
        let Wanted { subdir, file, url, sha256 } = wanted;
        let limit = channel.settings.max_upload_size.unwrap_or(MAX_PACKAGE);
        let url = parse(url)?;
        let client: &Client = self.upstream.client();
        let opened = client.open(&url, mirror.allow_private_addresses, limit).await?;
        let mut body = opened.ok_or(FetchError::Absent)?;
        let mut intake = Intake::begin(self, channel, limit, file.clone()).await;
        while let Some(piece) = body.next().await? {
            intake.write(&piece).await?;
        }
        let (package, upload) = intake.finish(*sha256, self.store.clock().now())?;
        if package.record.subdir() != subdir {
            return Err(FetchError::Subdir(package.record.subdir().clone()));
        }
        let replace = self.standing(channel, &package).await? == Standing::Taken;
        let stored = upload.finish().await.map_err(UpstreamError::from)?;
        let author = Author::job("mirror");
        if !self.publish(&author, channel, &package, &stored, replace).await.map_err(FetchError::Publish)? {
            self.store.doom(&stored).await?;
        }
        Ok(i64::try_from(stored.digests.size).unwrap_or(i64::MAX))
    }

    /// Removes what is not wanted any more, if that is meant, and says how it went.
    async fn end(
        &self,
        channel: &Channel,
        mirror: &Mirror,
        started_at: Timestamp,
    ) -> Result<Done, SyncError> {
        let database = self.store.database();
        loop {
            if !mirror.follow_removal {
                break;
            }
            let params = (channel.id(), started_at, REMOVED);
            let rows =
                database.query(&self.sql.unwanted_packages, &[&params.0, &params.1, &params.2]).await?;
            let Some(first) = rows.first() else { break };
            let subdir: Subdir = first
                .try_get::<_, &str>(0)
                .map_err(DbError::from)?
                .parse()
                .map_err(|error| DbError::decode("subdir", error))?;
            let mut files: Vec<PackageFile> = Vec::new();
            for row in &rows {
                if row.try_get::<_, &str>(0).map_err(DbError::from)? == subdir.as_str() {
                    let file: &str = row.try_get(1).map_err(DbError::from)?;
                    files.push(file.parse().map_err(|error| DbError::decode("package file", error))?);
                }
            }
            let removed = self.remove(&Author::job("mirror"), channel, &subdir, &files).await;
            let removed = removed.map_err(|refusal| DbError::decode("removal", refusal))?;
            let count = i64::try_from(removed.len()).unwrap_or(i64::MAX);
            database.execute(&self.sql.count_removed, &[&channel.id(), &count]).await?;
        }
        database.execute(&self.sql.forget_mirror_files, &[&channel.id(), &started_at]).await?;
        let failed = self.synchronization(channel).await?.map_or(0, |progress| progress.failed);
        let error = (failed > 0).then(|| format!("{failed} packages could not be fetched; the log says why"));
        let state = if failed > 0 { "failed" } else { "done" };
        let now = self.store.clock().now();
        database.execute(&self.sql.end_mirror, &[&channel.id(), &state, &now, &error]).await?;
        Ok(Done::Finished)
    }
}

/// Why a package did not come.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("it is listed and not there")]
    Absent,
    #[error("it is a package for {0}")]
    Subdir(Subdir),
    #[error("it is no package that is taken")]
    Intake(#[from] IntakeError),
    #[error("it could not be published")]
    Publish(#[source] Refusal),
}

fn parse(url: &str) -> Result<Url, UpstreamError> {
    Url::parse(url).map_err(|_| UpstreamError::Url(url.to_owned()))
}

/// Passes on the records that a mirror wants.
struct Lister {
    mirror: Mirror,
    to: Option<(Url, mpsc::Sender<Vec<Row>>)>,
    rows: Vec<Row>,
}

impl Lister {
    fn new(mirror: &Mirror, to: Option<(Url, mpsc::Sender<Vec<Row>>)>) -> Self {
        Self { mirror: mirror.clone(), to, rows: Vec::new() }
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        if let Some((_, sender)) = self.to.as_ref().filter(|_| !rows.is_empty()) {
            // Whoever wrote them down has failed and says so.
            let _ = sender.blocking_send(rows);
        }
    }
}

impl Sieve for Lister {
    fn keeps(&mut self, _: &str, listed: &Listed<'_>) -> bool {
        #[derive(Deserialize)]
        struct Fields {
            sha256: Option<String>,
            size: Option<i64>,
            url: Option<String>,
        }

        let Some((folder, _)) = self.to.as_ref().filter(|_| listed.section.starts_with("packages")) else {
            return false;
        };
        // A name that no package of ours can have is passed over.
        let Ok(file) = listed.key.parse::<PackageFile>() else { return false };
        let Ok(fields) = serde_json::from_str::<Fields>(listed.record.get()) else { return false };
        let url = folder.join(fields.url.as_deref().unwrap_or(listed.key));
        if let Ok(url) = url
            && wants(&self.mirror, file.name().as_str(), file.version(), file.build())
        {
            self.rows.push(Row {
                filename: listed.key.to_owned(),
                url: url.to_string(),
                sha256: fields
                    .sha256
                    .and_then(|digest| hex::decode(digest).ok())
                    .filter(|digest| digest.len() == 32),
                size: fields.size,
            });
        }
        if self.rows.len() >= ROWS {
            self.flush();
        }
        false
    }

    fn keeps_unknown(&self) -> bool {
        false
    }
}
