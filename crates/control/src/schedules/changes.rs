//! Changes to schedules, and how people see them.

use super::record::PATTERN;
use super::{Every, Keep, ScheduleRecord};
use crate::file::FileChange;
use crate::{Error, ErrorKind, Group, Name, Outcome, Result, ScheduleId, State};

/// Most schedules in a group.
const SCHEDULES_MAX: usize = 1024;

/// A schedule to be made.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    /// Name.
    pub name: String,
    /// Volumes of one pool, by name or identity.
    pub volumes: Vec<String>,
    /// How often, as [`Every::parse`] reads it.
    pub every: String,
    /// Which snapshots are kept.
    pub keep: Keep,
    /// What snapshots are called; none for the schedule's name, the date and the time.
    pub pattern: Option<String>,
}

/// A schedule as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleView {
    /// What is remembered of it.
    pub record: ScheduleRecord,
    /// Names of its volumes that are there.
    pub volumes: Vec<String>,
    /// Number of its snapshots.
    pub snapshots: usize,
}

impl State {
    fn find_schedule(&self, text: &str) -> Result<&ScheduleRecord> {
        let by_name = self.schedules.values().find(|schedule| schedule.name.is(text));
        by_name
            .or_else(|| self.schedules.get(&ScheduleId::parse(text)?))
            .ok_or_else(|| Error::not_found("schedule", text))
    }

    fn schedule_view(&self, record: &ScheduleRecord) -> ScheduleView {
        let named = |volume| Some(self.volume(volume)?.name.to_string());
        let own = self.snapshots.values().filter(|snapshot| snapshot.schedule == Some(record.id));
        ScheduleView {
            volumes: record.volumes.iter().filter_map(|volume| named(*volume)).collect(),
            snapshots: own.count(),
            record: record.clone(),
        }
    }
}

impl Group {
    /// All schedules, by name.
    #[must_use]
    pub fn schedules(&self) -> Vec<ScheduleView> {
        let state = self.state.read();
        let mut views: Vec<_> = state.schedules.values().map(|record| state.schedule_view(record)).collect();
        views.sort_by(|one, other| one.record.name.as_str().cmp(other.record.name.as_str()));
        views
    }

    /// One schedule, by name or identity.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn schedule(&self, schedule: &str) -> Result<ScheduleView> {
        let state = self.state.read();
        Ok(state.schedule_view(state.find_schedule(schedule)?))
    }

    /// Makes a schedule, which runs from now on. Asking for one that is there, with the same properties, is no error.
    ///
    /// # Errors
    /// `Invalid`; `NotFound` for a volume; `Exists` for the name.
    pub async fn create_schedule(&self, new: NewSchedule) -> Result<(Outcome, ScheduleView)> {
        let name = Name::parse(&new.name)?;
        let object = format!("schedule {name}");
        let every = Every::parse(&new.every)?;
        new.keep.check(&object)?;
        let _change = self.changes.lock().await;
        let now_unix_ms = self.runtime.unix_time_ms();
        let volumes = self.state.read().volumes_to_snapshot(&new.volumes)?;
        let record = ScheduleRecord {
            id: ScheduleId::from_random(self.runtime.random_id()),
            name,
            volumes: volumes.iter().map(|volume| volume.id).collect(),
            every,
            keep: new.keep,
            pattern: new.pattern.unwrap_or_else(|| PATTERN.to_owned()),
            enabled: true,
            next_unix_ms: every.next_after(now_unix_ms),
            last_unix_ms: None,
            failure: None,
            created_unix_ms: now_unix_ms,
        };
        Name::parse(&record.snapshot_name(now_unix_ms))?;
        if let Ok(there) = self.schedule(record.name.as_str()) {
            let ScheduleRecord { volumes, every, keep, pattern, .. } = &there.record;
            if (volumes, every, keep, pattern)
                == (&record.volumes, &record.every, &record.keep, &record.pattern)
            {
                return Ok((Outcome::Unchanged, there));
            }
            let message = "a schedule of this name is there already, with other properties; delete it first";
            return Err(Error::new(ErrorKind::Exists, object, message));
        }
        if self.state.read().schedules.len() >= SCHEDULES_MAX {
            return Err(Error::invalid(object, format!("a group has at most {SCHEDULES_MAX} schedules")));
        }
        self.put_schedule(&record).await?;
        tracing::info!(schedule = %record.name, every = %record.every, "schedule created");
        Ok((Outcome::Created, self.schedule(record.name.as_str())?))
    }

    /// Has a schedule run, or not. Enabled, it is next due at its usual time: what it has missed is not made up for.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn enable_schedule(&self, schedule: &str, enabled: bool) -> Result<(Outcome, ScheduleView)> {
        let _change = self.changes.lock().await;
        let former = self.schedule(schedule)?;
        if former.record.enabled == enabled {
            return Ok((Outcome::Unchanged, former));
        }
        let next_unix_ms = former.record.every.next_after(self.runtime.unix_time_ms());
        let record = ScheduleRecord { enabled, next_unix_ms, failure: None, ..former.record };
        self.put_schedule(&record).await?;
        tracing::info!(schedule = %record.name, enabled, "schedule changed");
        Ok((Outcome::Changed, self.schedule(schedule)?))
    }

    /// Deletes a schedule; its snapshots stay, and are kept until somebody deletes them.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_schedule(&self, schedule: &str) -> Result<(Outcome, ScheduleView)> {
        let _change = self.changes.lock().await;
        let view = self.schedule(schedule)?;
        self.persist(vec![FileChange::RemoveSchedule(view.record.id)]).await?;
        self.state.write().schedules.remove(&view.record.id);
        tracing::info!(schedule = %view.record.name, "schedule deleted");
        Ok((Outcome::Deleted, view))
    }

    pub(super) async fn put_schedule(&self, record: &ScheduleRecord) -> Result<()> {
        self.persist(vec![FileChange::PutSchedule(record.clone())]).await?;
        self.state.write().schedules.insert(record.id, record.clone());
        self.schedules_changed.notify_one();
        Ok(())
    }
}
