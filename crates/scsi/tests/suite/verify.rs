//! VERIFY and WRITE AND VERIFY (SBC-3 5.29 and 5.44).

use scsi::{AdditionalSense, Comparison, MediaCommand, SenseKey};

use crate::harness::{BLOCK, Disk, cdb, pattern};

const VERIFIES: [u8; 3] = [0x2f, 0xaf, 0x8f];
const WRITE_AND_VERIFIES: [u8; 3] = [0x2e, 0xae, 0x8e];

/// BYTCHK in byte 1.
const fn byte_check(value: u8) -> u8 {
    value << 1
}

#[test]
fn byte_check_0_reads_and_ignores_data() {
    let mut disk = Disk::new();
    for opcode in VERIFIES {
        let command = disk.asks(&cdb(opcode, byte_check(0) | 0x10, 1, 2), &pattern(2));
        let wanted = MediaCommand::Verify { offset: 512, len: 1024, comparison: Comparison::Readable };
        assert_eq!(command, wanted);
    }
}

#[test]
fn byte_check_1_compares_every_byte() {
    let mut disk = Disk::new();
    let data = pattern(3);
    disk.good(&cdb(0x2a, 0, 5, 3), &data);
    for opcode in VERIFIES {
        disk.good(&cdb(opcode, byte_check(1), 5, 3), &data);
        for at in [0, 1, BLOCK, 3 * BLOCK - 1] {
            let mut other = data.clone();
            other[at] ^= 1;
            let info = disk.bad(&cdb(opcode, byte_check(1), 5, 3), &other);
            assert_eq!(info.key, SenseKey::Miscompare.code());
            assert_eq!(info.additional, AdditionalSense::MISCOMPARE_DURING_VERIFY);
            assert_eq!(info.information, Some(at as u64));
        }
    }
}

#[test]
fn byte_check_3_compares_one_block_with_all() {
    let mut disk = Disk::new();
    let block = pattern(1);
    disk.good(&cdb(0x41, 0, 0, 8), &block);
    for opcode in VERIFIES {
        disk.good(&cdb(opcode, byte_check(3), 0, 8), &block);
        let info = disk.bad(&cdb(opcode, byte_check(3), 0, 9), &block);
        assert_eq!((info.key, info.information), (SenseKey::Miscompare.code(), Some(8 * BLOCK as u64 + 1)));
    }
}

#[test]
fn byte_check_2_is_reserved() {
    let mut disk = Disk::new();
    for opcode in VERIFIES.into_iter().chain(WRITE_AND_VERIFIES) {
        let cdb = cdb(opcode, byte_check(2), 0, 1);
        let info = disk.illegal(&cdb, &pattern(1), AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 1, Some(2))));
    }
    for opcode in WRITE_AND_VERIFIES {
        disk.illegal(&cdb(opcode, byte_check(3), 0, 1), &pattern(1), AdditionalSense::INVALID_FIELD_IN_CDB);
    }
}

#[test]
fn nothing_to_verify_is_verified() {
    let mut disk = Disk::new();
    for opcode in VERIFIES {
        for check in [0, 1, 3] {
            disk.good(&cdb(opcode, byte_check(check), 0, 0), &[]);
        }
    }
    assert_eq!(disk.medium.log, []);
}

#[test]
fn comparing_needs_all_the_data() {
    const SHORT: AdditionalSense = AdditionalSense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT;
    let mut disk = Disk::new();
    for opcode in VERIFIES {
        disk.illegal(&cdb(opcode, byte_check(1), 0, 2), &[0; BLOCK], SHORT);
        disk.illegal(&cdb(opcode, byte_check(3), 0, 2), &[0; 100], SHORT);
    }
    assert_eq!(disk.medium.log, []);
}

/// Windows and sg_verify scan with VERIFY(10) of up to 65535 blocks, far above a transfer.
#[test]
fn a_verify_without_data_may_be_longer_than_a_transfer() {
    let mut config = crate::harness::config();
    config.blocks = 1 << 20;
    let mut disk = Disk::with(config);
    let _ = disk.asks(&cdb(0x2f, 0, 0, 65_535), &[]);
    let _ = disk.asks(&cdb(0x8f, 0, 0, 65_536), &[]);
    disk.illegal(&cdb(0x8f, 0, 0, 65_537), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    disk.illegal(&cdb(0x8f, 2, 0, 16_385), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
}

#[test]
fn write_and_verify_writes() {
    for opcode in WRITE_AND_VERIFIES {
        for (check, compare) in [(0, false), (1, true)] {
            let mut disk = Disk::new();
            let data = pattern(2);
            disk.good(&cdb(opcode, byte_check(check) | 0x10, 3, 2), &data);
            assert_eq!(disk.medium.bytes[3 * BLOCK..5 * BLOCK], data);
            let [MediaCommand::WriteAndVerify { offset, compare: asked, .. }] = &disk.medium.log[..] else {
                panic!("{:?}", disk.medium.log)
            };
            assert_eq!((*offset, *asked), (1536, compare));
        }
    }
}
