//! Uploads, as twine, uv, poetry and flit send them: one form, whose file streams to the object store while it is
//! hashed and its archive is read. Nothing is stored before everything about it has been checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::TryStreamExt;
use granary_core::{Action, Sha256};
use granary_http::{Body, Call, Refusal, RequestBody, form, respond};
use granary_store::objects::{StoredObject, Upload};
use granary_store::{BlobId, Channel, DbError, PublishTx};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use multer::{Field, Multipart};
use serde_json::{Value, json};

use crate::format::{
    ArchiveReader, CoreMetadata, DistributionFile, NormalizedName, PackageType, Release, UploadForm,
    ValidForm,
};
use crate::state::{PyPi, list_document, project_document, read_digest};

/// What a form may hold beside its file, in bytes.
const FORM_ALLOWANCE: u64 = 512 << 10;
/// What may stand between two fields, in bytes: the head of one, and as much of it as one read brings.
const MOST_BETWEEN_FIELDS: usize = 4 << 20;
/// The longest name of a field, in bytes.
const LONGEST_FIELD_NAME: usize = 200;
/// What may follow the form, in bytes: it means nothing.
const LONGEST_EPILOGUE: usize = 4096;

/// Publishes one file.
pub(super) async fn upload(state: Arc<PyPi>, mut call: Call) -> Result<Response<Body>, Refusal> {
    let received = Received::read(&state, &mut call).await?;
    let release = received.release;
    let project = release.metadata.name.normalized();
    call.check_again(Action::Publish, Some(project.as_str())).await?;
    let channel = Arc::clone(call.channel()?);
    let replaced = match standing(&state, &call, &channel, &release).await? {
        Standing::Same => return Ok(respond::empty(StatusCode::OK)),
        Standing::Damaged => {
            let stored = received.upload.finish().await?;
            mend(&state, &call, &channel, &release, &stored).await?;
            return Ok(respond::empty(StatusCode::OK));
        }
        Standing::Free => false,
        Standing::Replaceable => true,
    };
    let stored = received.upload.finish().await?;
    match publish(&state, &call, &channel, &release, &stored, replaced).await? {
        Published::Done => {
            let package = project.as_str().into();
            state.store.usage().uploaded(channel.scope, &package, &release.filename.as_str().into());
            Ok(respond::empty(StatusCode::OK))
        }
        // Another upload of this name was quicker: ours is judged beside it, and its object is given up.
        Published::Overtaken => {
            state.store.doom(&stored).await?;
            match standing(&state, &call, &channel, &release).await? {
                Standing::Same => Ok(respond::empty(StatusCode::OK)),
                Standing::Free | Standing::Damaged | Standing::Replaceable => {
                    Err(Refusal::conflict(format!("{} is being uploaded by somebody else", release.filename)))
                }
            }
        }
    }
}

/// A form that was read to its end and holds together. Its bytes are with the object store, not yet an object.
struct Received {
    release: Release,
    upload: Upload,
}

/// The file of a form, as its bytes pass.
struct Passing {
    filename: String,
    archive: ArchiveReader,
    upload: Upload,
}

impl Received {
    async fn read(state: &PyPi, call: &mut Call) -> Result<Self, Refusal> {
        let limit = call.max_upload_size();
        let bucket = Arc::clone(&call.channel()?.bucket);
        let boundary = boundary(call)?;
        let mut body = call.arrival.take_body().limited_to(limit.saturating_add(FORM_ALLOWANCE));
        body.check_declared()?;
        let (mut form, mut passing) = (UploadForm::new(), None);
        // The parser keeps what it reads until a field has begun, so that this has to be little.
        let budget = Arc::new(AtomicUsize::new(0));
        let spent = Arc::clone(&budget);
        let guarded = (&mut body).map_err(std::io::Error::other).and_then(move |chunk| {
            let left = spent.load(Ordering::Relaxed).checked_sub(chunk.len());
            spent.store(left.unwrap_or(0), Ordering::Relaxed);
            std::future::ready(
                left.map(|_| chunk)
                    .ok_or_else(|| std::io::Error::other("there is too much between two fields")),
            )
        });
        let mut multipart = Multipart::new(guarded, boundary);
        loop {
            budget.store(MOST_BETWEEN_FIELDS, Ordering::Relaxed);
            let Some(field) = multipart.next_field().await.map_err(form::refusal)? else { break };
            budget.store(usize::MAX, Ordering::Relaxed);
            let name = field.name().unwrap_or_default().to_owned();
            if name.len() > LONGEST_FIELD_NAME {
                return Err(Refusal::bad_request("the name of a field of the form is too long"));
            }
            match (name.as_str(), field.file_name()) {
                ("content", Some(_)) if passing.is_some() => {
                    return Err(Refusal::bad_request("the form has two fields named content"));
                }
                ("content", Some(filename)) => {
                    let file = form.file_hint(filename).map_err(bad_request)?;
                    // Before any of it is taken in; and again, with what the file itself says, when all of it is.
                    call.check(Action::Publish, Some(file.name().normalized().as_str()))?;
                    let upload = state.store.uploads().begin(&bucket, limit).await;
                    let start =
                        Passing { filename: filename.to_owned(), archive: ArchiveReader::new(&file), upload };
                    passing = Some(start.pass(field).await?);
                }
                // Detached signatures have not been of use to anybody for years; they are read and dropped.
                (_, Some(_)) => {
                    form::text(field, UploadForm::MAX_SIZE).await?;
                }
                (_, None) => {
                    form.add(&name, form::text(field, UploadForm::MAX_SIZE).await?).map_err(bad_request)?;
                }
            }
        }
        drop(multipart);
        // What stands behind the form has to be whole too: a body that breaks off there was cut on its way.
        read_epilogue(body).await?;
        let passing =
            passing.ok_or_else(|| Refusal::bad_request("the form has no file in a field named content"))?;
        passing.check(form.validate().map_err(bad_request)?)
    }
}

impl Passing {
    async fn pass(mut self, mut field: Field<'_>) -> Result<Self, Refusal> {
        while let Some(chunk) = field.chunk().await.map_err(form::refusal)? {
            self.archive.write(&chunk).map_err(bad_request)?;
            self.upload.write(&chunk).await?;
        }
        Ok(self)
    }

    fn check(self, form: ValidForm) -> Result<Received, Refusal> {
        let file: DistributionFile = form.file(&self.filename).map_err(bad_request)?;
        let contents = self.archive.finish().map_err(bad_request)?;
        let metadata = match &contents.metadata {
            Some(bytes) => Some(CoreMetadata::parse(bytes).map_err(bad_request)?),
            None => None,
        };
        let mut release = form.check(&file, &self.upload.digests(), metadata).map_err(bad_request)?;
        // Only of wheels: what an sdist says of itself may change when it is built (PEP 658 leaves it out).
        if file.package_type() == PackageType::BdistWheel {
            release.metadata_file = contents.metadata;
        }
        Ok(Received { release, upload: self.upload })
    }
}

fn boundary(call: &Call) -> Result<String, Refusal> {
    let content_type = call.arrival.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    multer::parse_boundary(content_type.unwrap_or_default()).map_err(|_| {
        Refusal::bad_request("an upload is a POST of multipart/form-data, as twine and uv send it")
    })
}

async fn read_epilogue(mut body: RequestBody) -> Result<(), Refusal> {
    let mut length = 0;
    while let Some(chunk) = body.try_next().await? {
        length += chunk.len();
        if length > LONGEST_EPILOGUE {
            return Err(Refusal::bad_request("something stands behind the end of the form"));
        }
    }
    Ok(())
}

fn bad_request(error: impl std::error::Error) -> Refusal {
    Refusal::bad_request(granary_core::report(&error))
}

/// What stands under the name of the file to be published.
enum Standing {
    /// Nothing that is in the way.
    Free,
    /// The same bytes: there is nothing to do.
    Same,
    /// The same bytes by their digest, but the stored ones are damaged.
    Damaged,
    /// Other bytes, which the channel and the caller's role allow to replace.
    Replaceable,
}

async fn standing(
    state: &PyPi,
    call: &Call,
    channel: &Channel,
    release: &Release,
) -> Result<Standing, Refusal> {
    let database = state.store.database();
    let params = (channel.id(), release.filename.as_str(), release.file_key.as_str());
    let project = release.metadata.name.normalized();
    let file = database.query_opt(&state.sql.standing_file, &[&params.0, &params.1, &params.2]).await?;
    let Some(row) = file else {
        let deleted = database.query_opt(&state.sql.deleted_file, &[&params.0, &params.2]).await?;
        return match deleted {
            Some(row) if read_digest(row.try_get(0).map_err(DbError::from)?)? != release.digests.sha256 => {
                may_replace(call, channel, release, "held").map(|()| Standing::Free)
            }
            _ => Ok(Standing::Free),
        };
    };
    let (owner, filename): (&str, &str) =
        (row.try_get(3).map_err(DbError::from)?, row.try_get(4).map_err(DbError::from)?);
    if owner != project.as_str() {
        // Names of old sdists can be read in two ways. Of another project, nothing more is said.
        return Err(Refusal::conflict(format!("the name {} is taken in this channel", release.filename)));
    }
    if filename != release.filename {
        return Err(Refusal::conflict(format!(
            "{} already exists: installers take it for {filename}, which the channel holds",
            release.filename
        )));
    }
    if read_digest(row.try_get(0).map_err(DbError::from)?)? == release.digests.sha256 {
        let damaged: bool = row.try_get(5).map_err(DbError::from)?;
        return Ok(if damaged { Standing::Damaged } else { Standing::Same });
    }
    may_replace(call, channel, release, "holds").map(|()| Standing::Replaceable)
}

/// Refuses other bytes under a name that the channel `holds` or `held`, unless the channel and the caller's role
/// allow it.
fn may_replace(call: &Call, channel: &Channel, release: &Release, held: &str) -> Result<(), Refusal> {
    if !channel.settings.pypi.allow_overwrite {
        // `already exist` is what clients look for when they are told to skip such files.
        return Err(Refusal::conflict(format!(
            "{} already exists: the channel {held} this name with other bytes; publish a new version",
            release.filename
        )));
    }
    call.check(Action::Remove, Some(release.metadata.name.normalized().as_str()))
}

/// Puts good bytes in the place of damaged ones; nothing else of the file changes.
async fn mend(
    state: &PyPi,
    call: &Call,
    channel: &Channel,
    release: &Release,
    stored: &StoredObject,
) -> Result<(), Refusal> {
    let project = release.metadata.name.normalized();
    let mut tx = state.store.begin().await?;
    let blob = tx.attach_blob(channel, stored).await?;
    // The file has its reference already.
    tx.release_blob(blob).await?;
    // Pods remember the damaged object's key.
    tx.touch(channel.scope, project_document(project));
    let detail = json!({ "file": release.filename, "sha256": release.digests.sha256 });
    tx.audit(&call.audit_entry("mend", Some(project.as_str()), detail)).await?;
    Ok(tx.commit().await?)
}

enum Published {
    Done,
    Overtaken,
}

async fn publish(
    state: &PyPi,
    call: &Call,
    channel: &Channel,
    release: &Release,
    stored: &StoredObject,
    replace: bool,
) -> Result<Published, Refusal> {
    let (sql, project) = (&state.sql, release.metadata.name.normalized());
    let mut tx = state.store.begin().await?;
    let (project_id, is_new) = upsert_project(state, &tx, channel, release).await?;
    // With the project locked, nobody deletes or replaces files of it: what was seen before may have changed.
    if !channel.settings.pypi.allow_overwrite
        && was_deleted_with_other_bytes(state, &tx, channel, release).await?
    {
        tx.rollback().await?;
        return Ok(Published::Overtaken);
    }
    let release_id = upsert_release(state, &tx, project_id, release).await?;
    if replace {
        remove_standing(state, &tx, channel, release).await?;
    }
    let BlobId(blob) = tx.attach_blob(channel, stored).await?;
    let metadata_sha256 = release.metadata_file.as_deref().map(|bytes| *Sha256::of(bytes).as_bytes());
    let attestations = (!release.attestations.is_empty()).then(|| Value::Array(release.attestations.clone()));
    let comment = release.comment.as_deref().unwrap_or_default();
    let inserted = tx
        .execute(
            &sql.insert_file,
            &[
                &channel.id(),
                &project_id,
                &release_id,
                &release.filename,
                &release.package_type.as_str(),
                &release.python_version,
                &blob,
                &release.metadata.details.requires_python,
                &release.metadata_file,
                &metadata_sha256.as_ref().map(<[u8; 32]>::as_slice),
                &attestations,
                &comment,
                &call.caller.actor(),
                &state.store.clock().now(),
                &release.file_key,
            ],
        )
        .await?;
    if inserted == 0 {
        tx.rollback().await?;
        return Ok(Published::Overtaken);
    }
    tx.touch(channel.scope, project_document(project));
    if is_new {
        tx.touch(channel.scope, list_document(project));
    }
    let detail = json!({ "file": release.filename, "sha256": release.digests.sha256, "replaced": replace });
    tx.audit(&call.audit_entry("publish", Some(project.as_str()), detail)).await?;
    tx.commit().await?;
    Ok(Published::Done)
}

async fn upsert_project(
    state: &PyPi,
    tx: &PublishTx,
    channel: &Channel,
    release: &Release,
) -> Result<(i64, bool), DbError> {
    let name = &release.metadata.name;
    let normalized: &NormalizedName = name.normalized();
    let row = tx
        .query_opt(&state.sql.upsert_project, &[&channel.id(), &normalized.as_str(), &name.as_str()])
        .await?
        .ok_or_else(|| DbError::decode("project", "no row came back"))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

async fn upsert_release(
    state: &PyPi,
    tx: &PublishTx,
    project_id: i64,
    release: &Release,
) -> Result<i64, DbError> {
    let metadata =
        serde_json::to_value(&release.metadata).map_err(|error| DbError::decode("metadata", error))?;
    let version = release.metadata.version.to_string();
    let row = tx
        .query_opt(
            &state.sql.upsert_release,
            &[&project_id, &version, &release.metadata.version.key_text(), &metadata],
        )
        .await?
        .ok_or_else(|| DbError::decode("release", "no row came back"))?;
    Ok(row.try_get(0)?)
}

async fn was_deleted_with_other_bytes(
    state: &PyPi,
    tx: &PublishTx,
    channel: &Channel,
    release: &Release,
) -> Result<bool, DbError> {
    match tx.query_opt(&state.sql.deleted_file, &[&channel.id(), &release.file_key]).await? {
        Some(row) => Ok(read_digest(row.try_get(0)?)? != release.digests.sha256),
        None => Ok(false),
    }
}

/// Makes room for a file that replaces another of its name and project.
async fn remove_standing(
    state: &PyPi,
    tx: &PublishTx,
    channel: &Channel,
    release: &Release,
) -> Result<(), DbError> {
    let params = (channel.id(), release.filename.as_str(), release.file_key.as_str());
    if let Some(row) = tx.query_opt(&state.sql.standing_file, &[&params.0, &params.1, &params.2]).await? {
        let owner: &str = row.try_get(3)?;
        if owner == release.metadata.name.normalized().as_str() {
            let id: i64 = row.try_get(1)?;
            tx.execute(&state.sql.delete_file, &[&id]).await?;
            tx.release_blob(BlobId(row.try_get(2)?)).await?;
        }
    }
    Ok(())
}
