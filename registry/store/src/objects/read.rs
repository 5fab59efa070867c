//! Reading objects: as a stream, by a presigned URL, or only to see that they are whole.

use std::fmt::Write as _;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use granary_core::Sha256;
use jiff::Timestamp;
use sha2::Digest as _;

use super::{ObjectError, ObjectStore};

/// How often a read that broke off is taken up again where it stopped.
const RESUMES: u8 = 3;
/// The longest that a presigned URL may be good for.
const MAX_TTL: Duration = Duration::from_mins(5);

/// The bytes of an object, or of a range of it, as they arrive.
pub struct ObjectStream {
    length: u64,
    inner: BoxStream<'static, Result<Bytes, ObjectError>>,
}

impl ObjectStream {
    /// How many bytes there are in all.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl std::fmt::Debug for ObjectStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStream").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Stream for ObjectStream {
    type Item = Result<Bytes, ObjectError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(context)
    }
}

impl ObjectStore {
    /// Opens an object, or a range of its bytes. What arrives is not buffered: a reader that
    /// stops reading stops the store. A connection that breaks is resumed where it stopped.
    pub async fn open(
        &self,
        bucket: &str,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<ObjectStream, ObjectError> {
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(ObjectStream { length: 0, inner: stream::empty().boxed() });
        }
        let start = range.as_ref().map_or(0, |range| range.start);
        let request = self.client().get_object().bucket(bucket).key(key);
        let answer = request.set_range(range.as_ref().map(range_header)).send().await?;
        let arriving = u64::try_from(answer.content_length.unwrap_or(0)).unwrap_or(0);
        if let Some(range) = &range
            && range.end - range.start != arriving
        {
            // A store that ignores ranges, or an object that is shorter than its row says.
            return Err(ObjectError::WrongLength { expected: range.end - range.start, actual: arriving });
        }
        let reading = Reading {
            store: self.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            e_tag: answer.e_tag,
            body: answer.body,
            position: start,
            end: start + arriving,
            resumes: RESUMES,
        };
        let inner = stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|bytes| (bytes, reading)))
        });
        Ok(ObjectStream { length: arriving, inner: inner.boxed() })
    }

    /// The length of an object in bytes.
    pub async fn size(&self, bucket: &str, key: &str) -> Result<u64, ObjectError> {
        let answer = self.client().head_object().bucket(bucket).key(key).send().await?;
        Ok(u64::try_from(answer.content_length.unwrap_or(0)).unwrap_or(0))
    }

    /// Reads a whole object to see that it is what it should be: for the scrubber.
    pub async fn verify(
        &self,
        bucket: &str,
        key: &str,
        sha256: &Sha256,
        size: u64,
    ) -> Result<(), ObjectError> {
        let mut bytes = verified(self.open(bucket, key, None).await?, *sha256, size);
        while let Some(chunk) = bytes.next().await {
            chunk?;
        }
        Ok(())
    }

    /// A URL under which anybody may download an object for `ttl` (at most five minutes) from `now`, saved
    /// under `file_name`. Nothing where no public endpoint is configured.
    pub async fn presign_get(
        &self,
        bucket: &str,
        key: &str,
        now: Timestamp,
        ttl: Duration,
        file_name: &str,
        content_type: &str,
    ) -> Result<Option<String>, ObjectError> {
        let Some(client) = self.public_client() else { return Ok(None) };
        let signing = PresigningConfig::builder()
            .start_time(now.into())
            .expires_in(ttl.min(MAX_TTL))
            .build()
            .map_err(ObjectError::invalid)?;
        let request = client
            .get_object()
            .bucket(bucket)
            .key(key)
            .response_content_disposition(content_disposition(file_name))
            .response_content_type(content_type)
            .presigned(signing)
            .await?;
        Ok(Some(request.uri().to_owned()))
    }
}

/// `Content-Disposition` as RFC 6266 has it: the name in ASCII, and beside it in UTF-8 where that differs.
fn content_disposition(file_name: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ';
    let ascii: String = file_name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut header = format!("attachment; filename=\"{ascii}\"");
    if ascii != file_name {
        header.push_str("; filename*=UTF-8''");
        for byte in file_name.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                header.push(char::from(byte));
            } else {
                // Writing to a string does not fail.
                write!(header, "%{byte:02X}").ok();
            }
        }
    }
    header
}

fn range_header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

struct Reading {
    store: ObjectStore,
    bucket: String,
    key: String,
    e_tag: Option<String>,
    body: ByteStream,
    position: u64,
    end: u64,
    resumes: u8,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        while self.position < self.end {
            // The time runs only while somebody waits for bytes: a slow reader is no idle store.
            let broken = match tokio::time::timeout(self.store.idle(), self.body.next()).await {
                Ok(Some(Ok(bytes))) if bytes.is_empty() => continue,
                Ok(Some(Ok(bytes))) => {
                    self.position += bytes.len() as u64;
                    if self.position > self.end {
                        return Err(ObjectError::WrongLength { expected: self.end, actual: self.position });
                    }
                    return Ok(Some(bytes));
                }
                Ok(Some(Err(error))) => ObjectError::unavailable(error),
                Ok(None) => ObjectError::unavailable(BrokenOff),
                Err(elapsed) => ObjectError::unavailable(elapsed),
            };
            self.resume(broken).await?;
        }
        Ok(None)
    }

    async fn resume(&mut self, broken: ObjectError) -> Result<(), ObjectError> {
        if self.resumes == 0 {
            return Err(broken);
        }
        self.resumes -= 1;
        let rest = self.position..self.end;
        tracing::debug!(key = self.key, position = self.position, "resuming a read that broke off");
        let request = self.store.client().get_object().bucket(&self.bucket).key(&self.key);
        let answer = request.set_if_match(self.e_tag.clone()).range(range_header(&rest)).send().await?;
        let arriving = u64::try_from(answer.content_length.unwrap_or(0)).unwrap_or(0);
        if arriving != rest.end - rest.start {
            return Err(ObjectError::WrongLength { expected: rest.end - rest.start, actual: arriving });
        }
        self.body = answer.body;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the object store ended an object too early")]
struct BrokenOff;

/// Passes on the bytes of a whole blob and compares them with what they should be. The last piece is held
/// back until the digest is known, so nobody takes damaged bytes for a complete file.
pub fn verified<S>(
    bytes: S,
    sha256: Sha256,
    size: u64,
) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send + Unpin + use<S>
where
    S: Stream<Item = Result<Bytes, ObjectError>> + Send + Unpin,
{
    let checking = Checking { bytes, check: Check::new(sha256, size), held: None };
    Box::pin(stream::try_unfold(checking, |mut checking| async move {
        Ok(checking.next().await?.map(|bytes| (bytes, checking)))
    }))
}

struct Checking<S> {
    bytes: S,
    check: Check,
    held: Option<Bytes>,
}

impl<S: Stream<Item = Result<Bytes, ObjectError>> + Unpin> Checking<S> {
    async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        while let Some(bytes) = self.bytes.next().await {
            let bytes = bytes?;
            self.check.update(&bytes)?;
            if let Some(before) = self.held.replace(bytes) {
                return Ok(Some(before));
            }
        }
        self.check.finish()?;
        Ok(self.held.take())
    }
}

/// Compares a stream with the digest and length that it should have.
pub(super) struct Check {
    hasher: sha2::Sha256,
    sha256: Sha256,
    seen: u64,
    size: u64,
}

impl Check {
    pub(super) fn new(sha256: Sha256, size: u64) -> Self {
        Self { hasher: sha2::Sha256::new(), sha256, seen: 0, size }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) -> Result<(), ObjectError> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(ObjectError::WrongLength { expected: self.size, actual: self.seen });
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Once more gives the same answer, as the end of a stream may be asked for twice.
    pub(super) fn finish(&self) -> Result<(), ObjectError> {
        if self.seen != self.size {
            return Err(ObjectError::WrongLength { expected: self.size, actual: self.seen });
        }
        let actual = Sha256::from_bytes(self.hasher.clone().finalize().into());
        if actual == self.sha256 {
            Ok(())
        } else {
            Err(ObjectError::Corrupt { expected: self.sha256, actual })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    async fn check(pieces: &[&'static str], of: &[u8]) -> (Vec<u8>, Option<ObjectError>) {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let mut bytes = verified(stream::iter(pieces), Sha256::of(of), of.len() as u64);
        let mut seen = Vec::new();
        while let Some(piece) = bytes.next().await {
            match piece {
                Ok(piece) => seen.extend_from_slice(&piece),
                Err(error) => return (seen, Some(error)),
            }
        }
        (seen, None)
    }

    #[tokio::test]
    async fn damaged_bytes_are_never_delivered_to_the_end() {
        assert!(matches!(check(&["ab", "cd", "ef"], b"abcdef").await, (all, None) if all == b"abcdef"));
        assert!(
            matches!(check(&["ab", "cd", "eX"], b"abcdef").await, (some, Some(ObjectError::Corrupt { .. })) if some == b"abcd")
        );
        assert!(matches!(
            check(&["ab", "cd"], b"abcdef").await,
            (_, Some(ObjectError::WrongLength { actual: 4, .. }))
        ));
        assert!(matches!(
            check(&["ab", "cdefg"], b"abcdef").await,
            (_, Some(ObjectError::WrongLength { .. }))
        ));
        assert!(matches!(check(&[], b"").await, (all, None) if all.is_empty()));
    }

    #[test]
    fn file_names_cannot_break_out_of_their_header() {
        assert_eq!(content_disposition("a-1.0.whl"), "attachment; filename=\"a-1.0.whl\"");
        assert_eq!(
            content_disposition("a\"\r\nX: ü"),
            "attachment; filename=\"a___X: _\"; filename*=UTF-8''a%22%0D%0AX%3A%20%C3%BC"
        );
    }
}
