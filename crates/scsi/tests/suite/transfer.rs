//! READ, WRITE, PRE-FETCH and SYNCHRONIZE CACHE: addresses, lengths, flags (SBC-3 5).

use scsi::{
    AdditionalSense, BlockSize, DataOut, Durability, LogicalUnitConfig, MediaCommand, SenseKey, Status,
};

use crate::harness::{A, BLOCK, BLOCKS, Disk, cdb, config, data_out, durability, identity, pattern};

const READS: [u8; 4] = [0x08, 0x28, 0xa8, 0x88];
const WRITES: [u8; 4] = [0x0a, 0x2a, 0xaa, 0x8a];

#[test]
fn every_read_returns_what_every_write_wrote() {
    for write in WRITES {
        for read in READS {
            let mut disk = Disk::new();
            let data = pattern(5);
            assert!(disk.good(&cdb(write, 0, 11, 5), &data).is_empty());
            assert_eq!(disk.good(&cdb(read, 0, 11, 5), &[]), data, "{write:02x} {read:02x}");
            assert_eq!(disk.good(&cdb(read, 0, 10, 1), &[]), [0; BLOCK]);
            assert_eq!(disk.good(&cdb(read, 0, 16, 1), &[]), [0; BLOCK]);
        }
    }
}

#[test]
fn a_length_of_zero_transfers_nothing_but_256_blocks_in_six_bytes() {
    let mut disk = Disk::new();
    for opcode in [0x28, 0xa8, 0x88, 0x2a, 0xaa, 0x8a] {
        assert!(disk.good(&cdb(opcode, 0, 0, 0), &[]).is_empty());
    }
    assert_eq!(disk.medium.log, []);
    assert_eq!(disk.good(&cdb(0x08, 0, 0, 0), &[]).len(), 256 * BLOCK);
    disk.good(&cdb(0x0a, 0, 0, 0), &pattern(256));
    assert_eq!(disk.medium.bytes[..256 * BLOCK], pattern(256));
}

/// SBC-3 4.5: neither the first nor any following block may lie outside, whatever the arithmetic.
#[test]
fn nothing_past_the_last_block_can_be_named() {
    const FAMILIES: [&[u8]; 6] = [
        &READS,
        &WRITES,
        &[0x2e, 0xae, 0x8e],       // WRITE AND VERIFY
        &[0x2f, 0xaf, 0x8f],       // VERIFY
        &[0x34, 0x90, 0x35, 0x91], // PRE-FETCH, SYNCHRONIZE CACHE
        &[0x41, 0x93],             // WRITE SAME
    ];
    let mut disk = Disk::new();
    let data = pattern(4);
    let last = BLOCKS - 1;
    for opcode in FAMILIES.into_iter().flatten().copied() {
        let mut wrong = vec![(last, 2), (BLOCKS, 1), (BLOCKS + 1, 1), (0x1f_ffff, 1)];
        if opcode >= 0x20 {
            wrong.extend([
                (BLOCKS, 0),
                (BLOCKS + 1, 0),
                (0x8000_0000, 1),
                (0xffff_ffff, 2),
                (0xffff_ffff, 0),
            ]);
        }
        if opcode >> 5 == 4 {
            wrong.extend([
                (1 << 55, 1),
                (1 << 63, 1),
                (u64::MAX, 1),
                (u64::MAX, 0),
                (u64::MAX, 2),
                (u64::MAX - 2, 4),
            ]);
        }
        for (lba, length) in wrong {
            disk.illegal(&cdb(opcode, 0, lba, length), &data, AdditionalSense::LBA_OUT_OF_RANGE);
        }
        let one = if matches!(opcode, 0x2f | 0xaf | 0x8f) || opcode & 0x0f == 0x08 {
            &[][..]
        } else {
            &data[..BLOCK]
        };
        disk.good(&cdb(opcode, 0, last, 1), one);
    }
}

#[test]
fn a_capacity_beyond_64_tib_is_addressed_to_its_last_byte() {
    let blocks = 1 << 40;
    let mut disk = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B512, blocks));
    let read = disk.asks(&cdb(0x88, 0, blocks - 1, 1), &[]);
    assert_eq!(read, MediaCommand::Read { offset: (1 << 49) - 512, len: 512, fua: false });
    disk.illegal(&cdb(0x88, 0, blocks, 1), &[], AdditionalSense::LBA_OUT_OF_RANGE);
    let read = disk.asks(&cdb(0x28, 0, 0xffff_ffff, 1), &[]);
    assert_eq!(read, MediaCommand::Read { offset: 0xffff_ffff << 9, len: 512, fua: false });
}

#[test]
fn four_kib_blocks_are_eight_times_as_long() {
    let mut disk = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B4096, 100));
    let read = disk.asks(&cdb(0x28, 0, 3, 2), &[]);
    assert_eq!(read, MediaCommand::Read { offset: 3 * 4096, len: 8192, fua: false });
    disk.illegal(&cdb(0x28, 0, 99, 2), &[], AdditionalSense::LBA_OUT_OF_RANGE);
}

/// Block Limits, MAXIMUM TRANSFER LENGTH: more ends with INVALID FIELD IN CDB (SBC-3 6.6.3).
#[test]
fn transfers_are_bounded() {
    let mut config = config();
    config.limits.transfer_bytes_max = 16 * 512;
    config.limits.atomic_bytes_max = 0;
    let mut disk = Disk::with(config);
    for (opcode, length_at) in [(0x08, 4), (0x28, 7), (0xa8, 6), (0x88, 10)] {
        assert_eq!(disk.good(&cdb(opcode, 0, 0, 16), &[]).len(), 16 * BLOCK);
        let info = disk.illegal(&cdb(opcode, 0, 0, 17), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, length_at, None)));
    }
    for opcode in WRITES.into_iter().chain([0x2e, 0xae, 0x8e]) {
        disk.good(&cdb(opcode, 0, 0, 16), &pattern(16));
        disk.illegal(&cdb(opcode, 0, 0, 17), &pattern(17), AdditionalSense::INVALID_FIELD_IN_CDB);
    }
    disk.illegal(&cdb(0x88, 0, 0, u32::MAX), &[], AdditionalSense::LBA_OUT_OF_RANGE);
}

/// The overflow cases of libiscsi's residual tests, as SAM leaves them to the transport.
#[test]
fn a_write_announced_too_short_writes_whole_blocks_only() {
    for opcode in WRITES.into_iter().chain([0x2e, 0xae, 0x8e]) {
        let mut disk = Disk::new();
        disk.good(&cdb(opcode, 0, 0, 2), &[b'a'; 2 * BLOCK]);
        disk.good(&cdb(opcode, 0, 0, 2), &[b'b'; BLOCK]);
        assert_eq!(disk.medium.bytes[..BLOCK], [b'b'; BLOCK]);
        assert_eq!(disk.medium.bytes[BLOCK..2 * BLOCK], [b'a'; BLOCK]);
        disk.good(&cdb(opcode, 0, 0, 1), &[]);
        disk.illegal(
            &cdb(opcode, 0, 0, 1),
            &[b'c'; 200],
            AdditionalSense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT,
        );
        assert_eq!(disk.medium.bytes[..BLOCK], [b'b'; BLOCK]);
    }
}

#[test]
fn a_write_announced_too_long_takes_what_it_needs() {
    for opcode in WRITES.into_iter().chain([0x2e, 0xae, 0x8e]) {
        let mut disk = Disk::new();
        disk.good(&cdb(opcode, 0, 0, 1), &[b'x'; 3 * BLOCK]);
        assert_eq!(disk.medium.bytes[..BLOCK], [b'x'; BLOCK]);
        assert_eq!(disk.medium.bytes[BLOCK..2 * BLOCK], [0; BLOCK]);
    }
}

/// Data that was announced but never arrived must not be written as if it had.
#[test]
fn a_write_with_data_missing_fails() {
    let mut disk = Disk::new();
    let short = DataOut { expected_len: 1024, ..data_out(&[1; 512]) };
    let completion = disk.of_with(A, &cdb(0x2a, 0, 0, 2), short);
    assert_eq!(completion.status, Status::CheckCondition);
    assert_eq!(disk.medium.log, []);
}

/// A READ that comes with data (libiscsi's Read10.Invalid) is a READ.
#[test]
fn a_read_ignores_data_out() {
    let mut disk = Disk::new();
    assert_eq!(disk.good(&cdb(0x28, 0, 0, 1), &[9; BLOCK]).len(), BLOCK);
}

#[test]
fn without_a_cache_every_write_is_stable() {
    let mut disk = Disk::new();
    for opcode in WRITES {
        assert_eq!(durability(&disk.asks(&cdb(opcode, 0, 0, 1), &pattern(1))), Durability::Stable);
    }
    let read = disk.asks(&cdb(0x28, 0x08, 0, 1), &[]);
    assert!(matches!(read, MediaCommand::Read { fua: false, .. }));
}

/// Promise 1: with a write cache, FUA (and its old twin FUA_NV) still means stable storage.
#[test]
fn with_a_cache_fua_forces_the_medium() {
    let mut config = config();
    config.write_cache = true;
    let mut disk = Disk::with(config);
    for opcode in [0x2a, 0xaa, 0x8a] {
        for (flags, expected) in [
            (0x00, Durability::Cached),
            (0x10, Durability::Cached),
            (0x08, Durability::Stable),
            (0x02, Durability::Stable),
            (0x1a, Durability::Stable),
        ] {
            assert_eq!(durability(&disk.asks(&cdb(opcode, flags, 0, 1), &pattern(1))), expected);
        }
    }
    // The six-byte form has address bits there.
    let mut large = Disk::with(LogicalUnitConfig { blocks: 1 << 21, write_cache: true, ..self::config() });
    assert_eq!(durability(&large.asks(&[0x0a, 0x0a, 0, 0, 1, 0], &pattern(1))), Durability::Cached);
    for (flags, expected) in [(0x00, false), (0x08, true), (0x10, false)] {
        let read = disk.asks(&cdb(0x88, flags, 0, 1), &[]);
        assert_eq!(read, MediaCommand::Read { offset: 0, len: 512, fua: expected });
    }
}

#[test]
fn synchronize_cache_flushes_a_range_or_the_rest() {
    let mut disk = Disk::new();
    for opcode in [0x35, 0x91] {
        for flags in [0x00, 0x02, 0x04, 0x06] {
            let some = disk.asks(&cdb(opcode, flags, 8, 4), &[]);
            assert_eq!(some, MediaCommand::Flush { offset: 8 * 512, len: 4 * 512 });
            let rest = disk.asks(&cdb(opcode, flags, 8, 0), &[]);
            assert_eq!(rest, MediaCommand::Flush { offset: 8 * 512, len: (BLOCKS - 8) * 512 });
        }
        disk.good(&cdb(opcode, 0, 0, 0), &[]);
    }
}

#[test]
fn prefetch_is_good_whatever_the_cache() {
    let mut disk = Disk::new();
    for opcode in [0x34, 0x90] {
        let command = disk.asks(&cdb(opcode, 0x02, 8, 4), &[]);
        assert_eq!(command, MediaCommand::Prefetch { offset: 8 * 512, len: 4 * 512 });
        disk.good(&cdb(opcode, 0, 0, 0), &[]);
    }
    // libiscsi's Prefetch10.Flags sets a group number.
    disk.good(&[0x34, 0, 0, 0, 0, 0, 3, 0, 1, 0], &[]);
}

#[test]
fn write_protection_stops_every_write_and_no_read() {
    let mut config = config();
    config.read_only = true;
    let mut disk = Disk::with(config);
    let data = pattern(2);
    let unmap = [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let mut writes: Vec<(Vec<u8>, &[u8])> =
        vec![(cdb(0x89, 0, 0, 1), &data), (vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap)];
    for opcode in WRITES.into_iter().chain([0x2e, 0xae, 0x8e, 0x41, 0x93]) {
        writes.push((cdb(opcode, 0, 0, 1), &data[..BLOCK]));
    }
    for (cdb, data) in &writes {
        let info = disk.bad(cdb, data);
        let wanted = (SenseKey::DataProtect.code(), AdditionalSense::WRITE_PROTECTED);
        assert_eq!((info.key, info.additional), wanted, "{cdb:02x?}");
    }
    assert_eq!(disk.medium.log, []);
    for opcode in READS {
        assert_eq!(disk.good(&cdb(opcode, 0, 0, 1), &[]).len(), BLOCK);
    }
    disk.good(&cdb(0x35, 0, 0, 0), &[]);
}
