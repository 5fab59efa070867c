//! `/api/channels`: channels as Quetz tells of them, and channels that are made through the API.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use granary_core::Subject::{Anonymous, Authenticated};
use granary_core::{Action, ChannelName, Format, Grant, PackagePattern, Principal};
use granary_crds::{ChannelSettings, HttpUrl, Mirror, Proxy, Raw, Source};
use granary_http::{Call, Refusal};
use granary_identity::ServerRole;
use granary_store::{ApiChangeError, ApplyError, ChangedByApi, Channel, NewChannel};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Answer, account, created, done, ok, param, read_body};
use crate::api::body::Fields;
use crate::api::error::{ApiError, Problem};
use crate::api::members::{self, MemberRole};
use crate::api::page::{self, Part};
use crate::state::Conda;

/// How long documents may be kept, where nobody says. It is told and means nothing.
const USUAL_TTL: u32 = 36_000;
/// The longest name and description, in characters.
const LONGEST_NAME: usize = 50;
const LONGEST_DESCRIPTION: usize = 300;
/// How long it is waited for a new channel's bucket.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often a mirror that was made here is brought up to date by itself, in milliseconds: daily.
const MIRRORED_EVERY: u64 = 24 * 60 * 60 * 1000;
/// What may be asked for when a channel is made, and done to it later.
pub(super) const ACTIONS: [&str; 8] = [
    "synchronize",
    "synchronize_repodata",
    "reindex",
    "generate_indexes",
    "validate_packages",
    "synchronize_metrics",
    "cleanup",
    "cleanup_dry_run",
];
/// Why what a resource says is not changed here.
const OF_RESOURCE: &str = "this channel is described by a Channel resource, which is changed where it is kept (in Git, \
    as a rule) and not through this API";

/// A channel, as clients know it.
#[derive(Debug, Serialize)]
struct ChannelTold {
    name: String,
    description: Option<String>,
    private: bool,
    size_limit: Option<u64>,
    ttl: u32,
    mirror_channel_url: Option<String>,
    mirror_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packages_count: Option<i64>,
}

impl ChannelTold {
    fn of<'g>(
        name: &ChannelName,
        settings: &ChannelSettings,
        grants: impl IntoIterator<Item = &'g Grant>,
    ) -> Self {
        let url_of = match &settings.source {
            Source::Proxy(proxy) => Some((proxy.url.as_str(), "proxy")),
            Source::Mirror(mirror) => Some((mirror.url.as_str(), "mirror")),
            Source::Hosted | Source::Virtual(_) => None,
        };
        let url = url_of.map(|(url, _)| url.to_owned());
        Self {
            name: name.to_string(),
            description: settings.description.clone().or_else(|| settings.title.clone()),
            private: !members::is_public(grants),
            size_limit: settings.max_size,
            ttl: settings.told_ttl.unwrap_or(USUAL_TTL),
            mirror_channel_url: url,
            mirror_mode: url_of.map(|(_, mode)| mode),
            members_count: None,
            packages_count: None,
        }
    }
}

/// What is told of these channels, with how much is in them.
async fn tell(state: &Conda, channels: &[&Channel]) -> Result<Vec<ChannelTold>, ApiError> {
    let ids: Vec<i64> = channels.iter().map(|channel| channel.id()).collect();
    let mut packages: HashMap<i64, i64> = HashMap::new();
    for row in &state.store.database().query(&state.api_sql.count_packages, &[&ids]).await? {
        packages.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let told = |channel: &&Channel| ChannelTold {
        members_count: Some(members::members(channel.grants.iter(), None).len()),
        packages_count: Some(packages.get(&channel.id()).copied().unwrap_or(0)),
        ..ChannelTold::of(&channel.name, &channel.settings, channel.grants.iter())
    };
    Ok(channels.iter().map(told).collect())
}

/// Whether a grant reaches who asks that does not reach everybody.
fn is_member(channel: &Channel, principal: &Principal) -> bool {
    channel.grants.iter().any(|grant| {
        let mut subjects = grant.subjects.iter();
        subjects.any(|subject| !matches!(subject, Anonymous | Authenticated) && subject.covers(principal))
    })
}

/// The channels that a query asks for, of those whose caller may read something of them.
async fn asked_for(state: &Conda, call: &Call) -> Result<Vec<Channel>, ApiError> {
    let with_public = page::truth(&call.arrival.query, "public")?.unwrap_or(true);
    let holding = call.arrival.query.first("q").unwrap_or_default().to_lowercase();
    let principal = &call.caller.principal;
    let mut channels = state.store.directory().of_format(Format::Conda).await?;
    channels.retain(|channel| {
        channel.name.as_str().to_lowercase().contains(&holding)
            && channel.allows(principal, Action::Read, None)
            && (with_public || is_member(channel, principal))
    });
    Ok(channels)
}

/// `GET /api/channels`.
pub(super) async fn list(state: Arc<Conda>, call: Call) -> Answer {
    let channels = asked_for(&state, &call).await?;
    ok(&tell(&state, &channels.iter().collect::<Vec<_>>()).await?)
}

/// `GET /api/paginated/channels`.
pub(super) async fn page(state: Arc<Conda>, call: Call) -> Answer {
    let part = Part::of(&call.arrival.query)?;
    let channels = asked_for(&state, &call).await?;
    let total = channels.len();
    let told = tell(&state, &part.cut(channels.iter().collect())).await?;
    ok(&part.told(told, total))
}

/// `GET /api/channels/CHANNEL`.
pub(super) async fn show(state: Arc<Conda>, call: Call) -> Answer {
    let told = tell(&state, &[&**call.channel()?]).await?;
    ok(&told.first())
}

/// What of a channel is written in a body.
#[derive(Debug)]
struct Written {
    name: Option<String>,
    description: Option<String>,
    private: bool,
    size_limit: Option<u64>,
    ttl: Option<u32>,
    mirror_url: Option<String>,
    mirror_mode: Option<&'static str>,
    include: Vec<PackagePattern>,
    exclude: Vec<PackagePattern>,
    both_lists: bool,
    /// Whether some packages are to be left with the other registry.
    has_proxylist: bool,
    actions: Option<Vec<String>>,
}

/// Names that begin so, as the lists of a mirror have them.
fn beginnings(names: Option<&[String]>) -> Vec<PackagePattern> {
    let names = names.unwrap_or_default().iter();
    names.filter_map(|name| format!("{}*", name.trim_end_matches('*')).parse().ok()).collect()
}

impl Written {
    fn read(fields: &mut Fields) -> Self {
        let name = fields.short_text("name", LONGEST_NAME);
        let description = fields.short_text("description", LONGEST_DESCRIPTION);
        let private = fields.truth("private").unwrap_or(true);
        let size_limit = fields.number("size_limit").map(u64::try_from);
        if matches!(size_limit, Some(Err(_))) {
            fields.senseless("size_limit", "must be positive value");
        }
        let ttl = fields.number("ttl").map(u32::try_from);
        if matches!(ttl, Some(Err(_))) {
            fields.senseless("ttl", "must be a number of seconds");
        }
        let mirror_url = fields.text("mirror_channel_url");
        let rest =
            |url: &str| url.split_once("://").map(|(scheme, rest)| (scheme.to_owned(), !rest.is_empty()));
        let is_url =
            |url: &str| matches!(rest(url), Some((scheme, true)) if scheme == "http" || scheme == "https");
        if mirror_url.as_deref().is_some_and(|url| !is_url(url)) {
            fields.mismatch("mirror_channel_url", "^(http|https)://.+");
        }
        let mirror_mode = fields.word("mirror_mode", &["proxy", "mirror"]);
        let lists = fields.object("metadata", |metadata| {
            (metadata.texts("includelist"), metadata.texts("excludelist"), metadata.texts("proxylist"))
        });
        let (include, exclude, proxylist) = lists.unwrap_or_default();
        let actions = fields.texts("actions");
        if let Some(actions) = &actions
            && let Some(unknown) = actions.iter().find(|action| !ACTIONS.contains(&action.as_str()))
        {
            fields.senseless("actions", &format!("{unknown:?} is none of {}", ACTIONS.join(", ")));
        }
        Self {
            name,
            description,
            private,
            size_limit: size_limit.and_then(Result::ok),
            ttl: ttl.and_then(Result::ok),
            mirror_url,
            mirror_mode,
            both_lists: include.is_some() && exclude.is_some(),
            include: beginnings(include.as_deref()),
            exclude: beginnings(exclude.as_deref()),
            has_proxylist: proxylist.is_some_and(|list| !list.is_empty()),
            actions,
        }
    }

    /// Where the packages of a new channel come from.
    fn source(&self, allow_private_addresses: bool) -> Result<Source, ApiError> {
        let (Some(url), Some(mode)) = (&self.mirror_url, self.mirror_mode) else { return Ok(Source::Hosted) };
        let read = Raw::<HttpUrl>::new(url.as_str()).read();
        read.map_err(|error| ApiError::unprocessable(format!("mirror_channel_url: {error}")))?;
        if self.has_proxylist {
            let message = "proxylist is not known here: make a proxy channel of these packages, and a virtual channel of both";
            return Err(ApiError::unprocessable(message));
        }
        let url = url.trim_end_matches('/').to_owned();
        let (include, exclude) = (self.include.clone(), self.exclude.clone());
        Ok(if mode == "proxy" {
            Source::Proxy(Proxy { url, include, exclude, revalidate_after_ms: 0, allow_private_addresses })
        } else {
            Source::Mirror(Mirror {
                url,
                subdirs: Vec::new(),
                include,
                exclude,
                schedule_ms: MIRRORED_EVERY,
                follow_removal: false,
                allow_private_addresses,
            })
        })
    }

    /// What is wrong with the two fields of a mirror, of which neither stands alone.
    const fn half_mirror(&self) -> Option<&'static str> {
        match (&self.mirror_url, self.mirror_mode) {
            (Some(_), None) => Some("'mirror_channel_url' provided but 'mirror_mode' is undefined"),
            (None, Some(_)) => Some("'mirror_mode' provided but 'mirror_channel_url' is undefined"),
            _ => None,
        }
    }
}

/// Refuses who may make no channel.
async fn check_maker(state: &Conda, call: &Call, is_mirror: bool) -> Result<(), ApiError> {
    let role = call.arrival.services.identity.server_role(&call.caller).await?;
    let principal = &call.caller.principal;
    let mut makers = state.api.iter().flat_map(|api| &api.channel_makers);
    let is_maker = principal.scope().is_none() && makers.any(|subject| subject.covers(principal));
    let needed = if is_mirror {
        if role >= Some(ServerRole::Maintainer) {
            return Ok(());
        }
        "owner or maintainer roles"
    } else {
        if role.is_some() || is_maker {
            return Ok(());
        }
        "owner or maintainer or member roles, or to be named in conda.channelsByApi.allowed of the registry"
    };
    Err(Refusal::forbidden(format!("this operation requires {needed}")).into())
}

/// `POST /api/channels`.
pub(super) async fn create(state: Arc<Conda>, mut call: Call) -> Answer {
    let owner = account(&call)?.clone();
    let mut fields = read_body(&mut call).await?;
    let written = Written::read(&mut fields);
    if !fields.has("name") {
        fields.required_text("name");
    }
    let (sets_limit, whole) = (fields.has("size_limit"), fields.whole());
    fields.finish()?;
    if let Some(problem) = written.half_mirror() {
        return Err(Problem::value(vec!["body".into()], problem, whole).into());
    }
    let name = written.name.clone().unwrap_or_default();
    check_maker(&state, &call, written.mirror_mode.is_some()).await?;
    if let Some(taken) = state.store.channel_of_any_case(Format::Conda, &name).await? {
        return Err(Refusal::conflict(format!("Channel {taken} exists")).into());
    }
    if written.both_lists {
        return Err(ApiError::unprocessable("Cannot use both `includelist` and `excludelist` together."));
    }
    if sets_limit {
        check_limit_setter(&call).await?;
    }
    let name = channel_name(&name)?;
    let source = written.source(state.api.as_ref().is_some_and(|api| api.test_users))?;
    let is_mirror = matches!(source, Source::Mirror(_));
    let mut grants = Vec::new();
    members::set_public(&mut grants, !written.private);
    members::set((&mut grants, &[]), &owner, None, MemberRole::Owner)
        .map_err(|error| ApiError::unprocessable(error.to_string()))?;
    let settings = ChannelSettings {
        description: written.description,
        max_size: written.size_limit,
        told_ttl: written.ttl,
        source,
        ..ChannelSettings::default()
    };
    let new = NewChannel { format: Format::Conda, name: name.clone(), settings, grants };
    let api = state.api.as_ref().ok_or_else(|| Refusal::forbidden("this server makes no channels"))?;
    let mut entry = call.audit_entry("create channel", None, json!({ "private": written.private }));
    entry.channel = Some(format!("{}/{name}", Format::Conda));
    match state.store.create_pending_channel(&new, &api.naming, &entry).await {
        Err(ApplyError::Exists(name)) => {
            return Err(Refusal::conflict(format!("Channel {name} exists")).into());
        }
        made => made?,
    }
    if let Some(channel) = state.store.wait_until_active(Format::Conda, &name, LONGEST_WAIT).await? {
        // As for Quetz, a mirror is filled at once unless somebody says otherwise.
        let fills = |actions: &Vec<String>| actions.iter().any(|action| action.starts_with("synchronize"));
        if is_mirror && written.actions.as_ref().is_none_or(fills) {
            state.synchronize(&channel).await?;
        }
        return created(&Value::Null);
    }
    let message = "the channel is written down, and its bucket is not there yet: ask for it in a moment";
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message);
    Err(Refusal { retry_after: Some(Duration::from_secs(2)), ..refusal }.into())
}

fn channel_name(text: &str) -> Result<ChannelName, ApiError> {
    if text.contains('_') {
        return Err(ApiError::unprocessable("_ should not be used in channel name"));
    }
    if !text.is_ascii() {
        return Err(ApiError::unprocessable("only ASCII characters should be used in channel name"));
    }
    ChannelName::parse(Format::Conda, text).map_err(|error| ApiError::unprocessable(error.to_string()))
}

async fn check_limit_setter(call: &Call) -> Result<(), ApiError> {
    let role = call.arrival.services.identity.server_role(&call.caller).await?;
    if role >= Some(ServerRole::Maintainer) {
        return Ok(());
    }
    Err(Refusal::forbidden("only server maintainer or owner can set channel size limit").into())
}

/// What may be changed of a channel.
const CHANGEABLE: [&str; 4] = ["private", "size_limit", "metadata", "ttl"];

/// `PATCH /api/channels/CHANNEL`.
pub(super) async fn change(state: Arc<Conda>, mut call: Call) -> Answer {
    let mut fields = read_body(&mut call).await?;
    let written = Written::read(&mut fields);
    let has = |name: &str| fields.has(name);
    let (private, limit, ttl) = (has("private"), has("size_limit"), has("ttl"));
    let fixed = fields.names().find(|name| !CHANGEABLE.contains(name)).map(str::to_owned);
    fields.finish()?;
    if limit {
        check_limit_setter(&call).await?;
    }
    if let Some(fixed) = fixed {
        return Err(ApiError::unprocessable(format!("attribute '{fixed}' of channel can not be changed")));
    }
    let channel = Arc::clone(call.channel()?);
    let detail = json!({
        "private": private.then_some(written.private),
        "sizeLimit": limit.then_some(written.size_limit),
    });
    let entry = call.audit_entry("change channel", None, detail);
    let mut told = None;
    let change = |changed: &mut ChangedByApi| {
        if changed.is_of_resource {
            return Err(Refusal::forbidden(OF_RESOURCE));
        }
        let before = changed.clone();
        if private {
            members::set_public(&mut changed.grants, !written.private);
        }
        if limit {
            changed.settings.max_size = written.size_limit;
        }
        if ttl {
            changed.settings.told_ttl = written.ttl;
        }
        told = Some(ChannelTold::of(&channel.name, &changed.settings, &changed.grants));
        Ok(before.grants != changed.grants || before.settings != changed.settings)
    };
    state.store.change_by_api(Format::Conda, &channel.name, &entry, change).await.map_err(refused)?;
    ok(&told)
}

/// Why a channel was not changed.
pub(super) fn refused(error: ApiChangeError<Refusal>) -> ApiError {
    match error {
        ApiChangeError::Apply(error) => error.into(),
        ApiChangeError::Refused(refusal) => refusal.into(),
        ApiChangeError::Gone => Refusal::not_found("there is no such channel any more").into(),
    }
}

/// `DELETE /api/channels/CHANNEL`: one that was made through the API goes, with its files.
pub(super) async fn end(state: Arc<Conda>, call: Call) -> Answer {
    let name = ChannelName::parse(Format::Conda, param(&call, "channel"));
    let name = name.map_err(|error| Refusal::not_found(error.to_string()))?;
    let entry = call.audit_entry("delete channel", None, json!({}));
    if state.store.delete_by_api(Format::Conda, &name, &entry).await? {
        return done();
    }
    Err(Refusal::forbidden(OF_RESOURCE).into())
}
