//! The addresses on which the server listens: TCP over IPv4 and IPv6, and Unix sockets.

#[cfg(test)]
mod tests;

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The mode of a Unix socket that names none: the owner and the group.
const DEFAULT_MODE: u32 = 0o660;

/// An address to listen on.
///
/// As text: `127.0.0.1:8080`, `[::]:8080`, `unix:/run/granary.sock` or `unix:/run/granary.sock,mode=0600`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An address and a port; port 0 takes a free one. `[::]` is IPv6 alone, so that it can stand beside `0.0.0.0`.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix {
        /// Where it stands.
        path: PathBuf,
        /// Who may connect, as the permission bits of a file.
        mode: u32,
    },
}

/// A text that is no [`ListenAddress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither an address with a port nor a Unix socket.
    #[error("a listen address is ADDRESS:PORT, [IPV6]:PORT or unix:PATH[,mode=OCTAL]")]
    Form,
    /// The mode is not octal or has bits that no socket has.
    #[error("the mode of a socket is octal, at most 0777")]
    Mode,
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some(rest) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| AddressError::Form);
        };
        let (path, mode) = match rest.rsplit_once(",mode=") {
            Some((path, mode)) => (path, u32::from_str_radix(mode, 8).map_err(|_| AddressError::Mode)?),
            None => (rest, DEFAULT_MODE),
        };
        if !Path::new(path).is_absolute() {
            return Err(AddressError::Form);
        }
        if mode > 0o777 {
            return Err(AddressError::Mode);
        }
        Ok(Self::Unix { path: path.into(), mode })
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, mode } => write!(f, "unix:{},mode={mode:04o}", path.display()),
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refused.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: ListenAddress,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something that is not a socket stands where the socket should.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// Somebody is listening on the socket.
    #[error("another process is listening on {}", .0.display())]
    InUse(PathBuf),
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address.
    Tcp(SocketAddr),
    /// Over a Unix socket.
    Unix,
}

impl Peer {
    /// The address, an IPv4 one in its own form.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix => None,
        }
    }
}

/// A connection that has been accepted.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// An address that is being listened on. A Unix socket is removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, file: SocketFile },
}

impl Listener {
    /// Begins to listen. It has to be called within a tokio runtime.
    pub fn bind(address: &ListenAddress) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { address: address.clone(), source };
        let socket = match address {
            ListenAddress::Tcp(tcp) => Socket::Tcp(bind_tcp(*tcp).map_err(failed)?),
            ListenAddress::Unix { path, mode } => {
                check_unix_path(path).map_err(failed)??;
                let (listener, file) = bind_unix(path, *mode).map_err(failed)?;
                Socket::Unix { listener, file }
            }
        };
        Ok(Self { socket })
    }

    /// Where it listens, with the port that was taken.
    pub fn local_address(&self) -> io::Result<ListenAddress> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
            Socket::Unix { file, .. } => Ok(ListenAddress::Unix { path: file.path.clone(), mode: file.mode }),
        }
    }

    /// Waits for a connection. Dropping the future loses none.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Without it a small answer waits for the acknowledgement of the packet before.
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, peer))
            }
            Socket::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| Accepted::Unix(stream))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    // A restart need not wait for the connections of the run before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Looks at what stands at the path: nothing and a socket that nobody listens on are fine.
fn check_unix_path(path: &Path) -> io::Result<Result<(), ListenError>> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Ok(Err(ListenError::NotASocket(path.into())));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Ok(Err(ListenError::InUse(path.into()))),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Ok(())),
        Err(error) => Err(error),
    }
}

/// Makes the socket under another name and moves it into place when its mode is right: nobody can connect
/// before, and a stale one is replaced in one step.
fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:x}", std::process::id()));
    let temporary = PathBuf::from(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(&temporary)?;
    let made = fs::set_permissions(&temporary, Permissions::from_mode(mode))
        .and_then(|()| fs::symlink_metadata(&temporary))
        .and_then(|found| Ok((socket.listen(BACKLOG)?, found)))
        .and_then(|made| fs::rename(&temporary, path).map(|()| made));
    match made {
        Ok((listener, found)) => {
            let file = SocketFile { path: path.into(), mode, device: found.dev(), inode: found.ino() };
            Ok((listener, file))
        }
        Err(error) => {
            // The first error tells more than one of cleaning up.
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// The file of a Unix socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    mode: u32,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}
