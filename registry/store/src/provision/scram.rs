//! Password verifiers of Postgres (`SCRAM-SHA-256`, RFC 5802 and 7677), so that neither a statement nor the
//! server's log holds a password, and so that one can be compared with what a role has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

/// What Postgres uses itself.
const ITERATIONS: u32 = 4096;
const BLOCK: usize = 64;

type Hash = [u8; 32];

/// A verifier for the password, with a new salt. The password is ASCII, of which RFC 4013 leaves the printable part
/// as it is.
pub(super) fn verifier(password: &str) -> String {
    text_of(password, &rand::random::<[u8; 16]>(), ITERATIONS)
}

/// Whether a verifier is one of this password. Texts that are no verifiers are of none.
pub(super) fn matches(verifier: &str, password: &str) -> bool {
    let Some((iterations, salt)) = verifier
        .strip_prefix("SCRAM-SHA-256$")
        .and_then(|rest| rest.split_once('$'))
        .and_then(|(head, _)| head.split_once(':'))
    else {
        return false;
    };
    match (iterations.parse(), BASE64.decode(salt)) {
        (Ok(iterations), Ok(salt)) => text_of(password, &salt, iterations) == verifier,
        _ => false,
    }
}

fn text_of(password: &str, salt: &[u8], iterations: u32) -> String {
    let salted = salted(password.as_bytes(), salt, iterations);
    let stored: Hash = Sha256::digest(hmac(&salted, &[b"Client Key"])).into();
    let server = hmac(&salted, &[b"Server Key"]);
    let [salt, stored, server] = [BASE64.encode(salt), BASE64.encode(stored), BASE64.encode(server)];
    format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}")
}

/// The first block of PBKDF2 (RFC 8018).
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Hash {
    let mut step = hmac(password, &[salt, &1u32.to_be_bytes()]);
    let mut sum = step;
    for _ in 1..iterations {
        step = hmac(password, &[&step]);
        sum.iter_mut().zip(step).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// RFC 2104.
fn hmac(key: &[u8], message: &[&[u8]]) -> Hash {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut inner = Sha256::new();
    inner.update(block.map(|byte| byte ^ 0x36));
    for part in message {
        inner.update(part);
    }
    let mut outer = Sha256::new();
    outer.update(block.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn the_example_of_rfc_7677_holds() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = salted(b"pencil", &salt, 4096);
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                       r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                       c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = hmac(&hmac(&salted, &[b"Server Key"]), &[message.as_bytes()]);
        assert_eq!(BASE64.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_verifier_matches_its_password_alone() {
        let long = "x".repeat(100);
        for password in ["secret", long.as_str()] {
            let verifier = verifier(password);
            assert!(matches(&verifier, password) && !matches(&verifier, "other"));
        }
        for text in ["", "md5abc", "SCRAM-SHA-256$x", "SCRAM-SHA-256$4096:!$a:b"] {
            assert!(!matches(text, "secret"));
        }
    }
}
