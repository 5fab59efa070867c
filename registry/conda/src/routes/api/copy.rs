//! `POST /api/channels/CHANNEL/packages/copy`: a package of another channel, whose bytes are read and checked as if they were
//! uploaded, since each channel keeps its own.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use granary_core::{Action, ChannelName, Format};
use granary_http::{Call, Refusal};
use granary_store::{Channel, Scope};
use serde_json::Value;

use super::{Answer, created};
use crate::api::page::required;
use crate::format::{PackageFile, Subdir};
use crate::routes::upload::{Held, Received, publish_all, take_in};
use crate::state::Conda;

/// `POST …/packages/copy?source_channel=…&source_package=…&subdir=…&filename=…`.
pub(super) async fn copy(state: Arc<Conda>, mut call: Call) -> Answer {
    let query = Arc::clone(&call.arrival.query);
    let source_channel = required(&query, "source_channel")?;
    let source_package = required(&query, "source_package")?;
    let (subdir, filename) = (required(&query, "subdir")?, required(&query, "filename")?);
    let absent =
        || Refusal::not_found(format!("there is no {source_channel}/{subdir}/{filename} here for you"));
    let name = ChannelName::parse(Format::Conda, source_channel).map_err(|_| absent())?;
    let file: PackageFile = filename.parse().map_err(|_| absent())?;
    let subdir: Subdir = subdir.parse().map_err(|_| absent())?;
    if file.name().as_str() != source_package {
        return Err(absent().into());
    }
    call.check(Action::Publish, Some(source_package))?;
    let source = state.store.directory().find(Format::Conda, &name).await?;
    let principal = &call.caller.principal;
    let readable = |channel: &Arc<Channel>| channel.allows(principal, Action::Read, Some(source_package));
    let source = source.filter(readable).ok_or_else(absent)?;
    state.store.revisions().refresh(&[Scope::REGISTRY, source.scope]).await?;
    let stored = state.file(&source, &subdir, &file).await?.ok_or_else(absent)?;
    let bytes = state.store.objects().open(&source.bucket, &stored.object_key, None).await;
    let bytes = bytes.map_err(Refusal::from)?.map_err(Refusal::from);
    let expected = Some(stored.sha256);
    let (package, upload) = take_in(&state, &call, stored.size, file, expected, bytes).await?;
    let received = Received { package, held: Held::Passing(Box::new(upload)) };
    publish_all(&state, &mut call, vec![received], false).await?;
    created(&Value::Null)
}
