//! Numbering, the window, NOP, text, logout, reject: what a target does with each PDU (RFC 7143 §4.2.2, §11).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use iscsi::initiator::{self, Command};
use iscsi::parameters::Offer;
use iscsi::pdu::{
    self, Header, IMMEDIATE, LogoutResponse, Opcode, RejectReason, ScsiStatus, TaskAttribute, flags,
};
use iscsi::target::{
    AsyncMessage, CloseReason, Config, Event, LogoutRequested, Response, SendTargets, TargetAddress,
    TargetRecord,
};
use iscsi::{PortalGroupTag, target};

const READ: u8 = 0xc1;
const WRITE: u8 = 0xa1;
const NO_DATA: u8 = 0x81;

fn wire() -> Wire {
    Wire::logged_in(Config::default(), &["InitialR2T=No", "MaxRecvDataSegmentLength=8192"])
}

#[test]
fn s4_2_2_1_commands_are_delivered_in_order_of_cmd_sn() {
    let mut wire = wire();
    for (cmd_sn, itt) in [(102, 2), (103, 3), (101, 1)] {
        wire.command_at(cmd_sn, itt, NO_DATA, [0; 16], 0, &[]);
        assert!(wire.commands().is_empty());
    }
    wire.command_at(100, 0, NO_DATA, [0; 16], 0, &[]);
    let order: Vec<u32> = wire.commands().iter().map(|command| command.initiator_task_tag.0).collect();
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn s4_2_2_1_commands_outside_the_window_and_duplicates_are_ignored() {
    let mut wire = Wire::logged_in(Config { command_window: 4, ..Config::default() }, &[]);
    for cmd_sn in [99, 104, 5000, 0x8000_0000] {
        wire.command_at(cmd_sn, cmd_sn, NO_DATA, [0; 16], 0, &[]);
    }
    assert!(wire.commands().is_empty() && wire.receive().is_empty());
    wire.command_at(101, 1, NO_DATA, [0; 16], 0, &[]);
    wire.command_at(101, 9, NO_DATA, [0; 16], 0, &[]);
    wire.command_at(100, 0, NO_DATA, [0; 16], 0, &[]);
    wire.command_at(100, 8, NO_DATA, [0; 16], 0, &[]);
    let order: Vec<u32> = wire.commands().iter().map(|command| command.initiator_task_tag.0).collect();
    assert_eq!(order, [0, 1]);
    assert_eq!(wire.target.tasks(), 2);
}

#[test]
fn s4_2_2_1_immediate_commands_take_no_cmd_sn() {
    let mut wire = wire();
    let header = pdu::ScsiCommand {
        opcode: 0x41,
        flags: NO_DATA,
        itt: 5.into(),
        cmd_sn: 100.into(),
        ..pdu::ScsiCommand::blank()
    };
    wire.send(header.bytes(), &[]);
    let command = wire.commands().remove(0);
    assert!(command.immediate);
    wire.target.respond(command.task, Response::good(Vec::new()));
    let response: pdu::ScsiResponse = wire.receive_one().as_a();
    assert_eq!(response.exp_cmd_sn.get(), 100);
    wire.command(6, NO_DATA, [0; 16], 0, &[]);
    assert_eq!(wire.commands().len(), 1);
}

#[test]
fn s4_2_2_1_too_many_immediate_commands_are_rejected() {
    let mut wire = Wire::logged_in(Config { immediate_commands: 2, ..Config::default() }, &[]);
    for itt in 0..3_u32 {
        let header =
            pdu::ScsiCommand { opcode: 0x41, flags: NO_DATA, itt: itt.into(), ..pdu::ScsiCommand::blank() };
        wire.send(header.bytes(), &[]);
    }
    let reject: pdu::Reject = wire.receive_one().as_a();
    assert_eq!(RejectReason(reject.reason), RejectReason::TooManyImmediateCommands);
    assert_eq!(wire.commands().len(), 2);
}

#[test]
fn s4_2_2_1_the_window_shrinks_under_load_and_news_of_it_come() {
    let mut wire = Wire::logged_in(Config { command_window: 2, ..Config::default() }, &[]);
    wire.command(1, NO_DATA, [0; 16], 0, &[]);
    wire.command(2, NO_DATA, [0; 16], 0, &[]);
    let commands = wire.commands();
    wire.target.set_window(1);
    wire.target.respond(commands[0].task, Response::good(Vec::new()));
    let response: pdu::ScsiResponse = wire.receive_one().as_a();
    // One under way, one allowed: shut.
    assert_eq!((response.exp_cmd_sn.get(), response.max_cmd_sn.get()), (102, 101));
    wire.command_at(102, 3, NO_DATA, [0; 16], 0, &[]);
    assert!(wire.commands().is_empty());
    // Opened again with nothing else to say: a NOP-In that asks for no answer.
    wire.target.set_window(2);
    assert!(wire.target.has_transmit());
    let nop: pdu::NopIn = wire.receive_one().as_a();
    assert_eq!((nop.itt.get(), nop.ttt.get(), nop.max_cmd_sn.get()), (u32::MAX, u32::MAX, 102));
    assert!(wire.receive().is_empty());
}

#[test]
fn s4_2_2_2_stat_sn_counts_responses_and_nothing_else() {
    let mut wire = wire();
    wire.command(1, READ, read_cdb(32), 16384, &[]);
    wire.command(2, NO_DATA, [0; 16], 0, &[]);
    for command in wire.commands() {
        let data = if command.expected_data_in > 0 { vec![pattern(16384)] } else { Vec::new() };
        wire.target.respond(command.task, Response::good(data));
    }
    let pdus = wire.receive();
    // The response without data is not held up by data.
    let response: pdu::ScsiResponse = pdus[0].as_a();
    assert_eq!(response.stat_sn.get(), 2);
    let first: pdu::DataIn = pdus[1].as_a();
    assert_eq!((first.flags, first.stat_sn.get(), first.data_sn.get()), (0, 0, 0));
    let last: pdu::DataIn = pdus[2].as_a();
    assert_eq!(last.flags, flags::FINAL | flags::STATUS);
    assert_eq!((last.stat_sn.get(), last.data_sn.get(), last.buffer_offset.get()), (3, 1, 8192));
    assert_eq!(pdus.len(), 3);
}

#[test]
fn s11_7_1_the_final_bit_ends_each_burst_of_data_in() {
    let keys = ["MaxRecvDataSegmentLength=1024", "MaxBurstLength=2560"];
    let mut wire = Wire::logged_in(Config::default(), &keys);
    wire.command(1, READ, read_cdb(12), 6144, &[]);
    let command = wire.commands().remove(0);
    wire.target.respond(command.task, Response::good(vec![pattern(6144)]));
    let pdus = wire.receive();
    let shape: Vec<(u32, bool)> = pdus
        .iter()
        .map(|pdu| {
            let data_in: pdu::DataIn = pdu.as_a();
            (data_in.data_length.get(), data_in.flags & flags::FINAL != 0)
        })
        .collect();
    let burst = [(1024, false), (1024, false), (512, true)];
    assert_eq!(shape[..6], [burst, burst].concat());
    assert_eq!(shape[6..], [(1024, true)]);
}

#[test]
fn s11_4_3_phase_collapse_is_for_good_status_only() {
    let mut wire = wire();
    wire.command(1, READ, read_cdb(1), 512, &[]);
    let command = wire.commands().remove(0);
    let response = Response {
        status: ScsiStatus::CheckCondition,
        sense: Bytes::from_static(&[0x72, 1, 2, 3]),
        data_in: vec![pattern(512)],
    };
    wire.target.respond(command.task, response);
    let pdus = wire.receive();
    let data_in: pdu::DataIn = pdus[0].as_a();
    assert_eq!(data_in.flags, flags::FINAL);
    let response: pdu::ScsiResponse = pdus[1].as_a();
    assert_eq!((response.status, response.exp_data_sn.get()), (2, 1));
    assert_eq!(pdus[1].data, [0, 4, 0x72, 1, 2, 3]);
}

#[test]
fn a_nop_overtakes_read_data() {
    let mut wire = wire();
    wire.command(1, READ, read_cdb(2048), 1 << 20, &[]);
    let command = wire.commands().remove(0);
    wire.target.respond(command.task, Response::good(vec![pattern(1 << 20)]));
    let mut out = VecDeque::new();
    assert!(wire.target.poll_transmit(&mut out, 10_000) < 20_000);
    let header = pdu::NopOut {
        opcode: IMMEDIATE,
        itt: 77.into(),
        ttt: u32::MAX.into(),
        cmd_sn: 101.into(),
        ..pdu::NopOut::blank()
    };
    wire.send(header.bytes(), b"ping");
    let pdus = wire.receive();
    let nop: pdu::NopIn = pdus[0].as_a();
    assert_eq!((nop.itt.get(), nop.ttt.get()), (77, u32::MAX));
    assert_eq!(pdus[0].data, b"ping");
    assert!(pdus.len() > 100 && pdus[1].opcode() == Opcode::DataIn);
}

#[test]
fn s11_18_a_nop_in_turn_takes_a_cmd_sn_and_its_data_is_cut_to_what_the_initiator_takes() {
    let mut wire = Wire::logged_in(Config::default(), &["MaxRecvDataSegmentLength=512"]);
    let header =
        pdu::NopOut { itt: 77.into(), ttt: u32::MAX.into(), cmd_sn: 100.into(), ..pdu::NopOut::blank() };
    wire.send(header.bytes(), &[9; 1000]);
    let pdu = wire.receive_one();
    let nop: pdu::NopIn = pdu.as_a();
    assert_eq!((nop.exp_cmd_sn.get(), pdu.data.len()), (101, 512));
    // No answer wanted, none given.
    let header = pdu::NopOut { opcode: IMMEDIATE, itt: u32::MAX.into(), ttt: u32::MAX.into(), ..header };
    wire.send(header.bytes(), &[]);
    assert!(wire.receive().is_empty());
}

#[test]
fn a_silent_initiator_is_asked_and_then_dropped() {
    let mut wire = wire();
    let due = wire.target.poll_timeout().unwrap();
    assert_eq!(due, Duration::from_secs(15));
    wire.target.handle_timeout(due);
    let nop: pdu::NopIn = wire.receive_one().as_a();
    assert_eq!(nop.itt.get(), u32::MAX);
    assert_ne!(nop.ttt.get(), u32::MAX);
    // It answers: all is well for another while.
    wire.now = Duration::from_secs(20);
    let reply = pdu::NopOut { opcode: IMMEDIATE, itt: u32::MAX.into(), ttt: nop.ttt, ..pdu::NopOut::blank() };
    wire.send(reply.bytes(), &[]);
    assert_eq!(wire.target.poll_timeout(), Some(Duration::from_secs(35)));
    wire.target.handle_timeout(Duration::from_secs(35));
    let closing = wire.target.poll_timeout().unwrap();
    wire.target.handle_timeout(closing);
    let last = wire.events().pop();
    assert!(matches!(last, Some(Event::Closed(CloseReason::NopTimeout))), "{last:?}");
}

#[test]
fn an_idle_pair_stays_connected() {
    let mut pair = pair();
    pair.pass(Duration::from_secs(3600));
    assert!(!pair.target.is_closed() && !pair.initiator.is_closed());
    assert!(pair.target_events.is_empty() && pair.initiator_events.is_empty());
    pair.initiator.nop(Bytes::from_static(b"there?"));
    pair.run();
    let Some(initiator::Event::NopReply(data)) = pair.initiator_events.pop_front() else { panic!() };
    assert_eq!(data, "there?");
}

#[test]
fn a_flood_of_pings_that_are_not_taken_stops_the_reading() {
    let mut wire = wire();
    let header =
        pdu::NopOut { opcode: IMMEDIATE, itt: 1.into(), ttt: u32::MAX.into(), ..pdu::NopOut::blank() };
    let mut sent = 0;
    while !wire.target.recv_space().is_empty() {
        wire.send(header.bytes(), &[0; 8000]);
        sent += 1;
        assert!(sent < 1000, "the target takes pings without end");
    }
    wire.receive();
    assert!(!wire.target.recv_space().is_empty());
}

#[test]
fn appendix_c_send_targets() {
    let config = initiator::Config::discovery(INITIATOR);
    let mut pair = iscsi::pair::Pair::new(Config::default(), config, iscsi::pair::SimpleSizer);
    log_in(&mut pair);
    pair.initiator.send_targets();
    pair.run();
    assert!(matches!(pair.target_events.pop_front(), Some(Event::SendTargets(SendTargets::All))));
    // Enough of them for several PDUs.
    let records: Vec<TargetRecord> = (0..10_000)
        .map(|at| TargetRecord {
            name: format!("{TARGET}{at}"),
            addresses: vec![
                TargetAddress { address: "192.0.2.1:3260".to_owned(), portal_group_tag: PortalGroupTag(1) },
                TargetAddress {
                    address: "[2001:db8::1]:3260".to_owned(),
                    portal_group_tag: PortalGroupTag(2),
                },
            ],
        })
        .collect();
    pair.target.send_targets(&records);
    pair.run();
    let Some(initiator::Event::Targets(found)) = pair.initiator_events.pop_front() else { panic!() };
    assert_eq!(found.len(), 10_000);
    assert_eq!(found[77].name, format!("{TARGET}77"));
    assert_eq!(found[77].addresses, ["192.0.2.1:3260,1", "[2001:db8::1]:3260,2"]);
}

fn send_text(wire: &mut Wire, keys: &[&str]) {
    let header = pdu::TextRequest {
        opcode: 0x04 | IMMEDIATE,
        itt: 3.into(),
        ttt: u32::MAX.into(),
        cmd_sn: wire.cmd_sn.into(),
        ..pdu::TextRequest::blank()
    };
    wire.send(header.bytes(), &text(keys));
}

/// The requests of libiscsi's SendTargets tests, and what they wait for.
#[test]
fn send_targets_in_a_normal_session() {
    for (request, which) in [
        ("SendTargets=All", SendTargets::Current),
        ("SendTargets=", SendTargets::Current),
        ("SendTargets=iqn.2026-11.test:disk", SendTargets::Named(TARGET.to_owned())),
    ] {
        let mut wire = wire();
        send_text(&mut wire, &[request]);
        let Some(Event::SendTargets(asked)) = wire.target.poll_event() else { panic!("{request}") };
        assert_eq!(asked, which);
        wire.target.send_targets(&[]);
        let response: pdu::TextResponse = wire.receive_one().as_a();
        assert_eq!((response.flags, response.ttt.get()), (flags::FINAL, u32::MAX));
    }
    for bad in ["SendTargets=Alle", "SendTargets=A", "sENDtARGETS=aLL", "SendTargetsPlease=All", "gibberish"]
    {
        let mut wire = wire();
        send_text(&mut wire, &[bad]);
        let pdu = wire.receive_one();
        let _: pdu::Reject = pdu.as_a();
        assert_eq!(pdu.data[16..20], [0, 0, 0, 3], "the copied header names the request");
    }
}

#[test]
fn s6_4_declarations_in_the_full_feature_phase() {
    let mut wire = wire();
    send_text(&mut wire, &["MaxRecvDataSegmentLength=512", "InitialR2T=Yes", "X-vendor=1"]);
    let pdu = wire.receive_one();
    let _: pdu::TextResponse = pdu.as_a();
    assert_eq!(pdu.data, text(&["InitialR2T=Reject", "X-vendor=NotUnderstood"]));
    assert_eq!(wire.target.parameters().peer_max_recv_data_segment_length, 512);
}

#[test]
fn s11_14_logout_ends_tasks_and_waits_for_the_caller() {
    let mut wire = wire();
    wire.command(1, NO_DATA, [0; 16], 0, &[]);
    let command = wire.commands().remove(0);
    let header = pdu::LogoutRequest {
        opcode: 0x06 | IMMEDIATE,
        itt: 8.into(),
        cid: 1.into(),
        ..pdu::LogoutRequest::blank()
    };
    wire.send(header.bytes(), &[]);
    let Some(Event::LogoutRequested(LogoutRequested { aborted, .. })) = wire.target.poll_event() else {
        panic!()
    };
    assert_eq!(aborted, [command.task]);
    wire.target.respond(command.task, Response::good(Vec::new()));
    assert!(wire.receive().is_empty());
    wire.target.logout_accept();
    let reply: pdu::LogoutReply = wire.receive_one().as_a();
    assert_eq!((reply.itt.get(), LogoutResponse(reply.response)), (8, LogoutResponse::Closed));
    assert!(matches!(wire.target.poll_event(), Some(Event::Closed(CloseReason::LoggedOut))));
}

#[test]
fn s11_15_1_logouts_that_mean_another_connection_or_recovery() {
    for (bits, cid, response) in
        [(0x81, 2, LogoutResponse::CidNotFound), (0x82, 1, LogoutResponse::RecoveryNotSupported)]
    {
        let mut wire = wire();
        let header = pdu::LogoutRequest {
            opcode: 0x46,
            flags: bits,
            itt: 8.into(),
            cid: cid.into(),
            ..pdu::LogoutRequest::blank()
        };
        wire.send(header.bytes(), &[]);
        let reply: pdu::LogoutReply = wire.receive_one().as_a();
        assert_eq!(LogoutResponse(reply.response), response);
        assert!(!wire.target.is_closed());
    }
}

#[test]
fn a_logout_between_the_two_roles() {
    let mut pair = pair();
    pair.initiator.logout();
    pair.run();
    assert!(matches!(pair.target_events.pop_front(), Some(Event::LogoutRequested(_))));
    pair.target.logout_accept();
    pair.run();
    assert!(matches!(
        pair.initiator_events.pop_front(),
        Some(initiator::Event::LoggedOut(LogoutResponse::Closed))
    ));
    assert!(pair.initiator.is_closed() && pair.target.is_closed());
}

#[test]
fn s11_17_what_cannot_be_done_is_rejected_with_its_header() {
    let mut wire = wire();
    let snack = pdu::SnackRequest { itt: 4.into(), ..pdu::SnackRequest::blank() };
    let mut unknown = *snack.bytes();
    unknown[0] = 0x1c;
    for (bhs, reason) in
        [(*snack.bytes(), RejectReason::SnackReject), (unknown, RejectReason::CommandNotSupported)]
    {
        wire.send(&bhs, &[]);
        let pdu = wire.receive_one();
        let reject: pdu::Reject = pdu.as_a();
        assert_eq!((RejectReason(reject.reason), reject.itt.get()), (reason, u32::MAX));
        assert_eq!(pdu.data, bhs);
    }
    assert!(!wire.target.is_closed());
}

#[test]
fn s11_17_1_a_tag_in_use_is_rejected_and_its_cmd_sn_counts() {
    let mut wire = wire();
    wire.command(1, NO_DATA, [0; 16], 0, &[]);
    wire.command(1, NO_DATA, [0; 16], 0, &[]);
    let reject: pdu::Reject = wire.receive_one().as_a();
    assert_eq!(RejectReason(reject.reason), RejectReason::TaskInProgress);
    assert_eq!(reject.exp_cmd_sn.get(), 102);
    wire.command(2, NO_DATA, [0; 16], 0, &[]);
    assert_eq!(wire.commands().len(), 2);
}

#[test]
fn discovery_sessions_take_no_commands() {
    let mut wire = Wire::new(Config::default());
    wire.send_login(1, Some(3), &["InitiatorName=iqn.2026-11.test:host", "SessionType=Discovery"]);
    wire.accept();
    wire.receive();
    wire.events();
    wire.command(1, NO_DATA, [0; 16], 0, &[]);
    wire.task_management(2, 1, 1, 100);
    for pdu in wire.receive() {
        let reject: pdu::Reject = pdu.as_a();
        assert_eq!(RejectReason(reject.reason), RejectReason::CommandNotSupported);
    }
    assert!(wire.events().is_empty());
}

#[test]
fn a_second_login_in_the_full_feature_phase_ends_the_connection() {
    let mut wire = wire();
    wire.send_login(1, Some(3), &[]);
    let reject: pdu::Reject = wire.receive_one().as_a();
    assert_eq!(RejectReason(reject.reason), RejectReason::ProtocolError);
    assert!(wire.target.is_closed());
}

#[test]
fn s11_9_asynchronous_messages_reach_the_initiator() {
    let mut pair = pair();
    let sense = Bytes::from_static(&[0x70, 0, 6]);
    pair.target.async_message(AsyncMessage::ScsiEvent { lun: LUN, sense: sense.clone() });
    let zero = Duration::ZERO;
    pair.target
        .async_message(AsyncMessage::SessionDrop { time2wait: Duration::from_secs(2), time2retain: zero });
    pair.run();
    let messages: Vec<_> = pair.initiator_events.drain(..).collect();
    let [
        initiator::Event::AsyncMessage(event),
        initiator::Event::AsyncMessage(drop),
        initiator::Event::Closed(initiator::CloseReason::Dropped),
    ] = &messages[..]
    else {
        panic!("{messages:?}")
    };
    assert_eq!(event.sense, sense);
    assert_eq!(drop.parameters[1], 2);
}

#[test]
fn s11_2_2_extended_cdbs_arrive_whole() {
    let mut wire = wire();
    let header = pdu::ScsiCommand {
        flags: NO_DATA,
        itt: 1.into(),
        cmd_sn: 100.into(),
        cdb: [0x7f; 16],
        ..pdu::ScsiCommand::blank()
    };
    // 18 more bytes: length 19 with the reserved one, 2 bytes of padding.
    let mut ahs = vec![0, 19, 1, 0];
    ahs.extend(1..=18);
    ahs.extend([0, 0]);
    wire.send_bytes(&encode(header.bytes(), &ahs, &[]));
    let command = wire.commands().remove(0);
    let mut expected = vec![0x7f; 16];
    expected.extend(1..=18);
    assert_eq!(command.cdb.bytes(), expected);
}

#[test]
fn s11_2_2_malformed_additional_headers_are_rejected() {
    for ahs in [&[0, 200, 1, 0][..], &[0, 1, 9, 0], &[0, 0, 1, 0]] {
        let mut wire = wire();
        let header = pdu::ScsiCommand {
            flags: NO_DATA,
            itt: 1.into(),
            cmd_sn: 100.into(),
            ..pdu::ScsiCommand::blank()
        };
        wire.send_bytes(&encode(header.bytes(), ahs, &[]));
        let reject: pdu::Reject = wire.receive_one().as_a();
        assert_eq!(RejectReason(reject.reason), RejectReason::InvalidPduField, "{ahs:?}");
        wire.command_at(101, 2, NO_DATA, [0; 16], 0, &[]);
        assert_eq!(wire.commands().len(), 1);
    }
}

#[test]
fn sam5_8_7_ordered_commands_wait_and_simple_ones_pass_waiting_writes() {
    let mut pair =
        pair_with(Config::default(), Offer { immediate_data: false, initial_r2t: true, ..Offer::default() });
    // Hold the initiator's data back: a write whose R2T is never answered blocks nobody but the ordered one.
    let mut wire = Wire::logged_in(Config::default(), &["InitialR2T=Yes", "ImmediateData=No"]);
    wire.command(1, WRITE, write_cdb(1), 512, &[]);
    wire.command(2, READ, read_cdb(1), 512, &[]);
    let ordered = 0x80 | TaskAttribute::Ordered.0;
    wire.command(3, ordered, [0; 16], 0, &[]);
    wire.command(4, NO_DATA, [0; 16], 0, &[]);
    let tags = |commands: Vec<target::Command>| -> Vec<u32> {
        commands.iter().map(|command| command.initiator_task_tag.0).collect()
    };
    assert_eq!(tags(wire.commands()), [2]);
    let r2t: pdu::ReadyToTransfer = wire.receive_one().as_a();
    wire.data_out(1, r2t.ttt.get(), 0, 0, true, &[1; 512]);
    assert_eq!(tags(wire.commands()), [1, 3, 4]);
    // The same between the two roles.
    pair.initiator.submit(Command::write(LUN, write_cdb(1), pattern(512)));
    pair.initiator.submit(Command { attribute: TaskAttribute::Ordered, ..Command::new(LUN, [0; 16]) });
    pair.run();
    assert_eq!(commands(&mut pair).len(), 2);
}
