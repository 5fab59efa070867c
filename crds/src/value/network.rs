//! Addresses, networks and URLs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::{Value, ValueError};

/// An address that the server listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port on an IPv4 or IPv6 address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Where the socket stands; absolute.
        path: PathBuf,
        /// The socket's permission bits; none leaves them to the process's umask.
        mode: Option<u32>,
    },
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { path, mode: None } => write!(f, "unix:{}", path.display()),
            Self::Unix { path, mode: Some(mode) } => write!(f, "unix:{}?mode={mode:o}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some(socket) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| ValueError::Listen);
        };
        let (path, mode) = match socket.split_once("?mode=") {
            None => (socket, None),
            Some((path, mode)) => {
                let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777);
                (path, Some(mode.ok_or(ValueError::Listen)?))
            }
        };
        if !path.starts_with('/') || path.contains(['\0', '?']) {
            return Err(ValueError::Listen);
        }
        Ok(Self::Unix { path: PathBuf::from(path), mode })
    }
}

impl Value for ListenAddress {
    const KIND: &'static str = "address";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// A network: an address with a prefix length. A lone address is the network that holds only it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// The bits of an address and how many there are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The address with all bits beyond the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

impl Cidr {
    /// Whether the network holds the address. An IPv4 address that arrives over an IPv6 socket (`::ffff:a.b.c.d`)
    /// counts as the IPv4 address that it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        bits(address).1 == bits(self.address).1 && masked(address, self.prefix) == self.address
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        let address: IpAddr = address.parse().map_err(|_| ValueError::Cidr)?;
        let width = bits(address).1;
        let prefix = match prefix {
            None => width,
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= width).ok_or(ValueError::Cidr)?,
        };
        let network = Self { address: masked(address, prefix), prefix };
        // `10.1.2.3/8` may mean the one host or the whole network: whom to trust is no place for a guess.
        if network.address == address { Ok(network) } else { Err(ValueError::CidrBits(network)) }
    }
}

impl Value for Cidr {
    const KIND: &'static str = "network";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// An `http` or `https` URL with a host and perhaps a path, without user, query, fragment or trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The URL, with no slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the URL says `https`.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HttpUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let uri: http::Uri = text.parse().map_err(|_| ValueError::Url)?;
        let authority = uri.authority().ok_or(ValueError::Url)?.as_str();
        if !matches!(uri.scheme_str(), Some("http" | "https"))
            || uri.host().is_none_or(str::is_empty)
            || authority.contains('@')
            || text.contains(['?', '#'])
        {
            return Err(ValueError::Url);
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl Value for HttpUrl {
    const KIND: &'static str = "URL";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// The name of a host (RFC 1123): at most 253 lower-case letters, digits, `-` and `.`; no address and no port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(String);

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for HostName {
    const KIND: &'static str = "host";

    fn read(text: &str) -> Result<Self, ValueError> {
        let is_address = text.parse::<IpAddr>().is_ok();
        if is_address || !crate::validate::is_object_name(text) {
            return Err(ValueError::Host);
        }
        Ok(Self(text.to_owned()))
    }
}
