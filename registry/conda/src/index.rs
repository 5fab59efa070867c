//! `repodata.json` of a subdir, as a document that costs what changed.

use std::num::NonZeroU32;
use std::sync::Arc;

use granary_core::{ReadFilter, Readable, readable};
use granary_http::index::{self, IndexKey, RangeSource};
use granary_http::stored_index::{StoredDocument, StoredSource};
use granary_http::{Call, Refusal};
use granary_store::{Channel, DbError};
use jiff::SignedDuration;
use tokio_postgres::Row;

use crate::documents::class_of;
use crate::format::Subdir;
use crate::format::repodata::{self, Section};
use crate::plugins::content_trust::Signer;
use crate::state::{Conda, document_prefix, section_name};

/// How many names are read again when one of them changes: with twenty packages each, somewhat more than one part.
const MEAN_NAMES: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);

/// What of a channel somebody may read: nothing is left out where there is no filter.
pub(crate) fn filter_of(call: &Call) -> Result<Option<ReadFilter>, Refusal> {
    let channel = call.channel()?;
    let read = readable(&channel.grants, &call.caller.principal, channel.format, &channel.name);
    Ok(match read {
        Readable::All => None,
        Readable::Some(filter) => Some(filter),
    })
}

impl Conda {
    /// The repodata of a subdir, of the packages that the caller may read. `None` where there are none, but in `noarch`, which
    /// every channel has.
    pub(crate) async fn repodata(
        &self,
        call: &Call,
        subdir: &Subdir,
    ) -> Result<Option<StoredDocument>, Refusal> {
        self.repodata_of(call.channel()?, filter_of(call)?, subdir).await
    }

    /// As [`Conda::repodata`], of a channel that the call need not name.
    pub(crate) async fn repodata_of(
        &self,
        channel: &Channel,
        filter: Option<ReadFilter>,
        subdir: &Subdir,
    ) -> Result<Option<StoredDocument>, Refusal> {
        let document = self.document(channel, subdir, filter).await?;
        Ok(Some(document).filter(|document| !document.is_empty() || subdir.as_str() == Subdir::NOARCH))
    }

    async fn document(
        &self,
        channel: &Channel,
        subdir: &Subdir,
        filter: Option<ReadFilter>,
    ) -> Result<StoredDocument, Refusal> {
        let signer = self.signer(channel).await?;
        let keys = signer.as_ref().map(|signer| signer.fingerprint()).unwrap_or_default();
        let prefix = document_prefix(subdir);
        let key = IndexKey {
            scope: channel.scope,
            document: prefix.as_str().into(),
            representation: format!("{}{keys}", class_of(filter.as_ref())).into(),
        };
        let source = Repodata { conda: self, channel, subdir, prefix, filter, signer };
        self.index.document(&key, &source).await
    }

    /// Reads again what changed of large documents that nobody has asked for in a long time, while it can still be told what
    /// that is. Says how many.
    pub(crate) async fn refresh_indexes(&self, unsaved_for: SignedDuration) -> Result<usize, Refusal> {
        let moved = self.store.moved_checkpoints(unsaved_for).await?;
        if moved.is_empty() {
            return Ok(0);
        }
        let channels = self.store.directory().all().await?;
        let mut refreshed = 0;
        for (scope, document) in moved {
            let channel = channels.iter().find(|channel| channel.scope == scope);
            // Behind a space stands who may read it, and by whom it is signed.
            let name = document.split(' ').next().unwrap_or_default();
            let subdir = name.strip_prefix("repodata:").and_then(|rest| rest.strip_suffix(':'));
            let subdir = subdir.and_then(|subdir| subdir.parse::<Subdir>().ok());
            if let Some((channel, subdir)) = channel.zip(subdir) {
                self.store.revisions().refresh(&[scope]).await?;
                self.document(channel, &subdir, None).await?;
                refreshed += 1;
            }
        }
        Ok(refreshed)
    }
}

/// The entries of a subdir: section after section, and within each by their names.
struct Repodata<'a> {
    conda: &'a Conda,
    channel: &'a Channel,
    subdir: &'a Subdir,
    prefix: String,
    filter: Option<ReadFilter>,
    signer: Option<Arc<Signer>>,
}

impl Repodata<'_> {
    fn sections(&self) -> &'static [Section] {
        if self.signer.is_some() { &Section::SIGNED } else { &Section::ALL }
    }

    /// The signatures of the records that are offered, all of a name together.
    async fn signatures(
        &self,
        signer: &Arc<Signer>,
        from: &str,
        to: Option<&str>,
    ) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let database = self.conda.store.database();
        let params = (self.channel.id(), self.subdir.as_str());
        let rows = database.query(&self.conda.sql.offered, &[&params.0, &params.1, &from, &to]).await?;
        let admits = |name: &str| self.filter.as_ref().is_none_or(|filter| filter.admits(name));
        let mut unsigned: Vec<(String, String, String)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let name: &str = row.try_get(0).map_err(DbError::from)?;
            if admits(name) {
                let (filename, record) =
                    (row.try_get(1).map_err(DbError::from)?, row.try_get(2).map_err(DbError::from)?);
                unsigned.push((name.to_owned(), filename, record));
            }
        }
        let signer = Arc::clone(signer);
        // Some ten microseconds each.
        let signed = tokio::task::spawn_blocking(move || {
            let mut records: Vec<(String, Vec<u8>)> = Vec::new();
            for (name, filename, record) in unsigned {
                let entry = Section::Signatures.entry(&filename, &signer.sign(&record)?);
                let name = section_name(Section::Signatures, &name);
                match records.last_mut().filter(|(last, _)| *last == name) {
                    Some((_, entries)) => entries.extend_from_slice(entry.as_bytes()),
                    None => records.push((name, entry.into_bytes())),
                }
            }
            Ok::<_, DbError>(records)
        });
        Ok(signed.await.map_err(Refusal::internal)??)
    }

    /// The records of one section, all of a name together.
    async fn of_section(
        &self,
        section: Section,
        from: &str,
        to: Option<&str>,
    ) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let database = self.conda.store.database();
        let params = (self.channel.id(), self.subdir.as_str(), section.number());
        let rows =
            database.query(&self.conda.sql.records, &[&params.0, &params.1, &params.2, &from, &to]).await?;
        Ok(entries_by_name(&rows, section, self.filter.as_ref(), |file, record| section.entry(file, record))?)
    }
}

impl RangeSource for Repodata<'_> {
    type Error = Refusal;

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn sections(&self) -> Vec<index::Section> {
        heads(Repodata::sections(self), |section| section.head(self.subdir))
    }

    fn tail(&self) -> String {
        if self.signer.is_some() { repodata::SIGNED_TAIL } else { repodata::TAIL }.to_owned()
    }

    fn separator(&self) -> &'static str {
        ","
    }

    async fn records(&self, from: &str, to: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let mut records = Vec::new();
        for (section, first, end) in within(Repodata::sections(self), from, to) {
            records.extend(match (section, &self.signer) {
                (Section::Signatures, Some(signer)) => self.signatures(signer, first, end).await?,
                _ => self.of_section(section, first, end).await?,
            });
        }
        Ok(records)
    }
}

impl StoredSource for Repodata<'_> {
    fn mean_names(&self) -> NonZeroU32 {
        MEAN_NAMES
    }

    async fn names(&self, from: &str, to: Option<&str>) -> Result<Vec<String>, Refusal> {
        let (database, params) = (self.conda.store.database(), (self.channel.id(), self.subdir.as_str()));
        let mut names = Vec::new();
        for (section, first, end) in within(Repodata::sections(self), from, to) {
            let number = section.number();
            let rows = if section == Section::Signatures {
                let names_offered = &self.conda.sql.names_offered;
                database.query(names_offered, &[&params.0, &params.1, &first, &end]).await?
            } else {
                database.query(&self.conda.sql.names, &[&params.0, &params.1, &number, &first, &end]).await?
            };
            names.extend(names_of(&rows, section, self.filter.as_ref())?);
        }
        Ok(names)
    }

    fn changed(&self, document: &str) -> Vec<String> {
        let name = document.strip_prefix(self.prefix.as_str());
        // Behind the prefix stands the digit of the section; the signatures change with every other one.
        let signed = self.signer.as_ref().and_then(|_| name?.get(1..));
        let signed = signed.map(|name| section_name(Section::Signatures, name));
        name.map(str::to_owned).into_iter().chain(signed).collect()
    }
}

/// Where the sections of a document begin, and with what.
pub(crate) fn heads(sections: &[Section], head: impl Fn(Section) -> String) -> Vec<index::Section> {
    let section = |(position, section): (usize, &Section)| index::Section {
        // The first one begins with the lowest of all names.
        start: if position == 0 { String::new() } else { section_name(*section, "") },
        head: head(*section),
    };
    sections.iter().enumerate().map(section).collect()
}

/// The entries of a section, all of a name together: rows of name, file and what is said of it, in the order of the names.
pub(crate) fn entries_by_name(
    rows: &[Row],
    section: Section,
    filter: Option<&ReadFilter>,
    entry: impl Fn(&str, &str) -> String,
) -> Result<Vec<(String, Vec<u8>)>, DbError> {
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    let mut last = "";
    for row in rows {
        let name: &str = row.try_get(0)?;
        if filter.is_some_and(|filter| !filter.admits(name)) {
            continue;
        }
        let entry = entry(row.try_get(1)?, row.try_get(2)?);
        match entries.last_mut().filter(|_| last == name) {
            Some((_, of_name)) => of_name.extend_from_slice(entry.as_bytes()),
            None => entries.push((section_name(section, name), entry.into_bytes())),
        }
        last = name;
    }
    Ok(entries)
}

/// The names of a section, from rows of names.
pub(crate) fn names_of(
    rows: &[Row],
    section: Section,
    filter: Option<&ReadFilter>,
) -> Result<Vec<String>, DbError> {
    let mut names = Vec::with_capacity(rows.len());
    for row in rows {
        let name: &str = row.try_get(0)?;
        if filter.is_none_or(|filter| filter.admits(name)) {
            names.push(section_name(section, name));
        }
    }
    Ok(names)
}

/// The sections that lie between these bounds, each with the names to begin and to end with.
pub(crate) fn within<'a>(
    sections: &'static [Section],
    from: &'a str,
    to: Option<&'a str>,
) -> impl Iterator<Item = (Section, &'a str, Option<&'a str>)> {
    sections.iter().copied().filter_map(move |section| {
        let (start, next) = (section_name(section, ""), (section.number() + 1).to_string());
        // A bound that lies in another section leaves nothing, or everything.
        if to.is_some_and(|to| to <= start.as_str()) || from >= next.as_str() {
            return None;
        }
        let first = from.strip_prefix(start.as_str()).unwrap_or_default();
        Some((section, first, to.and_then(|to| to.strip_prefix(start.as_str()))))
    })
}
