//! Commands and their data between the two roles, over every shape of negotiated limits (RFC 7143 §4.2.5).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use bytes::Bytes;
use common::*;
use iscsi::initiator::{Command, Residual};
use iscsi::parameters::{DigestOffer, Offer};
use iscsi::pdu::ScsiStatus;
use iscsi::target::{self, Config, Response};

/// Reads and writes of many sizes come through whole, whatever the limits and the fragments.
fn move_data(offer: Offer, target: Config, fragments: &[usize]) {
    let mut pair = pair_with(target, offer);
    pair.fragments = fragments.to_vec();
    for blocks in [1_u16, 7, 8, 128, 513, 2048] {
        let len = usize::from(blocks) * 512;
        let data = pattern(len);
        pair.initiator.submit(Command::write(LUN, write_cdb(blocks), data.clone()));
        let read = u32::try_from(len).unwrap();
        pair.initiator.submit(Command::read(LUN, read_cdb(blocks), read));
        pair.run();
        for command in commands(&mut pair) {
            let response = if command.cdb.bytes()[0] == 0x2a {
                assert_eq!(command.expected_data_out, read);
                let written: Vec<u8> = command.data_out.iter().flatten().copied().collect();
                assert!(written == data, "{blocks} blocks were written wrong");
                Response::good(Vec::new())
            } else {
                // In two pieces, the cut at no boundary of anything.
                Response::good(vec![data.slice(..len / 3), data.slice(len / 3..)])
            };
            pair.target.respond(command.task, response);
        }
        pair.run();
        let done = completions(&mut pair);
        assert_eq!(done.len(), 2);
        for completion in done {
            assert_eq!(completion.status, ScsiStatus::Good);
            assert_eq!(completion.residual, Residual::None);
            assert!(completion.data_in.is_empty() || completion.data_in == data);
        }
        assert_eq!((pair.target.tasks(), pair.initiator.tasks()), (0, 0));
    }
}

#[test]
fn defaults() {
    move_data(Offer::default(), Config::default(), &[]);
}

#[test]
fn in_fragments() {
    move_data(Offer::default(), Config::default(), &[1, 47, 2, 4096, 3, 100_000]);
}

#[test]
fn with_digests() {
    let offer =
        Offer { header_digest: DigestOffer::Crc32c, data_digest: DigestOffer::Crc32c, ..Offer::default() };
    move_data(offer.clone(), Config::default(), &[]);
    move_data(offer, Config::default(), &[1, 5000, 49, 3]);
}

#[test]
fn only_solicited_data() {
    let offer = Offer {
        immediate_data: false,
        initial_r2t: true,
        max_burst_length: 4096,
        max_recv_data_segment_length: 1024,
        max_outstanding_r2t: 1,
        ..Offer::default()
    };
    move_data(offer, Config::default(), &[]);
}

#[test]
fn unsolicited_data_without_immediate_data() {
    let offer = Offer { immediate_data: false, first_burst_length: 2048, ..Offer::default() };
    move_data(offer, Config::default(), &[]);
}

#[test]
fn immediate_data_with_initial_r2t() {
    let offer = Offer { initial_r2t: true, first_burst_length: 1000, ..Offer::default() };
    move_data(offer, Config::default(), &[]);
}

#[test]
fn smallest_segments_and_bursts() {
    let offer = Offer {
        max_recv_data_segment_length: 512,
        max_burst_length: 512,
        first_burst_length: 512,
        max_outstanding_r2t: 65535,
        ..Offer::default()
    };
    let limits = offer.clone();
    move_data(offer, Config { offer: limits, ..Config::default() }, &[]);
}

#[test]
fn a_small_budget_for_write_data_delays_and_loses_nothing() {
    let config = Config { write_buffer_bytes: 100_000, ..Config::default() };
    let mut pair = pair_with(config, Offer { first_burst_length: 512, ..Offer::default() });
    let data = pattern(65536);
    for _ in 0..20 {
        pair.initiator.submit(Command::write(LUN, write_cdb(128), data.clone()));
    }
    let mut done = 0;
    while done < 20 {
        pair.run();
        let arrived = commands(&mut pair);
        // One command's worth fits the budget at a time.
        assert!(!arrived.is_empty() && arrived.len() <= 2, "{}", arrived.len());
        for command in arrived {
            let written: Vec<u8> = command.data_out.iter().flatten().copied().collect();
            assert!(written == data);
            pair.target.respond(command.task, Response::good(Vec::new()));
            done += 1;
        }
    }
    pair.run();
    assert_eq!(completions(&mut pair).len(), 20);
}

/// §11.4.5: what the sizes expected and given do to the residual. Sizes as libiscsi's tests have them.
#[test]
fn s11_4_5_residuals_of_reads() {
    for (expected, given, len, residual) in [
        (0, 512, 0, Residual::Overflow(512)),
        (10000, 512, 512, Residual::Underflow(9488)),
        (200, 512, 200, Residual::Overflow(312)),
        (512, 1024, 512, Residual::Overflow(512)),
        (512, 512, 512, Residual::None),
        (512, 0, 0, Residual::Underflow(512)),
    ] {
        let mut pair = pair();
        pair.initiator.submit(Command::read(LUN, read_cdb(1), expected));
        pair.run();
        for command in commands(&mut pair) {
            pair.target.respond(command.task, Response::good(vec![pattern(given)]));
        }
        pair.run();
        let done = completions(&mut pair).remove(0);
        assert_eq!((done.status, done.data_in.len(), done.residual), (ScsiStatus::Good, len, residual));
        assert_eq!(done.data_in, pattern(given)[..len]);
    }
}

#[test]
fn s11_4_5_residuals_of_writes() {
    for (sent, blocks, kept, residual) in [
        (1024, 1, 512, Residual::Underflow(512)),
        (512, 2, 512, Residual::Overflow(512)),
        (10000, 1, 512, Residual::Underflow(9488)),
        (200, 1, 200, Residual::Overflow(312)),
    ] {
        for initial_r2t in [false, true] {
            let immediate_data = !initial_r2t;
            let mut pair =
                pair_with(Config::default(), Offer { initial_r2t, immediate_data, ..Offer::default() });
            pair.initiator.submit(Command::write(LUN, write_cdb(blocks), pattern(sent)));
            pair.run();
            let command = commands(&mut pair).remove(0);
            let written: Vec<u8> = command.data_out.iter().flatten().copied().collect();
            assert_eq!(written, pattern(sent)[..kept]);
            pair.target.respond(command.task, Response::good(Vec::new()));
            pair.run();
            assert_eq!(completions(&mut pair).remove(0).residual, residual, "{sent} bytes, {blocks} blocks");
        }
    }
}

#[test]
fn s11_4_7_sense_data_comes_with_check_condition_and_partial_data() {
    let mut pair = pair();
    pair.initiator.submit(Command::read(LUN, read_cdb(2), 1024));
    pair.run();
    let command = commands(&mut pair).remove(0);
    let sense = Bytes::from_static(&[0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0]);
    let mut response = Response::check_condition(sense.clone());
    response.data_in = vec![pattern(512)];
    pair.target.respond(command.task, response);
    pair.run();
    let done = completions(&mut pair).remove(0);
    assert_eq!((done.status, done.sense), (ScsiStatus::CheckCondition, sense));
    assert_eq!((done.data_in, done.residual), (pattern(512), Residual::Underflow(512)));
}

#[test]
fn many_commands_at_once_respect_the_window() {
    let config = Config { command_window: 4, ..Config::default() };
    let mut pair = pair_with(config, Offer::default());
    for _ in 0..50 {
        pair.initiator.submit(Command::read(LUN, read_cdb(8), 4096));
    }
    let mut done = 0;
    while done < 50 {
        pair.run();
        let arrived = commands(&mut pair);
        assert!((1..=4).contains(&arrived.len()), "{}", arrived.len());
        for command in arrived {
            pair.target.respond(command.task, Response::good(vec![pattern(4096)]));
            done += 1;
        }
    }
    pair.run();
    assert_eq!(completions(&mut pair).len(), 50);
}

/// Incident: short answers were taken for read data that had gone out, so that a slow host's unsent reads
/// were not counted against the bound.
#[test]
fn unsent_data_is_what_the_queued_reads_still_hold() {
    let mut wire = Wire::logged_in(Config::default(), &["MaxRecvDataSegmentLength=4096"]);
    assert_eq!(wire.target.unsent_data(), 0);
    let cmd_sn = wire.command(1, 0xc1, read_cdb(32), 16384, &[]);
    wire.command(2, 0xc1, read_cdb(16), 8192, &[]);
    for command in wire.commands() {
        let len = usize::try_from(command.expected_data_in).unwrap();
        wire.target.respond(command.task, target::Response::good(vec![pattern(len)]));
    }
    wire.ping(wire.cmd_sn, 3, &[0; 4096]);
    assert_eq!(wire.target.unsent_data(), 24576);
    // The ping's answer goes first and is no read data.
    let mut out = std::collections::VecDeque::new();
    wire.target.poll_transmit(&mut out, 1);
    assert_eq!(wire.target.unsent_data(), 24576);
    wire.target.poll_transmit(&mut out, 1);
    assert_eq!(wire.target.unsent_data(), 24576 - 4096);
    // An aborted read is let go of when its turn comes.
    wire.task_management(4, 1, 1, cmd_sn);
    wire.receive();
    assert_eq!(wire.target.unsent_data(), 0);
}
