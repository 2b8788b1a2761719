//! Targets of several volumes: what a host sees in one, which numbers there are, and what outlives a restart.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use control::simulated::{SimEngine, SimFrontend, SimRuntime, thin_volume};
use control::{
    Error, ErrorKind, Force, Group, GroupConfig, LoginAttempt, NewHost, NewPool, NewPortal, Outcome,
    PortalGroupTag, Refusal, SessionFacts, SessionId, TargetAccess, TargetLun,
};
use std::sync::Arc;

const ALICE: &str = "iqn.2001-04.com.example:alice";
const BOB: &str = "iqn.2001-04.com.example:bob";
const GIB: u64 = 1 << 30;

struct Fixture {
    directory: tempfile::TempDir,
    engine: Arc<SimEngine>,
    frontend: Arc<SimFrontend>,
    group: Arc<Group>,
}

async fn open(directory: &tempfile::TempDir, engine: &Arc<SimEngine>) -> (Arc<Group>, Arc<SimFrontend>) {
    let frontend = Arc::new(SimFrontend::default());
    let config = GroupConfig {
        file: directory.path().join("group.redb"),
        engine: engine.clone(),
        frontend: frontend.clone(),
        runtime: Arc::new(SimRuntime::default()),
    };
    (Group::open(config).await.unwrap(), frontend)
}

impl Fixture {
    /// A pool, volumes `a`, `b` and `c`, hosts `alice` and `bob`, and an empty target `farm`.
    async fn new() -> Self {
        let (directory, engine) = (tempfile::tempdir().unwrap(), Arc::<SimEngine>::default());
        let (group, frontend) = open(&directory, &engine).await;
        let pool = NewPool { name: "tank".to_owned(), disks: vec!["/d/one:100G".to_owned()] };
        group.create_pool(pool).await.unwrap();
        for name in ["a", "b", "c"] {
            group.create_volume(thin_volume(name, GIB)).await.unwrap();
        }
        for (name, iqn) in [("alice", ALICE), ("bob", BOB)] {
            let new = NewHost { name: name.to_owned(), iqns: vec![iqn.to_owned()], addresses: Vec::new() };
            group.create_host(new).await.unwrap();
        }
        group.create_target("farm").await.unwrap();
        Self { directory, engine, frontend, group }
    }

    async fn restart(self) -> Self {
        drop(self.group);
        let (group, frontend) = open(&self.directory, &self.engine).await;
        Self { group, frontend, ..self }
    }

    async fn map(&self, volume: &str, lun: Option<u64>) -> Result<Outcome, Error> {
        let lun = lun.map(|lun| TargetLun::try_from(lun).unwrap());
        self.group.map_volume("farm", volume, lun).await.map(|(outcome, _)| outcome)
    }

    fn access(&self, initiator: &str) -> Result<TargetAccess, Refusal> {
        let iqn = self.group.target("farm").unwrap().record.iqn;
        let attempt = LoginAttempt { initiator, source: [192, 0, 2, 1].into() };
        self.group.with_state(|state| state.authorize_target(attempt, iqn.as_str()))
    }

    /// LUN, name of the volume, and whether it may only be read.
    fn seen(&self, initiator: &str) -> Vec<(u16, String, bool)> {
        let units = self.access(initiator).map(|access| access.units).unwrap_or_default();
        let name = |id| self.group.with_state(|state| state.volume(id).unwrap().name.to_string());
        units.iter().map(|unit| (unit.lun.number(), name(unit.volume), unit.read_only)).collect()
    }

    fn discovered(&self, initiator: &str) -> bool {
        let attempt = LoginAttempt { initiator, source: [192, 0, 2, 1].into() };
        self.group.with_state(|state| state.targets_visible_to(attempt).next().is_some())
    }

    fn log_in(&self, volume: &str) {
        let record = self.group.volume(volume).unwrap().record;
        self.frontend.log_in(SessionFacts {
            connections: Vec::new(),
            id: SessionId(1),
            initiator: ALICE.to_owned(),
            source: ([192, 0, 2, 1], 40_000).into(),
            portal: ([192, 0, 2, 2], 3260).into(),
            volume: None,
            target: Some(self.group.target("farm").unwrap().record.iqn),
            units: vec![record.id],
            host: record.grants.first().map(|grant| grant.host),
            read_only: false,
            since_unix_ms: 0,
            commands: 0,
            read_bytes: 0,
            written_bytes: 0,
        });
    }
}

fn row(lun: u16, volume: &str, read_only: bool) -> (u16, String, bool) {
    (lun, volume.to_owned(), read_only)
}

/// TrueNAS's multi_lun_targets: each host sees the units of the volumes that it was granted, under the target's numbers.
#[tokio::test]
async fn a_host_sees_of_a_target_what_it_was_granted() {
    let fixture = Fixture::new().await;
    for (volume, lun) in [("a", None), ("c", Some(7)), ("b", None)] {
        assert_eq!(fixture.map(volume, lun).await, Ok(Outcome::Changed));
    }
    assert!(!fixture.discovered(ALICE), "nothing is granted yet");
    assert_eq!(fixture.access(ALICE), Err(Refusal::NotFound));
    fixture.group.grant("a", "alice", false).await.unwrap();
    fixture.group.grant("c", "alice", true).await.unwrap();
    fixture.group.grant("b", "bob", false).await.unwrap();
    assert_eq!(fixture.seen(ALICE), [row(0, "a", false), row(7, "c", true)]);
    assert_eq!(fixture.seen(BOB), [row(1, "b", false)], "no_lun_zero: a host may see no LUN 0");
    assert!(fixture.discovered(ALICE) && fixture.discovered(BOB));
    assert!(!fixture.discovered("iqn.2001-04.com.example:stranger"));
    let own = fixture.group.volume("a").unwrap().record.iqn;
    let attempt = LoginAttempt { initiator: ALICE, source: [192, 0, 2, 1].into() };
    let own = fixture.group.with_state(|state| state.authorize_target(attempt, own.as_str())).unwrap();
    assert_eq!((own.number, own.units.len()), (0, 1), "the volume's own target stays");
    fixture.group.revoke("a", "alice").await.unwrap();
    assert_eq!(fixture.seen(ALICE), [row(7, "c", true)]);
}

#[tokio::test]
async fn numbers_are_given_lowest_first_and_never_twice() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.map("a", Some(1)).await, Ok(Outcome::Changed));
    assert_eq!(fixture.frontend.told_targets().len(), 1, "sessions are told");
    assert_eq!(fixture.map("a", Some(1)).await, Ok(Outcome::Unchanged));
    assert_eq!(fixture.map("a", None).await, Ok(Outcome::Unchanged));
    assert!(fixture.frontend.told_targets().is_empty());
    assert_eq!(fixture.map("a", Some(2)).await.unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(fixture.map("b", Some(1)).await.unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(fixture.map("b", None).await, Ok(Outcome::Changed));
    assert_eq!(fixture.map("c", None).await, Ok(Outcome::Changed));
    assert_eq!(fixture.map("missing", None).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(TargetLun::try_from(256).unwrap_err().kind, ErrorKind::Invalid);
    let luns = |fixture: &Fixture| {
        let view = fixture.group.target("FARM").unwrap();
        view.mappings.iter().map(|mapping| (mapping.lun.number(), mapping.volume.clone())).collect::<Vec<_>>()
    };
    let expected = [(0, "b".to_owned()), (1, "a".to_owned()), (2, "c".to_owned())];
    assert_eq!(luns(&fixture), expected);
    assert_eq!(fixture.group.unmap_volume("farm", "a").await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.group.unmap_volume("farm", "a").await.unwrap().0, Outcome::Unchanged);
    let fixture = fixture.restart().await;
    assert_eq!(luns(&fixture), [expected[0].clone(), expected[2].clone()], "mappings outlive a restart");
}

/// Duplicate names: every target, of either kind, has an iSCSI name of its own.
#[tokio::test]
async fn names_of_targets_are_never_those_of_others() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.group.create_target("Farm").await.unwrap().0, Outcome::Unchanged);
    let like_a_volume = fixture.group.create_target("a").await.unwrap().1.record;
    let volume = fixture.group.volume("a").unwrap().record;
    assert_ne!(like_a_volume.iqn, volume.iqn);
    assert!(like_a_volume.iqn.as_str().starts_with(volume.iqn.as_str()));
    let like_a_target = fixture.group.create_volume(thin_volume("farm", GIB)).await.unwrap().1.record;
    let farm = fixture.group.target("farm").unwrap().record;
    assert_ne!(like_a_target.iqn, farm.iqn);
    assert_ne!(like_a_volume.number, farm.number, "ports are told apart by it");
    assert_eq!(fixture.group.create_target("a b").await.unwrap_err().kind, ErrorKind::Invalid);
}

/// TrueNAS's delete_extents: what is in use is not deleted unless that is meant, and goes from every target.
#[tokio::test]
async fn a_volume_that_is_used_through_a_target_is_deleted_with_force_only() {
    let fixture = Fixture::new().await;
    fixture.group.grant("a", "alice", false).await.unwrap();
    fixture.map("a", None).await.unwrap();
    fixture.map("b", None).await.unwrap();
    fixture.log_in("a");
    let refused = fixture.group.delete_volume("a", Force::No).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InUse);
    assert!(refused.message.contains(ALICE), "{refused}");
    assert_eq!(fixture.seen(ALICE).len(), 1, "it is served as before");
    fixture.group.delete_volume("a", Force::Yes).await.unwrap();
    let fixture = fixture.restart().await;
    let volumes: Vec<_> =
        fixture.group.target("farm").unwrap().mappings.into_iter().map(|m| m.volume).collect();
    assert_eq!(volumes, ["b"]);
    assert_eq!(fixture.map("c", None).await, Ok(Outcome::Changed), "LUN 0 is free again");
}

#[tokio::test]
async fn a_target_with_sessions_is_deleted_with_force_only() {
    let fixture = Fixture::new().await;
    fixture.group.grant("a", "alice", false).await.unwrap();
    fixture.map("a", None).await.unwrap();
    fixture.log_in("a");
    assert_eq!(fixture.group.delete_target("farm", Force::No).await.unwrap_err().kind, ErrorKind::InUse);
    assert_eq!(fixture.group.delete_target("farm", Force::Yes).await.unwrap().0, Outcome::Deleted);
    assert_eq!(fixture.frontend.told_targets().len(), 1, "its sessions are told");
    assert_eq!(fixture.group.target("farm").unwrap_err().kind, ErrorKind::NotFound);
    let fixture = fixture.restart().await;
    assert!(fixture.group.targets().is_empty());
    assert_eq!(fixture.group.volumes().len(), 3, "its volumes stay");
}

/// What name servers are told: targets that a host could be let in to.
#[tokio::test]
async fn a_target_is_served_while_one_of_its_volumes_is() {
    let fixture = Fixture::new().await;
    let served = |fixture: &Fixture| {
        fixture.group.with_state(|state| {
            state.served_targets().map(|target| target.name.to_string()).collect::<Vec<_>>()
        })
    };
    assert!(served(&fixture).is_empty(), "no volume is in it");
    fixture.map("a", None).await.unwrap();
    assert_eq!(served(&fixture), ["farm"]);
    fixture.group.delete_volume("a", Force::No).await.unwrap();
    assert!(served(&fixture).is_empty());
}

/// SPC-4 5.13.7: what volumes keep of registrations is handed back with what the targets' numbers stand for now.
#[tokio::test]
async fn a_volume_is_published_with_the_numbers_of_the_targets() {
    let fixture = Fixture::new().await.restart().await;
    let farm = fixture.group.target("farm").unwrap().record;
    let volume = fixture.group.volume("a").unwrap().record.id;
    assert_eq!(fixture.frontend.kept_targets(volume), Some([(farm.number, farm.iqn.to_string())].into()));
}

/// Numbers of portal groups above 255, of a time when there were such, leave no room for targets' numbers.
#[tokio::test]
async fn large_tags_and_targets_of_several_volumes_exclude_each_other() {
    let fixture = Fixture::new().await;
    let portal = |group| NewPortal {
        address: ([192, 0, 2, 7], 3260).into(),
        tag: Some(PortalGroupTag(group)),
        fabric: None,
    };
    let refused = fixture.group.add_portal(portal(256)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Invalid);
    assert!(refused.message.contains("1 to 255"), "{refused}");
    fixture.group.add_portal(portal(255)).await.unwrap();
    assert!(fixture.group.create_target("barn").await.is_ok());
}
