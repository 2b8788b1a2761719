//! Limits, and snapshots that go when space is short, over a simulated engine.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use block::Durability;
use bytes::Bytes;
use control::simulated::{SimPool, thin_volume};
use control::{
    ErrorKind, Force, Forecast, Keep, NewPool, NewSchedule, NewSnapshot, OnShort, Outcome, PoolEngine,
    PoolRulesUpdate, PoolUpdate, VolumeRulesUpdate, VolumeUpdate,
};
use std::sync::Arc;
use std::time::Duration;

mod common;

use common::Fixture;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Fixture {
    async fn with_volume() -> Self {
        let fixture = Self::new().await;
        let new = NewPool { name: "tank".to_owned(), disks: vec!["/d/one:10G".to_owned()] };
        fixture.group().create_pool(new).await.unwrap();
        fixture.group().create_volume(thin_volume("data", GIB)).await.unwrap();
        fixture
    }

    fn pool(&self) -> Arc<SimPool> {
        self.engine.pool(self.group().pool("tank").unwrap().record.id).unwrap()
    }

    async fn set(&self, rules: VolumeRulesUpdate) -> control::Result<Outcome> {
        let update = VolumeUpdate { rules, ..VolumeUpdate::default() };
        Ok(self.group().update_volume("data", update).await?.0)
    }

    async fn set_pool(&self, rules: PoolRulesUpdate) -> control::Result<Outcome> {
        let update = PoolUpdate { rules, ..PoolUpdate::default() };
        Ok(self.group().update_pool("tank", update).await?.0)
    }

    /// Gives the volume data of `blocks` blocks.
    async fn fill(&self, blocks: usize) {
        let id = self.group().volume("data").unwrap().record.id;
        let volume = self.pool().open_volume(id).await.unwrap();
        volume.write(0, vec![Bytes::from(vec![7; blocks * 4096])], Durability::Default).await.unwrap();
    }

    /// Snapshots as a schedule makes them: `n` of them, one an hour.
    async fn by_schedule(&self, number: u32) {
        let new = NewSchedule {
            name: "hourly".to_owned(),
            volumes: vec!["data".to_owned()],
            every: "1h".to_owned(),
            keep: Keep { last: 100, ..Keep::default() },
            pattern: None,
        };
        self.group().create_schedule(new).await.unwrap();
        for _ in 0..number {
            self.runtime.advance(Duration::from_secs(3600));
            self.group().run_schedules().await;
        }
    }

    async fn by_hand(&self, name: &str) {
        let volumes = vec!["data".to_owned()];
        let new = NewSnapshot { volumes, name: Some(name.to_owned()), schedule: None };
        self.group().create_snapshots(new).await.unwrap();
    }

    fn names(&self) -> Vec<String> {
        let views = self.group().snapshots(Some("data")).unwrap();
        views.iter().map(|view| view.record.name.to_string()).collect()
    }
}

#[tokio::test]
async fn limits_are_told_to_the_pool_and_outlive_a_restart() {
    let mut fixture = Fixture::with_volume().await;
    let id = fixture.group().volume("data").unwrap().record.id;
    let limit = |bytes| VolumeRulesUpdate { limit_bytes: Some(bytes), ..VolumeRulesUpdate::default() };
    assert_eq!(fixture.set(limit(5 * MIB)).await.unwrap(), Outcome::Changed);
    assert_eq!(fixture.set(limit(5 * MIB)).await.unwrap(), Outcome::Unchanged);
    let percent = PoolRulesUpdate { limit_percent: Some(50), ..PoolRulesUpdate::default() };
    assert_eq!(fixture.set_pool(percent).await.unwrap(), Outcome::Changed);
    assert_eq!(fixture.set_pool(percent).await.unwrap(), Outcome::Unchanged);
    let told = |fixture: &Fixture| (fixture.pool().told_limit(id), fixture.pool().told_pool_limit());
    let half = 10 * GIB / 100 * 50;
    assert_eq!(told(&fixture), (Some(5 * MIB), Some(half)));
    fixture.pool().set_limit(id, 0, None);
    fixture.pool().set_pool_limit(None);
    fixture.restart().await;
    assert_eq!(told(&fixture), (Some(5 * MIB), Some(half)));
    fixture.group().extend_pool("tank", "/d/one:20G").await.unwrap();
    assert_eq!(told(&fixture).1, Some(2 * half), "a part of a pool that has grown is larger");
    fixture.set(limit(0)).await.unwrap();
    let bytes = PoolRulesUpdate { limit_bytes: Some(GIB), ..PoolRulesUpdate::default() };
    fixture.set_pool(bytes).await.unwrap();
    assert_eq!(told(&fixture), (None, Some(GIB)));
    assert_eq!(fixture.group().pool("tank").unwrap().record.rules.limit_percent, None);
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused() {
    let fixture = Fixture::with_volume().await;
    let warn = VolumeRulesUpdate { snapshot_warn_percent: Some(80), ..VolumeRulesUpdate::default() };
    assert_eq!(fixture.set(warn).await.unwrap_err().kind, ErrorKind::Invalid);
    let percent = PoolRulesUpdate { limit_percent: Some(100), ..PoolRulesUpdate::default() };
    assert_eq!(fixture.set_pool(percent).await.unwrap_err().kind, ErrorKind::Invalid);
    let thick = control::NewVolume { thick: true, ..thin_volume("thick", GIB) };
    fixture.group().create_volume(thick).await.unwrap();
    let rules = VolumeRulesUpdate { limit_bytes: Some(MIB), ..VolumeRulesUpdate::default() };
    let update = VolumeUpdate { rules, ..VolumeUpdate::default() };
    assert_eq!(fixture.group().update_volume("thick", update).await.unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn of_a_short_pool_the_oldest_that_schedules_made_go_and_no_others() {
    let fixture = Fixture::with_volume().await;
    fixture.by_hand("mine").await;
    fixture.fill(16).await;
    fixture.by_schedule(4).await;
    let scheduled = fixture.names().split_off(1);
    fixture.group().keep_snapshot("data", &scheduled[0], true).await.unwrap();
    fixture.group().clone_volume("data", Some(&scheduled[1]), "shown", true).await.unwrap();
    let short = PoolRulesUpdate { limit_bytes: Some(MIB), ..PoolRulesUpdate::default() };
    fixture.set_pool(short).await.unwrap();
    assert_eq!(fixture.group().keep_space().await, []);
    assert_eq!(fixture.names().len(), 5, "unless something else is said they stay");
    assert!(!fixture.pool().told_relief());
    let delete = PoolRulesUpdate { on_short: Some(OnShort::DeleteOldest), ..PoolRulesUpdate::default() };
    fixture.set_pool(delete).await.unwrap();
    let gone = fixture.group().keep_space().await;
    let gone: Vec<_> = gone.into_iter().map(|(_, snapshot)| snapshot).collect();
    assert_eq!(gone, scheduled[2..], "the oldest first");
    assert_eq!(fixture.names(), ["mine", &scheduled[0], &scheduled[1]]);
    assert!(!fixture.pool().told_relief(), "nothing is left that may go: writes need not wait");
    let dropped = fixture.group().volume("data").unwrap().record.rules.dropped.unwrap();
    assert_eq!((dropped.count, dropped.last), (2, scheduled[3].clone()));
}

#[tokio::test]
async fn a_volume_near_its_limit_gives_its_oldest_until_there_is_room_also_after_a_restart() {
    let mut fixture = Fixture::with_volume().await;
    fixture.fill(16).await;
    for number in 0..6 {
        fixture.by_hand(&format!("s{number}")).await;
        fixture.runtime.advance(Duration::from_secs(1));
    }
    fixture.group().keep_snapshot("data", "s0", true).await.unwrap();
    // The simulated engine shares nothing: 7 times 64 KiB are taken.
    let rules = VolumeRulesUpdate {
        limit_bytes: Some((5 * 64) << 10),
        on_short: Some(Some(OnShort::DeleteOldestOfAll)),
        ..VolumeRulesUpdate::default()
    };
    fixture.set(rules).await.unwrap();
    fixture.restart().await;
    let gone = fixture.group().keep_space().await;
    let gone: Vec<_> = gone.iter().map(|(volume, snapshot)| format!("{volume}@{snapshot}")).collect();
    assert_eq!(gone, ["data@s1", "data@s2", "data@s3"]);
    assert_eq!(fixture.names(), ["s0", "s4", "s5"]);
    assert!(fixture.pool().told_relief(), "others could go");
    fixture.restart().await;
    assert_eq!(fixture.names(), ["s0", "s4", "s5"]);
    assert_eq!(fixture.group().volume("data").unwrap().record.rules.dropped.unwrap().count, 3);
    assert_eq!(fixture.group().keep_space().await, []);
}

#[tokio::test]
async fn snapshots_keep_no_more_than_their_reserve() {
    let fixture = Fixture::with_volume().await;
    fixture.fill(16).await;
    fixture.by_schedule(5).await;
    let rules = VolumeRulesUpdate {
        snapshot_reserve_bytes: Some((3 * 64) << 10),
        snapshot_warn_percent: Some(80),
        on_short: Some(Some(OnShort::DeleteOldest)),
        ..VolumeRulesUpdate::default()
    };
    fixture.set(rules).await.unwrap();
    assert_eq!(fixture.group().keep_space().await.len(), 2);
    assert_eq!(fixture.names().len(), 3);
    let of_pool = VolumeRulesUpdate {
        snapshot_reserve_bytes: Some(64 << 10),
        on_short: Some(None),
        ..VolumeRulesUpdate::default()
    };
    fixture.set(of_pool).await.unwrap();
    assert_eq!(fixture.group().keep_space().await, [], "the pool says that they stay");
}

#[tokio::test]
async fn growth_is_watched_by_the_hour_and_not_forgotten_by_a_restart() {
    let mut fixture = Fixture::with_volume().await;
    let forecast = |fixture: &Fixture| {
        let of_pool = fixture.group().pool("tank").unwrap().forecast;
        (of_pool, fixture.group().volume("data").unwrap().forecast)
    };
    for hour in 0..48 {
        assert_eq!(forecast(&fixture).0 == Forecast::TooLittleHistory, hour < 25, "hour {hour}");
        fixture.fill(1 + hour).await;
        fixture.group().sample_space().await;
        fixture.runtime.advance(Duration::from_secs(1800));
        fixture.group().sample_space().await;
        fixture.runtime.advance(Duration::from_secs(1800));
    }
    let limit = VolumeRulesUpdate { limit_bytes: Some(96 * 4096), ..VolumeRulesUpdate::default() };
    fixture.set(limit).await.unwrap();
    let now = fixture.group().unix_time_ms();
    let before = forecast(&fixture);
    let Forecast::Full { bytes_a_day, at_unix_ms } = before.1 else { panic!("{before:?}") };
    assert_eq!(bytes_a_day, 24 * 4096);
    let left = (at_unix_ms - now) as f64 / 3_600_000.0;
    assert!((46.0..=48.5).contains(&left), "{left} hours are left for 48 blocks");
    fixture.restart().await;
    assert_eq!(forecast(&fixture), before);
    fixture.group().delete_volume("data", Force::No).await.unwrap();
    fixture.group().create_volume(thin_volume("data", GIB)).await.unwrap();
    fixture.group().sample_space().await;
    assert_eq!(forecast(&fixture).1, Forecast::TooLittleHistory, "another volume of the same name");
}

#[tokio::test]
async fn schedules_leave_snapshots_that_are_kept() {
    let fixture = Fixture::with_volume().await;
    fixture.by_schedule(1).await;
    let first = fixture.names()[0].clone();
    let (outcome, view) = fixture.group().keep_snapshot("data", &first, true).await.unwrap();
    assert!(outcome == Outcome::Changed && view.record.kept);
    assert_eq!(fixture.group().keep_snapshot("data", &first, true).await.unwrap().0, Outcome::Unchanged);
    for _ in 0..110 {
        fixture.runtime.advance(Duration::from_secs(3600));
        fixture.group().run_schedules().await;
    }
    assert_eq!(fixture.names().len(), 101);
    assert_eq!(fixture.names()[0], first);
}
