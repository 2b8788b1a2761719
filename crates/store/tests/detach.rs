//! Detaching: a clone comes to depend on nothing, nobody notices, and what only others needed comes back.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::ErrorKind;
use std::sync::Arc;
use store::{Pool, StoreVolume, VolumeSpec};
use support::steps::{LIMIT, at_every_step, options, prepared};
use support::{disk, holds, new_pool, put, put_run, reopen, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;
const ORIGIN: [u8; 16] = [1; 16];
const SNAPSHOT: [u8; 16] = [2; 16];
const CLONE: [u8; 16] = [3; 16];
const OWN_SNAPSHOT: [u8; 16] = [4; 16];

fn volume(pool: &Pool, id: [u8; 16]) -> Arc<StoreVolume> {
    pool.open_volume(id).unwrap()
}

/// An origin with 600 blocks of seeds 1000 on, a snapshot of it, and a clone of that which has block 5 itself and not
/// block 6.
async fn set_up(pool: &Pool, spec: VolumeSpec) {
    pool.create_volume(spec, Vec::new()).await.unwrap();
    put_run(&volume(pool, ORIGIN), 0, 1000, 600).await.unwrap();
    pool.snapshot_volume(ORIGIN, SNAPSHOT, Vec::new()).await.unwrap();
    pool.clone_volume(SNAPSHOT, CLONE, Vec::new()).await.unwrap();
    put(&volume(pool, CLONE), 5, 5).await.unwrap();
    unmap(&volume(pool, CLONE), 6, 1).await.unwrap();
}

async fn clone_is_whole(clone: &StoreVolume) {
    for (address, seed) in [(0, 1000), (4, 1004), (5, 5), (6, 0), (7, 1007), (599, 1599), (600, 0)] {
        holds(clone, address, seed).await;
    }
}

fn data_blocks(pool: &Pool) -> u64 {
    pool.status().data_bytes / 4096
}

#[test]
fn nothing_is_copied_and_blocks_that_both_have_overwritten_come_back() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        set_up(&pool, thin(1, 1 << 30)).await;
        assert!(pool.detach_volume(CLONE, vec![CLONE], Vec::new()).await.unwrap());
        pool.settle().await.unwrap();
        assert_eq!(pool.detachment(CLONE), None);
        assert_eq!(data_blocks(&pool), 601);
        pool.delete_snapshot(SNAPSHOT, Vec::new()).await.unwrap();
        put_run(&volume(&pool, ORIGIN), 0, 3000, 600).await.unwrap();
        clone_is_whole(&volume(&pool, CLONE)).await;
        put_run(&volume(&pool, CLONE), 0, 4000, 600).await.unwrap();
        pool.settle().await.unwrap();
        assert_eq!(data_blocks(&pool), 1200, "a clone that is not detached would keep 600 more");
        sound(&pool).await;
        assert!(!pool.detach_volume(CLONE, vec![CLONE], Vec::new()).await.unwrap(), "there is nothing to do");
    });
}

/// What there was before detaching, to be sure that the test above shows a difference.
#[test]
fn blocks_that_a_volume_and_its_clone_have_overwritten_stay_while_both_are_there() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        set_up(&pool, thin(1, 1 << 30)).await;
        pool.delete_snapshot(SNAPSHOT, Vec::new()).await.unwrap();
        put_run(&volume(&pool, ORIGIN), 0, 3000, 600).await.unwrap();
        put_run(&volume(&pool, CLONE), 0, 4000, 600).await.unwrap();
        pool.settle().await.unwrap();
        assert_eq!(data_blocks(&pool), 1800);
    });
}

#[test]
fn a_clone_with_snapshots_and_clones_of_its_own_is_detached_with_these() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        set_up(&pool, thin(1, 1 << 30)).await;
        pool.snapshot_volume(CLONE, OWN_SNAPSHOT, Vec::new()).await.unwrap();
        put(&volume(&pool, CLONE), 8, 8).await.unwrap();
        pool.clone_volume(OWN_SNAPSHOT, [5; 16], Vec::new()).await.unwrap();
        let family = vec![CLONE, OWN_SNAPSHOT, [5; 16]];
        assert!(pool.detach_volume(CLONE, family, Vec::new()).await.unwrap());
        pool.settle().await.unwrap();
        for id in [ORIGIN, SNAPSHOT] {
            pool.delete_volume(id, Vec::new()).await.unwrap();
        }
        pool.settle().await.unwrap();
        assert_eq!(data_blocks(&pool), 598 + 1 + 1, "all but blocks 5 and 6 of the origin");
        for id in [OWN_SNAPSHOT, [5; 16]] {
            clone_is_whole(&volume(&pool, id)).await;
        }
        holds(&volume(&pool, CLONE), 8, 8).await;
        sound(&pool).await;
        for id in [CLONE, OWN_SNAPSHOT, [5; 16]] {
            pool.delete_volume(id, Vec::new()).await.unwrap();
        }
        pool.settle().await.unwrap();
        let status = pool.status();
        assert_eq!((status.data_bytes, status.map_bytes), (0, 0));
    });
}

#[test]
fn what_lies_under_a_thick_volume_is_written_once_more() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        set_up(&pool, VolumeSpec { thick: true, ..thin(1, 4 * MIB) }).await;
        // The layer to be completed is frozen then.
        pool.snapshot_volume(CLONE, OWN_SNAPSHOT, Vec::new()).await.unwrap();
        put(&volume(&pool, CLONE), 8, 8).await.unwrap();
        assert!(pool.detach_volume(CLONE, vec![CLONE, OWN_SNAPSHOT], Vec::new()).await.unwrap());
        pool.settle().await.unwrap();
        assert_eq!(data_blocks(&pool), 600 + 2 + 598);
        clone_is_whole(&volume(&pool, OWN_SNAPSHOT)).await;
        sound(&pool).await;
        let refused = put(&volume(&pool, OWN_SNAPSHOT), 0, 1).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::ReadOnly, "a snapshot");
    });
    let (local, pool) = reopen(&disk, small(256 << 10));
    local.block_on(async {
        clone_is_whole(&volume(&pool, OWN_SNAPSHOT)).await;
        holds(&volume(&pool, CLONE), 8, 8).await;
        holds(&volume(&pool, ORIGIN), 599, 1599).await;
        sound(&pool).await;
    });
}

#[test]
fn hosts_write_meanwhile_and_what_they_write_is_what_they_read() {
    for thick in [false, true] {
        let disk = disk(64 * MIB);
        let (local, pool) = new_pool(&disk, small(256 << 10));
        local.block_on(async {
            set_up(&pool, VolumeSpec { thick, ..thin(1, 8 * MIB) }).await;
            pool.detach_volume(CLONE, vec![CLONE], Vec::new()).await.unwrap();
            let clone = volume(&pool, CLONE);
            for address in (0..600).step_by(7) {
                put(&clone, address, 7000 + address).await.unwrap();
                unmap(&clone, address + 1, 1).await.unwrap();
            }
            pool.settle().await.unwrap();
            assert_eq!(pool.detachment(CLONE), None);
            for address in 0..600 {
                let seed = match (address % 7, address) {
                    (0, _) => 7000 + address,
                    (1, _) => 0,
                    (_, 5) => 5,
                    (_, 6) => 0,
                    _ => 1000 + address,
                };
                holds(&clone, address, seed).await;
                holds(&volume(&pool, SNAPSHOT), address, 1000 + address).await;
            }
            sound(&pool).await;
        });
    }
}

#[test]
fn it_goes_on_when_the_pool_is_opened_again_and_can_be_cancelled() {
    let base = prepared(async |pool| set_up(pool, thin(1, 1 << 30)).await);
    let disk = base.after(support::scripted::Crash::Process);
    let (local, pool) = reopen(&disk.disk(), options());
    local.block_on(async {
        assert!(pool.detach_volume(CLONE, vec![CLONE], Vec::new()).await.unwrap());
        let begun = pool.detachment(CLONE).unwrap();
        assert_eq!((begun.size_bytes, begun.waits), (1 << 30, None));
    });
    drop((local, pool));
    let (local, pool) = reopen(&disk.disk(), options());
    assert!(pool.detachment(CLONE).is_some(), "the catalog knows");
    local.block_on(async {
        pool.settle().await.unwrap();
        assert_eq!(pool.detachment(CLONE), None);
        pool.delete_snapshot(SNAPSHOT, Vec::new()).await.unwrap();
        pool.delete_volume(ORIGIN, Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        assert_eq!(data_blocks(&pool), 599);
        clone_is_whole(&volume(&pool, CLONE)).await;
        sound(&pool).await;
    });
    let (local, pool) = reopen(&base.after(support::scripted::Crash::Process).disk(), options());
    local.block_on(async {
        let fact = ("test".to_owned(), "cancelled".to_owned(), Some(vec![1]));
        pool.detach_volume(CLONE, vec![CLONE], Vec::new()).await.unwrap();
        pool.cancel_detach(CLONE, vec![fact]).await.unwrap();
        assert_eq!((pool.detachment(CLONE), pool.facts("test").await.unwrap().len()), (None, 1));
        pool.settle().await.unwrap();
        clone_is_whole(&volume(&pool, CLONE)).await;
        sound(&pool).await;
    });
}

#[test]
fn it_is_refused_when_it_does_not_fit_and_snapshots_are_not_detached() {
    let disk = disk(24 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        set_up(&pool, VolumeSpec { thick: true, ..thin(1, 3 * MIB) }).await;
        pool.create_volume(thin(9, 1 << 30), Vec::new()).await.unwrap();
        let room = pool.status().free_bytes / 4096;
        put_run(&volume(&pool, [9; 16]), 0, 9000, room - 300).await.unwrap();
        let refused = pool.detach_volume(CLONE, vec![CLONE], Vec::new()).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::NoSpace);
        assert_eq!(pool.detachment(CLONE), None);
        let refused = pool.detach_volume(SNAPSHOT, Vec::new(), Vec::new()).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid);
        let refused = pool.detach_volume([8; 16], Vec::new(), Vec::new()).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::NotFound);
        sound(&pool).await;
    });
}

/// With the origin and the snapshot deleted at the end, so that what went wrong would be gone for good.
fn crash_at_every_step(thick: bool) {
    let base = prepared(async |pool| {
        pool.create_volume(VolumeSpec { thick, ..thin(1, 2 * MIB) }, Vec::new()).await.unwrap();
        put_run(&volume(pool, ORIGIN), 0, 1000, 300).await.unwrap();
        pool.snapshot_volume(ORIGIN, SNAPSHOT, Vec::new()).await.unwrap();
        pool.clone_volume(SNAPSHOT, CLONE, Vec::new()).await.unwrap();
        put(&volume(pool, CLONE), 5, 5).await.unwrap();
    });
    let work = async |pool: &Pool, _: &_| {
        pool.detach_volume(CLONE, vec![CLONE], Vec::new()).await?;
        unmap(&volume(pool, CLONE), 6, 1).await?;
        pool.settle().await?;
        pool.delete_snapshot(SNAPSHOT, Vec::new()).await?;
        put(&volume(pool, CLONE), 7, 7).await?;
        pool.settle().await
    };
    let check = async |pool: &Pool, done: Option<&()>, step: u64| {
        let clone = volume(pool, CLONE);
        for (address, seed) in [(0, 1000), (5, 5), (8, 1008), (299, 1299), (300, 0)] {
            holds(&clone, address, seed).await;
        }
        for address in 0..300 {
            holds(&volume(pool, ORIGIN), address, 1000 + address).await;
        }
        if done.is_some() {
            holds(&clone, 6, 0).await;
            holds(&clone, 7, 7).await;
        }
        pool.settle().await.unwrap();
        assert_eq!(pool.detachment(CLONE), None, "step {step}");
        holds(&clone, 0, 1000).await;
        holds(&clone, 299, 1299).await;
    };
    assert!(at_every_step(&base, work, check) > 10);
}

#[test]
fn a_crash_at_any_step_leaves_the_clone_whole_and_it_goes_on() {
    crash_at_every_step(false);
}

#[test]
fn a_crash_at_any_step_of_writing_blocks_once_more_leaves_the_clone_whole() {
    crash_at_every_step(true);
}

#[test]
fn a_clone_that_is_deleted_meanwhile_is_gone_with_all_it_had() {
    let base = prepared(async |pool| set_up(pool, thin(1, 1 << 30)).await);
    let (local, pool) = reopen(&base.disk(), options());
    let done = local.run_until_stuck(
        async {
            pool.detach_volume(CLONE, vec![CLONE], Vec::new()).await.unwrap();
            pool.delete_volume(CLONE, Vec::new()).await.unwrap();
            pool.settle().await.unwrap();
            assert_eq!(data_blocks(&pool), 600);
            sound(&pool).await;
        },
        LIMIT,
    );
    done.unwrap();
}

/// The simulator found that a layer could be detached while it was being merged into the one above it: what it had given
/// up came back, and the checkpoint that was to drop it found it full.
#[test]
fn a_layer_that_is_being_merged_is_not_detached_itself() {
    let base = prepared(async |pool| {
        set_up(pool, thin(1, 1 << 30)).await;
        pool.snapshot_volume(CLONE, OWN_SNAPSHOT, Vec::new()).await.unwrap();
        put(&volume(pool, CLONE), 8, 8).await.unwrap();
    });
    for reads in 0..30 {
        let (local, pool) = reopen(&base.after(support::scripted::Crash::Process).disk(), options());
        local.block_on(async {
            pool.delete_snapshot(OWN_SNAPSHOT, Vec::new()).await.unwrap();
            for _ in 0..reads {
                holds(&volume(&pool, CLONE), 8, 8).await;
            }
            assert!(pool.detach_volume(CLONE, vec![CLONE], Vec::new()).await.unwrap());
            pool.settle().await.unwrap();
            for id in [ORIGIN, SNAPSHOT] {
                pool.delete_volume(id, Vec::new()).await.unwrap();
            }
            pool.settle().await.unwrap();
            assert_eq!(data_blocks(&pool), 598 + 1, "after {reads} reads");
            holds(&volume(&pool, CLONE), 7, 1007).await;
            holds(&volume(&pool, CLONE), 8, 8).await;
            sound(&pool).await;
        });
    }
}
