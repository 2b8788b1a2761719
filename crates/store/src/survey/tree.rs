//! Layers that have something in common: a root, and all that lies on it.

use crate::format::{LayerId, VolumeId};
use crate::state::State;
use std::collections::BTreeMap;

/// A layer of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: LayerId,
    /// Which of the tree's layers it lies on; none for the root.
    pub(super) parent: Option<usize>,
}

/// A volume or snapshot of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Top {
    /// Which of the tree's layers is its own.
    pub(super) layer: usize,
    pub(super) id: VolumeId,
    /// It is a snapshot.
    pub(super) frozen: bool,
    /// The volume that answers for it.
    pub(super) owner: VolumeId,
}

/// A root and all layers on it, parents before their children; and the volumes and snapshots that see them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tree {
    pub(super) layers: Vec<Member>,
    pub(super) tops: Vec<Top>,
}

/// What was counted of a tree, in blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// By top: what it maps.
    pub(super) mapped: Vec<u64>,
    /// By top: what nobody else sees.
    pub(super) unique: Vec<u64>,
    /// What volumes see.
    pub(super) volumes: u64,
    /// What several see.
    pub(super) shared: u64,
    /// What snapshots see and no volume does.
    pub(super) snapshots: u64,
    /// Of that, what snapshots of one volume see, by volume.
    pub(super) snapshots_of: BTreeMap<VolumeId, u64>,
    /// What nobody sees: of deleted volumes and snapshots.
    pub(super) stranded: u64,
}

impl Tree {
    pub(super) fn owner(&self, top: usize) -> VolumeId {
        self.tops.get(top).map_or([0; 16], |top| top.owner)
    }
}

impl Counts {
    pub(super) fn of(tree: &Tree) -> Self {
        let none = vec![0; tree.tops.len()];
        Self { mapped: none.clone(), unique: none, ..Self::default() }
    }

    /// Blocks of the root that no other layer has a say in: all see them.
    pub(super) fn add_root(&mut self, tree: &Tree, blocks: u64) {
        self.mapped.iter_mut().for_each(|mapped| *mapped += blocks);
        match &tree.tops[..] {
            [] => self.stranded += blocks,
            [_] => self.unique.iter_mut().for_each(|unique| *unique += blocks),
            _ => self.shared += blocks,
        }
        if tree.tops.iter().any(|top| !top.frozen) {
            self.volumes += blocks;
        }
        if let Some(first) = tree.tops.first()
            && tree.tops.iter().all(|top| top.frozen)
        {
            self.snapshots += blocks;
            if tree.tops.iter().all(|top| top.owner == first.owner) {
                *self.snapshots_of.entry(first.owner).or_default() += blocks;
            }
        }
    }
}

impl State {
    /// All trees of layers but the shared one, by root.
    pub(super) fn trees(&self) -> BTreeMap<LayerId, Tree> {
        let mut trees: BTreeMap<LayerId, Tree> = BTreeMap::new();
        // Where each layer is: root and number.
        let mut places: BTreeMap<LayerId, (LayerId, usize)> = BTreeMap::new();
        // Layers have larger numbers than those they lie on.
        for (id, layer) in self.layers.iter().filter(|(id, _)| **id != LayerId::SHARED) {
            let below = layer.parent.and_then(|parent| places.get(&parent).copied());
            let root = below.map_or(*id, |(root, _)| root);
            let tree = trees.entry(root).or_default();
            places.insert(*id, (root, tree.layers.len()));
            tree.layers.push(Member { id: *id, parent: below.map(|(_, number)| number) });
        }
        for (id, entry) in &self.volumes {
            let Some((root, layer)) = places.get(&entry.record.top).copied() else { continue };
            let frozen = self.layers.get(&entry.record.top).is_some_and(|layer| layer.record.frozen);
            let owner = self.accounts.owner(id);
            trees.entry(root).or_default().tops.push(Top { layer, id: *id, frozen, owner });
        }
        trees
    }

    /// How often what the layers of a tree map has changed.
    pub(super) fn edits(&self, tree: &Tree) -> u64 {
        tree.layers.iter().filter_map(|member| self.layers.get(&member.id)).map(|layer| layer.edits).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(tops: &[(u8, bool, u8)]) -> Tree {
        let top = |(id, frozen, owner): &(u8, bool, u8)| Top {
            layer: 0,
            id: [*id; 16],
            frozen: *frozen,
            owner: [*owner; 16],
        };
        let layers = vec![Member { id: LayerId(2), parent: None }];
        Tree { layers, tops: tops.iter().map(top).collect() }
    }

    #[test]
    fn what_only_the_root_has_is_seen_by_all() {
        for (tops, volumes, unique, shared, snapshots, of_one, stranded) in [
            (&[][..], 0, 0, 0, 0, 0, 5),
            (&[(1, false, 1)][..], 5, 5, 0, 0, 0, 0),
            (&[(2, true, 1)][..], 0, 5, 0, 5, 5, 0),
            (&[(1, false, 1), (2, true, 1)][..], 5, 0, 5, 0, 0, 0),
            (&[(2, true, 1), (3, true, 1)][..], 0, 0, 5, 5, 5, 0),
            (&[(2, true, 1), (3, true, 4)][..], 0, 0, 5, 5, 0, 0),
        ] {
            let tree = tree(tops);
            let mut counts = Counts::of(&tree);
            counts.add_root(&tree, 5);
            assert!(counts.mapped.iter().all(|mapped| *mapped == 5), "{tops:?}");
            let first = counts.unique.first().copied().unwrap_or(0);
            let by_snapshots = counts.snapshots_of.values().sum::<u64>();
            let found =
                (counts.volumes, first, counts.shared, counts.snapshots, by_snapshots, counts.stranded);
            assert_eq!(found, (volumes, unique, shared, snapshots, of_one, stranded), "{tops:?}");
        }
    }
}
