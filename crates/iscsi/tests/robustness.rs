//! Promise 9: input from the network never panics, allocates without bound, or loops.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use iscsi::initiator::{self, Command};
use iscsi::pair::SimpleSizer;
use iscsi::parameters::{DigestOffer, Offer};
use iscsi::pdu::{self, Header, TaskManagementFunction};
use iscsi::target::{self, Config, Event, LoginAccept, Response, TargetRecord};
use iscsi::{PayloadPool, PortalGroupTag, Tsih};
use proptest::prelude::*;

/// Counts the bytes it has lent out.
#[derive(Clone, Default)]
struct CountingPool(Arc<AtomicUsize>);

struct CountedBuf(Vec<u8>, Arc<AtomicUsize>);

impl Drop for CountedBuf {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for CountedBuf {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for CountedBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl PayloadPool for CountingPool {
    type Buf = CountedBuf;

    fn take(&self, len: usize) -> CountedBuf {
        self.0.fetch_add(len, Ordering::Relaxed);
        CountedBuf(vec![0; len], self.0.clone())
    }
}

fn small() -> Config {
    Config {
        command_window: 8,
        write_buffer_bytes: 64 << 10,
        offer: Offer { first_burst_length: 8192, ..Offer::default() },
        ..Config::default()
    }
}

/// The most a target of `small` may hold: first bursts of the window, held commands and immediate
/// commands, the budget, and one command of any length (WRITE(10) of 65535 blocks).
const LENT_BYTES_MAX: usize = (8 + 8 + 16) * 65536 + (64 << 10) + 65535 * 512;

/// Feeds `bytes` to a target whose caller answers everything, in pieces of `piece`.
fn feed_target(bytes: &[u8], piece: usize, answer: bool) {
    let pool = CountingPool::default();
    let mut target = target::Connection::new(small(), pool.clone(), Duration::ZERO);
    let mut now = Duration::ZERO;
    let mut out = std::collections::VecDeque::new();
    let mut rest = bytes;
    while !rest.is_empty() && !target.is_closed() {
        now += Duration::from_millis(10);
        let space = target.recv_space();
        let count = space.len().min(rest.len()).min(piece);
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        target.received(count, now, &SimpleSizer);
        let mut events = 0;
        while let Some(event) = target.poll_event() {
            events += 1;
            assert!(events < 100_000, "events without end");
            if answer {
                respond(&mut target, event);
            }
        }
        let mut sent = 0;
        while target.poll_transmit(&mut out, 64 << 10) > 0 {
            sent += 1;
            assert!(sent < 10_000, "output without end");
            out.clear();
        }
        assert!(pool.0.load(Ordering::Relaxed) <= LENT_BYTES_MAX);
        if let Some(due) = target.poll_timeout().filter(|due| *due <= now) {
            target.handle_timeout(due);
        }
    }
}

fn respond(target: &mut target::Connection<CountingPool>, event: Event) {
    match event {
        Event::LoginRequested(_) | Event::LoginProven(_) => target.login_accept(LoginAccept {
            tsih: Tsih(1),
            portal_group_tag: PortalGroupTag(1),
            target_alias: None,
        }),
        Event::SendTargets(_) => {
            target.send_targets(&[TargetRecord { name: TARGET.to_owned(), addresses: Vec::new() }]);
        }
        Event::Command(command) => {
            let len = usize::try_from(command.expected_data_in.min(100_000)).unwrap();
            target.respond(command.task, Response::good(vec![Bytes::from(vec![1; len])]));
        }
        Event::TaskManagement(function) => {
            target.task_management_response(function.id, iscsi::pdu::TaskManagementResponse::Complete);
        }
        Event::LogoutRequested(_) => target.logout_accept(),
        Event::SessionEstablished(_)
        | Event::AuthenticationFailed(_)
        | Event::Ended(_)
        | Event::Closed(_) => {}
    }
}

/// What a busy initiator sends and a target answers, byte for byte.
fn conversation(digests: bool) -> (Vec<u8>, Vec<u8>) {
    let digest = if digests { DigestOffer::Crc32c } else { DigestOffer::None };
    let offer = Offer {
        header_digest: digest,
        data_digest: digest,
        first_burst_length: 1024,
        max_recv_data_segment_length: 2048,
        ..Offer::default()
    };
    let config = initiator::Config { offer, ..initiator::Config::normal(INITIATOR, TARGET) };
    let mut pair = iscsi::pair::Pair::new(small(), config, SimpleSizer);
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    let mut started = false;
    loop {
        let mut chunks = std::collections::VecDeque::new();
        pair.initiator.poll_transmit(&mut chunks, 1 << 20);
        let request: Vec<u8> = chunks.drain(..).flatten().collect();
        pair.target.poll_transmit(&mut chunks, 1 << 20);
        let response: Vec<u8> = chunks.drain(..).flatten().collect();
        sent.extend_from_slice(&request);
        answered.extend_from_slice(&response);
        let quiet = request.is_empty() && response.is_empty();
        pair.to_target.extend(request);
        pair.to_initiator.extend(response);
        pair.step();
        // `step` moves what comes next, too: record nothing twice.
        let commands = commands(&mut pair);
        for command in &commands {
            let len = usize::try_from(command.expected_data_in).unwrap();
            pair.target.respond(command.task, Response::good(vec![pattern(len)]));
        }
        if !started && !pair.initiator_events.is_empty() {
            started = true;
            pair.initiator.submit(Command::read(LUN, read_cdb(9), 4608));
            pair.initiator.submit(Command::write(LUN, write_cdb(20), pattern(10240)));
            pair.initiator.submit(Command::write(LUN, write_cdb(1), pattern(512)));
            pair.initiator.nop(Bytes::from_static(b"ping"));
            pair.initiator.send_targets();
            pair.initiator.task_management(TaskManagementFunction::LogicalUnitReset, LUN, None);
        } else if quiet && commands.is_empty() {
            return (sent, answered);
        }
    }
}

fn feed_initiator(bytes: &[u8], piece: usize) {
    let config = initiator::Config::normal(INITIATOR, TARGET);
    let mut host = initiator::Connection::new(config, CountingPool::default(), Duration::ZERO);
    for _ in 0..4 {
        host.submit(Command::read(LUN, read_cdb(9), 4608));
        host.submit(Command::write(LUN, write_cdb(20), pattern(10240)));
    }
    host.send_targets();
    let mut out = std::collections::VecDeque::new();
    let mut rest = bytes;
    while !rest.is_empty() && !host.is_closed() {
        let space = host.recv_space();
        let count = space.len().min(rest.len()).min(piece);
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        host.received(count, Duration::ZERO);
        while host.poll_event().is_some() {}
        let mut sent = 0;
        while host.poll_transmit(&mut out, 64 << 10) > 0 {
            sent += 1;
            assert!(sent < 10_000, "output without end");
            out.clear();
        }
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Flip(usize, u8),
    Cut(usize, usize),
    Repeat(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = 0_usize..100_000;
    prop_oneof![
        4 => (place.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        4 => (place.clone(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => (place.clone(), 1_usize..200).prop_map(|(at, len)| Mutation::Cut(at, len)),
        1 => (place, 1_usize..500).prop_map(|(at, len)| Mutation::Repeat(at, len)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        let len = bytes.len();
        match *mutation {
            Mutation::Set(at, byte) => bytes[at % len] = byte,
            Mutation::Flip(at, bit) => bytes[at % len] ^= 1 << bit,
            Mutation::Cut(at, count) if len > count + 100 => {
                bytes.drain(at % (len - count)..at % (len - count) + count);
            }
            Mutation::Cut(..) => {}
            Mutation::Repeat(at, count) => {
                let at = at % len;
                let piece = bytes[at..len.min(at + count)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Headers of all kinds with fields that matter half right, behind a good login.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        4 => prop::sample::select(vec![0x00_u8, 0x01, 0x02, 0x04, 0x05, 0x40, 0x41, 0x42, 0x44, 0x06, 0x46, 0x10]),
        1 => any::<u8>(),
    ];
    let small = || prop_oneof![4 => 0_u32..6, 1 => Just(u32::MAX), 1 => any::<u32>()];
    let cmd_sn = prop_oneof![6 => 100_u32..112, 1 => any::<u32>()];
    let data_len = prop_oneof![3 => Just(0_usize), 3 => 1_usize..600, 1 => 600_usize..9000];
    let cdb = prop_oneof![Just(write_cdb(2)), Just(write_cdb(300)), Just(read_cdb(4)), any::<[u8; 16]>()];
    (opcode, any::<u8>(), small(), small(), cmd_sn, small(), data_len, cdb).prop_map(
        |(opcode, bits, itt, ttt, cmd_sn, offset, data_len, cdb)| {
            let mut bhs = [0; 48];
            bhs[0] = opcode;
            bhs[1] = bits;
            bhs[16..20].copy_from_slice(&itt.to_be_bytes());
            bhs[20..24].copy_from_slice(&ttt.to_be_bytes());
            bhs[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
            if opcode & 0x3f == 1 {
                bhs[22..24].copy_from_slice(&[16, 0]);
                bhs[32..48].copy_from_slice(&cdb);
            } else {
                bhs[36..40].copy_from_slice(&ttt.to_be_bytes());
                bhs[40..44].copy_from_slice(&(offset.wrapping_mul(512)).to_be_bytes());
            }
            encode(&bhs, &[], &vec![7; data_len])
        },
    )
}

fn login_bytes() -> Vec<u8> {
    let header = iscsi::pdu::LoginRequest {
        opcode: 0x43,
        flags: 0x87,
        cmd_sn: 100.into(),
        ..<iscsi::pdu::LoginRequest as iscsi::pdu::Header>::blank()
    };
    let keys = [
        format!("InitiatorName={INITIATOR}"),
        format!("TargetName={TARGET}"),
        "InitialR2T=No".to_owned(),
        "MaxOutstandingR2T=4".to_owned(),
    ];
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    encode(iscsi::pdu::Header::bytes(&header), &[], &text(&keys))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_into_a_target(bytes in prop::collection::vec(any::<u8>(), 1..2000), piece in 1_usize..3000) {
        feed_target(&bytes, piece, true);
    }

    #[test]
    fn random_bytes_into_an_initiator(bytes in prop::collection::vec(any::<u8>(), 1..2000), piece in 1_usize..3000) {
        feed_initiator(&bytes, piece);
    }

    #[test]
    fn random_bytes_behind_a_login(bytes in prop::collection::vec(any::<u8>(), 1..5000), piece in 1_usize..3000) {
        let mut all = login_bytes();
        all.extend(bytes);
        feed_target(&all, piece, true);
    }

    #[test]
    fn plausible_pdus_behind_a_login(
        pdus in prop::collection::vec(header(), 1..60),
        piece in prop_oneof![1_usize..100, Just(100_000)],
        answer in any::<bool>(),
    ) {
        let mut all = login_bytes();
        all.extend(pdus.concat());
        feed_target(&all, piece, answer);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_conversations(
        mutations in prop::collection::vec(mutation(), 0..6),
        digests in any::<bool>(),
        piece in prop_oneof![1_usize..100, Just(100_000)],
    ) {
        let (mut sent, mut answered) = conversation(digests);
        mutate(&mut sent, &mutations);
        mutate(&mut answered, &mutations);
        feed_target(&sent, piece, true);
        feed_initiator(&answered, piece);
    }
}

/// Every byte of a login and a few commands, set to every value of a byte that could matter.
#[test]
fn every_byte_of_a_session_changed() {
    let (sent, answered) = conversation(false);
    let header_bytes = sent.len().min(2500);
    for at in 0..header_bytes {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = sent.clone();
            bytes[at] = value;
            feed_target(&bytes, usize::MAX, true);
        }
    }
    for at in 0..answered.len().min(2500) {
        for value in [0, 1, 0x80, 0xff] {
            let mut bytes = answered.clone();
            bytes[at] = value;
            feed_initiator(&bytes, usize::MAX);
        }
    }
}

/// Incident: before this, anyone who could connect ended the process: a discovery session, as many pings
/// as the window has places in one segment, and one more half the number space ahead.
#[test]
fn s4_2_2_1_a_ping_half_the_number_space_ahead_of_a_shut_window_is_ignored() {
    for open in [0_u32, 1] {
        for far in [0x7fff_ffff_u32, 0x8000_0000, 0x8000_0001, u32::MAX] {
            let mut wire = Wire::new(Config::default());
            wire.send_login(1, Some(3), &[&format!("InitiatorName={INITIATOR}"), "SessionType=Discovery"]);
            wire.accept();
            wire.receive();
            let window = Config::default().command_window;
            // Nothing is fetched, so the window does not open again.
            for count in open..window {
                wire.ping(100 + count - open, count, b"ping");
            }
            let expected = 100 + window - open;
            wire.ping(expected.wrapping_add(far), 7, b"ping");
            assert!(!wire.target.is_closed());
            assert_eq!(wire.receive().len(), usize::try_from(window - open).unwrap());
            // What was answered opened it.
            wire.ping(expected, 8, b"ping");
            let answer: pdu::NopIn = wire.receive_one().as_a();
            assert_eq!((answer.itt.get(), answer.exp_cmd_sn.get()), (8, expected + 1));
        }
    }
}

/// Incident: what was held ahead of its turn counted against a session after its logout had let go of it.
#[test]
fn s11_14_a_logout_forgets_what_was_held_ahead_of_its_turn() {
    let mut wire = Wire::logged_in(Config::default(), &["MaxRecvDataSegmentLength=65536"]);
    let hold = |wire: &mut Wire| {
        for ahead in 1..=6 {
            wire.ping(wire.cmd_sn + ahead, ahead, &[0; 8192]);
        }
    };
    hold(&mut wire);
    let logout = pdu::LogoutRequest {
        opcode: 0x06 | pdu::IMMEDIATE,
        flags: 0x80,
        itt: 9.into(),
        cmd_sn: wire.cmd_sn.into(),
        ..pdu::LogoutRequest::blank()
    };
    wire.send(logout.bytes(), &[]);
    assert!(matches!(wire.events()[..], [Event::LogoutRequested(_)]));
    hold(&mut wire);
    assert!(!wire.target.is_closed());
    wire.target.logout_accept();
    let reply: pdu::LogoutReply = wire.receive_one().as_a();
    assert_eq!((reply.itt.get(), reply.response), (9, 0));
}
