//! Disks that fail: what was acknowledged stays, what was not never comes back, and the pool says how it is.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::testing::join_all;
use block::{Durability, ErrorKind, Volume};
use std::sync::Arc;
use store::{Health, Pool, StoreVolume, VolumeSpec};
use support::scripted::{Crash, Lands, Scripted, Target};
use support::{Local, holds, new_pool, put, put_run, reopen, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;
const SLAB: u64 = 256 << 10;

/// A pool on a disk with a script, and a thin volume.
fn volume(disk: &Arc<Scripted>) -> (Arc<Local>, Arc<Pool>, Arc<StoreVolume>) {
    let (local, pool) = new_pool(&disk.disk(), small(SLAB));
    local.block_on(pool.create_volume(thin(1, 1 << 30), Vec::new())).unwrap();
    let volume = pool.open_volume([1; 16]).unwrap();
    (local, pool, volume)
}

/// The same volume after a crash that leaves of `disk` what `crash` says.
fn reborn(disk: &Arc<Scripted>, crash: Crash) -> (Arc<Scripted>, Arc<Local>, Arc<Pool>, Arc<StoreVolume>) {
    let disk = disk.after(crash);
    let (local, pool) = reopen(&disk.disk(), small(SLAB));
    let volume = pool.open_volume([1; 16]).unwrap();
    (disk, local, pool, volume)
}

fn kind<T: std::fmt::Debug>(result: block::Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

/// A write fails though some, or all, of it reached the disk; the log goes on in a new epoch.
fn a_failed_write_is_never_replayed(lands: Lands) {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume(&disk);
    local.block_on(async {
        put_run(&volume, 0, 10, 8).await.unwrap();
        disk.fail_after(Target::Host, 0, lands);
        assert_eq!(kind(put_run(&volume, 4, 100, 8).await), ErrorKind::Device);
        assert_eq!(pool.status().health, Health::Healthy, "one failed write is not the end");
        holds(&volume, 4, 14).await;
        holds(&volume, 8, 0).await;
        put(&volume, 6, 200).await.unwrap();
        put(&volume, 20, 201).await.unwrap();
        sound(&pool).await;
    });
    let epochs: Vec<u64> = disk.batches(0).iter().map(|batch| batch.epoch).collect();
    assert!(epochs.last() > epochs.first(), "the epoch ended: {epochs:?}");
    for crash in [Crash::Process, Crash::Power] {
        let (_, local, pool, volume) = reborn(&disk, crash);
        local.block_on(async {
            for (address, seed) in [(0, 10), (4, 14), (5, 15), (6, 200), (7, 17), (8, 0), (11, 0), (20, 201)]
            {
                holds(&volume, address, seed).await;
            }
            sound(&pool).await;
        });
    }
}

#[test]
fn a_write_that_failed_and_left_nothing_is_never_replayed() {
    a_failed_write_is_never_replayed(Lands::Nothing);
}

#[test]
fn a_write_that_failed_and_left_a_half_is_never_replayed() {
    a_failed_write_is_never_replayed(Lands::FirstHalf);
}

#[test]
fn a_write_that_failed_and_is_whole_on_the_disk_is_never_replayed() {
    a_failed_write_is_never_replayed(Lands::All);
}

/// Lets others run, so many times.
async fn turns(count: u64) {
    let mut left = count;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        left = left.saturating_sub(1);
        if left > 0 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
}

/// Four batches are in flight and one in the middle fails: those before it count, those after it do not, though
/// the disk has them.
#[test]
fn batches_in_flight_behind_a_failed_one_fail_too() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), small(MIB));
    local.block_on(pool.create_volume(thin(1, 1 << 30), Vec::new())).unwrap();
    let volume = pool.open_volume([1; 16]).unwrap();
    disk.hold(Target::Host);
    disk.fail(Target::Host, 1, 1, ErrorKind::Device);
    local.block_on(async {
        // Each is large enough to start beside those in flight, and comes when these have started.
        let writes = (0..4).map(|number| {
            let volume = &volume;
            async move {
                turns(20 * number).await;
                put_run(volume, number * 1000, number * 1000 + 1, 64).await
            }
        });
        let release = async {
            turns(200).await;
            disk.release(Target::Host);
        };
        let (results, ()) = futures_util::future::join(join_all(writes.collect()), release).await;
        let kinds: Vec<_> = results.into_iter().map(|result| result.map_err(|error| error.kind)).collect();
        assert_eq!(kinds[0], Ok(()));
        assert_eq!(kinds[1], Err(ErrorKind::Device));
        assert_eq!(kinds[2..], [Err(ErrorKind::Device), Err(ErrorKind::Device)]);
        for (at, result) in [0, 1000, 2000, 3000].iter().zip(&kinds) {
            holds(&volume, at + 40, if result.is_ok() { at + 41 } else { 0 }).await;
        }
        put(&volume, 1001, 5).await.unwrap();
        sound(&pool).await;
        let (_, local, pool, volume) = reborn(&disk, Crash::Power);
        local.block_on(async {
            for (at, result) in [0, 1000, 2000, 3000].iter().zip(&kinds) {
                holds(&volume, at + 40, if result.is_ok() { at + 41 } else { 0 }).await;
            }
            holds(&volume, 1001, 5).await;
            sound(&pool).await;
        });
    });
}

#[test]
fn a_crash_while_the_epoch_is_being_ended_brings_nothing_back() {
    let mut ended_well = 0;
    for steps in 1..40 {
        let disk = Scripted::new(32 * MIB);
        let (local, pool, volume) = volume(&disk);
        local.block_on(put(&volume, 1, 11)).unwrap();
        disk.fail_after(Target::Host, 0, Lands::All);
        // The failing write is the first step; what follows ends the epoch.
        disk.crash_after(1 + steps);
        let limit = std::time::Duration::from_secs(100);
        let failed = local.run_until_stuck(put(&volume, 1, 12), limit);
        let later = failed.is_some().then(|| local.run_until_stuck(put(&volume, 2, 13), limit)).flatten();
        // The epoch could not be ended: then nobody can tell what the next opening finds.
        let open_ended = failed.is_none() || matches!(pool.status().health, Health::ReadOnly(_));
        for crash in [Crash::Process, Crash::Power] {
            let (_, local, pool, volume) = reborn(&disk, crash);
            local.block_on(async {
                let now = volume.read(4096, 4096).await.unwrap().concat();
                let old = now == support::pattern_page(11);
                assert!(old || (open_ended && now == support::pattern_page(12)), "after {steps} steps");
                if matches!(later, Some(Ok(()))) {
                    holds(&volume, 2, 13).await;
                }
                sound(&pool).await;
            });
        }
        ended_well += u32::from(!open_ended);
    }
    assert!(ended_well > 3, "the end of the epoch takes few steps");
}

#[test]
fn a_full_file_system_below_fails_writes_as_out_of_space_and_is_retried_for_ever() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume(&disk);
    local.block_on(async {
        put(&volume, 1, 1).await.unwrap();
        for _ in 0..7 {
            disk.fail(Target::Host, 0, 1, ErrorKind::NoSpace);
            assert_eq!(kind(put(&volume, 1, 2).await), ErrorKind::NoSpace);
            assert_eq!(pool.status().health, Health::Healthy);
        }
        holds(&volume, 1, 1).await;
        put(&volume, 1, 3).await.unwrap();
        sound(&pool).await;
    });
    let (_, local, _pool, volume) = reborn(&disk, Crash::Power);
    local.block_on(holds(&volume, 1, 3));
}

#[test]
fn three_failed_writes_in_a_row_end_writing_and_reopening_begins_it_again() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume(&disk);
    local.block_on(async {
        for round in 0..3 {
            disk.fail(Target::Host, 0, 2, ErrorKind::Device);
            for _ in 0..2 {
                assert_eq!(kind(put(&volume, 7, 1).await), ErrorKind::Device);
            }
            put(&volume, 7, 10 + round).await.unwrap();
            assert_eq!(pool.status().health, Health::Healthy, "a success in between starts the count anew");
        }
        disk.fail(Target::Host, 0, 3, ErrorKind::Device);
        for _ in 0..3 {
            assert_eq!(kind(put(&volume, 7, 1).await), ErrorKind::Device);
        }
        let Health::ReadOnly(why) = pool.status().health else { panic!("takes writes still") };
        assert!(why.contains("in a row"), "{why}");
        assert_eq!(kind(put(&volume, 7, 2).await), ErrorKind::ReadOnly);
        assert_eq!(kind(unmap(&volume, 7, 1).await), ErrorKind::ReadOnly);
        assert_eq!(kind(pool.create_volume(thin(2, MIB), Vec::new()).await), ErrorKind::ReadOnly);
        assert_eq!(kind(pool.checkpoint().await), ErrorKind::ReadOnly);
        holds(&volume, 7, 12).await;
    });
    let (_, local, pool, volume) = reborn(&disk, Crash::Power);
    local.block_on(async {
        holds(&volume, 7, 12).await;
        put(&volume, 7, 13).await.unwrap();
        assert_eq!(pool.status().health, Health::Healthy);
        sound(&pool).await;
    });
}

fn buffered(id: u8) -> VolumeSpec {
    VolumeSpec { buffered: true, ..thin(id, 1 << 30) }
}

/// What is in the page cache when a flush fails may be lost: nobody is told that it is durable.
#[test]
fn after_a_failed_flush_nothing_is_acknowledged_and_reads_go_on() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool) = new_pool(&disk.disk(), small(SLAB));
    local.block_on(async {
        pool.create_volume(buffered(1), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        put(&volume, 1, 11).await.unwrap();
        volume.flush().await.unwrap();
        put(&volume, 1, 12).await.unwrap();
        disk.fail(Target::Flush, 0, 1, ErrorKind::Device);
        assert_eq!(kind(volume.flush().await), ErrorKind::Device);
        let Health::ReadOnly(why) = pool.status().health else { panic!("takes writes still") };
        assert!(why.contains("flush"), "{why}");
        assert_ne!(
            volume.flush().await.map_err(|error| error.kind),
            Ok(()),
            "and no later flush says otherwise"
        );
        assert_eq!(kind(put(&volume, 2, 13).await), ErrorKind::ReadOnly);
        holds(&volume, 1, 12).await;
        holds(&volume, 2, 0).await;
        assert!(pool.close().await.is_err(), "an orderly end would have made it durable");
    });
    let (_, local, pool, volume) = reborn(&disk, Crash::Power);
    local.block_on(async {
        holds(&volume, 1, 11).await;
        put(&volume, 1, 14).await.unwrap();
        sound(&pool).await;
    });
}

#[test]
fn a_durable_write_behind_cached_ones_fails_with_the_flush_it_needs() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool) = new_pool(&disk.disk(), small(SLAB));
    local.block_on(async {
        pool.create_volume(buffered(1), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        put(&volume, 1, 11).await.unwrap();
        disk.fail(Target::Flush, 0, 1, ErrorKind::Device);
        let data = vec![bytes::Bytes::from(support::pattern_page(12))];
        let durable = volume.write(4096 * 2, data, Durability::Durable).await;
        assert_eq!(kind(durable), ErrorKind::Device);
        assert!(matches!(pool.status().health, Health::ReadOnly(_)));
        holds(&volume, 1, 11).await;
    });
}

#[test]
fn a_flush_makes_cached_writes_survive_a_power_failure() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool) = new_pool(&disk.disk(), small(SLAB));
    local.block_on(async {
        pool.create_volume(buffered(1), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        let flushes = disk.count(Target::Flush);
        put(&volume, 1, 11).await.unwrap();
        put(&volume, 2, 12).await.unwrap();
        assert_eq!(disk.count(Target::Flush), flushes, "cached writes cost no flush");
        volume.flush().await.unwrap();
        volume.flush().await.unwrap();
        assert_eq!(disk.count(Target::Flush), flushes + 1, "nothing is left for the second");
        put(&volume, 1, 13).await.unwrap();
    });
    let (_, local, _pool, volume) = reborn(&disk, Crash::Process);
    local.block_on(holds(&volume, 1, 13));
    let (_, local, _pool, volume) = reborn(&disk, Crash::Power);
    local.block_on(async {
        holds(&volume, 1, 11).await;
        holds(&volume, 2, 12).await;
    });
}

#[test]
fn a_checkpoint_that_cannot_write_its_nodes_leaves_the_log_and_the_next_one_succeeds() {
    for error in [ErrorKind::NoSpace, ErrorKind::Device] {
        let disk = Scripted::new(32 * MIB);
        let (local, pool, volume) = volume(&disk);
        local.block_on(async {
            for address in 0..400 {
                put(&volume, address * 7, address + 1).await.unwrap();
            }
            let before = pool.status().checkpoints;
            disk.fail(Target::Nodes, 0, 1, error);
            assert_eq!(kind(pool.checkpoint().await), error);
            assert_eq!((pool.status().checkpoints, pool.status().health), (before, Health::Healthy));
            put(&volume, 7, 9).await.unwrap();
        });
        let (copy, copy_local, copy_pool, copy_volume) = reborn(&disk, Crash::Power);
        copy_local.block_on(async {
            holds(&copy_volume, 7, 9).await;
            holds(&copy_volume, 399 * 7, 400).await;
            sound(&copy_pool).await;
        });
        drop(copy);
        let disk = disk.after(Crash::Process);
        let (local, pool) = reopen(&disk.disk(), small(SLAB));
        local.block_on(async {
            pool.checkpoint().await.unwrap();
            sound(&pool).await;
            pool.close().await.unwrap();
        });
        let (_, local, pool, volume) = reborn(&disk, Crash::Power);
        local.block_on(async {
            assert_eq!(pool.status().replayed_batches, 0);
            for address in (0..400).filter(|address| *address != 1) {
                holds(&volume, address * 7, address + 1).await;
            }
            sound(&pool).await;
        });
    }
}

/// The same, but the pool goes on: nodes that were written in vain are written again, elsewhere.
#[test]
fn a_pool_goes_on_after_failed_checkpoints() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume(&disk);
    local.block_on(async {
        for round in 0..6 {
            for address in 0..50 {
                put(&volume, address * 300, round * 100 + address + 1).await.unwrap();
            }
            disk.fail(Target::Nodes, u32::try_from(round % 2).unwrap(), 1, ErrorKind::NoSpace);
            let first = pool.checkpoint().await;
            let second = pool.checkpoint().await;
            assert!(first.is_err() || second.is_err(), "one of them met the fault");
            pool.checkpoint().await.unwrap();
            sound(&pool).await;
        }
    });
    let (_, local, pool, volume) = reborn(&disk, Crash::Power);
    local.block_on(async {
        for address in 0..50 {
            holds(&volume, address * 300, 500 + address + 1).await;
        }
        sound(&pool).await;
    });
}

#[test]
fn a_flush_that_fails_in_a_checkpoint_ends_writing() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume(&disk);
    local.block_on(async {
        put(&volume, 1, 1).await.unwrap();
        disk.fail(Target::Flush, 0, 1, ErrorKind::Device);
        assert_eq!(kind(pool.checkpoint().await), ErrorKind::Device);
        assert_eq!(kind(put(&volume, 1, 2).await), ErrorKind::ReadOnly);
        holds(&volume, 1, 1).await;
    });
    let (_, local, pool, volume) = reborn(&disk, Crash::Power);
    local.block_on(async {
        holds(&volume, 1, 1).await;
        sound(&pool).await;
    });
}

#[test]
fn a_catalog_that_cannot_be_written_ends_writing() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume(&disk);
    local.block_on(async {
        put(&volume, 1, 1).await.unwrap();
        disk.fail(Target::Catalog, 0, 1, ErrorKind::Device);
        assert_eq!(kind(pool.create_volume(thin(2, MIB), Vec::new()).await), ErrorKind::Device);
        let Health::ReadOnly(why) = pool.status().health else { panic!("takes writes still") };
        assert!(why.contains("catalog"), "{why}");
        assert_eq!(kind(put(&volume, 1, 2).await), ErrorKind::ReadOnly);
        holds(&volume, 1, 1).await;
    });
    for crash in [Crash::Process, Crash::Power] {
        let (_, local, pool, volume) = reborn(&disk, crash);
        local.block_on(async {
            holds(&volume, 1, 1).await;
            put(&volume, 1, 3).await.unwrap();
            sound(&pool).await;
        });
    }
}

#[test]
fn a_failed_relocation_leaves_the_blocks_where_they_are() {
    let disk = Scripted::new(24 * MIB);
    let (local, pool, volume) = volume(&disk);
    local.block_on(async {
        let status = pool.status();
        let blocks = (status.usable_bytes - status.headroom_bytes) / 4096 * 8 / 10;
        disk.fail(Target::Relocation, 0, 3, ErrorKind::Device);
        disk.fail(Target::Relocation, 5, 2, ErrorKind::NoSpace);
        let mut newest = vec![0; usize::try_from(blocks).unwrap()];
        for step in 0..blocks * 3 {
            // Every third block is overwritten again and again: victims hold live blocks.
            let address = if step < blocks { step } else { step * 7919 % blocks };
            newest[usize::try_from(address).unwrap()] = step + 1;
            put(&volume, address, step + 1).await.unwrap();
        }
        assert!(disk.count(Target::Relocation) > 10, "collection met the faults and went on");
        for (address, seed) in (0..).zip(&newest) {
            holds(&volume, address, *seed).await;
        }
        assert_eq!(pool.status().health, Health::Healthy);
        sound(&pool).await;
        let (_, local, pool, volume) = reborn(&disk, Crash::Power);
        local.block_on(async {
            for (address, seed) in (0..).zip(&newest) {
                holds(&volume, address, *seed).await;
            }
            sound(&pool).await;
        });
    });
}

#[test]
fn a_read_that_fails_is_told_and_harms_nothing() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume(&disk);
    local.block_on(async {
        put(&volume, 1, 1).await.unwrap();
        disk.fail(Target::Read, 0, 1, ErrorKind::Device);
        let error = volume.read(0, 3 * 4096).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Device);
        holds(&volume, 1, 1).await;
        assert_eq!(pool.status().health, Health::Healthy);
    });
}
