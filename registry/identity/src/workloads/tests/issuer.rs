//! Keys that are made for a test, and tokens that they sign.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RsaEncoding, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key of an issuer, and what it signs with unless told otherwise.
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithm: &'static str,
    pair: Pair,
}

impl Key {
    /// A new key for this algorithm.
    pub(super) fn new(id: &str, algorithm: &'static str) -> Self {
        let pair = match algorithm {
            "ES256" => Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            "ES384" => Pair::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
            "EdDSA" => Pair::Ed25519(Ed25519KeyPair::generate().unwrap()),
            _ => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Self { id: Some(id.to_owned()), algorithm, pair }
    }

    pub(super) fn without_id(mut self) -> Self {
        self.id = None;
        self
    }

    /// The public half, with no word of what it is for.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": encode(public.n), "e": encode(public.e)})
            }
            Pair::P256(pair) => point("P-256", pair.public_key().as_ref()),
            Pair::P384(pair) => point("P-384", pair.public_key().as_ref()),
            Pair::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())}),
        };
        if let Some(id) = &self.id {
            jwk["kid"] = json!(id);
        }
        jwk
    }

    /// The public half in the ways in which it might be taken for a shared secret.
    pub(super) fn public_forms(&self) -> Vec<Vec<u8>> {
        let (der, raw) = match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                (public.as_der().unwrap().as_ref().to_vec(), public.as_ref().to_vec())
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                let public = pair.public_key();
                (public.as_der().unwrap().as_ref().to_vec(), public.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => {
                let public = pair.public_key();
                (public.as_der().unwrap().as_ref().to_vec(), public.as_ref().to_vec())
            }
        };
        let body = STANDARD.encode(&der);
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        let jwk = self.jwk();
        let field = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
        let mut forms = vec![Vec::new(), der, raw, pem.trim_end().into(), pem.into(), jwk.to_string().into()];
        forms.extend(["n", "e", "x", "y"].into_iter().filter_map(field));
        forms
    }

    /// A token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": self.algorithm, "kid": self.id}), &claims.to_string())
    }

    /// A token with this header (without what is null in it), signed by the algorithm that it names, or else by the
    /// key's own.
    pub(super) fn sign_with(&self, header: &Value, payload: &str) -> String {
        let mut header = header.clone();
        header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let message = format!("{}.{}", encode(header.to_string()), encode(payload));
        let signature = self.signature(header["alg"].as_str().unwrap_or(self.algorithm), message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    fn signature(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::P256(pair) | Pair::P384(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

fn point(curve: &str, uncompressed: &[u8]) -> Value {
    let (x, y) = uncompressed[1..].split_at((uncompressed.len() - 1) / 2);
    json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
}

/// What an issuer publishes.
pub(super) fn key_set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}
