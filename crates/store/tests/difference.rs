//! What differs between snapshots and volumes, against a comparison of every byte.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use block::{ByteRange, Volume};
use store::Pool;
use support::{disk, new_pool, put, put_run, reopen, small, sound, thin, unmap};

const MIB: u64 = 1 << 20;
const BLOCKS: u64 = 3000;

/// Everything that differs, asked for in parts of about `ranges_max` ranges.
async fn found(pool: &Pool, one: u8, other: u8, ranges_max: usize) -> Vec<ByteRange> {
    let (mut ranges, mut from): (Vec<ByteRange>, u64) = (Vec::new(), 0);
    loop {
        let part = pool.difference([one; 16], [other; 16], from, ranges_max).await.unwrap();
        for range in part.ranges {
            match ranges.last_mut() {
                Some(last) if last.offset + last.len == range.offset => last.len += range.len,
                _ => ranges.push(range),
            }
        }
        match part.next {
            Some(next) => from = next,
            None => return ranges,
        }
    }
}

/// The same, by reading everything.
async fn compared(pool: &Pool, one: u8, other: u8) -> Vec<ByteRange> {
    let mut contents = Vec::new();
    for id in [one, other] {
        let volume = pool.open_volume([id; 16]).unwrap();
        contents.push(volume.read(0, volume.size_bytes()).await.unwrap().concat());
    }
    let size = contents.iter().map(Vec::len).max().unwrap();
    contents.iter_mut().for_each(|content| content.resize(size, 0));
    let mut ranges: Vec<ByteRange> = Vec::new();
    for (at, (one, other)) in (0..).zip(contents[0].chunks(4096).zip(contents[1].chunks(4096))) {
        if one == other {
            continue;
        }
        let (offset, len) = (at * 4096, u64::try_from(one.len()).unwrap());
        match ranges.last_mut() {
            Some(last) if last.offset + last.len == offset => last.len += len,
            _ => ranges.push(ByteRange { offset, len }),
        }
    }
    ranges
}

/// Volume 1 with snapshots 2, 3 and 4, and 5, a clone of 2; each with changes of all kinds since the one before.
async fn prepare(pool: &Pool) {
    let size = BLOCKS * 4096;
    pool.create_volume(thin(1, size), Vec::new()).await.unwrap();
    let volume = pool.open_volume([1; 16]).unwrap();
    put_run(&volume, 0, 100, 40).await.unwrap();
    put_run(&volume, 1000, 2000, 600).await.unwrap();
    pool.snapshot_volume([1; 16], [2; 16], Vec::new()).await.unwrap();
    put(&volume, 5, 105).await.unwrap(); // what it had
    put(&volume, 6, 7).await.unwrap();
    put(&volume, 2500, 8).await.unwrap();
    put(&volume, 2600, 0).await.unwrap(); // zeros, where there was nothing
    unmap(&volume, 1100, 300).await.unwrap();
    unmap(&volume, 2800, 10).await.unwrap(); // nothing, where there was nothing
    pool.snapshot_volume([1; 16], [3; 16], Vec::new()).await.unwrap();
    put(&volume, 6, 106).await.unwrap(); // back to what snapshot 2 has
    put_run(&volume, 1200, 2200, 50).await.unwrap(); // the same
    pool.snapshot_volume([1; 16], [4; 16], Vec::new()).await.unwrap();
    pool.resize_volume([1; 16], size + 512 * 9, Vec::new()).await.unwrap();
    let tail = vec![bytes::Bytes::from(vec![1; 512])];
    volume.write(size + 512 * 8, tail, block::Durability::Default).await.unwrap();
    pool.clone_volume([2; 16], [5; 16], Vec::new()).await.unwrap();
    let clone = pool.open_volume([5; 16]).unwrap();
    for at in (0..BLOCKS).step_by(7) {
        put(&clone, at, 9000 + at).await.unwrap();
    }
}

async fn agrees(pool: &Pool) {
    for one in 1..=5 {
        for other in 1..=5 {
            let expected = compared(pool, one, other).await;
            assert_eq!(found(pool, one, other, 1000).await, expected, "{one} and {other}");
            assert_eq!(found(pool, one, other, 1).await, expected, "{one} and {other}, in parts");
        }
    }
}

#[test]
fn differences_are_those_of_the_bytes() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        prepare(&pool).await;
        agrees(&pool).await;
        let exact = found(&pool, 2, 3, 1000).await;
        let block = |at: u64, count: u64| ByteRange { offset: at * 4096, len: count * 4096 };
        assert_eq!(exact, [block(6, 1), block(1100, 300), block(2500, 1)]);
        assert_eq!(found(&pool, 2, 2, 1000).await, []);
    });
    let (local, pool) = reopen(&disk, small(256 << 10));
    local.block_on(async {
        agrees(&pool).await;
        pool.checkpoint().await.unwrap();
        agrees(&pool).await;
        sound(&pool).await;
    });
}

/// A layer in between that is merged changes where things are, and not what they are.
#[test]
fn differences_stay_when_a_snapshot_between_goes() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        prepare(&pool).await;
        let before = found(&pool, 2, 4, 1000).await;
        pool.delete_snapshot([3; 16], Vec::new()).await.unwrap();
        assert_eq!(found(&pool, 2, 4, 1000).await, before);
        pool.settle().await.unwrap();
        assert_eq!(found(&pool, 2, 4, 1000).await, before);
        assert_eq!(compared(&pool, 2, 4).await, before);
    });
}

/// Volumes that have nothing in common are compared, too; what was copied by sharing is no difference.
#[test]
fn a_copy_that_shares_its_blocks_does_not_differ() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        for id in [1, 2] {
            pool.create_volume(thin(id, BLOCKS * 4096), Vec::new()).await.unwrap();
        }
        let [source, copy] = [1, 2].map(|id| pool.open_volume([id; 16]).unwrap());
        put_run(&source, 256, 1, 512).await.unwrap();
        let left = copy.copy_from(0, 1024 * 4096, &*source, 0).unwrap().await.unwrap();
        assert_eq!(left, []);
        assert_eq!(found(&pool, 1, 2, 10).await, []);
        put(&copy, 300, 5).await.unwrap();
        assert_eq!(found(&pool, 1, 2, 10).await, [ByteRange { offset: 300 * 4096, len: 4096 }]);
        assert_eq!(compared(&pool, 1, 2).await, found(&pool, 2, 1, 10).await);
    });
}
