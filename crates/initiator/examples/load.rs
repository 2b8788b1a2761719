//! The load generator by itself: `load URL [PATTERN] [BLOCK SIZES] [DEPTH] [SESSIONS] [SECONDS] [VERIFY FILE]`.
//! The `palisade bench` command is the comfortable way to the same.

use core::ops::ControlFlow;
use core::time::Duration;
use std::error::Error;

use initiator::load::{LoadConfig, run};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("a URL is wanted")?.parse()?;
    let mut config = LoadConfig::new(vec![url]);
    if let Some(text) = arguments.next() {
        config.pattern = text.parse()?;
    }
    if let Some(text) = arguments.next() {
        config.block_sizes = text.parse()?;
    }
    if let Some(text) = arguments.next() {
        config.depth = text.parse()?;
    }
    if let Some(text) = arguments.next() {
        config.sessions = text.parse()?;
    }
    if let Some(text) = arguments.next() {
        config.duration = Duration::from_secs(text.parse()?);
    }
    config.verify = arguments.next().map(Into::into);
    let report = run(&config, |progress| {
        eprintln!(
            "{} {:5.1} s {:9.0} IOPS {:8.1} MiB/s {:7.0} us {} errors {} reconnects",
            progress.phase,
            progress.elapsed_seconds,
            progress.iops,
            progress.bytes_per_second / 1048576.0,
            progress.mean_latency_us,
            progress.errors,
            progress.reconnects,
        );
        ControlFlow::Continue(())
    })?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
