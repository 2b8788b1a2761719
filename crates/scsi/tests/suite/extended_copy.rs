//! EXTENDED COPY and what RECEIVE COPY tells of it (SPC-4 5.17, 6.3 to 6.5, 6.22 to 6.25).

use scsi::{
    AdditionalSense, CopyFault, CopyReport, CopySide, CopyWork, DeviceAnswer, MediaCommand, MediaFailureKind,
    MediaOutcome, SenseKey, Status, Step, UnitReference,
};

use crate::harness::{A, B, BLOCKS, Disk, SenseInfo, cdb, config, identity, pattern};

/// EXTENDED COPY with a list of so many bytes.
pub(crate) fn extended_copy(action: u8, len: usize) -> [u8; 16] {
    let [a, b, c, d] = u32::try_from(len).unwrap().to_be_bytes();
    [0x83, action, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0]
}

fn receive(action: u8, list: u8, allocation_len: u16) -> [u8; 16] {
    let [high, low] = allocation_len.to_be_bytes();
    [0x84, action, list, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low, 0, 0]
}

/// An identification descriptor of a disk, as sg_xcopy and ESXi send it.
fn target(naa: &[u8; 16]) -> Vec<u8> {
    let mut target = vec![0xe4, 0, 0, 0, 1, 3, 0, 16];
    target.extend_from_slice(naa);
    target.extend_from_slice(&[0, 0, 0, 0, 0, 0, 2, 0]);
    target
}

/// Block to block, from and to the first target.
fn segment(blocks: u16, source: u64, destination: u64) -> Vec<u8> {
    let mut segment = vec![0x02, 0, 0, 0x18, 0, 0, 0, 0, 0, 0];
    segment.extend_from_slice(&blocks.to_be_bytes());
    segment.extend_from_slice(&source.to_be_bytes());
    segment.extend_from_slice(&destination.to_be_bytes());
    segment
}

/// A list of EXTENDED COPY(LID1).
fn lid1(list: u8, usage: u8, targets: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (targets, segments) = (targets.concat(), segments.concat());
    let mut all = vec![list, usage << 3];
    all.extend_from_slice(&u16::try_from(targets.len()).unwrap().to_be_bytes());
    all.extend_from_slice(&[0; 4]);
    all.extend_from_slice(&u32::try_from(segments.len()).unwrap().to_be_bytes());
    all.extend_from_slice(&[0; 4]);
    [all, targets, segments].concat()
}

fn own() -> Vec<u8> {
    target(&identity().naa)
}

fn simple(segment: Vec<u8>) -> Vec<u8> {
    lid1(1, 0, &[own()], &[segment])
}

#[track_caller]
fn refused(list: &[u8], additional: AdditionalSense) -> SenseInfo {
    Disk::new().illegal(&extended_copy(0, list.len()), list, additional)
}

#[track_caller]
fn aborted(disk: &mut Disk, list: &[u8], additional: AdditionalSense) -> SenseInfo {
    let info = disk.bad(&extended_copy(0, list.len()), list);
    assert_eq!((info.key, info.additional), (SenseKey::CopyAborted.code(), additional));
    info
}

/// sg_xcopy and ESXi: the blocks of one place to another.
#[test]
fn a_segment_is_copied() {
    let mut disk = Disk::new();
    disk.good(&cdb(0x2a, 0, 16, 24), &pattern(24));
    let list = simple(segment(24, 16, 100));
    disk.good(&extended_copy(0, list.len()), &list);
    assert_eq!(disk.good(&cdb(0x28, 0, 100, 24), &[]), pattern(24));
    assert_eq!(disk.good(&cdb(0x28, 0, 16, 24), &[]), pattern(24));
}

#[test]
fn segments_are_copied_one_after_the_other() {
    let mut disk = Disk::new();
    disk.good(&cdb(0x2a, 0, 0, 8), &pattern(8));
    let list = lid1(9, 0b10, &[own()], &[segment(8, 0, 50), segment(0, 0, 0), segment(8, 50, 70)]);
    disk.good(&extended_copy(0, list.len()), &list);
    assert_eq!(disk.good(&cdb(0x28, 0, 70, 8), &[]), pattern(8), "the last reads what the first wrote");
}

/// SPC-4 6.4.2: the same in the other list, with a list identifier of four bytes.
#[test]
fn the_list_of_lid4_has_its_own_header() {
    let mut disk = Disk::new();
    disk.good(&cdb(0x2a, 0, 0, 8), &pattern(8));
    let list = lid4(0x0102_0304, 0);
    disk.good(&extended_copy(1, list.len()), &list);
    assert_eq!(disk.good(&cdb(0x28, 0, 40, 8), &[]), pattern(8));
    let status = disk.good(&[0x84, 5, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[]);
    assert_eq!((status[4], status[5]), (1, 0x01), "EXTENDED COPY(LID4), completed");
    assert_eq!(status[8..12], 0xffff_fffe_u32.to_be_bytes());
    assert_eq!((status[15], &status[16..24]), (0, &4096_u64.to_be_bytes()[..]), "bytes");
    assert_eq!((status.len(), &status[24..26]), (32, &[0, 1][..]), "one segment");
}

fn lid4(list: u32, flags: u8) -> Vec<u8> {
    let mut all = vec![0; 48];
    all[0] = 1;
    all[3] = 0x20;
    all[15] = flags;
    all[16] = 0xff;
    all[20..24].copy_from_slice(&list.to_be_bytes());
    all[43] = 32;
    all[45] = 28;
    [all, own(), segment(8, 0, 40)].concat()
}

#[test]
fn each_field_of_the_lid4_header_is_checked() {
    let mut disk = Disk::new();
    let field = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    for (at, value, pointer) in [
        (0, 0, (false, 0, None)),
        (3, 0, (false, 3, None)),
        (16, 0xe4, (false, 16, None)),
        (1, 0x08, (false, 1, Some(4))),
        (15, 0x02, (false, 15, Some(1))),
    ] {
        let mut list = lid4(5, 0);
        list[at] = value;
        let info = disk.illegal(&extended_copy(1, list.len()), &list, field);
        assert_eq!(info.field, Some(pointer));
    }
    let mut nameless = lid4(0, 1);
    nameless[1] = 0x18;
    disk.illegal(&extended_copy(1, nameless.len()), &nameless, field);
    disk.illegal(&extended_copy(1, 47), &lid4(5, 0)[..47], AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
}

/// libiscsi's ExtendedCopy.ParamHdr; SPC-4 6.5.
#[test]
fn a_list_that_is_cut_is_refused_whole() {
    let list = simple(segment(8, 0, 100));
    for len in 1..list.len() {
        refused(&list[..len], AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    }
    let mut disk = Disk::new();
    disk.good(&extended_copy(0, 0), &[]);
    let no_segments = lid1(1, 0, &[own()], &[]);
    disk.good(&extended_copy(0, no_segments.len()), &no_segments);
}

/// libiscsi's ExtendedCopy.DescrLimits; the limits are those that RECEIVE COPY OPERATING PARAMETERS tells.
#[test]
fn too_many_descriptors_are_refused() {
    let mut disk = Disk::new();
    let parameters = disk.good(&receive(3, 0, 255), &[]);
    let number = |at: usize| usize::from(u16::from_be_bytes([parameters[at], parameters[at + 1]]));
    let (targets, segments) = (number(8), number(10));
    let list = |targets, segments| lid1(1, 0, &vec![own(); targets], &vec![segment(8, 0, 8); segments]);
    disk.good(&extended_copy(0, list(targets, segments).len()), &list(targets, segments));
    refused(&list(targets + 1, 1), AdditionalSense::TOO_MANY_TARGET_DESCRIPTORS);
    refused(&list(1, segments + 1), AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS);
    refused(&list(targets + 1, 140), AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
}

/// libiscsi's ExtendedCopy.DescrType.
#[test]
fn other_types_of_descriptors_are_refused() {
    for kind in [0xe0, 0xe5, 0xe7, 0xeb, 0xfe, 0xff] {
        let mut other = own();
        other[0] = kind;
        let list = lid1(1, 0, &[other], &[segment(8, 0, 8)]);
        refused(&list, AdditionalSense::UNSUPPORTED_TARGET_DESCRIPTOR);
    }
    for kind in [0x00, 0x01, 0x03, 0x04, 0x0b, 0x0d, 0xbe] {
        let mut other = segment(8, 0, 8);
        other[0] = kind;
        refused(&simple(other), AdditionalSense::UNSUPPORTED_SEGMENT_DESCRIPTOR);
    }
}

#[test]
fn wrong_fields_of_the_list_are_named() {
    let field = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    let pointer = |list: &[u8]| refused(list, field).field.map(|(_, byte, bit)| (byte, bit));
    let with = |at: usize, value| {
        let mut list = simple(segment(8, 0, 8));
        list[at] = value;
        list
    };
    assert_eq!(pointer(&with(1, 0b01 << 3)), Some((1, Some(4))), "reserved LIST ID USAGE");
    assert_eq!(pointer(&with(1, 0b11 << 3)), Some((0, None)), "no list identifier, and yet one");
    assert_eq!(pointer(&with(16 + 7, 21)), Some((23, None)), "DESIGNATOR LENGTH");
    assert_eq!(pointer(&with(48 + 3, 0x17)), Some((50, None)), "DESCRIPTOR LENGTH");
    refused(&with(15, 4), AdditionalSense::INLINE_DATA_LENGTH_EXCEEDED);
}

/// libiscsi's ExtendedCopy.ValidTgtDescr: LU ID TYPE is ignored (SPC-4 6.4.5.1), and so is NUL, which is obsolete.
#[test]
fn what_means_nothing_here_is_ignored() {
    let mut disk = Disk::new();
    for flags in [0x40, 0xc0, 0x20] {
        let mut target = own();
        target[1] |= flags;
        (target[2], target[3]) = (0, 9);
        let mut segment = segment(8, 0, 8);
        segment[1] = 0x01;
        let list = lid1(1, 0b10, &[target], &[segment]);
        disk.good(&extended_copy(0, list.len()), &list);
    }
}

/// libiscsi's ExtendedCopy.ValidSegDescr; SPC-4 5.17.7.4 a), b) and g).
#[test]
fn what_goes_wrong_in_a_segment_is_copy_aborted_and_names_it() {
    let mut disk = Disk::new();
    let mut no_such_index = segment(8, 0, 8);
    no_such_index[7] = 1;
    let unreachable = AdditionalSense::COPY_TARGET_NOT_REACHABLE;
    aborted(&mut disk, &simple(no_such_index), unreachable);

    let beyond = lid1(1, 0, &[own()], &[segment(8, 0, 8), segment(8, 0, BLOCKS - 1)]);
    let completion = disk.run(&extended_copy(0, beyond.len()), &beyond);
    let sense = &completion.sense;
    assert_eq!((sense[0], sense[2], sense[12], sense[13]), (0x70, 0x0a, 0, 0));
    assert_eq!(sense[8..12], [0, 0, 0, 1], "the second segment");
    assert_eq!(sense[15..18], [0xa0, 0, 20], "DESTINATION LOGICAL BLOCK ADDRESS of the segment descriptor");

    let mut other_name = own();
    other_name[8 + 15] ^= 1;
    let completion = disk.run(&extended_copy(0, 76), &lid1(1, 0, &[other_name], &[segment(8, 0, 8)]));
    assert_eq!(completion.sense[15..18], [0x80, 0, 16], "the descriptor of the unit");
}

/// Names a unit here does not have, and those of ports and targets, reach nothing.
#[test]
fn only_the_unit_s_naa_identifier_finds_it() {
    for (at, value) in [(4, 2), (5, 1), (5, 0x13), (5, 2), (7, 8)] {
        let mut other = own();
        other[at] = value;
        let list = lid1(1, 0, &[other], &[segment(8, 0, 8)]);
        let command = Disk::new().asks(&extended_copy(0, list.len()), &list);
        let MediaCommand::Copy(copy) = command else { panic!("{command:?}") };
        let CopyWork::Segments(segments) = copy.work else { panic!() };
        assert_eq!(segments[0].source.unit, UnitReference::Unknown, "byte {at}");
    }
}

/// SPC-4 table 131: FFFFh is the unit that takes the command.
#[test]
fn the_unit_can_be_meant_without_a_descriptor() {
    let mut disk = Disk::new();
    disk.good(&cdb(0x2a, 0, 0, 8), &pattern(8));
    let mut segment = segment(8, 0, 64);
    segment[4..8].fill(0xff);
    let list = lid1(0, 0b11, &[], &[segment]);
    disk.good(&extended_copy(0, list.len()), &list);
    assert_eq!(disk.good(&cdb(0x28, 0, 64, 8), &[]), pattern(8));
}

/// SPC-4 6.4.6.12: the lengths of this one are bytes.
#[test]
fn a_segment_with_offsets_is_copied() {
    let mut disk = Disk::new();
    disk.good(&cdb(0x2a, 0, 2, 8), &pattern(8));
    let mut with_offset = vec![0x0a, 0, 0, 0x1c, 0, 0, 0, 0, 0, 0, 0x10, 0];
    with_offset.extend_from_slice(&0_u64.to_be_bytes());
    with_offset.extend_from_slice(&99_u64.to_be_bytes());
    with_offset.extend_from_slice(&[0x04, 0, 0x02, 0]);
    let list = simple(with_offset.clone());
    disk.good(&extended_copy(0, list.len()), &list);
    assert_eq!(disk.good(&cdb(0x28, 0, 100, 8), &[]), pattern(8));
    with_offset[11] = 1;
    aborted(&mut disk, &simple(with_offset), AdditionalSense::COPY_SEGMENT_GRANULARITY_VIOLATION);
}

/// libiscsi's ReceiveCopyResults; SPC-4 6.25: by list identifier, and by nexus.
#[test]
fn the_status_of_a_copy_is_kept() {
    let mut disk = Disk::new();
    let field = AdditionalSense::INVALID_FIELD_IN_CDB;
    assert_eq!(disk.illegal(&receive(0, 1, 64), &[], field).field, Some((true, 2, None)), "no copy yet");
    let list = simple(segment(8, 0, 8));
    disk.good(&extended_copy(0, list.len()), &list);
    let status = [0, 0, 0, 8, 0x01, 0, 1, 0, 0, 0, 0x10, 0];
    assert_eq!(disk.good(&receive(0, 1, 64), &[]), status);
    assert_eq!(disk.good(&receive(0, 1, 5), &[]), status[..5], "AVAILABLE DATA is not altered by the cut");
    assert_eq!(disk.good(&receive(4, 1, 64), &[]), [0; 4], "nothing failed");
    assert_eq!(disk.of(B, &receive(0, 1, 64), &[]).status, Status::CheckCondition, "another nexus");
    disk.illegal(&[0x84, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[], field);
    disk.unit.reset();
    disk.told(A);
    disk.illegal(&receive(0, 1, 64), &[], field);
}

/// SPC-4 6.23: told once; the sense data are those the command ended with.
#[test]
fn the_details_of_a_failure_are_told_once() {
    let mut disk = Disk::new();
    let list = simple(segment(8, BLOCKS, 8));
    let ended = disk.run(&extended_copy(0, list.len()), &list);
    assert_eq!(disk.good(&receive(0, 1, 64), &[])[4], 0x02, "completed with errors");
    let details = disk.good(&receive(4, 1, 255), &[]);
    assert_eq!(details[..4], 74_u32.to_be_bytes());
    assert_eq!((details[56], &details[58..60]), (0x02, &[0, 18][..]));
    assert_eq!(details[60..], ended.sense);
    assert_eq!(disk.good(&receive(4, 1, 255), &[]), [0; 4]);
}

#[test]
fn failures_of_volumes_are_third_party_device_failures() {
    let mut disk = Disk::new();
    let list = lid1(3, 0, &[own()], &[segment(8, 0, 8), segment(16, 0, 64)]);
    for fault in [
        CopyFault::Failed(CopySide::Destination, MediaFailureKind::SpaceExhausted.into()),
        CopyFault::Failed(CopySide::Source, MediaFailureKind::MediumError.into()),
        CopyFault::Refused(
            CopySide::Destination,
            DeviceAnswer { status: Status::ReservationConflict, sense: None },
        ),
    ] {
        let step = disk.step(&extended_copy(0, list.len()), &list);
        let Step::Media(MediaCommand::Copy(copy), pending) = step else { panic!() };
        copy.progress.begin_segment();
        copy.progress.advance(4096);
        copy.progress.begin_segment();
        copy.progress.advance(2048);
        let completion = disk.unit.finish(pending, MediaOutcome::Copied(CopyReport::failed(fault)));
        let info = SenseInfo::of(&completion);
        assert_eq!((info.key, info.additional), (0x0a, AdditionalSense::THIRD_PARTY_DEVICE_FAILURE));
        assert_eq!(info.information, Some(12), "blocks left of the second segment");
        assert_eq!((completion.sense[11], &completion.sense[15..18]), (1, &[0x80, 0, 16][..]));
    }
}

/// A copy under way: its progress is seen, its identifier is taken, and it can be stopped (SPC-4 6.3 and 6.24).
#[test]
fn a_copy_under_way_can_be_watched_and_stopped() {
    let mut disk = Disk::new();
    let list = lid4(7, 0);
    let step = disk.step(&extended_copy(1, list.len()), &list);
    let Step::Media(MediaCommand::Copy(copy), pending) = step else { panic!() };
    copy.progress.begin_segment();
    copy.progress.advance(1024);
    let status = |disk: &mut Disk| disk.good(&[0x84, 5, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[]);
    let under_way = status(&mut disk);
    assert_eq!((under_way[5], u64::from_be_bytes(under_way[16..24].try_into().unwrap())), (0x11, 1024));
    assert!(u32::from_be_bytes(under_way[8..12].try_into().unwrap()) <= 1000, "worth asking again");
    disk.illegal(&extended_copy(1, list.len()), &list, AdditionalSense::OPERATION_IN_PROGRESS);
    let abort = [0x83, 0x1c, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    disk.good(&abort, &[]);
    assert!(copy.progress.is_stopped());
    let outcome = MediaOutcome::Copied(CopyReport::failed(CopyFault::Stopped));
    assert_eq!(disk.unit.finish(pending, outcome).status, Status::TaskAborted);
    let ended = status(&mut disk);
    assert_eq!((ended[5], ended[12]), (0x60, 0x40), "terminated; TASK ABORTED");
    let info = disk.illegal(&abort, &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(info.field, Some((true, 2, None)));
}

/// SPC-4 5.17.4.3: IMMED.
#[test]
fn a_copy_in_the_background_is_answered_at_once() {
    let mut disk = Disk::new();
    let list = lid4(7, 1);
    let Step::Background(MediaCommand::Copy(_), pending, completion) =
        disk.step(&extended_copy(1, list.len()), &list)
    else {
        panic!()
    };
    assert_eq!(completion.status, Status::Good);
    let status = |disk: &mut Disk| disk.good(&[0x84, 5, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[])[5];
    assert_eq!(status(&mut disk), 0x12);
    let _ = disk.unit.finish(pending, MediaOutcome::Copied(CopyReport::default()));
    assert_eq!(status(&mut disk), 0x01);
}

/// SPC-4 7.8.17 and 6.22: what one tells, the other does.
#[test]
fn the_page_and_the_operating_parameters_agree() {
    let mut disk = Disk::new();
    let page = disk.good(&[0x12, 1, 0x8f, 4, 0, 0], &[]);
    assert_eq!(usize::from(u16::from_be_bytes([page[2], page[3]])), page.len() - 4);
    let parameters = disk.good(&receive(3, 0, 255), &[]);
    assert_eq!(parameters.len(), 44 + usize::from(parameters[43]));
    let mut found = Vec::new();
    let mut rest = &page[4..];
    while let [a, b, c, d, ..] = *rest {
        let len = usize::from(u16::from_be_bytes([c, d]));
        assert!(len.is_multiple_of(4));
        let (kind, body) = (u16::from_be_bytes([a, b]), &rest[4..4 + len]);
        match kind {
            0x0001 => assert_eq!(body[..14], [14, 0x83, 5, 0, 1, 0x10, 0x11, 0x1c, 0x84, 5, 0, 3, 4, 5]),
            0x0004 => assert_eq!((&body[4..12], &body[12..]), (&parameters[8..16], &[0; 16][..])),
            0x0008 => assert_eq!(body[..4], parameters[43..47]),
            0x000c => assert_eq!(body, [0, 2, 0xff, 0xff]),
            0x0106 => assert_eq!((body[0], body[11 + 33], len), (4, 0, 92)),
            0x8001 => assert_eq!((&body[8..12], body[12]), (&parameters[16..20], 9)),
            _ => {}
        }
        found.push(kind);
        rest = &rest[4 + len..];
    }
    assert_eq!(found, [0x0000, 0x0001, 0x0004, 0x0008, 0x000c, 0x0106, 0x8001]);
    assert_eq!(parameters[44..], [0x02, 0x0a, 0xe4]);
}

/// The off switch takes everything away together, and hosts are told.
#[test]
fn without_offload_nothing_of_it_is_there() {
    let mut disk = Disk::with(scsi::LogicalUnitConfig { offload: false, ..config() });
    assert_eq!(disk.good(&[0x12, 0, 0, 0, 96, 0], &[])[5] & 0x08, 0, "3PC");
    disk.illegal(&[0x12, 1, 0x8f, 0, 255, 0], &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert!(!disk.good(&[0x12, 1, 0, 0, 255, 0], &[]).contains(&0x8f));
    for opcode in [0x83, 0x84] {
        disk.illegal(&[opcode, 0, 0, 0], &[], AdditionalSense::INVALID_OPERATION_CODE);
        disk.illegal(&[opcode, 0x1f, 0, 0], &[], AdditionalSense::INVALID_OPERATION_CODE);
    }
    let all = disk.good(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], &[]);
    assert!(all[4..].chunks(8).all(|entry| entry[0] != 0x83 && entry[0] != 0x84));
    disk.unit.set_offload(true);
    assert_eq!(disk.told(A), Some(AdditionalSense::INQUIRY_DATA_CHANGED));
    assert_eq!(disk.told(B), Some(AdditionalSense::INQUIRY_DATA_CHANGED));
    disk.good(&receive(3, 0, 64), &[]);
    disk.unit.set_offload(true);
    assert_eq!(disk.told(A), None, "nothing changed");
}

/// What a host may not do by itself a copy does not do for it.
#[test]
fn a_copy_has_the_rights_of_its_host() {
    use scsi::{Availability, CopyAgent};
    let mut disk = Disk::new();
    let agent = CopyAgent { nexus: Some(A), initiator: "iqn.2026-01.test:a", read_only: false };
    let far = CopyAgent { nexus: None, ..agent };
    let refusal =
        |disk: &Disk, agent, side| disk.unit.admit_copy(agent, side).err().map(|answer| answer.status);
    for agent in [agent, far] {
        let grant = disk.unit.admit_copy(agent, CopySide::Destination).unwrap();
        assert_eq!((grant.geometry.blocks, grant.nexus), (BLOCKS, Some(A)));
    }
    let stranger = CopyAgent { initiator: "iqn.2026-01.test", read_only: true, ..far };
    assert_eq!(disk.unit.admit_copy(stranger, CopySide::Source).unwrap().nexus, None);
    assert_eq!(refusal(&disk, stranger, CopySide::Destination), Some(Status::CheckCondition));
    disk.unit.set_nexus_read_only(A, true);
    assert_eq!(refusal(&disk, agent, CopySide::Destination), Some(Status::CheckCondition));
    assert_eq!(refusal(&disk, agent, CopySide::Source), None);
    disk.unit.set_availability(Availability::BecomingReady);
    assert_eq!(refusal(&disk, agent, CopySide::Source), Some(Status::CheckCondition));
}

/// SPC-4 5.13.1 by way of a copy: whoever a reservation shuts out does not come in through another unit.
#[test]
fn a_copy_honours_the_reservations_of_its_ends() {
    use scsi::CopyAgent;
    const WRITE_EXCLUSIVE: u8 = 1;
    const EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: u8 = 6;
    let agent = |host: &'static str| CopyAgent { nexus: None, initiator: host, read_only: false };
    let (a, b) = (agent("iqn.2026-01.test:a"), agent("iqn.2026-01.test:b"));
    let stranger = agent("iqn.2026-01.test:c");
    let keys = |old: u64, new: u64| [old.to_be_bytes(), new.to_be_bytes(), [0; 8]].concat();
    for (kind, readable) in [(WRITE_EXCLUSIVE, true), (EXCLUSIVE_ACCESS_REGISTRANTS_ONLY, false)] {
        let mut disk = Disk::new();
        disk.good(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &keys(0, 1));
        disk.good(&[0x5f, 1, kind, 0, 0, 0, 0, 0, 24, 0], &keys(1, 0));
        for side in [CopySide::Source, CopySide::Destination] {
            assert!(disk.unit.admit_copy(a, side).is_ok());
            for other in [b, stranger, CopyAgent { nexus: Some(B), ..b }] {
                let refused = disk.unit.admit_copy(other, side).err().map(|answer| answer.status);
                let admitted = side == CopySide::Source && readable;
                assert_eq!(refused, (!admitted).then_some(Status::ReservationConflict), "{kind} {other:?}");
            }
        }
        let list = simple(segment(8, 0, 8));
        let conflict = disk.of(B, &extended_copy(0, list.len()), &list);
        assert_eq!(conflict.status, Status::ReservationConflict, "the command itself");
    }
}
