//! What holds on all pods together, with a real Postgres and several processes over it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attempts;
mod replay;
mod support;
