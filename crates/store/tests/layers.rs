//! Snapshots and clones: what a volume held is kept, and what nobody needs any more comes back.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::testing::pattern;
use block::{BufferPool, ByteRange, Durability, ErrorKind, Volume};
use bytes::Bytes;
use store::{Pool, StoreVolume};
use support::{disk, new_pool, reopen, small, thin};

const MIB: u64 = 1 << 20;

async fn put(volume: &StoreVolume, address: u64, seed: u64) {
    let data: Vec<Bytes> = vec![BufferPool::new(0).copy_of(&pattern(seed, 4096)).freeze()];
    volume.write(address * 4096, data, Durability::Default).await.unwrap();
}

async fn holds(volume: &StoreVolume, address: u64, seed: u64) {
    let expected = if seed == 0 { vec![0; 4096] } else { pattern(seed, 4096) };
    assert_eq!(volume.read(address * 4096, 4096).await.unwrap().concat(), expected, "block {address}");
}

async fn sound(pool: &Pool) {
    assert_eq!(pool.check().await.unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_snapshot_keeps_what_was_there_and_refuses_writes() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        put(&volume, 1, 11).await;
        put(&volume, 2, 12).await;
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        put(&volume, 2, 22).await;
        put(&volume, 3, 23).await;
        volume.unmap(vec![ByteRange { offset: 4096, len: 4096 }]).await.unwrap();
    });
    let (local, pool) = reopen(&disk, small(256 << 10));
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).unwrap();
        let snapshot = pool.open_volume([2; 16]).unwrap();
        for (address, now, then) in [(1, 0, 11), (2, 22, 12), (3, 23, 0)] {
            holds(&volume, address, now).await;
            holds(&snapshot, address, then).await;
        }
        let refused =
            snapshot.write(0, vec![Bytes::from(vec![1; 4096])], Durability::Default).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::ReadOnly);
        let unmapped = snapshot.unmap(vec![ByteRange { offset: 4096, len: 4096 }]).await.unwrap_err();
        assert_eq!(unmapped.kind, ErrorKind::ReadOnly);
        sound(&pool).await;
    });
}

#[test]
fn deleting_a_snapshot_merges_its_layer_and_deleting_all_gives_everything_back() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        for address in 0..600 {
            put(&volume, address, 1000 + address).await;
        }
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        for address in 300..900 {
            put(&volume, address, 2000 + address).await;
        }
        pool.clone_volume([2; 16], [3; 16], Vec::new()).await.unwrap();
        let clone = pool.open_volume([3; 16]).unwrap();
        put(&clone, 5, 7).await;
        assert_eq!(pool.status().data_bytes, (600 + 600 + 1) * 4096);
        pool.delete_snapshot([2; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        assert_eq!(pool.status().data_bytes, (600 + 600 + 1) * 4096, "two children still need the layer");
        sound(&pool).await;
        pool.delete_volume([3; 16], Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        assert_eq!(pool.status().data_bytes, 900 * 4096, "merged: every block once");
        for address in 0..900 {
            holds(&volume, address, if address < 300 { 1000 } else { 2000 } + address).await;
        }
        sound(&pool).await;
    });
    let (local, pool) = reopen(&disk, small(256 << 10));
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).unwrap();
        holds(&volume, 5, 1005).await;
        holds(&volume, 899, 2899).await;
        pool.delete_volume([1; 16], Vec::new()).await.unwrap();
        assert_eq!(volume.read(0, 4096).await.unwrap_err().kind, ErrorKind::Closed);
        pool.settle().await.unwrap();
        let status = pool.status();
        assert_eq!((status.data_bytes, status.map_bytes), (0, 0));
        sound(&pool).await;
        pool.close().await.unwrap();
    });
}

#[test]
fn a_crash_in_the_middle_of_a_merge_loses_nothing() {
    let disk = disk(64 * MIB);
    let options = small(256 << 10);
    let (local, pool) = new_pool(&disk, options.clone());
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        for address in 0..40 {
            put(&volume, address * 300, 1000 + address).await;
        }
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        put(&volume, 300, 5).await;
        pool.delete_snapshot([2; 16], Vec::new()).await.unwrap();
        put(&volume, 600, 6).await;
    });
    let (local, pool) = reopen(&disk, options);
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).unwrap();
        put(&volume, 900, 7).await;
        pool.settle().await.unwrap();
        for address in 0..40 {
            let seed = match address {
                1 => 5,
                2 => 6,
                3 => 7,
                _ => 1000 + address,
            };
            holds(&volume, address * 300, seed).await;
        }
        assert_eq!(pool.status().data_bytes, 40 * 4096);
        sound(&pool).await;
    });
}
