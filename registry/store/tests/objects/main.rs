//! The object side against a real S3 server in this process, and against one that records what it is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cache;
mod provision;
mod read;
mod recording;
mod support;
mod upload;
