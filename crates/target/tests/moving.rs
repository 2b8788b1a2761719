//! Hosts that are asked to leave, and logins that are sent elsewhere (RFC 7143 §11.9, §11.13.5).

#![allow(clippy::disallowed_methods, reason = "tests keep their own time")]

mod common;

use common::*;
use iscsi::initiator::CloseReason;
use iscsi::pdu::{LoginStatus, ScsiStatus};
use std::time::{Duration, Instant};
use target::{LoginRefusal, SessionId};

#[tokio::test]
async fn a_login_is_sent_where_the_directory_says() {
    let bench = Bench::new();
    let address = "192.0.2.7:3260".parse().unwrap();
    for (permanent, status) in [(false, LoginStatus::MovedTemporarily), (true, LoginStatus::MovedPermanently)]
    {
        *bench.directory.refusal.lock() = Some(LoginRefusal::Moved { permanent, address });
        let refused = soon(bench.try_login(HOST, 1)).await.err();
        let address = Some("192.0.2.7:3260".to_owned());
        assert_eq!(refused, Some(CloseReason::LoginRefused { status, address }));
    }
    assert!(bench.server.sessions().is_empty());
    *bench.directory.refusal.lock() = None;
    soon(bench.ready(1)).await;
}

/// RFC 7143 §11.9.1: what is under way is answered before the host leaves; nothing is lost.
#[tokio::test]
async fn a_host_asked_to_log_out_does_so_when_its_commands_are_answered() {
    let bench = Bench::new();
    let mut client = soon(bench.ready(1)).await;
    bench.volume.hang(true);
    let write = client.start(write16(0, 8, 7)).await;
    bench.volume.until_under_way(1).await;
    let session = bench.server.sessions()[0].id;
    assert!(!bench.server.request_logout(SessionId(u64::MAX), Duration::from_secs(9)), "no such session");
    assert!(bench.server.request_logout(session, Duration::from_secs(60)));
    soon(client.ping()).await;
    assert_eq!(bench.server.sessions().len(), 1, "its write is under way");
    bench.volume.hang(false);
    assert_eq!(soon(client.end_of(write)).await.expect("an answer").status, ScsiStatus::Good);
    soon(client.until_closed()).await;
    assert_eq!(client.closed, Some(CloseReason::AskedToLeave));
    eventually(|| bench.server.sessions().is_empty()).await;
}

/// A host that does not react is dropped when its time is over.
#[tokio::test]
async fn a_host_that_does_not_log_out_is_dropped() {
    let bench = Bench::new();
    let client = soon(bench.ready(1)).await;
    let began = Instant::now();
    assert!(bench.server.request_logout(bench.server.sessions()[0].id, Duration::from_secs(1)));
    eventually(|| bench.server.sessions().is_empty()).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    drop(client);
}

/// At shutdown hosts log out by themselves, and nothing has to be cut off.
#[tokio::test]
async fn a_shutdown_lets_hosts_log_out() {
    let bench = Bench::new();
    let mut client = soon(bench.ready(1)).await;
    let leaving = async {
        client.until_closed().await;
        client.closed.clone()
    };
    let (all_left, closed) =
        soon(async { tokio::join!(bench.server.shutdown(Duration::from_secs(15)), leaving) }).await;
    assert!(all_left);
    assert_eq!(closed, Some(CloseReason::AskedToLeave));
}
