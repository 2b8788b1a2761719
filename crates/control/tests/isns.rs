//! Which name servers are told of targets: remembered, and never in the way.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use control::simulated::{SimEngine, SimFrontend, SimRuntime};
use control::{Group, GroupConfig, IsnsState, NewIsns, Outcome};
use std::path::Path;
use std::sync::Arc;

async fn open(directory: &Path) -> Arc<Group> {
    let config = GroupConfig {
        file: directory.join("group.redb"),
        engine: Arc::new(SimEngine::default()),
        frontend: Arc::new(SimFrontend::default()),
        runtime: Arc::new(SimRuntime::default()),
    };
    Group::open(config).await.unwrap()
}

fn servers(servers: &[&str]) -> Option<NewIsns> {
    let servers = servers.iter().map(ToString::to_string).collect();
    Some(NewIsns { servers, inquiry_port: Some(3206) })
}

#[tokio::test]
async fn the_servers_are_remembered_through_a_restart_and_asking_twice_is_no_change() {
    let directory = tempfile::tempdir().unwrap();
    let group = open(directory.path()).await;
    assert_eq!(group.isns_servers(), []);
    assert_eq!(group.set_isns(None).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(group.set_isns(servers(&["192.0.2.9", "192.0.2.8:7"])).await.unwrap().0, Outcome::Changed);
    assert_eq!(group.set_isns(servers(&["192.0.2.9", "192.0.2.8:7"])).await.unwrap().0, Outcome::Unchanged);
    let entity = group.with_state(|state| state.group().isns_entity());
    drop(group);

    let group = open(directory.path()).await;
    let facts = group.isns_servers();
    let addresses: Vec<_> = facts.iter().map(|facts| facts.address.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.9:3205", "192.0.2.8:7"], "in the order given");
    assert!(facts.iter().all(|facts| facts.state == IsnsState::Connecting && facts.error.is_none()));
    group.with_state(|state| {
        assert_eq!(state.group().isns.as_ref().unwrap().inquiry_port, Some(3206));
        assert_eq!(state.group().isns_entity(), entity, "the same for life");
        assert_eq!(entity, format!("palisade-{}", state.group().id));
    });
    assert!(group.set_isns(servers(&[])).await.is_err());
    assert_eq!(group.isns_servers().len(), 2, "what is refused changes nothing");
    assert_eq!(group.set_isns(None).await.unwrap().0, Outcome::Changed);
    drop(group);
    assert_eq!(open(directory.path()).await.isns_servers(), []);
}
