//! Portals of the group over simulated surroundings: what is remembered, refused, and told.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use control::simulated::{SimEngine, SimFrontend, SimRuntime, thin_volume};
use control::{
    DrainRequest, ErrorKind, Force, Group, GroupConfig, NewPool, NewPortal, Outcome, PathState, PathUpdate,
    PortalChoice, PortalCondition, PortalGroupTag, PortalMode, PortalView, SessionFacts, SessionId,
};
use std::net::SocketAddr;
use std::sync::Arc;

const A: &str = "192.0.2.1:3260";
const B: &str = "198.51.100.1:3260";
const ONE: PortalGroupTag = PortalGroupTag(1);
const TWO: PortalGroupTag = PortalGroupTag(2);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Fixture {
    directory: tempfile::TempDir,
    frontend: Arc<SimFrontend>,
    group: Arc<Group>,
}

impl Fixture {
    /// Serves A, as `serve --portal` says.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let frontend = Arc::new(SimFrontend::default());
        let group = open(&directory, &frontend).await;
        group.serve_portals(&[at(A)]).await.unwrap();
        Self { directory, frontend, group }
    }

    /// A and B, in groups of their own.
    async fn fabrics() -> Self {
        let fixture = Self::new().await;
        fixture.add(B, None, Some("B")).await.unwrap();
        fixture
    }

    /// As a restart of the process, where `taken` cannot be bound any more.
    async fn restarted(self, taken: &[SocketAddr]) -> Self {
        drop(self.group);
        let frontend = Arc::new(SimFrontend::default());
        frontend.take_addresses(taken);
        let group = open(&self.directory, &frontend).await;
        group.serve_portals(&[at(A)]).await.unwrap();
        Self { directory: self.directory, frontend, group }
    }

    async fn add(
        &self,
        address: &str,
        tag: Option<PortalGroupTag>,
        fabric: Option<&str>,
    ) -> control::Result<(Outcome, PortalView)> {
        let new = NewPortal { address: at(address), tag, fabric: fabric.map(ToOwned::to_owned) };
        self.group.add_portal(new).await
    }

    async fn drain(&self, which: PortalChoice, to: Option<&str>) -> control::Result<Outcome> {
        let request = DrainRequest { which, to: to.map(at), within: None, force: Force::No };
        self.group.drain_portals(request).await.map(|(outcome, _)| outcome)
    }

    /// Address, tag and condition of each portal.
    fn list(&self) -> Vec<(String, u16, PortalCondition)> {
        let portals = self.group.portals().into_iter();
        portals.map(|portal| (portal.address.to_string(), portal.tag.0, portal.condition)).collect()
    }
}

async fn open(directory: &tempfile::TempDir, frontend: &Arc<SimFrontend>) -> Arc<Group> {
    let config = GroupConfig {
        file: directory.path().join("group.redb"),
        engine: Arc::new(SimEngine::default()),
        frontend: frontend.clone(),
        runtime: Arc::new(SimRuntime::default()),
    };
    Group::open(config).await.unwrap()
}

fn row(address: &str, tag: u16, condition: PortalCondition) -> (String, u16, PortalCondition) {
    (address.to_owned(), tag, condition)
}

async fn session(fixture: &Fixture, portal: &str) {
    fixture.group.create_pool(NewPool { name: "tank".into(), disks: vec!["/d:100G".into()] }).await.unwrap();
    let volume = fixture.group.create_volume(thin_volume("mail", 1 << 30)).await.unwrap().1;
    fixture.frontend.log_in(SessionFacts {
        connections: Vec::new(),
        id: SessionId(1),
        initiator: "iqn.2001-04.com.example:alice".to_owned(),
        source: at("192.0.2.9:40000"),
        portal: at(portal),
        volume: Some(volume.record.id),
        target: None,
        units: Vec::new(),
        host: None,
        read_only: false,
        since_unix_ms: 0,
        commands: 0,
        read_bytes: 0,
        written_bytes: 0,
    });
}

#[tokio::test]
async fn portals_are_remembered_once_they_were_changed() {
    let fixture = Fixture::new().await.restarted(&[]).await;
    assert_eq!(fixture.list(), [row(A, 1, PortalCondition::Serving)]);
    let (outcome, portal) = fixture.add(B, None, Some("B")).await.unwrap();
    assert_eq!((outcome, portal.tag), (Outcome::Created, TWO), "a new fabric makes a new group");
    assert_eq!(fixture.add(B, None, Some("b")).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(fixture.add(B, None, None).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(fixture.add("198.51.100.2:3260", None, Some("B")).await.unwrap().1.tag, TWO);
    assert_eq!(fixture.add("192.0.2.2:3260", None, None).await.unwrap().1.tag, ONE);
    let before = fixture.list();
    assert_eq!(before.len(), 4);
    let fixture = fixture.restarted(&[]).await;
    assert_eq!(fixture.list(), before);
    assert_eq!(fixture.frontend.told_portals().groups.len(), 2, "hosts are told of two paths");
}

#[tokio::test]
async fn a_portal_that_cannot_be_opened_is_told_and_the_others_serve() {
    let fixture = Fixture::fabrics().await.restarted(&[at(B)]).await;
    assert_eq!(fixture.list(), [row(A, 1, PortalCondition::Serving), row(B, 2, PortalCondition::Failed)]);
    let reason = fixture.group.portal(at(B)).unwrap().reason.unwrap();
    assert!(reason.contains("another program"), "{reason}");
    assert!(fixture.group.retry_portals().await, "still closed");
    fixture.frontend.take_addresses(&[]);
    assert!(!fixture.group.retry_portals().await);
    assert_eq!(fixture.list()[1], row(B, 2, PortalCondition::Serving));
    assert_eq!(fixture.group.portal(at(B)).unwrap().reason, None);
}

/// As `serve --portal` did before there was anything to remember: it must serve all it was told, or say why not.
#[tokio::test]
async fn a_default_portal_that_cannot_be_opened_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let frontend = Arc::new(SimFrontend::default());
    frontend.take_addresses(&[at(A)]);
    let group = open(&directory, &frontend).await;
    assert_eq!(group.serve_portals(&[at(A)]).await.unwrap_err().kind, ErrorKind::AddressInUse);
}

#[tokio::test]
async fn portals_that_cannot_be_are_refused_and_leave_nothing_behind() {
    let fixture = Fixture::fabrics().await;
    let before = fixture.list();
    fixture.frontend.take_addresses(&[at("192.0.2.7:3260")]);
    for (address, tag, fabric, kind) in [
        ("192.0.2.7:3260", None, None, ErrorKind::AddressInUse),
        ("192.0.2.8:0", None, None, ErrorKind::Invalid),
        ("192.0.2.8:3260", Some(PortalGroupTag(0)), None, ErrorKind::Invalid),
        ("192.0.2.8:3260", Some(TWO), Some("A"), ErrorKind::Invalid),
        ("192.0.2.8:3260", None, Some("not a name"), ErrorKind::Invalid),
        (A, Some(TWO), None, ErrorKind::Exists),
        ("0.0.0.0:3260", None, None, ErrorKind::InUse),
    ] {
        assert_eq!(fixture.add(address, tag, fabric).await.unwrap_err().kind, kind, "{address} {tag:?}");
    }
    assert_eq!(fixture.list(), before);
}

#[tokio::test]
async fn a_portal_in_use_or_the_last_goes_only_by_force() {
    let fixture = Fixture::fabrics().await;
    session(&fixture, B).await;
    let remove = async |address: &str, force| fixture.group.remove_portal(at(address), None, force).await;
    let error = remove(B, Force::No).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InUse);
    assert!(error.message.contains("palisade portal drain"), "{error}");
    assert_eq!(remove(B, Force::Yes).await.unwrap().0, Outcome::Deleted);
    assert_eq!(remove(B, Force::Yes).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(fixture.group.sessions().len(), 0);
    assert_eq!(remove(A, Force::No).await.unwrap_err().kind, ErrorKind::InUse, "the last");
    assert_eq!(remove(A, Force::Yes).await.unwrap().0, Outcome::Deleted);
    assert!(fixture.group.portals().is_empty());
}

#[tokio::test]
async fn a_drain_outlives_a_restart_and_is_undone_by_resume() {
    let fixture = Fixture::fabrics().await;
    session(&fixture, A).await;
    let which = PortalChoice::Group(ONE);
    assert_eq!(fixture.drain(which, Some(B)).await.unwrap(), Outcome::Changed);
    assert_eq!(fixture.drain(which, Some(B)).await.unwrap(), Outcome::Unchanged);
    assert_eq!(fixture.group.sessions().len(), 0, "sessions were asked to go");
    let fixture = fixture.restarted(&[]).await;
    assert_eq!(fixture.list()[0], row(A, 1, PortalCondition::Drained));
    let told = fixture.frontend.told_portals();
    assert_eq!(told.portal(at(A)).unwrap().1.mode, PortalMode::Drained { to: Some(at(B)) });
    assert_eq!(fixture.group.resume_portals(which).await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.group.resume_portals(which).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(fixture.list()[0], row(A, 1, PortalCondition::Serving));
}

#[tokio::test]
async fn hosts_are_never_left_without_a_portal_unless_by_force() {
    let fixture = Fixture::fabrics().await;
    fixture.drain(PortalChoice::Portal(at(B)), None).await.unwrap();
    let error = fixture.drain(PortalChoice::Portal(at(A)), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InUse, "{error}");
    let error = fixture.drain(PortalChoice::Portal(at(B)), Some(B)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "to itself");
    fixture.group.resume_portals(PortalChoice::Portal(at(B))).await.unwrap();
    let error = fixture.drain(PortalChoice::Group(ONE), Some("203.0.113.1:3260")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "to where nothing serves");
    let error = fixture.drain(PortalChoice::Group(PortalGroupTag(9)), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let all = DrainRequest { which: PortalChoice::Group(ONE), to: None, within: None, force: Force::Yes };
    fixture.drain(PortalChoice::Portal(at(B)), None).await.unwrap();
    fixture.group.drain_portals(all).await.unwrap();
    assert!(!fixture.frontend.told_portals().groups.iter().any(control::PortalGroupRecord::serves));
}

#[tokio::test]
async fn a_portal_that_has_moved_says_so_until_it_is_removed_once_more() {
    let fixture = Fixture::fabrics().await;
    session(&fixture, A).await;
    let moved = fixture.group.remove_portal(at(A), Some(at(B)), Force::No).await.unwrap();
    assert_eq!((moved.0, moved.1.condition), (Outcome::Changed, PortalCondition::Moved));
    assert_eq!(
        fixture.frontend.told_portals().portal(at(A)).unwrap().1.mode,
        PortalMode::Moved { to: at(B) }
    );
    fixture.group.remove_portal(at(A), None, Force::No).await.unwrap();
    assert_eq!(fixture.list(), [row(B, 2, PortalCondition::Serving)]);
    assert_eq!(
        fixture.group.remove_portal(at(B), Some(at(B)), Force::No).await.unwrap_err().kind,
        ErrorKind::Invalid
    );
}

#[tokio::test]
async fn paths_have_a_state_for_all_volumes_and_another_for_some() {
    let fixture = Fixture::fabrics().await;
    session(&fixture, A).await;
    let mail = fixture.group.volume("mail").unwrap().record.id;
    let state = |state, volume: Option<&str>| PathUpdate {
        state: Some(state),
        volume: volume.map(ToOwned::to_owned),
        ..PathUpdate::default()
    };
    let set =
        async |update: PathUpdate| fixture.group.set_path(TWO, update).await.map(|(outcome, _)| outcome);
    assert_eq!(set(state(PathState::Standby, Some("mail"))).await.unwrap(), Outcome::Changed);
    assert_eq!(set(state(PathState::Standby, Some("mail"))).await.unwrap(), Outcome::Unchanged);
    let told = || fixture.frontend.told_portals().groups[1].clone();
    assert_eq!((told().state, told().state_for(mail)), (PathState::Optimized, PathState::Standby));
    assert_eq!(set(state(PathState::NonOptimized, None)).await.unwrap(), Outcome::Changed);
    assert_eq!(told().state_for(mail), PathState::NonOptimized, "for all means all");
    let preferred =
        PathUpdate { preferred: Some(true), fabric: Some("east".into()), ..PathUpdate::default() };
    assert_eq!(set(preferred).await.unwrap(), Outcome::Changed);
    assert!(told().preferred && told().fabric.is_some_and(|fabric| fabric.is("east")));
    assert_eq!(set(PathUpdate::default()).await.unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(set(state(PathState::Standby, Some("none"))).await.unwrap_err().kind, ErrorKind::NotFound);
    let nowhere = fixture.group.set_path(PortalGroupTag(9), state(PathState::Standby, None)).await;
    assert_eq!(nowhere.unwrap_err().kind, ErrorKind::NotFound);
}
