//! Changes to pools: making, opening, extending, deleting.

use crate::file::FileChange;
use crate::reservations::PoolReservations;
use crate::snapshots::SNAPSHOT_FACT;
use crate::space::POOL_WARN_PERCENT;
use crate::state::{PoolEntry, VolumeEntry};
use crate::{
    Error, ErrorKind, Force, Group, KeyChange, KeySource, Name, Outcome, PoolEngine, PoolRecord, PoolRules,
    PoolView, Result, SnapshotRecord, VolumeId, VolumeRecord,
};
use block::Media;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Kind under which pools keep volumes' records.
pub(crate) const VOLUME_FACT: &str = "volume";

/// Most disks in a pool, and pools in a group.
const DISKS_MAX: usize = 64;
const POOLS_MAX: usize = 256;

/// A pool to be made.
#[derive(Debug, Clone)]
pub struct NewPool {
    /// Name.
    pub name: String,
    /// Disks: `PATH`, `PATH:SIZE` or `ram:SIZE`.
    pub disks: Vec<String>,
}

/// How long is waited for pools to open before what has opened is served.
const OPEN_TIME_MAX: Duration = Duration::from_secs(20);

/// A disk's place without a size behind it: what two descriptions of one disk share.
fn place(disk: &str) -> &str {
    match disk.rsplit_once(':') {
        Some((path, size)) if block::parse_size(size).is_ok() => path,
        _ => disk,
    }
}

fn forgotten() -> Error {
    Error::new(ErrorKind::NotFound, "pool", "it was deleted while it was opened")
}

impl Group {
    /// Makes a pool. Asking for one that is there, on the same disks, is no error.
    ///
    /// # Errors
    /// `Invalid`; `Exists` for the name with other disks; what the engine says of the disks.
    pub async fn create_pool(&self, new: NewPool) -> Result<(Outcome, PoolView)> {
        self.create_pool_with(new, None).await
    }

    /// Makes a pool whose new volumes are encrypted, if there is something that opens its keys.
    ///
    /// # Errors
    /// As [`Group::create_pool`]; what the key file says.
    pub async fn create_pool_with(
        &self,
        new: NewPool,
        secret: Option<KeySource>,
    ) -> Result<(Outcome, PoolView)> {
        let name = Name::parse(&new.name)?;
        let object = format!("pool {name}");
        if new.disks.is_empty() || new.disks.len() > DISKS_MAX {
            return Err(Error::invalid(object, format!("give it 1 to {DISKS_MAX} disks with --disk PATH")));
        }
        let _change = self.changes.lock().await;
        if let Ok(there) = self.pool(name.as_str()) {
            let wanted = new.disks.iter().map(|disk| place(disk));
            if wanted.eq(there.record.disks.iter().map(|disk| place(disk))) {
                return Ok((Outcome::Unchanged, there));
            }
            let message = "a pool of this name is there already, with other disks; choose another name";
            return Err(Error::new(ErrorKind::Exists, object, message));
        }
        if self.state.read().pools.len() >= POOLS_MAX {
            return Err(Error::invalid(object, format!("a group has at most {POOLS_MAX} pools")));
        }
        let engine = self.engine.create_pool(name.to_string(), new.disks).await?;
        let found = engine.disks();
        let key_file = match &secret {
            Some(KeySource::File(path)) => Some(path.clone()),
            _ => None,
        };
        let record = PoolRecord {
            key_file,
            id: engine.id(),
            name,
            disks: found.iter().map(|disk| disk.path.clone()).collect(),
            volatile: found.iter().any(|disk| disk.media == Media::Memory),
            warn_percent: Some(POOL_WARN_PERCENT),
            rules: PoolRules::default(),
            created_unix_ms: self.runtime.unix_time_ms(),
        };
        if let Some(secret) = secret {
            let begin = KeyChange::Begin { secret, encrypt_new: true };
            if let Err(error) = self.change_keys(&record, &engine, begin).await {
                engine.destroy().await?;
                return Err(error);
            }
        }
        // A pool in memory is not remembered: after a restart there would be nothing to open.
        let remember = (!record.volatile).then(|| FileChange::PutPool(record.clone()));
        if let Err(error) = self.persist(remember.into_iter().collect()).await {
            engine.destroy().await?;
            return Err(error);
        }
        tracing::info!(pool = %record.name, disks = ?record.disks, "pool created");
        let id = record.id;
        self.state.write().pools.insert(id, PoolEntry { record, engine: Ok(engine), opening: false });
        self.space_changed.notify_one();
        Ok((Outcome::Created, self.pool(&id.to_string())?))
    }

    /// Takes into use that a disk of a pool has grown, or grows it: `PATH` or `PATH:NEWSIZE`.
    ///
    /// # Errors
    /// `NotFound`, `Offline`, or what the engine says of the disk.
    pub async fn extend_pool(&self, pool: &str, disk: &str) -> Result<(Outcome, PoolView)> {
        let _change = self.changes.lock().await;
        let engine = self.state.read().find_pool(pool)?.open()?;
        let before = engine.disks();
        let known = before.iter().any(|known| known.path == disk || known.path == place(disk));
        if !known {
            let paths: Vec<_> = before.iter().map(|disk| disk.path.as_str()).collect();
            let message = format!("{disk} is not a disk of it; it has {}", paths.join(", "));
            return Err(Error::new(ErrorKind::NotFound, format!("pool {pool}"), message));
        }
        engine.extend(disk.to_owned()).await?;
        let record = self.pool(pool)?.record;
        self.tell_pool_limit(&record, &engine);
        let outcome = if engine.disks() == before { Outcome::Unchanged } else { Outcome::Changed };
        tracing::info!(pool, disk, ?outcome, "pool extended");
        self.tell_of_space(pool);
        Ok((outcome, self.pool(pool)?))
    }

    /// Deletes an empty pool and makes its disks nobody's. With force, an offline pool is forgotten with its
    /// volumes; what is on its disks stays there.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while it has volumes.
    pub async fn delete_pool(&self, pool: &str, force: Force) -> Result<(Outcome, PoolView)> {
        let _change = self.changes.lock().await;
        let view = self.pool(pool)?;
        let (id, object) = (view.record.id, format!("pool {}", view.record.name));
        let engine = self.state.read().find_pool(pool)?.engine.clone().ok();
        if view.volumes > 0 && (engine.is_some() || force == Force::No) {
            let hint = if engine.is_some() { "delete them first" } else { "--force forgets it and them" };
            let message = format!("it has {} volumes; {hint}", view.volumes);
            return Err(Error::new(ErrorKind::InUse, object, message));
        }
        let volumes: Vec<VolumeId> = self.state.read().volumes_of(id).map(|entry| entry.record.id).collect();
        if let Some(engine) = engine {
            engine.destroy().await?;
        }
        let mut changes = vec![FileChange::RemovePool(id)];
        changes.extend(volumes.iter().map(|volume| FileChange::RemoveVolume(*volume)));
        self.persist(changes).await?;
        let mut state = self.state.write();
        // Whoever waits for a shortage of its space lets go of it, and of its disks.
        self.space_changed.notify_one();
        state.pools.remove(&id);
        volumes.iter().for_each(|volume| drop(state.volumes.remove(volume)));
        state.snapshots.retain(|(volume, _), _| !volumes.contains(volume));
        drop(state);
        tracing::info!(pool = %view.record.name, "pool deleted");
        Ok((Outcome::Deleted, view))
    }

    /// Tries to open each pool that is offline, all at the same time, and waits a while for them: a disk that hangs
    /// keeps its own pool only, which opens whenever the disk answers. The program calls it every few seconds.
    pub async fn open_offline_pools(self: &Arc<Self>) {
        let (working, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
        for record in self.begin_opening() {
            let (group, working) = (Arc::clone(self), working.clone());
            self.runtime.spawn(Box::pin(async move {
                group.open_pool(record).await;
                drop(working);
            }));
        }
        drop(working);
        tokio::select! {
            _ = all_done.recv() => {}
            () = self.runtime.sleep(OPEN_TIME_MAX) => tracing::warn!("a pool is slow to open; going on without it"),
        }
    }

    /// The pools to be opened that nobody is opening yet.
    fn begin_opening(&self) -> Vec<PoolRecord> {
        let mut state = self.state.write();
        let closed = state.pools.values_mut().filter(|entry| entry.engine.is_err() && !entry.opening);
        closed
            .map(|entry| {
                entry.opening = true;
                entry.record.clone()
            })
            .collect()
    }

    /// Opens a pool and serves its volumes. Other changes go on while its disks are read.
    async fn open_pool(&self, record: PoolRecord) {
        let opened = self.engine.open_pool(record.id, record.disks.clone()).await;
        let _change = self.changes.lock().await;
        let served = match opened {
            Ok(engine) => self.serve_or_close(&record, engine).await,
            Err(error) => Err(error),
        };
        let mut state = self.state.write();
        let Some(entry) = state.pools.get_mut(&record.id) else { return };
        entry.opening = false;
        match &served {
            Ok(_) => {
                tracing::info!(pool = %record.name, "pool open");
                self.space_changed.notify_one();
            }
            Err(error) if entry.engine.as_ref().is_err_and(|former| former == error) => {}
            Err(error) => tracing::error!(pool = %record.name, %error, "pool offline; the others go on"),
        }
        entry.engine = served;
    }

    async fn serve_or_close(
        &self,
        record: &PoolRecord,
        engine: Arc<dyn PoolEngine>,
    ) -> Result<Arc<dyn PoolEngine>> {
        let known = self.state.read().pools.contains_key(&record.id);
        if known {
            self.unlock_by_file(record, &engine).await;
        }
        let served = if known { self.serve_volumes(record, &engine).await } else { Err(forgotten()) };
        let Err(error) = served else { return Ok(engine) };
        if let Err(closing) = engine.close().await {
            tracing::error!(pool = %record.name, error = %closing, "pool not closed cleanly");
        }
        Err(error)
    }

    async fn serve_volumes(&self, pool: &PoolRecord, engine: &Arc<dyn PoolEngine>) -> Result<()> {
        let present: BTreeSet<VolumeId> = engine.volumes().into_iter().collect();
        self.read_snapshots(pool, engine).await?;
        self.tell_owners(engine);
        self.tell_pool_limit(pool, engine);
        let mut kept = PoolReservations::read(engine).await?;
        let (mut entries, mut unread) = (Vec::new(), 0);
        for (name, content) in engine.facts(VOLUME_FACT).await? {
            let record = serde_json::from_slice::<VolumeRecord>(&content);
            let record = match record {
                Ok(record) => VolumeRecord { pool: pool.id, ..record },
                Err(error) => {
                    tracing::error!(pool = %pool.name, volume = name, %error, "volume record not understood; left alone");
                    unread += 1;
                    continue;
                }
            };
            if !present.contains(&record.id) {
                tracing::error!(pool = %pool.name, volume = %record.name, "volume missing from its pool");
            }
            entries.push(self.serve_volume(record, engine, &mut kept).await);
        }
        for id in present.iter().filter(|id| entries.iter().all(|entry| entry.record.id != **id)) {
            tracing::warn!(pool = %pool.name, volume = %id, "a volume without a record is in the pool; left alone");
        }
        if unread == 0 {
            kept.forget_rest(engine).await?;
        }
        self.replace_volumes(pool, entries).await
    }

    /// What the pool says of its volumes' snapshots.
    async fn read_snapshots(&self, pool: &PoolRecord, engine: &Arc<dyn PoolEngine>) -> Result<()> {
        let facts = engine.facts(SNAPSHOT_FACT).await?;
        let mut state = self.state.write();
        for (name, content) in facts {
            match serde_json::from_slice::<SnapshotRecord>(&content) {
                Ok(record) => drop(state.snapshots.insert((record.volume, record.id), record)),
                Err(error) => {
                    tracing::error!(pool = %pool.name, snapshot = name, %error, "snapshot record not understood; left alone");
                }
            }
        }
        Ok(())
    }

    /// Opens and publishes one volume; if that fails it is there, but offline.
    pub(crate) async fn serve_volume(
        &self,
        mut record: VolumeRecord,
        engine: &Arc<dyn PoolEngine>,
        kept: &mut PoolReservations,
    ) -> VolumeEntry {
        let opened = engine.open_volume(record.id).await;
        let reservations = kept.take(&record, engine, self.with_state(crate::State::target_numbers));
        let published = opened.and_then(|volume| {
            record.size_bytes = volume.size_bytes();
            engine.set_limit(record.id, record.created_unix_ms, record.rules.limit_bytes);
            self.frontend.publish(&record, volume, reservations?)?;
            let warning = self.with_state(|state| state.warning_of(&record));
            self.frontend.space_warning(record.id, warning);
            Ok(())
        });
        if let Err(error) = &published {
            tracing::error!(volume = %record.name, %error, "volume offline");
        }
        VolumeEntry { record, offline: published.err().map(|error| error.to_string()), leaving: false }
    }

    /// The pool's volumes are now these: in memory and in the group's file.
    async fn replace_volumes(&self, pool: &PoolRecord, entries: Vec<VolumeEntry>) -> Result<()> {
        let gone: Vec<VolumeId> = {
            let state = self.state.read();
            let former = state.volumes_of(pool.id).map(|entry| entry.record.id);
            former.filter(|id| entries.iter().all(|entry| entry.record.id != *id)).collect()
        };
        let mut changes: Vec<_> = gone.iter().map(|id| FileChange::RemoveVolume(*id)).collect();
        changes.extend(entries.iter().map(|entry| FileChange::PutVolume(entry.record.clone())));
        self.persist(changes).await?;
        let ids: Vec<VolumeId> = entries.iter().map(|entry| entry.record.id).collect();
        {
            let mut state = self.state.write();
            gone.iter().for_each(|id| drop(state.volumes.remove(id)));
            for entry in entries {
                state.volumes.insert(entry.record.id, entry);
            }
        }
        self.volumes_are_back(&ids).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_disk_is_known_by_its_place_whatever_size_was_asked_for() {
        assert_eq!(place("/data/a:10G"), "/data/a");
        assert_eq!(place("/data/a"), "/data/a");
        assert_eq!(
            place("/dev/disk/by-path/pci-0000:00:1f.2-ata-1"),
            "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"
        );
        assert_eq!(place("ram:1GiB"), "ram");
    }
}
