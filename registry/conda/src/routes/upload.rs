//! Uploads: the package is the body, or a file of a form, and streams to the object store while it is hashed and read. Nothing
//! is stored before everything about it has been checked. What the dialects of clients have in common stands here.

pub(super) mod form;
pub(super) mod raw;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use granary_core::{Action, Sha256};
use granary_http::{Body, Call, Refusal, respond};
use granary_store::objects::{StoredObject, Upload};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::author::Author;
use crate::format::{PackageFile, Subdir};
use crate::intake::Intake;
use crate::patches::is_patch_package;
use crate::publish::{Package, Standing};
use crate::state::Conda;
use crate::upstream::check_hosted;

/// A package that was read to its end and holds together, and where its bytes are.
pub(super) struct Received {
    pub(super) package: Package,
    pub(super) held: Held,
}

/// Where the bytes of a package are that is not published yet.
pub(super) enum Held {
    /// With the object store, and no object yet.
    Passing(Box<Upload>),
    /// An object that no row names yet.
    Stored(StoredObject),
}

/// What an upload needs: to replace a package is to remove one.
pub(super) const fn needed(force: bool) -> Action {
    if force { Action::Remove } else { Action::Publish }
}

/// `POST /api/channels/CHANNEL/upload/FILE?sha256=…&force=…`.
pub(super) async fn upload(state: Arc<Conda>, mut call: Call) -> Result<Response<Body>, Refusal> {
    let file = call.arrival.params.get("file").unwrap_or_default();
    let file: PackageFile = file.parse().map_err(bad_request)?;
    let expected = call.arrival.query.first("sha256").map(str::to_lowercase);
    let expected: Option<Sha256> = expected.map(|digest| digest.parse().map_err(bad_request)).transpose()?;
    let force = forced(&call)?;
    receive_and_publish(&state, &mut call, file, expected, force, None).await?;
    respond::json(StatusCode::CREATED, &Value::Null).map_err(Refusal::internal)
}

/// Whether a query asks for a package to be replaced.
pub(super) fn forced(call: &Call) -> Result<bool, Refusal> {
    let said = call.arrival.query.first("force").unwrap_or("false");
    let force = crate::api::body::truth_of(said);
    force.ok_or_else(|| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "force is true or false"))
}

/// Takes in the package that the body is, which has to be of this subdir where one is given, and publishes it.
pub(super) async fn receive_and_publish(
    state: &Conda,
    call: &mut Call,
    file: PackageFile,
    expected: Option<Sha256>,
    force: bool,
    subdir: Option<&Subdir>,
) -> Result<Received, Refusal> {
    // Before any of it is taken in; and again when all of it is.
    call.check(needed(force), Some(file.name().as_str()))?;
    let limit = call.max_upload_size();
    let body = call.arrival.take_body().limited_to(limit);
    body.check_declared()?;
    let bytes = body.map_err(Refusal::from);
    let (package, upload) = take_in(state, call, limit, file, expected, bytes).await?;
    let of = package.record.subdir();
    if let Some(subdir) = subdir.filter(|subdir| *subdir != of) {
        return Err(Refusal::bad_request(format!("the package is of the subdir {of}, and not of {subdir}")));
    }
    let received = vec![Received { package, held: Held::Passing(Box::new(upload)) }];
    let mut published = publish_all(state, call, received, force).await?;
    published.pop().ok_or_else(|| Refusal::bad_request("there is no package"))
}

/// Takes in a package and checks it. Its bytes are with the object store then, not yet an object.
pub(super) async fn take_in(
    state: &Conda,
    call: &Call,
    limit: u64,
    file: PackageFile,
    expected: Option<Sha256>,
    bytes: impl Stream<Item = Result<Bytes, Refusal>> + Send,
) -> Result<(Package, Upload), Refusal> {
    let channel = Arc::clone(call.channel()?);
    check_hosted(&channel)?;
    state.check_terms(call).await?;
    if is_patch_package(&channel, file.name()) {
        // It changes what is said of every package.
        call.check(Action::Remove, Some(file.name().as_str()))?;
    }
    let mut intake = Intake::begin(state, &channel, limit, file).await;
    let mut bytes = std::pin::pin!(bytes);
    while let Some(chunk) = bytes.try_next().await? {
        intake.write(&chunk).await?;
    }
    Ok(intake.finish(expected, state.store.clock().now())?)
}

/// Publishes packages one after the other, each in a transaction of its own; before the first, all of them are looked at.
/// Objects of packages that are not published are given up.
pub(super) async fn publish_all(
    state: &Conda,
    call: &mut Call,
    received: Vec<Received>,
    force: bool,
) -> Result<Vec<Received>, Refusal> {
    let named = received.len() > 1;
    if let Err(refusal) = look_at(state, call, &received, force, named).await {
        give_up(state, received).await?;
        return Err(refusal);
    }
    let channel = Arc::clone(call.channel()?);
    let author = Author::of(call);
    let mut published = Vec::with_capacity(received.len());
    let mut left = received.into_iter();
    while let Some(Received { package, held }) = left.next() {
        let stored = match held {
            Held::Passing(upload) => upload.finish().await?,
            Held::Stored(stored) => stored,
        };
        if !state.publish(&author, &channel, &package, &stored, force).await? {
            // Another upload of this name was quicker: the object of ours is given up.
            state.store.doom(&stored).await?;
            give_up(state, left.collect()).await?;
            return Err(duplicate(&package, named));
        }
        let name = package.file.name().as_str().into();
        let place = format!("{}/{}", package.record.subdir(), package.file).into();
        state.store.usage().uploaded(channel.scope, &name, &place);
        published.push(Received { package, held: Held::Stored(stored) });
    }
    Ok(published)
}

/// Whether all of these may be published: by who uploads them, as they are by now; beside what is there; and within the quota.
async fn look_at(
    state: &Conda,
    call: &mut Call,
    received: &[Received],
    force: bool,
    named: bool,
) -> Result<(), Refusal> {
    if let Some(first) = received.first() {
        call.check_again(needed(force), Some(first.package.file.name().as_str())).await?;
    }
    let channel = Arc::clone(call.channel()?);
    for Received { package, .. } in received {
        call.check(needed(force), Some(package.file.name().as_str()))?;
        if !force && state.standing(&channel, package).await? == Standing::Taken {
            return Err(duplicate(package, named));
        }
    }
    let Some(quota) = channel.settings.max_size else { return Ok(()) };
    let arriving = received.iter().map(|received| received.held.size()).fold(0, u64::saturating_add);
    if state.size(&channel).await?.saturating_add(arriving) > quota {
        let message = format!("{} is above quota of {quota} bytes", channel.name);
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    Ok(())
}

impl Held {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Passing(upload) => upload.size(),
            Self::Stored(stored) => stored.digests.size,
        }
    }
}

/// Has the objects removed of packages that are not published after all.
pub(super) async fn give_up(state: &Conda, received: Vec<Received>) -> Result<(), Refusal> {
    for Received { held, .. } in received {
        if let Held::Stored(stored) = held {
            state.store.doom(&stored).await?;
        }
    }
    Ok(())
}

/// The file is named where it came among others.
fn duplicate(package: &Package, named: bool) -> Refusal {
    if named {
        Refusal::conflict(format!("Duplicate {}", package.file))
    } else {
        Refusal::conflict("Duplicate")
    }
}

pub(super) fn bad_request(error: impl std::error::Error) -> Refusal {
    Refusal::bad_request(granary_core::report(&error))
}
