//! The group over a simulated engine: changes, what outlives a restart, and what an interruption leaves.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use control::simulated::thin_volume;
use control::{
    ErrorKind, Force, LoginAttempt, NewHost, NewPool, NewVolume, Outcome, Refusal, SessionFacts, SessionId,
    VolumeUpdate, VolumeView,
};

mod common;

use common::Fixture;

const ALICE: &str = "iqn.2001-04.com.example:alice";
const GIB: u64 = 1 << 30;

impl Fixture {
    async fn pool(&self, name: &str, disk: &str) -> Outcome {
        let new = NewPool { name: name.to_owned(), disks: vec![disk.to_owned()] };
        self.group().create_pool(new).await.unwrap().0
    }

    async fn volume(&self, name: &str) -> VolumeView {
        self.group().create_volume(thin_volume(name, GIB)).await.unwrap().1
    }

    async fn host(&self, name: &str, iqn: &str) {
        let new = NewHost { name: name.to_owned(), iqns: vec![iqn.to_owned()], addresses: Vec::new() };
        self.group().create_host(new).await.unwrap();
    }

    /// As if the initiator had logged in to the volume.
    fn log_in(&self, id: u64, volume: &str, initiator: &str) {
        let record = self.group().volume(volume).unwrap().record;
        let attempt = LoginAttempt { initiator, source: [192, 0, 2, 1].into() };
        let access = self.group().with_state(|state| state.authorize(attempt, record.iqn.as_str())).unwrap();
        self.frontend.log_in(SessionFacts {
            connections: Vec::new(),
            id: SessionId(id),
            initiator: initiator.to_owned(),
            source: ([192, 0, 2, 1], 40_000).into(),
            portal: ([192, 0, 2, 2], 3260).into(),
            volume: Some(record.id),
            target: None,
            units: Vec::new(),
            host: Some(access.host),
            read_only: access.read_only,
            since_unix_ms: 0,
            commands: 0,
            read_bytes: 0,
            written_bytes: 0,
        });
    }
}

fn kind<T: std::fmt::Debug>(result: control::Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

#[tokio::test]
async fn asking_twice_for_the_same_is_no_error_and_for_something_else_is() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.pool("tank", "/d/one:10G").await, Outcome::Created);
    assert_eq!(fixture.pool("TANK", "/d/one").await, Outcome::Unchanged);
    let other = NewPool { name: "tank".to_owned(), disks: vec!["/d/two".to_owned()] };
    assert_eq!(kind(fixture.group().create_pool(other).await), ErrorKind::Exists);

    fixture.volume("mail").await;
    let again = fixture.group().create_volume(thin_volume("mail", GIB)).await.unwrap();
    assert_eq!(again.0, Outcome::Unchanged);
    let larger = thin_volume("mail", 2 * GIB);
    assert_eq!(kind(fixture.group().create_volume(larger).await), ErrorKind::Exists);

    fixture.host("web", ALICE).await;
    let new =
        |name: &str| NewHost { name: name.to_owned(), iqns: vec![ALICE.to_owned()], addresses: Vec::new() };
    assert_eq!(fixture.group().create_host(new("web")).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(kind(fixture.group().create_host(new("other")).await), ErrorKind::Exists, "one iqn, one host");

    assert_eq!(fixture.group().grant("mail", "web", false).await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.group().grant("mail", "web", false).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(fixture.group().revoke("mail", "web").await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.group().revoke("mail", "web").await.unwrap().0, Outcome::Unchanged);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let mut fixture = Fixture::new().await;
    fixture.pool("tank", "/d/one:10G").await;
    let before = fixture.volume("mail").await;
    fixture.host("web", ALICE).await;
    fixture.group().grant("mail", "web", true).await.unwrap();
    let id = fixture.group().with_state(|state| state.group().id.clone());

    fixture.restart().await;
    let after = fixture.group().volume("mail").unwrap();
    assert_eq!(after.grants, [("web".to_owned(), true)]);
    assert_eq!(after.record.iqn, before.record.iqn);
    assert_eq!(after.record.naa, before.record.naa);
    assert_eq!(after.offline, None);
    assert_eq!(fixture.frontend.published(), [after.record.id], "it has a target again");
    assert_eq!(fixture.group().with_state(|state| state.group().id.clone()), id);
}

#[tokio::test]
async fn a_pool_in_memory_is_gone_after_a_restart_with_its_volumes() {
    let mut fixture = Fixture::new().await;
    fixture.pool("fast", "ram:4GiB").await;
    fixture.volume("scratch").await;
    assert!(fixture.group().pool("fast").unwrap().record.volatile);
    fixture.restart().await;
    assert!(fixture.group().pools().is_empty());
    assert!(fixture.group().volumes().is_empty());
}

#[tokio::test]
async fn identity_is_for_life_and_a_target_name_never_comes_back_to_another_volume_that_lives() {
    let fixture = Fixture::new().await;
    fixture.pool("tank", "/d/one").await;
    let first = fixture.volume("Web_01").await;
    assert_eq!(first.record.iqn.as_str(), "iqn.2026-11.io.palisade:web-01", "RFC 3722: no upper case, no _");
    let rename = VolumeUpdate { name: Some("old".to_owned()), ..VolumeUpdate::default() };
    let renamed = fixture.group().update_volume("web_01", rename).await.unwrap().1;
    assert_eq!(renamed.record.iqn, first.record.iqn);
    assert_eq!(renamed.record.naa, first.record.naa);
    assert_eq!(renamed.record.serial, first.record.serial);

    let second = fixture.volume("web_01").await;
    assert_ne!(second.record.iqn, first.record.iqn);
    assert!(second.record.iqn.as_str().starts_with("iqn.2026-11.io.palisade:web-01-"));
    let clash = VolumeUpdate { name: Some("OLD".to_owned()), ..VolumeUpdate::default() };
    assert_eq!(kind(fixture.group().update_volume("web_01", clash).await), ErrorKind::Exists);
}

#[tokio::test]
async fn warnings_of_space_reach_hosts_and_outlive_a_restart() {
    let warning = |pool_percent, volume_percent| Some(control::SpaceWarning { pool_percent, volume_percent });
    let mut fixture = Fixture::new().await;
    fixture.pool("tank", "/d/one:10G").await;
    let id = fixture.volume("mail").await.record.id;
    assert_eq!(fixture.frontend.warning(id), warning(Some(80), None), "by default");
    let pool =
        |percent| control::PoolUpdate { warn_percent: Some(percent), ..control::PoolUpdate::default() };
    let volume = |percent| VolumeUpdate { warn_percent: Some(percent), ..VolumeUpdate::default() };
    assert_eq!(fixture.group().update_pool("tank", pool(80)).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(fixture.group().update_pool("tank", pool(70)).await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.group().update_volume("mail", volume(50)).await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.frontend.warning(id), warning(Some(70), Some(50)));
    fixture.restart().await;
    assert_eq!(fixture.frontend.warning(id), warning(Some(70), Some(50)));
    fixture.group().update_pool("tank", pool(0)).await.unwrap();
    fixture.group().update_volume("mail", volume(0)).await.unwrap();
    assert_eq!(fixture.frontend.warning(id), warning(None, None));
    assert_eq!(kind(fixture.group().update_pool("tank", pool(100)).await), ErrorKind::Invalid);
    assert_eq!(kind(fixture.group().update_volume("mail", volume(100)).await), ErrorKind::Invalid);
    assert_eq!(kind(fixture.group().update_pool("other", pool(50)).await), ErrorKind::NotFound);
    let thick = NewVolume { thick: true, ..thin_volume("thick", GIB) };
    fixture.group().create_volume(thick).await.unwrap();
    assert_eq!(kind(fixture.group().update_volume("thick", volume(50)).await), ErrorKind::Invalid);
}

#[tokio::test]
async fn volumes_grow_tell_hosts_and_never_shrink() {
    let mut fixture = Fixture::new().await;
    fixture.pool("tank", "/d/one:10G").await;
    let id = fixture.volume("mail").await.record.id;
    let to = |size_bytes| VolumeUpdate { size_bytes: Some(size_bytes), ..VolumeUpdate::default() };
    assert_eq!(fixture.group().update_volume("mail", to(GIB)).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(fixture.frontend.told_size(id), None);
    assert_eq!(fixture.group().update_volume("mail", to(3 * GIB)).await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.frontend.told_size(id), Some(3 * GIB));
    assert_eq!(kind(fixture.group().update_volume("mail", to(GIB)).await), ErrorKind::Invalid);
    assert_eq!(kind(fixture.group().update_volume("mail", to(3 * GIB + 512)).await), ErrorKind::Invalid);
    fixture.restart().await;
    assert_eq!(fixture.group().volume("mail").unwrap().record.size_bytes, 3 * GIB);
}

#[tokio::test]
async fn copy_offload_is_switched_off_and_stays_off() {
    let mut fixture = Fixture::new().await;
    fixture.pool("tank", "/d/one").await;
    let made = fixture.volume("mail").await.record;
    assert!(made.offload);
    let to = |offload| VolumeUpdate { offload: Some(offload), ..VolumeUpdate::default() };
    assert_eq!(fixture.group().update_volume("mail", to(true)).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(fixture.frontend.told_offload(made.id), None);
    assert_eq!(fixture.group().update_volume("mail", to(false)).await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.frontend.told_offload(made.id), Some(false));
    fixture.restart().await;
    assert!(!fixture.group().volume("mail").unwrap().record.offload);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_made() {
    let fixture = Fixture::new().await;
    let group = fixture.group();
    assert_eq!(kind(group.create_volume(thin_volume("a", GIB)).await), ErrorKind::Invalid, "no pool yet");
    fixture.pool("tank", "/d/one:10G").await;
    let bad = [
        NewVolume { name: "a/b".to_owned(), ..thin_volume("a", GIB) },
        NewVolume { size_bytes: 0, ..thin_volume("a", GIB) },
        NewVolume { size_bytes: GIB + 1, ..thin_volume("a", GIB) },
        NewVolume { size_bytes: u64::MAX - 4095, ..thin_volume("a", GIB) },
        NewVolume { block_size: 520, ..thin_volume("a", GIB) },
    ];
    for new in bad {
        assert_eq!(kind(group.create_volume(new.clone()).await), ErrorKind::Invalid, "{new:?}");
    }
    let nowhere = NewVolume { pool: Some("nowhere".to_owned()), ..thin_volume("a", GIB) };
    assert_eq!(kind(group.create_volume(nowhere).await), ErrorKind::NotFound);
    let thick = NewVolume { thick: true, ..thin_volume("a", 20 * GIB) };
    assert_eq!(kind(group.create_volume(thick).await), ErrorKind::NoSpace);
    assert!(group.volumes().is_empty());

    fixture.pool("second", "/d/two").await;
    let error = group.create_volume(thin_volume("a", GIB)).await.unwrap_err();
    assert!(error.message.contains("--pool") && error.message.contains("second"), "{error}");
    let host = |iqns: &[&str], addresses: &[&str]| NewHost {
        name: "h".to_owned(),
        iqns: iqns.iter().map(ToString::to_string).collect(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
    };
    for new in [host(&[], &[]), host(&["*"], &[]), host(&["alice"], &[]), host(&[ALICE], &["300.0.0.1"])] {
        assert_eq!(kind(group.create_host(new.clone()).await), ErrorKind::Invalid, "{new:?}");
    }
    assert!(group.create_host(host(&["*"], &["127.0.0.0/8"])).await.is_ok());
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted() {
    let fixture = Fixture::new().await;
    let group = fixture.group();
    fixture.pool("tank", "/d/one:10G").await;
    fixture.volume("mail").await;
    fixture.host("web", ALICE).await;
    group.grant("mail", "web", false).await.unwrap();
    fixture.log_in(1, "mail", ALICE);

    assert_eq!(
        kind(group.delete_pool("tank", Force::Yes).await),
        ErrorKind::InUse,
        "force does not delete volumes"
    );
    assert_eq!(kind(group.delete_host("web", Force::No).await), ErrorKind::InUse);
    let error = group.delete_volume("mail", Force::No).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InUse);
    assert!(error.message.contains(ALICE) && error.message.contains("192.0.2.1"), "says who: {error}");
    fixture.log_in(2, "mail", ALICE);
    assert_eq!(group.sessions().len(), 2, "a refused deletion lets logins in as before");

    assert_eq!(group.delete_volume("mail", Force::Yes).await.unwrap().0, Outcome::Deleted);
    assert!(group.sessions().is_empty() && fixture.frontend.published().is_empty());
    let tank = group.pool("tank").unwrap().record.id;
    assert_eq!(fixture.engine.pool(tank).unwrap().fact_count(), 0);
    assert_eq!(group.delete_host("web", Force::No).await.unwrap().0, Outcome::Deleted);
    assert_eq!(group.delete_pool("tank", Force::No).await.unwrap().0, Outcome::Deleted);
    assert_eq!(kind(group.delete_pool("tank", Force::No).await), ErrorKind::NotFound);
    fixture.pool("again", "/d/one").await;
}

#[tokio::test]
async fn losing_a_grant_ends_the_sessions_that_had_it_and_no_others() {
    let fixture = Fixture::new().await;
    let group = fixture.group();
    fixture.pool("tank", "/d/one:10G").await;
    fixture.volume("mail").await;
    fixture.volume("news").await;
    fixture.host("web", ALICE).await;
    fixture.host("db", "iqn.2001-04.com.example:db").await;
    for volume in ["mail", "news"] {
        group.grant(volume, "web", false).await.unwrap();
        group.grant(volume, "db", false).await.unwrap();
    }
    fixture.log_in(1, "mail", ALICE);
    fixture.log_in(2, "news", ALICE);
    fixture.log_in(3, "mail", "iqn.2001-04.com.example:db");
    let left = || group.sessions().iter().map(|session| session.id.0).collect::<Vec<_>>();

    group.revoke("mail", "web").await.unwrap();
    assert_eq!(left(), [2, 3]);
    let may_write = || group.sessions().iter().map(|session| !session.read_only).collect::<Vec<_>>();
    group.grant("mail", "db", true).await.unwrap();
    assert_eq!(
        (left(), may_write()),
        (vec![2, 3], vec![true, false]),
        "one that could write must not go on writing"
    );
    group.grant("mail", "db", false).await.unwrap();
    assert_eq!((left(), may_write()), (vec![2, 3], vec![true, true]));
    group.delete_host("web", Force::Yes).await.unwrap();
    assert_eq!(left(), [3]);
    assert_eq!(group.volume("news").unwrap().grants.len(), 1);
}

/// The pool had the revoke already and no login got in any more, but as the group's own copy could not be written,
/// the sessions that were in stayed.
#[tokio::test]
async fn a_revoke_ends_sessions_though_the_groups_copy_cannot_be_written() {
    let fixture = Fixture::new().await;
    let group = fixture.group();
    fixture.pool("tank", "/d/one:10G").await;
    fixture.volume("mail").await;
    fixture.host("web", ALICE).await;
    group.grant("mail", "web", false).await.unwrap();
    fixture.log_in(1, "mail", ALICE);
    fixture.runtime.lose_work(true);
    assert_eq!(kind(group.revoke("mail", "web").await), ErrorKind::Internal, "not all of it is done");
    assert!(group.sessions().is_empty(), "but what protects the volume is");
}

#[tokio::test]
async fn a_pool_that_does_not_open_is_offline_and_comes_back() {
    let mut fixture = Fixture::new().await;
    fixture.pool("tank", "/d/one:10G").await;
    let record = fixture.volume("mail").await.record;
    fixture.host("web", ALICE).await;
    fixture.group().grant("mail", "web", false).await.unwrap();
    fixture.engine.break_opening(Some(control::Error::new(ErrorKind::Device, "/d/one", "it is unplugged")));
    fixture.restart().await;

    let group = fixture.group();
    assert!(group.pool("tank").unwrap().offline.unwrap().contains("/d/one: it is unplugged"));
    assert!(group.volume("mail").unwrap().offline.is_some(), "still known");
    let attempt = LoginAttempt { initiator: ALICE, source: [192, 0, 2, 1].into() };
    let login = || group.with_state(|state| state.authorize(attempt, record.iqn.as_str()));
    assert_eq!(login(), Err(Refusal::Offline), "the host is to try again, not to give up");
    assert_eq!(kind(group.delete_volume("mail", Force::Yes).await), ErrorKind::Offline);
    assert_eq!(kind(group.grant("mail", "web", true).await), ErrorKind::Offline);
    assert_eq!(kind(group.delete_pool("tank", Force::No).await), ErrorKind::InUse);

    fixture.engine.break_opening(None);
    group.open_offline_pools().await;
    assert_eq!(group.pool("tank").unwrap().offline, None);
    assert_eq!(login().map(|access| access.volume), Ok(record.id));
}

/// Promise 8: a stuck disk stalls nothing but itself.
#[tokio::test(start_paused = true)]
async fn a_pool_whose_disk_hangs_keeps_neither_the_start_nor_other_changes() {
    let mut fixture = Fixture::new().await;
    fixture.pool("tank", "/d/one:10G").await;
    fixture.volume("mail").await;
    let engine = fixture.engine.clone();
    let stuck = engine.gate.lock().await;
    fixture.restart().await;
    let group = fixture.group();
    assert!(group.pool("tank").unwrap().offline.is_some(), "the group is open without it");
    fixture.pool("second", "/d/two").await;
    group.open_offline_pools().await;
    drop(stuck);
    while group.pool("tank").unwrap().offline.is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(group.volume("mail").unwrap().offline, None);
}

#[tokio::test]
async fn an_offline_pool_can_be_forgotten_by_force() {
    let mut fixture = Fixture::new().await;
    fixture.pool("tank", "/d/one:10G").await;
    fixture.volume("mail").await;
    fixture.engine.break_opening(Some(control::Error::new(ErrorKind::Device, "/d/one", "it burnt")));
    fixture.restart().await;
    fixture.group().delete_pool("tank", Force::Yes).await.unwrap();
    assert!(fixture.group().volumes().is_empty());
    fixture.restart().await;
    assert!(fixture.group().pools().is_empty() && fixture.group().volumes().is_empty());
}

/// The change and its record are one transaction of the pool; the group's own copy is put right at the next start.
#[tokio::test]
async fn an_interruption_at_any_step_leaves_a_volume_whole_or_absent() {
    for steps in 0..4 {
        let mut fixture = Fixture::new().await;
        fixture.pool("tank", "/d/one:10G").await;
        fixture.volume("keep").await;
        let tank = fixture.engine.pool(fixture.group().pool("tank").unwrap().record.id).unwrap();
        tank.crash_after(Some(steps));
        let made = fixture.group().create_volume(thin_volume("new", GIB)).await.is_ok();
        let grow = VolumeUpdate { size_bytes: Some(2 * GIB), ..VolumeUpdate::default() };
        let grown = fixture.group().update_volume("keep", grow).await.is_ok();
        let deleted = fixture.group().delete_volume("new", Force::No).await.is_ok();
        tank.crash_after(None);
        fixture.restart().await;
        let size = fixture.group().volume("keep").unwrap().record.size_bytes;
        assert_eq!(size, if grown { 2 * GIB } else { GIB }, "after {steps}");
        let there = fixture.group().volume("new").is_ok();
        assert_eq!(there, made && !deleted, "after {steps}");
        assert_eq!(tank.volume_count(), tank.fact_count(), "each volume has its record");
    }
}

#[tokio::test]
async fn pools_are_extended_by_a_disk_they_have() {
    let fixture = Fixture::new().await;
    let group = fixture.group();
    fixture.pool("tank", "/d/one:10G").await;
    let error = group.extend_pool("tank", "/d/two:20G").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("/d/one"), "says which it has: {error}");
    assert_eq!(group.extend_pool("tank", "/d/one:20G").await.unwrap().0, Outcome::Changed);
    assert_eq!(group.pool("tank").unwrap().usage.size_bytes, 20 * GIB);
    assert_eq!(group.extend_pool("tank", "/d/one:20G").await.unwrap().0, Outcome::Unchanged);
}

#[tokio::test]
async fn closing_closes_every_pool() {
    let fixture = Fixture::new().await;
    fixture.pool("tank", "/d/one").await;
    let id = fixture.group().pool("tank").unwrap().record.id;
    fixture.group().close().await;
    assert!(fixture.engine.pool(id).unwrap().is_closed());
    assert!(fixture.group().pool("tank").unwrap().offline.is_some());
}
