//! The way to Postgres: pool, TLS, statement cache.

use std::path::PathBuf;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::connection_string::ConnectionString;
use crate::error::is_outage;
use crate::preparing::{POOLED, Preparing};
use crate::{DbError, Schema};

/// A connection of the pool, which gets it back.
pub type Connection = Object;

/// A parameter of a statement.
pub type Param<'a> = &'a (dyn ToSql + Sync);

/// The longest that a statement may take. The slowest of ours, which the upkeep runs, take seconds.
pub(crate) const STATEMENT_LIMIT: Duration = Duration::from_secs(20);

/// How to reach Postgres.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// `postgresql://…` or `key=value` pairs. Besides the parameters of `tokio-postgres`, `pgbouncer=true` says that a
    /// transaction-mode pooler stands between that knows no prepared statements.
    pub url: String,
    /// The schema of the registry.
    pub schema: Schema,
    /// The most connections of this process.
    pub max_connections: usize,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A client certificate and its key (PEM).
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// Why the database cannot be set up at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not one.
    #[error("the database URL cannot be read")]
    Url(#[source] tokio_postgres::Error),
    /// A certificate file cannot be used.
    #[error("the certificate file {path} cannot be used")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// The TLS settings do not fit together.
    #[error("the TLS settings of the database cannot be used")]
    Tls(#[from] rustls::Error),
    /// The pool cannot be built.
    #[error("the connection pool cannot be built")]
    Pool(#[from] deadpool_postgres::BuildError),
    /// A connection outside the pool cannot be opened.
    #[error("the database cannot be reached")]
    Connect(#[source] tokio_postgres::Error),
}

impl ConnectError {
    /// Whether the server is out of reach, so that the same call may succeed later. A server that answers that it
    /// does not know the role, the password or the database is not.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Connect(error) => error.code().is_none_or(is_outage),
            Self::Url(_) | Self::Certificate { .. } | Self::Tls(_) | Self::Pool(_) => false,
        }
    }
}

/// A pool of connections, and the schema.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool,
    schema: Schema,
    preparing: Preparing,
}

impl Database {
    /// Prepares the pool. No connection is opened yet.
    pub fn new(options: &DatabaseOptions) -> Result<Self, ConnectError> {
        let config = parse_url(&options.url)?;
        let preparing = Preparing::of(&options.url);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match tls_connector(&config, options)? {
            Some(tls) => Manager::from_config(config, tls, recycling),
            None => Manager::from_config(config, NoTls, recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(options.max_connections)
            .wait_timeout(Some(Duration::from_secs(5)))
            .create_timeout(Some(Duration::from_secs(5)))
            .recycle_timeout(Some(Duration::from_secs(5)))
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Self { pool, schema: options.schema.clone(), preparing })
    }

    /// The schema of the registry.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn preparing(&self) -> &Preparing {
        &self.preparing
    }

    /// A connection; waits up to 5 s for one.
    pub async fn connection(&self) -> Result<Connection, DbError> {
        Ok(self.pool.get().await?)
    }

    /// The rows of one statement, on a connection of its own.
    pub async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        self.run(sql, async |client| self.preparing.query(client, sql, params).await).await
    }

    /// The row of one statement that yields at most one.
    pub async fn query_opt(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<Row>, DbError> {
        self.run(sql, async |client| self.preparing.query_opt(client, sql, params).await).await
    }

    /// Runs one statement and tells how many rows it touched.
    pub async fn execute(&self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        self.run(sql, async |client| self.preparing.execute(client, sql, params).await).await
    }

    /// A database that has gone silent must not hold requests for ever. The connection that waited for it is
    /// closed: nobody knows what is still to come on it.
    async fn run<T>(
        &self,
        sql: &str,
        work: impl AsyncFnOnce(&Object) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DbError> {
        self.preparing.learn(&self.pool, sql).await?;
        let client = self.connection().await?;
        if let Ok(result) = tokio::time::timeout(STATEMENT_LIMIT, work(&client)).await {
            return Ok(result?);
        }
        drop(Object::take(client));
        Err(DbError::TimedOut)
    }
}

/// One connection outside the pool: for migrations, which hold a session lock.
pub(crate) async fn connect_directly(
    options: &DatabaseOptions,
) -> Result<tokio_postgres::Client, ConnectError> {
    let config = parse_url(&options.url)?;
    if let Some(tls) = tls_connector(&config, options)? {
        let (client, connection) = config.connect(tls).await.map_err(ConnectError::Connect)?;
        tokio::spawn(connection);
        Ok(client)
    } else {
        let (client, connection) = config.connect(NoTls).await.map_err(ConnectError::Connect)?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// The parameter of a connection string that says how far TLS is wanted.
const SSL_MODE: &str = "sslmode";

/// Whether a connection string asks for TLS by itself, without a certificate being named beside it.
pub fn wants_tls(url: &str) -> Result<bool, ConnectError> {
    Ok(parse_url(url)?.get_ssl_mode() == SslMode::Require)
}

/// Reads a connection string.
pub(crate) fn parse_url(url: &str) -> Result<tokio_postgres::Config, ConnectError> {
    let mut string = ConnectionString::parse(url);
    // Ours, and unknown to others.
    let mut is_changed = string.take(POOLED).is_some();
    // What libpq calls so is what `require` means here: the certificate is always verified.
    let is_verified = string.get(SSL_MODE).is_some_and(|mode| matches!(mode, "verify-full" | "verify-ca"));
    if is_verified {
        string.take(SSL_MODE);
        is_changed = true;
    }
    let url = if is_changed { string.to_string() } else { url.to_owned() };
    let mut config: tokio_postgres::Config = url.parse().map_err(ConnectError::Url)?;
    if is_verified {
        config.ssl_mode(SslMode::Require);
    }
    if config.get_application_name().is_none() {
        config.application_name("granary");
    }
    // A peer that has vanished is noticed within half a minute, not after the system's two hours.
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(15));
    }
    config
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(2);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    Ok(config)
}

/// TLS is spoken when the URL says `sslmode=require` or a CA or client certificate is named, and then the
/// server's certificate is always verified. Otherwise the connection is plain: an encrypted connection to
/// whoever answers would only look safe.
fn tls_connector(
    config: &tokio_postgres::Config,
    options: &DatabaseOptions,
) -> Result<Option<MakeRustlsConnect>, ConnectError> {
    let wanted = config.get_ssl_mode() == SslMode::Require
        || options.ca_file.is_some()
        || options.client_certificate.is_some();
    if !wanted || config.get_ssl_mode() == SslMode::Disable {
        return Ok(None);
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &options.ca_file {
        for certificate in read_certificates(path)? {
            roots.add(certificate)?;
        }
    }
    let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
    let client = match &options.client_certificate {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| ConnectError::Certificate { path: key.clone(), source })?;
            builder.with_client_auth_cert(read_certificates(certificate)?, key)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Some(MakeRustlsConnect::new(client)))
}

fn read_certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| ConnectError::Certificate { path: path.clone(), source })
}
