//! The pool engine under crash schedules: at least 20,000 in every run, a million with `PALISADE_LONG=1`.
//!
//! `SEED=… cargo test -p sim --test crash schedules -- --nocapture` runs the one schedule of a seed again, and
//! with `NARRATE=1` tells what happens in it. `SEED_FIRST` and `SCHEDULES` choose others.

use sim::counts::Counts;
use sim::engine::{Engine, Store};
use sim::schedule::{Failed, Passed, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What every run has to exercise.
const EXERCISED: [&str; 50] = [
    "schedules",
    "openings",
    "crashes at work",
    "crashes in opening",
    "killed when idle",
    "closes",
    "machine crashes",
    "process crashes",
    "work ended without a crash",
    "writes",
    "writes of zeros",
    "atomic writes",
    "atomic writes that were too large",
    "reads",
    "unmaps",
    "compare and writes that were equal",
    "compare and writes that differed",
    "copies",
    "copies that shared blocks",
    "flushes",
    "abandoned writes",
    "extents",
    "volumes created",
    "volumes deleted",
    "volumes resized",
    "snapshots",
    "clones",
    "snapshots of several volumes",
    "rollbacks",
    "volumes being detached",
    "detachings that were cancelled",
    "checkpoint",
    "settling",
    "disk growths",
    "no space",
    "volumes that filled the pool",
    "recoveries from a full pool",
    "consistency checks",
    "mapped sizes compared",
    "batches replayed",
    "batches of host data",
    "batches of relocated data",
    "batches of map nodes",
    "disk faults",
    "disk writes torn",
    "disk discards",
    "volumes erased",
    "volumes overwritten",
    "volumes found being sanitized",
    "disks searched for old content",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one schedule; a panic of the engine is a failure like any other.
fn guarded(engine: &Arc<dyn Engine>, seed: u64) -> Result<Passed, Box<Failed>> {
    let result = catch_unwind(AssertUnwindSafe(|| run(engine, seed, None)));
    result.unwrap_or_else(|_| {
        let (violation, plan) = ("the engine panicked; see above".to_owned(), String::new());
        Err(Box::new(Failed { seed, life: 0, violation, plan }))
    })
}

/// Runs `count` schedules from seed `first` on, in two threads; stops at the first failure.
fn run_many(first: u64, count: u64) -> (Counts, Vec<Failed>) {
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let keep_going = std::env::var_os("KEEP_GOING").is_some();
    let narrated = std::env::var_os("PROGRESS").is_some();
    let worker = || {
        let engine: Arc<dyn Engine> = Arc::new(Store::new());
        let (mut counts, mut failures) = (Counts::default(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            if narrated {
                println!("schedule {seed}");
            }
            match guarded(&engine, seed) {
                Ok(passed) => counts.merge(&passed.counts),
                Err(failed) => {
                    println!("{failed}");
                    failures.push(*failed);
                    stop.store(!keep_going, Ordering::Relaxed);
                }
            }
        }
        (counts, failures)
    };
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        for worker in workers {
            let (more, failed) = worker.join().expect("a worker catches panics");
            counts.merge(&more);
            failures.extend(failed);
        }
    });
    (counts, failures)
}

#[test]
fn schedules() {
    let long = std::env::var_os("PALISADE_LONG").is_some_and(|value| value == "1");
    let usual = if long { 1_000_000 } else { 20_000 };
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (number("SEED_FIRST").unwrap_or(1), number("SCHEDULES").unwrap_or(usual)),
    };
    println!("SEED={first} and the {} after it", count - 1);
    let (counts, failures) = run_many(first, count);
    println!("{counts}");
    assert!(
        failures.is_empty(),
        "{} of {count} schedules failed, the first: {}",
        failures.len(),
        failures[0]
    );
    if count >= 1000 {
        assert_eq!(counts.missing(&EXERCISED), Vec::<&str>::new(), "never exercised");
    }
}

#[test]
fn a_seed_replays_exactly() {
    let trace = |seed| {
        let engine: Arc<dyn Engine> = Arc::new(Store::new());
        guarded(&engine, seed).map(|passed| passed.trace).unwrap_or_else(|failed| panic!("{failed}"))
    };
    let first = number("SEED").unwrap_or(1_000_000_000);
    for seed in first..first + 20 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
        assert_ne!(trace(seed), trace(seed + 1), "seed {seed}");
    }
}
