//! What provisioning rests on, against a real Postgres and a real S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod channels;
mod jobs;
mod pooler;
mod removal;
mod schema;
mod stats;
mod support;
