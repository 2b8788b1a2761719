//! PREEMPT and PREEMPT AND ABORT (SPC-4 5.13.11.4, 5.13.11.5, table 57).

use scsi::ReservationType::{self, *};

use super::*;

/// What is reserved by A.
type Before = Option<ReservationType>;

/// Before, SERVICE ACTION RESERVATION KEY that B gives, end, reservation afterwards as key and type, keys afterwards.
type Row = (Before, u64, End, Held, &'static [u64]);

const UNKNOWN: u64 = 0xdead;
/// The type that B asks for.
const ASKED: u8 = 5;

/// SPC-4 table 57. A, B and C are registered; B preempts.
const TABLE: &[Row] = &[
    (None, 0, BAD_PARAMETER, None, &[KEY_A, KEY_B, KEY_C]),
    (None, KEY_A, End::Good, None, &[KEY_B, KEY_C]),
    (None, KEY_B, End::Good, None, &[KEY_A, KEY_C]),
    (None, UNKNOWN, End::Conflict, None, &[KEY_A, KEY_B, KEY_C]),
    (Some(WriteExclusive), 0, BAD_PARAMETER, Some((KEY_A, 1)), &[KEY_A, KEY_B, KEY_C]),
    (Some(WriteExclusive), KEY_A, End::Good, Some((KEY_B, ASKED)), &[KEY_B, KEY_C]),
    (Some(WriteExclusive), KEY_C, End::Good, Some((KEY_A, 1)), &[KEY_A, KEY_B]),
    (Some(WriteExclusive), UNKNOWN, End::Conflict, Some((KEY_A, 1)), &[KEY_A, KEY_B, KEY_C]),
    (Some(ExclusiveAccess), KEY_A, End::Good, Some((KEY_B, ASKED)), &[KEY_B, KEY_C]),
    (Some(ExclusiveAccess), KEY_C, End::Good, Some((KEY_A, 3)), &[KEY_A, KEY_B]),
    (Some(WriteExclusiveRegistrantsOnly), KEY_A, End::Good, Some((KEY_B, ASKED)), &[KEY_B, KEY_C]),
    (Some(WriteExclusiveRegistrantsOnly), KEY_C, End::Good, Some((KEY_A, 5)), &[KEY_A, KEY_B]),
    (Some(ExclusiveAccessRegistrantsOnly), 0, BAD_PARAMETER, Some((KEY_A, 6)), &[KEY_A, KEY_B, KEY_C]),
    (Some(ExclusiveAccessRegistrantsOnly), KEY_A, End::Good, Some((KEY_B, ASKED)), &[KEY_B, KEY_C]),
    (Some(WriteExclusiveAllRegistrants), 0, End::Good, Some((KEY_B, ASKED)), &[KEY_B]),
    (Some(WriteExclusiveAllRegistrants), KEY_A, End::Good, Some((0, 7)), &[KEY_B, KEY_C]),
    (Some(WriteExclusiveAllRegistrants), UNKNOWN, End::Conflict, Some((0, 7)), &[KEY_A, KEY_B, KEY_C]),
    (Some(ExclusiveAccessAllRegistrants), 0, End::Good, Some((KEY_B, ASKED)), &[KEY_B]),
    (Some(ExclusiveAccessAllRegistrants), KEY_C, End::Good, Some((0, 8)), &[KEY_A, KEY_B]),
];

fn before(held: Before) -> Cluster {
    let mut cluster = Cluster::registered();
    if let Some(kind) = held {
        assert_eq!(cluster.out(A, RESERVE, kind.code(), KEY_A, 0), End::Good);
    }
    cluster
}

#[test]
fn preempting_follows_the_table() {
    for action in [PREEMPT, PREEMPT_AND_ABORT] {
        for (held, key, end, after, keys) in TABLE {
            let row = format!("action {action}, {held:?}, key {key:x}");
            let mut cluster = before(*held);
            let generation = cluster.generation();
            assert_eq!(cluster.out(B, action, ASKED, KEY_B, *key), *end, "{row}");
            assert_eq!(cluster.held_now(), *after, "{row}");
            let counted = generation + u32::from(*end == End::Good);
            assert_eq!(cluster.keys(), (counted, keys.to_vec()), "{row}");
            // Who was unregistered by another hears of it; who sent the command never does.
            let type_changed = *end == End::Good && after.is_some_and(|(key, _)| key == KEY_B);
            for (id, own) in [(A, KEY_A), (C, KEY_C)] {
                let heard = match (keys.contains(&own), type_changed) {
                    (false, _) => vec![UNREGISTERED],
                    (true, true) if held.is_some_and(|kind| kind.code() != ASKED) => vec![RELEASED],
                    (true, _) => Vec::new(),
                };
                assert_eq!(cluster.told(id), heard, "{row}: {id:?}");
            }
            assert!(cluster.told(B).is_empty(), "{row}");
            let victims: Vec<_> =
                [(A, KEY_A), (C, KEY_C)].into_iter().filter(|(_, own)| !keys.contains(own)).collect();
            let victims: Vec<_> = victims.into_iter().map(|(id, _)| id).collect();
            let aborted = if action == PREEMPT_AND_ABORT { victims } else { Vec::new() };
            assert_eq!(cluster.disk.aborted, aborted, "{row}");
        }
    }
}

#[test]
fn only_registrants_with_their_own_key_preempt() {
    for action in [PREEMPT, PREEMPT_AND_ABORT] {
        for kind in ReservationType::ALL {
            let mut cluster = Cluster::held(kind);
            let now = cluster.held_now();
            assert_eq!(cluster.out(C, action, kind.code(), 0, KEY_A), End::Conflict);
            assert_eq!(cluster.out(B, action, kind.code(), KEY_A, KEY_A), End::Conflict);
            assert_eq!(cluster.held_now(), now);
            assert!(cluster.told(A).is_empty());
        }
    }
}

/// SPC-4 5.13.11.4.3 c: the former type ends, the new one begins, and who is still registered hears of a difference.
#[test]
fn every_type_can_take_the_place_of_every_other() {
    for former in ReservationType::ALL {
        for new in ReservationType::ALL {
            let mut cluster = before(Some(former));
            let key = if former.is_all_registrants() { 0 } else { KEY_A };
            assert_eq!(cluster.out(B, PREEMPT, new.code(), KEY_B, key), End::Good);
            let holder = if new.is_all_registrants() { 0 } else { KEY_B };
            assert_eq!(cluster.held_now(), Some((holder, new.code())), "{former:?} to {new:?}");
            assert_eq!(cluster.told(A), [UNREGISTERED]);
            let heard = match (former.is_all_registrants(), former == new) {
                (true, _) => vec![UNREGISTERED],
                (false, true) => Vec::new(),
                (false, false) => vec![RELEASED],
            };
            assert_eq!(cluster.told(C), heard, "{former:?} to {new:?}");
            assert_eq!(cluster.write(A), End::Conflict, "A is not registered any more");
            assert_eq!(cluster.write(B), End::Good);
        }
    }
}

/// SPC-4 5.13.11.4.1: the holder changes the type by preempting itself, without losing its registration.
#[test]
fn a_holder_preempts_itself() {
    let mut cluster = Cluster::held(WriteExclusiveRegistrantsOnly);
    assert_eq!(cluster.out(A, PREEMPT_AND_ABORT, 1, KEY_A, KEY_A), End::Good);
    assert_eq!((cluster.held_now(), cluster.keys().1), (Some((KEY_A, 1)), vec![KEY_A, KEY_B]));
    assert_eq!((cluster.told(A), cluster.told(B)), (vec![], vec![RELEASED]));
    assert!(cluster.disk.aborted.is_empty(), "its own tasks go on");
}

/// Every path of a host has the same key: all lose it, and hear of it through every port.
#[test]
fn all_paths_of_a_victim_are_preempted() {
    let mut cluster = Cluster::held(WriteExclusiveRegistrantsOnly);
    cluster.register(A2, KEY_A);
    assert_eq!(cluster.out(B, PREEMPT_AND_ABORT, 5, KEY_B, KEY_A), End::Good);
    assert_eq!((cluster.told(A), cluster.told(A2)), (vec![UNREGISTERED], vec![UNREGISTERED]));
    assert_eq!((cluster.write(A), cluster.write(A2)), (End::Conflict, End::Conflict));
    assert_eq!(cluster.disk.aborted, [A, A2]);
    assert_eq!(cluster.keys().1, [KEY_B]);
}

/// A bad type matters only where a reservation is made of it (SPC-4 5.13.11.4.4 b).
#[test]
fn the_type_is_not_looked_at_where_only_registrations_go() {
    let mut cluster = before(Some(WriteExclusive));
    assert_eq!(cluster.out(B, PREEMPT, 0xff, KEY_B, KEY_C), End::Good);
    assert_eq!(cluster.out(B, PREEMPT, 0x0f, KEY_B, KEY_A), BAD_FIELD);
    assert_eq!((cluster.held_now(), cluster.keys().1), (Some((KEY_A, 1)), vec![KEY_A, KEY_B]));
}

/// SPC-4 5.13.11.2: with the last registrant goes a reservation of all of them, also if it went by its own PREEMPT.
#[test]
fn all_registrants_with_one_key_preempt_themselves_away() {
    let mut cluster = Cluster::new();
    cluster.register(A, KEY_A);
    cluster.register(B, KEY_A);
    cluster.out(A, RESERVE, 8, KEY_A, 0);
    assert_eq!(cluster.out(A, PREEMPT, 8, KEY_A, KEY_A), End::Good);
    assert_eq!((cluster.held_now(), cluster.keys().1), (None, vec![]));
    assert_eq!((cluster.told(A), cluster.told(B)), (vec![], vec![UNREGISTERED]));
    assert_eq!(cluster.write(C), End::Good);
}

/// A registrant whose session is gone has no nexus to be told, and is preempted all the same.
#[test]
fn who_is_not_there_is_preempted_too() {
    let mut cluster = Cluster::held(ExclusiveAccess);
    cluster.disk.unit.remove_nexus(A);
    assert_eq!(cluster.out(B, PREEMPT_AND_ABORT, 3, KEY_B, KEY_A), End::Good);
    assert!(cluster.disk.aborted.is_empty());
    cluster.disk.unit.add_nexus(A, through("a", PORT));
    assert_eq!(
        cluster.told(A),
        [AdditionalSense::POWER_ON_OR_RESET],
        "a new nexus looks at everything anyhow"
    );
    assert_eq!(cluster.write(A), End::Conflict);
}
