//! Pools of several disks: what is lost with a disk is on another, and what is not current is never taken for it.

mod support;

use block::{Disk, ErrorKind, Result, Volume};
use std::sync::Arc;
use store::{DiskState, Pool, PoolOptions, Redundancy};
use support::{Local, disk, holds, put, put_run, small, sound, thin};

const MIB: u64 = 1 << 20;
const BLOCKS: u64 = 600;

fn options(redundancy: Redundancy) -> PoolOptions {
    PoolOptions { redundancy, ..small(64 << 10) }
}

fn disks(count: usize) -> Vec<Arc<dyn Disk>> {
    (0..count).map(|_| disk(24 * MIB)).collect()
}

fn create(disks: &[Arc<dyn Disk>], class: Redundancy) -> (Arc<Local>, Result<Arc<Pool>>) {
    let local = Local::new();
    let created = local.block_on(Pool::create(disks.to_vec(), "p", options(class), local.clone()));
    (local, created)
}

fn open(disks: &[&Arc<dyn Disk>]) -> (Arc<Local>, Result<Arc<Pool>>) {
    let local = Local::new();
    let disks = disks.iter().map(|disk| Arc::clone(disk)).collect();
    let opened = local.block_on(Pool::open(disks, options(Redundancy::Single), local.clone()));
    (local, opened)
}

/// A pool with a volume whose block `i` holds the pattern of `i + 1`; the process ended without closing it.
fn written(disks: &[Arc<dyn Disk>], class: Redundancy) {
    let (local, pool) = create(disks, class);
    let pool = pool.expect("create");
    local.block_on(async {
        pool.create_volume(thin(1, 8 * MIB), Vec::new()).await.expect("nothing is in the way");
        let volume = pool.open_volume([1; 16]).expect("nothing is in the way");
        put_run(&volume, 0, 1, BLOCKS / 2).await.expect("nothing is in the way");
        pool.checkpoint().await.expect("nothing is in the way");
        put_run(&volume, BLOCKS / 2, BLOCKS / 2 + 1, BLOCKS / 2).await.expect("nothing is in the way");
    });
}

/// All that [`written`] wrote is there, and the accounts are right.
async fn all_there(pool: &Pool) {
    let volume = pool.open_volume([1; 16]).expect("nothing is in the way");
    for block in 0..BLOCKS {
        holds(&volume, block, block + 1).await;
    }
    sound(pool).await;
}

fn states(pool: &Pool) -> Vec<DiskState> {
    pool.disks().into_iter().map(|disk| disk.state).collect()
}

#[test]
fn mirror2_loses_nothing_with_either_disk() {
    for lost in [0, 1] {
        let disks = disks(2);
        written(&disks, Redundancy::Mirror2);
        let (local, pool) = open(&[&disks[1 - lost]]);
        let pool = pool.expect("one of two is enough");
        assert_eq!(states(&pool)[lost], DiskState::Lost);
        local.block_on(async {
            all_there(&pool).await;
            put(&pool.open_volume([1; 16]).expect("nothing is in the way"), 700, 9)
                .await
                .expect("nothing is in the way");
            pool.close().await.expect("nothing is in the way");
        });
    }
}

#[test]
fn mirror3_loses_nothing_with_any_two_of_four_disks() {
    for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        let disks = disks(4);
        written(&disks, Redundancy::Mirror3);
        let left: Vec<_> = (0..4).filter(|i| *i != a && *i != b).map(|i| &disks[i]).collect();
        let (local, pool) = open(&left);
        local.block_on(all_there(&pool.expect("two of four are enough")));
    }
}

#[test]
fn a_disk_that_comes_back_with_old_content_is_not_used() {
    let disks = disks(2);
    written(&disks, Redundancy::Mirror2);
    let (local, pool) = open(&[&disks[1]]);
    let pool = pool.expect("nothing is in the way");
    local.block_on(async {
        put(&pool.open_volume([1; 16]).expect("nothing is in the way"), 0, 77)
            .await
            .expect("nothing is in the way");
        pool.close().await.expect("nothing is in the way");
    });
    let (local, pool) = open(&[&disks[0], &disks[1]]);
    let pool = pool.expect("the current disk has all there is");
    assert_eq!(states(&pool), [DiskState::Lost, DiskState::Current]);
    local.block_on(async { holds(&pool.open_volume([1; 16]).expect("nothing is in the way"), 0, 77).await });
}

#[test]
fn halves_that_went_on_apart_are_not_put_together() {
    let disks = disks(2);
    written(&disks, Redundancy::Mirror2);
    for disk in &disks {
        let (local, pool) = open(&[disk]);
        local.block_on(pool.expect("nothing is in the way").close()).expect("nothing is in the way");
    }
    let error = open(&[&disks[0], &disks[1]]).1.err().expect("neither is newer than the other");
    assert_eq!(error.kind, ErrorKind::Format);
    assert!(error.to_string().contains("apart from the other disks"), "{error}");
    assert!(open(&[&disks[1]]).1.is_ok(), "one part by itself is as good as before");
}

#[test]
fn without_disks_that_it_needs_a_pool_names_them_and_nothing_is_written() {
    for (class, count) in [(Redundancy::Single, 2), (Redundancy::Mirror2, 3)] {
        let disks = disks(count);
        written(&disks, class);
        let error = open(&[&disks[0]]).1.err().expect("too few");
        assert_eq!(error.kind, ErrorKind::Device);
        assert!(error.to_string().contains("disk 1 (24 MiB, identity"), "{error}");
        let all: Vec<_> = disks.iter().rev().collect();
        let (local, pool) = open(&all);
        let pool = pool.expect("all are there again");
        assert!(states(&pool).iter().all(|state| *state == DiskState::Current));
        local.block_on(all_there(&pool));
    }
}

#[test]
fn a_copy_that_is_damaged_is_read_from_the_other_and_written_anew() {
    let disks = disks(2);
    written(&disks, Redundancy::Mirror2);
    let (local, pool) = open(&[&disks[0], &disks[1]]);
    let pool = pool.expect("nothing is in the way");
    local.block_on(async {
        all_there(&pool).await;
        // All slabs behind the catalog's: what lies there are segments.
        for at in (6 * MIB..22 * MIB).step_by(65536) {
            disks[0].write_blocking(at, &[0x5a; 65536]).expect("nothing is in the way");
        }
        all_there(&pool).await;
        local_settles(&pool).await;
    });
    drop(pool);
    let (local, pool) = open(&[&disks[0]]);
    local.block_on(async {
        let volume =
            pool.expect("what was read was mended").open_volume([1; 16]).expect("nothing is in the way");
        for block in 0..BLOCKS {
            holds(&volume, block, block + 1).await;
        }
    });
}

/// Lets what was started in the background end.
async fn local_settles(pool: &Pool) {
    for _ in 0..4 {
        pool.facts("none").await.expect("nothing is in the way");
        pool.checkpoint().await.expect("nothing is in the way");
    }
}

#[test]
fn a_class_needs_its_disks_and_a_disk_is_in_one_pool() {
    let one = disks(1);
    assert_eq!(create(&one, Redundancy::Mirror2).1.err().map(|error| error.kind), Some(ErrorKind::Invalid));
    let three = disks(3);
    written(&three, Redundancy::Mirror3);
    assert_eq!(
        create(&three[2..], Redundancy::Single).1.err().map(|error| error.kind),
        Some(ErrorKind::Exists)
    );
    let foreign = disks(2);
    written(&foreign, Redundancy::Mirror2);
    let mixed = open(&[&three[0], &three[1], &three[2], &foreign[0]]).1.err().expect("of two pools");
    assert_eq!(mixed.kind, ErrorKind::Format);
}

#[test]
fn a_pool_of_unequal_disks_holds_what_it_says() {
    let disks = [40, 24, 12].map(|mib| disk(mib * MIB));
    let (local, pool) = create(&disks, Redundancy::Mirror2);
    let pool = pool.expect("create");
    assert_eq!(pool.redundancy(), Redundancy::Mirror2);
    local.block_on(async {
        pool.create_volume(thin(1, 64 * MIB), Vec::new()).await.expect("nothing is in the way");
        let volume = pool.open_volume([1; 16]).expect("nothing is in the way");
        let free = pool.status().free_bytes / 4096;
        let mut wrote = 0;
        while put_run(&volume, wrote, wrote + 1, 64).await.is_ok() {
            wrote += 64;
        }
        assert!(wrote + 64 + wrote / 32 >= free, "{free} blocks were promised, {wrote} could be written");
        for block in (0..wrote).step_by(97) {
            holds(&volume, block, block + 1).await;
        }
        assert_eq!(volume.size_bytes(), 64 * MIB);
        sound(&pool).await;
    });
}
