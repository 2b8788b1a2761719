//! The report for a terminal: short, with detail where something is wrong.

use std::fmt::Write;

use crate::outcome::Verdict;
use crate::report::{CheckReport, Report};

/// Exchanges shown of a check that failed: those after which something was wrong.
const EXCHANGES_SHOWN: usize = 6;

impl CheckReport {
    /// One line, and more where something is wrong.
    pub fn text(&self) -> String {
        let mark = match self.verdict {
            Verdict::Passed => "ok",
            Verdict::Warning => "warn",
            Verdict::Failed => "FAIL",
            Verdict::NotSupported => "none",
            Verdict::Skipped => "skip",
        };
        let mut text = format!("{mark:<4}  {:<28}  {}\n", self.id, self.title);
        if self.verdict != Verdict::Passed {
            for detail in &self.details {
                let _ = writeln!(text, "      {detail}");
            }
        }
        if self.verdict == Verdict::Failed {
            let _ = writeln!(text, "      by {}", self.clause);
            let suspects = self.exchanges.iter().filter(|exchange| exchange.suspect);
            for exchange in suspects.take(EXCHANGES_SHOWN) {
                let sense =
                    if exchange.sense.is_empty() { String::new() } else { format!(": {}", exchange.sense) };
                let _ = writeln!(text, "      {}  {} [{}]", exchange.nexus, exchange.command, exchange.cdb);
                let _ = writeln!(text, "          {}{sense}", exchange.status);
                if !exchange.data_in.is_empty() {
                    let _ = writeln!(text, "          {}", exchange.data_in);
                }
            }
        }
        text
    }
}

impl Report {
    /// What stands above the checks.
    pub fn heading(&self) -> String {
        let unit = &self.unit;
        let bytes = u128::from(unit.blocks) * u128::from(unit.block_size);
        let mut text = format!("{} {} {}", unit.vendor, unit.product, unit.revision);
        let _ = write!(text, ", {} blocks of {} bytes ({} MiB)", unit.blocks, unit.block_size, bytes >> 20);
        for name in &unit.names {
            let _ = write!(text, "\n  {name}");
        }
        for (number, path) in self.paths.iter().enumerate() {
            let _ = write!(text, "\n  path {}: {path}", number + 1);
        }
        text
    }

    /// What stands below the checks.
    pub fn summary(&self) -> String {
        let counts = &self.counts;
        let mut text = format!(
            "{} passed, {} failed, {} with warnings, {} not supported, {} skipped",
            counts.passed, counts.failed, counts.warning, counts.not_supported, counts.skipped
        );
        if self.interrupted {
            text.push_str("; interrupted");
        }
        for what in &self.left_behind {
            let _ = write!(text, "\nleft behind: {what}");
        }
        text
    }

    /// All of it.
    pub fn text(&self) -> String {
        let checks: String = self.checks.iter().map(CheckReport::text).collect();
        format!("{}\n\n{checks}\n{}\n", self.heading(), self.summary())
    }
}
