//! What one session counts, and how the counts of many become a report.

use core::time::Duration;
use std::collections::HashMap;

use hdrhistogram::Histogram;

use super::report::{Direction, ErrorCount, LatencyReport};
use super::source::Way;

/// Longest latency told apart, in nanoseconds: ten minutes. Longer ones count as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Shortest latency told apart, in nanoseconds.
const LATENCY_NS_MIN: u64 = 1;
/// Digits to which latencies are exact.
const LATENCY_DIGITS: u8 = 3;
/// Kinds of errors told apart; what comes after is counted together.
const KINDS_MAX: usize = 32;

/// Commands of one direction.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) bytes: u64,
    latency: Histogram<u64>,
}

impl Lane {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, LATENCY_DIGITS)
            .expect("the bounds are constants, and tested");
        Self { bytes: 0, latency }
    }

    fn report(&self, seconds: f64) -> Direction {
        let commands = self.latency.len();
        let rate = |count: u64| if seconds > 0.0 { float(count) / seconds } else { 0.0 };
        Direction {
            commands,
            bytes: self.bytes,
            iops: rate(commands),
            bytes_per_second: rate(self.bytes),
            latency: self.latency(),
        }
    }

    fn latency(&self) -> LatencyReport {
        if self.latency.is_empty() {
            return LatencyReport::default();
        }
        let at = |quantile| float(self.latency.value_at_quantile(quantile)) / 1e3;
        LatencyReport {
            min_us: float(self.latency.min()) / 1e3,
            mean_us: self.latency.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: float(self.latency.max()) / 1e3,
        }
    }
}

/// Everything one session counts.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    reads: Lane,
    writes: Lane,
    pub(crate) errors: HashMap<String, u64>,
    pub(crate) reconnects: HashMap<String, u64>,
    pub(crate) retries: u64,
    pub(crate) longest_stall: Duration,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            reads: Lane::new(),
            writes: Lane::new(),
            errors: HashMap::new(),
            reconnects: HashMap::new(),
            retries: 0,
            longest_stall: Duration::ZERO,
        }
    }

    /// Counts a command with status GOOD.
    pub(crate) fn completed(&mut self, way: Way, bytes: u32, latency: Duration) {
        let lane = match way {
            Way::Read => &mut self.reads,
            Way::Write => &mut self.writes,
        };
        lane.bytes += u64::from(bytes);
        lane.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX));
    }

    /// Adds another session's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        for (lane, more) in [(&mut self.reads, &other.reads), (&mut self.writes, &other.writes)] {
            lane.bytes += more.bytes;
            // Equal bounds: an error is impossible, and would cost samples, not the run.
            let _ = lane.latency.add(&more.latency);
        }
        for (sum, more) in [(&mut self.errors, &other.errors), (&mut self.reconnects, &other.reconnects)] {
            more.iter().for_each(|(what, count)| count_kind(sum, what, *count));
        }
        self.retries += other.retries;
        self.longest_stall = self.longest_stall.max(other.longest_stall);
    }

    pub(crate) fn commands(&self) -> u64 {
        self.reads.latency.len() + self.writes.latency.len()
    }

    pub(crate) fn directions(&self, seconds: f64) -> (Direction, Direction) {
        (self.reads.report(seconds), self.writes.report(seconds))
    }
}

/// Counts something by its name, with a bound on the number of names.
pub(crate) fn count_kind(kinds: &mut HashMap<String, u64>, what: &str, count: u64) {
    if let Some(sum) = kinds.get_mut(what) {
        *sum += count;
        return;
    }
    let name = if kinds.len() < KINDS_MAX { what } else { "others" };
    *kinds.entry(name.to_owned()).or_default() += count;
}

/// The kinds counted, most frequent first.
pub(crate) fn ranking(kinds: &HashMap<String, u64>) -> Vec<ErrorCount> {
    let mut counts: Vec<ErrorCount> =
        kinds.iter().map(|(what, count)| ErrorCount { what: what.clone(), count: *count }).collect();
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)));
    counts
}

/// A count as a floating point number; exact up to 2^53, which no run reaches.
#[expect(clippy::cast_precision_loss, reason = "reported figures need no more than 53 bits")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_out_to_three_digits() {
        let mut tally = Tally::new();
        for us in 1..=1000 {
            tally.completed(Way::Read, 4096, Duration::from_micros(us));
        }
        let (reads, writes) = tally.directions(2.0);
        assert_eq!((reads.commands, reads.bytes, writes.commands), (1000, 4_096_000, 0));
        assert!((reads.iops - 500.0).abs() < 1e-9);
        let near =
            |value: f64, wanted: f64| assert!((value - wanted).abs() <= wanted / 400.0, "{value} {wanted}");
        near(reads.latency.min_us, 1.0);
        near(reads.latency.mean_us, 500.5);
        near(reads.latency.p50_us, 500.0);
        near(reads.latency.p90_us, 900.0);
        near(reads.latency.p99_us, 990.0);
        near(reads.latency.p999_us, 999.0);
        near(reads.latency.max_us, 1000.0);
    }

    #[test]
    fn sums_keep_counts_and_the_longest_stall() {
        let mut sum = Tally::new();
        for stall_ms in [5, 900, 20] {
            let mut tally = Tally::new();
            tally.completed(Way::Write, 512, Duration::from_micros(7));
            tally.longest_stall = Duration::from_millis(stall_ms);
            tally.retries = 2;
            count_kind(&mut tally.errors, "MEDIUM ERROR", 3);
            sum.add(&tally);
        }
        assert_eq!((sum.commands(), sum.retries), (3, 6));
        assert_eq!(sum.longest_stall, Duration::from_millis(900));
        assert_eq!(ranking(&sum.errors), [ErrorCount { what: "MEDIUM ERROR".to_owned(), count: 9 }]);
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut kinds = HashMap::new();
        for number in 0..1000 {
            count_kind(&mut kinds, &format!("error {number}"), 1);
        }
        assert!(kinds.len() <= KINDS_MAX + 1);
        assert_eq!(kinds.values().sum::<u64>(), 1000);
        assert_eq!(ranking(&kinds).first().map(|kind| kind.count), Some(968));
    }

    #[test]
    fn a_latency_beyond_the_range_counts_as_its_end() {
        let mut tally = Tally::new();
        tally.completed(Way::Read, 1, Duration::from_secs(86_400));
        let (reads, _) = tally.directions(1.0);
        assert_eq!(reads.commands, 1);
        assert!(reads.latency.max_us >= 599_000_000.0);
    }
}
