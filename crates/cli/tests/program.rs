//! The program from outside: what it prints, where, and with which exit status.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::{Command, Output};

fn palisade(arguments: &[&str]) -> Output {
    let directory = std::env::temp_dir().join("palisade-cli-test-no-such-directory");
    Command::new(env!("CARGO_BIN_EXE_palisade"))
        .args(arguments)
        .env("PALISADE_DATA", directory)
        .output()
        .expect("the program runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_errors_lists_every_class_with_its_exit_status() {
    let output = palisade(&["help", "errors"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for row in api::ErrorClass::table() {
        let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(row.code));
        let line = line.unwrap_or_else(|| panic!("{} is not in {text}", row.code));
        assert!(line.starts_with(&row.exit_status.to_string()), "{line}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&palisade(&["help", "errors", "--json"]))).unwrap();
    assert_eq!(json.as_array().unwrap().len(), api::ErrorClass::table().len());
}

#[test]
fn without_a_daemon_every_verb_says_so_with_its_status() {
    let verbs: [&[&str]; 6] = [
        &["status"],
        &["pool", "list"],
        &["volume", "delete", "x"],
        &["host", "show", "x"],
        &["session", "list"],
        &["volume", "create", "x", "10G"],
    ];
    for verb in verbs {
        let output = palisade(verb);
        assert_eq!(output.status.code(), Some(13), "{verb:?}");
        assert!(stdout(&output).is_empty(), "only errors, on the standard error");
        assert!(stderr(&output).contains("palisade serve"), "says what to do: {}", stderr(&output));
    }
    let output = palisade(&["status", "--json"]);
    let problem: api::Problem = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!(problem.code, api::ErrorClass::Unreachable);
}

#[test]
fn usage_errors_have_their_status_and_help_has_none() {
    for line in [&["volume", "paint"][..], &["volume", "create", "x", "many"], &["help", "paint"], &[]] {
        assert_eq!(palisade(line).status.code(), Some(2), "{line:?}");
    }
    for line in
        [&["--help"][..], &["--version"], &["help"], &["help", "volume", "create"], &["pool", "--help"]]
    {
        let output = palisade(line);
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert!(!output.stdout.is_empty());
    }
    assert!(stdout(&palisade(&["--version"])).starts_with("palisade "));
}

#[test]
fn a_daemon_that_cannot_start_says_why_with_its_status() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data = data.to_str().unwrap();
    let output = palisade(&["serve", "--data", data, "--portal", "127.0.0.1:0", "--api", "192.0.2.1:80"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("no authentication yet"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let portal = taken.local_addr().unwrap().to_string();
    let output = palisade(&["serve", "--data", data, "--portal", &portal]);
    assert_eq!(output.status.code(), Some(15), "{}", stderr(&output));
    assert!(stderr(&output).contains(&portal), "{}", stderr(&output));
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = palisade(&["serve", "--data", file.to_str().unwrap(), "--portal", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}
