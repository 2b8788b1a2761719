//! SANITIZE over real sockets (SBC-4 4.11 and 5.30): it goes on whatever becomes of the command.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use block::{Sanitization, SanitizeMethod};
use bytes::Bytes;
use common::*;
use iscsi::Lun;
use iscsi::initiator::{Command, TaskId};
use iscsi::pdu::{ScsiStatus, TaskAttribute, TaskManagementFunction, TaskManagementResponse};
use std::sync::atomic::Ordering;

const IN_PROGRESS: (u8, u8, u8) = (0x02, 0x04, 0x1b);
const FAILED: (u8, u8, u8) = (0x03, 0x31, 0x03);
const BLOCK_ERASE: u8 = 0x02;
const EXIT_FAILURE_MODE: u8 = 0x1f;
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;

fn sanitize(flags: u8) -> Command {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x48, flags);
    Command::new(Lun::default(), cdb)
}

fn overwrite(flags: u8, pattern: &[u8]) -> Command {
    let list = [&[1, 0, 0, u8::try_from(pattern.len()).unwrap()], pattern].concat();
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[8]) = (0x48, flags | 0x01, u8::try_from(list.len()).unwrap());
    Command::write(Lun::default(), cdb, Bytes::from(list))
}

fn is_running(bench: &Bench) -> bool {
    matches!(*bench.volume.sanitization.borrow(), Sanitization::Running { .. })
}

fn end(bench: &Bench, state: Sanitization) {
    bench.volume.sanitization.send_replace(state);
}

async fn refusal(client: &mut Client, command: Command) -> (u8, u8, u8) {
    sense(&soon(client.run(command)).await)
}

/// A command that waits for the end, once the volume has begun.
async fn begun(bench: &Bench, client: &mut Client) -> TaskId {
    let task = client.start(sanitize(BLOCK_ERASE)).await;
    eventually(|| is_running(bench)).await;
    task
}

#[tokio::test]
async fn with_immed_it_is_answered_when_it_has_begun_and_told_of_until_its_end() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    let begun = soon(client.run(overwrite(IMMED | AUSE, &[1, 2, 3]))).await;
    assert_eq!(begun.status, ScsiStatus::Good, "{:02x?}", begun.sense);
    let block: Vec<u8> = [1, 2, 3].into_iter().cycle().take(512).collect();
    let expected = (SanitizeMethod::Overwrite(block.into()), true);
    assert_eq!(*bench.volume.sanitizes.lock(), [expected]);
    for progress in [0x1234, 0xffff] {
        end(&bench, Sanitization::Running { progress });
        let refused = soon(client.run(read16(0, 1))).await;
        assert_eq!(sense(&refused), IN_PROGRESS);

        let told = Command::read(Lun::default(), [3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 18);
        let polled = soon(client.run(told)).await;
        let [high, low] = u16::to_be_bytes(progress);
        assert_eq!(
            (polled.status, polled.data_in[15..18].to_vec()),
            (ScsiStatus::Good, vec![0x80, high, low])
        );
    }
    assert_eq!(refusal(&mut client, write16(0, 1, 7)).await, IN_PROGRESS);
    assert_eq!(refusal(&mut client, sanitize(BLOCK_ERASE)).await, IN_PROGRESS);
    end(&bench, Sanitization::Idle);
    assert_eq!(soon(client.run(write16(0, 1, 7))).await.status, ScsiStatus::Good);
}

#[tokio::test]
async fn without_immed_it_is_answered_at_its_end() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    let task = begun(&bench, &mut client).await;
    assert_eq!(refusal(&mut client, test_unit_ready()).await, IN_PROGRESS, "others are answered meanwhile");
    assert!(!client.has_ended(task));
    end(&bench, Sanitization::Idle);
    assert_eq!(soon(client.end_of(task)).await.unwrap().status, ScsiStatus::Good);
}

/// SBC-4 4.11.3: MEDIUM ERROR for the command and for all that come, until it is left.
#[tokio::test]
async fn a_failure_is_told_and_left_by_exit_failure_mode() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    let task = client.start(sanitize(BLOCK_ERASE | AUSE)).await;
    eventually(|| is_running(&bench)).await;
    end(&bench, Sanitization::Failed { unrestricted_exit: true });
    assert_eq!(sense(&soon(client.end_of(task)).await.unwrap()), FAILED);
    assert_eq!(refusal(&mut client, read16(0, 1)).await, FAILED);
    assert_eq!(soon(client.run(sanitize(EXIT_FAILURE_MODE))).await.status, ScsiStatus::Good);
    assert_eq!(soon(client.run(read16(0, 1))).await.status, ScsiStatus::Good);
}

/// A volume opened anew goes on where it was, and so does what hosts hear.
#[tokio::test]
async fn a_unit_made_for_a_volume_that_is_being_sanitized_says_so_from_the_start() {
    let bench = Bench::new();
    end(&bench, Sanitization::Running { progress: 9 });
    let mut client = soon(bench.login(HOST, 1)).await;
    assert_eq!(refusal(&mut client, test_unit_ready()).await.0, 0x06, "the greeting comes first");
    assert_eq!(refusal(&mut client, test_unit_ready()).await, IN_PROGRESS);
}

/// SBC-4 4.11.2: task management ends the task, not the operation; and it does not wait for that.
#[tokio::test]
async fn ending_the_task_leaves_the_volume_to_it() {
    for function in [
        TaskManagementFunction::AbortTask,
        TaskManagementFunction::AbortTaskSet,
        TaskManagementFunction::ClearTaskSet,
        TaskManagementFunction::LogicalUnitReset,
        TaskManagementFunction::TargetWarmReset,
    ] {
        let bench = Bench::new();
        let mut client = bench.ready(1).await;
        let task = begun(&bench, &mut client).await;
        let of = (function == TaskManagementFunction::AbortTask).then_some(task);
        let id = client.start_function(function, of).await;
        assert_eq!(soon(client.end_of_function(id)).await, TaskManagementResponse::Complete, "{function:?}");
        soon(client.ping()).await;
        assert!(!client.has_ended(task), "{function:?}: aborted tasks are not answered");
        assert!(is_running(&bench), "{function:?}");
    }
}

#[tokio::test]
async fn another_hosts_reset_does_not_wait_for_it() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.ready(1).await, bench.ready(2).await);
    let task = begun(&bench, &mut one).await;
    for function in [TaskManagementFunction::LogicalUnitReset, TaskManagementFunction::ClearTaskSet] {
        let id = two.start_function(function, None).await;
        assert_eq!(soon(two.end_of_function(id)).await, TaskManagementResponse::Complete);
    }
    soon(one.ping()).await;
    assert!(is_running(&bench) && !one.has_ended(task));
    assert_eq!(refusal(&mut two, test_unit_ready()).await, (0x06, 0x29, 0x03));
    assert_eq!(refusal(&mut two, test_unit_ready()).await, IN_PROGRESS);
}

#[tokio::test]
async fn a_host_that_comes_back_is_not_kept_waiting_and_sees_it_go_on() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    let _ = begun(&bench, &mut client).await;
    drop(client);
    let mut client = soon(bench.login(HOST, 1)).await;
    assert_eq!(refusal(&mut client, test_unit_ready()).await, (0x06, 0x29, 0x07), "nexus loss");
    assert_eq!(refusal(&mut client, test_unit_ready()).await, IN_PROGRESS);
    end(&bench, Sanitization::Idle);
    assert_eq!(soon(client.run(read16(0, 1))).await.status, ScsiStatus::Good);
}

/// An administrator's change waits for what is on the medium, not for hours.
#[tokio::test]
async fn who_waits_for_what_is_under_way_does_not_wait_for_it() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    let task = begun(&bench, &mut client).await;
    let sessions: Vec<_> = bench.unit.uses().into_iter().map(|used| used.session).collect();
    soon(bench.unit.quiet(&sessions)).await;
    assert!(is_running(&bench) && !client.has_ended(task));
    end(&bench, Sanitization::Idle);
    assert_eq!(soon(client.end_of(task)).await.unwrap().status, ScsiStatus::Good);
}

/// SBC-4 5.30.1: as if it was sent HEAD OF QUEUE.
#[tokio::test]
async fn it_goes_before_what_waits() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    bench.volume.hang(true);
    let mut first = write16(0, 8, 1);
    first.attribute = TaskAttribute::Ordered;
    let first = client.start(first).await;
    bench.volume.until_under_way(1).await;
    let waits = client.start(write16(8, 8, 2)).await;
    let task = client.start(sanitize(BLOCK_ERASE)).await;
    bench.volume.until_under_way(2).await;
    bench.volume.hang(false);
    let _ = (soon(client.end_of(first)).await.unwrap(), soon(client.end_of(waits)).await.unwrap());
    eventually(|| is_running(&bench)).await;
    end(&bench, Sanitization::Idle);
    assert_eq!(soon(client.end_of(task)).await.unwrap().status, ScsiStatus::Good);
    assert_eq!(bench.volume.under_way.load(Ordering::SeqCst), 0);
}

/// Two hosts at once: the volume takes one, and the other hears of it.
#[tokio::test]
async fn the_second_of_two_is_told_of_the_first() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.ready(1).await, bench.ready(2).await);
    bench.volume.hang(true);
    let first = one.start(sanitize(BLOCK_ERASE)).await;
    bench.volume.until_under_way(1).await;
    let second = two.start(sanitize(BLOCK_ERASE)).await;
    bench.volume.until_under_way(2).await;
    bench.volume.hang(false);
    eventually(|| bench.volume.under_way.load(Ordering::SeqCst) == 0).await;
    assert_eq!(bench.volume.sanitizes.lock().len(), 1);
    end(&bench, Sanitization::Idle);
    let ends = [soon(one.end_of(first)).await.unwrap(), soon(two.end_of(second)).await.unwrap()];
    let refused: Vec<_> = ends.iter().filter(|end| end.status != ScsiStatus::Good).map(sense).collect();
    assert_eq!(refused, [IN_PROGRESS]);
}
