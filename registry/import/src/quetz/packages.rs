//! The packages that a Quetz keeps: what its database says of each file.

use std::path::Path;

use rusqlite::Connection;
use serde::Deserialize;
use tokio_postgres::Client;

use super::sql::{self, ReadError, Record};

const PACKAGES: &str = "SELECT v.channel_name, v.platform, v.filename, v.info, u.username, CAST(v.time_created AS TEXT), \
     CAST(v.download_count AS BIGINT) FROM package_versions v LEFT JOIN users u ON u.id = v.uploader_id \
     WHERE v.filename IS NOT NULL ORDER BY v.channel_name, v.platform, v.filename";
const TABLE: &str = "package_versions";

/// A file that Quetz lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuetzPackage {
    /// The channel's name, as it was written when it was made.
    pub channel: String,
    /// The subdir.
    pub subdir: String,
    /// The file's name.
    pub filename: String,
    /// Its SHA-256 in hex, as Quetz worked it out when the file came.
    pub sha256: Option<String>,
    /// Who uploaded it.
    pub uploader: Option<String>,
    /// When, in the database's own form: UTC without saying so.
    pub uploaded_at: Option<String>,
    /// How often it was downloaded.
    pub downloads: i64,
}

/// What of `info/index.json` matters here, as Quetz keeps it with the digests added.
#[derive(Deserialize)]
struct Info {
    sha256: Option<String>,
}

/// Reads the list of files from a database file, which is opened for reading alone. Blocks.
pub fn read_packages_sqlite(file: &Path) -> Result<Vec<QuetzPackage>, ReadError> {
    let connection: Connection = sql::open_sqlite(file)?;
    let mut packages = Vec::new();
    sql::each_of_sqlite(&connection, (TABLE, PACKAGES), |record| {
        packages.push(package(record)?);
        Ok(())
    })?;
    Ok(packages)
}

/// Reads the list of files from a database in Postgres.
pub async fn read_packages_postgres(client: &Client) -> Result<Vec<QuetzPackage>, ReadError> {
    let rows = client.query(PACKAGES, &[]).await?;
    rows.iter().map(|row| package(&sql::record_of_postgres(TABLE, row)?)).collect()
}

fn package(record: &Record) -> Result<QuetzPackage, ReadError> {
    let info = record.text(3)?.and_then(|info| serde_json::from_str::<Info>(&info).ok());
    Ok(QuetzPackage {
        channel: record.some_text(0)?,
        subdir: record.some_text(1)?,
        filename: record.some_text(2)?,
        sha256: info.and_then(|info| info.sha256),
        uploader: record.text(4)?,
        uploaded_at: record.text(5)?,
        downloads: record.number(6)?.unwrap_or_default(),
    })
}
