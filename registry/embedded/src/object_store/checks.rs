//! Digests that a client claims for the bytes it sends: `Content-MD5` and `x-amz-checksum-*`, as headers or trailers.
//!
//! The signature's own hash of the payload, and signed chunks, are checked by `s3s` while the body is read; these here
//! are not.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum, Md5};
use serde::{Deserialize, Serialize};

use super::Error;

/// A checksum algorithm of S3, named by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    fn header(self) -> HeaderName {
        match self {
            Self::Crc32 => HeaderName::from_static("x-amz-checksum-crc32"),
            Self::Crc32c => HeaderName::from_static("x-amz-checksum-crc32c"),
            Self::Crc64Nvme => HeaderName::from_static("x-amz-checksum-crc64nvme"),
            Self::Sha1 => HeaderName::from_static("x-amz-checksum-sha1"),
            Self::Sha256 => HeaderName::from_static("x-amz-checksum-sha256"),
        }
    }
}

/// Checksums of the same bytes, in base64 as S3 writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Checksums(BTreeMap<Algorithm, String>);

impl Checksums {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that `headers` hold.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let claimed = |algorithm: Algorithm| {
            Some((algorithm, headers.get(algorithm.header())?.to_str().ok()?.to_owned()))
        };
        Self(Algorithm::ALL.into_iter().filter_map(claimed).collect())
    }

    /// As headers of a response.
    pub fn to_headers(&self) -> HeaderMap {
        let header = |(algorithm, value): (&Algorithm, &String)| {
            Some((algorithm.header(), HeaderValue::from_str(value).ok()?))
        };
        self.0.iter().filter_map(header).collect()
    }

    pub fn get(&self, algorithm: Algorithm) -> Option<String> {
        self.0.get(&algorithm).cloned()
    }

    /// Whether no algorithm that both know has two values.
    pub fn agree_with(&self, other: &Self) -> bool {
        self.0.iter().all(|(algorithm, value)| other.0.get(algorithm).is_none_or(|theirs| theirs == value))
    }
}

impl From<s3s::dto::Checksum> for Checksums {
    fn from(computed: s3s::dto::Checksum) -> Self {
        let all = [
            (Algorithm::Crc32, computed.checksum_crc32),
            (Algorithm::Crc32c, computed.checksum_crc32c),
            (Algorithm::Crc64Nvme, computed.checksum_crc64nvme),
            (Algorithm::Sha1, computed.checksum_sha1),
            (Algorithm::Sha256, computed.checksum_sha256),
        ];
        Self(all.into_iter().filter_map(|(algorithm, value)| Some((algorithm, value?))).collect())
    }
}

/// What a request claims of its body.
#[derive(Debug)]
pub(super) struct Claims {
    md5: Option<Vec<u8>>,
    checksums: Checksums,
    /// To compute: those claimed, those that trailers will claim, and those the client asks to be kept.
    algorithms: Vec<Algorithm>,
}

impl Claims {
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Error> {
        let md5 = match headers.get("content-md5") {
            Some(value) => Some(STANDARD.decode(value.as_bytes()).map_err(|_| Error::InvalidDigest)?),
            None => None,
        };
        if md5.as_ref().is_some_and(|md5| md5.len() != 16) {
            return Err(Error::InvalidDigest);
        }
        let checksums = Checksums::from_headers(headers);
        let asked = headers.get("x-amz-sdk-checksum-algorithm").and_then(|value| value.to_str().ok());
        let trailers: Vec<_> = headers
            .get_all("x-amz-trailer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(',').map(str::trim))
            .collect();
        let wanted = |algorithm: &Algorithm| {
            checksums.0.contains_key(algorithm)
                || asked.is_some_and(|name| name.eq_ignore_ascii_case(algorithm.name()))
                || trailers.iter().any(|name| name.eq_ignore_ascii_case(algorithm.header().as_str()))
        };
        let algorithms = Algorithm::ALL.into_iter().filter(wanted).collect();
        Ok(Self { md5, checksums, algorithms })
    }

    /// What computes all that is to be compared or kept.
    pub fn hashers(&self) -> Hashers {
        let mut others = ChecksumHasher::default();
        for algorithm in &self.algorithms {
            match algorithm {
                Algorithm::Crc32 => others.crc32 = Some(Checksum::new()),
                Algorithm::Crc32c => others.crc32c = Some(Checksum::new()),
                Algorithm::Crc64Nvme => others.crc64nvme = Some(Checksum::new()),
                Algorithm::Sha1 => others.sha1 = Some(Checksum::new()),
                Algorithm::Sha256 => others.sha256 = Some(Checksum::new()),
            }
        }
        Hashers { md5: Md5::new(), others }
    }

    /// Compares the claims, those of the trailers too, with what the bytes gave.
    pub fn check(&self, computed: &Digests, trailers: Option<&HeaderMap>) -> Result<(), Error> {
        let trailing = trailers.map(Checksums::from_headers).unwrap_or_default();
        let md5_agrees = self.md5.as_ref().is_none_or(|claimed| *claimed == computed.md5);
        if md5_agrees
            && self.checksums.agree_with(&computed.checksums)
            && trailing.agree_with(&computed.checksums)
        {
            Ok(())
        } else {
            Err(Error::BadDigest)
        }
    }
}

/// Hashes bytes as they pass.
pub(super) struct Hashers {
    md5: Md5,
    others: ChecksumHasher,
}

/// What the hashers found.
#[derive(Debug)]
pub(super) struct Digests {
    pub md5: [u8; 16],
    pub checksums: Checksums,
}

impl Hashers {
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.others.update(bytes);
    }

    pub fn finish(self) -> Digests {
        Digests { md5: self.md5.finalize(), checksums: self.others.finalize().into() }
    }
}
