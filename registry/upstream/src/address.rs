//! Which addresses somebody who writes a URL may have us connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether the internet reaches the address: neither of this machine, nor of a network of our own, nor of a link, where clouds
/// keep the metadata of machines (RFC 6890, with the registries of special addresses that followed it).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // This network, loopback, multicast and what is reserved above it.
    let is_reserved = matches!(a, 0 | 127 | 224..=255);
    // Private networks, those of carriers, and links.
    let is_private = matches!((a, b), (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) | (169, 254));
    // Protocols, documentation, benchmarks, the old way to IPv6.
    let is_other = matches!(
        (a, b, c),
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113)
    );
    !is_reserved && !is_private && !is_other
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Of all others none is given to hosts of the internet.
    let is_unicast = segments[0] & 0xe000 == 0x2000;
    let is_special = match segments {
        // Documentation; ways of carrying IPv4 addresses, which may be private ones; protocols.
        [0x2001, 0x0db8 | 0..=0x01ff, ..] | [0x2002, ..] => true,
        [0x3fff, second, ..] => second & 0xf000 == 0,
        _ => false,
    };
    is_unicast && !is_special
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn addresses_of_the_internet_and_others() {
        for address in
            ["1.1.1.1", "100.63.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "::ffff:8.8.8.8"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "2001::1",
            "3fff::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
