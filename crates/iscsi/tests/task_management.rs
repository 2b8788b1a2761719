//! Task management: who is ended, and when the function may be carried out (RFC 7143 §4.2.3.3, §11.5, §11.6).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::*;
use iscsi::initiator::{self, Command};
use iscsi::pdu::{self, RejectReason, TaskManagementFunction, TaskManagementResponse};
use iscsi::target::{Config, Event, Response, TaskManagement};

const WRITE: u8 = 0xa1;
const NO_DATA: u8 = 0x81;
const ABORT_TASK: u8 = 1;
const LU_RESET: u8 = 5;

fn wire() -> Wire {
    Wire::logged_in(Config::default(), &["ImmediateData=No"])
}

#[track_caller]
fn answered(wire: &mut Wire, response: TaskManagementResponse) {
    let reply: pdu::TaskManagementReply = wire.receive_one().as_a();
    assert_eq!(TaskManagementResponse(reply.response), response);
}

#[track_caller]
fn function(wire: &mut Wire) -> TaskManagement {
    match wire.target.poll_event() {
        Some(Event::TaskManagement(function)) => function,
        other => panic!("{other:?}"),
    }
}

#[test]
fn s11_6_1_abort_task_ends_a_delivered_task() {
    let mut wire = wire();
    let cmd_sn = wire.command(1, NO_DATA, [0; 16], 0, &[]);
    let command = wire.commands().remove(0);
    wire.task_management(2, ABORT_TASK, 1, cmd_sn);
    let abort = function(&mut wire);
    assert_eq!(
        (abort.function, &abort.aborted[..]),
        (TaskManagementFunction::AbortTask, &[command.task][..])
    );
    // The task gets no response, and the function one when the caller says so.
    wire.target.respond(command.task, Response::good(Vec::new()));
    assert!(wire.receive().is_empty());
    wire.target.task_management_response(abort.id, TaskManagementResponse::Complete);
    answered(&mut wire, TaskManagementResponse::Complete);
    wire.target.task_management_response(abort.id, TaskManagementResponse::Complete);
    assert!(wire.receive().is_empty());
}

#[test]
fn s11_6_1_abort_task_of_one_that_waits_for_data_is_answered_at_once() {
    let mut wire = wire();
    let cmd_sn = wire.command(1, WRITE, write_cdb(1), 512, &[]);
    let r2t: pdu::ReadyToTransfer = wire.receive_one().as_a();
    wire.task_management(2, ABORT_TASK, 1, cmd_sn);
    answered(&mut wire, TaskManagementResponse::Complete);
    // Data still on its way is dropped without a word.
    wire.data_out(1, r2t.ttt.get(), 0, 0, true, &[0; 512]);
    assert!(wire.receive().is_empty() && wire.events().is_empty());
    assert_eq!(wire.target.tasks(), 0);
}

#[test]
fn s11_6_1_abort_task_of_one_that_is_over() {
    let mut wire = wire();
    let cmd_sn = wire.command(1, NO_DATA, [0; 16], 0, &[]);
    let command = wire.commands().remove(0);
    wire.target.respond(command.task, Response::good(Vec::new()));
    wire.task_management(2, ABORT_TASK, 1, cmd_sn);
    let pdus = wire.receive();
    let _: pdu::ScsiResponse = pdus[0].as_a();
    let reply: pdu::TaskManagementReply = pdus[1].as_a();
    assert_eq!(TaskManagementResponse(reply.response), TaskManagementResponse::TaskDoesNotExist);
}

/// §11.6.1 b: the command has not come, and may not be carried out when it does.
#[test]
fn s11_6_1_abort_task_of_one_not_received_yet() {
    let mut wire = wire();
    wire.cmd_sn = 103;
    wire.task_management(2, ABORT_TASK, 1, 101);
    answered(&mut wire, TaskManagementResponse::Complete);
    wire.command_at(102, 3, NO_DATA, [0; 16], 0, &[]);
    wire.command_at(101, 1, NO_DATA, [0; 16], 0, &[]);
    assert!(wire.commands().is_empty());
    wire.command_at(100, 9, NO_DATA, [0; 16], 0, &[]);
    let tags: Vec<u32> = wire.commands().iter().map(|command| command.initiator_task_tag.0).collect();
    assert_eq!(tags, [9, 3]);
    // Beyond the window: there is no such task and none to come.
    wire.task_management(5, ABORT_TASK, 77, 5000);
    answered(&mut wire, TaskManagementResponse::TaskDoesNotExist);
}

#[test]
fn s4_2_3_3_a_reset_waits_for_the_commands_before_it() {
    let mut wire = wire();
    wire.command_at(101, 1, NO_DATA, [0; 16], 0, &[]);
    wire.cmd_sn = 102;
    wire.task_management(7, LU_RESET, u32::MAX, 0);
    assert!(wire.events().is_empty() && wire.receive().is_empty());
    // A command behind the function is none of its business.
    wire.command_at(102, 2, NO_DATA, [0; 16], 0, &[]);
    wire.command_at(100, 0, NO_DATA, [0; 16], 0, &[]);
    let events = wire.events();
    let tasks: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Command(command) => Some((command.initiator_task_tag.0, command.task)),
            _ => None,
        })
        .collect();
    let Some(Event::TaskManagement(reset)) = events.last() else { panic!("{events:?}") };
    assert_eq!(tasks.iter().map(|(itt, _)| *itt).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(reset.aborted, [tasks[1].1, tasks[0].1]);
    wire.target.respond(tasks[2].1, Response::good(Vec::new()));
    let response: pdu::ScsiResponse = wire.receive_one().as_a();
    assert_eq!(response.itt.get(), 2);
}

#[test]
fn s4_2_3_3_a_reset_waits_for_data_it_asked_for() {
    let mut wire = wire();
    wire.command(1, WRITE, write_cdb(1), 512, &[]);
    let r2t: pdu::ReadyToTransfer = wire.receive_one().as_a();
    wire.task_management(7, LU_RESET, u32::MAX, 0);
    assert!(wire.events().is_empty());
    wire.data_out(1, r2t.ttt.get(), 0, 0, true, &[0; 512]);
    let reset = function(&mut wire);
    assert!(reset.aborted.is_empty(), "it never reached the caller");
    wire.target.task_management_response(reset.id, TaskManagementResponse::Complete);
    answered(&mut wire, TaskManagementResponse::Complete);
}

#[test]
fn a_reset_does_not_wait_for_ever_for_initiators_that_abort_fast() {
    let mut wire = wire();
    wire.command(1, WRITE, write_cdb(1), 512, &[]);
    wire.receive();
    wire.task_management(7, LU_RESET, u32::MAX, 0);
    assert_eq!(wire.target.poll_timeout(), Some(Duration::from_secs(1)));
    wire.target.handle_timeout(Duration::from_secs(1));
    function(&mut wire);
    assert_eq!(wire.target.tasks(), 0);
}

#[test]
fn s11_5_1_a_reset_ends_tasks_of_its_logical_unit_only() {
    let mut wire = wire();
    wire.command(1, NO_DATA, [0; 16], 0, &[]);
    let header = pdu::ScsiCommand {
        flags: NO_DATA,
        lun: [0, 3, 0, 0, 0, 0, 0, 0],
        itt: 2.into(),
        cmd_sn: 101.into(),
        ..<pdu::ScsiCommand as pdu::Header>::blank()
    };
    wire.send(pdu::Header::bytes(&header), &[]);
    wire.cmd_sn = 102;
    let tasks = wire.commands();
    wire.task_management(7, LU_RESET, u32::MAX, 0);
    assert_eq!(function(&mut wire).aborted, [tasks[0].task]);
    // A target reset takes what is left.
    wire.task_management(8, 6, u32::MAX, 0);
    assert_eq!(function(&mut wire).aborted, [tasks[1].task]);
}

#[test]
fn s11_5_1_functions_that_need_more_than_we_have() {
    for (code, response) in [
        (8, TaskManagementResponse::ReassignmentNotSupported),
        (3, TaskManagementResponse::NotSupported),
        (9, TaskManagementResponse::NotSupported),
        (0x7f, TaskManagementResponse::NotSupported),
    ] {
        let mut wire = wire();
        wire.task_management(7, code, u32::MAX, 0);
        answered(&mut wire, response);
    }
}

#[test]
fn too_many_functions_are_rejected() {
    let mut wire = Wire::logged_in(Config { immediate_commands: 2, ..Config::default() }, &[]);
    for itt in 0..3 {
        wire.task_management(itt, LU_RESET, u32::MAX, 0);
    }
    let reject: pdu::Reject = wire.receive_one().as_a();
    assert_eq!(RejectReason(reject.reason), RejectReason::TooManyImmediateCommands);
}

#[test]
fn aborting_read_data_half_sent_stops_it() {
    let mut wire = wire();
    let cmd_sn = wire.command(1, 0xc1, read_cdb(2048), 1 << 20, &[]);
    let command = wire.commands().remove(0);
    wire.target.respond(command.task, Response::good(vec![pattern(1 << 20)]));
    let mut out = std::collections::VecDeque::new();
    wire.target.poll_transmit(&mut out, 10_000);
    wire.task_management(2, ABORT_TASK, 1, cmd_sn);
    answered(&mut wire, TaskManagementResponse::Complete);
    assert_eq!(wire.target.tasks(), 0);
}

#[test]
fn an_abort_by_the_caller_frees_the_task_without_a_response() {
    let mut wire = wire();
    wire.command(1, NO_DATA, [0; 16], 0, &[]);
    let command = wire.commands().remove(0);
    assert!(wire.target.abort_task(command.task));
    assert!(!wire.target.abort_task(command.task));
    wire.target.respond(command.task, Response::good(Vec::new()));
    assert!(wire.receive().is_empty());
}

#[test]
fn the_initiator_learns_which_commands_a_function_ended() {
    let mut pair = pair();
    let first = pair.initiator.submit(Command::new(LUN, [0; 16]));
    let second = pair.initiator.submit(Command::new(LUN, [0; 16]));
    pair.run();
    let delivered = commands(&mut pair);
    let abort = pair.initiator.task_management(TaskManagementFunction::AbortTask, LUN, Some(first));
    pair.run();
    let Some(Event::TaskManagement(function)) = pair.target_events.pop_front() else { panic!() };
    assert_eq!(function.aborted, [delivered[0].task]);
    pair.target.task_management_response(function.id, TaskManagementResponse::Complete);
    let reset = pair.initiator.task_management(TaskManagementFunction::LogicalUnitReset, LUN, None);
    pair.run();
    let Some(Event::TaskManagement(function)) = pair.target_events.pop_front() else { panic!() };
    pair.target.task_management_response(function.id, TaskManagementResponse::Complete);
    pair.run();
    for (id, task) in [(abort, first), (reset, second)] {
        let Some(initiator::Event::TaskManagementDone(done)) = pair.initiator_events.pop_front() else {
            panic!()
        };
        assert_eq!((done.id, &done.ended[..]), (id, &[task][..]));
    }
    assert_eq!(pair.initiator.tasks(), 0);
}

const ORDERED: u8 = 0x82;

/// Incident: a reset took a write that waited for data, which let the ORDERED command behind it out of
/// the line; then it took that one too, and counted it out a second time.
#[test]
fn a_reset_ends_an_ordered_command_that_the_same_reset_let_out_of_the_line() {
    for abort_set in [LU_RESET, 2, 4, 6] {
        let mut wire = wire();
        wire.command(1, WRITE, write_cdb(1), 512, &[]);
        let r2t: pdu::ReadyToTransfer = wire.receive_one().as_a();
        wire.command(2, ORDERED, [0; 16], 0, &[]);
        wire.command(3, NO_DATA, [0; 16], 0, &[]);
        assert!(wire.events().is_empty(), "both stand in line");
        wire.task_management(7, abort_set, u32::MAX, 0);
        wire.data_out(1, r2t.ttt.get(), 0, 0, true, &[0; 512]);
        assert!(function(&mut wire).aborted.is_empty(), "none of them reached the caller");
        assert_eq!(wire.target.tasks(), 0);
        // The line is whole: ordered and simple commands go through.
        wire.command(4, ORDERED, [0; 16], 0, &[]);
        wire.command(5, NO_DATA, [0; 16], 0, &[]);
        let tags: Vec<u32> = wire.commands().iter().map(|command| command.initiator_task_tag.0).collect();
        assert_eq!(tags, [4, 5]);
    }
}

/// The same for one of them on another logical unit: it goes to the caller, once.
#[test]
fn a_reset_lets_an_ordered_command_of_another_logical_unit_through() {
    let mut wire = wire();
    wire.command(1, WRITE, write_cdb(1), 512, &[]);
    wire.receive();
    wire.command_on(3, 2, ORDERED, &[]);
    wire.task_management(7, LU_RESET, u32::MAX, 0);
    let commands = wire.commands();
    assert_eq!(commands.len(), 1);
    assert_eq!(commands[0].initiator_task_tag.0, 2);
}

/// Incident: ABORT TASK SET in peripheral form missed tasks sent in flat space form (SAM-5 §4.7.7).
#[test]
fn a_function_meets_tasks_that_name_its_logical_unit_in_the_other_form() {
    for (named, meant) in [([0x40, 3], [0, 3]), ([0, 3], [0x40, 3])] {
        let mut wire = wire();
        wire.command_on_lun([named[0], named[1], 0, 0, 0, 0, 0, 0], 1, NO_DATA, &[]);
        wire.command_on(4, 2, NO_DATA, &[]);
        let tasks = wire.commands();
        wire.task_management_on([meant[0], meant[1], 0, 0, 0, 0, 0, 0], 7, 2, u32::MAX, 0);
        assert_eq!(function(&mut wire).aborted, [tasks[0].task]);
    }
}

/// Incident: RefCmdSN half the number space away from the window had the target hold a place for it.
#[test]
fn s11_6_1_abort_task_naming_a_cmd_sn_half_the_space_away() {
    for open in [0, 1] {
        let mut wire = Wire::logged_in(Config { command_window: 2, ..Config::default() }, &[]);
        for itt in open..2 {
            wire.command(itt, NO_DATA, [0; 16], 0, &[]);
        }
        let expected = wire.cmd_sn;
        for far in [0x7fff_ffff, 0x8000_0000, 0x8000_0001] {
            let ref_cmd_sn = expected.wrapping_add(far);
            wire.cmd_sn = ref_cmd_sn.wrapping_add(5);
            wire.task_management(9, ABORT_TASK, 77, ref_cmd_sn);
            answered(&mut wire, TaskManagementResponse::TaskDoesNotExist);
        }
    }
}
