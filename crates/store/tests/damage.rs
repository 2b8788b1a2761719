//! Damaged disks: acknowledged writes that are lost are told, what was never acknowledged is cut off, and damage
//! stays where it is.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::{ErrorKind, Volume};
use std::sync::Arc;
use store::{Health, Pool, StoreVolume, VolumeSpec};
use support::scripted::{Crash, OnDisk, Scripted, Target};
use support::{Local, holds, new_pool, put, put_run, reopen, small, sound, thin, try_open, unmap};

const MIB: u64 = 1 << 20;
const SLAB: u64 = 256 << 10;

fn volume_on(disk: &Arc<Scripted>, spec: VolumeSpec) -> (Arc<Local>, Arc<Pool>, Arc<StoreVolume>) {
    let (local, pool) = new_pool(&disk.disk(), small(SLAB));
    local.block_on(pool.create_volume(spec, Vec::new())).unwrap();
    let volume = pool.open_volume(spec.id).unwrap();
    (local, pool, volume)
}

fn opened(disk: &Arc<Scripted>) -> (Arc<Local>, Arc<Pool>, Arc<StoreVolume>) {
    let (local, pool) = reopen(&disk.disk(), small(SLAB));
    let volume = pool.open_volume([1; 16]).unwrap();
    (local, pool, volume)
}

fn kind<T: std::fmt::Debug>(result: block::Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

/// A volume with blocks 0 to 9, each written by a batch of its own, that was not closed.
fn ten_batches(spec: VolumeSpec) -> (Arc<Scripted>, Vec<OnDisk>) {
    let disk = Scripted::new(32 * MIB);
    let (local, _pool, volume) = volume_on(&disk, spec);
    for address in 0..10 {
        local.block_on(put(&volume, address, address + 1)).unwrap();
    }
    let batches = disk.batches(0);
    assert_eq!(batches.len(), 10);
    (disk.after(Crash::Process), batches)
}

/// Opening step 3: "a batch that is missing or damaged below durable is lost data: the pool does not open".
#[test]
fn a_damaged_descriptor_below_durable_keeps_the_pool_shut() {
    for number in [0, 4, 8] {
        let (disk, batches) = ten_batches(thin(1, MIB));
        assert!(batches[9].durable > batches[number].seq, "acknowledged before the last was written");
        disk.flip(batches[number].offset, 130);
        let (_, result) = try_open(&disk.disk(), small(SLAB));
        let Err(error) = result else { panic!("opened though batch {number} is damaged") };
        assert_eq!(error.kind, ErrorKind::Corrupt);
        let text = error.to_string();
        assert!(text.contains(&format!("batch {}", batches[number].seq)), "{text}");
        assert!(text.contains("restore"), "says what to do: {text}");
        // Nothing was written: the same refusal again, and the pool opens once the batch is as it was.
        let (_, again) = try_open(&disk.disk(), small(SLAB));
        assert_eq!(again.map(|_| ()).unwrap_err().kind, ErrorKind::Corrupt);
        disk.flip(batches[number].offset, 130);
        let (local, _pool, volume) = opened(&disk);
        for address in 0..10 {
            local.block_on(holds(&volume, address, address + 1));
        }
    }
}

/// "Data below the highest durable need not be read": reading it tells.
#[test]
fn damaged_data_below_durable_is_found_when_it_is_read() {
    let (disk, batches) = ten_batches(thin(1, MIB));
    disk.flip(batches[4].offset + 4096 * batches[4].descriptor_blocks, 77);
    let (local, pool, volume) = opened(&disk);
    local.block_on(async {
        let error = volume.read(0, 10 * 4096).await.unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::Corrupt, Some(4 * 4096)));
        for address in (0..10).filter(|address| *address != 4) {
            holds(&volume, address, address + 1).await;
        }
        put(&volume, 4, 50).await.unwrap();
        holds(&volume, 4, 50).await;
        sound(&pool).await;
    });
}

#[test]
fn a_damaged_batch_at_the_end_of_the_log_is_cut_off() {
    for byte in [0, 9, 48, 130, 4096 + 5] {
        let (disk, batches) = ten_batches(thin(1, MIB));
        let page = u64::try_from(byte / 4096).unwrap() * 4096;
        disk.flip(batches[9].offset + page, byte % 4096);
        let (local, pool, volume) = opened(&disk);
        local.block_on(async {
            assert_eq!(pool.status().replayed_batches, 9, "byte {byte}");
            for address in 0..9 {
                holds(&volume, address, address + 1).await;
            }
            holds(&volume, 9, 0).await;
            put(&volume, 20, 21).await.unwrap();
        });
        // The batch is whole again, and yet of an epoch that has ended before it.
        let disk = disk.after(Crash::Process);
        disk.flip(batches[9].offset + page, byte % 4096);
        let (local, pool, volume) = opened(&disk);
        local.block_on(async {
            holds(&volume, 9, 0).await;
            holds(&volume, 20, 21).await;
            sound(&pool).await;
        });
    }
}

/// Batches that were only cached may be lost, and then all behind the first that is.
#[test]
fn a_damaged_batch_above_durable_ends_replay_there() {
    let spec = VolumeSpec { buffered: true, ..thin(1, MIB) };
    for (number, page) in [(3, 0), (3, 1), (0, 0), (7, 1)] {
        let (disk, batches) = ten_batches(spec);
        assert!(batches[9].durable <= batches[0].seq, "nothing was flushed");
        disk.flip(batches[number].offset + 4096 * page, 200);
        let (local, pool, volume) = opened(&disk);
        local.block_on(async {
            let kept = u64::try_from(number).unwrap();
            assert_eq!(pool.status().replayed_batches, kept);
            for address in 0..10 {
                holds(&volume, address, if address < kept { address + 1 } else { 0 }).await;
            }
            put(&volume, 5, 60).await.unwrap();
            volume.flush().await.unwrap();
        });
        let (local, pool, volume) = opened(&disk.after(Crash::Power));
        local.block_on(async {
            holds(&volume, 5, 60).await;
            holds(&volume, 9, 0).await;
            sound(&pool).await;
        });
    }
}

/// "...or before the end of an epoch that has ended": what an opening has replayed was promised by it.
#[test]
fn a_batch_that_an_earlier_opening_replayed_may_not_be_missing() {
    let (disk, batches) = ten_batches(VolumeSpec { buffered: true, ..thin(1, MIB) });
    drop(opened(&disk));
    let disk = disk.after(Crash::Process);
    disk.flip(batches[5].offset, 60);
    let (_, result) = try_open(&disk.disk(), small(SLAB));
    assert_eq!(result.map(|_| ()).unwrap_err().kind, ErrorKind::Corrupt);
}

#[test]
fn a_damaged_relocation_batch_leaves_the_blocks_where_they_were() {
    // Overwrites make garbage everywhere, so that collection has to move blocks; a crash comes between the
    // relocation and the checkpoint that would end it.
    let mut met = 0;
    for steps in (0..600).step_by(7) {
        let disk = Scripted::new(16 * MIB);
        let (local, _pool, volume) = volume_on(&disk, thin(1, 1 << 30));
        let mut newest = vec![0; 600];
        for step in 0..1500u64 {
            let address = if step < 600 { step } else { step * 7919 % 600 };
            newest[usize::try_from(address).unwrap()] = step + 1;
            local.block_on(put(&volume, address, step + 1)).unwrap();
        }
        disk.crash_after(steps);
        let limit = std::time::Duration::from_secs(20);
        for step in 1500..2100u64 {
            let address = step * 7919 % 600;
            if local.run_until_stuck(put(&volume, address, step + 1), limit).is_none_or(|put| put.is_err()) {
                newest[usize::try_from(address).unwrap()] = 0;
                break;
            }
            newest[usize::try_from(address).unwrap()] = step + 1;
        }
        let disk = disk.after(Crash::Process);
        let relocated = disk.batches(1);
        let Some(last) = relocated.last() else { continue };
        met += 1;
        for batch in relocated.iter().filter(|batch| batch.segment == last.segment) {
            disk.flip(batch.offset, 100);
        }
        let (local, pool, volume) = match try_open(&disk.disk(), small(SLAB)) {
            (local, Ok(pool)) => {
                let volume = pool.open_volume([1; 16]).unwrap();
                (local, pool, volume)
            }
            (_, Err(error)) => panic!("after {steps} steps: {error}"),
        };
        local.block_on(async {
            for (address, seed) in (0..).zip(&newest).filter(|(_, seed)| **seed > 0) {
                holds(&volume, address, *seed).await;
            }
            sound(&pool).await;
        });
        if met == 12 {
            break;
        }
    }
    assert!(met > 3, "crashes after a relocation: {met}");
}

/// Overwrites until collection has met what is wrong with some segment.
async fn churn(pool: &Pool, volume: &StoreVolume, newest: &mut [u64], spared: u64) {
    let blocks = u64::try_from(newest.len()).unwrap();
    let mut seed = 1_000_000;
    for step in 0..20 * blocks {
        let address = step * 7919 % blocks;
        if address % 16 == spared {
            continue;
        }
        seed += 1;
        newest[usize::try_from(address).unwrap()] = seed;
        put(volume, address, seed).await.unwrap();
        if pool.status().segments.damaged > 0 && step > 4 * blocks {
            break;
        }
    }
}

/// A block that is damaged, or cannot be read at all, is met by collection.
fn collection_meets(damage: impl Fn(&Scripted, u64)) {
    let disk = Scripted::new(16 * MIB);
    let (local, pool, volume) = volume_on(&disk, thin(1, 1 << 30));
    local.block_on(async {
        let status = pool.status();
        let blocks = (status.usable_bytes - status.headroom_bytes) / 4096 * 7 / 10;
        let mut newest: Vec<u64> = (1..=blocks).collect();
        for (address, seed) in (0..).zip(&newest) {
            put(&volume, address, *seed).await.unwrap();
        }
        pool.checkpoint().await.unwrap();
        // Blocks 3, 19, 35 and so on are not overwritten: block 35 has to be moved, and cannot be.
        damage(&disk, disk.pages_of(36)[0]);
        churn(&pool, &volume, &mut newest, 3).await;
        let status = pool.status();
        assert_eq!(status.segments.damaged, 1, "the segment is set aside");
        assert!(matches!(&status.health, Health::Degraded(_)), "{:?}", status.health);
        let before = status.written_bytes;
        for step in 0..2 * blocks {
            let address = step % blocks;
            newest[usize::try_from(address).unwrap()] = 5_000_000 + step;
            if address != 35 {
                put(&volume, address, 5_000_000 + step).await.unwrap();
            }
        }
        assert!(pool.status().written_bytes > before, "and the rest is collected");
        let error = volume.read(30 * 4096, 10 * 4096).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Corrupt | ErrorKind::Device), "{error}");
        for (address, seed) in (0..).zip(&newest).filter(|(address, _)| *address != 35) {
            holds(&volume, address, *seed).await;
        }
        sound(&pool).await;
        // What is damaged can be given up: its segment comes back.
        put(&volume, 35, 7).await.unwrap();
        holds(&volume, 35, 7).await;
        pool.checkpoint().await.unwrap();
        assert_eq!(pool.status().segments.damaged, 0);
        sound(&pool).await;
        pool.close().await.unwrap();
    });
}

#[test]
fn a_damaged_block_met_by_collection_sets_its_segment_aside() {
    collection_meets(|disk, page| disk.flip(page, 9));
}

#[test]
fn an_unreadable_block_met_by_collection_sets_its_segment_aside() {
    collection_meets(Scripted::bad_page);
}

#[test]
fn a_damaged_leaf_fails_its_own_megabyte_and_nothing_else() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume_on(&disk, thin(1, 1 << 30));
    local.block_on(async {
        for leaf in 0..8 {
            put_run(&volume, leaf * 256, leaf * 100 + 1, 4).await.unwrap();
        }
        pool.close().await.unwrap();
    });
    let leaves = disk.nodes(1, 0);
    let broken = leaves.iter().copied().find(|at| disk.page(*at)[24] == 5).unwrap();
    disk.flip(broken, 70);
    let (local, pool, volume) = opened(&disk);
    local.block_on(async {
        assert_eq!(pool.status().health, Health::Healthy, "not met yet");
        assert_eq!(kind(volume.read(5 * MIB, 4096).await), ErrorKind::Corrupt);
        let Health::Degraded(what) = pool.status().health else { panic!("says nothing of it") };
        assert!(what.contains("map node"), "{what}");
        assert_eq!(kind(put(&volume, 5 * 256 + 9, 1).await), ErrorKind::Corrupt);
        assert_eq!(kind(unmap(&volume, 5 * 256, 256).await), ErrorKind::Corrupt);
        assert_eq!(kind(volume.read(4 * MIB, 2 * MIB).await), ErrorKind::Corrupt);
        for leaf in (0..8).filter(|leaf| *leaf != 5) {
            holds(&volume, leaf * 256, leaf * 100 + 1).await;
            put(&volume, leaf * 256, leaf * 100 + 50).await.unwrap();
        }
        pool.checkpoint().await.unwrap();
    });
    let (local, pool, volume) = opened(&disk.after(Crash::Power));
    local.block_on(async {
        assert_eq!(kind(pool.check().await), ErrorKind::Corrupt);
        for leaf in (0..8).filter(|leaf| *leaf != 5) {
            holds(&volume, leaf * 256, leaf * 100 + 50).await;
        }
    });
}

#[test]
fn a_damaged_root_fails_its_volume_and_no_other() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume_on(&disk, thin(1, 1 << 30));
    local.block_on(async {
        pool.create_volume(thin(2, 1 << 30), Vec::new()).await.unwrap();
        let other = pool.open_volume([2; 16]).unwrap();
        for leaf in 0..4 {
            put(&volume, leaf * 256, leaf + 1).await.unwrap();
            put(&other, leaf * 256, leaf + 11).await.unwrap();
        }
        pool.close().await.unwrap();
    });
    for root in disk.nodes(1, 1) {
        disk.flip(root, 64);
    }
    let (local, pool, volume) = opened(&disk);
    local.block_on(async {
        let other = pool.open_volume([2; 16]).unwrap();
        for leaf in 0..4 {
            assert_eq!(kind(volume.read(leaf * MIB, 4096).await), ErrorKind::Corrupt);
            holds(&other, leaf * 256, leaf + 11).await;
        }
        put(&other, 1, 30).await.unwrap();
        pool.checkpoint().await.unwrap();
        pool.close().await.unwrap();
    });
}

/// A node that cannot be read for a moment is no damage.
#[test]
fn a_node_that_could_not_be_read_once_is_read_the_next_time() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume_on(&disk, thin(1, 1 << 30));
    local.block_on(async {
        put(&volume, 1000, 7).await.unwrap();
        pool.close().await.unwrap();
    });
    drop(volume);
    let (local, pool, volume) = opened(&disk);
    local.block_on(async {
        disk.fail(Target::Read, 0, 1, ErrorKind::Device);
        assert_eq!(kind(volume.read(1000 * 4096, 4096).await), ErrorKind::Device);
        holds(&volume, 1000, 7).await;
        assert_eq!(pool.status().health, Health::Healthy);
    });
}

#[test]
fn a_damaged_catalog_is_an_error_and_no_panic() {
    let pristine = {
        let disk = Scripted::new(32 * MIB);
        let (local, pool, volume) = volume_on(&disk, thin(1, 1 << 30));
        local.block_on(async {
            put(&volume, 1, 1).await.unwrap();
            pool.close().await.unwrap();
        });
        disk
    };
    let mut refused = 0;
    for page in (0..512u64).step_by(3) {
        let disk = pristine.after(Crash::Process);
        disk.flip(MIB + page * 4096, usize::try_from(page * 13 % 4096).unwrap());
        match try_open(&disk.disk(), small(SLAB)) {
            (_, Err(error)) => {
                refused += 1;
                assert!(matches!(error.kind, ErrorKind::Corrupt | ErrorKind::Device), "{page}: {error}");
            }
            (local, Ok(pool)) => {
                // Not a page in use, or one of which there is another copy.
                let volume = pool.open_volume([1; 16]).unwrap();
                local.block_on(holds(&volume, 1, 1));
            }
        }
    }
    assert!(refused > 0, "some pages matter");
}

#[test]
fn a_damaged_label_is_made_up_for_by_the_other_copies() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool, volume) = volume_on(&disk, thin(1, 1 << 30));
    local.block_on(async {
        put(&volume, 1, 1).await.unwrap();
        pool.close().await.unwrap();
    });
    let end = 32 * MIB;
    let copies = [4096, 8192, end - 8192, end - 4096];
    let there: Vec<u64> = copies.into_iter().filter(|at| disk.page(*at).starts_with(b"PALISADE")).collect();
    assert!(there.len() >= 2, "at the head and at the tail");
    for at in &there[1..] {
        disk.flip(*at, 30);
    }
    let (local, _pool, volume) = opened(&disk);
    local.block_on(holds(&volume, 1, 1));
    let disk = disk.after(Crash::Process);
    disk.flip(there[0], 30);
    let (_, result) = try_open(&disk.disk(), small(SLAB));
    let error = result.map(|_| ()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Format | ErrorKind::Corrupt | ErrorKind::NotFound), "{error}");
}
