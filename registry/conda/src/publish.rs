//! A package comes into a channel: its row, its name's shard and what changed, in one transaction.

use granary_http::{Call, Refusal};
use granary_store::objects::StoredObject;
use granary_store::{BlobId, Channel, DbError, PublishTx};
use jiff::Timestamp;
use serde_json::json;

use crate::format::shards::Shard;
use crate::format::{PackageFile, Record};
use crate::state::{Conda, document, read_digest};

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
        call: &Call,
        channel: &Channel,
        package: &Package,
        stored: &StoredObject,
        replace: bool,
    ) -> Result<bool, Refusal> {
        let Package { file, record, about, indexed_at } = package;
        let (subdir, name, filename) = (record.subdir().as_str(), file.name().as_str(), file.to_string());
        let mut tx = self.store.begin().await?;
        let row = tx
            .query_opt(&self.sql.lock_name, &[&channel.id(), &subdir, &name, indexed_at])
            .await?
            .ok_or_else(|| DbError::decode("name", "no row came back"))?;
        let before: Option<&[u8]> = row.try_get(0).map_err(DbError::from)?;
        let replaced = self.remove_standing(&tx, channel, package, replace).await?;
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
                    &call.caller.actor(),
                    indexed_at,
                ],
            )
            .await?;
        if inserted == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        self.renew_shard(&tx, channel, package, before).await?;
        tx.touch(channel.scope, document(record.subdir(), file.kind(), file.name()));
        let detail = json!({ "file": format!("{subdir}/{filename}"), "sha256": stored.digests.sha256, "replaced": replaced });
        tx.audit(&call.audit_entry("publish", Some(name), detail)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Makes room for a package that is to replace another one. Says whether there was one.
    async fn remove_standing(
        &self,
        tx: &PublishTx,
        channel: &Channel,
        package: &Package,
        replace: bool,
    ) -> Result<bool, DbError> {
        if !replace {
            return Ok(false);
        }
        let (subdir, filename) = (package.record.subdir().as_str(), package.file.to_string());
        let row = tx.query_opt(&self.sql.standing, &[&channel.id(), &subdir, &filename]).await?;
        let Some(row) = row else { return Ok(false) };
        let id: i64 = row.try_get(0)?;
        tx.execute(&self.sql.delete_package, &[&id]).await?;
        tx.release_blob(BlobId(row.try_get(1)?)).await?;
        Ok(true)
    }

    /// Writes the shard of a name anew, from its rows as they are in the transaction.
    async fn renew_shard(
        &self,
        tx: &PublishTx,
        channel: &Channel,
        package: &Package,
        before: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        let (subdir, name) = (package.record.subdir().as_str(), package.file.name().as_str());
        let rows = tx.query(&self.sql.records_of_name, &[&channel.id(), &subdir, &name]).await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let (filename, record): (&str, &str) =
                (row.try_get(0).map_err(DbError::from)?, row.try_get(1).map_err(DbError::from)?);
            let file: PackageFile =
                filename.parse().map_err(|error| DbError::decode("package file", error))?;
            let run_exports: &str = row.try_get(2).map_err(DbError::from)?;
            let record = Record::from_json(record, run_exports);
            let record = record.map_err(|error| DbError::decode("record", error))?;
            records.push((file, record));
        }
        let shard = Shard::new(records.iter().map(|(file, record)| (file, record)));
        let shard = shard.map_err(Refusal::internal)?;
        let digest = shard.sha256.as_bytes().as_slice();
        let now = package.indexed_at;
        if let Some(before) = before
            && read_digest(before)? != shard.sha256
        {
            tx.execute(&self.sql.replace_shard, &[&channel.id(), &subdir, &before, &now]).await?;
        }
        tx.execute(&self.sql.insert_shard, &[&channel.id(), &digest, &subdir, &name, &shard.bytes]).await?;
        tx.execute(&self.sql.set_shard, &[&channel.id(), &subdir, &name, &digest]).await?;
        Ok(())
    }
}
