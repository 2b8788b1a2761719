//! Work of the developers of Palisade: `cargo run -p xtask -- tidy [--tighten]`.

mod crates;
mod ratchet;
mod rust_file;
mod tidy;
mod tree;
mod words;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p xtask -- tidy [--tighten]

tidy             checks the source tree: sizes, layering, `unsafe`, unwraps, words that do not belong
tidy --tighten   also lowers the exceptions in tests/tidy.toml to what is needed today";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let tighten = match arguments.as_slice() {
        ["tidy"] => false,
        ["tidy", "--tighten"] => true,
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let report = tidy::check(&tree::root(), tighten)?;
    print!("{report}");
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
