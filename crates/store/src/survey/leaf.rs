//! Counting one leaf of a tree of layers: which block versions are seen by whom.

use super::tree::{Counts, Tree};
use crate::format::Location;
use crate::format::node::FAN_OUT;
use crate::map::Entries;
use std::sync::Arc;

/// No layer has the block.
const NOBODY: usize = usize::MAX;

/// For each block of the leaf, the layer whose entry is seen.
type View = [usize; FAN_OUT];

/// Who sees an entry.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// How many do.
    count: usize,
    /// The last of them.
    last: usize,
    /// A volume is among them.
    by_volume: bool,
    /// They answer to several volumes.
    by_several: bool,
}

/// Adds to `counts` what a leaf holds; `own` are the entries that each layer of the tree has of it.
pub(super) fn count(tree: &Tree, own: &[Option<Arc<Entries>>], counts: &mut Counts) {
    let (views, view_of) = views(tree, own);
    let mut seen = vec![[Seen::default(); FAN_OUT]; own.len()];
    for (number, top) in tree.tops.iter().enumerate() {
        let Some(view) = view_of.get(top.layer).and_then(|at| views.get(*at)) else { continue };
        for (slot, layer) in view.iter().enumerate() {
            let Some(entry) = seen.get_mut(*layer).and_then(|slots| slots.get_mut(slot)) else { continue };
            if !location(own, *layer, slot).is_mapped() {
                continue;
            }
            if let Some(mapped) = counts.mapped.get_mut(number) {
                *mapped += 1;
            }
            entry.by_several |= entry.count > 0 && tree.owner(entry.last) != tree.owner(number);
            *entry = Seen {
                count: entry.count + 1,
                last: number,
                by_volume: entry.by_volume || !top.frozen,
                by_several: entry.by_several,
            };
        }
    }
    for (layer, slots) in seen.iter().enumerate() {
        for (slot, seen) in slots.iter().enumerate() {
            if location(own, layer, slot).is_place() {
                counts.add_block(tree, *seen);
            }
        }
    }
}

fn location(own: &[Option<Arc<Entries>>], layer: usize, slot: usize) -> Location {
    let entries = own.get(layer).and_then(Option::as_ref);
    entries.and_then(|entries| entries.get(slot)).map_or(Location::NONE, |entry| entry.location)
}

/// What each layer sees: the different views, and which of them is which layer's. Parents come before their children.
fn views(tree: &Tree, own: &[Option<Arc<Entries>>]) -> (Vec<View>, Vec<usize>) {
    let mut views = vec![[NOBODY; FAN_OUT]];
    let mut view_of: Vec<usize> = Vec::with_capacity(own.len());
    for (number, entries) in own.iter().enumerate() {
        let parent = tree.layers.get(number).and_then(|layer| layer.parent);
        let below = parent.and_then(|parent| view_of.get(parent).copied()).unwrap_or(0);
        let Some(entries) = entries else {
            view_of.push(below);
            continue;
        };
        let mut view = views.get(below).copied().unwrap_or([NOBODY; FAN_OUT]);
        for (place, entry) in view.iter_mut().zip(entries.iter()) {
            if entry.location != Location::NONE {
                *place = number;
            }
        }
        view_of.push(views.len());
        views.push(view);
    }
    (views, view_of)
}

impl Counts {
    fn add_block(&mut self, tree: &Tree, seen: Seen) {
        if seen.count == 0 {
            self.stranded += 1;
            return;
        }
        if seen.count > 1 {
            self.shared += 1;
        } else if let Some(unique) = self.unique.get_mut(seen.last) {
            *unique += 1;
        }
        if seen.by_volume {
            self.volumes += 1;
            return;
        }
        self.snapshots += 1;
        if !seen.by_several {
            *self.snapshots_of.entry(tree.owner(seen.last)).or_default() += 1;
        }
    }
}
