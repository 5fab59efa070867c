//! Asks a server whether it accepts connections, as a client would: with the first message of a connection.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::NotReady;

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 3 << 16;
/// The message `Terminate`.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Connects as the role `name` to the database `name`, and hangs up.
pub(super) async fn ask(socket: &Path, name: &str) -> Result<(), NotReady> {
    connect(socket, name).await.unwrap_or(Err(NotReady::NoServer))
}

async fn connect(socket: &Path, name: &str) -> io::Result<Result<(), NotReady>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&startup_message(name)?).await?;
    let kind = stream.read_u8().await?;
    if kind == b'R' {
        stream.write_all(TERMINATE).await?;
        return Ok(Ok(()));
    }
    let mut rest = Vec::new();
    stream.take(8 << 10).read_to_end(&mut rest).await?;
    Ok(Err(NotReady::Refused(error_message(rest.get(4..).unwrap_or_default()))))
}

fn startup_message(name: &str) -> io::Result<Vec<u8>> {
    let parameters = format!("user\0{name}\0database\0{name}\0\0");
    let length = i32::try_from(8 + parameters.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes(), &PROTOCOL.to_be_bytes(), parameters.as_bytes()].concat())
}

/// The field `M` of an `ErrorResponse`.
fn error_message(fields: &[u8]) -> String {
    let message = fields.split(|&byte| byte == 0).find_map(|field| field.strip_prefix(b"M"));
    String::from_utf8_lossy(message.unwrap_or(b"no reason given")).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_message_of_a_refusal_is_read() {
        let fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0Fpostmaster.c\0\0";
        assert_eq!(super::error_message(fields), "the database system is starting up");
    }
}
