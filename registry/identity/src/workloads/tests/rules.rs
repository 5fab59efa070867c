//! Each rule by itself: a token that keeps to all others.

use granary_core::SubjectName;
use granary_crds::KeySource;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::issuer::{Key, encode};
use super::*;
use crate::{ClaimsError, SignedTokenError};

const DAY: i64 = 24 * 3600;

fn error(result: Result<Verified, WorkloadError>) -> WorkloadError {
    result.expect_err("the token counts")
}

/// Says what a token with these changes is refused for.
macro_rules! refused {
    ($world:ident, $key:ident, $(|$claims:ident| $change:expr => $error:pat,)*) => {$(
        let mut $claims = claims(&$world.url, $world.now());
        $change;
        let refusal = error($world.verify(&$key.sign(&$claims)).await);
        assert!(matches!(refusal, $error), "{}: {refusal:?}", stringify!($change));
    )*};
}

fn remove(claims: &mut Value, name: &str) {
    claims.as_object_mut().unwrap().remove(name).unwrap();
}

#[tokio::test]
async fn a_good_token_tells_whose_it_is() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    let mut token = claims(&world.url, world.now());
    token["kubernetes.io"] = json!({"namespace": "team-a", "pod": {"name": "p"}, "groups": ["x"]});
    let verified = world.verify(&key.sign(&token)).await.unwrap();
    assert_eq!(verified.workload.issuer, "ci".parse::<SubjectName>().unwrap());
    assert_eq!(verified.workload.subject, SUBJECT);
    let texts: Vec<(&str, &str)> =
        verified.workload.claims.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("exp", "1800003600"),
        ("iat", "1800000000"),
        ("iss", world.url.as_str()),
        ("jti", "1"),
        ("kubernetes.io/namespace", "team-a"),
        ("kubernetes.io/pod/name", "p"),
        ("nbf", "1800000000"),
        ("sub", SUBJECT),
    ];
    assert_eq!(texts, expected);
    assert_eq!(verified.jti.as_deref(), Some("1"));
    assert_eq!(verified.issued_at, Some(begin()));
    assert_eq!(verified.expires_at, Timestamp::from_second(BEGIN + 3600).unwrap());
    assert!(world.workloads.still_trusts(&verified));
}

#[tokio::test]
async fn every_algorithm_counts_with_a_key_of_its_kind_and_no_other() {
    const ALL: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
    let keys = ["RS256", "ES256", "ES384", "EdDSA"].map(|algorithm| Key::new(algorithm, algorithm));
    let world = World::new(&keys.each_ref()).await;
    let payload = claims(&world.url, world.now()).to_string();
    for key in &keys {
        let own: &[&str] = match key.algorithm {
            "RS256" => &ALL[..6],
            _ => std::slice::from_ref(&key.algorithm),
        };
        for algorithm in ALL {
            let token = key.sign_with(&json!({"alg": algorithm, "kid": key.id, "typ": "JWT"}), &payload);
            let verified = world.verify(&token).await;
            if own.contains(&algorithm) {
                verified.unwrap_or_else(|error| panic!("{algorithm} by {}: {error:?}", key.algorithm));
            } else {
                assert!(
                    matches!(error(verified), WorkloadError::Algorithm),
                    "{algorithm} by {}",
                    key.algorithm
                );
            }
        }
    }
    let key = &keys[0];
    for algorithm in
        ["none", "None", "", "HS256", "HS384", "HS512", "rs256", "RS1", "ES512", "Ed25519", "dir"]
    {
        let token = key.sign_with(&json!({"alg": algorithm, "kid": key.id}), &payload);
        assert!(matches!(error(world.verify(&token).await), WorkloadError::Algorithm), "{algorithm}");
    }
    assert_eq!(world.fetches(), 1, "an algorithm is no reason to ask for keys");
}

#[tokio::test]
async fn a_key_that_names_its_algorithm_signs_by_no_other() {
    let key = Key::new("1", "RS256");
    let world = World::new(&[]).await;
    let mut jwk = key.jwk();
    jwk["alg"] = json!("PS256");
    world.server.answer(KEYS, 200, &[], &json!({"keys": [jwk]}).to_string());
    let payload = claims(&world.url, world.now()).to_string();
    let token = |algorithm: &str| key.sign_with(&json!({"alg": algorithm, "kid": "1"}), &payload);
    world.verify(&token("PS256")).await.unwrap();
    assert!(matches!(error(world.verify(&token("RS256")).await), WorkloadError::Algorithm));
}

#[tokio::test]
async fn keys_are_found_by_their_id() {
    let (one, two) = (Key::new("1", "ES256"), Key::new("2", "ES256"));
    let world = World::new(&[&one, &two]).await;
    let payload = claims(&world.url, world.now()).to_string();
    let by = |key: &Key, id: Option<&str>| key.sign_with(&json!({"alg": "ES256", "kid": id}), &payload);
    world.verify(&by(&one, Some("1"))).await.unwrap();
    world.verify(&by(&two, Some("2"))).await.unwrap();
    assert!(matches!(error(world.verify(&by(&one, Some("2"))).await), WorkloadError::Signature));
    assert!(matches!(error(world.verify(&by(&one, Some("3"))).await), WorkloadError::UnknownKey));
    assert!(matches!(error(world.verify(&by(&one, Some(""))).await), WorkloadError::UnknownKey));
    assert!(matches!(error(world.verify(&by(&one, None)).await), WorkloadError::UnknownKey), "two would fit");
}

#[tokio::test]
async fn a_key_in_the_token_is_nobodys() {
    let (own, other) = (Key::new("1", "ES256"), Key::new("1", "ES256"));
    let world = World::new(&[&own]).await;
    let payload = claims(&world.url, world.now()).to_string();
    world.server.answer("/evil", 200, &[], &issuer::key_set(&[&other]));
    let at = format!("{}/evil", world.server.url());
    for header in [
        json!({"alg": "ES256", "kid": "1", "jwk": other.jwk()}),
        json!({"alg": "ES256", "jwk": other.jwk()}),
        json!({"alg": "ES256", "kid": "1", "jku": at, "x5u": at}),
        json!({"alg": "ES256", "kid": "1", "x5c": ["MII="]}),
    ] {
        let refusal = error(world.verify(&other.sign_with(&header, &payload)).await);
        assert!(matches!(refusal, WorkloadError::Signature), "{header}: {refusal:?}");
    }
    assert_eq!(world.server.asked("/evil"), 0);
}

#[tokio::test]
async fn an_issuer_is_known_by_its_exact_text() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    let (url, server) = (world.url.clone(), world.server.url().to_owned());
    refused! { world, key,
        |token| token["iss"] = json!(format!("{url}/")) => WorkloadError::UnknownIssuer,
        |token| token["iss"] = json!(server) => WorkloadError::UnknownIssuer,
        |token| token["iss"] = json!(url.replace("http:", "HTTP:")) => WorkloadError::UnknownIssuer,
        |token| token["iss"] = json!(format!("{url} ")) => WorkloadError::UnknownIssuer,
        |token| token["iss"] = json!([url]) => WorkloadError::UnknownIssuer,
        |token| remove(&mut token, "iss") => WorkloadError::UnknownIssuer,
    }
    assert_eq!(world.fetches(), 0, "nobody is asked for the keys of a stranger");
}

#[tokio::test]
async fn a_token_is_for_one_of_our_audiences() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    for good in [json!(AUDIENCE), json!([AUDIENCE]), json!(["other", AUDIENCE])] {
        let mut token = claims(&world.url, world.now());
        token["aud"] = good;
        world.verify(&key.sign(&token)).await.unwrap();
    }
    refused! { world, key,
        |token| token["aud"] = json!("other") => WorkloadError::Audience,
        |token| token["aud"] = json!("Granary") => WorkloadError::Audience,
        |token| token["aud"] = json!("granary-two") => WorkloadError::Audience,
        |token| token["aud"] = json!("") => WorkloadError::Audience,
        |token| token["aud"] = json!([]) => WorkloadError::Audience,
        |token| token["aud"] = json!([["granary"]]) => WorkloadError::Claim("aud"),
        |token| token["aud"] = json!(["granary", 1]) => WorkloadError::Claim("aud"),
        |token| token["aud"] = json!({"granary": true}) => WorkloadError::Claim("aud"),
        |token| token["aud"] = json!(null) => WorkloadError::Claim("aud"),
        |token| remove(&mut token, "aud") => WorkloadError::MissingClaim("aud"),
    }
}

#[tokio::test]
async fn a_token_counts_from_its_beginning_to_its_end_and_a_minute_more() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    let good = [
        json!({"exp": BEGIN - 59}),
        json!({"exp": 1_799_999_940.25}),
        json!({"exp": BEGIN as f64 + 0.5}),
        json!({"exp": 1, "iat": null, "nbf": null}),
        json!({"nbf": BEGIN + 60, "iat": BEGIN + 60}),
        json!({"iat": BEGIN - 100, "exp": BEGIN - 100 + DAY}),
        json!({"iat": null, "exp": BEGIN + DAY}),
        json!({"iat": null, "nbf": null}),
        json!({"nbf": 0}),
    ];
    let with = |changes: &Value| {
        let mut token = claims(&world.url, world.now());
        let object = token.as_object_mut().unwrap();
        object.extend(changes.as_object().unwrap().clone());
        object.retain(|_, value| !value.is_null());
        key.sign(&token)
    };
    for changes in &good {
        let verified = world.verify(&with(changes)).await;
        if changes["exp"] == 1 {
            assert!(matches!(error(verified), WorkloadError::Expired));
        } else {
            verified.unwrap_or_else(|error| panic!("{changes}: {error:?}"));
        }
    }
    refused! { world, key,
        |token| token["exp"] = json!(BEGIN - 60) => WorkloadError::Expired,
        |token| token["exp"] = json!(1_799_999_939.75) => WorkloadError::Expired,
        |token| token["exp"] = json!(-1) => WorkloadError::Expired,
        |token| token["nbf"] = json!(BEGIN + 61) => WorkloadError::NotYetValid,
        |token| token["iat"] = json!(BEGIN + 61) => WorkloadError::NotYetValid,
        |token| token["exp"] = json!(BEGIN + DAY + 1) => WorkloadError::TooLong,
        |token| token["iat"] = json!(BEGIN - DAY) => WorkloadError::TooLong,
        |token| { remove(&mut token, "iat"); token["exp"] = json!(BEGIN + DAY + 1) } => WorkloadError::TooLong,
        |token| token["exp"] = json!(253_402_207_200_i64) => WorkloadError::TooLong,
        |token| token["exp"] = json!(1e30) => WorkloadError::Claim("exp"),
        |token| token["exp"] = json!(i64::MAX) => WorkloadError::Claim("exp"),
        |token| token["exp"] = json!((BEGIN + 60).to_string()) => WorkloadError::Claim("exp"),
        |token| token["exp"] = json!(null) => WorkloadError::Claim("exp"),
        |token| token["nbf"] = json!("now") => WorkloadError::Claim("nbf"),
        |token| token["iat"] = json!([BEGIN]) => WorkloadError::Claim("iat"),
        |token| remove(&mut token, "exp") => WorkloadError::MissingClaim("exp"),
    }
    let huge = claims(&world.url, world.now()).to_string().replace(&(BEGIN + 3600).to_string(), "1e999");
    let token = key.sign_with(&json!({"alg": "EdDSA", "kid": "1"}), &huge);
    assert!(matches!(error(world.verify(&token).await), WorkloadError::Claim("exp")));
}

#[tokio::test]
async fn the_same_token_ends_as_time_passes() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    let token = world.token(&key);
    world.pass(3600 + 59);
    world.verify(&token).await.unwrap();
    world.pass(1);
    assert!(matches!(error(world.verify(&token).await), WorkloadError::Expired));
}

#[tokio::test]
async fn subject_and_id_are_texts_that_can_be_kept() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    for subject in ["é".repeat(1024), "repo:acme/x:ref:refs/heads/main".to_owned()] {
        let mut token = claims(&world.url, world.now());
        token["sub"] = json!(subject);
        remove(&mut token, "jti");
        let verified = world.verify(&key.sign(&token)).await.unwrap();
        assert_eq!((verified.workload.subject, verified.jti), (subject, None));
    }
    refused! { world, key,
        |token| remove(&mut token, "sub") => WorkloadError::MissingClaim("sub"),
        |token| token["sub"] = json!("") => WorkloadError::Claim("sub"),
        |token| token["sub"] = json!("a".repeat(1025)) => WorkloadError::Claim("sub"),
        |token| token["sub"] = json!("a\nb") => WorkloadError::Claim("sub"),
        |token| token["sub"] = json!(null) => WorkloadError::Claim("sub"),
        |token| token["sub"] = json!(7) => WorkloadError::Claim("sub"),
        |token| token["jti"] = json!("") => WorkloadError::Claim("jti"),
        |token| token["jti"] = json!("a".repeat(513)) => WorkloadError::Claim("jti"),
        |token| token["jti"] = json!("\u{0}") => WorkloadError::Claim("jti"),
        |token| token["jti"] = json!(1) => WorkloadError::Claim("jti"),
    }
}

#[tokio::test]
async fn claims_that_could_be_mistaken_are_refused() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    refused! { world, key,
        |token| { token["a"] = json!({"b": "1"}); token["a/b"] = json!("2") } =>
            WorkloadError::Claims(ClaimsError::Ambiguous),
        |token| token["a"] = json!({"b": {"c": {"d": {"e": 1}}}}) => WorkloadError::Claims(ClaimsError::TooDeep),
        |token| token["a"] = json!("\u{0}") => WorkloadError::Claims(ClaimsError::Null),
        |token| token["a"] = (0..130).map(|i| (i.to_string(), json!(i))).collect::<Value>() =>
            WorkloadError::Claims(ClaimsError::TooMany),
        |token| token["a"] = json!("a".repeat(13_000)) => WorkloadError::Malformed(SignedTokenError::Length),
    }
    let payload = claims(&world.url, world.now()).to_string();
    let sign = |payload: &str| key.sign_with(&json!({"alg": "EdDSA", "kid": "1"}), payload);
    world.verify(&sign(&payload)).await.unwrap();
    for member in
        [r#""sub":"root""#, r#""\u0073ub":"root""#, r#""x":{"a":1,"a":2}"#, r#""x":[{"a":1,"a":2}]"#]
    {
        let twice = format!("{},{member}}}", payload.strip_suffix('}').unwrap());
        let refusal = error(world.verify(&sign(&twice)).await);
        assert!(
            matches!(refusal, WorkloadError::Malformed(SignedTokenError::Json(_))),
            "{member}: {refusal:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_without_asking_anybody() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    let good = world.token(&key);
    let payload = claims(&world.url, world.now()).to_string();
    let header = |header: Value| key.sign_with(&header, &payload);
    for bad in [
        String::new(),
        "granary_0123456789_abc".to_owned(),
        "a.b.c".to_owned(),
        format!("{good}."),
        format!("{good}="),
        format!(" {good}"),
        format!("Bearer {good}"),
        header(json!({"alg": "EdDSA", "kid": "1", "crit": ["exp"], "exp": 1})),
        header(json!({"alg": "EdDSA", "kid": "1", "typ": "logout+jwt"})),
        header(json!({"kid": "1"})),
        format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode("[]")),
    ] {
        assert!(matches!(error(world.verify(&bad).await), WorkloadError::Malformed(_)), "{bad:.40}");
    }
    assert_eq!(world.fetches(), 0);
    assert!(Workloads::looks_like_token(&good));
}

#[tokio::test]
async fn issuers_are_told_apart() {
    let (ours, theirs) = (Key::new("1", "EdDSA"), Key::new("1", "EdDSA"));
    let server = Server::start().await;
    let clock = ManualClock::new(begin());
    server.answer("/a", 200, &[], &issuer::key_set(&[&ours]));
    server.answer("/b", 200, &[], &issuer::key_set(&[&theirs]));
    let at = |path: &str| KeySource::Url(format!("{}{path}", server.url()).parse().unwrap());
    let (a, mut b) = (trust("a", "https://a.example", at("/a")), trust("b", "https://b.example", at("/b")));
    b.audiences = vec!["b-only".to_owned()];
    let workloads = workloads(vec![a, b], &clock);
    let token = |key: &Key, url: &str, audience: &str| {
        let mut claims = claims(url, begin());
        claims["aud"] = json!(audience);
        key.sign(&claims)
    };
    let of_a = workloads.verify(&token(&ours, "https://a.example", AUDIENCE)).await.unwrap();
    let of_b = workloads.verify(&token(&theirs, "https://b.example", "b-only")).await.unwrap();
    assert_eq!((of_a.workload.issuer.as_str(), of_b.workload.issuer.as_str()), ("a", "b"));
    assert_eq!(of_a.workload.subject, of_b.workload.subject);
    for (key, url, audience) in
        [(&theirs, "https://a.example", AUDIENCE), (&ours, "https://b.example", "b-only")]
    {
        assert!(matches!(
            error(workloads.verify(&token(key, url, audience)).await),
            WorkloadError::Signature
        ));
    }
    // An audience is one issuer's.
    let refusal = error(workloads.verify(&token(&theirs, "https://b.example", AUDIENCE)).await);
    assert!(matches!(refusal, WorkloadError::Audience));
    let refusal = error(workloads.verify(&token(&ours, "https://a.example", "b-only")).await);
    assert!(matches!(refusal, WorkloadError::Audience));
}

#[tokio::test]
async fn no_message_quotes_the_token() {
    let key = Key::new("1", "EdDSA");
    let world = World::new(&[&key]).await;
    let mut secret = claims(&world.url, world.now());
    secret["sub"] = json!("hunter2\n");
    secret["hunter2"] = json!("hunter2");
    let signed = key.sign(&secret);
    let broken =
        key.sign_with(&json!({"alg": "EdDSA", "hunter2": 1}), r#"{"hunter2": hunter2, "hunter2": 1}"#);
    let twice = key.sign_with(&json!({"alg": "EdDSA"}), r#"{"hunter2": "hunter2", "hunter2": 1}"#);
    for token in [signed, broken, twice] {
        let refusal = error(world.verify(&token).await);
        let told = format!("{refusal:?} {}", granary_core::report(&refusal));
        let quoted = token.split('.').any(|part| told.contains(part));
        assert!(!quoted && !told.contains("hunter2"), "{told}");
    }
}
