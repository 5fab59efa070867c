//! Asking another registry: bounded in time, redirects and addresses.

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, LOCATION};
use reqwest::{ClientBuilder, Response, StatusCode, Url};

use crate::UpstreamError;
use crate::address::is_public;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take to begin, and to go on.
const STALL: Duration = Duration::from_secs(30);
/// How many redirects are followed. Registries send to the store of their files, hardly anything more.
const REDIRECTS: usize = 5;

/// A host whose addresses may not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no public address")]
struct NotPublic(String);

/// Resolves names to public addresses alone: what is checked here is what is connected to.
#[derive(Debug)]
struct PublicAddresses {
    /// Hosts of proxies, which the configuration names.
    trusted: Vec<String>,
}

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let is_trusted = self.trusted.contains(&host);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let had_any = !found.is_empty();
            let kept: Vec<SocketAddr> =
                found.into_iter().filter(|address| is_trusted || is_public(address.ip())).collect();
            if had_any && kept.is_empty() {
                return Err(NotPublic(host).into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

/// Asks other registries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    public: reqwest::Client,
    any: reqwest::Client,
}

impl Client {
    /// Two clients out of two equal builders, which carry trust and proxies; `proxies` are the hosts of these proxies, which may
    /// be at any address. A proxy resolves names itself: behind one, only addresses that stand in URLs are checked here.
    ///
    /// # Errors
    /// Where a client cannot be made.
    pub fn new(
        public: ClientBuilder,
        any: ClientBuilder,
        proxies: Vec<String>,
    ) -> Result<Self, reqwest::Error> {
        let common = |builder: ClientBuilder| {
            builder
                .connect_timeout(CONNECT)
                .read_timeout(STALL)
                // Followed here, where every step is checked.
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("granary/", env!("CARGO_PKG_VERSION")))
        };
        let addresses = Arc::new(PublicAddresses { trusted: proxies });
        Ok(Self { public: common(public).dns_resolver(addresses).build()?, any: common(any).build()? })
    }

    /// The bytes of something, as they come; none where there is no such thing.
    ///
    /// # Errors
    /// Where there is no good answer.
    pub async fn open(
        &self,
        url: &Url,
        allow_private: bool,
        limit: u64,
    ) -> Result<Option<BoundedBody>, UpstreamError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let answer = self.get(url, &headers, allow_private).await?;
        match answer.status() {
            StatusCode::OK => {
                if answer.content_length().is_some_and(|length| length > limit) {
                    return Err(UpstreamError::TooLarge { url: url.clone(), limit });
                }
                Ok(Some(BoundedBody { answer, url: url.clone(), limit, left: limit }))
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status => Err(UpstreamError::Status { url: url.clone(), status }),
        }
    }

    /// The answer to a `GET`, of whatever status but a redirect, which is followed. Its body is still to come.
    ///
    /// # Errors
    /// Where there is no such answer.
    pub async fn get(
        &self,
        url: &Url,
        headers: &HeaderMap,
        allow_private: bool,
    ) -> Result<Response, UpstreamError> {
        let client = if allow_private { &self.any } else { &self.public };
        let mut next = url.clone();
        for _ in 0..=REDIRECTS {
            check(&next, allow_private)?;
            let request = client.get(next.clone()).headers(headers.clone());
            let answer = request.send().await.map_err(|error| failure(url, error))?;
            let status = answer.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target = location.and_then(|location| next.join(location).ok());
            next = target.ok_or_else(|| UpstreamError::Redirects(url.clone()))?;
        }
        Err(UpstreamError::Redirects(url.clone()))
    }
}

/// The body of an answer, of which there is no more than is allowed.
#[derive(Debug)]
pub struct BoundedBody {
    answer: Response,
    url: Url,
    limit: u64,
    left: u64,
}

impl BoundedBody {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// Where it breaks off or is too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let piece = self.answer.chunk().await.map_err(|error| failure(&self.url, error))?;
        let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
        let too_large = || UpstreamError::TooLarge { url: self.url.clone(), limit: self.limit };
        self.left = self.left.checked_sub(length).ok_or_else(too_large)?;
        Ok(piece)
    }
}

/// Whether a URL may be asked for; names are looked at when they are resolved.
fn check(url: &Url, allow_private: bool) -> Result<(), UpstreamError> {
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
    let host = host.ok_or_else(|| UpstreamError::Url(url.to_string()))?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if !allow_private && address.is_ok_and(|address| !is_public(address)) {
        return Err(UpstreamError::PrivateAddress(host.to_owned()));
    }
    Ok(())
}

/// Why a request failed, or the reading of its answer.
pub(crate) fn failure(url: &Url, error: reqwest::Error) -> UpstreamError {
    let mut cause = error.source();
    while let Some(now) = cause {
        if let Some(NotPublic(host)) = now.downcast_ref() {
            return UpstreamError::PrivateAddress(host.clone());
        }
        cause = now.source();
    }
    if error.is_timeout() {
        return UpstreamError::TimedOut(url.clone());
    }
    UpstreamError::Request { url: url.clone(), source: error.without_url() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn addresses_in_urls_are_checked_however_they_are_written() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "https://[::ffff:10.0.0.1]:1/",
        ] {
            let url: Url = url.parse().unwrap();
            assert!(matches!(check(&url, false), Err(UpstreamError::PrivateAddress(_))), "{url}");
            assert!(check(&url, true).is_ok(), "{url}");
        }
        for url in ["ftp://upstream.example/", "file:///etc/passwd"] {
            assert!(matches!(check(&url.parse().unwrap(), true), Err(UpstreamError::Url(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn names_are_checked_where_they_are_resolved() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let builder = || reqwest::Client::builder().no_proxy();
        let client = Client::new(builder(), builder(), Vec::new()).unwrap();
        let url: Url = "http://localhost:1/".parse().unwrap();
        let refused = client.get(&url, &HeaderMap::new(), false).await.unwrap_err();
        assert!(matches!(refused, UpstreamError::PrivateAddress(_)), "{refused:?}");
        let failed = client.get(&url, &HeaderMap::new(), true).await.unwrap_err();
        assert!(matches!(failed, UpstreamError::Request { .. }), "{failed:?}");
    }
}
