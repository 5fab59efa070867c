//! An issuer's keys (RFC 7517, RFC 7518 section 6, RFC 8037) and the signatures that they make true.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use granary_core::Sha256;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::token::Unverified;

/// What may sign, with the keys that it needs. Nothing that is not here does: neither `none` nor a shared secret.
const ALGORITHMS: [(&str, Algorithm, Kind); 9] = [
    ("RS256", Algorithm::RS256, Kind::Rsa),
    ("RS384", Algorithm::RS384, Kind::Rsa),
    ("RS512", Algorithm::RS512, Kind::Rsa),
    ("PS256", Algorithm::PS256, Kind::Rsa),
    ("PS384", Algorithm::PS384, Kind::Rsa),
    ("PS512", Algorithm::PS512, Kind::Rsa),
    ("ES256", Algorithm::ES256, Kind::P256),
    ("ES384", Algorithm::ES384, Kind::P384),
    ("EdDSA", Algorithm::EdDSA, Kind::Ed25519),
];

/// The bits of an RSA modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Why no key makes a signature true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// The algorithm is none that may sign, or none of the key's.
    Algorithm,
    /// There is no such key; or none is named, and not exactly one fits.
    Unknown,
    /// The signature is another one.
    Signature,
}

/// A key.
struct Key {
    id: Option<String>,
    kind: Kind,
    /// The one algorithm that it is for, if it says so.
    only: Option<Algorithm>,
    material: DecodingKey,
    /// Of all of it.
    fingerprint: Sha256,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// All keys of an issuer that may sign.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a JWK Set (RFC 7517, section 5). Other members are left alone, and so are keys that cannot be read or are
    /// not for signatures: a set may hold what is meant for others.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct JwkSet<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }

        let set: JwkSet<'_> = serde_json::from_slice(bytes)?;
        Ok(Self { keys: set.keys.into_iter().filter_map(|key| Key::read(key.get())).collect() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key is in it that [`KeySet::verify`] named.
    pub(crate) fn holds(&self, fingerprint: &Sha256) -> bool {
        self.keys.iter().any(|key| key.fingerprint == *fingerprint)
    }

    /// The fingerprint of the key that signed the token.
    pub(crate) fn verify(&self, token: &Unverified<'_>) -> Result<Sha256, KeyError> {
        let (_, algorithm, kind) =
            ALGORITHMS.iter().find(|(name, ..)| *name == token.algorithm).ok_or(KeyError::Algorithm)?;
        let fits = |key: &Key| key.kind == *kind && key.only.is_none_or(|only| only == *algorithm);
        let candidates: Vec<&Key> = if let Some(id) = &token.key_id {
            let mut named = self.keys.iter().filter(|key| key.id.as_ref() == Some(id)).peekable();
            named.peek().ok_or(KeyError::Unknown)?;
            // Keys of different kinds may share an id (RFC 7517, section 4.5).
            let fitting: Vec<&Key> = named.filter(|key| fits(key)).collect();
            if fitting.is_empty() {
                return Err(KeyError::Algorithm);
            }
            fitting
        } else {
            let fitting: Vec<&Key> = self.keys.iter().filter(|key| fits(key)).collect();
            if fitting.len() != 1 {
                return Err(KeyError::Unknown);
            }
            fitting
        };
        candidates
            .into_iter()
            .find(|key| key.signed(*algorithm, token))
            .map(|key| key.fingerprint)
            .ok_or(KeyError::Signature)
    }
}

/// A key as it is written (RFC 7517, section 4). Private parts, if a set has them, are not looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    fn read(text: &str) -> Option<Self> {
        let jwk: Jwk = serde_json::from_str(text).ok()?;
        let signs = jwk.used_for.as_deref().is_none_or(|used_for| used_for == "sig")
            && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|name| name == "verify"));
        if !signs {
            return None;
        }
        let bytes = |field: &Option<String>| URL_SAFE_NO_PAD.decode(field.as_ref()?).ok();
        let coordinate = |field, length| bytes(field).filter(|bytes| bytes.len() == length);
        let point =
            |length| Some([vec![0x04], coordinate(&jwk.x, length)?, coordinate(&jwk.y, length)?].concat());
        let (kind, material, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                // Some write a zero in front, as for a signed number.
                let unsigned =
                    |bytes: Vec<u8>| -> Vec<u8> { bytes.into_iter().skip_while(|b| *b == 0).collect() };
                let (n, e) = (unsigned(bytes(&jwk.n)?), unsigned(bytes(&jwk.e)?));
                let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
                if !RSA_BITS.contains(&bits) {
                    return None;
                }
                (Kind::Rsa, [n.as_slice(), &e].concat(), DecodingKey::from_rsa_raw_components(&n, &e))
            }
            ("EC", Some("P-256")) => {
                let point = point(32)?;
                (Kind::P256, point.clone(), DecodingKey::from_ec_der(&point))
            }
            ("EC", Some("P-384")) => {
                let point = point(48)?;
                (Kind::P384, point.clone(), DecodingKey::from_ec_der(&point))
            }
            ("OKP", Some("Ed25519")) => {
                let point = coordinate(&jwk.x, 32)?;
                (Kind::Ed25519, point.clone(), DecodingKey::from_ed_der(&point))
            }
            _ => return None,
        };
        let only = match &jwk.alg {
            None => None,
            Some(name) => {
                let (_, algorithm, _) =
                    ALGORITHMS.iter().find(|(known, _, needs)| known == name && *needs == kind)?;
                Some(*algorithm)
            }
        };
        // Debug texts of fieldless variants, and lengths in front of what may be of any length.
        let label = format!("{kind:?} {only:?} {}:{:?} ", material.len(), jwk.kid);
        let fingerprint = Sha256::of(&[label.as_bytes(), &material].concat());
        Some(Self { id: jwk.kid, kind, only, material: key, fingerprint })
    }

    fn signed(&self, algorithm: Algorithm, token: &Unverified<'_>) -> bool {
        // The provider by name: which one is the default depends on the features that other crates ask for.
        (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&algorithm, &self.material)
            .is_ok_and(|verifier| verifier.verify(token.message, &token.signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn set(keys: &[&str]) -> KeySet {
        KeySet::read(format!(r#"{{"keys": [{}]}}"#, keys.join(",")).as_bytes()).unwrap()
    }

    const P256: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
    const ED25519: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    /// RFC 7515, appendix A.3.
    const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

    #[test]
    fn the_example_of_the_standard_is_signed() {
        let key = set(&[&format!("{{{P256}}}")]);
        let token = Unverified::read(SIGNED).unwrap();
        let fingerprint = key.verify(&token).unwrap();
        assert!(key.holds(&fingerprint));
        assert!(!set(&[&format!("{{{P256},\"kid\":\"1\"}}")]).holds(&fingerprint));
        assert!(!set(&[&format!("{{{P256},\"alg\":\"ES256\"}}")]).holds(&fingerprint));
        assert_eq!(set(&[&format!("{{{ED25519}}}")]).verify(&token), Err(KeyError::Unknown));
        let other = SIGNED.replace("DtEhU3", "DtEhU4");
        assert_eq!(key.verify(&Unverified::read(&other).unwrap()), Err(KeyError::Signature));
    }

    #[test]
    fn a_key_signs_only_what_it_is_for() {
        for good in [
            format!("{{{P256}}}"),
            format!("{{{P256},\"use\":\"sig\",\"alg\":\"ES256\",\"key_ops\":[\"verify\"],\"x5c\":[\"…\"]}}"),
            format!("{{{P256},\"use\":null,\"alg\":null,\"kid\":null}}"),
        ] {
            assert!(!set(&[&good]).is_empty(), "{good}");
        }
        let short = P256.replace("RVEU", "R");
        for bad in [
            format!("{{{P256},\"use\":\"enc\"}}"),
            format!("{{{P256},\"key_ops\":[\"deriveKey\"]}}"),
            format!("{{{P256},\"alg\":\"ES384\"}}"),
            format!("{{{P256},\"alg\":\"HS256\"}}"),
            format!("{{{P256},\"kid\":1}}"),
            format!("{{{P256},\"kty\":\"EC\"}}"),
            format!("{{{short}}}"),
            format!("{{{}}}", P256.replace("P-256", "P-384")),
            format!("{{{}}}", P256.replace("P-256", "secp256k1")),
            format!("{{{}}}", ED25519.replace("Ed25519", "X25519")),
            r#"{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}"#.to_owned(),
            // 1024 bits.
            format!(r#"{{"kty":"RSA","e":"AQAB","n":"{}"}}"#, URL_SAFE_NO_PAD.encode([0xff; 128])),
            format!(r#"{{"kty":"RSA","e":"AQAB","n":"{}"}}"#, URL_SAFE_NO_PAD.encode([0xff; 1025])),
            r#"{"kty":"RSA","e":"AQAB","n":""}"#.to_owned(),
            "{}".to_owned(),
            "1".to_owned(),
        ] {
            assert!(set(&[&bad]).is_empty(), "{bad}");
        }
    }

    #[test]
    fn keys_that_are_not_understood_do_not_hide_the_others() {
        let keys = set(&[r#"{"kty":"new","alg":"ML-DSA-44","pub":"…"}"#, "null", &format!("{{{P256}}}")]);
        assert!(keys.verify(&Unverified::read(SIGNED).unwrap()).is_ok());
        let more = format!(r#"{{"keys":[{{{P256}}}],"issuer":"https://issuer.example"}}"#);
        assert!(!KeySet::read(more.as_bytes()).unwrap().is_empty());
        assert!(KeySet::read(br#"{"keys":[]}"#).unwrap().is_empty());
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(KeySet::read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn without_a_key_id_only_a_lone_key_counts() {
        let token = Unverified::read(SIGNED).unwrap();
        let (own, ed) = (format!("{{{P256},\"kid\":\"1\"}}"), format!("{{{ED25519}}}"));
        assert!(set(&[&own, &ed]).verify(&token).is_ok());
        assert_eq!(set(&[&own, &own]).verify(&token), Err(KeyError::Unknown));
        assert_eq!(set(&[]).verify(&token), Err(KeyError::Unknown));
    }
}
