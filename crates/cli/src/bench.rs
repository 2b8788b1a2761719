//! `bench`: the load generator, its progress and its report.

use crate::args::Bench;
use crate::output::{Output, properties, size};
use api::{ErrorClass, Problem};
use initiator::load::{Direction, LoadConfig, LoadError, LoadReport, Progress, run as run_load};
use initiator::{Credentials, Digests, TargetUrl};
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) fn run(bench: &Bench, out: Output) -> Result<(), Problem> {
    let config = config(bench)?;
    let interrupted = on_interrupt();
    let terminal = std::io::stderr().is_terminal();
    let result = run_load(&config, |progress| {
        show_progress(progress, terminal);
        if interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    match result {
        Ok(report) => {
            out.print(&report, plain)?;
            failures(&report)
        }
        Err(LoadError::Verification(report)) => {
            out.print(&*report, plain)?;
            let count = report.verify.as_ref().map_or(0, |verify| verify.fault_count);
            let message =
                format!("{count} blocks do not hold what was acknowledged; the report lists the first");
            Err(Problem::new(ErrorClass::VerifyFailed, shown(bench), message))
        }
        Err(error) => Err(problem(bench, &error)),
    }
}

fn config(bench: &Bench) -> Result<LoadConfig, Problem> {
    let usage = |message: String| Problem::new(ErrorClass::Usage, "bench", message);
    let urls = bench.urls.iter().map(|url| url.parse::<TargetUrl>());
    let mut urls = urls.collect::<Result<Vec<_>, _>>().map_err(|error| usage(error.to_string()))?;
    let (own, target) = credentials(bench.chap_file.as_deref())?;
    for url in urls.iter_mut().filter(|url| url.credentials.is_none()) {
        url.credentials.clone_from(&own);
        url.target_credentials.clone_from(&target);
    }
    let usual = LoadConfig::new(urls);
    Ok(LoadConfig {
        initiator_name: bench.initiator.clone().unwrap_or_else(|| usual.initiator_name.clone()),
        pattern: bench.rw.parse().map_err(|error| usage(format!("--rw: {error}")))?,
        block_sizes: bench.bs.parse().map_err(|error| usage(format!("--bs: {error}")))?,
        depth: bench.depth,
        sessions: bench.sessions,
        connections: bench.connections,
        threads: bench.threads,
        duration: Duration::from_secs(bench.seconds),
        span: bench.span,
        verify: bench.verify.clone(),
        patience: Duration::from_secs(bench.patience),
        wait_for_target: bench.wait,
        digests: Digests { header: bench.digests, data: bench.digests },
        fua: bench.fua,
        seed: bench.seed,
        ..usual
    })
}

/// The URLs without secrets.
fn shown(bench: &Bench) -> String {
    let urls = bench.urls.iter().filter_map(|url| url.parse::<TargetUrl>().ok());
    urls.map(|url| url.to_string()).collect::<Vec<_>>().join(" ")
}

type Pair = (Option<Credentials>, Option<Credentials>);

/// What to log in with to URLs that say nothing of it: from the file, else from the variables that libiscsi reads.
pub(crate) fn credentials(file: Option<&Path>) -> Result<Pair, Problem> {
    let Some(file) = file else {
        let pair = |user: &str, secret: &str| {
            let (user, secret) = (std::env::var(user).ok()?, std::env::var(secret).ok()?);
            Some(Credentials { user, secret })
        };
        let own = pair("LIBISCSI_CHAP_USERNAME", "LIBISCSI_CHAP_PASSWORD");
        let target = pair("LIBISCSI_CHAP_TARGET_USERNAME", "LIBISCSI_CHAP_TARGET_PASSWORD");
        return Ok((own, target));
    };
    let fail = |message: String| Problem::new(ErrorClass::Usage, file.display().to_string(), message);
    let text = std::fs::read_to_string(file).map_err(|error| fail(format!("it cannot be read: {error}")))?;
    let mut lines = text.lines().filter(|line| !line.is_empty()).map(Credentials::parse);
    let mut next = || lines.next().transpose().map_err(|why| fail(format!("write USER%SECRET ({why})")));
    let own = next()?.ok_or_else(|| fail("it is empty; write USER%SECRET".to_owned()))?;
    Ok((Some(own), next()?))
}

/// Becomes true with the first Ctrl-C: the run then ends early, with its report. The second one ends the program.
fn on_interrupt() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if flag.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    });
    interrupted
}

fn show_progress(progress: &Progress, terminal: bool) {
    let mut line = format!(
        "{:>6} {:5.1} s {:3.0} %  {:>9.0} IOPS  {:>8.1} MiB/s  {:>8.0} µs",
        progress.phase,
        progress.elapsed_seconds,
        progress.done * 100.0,
        progress.iops,
        progress.bytes_per_second / (1024.0 * 1024.0),
        progress.mean_latency_us,
    );
    for (count, what) in
        [(progress.reconnects, "reconnects"), (progress.errors, "ERRORS"), (progress.faults, "FAULTS")]
    {
        if count > 0 {
            line.push_str(&format!("  {count} {what}"));
        }
    }
    let mut err = std::io::stderr().lock();
    let _ = if terminal { write!(err, "\r{line}\x1b[K") } else { writeln!(err, "{line}") };
    let _ = err.flush();
}

fn problem(bench: &Bench, error: &LoadError) -> Problem {
    let class = match error {
        LoadError::Config(_) => ErrorClass::Usage,
        LoadError::Client(_) => ErrorClass::Unreachable,
        LoadError::Ledger(_) => ErrorClass::Invalid,
        _ => ErrorClass::Internal,
    };
    Problem::new(class, shown(bench), error.to_string())
}

/// Commands that failed are no clean run.
fn failures(report: &LoadReport) -> Result<(), Problem> {
    match report.error_kinds.first() {
        Some(first) if report.errors > 0 => {
            let message = format!("{} commands failed, most often: {}", report.errors, first.what);
            Err(Problem::new(ErrorClass::Device, report.targets.join(" "), message))
        }
        _ => Ok(()),
    }
}

fn plain(report: &LoadReport) -> String {
    let rate = |bytes: f64| format!("{:.1} MiB/s", bytes / (1024.0 * 1024.0));
    let mut pairs = vec![
        (
            "Load",
            format!(
                "{} {}, depth {} × {} sessions × {} connections",
                report.pattern, report.block_sizes, report.depth, report.sessions, report.connections
            ),
        ),
        ("Time", format!("{:.1} s, seed {}", report.seconds, report.seed)),
        ("Total", format!("{:.0} IOPS, {}", report.iops, rate(report.bytes_per_second))),
    ];
    for (name, direction) in [("Reads", &report.reads), ("Writes", &report.writes)] {
        if direction.commands > 0 {
            pairs.push((
                name,
                format!(
                    "{:.0} IOPS, {}, {}",
                    direction.iops,
                    rate(direction.bytes_per_second),
                    size(direction.bytes)
                ),
            ));
            pairs.push(("  latency", latency(direction)));
        }
    }
    pairs.push((
        "Client CPU",
        format!("{:.2} s, {:.1} µs a command", report.cpu_seconds, report.cpu_us_per_io),
    ));
    if report.reconnects > 0 {
        let stall = report.longest_stall_ms / 1000.0;
        pairs
            .push(("Interruptions", format!("{} reconnects, longest stall {stall:.1} s", report.reconnects)));
    }
    let kinds = |kinds: &[initiator::load::ErrorCount]| {
        let texts: Vec<_> =
            kinds.iter().take(3).map(|kind| format!("{} × {}", kind.count, kind.what)).collect();
        texts.join("; ")
    };
    if report.errors > 0 {
        pairs.push(("ERRORS", format!("{}: {}", report.errors, kinds(&report.error_kinds))));
    }
    if let Some(verify) = &report.verify {
        let resumed = if verify.resumed { "resumed" } else { "new" };
        let text = format!(
            "{} ({resumed}): {} stamps checked at the start, {} while running, {} faults",
            verify.file, verify.checked_at_start, verify.checked_while_running, verify.fault_count
        );
        pairs.push(("Verify", text));
    }
    properties(&pairs)
}

fn latency(direction: &Direction) -> String {
    let l = &direction.latency;
    format!(
        "mean {:.0} µs, 50 % {:.0}, 90 % {:.0}, 99 % {:.0}, 99.9 % {:.0}, max {:.0}",
        l.mean_us, l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn configured(line: &str) -> Result<LoadConfig, Problem> {
        let cli = crate::args::Cli::try_parse_from(line.split_whitespace()).unwrap();
        match cli.command {
            crate::args::Command::Bench(bench) => config(&bench),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_reach_the_load_generator() {
        let line = "palisade bench iscsi://h:3261/iqn.a:b/0 --rw mix:40 --bs 4k,64k --depth 8 --sessions 2 --seconds 5 \
                    --verify f --initiator iqn.c:d --span 1G --fua --seed 7 --digests --patience 9 --wait";
        let config = configured(line).unwrap();
        assert_eq!((config.depth, config.sessions, config.duration.as_secs()), (8, 2, 5));
        assert_eq!(
            (config.pattern.to_string(), config.block_sizes.to_string()),
            ("mix:40".into(), "4KiB,64KiB".into())
        );
        assert_eq!((config.span, config.seed, config.fua), (Some(1 << 30), Some(7), true));
        assert_eq!(config.initiator_name, "iqn.c:d");
        assert!(config.digests.header && config.digests.data && config.wait_for_target);
        assert_eq!(config.patience.as_secs(), 9);
    }

    #[test]
    fn secrets_come_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("chap");
        std::fs::write(&file, "joe%a secret % of twelve\nsan%another one\n").unwrap();
        let (own, target) = credentials(Some(&file)).unwrap();
        let own = own.unwrap();
        assert_eq!((own.user.as_str(), own.secret.as_str()), ("joe", "a secret % of twelve"));
        assert_eq!(target.unwrap().user, "san");
        for bad in ["", "joe", "%s"] {
            std::fs::write(&file, bad).unwrap();
            assert_eq!(credentials(Some(&file)).unwrap_err().code, ErrorClass::Usage, "{bad}");
        }
    }

    #[test]
    fn what_makes_no_load_is_a_matter_of_usage() {
        for line in [
            "palisade bench http://h/x",
            "palisade bench iscsi://h/iqn.a:b/0 --rw dance",
            "palisade bench iscsi://h/iqn.a:b/0 --bs 100",
        ] {
            assert_eq!(configured(line).unwrap_err().code, ErrorClass::Usage, "{line}");
        }
    }
}
