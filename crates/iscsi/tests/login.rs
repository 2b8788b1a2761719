//! The login phase, request by request (RFC 7143 §6.3, §11.12, §11.13).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use iscsi::parameters::{Offer, SessionType};
use iscsi::pdu::{self, Header, LoginStatus, flags};
use iscsi::target::{CloseReason, Config, Event};
use iscsi::{Cid, Isid, Tsih, initiator};

const NAME: &str = "InitiatorName=iqn.2026-11.test:host";
const DISK: &str = "TargetName=iqn.2026-11.test:disk";

fn keys(pdu: &Pdu) -> Vec<String> {
    String::from_utf8(pdu.data.clone()).unwrap().split_terminator('\0').map(str::to_owned).collect()
}

/// The status that a first request with these stages and keys gets, once the caller accepts.
fn status_of(current: u8, next: Option<u8>, keys: &[&str]) -> LoginStatus {
    let mut wire = Wire::new(Config::default());
    wire.send_login(current, next, keys);
    status(&mut wire)
}

fn status(wire: &mut Wire) -> LoginStatus {
    let mut events = wire.events();
    if let Some(Event::LoginRequested(_)) = events.first() {
        let accept = iscsi::target::LoginAccept {
            tsih: Tsih(9),
            portal_group_tag: iscsi::PortalGroupTag(1),
            target_alias: None,
        };
        wire.target.login_accept(accept);
    }
    let response: pdu::LoginResponse = wire.receive_one().as_a();
    let status = LoginStatus(response.status.get());
    let refused = Some(CloseReason::LoginRefused(status));
    events.extend(wire.events());
    let closed = events.into_iter().find_map(|event| match event {
        Event::Closed(reason) => Some(reason),
        _ => None,
    });
    assert_eq!(closed, refused.filter(|_| status != LoginStatus::Success));
    assert_eq!(wire.target.is_closed(), status != LoginStatus::Success);
    status
}

#[test]
fn s6_3_security_then_operational_then_full_feature() {
    let mut wire = Wire::new(Config::default());
    wire.send_login(0, Some(1), &[NAME, DISK, "SessionType=Normal", "AuthMethod=CHAP,None"]);
    let Some(Event::LoginRequested(login)) = wire.target.poll_event() else { panic!() };
    assert_eq!(login.initiator_name, INITIATOR);
    assert_eq!(login.target_name.as_deref(), Some(TARGET));
    assert_eq!((login.session_type, login.tsih, login.cid), (SessionType::Normal, Tsih::NEW, Cid(1)));
    assert_eq!(login.isid, Isid([0x80, 1, 2, 3, 4, 5]));
    assert!(wire.receive().is_empty(), "nothing is said before the caller decides");
    wire.target.login_accept(iscsi::target::LoginAccept {
        tsih: Tsih(9),
        portal_group_tag: iscsi::PortalGroupTag(3),
        target_alias: Some("disk".to_owned()),
    });
    let pdu = wire.receive_one();
    let response: pdu::LoginResponse = pdu.as_a();
    assert_eq!((response.flags, response.tsih.get()), (0x81, 0));
    assert_eq!(keys(&pdu), ["TargetPortalGroupTag=3", "TargetAlias=disk", "AuthMethod=None"]);

    wire.send_login(1, Some(3), &["HeaderDigest=None", "MaxRecvDataSegmentLength=65536", "X-x=1"]);
    let pdu = wire.receive_one();
    let response: pdu::LoginResponse = pdu.as_a();
    assert_eq!((response.flags, response.tsih.get(), response.stat_sn.get()), (0x87, 9, 2));
    assert_eq!(keys(&pdu), ["MaxRecvDataSegmentLength=262144", "HeaderDigest=None", "X-x=NotUnderstood"]);
    // The window starts at the CmdSN of the login.
    assert_eq!((response.exp_cmd_sn.get(), response.max_cmd_sn.get()), (100, 227));
    let Some(Event::SessionEstablished(session)) = wire.target.poll_event() else { panic!() };
    assert_eq!(session.parameters.peer_max_recv_data_segment_length, 65536);
    assert_eq!(session.parameters.own_max_recv_data_segment_length, 262_144);
}

#[test]
fn s11_13_5_statuses_of_bad_logins() {
    let ok = [NAME, DISK];
    assert_eq!(status_of(1, Some(3), &ok), LoginStatus::Success);
    assert_eq!(status_of(0, Some(3), &ok), LoginStatus::Success);
    assert_eq!(status_of(1, Some(3), &[DISK]), LoginStatus::MissingParameter);
    assert_eq!(status_of(1, Some(3), &[NAME]), LoginStatus::MissingParameter);
    assert_eq!(status_of(1, Some(3), &[NAME, "SessionType=Discovery"]), LoginStatus::Success);
    assert_eq!(status_of(1, Some(3), &[NAME, "SessionType=Other"]), LoginStatus::SessionTypeNotSupported);
    assert_eq!(status_of(1, Some(3), &["InitiatorName=x", DISK]), LoginStatus::InitiatorError);
    assert_eq!(status_of(0, Some(1), &[NAME, DISK, "AuthMethod=CHAP"]), LoginStatus::AuthenticationFailure);
    assert_eq!(status_of(1, Some(3), &[NAME, DISK, "MaxBurstLength=1"]), LoginStatus::InitiatorError);
    assert_eq!(status_of(1, Some(3), &[NAME, DISK, "no pair"]), LoginStatus::InitiatorError);
    let twice = [NAME, DISK, "InitialR2T=No", "InitialR2T=No"];
    assert_eq!(status_of(1, Some(3), &twice), LoginStatus::InitiatorError);
}

#[test]
fn s11_12_3_stages_go_forward_only() {
    for (current, next) in
        [(2, Some(3)), (3, Some(3)), (1, Some(1)), (1, Some(0)), (0, Some(2)), (1, Some(2))]
    {
        assert_eq!(
            status_of(current, next, &[NAME, DISK]),
            LoginStatus::InitiatorError,
            "{current} {next:?}"
        );
    }
    // A request in another stage than the one the login is in.
    let mut wire = Wire::new(Config::default());
    wire.send_login(0, Some(1), &[NAME, DISK]);
    wire.accept();
    wire.receive();
    wire.send_login(0, Some(1), &[]);
    assert_eq!(status(&mut wire), LoginStatus::InitiatorError);
}

#[test]
fn s11_12_4_a_version_we_do_not_speak() {
    let mut wire = Wire::new(Config::default());
    let header = pdu::LoginRequest {
        flags: 0x87,
        version_max: 2,
        version_min: 1,
        opcode: 0x43,
        ..pdu::LoginRequest::blank()
    };
    wire.send(header.bytes(), &text(&[NAME, DISK]));
    assert_eq!(status(&mut wire), LoginStatus::UnsupportedVersion);
}

#[test]
fn s11_12_isid_cid_and_tag_stay_the_same() {
    let first = pdu::LoginRequest { opcode: 0x43, flags: 0x81, itt: 1.into(), ..pdu::LoginRequest::blank() };
    let changed = [
        pdu::LoginRequest { isid: [1; 6], ..first },
        pdu::LoginRequest { cid: 5.into(), ..first },
        pdu::LoginRequest { itt: 2.into(), ..first },
        pdu::LoginRequest { tsih: 3.into(), ..first },
    ];
    for second in changed {
        let mut wire = Wire::new(Config::default());
        wire.send(first.bytes(), &text(&[NAME, DISK]));
        wire.accept();
        wire.receive();
        wire.send(pdu::LoginRequest { flags: 0x87, ..second }.bytes(), &[]);
        assert_eq!(status(&mut wire), LoginStatus::InitiatorError);
    }
}

#[test]
fn s6_2_text_in_pieces_is_answered_when_whole() {
    let mut wire = Wire::new(Config::default());
    let piece = pdu::LoginRequest {
        opcode: 0x43,
        flags: flags::CONTINUE | 1 << 2,
        itt: 1.into(),
        ..pdu::LoginRequest::blank()
    };
    // The cut goes through a key.
    wire.send(piece.bytes(), b"InitiatorName=iqn.2026-11.te");
    let empty: pdu::LoginResponse = wire.receive_one().as_a();
    assert_eq!((empty.flags, empty.data_length.get(), empty.status.get()), (0x04, 0, 0));
    assert!(wire.target.poll_event().is_none());
    let last = pdu::LoginRequest { flags: 0x87, ..piece };
    wire.send(last.bytes(), &text(&["st:host", DISK]));
    let Some(Event::LoginRequested(login)) = wire.target.poll_event() else { panic!() };
    assert_eq!(login.initiator_name, INITIATOR);
}

#[test]
fn s11_12_2_transit_and_continue_exclude_each_other() {
    let mut wire = Wire::new(Config::default());
    let header = pdu::LoginRequest { opcode: 0x43, flags: 0xc7, ..pdu::LoginRequest::blank() };
    wire.send(header.bytes(), &text(&[NAME, DISK]));
    assert_eq!(status(&mut wire), LoginStatus::InitiatorError);
}

#[test]
fn endless_login_text_is_refused() {
    let mut wire = Wire::new(Config::default());
    let header =
        pdu::LoginRequest { opcode: 0x43, flags: flags::CONTINUE | 1 << 2, ..pdu::LoginRequest::blank() };
    for _ in 0..100 {
        wire.send(header.bytes(), &[b'a'; 1000]);
        wire.receive();
    }
    assert!(wire.target.is_closed());
}

#[test]
fn long_answers_go_out_in_pieces() {
    let mut wire = Wire::new(Config::default());
    let unknown: Vec<String> = (0..600).map(|at| format!("X-k{at}=")).collect();
    let mut all = vec![NAME, DISK];
    all.extend(unknown.iter().map(String::as_str));
    wire.send_login(1, Some(3), &all);
    wire.accept();
    let mut answers = Vec::new();
    for _ in 0..9 {
        let pdu = wire.receive_one();
        answers.extend_from_slice(&pdu.data);
        let response: pdu::LoginResponse = pdu.as_a();
        if response.flags & flags::CONTINUE == 0 {
            assert_eq!(response.flags, 0x87);
            break;
        }
        assert_eq!(response.flags & flags::TRANSIT, 0);
        wire.send_login(1, Some(3), &[]);
    }
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(answers.matches("=NotUnderstood").count(), 600);
}

#[test]
fn s6_3_other_pdus_during_login_are_refused() {
    let mut wire = Wire::new(Config::default());
    wire.command(1, 0x80, [0; 16], 0, &[]);
    assert_eq!(status(&mut wire), LoginStatus::InvalidDuringLogin);
}

#[test]
fn a_login_that_takes_too_long_is_over() {
    let mut wire = Wire::new(Config::default());
    let due = wire.target.poll_timeout().unwrap();
    assert_eq!(due, Config::default().login_timeout);
    wire.target.handle_timeout(due);
    assert!(matches!(wire.target.poll_event(), Some(Event::Closed(CloseReason::LoginTimeout))));
    assert!(wire.target.recv_space().is_empty());
}

#[test]
fn a_refusal_reaches_the_initiator() {
    let config = initiator::Config::normal(INITIATOR, TARGET);
    let mut pair = iscsi::pair::Pair::new(Config::default(), config, iscsi::pair::SimpleSizer);
    pair.accept_logins = false;
    pair.run();
    pair.target.login_reject(LoginStatus::NotFound);
    pair.run();
    let Some(initiator::Event::Closed(reason)) = pair.initiator_events.pop_front() else { panic!() };
    let refused = initiator::CloseReason::LoginRefused { status: LoginStatus::NotFound, address: None };
    assert_eq!(reason, refused);
}

#[test]
fn an_initiator_may_leave_out_the_security_stage() {
    let config = initiator::Config { security_stage: false, ..initiator::Config::normal(INITIATOR, TARGET) };
    let mut pair = iscsi::pair::Pair::new(Config::default(), config, iscsi::pair::SimpleSizer);
    log_in(&mut pair);
    assert_eq!(pair.initiator.parameters().max_burst_length, pair.target.parameters().max_burst_length);
}

#[test]
fn s13_both_sides_agree_on_every_value() {
    let offer = Offer {
        max_burst_length: 12345,
        first_burst_length: 54321,
        max_recv_data_segment_length: 9999,
        max_outstanding_r2t: 3,
        ..Offer::default()
    };
    let pair = pair_with(Config::default(), offer);
    let (host, disk) = (*pair.initiator.parameters(), *pair.target.parameters());
    assert_eq!((disk.max_burst_length, disk.first_burst_length, disk.max_outstanding_r2t), (12345, 12345, 3));
    assert_eq!(disk.peer_max_recv_data_segment_length, 9999);
    assert_eq!(host.peer_max_recv_data_segment_length, disk.own_max_recv_data_segment_length);
    let swapped = iscsi::parameters::Parameters {
        own_max_recv_data_segment_length: disk.peer_max_recv_data_segment_length,
        peer_max_recv_data_segment_length: disk.own_max_recv_data_segment_length,
        ..disk
    };
    assert_eq!(host, swapped);
}
