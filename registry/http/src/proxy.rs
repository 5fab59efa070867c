//! Where a request really comes from, and under which URL the client sees us, when proxies stand in between.

mod forwarded;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, Uri};

use crate::listen::Peer;
use crate::path::RequestPath;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Which headers the trusted proxies set.
///
/// A proxy that sets one kind passes the other one on as the client sent it, so only one kind may count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyHeaders {
    /// `X-Forwarded-*` where a request has any of them, else `Forwarded`. Safe where the proxy sets
    /// `X-Forwarded-For` on every request, as ingress controllers do.
    #[default]
    Either,
    /// Only `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`.
    XForwarded,
    /// Only `Forwarded` (RFC 7239).
    Forwarded,
}

/// Which peers are believed, and what.
#[derive(Clone)]
pub struct TrustedProxies {
    trusts: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    headers: ProxyHeaders,
}

impl TrustedProxies {
    /// Trusts the addresses for which `trusts` holds; IPv4 addresses come in their own form, never mapped to IPv6.
    ///
    /// A peer on a Unix socket is trusted always: the socket's mode says who may connect.
    pub fn new(headers: ProxyHeaders, trusts: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self { trusts: Arc::new(trusts), headers }
    }

    /// Trusts nobody but peers on Unix sockets.
    pub fn none() -> Self {
        Self::new(ProxyHeaders::default(), |_| false)
    }

    /// Works out where a request comes from.
    pub fn origin(&self, peer: Peer, uri: &Uri, headers: &HeaderMap) -> Origin {
        let direct = Origin {
            client: peer.ip(),
            scheme: Scheme::Http,
            host: uri
                .authority()
                .map(http::uri::Authority::as_str)
                .or_else(|| headers.get(HOST)?.to_str().ok())
                .and_then(parse_host),
            prefix: String::new(),
        };
        let peer_is_trusted = peer.ip().is_none_or(|ip| (self.trusts)(ip));
        if !peer_is_trusted {
            return direct;
        }
        let x_forwarded = match self.headers {
            ProxyHeaders::XForwarded => true,
            ProxyHeaders::Forwarded => false,
            ProxyHeaders::Either => [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, FORWARDED_PREFIX]
                .iter()
                .any(|name| headers.contains_key(name)),
        };
        if x_forwarded {
            self.read_x_forwarded(direct, headers)
        } else {
            self.read_forwarded(direct, headers)
        }
    }

    /// Each proxy adds the address that it saw at the end of the list. So many entries as there are trusted
    /// proxies in a row, counted from the end, can be believed, in the other headers too.
    fn read_x_forwarded(&self, direct: Origin, headers: &HeaderMap) -> Origin {
        let addresses = list(headers, &FORWARDED_FOR);
        let (client, hops) =
            self.client(direct.client, addresses.iter().rev().map(|text| forwarded::parse_node(text)));
        // A proxy that replaces the value instead of adding to it leaves a shorter list.
        let at_hop = |name: &HeaderName| -> Option<String> {
            let values = list(headers, name);
            let index = values.len().saturating_sub(hops.max(1));
            values.get(index).map(|value| (*value).to_owned())
        };
        Origin {
            client,
            scheme: at_hop(&FORWARDED_PROTO).and_then(|text| Scheme::parse(&text)).unwrap_or(direct.scheme),
            host: at_hop(&FORWARDED_HOST).and_then(|text| parse_host(&text)).or(direct.host),
            prefix: at_hop(&FORWARDED_PREFIX).and_then(|text| parse_prefix(&text)).unwrap_or_default(),
        }
    }

    fn read_forwarded(&self, direct: Origin, headers: &HeaderMap) -> Origin {
        let values: Vec<&str> =
            headers.get_all(FORWARDED).iter().filter_map(|value| value.to_str().ok()).collect();
        // A list that is malformed anywhere cannot be counted from its end.
        let Some(elements) = forwarded::parse(&values.join(",")) else { return direct };
        let nodes = elements.iter().rev().map(|element| forwarded::parse_node(element.node.as_deref()?));
        let (client, hops) = self.client(direct.client, nodes);
        let index = elements.len().saturating_sub(hops.max(1));
        let Some(element) = elements.get(index) else { return direct };
        Origin {
            client,
            scheme: element.proto.as_deref().and_then(Scheme::parse).unwrap_or(direct.scheme),
            host: element.host.as_deref().and_then(parse_host).or(direct.host),
            prefix: String::new(),
        }
    }

    /// Walks from the last proxy towards the client, as long as each one is trusted. Returns the first address
    /// that is not, and how many entries have been believed.
    fn client(
        &self,
        peer: Option<IpAddr>,
        nodes: impl Iterator<Item = Option<IpAddr>>,
    ) -> (Option<IpAddr>, usize) {
        let (mut client, mut hops) = (peer, 0);
        for node in nodes {
            hops += 1;
            let Some(ip) = node else { break };
            client = Some(ip);
            if !(self.trusts)(ip) {
                break;
            }
        }
        (client, hops)
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedProxies").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// The entries of a comma-separated header, over all its lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

/// How the client speaks to the outermost proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS, which a proxy ends.
    Https,
}

impl Scheme {
    fn parse(text: &str) -> Option<Self> {
        match text {
            _ if text.eq_ignore_ascii_case("https") => Some(Self::Https),
            _ if text.eq_ignore_ascii_case("http") => Some(Self::Http),
            _ => None,
        }
    }

    /// As in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Where a request comes from, and where the client believes to have sent it. Every part is checked, so that
/// it can stand in a URL, a page or a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The client's address; none behind a Unix socket whose proxy does not tell.
    pub client: Option<IpAddr>,
    /// The scheme of the client's URL.
    pub scheme: Scheme,
    /// Host and, if it had one, port of the client's URL, in small letters.
    pub host: Option<String>,
    /// The path below which a proxy publishes us: empty, or beginning with a slash and not ending in one.
    pub prefix: String,
}

impl Origin {
    /// The URL of the root as the client sees it, without a slash at its end; for a request that names no host it is a
    /// path alone.
    pub fn base_url(&self) -> String {
        match &self.host {
            Some(host) => format!("{}://{host}{}", self.scheme.as_str(), self.prefix),
            None => self.prefix.clone(),
        }
    }
}

/// Reads a host with an optional port, by the grammar of DNS names and addresses.
fn parse_host(text: &str) -> Option<String> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (&text[..address.len() + 2], rest)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => !digits.starts_with('+') && digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    let name_is_good = name.starts_with('[')
        || name.split('.').enumerate().all(|(index, label)| {
            // One dot may stand at the end.
            let last_and_empty = label.is_empty() && index > 0 && name.ends_with('.');
            let letters =
                label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            letters && label.len() <= 63 && (!label.is_empty() || last_and_empty)
        });
    let good = port_is_good && name_is_good && name.len() <= 253 && !name.is_empty() && !name.contains("..");
    good.then(|| text.to_ascii_lowercase())
}

/// Reads a path prefix of plain segments.
fn parse_prefix(text: &str) -> Option<String> {
    let path = RequestPath::parse(text).ok()?;
    let plain = |segment: &String| {
        segment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'+'))
    };
    let good = text.len() <= 255 && path.segments().iter().all(plain);
    good.then(|| path.segments().iter().fold(String::new(), |prefix, segment| prefix + "/" + segment))
}
