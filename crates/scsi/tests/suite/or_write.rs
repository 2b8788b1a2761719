//! ORWRITE(16) (SBC-3 5.10) and READ DEFECT DATA(10) and (12) (5.17, 5.18).

use scsi::{AdditionalSense, Durability, LogicalUnitConfig, MediaCommand};

use crate::harness::{BLOCK, BLOCKS, Disk, cdb, config, pattern};

const OR_WRITE: u8 = 0x8b;
const WRITE: u8 = 0x8a;
const READ: u8 = 0x88;

#[test]
fn bits_are_added_and_none_taken_away() {
    let mut disk = Disk::new();
    let (there, more) = (pattern(3), [0x55; 2 * BLOCK]);
    disk.good(&cdb(WRITE, 0, 4, 3), &there);
    disk.good(&cdb(OR_WRITE, 0, 5, 2), &more);
    let expected: Vec<u8> =
        there.iter().enumerate().map(|(at, byte)| if at < BLOCK { *byte } else { byte | 0x55 }).collect();
    assert_eq!(disk.good(&cdb(READ, 0, 4, 3), &[]), expected);
}

#[test]
fn ranges_are_those_of_writes() {
    let mut disk = Disk::new();
    disk.good(&cdb(OR_WRITE, 0, 0, 0), &[]);
    disk.illegal(&cdb(OR_WRITE, 0, BLOCKS, 0), &[], AdditionalSense::LBA_OUT_OF_RANGE);
    disk.illegal(&cdb(OR_WRITE, 0, u64::MAX, 1), &[0; BLOCK], AdditionalSense::LBA_OUT_OF_RANGE);
    disk.illegal(&cdb(OR_WRITE, 0, BLOCKS - 1, 2), &[0; 2 * BLOCK], AdditionalSense::LBA_OUT_OF_RANGE);
    // ORPROTECT: there is no protection information.
    disk.illegal(&cdb(OR_WRITE, 0x20, 0, 1), &[0; BLOCK], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert!(disk.medium.log.is_empty());
    disk.unit.set_read_only(true);
    disk.told(crate::harness::A);
    assert_eq!(disk.bad(&cdb(OR_WRITE, 0, 0, 1), &[0; BLOCK]).additional, AdditionalSense::WRITE_PROTECTED);
}

#[test]
fn fua_goes_to_stable_storage() {
    let mut disk = Disk::with(LogicalUnitConfig { write_cache: true, ..config() });
    let durability = |command| match command {
        MediaCommand::OrWrite { durability, .. } => durability,
        other => panic!("{other:?}"),
    };
    assert_eq!(durability(disk.asks(&cdb(OR_WRITE, 0, 0, 1), &[1; BLOCK])), Durability::Cached);
    assert_eq!(durability(disk.asks(&cdb(OR_WRITE, 0x18, 0, 1), &[1; BLOCK])), Durability::Stable);
}

#[test]
fn a_virtual_disk_has_no_defects() {
    let mut disk = Disk::new();
    for format in 0..6 {
        for lists in [0x00, 0x08, 0x10, 0x18] {
            let flags = lists | format;
            assert_eq!(disk.good(&[0x37, 0, flags, 0, 0, 0, 0, 0, 32, 0], &[]), [0, flags, 0, 0]);
            let twelve = disk.good(&[0xb7, flags, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], &[]);
            assert_eq!(twelve, [0, flags, 0, 0, 0, 0, 0, 0]);
        }
    }
    for vendors in [6, 7] {
        let ten = [0x37, 0, vendors, 0, 0, 0, 0, 0, 32, 0];
        let info = disk.illegal(&ten, &[], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 2, Some(2))));
        let twelve = [0xb7, vendors, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
        let info = disk.illegal(&twelve, &[], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 1, Some(2))));
    }
    assert!(disk.good(&[0x37, 0, 0x18, 0, 0, 0, 0, 0, 0, 0], &[]).is_empty());
}
