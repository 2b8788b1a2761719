//! Copies over real sockets: from target to target, stopped by task management and by preemption, and in the
//! background.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use bytes::Bytes;
use common::*;
use iscsi::Lun;
use iscsi::initiator::{Command, Config as InitiatorConfig};
use iscsi::pdu::{ScsiStatus, TaskManagementFunction, TaskManagementResponse};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use target::{Copies, CopyDirectory, LogicalUnitHandle, Requester, UnitGrant};

const SECOND_TARGET: &str = "iqn.2026-01.io.palisade:second";
const OTHER: &str = "iqn.2026-01.org.example:other";
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const PREEMPT_AND_ABORT: u8 = 5;
const VICTIM_KEY: u64 = 1;
const WINNER_KEY: u64 = 2;

/// Randomness that counts.
#[derive(Default)]
struct Clock(AtomicU8);

impl block::Runtime for Clock {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn unix_time_ms(&self) -> u64 {
        0
    }
    fn sleep(&self, _: Duration) -> block::BoxFuture<'static, ()> {
        unreachable!()
    }
    fn spawn(&self, _: block::Task) {
        unreachable!()
    }
    fn run_blocking(&self, _: Box<dyn FnOnce() + Send + 'static>) -> block::BoxFuture<'static, ()> {
        unreachable!()
    }
    fn random_id(&self) -> [u8; 16] {
        [self.0.fetch_add(1, Ordering::SeqCst); 16]
    }
}

/// The second unit, which the host that logged in to the first may use as well.
struct Second(Arc<LogicalUnitHandle>);

impl CopyDirectory for Second {
    fn unit_for_copy(&self, requester: &Requester, naa: &[u8; 16]) -> Option<UnitGrant> {
        assert_eq!((requester.initiator.as_str(), requester.target.as_str()), (HOST, TARGET));
        (naa[15] == 2).then(|| grant(0, &self.0))
    }
}

/// A server whose unit can be copied to another, and that other's volume.
struct CopyBench {
    bench: Bench,
    other: Arc<HangingVolume>,
    _directory: Arc<dyn CopyDirectory>,
}

fn copy_bench() -> CopyBench {
    let bench = Bench::new();
    let copies = Arc::new(Copies::new(Arc::new(Clock::default())));
    let other = HangingVolume::new();
    let serve = |volume: &Arc<HangingVolume>, number| {
        let unit = Arc::into_inner(unit_of(volume, number)).unwrap();
        Arc::new(unit.with_copies(Arc::clone(&copies), true))
    };
    let (first, second) = (serve(&bench.volume, 1), serve(&other, 2));
    let mut units = bench.directory.units.lock();
    units.insert(TARGET.to_owned(), vec![grant(0, &first)]);
    units.insert(SECOND_TARGET.to_owned(), vec![grant(0, &second)]);
    drop(units);
    let directory: Arc<dyn CopyDirectory> = Arc::new(Second(second));
    copies.follow(Arc::downgrade(&directory));
    CopyBench { bench, other, _directory: directory }
}

/// EXTENDED COPY of blocks 0 to 8191, from the first unit to the second.
fn copy() -> Command {
    copy_of(8192)
}

/// EXTENDED COPY of the first `blocks` blocks of the first unit, to the same place of the second.
fn copy_of(blocks: u16) -> Command {
    let mut list = vec![1, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
    for number in [1, 2] {
        list.extend_from_slice(&[0xe4, 0, 0, 0, 1, 3, 0, 16]);
        list.extend_from_slice(&[0x60; 15]);
        list.extend_from_slice(&[number, 0, 0, 0, 0, 0, 0, 2, 0]);
    }
    list.extend_from_slice(&[0x02, 0, 0, 0x18, 0, 0, 0, 1, 0, 0]);
    list.extend_from_slice(&blocks.to_be_bytes());
    list.resize(list.len() + 16, 0);
    send([0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 108, 0, 0], list)
}

/// WRITE USING TOKEN of zeroes to blocks 0 to 8191, in the background.
fn zero_in_background() -> Command {
    let mut list = vec![2, 38, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 1, 0, 0, 1, 0xf8];
    list.resize(534, 0);
    list.extend_from_slice(&[0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0]);
    send([0x83, 0x11, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 2, 40, 0, 0], list)
}

fn send(cdb: [u8; 16], list: Vec<u8>) -> Command {
    Command::write(Lun::default(), cdb, Bytes::from(list))
}

fn status() -> Command {
    Command::read(Lun::default(), [0x84, 7, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], 64)
}

#[tokio::test]
async fn a_host_copies_between_its_targets() {
    let CopyBench { bench, other, _directory } = copy_bench();
    let mut client = bench.ready(1).await;
    assert_eq!(soon(client.run(write16(0, 8192, 0x5a))).await.status, ScsiStatus::Good);
    assert_eq!(soon(client.run(copy())).await.status, ScsiStatus::Good);
    assert_eq!(*other.writes.lock(), [(0, 0x5a), (1 << 20, 0x5a), (2 << 20, 0x5a), (3 << 20, 0x5a)]);
}

/// ABORT TASK: answered when no piece touches the other volume any more, and none comes after it.
#[tokio::test]
async fn an_aborted_copy_stops_between_two_pieces() {
    let CopyBench { bench, other, _directory } = copy_bench();
    let mut client = bench.ready(1).await;
    soon(client.run(write16(0, 8192, 0x5a))).await;
    bench.volume.hang(true);
    let task = client.start(copy()).await;
    bench.volume.until_under_way(1).await;
    let abort = client.start_function(TaskManagementFunction::AbortTask, Some(task)).await;
    client.ping().await;
    bench.volume.hang(false);
    assert_eq!(soon(client.end_of_function(abort)).await, TaskManagementResponse::Complete);
    assert!(other.writes.lock().is_empty(), "{:?}", other.writes.lock());
    assert_eq!(soon(client.run(test_unit_ready())).await.status, ScsiStatus::Good);
}

/// A connection that is cut takes its copy with it, before the next session's first command.
#[tokio::test]
async fn a_lost_connection_stops_its_copy() {
    let CopyBench { bench, other, _directory } = copy_bench();
    let mut client = bench.ready(1).await;
    soon(client.run(write16(0, 8192, 0x5a))).await;
    other.hang(true);
    client.start(copy()).await;
    other.until_under_way(4).await;
    drop(client);
    let mut again = bench.login(HOST, 1).await;
    other.hang(false);
    let _ = soon(again.run(test_unit_ready())).await;
    let before = other.writes.lock().len();
    assert!(before <= 4);
    soon(again.ping()).await;
    assert_eq!(other.writes.lock().len(), before, "nothing of the old session is written any more");
}

/// IMMED: answered at once; the work goes on, and is over before the session is.
#[tokio::test]
async fn work_in_the_background_is_seen_to_end() {
    let CopyBench { bench, .. } = copy_bench();
    let mut client = bench.ready(1).await;
    soon(client.run(write16(0, 8192, 0x5a))).await;
    bench.volume.hang(true);
    assert_eq!(soon(client.run(zero_in_background())).await.status, ScsiStatus::Good);
    let told = soon(client.run(status())).await;
    assert_eq!(told.data_in[5], 0x12, "in the background");
    bench.volume.hang(false);
    soon(async {
        while soon(client.run(status())).await.data_in[5] == 0x12 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let told = soon(client.run(status())).await;
    assert_eq!((told.data_in[5], &told.data_in[16..24]), (0x01, &8192_u64.to_be_bytes()[..]));
    let back = soon(client.run(read16(0, 8192))).await;
    assert!(back.data_in.iter().all(|byte| *byte == 0));
    bench.volume.hang(true);
    assert_eq!(soon(client.run(zero_in_background())).await.status, ScsiStatus::Good);
    drop(client);
    eventually(|| bench.server.sessions().len() == 1).await;
    bench.volume.hang(false);
    eventually(|| bench.server.sessions().is_empty()).await;
    assert_eq!(bench.volume.under_way.load(Ordering::SeqCst), 0);
}

/// PERSISTENT RESERVE OUT, for Write Exclusive - Registrants Only.
fn reserve_out(action: u8, key: u64, new_key: u64) -> Command {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[2], cdb[8]) = (0x5f, action, if action == REGISTER { 0 } else { 5 }, 24);
    send(cdb, [key.to_be_bytes(), new_key.to_be_bytes(), [0; 8]].concat())
}

async fn good(client: &mut Client, command: Command) {
    let end = soon(client.run(command)).await;
    assert_eq!(end.status, ScsiStatus::Good, "{:02x?}", end.sense);
}

/// A session of `host` with `target`, its unit attentions taken.
async fn session(bench: &Bench, host: &str, target: &str, isid: u8) -> Client {
    let mut config = InitiatorConfig::normal(host, target);
    config.isid = iscsi::Isid([0x80, 0, 0, 0, 0, isid]);
    let mut client = soon(Client::connect(bench.address(), config)).await.unwrap();
    while soon(client.run(test_unit_ready())).await.status != ScsiStatus::Good {}
    client
}

/// The host that copies holds a reservation for registrants at `target`, where another one has registered, too.
async fn victim_and_winner(bench: &Bench, target: &str) -> (Client, Client) {
    let mut victim = session(bench, HOST, target, 8).await;
    let mut winner = session(bench, OTHER, target, 9).await;
    good(&mut victim, reserve_out(REGISTER, 0, VICTIM_KEY)).await;
    good(&mut winner, reserve_out(REGISTER, 0, WINNER_KEY)).await;
    good(&mut victim, reserve_out(RESERVE, VICTIM_KEY, 0)).await;
    (victim, winner)
}

/// Preempts while four pieces hang on their way to `volume`, and lets them go: the answer waits for them, and nothing
/// comes after it.
async fn preempt_while_pieces_hang(winner: &mut Client, volume: &HangingVolume) {
    volume.until_under_way(4).await;
    let preempt = winner.start(reserve_out(PREEMPT_AND_ABORT, WINNER_KEY, VICTIM_KEY)).await;
    soon(winner.ping()).await;
    assert!(!winner.has_ended(preempt), "the victim's pieces are under way");
    volume.hang(false);
    assert_eq!(soon(winner.end_of(preempt)).await.unwrap().status, ScsiStatus::Good);
    let landed = volume.writes.lock().len();
    assert_eq!(volume.under_way.load(Ordering::SeqCst), 0, "nothing of the victim is on its way");
    assert!(landed <= 4, "{landed} of 8 pieces landed");
    for _ in 0..10 {
        soon(winner.ping()).await;
    }
    assert_eq!(volume.writes.lock().len(), landed, "nothing of the victim lands after the answer");
}

/// SPC-4 5.13.11.5, by the unit that took the EXTENDED COPY: its pieces go to another unit, and are waited for.
#[tokio::test]
async fn preempt_and_abort_at_the_source_stops_a_copy() {
    let CopyBench { bench, other, _directory } = copy_bench();
    let (mut victim, mut winner) = victim_and_winner(&bench, TARGET).await;
    good(&mut victim, write16(0, 16384, 0x5a)).await;
    other.hang(true);
    let task = victim.start(copy_of(16384)).await;
    preempt_while_pieces_hang(&mut winner, &other).await;
    soon(victim.ping()).await;
    assert!(!victim.has_ended(task), "an aborted task is not answered (TAS 0)");
}

/// SPC-4 5.13.11.5, by the unit that is written to, where the victim is another nexus: the copy, which is no task of
/// this unit, ends with an error.
#[tokio::test]
async fn preempt_and_abort_at_the_destination_stops_a_copy() {
    let CopyBench { bench, other, _directory } = copy_bench();
    let mut copier = bench.ready(1).await;
    let (_victim, mut winner) = victim_and_winner(&bench, SECOND_TARGET).await;
    good(&mut copier, write16(0, 16384, 0x5a)).await;
    other.hang(true);
    let task = copier.start(copy_of(16384)).await;
    preempt_while_pieces_hang(&mut winner, &other).await;
    let end = soon(copier.end_of(task)).await.unwrap();
    assert_eq!((end.status, end.sense[2] & 0xf), (ScsiStatus::CheckCondition, 0xa), "COPY ABORTED");
}

/// A WRITE USING TOKEN that was answered at once (IMMED) goes on in the background: it is the victim's all the same.
#[tokio::test]
async fn preempt_and_abort_stops_a_token_written_in_the_background() {
    let CopyBench { bench, .. } = copy_bench();
    let (mut victim, mut winner) = victim_and_winner(&bench, TARGET).await;
    good(&mut victim, write16(0, 16384, 0x5a)).await;
    let volume = &bench.volume;
    volume.hang(true);
    good(&mut victim, zero_in_background()).await;
    volume.until_under_way(1).await;
    let preempt = winner.start(reserve_out(PREEMPT_AND_ABORT, WINNER_KEY, VICTIM_KEY)).await;
    soon(winner.ping()).await;
    assert!(!winner.has_ended(preempt), "the victim's work is under way");
    volume.hang(false);
    assert_eq!(soon(winner.end_of(preempt)).await.unwrap().status, ScsiStatus::Good);
    assert_eq!(volume.under_way.load(Ordering::SeqCst), 0, "nothing of the victim is on its way");
    good(&mut winner, write16(0, 8192, 0x77)).await;
    soon(victim.ping()).await;
    let kept = soon(winner.run(read16(0, 8192))).await;
    assert!(kept.data_in.iter().all(|byte| *byte == 0x77), "nothing of the victim lands after the answer");
}
