//! What reads may find.

use super::cell::{Candidate, Time};
use super::volume::VolumeModel;
use super::world::{Model, WriteState, Writes, name};
use super::{Violation, VolumeId};
use crate::content::{Content, SECTOR, WriteId, content};
use std::collections::BTreeSet;

/// Sectors of one 4 KiB block.
const BLOCK_SECTORS: u32 = 8;

/// A block of zeros.
static ZEROS: [u8; 4096] = [0; 4096];

/// A sector that was read: its number, and the candidates that it may be.
pub(super) struct Found {
    pub(super) sector: u32,
    read: Content,
    pub(super) matches: Vec<Candidate>,
}

impl Model {
    /// One read of `data` at `first` that began at `start` ended now.
    ///
    /// # Errors
    /// The data is not what a linearizable disk returns, or blocks or atomic writes are torn.
    pub fn observe_read(
        &mut self,
        id: &VolumeId,
        first: u32,
        data: &[u8],
        start: Time,
    ) -> Result<(), Violation> {
        if let Some(volume) = self.volumes.get(id) {
            let found = volume.find(first, data, start, &self.writes)?;
            volume.check_atomic(&found, &self.writes)?;
        }
        self.observe_reads(id, first, data, start)
    }

    /// As [`Model::observe_read`], for what was read by several reads.
    ///
    /// # Errors
    /// As [`Model::observe_read`], but for atomic writes of which one read has seen a part and another one not.
    pub fn observe_reads(
        &mut self,
        id: &VolumeId,
        first: u32,
        data: &[u8],
        start: Time,
    ) -> Result<(), Violation> {
        let now = self.tick();
        let Some(volume) = self.volumes.get_mut(id) else { return Ok(()) };
        let found = volume.find(first, data, start, &self.writes)?;
        for block in found.chunk_by(|a, b| a.sector / BLOCK_SECTORS == b.sector / BLOCK_SECTORS) {
            volume.check_whole(block, &self.writes)?;
        }
        for sector in &found {
            volume.learn(sector, start, now, &self.writes);
            settle(sector, &mut self.writes);
        }
        Ok(())
    }

    /// All of the volume was read after a crash: what was found is all that may be found from now on.
    ///
    /// # Errors
    /// As [`Model::observe_read`]; for snapshots also content that never was together.
    pub fn observe_all(&mut self, id: &VolumeId, data: &[u8]) -> Result<(), Violation> {
        let start = self.tick();
        let Some(volume) = self.volumes.get_mut(id) else { return Ok(()) };
        let found = volume.find(0, data, start, &self.writes)?;
        for block in found.chunk_by(|a, b| a.sector / BLOCK_SECTORS == b.sector / BLOCK_SECTORS) {
            volume.check_whole(block, &self.writes)?;
        }
        volume.check_atomic(&found, &self.writes)?;
        if volume.frozen && !volume.forgetful {
            volume.check_consistent(&found, &self.writes)?;
            self.groups.check(volume, &found, &self.writes)?;
        }
        for sector in &found {
            // Zeros may come from several writes: which one it was stays open.
            let settled = |candidate: &Candidate| Candidate { killed: None, limit: start, ..*candidate };
            volume.set(sector.sector, sector.matches.iter().map(settled).collect());
            settle(sector, &mut self.writes);
        }
        Ok(())
    }

    /// The compare-and-write `write`, begun at `start`, found `expected` in its range and was acknowledged.
    ///
    /// # Errors
    /// It cannot have found that.
    pub fn ack_swap(
        &mut self,
        id: &VolumeId,
        write: WriteId,
        expected: &[u8],
        start: Time,
    ) -> Result<(), Violation> {
        let Some(volume) = self.volumes.get(id) else { return Ok(()) };
        let first = self.writes.of(write).first;
        volume.find(first, expected, start, &self.writes)?;
        // What began after the expected content was there came after the swap, or the swap had not found it.
        let found_until = volume.newest_end(first, expected, &self.writes);
        self.writes.0[write.0 as usize].swaps_after = found_until;
        self.ack_write(id, write);
        if let Some(volume) = self.volumes.get_mut(id) {
            volume.ack_swap(write, found_until, self.clock, &self.writes);
        }
        Ok(())
    }

    /// A compare-and-write since `start` said that the byte at `offset` of the range differs from `expected`.
    ///
    /// # Errors
    /// It cannot have differed.
    pub fn observe_difference(
        &mut self,
        id: &VolumeId,
        first: u32,
        expected: &[u8],
        offset: u64,
        start: Time,
    ) -> Result<(), Violation> {
        let Some(volume) = self.volumes.get(id) else { return Ok(()) };
        let index = offset as usize / SECTOR;
        let sector = first + index as u32;
        let Some(bytes) = expected.get(index * SECTOR..(index + 1) * SECTOR) else {
            return Err(Violation(format!("a difference at {offset}, outside the range")));
        };
        let expected = content(bytes);
        let mut candidates = volume.candidates(sector).into_iter();
        let differs = candidates.any(|candidate| {
            let contents = self.writes.contents(candidate.write, sector);
            candidate.visible_since(start) && contents.iter().any(|content| *content != expected)
        });
        let id = name(id);
        if differs { Ok(()) } else { Err(Violation(format!("volume {id} sector {sector}: no difference"))) }
    }

    /// Forgets what no running operation, the oldest of which began at `horizon`, can see any more.
    pub fn purge(&mut self, horizon: Time) {
        for volume in self.volumes.values_mut() {
            volume.purge(horizon, &self.writes);
        }
    }

    /// Blocks of 4 KiB that certainly hold something else than zeros, if all content is certain.
    #[must_use]
    pub fn blocks_in_use(&self, id: &VolumeId) -> Option<u64> {
        let volume = self.volumes.get(id)?;
        let sectors: Option<Vec<_>> =
            (0..volume.sectors()).map(|sector| volume.certain(sector, &self.writes)).collect();
        let in_use = |block: &&[Content]| block.iter().any(|&content| content != Content::Zeros);
        Some(sectors?.chunks(BLOCK_SECTORS as usize).filter(in_use).count() as u64)
    }

    /// Fills `bytes` with what the sectors from `first` on certainly hold; false if that is not certain.
    #[must_use]
    pub fn expected(&self, id: &VolumeId, first: u32, bytes: &mut [u8]) -> bool {
        let Some(volume) = self.volumes.get(id) else { return false };
        for (sector, bytes) in (first..).zip(bytes.chunks_mut(SECTOR)) {
            match volume.certain(sector, &self.writes) {
                Some(Content::Stamp { write, sector }) => crate::content::fill(bytes, write, sector),
                Some(_) => bytes.fill(0),
                None => return false,
            }
        }
        true
    }
}

/// What was found is what a copy made of the sector, if it was that.
fn settle(found: &Found, writes: &mut Writes) {
    if let [only] = found.matches.as_slice() {
        writes.settle(only.write, found.sector, found.read);
    }
}

impl VolumeModel {
    /// Which candidates visible since `start` each sector of `data` may be. Blocks that certainly hold what they
    /// hold, and do, are left out.
    fn find(&self, first: u32, data: &[u8], start: Time, writes: &Writes) -> Result<Vec<Found>, Violation> {
        let mut found = Vec::new();
        let end = first + (data.len() / SECTOR) as u32;
        let mut sector = first;
        while sector < end {
            let next = end.min((sector / BLOCK_SECTORS + 1) * BLOCK_SECTORS);
            let range = (sector - first) as usize * SECTOR..(next - first) as usize * SECTOR;
            let bytes = data.get(range).unwrap_or_default();
            if self.cells.range(sector..next).next().is_none() {
                self.find_certain(sector, bytes, writes)?;
            } else {
                for (sector, bytes) in (sector..next).zip(bytes.chunks(SECTOR)) {
                    found.push(self.find_one(sector, content(bytes), start, writes)?);
                }
            }
            sector = next;
        }
        Ok(found)
    }

    fn find_certain(&self, first: u32, data: &[u8], writes: &Writes) -> Result<(), Violation> {
        let base = self.base.get(first as usize..).unwrap_or_default();
        if data == &ZEROS[..data.len()]
            && base.iter().take(data.len() / SECTOR).all(|&write| writes.of(write).zeros)
        {
            return Ok(());
        }
        for (sector, bytes) in (first..).zip(data.chunks(SECTOR)) {
            let read = content(bytes);
            if !writes.may_be(self.base[sector as usize], sector, read) {
                return Err(self.wrong(sector, read, writes));
            }
        }
        Ok(())
    }

    fn find_one(&self, sector: u32, read: Content, start: Time, writes: &Writes) -> Result<Found, Violation> {
        let fits = |candidate: &Candidate| {
            candidate.visible_since(start) && writes.may_be(candidate.write, sector, read)
        };
        let matches: Vec<_> = self.candidates(sector).into_iter().filter(fits).collect();
        if matches.is_empty() {
            return Err(self.wrong(sector, read, writes));
        }
        Ok(Found { sector, read, matches })
    }

    /// When the newest of the writes that `data` may come from had ended.
    fn newest_end(&self, first: u32, data: &[u8], writes: &Writes) -> Time {
        let ends = (first..).zip(data.chunks(SECTOR)).flat_map(|(sector, bytes)| {
            let read = content(bytes);
            let fits = move |candidate: &Candidate| writes.may_be(candidate.write, sector, read);
            self.candidates(sector).into_iter().filter(fits)
        });
        ends.map(|candidate| writes.of(candidate.write).end.min(candidate.limit)).max().unwrap_or(Time::MAX)
    }

    fn wrong(&self, sector: u32, read: Content, writes: &Writes) -> Violation {
        let candidates: Vec<_> = self
            .candidates(sector)
            .iter()
            .map(|candidate| {
                format!(
                    "{}{}",
                    writes.describe(candidate.write),
                    if candidate.killed.is_some() { " killed" } else { "" }
                )
            })
            .collect();
        let read = match read {
            Content::Stamp { write, sector } if (write.0 as usize) < writes.0.len() => {
                format!("sector {sector} of {}", writes.describe(write))
            }
            other => format!("{other:?}"),
        };
        let kind = if self.frozen {
            "snapshot"
        } else if self.buffered {
            "buffered volume"
        } else {
            "volume"
        };
        let (id, block) = (name(&self.id), sector / BLOCK_SECTORS);
        Violation(format!(
            "{kind} {id} sector {sector} (block {block}): read {read}; allowed: {candidates:?}"
        ))
    }

    /// No sector of `block` may be older than a write of which another sector is seen.
    fn check_whole(&self, block: &[Found], writes: &Writes) -> Result<(), Violation> {
        for seen in block {
            let [only] = seen.matches.as_slice() else { continue };
            let newer = writes.of(only.write);
            let older = |candidate: &Candidate| {
                candidate.write != only.write
                    && writes.of(candidate.write).end.min(candidate.limit) < newer.start
            };
            for other in block.iter().filter(|other| newer.covers(other.sector)) {
                if other.matches.iter().all(older) {
                    let (id, sector, seen) = (name(&self.id), other.sector, seen.sector);
                    let newer = writes.describe(only.write);
                    let older: Vec<_> =
                        other.matches.iter().map(|older| writes.describe(older.write)).collect();
                    return Err(Violation(format!(
                        "volume {id}: block torn: sector {seen} shows {newer}, sector {sector} the older {older:?}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Of a write that is all or nothing, no sector may be older where another one is seen.
    fn check_atomic(&self, found: &[Found], writes: &Writes) -> Result<(), Violation> {
        let certain = found.iter().filter_map(|found| match found.matches.as_slice() {
            [only] if writes.of(only.write).whole => Some(only.write),
            _ => None,
        });
        for seen in certain.collect::<BTreeSet<_>>() {
            let newer = writes.of(seen);
            let older = |candidate: &Candidate| {
                candidate.write != seen && writes.of(candidate.write).end.min(candidate.limit) < newer.start
            };
            let mut covered = found.iter().filter(|found| newer.covers(found.sector));
            if let Some(torn) = covered.find(|found| found.matches.iter().all(older)) {
                let (id, newer) = (name(&self.id), writes.describe(seen));
                let sector = torn.sector;
                return Err(Violation(format!(
                    "volume {id}: the atomic {newer} is torn: sector {sector} is older"
                )));
            }
        }
        Ok(())
    }

    /// A snapshot that holds a write holds all that were acknowledged before that write began.
    fn check_consistent(&self, found: &[Found], writes: &Writes) -> Result<(), Violation> {
        let starts = found.iter().filter(|found| found.matches.len() == 1);
        let newest = starts.map(|found| writes.of(found.matches[0].write).start).max().unwrap_or(0);
        for seen in found {
            let Some(cell) = self.cells.get(&seen.sector) else { continue };
            // A candidate limited to before `newest` came with a clone, which need not have caught it.
            let reachable = cell.iter().filter(|candidate| candidate.limit >= newest);
            let missing = reachable.map(|candidate| candidate.write).find(|&write| {
                let write = writes.of(write);
                let before = |candidate: &Candidate| writes.of(candidate.write).end < write.start;
                write.state == WriteState::Acked && write.end < newest && seen.matches.iter().all(before)
            });
            if let Some(missing) = missing {
                let (id, sector) = (name(&self.id), seen.sector);
                return Err(Violation(format!(
                    "snapshot {id} has a write begun at {newest}, but sector {sector} lacks the earlier write {}",
                    missing.0
                )));
            }
        }
        Ok(())
    }

    /// A read that began at `start` found `found`: what ended before it and is something else came earlier.
    fn learn(&mut self, found: &Found, start: Time, now: Time, writes: &Writes) {
        let [only] = found.matches.as_slice() else { return };
        let Some(cell) = self.cells.get_mut(&found.sector) else { return };
        for candidate in cell.iter_mut() {
            let write = writes.of(candidate.write);
            let over = self.frozen
                || candidate.limit < start
                || (write.end < start && write.state == WriteState::Acked);
            if candidate.write != only.write && over && candidate.killed.is_none() {
                candidate.killed = Some((only.write, now));
            }
        }
    }
}
