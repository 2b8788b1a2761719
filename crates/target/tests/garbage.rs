//! Promise 9 on a real socket: whatever arrives, the server neither stops, nor panics, nor keeps memory, nor
//! disturbs a session beside it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::*;
use iscsi::initiator::{Config as InitiatorConfig, Connection};
use iscsi::pdu::ScsiStatus;
use iscsi::{HeapPool, Lun};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A seeded source of numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

fn quick(config: &mut target::Config) {
    config.connection.login_timeout = Duration::from_secs(2);
    config.close_timeout = Duration::from_millis(200);
    config.linger = Duration::from_millis(50);
}

/// Sends `bytes`, waits a little for answers, and goes.
async fn throw(bench: &Bench, bytes: &[u8]) {
    let mut stream = TcpStream::connect(bench.address()).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let _ = tokio::time::timeout(Duration::from_millis(3), stream.read(&mut [0; 4096])).await;
}

/// What a correct initiator sends from its login on, up to the first answer it needs.
fn login_bytes() -> Vec<u8> {
    let mut config = InitiatorConfig::normal(HOST, TARGET);
    // Far from the identifier of the session beside, whose place it would take.
    config.isid = iscsi::Isid([0x80, 0, 0, 0, 7, 7]);
    let mut connection = Connection::new(config, HeapPool, Duration::ZERO);
    let mut chunks = VecDeque::new();
    while connection.poll_transmit(&mut chunks, 1 << 20) > 0 {}
    Vec::from(chunks).concat()
}

async fn still_serves(bench: &Bench, beside: &mut Client) {
    assert_eq!(soon(beside.run(write16(0, 8, 1))).await.status, ScsiStatus::Good);
    let status = bench.server.status();
    assert_eq!(status.panics, 0);
    let mut late = soon(bench.login(HOST, 99)).await;
    soon(late.ping()).await;
    drop(late);
    eventually(|| bench.server.status().connections == 1 && bench.server.sessions().len() == 1).await;
    assert_eq!(bench.server.status().bytes_in_flight, 0, "no memory stays behind");
}

#[tokio::test]
async fn random_bytes() {
    let bench = Bench::with(quick);
    let mut beside = bench.ready(1).await;
    let mut random = Random(0x5eed);
    for _ in 0..200 {
        let len = random.below(5000);
        throw(&bench, &random.bytes(len)).await;
    }
    still_serves(&bench, &mut beside).await;
}

#[tokio::test]
async fn truncated_and_mutated_logins() {
    let bench = Bench::with(quick);
    let mut beside = bench.ready(1).await;
    let login = login_bytes();
    assert!(login.len() > 48);
    for end in (0..login.len()).step_by(7) {
        throw(&bench, &login[..end]).await;
    }
    for at in 0..login.len() {
        for value in [0x00, 0xff, login[at] ^ 0x01, login[at] ^ 0x80] {
            let mut mutated = login.clone();
            mutated[at] = value;
            throw(&bench, &mutated).await;
        }
    }
    still_serves(&bench, &mut beside).await;
}

/// Full-feature PDUs with random headers, after a proper login on the same connection.
#[tokio::test]
async fn mutated_commands_in_a_session() {
    let bench = Bench::with(quick);
    let mut beside = bench.ready(1).await;
    let mut random = Random(0xbad5eed);
    for round in 0..300u32 {
        let mut client = soon(bench.login(HOST, 2)).await;
        for _ in 0..random.below(4) {
            client.start(read16(random.next() % 1000, 8)).await;
        }
        let mut header = random.bytes(48);
        // Half of them look like commands, Data-Out, task management, NOP, text or logout.
        if round % 2 == 0 {
            header[0] = [0x01, 0x05, 0x02, 0x00, 0x04, 0x06, 0x10, 0x41, 0x42, 0x40][random.below(10)];
            header[4] = 0;
            header[5] = 0;
            header[6] = 0;
            header[8..16].copy_from_slice(&Lun::default().0);
        }
        client.send_raw(&header).await;
        let body = random.below(2000);
        client.send_raw(&random.bytes(body)).await;
        let _ = tokio::time::timeout(Duration::from_millis(3), client.until_closed()).await;
    }
    still_serves(&bench, &mut beside).await;
}
