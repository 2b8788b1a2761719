//! What pools do on one disk they do on mirrors: snapshots, shared blocks, collection, growth, closing and reopening; and
//! each of it is there when a disk is taken away afterwards.

mod support;

use block::{Disk, ErrorKind, Volume};
use std::sync::Arc;
use store::{DiskState, Pool, PoolOptions, Redundancy, StoreVolume};
use support::{Local, disk, holds, put, put_run, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;
const SNAPSHOT: [u8; 16] = [2; 16];
const CLONE: [u8; 16] = [3; 16];

struct Bench {
    disks: Vec<Arc<dyn Disk>>,
    local: Arc<Local>,
    pool: Arc<Pool>,
}

impl Bench {
    fn new(class: Redundancy, sizes_mib: &[u64]) -> Self {
        let disks: Vec<_> = sizes_mib.iter().map(|mib| disk(mib * MIB)).collect();
        let local = Local::new();
        let options = PoolOptions { redundancy: class, ..small(64 << 10) };
        let created = Pool::create(disks.clone(), "p", options, local.clone());
        let pool = local.block_on(created).expect("create");
        local.block_on(pool.create_volume(thin(1, 16 * MIB), Vec::new())).expect("room for a volume");
        Self { disks, local, pool }
    }

    fn volume(&self) -> Arc<StoreVolume> {
        self.pool.open_volume([1; 16]).expect("the volume")
    }

    /// The pool after the process ended, without the disks `lost`.
    fn without(self, lost: &[usize]) -> Self {
        let Self { disks, pool, .. } = self;
        drop(pool);
        let kept = disks.iter().enumerate().filter(|(i, _)| !lost.contains(i));
        let disks: Vec<_> = kept.map(|(_, disk)| Arc::clone(disk)).collect();
        let local = Local::new();
        let opened = Pool::open(disks.clone(), small(64 << 10), local.clone());
        let pool = local.block_on(opened).expect("the others have all there is");
        Self { disks, local, pool }
    }
}

/// Each class with its disks, and those to be taken away at the end.
fn classes() -> [(Redundancy, Vec<u64>, Vec<usize>); 4] {
    [
        (Redundancy::Single, vec![12, 20], vec![]),
        (Redundancy::Mirror2, vec![16, 16], vec![0]),
        (Redundancy::Mirror2, vec![24, 12, 16], vec![1]),
        (Redundancy::Mirror3, vec![16, 24, 16, 16], vec![0, 2]),
    ]
}

#[test]
fn snapshots_and_clones_keep_their_content() {
    for (class, sizes, lost) in classes() {
        let bench = Bench::new(class, &sizes);
        bench.local.block_on(async {
            let volume = bench.volume();
            put_run(&volume, 0, 1, 100).await.expect("room");
            bench.pool.snapshot_volume([1; 16], SNAPSHOT, Vec::new()).await.expect("a snapshot");
            put_run(&volume, 50, 1000, 100).await.expect("room");
            bench.pool.clone_volume(SNAPSHOT, CLONE, Vec::new()).await.expect("a clone");
            put(&bench.pool.open_volume(CLONE).expect("the clone"), 7, 77).await.expect("room");
        });
        let bench = bench.without(&lost);
        bench.local.block_on(async {
            let [volume, snapshot, clone] =
                [[1; 16], SNAPSHOT, CLONE].map(|id| bench.pool.open_volume(id).expect("it is there"));
            holds(&volume, 49, 50).await;
            holds(&volume, 50, 1000).await;
            holds(&snapshot, 50, 51).await;
            holds(&snapshot, 7, 8).await;
            holds(&clone, 7, 77).await;
            holds(&clone, 99, 100).await;
            sound(&bench.pool).await;
        });
    }
}

#[test]
fn blocks_that_are_shared_are_there_on_each_copy() {
    for (class, sizes, lost) in classes() {
        let bench = Bench::new(class, &sizes);
        bench.local.block_on(async {
            let volume = bench.volume();
            put_run(&volume, 0, 1, 64).await.expect("room");
            let copied = volume.copy_from(1000 * 4096, 64 * 4096, &*volume, 0).expect("within a pool");
            assert!(copied.await.expect("a copy").is_empty(), "all of it could be shared");
            unmap(&volume, 0, 32).await.expect("unmapping");
        });
        let bench = bench.without(&lost);
        bench.local.block_on(async {
            let volume = bench.volume();
            for block in 0..64 {
                holds(&volume, 1000 + block, block + 1).await;
                holds(&volume, block, if block < 32 { 0 } else { block + 1 }).await;
            }
            sound(&bench.pool).await;
        });
    }
}

#[test]
fn what_is_overwritten_again_and_again_is_collected_from_all_copies() {
    for (class, sizes, lost) in classes() {
        let bench = Bench::new(class, &sizes);
        let rounds = 12;
        bench.local.block_on(async {
            let volume = bench.volume();
            for round in 0..rounds {
                for start in (0..1024).step_by(64) {
                    put_run(&volume, start, round * 10_000 + start, 64).await.expect("room is made");
                }
            }
            bench.pool.settle().await.expect("collection ends");
            sound(&bench.pool).await;
        });
        let written = bench.pool.status().written_bytes;
        let capacity: u64 = sizes.iter().sum::<u64>() * MIB;
        assert!(written * 3 > capacity, "{written} of {capacity}: slabs were used again");
        let bench = bench.without(&lost);
        bench.local.block_on(async {
            let volume = bench.volume();
            for block in (0..1024).step_by(37) {
                holds(&volume, block, (rounds - 1) * 10_000 + block).await;
            }
        });
    }
}

#[test]
fn a_pool_that_was_closed_needs_no_replay_and_can_do_without_a_disk() {
    let bench = Bench::new(Redundancy::Mirror2, &[16, 16, 16]);
    bench.local.block_on(async {
        put_run(&bench.volume(), 0, 1, 200).await.expect("room");
        bench.pool.close().await.expect("an orderly end");
    });
    let bench = bench.without(&[2]);
    assert_eq!(bench.pool.status().replayed_batches, 0);
    let states: Vec<_> = bench.pool.disks().iter().map(|disk| disk.state).collect();
    assert_eq!(states, [DiskState::Current, DiskState::Current, DiskState::Lost]);
    bench.local.block_on(async {
        for block in 0..200 {
            holds(&bench.volume(), block, block + 1).await;
        }
    });
}

#[test]
fn growth_of_one_disk_counts_as_far_as_others_have_room_for_the_second_copy() {
    let bench = Bench::new(Redundancy::Mirror2, &[16, 16]);
    bench.local.block_on(async {
        let before = bench.pool.status().usable_bytes;
        // Memory does not grow: a size that the disk has already is taken as it is.
        bench.pool.grow_disk(0, 16 * MIB).await.expect("nothing changes");
        assert_eq!(bench.pool.status().usable_bytes, before);
        let unknown = bench.pool.grow_disk(2, 16 * MIB).await.expect_err("there are two");
        assert_eq!(unknown.kind, ErrorKind::NotFound);
        let smaller = bench.pool.grow_disk(1, 8 * MIB).await.expect_err("disks do not shrink");
        assert_eq!(smaller.kind, ErrorKind::Invalid);
        sound(&bench.pool).await;
    });
}

#[test]
fn a_full_mirror_says_so_and_unmapping_makes_room() {
    let bench = Bench::new(Redundancy::Mirror2, &[12, 12]);
    bench.local.block_on(async {
        let volume = bench.volume();
        let mut wrote = 0;
        let error = loop {
            match put_run(&volume, wrote, wrote + 1, 32).await {
                Ok(()) => wrote += 32,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind, ErrorKind::NoSpace);
        unmap(&volume, 0, 256).await.expect("unmapping needs no room");
        put_run(&volume, 0, 5000, 64).await.expect("there is room again");
        holds(&volume, wrote - 1, wrote).await;
        sound(&bench.pool).await;
    });
}
