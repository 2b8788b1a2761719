//! Seeds of schedules that once found a bug, each under the name of what went wrong.
//!
//! A seed stands for its schedule as long as neither the plan of schedules nor the order of the engine's disk
//! operations changes; afterwards it is one schedule like any other. What it was about stays here.

use sim::engine::{Engine, Store};
use sim::schedule::run;
use std::sync::Arc;

fn passes(seeds: &[u64]) {
    let engine: Arc<dyn Engine> = Arc::new(Store::new());
    for &seed in seeds {
        if let Err(failed) = run(&engine, seed, None) {
            panic!("{failed}");
        }
    }
}

/// A checkpoint wrote the inner node above a leaf that was created and not yet written; after a crash the inner
/// node had no leaf, the check missed it, and a layer that held it could never be deleted.
#[test]
fn an_inner_node_that_lost_its_only_leaf_in_a_crash_is_counted_and_removed() {
    passes(&[364, 535, 887, 959, 964, 1040, 1423, 1500]);
}

/// An injected flush error made the pool read-only with changes outstanding: the background loop then slept for
/// no time at all, again and again, with all of a core.
#[test]
fn the_background_loop_of_a_read_only_pool_rests() {
    passes(&(5000..5100).collect::<Vec<_>>());
}

/// After a device error redb refuses everything; the pool called that corruption of the catalog.
#[test]
fn a_catalog_that_met_a_device_error_is_not_called_corrupt() {
    passes(&[2293, 5412]);
}

/// A write cut into several batches met the end of space in the middle: what was written of it stays.
#[test]
fn a_large_write_that_runs_out_of_space_leaves_whole_blocks() {
    passes(&[5866]);
}

/// A layer was detached while it was being merged into the one above it, and was not empty when it was to go.
#[test]
fn a_layer_that_is_being_merged_is_not_detached() {
    passes(&[3128, 3824, 11146, 16660]);
}

/// A slab that the disk was stuck with while it was to forget it was in no account for longer than the checks looked.
#[test]
fn a_slab_in_the_hands_of_a_stuck_disk_is_waited_for() {
    passes(&[2751]);
}
