//! The client and the load generator against a target that is not ours: what they do right by
//! themselves, and not because both ends share a mistake.

mod support;

use core::ops::ControlFlow;
use core::time::Duration;

use bytes::Bytes;
use initiator::load::{LoadConfig, LoadError, LoadReport, run};
use initiator::{Client, ClientError, Digests, LinkOptions, TargetUrl};
use support::{TARGET, Tgt, pause};

const DISK_BYTES: u64 = 64 << 20;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(future)
}

fn pattern(length: usize, seed: u8) -> Bytes {
    (0..length).map(|at| (at / 512) as u8 ^ (at as u8).wrapping_mul(31) ^ seed).collect()
}

fn quiet(config: &LoadConfig) -> Result<LoadReport, LoadError> {
    run(config, |_| ControlFlow::Continue(()))
}

#[test]
fn discovery_finds_the_target() {
    let Some(tgt) = Tgt::start(DISK_BYTES) else { return };
    let portal: TargetUrl = format!("iscsi://127.0.0.1:{}", tgt.port).parse().expect("url");
    let targets = block_on(Client::discover(&portal, &LinkOptions::default())).expect("discovery");
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].name, TARGET);
    assert!(targets[0].addresses.iter().any(|at| at.contains(&tgt.port.to_string())), "{targets:?}");
}

#[test]
fn refused_logins_and_unreachable_portals_say_why() {
    let Some(tgt) = Tgt::start(DISK_BYTES) else { return };
    let mut url = tgt.url();
    url.iqn = "iqn.2026-01.io.palisade.test:absent".to_owned();
    let error = block_on(Client::connect(&url, &LinkOptions::default())).expect_err("no such target");
    assert!(matches!(error, ClientError::LoginRefused { class: 2, .. }), "{error}");
    url.port = 1;
    let error = block_on(Client::connect(&url, &LinkOptions::default())).expect_err("nobody there");
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
}

#[test]
fn data_comes_back_as_written_with_every_choice_of_digests() {
    let Some(tgt) = Tgt::start(DISK_BYTES) else { return };
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        block_on(async {
            let digests = Digests { header, data };
            let options = LinkOptions { digests, ..LinkOptions::default() };
            let client = Client::connect(&tgt.url(), &options).await.expect("login");
            assert_eq!(client.parameters().header_digest, header);
            assert_eq!(client.parameters().data_digest, data);
            let capacity = client.capacity().await.expect("capacity");
            assert_eq!(capacity.bytes(), Some(DISK_BYTES));
            for (lba, length) in [(0, 512), (1, 4096), (100, 65536), (1000, 1 << 20), (5, 12 * 512)] {
                let wanted = pattern(length, u8::from(header) + 7);
                client.write(lba, wanted.clone(), false).await.expect("write");
                let blocks = u32::try_from(length / 512).expect("blocks");
                assert!(client.read(lba, blocks).await.expect("read") == wanted, "{length} bytes at {lba}");
            }
            client.flush().await.expect("flush");
            client.ping().await.expect("ping");
            client.log_out().await;
        });
    }
}

#[test]
fn a_failing_command_tells_its_sense_and_the_session_lives_on() {
    let Some(tgt) = Tgt::start(DISK_BYTES) else { return };
    block_on(async {
        let client = Client::connect(&tgt.url(), &LinkOptions::default()).await.expect("login");
        let blocks = client.capacity().await.expect("capacity").blocks;
        match client.read(blocks, 1).await {
            Err(ClientError::CheckCondition { sense }) => {
                assert_eq!((sense.key, sense.code, sense.qualifier), (5, 0x21, 0), "LBA OUT OF RANGE");
            }
            other => panic!("{other:?}"),
        }
        client.test_unit_ready().await.expect("ready");
        assert_eq!(&client.inquiry(None).await.expect("inquiry")[8..11], b"IET");
    });
}

#[test]
fn hundreds_of_commands_fly_at_once() {
    let Some(tgt) = Tgt::start(DISK_BYTES) else { return };
    block_on(async {
        let client = Client::connect(&tgt.url(), &LinkOptions::default()).await.expect("login");
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..300u64 {
            let client = client.clone();
            tasks.spawn(async move {
                let wanted = pattern(8192, number as u8);
                client.write(number * 16, wanted.clone(), false).await.expect("write");
                client.read(number * 16, 16).await.expect("read") == wanted
            });
        }
        assert!(tasks.join_all().await.into_iter().all(|equal| equal));
    });
}

#[test]
fn a_load_is_measured() {
    let Some(tgt) = Tgt::start(DISK_BYTES) else { return };
    let config = LoadConfig {
        pattern: "mix:50".parse().expect("pattern"),
        block_sizes: "4k,64k".parse().expect("sizes"),
        sessions: 2,
        depth: 8,
        duration: Duration::from_millis(1500),
        ..LoadConfig::new(vec![tgt.url()])
    };
    let mut glances = Vec::new();
    let report = run(&config, |progress| {
        glances.push(progress.clone());
        ControlFlow::Continue(())
    });
    let report = report.expect("report");
    assert_eq!((report.errors, report.reconnects), (0, 0), "{report:?}");
    assert!(report.reads.commands > 100 && report.writes.commands > 100, "{report:?}");
    assert!((1.4..2.0).contains(&report.seconds));
    let latency = &report.reads.latency;
    assert!(0.0 < latency.min_us && latency.min_us <= latency.p50_us && latency.p999_us <= latency.max_us);
    assert!(glances.iter().any(|glance| glance.connected == 2 && glance.iops > 0.0), "{glances:?}");
    serde_json::to_string(&report).expect("a report is JSON");
}

/// The proof in small: the target dies again and again under a verifying load, and the load
/// generator is started anew on the same file.
#[test]
fn a_target_killed_under_load_shows_reconnects_and_no_fault() {
    let Some(mut tgt) = Tgt::start(DISK_BYTES) else { return };
    let dir = tempfile::tempdir().expect("dir");
    let config = LoadConfig {
        pattern: "mix:30".parse().expect("pattern"),
        block_sizes: "4k-64k".parse().expect("sizes"),
        sessions: 3,
        depth: 8,
        duration: Duration::from_secs(4),
        verify: Some(dir.path().join("ledger")),
        ..LoadConfig::new(vec![tgt.url()])
    };
    let load = {
        let config = config.clone();
        std::thread::spawn(move || quiet(&config))
    };
    for _ in 0..3 {
        pause(Duration::from_secs(1));
        tgt.kill_and_restart();
    }
    let report = load.join().expect("load thread").expect("no fault");
    assert!(report.reconnects >= 3, "{report:?}");
    assert_eq!(report.errors, 0, "{:?}", report.error_kinds);
    assert!(report.longest_stall_ms > 50.0, "a death is seen as a stall");
    let again = quiet(&LoadConfig { duration: Duration::from_millis(200), ..config }).expect("no fault");
    let verify = again.verify.expect("verified");
    assert!(verify.resumed && verify.checked_at_start > 100, "{verify:?}");
}

#[test]
fn a_block_changed_behind_the_targets_back_is_reported() {
    let Some(tgt) = Tgt::start(DISK_BYTES) else { return };
    let dir = tempfile::tempdir().expect("dir");
    let config = LoadConfig {
        pattern: "write".parse().expect("pattern"),
        duration: Duration::from_millis(500),
        verify: Some(dir.path().join("ledger")),
        ..LoadConfig::new(vec![tgt.url()])
    };
    quiet(&config).expect("no fault");
    block_on(async {
        let client = Client::connect(&tgt.url(), &LinkOptions::default()).await.expect("login");
        let neighbour = client.read(8, 8).await.expect("read");
        client.write(0, neighbour, false).await.expect("write");
    });
    match quiet(&config) {
        Err(LoadError::Verification(report)) => {
            let verify = report.verify.expect("verified");
            assert_eq!(verify.fault_count, 1, "{verify:?}");
            assert_eq!(verify.faults[0].address, 0);
            assert!(verify.faults[0].found.starts_with("misplaced"), "{verify:?}");
        }
        other => panic!("{other:?}"),
    }
}
