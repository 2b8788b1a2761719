//! What clusters do with reservations, step by step: Windows failover clustering's validation, fencing agents.

use super::*;

/// Validate SCSI-3 Persistent Reservation: the reservation is read right after it was made; some arrays fail to report
/// it. Registrants only (5), as cluster disks use it.
#[test]
fn windows_validates_persistent_reservations() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.register(A, KEY_A), End::Good);
    assert_eq!(cluster.keys(), (1, vec![KEY_A]));
    assert_eq!(cluster.out(A, RESERVE, 5, KEY_A, 0), End::Good);
    assert_eq!(cluster.held_now(), Some((KEY_A, 5)));
    assert_eq!(cluster.out(B, RESERVE, 5, KEY_B, 0), End::Conflict, "B is not registered");
    assert_eq!((cluster.write(B), cluster.read(B)), (End::Conflict, End::Good));
    assert_eq!(cluster.register(B, KEY_B), End::Good);
    assert_eq!(cluster.write(B), End::Good);
    assert_eq!(cluster.out(A, RELEASE, 5, KEY_A, 0), End::Good);
    assert_eq!((cluster.held_now(), cluster.told(B)), (None, vec![RELEASED]));
    assert_eq!(cluster.out(B, RESERVE, 5, KEY_B, 0), End::Good);
    assert_eq!(cluster.out(A, PREEMPT, 5, KEY_A, KEY_B), End::Good);
    assert_eq!((cluster.held_now(), cluster.told(B)), (Some((KEY_A, 5)), vec![UNREGISTERED]));
    assert_eq!(cluster.write(B), End::Conflict);
    assert_eq!(cluster.out(A, REGISTER, 0, KEY_A, 0), End::Good);
    assert_eq!((cluster.held_now(), cluster.keys().1), (None, vec![]));
}

/// Validate Disk Arbitration: the owner defends by registering anew; a challenger that read the old key loses, and one
/// that finds the owner silent wins.
#[test]
fn an_owner_that_defends_keeps_the_disk() {
    let mut cluster = Cluster::new();
    cluster.register(A, 0xa1);
    cluster.out(A, RESERVE, 5, 0xa1, 0);
    for round in 0xb1..0xb4_u64 {
        assert_eq!(cluster.register(B, round), End::Good);
        let (_, keys) = cluster.keys();
        let read = cluster.held_now().unwrap().0;
        assert!(keys.contains(&read));
        // Within the challenger's wait the owner takes its registration away and comes with a new key.
        assert_eq!(cluster.out(A, PREEMPT, 5, read, round), End::Good);
        assert_eq!(cluster.out(A, REGISTER, 0, read, read + 1), End::Good);
        assert_eq!(cluster.told(B), [UNREGISTERED]);
        assert_eq!(cluster.out(B, PREEMPT, 5, round, read), End::Conflict, "round {round:x}");
    }
    let read = cluster.held_now().unwrap().0;
    assert_eq!(cluster.register(B, 0xb9), End::Good);
    assert_eq!(cluster.out(B, PREEMPT, 5, 0xb9, read), End::Good, "this time the owner is silent");
    assert_eq!((cluster.held_now(), cluster.write(B)), (Some((0xb9, 5)), End::Good));
}

/// Validate Multiple Arbitration: of many that preempt at the same time one wins.
#[test]
fn one_of_many_challengers_wins() {
    let hosts: Vec<_> = (0..16).map(|host| (NexusId(100 + host), 0x100 + host)).collect();
    for first in 0..hosts.len() {
        let mut cluster = Cluster::held(scsi::ReservationType::WriteExclusiveRegistrantsOnly);
        for (id, key) in &hosts {
            cluster.disk.unit.add_nexus(*id, through(&format!("h{key}"), PORT));
            cluster.told(*id);
            assert_eq!(cluster.register(*id, *key), End::Good);
        }
        let order = hosts.iter().cycle().skip(first).take(hosts.len());
        let ends: Vec<_> = order.map(|(id, key)| (*id, cluster.out(*id, PREEMPT, 5, *key, KEY_A))).collect();
        let winners: Vec<_> = ends.iter().filter(|(_, end)| *end == End::Good).collect();
        assert_eq!(winners.len(), 1);
        assert!(ends.iter().all(|(_, end)| matches!(end, End::Good | End::Conflict)));
        assert_eq!(cluster.held_now(), Some((hosts[first].1, 5)));
    }
}

/// Validate Disk Failover: the next owner reads what the former one wrote, which is shut out and hears why.
#[test]
fn failover_hands_over_data_and_shuts_the_former_owner_out() {
    let mut cluster = Cluster::held(scsi::ReservationType::ExclusiveAccess);
    assert_eq!(cluster.write(A), End::Good);
    assert_eq!(cluster.read(B), End::Conflict);
    assert_eq!(cluster.out(B, PREEMPT_AND_ABORT, 3, KEY_B, KEY_A), End::Good);
    assert_eq!(cluster.disk.aborted, [A]);
    let data = cluster.disk.of(B, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[]).data_in.concat();
    assert_eq!(data, [0x5a; 512]);
    assert_eq!(cluster.told(A), [UNREGISTERED]);
    assert_eq!((cluster.write(A), cluster.read(A)), (End::Conflict, End::Conflict));
}

/// fence_scsi and fence_mpath: every node registers under its own key through each path, one holds the reservation of
/// registrants; a node is fenced by preempting its key, and comes back by registering.
#[test]
fn a_fenced_node_is_shut_out_until_it_registers_again() {
    let mut cluster = Cluster::registered();
    cluster.register(A2, KEY_A);
    cluster.out(B, RESERVE, 5, KEY_B, 0);
    assert_eq!(cluster.out(C, PREEMPT_AND_ABORT, 5, KEY_C, KEY_A), End::Good);
    assert_eq!(cluster.held_now(), Some((KEY_B, 5)), "the holder is somebody else");
    for path in [A, A2] {
        assert_eq!((cluster.told(path), cluster.write(path)), (vec![UNREGISTERED], End::Conflict));
    }
    assert_eq!((cluster.write(B), cluster.write(C)), (End::Good, End::Good));
    assert_eq!((cluster.told(B), cluster.told(C)), (vec![], vec![]));
    assert_eq!(cluster.register(A, KEY_A), End::Good);
    assert_eq!((cluster.write(A), cluster.write(A2)), (End::Good, End::Conflict), "path by path");
}

/// Regression of another target: RESERVATIONS RELEASED has to reach registrants on other nodes, however many there are
/// and whatever else they have yet to hear.
#[test]
fn a_release_reaches_every_registrant_next_to_other_news() {
    let mut cluster = Cluster::registered();
    cluster.register(A2, KEY_A);
    cluster.out(A, RESERVE, 7, KEY_A, 0);
    cluster.disk.unit.raise_all(scsi::UnitAttention::CapacityChanged, Some(A));
    assert_eq!(cluster.out(A, RELEASE, 7, KEY_A, 0), End::Good);
    for id in [B, C, A2] {
        assert_eq!(cluster.told(id), [RELEASED, AdditionalSense::CAPACITY_CHANGED], "{id:?}");
    }
    assert!(cluster.told(A).is_empty());
}
