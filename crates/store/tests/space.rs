//! Space: collection under overwrite, the brim, and coming back from it (promise 5).

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::testing::{join_all, pattern};
use block::{BufferPool, ByteRange, Disk, Durability, ErrorKind, Volume};
use bytes::Bytes;
use std::sync::Arc;
use store::{Pool, StoreVolume, VolumeSpec};
use support::{disk, new_pool, reopen, small, thin};

const MIB: u64 = 1 << 20;

fn block(seed: u64) -> Vec<Bytes> {
    vec![BufferPool::new(0).copy_of(&pattern(seed, 4096)).freeze()]
}

async fn put(volume: &StoreVolume, address: u64, seed: u64) -> block::Result<()> {
    volume.write(address * 4096, block(seed), Durability::Default).await
}

async fn holds(volume: &StoreVolume, address: u64, seed: u64) {
    let chunks = volume.read(address * 4096, 4096).await.unwrap();
    assert_eq!(chunks.concat(), pattern(seed, 4096), "block {address}");
}

async fn sound(pool: &Pool) {
    assert_eq!(pool.check().await.unwrap().problems, Vec::<String>::new());
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Random overwrites at 80 % full, several times the size of the pool.
fn overwrites(disk: &Arc<dyn Disk>, slab: u64, depth: usize) {
    let (local, pool) = new_pool(disk, small(slab));
    let status = pool.status();
    let blocks = (status.usable_bytes - status.headroom_bytes) * 8 / 10 / 4096;
    let mut newest = vec![0u64; usize::try_from(blocks).unwrap()];
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        let mut random = Random(1);
        let mut seed = 1;
        for round in 0..(4 * newest.len() / depth) {
            let mut picks = std::collections::BTreeSet::new();
            while picks.len() < depth {
                let next = u64::try_from(round * depth + picks.len()).unwrap();
                picks.insert(if next < blocks { next } else { random.below(blocks) });
            }
            let writes = picks.iter().map(|address| {
                seed += 1;
                newest[usize::try_from(*address).unwrap()] = seed;
                put(&volume, *address, seed)
            });
            for result in join_all(writes.collect()).await {
                result.unwrap();
            }
        }
        for (address, seed) in newest.iter().enumerate().filter(|(_, seed)| **seed > 0) {
            holds(&volume, u64::try_from(address).unwrap(), *seed).await;
        }
        sound(&pool).await;
    });
    let (local, pool) = reopen(disk, small(slab));
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).unwrap();
        for (address, seed) in newest.iter().enumerate().filter(|(_, seed)| **seed > 0) {
            holds(&volume, u64::try_from(address).unwrap(), *seed).await;
        }
        sound(&pool).await;
        pool.close().await.unwrap();
    });
}

#[test]
fn random_overwrites_go_on_at_80_percent_full() {
    overwrites(&disk(48 * MIB), 256 << 10, 8);
}

#[test]
fn random_overwrites_go_on_with_tiny_slabs() {
    overwrites(&disk(12 * MIB), 64 << 10, 4);
}

#[test]
fn at_the_brim_writes_fail_reads_and_unmap_go_on_and_the_pool_recovers() {
    let disk = disk(24 * MIB);
    let (local, pool) = new_pool(&disk, small(128 << 10));
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        let mut written = 0;
        let error = loop {
            match put(&volume, written, written + 1).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind, ErrorKind::NoSpace);
        let status = pool.status();
        assert!(
            written * 4096 > (status.usable_bytes - status.headroom_bytes) * 9 / 10,
            "{written} {status:?}"
        );
        // Overwriting and reading go on, many times over.
        for round in 0..3 {
            for address in (0..written).step_by(3) {
                put(&volume, address, address + round).await.unwrap();
            }
        }
        for address in (0..written).step_by(3) {
            holds(&volume, address, address + 2).await;
        }
        // Giving back makes room.
        volume.unmap(vec![ByteRange { offset: 0, len: written / 2 * 4096 }]).await.unwrap();
        for address in 0..written / 3 {
            put(&volume, address, address + 9).await.unwrap();
        }
        holds(&volume, 5, 14).await;
        sound(&pool).await;
        pool.close().await.unwrap();
    });
}

#[test]
fn a_thick_volume_has_its_space_whatever_others_write() {
    let disk = disk(32 * MIB);
    let (local, pool) = new_pool(&disk, small(128 << 10));
    local.block_on(async {
        let thick = VolumeSpec { thick: true, ..thin(9, 8 * MIB) };
        pool.create_volume(thick, Vec::new()).await.unwrap();
        let large = VolumeSpec { thick: true, ..thin(8, 100 * MIB) };
        assert_eq!(pool.create_volume(large, Vec::new()).await.unwrap_err().kind, ErrorKind::NoSpace);
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        let greedy = pool.open_volume([1; 16]).unwrap();
        let mut at = 0;
        while put(&greedy, at, at + 1).await.is_ok() {
            at += 1;
        }
        let volume = pool.open_volume([9; 16]).unwrap();
        for address in 0..2048 {
            put(&volume, address, address + 7).await.unwrap();
        }
        holds(&volume, 2047, 2054).await;
        sound(&pool).await;
        pool.close().await.unwrap();
    });
}

#[test]
fn repeated_crashes_leak_no_space() {
    let disk = disk(24 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(pool.create_volume(thin(1, 1 << 30), Vec::new())).unwrap();
    drop((local, pool));
    for life in 0..40 {
        let (local, pool) = reopen(&disk, small(256 << 10));
        local.block_on(async {
            let volume = pool.open_volume([1; 16]).unwrap();
            for address in 0..20 {
                if life > 0 {
                    holds(&volume, address, life * 100 + address).await;
                }
                put(&volume, address, (life + 1) * 100 + address).await.unwrap();
            }
            sound(&pool).await;
        });
    }
}
