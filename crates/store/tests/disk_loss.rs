//! A disk of a mirror fails while hosts write: they are not told, nothing is lost, and what the disk has missed is never
//! taken for current.

mod support;

use block::{ErrorKind, Result, Runtime, SanitizeMethod, Volume};
use std::sync::Arc;
use std::time::Duration;
use store::{DiskState, Pool, PoolOptions, Redundancy};
use support::scripted::{Crash, Lands, Scripted, Target};
use support::{Local, holds, pattern_page, put, put_run, small, sound, thin};

const MIB: u64 = 1 << 20;
const BLOCKS: u64 = 300;

fn options(redundancy: Redundancy) -> PoolOptions {
    PoolOptions { redundancy, ..small(64 << 10) }
}

fn scripted(count: usize) -> Vec<Arc<Scripted>> {
    (0..count).map(|_| Scripted::new(24 * MIB)).collect()
}

fn create(disks: &[Arc<Scripted>], class: Redundancy) -> (Arc<Local>, Arc<Pool>) {
    let local = Local::new();
    let given = disks.iter().map(Scripted::disk).collect();
    let created = local.block_on(Pool::create(given, "p", options(class), local.clone()));
    (local, created.expect("create"))
}

fn open(disks: &[Arc<Scripted>]) -> (Arc<Local>, Result<Arc<Pool>>) {
    let local = Local::new();
    let given = disks.iter().map(Scripted::disk).collect();
    let opened = local.block_on(Pool::open(given, options(Redundancy::Single), local.clone()));
    (local, opened)
}

/// A pool of `count` disks with an empty volume.
fn pool(count: usize, class: Redundancy) -> (Vec<Arc<Scripted>>, Arc<Local>, Arc<Pool>) {
    let disks = scripted(count);
    let (local, pool) = create(&disks, class);
    local.block_on(pool.create_volume(thin(1, 8 * MIB), Vec::new())).expect("room for a volume");
    (disks, local, pool)
}

/// Writes block after block, with a checkpoint now and then. Every write has to succeed.
async fn write_all(pool: &Pool) {
    let volume = pool.open_volume([1; 16]).expect("the volume");
    for block in 0..BLOCKS {
        put(&volume, block, block + 1).await.expect("hosts see no error");
        if block % 100 == 99 {
            pool.checkpoint().await.expect("a checkpoint goes on");
        }
    }
}

async fn all_there(pool: &Pool) {
    let volume = pool.open_volume([1; 16]).expect("the volume");
    for block in 0..BLOCKS {
        holds(&volume, block, block + 1).await;
    }
    sound(pool).await;
}

fn state_of(pool: &Pool, index: usize) -> DiskState {
    pool.disks()[index].state
}

/// After the power failed, the pool opens on all disks and on those that are not lost, with all that was acknowledged.
fn survives(disks: &[Arc<Scripted>], lost: usize) {
    let after: Vec<_> = disks.iter().map(|disk| disk.after(Crash::Power)).collect();
    let (local, pool) = open(&after);
    let pool = pool.expect("the others have all there is");
    assert_eq!(state_of(&pool, lost), DiskState::Lost, "what it missed is not current");
    local.block_on(all_there(&pool));
    drop(pool);
    let left: Vec<_> =
        (0..disks.len()).filter(|i| *i != lost).map(|i| disks[i].after(Crash::Power)).collect();
    let (local, pool) = open(&left);
    local.block_on(all_there(&pool.expect("the lost disk is not wanted")));
}

#[test]
fn a_disk_of_two_that_fails_for_good_is_not_noticed_by_hosts_whatever_fails_first() {
    for target in [Target::Host, Target::Nodes, Target::Flush, Target::Catalog] {
        for lost in [0, 1] {
            for skip in [0, 1, 7] {
                let (disks, local, pool) = pool(2, Redundancy::Mirror2);
                disks[lost].fail(target, skip, u32::MAX, ErrorKind::Device);
                local.block_on(write_all(&pool));
                if state_of(&pool, lost) != DiskState::Lost {
                    // It was not asked often enough to fail.
                    assert!(disks[lost].count(target) <= u64::from(skip) + 40, "{target:?} {skip}");
                    continue;
                }
                assert_eq!(state_of(&pool, 1 - lost), DiskState::Current);
                local.block_on(all_there(&pool));
                survives(&disks, lost);
            }
        }
    }
}

#[test]
fn one_write_that_fails_is_enough_to_lose_a_disk_however_much_of_it_landed() {
    for lands in [Lands::Nothing, Lands::FirstHalf, Lands::All] {
        let (disks, local, pool) = pool(3, Redundancy::Mirror2);
        let lost = (0..3).find(|i| {
            disks[*i].fail_after(Target::Host, 0, lands);
            local.block_on(async {
                let volume = pool.open_volume([1; 16]).expect("the volume");
                put_run(&volume, 500, 500, 4).await.expect("hosts see no error");
            });
            let lost = state_of(&pool, *i) == DiskState::Lost;
            disks[*i].heal();
            lost
        });
        let lost = lost.expect("some disk has the segment that is being written");
        local.block_on(write_all(&pool));
        local.block_on(all_there(&pool));
        survives(&disks, lost);
    }
}

#[test]
fn mirror3_does_without_two_disks_one_after_the_other() {
    let (disks, local, pool) = pool(3, Redundancy::Mirror3);
    disks[2].fail(Target::Host, 3, u32::MAX, ErrorKind::Device);
    disks[0].fail(Target::Flush, 9, u32::MAX, ErrorKind::Device);
    disks[0].fail(Target::Host, 40, u32::MAX, ErrorKind::Device);
    local.block_on(write_all(&pool));
    assert_eq!([0, 1, 2].map(|i| state_of(&pool, i)), [DiskState::Lost, DiskState::Current, DiskState::Lost]);
    local.block_on(all_there(&pool));
    survives(&disks, 0);
}

#[test]
fn the_last_disk_is_not_given_up_and_its_errors_are_told() {
    let (disks, local, pool) = pool(2, Redundancy::Mirror2);
    disks[0].fail(Target::Host, 0, u32::MAX, ErrorKind::Device);
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).expect("the volume");
        put(&volume, 0, 1).await.expect("one is left");
        disks[1].fail(Target::Host, 0, 1, ErrorKind::Device);
        let error = put(&volume, 1, 2).await.expect_err("none is left");
        assert_eq!(error.kind, ErrorKind::Device);
        put(&volume, 1, 3).await.expect("it works again");
        holds(&volume, 0, 1).await;
        holds(&volume, 1, 3).await;
    });
    assert_eq!([0, 1].map(|i| state_of(&pool, i)), [DiskState::Lost, DiskState::Current]);
}

#[test]
fn class_single_tells_of_errors_and_loses_no_disk() {
    let (disks, local, pool) = pool(2, Redundancy::Single);
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).expect("the volume");
        put_run(&volume, 0, 1, 64).await.expect("both are well");
        disks.iter().for_each(|disk| disk.fail(Target::Host, 0, 1, ErrorKind::Device));
        let error = put(&volume, 100, 5).await.expect_err("there is no other copy");
        assert_eq!(error.kind, ErrorKind::Device);
    });
    assert!([0, 1].iter().all(|i| state_of(&pool, *i) == DiskState::Current));
}

#[test]
fn a_disk_that_hangs_is_lost_after_half_a_minute_and_hosts_go_on() {
    for target in [Target::Host, Target::Flush] {
        let (disks, local, pool) = pool(2, Redundancy::Mirror2);
        disks[1].hold(target);
        let begun = local.now_for_tests();
        local.block_on(write_all(&pool));
        let took = local.now_for_tests() - begun;
        assert_eq!(state_of(&pool, 1), DiskState::Lost, "{target:?}");
        assert!((30..40).contains(&took.as_secs()), "{took:?} for {target:?}");
        local.block_on(all_there(&pool));
        disks[1].release(target);
        survives(&disks, 1);
    }
}

#[test]
fn a_read_that_hangs_is_done_from_the_other_copy() {
    let (disks, local, pool) = pool(2, Redundancy::Mirror2);
    local.block_on(write_all(&pool));
    disks[0].hold(Target::Read);
    let begun = local.now_for_tests();
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).expect("the volume");
        for block in 0..40 {
            holds(&volume, block, block + 1).await;
        }
    });
    let took = local.now_for_tests() - begun;
    assert!(took < Duration::from_secs(30), "the slow disk is avoided: {took:?}");
    assert_eq!(state_of(&pool, 0), DiskState::Current, "it has all there is");
}

#[test]
fn reads_that_fail_are_mended_and_hosts_see_none_of_it() {
    let (disks, local, pool) = pool(2, Redundancy::Mirror2);
    local.block_on(write_all(&pool));
    disks[0].fail(Target::Read, 0, 30, ErrorKind::Device);
    local.block_on(all_there(&pool));
    disks[0].heal();
    disks[1].fail(Target::Read, 0, 30, ErrorKind::Device);
    local.block_on(all_there(&pool));
    assert!([0, 1].iter().all(|i| state_of(&pool, *i) == DiskState::Current));
}

/// Copies of the disks as they are if the power fails now.
fn power_fails(disks: &[Arc<Scripted>]) -> Vec<Arc<Scripted>> {
    disks.iter().map(|disk| disk.after(Crash::Power)).collect()
}

fn chosen(disks: &[Arc<Scripted>], indexes: [usize; 2]) -> Vec<Arc<Scripted>> {
    indexes.into_iter().map(|index| Arc::clone(&disks[index])).collect()
}

#[test]
fn an_opening_without_a_disk_that_the_power_ends_bars_no_opening_without_another() {
    const STEPS: u64 = 11;
    let (disks, local, pool) = pool(3, Redundancy::Mirror2);
    local.block_on(write_all(&pool));
    let base = power_fails(&disks);
    let mut overruled = 0;
    for (first, second) in (1..STEPS).flat_map(|first| (1..STEPS).map(move |second| (first, second))) {
        let disks = power_fails(&base);
        disks[0].crash_after(first);
        disks[2].crash_after(second);
        drop(open(&chosen(&disks, [0, 2])));
        let disks = power_fails(&disks);
        // Disk 1 is there again, and disk 0 is not.
        let (local, pool) = open(&chosen(&disks, [1, 2]));
        let Ok(pool) = pool else {
            // Disk 2 says that disk 1 is lost, and with disk 0 something may have been acknowledged.
            let (local, pool) = open(&disks);
            local.block_on(all_there(&pool.expect("each disk is there")));
            continue;
        };
        local.block_on(all_there(&pool));
        drop(pool);
        let (local, pool) = open(&power_fails(&disks));
        let pool = pool.expect("one part only has gone on");
        assert_eq!(state_of(&pool, 0), DiskState::Lost, "{first} and {second}: it has missed something");
        local.block_on(all_there(&pool));
        overruled += 1;
    }
    assert!(overruled > 0, "no disk had only begun");
}

#[test]
fn a_disk_that_fails_or_hangs_while_slabs_are_wiped_leaves_and_the_volume_is_sanitized() {
    for hangs in [false, true] {
        let (disks, local, pool) = pool(2, Redundancy::Mirror2);
        local.block_on(write_all(&pool));
        for target in [Target::Read, Target::Host, Target::Relocation, Target::Nodes, Target::Flush] {
            if hangs {
                disks[1].hold(target);
            } else {
                disks[1].fail(target, 2, u32::MAX, ErrorKind::Device);
            }
        }
        let outcome = local.block_on(async {
            let volume = pool.open_volume([1; 16]).expect("the volume");
            volume.sanitize(SanitizeMethod::BlockErase, false).await.expect("nothing is in the way");
            volume.sanitized().await
        });
        assert_eq!(outcome, Ok(()), "hangs: {hangs}");
        assert_eq!(state_of(&pool, 1), DiskState::Lost, "hangs: {hangs}");
        local.block_on(async {
            let volume = pool.open_volume([1; 16]).expect("the volume");
            for block in 0..BLOCKS {
                holds(&volume, block, 0).await;
            }
            put(&volume, 7, 7).await.expect("it is as new");
            sound(&pool).await;
        });
    }
}

#[test]
fn copies_that_are_damaged_in_different_places_make_a_whole_one() {
    let (disks, local, pool) = pool(2, Redundancy::Mirror2);
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).expect("the volume");
        put_run(&volume, 0, 1, 8).await.expect("hosts see no error");
        pool.checkpoint().await.expect("nothing is in the way");
    });
    disks[0].flip(disks[0].pages_of(3)[0], 100);
    disks[1].flip(disks[1].pages_of(6)[0], 100);
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).expect("the volume");
        let data = volume.read(0, 8 * 4096).await.expect("each block is whole on one of them").concat();
        let wanted: Vec<u8> = (1..=8).flat_map(pattern_page).collect();
        assert!(data == wanted, "what is whole is taken from either copy");
        local.sleep(Duration::from_secs(1)).await;
    });
    for disk in &disks {
        assert!([3, 6].iter().all(|seed| disk.pages_of(*seed).len() == 1), "both are mended");
    }
}

#[test]
fn a_label_that_cannot_be_written_anywhere_that_counts_leaves_no_two_labels_of_one_generation() {
    for skip in 0..12 {
        let (disks, local, pool) = pool(3, Redundancy::Mirror2);
        local.block_on(write_all(&pool));
        // Disk 0 fails, and while the labels of the others are told so, these do.
        disks[0].fail(Target::Host, 0, u32::MAX, ErrorKind::Device);
        disks[1].fail(Target::Catalog, skip, 3, ErrorKind::Device);
        disks[2].fail(Target::Catalog, skip, 3, ErrorKind::Device);
        local.block_on(async {
            let volume = pool.open_volume([1; 16]).expect("the volume");
            for block in BLOCKS..BLOCKS + 40 {
                _ = put(&volume, block, block + 1).await;
            }
            _ = pool.checkpoint().await;
        });
        drop(pool);
        let (local, pool) = open(&power_fails(&disks));
        let pool = pool.unwrap_or_else(|error| panic!("after {skip} writes: {error}"));
        local.block_on(all_there(&pool));
    }
}
