//! Several connections in a session: numbering, allegiance, joining, reinstatement, logout and loss (RFC 7143 §4.2.2,
//! §4.2.5.1, §6.3, §7). Names follow the multi-connection groups of the UNH-IOL full feature suites.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use common::*;
use iscsi::initiator::{self, Command, Event as HostEvent};
use iscsi::pair::{Several, SimpleSizer};
use iscsi::parameters::Offer;
use iscsi::pdu::{LogoutResponse, TaskAttribute, TaskManagementFunction, TaskManagementResponse};
use iscsi::target::{self, CloseReason, Config, Event, JoinError, LinkId, Response};
use iscsi::{Cid, CmdSn};

const CONNECTIONS: u16 = 8;

fn offer(max_connections: u16) -> Offer {
    Offer { max_connections, ..Offer::default() }
}

fn config(max_connections: u16) -> Config {
    Config { offer: offer(max_connections), nop_interval: None, ..Config::default() }
}

/// A session of `connections` connections, CID 1 and up, all in the full feature phase.
fn several(target: Config, connections: u16, seed: u64) -> Several {
    let host = initiator::Config {
        offer: offer(connections.max(2)),
        nop_interval: None,
        cmd_sn: CmdSn(u32::MAX - 20),
        ..initiator::Config::normal(INITIATOR, TARGET)
    };
    let mut session = Several::new(target, host, SimpleSizer, seed);
    session.run();
    for cid in 2..=connections {
        assert!(session.connect(Cid(cid)));
    }
    session.run();
    let logged_in =
        session.initiator_events.iter().filter(|(_, event)| matches!(event, HostEvent::LoggedIn(_)));
    assert_eq!(logged_in.count(), usize::from(connections), "{:?}", session.refused);
    session.initiator_events.clear();
    session.target_events.clear();
    session
}

fn test_unit_ready() -> Command {
    Command::new(LUN, [0; 16])
}

/// A write that waits for R2T: nothing of it comes unasked.
fn write(blocks: u16) -> Command {
    let mut command = Command::write(LUN, write_cdb(blocks), pattern(usize::from(blocks) * 512));
    command.attribute = TaskAttribute::Simple;
    command
}

fn delivered(session: &mut Several) -> Vec<(LinkId, target::Command)> {
    let events = std::mem::take(&mut session.target_events);
    events
        .into_iter()
        .filter_map(|(link, event)| match event {
            Event::Command(command) => Some((link, command)),
            _ => None,
        })
        .collect()
}

/// Answers every command with GOOD and whatever it reads.
fn answer_all(session: &mut Several) -> usize {
    let commands = delivered(session);
    for (_, command) in &commands {
        let data = pattern(usize::try_from(command.expected_data_in).unwrap());
        session.target.respond(command.task, Response::good(vec![data]));
    }
    session.run();
    commands.len()
}

fn completed(session: &mut Several) -> HashMap<initiator::TaskId, Cid> {
    let events = std::mem::take(&mut session.initiator_events);
    events
        .into_iter()
        .filter_map(|(cid, event)| match event {
            HostEvent::Completed(completion) => Some((completion.task, cid)),
            _ => None,
        })
        .collect()
}

/// §4.2.2.1: commands are delivered in the order of CmdSN, whichever connection they come on and however these are
/// delayed; across the wrap of the number.
#[test]
fn s4_2_2_1_commands_are_delivered_in_order_across_connections() {
    for seed in 0..40 {
        let mut session = several(config(CONNECTIONS), CONNECTIONS, seed);
        let mut sent = HashMap::new();
        for number in 0..100_u16 {
            let cid = Cid(1 + number * 5 % CONNECTIONS);
            let mut command = test_unit_ready();
            command.cdb[15] = u8::try_from(number).unwrap();
            sent.insert(session.initiator.submit(cid, command).unwrap(), cid);
            session.send(cid);
            session.run_some(3);
        }
        session.run();
        let commands = delivered(&mut session);
        assert_eq!(commands.len(), 100);
        let on_links: HashSet<LinkId> = commands.iter().map(|(link, _)| *link).collect();
        assert_eq!(on_links.len(), usize::from(CONNECTIONS));
        let numbers: Vec<u8> = commands.iter().map(|(_, command)| command.cdb.bytes()[15]).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<u8>>(), "seed {seed}");
        for (_, command) in &commands {
            session.target.respond(command.task, Response::good(Vec::new()));
        }
        session.run();
        assert_eq!(
            completed(&mut session),
            sent,
            "§4.2.5.1: each status on its command's connection, seed {seed}"
        );
    }
}

/// §4.2.5.1: R2T, data and status of a task stay on the connection of its command.
#[test]
fn s4_2_5_1_data_and_status_stay_on_the_connection_of_their_command() {
    for seed in 0..20 {
        let mut session = several(config(CONNECTIONS), CONNECTIONS, seed);
        let mut sent = HashMap::new();
        for round in 0..4 {
            for cid in 1..=CONNECTIONS {
                let command = match (cid + round) % 2 {
                    0 => write(1500),
                    _ => Command::read(LUN, read_cdb(600), 600 * 512),
                };
                sent.insert(session.initiator.submit(Cid(cid), command).unwrap(), Cid(cid));
            }
        }
        session.run();
        for (link, command) in delivered(&mut session) {
            let data: Vec<u8> = command.data_out.concat();
            assert_eq!(data, pattern(data.len()), "link {link:?}");
            let read = pattern(usize::try_from(command.expected_data_in).unwrap());
            session.target.respond(command.task, Response::good(vec![read]));
            session.run_some(5);
        }
        session.run();
        while answer_all(&mut session) > 0 {}
        for (cid, event) in session.initiator_events.drain(..) {
            let HostEvent::Completed(completion) = event else { panic!("{event:?}") };
            assert_eq!(sent.remove(&completion.task), Some(cid));
            assert_eq!(completion.data_in, pattern(completion.data_in.len()));
        }
        assert!(sent.is_empty(), "seed {seed}: {} without an answer", sent.len());
    }
}

/// §4.2.2.1: the window is the session's. One connection's commands use up what another one's could.
#[test]
fn s4_2_2_1_the_window_is_the_sessions() {
    let mut session = several(Config { command_window: 4, ..config(2) }, 2, 1);
    for _ in 0..4 {
        session.initiator.submit(Cid(1), test_unit_ready());
    }
    session.run();
    session.initiator.submit(Cid(2), test_unit_ready());
    session.run();
    let first = delivered(&mut session);
    assert_eq!(first.len(), 4, "the fifth waits for the window");
    session.target.respond(first[0].1.task, Response::good(Vec::new()));
    session.run();
    assert_eq!(delivered(&mut session).len(), 1);
}

#[test]
fn s13_2_no_more_connections_join_than_were_agreed() {
    let mut session = several(config(3), 3, 7);
    assert!(session.connect(Cid(9)));
    session.run();
    assert_eq!(session.refused, [(Cid(9), JoinError::TooManyConnections)]);
    session.initiator.submit(Cid(2), test_unit_ready());
    session.run();
    assert_eq!(answer_all(&mut session), 1, "the others do not mind");
}

#[test]
fn s13_keys_of_the_leading_login_hold_for_all_connections() {
    let host = initiator::Config {
        offer: Offer { first_burst_length: 2048, max_burst_length: 8192, initial_r2t: true, ..offer(2) },
        ..initiator::Config::normal(INITIATOR, TARGET)
    };
    let mut session = Several::new(config(2), host, SimpleSizer, 3);
    session.run();
    session.connect(Cid(2));
    session.run();
    let link = session.link(Cid(2)).unwrap();
    let joined = *session.target.on(link).unwrap().parameters();
    let leading = *session.target.on(LinkId::LEADING).unwrap().parameters();
    assert_eq!((joined, joined.max_burst_length, joined.max_connections), (leading, 8192, 2));
    assert_eq!(session.initiator.link(Cid(2)).unwrap().parameters().first_burst_length, 2048);
}

/// §6.3.4: a login with the CID of a connection that is there logs that out; its tasks are terminated, those of other
/// connections are not.
#[test]
fn s6_3_4_a_reinstated_connection_takes_the_place_of_the_old_one() {
    let mut session = several(config(2), 2, 5);
    session.initiator.submit(Cid(1), test_unit_ready());
    session.initiator.submit(Cid(2), test_unit_ready());
    session.run();
    let commands = delivered(&mut session);
    let old = session.link(Cid(2)).unwrap();
    let (lost, kept): (Vec<_>, Vec<_>) = commands.into_iter().partition(|(link, _)| *link == old);
    session.accept_joins = false;
    assert!(session.connect(Cid(2)));
    session.run();
    let events: Vec<_> = session.target_events.drain(..).collect();
    let [(ended_on, Event::Ended(ended)), (closed, Event::Closed(CloseReason::Reinstated))] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*ended_on, *closed), (old, old));
    assert_eq!(ended[..], [lost[0].1.task]);
    assert!(session.initiator_events.is_empty(), "the new one waits until what the old one began has ended");
    let new = session.link(Cid(2)).unwrap();
    session.accept(new);
    session.run();
    assert!(matches!(session.initiator_events.pop_front(), Some((Cid(2), HostEvent::LoggedIn(_)))));
    session.target.release(old);
    session.target.respond(lost[0].1.task, Response::good(Vec::new()));
    session.target.respond(kept[0].1.task, Response::good(Vec::new()));
    session.initiator.submit(Cid(2), test_unit_ready());
    session.run();
    assert_eq!(answer_all(&mut session), 1);
    let completed = completed(&mut session);
    assert_eq!(completed.len(), 2, "the old connection's command gets no answer");
}

/// §6.3.4 with one connection: a second one is taken for the sole purpose of replacing the first, though there may be
/// only one; CmdSN goes on.
#[test]
fn s6_3_4_the_only_connection_can_be_reinstated() {
    let mut session = several(config(1), 1, 9);
    session.initiator.submit(Cid(1), test_unit_ready());
    session.run();
    assert_eq!(answer_all(&mut session), 1);
    assert!(session.connect(Cid(1)));
    session.run();
    session.initiator.submit(Cid(1), test_unit_ready());
    session.run();
    assert_eq!(answer_all(&mut session), 1);
    assert!(!session.target.is_over());
}

/// §7.5 a, b: when a connection is lost its tasks are terminated without an answer, the others go on.
#[test]
fn s7_5_a_connection_cut_mid_write_ends_its_tasks_and_no_others() {
    for seed in 0..40 {
        let mut session = several(config(CONNECTIONS), CONNECTIONS, seed);
        let mut tasks = HashMap::new();
        for round in 0..3 {
            for cid in 1..=CONNECTIONS {
                tasks.insert(session.initiator.submit(Cid(cid), write(700 + 10 * round)).unwrap(), Cid(cid));
            }
        }
        session.run_some(u32::try_from(seed).unwrap() * 5);
        session.cut(Cid(3));
        tasks.retain(|_, cid| *cid != Cid(3));
        // What was lost has left a hole in CmdSN, maybe; the initiator fills it (§7.2.1), or the session ends.
        session.run();
        while answer_all(&mut session) > 0 {}
        let done = completed(&mut session);
        assert!(done.values().all(|cid| *cid != Cid(3)) || done.len() <= 24);
        let stuck = tasks.keys().filter(|task| !done.contains_key(task)).count();
        session.pass(Duration::from_secs(30));
        if stuck > 0 {
            let reasons: Vec<_> = session
                .target_events
                .iter()
                .filter_map(|(_, event)| match event {
                    Event::Closed(reason) => Some(*reason),
                    _ => None,
                })
                .collect();
            assert!(
                reasons.contains(&CloseReason::CommandsMissing),
                "seed {seed}: {reasons:?}, {stuck} stuck"
            );
            assert!(session.target.is_over(), "§7.1.4.4: session recovery");
        } else {
            assert!(!session.target.is_over(), "seed {seed}");
            session.initiator.submit(Cid(1), test_unit_ready());
            session.run();
            assert_eq!(answer_all(&mut session), 1);
        }
        assert_eq!(session.target.unsent_data(), 0);
    }
}

/// §7.2.1: a command that was lost with its connection, and those behind it wait for, may come over another one.
#[test]
fn s7_2_1_a_lost_command_may_be_sent_again_over_another_connection() {
    let mut session = several(config(2), 2, 4);
    // Goes into the pipe of the second connection, and is lost with it.
    session.initiator.submit(Cid(2), test_unit_ready());
    let mut lost = std::collections::VecDeque::new();
    session.initiator.poll_transmit(Cid(2), &mut lost, 1 << 20);
    session.initiator.submit(Cid(1), test_unit_ready());
    session.run();
    assert!(delivered(&mut session).is_empty(), "it waits for the one before it");
    session.cut(Cid(2));
    session.run();
    assert!(session.target.poll_timeout().is_some(), "not for ever");
    // The same PDU, as it stood, on the first connection.
    let bytes: Vec<u8> = lost.into_iter().flatten().collect();
    let target = session.target.on(LinkId::LEADING).unwrap();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let space = target.recv_space();
        let count = space.len().min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        target.received(count, Duration::ZERO, &SimpleSizer);
        rest = &rest[count..];
    }
    session.run();
    let commands = delivered(&mut session);
    assert_eq!(commands.len(), 2);
    assert!(
        commands.iter().all(|(link, _)| *link == LinkId::LEADING),
        "it is allegiant to the new connection"
    );
    assert_eq!(session.target.poll_timeout(), None, "nothing is missing any more");
}

/// §7.1.4.4: without that the session ends, and says so on what is left of it.
#[test]
fn s7_1_4_4_commands_that_never_come_end_the_session() {
    let mut session = several(config(3), 3, 4);
    session.initiator.submit(Cid(2), test_unit_ready());
    session.initiator.poll_transmit(Cid(2), &mut Default::default(), 1 << 20);
    session.initiator.submit(Cid(1), test_unit_ready());
    session.run();
    session.pass(Duration::from_secs(60));
    assert!(!session.target.is_over(), "as long as all connections are there it may be on its way");
    session.cut(Cid(2));
    session.pass(Duration::from_secs(4));
    assert!(!session.target.is_over());
    session.pass(Duration::from_secs(60));
    assert!(session.target.is_over());
    for cid in [1, 3] {
        let told = session.initiator_events.iter().any(|(on, event)| {
            *on == Cid(cid) && matches!(event, HostEvent::Closed(initiator::CloseReason::Dropped))
        });
        assert!(told, "§11.9.1: the target drops all connections of this session");
    }
}

/// §11.14.1 reason 1: this connection, and the session goes on with the others.
#[test]
fn s11_14_1_a_logout_closes_one_connection() {
    for (over, closes) in [(2, 2), (1, 2)] {
        let mut session = several(config(2), 2, 8);
        session.initiator.submit(Cid(1), test_unit_ready());
        session.initiator.submit(Cid(2), test_unit_ready());
        session.run();
        let commands = delivered(&mut session);
        let leaving = session.link(Cid(2)).unwrap();
        session.initiator.logout_connection(Cid(over), Cid(closes));
        session.run();
        let Some((link, Event::LogoutRequested(request))) = session.target_events.pop_front() else {
            panic!()
        };
        let lost = commands.iter().find(|(link, _)| *link == leaving).unwrap();
        assert_eq!(request.aborted, [lost.1.task]);
        session.target.on(link).unwrap().logout_accept();
        session.run();
        let answered = session.initiator_events.iter().any(|(cid, event)| {
            *cid == Cid(over) && matches!(event, HostEvent::LoggedOut(LogoutResponse::Closed))
        });
        assert!(answered, "on the connection that asked");
        let closed = session
            .target_events
            .iter()
            .any(|(link, event)| *link == leaving && matches!(event, Event::Closed(CloseReason::LoggedOut)));
        assert!(closed && !session.target.is_over());
        session.initiator_events.clear();
        for (_, command) in &commands {
            session.target.respond(command.task, Response::good(Vec::new()));
        }
        session.run();
        assert_eq!(completed(&mut session).len(), 1, "the other connection's command is answered");
    }
}

#[test]
fn s11_15_1_a_cid_that_is_not_there_is_not_found() {
    let mut session = several(config(2), 2, 8);
    session.initiator.logout_connection(Cid(1), Cid(77));
    session.run();
    let Some((Cid(1), HostEvent::LoggedOut(response))) = session.initiator_events.pop_front() else {
        panic!()
    };
    assert_eq!(response, LogoutResponse::CidNotFound);
    assert!(!session.target.is_over());
}

/// §11.14.1 reason 0: the session, with all connections.
#[test]
fn s11_14_1_a_logout_of_the_session_closes_every_connection() {
    let mut session = several(config(CONNECTIONS), CONNECTIONS, 8);
    session.initiator.submit(Cid(5), test_unit_ready());
    session.run();
    let commands = delivered(&mut session);
    session.initiator.logout(Cid(3));
    session.run();
    let Some((link, Event::LogoutRequested(request))) = session.target_events.pop_front() else { panic!() };
    assert_eq!(request.aborted, [commands[0].1.task], "of whichever connection");
    session.initiator.submit(Cid(4), test_unit_ready());
    session.run();
    assert!(delivered(&mut session).is_empty(), "nothing is taken any more");
    session.target.on(link).unwrap().logout_accept();
    session.run();
    assert!(session.target.is_over());
    let reasons = session
        .target_events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Closed(CloseReason::LoggedOut)));
    assert_eq!(reasons.count(), usize::from(CONNECTIONS));
}

/// §4.2.3.3: a reset ends the tasks of every connection of the session; its answer comes behind every response that
/// went out before it on the others (§4.2.2.3.3).
#[test]
fn s4_2_3_3_a_reset_ends_tasks_on_every_connection() {
    let functions = [
        TaskManagementFunction::AbortTaskSet,
        TaskManagementFunction::ClearTaskSet,
        TaskManagementFunction::LogicalUnitReset,
    ];
    for (seed, function) in (0..10).flat_map(|seed| functions.map(|function| (seed, function))) {
        let mut session = several(config(CONNECTIONS), CONNECTIONS, seed);
        let tasks: Vec<_> = (1..=CONNECTIONS)
            .map(|cid| session.initiator.submit(Cid(cid), test_unit_ready()).unwrap())
            .collect();
        session.run();
        let commands = delivered(&mut session);
        // One is answered before; nothing of that has arrived yet.
        session.target.respond(commands[2].1.task, Response::good(Vec::new()));
        let id = session.initiator.task_management(Cid(1), function, LUN, None).unwrap();
        session.run_some(40);
        session.run();
        let Some((link, Event::TaskManagement(request))) = session.target_events.pop_front() else {
            panic!()
        };
        assert_eq!(Some(link), session.link(Cid(1)));
        assert_eq!(request.aborted.len(), usize::from(CONNECTIONS) - 1);
        session.target.task_management_response(request.id, TaskManagementResponse::Complete);
        session.run();
        let mut answered_before = 0;
        let mut ended = Vec::new();
        for (_, event) in session.initiator_events.drain(..) {
            match event {
                HostEvent::Completed(_) if ended.is_empty() => answered_before += 1,
                HostEvent::TaskManagementDone(done) => {
                    assert_eq!((done.id, done.response), (id, TaskManagementResponse::Complete));
                    ended = done.ended;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((answered_before, ended.len()), (1, tasks.len() - 1), "seed {seed}, {function:?}");
        assert_eq!((session.initiator.tasks(), session.target.tasks()), (0, 0));
    }
}

/// The same with a connection that does not acknowledge: the function waits for it, and no longer than it lives.
#[test]
fn s4_2_2_3_3_a_dead_connection_does_not_hold_up_a_function() {
    let mut session = several(config(2), 2, 6);
    session.initiator.submit(Cid(2), test_unit_ready());
    session.run();
    let commands = delivered(&mut session);
    session.cut_at_initiator(Cid(2));
    session.target.respond(commands[0].1.task, Response::good(Vec::new()));
    session.run();
    let id = session
        .initiator
        .task_management(Cid(1), TaskManagementFunction::LogicalUnitReset, LUN, None)
        .unwrap();
    session.run();
    let Some((_, Event::TaskManagement(request))) = session.target_events.pop_front() else { panic!() };
    session.target.task_management_response(request.id, TaskManagementResponse::Complete);
    session.run();
    assert!(session.initiator_events.is_empty(), "a response is on its way to nowhere");
    session.pass(Config::default().nop_timeout * 2);
    let Some((Cid(1), HostEvent::TaskManagementDone(done))) = session.initiator_events.pop_front() else {
        panic!()
    };
    assert_eq!(done.id, id);
    let dead = session
        .target_events
        .iter()
        .any(|(_, event)| matches!(event, Event::Closed(CloseReason::NopTimeout)));
    assert!(dead);
}

#[test]
fn s11_5_1_a_task_is_aborted_whichever_connection_it_is_on() {
    let mut session = several(config(2), 2, 2);
    let task = session.initiator.submit(Cid(2), test_unit_ready()).unwrap();
    session.run();
    let commands = delivered(&mut session);
    session.initiator.task_management(Cid(2), TaskManagementFunction::AbortTask, LUN, Some(task));
    session.run();
    let Some((_, Event::TaskManagement(request))) = session.target_events.pop_front() else { panic!() };
    assert_eq!(request.aborted, [commands[0].1.task]);
}

/// §11.6.1: reassignment needs ErrorRecoveryLevel 2.
#[test]
fn s11_6_1_reassignment_is_not_supported() {
    let mut session = several(config(2), 2, 2);
    session.initiator.task_management(Cid(2), TaskManagementFunction::TaskReassign, LUN, None);
    session.run();
    let Some((Cid(2), HostEvent::TaskManagementDone(done))) = session.initiator_events.pop_front() else {
        panic!()
    };
    assert_eq!(done.response, TaskManagementResponse::ReassignmentNotSupported);
}

/// An ordered command waits for data of simple ones before it on other connections, and they for it.
#[test]
fn s4_2_2_1_ordered_commands_keep_their_place_across_connections() {
    for seed in 0..20 {
        let mut session = several(config(3), 3, seed);
        for (number, cid) in [1, 2, 3, 1, 2, 3].into_iter().enumerate() {
            let mut command = write(if number == 0 { 3000 } else { 1 });
            command.cdb[5] = u8::try_from(number).unwrap();
            if number == 2 {
                command.attribute = TaskAttribute::Ordered;
            }
            session.initiator.submit(Cid(cid), command);
            session.send(Cid(cid));
            session.run_some(1);
        }
        session.run();
        let order: Vec<u8> =
            delivered(&mut session).iter().map(|(_, command)| command.cdb.bytes()[5]).collect();
        let place = order.iter().position(|number| *number == 2).unwrap();
        assert!(order[..place].iter().all(|number| *number < 2), "seed {seed}: {order:?}");
        assert!(order[place + 1..].iter().all(|number| *number > 2), "seed {seed}: {order:?}");
    }
}
