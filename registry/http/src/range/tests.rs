#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::single_range_in_vec_init)]

use std::ops::Range;

use http::HeaderValue;
use proptest::prelude::*;

use super::{Boundary, MAX_RANGES, MultipartLayout, Ranges, content_range, unsatisfied_range};

fn parse(header: &str, size: u64) -> Ranges {
    Ranges::parse(Some(&HeaderValue::from_str(header).unwrap()), size)
}

#[test]
fn single_ranges() {
    for (header, range) in [
        ("bytes=0-0", 0..1),
        ("bytes=0-99", 0..100),
        ("bytes=10-", 10..100),
        ("bytes=90-1000", 90..100),
        ("bytes=90-99999999999999999999999999", 90..100),
        ("bytes=90-18446744073709551615", 90..100),
        ("bytes=-10", 90..100),
        ("bytes=-1000", 0..100),
        ("Bytes = 1-2", 1..3),
        ("bytes= 1-2 ,", 1..3),
        ("bytes=1-2, 200-300", 1..3),
        // Joined into one.
        ("bytes=0-9,10-19", 0..20),
        ("bytes=50-,0-59", 0..100),
    ] {
        assert_eq!(parse(header, 100), Ranges::Single(range), "{header}");
    }
}

#[test]
fn ranges_that_are_ignored() {
    for header in [
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=1",
        "bytes=--1",
        "bytes=-",
        "bytes=+1-2",
        "bytes=1-2,x",
        "items=0-1",
        "bytes=1-2;3",
        "bytes=0x1-2",
    ] {
        assert_eq!(parse(header, 100), Ranges::Full, "{header}");
    }
    assert_eq!(Ranges::parse(None, 100), Ranges::Full);
    let many = |count: usize| {
        let list: Vec<String> = (0..count).map(|index| format!("{0}-{0}", index * 2)).collect();
        format!("bytes={}", list.join(","))
    };
    assert!(matches!(parse(&many(MAX_RANGES), 1000), Ranges::Multi(ranges) if ranges.len() == MAX_RANGES));
    assert_eq!(parse(&many(MAX_RANGES + 1), 1000), Ranges::Full);
}

#[test]
fn ranges_that_are_not_there() {
    for header in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=200-300,400-"] {
        assert_eq!(parse(header, 100), Ranges::Unsatisfiable, "{header}");
    }
    assert_eq!(parse("bytes=0-", 0), Ranges::Unsatisfiable);
    assert_eq!(parse("bytes=-5", 0), Ranges::Unsatisfiable);
}

#[test]
fn several_ranges_keep_their_order_unless_they_overlap() {
    assert_eq!(parse("bytes=50-59,0-9", 100), Ranges::Multi(vec![50..60, 0..10]));
    assert_eq!(parse("bytes=50-59,0-9,5-19", 100), Ranges::Multi(vec![0..20, 50..60]));
}

#[test]
fn content_ranges() {
    assert_eq!(content_range(&(5..10), 100), "bytes 5-9/100");
    assert_eq!(unsatisfied_range(100), "bytes */100");
}

#[test]
fn the_layout_of_a_multipart_body() {
    let boundary = Boundary::new(0xabc);
    let kind = HeaderValue::from_static("application/zip");
    let layout = MultipartLayout::new(vec![0..2, 7..10], 10, &kind, &boundary);
    let file = b"0123456789";
    let mut body = Vec::new();
    for (head, range) in &layout.parts {
        body.extend_from_slice(head);
        body.extend_from_slice(
            &file[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()],
        );
    }
    body.extend_from_slice(&layout.end);
    let mark = "00000000000000000000000000000abc";
    let expected = format!(
        "--{mark}\r\nContent-Type: application/zip\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
         \r\n--{mark}\r\nContent-Type: application/zip\r\nContent-Range: bytes 7-9/10\r\n\r\n789\
         \r\n--{mark}--\r\n"
    );
    assert_eq!(String::from_utf8(body).unwrap(), expected);
    assert_eq!(layout.length, expected.len() as u64);
    assert_eq!(boundary.content_type(), format!("multipart/byteranges; boundary={mark}").as_str());
}

/// What the header asks for, byte by byte.
fn naive(specs: &[(u64, u64)], size: u64) -> Vec<bool> {
    (0..size).map(|at| specs.iter().any(|(first, last)| (first..=last).contains(&&at))).collect()
}

fn covered(ranges: &[Range<u64>], size: u64) -> Vec<bool> {
    (0..size).map(|at| ranges.iter().any(|range| range.contains(&at))).collect()
}

proptest! {
    #[test]
    fn any_header_gives_ranges_within_the_file(text in "(bytes=)?[0-9,\\- a-z]{0,40}", size in 0_u64..200) {
        let ranges = match parse(&text, size) {
            Ranges::Single(range) => vec![range],
            Ranges::Multi(ranges) => ranges,
            Ranges::Full | Ranges::Unsatisfiable => Vec::new(),
        };
        for (index, range) in ranges.iter().enumerate() {
            prop_assert!(range.start < range.end && range.end <= size);
            for other in &ranges[index + 1..] {
                prop_assert!(range.end < other.start || other.end < range.start);
            }
        }
    }

    #[test]
    fn exactly_the_bytes_asked_for(specs in prop::collection::vec((0_u64..60, 0_u64..20), 1..8), size in 1_u64..60) {
        let specs: Vec<(u64, u64)> = specs.into_iter().map(|(first, more)| (first, first + more)).collect();
        let list: Vec<String> = specs.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let ranges = match parse(&format!("bytes={}", list.join(", ")), size) {
            Ranges::Single(range) => vec![range],
            Ranges::Multi(ranges) => ranges,
            Ranges::Unsatisfiable => Vec::new(),
            Ranges::Full => return Err(TestCaseError::fail("a good header was ignored")),
        };
        prop_assert_eq!(covered(&ranges, size), naive(&specs, size));
    }
}
