//! On whose behalf packages come and go: somebody's request, or a job of ours.

use granary_http::Call;
use granary_store::{AuditEntry, Channel};
use serde_json::Value;

/// Who changes a channel, as the audit tells it.
#[derive(Debug, Clone)]
pub(crate) struct Author(AuditEntry);

impl Author {
    /// Who makes this call.
    pub(crate) fn of(call: &Call) -> Self {
        Self(call.audit_entry("", None, Value::Null))
    }

    /// A job of ours.
    pub(crate) fn job(name: &'static str) -> Self {
        Self(AuditEntry {
            actor: name.to_owned(),
            credential: "none".to_owned(),
            address: None,
            action: "",
            channel: None,
            package: None,
            detail: Value::Null,
            outcome: "done",
            request_id: None,
        })
    }

    /// Somebody who is brought along from another registry, by a command.
    pub(crate) fn imported(name: &str) -> Self {
        let Self(entry) = Self::job("import");
        Self(AuditEntry { actor: name.to_owned(), credential: "import".to_owned(), ..entry })
    }

    /// The name of who acts.
    pub(crate) fn name(&self) -> &str {
        &self.0.actor
    }

    /// What the audit remembers of an act in this channel.
    pub(crate) fn entry(
        &self,
        action: &'static str,
        channel: &Channel,
        package: Option<&str>,
        detail: Value,
    ) -> AuditEntry {
        let (channel, package) = (Some(channel.full_name()), package.map(str::to_owned));
        AuditEntry { action, channel, package, detail, ..self.0.clone() }
    }
}
