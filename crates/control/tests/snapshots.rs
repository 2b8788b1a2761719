//! Snapshots, groups of them and clones, over a simulated engine.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use block::{Durability, Volume};
use bytes::Bytes;
use control::simulated::thin_volume;
use control::{
    ErrorKind, Force, NewHost, NewPool, NewSnapshot, Outcome, PoolEngine, Protection, SessionFacts,
    SessionId, SnapshotView, Snapshots, VolumeId, VolumeUpdate,
};
use std::sync::Arc;

mod common;

use common::Fixture;

const GIB: u64 = 1 << 30;

/// What tests of snapshots do again and again.
impl Fixture {
    async fn with_volumes(names: &[&str]) -> Self {
        let fixture = Self::new().await;
        fixture.pool("tank", "/d/one:10G").await;
        for name in names {
            fixture.group().create_volume(thin_volume(name, GIB)).await.unwrap();
        }
        fixture
    }

    async fn pool(&self, name: &str, disk: &str) {
        let new = NewPool { name: name.to_owned(), disks: vec![disk.to_owned()] };
        self.group().create_pool(new).await.unwrap();
    }

    async fn snapshot(&self, volumes: &[&str], name: Option<&str>) -> control::Result<Vec<SnapshotView>> {
        let volumes = volumes.iter().map(ToString::to_string).collect();
        let new = NewSnapshot { volumes, name: name.map(ToOwned::to_owned), schedule: None };
        let (outcome, made) = self.group().create_snapshots(new).await?;
        assert_eq!(outcome, Outcome::Created);
        Ok(made)
    }

    async fn data(&self, id: VolumeId) -> Arc<dyn Volume> {
        let pool = self.group().pools()[0].record.id;
        self.engine.pool(pool).unwrap().open_volume(id).await.unwrap()
    }

    async fn write(&self, volume: &str, byte: u8) {
        let volume = self.data(self.group().volume(volume).unwrap().record.id).await;
        volume.write(0, vec![Bytes::from(vec![byte; 512])], Durability::Default).await.unwrap();
    }

    async fn first_byte(&self, id: VolumeId) -> u8 {
        self.data(id).await.read(0, 512).await.unwrap()[0][0]
    }

    async fn first_byte_of(&self, volume: &str) -> u8 {
        self.first_byte(self.group().volume(volume).unwrap().record.id).await
    }

    /// As if a host had logged in to the volume.
    async fn log_in(&self, volume: &str, read_only: bool) {
        let iqn = "iqn.2001-04.com.example:alice";
        let new = NewHost { name: "web".to_owned(), iqns: vec![iqn.to_owned()], addresses: Vec::new() };
        self.group().create_host(new).await.unwrap();
        self.group().grant(volume, "web", read_only).await.unwrap();
        self.frontend.log_in(SessionFacts {
            connections: Vec::new(),
            id: SessionId(1),
            initiator: iqn.to_owned(),
            source: ([192, 0, 2, 1], 40_000).into(),
            portal: ([192, 0, 2, 2], 3260).into(),
            volume: Some(self.group().volume(volume).unwrap().record.id),
            target: None,
            units: Vec::new(),
            host: None,
            read_only,
            since_unix_ms: 0,
            commands: 0,
            read_bytes: 0,
            written_bytes: 0,
        });
    }

    fn names(&self, volume: Option<&str>) -> Vec<String> {
        let views = self.group().snapshots(volume).unwrap();
        views.iter().map(|view| format!("{}@{}", view.volume, view.record.name)).collect()
    }
}

fn kind<T: std::fmt::Debug>(result: control::Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

#[tokio::test]
async fn a_snapshot_keeps_what_was_there_and_is_known_after_a_restart() {
    let mut fixture = Fixture::with_volumes(&["mail"]).await;
    fixture.write("mail", 1).await;
    let made = fixture.snapshot(&["MAIL"], Some("before")).await.unwrap();
    fixture.write("mail", 2).await;
    assert_eq!(fixture.first_byte(made[0].record.id).await, 1);
    assert_eq!(fixture.first_byte_of("mail").await, 2);
    assert_eq!(kind(fixture.snapshot(&["mail"], Some("Before")).await), ErrorKind::Exists);
    assert_eq!(kind(fixture.snapshot(&["post"], None).await), ErrorKind::NotFound);
    assert_eq!(kind(fixture.snapshot(&["mail"], Some("a@b")).await), ErrorKind::Invalid);

    fixture.restart().await;
    assert_eq!(fixture.names(None), ["mail@before"]);
    let rename = VolumeUpdate { name: Some("post".to_owned()), ..VolumeUpdate::default() };
    fixture.group().update_volume("mail", rename).await.unwrap();
    let view = fixture.group().snapshot("post", "BEFORE").unwrap();
    assert_eq!(view.record, made[0].record);
    assert_eq!(fixture.group().snapshot("post", &view.record.id.to_string()).unwrap(), view);
    assert_eq!(fixture.group().volume("post").unwrap().snapshots, 1);
    assert_eq!(fixture.frontend.published().len(), 1, "a snapshot is no volume that hosts see");

    let deleted = fixture.group().delete_snapshot("post", "before").await.unwrap();
    assert_eq!((deleted.0, deleted.1), (Outcome::Deleted, view));
    assert_eq!(kind(fixture.group().delete_snapshot("post", "before").await), ErrorKind::NotFound);
    fixture.restart().await;
    assert!(fixture.names(None).is_empty());
}

#[tokio::test]
async fn snapshots_without_a_name_are_called_after_the_time() {
    let fixture = Fixture::with_volumes(&["mail", "web"]).await;
    let first = fixture.snapshot(&["mail"], None).await.unwrap()[0].record.name.to_string();
    let second = fixture.snapshot(&["web", "mail"], None).await.unwrap();
    let digits = |range: std::ops::Range<usize>| first[range].bytes().all(|byte| byte.is_ascii_digit());
    assert!(first.len() == 15 && digits(0..8) && &first[8..9] == "-" && digits(9..15), "{first}");
    assert!(second.iter().all(|view| view.record.name.as_str() == format!("{first}-2")));
    assert_eq!(fixture.names(Some("mail")), [format!("mail@{first}"), format!("mail@{first}-2")]);
}

#[tokio::test]
async fn a_group_of_volumes_has_one_instant_and_one_pool() {
    let mut fixture = Fixture::with_volumes(&["data", "log", "other"]).await;
    let made = fixture.snapshot(&["data", "log", "DATA"], Some("x")).await.unwrap();
    assert_eq!(made.len(), 2, "a volume named twice is in once");
    assert!(made[0].record.set.is_some() && made[0].record.set == made[1].record.set);
    assert_eq!(made[0].together, [("log".to_owned(), "x".to_owned())]);
    fixture.snapshot(&["other"], Some("x")).await.unwrap();
    fixture.snapshot(&["data"], Some("y")).await.unwrap();
    fixture.restart().await;
    let view = fixture.group().snapshot("log", "x").unwrap();
    assert_eq!(view.together, [("data".to_owned(), "x".to_owned())]);
    assert!(fixture.group().snapshot("data", "y").unwrap().together.is_empty());

    fixture.pool("second", "/d/two:10G").await;
    let far = control::NewVolume { pool: Some("second".to_owned()), ..thin_volume("far", GIB) };
    fixture.group().create_volume(far).await.unwrap();
    assert_eq!(kind(fixture.snapshot(&["data", "far"], None).await), ErrorKind::Invalid);
    assert_eq!(kind(fixture.snapshot(&[], None).await), ErrorKind::Invalid);
    assert_eq!(kind(fixture.snapshot(&["log", "data"], Some("y")).await), ErrorKind::Exists, "none is made");
    assert_eq!(fixture.names(Some("log")), ["log@x"]);
}

#[tokio::test]
async fn a_clone_is_a_volume_with_an_identity_of_its_own_that_outlives_what_it_was_made_of() {
    let mut fixture = Fixture::with_volumes(&["gold"]).await;
    fixture.write("gold", 1).await;
    fixture.snapshot(&["gold"], Some("v1")).await.unwrap();
    fixture.write("gold", 2).await;
    let group = fixture.group().clone();
    let (outcome, clone) = group.clone_volume("gold", Some("v1"), "vm1", false).await.unwrap();
    let gold = group.volume("gold").unwrap();
    assert_eq!(outcome, Outcome::Created);
    assert_eq!(fixture.first_byte(clone.record.id).await, 1);
    assert_ne!(clone.record.naa, gold.record.naa);
    assert_ne!(clone.record.serial, gold.record.serial);
    assert_ne!(clone.record.iqn, gold.record.iqn);
    assert!(fixture.frontend.published().contains(&clone.record.id));
    let origin = clone.origin.clone().unwrap();
    assert_eq!(
        (origin.volume.as_str(), origin.snapshot.as_deref(), origin.exists),
        ("gold", Some("v1"), true)
    );
    assert_eq!(group.snapshot("gold", "v1").unwrap().clones, ["vm1"]);

    assert_eq!(group.clone_volume("gold", Some("v1"), "vm1", false).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(kind(group.clone_volume("gold", None, "vm1", false).await), ErrorKind::Exists);
    assert_eq!(kind(group.clone_volume("gold", Some("v2"), "vm2", false).await), ErrorKind::NotFound);
    let (_, live) = group.clone_volume("gold", None, "vm2", false).await.unwrap();
    assert_eq!(fixture.first_byte(live.record.id).await, 2);
    assert_eq!(group.volume("gold").unwrap().clones, ["vm1", "vm2"]);

    group.delete_snapshot("gold", "v1").await.unwrap();
    group.delete_volume("gold", Force::No).await.unwrap();
    drop(group);
    fixture.restart().await;
    let orphan = fixture.group().volume("vm1").unwrap();
    assert_eq!(orphan.record, clone.record);
    assert_eq!(orphan.origin.map(|origin| (origin.volume, origin.exists)), Some(("gold".to_owned(), false)));
    assert_eq!(fixture.first_byte_of("vm1").await, 1);
}

#[tokio::test]
async fn a_clone_of_a_snapshot_has_the_size_that_the_volume_had() {
    let fixture = Fixture::with_volumes(&["mail"]).await;
    fixture.snapshot(&["mail"], Some("small")).await.unwrap();
    let grow = VolumeUpdate { size_bytes: Some(2 * GIB), ..VolumeUpdate::default() };
    fixture.group().update_volume("mail", grow).await.unwrap();
    let clone = fixture.group().clone_volume("mail", Some("small"), "old", false).await.unwrap().1;
    assert_eq!(clone.record.size_bytes, GIB);
}

#[tokio::test]
async fn a_volume_with_snapshots_is_deleted_on_purpose_only() {
    let mut fixture = Fixture::with_volumes(&["mail"]).await;
    fixture.snapshot(&["mail"], Some("a")).await.unwrap();
    fixture.snapshot(&["mail"], Some("b")).await.unwrap();
    let refused = fixture.group().delete_volume("mail", Force::Yes).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InUse, "force ends sessions, and no more");
    assert!(refused.message.contains("--with-snapshots"), "{}", refused.message);
    fixture.group().delete_volume_with("mail", Force::No, Snapshots::Delete).await.unwrap();
    let pool = fixture.engine.pool(fixture.group().pools()[0].record.id).unwrap();
    assert_eq!((pool.volume_count(), pool.fact_count()), (0, 0));
    fixture.restart().await;
    assert!(fixture.names(None).is_empty() && fixture.group().volumes().is_empty());
}

/// Wherever the machine stops, snapshots and records of them are there together or not at all, and the rest can be done
/// again.
#[tokio::test]
async fn an_interrupted_change_leaves_snapshots_whole_or_gone() {
    for changes in 0..6 {
        let mut fixture = Fixture::with_volumes(&["data", "log"]).await;
        let pool = fixture.engine.pool(fixture.group().pools()[0].record.id).unwrap();
        pool.crash_after(Some(changes));
        let made = fixture.snapshot(&["data", "log"], Some("x")).await.is_ok();
        let cloned = fixture.group().clone_volume("data", Some("x"), "copy", false).await.is_ok();
        let deleted = fixture.group().delete_volume_with("data", Force::No, Snapshots::Delete).await.is_ok();
        pool.crash_after(None);
        fixture.restart().await;
        let expected = match (made, deleted) {
            (true, false) if changes < 3 => vec!["data@x", "log@x"],
            (true, _) => vec!["log@x"],
            (false, _) => Vec::new(),
        };
        assert_eq!(fixture.names(None), expected, "after {changes} changes");
        assert_eq!(fixture.group().volume("copy").is_ok(), cloned);
        assert_eq!(fixture.group().volume("data").is_ok(), !deleted);
        let all = fixture.group().volumes().len() + expected.len();
        assert_eq!((pool.volume_count(), pool.fact_count()), (all, all), "nothing is left over");
    }
}

#[tokio::test]
async fn a_volume_goes_back_and_what_it_held_is_kept() {
    let mut fixture = Fixture::with_volumes(&["mail"]).await;
    fixture.write("mail", 1).await;
    fixture.snapshot(&["mail"], Some("before")).await.unwrap();
    fixture.write("mail", 2).await;
    let grow = VolumeUpdate { size_bytes: Some(2 * GIB), ..VolumeUpdate::default() };
    fixture.group().update_volume("mail", grow).await.unwrap();
    let identity = fixture.group().volume("mail").unwrap().record.naa;
    let (outcome, done) = fixture.group().roll_back("mail", "BEFORE", Force::No).await.unwrap();
    assert_eq!(outcome, Outcome::Changed);
    assert_eq!(fixture.first_byte_of("mail").await, 1);
    assert_eq!(fixture.first_byte(done.safety.record.id).await, 2);
    assert_eq!((done.volume.record.size_bytes, done.volume.record.naa), (2 * GIB, identity));
    assert!(done.safety.record.name.as_str().ends_with("-before-rollback"));
    assert_eq!(done.volume.snapshots, 2, "none is deleted");
    fixture.restart().await;
    assert_eq!(fixture.first_byte_of("mail").await, 1);
    let safety = done.safety.record.name.to_string();
    fixture.group().roll_back("mail", &safety, Force::No).await.unwrap();
    assert_eq!(fixture.first_byte_of("mail").await, 2);
    assert_eq!(fixture.frontend.published().len(), 1);
}

/// A mounted disk that changes below a file system is a damaged file system.
#[tokio::test]
async fn a_volume_in_use_goes_back_by_force_only_and_then_nobody_uses_it_any_more() {
    let fixture = Fixture::with_volumes(&["mail"]).await;
    fixture.write("mail", 1).await;
    fixture.snapshot(&["mail"], Some("before")).await.unwrap();
    fixture.write("mail", 2).await;
    fixture.log_in("mail", false).await;
    let refused = fixture.group().roll_back("mail", "before", Force::No).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InUse);
    assert_eq!(fixture.first_byte_of("mail").await, 2);
    assert_eq!(fixture.names(None).len(), 1, "no snapshot was made for nothing");
    fixture.group().roll_back("mail", "before", Force::Yes).await.unwrap();
    assert_eq!(fixture.first_byte_of("mail").await, 1);
    assert!(fixture.group().sessions().is_empty());
    assert_eq!(fixture.group().volume("mail").unwrap().offline, None);
}

#[tokio::test]
async fn an_interrupted_rollback_has_happened_or_not() {
    for changes in 0..2 {
        let mut fixture = Fixture::with_volumes(&["mail"]).await;
        fixture.write("mail", 1).await;
        fixture.snapshot(&["mail"], Some("before")).await.unwrap();
        fixture.write("mail", 2).await;
        let pool = fixture.engine.pool(fixture.group().pools()[0].record.id).unwrap();
        pool.crash_after(Some(changes));
        let done = fixture.group().roll_back("mail", "before", Force::No).await.is_ok();
        pool.crash_after(None);
        assert_eq!(fixture.group().volume("mail").unwrap().offline, None, "it is served as it is");
        fixture.restart().await;
        assert_eq!(done, changes > 0);
        assert_eq!(fixture.first_byte_of("mail").await, if done { 1 } else { 2 });
        assert_eq!(fixture.names(None).len(), 1 + usize::from(done));
    }
}

#[tokio::test]
async fn a_template_is_read_only_and_stays_while_there_are_clones_of_it() {
    let mut fixture = Fixture::with_volumes(&["gold"]).await;
    fixture.write("gold", 1).await;
    fixture.log_in("gold", false).await;
    let on = Protection { template: Some(true), read_only: None };
    let off = Protection { template: Some(false), read_only: None };
    assert_eq!(kind(fixture.group().set_protection("gold", on).await), ErrorKind::InUse);
    fixture.restart().await;
    let group = fixture.group().clone();
    assert_eq!(group.set_protection("gold", on).await.unwrap().0, Outcome::Changed);
    assert_eq!(group.set_protection("gold", on).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(group.volume("gold").unwrap().grants, [("web".to_owned(), true)]);
    let grow = VolumeUpdate { size_bytes: Some(2 * GIB), ..VolumeUpdate::default() };
    assert_eq!(kind(group.update_volume("gold", grow).await), ErrorKind::Invalid);
    assert_eq!(kind(group.roll_back("gold", "template", Force::Yes).await), ErrorKind::Invalid);

    let clone = group.clone_volume("gold", None, "vm1", false).await.unwrap().1;
    assert_eq!(
        clone.origin.unwrap().snapshot.as_deref(),
        Some("template"),
        "all clones have one layer below"
    );
    assert!(!clone.record.is_read_only(), "a clone of a template is no template");
    assert_eq!(group.clone_volume("gold", None, "vm1", false).await.unwrap().0, Outcome::Unchanged);
    drop(group);
    fixture.restart().await;
    let group = fixture.group().clone();
    let refused = group.delete_volume_with("gold", Force::Yes, Snapshots::Delete).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InUse);
    assert!(refused.message.contains("vm1"), "{}", refused.message);
    group.clone_volume("gold", None, "vm2", false).await.unwrap();
    assert_eq!(group.detach_volume("vm1").await.unwrap().0, Outcome::Changed);
    assert_eq!(group.detach_volume("vm1").await.unwrap().0, Outcome::Unchanged);
    assert_eq!(group.volume("gold").unwrap().clones, ["vm2"]);
    assert_eq!(kind(group.delete_volume_with("gold", Force::No, Snapshots::Delete).await), ErrorKind::InUse);
    group.set_protection("gold", off).await.unwrap();
    assert_eq!(group.volume("gold").unwrap().grants, [("web".to_owned(), false)]);
    group.delete_volume_with("gold", Force::No, Snapshots::Delete).await.unwrap();
    drop(group);
    fixture.restart().await;
    assert_eq!(fixture.first_byte_of("vm1").await, 1);
    assert_eq!(fixture.group().volume("vm1").unwrap().origin, None);
}

/// The pool is at it in the background, and alone knows when it is done.
#[tokio::test]
async fn a_clone_stays_one_until_the_pool_has_detached_it() {
    let mut fixture = Fixture::with_volumes(&["gold"]).await;
    fixture.snapshot(&["gold"], Some("base")).await.unwrap();
    let group = fixture.group().clone();
    let pool = fixture.engine.pool(group.pools()[0].record.id).unwrap();
    for clone in ["vm1", "vm2"] {
        group.clone_volume("gold", Some("base"), clone, false).await.unwrap();
    }
    pool.detach_slowly(true);
    let (outcome, view) = group.detach_volume("vm1").await.unwrap();
    assert_eq!((outcome, view.detachment.is_some(), view.origin.is_some()), (Outcome::Changed, true, true));
    assert_eq!(group.detach_volume("vm1").await.unwrap().0, Outcome::Unchanged, "it is at it already");
    group.detach_volume("vm2").await.unwrap();
    let (outcome, view) = group.cancel_detach("vm2").await.unwrap();
    assert_eq!((outcome, view.detachment, view.origin.is_some()), (Outcome::Changed, None, true));
    assert_eq!(group.cancel_detach("vm2").await.unwrap().0, Outcome::Unchanged);
    assert_eq!(group.volume("gold").unwrap().clones, ["vm1", "vm2"]);
    drop(group);
    fixture.restart().await;
    let group = fixture.group().clone();
    assert!(group.volume("vm1").unwrap().detachment.is_some(), "known after a restart");
    pool.detach_slowly(false);
    let view = group.volume("vm1").unwrap();
    assert_eq!((view.detachment, view.origin, view.record.origin), (None, None, None));
    assert_eq!(group.volume("gold").unwrap().clones, ["vm2"]);
    assert_eq!(group.cancel_detach("vm1").await.unwrap().0, Outcome::Unchanged);
    drop(group);
    fixture.restart().await;
    assert_eq!(fixture.group().volume("vm1").unwrap().origin, None);
    assert!(fixture.group().volume("vm2").unwrap().origin.is_some());
}

/// What a host is let do is decided at its login: a volume that is read only is so for those who may write, too.
#[tokio::test]
async fn a_snapshot_is_shown_to_hosts_read_only_by_a_clone() {
    let mut fixture = Fixture::with_volumes(&["mail"]).await;
    fixture.snapshot(&["mail"], Some("before")).await.unwrap();
    let shown = fixture.group().clone_volume("mail", Some("before"), "look", true).await.unwrap().1;
    fixture.log_in("look", false).await;
    fixture.restart().await;
    let attempt =
        control::LoginAttempt { initiator: "iqn.2001-04.com.example:alice", source: [192, 0, 2, 1].into() };
    let access = fixture.group().with_state(|state| state.authorize(attempt, shown.record.iqn.as_str()));
    assert!(access.unwrap().read_only);
    let writable = Protection { template: None, read_only: Some(false) };
    fixture.group().set_protection("look", writable).await.unwrap();
    let access = fixture.group().with_state(|state| state.authorize(attempt, shown.record.iqn.as_str()));
    assert!(!access.unwrap().read_only, "it is a clone like any other then");
}
