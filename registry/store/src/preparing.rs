//! How statements reach Postgres: prepared once a connection; or, behind a transaction-mode pooler that knows no
//! prepared statements, sent whole each time. That takes the types of the parameters, which are asked for once a
//! process, within a transaction: so the question and its end reach the same server.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use deadpool_postgres::{Object, Pool};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use crate::DbError;
use crate::connection_string::ConnectionString;
use crate::database::{Param, STATEMENT_LIMIT};

/// The parameter of a connection string that says that there is such a pooler.
pub(crate) const POOLED: &str = "pgbouncer";

type Types = Arc<[Type]>;

/// How statements are sent.
#[derive(Debug, Clone)]
pub(crate) enum Preparing {
    /// Prepared, once a connection.
    Named,
    /// Whole, with the types of their parameters.
    Unnamed(Arc<RwLock<HashMap<String, Types>>>),
}

impl Preparing {
    /// What the connection string asks for.
    pub(crate) fn of(url: &str) -> Self {
        match ConnectionString::parse(url).take(POOLED).as_deref() {
            Some("true" | "1" | "on" | "yes") => Self::Unnamed(Arc::default()),
            _ => Self::Named,
        }
    }

    /// Makes sure that the statement can be sent, on a connection of its own.
    pub(crate) async fn learn(&self, pool: &Pool, sql: &str) -> Result<(), DbError> {
        if self.can_send(sql) {
            return Ok(());
        }
        let mut guard = Guard(Some(pool.get().await?));
        let Some(client) = &guard.0 else { return Ok(()) };
        let work = async {
            client.batch_execute("begin").await?;
            let learnt = self.learn_within(client, sql).await;
            client.batch_execute("rollback").await?;
            learnt
        };
        tokio::time::timeout(STATEMENT_LIMIT, work).await.map_err(|_| DbError::TimedOut)??;
        // Only now may the connection go back to the pool.
        guard.0 = None;
        Ok(())
    }

    /// Makes sure that the statement can be sent, on a connection that is within a transaction.
    pub(crate) async fn learn_within(&self, client: &Object, sql: &str) -> Result<(), Error> {
        let Self::Unnamed(types) = self else { return Ok(()) };
        if self.can_send(sql) {
            return Ok(());
        }
        let learnt: Types = client.prepare(sql).await?.params().into();
        types.write().unwrap_or_else(PoisonError::into_inner).insert(sql.to_owned(), learnt);
        Ok(())
    }

    fn can_send(&self, sql: &str) -> bool {
        matches!(self, Self::Named) || self.types(sql).is_some()
    }

    /// Nothing where statements are prepared, or the types were not asked for yet.
    fn types(&self, sql: &str) -> Option<Types> {
        let Self::Unnamed(types) = self else { return None };
        types.read().unwrap_or_else(PoisonError::into_inner).get(sql).cloned()
    }

    fn typed<'a>(&self, sql: &str, params: &[Param<'a>]) -> Option<Vec<(&'a (dyn ToSql + Sync), Type)>> {
        let types = self.types(sql)?;
        Some(params.iter().copied().zip(types.iter().cloned()).collect())
    }

    pub(crate) async fn query(
        &self,
        client: &Object,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Error> {
        match self.typed(sql, params) {
            Some(typed) => client.query_typed(sql, &typed).await,
            None => client.query(&client.prepare_cached(sql).await?, params).await,
        }
    }

    pub(crate) async fn query_opt(
        &self,
        client: &Object,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, Error> {
        match self.typed(sql, params) {
            Some(typed) => client.query_typed_opt(sql, &typed).await,
            None => client.query_opt(&client.prepare_cached(sql).await?, params).await,
        }
    }

    pub(crate) async fn execute(
        &self,
        client: &Object,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, Error> {
        match self.typed(sql, params) {
            Some(typed) => client.execute_typed(sql, &typed).await,
            None => client.execute(&client.prepare_cached(sql).await?, params).await,
        }
    }
}

/// Closes the connection that is still in it: it may be within a transaction.
struct Guard(Option<Object>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}
