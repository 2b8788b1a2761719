//! What the protocol costs a command: cutting PDUs out of a stream, and a 4 KiB read and write
//! through a target connection.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iscsi::initiator::{self, Command};
use iscsi::pair::{Pair, SimpleSizer};
use iscsi::parameters::{DigestOffer, Offer};
use iscsi::target::{self, Event, Response};
use iscsi::{HeapPool, Lun};

const DEPTH: usize = 32;
const LUN: Lun = Lun([0; 8]);
const READ_8_BLOCKS: [u8; 16] = [0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
const WRITE_8_BLOCKS: [u8; 16] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];

fn logged_in(digests: bool) -> Pair {
    let digest = if digests { DigestOffer::Crc32c } else { DigestOffer::None };
    let offer = Offer { header_digest: digest, data_digest: digest, ..Offer::default() };
    let config = initiator::Config { offer, ..initiator::Config::normal("iqn.x:i", "iqn.x:t") };
    let mut pair = Pair::new(target::Config::default(), config, SimpleSizer);
    pair.run();
    pair.initiator_events.clear();
    pair
}

/// Bytes of `DEPTH` commands as an initiator sends them.
fn burst(host: &mut initiator::Connection<HeapPool>, command: &Command) -> Vec<u8> {
    for _ in 0..DEPTH {
        host.submit(command.clone());
    }
    let mut out = VecDeque::new();
    host.poll_transmit(&mut out, 1 << 30);
    out.into_iter().flatten().collect()
}

fn receive(target: &mut target::Connection<HeapPool>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let space = target.recv_space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        target.received(count, Duration::ZERO, &SimpleSizer);
    }
}

/// The target's whole part in `DEPTH` commands; the initiator's bytes are made outside the clock.
fn target_side(criterion: &mut Criterion, name: &str, command: &Command, data_in: &Bytes, digests: bool) {
    let mut group = criterion.benchmark_group("target");
    group.throughput(Throughput::Elements(u64::try_from(DEPTH).unwrap_or_default()));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut pair = logged_in(digests);
            let mut spent = Duration::ZERO;
            let mut out = VecDeque::new();
            for _ in 0..rounds {
                let bytes = burst(&mut pair.initiator, command);
                let start = std::time::Instant::now();
                receive(&mut pair.target, &bytes);
                while let Some(event) = pair.target.poll_event() {
                    if let Event::Command(command) = event {
                        let data = if data_in.is_empty() { Vec::new() } else { vec![data_in.clone()] };
                        pair.target.respond(command.task, Response::good(data));
                    }
                }
                pair.target.poll_transmit(&mut out, 1 << 30);
                black_box(&out);
                spent += start.elapsed();
                pair.to_initiator.extend(out.drain(..).flatten());
                pair.run();
                pair.initiator_events.clear();
            }
            spent
        });
    });
    group.finish();
}

fn target_commands(criterion: &mut Criterion) {
    let block = Bytes::from(vec![7; 4096]);
    let read = Command::read(LUN, READ_8_BLOCKS, 4096);
    let write = Command::write(LUN, WRITE_8_BLOCKS, block.clone());
    target_side(criterion, "read 4 KiB", &read, &block, false);
    target_side(criterion, "write 4 KiB", &write, &Bytes::new(), false);
    target_side(criterion, "read 4 KiB, digests", &read, &block, true);
    target_side(criterion, "write 4 KiB, digests", &write, &Bytes::new(), true);
    target_side(criterion, "no data", &Command::new(LUN, [0; 16]), &Bytes::new(), false);
}

/// Both roles and the pipe between them.
fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair");
    group.throughput(Throughput::Elements(u64::try_from(DEPTH).unwrap_or_default()));
    let block = Bytes::from(vec![7; 4096]);
    group.bench_function("read 4 KiB round trip", |bencher| {
        let mut pair = logged_in(false);
        bencher.iter(|| {
            for _ in 0..DEPTH {
                pair.initiator.submit(Command::read(LUN, READ_8_BLOCKS, 4096));
            }
            pair.run();
            while let Some(event) = pair.target_events.pop_front() {
                if let Event::Command(command) = event {
                    pair.target.respond(command.task, Response::good(vec![block.clone()]));
                }
            }
            pair.run();
            assert_eq!(pair.initiator_events.drain(..).count() % DEPTH, 0);
        });
    });
    group.finish();
}

/// Cutting a stream of PDUs that lead to nothing: NOP-Outs that ask for no answer.
fn decode(criterion: &mut Criterion) {
    let mut stream = Vec::new();
    for _ in 0..1000 {
        let mut nop = [0_u8; 48];
        nop[0] = 0x40;
        nop[1] = 0x80;
        nop[16..24].fill(0xff);
        stream.extend_from_slice(&nop);
    }
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 PDUs without data", |bencher| {
        let mut pair = logged_in(false);
        bencher.iter(|| receive(&mut pair.target, &stream));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(500));
    targets = decode, target_commands, round_trip
}
criterion_main!(benches);
