//! Accounts of people whom an identity provider knows, and the sessions of browsers.

use std::net::IpAddr;

use granary_core::SubjectName;
use granary_store::{AuditEntry, DbError, PublishTx, Scope};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::accounts::{AccountError, Accounts, NewToken, Owner, TokenKind, read_name, token_document};
use crate::caller::{Caller, Recognition};
use crate::providers::Person;
use crate::token::TokenText;

/// Where a request comes from, for the audit.
#[derive(Debug, Clone, Copy)]
pub struct Whence<'a> {
    /// The client's address, as far as that is known.
    pub address: Option<IpAddr>,
    /// The request's id.
    pub request_id: &'a str,
}

impl Whence<'_> {
    /// The row of something that somebody did.
    pub(crate) fn audit_entry(
        &self,
        actor: &str,
        credential: String,
        action: &'static str,
        detail: Value,
    ) -> AuditEntry {
        AuditEntry {
            actor: actor.to_owned(),
            credential,
            address: self.address.map(|address| address.to_string()),
            action,
            channel: None,
            package: None,
            detail,
            outcome: "done",
            request_id: Some(self.request_id.to_owned()),
        }
    }
}

/// A browser's session that has begun.
#[derive(Debug)]
pub struct Session {
    /// What the cookie holds.
    pub token: TokenText,
    /// Whose it is.
    pub account: SubjectName,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Accounts {
    /// Sees to it that somebody whom a provider knows has an account, in the groups that they are in now. The account is
    /// theirs by the provider's own mark for them, whatever they are called there by now. Returns its name, and whether it is
    /// disabled.
    pub(crate) async fn ensure_person(
        &self,
        tx: &mut PublishTx,
        source: &SubjectName,
        person: &Person,
    ) -> Result<(SubjectName, bool), AccountError> {
        let groups: Vec<&str> = person.groups.iter().map(SubjectName::as_str).collect();
        let (source, subject, name) = (source.as_str(), person.subject.as_str(), person.name.as_str());
        let find = async || tx.query_opt(&self.sql.account_by_subject, &[&source, &subject]).await;
        let mut made = false;
        let mut row = find().await?;
        if row.is_none() {
            made = tx.execute(&self.sql.insert_person, &[&name, &source, &subject, &groups]).await? == 1;
            // Another login of theirs may have made it meanwhile.
            row = find().await?;
        }
        let row = row.ok_or_else(|| AccountError::Foreign(person.name.clone()))?;
        let read = |error| AccountError::Database(DbError::Postgres(error));
        let (name, disabled): (&str, bool) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
        let known: Vec<&str> = row.try_get(2).map_err(read)?;
        self.settle(tx, source, name, (made, &known), &groups).await?;
        Ok((read_name(name)?, disabled))
    }

    /// Begins a session within the transaction. `by` says what let the person in: a provider, or `password`.
    pub(crate) async fn insert_session(
        &self,
        tx: &mut PublishTx,
        session: &Session,
        by: &str,
        whence: &Whence<'_>,
    ) -> Result<(), DbError> {
        let label = format!("browser session ({by})");
        let new = NewToken { label: &label, expires_at: Some(session.expires_at), ..NewToken::default() };
        let Session { token, account, .. } = session;
        self.insert_token(tx, Owner::Account(account), token, TokenKind::Session, &new).await?;
        tx.touch(Scope::REGISTRY, token_document(token.id()));
        let detail = json!({ "by": by, "session": token.id(), "expiresAt": session.expires_at });
        tx.audit(&whence.audit_entry(account.as_str(), by.to_owned(), "log in", detail)).await
    }

    /// Ends the caller's session, on all pods before their next request, with all that was made by it. Nothing where the
    /// caller has none, or where it has ended meanwhile.
    pub async fn end_session(&self, caller: &Caller, whence: &Whence<'_>) -> Result<(), AccountError> {
        let Recognition::Session(id) = &caller.recognition else { return Ok(()) };
        let mut tx = self.store.begin().await?;
        let ended = tx.query(&self.sql.delete_token, &[&&**id]).await?;
        if ended.is_empty() {
            return Ok(tx.rollback().await?);
        }
        for row in &ended {
            tx.touch(Scope::REGISTRY, token_document(row.try_get(0).map_err(DbError::from)?));
        }
        let entry = whence.audit_entry(&caller.actor(), caller.credential(), "log out", json!({}));
        tx.audit(&entry).await?;
        Ok(tx.commit().await?)
    }
}
