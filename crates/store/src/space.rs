//! How much of the pool may be filled.

/// What may be filled and what is held back, in blocks or slabs. Follows from the number of slabs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Data or nodes that a slab holds when written in full batches: the rest are descriptors.
    pub(crate) slab_payload: u64,
    /// What data and nodes could fill.
    pub(crate) usable: u64,
    /// Of that, held back so that collection, checkpoints, unmapping and deletion always work.
    pub(crate) headroom: u64,
    /// Of that, for map nodes that unmapping in clones makes.
    pub(crate) zero_slack: u64,
    /// Of that, for writing map nodes again ([`SPARE_PER_NODE`]).
    pub(crate) node_slack: u64,
    /// Changed nodes that start a checkpoint; twice as many make writers wait for it.
    pub(crate) dirty_nodes: u64,
    /// Free slabs that only the catalog may take.
    pub(crate) catalog_floor: u64,
    /// Free slabs that only node segments and the catalog may take: a checkpoint always finds room.
    pub(crate) relocation_floor: u64,
    /// Free slabs that unmapping, but no data, may take.
    pub(crate) unmap_floor: u64,
    /// Free slabs that host data does not take.
    pub(crate) host_floor: u64,
    /// The collector starts at this many free slabs.
    pub(crate) collect_below: u64,
    /// Segments to keep reserved for the host stream.
    pub(crate) host_ahead: u64,
}

/// Slabs held back at the least.
const HEADROOM_SLABS_MIN: u64 = 24;
/// Slabs held back for crashes: each leaves part-filled segments that only collection gives back, and collection
/// needs slabs itself.
const CRASH_SLABS: u64 = 6;
/// Blocks set aside for each map node beside its own place. Moving or overwriting a block writes the nodes above it
/// again; where few blocks share a node, a pool that is full of blocks and nodes could only be collected by writing
/// more than that gains.
const SPARE_PER_NODE: u64 = 4;
/// Slabs without which a pool makes no sense.
pub(crate) const POOL_SLABS_MIN: u64 = 40;
/// Bytes of segments to keep reserved for the host stream, roughly.
const AHEAD_BYTES: u64 = 64 << 20;

impl Budget {
    /// The budget of `slabs` slabs (without the catalog's) of `slab_blocks` blocks.
    pub(crate) fn new(slabs: u64, slab_blocks: u32, dirty_nodes_max: u64) -> Self {
        let blocks = u64::from(slab_blocks);
        let slab_payload = blocks - 1 - blocks / 64;
        let usable = slabs * slab_payload;
        let headroom = (usable / 20).max(HEADROOM_SLABS_MIN * slab_payload);
        let zero_slack = (headroom - HEADROOM_SLABS_MIN * slab_payload) / 2;
        let node_slack = zero_slack;
        let dirty_nodes = (headroom / 16).min(dirty_nodes_max).max(4);
        let catalog_floor = 1;
        let relocation_floor = catalog_floor + (4 * dirty_nodes).div_ceil(slab_payload) + CRASH_SLABS;
        let unmap_floor = relocation_floor + 1;
        let host_floor = unmap_floor + 2;
        let by_bytes = (AHEAD_BYTES / 4096 / blocks).clamp(8, 64);
        let host_ahead = by_bytes.min(slabs / 16).max(2);
        let collect_below = host_floor + host_ahead / 2 + slabs / 50;
        Self {
            slab_payload,
            usable,
            headroom,
            zero_slack,
            node_slack,
            dirty_nodes,
            catalog_floor,
            relocation_floor,
            unmap_floor,
            host_floor,
            collect_below,
            host_ahead,
        }
    }

    /// What live data, nodes and reservations may fill.
    pub(crate) fn fillable(&self) -> u64 {
        self.usable.saturating_sub(self.headroom)
    }

    /// What `nodes` map nodes take of that: their places, and what the headroom has not of what is set aside for
    /// writing them again.
    pub(crate) fn node_charge(&self, nodes: u64) -> u64 {
        nodes + (SPARE_PER_NODE * nodes).saturating_sub(self.node_slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_fit_into_the_headroom_whatever_the_size() {
        for (slabs, blocks) in [(40, 16), (64, 16), (1000, 16), (30, 256), (2000, 256), (2047, 16_384)] {
            let budget = Budget::new(slabs, blocks, 32 << 10);
            let headroom_slabs = budget.headroom / budget.slab_payload;
            assert!(budget.host_floor < headroom_slabs, "{slabs} slabs of {blocks}: {budget:?}");
            assert!(budget.fillable() > 0);
        }
    }

    #[test]
    fn nodes_of_side_by_side_blocks_cost_a_large_pool_only_their_places() {
        let large = Budget::new(2000, 16_384, 32 << 10);
        let nodes = large.fillable() / 257;
        assert_eq!(large.node_charge(nodes), nodes);
        let small = Budget::new(64, 256, 32 << 10);
        assert_eq!(small.node_charge(10), 50);
    }
}
