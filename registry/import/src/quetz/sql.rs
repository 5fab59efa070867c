//! The tables of Quetz, read from SQLite or Postgres with the same statements.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::QuetzRole;

const USERS: &str = "SELECT id, username, role FROM users ORDER BY username, id";
const CHANNELS: &str = "SELECT name, description, CASE WHEN private THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END, \
     mirror_channel_url, mirror_mode, CAST(size_limit AS BIGINT) FROM channels ORDER BY name";
const CHANNEL_MEMBERS: &str =
    "SELECT channel_name, user_id, role FROM channel_members ORDER BY channel_name, user_id";
const PACKAGE_MEMBERS: &str = "SELECT channel_name, package_name, user_id, role FROM package_members \
     ORDER BY channel_name, package_name, user_id";
const IDENTITIES: &str = "SELECT user_id, provider, username FROM identities ORDER BY provider, identity_id";
const API_KEYS: &str = "SELECT description, owner_id, user_id, CAST(expire_at AS TEXT) FROM api_keys \
     WHERE NOT COALESCE(deleted, FALSE) ORDER BY time_created, description";

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite says no.
    #[error("the SQLite database of Quetz cannot be read")]
    Sqlite(#[from] rusqlite::Error),
    /// Postgres says no.
    #[error("the Postgres database of Quetz cannot be read")]
    Postgres(#[from] tokio_postgres::Error),
    /// A column holds something else than the version of Quetz that is known here keeps in it.
    #[error("column {1} of {0} does not hold what Quetz keeps there")]
    Column(&'static str, usize),
}

/// What the database says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) users: Vec<UserRow>,
    pub(super) channels: Vec<ChannelRow>,
    pub(super) channel_members: Vec<ChannelMember>,
    pub(super) package_members: Vec<PackageMember>,
    pub(super) identities: Vec<Identity>,
    pub(super) api_keys: Vec<ApiKey>,
    /// Whether quetz-sql-authenticator keeps passwords there.
    pub(super) has_credentials: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UserRow {
    pub(super) id: Vec<u8>,
    pub(super) name: Option<String>,
    pub(super) role: Option<QuetzRole>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChannelRow {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) private: bool,
    pub(super) mirror_channel_url: Option<String>,
    pub(super) mirror_mode: Option<String>,
    /// In bytes; negative for none.
    pub(super) size_limit: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChannelMember {
    pub(super) channel: String,
    pub(super) user_id: Vec<u8>,
    pub(super) role: QuetzRole,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackageMember {
    pub(super) channel: String,
    pub(super) package: String,
    pub(super) user_id: Vec<u8>,
    pub(super) role: QuetzRole,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user_id: Option<Vec<u8>>,
    pub(super) provider: String,
    pub(super) name: Option<String>,
}

/// A key that has not been deleted; not its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiKey {
    pub(super) description: Option<String>,
    pub(super) owner_id: Option<Vec<u8>>,
    pub(super) user_id: Option<Vec<u8>>,
    pub(super) expire_at: Option<String>,
}

/// A value of either database.
#[derive(Debug, Clone)]
enum Cell {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row, and the table that it is of.
pub(super) struct Record {
    table: &'static str,
    cells: Vec<Cell>,
}

impl Record {
    fn wrong(&self, column: usize) -> ReadError {
        ReadError::Column(self.table, column + 1)
    }

    pub(super) fn text(&self, column: usize) -> Result<Option<String>, ReadError> {
        match self.cells.get(column) {
            Some(Cell::Null) => Ok(None),
            Some(Cell::Text(text)) => Ok(Some(text.clone())),
            _ => Err(self.wrong(column)),
        }
    }

    pub(super) fn some_text(&self, column: usize) -> Result<String, ReadError> {
        self.text(column)?.ok_or_else(|| self.wrong(column))
    }

    pub(super) fn number(&self, column: usize) -> Result<Option<i64>, ReadError> {
        match self.cells.get(column) {
            Some(Cell::Null) => Ok(None),
            Some(Cell::Number(number)) => Ok(Some(*number)),
            _ => Err(self.wrong(column)),
        }
    }

    fn bytes(&self, column: usize) -> Result<Option<Vec<u8>>, ReadError> {
        match self.cells.get(column) {
            Some(Cell::Null) => Ok(None),
            Some(Cell::Bytes(bytes)) => Ok(Some(bytes.clone())),
            _ => Err(self.wrong(column)),
        }
    }

    fn some_bytes(&self, column: usize) -> Result<Vec<u8>, ReadError> {
        self.bytes(column)?.ok_or_else(|| self.wrong(column))
    }

    /// A role; none for one that Quetz does not know, which gives nothing there either.
    fn role(&self, column: usize) -> Result<Option<QuetzRole>, ReadError> {
        Ok(self.text(column)?.and_then(|role| role.parse().ok()))
    }
}

impl Snapshot {
    fn add(&mut self, record: &Record) -> Result<(), ReadError> {
        match record.table {
            "users" => self.users.push(UserRow {
                id: record.some_bytes(0)?,
                name: record.text(1)?,
                role: record.role(2)?,
            }),
            "channels" => self.channels.push(ChannelRow {
                name: record.some_text(0)?,
                description: record.text(1)?,
                private: record.number(2)? == Some(1),
                mirror_channel_url: record.text(3)?.filter(|url| !url.is_empty()),
                mirror_mode: record.text(4)?,
                size_limit: record.number(5)?,
            }),
            "channel_members" => {
                if let Some(role) = record.role(2)? {
                    let (channel, user_id) = (record.some_text(0)?, record.some_bytes(1)?);
                    self.channel_members.push(ChannelMember { channel, user_id, role });
                }
            }
            "package_members" => {
                if let Some(role) = record.role(3)? {
                    self.package_members.push(PackageMember {
                        channel: record.some_text(0)?,
                        package: record.some_text(1)?,
                        user_id: record.some_bytes(2)?,
                        role,
                    });
                }
            }
            "identities" => self.identities.push(Identity {
                user_id: record.bytes(0)?,
                provider: record.some_text(1)?,
                name: record.text(2)?,
            }),
            _ => self.api_keys.push(ApiKey {
                description: record.text(0)?,
                owner_id: record.bytes(1)?,
                user_id: record.bytes(2)?,
                expire_at: record.text(3)?,
            }),
        }
        Ok(())
    }
}

/// The tables and how each is read.
const TABLES: [(&str, &str); 6] = [
    ("users", USERS),
    ("channels", CHANNELS),
    ("channel_members", CHANNEL_MEMBERS),
    ("package_members", PACKAGE_MEMBERS),
    ("identities", IDENTITIES),
    ("api_keys", API_KEYS),
];

/// Reads a database file, which is opened for reading alone. Blocks.
pub fn read_sqlite(file: &Path) -> Result<Snapshot, ReadError> {
    let mut connection = open_sqlite(file)?;
    // One transaction, so that the tables fit together while the old server still runs.
    let transaction = connection.transaction()?;
    let mut snapshot = Snapshot::default();
    for table in TABLES {
        each_of_sqlite(&transaction, table, |record| snapshot.add(record))?;
    }
    snapshot.has_credentials = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'credentials')",
        [],
        |row| row.get(0),
    )?;
    Ok(snapshot)
}

/// Opens a database file for reading alone.
pub(super) fn open_sqlite(file: &Path) -> Result<Connection, ReadError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(file, flags)?)
}

/// Goes through the rows of a statement over a table.
pub(super) fn each_of_sqlite(
    connection: &Connection,
    (table, sql): (&'static str, &str),
    mut each: impl FnMut(&Record) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut cells = Vec::with_capacity(columns);
        for column in 0..columns {
            cells.push(match row.get_ref(column)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(number) => Cell::Number(number),
                ValueRef::Real(_) => return Err(ReadError::Column(table, column + 1)),
                ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
                ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
            });
        }
        each(&Record { table, cells })?;
    }
    Ok(())
}

/// Reads a database in Postgres, in the schema that comes first in the search path.
pub async fn read_postgres(client: &mut Client) -> Result<Snapshot, ReadError> {
    let transaction = client
        .build_transaction()
        .read_only(true)
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .start()
        .await?;
    let mut snapshot = Snapshot::default();
    for (table, sql) in TABLES {
        for row in transaction.query(sql, &[]).await? {
            snapshot.add(&record_of_postgres(table, &row)?)?;
        }
    }
    let row = transaction.query_one("SELECT to_regclass('credentials') IS NOT NULL", &[]).await?;
    snapshot.has_credentials = row.try_get(0)?;
    transaction.commit().await?;
    Ok(snapshot)
}

/// A row as both databases give it.
pub(super) fn record_of_postgres(table: &'static str, row: &Row) -> Result<Record, ReadError> {
    let cells = (0..row.len()).map(|column| cell(table, row, column)).collect::<Result<_, _>>()?;
    Ok(Record { table, cells })
}

fn cell(table: &'static str, row: &Row, column: usize) -> Result<Cell, ReadError> {
    let type_ = row.columns().get(column).map(tokio_postgres::Column::type_);
    Ok(match type_ {
        Some(&Type::INT8) => row.try_get::<_, Option<i64>>(column)?.map_or(Cell::Null, Cell::Number),
        Some(&Type::BYTEA) => row.try_get::<_, Option<Vec<u8>>>(column)?.map_or(Cell::Null, Cell::Bytes),
        Some(&(Type::TEXT | Type::VARCHAR | Type::BPCHAR)) => {
            row.try_get::<_, Option<String>>(column)?.map_or(Cell::Null, Cell::Text)
        }
        _ => return Err(ReadError::Column(table, column + 1)),
    })
}
