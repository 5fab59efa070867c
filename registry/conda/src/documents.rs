//! The big documents of a subdir beside `repodata.json`, which cost what changed as it does.

use std::num::NonZeroU32;
use std::sync::Arc;

use granary_core::{ReadFilter, Sha256};
use granary_http::index::{self, IndexKey, RangeSource};
use granary_http::stored_index::{StoredDocument, StoredSource};
use granary_http::{Call, Refusal};
use granary_store::Channel;

use crate::format::repodata::{self, Section};
use crate::format::{Subdir, run_exports};
use crate::index::{entries_by_name, filter_of, heads, names_of, within};
use crate::state::{Conda, document_prefix};

/// How many names are read again when one of them changes.
const MEAN_NAMES: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// `repodata_from_packages.json`: the records as the packages have them, whatever patches say.
    FromPackages,
    /// `run_exports.json`.
    RunExports,
}

impl Listing {
    const fn name(self) -> &'static str {
        match self {
            Self::FromPackages => "repodata_from_packages",
            Self::RunExports => "run_exports",
        }
    }

    /// The lists that it has.
    const fn sections(self) -> &'static [Section] {
        match self {
            Self::FromPackages => &Section::ALL,
            Self::RunExports => &[Section::Packages, Section::PackagesConda],
        }
    }
}

impl Conda {
    /// The document of a subdir, of the packages that the caller may read. `None` where there are none, but in `noarch`, which
    /// every channel has.
    pub(crate) async fn listing(
        &self,
        call: &Call,
        subdir: &Subdir,
        listing: Listing,
    ) -> Result<Option<StoredDocument>, Refusal> {
        let channel = call.channel()?;
        let filter = filter_of(call)?;
        let key = IndexKey {
            scope: channel.scope,
            document: format!("{}:{subdir}", listing.name()).into(),
            representation: class_of(filter.as_ref()).into(),
        };
        let source =
            Listed { conda: self, channel, subdir, listing, prefix: document_prefix(subdir), filter };
        let document = self.index.document(&key, &source).await?;
        Ok(Some(document).filter(|document| !document.is_empty() || subdir.as_str() == Subdir::NOARCH))
    }
}

/// What tells the documents of one class of readers from those of others.
pub(crate) fn class_of(filter: Option<&ReadFilter>) -> String {
    filter.map(|filter| Sha256::of(filter.fingerprint().as_bytes()).to_hex()).unwrap_or_default()
}

/// What is listed of a subdir's packages: section after section, and within each by their names.
struct Listed<'a> {
    conda: &'a Conda,
    channel: &'a Arc<Channel>,
    subdir: &'a Subdir,
    listing: Listing,
    prefix: String,
    filter: Option<ReadFilter>,
}

impl Listed<'_> {
    /// The sections that lie between these bounds and that the document has.
    fn within<'a>(
        &'a self,
        from: &'a str,
        to: Option<&'a str>,
    ) -> impl Iterator<Item = (Section, &'a str, Option<&'a str>)> {
        within(self.listing.sections(), from, to)
    }

    /// The entries of one section, all of a name together.
    async fn of_section(
        &self,
        section: Section,
        from: &str,
        to: Option<&str>,
    ) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let sql = &self.conda.documents;
        let statement = match self.listing {
            Listing::FromPackages => &sql.from_packages,
            Listing::RunExports => &sql.run_exports,
        };
        let params = (self.channel.id(), self.subdir.as_str(), section.number());
        let database = self.conda.store.database();
        let rows = database.query(statement, &[&params.0, &params.1, &params.2, &from, &to]).await?;
        let entry = |file: &str, text: &str| match self.listing {
            Listing::FromPackages => section.entry(file, text),
            Listing::RunExports => run_exports::entry(file, text),
        };
        Ok(entries_by_name(&rows, section, self.filter.as_ref(), entry)?)
    }
}

impl RangeSource for Listed<'_> {
    type Error = Refusal;

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn sections(&self) -> Vec<index::Section> {
        heads(self.listing.sections(), |section| match self.listing {
            Listing::FromPackages => section.head(self.subdir),
            Listing::RunExports => run_exports::head(section, self.subdir),
        })
    }

    fn tail(&self) -> String {
        match self.listing {
            Listing::FromPackages => repodata::TAIL.to_owned(),
            Listing::RunExports => run_exports::TAIL.to_owned(),
        }
    }

    fn separator(&self) -> &'static str {
        ","
    }

    async fn records(&self, from: &str, to: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let mut records = Vec::new();
        for (section, first, end) in self.within(from, to) {
            records.extend(self.of_section(section, first, end).await?);
        }
        Ok(records)
    }
}

impl StoredSource for Listed<'_> {
    fn mean_names(&self) -> NonZeroU32 {
        MEAN_NAMES
    }

    async fn names(&self, from: &str, to: Option<&str>) -> Result<Vec<String>, Refusal> {
        let (database, params) = (self.conda.store.database(), (self.channel.id(), self.subdir.as_str()));
        let statement = match self.listing {
            Listing::FromPackages => &self.conda.documents.names_from_packages,
            Listing::RunExports => &self.conda.sql.names,
        };
        let mut names = Vec::new();
        for (section, first, end) in self.within(from, to) {
            let number = section.number();
            let rows = database.query(statement, &[&params.0, &params.1, &number, &first, &end]).await?;
            names.extend(names_of(&rows, section, self.filter.as_ref())?);
        }
        Ok(names)
    }
}
