//! A name of a subdir within a transaction that changes its packages: locked, and its shard written anew at the end.

use granary_core::Sha256;
use granary_http::Refusal;
use granary_store::{Channel, DbError, PublishTx};
use jiff::Timestamp;

use crate::format::current::newest;
use crate::format::repodata::Section;
use crate::format::shards::Shard;
use crate::format::{PackageFile, PackageName, Record, Subdir};
use crate::sql::Statements;
use crate::state::{Conda, read_digest};
use crate::{channeldata, current};

/// A name whose packages nobody else changes before the transaction ends.
#[derive(Debug)]
pub(crate) struct LockedName<'a> {
    channel: &'a Channel,
    subdir: &'a Subdir,
    name: &'a PackageName,
    /// The shard that is listed so far.
    shard: Option<Sha256>,
    now: Timestamp,
}

impl<'a> LockedName<'a> {
    /// Locks a name. Who locks several does so in the order of the subdirs and names.
    pub(crate) async fn lock(
        tx: &PublishTx,
        sql: &Statements,
        channel: &'a Channel,
        (subdir, name): (&'a Subdir, &'a PackageName),
        now: Timestamp,
    ) -> Result<Self, DbError> {
        let params = (channel.id(), subdir.as_str(), name.as_str());
        let row = tx
            .query_opt(&sql.lock_name, &[&params.0, &params.1, &params.2, &now])
            .await?
            .ok_or_else(|| DbError::decode("name", "no row came back"))?;
        let shard = row.try_get::<_, Option<&[u8]>>(0)?.map(read_digest).transpose()?;
        Ok(Self { channel, subdir, name, shard, now })
    }

    /// Writes anew what follows from the packages of the name, as they are in the transaction.
    pub(crate) async fn renew(&self, tx: &mut PublishTx, conda: &Conda) -> Result<(), Refusal> {
        self.renew_shard(tx, &conda.sql).await?;
        channeldata::name_changed(tx, &conda.documents, self.channel, self.name).await?;
        tx.touch(self.channel.scope, current::document(self.subdir));
        Ok(())
    }

    /// Writes the shard anew and marks the newest version, from the rows as they are in the transaction. Without rows there is no
    /// shard.
    pub(crate) async fn renew_shard(&self, tx: &PublishTx, sql: &Statements) -> Result<(), Refusal> {
        let Self { channel, subdir, name, now, .. } = self;
        let (channel, subdir, name) = (channel.id(), subdir.as_str(), name.as_str());
        let rows = tx.query(&sql.records_of_name, &[&channel, &subdir, &name]).await?;
        let (mut records, mut removed) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in &rows {
            let (filename, record): (&str, &str) =
                (row.try_get(0).map_err(DbError::from)?, row.try_get(1).map_err(DbError::from)?);
            let section: i16 = row.try_get(3).map_err(DbError::from)?;
            if section == Section::Removed.number() {
                removed.push(filename);
                continue;
            }
            let file: PackageFile =
                filename.parse().map_err(|error| DbError::decode("package file", error))?;
            let run_exports: &str = row.try_get(2).map_err(DbError::from)?;
            let record = Record::from_json(record, run_exports);
            records.push((file, record.map_err(|error| DbError::decode("record", error))?));
        }
        let is_newest = newest(records.iter().map(|(file, _)| file.version()));
        let of_newest = records.iter().zip(is_newest).filter(|(_, is_newest)| *is_newest);
        let of_newest: Vec<String> = of_newest.map(|((file, _), _)| file.to_string()).collect();
        tx.execute(&sql.mark_newest, &[&channel, &subdir, &name, &of_newest]).await?;
        let shard = if rows.is_empty() {
            None
        } else {
            let records = records.iter().map(|(file, record)| (file, record));
            Some(Shard::new(records, &removed).map_err(Refusal::internal)?)
        };
        let digest = shard.as_ref().map(|shard| shard.sha256);
        if let Some(before) = self.shard.filter(|before| Some(*before) != digest) {
            let before = before.as_bytes().as_slice();
            tx.execute(&sql.replace_shard, &[&channel, &subdir, &before, now]).await?;
        }
        let digest = digest.as_ref().map(|digest| digest.as_bytes().as_slice());
        if let Some(shard) = &shard {
            tx.execute(&sql.insert_shard, &[&channel, &digest, &subdir, &name, &shard.bytes]).await?;
        }
        tx.execute(&sql.set_shard, &[&channel, &subdir, &name, &digest]).await?;
        Ok(())
    }
}
