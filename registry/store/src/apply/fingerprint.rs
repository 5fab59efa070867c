//! One number for all that a resource decides about the rows of a channel, so that drift is found by comparing.

use std::collections::HashMap;
use std::fmt;

use granary_core::{ChannelName, Format, Sha256};

use super::read_format;
use crate::channels::read_name;
use crate::publish::PublishTx;
use crate::revision::Scope;
use crate::{DbError, Store};

/// The digest of a channel's bucket name, settings, origin, state, policy, resource and the resource's grants, as
/// the database computes it. Only good for comparing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(Sha256);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:.12})", self.0.to_hex())
    }
}

impl Fingerprint {
    fn read(bytes: &[u8]) -> Result<Self, DbError> {
        Sha256::try_from(bytes).map(Self).map_err(|error| DbError::decode("fingerprint", error))
    }
}

impl Store {
    /// How many channels are served, or will be as soon as they have a bucket.
    pub async fn served_channels(&self) -> Result<i64, DbError> {
        let row = self.database().query_opt(&self.sql().served_channels, &[]).await?;
        Ok(row.map_or(Ok(0), |row| row.try_get(0))?)
    }

    /// What the rows of every channel are now, whatever their state, in one query. A channel whose fingerprint is
    /// another than the one that the last apply returned was changed by somebody else. Rows that this version
    /// cannot name are left out.
    pub async fn channel_fingerprints(&self) -> Result<HashMap<(Format, ChannelName), Fingerprint>, DbError> {
        let mut fingerprints = HashMap::new();
        for row in &self.database().query(&self.sql().fingerprints, &[]).await? {
            let Ok(format) = read_format(row.try_get(0)?) else { continue };
            let Ok(name) = read_name(format, row.try_get(1)?) else { continue };
            fingerprints.insert((format, name), Fingerprint::read(row.try_get(2)?)?);
        }
        Ok(fingerprints)
    }

    /// As of now, outside a transaction. `None` when there is no such channel.
    pub(super) async fn fingerprint(&self, scope: Scope) -> Result<Option<Fingerprint>, DbError> {
        let row = self.database().query_opt(&self.sql().fingerprint, &[&scope.0]).await?;
        row.map(|row| Fingerprint::read(row.try_get(0)?)).transpose()
    }

    /// As the transaction sees it.
    pub(super) async fn fingerprint_in(&self, tx: &PublishTx, scope: Scope) -> Result<Fingerprint, DbError> {
        let row = tx.query_opt(&self.sql().fingerprint, &[&scope.0]).await?;
        let row = row.ok_or_else(|| DbError::decode("fingerprint", "the channel is gone"))?;
        Fingerprint::read(row.try_get(0)?)
    }
}
