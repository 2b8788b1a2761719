//! When something is full, if it goes on growing as it did.

use super::series::{DAY_MS, Series};

/// What is older says nothing of the future.
const LOOK_BACK_MS: u64 = 30 * DAY_MS;
/// Less history is too little.
const SPAN_MS_MIN: u64 = DAY_MS;
const SAMPLES_MIN: usize = 6;
const QUARTER_MS: u64 = DAY_MS / 4;
const WEEK_MS: u64 = 7 * DAY_MS;
/// What was watched for so long is looked at by the week.
const WEEKS_MS_MIN: u64 = 3 * WEEK_MS;
/// What takes longer is no growth worth the name.
const DAYS_MAX: u64 = 10 * 365;

/// What is expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Forecast {
    /// It was not watched for a day yet.
    #[default]
    TooLittleHistory,
    /// It does not grow, or so slowly that it takes more than 10 years.
    NotGrowing,
    /// It grows.
    Full {
        /// By so many bytes a day.
        bytes_a_day: u64,
        /// And is full at this time, in ms since 1970.
        at_unix_ms: u64,
    },
}

/// What is expected of what took the space of `series`, and may take `capacity_bytes`.
///
/// The slope is the median of what was gained from each quarter of a day to the same one of the next day: neither the
/// hours of a day nor a day on which much is copied or deleted change it.
pub(super) fn forecast(series: &Series, capacity_bytes: u64) -> Forecast {
    let samples = series.newest(LOOK_BACK_MS);
    let [(first, _), .., (end, taken)] = samples else { return Forecast::TooLittleHistory };
    if samples.len() < SAMPLES_MIN || end - first < SPAN_MS_MIN {
        return Forecast::TooLittleHistory;
    }
    let Some(bytes_a_day) = slope(samples) else { return Forecast::NotGrowing };
    let left = u128::from(capacity_bytes.saturating_sub(*taken));
    let ms = left * u128::from(DAY_MS) / u128::from(bytes_a_day);
    match u64::try_from(ms) {
        Ok(ms) if ms <= DAYS_MAX * DAY_MS => {
            Forecast::Full { bytes_a_day, at_unix_ms: end.saturating_add(ms) }
        }
        _ => Forecast::NotGrowing,
    }
}

/// The median growth in bytes a day; none if there is none. Of what was watched for weeks, growth over each week counts:
/// what comes once a week is growth, too.
fn slope(samples: &[(u64, u64)]) -> Option<u64> {
    let even = evenly(samples);
    let span = even.last()?.0.saturating_sub(even.first()?.0);
    let distance = if span >= WEEKS_MS_MIN { WEEK_MS } else { DAY_MS };
    let mut slopes: Vec<i128> = Vec::new();
    for (number, (early, before)) in even.iter().enumerate() {
        let next = even.get(number..)?.iter().find(|(late, _)| late - early >= distance);
        let Some((late, after)) = next else { break };
        let (grown, ms) = (i128::from(*after) - i128::from(*before), i128::from(late - early));
        slopes.push(grown * i128::from(DAY_MS) / ms);
    }
    let middle = slopes.len().checked_sub(1)? / 2;
    let (_, median, _) = slopes.select_nth_unstable(middle);
    u64::try_from(*median).ok().filter(|slope| *slope > 0)
}

/// The first sample of each quarter of a day, and the last of all: or what is new, and has more samples, would outweigh
/// the rest.
fn evenly(samples: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut even: Vec<(u64, u64)> = Vec::new();
    for (at, taken) in samples {
        if even.last().is_none_or(|(last, _)| last / QUARTER_MS != at / QUARTER_MS) {
            even.push((*at, *taken));
        }
    }
    even.extend(samples.last().filter(|last| even.last() != Some(last)));
    even
}

#[cfg(test)]
mod tests {
    use super::super::series::HOUR_MS;
    use super::*;

    const START: u64 = 1_790_000_000_000;
    const GIB: u64 = 1 << 30;

    /// Samples each hour for so many days.
    fn series(days: u64, taken: impl Fn(u64) -> u64) -> Series {
        let mut series = Series::default();
        (0..=days * 24).for_each(|hour| series.add(START + hour * HOUR_MS, taken(hour)));
        series
    }

    fn days_left(series: &Series, capacity: u64) -> Option<u64> {
        let end = series.0.last()?.0;
        match forecast(series, capacity) {
            Forecast::Full { at_unix_ms, .. } => Some((at_unix_ms - end) / DAY_MS),
            _ => None,
        }
    }

    #[test]
    fn steady_growth_is_continued() {
        let steady = series(10, |hour| 10 * GIB + hour * GIB / 24);
        assert_eq!(days_left(&steady, 32 * GIB), Some(12));
        let Forecast::Full { bytes_a_day, .. } = forecast(&steady, 32 * GIB) else { panic!("it grows") };
        assert!(bytes_a_day.abs_diff(GIB) < GIB / 1000, "{bytes_a_day}");
        assert_eq!(days_left(&steady, 5 * GIB), Some(0), "it is full already");
    }

    #[test]
    fn what_was_once_copied_or_deleted_does_not_count() {
        let jump = series(10, |hour| hour * GIB / 24 + if hour > 200 { 500 * GIB } else { 0 });
        let left = days_left(&jump, 522 * GIB).unwrap();
        assert!((10..=14).contains(&left), "{left} days");
        let saw = series(20, |hour| 10 * GIB + hour * GIB / 24 + hour % 24 * GIB);
        let left = days_left(&saw, 100 * GIB).unwrap();
        assert!((60..=75).contains(&left), "{left} days");
    }

    #[test]
    fn what_comes_once_a_week_is_growth() {
        let weekly = series(29, |hour| 10 * GIB + hour / (7 * 24) * 7 * GIB);
        let left = days_left(&weekly, 100 * GIB).unwrap();
        assert!((55..=70).contains(&left), "{left} days");
    }

    #[test]
    fn only_what_grows_in_time_worth_telling_is_told() {
        let still = series(10, |_| 10 * GIB);
        assert_eq!(forecast(&still, 20 * GIB), Forecast::NotGrowing);
        let shrinks = series(10, |hour| 500 * GIB - hour * GIB);
        assert_eq!(forecast(&shrinks, 20 * GIB), Forecast::NotGrowing);
        let slow = series(10, |hour| GIB + hour);
        assert_eq!(forecast(&slow, 1000 * GIB), Forecast::NotGrowing);
        let short = series(0, |_| 7);
        assert_eq!(forecast(&short, GIB), Forecast::TooLittleHistory);
        let mut few = Series::default();
        (0..4).for_each(|day| few.add(START + day * DAY_MS, day * GIB));
        assert_eq!(forecast(&few, 10 * GIB), Forecast::TooLittleHistory);
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let changed = series(90, |hour| if hour < 50 * 24 { hour * GIB } else { 1200 * GIB });
        assert_eq!(forecast(&changed, 2000 * GIB), Forecast::NotGrowing);
    }
}
