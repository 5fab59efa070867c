//! The roles of conda's content trust: who may sign what, told by documents that are signed themselves.
//!
//! `root` names the keys of the next `root` and of `key_mgr`; `key_mgr` names those of `pkg_mgr`; and those sign packages. The
//! format is that of `conda_content_trust/common.py` (`checkformat_delegating_metadata`) and of mamba's
//! `update_framework_v0_6.cpp`. Pure: no I/O, and the time is a parameter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::canonical::canonical;

/// What an `OpenPGP` signature (RFC 4880, 5.2.4) puts behind the headers that it covers, before their length.
const OPENPGP_TRAILER: &[u8] = b"\x04\xff";
/// The versions of the format that are known begin with this.
const SPEC_VERSION: &str = "0.6.";
/// The most keys of a role.
const MOST_KEYS: usize = 100;

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// Where trust begins.
    Root,
    /// Names the keys of packages.
    KeyMgr,
    /// Signs packages.
    PkgMgr,
}

impl RoleName {
    /// As documents and the API have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::KeyMgr => "key_mgr",
            Self::PkgMgr => "pkg_mgr",
        }
    }

    /// Whose document names the keys of this one.
    pub const fn delegated_by(self) -> Self {
        match self {
            Self::Root | Self::KeyMgr => Self::Root,
            Self::PkgMgr => Self::KeyMgr,
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RoleName {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let roles = [Self::Root, Self::KeyMgr, Self::PkgMgr];
        roles.into_iter().find(|role| role.as_str() == text).ok_or(RoleError::Name)
    }
}

/// Why a role's document is refused. Each begins as Quetz' answer does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// No role of this name.
    #[error("Invalid role definition: a role is root, key_mgr or pkg_mgr")]
    Name,
    /// Not JSON, or not in the form of a role.
    #[error("Invalid role definition: {0}")]
    Form(&'static str),
    /// It is about another role.
    #[error("Invalid role definition: its type is {found} and not {wanted}")]
    Type {
        /// What it says to be.
        found: RoleName,
        /// What it was sent as.
        wanted: RoleName,
    },
    /// It has ended.
    #[error("Invalid role definition: it expired at {0}")]
    Expired(Timestamp),
    /// A version that does not follow the present one.
    #[error("Invalid role definition: its version is {found} and has to be {wanted}")]
    Version {
        /// What it says.
        found: u64,
        /// What it has to be.
        wanted: String,
    },
    /// Too few good signatures.
    #[error("Invalid role definition: {good} of the {threshold} signatures that {by} asks for are good")]
    Signatures {
        /// How many are good.
        good: usize,
        /// How many have to be.
        threshold: usize,
        /// Whose document asks for them.
        by: RoleName,
    },
    /// Nobody has named its keys yet.
    #[error("'{0}' keys not yet delegated")]
    NotDelegated(RoleName),
}

/// Which keys sign for a role, and how many of them have to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The keys, in hex.
    pub keys: BTreeSet<String>,
    /// How many of them; at least one, and not more than there are.
    pub threshold: usize,
}

/// A role's document.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// Whose.
    pub name: RoleName,
    /// Which of its versions.
    pub version: u64,
    /// Until when it is good.
    pub expires: Timestamp,
    /// What it delegates, by the names of roles.
    pub delegations: BTreeMap<String, Delegation>,
    signed: String,
    signatures: Map<String, Value>,
}

impl Role {
    /// Reads a document. Looks at no signature.
    ///
    /// # Errors
    /// [`RoleError::Form`] and [`RoleError::Name`].
    pub fn parse(document: &[u8]) -> Result<Self, RoleError> {
        let document: Value =
            serde_json::from_slice(document).map_err(|_| RoleError::Form("it is not JSON"))?;
        let signatures = document.get("signatures").and_then(Value::as_object);
        let signatures = signatures.ok_or(RoleError::Form("it has no signatures"))?.clone();
        let signed = document.get("signed").filter(|signed| signed.is_object());
        let signed = signed.ok_or(RoleError::Form("it has nothing signed"))?;
        let text = |field: &str| signed.get(field).and_then(Value::as_str);
        let spec_version = text("metadata_spec_version").filter(|version| version.starts_with(SPEC_VERSION));
        spec_version.ok_or(RoleError::Form("metadata_spec_version is not 0.6.x"))?;
        let name = text("type").ok_or(RoleError::Form("type is not a text"))?.parse()?;
        let version = signed.get("version").and_then(Value::as_u64).filter(|version| *version > 0);
        let version = version.filter(|version| i64::try_from(*version).is_ok());
        let expires = text("expiration").and_then(|time| time.parse().ok());
        text("timestamp")
            .and_then(|time| time.parse::<Timestamp>().ok())
            .ok_or(RoleError::Form("timestamp is not a time"))?;
        let delegations = signed.get("delegations").and_then(Value::as_object);
        let delegations = delegations.ok_or(RoleError::Form("it has no delegations"))?;
        let delegations = delegations.iter().map(|(role, value)| Ok((role.clone(), delegation(value)?)));
        let role = Self {
            name,
            version: version.ok_or(RoleError::Form("version is not a number from 1"))?,
            expires: expires.ok_or(RoleError::Form("expiration is not a time"))?,
            delegations: delegations.collect::<Result<_, RoleError>>()?,
            signed: canonical(signed),
            signatures,
        };
        let needed: &[RoleName] = match name {
            RoleName::Root => &[RoleName::Root, RoleName::KeyMgr],
            RoleName::KeyMgr => &[RoleName::PkgMgr],
            RoleName::PkgMgr => &[],
        };
        if !needed.iter().all(|role_| role.delegations.contains_key(role_.as_str())) {
            return Err(RoleError::Form("it lacks a delegation that its type needs"));
        }
        Ok(role)
    }

    /// What this document delegates to a role.
    pub fn delegation(&self, to: RoleName) -> Option<&Delegation> {
        self.delegations.get(to.as_str())
    }

    /// Checks that enough of the keys that `by` names have signed this document.
    ///
    /// # Errors
    /// [`RoleError::Signatures`], [`RoleError::NotDelegated`].
    fn check_signatures(&self, by: &Self) -> Result<(), RoleError> {
        let delegation = by.delegation(self.name).ok_or(RoleError::NotDelegated(self.name))?;
        let is_good = |key: &&String| {
            let signature = self.signatures.get(key.as_str());
            signature.is_some_and(|signature| verify(key, signature, self.signed.as_bytes()))
        };
        let good = delegation.keys.iter().filter(is_good).count();
        if good < delegation.threshold {
            return Err(RoleError::Signatures { good, threshold: delegation.threshold, by: by.name });
        }
        Ok(())
    }

    /// Whether enough of the keys that `by` names have signed this document.
    pub fn is_signed_as(&self, by: &Self) -> bool {
        self.check_signatures(by).is_ok()
    }

    /// Checks that this document may take the place of `present`, with `delegating` the document that names its keys.
    ///
    /// # Errors
    /// [`RoleError`].
    pub fn check(
        &self,
        present: Option<&Self>,
        delegating: Option<&Self>,
        now: Timestamp,
    ) -> Result<(), RoleError> {
        if self.expires <= now {
            return Err(RoleError::Expired(self.expires));
        }
        let wanted = match (self.name, present) {
            // Clients go from one root to the next, and skip none.
            (RoleName::Root, Some(present)) if self.version != present.version + 1 => {
                Some((present.version + 1).to_string())
            }
            (_, Some(present)) if self.version <= present.version => {
                Some(format!("above {}", present.version))
            }
            _ => None,
        };
        if let Some(wanted) = wanted {
            return Err(RoleError::Version { found: self.version, wanted });
        }
        match self.name {
            // By its own rules too, or there would be no root after it.
            RoleName::Root => {
                self.check_signatures(self)?;
                present.map_or(Ok(()), |present| self.check_signatures(present))
            }
            _ => self.check_signatures(delegating.ok_or(RoleError::NotDelegated(self.name))?),
        }
    }
}

fn delegation(value: &Value) -> Result<Delegation, RoleError> {
    let keys = value.get("pubkeys").and_then(Value::as_array);
    let keys: Option<BTreeSet<String>> = keys.filter(|keys| keys.len() <= MOST_KEYS).and_then(|keys| {
        keys.iter().map(|key| key.as_str().filter(|key| is_key(key)).map(str::to_owned)).collect()
    });
    let keys = keys.ok_or(RoleError::Form("pubkeys are not keys of 64 hexadecimal digits"))?;
    let threshold =
        value.get("threshold").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    let threshold = threshold.filter(|threshold| (1..=keys.len()).contains(threshold));
    let threshold = threshold.ok_or(RoleError::Form("a threshold is not a number of the keys"))?;
    Ok(Delegation { keys, threshold })
}

fn is_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a signature is that of a key over these bytes: a plain one of ed25519, or one that `OpenPGP` made of their digest.
fn verify(key: &str, signature: &Value, signed: &[u8]) -> bool {
    let bytes =
        |field: &str| signature.get(field).and_then(Value::as_str).and_then(|text| hex::decode(text).ok());
    let (Ok(key), Some(signed_with)) = (hex::decode(key), bytes("signature")) else { return false };
    let key = UnparsedPublicKey::new(&ED25519, key);
    if signature.get("other_headers").is_none() {
        return key.verify(signed, &signed_with).is_ok();
    }
    let Some(headers) = bytes("other_headers") else { return false };
    let Ok(length) = u32::try_from(headers.len()) else { return false };
    let mut digest = Context::new(&SHA256);
    for part in [signed, &headers, OPENPGP_TRAILER, &length.to_be_bytes()] {
        digest.update(part);
    }
    key.verify(digest.finish().as_ref(), &signed_with).is_ok()
}

#[cfg(test)]
mod tests;
