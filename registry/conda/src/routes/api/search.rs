//! `/api/packages/search/` and `/api/channels/search/`.

use std::sync::Arc;

use granary_core::{Action, Format, Readable, readable};
use granary_http::Call;
use serde::Serialize;

use super::{Answer, ok};
use crate::api::members;
use crate::api::page::{Part, required};
use crate::api::search::Search;
use crate::listing::{Order, PackageTold};
use crate::state::Conda;

/// The most packages that a search finds. Who wants others says more.
const MOST_FOUND: usize = 1000;
/// How many names are looked at at a time.
const BATCH: i64 = 1000;

#[derive(Debug, Serialize)]
struct Found {
    #[serde(flatten)]
    package: PackageTold,
    channel_name: String,
}

fn fits(search: &Search, package: &PackageTold) -> bool {
    let platforms = package.platforms.as_ref().map(|platforms| platforms.join(":")).unwrap_or_default();
    search.fits("description", package.description.as_deref().unwrap_or_default())
        && search.fits("summary", package.summary.as_deref().unwrap_or_default())
        && search.fits("platform", &platforms)
}

/// `GET /api/packages/search/?q=…`: by name, `channel:`, `description:`, `summary:` and `platform:`.
pub(super) async fn packages(state: Arc<Conda>, call: Call) -> Answer {
    let text = required(&call.arrival.query, "q")?;
    let search = Search::parse(text, &["channel", "description", "summary", "platform"]);
    let principal = &call.caller.principal;
    let mut found = Vec::new();
    for channel in state.store.directory().of_format(Format::Conda).await? {
        if !channel.allows(principal, Action::Read, None) || !search.fits("channel", channel.name.as_str()) {
            continue;
        }
        let filter = match readable(&channel.grants, principal, channel.format, &channel.name) {
            Readable::All => None,
            Readable::Some(filter) => Some(filter),
        };
        let mut part = Part { skip: 0, limit: Some(BATCH) };
        while found.len() < MOST_FOUND {
            let mut names = state.names_as_they_are(&channel, None, Order::Name, part).await?;
            if names.is_empty() {
                break;
            }
            part.skip += BATCH;
            names.retain(|(name, _)| {
                search.fits_name(name) && filter.as_ref().is_none_or(|filter| filter.admits(name))
            });
            let told = state.describe(&channel, &names).await?;
            let fitting = told.into_iter().filter(|package| fits(&search, package));
            found.extend(fitting.map(|package| Found { package, channel_name: channel.name.to_string() }));
        }
    }
    found.truncate(MOST_FOUND);
    found.sort_by(|left, right| left.package.name.cmp(&right.package.name));
    ok(&found)
}

#[derive(Debug, Serialize)]
struct ChannelFound {
    name: String,
    description: Option<String>,
    private: bool,
}

/// `GET /api/channels/search/?q=…`: by name, `description:` and `private:`.
pub(super) async fn channels(state: Arc<Conda>, call: Call) -> Answer {
    let search = Search::parse(required(&call.arrival.query, "q")?, &["description", "private"]);
    let mut found = Vec::new();
    for channel in state.store.directory().of_format(Format::Conda).await? {
        let private = !members::is_public(channel.grants.iter());
        let description = channel.settings.description.clone().or_else(|| channel.settings.title.clone());
        if channel.allows(&call.caller.principal, Action::Read, None)
            && search.fits_name(channel.name.as_str())
            && search.fits("description", description.as_deref().unwrap_or_default())
            && search.fits_truth("private", private)
        {
            found.push(ChannelFound { name: channel.name.to_string(), description, private });
        }
    }
    ok(&found)
}
