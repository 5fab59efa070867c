//! Tokens in the path: conda sends `/t/TOKEN/` in front of a channel's URL, or in its midst where the channel is below an alias.

use granary_http::RequestPath;
use granary_http::credentials::Carried;
use granary_identity::Credential;
use http::HeaderMap;

/// What begins the paths of conda channels and of the API beside them.
const BEGINNINGS: [&str; 4] = ["t", "conda", "get", "api"];
/// How far from the beginning a token may stand, in segments: `/conda/get/t/TOKEN/CHANNEL`, and without `/conda` one less. Behind
/// that stand channels, of which one may be named `t`.
const DEEPEST: usize = 2;

/// The token that a path carries, and the path without it. Paths of other protocols are left alone.
pub fn token_in_path(_: &HeaderMap, path: &RequestPath) -> Option<Carried> {
    let segments = path.segments();
    let first = segments.first()?;
    if !BEGINNINGS.contains(&first.as_str()) {
        return None;
    }
    let deepest = if first == "conda" { DEEPEST } else { DEEPEST - 1 };
    let at = segments.iter().take(deepest + 1).position(|segment| segment == "t")?;
    let token = segments.get(at + 1).filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))?;
    let credential = Credential::Token(token.as_str().into());
    Some(Carried { credential, path: path.without(at, 2) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use secrecy::ExposeSecret;

    use super::*;

    fn carried(path: &str) -> Option<(String, String)> {
        let carried = token_in_path(&HeaderMap::new(), &RequestPath::parse(path).unwrap())?;
        let Credential::Token(token) = carried.credential else { panic!() };
        Some((token.expose_secret().to_owned(), format!("/{}", carried.path.unwrap().segments().join("/"))))
    }

    #[test]
    fn a_token_stands_before_the_channel_wherever_that_begins() {
        let expected = Some(("SECRET".to_owned(), "/conda/get/main/noarch/repodata.json".to_owned()));
        assert_eq!(carried("/t/SECRET/conda/get/main/noarch/repodata.json"), expected);
        assert_eq!(carried("/conda/t/SECRET/get/main/noarch/repodata.json"), expected);
        assert_eq!(carried("/conda/get/t/SECRET/main/noarch/repodata.json"), expected);
        assert_eq!(carried("/t/SECRET/get/main").unwrap().1, "/get/main");
    }

    #[test]
    fn other_paths_are_left_alone() {
        for path in [
            "/",
            "/t",
            "/conda/get/main/t/x",
            "/pypi/t/+simple/",
            "/pypi/main/+simple/t/",
            "/api/channels/t/members",
        ] {
            assert_eq!(carried(path), None, "{path}");
        }
    }
}
