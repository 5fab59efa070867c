//! The audit: one row a write, in the same transaction.

use serde_json::Value;

use crate::database::Param;

/// What is remembered of a write or of a refusal. Never holds a secret.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// The account, or `anonymous`, or the part of the server that acted.
    pub actor: String,
    /// By which kind of credential, with a token's public id.
    pub credential: String,
    /// The client's address as far as trusted proxies tell it.
    pub address: Option<String>,
    /// What was done, such as `publish` or `yank`.
    pub action: &'static str,
    /// `format/name`.
    pub channel: Option<String>,
    /// The package's normalised name.
    pub package: Option<String>,
    /// What else tells the act apart: file name, digest, version.
    pub detail: Value,
    /// `done` or `refused`.
    pub outcome: &'static str,
    /// The request's id.
    pub request_id: Option<String>,
}

impl AuditEntry {
    pub(crate) fn params(&self) -> [Param<'_>; 9] {
        [
            &self.actor,
            &self.credential,
            &self.address,
            &self.action,
            &self.channel,
            &self.package,
            &self.detail,
            &self.outcome,
            &self.request_id,
        ]
    }
}
