//! Byte ranges: what a `Range` header asks for, and `multipart/byteranges` (RFC 9110 section 14).

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;
use http::header::InvalidHeaderValue;

/// How many ranges a request may list. One that lists more gets the whole file.
pub const MAX_RANGES: usize = 32;

/// What of a file is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// All of it: nothing was asked for that we understand, or too much.
    Full,
    /// One piece.
    Single(Range<u64>),
    /// Several pieces, none of which overlaps or touches another.
    Multi(Vec<Range<u64>>),
    /// Only pieces that are not there: `416 Range Not Satisfiable`.
    Unsatisfiable,
}

impl Ranges {
    /// Reads a `Range` header for a file of `size` bytes.
    pub fn parse(header: Option<&HeaderValue>, size: u64) -> Self {
        let Some(list) = header.and_then(|header| header.to_str().ok()).and_then(strip_unit) else {
            return Self::Full;
        };
        let mut ranges = Vec::new();
        let mut count = 0;
        for spec in list.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
            count += 1;
            match parse_spec(spec, size) {
                Some(range) if count <= MAX_RANGES => ranges.extend((!range.is_empty()).then_some(range)),
                // A header that is wrong in one place is ignored as a whole.
                _ => return Self::Full,
            }
        }
        if count == 0 {
            return Self::Full;
        }
        let mut ranges = joined(ranges);
        match ranges.len() {
            0 => Self::Unsatisfiable,
            1 => ranges.pop().map_or(Self::Unsatisfiable, Self::Single),
            _ => Self::Multi(ranges),
        }
    }
}

/// The list behind `bytes=`, the only unit there is.
fn strip_unit(header: &str) -> Option<&str> {
    let (unit, list) = header.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(list)
}

/// Reads `1-5`, `1-` or `-5`: the part of it that is there, which may be empty. `None` when it is malformed.
fn parse_spec(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number that no u64 holds lies behind the end of every file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first, last) {
        ("", suffix) => Some(size.saturating_sub(number(suffix)?)..size),
        (first, "") => Some(number(first)?.min(size)..size),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| first.min(size)..last.saturating_add(1).min(size))
        }
    }
}

/// Joins ranges that overlap or touch. The order asked for is kept where nothing had to be joined.
fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted = ranges.clone();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut result: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match result.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => result.push(range),
        }
    }
    if result.len() == ranges.len() { ranges } else { result }
}

/// The value of `Content-Range` for a piece of a file.
pub fn content_range(range: &Range<u64>, size: u64) -> HeaderValue {
    ascii(format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1)))
}

/// The value of `Content-Range` that goes with `416`.
pub fn unsatisfied_range(size: u64) -> HeaderValue {
    ascii(format!("bytes */{size}"))
}

/// A header value of text that we wrote ourselves, from digits and plain words.
fn ascii(text: String) -> HeaderValue {
    let value: Result<_, InvalidHeaderValue> = text.try_into();
    value.unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What separates the parts of a multipart body. It has to be one that no file can hold on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// Of 128 random bits.
    pub fn new(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }

    /// The `Content-Type` of the whole body.
    pub fn content_type(&self) -> HeaderValue {
        ascii(format!("multipart/byteranges; boundary={}", self.0))
    }
}

/// A `multipart/byteranges` body, laid out before any of it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipartLayout {
    /// Each piece with what stands in front of it.
    pub parts: Vec<(Bytes, Range<u64>)>,
    /// What stands at the end.
    pub end: Bytes,
    /// The length of it all, in bytes.
    pub length: u64,
}

impl MultipartLayout {
    /// Lays out these pieces of a file of `size` bytes and of this type.
    pub fn new(ranges: Vec<Range<u64>>, size: u64, content_type: &HeaderValue, boundary: &Boundary) -> Self {
        let boundary = &boundary.0;
        let mut length = 0;
        let parts = ranges
            .into_iter()
            .enumerate()
            .map(|(index, range)| {
                let mut head = Vec::with_capacity(160);
                head.extend_from_slice(if index == 0 { b"--" } else { b"\r\n--" });
                head.extend_from_slice(boundary.as_bytes());
                head.extend_from_slice(b"\r\nContent-Type: ");
                head.extend_from_slice(content_type.as_bytes());
                head.extend_from_slice(b"\r\nContent-Range: ");
                head.extend_from_slice(content_range(&range, size).as_bytes());
                head.extend_from_slice(b"\r\n\r\n");
                length += head.len() as u64 + (range.end - range.start);
                (Bytes::from(head), range)
            })
            .collect();
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        Self { parts, length: length + end.len() as u64, end }
    }
}
