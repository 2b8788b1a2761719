//! `validate`: checks of any array, and their report.

use crate::args::Validate;
use crate::bench::credentials;
use crate::output::Output;
use api::{ErrorClass, Problem};
use initiator::TargetUrl;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use validate::{Options, Report, RunError, Sockets};

/// The initiator name unless another is given: that of `bench`.
const INITIATOR: &str = "iqn.2026-01.io.palisade:initiator";

pub(crate) fn run(arguments: &Validate, out: Output) -> Result<(), Problem> {
    let options = options(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Problem::new(ErrorClass::Internal, "validate", error.to_string()))?;
    let subject = arguments.urls.first().cloned().unwrap_or_default();
    let report = runtime.block_on(async {
        tokio::spawn(interrupt(options.interrupted.clone()));
        let progress = |check: &validate::CheckReport| {
            if !out.json {
                out.text(&check.text());
            }
        };
        validate::run(&options, Rc::new(Sockets::default()), progress).await
    });
    let report = report.map_err(|error| problem(&error))?;
    write(arguments.json_file.as_deref(), || json(&report))?;
    write(arguments.html.as_deref(), || Ok(report.html()))?;
    if out.json {
        out.text(&json(&report)?);
    } else {
        out.text(&format!("\n{}\n{}", report.heading(), report.summary()));
    }
    verdict(&report, subject)
}

fn options(arguments: &Validate) -> Result<Options, Problem> {
    let usage = |message: String| Problem::new(ErrorClass::Usage, "validate", message);
    let parse = |urls: &[String]| {
        let urls = urls.iter().map(|url| url.parse::<TargetUrl>()).collect::<Result<Vec<_>, _>>();
        urls.map_err(|error| usage(error.to_string()))
    };
    let (mut urls, mut also) = (parse(&arguments.urls)?, parse(&arguments.also)?);
    if urls.iter().chain(&also).any(|url| url.credentials.is_some()) {
        return Err(usage(
            "others on this machine can read USER%SECRET in a URL; put it into a file, for --chap-file"
                .to_owned(),
        ));
    }
    let (own, target) = credentials(arguments.chap_file.as_deref())?;
    for url in urls.iter_mut().chain(&mut also) {
        url.credentials.clone_from(&own);
        url.target_credentials.clone_from(&target);
    }
    let initiators = match &arguments.initiators[..] {
        [] => vec![INITIATOR.to_owned()],
        given => given.to_vec(),
    };
    Ok(Options {
        urls,
        also,
        initiators,
        nexuses: arguments.nexuses.into(),
        only: arguments.only.clone(),
        reservations: arguments.reservations,
        force: arguments.force,
        destructive: arguments.destructive,
        range: arguments.range,
        interrupted: Arc::new(AtomicBool::new(false)),
    })
}

/// The first Ctrl-C, or SIGTERM, ends the run in good order; the second ends the program.
async fn interrupt(interrupted: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        if interrupted.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("palisade: ending; what was reserved is being released");
    }
}

fn json(report: &Report) -> Result<String, Problem> {
    let text = serde_json::to_string_pretty(report);
    text.map_err(|error| Problem::new(ErrorClass::Internal, "report", error.to_string()))
}

fn write(path: Option<&Path>, text: impl FnOnce() -> Result<String, Problem>) -> Result<(), Problem> {
    let Some(path) = path else { return Ok(()) };
    let text = text()?;
    std::fs::write(path, text)
        .map_err(|error| Problem::new(ErrorClass::Invalid, path.display().to_string(), error.to_string()))
}

fn problem(error: &RunError) -> Problem {
    let (class, subject) = match error {
        RunError::Connect { path, .. } => (ErrorClass::Unreachable, path.clone()),
        RunError::InUse(_) => (ErrorClass::InUse, "logical unit".to_owned()),
        RunError::Options(_) => (ErrorClass::Usage, "validate".to_owned()),
        RunError::NoDisk(_) => (ErrorClass::Invalid, "logical unit".to_owned()),
    };
    Problem::new(class, subject, error.to_string())
}

fn verdict(report: &Report, subject: String) -> Result<(), Problem> {
    if report.is_clean() {
        return Ok(());
    }
    let mut failed = report.checks.iter().filter(|check| check.verdict == validate::Verdict::Failed);
    let message = match failed.next() {
        Some(first) => format!("{} checks failed, first {}: {}", report.counts.failed, first.id, first.title),
        None if report.interrupted => "interrupted".to_owned(),
        None => format!("left behind: {}", report.left_behind.join("; ")),
    };
    Err(Problem::new(ErrorClass::CheckFailed, subject, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parsed(line: &str) -> Result<Options, String> {
        let cli = crate::args::Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())?;
        match cli.command {
            crate::args::Command::Validate(arguments) => options(&arguments).map_err(|e| e.message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_word_nothing_is_written_or_reserved() {
        let options = parsed("palisade validate iscsi://h/iqn.a:b/0").unwrap();
        assert!(!options.destructive && !options.reservations && options.range.is_none());
        assert_eq!((options.nexuses, options.only.len()), (4, 0));
    }

    #[test]
    fn permissions_and_groups_are_taken_from_the_line() {
        let line = "palisade validate iscsi://h/iqn.a:b/0 iscsi://i/iqn.a:b/0 --only cluster,vaai --destructive \
                    --range 2048:4096 --reservations --force --nexuses 8 --also iscsi://h/iqn.a:c/0 --initiator iqn.x:y";
        let options = parsed(line).unwrap();
        assert_eq!((options.urls.len(), options.also.len(), options.nexuses), (2, 1, 8));
        assert_eq!(options.only, [validate::Group::Cluster, validate::Group::Vaai]);
        assert_eq!(options.range, Some(validate::ScratchRange { lba: 2048, blocks: 4096 }));
        assert!(options.force && options.initiators == ["iqn.x:y"]);
    }

    #[test]
    fn secrets_come_from_a_file_for_every_path() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("chap");
        std::fs::write(&file, "joe%a secret of twelve\nsan%another one\n").unwrap();
        let line = format!(
            "palisade validate iscsi://h/iqn.a:b/0 iscsi://i/iqn.a:b/0 --also iscsi://h/iqn.a:c/0 --chap-file {}",
            file.display()
        );
        let options = parsed(&line).unwrap();
        for url in options.urls.iter().chain(&options.also) {
            assert_eq!(url.credentials.as_ref().unwrap().secret, "a secret of twelve");
            assert_eq!(url.target_credentials.as_ref().unwrap().user, "san");
            assert!(!url.to_string().contains("secret"), "{url}");
        }
        let refused = parsed("palisade validate iscsi://joe%hidden@h/iqn.a:b/0").unwrap_err();
        assert!(refused.contains("--chap-file") && !refused.contains("hidden"), "{refused}");
        assert!(parsed("palisade validate iscsi://h/iqn.a:b/0 --chap-file /nowhere").is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "palisade validate",
            "palisade validate http://h/x",
            "palisade validate iscsi://u%s@h/iqn.a:b/0",
            "palisade validate iscsi://h/iqn.a:b/0 --only dance",
            "palisade validate iscsi://h/iqn.a:b/0 --range 0:8",
            "palisade validate iscsi://h/iqn.a:b/0 --destructive --range 8",
            "palisade validate iscsi://h/iqn.a:b/0 --force",
            "palisade validate iscsi://h/iqn.a:b/0 --nexuses 1",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
