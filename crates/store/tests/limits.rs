//! Limits of volumes and of the pool: what is new is refused, all else goes on, and it recovers by itself.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::{ErrorKind, Result, Runtime, Volume};
use std::sync::Arc;
use std::time::Duration;
use store::{Pool, StoreVolume, VolumeId};
use support::{Local, disk, holds, new_pool, put, put_run, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;

fn id(number: u8) -> VolumeId {
    [number; 16]
}

fn pool_of(volumes: &[u8]) -> (Arc<Local>, Arc<Pool>) {
    let (local, pool) = new_pool(&disk(64 * MIB), small(256 << 10));
    for number in volumes {
        local.block_on(pool.create_volume(thin(*number, 1 << 30), Vec::new())).unwrap();
    }
    (local, pool)
}

fn is_full(result: Result<()>) -> bool {
    match result {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
            true
        }
    }
}

/// Writes block after block from `first` on until there is no room; returns how many there was room for.
async fn fill(volume: &StoreVolume, first: u64) -> u64 {
    let mut address = first;
    while !is_full(put(volume, address, address + 1).await) {
        address += 1;
    }
    address - first
}

#[test]
fn a_volume_at_its_limit_is_refused_new_blocks_and_nothing_else() {
    let (local, pool) = pool_of(&[1, 2]);
    local.block_on(async {
        let [one, other] = [1, 2].map(|number| pool.open_volume(id(number)).unwrap());
        pool.set_limit(id(1), 1, Some(2 * MIB));
        let blocks = fill(&one, 0).await;
        assert!((490..=512).contains(&blocks), "{blocks} blocks and their map are 2 MiB");
        assert_eq!(pool.taken_bytes(&id(1)).unwrap() / BLOCK, 512);
        assert_eq!(one.resources().unwrap().available_bytes, 0);
        assert!(other.resources().unwrap().available_bytes > 30 * MIB);
        put(&one, 5, 1005).await.unwrap();
        put_run(&other, 0, 1, 1000).await.unwrap();
        holds(&one, 5, 1005).await;
        unmap(&one, 10, 3).await.unwrap();
        put_run(&one, 10, 11, 3).await.unwrap();
        assert_eq!(fill(&one, blocks).await, 0, "what was unmapped was room, and no more");
        pool.set_limit(id(1), 1, Some(3 * MIB));
        assert!(fill(&one, blocks).await > 250);
        pool.set_limit(id(1), 1, None);
        put_run(&one, 1000, 1, 1000).await.unwrap();
        assert_eq!(pool.taken_bytes(&id(1)), None);
        sound(&pool).await;
    });
}

#[test]
fn snapshots_count_for_their_volume_and_give_room_when_they_go() {
    let (local, pool) = pool_of(&[1]);
    local.block_on(async {
        let volume = pool.open_volume(id(1)).unwrap();
        pool.set_limit(id(1), 1, Some(2 * MIB));
        put_run(&volume, 0, 1, 300).await.unwrap();
        pool.snapshot_volume(id(1), id(2), Vec::new()).await.unwrap();
        put_run(&volume, 0, 1001, 190).await.unwrap();
        assert!(is_full(put_run(&volume, 190, 2001, 110).await), "the snapshot keeps what it had");
        pool.delete_volume(id(2), Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        put_run(&volume, 190, 2001, 110).await.unwrap();
        assert!(pool.taken_bytes(&id(1)).unwrap() < 310 * BLOCK);
        sound(&pool).await;
    });
}

#[test]
fn what_a_clone_shares_counts_for_the_older_volume() {
    let (local, pool) = pool_of(&[1]);
    local.block_on(async {
        let volume = pool.open_volume(id(1)).unwrap();
        put_run(&volume, 0, 1, 600).await.unwrap();
        pool.clone_volume(id(1), id(2), Vec::new()).await.unwrap();
        let clone = pool.open_volume(id(2)).unwrap();
        pool.set_limit(id(1), 1, Some(4 * MIB));
        pool.set_limit(id(2), 2, Some(MIB));
        assert!(pool.taken_bytes(&id(1)).unwrap() >= 600 * BLOCK);
        assert_eq!(pool.taken_bytes(&id(2)), Some(0));
        put_run(&clone, 0, 1001, 200).await.unwrap();
        assert!(is_full(put_run(&clone, 200, 2001, 100).await));
        pool.delete_volume(id(1), Vec::new()).await.unwrap();
        pool.settle().await.unwrap();
        let taken = pool.taken_bytes(&id(2)).unwrap() / BLOCK;
        assert!((600..610).contains(&taken), "now all is the clone's: {taken}");
        sound(&pool).await;
    });
}

#[test]
fn writes_at_the_same_time_do_not_get_past_the_limit_together() {
    let (local, pool) = pool_of(&[1]);
    local.block_on(async {
        let volume = pool.open_volume(id(1)).unwrap();
        pool.set_limit(id(1), 1, Some(MIB));
        let writes = (0..16).map(|part| put_run(&volume, part * 32, 1 + part * 32, 32));
        let done = futures_util::future::join_all(writes).await;
        let fitted = done.into_iter().map(is_full).filter(|full| !full).count();
        assert_eq!(fitted, 7, "of 256 blocks some are the map's");
        assert!(pool.taken_bytes(&id(1)).unwrap() <= MIB);
        assert!(!is_full(put_run(&volume, 0, 1, 32).await), "nothing stays admitted");
        sound(&pool).await;
    });
}

#[test]
fn a_pool_is_filled_to_its_limit_and_not_beyond() {
    let (local, pool) = pool_of(&[1]);
    local.block_on(async {
        let volume = pool.open_volume(id(1)).unwrap();
        pool.set_pool_limit(Some(8 * MIB));
        let blocks = fill(&volume, 0).await;
        assert!((1950..=2048).contains(&blocks), "{blocks} blocks and their map are 8 MiB");
        let space = pool.space(None);
        assert!(space.withheld_bytes > 20 * MIB && space.unused_bytes == 0, "{space:?}");
        put(&volume, 5, 1005).await.unwrap();
        assert!(is_full(
            pool.create_volume(store::VolumeSpec { thick: true, ..thin(3, MIB) }, Vec::new()).await
        ));
        unmap(&volume, 0, 512).await.unwrap();
        put_run(&volume, 5000, 1, 200).await.unwrap();
        pool.set_pool_limit(None);
        put_run(&volume, 6000, 1, 2000).await.unwrap();
        sound(&pool).await;
    });
}

#[test]
fn a_write_without_room_waits_while_somebody_makes_some() {
    let (local, pool) = pool_of(&[1]);
    local.block_on(async {
        let volume = pool.open_volume(id(1)).unwrap();
        put_run(&volume, 0, 1, 1000).await.unwrap();
        pool.snapshot_volume(id(1), id(2), Vec::new()).await.unwrap();
        put_run(&volume, 0, 2001, 1000).await.unwrap();
        let taken = pool.status().data_bytes + pool.status().map_bytes;
        pool.set_pool_limit(Some(taken + 40 * BLOCK));
        pool.watch_space(MIB, true);
        let before = pool.shortages();
        let helper = async {
            pool.shortage_after(before).await;
            local.sleep(Duration::from_secs(1)).await;
            pool.delete_volume(id(2), Vec::new()).await.unwrap();
        };
        let (written, ()) = futures_util::future::join(put_run(&volume, 5000, 1, 500), helper).await;
        written.unwrap();
        pool.watch_space(0, false);
        let begun = local.now();
        assert!(is_full(put_run(&volume, 9000, 1, 1000).await));
        assert_eq!(local.now(), begun, "without help it fails at once");
        pool.watch_space(0, true);
        assert!(is_full(put_run(&volume, 9000, 1, 1000).await));
        assert!(
            local.now() - begun >= Duration::from_secs(10),
            "help that does not come is not waited for long"
        );
        sound(&pool).await;
    });
}
