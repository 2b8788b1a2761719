//! Plain tables for people, JSON for scripts.

use api::Problem;
use serde::Serialize;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// Where and how results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints `value` as JSON, or what `plain` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        plain: impl FnOnce(&T) -> String,
    ) -> Result<(), Problem> {
        let text = match self.json {
            true => serde_json::to_string_pretty(value)
                .map_err(|error| Problem::new(api::ErrorClass::Internal, "output", error.to_string()))?,
            false => plain(value),
        };
        self.text(&text);
        Ok(())
    }

    /// Prints text and a line feed. Whoever stopped reading (`| head`) has what it wants.
    pub(crate) fn text(self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
    }
}

/// Prints what went wrong, on the standard error.
pub(crate) fn print_problem(problem: &Problem, json: bool) {
    let text = match serde_json::to_string(problem) {
        Ok(text) if json => text,
        _ => format!("palisade: {problem} [{}]", problem.code),
    };
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A table with a heading, columns aligned, numbers like everything else to the left.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(ToString::to_string).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| {
            all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One property a line.
pub(crate) fn properties(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}").trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Several values in one cell.
pub(crate) fn list(values: &[String]) -> String {
    if values.is_empty() { "-".to_owned() } else { values.join(", ") }
}

/// When a pool or volume warns that space runs short.
pub(crate) fn warning(percent: Option<u8>) -> String {
    percent.map_or_else(|| "never".to_owned(), |percent| format!("at {percent} % taken"))
}

/// Bytes in the unit that fits: `10GiB`, `1.43MiB`. Three digits, rounded down.
pub(crate) fn size(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let exponent = (63 - bytes.max(1).leading_zeros()) / 10;
    let name = NAMES.get(usize::try_from(exponent).unwrap_or(0)).unwrap_or(&"B");
    let unit = 1u64 << (10 * exponent);
    let (whole, rest) = (bytes / unit, u128::from(bytes % unit));
    if rest == 0 || whole >= 100 {
        return format!("{whole}{name}");
    }
    let digits = if whole >= 10 { 1 } else { 2 };
    let part = rest * 10u128.pow(digits) / u128::from(unit);
    format!("{whole}.{part:0width$}{name}", width = usize::try_from(digits).unwrap_or(1))
}

/// How long ago a time in ms since 1970 was: `3d4h`, `5m10s`.
#[allow(clippy::disallowed_methods, reason = "a program for people knows what time it is")]
pub(crate) fn ago(unix_ms: u64) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
    span(SystemTime::now().duration_since(then).unwrap_or_default().as_secs())
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_have_no_blanks_at_line_ends() {
        let rows = [vec!["a".to_owned(), "long cell".to_owned()], vec!["longer".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "X"], &rows), "NAME    X\na       long cell\nlonger\n");
        assert_eq!(
            properties(&[("Name", "x".to_owned()), ("Size in all", "1".to_owned())]),
            "Name         x\nSize in all  1"
        );
    }

    #[test]
    fn sizes_print_in_the_unit_that_fits() {
        let cases = [
            (0, "0B"),
            (512, "512B"),
            (10 << 30, "10GiB"),
            ((10 << 30) + (512 << 20), "10.5GiB"),
            (1 << 40, "1TiB"),
            (1_500_000, "1.43MiB"),
            (u64::MAX, "15.9EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans_print_in_two_units() {
        let cases = [(5, "5s"), (310, "5m10s"), (3600 * 5 + 61, "5h1m"), (86_400 * 3 + 3600 * 4, "3d4h")];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }
}
