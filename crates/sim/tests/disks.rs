//! The pool engine on several disks under crash schedules: 6,000 in every run, 300,000 with `PALISADE_LONG=1`.
//!
//! `SEED=… cargo test -p sim --test disks schedules -- --nocapture` runs the one schedule of a seed again, and with
//! `NARRATE=1` tells what happens in it. `SEED_FIRST` and `SCHEDULES` choose others.

use sim::counts::Counts;
use sim::engine::{Engine, Store};
use sim::schedule::{Failed, Passed, run_several};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What every run has to exercise.
const EXERCISED: [&str; 14] = [
    "schedules",
    "openings",
    "crashes at work",
    "crashes in opening",
    "machine crashes",
    "process crashes",
    "writes",
    "disk growths",
    "disk faults",
    "consistency checks",
    "batches replayed",
    "batches of relocated data",
    "disks lost at work",
    "openings without a disk",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn guarded(engine: &Arc<dyn Engine>, seed: u64) -> Result<Passed, Box<Failed>> {
    let result = catch_unwind(AssertUnwindSafe(|| run_several(engine, seed, None)));
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
    let worker = || {
        let engine: Arc<dyn Engine> = Arc::new(Store::new());
        let (mut counts, mut failures) = (Counts::default(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
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
    let usual = if long { 300_000 } else { 6_000 };
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
    for seed in 1_000_000_000..1_000_000_010 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
        assert_ne!(trace(seed), trace(seed + 1), "seed {seed}");
    }
}
