#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::{EntityTag, EntityTagError, Outcome, Validators, evaluate, range_applies};

/// 500 ms past the second that the headers below name.
fn modified() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500)
}
const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

#[test]
fn tags_are_checked_when_made() {
    assert_eq!(EntityTag::strong("abc").unwrap().header_value(), "\"abc\"");
    assert_eq!(EntityTag::weak("abc").unwrap().header_value(), "W/\"abc\"");
    for bad in ["a\"b", "a b", "a\r\nb", "é"] {
        assert_eq!(EntityTag::strong(bad), Err(EntityTagError));
    }
}

#[test]
fn outcomes() {
    use Outcome::{NotModified, PreconditionFailed, Proceed};
    let strong = EntityTag::strong("a,b").unwrap();
    let weak = EntityTag::weak("a,b").unwrap();
    for (tag, method, pairs, outcome) in [
        (&strong, Method::GET, &[][..], Proceed),
        (&strong, Method::GET, &[("if-none-match", "\"a,b\"")], NotModified),
        (&strong, Method::HEAD, &[("if-none-match", "\"a,b\"")], NotModified),
        (&strong, Method::PUT, &[("if-none-match", "\"a,b\"")], PreconditionFailed),
        (&strong, Method::GET, &[("if-none-match", "W/\"a,b\"")], NotModified),
        (&weak, Method::GET, &[("if-none-match", "\"a,b\"")], NotModified),
        (&strong, Method::GET, &[("if-none-match", "\"x\" , W/\"y\",, \"a,b\"")], NotModified),
        (&strong, Method::GET, &[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")], NotModified),
        (&strong, Method::GET, &[("if-none-match", "\"x\"")], Proceed),
        (&strong, Method::GET, &[("if-none-match", "*")], NotModified),
        (&strong, Method::PUT, &[("if-none-match", "*")], PreconditionFailed),
        (&strong, Method::GET, &[("if-none-match", "a,b")], Proceed),
        (&strong, Method::GET, &[("if-none-match", "\"a,b")], Proceed),
        // The tag decides alone where there is one.
        (&strong, Method::GET, &[("if-none-match", "\"x\""), ("if-modified-since", LATER)], Proceed),
        (&strong, Method::GET, &[("if-modified-since", SAME)], NotModified),
        (&strong, Method::GET, &[("if-modified-since", LATER)], NotModified),
        (&strong, Method::GET, &[("if-modified-since", EARLIER)], Proceed),
        (&strong, Method::GET, &[("if-modified-since", "yesterday")], Proceed),
        (&strong, Method::PUT, &[("if-modified-since", SAME)], Proceed),
        (&strong, Method::PUT, &[("if-match", "\"a,b\"")], Proceed),
        (&strong, Method::PUT, &[("if-match", "*")], Proceed),
        (&strong, Method::PUT, &[("if-match", "\"x\"")], PreconditionFailed),
        (&strong, Method::PUT, &[("if-match", "W/\"a,b\"")], PreconditionFailed),
        (&weak, Method::PUT, &[("if-match", "W/\"a,b\"")], PreconditionFailed),
        (&strong, Method::PUT, &[("if-unmodified-since", EARLIER)], PreconditionFailed),
        (&strong, Method::PUT, &[("if-unmodified-since", SAME)], Proceed),
        (&strong, Method::PUT, &[("if-match", "\"a,b\""), ("if-unmodified-since", EARLIER)], Proceed),
        (&strong, Method::GET, &[("if-match", "\"a,b\""), ("if-none-match", "\"a,b\"")], NotModified),
    ] {
        let current = Validators { etag: Some(tag), last_modified: Some(modified()) };
        assert_eq!(evaluate(&method, &headers(pairs), current), outcome, "{method} {pairs:?}");
    }
    let nothing = Validators::default();
    assert_eq!(evaluate(&Method::GET, &headers(&[("if-none-match", "\"x\"")]), nothing), Proceed);
    assert_eq!(evaluate(&Method::PUT, &headers(&[("if-match", "\"x\"")]), nothing), PreconditionFailed);
}

#[test]
fn if_range() {
    let strong = EntityTag::strong("a").unwrap();
    let weak = EntityTag::weak("a").unwrap();
    for (tag, value, applies) in [
        (&strong, Some("\"a\""), true),
        (&strong, Some("W/\"a\""), false),
        (&weak, Some("W/\"a\""), false),
        (&strong, Some("\"b\""), false),
        (&strong, Some("\"a\", \"b\""), false),
        (&strong, Some(SAME), true),
        (&strong, Some(LATER), false),
        (&strong, Some("nonsense"), false),
        (&strong, None, true),
    ] {
        let pairs: Vec<_> = value.map(|value| ("if-range", value)).into_iter().collect();
        let current = Validators { etag: Some(tag), last_modified: Some(modified()) };
        assert_eq!(range_applies(&headers(&pairs), current), applies, "{value:?}");
    }
}

proptest! {
    #[test]
    fn any_header_is_survived(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'W'), Just(b'/'), 0x20_u8..0x7f], 0..24)) {
        let value = HeaderValue::from_bytes(&bytes).unwrap();
        let tag = EntityTag::strong("never sent").unwrap_or_else(|_| EntityTag::strong("never-sent").unwrap());
        let current = Validators { etag: Some(&tag), last_modified: None };
        for name in ["if-none-match", "if-match", "if-range", "if-modified-since", "if-unmodified-since"] {
            let map = HeaderMap::from_iter([(name.parse::<HeaderName>().unwrap(), value.clone())]);
            let _ = (evaluate(&Method::GET, &map, current), range_applies(&map, current));
        }
    }

    #[test]
    fn a_tag_always_finds_itself(opaque in "[!#-~]{0,20}", others in prop::collection::vec("[!#-~]{0,8}", 0..4)) {
        let tag = EntityTag::strong(&opaque).unwrap();
        let mut list: Vec<String> = others.iter().map(|other| format!("W/\"{other}\"")).collect();
        list.push(format!("\"{opaque}\""));
        let map = headers(&[("if-none-match", &list.join(", "))]);
        let current = Validators { etag: Some(&tag), last_modified: None };
        prop_assert_eq!(evaluate(&Method::GET, &map, current), Outcome::NotModified);
    }
}
