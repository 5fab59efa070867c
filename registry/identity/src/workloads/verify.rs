//! What a token whose signature is true has to say before it counts.

use granary_core::{Sha256, SubjectName, Workload};
use jiff::{SignedDuration, Timestamp};

use super::claims::flatten;
use super::json::{Json, Object};
use super::{Verified, WorkloadError};

/// How far the issuer's clock and ours may differ.
pub(super) const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
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
    audiences: &[String],
    key: Sha256,
    now: Timestamp,
) -> Result<Verified, WorkloadError> {
    audience(payload, audiences)?;
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
    let jti = text(payload, "jti", |id| (1..=MAX_ID).contains(&id.len()) && !id.contains(char::is_control))?;
    let workload = Workload { issuer: issuer.clone(), subject, claims: flatten(payload)? };
    Ok(Verified { workload, jti, issued_at, expires_at, key })
}

/// RFC 7519, section 4.1.3: one audience, or an array of them.
fn audience(payload: &Object, audiences: &[String]) -> Result<(), WorkloadError> {
    let claim = payload.get("aud").ok_or(WorkloadError::MissingClaim("aud"))?;
    let named = match claim {
        Json::Array(named) => named.as_slice(),
        one => std::slice::from_ref(one),
    };
    let named: Vec<&str> =
        named.iter().map(Json::as_text).collect::<Option<_>>().ok_or(WorkloadError::Claim("aud"))?;
    if named.iter().any(|name| audiences.iter().any(|audience| audience == name)) {
        Ok(())
    } else {
        Err(WorkloadError::Audience)
    }
}

fn text(
    payload: &Object,
    claim: &'static str,
    is_good: impl Fn(&str) -> bool,
) -> Result<Option<String>, WorkloadError> {
    match payload.get(claim) {
        None => Ok(None),
        Some(Json::Text(text)) if is_good(text) => Ok(Some(text.clone())),
        Some(_) => Err(WorkloadError::Claim(claim)),
    }
}

/// RFC 7519, section 2: `NumericDate`, seconds since 1970, perhaps with a fraction.
fn time(payload: &Object, claim: &'static str) -> Result<Option<Timestamp>, WorkloadError> {
    let read = |number: &str| {
        if let Ok(seconds) = number.parse() {
            return Timestamp::from_second(seconds).ok();
        }
        let seconds: f64 = number.parse().ok()?;
        Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
    };
    match payload.get(claim) {
        None => Ok(None),
        Some(Json::Number(number)) => read(number).map(Some).ok_or(WorkloadError::Claim(claim)),
        Some(_) => Err(WorkloadError::Claim(claim)),
    }
}
