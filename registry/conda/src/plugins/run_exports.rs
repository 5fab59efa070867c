//! `GET …/packages/NAME/versions/SUBDIR/FILE/run_exports`: what packages that are built with this one depend on (CEP 12).

use std::sync::Arc;

use granary_core::Action;
use granary_http::{Body, Call, Refusal};
use granary_store::DbError;
use http::Response;

use super::Small;
use crate::format::{PackageFile, Subdir};
use crate::state::Conda;

/// Answers `{}` for a package that exports nothing.
pub(crate) async fn run_exports(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let param = |name: &str| call.arrival.params.get(name).unwrap_or_default();
    let absent = || call.unknown("there is no such package in this channel");
    let Ok(subdir) = param("platform").parse::<Subdir>() else { return Err(absent()) };
    let Ok(file) = param("file").parse::<PackageFile>() else { return Err(absent()) };
    if param("package") != file.name().as_str() {
        return Err(absent());
    }
    call.check(Action::Read, Some(file.name().as_str()))?;
    let (channel, filename) = (call.channel()?.id(), file.to_string());
    let sql = &state.plugins.sql.run_exports;
    let row = state.store.database().query_opt(sql, &[&channel, &subdir.as_str(), &filename]).await?;
    let row = row.ok_or_else(absent)?;
    let run_exports: String = row.try_get(1).map_err(DbError::from)?;
    Small::new(run_exports).respond(&call, "application/json", None).await
}
