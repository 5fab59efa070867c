#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use super::{AddressError, ListenAddress, ListenError, Listener};

fn unix(path: &std::path::Path, mode: u32) -> ListenAddress {
    ListenAddress::Unix { path: path.into(), mode }
}

#[test]
fn addresses_as_text() {
    for (text, address) in [
        ("0.0.0.0:8080", ListenAddress::Tcp("0.0.0.0:8080".parse().unwrap())),
        ("[::]:0", ListenAddress::Tcp("[::]:0".parse().unwrap())),
        ("unix:/run/a.sock", unix("/run/a.sock".as_ref(), 0o660)),
        ("unix:/run/a.sock,mode=0600", unix("/run/a.sock".as_ref(), 0o600)),
        ("unix:/run/a,b,mode=777", unix("/run/a,b".as_ref(), 0o777)),
    ] {
        assert_eq!(text.parse(), Ok(address.clone()));
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    for (text, error) in [
        ("", AddressError::Form),
        ("8080", AddressError::Form),
        ("localhost:8080", AddressError::Form),
        ("unix:a.sock", AddressError::Form),
        ("unix:", AddressError::Form),
        ("unix:/a,mode=9", AddressError::Mode),
        ("unix:/a,mode=7777", AddressError::Mode),
    ] {
        assert_eq!(text.parse::<ListenAddress>(), Err(error), "{text}");
    }
}

#[tokio::test]
async fn both_families_share_a_port() {
    let v4 = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let ListenAddress::Tcp(address) = v4.local_address().unwrap() else { panic!("not TCP") };
    assert_ne!(address.port(), 0);
    let v6 = SocketAddr::new("::".parse().unwrap(), address.port());
    let both = Listener::bind(&ListenAddress::Tcp(v6)).unwrap();
    assert_eq!(both.local_address().unwrap(), ListenAddress::Tcp(v6));
    assert!(matches!(Listener::bind(&ListenAddress::Tcp(address)), Err(ListenError::Bind { .. })));
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_goes_with_the_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let listener = Listener::bind(&unix(&path, 0o600)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(matches!(Listener::bind(&unix(&path, 0o600)), Err(ListenError::InUse(_))));
    let (_client, _server) = tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
    drop(listener);
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn only_a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let listener = Listener::bind(&unix(&stale, 0o666)).unwrap();
    // Somebody has put another in its place: that one is not ours to remove.
    std::fs::remove_file(&stale).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&stale).unwrap();
    drop(listener);
    assert!(stale.exists());
    drop(other);

    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(Listener::bind(&unix(&file, 0o600)), Err(ListenError::NotASocket(_))));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(matches!(Listener::bind(&unix(&link, 0o600)), Err(ListenError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let nowhere = folder.path().join("missing/a.sock");
    assert!(matches!(Listener::bind(&unix(&nowhere, 0o600)), Err(ListenError::Bind { .. })));
}
