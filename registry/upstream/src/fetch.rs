//! What was fetched from another registry: asked for once for all who wait, and kept in the channel's bucket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use granary_core::Sha256;
use granary_store::objects::{StoredObject, Upload};
use granary_store::{BlobId, Channel, DbError, Scope, Stamp, Store};
use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Response, StatusCode, Url};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::client::failure;
use crate::inspect::Inspector;
use crate::sql::Statements;
use crate::{Client, Fault, Outcome, UpstreamError};

/// How long it is remembered that the other registry has no such thing.
const ABSENT_FOR: Duration = Duration::from_secs(10);
/// How long it is remembered that it gave no good answer: meanwhile nobody waits for it.
const FAILED_FOR: Duration = Duration::from_secs(3);
/// How many files are remembered.
const REMEMBERED: u64 = 50_000;
/// How many fetches are under way at once.
const AT_ONCE: usize = 64;
/// The longest that one may take, however it trickles.
const LONGEST: Duration = Duration::from_hours(1);

/// How long what was fetched is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For good: the same URL never leads to other bytes.
    Forever,
    /// For so long; then the other registry is asked whether it has changed.
    For(Duration),
}

/// Something of another registry.
#[derive(Clone)]
pub struct Wanted {
    /// What it is called here, below the channel.
    pub path: Arc<str>,
    /// Where it is.
    pub url: Url,
    /// Whether that may be an address that the internet does not reach.
    pub allow_private: bool,
    /// How long it is good for.
    pub keep: Keep,
    /// The most bytes that it may have.
    pub limit: u64,
    /// The digest that it has to have.
    pub sha256: Option<Sha256>,
    /// Reads it as it comes.
    pub inspect: Arc<dyn Fn() -> Inspector + Send + Sync>,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted")
            .field("path", &self.path)
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// Something of another registry that is kept here.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The digest of its bytes.
    pub sha256: Sha256,
    /// How many there are.
    pub size: u64,
    /// The object that holds them.
    pub object_key: Arc<str>,
    /// When they came.
    pub fetched_at: Timestamp,
    /// What was noted of them.
    pub facts: Arc<Value>,
    /// When it was last known to be what the other registry has, where that cannot be asked now.
    pub stale_since: Option<Timestamp>,
    url: Arc<str>,
    etag: Option<Arc<str>>,
    last_modified: Option<Arc<str>>,
}

type Key = (Scope, Arc<str>);
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// Fetches and keeps. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    client: Client,
    sql: Statements,
    known: Cache<Key, (Option<Stamp>, Option<Kept>)>,
    checked: Cache<Key, Timestamp>,
    absent: Cache<Key, ()>,
    failed: Cache<Key, Arc<UpstreamError>>,
    flights: Mutex<HashMap<(Key, String), Flight>>,
    turns: Semaphore,
}

/// The document that changes when other bytes are kept.
fn document(path: &str) -> String {
    format!("upstream:{path}")
}

impl Upstream {
    /// Keeps what `client` fetches in the buckets of `store`.
    pub fn new(store: Store, client: Client) -> Self {
        let sql = Statements::new(store.database().schema());
        let short = |time| Cache::builder().max_capacity(REMEMBERED).time_to_live(time).build();
        Self(Arc::new(Inner {
            store,
            client,
            sql,
            known: Cache::new(REMEMBERED),
            checked: Cache::new(REMEMBERED),
            absent: short(ABSENT_FOR),
            failed: Cache::builder().max_capacity(REMEMBERED).time_to_live(FAILED_FOR).build(),
            flights: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }))
    }

    /// The client, for what is not kept.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Something of another registry, as good as [`Wanted::keep`] asks for. The caller has refreshed the channel's scope.
    ///
    /// Where the other registry gives no good answer, what is kept is returned and says so; nothing takes its place.
    ///
    /// # Errors
    /// Where nothing is kept, and why nothing came; and where it is a fault of ours.
    pub async fn get(&self, channel: &Arc<Channel>, wanted: Wanted) -> Outcome {
        let key: Key = (channel.scope, Arc::clone(&wanted.path));
        let kept = self.kept(channel, &wanted.path).await.map_err(|error| Arc::new(error.into()))?;
        let kept = kept.filter(|kept| *kept.url == *wanted.url.as_str());
        let is_other = |kept: &Kept| wanted.sha256.is_some_and(|sha256| sha256 != kept.sha256);
        // Never in the place of what they are not.
        let kept = kept.filter(|kept| !is_other(kept));
        if let Some(kept) = &kept {
            let is_good = match wanted.keep {
                Keep::Forever => true,
                Keep::For(time) => self.is_checked_within(&key, time),
            };
            if is_good {
                return Ok(Some(kept.clone()));
            }
        }
        if self.0.absent.contains_key(&key) {
            return Ok(None);
        }
        if let Some(error) = self.0.failed.get(&key) {
            return self.instead(&key, kept, error);
        }
        let flight = self.join(channel, key.clone(), wanted, kept.clone());
        match flight.await {
            Err(error) => self.instead(&key, kept, error),
            outcome => outcome,
        }
    }

    /// What is kept, where the other registry is to blame for there being nothing newer.
    fn instead(&self, key: &Key, kept: Option<Kept>, error: Arc<UpstreamError>) -> Outcome {
        match kept {
            Some(kept) if error.fault() != Fault::Own => {
                let since = self.0.checked.get(key).unwrap_or(kept.fetched_at);
                Ok(Some(Kept { stale_since: Some(since), ..kept }))
            }
            _ => Err(error),
        }
    }

    fn is_checked_within(&self, key: &Key, time: Duration) -> bool {
        let now = self.0.store.clock().now();
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        self.0.checked.get(key).is_some_and(|checked| now.duration_since(checked) < time)
    }

    /// What is kept under a path, however old it is. The caller has refreshed the channel's scope.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn kept(&self, channel: &Channel, path: &Arc<str>) -> Result<Option<Kept>, DbError> {
        let Inner { store, known, sql, .. } = &*self.0;
        let key = (channel.scope, Arc::clone(path));
        // The stamp first: a change that comes after it makes the entry stale, never wrongly fresh.
        let stamp = store.revisions().stamp(channel.scope, &document(path));
        if let Some((_, kept)) = known.get(&key).filter(|(known, _)| stamp.is_some() && *known == stamp) {
            return Ok(kept);
        }
        let row = store.database().query_opt(&sql.file, &[&channel.id(), &&**path]).await?;
        let kept = row.as_ref().map(read).transpose()?;
        known.insert(key, (stamp, kept.clone()));
        Ok(kept)
    }

    /// The fetch of this that is under way, or a new one. It goes on though nobody waits for it any more.
    fn join(&self, channel: &Arc<Channel>, key: Key, wanted: Wanted, kept: Option<Kept>) -> Flight {
        let flight_key = (key.clone(), wanted.url.to_string());
        let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&flight_key) {
            return flight.clone();
        }
        let (upstream, channel, ended) = (self.clone(), Arc::clone(channel), flight_key.clone());
        let task = tokio::spawn(async move {
            let asked_at = upstream.0.store.clock().now();
            let work = upstream.ask(&channel, &wanted, kept);
            let timed = tokio::time::timeout(LONGEST, work).await;
            let outcome = timed.unwrap_or_else(|_| Err(UpstreamError::TimedOut(wanted.url.clone())));
            let outcome = outcome.map_err(Arc::new);
            match &outcome {
                Ok(Some(_)) => upstream.0.checked.insert(key, asked_at),
                Ok(None) => upstream.0.absent.insert(key, ()),
                Err(error) => {
                    let told = granary_core::report(&**error);
                    tracing::warn!(
                        channel = channel.full_name(),
                        path = &*wanted.path,
                        error = told,
                        "another registry gave no good answer"
                    );
                    if error.fault() != Fault::Own {
                        upstream.0.failed.insert(key, Arc::clone(error));
                    }
                }
            }
            let mut flights = upstream.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.remove(&ended);
            outcome
        });
        let flight = async move { task.await.unwrap_or_else(|_| Err(Arc::new(UpstreamError::Interrupted))) };
        let flight = flight.boxed().shared();
        flights.insert(flight_key, flight.clone());
        flight
    }

    async fn ask(
        &self,
        channel: &Arc<Channel>,
        wanted: &Wanted,
        kept: Option<Kept>,
    ) -> Result<Option<Kept>, UpstreamError> {
        let _turn = self.0.turns.acquire().await.map_err(|_| UpstreamError::Interrupted)?;
        let headers = conditions(kept.as_ref());
        let answer = self.0.client.get(&wanted.url, &headers, wanted.allow_private).await?;
        match (answer.status(), kept) {
            (StatusCode::NOT_MODIFIED, Some(kept)) => Ok(Some(kept)),
            (StatusCode::OK, _) => self.receive(channel, wanted, answer).await.map(Some),
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => {
                self.forget(channel, &wanted.path).await?;
                Ok(None)
            }
            (status, _) => Err(UpstreamError::Status { url: wanted.url.clone(), status }),
        }
    }

    /// Takes in the body of an answer; it counts once all of it was looked at.
    async fn receive(
        &self,
        channel: &Arc<Channel>,
        wanted: &Wanted,
        mut answer: Response,
    ) -> Result<Kept, UpstreamError> {
        let (url, limit) = (&wanted.url, wanted.limit);
        let unexpected = |why: String| UpstreamError::Unexpected { url: url.clone(), why };
        let too_large = || UpstreamError::TooLarge { url: url.clone(), limit };
        let header = |name: HeaderName| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(Arc::<str>::from)
        };
        if header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html")) {
            return Err(unexpected("it is a page for people".to_owned()));
        }
        if header(CONTENT_ENCODING).is_some_and(|coding| &*coding != "identity") {
            return Err(unexpected("it is compressed in a way that was not asked for".to_owned()));
        }
        if answer.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let (etag, last_modified) = (header(ETAG), header(LAST_MODIFIED));
        let inspector = (wanted.inspect)();
        let mut is_whole = true;
        let mut upload: Upload = self.0.store.uploads().begin(&channel.bucket, limit).await;
        while let Some(chunk) = answer.chunk().await.map_err(|error| failure(url, error))? {
            if upload.size() + chunk.len() as u64 > limit {
                return Err(too_large());
            }
            upload.write(&chunk).await?;
            if !inspector.write(chunk).await {
                is_whole = false;
                break;
            }
        }
        let facts = inspector.finish().await.map_err(unexpected)?;
        if !is_whole {
            return Err(unexpected("it goes on behind its end".to_owned()));
        }
        if let Some(expected) = wanted.sha256
            && upload.digests().sha256 != expected
        {
            return Err(unexpected(format!(
                "its index says that its SHA-256 is {expected}, which it is not"
            )));
        }
        let stored = upload.finish().await?;
        let kept = Kept {
            sha256: stored.digests.sha256,
            size: stored.digests.size,
            object_key: stored.key.as_str().into(),
            fetched_at: self.0.store.clock().now(),
            facts: Arc::new(facts),
            stale_since: None,
            url: url.as_str().into(),
            etag,
            last_modified,
        };
        self.put(channel, &wanted.path, &kept, &stored).await?;
        // The row of equal bytes may name another object.
        let put =
            self.0.store.database().query_opt(&self.0.sql.file, &[&channel.id(), &&*wanted.path]).await?;
        put.as_ref().map_or(Ok(kept), |row| Ok(read(row)?))
    }

    async fn put(
        &self,
        channel: &Channel,
        path: &str,
        kept: &Kept,
        stored: &StoredObject,
    ) -> Result<(), UpstreamError> {
        let sql = &self.0.sql;
        let mut tx = self.0.store.begin().await?;
        let before = self.lock(&tx, channel, path).await?;
        let BlobId(blob) = tx.attach_blob(channel, stored).await?;
        let (etag, last_modified) = (kept.etag.as_deref(), kept.last_modified.as_deref());
        tx.execute(
            &sql.put_file,
            &[
                &channel.id(),
                &path,
                &&*kept.url,
                &etag,
                &last_modified,
                &kept.fetched_at,
                &*kept.facts,
                &blob,
            ],
        )
        .await?;
        if let Some(before) = before {
            tx.release_blob(before).await?;
        }
        tx.touch(channel.scope, document(path));
        tx.commit().await?;
        // What this process knows of the scope's revision may be a little older, and asks for nothing new.
        self.0.known.invalidate(&(channel.scope, path.into()));
        Ok(())
    }

    /// Forgets what the other registry has no more.
    async fn forget(&self, channel: &Channel, path: &str) -> Result<(), UpstreamError> {
        let mut tx = self.0.store.begin().await?;
        if let Some(before) = self.lock(&tx, channel, path).await? {
            tx.execute(&self.0.sql.delete_file, &[&channel.id(), &path]).await?;
            tx.release_blob(before).await?;
            tx.touch(channel.scope, document(path));
            tx.commit().await?;
            self.0.known.invalidate(&(channel.scope, path.into()));
        } else {
            tx.rollback().await?;
        }
        Ok(())
    }

    /// What stands under a path, which nobody else changes until the transaction ends.
    async fn lock(
        &self,
        tx: &granary_store::PublishTx,
        channel: &Channel,
        path: &str,
    ) -> Result<Option<BlobId>, DbError> {
        tx.execute(&self.0.sql.lock_path, &[&channel.id(), &path]).await?;
        let row = tx.query_opt(&self.0.sql.file_blob, &[&channel.id(), &path]).await?;
        row.map(|row| Ok(BlobId(row.try_get(0)?))).transpose()
    }
}

/// Asks only for what is not kept already, in the form that is kept.
fn conditions(kept: Option<&Kept>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let Some(kept) = kept else { return headers };
    for (name, value) in [(IF_NONE_MATCH, &kept.etag), (IF_MODIFIED_SINCE, &kept.last_modified)] {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

fn read(row: &tokio_postgres::Row) -> Result<Kept, DbError> {
    let text = |index: usize| Ok::<_, DbError>(row.try_get::<_, Option<&str>>(index)?.map(Arc::from));
    Ok(Kept {
        url: row.try_get::<_, &str>(0)?.into(),
        etag: text(1)?,
        last_modified: text(2)?,
        fetched_at: row.try_get(3)?,
        facts: Arc::new(row.try_get(4)?),
        sha256: Sha256::try_from(row.try_get::<_, &[u8]>(5)?)
            .map_err(|error| DbError::decode("digest", error))?,
        size: u64::try_from(row.try_get::<_, i64>(6)?).map_err(|error| DbError::decode("size", error))?,
        object_key: row.try_get::<_, &str>(7)?.into(),
        stale_since: None,
    })
}
