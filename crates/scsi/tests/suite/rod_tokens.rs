//! POPULATE TOKEN, WRITE USING TOKEN and RECEIVE ROD TOKEN INFORMATION (SBC-4 4.28, 5.12, 5.25 and 5.59).

use scsi::{
    AdditionalSense, ByteRange, CopyFault, CopyReport, CopySide, CopyWork, MediaCommand, MediaFailureKind,
    MediaOutcome, RodToken, SenseKey, Status, Step, TokenFault,
};

use crate::harness::{A, B, BLOCKS, Disk, SenseInfo, identity};

/// POPULATE TOKEN (10h) or WRITE USING TOKEN (11h) under a list identifier.
fn command(action: u8, list: u32, len: usize) -> [u8; 16] {
    let [a, b, c, d] = list.to_be_bytes();
    let [e, f, g, h] = u32::try_from(len).unwrap().to_be_bytes();
    [0x83, action, 0, 0, 0, 0, a, b, c, d, e, f, g, h, 0, 0]
}

fn information(list: u32) -> [u8; 16] {
    let [a, b, c, d] = list.to_be_bytes();
    [0x84, 0x07, a, b, c, d, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]
}

fn ranges(ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut all = u16::try_from(ranges.len() * 16).unwrap().to_be_bytes().to_vec();
    for (lba, blocks) in ranges {
        all.extend_from_slice(&lba.to_be_bytes());
        all.extend_from_slice(&blocks.to_be_bytes());
        all.extend_from_slice(&[0; 4]);
    }
    all
}

/// With its data length in front.
fn complete(mut list: Vec<u8>) -> Vec<u8> {
    let len = u16::try_from(list.len() - 2).unwrap();
    list[..2].copy_from_slice(&len.to_be_bytes());
    list
}

/// As Windows sends it.
fn populate(of: &[(u64, u32)]) -> Vec<u8> {
    complete([vec![0; 14], ranges(of)].concat())
}

fn write_using(token: &[u8; 512], offset: u64, to: &[(u64, u32)]) -> Vec<u8> {
    let head = [vec![0; 8], offset.to_be_bytes().to_vec(), token.to_vec(), vec![0; 6]].concat();
    complete([head, ranges(to)].concat())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The way of Windows: make a token, fetch it, write with it, ask how far that went.
#[test]
fn a_token_is_made_fetched_and_used() {
    let mut disk = Disk::new();
    let list = populate(&[(8, 16), (64, 8)]);
    disk.good(&command(0x10, 77, list.len()), &list);
    let made = disk.good(&information(77), &[]);
    assert_eq!(number(&made[..4]), 32 - 4 + 4 + 514);
    assert_eq!((made[4], made[5]), (0x10, 0x01), "POPULATE TOKEN, completed without errors");
    assert_eq!((made[15], number(&made[16..24])), (0xf1, 24), "blocks");
    assert_eq!((number(&made[24..26]), number(&made[32..36])), (0, 514), "no segments; one descriptor");
    assert_eq!(made[36..38], [0, 0]);
    let token: [u8; 512] = made[38..].try_into().unwrap();

    let list = write_using(&token, 0, &[(200, 24)]);
    disk.good(&command(0x11, 78, list.len()), &list);
    let used = disk.good(&information(78), &[]);
    assert_eq!((used[4], used[5], number(&used[16..24])), (0x11, 0x01, 24));
    assert_eq!((used.len(), number(&used[32..36])), (36, 0), "no token");
    assert_eq!(disk.good(&information(77), &[]), made, "kept");
    let info = disk.illegal(&information(79), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(info.field, Some((true, 2, None)));
    assert_eq!(disk.of(B, &information(77), &[]).status, Status::CheckCondition, "another nexus");
}

#[test]
fn the_work_is_named_in_bytes_and_in_the_host_s_order() {
    let mut disk = Disk::new();
    let mut list = populate(&[(64, 8), (8, 16), (100, 0)]);
    list[4..8].copy_from_slice(&30_u32.to_be_bytes());
    let MediaCommand::Copy(copy) = disk.asks(&command(0x10, 1, list.len()), &list) else { panic!() };
    let CopyWork::CreateToken { ranges, inactivity_seconds, creator } = copy.work else { panic!() };
    let range = |offset, len| ByteRange { offset, len };
    assert_eq!(ranges, [range(64 * 512, 4096), range(8 * 512, 8192)]);
    assert_eq!((inactivity_seconds, creator.naa), (30, identity().naa));
    assert_eq!(creator.target_name, "iqn.2026-01.test:volume");

    let mut list = write_using(RodToken::zero().bytes(), 3, &[(0, 1), (5, 2)]);
    list[2] = 0x02;
    let MediaCommand::Copy(copy) = disk.asks(&command(0x11, 2, list.len()), &list) else { panic!() };
    let CopyWork::FromToken { token, offset, ranges, delete } = copy.work else { panic!() };
    assert!(token.is_zero() && delete);
    assert_eq!((offset, ranges), (1536, vec![range(0, 512), range(2560, 1024)]));
}

/// SBC-4 5.12.2 and 5.59.2, one by one. The first table's lists are of POPULATE TOKEN.
#[test]
fn wrong_lists_are_refused() {
    let mut disk = Disk::new();
    let field = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    let changed = |at: usize, value: u8| {
        let mut list = populate(&[(8, 16)]);
        list[at] = value;
        list
    };
    let with_type = |kind: u32| {
        let mut list = changed(2, 0x02);
        list[8..12].copy_from_slice(&kind.to_be_bytes());
        list
    };
    let table = [
        (changed(1, 29), field, Some(0)),
        (changed(4, 1), field, Some(4)),
        (changed(15, 15), field, Some(14)),
        (with_type(0x0001_0000), field, Some(8)),
        (with_type(0x0080_0000), field, Some(8)),
        (with_type(0x0080_0002), field, Some(8)),
        (populate(&[(8, 16), (23, 1)]), field, Some(16)),
        (populate(&[(BLOCKS, 1)]), AdditionalSense::LBA_OUT_OF_RANGE, None),
        (populate(&[(BLOCKS - 1, 2)]), AdditionalSense::LBA_OUT_OF_RANGE, None),
        (populate(&[(u64::MAX, u32::MAX)]), AdditionalSense::LBA_OUT_OF_RANGE, None),
        (populate(&[(0, 0); 65]), AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS, None),
        (vec![0; 15], AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, None),
    ];
    for (list, additional, byte) in table {
        let info = disk.illegal(&command(0x10, 1, list.len()), &list, additional);
        assert_eq!(info.field.map(|(_, byte, _)| byte), byte);
    }
    for (list, additional) in [
        (write_using(&[1; 512], u64::MAX, &[(0, 1)]), field),
        (write_using(&[1; 512], 0, &[(0, 2), (1, 1)]), field),
        (write_using(&[1; 512], 0, &[]), field),
        (write_using(&[1; 512], 0, &[(BLOCKS, 1)]), AdditionalSense::LBA_OUT_OF_RANGE),
        (vec![2; 535], AdditionalSense::PARAMETER_LIST_LENGTH_ERROR),
    ] {
        disk.illegal(&command(0x11, 1, list.len()), &list, additional);
    }
    for kind in [0x0080_0001, 0x0080_ffff] {
        let list = with_type(kind);
        disk.good(&command(0x10, 1, list.len()), &list);
    }
    for action in [0x10, 0x11] {
        disk.good(&command(action, 9, 0), &[]);
    }
}

/// SBC-4 5.12.2: a descriptor that is not whole, or cut by the list's length, is ignored.
#[test]
fn a_range_descriptor_that_is_not_whole_is_ignored() {
    let mut disk = Disk::new();
    let list = populate(&[(8, 16), (64, 8)]);
    let MediaCommand::Copy(copy) = disk.asks(&command(0x10, 1, list.len() - 1), &list[..list.len() - 1])
    else {
        panic!()
    };
    let CopyWork::CreateToken { ranges, .. } = copy.work else { panic!() };
    assert_eq!(ranges, [ByteRange { offset: 4096, len: 8192 }]);
}

/// Limits as VPD page 8Fh tells them (SBC-4 6.6.9.3).
#[test]
fn the_limits_told_are_the_limits_kept() {
    let large = scsi::LogicalUnitConfig { blocks: 1 << 22, ..crate::harness::config() };
    let mut disk = Disk::with(large);
    let page = disk.good(&[0x12, 1, 0x8f, 4, 0, 0], &[]);
    assert_eq!(page[4..8], [0, 0, 0, 0x20]);
    assert_eq!(number(&page[14..16]), 64, "range descriptors");
    let (timeout, blocks) = (number(&page[16..20]), u32::try_from(number(&page[24..32])).unwrap());
    assert!(number(&page[20..24]) <= timeout && number(&page[32..40]) <= u64::from(blocks));
    let mut most = populate(&[(0, blocks)]);
    most[4..8].copy_from_slice(&u32::try_from(timeout).unwrap().to_be_bytes());
    disk.good(&command(0x10, 1, most.len()), &most);
    let field = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    let more = populate(&[(0, blocks), (u64::from(blocks), 1)]);
    disk.illegal(&command(0x10, 1, more.len()), &more, field);
    most[7] += 1;
    disk.illegal(&command(0x10, 1, most.len()), &most, field);
}

/// What each fault of a WRITE USING TOKEN ends with; none of it is lost for RECEIVE ROD TOKEN INFORMATION.
#[test]
fn each_fault_has_its_sense() {
    let failed = |side, kind: MediaFailureKind| CopyFault::Failed(side, kind.into());
    let (illegal, aborted) = (SenseKey::IllegalRequest, SenseKey::CopyAborted);
    let table = [
        (CopyFault::Token(TokenFault::Unknown), illegal, AdditionalSense::TOKEN_UNKNOWN),
        (CopyFault::Token(TokenFault::Expired), illegal, AdditionalSense::TOKEN_EXPIRED),
        (CopyFault::Token(TokenFault::Cancelled), illegal, AdditionalSense::TOKEN_CANCELLED),
        (CopyFault::PastToken, illegal, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST),
        (CopyFault::Unreachable(CopySide::Source), aborted, AdditionalSense::COPY_TARGET_NOT_REACHABLE),
        (
            failed(CopySide::Source, MediaFailureKind::MediumError),
            aborted,
            AdditionalSense::THIRD_PARTY_DEVICE_FAILURE,
        ),
        (
            failed(CopySide::Destination, MediaFailureKind::SpaceExhausted),
            SenseKey::DataProtect,
            AdditionalSense::SPACE_ALLOCATION_FAILED,
        ),
        (
            failed(CopySide::Destination, MediaFailureKind::MediumError),
            SenseKey::MediumError,
            AdditionalSense::WRITE_ERROR,
        ),
    ];
    let mut disk = Disk::new();
    let list = write_using(&[1; 512], 0, &[(0, 8)]);
    for (fault, key, additional) in table {
        let Step::Media(_, pending) = disk.step(&command(0x11, 5, list.len()), &list) else { panic!() };
        let completion = disk.unit.finish(pending, MediaOutcome::Copied(CopyReport::failed(fault)));
        let info = SenseInfo::of(&completion);
        assert_eq!((info.key, info.additional), (key.code(), additional), "{fault:?}");
        let kept = disk.good(&information(5), &[]);
        assert_eq!((kept[5], kept[12], kept[13], kept[14]), (0x02, 0x02, 20, 18));
        assert_eq!(kept[32..50], completion.sense, "{fault:?}");
    }
    let list = populate(&[(0, 8)]);
    let Step::Media(_, pending) = disk.step(&command(0x10, 6, list.len()), &list) else { panic!() };
    let full = MediaOutcome::Copied(CopyReport::failed(CopyFault::NoRoomForToken));
    let info = SenseInfo::of(&disk.unit.finish(pending, full));
    assert_eq!(info.additional, AdditionalSense::NO_ROOM_FOR_ROD_TOKEN);
}

/// SBC-4 4.28.2: a token that stands for less than was asked for.
#[test]
fn a_residual_is_an_underrun_with_the_count() {
    let mut disk = Disk::new();
    let list = write_using(&[1; 512], 0, &[(0, 8)]);
    for (copied, key) in [(0, SenseKey::IllegalRequest), (1536, SenseKey::CopyAborted)] {
        let Step::Media(MediaCommand::Copy(copy), pending) = disk.step(&command(0x11, 5, list.len()), &list)
        else {
            panic!()
        };
        copy.progress.advance(copied);
        let completion = disk.unit.finish(pending, MediaOutcome::Copied(CopyReport::default()));
        let info = SenseInfo::of(&completion);
        assert_eq!((info.key, info.additional), (key.code(), AdditionalSense::COPY_TARGET_DATA_UNDERRUN));
        assert_eq!(info.information, Some(copied / 512));
        let kept = disk.good(&information(5), &[]);
        assert_eq!((kept[5], number(&kept[16..24])), (0x03, copied / 512), "partial token usage");
    }
}

/// SBC-4 5.12.2: IMMED. What is kept is fetched when it is done.
#[test]
fn a_token_can_be_made_in_the_background() {
    let mut disk = Disk::new();
    let mut list = populate(&[(0, 8)]);
    list[2] = 0x01;
    let step = disk.step(&command(0x10, 5, list.len()), &list);
    let Step::Background(MediaCommand::Copy(copy), pending, completion) = step else { panic!() };
    assert_eq!(completion.status, Status::Good);
    let under_way = disk.good(&information(5), &[]);
    assert_eq!((under_way[5], number(&under_way[32..36])), (0x12, 0));
    copy.progress.advance(4096);
    let report = CopyReport { fault: None, token: Some(RodToken::from_bytes(&[7; 512])) };
    let _ = disk.unit.finish(pending, MediaOutcome::Copied(report));
    assert_eq!(disk.good(&information(5), &[])[38..], [7; 512]);
}

/// I_T nexus loss ends what is in the background, and what is kept is gone (SPC-4 5.17.4.3).
#[test]
fn a_lost_nexus_leaves_nothing_behind() {
    let mut disk = Disk::new();
    let mut list = write_using(RodToken::zero().bytes(), 0, &[(0, 8)]);
    list[2] = 0x01;
    let Step::Background(MediaCommand::Copy(copy), pending, _) =
        disk.step(&command(0x11, 5, list.len()), &list)
    else {
        panic!()
    };
    disk.unit.remove_nexus(A);
    assert!(copy.progress.is_stopped());
    let _ = disk.unit.finish(pending, MediaOutcome::Copied(CopyReport::failed(CopyFault::Stopped)));
    disk.unit.add_nexus(A, crate::harness::nexus("a"));
    disk.told(A);
    disk.illegal(&information(5), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
}

/// A volume that is write-protected makes tokens and takes none.
#[test]
fn writing_with_a_token_is_writing() {
    let mut disk = Disk::new();
    disk.unit.set_nexus_read_only(A, true);
    disk.told(A);
    let list = populate(&[(0, 8)]);
    disk.good(&command(0x10, 5, list.len()), &list);
    let list = write_using(RodToken::zero().bytes(), 0, &[(0, 8)]);
    let info = disk.bad(&command(0x11, 6, list.len()), &list);
    assert_eq!((info.key, info.additional), (7, AdditionalSense::WRITE_PROTECTED));
}
