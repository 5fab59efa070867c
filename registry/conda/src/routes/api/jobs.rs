//! `/api/jobs` and `/api/channels/CHANNEL/actions`: what is asked for, and what became of it.
//!
//! Indexes are always those of what is there, and stored files are compared with their digests by themselves: most of what
//! can be asked for is done by nature, and its job is finished when it is made.

use std::sync::Arc;

use granary_core::{Action, SubjectName};
use granary_crds::Source;
use granary_http::{Call, Refusal};
use granary_identity::ServerRole;
use granary_store::{DbError, Param};
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use super::channels::ACTIONS;
use super::{Answer, account, created, done, ok, param, read_body};
use crate::api::body::not_among;
use crate::api::error::{ApiError, Problem, Step};
use crate::api::ids;
use crate::api::page::Part;
use crate::api::times::told;
use crate::state::Conda;

const STATUSES: [&str; 7] = ["pending", "queued", "running", "success", "failed", "timeout", "cancelled"];
/// Of a task, which is a job's work on one package. No job of ours has any.
const TASK_STATUSES: [&str; 6] = ["created", "pending", "running", "success", "failed", "skipped"];

#[derive(Debug, Serialize)]
struct JobTold {
    manifest: String,
    start_at: Option<String>,
    repeat_every_seconds: Option<i64>,
    id: i64,
    owner_id: Uuid,
    created: String,
    status: String,
    items_spec: Option<String>,
    #[serde(skip)]
    owner: String,
}

fn read_job(row: &Row) -> Result<JobTold, DbError> {
    let owner: String = row.try_get(1)?;
    Ok(JobTold {
        id: row.try_get(0)?,
        owner_id: ids::id("user", &owner),
        manifest: row.try_get(2)?,
        items_spec: row.try_get(3)?,
        start_at: row.try_get::<_, Option<Timestamp>>(4)?.map(told),
        repeat_every_seconds: row.try_get(5)?,
        status: row.try_get(6)?,
        created: told(row.try_get(7)?),
        owner,
    })
}

/// What somebody wants to be done.
#[derive(Debug)]
struct Wanted<'a> {
    channel: Option<i64>,
    manifest: &'a str,
    items_spec: Option<String>,
    start_at: Option<Timestamp>,
    repeat_every_seconds: Option<i64>,
}

/// Writes down what was asked for, and that it is done.
async fn finished(state: &Conda, call: &Call, wanted: Wanted<'_>) -> Result<JobTold, ApiError> {
    let owner = account(call)?.as_str();
    let now = state.store.clock().now();
    let tx = state.store.begin().await?;
    let params: [Param<'_>; 8] = [
        &wanted.channel,
        &owner,
        &wanted.manifest,
        &wanted.items_spec,
        &wanted.start_at,
        &wanted.repeat_every_seconds,
        &"success",
        &now,
    ];
    let row = tx.query_opt(&state.api_sql.insert_job, &params).await?;
    let id: i64 = row.ok_or_else(|| DbError::decode("job", "no row came back"))?.try_get(0)?;
    let detail = json!({ "job": id, "manifest": wanted.manifest });
    tx.audit(&call.audit_entry("ask for a job", None, detail)).await?;
    tx.commit().await?;
    Ok(JobTold {
        manifest: wanted.manifest.to_owned(),
        start_at: wanted.start_at.map(told),
        repeat_every_seconds: wanted.repeat_every_seconds,
        id,
        owner_id: ids::id("user", owner),
        created: told(now),
        status: "success".to_owned(),
        items_spec: wanted.items_spec,
        owner: owner.to_owned(),
    })
}

/// `PUT /api/channels/CHANNEL/actions`.
pub(super) async fn act(state: Arc<Conda>, mut call: Call) -> Answer {
    let mut fields = read_body(&mut call).await?;
    let action = fields.word("action", &ACTIONS);
    if !fields.has("action") {
        fields.required_text("action");
    }
    let start_at = fields.time("start_at");
    let repeat_every_seconds = fields.number("repeat_every_seconds");
    fields.finish()?;
    let action = action.ok_or_else(|| ApiError::unprocessable("name an action"))?;
    let channel = Arc::clone(call.channel()?);
    if action.starts_with("cleanup") {
        call.check(Action::Administer, None)?;
    }
    // Only mirrors have something to fetch. How that goes is told by `…/synchronization`.
    let is_mirror = matches!(channel.settings.source, Source::Mirror(_));
    if is_mirror && action.starts_with("synchronize") {
        state.synchronize(&channel).await?;
    } else if matches!(action, "synchronize" | "synchronize_repodata") {
        let message = format!("Action ChannelActionEnum.{action} not allowed for channel {}", channel.name);
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message).into());
    }
    let channel = Some(channel.id());
    let wanted = Wanted { channel, manifest: action, items_spec: None, start_at, repeat_every_seconds };
    ok(&finished(&state, &call, wanted).await?)
}

async fn is_elevated(call: &Call) -> Result<bool, ApiError> {
    let role = call.arrival.services.identity.server_role(&call.caller).await?;
    Ok(role >= Some(ServerRole::Maintainer))
}

/// The statuses that a query asks for.
fn statuses(call: &Call, known: &[&str], usual: &[&str]) -> Result<Vec<String>, ApiError> {
    let asked: Vec<String> = call.arrival.query.all("status").map(str::to_owned).collect();
    if asked.is_empty() {
        return Ok(usual.iter().map(|status| (*status).to_owned()).collect());
    }
    for (place, status) in asked.iter().enumerate() {
        if !known.contains(&status.as_str()) {
            let loc = vec!["query".into(), "status".into(), Step::Place(place)];
            return Err(not_among(loc, status.as_str().into(), known).into());
        }
    }
    Ok(asked)
}

/// `GET /api/jobs`: one's own, and all for maintainers.
pub(super) async fn list(state: Arc<Conda>, call: Call) -> Answer {
    let statuses = statuses(&call, &STATUSES, &["pending", "running"])?;
    let part = Part::of(&call.arrival.query)?;
    let owner = account(&call)?.as_str();
    let owner = if is_elevated(&call).await? { None } else { Some(owner) };
    let database = state.store.database();
    let params: [Param<'_>; 4] = [&statuses, &owner, &part.skip, &part.limit];
    let rows = database.query(&state.api_sql.jobs, &params).await?;
    let jobs = rows.iter().map(read_job).collect::<Result<Vec<_>, _>>()?;
    let row = database.query_opt(&state.api_sql.count_jobs, &[&statuses, &owner]).await?;
    let total: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    ok(&part.told(jobs, usize::try_from(total).unwrap_or(usize::MAX)))
}

/// `POST /api/jobs`: for maintainers.
pub(super) async fn create(state: Arc<Conda>, mut call: Call) -> Answer {
    let mut fields = read_body(&mut call).await?;
    let manifest = fields.required_text("manifest");
    let items_spec = Some(fields.required_text("items_spec"));
    let start_at = fields.time("start_at");
    let repeat_every_seconds = fields.number("repeat_every_seconds");
    // What fetches something is asked of a channel.
    let mut known = ACTIONS.iter().filter(|action| !action.starts_with("synchronize"));
    if fields.has("manifest") && !known.any(|action| *action == manifest) {
        let message = match manifest.split_once(':') {
            Some((plugin, _)) => format!("invalid function {manifest}: plugin {plugin} not installed"),
            None => {
                format!("invalid function {manifest}: no such built-in function, please provide plugin name")
            }
        };
        fields.senseless("manifest", &message);
    }
    fields.finish()?;
    if !is_elevated(&call).await? {
        return Err(Refusal::forbidden("this operation requires owner or maintainer roles").into());
    }
    let wanted = Wanted { channel: None, manifest: &manifest, items_spec, start_at, repeat_every_seconds };
    created(&finished(&state, &call, wanted).await?)
}

/// The job that the path names: one's own, or any for maintainers.
async fn job(state: &Conda, call: &Call) -> Result<JobTold, ApiError> {
    let text = param(call, "job");
    let problem = || Problem {
        kind: "int_parsing",
        loc: vec!["path".into(), "job_id".into()],
        msg: "Input should be a valid integer, unable to parse string as an integer".to_owned(),
        input: text.into(),
        ctx: None,
    };
    let id: i64 = text.parse().map_err(|_| problem())?;
    let row = state.store.database().query_opt(&state.api_sql.job, &[&id]).await?;
    let job = row.as_ref().map(read_job).transpose()?;
    let own = call.caller.account().map(SubjectName::as_str);
    let is_own = own.is_some() && job.as_ref().map(|job| job.owner.as_str()) == own;
    let visible = is_own || is_elevated(call).await?;
    let unknown = || Refusal::not_found(format!("Job with id {id} not found"));
    Ok(job.filter(|_| visible).ok_or_else(unknown)?)
}

/// `GET /api/jobs/JOB`.
pub(super) async fn show(state: Arc<Conda>, call: Call) -> Answer {
    ok(&job(&state, &call).await?)
}

/// `PATCH /api/jobs/JOB`: what is done stays done; asking for it again is one more job.
pub(super) async fn change(state: Arc<Conda>, mut call: Call) -> Answer {
    let mut fields = read_body(&mut call).await?;
    let status = fields.word("status", &STATUSES);
    fields.text("items_spec");
    fields.truth("force");
    fields.finish()?;
    let job = job(&state, &call).await?;
    if status.is_none_or(|status| status == job.status) {
        return done();
    }
    Err(Refusal::conflict(format!("job {} has ended: its status is {}", job.id, job.status)).into())
}

/// `GET /api/jobs/JOB/tasks`: none.
pub(super) async fn tasks(state: Arc<Conda>, call: Call) -> Answer {
    statuses(&call, &TASK_STATUSES, &[])?;
    let part = Part::of(&call.arrival.query)?;
    job(&state, &call).await?;
    ok(&part.told(Vec::<Value>::new(), 0))
}
