#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::{MAX_LENGTH, MAX_SEGMENTS, PathError, Query, RequestPath};

#[test]
fn paths_that_are_read() {
    for (raw, segments, trailing_slash) in [
        ("/", &[][..], true),
        ("/a", &["a"], false),
        ("/a/", &["a"], true),
        ("/pypi/root/dev/+simple/numpy/", &["pypi", "root", "dev", "+simple", "numpy"], true),
        ("/a%20b/c+d", &["a b", "c+d"], false),
        ("/caf%C3%A9", &["café"], false),
        ("/a;x=1/b:c@d", &["a;x=1", "b:c@d"], false),
        ("/...", &["..."], false),
        ("/.hidden/a..b", &[".hidden", "a..b"], false),
        // Encoded twice: decoded once, and no more.
        ("/%252e%252e/%252f", &["%2e%2e", "%2f"], false),
        ("/%2500", &["%00"], false),
    ] {
        let path = RequestPath::parse(raw).unwrap();
        assert_eq!(
            (path.segments(), path.trailing_slash()),
            (&segments.iter().map(ToString::to_string).collect::<Vec<_>>()[..], trailing_slash),
            "{raw}"
        );
    }
}

#[test]
fn paths_that_are_refused() {
    for (raw, error) in [
        ("", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("a/b", PathError::NotAbsolute),
        ("//", PathError::EmptySegment),
        ("/a//b", PathError::EmptySegment),
        ("//a", PathError::EmptySegment),
        ("/a//", PathError::EmptySegment),
        ("/.", PathError::DotSegment),
        ("/a/../b", PathError::DotSegment),
        ("/a/..", PathError::DotSegment),
        ("/a/%2e%2e/b", PathError::DotSegment),
        ("/a/.%2E/", PathError::DotSegment),
        ("/a/%2e", PathError::DotSegment),
        ("/a%2fb", PathError::HiddenSeparator),
        ("/..%2F..%2Fetc", PathError::HiddenSeparator),
        ("/a\\b", PathError::HiddenSeparator),
        ("/..%5c..%5Cetc", PathError::HiddenSeparator),
        ("/a%00", PathError::Control),
        ("/a\0b", PathError::Control),
        ("/a%0d%0aSet-Cookie:x", PathError::Control),
        ("/a\nb", PathError::Control),
        ("/a%7f", PathError::Control),
        ("/a%C2%85", PathError::Control),
        ("/a%", PathError::Percent),
        ("/a%2", PathError::Percent),
        ("/a%zz", PathError::Percent),
        ("/a%2%66", PathError::Percent),
        ("/%c0%af", PathError::Encoding),
        ("/%c0%ae%c0%ae", PathError::Encoding),
        ("/%e0%80%af", PathError::Encoding),
        ("/%ed%a0%80", PathError::Encoding),
        ("/%ff", PathError::Encoding),
        ("/café", PathError::Encoding),
    ] {
        assert_eq!(RequestPath::parse(raw), Err(error), "{raw:?}");
    }
    assert_eq!(RequestPath::parse(&format!("/{}", "a".repeat(MAX_LENGTH))), Err(PathError::TooLong));
    assert_eq!(RequestPath::parse(&"/a".repeat(MAX_SEGMENTS + 1)), Err(PathError::TooLong));
}

#[test]
fn segments_can_be_taken_out() {
    let path = RequestPath::parse("/t/TOKEN/get/main/").unwrap();
    assert_eq!(path.without(0, 2).unwrap(), RequestPath::parse("/get/main/").unwrap());
    assert_eq!(
        RequestPath::parse("/t/TOKEN").unwrap().without(0, 2).unwrap(),
        RequestPath::parse("/").unwrap()
    );
    assert_eq!(path.without(3, 2), None);
    assert_eq!(path.without(usize::MAX, 2), None);
}

#[test]
fn queries() {
    let query = Query::parse(Some("a=1&b=x+y%2Bz&a=2&c&=d&&e=f=g")).unwrap();
    assert_eq!(query.first("a"), Some("1"));
    assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(query.first("b"), Some("x y+z"));
    assert_eq!(query.first("c"), Some(""));
    assert_eq!(query.first(""), Some("d"));
    assert_eq!(query.first("e"), Some("f=g"));
    assert_eq!(query.first("absent"), None);
    assert_eq!(Query::parse(None).unwrap().iter().count(), 0);
    assert_eq!(Query::parse(Some("a=%00")), Err(PathError::Control));
    assert_eq!(Query::parse(Some("a=%")), Err(PathError::Percent));
    assert_eq!(Query::parse(Some("a=%ff")), Err(PathError::Encoding));
    assert_eq!(Query::parse(Some(&"a&".repeat(MAX_SEGMENTS + 1))), Err(PathError::TooLong));
}

proptest! {
    #[test]
    fn nothing_unsafe_gets_through(raw in "/(\\PC|[\\x00-\\x1f]|/|%2e|%2F|%5c|%00|%25|\\.|%c0%ae){0,12}") {
        if let Ok(path) = RequestPath::parse(&raw) {
            for segment in path.segments() {
                prop_assert!(!segment.is_empty() && segment != "." && segment != "..");
                prop_assert!(!segment.contains(['/', '\\']) && !segment.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn what_was_encoded_comes_back(segments in prop::collection::vec("[^/\\\\\\x00-\\x1f\\x7f-\\u{9f}]{1,12}", 0..8), slash: bool) {
        prop_assume!(segments.iter().all(|segment| segment != "." && segment != ".."));
        let mut raw = String::new();
        for segment in &segments {
            raw.push('/');
            raw.extend(utf8_percent_encode(segment, NON_ALPHANUMERIC));
        }
        if slash || segments.is_empty() {
            raw.push('/');
        }
        let path = RequestPath::parse(&raw).unwrap();
        prop_assert_eq!(path.segments(), &segments);
        prop_assert_eq!(path.trailing_slash(), slash || segments.is_empty());
    }

    #[test]
    fn any_query_is_read_or_refused(raw in "\\PC{0,40}") {
        let _ = Query::parse(Some(&raw));
    }
}
