//! `PUT /get/CHANNEL/SUBDIR/FILE`: an upload as Artifactory takes it, where the package is read from then on. Clients are given
//! the URL of `/get`.

use std::sync::Arc;

use granary_core::Sha256;
use granary_http::{Body, Call, Refusal, respond};
use http::{Response, StatusCode};
use serde_json::json;

use super::{bad_request, receive_and_publish};
use crate::format::{PackageFile, Subdir};
use crate::state::Conda;

/// Puts a package into a subdir, which has to be its own.
pub(in crate::routes) async fn put(state: Arc<Conda>, mut call: Call) -> Result<Response<Body>, Refusal> {
    let param = |name: &str| call.arrival.params.get(name).unwrap_or_default();
    let subdir: Subdir = param("subdir").parse().map_err(bad_request)?;
    let file: PackageFile = param("file").parse().map_err(bad_request)?;
    let digest = call.arrival.headers.get("x-checksum-sha256").and_then(|value| value.to_str().ok());
    let digest = digest.map(|digest| digest.to_lowercase().parse::<Sha256>());
    let expected = digest.transpose().map_err(bad_request)?;
    let published = receive_and_publish(&state, &mut call, file, expected, false, Some(&subdir)).await?;
    let (package, channel) = (&published.package, call.channel()?);
    let path = format!("/{subdir}/{}", package.file);
    let body = json!({ "repo": channel.name, "path": path, "size": published.held.size().to_string() });
    respond::json(StatusCode::CREATED, &body).map_err(Refusal::internal)
}
