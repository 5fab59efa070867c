//! One Zstandard frame (RFC 8878) out of blocks that were compressed independently.

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// The largest window that a decoder has to accept (RFC 9659): 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;
const WINDOW_LOG_MIN: u32 = 10;

/// The largest block.
const BLOCK_MAX: usize = 128 * 1024;

/// An empty raw block that is marked as the last one.
pub(crate) const TAIL: &[u8; 3] = &[1, 0, 0];

/// Two compressed blocks that decode to [`crate::SEPARATOR`], need no history, and leave the three repeated
/// offsets at 1, 4 and 8, which is what they are at the start of a frame.
#[rustfmt::skip]
pub(crate) const RESET: &[u8; 28] = &[
    // Block header: compressed, 15 bytes.
    0x7C, 0, 0,
    // 8 raw literals.
    0x40, b' ', b' ', b' ', b' ', b' ', b' ', b' ', b' ',
    // 1 sequence; every table is one symbol: literal length 8, offset code 3, match length 3; offset 8.
    0x01, 0x54, 8, 3, 0, 0x0B,
    // Block header: compressed, 7 bytes.
    0x3C, 0, 0,
    // No literals; 2 sequences of literal length 0 and match length 3, with the offsets 4 and 1.
    0x00, 0x02, 0x54, 0, 2, 0, 0x1C,
];

/// The frame's header. `largest_part` is the plain length of the largest part, which bounds how far back a
/// match can reach; the smallest window that suffices is what the decoder has to allocate.
pub(crate) fn head(plain_len: u64, largest_part: u64) -> Vec<u8> {
    let window = largest_part.min(1 << WINDOW_LOG_MAX).next_power_of_two();
    let window_log = window.ilog2().max(WINDOW_LOG_MIN);
    #[allow(clippy::cast_possible_truncation)] // at most 13 << 3
    let window_descriptor = ((window_log - WINDOW_LOG_MIN) << 3) as u8;
    // Content size of 8 bytes, no single segment, no checksum, no dictionary.
    let descriptor = 0b1100_0000;
    [&MAGIC[..], &[descriptor, window_descriptor], &plain_len.to_le_bytes()].concat()
}

/// The blocks that decode to the separator and `plain`, none of them the last.
pub(crate) fn blocks(plain: &[u8], level: i32) -> Vec<u8> {
    // Should the compressor be out of memory or make a frame of a kind that can't be spliced, raw blocks
    // are as valid.
    let mut out = independent_blocks(plain, level).unwrap_or_else(|| raw_blocks(plain));
    out.shrink_to_fit();
    out
}

fn independent_blocks(plain: &[u8], level: i32) -> Option<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level).ok()?;
    compressor.include_checksum(false).ok()?;
    let frame = compressor.compress(plain).ok()?;
    let mut out = Vec::with_capacity(RESET.len() + frame.len());
    out.extend_from_slice(RESET);
    append_blocks(&frame, plain.len(), &mut out)?;
    Some(out)
}

/// Appends the blocks of `frame`, which holds `plain_len` bytes, with the last-block bit cleared. `None` when
/// it is not a frame whose blocks can stand in ours: one with a checksum, a dictionary or too large a window.
fn append_blocks(frame: &[u8], plain_len: usize, out: &mut Vec<u8>) -> Option<()> {
    let rest = frame.strip_prefix(&MAGIC)?;
    let (&descriptor, rest) = rest.split_first()?;
    let single_segment = descriptor & 0b0010_0000 != 0;
    // Unused bit, reserved bit, checksum, dictionary.
    if descriptor & 0b0001_1111 != 0 {
        return None;
    }
    let rest = if single_segment {
        // The window is the content.
        (plain_len <= 1 << WINDOW_LOG_MAX).then_some(rest)?
    } else {
        let (&window_descriptor, rest) = rest.split_first()?;
        (u32::from(window_descriptor) <= (WINDOW_LOG_MAX - WINDOW_LOG_MIN) << 3).then_some(rest)?
    };
    let content_size_len = match descriptor >> 6 {
        0 => usize::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let mut rest = rest.get(content_size_len..)?;
    loop {
        let (&[low, middle, high], content) = rest.split_first_chunk()?;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = usize::try_from(header >> 3).ok()?;
        let content_len = match (header >> 1) & 3 {
            // Raw and compressed blocks.
            0 | 2 => size,
            // One byte, `size` times.
            1 => 1,
            _ => return None,
        };
        let (content, following) = content.split_at_checked(content_len)?;
        if size > 0 {
            out.extend_from_slice(&[low & !1, middle, high]);
            out.extend_from_slice(content);
        }
        if header & 1 != 0 {
            return following.is_empty().then_some(());
        }
        rest = following;
    }
}

fn raw_blocks(plain: &[u8]) -> Vec<u8> {
    // A block is never larger than the window, and the window never smaller than the part or 1 KiB.
    let mut out = RESET.to_vec();
    for block in plain.chunks(BLOCK_MAX) {
        #[allow(clippy::cast_possible_truncation)] // at most 2^17
        let header = (block.len() as u32) << 3;
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    out
}
