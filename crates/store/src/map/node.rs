//! A map node in memory.

use crate::format::Location;
use crate::format::node::{Entry, FAN_OUT};
use std::ops::Range;
use std::sync::Arc;

/// The entries of a node.
pub(crate) type Entries = [Entry; FAN_OUT];

/// A node in memory. Its entries are shared with a checkpoint that writes it, and copied when changed meanwhile.
pub(super) struct MapNode {
    pub(super) entries: Arc<Entries>,
    /// Where the newest written copy is, if there is one.
    pub(super) home: Location,
    /// Entries that are not "none".
    used: u16,
    /// Changed since the last cut.
    pub(super) dirty: bool,
    /// Part of a cut that is being written.
    pub(super) writing: bool,
    /// Who needs it in memory.
    pub(super) pins: u32,
    /// Used since the clock's hand came by.
    pub(super) referenced: bool,
}

impl MapNode {
    pub(super) fn empty() -> Self {
        Self::with(Location::NONE, Arc::new([Entry::default(); FAN_OUT]))
    }

    pub(super) fn loaded(home: Location, entries: Box<Entries>) -> Self {
        Self::with(home, Arc::from(entries))
    }

    fn with(home: Location, entries: Arc<Entries>) -> Self {
        let used = entries.iter().filter(|entry| entry.location != Location::NONE).count();
        let used = u16::try_from(used).unwrap_or(u16::MAX);
        Self { entries, home, used, dirty: false, writing: false, pins: 0, referenced: true }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(super) fn set(&mut self, slot: usize, entry: Entry) {
        self.edit(slot..slot + 1, &mut |_, old| *old = entry);
    }

    pub(super) fn edit(&mut self, slots: Range<usize>, change: &mut impl FnMut(usize, &mut Entry)) {
        let entries = Arc::make_mut(&mut self.entries);
        for slot in slots {
            let entry = &mut entries[slot];
            let before = entry.location != Location::NONE;
            change(slot, entry);
            match (before, entry.location != Location::NONE) {
                (false, true) => self.used += 1,
                (true, false) => self.used -= 1,
                _ => {}
            }
        }
    }
}
