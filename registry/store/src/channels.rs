//! The channels that this registry serves: found by name, remembered for as long as they are unchanged.

use std::collections::HashMap;
use std::sync::Arc;

use granary_core::{Action, ChannelName, Decision, Format, Grant, Grants, Principal, decide};
use granary_crds::ChannelSettings;
use moka::sync::Cache;
use serde_json::Value;
use tokio_postgres::Row;

use crate::DbError;
use crate::database::Database;
use crate::revision::{Revisions, Scope, Stamp};
use crate::sql::Statements;

/// How many names are remembered, also those that no channel has.
const REMEMBERED: u64 = 20_000;

/// A channel as it is served.
#[derive(Debug, Clone)]
pub struct Channel {
    /// What its revision and its rows go by.
    pub scope: Scope,
    /// Its format.
    pub format: Format,
    /// Its name in URLs.
    pub name: ChannelName,
    /// The bucket of its files.
    pub bucket: Arc<str>,
    /// How it is set up.
    pub settings: ChannelSettings,
    /// Who may do what.
    pub grants: Grants,
}

impl Channel {
    /// Whether the principal may do this to the package, or without one to any package of the channel.
    pub fn allows(&self, principal: &Principal, action: Action, package: Option<&str>) -> bool {
        self.decide(principal, action, package).is_allowed()
    }

    /// Like [`Channel::allows`], with the grant that decided.
    pub fn decide(&self, principal: &Principal, action: Action, package: Option<&str>) -> Decision<'_> {
        decide(&self.grants, principal, self.format, &self.name, action, package)
    }

    /// `format/name`, as the audit and tokens name it.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.format, self.name)
    }

    /// The channel's id, to which the rows of a protocol refer.
    pub fn id(&self) -> i64 {
        self.scope.0
    }
}

/// Whether a channel is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// Waits for its bucket.
    Pending,
    /// Is served.
    Active,
    /// Its resource is gone; bucket and rows are kept.
    Retired,
    /// Bucket and rows are being removed.
    Deleting,
}

impl ChannelState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Deleting => "deleting",
        }
    }

    pub(crate) fn read(text: &str) -> Result<Self, DbError> {
        [Self::Pending, Self::Active, Self::Retired, Self::Deleting]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| DbError::decode("channel state", text.to_owned()))
    }
}

pub(crate) fn channel_document(format: Format, name: &str) -> String {
    format!("channel:{format}/{name}")
}

type Remembered = (Option<Stamp>, Option<Arc<Channel>>);

/// Finds channels.
#[derive(Debug, Clone)]
pub struct Directory {
    database: Database,
    sql: Arc<Statements>,
    revisions: Revisions,
    remembered: Cache<Arc<str>, Remembered>,
}

impl Directory {
    pub(crate) fn new(database: Database, sql: Arc<Statements>, revisions: Revisions) -> Self {
        Self { database, sql, revisions, remembered: Cache::new(REMEMBERED) }
    }

    /// The channel of this name, if it is served. The caller has refreshed [`Scope::REGISTRY`] for the request.
    pub async fn find(&self, format: Format, name: &ChannelName) -> Result<Option<Arc<Channel>>, DbError> {
        let document = channel_document(format, name.as_str());
        let stamp = self.revisions.stamp(Scope::REGISTRY, &document);
        if let Some((remembered, channel)) = self.remembered.get(document.as_str())
            && remembered == stamp
        {
            return Ok(channel);
        }
        let channel = self.load(format, name).await?.map(Arc::new);
        self.remembered.insert(document.into(), (stamp, channel.clone()));
        Ok(channel)
    }

    /// The scope that the channel of this name had when it was last found: a hint, to be checked by
    /// [`Directory::find`].
    pub fn remembered_scope(&self, format: Format, name: &ChannelName) -> Option<Scope> {
        let (_, channel) = self.remembered.get(channel_document(format, name.as_str()).as_str())?;
        channel.map(|channel| channel.scope)
    }

    async fn load(&self, format: Format, name: &ChannelName) -> Result<Option<Channel>, DbError> {
        let row =
            self.database.query_opt(&self.sql.channel_by_name, &[&format.as_str(), &name.as_str()]).await?;
        let Some(row) = row else { return Ok(None) };
        if ChannelState::read(row.try_get(4)?)? != ChannelState::Active {
            return Ok(None);
        }
        let scope = Scope(row.try_get(0)?);
        let grants = self.database.query(&self.sql.grants, &[&scope.0]).await?;
        Ok(Some(Channel {
            scope,
            format,
            name: name.clone(),
            bucket: row.try_get::<_, &str>(1)?.into(),
            settings: read_settings(row.try_get(2)?)?,
            grants: read_grants(&grants)?.into(),
        }))
    }

    /// Every channel of a format that is served, by its name. Two queries, whatever their number.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of_format(&self, format: Format) -> Result<Vec<Channel>, DbError> {
        let rows = self.database.query(&self.sql.channels_of_format, &[&format.as_str()]).await?;
        let mut grants: HashMap<i64, Vec<Grant>> = HashMap::new();
        for row in &self.database.query(&self.sql.grants_of_format, &[&format.as_str()]).await? {
            let grant =
                serde_json::from_value(row.try_get(1)?).map_err(|error| DbError::decode("grant", error))?;
            grants.entry(row.try_get(0)?).or_default().push(grant);
        }
        let mut read = |row: &Row| {
            let scope = Scope(row.try_get(0)?);
            Ok(Channel {
                scope,
                format,
                name: read_name(format, row.try_get(1)?)?,
                bucket: row.try_get::<_, &str>(2)?.into(),
                settings: read_settings(row.try_get(3)?)?,
                grants: grants.remove(&scope.0).unwrap_or_default().into(),
            })
        };
        rows.iter().map(&mut read).collect()
    }

    /// Every channel that is served, by format and name.
    pub async fn all(&self) -> Result<Vec<Channel>, DbError> {
        let rows = self.database.query(&self.sql.channels, &[]).await?;
        let mut channels = Vec::new();
        for row in &rows {
            if ChannelState::read(row.try_get(6)?)? != ChannelState::Active {
                continue;
            }
            let format: Format = row
                .try_get::<_, &str>(1)?
                .parse()
                .map_err(|error| DbError::decode("channel format", error))?;
            let scope = Scope(row.try_get(0)?);
            let grants = self.database.query(&self.sql.grants, &[&scope.0]).await?;
            channels.push(Channel {
                scope,
                format,
                name: read_name(format, row.try_get(2)?)?,
                bucket: row.try_get::<_, &str>(3)?.into(),
                settings: read_settings(row.try_get(4)?)?,
                grants: read_grants(&grants)?.into(),
            });
        }
        Ok(channels)
    }
}

pub(crate) fn read_name(format: Format, name: &str) -> Result<ChannelName, DbError> {
    ChannelName::parse(format, name).map_err(|error| DbError::decode("channel name", error))
}

pub(crate) fn read_settings(json: Value) -> Result<ChannelSettings, DbError> {
    serde_json::from_value(json).map_err(|error| DbError::decode("channel settings", error))
}

fn read_grants(rows: &[Row]) -> Result<Vec<Grant>, DbError> {
    rows.iter()
        .map(|row| serde_json::from_value(row.try_get(0)?).map_err(|error| DbError::decode("grant", error)))
        .collect()
}
