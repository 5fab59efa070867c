//! One bzip2 stream out of blocks that were compressed apart.
//!
//! A stream is a header, blocks, and an end that holds a checksum of the blocks' checksums. A block stands for itself, at any
//! bit. So a document of many parts costs the parts that changed, and the rest is shifted into place; and it is one stream,
//! since readers exist that stop at the end of the first one.

use std::io::Read as _;

/// The most plain bytes of a block. Runs of four equal bytes become five before they are packed: this always is one block of
/// the size that the header names.
pub const BLOCK: usize = 640 << 10;

/// Blocks of 900,000 bytes.
const HEADER: &[u8; 4] = b"BZh9";
/// What begins the end of a stream: 48 bits.
const END: u64 = 0x1772_4538_5090;
/// Bits of the end: its mark and the checksum.
const END_BITS: u64 = 48 + 32;

/// Why a block could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Bzip2Error {
    /// There is no memory.
    #[error("bzip2 failed")]
    Compress(#[from] std::io::Error),
    /// What came back is not a stream of one block.
    #[error("bzip2 made something else than one block")]
    NotOneBlock,
}

/// A compressed block: so many bits of these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    bytes: Box<[u8]>,
    bits: u64,
    checksum: u32,
}

impl Block {
    /// Compresses at most [`BLOCK`] bytes.
    ///
    /// # Errors
    /// [`Bzip2Error`].
    pub fn compress(plain: &[u8]) -> Result<Self, Bzip2Error> {
        let mut stream = Vec::new();
        bzip2::read::BzEncoder::new(plain, bzip2::Compression::best()).read_to_end(&mut stream)?;
        let body = stream.strip_prefix(HEADER).ok_or(Bzip2Error::NotOneBlock)?;
        let all = body.len() as u64 * 8;
        // Behind the magic number of a block stands its checksum, which is that of the stream where it has one block.
        let checksum = read_bits(body, 48, 32);
        let found = (0..8).find_map(|padding| {
            let bits = all.checked_sub(END_BITS + padding)?;
            (read_bits(body, bits, 48) == END && read_bits(body, bits + 48, 32) == checksum).then_some(bits)
        });
        let bits = found.ok_or(Bzip2Error::NotOneBlock)?;
        let bytes = usize::try_from(bits.div_ceil(8)).map_err(|_| Bzip2Error::NotOneBlock)?;
        let checksum = u32::try_from(checksum).map_err(|_| Bzip2Error::NotOneBlock)?;
        Ok(Self { bytes: body[..bytes].into(), bits, checksum })
    }

    /// How much memory it takes, in bytes.
    pub const fn memory(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

/// At most 64 bits of `bytes` from this bit on; the first bit is the highest one.
fn read_bits(bytes: &[u8], from: u64, count: u64) -> u64 {
    (from..from + count).fold(0, |value, at| {
        let byte =
            usize::try_from(at / 8).ok().and_then(|index| bytes.get(index)).copied().unwrap_or_default();
        value << 1 | u64::from(byte >> (7 - at % 8) & 1)
    })
}

/// Puts blocks end to end.
#[derive(Debug)]
pub struct Joined {
    out: Vec<u8>,
    /// How many bits of `out` are taken: all but at most seven of the last byte, which are 0.
    bits: u64,
    checksum: u32,
}

impl Default for Joined {
    fn default() -> Self {
        Self { out: HEADER.to_vec(), bits: HEADER.len() as u64 * 8, checksum: 0 }
    }
}

impl Joined {
    /// Adds a block.
    pub fn push(&mut self, block: &Block) {
        self.checksum = self.checksum.rotate_left(1) ^ block.checksum;
        self.bits(&block.bytes, block.bits);
    }

    /// Adds so many bits of these bytes.
    fn bits(&mut self, bytes: &[u8], bits: u64) {
        let taken = self.bits % 8;
        self.out.reserve(bytes.len() + 1);
        if taken == 0 {
            self.out.extend_from_slice(bytes);
        } else {
            for byte in bytes {
                if let Some(last) = self.out.last_mut() {
                    *last |= byte >> taken;
                }
                self.out.push(byte << (8 - taken));
            }
        }
        self.bits += bits;
        self.out.truncate(usize::try_from(self.bits.div_ceil(8)).unwrap_or(usize::MAX));
        let free = (8 - self.bits % 8) % 8;
        if let Some(last) = self.out.last_mut() {
            *last &= u8::MAX << free;
        }
    }

    /// The stream.
    pub fn finish(mut self) -> Vec<u8> {
        self.bits(&END.to_be_bytes()[2..], 48);
        let checksum = self.checksum.to_be_bytes();
        self.bits(&checksum, 32);
        self.out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::Read as _;

    use super::*;

    fn joined(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut joined = Joined::default();
        for piece in pieces {
            joined.push(&Block::compress(piece).unwrap());
        }
        joined.finish()
    }

    fn unpacked(stream: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        // Not the reader of several streams: this is one.
        let mut reader = bzip2::read::BzDecoder::new(stream);
        reader.read_to_end(&mut plain).unwrap();
        assert_eq!(reader.total_in(), stream.len() as u64);
        plain
    }

    #[test]
    fn blocks_are_one_stream_at_every_bit() {
        let noise = |seed: u64, length: usize| {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                u8::try_from(state >> 56).unwrap()
            };
            (0..length).map(|_| next()).collect::<Vec<u8>>()
        };
        for count in 0..40 {
            let pieces: Vec<Vec<u8>> =
                (0..count).map(|n| noise(n, 1 + usize::try_from(n * n % 97).unwrap())).collect();
            assert_eq!(unpacked(&joined(&pieces)), pieces.concat(), "{count}");
        }
        let pieces = vec![noise(1, BLOCK), b"aaaab".repeat(BLOCK / 5), vec![7; BLOCK], noise(2, 3)];
        assert_eq!(unpacked(&joined(&pieces)), pieces.concat());
    }

    #[test]
    fn one_block_is_what_bzip2_makes() {
        let plain = b"some text, some text, some text";
        let mut expected = Vec::new();
        bzip2::read::BzEncoder::new(&plain[..], bzip2::Compression::best())
            .read_to_end(&mut expected)
            .unwrap();
        assert_eq!(joined(&[plain.to_vec()]), expected);
    }
}
