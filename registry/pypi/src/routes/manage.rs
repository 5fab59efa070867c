//! Yanking and deleting.

use std::sync::Arc;

use granary_core::{Action, Sha256};
use granary_http::{Body, Call, Refusal, respond};
use granary_store::{BlobId, DbError, PublishTx};
use http::{Response, StatusCode};
use serde_json::json;

use super::{no_such_project, project_of};
use crate::format::{NormalizedName, Version};
use crate::state::{PyPi, list_document, project_document};

/// The longest reason for a yank, in bytes.
const LONGEST_REASON: u64 = 1000;

/// Yanks every file of a release (PEP 592); the body is the reason, as plain text.
pub(super) async fn yank(state: Arc<PyPi>, mut call: Call) -> Result<Response<Body>, Refusal> {
    let body = call.arrival.take_body();
    let reason = String::from_utf8(body.collect(LONGEST_REASON).await?.to_vec())
        .map_err(|_| Refusal::bad_request("the reason is not UTF-8"))?;
    if reason.chars().any(char::is_control) {
        return Err(Refusal::bad_request("the reason is one line of plain text"));
    }
    set_yanked(&state, &call, Some(reason.trim())).await
}

/// Takes a yank back.
pub(super) async fn unyank(state: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    set_yanked(&state, &call, None).await
}

async fn set_yanked(state: &PyPi, call: &Call, reason: Option<&str>) -> Result<Response<Body>, Refusal> {
    let project = project_of(call)?;
    call.check(Action::Remove, Some(project.as_str()))?;
    let version = version_of(call)?;
    let removal = Removal::begin(state, call, &project).await?;
    let files = removal.files(Some(&version)).await?;
    if files.is_empty() {
        removal.tx.rollback().await?;
        return Err(Refusal::not_found(format!("{project} has no release {version} in this channel")));
    }
    removal.tx.execute(&state.sql.yank, &[&removal.project_id, &version.key_text(), &reason]).await?;
    let action = if reason.is_some() { "yank" } else { "unyank" };
    removal.finish(action, json!({ "version": version.to_string(), "reason": reason })).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// Deletes one file.
pub(super) async fn delete_file(state: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    let channel = call.channel()?;
    let filename = call.arrival.params.get("filename").unwrap_or_default();
    let entry = state
        .file(channel, filename)
        .await?
        .ok_or_else(|| call.unknown("there is no such file in this channel"))?;
    call.check(Action::Remove, Some(&entry.file.package))?;
    if !super::file::stands_at(&entry, &call) {
        return Err(no_such_file());
    }
    let project: NormalizedName = entry.file.package.parse().map_err(Refusal::internal)?;
    let mut removal = Removal::begin(&state, &call, &project).await?;
    let files = removal.files(None).await?;
    let file = files
        .into_iter()
        .find(|file| file.filename == *entry.file.filename && file.sha256 == entry.file.sha256)
        .ok_or_else(no_such_file)?;
    removal.delete(&[file]).await?;
    removal
        .finish("delete file", json!({ "file": &*entry.file.filename, "sha256": entry.file.sha256 }))
        .await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// Deletes every file of a release.
pub(super) async fn delete_release(state: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    let project = project_of(&call)?;
    let version = version_of(&call)?;
    delete_all(&state, &call, &project, Some(&version)).await
}

/// Deletes a project.
pub(super) async fn delete_project(state: Arc<PyPi>, call: Call) -> Result<Response<Body>, Refusal> {
    let project = project_of(&call)?;
    delete_all(&state, &call, &project, None).await
}

async fn delete_all(
    state: &PyPi,
    call: &Call,
    project: &NormalizedName,
    version: Option<&Version>,
) -> Result<Response<Body>, Refusal> {
    call.check(Action::Remove, Some(project.as_str()))?;
    let mut removal = Removal::begin(state, call, project).await?;
    let files = removal.files(version).await?;
    if files.is_empty() && version.is_some() {
        removal.tx.rollback().await?;
        return Err(Refusal::not_found("there is no such release in this channel"));
    }
    let names: Vec<&str> = files.iter().map(|file| file.filename.as_str()).collect();
    let detail = json!({ "version": version.map(ToString::to_string), "files": names });
    removal.delete(&files).await?;
    removal.finish("delete", detail).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

fn version_of(call: &Call) -> Result<Version, Refusal> {
    let text = call.arrival.params.get("version").unwrap_or_default();
    text.parse().map_err(|_| Refusal::not_found("there is no such release in this channel"))
}

fn no_such_file() -> Refusal {
    Refusal::not_found("there is no such file in this channel")
}

/// One file of a project, as its removal needs it.
struct StoredFile {
    id: i64,
    filename: String,
    file_key: String,
    blob: BlobId,
    sha256: Sha256,
}

/// A change to the files of one project, which is locked meanwhile.
struct Removal<'a> {
    state: &'a PyPi,
    call: &'a Call,
    project: &'a NormalizedName,
    project_id: i64,
    tx: PublishTx,
}

impl<'a> Removal<'a> {
    async fn begin(state: &'a PyPi, call: &'a Call, project: &'a NormalizedName) -> Result<Self, Refusal> {
        let tx = state.store.begin().await?;
        let row = tx.query_opt(&state.sql.lock_project, &[&call.channel()?.id(), &project.as_str()]).await?;
        let Some(row) = row else {
            tx.rollback().await?;
            return Err(no_such_project());
        };
        let project_id = row.try_get(0).map_err(DbError::from)?;
        Ok(Self { state, call, project, project_id, tx })
    }

    async fn files(&self, version: Option<&Version>) -> Result<Vec<StoredFile>, DbError> {
        let version = version.map(Version::key_text);
        let rows = self.tx.query(&self.state.sql.files_of_version, &[&self.project_id, &version]).await?;
        rows.iter()
            .map(|row| {
                Ok(StoredFile {
                    id: row.try_get(0)?,
                    filename: row.try_get(1)?,
                    file_key: row.try_get(4)?,
                    blob: BlobId(row.try_get(2)?),
                    sha256: Sha256::try_from(row.try_get::<_, &[u8]>(3)?)
                        .map_err(|error| DbError::decode("digest", error))?,
                })
            })
            .collect()
    }

    /// Removes files, then the release and the project when nothing is left of them.
    async fn delete(&mut self, files: &[StoredFile]) -> Result<(), Refusal> {
        let (sql, channel) = (&self.state.sql, self.call.channel()?);
        for file in files {
            self.tx.execute(&sql.delete_file, &[&file.id]).await?;
            self.tx.release_blob(file.blob).await?;
            let digest = file.sha256.as_bytes().as_slice();
            self.tx.execute(&sql.remember_deleted, &[&channel.id(), &file.file_key, &digest]).await?;
        }
        self.tx.execute(&sql.delete_empty_release, &[&self.project_id]).await?;
        if self.tx.execute(&sql.delete_empty_project, &[&self.project_id]).await? > 0 {
            self.tx.touch(channel.scope, list_document(self.project));
        }
        Ok(())
    }

    async fn finish(mut self, action: &'static str, detail: serde_json::Value) -> Result<(), Refusal> {
        let channel = self.call.channel()?;
        self.tx.execute(&self.state.sql.raise_serial, &[&self.project_id]).await?;
        self.tx.touch(channel.scope, project_document(self.project));
        let entry = self.call.audit_entry(action, Some(self.project.as_str()), detail);
        self.tx.audit(&entry).await?;
        Ok(self.tx.commit().await?)
    }
}
