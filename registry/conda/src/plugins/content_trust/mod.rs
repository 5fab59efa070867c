//! conda's content trust: packages are signed, and documents that are signed themselves say by which keys.
//!
//! [`canonical`], [`roles`] and [`sealing`] are pure. Signatures are made when a document is rendered, over each record as it is
//! shown there: ed25519 makes the same signature again, so that every process makes the same bytes, and a publish costs the
//! signatures of one part.

mod canonical;
mod roles;
pub(crate) mod routes;
mod sealing;

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use granary_core::Sha256;
use granary_store::{Channel, DbError, Scope, Stamp};
use moka::sync::Cache;
use serde_json::Value;

use canonical::canonical;
use roles::{Role, RoleName};
pub use sealing::{SealingError, SealingKeys};

use crate::format::repodata;
use crate::state::Conda;

/// The document of a channel that changes with its roles and keys.
const DOCUMENT: &str = "content-trust";
/// How many channels' keys are kept in memory.
const REMEMBERED: u64 = 1_000;

/// What was found for a channel, with the stamp that its roles had before.
type Found = (Option<Stamp>, Option<Arc<Signer>>);

/// What content trust holds.
#[derive(Debug)]
pub(crate) struct Trust {
    sealing: Option<SealingKeys>,
    signers: Cache<Scope, Found>,
}

impl Trust {
    pub(super) fn new() -> Self {
        Self { sealing: None, signers: Cache::new(REMEMBERED) }
    }

    pub(crate) fn seal_with(&mut self, keys: SealingKeys) {
        self.sealing = Some(keys);
    }
}

/// Signs the packages of a channel, with each key that its `key_mgr` names and whose private half is here.
pub(crate) struct Signer {
    /// Public keys in hex, in their order, each with its private half.
    keys: Vec<(String, Ed25519KeyPair)>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(public, _)| public)).finish()
    }
}

impl Signer {
    /// Tells signers of other keys apart.
    pub(crate) fn fingerprint(&self) -> String {
        let keys: Vec<&str> = self.keys.iter().map(|(public, _)| public.as_str()).collect();
        Sha256::of(keys.join(",").as_bytes()).to_hex()
    }

    /// The signatures of a record, as `repodata.json` has them.
    pub(crate) fn sign(&self, record: &str) -> Result<String, DbError> {
        let record: Value = serde_json::from_str(record).map_err(|error| DbError::decode("record", error))?;
        let text = canonical(&record);
        let sign = |key: &Ed25519KeyPair| hex::encode(key.sign(text.as_bytes()).as_ref());
        Ok(repodata::signatures(self.keys.iter().map(|(public, key)| (public.as_str(), sign(key)))))
    }
}

/// Where a private key belongs: nowhere else can it be opened.
fn place(channel_id: i64, public: &str) -> String {
    format!("conda-trust-key/{channel_id}/{public}")
}

impl Conda {
    /// What signs the packages of a channel: none where it does not sign, or has no keys yet.
    pub(crate) async fn signer(&self, channel: &Channel) -> Result<Option<Arc<Signer>>, DbError> {
        let Trust { sealing: Some(sealing), signers } = &self.plugins.trust else { return Ok(None) };
        if !channel.settings.conda.content_trust {
            return Ok(None);
        }
        let stamp = self.store.revisions().stamp(channel.scope, DOCUMENT);
        if let Some((_, signer)) = signers.get(&channel.scope).filter(|(known, _)| *known == stamp) {
            return Ok(signer);
        }
        let signer = self.load_signer(channel.id(), sealing).await?.map(Arc::new);
        signers.insert(channel.scope, (stamp, signer.clone()));
        Ok(signer)
    }

    async fn load_signer(&self, channel_id: i64, sealing: &SealingKeys) -> Result<Option<Signer>, DbError> {
        let roles = self.trust_roles(channel_id).await?;
        let role = |name: RoleName| roles.iter().find(|role| role.name == name);
        // A root that came later may have taken the keys of this key_mgr away.
        let (Some(root), Some(key_mgr)) = (role(RoleName::Root), role(RoleName::KeyMgr)) else {
            return Ok(None);
        };
        if !key_mgr.is_signed_as(root) {
            return Ok(None);
        }
        let Some(delegation) = key_mgr.delegation(RoleName::PkgMgr) else { return Ok(None) };
        let rows = self.store.database().query(&self.plugins.sql.trust_keys, &[&channel_id]).await?;
        let mut keys = Vec::new();
        for row in &rows {
            let public = hex::encode(row.try_get::<_, &[u8]>(0)?);
            if !delegation.keys.contains(&public) {
                continue;
            }
            match sealing.open(row.try_get(1)?, &place(channel_id, &public)) {
                Ok(seed) => {
                    let key = Ed25519KeyPair::from_seed_unchecked(&seed);
                    let key = key.map_err(|_| DbError::decode("signing key", SealingError::Damaged))?;
                    keys.push((public, key));
                }
                // Who verifies takes nothing that is not signed; the others go on.
                Err(error) => tracing::error!(
                    channel = channel_id,
                    key = public,
                    error = granary_core::report(&error),
                    "packages are not signed with a key"
                ),
            }
        }
        Ok((!keys.is_empty()).then_some(Signer { keys }))
    }

    /// The newest document of each role.
    async fn trust_roles(&self, channel_id: i64) -> Result<Vec<Role>, DbError> {
        let rows = self.store.database().query(&self.plugins.sql.trust_roles, &[&channel_id]).await?;
        let read = |row: &tokio_postgres::Row| {
            let document: &str = row.try_get(1)?;
            Role::parse(document.as_bytes()).map_err(|error| DbError::decode("role", error))
        };
        rows.iter().map(read).collect()
    }

    /// Encrypts anew every private key that an older key of the configuration encrypts; returns how many.
    ///
    /// # Errors
    /// [`DbError`]. What cannot be opened is left as it is, and logged.
    pub async fn reseal(&self) -> Result<u64, DbError> {
        let Some(sealing) = &self.plugins.trust.sealing else { return Ok(0) };
        let (mut last, mut resealed) = ((0_i64, Vec::<u8>::new()), 0);
        loop {
            let sql = &self.plugins.sql.all_trust_keys;
            let rows = self.store.database().query(sql, &[&last.0, &last.1]).await?;
            let Some(end) = rows.last() else { return Ok(resealed) };
            last = (end.try_get(0)?, end.try_get(1)?);
            for row in &rows {
                let (channel_id, public, sealed): (i64, &[u8], &[u8]) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                if sealing.is_current(sealed) {
                    continue;
                }
                let place = place(channel_id, &hex::encode(public));
                let again = sealing.open(sealed, &place).and_then(|secret| sealing.seal(&secret, &place));
                match again {
                    Ok(again) => {
                        let sql = &self.plugins.sql.reseal_trust_key;
                        resealed += self
                            .store
                            .database()
                            .execute(sql, &[&channel_id, &public, &sealed, &again])
                            .await?;
                    }
                    Err(error) => tracing::error!(
                        place,
                        error = granary_core::report(&error),
                        "a private key cannot be encrypted anew"
                    ),
                }
            }
        }
    }
}

/// A new key: its public half in hex, and its private half.
fn new_key() -> Option<(Vec<u8>, Vec<u8>)> {
    let key = Ed25519KeyPair::generate().ok()?;
    let seed = key.seed().ok()?;
    let seed = aws_lc_rs::encoding::AsBigEndian::as_be_bytes(&seed).ok()?;
    let bytes: &[u8] = seed.as_ref();
    Some((key.public_key().as_ref().to_vec(), bytes.to_vec()))
}
