//! An issuer's keys from where they are: a URL, one that its discovery document names, or a file.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use granary_crds::{Issuer, KeySource};
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::key_set::KeySet;
use crate::outbound::read_body;

/// How long a whole fetch may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The most bytes of a document.
const MAX_BYTES: usize = 1024 * 1024;
/// How long keys from a URL are fresh, where its answer does not say less.
const FRESH: Duration = Duration::from_mins(15);
/// How long they are at least.
const FRESH_AT_LEAST: Duration = Duration::from_mins(1);
/// How often a file is looked at.
const FILE_FRESH: Duration = Duration::from_secs(1);

/// Why an issuer's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The URL cannot be asked for.
    #[error("the URL {0:?} cannot be used")]
    Url(String),
    /// There was no answer, or it broke off.
    #[error("the issuer could not be asked")]
    Request(#[from] reqwest::Error),
    /// It took longer than 5 s.
    #[error("the issuer did not answer within 5 s")]
    TimedOut,
    /// The answer is not what was asked for. Redirects are not followed.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked for.
        url: Url,
        /// The answer.
        status: StatusCode,
    },
    /// Something else answered than what was asked.
    #[error("{url} led to {answered}")]
    Redirected {
        /// What was asked for.
        url: Url,
        /// What answered.
        answered: Url,
    },
    /// The document has more than 1 MiB.
    #[error("the document is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// The discovery document cannot be read.
    #[error("the discovery document cannot be read")]
    Discovery(#[source] serde_json::Error),
    /// The discovery document names another issuer (`OpenID` Connect Discovery 1.0, section 4.3).
    #[error("the discovery document is that of another issuer, {0:?}")]
    OtherIssuer(String),
    /// The discovery document of an `https` issuer names a URL of another kind.
    #[error("the discovery document names keys at {0}, which is no https URL")]
    Insecure(Url),
    /// The keys cannot be read.
    #[error("the key set cannot be read")]
    KeySet(#[source] serde_json::Error),
    /// The file cannot be read.
    #[error("the file {path} cannot be read")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The task that fetched them ended: the process is stopping.
    #[error("the fetch of the keys was broken off")]
    Interrupted,
}

/// What a fetch brought.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Keys.
    Keys {
        set: KeySet,
        fresh_for: Duration,
        /// Of the file that they are from.
        version: Option<FileVersion>,
    },
    /// The file is that of before.
    Unchanged { fresh_for: Duration },
}

/// What tells one content of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileVersion {
    /// With links resolved: Kubernetes replaces a mounted file by pointing a link elsewhere.
    path: PathBuf,
    modified: Option<SystemTime>,
    length: u64,
}

/// Fetches the keys. `known` is the version of the file that they were read from before.
pub(crate) async fn fetch(
    http: &Client,
    issuer: &Issuer,
    known: Option<&FileVersion>,
) -> Result<Fetched, KeysError> {
    let work = async {
        match &issuer.keys {
            KeySource::File(path) => {
                let failed = |source| KeysError::File { path: path.clone(), source };
                let version = version(path).await.map_err(failed)?;
                if known == Some(&version) {
                    return Ok(Fetched::Unchanged { fresh_for: FILE_FRESH });
                }
                // The version is older than what is read, at worst; then the next look reads again.
                let bytes = read(&version.path).await.map_err(failed)?;
                let bytes = bytes.ok_or(KeysError::TooLarge)?;
                let set = KeySet::read(&bytes).map_err(KeysError::KeySet)?;
                Ok(Fetched::Keys { set, fresh_for: FILE_FRESH, version: Some(version) })
            }
            KeySource::Url(url) => keys_at(http, parse(url.as_str())?).await,
            KeySource::Discovered => keys_at(http, discover(http, &issuer.url).await?).await,
        }
    };
    tokio::time::timeout(LIMIT, work).await.map_err(|_| KeysError::TimedOut)?
}

async fn keys_at(http: &Client, url: Url) -> Result<Fetched, KeysError> {
    let (headers, body) = get(http, url).await?;
    let set = KeySet::read(&body).map_err(KeysError::KeySet)?;
    Ok(Fetched::Keys { set, fresh_for: freshness(&headers), version: None })
}

/// Where the keys of an issuer are (`OpenID` Connect Discovery 1.0, section 4).
async fn discover(http: &Client, issuer: &str) -> Result<Url, KeysError> {
    let url = parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
    let (_, document) = get(http, url).await?;
    keys_url(issuer, &document)
}

fn keys_url(issuer: &str, document: &[u8]) -> Result<Url, KeysError> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }

    let document: Document = serde_json::from_slice(document).map_err(KeysError::Discovery)?;
    if document.issuer != issuer {
        return Err(KeysError::OtherIssuer(document.issuer));
    }
    let keys = parse(&document.jwks_uri)?;
    match keys.scheme() {
        "https" => Ok(keys),
        "http" if parse(issuer)?.scheme() == "http" => Ok(keys),
        _ => Err(KeysError::Insecure(keys)),
    }
}

fn parse(url: &str) -> Result<Url, KeysError> {
    Url::parse(url).map_err(|_| KeysError::Url(url.to_owned()))
}

async fn get(http: &Client, url: Url) -> Result<(HeaderMap, Vec<u8>), KeysError> {
    let mut response = http.get(url.clone()).header(ACCEPT, "application/json").send().await?;
    if *response.url() != url {
        return Err(KeysError::Redirected { url, answered: response.url().clone() });
    }
    if response.status() != StatusCode::OK {
        return Err(KeysError::Status { url, status: response.status() });
    }
    let headers = std::mem::take(response.headers_mut());
    let body = read_body(&mut response, MAX_BYTES).await?.ok_or(KeysError::TooLarge)?;
    Ok((headers, body))
}

/// How long an answer is fresh (RFC 9111, section 5.2.2): never longer than ours, never so short that every request
/// asks again.
fn freshness(headers: &HeaderMap) -> Duration {
    let said = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    let of = |directive: &str| {
        let directive = directive.trim().to_ascii_lowercase();
        match directive.split_once('=') {
            Some(("max-age", seconds)) => seconds.trim_matches('"').parse().ok().map(Duration::from_secs),
            None if directive == "no-store" || directive == "no-cache" => Some(Duration::ZERO),
            _ => None,
        }
    };
    said.flat_map(|value| value.split(',').filter_map(of)).min().unwrap_or(FRESH).clamp(FRESH_AT_LEAST, FRESH)
}

async fn version(path: &Path) -> std::io::Result<FileVersion> {
    let path = tokio::fs::canonicalize(path).await?;
    let metadata = tokio::fs::metadata(&path).await?;
    Ok(FileVersion { modified: metadata.modified().ok(), length: metadata.len(), path })
}

/// The bytes of a file, unless there are too many.
async fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
    Ok((bytes.len() <= MAX_BYTES).then_some(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn an_answer_may_shorten_how_long_it_is_fresh() {
        for (said, seconds) in [
            (&[][..], 900),
            (&["max-age=300"], 300),
            (&["public, Max-Age=120, must-revalidate"], 120),
            (&["max-age=\"90\""], 90),
            (&["max-age=0"], 60),
            (&["max-age=1"], 60),
            (&["no-store"], 60),
            (&["no-cache, max-age=600"], 60),
            (&["max-age=600", "max-age=200"], 200),
            (&["max-age=86400"], 900),
            (&["max-age=-1"], 900),
            (&["max-age"], 900),
            (&["s-maxage=60"], 900),
        ] {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(CACHE_CONTROL, value.parse().unwrap());
            }
            assert_eq!(freshness(&headers), Duration::from_secs(seconds), "{said:?}");
        }
    }

    #[test]
    fn a_discovery_document_is_that_of_its_issuer_and_no_less_safe() {
        let of = |issuer: &str, document: &str| keys_url(issuer, document.as_bytes());
        let document =
            |issuer: &str, keys: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}","x":1}}"#);
        let (own, plain) = ("https://issuer.example", "http://issuer.example");
        let keys = of(own, &document(own, "https://keys.example/jwks?v=1")).unwrap();
        assert_eq!(keys.as_str(), "https://keys.example/jwks?v=1");
        assert!(of(plain, &document(plain, "https://keys.example/jwks")).is_ok());
        assert!(of(plain, &document(plain, "http://keys.example/jwks")).is_ok());
        for keys in ["http://keys.example/jwks", "file:///etc/passwd"] {
            assert!(matches!(of(own, &document(own, keys)), Err(KeysError::Insecure(_))), "{keys}");
        }
        assert!(matches!(of(plain, &document(plain, "ftp://keys.example")), Err(KeysError::Insecure(_))));
        for other in ["https://issuer.example/", "https://other.example", "HTTPS://issuer.example", ""] {
            let error = of(own, &document(other, "https://keys.example/jwks")).unwrap_err();
            assert!(matches!(error, KeysError::OtherIssuer(_)), "{other}");
        }
        assert!(matches!(of(own, &document(own, "/jwks")), Err(KeysError::Url(_))));
        assert!(matches!(of(own, r#"{"issuer":"https://issuer.example"}"#), Err(KeysError::Discovery(_))));
    }
}
