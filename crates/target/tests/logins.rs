//! Who gets in, who must go for it, and who stays: logins over real sockets.

mod common;

use common::*;
use iscsi::initiator::{CloseReason, Config as InitiatorConfig};
use iscsi::pdu::{LoginStatus, ScsiStatus, TaskManagementFunction};
use iscsi::{Cid, Isid};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn config(host: &str, target: &str, isid: u8) -> InitiatorConfig {
    let mut config = InitiatorConfig::normal(host, target);
    config.isid = Isid([0x80, 0, 0, 0, 0, isid]);
    config
}

async fn refusal(bench: &Bench, config: InitiatorConfig) -> LoginStatus {
    match soon(Client::connect(bench.address(), config)).await.err() {
        Some(CloseReason::LoginRefused { status, .. }) => status,
        other => panic!("{other:?} instead of a refusal"),
    }
}

/// RFC 7143 §4.2.7.2: names are equal whatever their case. A granted host logged in with the target's name in upper
/// case, and revoking found no session of that target.
#[tokio::test]
async fn a_name_in_upper_case_is_revoked_like_any_other() {
    let bench = Bench::new();
    let shouted = config(&HOST.to_uppercase(), &TARGET.to_uppercase(), 1);
    let mut client = soon(Client::connect(bench.address(), shouted)).await.unwrap();
    soon(client.ping()).await;
    bench.directory.refused.lock().push(HOST.to_owned());
    bench.server.target_changed(&TARGET.to_uppercase());
    soon(client.until_closed()).await;
    eventually(|| bench.server.sessions().is_empty()).await;
}

/// Promise 7: a host that came back with its name in another case was not waited for.
#[tokio::test]
async fn a_name_in_another_case_takes_the_place_of_its_old_session() {
    let bench = Bench::new();
    let mut first = bench.ready(1).await;
    bench.volume.hang(true);
    first.start(write16(0, 8, 1)).await;
    bench.volume.until_under_way(1).await;
    let mixed = config(&HOST.to_uppercase(), TARGET, 1);
    let mut second = soon(Client::connect(bench.address(), mixed)).await.unwrap();
    soon(first.until_closed()).await;
    let ready = second.start(test_unit_ready()).await;
    soon(second.ping()).await;
    assert!(!second.has_ended(ready), "its first command waits for the old session's write");
    bench.volume.hang(false);
    soon(second.end_of(ready)).await.expect("an answer");
    assert_eq!(bench.volume.writes.lock().len(), 1);
}

/// A login into an existing session took effect before anything was known of whoever asked.
#[tokio::test]
async fn only_who_may_log_in_can_join_a_session() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    let tsih = bench.server.sessions()[0].tsih;
    let joining = |target: &str, cid: u16| {
        let mut joining = config(HOST, target, 1);
        (joining.tsih, joining.cid) = (tsih, Cid(cid));
        joining
    };
    let elsewhere = joining("iqn.2026-01.io.palisade:other", 1);
    assert_eq!(refusal(&bench, elsewhere).await, LoginStatus::NotFound);
    // RFC 7143 §13.2: a second connection of a session that has one and agreed on one.
    assert_eq!(refusal(&bench, joining(TARGET, 2)).await, LoginStatus::TooManyConnections);
    bench.directory.refused.lock().push(HOST.to_owned());
    assert_eq!(refusal(&bench, joining(TARGET, 1)).await, LoginStatus::AuthorizationFailure);
    assert_eq!(soon(client.run(write16(0, 8, 1))).await.status, ScsiStatus::Good, "the session lives");
    bench.directory.refused.lock().clear();
    // RFC 7143 §6.3.4: the same connection, made anew.
    let mut again = soon(Client::connect(bench.address(), joining(TARGET, 1))).await.expect("reinstatement");
    soon(client.until_closed()).await;
    soon(again.ping()).await;
    assert_eq!(bench.server.sessions()[0].tsih, tsih);
}

/// A revoke between the decision on a login and the session's place in the registry reached nobody.
#[tokio::test]
async fn a_revoke_in_the_middle_of_a_login_is_not_missed() {
    let bench = Bench::new();
    bench.directory.revokes_after_next.store(true, Ordering::SeqCst);
    let login = soon(Client::connect_to(bench.address(), config(HOST, TARGET, 1))).await;
    assert!(login.is_none_or(|login| login.is_err()), "nobody is let in");
    eventually(|| bench.server.sessions().is_empty() && bench.unit.session_count() == 0).await;
}

#[tokio::test]
async fn discovery_does_not_last() {
    let bench = Bench::with(|config| config.discovery_time_max = Duration::from_millis(50));
    let discovery = InitiatorConfig::discovery(HOST);
    let mut looking = soon(Client::connect(bench.address(), discovery)).await.unwrap();
    soon(looking.until_closed()).await;
    let mut client = bench.ready(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    soon(client.ping()).await;
}

/// With a disk that hung, each attempt to log in again left a session behind, until there was room for none.
#[tokio::test]
async fn a_stuck_disk_leaves_one_session_however_often_the_host_comes_back() {
    let bench = Bench::with(|config| config.limits.sessions_per_initiator_max = 2);
    let mut first = bench.ready(1).await;
    bench.volume.hang(true);
    first.start(write16(0, 8, 1)).await;
    bench.volume.until_under_way(1).await;
    drop(first);
    for _ in 0..5 {
        let mut again = soon(bench.login(HOST, 1)).await;
        again.start(test_unit_ready()).await;
        drop(again);
    }
    eventually(|| bench.server.status().connections == 0).await;
    eventually(|| bench.server.sessions().len() == 1).await;
    let mut last = soon(bench.login(HOST, 1)).await;
    let ready = last.start(test_unit_ready()).await;
    soon(last.ping()).await;
    assert!(!last.has_ended(ready), "it still waits for the very first one");
    bench.volume.hang(false);
    soon(last.end_of(ready)).await.expect("an answer");
}

/// RFC 7143 §11.5.1: after TARGET COLD RESET the connections are closed. One to a host that died, with answers that
/// it never took, stayed until TCP gave up.
#[tokio::test]
async fn a_cold_reset_does_not_wait_for_a_host_that_reads_nothing() {
    let bench = Bench::with(|config| {
        config.close_timeout = Duration::from_millis(100);
        config.socket_buffer_bytes = Some(8 << 10);
    });
    let (mut dead, mut one) = (bench.ready(1).await, bench.ready(2).await);
    for _ in 0..8 {
        dead.start(read16(0, 8192)).await;
    }
    eventually(|| bench.server.status().bytes_in_flight > 0).await;
    one.start_function(TaskManagementFunction::TargetColdReset, None).await;
    soon(one.until_closed()).await;
    eventually(|| bench.server.sessions().is_empty()).await;
    drop(dead);
}
