//! Records to rows and back.

use super::records::{
    Changes, DiskRecord, Image, LayerRecord, LogRange, PoolRecord, SanitizePhase, SanitizeRecord,
    SegmentRecord, SegmentState, Slab, VolumeRecord,
};
use crate::format::keys::FamilyId;
use crate::format::{
    DiskIndex, Epoch, LayerId, Location, Redundancy, SegmentId, Seq, SlabIndex, Stream, VolumeId,
};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};
use std::collections::BTreeMap;

type Row<T> = std::result::Result<T, String>;

type SegmentRow<'a> = (u8, u8, u8, u32, u32, u32, &'a [u8]);
type SanitizeRow<'a> = (u8, u8, &'a [u8]);
type LayerRow = (u64, u8, u64, u32, u8, u64, u64);

const POOL: TableDefinition<&str, u64> = TableDefinition::new("pool");
const LOG_RANGES: TableDefinition<u64, (u64, u64, u64, u64)> = TableDefinition::new("log_ranges");
const DISKS: TableDefinition<u16, ([u8; 16], u64, u32)> = TableDefinition::new("disks");
const SEGMENTS: TableDefinition<u64, SegmentRow<'_>> = TableDefinition::new("segments");
const LAYERS: TableDefinition<u64, LayerRow> = TableDefinition::new("layers");
const ALIASES: TableDefinition<u64, u64> = TableDefinition::new("aliases");
const VOLUMES: TableDefinition<[u8; 16], (u64, u64, u8)> = TableDefinition::new("volumes");
const SANITIZING: TableDefinition<[u8; 16], SanitizeRow<'_>> = TableDefinition::new("sanitizing");
const VOLUME_KEYS: TableDefinition<[u8; 16], u64> = TableDefinition::new("volume_keys");
const FACTS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("facts");

const LAYER_FROZEN: u8 = 1;
const LAYER_DOOMED: u8 = 2;
const LAYER_MERGING: u8 = 4;
const LAYER_DETACHING: u8 = 8;
const VOLUME_THICK: u8 = 1;
const VOLUME_BUFFERED: u8 = 2;
const SANITIZE_UNRESTRICTED_EXIT: u8 = 1;

fn flag(condition: bool, bit: u8) -> u8 {
    if condition { bit } else { 0 }
}

fn pool_rows(pool: &PoolRecord) -> [(&'static str, u64); 6] {
    [
        ("epoch", pool.epoch.0),
        ("next_segment", pool.next_segment.0),
        ("next_layer", pool.next_layer.0),
        ("host_seq", pool.host_seq.0),
        ("relocation_seq", pool.relocation_seq.0),
        ("clean", u64::from(pool.clean)),
    ]
}

fn pool_from_rows(rows: &BTreeMap<String, u64>) -> Row<PoolRecord> {
    let row = |name: &str| rows.get(name).copied().ok_or_else(|| format!("pool has no {name}"));
    Ok(PoolRecord {
        epoch: Epoch(row("epoch")?),
        next_segment: SegmentId(row("next_segment")?),
        next_layer: LayerId(row("next_layer")?),
        host_seq: Seq(row("host_seq")?),
        relocation_seq: Seq(row("relocation_seq")?),
        clean: row("clean")? != 0,
    })
}

fn slabs_to_bytes(slabs: &[Slab]) -> Vec<u8> {
    let slab = |slab: &Slab| [&slab.disk.0.to_le_bytes()[..], &slab.index.0.to_le_bytes()[..]].concat();
    slabs.iter().flat_map(slab).collect()
}

fn slabs_from_bytes(bytes: &[u8]) -> Row<Vec<Slab>> {
    let (slabs, rest) = bytes.as_chunks::<6>();
    if slabs.is_empty() || !rest.is_empty() {
        return Err(format!("a segment's slabs take {} bytes", bytes.len()));
    }
    let slab = |&[a, b, c, d, e, f]: &[u8; 6]| Slab {
        disk: DiskIndex(u16::from_le_bytes([a, b])),
        index: SlabIndex(u32::from_le_bytes([c, d, e, f])),
    };
    Ok(slabs.iter().map(slab).collect())
}

fn segment_from_row(row: SegmentRow<'_>) -> Row<SegmentRecord> {
    let (state, stream, class, replay_from, used_blocks, live_blocks, slabs) = row;
    let class =
        Redundancy::from_code(class).ok_or_else(|| format!("redundancy class {class} is not known"))?;
    Ok(SegmentRecord {
        state: SegmentState::from_code(state).ok_or_else(|| format!("segment state {state} is not known"))?,
        stream: Stream::from_code(stream).ok_or_else(|| format!("stream {stream} is not known"))?,
        replay_from,
        used_blocks,
        live_blocks,
        class,
        slabs: slabs_from_bytes(slabs)?,
    })
}

fn layer_row(layer: &LayerRecord) -> LayerRow {
    let flags = flag(layer.frozen, LAYER_FROZEN)
        | flag(layer.doomed, LAYER_DOOMED)
        | flag(layer.merging, LAYER_MERGING)
        | flag(layer.detaching, LAYER_DETACHING);
    let parent = layer.parent.map_or(0, |parent| parent.0);
    (parent, flags, layer.root.0, layer.root_checksum, layer.root_level, layer.mapped_blocks, layer.nodes)
}

fn layer_from_row(row: LayerRow) -> LayerRecord {
    let (parent, flags, root, root_checksum, root_level, mapped_blocks, nodes) = row;
    LayerRecord {
        parent: (parent != 0).then_some(LayerId(parent)),
        frozen: flags & LAYER_FROZEN != 0,
        doomed: flags & LAYER_DOOMED != 0,
        merging: flags & LAYER_MERGING != 0,
        detaching: flags & LAYER_DETACHING != 0,
        root: Location(root),
        root_checksum,
        root_level,
        mapped_blocks,
        nodes,
    }
}

/// All records as of the transaction. The inner error says which one makes no sense.
pub(super) fn read_image(transaction: &ReadTransaction) -> Result<Row<Image>, redb::Error> {
    let mut image = Image::default();
    let mut pool = BTreeMap::new();
    for row in transaction.open_table(POOL)?.iter()? {
        let (name, value) = row?;
        pool.insert(name.value().to_owned(), value.value());
    }
    match pool_from_rows(&pool) {
        Ok(record) => image.pool = record,
        Err(what) => return Ok(Err(what)),
    }
    for row in transaction.open_table(LOG_RANGES)?.iter()? {
        let (epoch, range) = row?;
        let (a, b, c, d) = range.value();
        let range = LogRange {
            host_first: Seq(a),
            host_end: Seq(b),
            relocation_first: Seq(c),
            relocation_end: Seq(d),
        };
        image.log_ranges.insert(Epoch(epoch.value()), range);
    }
    for row in transaction.open_table(DISKS)?.iter()? {
        let (index, disk) = row?;
        let (identity, size_bytes, slabs) = disk.value();
        image.disks.insert(DiskIndex(index.value()), DiskRecord { identity, size_bytes, slabs });
    }
    for row in transaction.open_table(SEGMENTS)?.iter()? {
        let (id, segment) = row?;
        match segment_from_row(segment.value()) {
            Ok(record) => image.segments.insert(SegmentId(id.value()), record),
            Err(what) => return Ok(Err(format!("segment {}: {what}", id.value()))),
        };
    }
    for row in transaction.open_table(LAYERS)?.iter()? {
        let (id, layer) = row?;
        image.layers.insert(LayerId(id.value()), layer_from_row(layer.value()));
    }
    for row in transaction.open_table(ALIASES)?.iter()? {
        let (from, to) = row?;
        image.aliases.insert(LayerId(from.value()), LayerId(to.value()));
    }
    for row in transaction.open_table(VOLUMES)?.iter()? {
        let (id, volume) = row?;
        let (top, size_bytes, flags) = volume.value();
        let (thick, buffered) = (flags & VOLUME_THICK != 0, flags & VOLUME_BUFFERED != 0);
        let record = VolumeRecord { top: LayerId(top), size_bytes, thick, buffered, family: None };
        image.volumes.insert(id.value(), record);
    }
    read_families(transaction, &mut image)?;
    Ok(read_sanitizing(transaction)?.map(|sanitizing| Image { sanitizing, ..image }))
}

/// Which volumes are encrypted. Catalogs of pools without such volumes may have no table of it.
fn read_families(transaction: &ReadTransaction, image: &mut Image) -> Result<(), redb::Error> {
    let table = match transaction.open_table(VOLUME_KEYS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for row in table.iter()? {
        let (id, family) = row?;
        if let Some(record) = image.volumes.get_mut(&id.value()) {
            record.family = Some(FamilyId(family.value()));
        }
    }
    Ok(())
}

fn apply_families(transaction: &WriteTransaction, changes: &Changes) -> Result<(), redb::Error> {
    if changes.volumes.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(VOLUME_KEYS)?;
    for (id, volume) in &changes.volumes {
        match volume.and_then(|volume| volume.family) {
            Some(family) => table.insert(id, family.0)?,
            None => table.remove(id)?,
        };
    }
    Ok(())
}

/// What is being sanitized. Catalogs of older builds have no table of it.
fn read_sanitizing(
    transaction: &ReadTransaction,
) -> Result<Row<BTreeMap<VolumeId, SanitizeRecord>>, redb::Error> {
    let table = match transaction.open_table(SANITIZING) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Ok(BTreeMap::new())),
        Err(error) => return Err(error.into()),
    };
    let mut records = BTreeMap::new();
    for row in table.iter()? {
        let (id, record) = row?;
        let (phase, flags, pattern) = record.value();
        let Some(phase) = SanitizePhase::from_code(phase) else {
            return Ok(Err(format!("phase {phase} of a sanitizing is not known")));
        };
        if !pattern.is_empty() && !SanitizeRecord::is_pattern(pattern) {
            return Ok(Err(format!("a volume cannot be overwritten with {} bytes", pattern.len())));
        }
        let unrestricted_exit = flags & SANITIZE_UNRESTRICTED_EXIT != 0;
        records.insert(id.value(), SanitizeRecord { phase, unrestricted_exit, pattern: pattern.to_vec() });
    }
    Ok(Ok(records))
}

fn apply_sanitizing(transaction: &WriteTransaction, changes: &Changes) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(SANITIZING)?;
    for (id, record) in &changes.sanitizing {
        match record {
            Some(record) => {
                let flags = flag(record.unrestricted_exit, SANITIZE_UNRESTRICTED_EXIT);
                table.insert(id, (record.phase.code(), flags, record.pattern.as_slice()))?
            }
            None => table.remove(id)?,
        };
    }
    Ok(())
}

/// Writes `changes` within the transaction. All tables exist afterwards.
pub(super) fn apply(transaction: &WriteTransaction, changes: &Changes) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(POOL)?;
    for (name, value) in changes.pool.iter().flat_map(pool_rows) {
        table.insert(name, value)?;
    }
    let mut table = transaction.open_table(LOG_RANGES)?;
    for (epoch, range) in &changes.log_ranges {
        match range {
            Some(r) => table
                .insert(epoch.0, (r.host_first.0, r.host_end.0, r.relocation_first.0, r.relocation_end.0))?,
            None => table.remove(epoch.0)?,
        };
    }
    let mut table = transaction.open_table(DISKS)?;
    for (index, disk) in &changes.disks {
        match disk {
            Some(disk) => table.insert(index.0, (disk.identity, disk.size_bytes, disk.slabs))?,
            None => table.remove(index.0)?,
        };
    }
    apply_segments(transaction, changes)?;
    let mut table = transaction.open_table(LAYERS)?;
    for (id, layer) in &changes.layers {
        match layer {
            Some(layer) => table.insert(id.0, layer_row(layer))?,
            None => table.remove(id.0)?,
        };
    }
    let mut table = transaction.open_table(ALIASES)?;
    for (from, to) in &changes.aliases {
        match to {
            Some(to) => table.insert(from.0, to.0)?,
            None => table.remove(from.0)?,
        };
    }
    let mut table = transaction.open_table(VOLUMES)?;
    for (id, volume) in &changes.volumes {
        match volume {
            Some(volume) => {
                let flags = flag(volume.thick, VOLUME_THICK) | flag(volume.buffered, VOLUME_BUFFERED);
                table.insert(id, (volume.top.0, volume.size_bytes, flags))?
            }
            None => table.remove(id)?,
        };
    }
    apply_families(transaction, changes)?;
    apply_sanitizing(transaction, changes)?;
    let mut table = transaction.open_table(FACTS)?;
    for (kind, name, content) in &changes.facts {
        let key = (kind.as_str(), name.as_str());
        match content {
            Some(content) => table.insert(key, content.as_slice())?,
            None => table.remove(key)?,
        };
    }
    Ok(())
}

fn apply_segments(transaction: &WriteTransaction, changes: &Changes) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(SEGMENTS)?;
    for (id, segment) in &changes.segments {
        match segment {
            Some(s) => {
                let slabs = slabs_to_bytes(&s.slabs);
                let (state, stream) = (s.state.code(), s.stream.code());
                let blocks = (s.replay_from, s.used_blocks, s.live_blocks);
                let row = (state, stream, s.class.code(), blocks.0, blocks.1, blocks.2, slabs.as_slice());
                table.insert(id.0, row)?;
            }
            None => {
                table.remove(id.0)?;
            }
        }
    }
    Ok(())
}

/// All facts of a kind, by name.
pub(super) fn facts(
    transaction: &ReadTransaction,
    kind: &str,
) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let table = match transaction.open_table(FACTS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for row in table.range((kind, "")..)? {
        let (key, content) = row?;
        let (row_kind, name) = key.value();
        if row_kind != kind {
            break;
        }
        found.push((name.to_owned(), content.value().to_vec()));
    }
    Ok(found)
}
