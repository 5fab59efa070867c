//! What every protocol needs to fetch from other registries: a client that only goes where it may, and what it fetched, kept in
//! the channel's bucket.
//!
//! [`Client`] asks. [`Upstream`] asks only when it has to: what never changes is kept for good, what changes is asked for again
//! under the condition that it did ([`Keep`]). All who want the same at one moment wait for one answer. What cannot be had is
//! remembered for some seconds.

mod address;
mod client;
mod error;
mod fetch;
mod inspect;
mod sql;

use std::sync::Arc;

use granary_store::Migrations;

pub use address::is_public;
pub use client::{BoundedBody, Client};
pub use error::{Fault, UpstreamError};
pub use fetch::{Keep, Kept, Upstream, Wanted};
pub use inspect::{Inspector, Pieces};

pub use reqwest::Url;

/// The migrations of what was fetched.
pub const MIGRATIONS: Migrations =
    Migrations { owner: "upstream", files: &[("V1__files", include_str!("../migrations/V1__files.sql"))] };

/// What several waiting requests get: none where the other registry has no such thing.
pub type Outcome = Result<Option<Kept>, Arc<UpstreamError>>;
