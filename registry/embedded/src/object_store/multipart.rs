//! Multipart uploads.
//!
//! All parts of an upload go into one file, each into a region that is reserved when it begins to arrive. To complete the
//! upload is to write the object's record, which lists the regions in the parts' order, behind them, and to move the file
//! into place: no byte is copied.
//!
//! ```text
//! uploads/ID.data   the parts
//! uploads/ID.log    JSON lines: what the upload is, then each part that is durable; a line cut short is a part that is not
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use s3s::crypto::{Checksum, Md5};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::body::Target;
use super::bucket::{Bucket, Condition, RECORD_HINT, locked};
use super::checks::{Checksums, Digests};
use super::error::{Context, Error};
use super::record::{Extent, Headers, Record};

/// S3's least size of a part that is not the last, in bytes.
const SMALLEST_PART: u64 = 5 << 20;

/// What an upload is, as its first request said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Beginning {
    pub key: String,
    pub started: Timestamp,
    pub headers: Headers,
}

/// A part that is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    /// 1 to 10,000.
    pub number: i32,
    pub extent: Extent,
    /// MD5 in hex.
    pub e_tag: String,
    pub modified: Timestamp,
    #[serde(default, skip_serializing_if = "Checksums::is_empty")]
    pub checksums: Checksums,
}

/// A part that a client wants to join.
#[derive(Debug)]
pub(super) struct WantedPart {
    pub number: i32,
    pub e_tag: Option<String>,
    pub checksums: Checksums,
}

#[derive(Debug)]
pub(super) struct Upload {
    pub id: String,
    pub beginning: Beginning,
    data: PathBuf,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    parts: BTreeMap<i32, Part>,
    /// Where the next region begins.
    end: u64,
    /// Completed or aborted.
    closed: bool,
}

impl Bucket {
    /// Begins an upload.
    pub fn begin_upload(&self, beginning: Beginning) -> Result<Arc<Upload>, Error> {
        let upload = Arc::new(self.upload(Uuid::new_v4().simple().to_string(), beginning, State::default()));
        let mut line =
            serde_json::to_vec(&upload.beginning).map_err(io::Error::other).context("write", &upload.log)?;
        line.push(b'\n');
        let create = |path: &Path, bytes: &[u8]| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        create(&upload.data, b"").context("create", &upload.data)?;
        create(&upload.log, &line).context("create", &upload.log)?;
        self.uploads_folder.sync()?;
        locked(&self.uploads).insert((upload.beginning.key.clone(), upload.id.clone()), Arc::clone(&upload));
        Ok(upload)
    }

    /// The upload `id` of the object `key`.
    pub fn find_upload(&self, key: &str, id: &str) -> Result<Arc<Upload>, Error> {
        locked(&self.uploads).get(&(key.to_owned(), id.to_owned())).cloned().ok_or(Error::NoSuchUpload)
    }

    /// Forgets an upload and its parts.
    pub fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        let mut state = locked(&upload.state);
        if std::mem::replace(&mut state.closed, true) {
            return Err(Error::NoSuchUpload);
        }
        fs::remove_file(&upload.log).context("remove", &upload.log)?;
        fs::remove_file(&upload.data).context("remove", &upload.data)?;
        self.forget_upload(upload);
        self.uploads_folder.sync()
    }

    /// Joins parts to an object; returns its entity tag.
    pub fn complete_upload(
        &self,
        upload: &Upload,
        wanted: &[WantedPart],
        size: Option<u64>,
        condition: &Condition,
        now: Timestamp,
    ) -> Result<String, Error> {
        let mut state = locked(&upload.state);
        if state.closed {
            return Err(Error::NoSuchUpload);
        }
        let record = Record {
            modified: now,
            upload_id: Some(upload.id.clone()),
            headers: upload.beginning.headers.clone(),
            ..join(&upload.beginning.key, &state.parts, wanted)?
        };
        if size.is_some_and(|size| size != record.size) {
            return Err(Error::InvalidArgument("the size given is not the sum of the parts' sizes"));
        }
        seal(&upload.data, &record, state.end).context("write", &upload.data)?;
        self.place(&upload.data, &record.key, condition)?;
        state.closed = true;
        fs::remove_file(&upload.log).context("remove", &upload.log)?;
        self.forget_upload(upload);
        self.uploads_folder.sync()?;
        Ok(record.e_tag)
    }

    /// The entity tag of the object that the upload `id` has become: for a completion that is repeated because its
    /// answer was lost.
    pub fn completed_upload(&self, key: &str, id: &str) -> Result<String, Error> {
        match self.open_object(key, RECORD_HINT) {
            Ok(object) if object.record.upload_id.as_deref() == Some(id) => Ok(object.record.e_tag),
            Ok(_) | Err(Error::NoSuchKey) => Err(Error::NoSuchUpload),
            Err(error) => Err(error),
        }
    }

    /// Finds the uploads that an earlier process left open, and removes what belongs to none.
    pub(super) fn reload_uploads(&self) -> Result<(), Error> {
        let folder = &self.uploads_folder.path;
        let mut uploads = locked(&self.uploads);
        for entry in fs::read_dir(folder).context("list", folder)? {
            let path = entry.context("list", folder)?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let data_length = fs::metadata(path.with_extension("data")).map(|data| data.len());
            let (Some((beginning, parts)), Ok(data_length)) =
                (read_log(&path).context("read", &path)?, data_length)
            else {
                // Begun but never acknowledged, or completed or aborted but for this file.
                fs::remove_file(&path).context("remove", &path)?;
                continue;
            };
            let end = parts.values().map(|part| part.extent.end()).fold(data_length, u64::max);
            let upload = self.upload(id.clone(), beginning, State { parts, end, closed: false });
            uploads.insert((upload.beginning.key.clone(), id), Arc::new(upload));
        }
        for entry in fs::read_dir(folder).context("list", folder)? {
            let path = entry.context("list", folder)?.path();
            if !path.with_extension("log").exists() {
                fs::remove_file(&path).context("remove", &path)?;
            }
        }
        Ok(())
    }

    fn upload(&self, id: String, beginning: Beginning, state: State) -> Upload {
        let path = |extension| self.uploads_folder.path.join(format!("{id}.{extension}"));
        Upload { data: path("data"), log: path("log"), id, beginning, state: Mutex::new(state) }
    }

    fn forget_upload(&self, upload: &Upload) {
        locked(&self.uploads).remove(&(upload.beginning.key.clone(), upload.id.clone()));
    }
}

impl Upload {
    /// Reserves a region for a part of `length` bytes.
    pub fn reserve(&self, length: u64) -> Result<Target, Error> {
        let mut state = locked(&self.state);
        if state.closed {
            return Err(Error::NoSuchUpload);
        }
        let file = OpenOptions::new().write(true).open(&self.data).context("open", &self.data)?;
        let offset = state.end;
        state.end += length;
        Ok(Target::Part { file, path: self.data.clone(), offset })
    }

    /// Makes a part durable; one of the same number that was there before is replaced.
    pub fn keep(
        &self,
        number: i32,
        target: &Target,
        length: u64,
        digests: Digests,
        now: Timestamp,
    ) -> Result<Part, Error> {
        let Target::Part { file, offset, .. } = target else { return Err(Error::NoSuchUpload) };
        file.sync_data().context("sync", &self.data)?;
        let part = Part {
            number,
            extent: Extent { offset: *offset, length },
            e_tag: hex::encode(digests.md5),
            modified: now,
            checksums: digests.checksums,
        };
        let mut state = locked(&self.state);
        if state.closed {
            return Err(Error::NoSuchUpload);
        }
        let append = || -> io::Result<()> {
            let mut line = serde_json::to_vec(&part)?;
            line.push(b'\n');
            let mut log = OpenOptions::new().append(true).open(&self.log)?;
            log.write_all(&line)?;
            log.sync_data()
        };
        append().context("write", &self.log)?;
        state.parts.insert(number, part.clone());
        Ok(part)
    }

    /// The parts that are durable, by number.
    pub fn parts(&self) -> Vec<Part> {
        locked(&self.state).parts.values().cloned().collect()
    }
}

/// Reads what is whole in a log, and cuts off the rest, so that lines can be added.
fn read_log(path: &Path) -> io::Result<Option<(Beginning, BTreeMap<i32, Part>)>> {
    let bytes = fs::read(path)?;
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let Some(first) = lines.next() else { return Ok(None) };
    let Ok(beginning) = serde_json::from_slice(first) else { return Ok(None) };
    let mut whole = first.len();
    let mut parts = BTreeMap::new();
    for line in lines {
        let Ok(part) = serde_json::from_slice::<Part>(line) else { break };
        whole += line.len();
        parts.insert(part.number, part);
    }
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(Some((beginning, parts)))
}

/// The record of the object that the wanted parts make.
fn join(key: &str, parts: &BTreeMap<i32, Part>, wanted: &[WantedPart]) -> Result<Record, Error> {
    if wanted.is_empty() {
        return Err(Error::NoParts);
    }
    if !wanted.is_sorted_by_key(|part| part.number)
        || wanted.windows(2).any(|pair| pair[0].number == pair[1].number)
    {
        return Err(Error::InvalidPartOrder);
    }
    let mut extents: Vec<Extent> = Vec::new();
    let mut md5 = Md5::new();
    for (position, want) in wanted.iter().enumerate() {
        let mismatch = || Error::InvalidPart(want.number);
        let part = parts.get(&want.number).ok_or_else(mismatch)?;
        if want.e_tag.as_ref().is_some_and(|e_tag| *e_tag != part.e_tag)
            || !want.checksums.agree_with(&part.checksums)
        {
            return Err(mismatch());
        }
        if position + 1 < wanted.len() && part.extent.length < SMALLEST_PART {
            return Err(Error::PartTooSmall(part.number));
        }
        md5.update(&hex::decode(&part.e_tag).map_err(|_| mismatch())?);
        match extents.last_mut() {
            Some(last) if last.end() == part.extent.offset => last.length += part.extent.length,
            _ => extents.push(part.extent),
        }
    }
    Ok(Record {
        key: key.to_owned(),
        size: extents.iter().map(|extent| extent.length).sum(),
        e_tag: format!("{}-{}", hex::encode(md5.finalize()), wanted.len()),
        modified: Timestamp::UNIX_EPOCH,
        headers: Headers::default(),
        checksums: Checksums::default(),
        extents,
        upload_id: None,
    })
}

/// Writes the record behind the `end` of the parts, and all of it to the disk.
fn seal(path: &Path, record: &Record, end: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    // Cuts off the record of a completion whose condition did not hold.
    file.set_len(end)?;
    release_gaps(&file, &record.extents, end);
    file.write_all_at(&record.encode()?, end)?;
    file.sync_data()
}

/// Gives back the space of parts that were replaced, left out or cut short, where the file system can do that.
fn release_gaps(file: &File, used: &[Extent], end: u64) {
    let mut used = used.to_vec();
    used.sort_by_key(|extent| extent.offset);
    let mut at = 0;
    for extent in used.into_iter().chain([Extent { offset: end, length: 0 }]) {
        if extent.offset > at {
            punch(file, at, extent.offset - at);
        }
        at = extent.end();
    }
}

#[cfg(target_os = "linux")]
fn punch(file: &File, offset: u64, length: u64) {
    use rustix::fs::{FallocateFlags, fallocate};
    if let Err(error) =
        fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)
    {
        tracing::debug!(%error, length, "the space of unused parts stays taken");
    }
}

#[cfg(not(target_os = "linux"))]
fn punch(_: &File, _: u64, _: u64) {}
