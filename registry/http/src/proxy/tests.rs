#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use proptest::prelude::*;

use super::{Origin, ProxyHeaders, Scheme, TrustedProxies, parse_host, parse_prefix};
use crate::listen::Peer;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

/// Trusts `10.0.0.0/8` and `fd00::/8`.
fn proxies(kind: ProxyHeaders) -> TrustedProxies {
    TrustedProxies::new(kind, |ip| match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.octets()[0] == 0xfd,
    })
}

fn tcp(ip: &str) -> Peer {
    Peer::Tcp(std::net::SocketAddr::new(ip.parse().unwrap(), 5000))
}

/// `client scheme://host/prefix`.
fn show(origin: &Origin) -> String {
    let client = origin.client.map_or("-".to_owned(), |ip| ip.to_string());
    format!("{client} {}", origin.base_url())
}

fn origin(kind: ProxyHeaders, peer: Peer, pairs: &[(&str, &str)]) -> String {
    show(&proxies(kind).origin(peer, &Uri::from_static("/x"), &headers(pairs)))
}

#[test]
fn an_untrusted_peer_is_not_believed() {
    let pairs = [
        ("host", "real.example:8080"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-prefix", "/evil"),
        ("forwarded", "for=1.2.3.4;host=evil.example;proto=https"),
    ];
    for kind in [ProxyHeaders::Either, ProxyHeaders::XForwarded, ProxyHeaders::Forwarded] {
        assert_eq!(origin(kind, tcp("192.0.2.1"), &pairs), "192.0.2.1 http://real.example:8080");
    }
    assert_eq!(
        origin(ProxyHeaders::Either, tcp("::ffff:192.0.2.1"), &pairs),
        "192.0.2.1 http://real.example:8080"
    );
}

#[test]
fn x_forwarded_from_trusted_peers() {
    let host = ("host", "inner:80");
    for (peer, pairs, expected) in [
        (tcp("10.0.0.1"), vec![], "10.0.0.1 http://inner:80"),
        (
            tcp("10.0.0.1"),
            vec![
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "Reg.Example"),
                ("x-forwarded-prefix", "/granary/"),
            ],
            "192.0.2.7 https://reg.example/granary",
        ),
        (tcp("::ffff:10.0.0.1"), vec![("x-forwarded-for", "::ffff:192.0.2.7")], "192.0.2.7 http://inner:80"),
        // What the client itself has sent stands further left.
        (tcp("10.0.0.1"), vec![("x-forwarded-for", "1.1.1.1, 192.0.2.7")], "192.0.2.7 http://inner:80"),
        (
            tcp("10.0.0.1"),
            vec![("x-forwarded-for", "1.1.1.1, 192.0.2.7, 10.0.0.9")],
            "192.0.2.7 http://inner:80",
        ),
        (
            tcp("10.0.0.1"),
            vec![("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.7")],
            "192.0.2.7 http://inner:80",
        ),
        (tcp("10.0.0.1"), vec![("x-forwarded-for", "192.0.2.7, unknown")], "10.0.0.1 http://inner:80"),
        (tcp("10.0.0.1"), vec![("x-forwarded-for", "192.0.2.7:1234")], "192.0.2.7 http://inner:80"),
        (tcp("10.0.0.1"), vec![("x-forwarded-for", "[2001:db8::1]:1234")], "2001:db8::1 http://inner:80"),
        (tcp("10.0.0.1"), vec![("x-forwarded-for", "10.0.0.5, fd00::1")], "10.0.0.5 http://inner:80"),
        // One proxy: only the last host counts. Two: the first of the two that they wrote.
        (
            tcp("10.0.0.1"),
            vec![("x-forwarded-for", "192.0.2.7"), ("x-forwarded-host", "evil.example, reg.example")],
            "192.0.2.7 http://reg.example",
        ),
        (
            tcp("10.0.0.1"),
            vec![
                ("x-forwarded-for", "9.9.9.9, 192.0.2.7, 10.0.0.9"),
                ("x-forwarded-host", "evil.example, reg.example, inner"),
                ("x-forwarded-proto", "http, https, http"),
            ],
            "192.0.2.7 https://reg.example",
        ),
        (
            tcp("10.0.0.1"),
            vec![("x-forwarded-for", "192.0.2.7, 10.0.0.9"), ("x-forwarded-host", "reg.example")],
            "192.0.2.7 http://reg.example",
        ),
        // What cannot stand in a URL is left out.
        (
            tcp("10.0.0.1"),
            vec![
                ("x-forwarded-host", "a/b"),
                ("x-forwarded-proto", "javascript"),
                ("x-forwarded-prefix", "//evil.example"),
            ],
            "10.0.0.1 http://inner:80",
        ),
        (
            Peer::Unix,
            vec![("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")],
            "192.0.2.7 https://inner:80",
        ),
        (Peer::Unix, vec![], "- http://inner:80"),
    ] {
        let mut pairs = pairs;
        pairs.push(host);
        assert_eq!(origin(ProxyHeaders::XForwarded, peer, &pairs), expected, "{pairs:?}");
        assert_eq!(origin(ProxyHeaders::Either, peer, &pairs), expected, "{pairs:?}");
        // With the other kind configured none of it counts.
        let plain = show(&TrustedProxies::none().origin(peer, &Uri::from_static("/"), &headers(&[host])));
        assert_eq!(origin(ProxyHeaders::Forwarded, peer, &pairs), plain);
    }
}

#[test]
fn forwarded_from_trusted_peers() {
    for (value, expected) in [
        ("for=192.0.2.7;proto=https;host=reg.example", "192.0.2.7 https://reg.example"),
        ("For=\"[2001:db8::1]:4711\" ; Proto=https", "2001:db8::1 https://inner"),
        (
            "for=1.1.1.1;host=evil.example, for=192.0.2.7;host=\"reg.example:8443\"",
            "192.0.2.7 http://reg.example:8443",
        ),
        ("for=192.0.2.7;host=reg.example;proto=https, for=10.0.0.9;host=x", "192.0.2.7 https://reg.example"),
        ("for=192.0.2.7;host=reg.example:8443", "192.0.2.7 http://reg.example:8443"),
        ("for=_hidden;host=reg.example", "10.0.0.1 http://reg.example"),
        ("for=unknown", "10.0.0.1 http://inner"),
        ("by=x;extension=\"a,b;c\";for=192.0.2.7", "192.0.2.7 http://inner"),
        ("for=192.0.2.7;for=1.1.1.1", "10.0.0.1 http://inner"),
        ("for=192.0.2.7;host=\"a\\\"b\"", "192.0.2.7 http://inner"),
        ("for=\"192.0.2.7", "10.0.0.1 http://inner"),
        ("nonsense", "10.0.0.1 http://inner"),
        (",,", "10.0.0.1 http://inner"),
        ("", "10.0.0.1 http://inner"),
    ] {
        let pairs = [("host", "inner"), ("forwarded", value)];
        assert_eq!(origin(ProxyHeaders::Forwarded, tcp("10.0.0.1"), &pairs), expected, "{value}");
        assert_eq!(origin(ProxyHeaders::Either, tcp("10.0.0.1"), &pairs), expected, "{value}");
        assert_eq!(
            origin(ProxyHeaders::XForwarded, tcp("10.0.0.1"), &pairs),
            "10.0.0.1 http://inner",
            "{value}"
        );
    }
    // A client cannot slip one kind past a proxy that sets the other.
    let pairs =
        [("host", "inner"), ("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=1.1.1.1;host=evil.example")];
    assert_eq!(origin(ProxyHeaders::Either, tcp("10.0.0.1"), &pairs), "192.0.2.7 http://inner");
}

#[test]
fn hosts_and_prefixes() {
    for good in ["a", "a.example", "A.example.", "a_b-c.example:1", "127.0.0.1:80", "[::1]", "[fd00::1]:8080"]
    {
        assert_eq!(parse_host(good), Some(good.to_ascii_lowercase()));
    }
    for bad in [
        "",
        ":80",
        "a:",
        "a:x",
        "a:70000",
        "a:+80",
        "a b",
        "a/b",
        "a@b",
        "a\"b",
        "<a>",
        "a..b",
        ".a",
        ".",
        "[::1",
        "[x]",
        "[::1]x",
        "a:1:2",
        "é.example",
        "a?b",
        "a#b",
        "a%41",
    ] {
        assert_eq!(parse_host(bad), None, "{bad}");
    }
    assert_eq!(parse_host(&"a".repeat(64)), None);
    assert_eq!(parse_host(&"a.".repeat(200)), None);
    for (text, prefix) in
        [("/", Some("")), ("/a", Some("/a")), ("/a/b.c/", Some("/a/b.c")), ("/~x_+-", Some("/~x_+-"))]
    {
        assert_eq!(parse_prefix(text).as_deref(), prefix);
    }
    for bad in
        ["", "a", "//a", "/a//b", "/..", "/%2e%2e", "/a b", "/a%20", "/a\"", "/<x>", "/a?b", "/a;b", "/a:b"]
    {
        assert_eq!(parse_prefix(bad), None, "{bad}");
    }
}

#[test]
fn base_urls() {
    let origin =
        Origin { client: None, scheme: Scheme::Https, host: Some("h.example".into()), prefix: "/p".into() };
    assert_eq!(origin.base_url(), "https://h.example/p");
    assert_eq!(Origin { host: None, ..origin }.base_url(), "/p");
    // HTTP/2 has the host in its target.
    let uri = Uri::from_static("http://h2.example:81/x");
    assert_eq!(
        TrustedProxies::none().origin(tcp("1.1.1.1"), &uri, &HeaderMap::new()).base_url(),
        "http://h2.example:81"
    );
}

proptest! {
    #[test]
    fn whatever_comes_the_base_url_is_safe(
        node in "[ -~]{0,30}", host in "[ -~]{0,20}", prefix in "(/|\\.|%2e|[ -~]){0,8}", forwarded in "((for|host|proto|,|;|=|\"|\\\\)|[ -~]){0,12}",
    ) {
        let pairs = [
            ("host", host.as_str()), ("x-forwarded-for", &node), ("x-forwarded-host", &host),
            ("x-forwarded-proto", &node), ("x-forwarded-prefix", &prefix), ("forwarded", &forwarded),
        ];
        for kind in [ProxyHeaders::Either, ProxyHeaders::Forwarded] {
            let origin = proxies(kind).origin(tcp("10.0.0.1"), &Uri::from_static("/"), &headers(&pairs));
            let url = origin.base_url();
            prop_assert!(url.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/[].-_~+".contains(&byte)), "{}", url);
            prop_assert!(origin.host.is_none() || url.parse::<Uri>().is_ok(), "{}", url);
            prop_assert!(url.split('/').all(|segment| segment != ".." && segment != ".") && !url.ends_with('/'));
        }
    }

    #[test]
    fn a_client_cannot_choose_its_address_behind_one_proxy(spoofed in "[ -+\\--~]{0,40}", real: [u8; 4]) {
        prop_assume!(real[0] != 10);
        let real = IpAddr::from(real);
        let list = format!("{spoofed}, {real}");
        let origin = proxies(ProxyHeaders::XForwarded).origin(tcp("10.0.0.1"), &Uri::from_static("/"), &headers(&[("x-forwarded-for", &list)]));
        prop_assert_eq!(origin.client, Some(real));
    }
}
