//! Which representation of the simple index a client gets (PEP 691).

use std::fmt;

/// What a page of the simple index is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Representation {
    /// HTML as `text/html`, for every client that does not ask.
    Html,
    /// The same HTML under its own media type.
    HtmlV1,
    /// JSON.
    JsonV1,
}

impl Representation {
    /// The value of `Content-Type`. A client that asks for `latest` gets the type of what it is.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::HtmlV1 => "application/vnd.pypi.simple.v1+html",
            Self::JsonV1 => "application/vnd.pypi.simple.v1+json",
        }
    }

    /// Whether the document is HTML.
    pub const fn is_html(self) -> bool {
        matches!(self, Self::Html | Self::HtmlV1)
    }

    fn of_media_type(text: &str) -> Option<Self> {
        let is = |known: &str| text.eq_ignore_ascii_case(known);
        if is("application/vnd.pypi.simple.v1+json") || is("application/vnd.pypi.simple.latest+json") {
            Some(Self::JsonV1)
        } else if is("application/vnd.pypi.simple.v1+html") || is("application/vnd.pypi.simple.latest+html") {
            Some(Self::HtmlV1)
        } else if is("text/html") {
            Some(Self::Html)
        } else {
            None
        }
    }
}

impl fmt::Display for Representation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.content_type())
    }
}

/// Nothing that is served is acceptable to the client: a 406.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the simple index is served as text/html, application/vnd.pypi.simple.v1+html and \
     application/vnd.pypi.simple.v1+json"
)]
pub struct NotAcceptable;

/// Chooses a representation. `format_query` is the value of `?format=`, which wins over the header.
///
/// Without a header, and where only a wildcard asks, it is `text/html`. Of several with the same weight the
/// one that tells more wins: JSON, then HTML under its own type.
pub fn negotiate(accept: Option<&str>, format_query: Option<&str>) -> Result<Representation, NotAcceptable> {
    if let Some(format) = format_query {
        // A '+' that was not escaped arrives as a space.
        return Representation::of_media_type(&format.replace(' ', "+")).ok_or(NotAcceptable);
    }
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return Ok(Representation::Html);
    };
    let ranges: Vec<Range<'_>> = accept.split(',').filter_map(Range::parse).collect();
    [Representation::JsonV1, Representation::HtmlV1, Representation::Html]
        .into_iter()
        .filter_map(|offer| Some((offer, weight(&ranges, offer)?)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .map(|(offer, _)| offer)
        .ok_or(NotAcceptable)
}

/// How much a client wants one representation: by weight, then whether it is named, then (among those that
/// only a wildcard covers) `text/html` first. `None` if it does not.
fn weight(ranges: &[Range<'_>], offer: Representation) -> Option<(u16, bool, bool)> {
    let covering = ranges.iter().filter_map(|range| Some((range.covers(offer)?, range.weight)));
    // The most specific range decides (RFC 9110, 12.5.1); of equals, the one that weighs most.
    let (specificity, weight) = covering.max()?;
    let is_named = specificity == Specificity::Named;
    (weight > 0).then_some((weight, is_named, !is_named && offer == Representation::Html))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    All,
    Subtypes,
    Named,
}

/// One range of an `Accept` header.
struct Range<'a> {
    media_type: &'a str,
    /// Thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|media_type| !media_type.is_empty())?;
        let mut weight = 1000;
        for parameter in parts {
            if let Some((_, value)) =
                parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            {
                weight = parse_weight(value.trim())?;
            }
        }
        Some(Self { media_type, weight })
    }

    fn covers(&self, offer: Representation) -> Option<Specificity> {
        let (kind, _) = offer.content_type().split_once('/')?;
        match self.media_type.split_once('/') {
            Some(("*", "*")) => Some(Specificity::All),
            Some((range, "*")) if range.eq_ignore_ascii_case(kind) => Some(Specificity::Subtypes),
            _ => {
                (Representation::of_media_type(self.media_type) == Some(offer)).then_some(Specificity::Named)
            }
        }
    }
}

/// `0` to `1` with at most three decimals, as thousandths.
fn parse_weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clients_get_what_they_ask_for() {
        use Representation::{Html, HtmlV1, JsonV1};
        let pip = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        let mirror = "application/vnd.pypi.simple.v1+html;q=0.2, application/vnd.pypi.simple.v1+json, text/html;q=0.01";
        let table: [(&str, Option<Representation>); 22] = [
            ("", Some(Html)),
            ("*/*", Some(Html)),
            ("text/*", Some(Html)),
            ("application/*", Some(JsonV1)),
            ("text/html", Some(Html)),
            ("TEXT/HTML", Some(Html)),
            (pip, Some(JsonV1)),
            (browser, Some(Html)),
            (mirror, Some(JsonV1)),
            ("application/vnd.pypi.simple.v1+html", Some(HtmlV1)),
            ("application/vnd.pypi.simple.latest+html", Some(HtmlV1)),
            ("application/vnd.pypi.simple.latest+json", Some(JsonV1)),
            ("application/vnd.pypi.simple.v1+json;q=0.5, text/html;q=0.6", Some(Html)),
            ("application/vnd.pypi.simple.v1+json, text/html", Some(JsonV1)),
            ("application/vnd.pypi.simple.v1+json;q=0, */*", Some(Html)),
            ("text/html;q=0, */*;q=0.1", Some(JsonV1)),
            ("application/vnd.pypi.simple.v1+html, */*", Some(HtmlV1)),
            ("application/vnd.pypi.simple.v2+json", None),
            ("application/json", None),
            ("text/html;q=0", None),
            ("text/html;q=2", None),
            ("image/png", None),
        ];
        for (accept, expected) in table {
            assert_eq!(negotiate(Some(accept), None).ok(), expected, "{accept:?}");
        }
        assert_eq!(negotiate(None, None), Ok(Html));
    }

    #[test]
    fn the_query_wins() {
        let json = Some("application/vnd.pypi.simple.v1+json");
        assert_eq!(negotiate(Some("text/html"), json), Ok(Representation::JsonV1));
        assert_eq!(negotiate(None, Some("application/vnd.pypi.simple.v1 json")), Ok(Representation::JsonV1));
        assert_eq!(negotiate(json, Some("text/html")), Ok(Representation::Html));
        assert_eq!(negotiate(None, Some("json")), Err(NotAcceptable));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(accept in "[a-z*/;,=q0-9. +]{0,60}", query in prop::option::of("\\PC{0,20}")) {
            let _ = negotiate(Some(&accept), query.as_deref());
        }
    }
}
