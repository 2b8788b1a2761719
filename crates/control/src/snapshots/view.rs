//! Snapshots and clones as people see them.

use crate::state::PoolEntry;
use crate::{Error, ErrorKind, Group, Holding, Result, SnapshotRecord, State, VolumeId, VolumeRecord};
use std::collections::BTreeMap;

/// A snapshot as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotView {
    /// What is remembered of it.
    pub record: SnapshotRecord,
    /// Name of its volume.
    pub volume: String,
    /// Name of its pool.
    pub pool: String,
    /// What was written to the volume between the snapshot before, or the volume's start, and this one, in bytes; zero
    /// while the pool is offline.
    pub written_bytes: u64,
    /// What it holds of its pool; none if that was not counted.
    pub holding: Option<Holding>,
    /// Names of the volumes that were cloned from it.
    pub clones: Vec<String>,
    /// Those made at the same instant: names of volume and snapshot.
    pub together: Vec<(String, String)>,
    /// Name of the schedule that made it, if that is still there.
    pub schedule: Option<String>,
}

/// What a clone was made of, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginView {
    /// Name of the volume: now, or when the clone was made if it is gone.
    pub volume: String,
    /// Name of the snapshot, if it was made of one.
    pub snapshot: Option<String>,
    /// The volume and the snapshot are still there.
    pub exists: bool,
}

/// Names of clones, by the snapshots and volumes that they were made of.
pub(crate) type Clones = BTreeMap<VolumeId, Vec<String>>;

impl State {
    /// The snapshots of a volume.
    pub fn snapshots_of(&self, volume: VolumeId) -> impl Iterator<Item = &SnapshotRecord> {
        let all = (volume, VolumeId::from_bytes([0; 16]))..=(volume, VolumeId::from_bytes([0xff; 16]));
        self.snapshots.range(all).map(|(_, record)| record)
    }

    /// Names of all clones, by what they were made of.
    pub(crate) fn clones(&self) -> Clones {
        let mut clones = Clones::new();
        for record in self.volume_records() {
            let Some(origin) = self.origin_of(record) else { continue };
            let made_of = [Some(origin.volume), origin.snapshot.as_ref().map(|snapshot| snapshot.id)];
            for id in made_of.into_iter().flatten() {
                clones.entry(id).or_default().push(record.name.to_string());
            }
        }
        clones.values_mut().for_each(|names| names.sort());
        clones
    }

    /// The snapshot of this name or identity of a volume.
    pub(crate) fn find_snapshot(&self, volume: &VolumeRecord, text: &str) -> Result<&SnapshotRecord> {
        let by_name = self.snapshots_of(volume.id).find(|record| record.name.is(text));
        let by_id = || self.snapshots.get(&(volume.id, VolumeId::parse(text)?));
        by_name.or_else(by_id).ok_or_else(|| {
            let message = format!(
                "the volume has no such snapshot; `palisade snapshot list {}` shows those it has",
                volume.name
            );
            Error::new(ErrorKind::NotFound, format!("snapshot {}@{text}", volume.name), message)
        })
    }

    pub(crate) fn snapshot_view(&self, record: &SnapshotRecord, clones: &Clones) -> SnapshotView {
        let volume = self.volume(record.volume);
        let pool = volume.and_then(|volume| self.pools.get(&volume.pool));
        let engine = pool.and_then(|pool| pool.engine.as_ref().ok());
        let named = |other: &SnapshotRecord| {
            (
                self.volume(other.volume).map_or_else(String::new, |volume| volume.name.to_string()),
                other.name.to_string(),
            )
        };
        let same = |other: &&SnapshotRecord| other.id != record.id && other.set == record.set;
        let others = record.set.iter().flat_map(|_| self.snapshots.values()).filter(same);
        SnapshotView {
            record: record.clone(),
            volume: named(record).0,
            pool: pool.map(PoolEntry::name).unwrap_or_default(),
            written_bytes: engine.map_or(0, |engine| engine.written_bytes(record.id)),
            holding: engine.and_then(|engine| engine.holding(record.id)),
            clones: clones.get(&record.id).cloned().unwrap_or_default(),
            schedule: record
                .schedule
                .and_then(|schedule| self.schedules.get(&schedule))
                .map(|schedule| schedule.name.to_string()),
            together: others.map(named).collect(),
        }
    }

    pub(crate) fn origin_view(&self, record: &VolumeRecord) -> Option<OriginView> {
        let origin = self.origin_of(record)?;
        let volume = self.volume(origin.volume);
        let named = origin.snapshot.as_ref();
        let snapshot = named.map(|snapshot| self.snapshots.get(&(origin.volume, snapshot.id)));
        Some(OriginView {
            volume: volume.map_or(&origin.name, |volume| &volume.name).to_string(),
            snapshot: named.map(|snapshot| snapshot.name.to_string()),
            exists: volume.is_some() && snapshot.is_none_or(|snapshot| snapshot.is_some()),
        })
    }
}

impl Group {
    /// All snapshots, or those of one volume: by volume, oldest first.
    ///
    /// # Errors
    /// `NotFound` for the volume.
    pub fn snapshots(&self, volume: Option<&str>) -> Result<Vec<SnapshotView>> {
        let state = self.state.read();
        let clones = state.clones();
        let view = |record| state.snapshot_view(record, &clones);
        let mut views: Vec<_> = match volume {
            Some(volume) => state.snapshots_of(state.find_volume(volume)?.record.id).map(view).collect(),
            None => state.snapshots.values().map(view).collect(),
        };
        views.sort_by(|one, other| {
            let key = |view: &SnapshotView| (view.record.created_unix_ms, view.record.name.to_string());
            one.volume.cmp(&other.volume).then_with(|| key(one).cmp(&key(other)))
        });
        Ok(views)
    }

    /// One snapshot of a volume, by name or identity.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn snapshot(&self, volume: &str, snapshot: &str) -> Result<SnapshotView> {
        let state = self.state.read();
        let record = state.find_snapshot(&state.find_volume(volume)?.record, snapshot)?;
        Ok(state.snapshot_view(record, &state.clones()))
    }
}
