//! Reading a package while it passes, in bounded memory and one pass (CEP 35).
//!
//! A `.tar.bz2` is one archive. A `.conda` is a zip archive of stored entries: `metadata.json`, and two tar archives that are
//! compressed by zstd, one with the folder `info/` and one with the rest. Both are read through, so that what would write
//! outside its folder, or unpacks to far more than it is, is refused here and not found by whoever installs it.

use std::collections::{BTreeMap, BTreeSet};

use granary_archive::{
    ArchiveError, Entries, Entry, EntryKind, Interest, Keeping, Links, TarReader, ZipReader, check_unpacked,
};

use super::commands;
use super::name::{ArchiveKind, PackageFile, Subdir};

/// The largest `metadata.json` of a `.conda`.
const MAX_FORMAT: u64 = 64 << 10;
/// The largest file of `info/` that is kept.
const MAX_INFO: u64 = 4 << 20;
/// The largest `info/paths.json` that is read; a larger one is passed over.
const MAX_PATHS: usize = 8 << 20;
/// The largest recipe that is read; a larger one is passed over.
const MAX_RECIPE: usize = 1 << 20;
/// The largest `patch_instructions.json`.
const MAX_PATCHES: u64 = 64 << 20;
/// The largest window that a zstd frame may need (2^27 bytes), as what conda packs with never exceeds.
const MAX_WINDOW_LOG: u32 = 27;
/// How much is unpacked at a time.
const PIECE: usize = 64 << 10;

/// Why a package is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// It would be as an archive of anything.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry of a `.conda` that no package has, or that is compressed once more.
    #[error(
        "a .conda file holds metadata.json, and stored as they are info-STEM.tar.zst and pkg-STEM.tar.zst; not {name:?}"
    )]
    Unexpected {
        /// The entry.
        name: String,
    },
    /// Something that every package has is not there.
    #[error("the package has no {0}")]
    Missing(&'static str),
    /// `metadata.json` is not that of a `.conda` file of version 2.
    #[error("metadata.json does not say that the format's version is 2")]
    Version,
    /// What is compressed is broken, or goes on behind its end.
    #[error("the compressed data of {0} is broken")]
    Compression(&'static str),
    /// Its patch instructions are more than is kept.
    #[error("the patch instructions of all subdirs have more than 64 MiB")]
    PatchesTooLarge,
    /// A file of `info/` stands in the archive of the contents.
    #[error("{name:?} stands among the contents of the package")]
    InfoInContents {
        /// The entry.
        name: String,
    },
}

/// What is kept of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageContents {
    /// `info/index.json`, byte by byte.
    pub index: Vec<u8>,
    /// `info/about.json`.
    pub about: Option<Vec<u8>>,
    /// `info/run_exports.json` (CEP 12).
    pub run_exports: Option<Vec<u8>>,
    /// `info/paths.json`, up to 8 MiB.
    pub paths: Option<Vec<u8>>,
    /// The recipe, `info/recipe/meta.yaml` or under an older name, up to 1 MiB.
    pub recipe: Option<Vec<u8>>,
    /// `SUBDIR/patch_instructions.json` of the package's contents, where they are asked for.
    pub patches: BTreeMap<Subdir, Vec<u8>>,
    /// What it can be called by once it is installed.
    pub commands: BTreeSet<String>,
}

/// Reads a package as its bytes pass.
#[derive(Debug)]
pub struct PackageReader {
    format: Format,
    failed: Option<PackageError>,
}

#[derive(Debug)]
enum Format {
    TarBz2(Box<TarBz2>),
    Conda(Box<ZipReader<Parts>>),
}

impl PackageReader {
    /// A reader of the package that is this file. `patches`: whether patch instructions are kept.
    pub fn new(file: &PackageFile, patches: bool) -> Self {
        let format = match file.kind() {
            ArchiveKind::TarBz2 => Format::TarBz2(Box::new(TarBz2::new(patches))),
            ArchiveKind::Conda => Format::Conda(Box::new(ZipReader::new(Parts::of(&file.stem(), patches)))),
        };
        Self { format, failed: None }
    }

    /// Takes the next bytes, in pieces of any size. After an error it gives the same error again.
    ///
    /// # Errors
    /// What is wrong with the package.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PackageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = match &mut self.format {
            Format::TarBz2(reader) => reader.write(bytes),
            Format::Conda(reader) => reader.write(bytes),
        };
        result.inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Makes the checks that need the whole package.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn finish(self) -> Result<PackageContents, PackageError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.format {
            Format::TarBz2(reader) => reader.finish(),
            Format::Conda(reader) => reader.finish()?.0.finish(),
        }
    }
}

/// The files of `info/` that are kept.
#[derive(Debug, Default)]
struct Info {
    index: Option<Vec<u8>>,
    about: Option<Vec<u8>>,
    run_exports: Option<Vec<u8>>,
    paths: Option<Vec<u8>>,
    recipe: Option<Vec<u8>>,
    commands: BTreeSet<String>,
    keeping: Keeping<Kept>,
    /// What is read as far as it goes, until it is too large.
    reading: Option<(Read, Option<Vec<u8>>)>,
    /// Where they are asked for.
    patches: Option<BTreeMap<Subdir, Vec<u8>>>,
    /// Whether this is the archive of the contents, where none of them may be.
    is_contents: bool,
}

#[derive(Debug, Clone)]
enum Kept {
    Index,
    About,
    RunExports,
    Link,
    Patches(Subdir),
}

/// What tells more of a package, but is no part of it that has to be there.
#[derive(Debug, Clone, Copy)]
enum Read {
    Paths,
    Recipe,
}

impl Read {
    fn of(path: &str) -> Option<Self> {
        match path {
            "info/paths.json" => Some(Self::Paths),
            "info/recipe/meta.yaml" | "info/recipe/meta.yaml.rendered" | "info/meta.yaml" => {
                Some(Self::Recipe)
            }
            _ => None,
        }
    }
}

impl Info {
    /// Patch instructions, where they are asked for, in bounds: all of them together may have as much as one of them.
    fn patches_of(&self, path: &str, kind: EntryKind) -> Result<Option<Kept>, PackageError> {
        let Some(patches) = self.patches.as_ref().filter(|_| kind == EntryKind::File) else {
            return Ok(None);
        };
        let Some(subdir) = path.strip_suffix("/patch_instructions.json") else { return Ok(None) };
        let Ok(subdir) = subdir.parse() else { return Ok(None) };
        let kept: u64 = patches.values().map(|kept| kept.len() as u64).sum();
        if kept > MAX_PATCHES {
            return Err(PackageError::PatchesTooLarge);
        }
        Ok(Some(Kept::Patches(subdir)))
    }

    fn contents(self) -> Result<PackageContents, PackageError> {
        let index = self.index.ok_or(PackageError::Missing("info/index.json"))?;
        let Self { about, run_exports, paths, recipe, patches, commands, .. } = self;
        let patches = patches.unwrap_or_default();
        Ok(PackageContents { index, about, run_exports, paths, recipe, patches, commands })
    }
}

impl Entries for Info {
    type Error = PackageError;

    fn begin(&mut self, entry: &Entry<'_>) -> Result<Interest, PackageError> {
        let kept = match entry.path {
            "info/index.json" => Some(Kept::Index),
            "info/about.json" => Some(Kept::About),
            "info/run_exports.json" => Some(Kept::RunExports),
            "info/link.json" => Some(Kept::Link),
            path => {
                let is_command = self.commands.len() < commands::MOST && entry.kind != EntryKind::Folder;
                self.commands.extend(commands::of_path(path).filter(|_| is_command).map(str::to_owned));
                self.patches_of(path, entry.kind)?
            }
        };
        if self.is_contents && kept.as_ref().is_some_and(|kept| !matches!(kept, Kept::Patches(_))) {
            return Err(PackageError::InfoInContents { name: entry.path.to_owned() });
        }
        let is_file = entry.kind == EntryKind::File;
        let read = Read::of(entry.path).filter(|_| is_file && !self.is_contents);
        // The first recipe counts.
        let read = read.filter(|read| !matches!(read, Read::Recipe) || self.recipe.is_none());
        self.reading = read.map(|read| (read, Some(Vec::new())));
        if self.reading.is_some() {
            self.keeping.begin(None);
            return Ok(Interest::Read { limit: u64::MAX });
        }
        Ok(self.keeping.begin(kept.map(|kept| {
            let limit = if matches!(kept, Kept::Patches(_)) { MAX_PATCHES } else { MAX_INFO };
            (kept, limit)
        })))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), PackageError> {
        self.keeping.data(bytes);
        if let Some((which, read)) = &mut self.reading {
            let limit = match which {
                Read::Paths => MAX_PATHS,
                Read::Recipe => MAX_RECIPE,
            };
            if let Some(kept) = read.as_mut().filter(|kept| kept.len() + bytes.len() <= limit) {
                kept.extend_from_slice(bytes);
            } else {
                *read = None;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), PackageError> {
        match self.reading.take() {
            Some((Read::Paths, paths)) => self.paths = paths,
            Some((Read::Recipe, recipe)) => self.recipe = recipe,
            None => {}
        }
        // A second file of this name is refused at the end.
        match self.keeping.end() {
            Some((Kept::Index, bytes)) => self.index = Some(bytes),
            Some((Kept::About, bytes)) => self.about = Some(bytes),
            Some((Kept::RunExports, bytes)) => self.run_exports = Some(bytes),
            Some((Kept::Link, bytes)) => {
                let left = commands::MOST.saturating_sub(self.commands.len());
                self.commands.extend(commands::of_link_json(&bytes).take(left));
            }
            Some((Kept::Patches(subdir), bytes)) => {
                _ = self.patches.get_or_insert_default().insert(subdir, bytes);
            }
            None => {}
        }
        Ok(())
    }
}

/// A tar archive in one bzip2 file, of one stream or several.
struct TarBz2 {
    tar: TarReader<Info>,
    /// None before the first byte, and between two streams.
    stream: Option<bzip2::Decompress>,
    packed: u64,
    unpacked: u64,
}

impl std::fmt::Debug for TarBz2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarBz2").field("tar", &self.tar).finish_non_exhaustive()
    }
}

impl TarBz2 {
    fn new(patches: bool) -> Self {
        let info = Info { patches: patches.then(BTreeMap::new), ..Info::default() };
        Self { tar: TarReader::new(info, Links::WithinArchive), stream: None, packed: 0, unpacked: 0 }
    }

    fn write(&mut self, mut input: &[u8]) -> Result<(), PackageError> {
        let mut output = vec![0; PIECE];
        while !input.is_empty() {
            let stream = self.stream.get_or_insert_with(|| bzip2::Decompress::new(false));
            let (consumed_before, produced_before) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(input, &mut output);
            let consumed = usize::try_from(stream.total_in() - consumed_before).unwrap_or(input.len());
            let produced = usize::try_from(stream.total_out() - produced_before).unwrap_or(0);
            self.packed += consumed as u64;
            self.unpacked += produced as u64;
            check_unpacked(self.unpacked, self.packed)?;
            self.tar.write(&output[..produced])?;
            match status {
                Ok(bzip2::Status::StreamEnd) => self.stream = None,
                Ok(_) if consumed > 0 || produced > 0 => {}
                _ if self.unpacked == 0 => {
                    return Err(ArchiveError::NotAnArchive { expected: "tar.bz2" }.into());
                }
                _ => return Err(PackageError::Compression("the archive")),
            }
            input = &input[consumed..];
        }
        self.drain(&mut output)
    }

    /// What the stream still holds though all input is used.
    fn drain(&mut self, output: &mut [u8]) -> Result<(), PackageError> {
        while let Some(stream) = &mut self.stream {
            let before = stream.total_out();
            let status = stream.decompress(&[], output);
            let produced = usize::try_from(stream.total_out() - before).unwrap_or(0);
            self.unpacked += produced as u64;
            check_unpacked(self.unpacked, self.packed)?;
            self.tar.write(&output[..produced])?;
            if matches!(status, Ok(bzip2::Status::StreamEnd)) {
                self.stream = None;
            } else if produced == 0 {
                break;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<PackageContents, PackageError> {
        if self.packed == 0 {
            return Err(ArchiveError::NotAnArchive { expected: "tar.bz2" }.into());
        }
        if self.stream.is_some() {
            return Err(ArchiveError::Truncated.into());
        }
        self.tar.finish()?.0.contents()
    }
}

/// A tar archive in one zstd frame.
struct TarZst {
    tar: TarReader<Info>,
    decoder: zstd::stream::raw::Decoder<'static>,
    what: &'static str,
    output: Vec<u8>,
    has_ended: bool,
    packed: u64,
    unpacked: u64,
}

impl TarZst {
    fn new(is_contents: bool, patches: bool) -> Result<Self, PackageError> {
        let what = if is_contents { "the package's contents" } else { "the package's info" };
        let broken = |_| PackageError::Compression(what);
        let mut decoder = zstd::stream::raw::Decoder::new().map_err(broken)?;
        decoder.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(MAX_WINDOW_LOG)).map_err(broken)?;
        let info = Info { is_contents, patches: patches.then(BTreeMap::new), ..Info::default() };
        let tar = TarReader::new(info, Links::WithinArchive);
        Ok(Self { tar, decoder, what, output: vec![0; PIECE], has_ended: false, packed: 0, unpacked: 0 })
    }

    fn write(&mut self, input: &[u8]) -> Result<(), PackageError> {
        use zstd::stream::raw::Operation as _;

        let broken = PackageError::Compression(self.what);
        let mut used = 0;
        loop {
            if self.has_ended {
                // One reader goes on to a second frame, and another one does not.
                return if used == input.len() { Ok(()) } else { Err(broken) };
            }
            let status =
                self.decoder.run_on_buffers(&input[used..], &mut self.output).map_err(|_| broken.clone())?;
            used += status.bytes_read;
            self.packed += status.bytes_read as u64;
            self.unpacked += status.bytes_written as u64;
            check_unpacked(self.unpacked, self.packed)?;
            self.tar.write(&self.output[..status.bytes_written])?;
            self.has_ended = status.remaining == 0;
            if !self.has_ended && status.bytes_written < self.output.len() {
                if used == input.len() {
                    return Ok(());
                }
                if status.bytes_read == 0 && status.bytes_written == 0 {
                    return Err(broken);
                }
            }
        }
    }

    fn finish(self) -> Result<Info, PackageError> {
        if !self.has_ended {
            return Err(ArchiveError::Truncated.into());
        }
        Ok(self.tar.finish()?.0)
    }
}

/// The entries of a `.conda` file.
struct Parts {
    info_name: String,
    contents_name: String,
    reading: Reading,
    format: Option<Vec<u8>>,
    info: Option<Info>,
    holds_patches: bool,
    contents: Option<Info>,
}

enum Reading {
    Nothing,
    Format(Vec<u8>),
    Info(Box<TarZst>),
    Contents(Box<TarZst>),
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("info_name", &self.info_name).finish_non_exhaustive()
    }
}

impl Parts {
    fn of(stem: &str, patches: bool) -> Self {
        Self {
            info_name: format!("info-{stem}.tar.zst"),
            contents_name: format!("pkg-{stem}.tar.zst"),
            reading: Reading::Nothing,
            format: None,
            info: None,
            holds_patches: patches,
            contents: None,
        }
    }

    fn finish(self) -> Result<PackageContents, PackageError> {
        let format = self.format.ok_or(PackageError::Missing("metadata.json"))?;
        let format: serde_json::Value = serde_json::from_slice(&format).map_err(|_| PackageError::Version)?;
        if format.get("conda_pkg_format_version") != Some(&2.into()) {
            return Err(PackageError::Version);
        }
        let of_contents = self.contents.ok_or(PackageError::Missing("pkg-STEM.tar.zst"))?;
        let mut contents = self.info.ok_or(PackageError::Missing("info-STEM.tar.zst"))?.contents()?;
        contents.commands.extend(of_contents.commands);
        Ok(PackageContents { patches: of_contents.patches.unwrap_or_default(), ..contents })
    }
}

impl Entries for Parts {
    type Error = PackageError;

    fn begin(&mut self, entry: &Entry<'_>) -> Result<Interest, PackageError> {
        let is_file = entry.kind == EntryKind::File;
        let (reading, limit) = match entry.path {
            "metadata.json" if is_file => (Reading::Format(Vec::new()), MAX_FORMAT),
            path if is_file && entry.stored && path == self.info_name => {
                (Reading::Info(Box::new(TarZst::new(false, false)?)), u64::MAX)
            }
            path if is_file && entry.stored && path == self.contents_name => {
                (Reading::Contents(Box::new(TarZst::new(true, self.holds_patches)?)), u64::MAX)
            }
            path => return Err(PackageError::Unexpected { name: path.to_owned() }),
        };
        self.reading = reading;
        Ok(Interest::Read { limit })
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), PackageError> {
        match &mut self.reading {
            Reading::Nothing => Ok(()),
            Reading::Format(kept) => {
                kept.extend_from_slice(bytes);
                Ok(())
            }
            Reading::Info(part) | Reading::Contents(part) => part.write(bytes),
        }
    }

    fn end(&mut self) -> Result<(), PackageError> {
        match std::mem::replace(&mut self.reading, Reading::Nothing) {
            Reading::Nothing => {}
            Reading::Format(bytes) => self.format = Some(bytes),
            Reading::Info(part) => self.info = Some(part.finish()?),
            Reading::Contents(part) => {
                self.contents = Some(part.finish()?);
            }
        }
        Ok(())
    }
}
