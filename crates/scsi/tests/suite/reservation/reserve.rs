//! RESERVE and RELEASE (SPC-4 5.13.9, 5.13.11.1): every type against every type, of holder, registrant and others.

use scsi::AdditionalSense;
use scsi::ReservationType;

use super::*;

#[test]
fn a_free_unit_is_reserved_by_a_registrant_only() {
    for kind in ReservationType::ALL {
        let mut cluster = Cluster::registered();
        cluster.out(C, REGISTER, 0, KEY_C, 0);
        let before = cluster.generation();
        assert_eq!(cluster.out(C, RESERVE, kind.code(), 0, 0), End::Conflict, "not registered");
        assert_eq!(cluster.out(A, RESERVE, kind.code(), KEY_B, 0), End::Conflict, "another's key");
        assert_eq!(cluster.held_now(), None);
        assert_eq!(cluster.out(A, RESERVE, kind.code(), KEY_A, 0), End::Good);
        // SPC-4 6.15.3.2: no key is told of a reservation that all registrants hold.
        let key = if kind.is_all_registrants() { 0 } else { KEY_A };
        assert_eq!(cluster.held_now(), Some((key, kind.code())));
        assert_eq!(cluster.generation(), before, "RESERVE does not count (SPC-4 5.13.6.3.1)");
        for id in [A, B, C] {
            assert!(cluster.told(id).is_empty());
        }
    }
}

/// Who holds it may ask for it again; every other RESERVE is a conflict.
#[test]
fn a_reserved_unit_is_reserved_again_by_its_holder_with_the_same_type_only() {
    for held in ReservationType::ALL {
        for asked in ReservationType::ALL {
            let mut cluster = Cluster::held(held);
            let now = cluster.held_now();
            let again = if held == asked { End::Good } else { End::Conflict };
            assert_eq!(cluster.out(A, RESERVE, asked.code(), KEY_A, 0), again, "holder: {held:?}, {asked:?}");
            let registrant = if held.is_all_registrants() { again } else { End::Conflict };
            let end = cluster.out(B, RESERVE, asked.code(), KEY_B, 0);
            assert_eq!(end, registrant, "registrant: {held:?}, {asked:?}");
            assert_eq!(cluster.out(C, RESERVE, asked.code(), 0, 0), End::Conflict);
            assert_eq!(cluster.held_now(), now);
        }
    }
}

/// SPC-4 5.13.11.1: the holder gives the type it has; of a registrant RELEASE does nothing.
#[test]
fn a_unit_is_released_by_its_holder_with_its_type() {
    let wrong = End::Check(5, AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
    for held in ReservationType::ALL {
        for asked in ReservationType::ALL {
            let mut cluster = Cluster::held(held);
            let before = cluster.generation();
            assert_eq!(cluster.out(C, RELEASE, asked.code(), 0, 0), End::Conflict);
            assert_eq!(cluster.out(A, RELEASE, asked.code(), KEY_B, 0), End::Conflict);
            let holder = if held == asked { End::Good } else { wrong };
            if !held.is_all_registrants() {
                assert_eq!(cluster.out(B, RELEASE, asked.code(), KEY_B, 0), End::Good);
                assert!(
                    cluster.held_now().is_some(),
                    "RELEASE of a registrant that is no holder does nothing"
                );
            }
            assert_eq!(cluster.out(A, RELEASE, asked.code(), KEY_A, 0), holder, "{held:?}, {asked:?}");
            assert_eq!(cluster.held_now().is_none(), held == asked);
            // Registrants that shared it hear of it; the one that released it, and others, do not.
            let heard = if held == asked && held.admits_registrants() { vec![RELEASED] } else { Vec::new() };
            assert_eq!(cluster.told(B), heard, "{held:?}, {asked:?}");
            assert!(cluster.told(A).is_empty() && cluster.told(C).is_empty());
            assert_eq!(cluster.generation(), before, "RELEASE does not count");
        }
    }
}

#[test]
fn releasing_a_free_unit_is_good() {
    let mut cluster = Cluster::registered();
    assert_eq!(cluster.out(A, RELEASE, 1, KEY_A, 0), End::Good);
    assert_eq!(cluster.out(A, RELEASE, 1, KEY_B, 0), End::Conflict);
}

/// SPC-4 tables 211 and 212: SCOPE 0 only, six types.
#[test]
fn other_scopes_and_types_are_refused() {
    let mut cluster = Cluster::registered();
    for action in [RESERVE, RELEASE] {
        if action == RELEASE {
            cluster.out(A, RESERVE, 1, KEY_A, 0);
        }
        for byte in (0..=0xff).filter(|byte| ![1, 3, 5, 6, 7, 8].contains(byte)) {
            assert_eq!(cluster.out(A, action, byte, KEY_A, 0), BAD_FIELD, "{byte:02x}");
        }
    }
}
