//! Whatever is done to a good token makes it a bad one.

use std::io::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::hmac;
use granary_crds::KeySource;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;

use super::issuer::{Key, encode};
use super::*;

const URLS: [&str; 2] = ["https://a.example", "https://b.example"];
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";

/// Two issuers whose keys bear the same ids: one of each kind.
struct Issuers {
    runtime: Runtime,
    keys: [Vec<Key>; 2],
    workloads: Workloads,
    /// A good token of each key.
    tokens: [Vec<String>; 2],
    _files: [NamedTempFile; 2],
}

static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let make = || ["RS256", "ES256", "ES384", "EdDSA"].map(|algorithm| Key::new(algorithm, algorithm)).into();
    let keys: [Vec<Key>; 2] = [make(), make()];
    let files = [0, 1].map(|issuer: usize| {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(issuer::key_set(&keys[issuer].iter().collect::<Vec<_>>()).as_bytes()).unwrap();
        file
    });
    let issuers = [0, 1].map(|issuer: usize| {
        trust(["a", "b"][issuer], URLS[issuer], KeySource::File(files[issuer].path().to_owned()))
    });
    let tokens = [0, 1].map(|issuer: usize| {
        let claims = claims(URLS[issuer], begin());
        keys[issuer].iter().map(|key| key.sign(&claims)).collect()
    });
    let workloads = workloads(issuers.into(), &ManualClock::new(begin()));
    Issuers { runtime: Runtime::new().unwrap(), keys, workloads, tokens, _files: files }
});

impl Issuers {
    fn verify(&self, token: &str) -> Result<Verified, WorkloadError> {
        self.runtime.block_on(self.workloads.verify(token))
    }
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// Which issuer, and which of its keys.
fn a_key() -> impl Strategy<Value = (usize, usize)> {
    (0..2_usize, 0..4_usize)
}

fn an_algorithm() -> impl Strategy<Value = String> {
    const NAMES: [&str; 20] = [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA",
        "HS256", "HS384", "HS512", "none", "None", "NONE", "nOnE", "", "dir",
    ];
    prop_oneof![9 => (0..NAMES.len()).prop_map(|name| NAMES[name].to_owned()), 1 => "[A-Za-z0-9]{0,6}"]
}

#[test]
fn the_tokens_are_good_as_they_are() {
    for (issuer, tokens) in ISSUERS.tokens.iter().enumerate() {
        for token in tokens {
            assert_eq!(ISSUERS.verify(token).unwrap().workload.issuer.as_str(), ["a", "b"][issuer]);
        }
    }
}

#[test]
fn the_public_key_is_no_shared_secret() {
    for (issuer, keys) in ISSUERS.keys.iter().enumerate() {
        let payload = encode(claims(URLS[issuer], begin()).to_string());
        for key in keys {
            for (name, algorithm) in
                [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
            {
                let header = encode(json!({"alg": name, "kid": key.id}).to_string());
                let message = format!("{header}.{payload}");
                for secret in key.public_forms() {
                    let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), message.as_bytes());
                    let refusal = ISSUERS.verify(&format!("{message}.{}", encode(tag))).unwrap_err();
                    assert!(matches!(refusal, WorkloadError::Algorithm), "{refusal:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_flipped_bit((issuer, key) in a_key(), at in any::<prop::sample::Index>(), bit in 0..7_u32) {
        let mut bytes = ISSUERS.tokens[issuer][key].clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let token = String::from_utf8(bytes).unwrap();
        prop_assert!(ISSUERS.verify(&token).is_err());
    }

    #[test]
    fn other_characters(
        (issuer, key) in a_key(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..ALPHABET.len()), 1..4),
    ) {
        let original = &ISSUERS.tokens[issuer][key];
        let mut bytes = original.clone().into_bytes();
        for (at, letter) in changes {
            let at = at.index(bytes.len());
            bytes[at] = ALPHABET[letter];
        }
        let token = String::from_utf8(bytes).unwrap();
        prop_assume!(token != *original);
        prop_assert!(ISSUERS.verify(&token).is_err());
    }

    #[test]
    fn characters_more_or_less(
        (issuer, key) in a_key(),
        from in any::<prop::sample::Index>(),
        removed in 0..40_usize,
        added in "[A-Za-z0-9_.=-]{0,8}",
    ) {
        let original = &ISSUERS.tokens[issuer][key];
        let from = from.index(original.len() + 1);
        let to = original.len().min(from + removed);
        let token = format!("{}{added}{}", &original[..from], &original[to..]);
        prop_assume!(token != *original);
        prop_assert!(ISSUERS.verify(&token).is_err());
    }

    #[test]
    fn parts_of_several_tokens(header in a_key(), payload in a_key(), signature in a_key()) {
        let part = |(issuer, key): (usize, usize), part: usize| parts(&ISSUERS.tokens[issuer][key])[part];
        let token = [part(header, 0), part(payload, 1), part(signature, 2)].join(".");
        // All keys of an issuer sign the same claims, and headers name keys by ids that both issuers have.
        let is_whole = header.1 == signature.1 && payload.0 == signature.0;
        prop_assert_eq!(ISSUERS.verify(&token).is_ok(), is_whole);
    }

    #[test]
    fn another_header(
        (issuer, key) in a_key(),
        algorithm in an_algorithm(),
        id in prop_oneof![
            Just(Value::Null), Just(json!("RS256")), Just(json!("ES256")), Just(json!("ES384")),
            Just(json!("EdDSA")), Just(json!("")), Just(json!(1)),
        ],
        typ in prop_oneof![Just(Value::Null), Just(json!("JWT")), Just(json!("JWE"))],
        has_signature in any::<bool>(),
    ) {
        let mut header = json!({"alg": algorithm, "kid": id, "typ": typ});
        header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let [own, payload, signature] = parts(&ISSUERS.tokens[issuer][key]);
        let header = encode(header.to_string());
        prop_assume!(header != own);
        let token = format!("{header}.{payload}.{}", if has_signature { signature } else { "" });
        prop_assert!(ISSUERS.verify(&token).is_err());
    }

    #[test]
    fn other_claims(
        (issuer, key) in a_key(),
        name in prop_oneof![Just("sub"), Just("exp"), Just("aud"), Just("iss"), Just("jti"), Just("repository")],
        value in prop_oneof![
            "[a-z/]{0,12}".prop_map(Value::from), any::<i64>().prop_map(Value::from),
            Just(json!(URLS[0])), Just(json!(URLS[1])), Just(json!(AUDIENCE)), Just(json!(BEGIN + 7200)),
        ],
    ) {
        let [header, own, signature] = parts(&ISSUERS.tokens[issuer][key]);
        let mut payload = claims(URLS[issuer], begin());
        payload[name] = value;
        let payload = encode(payload.to_string());
        prop_assume!(payload != own);
        let token = format!("{header}.{payload}.{signature}");
        prop_assert!(ISSUERS.verify(&token).is_err());
    }

    /// Whoever signs, a token that counts is its signer's: neither a shared key id nor a shared subject helps.
    #[test]
    fn a_token_belongs_to_who_signed_it(
        (signer, key) in a_key(),
        claimed in 0..2_usize,
        algorithm in an_algorithm(),
        id in prop_oneof![
            Just(Value::Null), Just(json!("RS256")), Just(json!("ES256")), Just(json!("ES384")), Just(json!("EdDSA")),
        ],
    ) {
        let header = json!({"alg": algorithm, "kid": id});
        let payload = claims(URLS[claimed], begin()).to_string();
        let token = ISSUERS.keys[signer][key].sign_with(&header, &payload);
        if let Ok(verified) = ISSUERS.verify(&token) {
            prop_assert_eq!(claimed, signer);
            prop_assert_eq!(verified.workload.issuer.as_str(), ["a", "b"][signer]);
        }
    }
}
