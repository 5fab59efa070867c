//! Sizes and spans of time.

use std::fmt;
use std::time::Duration;

use super::{Value, ValueError};

/// The units of a size, as Kubernetes writes them: powers of two, then powers of ten.
const SIZE_UNITS: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

/// The units of a span of time in milliseconds.
const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A number of bytes: a whole number, or one with a unit (`512Mi`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// That many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    /// With the largest binary unit that divides it, so that reading it again gives the same size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            SIZE_UNITS[..4].iter().rev().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Splits a text after its leading digits, and reads those.
fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

impl Value for ByteSize {
    const KIND: &'static str = "size";
    const MAY_BE_NUMBER: bool = true;

    fn read(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = leading_number(text).ok_or(ValueError::Size)?;
        let factor = match unit {
            "" => 1,
            _ => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(ValueError::Size)?.1,
        };
        // Sizes end up in `bigint` columns.
        number
            .checked_mul(factor)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self)
            .ok_or(ValueError::Size)
    }
}

impl Value for Duration {
    const KIND: &'static str = "time";

    /// One or more numbers with units, the largest unit first: `1h30m`.
    fn read(text: &str) -> Result<Self, ValueError> {
        let mut rest = text;
        let mut total: u64 = 0;
        let mut smaller_than = u64::MAX;
        while !rest.is_empty() {
            let (number, after) = leading_number(rest).ok_or(ValueError::Duration)?;
            let end = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let (_, factor) =
                TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or(ValueError::Duration)?;
            if *factor >= smaller_than {
                return Err(ValueError::Duration);
            }
            smaller_than = *factor;
            total = number
                .checked_mul(*factor)
                .and_then(|part| total.checked_add(part))
                .ok_or(ValueError::Duration)?;
            rest = after;
        }
        // A century is more than any timer or timestamp of ours has to carry.
        if text.is_empty() || total > 36_525 * 86_400_000 {
            return Err(ValueError::Duration);
        }
        Ok(Self::from_millis(total))
    }
}
