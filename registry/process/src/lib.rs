//! What every program of Granary needs of its process: logs and traces, the signals that stop it, and failures that are
//! shown to whoever started it.

mod failure;
mod signals;
pub mod telemetry;

pub use failure::{Context, Failure};
pub use signals::stop_on_signals;
