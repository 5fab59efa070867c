//! The compact form of a signed token (RFC 7515, section 7.1; RFC 7519), read but not believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::json::{Json, JsonError, Object};

/// The longest token, in bytes. Those of CI systems have about two thousand.
pub(crate) const MAX_LENGTH: usize = 16 * 1024;

/// A text that is no token.
#[derive(Debug, thiserror::Error)]
pub enum SignedTokenError {
    /// Longer than 16 KiB.
    #[error("the token is longer than {MAX_LENGTH} bytes")]
    Length,
    /// Not three parts.
    #[error("a token has three parts with dots between them")]
    Parts,
    /// A part is not base64url without padding.
    #[error("a part of the token is not base64url")]
    Base64(#[from] base64::DecodeError),
    /// Header or payload is no JSON.
    #[error("the token's header or payload cannot be read")]
    Json(#[from] JsonError),
    /// Header or payload is no object, or not UTF-8.
    #[error("the token's header or payload is no JSON object")]
    Object,
    /// The header names no algorithm.
    #[error("the token's header names no algorithm")]
    Algorithm,
    /// Another kind of token, which its issuer does not mean as a credential: of a logout, an event, a proof.
    #[error("the token is of another type than JWT")]
    Type,
    /// The header's key id is no text.
    #[error("the key id in the token's header is no text")]
    KeyId,
    /// The header names extensions that whoever reads it must understand (RFC 7515, section 4.1.11).
    #[error("the token's header names critical extensions; none is known here")]
    Critical,
}

/// What a token says of itself. None of it is true until the signature is.
pub(crate) struct Unverified<'a> {
    /// What is signed.
    pub(crate) message: &'a [u8],
    pub(crate) signature: Vec<u8>,
    pub(crate) algorithm: String,
    pub(crate) key_id: Option<String>,
    /// It says to be an access token (RFC 9068), which tells nobody who somebody is.
    pub(crate) is_access_token: bool,
    pub(crate) payload: Object,
}

impl<'a> Unverified<'a> {
    /// Keys and addresses of keys in the header (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.
    pub(crate) fn read(token: &'a str) -> Result<Self, SignedTokenError> {
        if token.len() > MAX_LENGTH {
            return Err(SignedTokenError::Length);
        }
        let [header, payload, signature] = parts(token).ok_or(SignedTokenError::Parts)?;
        let message = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let mut header = object(header)?;
        if header.contains_key("crit") {
            return Err(SignedTokenError::Critical);
        }
        let Some(Json::Text(algorithm)) = header.remove("alg") else {
            return Err(SignedTokenError::Algorithm);
        };
        let key_id = match header.remove("kid") {
            None => None,
            Some(Json::Text(id)) => Some(id),
            Some(_) => return Err(SignedTokenError::KeyId),
        };
        // Kubernetes leaves it out. `at+jwt` is that of access tokens (RFC 9068).
        let is_access_token = match header.get("typ") {
            None => false,
            Some(Json::Text(typ)) => match kind(typ).as_str() {
                "jwt" => false,
                "at+jwt" => true,
                _ => return Err(SignedTokenError::Type),
            },
            Some(_) => return Err(SignedTokenError::Type),
        };
        let payload = object(payload)?;
        let signature = URL_SAFE_NO_PAD.decode(signature)?;
        Ok(Self { message, signature, algorithm, key_id, is_access_token, payload })
    }

    /// Who says to have signed it.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.payload.get("iss")?.as_text()
    }
}

/// Whether a text could be a token, by its parts and its header alone.
pub(crate) fn looks_like_one(text: &str) -> bool {
    let is_base64 = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.len() <= MAX_LENGTH
        && parts(text).is_some_and(|[header, payload, signature]| {
            // The signature is empty where `alg` is `none`: a token still, to be refused as one.
            is_base64(header)
                && is_base64(payload)
                && (signature.is_empty() || is_base64(signature))
                && object(header).is_ok_and(|header| matches!(header.get("alg"), Some(Json::Text(_))))
        })
}

fn parts(token: &str) -> Option<[&str; 3]> {
    let mut parts = token.split('.');
    let found = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(found)
}

fn object(part: &str) -> Result<Object, SignedTokenError> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(part)?).map_err(|_| SignedTokenError::Object)?;
    match Json::read(&text)? {
        Json::Object(object) => Ok(object),
        _ => Err(SignedTokenError::Object),
    }
}

/// RFC 7515, section 4.1.9: compared without case, and `application/` may stand in front.
fn kind(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_token_is_told_from_other_credentials() {
        for header in [r#"{"alg":"RS256","kid":"a"}"#, r#"{"typ":"JWT","alg":"ES256"}"#, r#"{"alg":"none"}"#]
        {
            assert!(looks_like_one(&token(header, "{}")), "{header}");
        }
        assert!(looks_like_one("eyJhbGciOiJub25lIn0.e30."));
        let with = |header: &str| token(header, "{}");
        for text in [
            "",
            "..",
            "a.b.c",
            "granary_0123456789_0123456789012345678901234567890123456789012",
            "correct.horse.battery",
            "eyJhbGciOiJSUzI1NiJ9.e30",
            "eyJhbGciOiJSUzI1NiJ9.e30.c2ln.c2ln",
            "eyJhbGciOiJSUzI1NiJ9.e30.c2l+",
            "eyJhbGciOiJSUzI1NiJ9..c2ln",
            &with("{}"),
            &with(r#"{"alg":1}"#),
            &with("[]"),
            &with(r#"{"alg":"RS256","alg":"RS256"}"#),
            &format!("{}.e30.{}", "eyJhbGciOiJSUzI1NiJ9", "A".repeat(MAX_LENGTH)),
        ] {
            assert!(!looks_like_one(text), "{text:.60}");
        }
    }

    #[test]
    fn a_token_is_read_in_one_way_or_not_at_all() {
        let good = token(r#"{"alg":"RS256","kid":"a","typ":"JWT"}"#, r#"{"iss":"x"}"#);
        let read = Unverified::read(&good).unwrap();
        assert_eq!(
            (read.algorithm.as_str(), read.key_id.as_deref(), read.issuer()),
            ("RS256", Some("a"), Some("x"))
        );
        assert_eq!(read.message, &good.as_bytes()[..good.rfind('.').unwrap()]);
        assert_eq!(read.signature, b"sig");

        let header = r#"{"alg":"RS256"}"#;
        let bad = |token: &str| Unverified::read(token).err().unwrap();
        let long = token(header, &format!(r#"{{"a":"{}"}}"#, "a".repeat(MAX_LENGTH)));
        assert!(matches!(bad(&long), SignedTokenError::Length));
        assert!(matches!(bad("a.b"), SignedTokenError::Parts));
        assert!(matches!(bad(&format!("{good}.c2ln")), SignedTokenError::Parts));
        assert!(matches!(bad(&format!("{good}=")), SignedTokenError::Base64(_)));
        assert!(matches!(bad(&format!("{good}\n")), SignedTokenError::Base64(_)));
        assert!(matches!(bad(&token("{", "{}")), SignedTokenError::Json(_)));
        assert!(matches!(bad(&token(header, r#"{"a":1,"a":1}"#)), SignedTokenError::Json(_)));
        assert!(matches!(bad(&token(r#"{"alg":"RS256","alg":"none"}"#, "{}")), SignedTokenError::Json(_)));
        assert!(matches!(bad(&token(header, "[]")), SignedTokenError::Object));
        assert!(matches!(bad(&token("{}", "{}")), SignedTokenError::Algorithm));
        assert!(matches!(bad(&token(r#"{"alg":["RS256"]}"#, "{}")), SignedTokenError::Algorithm));
        assert!(matches!(bad(&token(r#"{"alg":"RS256","kid":1}"#, "{}")), SignedTokenError::KeyId));
        for crit in [r#"["b64"]"#, "[]", "null"] {
            let header = format!(r#"{{"alg":"RS256","crit":{crit},"b64":false}}"#);
            assert!(matches!(bad(&token(&header, "{}")), SignedTokenError::Critical));
        }
        let not_utf8 = format!(
            "{}.{}.c2ln",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(b"{\"a\":\"\xff\"}")
        );
        assert!(matches!(bad(&not_utf8), SignedTokenError::Object));
        // The last letter of `c2lu` holds no spare bits; that of `YQ` does, and `YR` would decode to the same.
        assert!(matches!(bad("eyJhbGciOiJSUzI1NiJ9.e30.YR"), SignedTokenError::Base64(_)));
    }

    #[test]
    fn tokens_of_other_types_are_no_credentials() {
        let read = |typ: &str| {
            let token = token(&format!(r#"{{"alg":"RS256","typ":{typ}}}"#), "{}");
            Unverified::read(&token).is_ok()
        };
        for typ in [r#""JWT""#, r#""jwt""#, r#""application/jwt""#, r#""at+jwt""#, r#""application/at+JWT""#]
        {
            assert!(read(typ), "{typ}");
        }
        for typ in [r#""logout+jwt""#, r#""dpop+jwt""#, r#""secevent+jwt""#, r#""JWE""#, r#""""#, "null", "1"]
        {
            assert!(!read(typ), "{typ}");
        }
    }
}
