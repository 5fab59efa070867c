//! Channels from files: applied at the start and again whenever a file changes.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use granary_crds::{BucketNaming, FolderReading, read_folder};
use granary_store::{Store, object_name, report};
use tokio_util::sync::CancellationToken;

/// How often the folder is looked at. A mounted `ConfigMap` changes by swapping links, which only looking notices.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often everything is applied again although no file has changed: what failed may work by now.
const APPLY_EVERY: Duration = Duration::from_secs(15);

/// A folder of `Channel` resources.
#[derive(Debug)]
pub struct ChannelFolder {
    folder: PathBuf,
    store: Store,
    naming: Arc<BucketNaming>,
    /// What was reported already, so that a problem is told once and not every few seconds.
    reported: HashSet<String>,
}

/// The files of the folder, by name.
type Files = BTreeMap<String, String>;

impl ChannelFolder {
    /// The channels of this folder, to be served from this store.
    pub fn new(folder: PathBuf, store: Store, naming: Arc<BucketNaming>) -> Self {
        Self { folder, store, naming, reported: HashSet::new() }
    }

    /// Applies the folder, and again whenever it changes, until told to stop. `applied` runs after the first time.
    pub async fn watch(mut self, stop: CancellationToken, applied: impl FnOnce() + Send) {
        let mut files = self.read().await;
        let mut settled = self.apply(files.as_ref()).await;
        applied();
        let mut since = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.read().await;
            let changed = now != files;
            if changed {
                self.reported.clear();
            }
            if changed || (!settled && since.elapsed() > APPLY_EVERY) {
                files = now;
                settled = self.apply(files.as_ref()).await;
                since = tokio::time::Instant::now();
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

    /// True when nothing is left to be done.
    async fn apply(&mut self, files: Option<&Files>) -> bool {
        // A folder that cannot be read is not one without channels.
        let Some(files) = files else { return false };
        let reading = read_folder(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        for notice in &reading.notices {
            self.tell(notice.to_string());
        }
        for problem in &reading.problems {
            self.tell(problem.to_string());
        }
        let mut settled = reading.problems.is_empty();
        for (file, located) in &reading.channels {
            let name = format!("{}/{}", located.channel.format, located.channel.name);
            match self.store.apply_channel(&located.channel, &self.naming).await {
                Ok(applied) => {
                    for lacking in &applied.lacking {
                        self.tell(format!(
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
        settled & self.retire(&reading).await
    }

    /// Stops serving channels whose resource is gone. While some file cannot be read, none is: the channel that it
    /// held is not gone.
    async fn retire(&mut self, reading: &FolderReading) -> bool {
        if !reading.problems.is_empty() {
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
            files.insert(name, std::fs::read_to_string(&path)?);
        }
    }
    Ok(files)
}
