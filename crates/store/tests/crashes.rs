//! A crash at every single step of what changes a pool: it opens, holds what was acknowledged, and its accounts are
//! right. Each step is tried twice: the process ends, and the power fails.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::testing::join_all;
use block::{ErrorKind, Volume};
use std::sync::Arc;
use store::{Pool, StoreVolume, VolumeSpec};
use support::scripted::{Crash, Scripted};
use support::steps::{LIMIT, at_every_step, options, prepared};
use support::{Local, holds, new_pool, pattern_page, put, put_run, reopen, sound, thin, try_open, unmap};

const MIB: u64 = 1 << 20;

fn volume(pool: &Pool, id: u8) -> Option<Arc<StoreVolume>> {
    pool.open_volume([id; 16]).ok()
}

/// The seed among `candidates` whose pattern block `address` holds.
async fn one_of(volume: &StoreVolume, address: u64, candidates: &[u64]) -> u64 {
    let found = volume.read(address * 4096, 4096).await.unwrap().concat();
    let seed = candidates.iter().copied().find(|seed| found == pattern_page(*seed));
    seed.unwrap_or_else(|| panic!("block {address} holds none of {candidates:?}"))
}

/// A volume of 12 leaves with 3 blocks each.
async fn twelve_leaves(pool: &Pool) {
    pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
    let volume = pool.open_volume([1; 16]).unwrap();
    for leaf in 0..12 {
        put_run(&volume, leaf * 256, 1 + leaf * 10, 3).await.unwrap();
    }
}

async fn holds_twelve_leaves(volume: &StoreVolume) {
    for leaf in 0..12 {
        holds(volume, leaf * 256, 1 + leaf * 10).await;
        holds(volume, leaf * 256 + 2, 3 + leaf * 10).await;
        holds(volume, leaf * 256 + 3, 0).await;
    }
}

#[test]
fn a_snapshot_is_there_or_not() {
    let base = prepared(twelve_leaves);
    let steps = at_every_step(
        &base,
        async |pool, _| {
            pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await?;
            put(&volume(pool, 1).unwrap(), 0, 900).await
        },
        async |pool, done, step| {
            let first = volume(pool, 1).unwrap();
            let now = one_of(&first, 0, &[1, 900]).await;
            match volume(pool, 2) {
                Some(snapshot) => holds_twelve_leaves(&snapshot).await,
                None => assert!(done.is_none() && now == 1, "nothing is written before it, step {step}"),
            }
            assert!(done.is_none() || now == 900);
            put(&first, 0, 1).await.unwrap();
            holds_twelve_leaves(&first).await;
        },
    );
    assert!(steps >= 5, "{steps}");
}

#[test]
fn a_clone_is_there_or_not_and_goes_its_own_way() {
    let base = prepared(twelve_leaves);
    at_every_step(
        &base,
        async |pool, _| {
            pool.clone_volume([1; 16], [3; 16], Vec::new()).await?;
            let clone = volume(pool, 3).unwrap();
            put(&clone, 0, 901).await?;
            unmap(&clone, 256, 256).await
        },
        async |pool, done, _| {
            let first = volume(pool, 1).unwrap();
            holds_twelve_leaves(&first).await;
            let Some(clone) = volume(pool, 3) else {
                assert!(done.is_none());
                return;
            };
            let (written, unmapped) =
                (one_of(&clone, 0, &[1, 901]).await, one_of(&clone, 256, &[11, 0]).await);
            assert!(unmapped == 11 || written == 901, "in order");
            assert!(done.is_none() || (written, unmapped) == (901, 0));
            put(&clone, 512, 77).await.unwrap();
            holds_twelve_leaves(&first).await;
            holds(&clone, 512, 77).await;
        },
    );
}

/// A snapshot is deleted and its layer merged into the volume's, leaf by leaf.
#[test]
fn a_merge_goes_on_after_a_crash_in_any_step() {
    let base = prepared(async |pool| {
        twelve_leaves(pool).await;
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        let volume = volume(pool, 1).unwrap();
        put(&volume, 256, 500).await.unwrap();
        unmap(&volume, 512, 2).await.unwrap();
        put(&volume, 13 * 256, 501).await.unwrap();
    });
    at_every_step(
        &base,
        async |pool, _| {
            pool.delete_snapshot([2; 16], Vec::new()).await?;
            let volume = volume(pool, 1).unwrap();
            put(&volume, 768, 502).await?;
            pool.settle().await
        },
        async |pool, done, _| {
            let first = volume(pool, 1).unwrap();
            let written = one_of(&first, 768, &[31, 502]).await;
            let deleted = volume(pool, 2).is_none();
            assert!(deleted || done.is_none());
            assert!(done.is_none() || written == 502);
            pool.settle().await.unwrap();
            let expected =
                [(0, 1), (2, 3), (256, 500), (257, 12), (512, 0), (513, 0), (514, 23), (13 * 256, 501)];
            for (address, seed) in expected {
                holds(&first, address, seed).await;
            }
            if deleted {
                // 36 blocks and one more; two were unmapped, and two overwritten.
                assert_eq!(pool.status().data_bytes, 35 * 4096);
            } else {
                holds_twelve_leaves(&volume(pool, 2).unwrap()).await;
            }
        },
    );
}

#[test]
fn a_deleted_volume_gives_its_space_back_after_a_crash_in_any_step() {
    let base = prepared(async |pool| {
        twelve_leaves(pool).await;
        pool.create_volume(thin(5, MIB), Vec::new()).await.unwrap();
        put(&volume(pool, 5).unwrap(), 9, 55).await.unwrap();
    });
    at_every_step(
        &base,
        async |pool, _| {
            pool.delete_volume([1; 16], Vec::new()).await?;
            pool.settle().await
        },
        async |pool, done, _| {
            let deleted = volume(pool, 1).is_none();
            assert!(deleted || done.is_none());
            holds(&volume(pool, 5).unwrap(), 9, 55).await;
            pool.settle().await.unwrap();
            match volume(pool, 1) {
                Some(first) => holds_twelve_leaves(&first).await,
                None => {
                    let status = pool.status();
                    assert_eq!((status.data_bytes, status.map_bytes), (4096, 4096));
                }
            }
        },
    );
}

/// Two snapshots, a clone, and all of the middle goes: layers are emptied and merged one after the other.
#[test]
fn a_tree_of_layers_comes_down_after_a_crash_in_any_step() {
    let base = prepared(async |pool| {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        let first = volume(pool, 1).unwrap();
        for (snapshot, seed) in [(2, 100), (3, 200)] {
            for leaf in 0..3 {
                put_run(&first, leaf * 256 + seed / 100, seed + leaf * 10, 2).await.unwrap();
            }
            pool.snapshot_volume([1; 16], [snapshot; 16], Vec::new()).await.unwrap();
        }
        pool.clone_volume([2; 16], [4; 16], Vec::new()).await.unwrap();
        put(&volume(pool, 4).unwrap(), 1, 400).await.unwrap();
        put(&first, 2, 300).await.unwrap();
    });
    at_every_step(
        &base,
        async |pool, _| {
            pool.delete_snapshot([3; 16], Vec::new()).await?;
            pool.delete_volume([4; 16], Vec::new()).await?;
            pool.delete_snapshot([2; 16], Vec::new()).await?;
            pool.settle().await
        },
        async |pool, done, _| {
            pool.settle().await.unwrap();
            let first = volume(pool, 1).unwrap();
            for (address, seed) in [(1, 100), (2, 300), (3, 201), (257, 110), (258, 210), (259, 211), (4, 0)]
            {
                holds(&first, address, seed).await;
            }
            if let Some(clone) = volume(pool, 4) {
                holds(&clone, 1, 400).await;
                holds(&clone, 2, 101).await;
                holds(&clone, 3, 0).await;
            }
            if done.is_some() {
                assert_eq!(pool.status().data_bytes, 9 * 4096, "every block once");
            }
        },
    );
}

#[test]
fn a_grown_disk_has_its_old_size_or_its_new_one() {
    let base = prepared(twelve_leaves);
    let small_usable = {
        let (_, pool) = reopen(&base.after(Crash::Process).disk(), options());
        pool.status().usable_bytes
    };
    let steps = at_every_step(
        &base,
        async |pool, disk| {
            disk.enlarge(40 * MIB);
            let first = volume(pool, 1).unwrap();
            put(&first, 5000, 42).await?;
            pool.grow_disk(0, 40 * MIB).await?;
            // Of the new space at once.
            assert!(pool.status().usable_bytes > small_usable + 15 * MIB);
            put(&first, 5001, 43).await
        },
        async |pool, done, _| {
            let first = volume(pool, 1).unwrap();
            holds_twelve_leaves(&first).await;
            let usable = pool.status().usable_bytes;
            assert!(usable == small_usable || usable > small_usable + 15 * MIB, "{usable}");
            if done.is_some() {
                assert!(usable > small_usable);
                holds(&first, 5001, 43).await;
            }
            pool.grow_disk(0, 40 * MIB).await.unwrap();
            assert!(pool.status().usable_bytes > small_usable + 15 * MIB);
            let (shrunk, before) = (pool.grow_disk(0, 24 * MIB).await, pool.status());
            assert_eq!(shrunk.unwrap_err().kind, ErrorKind::Invalid);
            assert_eq!(pool.status().usable_bytes, before.usable_bytes);
            put_run(&first, 6000, 1, 512).await.unwrap();
        },
    );
    assert!(steps >= 5, "{steps}");
}

/// Whichever label is written last, the disk does not become smaller.
#[test]
fn two_growths_at_once_end_at_the_larger_size() {
    for sizes in [[40, 32], [32, 40]] {
        let disk = Scripted::new(24 * MIB);
        let (local, pool) = new_pool(&disk.disk(), options());
        local.lazy.store(true, std::sync::atomic::Ordering::Relaxed);
        disk.enlarge(40 * MIB);
        let results = local.block_on(join_all(sizes.map(|mib| pool.grow_disk(0, mib * MIB)).into()));
        let refused = results.iter().filter(|result| result.is_err()).count();
        assert_eq!(refused, usize::from(sizes[0] > sizes[1]), "smaller than it is now: {results:?}");
        let usable = pool.status().usable_bytes;
        assert!(usable > 30 * MIB, "{usable}");
        let (local, pool) = reopen(&disk.after(Crash::Power).disk(), options());
        local.block_on(sound(&pool));
        assert_eq!(pool.status().usable_bytes, usable);
    }
}

#[test]
fn an_unmap_across_leaves_ends_block_by_block() {
    let base = prepared(twelve_leaves);
    at_every_step(
        &base,
        async |pool, _| unmap(&volume(pool, 1).unwrap(), 1, 11 * 256).await,
        async |pool, done, _| {
            let first = volume(pool, 1).unwrap();
            holds(&first, 0, 1).await;
            let mut gone = 0;
            for leaf in 1..=10 {
                gone += u32::from(one_of(&first, leaf * 256, &[1 + leaf * 10, 0]).await == 0);
            }
            assert!(done.is_none() || gone == 10);
            holds(&first, 11 * 256 + 1, 112).await;
        },
    );
}

#[test]
fn a_checkpoint_is_made_or_not_and_writes_go_on_beside_it() {
    let base = prepared(twelve_leaves);
    let steps = at_every_step(
        &base,
        async |pool, _| {
            let first = volume(pool, 1).unwrap();
            let mut acknowledged = 0;
            for round in 0..3 {
                for leaf in 0..12 {
                    put(&first, leaf * 256 + 100 + round, 1000 + round * 20 + leaf).await?;
                    acknowledged += 1;
                }
                pool.checkpoint().await?;
            }
            Ok::<u64, block::BlockError>(acknowledged)
        },
        async |pool, done, step| {
            let first = volume(pool, 1).unwrap();
            holds_twelve_leaves(&first).await;
            let mut missing = false;
            for round in 0..3 {
                for leaf in 0..12 {
                    let seed = 1000 + round * 20 + leaf;
                    let there = one_of(&first, leaf * 256 + 100 + round, &[0, seed]).await != 0;
                    assert!(
                        !there || !missing,
                        "writes that waited for each other are there in order: {step}"
                    );
                    missing |= !there;
                }
            }
            assert!(done != Some(&36) || !missing);
        },
    );
    assert!(steps > 36, "{steps}");
}

#[test]
fn a_volume_and_its_facts_are_made_resized_and_deleted_as_one() {
    let fact = |value: &str| vec![("volume".to_owned(), "v".to_owned(), Some(value.as_bytes().to_vec()))];
    let base = prepared(async |_| {});
    at_every_step(
        &base,
        async |pool, _| {
            let spec = VolumeSpec { thick: true, ..thin(7, MIB) };
            pool.create_volume(spec, fact("made")).await?;
            pool.resize_volume([7; 16], 2 * MIB, fact("grown")).await?;
            let gone = vec![("volume".to_owned(), "v".to_owned(), None)];
            pool.delete_volume([7; 16], gone).await
        },
        async |pool, done, _| {
            let facts = pool.facts("volume").await.unwrap();
            let fact = facts.first().map(|(_, value)| String::from_utf8(value.clone()).unwrap());
            let sizes: Vec<_> = pool.volumes().iter().map(|volume| volume.size_bytes).collect();
            let expected = match fact.as_deref() {
                None => vec![],
                Some("made") => vec![MIB],
                Some(_) => vec![2 * MIB],
            };
            assert_eq!(sizes, expected, "{fact:?}");
            assert!(done.is_none() || sizes.is_empty());
            let reserved = pool.status().reserved_bytes;
            assert_eq!(reserved > 0, !sizes.is_empty(), "what is thick is reserved after a crash, too");
        },
    );
}

/// Nothing is half a pool: the disk can be opened, or be made one anew.
#[test]
fn a_crash_while_a_pool_is_made_leaves_a_pool_or_none() {
    let mut outcomes = [0, 0];
    for step in 1.. {
        let disk = Scripted::new(24 * MIB);
        disk.crash_after(step);
        let local = Local::new();
        let created = Pool::create(vec![disk.disk()], "test", options(), local.clone());
        let created = local.run_until_stuck(created, LIMIT);
        let ended = disk.steps() < step;
        for crash in [Crash::Process, Crash::Power] {
            let disk = disk.after(crash);
            let (local, result) = try_open(&disk.disk(), options());
            match result {
                Ok(pool) => {
                    outcomes[0] += 1;
                    local.block_on(sound(&pool));
                }
                Err(error) => {
                    outcomes[1] += 1;
                    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
                    assert!(!matches!(created, Some(Ok(_))), "what was made is there");
                    let (local, pool) = new_pool(&disk.disk(), options());
                    local.block_on(sound(&pool));
                }
            }
        }
        if ended {
            break;
        }
    }
    assert!(outcomes.iter().all(|count| *count > 2), "{outcomes:?}");
}

/// Opening replays, ends the epoch, and may crash at any step of that: the next one does it again.
#[test]
fn an_opening_that_crashes_is_repeated() {
    let disk = Scripted::new(24 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(twelve_leaves(&pool));
    let base = disk.after(Crash::Power);
    drop((local, pool));
    for step in 1.. {
        let disk = base.after(Crash::Process);
        disk.crash_after(step);
        let local = Local::new();
        let opened = Pool::open(vec![disk.disk()], options(), local.clone());
        let opened = local.run_until_stuck(opened, LIMIT);
        let ended = disk.steps() < step;
        for crash in [Crash::Process, Crash::Power] {
            let disk = disk.after(crash);
            let (local, pool) = reopen(&disk.disk(), options());
            local.block_on(async {
                holds_twelve_leaves(&volume(&pool, 1).unwrap()).await;
                sound(&pool).await;
            });
        }
        if ended {
            assert!(matches!(opened, Some(Ok(_))));
            assert!(step > 3, "an opening after a crash writes");
            break;
        }
    }
}
