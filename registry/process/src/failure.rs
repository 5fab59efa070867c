//! What ends a command: what went wrong, and where it helps, what to do.

use std::error::Error;
use std::fmt;

/// A failure that is shown to whoever ran the command.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// What went wrong, in words.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// What could not be done, with the whole chain of causes.
    pub fn because(what: &str, cause: &(dyn Error + 'static)) -> Self {
        Self(format!("{what}: {}", granary_core::report(cause)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds what was being done to an error.
pub trait Context<T> {
    /// Turns the error into a [`Failure`] that says what could not be done.
    fn context(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: Error + 'static> Context<T> for Result<T, E> {
    fn context(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::because(what, &error))
    }
}
