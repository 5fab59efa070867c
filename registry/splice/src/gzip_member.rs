//! One gzip member (RFC 1952) out of deflate streams (RFC 1951) that were made independently.
//!
//! A full flush ends a deflate stream at a byte border, and what follows refers to nothing before it when
//! it was compressed by a fresh compressor. So the streams are laid end to end and closed by an empty
//! final block.

use flate2::{Compress, Compression, FlushCompress, Status};

/// The member's header: deflate, no flags, no time (so equal documents are equal bytes), unknown system.
pub(crate) const HEAD: &[u8; 10] = &[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];

/// Raised when the same text at the same level may be deflated to other bytes than before, that is with a
/// new compressor. It is part of the strong `ETag`.
pub(crate) const GENERATION: u32 = 1;

/// An empty final block with fixed codes.
const FINAL_BLOCK: [u8; 2] = [3, 0];

/// The largest stored block.
const STORED_MAX: usize = 0xFFFF;

/// What ends the member: the final block, the CRC-32 and the length (modulo 2^32) of the plain document.
pub(crate) fn tail(crc32: u32, plain_len: u64) -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation)] // the format wants the lowest 32 bits
    let length = plain_len as u32;
    [&FINAL_BLOCK[..], &crc32.to_le_bytes(), &length.to_le_bytes()].concat()
}

/// The deflate blocks of `text`, byte-aligned, none of them final, none referring to what came before.
pub(crate) fn deflate(text: &[u8], level: u32) -> Vec<u8> {
    // The compressor has no way to fail on input like this, but it has an error type; stored blocks are
    // as valid.
    compress(text, level).unwrap_or_else(|| stored(text))
}

fn compress(text: &[u8], level: u32) -> Option<Vec<u8>> {
    let mut compressor = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(text.len() / 4 + 64);
    let mut rest = text;
    loop {
        let before = compressor.total_in();
        let status = compressor.compress_vec(rest, &mut out, FlushCompress::Full).ok()?;
        let consumed = usize::try_from(compressor.total_in() - before).ok()?;
        rest = rest.get(consumed..)?;
        // Room left over means that the flush is complete.
        if out.len() < out.capacity() {
            break (rest.is_empty() && status == Status::Ok).then(|| {
                out.shrink_to_fit();
                out
            });
        }
        out.reserve(rest.len() / 4 + 64);
    }
}

fn stored(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 5 * text.len().div_ceil(STORED_MAX));
    for block in text.chunks(STORED_MAX) {
        #[allow(clippy::cast_possible_truncation)] // `STORED_MAX` bounds it
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

    use std::io::Read;

    use granary_core::Sha256;

    use super::*;

    fn inflate(blocks: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let ended = [blocks, &FINAL_BLOCK].concat();
        let mut decoder = flate2::bufread::DeflateDecoder::new(&ended[..]);
        decoder.read_to_end(&mut out).unwrap();
        assert!(decoder.into_inner().is_empty());
        out
    }

    #[test]
    fn a_flush_that_just_fits_is_finished_once() {
        // Every length, so that the output also ends exactly at the capacity reserved for it.
        let noise: Vec<u8> = (0..3000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
        for length in 0..noise.len() {
            assert_eq!(inflate(&compress(&noise[..length], 1).unwrap()), &noise[..length]);
        }
    }

    #[test]
    fn stored_blocks_are_as_valid() {
        for length in [0, 1, STORED_MAX, STORED_MAX + 1, 3 * STORED_MAX] {
            let text = b"abc".repeat(length / 3 + 1);
            assert_eq!(inflate(&stored(&text)), text);
            assert_eq!(inflate(&[compress(&text, 6).unwrap(), stored(&text)].concat()), text.repeat(2));
        }
    }

    #[test]
    fn the_generation_stands_for_these_bytes() {
        let text: Vec<String> =
            (0..5000_u64).map(|i| format!("{{\"name\":\"p{}\",\"n\":{}}},", i * i % 977, i)).collect();
        let text = text.concat();
        let all: Vec<u8> = (1..=9).flat_map(|level| compress(text.as_bytes(), level).unwrap()).collect();
        // When this fails, the compressor has changed: raise `GENERATION` and put the new digest here.
        assert_eq!(
            (GENERATION, Sha256::of(&all).to_hex().as_str()),
            (1, "c690d2060229a095636672ef5287d9de77ac5c3c8f5403bd8a0503c9dbb6828b")
        );
    }
}
