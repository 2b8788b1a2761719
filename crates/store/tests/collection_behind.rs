//! Collection that falls behind, as hosts write faster than it gets its turn: as long as most of what is stored is
//! garbage, writes wait for it and none is refused.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::ErrorKind;
use futures_util::future::join_all;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use store::{Pool, StoreVolume};
use support::scripted::{Crash, Scripted, Target};
use support::{new_pool, put_run, reopen, small, sound, thin};

const SLAB: u64 = 1 << 20;
const SLABS: u64 = 160;
/// Blocks that are written again and again: a fifth of the pool.
const BLOCKS: u64 = SLABS * SLAB / 4096 / 5;
const WRITERS: u64 = 48;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Overwrites runs of up to `run` blocks at random, `writes` times by each of several writers.
async fn overwrite(pool: &Pool, volume: &StoreVolume, run: u64, writes: u64, random: &RefCell<Random>) {
    let writers = (0..WRITERS).map(async |writer| {
        for number in 0..writes {
            let (address, count) = {
                let mut random = random.borrow_mut();
                let count = 1 + random.below(run);
                (random.below(BLOCKS - count), count)
            };
            if let Err(error) = put_run(volume, address, number + 1, count).await {
                assert!(error.kind != ErrorKind::NoSpace, "write {number} of {writer}: {:?}", pool.status());
            }
        }
    });
    join_all(writers).await;
}

fn filled(disk: &Arc<Scripted>) {
    let (local, pool) = new_pool(&disk.disk(), small(SLAB));
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 40), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        for address in (0..BLOCKS).step_by(64) {
            put_run(&volume, address, address + 1, 64).await.unwrap();
        }
    });
}

/// A life in which nothing is collected and writers take what they can get.
fn without_collection(run: u64) -> (Arc<Scripted>, u64) {
    let disk = Scripted::new(SLABS * SLAB);
    filled(&disk);
    let disk = disk.after(Crash::Process);
    let (local, pool) = reopen(&disk.disk(), small(SLAB));
    let volume = pool.open_volume([1; 16]).unwrap();
    [Target::Relocation, Target::Nodes].into_iter().for_each(|target| disk.hold(target));
    let random = RefCell::new(Random(run));
    let work = overwrite(&pool, &volume, run, u64::MAX, &random);
    let done = local.run_until_stuck(work, Duration::from_secs(600));
    assert!(done.is_none(), "the disk takes more than it has");
    let left = pool.status().segments.free;
    (disk.after(Crash::Process), left)
}

/// What was begun may take slabs that are held back from other writes; were there no end to that, long writes that begin
/// one after the other would leave collection none.
#[test]
fn long_writes_leave_collection_the_slabs_it_needs() {
    for run in [24, 200, 700] {
        let (disk, left) = without_collection(run);
        assert!(left > 4, "only {left} slabs are left of runs of {run}");
        let (local, pool) = reopen(&disk.disk(), small(SLAB));
        let volume = pool.open_volume([1; 16]).unwrap();
        let writes = 2 * SLABS * SLAB / 4096 / WRITERS / (1 + run / 2);
        let random = RefCell::new(Random(run));
        let work = overwrite(&pool, &volume, run, writes, &random);
        let done = local.run_until_stuck(work, Duration::from_secs(3600));
        assert!(done.is_some(), "runs of {run}: stuck: {:?}", pool.status());
        local.block_on(sound(&pool));
    }
}
