//! The client and the load generator against a target that fails on demand: what a host sees of
//! it, and what it does not.

#[path = "support/ram.rs"]
mod ram;

use core::ops::ControlFlow;
use core::time::Duration;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use initiator::load::{LoadConfig, LoadError, LoadReport, run};
use initiator::{Client, ClientError, LinkOptions, TargetUrl};
use iscsi::initiator::Command;
use iscsi::pdu::{TaskManagementFunction, TaskManagementResponse};
use ram::{Faults, RamTarget};

const LENGTH: usize = 16 << 20;

fn target() -> RamTarget {
    RamTarget::start("127.0.0.1:0", LENGTH)
}

fn url(target: &RamTarget) -> TargetUrl {
    target.url().parse().expect("url")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(future)
}

fn config(target: &RamTarget, pattern: &str) -> LoadConfig {
    LoadConfig {
        pattern: pattern.parse().expect("pattern"),
        block_sizes: "4k,16k".parse().expect("sizes"),
        depth: 16,
        sessions: 2,
        duration: Duration::from_millis(700),
        ..LoadConfig::new(vec![url(target)])
    }
}

fn quiet(config: &LoadConfig) -> Result<LoadReport, LoadError> {
    run(config, |_| ControlFlow::Continue(()))
}

/// Runs a verifying load with one kind of fault, and then proves what it wrote.
fn verified(pattern: &str, fault: impl Fn(&Faults) -> &AtomicU32, every: u32) -> LoadReport {
    let target = target();
    let dir = tempfile::tempdir().expect("dir");
    let config = LoadConfig { verify: Some(dir.path().join("ledger")), ..config(&target, pattern) };
    fault(&target.faults).store(every, Relaxed);
    let report = quiet(&config).expect("no fault in the data");
    fault(&target.faults).store(0, Relaxed);
    let again = quiet(&config).expect("no fault in the data later");
    let verify = again.verify.expect("verified");
    assert!(verify.resumed && verify.checked_at_start > 0 && verify.checked_while_running > 0, "{verify:?}");
    report
}

#[test]
fn broken_connections_are_reconnects_and_never_errors() {
    let report = verified("mix:40", |faults| &faults.hang_up_every, 500);
    assert!(report.reconnects > 3 && report.errors == 0, "{report:?}");
    assert!(report.reconnect_kinds.iter().all(|kind| kind.what.starts_with("connection lost")));
}

#[test]
fn busy_and_unit_attentions_are_tried_again() {
    let report = verified("mix:40", |faults| &faults.busy_every, 100);
    assert!(report.retries > 3 && report.errors == 0 && report.reconnects == 0, "{report:?}");
    let report = verified("mix:40", |faults| &faults.attention_every, 100);
    assert!(report.retries > 3 && report.errors == 0 && report.reconnects == 0, "{report:?}");
}

#[test]
fn a_target_that_asks_for_a_logout_is_left_and_found_again() {
    let report = verified("mix:40", |faults| &faults.ask_to_leave_every, 500);
    assert!(report.reconnects > 0 && report.errors == 0, "{report:?}");
}

#[test]
fn medium_errors_are_counted_by_kind() {
    let target = target();
    target.faults.bad_medium_every.store(50, Relaxed);
    let report = quiet(&config(&target, "randread")).expect("a report");
    assert!(report.errors > 0 && report.errors < report.reads.commands);
    assert_eq!(report.error_kinds.len(), 1);
    assert_eq!(report.error_kinds[0].what, "the target reports MEDIUM ERROR 11h/00h");
}

#[test]
fn lost_writes_end_the_run_with_the_blocks_named() {
    let target = target();
    let dir = tempfile::tempdir().expect("dir");
    let verify = Some(dir.path().join("ledger"));
    let config = LoadConfig { verify, span: Some(1 << 20), ..config(&target, "mix:50") };
    target.faults.lose_every.store(300, Relaxed);
    match quiet(&config) {
        Err(LoadError::Verification(report)) => {
            let verify = report.verify.expect("verified");
            assert!(verify.fault_count > 0 && !verify.faults.is_empty());
            let fault = &verify.faults[0];
            assert!(fault.address < 1 << 20 && fault.expected.contains("generation"), "{fault:?}");
            assert!(fault.found.starts_with("stale") || fault.found.starts_with("missing"), "{fault:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ledger_of_another_volume_is_refused() {
    let target = target();
    let dir = tempfile::tempdir().expect("dir");
    let mut config = LoadConfig { verify: Some(dir.path().join("ledger")), ..config(&target, "write") };
    quiet(&config).expect("no fault");
    config.targets[0].lun = 1;
    assert!(matches!(quiet(&config), Err(LoadError::Ledger(_))));
}

#[test]
fn impossible_loads_are_refused_before_they_begin() {
    let target = target();
    let good = config(&target, "randread");
    for bad in
        [LoadConfig { span: Some(1 << 40), ..good.clone() }, LoadConfig { span: Some(8192), ..good.clone() }]
    {
        assert!(matches!(quiet(&bad), Err(LoadError::Config(_))), "{bad:?}");
    }
    let verify = Some(std::path::PathBuf::from("/nonexistent/ledger"));
    assert!(matches!(quiet(&LoadConfig { verify, ..good }), Err(LoadError::Ledger(_))));
}

#[test]
fn a_run_ends_early_when_the_caller_says_so() {
    let target = target();
    let config = LoadConfig { duration: Duration::from_secs(60), ..config(&target, "randread") };
    let report = run(&config, |_| ControlFlow::Break(())).expect("report");
    assert!(report.seconds < 10.0 && report.reads.commands > 0, "{report:?}");
}

#[test]
fn a_first_connection_is_waited_for_only_if_asked() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    let absent: TargetUrl = format!("iscsi://{free}/{}/0", ram::RAM_TARGET).parse().expect("url");
    let config = LoadConfig { duration: Duration::from_millis(100), ..LoadConfig::new(vec![absent]) };
    assert!(matches!(quiet(&config), Err(LoadError::Client(ClientError::Connect { .. }))));
    let waiting = LoadConfig { wait_for_target: true, ..config };
    let load = std::thread::spawn(move || quiet(&waiting));
    let (_sender, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(Duration::from_millis(300));
    RamTarget::start(&free.to_string(), LENGTH);
    assert!(load.join().expect("thread").expect("report").reads.commands > 0);
}

#[test]
fn a_session_that_does_not_come_back_ends_the_run_after_its_patience() {
    let target = target();
    target.faults.hold_block.store(8, Relaxed);
    let config = LoadConfig {
        span: Some(8192),
        block_sizes: "4k".parse().expect("size"),
        patience: Duration::from_millis(300),
        ..config(&target, "randread")
    };
    let error = quiet(&config).expect_err("a command is never answered");
    assert!(error.to_string().contains("no command was completed"), "{error}");
}

#[test]
fn aborted_commands_return_and_the_session_lives_on() {
    let target = target();
    target.faults.hold_block.store(64, Relaxed);
    block_on(async {
        let client = Client::connect(&url(&target), &LinkOptions::default()).await.expect("login");
        let mut cdb = [0; 16];
        (cdb[0], cdb[5], cdb[8]) = (0x28, 64, 1);
        let held = client.start(Command::read(client.lun(), cdb, 512)).await.expect("sent");
        client.ping().await.expect("NOP is not held up by I/O");
        let function = TaskManagementFunction::AbortTask;
        let response = client.task_management(function, Some(held.task)).await.expect("answer");
        assert_eq!(response, TaskManagementResponse::Complete);
        assert!(matches!(held.completion().await, Err(ClientError::Aborted)));
        let one = client.start(Command::read(client.lun(), cdb, 512)).await.expect("sent");
        let reset = client.task_management(TaskManagementFunction::LogicalUnitReset, None).await;
        assert_eq!(reset.expect("answer"), TaskManagementResponse::Complete);
        assert!(matches!(one.completion().await, Err(ClientError::Aborted)));
        client.write(8, Bytes::from(vec![7; 512]), true).await.expect("write");
        assert_eq!(client.read(8, 1).await.expect("read")[..], [7; 512]);
        client.unmap(&[(0, 8)]).await.expect("unmap");
    });
}

#[test]
fn a_lost_connection_fails_every_command_in_flight() {
    let target = target();
    target.faults.hold_block.store(64, Relaxed);
    block_on(async {
        let client = Client::connect(&url(&target), &LinkOptions::default()).await.expect("login");
        client.capacity().await.expect("capacity");
        let held = tokio::spawn({
            let client = client.clone();
            async move { client.read(64, 1).await }
        });
        client.ping().await.expect("ping");
        target.faults.hang_up_every.store(1, Relaxed);
        let hung_up = client.read(0, 1).await.expect_err("hung up");
        assert!(hung_up.is_path_failure(), "{hung_up}");
        assert!(held.await.expect("task").expect_err("lost too").is_path_failure());
        assert!(client.test_unit_ready().await.expect_err("over").is_path_failure());
    });
}

/// Not a test by itself: the process that the next test kills.
#[test]
#[ignore = "runs only as a child of another test"]
fn child_under_load() {
    let (Ok(url), Ok(ledger)) = (std::env::var("CHILD_URL"), std::env::var("CHILD_LEDGER")) else { return };
    let config = LoadConfig {
        pattern: "randwrite".parse().expect("pattern"),
        block_sizes: "4k-64k".parse().expect("sizes"),
        sessions: 2,
        duration: Duration::from_secs(60),
        verify: Some(ledger.into()),
        ..LoadConfig::new(vec![url.parse().expect("url")])
    };
    quiet(&config).expect("no fault");
}

#[test]
fn a_load_generator_killed_at_any_moment_goes_on_from_its_ledger() {
    const ROUNDS: u64 = 8;
    let target = target();
    let dir = tempfile::tempdir().expect("dir");
    let ledger = dir.path().join("ledger");
    let (_sender, never) = std::sync::mpsc::channel::<()>();
    for round in 0..ROUNDS {
        let mut child = std::process::Command::new(std::env::current_exe().expect("path"))
            .args(["child_under_load", "--exact", "--ignored"])
            .env("CHILD_URL", target.url())
            .env("CHILD_LEDGER", &ledger)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("child");
        let _ = never.recv_timeout(Duration::from_millis(150 + 37 * round));
        if round + 1 == ROUNDS {
            // From here on writes are carried out and not answered, so that the kill meets some.
            target.faults.hang_up_every.store(1, Relaxed);
            let _ = never.recv_timeout(Duration::from_millis(250));
        }
        assert!(child.try_wait().expect("state").is_none(), "it ended by itself, with a fault");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    target.faults.hang_up_every.store(0, Relaxed);
    let last = LoadConfig { verify: Some(ledger), ..config(&target, "mix:50") };
    let verify = quiet(&last).expect("no fault").verify.expect("verified");
    assert!(verify.resumed && verify.checked_at_start > 500, "{verify:?}");
    assert!(verify.unacknowledged_found > 0, "writes were in flight: {verify:?}");
}
