//! The path and the query of a request, decoded once and never again.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The longest path or query, in bytes as they are sent.
pub const MAX_LENGTH: usize = 8192;

/// How many segments a path may have, and how many pairs a query.
pub const MAX_SEGMENTS: usize = 64;

/// A path or query that no route accepts. Always the client's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with '/'")]
    NotAbsolute,
    /// Longer than [`MAX_LENGTH`], or with more parts than [`MAX_SEGMENTS`].
    #[error("the path or query is too long")]
    TooLong,
    /// Two slashes in a row.
    #[error("the path holds an empty segment")]
    EmptySegment,
    /// `.` or `..`, however it is written.
    #[error("the path holds a '.' or '..' segment")]
    DotSegment,
    /// A slash or backslash that would be read as one only after decoding.
    #[error("the path holds an encoded slash or a backslash")]
    HiddenSeparator,
    /// NUL, a line break or another control character.
    #[error("the path or query holds a control character")]
    Control,
    /// A percent sign that two hexadecimal digits do not follow.
    #[error("the path or query holds a '%' without two hexadecimal digits")]
    Percent,
    /// Not UTF-8 when decoded, or sent without percent-encoding.
    #[error("the path or query is not percent-encoded UTF-8")]
    Encoding,
}

/// The path of a request: its segments, percent-decoded exactly once.
///
/// No segment is empty, is `.` or `..`, or holds a slash, a backslash or a control character. What was
/// encoded twice is left with its percent signs, which no name of a package or channel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPath {
    segments: Vec<String>,
    trailing_slash: bool,
}

impl RequestPath {
    /// Reads the path part of a request target, as it was sent.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if raw.len() > MAX_LENGTH {
            return Err(PathError::TooLong);
        }
        let rest = raw.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        if rest.is_empty() {
            return Ok(Self { segments: Vec::new(), trailing_slash: true });
        }
        let trailing_slash = rest.ends_with('/');
        let inner = rest.strip_suffix('/').unwrap_or(rest);
        let mut segments = Vec::with_capacity(8);
        for segment in inner.split('/') {
            if segments.len() == MAX_SEGMENTS {
                return Err(PathError::TooLong);
            }
            segments.push(parse_segment(segment)?);
        }
        Ok(Self { segments, trailing_slash })
    }

    /// The decoded segments; none for `/`.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Whether the path ended in a slash; `/` does.
    pub fn trailing_slash(&self) -> bool {
        self.trailing_slash
    }

    /// The same path without `count` segments from the one at `start` on, for a credential that is carried
    /// in the path. `None` when it has no such segments.
    pub fn without(&self, start: usize, count: usize) -> Option<Self> {
        let end = start.checked_add(count)?;
        let (before, after) = (self.segments.get(..start)?, self.segments.get(end..)?);
        let segments = [before, after].concat();
        let trailing_slash = self.trailing_slash || segments.is_empty();
        Some(Self { segments, trailing_slash })
    }
}

/// Decodes one segment and checks it.
fn parse_segment(raw: &str) -> Result<String, PathError> {
    if raw.is_empty() {
        return Err(PathError::EmptySegment);
    }
    let decoded = decode(raw)?;
    if decoded == "." || decoded == ".." {
        return Err(PathError::DotSegment);
    }
    if decoded.contains(['/', '\\']) {
        return Err(PathError::HiddenSeparator);
    }
    Ok(decoded.into_owned())
}

/// Decodes percent signs, once, and refuses control characters.
fn decode(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.is_ascii() {
        return Err(PathError::Encoding);
    }
    let mut escapes = raw.split('%');
    let plain = escapes.next().unwrap_or_default();
    let decoded = if plain.len() == raw.len() {
        Cow::Borrowed(raw)
    } else {
        let is_escape =
            |text: &str| text.len() >= 2 && text.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
        if !escapes.all(is_escape) {
            return Err(PathError::Percent);
        }
        // Strict: overlong forms and surrogates are no UTF-8.
        percent_decode_str(raw).decode_utf8().map_err(|_| PathError::Encoding)?
    };
    if decoded.chars().any(char::is_control) { Err(PathError::Control) } else { Ok(decoded) }
}

/// The query of a request: names with values, in the order in which they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads the part behind the question mark, as a form encodes it (`+` is a space).
    pub fn parse(raw: Option<&str>) -> Result<Self, PathError> {
        let raw = raw.unwrap_or_default();
        if raw.len() > MAX_LENGTH {
            return Err(PathError::TooLong);
        }
        let mut pairs = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_SEGMENTS {
                return Err(PathError::TooLong);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode_form(name)?, decode_form(value)?));
        }
        Ok(Self { pairs })
    }

    /// The first value of this name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Every value of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Every name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn decode_form(raw: &str) -> Result<String, PathError> {
    if raw.contains('+') {
        Ok(decode(&raw.replace('+', " "))?.into_owned())
    } else {
        Ok(decode(raw)?.into_owned())
    }
}
