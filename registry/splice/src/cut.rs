//! Where one part of a document ends and the next begins.
//!
//! A document is a sorted list of records, each with a name. The cut is decided by the records themselves,
//! so every server cuts alike and no state is shared:
//!
//! 1. A name [is a boundary](is_boundary) when its hash is low enough; a boundary begins a part. So the range
//!    that a name falls in is found by looking for the nearest boundaries, not at the rest of the document.
//! 2. A range between two boundaries that is too large [is split](split) before those of its records whose
//!    hash is the lowest for more than the limit around them.
//!
//! # What holds
//! - The cut depends only on the set of records, never on the order in which they came.
//! - No part is larger than the limit, unless it is a single record.
//! - A record that grows only splits the part it is in; one that shrinks only joins parts into the one it is
//!   then in. One that comes or goes may also join or split the parts next to its own. So the parts that
//!   change are next to each other, and the new ones together hold at most four times the limit, when no
//!   record exceeds it. Mostly it is one part.
//!
//! For that, a record has to be rendered without regard to its neighbours. In a JSON list, for example, let
//! every record begin with its comma, and let the part in front of all records end with an element.
//!
//! Someone who chooses names for their hashes can make parts small (every name a boundary) but not large.

use std::num::{NonZeroU32, NonZeroUsize};

use bytes::Bytes;

/// The limit of a part that suits most documents: 512 KiB.
#[allow(clippy::unwrap_used)] // at compile time
pub const LIMIT: NonZeroUsize = NonZeroUsize::new(512 * 1024).unwrap();

/// Neighbouring records, to be rendered as one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<N> {
    /// The name of its first record.
    pub first: N,
    /// Its records' bytes, end to end.
    pub bytes: Bytes,
}

/// Whether the record of this name begins a part, when a part shall hold `mean` names on average.
///
/// The answer is the same on every machine and in every version.
pub fn is_boundary(name: &str, mean: NonZeroU32) -> bool {
    hash(name) <= u64::MAX / u64::from(mean.get())
}

/// Cuts a whole document, given as its sorted records: at the boundaries, then to the limit (in bytes).
pub fn cut<N: AsRef<str>, B: AsRef<[u8]>>(
    records: impl IntoIterator<Item = (N, B)>,
    mean: NonZeroU32,
    limit: NonZeroUsize,
) -> Vec<Piece<N>> {
    let mut records = records.into_iter().peekable();
    let mut pieces = Vec::new();
    while let Some(first) = records.next() {
        let others = std::iter::from_fn(|| records.next_if(|(name, _)| !is_boundary(name.as_ref(), mean)));
        pieces.extend(split(std::iter::once(first).chain(others), limit));
    }
    pieces
}

/// Splits the sorted records of one range between two boundaries into pieces of at most `limit` bytes
/// each, or of a single record.
///
/// The first record counts as the lowest. Every other one has a stretch: the records around it up to the
/// next lower one on either side. It begins a piece when its stretch exceeds the limit. (So in a piece the
/// lowest record but the first has a stretch within the limit, and it covers the piece.)
pub fn split<N: AsRef<str>, B: AsRef<[u8]>>(
    records: impl IntoIterator<Item = (N, B)>,
    limit: NonZeroUsize,
) -> Vec<Piece<N>> {
    let mut buffer = Vec::new();
    let mut entries: Vec<(N, usize)> = Vec::new();
    for (name, record) in records {
        entries.push((name, buffer.len()));
        buffer.extend_from_slice(record.as_ref());
    }
    let buffer = Bytes::from(buffer);
    let begins = begins_piece(&entries, buffer.len(), limit.get());

    let mut pieces = Vec::new();
    let mut heads =
        entries.into_iter().zip(begins).filter_map(|(entry, begins)| begins.then_some(entry)).peekable();
    while let Some((first, start)) = heads.next() {
        let end = heads.peek().map_or(buffer.len(), |&(_, start)| start);
        pieces.push(Piece { first, bytes: buffer.slice(start..end) });
    }
    pieces
}

/// A record whose stretch is not known to its end yet.
struct Open {
    index: usize,
    /// `None` for the first record: lower than all.
    rank: Option<u64>,
    /// Where it starts in the range.
    start: usize,
}

/// For each record, given as its name and where it starts: whether it begins a piece. One pass: the open
/// records rank ever higher, so the stretch of each begins at the one below it and ends at the next record
/// that is lower.
fn begins_piece<N: AsRef<str>>(records: &[(N, usize)], total: usize, limit: usize) -> Vec<bool> {
    let mut begins = vec![false; records.len()];
    let mut close = |open: &mut Vec<Open>, end: usize| {
        let Some(closed) = open.pop() else { return };
        let oversize = open.last().is_none_or(|lower| end - lower.start > limit);
        if let Some(begins) = begins.get_mut(closed.index) {
            *begins = oversize;
        }
    };
    let mut open: Vec<Open> = Vec::new();
    for (index, (name, start)) in records.iter().enumerate() {
        let rank = (index > 0).then(|| hash(name.as_ref()));
        // Of two names with one hash, the earlier counts as lower.
        while open.last().is_some_and(|last| last.rank > rank) {
            close(&mut open, *start);
        }
        open.push(Open { index, rank, start: *start });
    }
    while !open.is_empty() {
        close(&mut open, total);
    }
    begins
}

/// FNV-1a of 64 bits, then the finalizer of `MurmurHash3`, since FNV's high bits hardly vary between short
/// names. It must never change: every document would be cut anew.
fn hash(name: &str) -> u64 {
    let fnv = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const HASHES: [(&str, u64); 5] = [
        ("", 0xEFD0_1F60_BA99_2926),
        ("a", 0x82A2_A958_A9BE_CE5B),
        ("numpy", 0xD8B4_1076_6A39_3191),
        ("python-dateutil", 0xF6B6_2AC8_5493_5FA1),
        ("ääkköset", 0xCEFB_3D7B_01EE_D5C9),
    ];

    #[test]
    fn the_hash_never_changes() {
        // Worked out with an independent implementation of the two published functions.
        for (name, value) in HASHES {
            assert_eq!(hash(name), value, "{name:?}");
        }
    }

    #[test]
    fn parts_hold_the_wanted_number_of_names() {
        for mean in [1, 2, 10, 100, 1000].map(|mean| NonZeroU32::new(mean).unwrap()) {
            for style in [|i| format!("{i}"), |i: u32| format!("package-{i:06}"), |i: u32| format!("a{i}z")] {
                let names = 400_000;
                let boundaries = (0..names).filter(|i| is_boundary(&style(*i), mean)).count();
                let average = f64::from(names) / f64::from(u32::try_from(boundaries).unwrap());
                let wanted = f64::from(mean.get());
                assert!((0.8..1.25).contains(&(average / wanted)), "{average} for {wanted}");
            }
        }
    }

    #[test]
    fn names_in_the_order_of_their_hashes_cost_no_more() {
        // With a scan for each lowest record this takes minutes.
        let mut names: Vec<String> = (0..300_000).map(|i| format!("{i}")).collect();
        names.sort_by_key(|name| hash(name));
        let limit = NonZeroUsize::new(100).unwrap();
        for _ in 0..2 {
            let pieces = split(names.iter().map(|name| (name, b"record")), limit);
            assert!(pieces.iter().all(|piece| piece.bytes.len() <= limit.get()));
            names.reverse();
        }
    }
}
