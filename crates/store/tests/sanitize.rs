//! Sanitizing a volume: no byte that it held is left on the disk, and nothing else is lost.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::{ByteRange, Durability, ErrorKind, Runtime, Sanitization, SanitizeMethod, Volume};
use bytes::Bytes;
use futures_util::future::join;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use store::{Health, Pool, PoolOptions, StoreVolume, VolumeSpec};
use support::scripted::{Crash, Scripted, Target};
use support::{holds, new_pool, put, put_run, reopen, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;
const SLAB: u64 = 256 << 10;
const NONE: BTreeSet<u64> = BTreeSet::new();

/// What volume 1 holds, or held, and nobody else does.
const OWN: Range<u64> = 1000..2000;
/// What volume 1 held and somebody else has, too.
const SHARED: Range<u64> = 3000..3100;

fn options() -> PoolOptions {
    small(SLAB)
}

fn open(pool: &Pool, id: u8) -> Arc<StoreVolume> {
    pool.open_volume([id; 16]).unwrap()
}

async fn erase(volume: &StoreVolume) {
    volume.sanitize(SanitizeMethod::BlockErase, false).await.unwrap();
}

/// All of the first `blocks` blocks are zeros, and none is mapped.
async fn is_empty(volume: &StoreVolume, blocks: u64) {
    assert_eq!(volume.mapped_bytes(), 0);
    let read = volume.read(0, blocks * 4096).await.unwrap().concat();
    assert!(read.iter().all(|byte| *byte == 0));
}

/// Volume 1 with all kinds of own content, volumes 2 and 3 that share some of it, and snapshot 9.
async fn set_up(pool: &Pool) {
    pool.create_volume(thin(1, 256 * MIB), Vec::new()).await.unwrap();
    pool.create_volume(thin(2, 256 * MIB), Vec::new()).await.unwrap();
    let (one, two) = (open(pool, 1), open(pool, 2));
    put_run(&one, 0, SHARED.start, 50).await.unwrap();
    put_run(&two, 5000, 7000, 100).await.unwrap();
    put_run(&one, 1000, OWN.start, 100).await.unwrap();
    unmap(&one, 1000, 40).await.unwrap();
    pool.snapshot_volume([1; 16], [9; 16], Vec::new()).await.unwrap();
    unmap(&one, 1040, 60).await.unwrap();
    pool.delete_snapshot([9; 16], Vec::new()).await.unwrap();
    pool.snapshot_volume([1; 16], [9; 16], Vec::new()).await.unwrap();
    put_run(&one, 0, OWN.start + 200, 10).await.unwrap();
    put_run(&one, 0, OWN.start + 300, 5).await.unwrap();
    put_run(&one, 3000, SHARED.start + 50, 32).await.unwrap();
    let copied = two.copy_from(9500 * 4096, 32 * 4096, &*one, 3000 * 4096).expect("one pool");
    assert_eq!(copied.await.unwrap(), []);
    for i in 0..10u64 {
        put(&one, 4000 + 300 * i, OWN.start + 400 + i).await.unwrap();
        put(&two, 5200 + 300 * i, 7200 + i).await.unwrap();
    }
    pool.checkpoint().await.unwrap();
    put_run(&one, 3200, OWN.start + 500, 30).await.unwrap();
    put_run(&two, 5100, 7100, 30).await.unwrap();
}

/// What the others have is as it was.
async fn others_are_whole(pool: &Pool) {
    let (two, snapshot) = (open(pool, 2), open(pool, 9));
    for (address, seed, count) in [(5000, 7000, 100), (5100, 7100, 30), (9500, SHARED.start + 50, 32)] {
        for i in 0..count {
            holds(&two, address + i, seed + i).await;
        }
    }
    for i in 0..10 {
        holds(&two, 5200 + 300 * i, 7200 + i).await;
    }
    for i in 0..50 {
        holds(&snapshot, i, SHARED.start + i).await;
    }
}

async fn run_and_check(disk: &Scripted, pool: &Pool) {
    let one = open(pool, 1);
    one.sanitized().await.unwrap();
    assert_eq!(one.sanitization(), Sanitization::Idle);
    is_empty(&one, 9000).await;
    others_are_whole(pool).await;
    assert_eq!(disk.remains(OWN), NONE);
    pool.settle().await.unwrap();
    sound(pool).await;
    put_run(&one, 0, 8000, 20).await.unwrap();
    holds(&one, 19, 8019).await;
    assert_eq!(pool.status().health, Health::Healthy);
}

#[test]
fn nothing_of_what_only_the_volume_held_is_left_on_the_disk_and_all_that_others_hold_is() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        set_up(&pool).await;
        assert!(disk.remains(OWN).len() > 150, "there is something to be wiped");
        let one = open(&pool, 1);
        assert!(one.can_sanitize() && !open(&pool, 9).can_sanitize());
        erase(&one).await;
        run_and_check(&disk, &pool).await;
    });
}

#[test]
fn it_goes_on_after_a_crash_at_any_step() {
    let disk = Scripted::new(32 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(set_up(&pool));
    let steps = {
        let disk = disk.after(Crash::Process);
        let (local, pool) = reopen(&disk.disk(), options());
        let before = disk.steps();
        local.block_on(async {
            erase(&open(&pool, 1)).await;
            open(&pool, 1).sanitized().await.unwrap();
        });
        disk.steps() - before
    };
    assert!(steps > 100, "{steps}");
    // Not in step with anything that happens every so often.
    let every = usize::try_from(steps / 40).unwrap() | 1;
    for step in (1..steps).step_by(every) {
        let first = disk.after(Crash::Process);
        let (local, pool) = reopen(&first.disk(), options());
        first.crash_after(step);
        let begun = local.run_until_stuck(
            async {
                let begun = open(&pool, 1).sanitize(SanitizeMethod::BlockErase, false).await.is_ok();
                if begun {
                    let _ = open(&pool, 1).sanitized().await;
                }
                begun
            },
            Duration::from_secs(60),
        );
        let how = if step % 2 == 0 { Crash::Power } else { Crash::Process };
        let second = first.after(how);
        let (local, pool) = reopen(&second.disk(), options());
        local.block_on(async {
            let one = open(&pool, 1);
            let running = one.sanitization() != Sanitization::Idle;
            if running {
                let refused = one.read(0, 4096).await.unwrap_err();
                assert_eq!(refused.kind, ErrorKind::Busy);
            } else if one.mapped_bytes() > 0 {
                assert_ne!(begun, Some(true), "what was begun is not forgotten");
                erase(&one).await;
            }
            run_and_check(&second, &pool).await;
        });
    }
}

#[test]
fn meanwhile_the_volume_answers_busy_and_others_go_on() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(set_up(&pool));
    local.block_on(async {
        let (one, two) = (open(&pool, 1), open(&pool, 2));
        disk.hold(Target::Relocation);
        erase(&one).await;
        local.sleep(Duration::from_secs(1)).await;
        let Sanitization::Running { progress } = one.sanitization() else { panic!("it runs") };
        assert!(progress > 0, "free slabs are wiped");
        let data = || vec![Bytes::from(vec![1; 4096])];
        let range = ByteRange { offset: 0, len: 4096 };
        let copied = two.copy_from(0, 32 * 4096, &*one, 0).expect("one pool");
        let refusals = [
            one.read(0, 4096).await.err(),
            one.write(0, data(), Durability::Default).await.err(),
            one.write_atomic(0, data(), Durability::Default).await.err(),
            one.unmap(vec![range]).await.err(),
            one.compare_and_write(0, data(), data(), Durability::Default).await.err(),
            one.flush().await.err(),
            one.extents(0, 4096, 1).await.err(),
            copied.await.err(),
            one.sanitize(SanitizeMethod::BlockErase, true).await.err(),
            one.leave_failed_sanitize().await.err(),
            pool.resize_volume([1; 16], 512 * MIB, Vec::new()).await.err(),
            pool.snapshot_volume([1; 16], [8; 16], Vec::new()).await.err(),
            pool.clone_volume([1; 16], [8; 16], Vec::new()).await.err(),
        ];
        for (i, refusal) in refusals.into_iter().enumerate() {
            assert_eq!(refusal.map(|error| error.kind), Some(ErrorKind::Busy), "operation {i}");
        }
        let other = one.sanitize(SanitizeMethod::Overwrite(Bytes::from(vec![1; 100])), true).await;
        assert_eq!(other.unwrap_err().kind, ErrorKind::Invalid, "100 bytes are no pattern");
        let snapshot = open(&pool, 9).sanitize(SanitizeMethod::BlockErase, true).await;
        assert_eq!(snapshot.unwrap_err().kind, ErrorKind::Invalid);
        put_run(&two, 100, 8000, 30).await.unwrap();
        holds(&two, 129, 8029).await;
        disk.release(Target::Relocation);
        run_and_check(&disk, &pool).await;
        holds(&two, 129, 8029).await;
    });
}

#[test]
fn closing_does_not_wait_for_its_end_and_the_next_opening_goes_on() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        set_up(&pool).await;
        let one = open(&pool, 1);
        disk.hold(Target::Relocation);
        erase(&one).await;
        local.sleep(Duration::from_secs(1)).await;
        let waiter = one.sanitized();
        let (closed, ()) = join(pool.close(), async { disk.release(Target::Relocation) }).await;
        closed.unwrap();
        assert_eq!(waiter.await.unwrap_err().kind, ErrorKind::Closed);
        assert_ne!(disk.remains(OWN), NONE, "closed before the end");
    });
    let (local, pool) = reopen(&disk.disk(), options());
    local.block_on(async {
        assert!(matches!(open(&pool, 1).sanitization(), Sanitization::Running { .. }));
        run_and_check(&disk, &pool).await;
    });
}

#[test]
fn what_a_deleted_volume_held_goes_all_the_same() {
    for early in [true, false] {
        let disk = Scripted::new(64 * MIB);
        let (local, pool) = new_pool(&disk.disk(), options());
        local.block_on(async {
            set_up(&pool).await;
            let one = open(&pool, 1);
            disk.hold(Target::Relocation);
            erase(&one).await;
            if !early {
                local.sleep(Duration::from_secs(1)).await;
            }
            pool.delete_volume([1; 16], Vec::new()).await.unwrap();
            assert_eq!(one.sanitized().await.unwrap_err().kind, ErrorKind::Closed);
            let again = pool.create_volume(thin(1, MIB), Vec::new()).await;
            assert_eq!(again.unwrap_err().kind, ErrorKind::Busy, "its identity is still in use");
        });
        let disk = disk.after(Crash::Process);
        let (local, pool) = reopen(&disk.disk(), options());
        local.block_on(async {
            local.sleep(Duration::from_secs(30)).await;
            assert_eq!(disk.remains(OWN), NONE);
            others_are_whole(&pool).await;
            pool.create_volume(thin(1, MIB), Vec::new()).await.unwrap();
            sound(&pool).await;
        });
    }
}

#[test]
fn what_all_clones_have_overwritten_is_gone_with_the_volume_that_wrote_it() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        pool.create_volume(thin(1, 16 * MIB), Vec::new()).await.unwrap();
        put_run(&open(&pool, 1), 0, SHARED.start, 20).await.unwrap();
        put_run(&open(&pool, 1), 20, OWN.start, 20).await.unwrap();
        for clone in [2, 3] {
            pool.clone_volume([1; 16], [clone; 16], Vec::new()).await.unwrap();
            put_run(&open(&pool, clone), 20, 7000 + 100 * u64::from(clone), 20).await.unwrap();
        }
        unmap(&open(&pool, 3), 25, 5).await.unwrap();
        erase(&open(&pool, 1)).await;
        open(&pool, 1).sanitized().await.unwrap();
        is_empty(&open(&pool, 1), 4096).await;
        assert_eq!(disk.remains(OWN), NONE);
        for i in 0..20 {
            holds(&open(&pool, 2), i, SHARED.start + i).await;
            holds(&open(&pool, 3), i, SHARED.start + i).await;
            holds(&open(&pool, 2), 20 + i, 7200 + i).await;
            holds(&open(&pool, 3), 20 + i, if (5..10).contains(&i) { 0 } else { 7300 + i }).await;
        }
        pool.settle().await.unwrap();
        sound(&pool).await;
    });
}

#[test]
fn a_thick_volume_keeps_its_space() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        let spec =
            VolumeSpec { id: [1; 16], size_bytes: 16 * MIB, thick: true, buffered: false, encrypted: false };
        pool.create_volume(spec, Vec::new()).await.unwrap();
        let free = pool.status().free_bytes;
        let one = open(&pool, 1);
        for i in 0..16 {
            put_run(&one, i * 256, OWN.start + i * 32, 32).await.unwrap();
        }
        erase(&one).await;
        one.sanitized().await.unwrap();
        is_empty(&one, 4096).await;
        assert_eq!((disk.remains(OWN), pool.status().free_bytes), (NONE, free));
        sound(&pool).await;
    });
}

/// Fills volume 2 until there is no space.
async fn fill_up(pool: &Pool) -> u64 {
    let two = open(pool, 2);
    for i in 0.. {
        if let Err(error) = put_run(&two, 10_000 + 16 * i, 100_000 + 16 * i, 16).await {
            assert_eq!(error.kind, ErrorKind::NoSpace);
            return i;
        }
    }
    unreachable!("some day it is full")
}

#[test]
fn it_comes_to_its_end_in_a_pool_that_is_full() {
    for slab in [SLAB, 64 << 10] {
        let disk = Scripted::new(96 * slab + 4 * MIB);
        let (local, pool) = new_pool(&disk.disk(), small(slab));
        local.block_on(async {
            set_up(&pool).await;
            let filled = fill_up(&pool).await;
            erase(&open(&pool, 1)).await;
            run_and_check(&disk, &pool).await;
            for i in 0..filled {
                holds(&open(&pool, 2), 10_000 + 16 * i, 100_000 + 16 * i).await;
            }
        });
    }
}

#[test]
fn damage_that_cannot_be_moved_makes_it_fail_until_that_is_gone() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        set_up(&pool).await;
        let [place] = disk.pages_of(7003)[..] else { panic!("it is there once") };
        disk.flip(place, 77);
        let one = open(&pool, 1);
        erase(&one).await;
        assert_eq!(one.sanitized().await.unwrap_err().kind, ErrorKind::Corrupt);
        assert_eq!(one.sanitization(), Sanitization::Failed { unrestricted_exit: false });
        assert_eq!(one.read(0, 4096).await.unwrap_err().kind, ErrorKind::Device);
        assert_eq!(one.leave_failed_sanitize().await.unwrap_err().kind, ErrorKind::Invalid);
        one.sanitize(SanitizeMethod::BlockErase, true).await.unwrap();
        one.sanitized().await.unwrap_err();
        pool.close().await.unwrap();
    });
    let (local, pool) = reopen(&disk.disk(), options());
    local.block_on(async {
        let one = open(&pool, 1);
        assert_eq!(one.sanitization(), Sanitization::Failed { unrestricted_exit: true });
        one.leave_failed_sanitize().await.unwrap();
        is_empty(&one, 9000).await;
        put(&one, 0, 1).await.unwrap();
        put(&open(&pool, 2), 5003, 7003).await.unwrap();
        erase(&one).await;
        one.sanitized().await.unwrap();
        is_empty(&one, 9000).await;
        assert_eq!(disk.remains(OWN), NONE);
        others_are_whole(&pool).await;
    });
}

/// A pattern of `len` bytes.
fn stripes(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

/// All of volume 1 is the pattern.
async fn is_overwritten(pool: &Pool, pattern: &Bytes) {
    let one = open(pool, 1);
    let len = usize::try_from(one.size_bytes()).unwrap();
    let read = one.read(0, one.size_bytes()).await.unwrap().concat();
    let wanted: Vec<u8> = pattern.iter().copied().cycle().take(len).collect();
    assert!(read == wanted);
}

#[test]
fn overwritten_with_a_pattern_all_of_the_volume_is_that_and_what_it_grows_by_is_zeros() {
    for (len, thick) in [(512, false), (4096, true)] {
        let disk = Scripted::new(64 * MIB);
        let (local, pool) = new_pool(&disk.disk(), options());
        local.block_on(async {
            let size_bytes = 4 * MIB + 1536;
            let spec = VolumeSpec { id: [1; 16], size_bytes, thick, buffered: false, encrypted: false };
            pool.create_volume(spec, Vec::new()).await.unwrap();
            let one = open(&pool, 1);
            put_run(&one, 100, OWN.start, 100).await.unwrap();
            put_run(&one, 150, OWN.start + 100, 100).await.unwrap();
            one.sanitize(SanitizeMethod::Overwrite(stripes(len)), false).await.unwrap();
            one.sanitized().await.unwrap();
            is_overwritten(&pool, &stripes(len)).await;
            assert_eq!((disk.remains(OWN), one.mapped_bytes()), (NONE, size_bytes));
            pool.resize_volume([1; 16], 8 * MIB, Vec::new()).await.unwrap();
            let more = one.read(size_bytes, 8 * MIB - size_bytes).await.unwrap().concat();
            assert!(more.iter().all(|byte| *byte == 0));
            sound(&pool).await;
        });
        drop(pool);
        let (local, pool) = reopen(&disk.disk(), options());
        local.block_on(async { holds(&open(&pool, 1), 1025, 0).await });
    }
}

#[test]
fn overwriting_goes_on_after_a_crash_and_a_pattern_of_zeros_takes_no_space() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        pool.create_volume(thin(1, 8 * MIB), Vec::new()).await.unwrap();
        put_run(&open(&pool, 1), 0, OWN.start, 100).await.unwrap();
    });
    let overwrite = async |pool: &Pool| {
        let one = open(pool, 1);
        one.sanitize(SanitizeMethod::Overwrite(stripes(512)), true).await?;
        one.sanitized().await
    };
    let whole = disk.after(Crash::Process);
    let (local, pool) = reopen(&whole.disk(), options());
    let before = whole.steps();
    local.block_on(overwrite(&pool)).unwrap();
    let steps = whole.steps() - before;
    let mut halves = [0, 0];
    for step in (steps - 150..steps).step_by(11) {
        let first = disk.after(Crash::Process);
        let (local, pool) = reopen(&first.disk(), options());
        first.crash_after(step);
        let ended = local.run_until_stuck(overwrite(&pool), Duration::from_secs(60));
        assert!(ended.is_none_or(|ended| ended.is_err()), "the disk is dead");
        if let Sanitization::Running { progress } = open(&pool, 1).sanitization() {
            halves[usize::from(progress >= 1 << 15)] += 1;
        }
        let second = first.after(Crash::Power);
        let (local, pool) = reopen(&second.disk(), options());
        local.block_on(async {
            open(&pool, 1).sanitized().await.unwrap();
            is_overwritten(&pool, &stripes(512)).await;
            assert_eq!(second.remains(OWN), NONE);
            let zeros = SanitizeMethod::Overwrite(Bytes::from(vec![0; 512]));
            open(&pool, 1).sanitize(zeros, false).await.unwrap();
            open(&pool, 1).sanitized().await.unwrap();
            is_empty(&open(&pool, 1), 2048).await;
        });
    }
    assert!(halves.iter().all(|count| *count > 0), "crashes before it is wiped, and after: {halves:?}");
}

#[test]
fn overwriting_that_does_not_fit_fails_as_a_whole() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        pool.create_volume(thin(1, 256 * MIB), Vec::new()).await.unwrap();
        let one = open(&pool, 1);
        put_run(&one, 0, OWN.start, 100).await.unwrap();
        one.sanitize(SanitizeMethod::Overwrite(stripes(4096)), true).await.unwrap();
        assert_eq!(one.sanitized().await.unwrap_err().kind, ErrorKind::NoSpace);
        assert_eq!(one.sanitization(), Sanitization::Failed { unrestricted_exit: true });
        assert_eq!(one.write(0, vec![], Durability::Default).await.unwrap_err().kind, ErrorKind::Device);
        assert_eq!(disk.remains(OWN), NONE, "that much is done");
        one.leave_failed_sanitize().await.unwrap();
        holds(&one, 65_535, 0).await;
        erase(&one).await;
        one.sanitized().await.unwrap();
        is_empty(&one, 1000).await;
        sound(&pool).await;
    });
}

#[test]
fn several_volumes_at_once_share_a_pass_and_one_that_comes_later_waits_for_the_next() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        for id in 1..=4 {
            pool.create_volume(thin(id, 16 * MIB), Vec::new()).await.unwrap();
            put_run(&open(&pool, id), 0, u64::from(id) * 1000, 100).await.unwrap();
            put_run(&open(&pool, id), 50, u64::from(id) * 1000 + 100, 100).await.unwrap();
        }
        disk.hold(Target::Nodes);
        erase(&open(&pool, 1)).await;
        erase(&open(&pool, 2)).await;
        disk.release(Target::Nodes);
        disk.hold(Target::Relocation);
        local.sleep(Duration::from_secs(1)).await;
        erase(&open(&pool, 3)).await;
        disk.release(Target::Relocation);
        open(&pool, 1).sanitized().await.unwrap();
        assert_eq!(disk.remains(1000..1200), NONE);
        open(&pool, 3).sanitized().await.unwrap();
        assert_eq!(open(&pool, 2).sanitization(), Sanitization::Idle);
        assert_eq!(disk.remains(1000..4000), NONE);
        for i in 50..150 {
            holds(&open(&pool, 4), i, 4050 + i).await;
        }
        sound(&pool).await;
    });
}

#[test]
fn errors_of_the_disk_that_pass_do_not_matter() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        set_up(&pool).await;
        disk.fail(Target::Relocation, 0, 1, ErrorKind::Device);
        disk.fail(Target::Nodes, 1, 2, ErrorKind::Device);
        erase(&open(&pool, 1)).await;
        open(&pool, 1).sanitized().await.unwrap();
        is_empty(&open(&pool, 1), 9000).await;
        others_are_whole(&pool).await;
        assert_eq!(disk.remains(OWN), NONE);
        sound(&pool).await;
    });
}

#[test]
fn if_the_disk_cannot_flush_it_has_failed_until_the_pool_is_opened_anew() {
    let disk = Scripted::new(64 * MIB);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        set_up(&pool).await;
        erase(&open(&pool, 1)).await;
        disk.fail(Target::Flush, 0, 1, ErrorKind::Device);
        assert_eq!(open(&pool, 1).sanitized().await.unwrap_err().kind, ErrorKind::ReadOnly);
        assert!(matches!(pool.status().health, Health::ReadOnly(_)));
        let again = open(&pool, 1).sanitize(SanitizeMethod::BlockErase, true).await;
        assert_eq!(again.unwrap_err().kind, ErrorKind::ReadOnly);
    });
    let disk = disk.after(Crash::Power);
    let (local, pool) = reopen(&disk.disk(), options());
    local.block_on(run_and_check(&disk, &pool));
}
