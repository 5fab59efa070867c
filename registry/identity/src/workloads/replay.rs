//! Tokens that count once: whoever exchanges one for a token of ours, or logs in by it, uses it up.

use granary_core::SubjectName;
use granary_store::DbError;
use jiff::{SignedDuration, Timestamp};

use crate::jwt::LEEWAY;
use crate::service::Identity;

/// How long after its end a token is remembered. It counts for the leeway of its end, by the clock of any pod, and these
/// may differ by as much.
const REMEMBERED_FOR: SignedDuration = SignedDuration::from_secs(2 * LEEWAY.as_secs());

impl Identity {
    /// Uses up a token: true once for each `jti` of an issuer, on all pods together. `jti` is at most 512 bytes and
    /// `expires_at` the token's own end, as [`crate::Verified`] has both. After a failure the token may be used up.
    pub async fn use_once(
        &self,
        issuer: &SubjectName,
        jti: &str,
        expires_at: Timestamp,
    ) -> Result<bool, DbError> {
        let accounts = self.accounts();
        let database = accounts.store.database();
        let used = database.execute(&accounts.sql.use_jti, &[&issuer.as_str(), &jti, &expires_at]).await?;
        Ok(used == 1)
    }

    /// Forgets used tokens that ended more than two minutes ago, and so count no more. Tells how many there were.
    pub async fn prune_used(&self) -> Result<u64, DbError> {
        let accounts = self.accounts();
        let before = accounts.store.clock().now() - REMEMBERED_FOR;
        accounts.store.database().execute(&accounts.sql.prune_used_jtis, &[&before]).await
    }
}
