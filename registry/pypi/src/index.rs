//! The index documents of a channel: read from the tables, rendered by the pure code in [`crate::format`].

use std::collections::BTreeMap;
use std::sync::Arc;

use granary_core::{Blake2b256, Digests, Md5, ReadFilter, Readable, Sha256, readable};
use granary_http::index::{IndexKey, RangeSource, Section};
use granary_http::{Call, Refusal};
use granary_splice::cut::{LIMIT, is_boundary};
use granary_splice::{Document, Level, Part};
use granary_store::{Channel, DbError};
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::format::json_api::{
    FileFacts, ReleaseFacts, project_document as render_project, release_document,
};
use crate::format::simple::{self, FileRecord};
use crate::format::{CoreMetadata, NormalizedName, PackageType, ProjectName, Representation, Version};
use crate::state::{LIST_PREFIX, PyPi, project_document, read_digest, read_size};

/// How many files a part of a long project page holds on average.
const MEAN_FILES: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(511);
/// A page up to this length is one part; longer ones are cut, so that a new file costs one part of them.
const ONE_PART: usize = 256 << 10;

/// A row of `pypi_file`, as the simple index tells it.
struct SimpleFile {
    filename: String,
    sha256: Sha256,
    size: u64,
    requires_python: Option<String>,
    yanked: Option<String>,
    metadata_sha256: Option<Sha256>,
    has_attestations: bool,
    uploaded_at: Timestamp,
}

impl SimpleFile {
    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            filename: row.try_get(0)?,
            sha256: read_digest(row.try_get(1)?)?,
            size: read_size(row.try_get(2)?)?,
            requires_python: row.try_get(3)?,
            yanked: row.try_get(4)?,
            metadata_sha256: row.try_get::<_, Option<&[u8]>>(5)?.map(read_digest).transpose()?,
            has_attestations: row.try_get(6)?,
            uploaded_at: row.try_get(7)?,
        })
    }

    fn render(&self, out: &mut String, html: bool, first: bool, channel_url: Option<&str>) {
        let place = file_place(self.sha256, &self.filename);
        let url = format!("../../{place}");
        // PEP 740 wants an absolute URL, so there is one only where it is known for certain.
        let provenance =
            channel_url.filter(|_| self.has_attestations).map(|base| format!("{base}/{place}.provenance"));
        let record = FileRecord {
            filename: &self.filename,
            url: &url,
            sha256: self.sha256,
            requires_python: self.requires_python.as_deref(),
            size: self.size,
            upload_time: self.uploaded_at,
            yanked: self.yanked.as_deref(),
            metadata_sha256: self.metadata_sha256,
            provenance: provenance.as_deref(),
        };
        if html { simple::file_html(out, &record) } else { simple::file_json(out, &record, first) }
    }
}

/// Where a file stands below its channel, as devpi has it. File names need no escaping: their characters are checked.
pub(crate) fn file_place(sha256: Sha256, filename: &str) -> String {
    let digest = sha256.to_hex();
    format!("+f/{}/{}/{filename}", &digest[..3], &digest[3..16])
}

const fn form(representation: Representation) -> &'static str {
    if representation.is_html() { "html" } else { "json" }
}

impl PyPi {
    /// The page of a project in the simple index; `None` when there is no such project.
    pub(crate) async fn simple_page(
        &self,
        call: &Call,
        project: &NormalizedName,
        representation: Representation,
    ) -> Result<Option<Document>, Refusal> {
        let channel = call.channel()?;
        let key = IndexKey {
            scope: channel.scope,
            document: project_document(project).into(),
            representation: form(representation).into(),
        };
        let channel_url = call.fixed_channel_url(channel);
        self.index
            .document(
                key,
                self.render_page(channel, project, representation.is_html(), channel_url.as_deref()),
            )
            .await
    }

    async fn render_page(
        &self,
        channel: &Channel,
        project: &NormalizedName,
        html: bool,
        channel_url: Option<&str>,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let Some(stored) = self.project(channel, project).await? else { return Ok(None) };
        let rows = self.store.database().query(&self.sql.project_files, &[&stored.id]).await?;
        let files = rows.iter().map(SimpleFile::read).collect::<Result<Vec<_>, _>>()?;
        let mut texts = vec![String::new()];
        if html {
            simple::project_html_header(&mut texts[0], &stored.name);
        } else {
            simple::project_json_header(&mut texts[0], Some(stored.serial));
        }
        for (index, file) in files.iter().enumerate() {
            if let Some(text) = texts.last()
                && text.len() > ONE_PART
                && (is_boundary(&file.filename, MEAN_FILES) || text.len() > LIMIT.get())
            {
                texts.push(String::new());
            }
            if let Some(text) = texts.last_mut() {
                file.render(text, html, index == 0, channel_url);
            }
        }
        let mut versions = rows
            .iter()
            .map(|row| read_version(row.try_get(8)?))
            .collect::<Result<Vec<Version>, DbError>>()?;
        versions.sort_unstable();
        versions.dedup();
        if let Some(text) = texts.last_mut() {
            if html {
                simple::html_trailer(text);
            } else {
                simple::project_json_trailer(text, project, &versions);
            }
        }
        Ok(Some(texts))
    }

    /// The list of all projects that the caller may read.
    pub(crate) async fn project_list(
        &self,
        call: &Call,
        representation: Representation,
    ) -> Result<Document, Refusal> {
        let channel = call.channel()?;
        let filter = match readable(&channel.grants, &call.caller.principal, channel.format, &channel.name) {
            Readable::All => None,
            Readable::Some(filter) => Some(filter),
        };
        let form = form(representation);
        let class = filter.as_ref().map(|filter| Sha256::of(filter.fingerprint().as_bytes()).to_hex());
        let key = IndexKey {
            scope: channel.scope,
            document: LIST_PREFIX.into(),
            representation: format!("{form} {}", class.unwrap_or_default()).into(),
        };
        let source = ProjectList { pypi: self, channel, html: representation.is_html(), filter };
        self.index.ranged(key, &source).await
    }

    async fn project(
        &self,
        channel: &Channel,
        project: &NormalizedName,
    ) -> Result<Option<StoredProject>, DbError> {
        let row =
            self.store.database().query_opt(&self.sql.project, &[&channel.id(), &project.as_str()]).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(StoredProject {
            id: row.try_get(0)?,
            name: read_name(row.try_get(1)?)?,
            serial: u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or_default(),
        }))
    }

    /// The JSON page of a project, or with a version of one release; `None` when there is no such thing.
    pub(crate) async fn json_page(
        &self,
        call: &Call,
        project: &NormalizedName,
        version: Option<&Version>,
    ) -> Result<Option<Document>, Refusal> {
        let channel = call.channel()?;
        let base = call.channel_url(channel);
        if call.fixed_channel_url(channel).is_none() {
            // The page names the host that was asked for, so that it is made for this request alone, a few at a time.
            let _turn = self.json_turns.acquire().await.map_err(Refusal::internal)?;
            let texts = self.render_json(channel, project, version, &base).await?;
            let parts =
                |texts: Vec<String>| texts.into_iter().map(|text| Arc::new(Part::render(text, Level::QUICK)));
            return Ok(texts.map(|texts| Document::new(parts(texts))));
        }
        let which = version.map(Version::key_text).unwrap_or_default();
        let key = IndexKey {
            scope: channel.scope,
            document: project_document(project).into(),
            representation: format!("api {which}").into(),
        };
        self.index.document(key, self.render_json(channel, project, version, &base)).await
    }

    async fn render_json(
        &self,
        channel: &Channel,
        project: &NormalizedName,
        version: Option<&Version>,
        base: &str,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let Some(stored) = self.project(channel, project).await? else { return Ok(None) };
        let database = self.store.database();
        let rows = database.query(&self.sql.json_files, &[&stored.id]).await?;
        let files = rows.iter().map(|row| JsonFile::read(row, base)).collect::<Result<Vec<_>, _>>()?;
        let mut by_version: BTreeMap<&Version, Vec<&JsonFile>> = BTreeMap::new();
        for file in &files {
            by_version.entry(&file.version).or_default().push(file);
        }
        let Some(shown) = version.or_else(|| latest(&by_version)) else { return Ok(None) };
        let row = database.query_opt(&self.sql.release_metadata, &[&stored.id, &shown.key_text()]).await?;
        let Some(row) = row else { return Ok(None) };
        let metadata: CoreMetadata = serde_json::from_value(row.try_get(0).map_err(DbError::from)?)
            .map_err(|error| DbError::decode("metadata", error))?;
        let of_version = by_version.get(shown).cloned().unwrap_or_default();
        let facts = ReleaseFacts {
            metadata: &metadata,
            project_url: &format!("{base}/+simple/{project}/"),
            // A release is yanked when all of its files are.
            yanked: of_version.iter().map(|file| file.yanked.as_deref()).min().flatten(),
            last_serial: stored.serial,
        };
        let shown_files = facts_of(&of_version);
        let bytes = if version.is_some() {
            release_document(&facts, &shown_files)
        } else {
            let all = by_version.iter().map(|(version, files)| (version.to_string(), facts_of(files)));
            render_project(&facts, &shown_files, all)
        };
        let text = String::from_utf8(bytes.map_err(Refusal::internal)?).map_err(Refusal::internal)?;
        Ok(Some(vec![text]))
    }
}

struct StoredProject {
    id: i64,
    name: ProjectName,
    serial: u64,
}

/// A row of `pypi_file`, as the JSON pages tell it.
struct JsonFile {
    filename: String,
    url: String,
    digests: Digests,
    requires_python: Option<String>,
    yanked: Option<String>,
    package_type: PackageType,
    python_tag: String,
    comment: String,
    uploaded_at: Timestamp,
    version: Version,
}

impl JsonFile {
    fn read(row: &Row, base: &str) -> Result<Self, DbError> {
        let digest = |error| DbError::decode("digest", error);
        let digests = Digests {
            sha256: read_digest(row.try_get(1)?)?,
            md5: Md5::try_from(row.try_get::<_, &[u8]>(2)?).map_err(digest)?,
            blake2b256: Blake2b256::try_from(row.try_get::<_, &[u8]>(3)?).map_err(digest)?,
            size: read_size(row.try_get(4)?)?,
        };
        let filename: String = row.try_get(0)?;
        Ok(Self {
            url: format!("{base}/{}", file_place(digests.sha256, &filename)),
            filename,
            digests,
            requires_python: row.try_get(5)?,
            yanked: row.try_get(6)?,
            package_type: if row.try_get::<_, &str>(7)? == PackageType::Sdist.as_str() {
                PackageType::Sdist
            } else {
                PackageType::BdistWheel
            },
            python_tag: row.try_get(8)?,
            comment: row.try_get(9)?,
            uploaded_at: row.try_get(10)?,
            version: read_version(row.try_get(11)?)?,
        })
    }

    fn facts(&self) -> FileFacts<'_> {
        FileFacts {
            filename: &self.filename,
            url: &self.url,
            digests: self.digests,
            package_type: self.package_type,
            python_version: &self.python_tag,
            requires_python: self.requires_python.as_deref(),
            comment: Some(self.comment.as_str()).filter(|comment| !comment.is_empty()),
            upload_time: self.uploaded_at,
            yanked: self.yanked.as_deref(),
        }
    }
}

fn facts_of<'a>(files: &[&'a JsonFile]) -> Vec<FileFacts<'a>> {
    files.iter().map(|file| file.facts()).collect()
}

/// The newest release that is neither a pre-release nor yanked, else the newest there is.
fn latest<'a>(by_version: &BTreeMap<&'a Version, Vec<&JsonFile>>) -> Option<&'a Version> {
    let offered = |(version, files): &(&&'a Version, &Vec<&JsonFile>)| {
        !version.is_prerelease() && files.iter().any(|file| file.yanked.is_none())
    };
    by_version
        .iter()
        .rev()
        .find(offered)
        .or_else(|| by_version.iter().next_back())
        .map(|(version, _)| *version)
}

fn read_version(text: &str) -> Result<Version, DbError> {
    text.parse().map_err(|error| DbError::decode("version", error))
}

fn read_name(text: &str) -> Result<ProjectName, DbError> {
    text.parse().map_err(|error| DbError::decode("project name", error))
}

/// The list of projects, cut into ranges of names.
struct ProjectList<'a> {
    pypi: &'a PyPi,
    channel: &'a Arc<Channel>,
    html: bool,
    filter: Option<ReadFilter>,
}

impl RangeSource for ProjectList<'_> {
    type Error = Refusal;

    fn prefix(&self) -> &'static str {
        LIST_PREFIX
    }

    fn sections(&self) -> Vec<Section> {
        let mut head = String::new();
        if self.html {
            simple::list_html_header(&mut head);
        } else {
            simple::list_json_header(&mut head, None);
        }
        vec![Section { start: String::new(), head }]
    }

    fn tail(&self) -> String {
        let mut tail = String::new();
        if self.html {
            simple::html_trailer(&mut tail);
        } else {
            simple::list_json_trailer(&mut tail);
        }
        tail
    }

    fn separator(&self) -> &'static str {
        if self.html { "" } else { "," }
    }

    async fn records(&self, from: &str, to: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let database = self.pypi.store.database();
        let rows = database.query(&self.pypi.sql.project_names, &[&self.channel.id(), &from, &to]).await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let normalized: &str = row.try_get(0).map_err(DbError::from)?;
            if self.filter.as_ref().is_some_and(|filter| !filter.admits(normalized)) {
                continue;
            }
            let name = read_name(row.try_get(1).map_err(DbError::from)?)?;
            let mut record = String::new();
            if self.html {
                simple::project_html(&mut record, name.normalized(), &format!("{normalized}/"));
            } else {
                simple::project_json(&mut record, &name, None, false);
            }
            records.push((normalized.to_owned(), record.into_bytes()));
        }
        Ok(records)
    }
}
