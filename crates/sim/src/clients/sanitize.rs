//! Sanitizing: what a volume held is gone afterwards, from every sector of the disk.

use super::some_volume;
use crate::content::{Content, SECTOR, WriteId, content, fill};
use crate::disk::Faults;
use crate::life::Life;
use crate::model::{VolumeId, VolumeModel, name};
use crate::rng::Rng;
use block::{BlockError, ErrorKind, Runtime, Sanitization, SanitizeMethod, Volume};
use std::sync::Arc;

pub(super) async fn sanitize(life: &Arc<Life>, rng: &mut Rng) {
    let Some(id) = some_volume(life, rng, true) else { return };
    let Some(volume) = life.open_volume(id) else { return };
    if volume.can_sanitize() && !life.is_forking(&id) {
        begin(life, rng, id, &volume).await;
    }
}

async fn begin(life: &Arc<Life>, rng: &mut Rng, id: VolumeId, volume: &Arc<dyn Volume>) {
    let pattern = rng.percent(40);
    let write = {
        let mut model = life.world.model.lock();
        let ready = |volume: &VolumeModel| !volume.is_sanitizing() && !volume.is_resizing();
        if !model.volume(&id).is_some_and(ready) {
            return;
        }
        model.begin_sanitize(&id, pattern)
    };
    let method =
        if pattern { SanitizeMethod::Overwrite(pattern_of(write)) } else { SanitizeMethod::BlockErase };
    let (serial, _) = life.begin(format!("sanitizing of volume {} (write {})", name(&id), write.0));
    let result = volume.sanitize(method, rng.percent(60)).await;
    if !life.end(serial) {
        return;
    }
    match result {
        Ok(()) => {
            life.world.model.lock().sanitize_begun(&id);
            watch(life, id, volume).await;
        }
        Err(error) => {
            // Whether it has begun all the same shows at the next opening.
            life.judge(&id, "beginning to sanitize", &error);
            life.world.model.lock().fail_write(write);
        }
    }
}

/// What a volume is overwritten with.
fn pattern_of(write: WriteId) -> bytes::Bytes {
    let mut pattern = vec![0; SECTOR];
    fill(&mut pattern, write, 0);
    pattern.into()
}

/// Waits for the end.
async fn watch(life: &Arc<Life>, id: VolumeId, volume: &Arc<dyn Volume>) {
    // Where the disk is stuck again and again it may take any time.
    let sound = life.faults == Faults::default();
    let serial = sound.then(|| life.begin(format!("sanitizing of volume {}", name(&id))).0);
    let result = volume.sanitized().await;
    if !serial.is_none_or(|serial| life.end(serial)) || life.world.is_over() {
        return;
    }
    match result {
        Ok(()) => done(life, &id),
        // Deleted, or the pool is closed: the next opening shows how far it was.
        Err(error) if error.kind == ErrorKind::Closed => {}
        Err(error) => failed(life, id, volume, &error).await,
    }
}

fn done(life: &Life, id: &VolumeId) {
    let mut model = life.world.model.lock();
    let Some(sanitizing) = model.volume(id).and_then(|volume| volume.sanitizing) else { return };
    model.end_sanitize(id, true);
    let shares = model.volume(id).is_none_or(VolumeModel::may_share);
    let old = |bytes: &[u8]| match content(bytes) {
        Content::Stamp { write, .. } => model.was_held_before(id, sanitizing.write, write),
        _ => false,
    };
    let left = if shares { Vec::new() } else { life.find_on_disks(&old) };
    drop(model);
    life.world.count(if sanitizing.pattern { "volumes overwritten" } else { "volumes erased" });
    if !shares {
        life.world.count("disks searched for old content");
    }
    if let Some(at) = left.first() {
        let message = format!("{} sectors of what it held are left, the first at {at:#x}", left.len());
        life.world.fail(format!("volume {} was sanitized, but {message}", name(id)));
    }
}

async fn failed(life: &Life, id: VolumeId, volume: &Arc<dyn Volume>, error: &BlockError) {
    let injected = life.faults != Faults::default();
    if error.kind != ErrorKind::Corrupt || !injected {
        life.judge(&id, "sanitizing", error);
    }
    life.world.count("volumes that could not be sanitized");
    let Sanitization::Failed { unrestricted_exit } = volume.sanitization() else { return };
    let (serial, _) = life.begin(format!("leaving the failed sanitizing of volume {}", name(&id)));
    let result = volume.leave_failed_sanitize().await;
    if !life.end(serial) {
        return;
    }
    match result {
        // It was deleted meanwhile: nobody uses it.
        Ok(()) if !life.is_certain(&id) => {}
        Ok(()) if unrestricted_exit => life.world.model.lock().end_sanitize(&id, false),
        Ok(()) => life.world.fail(format!("volume {} is used, though not sanitized", name(&id))),
        Err(error) if error.kind == ErrorKind::Invalid && !unrestricted_exit => {}
        Err(error) => life.judge(&id, "leaving a failed sanitizing", &error),
    }
}

/// After opening: what was being sanitized goes on being that, and nothing else is.
pub(crate) async fn opened(life: &Arc<Life>, rng: &mut Rng, id: VolumeId) {
    let Some(volume) = life.open_volume(id) else { return };
    let asked = life.world.model.lock().volume(&id).is_some_and(VolumeModel::is_sanitizing);
    let found = volume.sanitization();
    match found {
        Sanitization::Idle => return life.world.model.lock().end_sanitize(&id, false),
        _ if !asked => {
            return life.world.fail(format!("volume {}: {found:?}, and nobody asked for it", name(&id)));
        }
        _ => life.world.model.lock().sanitize_begun(&id),
    }
    life.world.count("volumes found being sanitized");
    if rng.percent(60) {
        return end(life, rng, id, &volume).await;
    }
    let (life, mut rng) = (Arc::clone(life), rng.fork());
    let executor = life.world.executor.clone();
    executor.spawn(Box::pin(async move { end(&life, &mut rng, id, &volume).await }));
}

/// Waits for the end, and begins anew what has failed before.
async fn end(life: &Arc<Life>, rng: &mut Rng, id: VolumeId, volume: &Arc<dyn Volume>) {
    if let Sanitization::Failed { .. } = volume.sanitization() {
        life.world.model.lock().end_sanitize(&id, false);
        begin(life, rng, id, volume).await;
    } else {
        watch(life, id, volume).await;
    }
}
