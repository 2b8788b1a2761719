//! What belongs to which connection of a session: tags, data, messages (RFC 7143 §4.2.5.1, §11.2.1.8, §11.9), and what
//! ErrorRecoveryLevel 0 has not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use common::*;
use iscsi::initiator::{self, CONNECTIONS_MAX, CloseReason as HostCloseReason, Command, Event as HostEvent};
use iscsi::pair::{Several, SimpleSizer};
use iscsi::parameters::Offer;
use iscsi::pdu::{self, AsyncEvent, Header, RejectReason};
use iscsi::target::{Config, Event, LinkId};
use iscsi::{Cid, HeapPool};

fn session(connections: u16) -> Several {
    let offer = Offer { max_connections: 64, immediate_data: false, initial_r2t: true, ..Offer::default() };
    let target = Config { offer: offer.clone(), nop_interval: None, ..Config::default() };
    let host =
        initiator::Config { offer, nop_interval: None, ..initiator::Config::normal(INITIATOR, TARGET) };
    let mut session = Several::new(target, host, SimpleSizer, 11);
    session.run();
    for cid in 2..=connections {
        assert!(session.connect(Cid(cid)));
    }
    session.run();
    session.initiator_events.clear();
    session.target_events.clear();
    session
}

/// Gives bytes to the target as if they had come on a connection.
fn inject(session: &mut Several, link: LinkId, mut bytes: &[u8]) {
    let target = session.target.on(link).unwrap();
    while !bytes.is_empty() {
        let space = target.recv_space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        target.received(count, Duration::ZERO, &SimpleSizer);
    }
}

/// §11.2.1.8: a task tag is unique in the session, not only on its connection.
#[test]
fn s11_2_1_8_tags_of_tasks_differ_on_all_connections() {
    let mut session = session(CONNECTIONS_MAX);
    let mut tags = HashSet::new();
    for cid in 1..=CONNECTIONS_MAX {
        for _ in 0..20 {
            session.initiator.submit(Cid(cid), Command::new(LUN, [0; 16]));
        }
        let mut out = VecDeque::new();
        session.initiator.poll_transmit(Cid(cid), &mut out, 1 << 20);
        let bytes: Vec<u8> = out.into_iter().flatten().collect();
        tags.extend(decode(&bytes).iter().map(|pdu| pdu.as_a::<pdu::ScsiCommand>().itt.get()));
    }
    assert_eq!(tags.len(), 128, "as many as the window takes, no two the same");
    assert!(!session.connect(Cid(100)), "no tags are left for one more");
}

#[test]
fn a_session_grows_only_once_it_is_one() {
    let mut session =
        initiator::Session::new(initiator::Config::normal(INITIATOR, TARGET), HeapPool, Duration::ZERO);
    assert!(!session.connect(Cid(2), Duration::ZERO) && session.agreed().is_none());
    assert!(session.submit(Cid(2), Command::new(LUN, [0; 16])).is_none());
    assert!(session.recv_space(Cid(2)).is_empty());
}

/// §4.2.5.1: data for a command comes on the command's connection; from another one it is refused and changes nothing.
#[test]
fn s4_2_5_1_data_from_another_connection_is_refused() {
    let mut session = session(2);
    session.initiator.submit(Cid(2), Command::write(LUN, write_cdb(1), pattern(512)));
    session.send(Cid(2));
    let link = session.link(Cid(2)).unwrap();
    // The target asks for the data; the question does not get there yet.
    for _ in 0..3 {
        session.run_some(1);
        let target = session.target.on(link).unwrap();
        let mut out = VecDeque::new();
        target.poll_transmit(&mut out, 1 << 20);
        let bytes: Vec<u8> = out.into_iter().flatten().collect();
        let Some(question) = decode(&bytes).pop() else { continue };
        let question: pdu::ReadyToTransfer = question.as_a();
        let data =
            pdu::DataOut { flags: 0x80, itt: question.itt, ttt: question.ttt, ..pdu::DataOut::blank() };
        inject(&mut session, LinkId::LEADING, &encode(data.bytes(), &[], &[0xee; 512]));
        assert!(session.target.poll_event().is_none(), "not delivered");
        inject(&mut session, link, &encode(data.bytes(), &[], &pattern(512)));
        let Some(Event::Command(command)) = session.target.poll_event() else {
            panic!("it has its data now")
        };
        assert_eq!(command.data_out.concat(), pattern(512));
        session.run();
        let Some((Cid(1), HostEvent::Rejected { reason, .. })) = session.initiator_events.pop_front() else {
            panic!()
        };
        assert_eq!(reason, RejectReason::ProtocolError);
        return;
    }
    panic!("no question for the data came");
}

/// §11.16: there is no SNACK at ErrorRecoveryLevel 0, on whichever connection, and nothing else suffers.
#[test]
fn s11_16_snack_is_rejected_at_error_recovery_level_0() {
    let mut session = session(2);
    let link = session.link(Cid(2)).unwrap();
    let snack = pdu::NopOut { opcode: 0x10, flags: 0x80, itt: u32::MAX.into(), ..pdu::NopOut::blank() };
    inject(&mut session, link, snack.bytes());
    session.run();
    let Some((Cid(2), HostEvent::Rejected { reason, .. })) = session.initiator_events.pop_front() else {
        panic!()
    };
    assert_eq!(reason, RejectReason::SnackReject);
    assert!(session.initiator_events.is_empty());
    assert_eq!(session.target.parameters().error_recovery_level, 0);
}

/// §11.9.1, event 1: each connection is asked on its own, and logs out on its own.
#[test]
fn s11_9_1_every_connection_is_asked_to_log_out() {
    let mut session = session(3);
    let now = session.now();
    session.target.request_logout(Duration::from_secs(10), now);
    session.run();
    let asked: HashSet<Cid> = session
        .initiator_events
        .drain(..)
        .map(|(cid, event)| match event {
            HostEvent::AsyncMessage(message) if message.event == AsyncEvent::LogoutRequest => cid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked, HashSet::from([Cid(1), Cid(2), Cid(3)]));
    let mut closed = HashSet::new();
    while let Some((link, event)) = session.target_events.pop_front() {
        if matches!(event, Event::LogoutRequested(_)) {
            session.target.on(link).unwrap().logout_accept();
            session.run();
        }
        closed.extend(session.initiator_events.drain(..).filter_map(|(cid, event)| {
            matches!(event, HostEvent::Closed(HostCloseReason::AskedToLeave)).then_some(cid)
        }));
    }
    assert_eq!(closed, asked);
    assert!(session.target.is_over() && session.initiator.is_over());
}
