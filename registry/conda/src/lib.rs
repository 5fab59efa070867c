//! conda channels: uploads, packages, repodata whole and in shards.
//!
//! [`format`] is pure: names, packages, records, what an index says. [`Conda`] holds what the handlers share.

mod api;
mod author;
mod bzip2_files;
mod channeldata;
mod current;
mod documents;
pub mod format;
mod import;
mod index;
mod intake;
mod jobs;
mod listing;
mod locked_name;
mod patches;
mod plugins;
mod publish;
mod remove;
mod retention;
mod routes;
mod shard_index;
mod sql;
mod state;
mod token_path;
mod upstream;

use std::sync::Arc;

use granary_core::Format;
use granary_http::Protocol;
use granary_store::{ChannelCount, Migrations};

pub use import::{Arriving, ImportError, Imported};
pub use jobs::PERIODIC_JOBS;
pub use plugins::content_trust::{SealingError, SealingKeys};
pub use state::{ApiOptions, Conda, TEST_USERS};
pub use token_path::token_in_path;

/// The migrations of packages and shards.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "conda",
    files: &[
        ("V1__packages", include_str!("../migrations/V1__packages.sql")),
        ("V2__documents", include_str!("../migrations/V2__documents.sql")),
        ("V3__api", include_str!("../migrations/V3__api.sql")),
        ("V4__elsewhere", include_str!("../migrations/V4__elsewhere.sql")),
        ("V5__plugins", include_str!("../migrations/V5__plugins.sql")),
        ("V6__yanking", include_str!("../migrations/V6__yanking.sql")),
    ],
};

/// How the packages and files of a channel are counted.
pub const COUNT: ChannelCount = ChannelCount { format: Format::Conda, query: sql::COUNT };

impl Conda {
    /// The routes, to be mounted under `/conda`.
    pub fn protocol(self: &Arc<Self>) -> Protocol {
        routes::routes(self)
    }
}
