//! `current_repodata.json`, made when somebody asks who may read something that changed since.
//!
//! It is not made at each publish: whether an older package is in depends on every other one, and none but conda's classic
//! solver asks. What a publish does is to mark the packages of its name's newest version, so that making it reads those and what
//! they need, not the whole subdir. That is done off the async threads, once for all who wait, and parts that read as before
//! keep their compressed forms.

use granary_core::ReadFilter;
use granary_http::index::IndexKey;
use granary_http::{Call, Refusal};
use granary_splice::Document;
use granary_splice::cut::{LIMIT, cut};
use granary_store::{Channel, DbError};

use crate::documents::class_of;
use crate::format::Subdir;
use crate::format::current::{Candidate, Candidates, CurrentEntry};
use crate::format::repodata::{self, Section};
use crate::index::filter_of;
use crate::state::Conda;

/// How many files a part holds on average.
const MEAN_FILES: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(1023);

/// The document that changes with every package of a subdir.
pub(crate) fn document(subdir: &Subdir) -> String {
    format!("current:{subdir}")
}

impl Conda {
    /// The document of a subdir, of the packages that the caller may read. `None` where the channel has none, and where there
    /// are no packages, but in `noarch`.
    pub(crate) async fn current_repodata(
        &self,
        call: &Call,
        subdir: &Subdir,
    ) -> Result<Option<Document>, Refusal> {
        let channel = call.channel()?;
        if !channel.settings.conda.current_repodata {
            return Ok(None);
        }
        let filter = filter_of(call)?;
        let key = IndexKey {
            scope: channel.scope,
            document: document(subdir).into(),
            representation: class_of(filter.as_ref()).into(),
        };
        self.held.document(key, self.render_current(channel, subdir, filter.as_ref())).await
    }

    async fn render_current(
        &self,
        channel: &Channel,
        subdir: &Subdir,
        filter: Option<&ReadFilter>,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let database = self.store.database();
        let params = (channel.id(), subdir.as_str());
        let rows = database.query(&self.documents.newest_packages, &[&params.0, &params.1]).await?;
        let newest = read_candidates(&rows, filter)?;
        drop(rows);
        if newest.is_empty() && subdir.as_str() != Subdir::NOARCH {
            return Ok(None);
        }
        let sorted = tokio::task::spawn_blocking(move || {
            let mut newest = Candidates::new(newest);
            newest.keep_newest();
            let names: Vec<String> = newest.names_with_more().into_iter().collect();
            (newest, names)
        });
        let (newest, names) = sorted.await.map_err(Refusal::internal)?;
        let rows = database.query(&self.documents.packages_of_names, &[&params.0, &params.1, &names]).await?;
        let more = read_candidates(&rows, filter)?;
        drop(rows);
        let rows = database.query(&self.documents.removed_files, &[&params.0, &params.1]).await?;
        let mut removed = Vec::new();
        for row in &rows {
            let name: String = row.try_get(0).map_err(DbError::from)?;
            if filter.is_none_or(|filter| filter.admits(&name)) {
                let filename = row.try_get(1).map_err(DbError::from)?;
                let (section, record) = (Section::Removed, String::new());
                removed.push(CurrentEntry { section, name, filename, record });
            }
        }
        drop(rows);
        let subdir = subdir.clone();
        let texts = tokio::task::spawn_blocking(move || {
            let mut entries = newest.entries(&Candidates::new(more));
            entries.extend(removed);
            texts(&subdir, &entries)
        });
        Ok(Some(texts.await.map_err(Refusal::internal)?))
    }
}

fn read_candidates(
    rows: &[tokio_postgres::Row],
    filter: Option<&ReadFilter>,
) -> Result<Vec<Candidate>, DbError> {
    let mut candidates = Vec::with_capacity(rows.len());
    for row in rows {
        let name: &str = row.try_get(0)?;
        if filter.is_some_and(|filter| !filter.admits(name)) {
            continue;
        }
        let file =
            row.try_get::<_, &str>(1)?.parse().map_err(|error| DbError::decode("package file", error))?;
        let candidate = Candidate::new(file, row.try_get(2)?);
        candidates.push(candidate.map_err(|error| DbError::decode("record", error))?);
    }
    Ok(candidates)
}

/// The parts of the document.
fn texts(subdir: &Subdir, entries: &[CurrentEntry]) -> Vec<String> {
    let mut texts = Vec::new();
    for section in Section::ALL {
        texts.push(section.head(subdir));
        let entries = entries.iter().filter(|entry| entry.section == section);
        let entries = entries.map(|entry| (&entry.filename, section.entry(&entry.filename, &entry.record)));
        for (position, piece) in cut(entries, MEAN_FILES, LIMIT).into_iter().enumerate() {
            // The first entry has no comma before it.
            let bytes = if position == 0 { piece.bytes.slice(1..) } else { piece.bytes };
            texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    texts.push(repodata::TAIL.to_owned());
    texts
}
