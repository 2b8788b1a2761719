//! REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS (SPC-4 6.35 and 6.36).

use scsi::command::COMMANDS;
use scsi::{AdditionalSense, LogicalUnitConfig, TaskManagement};

use crate::harness::{Disk, config};

const RCTD: u8 = 0x80;

fn report(options: u8, opcode: u8, action: u16) -> [u8; 12] {
    let [high, low] = action.to_be_bytes();
    [0xa3, 0x0c, options, opcode, high, low, 0, 0, 0xff, 0xff, 0, 0]
}

#[test]
fn all_commands_are_listed_with_and_without_timeouts() {
    let mut disk = Disk::new();
    for (options, size) in [(0, 8), (RCTD, 20)] {
        let data = disk.good(&report(options, 0, 0), &[]);
        let len = u32::from_be_bytes(data[..4].try_into().unwrap());
        assert_eq!(usize::try_from(len).unwrap(), data.len() - 4);
        let entries: Vec<_> = data[4..].chunks(size).collect();
        assert_eq!(entries.len(), COMMANDS.len());
        for (entry, command) in entries.iter().zip(COMMANDS) {
            let action = command.service_action;
            assert_eq!((entry[0], entry[3]), (command.opcode, action.unwrap_or(0)));
            let flags = u8::from(options == RCTD) << 1 | u8::from(action.is_some());
            assert_eq!((entry[5], entry[7]), (flags, command.cdb_len));
            if options == RCTD {
                assert_eq!(entry[8..12], [0, 10, 0, 0]);
                assert_eq!(entry[16..20], command.timeouts.recommended_seconds.to_be_bytes());
            }
        }
    }
}

#[test]
fn one_command_is_reported_by_opcode_or_by_service_action() {
    let mut disk = Disk::new();
    let invalid = AdditionalSense::INVALID_FIELD_IN_CDB;
    for command in COMMANDS {
        let action = u16::from(command.service_action.unwrap_or(0));
        let (right, wrong) = if command.service_action.is_some() { (2, 1) } else { (1, 2) };
        let data = disk.good(&report(right, command.opcode, action), &[]);
        assert_eq!(data[..4], [0, 3, 0, command.cdb_len], "{}", command.name);
        assert_eq!(data[4], command.opcode);
        assert_eq!(data.len(), 4 + usize::from(command.cdb_len));
        let info = disk.illegal(&report(wrong, command.opcode, action), &[], invalid);
        assert_eq!(info.field, Some((true, 2, Some(2))));
        assert_eq!(disk.good(&report(3, command.opcode, action), &[]), data);
        let timed = disk.good(&report(right | RCTD, command.opcode, action), &[]);
        assert_eq!((timed[1], timed.len()), (0x83, data.len() + 12));
    }
}

#[test]
fn what_is_not_supported_is_said_to_be_so() {
    let mut disk = Disk::new();
    for cdb in [
        report(1, 0xff, 0),
        report(1 | RCTD, 0x85, 0),
        report(2, 0xff, 3),
        report(2, 0x9e, 0x11),
        report(2, 0x9e, 0x110),
        report(3, 0x9e, 0),
        report(3, 0x28, 1),
        report(3, 0x7f, 9),
    ] {
        assert_eq!(disk.good(&cdb, &[]), [0, 1, 0, 0], "{cdb:02x?}");
    }
    for options in 4..8 {
        disk.illegal(&report(options, 0, 0), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    }
}

#[test]
fn a_thick_unit_does_not_list_unmap() {
    let mut disk = Disk::with(LogicalUnitConfig { thin: false, ..config() });
    assert_eq!(disk.good(&report(1, 0x42, 0), &[]), [0, 1, 0, 0]);
    let all = disk.good(&report(0, 0, 0), &[]);
    assert_eq!((all.len() - 4) / 8, COMMANDS.len() - 1);
    assert!(all[4..].chunks(8).all(|entry| entry[0] != 0x42));
    assert_eq!(disk.good(&report(1, 0x93, 0), &[])[5], 0x01, "NDOB without UNMAP");
    assert_eq!(Disk::new().good(&report(1, 0x93, 0), &[])[5], 0x09);
}

#[test]
fn data_are_cut_to_any_allocation_length() {
    let mut disk = Disk::new();
    let whole = disk.good(&report(0, 0, 0), &[]);
    for len in 0..=255 {
        let cdb = [0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, len, 0, 0];
        assert_eq!(disk.good(&cdb, &[]), whole[..whole.len().min(len.into())]);
    }
}

#[test]
fn task_management_is_what_the_transport_does() {
    let mut disk = Disk::new();
    let cdb = |repd: u8, len: u8| [0xa3, 0x0d, repd, 0, 0, 0, 0, 0, 0, len, 0, 0];
    assert_eq!(disk.good(&cdb(0, 255), &[]), [0x80 | 0x40 | 0x10 | 0x08 | 0x02, 0, 0, 0]);
    let extended = disk.good(&cdb(0x80, 255), &[]);
    assert_eq!((extended.len(), extended[3]), (16, 12));
    for len in 0..4 {
        disk.illegal(&cdb(0, len), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    }
    let none = TaskManagement {
        abort_task: false,
        abort_task_set: false,
        clear_task_set: false,
        logical_unit_reset: false,
        target_reset: false,
    };
    let mut poor = Disk::with(LogicalUnitConfig { task_management: none, ..config() });
    assert_eq!(poor.good(&cdb(0, 4), &[]), [0; 4]);
}
