//! The reader of source distributions that are gzipped tar archives.

use super::error::{ArchiveError, PathProblem};
use super::gzip::Gunzip;
use super::paths::{EntryKind, Names, check_path};
use super::tar::{BLOCK, Header, PaxRecords, Type, parse_header, parse_pax};
use super::zip::check_top_folder;
use super::{ArchiveContents, MAX_NAME_LENGTH};
use crate::format::filename::DistributionFile;
use crate::format::metadata::CoreMetadata;

/// The largest extended header.
const MAX_EXTENDED: u64 = 1 << 20;
/// The largest size that a plain header can tell: eleven octal digits.
const MAX_OCTAL_SIZE: u64 = (1 << 33) - 1;

/// The reader. See [`super::ArchiveReader`].
#[derive(Debug)]
pub(super) struct TarGzReader {
    gunzip: Gunzip,
    tar: TarReader,
}

impl TarGzReader {
    pub(super) fn new(file: &DistributionFile) -> Self {
        let tar = TarReader {
            file: file.clone(),
            state: State::Header(Vec::with_capacity(BLOCK)),
            extended: Extended::default(),
            names: Names::default(),
            folder: None,
            metadata: None,
            unpacked: 0,
        };
        Self { gunzip: Gunzip::new(), tar }
    }

    pub(super) fn write(&mut self, input: &[u8]) -> Result<(), ArchiveError> {
        let Self { gunzip, tar } = self;
        gunzip.push(input, |piece| tar.write(piece))
    }

    pub(super) fn finish(self) -> Result<ArchiveContents, ArchiveError> {
        self.gunzip.finish()?;
        self.tar.finish()
    }
}

#[derive(Debug)]
struct TarReader {
    file: DistributionFile,
    state: State,
    /// What extended headers said about the entry to come.
    extended: Extended,
    names: Names,
    folder: Option<String>,
    metadata: Option<Vec<u8>>,
    unpacked: u64,
}

#[derive(Debug, Default)]
struct Extended {
    pax: Option<PaxRecords>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// Data that is kept, and what it belongs to.
type Kept = (Type, Vec<u8>);

#[derive(Debug)]
enum State {
    /// Collecting a header block.
    Header(Vec<u8>),
    /// Inside data, then the padding up to the next block.
    Data { remaining: u64, padding: u64, keep: Option<Kept> },
    /// Behind the first block of zeros.
    End,
}

impl TarReader {
    fn write(&mut self, mut input: &[u8]) -> Result<(), ArchiveError> {
        while !input.is_empty() {
            let used = match &mut self.state {
                State::Header(bytes) => {
                    let used = input.len().min(BLOCK - bytes.len());
                    bytes.extend_from_slice(&input[..used]);
                    if let Some(block) = bytes.first_chunk::<BLOCK>().copied() {
                        bytes.clear();
                        match parse_header(&block)? {
                            Some(header) => self.begin(header)?,
                            None => self.state = State::End,
                        }
                    }
                    used
                }
                State::Data { remaining, padding, keep } => {
                    if *remaining > 0 {
                        let used = take(remaining, input);
                        if let Some((_, bytes)) = keep {
                            bytes.extend_from_slice(&input[..used]);
                        }
                        used
                    } else {
                        take(padding, input)
                    }
                }
                // Some readers stop at the first block of zeros and some at the second: nothing may follow.
                State::End if input.iter().any(|&byte| byte != 0) => return Err(ArchiveError::TrailingData),
                State::End => return Ok(()),
            };
            input = &input[used..];
            self.end_data_if_complete()?;
        }
        Ok(())
    }

    fn finish(self) -> Result<ArchiveContents, ArchiveError> {
        if !matches!(self.state, State::End) {
            return Err(ArchiveError::Truncated);
        }
        self.names.check(true)?;
        Ok(ArchiveContents {
            metadata: self.metadata,
            wheel: None,
            entries: self.names.len(),
            unpacked_size: self.unpacked,
        })
    }

    /// Takes a header and goes on to the data behind it.
    fn begin(&mut self, header: Header) -> Result<(), ArchiveError> {
        let (size, keep) = match header.kind {
            Type::Pax | Type::PaxGlobal | Type::GnuLongName | Type::GnuLongLink => {
                if header.size > MAX_EXTENDED {
                    let name = String::from("an extended header");
                    return Err(ArchiveError::MemberTooLarge { name, limit: MAX_EXTENDED });
                }
                (header.size, Some((header.kind, Vec::new())))
            }
            _ => self.entry(header)?,
        };
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.state = State::Data { remaining: size, padding, keep };
        self.end_data_if_complete()
    }

    /// Checks an entry; returns how much data follows and whether it is kept.
    fn entry(&mut self, header: Header) -> Result<(u64, Option<Kept>), ArchiveError> {
        let extended = std::mem::take(&mut self.extended);
        let pax = extended.pax.unwrap_or_default();
        // The two kinds of extended header have no order of precedence that all readers share.
        let name = either(pax.path, extended.long_name, "path")?.unwrap_or(header.name);
        let target = either(pax.link, extended.long_link, "linkpath")?.unwrap_or(header.link);
        let size = match pax.size {
            // A reader that misses this record takes the data for headers: it may only say what no header can.
            Some(size) if size != header.size && size <= MAX_OCTAL_SIZE => {
                return Err(ArchiveError::ReadersDisagree {
                    name: String::from_utf8_lossy(&name).into_owned(),
                    what: "the length",
                });
            }
            Some(size) => size,
            None => header.size,
        };
        let has_data = header.kind == Type::File;
        if !has_data && size != 0 {
            return Err(ArchiveError::Malformed("a tar entry that is no file and has data"));
        }

        let path = name.strip_prefix(b"./").unwrap_or(&name);
        let path = path.strip_suffix(b"/").filter(|_| header.kind == Type::Folder).unwrap_or(path);
        if header.kind == Type::Folder && (path.is_empty() || path == b".") {
            return Ok((0, None));
        }
        let path = check_path(path)?;
        let kind = match header.kind {
            Type::File => EntryKind::File,
            Type::Folder => EntryKind::Folder,
            Type::SymbolicLink | Type::HardLink => EntryKind::Link,
            _ => return Err(ArchiveError::SpecialFile { name: path.to_owned() }),
        };
        let (top, below) = path.split_once('/').map_or((path, None), |(top, below)| (top, Some(below)));
        check_top_folder(&mut self.folder, &self.file, top, path)?;
        if kind == EntryKind::Link {
            check_link(path, &target, header.kind)?;
        }
        self.names.push(path, kind)?;
        self.unpacked += size;

        if below != Some("PKG-INFO") {
            return Ok((size, None));
        }
        let limit = CoreMetadata::MAX_SIZE as u64;
        match kind {
            EntryKind::Link => Err(ArchiveError::SymbolicLink { name: path.to_owned() }),
            EntryKind::File if size > limit => {
                Err(ArchiveError::MemberTooLarge { name: path.to_owned(), limit })
            }
            EntryKind::File => Ok((size, Some((Type::File, Vec::new())))),
            EntryKind::Folder => Ok((0, None)),
        }
    }

    /// Goes on to the next header when data and padding have passed, and uses what was kept.
    fn end_data_if_complete(&mut self) -> Result<(), ArchiveError> {
        let State::Data { remaining: 0, padding: 0, keep } = &mut self.state else { return Ok(()) };
        let keep = keep.take();
        self.state = State::Header(Vec::with_capacity(BLOCK));
        let Some((kind, bytes)) = keep else { return Ok(()) };
        let is_repeated = match kind {
            Type::Pax => self.extended.pax.replace(parse_pax(&bytes)?).is_some(),
            Type::PaxGlobal => {
                if parse_pax(&bytes)? != PaxRecords::default() {
                    return Err(ArchiveError::ExtendedHeader {
                        key: String::from("path, linkpath or size for all"),
                    });
                }
                false
            }
            Type::GnuLongName => self.extended.long_name.replace(until_nul(bytes)).is_some(),
            Type::GnuLongLink => self.extended.long_link.replace(until_nul(bytes)).is_some(),
            // A second file of this name is refused at the end.
            _ => {
                self.metadata = Some(bytes);
                false
            }
        };
        if is_repeated {
            return Err(ArchiveError::Malformed("two extended headers for one entry"));
        }
        Ok(())
    }
}

/// Takes what there is of `left` bytes; returns how many.
fn take(left: &mut u64, input: &[u8]) -> usize {
    let used = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= used as u64;
    used
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn either(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>, key: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
    match (pax, gnu) {
        (Some(_), Some(_)) => Err(ArchiveError::ExtendedHeader { key: key.to_owned() }),
        (pax, gnu) => Ok(pax.or(gnu)),
    }
}

/// Checks that a link stays inside the top folder.
///
/// The target of a symbolic link is relative to the link's folder and may climb only at its beginning. Since
/// nothing may be placed below a link, that folder is a real one, so the climb ends where the text says; from
/// there on each further link has been checked in the same way. The target of a hard link is a path like any other.
fn check_link(path: &str, target: &[u8], kind: Type) -> Result<(), ArchiveError> {
    let escapes = || ArchiveError::LinkEscapes {
        name: path.to_owned(),
        target: String::from_utf8_lossy(target).into_owned(),
    };
    let top = path.split('/').next();
    if kind == Type::HardLink {
        let target = check_path(target.strip_prefix(b"./").unwrap_or(target))?;
        return if target.split('/').next() == top && target.contains('/') { Ok(()) } else { Err(escapes()) };
    }
    if target.len() > MAX_NAME_LENGTH {
        return Err(ArchiveError::Path { name: path.to_owned(), problem: PathProblem::Length });
    }
    let mut rest = target;
    // How many folders there are above the link, below the top one.
    let mut depth = path.split('/').count().saturating_sub(2);
    loop {
        if let Some(after) = rest.strip_prefix(b"./") {
            rest = after;
        } else if rest == b".." || rest.starts_with(b"../") {
            depth = depth.checked_sub(1).ok_or_else(escapes)?;
            rest = rest.get(3..).unwrap_or_default();
        } else {
            break;
        }
    }
    // A link in place of the top folder itself has nowhere to point to.
    if !path.contains('/') {
        return Err(escapes());
    }
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    if rest.is_empty() || rest == b"." { Ok(()) } else { check_path(rest).map(drop).map_err(|_| escapes()) }
}
