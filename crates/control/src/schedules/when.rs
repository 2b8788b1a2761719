//! When a schedule is due. All times are in UTC, and in step with the calendar: every hour is at the full hour.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

const MINUTE_MS: u64 = 60_000;
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;
pub(super) const WEEK_MS: u64 = 7 * DAY_MS;
/// 1 January 1970 was a Thursday: Mondays are so long after multiples of a week.
pub(super) const MONDAY_MS: u64 = 4 * DAY_MS;
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Shortest interval: each snapshot stops writes for a moment.
const INTERVAL_MINUTES_MIN: u64 = 1;

/// How often a schedule is due: `15m`, `1h`, `daily@02:30`, `weekly@sun@02:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Every {
    /// Every so many minutes, of which a day has a whole number.
    Minutes(u64),
    /// Every day, so many minutes after midnight.
    Day(u64),
    /// Every week on a day, 0 for Monday, so many minutes after midnight.
    Week(u64, u64),
}

impl Every {
    /// Reads `15m`, `1h`, `daily`, `daily@02:30`, `weekly`, `weekly@sun`, `weekly@sun@02:30`.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split('@');
        let kind = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        let found = match (kind, &rest[..]) {
            ("hourly", []) => Some(Self::Minutes(60)),
            ("daily", []) => Some(Self::Day(0)),
            ("daily", [time]) => minutes(time).map(Self::Day),
            ("weekly", []) => Some(Self::Week(0, 0)),
            ("weekly", [day]) => weekday(day).map(|day| Self::Week(day, 0)),
            ("weekly", [day, time]) => {
                weekday(day).zip(minutes(time)).map(|(day, time)| Self::Week(day, time))
            }
            (interval, []) => interval_minutes(interval).map(Self::Minutes),
            _ => None,
        };
        found.ok_or_else(|| {
            let message = "write 15m, 1h (of which a day has a whole number), daily, daily@02:30, or weekly@sun@02:30; \
                           times are in UTC";
            Error::invalid(format!("interval {text:?}"), message)
        })
    }

    /// From when on, and how often, in ms.
    fn period(self) -> (u64, u64) {
        match self {
            Self::Minutes(minutes) => (0, minutes * MINUTE_MS),
            Self::Day(at) => (at * MINUTE_MS, DAY_MS),
            Self::Week(day, at) => ((MONDAY_MS + day * DAY_MS + at * MINUTE_MS) % WEEK_MS, WEEK_MS),
        }
    }

    /// The first time after `unix_ms` at which it is due.
    #[must_use]
    pub fn next_after(self, unix_ms: u64) -> u64 {
        let (offset, period) = self.period();
        match unix_ms.checked_sub(offset) {
            Some(since) => offset + (since / period + 1) * period,
            None => offset,
        }
    }
}

fn interval_minutes(text: &str) -> Option<u64> {
    let (number, factor) = match (text.strip_suffix('m'), text.strip_suffix('h')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 60),
        _ => return None,
    };
    let minutes = number.parse::<u64>().ok()?.checked_mul(factor)?;
    let fits = minutes >= INTERVAL_MINUTES_MIN && (24 * 60_u64).is_multiple_of(minutes);
    fits.then_some(minutes)
}

/// Minutes after midnight of `HH:MM`.
fn minutes(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (hour.parse::<u64>().ok()?, minute.parse::<u64>().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

fn weekday(text: &str) -> Option<u64> {
    (0..).zip(WEEKDAYS).find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(day, _)| day)
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |at: u64| format!("{:02}:{:02}", at / 60, at % 60);
        match *self {
            Self::Minutes(minutes) if minutes % 60 == 0 => write!(f, "{}h", minutes / 60),
            Self::Minutes(minutes) => write!(f, "{minutes}m"),
            Self::Day(at) => write!(f, "daily@{}", clock(at)),
            Self::Week(day, at) => {
                let named = (0..).zip(WEEKDAYS).find(|(number, _)| *number == day);
                write!(f, "weekly@{}@{}", named.map_or("mon", |(_, name)| name), clock(at))
            }
        }
    }
}

impl TryFrom<String> for Every {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Every> for String {
    fn from(every: Every) -> Self {
        every.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utc::stamp;

    #[test]
    fn schedules_are_in_step_with_the_calendar() {
        // Sunday, 22 November 2026, 21:05:33.
        let now = 1_795_381_533_000;
        for (every, first, second) in [
            ("1m", "20261122-210600", "20261122-210700"),
            ("15m", "20261122-211500", "20261122-213000"),
            ("1h", "20261122-220000", "20261122-230000"),
            ("6h", "20261123-000000", "20261123-060000"),
            ("24h", "20261123-000000", "20261124-000000"),
            ("daily", "20261123-000000", "20261124-000000"),
            ("daily@21:05", "20261123-210500", "20261124-210500"),
            ("daily@21:06", "20261122-210600", "20261123-210600"),
            ("weekly", "20261123-000000", "20261130-000000"),
            ("weekly@sun@21:06", "20261122-210600", "20261129-210600"),
            ("weekly@sun@21:05", "20261129-210500", "20261206-210500"),
            ("weekly@thu@02:30", "20261126-023000", "20261203-023000"),
        ] {
            let parsed = Every::parse(every).unwrap();
            let next = parsed.next_after(now);
            assert_eq!(stamp(next), first, "{every}");
            assert_eq!(stamp(parsed.next_after(next)), second, "{every}");
            assert_eq!(Every::parse(&parsed.to_string()).unwrap(), parsed, "{every} as {parsed}");
        }
        assert_eq!(Every::parse("weekly@sun@02:30").unwrap().next_after(0), (3 * 24 * 60 + 150) * MINUTE_MS);
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for text in [
            "",
            "h",
            "0m",
            "7m",
            "25h",
            "1d",
            "daily@24:00",
            "daily@2",
            "weekly@x",
            "weekly@sun@",
            "1h@02:00",
        ] {
            assert!(Every::parse(text).is_err(), "{text}");
        }
    }
}
