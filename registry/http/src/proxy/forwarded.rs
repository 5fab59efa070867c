//! The grammar of `Forwarded` (RFC 7239) and of the addresses in it and in `X-Forwarded-For`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What one proxy added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) node: Option<String>,
    pub(super) proto: Option<String>,
    pub(super) host: Option<String>,
}

/// Reads the whole list. `None` when it is malformed anywhere, or names something twice.
pub(super) fn parse(text: &str) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut rest = text;
    loop {
        let mut element = Element::default();
        loop {
            rest = rest.trim_start();
            if let Some((name, after)) = split_token(rest) {
                let (value, after) = split_value(after.strip_prefix('=')?)?;
                let slot = match name.to_ascii_lowercase().as_str() {
                    "for" => Some(&mut element.node),
                    "proto" => Some(&mut element.proto),
                    "host" => Some(&mut element.host),
                    _ => None,
                };
                if slot.is_some_and(|slot| slot.replace(value).is_some()) {
                    return None;
                }
                rest = after.trim_start();
            }
            match rest.strip_prefix(';') {
                Some(after) => rest = after,
                None => break,
            }
        }
        if element != Element::default() {
            elements.push(element);
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return rest.is_empty().then_some(elements),
        }
    }
}

fn split_token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A token or a quoted string. What many proxies write without the quotes that it needs (`host:port`) is taken too.
fn split_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',', ' ', '\t', '"', '=']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// Reads an address with or without a port. `None` for `unknown` and for invented names.
pub(super) fn parse_node(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let ip = text
        .parse::<IpAddr>()
        .ok()
        .or_else(bracketed)
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}
