//! The disks of a pool as the catalog knows them: their labels, and the copies of the catalog.

use super::medium::State;
use crate::format::DiskIndex;
use crate::format::label::Label;
use crate::format::members::MemberState;
use block::{BlockError, Disk, ErrorKind, Result};
use std::sync::Arc;

/// A disk with its label.
pub(crate) struct Leg {
    pub(crate) disk: Arc<dyn Disk>,
    /// As it is on the disk, or was before a write to it failed.
    pub(crate) label: Label,
    /// Its copy of the catalog is written and read.
    pub(crate) active: bool,
    /// It could not be written; it is left alone from then on.
    pub(crate) failed: bool,
}

impl Leg {
    /// A disk whose label says whether it has a copy of the catalog.
    pub(crate) fn new(disk: Arc<dyn Disk>, label: Label) -> Self {
        let active = label.member(label.disk_index).is_some_and(|member| member.catalog);
        Self { disk, label, active, failed: false }
    }

    /// Index of the disk.
    pub(crate) fn index(&self) -> DiskIndex {
        self.label.disk_index
    }
}

/// Changes the labels of all disks and writes them, with what they say of copies of the catalog as it is. Disks whose
/// label cannot be written take no part in the catalog any more; the labels of the others say that, too.
pub(super) fn write_labels(state: &mut State, change: impl Fn(&mut Label)) -> Result<()> {
    let mut change: Option<&dyn Fn(&mut Label)> = Some(&change);
    loop {
        let newest = state.legs.iter().filter(|leg| !leg.failed).map(|leg| leg.label.generation).max();
        let generation = newest.unwrap_or(0).max(state.tried) + 1;
        state.tried = generation;
        let active: Vec<_> = state.legs.iter().filter(|leg| leg.active).map(Leg::index).collect();
        let mut results = Vec::new();
        for leg in state.legs.iter().filter(|leg| !leg.failed) {
            let mut label = leg.label.clone();
            if let Some(change) = change {
                change(&mut label);
            }
            label.generation = generation;
            for (index, member) in (0..).map(DiskIndex).zip(&mut label.members) {
                member.catalog = active.contains(&index) && member.state.is_current();
            }
            let written = label.write(&*leg.disk);
            results.push((leg.index(), written.map(|()| label)));
        }
        let told = |(index, result): &(DiskIndex, Result<Label>)| result.is_ok() && active.contains(index);
        if !results.iter().any(told) {
            let error = results.into_iter().find_map(|(_, result)| result.err());
            let none = || BlockError::new(ErrorKind::Device, "pool", "no copy of the catalog is left");
            return Err(error.unwrap_or_else(none));
        }
        let mut all = true;
        for (index, result) in results {
            let Some(leg) = state.legs.iter_mut().find(|leg| leg.index() == index) else { continue };
            match result {
                Ok(label) => leg.label = label,
                Err(error) => {
                    tracing::error!(disk = index.0, %error, "a label cannot be written");
                    (leg.active, leg.failed, all) = (false, true, false);
                }
            }
        }
        if all {
            state.unsaid = false;
            return Ok(());
        }
        // Those that were written say so already; the next ones say which copies are left.
        change = None;
    }
}

impl super::Catalog {
    /// Disks that could not be written since they were opened.
    pub(crate) fn failed(&self) -> Vec<DiskIndex> {
        self.medium.state.lock().legs.iter().filter(|leg| leg.failed).map(Leg::index).collect()
    }

    /// True if there is a copy of the catalog on another disk than `index`.
    pub(crate) fn has_copy_without(&self, index: DiskIndex) -> bool {
        self.medium.state.lock().legs.iter().any(|leg| leg.active && leg.index() != index)
    }

    /// Disk `index` is being lost: the labels of the others say so when this returns, but for those that [`failed`]
    /// names. [`settle_losses`] has to follow before anything is acknowledged without it.
    ///
    /// [`failed`]: Self::failed
    /// [`settle_losses`]: Self::settle_losses
    ///
    /// # Errors
    /// The disk's, if the labels can be written nowhere.
    pub(crate) fn take_out(&self, index: DiskIndex) -> Result<()> {
        let mut state = self.medium.state.lock();
        state.legs.retain(|leg| leg.index() != index);
        write_labels(&mut state, |label| {
            if let Some(member) = label.members.get_mut(usize::from(index.0)) {
                member.lose(MemberState::Losing);
            }
        })
    }

    /// Each label that is left tells of the disks that are being lost: now they are.
    ///
    /// # Errors
    /// The disk's, if the labels can be written nowhere.
    pub(crate) fn settle_losses(&self) -> Result<()> {
        write_labels(&mut self.medium.state.lock(), settle)
    }
}

/// Disks that are being lost are lost.
pub(crate) fn settle(label: &mut Label) {
    for member in label.members.iter_mut().filter(|member| member.state == MemberState::Losing) {
        member.lose(MemberState::Out);
    }
}
