//! Who a registration is for: SPEC_I_PT, ALL_TG_PT, REGISTER AND MOVE, READ FULL STATUS (SPC-4 5.13.7, 5.13.8, 6.15.5).

use scsi::ReservationType::{self, *};
use scsi::{PortGroup, PortGroupId};

use super::*;

/// A full status descriptor: key, flags, type, port, initiator port.
type Status = (u64, u8, u8, u16, String);

fn full_status(cluster: &mut Cluster) -> Vec<Status> {
    let data = cluster.read_in(3);
    let mut rest = &data[8..];
    assert_eq!(number(&data[4..8]), rest.len() as u64);
    let mut all = Vec::new();
    while !rest.is_empty() {
        let len = usize::try_from(number(&rest[20..24])).unwrap();
        let (own, behind) = rest.split_at(24 + len);
        assert!(own[8..12] == [0; 4] && own[14..18] == [0; 4], "reserved");
        let id = &own[24..];
        assert_eq!((id[0], id[1], usize::from(id[3]) + 4), (0x45, 0, len), "iSCSI, format 01b");
        let name = id[4..].split(|byte| *byte == 0).next().unwrap();
        let port = u16::try_from(number(&own[18..20])).unwrap();
        all.push((number(&own[..8]), own[12], own[13], port, String::from_utf8(name.to_vec()).unwrap()));
        rest = behind;
    }
    all
}

fn name(host: &str) -> String {
    crate::harness::nexus(host).initiator_port
}

/// REGISTER of `ids` along with the nexus that sends it.
fn spec_i_pt(flags: u8, new_key: u64, ids: &[Vec<u8>]) -> Vec<u8> {
    let ids = ids.concat();
    [&list(0, new_key, SPEC_I_PT | flags)[..], &u32::try_from(ids.len()).unwrap().to_be_bytes(), &ids]
        .concat()
}

fn move_list(key: u64, new_key: u64, unreg: bool, port: u16, id: &[u8]) -> Vec<u8> {
    let mut list = list(key, new_key, 0);
    list[17] = if unreg { 2 } else { 0 };
    list[18..20].copy_from_slice(&port.to_be_bytes());
    list[20..24].copy_from_slice(&u32::try_from(id.len()).unwrap().to_be_bytes());
    [&list[..], id].concat()
}

#[test]
fn full_status_names_every_nexus_and_the_holders() {
    for kind in ReservationType::ALL {
        let mut cluster = Cluster::held(kind);
        cluster.register(A2, 0xa2);
        let code = kind.code();
        let registrant = if kind.is_all_registrants() { (1, code) } else { (0, 0) };
        assert_eq!(
            full_status(&mut cluster),
            [
                (KEY_A, 1, code, PORT, name("a")),
                (0xa2, registrant.0, registrant.1, PORT2, name("a")),
                (KEY_B, registrant.0, registrant.1, PORT, name("b")),
            ],
            "{kind:?}"
        );
    }
    assert!(full_status(&mut Cluster::new()).is_empty());
}

/// SPC-4 6.16.3: also hosts that have never been here, and through the port the command came.
#[test]
fn spec_i_pt_registers_those_that_are_listed() {
    let mut cluster = Cluster::new();
    cluster.register(B, KEY_B);
    let ids = [transport_id("c"), transport_id("b"), transport_id("stranger")];
    assert_eq!(cluster.out_list(A, REGISTER, 0, &spec_i_pt(0, KEY_A, &ids)), End::Good);
    let keys: Vec<_> =
        full_status(&mut cluster).into_iter().map(|(key, .., port, name)| (key, port, name)).collect();
    assert_eq!(
        keys,
        [
            (KEY_A, PORT, name("a")),
            (KEY_B, PORT, name("b")),
            (KEY_A, PORT, name("c")),
            (KEY_A, PORT, name("stranger")),
        ],
        "who was registered keeps its key"
    );
    assert_eq!(cluster.generation(), 2);
}

/// An initiator without a port stands for those of its ports that are logged in (SPC-4 7.6.4.6).
#[test]
fn spec_i_pt_takes_an_initiators_name() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.out_list(A, REGISTER, 0, &spec_i_pt(0, KEY_A, &[device_id("b")])), End::Good);
    assert_eq!(full_status(&mut cluster)[1].4, name("b"));
    let mut cluster = Cluster::new();
    let nobody = spec_i_pt(0, KEY_A, &[device_id("b"), device_id("stranger")]);
    assert_eq!(cluster.out_list(A, REGISTER, 0, &nobody), BAD_PARAMETER, "nobody knows its ports");
    assert_eq!(cluster.keys(), (0, vec![]), "all or none");
}

#[test]
fn spec_i_pt_is_for_registering_anew_only() {
    let mut cluster = Cluster::registered();
    let list = spec_i_pt(0, KEY_A, &[transport_id("c")]);
    assert_eq!(cluster.out_list(A, REGISTER_AND_IGNORE, 0, &list), BAD_PARAMETER);
    for action in [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT] {
        assert_eq!(cluster.out_list(A, action, 1, &list), BAD_PARAMETER, "action {action}");
    }
    let mut again = list.clone();
    again[..8].copy_from_slice(&KEY_A.to_be_bytes());
    assert_eq!(cluster.out_list(A, REGISTER, 0, &again), BAD_PARAMETER, "it is registered already");
    assert_eq!(cluster.generation(), 3);
}

#[test]
fn lists_of_ids_have_to_hold_together() {
    let mut cluster = Cluster::new();
    let good = spec_i_pt(0, KEY_A, &[transport_id("c")]);
    let mut short = good.clone();
    short[27] -= 4;
    let mut long = good.clone();
    long[27] += 4;
    let mut fibre_channel = good.clone();
    fibre_channel[28] = 0;
    for bad in [short, long, fibre_channel] {
        assert_eq!(cluster.out_list(A, REGISTER, 0, &bad), BAD_PARAMETER);
    }
    assert_eq!(cluster.out_list(A, REGISTER, 0, &good[..24]), BAD_LENGTH, "SPEC_I_PT and no list");
    assert!(cluster.keys().1.is_empty());
    assert_eq!(cluster.out_list(A, REGISTER, 0, &good), End::Good);
}

/// SPC-4 6.16.3: as if the request had come through every target port.
#[test]
fn all_tg_pt_registers_at_every_port() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.out_list(A, REGISTER, 0, &list(0, KEY_A, ALL_TG_PT)), End::Good);
    let at = |cluster: &mut Cluster| -> Vec<_> {
        full_status(cluster).into_iter().map(|(key, .., port, _)| (key, port)).collect()
    };
    assert_eq!(at(&mut cluster), [(KEY_A, PORT), (KEY_A, PORT2)]);
    cluster.out(A, RESERVE, 5, KEY_A, 0);
    assert_eq!(cluster.write(A2), End::Good, "registered through the other port");
    // Ports that come later are every port's too; but not of those who were at one only.
    cluster.register(B, KEY_B);
    let port = |number| PortGroup::new(PortGroupId(number));
    cluster.disk.unit.set_port_groups([PORT, PORT2, 11].map(port).to_vec());
    for id in [A, A2, B] {
        assert_eq!(cluster.told(id), [AdditionalSense::ACCESS_STATE_CHANGED]);
    }
    assert_eq!(at(&mut cluster), [(KEY_A, PORT), (KEY_A, PORT2), (KEY_A, 11), (KEY_B, PORT)]);
    assert_eq!(cluster.out_list(A, REGISTER, 0, &list(KEY_A, 0xaa, ALL_TG_PT)), End::Good);
    assert_eq!(at(&mut cluster), [(0xaa, PORT), (0xaa, PORT2), (0xaa, 11), (KEY_B, PORT)]);
    // What is taken away at one port is not every port's any more.
    assert_eq!(cluster.out(A2, REGISTER, 0, 0xaa, 0), End::Good);
    cluster.disk.unit.set_port_groups([PORT, PORT2, 11, 12].map(port).to_vec());
    cluster.told(A);
    assert_eq!(at(&mut cluster), [(0xaa, PORT), (0xaa, 11), (KEY_B, PORT)]);
    assert_eq!(cluster.out_list(A, REGISTER_AND_IGNORE, 0, &list(0, 0, ALL_TG_PT)), End::Good);
    assert_eq!(at(&mut cluster), [(KEY_B, PORT)]);
    assert_eq!(cluster.held_now(), None, "the holder was among them");
}

/// ALL_TG_PT and SPEC_I_PT at once: every initiator port at every target port.
#[test]
fn all_ports_of_all_listed_initiators() {
    let mut cluster = Cluster::new();
    let list = spec_i_pt(ALL_TG_PT, KEY_A, &[transport_id("b"), transport_id("c")]);
    assert_eq!(cluster.out_list(A, REGISTER, 0, &list), End::Good);
    assert_eq!(full_status(&mut cluster).len(), 6);
}

/// Who asks, in what state, with which list, and how it ends (SPC-4 5.13.8).
#[test]
fn a_reservation_is_moved_by_its_holder() {
    for kind in ReservationType::ALL {
        let mut cluster = Cluster::held(kind);
        let before = cluster.generation();
        let to_c = |key, unreg| move_list(key, KEY_C, unreg, PORT, &transport_id("c"));
        assert_eq!(cluster.out_list(B, REGISTER_AND_MOVE, 0xff, &to_c(KEY_B, false)), End::Conflict);
        assert_eq!(cluster.out_list(C, REGISTER_AND_MOVE, 0, &to_c(0, false)), End::Conflict);
        assert_eq!(cluster.out_list(A, REGISTER_AND_MOVE, 0, &to_c(KEY_B, false)), End::Conflict);
        let end = cluster.out_list(A, REGISTER_AND_MOVE, 0, &to_c(KEY_A, false));
        if kind.is_all_registrants() {
            assert_eq!((end, cluster.generation()), (End::Conflict, before), "{kind:?} has no one holder");
            continue;
        }
        assert_eq!((end, cluster.generation()), (End::Good, before + 1));
        assert_eq!(cluster.held_now(), Some((KEY_C, kind.code())));
        assert_eq!(cluster.keys().1, [KEY_A, KEY_B, KEY_C]);
        assert_eq!((cluster.write(C), cluster.read(C)), (End::Good, End::Good));
        for id in [A, B, C] {
            assert!(cluster.told(id).is_empty());
        }
        // And back to A through its other port, C's registration gone.
        let back = move_list(KEY_C, 0xa2, true, PORT2, &transport_id("a"));
        assert_eq!(cluster.out_list(C, REGISTER_AND_MOVE, 0, &back), End::Good);
        assert_eq!(
            (cluster.held_now(), cluster.keys().1),
            (Some((0xa2, kind.code())), vec![KEY_A, 0xa2, KEY_B])
        );
        assert_eq!((cluster.write(A2), cluster.write(C)), (End::Good, End::Conflict));
    }
}

#[test]
fn a_reservation_is_moved_to_a_port_that_can_be() {
    let mut cluster = Cluster::held(WriteExclusive);
    let good = transport_id("c");
    let table = [
        ("no new key", move_list(KEY_A, 0, false, PORT, &good), BAD_PARAMETER),
        (
            "to the nexus that holds it",
            move_list(KEY_A, KEY_C, false, PORT, &transport_id("a")),
            BAD_PARAMETER,
        ),
        ("to no port of the target's", move_list(KEY_A, KEY_C, false, 99, &good), BAD_PARAMETER),
        (
            "to an initiator without a port",
            move_list(KEY_A, KEY_C, false, PORT, &device_id("c")),
            BAD_PARAMETER,
        ),
        ("two IDs", move_list(KEY_A, KEY_C, false, PORT, &[&good[..], &good].concat()), BAD_PARAMETER),
        ("no ID", move_list(KEY_A, KEY_C, false, PORT, &[]), BAD_PARAMETER),
        ("a list that is too short", move_list(KEY_A, KEY_C, false, PORT, &good)[..20].to_vec(), BAD_LENGTH),
    ];
    for (what, list, end) in table {
        assert_eq!(cluster.out_list(A, REGISTER_AND_MOVE, 0, &list), end, "{what}");
    }
    let mut cluster = Cluster::registered();
    let list = move_list(KEY_A, KEY_C, false, PORT, &good);
    assert_eq!(cluster.out_list(A, REGISTER_AND_MOVE, 0, &list), End::Conflict, "there is nothing to move");
}

/// A host that was granted reading only registers like others, and decides nothing for them.
#[test]
fn who_may_only_read_has_no_say_in_who_may_write() {
    let protected = End::Check(7, AdditionalSense::WRITE_PROTECTED);
    let mut cluster = Cluster::held(WriteExclusiveRegistrantsOnly);
    cluster.disk.unit.set_nexus_read_only(B, true);
    cluster.told(B);
    for action in [RESERVE, CLEAR, PREEMPT, PREEMPT_AND_ABORT] {
        assert_eq!(cluster.out(B, action, 5, KEY_B, KEY_A), protected, "action {action}");
    }
    assert_eq!(cluster.out(B, REGISTER, 0, KEY_B, 0), End::Good);
    assert_eq!(cluster.register(B, KEY_B), End::Good);
    assert_eq!(cluster.end(B, &[0x16, 0, 0, 0, 0, 0], &[]), protected, "RESERVE(6)");
}
