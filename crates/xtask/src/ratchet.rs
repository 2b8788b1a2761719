//! The exceptions that `tidy` permits today, in `tests/tidy.toml`. They only shrink: an exception that is larger than
//! needed is itself a finding, and `--tighten` lowers it. Nothing here raises one.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// A rule with a number: more than `limit` needs an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    /// Its table in `tests/tidy.toml`.
    pub(crate) name: &'static str,
    pub(crate) limit: u64,
    /// What the number counts, for messages.
    pub(crate) what: &'static str,
}

/// One number measured: of which rule, of what, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) rule: Rule,
    pub(crate) key: String,
    pub(crate) value: u64,
}

/// The exceptions, by rule and key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ratchet(BTreeMap<String, BTreeMap<String, u64>>);

const HEADER: &str = "\
# What `cargo run -p xtask -- tidy` permits beyond its limits today. These numbers only go down:
# `cargo run -p xtask -- tidy --tighten` lowers them to what is needed and drops the rest.
";

impl Ratchet {
    /// Reads the file; no file means no exceptions.
    ///
    /// # Errors
    /// When the file cannot be read or is not tables of numbers.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self(toml::from_str(&text).with_context(|| format!("{}", path.display()))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("{}", path.display())),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let mut text = HEADER.to_owned();
        for (rule, entries) in &self.0 {
            write!(text, "\n[{rule}]\n")?;
            for (key, value) in entries {
                writeln!(text, "{key:?} = {value}")?;
            }
        }
        std::fs::write(path, text).with_context(|| format!("{}", path.display()))
    }

    /// What is wrong: measures over their limit and exception, and exceptions larger than needed.
    pub(crate) fn judge(&self, measures: &[Measure]) -> Vec<String> {
        let mut wrong = Vec::new();
        for measure in measures.iter().filter(|m| m.value > self.allowed(m.rule, &m.key)) {
            let allowed = self.allowed(measure.rule, &measure.key);
            wrong
                .push(format!("{}: {} {}, at most {allowed}", measure.key, measure.value, measure.rule.what));
        }
        for (rule, entries) in &self.0 {
            for (key, allowed) in entries {
                let needed = needed(measures, rule, key);
                if needed != Some(*allowed) && needed.is_none_or(|n| n < *allowed) {
                    let now = needed.map_or("not needed any more".to_owned(), |n| format!("only {n} needed"));
                    wrong.push(format!(
                        "tests/tidy.toml: [{rule}] {key:?} = {allowed}: {now}; tidy --tighten lowers it"
                    ));
                }
            }
        }
        wrong
    }

    /// The same with every exception lowered to what is needed and the needless ones dropped.
    #[must_use]
    pub(crate) fn tightened(&self, measures: &[Measure]) -> Self {
        let mut tables = BTreeMap::new();
        for (rule, entries) in &self.0 {
            let kept: BTreeMap<String, u64> = entries
                .iter()
                .filter_map(|(key, allowed)| Some((key.clone(), needed(measures, rule, key)?.min(*allowed))))
                .collect();
            if !kept.is_empty() {
                tables.insert(rule.clone(), kept);
            }
        }
        Self(tables)
    }

    fn allowed(&self, rule: Rule, key: &str) -> u64 {
        let exception = self.0.get(rule.name).and_then(|entries| entries.get(key));
        exception.copied().unwrap_or(rule.limit).max(rule.limit)
    }
}

/// The exception that `key` needs: none when its measure is within the limit or there is no such thing any more.
fn needed(measures: &[Measure], rule: &str, key: &str) -> Option<u64> {
    let named = measures.iter().filter(|m| m.rule.name == rule && m.key == key);
    let measure = named.max_by_key(|m| m.value)?;
    (measure.value > measure.rule.limit).then_some(measure.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { name: "file_lines", limit: 400, what: "lines" };

    fn ratchet(text: &str) -> Ratchet {
        Ratchet(toml::from_str(text).unwrap())
    }

    fn measure(value: u64) -> Vec<Measure> {
        vec![Measure { rule: RULE, key: "a.rs".to_owned(), value }]
    }

    #[test]
    fn the_limit_holds_without_an_exception() {
        assert!(Ratchet::default().judge(&measure(400)).is_empty());
        assert_eq!(Ratchet::default().judge(&measure(401)), ["a.rs: 401 lines, at most 400"]);
    }

    #[test]
    fn an_exception_permits_no_more_than_it_says() {
        let exception = ratchet("[file_lines]\n\"a.rs\" = 500");
        assert!(exception.judge(&measure(500)).is_empty());
        assert_eq!(exception.judge(&measure(501)), ["a.rs: 501 lines, at most 500"]);
    }

    #[test]
    fn an_exception_larger_than_needed_is_a_finding_and_is_lowered() {
        let exception = ratchet("[file_lines]\n\"a.rs\" = 500");
        assert_eq!(exception.judge(&measure(450)).len(), 1);
        assert_eq!(exception.tightened(&measure(450)), ratchet("[file_lines]\n\"a.rs\" = 450"));
        assert_eq!(exception.tightened(&measure(399)), Ratchet::default());
        assert_eq!(exception.tightened(&[]), Ratchet::default());
    }

    #[test]
    fn tightening_never_raises() {
        let exception = ratchet("[file_lines]\n\"a.rs\" = 500");
        assert_eq!(exception.tightened(&measure(600)), exception);
    }
}
