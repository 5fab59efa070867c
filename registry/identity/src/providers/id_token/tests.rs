#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";
const NONCE: &str = "n-0S6_WzA2Mj";

fn token(header: &Value, changed: &Value) -> String {
    let mut claims = json!({
        "iss": ISSUER, "aud": "granary", "sub": "248289761001", "exp": NOW + 300, "iat": NOW, "nonce": NONCE,
    });
    for (name, value) in changed.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.c2ln", encode(header), encode(&claims))
}

fn accepted_with(
    header: &Value,
    changed: &Value,
    access_token: Option<&str>,
) -> Result<Accepted, IdTokenError> {
    let text = token(header, changed);
    let expected = Expected { issuer: ISSUER, client_id: "granary", nonce: NONCE, access_token };
    let now = Timestamp::from_second(NOW).unwrap();
    accept(&Unverified::read(&text).unwrap(), &expected, now)
}

fn accepted(changed: &Value) -> Result<Accepted, IdTokenError> {
    accepted_with(&json!({"alg": "RS256"}), changed, None)
}

#[test]
fn a_good_token_says_whom_it_is_about_and_what_tells_it_from_others() {
    let read = accepted(&json!({"jti": "one"})).unwrap();
    assert_eq!((read.subject.as_str(), read.id.as_str()), ("248289761001", "one"));
    assert_eq!(read.expires_at.as_second(), NOW + 300);
    let without = accepted(&json!({})).unwrap();
    assert!(without.id.starts_with("sha256:"));
    assert_ne!(accepted(&json!({"exp": NOW + 301})).unwrap().id, without.id);
}

#[test]
fn it_is_of_the_issuer_for_us_and_of_this_login() {
    use IdTokenError::{Audience, Claim, Issuer, Missing, Nonce};
    for (changed, error) in [
        (json!({"iss": "https://issuer.example/"}), Issuer),
        (json!({"iss": "https://other.example"}), Issuer),
        (json!({"iss": null}), Issuer),
        (json!({"iss": [ISSUER]}), Issuer),
        (json!({"aud": null}), Missing("aud")),
        (json!({"aud": "other"}), Audience),
        (json!({"aud": []}), Audience),
        (json!({"aud": "granary2"}), Audience),
        (json!({"aud": ["granary", 1]}), Claim("aud")),
        // Shared with others, and not said to be ours.
        (json!({"aud": ["granary", "other"]}), Audience),
        (json!({"aud": ["granary", "other"], "azp": "other"}), Audience),
        (json!({"aud": ["other"], "azp": "granary"}), Audience),
        (json!({"azp": "other"}), Audience),
        (json!({"azp": 1}), Claim("azp")),
        (json!({"nonce": null}), Missing("nonce")),
        (json!({"nonce": "another"}), Nonce),
        (json!({"nonce": ""}), Nonce),
        (json!({"nonce": 1}), Claim("nonce")),
        (json!({"sub": null}), Missing("sub")),
        (json!({"sub": ""}), Claim("sub")),
        (json!({"sub": 1}), Claim("sub")),
        (json!({"sub": "a\u{0}"}), Claim("sub")),
        (json!({"jti": ""}), Claim("jti")),
        (json!({"jti": "x".repeat(513)}), Claim("jti")),
    ] {
        assert_eq!(accepted(&changed).unwrap_err(), error, "{changed}");
    }
    for changed in [
        json!({"aud": ["granary"]}),
        json!({"azp": "granary"}),
        json!({"aud": ["granary", "other"], "azp": "granary"}),
    ] {
        assert!(accepted(&changed).is_ok(), "{changed}");
    }
}

#[test]
fn it_is_no_access_token() {
    let of = |typ: &str| accepted_with(&json!({"alg": "RS256", "typ": typ}), &json!({}), None).map(drop);
    assert_eq!(of("JWT"), Ok(()));
    assert_eq!(of("at+jwt"), Err(IdTokenError::Kind));
    assert_eq!(of("application/at+JWT"), Err(IdTokenError::Kind));
}

#[test]
fn it_is_of_now() {
    use IdTokenError::{Claim, Expired, Missing, NotYetValid};
    for (changed, error) in [
        (json!({"exp": null}), Missing("exp")),
        (json!({"exp": "later"}), Claim("exp")),
        (json!({"exp": NOW - 60}), Expired),
        (json!({"iat": null}), Missing("iat")),
        (json!({"iat": NOW - 660}), Expired),
        (json!({"iat": NOW + 61}), NotYetValid),
        (json!({"nbf": NOW + 61}), NotYetValid),
    ] {
        assert_eq!(accepted(&changed).unwrap_err(), error, "{changed}");
    }
    for changed in [
        json!({"exp": NOW - 59}),
        json!({"iat": NOW - 659}),
        json!({"iat": NOW + 60}),
        json!({"nbf": NOW + 60}),
    ] {
        assert!(accepted(&changed).is_ok(), "{changed}");
    }
}

#[test]
fn an_access_token_is_the_one_that_it_names() {
    // OpenID Connect Core 1.0, appendix A.3: an example with RS256.
    let access_token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
    let named = json!({"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"});
    let of = |algorithm: &str, changed: &Value, access_token| {
        accepted_with(&json!({"alg": algorithm}), changed, access_token).map(drop)
    };
    assert_eq!(of("RS256", &named, Some(access_token)), Ok(()));
    assert_eq!(of("RS256", &named, None), Ok(()));
    assert_eq!(of("RS256", &json!({}), Some(access_token)), Ok(()));
    assert_eq!(of("RS256", &named, Some("another")), Err(IdTokenError::AccessToken));
    for algorithm in ["RS384", "RS512", "EdDSA", "HS256", "none"] {
        assert_eq!(of(algorithm, &named, Some(access_token)), Err(IdTokenError::AccessToken), "{algorithm}");
    }
    assert_eq!(of("RS256", &json!({"at_hash": ""}), Some(access_token)), Err(IdTokenError::AccessToken));
}
