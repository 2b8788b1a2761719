//! Resolved views: for a leaf, what a stack of frozen layers reads as, so that its height costs nothing.
//!
//! A view is made of what is in memory when blocks are looked up below a volume's own layer, and of the view of the layer
//! below, if there is one: a new snapshot costs one step for each leaf, not all steps again. It goes when an entry of a
//! frozen layer in this leaf changes its place. Views take their memory from that for map nodes, at most the half.

use crate::format::node::{Entry, FAN_OUT};
use crate::format::{LayerId, Location};
use crate::map::{Entries, FastHash, Find, NodeKey};
use crate::number::wide;
use crate::state::{Needed, State};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Of so many nodes in memory one may be a view.
const VIEWS_PART: u64 = 2;
/// Steps of the clock for a new view, before the next one goes whether it was used or not.
const STEPS_MAX: u32 = 64;

/// What layer `base` and those below it read as in one leaf.
struct View {
    base: LayerId,
    entries: Arc<Entries>,
    /// Used since the clock's hand came by.
    referenced: bool,
}

/// All views.
#[derive(Default)]
pub(crate) struct Views {
    by_leaf: HashMap<NodeKey, Vec<View>, FastHash>,
    /// In the order of the clock; some are gone.
    clock: VecDeque<(LayerId, u64)>,
    count: u64,
}

impl Views {
    /// Number of views.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    fn get(&mut self, base: LayerId, leaf: u64) -> Option<Arc<Entries>> {
        let views = self.by_leaf.get_mut(&NodeKey::leaf(leaf))?;
        let view = views.iter_mut().find(|view| view.base == base)?;
        view.referenced = true;
        Some(Arc::clone(&view.entries))
    }

    fn insert(&mut self, base: LayerId, leaf: u64, entries: Arc<Entries>, views_max: u64) {
        let view = View { base, entries, referenced: false };
        self.by_leaf.entry(NodeKey::leaf(leaf)).or_default().push(view);
        self.clock.push_back((base, leaf));
        self.count += 1;
        let mut step = 0;
        while self.count > views_max || (wide(self.clock.len()) > 2 * self.count + 64 && step < STEPS_MAX) {
            // Those that were used have another round, but nobody waits for all to have theirs.
            self.turn(views_max, step >= STEPS_MAX);
            step += 1;
        }
    }

    /// The clock's hand moves by one.
    fn turn(&mut self, views_max: u64, at_once: bool) {
        let Some((base, leaf)) = self.clock.pop_front() else { return };
        let key = NodeKey::leaf(leaf);
        let Some(views) = self.by_leaf.get_mut(&key) else { return };
        let Some(at) = views.iter().position(|view| view.base == base) else { return };
        let used = std::mem::take(&mut views[at].referenced) && !at_once;
        if self.count <= views_max || used {
            self.clock.push_back((base, leaf));
            return;
        }
        views.swap_remove(at);
        self.count -= 1;
        if views.is_empty() {
            self.by_leaf.remove(&key);
        }
    }

    /// An entry of a frozen layer has changed in `leaf`.
    pub(crate) fn forget(&mut self, leaf: u64) {
        if self.count > 0
            && let Some(views) = self.by_leaf.remove(&NodeKey::leaf(leaf))
        {
            self.count -= wide(views.len());
        }
    }
}

impl State {
    /// What has a say in `slots` of `leaf`, as seen from layer `top`, topmost first: its own leaf, and a view of what is
    /// below.
    ///
    /// # Errors
    /// The node that has to be loaded to know.
    pub(crate) fn views(
        &mut self,
        top: LayerId,
        leaf: u64,
        slots: Range<usize>,
    ) -> std::result::Result<Vec<Arc<Entries>>, Needed> {
        let mut found = Vec::with_capacity(2);
        let Some(layer) = self.layers.get_mut(&top) else { return Ok(found) };
        let mut base = Some(top);
        if !layer.record.frozen {
            base = layer.parent;
            if let Some(entries) = layer.map.leaf(leaf) {
                found.push(Arc::clone(entries));
            } else if let Find::Load(load) = layer.map.find(leaf) {
                return Err(Needed { layer: top, load });
            }
        }
        if let Some(base) = base.filter(|_| !slots.clone().all(|slot| is_decided(&found, slot))) {
            self.view_below(base, leaf, slots, &mut found)?;
        }
        Ok(found)
    }

    /// Adds what frozen layer `base` and those below it say to what was `found` above them.
    fn view_below(
        &mut self,
        base: LayerId,
        leaf: u64,
        slots: Range<usize>,
        found: &mut Vec<Arc<Entries>>,
    ) -> std::result::Result<(), Needed> {
        if let Some(view) = self.views.get(base, leaf) {
            found.push(view);
            return Ok(());
        }
        let above = found.len();
        let mut at = Some(base);
        while let Some(id) = at {
            let below = if id == base { None } else { self.views.get(id, leaf) };
            if let Some(view) = below {
                found.push(view);
                break;
            }
            let Some(layer) = self.layers.get_mut(&id) else { break };
            at = layer.parent;
            if let Some(entries) = layer.map.leaf(leaf) {
                found.push(Arc::clone(entries));
            } else if let Find::Load(load) = layer.map.find(leaf) {
                // No more is read than is asked for; a view is made when all is there.
                return match slots.clone().all(|slot| is_decided(found, slot)) {
                    true => Ok(()),
                    false => Err(Needed { layer: id, load }),
                };
            }
        }
        let view = merged(&found[above..]);
        found.truncate(above);
        found.push(Arc::clone(&view));
        let views_max = (self.nodes_max / VIEWS_PART).max(1);
        self.views.insert(base, leaf, view, views_max);
        Ok(())
    }
}

fn is_decided(found: &[Arc<Entries>], slot: usize) -> bool {
    found.iter().any(|entries| entries[slot].location != Location::NONE)
}

/// What leaves on top of each other, topmost first, read as.
fn merged(leaves: &[Arc<Entries>]) -> Arc<Entries> {
    if let [only] = leaves {
        return Arc::clone(only);
    }
    let mut merged = [Entry::default(); FAN_OUT];
    for leaf in leaves.iter().rev() {
        for (entry, above) in merged.iter_mut().zip(leaf.iter()) {
            if above.location != Location::NONE {
                *entry = *above;
            }
        }
    }
    Arc::new(merged)
}

/// What the topmost of `views` that knows says.
pub(crate) fn entry_in(views: &[Arc<Entries>], slot: usize) -> Entry {
    let entries = views.iter().map(|view| view[slot]);
    entries.into_iter().find(|entry| entry.location != Location::NONE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::SegmentId;

    fn leaf_with(entries: &[(usize, Location)]) -> Arc<Entries> {
        let mut leaf = [Entry::default(); FAN_OUT];
        for (slot, location) in entries {
            leaf[*slot] = Entry { location: *location, checksum: 7 };
        }
        Arc::new(leaf)
    }

    fn place(block: u32) -> Location {
        Location::new(SegmentId(4), block)
    }

    #[test]
    fn the_topmost_entry_of_each_block_is_seen() {
        let top = leaf_with(&[(1, place(1)), (2, Location::ZEROS)]);
        let below = leaf_with(&[(1, place(8)), (2, place(8)), (3, place(3))]);
        let view = merged(&[top, Arc::clone(&below)]);
        let seen = [0, 1, 2, 3].map(|slot| view[slot].location);
        assert_eq!(seen, [Location::NONE, place(1), Location::ZEROS, place(3)]);
        assert!(Arc::ptr_eq(&merged(std::slice::from_ref(&below)), &below), "one leaf is its own view");
        assert_eq!(merged(&[])[0], Entry::default());
    }

    #[test]
    fn views_of_a_leaf_go_together_and_those_of_others_stay() {
        let mut views = Views::default();
        for (base, leaf) in [(1, 5), (2, 5), (1, 6)] {
            views.insert(LayerId(base), leaf, leaf_with(&[]), 10);
        }
        assert_eq!(views.count(), 3);
        views.forget(5);
        views.forget(5);
        let there = [(1, 5), (2, 5), (1, 6)].map(|(base, leaf)| views.get(LayerId(base), leaf).is_some());
        assert_eq!((there, views.count()), ([false, false, true], 1));
    }

    #[test]
    fn the_ones_not_used_go_first_when_there_are_too_many() {
        let mut views = Views::default();
        for leaf in 0..4 {
            views.insert(LayerId(1), leaf, leaf_with(&[]), 4);
        }
        assert!(views.get(LayerId(1), 0).is_some() && views.get(LayerId(1), 2).is_some());
        views.insert(LayerId(1), 4, leaf_with(&[]), 4);
        let there: Vec<_> = (0..5).filter(|leaf| views.get(LayerId(1), *leaf).is_some()).collect();
        assert_eq!((there, views.count()), (vec![0, 2, 3, 4], 4));
        for round in 0..1000 {
            views.insert(LayerId(2), 10 + round % 3, leaf_with(&[]), 4);
            views.forget(10 + round % 3);
        }
        assert!(views.clock.len() < 100, "what is gone leaves the clock, too");
    }
}
