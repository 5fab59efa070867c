//! What there is to say of an import.

use std::fmt;

/// How much a line of a [`Report`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody had something in the old server that they do not have now.
    NotCarried,
    /// A setting whose place is another one now.
    Elsewhere,
    /// Something to know or to do.
    Note,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotCarried => "not carried over",
            Self::Elsewhere => "set elsewhere now",
            Self::Note => "note",
        }
    }
}

/// What an import could not carry over, what is set elsewhere now, and what else there is to know. Holds no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    lines: Vec<(Severity, String)>,
}

impl Report {
    /// Adds a line, unless it is there already.
    pub fn add(&mut self, severity: Severity, line: impl Into<String>) {
        let line = (severity, line.into());
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    /// Adds that somebody lost something.
    pub fn not_carried(&mut self, line: impl Into<String>) {
        self.add(Severity::NotCarried, line);
    }

    /// Adds that something is set elsewhere.
    pub fn elsewhere(&mut self, line: impl Into<String>) {
        self.add(Severity::Elsewhere, line);
    }

    /// Adds something to know.
    pub fn note(&mut self, line: impl Into<String>) {
        self.add(Severity::Note, line);
    }

    /// The lines in the order in which they were found.
    pub fn lines(&self) -> impl Iterator<Item = (Severity, &str)> {
        self.lines.iter().map(|(severity, line)| (*severity, line.as_str()))
    }

    /// Whether nobody lost anything.
    pub fn is_complete(&self) -> bool {
        self.lines.iter().all(|(severity, _)| *severity != Severity::NotCarried)
    }
}

impl fmt::Display for Report {
    /// A line each, what was lost first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_by_key(|(severity, _)| *severity);
        lines.iter().try_for_each(|(severity, line)| writeln!(f, "{}: {line}", severity.as_str()))
    }
}
