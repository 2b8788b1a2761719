//! A layer in memory: its map and what the catalog says of it.

use crate::catalog::LayerRecord;
use crate::detach::Progress;
use crate::format::node::Entry;
use crate::format::{LayerId, Location, VolumeId};
use crate::map::{Map, MapCut};

/// A layer of the pool.
pub(crate) struct Layer {
    pub(crate) map: Map,
    pub(crate) parent: Option<LayerId>,
    /// Blocks mapped to data.
    pub(crate) mapped: u64,
    /// The volume with a limit that it counts for.
    pub(crate) account: Option<VolumeId>,
    /// Times that blocks came, went, or were shared, since opening.
    pub(crate) edits: u64,
    /// Blocks (nodes included) that a thick volume has set aside for this layer.
    pub(crate) reserved: u64,
    /// What the catalog says; changed only with a transaction.
    pub(crate) record: LayerRecord,
    /// The counts differ from the record though no node is dirty.
    pub(crate) changed: bool,
    /// Times in a row that its map could not be read for the work on layers.
    pub(crate) failures: u32,
    /// The work on layers has passed over a part of it.
    pub(crate) unreadable: bool,
    /// How far its detaching is; none if it is not detached.
    pub(crate) detaching: Option<Progress>,
    /// It is to go, and nothing more can be done for that.
    pub(crate) set_aside: bool,
}

impl Layer {
    pub(crate) fn new(record: LayerRecord) -> Self {
        let root = Entry { location: record.root, checksum: record.root_checksum };
        Self {
            map: Map::new(root, record.root_level, record.nodes),
            parent: record.parent,
            mapped: record.mapped_blocks,
            account: None,
            edits: 0,
            reserved: 0,
            record,
            changed: false,
            failures: 0,
            unreadable: false,
            detaching: record.detaching.then(Progress::default),
            set_aside: false,
        }
    }

    /// What is set aside for the layer and not yet used.
    pub(crate) fn unfulfilled(&self) -> u64 {
        self.reserved.saturating_sub(self.mapped + self.map.count())
    }

    /// The record after a checkpoint of `cut`.
    pub(crate) fn record_after(&self, cut: &MapCut, mapped: u64) -> LayerRecord {
        let stored = cut.root.location.is_place();
        LayerRecord {
            root: if stored { cut.root.location } else { Location::NONE },
            root_checksum: if stored { cut.root.checksum } else { 0 },
            root_level: if stored { cut.root_level } else { 0 },
            mapped_blocks: mapped,
            nodes: if stored { cut.count } else { 0 },
            ..self.record
        }
    }
}
