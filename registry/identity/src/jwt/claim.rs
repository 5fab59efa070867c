//! Single claims of a payload, each read in one way or not at all.

use jiff::{SignedDuration, Timestamp};

use super::json::{Json, Object};

/// A claim that is there and is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) &'static str);

/// A text for which `is_good` holds.
pub(crate) fn text<'a>(
    payload: &'a Object,
    claim: &'static str,
    is_good: impl Fn(&str) -> bool,
) -> Result<Option<&'a str>, Unreadable> {
    match payload.get(claim) {
        None => Ok(None),
        Some(Json::Text(text)) if is_good(text) => Ok(Some(text)),
        Some(_) => Err(Unreadable(claim)),
    }
}

/// RFC 7519, section 2: `NumericDate`, seconds since 1970, perhaps with a fraction.
pub(crate) fn time(payload: &Object, claim: &'static str) -> Result<Option<Timestamp>, Unreadable> {
    let read = |number: &str| {
        if let Ok(seconds) = number.parse() {
            return Timestamp::from_second(seconds).ok();
        }
        let seconds: f64 = number.parse().ok()?;
        Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
    };
    match payload.get(claim) {
        None => Ok(None),
        Some(Json::Number(number)) => read(number).map(Some).ok_or(Unreadable(claim)),
        Some(_) => Err(Unreadable(claim)),
    }
}

/// RFC 7519, section 4.1.3: `aud` is one audience, or an array of them.
pub(crate) fn audiences(payload: &Object) -> Result<Option<Vec<&str>>, Unreadable> {
    let Some(claim) = payload.get("aud") else { return Ok(None) };
    let named = match claim {
        Json::Array(named) => named.as_slice(),
        one => std::slice::from_ref(one),
    };
    named.iter().map(Json::as_text).collect::<Option<_>>().map(Some).ok_or(Unreadable("aud"))
}
