//! Asynchronous messages in both roles (RFC 7143 §11.9), and login redirection (§11.13.5).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::*;
use iscsi::initiator::{CloseReason as HostCloseReason, Command, Event as HostEvent};
use iscsi::parameters::Offer;
use iscsi::pdu::{self, AsyncEvent, Header, LoginStatus, Opcode};
use iscsi::target::{AsyncMessage, CloseReason, Config, Event, Redirect, Response};
use iscsi::{HeapPool, StatSn, initiator};

const TEN_SECONDS: Duration = Duration::from_secs(10);

/// A command window of one: what follows the first command stays queued.
fn narrow() -> Config {
    Config { command_window: 1, nop_interval: None, ..Config::default() }
}

#[test]
fn s11_9_1_a_host_asked_to_log_out_lets_what_is_under_way_end_and_sends_no_more() {
    let mut pair = pair_with(narrow(), Offer::default());
    let first = pair.initiator.submit(Command::new(LUN, [0; 16]));
    let second = pair.initiator.submit(Command::new(LUN, [0; 16]));
    pair.run();
    let now = pair.now();
    pair.target.request_logout(TEN_SECONDS, now);
    pair.run();
    let Some(HostEvent::AsyncMessage(message)) = pair.initiator_events.pop_front() else { panic!() };
    assert_eq!((message.event, message.parameters), (AsyncEvent::LogoutRequest, [0, 0, 10]));
    let Some(HostEvent::Returned { task, .. }) = pair.initiator_events.pop_front() else { panic!() };
    assert_eq!(task, second, "it was not sent");
    let third = pair.initiator.submit(Command::new(LUN, [0; 16]));
    let commands = commands(&mut pair);
    pair.target.respond(commands[0].task, Response::good(Vec::new()));
    pair.run();
    let Some(HostEvent::Returned { task, .. }) = pair.initiator_events.pop_front() else { panic!() };
    assert_eq!(task, third);
    let Some(HostEvent::Completed(completion)) = pair.initiator_events.pop_front() else { panic!() };
    assert_eq!(completion.task, first);
    let Some(Event::LogoutRequested(_)) = pair.target_events.pop_front() else { panic!("no logout") };
    pair.target.logout_accept();
    pair.run();
    let Some(HostEvent::LoggedOut(_)) = pair.initiator_events.pop_front() else { panic!() };
    let Some(HostEvent::Closed(reason)) = pair.initiator_events.pop_front() else { panic!() };
    assert_eq!(reason, HostCloseReason::AskedToLeave);
}

#[test]
fn s11_9_1_a_host_logs_out_in_time_whatever_is_under_way() {
    let mut pair = pair_with(narrow(), Offer::default());
    pair.initiator.submit(Command::new(LUN, [0; 16]));
    pair.run();
    let now = pair.now();
    pair.target.request_logout(TEN_SECONDS, now);
    pair.pass(Duration::from_secs(4));
    assert!(!pair.target_events.iter().any(|event| matches!(event, Event::LogoutRequested(_))));
    pair.pass(Duration::from_secs(1));
    assert!(pair.target_events.iter().any(|event| matches!(event, Event::LogoutRequested(_))));
}

/// A host that does not log out is told that it is dropped, and is.
#[test]
fn s11_9_1_a_host_that_does_not_log_out_in_time_is_dropped() {
    let mut wire = Wire::logged_in(narrow(), &[]);
    wire.target.request_logout(TEN_SECONDS, Duration::ZERO);
    let request: pdu::AsyncMessage = wire.receive_one().as_a();
    assert_eq!((AsyncEvent(request.event), request.parameter3.get()), (AsyncEvent::LogoutRequest, 10));
    let tag = request.itt.get();
    assert_eq!(tag, u32::MAX, "it belongs to no task");
    wire.target.request_logout(TEN_SECONDS * 2, Duration::ZERO);
    assert!(wire.receive().is_empty(), "more time than it was given is not taken back");
    assert_eq!(wire.target.poll_timeout(), Some(TEN_SECONDS));
    wire.target.handle_timeout(TEN_SECONDS);
    let drop: pdu::AsyncMessage = wire.receive_one().as_a();
    assert_eq!((AsyncEvent(drop.event), drop.parameter1.get()), (AsyncEvent::ConnectionDrop, 1), "CID 1");
    assert_eq!((drop.parameter2.get(), drop.parameter3.get()), (2, 20), "Time2Wait and Time2Retain");
    assert_eq!(StatSn(drop.stat_sn.get()), StatSn(request.stat_sn.get()).next());
    let Some(Event::Closed(reason)) = wire.target.poll_event() else { panic!() };
    assert_eq!(reason, CloseReason::LogoutOverdue);
}

#[test]
fn s11_9_1_a_request_for_negotiation_is_answered_with_a_text_request() {
    let mut pair = pair();
    pair.target.async_message(AsyncMessage::NegotiationRequest { within: TEN_SECONDS });
    pair.run();
    let Some(HostEvent::AsyncMessage(message)) = pair.initiator_events.pop_front() else { panic!() };
    assert_eq!((message.event, message.parameters), (AsyncEvent::NegotiationRequest, [0, 0, 10]));
    assert!(pair.initiator_events.is_empty() && !pair.initiator.is_closed());
    pair.initiator.nop(bytes::Bytes::from_static(b"still there"));
    pair.run();
    assert!(matches!(pair.initiator_events.pop_front(), Some(HostEvent::NopReply(_))));
    assert_eq!(pair.initiator.tasks(), 0);
}

/// A text request that answers nothing but the message itself is taken, with no key in it.
#[test]
fn s11_10_an_empty_text_request_gets_an_empty_answer() {
    let mut wire = Wire::logged_in(narrow(), &[]);
    wire.target.async_message(AsyncMessage::NegotiationRequest { within: TEN_SECONDS });
    assert_eq!(wire.receive_one().opcode(), Opcode::AsyncMessage);
    let request = pdu::TextRequest {
        opcode: 0x44,
        flags: 0x80,
        itt: 5.into(),
        ttt: u32::MAX.into(),
        ..pdu::TextRequest::blank()
    };
    wire.send(request.bytes(), &[]);
    let response = wire.receive_one();
    assert_eq!(response.as_a::<pdu::TextResponse>().itt.get(), 5);
    assert!(response.data.is_empty());
}

#[test]
fn s11_9_1_discovery_sessions_get_no_messages() {
    let config = initiator::Config::discovery(INITIATOR);
    let mut pair = iscsi::pair::Pair::new(narrow(), config, iscsi::pair::SimpleSizer);
    log_in(&mut pair);
    let now = pair.now();
    pair.target.request_logout(TEN_SECONDS, now);
    pair.target.async_message(AsyncMessage::NegotiationRequest { within: TEN_SECONDS });
    pair.run();
    assert!(pair.initiator_events.is_empty());
}

#[test]
fn s11_13_5_a_redirection_names_the_portal_and_no_group() {
    for (permanent, status) in [(false, LoginStatus::MovedTemporarily), (true, LoginStatus::MovedPermanently)]
    {
        let mut wire = Wire::new(Config::default());
        let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
        wire.send_login(1, Some(3), &[&names[0], &names[1]]);
        assert!(matches!(wire.target.poll_event(), Some(Event::LoginRequested(_))));
        let address = "192.0.2.7:3260".to_owned();
        wire.target.login_redirect(&Redirect { permanent, address });
        let response = wire.receive_one();
        let header: pdu::LoginResponse = response.as_a();
        assert_eq!(LoginStatus(header.status.get()), status);
        assert_eq!(header.flags & 0x80, 0, "the login does not go on");
        // RFC 7143 §13.8: the comma and the portal group tag must be left out.
        assert_eq!(response.data, b"TargetAddress=192.0.2.7:3260\0");
        let Some(Event::Closed(reason)) = wire.target.poll_event() else { panic!() };
        assert_eq!(reason, CloseReason::LoginRefused(status));
        assert!(wire.target.is_closed());
    }
}

#[test]
fn s11_13_5_an_initiator_learns_where_it_is_sent() {
    let config = initiator::Config::normal(INITIATOR, TARGET);
    let mut pair = iscsi::pair::Pair::new(Config::default(), config, iscsi::pair::SimpleSizer);
    pair.accept_logins = false;
    pair.target.login_redirect(&Redirect { permanent: false, address: "too.early:1".to_owned() });
    pair.run();
    pair.target.login_redirect(&Redirect { permanent: true, address: "[2001:db8::1]:3260".to_owned() });
    pair.run();
    let Some(HostEvent::Closed(reason)) = pair.initiator_events.pop_front() else { panic!() };
    let address = Some("[2001:db8::1]:3260".to_owned());
    assert_eq!(reason, HostCloseReason::LoginRefused { status: LoginStatus::MovedPermanently, address });
}

/// Task names go on where an earlier connection's ended: one of them never means another's task.
#[test]
fn names_of_tasks_do_not_repeat_on_the_next_connection() {
    let mut old =
        initiator::Connection::new(initiator::Config::normal(INITIATOR, TARGET), HeapPool, Duration::ZERO);
    let first = old.submit(Command::new(LUN, [0; 16]));
    let config = initiator::Config {
        tasks_before: old.tasks_started(),
        ..initiator::Config::normal(INITIATOR, TARGET)
    };
    let mut new = initiator::Connection::new(config, HeapPool, Duration::ZERO);
    assert!(new.submit(Command::new(LUN, [0; 16])) > first);
}
