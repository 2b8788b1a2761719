//! What administrators do with layers: snapshots of several volumes at one instant, rollback, detaching.

use super::admin::failed;
use super::{VOLUMES_MAX, some_volume, volumes};
use crate::life::{Fork, Life};
use crate::model::{Presence, VolumeId, VolumeModel, name};
use crate::rng::Rng;
use block::ErrorKind;
use std::sync::Arc;

/// Volumes of which snapshots are taken at one instant.
const GROUP_MAX: usize = 3;

/// True if what is forked, or gone back to, may not be now.
fn is_busy(life: &Life, id: &VolumeId) -> bool {
    let busy = |volume: &VolumeModel| volume.is_resizing() || volume.is_sanitizing();
    life.world.model.lock().volume(id).is_none_or(busy)
}

/// Takes snapshots of several volumes.
pub(super) async fn group(life: &Arc<Life>, rng: &mut Rng) {
    let Some(pool) = life.pool.layered() else { return };
    let mut sources: Vec<VolumeId> = Vec::new();
    for _ in 0..GROUP_MAX {
        let Some(id) = some_volume(life, rng, true) else { return };
        if !sources.contains(&id) && !is_busy(life, &id) {
            sources.push(id);
        }
    }
    if volumes(life).len() + sources.len() > VOLUMES_MAX || sources.is_empty() {
        return;
    }
    let names: Vec<_> = sources.iter().map(name).collect();
    let (serial, start) = life.begin(format!("snapshots of volumes {names:?}"));
    let group = Some(start);
    let forks: Vec<_> = sources
        .iter()
        .map(|source| Fork {
            id: life.world.new_volume_id(),
            source: *source,
            start,
            frozen: true,
            rollback: None,
            group,
        })
        .collect();
    forks.iter().for_each(|fork| life.begin_fork(*fork));
    let result = pool.snapshot_group(forks.iter().map(|fork| (fork.source, fork.id)).collect()).await;
    if !life.end(serial) {
        return;
    }
    for fork in &forks {
        taken(life, fork, result.is_ok());
    }
    match result {
        Ok(()) => life.world.count("snapshots of several volumes"),
        Err(error) => failed(life, "snapshots", &sources[0], &error),
    }
}

/// The call that made a snapshot has ended.
fn taken(life: &Life, fork: &Fork, made: bool) {
    let listed = life.pool.volumes().into_iter().find(|listed| listed.id == fork.id);
    let mut model = life.world.model.lock();
    model.end_fork(fork);
    if let (true, Some(listed)) = (made, listed) {
        model.set_presence(&fork.id, Presence::Certain);
        model.set_buffered(&fork.id, listed.buffered);
        let size = model.observe_size(&fork.id, listed.size_bytes);
        drop(model);
        life.world.check(size);
    } else {
        drop(model);
    }
    life.end_fork(&fork.id);
    if made && listed.is_none() {
        life.world.fail("a new snapshot is not listed");
    }
}

/// Gives a volume the content of some snapshot.
pub(super) async fn roll_back(life: &Arc<Life>, rng: &mut Rng) {
    let Some(pool) = life.pool.layered() else { return };
    let Some(id) = some_volume(life, rng, true) else { return };
    let snapshots: Vec<_> = {
        let model = life.world.model.lock();
        let Some(size) = model.volume(&id).map(|volume| volume.size_bytes) else { return };
        let fits = |volume: &&VolumeModel| {
            let steady = volume.presence == Presence::Certain && !volume.forgetful && !volume.is_resizing();
            steady && volume.frozen && volume.size_bytes <= size
        };
        model.volumes().filter(fits).map(|volume| volume.id).collect()
    };
    if snapshots.is_empty()
        || is_busy(life, &id)
        || life.is_forking(&id)
        || volumes(life).len() >= VOLUMES_MAX
    {
        return;
    }
    let snapshot = rng.pick(&snapshots);
    let safety = life.world.new_volume_id();
    let (serial, start) = life.begin(format!("rollback of volume {} to {}", name(&id), name(&snapshot)));
    let write = life.world.model.lock().begin_rollback(&id, &snapshot, safety);
    let fork = Fork { id: safety, source: id, start, frozen: true, rollback: Some(write), group: None };
    life.begin_fork(fork);
    life.keep(snapshot);
    let result = pool.roll_back(id, snapshot, safety).await;
    if !life.end(serial) {
        return;
    }
    life.end_keeping(snapshot);
    taken(life, &fork, result.is_ok());
    match result {
        Ok(()) => {
            life.world.model.lock().ack_rollback(&id, write);
            life.world.count("rollbacks");
        }
        Err(error) => {
            life.world.model.lock().fail_write(write);
            failed(life, "rollback", &id, &error);
        }
    }
}

/// Begins to detach a volume, or does not go on with it.
pub(super) async fn detach(life: &Arc<Life>, rng: &mut Rng) {
    let Some(pool) = life.pool.layered() else { return };
    let Some(id) = some_volume(life, rng, true) else { return };
    if life.is_sanitizing(&id) {
        return;
    }
    if pool.is_detaching(id) && rng.percent(50) {
        let (serial, _) = life.begin(format!("no more detaching of volume {}", name(&id)));
        let result = pool.cancel_detach(id).await;
        if life.end(serial) {
            match result {
                Ok(()) => life.world.count("detachings that were cancelled"),
                Err(error) => failed(life, "no more detaching", &id, &error),
            }
        }
        return;
    }
    let mut family = vec![id];
    family.extend(volumes(life).into_iter().filter(|_| rng.percent(30)));
    let (serial, _) = life.begin(format!("detaching of volume {}", name(&id)));
    let result = pool.detach(id, family).await;
    if !life.end(serial) {
        return;
    }
    match result {
        Ok(true) => life.world.count("volumes being detached"),
        Ok(false) => {}
        Err(error) if error.kind == ErrorKind::Closed && !life.is_certain(&id) => {}
        Err(error) => failed(life, "detaching", &id, &error),
    }
}
