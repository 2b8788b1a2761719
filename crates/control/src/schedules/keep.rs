//! Which snapshots of a schedule are kept.

use crate::{Error, Result, VolumeId, utc};
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most snapshots that a schedule keeps of a volume.
const KEPT_MAX: u32 = 400;

/// How many snapshots are kept: the last ones, and of so many hours, days, weeks and months that have any the newest
/// one each. A snapshot may be kept for several reasons; the newest always is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keep {
    /// The last ones.
    pub last: u32,
    /// Hours.
    pub hourly: u32,
    /// Days, in UTC.
    pub daily: u32,
    /// Weeks, from Monday on.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
}

impl Keep {
    /// Checks that it keeps something, and not too much.
    ///
    /// # Errors
    /// `Invalid`.
    pub(super) fn check(self, object: &str) -> Result<()> {
        let Self { last, hourly, daily, weekly, monthly } = self;
        let sum = [last, hourly, daily, weekly, monthly].into_iter().fold(0, u32::saturating_add);
        match sum {
            0 => Err(Error::invalid(object, "say how many snapshots to keep, for example hourly=24,daily=7")),
            1..=KEPT_MAX => Ok(()),
            _ => Err(Error::invalid(
                object,
                format!("a schedule keeps at most {KEPT_MAX} snapshots of a volume"),
            )),
        }
    }

    /// Of these snapshots, given by time and identity, those that are not kept: oldest first.
    #[must_use]
    pub fn expired(self, snapshots: &[(u64, VolumeId)]) -> Vec<VolumeId> {
        let mut newest_first = snapshots.to_vec();
        newest_first.sort_by(|one, other| other.cmp(one));
        let mut kept: BTreeSet<VolumeId> = newest_first.iter().take(1).map(|(_, id)| *id).collect();
        let last = usize::try_from(self.last).unwrap_or(usize::MAX);
        kept.extend(newest_first.iter().take(last).map(|(_, id)| *id));
        kept.extend(newest_of(&newest_first, self.hourly, |at| (at.date(), at.hour())));
        kept.extend(newest_of(&newest_first, self.daily, DateTime::date));
        kept.extend(newest_of(&newest_first, self.weekly, week));
        kept.extend(newest_of(&newest_first, self.monthly, |at| (at.year(), at.month())));
        newest_first.iter().rev().map(|(_, id)| *id).filter(|id| !kept.contains(id)).collect()
    }
}

/// The year and week of a moment; weeks begin on Mondays.
fn week(at: DateTime) -> (i16, i8) {
    let week = at.date().iso_week_date();
    (week.year(), week.week())
}

/// The newest snapshot of each of the last `count` periods that have any.
fn newest_of<P: PartialEq>(
    newest_first: &[(u64, VolumeId)],
    count: u32,
    period: impl Fn(DateTime) -> P,
) -> Vec<VolumeId> {
    let mut found: Vec<(P, VolumeId)> = Vec::new();
    for (at, id) in newest_first {
        let period = period(utc::at(*at));
        if found.last().is_none_or(|(last, _)| *last != period) {
            if found.len() >= usize::try_from(count).unwrap_or(usize::MAX) {
                break;
            }
            found.push((period, *id));
        }
    }
    found.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::super::when::{DAY_MS, HOUR_MS};
    use super::*;

    fn id(number: u64) -> VolumeId {
        VolumeId::from_bytes(u128::from(number).to_be_bytes())
    }

    /// Snapshots every hour for `hours` hours from Monday, 2 November 2026 on, pruned after each.
    fn after(keep: Keep, hours: u64) -> Vec<u64> {
        let start = 1_793_577_600_000;
        let mut snapshots: Vec<(u64, VolumeId)> = Vec::new();
        for hour in 0..hours {
            snapshots.push((start + hour * HOUR_MS, id(hour)));
            let expired = keep.expired(&snapshots);
            snapshots.retain(|(_, id)| !expired.contains(id));
        }
        snapshots.iter().map(|(at, _)| (at - start) / HOUR_MS).collect()
    }

    #[test]
    fn the_last_hours_are_kept_one_by_one_and_days_and_weeks_by_their_last_snapshot() {
        let keep = Keep { hourly: 3, daily: 2, weekly: 2, ..Keep::default() };
        assert_eq!(after(keep, 2), [0, 1]);
        assert_eq!(after(keep, 30), [23, 27, 28, 29], "23: the first day's last");
        assert_eq!(after(keep, 24 * 9 + 5), [167, 24 * 9 - 1, 24 * 9 + 2, 24 * 9 + 3, 24 * 9 + 4]);
        assert_eq!(after(Keep { last: 4, ..Keep::default() }, 100), [96, 97, 98, 99]);
        let months = after(Keep { monthly: 2, ..Keep::default() }, 24 * 60);
        assert_eq!(months, [29 * 24 - 1, 24 * 60 - 1], "November ends after 29 of these days");
    }

    /// After weeks without power, what there is from before is kept as if no time had passed.
    #[test]
    fn periods_without_snapshots_do_not_count() {
        let keep = Keep { daily: 2, ..Keep::default() };
        let snapshots = [(0, id(1)), (DAY_MS, id(2)), (100 * DAY_MS, id(3))];
        assert_eq!(keep.expired(&snapshots), [id(1)]);
        assert_eq!(keep.expired(&snapshots[1..]), []);
        assert_eq!(keep.expired(&[]), []);
    }

    #[test]
    fn the_newest_is_kept_whatever_is_said() {
        assert_eq!(Keep::default().expired(&[(5, id(1)), (7, id(2)), (6, id(3))]), [id(1), id(3)]);
        assert!(Keep::default().check("x").is_err());
        assert!(Keep { last: 400, ..Keep::default() }.check("x").is_ok());
        assert!(Keep { last: u32::MAX, hourly: 1, ..Keep::default() }.check("x").is_err());
    }
}
