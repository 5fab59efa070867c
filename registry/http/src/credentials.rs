//! The credentials that a request carries. Whether they are good is for `granary-identity` to say.

#[cfg(test)]
mod tests;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use granary_identity::Credential;
use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use jiff::SignedDuration;
use secrecy::SecretString;

use crate::proxy::Scheme;
use crate::{Body, RequestPath};

/// The cookie that holds a browser's session, where the connection is secure or not. A secure one is believed only by a name
/// that no neighbouring host and no insecure page can set (`__Host-`, RFC 6265bis section 4.1.3.2).
pub const fn session_cookie(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Https => "__Host-granary_session",
        Scheme::Http => "granary_session",
    }
}

/// Has a browser keep something. Scripts never see it, other sites' pages send it only where they lead the whole window here,
/// and where the connection is secure it is never sent over another one.
pub fn set_cookie(
    response: &mut Response<Body>,
    scheme: Scheme,
    name: &str,
    value: &str,
    lifetime: SignedDuration,
) {
    let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
    let seconds = lifetime.as_secs().max(0);
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    // Names are ours, and values are letters and digits.
    if let Ok(mut header) = HeaderValue::from_str(&text) {
        header.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, header);
    }
}

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials that cannot be read. The messages never quote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// More than one `Authorization` or `X-API-Key`, or two different session cookies.
    #[error("the request carries two credentials of the same kind")]
    Duplicate,
    /// Neither `Basic` nor `Bearer`.
    #[error("the authorization scheme is not one of Basic and Bearer")]
    Scheme,
    /// Not base64, or no colon in it.
    #[error("the Basic credentials are not 'user:password' in base64")]
    Basic,
    /// A token that is empty or holds characters that no token has.
    #[error("the token is malformed")]
    Token,
}

/// What a protocol's own carrier found.
#[derive(Debug)]
pub struct Carried {
    /// The credential.
    pub credential: Credential,
    /// The path to go on with, when the credential stood in it.
    pub path: Option<RequestPath>,
}

/// A way of carrying a credential that a protocol adds, such as a header of its own or a segment of the path.
pub type Carrier = fn(&HeaderMap, &RequestPath) -> Option<Carried>;

/// All that was found in one request.
#[derive(Debug, Default)]
pub struct Found {
    /// The credentials, in this order: `Authorization`, `X-API-Key`, those of the carriers, the session cookie.
    pub credentials: Vec<Credential>,
    /// The path without the credentials that it carried, if it did.
    pub path: Option<RequestPath>,
}

/// Reads the headers that every protocol knows, and asks the carriers that were added. `scheme` is that of the client's URL.
pub fn find(
    headers: &HeaderMap,
    path: &RequestPath,
    carriers: &[Carrier],
    scheme: Scheme,
) -> Result<Found, CredentialError> {
    let mut found = Found::default();
    if let Some(value) = only(headers, &AUTHORIZATION)? {
        found.credentials.push(parse_authorization(value)?);
    }
    if let Some(value) = only(headers, &API_KEY)? {
        found.credentials.push(Credential::Token(parse_token(value)?));
    }
    for carrier in carriers {
        if let Some(carried) = carrier(headers, found.path.as_ref().unwrap_or(path)) {
            found.credentials.push(carried.credential);
            found.path = carried.path.or(found.path);
        }
    }
    if let Some(session) = session(headers, scheme)? {
        found.credentials.push(Credential::Session(session));
    }
    Ok(found)
}

/// Reads `user:password` in base64, as the `Basic` scheme and some headers of old clients carry it.
pub fn parse_basic(encoded: &[u8]) -> Result<Credential, CredentialError> {
    let decoded = BASE64.decode(encoded.trim_ascii()).map_err(|_| CredentialError::Basic)?;
    // Clients send UTF-8 or Latin-1 and do not say which.
    let text = String::from_utf8(decoded)
        .unwrap_or_else(|error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect());
    let (user, password) = text.split_once(':').ok_or(CredentialError::Basic)?;
    if text.chars().any(char::is_control) {
        return Err(CredentialError::Basic);
    }
    Ok(Credential::Basic { user: user.to_owned(), password: password.into() })
}

fn parse_authorization(value: &[u8]) -> Result<Credential, CredentialError> {
    let end = value.iter().position(|byte| *byte == b' ').ok_or(CredentialError::Scheme)?;
    let (scheme, rest) = value.split_at(end);
    if scheme.eq_ignore_ascii_case(b"basic") {
        parse_basic(rest)
    } else if scheme.eq_ignore_ascii_case(b"bearer") {
        parse_token(rest).map(Credential::Token)
    } else {
        Err(CredentialError::Scheme)
    }
}

fn parse_token(bytes: &[u8]) -> Result<SecretString, CredentialError> {
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(CredentialError::Token);
    }
    std::str::from_utf8(bytes).map(SecretString::from).map_err(|_| CredentialError::Token)
}

/// The value of a header that may occur only once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, CredentialError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(CredentialError::Duplicate) } else { Ok(first.map(AsRef::as_ref)) }
}

/// The session cookie. Two different ones mean that somebody else could set one of them.
fn session(headers: &HeaderMap, scheme: Scheme) -> Result<Option<SecretString>, CredentialError> {
    cookie(headers, session_cookie(scheme))?.map(|value| parse_token(value.as_bytes())).transpose()
}

/// The value of a cookie that is not empty. Two different ones are an error.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, CredentialError> {
    let mut values = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(named, value)| *named == name && !value.is_empty())
        .map(|(_, value)| value);
    let first = values.next();
    if values.any(|other| Some(other) != first) {
        return Err(CredentialError::Duplicate);
    }
    Ok(first)
}
