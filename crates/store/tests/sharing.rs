//! Copies inside a pool share blocks: what they take, what each side then holds, and what comes back.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::testing::pattern;
use block::{BufferPool, ByteRange, Disk, Durability, ErrorKind, Volume};
use bytes::Bytes;
use std::sync::Arc;
use store::{Health, Pool, PoolOptions, StoreVolume, VolumeSpec};
use support::{disk, holds, new_pool, put_run, reopen, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;

fn options() -> PoolOptions {
    small(256 << 10)
}

async fn volumes(pool: &Pool, count: u8) -> Vec<Arc<StoreVolume>> {
    for id in 1..=count {
        pool.create_volume(thin(id, 1 << 30), Vec::new()).await.unwrap();
    }
    (1..=count).map(|id| pool.open_volume([id; 16]).unwrap()).collect()
}

/// Copies `count` blocks and asserts that nothing was left to be moved.
async fn share(to: &StoreVolume, at: u64, from: &StoreVolume, first: u64, count: u64) {
    let copied = to.copy_from(at * 4096, count * 4096, from, first * 4096).expect("one pool");
    assert_eq!(copied.await.unwrap(), [], "all of it is shared");
}

/// Whole MiB, each of its own content.
async fn fill(volume: &StoreVolume, mib: std::ops::Range<u64>) {
    for at in mib {
        let data: Vec<Bytes> = vec![BufferPool::new(0).copy_of(&pattern(at + 1, 1 << 20)).freeze()];
        volume.write(at * MIB, data, Durability::Default).await.unwrap();
    }
}

async fn is_filled(volume: &StoreVolume, mib: std::ops::Range<u64>, from: u64) {
    for (i, at) in mib.enumerate() {
        let read = volume.read(at * MIB, MIB).await.unwrap().concat();
        assert!(read == pattern(from + u64::try_from(i).unwrap() + 1, 1 << 20), "MiB {at}");
    }
}

fn used(pool: &Pool) -> u64 {
    let status = pool.status();
    status.data_bytes + status.map_bytes
}

#[test]
fn a_copy_of_64_mib_takes_less_than_2_and_either_side_lives_without_the_other() {
    for deleted_first in [1u8, 2] {
        let disk = disk(256 * MIB);
        let (local, pool) = new_pool(&disk, small(1 << 20));
        local.block_on(async {
            let empty = used(&pool);
            let volumes = volumes(&pool, 2).await;
            fill(&volumes[0], 0..64).await;
            pool.checkpoint().await.unwrap();
            let (before, room) = (used(&pool), pool.status().free_bytes);
            share(&volumes[1], 0, &volumes[0], 0, 64 << 8).await;
            pool.checkpoint().await.unwrap();
            let status = pool.status();
            assert!(used(&pool) - before < 2 * MIB, "{} bytes", used(&pool) - before);
            assert!(room - status.free_bytes < 3 * MIB, "nodes have places to be written again set aside");
            assert_eq!(volumes[1].mapped_bytes(), 64 * MIB);
            is_filled(&volumes[0], 0..64, 0).await;
            is_filled(&volumes[1], 0..64, 0).await;
            sound(&pool).await;

            pool.delete_volume([deleted_first; 16], Vec::new()).await.unwrap();
            pool.settle().await.unwrap();
            assert_eq!(pool.status().data_bytes, 64 * MIB, "the other holds all of it");
            is_filled(&volumes[usize::from(2 - deleted_first)], 0..64, 0).await;
            pool.delete_volume([3 - deleted_first; 16], Vec::new()).await.unwrap();
            pool.settle().await.unwrap();
            assert_eq!(used(&pool), empty, "everything comes back");
            sound(&pool).await;
        });
    }
}

#[test]
fn what_is_written_to_one_side_is_not_seen_on_the_other_and_the_last_unmap_frees() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, options());
    local.block_on(async {
        let volumes = volumes(&pool, 3).await;
        put_run(&volumes[0], 0, 100, 64).await.unwrap();
        share(&volumes[1], 1000, &volumes[0], 0, 64).await;
        share(&volumes[2], 7, &volumes[1], 1000, 64).await;
        pool.checkpoint().await.unwrap();
        assert_eq!(pool.status().data_bytes, 64 * 4096);
        put_run(&volumes[0], 10, 900, 4).await.unwrap();
        put_run(&volumes[1], 1010, 800, 2).await.unwrap();
        holds(&volumes[0], 10, 900).await;
        holds(&volumes[1], 1010, 800).await;
        holds(&volumes[1], 1012, 112).await;
        holds(&volumes[2], 17, 110).await;
        pool.checkpoint().await.unwrap();
        assert_eq!(pool.status().data_bytes, (64 + 4 + 2) * 4096);
        unmap(&volumes[2], 7, 64).await.unwrap();
        pool.checkpoint().await.unwrap();
        assert_eq!(pool.status().data_bytes, (64 - 2 + 4 + 2) * 4096, "two blocks had only the third left");
        unmap(&volumes[1], 1000, 64).await.unwrap();
        unmap(&volumes[0], 0, 64).await.unwrap();
        pool.checkpoint().await.unwrap();
        assert_eq!(pool.status().data_bytes, 0);
        sound(&pool).await;
    });
}

#[test]
fn a_copy_is_found_in_the_log_after_a_crash() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, options());
    local.block_on(async {
        let volumes = volumes(&pool, 2).await;
        put_run(&volumes[0], 0, 100, 300).await.unwrap();
        pool.checkpoint().await.unwrap();
        put_run(&volumes[0], 5, 500, 2).await.unwrap();
        share(&volumes[1], 256, &volumes[0], 0, 300).await;
        // Within the volume, in one leaf, and of what is shared already.
        share(&volumes[1], 2000, &volumes[1], 256, 30).await;
        share(&volumes[0], 1000, &volumes[0], 248, 20).await;
        put_run(&volumes[0], 5, 700, 1).await.unwrap();
        volumes[0].flush().await.unwrap();
    });
    drop(pool);
    for _ in 0..2 {
        let (local, pool) = reopen(&disk, options());
        local.block_on(async {
            let (source, copy) = (pool.open_volume([1; 16]).unwrap(), pool.open_volume([2; 16]).unwrap());
            for (address, seed) in [(4, 104), (5, 700), (6, 501), (299, 399), (1000, 348), (1019, 367)] {
                holds(&source, address, seed).await;
            }
            for (address, seed) in [(256, 100), (261, 500), (262, 501), (555, 399), (2005, 500), (2029, 129)]
            {
                holds(&copy, address, seed).await;
            }
            sound(&pool).await;
            pool.checkpoint().await.unwrap();
            sound(&pool).await;
        });
    }
}

#[test]
fn a_copy_overwrites_what_was_there_and_takes_holes_along() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, options());
    local.block_on(async {
        let volumes = volumes(&pool, 2).await;
        put_run(&volumes[0], 0, 100, 20).await.unwrap();
        put_run(&volumes[0], 600, 300, 20).await.unwrap();
        unmap(&volumes[0], 4, 3).await.unwrap();
        put_run(&volumes[1], 0, 1, 800).await.unwrap();
        pool.snapshot_volume([2; 16], [9; 16], Vec::new()).await.unwrap();
        share(&volumes[1], 0, &volumes[0], 0, 700).await;
        for (address, seed) in
            [(3, 103), (4, 0), (6, 0), (7, 107), (20, 0), (599, 0), (600, 300), (699, 0), (700, 701)]
        {
            holds(&volumes[1], address, seed).await;
        }
        let snapshot = pool.open_volume([9; 16]).unwrap();
        holds(&snapshot, 4, 5).await;
        let extents = volumes[1].extents(0, 25 * 4096, 9).await.unwrap();
        assert_eq!(extents.len(), 4, "{extents:?}");
        sound(&pool).await;
    });
}

#[test]
fn ends_that_are_no_blocks_and_what_was_written_at_random_are_left_to_be_moved() {
    let disk = disk(256 * MIB);
    let (local, pool) = new_pool(&disk, small(1 << 20));
    local.block_on(async {
        let volumes = volumes(&pool, 2).await;
        put_run(&volumes[0], 0, 100, 64).await.unwrap();
        let ends = volumes[1].copy_from(512, 62 * 4096, &*volumes[0], 4096 + 512).unwrap().await.unwrap();
        let parts: Vec<_> = ends.iter().map(|part| (part.offset, part.len)).collect();
        assert_eq!(parts, [(0, 3584), (62 * 4096 - 512, 512)]);
        holds(&volumes[1], 1, 102).await;
        assert!(volumes[1].copy_from(512, 16 * 4096, &*volumes[0], 0).is_none(), "the blocks do not meet");
        assert!(volumes[1].copy_from(0, 7 * 4096, &*volumes[0], 0).is_none(), "too little");
        // Neighbours of each of these blocks go elsewhere: sharing one takes a node.
        for at in 0..64 {
            put_run(&volumes[0], 1024 + at, at + 1, 1).await.unwrap();
            fill(&volumes[0], 8 + at..9 + at).await;
        }
        let left = volumes[1].copy_from(0, 128 * 4096, &*volumes[0], 1024 * 4096).unwrap().await.unwrap();
        assert_eq!(left, [ByteRange { offset: 0, len: 128 * 4096 }]);
        holds(&volumes[1], 1, 102).await;
        sound(&pool).await;
    });
}

#[test]
fn reserved_volumes_keep_their_blocks_for_themselves() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, options());
    local.block_on(async {
        let thin_one = volumes(&pool, 1).await.remove(0);
        let spec =
            VolumeSpec { id: [7; 16], size_bytes: 4 * MIB, thick: true, buffered: false, encrypted: false };
        pool.create_volume(spec, Vec::new()).await.unwrap();
        let thick = pool.open_volume([7; 16]).unwrap();
        put_run(&thick, 0, 1, 64).await.unwrap();
        assert!(thick.copy_from(0, 64 * 4096, &*thin_one, 0).is_none());
        let all = [ByteRange { offset: 0, len: 64 * 4096 }];
        assert_eq!(thin_one.copy_from(0, 64 * 4096, &*thick, 0).unwrap().await.unwrap(), all);
        // What a snapshot holds may come back to the reserved volume.
        pool.snapshot_volume([7; 16], [8; 16], Vec::new()).await.unwrap();
        let snapshot = pool.open_volume([8; 16]).unwrap();
        assert_eq!(thin_one.copy_from(0, 64 * 4096, &*snapshot, 0).unwrap().await.unwrap(), all);
    });
}

#[test]
fn a_copy_from_a_snapshot_outlives_it_and_its_volume() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, options());
    local.block_on(async {
        let volumes = volumes(&pool, 2).await;
        put_run(&volumes[0], 0, 100, 40).await.unwrap();
        pool.snapshot_volume([1; 16], [3; 16], Vec::new()).await.unwrap();
        put_run(&volumes[0], 8, 500, 8).await.unwrap();
        pool.snapshot_volume([1; 16], [4; 16], Vec::new()).await.unwrap();
        let (old, new) = (pool.open_volume([3; 16]).unwrap(), pool.open_volume([4; 16]).unwrap());
        share(&volumes[1], 0, &new, 0, 40).await;
        share(&volumes[1], 100, &old, 0, 40).await;
        pool.delete_volume([3; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        sound(&pool).await;
        holds(&new, 7, 107).await;
        holds(&new, 8, 500).await;
        pool.delete_volume([4; 16], Vec::new()).await.unwrap();
        pool.delete_volume([1; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        sound(&pool).await;
        assert_eq!(pool.status().data_bytes, 48 * 4096);
        for (address, seed) in [(7, 107), (8, 500), (15, 507), (16, 116), (108, 108), (139, 139)] {
            holds(&volumes[1], address, seed).await;
        }
    });
}

#[test]
fn shared_blocks_are_moved_when_their_segments_are_collected() {
    let disk = disk(24 * MIB);
    let (local, pool) = new_pool(&disk, small(64 << 10));
    local.block_on(async {
        let volumes = volumes(&pool, 2).await;
        for at in (0..2048).step_by(256) {
            put_run(&volumes[0], at, at + 1, 256).await.unwrap();
        }
        share(&volumes[1], 0, &volumes[0], 0, 2048).await;
        // Of each sixteen blocks eight go, and the others keep one reference: half of each segment lives.
        for at in (0..2048).step_by(16) {
            unmap(&volumes[0], at, 8).await.unwrap();
            unmap(&volumes[1], at, 8).await.unwrap();
            unmap(&volumes[if at % 32 == 0 { 0 } else { 1 }], at + 8, 8).await.unwrap();
        }
        pool.checkpoint().await.unwrap();
        assert_eq!(pool.status().data_bytes, 1024 * 4096);
        // More than there is room for beside what was unmapped.
        let mut at = 4096;
        while put_run(&volumes[0], at, at, 16).await.is_ok() {
            at += 16;
        }
        pool.settle().await.unwrap();
        sound(&pool).await;
        // What cannot be moved is given up as damaged.
        let status = pool.status();
        assert_eq!((status.health, status.segments.damaged), (Health::Healthy, 0));
        for at in (0..2048).step_by(16) {
            for i in at + 8..at + 16 {
                holds(&volumes[if at % 32 == 0 { 1 } else { 0 }], i, i + 1).await;
            }
        }
    });
    drop(pool);
    let (local, pool) = reopen(&disk, small(64 << 10));
    local.block_on(async {
        sound(&pool).await;
        let copy = pool.open_volume([2; 16]).unwrap();
        holds(&copy, 8, 9).await;
    });
}

#[test]
fn in_a_full_pool_copies_find_room_for_nodes_or_are_refused_and_freed_blocks_serve_at_once() {
    let disk = disk(24 * MIB);
    let (local, pool) = new_pool(&disk, small(64 << 10));
    local.block_on(async {
        let volumes = volumes(&pool, 2).await;
        put_run(&volumes[0], 0, 1, 256).await.unwrap();
        share(&volumes[1], 0, &volumes[0], 0, 256).await;
        let mut full = 512;
        let refused = loop {
            match put_run(&volumes[0], full, full, 64).await {
                Ok(()) => full += 64,
                Err(error) => break error.kind,
            }
        };
        assert_eq!(refused, ErrorKind::NoSpace);
        while put_run(&volumes[0], full, full, 1).await.is_ok() {
            full += 1;
        }
        let copied = volumes[1].copy_from(1 << 20, 256 * 4096, &*volumes[0], 512 * 4096).unwrap().await;
        assert_eq!(copied.unwrap_err().kind, ErrorKind::NoSpace, "there is no room for nodes");
        assert_eq!(put_run(&volumes[1], 0, 7, 1).await.unwrap_err().kind, ErrorKind::NoSpace, "shared");
        unmap(&volumes[0], 0, 256).await.unwrap();
        unmap(&volumes[1], 0, 256).await.unwrap();
        put_run(&volumes[1], 0, 7, 200).await.unwrap();
        sound(&pool).await;
        holds(&volumes[1], 0, 7).await;
        holds(&volumes[0], 512, 512).await;
    });
}

/// All four labels say so: another build would take any that it knows.
#[test]
fn a_pool_is_for_builds_that_know_of_sharing_from_its_first_shared_block_on() {
    let disk = disk(64 * MIB);
    let versions = |disk: &Arc<dyn Disk>| {
        [4096, 8192, 64 * MIB - 8192, 64 * MIB - 4096].map(|offset| {
            let mut block = vec![0; 4096];
            disk.read_blocking(offset, &mut block).unwrap();
            block[12]
        })
    };
    let (local, pool) = new_pool(&disk, options());
    local.block_on(async {
        let volumes = volumes(&pool, 2).await;
        put_run(&volumes[0], 0, 1, 64).await.unwrap();
        assert!(versions(&disk).iter().all(|version| *version < 2), "no need yet");
        share(&volumes[1], 0, &volumes[0], 0, 64).await;
        assert_eq!(versions(&disk), [2; 4]);
        pool.close().await.unwrap();
    });
    let (local, pool) = reopen(&disk, options());
    local.block_on(async {
        holds(&pool.open_volume([2; 16]).unwrap(), 63, 64).await;
        sound(&pool).await;
    });
}

#[test]
fn copies_back_and_forth_between_writes_neither_wait_for_each_other_nor_mix() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, options());
    local.block_on(async {
        let volumes = volumes(&pool, 2).await;
        put_run(&volumes[0], 0, 100, 64).await.unwrap();
        put_run(&volumes[1], 0, 300, 64).await.unwrap();
        for _ in 0..20 {
            let len = 64 * 4096;
            let there = volumes[1].copy_from(1000 * 4096, len, &*volumes[0], 0).unwrap();
            let back = volumes[0].copy_from(1000 * 4096, len, &*volumes[1], 0).unwrap();
            let within = volumes[0].copy_from(2000 * 4096, len, &*volumes[0], 0).unwrap();
            let snapshot = pool.snapshot_volume([1; 16], [5; 16], Vec::new());
            let write = put_run(&volumes[0], 3000, 1, 64);
            let (a, b, c, d, e) = futures_util::future::join5(there, back, within, snapshot, write).await;
            assert_eq!((a.unwrap().len(), b.unwrap().len(), c.unwrap().len()), (0, 0, 0));
            d.unwrap();
            e.unwrap();
            pool.delete_snapshot([5; 16], Vec::new()).await.unwrap();
        }
        holds(&volumes[1], 1000, 100).await;
        holds(&volumes[0], 1063, 363).await;
        holds(&volumes[0], 2063, 163).await;
        pool.settle().await.unwrap();
        sound(&pool).await;
    });
}
