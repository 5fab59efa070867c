//! The page to go on with after a login: one of ours, however it is written.

use granary_http::{Query, RequestPath};

/// The longest, in bytes.
const MAX_LENGTH: usize = 2048;

/// A text that names no page of this registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("next is the path of a page of this registry, such as /-/login")]
pub(crate) struct NextError;

/// A path with perhaps a query. What a browser could take for another host, and what could be taken for that once it is decoded
/// again, is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Next(String);

impl Next {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Next {
    type Err = NextError;

    fn from_str(text: &str) -> Result<Self, NextError> {
        // Browsers drop tabs and line breaks from URLs, and read a backslash as a slash.
        let legal = |byte: u8| byte.is_ascii_graphic() && !b"\\#\"<>".contains(&byte);
        if text.len() > MAX_LENGTH || !text.bytes().all(legal) {
            return Err(NextError);
        }
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        // Absolute, no empty segment (`//host`), no dots, no slash that only shows when it is decoded.
        let parsed = RequestPath::parse(path).map_err(|_| NextError)?;
        if parsed.segments().iter().any(|segment| segment.contains('%')) {
            return Err(NextError);
        }
        Query::parse(query).map_err(|_| NextError)?;
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn pages_of_ours_are_taken_as_they_are_written() {
        for text in [
            "/",
            "/-/login",
            "/-/device?user_code=BDFG-HJKL",
            "/pypi/team/+simple/",
            "/-/can?subject=user:ada&channel=pypi/tools",
            "/-/login?next=https://evil.example",
            "/conda/get/a%2Bb/x",
        ] {
            assert_eq!(text.parse::<Next>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn nothing_leads_elsewhere() {
        for text in [
            "",
            "-/login",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "https://evil.example",
            "https:evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "/%2f/evil.example",
            "/%2Fevil.example",
            "/%5cevil.example",
            "/%252fevil.example",
            "/%25255cevil.example",
            "/%09/evil.example",
            "/%0d%0aSet-Cookie:x",
            "/a//evil.example",
            "/../evil.example",
            "/.//evil.example",
            "/%2e%2e/x",
            "/x#//evil.example",
            "/x?a=%zz",
            "/x?a=\r\nx",
            "/é",
            "@evil.example",
            "?next=//evil.example",
        ] {
            assert_eq!(text.parse::<Next>(), Err(NextError), "{text:?}");
        }
        assert!(format!("/{}", "a".repeat(MAX_LENGTH)).parse::<Next>().is_err());
    }
}
