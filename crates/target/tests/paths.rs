//! Two portal groups are two paths to one volume: what a multipath host sees of them over real sockets.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use bytes::Bytes;
use common::{Bench, Client, HOST, TARGET, eventually, read16, sense, soon, test_unit_ready, write16};
use iscsi::initiator::{Command, Config as InitiatorConfig};
use iscsi::pdu::ScsiStatus;
use iscsi::{Isid, Lun, PortalGroupTag};
use scsi::{AccessState, PortGroup, PortGroupId};
use std::net::SocketAddr;
use target::Portal;

const STATE_CHANGED: (u8, u8, u8) = (6, 0x2a, 0x06);
const IN_STANDBY: (u8, u8, u8) = (2, 0x04, 0x0b);
const IN_TRANSITION: (u8, u8, u8) = (2, 0x04, 0x0a);

fn portal(address: &str, group: u16) -> Portal {
    Portal { address: address.parse().unwrap(), group: PortalGroupTag(group) }
}

fn group(id: u16, state: AccessState) -> PortGroup {
    PortGroup { state, ..PortGroup::new(PortGroupId(id)) }
}

/// A server with a portal in group 1 and one in group 2, both active.
fn fabrics() -> Bench {
    let bench = Bench::with(|config| {
        config.portals = vec![portal("127.0.0.1:0", 1), portal("127.0.0.2:0", 2)];
    });
    bench.unit.set_port_groups(vec![
        group(1, AccessState::ActiveOptimized),
        group(2, AccessState::ActiveOptimized),
    ]);
    bench
}

/// A session by the portal at `address`, that has heard of its power on.
async fn path(address: SocketAddr, isid: u8) -> Client {
    let mut config = InitiatorConfig::normal(HOST, TARGET);
    config.isid = Isid([0x80, 0, 0, 0, 0, isid]);
    let mut client = Client::connect(address, config).await.expect("login");
    assert_eq!(client.run(test_unit_ready()).await.status, ScsiStatus::CheckCondition);
    assert_eq!(client.run(test_unit_ready()).await.status, ScsiStatus::Good);
    client
}

async fn both(bench: &Bench) -> (Client, Client) {
    let addresses = bench.server.addresses();
    (path(addresses[0], 1).await, path(addresses[1], 2).await)
}

fn cdb(bytes: &[u8]) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

async fn data(client: &mut Client, bytes: &[u8]) -> Vec<u8> {
    let completion = client.run(Command::read(Lun::default(), cdb(bytes), 1024)).await;
    assert_eq!(completion.status, ScsiStatus::Good, "{bytes:02x?}: {:02x?}", completion.sense);
    completion.data_in.to_vec()
}

/// SET TARGET PORT GROUPS with one descriptor.
fn set(group: u8, state: u8) -> Command {
    let list = Bytes::copy_from_slice(&[0, 0, 0, 0, state, 0, 0, group]);
    Command::write(Lun::default(), cdb(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8]), list)
}

/// Type and value of each designator of a page 83h.
fn designators(page: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut rest = &page[4..];
    let mut all = Vec::new();
    while let [_, kind, 0, len, ..] = *rest {
        let (value, next) = rest[4..].split_at(len.into());
        all.push((kind & 0x3f, value.to_vec()));
        rest = next;
    }
    all
}

/// SPC-4 6.37 and 7.8.6: the same on every path, but for what names the path.
#[tokio::test]
async fn every_path_tells_the_same_of_the_unit_and_its_own_of_the_port() {
    let bench = fabrics();
    let (mut a, mut b) = soon(both(&bench)).await;
    for report in [[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0], [0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 4, 0]] {
        let here = soon(data(&mut a, &report)).await;
        assert_eq!(here, soon(data(&mut b, &report)).await, "REPORT TARGET PORT GROUPS");
    }
    for page in [[0x12, 0, 0, 4, 0, 0], [0x12, 1, 0x80, 4, 0, 0], [0x12, 1, 0xb0, 4, 0, 0]] {
        assert_eq!(soon(data(&mut a, &page)).await, soon(data(&mut b, &page)).await);
    }
    let identification = [0x12, 1, 0x83, 4, 0, 0];
    let here = designators(&soon(data(&mut a, &identification)).await);
    let there = designators(&soon(data(&mut b, &identification)).await);
    let differ: Vec<_> = here.iter().zip(&there).filter(|(one, other)| one != other).collect();
    let port = |value: u8| vec![0, 0, 0, value];
    assert_eq!(differ[0], (&(0x14, port(1)), &(0x14, port(2))), "relative target port");
    assert_eq!(differ[1], (&(0x15, port(1)), &(0x15, port(2))), "target port group");
    assert_eq!(differ[2].0.0, 0x18, "SCSI name string of the port");
    assert!(differ[2].0.1.starts_with(format!("{TARGET},t,0x0001").as_bytes()));
    assert_eq!((differ.len(), here.len()), (3, there.len()));
}

/// SPC-4 6.45 and 5.15.2.4.3.
#[tokio::test]
async fn a_state_set_by_one_path_is_told_on_the_other_and_holds_for_its_io() {
    let bench = fabrics();
    let (mut a, mut b) = soon(both(&bench)).await;
    assert_eq!(soon(b.run(write16(8, 8, 7))).await.status, ScsiStatus::Good);
    assert_eq!(soon(a.run(set(2, 2))).await.status, ScsiStatus::Good);
    assert_eq!(sense(&soon(b.run(write16(8, 8, 9))).await), STATE_CHANGED);
    assert_eq!(sense(&soon(b.run(write16(8, 8, 9))).await), IN_STANDBY);
    assert_eq!(sense(&soon(b.run(read16(8, 8))).await), IN_STANDBY);
    assert_eq!(soon(a.run(read16(8, 8))).await.data_in, vec![7; 4096], "nothing was written");
    let report = soon(data(&mut b, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0])).await;
    assert_eq!((report[4] & 0xf, report[16] & 0xf), (0, 2));
    assert_eq!(soon(b.run(set(2, 0))).await.status, ScsiStatus::Good, "the path takes itself back");
    assert_eq!(soon(b.run(write16(8, 8, 9))).await.status, ScsiStatus::Good);
    assert_eq!(sense(&soon(a.run(test_unit_ready())).await), STATE_CHANGED);
}

/// SPC-4 5.15.2.5 and 5.15.2.7: a change from this side is told on all paths.
#[tokio::test]
async fn a_path_in_transition_asks_for_patience() {
    let bench = fabrics();
    let (mut a, mut b) = soon(both(&bench)).await;
    let moving = vec![group(1, AccessState::Transitioning), group(2, AccessState::ActiveOptimized)];
    bench.unit.set_port_groups(moving);
    for client in [&mut a, &mut b] {
        assert_eq!(sense(&soon(client.run(test_unit_ready())).await), STATE_CHANGED);
    }
    assert_eq!(sense(&soon(a.run(read16(0, 8))).await), IN_TRANSITION);
    assert_eq!(soon(b.run(read16(0, 8))).await.status, ScsiStatus::Good);
}

/// RFC 7143 Appendix C: each address with the tag of its own group.
#[tokio::test]
async fn portals_come_and_go_while_hosts_are_connected() {
    let bench = fabrics();
    let first = bench.address();
    let mut a = soon(path(first, 1)).await;
    let third = bench.server.add_portal(portal("127.0.0.3:0", 3)).unwrap();
    assert_ne!(third.address.port(), 0);
    let mut by_third = soon(path(third.address, 3)).await;
    let seen: Vec<_> = soon(a.targets()).await.remove(0).addresses;
    let wanted = bench.server.portals().into_iter();
    let wanted: Vec<_> = wanted.map(|portal| format!("{},{}", portal.address, portal.group.0)).collect();
    assert_eq!(seen, wanted);
    assert!(bench.server.add_portal(third).is_err(), "the address is taken");

    assert!(soon(bench.server.remove_portal(third.address)).await);
    assert!(!soon(bench.server.remove_portal(third.address)).await, "it is gone");
    assert!(tokio::net::TcpStream::connect(third.address).await.is_err());
    assert_eq!(soon(by_third.run(test_unit_ready())).await.status, ScsiStatus::Good, "sessions stay");
    let again = bench.server.add_portal(third).unwrap();
    assert_eq!(again, third, "the address was free at once");
    soon(path(third.address, 4)).await;
    assert_eq!(bench.server.portals().len(), 3);
    soon(by_third.logout()).await;
    eventually(|| bench.server.sessions().len() <= 2).await;
}
