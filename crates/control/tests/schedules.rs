//! Schedules in virtual time.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use control::simulated::thin_volume;
use control::{ErrorKind, Force, Keep, NewPool, NewSchedule, NewSnapshot, Outcome, Snapshots};
use std::time::Duration;

mod common;

use common::Fixture;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn new(name: &str, every: &str, keep: Keep) -> NewSchedule {
    let volumes = vec!["data".to_owned(), "log".to_owned()];
    NewSchedule { name: name.to_owned(), volumes, every: every.to_owned(), keep, pattern: None }
}

fn last(last: u32) -> Keep {
    Keep { last, ..Keep::default() }
}

impl Fixture {
    async fn with_volumes() -> Self {
        let fixture = Self::new().await;
        let new = NewPool { name: "tank".to_owned(), disks: vec!["/d/one:10G".to_owned()] };
        fixture.group().create_pool(new).await.unwrap();
        for name in ["data", "log"] {
            fixture.group().create_volume(thin_volume(name, 1 << 30)).await.unwrap();
        }
        fixture
    }

    /// Lets time pass as the daemon does: sleeps as long as it is told to.
    async fn pass(&self, time: Duration) {
        let mut left = time;
        while let Some(wait) = self.group().run_schedules().await.filter(|wait| *wait <= left) {
            self.runtime.advance(wait);
            left -= wait;
        }
        self.runtime.advance(left);
        self.group().run_schedules().await;
    }

    fn names(&self, volume: &str) -> Vec<String> {
        let views = self.group().snapshots(Some(volume)).unwrap();
        views.iter().map(|view| view.record.name.to_string()).collect()
    }
}

#[tokio::test]
async fn snapshots_are_made_in_time_of_all_volumes_at_once_and_old_ones_go() {
    let fixture = Fixture::with_volumes().await;
    assert_eq!(fixture.group().run_schedules().await, None, "nothing wakes the daemon without a schedule");
    let schedule = new("hourly", "1h", last(3));
    assert_eq!(fixture.group().create_schedule(schedule.clone()).await.unwrap().0, Outcome::Created);
    assert_eq!(fixture.group().create_schedule(schedule).await.unwrap().0, Outcome::Unchanged);
    let by_hand =
        NewSnapshot { volumes: vec!["data".to_owned()], name: Some("mine".to_owned()), schedule: None };
    fixture.group().create_snapshots(by_hand).await.unwrap();
    fixture.pass(5 * HOUR).await;
    let names = fixture.names("log");
    // Time begins on 21 September 2026, 14:13:20.
    assert_eq!(names, ["hourly-20260921-170000", "hourly-20260921-180000", "hourly-20260921-190000"]);
    let data = fixture.group().snapshots(Some("data")).unwrap();
    assert_eq!(data.len(), 4, "others than its own are not the schedule's to delete");
    assert_eq!(data[3].together, [("log".to_owned(), names[2].clone())]);
    assert_eq!(data[3].schedule.as_deref(), Some("hourly"));
    let view = fixture.group().schedule("HOURLY").unwrap();
    assert_eq!((view.snapshots, view.record.failure), (6, None));
}

#[tokio::test]
async fn what_was_missed_is_made_up_for_once() {
    let mut fixture = Fixture::with_volumes().await;
    fixture.group().create_schedule(new("often", "15m", last(50))).await.unwrap();
    fixture.pass(HOUR).await;
    assert_eq!(fixture.names("data").len(), 4);
    fixture.runtime.advance(48 * HOUR + MINUTE);
    fixture.restart().await;
    fixture.pass(Duration::ZERO).await;
    assert_eq!(fixture.names("data").len(), 5, "one for two days");
    fixture.pass(30 * MINUTE).await;
    assert_eq!(fixture.names("data").len(), 7, "and then in step again");
}

#[tokio::test]
async fn a_schedule_that_is_off_makes_nothing_up() {
    let mut fixture = Fixture::with_volumes().await;
    fixture.group().create_schedule(new("hourly", "1h", last(5))).await.unwrap();
    assert_eq!(fixture.group().enable_schedule("hourly", false).await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.group().enable_schedule("hourly", false).await.unwrap().0, Outcome::Unchanged);
    fixture.pass(5 * HOUR).await;
    fixture.restart().await;
    assert!(fixture.names("data").is_empty());
    fixture.group().enable_schedule("hourly", true).await.unwrap();
    fixture.pass(HOUR).await;
    assert_eq!(fixture.names("data").len(), 1);
}

#[tokio::test]
async fn a_failure_is_seen_and_tried_again_soon() {
    let fixture = Fixture::with_volumes().await;
    fixture.group().create_schedule(new("daily", "daily@15:00", last(5))).await.unwrap();
    let pool = fixture.engine.pool(fixture.group().pools()[0].record.id).unwrap();
    pool.crash_after(Some(0));
    fixture.pass(HOUR).await;
    let failure = fixture.group().schedule("daily").unwrap().record.failure.unwrap();
    assert!(failure.message.contains("the simulation stopped it"), "{}", failure.message);
    assert!(fixture.names("data").is_empty());
    pool.crash_after(None);
    fixture.pass(6 * MINUTE).await;
    let view = fixture.group().schedule("daily").unwrap();
    assert_eq!((view.snapshots, view.record.failure), (2, None));
    fixture.pass(12 * HOUR).await;
    assert_eq!(fixture.names("data").len(), 1, "then at its usual time");
}

#[tokio::test]
async fn a_schedule_goes_on_without_a_volume_that_is_gone_and_fails_without_any() {
    let fixture = Fixture::with_volumes().await;
    fixture.group().create_schedule(new("hourly", "1h", last(5))).await.unwrap();
    fixture.pass(HOUR).await;
    fixture.group().delete_volume_with("data", Force::No, Snapshots::Delete).await.unwrap();
    fixture.pass(HOUR).await;
    assert_eq!(fixture.names("log").len(), 2);
    fixture.group().delete_volume_with("log", Force::No, Snapshots::Delete).await.unwrap();
    fixture.pass(HOUR).await;
    let failure = fixture.group().schedule("hourly").unwrap().record.failure.unwrap();
    assert!(failure.message.contains("delete the schedule, too"), "{}", failure.message);
}

/// Snapshots outlive their schedule, and another of its name does not take them for its own.
#[tokio::test]
async fn snapshots_of_a_deleted_schedule_are_nobodys_to_delete() {
    let fixture = Fixture::with_volumes().await;
    fixture.group().create_schedule(new("hourly", "1h", last(5))).await.unwrap();
    fixture.pass(3 * HOUR).await;
    assert_eq!(fixture.group().delete_schedule("hourly").await.unwrap().0, Outcome::Deleted);
    fixture.group().create_schedule(new("hourly", "1h", last(1))).await.unwrap();
    fixture.pass(3 * HOUR).await;
    assert_eq!(fixture.names("data").len(), 4);
}

#[tokio::test]
async fn what_makes_no_schedule_is_refused() {
    let fixture = Fixture::with_volumes().await;
    let group = fixture.group();
    let kind = async |new: NewSchedule| group.create_schedule(new).await.unwrap_err().kind;
    assert_eq!(kind(new("x", "7m", last(1))).await, ErrorKind::Invalid);
    assert_eq!(kind(new("x", "1h", Keep::default())).await, ErrorKind::Invalid);
    let pattern = Some("{schedule}@{date}".to_owned());
    assert_eq!(kind(NewSchedule { pattern, ..new("x", "1h", last(1)) }).await, ErrorKind::Invalid);
    let volumes = vec!["nothing".to_owned()];
    assert_eq!(kind(NewSchedule { volumes, ..new("x", "1h", last(1)) }).await, ErrorKind::NotFound);
    group.create_schedule(new("x", "1h", last(1))).await.unwrap();
    assert_eq!(kind(new("x", "2h", last(1))).await, ErrorKind::Exists);
}
