//! What is damaged beyond repair is set aside and told, and everything else goes on: layers, node segments.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::{ErrorKind, Volume};
use std::sync::Arc;
use store::{Health, Pool};
use support::scripted::{Crash, Scripted, Target};
use support::{Local, holds, new_pool, put, put_run, reopen, small, sound, thin};

const MIB: u64 = 1 << 20;
const SLAB: u64 = 256 << 10;

/// Volume 1 with eight leaves of 4 blocks and volume 2 with one block, after an orderly end. Layer 1 is the first's.
fn two_volumes() -> Arc<Scripted> {
    let disk = Scripted::new(32 * MIB);
    let (local, pool) = new_pool(&disk.disk(), small(SLAB));
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        pool.create_volume(thin(2, 1 << 30), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        for leaf in 0..8 {
            put_run(&volume, leaf * 256, leaf * 10 + 1, 4).await.unwrap();
        }
        put(&pool.open_volume([2; 16]).unwrap(), 7, 70).await.unwrap();
        pool.close().await.unwrap();
    });
    disk
}

/// The newest copy of leaf `index` of `layer`.
fn leaf(disk: &Scripted, layer: u64, index: u8) -> u64 {
    disk.nodes(layer, 0).into_iter().rfind(|at| disk.page(*at)[24] == index).unwrap()
}

fn open(disk: &Arc<Scripted>) -> (Arc<Local>, Arc<Pool>) {
    reopen(&disk.disk(), small(SLAB))
}

#[test]
fn a_volume_with_a_damaged_leaf_is_deleted_but_for_that_leaf() {
    let disk = two_volumes();
    disk.flip(leaf(&disk, 1, 3), 200);
    let (local, pool) = open(&disk);
    local.block_on(async {
        pool.delete_volume([1; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        let status = pool.status();
        assert_eq!(status.layers_set_aside, 1);
        assert!(
            matches!(&status.health, Health::Degraded(what) if what.contains("node")),
            "{:?}",
            status.health
        );
        assert_eq!(status.data_bytes, (4 + 1) * 4096, "the leaf's four blocks, and the other volume's");
        // Layers that are sound come and go as before.
        pool.snapshot_volume([2; 16], [3; 16], Vec::new()).await.unwrap();
        put(&pool.open_volume([2; 16]).unwrap(), 7, 71).await.unwrap();
        pool.delete_snapshot([3; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        assert_eq!(pool.status().data_bytes, (4 + 1) * 4096);
        holds(&pool.open_volume([2; 16]).unwrap(), 7, 71).await;
    });
    let (local, pool) = open(&disk.after(Crash::Power));
    local.block_on(async {
        pool.settle().await.unwrap();
        assert_eq!(pool.status().layers_set_aside, 1, "found again");
        holds(&pool.open_volume([2; 16]).unwrap(), 7, 71).await;
        pool.close().await.unwrap();
    });
}

#[test]
fn a_volume_with_a_damaged_root_is_set_aside_as_a_whole() {
    let disk = two_volumes();
    for root in disk.nodes(1, 1) {
        disk.flip(root, 90);
    }
    let (local, pool) = open(&disk);
    local.block_on(async {
        pool.delete_volume([1; 16], Vec::new()).await.unwrap();
        pool.delete_volume([2; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        let status = pool.status();
        assert_eq!((status.layers_set_aside, status.data_bytes), (1, 8 * 4 * 4096));
        assert_eq!(pool.volumes().len(), 0);
        pool.create_volume(thin(1, MIB), Vec::new()).await.unwrap();
        pool.close().await.unwrap();
    });
}

/// A snapshot's leaf cannot be read: the rest is merged into the volume, which reads the rest as before.
#[test]
fn a_merge_passes_over_a_damaged_leaf() {
    for in_child in [false, true] {
        let disk = two_volumes();
        let (local, pool) = open(&disk);
        local.block_on(async {
            pool.snapshot_volume([1; 16], [4; 16], Vec::new()).await.unwrap();
            let volume = pool.open_volume([1; 16]).unwrap();
            for leaf in [2, 5] {
                put(&volume, leaf * 256 + 1, 500 + leaf).await.unwrap();
            }
            pool.close().await.unwrap();
        });
        // The volume's new top layer is the third that was made.
        disk.flip(leaf(&disk, if in_child { 3 } else { 1 }, 5), 100);
        let disk = disk.after(Crash::Process);
        let (local, pool) = open(&disk);
        local.block_on(async {
            pool.delete_snapshot([4; 16], Vec::new()).await.unwrap();
            pool.settle().await.unwrap();
            assert_eq!(pool.status().layers_set_aside, 1);
            let volume = pool.open_volume([1; 16]).unwrap();
            for leaf in (0..8).filter(|leaf| *leaf != 5) {
                holds(&volume, leaf * 256, leaf * 10 + 1).await;
                let second = if leaf == 2 { 502 } else { leaf * 10 + 2 };
                holds(&volume, leaf * 256 + 1, second).await;
            }
            assert_eq!(volume.read(5 * MIB, 4096).await.unwrap_err().kind, ErrorKind::Corrupt);
            put(&volume, 256, 9).await.unwrap();
            pool.close().await.unwrap();
        });
    }
}

#[test]
fn a_layer_that_could_not_be_read_for_a_moment_is_deleted_all_the_same() {
    let disk = two_volumes();
    let (local, pool) = open(&disk);
    local.block_on(async {
        disk.fail(Target::Read, 2, 2, ErrorKind::Device);
        pool.delete_volume([1; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        let status = pool.status();
        assert_eq!((status.layers_set_aside, status.data_bytes), (0, 4096));
        assert_eq!(status.health, Health::Healthy);
        sound(&pool).await;
    });
}

/// A batch of map nodes whose descriptor is damaged: its nodes can be read by who knows them, but collection does
/// not find them. Their segment is set aside, and others are collected.
#[test]
fn a_node_segment_that_cannot_be_walked_is_set_aside() {
    let disk = Scripted::new(16 * MIB);
    let (local, pool) = new_pool(&disk.disk(), small(64 << 10));
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        let status = pool.status();
        let blocks = (status.usable_bytes - status.headroom_bytes) / 4096 * 8 / 10 - 720;
        // Leaves that nobody touches again, nor collection: their blocks fill segments, 15 in each.
        for leaf in 0..3 {
            put_run(&volume, (1000 + leaf) * 256, leaf * 1000 + 1, 240).await.unwrap();
        }
        pool.checkpoint().await.unwrap();
        for batch in disk.batches(2) {
            disk.flip(batch.offset, 300);
        }
        let mut random = 1u64;
        for step in 0..8 * blocks {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            put(&volume, (random >> 33) % blocks, step + 1).await.unwrap();
        }
        let status = pool.status();
        assert!(status.segments.damaged >= 1, "set aside: {status:?}");
        assert!(matches!(status.health, Health::Degraded(_)));
        for leaf in 0..3 {
            holds(&volume, (1000 + leaf) * 256 + 200, leaf * 1000 + 201).await;
        }
        sound(&pool).await;
        pool.close().await.unwrap();
    });
}
