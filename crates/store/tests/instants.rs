//! Snapshots of several volumes at one instant, and the way back to a snapshot.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::{ErrorKind, Volume};
use futures_util::future::{join, join_all};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use store::{Pool, StoreVolume, VolumeSpec};
use support::{disk, holds, new_pool, pattern_page, put, reopen, small, sound, thin};

const MIB: u64 = 1 << 20;
const WRITERS: u64 = 5;
const ROUNDS: u64 = 40;

/// Lets others run `turns` times.
async fn turns(turns: u64) {
    let mut left = turns;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Which of a writer's patterns block `address` holds; 0 for none yet.
async fn round_at(volume: &StoreVolume, address: u64) -> u64 {
    let read = volume.read(address * 4096, 4096).await.unwrap().concat();
    (0..=ROUNDS).find(|round| read == pattern_page(seed(address, *round))).unwrap()
}

fn seed(writer: u64, round: u64) -> u64 {
    if round == 0 { 0 } else { writer * 1000 + round }
}

/// Writes each round to the volumes in turn, the next one when the former has acknowledged it.
async fn write_in_order(volumes: &[std::sync::Arc<StoreVolume>], writer: u64, done: &[AtomicU64]) {
    for round in 1..=ROUNDS {
        for (volume, done) in volumes.iter().zip(done) {
            put(volume, writer, seed(writer, round)).await.unwrap();
            done.store(round, Ordering::Relaxed);
            turns(writer % 3).await;
        }
    }
}

/// A database's log on one volume and its tables on another: what is in the tables is in the log, whenever the snapshot
/// is taken; and what was acknowledged before is in both.
#[test]
fn a_snapshot_of_several_volumes_keeps_the_order_of_dependent_writes() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.lazy.store(true, Ordering::Relaxed);
    let done: Vec<[AtomicU64; 3]> = (0..WRITERS).map(|_| Default::default()).collect();
    let mut before: Vec<Vec<u64>> = Vec::new();
    local.block_on(async {
        for id in 1..=3 {
            pool.create_volume(thin(id, 1 << 30), Vec::new()).await.unwrap();
        }
        let volumes = [3, 1, 2].map(|id| pool.open_volume([id; 16]).unwrap());
        let writers = (0..WRITERS).map(|writer| {
            let done = &done[usize::try_from(writer).unwrap()];
            write_in_order(&volumes, writer, done)
        });
        let snapshots = async {
            for taken in 0..12_u8 {
                turns(u64::from(taken) * 5).await;
                let acknowledged = done.iter().flatten().map(|done| done.load(Ordering::Relaxed));
                before.push(acknowledged.collect());
                let pairs = (1..=3).map(|id| ([id; 16], [10 * (taken + 1) + id; 16])).collect();
                pool.snapshot_volumes(pairs, Vec::new()).await.unwrap();
            }
        };
        join(join_all(writers), snapshots).await;
    });
    let (local, pool) = reopen(&disk, small(256 << 10));
    local.block_on(async {
        let mut middle = 0;
        for (taken, before) in (0..).zip(&before) {
            let snapshots = [3, 1, 2].map(|id| pool.open_volume([10 * (taken + 1) + id; 16]).unwrap());
            for writer in 0..WRITERS {
                let mut rounds = Vec::new();
                for snapshot in &snapshots {
                    rounds.push(round_at(snapshot, writer).await);
                }
                let ordered = rounds.windows(2).all(|pair| pair[0] >= pair[1]) && rounds[0] - rounds[2] <= 1;
                assert!(ordered, "snapshot {taken}, writer {writer}: {rounds:?}");
                middle += u64::from(rounds[0] > rounds[2]);
                let at = usize::try_from(writer).unwrap() * 3;
                let acknowledged = &before[at..at + 3];
                assert!(rounds.iter().zip(acknowledged).all(|(in_it, least)| in_it >= least));
            }
        }
        assert!(middle > 0, "some snapshots were taken between dependent writes");
        sound(&pool).await;
    });
}

#[test]
fn a_group_is_made_as_a_whole_or_not_at_all() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        for id in 1..=2 {
            pool.create_volume(thin(id, 1 << 30), Vec::new()).await.unwrap();
        }
        let kind = async |pairs: &[(u8, u8)]| {
            let pairs = pairs.iter().map(|(source, new)| ([*source; 16], [*new; 16])).collect();
            pool.snapshot_volumes(pairs, Vec::new()).await.unwrap_err().kind
        };
        assert_eq!(kind(&[(1, 11), (9, 12)]).await, ErrorKind::NotFound);
        assert_eq!(kind(&[(1, 11), (2, 1)]).await, ErrorKind::Exists);
        assert_eq!(kind(&[(1, 11), (1, 12)]).await, ErrorKind::Invalid);
        assert_eq!(kind(&[(1, 11), (2, 11)]).await, ErrorKind::Invalid);
        assert_eq!(pool.volumes().len(), 2);
        let volume = pool.open_volume([1; 16]).unwrap();
        put(&volume, 0, 5).await.unwrap();
        holds(&volume, 0, 5).await;
        sound(&pool).await;
    });
}

/// Reservations of all that is to be made count together, not each by itself.
#[test]
fn thick_volumes_of_a_group_have_to_fit_together_a_second_time() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        let size = pool.status().free_bytes / 7 * 2 / 4096 * 4096;
        for id in 1..=2 {
            let spec = VolumeSpec { thick: true, ..thin(id, size) };
            pool.create_volume(spec, Vec::new()).await.unwrap();
        }
        let pairs = vec![([1; 16], [11; 16]), ([2; 16], [12; 16])];
        let refused = pool.snapshot_volumes(pairs, Vec::new()).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::NoSpace);
        pool.snapshot_volume([1; 16], [11; 16], Vec::new()).await.unwrap();
        sound(&pool).await;
    });
}

async fn prepare_rollback(pool: &Pool) {
    pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
    let volume = pool.open_volume([1; 16]).unwrap();
    for address in 0..300 {
        put(&volume, address, 1000 + address).await.unwrap();
    }
    pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
    for address in 200..400 {
        put(&volume, address, 2000 + address).await.unwrap();
    }
    support::unmap(&volume, 0, 10).await.unwrap();
    pool.resize_volume([1; 16], 2 << 30, Vec::new()).await.unwrap();
    put(&volume, (2 << 30) / 4096 - 1, 7).await.unwrap();
    let fact = ("test".to_owned(), "rolled back".to_owned(), Some(vec![1]));
    pool.roll_back_volume([1; 16], [2; 16], [3; 16], vec![fact]).await.unwrap();
    put(&volume, 1, 3001).await.unwrap();
}

#[test]
fn a_volume_goes_back_to_a_snapshot_and_what_it_had_is_kept() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(prepare_rollback(&pool));
    let (local, pool) = reopen(&disk, small(256 << 10));
    local.block_on(async {
        assert_eq!(pool.facts("test").await.unwrap(), [("rolled back".to_owned(), vec![1])]);
        let [volume, snapshot, safety] = [1, 2, 3].map(|id| pool.open_volume([id; 16]).unwrap());
        assert_eq!(volume.size_bytes(), 2 << 30, "volumes only grow");
        for (address, now, then, safe) in [
            (0, 1000, 1000, 0),
            (1, 3001, 1001, 0),
            (15, 1015, 1015, 1015),
            (250, 1250, 1250, 2250),
            (350, 0, 0, 2350),
        ] {
            holds(&volume, address, now).await;
            holds(&snapshot, address, then).await;
            holds(&safety, address, safe).await;
        }
        holds(&volume, (2 << 30) / 4096 - 1, 0).await;
        holds(&safety, (2 << 30) / 4096 - 1, 7).await;
        assert_eq!(pool.own_bytes([1; 16]).unwrap(), 4096);
        assert_eq!(pool.own_bytes([2; 16]).unwrap(), 300 * 4096);
        sound(&pool).await;
        // And forth again.
        pool.roll_back_volume([1; 16], [3; 16], [4; 16], Vec::new()).await.unwrap();
        holds(&volume, 250, 2250).await;
        for id in 2..=4 {
            pool.delete_snapshot([id; 16], Vec::new()).await.unwrap();
        }
        pool.settle().await.unwrap();
        assert_eq!(pool.status().data_bytes, (400 - 10 + 1) * 4096, "what nobody has any more came back");
        holds(&volume, 15, 1015).await;
        holds(&volume, 350, 2350).await;
        holds(&volume, 1, 0).await;
        sound(&pool).await;
    });
}

#[test]
fn only_volumes_go_back_and_only_to_snapshots() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        pool.create_volume(thin(5, 2 << 30), Vec::new()).await.unwrap();
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        pool.snapshot_volume([5; 16], [6; 16], Vec::new()).await.unwrap();
        let kind = async |volume: u8, snapshot: u8, safety: u8| {
            let back = pool.roll_back_volume([volume; 16], [snapshot; 16], [safety; 16], Vec::new());
            back.await.unwrap_err().kind
        };
        assert_eq!(kind(2, 2, 9).await, ErrorKind::Invalid);
        assert_eq!(kind(1, 5, 9).await, ErrorKind::Invalid);
        assert_eq!(kind(1, 6, 9).await, ErrorKind::Invalid, "the volume would have to shrink");
        assert_eq!(kind(1, 7, 9).await, ErrorKind::NotFound);
        assert_eq!(kind(1, 2, 5).await, ErrorKind::Exists);
        sound(&pool).await;
    });
}
