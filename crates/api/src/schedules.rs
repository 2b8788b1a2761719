//! Schedules of snapshots.

use crate::client::segment;
use crate::{Change, Client, ClientError};
use hyper::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many snapshots are kept: the last ones, and of so many hours, days, weeks and months that have any the newest one
/// each. The newest always is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepSnapshots {
    /// The last ones.
    pub last: u32,
    /// Hours.
    pub hourly: u32,
    /// Days, in UTC.
    pub daily: u32,
    /// Weeks, from Monday on.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
}

/// Snapshots made by the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Identity, a UUID.
    pub id: String,
    /// Name.
    pub name: String,
    /// Names of its volumes, all at one instant.
    pub volumes: Vec<String>,
    /// How often: `15m`, `1h`, `daily@02:30`, `weekly@sun@02:30`, in UTC.
    pub every: String,
    /// Which of its snapshots are kept.
    pub keep: KeepSnapshots,
    /// What snapshots are called: `{schedule}`, `{date}` and `{time}` stand for what they say.
    pub name_pattern: String,
    /// It runs.
    pub enabled: bool,
    /// Number of its snapshots.
    pub snapshots: u32,
    /// When it is due.
    pub next_unix_ms: u64,
    /// When it last made snapshots.
    pub last_unix_ms: Option<u64>,
    /// What went wrong the last time; none if nothing did.
    pub failure: Option<String>,
    /// When it was created.
    pub created_unix_ms: u64,
}

/// A schedule to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSchedule {
    /// Name.
    pub name: String,
    /// Volumes of one pool.
    pub volumes: Vec<String>,
    /// How often: `15m`, `1h`, `daily@02:30`, `weekly@sun@02:30`, in UTC.
    pub every: String,
    /// Which of its snapshots are kept.
    pub keep: KeepSnapshots,
    /// What snapshots are called; `{schedule}-{date}-{time}` if nothing is said.
    #[serde(default)]
    pub name_pattern: Option<String>,
}

/// What is to change about a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSchedule {
    /// Whether it runs.
    pub enabled: bool,
}

impl Client {
    /// All schedules.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn schedules(&self) -> Result<Vec<Schedule>, ClientError> {
        self.get("/schedules").await
    }

    /// One schedule, by name or identity.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn schedule(&self, schedule: &str) -> Result<Schedule, ClientError> {
        self.get(&path(schedule)).await
    }

    /// Makes a schedule, which runs from now on.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn create_schedule(&self, request: &CreateSchedule) -> Result<Change<Schedule>, ClientError> {
        self.send(Method::POST, "/schedules", Some(request)).await
    }

    /// Has a schedule run, or not.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn update_schedule(
        &self,
        schedule: &str,
        request: UpdateSchedule,
    ) -> Result<Change<Schedule>, ClientError> {
        self.send(Method::PATCH, &path(schedule), Some(&request)).await
    }

    /// Deletes a schedule; its snapshots stay.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn delete_schedule(&self, schedule: &str) -> Result<Change<Schedule>, ClientError> {
        self.send(Method::DELETE, &path(schedule), None::<&()>).await
    }
}

fn path(schedule: &str) -> String {
    format!("/schedules/{}", segment(schedule))
}
