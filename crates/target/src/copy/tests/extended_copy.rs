//! EXTENDED COPY within and between units.

use super::world::{Disk, HOST, MIB, World, naa, pattern};
use crate::unit::{LogicalUnitHandle, Started};
use block::ErrorKind;
use scsi::{BlockSize, ByteRange, Cdb, CopyAgent, CopyFault, DataOut, NexusId};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

const UNREACHABLE: (u8, u8, u8) = (0x0a, 0x0d, 0x02);
const DEVICE_FAILURE: (u8, u8, u8) = (0x0a, 0x0d, 0x01);

fn command(list: &[u8]) -> [u8; 16] {
    let [a, b] = u16::try_from(list.len()).unwrap().to_be_bytes();
    [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, 0, 0]
}

/// A list as ESXi and sg_xcopy send it: segments of (blocks, source, destination) between two units.
fn list(source: u8, destination: u8, block: u32, segments: &[(u16, u64, u64)]) -> Vec<u8> {
    let mut list = vec![1, 0, 0, 64, 0, 0, 0, 0];
    list.extend_from_slice(&u32::try_from(segments.len() * 28).unwrap().to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for number in [source, destination] {
        list.extend_from_slice(&[0xe4, 0, 0, 0, 1, 3, 0, 16]);
        list.extend_from_slice(&naa(number));
        list.extend_from_slice(&[0; 4]);
        list.extend_from_slice(&block.to_be_bytes());
    }
    for (blocks, from, to) in segments {
        list.extend_from_slice(&[0x02, 0, 0, 0x18, 0, 0, 0, 1, 0, 0]);
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&from.to_be_bytes());
        list.extend_from_slice(&to.to_be_bytes());
    }
    list
}

async fn good(by: &Disk, list: &[u8]) {
    by.good(&command(list), list).await;
}

/// ESXi's way to clone: 64 MiB in segments of 4 MiB, between two units, sent to either.
#[tokio::test]
async fn sixty_four_mib_go_from_unit_to_unit_in_segments_of_four() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk(2));
    let segments: Vec<_> = (0..16).map(|number| (8192, number * 8192, 65536 + number * 8192)).collect();
    source.volume.put(0, &pattern(1, 6 * MIB));
    source.volume.put(60 * MIB, &pattern(2, 4 * MIB));
    destination.volume.put(40 * MIB, &pattern(3, MIB));
    for by in [&source, &destination] {
        let list = list(1, 2, 512, &segments);
        good(by, &list).await;
        assert_eq!(destination.volume.bytes(32 * MIB, 6 * MIB), pattern(1, 6 * MIB));
        assert_eq!(destination.volume.bytes(38 * MIB, 4096), [0; 4096]);
        assert_eq!(destination.volume.bytes(40 * MIB, MIB), vec![0; 1 << 20], "a hole is copied, too");
        assert_eq!(destination.volume.bytes(92 * MIB, 4 * MIB), pattern(2, 4 * MIB));
        assert!(!destination.volume.is_mapped(50 * MIB), "holes take no space");
        assert_eq!(by.unit.copy_counts().bytes, 64 * MIB);
        assert_eq!(by.unit.copy_counts().copies, 1);
    }
    assert_eq!(source.volume.reads.load(Ordering::SeqCst), 20, "in pieces of 1 MiB, and no hole is read");
}

/// 512e: blocks that share 4 KiB with others leave those alone.
#[tokio::test]
async fn ranges_need_not_fit_the_pool_s_blocks() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk(2));
    source.volume.put(0, &pattern(1, 2 * MIB));
    destination.volume.put(0, &vec![0xaa; 3 << 20]);
    good(&source, &list(1, 2, 512, &[(2051, 3, 5)])).await;
    let copied = destination.volume.bytes(0, 3 * MIB);
    let whole = pattern(1, 2 * MIB);
    assert_eq!(copied[5 * 512..2056 * 512], whole[3 * 512..2054 * 512]);
    assert!(copied[..5 * 512].iter().chain(&copied[2056 * 512..]).all(|byte| *byte == 0xaa));
    // A hole at an odd place zeroes exactly that.
    good(&source, &list(1, 2, 512, &[(9, 100_003, 11)])).await;
    let zeroed = destination.volume.bytes(0, 16384);
    assert!(zeroed[11 * 512..20 * 512].iter().all(|byte| *byte == 0));
    assert_eq!((&zeroed[..11 * 512], &zeroed[20 * 512..]), (&copied[..11 * 512], &copied[20 * 512..16384]));
}

#[tokio::test]
async fn units_of_other_block_sizes_are_copied_between() {
    let world = World::new();
    let (source, destination) = (world.disk(1), world.disk_of(2, BlockSize::B4096, false));
    source.volume.put(8192, &pattern(1, 65536));
    let mut list = list(1, 2, 512, &[(128, 16, 3)]);
    list[16 + 32 + 30] = 0x10;
    good(&source, &list).await;
    assert_eq!(destination.volume.bytes(3 * 4096, 65536), pattern(1, 65536));
    list[16 + 64 + 11] = 127;
    assert_eq!(source.bad(&command(&list), &list).await, (0x0a, 0x26, 0x0a), "inexact");
    list[16 + 30] = 0x10;
    assert_eq!(source.bad(&command(&list), &list).await, (0x0a, 0x0d, 0x03), "not what it is taken for");
}

/// Within one unit the outcome is that of reading everything first, in both directions and any distance.
#[tokio::test]
async fn ranges_may_overlap() {
    for (from, to) in [(0, 8), (8, 0), (0, 3000), (3000, 0), (5, 6), (0, 0)] {
        let world = World::new();
        let disk = world.disk(1);
        let whole = pattern(1, 8 * MIB);
        disk.volume.put(0, &whole);
        good(&disk, &list(1, 1, 512, &[(6000, from, to)])).await;
        let (start, end) =
            (usize::try_from(from * 512).unwrap(), usize::try_from((from + 6000) * 512).unwrap());
        assert!(disk.volume.bytes(to * 512, 6000 * 512) == whole[start..end], "from {from} to {to}");
    }
}

#[tokio::test]
async fn volumes_that_can_share_blocks_do() {
    let world = World::new();
    let (source, destination) =
        (world.disk_of(1, BlockSize::B512, true), world.disk_of(2, BlockSize::B512, true));
    source.volume.put(0, &pattern(1, 2 * MIB));
    good(&source, &list(1, 2, 512, &[(4096, 0, 4096)])).await;
    assert_eq!(destination.volume.bytes(2 * MIB, 2 * MIB), pattern(1, 2 * MIB));
    assert_eq!(destination.volume.shared.load(Ordering::SeqCst), 2 * MIB);
    assert_eq!(source.volume.reads.load(Ordering::SeqCst), 0);
    good(&source, &list(1, 2, 512, &[(4096, 0, 8195)])).await;
    assert_eq!(destination.volume.bytes(8195 * 512, 2 * MIB), pattern(1, 2 * MIB));
    assert_eq!(destination.volume.shared.load(Ordering::SeqCst), 4 * MIB - 4096, "both ends are moved");
    good(&source, &list(1, 1, 512, &[(4096, 0, 8)])).await;
    assert_eq!(source.volume.shared.load(Ordering::SeqCst), 0, "what overlaps is moved");
}

/// Promise: a copy reaches what the host reaches by itself, and no more.
#[tokio::test]
async fn a_host_copies_only_where_it_may() {
    let world = World::new();
    let (own, other) = (world.disk(1), world.disk(2));
    let (there, back) = (list(1, 2, 512, &[(8, 0, 0)]), list(2, 1, 512, &[(8, 0, 0)]));
    other.volume.put(0, &pattern(1, 4096));
    world.grants.0.lock().get_mut(&naa(2)).unwrap().1 = true;
    assert_eq!(own.bad(&command(&there), &there).await, DEVICE_FAILURE, "may only read it");
    good(&own, &back).await;
    assert_eq!(own.volume.bytes(0, 4096), pattern(1, 4096));
    world.grants.0.lock().remove(&naa(2));
    assert_eq!(own.bad(&command(&there), &there).await, UNREACHABLE);
    assert_eq!(own.bad(&command(&back), &back).await, UNREACHABLE);
    assert_eq!(other.volume.bytes(0, 4096), pattern(1, 4096));
    assert_eq!(own.unit.copy_counts().failed, 3);
}

#[tokio::test]
async fn a_unit_that_is_not_offered_is_not_reached() {
    let world = World::new();
    let (own, other) = (world.disk(1), world.disk(2));
    other.unit.set_offload(false);
    let list = list(1, 2, 512, &[(8, 0, 0)]);
    assert_eq!(own.bad(&command(&list), &list).await, UNREACHABLE);
    other.unit.set_offload(true);
    good(&own, &list).await;
    other.unit.close_to_copies().await;
    assert_eq!(own.bad(&command(&list), &list).await, UNREACHABLE, "it is being deleted");
}

/// The failing segment, and what of it was done, are told; what was done before stays.
#[tokio::test]
async fn a_full_pool_ends_a_copy_with_its_details() {
    let world = World::new();
    let (own, other) = (world.disk(1), world.disk(2));
    own.volume.put(0, &pattern(1, 16 * MIB));
    *other.volume.fails.lock() = Some((10 * MIB, ErrorKind::NoSpace));
    let list = list(1, 2, 512, &[(16384, 0, 0), (8192, 16384, 16384), (8, 0, 0)]);
    let completion = own.run(&command(&list), &list).await.unwrap();
    let sense = &completion.sense;
    assert_eq!((sense[2], sense[12], sense[13]), DEVICE_FAILURE);
    assert_eq!((sense[0], &sense[3..7]), (0xf0, &4096_u32.to_be_bytes()[..]), "half of it is left");
    assert_eq!((&sense[8..12], &sense[15..18]), (&[0, 0, 0, 1][..], &[0x80, 0, 48][..]));
    assert_eq!(other.volume.bytes(0, 10 * MIB), pattern(1, 10 * MIB));
    let details = own.good(&[0x84, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[]).await;
    assert_eq!(details[60..], sense[..]);
    *own.volume.fails.lock() = Some((0, ErrorKind::Corrupt));
    let failed = own.run(&command(&list), &list).await.unwrap();
    assert_eq!(
        (failed.sense[0], &failed.sense[15..18]),
        (0x70, &[0x80, 0, 16][..]),
        "the source's descriptor"
    );
}

/// A reset of either unit ends a copy between two pieces, and waits for the piece.
#[tokio::test]
async fn a_reset_stops_a_copy() {
    for reset in [0, 1] {
        let world = World::new();
        let disks = [world.disk(1), world.disk(2)];
        disks[0].volume.put(0, &pattern(1, 32 * MIB));
        let unit = Arc::clone(&disks[reset].unit);
        *disks[0].volume.before_read.lock() = Some(Box::new(move |offset| {
            if offset == 10 * MIB {
                drop(unit.reset());
            }
        }));
        let list = list(1, 2, 512, &[(65535, 0, 0)]);
        let ended = disks[0].run(&command(&list), &list).await;
        assert_eq!(ended.is_none(), reset == 0, "of the unit that took the command nothing is answered");
        assert!(disks[0].volume.reads.load(Ordering::SeqCst) < 16);
        assert!(!disks[1].volume.is_mapped(16 * MIB));
    }
}

#[tokio::test]
async fn a_copy_that_is_asked_to_end_does() {
    let world = World::new();
    let (own, other) = (world.disk(1), world.disk(2));
    own.volume.put(0, &pattern(1, 32 * MIB));
    let list = list(1, 2, 512, &[(65535, 0, 0)]);
    let Started::Media(scsi::MediaCommand::Copy(copy), operation) =
        own.start(own.nexus(), &command(&list), &list)
    else {
        panic!()
    };
    let progress = Arc::clone(&copy.progress);
    *own.volume.before_read.lock() = Some(Box::new(move |offset| {
        if offset == 5 * MIB {
            progress.stop();
        }
    }));
    let address = "127.0.0.1:1".parse().unwrap();
    let target = "iqn.2026-01.test:1".to_owned();
    let requester = || crate::Requester { initiator: HOST.to_owned(), target, peer: address, local: address };
    let outcome = own.unit.run(own.nexus(), requester, scsi::MediaCommand::Copy(copy)).await;
    assert_eq!(own.unit.finish(operation, outcome).unwrap().status, scsi::Status::TaskAborted);
    assert!(other.volume.is_mapped(0) && !other.volume.is_mapped(10 * MIB));
}

/// SPC-4 5.13.11.5: a host that has registered and gone, and copies to the unit by way of another one, is shut out when
/// PREEMPT AND ABORT is answered: nothing it began before comes later.
#[tokio::test]
async fn preempt_and_abort_waits_for_the_copies_of_hosts_without_a_nexus() {
    const FENCE: NexusId = NexusId(77);
    let reserve_out = |unit: &Arc<LogicalUnitHandle>, nexus: NexusId, action: u8, keys: [u64; 2]| {
        let list = [keys[0].to_be_bytes(), keys[1].to_be_bytes(), [0; 8]].concat();
        let cdb = Cdb::new(&[0x5f, action, 5, 0, 0, 0, 0, 0, 24, 0]);
        Arc::clone(unit).persistent_reserve(nexus, unit.stamp(), cdb, DataOut::new(vec![list.into()], 24))
    };
    let good = |answer: Option<scsi::Completion>| assert_eq!(answer.unwrap().status, scsi::Status::Good);
    let world = World::new();
    let other = world.disk(2);
    other.attach(FENCE, "iqn.2026-01.test:fence");
    good(reserve_out(&other.unit, FENCE, 0, [0, 7]).await);
    good(reserve_out(&other.unit, other.nexus(), 0, [0, 1]).await);
    other.unit.detach(other.nexus());
    let agent = CopyAgent { nexus: None, initiator: HOST, read_only: false };
    let range = ByteRange { offset: 0, len: MIB };
    let (_, piece) = other.unit.begin_piece(agent, other.unit.stamp(), range).unwrap();
    let mut preempt = pin!(reserve_out(&other.unit, FENCE, 5, [7, 1]));
    let waits = poll_fn(|context| Poll::Ready(preempt.as_mut().poll(context).is_pending())).await;
    assert!(waits, "a piece is under way");
    drop(piece);
    good(preempt.await);
    good(reserve_out(&other.unit, FENCE, 1, [7, 0]).await);
    let refused = other.unit.begin_piece(agent, other.unit.stamp(), range).err();
    assert!(
        matches!(refused, Some(CopyFault::Refused(_, answer)) if answer.status == scsi::Status::ReservationConflict)
    );
}

/// The other unit counts a copy's writes as its own, by whatever nexus of the host it has.
#[tokio::test]
async fn ending_tasks_waits_for_a_copy_s_write() {
    let world = World::new();
    let (own, other) = (world.disk(1), world.disk(2));
    other.attach(NexusId(77), "iqn.2026-01.test:other");
    own.volume.put(0, &pattern(1, MIB));
    good(&own, &list(1, 2, 512, &[(2048, 0, 0)])).await;
    let mut quiet = other.unit.reset().quiet;
    quiet.try_recv().expect("every piece that began has ended");
}
