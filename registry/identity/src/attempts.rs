//! Limits on wrong credentials, which all pods keep together through Postgres.
//!
//! Two things are counted: the wrong credentials of an address, and those of an address for one user name. Never
//! those of a user name alone: a stranger elsewhere could lock its owner out. So where a client's address is not
//! known (a Unix socket without a proxy's headers), nothing is counted.
//!
//! A window begins with the first wrong credential, lasts as long as the limits say, and bears so many; then nobody
//! is admitted until it ends. It is fixed and does not slide: two windows may touch, so that within a span of that
//! length at most twice the limit comes through, less one.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use granary_core::Sha256;
use granary_crds::Logins;
use granary_store::{Database, DbError, Param, Store};
use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use tokio_postgres::Row;

use crate::sql::Statements;

/// How many lock-outs are remembered.
const REMEMBERED: u64 = 10_000;
/// For how long they are, without asking again: an administrator may have lifted one, by removing its row.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// How many rows one statement removes at most.
const PRUNE_BATCH: i64 = 5000;

/// Why a credential is not even checked.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// There were too many wrong ones.
    #[error("too many wrong passwords or tokens; try again in {} s", retry_after.as_secs())]
    LockedOut {
        /// When to try again; at least a second, a whole number of them.
        retry_after: Duration,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Counts wrong credentials, and turns away who sent too many. Cheap to clone.
#[derive(Clone)]
pub struct Attempts {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    sql: Statements,
    limits: Logins,
    /// Who is locked out, and until when. A flood is turned away without a query.
    locked_out: Cache<Sha256, Timestamp>,
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

/// What is counted.
struct Counted {
    digest: Sha256,
    /// How many wrong credentials are borne.
    most: u32,
}

impl Attempts {
    /// Over the registry's tables, by its clock.
    pub fn new(store: &Store, limits: Logins) -> Self {
        let inner = Inner {
            store: store.clone(),
            sql: Statements::new(store.database().schema()),
            limits,
            locked_out: Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// To be asked before a credential that is not remembered is checked; `user` is the name that was given, whether
    /// there is such an account or not. An error while locked out.
    ///
    /// Requests that are checked at the same moment were all admitted: where a check has to wait for its turn, ask
    /// again when it has come.
    pub async fn admit(&self, user: Option<&str>, address: Option<IpAddr>) -> Result<(), AttemptError> {
        let counted = self.counted(user, address).await?;
        let now = self.now();
        if let Some(until) = self.remembered(&counted, now) {
            return Err(locked_out(until, now));
        }
        let digests: Vec<&[u8]> =
            counted.iter().map(|counted| counted.digest.as_bytes().as_slice()).collect();
        if digests.is_empty() {
            return Ok(());
        }
        let mut latest = None;
        for row in self.database().query(&self.inner.sql.locked_out, &[&digests, &now]).await? {
            let until = self.remember(&row)?;
            latest = latest.max(Some(until));
        }
        latest.map_or(Ok(()), |until| Err(locked_out(until, now)))
    }

    /// Counts a wrong credential; without a `user`, which a token has not, for its address alone. Of who is locked out
    /// nothing more is written.
    pub async fn failed(&self, user: Option<&str>, address: Option<IpAddr>) -> Result<(), DbError> {
        let counted = self.counted(user, address).await?;
        let now = self.now();
        if counted.is_empty() || self.remembered(&counted, now).is_some() {
            return Ok(());
        }
        let digests: Vec<&[u8]> =
            counted.iter().map(|counted| counted.digest.as_bytes().as_slice()).collect();
        let most: Vec<i32> =
            counted.iter().map(|counted| i32::try_from(counted.most).unwrap_or(i32::MAX)).collect();
        let ends = now.checked_add(signed(self.inner.limits.within)).unwrap_or(Timestamp::MAX);
        let params: [Param<'_>; 4] = [&digests, &most, &ends, &now];
        for row in self.database().query(&self.inner.sql.count_failure, &params).await? {
            if row.try_get::<_, i32>(2)? == 0 {
                self.remember(&row)?;
            }
        }
        Ok(())
    }

    /// A right password: what was counted for this name from this address is forgotten. What was counted for the
    /// address stays: else whoever has an account could guess the passwords of others for ever.
    pub async fn succeeded(&self, user: &str, address: Option<IpAddr>) -> Result<(), DbError> {
        let Some(address) = address else { return Ok(()) };
        let digest = self.digest(address, Some(user)).await?;
        self.inner.locked_out.invalidate(&digest);
        let digest = digest.as_bytes().as_slice();
        self.database().execute(&self.inner.sql.forget_failures, &[&digest]).await?;
        Ok(())
    }

    /// Removes windows that are over, some thousands a transaction. Says how many.
    pub async fn prune(&self) -> Result<u64, DbError> {
        let mut pruned = 0;
        loop {
            let params: [Param<'_>; 2] = [&self.now(), &PRUNE_BATCH];
            let gone = self.database().execute(&self.inner.sql.prune_failures, &params).await?;
            pruned += gone;
            if gone < PRUNE_BATCH.unsigned_abs() {
                return Ok(pruned);
            }
        }
    }

    fn database(&self) -> &Database {
        self.inner.store.database()
    }

    fn now(&self) -> Timestamp {
        self.inner.store.clock().now()
    }

    async fn counted(&self, user: Option<&str>, address: Option<IpAddr>) -> Result<Vec<Counted>, DbError> {
        let Some(address) = address else { return Ok(Vec::new()) };
        let Logins { failures_per_user, failures_per_address, .. } = self.inner.limits;
        let mut counted =
            vec![Counted { digest: self.digest(address, None).await?, most: failures_per_address }];
        if user.is_some() {
            counted.push(Counted { digest: self.digest(address, user).await?, most: failures_per_user });
        }
        Ok(counted)
    }

    /// Says nothing about the name to who sees it, and something else in every registry.
    async fn digest(&self, address: IpAddr, user: Option<&str>) -> Result<Sha256, DbError> {
        let registry = self.inner.store.registry_id().await?;
        let mut input = registry.as_bytes().to_vec();
        input.extend_from_slice(network_of(address).to_string().as_bytes());
        if let Some(user) = user {
            input.push(b'u');
            input.extend_from_slice(user.as_bytes());
        }
        Ok(Sha256::of(&input))
    }

    /// Until when one of these is locked out, as far as this process knows.
    fn remembered(&self, counted: &[Counted], now: Timestamp) -> Option<Timestamp> {
        let ends = counted.iter().filter_map(|counted| self.inner.locked_out.get(&counted.digest));
        ends.filter(|until| *until > now).max()
    }

    /// Remembers a row: a digest, and until when it is locked out.
    fn remember(&self, row: &Row) -> Result<Timestamp, DbError> {
        let digest = Sha256::try_from(row.try_get::<_, &[u8]>(0)?)
            .map_err(|error| DbError::decode("failed login", error))?;
        let until = row.try_get(1)?;
        self.inner.locked_out.insert(digest, until);
        Ok(until)
    }
}

/// What is counted for an address: of an IPv6 address the first one of its /64, since whoever has one of these has all of
/// them; an IPv4 address as it is.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn locked_out(until: Timestamp, now: Timestamp) -> AttemptError {
    let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    // As HTTP tells it: not too few of them.
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    AttemptError::LockedOut { retry_after: Duration::from_secs(seconds.max(1)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn addresses_of_one_holder_are_one() {
        let same =
            |left: &str, right: &str| network_of(left.parse().unwrap()) == network_of(right.parse().unwrap());
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("192.0.2.7", "::ffff:192.0.2.7"));
        assert!(!same("192.0.2.7", "192.0.2.8"));
        assert!(!same("::ffff:192.0.2.7", "::ffff:192.0.2.8"));
    }

    #[test]
    fn a_pause_is_told_in_whole_seconds() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (until, seconds) in [("12:00:00.001", 1), ("12:00:01", 1), ("12:00:01.5", 2), ("12:05:00", 300)] {
            let until = format!("2026-03-01T{until}Z").parse().unwrap();
            let AttemptError::LockedOut { retry_after } = locked_out(until, now) else { panic!("{until}") };
            assert_eq!(retry_after, Duration::from_secs(seconds));
        }
    }
}
