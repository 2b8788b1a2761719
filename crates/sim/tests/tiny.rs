//! The simulation is tested with a small engine: as it is it passes, and with each planted bug it fails.

use sim::engine::Engine;
use sim::schedule::{Passed, run};
use sim::tiny::{Bug, Tiny};
use std::sync::Arc;

fn engine(bug: Option<Bug>) -> Arc<dyn Engine> {
    Arc::new(Tiny { bug })
}

#[test]
fn an_engine_that_keeps_its_promises_passes() {
    let engine = engine(None);
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..1000, |seed| seed..seed + 1);
    let mut counts = sim::counts::Counts::default();
    for seed in seeds {
        match run(&engine, seed, None) {
            Ok(passed) => counts.merge(&passed.counts),
            Err(failed) => panic!("{failed}"),
        }
    }
    println!("{counts}");
}

#[test]
fn a_seed_replays_exactly() {
    let engine = engine(None);
    let trace = |seed| run(&engine, seed, None).map(|Passed { trace, .. }| trace).unwrap();
    for seed in 0..50 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
        assert_ne!(trace(seed), trace(seed + 1), "seed {seed}");
    }
}

/// A planted bug must be found within so many schedules, and be found again from the seed alone.
fn is_found(bug: Bug, schedules: u64) {
    let engine = engine(Some(bug));
    let found = (0..schedules).find_map(|seed| run(&engine, seed, None).err());
    let found = found.unwrap_or_else(|| panic!("{bug:?} was not found in {schedules} schedules"));
    println!("{bug:?}: {found}");
    let again = run(&engine, found.seed, None).expect_err("it was found before");
    assert_eq!(found, again, "{bug:?} does not replay");
}

#[test]
fn every_planted_bug_is_found() {
    for bug in [
        Bug::AcksEarly,
        Bug::SkipsFlush,
        Bug::TrustsTornRecords,
        Bug::ForgetsTail,
        Bug::TearsBlocks,
        Bug::TearsAtomicWrites,
        Bug::AliasesSnapshots,
        Bug::ReadsStale,
        Bug::ComparesThenWaits,
        Bug::RevivesVolumes,
        Bug::LosesWakeups,
        Bug::MergesLate,
    ] {
        is_found(bug, 400);
    }
}
