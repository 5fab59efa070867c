//! `channeldata.json` and `rss.xml`: what is told of each name, of all its packages in all subdirs.
//!
//! A publish only notes that the name's record is out of date. It is made when somebody asks, and kept in its row, so that the
//! whole document is read from one row a name.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use granary_core::ReadFilter;
use granary_http::index::{IndexKey, RangeSource, Section};
use granary_http::stored_index::{StoredDocument, StoredSource};
use granary_http::{Call, Refusal};
use granary_store::{Channel, DbError, PublishTx};
use serde_json::{Map, Value};

use crate::documents::class_of;
use crate::format::channeldata::{self, Item};
use crate::format::facts::facts_of_about;
use crate::format::{PackageName, Subdir, rss};
use crate::index::filter_of;
use crate::sql::documents::DocumentStatements;
use crate::state::Conda;

/// What begins the names of the documents that are records of channeldata.
const PREFIX: &str = "channeldata:";
/// How many names are read again when one of them changes.
const MEAN_NAMES: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);
/// Of how many names the packages are read at a time.
const NAMES_AT_ONCE: usize = 100;
/// How many rows are read at a time while some that a reader may see are looked for.
const ROWS_AT_ONCE: i64 = 500;

/// To be called in every transaction that changes a package of this name.
pub(crate) async fn name_changed(
    tx: &mut PublishTx,
    sql: &DocumentStatements,
    channel: &Channel,
    name: &PackageName,
) -> Result<(), DbError> {
    tx.execute(&sql.name_changed, &[&channel.id(), &name.as_str()]).await?;
    tx.touch(channel.scope, format!("{PREFIX}{name}"));
    Ok(())
}

impl Conda {
    /// `channeldata.json`, of the packages that the caller may read.
    pub(crate) async fn channeldata(&self, call: &Call) -> Result<StoredDocument, Refusal> {
        let channel = call.channel()?;
        let filter = filter_of(call)?;
        let key = IndexKey {
            scope: channel.scope,
            document: PREFIX.into(),
            representation: class_of(filter.as_ref()).into(),
        };
        let subdirs = self.subdirs(channel, filter.as_ref()).await?;
        self.index.document(&key, &Names { conda: self, channel, filter, subdirs }).await
    }

    /// The subdirs with packages that `filter` admits, and `noarch`, in their order.
    pub(crate) async fn subdirs(
        &self,
        channel: &Channel,
        filter: Option<&ReadFilter>,
    ) -> Result<Vec<Subdir>, DbError> {
        let rows = self.store.database().query(&self.documents.subdirs, &[&channel.id()]).await?;
        let mut subdirs = Vec::new();
        for row in &rows {
            let subdir: Subdir =
                row.try_get::<_, &str>(0)?.parse().map_err(|error| DbError::decode("subdir", error))?;
            let is_noarch = subdir.as_str() == Subdir::NOARCH;
            if !is_noarch && self.has_any(channel, &subdir, filter).await? {
                subdirs.push(subdir);
            }
        }
        subdirs.push(Subdir::noarch());
        subdirs.sort();
        Ok(subdirs)
    }

    /// Whether the subdir has a package that `filter` admits.
    async fn has_any(
        &self,
        channel: &Channel,
        subdir: &Subdir,
        filter: Option<&ReadFilter>,
    ) -> Result<bool, DbError> {
        let Some(filter) = filter else { return Ok(true) };
        let mut after = String::new();
        loop {
            let params = (channel.id(), subdir.as_str(), after.as_str(), ROWS_AT_ONCE);
            let rows = self
                .store
                .database()
                .query(&self.documents.names_of_subdir, &[&params.0, &params.1, &params.2, &params.3])
                .await?;
            let Some(last) = rows.last() else { return Ok(false) };
            for row in &rows {
                if filter.admits(row.try_get(0)?) {
                    return Ok(true);
                }
            }
            after = last.try_get(0)?;
        }
    }

    /// `rss.xml`, of the packages that the caller may read.
    pub(crate) async fn rss(&self, call: &Call) -> Result<String, Refusal> {
        let channel = call.channel()?;
        let filter = filter_of(call)?;
        self.make_all_channeldata(channel).await?;
        let mut names: Vec<(String, Value)> = Vec::new();
        let (mut newest, mut name) = (i64::MAX, String::new());
        while names.len() < rss::NAMES {
            let params = (channel.id(), newest, name.as_str(), ROWS_AT_ONCE);
            let rows = self
                .store
                .database()
                .query(&self.documents.newest_names, &[&params.0, &params.1, &params.2, &params.3])
                .await?;
            let Some(last) = rows.last() else { break };
            newest = last.try_get(2).map_err(DbError::from)?;
            name = last.try_get(0).map_err(DbError::from)?;
            for row in &rows {
                let name: &str = row.try_get(0).map_err(DbError::from)?;
                if filter.as_ref().is_none_or(|filter| filter.admits(name)) {
                    let record: &str = row.try_get(1).map_err(DbError::from)?;
                    let record = serde_json::from_str(record)
                        .map_err(|error| DbError::decode("channeldata", error))?;
                    names.push((name.to_owned(), record));
                }
            }
        }
        names.truncate(rss::NAMES);
        Ok(rss::feed(&channel.name.to_string(), &call.channel_url(channel), &names))
    }

    /// The channeldata of the names behind `after` in this many rows, of those that `filter` admits.
    pub(crate) async fn channeldata_after(
        &self,
        channel: &Channel,
        after: &str,
        rows: i64,
        filter: Option<&ReadFilter>,
    ) -> Result<NamesPage, Refusal> {
        let params = (channel.id(), after, rows);
        let database = self.store.database();
        let rows =
            database.query(&self.documents.channeldata_after, &[&params.0, &params.1, &params.2]).await?;
        let last = rows.last().map(|row| row.try_get(0)).transpose().map_err(DbError::from)?;
        let names = self.records_of(channel, &rows, filter).await?;
        Ok(NamesPage { names: names.into_iter().collect(), last })
    }

    /// The records in these rows, of names that `filter` admits and that have packages; those that are out of date are made.
    async fn records_of(
        &self,
        channel: &Channel,
        rows: &[tokio_postgres::Row],
        filter: Option<&ReadFilter>,
    ) -> Result<BTreeMap<String, String>, Refusal> {
        let mut records: BTreeMap<String, String> = BTreeMap::new();
        let mut unset = Vec::new();
        for row in rows {
            let name: &str = row.try_get(0).map_err(DbError::from)?;
            if filter.is_some_and(|filter| !filter.admits(name)) {
                continue;
            }
            match row.try_get::<_, Option<String>>(2).map_err(DbError::from)? {
                Some(record) => _ = records.insert(name.to_owned(), record),
                None => unset.push((name.to_owned(), row.try_get(1).map_err(DbError::from)?)),
            }
        }
        records.extend(self.make_channeldata(channel, unset).await?);
        records.retain(|_, record| !record.is_empty());
        Ok(records)
    }

    /// Makes every record that is out of date.
    async fn make_all_channeldata(&self, channel: &Channel) -> Result<(), DbError> {
        loop {
            let rows = self
                .store
                .database()
                .query(&self.documents.unset_channeldata, &[&channel.id(), &ROWS_AT_ONCE])
                .await?;
            if rows.is_empty() {
                return Ok(());
            }
            let unset = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
            self.make_channeldata(channel, unset.collect::<Result<_, DbError>>()?).await?;
        }
    }

    /// Makes the records of these names, which are at these generations, and keeps them: not where a name has changed again
    /// meanwhile. A record is empty where there are no packages.
    async fn make_channeldata(
        &self,
        channel: &Channel,
        names: Vec<(String, i64)>,
    ) -> Result<BTreeMap<String, String>, DbError> {
        let database = self.store.database();
        let mut made = BTreeMap::new();
        for names in names.chunks(NAMES_AT_ONCE) {
            let of_names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
            let rows = database.query(&self.documents.channeldata_items, &[&channel.id(), &of_names]).await?;
            let mut items: BTreeMap<String, Vec<Item>> = BTreeMap::new();
            for row in &rows {
                items.entry(row.try_get(0)?).or_default().push(read_item(row)?);
            }
            drop(rows);
            let generations: Vec<i64> = names.iter().map(|(_, generation)| *generation).collect();
            let data = of_names.iter().map(|name| channeldata::name_data(items.remove(*name)?));
            let data: Vec<Option<channeldata::NameData>> = data.collect();
            let records: Vec<String> = data
                .iter()
                .map(|data| data.as_ref().map(|data| data.record.to_string()).unwrap_or_default())
                .collect();
            let newest: Vec<i64> =
                data.iter().map(|data| data.as_ref().map_or(0, |data| data.newest)).collect();
            database
                .execute(
                    &self.documents.set_channeldata,
                    &[&channel.id(), &of_names, &generations, &records, &newest],
                )
                .await?;
            made.extend(of_names.iter().map(|name| (*name).to_owned()).zip(records));
        }
        Ok(made)
    }
}

/// Names with their channeldata.
pub(crate) struct NamesPage {
    pub(crate) names: Vec<(String, String)>,
    /// The last name that was looked at; none where there was none.
    pub(crate) last: Option<String>,
}

fn read_item(row: &tokio_postgres::Row) -> Result<Item, DbError> {
    let object = |text: &str| -> Result<Map<String, Value>, DbError> {
        serde_json::from_str(text).map_err(|error| DbError::decode("package", error))
    };
    let about = row.try_get::<_, Option<&str>>(6)?;
    let facts = match (row.try_get::<_, Option<&str>>(4)?, about) {
        (Some(facts), _) => object(facts)?,
        // The package came before more was read.
        (None, Some(about)) => facts_of_about(&Value::Object(object(about).unwrap_or_default())),
        (None, None) => Map::new(),
    };
    Ok(Item {
        subdir: row.try_get(1)?,
        file: row.try_get::<_, &str>(2)?.parse().map_err(|error| DbError::decode("package file", error))?,
        record: object(row.try_get(3)?)?,
        facts,
        run_exports: serde_json::from_str(row.try_get(5)?)
            .map_err(|error| DbError::decode("run exports", error))?,
    })
}

/// The records of channeldata, by their names.
struct Names<'a> {
    conda: &'a Conda,
    channel: &'a Arc<Channel>,
    filter: Option<ReadFilter>,
    subdirs: Vec<Subdir>,
}

impl RangeSource for Names<'_> {
    type Error = Refusal;

    fn prefix(&self) -> &str {
        PREFIX
    }

    fn sections(&self) -> Vec<Section> {
        vec![Section { start: String::new(), head: channeldata::HEAD.to_owned() }]
    }

    fn tail(&self) -> String {
        channeldata::tail(self.subdirs.iter().map(Subdir::as_str))
    }

    fn separator(&self) -> &'static str {
        ","
    }

    async fn records(&self, from: &str, to: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let (conda, channel) = (self.conda, self.channel);
        let rows =
            conda.store.database().query(&conda.documents.channeldata, &[&channel.id(), &from, &to]).await?;

        let records = conda.records_of(channel, &rows, self.filter.as_ref()).await?;
        Ok(records
            .into_iter()
            .map(|(name, record)| {
                let entry = channeldata::entry(&name, &record);
                (name, entry.into_bytes())
            })
            .collect())
    }
}

impl StoredSource for Names<'_> {
    fn mean_names(&self) -> NonZeroU32 {
        MEAN_NAMES
    }

    async fn names(&self, from: &str, to: Option<&str>) -> Result<Vec<String>, Refusal> {
        let params = (self.channel.id(), from, to);
        let database = self.conda.store.database();
        let rows = database
            .query(&self.conda.documents.channeldata_names, &[&params.0, &params.1, &params.2])
            .await?;
        let mut names = Vec::with_capacity(rows.len());
        for row in &rows {
            let name: &str = row.try_get(0).map_err(DbError::from)?;
            if self.filter.as_ref().is_none_or(|filter| filter.admits(name)) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}
