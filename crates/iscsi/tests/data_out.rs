//! Data from the initiator, and what becomes of a command whose data is wrong (RFC 7143 §7.8, §11.7, §11.8).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::VecDeque;

use common::*;
use iscsi::initiator::{self, Command};
use iscsi::pair::Pair;
use iscsi::parameters::{DigestOffer, Offer};
use iscsi::pdu::{self, Opcode, RejectReason, flags};
use iscsi::target::{CloseReason, Config, Event, Response};

const WRITE: u8 = 0xa1;
/// F clear: unsolicited data follows.
const WRITE_MORE: u8 = 0x21;
const NONE: u32 = u32::MAX;

const SOLICITED: [&str; 4] =
    ["InitialR2T=Yes", "ImmediateData=No", "MaxBurstLength=1024", "MaxOutstandingR2T=2"];
const UNSOLICITED: [&str; 3] = ["InitialR2T=No", "ImmediateData=Yes", "FirstBurstLength=1024"];

/// ASC and ASCQ of an ABORTED COMMAND that ends `itt`.
#[track_caller]
fn aborted(wire: &mut Wire, itt: u32) -> [u8; 2] {
    let pdu = wire.receive_one();
    let response: pdu::ScsiResponse = pdu.as_a();
    assert_eq!((response.itt.get(), response.status), (itt, 2));
    assert_eq!(pdu.data[..5], [0, 18, 0x70, 0, 0x0b]);
    assert!(wire.commands().is_empty());
    [pdu.data[14], pdu.data[15]]
}

fn r2ts(wire: &mut Wire) -> Vec<pdu::ReadyToTransfer> {
    wire.receive().iter().map(|pdu| pdu.as_a()).collect()
}

#[test]
fn s11_8_several_r2ts_are_outstanding_and_bursts_keep_their_length() {
    let mut wire = Wire::logged_in(Config::default(), &SOLICITED);
    wire.command(1, WRITE, write_cdb(5), 2560, &[]);
    let asked = r2ts(&mut wire);
    let shape: Vec<_> = asked
        .iter()
        .map(|r2t| (r2t.r2t_sn.get(), r2t.buffer_offset.get(), r2t.desired_length.get()))
        .collect();
    assert_eq!(shape, [(0, 0, 1024), (1, 1024, 1024)]);
    let data = pattern(2560);
    // The second is answered first: fine, each has its own numbers.
    wire.data_out(1, asked[1].ttt.get(), 0, 1024, true, &data[1024..2048]);
    let third = r2ts(&mut wire).remove(0);
    assert_eq!((third.buffer_offset.get(), third.desired_length.get(), third.stat_sn.get()), (2048, 512, 2));
    wire.data_out(1, asked[0].ttt.get(), 0, 0, false, &data[..512]);
    wire.data_out(1, asked[0].ttt.get(), 1, 512, true, &data[512..1024]);
    assert!(wire.commands().is_empty());
    wire.data_out(1, third.ttt.get(), 0, 2048, true, &data[2048..]);
    let command = wire.commands().remove(0);
    let written: Vec<u8> = command.data_out.iter().flatten().copied().collect();
    assert!(written == data);
}

/// DataSN as libiscsi's iSCSIDataSnInvalid sends it: twice 0, 27, -1, and backwards.
#[test]
fn s11_7_5_a_wrong_data_sn_fails_the_command_after_its_last_data() {
    for numbers in [&[0, 0][..], &[27], &[u32::MAX], &[1, 0]] {
        for solicited in [false, true] {
            let keys = if solicited { &SOLICITED[..] } else { &["InitialR2T=No", "ImmediateData=No"] };
            let mut wire = Wire::logged_in(Config::default(), keys);
            let len = u32::try_from(numbers.len()).unwrap() * 512;
            let bits = if solicited { WRITE } else { WRITE_MORE };
            wire.command(1, bits, write_cdb(u16::try_from(len / 512).unwrap()), len, &[]);
            let ttt = r2ts(&mut wire).first().map_or(NONE, |r2t| r2t.ttt.get());
            for (at, number) in numbers.iter().enumerate() {
                assert!(wire.receive().is_empty(), "the response waits for the last data");
                let offset = u32::try_from(at * 512).unwrap();
                wire.data_out(1, ttt, *number, offset, at + 1 == numbers.len(), &[0; 512]);
            }
            assert_eq!(aborted(&mut wire, 1), [0x47, 0x05], "{numbers:?} {solicited}");
            assert_eq!(wire.target.tasks(), 0);
        }
    }
}

#[test]
fn s11_4_7_2_wrong_amounts_and_unexpected_data() {
    // More than asked for.
    let mut wire = Wire::logged_in(Config::default(), &SOLICITED);
    wire.command(1, WRITE, write_cdb(1), 512, &[]);
    let ttt = r2ts(&mut wire)[0].ttt.get();
    wire.data_out(1, ttt, 0, 0, true, &[0; 516]);
    assert_eq!(aborted(&mut wire, 1), [0x0c, 0x0d]);
    // Less than asked for.
    wire.command(2, WRITE, write_cdb(1), 512, &[]);
    let ttt = r2ts(&mut wire)[0].ttt.get();
    wire.data_out(2, ttt, 0, 0, true, &[0; 508]);
    assert_eq!(aborted(&mut wire, 2), [0x0c, 0x0d]);
    // Immediate data, though it was agreed there is none.
    wire.command(3, WRITE, write_cdb(1), 512, &[0; 512]);
    assert_eq!(aborted(&mut wire, 3), [0x0c, 0x0c]);
    // Unsolicited data, likewise; it is waited for.
    wire.command(4, WRITE_MORE, write_cdb(1), 512, &[]);
    assert!(wire.receive().is_empty());
    wire.data_out(4, NONE, 0, 0, true, &[0; 512]);
    assert_eq!(aborted(&mut wire, 4), [0x0c, 0x0c]);
    // More unsolicited data than FirstBurstLength.
    let mut wire = Wire::logged_in(Config::default(), &UNSOLICITED);
    wire.command(1, WRITE_MORE, write_cdb(4), 2048, &[0; 512]);
    wire.data_out(1, NONE, 0, 512, true, &[0; 516]);
    assert_eq!(aborted(&mut wire, 1), [0x0c, 0x0d]);
    wire.command(2, WRITE, write_cdb(4), 2048, &[0; 1028]);
    assert_eq!(aborted(&mut wire, 2), [0x0c, 0x0d]);
}

#[test]
fn s11_3_fewer_unsolicited_bytes_than_allowed_are_made_up_for_by_r2t() {
    let mut wire = Wire::logged_in(Config::default(), &UNSOLICITED);
    let data = pattern(2048);
    wire.command(1, WRITE_MORE, write_cdb(4), 2048, &data[..100]);
    wire.data_out(1, NONE, 0, 100, true, &data[100..200]);
    let r2t = r2ts(&mut wire).remove(0);
    assert_eq!((r2t.buffer_offset.get(), r2t.desired_length.get()), (200, 1848));
    wire.data_out(1, r2t.ttt.get(), 0, 200, true, &data[200..]);
    let written: Vec<u8> = wire.commands().remove(0).data_out.iter().flatten().copied().collect();
    assert!(written == data);
}

#[test]
fn s11_7_stray_data_is_dropped() {
    let mut wire = Wire::logged_in(Config::default(), &SOLICITED);
    wire.data_out(99, NONE, 0, 0, true, &[0; 512]);
    wire.data_out(99, 0x1234_5678, 0, 0, true, &[0; 512]);
    wire.command(1, WRITE, write_cdb(1), 512, &[]);
    let ttt = r2ts(&mut wire)[0].ttt.get();
    // Another task's tag, and a tag that was never given.
    wire.data_out(2, ttt, 0, 0, true, &[0; 512]);
    wire.data_out(1, ttt ^ 1, 0, 0, true, &[0; 512]);
    assert!(wire.receive().is_empty() && wire.commands().is_empty());
    wire.data_out(1, ttt, 0, 0, true, &[7; 512]);
    assert_eq!(wire.commands().remove(0).data_out[0], [7; 512][..]);
}

#[test]
fn data_for_a_command_that_takes_none_is_received_and_forgotten() {
    let mut wire = Wire::logged_in(Config::default(), &UNSOLICITED);
    wire.command(1, WRITE_MORE, [0; 16], 1024, &[1; 512]);
    assert!(wire.commands().is_empty());
    wire.data_out(1, NONE, 0, 512, true, &[1; 512]);
    let command = wire.commands().remove(0);
    assert!(command.data_out.is_empty());
    wire.target.respond(command.task, Response::good(Vec::new()));
    let response: pdu::ScsiResponse = wire.receive_one().as_a();
    assert_eq!((response.flags, response.residual.get()), (flags::FINAL | flags::UNDERFLOW, 1024));
}

#[test]
fn a_command_with_more_data_than_allowed_is_delivered_without_any() {
    let config = Config { data_out_bytes_max: 4096, ..Config::default() };
    let mut wire = Wire::logged_in(config, &UNSOLICITED);
    wire.command(1, WRITE, write_cdb(9), 4608, &[0; 512]);
    assert!(wire.receive().is_empty(), "no R2T");
    let command = wire.commands().remove(0);
    assert!(command.data_out.is_empty());
    assert_eq!(command.expected_data_out, 4608);
}

#[test]
fn s11_3_data_without_the_write_bit_is_an_invalid_field() {
    let mut wire = Wire::logged_in(Config::default(), &UNSOLICITED);
    wire.command(1, 0xc1, read_cdb(1), 512, &[0; 512]);
    let reject: pdu::Reject = wire.receive_one().as_a();
    assert_eq!(RejectReason(reject.reason), RejectReason::InvalidPduField);
}

#[test]
fn a_segment_longer_than_declared_ends_the_connection() {
    let offer = Offer { max_recv_data_segment_length: 4096, ..Offer::default() };
    let mut wire = Wire::logged_in(Config { offer, ..Config::default() }, &UNSOLICITED);
    wire.command(1, WRITE, write_cdb(16), 8192, &[0; 4100]);
    assert!(matches!(
        wire.events().pop(),
        Some(Event::Closed(CloseReason::Protocol(RejectReason::ProtocolError, _)))
    ));
}

/// Both digests on, and nothing sent yet in the full feature phase.
fn digests() -> Pair {
    let offer = Offer {
        header_digest: DigestOffer::Crc32c,
        data_digest: DigestOffer::Crc32c,
        initial_r2t: true,
        immediate_data: false,
        ..Offer::default()
    };
    pair_with(Config::default(), offer)
}

/// The bytes the initiator has to send now, put into the pipe with one byte of them changed.
fn send_damaged(pair: &mut Pair, at: usize) {
    let mut chunks = VecDeque::new();
    pair.initiator.poll_transmit(&mut chunks, 1 << 20);
    let mut bytes: Vec<u8> = chunks.into_iter().flatten().collect();
    bytes[at] ^= 0x10;
    pair.to_target.extend(bytes);
}

#[test]
fn s7_7_a_header_digest_error_ends_the_connection() {
    let mut pair = digests();
    pair.initiator.submit(Command::read(LUN, read_cdb(1), 512));
    send_damaged(&mut pair, 30);
    pair.run();
    assert!(matches!(pair.target_events.pop_front(), Some(Event::Closed(CloseReason::HeaderDigest))));
}

#[test]
fn s7_8_a_data_digest_error_fails_the_write_and_keeps_the_connection() {
    let mut pair = digests();
    pair.initiator.submit(Command::write(LUN, write_cdb(1), pattern(512)));
    let mut chunks = VecDeque::new();
    // The command goes, the R2T comes, the data is damaged.
    pair.initiator.poll_transmit(&mut chunks, 1 << 20);
    pair.to_target.extend(chunks.drain(..).flatten());
    while pair.to_initiator.is_empty() {
        let space = pair.target.recv_space();
        let count = pair.to_target.len().min(space.len());
        for (place, byte) in space.iter_mut().zip(pair.to_target.drain(..count)) {
            *place = byte;
        }
        pair.target.received(count, pair.now(), &iscsi::pair::SimpleSizer);
        pair.target.poll_transmit(&mut chunks, 1 << 20);
        pair.to_initiator.extend(chunks.drain(..).flatten());
    }
    let space = pair.initiator.recv_space();
    let count = pair.to_initiator.len();
    for (place, byte) in space.iter_mut().zip(pair.to_initiator.drain(..)) {
        *place = byte;
    }
    pair.initiator.received(count, pair.now());
    send_damaged(&mut pair, 52 + 100);
    pair.run();
    let rejected = pair.initiator_events.pop_front();
    let Some(initiator::Event::Rejected { reason, task: None, header }) = rejected else {
        panic!("{rejected:?}")
    };
    assert_eq!((reason, header[0]), (RejectReason::DataDigestError, Opcode::DataOut.0));
    let done = completions(&mut pair).remove(0);
    assert_eq!(done.sense[12..14], [0x47, 0x05]);
    assert!(commands(&mut pair).is_empty());
    // And the next one goes through.
    pair.initiator.submit(Command::write(LUN, write_cdb(1), pattern(512)));
    pair.run();
    assert_eq!(commands(&mut pair).remove(0).data_out[0], pattern(512));
}

#[test]
fn s7_8_damaged_immediate_data_leaves_the_cmd_sn_open() {
    let offer = Offer { data_digest: DigestOffer::Crc32c, ..Offer::default() };
    let mut pair = pair_with(Config::default(), offer);
    pair.initiator.submit(Command::write(LUN, write_cdb(1), pattern(512)));
    send_damaged(&mut pair, 48 + 5);
    pair.run();
    let Some(initiator::Event::Rejected { task: Some(_), .. }) = pair.initiator_events.pop_front() else {
        panic!()
    };
    assert_eq!(pair.target.tasks(), 0);
    // What follows waits for the one that is missing.
    pair.initiator.submit(Command::new(LUN, [0; 16]));
    pair.run();
    assert!(commands(&mut pair).is_empty());
}

/// Incident: many connections sent write headers at once, and their buffers went past the bound for all.
#[test]
fn a_command_there_is_no_room_for_takes_no_buffer_and_is_delivered_starved() {
    let mut wire = Wire::logged_in(Config::default(), &UNSOLICITED);
    wire.sizer.room = Some(1024);
    // Immediate and unsolicited data come all the same: read and forgotten.
    wire.command(1, WRITE_MORE, write_cdb(4), 2048, &[1; 512]);
    assert!(wire.commands().is_empty(), "its data is still coming");
    wire.data_out(1, NONE, 0, 512, true, &[1; 512]);
    assert!(wire.receive().is_empty(), "no R2T");
    let command = wire.commands().remove(0);
    assert!(command.starved && command.data_out.is_empty());
    assert_eq!(command.expected_data_out, 2048);
    wire.target.respond(command.task, Response::status(pdu::ScsiStatus::TaskSetFull));
    let response: pdu::ScsiResponse = wire.receive_one().as_a();
    assert_eq!(response.status, pdu::ScsiStatus::TaskSetFull.0);
    assert_eq!((response.flags, response.residual.get()), (flags::FINAL | flags::UNDERFLOW, 2048));
    // One that fits, and a command without data, are not touched by it.
    wire.command(2, WRITE, write_cdb(2), 1024, &[2; 1024]);
    wire.sizer.room = Some(0);
    wire.command(3, 0x81, [0; 16], 0, &[]);
    let commands = wire.commands();
    assert_eq!(commands.iter().map(|command| command.starved).collect::<Vec<_>>(), [false, false]);
    assert_eq!(commands[0].data_out[0], [2; 1024][..]);
}

/// Incident: a logical unit was reset by another host while a write still waited for its data.
#[test]
fn a_command_carries_the_stamp_of_its_header_not_of_its_data() {
    let mut wire = Wire::logged_in(Config::default(), &SOLICITED);
    wire.sizer.stamp = 7;
    wire.command(1, WRITE, write_cdb(1), 512, &[]);
    let ttt = r2ts(&mut wire)[0].ttt.get();
    wire.sizer.stamp = 8;
    wire.data_out(1, ttt, 0, 0, true, &[0; 512]);
    wire.command(2, 0x81, [0; 16], 0, &[]);
    let stamps: Vec<u64> = wire.commands().iter().map(|command| command.stamp).collect();
    assert_eq!(stamps, [7, 8]);
}

const ORDERED_WRITE_MORE: u8 = 0x22;
const ORDERED_WRITE: u8 = 0xa2;

/// A session whose budget for solicited data one write of eight blocks uses up, and in it write 1 of
/// four blocks: one has come, a second may come unasked. For the rest it has no buffer, as the budget was
/// used up when it came; it is free now.
fn without_its_buffer(bits: u8) -> Wire {
    let config = Config { write_buffer_bytes: 4096, ..Config::default() };
    let mut wire = Wire::logged_in(config, &UNSOLICITED);
    wire.command(9, WRITE, write_cdb(8), 4096, &[]);
    let ttt = r2ts(&mut wire)[0].ttt.get();
    wire.command(1, bits, write_cdb(4), 2048, &[0; 512]);
    wire.data_out(9, ttt, 0, 0, true, &[0; 4096]);
    let first = wire.commands().remove(0);
    wire.target.respond(first.task, Response::good(Vec::new()));
    let _: pdu::ScsiResponse = wire.receive_one().as_a();
    wire
}

/// Sends a write of eight blocks without immediate data, and its data.
fn write_eight_blocks(wire: &mut Wire, itt: u32, bits: u8) {
    wire.command(itt, bits, write_cdb(8), 4096, &[]);
    let asked = r2ts(wire);
    assert_eq!(asked.len(), 1, "the budget allows it");
    wire.data_out(itt, asked[0].ttt.get(), 0, 0, true, &[0; 4096]);
}

fn tags(wire: &mut Wire) -> Vec<u32> {
    wire.commands().iter().map(|command| command.initiator_task_tag.0).collect()
}

/// Incident: the write behind an ORDERED one took the whole budget, was complete and waited for the
/// ordered one, which waited for a part of the budget.
#[test]
fn an_ordered_write_gets_its_buffer_from_under_the_writes_behind_it() {
    for late in [false, true] {
        let mut wire = without_its_buffer(ORDERED_WRITE_MORE);
        if late {
            // The budget is gone and all of it is ready before the ordered one has to ask.
            write_eight_blocks(&mut wire, 2, WRITE);
            wire.data_out(1, NONE, 0, 512, true, &[0; 256]);
        } else {
            // The ordered one asks in vain while the data behind it is still coming.
            wire.command(2, WRITE, write_cdb(8), 4096, &[]);
            let ttt = r2ts(&mut wire)[0].ttt.get();
            wire.data_out(1, NONE, 0, 512, true, &[0; 256]);
            assert!(wire.receive().is_empty(), "no R2T: the budget is taken, and will come free");
            wire.data_out(2, ttt, 0, 0, true, &[0; 4096]);
        }
        let r2t = r2ts(&mut wire).remove(0);
        assert_eq!((r2t.itt.get(), r2t.buffer_offset.get(), r2t.desired_length.get()), (1, 768, 1280));
        assert!(wire.commands().is_empty());
        wire.data_out(1, r2t.ttt.get(), 0, 768, true, &[0; 1280]);
        assert_eq!(tags(&mut wire), [1, 2], "late: {late}");
    }
}

/// The same with the ORDERED one behind: it holds the budget and waits for a simple one ahead of it.
#[test]
fn a_simple_write_gets_its_buffer_from_under_an_ordered_one_behind_it() {
    let mut wire = without_its_buffer(WRITE_MORE);
    write_eight_blocks(&mut wire, 2, ORDERED_WRITE);
    // In line behind both: it may not have what the first one needs.
    wire.command(3, WRITE, write_cdb(4), 2048, &[0; 512]);
    assert!(wire.receive().is_empty());
    wire.data_out(1, NONE, 0, 512, true, &[0; 512]);
    let r2t = r2ts(&mut wire).remove(0);
    assert_eq!((r2t.itt.get(), r2t.buffer_offset.get()), (1, 1024));
    wire.data_out(1, r2t.ttt.get(), 0, 1024, true, &[0; 1024]);
    let commands = wire.commands();
    assert_eq!(commands.iter().map(|command| command.initiator_task_tag.0).collect::<Vec<_>>(), [1, 2]);
    for command in commands {
        wire.target.respond(command.task, Response::good(Vec::new()));
    }
    let pdus = wire.receive();
    let r2t: pdu::ReadyToTransfer =
        pdus.iter().find(|pdu| pdu.opcode() == Opcode::ReadyToTransfer).unwrap().as_a();
    assert_eq!(r2t.itt.get(), 3);
}

/// Incident: a hostile host sends empty Data-Out PDUs for ever.
#[test]
fn s11_7_5_empty_data_out_pdus_count_and_do_no_more() {
    let mut wire = Wire::logged_in(Config::default(), &SOLICITED);
    wire.command(1, WRITE, write_cdb(1), 512, &[]);
    let ttt = r2ts(&mut wire)[0].ttt.get();
    for data_sn in 0..1000 {
        wire.data_out(1, ttt, data_sn, 0, false, &[]);
    }
    wire.data_out(1, ttt, 1000, 0, true, &[3; 512]);
    assert_eq!(wire.commands().remove(0).data_out[0], [3; 512][..]);
}
