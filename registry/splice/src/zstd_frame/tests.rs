#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::SEPARATOR;

fn decode(blocks: &[u8], plain_len: usize) -> Vec<u8> {
    let frame = [&head(plain_len as u64, plain_len as u64)[..], blocks, TAIL].concat();
    let decoded = zstd::bulk::decompress(&frame, plain_len).unwrap();
    assert_eq!(decoded.len(), plain_len);
    decoded
}

fn spaced(text: &[u8]) -> Vec<u8> {
    [SEPARATOR, text].concat()
}

#[test]
fn the_reset_decodes_to_the_separator() {
    assert_eq!(decode(RESET, SEPARATOR.len()), SEPARATOR);
    assert_eq!(decode(&RESET.repeat(1000), SEPARATOR.len() * 1000), SEPARATOR.repeat(1000));
}

#[test]
fn raw_blocks_are_as_valid() {
    for length in [0, 1, 500, 1024, 1025, BLOCK_MAX, BLOCK_MAX + 1, 9 << 20] {
        let text = b"0123456789".repeat(length / 10 + 1);
        let both = [raw_blocks(&text), blocks(&text, 1), raw_blocks(b"")].concat();
        let plain = [spaced(&text), spaced(&text), SEPARATOR.to_vec()].concat();
        assert!(decode(&both, plain.len()) == plain, "{length}");
    }
}

#[test]
fn every_level_is_really_compressed() {
    // Otherwise the fallback would hide that frames of some level can't be spliced.
    let text: Vec<u8> = (0..20_000_u32).flat_map(|i| format!("record {}\n", i % 999).into_bytes()).collect();
    for level in -7..=19 {
        let blocks = independent_blocks(&text, level).unwrap();
        assert!(blocks.len() < text.len() / 4, "level {level}: {} of {}", blocks.len(), text.len());
        assert_eq!(decode(&blocks, SEPARATOR.len() + text.len()), spaced(&text));
    }
}

#[test]
fn frames_that_cannot_be_spliced_are_refused() {
    let text = b"some text that goes on and on and on and on";
    let take = |frame: &[u8], len| {
        let mut out = Vec::new();
        append_blocks(frame, len, &mut out).map(|()| out)
    };
    let frame = zstd::bulk::compress(text, 3).unwrap();
    assert!(take(&frame, text.len()).is_some());

    let mut checked = zstd::bulk::Compressor::new(3).unwrap();
    checked.include_checksum(true).unwrap();
    assert_eq!(take(&checked.compress(text).unwrap(), text.len()), None);

    let mut wide = zstd::bulk::Compressor::new(22).unwrap();
    wide.include_contentsize(false).unwrap();
    let large = vec![b'x'; 9 << 20];
    assert_eq!(take(&wide.compress(&large).unwrap(), large.len()), None);

    for end in 0..frame.len() {
        assert_eq!(take(&frame[..end], text.len()), None, "cut off at {end}");
    }
    assert_eq!(take(&[&frame[..], b"more"].concat(), text.len()), None);
    // A reserved block type.
    assert_eq!(take(&[&MAGIC[..], &[0x20, 0], &[7, 0, 0]].concat(), 0), None);
}

#[test]
fn the_window_is_as_small_as_the_largest_part_allows() {
    let log = |largest| (u32::from(head(1 << 40, largest)[5]) >> 3) + WINDOW_LOG_MIN;
    assert_eq!([0, 1, 1024].map(log), [10; 3]);
    assert_eq!([1025, 2048].map(log), [11; 2]);
    assert_eq!(log(512 * 1024 + 17), 20);
    assert_eq!([1 << 23, (1 << 23) + 1, u64::MAX].map(log), [23; 3]);
}
