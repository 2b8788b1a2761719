//! The reference of commands, `docs/reference/cli.md`: made from the same definition as the parser.
#![cfg(test)]

use crate::args::Cli;
use crate::help;
use clap::{Command, CommandFactory};
use std::path::PathBuf;

/// The whole reference in Markdown.
fn reference() -> String {
    let mut command = Cli::command().term_width(110);
    command.build();
    let mut text =
        "# Commands\n\nMade from the program's own help; do not edit. `--json` prints JSON with every verb; \
                    errors go to the standard\nerror.\n"
            .to_owned();
    section(&mut command, "palisade", &mut text);
    text.push_str("\n## Errors and exit statuses\n\n```\n");
    text.push_str(&help::errors());
    text.push_str("```\n");
    text
}

fn section(command: &mut Command, path: &str, text: &mut String) {
    let help = command.render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!("\n## `{path}`\n\n```\n{}\n```\n", help.join("\n").trim_end()));
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names.iter().filter(|name| *name != "help") {
        if let Some(sub) = command.find_subcommand_mut(name) {
            section(sub, &format!("{path} {name}"), text);
        }
    }
}

/// `UPDATE=1 cargo test -p cli` writes it anew.
#[test]
fn the_checked_in_reference_is_up_to_date() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cli.md"));
    let now = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == now, "docs/reference/cli.md is out of date; run `UPDATE=1 cargo test -p cli`");
}
