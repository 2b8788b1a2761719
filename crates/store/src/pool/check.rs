//! Counting what maps point to, and comparing it with the accounts.

use super::Pool;
use crate::engine::Engine;
use crate::format::{BLOCK_BYTES, BlockAddress, DiskIndex, LayerId, Location, SegmentId};
use crate::map::{Next, NodeKey};
use crate::options::CheckReport;
use crate::state::{Needed, State};
use crate::survey::Survey;
use block::Result;
use std::collections::{BTreeMap, BTreeSet};

/// What the walk over all maps has found.
#[derive(Default)]
struct Tally {
    live: BTreeMap<SegmentId, u32>,
    seen: BTreeSet<Location>,
    /// How many entries refer to each shared block.
    references: BTreeMap<BlockAddress, u32>,
    /// How many there are by the accounts.
    counts: BTreeMap<BlockAddress, i64>,
    report: CheckReport,
}

impl Pool {
    /// Counts what the maps point to and compares it with the accounts. Best done while nothing writes: what
    /// changes meanwhile is reported as a problem.
    ///
    /// # Errors
    /// `Corrupt` if a map cannot be read; the disk's.
    pub async fn check(&self) -> Result<CheckReport> {
        let mut tally = Tally::default();
        let layers: Vec<LayerId> = self.engine.state().layers.keys().copied().collect();
        for id in layers {
            self.engine.tally_layer(id, &mut tally).await?;
        }
        let slabs: Vec<_> = {
            let slabs = self.engine.slabs.lock();
            let current = slabs.indexes().filter(|disk| self.engine.disks.current(*disk).is_some());
            current.map(|disk| (disk, slabs.counts(disk))).collect()
        };
        let survey = self.survey(None).await?;
        self.engine.state().compare_space(&mut tally, &survey);
        self.engine.state().compare(&mut tally, &slabs);
        Ok(tally.report)
    }
}

impl Engine {
    async fn tally_layer(&self, id: LayerId, tally: &mut Tally) -> Result<()> {
        let mut from = 0;
        let mut mapped = 0;
        let mut nodes = BTreeSet::new();
        loop {
            let step = self.state().tally_leaf(id, from, tally, &mut mapped, &mut nodes);
            match step {
                Ok(Some(next)) => from = next,
                Ok(None) => break,
                Err(needed) => self.load(needed).await?,
            }
        }
        let mut state = self.state();
        let Some(layer) = state.layers.get_mut(&id) else { return Ok(()) };
        let (mapped_said, count_said) = (layer.mapped, layer.map.count());
        // The walk has loaded all inner nodes, those without a leaf below them too.
        nodes.extend(layer.map.inner_nodes());
        for key in &nodes {
            if let Some(home) = layer.map.home(*key).filter(|home| home.is_place()) {
                tally.count(home);
            }
        }
        tally.report.nodes += crate::number::wide(nodes.len());
        if mapped != mapped_said {
            tally.problem(format!("layer {id}: {mapped} blocks are mapped, the account says {mapped_said}"));
        }
        if crate::number::wide(nodes.len()) != count_said {
            tally.problem(format!("layer {id}: {} nodes, the account says {count_said}", nodes.len()));
        }
        Ok(())
    }
}

impl Tally {
    fn compare_references(&mut self) {
        for (number, counted) in std::mem::take(&mut self.references) {
            match self.counts.remove(&number) {
                Some(said) if said == i64::from(counted) => {}
                Some(said) => self
                    .problem(format!("shared block {number}: {counted} references, the account says {said}")),
                None => self.problem(format!("shared block {number} is lost, with {counted} references")),
            }
        }
        for (number, said) in std::mem::take(&mut self.counts) {
            if said != 0 {
                self.problem(format!("shared block {number}: no references, the account says {said}"));
            }
        }
    }

    fn problem(&mut self, what: String) {
        self.report.problems.push(what);
    }

    fn count(&mut self, place: Location) {
        *self.live.entry(place.segment()).or_default() += 1;
        if !self.seen.insert(place) {
            self.problem(format!("{place:?} is used twice"));
        }
    }
}

impl State {
    /// Counts the first leaf from `from` on. Returns where to go on.
    fn tally_leaf(
        &mut self,
        id: LayerId,
        from: u64,
        tally: &mut Tally,
        mapped: &mut u64,
        nodes: &mut BTreeSet<NodeKey>,
    ) -> std::result::Result<Option<u64>, Needed> {
        let Some(layer) = self.layers.get_mut(&id) else { return Ok(None) };
        let leaf = match layer.map.next_leaf(from) {
            Next::End => return Ok(None),
            Next::Load(load) => return Err(Needed { layer: id, load }),
            Next::Leaf(leaf) => leaf,
        };
        if let crate::map::Find::Load(load) = layer.map.find(leaf) {
            return Err(Needed { layer: id, load });
        }
        let Some(entries) = layer.map.leaf(leaf) else { return Ok(Some(leaf + 1)) };
        for (slot, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.location.is_mapped()) {
            *mapped += 1;
            if let Some(number) = entry.location.shared_block() {
                *tally.references.entry(number).or_default() += 1;
                continue;
            }
            tally.count(entry.location);
            tally.report.data_blocks += 1;
            if id == LayerId::SHARED {
                let number = BlockAddress((leaf << 8) + crate::number::wide(slot));
                let pending = self.pending.of(number);
                tally.counts.insert(number, i64::from(entry.checksum) + i64::from(pending));
            }
        }
        for level in 0..=layer.map.root_level() {
            nodes.insert(NodeKey::leaf(leaf).ancestor(level));
        }
        Ok(Some(leaf + 1))
    }

    /// The parts of the pool's space add up, and what was counted of layers is what segments hold.
    fn compare_space(&self, tally: &mut Tally, survey: &Survey) {
        let space = self.space(Some(survey));
        let sum = space.volumes_bytes
            + space.snapshots_bytes
            + space.released_bytes
            + space.map_bytes
            + space.reserved_bytes
            + space.spare_bytes
            + space.headroom_bytes
            + space.withheld_bytes
            + space.collectable_bytes
            + space.unused_bytes;
        let held_back = space.headroom_bytes == self.budget.headroom * BLOCK_BYTES;
        if sum != space.usable_bytes || (self.room() > 0 && !held_back) {
            tally.problem(format!("the parts of the pool do not add up: {space:?}"));
        }
        let by_reference = self.layers.get(&LayerId::SHARED).map_or(0, |layer| layer.mapped);
        let (counted, said) = (survey.blocks() + by_reference, self.segments.data_live());
        if counted != said {
            tally.problem(format!("volumes and snapshots hold {counted} blocks, the account says {said}"));
        }
    }

    fn compare(&self, tally: &mut Tally, disks: &[(DiskIndex, (u32, u32, u64))]) {
        tally.compare_references();
        for (id, segment) in self.segments.iter() {
            let counted = tally.live.remove(&id).unwrap_or(0);
            if counted != segment.live {
                let said = segment.live;
                let stream = segment.stream;
                tally.problem(format!(
                    "segment {id} ({stream:?}): {counted} blocks are in use, the account says {said}"
                ));
            }
        }
        let unknown: Vec<_> = tally.live.keys().copied().collect();
        for id in unknown {
            tally.problem(format!("segment {id} is in use and not in the table"));
        }
        for (disk, (total, catalog, free)) in disks {
            let copies = self.segments.iter().flat_map(|(_, segment)| segment.copies.slabs());
            let in_segments = crate::number::wide(copies.filter(|slab| slab.disk == *disk).count());
            let accounted = u64::from(*catalog) + free;
            if accounted + in_segments != u64::from(*total) {
                tally.problem(format!(
                    "disk {disk}: {total} slabs, but {accounted} free or catalog and {in_segments} in segments"
                ));
            }
        }
        if self.admitted > 0 || self.touched > 0 {
            tally.problem(format!(
                "{} blocks admitted, {} leaves held by nobody",
                self.admitted, self.touched
            ));
        }
    }
}
