//! `/api/channels/CHANNEL/packages`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use granary_core::{Action, Format, PackagePattern, ReadFilter};
use granary_http::{Body, BoxError, Call, Refusal, respond};
use granary_store::{ChangedByApi, Channel, Param};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::channels::refused;
use super::members::present;
use super::{Answer, account, created, done, ok, read_body};
use crate::api::error::ApiError;
use crate::api::members::{self, MemberRole};
use crate::api::page::Part;
use crate::author::Author;
use crate::format::{NameError, PackageFile, PackageName, Subdir};
use crate::index::filter_of;
use crate::listing::Order;
use crate::state::Conda;
use crate::upstream::check_hosted;

/// How many packages of a whole list are told at a time.
const BATCH: i64 = 500;
/// The longest summary and description of a package, in characters.
const LONGEST_TEXT: usize = 10_000;

/// A whole list on its way: what of it has been told.
struct Telling {
    state: Arc<Conda>,
    channel: Arc<Channel>,
    filter: Option<ReadFilter>,
    holding: Option<String>,
    skip: i64,
    begun: bool,
    ended: bool,
}

impl Telling {
    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        if self.ended {
            return Ok(None);
        }
        let part = Part { skip: self.skip, limit: Some(BATCH) };
        let (channel, holding) = (&self.channel, self.holding.as_deref());
        let mut names = self.state.names_as_they_are(channel, holding, Order::Name, part).await?;
        self.skip += BATCH;
        self.ended = names.is_empty();
        names.retain(|(name, _)| self.filter.as_ref().is_none_or(|filter| filter.admits(name)));
        let mut text = Vec::new();
        for package in self.state.describe(channel, &names).await? {
            text.push(if self.begun { b',' } else { b'[' });
            self.begun = true;
            serde_json::to_writer(&mut text, &package)?;
        }
        if self.ended {
            text.extend_from_slice(if self.begun { b"]" } else { b"[]" });
        }
        Ok(Some(text.into()))
    }
}

/// `GET /api/channels/CHANNEL/packages`: all of them, told as they are read.
pub(super) async fn list(state: Arc<Conda>, call: Call) -> Answer {
    let telling = Telling {
        channel: Arc::clone(call.channel()?),
        filter: filter_of(&call)?,
        holding: call.arrival.query.first("q").map(str::to_owned),
        state,
        skip: 0,
        begun: false,
        ended: false,
    };
    let told = stream::try_unfold(telling, |mut telling| async move {
        Ok::<_, BoxError>(telling.next().await?.map(|bytes| (bytes, telling)))
    });
    let mut response = Response::new(Body::unsized_stream(told));
    response.headers_mut().insert(CONTENT_TYPE, respond::JSON);
    Ok(response)
}

/// `GET /api/paginated/channels/CHANNEL/packages`.
pub(super) async fn page(state: Arc<Conda>, call: Call) -> Answer {
    let (query, channel) = (&call.arrival.query, call.channel()?);
    let part = Part::of(query)?;
    let order = Order::read(query.first("order_by").unwrap_or_default());
    let filter = filter_of(&call)?;
    let (names, total) = state.names(channel, filter.as_ref(), query.first("q"), order, part).await?;
    ok(&part.told(state.describe(channel, &names).await?, total))
}

/// `GET /api/channels/CHANNEL/packages/PACKAGE`.
pub(super) async fn show(state: Arc<Conda>, call: Call) -> Answer {
    let package = present(&state, &call, Action::Read).await?;
    let channel = call.channel()?;
    let named: Vec<_> = state.named(channel, &package).await?.into_iter().collect();
    ok(&state.describe(channel, &named).await?.first())
}

/// `POST /api/channels/CHANNEL/packages`: announces a package, of which whoever does so becomes an owner.
pub(super) async fn announce(state: Arc<Conda>, mut call: Call) -> Answer {
    let mut fields = read_body(&mut call).await?;
    let name = fields.required_text("name");
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if !name.bytes().all(legal) {
        fields.mismatch("name", r"^[a-z0-9-_\.]*$");
    }
    let summary = fields.short_text("summary", LONGEST_TEXT);
    let description = fields.short_text("description", LONGEST_TEXT);
    fields.finish()?;
    let name: PackageName = name
        .parse()
        .map_err(|error: NameError| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    call.check(Action::Publish, Some(name.as_str()))?;
    check_hosted(call.channel()?)?;
    let owner = account(&call)?.clone();
    let channel = Arc::clone(call.channel()?);
    let exists = || Refusal::conflict(format!("Package {}/{name} exists", channel.name));
    if state.named(&channel, name.as_str()).await?.is_some() {
        return Err(exists().into());
    }
    let mut tx = state.store.begin().await?;
    let (id, now, by) = (channel.id(), state.store.clock().now(), call.caller.actor());
    let params: [Param<'_>; 6] = [&id, &name.as_str(), &summary, &description, &by, &now];
    if tx.execute(&state.api_sql.announce, &params).await? == 0 {
        tx.rollback().await?;
        return Err(exists().into());
    }
    tx.touch(channel.scope, format!("announced:{name}"));
    tx.audit(&call.audit_entry("announce package", Some(name.as_str()), json!({}))).await?;
    tx.commit().await?;
    let Ok(pattern) = name.as_str().parse::<PackagePattern>() else { return created(&Value::Null) };
    let detail = json!({ "user": owner, "role": "owner" });
    let entry = call.audit_entry("set member", Some(name.as_str()), detail);
    let change = |changed: &mut ChangedByApi| {
        let set = (&mut changed.grants, changed.of_resource.as_slice());
        // Who has a grant of the resource needs none of ours.
        Ok::<_, Refusal>(members::set(set, &owner, Some(&pattern), MemberRole::Owner).is_ok())
    };
    state.store.change_by_api(Format::Conda, &channel.name, &entry, change).await.map_err(refused)?;
    created(&Value::Null)
}

/// `DELETE /api/channels/CHANNEL/packages/PACKAGE`: with all of its files. Each subdir's go at once.
pub(super) async fn end(state: Arc<Conda>, call: Call) -> Answer {
    let package = present(&state, &call, Action::Remove).await?;
    let channel = call.channel()?;
    let mut by_subdir: BTreeMap<Subdir, Vec<PackageFile>> = BTreeMap::new();
    for row in state.versions(channel, &package, None).await? {
        let (Ok(subdir), Ok(file)) = (row.subdir.parse(), row.filename.parse()) else { continue };
        by_subdir.entry(subdir).or_default().push(file);
    }
    let author = Author::of(&call);
    for (subdir, files) in &by_subdir {
        state.remove(&author, channel, subdir, files).await?;
    }
    forget(&state, &call, channel, &package).await?;
    done()
}

/// Takes back what was announced of a package.
async fn forget(state: &Conda, call: &Call, channel: &Channel, package: &str) -> Result<(), ApiError> {
    let mut tx = state.store.begin().await?;
    if tx.execute(&state.api_sql.forget_announced, &[&channel.id(), &package]).await? == 0 {
        return Ok(tx.rollback().await?);
    }
    tx.touch(channel.scope, format!("announced:{package}"));
    tx.audit(&call.audit_entry("delete package", Some(package), json!({}))).await?;
    Ok(tx.commit().await?)
}
