//! What hosts do.

use super::some_volume;
use crate::content::{SECTOR, WriteId, fill};
use crate::disk::Faults;
use crate::life::Life;
use crate::model::{VolumeId, VolumeModel, name};
use crate::plan::Mixture;
use crate::rng::Rng;
use block::{BlockError, ByteRange, Comparison, Durability, ErrorKind, Runtime, Volume};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// A volume and a range of its sectors.
pub(super) struct Place {
    pub(super) id: VolumeId,
    pub(super) volume: Arc<dyn Volume>,
    pub(super) first: u32,
    pub(super) count: u32,
}

impl Place {
    pub(super) fn offset(&self) -> u64 {
        u64::from(self.first) * SECTOR as u64
    }

    pub(super) fn len(&self) -> u64 {
        u64::from(self.count) * SECTOR as u64
    }

    pub(super) fn describe(&self, what: &str) -> String {
        format!("{what} volume {} sectors {}+{}", name(&self.id), self.first, self.count)
    }
}

/// A range of some volume: hot blocks more often than others, whole blocks more often than parts.
pub(super) fn place(life: &Life, rng: &mut Rng, writable: bool, sectors_max: u64) -> Option<Place> {
    let id = some_volume(life, rng, writable)?;
    let sectors = u64::from(life.world.model.lock().volume(&id)?.sectors());
    let (kind, mixture) = (rng.below(100), life.world.plan.mixture);
    let contention = mixture == Mixture::Contention;
    let count = match kind {
        0..25 => rng.between(1, 24),
        25..80 => 8 * rng.between(1, if contention { 4 } else { 16 }),
        80..94 => 8 * rng.between(1, 64),
        _ => 8 * rng.between(1, 256),
    };
    let count = count.min(sectors_max).min(sectors);
    let hot = if contention { 80 } else { 40 };
    let span = if rng.percent(hot) { 256.min(sectors) } else { sectors };
    let first = rng.below(span.max(count) - count + 1);
    let first = if kind >= 25 { first / 8 * 8 } else { first };
    let volume = life.open_volume(id)?;
    Some(Place { id, volume, first: first as u32, count: count as u32 })
}

/// The content that `write` gives to the sectors, cut into chunks.
fn data(rng: &mut Rng, write: Option<WriteId>, place: &Place) -> Vec<Bytes> {
    let mut bytes = vec![0; place.len() as usize];
    if let Some(write) = write {
        for (sector, bytes) in (place.first..).zip(bytes.chunks_mut(SECTOR)) {
            fill(bytes, write, sector);
        }
    }
    cut(rng, bytes.into())
}

fn cut(rng: &mut Rng, mut bytes: Bytes) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    while bytes.len() > SECTOR && rng.percent(30) {
        let sectors = rng.between(1, (bytes.len() / SECTOR) as u64 - 1);
        chunks.push(bytes.split_to(sectors as usize * SECTOR));
    }
    chunks.push(bytes);
    chunks
}

fn durability(rng: &mut Rng) -> (Durability, bool) {
    if rng.percent(20) { (Durability::Durable, true) } else { (Durability::Default, false) }
}

/// Registers a write in the model, unless the volume has just gone.
fn begin_write(life: &Life, place: &Place, zeros: bool, durable: bool) -> Option<WriteId> {
    let mut model = life.world.model.lock();
    model.volume(&place.id)?;
    Some(model.begin_write(&place.id, place.first, place.count, zeros, durable))
}

/// The same of a write that is all or nothing.
fn begin_atomic(life: &Life, place: &Place, zeros: bool, durable: bool) -> Option<WriteId> {
    let write = begin_write(life, place, zeros, durable)?;
    life.world.model.lock().set_whole(write);
    Some(write)
}

/// A write, unmap or compare-and-write failed.
pub(super) fn write_failed(life: &Life, place: &Place, write: WriteId, what: &str, error: &BlockError) {
    life.judge(&place.id, &place.describe(what), error);
    let mut model = life.world.model.lock();
    // A write of one block, and one that is all or nothing, is refused or done; of a larger one, a part may be done when space runs out.
    let one_block = place.first / 8 == (place.first + place.count - 1) / 8 || model.is_whole(write);
    let nothing_done = error.kind == ErrorKind::NoSpace && life.faults == Faults::default() && one_block;
    if nothing_done {
        model.refuse_write(&place.id, write);
    } else {
        model.fail_write(write);
    }
}

pub(super) async fn write(life: &Arc<Life>, rng: &mut Rng) {
    let Some(place) = place(life, rng, true, 2048) else { return };
    let zeros = rng.percent(8);
    write_to(life, rng, &place, zeros).await;
}

/// Writes to a range of a certain volume; the kind of error, if there was one.
pub(super) async fn write_at(
    life: &Arc<Life>,
    rng: &mut Rng,
    id: VolumeId,
    first: u32,
    count: u32,
) -> Option<ErrorKind> {
    let volume = life.open_volume(id)?;
    write_to(life, rng, &Place { id, volume, first, count }, false).await
}

async fn write_to(life: &Arc<Life>, rng: &mut Rng, place: &Place, zeros: bool) -> Option<ErrorKind> {
    let (durability, durable) = durability(rng);
    let write = begin_write(life, place, zeros, durable)?;
    let data = data(rng, (!zeros).then_some(write), place);
    let (serial, _) = life.begin(place.describe("write"));
    let result = place.volume.write(place.offset(), data, durability).await;
    if !life.end(serial) {
        return None;
    }
    life.world.count(if zeros { "writes of zeros" } else { "writes" });
    match result {
        Ok(()) => {
            life.world.model.lock().ack_write(&place.id, write);
            None
        }
        Err(error) => {
            write_failed(life, place, write, "write", &error);
            Some(error.kind)
        }
    }
}

/// A write that is all or nothing.
pub(super) async fn write_atomic(life: &Arc<Life>, rng: &mut Rng) {
    let Some(place) = place(life, rng, true, 2048) else { return };
    let zeros = rng.percent(8) && place.first.is_multiple_of(8) && place.count.is_multiple_of(8);
    let max = place.volume.atomic_bytes_max();
    // What begins or ends within a block takes a block more.
    let end = (place.offset() + place.len()).next_multiple_of(4096);
    let fits = end - place.offset() / 4096 * 4096 <= max;
    let (durability, durable) = durability(rng);
    let begun = if fits { begin_atomic(life, &place, zeros, durable) } else { None };
    if fits && begun.is_none() {
        return;
    }
    let data = data(rng, begun.filter(|_| !zeros), &place);
    let (serial, _) = life.begin(place.describe("atomic write"));
    let result = place.volume.write_atomic(place.offset(), data, durability).await;
    if !life.end(serial) {
        return;
    }
    match (result, begun) {
        (Ok(()), Some(write)) => {
            life.world.count("atomic writes");
            life.world.model.lock().ack_write(&place.id, write);
        }
        (Err(error), Some(write)) => write_failed(life, &place, write, "atomic write", &error),
        (Ok(()), None) => {
            life.world.fail(format!("{} was done", place.describe("too large an atomic write")))
        }
        (Err(error), None) if error.kind == ErrorKind::Invalid => {
            life.world.count("atomic writes that were too large");
        }
        (Err(error), None) => life.judge(&place.id, &place.describe("too large an atomic write"), &error),
    }
}

/// A write whose host loses interest: it happens or not, any time.
pub(super) async fn abandon_write(life: &Arc<Life>, rng: &mut Rng) {
    let Some(place) = place(life, rng, true, 512) else { return };
    let Some(write) = begin_write(life, &place, false, false) else { return };
    let data = data(rng, Some(write), &place);
    let mut patience = life.world.executor.sleep(Duration::from_nanos(rng.logarithmic(200_000)));
    let mut operation = place.volume.write(place.offset(), data, Durability::Default);
    let result = std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut operation).poll(cx) {
            return Poll::Ready(Some(result));
        }
        Pin::new(&mut patience).poll(cx).map(|()| None)
    });
    let result = result.await;
    drop(operation);
    if life.world.is_over() {
        return;
    }
    match result {
        Some(Ok(())) => life.world.model.lock().ack_write(&place.id, write),
        Some(Err(error)) => write_failed(life, &place, write, "write", &error),
        None => life.world.count("abandoned writes"),
    }
}

pub(super) async fn read(life: &Arc<Life>, rng: &mut Rng) {
    let Some(place) = place(life, rng, false, 2048) else { return };
    let (serial, start) = life.begin(place.describe("read"));
    let result = place.volume.read(place.offset(), place.len()).await;
    if !life.end(serial) {
        return;
    }
    life.world.count("reads");
    match result {
        Ok(chunks) => {
            let data = chunks.concat();
            if data.len() as u64 != place.len() {
                return life.world.fail(format!("{} returned {} bytes", place.describe("read"), data.len()));
            }
            let checked = life.world.model.lock().observe_read(&place.id, place.first, &data, start);
            life.world.check(checked);
        }
        Err(error) => life.judge(&place.id, &place.describe("read"), &error),
    }
}

pub(super) async fn unmap(life: &Arc<Life>, rng: &mut Rng) {
    if let Some(place) = place(life, rng, true, 4096) {
        unmap_place(life, &place).await;
    }
}

/// Unmaps a range of a certain volume.
pub(super) async fn unmap_at(life: &Arc<Life>, id: VolumeId, first: u32, count: u32) {
    if let Some(volume) = life.open_volume(id) {
        unmap_place(life, &Place { id, volume, first, count }).await;
    }
}

async fn unmap_place(life: &Arc<Life>, place: &Place) {
    let Some(write) = begin_write(life, place, true, false) else { return };
    let (serial, _) = life.begin(place.describe("unmap"));
    let range = ByteRange { offset: place.offset(), len: place.len() };
    let result = place.volume.unmap(vec![range]).await;
    if !life.end(serial) {
        return;
    }
    life.world.count("unmaps");
    match result {
        Ok(()) => life.world.model.lock().ack_write(&place.id, write),
        Err(error) => {
            // A part of a block that others refer to takes a block of its own to be zeroed.
            let whole = place.first.is_multiple_of(8) && place.count.is_multiple_of(8);
            let shares = life.world.model.lock().volume(&place.id).is_none_or(VolumeModel::may_share);
            if error.kind == ErrorKind::NoSpace && life.faults == Faults::default() && (whole || !shares) {
                life.world.fail(format!("{} found no space", place.describe("unmap")));
            }
            write_failed(life, place, write, "unmap", &error);
        }
    }
}

pub(super) async fn compare_and_write(life: &Arc<Life>, rng: &mut Rng) {
    let Some(place) = place(life, rng, true, 16) else { return };
    let mut expected = vec![0; place.len() as usize];
    if !life.world.model.lock().expected(&place.id, place.first, &mut expected) {
        return;
    }
    if rng.percent(25) {
        let at = rng.index(expected.len());
        expected[at] ^= 1;
    }
    let (durability, durable) = durability(rng);
    let Some(write) = begin_write(life, &place, false, durable) else { return };
    let data = data(rng, Some(write), &place);
    let (serial, start) = life.begin(place.describe("compare and write"));
    let chunks = cut(rng, expected.clone().into());
    let result = place.volume.compare_and_write(place.offset(), chunks, data, durability).await;
    if !life.end(serial) {
        return;
    }
    let mut model = life.world.model.lock();
    if model.volume(&place.id).is_none() {
        return;
    }
    match result {
        Ok(Comparison::Equal) => {
            let checked = model.ack_swap(&place.id, write, &expected, start);
            drop(model);
            life.world.count("compare and writes that were equal");
            life.world.check(checked);
        }
        Ok(Comparison::DiffersAt(offset)) => {
            model.refuse_write(&place.id, write);
            let checked = model.observe_difference(&place.id, place.first, &expected, offset, start);
            drop(model);
            life.world.count("compare and writes that differed");
            life.world.check(checked);
        }
        Err(error) => {
            drop(model);
            write_failed(life, &place, write, "compare and write", &error);
        }
    }
}

pub(super) async fn flush(life: &Arc<Life>, rng: &mut Rng) {
    let Some(id) = some_volume(life, rng, false) else { return };
    let Some(volume) = life.open_volume(id) else { return };
    let (serial, start) = life.begin(format!("flush of volume {}", name(&id)));
    let result = volume.flush().await;
    if !life.end(serial) {
        return;
    }
    life.world.count("flushes");
    match result {
        Ok(()) => life.world.model.lock().ack_flush(&id, start),
        Err(error) => life.judge(&id, "flush", &error),
    }
}

pub(super) async fn extents(life: &Arc<Life>, rng: &mut Rng) {
    let Some(place) = place(life, rng, false, 2048) else { return };
    let (serial, _) = life.begin(place.describe("extents of"));
    let max = rng.between(1, 20) as usize;
    let result = place.volume.extents(place.offset(), place.len(), max).await;
    if !life.end(serial) {
        return;
    }
    life.world.count("extents");
    match result {
        Ok(extents) => {
            let mut at = place.offset();
            for extent in &extents {
                if extent.range.offset != at || extent.range.len == 0 {
                    life.world.fail(format!("{} has gaps: {extents:?}", place.describe("extents of")));
                }
                at += extent.range.len;
            }
            let end = place.offset() + place.len();
            if extents.len() > max || at > end || (extents.len() < max && at != end) {
                life.world.fail(format!("{} wrong: {extents:?}", place.describe("extents of")));
            }
        }
        Err(error) => life.judge(&place.id, "extents", &error),
    }
}
