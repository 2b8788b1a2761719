//! REGISTER, REGISTER AND IGNORE EXISTING KEY, CLEAR (SPC-4 5.13.7, 5.13.11.3) and PERSISTENT RESERVE IN (6.15).

use scsi::ReservationType::{self, *};
use scsi::{AdditionalSense, REGISTRATIONS_MAX};

use super::*;

/// SPC-4 table 53: action, is the nexus registered under KEY_A, the key it gives, the new one, end, key afterwards.
const TABLE: [(u8, bool, u64, u64, End, Option<u64>); 13] = [
    (REGISTER, false, 0, 0, End::Good, None),
    (REGISTER, false, 0, KEY_A, End::Good, Some(KEY_A)),
    (REGISTER, false, KEY_B, 0, End::Conflict, None),
    (REGISTER, false, KEY_B, KEY_A, End::Conflict, None),
    (REGISTER, true, KEY_A, 0, End::Good, None),
    (REGISTER, true, KEY_A, KEY_C, End::Good, Some(KEY_C)),
    (REGISTER, true, KEY_B, KEY_C, End::Conflict, Some(KEY_A)),
    (REGISTER, true, 0, KEY_C, End::Conflict, Some(KEY_A)),
    (REGISTER_AND_IGNORE, false, 0, 0, End::Good, None),
    (REGISTER_AND_IGNORE, false, KEY_B, KEY_A, End::Good, Some(KEY_A)),
    (REGISTER_AND_IGNORE, true, KEY_B, KEY_C, End::Good, Some(KEY_C)),
    (REGISTER_AND_IGNORE, true, 0, 0, End::Good, None),
    (REGISTER_AND_IGNORE, true, KEY_A, KEY_A, End::Good, Some(KEY_A)),
];

#[test]
fn registering_follows_the_table() {
    for (action, registered, key, new_key, end, after) in TABLE {
        let mut cluster = Cluster::new();
        if registered {
            cluster.register(A, KEY_A);
        }
        let before = cluster.generation();
        let row = format!("action {action}, registered {registered}, keys {key:x} and {new_key:x}");
        assert_eq!(cluster.out(A, action, 0, key, new_key), end, "{row}");
        let (generation, keys) = cluster.keys();
        assert_eq!(keys, Vec::from_iter(after), "{row}");
        // SPC-4 5.13.6.3.1: counts what was done, not what was refused or was nothing.
        let nothing = end != End::Good || (!registered && new_key == 0);
        assert_eq!(generation - before, u32::from(!nothing), "{row}");
    }
}

/// SCOPE and TYPE are not looked at (SPC-4 table 217).
#[test]
fn registering_ignores_scope_and_type() {
    for action in [REGISTER, REGISTER_AND_IGNORE] {
        let mut cluster = Cluster::new();
        assert_eq!(cluster.out(A, action, 0xff, 0, KEY_A), End::Good);
    }
}

/// SPC-4 5.13.11.2: the reservation goes with its holder, and the last registrant. Registrants hear if it was theirs.
#[test]
fn unregistering_the_holder_releases() {
    for kind in ReservationType::ALL {
        let mut cluster = Cluster::held(kind);
        assert_eq!(cluster.out(A, REGISTER, 0, KEY_A, 0), End::Good);
        let all = kind.is_all_registrants();
        assert_eq!(cluster.held_now(), all.then_some((0, kind.code())), "{kind:?}: B holds it still");
        let shared = matches!(kind, WriteExclusiveRegistrantsOnly | ExclusiveAccessRegistrantsOnly);
        assert_eq!(cluster.told(B), if shared { vec![RELEASED] } else { Vec::new() }, "{kind:?}");
        assert_eq!((cluster.told(A), cluster.told(C)), (Vec::new(), Vec::new()), "{kind:?}");
        cluster.out(B, REGISTER, 0, KEY_B, 0);
        assert_eq!(cluster.held_now(), None);
        assert_eq!(cluster.write(C), End::Good);
    }
}

#[test]
fn unregistering_a_registrant_leaves_the_reservation() {
    for kind in ReservationType::ALL {
        let mut cluster = Cluster::held(kind);
        assert_eq!(cluster.out(B, REGISTER_AND_IGNORE, 0, 0, 0), End::Good);
        assert!(cluster.held_now().is_some_and(|(_, code)| code == kind.code()));
        assert!(cluster.told(A).is_empty(), "{kind:?}");
        assert_eq!(cluster.write(A), End::Good);
    }
}

/// The holder's new key is the reservation's (SPC-4 5.13.7).
#[test]
fn a_new_key_keeps_the_reservation() {
    let mut cluster = Cluster::held(WriteExclusive);
    assert_eq!(cluster.out(A, REGISTER, 0, KEY_A, 0x77), End::Good);
    assert_eq!(cluster.held_now(), Some((0x77, 1)));
    assert_eq!(cluster.out(A, RELEASE, 1, KEY_A, 0), End::Conflict, "the former key is of no use");
    assert_eq!(cluster.out(A, RELEASE, 1, 0x77, 0), End::Good);
}

/// SPC-4 5.13.11.3: everything goes, and every other registrant hears RESERVATIONS PREEMPTED.
#[test]
fn clear_ends_everything() {
    for kind in ReservationType::ALL {
        for by in [A, B] {
            let mut cluster = Cluster::held(kind);
            let (key, other) = if by == A { (KEY_A, B) } else { (KEY_B, A) };
            let before = cluster.generation();
            assert_eq!(cluster.out(by, CLEAR, 0, key, 0), End::Good, "a registrant may, too");
            assert_eq!((cluster.keys(), cluster.held_now()), ((before + 1, vec![]), None));
            assert_eq!((cluster.told(other), cluster.told(by)), (vec![PREEMPTED], vec![]), "{kind:?}");
            assert!(cluster.told(C).is_empty());
        }
        let mut cluster = Cluster::held(kind);
        assert_eq!(cluster.out(C, CLEAR, 0, 0, 0), End::Conflict, "who is not registered may not");
        assert_eq!(cluster.out(B, CLEAR, 0, KEY_A, 0), End::Conflict, "nor with another's key");
    }
}

/// An administrator's CLEAR has no nexus: every registrant hears of it.
#[test]
fn an_administrator_ends_everything() {
    let mut cluster = Cluster::held(ExclusiveAccess);
    let step = cluster.disk.unit.clear_reservations();
    assert_eq!(End::of(&cluster.disk.carry_out(step)), End::Good);
    assert_eq!((cluster.told(A), cluster.told(B)), (vec![PREEMPTED], vec![PREEMPTED]));
    assert!(cluster.told(C).is_empty() && cluster.keys().1.is_empty());
    cluster.end(A, &[0x16, 0, 0, 0, 0, 0], &[]);
    assert_eq!(cluster.ready(B), End::Conflict);
    let step = cluster.disk.unit.clear_reservations();
    assert_eq!(End::of(&cluster.disk.carry_out(step)), End::Good);
    assert_eq!((cluster.ready(B), cluster.told(A)), (End::Good, vec![PREEMPTED]), "RESERVE(6) too");
}

/// SPC-4 6.16.2: 24 bytes, but for lists of TransportIDs.
#[test]
fn the_length_of_the_parameter_list_is_checked() {
    let mut cluster = Cluster::new();
    let whole = [list(0, KEY_A, 0), vec![0; 16]].concat();
    for action in REGISTER..=REGISTER_AND_IGNORE {
        for len in [0, 8, 23, 25, 28, 40] {
            assert_eq!(
                cluster.out_list(A, action, 1, &whole[..len]),
                BAD_LENGTH,
                "action {action}, {len} bytes"
            );
        }
    }
    let cdb = out_cdb(REGISTER, 0, 1 << 30);
    assert_eq!(cluster.end(A, &cdb, &whole), BAD_LENGTH, "longer than any list");
    let less = cluster.end(A, &out_cdb(REGISTER, 0, 24), &whole[..16]);
    assert_eq!(less, End::Check(5, AdditionalSense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT));
    assert_eq!(cluster.generation(), 0);
}

#[test]
fn other_service_actions_are_refused() {
    let mut cluster = Cluster::registered();
    for action in 8..32 {
        assert_eq!(cluster.out(A, action, 1, KEY_A, 0), BAD_FIELD, "PERSISTENT RESERVE OUT {action:x}");
    }
    for action in 4..32 {
        assert_eq!(cluster.end(A, &[0x5e, action, 0, 0, 0, 0, 0, 0, 8, 0], &[]), BAD_FIELD);
    }
}

/// SPC-4 6.15.1: the allocation length cuts the data and nothing else.
#[test]
fn what_is_read_is_cut_to_the_allocation_length() {
    let mut cluster = Cluster::held(WriteExclusive);
    for action in 0..4 {
        let whole = cluster.read_in(action);
        assert!(whole.len() >= 8);
        for len in 0..=u8::try_from(whole.len()).unwrap() {
            let part = cluster.disk.of(B, &[0x5e, action, 0, 0, 0, 0, 0, 0, len, 0], &[]);
            assert_eq!(part.data_in.concat(), whole[..len.into()]);
        }
    }
}

/// SPC-4 6.15.4.
#[test]
fn capabilities_say_what_is_so() {
    let mut cluster = Cluster::new();
    // CRH, SIP_C, ATP_C, PTPL_C; TMV and ALLOW COMMANDS 011b; all six types.
    assert_eq!(cluster.read_in(2), [0, 8, 0x1d, 0x80 | 0x30, 0xea, 0x01, 0, 0]);
    cluster.out_list(A, REGISTER, 0, &list(0, KEY_A, APTPL));
    assert_eq!(cluster.read_in(2)[3] & 1, 1, "PTPL_A");
    let mut plain = crate::harness::Disk::new();
    assert_eq!(plain.good(&[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], &[])[2], 0x1c, "nowhere to keep them");
}

/// SPC-4 5.13.7: more registrations than there is room for.
#[test]
fn too_many_registrations_are_refused_and_change_nothing() {
    let mut cluster = Cluster::new();
    let ids = |count: usize| -> Vec<u8> {
        let id = |number: usize| id_of(0x45, &format!("iqn.2026-01.test:{number:06},i,0x000000000001"));
        (0..count).flat_map(id).collect()
    };
    let request = |count: usize| {
        let ids = ids(count);
        let len = u32::try_from(ids.len()).unwrap().to_be_bytes();
        [&list(0, KEY_A, SPEC_I_PT)[..], &len, &ids].concat()
    };
    let full = End::Check(5, AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES);
    assert_eq!(cluster.out_list(A, REGISTER, 0, &request(REGISTRATIONS_MAX)), full);
    assert_eq!(cluster.keys(), (0, vec![]));
    assert_eq!(cluster.out_list(A, REGISTER, 0, &request(REGISTRATIONS_MAX - 1)), End::Good);
    assert_eq!(cluster.register(B, KEY_B), full);
    assert_eq!(cluster.keys().1.len(), REGISTRATIONS_MAX);
}
