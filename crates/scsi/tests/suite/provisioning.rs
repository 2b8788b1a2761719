//! UNMAP, WRITE SAME and GET LBA STATUS.

use scsi::{
    AdditionalSense, BlockExtent, BlockSize, ByteRange, Durability, LogicalUnitConfig, MediaCommand,
    MediaOutcome, Step,
};

use crate::harness::{BLOCK, BLOCKS, Disk, cdb, config, identity, pattern};

/// An UNMAP parameter list.
fn list(descriptors: &[(u64, u32)]) -> Vec<u8> {
    let len = u16::try_from(descriptors.len() * 16).unwrap();
    let mut list = [(len + 6).to_be_bytes(), len.to_be_bytes(), [0; 2], [0; 2]].concat();
    for (lba, blocks) in descriptors {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

fn unmap(list: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(list.len()).unwrap().to_be_bytes();
    vec![0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
}

/// Runs UNMAP that has to succeed.
fn unmaps(disk: &mut Disk, descriptors: &[(u64, u32)]) {
    let list = list(descriptors);
    disk.good(&unmap(&list), &list);
}

#[test]
fn unmap_gives_every_range_to_the_medium_in_order() {
    let mut disk = Disk::new();
    let list = list(&[(100, 8), (0, 1), (4, 0), (100, 8)]);
    let MediaCommand::Unmap { ranges } = disk.asks(&unmap(&list), &list) else { panic!() };
    let range = |offset: u64, len: u64| ByteRange { offset: offset * 512, len: len * 512 };
    assert_eq!(ranges, [range(100, 8), range(0, 1), range(100, 8)]);
}

/// SBC-3 5.28.1: no descriptors, or none that names a block, are not errors (libiscsi's Unmap.ZeroBlocks).
#[test]
fn unmapping_nothing_is_good() {
    let mut disk = Disk::new();
    disk.good(&unmap(&[]), &[]);
    unmaps(&mut disk, &[]);
    unmaps(&mut disk, &[(0, 0), (BLOCKS, 0), (u64::MAX, 0)]);
    assert_eq!(disk.medium.log, []);
}

#[test]
fn unmap_past_the_end_does_nothing_at_all() {
    let mut disk = Disk::new();
    for wrong in [(BLOCKS - 1, 2), (BLOCKS, 1), (u64::MAX, 1), (u64::MAX, u32::MAX), (1 << 60, 8)] {
        let list = list(&[(0, 8), wrong]);
        disk.illegal(&unmap(&list), &list, AdditionalSense::LBA_OUT_OF_RANGE);
    }
    assert_eq!(disk.medium.log, []);
}

#[test]
fn unmap_limits_are_those_of_block_limits() {
    let mut config = config();
    config.limits.unmap_bytes_max = 64 * 512;
    config.limits.unmap_descriptors_max = 2;
    let mut disk = Disk::with(config);
    unmaps(&mut disk, &[(0, 32), (64, 32)]);
    let many = list(&[(0, 1), (1, 1), (2, 1)]);
    disk.illegal(&unmap(&many), &many, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
    let long = list(&[(0, 32), (64, 33)]);
    disk.illegal(&unmap(&long), &long, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
}

#[test]
fn a_cut_unmap_list_is_refused() {
    let mut disk = Disk::new();
    let whole = list(&[(0, 8), (8, 8)]);
    for len in 1..whole.len() {
        disk.illegal(&unmap(&whole[..len]), &whole[..len], AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    }
    // Announced by the CDB, never sent.
    let missing = AdditionalSense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT;
    disk.illegal(&unmap(&whole), &whole[..30], missing);
    assert_eq!(disk.medium.log, []);
}

/// SBC-3 5.28.2: what is left of a descriptor at the end is ignored.
#[test]
fn a_partial_last_descriptor_is_ignored() {
    let mut disk = Disk::new();
    let mut list = list(&[(0, 8), (8, 8)]);
    list[3] = 31;
    let MediaCommand::Unmap { ranges } = disk.asks(&unmap(&list), &list) else { panic!() };
    assert_eq!(ranges.len(), 1);
}

#[test]
fn unmapped_blocks_read_as_zero() {
    let mut disk = Disk::new();
    disk.good(&cdb(0x2a, 0, 0, 64), &pattern(64));
    unmaps(&mut disk, &[(3, 20)]);
    let data = disk.good(&cdb(0x28, 0, 0, 64), &[]);
    let expected = [&pattern(64)[..3 * BLOCK], &[0; 20 * BLOCK], &pattern(64)[23 * BLOCK..]].concat();
    assert_eq!(data, expected);
}

/// Thin is one switch: the commands, their bits, the pages and LBPME come and go together (SBC-3 4.7.3).
#[test]
fn a_thick_unit_neither_unmaps_nor_says_so() {
    let mut disk = Disk::with(LogicalUnitConfig { thin: false, ..config() });
    let list = list(&[(0, 8)]);
    disk.illegal(&unmap(&list), &list, AdditionalSense::INVALID_OPERATION_CODE);
    for opcode in [0x41, 0x93] {
        let info = disk.illegal(&cdb(opcode, 0x08, 0, 1), &[0; BLOCK], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 1, Some(3))));
        disk.good(&cdb(opcode, 0, 0, 1), &[0; BLOCK]);
    }
    assert_eq!(disk.good(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], &[])[14], 0);
    disk.illegal(&[0x12, 1, 0xb2, 0, 255, 0], &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    let limits = disk.good(&[0x12, 1, 0xb0, 0, 255, 0], &[]);
    assert_eq!(limits[20..36], [0; 16]);
    assert!(!disk.good(&[0x12, 1, 0x00, 0, 255, 0], &[])[4..].contains(&0xb2));
}

#[test]
fn write_same_repeats_its_block() {
    for opcode in [0x41, 0x93] {
        let mut disk = Disk::new();
        disk.good(&cdb(opcode, 0, 2, 5), &pattern(1));
        assert_eq!(disk.medium.bytes[2 * BLOCK..7 * BLOCK], pattern(1).repeat(5));
        assert_eq!(disk.medium.bytes[7 * BLOCK..8 * BLOCK], [0; BLOCK]);
    }
}

/// LBPRZ: with UNMAP a block of zeroes frees, any other is written (SBC-3 5.46.2).
#[test]
fn write_same_of_zeroes_can_free_and_of_anything_else_writes() {
    let mut disk = Disk::new();
    let durability = Durability::Stable;
    for opcode in [0x41, 0x93] {
        for (flags, deallocate) in [(0x00, false), (0x08, true)] {
            let command = disk.asks(&cdb(opcode, flags, 8, 16), &[0; BLOCK]);
            let zeroes = MediaCommand::WriteZeroes { offset: 4096, len: 8192, deallocate, durability };
            assert_eq!(command, zeroes);
        }
        let command = disk.asks(&cdb(opcode, 0x08, 8, 16), &pattern(1));
        let pattern = pattern(1).into();
        assert_eq!(command, MediaCommand::WriteSame { offset: 4096, len: 8192, pattern, durability });
    }
}

/// NDOB of WRITE SAME(16): zeroes without Data-Out. WRITE SAME(10) has no such bit.
#[test]
fn write_same_16_without_a_block_writes_zeroes() {
    let mut disk = Disk::new();
    disk.good(&cdb(0x2a, 0, 0, 8), &pattern(8));
    disk.good(&cdb(0x93, 0x01, 0, 2), &[]);
    disk.good(&cdb(0x93, 0x09, 2, 2), &[]);
    assert_eq!(disk.medium.bytes[..4 * BLOCK], [0; 4 * BLOCK]);
    assert_eq!(disk.medium.bytes[4 * BLOCK..8 * BLOCK], pattern(8)[4 * BLOCK..]);
    disk.illegal(&cdb(0x93, 0x01, 0, 2), &[0; BLOCK], AdditionalSense::INVALID_FIELD_IN_CDB);
    disk.illegal(&cdb(0x41, 0x01, 0, 2), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
}

#[test]
fn write_same_refuses_what_it_does_not_do() {
    let mut disk = Disk::new();
    for (opcode, length_at) in [(0x41, 7), (0x93, 10)] {
        // WSNZ: zero blocks is not "to the end".
        let info = disk.illegal(&cdb(opcode, 0, 0, 0), &[0; BLOCK], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, length_at, None)));
        // ANCHOR, with and without UNMAP.
        for flags in [0x10, 0x18] {
            let cdb = cdb(opcode, flags, 0, 1);
            let info = disk.illegal(&cdb, &[0; BLOCK], AdditionalSense::INVALID_FIELD_IN_CDB);
            assert_eq!(info.field, Some((true, 1, Some(4))));
        }
        // libiscsi's InvalidDataOutSize.
        for size in [0, BLOCK / 2, 2 * BLOCK] {
            disk.illegal(&cdb(opcode, 0x08, 0, 1), &vec![0; size], AdditionalSense::INVALID_FIELD_IN_CDB);
        }
    }
    assert_eq!(disk.medium.log, []);
}

#[test]
fn write_same_is_bounded() {
    let mut config = config();
    config.limits.write_same_bytes_max = 32 * 512;
    let mut disk = Disk::with(config);
    for opcode in [0x41, 0x93] {
        disk.good(&cdb(opcode, 0, 0, 32), &[1; BLOCK]);
        disk.illegal(&cdb(opcode, 0, 0, 33), &[1; BLOCK], AdditionalSense::INVALID_FIELD_IN_CDB);
    }
}

fn get_lba_status(lba: u64, allocation_len: u32) -> Vec<u8> {
    let mut cdb = cdb(0x9e, 0x12, lba, allocation_len);
    cdb.truncate(16);
    cdb
}

/// LBA, blocks, deallocated.
fn descriptors(data: &[u8]) -> Vec<(u64, u32, bool)> {
    let parameter_len = u32::from_be_bytes(data[..4].try_into().unwrap());
    assert_eq!(usize::try_from(parameter_len).unwrap() + 4, data.len());
    let parse = |entry: &[u8]| {
        let lba = u64::from_be_bytes(entry[..8].try_into().unwrap());
        assert!(entry[12] <= 1 && entry[13..] == [0; 3]);
        (lba, u32::from_be_bytes(entry[8..12].try_into().unwrap()), entry[12] == 1)
    };
    data[8..].chunks(16).map(parse).collect()
}

#[test]
fn get_lba_status_tells_mapped_from_unmapped() {
    let mut disk = Disk::new();
    assert_eq!(descriptors(&disk.good(&get_lba_status(0, 1024), &[])), [(0, 2048, true)]);
    disk.good(&cdb(0x2a, 0, 16, 8), &pattern(8));
    let all = [(0, 16, true), (16, 8, false), (24, 2024, true)];
    assert_eq!(descriptors(&disk.good(&get_lba_status(0, 1024), &[])), all);
    // The first descriptor starts where the host asks, even inside an extent (SBC-3 5.6.2).
    let inside = [(18, 6, false), (24, 2024, true)];
    assert_eq!(descriptors(&disk.good(&get_lba_status(18, 1024), &[])), inside);
    // What QEMU and libiscsi ask for: one descriptor.
    assert_eq!(descriptors(&disk.good(&get_lba_status(18, 24), &[])), inside[..1]);
    assert_eq!(descriptors(&disk.good(&get_lba_status(BLOCKS - 1, 24), &[])), [(BLOCKS - 1, 1, true)]);
}

#[test]
fn get_lba_status_is_cut_to_any_allocation_length() {
    let mut disk = Disk::new();
    let whole = disk.good(&get_lba_status(0, 24), &[]);
    for len in 0..24 {
        let data = disk.good(&get_lba_status(0, len), &[]);
        assert_eq!(data, whole[..usize::try_from(len).unwrap()]);
    }
    disk.illegal(&get_lba_status(BLOCKS, 24), &[], AdditionalSense::LBA_OUT_OF_RANGE);
    disk.illegal(&get_lba_status(u64::MAX, 24), &[], AdditionalSense::LBA_OUT_OF_RANGE);
}

/// What the medium answers, in bytes, to what the host hears, in blocks.
fn status_of(
    blocks: u64,
    block_size: BlockSize,
    extents: Vec<BlockExtent>,
    allocation_len: u32,
) -> Vec<(u64, u32, bool)> {
    let mut disk = Disk::with(LogicalUnitConfig::new(identity(), block_size, blocks));
    let Step::Media(_, pending) = disk.step(&get_lba_status(0, allocation_len), &[]) else { panic!() };
    let completion = disk.unit.finish(pending, MediaOutcome::Status(extents));
    descriptors(&completion.data_in.concat())
}

#[test]
fn a_partly_mapped_block_is_mapped() {
    let extents = [(1024, false), (2048, true), (5120, false), (8192, false), (512, true), (99_999, false)];
    let extents = extents.map(|(len, mapped)| BlockExtent { len, mapped }).to_vec();
    let status = status_of(10, BlockSize::B4096, extents, 1024);
    assert_eq!(status, [(0, 1, false), (1, 3, true), (4, 1, false), (5, 5, true)]);
}

/// A medium may tell of more than it was asked about; the host hears of no block it was not.
#[test]
fn an_extent_that_goes_on_behind_what_was_looked_at_is_cut() {
    let whole = vec![BlockExtent { len: u64::MAX, mapped: false }];
    assert_eq!(status_of(10, BlockSize::B512, whole.clone(), 24), [(0, 10, true)]);
    assert_eq!(status_of(1 << 34, BlockSize::B512, whole, 1024), [(0, 1 << 21, true)]);
}

/// Incident: one command had the volume walk many TiB in small pieces, and its thread did nothing else for
/// seconds. Hosts ask on from where an answer ends (SBC-3 5.6.1).
#[test]
fn get_lba_status_looks_at_one_gib_at_a_time() {
    const GIB_BLOCKS: u64 = (1 << 30) / 4096;
    for (lba, rest) in [(0, GIB_BLOCKS), (5, GIB_BLOCKS), (9 * GIB_BLOCKS + 1, GIB_BLOCKS - 1)] {
        let mut disk = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B4096, 10 * GIB_BLOCKS));
        let Step::Media(command, pending) = disk.step(&get_lba_status(lba, 24), &[]) else { panic!() };
        let MediaCommand::BlockStatus { offset, len, .. } = command else { panic!("{command:?}") };
        assert_eq!((offset, len), (lba * 4096, rest * 4096));
        let whole = vec![BlockExtent { len, mapped: true }];
        let completion = disk.unit.finish(pending, MediaOutcome::Status(whole));
        let blocks = u32::try_from(rest).unwrap();
        assert_eq!(descriptors(&completion.data_in.concat()), [(lba, blocks, false)]);
    }
}
