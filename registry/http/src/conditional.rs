//! Entity tags and conditional requests, as RFC 9110 section 13 orders them.

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use http::header::{
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, InvalidHeaderValue,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// An entity tag that cannot stand in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entity tag is of visible ASCII characters without quotes")]
pub struct EntityTagError;

/// A validator of one representation, ready to be sent as `ETag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag {
    // With its quotes and, if it is weak, the prefix.
    header: HeaderValue,
}

impl EntityTag {
    /// A tag that changes with every byte.
    pub fn strong(opaque: &str) -> Result<Self, EntityTagError> {
        Self::with_prefix("", opaque)
    }

    /// A tag that may stay when the content means the same.
    pub fn weak(opaque: &str) -> Result<Self, EntityTagError> {
        Self::with_prefix("W/", opaque)
    }

    fn with_prefix(prefix: &str, opaque: &str) -> Result<Self, EntityTagError> {
        if !opaque.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
            return Err(EntityTagError);
        }
        let header: Result<_, InvalidHeaderValue> = format!("{prefix}\"{opaque}\"").try_into();
        header.map(|header| Self { header }).map_err(|_| EntityTagError)
    }

    /// The value of the `ETag` header.
    pub fn header_value(&self) -> HeaderValue {
        self.header.clone()
    }

    fn as_tag(&self) -> Tag<'_> {
        let bytes = self.header.as_bytes();
        match bytes.strip_prefix(b"W/") {
            Some(quoted) => Tag { weak: true, quoted },
            None => Tag { weak: false, quoted: bytes },
        }
    }
}

/// A tag as it stands in a request: the quotes still around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag<'a> {
    weak: bool,
    quoted: &'a [u8],
}

impl<'a> Tag<'a> {
    /// Takes a tag off the front of `text`.
    fn split_from(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, quoted) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        let end = inner.iter().position(|byte| *byte == b'"')?;
        let well_formed = inner[..end].iter().all(|byte| *byte == 0x21 || (*byte >= 0x23 && *byte != 0x7f));
        let (quoted, rest) = quoted.split_at(end + 2);
        well_formed.then_some((Self { weak, quoted }, rest))
    }

    fn matches_strongly(self, other: Tag<'_>) -> bool {
        !self.weak && !other.weak && self.quoted == other.quoted
    }

    fn matches_weakly(self, other: Tag<'_>) -> bool {
        self.quoted == other.quoted
    }
}

/// Whether a list of tags, or `*`, holds one that `accepts`. What is malformed ends the list.
fn any_tag(headers: &HeaderMap, name: &HeaderName, accepts: impl Fn(Tag<'_>) -> bool) -> bool {
    headers.get_all(name).iter().any(|value| {
        let mut rest = value.as_bytes();
        loop {
            while let [b' ' | b'\t' | b',', after @ ..] = rest {
                rest = after;
            }
            match Tag::split_from(rest) {
                Some((tag, _)) if accepts(tag) => return true,
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    })
}

fn is_any(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().trim_ascii() == b"*")
}

/// The date of a header, if there is one and it is one.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Cuts to whole seconds, which is all that an HTTP date can say.
fn whole_seconds(time: SystemTime) -> SystemTime {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(time, |since| SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

/// What the validators of the thing asked for are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Validators<'a> {
    /// Its entity tag.
    pub etag: Option<&'a EntityTag>,
    /// When it was last changed.
    pub last_modified: Option<SystemTime>,
}

/// How a conditional request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As if it had no conditions.
    Proceed,
    /// `304 Not Modified`.
    NotModified,
    /// `412 Precondition Failed`.
    PreconditionFailed,
}

/// Evaluates the conditions of a request for something that exists.
pub fn evaluate(method: &Method, headers: &HeaderMap, current: Validators<'_>) -> Outcome {
    let own = current.etag.map(EntityTag::as_tag);
    if headers.contains_key(IF_MATCH) {
        let holds = is_any(headers, &IF_MATCH)
            || own.is_some_and(|own| any_tag(headers, &IF_MATCH, |tag| tag.matches_strongly(own)));
        if !holds {
            return Outcome::PreconditionFailed;
        }
    } else if let Some((since, modified)) = date(headers, &IF_UNMODIFIED_SINCE).zip(current.last_modified)
        && whole_seconds(modified) > since
    {
        return Outcome::PreconditionFailed;
    }
    let reads = method == Method::GET || method == Method::HEAD;
    if headers.contains_key(IF_NONE_MATCH) {
        let same = is_any(headers, &IF_NONE_MATCH)
            || own.is_some_and(|own| any_tag(headers, &IF_NONE_MATCH, |tag| tag.matches_weakly(own)));
        if same {
            return if reads { Outcome::NotModified } else { Outcome::PreconditionFailed };
        }
    } else if reads
        && let Some((since, modified)) = date(headers, &IF_MODIFIED_SINCE).zip(current.last_modified)
        && whole_seconds(modified) <= since
    {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// Whether a `Range` may be honoured: there is no `If-Range`, or it names exactly what we have.
pub fn range_applies(headers: &HeaderMap, current: Validators<'_>) -> bool {
    let Some(condition) = headers.get(IF_RANGE) else { return true };
    match Tag::split_from(condition.as_bytes()) {
        Some((tag, [])) => current.etag.is_some_and(|own| tag.matches_strongly(own.as_tag())),
        Some(_) => false,
        None => {
            let named = date(headers, &IF_RANGE);
            named.is_some() && named == current.last_modified.map(whole_seconds)
        }
    }
}
