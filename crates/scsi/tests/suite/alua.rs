//! Asymmetric logical unit access (SPC-4 5.15.2, 6.37, 6.45): two fabrics, host A on group 1, host B on group 2.

use scsi::command::{COMMANDS, Reach};
use scsi::{AccessState, AdditionalSense, NexusId, PortGroup, PortGroupId, SenseKey, Status};

use crate::harness::{A, B, Disk, SenseInfo, nexus};

const REPORT: [u8; 12] = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
const REPORT_EXTENDED: [u8; 12] = [0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
const OPTIMIZED: u8 = 0;
const NON_OPTIMIZED: u8 = 1;
const STANDBY: u8 = 2;
const UNAVAILABLE: u8 = 3;
const OFFLINE: u8 = 0xe;
const TRANSITIONING: u8 = 0xf;

fn group(id: u16, state: AccessState) -> PortGroup {
    PortGroup { state, ..PortGroup::new(PortGroupId(id)) }
}

/// Groups 1 and 2 in these states; A has come by the first, B by the second, and both have heard of it.
fn fabrics(one: AccessState, two: AccessState) -> Disk {
    let mut disk = Disk::new();
    let mut by_second = nexus("b");
    by_second.target_port.portal_group_tag = 2;
    by_second.target_port.relative_id = 2;
    disk.unit.add_nexus(B, by_second);
    assert_eq!(disk.told(B), Some(AdditionalSense::POWER_ON_OR_RESET));
    disk.unit.set_port_groups(vec![group(2, two), group(1, one)]);
    for id in [A, B] {
        assert_eq!(disk.told(id), Some(AdditionalSense::ACCESS_STATE_CHANGED), "5.15.2.7");
    }
    disk
}

fn both_active() -> Disk {
    fabrics(AccessState::ActiveOptimized, AccessState::ActiveOptimized)
}

/// The CDB and list of SET TARGET PORT GROUPS with a state and group number a descriptor.
fn set(states: &[(u8, u16)]) -> (Vec<u8>, Vec<u8>) {
    let mut list = vec![0; 4];
    for (state, group) in states {
        let [high, low] = group.to_be_bytes();
        list.extend_from_slice(&[*state, 0, high, low]);
    }
    (set_cdb(list.len()), list)
}

fn set_cdb(list_len: usize) -> Vec<u8> {
    let mut cdb = vec![0xa4, 0x0a, 0, 0, 0, 0];
    cdb.extend_from_slice(&u32::try_from(list_len).unwrap().to_be_bytes());
    cdb.extend_from_slice(&[0, 0]);
    cdb
}

/// State with PREF, group and status code of each descriptor.
fn descriptors(data: &[u8], header: usize) -> Vec<(u8, u8, u8)> {
    let len = u32::from_be_bytes(data[..4].try_into().unwrap());
    assert_eq!(usize::try_from(len).unwrap(), data.len() - 4, "RETURN DATA LENGTH");
    let descriptors = data[header..].chunks(12);
    let read = |bytes: &[u8]| {
        assert_eq!(bytes[1], 0xcf, "T_SUP O_SUP U_SUP S_SUP AN_SUP AO_SUP, not LBD_SUP");
        assert_eq!(bytes[7], 1, "one port");
        assert_eq!(bytes[2..4], bytes[10..12], "the port has its group's number");
        (bytes[0], bytes[3], bytes[5])
    };
    descriptors.map(read).collect()
}

fn reported(disk: &mut Disk, by: NexusId) -> Vec<(u8, u8, u8)> {
    let completion = disk.of(by, &REPORT, &[]);
    assert_eq!(completion.status, Status::Good);
    descriptors(&completion.data_in.concat(), 4)
}

/// 6.37: the groups are the unit's, whichever path asks (ESXi asks on any and believes it of all).
#[test]
fn report_target_port_groups_is_byte_identical_on_every_path_in_both_formats() {
    use AccessState::{ActiveNonOptimized, ActiveOptimized, Offline, Standby, Transitioning, Unavailable};
    for (state, code) in [
        (ActiveOptimized, OPTIMIZED),
        (ActiveNonOptimized, NON_OPTIMIZED),
        (Standby, STANDBY),
        (Unavailable, UNAVAILABLE),
        (Offline, OFFLINE),
        (Transitioning, TRANSITIONING),
    ] {
        let mut disk = both_active();
        let preferred = PortGroup { preferred: true, ..group(1, ActiveOptimized) };
        disk.unit.set_port_groups(vec![preferred, group(2, state)]);
        for id in [A, B] {
            let _ = disk.of(id, &[0; 6], &[]);
        }
        for (cdb, header) in [(REPORT, 4), (REPORT_EXTENDED, 8)] {
            let [here, there] = [A, B].map(|id| disk.of(id, &cdb, &[]).data_in.concat());
            assert_eq!(here, there);
            let cause = if code == OPTIMIZED { 0 } else { 2 };
            assert_eq!(descriptors(&here, header), [(0x80, 1, 0), (code, 2, cause)]);
            if header == 8 {
                assert_eq!((here[4], here[6], here[7]), (0x10, 0, 0), "extended header");
                assert!(here[5] > 0, "IMPLICIT TRANSITION TIME");
            }
        }
    }
}

#[test]
fn report_target_port_groups_knows_two_formats_and_cuts_to_any_length() {
    let mut disk = both_active();
    for format in 2..8 {
        let mut cdb = REPORT;
        cdb[1] |= format << 5;
        let info = disk.illegal(&cdb, &[], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 1, Some(7))));
    }
    let whole = disk.good(&REPORT, &[]);
    for len in 0..40 {
        let mut cdb = REPORT;
        (cdb[8], cdb[9]) = (0, len);
        assert_eq!(disk.good(&cdb, &[]), whole[..whole.len().min(len.into())]);
    }
}

/// 5.15.2.4.3 to 5.15.2.4.5 and 5.15.2.5: every command of the table, on a path in every state.
#[test]
fn each_state_admits_the_commands_it_has_to_and_refuses_the_others_with_its_sense() {
    use AccessState::{Offline, Standby, Transitioning, Unavailable};
    let states = [
        (Standby, Reach::Standby, AdditionalSense { code: 0x04, qualifier: 0x0b }),
        (Unavailable, Reach::Unavailable, AdditionalSense { code: 0x04, qualifier: 0x0c }),
        (Offline, Reach::Unavailable, AdditionalSense { code: 0x04, qualifier: 0x12 }),
        (Transitioning, Reach::Transition, AdditionalSense { code: 0x04, qualifier: 0x0a }),
    ];
    for (state, least, additional) in states {
        let mut disk = fabrics(AccessState::ActiveOptimized, state);
        // Host A has its say on the good path whatever the state of the other.
        assert_eq!(disk.told(A), None);
        for command in COMMANDS {
            let mut cdb = [0; 16];
            (cdb[0], cdb[1]) = (command.opcode, command.service_action.unwrap_or(0));
            let completion = disk.of(B, &cdb[..usize::from(command.cdb_len)], &[]);
            let refused = completion.status == Status::CheckCondition && {
                let info = SenseInfo::of(&completion);
                info.additional == additional && info.key == SenseKey::NotReady.code()
            };
            assert_eq!(refused, command.reach < least, "{} on a path that is {state:?}", command.name);
        }
    }
}

/// The lists of 5.15.2.4.3 (standby), 5.15.2.4.4 (unavailable) and 5.15.2.5 (transition), as far as the commands
/// exist; what a standby path may do beyond its list are capacity and supported commands, which hosts ask of every
/// path when they meet it.
#[test]
fn the_reach_of_each_command_is_that_of_the_standard() {
    let transition = ["INQUIRY", "REPORT LUNS", "REPORT TARGET PORT GROUPS", "REQUEST SENSE"];
    let unavailable = ["SET TARGET PORT GROUPS"];
    let standby = [
        "LOG SELECT",
        "LOG SENSE",
        "MODE SELECT",
        "MODE SENSE",
        "PERSISTENT RESERVE IN",
        "PERSISTENT RESERVE OUT",
        "RECEIVE DIAGNOSTIC RESULTS",
        "SEND DIAGNOSTIC",
        "READ CAPACITY",
        "REPORT SUPPORTED",
    ];
    for command in COMMANDS {
        let is_of = |names: &[&str]| names.iter().any(|name| command.name.starts_with(name));
        if is_of(&transition) {
            assert_eq!(command.reach, Reach::Transition, "{}", command.name);
        } else if is_of(&unavailable) {
            assert_eq!(command.reach, Reach::Unavailable, "{}", command.name);
        } else if is_of(&standby) {
            assert_eq!(command.reach, Reach::Standby, "{}", command.name);
        }
        let needs_medium = command.writes || command.opcode == 0x00 || command.opcode & 0x1f == 0x08;
        assert!(!needs_medium || command.reach == Reach::Active, "{}", command.name);
    }
}

/// 5.15.2.4.4: the device is not to be had through an unavailable port.
#[test]
fn inquiry_through_an_unavailable_port_has_peripheral_qualifier_001b() {
    let mut disk = fabrics(AccessState::ActiveOptimized, AccessState::Unavailable);
    for cdb in [[0x12, 0, 0, 0, 96, 0], [0x12, 1, 0x83, 0, 255, 0]] {
        assert_eq!(disk.of(A, &cdb, &[]).data_in.concat()[0], 0x00);
        assert_eq!(disk.of(B, &cdb, &[]).data_in.concat()[0], 0x20);
    }
}

/// 6.39: what keeps the path from serving is pollable sense.
#[test]
fn request_sense_tells_of_the_path_it_comes_by() {
    let mut disk = fabrics(AccessState::ActiveOptimized, AccessState::Standby);
    let cdb = [0x03, 0, 0, 0, 252, 0];
    let sense = disk.of(B, &cdb, &[]).data_in.concat();
    assert_eq!((sense[2], sense[12], sense[13]), (2, 0x04, 0x0b));
    let sense = disk.of(A, &cdb, &[]).data_in.concat();
    assert_eq!((sense[2], sense[12]), (0, 0));
}

/// 6.45: every nexus but the one that did it hears of the change; STATUS CODE says who did it.
#[test]
fn set_target_port_groups_changes_states_and_tells_every_other_nexus() {
    let mut disk = both_active();
    let (cdb, list) = set(&[(STANDBY, 1), (NON_OPTIMIZED, 2)]);
    assert_eq!(disk.of(B, &cdb, &list).status, Status::Good);
    assert_eq!(disk.told(A), Some(AdditionalSense::ACCESS_STATE_CHANGED));
    assert_eq!(disk.told(A), Some(AdditionalSense::PORT_IN_STANDBY), "A came by group 1");
    assert_eq!(disk.told(B), None, "B did it");
    for id in [A, B] {
        assert_eq!(reported(&mut disk, id), [(STANDBY, 1, 1), (NON_OPTIMIZED, 2, 1)]);
    }
    // 5.15.2.4.3: the path itself may be used to take the state back.
    let (cdb, list) = set(&[(OPTIMIZED, 1)]);
    disk.good(&cdb, &list);
    assert_eq!(disk.told(A), None);
    assert_eq!(disk.told(B), Some(AdditionalSense::ACCESS_STATE_CHANGED));
    disk.good(&cdb, &list);
    assert_eq!(disk.told(B), None, "nothing changed");
}

/// 6.45: all or nothing.
#[test]
fn set_target_port_groups_with_a_wrong_descriptor_changes_nothing() {
    let mut disk = both_active();
    let before = reported(&mut disk, A);
    for (wrong, byte, bit) in [
        ((4, 2), 8, Some(3)),
        ((OFFLINE, 2), 8, Some(3)),
        ((TRANSITIONING, 2), 8, Some(3)),
        ((STANDBY, 3), 10, None),
        ((STANDBY, 0), 10, None),
    ] {
        let (cdb, list) = set(&[(STANDBY, 1), wrong]);
        let info = disk.illegal(&cdb, &list, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
        assert_eq!(info.field, Some((false, byte, bit)), "{wrong:?}");
    }
    let (_, list) = set(&[(STANDBY, 1), (STANDBY, 2)]);
    for len in [1, 3, 5, 7, 9, 11] {
        disk.illegal(&set_cdb(len), &list[..len], AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    }
    for nothing in [0, 4] {
        disk.good(&set_cdb(nothing), &list[..nothing]);
    }
    assert_eq!(reported(&mut disk, A), before);
    assert_eq!(disk.told(B), None);
}

/// A group that the administrator empties is not for hosts to take back.
#[test]
fn a_pinned_group_refuses_with_set_target_port_groups_command_failed() {
    let mut disk = both_active();
    let pinned = PortGroup { pinned: true, ..group(2, AccessState::ActiveNonOptimized) };
    disk.unit.set_port_groups(vec![group(1, AccessState::ActiveOptimized), pinned]);
    for id in [A, B] {
        assert_eq!(disk.told(id), Some(AdditionalSense::ACCESS_STATE_CHANGED));
    }
    let (cdb, list) = set(&[(STANDBY, 1), (OPTIMIZED, 2)]);
    let info = disk.bad(&cdb, &list);
    assert_eq!(info.key, SenseKey::HardwareError.code());
    assert_eq!(info.additional, AdditionalSense { code: 0x67, qualifier: 0x0a });
    assert_eq!(reported(&mut disk, A), [(OPTIMIZED, 1, 0), (NON_OPTIMIZED, 2, 2)]);
    let (cdb, list) = set(&[(NON_OPTIMIZED, 2)]);
    disk.good(&cdb, &list);
}

/// A host has put the group it does not use on standby; news of other groups does not undo that.
#[test]
fn states_set_by_hosts_outlive_changes_elsewhere() {
    let mut disk = both_active();
    let (cdb, list) = set(&[(STANDBY, 2)]);
    disk.good(&cdb, &list);
    assert_eq!(disk.told(B), Some(AdditionalSense::ACCESS_STATE_CHANGED));
    let active = |id| group(id, AccessState::ActiveOptimized);
    disk.unit.set_port_groups(vec![active(1), active(2), active(7)]);
    assert_eq!(disk.told(B), Some(AdditionalSense::ACCESS_STATE_CHANGED), "a group is new");
    assert_eq!(reported(&mut disk, B), [(OPTIMIZED, 1, 0), (STANDBY, 2, 1), (OPTIMIZED, 7, 0)]);
    disk.unit.set_port_groups(vec![active(1), active(2), active(7)]);
    assert_eq!(disk.told(A), Some(AdditionalSense::ACCESS_STATE_CHANGED));
    assert_eq!(disk.told(A), None, "the same list again is no news");
    assert_eq!(disk.unit.access_states().count(), 3);
}

/// A session whose portal group was taken away is served until it ends: its host has not been told to go yet.
#[test]
fn a_path_without_a_group_serves_to_its_end() {
    let mut disk = both_active();
    disk.unit.set_port_groups(vec![group(1, AccessState::ActiveOptimized)]);
    assert_eq!(disk.told(B), Some(AdditionalSense::ACCESS_STATE_CHANGED));
    assert_eq!(disk.told(B), None);
    assert_eq!(reported(&mut disk, B), [(OPTIMIZED, 1, 0)]);
}

/// A logical unit reset does not touch access states (SAM-5 6.3.3 resets what SPC-4 says, and it says nothing here).
#[test]
fn a_reset_keeps_access_states() {
    let mut disk = fabrics(AccessState::ActiveOptimized, AccessState::Standby);
    disk.unit.reset();
    assert_eq!(disk.told(B), Some(AdditionalSense::BUS_DEVICE_RESET));
    assert_eq!(disk.told(B), Some(AdditionalSense::PORT_IN_STANDBY));
}
