//! WRITE ATOMIC(16) (SBC-4 5.48) and what the Block Limits page says of it (SBC-4 6.6.4).

use scsi::{
    AdditionalSense, BlockSize, Cdb, ConfigError, Durability, LogicalUnit, LogicalUnitConfig, MediaCommand,
    MediaFailureKind, MediaOutcome, Status, Step,
};

use crate::harness::{
    A, B, BLOCK, BLOCKS, Disk, SenseInfo, cdb, config, data_out, durability, identity, pattern,
};

const WRITE_ATOMIC: u8 = 0x9c;
const DPO: u8 = 0x10;
const FUA: u8 = 0x08;

fn limited(blocks: u32) -> Disk {
    let mut config = config();
    config.limits.atomic_bytes_max = blocks * 512;
    Disk::with(config)
}

/// The atomic fields of VPD B0h, in order.
fn fields(disk: &mut Disk) -> [u32; 5] {
    let page = disk.good(&[0x12, 1, 0xb0, 0, 255, 0], &[]);
    assert_eq!(page.len(), 64);
    std::array::from_fn(|at| u32::from_be_bytes(page[44 + 4 * at..48 + 4 * at].try_into().unwrap()))
}

#[test]
fn a_write_goes_to_the_medium_as_one_atomic_write() {
    let mut disk = Disk::new();
    let data = pattern(9);
    let command = disk.asks(&cdb(WRITE_ATOMIC, 0, 3, 9), &data);
    let MediaCommand::WriteAtomic { offset, data: sent, durability } = command else { panic!("{command:?}") };
    assert_eq!((offset, sent.concat(), durability), (3 * 512, data.clone(), Durability::Stable));
    disk.good(&cdb(WRITE_ATOMIC, 0, 3, 9), &data);
    assert_eq!(disk.medium.bytes[3 * BLOCK..12 * BLOCK], data);
}

#[test]
fn the_maximum_is_what_block_limits_says_at_any_block() {
    let mut disk = limited(24);
    assert_eq!(fields(&mut disk), [24, 0, 0, 0, 0], "no alignment, no granularity, no boundaries");
    for lba in [0, 1, 7, BLOCKS - 24] {
        disk.good(&cdb(WRITE_ATOMIC, 0, lba, 24), &pattern(24));
        let info =
            disk.illegal(&cdb(WRITE_ATOMIC, 0, 0, 25), &pattern(25), AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 12, None)));
    }
}

/// A range that does not exist is told before one that is too long (libiscsi's WriteAtomic16.BeyondEol).
#[test]
fn ranges_past_the_end_are_refused() {
    let mut disk = limited(8);
    for (lba, blocks) in [(BLOCKS - 1, 2), (BLOCKS - 1, 512), (1 << 63, 1), (u64::MAX, 8), (BLOCKS, 0)] {
        let data = vec![0; usize::try_from(blocks).unwrap() * BLOCK];
        disk.illegal(&cdb(WRITE_ATOMIC, 0, lba, blocks), &data, AdditionalSense::LBA_OUT_OF_RANGE);
    }
    disk.good(&cdb(WRITE_ATOMIC, 0, BLOCKS - 1, 0), &[]);
    assert_eq!(disk.medium.log, [], "no blocks are no work");
}

#[test]
fn boundaries_protection_and_unknown_flags_are_refused() {
    let mut disk = Disk::new();
    let good = cdb(WRITE_ATOMIC, DPO | FUA, 0, 1);
    // WRPROTECT, the reserved bits of byte 1, ATOMIC BOUNDARY.
    let wrong = [(1, 0x20), (1, 0x80), (1, 0x04), (1, 0x02), (1, 0x01), (10, 0x80), (11, 0x08)];
    for (byte, bits) in wrong {
        let mut cdb = good.clone();
        cdb[byte] |= bits;
        let info = disk.illegal(&cdb, &pattern(1), AdditionalSense::INVALID_FIELD_IN_CDB);
        let at = u16::try_from(byte).unwrap();
        assert!(matches!(info.field, Some((true, found, Some(_))) if found == at), "{info:?}");
    }
    assert_eq!(disk.medium.log, []);
    disk.good(&good, &pattern(1));
}

#[test]
fn fua_goes_to_stable_storage() {
    let mut disk = Disk::with(LogicalUnitConfig { write_cache: true, ..config() });
    for (flags, expected) in [(0, Durability::Cached), (DPO, Durability::Cached), (FUA, Durability::Stable)] {
        assert_eq!(durability(&disk.asks(&cdb(WRITE_ATOMIC, flags, 0, 1), &pattern(1))), expected);
    }
}

/// A WRITE stores as much as was announced; half of an atomic write is none.
#[test]
fn less_data_than_the_command_names_writes_nothing() {
    let mut disk = Disk::new();
    for blocks in [0, 1, 3] {
        let sense = disk.bad(&cdb(WRITE_ATOMIC, 0, 0, 4), &pattern(blocks));
        assert_eq!(sense.additional, AdditionalSense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT);
    }
    assert_eq!(disk.medium.log, []);
    disk.good(&cdb(WRITE_ATOMIC, 0, 0, 4), &pattern(4));
}

#[test]
fn it_is_a_write_to_protection_and_to_reservations() {
    let mut disk = Disk::new();
    disk.good(&[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], &[[0; 8], 7_u64.to_be_bytes(), [0; 8]].concat());
    disk.good(&[0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], &[7_u64.to_be_bytes(), [0; 8], [0; 8]].concat());
    disk.told(B);
    let write = Cdb::new(&cdb(WRITE_ATOMIC, 0, 0, 1));
    let step = disk.unit.execute(B, &write, data_out(&pattern(1)));
    let Step::Done(completion) = step else { panic!("{step:?}") };
    assert_eq!(completion.status, Status::ReservationConflict);
    disk.unit.set_read_only(true);
    disk.told(A);
    let refused = disk.bad(&cdb(WRITE_ATOMIC, 0, 0, 1), &pattern(1));
    assert_eq!(refused.additional, AdditionalSense::WRITE_PROTECTED);
}

#[test]
fn a_volume_that_cannot_has_no_such_command() {
    let mut disk = limited(0);
    assert_eq!(fields(&mut disk), [0; 5]);
    disk.illegal(&cdb(WRITE_ATOMIC, 0, 0, 1), &pattern(1), AdditionalSense::INVALID_OPERATION_CODE);
    let mut report = vec![0xa3, 0x0c, 1, WRITE_ATOMIC, 0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(disk.good(&report, &[])[1], 1, "not supported");
    report[2] = 0;
    let all = disk.good(&report, &[]);
    assert!(all[4..].chunks(8).all(|entry| entry[0] != WRITE_ATOMIC));
    assert_eq!(Disk::new().good(&[0xa3, 0x0c, 1, WRITE_ATOMIC, 0, 0, 0, 0, 1, 0, 0, 0], &[])[1], 3);
}

#[test]
fn limits_count_blocks_of_the_units_size_and_are_checked() {
    let mut config = LogicalUnitConfig::new(identity(), BlockSize::B4096, 10_000);
    config.limits.atomic_bytes_max = 1 << 20;
    assert_eq!(fields(&mut Disk::with(config.clone()))[0], 256);
    for wrong in [512, config.limits.transfer_bytes_max + 4096] {
        config.limits.atomic_bytes_max = wrong;
        let refused = LogicalUnit::new(config.clone()).err();
        let expected = ConfigError::Limit { field: "atomic_bytes_max", bytes: wrong.into() };
        assert_eq!(refused, Some(expected));
    }
}

#[test]
fn a_full_pool_is_told_as_for_any_write() {
    let mut disk = Disk::new();
    let Step::Media(_, pending) = disk.step(&cdb(WRITE_ATOMIC, 0, 0, 1), &pattern(1)) else { panic!() };
    let full = MediaOutcome::Failed(MediaFailureKind::SpaceExhausted.into());
    let info = SenseInfo::of(&disk.unit.finish(pending, full));
    assert_eq!(info.additional, AdditionalSense::SPACE_ALLOCATION_FAILED);
}
