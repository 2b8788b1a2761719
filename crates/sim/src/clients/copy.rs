//! Copies between volumes and within one, as an offloaded copy makes them: what cannot be shared is moved.

use super::io::{Place, place, write_failed};
use super::some_volume;
use crate::content::SECTOR;
use crate::life::Life;
use crate::model::{VolumeId, name};
use crate::rng::Rng;
use block::{ByteRange, Durability, ErrorKind, Result, Volume};
use std::sync::Arc;

/// Sectors of a block.
const BLOCK: u32 = 8;

/// What is copied.
struct Source {
    id: VolumeId,
    volume: Arc<dyn Volume>,
    first: u32,
}

/// A range as long as `to` of some volume, that does not overlap with it; in most cases one whose blocks meet.
fn source(life: &Life, rng: &mut Rng, to: &Place) -> Option<Source> {
    let id = if rng.percent(30) { to.id } else { some_volume(life, rng, false)? };
    let sectors = life.world.model.lock().volume(&id)?.sectors();
    let most = sectors.checked_sub(to.count)?;
    let mut first = rng.below(u64::from(most) + 1) as u32;
    if rng.percent(90) {
        first = first / BLOCK * BLOCK + to.first % BLOCK;
    }
    let apart = id != to.id || first.abs_diff(to.first) >= to.count;
    let volume = life.open_volume(id)?;
    (apart && first <= most).then_some(Source { id, volume, first })
}

pub(super) async fn copy(life: &Arc<Life>, rng: &mut Rng) {
    let Some(mut to) = place(life, rng, true, 2048) else { return };
    if rng.percent(50) {
        // Most places are so small that it is not worth it.
        let room = (to.volume.size_bytes() / SECTOR as u64) as u32 - to.first;
        to.count = (BLOCK * rng.between(8, 256) as u32).min(room);
    }
    let Some(from) = source(life, rng, &to) else { return };
    let write = {
        let mut model = life.world.model.lock();
        let sanitizing = |id| model.volume(id).is_none_or(|volume| volume.is_sanitizing());
        // With a copy it could not be said any more what may be left.
        if sanitizing(&to.id) || sanitizing(&from.id) {
            return;
        }
        model.begin_copy(&to.id, to.first, to.count, (&from.id, from.first))
    };
    let what = format!("copy from volume {} sector {} to", name(&from.id), from.first);
    let (serial, _) = life.begin(to.describe(&what));
    let result = run(life, &to, &from).await;
    if !life.end(serial) {
        return;
    }
    life.world.count("copies");
    match result {
        Ok(()) => life.world.model.lock().ack_write(&to.id, write),
        Err(error) if error.kind == ErrorKind::Closed && !life.is_certain(&from.id) => {
            life.world.model.lock().fail_write(write);
        }
        Err(error) if life.is_sanitizing(&from.id) && error.kind == ErrorKind::Busy => {
            life.world.model.lock().fail_write(write);
        }
        Err(error) => write_failed(life, &to, write, &what, &error),
    }
}

async fn run(life: &Life, to: &Place, from: &Source) -> Result<()> {
    let source_offset = u64::from(from.first) * SECTOR as u64;
    let whole = ByteRange { offset: 0, len: to.len() };
    let left = match to.volume.copy_from(to.offset(), to.len(), &*from.volume, source_offset) {
        Some(copied) => copied.await?,
        None => vec![whole],
    };
    if left != [whole] {
        life.world.count("copies that shared blocks");
    }
    let mut end = 0;
    for part in left {
        if part.offset < end || part.len == 0 || part.offset + part.len > to.len() {
            life.world.fail(format!("a copy left {part:?} of {} bytes", to.len()));
        }
        end = part.offset + part.len;
        let data = from.volume.read(source_offset + part.offset, part.len).await?;
        to.volume.write(to.offset() + part.offset, data, Durability::Default).await?;
    }
    Ok(())
}
