//! ROD tokens: made at one unit, used at another, and lost when they must be.

use super::world::{Disk, MIB, World, naa, pattern};
use scsi::{BlockSize, RodToken};
use std::sync::Arc;

const TOKEN_CANCELLED: (u8, u8, u8) = (0x05, 0x23, 0x08);

fn command(action: u8, list: &[u8]) -> [u8; 16] {
    let [a, b] = u16::try_from(list.len()).unwrap().to_be_bytes();
    [0x83, action, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, a, b, 0, 0]
}

fn ranges(ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut all = u16::try_from(ranges.len() * 16).unwrap().to_be_bytes().to_vec();
    for (lba, blocks) in ranges {
        all.extend_from_slice(&lba.to_be_bytes());
        all.extend_from_slice(&blocks.to_be_bytes());
        all.extend_from_slice(&[0; 4]);
    }
    all
}

fn complete(mut list: Vec<u8>) -> Vec<u8> {
    let len = u16::try_from(list.len() - 2).unwrap();
    list[..2].copy_from_slice(&len.to_be_bytes());
    list
}

async fn populate(disk: &Disk, of: &[(u64, u32)]) -> Vec<u8> {
    populate_for(disk, of, 0).await
}

async fn populate_for(disk: &Disk, of: &[(u64, u32)], seconds: u32) -> Vec<u8> {
    let list = complete([vec![0; 4], seconds.to_be_bytes().to_vec(), vec![0; 6], ranges(of)].concat());
    disk.good(&command(0x10, &list), &list).await;
    let data = disk.good(&[0x84, 7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0], &[]).await;
    data[38..].to_vec()
}

fn using(token: &[u8], offset: u64, to: &[(u64, u32)]) -> Vec<u8> {
    let head = [vec![0; 8], offset.to_be_bytes().to_vec(), token.to_vec(), vec![0; 6]].concat();
    complete([head, ranges(to)].concat())
}

async fn write(disk: &Disk, token: &[u8], offset: u64, to: &[(u64, u32)]) {
    let list = using(token, offset, to);
    disk.good(&command(0x11, &list), &list).await;
}

async fn refused(disk: &Disk, token: &[u8]) -> (u8, u8, u8) {
    let list = using(token, 0, &[(0, 8)]);
    disk.bad(&command(0x11, &list), &list).await
}

#[tokio::test]
async fn a_token_carries_ranges_to_another_unit() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk(2));
    source.volume.put(0, &pattern(1, 4 * MIB));
    destination.volume.put(0, &vec![9; 1 << 20]);
    let token = populate(&source, &[(4096, 4096), (3, 10), (100_000, 8)]).await;
    write(&destination, &token, 0, &[(7, 4100), (5000, 14)]).await;
    let whole = pattern(1, 4 * MIB);
    let expected = [&whole[4096 * 512..], &whole[3 * 512..13 * 512], &[0; 4096]].concat();
    let copied =
        [destination.volume.bytes(7 * 512, 4100 * 512), destination.volume.bytes(5000 * 512, 14 * 512)];
    assert!(copied.concat() == expected);
    assert_eq!(destination.volume.bytes(0, 7 * 512), [9; 3584]);
    write(&source, &token, 4096, &[(20_000, 10)]).await;
    assert!(
        source.volume.bytes(20_000 * 512, 5120) == whole[3 * 512..13 * 512],
        "from an offset, and at home"
    );
    assert_eq!((source.unit.copy_counts().tokens, destination.unit.copy_counts().copies), (1, 1));
}

/// SBC-4 5.59.2's example: a token of 512-byte blocks, written in blocks of 4 KiB.
#[tokio::test]
async fn offsets_are_in_the_destination_s_blocks() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk_of(2, BlockSize::B4096, false));
    source.volume.put(0, &pattern(1, 65536));
    let token = populate(&source, &[(15, 6), (40, 61)]).await;
    write(&destination, &token, 1, &[(3, 1)]).await;
    assert_eq!(destination.volume.bytes(3 * 4096, 4096), pattern(1, 65536)[42 * 512..50 * 512]);
    let list = using(&token, 8, &[(0, 2)]);
    let completion = destination.run(&command(0x11, &list), &list).await.unwrap();
    let sense = &completion.sense;
    assert_eq!((sense[2], sense[12], sense[13]), (5, 0x0d, 4), "less than a block is left: underrun");
    let past = using(&token, 9, &[(0, 2)]);
    assert_eq!(destination.bad(&command(0x11, &past), &past).await, (5, 0x26, 0));
}

#[tokio::test]
async fn the_zero_token_zeroes() {
    let world = World::new();
    let disk = world.disk(1);
    disk.volume.put(0, &pattern(1, MIB));
    write(&disk, RodToken::zero().bytes(), 77, &[(3, 1000), (1500, 8)]).await;
    let (after, before) = (disk.volume.bytes(0, MIB), pattern(1, MIB));
    assert!(after[3 * 512..1003 * 512].iter().chain(&after[1500 * 512..1508 * 512]).all(|byte| *byte == 0));
    assert!(after[..3 * 512] == before[..3 * 512] && after[1508 * 512..] == before[1508 * 512..]);
    assert!(!disk.volume.is_mapped(8192), "and takes no space");
}

/// SPC-4 5.17.6.2.3.3: whatever writes to what a token stands for ends it.
#[tokio::test]
async fn a_write_to_the_source_cancels_a_token() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk(2));
    source.volume.put(0, &pattern(1, MIB));
    let token = populate(&source, &[(64, 64), (512, 8)]).await;
    source.writes(0, 64 * 512);
    source.writes(128 * 512, 384 * 512);
    destination.writes(0, MIB);
    write(&destination, &token, 0, &[(0, 72)]).await;
    source.writes(519 * 512, 512);
    assert_eq!(refused(&destination, &token).await, TOKEN_CANCELLED);

    let token = populate(&source, &[(64, 64)]).await;
    write(&source, RodToken::zero().bytes(), 0, &[(127, 1)]).await;
    assert_eq!(refused(&destination, &token).await, TOKEN_CANCELLED, "a copy writes, too");
}

/// The bytes that reach the destination are those of the moment the token was made, or the copy fails.
#[tokio::test]
async fn a_write_while_a_token_is_used_is_noticed() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk(2));
    source.volume.put(0, &pattern(1, 16 * MIB));
    let token = populate(&source, &[(0, 32768)]).await;
    let writer = source.clone();
    *source.volume.before_read.lock() = Some(Box::new(move |offset| {
        if offset == 5 * MIB {
            writer.writes(12 * MIB, 4096);
        }
    }));
    let list = using(&token, 0, &[(0, 32768)]);
    assert_eq!(destination.bad(&command(0x11, &list), &list).await, TOKEN_CANCELLED);
    assert!(destination.volume.bytes(0, 2 * MIB) == pattern(1, 2 * MIB));
    assert!(!destination.volume.is_mapped(12 * MIB), "what was written meanwhile went nowhere");
    *source.volume.before_read.lock() = None;
}

/// A token made while a write is under way does not outlive it.
#[tokio::test]
async fn a_write_that_began_before_a_token_cancels_it_at_its_end() {
    let world = World::new();
    let disk = world.disk(1);
    let cdb = [0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0];
    let crate::unit::Started::Media(_, operation) = disk.start(disk.nexus(), &cdb, &[1; 512]) else {
        panic!()
    };
    let token = populate(&disk, &[(8, 8)]).await;
    let _ = disk.unit.finish(operation, scsi::MediaOutcome::Done);
    assert_eq!(refused(&disk, &token).await, TOKEN_CANCELLED);
}

#[tokio::test]
async fn tokens_expire_when_nobody_uses_them() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk(2));
    let (short, usual) =
        (populate_for(&source, &[(0, 8)], 10).await, populate_for(&source, &[(0, 8)], 0).await);
    for _ in 0..5 {
        world.pass(9);
        write(&destination, &short, 0, &[(0, 8)]).await;
    }
    write(&destination, &usual, 0, &[(0, 8)]).await;
    world.pass(11);
    assert_eq!(refused(&destination, &short).await, (5, 0x23, 0x07));
    write(&destination, &usual, 0, &[(0, 8)]).await;
    world.pass(61);
    assert_eq!(refused(&destination, &usual).await, (5, 0x23, 0x07));
}

/// Nobody makes a token but the copy manager: each changed byte is noticed, and nothing is copied.
#[tokio::test]
async fn forged_tokens_are_refused() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk(2));
    source.volume.put(0, &pattern(1, 4096));
    let token = populate(&source, &[(0, 8)]).await;
    for at in 0..512 {
        let mut forged = token.clone();
        forged[at] ^= 1;
        let (key, code, _) = refused(&destination, &forged).await;
        // A reserved byte of the header may change what kind of token it seems to be, never what it may do.
        assert_eq!((key, code), (5, 0x23), "byte {at}");
    }
    assert!(!destination.volume.is_mapped(0));
    let other = World::new().disk(3);
    let foreign = populate(&other, &[(0, 8)]).await;
    let (key, code, _) = refused(&destination, &foreign).await;
    assert_eq!((key, code), (5, 0x23), "of another copy manager");
    write(&destination, &token, 0, &[(0, 8)]).await;
}

#[tokio::test]
async fn a_token_ends_with_what_it_stands_for() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk(2));
    let token = populate(&source, &[(0, 8)]).await;
    let mut list = using(&token, 0, &[(0, 8)]);
    list[2] = 0x02;
    destination.good(&command(0x11, &list), &list).await;
    assert_eq!(refused(&destination, &token).await, (5, 0x23, 0x09), "DEL_TKN");

    let token = populate(&source, &[(0, 8)]).await;
    source.unit.set_offload(false);
    assert_eq!(refused(&destination, &token).await, TOKEN_CANCELLED);
    source.unit.set_offload(true);
    // Hosts hear that INQUIRY data has changed.
    assert_eq!(source.bad(&[0; 6], &[]).await, (6, 0x3f, 0x03));
    let token = populate(&source, &[(0, 8)]).await;
    source.unit.close_to_copies().await;
    assert_eq!(refused(&destination, &token).await, TOKEN_CANCELLED);
}

/// Whoever has a token may read with it as long as the host that made it may.
#[tokio::test]
async fn a_token_is_good_only_while_its_maker_may_read() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk(2));
    let token = populate(&source, &[(0, 8)]).await;
    source.unit.detach(source.nexus());
    write(&destination, &token, 0, &[(0, 8)]).await;
    let unit = Arc::clone(&source.unit);
    world.grants.0.lock().remove(&naa(1));
    assert_eq!(refused(&destination, &token).await, (0x0a, 0x0d, 0x02));
    world.grants.0.lock().insert(naa(1), (unit, true));
    write(&destination, &token, 0, &[(0, 8)]).await;
}
