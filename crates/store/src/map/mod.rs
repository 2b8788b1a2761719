//! A layer's map: a page table from block address to location, kept in memory as far as it is used.
//!
//! *Invariants:* the ancestors of a node in memory are in memory; the ancestors of a dirty node are dirty; an
//! inner entry of [`IN_MEMORY`] names a child that has never been written and is in memory.

mod cut;
mod key;
mod node;
#[cfg(test)]
mod tests;

pub(crate) use cut::MapCut;
pub(crate) use key::{FastHash, NodeKey, leaf_of, leaves_of};
pub(crate) use node::Entries;

use crate::format::node::{Entry, FAN_OUT, LEVEL_MAX, Node};
use crate::format::{BlockAddress, Location};
use node::MapNode;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// The location by which a parent names a child that is in memory and was never written. Not on disk.
const IN_MEMORY: Location = Location::ZEROS;

/// Where the walk to a leaf ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Find {
    /// The leaf is in memory.
    Here,
    /// The map has no such leaf: none of its blocks is mapped.
    Absent,
    /// This node has to be read first.
    Load(ToLoad),
}

/// A node that is on disk only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ToLoad {
    pub(crate) key: NodeKey,
    pub(crate) entry: Entry,
}

/// What comes next in the order of leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// This leaf exists; it may have to be loaded.
    Leaf(u64),
    /// This inner node has to be read to know.
    Load(ToLoad),
    /// There are no more.
    End,
}

/// The map of one layer.
pub(crate) struct Map {
    root: Entry,
    root_level: u8,
    nodes: HashMap<NodeKey, MapNode, FastHash>,
    dirty: Vec<NodeKey>,
    count: u64,
}

impl Map {
    /// The map whose root is stored at `root` and has `count` nodes. [`Location::NONE`] is the empty map.
    pub(crate) fn new(root: Entry, root_level: u8, count: u64) -> Self {
        Self { root, root_level, nodes: HashMap::default(), dirty: Vec::new(), count }
    }

    /// Nodes of the map, wherever they are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Nodes in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.nodes.len()
    }

    /// Inner nodes in memory.
    pub(crate) fn inner_nodes(&self) -> impl Iterator<Item = NodeKey> {
        self.nodes.keys().copied().filter(|key| key.level() > 0)
    }

    /// Nodes changed since the last cut.
    pub(crate) fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// True if nothing is mapped.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.location == Location::NONE
    }

    /// The level of the root.
    pub(crate) fn root_level(&self) -> u8 {
        self.root_level
    }

    fn root_key(&self) -> NodeKey {
        NodeKey::new(self.root_level, 0)
    }

    /// What names the node `key`.
    fn slot(&self, key: NodeKey) -> Entry {
        if key == self.root_key() {
            return self.root;
        }
        self.nodes.get(&key.parent()).map_or(Entry::default(), |parent| parent.entries[key.slot()])
    }

    fn covers(&self, leaf: u64) -> bool {
        !self.is_empty() && leaf.checked_shr(8 * u32::from(self.root_level)).unwrap_or(0) == 0
    }

    /// Where the walk to `leaf` ends.
    pub(crate) fn find(&self, leaf: u64) -> Find {
        self.find_node(NodeKey::leaf(leaf))
    }

    /// Where the walk to the node `target` ends.
    pub(crate) fn find_node(&self, target: NodeKey) -> Find {
        if self.nodes.contains_key(&target) {
            return Find::Here;
        }
        if !self.covers(target.first_leaf()) || target.level() > self.root_level {
            return Find::Absent;
        }
        let mut key = self.root_key();
        let mut entry = self.root;
        while let Some(node) = self.nodes.get(&key) {
            assert!(key.level() > target.level(), "a node in memory is found by its key");
            key = target.ancestor(key.level() - 1);
            entry = node.entries[key.slot()];
        }
        if entry.location == Location::NONE {
            return Find::Absent;
        }
        assert!(entry.location.is_place(), "a node that was never written is in memory");
        Find::Load(ToLoad { key, entry })
    }

    /// Takes in a node that was read, unless that has happened already or the map has changed since.
    /// True if it was taken in.
    pub(crate) fn insert_loaded(&mut self, load: ToLoad, node: Node) -> bool {
        if self.nodes.contains_key(&load.key) || self.slot(load.key) != load.entry {
            return false;
        }
        let loaded = MapNode::loaded(load.entry.location, node.entries);
        let useless = load.key.level() > 0 && loaded.is_empty();
        self.nodes.insert(load.key, loaded);
        if useless {
            // A checkpoint wrote it for a child that was never written itself, and then came a crash. The next
            // checkpoint removes it.
            self.mark_dirty(load.key);
        }
        true
    }

    /// The entry of a block whose leaf is in memory or absent.
    pub(crate) fn get(&mut self, address: BlockAddress) -> Entry {
        match self.nodes.get_mut(&NodeKey::leaf(leaf_of(address))) {
            Some(node) => {
                node.referenced = true;
                node.entries[slot_of(address)]
            }
            None => Entry::default(),
        }
    }

    /// The entries of a leaf in memory.
    pub(crate) fn leaf(&mut self, leaf: u64) -> Option<&Arc<Entries>> {
        let node = self.nodes.get_mut(&NodeKey::leaf(leaf))?;
        node.referenced = true;
        Some(&node.entries)
    }

    /// How many nodes creating the absent `leaf` adds.
    pub(crate) fn nodes_to_create(&self, leaf: u64) -> u64 {
        let level_needed = NodeKey::root_level_for(leaf);
        if self.is_empty() {
            return u64::from(level_needed) + 1;
        }
        let growth = u64::from(level_needed.saturating_sub(self.root_level));
        let leaf_key = NodeKey::leaf(leaf);
        let top = self.root_level.max(level_needed);
        let missing = (0..top).take_while(|level| !self.nodes.contains_key(&leaf_key.ancestor(*level)));
        growth + u64::try_from(missing.count()).unwrap_or(u64::MAX)
    }

    /// Makes the absent `leaf`, empty. Its ancestors are in memory as far as they exist ([`Map::find`] said so).
    pub(crate) fn create(&mut self, leaf: u64) {
        self.grow(NodeKey::root_level_for(leaf));
        let leaf_key = NodeKey::leaf(leaf);
        if self.is_empty() {
            self.root = Entry { location: IN_MEMORY, checksum: 0 };
            self.add_new(self.root_key(), MapNode::empty());
        }
        for level in (0..self.root_level).rev() {
            let key = leaf_key.ancestor(level);
            if self.nodes.contains_key(&key) {
                continue;
            }
            let parent = self.nodes.get_mut(&key.parent()).expect("ancestors are made from the top");
            assert!(parent.entries[key.slot()].location == Location::NONE, "only absent nodes are made");
            parent.set(key.slot(), Entry { location: IN_MEMORY, checksum: 0 });
            self.add_new(key, MapNode::empty());
        }
        self.mark_dirty(leaf_key);
    }

    fn add_new(&mut self, key: NodeKey, node: MapNode) {
        self.nodes.insert(key, node);
        self.count += 1;
        self.mark_dirty(key);
    }

    /// Puts roots on top of the root until it is at `level` at least.
    fn grow(&mut self, level: u8) {
        assert!(level <= LEVEL_MAX, "volumes are not larger than the map can be");
        if self.is_empty() {
            assert!(self.nodes.is_empty(), "an empty map has no nodes");
            self.root_level = level;
        }
        while self.root_level < level {
            let mut root = MapNode::empty();
            root.set(0, self.root);
            self.root_level += 1;
            self.root = Entry { location: IN_MEMORY, checksum: 0 };
            self.add_new(self.root_key(), root);
        }
    }

    /// Changes entries `slots` of `leaf`, which is in memory.
    pub(crate) fn edit(&mut self, leaf: u64, slots: Range<usize>, mut change: impl FnMut(usize, &mut Entry)) {
        let key = NodeKey::leaf(leaf);
        let node = self.nodes.get_mut(&key).expect("leaves are in memory before they are changed");
        node.edit(slots, &mut change);
        if !node.dirty {
            self.mark_dirty(key);
        }
    }

    /// Has the next checkpoint write the node `key` anew, if it is in memory.
    pub(crate) fn rewrite(&mut self, key: NodeKey) {
        if self.nodes.contains_key(&key) {
            self.mark_dirty(key);
        }
    }

    /// Where the newest written copy of a node in memory is.
    pub(crate) fn home(&self, key: NodeKey) -> Option<Location> {
        self.nodes.get(&key).map(|node| node.home)
    }

    fn mark_dirty(&mut self, mut key: NodeKey) {
        loop {
            let node = self.nodes.get_mut(&key).expect("ancestors of a node in memory are in memory");
            if node.dirty {
                return;
            }
            node.dirty = true;
            self.dirty.push(key);
            if key == self.root_key() {
                return;
            }
            key = key.parent();
        }
    }

    /// Keeps `leaf`, which is in memory, there until [`Map::unpin`].
    pub(crate) fn pin(&mut self, leaf: u64) {
        self.nodes
            .get_mut(&NodeKey::leaf(leaf))
            .expect("leaves are in memory before they are pinned")
            .pins += 1;
    }

    /// Ends a [`Map::pin`].
    pub(crate) fn unpin(&mut self, leaf: u64) {
        let node = self.nodes.get_mut(&NodeKey::leaf(leaf)).expect("a pinned leaf stays in memory");
        assert!(node.pins > 0, "a leaf is unpinned as often as it was pinned");
        node.pins -= 1;
    }

    /// Drops `leaf` from memory if it is clean, not pinned and was not used since the last call.
    pub(crate) fn evict(&mut self, leaf: u64) -> Evicted {
        let key = NodeKey::leaf(leaf);
        let Some(node) = self.nodes.get_mut(&key) else { return Evicted::Gone };
        if node.dirty || node.writing || node.pins > 0 || node.referenced {
            node.referenced = false;
            return Evicted::Kept;
        }
        self.nodes.remove(&key);
        Evicted::Gone
    }

    /// The first leaf that exists from `from` on.
    pub(crate) fn next_leaf(&self, from: u64) -> Next {
        if self.covers(from) { self.next_under(self.root_key(), from) } else { Next::End }
    }

    fn next_under(&self, key: NodeKey, from: u64) -> Next {
        if key.level() == 0 {
            return Next::Leaf(key.index());
        }
        let Some(node) = self.nodes.get(&key) else {
            return Next::Load(ToLoad { key, entry: self.slot(key) });
        };
        for slot in key.first_slot_for(from)..FAN_OUT {
            if node.entries[slot].location == Location::NONE {
                continue;
            }
            match self.next_under(key.child(slot), from) {
                Next::End => {}
                found => return found,
            }
        }
        Next::End
    }
}

/// What became of a leaf that was to leave memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evicted {
    /// It is not in memory.
    Gone,
    /// It has to stay for now.
    Kept,
}

/// The entry of a block in its leaf.
pub(crate) fn slot_of(address: BlockAddress) -> usize {
    usize::from(address.0.to_le_bytes()[0])
}
