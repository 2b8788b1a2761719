//! Units that come, go and change under live sessions, in targets of several units.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod common;

use common::*;
use iscsi::initiator::Command;
use iscsi::pdu::ScsiStatus;
use scsi::TargetNumber;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use target::{LogicalUnitHandle, UnitGrant};

const LUNS_CHANGED: (u8, u8, u8) = (0x06, 0x3f, 0x0e);
const MODE_CHANGED: (u8, u8, u8) = (0x06, 0x2a, 0x01);
const NO_UNIT: (u8, u8, u8) = (0x05, 0x25, 0x00);

fn on(lun: u16, mut command: Command) -> Command {
    command.lun = iscsi::Lun::from_number(lun).unwrap();
    command
}

fn set(bench: &Bench, grants: Vec<UnitGrant>) {
    bench.directory.units.lock().insert(TARGET.to_owned(), grants);
    bench.server.target_changed(TARGET);
}

fn report_luns() -> Command {
    reading(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255])
}

/// A command that reads up to 255 bytes.
fn reading(start: &[u8]) -> Command {
    let mut cdb = [0; 16];
    cdb[..start.len()].copy_from_slice(start);
    Command::read(iscsi::Lun::default(), cdb, 255)
}

/// SPC-4 6.33: what is there, and nothing else.
async fn luns(client: &mut Client, through: u16) -> Vec<u8> {
    let answer = soon(client.run(on(through, report_luns()))).await;
    assert_eq!(answer.status, ScsiStatus::Good);
    answer.data_in[8..].chunks(8).map(|entry| entry[1]).collect()
}

async fn unit_and_volume(id: u8) -> (Arc<LogicalUnitHandle>, Arc<HangingVolume>) {
    let volume = HangingVolume::new();
    (unit_of(&volume, id), volume)
}

/// TrueNAS's no_lun_zero: SPC-4 6.4.1 and 6.33 have INQUIRY and REPORT LUNS work where no unit is.
#[tokio::test]
async fn a_target_without_lun_0_still_lists_its_units() {
    let bench = Bench::new();
    set(&bench, vec![grant(3, &bench.unit)]);
    let mut client = bench.login(HOST, 1).await;
    assert_eq!(luns(&mut client, 0).await, [3]);
    let inquiry = soon(client.run(reading(&[0x12, 0, 0, 0, 96, 0]))).await;
    assert_eq!((inquiry.status, inquiry.data_in[0]), (ScsiStatus::Good, 0x7f), "no device can be here");
    assert_eq!(sense(&soon(client.run(test_unit_ready())).await), NO_UNIT);
    let first = soon(client.run(on(3, test_unit_ready()))).await;
    assert_eq!(sense(&first), (0x06, 0x29, 0x00));
    assert_eq!(soon(client.run(on(3, test_unit_ready()))).await.status, ScsiStatus::Good);
}

/// SPC-4 6.33: REPORT LUNS through one unit ends the news for all of the target.
#[tokio::test]
async fn a_list_that_was_read_is_no_news_to_the_other_units() {
    let bench = Bench::new();
    let (second, _) = unit_and_volume(2).await;
    set(&bench, vec![grant(0, &bench.unit), grant(1, &second)]);
    let mut client = bench.ready(1).await;
    soon(client.run(on(1, test_unit_ready()))).await;
    let (third, _) = unit_and_volume(3).await;
    set(&bench, vec![grant(0, &bench.unit), grant(1, &second), grant(2, &third)]);
    eventually(|| third.session_count() == 1).await;
    assert_eq!(sense(&soon(client.run(test_unit_ready())).await), LUNS_CHANGED);
    assert_eq!(luns(&mut client, 0).await, [0, 1, 2]);
    assert_eq!(soon(client.run(on(1, test_unit_ready()))).await.status, ScsiStatus::Good);
}

/// Commands on the medium are answered though their unit has gone; later ones find none; the other unit works on.
#[tokio::test]
async fn an_unmapped_unit_answers_what_is_under_way_and_disturbs_no_other() {
    let bench = Bench::new();
    let (second, slow) = unit_and_volume(2).await;
    set(&bench, vec![grant(0, &bench.unit), grant(1, &second)]);
    let mut client = bench.ready(1).await;
    soon(client.run(on(1, test_unit_ready()))).await;
    slow.hang(true);
    let under_way = client.start(on(1, write16(0, 8, 7))).await;
    slow.until_under_way(1).await;
    let before: Vec<_> = second.uses().iter().map(|used| used.session).collect();
    set(&bench, vec![grant(0, &bench.unit)]);
    eventually(|| second.session_count() == 0).await;
    let quiet = tokio::spawn(second.quiet(&before));
    assert_eq!(sense(&soon(client.run(on(1, test_unit_ready()))).await), NO_UNIT);
    assert_eq!(sense(&soon(client.run(test_unit_ready())).await), LUNS_CHANGED);
    assert_eq!(soon(client.run(write16(0, 8, 1))).await.status, ScsiStatus::Good);
    assert!(!quiet.is_finished(), "the write is still on the medium");
    slow.hang(false);
    assert_eq!(soon(client.end_of(under_way)).await.unwrap().status, ScsiStatus::Good);
    soon(quiet).await.unwrap();
    assert_eq!(slow.writes.lock().len(), 1);
}

/// Another unit under the same number is another disk: it says so itself.
#[tokio::test]
async fn a_number_that_changes_hands_starts_with_a_power_on() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    let (second, _) = unit_and_volume(2).await;
    set(&bench, vec![grant(0, &second)]);
    eventually(|| second.session_count() == 1).await;
    assert_eq!(sense(&soon(client.run(test_unit_ready())).await), (0x06, 0x29, 0x00));
    assert_eq!(bench.unit.session_count(), 0);
}

/// SPC-4 5.9 and SBC-3 4.12: writes that were under way take effect, later ones are refused, and the host is told.
#[tokio::test]
async fn read_only_holds_when_what_was_under_way_has_ended() {
    let bench = Bench::new();
    let mut client = bench.ready(1).await;
    bench.volume.hang(true);
    let under_way = client.start(write16(0, 8, 7)).await;
    bench.volume.until_under_way(1).await;
    set(&bench, vec![UnitGrant { read_only: true, ..grant(0, &bench.unit) }]);
    eventually(|| bench.unit.uses().iter().all(|used| used.read_only)).await;
    let session = bench.unit.uses()[0].session;
    let quiet = tokio::spawn(bench.unit.quiet(&[session]));
    assert_eq!(sense(&soon(client.run(test_unit_ready())).await), MODE_CHANGED);
    assert_eq!(sense(&soon(client.run(write16(8, 8, 1))).await), (0x07, 0x27, 0x00), "WRITE PROTECTED");
    assert!(!quiet.is_finished());
    bench.volume.hang(false);
    assert_eq!(soon(client.end_of(under_way)).await.unwrap().status, ScsiStatus::Good);
    soon(quiet).await.unwrap();
    assert_eq!(bench.volume.under_way.load(Ordering::SeqCst), 0);
    set(&bench, vec![grant(0, &bench.unit)]);
    eventually(|| bench.unit.uses().iter().all(|used| !used.read_only)).await;
    assert_eq!(sense(&soon(client.run(test_unit_ready())).await), MODE_CHANGED);
    assert_eq!(soon(client.run(write16(8, 8, 1))).await.status, ScsiStatus::Good);
}

async fn page_83(client: &mut Client, lun: u16) -> Vec<u8> {
    soon(client.run(on(lun, reading(&[0x12, 1, 0x83, 0, 255, 0])))).await.data_in.to_vec()
}

/// SPC-4 7.8.6: through whichever target, the unit is the same; the descriptors of the port (association 01b) differ.
#[tokio::test]
async fn a_unit_in_two_targets_differs_in_its_port_only() {
    const OTHER: &str = "iqn.2026-01.io.palisade:farm";
    let bench = Bench::new();
    bench.directory.units.lock().insert(OTHER.to_owned(), vec![grant(9, &bench.unit)]);
    *bench.directory.number.lock() = vec![(OTHER.to_owned(), TargetNumber(2))];
    bench.unit.set_other_targets(vec![TargetNumber(2)]);
    let mut own = bench.ready(1).await;
    let mut farm = bench.try_login_to(OTHER, HOST, 1).await.unwrap();
    soon(farm.run(on(9, test_unit_ready()))).await;
    let descriptors = |page: &[u8]| {
        let (mut rest, mut found) = (&page[4..], Vec::new());
        while rest.len() >= 4 {
            let (one, more) = rest.split_at(4 + usize::from(rest[3]));
            found.push((one[1] >> 4 & 3, one.to_vec()));
            rest = more;
        }
        found
    };
    let (one, other) = (descriptors(&page_83(&mut own, 0).await), descriptors(&page_83(&mut farm, 9).await));
    assert_eq!(one.len(), other.len());
    let of_unit = |all: &[(u8, Vec<u8>)]| all.iter().filter(|(at, _)| *at == 0).cloned().collect::<Vec<_>>();
    assert!(!of_unit(&one).is_empty());
    assert_eq!(of_unit(&one), of_unit(&other), "NAA and the others of the unit, byte for byte");
    let relative = |all: &[(u8, Vec<u8>)]| {
        let found = all.iter().find(|(at, one)| *at == 1 && one[1] & 15 == 4).unwrap();
        u16::from_be_bytes([found.1[6], found.1[7]])
    };
    assert_eq!((relative(&one), relative(&other)), (1, 0x201));

    // RTPG lists both ports in the one group, on both paths alike.
    let rtpg = || reading(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]);
    let listed = soon(own.run(rtpg())).await.data_in;
    assert_eq!(listed, soon(farm.run(on(9, rtpg()))).await.data_in);
    assert_eq!((listed[11], &listed[14..16], &listed[18..20]), (2, &[0, 1][..], &[2, 1][..]));
}
