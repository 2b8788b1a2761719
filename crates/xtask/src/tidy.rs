//! The whole check: measures every file, compares with the limits and the exceptions, and reports.

use crate::ratchet::{Measure, Ratchet, Rule};
use crate::rust_file::{self, RustFile};
use crate::tree::{self, SourceFile};
use crate::{crates, words};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

const FILE_LINES: Rule = Rule { name: "file_lines", limit: 500, what: "lines outside tests" };
const TEST_FILE_LINES: Rule = Rule { name: "test_file_lines", limit: 800, what: "lines of tests" };
const SCRIPT_LINES: Rule = Rule { name: "script_lines", limit: 400, what: "lines" };
const FUNCTION_LINES: Rule = Rule { name: "function_lines", limit: 70, what: "lines" };
const UNWRAPS: Rule = Rule { name: "unwraps", limit: 0, what: "`unwrap` outside tests" };
const EXPECTS: Rule = Rule { name: "expects", limit: 8, what: "`expect` in a thousand lines outside tests" };
const CASTS: Rule = Rule { name: "casts", limit: 0, what: "`as` casts outside tests" };
const MISSING_TESTS: Rule =
    Rule { name: "missing_tests", limit: 0, what: "lines of tests short of 70 for each 100 of source" };

/// Shares of all files and functions that may be long, in percent: see `Totals::measures`.
const LONG: [(Rule, Kind, u64); 5] = [
    (Rule { name: "share", limit: 50, what: "percent have more than 250 lines" }, Kind::File, 250),
    (Rule { name: "share", limit: 5, what: "percent have more than 800 lines" }, Kind::File, 800),
    (Rule { name: "share", limit: 50, what: "percent have 8 lines or more" }, Kind::Function, 7),
    (Rule { name: "share", limit: 5, what: "percent have 45 lines or more" }, Kind::Function, 44),
    (Rule { name: "share", limit: 2, what: "percent have more than 70 lines" }, Kind::Function, 70),
];

/// The crates of protocol and engine: no `as`, and at least 0.7 lines of tests for each line of source.
const STRICT: [&str; 4] = ["scsi", "iscsi", "block", "store"];
/// The only crate that may have `unsafe`.
const UNSAFE: &str = "backend";
/// A crate of fewer lines is not judged for the size of its tests.
const SMALL_CRATE_LINES: u64 = 200;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Function,
}

/// What `tidy` found, one line each; printed with a summary at the end.
pub(crate) struct Report {
    findings: Vec<String>,
    files: usize,
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        writeln!(f, "tidy: {} files, {} findings", self.files, self.findings.len())
    }
}

/// Checks the tree at `root`; with `tighten`, first lowers the exceptions in `tests/tidy.toml`.
///
/// # Errors
/// When a file cannot be read or parsed, or `cargo metadata` fails.
pub(crate) fn check(root: &Path, tighten: bool) -> Result<Report> {
    let files = tree::files(root)?;
    let mut totals = Totals::default();
    let mut findings: Vec<String> = files.iter().flat_map(misplaced_words).collect();
    let test_files = test_files(&files)?;
    for file in &files {
        if file.path.ends_with(".rs") {
            let measured = rust_file::measure(&file.text).with_context(|| file.path.clone())?;
            let is_test = file.is_test_by_place() || test_files.contains(&file.path);
            findings.extend(judge_file(file, &measured, is_test));
            totals.add(file, &measured, is_test);
        } else if is_script(file) {
            totals.push(SCRIPT_LINES, &file.path, u64::try_from(file.text.lines().count())?);
        }
    }
    let measures = totals.measures();
    let path = root.join("tests/tidy.toml");
    let mut ratchet = Ratchet::load(&path)?;
    if tighten {
        ratchet = ratchet.tightened(&measures);
        ratchet.save(&path)?;
    }
    findings.extend(ratchet.judge(&measures));
    findings.extend(crates::judge(root)?);
    Ok(Report { findings, files: files.len() })
}

fn misplaced_words(file: &SourceFile) -> Vec<String> {
    let found = words::misplaced(file);
    found.iter().map(|m| format!("{}:{}: `{}` does not belong here", file.path, m.line, m.word)).collect()
}

fn is_script(file: &SourceFile) -> bool {
    file.path.ends_with(".py") || file.path.ends_with(".sh") || file.text.starts_with("#!")
}

/// The files of modules declared `#[cfg(test)] mod NAME;`.
fn test_files(files: &[SourceFile]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for file in files.iter().filter(|f| f.path.ends_with(".rs")) {
        let measured = rust_file::measure(&file.text).with_context(|| file.path.clone())?;
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let own = matches!(name, "lib.rs" | "main.rs" | "mod.rs");
        let folder = if own { folder.to_owned() } else { file.path.trim_end_matches(".rs").to_owned() };
        for module in measured.test_modules {
            let below = format!("{folder}/{module}/");
            found.extend(files.iter().filter(|f| f.path.starts_with(&below)).map(|f| f.path.clone()));
            found.insert(format!("{folder}/{module}.rs"));
        }
    }
    Ok(found)
}

fn judge_file(file: &SourceFile, measured: &RustFile, is_test: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if !measured.has_module_doc {
        wrong.push(format!("{}: has no `//!` that says what it is for", file.path));
    }
    if file.crate_name() != Some(UNSAFE) {
        let lines = measured.unsafe_lines.iter();
        wrong.extend(lines.map(|line| format!("{}:{line}: `unsafe` outside {UNSAFE}", file.path)));
    }
    if !is_test {
        let names = measured.empty_type_names.iter();
        wrong.extend(names.map(|name| format!("{}: the name `{name}` does not say what it does", file.path)));
    }
    wrong
}

/// Numbers of the whole tree.
#[derive(Default)]
struct Totals {
    measures: Vec<Measure>,
    file_lines: Vec<u64>,
    function_lines: Vec<u64>,
    /// For each crate: lines of source, lines of tests, `expect`s.
    crates: BTreeMap<String, (u64, u64, u64)>,
}

impl Totals {
    fn push(&mut self, rule: Rule, key: &str, value: u64) {
        self.measures.push(Measure { rule, key: key.to_owned(), value });
    }

    fn add(&mut self, file: &SourceFile, measured: &RustFile, is_test: bool) {
        let crate_name = file.crate_name().unwrap_or_default().to_owned();
        let entry = self.crates.entry(crate_name.clone()).or_default();
        if is_test {
            entry.1 += measured.lines + measured.test_lines;
            self.push(TEST_FILE_LINES, &file.path, measured.lines + measured.test_lines);
            return;
        }
        entry.0 += measured.lines;
        entry.1 += measured.test_lines;
        entry.2 += measured.expects;
        self.file_lines.push(measured.lines);
        self.push(FILE_LINES, &file.path, measured.lines);
        self.push(TEST_FILE_LINES, &file.path, measured.test_lines);
        self.push(UNWRAPS, &file.path, measured.unwraps);
        if STRICT.contains(&crate_name.as_str()) {
            self.push(CASTS, &file.path, measured.casts);
        }
        for function in &measured.functions {
            self.function_lines.push(function.lines);
            self.push(FUNCTION_LINES, &format!("{}: {}", file.path, function.name), function.lines);
        }
    }

    /// Every number to be judged; only now are those complete that need the whole tree.
    fn measures(mut self) -> Vec<Measure> {
        for (rule, kind, more_than) in LONG {
            let lines = if kind == Kind::File { &self.file_lines } else { &self.function_lines };
            let long = lines.iter().filter(|lines| **lines > more_than).count();
            let what = if kind == Kind::File { "files" } else { "functions" };
            let percent = (long * 100).checked_div(lines.len()).unwrap_or(0);
            let key = format!("{what} over {more_than} lines");
            self.measures.push(Measure { rule, key, value: u64::try_from(percent).unwrap_or(u64::MAX) });
        }
        for (name, (source, tests, expects)) in std::mem::take(&mut self.crates) {
            let in_thousand = expects * 1000 / source.max(1000);
            self.push(EXPECTS, &format!("crates/{name}"), in_thousand);
            if STRICT.contains(&name.as_str()) && source > SMALL_CRATE_LINES {
                let short = 70_u64.saturating_sub(tests * 100 / source);
                self.push(MISSING_TESTS, &format!("crates/{name}"), short);
            }
        }
        self.measures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn totals(path: &str, text: &str) -> Vec<Measure> {
        let mut totals = Totals::default();
        totals.add(&file(path, text), &rust_file::measure(text).unwrap(), false);
        totals.measures()
    }

    fn value(measures: &[Measure], rule: Rule) -> Option<u64> {
        measures.iter().find(|m| m.rule == rule).map(|m| m.value)
    }

    #[test]
    fn the_tree_is_tidy() {
        let report = check(&tree::root(), false).unwrap();
        assert!(report.is_clean(), "\n{report}");
    }

    #[test]
    fn unsafe_belongs_to_one_crate() {
        let text = "//! A.\nfn a() { unsafe { b() } }";
        let judge = |path| judge_file(&file(path, text), &rust_file::measure(text).unwrap(), false).len();
        assert_eq!(judge("crates/backend/src/ring.rs"), 0);
        assert_eq!(judge("crates/target/src/lib.rs"), 1);
    }

    #[test]
    fn casts_count_in_protocol_and_engine_only() {
        let text = "//! A.\nfn a(b: u8) -> u32 { b as u32 }";
        assert_eq!(value(&totals("crates/iscsi/src/lib.rs", text), CASTS), Some(1));
        assert_eq!(value(&totals("crates/cli/src/main.rs", text), CASTS), None);
    }

    #[test]
    fn an_engine_crate_without_tests_falls_short_by_seventy_percent() {
        let text = "//! A.\n".to_owned() + &"fn a() {}\n".repeat(300);
        assert_eq!(value(&totals("crates/store/src/lib.rs", &text), MISSING_TESTS), Some(70));
        assert_eq!(value(&totals("crates/api/src/lib.rs", &text), MISSING_TESTS), None);
    }

    #[test]
    fn modules_of_tests_in_files_of_their_own_are_tests() {
        let files = [
            file("crates/a/src/lib.rs", "//! A.\n#[cfg(test)]\nmod pair;\nmod wire;"),
            file("crates/a/src/wire.rs", "//! B.\n#[cfg(test)]\nmod vectors;"),
            file("crates/a/src/pair/clock.rs", "//! C."),
        ];
        let found: Vec<String> = test_files(&files).unwrap().into_iter().collect();
        assert_eq!(
            found,
            ["crates/a/src/pair.rs", "crates/a/src/pair/clock.rs", "crates/a/src/wire/vectors.rs"]
        );
    }
}
