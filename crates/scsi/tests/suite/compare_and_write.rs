//! COMPARE AND WRITE (SBC-3 5.2).

use scsi::{AdditionalSense, Durability, LogicalUnitConfig, MediaCommand, SenseKey};

use crate::harness::{BLOCK, BLOCKS, Disk, cdb, config, durability, pattern};

fn caw(lba: u64, blocks: u8) -> Vec<u8> {
    cdb(0x89, 0, lba, blocks.into())
}

#[test]
fn an_equal_medium_is_written() {
    let mut disk = Disk::new();
    let new = pattern(3);
    disk.good(&caw(4, 3), &[vec![0; 3 * BLOCK], new.clone()].concat());
    assert_eq!(disk.medium.bytes[4 * BLOCK..7 * BLOCK], new);
    let again = disk.bad(&caw(4, 3), &[vec![0; 3 * BLOCK], new].concat());
    assert_eq!(again.key, SenseKey::Miscompare.code());
    assert_eq!(again.additional, AdditionalSense::MISCOMPARE_DURING_VERIFY);
}

/// VMware finds its lock's holder by the offset (SBC-3 5.2.2).
#[test]
fn a_miscompare_names_the_first_byte_and_writes_nothing() {
    let mut disk = Disk::new();
    let old = pattern(2);
    disk.good(&cdb(0x2a, 0, 0, 2), &old);
    for at in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK - 1] {
        let mut compare = old.clone();
        compare[at] ^= 0x80;
        let info = disk.bad(&caw(0, 2), &[compare, vec![0xee; 2 * BLOCK]].concat());
        assert_eq!(info.information, Some(at as u64));
        assert_eq!(disk.medium.bytes[..2 * BLOCK], old);
    }
}

#[test]
fn nothing_compares_equal_to_nothing() {
    let mut disk = Disk::new();
    disk.good(&caw(0, 0), &[]);
    disk.illegal(&caw(BLOCKS, 0), &[], AdditionalSense::LBA_OUT_OF_RANGE);
    assert_eq!(disk.medium.log, []);
}

/// libiscsi's CompareAndWrite.InvalidDataOutSize: twice the blocks, no more and no less.
#[test]
fn data_of_any_other_size_is_refused() {
    let mut disk = Disk::new();
    for blocks in [0, 1, 3, 4] {
        let data = vec![0; blocks * BLOCK];
        disk.illegal(&caw(0, 1), &data, AdditionalSense::INVALID_FIELD_IN_CDB);
    }
    disk.illegal(&caw(0, 0), &[0; 2 * BLOCK], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(disk.medium.log, []);
}

#[test]
fn the_length_is_bounded_as_block_limits_say() {
    let mut config = config();
    config.limits.compare_and_write_bytes_max = 4 * 512;
    let mut disk = Disk::with(config);
    disk.good(&caw(0, 4), &[0; 8 * BLOCK]);
    let info = disk.illegal(&caw(0, 5), &[0; 10 * BLOCK], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(info.field, Some((true, 13, None)));
    disk.illegal(&caw(BLOCKS - 1, 2), &[0; 4 * BLOCK], AdditionalSense::LBA_OUT_OF_RANGE);
}

#[test]
fn halves_are_split_at_the_block_and_fua_is_kept() {
    let mut disk = Disk::with(LogicalUnitConfig { write_cache: true, ..config() });
    let data = [pattern(1), vec![7; BLOCK]].concat();
    let command = disk.asks(&cdb(0x89, 0x08, 2, 1), &data);
    assert_eq!(durability(&command), Durability::Stable);
    let MediaCommand::CompareAndWrite { offset, compare, write, .. } = command else { panic!("{command:?}") };
    assert_eq!((offset, compare.concat(), write.concat()), (1024, pattern(1), vec![7; BLOCK]));
    assert_eq!(durability(&disk.asks(&caw(2, 1), &data)), Durability::Cached);
}
