#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use granary_identity::Credential;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::{Carried, Carrier, CredentialError, Found, find};
use crate::RequestPath;
use crate::proxy::Scheme;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn found(pairs: &[(&str, &str)]) -> Result<Found, CredentialError> {
    find(&headers(pairs), &RequestPath::parse("/").unwrap(), &[], Scheme::Http)
}

fn show(credential: &Credential) -> String {
    match credential {
        Credential::Basic { user, password } => format!("basic {user} {}", password.expose_secret()),
        Credential::Token(token) => format!("token {}", token.expose_secret()),
        Credential::Session(session) => format!("session {}", session.expose_secret()),
    }
}

fn basic(bytes: &[u8]) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(bytes))
}

#[test]
fn credentials_that_are_read() {
    for (pairs, expected) in [
        (vec![], vec![]),
        (vec![("authorization", basic(b"ann:secret"))], vec!["basic ann secret"]),
        (vec![("authorization", basic(b"ann:a:b"))], vec!["basic ann a:b"]),
        (vec![("authorization", basic(b":t"))], vec!["basic  t"]),
        (vec![("authorization", basic(b":"))], vec!["basic  "]),
        (vec![("authorization", basic("ann:ä".as_bytes()))], vec!["basic ann ä"]),
        (vec![("authorization", basic(b"ann:\xe4"))], vec!["basic ann ä"]),
        (vec![("authorization", "bAsIc YTpi".into())], vec!["basic a b"]),
        (vec![("authorization", "Basic   YTo".into())], vec!["basic a "]),
        (vec![("authorization", "Bearer gran_abc.def-_".into())], vec!["token gran_abc.def-_"]),
        (vec![("x-api-key", "key".into())], vec!["token key"]),
        (vec![("cookie", "a=b; granary_session=s1;c".into())], vec!["session s1"]),
        (
            vec![("cookie", "granary_session=s1".into()), ("cookie", "granary_session=s1".into())],
            vec!["session s1"],
        ),
        (vec![("cookie", "granary_session=; xgranary_session=s".into())], vec![]),
        (
            vec![
                ("cookie", "granary_session=s".into()),
                ("x-api-key", "k".into()),
                ("authorization", "Bearer t".into()),
            ],
            vec!["token t", "token k", "session s"],
        ),
    ] {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let shown: Vec<String> = found(&pairs).unwrap().credentials.iter().map(show).collect();
        assert_eq!(shown, expected, "{pairs:?}");
    }
}

#[test]
fn credentials_that_are_refused() {
    for (pairs, error) in [
        (vec![("authorization", "Basic")], CredentialError::Scheme),
        (vec![("authorization", "")], CredentialError::Scheme),
        (vec![("authorization", "Digest username=x")], CredentialError::Scheme),
        (vec![("authorization", "Basic !!!")], CredentialError::Basic),
        (vec![("authorization", "Basic YWJj")], CredentialError::Basic),
        (vec![("authorization", "Basic YTpiCg==")], CredentialError::Basic),
        (vec![("authorization", "Bearer ")], CredentialError::Token),
        (vec![("authorization", "Bearer a b")], CredentialError::Token),
        (vec![("x-api-key", "")], CredentialError::Token),
        (vec![("authorization", "Bearer a"), ("authorization", "Bearer b")], CredentialError::Duplicate),
        (vec![("x-api-key", "a"), ("x-api-key", "a")], CredentialError::Duplicate),
        (vec![("cookie", "granary_session=a; granary_session=b")], CredentialError::Duplicate),
    ] {
        assert_eq!(found(&pairs).unwrap_err(), error, "{pairs:?}");
    }
}

#[test]
fn a_secure_session_goes_by_a_name_that_nobody_else_can_set() {
    let of = |cookies: &str, scheme| {
        let headers = headers(&[("cookie", cookies)]);
        let found = find(&headers, &RequestPath::parse("/").unwrap(), &[], scheme).unwrap();
        found.credentials.iter().map(show).collect::<Vec<_>>()
    };
    let both = "granary_session=plain; __Host-granary_session=secure";
    assert_eq!(of(both, Scheme::Https), ["session secure"]);
    assert_eq!(of(both, Scheme::Http), ["session plain"]);
    assert!(of("granary_session=plain", Scheme::Https).is_empty());
}

#[test]
fn a_protocol_adds_carriers() {
    let header: Carrier = |headers, _| {
        let token = headers.get("x-devpi-auth")?.to_str().ok()?;
        Some(Carried { credential: Credential::Token(token.into()), path: None })
    };
    let segment: Carrier = |_, path| match path.segments() {
        [t, token, ..] if t == "t" => {
            Some(Carried { credential: Credential::Token(token.as_str().into()), path: path.without(0, 2) })
        }
        _ => None,
    };
    let path = RequestPath::parse("/t/abc/get/main").unwrap();
    let found = find(&headers(&[("x-devpi-auth", "xyz")]), &path, &[segment, header], Scheme::Http).unwrap();
    assert_eq!(found.credentials.iter().map(show).collect::<Vec<_>>(), ["token abc", "token xyz"]);
    assert_eq!(found.path, RequestPath::parse("/get/main").ok());
}

#[test]
fn secrets_do_not_show() {
    let shown = format!(
        "{:?}",
        found(&[("authorization", &basic(b"ann:hunter2")), ("x-api-key", "hunter2")]).unwrap()
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

proptest! {
    #[test]
    fn any_header_is_read_or_refused(text in "(Basic |Bearer )?[ -~]{0,40}", cookie in "[ -~]{0,40}") {
        let _ = found(&[("authorization", &text), ("cookie", &cookie), ("x-api-key", &text)]);
    }
}
