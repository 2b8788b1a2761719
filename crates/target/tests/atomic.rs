//! WRITE ATOMIC(16) over real sockets (SBC-4 5.48): one write of the volume's own kind, as large as the unit says.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use bytes::Bytes;
use common::*;
use iscsi::Lun;
use iscsi::initiator::Command;
use iscsi::pdu::ScsiStatus;

/// MAXIMUM ATOMIC TRANSFER LENGTH of VPD page B0h, in blocks.
async fn blocks_max(client: &mut Client) -> u32 {
    let cdb = [0x12, 1, 0xb0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let page = soon(client.run(Command::read(Lun::default(), cdb, 64))).await.data_in;
    assert_eq!((page.len(), page[48..].iter().all(|byte| *byte == 0)), (64, true));
    u32::from_be_bytes(page[44..48].try_into().unwrap())
}

fn write_atomic(lba: u64, blocks: u32) -> Command {
    let data: Vec<u8> = (0..blocks * 512).map(|at| (at / 512 + at) as u8).collect();
    Command::write(Lun::default(), cdb16(0x9c, lba, blocks), Bytes::from(data))
}

#[tokio::test]
async fn the_largest_one_reaches_the_volume_in_one_piece_and_a_larger_one_not_at_all() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    let most = blocks_max(&mut client).await;
    // Blocks of 512 bytes begin within one of 4 KiB: that costs one.
    assert_eq!(u64::from(most) * 512, ATOMIC_BYTES_MAX - 4096);
    assert_eq!(soon(client.run(write_atomic(5, most))).await.status, ScsiStatus::Good);
    let bytes = usize::try_from(most).unwrap() * 512;
    assert_eq!(*bench.volume.atomic_writes.lock(), [(5 * 512, bytes)]);
    assert!(bench.volume.writes.lock().is_empty());
    let back = soon(client.run(read16(5, most))).await.data_in;
    assert!(back.iter().enumerate().all(|(at, byte)| *byte == (at / 512 + at) as u8));

    assert_eq!(sense(&soon(client.run(write_atomic(5, most + 1))).await), (0x05, 0x24, 0x00));
    assert_eq!(bench.volume.atomic_writes.lock().len(), 1);
}

#[tokio::test]
async fn a_volume_without_space_refuses_it_as_any_write() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    *bench.volume.fails.lock() = Some(block::ErrorKind::NoSpace);
    assert_eq!(sense(&soon(client.run(write_atomic(0, 8))).await), (0x07, 0x27, 0x07));
    *bench.volume.fails.lock() = None;
    assert_eq!(soon(client.run(write_atomic(0, 8))).await.status, ScsiStatus::Good);
}
