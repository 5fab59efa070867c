//! `/api/channels/CHANNEL/packages/PACKAGE/versions`.

use std::sync::Arc;

use granary_core::Action;
use granary_http::Call;

use super::members::present;
use super::{Answer, absent, ok, param};
use crate::api::constraint::Constraint;
use crate::api::error::ApiError;
use crate::api::page::{self, Part};
use crate::listing::VersionRow;
use crate::state::Conda;

/// The files that a query asks for, the newest version first.
async fn asked_for(state: &Conda, call: &Call, package: &str) -> Result<Vec<VersionRow>, ApiError> {
    let query = &call.arrival.query;
    let since = page::time(query, "time_created__ge")?;
    let mut versions = state.versions(call.channel()?, package, since).await?;
    if let Some(text) = query.first("version_match_str").filter(|text| !text.is_empty()) {
        let wanted = Constraint::parse(text)
            .map_err(|error| ApiError::unprocessable(format!("version_match_str: {error}")))?;
        versions.retain(|row| wanted.admits(&row.version));
    }
    Ok(versions)
}

/// `GET …/versions`.
pub(super) async fn list(state: Arc<Conda>, call: Call) -> Answer {
    let package = present(&state, &call, Action::Read).await?;
    let versions = asked_for(&state, &call, &package).await?;
    ok(&state.tell_versions(call.channel()?, &package, versions).await?)
}

/// `GET /api/paginated/…/versions`.
pub(super) async fn page(state: Arc<Conda>, call: Call) -> Answer {
    let part = Part::of(&call.arrival.query)?;
    let package = present(&state, &call, Action::Read).await?;
    let versions = asked_for(&state, &call, &package).await?;
    let total = versions.len();
    let told = state.tell_versions(call.channel()?, &package, part.cut(versions)).await?;
    ok(&part.told(told, total))
}

/// `GET …/versions/SUBDIR/FILE`.
pub(super) async fn show(state: Arc<Conda>, call: Call) -> Answer {
    let package = present(&state, &call, Action::Read).await?;
    let (channel, subdir, file) = (call.channel()?, param(&call, "subdir"), param(&call, "file"));
    let Some(row) = state.version(channel, &package, subdir, file).await? else {
        return Err(absent(&call, format!("package version {subdir}/{file} not found"))?.into());
    };
    let told = state.tell_versions(channel, &package, vec![row]).await?;
    ok(&told.first())
}
