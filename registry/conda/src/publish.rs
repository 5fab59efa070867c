//! A package comes into a channel: its row, its name's shard and what changed, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use granary_http::Refusal;
use granary_store::objects::StoredObject;
use granary_store::{BlobId, Channel, DbError, PublishTx};
use jiff::Timestamp;
use serde_json::json;

use crate::author::Author;
use crate::format::repodata::Section;
use crate::format::{PackageFile, Record, Subdir};
use crate::locked_name::LockedName;
use crate::patches::is_patch_package;
use crate::state::{Conda, document};

/// A package that was read to its end and holds together.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) file: PackageFile,
    pub(crate) record: Record,
    /// `info/about.json`, where it is JSON.
    pub(crate) about: Option<String>,
    /// What channeldata says of it beyond its record: JSON.
    pub(crate) facts: String,
    /// The patch instructions that it holds, by the subdirs that they are about.
    pub(crate) patches: BTreeMap<Subdir, Vec<u8>>,
    /// What it can be called by once it is installed.
    pub(crate) commands: BTreeSet<String>,
    pub(crate) indexed_at: Timestamp,
}

/// What stands under the name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    Free,
    /// A package, which is replaced only by force.
    Taken,
}

impl Conda {
    /// Whether a package of this name is there.
    pub(crate) async fn standing(&self, channel: &Channel, package: &Package) -> Result<Standing, DbError> {
        let (subdir, filename) = (package.record.subdir().as_str(), package.file.to_string());
        let row =
            self.store.database().query_opt(&self.sql.standing, &[&channel.id(), &subdir, &filename]).await?;
        Ok(if row.is_some() { Standing::Taken } else { Standing::Free })
    }

    /// Publishes a package whose bytes the object store has acknowledged. Says whether it did: not where another one was quicker,
    /// and is not to be replaced.
    pub(crate) async fn publish(
        &self,
        author: &Author,
        channel: &Channel,
        package: &Package,
        stored: &StoredObject,
        replace: bool,
    ) -> Result<bool, Refusal> {
        let Package { file, record, about, facts, patches, indexed_at, .. } = package;
        let (subdir, name, filename) = (record.subdir().as_str(), file.name().as_str(), file.to_string());
        let mut tx = self.store.begin().await?;
        let place = (record.subdir(), file.name());
        let patches_change =
            record.subdir().as_str() == Subdir::NOARCH && is_patch_package(channel, file.name());
        if patches_change {
            self.patches_change(&tx, channel).await?;
        } else {
            self.patches_stay(&tx, channel).await?;
        }
        let locked = LockedName::lock(&tx, &self.sql, channel, place, *indexed_at).await?;
        let replaced = replace && self.remove_standing(&tx, channel, package).await?;
        let json = record.to_json().map_err(Refusal::internal)?;
        let run_exports = record.run_exports().to_string();
        let patched = self.patched(&tx, channel, record.subdir(), &filename, (&json, &run_exports)).await?;
        let build_number =
            i64::try_from(record.build_number()).map_err(|error| DbError::decode("build number", error))?;
        let BlobId(blob) = tx.attach_blob(channel, stored).await?;
        let inserted = tx
            .execute(
                &self.sql.insert_package,
                &[
                    &channel.id(),
                    &subdir,
                    &name,
                    &filename,
                    &file.version(),
                    &file.build(),
                    &build_number,
                    &json,
                    &run_exports,
                    about,
                    facts,
                    &blob,
                    &author.name(),
                    indexed_at,
                    &patched.record,
                    &patched.run_exports,
                    &patched.is_out,
                ],
            )
            .await?;
        if inserted == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        self.keep_commands(&tx, channel, package).await?;
        self.enqueue_transmutation(&tx, channel, package).await?;
        locked.renew(&mut tx, self).await?;
        tx.touch(channel.scope, document(record.subdir(), Section::of(file.kind()), file.name()));
        if patches_change {
            self.keep_instructions(&tx, channel, &filename, patches).await?;
            self.renew_patches(&mut tx, channel, file.name(), *indexed_at).await?;
        }
        if replaced || patched.is_out {
            // It may have been yanked.
            tx.touch(channel.scope, document(record.subdir(), Section::Removed, file.name()));
        }
        let detail = json!({ "file": format!("{subdir}/{filename}"), "sha256": stored.digests.sha256, "replaced": replaced });
        tx.audit(&author.entry("publish", channel, Some(name), detail)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Makes room for a package that is to replace another one. Says whether there was one.
    async fn remove_standing(
        &self,
        tx: &PublishTx,
        channel: &Channel,
        package: &Package,
    ) -> Result<bool, DbError> {
        let (subdir, filename) = (package.record.subdir().as_str(), package.file.to_string());
        let row = tx.query_opt(&self.sql.standing, &[&channel.id(), &subdir, &filename]).await?;
        let Some(row) = row else { return Ok(false) };
        let id: i64 = row.try_get(0)?;
        tx.execute(&self.sql.delete_package, &[&id]).await?;
        tx.release_blob(BlobId(row.try_get(1)?)).await?;
        Ok(true)
    }
}
