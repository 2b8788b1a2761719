//! Changes to snapshots: making them, of several volumes at one instant; deleting them; cloning.

use super::{Origin, OriginSnapshot, SnapshotRecord, SnapshotView};
use crate::{
    Error, ErrorKind, Group, Name, Outcome, PoolEngine, PoolId, Result, ScheduleId, SnapshotSetId, State,
    VolumeId, VolumeRecord, VolumeView,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most snapshots of a volume and of a group. A read goes through as many layers as there are snapshots.
pub(crate) const SNAPSHOTS_PER_VOLUME_MAX: usize = 512;
const SNAPSHOTS_MAX: usize = 65_536;
/// Most volumes of which snapshots are made at one instant.
pub(crate) const SET_MAX: usize = 64;

/// Snapshots to be made, all at one instant.
#[derive(Debug, Clone, Default)]
pub struct NewSnapshot {
    /// The volumes, by name or identity.
    pub volumes: Vec<String>,
    /// Name of the snapshots; none for the time, in UTC.
    pub name: Option<String>,
    /// The schedule that makes them.
    pub schedule: Option<ScheduleId>,
}

fn object(volume: &VolumeRecord, snapshot: &Name) -> String {
    format!("snapshot {}@{snapshot}", volume.name)
}

impl State {
    /// The name of new snapshots of all these volumes.
    ///
    /// # Errors
    /// `Exists`, if it was chosen by the user.
    fn snapshot_name(&self, volumes: &[VolumeRecord], name: Option<&str>, now_unix_ms: u64) -> Result<Name> {
        if let Some(name) = name {
            let taken_by = |name: &Name| {
                volumes.iter().find(|volume| self.snapshots_of(volume.id).any(|other| other.name == *name))
            };
            let name = Name::parse(name)?;
            return match taken_by(&name) {
                None => Ok(name),
                Some(volume) => {
                    let message =
                        "a snapshot of this name is there already; choose another, or delete it first";
                    Err(Error::new(ErrorKind::Exists, object(volume, &name), message))
                }
            };
        }
        self.free_snapshot_name(volumes, &crate::utc::stamp(now_unix_ms))
    }

    /// `wanted`, or if one of the volumes has a snapshot of that name, with a number behind.
    ///
    /// # Errors
    /// `Invalid` if that is no name.
    pub(crate) fn free_snapshot_name(&self, volumes: &[VolumeRecord], wanted: &str) -> Result<Name> {
        let taken = |name: &Name| {
            volumes.iter().any(|volume| self.snapshots_of(volume.id).any(|other| other.name == *name))
        };
        let numbers = 2..=SNAPSHOTS_PER_VOLUME_MAX * SET_MAX + 2;
        let numbered = numbers.map(|number| format!("{wanted}-{number}"));
        for candidate in std::iter::once(wanted.to_owned()).chain(numbered) {
            let name = Name::parse(&candidate)?;
            if !taken(&name) {
                return Ok(name);
            }
        }
        Err(Error::new(ErrorKind::Exists, format!("snapshot {wanted}"), "choose a name with --name"))
    }

    pub(super) fn check_room_for_snapshots(&self, volumes: &[VolumeRecord]) -> Result<()> {
        if self.snapshots.len() + volumes.len() > SNAPSHOTS_MAX {
            let message = format!("a group has at most {SNAPSHOTS_MAX} snapshots; delete some");
            return Err(Error::invalid("snapshot", message));
        }
        let full = |volume: &&VolumeRecord| self.snapshots_of(volume.id).count() >= SNAPSHOTS_PER_VOLUME_MAX;
        volumes.iter().find(full).map_or(Ok(()), |volume| {
            let message = format!("a volume has at most {SNAPSHOTS_PER_VOLUME_MAX} snapshots; delete some");
            Err(Error::invalid(format!("volume {}", volume.name), message))
        })
    }

    /// The volumes meant, all of one pool, each once.
    pub(crate) fn volumes_to_snapshot(&self, volumes: &[String]) -> Result<Vec<VolumeRecord>> {
        if volumes.is_empty() || volumes.len() > SET_MAX {
            let message = format!("name 1 to {SET_MAX} volumes");
            return Err(Error::invalid("snapshot", message));
        }
        let mut records: Vec<VolumeRecord> = Vec::new();
        for volume in volumes {
            let record = &self.find_volume(volume)?.record;
            if records.iter().all(|other| other.id != record.id) {
                records.push(record.clone());
            }
        }
        let pools: BTreeSet<PoolId> = records.iter().map(|record| record.pool).collect();
        if let [first, .., last] = &records[..]
            && pools.len() > 1
        {
            let message = format!(
                "{} and {} are not all in one pool, and only a pool can stop its volumes at one instant; make snapshots \
                 of each pool's volumes",
                first.name, last.name
            );
            return Err(Error::invalid("snapshot", message));
        }
        Ok(records)
    }
}

impl Group {
    /// Makes snapshots of volumes, all at one instant: what was acknowledged before is in, and what was written in answer
    /// to something that is not in is not in either. All or none are made.
    ///
    /// # Errors
    /// `NotFound`, `Offline`; `Exists` for the name; `Invalid` for volumes of several pools or too many; `NoSpace`.
    pub async fn create_snapshots(&self, new: NewSnapshot) -> Result<(Outcome, Vec<SnapshotView>)> {
        let _change = self.changes.lock().await;
        self.make_snapshots(new).await
    }

    /// What [`Group::create_snapshots`] does, for who is changing the group already.
    pub(crate) async fn make_snapshots(&self, new: NewSnapshot) -> Result<(Outcome, Vec<SnapshotView>)> {
        let now_unix_ms = self.runtime.unix_time_ms();
        let (volumes, name, engine) = {
            let state = self.state.read();
            let volumes = state.volumes_to_snapshot(&new.volumes)?;
            let name = state.snapshot_name(&volumes, new.name.as_deref(), now_unix_ms)?;
            state.check_room_for_snapshots(&volumes)?;
            let engine = volumes.first().map(|first| state.engine_of(first)).transpose()?;
            (volumes, name, engine)
        };
        let Some(engine) = engine else { return Ok((Outcome::Unchanged, Vec::new())) };
        let set = (volumes.len() > 1).then(|| SnapshotSetId::from_random(self.runtime.random_id()));
        let record = |volume: &VolumeRecord| SnapshotRecord {
            id: VolumeId::from_random(self.runtime.random_id()),
            name: name.clone(),
            volume: volume.id,
            size_bytes: volume.size_bytes,
            set,
            schedule: new.schedule,
            kept: false,
            created_unix_ms: now_unix_ms,
        };
        let records: Vec<_> = volumes.iter().map(record).collect();
        let pairs = records.iter().map(|record| (record.volume, record.id)).collect();
        let facts = records.iter().map(SnapshotRecord::fact).collect::<Result<Vec<_>>>()?;
        let made = engine.snapshot_volumes(pairs, facts).await;
        made.map_err(|error| Error { object: format!("snapshot {name}"), ..error })?;
        for volume in &volumes {
            tracing::info!(volume = %volume.name, snapshot = %name, "snapshot made");
        }
        let mut state = self.state.write();
        for record in &records {
            state.snapshots.insert((record.volume, record.id), record.clone());
        }
        self.space_changed.notify_one();
        let clones = state.clones();
        Ok((Outcome::Created, records.iter().map(|record| state.snapshot_view(record, &clones)).collect()))
    }

    /// Deletes a snapshot; its space comes back by and by. Clones of it stay.
    ///
    /// # Errors
    /// `NotFound`, `Offline`.
    pub async fn delete_snapshot(&self, volume: &str, snapshot: &str) -> Result<(Outcome, SnapshotView)> {
        let _change = self.changes.lock().await;
        let view = self.snapshot(volume, snapshot)?;
        let engine = {
            let state = self.state.read();
            state.engine_of(&state.find_volume(volume)?.record)?
        };
        self.drop_snapshot(&view.record, &engine).await?;
        tracing::info!(volume = %view.volume, snapshot = %view.record.name, "snapshot deleted");
        Ok((Outcome::Deleted, view))
    }

    pub(crate) async fn drop_snapshot(
        &self,
        record: &SnapshotRecord,
        engine: &Arc<dyn PoolEngine>,
    ) -> Result<()> {
        let mut deleted = engine.delete_volume(record.id, vec![record.forgotten()]).await;
        if deleted.as_ref().is_err_and(|error| error.kind == ErrorKind::NotFound) {
            deleted = engine.put_fact(record.forgotten()).await;
        }
        deleted?;
        self.state.write().snapshots.remove(&(record.volume, record.id));
        Ok(())
    }

    /// Makes a volume with the content of a volume as it is now, or of a snapshot of it: thin, with an identity and a
    /// target of its own, granted to nobody, and read only for every host if wished. Asking for a clone of a snapshot that is there is no error.
    ///
    /// # Errors
    /// `NotFound`, `Offline`; `Exists` for the name; `Invalid`; `NoSpace`.
    pub async fn clone_volume(
        &self,
        source: &str,
        snapshot: Option<&str>,
        name: &str,
        read_only: bool,
    ) -> Result<(Outcome, VolumeView)> {
        let name = Name::parse(name)?;
        let _change = self.changes.lock().await;
        let source = self.volume(source)?.record;
        let (from, size_bytes, origin) = self.clone_source(&source, snapshot)?;
        if let Ok(there) = self.volume(name.as_str()) {
            return same_clone(there, &origin, read_only);
        }
        let engine = self.state.read().engine_of(&source)?;
        let origin = Some(origin);
        let like = VolumeRecord { size_bytes, origin, read_only, template: false, ..source.clone() };
        let record = self.record_like(name, like)?;
        let made = engine.clone_volume(from, record.id, crate::volumes::fact(&record)?).await;
        made.map_err(|error| Error { object: format!("volume {}", record.name), ..error })?;
        let view = self.take_in(record, engine).await?;
        tracing::info!(volume = %view.record.name, source = %source.name, snapshot, "volume cloned");
        Ok((Outcome::Created, view))
    }

    /// What is to be cloned: identity, size, and how that is remembered.
    fn clone_source(&self, source: &VolumeRecord, snapshot: Option<&str>) -> Result<(VolumeId, u64, Origin)> {
        let origin = Origin { volume: source.id, name: source.name.clone(), snapshot: None, leaving: false };
        let state = self.state.read();
        // All clones of a template are made of one snapshot: the last, since nothing is written to it.
        let last = || {
            let snapshots = state.snapshots_of(source.id).filter(|_| source.template);
            snapshots.max_by_key(|record| (record.created_unix_ms, record.id))
        };
        let record = match snapshot {
            Some(snapshot) => Some(state.find_snapshot(source, snapshot)?),
            None => last(),
        };
        let Some(record) = record else { return Ok((source.id, source.size_bytes, origin)) };
        let named = OriginSnapshot { id: record.id, name: record.name.clone() };
        Ok((record.id, record.size_bytes, Origin { snapshot: Some(named), ..origin }))
    }
}

/// A snapshot stays what it is, and so does the wish for a clone of it; a volume does not.
fn same_clone(there: VolumeView, origin: &Origin, read_only: bool) -> Result<(Outcome, VolumeView)> {
    let same = there.record.origin.as_ref() == Some(origin) && there.record.read_only == read_only;
    if origin.snapshot.is_some() && same {
        return Ok((Outcome::Unchanged, there));
    }
    let message = "a volume of this name is there already; choose another name";
    Err(Error::new(ErrorKind::Exists, format!("volume {}", there.record.name), message))
}
