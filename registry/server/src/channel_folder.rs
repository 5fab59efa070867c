//! Channels from files: applied at the start and again whenever a file changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use granary_core::{ChannelName, Format, report};
use granary_crds::{BucketNaming, FolderReading, Located, read_folder};
use granary_store::{ApplyError, Fingerprint, ProvisionedPending, Store, object_name};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the folder is looked at. A mounted `ConfigMap` changes by swapping links, which only looking notices.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often everything is applied again although no file has changed: what failed may work by now.
const APPLY_EVERY: Duration = Duration::from_secs(15);
/// How often rows and grants are compared with what was applied, and made right where somebody else changed them.
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
    /// What the rows of each channel were when it was applied last.
    fingerprints: HashMap<(Format, ChannelName), Fingerprint>,
    /// Whether a channel waits for another's removal, which may have to be finished first.
    waits_for_removal: bool,
    /// What was reported already, so that a problem is told once and not every few seconds.
    reported: HashSet<String>,
}

/// The files of the folder by name, each with its text or with why it cannot be read.
type Files = BTreeMap<String, Result<String, String>>;

impl ChannelFolder {
    /// The channels of this folder, to be served from this store.
    pub fn new(folder: PathBuf, store: Store, naming: Arc<BucketNaming>) -> Self {
        Self {
            folder,
            store,
            naming,
            fingerprints: HashMap::new(),
            waits_for_removal: false,
            reported: HashSet::new(),
        }
    }

    /// Applies the folder, and again whenever it changes, until told to stop. `applied` runs after the first time.
    pub async fn watch(mut self, stop: CancellationToken, applied: impl FnOnce() + Send) {
        let mut files = self.read().await;
        let mut settled = self.apply(files.as_ref(), &stop).await;
        applied();
        let now = Instant::now();
        let (mut changed_at, mut applied_at, mut repaired_at) = (now, now, now);
        let (mut provided_at, mut provide_after, mut removed_at) = (now, Duration::ZERO, now);
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
                settled &= self.repair(files.as_ref()).await;
                repaired_at = Instant::now();
            }
            if provided_at.elapsed() >= provide_after {
                provide_after = if self.provision_pending().await { LOOK_EVERY } else { APPLY_EVERY };
                provided_at = Instant::now();
            }
            if !retired && changed_at.elapsed() >= GONE_AFTER {
                retired = self.retire(files.as_ref()).await;
                // A channel that could not take its place before may be able to now.
                applied_at -= if retired && !settled { APPLY_EVERY } else { Duration::ZERO };
            }
            if self.waits_for_removal || removed_at.elapsed() >= REPAIR_EVERY {
                let removed = self.resume_removals().await;
                applied_at -= if removed && !settled { APPLY_EVERY } else { Duration::ZERO };
                removed_at = Instant::now();
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
        self.waits_for_removal = false;
        for (file, located) in &reading.channels {
            if stop.is_cancelled() {
                return false;
            }
            settled &= self.apply_channel(file, located).await;
        }
        settled
    }

    /// True when nothing is left to be done.
    async fn apply_channel(&mut self, file: &str, located: &Located) -> bool {
        let (format, name) = (located.channel.format, &located.channel.name);
        match self.store.apply_channel(&located.channel, &self.naming).await {
            Ok(applied) => {
                self.fingerprints.insert((format, name.clone()), applied.fingerprint);
                if applied.had_vanished {
                    tracing::error!(
                        bucket = applied.bucket,
                        "a bucket was gone with its files; it is made anew"
                    );
                }
                for lacking in &applied.lacking {
                    self.mention(format!(
                        "{file}: the object store lacks {} for the bucket {} ({})",
                        lacking.feature, applied.bucket, lacking.answer
                    ));
                }
                for feature in applied.repaired {
                    tracing::warn!(bucket = applied.bucket, %feature, "a bucket had been changed and was repaired");
                }
                if applied.changed {
                    tracing::info!(channel = format!("{format}/{name}"), file, "a channel was applied");
                }
                true
            }
            Err(error) => {
                self.waits_for_removal |= matches!(error, ApplyError::BeingDeleted(_));
                self.tell(format!(
                    "{file}:{}: the channel {format}/{name} cannot be applied: {}",
                    located.line,
                    report(&error)
                ));
                false
            }
        }
    }

    /// Makes channels right again whose rows or grants somebody else has changed. True when nothing is left to be
    /// done.
    async fn repair(&mut self, files: Option<&Files>) -> bool {
        let Some(reading) = self.understand(files) else { return true };
        let now = match self.store.channel_fingerprints().await {
            Ok(now) => now,
            Err(error) => {
                tracing::debug!(error = report(&error), "the channels could not be compared");
                return true;
            }
        };
        let mut settled = true;
        for (file, located) in &reading.channels {
            let key = (located.channel.format, located.channel.name.clone());
            // What could not be applied yet is told of and tried again elsewhere.
            let Some(applied) = self.fingerprints.get(&key) else { continue };
            if now.get(&key) != Some(applied) {
                let channel = format!("{}/{}", key.0, key.1);
                tracing::warn!(channel, file, "a channel had been changed elsewhere and is repaired");
                settled &= self.apply_channel(file, located).await;
            }
        }
        settled
    }

    /// Provides the buckets of channels that were made through an API. False when one could not be had.
    async fn provision_pending(&mut self) -> bool {
        let mut all = true;
        match self.store.provision_pending(&self.naming).await {
            Ok(provisioned) => {
                for ProvisionedPending { format, name, outcome } in provisioned {
                    match outcome {
                        Ok(_) => {
                            tracing::info!(channel = format!("{format}/{name}"), "a new channel is served");
                        }
                        Err(error) => {
                            all = false;
                            self.tell(format!(
                                "the channel {format}/{name} cannot be provided: {}",
                                report(&error)
                            ));
                        }
                    }
                }
            }
            Err(error) => {
                all = false;
                tracing::debug!(error = report(&error), "it is unknown whether channels are pending");
            }
        }
        all
    }

    /// Finishes removals that nobody is at any more. True when one was finished.
    async fn resume_removals(&mut self) -> bool {
        match self.store.resume_removals().await {
            Ok(removed) => {
                self.waits_for_removal = false;
                for channel in &removed {
                    tracing::info!(channel, "a channel was removed");
                }
                !removed.is_empty()
            }
            Err(error) => {
                self.tell(format!("a channel could not be removed: {}", report(&error)));
                false
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
                for channel in retired.kept {
                    tracing::info!(channel, "a channel is kept and no longer served: its resource is gone");
                }
                for channel in retired.removed {
                    tracing::info!(channel, "a channel was removed: its resource is gone");
                }
                true
            }
            Err(error) => {
                // One that is not served any more may still have its bucket.
                self.waits_for_removal = true;
                self.tell(format!(
                    "channels whose resource is gone could not be retired: {}",
                    report(&error)
                ));
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
