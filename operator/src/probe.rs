//! Asks a URL from inside the cluster, in an image that has no shell.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use granary_process::{Context, Failure};
use http::Uri;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fails unless the URL answers with success.
pub fn probe(url: &str) -> Result<(), Failure> {
    let uri: Uri = url.parse().context("the URL")?;
    let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(Failure::new("write a URL such as http://granary-operator:8080/readyz"));
    };
    let port = uri.port_u16().unwrap_or(80);
    let address = (host, port).to_socket_addrs().context(host)?.next();
    let address = address.ok_or_else(|| Failure::new(format!("{host} has no address")))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context(url)?;
    stream.set_read_timeout(Some(PATIENCE)).context(url)?;
    stream.set_write_timeout(Some(PATIENCE)).context(url)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n").context(url)?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer).context(url)?;
    let answer = String::from_utf8_lossy(&answer);
    println!("{}", answer.lines().next().unwrap_or_default());
    println!("{}", answer.split_once("\r\n\r\n").map_or("", |(_, body)| body));
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(()),
        _ => Err(Failure::new(format!("{url} did not answer with success"))),
    }
}
