//! The initiator goes where a target sends it, and comes back when it was asked to leave.

#[path = "support/ram.rs"]
#[allow(dead_code, reason = "shared by several test programs")]
mod ram;

use core::time::Duration;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use initiator::{Client, ClientError, LinkOptions, TargetUrl};
use ram::RamTarget;

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time") })
}

fn url(target: &RamTarget) -> TargetUrl {
    target.url().parse().expect("url")
}

/// RFC 7143 §11.13.5: a redirection leads to another portal, and that to a third.
#[test]
fn a_login_follows_where_it_is_sent() {
    let portals: [RamTarget; 3] = core::array::from_fn(|_| RamTarget::start("127.0.0.1:0", 1 << 20));
    for (from, to) in portals.iter().zip(&portals[1..]) {
        *from.faults.redirect.lock().expect("lock") = Some((to.address.to_string(), 1));
    }
    run(async {
        let client = Client::connect(&url(&portals[0]), &LinkOptions::default()).await.expect("login");
        client.write(8, Bytes::from(vec![7; 512]), false).await.expect("write");
        let last = Client::connect(&url(&portals[2]), &LinkOptions::default()).await.expect("login");
        assert_eq!(last.read(8, 1).await.expect("read"), vec![7; 512], "it went to the third");
    });
}

#[test]
fn portals_that_send_logins_in_a_circle_are_given_up() {
    let portals: [RamTarget; 2] = core::array::from_fn(|_| RamTarget::start("127.0.0.1:0", 1 << 20));
    for (from, to) in [(0, 1), (1, 0)] {
        *portals[from].faults.redirect.lock().expect("lock") =
            Some((portals[to].address.to_string(), u32::MAX));
    }
    let refused = run(Client::connect(&url(&portals[0]), &LinkOptions::default()));
    assert!(matches!(refused, Err(ClientError::RedirectedTooOften { .. })), "{refused:?}");
}

#[test]
fn a_redirection_to_nowhere_is_an_error() {
    let portal = RamTarget::start("127.0.0.1:0", 1 << 20);
    *portal.faults.redirect.lock().expect("lock") = Some(("[nonsense".to_owned(), u32::MAX));
    let refused = run(Client::connect(&url(&portal), &LinkOptions::default()));
    assert!(matches!(refused, Err(ClientError::ConnectionLost { .. })), "{refused:?}");
}

/// RFC 7143 §11.9.1: every 20th command asks for a logout. Callers notice nothing: commands that were not sent
/// are sent over the next connection.
#[test]
fn a_client_asked_to_leave_logs_in_again_and_goes_on() {
    let target = RamTarget::start("127.0.0.1:0", 1 << 20);
    target.faults.ask_to_leave_every.store(20, Relaxed);
    run(async {
        let client = Client::connect(&url(&target), &LinkOptions::default()).await.expect("login");
        let mut writes = tokio::task::JoinSet::new();
        for lba in 1..=200_u8 {
            let client = client.clone();
            writes.spawn(async move { client.write(lba.into(), Bytes::from(vec![lba; 512]), false).await });
        }
        for written in writes.join_all().await {
            written.expect("a write");
        }
        for lba in 1..=200_u8 {
            assert_eq!(client.read(lba.into(), 1).await.expect("read"), vec![lba; 512]);
        }
        client.ping().await.expect("ping");
    });
}
