//! What the handlers of the protocol share, and what they read from the tables.

use std::sync::Arc;

use granary_core::Sha256;
use granary_http::{IndexCache, Refusal, StoredFile};
use granary_store::{Channel, DbError, Scope, Stamp, Store};
use moka::sync::Cache;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_postgres::types::FromSql;

use crate::format::NormalizedName;
use crate::sql::Statements;

/// How many files are remembered with their places.
const REMEMBERED_FILES: u64 = 50_000;

/// Serves `PyPI` channels.
#[derive(Debug)]
pub struct PyPi {
    pub(crate) store: Store,
    pub(crate) sql: Statements,
    pub(crate) index: IndexCache,
    files: Cache<(Scope, Arc<str>), Arc<FileEntry>>,
    /// So many JSON pages are rendered at a time that cannot be kept.
    pub(crate) json_turns: Semaphore,
}

/// A file and where its bytes are; its package is the normalised name of its project.
#[derive(Debug)]
pub(crate) struct FileEntry {
    pub(crate) file: StoredFile,
    /// The project's stamp before the row was read.
    stamp: Option<Stamp>,
}

/// The document that changes with every file of a project.
pub(crate) fn project_document(project: &NormalizedName) -> String {
    format!("project:{project}")
}

/// With a project's name behind it: the part of the project list that changes when the project comes or goes.
pub(crate) const LIST_PREFIX: &str = "projects:";

pub(crate) fn list_document(project: &NormalizedName) -> String {
    format!("{LIST_PREFIX}{project}")
}

impl PyPi {
    /// A server of `PyPI` channels over this store; `index` keeps its documents.
    pub fn new(store: Store, index: IndexCache) -> Self {
        let sql = Statements::new(store.database().schema());
        Self { store, sql, index, files: Cache::new(REMEMBERED_FILES), json_turns: Semaphore::new(2) }
    }

    /// The file of this name, as far as it is known to a revision that is at most a second old.
    pub(crate) async fn file(
        &self,
        channel: &Channel,
        filename: &str,
    ) -> Result<Option<Arc<FileEntry>>, DbError> {
        let revisions = self.store.revisions();
        let key = (channel.scope, Arc::from(filename));
        if let Some(entry) = self.files.get(&key) {
            let document = format!("project:{}", entry.file.package);
            if revisions.stamp(channel.scope, &document) == entry.stamp {
                return Ok(Some(entry));
            }
        }
        // The project is only known from the row, so its stamp is asked for last and the scope's first: where
        // anything of the channel changed in between, the entry is good for this request alone.
        let before = revisions.scope_stamp(channel.scope);
        let row = self.store.database().query_opt(&self.sql.download, &[&channel.id(), &filename]).await?;
        let Some(row) = row else { return Ok(None) };
        let project: &str = row.try_get(3)?;
        let stamp = revisions.stamp(channel.scope, &format!("project:{project}"));
        let file = StoredFile {
            filename: Arc::clone(&key.1),
            counted_as: Arc::clone(&key.1),
            package: project.into(),
            sha256: read_digest(row.try_get(0)?)?,
            size: read_size(row.try_get(1)?)?,
            object_key: row.try_get::<_, &str>(2)?.into(),
            uploaded_at: row.try_get(4)?,
            // Its digest is part of its URL.
            is_immutable: true,
        };
        let entry = Arc::new(FileEntry { file, stamp });
        if revisions.scope_stamp(channel.scope) == before {
            self.files.insert(key, Arc::clone(&entry));
        }
        Ok(Some(entry))
    }

    /// What stands beside the bytes of a file in its row.
    async fn beside<T>(&self, sql: &str, channel: &Channel, file: &FileEntry) -> Result<Option<T>, DbError>
    where
        T: for<'a> FromSql<'a>,
    {
        // The digest too: another file may have come under the name since the entry was read.
        let digest = file.file.sha256.as_bytes().as_slice();
        let row =
            self.store.database().query_opt(sql, &[&channel.id(), &&*file.file.filename, &digest]).await?;
        row.map_or(Ok(None), |row| Ok(row.try_get(0)?))
    }

    /// The core metadata of a file, byte by byte.
    pub(crate) async fn core_metadata(
        &self,
        channel: &Channel,
        file: &FileEntry,
    ) -> Result<Option<Vec<u8>>, DbError> {
        self.beside(&self.sql.core_metadata, channel, file).await
    }

    /// The provenance object (PEP 740) of a file that was uploaded with attestations.
    pub(crate) async fn provenance(
        &self,
        channel: &Channel,
        file: &FileEntry,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let attestations: Option<Value> = self.beside(&self.sql.attestations, channel, file).await?;
        let Some(attestations) = attestations else { return Ok(None) };
        // The publisher is not verified, so none is named beyond that.
        let provenance = json!({
            "version": 1,
            "attestation_bundles": [{ "publisher": { "kind": "unverified" }, "attestations": attestations }],
        });
        Ok(Some(serde_json::to_vec(&provenance).map_err(Refusal::internal)?))
    }
}

pub(crate) fn read_digest(bytes: &[u8]) -> Result<Sha256, DbError> {
    Sha256::try_from(bytes).map_err(|error| DbError::decode("digest", error))
}

pub(crate) fn read_size(size: i64) -> Result<u64, DbError> {
    u64::try_from(size).map_err(|error| DbError::decode("size", error))
}
