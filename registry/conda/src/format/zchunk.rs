//! zchunk files (`zchunk_format.txt`, version 1): a compressed file made of chunks, of which a client that has an older one fetches only
//! those that are new to it.
//!
//! A file is a lead, a header and its chunks. Integers are written seven bits at a time, the lowest first; the last byte has its
//! highest bit set.

use aws_lc_rs::digest::{Context, SHA256, SHA512, digest};
use bytes::Bytes;

/// What a file begins with.
const MAGIC: &[u8] = b"\0ZCK1";
/// SHA-256, for header and data.
const SHA256_TYPE: u64 = 1;
/// The first 128 bits of SHA-512, for chunks.
const SHA512_128_TYPE: u64 = 3;
/// How many they are, in bytes.
const CHUNK_DIGEST: usize = 16;
/// zstd.
const ZSTD: u64 = 2;
/// How well chunks are compressed: they are kept, and fetched often.
const LEVEL: i32 = 9;

/// A piece of the text, compressed. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct Chunk {
    bytes: Bytes,
    digest: [u8; CHUNK_DIGEST],
    plain_length: u64,
}

impl Chunk {
    /// Compresses a piece; equal pieces are equal chunks.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn compress(plain: &[u8]) -> std::io::Result<Self> {
        let bytes = zstd::bulk::compress(plain, LEVEL)?;
        let mut chunk_digest = [0; CHUNK_DIGEST];
        chunk_digest.copy_from_slice(&digest(&SHA512, &bytes).as_ref()[..CHUNK_DIGEST]);
        Ok(Self { bytes: bytes.into(), digest: chunk_digest, plain_length: plain.len() as u64 })
    }

    /// The compressed bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// What stands before the chunks of a file.
pub fn head(chunks: &[Chunk]) -> Vec<u8> {
    let mut index = Vec::new();
    number(&mut index, SHA512_128_TYPE);
    // The first one is the dictionary: there is none.
    number(&mut index, chunks.len() as u64 + 1);
    index.extend([0; CHUNK_DIGEST]);
    number(&mut index, 0);
    number(&mut index, 0);
    let mut data = Context::new(&SHA256);
    for chunk in chunks {
        data.update(&chunk.bytes);
        index.extend(chunk.digest);
        number(&mut index, chunk.bytes.len() as u64);
        number(&mut index, chunk.plain_length);
    }

    let mut header = data.finish().as_ref().to_vec();
    // No flags.
    number(&mut header, 0);
    number(&mut header, ZSTD);
    number(&mut header, index.len() as u64);
    header.append(&mut index);
    // No signatures.
    number(&mut header, 0);

    let mut lead = MAGIC.to_vec();
    number(&mut lead, SHA256_TYPE);
    number(&mut lead, header.len() as u64);
    let mut checksum = Context::new(&SHA256);
    checksum.update(&lead);
    checksum.update(&header);
    lead.extend(checksum.finish().as_ref());
    lead.append(&mut header);
    lead
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    loop {
        // The lowest byte of a number below 128 is the number.
        let low = (value & 0x7f).to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            out.push(low | 0x80);
            return;
        }
        out.push(low);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn numbers_end_with_their_highest_bit() {
        for (value, bytes) in [
            (0, &[0x80][..]),
            (40, &[0xa8]),
            (127, &[0xff]),
            (128, &[0, 0x81]),
            (76_000, &[0x60, 0x51, 0x84]),
        ] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn the_head_counts_what_follows() {
        let chunks = [Chunk::compress(b"one").unwrap(), Chunk::compress(&[b'x'; 1000]).unwrap()];
        let head = head(&chunks);
        assert!(head.starts_with(b"\0ZCK1\x81"));
        // Lead, header: two digests of 32 bytes, and the index of three chunks.
        assert_eq!(head.len(), (5 + 1 + 1 + 32) + (32 + 1 + 1 + 1) + (1 + 1 + 18 + 18 + 19) + 1);
        assert_eq!(chunks[0].digest, Chunk::compress(b"one").unwrap().digest);
    }
}
