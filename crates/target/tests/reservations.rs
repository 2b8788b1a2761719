//! Persistent reservations through real sessions: whose tasks end, when the answer comes, and what is kept.

mod common;

use block::BoxFuture;
use bytes::Bytes;
use common::*;
use iscsi::Lun;
use iscsi::initiator::{Command, Config as InitiatorConfig, TaskId};
use iscsi::pdu::{ScsiStatus, TaskAttribute, TaskManagementFunction, TaskManagementResponse};
use parking_lot::Mutex;
use scsi::{NotKept, Reservations};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use target::ReservationStore;
use tokio::sync::watch;

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const OTHER: &str = "iqn.2026-01.org.example:other";
const KEY_ONE: u64 = 1;
const KEY_TWO: u64 = 2;
/// Sense of REGISTRATIONS PREEMPTED and of COMMANDS CLEARED BY ANOTHER INITIATOR.
const UNREGISTERED: (u8, u8, u8) = (0x06, 0x2a, 0x05);
const CLEARED: (u8, u8, u8) = (0x06, 0x2f, 0x00);

/// PERSISTENT RESERVE OUT.
fn reserve_out(action: u8, kind: u8, key: u64, new_key: u64, aptpl: bool) -> Command {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[2], cdb[8]) = (0x5f, action, kind, 24);
    let flags = [0, 0, 0, 0, u8::from(aptpl), 0, 0, 0];
    let list = [key.to_be_bytes(), new_key.to_be_bytes(), flags].concat();
    Command::write(Lun::default(), cdb, Bytes::from(list))
}

async fn good(client: &mut Client, command: Command) {
    let end = soon(client.run(command)).await;
    assert_eq!(end.status, ScsiStatus::Good, "{:02x?}", end.sense);
}

async fn status(client: &mut Client, command: Command) -> ScsiStatus {
    soon(client.run(command)).await.status
}

/// What a host hears of when it looks.
async fn told(client: &mut Client) -> Vec<(u8, u8, u8)> {
    let mut told = Vec::new();
    loop {
        let end = soon(client.run(test_unit_ready())).await;
        if end.status == ScsiStatus::Good {
            return told;
        }
        told.push(sense(&end));
    }
}

async fn two_registered(bench: &Bench) -> (Client, Client) {
    let mut one = bench.ready(1).await;
    let mut two = soon(bench.login(OTHER, 2)).await;
    told(&mut two).await;
    good(&mut one, reserve_out(REGISTER, 0, 0, KEY_ONE, false)).await;
    good(&mut two, reserve_out(REGISTER, 0, 0, KEY_TWO, false)).await;
    good(&mut two, reserve_out(RESERVE, 5, KEY_TWO, 0, false)).await;
    (one, two)
}

/// The promise of PREEMPT AND ABORT (SPC-4 5.13.11.5): when it is answered, nothing that the victim wrote before can
/// reach the medium any more. Reactors are two, so that the sessions are on different ones.
#[tokio::test]
async fn preempt_and_abort_waits_for_the_victims_writes() {
    let bench = Bench::new();
    let (mut one, mut two) = two_registered(&bench).await;
    bench.volume.hang(true);
    let mut writes = Vec::new();
    for number in 0..4 {
        writes.push(two.start(write16(number * 8, 8, 0x22)).await);
    }
    bench.volume.until_under_way(4).await;
    let preempt = one.start(reserve_out(PREEMPT_AND_ABORT, 5, KEY_ONE, KEY_TWO, false)).await;
    soon(one.ping()).await;
    assert!(!one.has_ended(preempt), "the victim's writes are under way");
    // In force at once, though: what comes now is shut out.
    assert_eq!(sense(&soon(two.run(test_unit_ready())).await), UNREGISTERED);
    assert_eq!(status(&mut two, write16(64, 8, 0x33)).await, ScsiStatus::ReservationConflict);
    soon(one.ping()).await;
    assert!(!one.has_ended(preempt));
    bench.volume.hang(false);
    assert_eq!(soon(one.end_of(preempt)).await.unwrap().status, ScsiStatus::Good);
    assert_eq!(bench.volume.under_way.load(Ordering::SeqCst), 0, "nothing of the victim is left");
    assert_eq!(bench.volume.writes.lock().len(), 4);
    soon(two.ping()).await;
    assert!(writes.iter().all(|write| !two.has_ended(*write)), "aborted tasks are not answered (TAS 0)");
    assert_eq!(told(&mut two).await, [CLEARED]);
    assert_eq!(status(&mut two, write16(0, 8, 0x33)).await, ScsiStatus::ReservationConflict);
    good(&mut one, write16(0, 8, 0x11)).await;
}

/// The commands of others, and of the one that preempts, go on.
#[tokio::test]
async fn preempt_and_abort_ends_nobody_elses_tasks() {
    let bench = Bench::new();
    let (mut one, mut two) = two_registered(&bench).await;
    let mut third = soon(bench.login("iqn.2026-01.org.example:third", 3)).await;
    told(&mut third).await;
    bench.volume.hang(true);
    let own = one.start(write16(0, 8, 1)).await;
    let of_third = third.start(read16(8, 8)).await;
    bench.volume.until_under_way(2).await;
    // The victim has nothing on the medium: the answer does not wait for the others'.
    let preempt = one.start(reserve_out(PREEMPT_AND_ABORT, 5, KEY_ONE, KEY_TWO, false)).await;
    assert_eq!(soon(one.end_of(preempt)).await.unwrap().status, ScsiStatus::Good);
    bench.volume.hang(false);
    assert_eq!(soon(one.end_of(own)).await.unwrap().status, ScsiStatus::Good);
    assert_eq!(soon(third.end_of(of_third)).await.unwrap().status, ScsiStatus::Good);
    assert_eq!((told(&mut two).await, told(&mut third).await), (vec![UNREGISTERED], vec![]));
}

/// Tasks that wait behind an ORDERED one, and those whose data has yet to come, never reach the medium.
#[tokio::test]
async fn preempt_and_abort_ends_what_waits_and_what_still_collects_data() {
    let bench = Bench::new();
    let (mut one, mut two) = two_registered(&bench).await;
    let mut config = InitiatorConfig::normal(OTHER, TARGET);
    config.isid = iscsi::Isid([0x80, 0, 0, 0, 0, 4]);
    (config.offer.immediate_data, config.offer.initial_r2t) = (false, true);
    let mut slow = soon(Client::connect(bench.address(), config)).await.unwrap();
    told(&mut slow).await;
    good_slowly(&mut slow, reserve_out(REGISTER, 0, 0, KEY_TWO, false)).await;
    bench.volume.hang(true);
    let mut first = write16(0, 8, 2);
    first.attribute = TaskAttribute::Ordered;
    let first = two.start(first).await;
    bench.volume.until_under_way(1).await;
    let waiting = two.start(write16(8, 8, 2)).await;
    soon(two.ping()).await;
    let collecting = slow.start(write16(16, 8, 2)).await;
    eventually(|| bench.server.status().bytes_in_flight > 3 * 4096 - 1).await;
    let preempt = one.start(reserve_out(PREEMPT_AND_ABORT, 5, KEY_ONE, KEY_TWO, false)).await;
    soon(one.ping()).await;
    bench.volume.hang(false);
    assert_eq!(soon(one.end_of(preempt)).await.unwrap().status, ScsiStatus::Good);
    soon(two.ping()).await;
    assert!(told(&mut two).await.contains(&UNREGISTERED));
    assert!(told(&mut slow).await.contains(&UNREGISTERED));
    soon(slow.ping()).await;
    eventually(|| bench.server.status().bytes_in_flight == 0).await;
    let ended = |client: &Client, task: TaskId| client.has_ended(task);
    assert!(!ended(&two, first) && !ended(&two, waiting) && !ended(&slow, collecting));
    assert_eq!(*bench.volume.writes.lock(), [(0, 2)], "only what was on its way to the medium before");
}

async fn good_slowly(client: &mut Client, command: Command) {
    let task = client.start(command).await;
    assert_eq!(soon(client.end_of(task)).await.map(|end| end.status), Some(ScsiStatus::Good));
}

/// A plain PREEMPT ends no task: what was under way is answered.
#[tokio::test]
async fn preempt_lets_tasks_go_on() {
    let bench = Bench::new();
    let (mut one, mut two) = two_registered(&bench).await;
    bench.volume.hang(true);
    let write = two.start(write16(0, 8, 2)).await;
    bench.volume.until_under_way(1).await;
    good(&mut one, reserve_out(PREEMPT, 5, KEY_ONE, KEY_TWO, false)).await;
    bench.volume.hang(false);
    assert_eq!(soon(two.end_of(write)).await.unwrap().status, ScsiStatus::Good);
}

/// A victim that is gone while its writes are on the medium: they are waited for all the same.
#[tokio::test]
async fn preempt_and_abort_waits_for_a_dead_victims_writes() {
    let bench = Bench::new();
    let (mut one, mut two) = two_registered(&bench).await;
    bench.volume.hang(true);
    two.start(write16(0, 8, 2)).await;
    bench.volume.until_under_way(1).await;
    drop(two);
    let preempt = one.start(reserve_out(PREEMPT_AND_ABORT, 5, KEY_ONE, KEY_TWO, false)).await;
    soon(one.ping()).await;
    assert!(!one.has_ended(preempt));
    bench.volume.hang(false);
    assert_eq!(soon(one.end_of(preempt)).await.unwrap().status, ScsiStatus::Good);
    assert_eq!(*bench.volume.writes.lock(), [(0, 2)]);
}

/// Two that preempt each other at the same time, again and again: one wins each round, and none waits for ever.
#[tokio::test]
async fn preempting_each_other_ends() {
    let bench = Bench::new();
    let (mut one, mut two) = two_registered(&bench).await;
    for round in 0..30 {
        let first = one.start(reserve_out(PREEMPT_AND_ABORT, 5, KEY_ONE, KEY_TWO, false)).await;
        let second = two.start(reserve_out(PREEMPT_AND_ABORT, 5, KEY_TWO, KEY_ONE, false)).await;
        soon(one.ping()).await;
        soon(two.ping()).await;
        told(&mut one).await;
        told(&mut two).await;
        let wins = usize::from(one.has_ended(first)) + usize::from(two.has_ended(second));
        assert!(wins >= 1, "round {round}");
        let left = bench.unit.reservations().state;
        assert_eq!(left.registrations.len(), 1, "round {round}: one has unregistered the other");
        for (client, key) in [(&mut one, KEY_ONE), (&mut two, KEY_TWO)] {
            good(client, reserve_out(6, 0, 0, key, false)).await;
        }
    }
}

/// SPC-2 5.5.1: RESERVE ends with its session.
#[tokio::test]
async fn reserve_ends_with_its_session() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.ready(1).await, bench.ready(2).await);
    let mut reserve = test_unit_ready();
    reserve.cdb[0] = 0x16;
    good(&mut two, reserve).await;
    assert_eq!(status(&mut one, test_unit_ready()).await, ScsiStatus::ReservationConflict);
    soon(two.logout()).await;
    eventually(|| bench.unit.session_count() == 1).await;
    good(&mut one, test_unit_ready()).await;
}

/// Keeps reservations in memory, slowly if it is told to.
struct Store {
    kept: Mutex<Option<Reservations>>,
    fails: Mutex<Option<NotKept>>,
    hangs: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Store {
    fn new() -> Arc<Self> {
        let (hangs, waiting) = (watch::channel(false).0, watch::channel(0).0);
        Arc::new(Self { kept: Mutex::default(), fails: Mutex::default(), hangs, waiting })
    }

    fn bench(self: &Arc<Self>) -> Bench {
        let store = Arc::clone(self);
        Bench::of(move |unit| unit.keeping_reservations(store.kept.lock().clone(), store.clone()), |_| {})
    }
}

impl ReservationStore for Store {
    fn keep(&self, reservations: Option<Reservations>) -> BoxFuture<'_, Result<(), NotKept>> {
        self.waiting.send_modify(|count| *count += 1);
        Box::pin(async move {
            self.hangs.subscribe().wait_for(|hangs| !*hangs).await.expect("the test holds the sender");
            if let Some(reason) = *self.fails.lock() {
                return Err(reason);
            }
            *self.kept.lock() = reservations;
            Ok(())
        })
    }
}

/// SPC-4 5.13.5: the host is answered when its registration is durable. Others' changes wait for their turn, other
/// commands do not.
#[tokio::test]
async fn a_change_is_answered_when_it_is_durable() {
    let store = Store::new();
    let bench = store.bench();
    let (mut one, mut two) = (bench.ready(1).await, bench.ready(2).await);
    store.hangs.send_replace(true);
    let register = one.start(reserve_out(REGISTER, 0, 0, KEY_ONE, true)).await;
    eventually(|| *store.waiting.borrow() == 1).await;
    let second = two.start(reserve_out(REGISTER, 0, 0, KEY_TWO, true)).await;
    good(&mut two, write16(0, 8, 1)).await;
    soon(one.ping()).await;
    assert!(!one.has_ended(register) && !two.has_ended(second));
    assert!(bench.unit.reservations().state.is_empty() && store.kept.lock().is_none());
    store.hangs.send_replace(false);
    assert_eq!(soon(one.end_of(register)).await.unwrap().status, ScsiStatus::Good);
    assert_eq!(soon(two.end_of(second)).await.unwrap().status, ScsiStatus::Good);
    let kept = store.kept.lock().clone().expect("kept");
    assert_eq!(kept, bench.unit.reservations().state);
    assert_eq!(kept.registrations.len(), 2, "neither has overwritten the other");
    *store.fails.lock() = Some(NotKept::Failed);
    let refused = soon(one.run(reserve_out(RESERVE, 3, KEY_ONE, 0, false))).await;
    assert_eq!(sense(&refused), (0x04, 0x44, 0x00));
    good(&mut two, write16(0, 8, 1)).await;
}

/// What was kept is in force when the unit comes back, before anybody logs in.
#[tokio::test]
async fn what_was_kept_is_in_force_again() {
    let store = Store::new();
    let bench = store.bench();
    let mut one = bench.ready(1).await;
    good(&mut one, reserve_out(REGISTER, 0, 0, KEY_ONE, true)).await;
    good(&mut one, reserve_out(RESERVE, 3, KEY_ONE, 0, true)).await;
    drop((one, bench));
    let bench = store.bench();
    let mut two = bench.ready(2).await;
    assert_eq!(status(&mut two, read16(0, 8)).await, ScsiStatus::ReservationConflict);
    let mut one = bench.ready(1).await;
    good(&mut one, write16(0, 8, 1)).await;
    // An administrator ends it: gone there too, and its holder hears of it.
    let was = soon(bench.unit.clear_reservations()).await.expect("cleared");
    assert_eq!(was.state.registrations.len(), 1);
    assert_eq!(*store.kept.lock(), Some(Reservations::default()));
    assert_eq!(told(&mut one).await, [(0x06, 0x2a, 0x03)]);
    good(&mut two, write16(0, 8, 1)).await;
}

/// A reset waits for a change that is being made durable, which takes effect, and is not answered.
#[tokio::test]
async fn a_reset_lets_a_change_end_without_an_answer() {
    let store = Store::new();
    let bench = store.bench();
    let (mut one, mut two) = (bench.ready(1).await, bench.ready(2).await);
    store.hangs.send_replace(true);
    let register = one.start(reserve_out(REGISTER, 0, 0, KEY_ONE, true)).await;
    eventually(|| *store.waiting.borrow() == 1).await;
    let reset = two.start_function(TaskManagementFunction::LogicalUnitReset, None).await;
    soon(two.ping()).await;
    store.hangs.send_replace(false);
    assert_eq!(soon(two.end_of_function(reset)).await, TaskManagementResponse::Complete);
    assert_eq!(bench.unit.reservations().state.registrations.len(), 1);
    assert_eq!(told(&mut one).await, [(0x06, 0x29, 0x03)]);
    assert!(!one.has_ended(register));
}
