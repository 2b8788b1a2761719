//! Logins that have to prove something, over real sockets: CHAP, and what an attacker can do without a secret.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use iscsi::chap::{Account, Answers, Credential, NONCE_BYTES, Nonce, Secret};
use iscsi::initiator::{CloseReason, Config as InitiatorConfig};
use iscsi::pdu::{self, Header, LoginStatus, ScsiStatus};
use iscsi::{Cid, Isid};
use std::sync::atomic::{AtomicU8, Ordering};
use target::{Authentication, AuthenticationCounts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SECRET: &str = "twelve bytes at least";
const OWN_SECRET: &str = "another secret, of the target";

fn credential(name: &str, secret: &str) -> Credential {
    Credential { name: name.to_owned(), secret: Secret::new(secret) }
}

fn own() -> Credential {
    credential("san", OWN_SECRET)
}

fn chap(secret: &str) -> Authentication {
    let account = Account { initiator: credential("host", secret), target: Some(own()) };
    Authentication::Chap { accounts: vec![account], optional: false }
}

/// A server whose target and discovery demand CHAP.
fn guarded() -> Bench {
    let bench = Bench::new();
    *bench.directory.authentication.lock() = vec![chap(SECRET)];
    *bench.directory.discovery.lock() = chap(SECRET);
    bench
}

fn nonce() -> Nonce {
    static SEED: AtomicU8 = AtomicU8::new(1);
    Nonce::new([SEED.fetch_add(1, Ordering::Relaxed); NONCE_BYTES])
}

fn config(isid: u8, secret: &str, target: Option<Credential>) -> InitiatorConfig {
    let mut config = InitiatorConfig::normal(HOST, TARGET);
    config.isid = Isid([0x80, 0, 0, 0, 0, isid]);
    config.chap = Some(Answers { own: credential("host", secret), target, nonce: nonce() });
    config
}

async fn refusal(bench: &Bench, config: InitiatorConfig) -> LoginStatus {
    match soon(Client::connect(bench.address(), config)).await.err() {
        Some(CloseReason::LoginRefused { status, .. }) => status,
        other => panic!("{other:?} instead of a refusal"),
    }
}

async fn connect(bench: &Bench, config: InitiatorConfig) -> Client {
    soon(Client::connect(bench.address(), config)).await.expect("login")
}

#[tokio::test]
async fn right_wrong_mutual_and_none() {
    let bench = guarded();
    let mut one_way = connect(&bench, config(1, SECRET, None)).await;
    soon(one_way.ping()).await;
    let mut mutual = connect(&bench, config(2, SECRET, Some(own()))).await;
    soon(mutual.ping()).await;
    assert_eq!(refusal(&bench, config(3, "wrong", None)).await, LoginStatus::AuthenticationFailure);
    let without = InitiatorConfig { chap: None, ..config(3, SECRET, None) };
    assert_eq!(refusal(&bench, without).await, LoginStatus::AuthenticationFailure);
    let counts = AuthenticationCounts { failed: 2, limited: 0 };
    assert_eq!(bench.server.status().authentication, counts);
    assert_eq!(bench.server.sessions().len(), 2);
}

#[tokio::test]
async fn discovery_has_a_demand_of_its_own() {
    let bench = guarded();
    *bench.directory.authentication.lock() = Vec::new();
    let discovery = |secret| InitiatorConfig { target_name: None, ..config(1, secret, Some(own())) };
    let mut client = connect(&bench, discovery(SECRET)).await;
    assert_eq!(soon(client.targets()).await.len(), 1);
    assert_eq!(refusal(&bench, discovery("wrong")).await, LoginStatus::AuthenticationFailure);
    connect(&bench, InitiatorConfig { chap: None, ..config(1, SECRET, None) }).await;
}

/// RFC 7143 §6.3.5: a login with the ISID of a session takes its place. Who only claims a name takes nothing.
#[tokio::test]
async fn who_has_proven_nothing_takes_no_sessions_place() {
    let bench = guarded();
    let mut client = connect(&bench, config(1, SECRET, None)).await;
    assert_eq!(soon(client.run(test_unit_ready())).await.status, ScsiStatus::CheckCondition);
    assert_eq!(refusal(&bench, config(1, "wrong", None)).await, LoginStatus::AuthenticationFailure);
    let mut joining = config(1, "wrong", None);
    (joining.tsih, joining.cid) = (bench.server.sessions()[0].tsih, Cid(1));
    assert_eq!(refusal(&bench, joining).await, LoginStatus::AuthenticationFailure);
    assert_eq!(soon(client.run(write16(0, 8, 1))).await.status, ScsiStatus::Good, "the session lives");
    connect(&bench, config(1, SECRET, None)).await;
    soon(client.until_closed()).await;
}

#[tokio::test]
async fn guessing_comes_to_an_end_and_the_wrong_host_alone_pays() {
    let bench = guarded();
    for _ in 0..5 {
        assert_eq!(refusal(&bench, config(1, "wrong", None)).await, LoginStatus::AuthenticationFailure);
    }
    assert_eq!(refusal(&bench, config(1, "wrong", None)).await, LoginStatus::ServiceUnavailable);
    assert_eq!(refusal(&bench, config(1, SECRET, None)).await, LoginStatus::ServiceUnavailable);
    let other = InitiatorConfig { initiator_name: format!("{HOST}2"), ..config(1, SECRET, None) };
    connect(&bench, other).await;
    let counts = AuthenticationCounts { failed: 5, limited: 2 };
    assert_eq!(bench.server.status().authentication, counts);
}

/// What was demanded when the login began is no longer what is demanded when it has been proven.
#[tokio::test]
async fn a_secret_changed_in_the_middle_of_a_login_has_to_be_proven_anew() {
    let bench = guarded();
    *bench.directory.authentication.lock() = vec![chap(SECRET), chap("the new secret of it")];
    assert_eq!(refusal(&bench, config(1, SECRET, None)).await, LoginStatus::AuthenticationFailure);
    connect(&bench, config(1, "the new secret of it", None)).await;
    *bench.directory.authentication.lock() = vec![Authentication::None, chap(SECRET)];
    let without = InitiatorConfig { chap: None, ..config(2, SECRET, None) };
    assert_eq!(refusal(&bench, without).await, LoginStatus::AuthenticationFailure);
}

/// Sends a login request by hand, and returns the text of the answer.
async fn step(stream: &mut TcpStream, cmd: u32, keys: &[&str]) -> String {
    let text: Vec<u8> = keys.iter().flat_map(|key| key.bytes().chain([0])).collect();
    let header = pdu::LoginRequest {
        opcode: 0x43,
        flags: 0,
        isid: [0x80, 0, 0, 0, 0, 9],
        cid: 1.into(),
        itt: 7.into(),
        cmd_sn: cmd.into(),
        data_length: pdu::U24::new(u32::try_from(text.len()).unwrap()),
        ..pdu::LoginRequest::blank()
    };
    let mut bytes = [header.bytes().as_slice(), &text].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    stream.write_all(&bytes).await.unwrap();
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[36..38], [0, 0], "{answer:?}");
    let length = usize::from(answer[6]) << 8 | usize::from(answer[7]);
    let mut text = vec![0; length.next_multiple_of(4)];
    stream.read_exact(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

/// RFC 7143 §12.1.3 and §9.2.1: a challenge got on one connection is not answered on another, though the one who asks
/// there has proven itself.
#[tokio::test]
async fn our_challenge_is_not_answered_on_a_second_connection() {
    let bench = guarded();
    let mut victim = TcpStream::connect(bench.address()).await.unwrap();
    let (name, target) = (format!("InitiatorName={HOST}"), format!("TargetName={TARGET}"));
    soon(step(&mut victim, 1, &[&name, &target, "AuthMethod=CHAP"])).await;
    let answer = soon(step(&mut victim, 1, &["CHAP_A=8"])).await;
    let challenge = answer.split('\0').find_map(|pair| pair.strip_prefix("CHAP_C=0x")).unwrap();
    let mut random = [0; NONCE_BYTES];
    for (at, byte) in random[1..].iter_mut().enumerate() {
        *byte = u8::from_str_radix(&challenge[2 * at..2 * at + 2], 16).unwrap();
    }
    let mut reflecting = config(1, SECRET, Some(own()));
    reflecting.chap.as_mut().unwrap().nonce = Nonce::new(random);
    assert_eq!(refusal(&bench, reflecting).await, LoginStatus::AuthenticationFailure);
    assert!(bench.server.sessions().is_empty());
    connect(&bench, config(1, SECRET, Some(own()))).await;
}
