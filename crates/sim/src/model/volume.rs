//! The model of one volume or snapshot.

use super::Sanitizing;
use super::cell::{Candidate, Time};
use super::world::{WriteState, Writes, name};
use super::{NOTHING, Violation, VolumeId};
use crate::content::{Content, SECTOR, WriteId};
use crate::disk::Crash;
use std::collections::BTreeMap;
use std::ops::Range;

/// Whether a volume exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Its creation or deletion got no answer.
    Uncertain,
    /// It exists.
    Certain,
}

/// The model of one volume or snapshot.
pub struct VolumeModel {
    /// Its identity.
    pub id: VolumeId,
    /// Size in bytes that was last acknowledged.
    pub size_bytes: u64,
    /// Size of a resize in progress, otherwise the same.
    pub size_bytes_max: u64,
    /// True for `cache=buffered`.
    pub buffered: bool,
    /// True for snapshots.
    pub frozen: bool,
    /// Whether it exists.
    pub presence: Presence,
    /// True if it never was the source or the result of a snapshot or clone.
    pub alone: bool,
    /// For a snapshot: those taken at the same instant have the same.
    pub(super) group: Option<Time>,
    /// True if it was the source or the destination of a copy.
    pub(super) copied: bool,
    /// There while it is being sanitized, or may be, or could not be.
    pub sanitizing: Option<Sanitizing>,
    /// Killed candidates return after a crash of the machine, unless their killer is durable or flushed.
    pub forgetful: bool,
    pub(super) flushed_at: Time,
    /// The only candidate of each sector that is not in `cells`.
    pub(super) base: Vec<WriteId>,
    pub(super) cells: BTreeMap<u32, Vec<Candidate>>,
}

impl VolumeModel {
    pub(super) fn new(id: VolumeId, size_bytes: u64, buffered: bool) -> Self {
        Self {
            id,
            size_bytes,
            size_bytes_max: size_bytes,
            buffered,
            frozen: false,
            presence: Presence::Uncertain,
            alone: true,
            group: None,
            copied: false,
            sanitizing: None,
            forgetful: buffered,
            flushed_at: 0,
            base: vec![NOTHING; size_bytes as usize / SECTOR],
            cells: BTreeMap::new(),
        }
    }

    /// True if its blocks may be others' too.
    #[must_use]
    pub fn may_share(&self) -> bool {
        self.copied || !self.alone
    }

    /// Size in sectors.
    #[must_use]
    pub fn sectors(&self) -> u32 {
        (self.size_bytes / SECTOR as u64) as u32
    }

    /// What was taken of this volume between `start` and `now`.
    pub(super) fn fork(&self, id: VolumeId, start: Time, now: Time, frozen: bool, buffered: bool) -> Self {
        let keep = |candidate: &Candidate| {
            let visible = candidate.visible_since(start);
            (visible || self.forgetful).then(|| Candidate {
                limit: candidate.limit.min(now),
                killed: if visible { None } else { candidate.killed },
                ..*candidate
            })
        };
        let cells = self.cells.iter().map(|(&sector, cell)| (sector, cell.iter().filter_map(keep).collect()));
        Self {
            id,
            size_bytes: self.size_bytes,
            size_bytes_max: self.size_bytes_max,
            buffered,
            frozen,
            presence: Presence::Uncertain,
            alone: false,
            group: None,
            copied: self.copied,
            sanitizing: None,
            forgetful: self.forgetful || buffered,
            flushed_at: self.flushed_at,
            base: self.base.clone(),
            cells: cells.collect(),
        }
    }

    pub(super) fn begin_resize(&mut self, size_bytes: u64) {
        self.size_bytes_max = size_bytes;
        self.base.resize(size_bytes as usize / SECTOR, NOTHING);
    }

    /// True if a resize is under way, or failed so that nobody knows.
    #[must_use]
    pub fn is_resizing(&self) -> bool {
        self.size_bytes != self.size_bytes_max
    }

    /// True if it may have this size.
    #[must_use]
    pub fn may_have_size(&self, size_bytes: u64) -> bool {
        size_bytes == self.size_bytes || size_bytes == self.size_bytes_max
    }

    pub(super) fn observe_size(&mut self, size_bytes: u64) -> Result<(), Violation> {
        if !self.may_have_size(size_bytes) {
            let (id, expected) = (name(&self.id), self.size_bytes);
            return Err(Violation(format!("volume {id} has {size_bytes} bytes, not {expected}")));
        }
        (self.size_bytes, self.size_bytes_max) = (size_bytes, size_bytes);
        self.base.resize(size_bytes as usize / SECTOR, NOTHING);
        Ok(())
    }

    /// The candidates of `sector`.
    pub(super) fn candidates(&self, sector: u32) -> Vec<Candidate> {
        match self.cells.get(&sector) {
            Some(cell) => cell.clone(),
            None => vec![Candidate::new(self.base[sector as usize])],
        }
    }

    /// What `sector` certainly holds, if that is certain.
    pub(super) fn certain(&self, sector: u32, writes: &Writes) -> Option<Content> {
        let Some(cell) = self.cells.get(&sector) else {
            return self.base.get(sector as usize).and_then(|&write| writes.content(write, sector));
        };
        let alive = cell.iter().filter(|candidate| candidate.killed.is_none());
        let mut contents = alive.map(|candidate| writes.content(candidate.write, sector));
        let first = contents.next()??;
        contents.all(|other| other == Some(first)).then_some(first)
    }

    pub(super) fn add(&mut self, write: WriteId, sectors: Range<u32>) {
        for sector in sectors {
            let base = self.base[sector as usize];
            let cell = self.cells.entry(sector).or_insert_with(|| vec![Candidate::new(base)]);
            cell.push(Candidate::new(write));
        }
    }

    pub(super) fn ack(&mut self, write: WriteId, now: Time, writes: &Writes) {
        let start = writes.of(write).start;
        self.edit(write, writes, |cell| {
            for candidate in cell.iter_mut() {
                let other = writes.of(candidate.write);
                let ended = other.end.min(candidate.limit).min(other.swaps_after) < start;
                if candidate.write != write && ended && candidate.killed.is_none() {
                    candidate.killed = Some((write, now));
                }
            }
        });
    }

    /// `write` was a compare-and-write that found what was there since `found_until`: acknowledged writes that
    /// began later came after it.
    pub(super) fn ack_swap(&mut self, write: WriteId, found_until: Time, now: Time, writes: &Writes) {
        self.edit(write, writes, |cell| {
            // Of what came with a clone it is not known whether it did.
            let own = cell.iter().filter(|candidate| candidate.limit == Time::MAX);
            let later = own.map(|candidate| candidate.write).find(|&other| {
                let of = writes.of(other);
                other != write && of.state == WriteState::Acked && of.start > found_until
            });
            let Some(later) = later else { return };
            for candidate in cell.iter_mut().filter(|candidate| candidate.write == write) {
                candidate.killed = candidate.killed.or(Some((later, now)));
            }
        });
    }

    /// Nothing of `write` may be seen any more.
    pub(super) fn withdraw(&mut self, write: WriteId, writes: &Writes) {
        self.edit(write, writes, |cell| cell.retain(|candidate| candidate.write != write));
    }

    fn edit(&mut self, write: WriteId, writes: &Writes, mut edit: impl FnMut(&mut Vec<Candidate>)) {
        let range = writes.of(write).first..writes.of(write).first + writes.of(write).count;
        for (_, cell) in self.cells.range_mut(range) {
            edit(cell);
        }
    }

    /// True if `killer` is on stable storage for certain.
    fn secured(&self, killer: WriteId, writes: &Writes) -> bool {
        let write = writes.of(killer);
        write.state == WriteState::Acked && (write.durable || write.end < self.flushed_at)
    }

    /// What a crash leaves. A process crash loses nothing that was acknowledged; but if the machine crashes
    /// before the pool was opened again, what was not flushed is lost all the same.
    pub(super) fn crash(&mut self, crash: Crash, now: Time, writes: &Writes) {
        let cells = std::mem::take(&mut self.cells);
        for (sector, cell) in cells {
            let left = cell.into_iter().filter_map(|candidate| {
                let limit = candidate.limit.min(now);
                match candidate.killed {
                    None => Some(Candidate { limit, ..candidate }),
                    Some((killer, _)) if !self.forgetful || self.secured(killer, writes) => None,
                    Some(_) if crash == Crash::Machine => {
                        Some(Candidate { limit, killed: None, ..candidate })
                    }
                    Some(_) => Some(Candidate { limit, ..candidate }),
                }
            });
            let left = left.collect();
            self.set(sector, left);
        }
    }

    /// Sets the candidates of `sector`.
    pub(super) fn set(&mut self, sector: u32, cell: Vec<Candidate>) {
        match cell.as_slice() {
            [only] => {
                self.base[sector as usize] = only.write;
                self.cells.remove(&sector);
            }
            _ => {
                self.cells.insert(sector, cell);
            }
        }
    }

    /// Forgets candidates that can be found no more: those killed before `horizon`, the start of the oldest
    /// operation, unless a crash may bring them back.
    pub(super) fn purge(&mut self, horizon: Time, writes: &Writes) {
        for (sector, cell) in std::mem::take(&mut self.cells) {
            let keep = |candidate: &Candidate| match candidate.killed {
                None => true,
                Some((killer, at)) => at >= horizon || (self.forgetful && !self.secured(killer, writes)),
            };
            let cell: Vec<_> = cell.into_iter().filter(keep).collect();
            let settled = matches!(cell.as_slice(), [only] if writes.content(only.write, sector).is_some()
                && (writes.of(only.write).state == WriteState::Acked || only.limit != Time::MAX));
            if settled {
                self.set(sector, cell);
            } else {
                self.cells.insert(sector, cell);
            }
        }
    }
}
