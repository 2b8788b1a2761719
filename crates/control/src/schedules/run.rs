//! Running schedules. Time comes from the runtime; who has a clock to wait with calls [`Group::run_schedules`].

use super::{ScheduleFailure, ScheduleRecord};
use crate::{Error, ErrorKind, Group, NewSnapshot, Result, SnapshotRecord, VolumeId};
use std::time::Duration;

/// A run that went wrong is tried again after so long, or at the usual time if that is earlier.
const RETRY_MS: u64 = 5 * 60_000;

impl Group {
    /// Runs every schedule that is due: makes its snapshots, and deletes those that are not to be kept any more. What was
    /// missed, be it often, is made up for once. Returns after how long there is something to do; none if there is no
    /// schedule that runs.
    pub async fn run_schedules(&self) -> Option<Duration> {
        let now_unix_ms = self.runtime.unix_time_ms();
        let due: Vec<ScheduleRecord> = {
            let state = self.state.read();
            let enabled = state.schedules.values().filter(|record| record.enabled);
            enabled.filter(|record| is_due(record, now_unix_ms)).cloned().collect()
        };
        for record in due {
            self.run_schedule(record, now_unix_ms).await;
        }
        let state = self.state.read();
        let next = state.schedules.values().filter(|record| record.enabled).map(|record| record.next_unix_ms);
        next.min().map(|next| Duration::from_millis(next.saturating_sub(now_unix_ms)))
    }

    /// Waits until a schedule has been made or changed.
    pub async fn schedules_changed(&self) {
        self.schedules_changed.notified().await;
    }

    async fn run_schedule(&self, record: ScheduleRecord, now_unix_ms: u64) {
        let _change = self.changes.lock().await;
        // It may have been deleted or switched off since it was found due.
        let now = self.state.read().schedules.get(&record.id).cloned();
        let Some(mut record) = now.filter(|now| now.enabled) else { return };
        let made = self.make_due(&record, now_unix_ms).await;
        let pruned = match &made {
            Ok(()) => self.prune(&record).await,
            Err(_) => Ok(()),
        };
        record.next_unix_ms = record.every.next_after(now_unix_ms);
        if made.is_ok() {
            record.last_unix_ms = Some(now_unix_ms);
        } else {
            record.next_unix_ms = record.next_unix_ms.min(now_unix_ms + RETRY_MS);
        }
        record.failure = made.and(pruned).err().map(|error| {
            tracing::error!(schedule = %record.name, %error, "schedule failed");
            ScheduleFailure { at_unix_ms: now_unix_ms, message: error.to_string() }
        });
        if let Err(error) = self.put_schedule(&record).await {
            tracing::error!(schedule = %record.name, %error, "what a schedule did cannot be written down");
            // In memory it is known all the same, or it would run again at once.
            self.state.write().schedules.insert(record.id, record);
        }
    }

    async fn make_due(&self, record: &ScheduleRecord, now_unix_ms: u64) -> Result<()> {
        let (volumes, name) = {
            let state = self.state.read();
            let there = record.volumes.iter().filter_map(|id| state.volume(*id)).cloned();
            let volumes: Vec<_> = there.collect();
            let name = state.free_snapshot_name(&volumes, &record.snapshot_name(now_unix_ms))?;
            (volumes, name)
        };
        if volumes.is_empty() {
            let message = "its volumes are deleted; delete the schedule, too";
            return Err(Error::new(ErrorKind::NotFound, format!("schedule {}", record.name), message));
        }
        let new = NewSnapshot {
            volumes: volumes.iter().map(|volume| volume.id.to_string()).collect(),
            name: Some(name.to_string()),
            schedule: Some(record.id),
        };
        self.make_snapshots(new).await.map(drop)
    }

    /// Deletes the schedule's snapshots that are not kept any more.
    async fn prune(&self, record: &ScheduleRecord) -> Result<()> {
        for volume in &record.volumes {
            let (expired, engine) = {
                let state = self.state.read();
                let Some(volume) = state.volume(*volume) else { continue };
                let own =
                    state.snapshots_of(volume.id).filter(|one| one.schedule == Some(record.id) && !one.kept);
                let own: Vec<SnapshotRecord> = own.cloned().collect();
                let times: Vec<(u64, VolumeId)> =
                    own.iter().map(|one| (one.created_unix_ms, one.id)).collect();
                let expired = record.keep.expired(&times);
                let expired: Vec<_> = own.into_iter().filter(|one| expired.contains(&one.id)).collect();
                (expired, state.engine_of(volume)?)
            };
            for snapshot in expired {
                self.drop_snapshot(&snapshot, &engine).await?;
                tracing::info!(schedule = %record.name, snapshot = %snapshot.name, "snapshot deleted");
            }
        }
        Ok(())
    }
}

/// Whether it is time. A clock that was set back far is not waited for.
fn is_due(record: &ScheduleRecord, now_unix_ms: u64) -> bool {
    let far = record.every.next_after(now_unix_ms);
    now_unix_ms >= record.next_unix_ms || record.next_unix_ms > far
}
