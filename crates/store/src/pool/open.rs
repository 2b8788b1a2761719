//! Making and opening pools.

use super::assemble::assemble;
use crate::background::Background;
use crate::catalog::{
    Catalog, Changes, DiskRecord, Image, LayerRecord, Leg, Medium, PoolRecord, SegmentRecord, Slab,
    SlabSource, settle,
};
use crate::disks::{Copies, Disks, SharedSlabs, Slabs};
use crate::engine::{Engine, run_blocking};
use crate::format::label::{Label, NAME_BYTES_MAX, SLAB_SHIFT, SlabExtent, read_newest};
use crate::format::members::{DISKS_MAX, MemberLabel, MemberState};
use crate::format::{BLOCK_BYTES, DiskIndex, LayerId, Redundancy, SegmentId, Seq, SlabIndex};
use crate::keys::{Found, Keys};
use crate::layer::Layer;
use crate::log::HostLog;
use crate::number::{narrow, wide};
use crate::options::{Health, PoolOptions};
use crate::sanitize::Sanitizing;
use crate::segment::{Phase, Segment, Segments};
use crate::share::Pending;
use crate::space::{Budget, POOL_SLABS_MIN};
use crate::state::{Counters, State, Sums, VolumeEntry};
use crate::views::Views;
use crate::volume::Shared;
use block::{BlockError, Disk, ErrorKind, Result, Runtime};
use parking_lot::Mutex;
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

/// Writes an empty pool to `disks`.
pub(super) async fn format(
    disks: &[Arc<dyn Disk>],
    name: &str,
    options: &PoolOptions,
    runtime: &dyn Runtime,
) -> Result<()> {
    let labels = new_labels(disks, name, options, runtime)?;
    let legs = disks.iter().cloned().zip(labels).collect();
    run_blocking(runtime, move || write_empty(legs)).await
}

/// The labels of a new pool.
fn new_labels(
    disks: &[Arc<dyn Disk>],
    name: &str,
    options: &PoolOptions,
    runtime: &dyn Runtime,
) -> Result<Vec<Label>> {
    let class = options.redundancy;
    let first = disks.first().map(|disk| disk.info().name.clone()).unwrap_or_default();
    let refuse = |message: String| Err(BlockError::new(ErrorKind::Invalid, &first, message));
    if disks.len() < class.copies() || disks.len() > DISKS_MAX {
        let (least, name) = (class.copies(), class.name());
        return refuse(format!("a pool of class {name} has {least} to {DISKS_MAX} disks"));
    }
    let sizes = disks.iter().map(|disk| disk.info().size_bytes);
    let largest = sizes.clone().max().unwrap_or(0);
    let shift = match options.slab_bytes {
        None => default_shift(largest),
        Some(bytes) if bytes.is_power_of_two() => bytes.trailing_zeros(),
        Some(bytes) => return refuse(format!("a slab of {bytes} bytes is not a power of two")),
    };
    if !SLAB_SHIFT.contains(&shift) {
        return refuse("slabs are from 64 KiB to 1 GiB".to_owned());
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return refuse(format!("a pool's name has 1 to {NAME_BYTES_MAX} bytes"));
    }
    let catalog = narrow(CATALOG_BYTES.div_ceil(1 << shift));
    // The largest disks have the catalog: they are those with most to give.
    let mut by_size: Vec<_> = sizes.enumerate().collect();
    by_size.sort_by_key(|(index, size)| (std::cmp::Reverse(*size), *index));
    let with_catalog: BTreeSet<_> = by_size.iter().take(class.copies()).map(|(index, _)| *index).collect();
    let mut slabs = Slabs::new(class.copies());
    for (index, disk) in disks.iter().enumerate() {
        let total = Label::slabs_for(disk.info().size_bytes, shift);
        let catalog = if with_catalog.contains(&index) { catalog } else { 0 };
        let own = (0..catalog.min(total)).map(SlabIndex).collect();
        slabs.set_up(index_of(index), total, catalog.min(total), &own);
    }
    let member = |(index, disk): (usize, &Arc<dyn Disk>)| {
        MemberLabel::new(runtime.random_id(), disk.info().size_bytes, with_catalog.contains(&index))
    };
    let members: Vec<_> = disks.iter().enumerate().map(member).collect();
    if slabs.capacity() < POOL_SLABS_MIN {
        let least = ((POOL_SLABS_MIN + u64::from(catalog) + 1) << shift) + (2 << 20);
        let of_each = if disks.len() > 1 { " of each of the larger disks" } else { "" };
        return refuse(format!("is too small for a pool: it needs {least} bytes{of_each}"));
    }
    let first_extent = SlabExtent { first: SlabIndex(0), count: catalog };
    let (pool, created_unix_ms) = (runtime.random_id(), runtime.unix_time_ms());
    let label = |(index, (disk, member)): (usize, (&Arc<dyn Disk>, &MemberLabel))| Label {
        sharing: false,
        sanitizing: false,
        encrypted: false,
        unfinished: false,
        disk_index: index_of(index),
        pool,
        disk: member.identity,
        generation: 0,
        size_bytes: disk.info().size_bytes,
        slab_shift: shift,
        slabs: Label::slabs_for(disk.info().size_bytes, shift),
        created_unix_ms,
        pool_name: name.to_owned(),
        class,
        members: members.clone(),
        catalog: if member.catalog { vec![first_extent] } else { Vec::new() },
    };
    Ok(disks.iter().zip(&members).enumerate().map(label).collect())
}

fn index_of(index: usize) -> DiskIndex {
    DiskIndex(u16::try_from(index).unwrap_or(u16::MAX))
}

fn write_empty(disks: Vec<(Arc<dyn Disk>, Label)>) -> Result<()> {
    let mut records = Vec::new();
    let mut slabs = Slabs::new(1);
    for (disk, label) in &disks {
        if let Some(label) = read_newest(&**disk)?.filter(|label| !label.unfinished) {
            let message = format!("is part of the pool \"{}\" already", label.pool_name);
            return Err(BlockError::new(ErrorKind::Exists, &disk.info().name, message));
        }
        records.push((label.disk_index, Some(record_of(label))));
        slabs.set_up(label.disk_index, label.slabs, 0, &own_slabs(label));
    }
    let pool = PoolRecord { next_segment: SegmentId(1), next_layer: LayerId(1), ..PoolRecord::default() };
    let changes = Changes { pool: Some(pool), disks: records, ..Changes::default() };
    let legs = disks.into_iter().map(|(disk, label)| Leg::new(disk, label)).collect();
    Catalog::create(legs, source(&Arc::new(Mutex::new(slabs))), &changes).map(|_| ())
}

fn record_of(label: &Label) -> DiskRecord {
    DiskRecord { identity: label.disk, size_bytes: label.size_bytes, slabs: label.slabs }
}

/// The catalog's slabs on a disk.
fn own_slabs(label: &Label) -> BTreeSet<SlabIndex> {
    label.catalog.iter().flat_map(|e| e.first.0..e.first.0 + e.count).map(SlabIndex).collect()
}

fn source(slabs: &SharedSlabs) -> SlabSource {
    let slabs = Arc::clone(slabs);
    Box::new(move |disk| slabs.lock().take_for_catalog(disk))
}

fn default_shift(size_bytes: u64) -> u32 {
    let wanted = (size_bytes / SLABS_WANTED).max(1).ilog2();
    wanted.clamp(*DEFAULT_SHIFT.start(), *DEFAULT_SHIFT.end())
}

/// Opens the pool on `disks` and replays its log. Its background work is not started yet.
pub(super) async fn open(
    disks: Vec<Arc<dyn Disk>>,
    options: PoolOptions,
    runtime: Arc<dyn Runtime>,
) -> Result<Arc<Engine>> {
    let begun = runtime.now();
    let opened = run_blocking(&*runtime, move || read_catalog(disks)).await?;
    let Opened { catalog, image, slabs, disks, keys } = opened;
    let label = catalog.label();
    let state = state_of(&image, &label, &options, &slabs)?;
    let engine = Engine::new(
        label.pool_name.clone(),
        label.pool,
        disks,
        runtime,
        options,
        slabs,
        keys,
        catalog,
        state,
    );
    engine.recover(&image.segments).await?;
    let own = Arc::clone(&engine);
    engine.detached(async move { own.sweep_keys().await }).await;
    let mut state = engine.state();
    state.counters.recovery = engine.runtime.now().saturating_sub(begun);
    drop(state);
    Ok(engine)
}

/// What is read before anything is replayed.
struct Opened {
    catalog: Catalog,
    image: Image,
    slabs: SharedSlabs,
    disks: Disks,
    keys: Keys,
}

fn read_catalog(disks: Vec<Arc<dyn Disk>>) -> Result<Opened> {
    let name = disks.first().map(|disk| disk.info().name.clone()).unwrap_or_default();
    let mut assembled = assemble(disks)?;
    let newest = assembled.newest.clone();
    let slab_blocks = narrow(newest.slab_bytes() / BLOCK_BYTES);
    let fail = |kind, message: &str| BlockError::new(kind, &name, message);
    if assembled.with_catalog().is_empty() {
        return Err(fail(ErrorKind::Device, &format!("has no catalog: {}", assembled.wanted())));
    }
    let mut legs = std::mem::take(&mut assembled.legs);
    if assembled.missing.is_empty() {
        assembled.legs = legs;
    } else {
        // Whether the others suffice has to be known before the labels say that these are lost.
        let copies = || legs.iter().map(|leg| Leg::new(Arc::clone(&leg.disk), leg.label.clone())).collect();
        let candidates = legs.iter().filter(|leg| leg.active).map(Leg::index);
        let image = first_good(candidates, |primary| Catalog::peek(copies(), primary))?;
        for leg in &mut legs {
            leg.label.members.clone_from(&newest.members);
        }
        assembled.legs = legs;
        if assembled.lacks(&image, slab_blocks) {
            return Err(fail(ErrorKind::Device, &assembled.wanted()));
        }
    }
    let uneven = assembled.is_uneven();
    let (with_catalog, missing) = (assembled.with_catalog(), assembled.missing);
    if uneven {
        tracing::warn!(?missing, "the labels are written anew: disks are missing, or labels differ");
        assembled.legs = relabel(assembled.legs, &missing)?;
    }
    let slabs: SharedSlabs = Arc::new(Mutex::new(Slabs::new(newest.class.copies())));
    let legs = assembled.legs;
    let again = || legs.iter().map(|leg| Leg::new(Arc::clone(&leg.disk), leg.label.clone())).collect();
    let (catalog, image) = first_good(with_catalog.iter().copied(), |primary| {
        let catalog = Catalog::open(again(), primary, source(&slabs))?;
        let image = catalog.image()?;
        check_image(&image, &catalog.labels()).map_err(|what| fail(ErrorKind::Corrupt, what))?;
        Ok((catalog, image))
    })?;
    let disks = Disks::new(newest.slab_shift);
    for leg in &legs {
        disks.add(leg.index(), Arc::clone(&leg.disk));
    }
    let found =
        if newest.encrypted { crate::keys::read(legs.iter(), &newest.pool) } else { Found::default() };
    set_up_slabs(&slabs, &image, &catalog.labels());
    let wanted = catalog_disks(&with_catalog, &catalog.labels(), newest.class.copies());
    catalog.mirror(&wanted)?;
    Ok(Opened { catalog, image, slabs, disks, keys: Keys::new(found) })
}

/// The first that succeeds; else the first failure.
fn first_good<T>(
    candidates: impl Iterator<Item = DiskIndex>,
    attempt: impl Fn(DiskIndex) -> Result<T>,
) -> Result<T> {
    let mut failure = None;
    for candidate in candidates {
        match attempt(candidate) {
            Ok(value) => return Ok(value),
            Err(error) => {
                tracing::error!(disk = candidate.0, %error, "a copy of the catalog cannot be used");
                failure.get_or_insert(error);
            }
        }
    }
    Err(failure
        .unwrap_or_else(|| BlockError::new(ErrorKind::Corrupt, "pool", "no copy of the catalog is there")))
}

/// Writes down which disks are missing, and makes all labels equally new.
fn relabel(legs: Vec<Leg>, missing: &BTreeSet<DiskIndex>) -> Result<Vec<Leg>> {
    let medium = Medium::new(legs, Box::new(|_| None));
    medium.update_labels(|label| {
        for index in missing {
            if let Some(member) = label.members.get_mut(usize::from(index.0)) {
                member.lose(MemberState::Losing);
            }
        }
    })?;
    medium.update_labels(settle)?;
    let legs = medium.into_legs();
    match legs.iter().find(|leg| leg.failed) {
        None => Ok(legs),
        Some(leg) => {
            Err(BlockError::new(ErrorKind::Device, &leg.disk.info().name, "its label cannot be written"))
        }
    }
}

/// Disks that are to have a copy of the catalog: those that have one, and the largest of the others.
fn catalog_disks(current: &[DiskIndex], labels: &[Label], copies: usize) -> Vec<DiskIndex> {
    let mut others: Vec<_> = labels.iter().filter(|label| !current.contains(&label.disk_index)).collect();
    others.sort_by_key(|label| (std::cmp::Reverse(label.slabs), label.disk_index));
    let missing = copies.saturating_sub(current.len());
    current.iter().copied().chain(others.into_iter().take(missing).map(|label| label.disk_index)).collect()
}

/// Which slabs are free, on disks that are there and on those that are not.
fn set_up_slabs(slabs: &SharedSlabs, image: &Image, labels: &[Label]) {
    let mut taken: BTreeMap<DiskIndex, BTreeSet<SlabIndex>> = BTreeMap::new();
    for slab in image.segments.values().flat_map(|segment| &segment.slabs) {
        taken.entry(slab.disk).or_default().insert(slab.index);
    }
    let mut slabs = slabs.lock();
    for (index, record) in &image.disks {
        let mut used = taken.remove(index).unwrap_or_default();
        let label = labels.iter().find(|label| label.disk_index == *index);
        let own = label.map(own_slabs).unwrap_or_default();
        used.extend(&own);
        let total = label.map_or(record.slabs, |label| label.slabs);
        slabs.set_up(*index, total, narrow(wide(own.len())), &used);
        let open = label.and_then(|label| label.member(*index)).is_some_and(|m| m.state == MemberState::In);
        slabs.set_open(*index, open);
    }
}

/// What the engine relies on.
fn check_image(image: &Image, labels: &[Label]) -> std::result::Result<(), &'static str> {
    let shift = labels.first().map_or(0, |label| label.slab_shift);
    let blocks = 1u64 << (shift - BLOCK_BYTES.trailing_zeros());
    let own = |label: &Label| {
        let disk = label.disk_index;
        own_slabs(label).into_iter().map(move |index| Slab { disk, index })
    };
    let mut taken: BTreeSet<Slab> = labels.iter().flat_map(own).collect();
    for record in image.segments.values() {
        if Copies::new(&record.slabs).is_none() {
            return Err("a segment has no slab, too many, or two on one disk");
        }
        for slab in &record.slabs {
            let label = labels.iter().find(|label| label.disk_index == slab.disk);
            let known = label.map(|label| label.slabs).or(image.disks.get(&slab.disk).map(|disk| disk.slabs));
            if known.is_none_or(|slabs| slab.index.0 >= slabs) || !taken.insert(*slab) {
                return Err("a slab is in two places, or not on the disk");
            }
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

fn state_of(image: &Image, label: &Label, options: &PoolOptions, slabs: &SharedSlabs) -> Result<State> {
    let slab_blocks = narrow(label.slab_bytes() / BLOCK_BYTES);
    let capacity = slabs.lock().capacity();
    let node_bytes = wide(std::mem::size_of::<crate::map::Entries>()) + 128;
    let mut state = State {
        layers: BTreeMap::new(),
        aliases: straight(&image.aliases),
        volumes: BTreeMap::new(),
        segments: segments_of(&image.segments, slab_blocks, label.class)?,
        heads: Default::default(),
        host: HostLog::new(Seq(0)),
        relocation_applied: Seq(0),
        relocation_seq: Seq(0),
        nodes_seq: Seq(1),
        epoch: image.pool.epoch,
        ranges: image.log_ranges.clone(),
        pool_record: image.pool,
        next_segment: image.pool.next_segment.0,
        budget: Budget::new(capacity, slab_blocks, options.dirty_nodes_max),
        sums: Sums::default(),
        admitted: 0,
        touched: 0,
        zero_nodes: 0,
        views: Views::default(),
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
        ciphers: BTreeMap::new(),
        accounts: crate::accounts::Accounts::default(),
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
    Ok(state)
}

fn segments_of(
    records: &BTreeMap<SegmentId, SegmentRecord>,
    slab_blocks: u32,
    class: Redundancy,
) -> Result<Segments> {
    let mut segments = Segments::new(slab_blocks, class);
    for (id, record) in records {
        let copies = Copies::new(&record.slabs);
        let copies =
            copies.ok_or_else(|| BlockError::new(ErrorKind::Corrupt, "pool", "a segment has no slab"))?;
        let mut segment = Segment::reserved(record.stream, copies);
        segment.phase = Phase::Sealed;
        segment.used = record.used_blocks;
        segment.applied = record.used_blocks;
        segment.live = record.live_blocks;
        segments.insert(*id, segment);
        if record.state != crate::catalog::SegmentState::Sealed || record.replay_from < slab_blocks {
            segments.mark_changed(*id);
        }
    }
    Ok(segments)
}
