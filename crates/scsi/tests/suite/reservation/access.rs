//! Who may do what under which reservation (SPC-4 tables 66 and 67, SBC-3 table 13).

use scsi::ReservationType::{self, *};
use scsi::{NexusId, Status};

use super::{C, Cluster, End};
use crate::harness::{A, B};

/// A command, and whether it reads or writes the medium as the tables see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// Allowed always.
    Free,
    /// Shut out by exclusive access.
    Reads,
    /// Shut out by every type.
    Writes,
}

use Class::{Free, Reads, Writes};

const COMMANDS: &[(&str, Class, &[u8], usize)] = &[
    ("TEST UNIT READY", Free, &[0, 0, 0, 0, 0, 0], 0),
    ("REQUEST SENSE", Free, &[3, 0, 0, 0, 18, 0], 0),
    ("INQUIRY", Free, &[0x12, 0, 0, 0, 96, 0], 0),
    ("READ CAPACITY(10)", Free, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
    ("READ CAPACITY(16)", Free, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 0),
    ("REPORT LUNS", Free, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], 0),
    ("PERSISTENT RESERVE IN", Free, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], 0),
    ("START", Free, &[0x1b, 0, 0, 0, 1, 0], 0),
    ("ALLOW MEDIUM REMOVAL", Free, &[0x1e, 0, 0, 0, 0, 0], 0),
    ("READ(6)", Reads, &[0x08, 0, 0, 0, 1, 0], 0),
    ("READ(10)", Reads, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 0),
    ("VERIFY(10)", Reads, &[0x2f, 0, 0, 0, 0, 0, 0, 0, 1, 0], 0),
    ("PRE-FETCH(10)", Reads, &[0x34, 0, 0, 0, 0, 0, 0, 0, 1, 0], 0),
    ("GET LBA STATUS", Reads, &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0], 0),
    ("MODE SENSE(6)", Reads, &[0x1a, 0, 0x3f, 0, 192, 0], 0),
    ("WRITE(10)", Writes, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512),
    ("WRITE AND VERIFY(10)", Writes, &[0x2e, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512),
    ("WRITE SAME(10)", Writes, &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512),
    ("UNMAP", Writes, &[0x42, 0, 0, 0, 0, 0, 0, 0, 8, 0], 8),
    ("COMPARE AND WRITE", Writes, &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], 1024),
    ("SYNCHRONIZE CACHE(10)", Writes, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
    ("MODE SELECT(6)", Writes, &[0x15, 0x10, 0, 0, 0, 0], 0),
    ("STOP", Writes, &[0x1b, 0, 0, 0, 0, 0], 0),
    ("PREVENT MEDIUM REMOVAL", Writes, &[0x1e, 0, 0, 0, 1, 0], 0),
];

/// What a registrant that is no holder, and what anybody else may do, by type: up to this class.
const TABLE: [(ReservationType, Class, Class); 6] = [
    (WriteExclusive, Reads, Reads),
    (ExclusiveAccess, Free, Free),
    (WriteExclusiveRegistrantsOnly, Writes, Reads),
    (ExclusiveAccessRegistrantsOnly, Writes, Free),
    (WriteExclusiveAllRegistrants, Writes, Reads),
    (ExclusiveAccessAllRegistrants, Writes, Free),
];

fn allows(up_to: Class, class: Class) -> bool {
    match up_to {
        Writes => true,
        Reads => class != Writes,
        Free => class == Free,
    }
}

#[track_caller]
fn check(kind: ReservationType, who: NexusId, up_to: Class) {
    for (name, class, cdb, data_len) in COMMANDS {
        let mut cluster = Cluster::held(kind);
        let expected = if allows(up_to, *class) { End::Good } else { End::Conflict };
        assert_eq!(cluster.end(who, cdb, &vec![0; *data_len]), expected, "{name} of {who:?} under {kind:?}");
    }
}

#[test]
fn the_holder_may_do_everything() {
    ReservationType::ALL.into_iter().for_each(|kind| check(kind, A, Writes));
}

#[test]
fn a_registrant_may_do_what_the_type_says() {
    TABLE.into_iter().for_each(|(kind, registrant, _)| check(kind, B, registrant));
}

#[test]
fn others_may_do_what_the_type_says() {
    TABLE.into_iter().for_each(|(kind, _, other)| check(kind, C, other));
}

/// A command that conflicts does nothing and carries neither data nor sense (SAM-5 5.3.1).
#[test]
fn a_conflict_is_a_bare_status_and_nothing_happens() {
    let mut cluster = Cluster::held(ExclusiveAccess);
    let before = cluster.disk.medium.log.len();
    for (_, class, cdb, data_len) in COMMANDS {
        let completion = cluster.disk.of(C, cdb, &vec![0; *data_len]);
        if *class != Free {
            assert_eq!(completion.status, Status::ReservationConflict);
            assert!(completion.sense.is_empty() && completion.data_in.is_empty());
        }
    }
    assert_eq!(cluster.disk.medium.log.len(), before, "the volume was not asked");
}

/// SAM-5 5.14.6 and SPC-4 5.13.1: first the unit attention, then the conflict, then what is wrong with the CDB.
#[test]
fn attentions_come_before_conflicts_and_those_before_fields() {
    let mut cluster = Cluster::held(ExclusiveAccess);
    cluster.disk.unit.raise(C, scsi::UnitAttention::CapacityChanged);
    let beyond_the_end = [0x28, 0x60, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0];
    assert_eq!(cluster.end(C, &beyond_the_end, &[]), End::Check(6, scsi::AdditionalSense::CAPACITY_CHANGED));
    assert_eq!(cluster.end(C, &beyond_the_end, &[]), End::Conflict);
    assert!(matches!(cluster.end(A, &beyond_the_end, &[]), End::Check(5, _)));
}

/// SPC-4 5.13.1: a reset, a logout and a new session change nothing of persistent reservations.
#[test]
fn a_reset_and_a_new_session_change_nothing() {
    let mut cluster = Cluster::held(WriteExclusive);
    cluster.disk.unit.reset();
    cluster.disk.unit.remove_nexus(A);
    for id in [B, C] {
        assert_eq!(cluster.told(id).len(), 1);
        assert_eq!(cluster.write(id), End::Conflict);
    }
    let again = NexusId(17);
    cluster.disk.unit.add_nexus(again, super::through("A", super::PORT));
    assert_eq!(cluster.told(again).len(), 1);
    assert_eq!(
        cluster.write(again),
        End::Good,
        "the same ports, so the same nexus, whatever the name's case"
    );
    let elsewhere = NexusId(18);
    cluster.disk.unit.add_nexus(elsewhere, super::through("a", super::PORT2));
    assert_eq!(cluster.told(elsewhere).len(), 1);
    assert_eq!(cluster.write(elsewhere), End::Conflict, "another target port makes another nexus");
}
