//! What all who ask somebody over the network need: an answer of bounded length, and a secret as it is now.

use std::io;

use granary_crds::{Secret, SecretSource};
use reqwest::Response;

/// The body of an answer; nothing where it is longer than `limit`, in bytes.
pub(crate) async fn read_body(
    response: &mut Response,
    limit: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// A secret as it is now: it may have been replaced since the process began. A file may lie on a network, so it is not read on
/// the threads that must not wait.
pub(crate) async fn load(source: &SecretSource) -> io::Result<Secret> {
    let source = source.clone();
    tokio::task::spawn_blocking(move || source.load()).await.map_err(io::Error::other)?
}
