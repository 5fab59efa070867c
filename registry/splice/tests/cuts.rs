//! What the cut promises to those who keep parts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use granary_splice::cut::{Piece, cut, is_boundary, split};
use proptest::prelude::*;

/// The size of each record, by name.
type Records = BTreeMap<String, usize>;

const LIMIT: NonZeroUsize = NonZeroUsize::new(1000).unwrap();

/// A record's bytes tell its name and size, so that equal pieces are pieces of equal records.
fn render(name: &str, size: usize) -> Vec<u8> {
    format!("{name}={size};").into_bytes().into_iter().cycle().take(size).collect()
}

fn pieces(records: &Records, mean: u32) -> Vec<Piece<String>> {
    let rendered = records.iter().map(|(name, &size)| (name.clone(), render(name, size)));
    cut(rendered, NonZeroU32::new(mean).unwrap(), LIMIT)
}

fn name() -> impl Strategy<Value = String> {
    "[a-z]{1,3}(-[a-z0-9]{1,4})?"
}

fn records() -> impl Strategy<Value = Records> {
    // From a few large records to many small ones.
    prop_oneof![Just(40_usize), Just(200), Just(1000)]
        .prop_flat_map(|size| prop::collection::btree_map(name(), 10..=size, 0..300))
}

fn mean() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![1_u32, 2, 10, 100, u32::MAX])
}

/// Checks that `after` differs from `before` in one run of neighbouring pieces that is not too large.
fn assert_local(before: &[Piece<String>], after: &[Piece<String>]) {
    let same_at_start = before.iter().zip(after).take_while(|(before, after)| before == after).count();
    let (before, after) = (&before[same_at_start..], &after[same_at_start..]);
    let same_at_end =
        before.iter().rev().zip(after.iter().rev()).take_while(|(before, after)| before == after).count();
    let changed: usize = after[..after.len() - same_at_end].iter().map(|piece| piece.bytes.len()).sum();
    assert!(changed <= 4 * LIMIT.get(), "{changed} bytes in changed pieces");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn pieces_hold_all_records_within_the_limit(records in records(), mean in mean()) {
        let pieces = pieces(&records, mean);
        let whole: Vec<u8> = records.iter().flat_map(|(name, &size)| render(name, size)).collect();
        let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        prop_assert!(joined == whole);

        let mut starts = pieces.iter().map(|piece| &piece.first).peekable();
        for piece in &pieces {
            let first = starts.next().unwrap();
            let names: Vec<_> = match starts.peek() {
                Some(next) => records.range::<String, _>(first..*next).collect(),
                None => records.range::<String, _>(first..).collect(),
            };
            prop_assert_eq!(piece.bytes.len(), names.iter().map(|(_, size)| **size).sum::<usize>());
            prop_assert!(piece.bytes.len() <= LIMIT.get() || names.len() == 1);
            let mean = NonZeroU32::new(mean).unwrap();
            prop_assert!(names[1..].iter().all(|(name, _)| !is_boundary(name, mean)));
        }
    }

    #[test]
    fn a_range_within_the_limit_is_one_piece(
        records in prop::collection::btree_map(name(), 1..=10_usize, 1..100),
    ) {
        let rendered = records.iter().map(|(name, &size)| (name, render(name, size)));
        prop_assert_eq!(split(rendered, LIMIT).len(), 1);
    }

    #[test]
    fn a_record_that_comes_changes_its_neighbourhood(
        records in records(), name in name(), size in 1..=1000_usize, mean in mean(),
    ) {
        let mut more = records.clone();
        more.insert(name, size);
        assert_local(&pieces(&records, mean), &pieces(&more, mean));
    }

    #[test]
    fn a_record_that_goes_changes_its_neighbourhood(
        records in records(), which in any::<prop::sample::Index>(), mean in mean(),
    ) {
        prop_assume!(!records.is_empty());
        let mut fewer = records.clone();
        fewer.remove(records.keys().nth(which.index(records.len())).unwrap());
        assert_local(&pieces(&records, mean), &pieces(&fewer, mean));
    }

    #[test]
    fn a_record_that_grows_only_splits_its_piece(
        records in records(), which in any::<prop::sample::Index>(), more in 1..=1000_usize, mean in mean(),
    ) {
        prop_assume!(!records.is_empty());
        let mut grown = records.clone();
        let (name, size) = grown.iter_mut().nth(which.index(records.len())).unwrap();
        let name = name.clone();
        *size += more;
        let firsts = |records| pieces(records, mean).into_iter().map(|piece| piece.first).collect::<Vec<_>>();
        let (small, large) = (firsts(&records), firsts(&grown));
        prop_assert!(small.iter().all(|first| large.contains(first)), "every old start is kept");
        // The other way round, this is what happens to a record that shrinks.
        let piece = small.iter().rposition(|first| *first <= name).unwrap();
        for added in large.iter().filter(|first| !small.contains(first)) {
            prop_assert!(*added > small[piece] && small.get(piece + 1).is_none_or(|next| added < next));
        }
    }
}

#[test]
fn most_changes_touch_one_piece_of_an_oversize_range() {
    let records: Records = (0..5000).map(|i| (format!("package-{i:05}"), 20 + i % 37)).collect();
    let before = pieces(&records, u32::MAX);
    let (mut changed, mut trials) = (0, 0);
    for i in (0..5000).step_by(50) {
        let mut more = records.clone();
        more.insert(format!("package-{i:05}-extra"), 30);
        changed += pieces(&more, u32::MAX).iter().filter(|piece| !before.contains(piece)).count();
        trials += 1;
    }
    let average = f64::from(u32::try_from(changed).unwrap()) / f64::from(trials);
    println!("{} pieces; a new record changes {average} of them on average", before.len());
    assert!(average < 1.2);
}

#[test]
fn no_records_no_pieces() {
    assert!(pieces(&Records::new(), 10).is_empty());
}
