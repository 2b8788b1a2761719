//! What administrators do.

use super::{VOLUMES_MAX, some_volume, volumes};
use crate::life::{Fork, Life};
use crate::model::{Presence, VolumeId, VolumeModel, name};
use crate::plan::Mixture;
use crate::rng::Rng;
use block::{BlockError, ErrorKind};
use std::sync::Arc;

/// Volumes are not grown beyond this.
const VOLUME_BYTES_MAX: u64 = 8 << 20;

pub(super) async fn create(life: &Arc<Life>, rng: &mut Rng) {
    if volumes(life).len() >= VOLUMES_MAX {
        return;
    }
    let blocks = match life.world.plan.mixture {
        Mixture::Full => rng.between(256, 1024),
        Mixture::Contention => rng.between(1, 64),
        _ => rng.logarithmic(1024),
    };
    // Volumes need not end at a block's end: sizes are multiples of 512 bytes.
    let size = blocks * 4096 - if rng.percent(10) { 512 * rng.below(8) } else { 0 };
    let buffered = rng.percent(35);
    let id = life.world.new_volume_id();
    life.world.model.lock().begin_create(id, size, buffered);
    let (serial, _) = life.begin(format!("creation of volume {}", name(&id)));
    let result = life.pool.create_volume(id, size, buffered).await;
    if !life.end(serial) {
        return;
    }
    match result {
        Ok(()) => {
            life.world.count("volumes created");
            life.world.model.lock().set_presence(&id, Presence::Certain);
        }
        Err(error) => failed(life, "creation", &id, &error),
    }
}

/// An administrator's operation failed: it may or may not have happened, which the next opening shows.
pub(super) fn failed(life: &Life, what: &str, id: &VolumeId, error: &BlockError) {
    life.judge(id, &format!("{what} of volume {}", name(id)), error);
}

pub(super) async fn delete(life: &Arc<Life>, rng: &mut Rng) {
    let Some(id) = some_volume(life, rng, false) else { return };
    if life.is_forking(&id) {
        return;
    }
    life.world.model.lock().set_presence(&id, Presence::Uncertain);
    let (serial, _) = life.begin(format!("deletion of volume {}", name(&id)));
    let result = life.pool.delete(id).await;
    if !life.end(serial) {
        return;
    }
    match result {
        Ok(()) => {
            life.world.count("volumes deleted");
            life.world.model.lock().remove(&id);
        }
        Err(error) if error.kind == ErrorKind::NotFound => {
            life.world.fail(format!("volume {} is not found when deleted", name(&id)));
        }
        Err(error) => failed(life, "deletion", &id, &error),
    }
}

/// Takes a snapshot of a volume, or clones a volume or snapshot.
pub(super) async fn fork(life: &Arc<Life>, rng: &mut Rng, frozen: bool) {
    let Some(source) = some_volume(life, rng, frozen) else { return };
    let busy = |volume: &VolumeModel| volume.is_resizing() || volume.is_sanitizing();
    let busy = life.world.model.lock().volume(&source).is_none_or(busy);
    if volumes(life).len() >= VOLUMES_MAX || busy {
        return;
    }
    let id = life.world.new_volume_id();
    let what = if frozen { "snapshot" } else { "clone" };
    let (serial, start) = life.begin(format!("{what} of volume {}", name(&source)));
    let fork = Fork { id, source, start, frozen, rollback: None, group: None };
    life.begin_fork(fork);
    let result =
        if frozen { life.pool.snapshot(source, id).await } else { life.pool.clone_volume(source, id).await };
    if !life.end(serial) {
        return;
    }
    let listed = life.pool.volumes();
    let listed = listed.iter().find(|listed| listed.id == id);
    {
        let mut model = life.world.model.lock();
        model.end_fork(&fork);
        if let (Ok(()), Some(listed)) = (&result, listed) {
            model.set_presence(&id, Presence::Certain);
            model.set_buffered(&id, listed.buffered);
            // Its source may have been growing.
            let size = model.observe_size(&id, listed.size_bytes);
            drop(model);
            life.world.check(size);
        }
    }
    life.end_fork(&id);
    match result {
        Ok(()) if listed.is_none() => life.world.fail(format!("a new {what} is not listed")),
        Ok(()) => life.world.count(if frozen { "snapshots" } else { "clones" }),
        Err(error) => failed(life, what, &id, &error),
    }
}

pub(super) async fn resize(life: &Arc<Life>, rng: &mut Rng) {
    let Some(id) = some_volume(life, rng, true) else { return };
    let size = {
        let mut model = life.world.model.lock();
        let Some(volume) = model.volume(&id) else { return };
        let size = (volume.size_bytes + 512 * rng.logarithmic(4096)).min(VOLUME_BYTES_MAX);
        if volume.size_bytes != volume.size_bytes_max
            || size <= volume.size_bytes
            || life.is_forking(&id)
            || volume.is_sanitizing()
        {
            return;
        }
        model.begin_resize(&id, size);
        size
    };
    let (serial, _) = life.begin(format!("resize of volume {}", name(&id)));
    let result = life.pool.resize(id, size).await;
    if !life.end(serial) {
        return;
    }
    match result {
        Ok(()) => {
            life.world.count("volumes resized");
            let mut model = life.world.model.lock();
            if model.volume(&id).is_some() {
                model.ack_resize(&id);
            }
        }
        Err(error) => failed(life, "resize", &id, &error),
    }
}

pub(super) async fn checkpoint(life: &Arc<Life>) {
    let (serial, _) = life.begin("checkpoint");
    let result = life.pool.checkpoint().await;
    if life.end(serial) {
        pool_wide(life, "checkpoint", result);
    }
}

pub(super) async fn settle(life: &Arc<Life>) {
    let (serial, _) = life.begin("settling");
    let result = life.pool.settle().await;
    if life.end(serial) {
        pool_wide(life, "settling", result);
    }
}

fn pool_wide(life: &Life, what: &'static str, result: block::Result<()>) {
    match result {
        Ok(()) => life.world.count(what),
        Err(error) => life.judge(&[0; 16], what, &error),
    }
}

pub(super) async fn grow_disk(life: &Arc<Life>, rng: &mut Rng) {
    // No draw where there is one disk: seeds of such schedules stay what they were.
    let index = if life.handles.len() > 1 { rng.index(life.handles.len()) } else { 0 };
    let (handle, disk) = (&life.handles[index], &life.world.disks[index]);
    if !handle.can_grow() || life.world.victims.lock().contains(&index) {
        return;
    }
    let size = disk.size_bytes() + life.world.plan.setup.slab_bytes * rng.between(1, 20);
    disk.grow(handle, size);
    let (serial, _) = life.begin("growth of the disk");
    let result = life.pool.grow_disk(index as u16, size).await;
    if !life.end(serial) {
        return;
    }
    match result {
        Ok(()) => life.world.count("disk growths"),
        // Another growth overtook this one.
        Err(error) if error.kind == ErrorKind::Invalid => {}
        Err(error) => life.judge(&[0; 16], "growth of the disk", &error),
    }
}
