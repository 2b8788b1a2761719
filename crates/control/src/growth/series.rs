//! Samples of one number over time, thinned with age: the newest by the hour, older ones by the quarter of a day, and
//! by the day.

use serde::{Deserialize, Serialize};

pub(super) const HOUR_MS: u64 = 3_600_000;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;
/// Up to this age all samples are kept, then one each 6 hours, then one a day; then none.
const ALL_MS: u64 = 2 * DAY_MS;
const QUARTERS_MS: u64 = 14 * DAY_MS;
const KEPT_MS: u64 = 400 * DAY_MS;
/// No more samples than the steps above can leave, also if the clock is set back and forth.
const SAMPLES_MAX: usize = 600;

/// What was taken, in bytes, and when, in ms since 1970: oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Series(pub(super) Vec<(u64, u64)>);

impl Series {
    /// It is time for another sample.
    pub(super) fn is_due(&self, now_unix_ms: u64) -> bool {
        // A clock that was set back is not waited for.
        self.0.last().is_none_or(|(last, _)| now_unix_ms < *last || now_unix_ms - last >= HOUR_MS)
    }

    /// Adds a sample, and drops those that are not needed any more.
    pub(super) fn add(&mut self, now_unix_ms: u64, bytes: u64) {
        self.0.retain(|(at, _)| *at < now_unix_ms);
        self.0.push((now_unix_ms, bytes));
        let mut last_step = None;
        self.0.retain(|(at, _)| {
            let age = now_unix_ms - at;
            let step = match age {
                _ if age <= ALL_MS => return true,
                _ if age <= QUARTERS_MS => DAY_MS / 4,
                _ if age <= KEPT_MS => DAY_MS,
                _ => return false,
            };
            let step = Some((step, at / step));
            step != std::mem::replace(&mut last_step, step)
        });
        let surplus = self.0.len().saturating_sub(SAMPLES_MAX);
        self.0.drain(..surplus);
    }

    /// Samples that are not older than `age_ms` when the last was taken.
    pub(super) fn newest(&self, age_ms: u64) -> &[(u64, u64)] {
        let end = self.0.last().map_or(0, |(at, _)| *at);
        let first = self.0.partition_point(|(at, _)| end - at > age_ms);
        self.0.get(first..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_790_000_000_000;

    #[test]
    fn years_of_hours_take_bounded_room_and_new_ones_are_all_there() {
        let mut series = Series::default();
        for hour in 0..3 * 365 * 24 {
            assert!(series.is_due(START + hour * HOUR_MS));
            series.add(START + hour * HOUR_MS, hour);
        }
        assert!((450..=520).contains(&series.0.len()), "{} samples", series.0.len());
        assert!(series.0.is_sorted());
        let new: Vec<_> = series.newest(ALL_MS).iter().map(|(_, hour)| *hour).collect();
        let end = 3 * 365 * 24 - 1;
        assert_eq!(new, (end - 48..=end).collect::<Vec<_>>());
        let (first, _) = series.0[0];
        let age = START + end * HOUR_MS - first;
        assert!((399 * DAY_MS..=KEPT_MS).contains(&age), "{} days", age / DAY_MS);
    }

    #[test]
    fn a_clock_that_is_set_back_is_not_waited_for() {
        let mut series = Series::default();
        series.add(START + 100 * DAY_MS, 1);
        assert!(!series.is_due(START + 100 * DAY_MS + HOUR_MS / 2) && series.is_due(START));
        series.add(START, 2);
        assert_eq!(series.0, [(START, 2)]);
    }
}
