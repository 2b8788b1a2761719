//! The brim: whatever a pool is full of, what is mapped can be overwritten and unmapped, and what was unmapped can be
//! written anew (promise 5).

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use store::{Health, Pool, StoreVolume, VolumeSpec};
use support::scripted::{Crash, Scripted, Target};
use support::{Local, disk, holds, new_pool, put, put_run, reopen, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;
/// Small slabs, so that a few dozen map nodes are one.
const SLAB: u64 = 256 << 10;
/// The smallest slabs of pools that users make.
const USUAL_SLAB: u64 = MIB;
/// The smallest slabs there are.
const TINY_SLAB: u64 = 64 << 10;

/// A fixed order that jumps about.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn shuffled(&mut self, count: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..count).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, usize::try_from(self.below(u64::try_from(i + 1).unwrap())).unwrap());
        }
        order
    }
}

/// Writes single blocks at `address(0)`, `address(1)` and so on until there is no space. Returns how many.
async fn fill(volume: &StoreVolume, address: impl Fn(u64) -> u64) -> u64 {
    for number in 0.. {
        if let Err(error) = put(volume, address(number), number + 1).await {
            assert_eq!(error.kind, ErrorKind::NoSpace);
            return number;
        }
    }
    unreachable!("some day it is full")
}

/// Fills the pool with blocks at `address`, overwrites them at random, none of which is refused, unmaps them one by one
/// in another order, and fills it again.
fn to_the_brim_and_back(slab: u64, slabs: u64, address: impl Fn(u64) -> u64 + Copy) {
    let (local, pool) = new_pool(&disk(slabs * slab), small(slab));
    let work = async {
        pool.create_volume(thin(1, 1 << 45), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        let count = fill(&volume, address).await;
        assert!(count > 100, "{count}");
        let mut random = Random(7);
        for step in 0..3 * count {
            put(&volume, address(random.below(count)), 1_000_000 + step).await.unwrap();
        }
        sound(&pool).await;
        let order = random.shuffled(count);
        for number in &order {
            unmap(&volume, address(*number), 1).await.unwrap();
        }
        assert_eq!(volume.mapped_bytes(), 0);
        pool.settle().await.unwrap();
        assert_eq!((pool.status().data_bytes, pool.status().map_bytes), (0, 0));
        let again = fill(&volume, address).await;
        assert!(again * 10 >= count * 9, "{again} after {count}");
        holds(&volume, address(again / 2), again / 2 + 1).await;
        sound(&pool).await;
    };
    within_an_hour(&local, &pool, work);
}

/// Does `work`, which must not wait for ever for something that background work tries again and again.
fn within_an_hour(local: &Local, pool: &Pool, work: impl Future<Output = ()>) {
    let done = local.run_until_stuck(work, Duration::from_secs(3600));
    assert!(done.is_some(), "stuck: {:?}", pool.status());
}

fn side_by_side(number: u64) -> u64 {
    number
}

fn a_leaf_each(number: u64) -> u64 {
    number * 256 + number % 256
}

fn a_path_of_nodes_each(number: u64) -> u64 {
    number * 65_536 + number % 65_536
}

#[test]
fn blocks_side_by_side_are_overwritten_and_unmapped_at_the_brim() {
    to_the_brim_and_back(TINY_SLAB, 192, side_by_side);
    to_the_brim_and_back(USUAL_SLAB, 48, side_by_side);
}

#[test]
fn blocks_with_a_leaf_each_are_overwritten_and_unmapped_at_the_brim() {
    to_the_brim_and_back(TINY_SLAB, 192, a_leaf_each);
    to_the_brim_and_back(SLAB, 70, a_leaf_each);
    to_the_brim_and_back(USUAL_SLAB, 100, a_leaf_each);
}

#[test]
fn blocks_with_a_path_of_nodes_each_are_overwritten_and_unmapped_at_the_brim() {
    to_the_brim_and_back(TINY_SLAB, 192, a_path_of_nodes_each);
    to_the_brim_and_back(SLAB, 70, a_path_of_nodes_each);
    to_the_brim_and_back(USUAL_SLAB, 100, a_path_of_nodes_each);
}

/// A large pool holds back a smaller part of itself.
#[test]
fn a_pool_with_a_twentieth_held_back_is_overwritten_and_unmapped_at_the_brim() {
    to_the_brim_and_back(TINY_SLAB, 700, a_leaf_each);
    to_the_brim_and_back(TINY_SLAB, 700, a_path_of_nodes_each);
}

/// Crashes at the brim, one after the other: each leaves segments behind that were set aside or begun. `writes` blocks are
/// written between them, which last.
fn worn_by_crashes(slab: u64, slabs: u64, lives: u64, writes: u64) {
    let mut disk = Scripted::new(slabs * slab);
    let (local, pool) = new_pool(&disk.disk(), small(slab));
    let address = |number: u64| number * 256 + number % 200;
    let count = local.block_on(async {
        pool.create_volume(thin(1, 1 << 40), Vec::new()).await.unwrap();
        fill(&pool.open_volume([1; 16]).unwrap(), address).await
    });
    let mut random = Random(3);
    let mut open: (Arc<Local>, Arc<Pool>) = (local, pool);
    for life in 0..lives {
        disk = disk.after(if life % 2 == 0 { Crash::Process } else { Crash::Power });
        open = reopen(&disk.disk(), small(slab));
        let work = async {
            let volume = open.1.open_volume([1; 16]).unwrap();
            for step in 0..writes {
                put(&volume, address(random.below(count)), life * 100 + step).await.unwrap();
            }
        };
        within_an_hour(&open.0, &open.1, work);
    }
    let (local, pool) = open;
    let work = async {
        let volume = pool.open_volume([1; 16]).unwrap();
        for number in random.shuffled(count) {
            unmap(&volume, address(number), 1).await.unwrap();
        }
        assert!(fill(&volume, address).await * 10 >= count * 9);
        sound(&pool).await;
    };
    within_an_hour(&local, &pool, work);
}

#[test]
fn a_pool_worn_by_crashes_at_the_brim_is_overwritten_and_unmapped() {
    worn_by_crashes(TINY_SLAB, 192, 60, 7);
    worn_by_crashes(SLAB, 190, 25, 7);
    worn_by_crashes(USUAL_SLAB, 48, 60, 7);
}

#[test]
fn crashes_without_anything_written_between_them_use_no_slabs_up() {
    worn_by_crashes(TINY_SLAB, 192, 100, 0);
    worn_by_crashes(USUAL_SLAB, 48, 100, 0);
}

/// Collection cannot move anything: unmapping goes by checkpoints, and is durable when it is acknowledged.
#[test]
fn unmapping_needs_no_collection() {
    unmapped_without_collection(SLAB, 190);
    unmapped_without_collection(USUAL_SLAB, 48);
}

fn unmapped_without_collection(slab: u64, slabs: u64) {
    let disk = Scripted::new(slabs * slab);
    let (local, pool) = new_pool(&disk.disk(), small(slab));
    let unmapped = local.block_on(async {
        pool.create_volume(thin(1, 1 << 40), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        let count = fill(&volume, |number| number).await;
        disk.fail(Target::Relocation, 0, u32::MAX, ErrorKind::NoSpace);
        let mut random = Random(11);
        // One block of each segment is given back: none becomes empty, all have garbage that cannot be collected.
        let mut unmapped = 0;
        for number in 0..count {
            let address = number / 15 + number % 15 * (count / 15);
            if number < count / 15 * 15 && random.below(3) > 0 {
                unmap(&volume, address, 1).await.unwrap();
                unmapped += 1;
            }
        }
        sound(&pool).await;
        assert_eq!(volume.mapped_bytes(), (count - unmapped) * 4096);
        unmapped
    });
    let disk = disk.after(Crash::Power);
    let (local, pool) = reopen(&disk.disk(), small(slab));
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).unwrap();
        for address in 0..unmapped / 2 {
            put(&volume, address, address + 5).await.unwrap();
        }
        sound(&pool).await;
    });
}

/// Clones of a volume with a leaf for each block: unmapping one writes a node for each block of the original.
#[test]
fn clones_are_unmapped_at_the_brim() {
    clones_unmapped(SLAB, 190);
    clones_unmapped(USUAL_SLAB, 70);
}

fn clones_unmapped(slab: u64, slabs: u64) {
    let (local, pool) = new_pool(&disk(slabs * slab), small(slab));
    let address = |number: u64| number * 256 + number % 100;
    let work = async {
        pool.create_volume(thin(1, 1 << 40), Vec::new()).await.unwrap();
        let original = pool.open_volume([1; 16]).unwrap();
        for number in 0..700 {
            put(&original, address(number), number + 1).await.unwrap();
        }
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        let mut clones = 0;
        let refused = loop {
            match pool.clone_volume([2; 16], [10 + clones; 16], Vec::new()).await {
                Ok(()) => clones += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind, ErrorKind::NoSpace, "a clone that could not be unmapped is not made");
        assert!(clones >= 2, "{clones}");
        let filled = fill(&original, |number| (1 << 25) + number).await;
        for clone in 0..clones {
            let clone = pool.open_volume([10 + clone; 16]).unwrap();
            for number in 0..700 {
                unmap(&clone, address(number), 1).await.unwrap();
            }
            holds(&clone, address(17), 0).await;
        }
        let mut random = Random(5);
        for step in 0..500 {
            put(&original, (1 << 25) + random.below(filled), 7000 + step).await.unwrap();
        }
        unmap(&original, 0, 1 << 24).await.unwrap();
        sound(&pool).await;
        holds(&pool.open_volume([2; 16]).unwrap(), address(17), 18).await;
        for clone in 0..clones {
            pool.delete_volume([10 + clone; 16], Vec::new()).await.unwrap();
        }
        pool.settle().await.unwrap();
        unmap(&original, 0, 1 << 28).await.unwrap();
        for number in 0..200 {
            put(&original, address(number), number + 1).await.unwrap();
        }
        assert_eq!(pool.status().health, Health::Healthy);
        sound(&pool).await;
    };
    within_an_hour(&local, &pool, work);
}

#[test]
fn what_snapshots_set_aside_for_unmapping_comes_back_with_them() {
    let disk = disk(48 * MIB);
    let (local, pool) = new_pool(&disk, small(SLAB));
    let free = local.block_on(async {
        pool.create_volume(thin(1, 1 << 40), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        for leaf in 0..100 {
            put(&volume, leaf * 256, leaf + 1).await.unwrap();
        }
        pool.settle().await.unwrap();
        let before = pool.status().free_bytes;
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        let taken = before - pool.status().free_bytes;
        assert!((100 * 4096..120 * 4096).contains(&taken), "a node for each leaf: {taken}");
        pool.status().free_bytes
    });
    let (local, pool) = reopen(&disk, small(SLAB));
    local.block_on(async {
        pool.settle().await.unwrap();
        assert_eq!(pool.status().free_bytes, free, "the same after a crash");
        pool.delete_snapshot([2; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        assert!(pool.status().free_bytes >= free + 100 * 4096);
    });
}

#[test]
fn a_thick_volume_keeps_its_room_beside_snapshots_and_greedy_neighbours() {
    let (local, pool) = new_pool(&disk(64 * MIB), small(SLAB));
    local.block_on(async {
        let thick = VolumeSpec { thick: true, ..thin(9, 4 * MIB) };
        pool.create_volume(thick, Vec::new()).await.unwrap();
        pool.create_volume(thin(1, 1 << 40), Vec::new()).await.unwrap();
        let (volume, greedy) = (pool.open_volume([9; 16]).unwrap(), pool.open_volume([1; 16]).unwrap());
        put_run(&volume, 0, 1, 300).await.unwrap();
        let reserved = pool.status().reserved_bytes;
        assert!(((1024 - 300) * 4096..1024 * 4096).contains(&reserved), "{reserved}");
        // The snapshot keeps the 300 blocks; the volume can still be written as a whole.
        pool.snapshot_volume([9; 16], [8; 16], Vec::new()).await.unwrap();
        assert!(pool.status().reserved_bytes >= 1024 * 4096);
        fill(&greedy, |number| number).await;
        assert_eq!(
            pool.resize_volume([9; 16], 8 * MIB, Vec::new()).await.unwrap_err().kind,
            ErrorKind::NoSpace,
            "what is not there cannot be promised"
        );
        for address in 0..1024 {
            put(&volume, address, address + 5000).await.unwrap();
        }
        // Unmapped, it is promised again.
        unmap(&volume, 0, 1024).await.unwrap();
        assert_eq!(put(&greedy, 1 << 20, 1).await.unwrap_err().kind, ErrorKind::NoSpace);
        for address in 0..1024 {
            put(&volume, address, address + 9000).await.unwrap();
        }
        holds(&volume, 1023, 10_023).await;
        holds(&pool.open_volume([8; 16]).unwrap(), 299, 300).await;
        sound(&pool).await;
    });
}
