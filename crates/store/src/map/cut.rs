//! A consistent cut of a map for a checkpoint.
//!
//! The cut is taken under the engine's lock: leaves are shared as they are, empty nodes go, and the map starts a
//! new list of changes. Then nodes are written level by level; each gets its place with [`Map::assign`], which
//! tells the parent. The parents are inner nodes, which nobody else changes meanwhile, except that new children
//! may appear in them: those are not part of the cut and are left out of what is written.

use super::{Entries, Entry, IN_MEMORY, Location, Map, NodeKey};
use std::sync::Arc;

/// A node of a cut.
pub(crate) struct CutNode {
    pub(crate) key: NodeKey,
    /// A leaf's entries as of the cut; an inner node's are taken when its children have their places.
    leaf: Option<Arc<Entries>>,
}

/// A map at one moment.
pub(crate) struct MapCut {
    /// What has to be written, lower levels first.
    pub(crate) nodes: Vec<CutNode>,
    /// Places of nodes that went away.
    pub(crate) freed: Vec<Location>,
    /// The root; its place is right once all nodes have theirs.
    pub(crate) root: Entry,
    /// The root's level.
    pub(crate) root_level: u8,
    /// Nodes of the map.
    pub(crate) count: u64,
}

impl Map {
    /// Takes a cut.
    pub(crate) fn cut(&mut self) -> MapCut {
        let mut keys = std::mem::take(&mut self.dirty);
        keys.sort_unstable();
        let mut nodes = Vec::with_capacity(keys.len());
        let mut freed = Vec::new();
        let mut kept = Vec::new();
        for key in keys {
            let node = self.nodes.get_mut(&key).expect("dirty nodes are in memory");
            assert!(node.dirty && !node.writing, "one cut at a time");
            node.dirty = false;
            // An empty node that someone holds is written all the same if an older copy of it is on disk:
            // that copy must not come back.
            if !node.is_empty() || (node.pins > 0 && node.home.is_place()) {
                node.writing = true;
                let leaf = (key.level() == 0).then(|| Arc::clone(&node.entries));
                nodes.push(CutNode { key, leaf });
            } else if node.pins > 0 {
                kept.push(key);
            } else {
                freed.extend(Some(node.home).filter(|home| home.is_place()));
                self.remove(key);
            }
        }
        let never_written = u64::try_from(kept.len()).unwrap_or(0);
        let count = self.count - never_written;
        let cut = MapCut { nodes, freed, root: self.root, root_level: self.root_level, count };
        for key in kept {
            self.mark_dirty(key);
        }
        cut
    }

    /// Removes an empty node, of which no descendant is left.
    fn remove(&mut self, key: NodeKey) {
        self.nodes.remove(&key);
        self.count -= 1;
        if key == self.root_key() {
            self.root = Entry::default();
            return;
        }
        let parent = self.nodes.get_mut(&key.parent()).expect("ancestors of a node in memory are in memory");
        parent.set(key.slot(), Entry::default());
    }

    /// The entries to write for a node of the cut whose children all have their places.
    pub(crate) fn entries_of(&self, node: &CutNode) -> Arc<Entries> {
        if let Some(leaf) = &node.leaf {
            return Arc::clone(leaf);
        }
        let inner = self.nodes.get(&node.key).expect("nodes of a cut stay in memory");
        let mut entries = Arc::clone(&inner.entries);
        if entries.iter().any(|entry| entry.location == IN_MEMORY) {
            for entry in Arc::make_mut(&mut entries) {
                if entry.location == IN_MEMORY {
                    *entry = Entry::default();
                }
            }
        }
        entries
    }

    /// Gives a node of `cut` its place. Returns the former one.
    pub(crate) fn assign(&mut self, cut: &mut MapCut, key: NodeKey, place: Entry) -> Location {
        let node = self.nodes.get_mut(&key).expect("nodes of a cut stay in memory");
        assert!(node.writing, "only nodes of a cut are given places");
        let former = std::mem::replace(&mut node.home, place.location);
        if key == NodeKey::new(cut.root_level, 0) {
            cut.root = place;
        }
        if key == self.root_key() {
            self.root = place;
        } else {
            let parent =
                self.nodes.get_mut(&key.parent()).expect("ancestors of a node in memory are in memory");
            assert!(parent.entries[key.slot()].location != Location::NONE, "the parent knows its child");
            parent.set(key.slot(), place);
        }
        former
    }

    /// Ends a cut: all of it was written.
    pub(crate) fn settle(&mut self, cut: &MapCut) {
        for node in &cut.nodes {
            self.nodes.get_mut(&node.key).expect("nodes of a cut stay in memory").writing = false;
        }
    }

    /// Ends a cut that could not be written: its nodes are dirty again.
    pub(crate) fn undo(&mut self, cut: &MapCut) {
        self.settle(cut);
        for node in &cut.nodes {
            self.mark_dirty(node.key);
        }
    }
}
