//! A tar archive, split into two by the paths of its entries, byte by byte as it passes.

use crate::ArchiveError;
use crate::tar::{BLOCK, Type, parse_header, parse_pax};

/// The most that extended headers of one entry may hold.
const MAX_HELD: usize = 2 << 20;
/// What a tar archive ends with.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Takes the two archives.
pub trait Halves {
    /// Why they cannot be taken.
    type Error: From<ArchiveError>;

    /// Whether an entry belongs to the first one; its path is as the archive has it, but for `./` before it.
    fn is_first(&self, path: &[u8]) -> bool;

    /// Takes the next bytes of one of them.
    ///
    /// # Errors
    /// Where they cannot be taken.
    fn write(&mut self, is_first: bool, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// The splitter. The archive has been read by a [`TarReader`](crate::TarReader) before, which makes the checks.
#[derive(Debug)]
pub struct TarSplitter<H> {
    halves: H,
    state: State,
    /// Extended headers, whose entry is still to come, with their padding.
    held: Vec<u8>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

#[derive(Debug)]
enum State {
    Header(Vec<u8>),
    /// The data of an entry, with its padding.
    Data {
        is_first: bool,
        left: u64,
    },
    /// The data of an extended header: how much of it there is, then the padding.
    Extended {
        kind: Type,
        bytes: Vec<u8>,
        length: usize,
        padded: usize,
    },
    End,
}

impl<H: Halves> TarSplitter<H> {
    /// Before the first byte.
    pub fn new(halves: H) -> Self {
        Self { halves, state: State::Header(Vec::new()), held: Vec::new(), name: None, link: None }
    }

    /// Takes the next bytes, in pieces of any size.
    ///
    /// # Errors
    /// What is wrong with the archive, or why the halves cannot be taken.
    pub fn write(&mut self, mut input: &[u8]) -> Result<(), H::Error> {
        while !input.is_empty() {
            let used = match &mut self.state {
                State::Header(block) => {
                    let used = input.len().min(BLOCK - block.len());
                    block.extend_from_slice(&input[..used]);
                    if let Some(block) = block.first_chunk::<BLOCK>().copied() {
                        self.header(&block)?;
                    }
                    used
                }
                State::Data { is_first, left } => {
                    let used = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                    *left -= used as u64;
                    let is_over = *left == 0;
                    self.halves.write(*is_first, &input[..used])?;
                    if is_over {
                        self.state = State::Header(Vec::new());
                    }
                    used
                }
                State::Extended { bytes, padded, .. } => {
                    let used = input.len().min(*padded - bytes.len());
                    bytes.extend_from_slice(&input[..used]);
                    if bytes.len() == *padded {
                        self.extended()?;
                    }
                    used
                }
                State::End => return Ok(()),
            };
            input = &input[used..];
        }
        Ok(())
    }

    /// Ends both archives.
    ///
    /// # Errors
    /// Where the archive ended too early, or why the halves cannot be taken.
    pub fn finish(mut self) -> Result<H, H::Error> {
        if !matches!(self.state, State::End) {
            return Err(ArchiveError::Truncated.into());
        }
        self.halves.write(true, &END)?;
        self.halves.write(false, &END)?;
        Ok(self.halves)
    }

    fn header(&mut self, block: &[u8; BLOCK]) -> Result<(), H::Error> {
        let Some(header) = parse_header(block)? else {
            self.state = State::End;
            return Ok(());
        };
        let padded = header.size.next_multiple_of(BLOCK as u64);
        match header.kind {
            Type::Pax | Type::PaxGlobal | Type::GnuLongName | Type::GnuLongLink => {
                let too_large = || ArchiveError::Malformed("an extended header that is too large");
                let padded = usize::try_from(padded).map_err(|_| too_large())?;
                if padded + self.held.len() > MAX_HELD {
                    return Err(too_large().into());
                }
                // Not above `padded`.
                let length = usize::try_from(header.size).map_err(|_| too_large())?;
                self.held.extend_from_slice(block);
                self.state = State::Extended { kind: header.kind, bytes: Vec::new(), length, padded };
                if padded == 0 {
                    self.extended()?;
                }
            }
            kind => {
                let name = self.name.take().unwrap_or(header.name);
                let link = self.link.take().unwrap_or(header.link);
                let is_first = self.is_first(&name);
                // A link to a file that comes to lie in another archive leads nowhere.
                if kind == Type::HardLink && self.is_first(&link) != is_first {
                    return Err(ArchiveError::Malformed("a hard link between two parts").into());
                }
                let held = std::mem::take(&mut self.held);
                self.halves.write(is_first, &held)?;
                self.halves.write(is_first, block)?;
                let is_file = kind == Type::File && padded > 0;
                self.state =
                    if is_file { State::Data { is_first, left: padded } } else { State::Header(Vec::new()) };
            }
        }
        Ok(())
    }

    fn is_first(&self, path: &[u8]) -> bool {
        self.halves.is_first(path.strip_prefix(b"./").unwrap_or(path))
    }

    /// An extended header is complete.
    fn extended(&mut self) -> Result<(), H::Error> {
        let State::Extended { kind, bytes, length, .. } =
            std::mem::replace(&mut self.state, State::Header(Vec::new()))
        else {
            return Ok(());
        };
        self.held.extend_from_slice(&bytes);
        let data = &bytes[..length];
        let text = || data.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        match kind {
            Type::Pax => {
                let records = parse_pax(data)?;
                if records.size.is_some() {
                    return Err(ArchiveError::Malformed("a file of more than 8 GiB").into());
                }
                self.name = records.path.or(self.name.take());
                self.link = records.link.or(self.link.take());
            }
            Type::GnuLongName => self.name = Some(text()),
            Type::GnuLongLink => self.link = Some(text()),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::{Entries, Entry, Interest, Links, TarReader};

    #[derive(Debug, Default)]
    struct Both([Vec<u8>; 2]);

    impl Halves for Both {
        type Error = ArchiveError;

        fn is_first(&self, path: &[u8]) -> bool {
            path.starts_with(b"info/")
        }

        fn write(&mut self, is_first: bool, bytes: &[u8]) -> Result<(), ArchiveError> {
            self.0[usize::from(!is_first)].extend_from_slice(bytes);
            Ok(())
        }
    }

    #[derive(Default)]
    struct Seen(Vec<(String, Vec<u8>)>);

    impl Entries for Seen {
        type Error = ArchiveError;

        fn begin(&mut self, entry: &Entry<'_>) -> Result<Interest, ArchiveError> {
            self.0.push((entry.path.to_owned(), Vec::new()));
            Ok(Interest::Read { limit: u64::MAX })
        }

        fn data(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
            self.0.last_mut().unwrap().1.extend_from_slice(bytes);
            Ok(())
        }

        fn end(&mut self) -> Result<(), ArchiveError> {
            Ok(())
        }
    }

    fn block(name: &str, kind: u8, size: usize) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[148..156].copy_from_slice(b"        ");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn entry(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
        let mut entry = block(name, kind, data.len());
        entry.extend_from_slice(data);
        entry.resize(entry.len().next_multiple_of(BLOCK), 0);
        entry
    }

    fn read(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut reader = TarReader::new(Seen::default(), Links::WithinArchive);
        reader.write(tar).unwrap();
        reader.finish().unwrap().0.0
    }

    #[test]
    fn each_entry_goes_to_its_half_as_it_was() {
        let long = format!("info/{}", "x".repeat(150));
        let archive = [
            entry("info/a", b'0', b"one"),
            entry("bin/b", b'0', &[7; 1000]),
            entry("pax", b'x', format!("165 path={long}\n").as_bytes()),
            entry("short", b'0', b"two"),
            entry("./bin/c", b'0', b""),
            entry("info/d", b'0', &[8; 512]),
            vec![0; 2 * BLOCK],
        ]
        .concat();
        for size in [1, 511, 512, 513, archive.len()] {
            let mut splitter = TarSplitter::new(Both::default());
            archive.chunks(size).for_each(|chunk| splitter.write(chunk).unwrap());
            let Both([first, second]) = splitter.finish().unwrap();
            let names = |tar: &[u8]| read(tar).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
            assert_eq!(names(&first), ["info/a", &long, "info/d"]);
            assert_eq!(names(&second), ["bin/b", "bin/c"]);
            assert_eq!(read(&first)[1].1, b"two");
            assert_eq!(read(&second)[0].1, [7; 1000]);
        }
    }

    #[test]
    fn what_ends_too_early_is_refused() {
        let archive = entry("info/a", b'0', b"one");
        let mut splitter = TarSplitter::new(Both::default());
        splitter.write(&archive).unwrap();
        assert!(matches!(splitter.finish(), Err(ArchiveError::Truncated)));
    }
}
