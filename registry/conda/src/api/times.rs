//! Dates and times as clients of Quetz read and write them: ISO 8601 in UTC, and without saying so.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

/// The time as it is told: to the microsecond, with no zone.
pub(crate) fn told(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).datetime().strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string()
}

/// The day of a time.
pub(crate) fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// A time that somebody wrote: with a zone, or in UTC without one; a day is its beginning.
pub(crate) fn read(text: &str) -> Option<Timestamp> {
    let naive = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    text.parse::<Timestamp>().ok().or_else(|| naive().map(|time| time.timestamp()))
}

/// When something ends that is good on this day still.
pub(crate) fn end_of(date: Date) -> Option<Timestamp> {
    let next = date.checked_add(1.day()).ok()?;
    Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The last day on which something is good that ends at this time.
pub(crate) fn last_day(end: Timestamp) -> Date {
    day(end - SignedDuration::from_nanos(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_day_lasts_until_its_end() {
        let date = "2026-12-31".parse().unwrap();
        let end = end_of(date).unwrap();
        assert_eq!((end.to_string().as_str(), last_day(end)), ("2027-01-01T00:00:00Z", date));
        assert_eq!(last_day("2026-12-31T12:00:00Z".parse().unwrap()), date);
        assert_eq!(end_of(Date::MAX), None);
    }

    #[test]
    fn times_are_read_with_a_zone_and_without_one() {
        for text in [
            "2026-11-21T20:00:00Z",
            "2026-11-21T20:00:00",
            "2026-11-21 20:00:00",
            "2026-11-21T21:00:00+01:00",
        ] {
            assert_eq!(told(read(text).unwrap()), "2026-11-21T20:00:00.000000", "{text}");
        }
        assert_eq!(told(read("2026-11-21").unwrap()), "2026-11-21T00:00:00.000000");
        assert_eq!(read("yesterday"), None);
    }
}
