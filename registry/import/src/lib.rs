//! What other registries know of users and permissions, said as Granary says it.
//!
//! Each module reads what one old server left behind: [`conan`] a `server.conf`, [`devpi`] an export, [`quetz`] a
//! database, [`htpasswd`] a password file. All of them give an [`Import`]: the `Channel` objects, the password lines, and
//! a [`Report`] of what could not be carried over.
//!
//! An import can be proved: the module evaluates the old server's rules in a transcription of its own, [`prove`] asks
//! [`granary_core::decide`] the same questions about the grants of the channels as they validate, and the answers are
//! compared. The tests hold the transcriptions beside the old servers themselves.
//!
//! Files are read by the caller; the one exception is [`quetz::read_sqlite`], since SQLite reads its own.

pub mod conan;
pub mod devpi;
pub mod htpasswd;
mod output;
mod proof;
pub mod quetz;
mod report;

pub use output::{
    AccountLine, Import, OutputError, authenticator_yaml, channel_yaml, object_name, users_file,
};
pub use proof::{Asker, Proof, Question, prove};
pub use report::{Report, Severity};
