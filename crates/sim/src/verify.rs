//! What is checked when the pool is open and nobody works: every byte of every volume, and the accounts.

use crate::clients;
use crate::engine::Findings;
use crate::life::Life;
use crate::model::{Presence, VolumeId, name};
use crate::rng::Rng;
use block::{ErrorKind, Runtime, Sanitization};
use std::sync::Arc;
use std::time::Duration;

/// Reads are cut at multiples of this.
const READ_BYTES_MAX: u64 = 1 << 20;

/// A contradiction that lasts so many checks is one.
const CHECKS_MAX: u32 = 6;

/// Time between the first checks; it grows, as a slab that the disk is stuck with while it forgets it is in no account.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Why a volume is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// After opening: what is found is settled.
    Opened,
    /// In between: what is found must fit.
    Working,
}

/// After opening: the list of volumes and all their content.
pub(crate) async fn opened(life: &Arc<Life>, rng: &mut Rng) {
    let listed = life.pool.volumes();
    let found: Vec<_> = listed.iter().map(|listed| (listed.id, listed.size_bytes)).collect();
    {
        let mut model = life.world.model.lock();
        let checked = model.observe_volumes(&found);
        if checked.is_err() {
            drop(model);
            return life.world.check(checked);
        }
        for listed in &listed {
            model.set_buffered(&listed.id, listed.buffered);
        }
    }
    for listed in &listed {
        clients::sanitizing_opened(life, rng, listed.id).await;
    }
    everything(life, rng, When::Opened).await;
}

/// All content, and the accounts.
pub(crate) async fn everything(life: &Arc<Life>, rng: &mut Rng, when: When) {
    let volumes: Vec<_> = {
        let model = life.world.model.lock();
        let certain = model.volumes().filter(|volume| volume.presence == Presence::Certain);
        certain.map(|volume| volume.id).collect()
    };
    for id in volumes {
        content(life, rng, &id, when).await;
        if life.world.is_over() {
            return;
        }
    }
    accounts(life, when).await;
}

async fn content(life: &Arc<Life>, rng: &mut Rng, id: &VolumeId, when: When) {
    let Some(volume) = life.open_volume(*id) else { return };
    if volume.sanitization() != Sanitization::Idle {
        return;
    }
    let size = volume.size_bytes();
    // The outcome of a resize that failed shows at the next opening only.
    let fits = life.world.model.lock().volume(id).is_some_and(|volume| volume.may_have_size(size));
    if !fits {
        return life.world.fail(format!("volume {} has {size} bytes", name(id)));
    }
    let (serial, start) = life.begin(format!("reading all of volume {}", name(id)));
    let mut data = Vec::with_capacity(size as usize);
    while (data.len() as u64) < size {
        let offset = data.len() as u64;
        let len = (READ_BYTES_MAX >> rng.below(3)).min(size - offset);
        match volume.read(offset, len).await {
            Ok(chunks) => chunks.iter().for_each(|chunk| data.extend_from_slice(chunk)),
            Err(_) if life.world.is_over() || life.needs_the_dead() => return,
            Err(error) if error.kind == ErrorKind::Busy && life.is_sanitizing(id) => {
                life.end(serial);
                return;
            }
            Err(error) => {
                let kind = error.kind;
                return life.world.fail(format!("volume {}: cannot be read: {kind:?} {error}", name(id)));
            }
        }
        if data.len() as u64 != offset + len {
            return life.world.fail(format!("volume {}: a read of {len} returned less or more", name(id)));
        }
    }
    if !life.end(serial) {
        return;
    }
    let mut model = life.world.model.lock();
    let checked = match when {
        When::Opened => model.observe_all(id, &data),
        When::Working => model.observe_reads(id, 0, &data, start),
    };
    drop(model);
    life.world.count("volumes read whole");
    life.world.check(checked);
}

/// The findings of the consistency check. Background work in progress may look like a contradiction: one that is
/// real does not go away.
async fn findings(life: &Arc<Life>) -> Option<Findings> {
    for attempt in 1.. {
        let (serial, _) = life.begin("consistency check");
        let findings = life.pool.check().await;
        if !life.end(serial) {
            return None;
        }
        match findings {
            Ok(findings) if findings.problems.is_empty() => return Some(findings),
            Err(_) if life.needs_the_dead() => return None,
            Ok(_) if attempt < CHECKS_MAX => {
                life.world.executor.sleep(CHECK_INTERVAL * 4_u32.pow(attempt - 1)).await;
            }
            Ok(findings) => {
                life.world.fail(format!("the accounts are wrong: {:?}", findings.problems));
                return None;
            }
            Err(error) => {
                life.world.fail(format!("the consistency check failed: {error}"));
                return None;
            }
        }
    }
    None
}

async fn accounts(life: &Arc<Life>, when: When) {
    let Some(_) = findings(life).await else { return };
    life.world.count("consistency checks");
    let gauges = life.pool.gauges();
    let used = gauges.data_bytes + gauges.map_bytes + gauges.free_bytes;
    // With a disk gone there may be less space than is in use.
    if used > gauges.usable_bytes && life.world.victims.lock().is_empty() {
        life.world.fail(format!("more space in use and free than there is: {gauges:?}"));
    }
    for listed in life.pool.volumes() {
        let Some(mapped) = listed.mapped_bytes else { continue };
        let model = life.world.model.lock();
        let alone = model.volume(&listed.id).is_some_and(|volume| volume.alone);
        let blocks = model.blocks_in_use(&listed.id);
        drop(model);
        if let (true, When::Opened, Some(blocks)) = (alone, when, blocks) {
            if mapped != blocks * 4096 {
                let id = name(&listed.id);
                return life
                    .world
                    .fail(format!("volume {id}: {mapped} bytes mapped, {blocks} blocks in use"));
            }
            life.world.count("mapped sizes compared");
        }
    }
}
