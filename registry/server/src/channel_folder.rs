//! Channels from files: applied at the start and again whenever a file changes.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use granary_crds::{BucketNaming, FolderReading, read_folder};
use granary_store::{Store, object_name, report};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the folder is looked at. A mounted `ConfigMap` changes by swapping links, which only looking notices.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often everything is applied again although no file has changed: what failed may work by now.
const APPLY_EVERY: Duration = Duration::from_secs(15);
/// How often rows and grants are compared with the files, and made right where somebody else changed them.
const REPAIR_EVERY: Duration = Duration::from_secs(20);
/// How often buckets are compared too.
const REPAIR_BUCKETS_EVERY: Duration = Duration::from_mins(15);
/// How long the folder has to be the same before a channel counts as gone from it: files are often replaced by
/// being emptied or removed first.
const GONE_AFTER: Duration = Duration::from_secs(3);

/// A folder of `Channel` resources.
#[derive(Debug)]
pub struct ChannelFolder {
    folder: PathBuf,
    store: Store,
    naming: Arc<BucketNaming>,
    /// What was reported already, so that a problem is told once and not every few seconds.
    reported: HashSet<String>,
}

/// The files of the folder by name, each with its text or with why it cannot be read.
type Files = BTreeMap<String, Result<String, String>>;

impl ChannelFolder {
    /// The channels of this folder, to be served from this store.
    pub fn new(folder: PathBuf, store: Store, naming: Arc<BucketNaming>) -> Self {
        Self { folder, store, naming, reported: HashSet::new() }
    }

    /// Applies the folder, and again whenever it changes, until told to stop. `applied` runs after the first time.
    pub async fn watch(mut self, stop: CancellationToken, applied: impl FnOnce() + Send) {
        let mut files = self.read().await;
        let mut settled = self.apply(files.as_ref(), &stop).await;
        applied();
        let now = Instant::now();
        let (mut changed_at, mut applied_at, mut repaired_at) = (now, now, now);
        let mut retired = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let seen = self.read().await;
            if seen != files {
                self.reported.clear();
                files = seen;
                (changed_at, settled, retired) = (Instant::now(), false, false);
                applied_at -= APPLY_EVERY;
            }
            if !settled && applied_at.elapsed() >= APPLY_EVERY || applied_at.elapsed() >= REPAIR_BUCKETS_EVERY
            {
                settled = self.apply(files.as_ref(), &stop).await;
                (applied_at, repaired_at) = (Instant::now(), Instant::now());
            } else if repaired_at.elapsed() >= REPAIR_EVERY {
                self.repair(files.as_ref()).await;
                repaired_at = Instant::now();
            }
            if !retired && changed_at.elapsed() >= GONE_AFTER {
                retired = self.retire(files.as_ref()).await;
                // A channel that could not take its place before may be able to now.
                applied_at -= if retired && !settled { APPLY_EVERY } else { Duration::ZERO };
            }
        }
    }

    async fn read(&mut self) -> Option<Files> {
        let folder = self.folder.clone();
        match tokio::task::spawn_blocking(move || read_files(&folder)).await {
            Ok(Ok(files)) => Some(files),
            Ok(Err(error)) => {
                let folder = self.folder.display().to_string();
                self.tell(format!("{folder}: {error}"));
                None
            }
            Err(_) => None,
        }
    }

    /// What the files say, with every problem told. `None` where the folder itself cannot be read: that is not a
    /// folder without channels.
    fn understand(&mut self, files: Option<&Files>) -> Option<FolderReading> {
        let files = files?;
        let readable =
            files.iter().filter_map(|(name, text)| Some((name.as_str(), text.as_ref().ok()?.as_str())));
        let reading = read_folder(readable);
        for notice in &reading.notices {
            self.tell(notice.to_string());
        }
        for problem in &reading.problems {
            self.tell(problem.to_string());
        }
        for (name, text) in files {
            match text {
                Err(error) => self.tell(format!("{name}: {error}")),
                Ok(text) if text.trim().is_empty() => self.tell(format!("{name}: the file is empty")),
                Ok(_) => {}
            }
        }
        Some(reading)
    }

    /// True when nothing is left to be done.
    async fn apply(&mut self, files: Option<&Files>, stop: &CancellationToken) -> bool {
        let Some(reading) = self.understand(files) else { return false };
        let mut settled = reading.problems.is_empty();
        for (file, located) in &reading.channels {
            if stop.is_cancelled() {
                return false;
            }
            let name = format!("{}/{}", located.channel.format, located.channel.name);
            match self.store.apply_channel(&located.channel, &self.naming).await {
                Ok(applied) => {
                    for lacking in &applied.lacking {
                        self.mention(format!(
                            "{file}: the object store lacks {} for the bucket {} ({})",
                            lacking.feature, applied.bucket, lacking.answer
                        ));
                    }
                    if applied.changed {
                        tracing::info!(channel = name, file, "a channel was applied");
                    }
                }
                Err(error) => {
                    settled = false;
                    self.tell(format!(
                        "{file}:{}: the channel {name} cannot be applied: {}",
                        located.line,
                        report(&error)
                    ));
                }
            }
        }
        settled
    }

    /// Makes rows and grants right again that somebody else has changed.
    async fn repair(&mut self, files: Option<&Files>) {
        let Some(reading) = self.understand(files) else { return };
        for (file, located) in &reading.channels {
            let name = format!("{}/{}", located.channel.format, located.channel.name);
            match self.store.repair_channel(&located.channel).await {
                Ok(false) => {}
                Ok(true) => tracing::warn!(
                    channel = name,
                    file,
                    "a channel had been changed elsewhere and was repaired"
                ),
                Err(error) => {
                    tracing::debug!(
                        channel = name,
                        error = report(&error),
                        "a channel could not be compared"
                    );
                }
            }
        }
    }

    /// Stops serving channels whose resource is gone. While some file cannot be read, none is: the channel that it
    /// held is not gone. Neither is any while there is no file at all: that is a folder that was not mounted.
    async fn retire(&mut self, files: Option<&Files>) -> bool {
        let Some(reading) = self.understand(files) else { return false };
        let unclear =
            |text: &Result<String, String>| text.as_ref().map_or(true, |text| text.trim().is_empty());
        if !reading.problems.is_empty()
            || files.is_none_or(|files| files.is_empty() || files.values().any(unclear))
        {
            return false;
        }
        let kept: HashSet<String> =
            reading.channels.iter().map(|(_, located)| object_name(&located.channel)).collect();
        match self.store.retire_channels_except(&kept).await {
            Ok(retired) => {
                for (channel, policy) in retired {
                    tracing::info!(channel, ?policy, "a channel is no longer served: its resource is gone");
                }
                true
            }
            Err(error) => {
                self.tell(format!("channels whose resource is gone are still served: {}", report(&error)));
                false
            }
        }
    }

    /// What is worth knowing and needs nothing to be done.
    fn mention(&mut self, message: String) {
        if !self.reported.contains(&message) {
            tracing::info!(target: "granary::channels", "{message}");
            self.reported.insert(message);
        }
    }

    fn tell(&mut self, message: String) {
        if !self.reported.contains(&message) {
            tracing::warn!(target: "granary::channels", "{message}");
            self.reported.insert(message);
        }
    }
}

fn read_files(folder: &Path) -> std::io::Result<Files> {
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if is_yaml && !name.starts_with('.') {
            files.insert(name, std::fs::read_to_string(&path).map_err(|error| error.to_string()));
        }
    }
    Ok(files)
}
