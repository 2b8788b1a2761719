//! RESERVE and RELEASE of SPC-2 (5.5.1), and next to persistent reservations (SPC-4 5.13.3).

use scsi::ReservationType;

use super::*;

const RESERVE_6: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const RELEASE_6: [u8; 6] = [0x17, 0, 0, 0, 0, 0];
const RESERVE_10: [u8; 10] = [0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const RELEASE_10: [u8; 10] = [0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// SPC-2 table 8: what others may do while one has the unit.
#[test]
fn others_may_do_next_to_nothing() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.end(A, &RESERVE_6, &[]), End::Good);
    assert_eq!(cluster.end(A, &RESERVE_10, &[]), End::Good, "again");
    let table: [(&str, &[u8], End); 11] = [
        ("INQUIRY", &[0x12, 0, 0, 0, 96, 0], End::Good),
        ("REQUEST SENSE", &[3, 0, 0, 0, 18, 0], End::Good),
        ("REPORT LUNS", &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], End::Good),
        ("RELEASE(6)", &RELEASE_6, End::Good),
        ("RELEASE(10)", &RELEASE_10, End::Good),
        ("TEST UNIT READY", &[0; 6], End::Conflict),
        ("READ(10)", &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], End::Conflict),
        ("MODE SENSE(6)", &[0x1a, 0, 0x3f, 0, 192, 0], End::Conflict),
        ("RESERVE(6)", &RESERVE_6, End::Conflict),
        ("RESERVE(10)", &RESERVE_10, End::Conflict),
        ("PERSISTENT RESERVE IN", &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], End::Conflict),
    ];
    for (name, cdb, end) in table {
        assert_eq!(cluster.end(B, cdb, &[]), end, "{name}");
    }
    assert_eq!((cluster.write(A), cluster.write(B)), (End::Good, End::Conflict), "RELEASE had no effect");
    assert_eq!(cluster.disk.unit.reservations().spc2_owner.unwrap().initiator(), "iqn.2026-01.test:a");
    assert_eq!(cluster.end(A, &RELEASE_10, &[]), End::Good);
    assert_eq!((cluster.write(B), cluster.disk.unit.reservations().spc2_owner), (End::Good, None));
}

/// SPC-2 5.5.1: as long as one has the unit, PERSISTENT RESERVE conflicts, its own too.
#[test]
fn persistent_reserve_conflicts_with_a_reserved_unit() {
    let mut cluster = Cluster::new();
    cluster.end(A, &RESERVE_6, &[]);
    for id in [A, B] {
        assert_eq!(cluster.register(id, KEY_A), End::Conflict);
        assert_eq!(cluster.end(id, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[]), End::Conflict);
    }
    cluster.end(A, &RELEASE_6, &[]);
    assert_eq!(cluster.register(A, KEY_A), End::Good);
}

/// SPC-2 5.5.1: a reset or the loss of the nexus ends it.
#[test]
fn resets_and_the_loss_of_the_nexus_release() {
    let mut cluster = Cluster::new();
    cluster.end(A, &RESERVE_6, &[]);
    cluster.disk.unit.reset();
    cluster.told(B);
    assert_eq!(cluster.write(B), End::Good);
    cluster.told(A);
    cluster.end(A, &RESERVE_6, &[]);
    assert_eq!(cluster.write(B), End::Conflict);
    cluster.disk.unit.remove_nexus(B);
    cluster.disk.unit.add_nexus(B, through("b", PORT));
    cluster.told(B);
    cluster.told(C);
    assert_eq!(cluster.write(C), End::Conflict, "another nexus's loss ends nothing");
    cluster.disk.unit.remove_nexus(A);
    assert_eq!((cluster.write(B), cluster.write(C)), (End::Good, End::Good));
}

/// The same host through another port is another nexus.
#[test]
fn a_reservation_is_of_one_nexus() {
    let mut cluster = Cluster::new();
    cluster.end(A, &RESERVE_6, &[]);
    assert_eq!(cluster.ready(A2), End::Conflict);
    assert_eq!(cluster.end(A2, &RELEASE_6, &[]), End::Good);
    assert_eq!(cluster.ready(A2), End::Conflict);
}

/// Third parties, extents and identifications are obsolete: refused, not ignored.
#[test]
fn third_parties_are_refused() {
    let mut cluster = Cluster::new();
    for opcode in [0x16, 0x17] {
        for byte in [0x10, 0x02, 0x01] {
            assert_eq!(cluster.end(A, &[opcode, byte, 0, 0, 0, 0], &[]), BAD_FIELD, "{opcode:x} {byte:x}");
        }
        assert_eq!(cluster.end(A, &[opcode, 0, 5, 0, 0, 0], &[]), BAD_FIELD);
    }
    for opcode in [0x56, 0x57] {
        for byte in [0x10, 0x02, 0x01] {
            assert_eq!(cluster.end(A, &[opcode, byte, 0, 0, 0, 0, 0, 0, 0, 0], &[]), BAD_FIELD);
        }
        assert_eq!(cluster.end(A, &[opcode, 0, 0, 3, 0, 0, 0, 0, 8, 0], &[]), BAD_FIELD);
    }
    assert_eq!(cluster.ready(B), End::Good);
}

/// SPC-2 5.5.1 and SPC-4 5.13.3 (CRH): who is what under which reservation, and how RESERVE and RELEASE end.
#[test]
fn registered_units_are_not_reserved() {
    let commands: [&[u8]; 4] = [&RESERVE_6, &RELEASE_6, &RESERVE_10, &RELEASE_10];
    for kind in ReservationType::ALL {
        let registrant = if kind.admits_registrants() { End::Good } else { End::Conflict };
        for (id, end) in [(A, End::Good), (B, registrant), (C, End::Conflict)] {
            for cdb in commands {
                let mut cluster = Cluster::held(kind);
                let before = cluster.disk.unit.reservations();
                assert_eq!(cluster.end(id, cdb, &[]), end, "{kind:?} {id:?} {:02x}", cdb[0]);
                assert_eq!(cluster.disk.unit.reservations(), before, "nothing is reserved or released");
            }
        }
    }
    let mut cluster = Cluster::new();
    cluster.register(A, KEY_A);
    for cdb in commands {
        assert_eq!((cluster.end(A, cdb, &[]), cluster.end(B, cdb, &[])), (End::Conflict, End::Conflict));
    }
}
