//! Files: immutable bytes with a name, served with `HEAD`, ranges and conditions.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::body::BoxError;
use crate::conditional::{self, Outcome, Validators};
use crate::range::{self, Boundary, MultipartLayout, Ranges};
use crate::{Body, EntityTag, Refusal, respond};

/// What there is to say about a file before its bytes are touched.
#[derive(Debug, Clone)]
pub struct FileResponse {
    /// In bytes.
    pub size: u64,
    /// Its validator; a digest makes the best one.
    pub etag: Option<EntityTag>,
    /// When it was published.
    pub last_modified: Option<SystemTime>,
    /// Its type.
    pub content_type: HeaderValue,
    /// The name under which a browser saves it.
    pub file_name: Option<String>,
    /// How long it may be kept, and by whom.
    pub cache_control: HeaderValue,
    /// Anything else to be sent with it.
    pub headers: HeaderMap,
}

impl FileResponse {
    /// Answers a `GET` or `HEAD`. `open` opens a piece of the file and is called for what is sent alone: never
    /// for `HEAD`, `304`, `412` and `416`. The first piece is open before this returns, so that a failure
    /// still becomes an error response; further pieces of a multipart answer are opened when they are due.
    ///
    /// # Errors
    /// Only those of `open`.
    pub async fn respond<O, F, E>(
        &self,
        method: &Method,
        request: &HeaderMap,
        open: O,
    ) -> Result<Response<Body>, E>
    where
        O: Fn(Range<u64>) -> F + Send + 'static,
        F: Future<Output = Result<Body, E>> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let current = Validators { etag: self.etag.as_ref(), last_modified: self.last_modified };
        match conditional::evaluate(method, request, current) {
            Outcome::NotModified => return Ok(self.without_content(StatusCode::NOT_MODIFIED)),
            Outcome::PreconditionFailed => return Ok(respond::empty(StatusCode::PRECONDITION_FAILED)),
            Outcome::Proceed => {}
        }
        // A range has a meaning for GET alone.
        let ranges = if method == Method::GET && conditional::range_applies(request, current) {
            Ranges::parse(request.get(RANGE), self.size)
        } else {
            Ranges::Full
        };
        match ranges {
            Ranges::Unsatisfiable => {
                let mut response = respond::text(StatusCode::RANGE_NOT_SATISFIABLE, "the file is shorter");
                response.headers_mut().insert(CONTENT_RANGE, range::unsatisfied_range(self.size));
                Ok(response)
            }
            Ranges::Full if method == Method::HEAD || self.size == 0 => {
                let mut response = self.with_content(StatusCode::OK, Body::empty());
                response.headers_mut().insert(CONTENT_LENGTH, self.size.into());
                Ok(response)
            }
            Ranges::Full => Ok(self.with_content(StatusCode::OK, open(0..self.size).await?)),
            Ranges::Single(range) => {
                let body = open(range.clone()).await?;
                let mut response = self.with_content(StatusCode::PARTIAL_CONTENT, body);
                response.headers_mut().insert(CONTENT_RANGE, range::content_range(&range, self.size));
                Ok(response)
            }
            Ranges::Multi(ranges) => {
                let boundary = Boundary::new(rand::random());
                let layout = MultipartLayout::new(ranges, self.size, &self.content_type, &boundary);
                let body = multipart_body(layout, open).await?;
                let mut response = self.with_content(StatusCode::PARTIAL_CONTENT, body);
                response.headers_mut().insert(CONTENT_TYPE, boundary.content_type());
                Ok(response)
            }
        }
    }

    /// As [`FileResponse::respond`], with bytes that are at hand; `size` is theirs.
    ///
    /// # Errors
    /// None: the type is that of handlers.
    pub async fn respond_bytes(
        &self,
        method: &Method,
        request: &HeaderMap,
        bytes: Bytes,
    ) -> Result<Response<Body>, Refusal> {
        let slice = move |range: Range<u64>| {
            let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.slice(at(range.start)..at(range.end));
            async move { Ok(Body::bytes(part)) }
        };
        self.respond(method, request, slice).await
    }

    /// The headers that `304` has in common with `200`.
    fn without_content(&self, status: StatusCode) -> Response<Body> {
        let mut response = respond::empty(status);
        let headers = response.headers_mut();
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers.insert(CACHE_CONTROL, self.cache_control.clone());
        if let Some(etag) = &self.etag {
            headers.insert(ETAG, etag.header_value());
        }
        if let Some(modified) = self.last_modified {
            headers.insert(LAST_MODIFIED, respond::value(&httpdate::fmt_http_date(modified)));
        }
        response
    }

    fn with_content(&self, status: StatusCode, body: Body) -> Response<Body> {
        let mut response = self.without_content(status);
        *response.body_mut() = body;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, respond::NOSNIFF);
        if let Some(name) = &self.file_name {
            headers.insert(CONTENT_DISPOSITION, respond::attachment(name));
        }
        response
    }
}

/// The pieces one after the other, each behind its head.
async fn multipart_body<O, F, E>(layout: MultipartLayout, open: O) -> Result<Body, E>
where
    O: Fn(Range<u64>) -> F + Send + 'static,
    F: Future<Output = Result<Body, E>> + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    let MultipartLayout { parts, end, length } = layout;
    let mut parts = parts.into_iter();
    let mut pieces: Vec<Piece> = Vec::with_capacity(2);
    if let Some((head, range)) = parts.next() {
        pieces.push(Box::pin(after(head, open(range).await?)));
    }
    let others = stream::iter(parts).then(move |(head, range)| {
        let opening = open(range);
        async move { opening.await.map(|body| after(head, body)).map_err(Into::into) }
    });
    pieces.push(Box::pin(others.try_flatten()));
    let end = stream::iter([Ok::<_, BoxError>(end)]);
    Ok(Body::stream(stream::iter(pieces).flatten().chain(end), length))
}

type Piece = crate::body::ByteStream;

fn after(head: Bytes, body: Body) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
    stream::iter([Ok(head)]).chain(body)
}
