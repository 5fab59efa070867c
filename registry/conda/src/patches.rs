//! Patch instructions: the newest package of a certain name in `noarch` says how records read from then on.
//!
//! What is in force is kept a row a file, also for files that are not there: a package that comes later gets it at once. A
//! patched record stands beside the original one, which nothing ever changes.

use std::collections::{BTreeMap, BTreeSet};

use granary_http::Refusal;
use granary_store::{Channel, DbError, PublishTx};
use jiff::Timestamp;

use crate::channeldata;
use crate::current;
use crate::format::patch::{self, FilePatch, Patched};
use crate::format::repodata::Section;
use crate::format::{PackageFile, PackageName, Subdir, version};
use crate::locked_name::LockedName;
use crate::state::{Conda, document};

/// The most bytes of one `patch_instructions.json`.
pub(crate) const MAX_INSTRUCTIONS: usize = 64 << 20;
/// How instructions are kept.
const LEVEL: i32 = 3;

/// Whether packages of this name hold the patch instructions of the channel.
pub(crate) fn is_patch_package(channel: &Channel, name: &PackageName) -> bool {
    if let Some(named) = &channel.settings.conda.repodata_patches.package {
        return named == name.as_str();
    }
    let begins = name.as_str().strip_suffix("-repodata-patches");
    begins.is_some_and(|begins| begins == channel.name.as_str().to_ascii_lowercase())
}

/// What the instructions of each subdir say.
pub(crate) type Instructions = BTreeMap<Subdir, BTreeMap<String, FilePatch>>;

impl Conda {
    /// Holds patches off until the transaction ends: for who adds a package. To be asked before any name is locked.
    pub(crate) async fn patches_stay(&self, tx: &PublishTx, channel: &Channel) -> Result<(), DbError> {
        tx.query(&self.documents.patches_stay, &[&channel.id()]).await?;
        Ok(())
    }

    /// Holds off who adds packages until the transaction ends: for who changes patches. To be asked before any name is locked.
    pub(crate) async fn patches_change(&self, tx: &PublishTx, channel: &Channel) -> Result<(), DbError> {
        tx.query(&self.documents.patches_change, &[&channel.id()]).await?;
        Ok(())
    }

    /// What the patches in force make of a package that comes.
    pub(crate) async fn patched(
        &self,
        tx: &PublishTx,
        channel: &Channel,
        subdir: &Subdir,
        filename: &str,
        (record, run_exports): (&str, &str),
    ) -> Result<Patched, DbError> {
        let params = (channel.id(), subdir.as_str());
        let row = tx.query_opt(&self.documents.patch_of_file, &[&params.0, &params.1, &filename]).await?;
        let patch = row.map(|row| read_patch(row.try_get(0)?)).transpose()?.unwrap_or_default();
        patch.apply(record, run_exports).map_err(|error| DbError::decode("record", error))
    }

    /// Keeps the instructions that a package of the channel holds.
    pub(crate) async fn keep_instructions(
        &self,
        tx: &PublishTx,
        channel: &Channel,
        filename: &str,
        instructions: &BTreeMap<Subdir, Vec<u8>>,
    ) -> Result<(), Refusal> {
        for (subdir, instructions) in instructions {
            let packed = zstd::bulk::compress(instructions, LEVEL).map_err(Refusal::internal)?;
            let params = (channel.id(), Subdir::NOARCH, subdir.as_str());
            tx.execute(
                &self.documents.insert_instructions,
                &[&params.0, &params.1, &filename, &params.2, &packed],
            )
            .await?;
        }
        Ok(())
    }

    /// Brings into force what the newest of the packages of this name says, as they are in the transaction, and renews what reads
    /// differently from then on. [`Conda::patches_change`] was asked.
    pub(crate) async fn renew_patches(
        &self,
        tx: &mut PublishTx,
        channel: &Channel,
        name: &PackageName,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let mut wanted = self.newest_instructions(tx, channel, name).await?;
        let mut changed: BTreeMap<Subdir, BTreeMap<String, FilePatch>> = BTreeMap::new();
        let rows = tx.query(&self.documents.patches, &[&channel.id()]).await?;
        for row in &rows {
            let subdir = read_subdir(row.try_get(0).map_err(DbError::from)?)?;
            let filename: &str = row.try_get(1).map_err(DbError::from)?;
            let before = read_patch(row.try_get(2).map_err(DbError::from)?)?;
            let after = wanted.get_mut(&subdir).and_then(|of_subdir| of_subdir.remove(filename));
            if after.as_ref() != Some(&before) {
                changed.entry(subdir).or_default().insert(filename.to_owned(), after.unwrap_or_default());
            }
        }
        drop(rows);
        for (subdir, of_subdir) in wanted {
            changed.entry(subdir).or_default().extend(of_subdir);
        }
        let mut names = BTreeSet::new();
        for (subdir, patches) in &changed {
            names.extend(self.change_patches(tx, channel, subdir, patches, now).await?);
        }
        // Last of all, since who changes packages of these names in other subdirs waits for it.
        for name in &names {
            channeldata::name_changed(tx, &self.documents, channel, name).await?;
        }
        Ok(())
    }

    async fn newest_instructions(
        &self,
        tx: &PublishTx,
        channel: &Channel,
        name: &PackageName,
    ) -> Result<Instructions, Refusal> {
        let rows = tx.query(&self.documents.patch_packages, &[&channel.id(), &name.as_str()]).await?;
        let mut newest: Option<(i64, PackageFile, i64)> = None;
        for row in &rows {
            let id: i64 = row.try_get(0).map_err(DbError::from)?;
            let file: &str = row.try_get(1).map_err(DbError::from)?;
            let file: PackageFile = file.parse().map_err(|error| DbError::decode("package file", error))?;
            let build_number: i64 = row.try_get(2).map_err(DbError::from)?;
            let is_newer = newest.as_ref().is_none_or(|(_, known, number)| {
                version::order(known.version(), file.version())
                    .then(number.cmp(&build_number))
                    .then_with(|| known.build().cmp(file.build()))
                    .is_le()
            });
            if is_newer {
                newest = Some((id, file, build_number));
            }
        }
        let Some((id, ..)) = newest else { return Ok(Instructions::new()) };
        let rows = tx.query(&self.documents.instructions, &[&id]).await?;
        let mut instructions = Instructions::new();
        for row in &rows {
            let subdir = read_subdir(row.try_get(0).map_err(DbError::from)?)?;
            let json = zstd::bulk::decompress(row.try_get(1).map_err(DbError::from)?, MAX_INSTRUCTIONS)
                .map_err(Refusal::internal)?;
            instructions.insert(subdir, patch::read(&json).map_err(Refusal::internal)?);
        }
        Ok(instructions)
    }

    /// Puts patches of a subdir in force, or out of force where they say nothing; gives the names of packages that this changed.
    async fn change_patches(
        &self,
        tx: &mut PublishTx,
        channel: &Channel,
        subdir: &Subdir,
        patches: &BTreeMap<String, FilePatch>,
        now: Timestamp,
    ) -> Result<BTreeSet<PackageName>, Refusal> {
        let files: Vec<&str> = patches.keys().map(String::as_str).collect();
        // What says nothing has no row.
        let text = |patch: &FilePatch| {
            let says_something = *patch != FilePatch::default();
            says_something.then(|| serde_json::to_string(patch)).transpose()
        };
        let texts = patches.values().map(text);
        let texts: Vec<Option<String>> = texts.collect::<Result<_, _>>().map_err(Refusal::internal)?;
        let (channel_id, place) = (channel.id(), subdir.as_str());
        tx.execute(&self.documents.delete_patches, &[&channel_id, &place, &files]).await?;
        tx.execute(&self.documents.insert_patches, &[&channel_id, &place, &files, &texts]).await?;
        let rows = tx.query(&self.documents.names_of_files, &[&channel_id, &place, &files]).await?;
        let mut changed = BTreeSet::new();
        for row in &rows {
            let name: PackageName = row
                .try_get::<_, &str>(0)
                .map_err(DbError::from)?
                .parse()
                .map_err(|error| DbError::decode("name", error))?;
            let locked = LockedName::lock(tx, &self.sql, channel, (subdir, &name), now).await?;
            if self.patch_name(tx, channel, (subdir, &name), patches).await? {
                locked.renew_shard(tx, &self.sql).await?;
                tx.touch(channel.scope, current::document(subdir));
                changed.insert(name);
            }
        }
        Ok(changed)
    }

    /// Applies patches to the packages of a name that is locked. Says whether any reads differently.
    async fn patch_name(
        &self,
        tx: &mut PublishTx,
        channel: &Channel,
        (subdir, name): (&Subdir, &PackageName),
        patches: &BTreeMap<String, FilePatch>,
    ) -> Result<bool, Refusal> {
        let params = (channel.id(), subdir.as_str(), name.as_str());
        let rows = tx.query(&self.documents.records_of_name, &[&params.0, &params.1, &params.2]).await?;
        let mut is_changed = false;
        for row in &rows {
            let filename: &str = row.try_get(1).map_err(DbError::from)?;
            let Some(patch) = patches.get(filename) else { continue };
            let id: i64 = row.try_get(0).map_err(DbError::from)?;
            let patched = patch
                .apply(row.try_get(2).map_err(DbError::from)?, row.try_get(3).map_err(DbError::from)?)
                .map_err(Refusal::internal)?;
            let before = Patched {
                record: row.try_get(4).map_err(DbError::from)?,
                run_exports: row.try_get(5).map_err(DbError::from)?,
                is_out: row.try_get(6).map_err(DbError::from)?,
            };
            if before == patched {
                continue;
            }
            let Patched { record, run_exports, is_out } = &patched;
            tx.execute(&self.documents.set_patched, &[&id, record, run_exports, is_out]).await?;
            let file: PackageFile =
                filename.parse().map_err(|error| DbError::decode("package file", error))?;
            for section in [Section::of(file.kind()), Section::Removed] {
                tx.touch(channel.scope, document(subdir, section, name));
            }
            is_changed = true;
        }
        Ok(is_changed)
    }
}

fn read_patch(text: &str) -> Result<FilePatch, DbError> {
    serde_json::from_str(text).map_err(|error| DbError::decode("patch", error))
}

fn read_subdir(text: &str) -> Result<Subdir, DbError> {
    text.parse().map_err(|error| DbError::decode("subdir", error))
}
