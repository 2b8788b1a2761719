//! Making and opening pools.

use crate::background::Background;
use crate::catalog::{
    Catalog, Changes, DiskRecord, Image, LayerRecord, PoolRecord, SegmentRecord, SlabSource,
};
use crate::engine::{Engine, run_blocking};
use crate::format::label::{Label, NAME_BYTES_MAX, SLAB_SHIFT, SlabExtent, read_newest};
use crate::format::{BLOCK_BYTES, DiskIndex, LayerId, SegmentId, Seq, SlabIndex};
use crate::layer::Layer;
use crate::log::HostLog;
use crate::number::{narrow, wide};
use crate::options::{Health, PoolOptions};
use crate::sanitize::Sanitizing;
use crate::segment::{Phase, Segment, Segments};
use crate::share::Pending;
use crate::space::{Budget, POOL_SLABS_MIN, SharedSlabs};
use crate::state::{Counters, State, Sums, VolumeEntry};
use crate::volume::Shared;
use block::{BlockError, Disk, ErrorKind, Result, Runtime};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Slabs of a disk, if nothing else is asked for: about this many.
const SLABS_WANTED: u64 = 2048;
/// Powers of two of the default slab size.
const DEFAULT_SHIFT: std::ops::RangeInclusive<u32> = 20..=26;
/// Map nodes that may be in memory whatever the options say: several times what one request needs at once.
const NODES_MIN: u64 = 256;
/// Bytes of a catalog at the start: its database begins with a little more than 1 MiB and can become twice as long.
const CATALOG_BYTES: u64 = (2 << 20) + (256 << 10);

/// Writes an empty pool to `disk`.
pub(super) async fn format(
    disk: &Arc<dyn Disk>,
    name: &str,
    options: &PoolOptions,
    runtime: &dyn Runtime,
) -> Result<()> {
    let info = disk.info();
    let refuse = |message: String| Err(BlockError::new(ErrorKind::Invalid, &info.name, message));
    let shift = match options.slab_bytes {
        None => default_shift(info.size_bytes),
        Some(bytes) if bytes.is_power_of_two() => bytes.trailing_zeros(),
        Some(bytes) => return refuse(format!("a slab of {bytes} bytes is not a power of two")),
    };
    if !SLAB_SHIFT.contains(&shift) {
        return refuse("slabs are from 64 KiB to 1 GiB".to_owned());
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return refuse(format!("a pool's name has 1 to {NAME_BYTES_MAX} bytes"));
    }
    let slabs = Label::slabs_for(info.size_bytes, shift);
    let catalog = narrow(CATALOG_BYTES.div_ceil(1 << shift));
    if u64::from(slabs) < POOL_SLABS_MIN + u64::from(catalog) {
        let least = ((POOL_SLABS_MIN + u64::from(catalog)) << shift) + (2 << 20);
        return refuse(format!("is too small for a pool: it needs {least} bytes"));
    }
    let label = Label {
        sharing: false,
        sanitizing: false,
        disk_index: DiskIndex(0),
        pool: runtime.random_id(),
        disk: runtime.random_id(),
        generation: 0,
        size_bytes: info.size_bytes,
        slab_shift: shift,
        slabs,
        created_unix_ms: runtime.unix_time_ms(),
        pool_name: name.to_owned(),
        disks: 1,
        catalog: vec![SlabExtent { first: SlabIndex(0), count: catalog }],
    };
    let disk = Arc::clone(disk);
    run_blocking(runtime, move || write_empty(disk, label)).await
}

fn write_empty(disk: Arc<dyn Disk>, label: Label) -> Result<()> {
    if let Some(label) = read_newest(&*disk)? {
        let message = format!("is part of the pool \"{}\" already", label.pool_name);
        return Err(BlockError::new(ErrorKind::Exists, &disk.info().name, message));
    }
    let record = DiskRecord { identity: label.disk, size_bytes: label.size_bytes, slabs: label.slabs };
    let pool = PoolRecord { next_segment: SegmentId(1), next_layer: LayerId(1), ..PoolRecord::default() };
    let changes =
        Changes { pool: Some(pool), disks: vec![(DiskIndex(0), Some(record))], ..Changes::default() };
    let slabs = SharedSlabs::default();
    let taken = label.catalog.iter().flat_map(|e| e.first.0..e.first.0 + e.count).map(SlabIndex).collect();
    slabs.lock().set_up(label.slabs, 0, &taken);
    Catalog::create(disk, label, source(&slabs), &changes).map(|_| ())
}

fn source(slabs: &SharedSlabs) -> SlabSource {
    let slabs = Arc::clone(slabs);
    Box::new(move || slabs.lock().take_for_catalog())
}

fn default_shift(size_bytes: u64) -> u32 {
    let wanted = (size_bytes / SLABS_WANTED).max(1).ilog2();
    wanted.clamp(*DEFAULT_SHIFT.start(), *DEFAULT_SHIFT.end())
}

/// Opens the pool on `disk` and replays its log. Its background work is not started yet.
pub(super) async fn open(
    disk: Arc<dyn Disk>,
    options: PoolOptions,
    runtime: Arc<dyn Runtime>,
) -> Result<Arc<Engine>> {
    let begun = runtime.now();
    let slabs = SharedSlabs::default();
    let (catalog, image) = {
        let (disk, slabs) = (Arc::clone(&disk), Arc::clone(&slabs));
        run_blocking(&*runtime, move || read_catalog(disk, &slabs)).await?
    };
    let label = catalog.label();
    let state = state_of(&image, &label, &options, &slabs);
    let engine =
        Engine::new(label.pool_name.clone(), label.pool, disk, runtime, options, slabs, catalog, state);
    engine.recover(&image.segments).await?;
    let mut state = engine.state();
    state.counters.recovery = engine.runtime.now().saturating_sub(begun);
    drop(state);
    Ok(engine)
}

fn read_catalog(disk: Arc<dyn Disk>, slabs: &SharedSlabs) -> Result<(Catalog, Image)> {
    let name = disk.info().name.clone();
    let fail = |kind, message: &str| BlockError::new(kind, &name, message);
    let label = read_newest(&*disk)?.ok_or_else(|| fail(ErrorKind::NotFound, "holds no pool"))?;
    if disk.info().size_bytes < label.size_bytes {
        return Err(fail(ErrorKind::Device, "is smaller than when it was made part of its pool"));
    }
    if label.disks != 1 {
        return Err(fail(
            ErrorKind::Format,
            "is part of a pool of several disks, which this build cannot open",
        ));
    }
    let catalog = Catalog::open(disk, label, source(slabs))?;
    let image = catalog.image()?;
    check_image(&image, &catalog.label()).map_err(|what| fail(ErrorKind::Corrupt, what))?;
    let label = catalog.label();
    let own: BTreeSet<_> =
        label.catalog.iter().flat_map(|e| e.first.0..e.first.0 + e.count).map(SlabIndex).collect();
    let used = image.segments.values().flat_map(|segment| segment.slabs.iter().map(|slab| slab.index));
    let taken = own.iter().copied().chain(used).collect();
    slabs.lock().set_up(label.slabs, narrow(wide(own.len())), &taken);
    Ok((catalog, image))
}

/// What the engine relies on.
fn check_image(image: &Image, label: &Label) -> std::result::Result<(), &'static str> {
    let blocks = 1u64 << (label.slab_shift - BLOCK_BYTES.trailing_zeros());
    let mut taken: BTreeSet<_> =
        label.catalog.iter().flat_map(|e| e.first.0..e.first.0 + e.count).map(SlabIndex).collect();
    for record in image.segments.values() {
        let [slab] = record.slabs[..] else { return Err("a segment has not one slab") };
        if slab.disk.0 != 0 || slab.index.0 >= label.slabs || !taken.insert(slab.index) {
            return Err("a slab is in two places, or not on the disk");
        }
        let counts = [record.used_blocks, record.live_blocks, record.replay_from];
        if counts.into_iter().any(|count| u64::from(count) > blocks) {
            return Err("a segment has more blocks than it can have");
        }
    }
    for record in image.layers.values() {
        if record.root_level > crate::format::node::LEVEL_MAX {
            return Err("a map is higher than it can be");
        }
        if record.parent.is_some_and(|parent| !image.layers.contains_key(&parent)) {
            return Err("a layer's parent is missing");
        }
    }
    for id in image.layers.keys() {
        let chain =
            std::iter::successors(Some(*id), |id| image.layers.get(id).and_then(|layer| layer.parent));
        if chain.take(image.layers.len() + 1).count() > image.layers.len() {
            return Err("layers go in circles");
        }
    }
    if image.aliases.iter().any(|(from, to)| to <= from) {
        return Err("a layer was merged into an older one");
    }
    if image.volumes.values().any(|volume| !image.layers.contains_key(&volume.top)) {
        return Err("a volume's layer is missing");
    }
    Ok(())
}

/// The same aliases, each leading to the layer at the end of its chain. Children are younger than their parents,
/// so aliases lead to higher numbers.
fn straight(aliases: &BTreeMap<LayerId, LayerId>) -> BTreeMap<LayerId, LayerId> {
    let mut straight = BTreeMap::new();
    for (from, to) in aliases.iter().rev() {
        let end = straight.get(to).copied().unwrap_or(*to);
        straight.insert(*from, end);
    }
    straight
}

fn state_of(image: &Image, label: &Label, options: &PoolOptions, slabs: &SharedSlabs) -> State {
    let slab_blocks = narrow(label.slab_bytes() / BLOCK_BYTES);
    let (total, catalog) = {
        let slabs = slabs.lock();
        (slabs.total(), slabs.catalog())
    };
    let node_bytes = wide(std::mem::size_of::<crate::map::Entries>()) + 128;
    let mut state = State {
        layers: BTreeMap::new(),
        aliases: straight(&image.aliases),
        volumes: BTreeMap::new(),
        segments: segments_of(&image.segments, slab_blocks),
        heads: Default::default(),
        host: HostLog::new(Seq(0)),
        relocation_applied: Seq(0),
        relocation_seq: Seq(0),
        nodes_seq: Seq(1),
        epoch: image.pool.epoch,
        ranges: image.log_ranges.clone(),
        pool_record: image.pool,
        next_segment: image.pool.next_segment.0,
        budget: Budget::new(u64::from(total - catalog), slab_blocks, options.dirty_nodes_max),
        sums: Sums::default(),
        admitted: 0,
        touched: 0,
        zero_nodes: 0,
        clock: VecDeque::new(),
        nodes_max: (options.map_cache_bytes / node_bytes).max(NODES_MIN),
        log_since_cut: 0,
        health: Health::Healthy,
        closing: false,
        sharing: false,
        pending: Pending::default(),
        counters: Counters::default(),
        background: Background::default(),
        sanitizing: Sanitizing::new(&image.sanitizing),
    };
    for (id, record) in &image.layers {
        state.insert_layer(*id, Layer::new(*record));
    }
    if !image.layers.contains_key(&LayerId::SHARED) {
        state.insert_layer(LayerId::SHARED, Layer::new(LayerRecord::default()));
    }
    for (id, record) in &image.volumes {
        let shared = Shared::new(*id, record);
        shared.sanitizing.set_up(image.sanitizing.get(id));
        state.volumes.insert(*id, VolumeEntry { record: *record, shared });
    }
    state.set_reservations();
    state
}

fn segments_of(records: &BTreeMap<SegmentId, SegmentRecord>, slab_blocks: u32) -> Segments {
    let mut segments = Segments::new(slab_blocks);
    for (id, record) in records {
        let slab = record.slabs.first().map_or(SlabIndex(0), |slab| slab.index);
        let mut segment = Segment::reserved(record.stream, slab);
        segment.phase = Phase::Sealed;
        segment.used = record.used_blocks;
        segment.applied = record.used_blocks;
        segment.live = record.live_blocks;
        segments.insert(*id, segment);
        if record.state != crate::catalog::SegmentState::Sealed || record.replay_from < slab_blocks {
            segments.mark_changed(*id);
        }
    }
    segments
}
