//! A package comes into a channel: its row, its name's shard and what changed, in one transaction.

use granary_http::Refusal;
use granary_store::objects::StoredObject;
use granary_store::{BlobId, Channel, DbError, PublishTx};
use jiff::Timestamp;
use serde_json::json;

use crate::author::Author;
use crate::format::repodata::Section;
use crate::format::{PackageFile, Record};
use crate::locked_name::LockedName;
use crate::state::{Conda, document};

/// A package that was read to its end and holds together.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) file: PackageFile,
    pub(crate) record: Record,
    /// `info/about.json`, where it is JSON.
    pub(crate) about: Option<String>,
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
        let Package { file, record, about, indexed_at } = package;
        let (subdir, name, filename) = (record.subdir().as_str(), file.name().as_str(), file.to_string());
        let mut tx = self.store.begin().await?;
        let place = (record.subdir(), file.name());
        let locked = LockedName::lock(&tx, &self.sql, channel, place, *indexed_at).await?;
        let replaced = replace && self.remove_standing(&tx, channel, package).await?;
        let json = record.to_json().map_err(Refusal::internal)?;
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
                    &record.run_exports().to_string(),
                    about,
                    &blob,
                    &author.name(),
                    indexed_at,
                ],
            )
            .await?;
        if inserted == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        locked.renew_shard(&tx, &self.sql).await?;
        tx.touch(channel.scope, document(record.subdir(), Section::of(file.kind()), file.name()));
        if replaced {
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
