//! Writes that are all or nothing: in one batch, whatever is beside them, and so for crashes, readers and failures.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::testing::join_all;
use block::{BufferPool, Durability, ErrorKind, Volume};
use bytes::Bytes;
use futures_util::future::join;
use std::sync::Arc;
use store::{Pool, StoreVolume, VolumeSpec};
use support::scripted::{Crash, Lands, Scripted, Target};
use support::{
    Local, disk, holds, new_pool, pattern_page, put, put_run, small, sound, thin, try_open, unmap,
};

const MIB: u64 = 1 << 20;
/// Sixteen blocks: a quarter is written at once.
const TINY: u64 = 64 << 10;
const AT_ONCE: u64 = 4;

fn open(pool: &Pool) -> Arc<StoreVolume> {
    pool.open_volume([1; 16]).unwrap()
}

fn made(disk: &Arc<Scripted>, slab: u64, spec: VolumeSpec) -> (Arc<Local>, Arc<Pool>, Arc<StoreVolume>) {
    let (local, pool) = new_pool(&disk.disk(), small(slab));
    local.block_on(pool.create_volume(spec, Vec::new())).unwrap();
    let volume = open(&pool);
    (local, pool, volume)
}

/// The patterns of `seeds` to as many blocks from `address` on, all or nothing.
async fn put_atomic(volume: &StoreVolume, address: u64, seeds: &[u64]) -> block::Result<()> {
    let data: Vec<u8> = seeds.iter().flat_map(|seed| pattern_page(*seed)).collect();
    let data = BufferPool::new(0).copy_of(&data).freeze();
    volume.write_atomic(address * 4096, vec![data], Durability::Default).await
}

/// Which of `kinds`, each the patterns of all blocks from `address` on, the volume holds.
async fn kind_at<const N: usize>(volume: &StoreVolume, address: u64, kinds: &[[u64; N]]) -> usize {
    let read = volume.read(address * 4096, N as u64 * 4096).await.unwrap().concat();
    let is = |kind: &[u64; N]| read == kind.iter().flat_map(|seed| pattern_page(*seed)).collect::<Vec<_>>();
    let found = kinds.iter().position(is);
    found.unwrap_or_else(|| panic!("blocks {address}+{N} are torn"))
}

#[test]
fn as_much_is_written_at_once_as_a_batch_holds_and_a_quarter_of_a_slab() {
    for (slab, most) in [(TINY, AT_ONCE), (256 << 10, 16), (4 * MIB, 256), (64 * MIB, 256)] {
        let disk = disk(8 * MIB + 50 * slab);
        let (local, pool) = new_pool(&disk, small(slab));
        local.block_on(async {
            pool.create_volume(thin(1, 64 * MIB), Vec::new()).await.unwrap();
            let volume = open(&pool);
            assert_eq!(volume.atomic_bytes_max(), most * 4096);
            let seeds: Vec<_> = (1..=most + 1).collect();
            put_atomic(&volume, 3, &seeds[1..]).await.unwrap();
            let refused = put_atomic(&volume, 3, &seeds).await.unwrap_err();
            assert_eq!((refused.kind, refused.offset), (ErrorKind::Invalid, Some(3 * 4096)));
            for (address, seed) in (3..).zip(&seeds[1..]) {
                holds(&volume, address, *seed).await;
            }
            pool.close().await.unwrap();
        });
    }
}

#[test]
fn within_a_block_a_block_more_is_counted_and_what_is_beside_stays() {
    let disk = Scripted::new(8 * MIB);
    let (local, _pool, volume) = made(&disk, TINY, thin(1, MIB));
    local.block_on(async {
        put_run(&volume, 0, 1, 8).await.unwrap();
        let write = |offset: u64, len: usize| {
            let data = vec![Bytes::from(vec![7; len / 2]), Bytes::from(vec![7; len - len / 2])];
            volume.write_atomic(offset, data, Durability::Durable)
        };
        assert_eq!(write(512, 16384).await.unwrap_err().kind, ErrorKind::Invalid);
        write(512, 15872).await.unwrap();
        write(3 * 4096 + 3584, 1024).await.unwrap();
        let read = volume.read(0, 8 * 4096).await.unwrap().concat();
        assert!(read[..512] == pattern_page(1)[..512] && read[512..16384].iter().all(|byte| *byte == 7));
        assert!(read[16384..16896].iter().all(|byte| *byte == 7));
        assert!(read[16896..20480] == pattern_page(5)[512..]);
        for (offset, len) in [(MIB, 512), (MIB - 512, 1024), (100, 512)] {
            assert_eq!(write(offset, len).await.unwrap_err().kind, ErrorKind::Invalid);
        }
        write(MIB, 0).await.unwrap();
    });
}

/// Many at once, with writes of other sizes between them, so that batches fill up and slabs end anywhere.
#[test]
fn each_is_in_one_batch_whatever_is_queued_beside_it() {
    let disk = Scripted::new(24 * MIB);
    let (local, pool, volume) = made(&disk, TINY, thin(1, 8 * MIB));
    local.block_on(async {
        for round in 0..12_u64 {
            let first = |at: u64| 1 + round * 1000 + at * 20;
            let seeds = |at: u64| [0, 1, 2, 3].map(|more| first(at) + more);
            let both = (0..20).map(|at| {
                let (volume, seeds) = (&volume, seeds(at));
                async move {
                    let beside = put_run(volume, at * 8 + 4, seeds[3] + 1, 1 + (at + round) % 4);
                    let (whole, beside) = join(put_atomic(volume, at * 8, &seeds), beside).await;
                    whole.and(beside)
                }
            });
            assert!(join_all(both.collect()).await.iter().all(Result::is_ok));
            for at in 0..20 {
                let blocks = seeds(at).map(|seed| disk.pages_of(seed));
                let starts = blocks.iter().map(|places| places[0]);
                let start = blocks[0][0];
                assert!(
                    starts.eq((0..4).map(|more| start + more * 4096)),
                    "written side by side: {blocks:?}"
                );
            }
            if round % 4 == 3 {
                pool.checkpoint().await.unwrap();
            }
        }
        sound(&pool).await;
    });
}

/// A crash before, in and after the write of the batch; of what lands in between, a part or all.
#[test]
fn a_crash_leaves_all_of_it_or_nothing() {
    let (old, new) = ([1, 2, 3, 4], [11, 0, 13, 14]);
    let mut found = [0; 2];
    for lands in [Lands::Nothing, Lands::FirstHalf, Lands::All] {
        for crash in [Crash::Process, Crash::Power] {
            for before in 0..18 {
                let disk = Scripted::new(8 * MIB);
                let (local, _pool, volume) = made(&disk, TINY, thin(1, MIB));
                local.block_on(async {
                    put_run(&volume, 0, 1, 4).await.unwrap();
                    for at in 0..before {
                        put(&volume, 20 + at, 1).await.unwrap();
                    }
                });
                // What failed is not repeated, and the process ends before the log goes on behind it.
                disk.fail_after(Target::Host, 0, lands);
                disk.hold(Target::Flush);
                let write = put_atomic(&volume, 0, &new);
                let ended = local.run_until_stuck(write, std::time::Duration::from_millis(1));
                assert!(ended.is_none_or(|result| result.is_err()));
                let disk = disk.after(crash);
                let (local, pool) = try_open(&disk.disk(), small(TINY));
                let pool = pool.unwrap();
                local.block_on(async {
                    found[kind_at(&open(&pool), 0, &[old, new]).await] += 1;
                    sound(&pool).await;
                });
            }
        }
    }
    assert!(found.iter().all(|times| *times > 0), "both are met: {found:?}");
}

/// Lets others run, once.
async fn turn() {
    let mut over = false;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut over, true) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[test]
fn a_reader_sees_all_of_it_or_nothing() {
    let disk = Scripted::new(24 * MIB);
    let (local, _pool, volume) = made(&disk, TINY, thin(1, MIB));
    local.block_on(async {
        let kinds = [[1, 2, 3, 4], [0, 0, 0, 0], [5, 0, 0, 8]];
        put_atomic(&volume, 2, &kinds[0]).await.unwrap();
        let writing = async {
            for turn in 0..200 {
                put_atomic(&volume, 2, &kinds[turn % 3]).await.unwrap();
            }
        };
        let reading = async {
            let mut seen = [0; 3];
            for _ in 0..400 {
                seen[kind_at(&volume, 2, &kinds).await] += 1;
                turn().await;
            }
            seen
        };
        let ((), seen) = join(writing, reading).await;
        assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
    });
}

#[test]
fn zeros_alone_take_no_space_and_zeros_beside_data_are_data() {
    let disk = Scripted::new(8 * MIB);
    let (local, pool, volume) = made(&disk, TINY, thin(1, MIB));
    local.block_on(async {
        put_atomic(&volume, 0, &[0; 4]).await.unwrap();
        assert_eq!(volume.mapped_bytes(), 0);
        put_atomic(&volume, 0, &[5, 0, 0, 6]).await.unwrap();
        assert_eq!(volume.mapped_bytes(), 4 * 4096);
        put_atomic(&volume, 0, &[0; 4]).await.unwrap();
        assert_eq!(volume.mapped_bytes(), 0);
        sound(&pool).await;
    });
}

/// A full pool refuses all of it, though there may be room for a part; what is unmapped meanwhile goes on.
#[test]
fn a_full_pool_refuses_it_as_a_whole() {
    let disk = Scripted::new(7 * MIB);
    let (local, pool, volume) = made(&disk, TINY, thin(1, 64 * MIB));
    local.block_on(async {
        let mut next = 0;
        let refused = loop {
            match put_atomic(&volume, next, &[next + 1, next + 2, next + 3]).await {
                Ok(()) => next += 3,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind, ErrorKind::NoSpace);
        assert!(next > 100, "{next} blocks fit");
        for turn in 0..40 {
            let at = next + 4 * turn;
            let (written, unmapped) =
                join(put_atomic(&volume, at, &[7, 8, 9, 10]), unmap(&volume, turn, 1)).await;
            unmapped.unwrap();
            let kind = kind_at(&volume, at, &[[0; 4], [7, 8, 9, 10]]).await;
            assert_eq!(kind == 1, written.is_ok(), "{written:?}");
        }
        // Overwriting what is mapped needs no more.
        put_atomic(&volume, 60, &[1, 1, 1, 1]).await.unwrap();
        sound(&pool).await;
        pool.close().await.unwrap();
    });
}

#[test]
fn a_snapshot_takes_none() {
    let disk = Scripted::new(8 * MIB);
    let (local, pool, volume) = made(&disk, TINY, thin(1, MIB));
    local.block_on(async {
        put_atomic(&volume, 0, &[1, 2]).await.unwrap();
        pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
        let snapshot = pool.open_volume([2; 16]).unwrap();
        assert_eq!(put_atomic(&snapshot, 0, &[3, 4]).await.unwrap_err().kind, ErrorKind::ReadOnly);
        put_atomic(&volume, 0, &[3, 4]).await.unwrap();
        assert_eq!(kind_at(&snapshot, 0, &[[1, 2]]).await, 0);
        assert_eq!(kind_at(&volume, 0, &[[3, 4]]).await, 0);
    });
}
