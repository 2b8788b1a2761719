//! Dates and times of day, in UTC, of a time in ms since 1970.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// The date and time so many ms after the start of 1970. What is beyond the year 9999 is its end.
pub(crate) fn at(unix_ms: u64) -> DateTime {
    let moment = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Offset::UTC.to_datetime(moment.unwrap_or(Timestamp::MAX))
}

/// As a name: `20261122-210533`.
pub(crate) fn stamp(unix_ms: u64) -> String {
    at(unix_ms).strftime("%Y%m%d-%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_date_and_time_in_utc() {
        for (unix_ms, expected) in [
            (0, "19700101-000000"),
            (951_782_400_999, "20000229-000000"),
            (1_795_381_533_000, "20261122-210533"),
            (4_107_542_399_999, "21000228-235959"),
            (u64::MAX, "99991230-220000"),
        ] {
            assert_eq!(stamp(unix_ms), expected, "{unix_ms}");
        }
    }
}
