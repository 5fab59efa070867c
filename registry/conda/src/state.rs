//! What the handlers of the protocol share, and what they read from the tables.

use std::sync::Arc;

use granary_core::{Sha256, Subject};
use granary_crds::BucketNaming;
use granary_http::{IndexCache, StoredFile, StoredIndex};
use granary_store::{Channel, DbError, Scope, Stamp, Store};
use granary_upstream::Upstream;
use moka::sync::Cache;

use crate::bzip2_files::Bzip2Files;
use crate::format::repodata::Section;
use crate::format::{PackageFile, PackageName, Subdir};
use crate::plugins::Plugins;
use crate::plugins::content_trust::SealingKeys;
use crate::shard_index::ShardIndexes;
use crate::sql::Statements;
use crate::sql::api::ApiStatements;
use crate::sql::documents::DocumentStatements;
use crate::upstream::{DerivedDocuments, KnownNames, Remembered};

/// How many files are remembered with their places.
const REMEMBERED_FILES: u64 = 50_000;

/// How many bytes the documents take that are held whole.
const HELD_DOCUMENTS: u64 = 32 << 20;

/// Serves conda channels.
#[derive(Debug)]
pub struct Conda {
    pub(crate) store: Store,
    pub(crate) sql: Statements,
    pub(crate) documents: DocumentStatements,
    /// Documents that are made as a whole.
    pub(crate) held: IndexCache,
    pub(crate) index: StoredIndex,
    pub(crate) shards: ShardIndexes,
    pub(crate) bzip2: Bzip2Files,
    pub(crate) plugins: Plugins,
    pub(crate) upstream: Upstream,
    pub(crate) remembered: Remembered,
    pub(crate) derived: DerivedDocuments,
    pub(crate) names: KnownNames,
    files: Cache<(Scope, Arc<str>), Arc<FileEntry>>,
    pub(crate) api_sql: ApiStatements,
    /// None where the API makes no channels.
    pub(crate) api: Option<ApiOptions>,
}

/// The users that `granary dev` makes for trying things out.
pub const TEST_USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// What the API needs beside the store.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// How the buckets of channels are named that are made through it.
    pub naming: Arc<BucketNaming>,
    /// Who may make channels, beside admins and whoever has a server role.
    pub channel_makers: Vec<Subject>,
    /// Whether anybody may be one of the users that `granary dev` makes for trying things out.
    pub test_users: bool,
}

/// A file, as far as it is known.
#[derive(Debug)]
struct FileEntry {
    file: StoredFile,
    /// Of the document that changes with it, before the row was read.
    stamp: Option<Stamp>,
}

/// What begins the documents of a subdir: behind it stands what tells a section's name.
pub(crate) fn document_prefix(subdir: &Subdir) -> String {
    format!("repodata:{subdir}:")
}

/// How a name is told among those of all sections: the section's digit and the name.
pub(crate) fn section_name(section: Section, name: &str) -> String {
    format!("{}{name}", section.number())
}

/// The document that changes with every package of a name in a section.
pub(crate) fn document(subdir: &Subdir, section: Section, name: &PackageName) -> String {
    format!("{}{}", document_prefix(subdir), section_name(section, name.as_str()))
}

impl Conda {
    /// A server of conda channels over this store; `index` keeps its documents, and `upstream` fetches those of others.
    pub fn new(store: Store, index: StoredIndex, upstream: Upstream) -> Self {
        let sql = Statements::new(store.database().schema());
        let plugins = Plugins::new(store.database().schema());
        let api_sql = ApiStatements::new(store.database().schema());
        let documents = DocumentStatements::new(store.database().schema());
        let held = IndexCache::new(store.revisions().clone(), HELD_DOCUMENTS);
        Self {
            store,
            sql,
            documents,
            held,
            index,
            shards: ShardIndexes::new(),
            bzip2: Bzip2Files::new(),
            plugins,
            upstream,
            remembered: Remembered::new(),
            derived: DerivedDocuments::new(),
            names: KnownNames::new(),
            files: Cache::new(REMEMBERED_FILES),
            api_sql,
            api: None,
        }
    }

    /// With the keys that private keys are encrypted with. Without any, no channel can sign.
    #[must_use]
    pub fn with_sealing(mut self, keys: SealingKeys) -> Self {
        self.plugins.trust.seal_with(keys);
        self
    }

    /// With what the API needs to make channels.
    #[must_use]
    pub fn with_api(self, api: ApiOptions) -> Self {
        Self { api: Some(api), ..self }
    }

    /// How many bytes the files of a channel are together, each counted once.
    pub(crate) async fn size(&self, channel: &Channel) -> Result<u64, DbError> {
        let row = self.store.database().query_opt(&self.api_sql.channel_size, &[&channel.id()]).await?;
        let size: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
        u64::try_from(size).map_err(|error| DbError::decode("size", error))
    }

    /// The file of this name, as far as it is known to a revision that is at most a second old.
    pub(crate) async fn file(
        &self,
        channel: &Channel,
        subdir: &Subdir,
        file: &PackageFile,
    ) -> Result<Option<StoredFile>, DbError> {
        let revisions = self.store.revisions();
        let filename = file.to_string();
        let key = (channel.scope, Arc::from(format!("{subdir}/{filename}")));
        let document = document(subdir, Section::of(file.kind()), file.name());
        // The stamp first: a change that comes after it makes the entry stale, never wrongly fresh.
        let stamp = revisions.stamp(channel.scope, &document);
        if let Some(entry) = self.files.get(&key).filter(|entry| entry.stamp == stamp) {
            return Ok(Some(entry.file.clone()));
        }
        let params = (channel.id(), subdir.as_str(), filename.as_str());
        let row =
            self.store.database().query_opt(&self.sql.download, &[&params.0, &params.1, &params.2]).await?;
        let Some(row) = row else { return Ok(None) };
        let stored = StoredFile {
            counted_as: format!("{subdir}/{filename}").into(),
            filename: filename.as_str().into(),
            package: row.try_get::<_, &str>(3)?.into(),
            sha256: read_digest(row.try_get(0)?)?,
            size: u64::try_from(row.try_get::<_, i64>(1)?).map_err(|error| DbError::decode("size", error))?,
            object_key: row.try_get::<_, &str>(2)?.into(),
            uploaded_at: row.try_get(4)?,
            // Another package may come under the same name, by force.
            is_immutable: false,
        };
        self.files.insert(key, Arc::new(FileEntry { file: stored.clone(), stamp }));
        Ok(Some(stored))
    }
}

pub(crate) fn read_digest(bytes: &[u8]) -> Result<Sha256, DbError> {
    Sha256::try_from(bytes).map_err(|error| DbError::decode("digest", error))
}
