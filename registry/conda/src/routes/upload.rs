//! Uploads, as the clients of Quetz send them: the package is the body, and streams to the object store while it is hashed and
//! read. Nothing is stored before everything about it has been checked.

use std::sync::Arc;

use futures_util::TryStreamExt;
use granary_core::{Action, Sha256};
use granary_http::{Body, Call, Refusal, respond};
use granary_store::objects::Upload;
use http::{Response, StatusCode};
use serde_json::Value;

use crate::author::Author;
use crate::format::PackageFile;
use crate::intake::Intake;
use crate::patches::is_patch_package;
use crate::publish::{Package, Standing};
use crate::state::Conda;
use crate::upstream::check_hosted;

/// `POST /api/channels/CHANNEL/upload/FILE?sha256=…&force=…`.
pub(super) async fn upload(state: Arc<Conda>, mut call: Call) -> Result<Response<Body>, Refusal> {
    check_hosted(call.channel()?)?;
    let file = call.arrival.params.get("file").unwrap_or_default();
    let file: PackageFile = file.parse().map_err(bad_request)?;
    let expected = call.arrival.query.first("sha256").map(str::to_lowercase);
    let expected: Option<Sha256> = expected.map(|digest| digest.parse().map_err(bad_request)).transpose()?;
    let force = match call.arrival.query.first("force").unwrap_or("false") {
        "true" | "True" | "1" => true,
        "false" | "False" | "0" => false,
        _ => return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "force is true or false")),
    };
    let may = if force { Action::Remove } else { Action::Publish };
    // Before any of it is taken in; and again when all of it is.
    call.check(may, Some(file.name().as_str()))?;
    let (package, upload) = receive(&state, &mut call, file, expected).await?;
    call.check_again(may, Some(package.file.name().as_str())).await?;
    let channel = Arc::clone(call.channel()?);
    if !force && state.standing(&channel, &package).await? == Standing::Taken {
        return Err(duplicate());
    }
    let stored = upload.finish().await?;
    if !state.publish(&Author::of(&call), &channel, &package, &stored, force).await? {
        // Another upload of this name was quicker: the object of ours is given up.
        state.store.doom(&stored).await?;
        return Err(duplicate());
    }
    let (name, filename) = (package.file.name().as_str().into(), package.file.to_string().into());
    state.store.usage().uploaded(channel.scope, &name, &filename);
    respond::json(StatusCode::CREATED, &Value::Null).map_err(Refusal::internal)
}

/// Takes in a package and checks it. Its bytes are with the object store then, not yet an object.
async fn receive(
    state: &Conda,
    call: &mut Call,
    file: PackageFile,
    expected: Option<Sha256>,
) -> Result<(Package, Upload), Refusal> {
    let limit = call.max_upload_size();
    let mut body = call.arrival.take_body().limited_to(limit);
    body.check_declared()?;
    let channel = Arc::clone(call.channel()?);
    if is_patch_package(&channel, file.name()) {
        // It changes what is said of every package.
        call.check(Action::Remove, Some(file.name().as_str()))?;
    }
    let mut intake = Intake::begin(state, &channel, limit, file).await;
    while let Some(chunk) = body.try_next().await? {
        intake.write(&chunk).await?;
    }
    Ok(intake.finish(expected, state.store.clock().now())?)
}

fn duplicate() -> Refusal {
    Refusal::conflict("Duplicate")
}

fn bad_request(error: impl std::error::Error) -> Refusal {
    Refusal::bad_request(granary_core::report(&error))
}
