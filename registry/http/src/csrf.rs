//! Requests that a page of somebody else has a browser send: the browser adds its cookies, and that must not be enough.

use granary_identity::{Credential, CsrfToken};
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, Uri};

use crate::RequestBody;
use crate::path::{MAX_LENGTH, Query};
use crate::pipeline::Arrival;
use crate::refusal::Refusal;

/// Where programs in a page of ours say their token.
pub const HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
/// The field of a form in a page of ours that says it.
pub const FIELD: &str = "csrf";

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The token of the session that the request carries; none where it carries none.
pub fn token_of(arrival: &Arrival) -> Option<CsrfToken> {
    arrival.credentials.iter().find_map(|credential| match credential {
        Credential::Session(session) => Some(CsrfToken::of_session(session)),
        Credential::Basic { .. } | Credential::Token(_) => None,
    })
}

/// Refuses a request that was recognised by a session, and changes something, and does not know the session's token.
/// Called for every route, before its handler.
pub(crate) async fn check(arrival: &mut Arrival) -> Result<(), Refusal> {
    if matches!(arrival.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let expected = token_of(arrival);
    let said = match arrival.headers.get(HEADER) {
        Some(value) => value.to_str().ok().map(str::to_owned),
        None if is_form(&arrival.headers) => {
            let form = form(arrival).await?;
            form.first(FIELD).map(str::to_owned)
        }
        None => None,
    };
    match (expected, said) {
        (Some(expected), Some(said)) if expected.is(&said) => Ok(()),
        _ => Err(Refusal::forbidden(
            "the request does not say the session's token (header X-CSRF-Token, or the form's field csrf): reload the page",
        )),
    }
}

/// The fields of a form, which are left in the body for whoever comes next.
pub async fn form(arrival: &mut Arrival) -> Result<Query, Refusal> {
    let body = arrival.take_body().collect(MAX_LENGTH as u64).await?;
    let fields = std::str::from_utf8(&body).map_err(|_| Refusal::bad_request("the form is not UTF-8"))?;
    let fields = Query::parse(Some(fields)).map_err(|error| Refusal::bad_request(error.to_string()))?;
    arrival.replace_body(RequestBody::from_bytes(body));
    Ok(fields)
}

/// Whether the body is a form of plain fields.
pub fn is_form(headers: &HeaderMap) -> bool {
    let essence = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = essence.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Whether a browser says that a page of another site had it send this. Programs, and old browsers, say nothing.
pub fn is_cross_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    if let Some(site) = headers.get(FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    // Without the scheme: a proxy that ends TLS may not tell.
    let origin: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
    let own = host.or_else(|| headers.get(HOST)?.to_str().ok());
    match (origin.as_ref().and_then(Uri::authority), own) {
        (Some(origin), Some(own)) => !origin.as_str().eq_ignore_ascii_case(own),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_browser_says_whether_a_page_of_ours_sends() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            is_cross_site(&headers, None)
        };
        for own in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("host", "packages.example"), ("origin", "https://packages.example")],
            &[("host", "Packages.example:8443"), ("origin", "https://packages.example:8443")],
            &[("sec-fetch-site", "same-origin"), ("host", "a.example"), ("origin", "null")],
        ] {
            assert!(!of(own), "{own:?}");
        }
        for other in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "")],
            &[("host", "packages.example"), ("origin", "https://evil.example")],
            &[("host", "packages.example"), ("origin", "https://packages.example.evil.example")],
            &[("host", "packages.example"), ("origin", "https://packages.example:8443")],
            &[("host", "packages.example"), ("origin", "null")],
            &[("origin", "https://packages.example")],
        ] {
            assert!(of(other), "{other:?}");
        }
    }

    #[test]
    fn a_form_is_told_by_its_type() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            is_form(&headers)
        };
        assert!(
            of("application/x-www-form-urlencoded") && of("Application/X-WWW-Form-Urlencoded; charset=UTF-8")
        );
        assert!(
            !of("application/json") && !of("multipart/form-data; boundary=x") && !is_form(&HeaderMap::new())
        );
    }
}
