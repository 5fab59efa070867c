//! What the API tells of the packages of a channel, read from their rows.

use std::collections::HashMap;

use granary_core::ReadFilter;
use granary_store::{Channel, DbError, Param};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::api::ids;
use crate::api::page::Part;
use crate::api::times::told;
use crate::format::version;
use crate::state::Conda;

/// How many names are read at a time where some of them are left out.
const BATCH: i64 = 5000;

/// A package's name, and when it changed last.
pub(crate) type Named = (String, Timestamp);

/// In which order packages are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By their names.
    Name,
    /// By their names, backwards.
    NameBackwards,
    /// By when they changed last.
    Change,
    /// By when they changed last, the latest first.
    ChangeBackwards,
}

impl Order {
    /// What `order_by` asks for: the first of its fields that is known.
    pub(crate) fn read(text: &str) -> Self {
        for field in text.split(',') {
            let (name, backwards) = match field.split_once(':') {
                Some((name, direction)) => (name, direction == "desc"),
                // As the clients of Quetz know it.
                None => (field, true),
            };
            match (name, backwards) {
                ("name", false) => return Self::Name,
                ("name", true) => return Self::NameBackwards,
                ("latest_change", false) => return Self::Change,
                ("latest_change", true) => return Self::ChangeBackwards,
                _ => {}
            }
        }
        Self::Name
    }
}

/// What is told of a package.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PackageTold {
    pub(crate) name: String,
    pub(crate) summary: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) platforms: Option<Vec<String>>,
    pub(crate) current_version: Option<String>,
    pub(crate) latest_change: Option<String>,
}

/// A file of a package, as its row tells it.
#[derive(Debug, Clone)]
pub(crate) struct VersionRow {
    id: i64,
    pub(crate) subdir: String,
    pub(crate) filename: String,
    pub(crate) version: String,
    build: String,
    build_number: i64,
    uploaded_by: String,
    uploaded_at: Timestamp,
}

/// Who uploaded something, as clients show it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProfileTold {
    pub(crate) name: String,
    pub(crate) avatar_url: &'static str,
}

/// A picture of nothing: clients ask for one, and accounts have none.
const AVATAR: &str = "data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'/%3E";

impl ProfileTold {
    pub(crate) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), avatar_url: AVATAR }
    }
}

/// What is told of a file of a package.
#[derive(Debug, Serialize)]
pub(crate) struct VersionTold {
    id: uuid::Uuid,
    channel_name: String,
    package_name: String,
    platform: String,
    version: String,
    build_string: String,
    build_number: i64,
    filename: String,
    info: Value,
    uploader: ProfileTold,
    time_created: String,
    download_count: i64,
}

impl Conda {
    /// A part of the names of a channel's packages that hold this text, and how many there are in all; of those that `filter`
    /// admits.
    pub(crate) async fn names(
        &self,
        channel: &Channel,
        filter: Option<&ReadFilter>,
        holding: Option<&str>,
        order: Order,
        part: Part,
    ) -> Result<(Vec<Named>, usize), DbError> {
        let Some(filter) = filter else {
            let names = self.names_as_they_are(channel, holding, order, part).await?;
            let params: [Param<'_>; 2] = [&channel.id(), &holding];
            let row = self.store.database().query_opt(&self.api_sql.count_names, &params).await?;
            let total: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
            return Ok((names, usize::try_from(total).unwrap_or(usize::MAX)));
        };
        let (mut found, mut admitted, mut skip) = (Vec::new(), 0_i64, 0);
        loop {
            let batch = Part { skip, limit: Some(BATCH) };
            let names = self.names_as_they_are(channel, holding, order, batch).await?;
            if names.is_empty() {
                return Ok((found, usize::try_from(admitted).unwrap_or(usize::MAX)));
            }
            for named in names.into_iter().filter(|(name, _)| filter.admits(name)) {
                if part.has(admitted) {
                    found.push(named);
                }
                admitted += 1;
            }
            skip += BATCH;
        }
    }

    /// A part of all names, whoever asks.
    pub(crate) async fn names_as_they_are(
        &self,
        channel: &Channel,
        holding: Option<&str>,
        order: Order,
        part: Part,
    ) -> Result<Vec<Named>, DbError> {
        let sql = match order {
            Order::Name => &self.api_sql.names,
            Order::NameBackwards => &self.api_sql.names_backwards,
            Order::Change => &self.api_sql.names_by_change,
            Order::ChangeBackwards => &self.api_sql.names_by_change_backwards,
        };
        let params: [Param<'_>; 4] = [&channel.id(), &holding, &part.skip, &part.limit];
        let rows = self.store.database().query(sql, &params).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// The package of this name; none where the channel has none.
    pub(crate) async fn named(&self, channel: &Channel, name: &str) -> Result<Option<Named>, DbError> {
        let row = self.store.database().query_opt(&self.api_sql.name, &[&channel.id(), &name]).await?;
        row.map(|row| Ok((name.to_owned(), row.try_get(0)?))).transpose()
    }

    /// What is told of these packages, in their order.
    pub(crate) async fn describe(
        &self,
        channel: &Channel,
        names: &[Named],
    ) -> Result<Vec<PackageTold>, DbError> {
        #[derive(Default)]
        struct Known {
            platforms: Vec<String>,
            newest: Option<(String, i64)>,
        }
        let (database, sql) = (self.store.database(), &self.api_sql);
        let wanted: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        let mut known: HashMap<String, Known> = HashMap::new();
        for row in &database.query(&sql.described, &[&channel.id(), &wanted]).await? {
            let (text, platforms): (String, Vec<String>) = (row.try_get(1)?, row.try_get(2)?);
            let package = known.entry(row.try_get(0)?).or_default();
            package.platforms.extend(platforms);
            let is_newer = |(newest, _): &(String, i64)| version::order(&text, newest).is_gt();
            if package.newest.as_ref().is_none_or(is_newer) {
                package.newest = Some((text, row.try_get(3)?));
            }
        }
        let ids: Vec<i64> =
            known.values().filter_map(|known| known.newest.as_ref().map(|(_, id)| *id)).collect();
        let mut abouts: HashMap<i64, Value> = HashMap::new();
        for row in &database.query(&sql.abouts, &[&ids]).await? {
            let about: Option<&str> = row.try_get(1)?;
            let about = about.and_then(|about| serde_json::from_str(about).ok());
            abouts.insert(row.try_get(0)?, about.unwrap_or_default());
        }
        let mut announced: HashMap<String, (Option<String>, Option<String>)> = HashMap::new();
        for row in &database.query(&sql.announced, &[&channel.id(), &wanted]).await? {
            announced.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
        }
        let told = |(name, changed_at): &Named| {
            let mut package = known.remove(name).unwrap_or_default();
            package.platforms.sort_unstable();
            package.platforms.dedup();
            let (version, about) = match package.newest {
                Some((version, id)) => (Some(version), abouts.remove(&id)),
                None => (None, None),
            };
            let text =
                |field: &str| about.as_ref().map(|about| about[field].as_str().unwrap_or("n/a").to_owned());
            let (summary, description) = announced.remove(name).unwrap_or_default();
            PackageTold {
                name: name.clone(),
                summary: text("summary").or(summary),
                description: text("description").or(description),
                url: about.as_ref().map(|about| about["home"].as_str().unwrap_or_default().to_owned()),
                platforms: about.is_some().then_some(package.platforms),
                latest_change: version.is_some().then(|| told(*changed_at)),
                current_version: version,
            }
        };
        Ok(names.iter().map(told).collect())
    }

    /// The files of a package, the newest version first; those that were uploaded since, where that is given.
    pub(crate) async fn versions(
        &self,
        channel: &Channel,
        name: &str,
        since: Option<Timestamp>,
    ) -> Result<Vec<VersionRow>, DbError> {
        let params: [Param<'_>; 3] = [&channel.id(), &name, &since];
        let rows = self.store.database().query(&self.api_sql.versions, &params).await?;
        let mut versions = rows.iter().map(read_version).collect::<Result<Vec<_>, _>>()?;
        versions.sort_by(|left, right| {
            version::order(&right.version, &left.version)
                .then_with(|| right.build_number.cmp(&left.build_number))
                .then_with(|| right.uploaded_at.cmp(&left.uploaded_at))
                .then_with(|| left.id.cmp(&right.id))
        });
        Ok(versions)
    }

    /// One file of a package.
    pub(crate) async fn version(
        &self,
        channel: &Channel,
        name: &str,
        subdir: &str,
        filename: &str,
    ) -> Result<Option<VersionRow>, DbError> {
        let params: [Param<'_>; 4] = [&channel.id(), &name, &subdir, &filename];
        let row = self.store.database().query_opt(&self.api_sql.version, &params).await?;
        row.as_ref().map(read_version).transpose()
    }

    /// What is told of these files of a package.
    pub(crate) async fn tell_versions(
        &self,
        channel: &Channel,
        name: &str,
        rows: Vec<VersionRow>,
    ) -> Result<Vec<VersionTold>, DbError> {
        let database = self.store.database();
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut records: HashMap<i64, Value> = HashMap::new();
        for row in &database.query(&self.api_sql.version_records, &[&ids]).await? {
            let record: &str = row.try_get(1)?;
            let record = serde_json::from_str(record).map_err(|error| DbError::decode("record", error))?;
            records.insert(row.try_get(0)?, record);
        }
        let mut downloads: HashMap<String, i64> = HashMap::new();
        for row in &database.query(&self.api_sql.downloads, &[&channel.id(), &name]).await? {
            downloads.insert(row.try_get(0)?, row.try_get(1)?);
        }
        let told = |row: VersionRow| {
            let place = format!("{}/{}", row.subdir, row.filename);
            VersionTold {
                id: ids::id("file", &format!("{}/{place}", channel.name)),
                channel_name: channel.name.to_string(),
                package_name: name.to_owned(),
                version: row.version,
                build_string: row.build,
                build_number: row.build_number,
                info: records.remove(&row.id).unwrap_or_default(),
                uploader: ProfileTold::of(&row.uploaded_by),
                time_created: told(row.uploaded_at),
                download_count: downloads.get(&place).copied().unwrap_or(0),
                platform: row.subdir,
                filename: row.filename,
            }
        };
        Ok(rows.into_iter().map(told).collect())
    }
}

fn read_version(row: &tokio_postgres::Row) -> Result<VersionRow, DbError> {
    Ok(VersionRow {
        id: row.try_get(0)?,
        subdir: row.try_get(1)?,
        filename: row.try_get(2)?,
        version: row.try_get(3)?,
        build: row.try_get(4)?,
        build_number: row.try_get(5)?,
        uploaded_by: row.try_get(6)?,
        uploaded_at: row.try_get(7)?,
    })
}
