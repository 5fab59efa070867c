//! What a token whose signature is true has to say before it counts.

use granary_core::{Sha256, SubjectName, Workload};
use jiff::{SignedDuration, Timestamp};

use super::claims::flatten;
use super::{Verified, WorkloadError};
use crate::jwt::LEEWAY;
use crate::jwt::claim::{Unreadable, audiences, text, time};
use crate::jwt::json::Object;

/// The longest that a token may live.
const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// The longest subject, in characters.
const MAX_SUBJECT: usize = 1024;
/// The longest `jti`, in bytes: it is part of an index's key.
const MAX_ID: usize = 512;

/// Checks the claims of a token that `key` of `issuer` signed.
pub(super) fn accept(
    payload: &Object,
    issuer: &SubjectName,
    expected: &[String],
    key: Sha256,
    now: Timestamp,
) -> Result<Verified, WorkloadError> {
    let named = audiences(payload)?.ok_or(WorkloadError::MissingClaim("aud"))?;
    if !named.iter().any(|name| expected.iter().any(|audience| audience == name)) {
        return Err(WorkloadError::Audience);
    }
    let expires_at = time(payload, "exp")?.ok_or(WorkloadError::MissingClaim("exp"))?;
    let not_before = time(payload, "nbf")?;
    let issued_at = time(payload, "iat")?;
    if now.duration_since(expires_at) >= LEEWAY {
        return Err(WorkloadError::Expired);
    }
    if [not_before, issued_at].into_iter().flatten().any(|start| start.duration_since(now) > LEEWAY) {
        return Err(WorkloadError::NotYetValid);
    }
    // A token that does not say since when it counts is taken for one of now.
    if expires_at.duration_since(issued_at.unwrap_or(now)) > MAX_LIFETIME {
        return Err(WorkloadError::TooLong);
    }
    let subject = text(payload, "sub", |subject| {
        // It stands in logs and in the audit.
        (1..=MAX_SUBJECT).contains(&subject.chars().count()) && !subject.contains(char::is_control)
    })?
    .ok_or(WorkloadError::MissingClaim("sub"))?;
    let subject = subject.to_owned();
    let jti = text(payload, "jti", |id| (1..=MAX_ID).contains(&id.len()) && !id.contains(char::is_control))?;
    let workload = Workload { issuer: issuer.clone(), subject, claims: flatten(payload)? };
    Ok(Verified { workload, jti: jti.map(str::to_owned), issued_at, expires_at, key })
}

impl From<Unreadable> for WorkloadError {
    fn from(Unreadable(claim): Unreadable) -> Self {
        Self::Claim(claim)
    }
}
