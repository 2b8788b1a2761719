//! Space that runs short reaches hosts over real sockets (SBC-3 4.7.3.7), and ORWRITE loses no bit between them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use bytes::Bytes;
use common::*;
use iscsi::Lun;
use iscsi::initiator::Command;
use iscsi::pdu::ScsiStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const MIB: u64 = 1 << 20;

fn space(available: u64) -> block::Resources {
    block::Resources { pool_bytes: 1000 * MIB, available_bytes: available * MIB, used_bytes: MIB }
}

/// LOG SENSE of the Logical Block Provisioning page: RESOURCE COUNT of what is available.
async fn available(client: &mut Client) -> u32 {
    let cdb = [0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0];
    let page = soon(client.run(Command::read(Lun::default(), cdb, 28))).await.data_in;
    assert_eq!(page[..6], [0x8c, 0, 0, 24, 0, 1]);
    u32::from_be_bytes(page[8..12].try_into().unwrap())
}

#[tokio::test]
async fn a_host_that_writes_hears_of_the_threshold_it_passes_and_so_do_the_others() {
    let bench = Bench::new();
    *bench.volume.resources.lock() = Some(space(500));
    let looks = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&looks);
    bench.unit.watch_space(Box::new(move |resources| {
        assert_eq!(resources.available_bytes, 100 * MIB);
        heard.fetch_add(1, Ordering::SeqCst);
    }));
    let warning = scsi::SpaceWarning { pool_used_percent: Some(80), volume_used_percent: None };
    bench.unit.set_space_warning(warning);
    bench.unit.look_at_space().expect("it is thin");
    let (mut one, mut other) = (bench.ready(1).await, bench.ready(2).await);
    assert_eq!(available(&mut one).await, 500);

    *bench.volume.resources.lock() = Some(space(100));
    for lba in 0..2047 {
        assert_eq!(soon(one.run(write16(lba, 1, 1))).await.status, ScsiStatus::Good);
    }
    assert_eq!(looks.load(Ordering::SeqCst), 0, "nobody looks after each write");
    assert_eq!(soon(one.run(write16(0, 1, 1))).await.status, ScsiStatus::Good);
    assert_eq!(looks.load(Ordering::SeqCst), 1);
    for client in [&mut one, &mut other] {
        assert_eq!(sense(&soon(client.run(test_unit_ready())).await), (0x06, 0x38, 0x07));
        assert_eq!(soon(client.run(test_unit_ready())).await.status, ScsiStatus::Good);
    }
    assert_eq!(available(&mut other).await, 100);
}

#[tokio::test]
async fn a_write_that_finds_no_space_is_a_look_as_well() {
    let bench = Bench::new();
    *bench.volume.resources.lock() = Some(space(500));
    let warning = scsi::SpaceWarning { pool_used_percent: Some(80), volume_used_percent: None };
    bench.unit.set_space_warning(warning);
    bench.unit.look_at_space().expect("it is thin");
    let mut client = bench.ready(1).await;
    *bench.volume.resources.lock() = Some(space(0));
    *bench.volume.fails.lock() = Some(block::ErrorKind::NoSpace);
    assert_eq!(sense(&soon(client.run(write16(0, 8, 1))).await), (0x07, 0x27, 0x07));
    assert_eq!(sense(&soon(client.run(write16(0, 8, 1))).await), (0x06, 0x38, 0x07));
}

#[tokio::test]
async fn or_writes_of_many_hosts_to_one_block_all_count() {
    const HOSTS: u8 = 8;
    let bench = Bench::new();
    let mut clients = Vec::new();
    for host in 0..HOSTS {
        clients.push(bench.ready(host + 1).await);
    }
    // All of them hang in their read, and go on together.
    bench.volume.hang(true);
    let mut tasks = Vec::new();
    for (host, client) in clients.iter_mut().enumerate() {
        let bits = Bytes::from(vec![1_u8 << host; 512]);
        tasks.push(client.start(Command::write(Lun::default(), cdb16(0x8b, 7, 1), bits)).await);
    }
    bench.volume.until_under_way(usize::from(HOSTS)).await;
    bench.volume.hang(false);
    for (client, task) in clients.iter_mut().zip(tasks) {
        assert_eq!(soon(client.end_of(task)).await.unwrap().status, ScsiStatus::Good);
    }
    let back = soon(clients[0].run(read16(6, 3))).await.data_in;
    assert!(back[512..1024].iter().all(|byte| *byte == 0xff));
    assert!(back[..512].iter().chain(&back[1024..]).all(|byte| *byte == 0));
}
