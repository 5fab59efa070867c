//! The reader of tar archives.

use crate::paths::check_path;
use crate::tar::{BLOCK, Header, PaxRecords, Type, parse_header, parse_pax};
use crate::{
    Archive, ArchiveError, Entries, Entry, EntryKind, Interest, MAX_NAME_LENGTH, Names, PathProblem,
};

/// The largest extended header.
const MAX_EXTENDED: u64 = 1 << 20;
/// The largest size that a plain header can tell: eleven octal digits.
const MAX_OCTAL_SIZE: u64 = (1 << 33) - 1;

/// How far a link may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Anywhere within the archive.
    WithinArchive,
    /// Within the top folder that it stands in.
    WithinTopFolder,
}

impl Links {
    /// How many folders at the beginning of a link's path it does not leave.
    const fn fixed_folders(self) -> usize {
        match self {
            Self::WithinArchive => 0,
            Self::WithinTopFolder => 1,
        }
    }
}

/// The reader.
#[derive(Debug)]
pub struct TarReader<V> {
    visitor: V,
    links: Links,
    state: State,
    /// What extended headers said about the entry to come.
    extended: Extended,
    names: Names,
    unpacked: u64,
}

#[derive(Debug, Default)]
struct Extended {
    pax: Option<PaxRecords>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// What is done with data.
#[derive(Debug)]
enum Use {
    Skip,
    /// It is handed on.
    HandOn,
    /// It is an extended header.
    Keep(Type, Vec<u8>),
}

#[derive(Debug)]
enum State {
    /// Collecting a header block.
    Header(Vec<u8>),
    /// Inside data, then the padding up to the next block.
    Data { remaining: u64, padding: u64, used_for: Use },
    /// Behind the first block of zeros.
    End,
}

impl<V: Entries> TarReader<V> {
    /// Before the first byte. `visitor` is told of the entries.
    pub fn new(visitor: V, links: Links) -> Self {
        Self {
            visitor,
            links,
            state: State::Header(Vec::with_capacity(BLOCK)),
            extended: Extended::default(),
            names: Names::default(),
            unpacked: 0,
        }
    }

    /// Takes the next bytes, in pieces of any size.
    ///
    /// # Errors
    /// What is wrong with the archive, or what the visitor says. Nothing may be written afterwards.
    pub fn write(&mut self, mut input: &[u8]) -> Result<(), V::Error> {
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
                State::Data { remaining, padding, used_for } => {
                    if *remaining > 0 {
                        let used = take(remaining, input);
                        match used_for {
                            Use::Skip => {}
                            Use::HandOn => self.visitor.data(&input[..used])?,
                            Use::Keep(_, bytes) => bytes.extend_from_slice(&input[..used]),
                        }
                        used
                    } else {
                        take(padding, input)
                    }
                }
                // Some readers stop at the first block of zeros and some at the second: nothing may follow.
                State::End if input.iter().any(|&byte| byte != 0) => {
                    return Err(ArchiveError::TrailingData.into());
                }
                State::End => return Ok(()),
            };
            input = &input[used..];
            self.end_data_if_complete()?;
        }
        Ok(())
    }

    /// Makes the checks that need the whole archive.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn finish(self) -> Result<(V, Archive), V::Error> {
        if !matches!(self.state, State::End) {
            return Err(ArchiveError::Truncated.into());
        }
        self.names.check(true)?;
        Ok((self.visitor, Archive { names: self.names, unpacked_size: self.unpacked }))
    }

    /// Takes a header and goes on to the data behind it.
    fn begin(&mut self, header: Header) -> Result<(), V::Error> {
        let (size, used_for) = match header.kind {
            Type::Pax | Type::PaxGlobal | Type::GnuLongName | Type::GnuLongLink => {
                if header.size > MAX_EXTENDED {
                    let name = String::from("an extended header");
                    return Err(ArchiveError::MemberTooLarge { name, limit: MAX_EXTENDED }.into());
                }
                (header.size, Use::Keep(header.kind, Vec::new()))
            }
            _ => self.entry(header)?,
        };
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.state = State::Data { remaining: size, padding, used_for };
        self.end_data_if_complete()
    }

    /// Checks an entry; returns how much data follows and what it is for.
    fn entry(&mut self, header: Header) -> Result<(u64, Use), V::Error> {
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
                }
                .into());
            }
            Some(size) => size,
            None => header.size,
        };
        let has_data = header.kind == Type::File;
        if !has_data && size != 0 {
            return Err(ArchiveError::Malformed("a tar entry that is no file and has data").into());
        }

        let path = name.strip_prefix(b"./").unwrap_or(&name);
        let path = path.strip_suffix(b"/").filter(|_| header.kind == Type::Folder).unwrap_or(path);
        if header.kind == Type::Folder && (path.is_empty() || path == b".") {
            return Ok((0, Use::Skip));
        }
        let path = check_path(path)?;
        let kind = match header.kind {
            Type::File => EntryKind::File,
            Type::Folder => EntryKind::Folder,
            Type::SymbolicLink | Type::HardLink => EntryKind::Link,
            _ => return Err(ArchiveError::SpecialFile { name: path.to_owned() }.into()),
        };
        let interest = self.visitor.begin(&Entry { path, kind, stored: true })?;
        if kind == EntryKind::Link {
            check_link(path, &target, header.kind, self.links)?;
        }
        self.names.push(path, kind)?;
        self.unpacked += size;

        let Interest::Read { limit } = interest else { return Ok((size, Use::Skip)) };
        match kind {
            EntryKind::Link => Err(ArchiveError::SymbolicLink { name: path.to_owned() }.into()),
            EntryKind::File if size > limit => {
                Err(ArchiveError::MemberTooLarge { name: path.to_owned(), limit }.into())
            }
            EntryKind::File => Ok((size, Use::HandOn)),
            EntryKind::Folder => Ok((0, Use::Skip)),
        }
    }

    /// Goes on to the next header when data and padding have passed, and uses what was kept.
    fn end_data_if_complete(&mut self) -> Result<(), V::Error> {
        let State::Data { remaining: 0, padding: 0, used_for } = &mut self.state else { return Ok(()) };
        let used_for = std::mem::replace(used_for, Use::Skip);
        self.state = State::Header(Vec::with_capacity(BLOCK));
        let (kind, bytes) = match used_for {
            Use::Skip => return Ok(()),
            Use::HandOn => return self.visitor.end(),
            Use::Keep(kind, bytes) => (kind, bytes),
        };
        let is_repeated = match kind {
            Type::Pax => self.extended.pax.replace(parse_pax(&bytes)?).is_some(),
            Type::PaxGlobal => {
                if parse_pax(&bytes)? != PaxRecords::default() {
                    return Err(ArchiveError::ExtendedHeader {
                        key: String::from("path, linkpath or size for all"),
                    }
                    .into());
                }
                false
            }
            Type::GnuLongName => self.extended.long_name.replace(until_nul(bytes)).is_some(),
            Type::GnuLongLink => self.extended.long_link.replace(until_nul(bytes)).is_some(),
            _ => false,
        };
        if is_repeated {
            return Err(ArchiveError::Malformed("two extended headers for one entry").into());
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

/// Checks that a link stays inside.
///
/// The target of a symbolic link is relative to the link's folder and may climb only at its beginning. Since
/// nothing may be placed below a link, that folder is a real one, so the climb ends where the text says; from
/// there on each further link has been checked in the same way. The target of a hard link is a path like any other.
fn check_link(path: &str, target: &[u8], kind: Type, links: Links) -> Result<(), ArchiveError> {
    let escapes = || ArchiveError::LinkEscapes {
        name: path.to_owned(),
        target: String::from_utf8_lossy(target).into_owned(),
    };
    let top = path.split('/').next();
    if kind == Type::HardLink {
        let target = check_path(target.strip_prefix(b"./").unwrap_or(target))?;
        let is_inside = match links {
            Links::WithinArchive => true,
            Links::WithinTopFolder => target.split('/').next() == top && target.contains('/'),
        };
        return if is_inside { Ok(()) } else { Err(escapes()) };
    }
    if target.len() > MAX_NAME_LENGTH {
        return Err(ArchiveError::Path { name: path.to_owned(), problem: PathProblem::Length });
    }
    let mut rest = target;
    // How many folders there are above the link that it may climb out of.
    let folders = path.split('/').count() - 1;
    let mut depth = folders.saturating_sub(links.fixed_folders());
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
    if folders < links.fixed_folders() {
        return Err(escapes());
    }
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    if rest.is_empty() || rest == b"." { Ok(()) } else { check_path(rest).map(drop).map_err(|_| escapes()) }
}
