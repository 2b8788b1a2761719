//! What goes over several PDUs: text in pieces, R2Ts, their windows, and the numbers that tie them together.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use iscsi::PortalGroupTag;
use iscsi::pdu::{self, Header, IMMEDIATE, RejectReason, flags};
use iscsi::target::{Config, Event, Response, SendTargets, TargetAddress, TargetRecord};

const WRITE: u8 = 0xa1;
const NO_DATA: u8 = 0x81;

/// A text request, immediate, with the flags and the transfer tag given.
fn send_text(wire: &mut Wire, bits: u8, ttt: u32, data: &[u8]) {
    let header = pdu::TextRequest {
        opcode: 0x04 | IMMEDIATE,
        flags: bits,
        itt: 3.into(),
        ttt: ttt.into(),
        cmd_sn: wire.cmd_sn.into(),
        ..pdu::TextRequest::blank()
    };
    wire.send(header.bytes(), data);
}

#[track_caller]
fn rejected(wire: &mut Wire, reason: RejectReason) {
    let reject: pdu::Reject = wire.receive_one().as_a();
    assert_eq!(RejectReason(reject.reason), reason);
    assert!(wire.events().is_empty() && !wire.target.is_closed());
}

#[test]
fn s6_2_a_text_request_in_pieces_is_answered_when_whole() {
    let mut wire = Wire::logged_in(Config::default(), &[]);
    let mut ttt = u32::MAX;
    for piece in ["Send", "Targets=iqn.2026", "-11.test:ot"] {
        send_text(&mut wire, flags::CONTINUE, ttt, piece.as_bytes());
        let response: pdu::TextResponse = wire.receive_one().as_a();
        // Nothing is said yet, but there is a tag to go on with.
        assert_eq!((response.flags, response.data_length.get()), (0, 0));
        ttt = response.ttt.get();
        assert_ne!(ttt, u32::MAX);
        assert!(wire.events().is_empty());
    }
    send_text(&mut wire, flags::FINAL, ttt, b"her\0");
    match &wire.events()[..] {
        [Event::SendTargets(SendTargets::Named(name))] => assert_eq!(name, "iqn.2026-11.test:other"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn s11_10_4_text_goes_on_with_the_tag_it_was_given_only() {
    for (bits, stray) in [(flags::FINAL, 1), (flags::CONTINUE, 0x7fff_fffe), (0, 0)] {
        let mut wire = Wire::logged_in(Config::default(), &[]);
        send_text(&mut wire, flags::CONTINUE, u32::MAX, b"InitialR2T=");
        let response: pdu::TextResponse = wire.receive_one().as_a();
        send_text(&mut wire, bits, response.ttt.get() ^ (stray + 2), b"Yes\0");
        rejected(&mut wire, RejectReason::ProtocolError);
    }
    // Final and to be continued at once (§11.10.2).
    let mut wire = Wire::logged_in(Config::default(), &[]);
    send_text(&mut wire, flags::FINAL | flags::CONTINUE, u32::MAX, b"SendTargets=");
    rejected(&mut wire, RejectReason::ProtocolError);
    // A new exchange forgets the old one, and its half a key with it.
    send_text(&mut wire, flags::CONTINUE, u32::MAX, b"SendTargets=iqn");
    wire.receive();
    send_text(&mut wire, flags::FINAL, u32::MAX, b"X-a=1\0");
    assert_eq!(wire.receive_one().data, text(&["X-a=NotUnderstood"]));
}

#[test]
fn s11_11_2_a_long_answer_is_fetched_piece_by_piece() {
    let mut wire = Wire::logged_in(Config::default(), &["MaxRecvDataSegmentLength=512"]);
    send_text(&mut wire, flags::FINAL, u32::MAX, b"SendTargets=\0");
    assert!(matches!(wire.events()[..], [Event::SendTargets(SendTargets::Current)]));
    let address = |at: u16| TargetAddress {
        address: format!("192.0.2.{at}:3260"),
        portal_group_tag: PortalGroupTag(at),
    };
    wire.target.send_targets(&[TargetRecord {
        name: TARGET.to_owned(),
        addresses: (0..100).map(address).collect(),
    }]);
    let mut whole = Vec::new();
    loop {
        let pdu = wire.receive_one();
        let response: pdu::TextResponse = pdu.as_a();
        assert!(pdu.data.len() <= 512);
        whole.extend_from_slice(&pdu.data);
        if response.flags == flags::FINAL {
            assert_eq!(response.ttt.get(), u32::MAX);
            break;
        }
        assert_eq!((response.flags, pdu.data.len()), (flags::CONTINUE, 512));
        send_text(&mut wire, flags::FINAL, response.ttt.get(), &[]);
    }
    let mut expected = vec![format!("TargetName={TARGET}")];
    expected.extend((0..100).map(|at| format!("TargetAddress=192.0.2.{at}:3260,{at}")));
    assert_eq!(whole, text(&expected.iter().map(String::as_str).collect::<Vec<_>>()));
}

/// MaxOutstandingR2T and MaxBurstLength as tables: how many R2Ts come at once, and how long they are.
#[test]
fn s13_17_no_more_r2ts_are_open_than_was_agreed() {
    for outstanding in [1_u32, 2, 3, 8] {
        for burst in [512_u32, 1024, 1536, 4096] {
            let keys = [format!("MaxOutstandingR2T={outstanding}"), format!("MaxBurstLength={burst}")];
            let all = [&keys[0], &keys[1], "InitialR2T=Yes", "ImmediateData=No"];
            let mut wire = Wire::logged_in(Config::default(), &all);
            wire.command(1, WRITE, write_cdb(7), 3584, &[]);
            let (mut open, mut offset, mut r2t_sn, mut answered) = (Vec::new(), 0, 0, 0_u32);
            let data = pattern(3584);
            while answered < 3584 {
                for pdu in wire.receive() {
                    let r2t: pdu::ReadyToTransfer = pdu.as_a();
                    let len = burst.min(3584 - offset);
                    assert_eq!((r2t.r2t_sn.get(), r2t.buffer_offset.get()), (r2t_sn, offset));
                    assert_eq!((r2t.desired_length.get(), r2t.exp_cmd_sn.get()), (len, 101));
                    offset += len;
                    r2t_sn += 1;
                    open.push(r2t);
                }
                let bursts_left = (3584 - answered).div_ceil(burst);
                assert_eq!(open.len(), usize::try_from(outstanding.min(bursts_left)).unwrap());
                let r2t = open.remove(0);
                let (start, len) = (r2t.buffer_offset.get(), r2t.desired_length.get());
                let [from, to] = [start, start + len].map(|at| usize::try_from(at).unwrap());
                wire.data_out(1, r2t.ttt.get(), 0, start, true, &data[from..to]);
                answered += len;
            }
            let written = wire.commands().remove(0).data_out.concat();
            assert!(written == data, "{outstanding} {burst}");
        }
    }
}

#[test]
fn s4_2_2_2_responses_and_ping_answers_share_one_stat_sn() {
    let mut wire = Wire::logged_in(Config::default(), &[]);
    let first: u32 = 2;
    for round in 0..300 {
        wire.command(1, NO_DATA, [0; 16], 0, &[]);
        let command = wire.commands().remove(0);
        wire.target.respond(command.task, Response::good(Vec::new()));
        let response: pdu::ScsiResponse = wire.receive_one().as_a();
        assert_eq!(response.stat_sn.get(), first + 2 * round);
        assert_eq!(response.exp_cmd_sn.get(), wire.cmd_sn);
        wire.ping(wire.cmd_sn, 9, &[]);
        wire.cmd_sn += 1;
        let answer: pdu::NopIn = wire.receive_one().as_a();
        assert_eq!((answer.stat_sn.get(), answer.itt.get()), (first + 2 * round + 1, 9));
        assert_eq!(answer.max_cmd_sn.get(), wire.cmd_sn + Config::default().command_window - 1);
    }
}

#[test]
fn s11_14_1_logout_reasons_that_do_not_exist_are_invalid() {
    for reason in [3, 4, 0x7f] {
        let mut wire = Wire::logged_in(Config::default(), &[]);
        let header = pdu::LogoutRequest {
            opcode: 0x06 | IMMEDIATE,
            flags: 0x80 | reason,
            itt: 8.into(),
            cid: 1.into(),
            ..pdu::LogoutRequest::blank()
        };
        wire.send(header.bytes(), &[]);
        rejected(&mut wire, RejectReason::InvalidPduField);
    }
}
