//! Unit attentions: who is told what, when, and once (SAM-5 5.14).

use scsi::{AdditionalSense, DataOut, LogicalUnit, Lun, NexusId, SenseKey, Status, Step, UnitAttention};

use crate::harness::{A, B, BLOCKS, Disk, SenseInfo, TEST_UNIT_READY, cdb, config, nexus};

const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 96, 0];
const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

#[test]
fn a_new_nexus_hears_of_power_on_and_a_returned_one_of_its_loss() {
    let mut disk = Disk::new();
    disk.unit.add_nexus(NexusId(9), nexus("c"));
    assert_eq!(disk.told(NexusId(9)), Some(AdditionalSense::POWER_ON_OR_RESET));
    assert_eq!(disk.told(NexusId(9)), None);
    assert!(disk.unit.remove_nexus(NexusId(9)));
    let mut returned = nexus("c");
    returned.returned = true;
    disk.unit.add_nexus(NexusId(10), returned);
    assert_eq!(disk.told(NexusId(10)), Some(AdditionalSense::NEXUS_LOSS));
    assert_eq!(disk.unit.nexus_count(), 3);
}

/// A command that arrives after its session ended must not run.
#[test]
fn an_unknown_nexus_is_turned_away() {
    let mut unit = LogicalUnit::new(config()).unwrap();
    for command in [&TEST_UNIT_READY[..], &INQUIRY, &REPORT_LUNS, &cdb(0x2a, 0, 0, 1)] {
        let step = unit.execute(A, &scsi::Cdb::new(command), DataOut::none());
        let Step::Done(completion) = step else { panic!("{step:?}") };
        assert_eq!(SenseInfo::of(&completion).key, SenseKey::AbortedCommand.code());
    }
}

#[test]
fn a_pending_attention_ends_the_command_whatever_is_wrong_with_it() {
    let mut disk = Disk::new();
    let commands: [&[u8]; 5] =
        [&TEST_UNIT_READY, &cdb(0x28, 0, 0, 1), &cdb(0x88, 0, u64::MAX, 1), &[0xff; 16], &[0x9e, 0x1f]];
    for command in commands {
        disk.unit.raise(A, UnitAttention::CapacityChanged);
        let info = disk.bad(command, &[]);
        assert_eq!((info.key, info.additional), (6, AdditionalSense::CAPACITY_CHANGED), "{command:02x?}");
        assert_eq!(disk.told(A), None);
    }
    assert_eq!(disk.medium.log, []);
}

#[test]
fn inquiry_and_report_luns_run_and_leave_it_pending() {
    let mut disk = Disk::new();
    disk.unit.raise(A, UnitAttention::CapacityChanged);
    disk.good(&INQUIRY, &[]);
    disk.good(&[0x12, 1, 0x83, 0, 255, 0], &[]);
    disk.good(&REPORT_LUNS, &[]);
    assert_eq!(disk.told(A), Some(AdditionalSense::CAPACITY_CHANGED));
}

/// SPC-4 6.33: having read the list, the host knows.
#[test]
fn report_luns_clears_the_news_it_carries() {
    let mut disk = Disk::new();
    disk.unit.raise_all(UnitAttention::ReportedLunsChanged, None);
    disk.good(&REPORT_LUNS, &[]);
    assert_eq!(disk.told(A), None);
    assert_eq!(disk.told(B), Some(AdditionalSense::REPORTED_LUNS_CHANGED));
}

#[test]
fn request_sense_returns_it_as_data() {
    // VALID: the threshold's descriptor is named.
    for (desc, code) in [(0, 0xf0), (1, 0x72)] {
        let mut disk = Disk::new();
        disk.unit.raise(A, UnitAttention::SoftThresholdReached);
        let data = disk.good(&[0x03, desc, 0, 0, 252, 0], &[]);
        assert_eq!(data[0], code);
        let info = SenseInfo::parse(&data);
        assert_eq!((info.key, info.additional), (6, AdditionalSense::SOFT_THRESHOLD_REACHED));
        let nothing = SenseInfo::parse(&disk.good(&[0x03, desc, 0, 0, 252, 0], &[]));
        assert_eq!((nothing.key, nothing.additional), (0, AdditionalSense::NONE));
    }
}

#[test]
fn request_sense_is_cut_to_any_allocation_length() {
    let mut disk = Disk::new();
    for len in 0..=255 {
        assert_eq!(disk.good(&[0x03, 0, 0, 0, len, 0], &[]).len(), usize::from(len.min(18)));
    }
}

#[test]
fn several_are_told_in_order_of_weight() {
    let mut disk = Disk::new();
    for attention in UnitAttention::ALL.into_iter().rev() {
        disk.unit.raise(A, attention);
    }
    for attention in UnitAttention::ALL {
        assert_eq!(disk.told(A), Some(attention.additional()));
    }
    assert_eq!(disk.told(A), None);
    assert_eq!(disk.told(B), None);
}

/// Promise of online growth: every host is told once, and then sees the new size (SBC-3 4.7).
#[test]
fn growing_is_told_to_all() {
    let mut disk = Disk::new();
    disk.unit.capacity_changed(BLOCKS).unwrap();
    assert_eq!(disk.told(A), None, "nothing changed");
    disk.unit.capacity_changed(BLOCKS * 2).unwrap();
    assert_eq!(disk.unit.blocks(), BLOCKS * 2);
    for id in [A, B] {
        assert_eq!(disk.told(id), Some(AdditionalSense::CAPACITY_CHANGED));
        assert_eq!(disk.told(id), None);
    }
    let capacity = disk.good(&cdb(0x25, 0, 0, 0), &[]);
    assert_eq!(capacity[..4], [0, 0, 0x0f, 0xff]);
    assert!(disk.unit.capacity_changed(0).is_err());
    assert!(disk.unit.capacity_changed(u64::MAX).is_err());
    assert_eq!(disk.told(A), None);
}

#[test]
fn read_only_is_told_when_it_changes() {
    let mut disk = Disk::new();
    disk.unit.set_read_only(false);
    disk.unit.set_nexus_read_only(A, false);
    assert_eq!(disk.told(A), None);
    disk.unit.set_nexus_read_only(A, true);
    assert_eq!(disk.told(A), Some(AdditionalSense::MODE_PARAMETERS_CHANGED));
    assert_eq!(disk.told(B), None);
    let info = disk.bad(&cdb(0x2a, 0, 0, 1), &[1; 512]);
    assert_eq!((info.key, info.additional), (7, AdditionalSense::WRITE_PROTECTED));
    assert_eq!(disk.of(B, &cdb(0x2a, 0, 0, 1), &[1; 512]).status, Status::Good);
    disk.unit.set_nexus_read_only(NexusId(77), true);
}

#[test]
fn a_reset_is_told_to_all() {
    let mut disk = Disk::new();
    disk.unit.reset();
    for id in [A, B] {
        assert_eq!(disk.told(id), Some(AdditionalSense::BUS_DEVICE_RESET));
    }
}

#[test]
fn clearing_a_task_set_spares_its_cause() {
    let mut disk = Disk::new();
    disk.unit.raise_all(UnitAttention::CommandsCleared, Some(A));
    assert_eq!(disk.told(A), None);
    assert_eq!(disk.told(B), Some(AdditionalSense::COMMANDS_CLEARED));
}

#[test]
fn report_luns_lists_what_the_target_says() {
    let mut disk = Disk::new();
    let luns: Vec<Lun> = [0, 1, 300].into_iter().filter_map(Lun::new).collect();
    let mut list = |select: u8, allocation_len: u8| {
        let cdb = [0xa0, 0, select, 0, 0, 0, 0, 0, 0, allocation_len, 0, 0];
        let Step::ReportLuns(report) = disk.step(&cdb, &[]) else { panic!() };
        report.complete(&luns).data_in.concat()
    };
    let all = list(0, 255);
    assert_eq!(all[..8], [0, 0, 0, 24, 0, 0, 0, 0]);
    assert_eq!(
        all[8..],
        [[0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0], [0x41, 0x2c, 0, 0, 0, 0, 0, 0]].concat()
    );
    assert_eq!(list(2, 255), all);
    assert_eq!(list(0, 20), all[..20], "the length tells of all");
    assert_eq!(list(1, 255), [0; 8], "no well-known units");
    let invalid = AdditionalSense::INVALID_FIELD_IN_CDB;
    for select in [0x03, 0x10, 0xff] {
        disk.illegal(&[0xa0, 0, select, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[], invalid);
    }
    // SPC-4 6.33.1: at least 16 bytes.
    for len in 0..16 {
        let info = disk.illegal(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, len, 0, 0], &[], invalid);
        assert_eq!(info.field, Some((true, 6, None)));
    }
}
