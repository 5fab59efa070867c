#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn size(text: &str) -> Option<u64> {
    ByteSize::read(text).ok().map(ByteSize::bytes)
}

#[test]
fn sizes_are_read_as_kubernetes_writes_them() {
    for (text, expected) in [
        ("0", Some(0)),
        ("1073741824", Some(1 << 30)),
        ("1Gi", Some(1 << 30)),
        ("64Mi", Some(64 << 20)),
        ("5k", Some(5_000)),
        ("2G", Some(2_000_000_000)),
        ("", None),
        ("Gi", None),
        ("1GB", None),
        ("1.5Gi", None),
        ("-1", None),
        ("+1", None),
        ("1 Gi", None),
        ("99999999999Ti", None),
        ("9223372036854775808", None),
    ] {
        assert_eq!(size(text), expected, "{text:?}");
    }
}

#[test]
fn spans_of_time_carry_units() {
    let millis = |text| Duration::read(text).ok().map(|span| span.as_millis());
    for (text, expected) in [
        ("500ms", Some(500)),
        ("30s", Some(30_000)),
        ("5m", Some(300_000)),
        ("1h30m", Some(5_400_000)),
        ("7d", Some(604_800_000)),
        ("0s", Some(0)),
        ("", None),
        ("30", None),
        ("s", None),
        ("30m1h", None),
        ("1h1h", None),
        ("1y", None),
        ("-1s", None),
        ("999999999d", None),
    ] {
        assert_eq!(millis(text), expected, "{text:?}");
    }
}

#[test]
fn listen_addresses_are_tcp_or_unix() {
    let text = |text: &str| text.parse::<ListenAddress>().map(|address| address.to_string()).ok();
    for good in
        ["0.0.0.0:8080", "[::]:8080", "127.0.0.1:0", "unix:/run/granary.sock", "unix:/run/g.sock?mode=660"]
    {
        assert_eq!(text(good).as_deref(), Some(good));
    }
    for bad in
        ["8080", ":8080", "localhost:80", "unix:run/g.sock", "unix:/a?mode=999", "unix:/a?x=1", "unix:", ""]
    {
        assert_eq!(text(bad), None, "{bad:?}");
    }
}

#[test]
fn networks_of_both_families() {
    let within =
        |network: &str, address: &str| network.parse::<Cidr>().unwrap().contains(address.parse().unwrap());
    assert!(within("10.0.0.0/8", "10.255.1.2"));
    assert!(within("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert!(!within("10.0.0.0/8", "11.0.0.1"));
    assert!(!within("0.0.0.0/0", "::1"));
    assert!(within("0.0.0.0/0", "255.255.255.255"));
    assert!(within("fd00::/8", "fd12::1"));
    assert!(within("::/0", "2001:db8::1"));
    assert!(within("192.0.2.7", "192.0.2.7"));
    assert!(!within("192.0.2.7", "192.0.2.6"));
    let wrong = "10.1.2.3/8".parse::<Cidr>().unwrap_err();
    assert!(wrong.to_string().ends_with("write 10.0.0.0/8"), "{wrong}");
    for bad in ["", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/", "a"] {
        assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
    }
}

#[test]
fn urls_have_a_host_and_nothing_secret() {
    let url = |text: &str| text.parse::<HttpUrl>().map(|url| url.to_string()).ok();
    assert_eq!(url("https://packages.example/").as_deref(), Some("https://packages.example"));
    assert_eq!(url("http://[::1]:9000/base").as_deref(), Some("http://[::1]:9000/base"));
    for bad in
        ["", "packages.example", "/x", "ftp://a", "https://", "https://u:p@a", "https://a?q", "https://a#f"]
    {
        assert_eq!(url(bad), None, "{bad:?}");
    }
}

#[test]
fn a_schema_is_of_its_own_and_needs_no_quotes() {
    for good in ["granary", "_x", "team_2"] {
        assert!(SchemaName::read(good).is_ok(), "{good}");
    }
    for bad in ["", "public", "pg_x", "information_schema", "Granary", "a-b", "1a", "a\"b", &"a".repeat(64)] {
        assert!(SchemaName::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_raw_value_is_a_text_or_a_number() {
    let raw = |json: &str| serde_json::from_str::<Raw<ByteSize>>(json).map(|raw| raw.text().to_owned());
    assert_eq!(raw("0").unwrap(), "0");
    assert_eq!(raw("\"1Gi\"").unwrap(), "1Gi");
    assert!(raw("1.5").is_err());
    assert!(raw("true").is_err());
}

proptest! {
    #[test]
    fn a_size_that_is_printed_is_read_again(bytes in 0u64..=i64::MAX.unsigned_abs()) {
        prop_assert_eq!(size(&ByteSize::new(bytes).to_string()), Some(bytes));
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,40}") {
        let _ = (ByteSize::read(&text), Duration::read(&text), text.parse::<ListenAddress>());
        let _ = (text.parse::<Cidr>(), text.parse::<HttpUrl>(), Subject::read(&text));
    }
}
