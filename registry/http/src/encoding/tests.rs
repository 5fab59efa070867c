#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use granary_splice::Encoding::{self, Gzip, Identity, Zstd};
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::negotiate;

const ALL: [Encoding; 3] = [Zstd, Gzip, Identity];

fn chosen(header: &str, available: &[Encoding]) -> Encoding {
    negotiate(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_str(header).unwrap())]), available)
}

#[test]
fn the_clients_weights_then_our_order() {
    for (header, encoding) in [
        ("", Identity),
        ("gzip", Gzip),
        ("x-gzip", Gzip),
        ("gzip, deflate", Gzip),
        ("gzip, deflate, br, zstd", Zstd),
        ("GZIP , ZSTD", Zstd),
        ("gzip;q=1.0, zstd;q=0.5", Gzip),
        ("gzip;q=0.8, zstd;q=0.800", Zstd),
        ("gzip; Q=0.9, zstd;q=0.8", Gzip),
        ("gzip;q=0, zstd;q=0.000", Identity),
        ("gzip;q=0.001", Gzip),
        ("gzip;q=nonsense", Identity),
        ("gzip;q=2", Identity),
        ("identity", Identity),
        ("identity, gzip", Gzip),
        ("identity, gzip;q=0.5", Identity),
        ("identity;q=0.1, gzip;q=0.5", Gzip),
        ("identity;q=0, gzip", Gzip),
        ("*", Zstd),
        ("*;q=0", Identity),
        ("*;q=0, gzip", Gzip),
        ("br, *;q=0.1", Zstd),
        ("zstd;q=0, *", Gzip),
        ("identity;q=0", Identity),
    ] {
        assert_eq!(chosen(header, &ALL), encoding, "{header}");
    }
    assert_eq!(negotiate(&HeaderMap::new(), &ALL), Identity);
    assert_eq!(chosen("zstd, gzip", &[Gzip, Identity]), Gzip);
    assert_eq!(chosen("zstd, gzip", &[Identity]), Identity);
}

proptest! {
    #[test]
    fn any_header_gets_something_on_offer(text in "((gzip|zstd|identity|\\*|br)(;q=[0-9.]{0,4})?|[ -~]{0,8}){0,4}") {
        prop_assert!(matches!(chosen(&text, &[Gzip, Identity]), Gzip | Identity));
    }
}
