//! What outlives a loss of power (SPC-4 5.13.5), and what becomes of it when it cannot be kept.

use scsi::ReservationType::{self, *};
use scsi::{NotKept, Reservations, Step, TargetNumber};

use super::*;
use crate::harness::{Disk, data_out};
use scsi::Cdb;

fn aptpl(cluster: &mut Cluster, id: NexusId, key: u64) {
    assert_eq!(cluster.out_list(id, REGISTER_AND_IGNORE, 0, &list(0, key, APTPL)), End::Good);
}

/// The unit after a loss of power.
fn after_power_loss(cluster: Cluster) -> Cluster {
    Cluster::with(cluster.disk.kept)
}

#[test]
fn every_type_outlives_a_loss_of_power() {
    for kind in ReservationType::ALL {
        let mut cluster = Cluster::new();
        aptpl(&mut cluster, A, KEY_A);
        aptpl(&mut cluster, B, KEY_B);
        assert_eq!(cluster.out(A, RESERVE, kind.code(), KEY_A, 0), End::Good);
        let (held, keys) = (cluster.held_now(), cluster.keys().1);
        let mut cluster = after_power_loss(cluster);
        assert_eq!(
            (cluster.held_now(), cluster.keys()),
            (held, (0, keys)),
            "{kind:?}; the count starts again"
        );
        assert_eq!(cluster.read_in(2)[3] & 1, 1, "PTPL_A");
        assert_eq!((cluster.write(A), cluster.write(C)), (End::Good, End::Conflict));
        assert_eq!(cluster.out(A, RELEASE, kind.code(), KEY_A, 0), End::Good);
    }
}

#[test]
fn without_aptpl_all_is_gone() {
    let mut cluster = after_power_loss(Cluster::held(ExclusiveAccess));
    assert_eq!((cluster.held_now(), cluster.keys().1), (None, vec![]));
    assert_eq!(cluster.write(C), End::Good);
}

/// SPC-4 5.13.5: the last REGISTER decides for all.
#[test]
fn the_most_recent_registration_decides() {
    let mut cluster = Cluster::new();
    aptpl(&mut cluster, A, KEY_A);
    assert_eq!(cluster.disk.kept.as_ref().unwrap().registrations.len(), 1);
    cluster.register(B, KEY_B);
    assert_eq!(cluster.disk.kept, None);
    cluster.out(A, RESERVE, 1, KEY_A, 0);
    assert_eq!(cluster.disk.kept, None, "RESERVE says nothing of it");
    aptpl(&mut cluster, B, KEY_B);
    let kept = cluster.disk.kept.clone().unwrap();
    assert_eq!((kept.registrations.len(), kept.reservation.unwrap().kind), (2, WriteExclusive));
}

/// Every service action leaves on stable storage what is in force.
#[test]
fn what_is_kept_follows_every_change() {
    let mut cluster = Cluster::new();
    aptpl(&mut cluster, A, KEY_A);
    aptpl(&mut cluster, B, KEY_B);
    let steps: [(NexusId, u8, u8, u64, u64); 7] = [
        (A, RESERVE, 5, KEY_A, 0),
        (B, PREEMPT, 5, KEY_B, KEY_A),
        (B, RELEASE, 5, KEY_B, 0),
        (B, RESERVE, 8, KEY_B, 0),
        (B, PREEMPT_AND_ABORT, 3, KEY_B, 0),
        (C, REGISTER, 0, KEY_C, 0),
        (B, CLEAR, 0, KEY_B, 0),
    ];
    for (id, action, kind, key, new_key) in steps {
        let end = cluster.out(id, action, kind, key, new_key);
        assert_eq!(end, if id == C { End::Conflict } else { End::Good }, "action {action}");
        assert_eq!(cluster.disk.kept, Some(cluster.disk.unit.reservations().state), "action {action}");
    }
    assert_eq!(cluster.disk.kept, Some(Reservations::default()));
}

/// The answer waits until the new state is durable, and nobody sees it before.
#[test]
fn a_change_takes_effect_when_it_is_durable() {
    let mut cluster = Cluster::new();
    aptpl(&mut cluster, A, KEY_A);
    let reserve = list(KEY_A, 0, 0);
    let step = cluster.disk.unit.execute(A, &Cdb::new(&out_cdb(RESERVE, 3, 24)), data_out(&reserve));
    let Step::Persist(Some(kept), pending) = step else { panic!("{step:?}") };
    assert_eq!(kept.reservation.as_ref().unwrap().kind, ExclusiveAccess);
    assert_eq!((cluster.write(B), cluster.held_now()), (End::Good, None), "not yet");
    assert_eq!(cluster.register(B, KEY_B), End::Busy, "one change after the other");
    let step = cluster.disk.unit.clear_reservations();
    assert_eq!(End::of(&cluster.disk.carry_out(step)), End::Busy, "nor an administrator's");
    assert_eq!(cluster.end(B, &[0x16, 0, 0, 0, 0, 0], &[]), End::Conflict, "nor RESERVE(6) meanwhile");
    let step = cluster.disk.unit.persisted(pending, Ok(()));
    assert_eq!(End::of(&cluster.disk.carry_out(step)), End::Good);
    assert_eq!((cluster.write(B), cluster.held_now()), (End::Conflict, Some((KEY_A, 3))));
}

/// What cannot be kept is refused, and what was in force before is so still.
#[test]
fn a_change_that_cannot_be_kept_changes_nothing() {
    let reasons = [
        (NotKept::NoRoom, End::Check(5, AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES)),
        (NotKept::Failed, End::Check(4, AdditionalSense::INTERNAL_TARGET_FAILURE)),
    ];
    for (reason, end) in reasons {
        let mut cluster = Cluster::new();
        aptpl(&mut cluster, A, KEY_A);
        aptpl(&mut cluster, B, KEY_B);
        cluster.out(A, RESERVE, 5, KEY_A, 0);
        let before = cluster.disk.unit.reservations();
        cluster.disk.keeping = Err(reason);
        let requests: [(NexusId, u8, u64, u64); 5] = [
            (A, RELEASE, KEY_A, 0),
            (A, CLEAR, KEY_A, 0),
            (B, PREEMPT_AND_ABORT, KEY_B, KEY_A),
            (A, REGISTER, KEY_A, 0),
            (C, REGISTER, 0, KEY_C),
        ];
        for (id, action, key, new_key) in requests {
            assert_eq!(cluster.out(id, action, 5, key, new_key), end, "action {action}");
            assert_eq!(cluster.disk.unit.reservations(), before);
        }
        let step = cluster.disk.unit.clear_reservations();
        assert_eq!(End::of(&cluster.disk.carry_out(step)), end, "an administrator's");
        assert!(cluster.told(A).is_empty() && cluster.told(B).is_empty() && cluster.disk.aborted.is_empty());
        cluster.disk.keeping = Ok(());
        assert_eq!(cluster.out(A, RELEASE, 5, KEY_A, 0), End::Good, "and all goes on");
    }
}

/// SPC-4 6.16.3: APTPL where there is nowhere to keep them.
#[test]
fn aptpl_is_refused_where_it_cannot_be() {
    let mut disk = Disk::new();
    for (action, byte) in [(REGISTER, 20), (REGISTER_AND_IGNORE, 20)] {
        let info = disk.bad(&out_cdb(action, 0, 24), &list(0, KEY_A, APTPL));
        assert_eq!(info.field, Some((false, byte, Some(0))));
    }
    disk.good(&out_cdb(REGISTER, 0, 24), &list(0, KEY_A, 0));
    disk.good(&out_cdb(RESERVE, 1, 24), &list(KEY_A, 0, APTPL));
}

/// SPC-4 5.13.7: a registration is that of a target port. With its target that goes, and a later target of the same
/// number is another.
#[test]
fn nobody_comes_by_what_was_registered_through_a_target_that_is_gone() {
    const FARM: u16 = 0x101;
    const AGAIN: NexusId = NexusId(50);
    let farm = TargetNumber::of_port(FARM);
    let mut cluster = Cluster::new();
    cluster.disk.unit.set_other_targets(vec![farm]);
    cluster.disk.unit.add_nexus(AGAIN, through("a", FARM));
    cluster.told(AGAIN);
    aptpl(&mut cluster, AGAIN, KEY_A);
    aptpl(&mut cluster, B, KEY_B);
    assert_eq!(cluster.out(AGAIN, RESERVE, WriteExclusiveRegistrantsOnly.code(), KEY_A, 0), End::Good);
    assert_eq!((cluster.write(AGAIN), cluster.write(C)), (End::Good, End::Conflict));

    // The volume is in no target but its own for a while, and in the same one again: nothing changes.
    cluster.disk.unit.set_other_targets(vec![]);
    cluster.disk.unit.retire_targets(&[farm]);
    assert_eq!(cluster.write(AGAIN), End::Good);

    cluster.disk.unit.remove_nexus(AGAIN);
    cluster.disk.unit.retire_targets(&[]);
    cluster.disk.unit.set_other_targets(vec![farm]);
    cluster.disk.unit.add_nexus(AGAIN, through("a", FARM));
    cluster.told(AGAIN);
    assert_eq!(cluster.write(AGAIN), End::Conflict, "another target of the same number");
    assert_eq!(cluster.out(AGAIN, RELEASE, 5, KEY_A, 0), End::Conflict);
    assert_eq!((cluster.write(B), cluster.write(C)), (End::Good, End::Conflict), "C is still fenced off");
    assert_eq!(cluster.out(B, PREEMPT, 5, KEY_B, KEY_A), End::Good, "it is preempted as any other");
    assert_eq!((cluster.held_now(), cluster.keys().1), (Some((KEY_B, 5)), vec![KEY_B]));
}
