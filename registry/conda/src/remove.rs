//! Packages leave a channel, or only its index.

use std::collections::BTreeMap;

use granary_http::Refusal;
use granary_store::{BlobId, Channel, DbError, PublishTx};
use serde_json::json;

use crate::author::Author;
use crate::format::repodata::Section;
use crate::format::{PackageFile, PackageName, Subdir};
use crate::locked_name::LockedName;
use crate::patches::is_patch_package;
use crate::state::{Conda, document};

/// What is done to a package that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It is deleted; its bytes are kept as long as a backup may need them.
    Remove,
    /// It stays where it is, and no index offers it any more.
    Yank,
    /// It is offered again.
    Unyank,
}

impl Change {
    const fn action(self) -> &'static str {
        match self {
            Self::Remove => "delete file",
            Self::Yank => "yank",
            Self::Unyank => "unyank",
        }
    }
}

impl Conda {
    /// Removes packages of a subdir, all of them in one transaction; those that are not there are passed over. Gives the ones
    /// that went, by their names.
    pub(crate) async fn remove(
        &self,
        author: &Author,
        channel: &Channel,
        subdir: &Subdir,
        files: &[PackageFile],
    ) -> Result<Vec<PackageFile>, Refusal> {
        self.change(author, channel, subdir, files, Change::Remove).await
    }

    /// Takes packages out of the index, or puts them back; whoever knows their URLs can download them all the same. Gives the
    /// ones whose standing this changed.
    pub(crate) async fn set_yanked(
        &self,
        author: &Author,
        channel: &Channel,
        subdir: &Subdir,
        files: &[PackageFile],
        yanked: bool,
    ) -> Result<Vec<PackageFile>, Refusal> {
        let change = if yanked { Change::Yank } else { Change::Unyank };
        self.change(author, channel, subdir, files, change).await
    }

    async fn change(
        &self,
        author: &Author,
        channel: &Channel,
        subdir: &Subdir,
        files: &[PackageFile],
        change: Change,
    ) -> Result<Vec<PackageFile>, Refusal> {
        let mut by_name: BTreeMap<&PackageName, Vec<&PackageFile>> = BTreeMap::new();
        for file in files {
            by_name.entry(file.name()).or_default().push(file);
        }
        let now = self.store.clock().now();
        let mut tx = self.store.begin().await?;
        let mut changed = Vec::new();
        let is_of_patches =
            |name: &PackageName| subdir.as_str() == Subdir::NOARCH && is_patch_package(channel, name);
        if by_name.keys().any(|name| is_of_patches(name)) {
            self.patches_change(&tx, channel).await?;
        }
        for (name, files) in by_name {
            let locked = LockedName::lock(&tx, &self.sql, channel, (subdir, name), now).await?;
            let mut of_name = Vec::new();
            for file in files {
                if self.change_one(&mut tx, author, channel, (subdir, file), change).await? {
                    of_name.push(file.clone());
                }
            }
            if of_name.is_empty() {
                continue;
            }
            locked.renew(&mut tx, self).await?;
            if is_of_patches(name) {
                self.renew_patches(&mut tx, channel, name, now).await?;
            }
            let names: Vec<String> = of_name.iter().map(|file| format!("{subdir}/{file}")).collect();
            let detail = json!({ "files": names });
            tx.audit(&author.entry(change.action(), channel, Some(name.as_str()), detail)).await?;
            changed.extend(of_name);
        }
        if changed.is_empty() {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        Ok(changed)
    }

    /// Says whether it changed anything.
    async fn change_one(
        &self,
        tx: &mut PublishTx,
        author: &Author,
        channel: &Channel,
        (subdir, file): (&Subdir, &PackageFile),
        change: Change,
    ) -> Result<bool, DbError> {
        let filename = file.to_string();
        let params = (channel.id(), subdir.as_str(), filename.as_str());
        let row = tx.query_opt(&self.sql.standing, &[&params.0, &params.1, &params.2]).await?;
        let Some(row) = row else { return Ok(false) };
        let (id, is_yanked): (i64, bool) = (row.try_get(0)?, row.try_get(3)?);
        match change {
            Change::Remove => {
                tx.execute(&self.sql.delete_package, &[&id]).await?;
                tx.release_blob(BlobId(row.try_get(1)?)).await?;
            }
            Change::Yank | Change::Unyank => {
                let yanks = change == Change::Yank;
                if yanks == is_yanked {
                    return Ok(false);
                }
                let at = yanks.then(|| self.store.clock().now());
                let by = yanks.then(|| author.name());
                tx.execute(&self.sql.set_yanked, &[&id, &at, &by]).await?;
            }
        }
        for section in [Section::of(file.kind()), Section::Removed] {
            tx.touch(channel.scope, document(subdir, section, file.name()));
        }
        Ok(true)
    }
}
