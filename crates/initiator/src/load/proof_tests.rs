//! The verifying sources against a volume in memory that lies on demand.
//!
//! Each test drives the very sources a session drives, with commands in flight that complete in
//! any order, crashes of the volume, kills of the load generator, and one fault of each kind that
//! storage is known for. Every fault must be found; without a fault nothing may be.

use std::path::Path;
use std::sync::Arc;

use super::config::LoadConfig;
use super::scan::{Scan, ScanCursor};
use super::source::{Next, Op, Share, Source, Way};
use super::stamped::{Stamped, Zones};
use super::{LoadError, Random};
use crate::verify::check::FaultReport;
use crate::verify::inspector::Inspector;
use crate::verify::ledger::{Ledger, LedgerScope};
use crate::verify::stamp::{RunId, StampSize};

const UNIT: usize = 4096;
const UNITS: u64 = 256;

/// What the volume does wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Acknowledges a write and drops it.
    LoseWrite,
    /// Brings back what was there before an acknowledged write.
    BringBackOld,
    /// Writes only the first bytes of a unit.
    Tear,
    /// Writes in another place.
    Misplace,
    /// Changes one bit of what it holds.
    FlipBit,
}

struct FakeVolume {
    data: Vec<u8>,
    random: Random,
}

impl FakeVolume {
    fn new(seed: u64) -> Self {
        Self { data: vec![0; UNIT * UNITS as usize], random: Random::new(seed) }
    }

    fn at(op: &Op) -> std::ops::Range<usize> {
        let start = op.offset as usize;
        start..start + op.length as usize
    }

    fn carry_out(&mut self, op: &Op, lie: Option<Lie>) -> Vec<u8> {
        let range = Self::at(op);
        if op.way == Way::Read {
            return self.data[range].to_vec();
        }
        match lie {
            None => self.data[range].copy_from_slice(&op.data),
            Some(Lie::LoseWrite) => {}
            Some(Lie::BringBackOld) => {
                // Nothing but a lost write to who looks later; told apart below by looking between.
                let old = self.data[range.clone()].to_vec();
                self.data[range.clone()].copy_from_slice(&op.data);
                self.data[range].copy_from_slice(&old);
            }
            Some(Lie::Tear) => {
                let sectors = 1 + self.random.below(7) as usize;
                let end = range.start + sectors * 512;
                self.data[range.start..end].copy_from_slice(&op.data[..sectors * 512]);
                let rest = range.start + UNIT..range.end;
                self.data[rest].copy_from_slice(&op.data[UNIT..]);
            }
            Some(Lie::Misplace) => {
                let shift = (range.start + 7 * UNIT) % (self.data.len() - range.len());
                self.data[shift..shift + range.len()].copy_from_slice(&op.data);
            }
            Some(Lie::FlipBit) => {
                self.data[range.clone()].copy_from_slice(&op.data);
                let bit = self.random.below(range.len() as u64 * 8) as usize;
                self.data[range.start + bit / 8] ^= 1 << (bit % 8);
            }
        }
        Vec::new()
    }
}

fn inspector(path: &Path) -> Arc<Inspector> {
    let scope =
        LedgerScope { volume: "fake".to_owned(), stamp: StampSize::Page, units: UNITS, volume_units: UNITS };
    let ledger = Ledger::open(path, &scope, RunId(77)).expect("ledger");
    Arc::new(Inspector::new(ledger, StampSize::Page))
}

fn stamped(inspector: &Arc<Inspector>, pattern: &str, seed: u64) -> Stamped {
    let config = LoadConfig {
        pattern: pattern.parse().expect("pattern"),
        block_sizes: "4k,16k".parse().expect("sizes"),
        ..LoadConfig::new(vec!["iscsi://h/iqn.a:b/0".parse().expect("url")])
    };
    let zones = Zones::new(UNITS, UNIT as u64, 16384, Share { index: 0, of: 1 }).expect("zones");
    Stamped::new(Arc::new(config), Arc::clone(inspector), zones, seed)
}

/// Runs `count` commands eight at a time, completing them in any order, and gives one written
/// command a `lie`. Returns what was in flight at the end.
fn work(
    source: &mut dyn Source,
    volume: &mut FakeVolume,
    count: usize,
    mut lie: Option<Lie>,
) -> Result<Vec<Op>, LoadError> {
    let mut in_flight: Vec<Op> = Vec::new();
    let lie_from = count / 2;
    for done in 0..count {
        while in_flight.len() < 8 {
            match source.next()? {
                Next::Op(op) => in_flight.push(op),
                Next::Wait | Next::End => break,
            }
        }
        if in_flight.is_empty() {
            break;
        }
        let index = volume.random.below(in_flight.len() as u64) as usize;
        let op = in_flight.swap_remove(index);
        let told = if done >= lie_from && op.way == Way::Write { lie.take() } else { None };
        let data = volume.carry_out(&op, told);
        source.completed(op, &data)?;
    }
    Ok(in_flight)
}

/// The power of the volume fails: of what was in flight, each unit lands or does not.
fn crash(volume: &mut FakeVolume, in_flight: &[Op]) {
    for op in in_flight.iter().filter(|op| op.way == Way::Write) {
        for (index, unit) in op.data.chunks(UNIT).enumerate() {
            if volume.random.below(2) == 0 {
                let start = op.offset as usize + index * UNIT;
                volume.data[start..start + UNIT].copy_from_slice(unit);
            }
        }
    }
}

/// Starts anew with the same file and reads everything back.
fn restart(path: &Path, volume: &mut FakeVolume) -> Arc<Inspector> {
    let inspector = inspector(path);
    assert!(inspector.ledger().resumed());
    let mut scan = Scan::new(Arc::clone(&inspector), Arc::new(ScanCursor::default()));
    work(&mut scan, volume, usize::MAX, None).expect("scan");
    inspector
}

/// Works, tells one lie, is interrupted and started again: what was found?
fn find(lie: Lie, seed: u64) -> Vec<FaultReport> {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("ledger");
    let mut volume = FakeVolume::new(seed);
    let first = inspector(&path);
    let mut source = stamped(&first, "randwrite", seed);
    let mut in_flight = work(&mut source, &mut volume, 800, None).expect("fill");
    // The lie is about the last write that is acknowledged, so that no later one covers it up.
    let index = in_flight.iter().position(|op| op.way == Way::Write).expect("a write in flight");
    let written = in_flight.swap_remove(index);
    volume.carry_out(&written, Some(lie));
    source.completed(written, &[]).expect("completed");
    let mut faults = first.faults();
    drop((source, first));
    crash(&mut volume, &in_flight);
    faults.extend(restart(&path, &mut volume).faults());
    faults
}

#[test]
fn without_a_lie_hundreds_of_crashes_and_kills_show_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("ledger");
    let mut volume = FakeVolume::new(5);
    let mut unacknowledged = 0;
    for round in 0..300 {
        let inspector = if round == 0 { inspector(&path) } else { restart(&path, &mut volume) };
        assert_eq!(inspector.faults(), [], "round {round}");
        unacknowledged += inspector.unacknowledged();
        let pattern = ["randwrite", "mix:50", "write", "read"][round % 4];
        let mut source = stamped(&inspector, pattern, round as u64);
        let in_flight = work(&mut source, &mut volume, 40, None).expect("work");
        assert_eq!(inspector.faults(), [], "round {round} while running");
        drop((source, inspector));
        crash(&mut volume, &in_flight);
    }
    assert!(unacknowledged > 30, "only {unacknowledged} unacknowledged writes were seen to land");
}

#[test]
fn every_lie_is_found_whenever_it_is_told() {
    for lie in [Lie::LoseWrite, Lie::BringBackOld, Lie::Tear, Lie::Misplace, Lie::FlipBit] {
        for seed in 0..15 {
            let faults = find(lie, seed);
            assert!(!faults.is_empty(), "{lie:?} with seed {seed}");
        }
    }
}

#[test]
fn lies_are_called_by_their_names() {
    for (lie, name) in [
        (Lie::LoseWrite, "stale"),
        (Lie::BringBackOld, "stale"),
        (Lie::Tear, "torn"),
        (Lie::Misplace, "misplaced"),
        (Lie::FlipBit, "damaged"),
    ] {
        let faults = find(lie, 3);
        assert!(faults.iter().any(|fault| fault.found.starts_with(name)), "{lie:?}: {faults:?}");
    }
}

#[test]
fn every_lie_is_found_while_running_too() {
    for lie in [Lie::LoseWrite, Lie::BringBackOld, Lie::Tear, Lie::Misplace, Lie::FlipBit] {
        let found = (0..10u64).filter(|seed| {
            let dir = tempfile::tempdir().expect("dir");
            let inspector = inspector(&dir.path().join("ledger"));
            let mut volume = FakeVolume::new(*seed);
            let mut source = stamped(&inspector, "mix:90", *seed);
            work(&mut source, &mut volume, 2000, None).expect("fill");
            assert_eq!(inspector.fault_count(), 0);
            work(&mut source, &mut volume, 2000, Some(lie)).expect("work");
            inspector.fault_count() > 0
        });
        // Now and then the place is written again before it is read.
        assert!(found.count() >= 7, "{lie:?}");
    }
}

/// An unacknowledged write may have landed or not. Once it was seen, it must stay.
#[test]
fn a_write_seen_once_may_not_vanish_later() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("ledger");
    let mut volume = FakeVolume::new(1);
    let first = inspector(&path);
    let mut source = stamped(&first, "randwrite", 1);
    let in_flight = work(&mut source, &mut volume, 2000, None).expect("work");
    drop((source, first));
    let before = volume.data.clone();
    let written = in_flight.iter().find(|op| op.way == Way::Write).expect("a write in flight").clone();
    volume.carry_out(&written, None);
    let second = restart(&path, &mut volume);
    assert_eq!(second.faults(), []);
    assert_eq!(second.unacknowledged(), (written.data.len() / UNIT) as u64);
    drop(second);
    volume.data = before;
    let third = restart(&path, &mut volume);
    assert!(third.fault_count() > 0, "the write was there and is gone");
    assert!(third.faults()[0].found.starts_with("stale"));
}

#[test]
fn a_torn_write_that_was_never_acknowledged_is_found_all_the_same() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("ledger");
    let mut volume = FakeVolume::new(2);
    let first = inspector(&path);
    let mut source = stamped(&first, "randwrite", 2);
    let in_flight = work(&mut source, &mut volume, 500, None).expect("work");
    drop((source, first));
    let written = in_flight.iter().find(|op| op.way == Way::Write).expect("a write in flight");
    volume.carry_out(written, Some(Lie::Tear));
    let faults = restart(&path, &mut volume).faults();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].address, written.offset);
    assert!(faults[0].found.starts_with("torn"), "{faults:?}");
}

#[test]
fn a_unit_that_cannot_be_read_back_is_a_fault_if_it_was_acknowledged() {
    let dir = tempfile::tempdir().expect("dir");
    let inspector = inspector(&dir.path().join("ledger"));
    let mut entries = Vec::new();
    inspector.ledger().begin(3, 1, &mut entries).expect("begin");
    inspector.unreadable(3, 1, "MEDIUM ERROR 11h/00h").expect("nothing is lost yet");
    assert_eq!(inspector.fault_count(), 0);
    inspector.ledger().acknowledge(3, 1, &mut entries).expect("ack");
    inspector.unreadable(3, 1, "MEDIUM ERROR 11h/00h").expect("lost");
    assert_eq!(inspector.faults()[0].found, "unreadable: MEDIUM ERROR 11h/00h");
}

#[test]
fn no_two_commands_in_flight_overlap_if_one_writes() {
    let dir = tempfile::tempdir().expect("dir");
    let inspector = inspector(&dir.path().join("ledger"));
    let mut sources: Vec<Stamped> = (0..3)
        .map(|index| {
            let mut source = stamped(&inspector, "mix:50", 9);
            source.deal(Zones::new(UNITS, UNIT as u64, 16384, Share { index, of: 3 }).expect("zones"));
            source
        })
        .collect();
    let mut random = Random::new(4);
    let mut in_flight: Vec<(usize, Op)> = Vec::new();
    let mut volume = FakeVolume::new(4);
    for _ in 0..5000 {
        let who = random.below(3) as usize;
        if let Next::Op(op) = sources[who].next().expect("next") {
            let range = FakeVolume::at(&op);
            for (_, other) in in_flight.iter().filter(|(_, o)| o.way == Way::Write || op.way == Way::Write) {
                let taken = FakeVolume::at(other);
                assert!(range.end <= taken.start || taken.end <= range.start, "{range:?} meets {taken:?}");
            }
            in_flight.push((who, op));
        }
        if in_flight.len() > 24 {
            let (who, op) = in_flight.swap_remove(random.below(24) as usize);
            let data = volume.carry_out(&op, None);
            sources[who].completed(op, &data).expect("completed");
        }
    }
    assert_eq!(inspector.faults(), []);
}
