//! `PyPI` channels: uploads, the simple index, files, JSON pages.
//!
//! [`format`] is pure: names, versions, archives, what a page says. [`PyPi`] holds what the handlers share.

pub mod format;
mod index;
mod routes;
mod sql;
mod state;

use std::sync::Arc;

use granary_core::Format;
use granary_http::Protocol;
use granary_store::{ChannelCount, Migrations};

pub use state::PyPi;

/// The migrations of projects, releases and files.
pub const MIGRATIONS: Migrations =
    Migrations { owner: "pypi", files: &[("V1__projects", include_str!("../migrations/V1__projects.sql"))] };

/// How the projects and files of a channel are counted.
pub const COUNT: ChannelCount = ChannelCount { format: Format::PyPi, query: sql::COUNT };

impl PyPi {
    /// The routes, to be mounted under `/pypi`.
    pub fn protocol(self: &Arc<Self>) -> Protocol {
        routes::routes(self)
    }
}
