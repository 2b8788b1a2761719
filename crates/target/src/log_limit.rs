//! A bound on lines in the log that outsiders can cause.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Lines in a row, and the time after which as many may follow.
const LINES_MAX: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Lets some lines into the log, and counts what it leaves out: a host that asks again and again must not fill a disk.
#[derive(Debug)]
pub struct LogLimit {
    origin: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// When this period began.
    began: Duration,
    lines: u32,
    left_out: u64,
}

impl Default for LogLimit {
    #[allow(clippy::disallowed_methods, reason = "when a line was logged decides nothing else")]
    fn default() -> Self {
        Self { origin: Instant::now(), counts: Mutex::default() }
    }
}

impl LogLimit {
    /// Whether a line may be logged, with the number of those that were left out before it: 20 lines in 10 s.
    #[must_use]
    pub fn admit(&self) -> Option<u64> {
        self.counts.lock().admit(self.origin.elapsed())
    }
}

impl Counts {
    fn admit(&mut self, now: Duration) -> Option<u64> {
        if now.saturating_sub(self.began) >= PERIOD {
            (self.began, self.lines) = (now, 0);
        }
        if self.lines >= LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that tried to log in without a grant, a thousand times a second, filled the log.
    #[test]
    fn what_outsiders_cause_is_logged_some_times_and_counted() {
        let mut counts = Counts::default();
        let mut at = |ms, times| {
            let answers = (0..times).filter_map(|_| counts.admit(Duration::from_millis(ms)));
            answers.collect::<Vec<_>>()
        };
        assert_eq!(at(0, 1000), [0; 20]);
        assert!(at(9_999, 5).is_empty());
        assert_eq!(at(10_000, 2), [985, 0], "the first line after it tells how many are missing");
    }
}
