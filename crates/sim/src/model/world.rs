//! The model of a whole pool: its volumes and snapshots, and every write there ever was.

use super::layers::{Groups, Rollback};
use super::volume::{Presence, VolumeModel};
use super::{Time, Violation, VolumeId};
use crate::content::{Content, WriteId};
use crate::disk::Crash;
use std::collections::BTreeMap;

/// What is known of a write's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteState {
    /// No answer came yet, or none ever will.
    Flying,
    /// It was acknowledged.
    Acked,
    /// It failed, and may have happened in part.
    Failed,
}

/// A write, unmap or compare-and-write of one range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) start: Time,
    pub(super) end: Time,
    pub(super) state: WriteState,
    pub(super) durable: bool,
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) zeros: bool,
    /// It is seen and survives as a whole or not at all, not only block by block.
    pub(super) whole: bool,
    /// For an acknowledged compare-and-write: what it found was there since this moment at the latest.
    pub(super) swaps_after: Time,
}

impl Write {
    pub(super) fn covers(&self, sector: u32) -> bool {
        (self.first..self.first + self.count).contains(&sector)
    }
}

/// All writes, by number, and of those that copied, what each sector may have become.
pub(super) struct Writes(pub(super) Vec<Write>, BTreeMap<WriteId, Vec<Vec<Content>>>);

/// A copy without an answer yet: what is written to its source meanwhile may be what it copies.
struct Copying {
    write: WriteId,
    source: VolumeId,
    first: u32,
    count: u32,
    target: VolumeId,
}

impl Writes {
    pub(super) fn of(&self, id: WriteId) -> &Write {
        &self.0[id.0 as usize]
    }

    /// A write, for reports.
    pub(super) fn describe(&self, id: WriteId) -> String {
        let Write { first, count, start, end, state, zeros, .. } = self.of(id);
        let kind = match self.1.contains_key(&id) {
            true => "copy",
            false if *zeros => "zeros",
            false => "data",
        };
        format!("write {} ({kind} {first}+{count}, {state:?}, {start}..{end})", id.0)
    }

    /// What `sector` holds if `id` was the last write to it, if that is certain.
    pub(super) fn content(&self, id: WriteId, sector: u32) -> Option<Content> {
        match self.contents(id, sector)[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// All that `sector` may hold if `id` was the last write to it.
    pub(super) fn contents(&self, id: WriteId, sector: u32) -> Vec<Content> {
        let write = self.of(id);
        match self.1.get(&id) {
            Some(copied) => copied[(sector - write.first) as usize].clone(),
            None if write.zeros => vec![Content::Zeros],
            None => vec![Content::Stamp { write: id, sector }],
        }
    }

    /// True if `sector` may hold `content` if `id` was the last write to it.
    pub(super) fn may_be(&self, id: WriteId, sector: u32, content: Content) -> bool {
        match self.1.get(&id) {
            Some(copied) => copied[(sector - self.of(id).first) as usize].contains(&content),
            None if self.of(id).zeros => content == Content::Zeros,
            None => content == Content::Stamp { write: id, sector },
        }
    }

    /// The number of the next write.
    pub(super) fn next(&self) -> WriteId {
        WriteId(self.0.len() as u32)
    }

    /// What each sector of `id` may have become.
    pub(super) fn set_contents(&mut self, id: WriteId, contents: Vec<Vec<Content>>) {
        self.1.insert(id, contents);
    }

    /// `sector` was found to hold `content`, which `id` made it.
    pub(super) fn settle(&mut self, id: WriteId, sector: u32, content: Content) {
        let first = self.of(id).first;
        if let Some(copied) = self.1.get_mut(&id) {
            copied[(sector - first) as usize] = vec![content];
        }
    }
}

/// The model of a pool.
pub struct Model {
    pub(super) writes: Writes,
    pub(super) volumes: BTreeMap<VolumeId, VolumeModel>,
    pub(super) clock: Time,
    copying: Vec<Copying>,
    /// The volume of each write.
    pub(super) owners: Vec<VolumeId>,
    pub(super) groups: Groups,
    pub(super) rollbacks: Vec<Rollback>,
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    /// A pool without volumes.
    #[must_use]
    pub fn new() -> Self {
        let nothing = Write {
            start: 0,
            end: 0,
            state: WriteState::Acked,
            durable: true,
            first: 0,
            count: u32::MAX,
            zeros: true,
            whole: false,
            swaps_after: Time::MAX,
        };
        let writes = Writes(vec![nothing], BTreeMap::new());
        Self {
            writes,
            volumes: BTreeMap::new(),
            clock: 1,
            copying: Vec::new(),
            owners: vec![[0; 16]],
            groups: Groups::default(),
            rollbacks: Vec::new(),
        }
    }

    /// The next moment.
    pub fn tick(&mut self) -> Time {
        self.clock += 1;
        self.clock
    }

    /// The volume or snapshot `id`, also if it may not exist.
    #[must_use]
    pub fn volume(&self, id: &VolumeId) -> Option<&VolumeModel> {
        self.volumes.get(id)
    }

    /// All volumes and snapshots that exist or may exist.
    pub fn volumes(&self) -> impl Iterator<Item = &VolumeModel> {
        self.volumes.values()
    }

    pub(super) fn get(&mut self, id: &VolumeId) -> &mut VolumeModel {
        self.volumes.get_mut(id).expect("operations name volumes of the model")
    }

    /// A volume is being created; it may exist from now on.
    pub fn begin_create(&mut self, id: VolumeId, size_bytes: u64, buffered: bool) {
        self.volumes.insert(id, VolumeModel::new(id, size_bytes, buffered));
    }

    /// A snapshot or clone `id` of `source` is being taken since `start`; called when the call has ended, however
    /// it did, or at a crash.
    pub fn fork(&mut self, id: VolumeId, source: &VolumeId, start: Time, frozen: bool, buffered: bool) {
        let now = self.tick();
        let Some(origin) = self.volumes.get_mut(source) else { return };
        origin.alone = false;
        let copy = origin.fork(id, start, now, frozen, buffered);
        self.volumes.insert(id, copy);
    }

    /// The engine lists `id` as buffered or not, as its source decided.
    pub fn set_buffered(&mut self, id: &VolumeId, buffered: bool) {
        if let Some(volume) = self.volumes.get_mut(id) {
            volume.buffered = buffered;
            volume.forgetful |= buffered;
        }
    }

    /// The engine says that `id` has `size_bytes`.
    ///
    /// # Errors
    /// It cannot have that size.
    pub fn observe_size(&mut self, id: &VolumeId, size_bytes: u64) -> Result<(), Violation> {
        self.volumes.get_mut(id).map_or(Ok(()), |volume| volume.observe_size(size_bytes))
    }

    /// Sets whether `id` exists.
    pub fn set_presence(&mut self, id: &VolumeId, presence: Presence) {
        self.get(id).presence = presence;
    }

    /// `id` is gone for certain.
    pub fn remove(&mut self, id: &VolumeId) {
        self.volumes.remove(id);
    }

    /// A resize to `size_bytes` begins.
    pub fn begin_resize(&mut self, id: &VolumeId, size_bytes: u64) {
        self.get(id).begin_resize(size_bytes);
    }

    /// The resize to the size given at its beginning was acknowledged.
    pub fn ack_resize(&mut self, id: &VolumeId) {
        let volume = self.get(id);
        volume.size_bytes = volume.size_bytes_max;
    }

    /// A write of `count` sectors from `first` on begins.
    pub fn begin_write(
        &mut self,
        id: &VolumeId,
        first: u32,
        count: u32,
        zeros: bool,
        durable: bool,
    ) -> WriteId {
        let start = self.tick();
        let durable = durable || !self.get(id).buffered;
        let (end, state) = (Time::MAX, WriteState::Flying);
        let swaps_after = Time::MAX;
        let write = Write { start, end, state, durable, first, count, zeros, whole: false, swaps_after };
        self.writes.0.push(write);
        self.owners.push(*id);
        let write = WriteId(self.writes.0.len() as u32 - 1);
        self.get(id).add(write, first..first + count);
        self.note_for_copies(id, write);
        write
    }

    /// The write, which has just begun, is all or nothing.
    pub fn set_whole(&mut self, write: WriteId) {
        self.writes.0[write.0 as usize].whole = true;
    }

    /// True if the write is all or nothing.
    #[must_use]
    pub fn is_whole(&self, write: WriteId) -> bool {
        self.writes.of(write).whole
    }

    /// A copy of `count` sectors begins, to those from `first` on of `id`, from a range that does not overlap. It is a
    /// write of what a reader of the source finds between now and its end.
    pub fn begin_copy(
        &mut self,
        id: &VolumeId,
        first: u32,
        count: u32,
        (source, from): (&VolumeId, u32),
    ) -> WriteId {
        let of_sector = |sector: u32| {
            let candidates =
                self.volumes.get(source).map(|volume| volume.candidates(sector)).unwrap_or_default();
            let alive = candidates.into_iter().filter(|candidate| candidate.killed.is_none());
            let mut contents = Vec::new();
            for content in alive.flat_map(|candidate| self.writes.contents(candidate.write, sector)) {
                if !contents.contains(&content) {
                    contents.push(content);
                }
            }
            contents
        };
        let contents = (from..from + count).map(of_sector).collect();
        let write = self.writes.next();
        self.writes.set_contents(write, contents);
        for end in [id, source] {
            self.get(end).copied = true;
        }
        self.copying.push(Copying { write, source: *source, first: from, count, target: *id });
        self.begin_write(id, first, count, false, false)
    }

    /// What `write` writes to `id` may be what copies on their way find there.
    fn note_for_copies(&mut self, id: &VolumeId, write: WriteId) {
        let Write { first, count, .. } = *self.writes.of(write);
        // What one copy may find it may bring to the source of another.
        let mut news = vec![(*id, write, first..first + count)];
        while let Some((id, write, range)) = news.pop() {
            for copying in
                self.copying.iter().filter(|copying| copying.source == id && copying.write != write)
            {
                let to = *self.writes.of(copying.write);
                let end = range.end.min(copying.first + copying.count);
                for sector in range.start.max(copying.first)..end {
                    let target = to.first + (sector - copying.first);
                    for content in self.writes.contents(write, sector) {
                        let copied = self.writes.1.get_mut(&copying.write).expect("copies have contents");
                        let of_sector = &mut copied[(target - to.first) as usize];
                        if !of_sector.contains(&content) {
                            of_sector.push(content);
                            news.push((copying.target, copying.write, target..target + 1));
                        }
                    }
                }
            }
        }
    }

    /// The write was acknowledged.
    pub fn ack_write(&mut self, id: &VolumeId, write: WriteId) {
        let now = self.tick();
        self.end(write, WriteState::Acked, now);
        if let Some(volume) = self.volumes.get_mut(id) {
            volume.ack(write, now, &self.writes);
        }
    }

    /// The write failed and may have happened in part.
    pub fn fail_write(&mut self, write: WriteId) {
        let now = self.tick();
        self.end(write, WriteState::Failed, now);
    }

    /// The write failed, and nothing of it may ever be seen.
    pub fn refuse_write(&mut self, id: &VolumeId, write: WriteId) {
        let now = self.tick();
        self.end(write, WriteState::Failed, now);
        if let Some(volume) = self.volumes.get_mut(id) {
            volume.withdraw(write, &self.writes);
        }
    }

    fn end(&mut self, write: WriteId, state: WriteState, now: Time) {
        self.copying.retain(|copying| copying.write != write);
        let entry = &mut self.writes.0[write.0 as usize];
        entry.state = state;
        entry.end = now;
    }

    /// A flush that began at `start` was acknowledged.
    pub fn ack_flush(&mut self, id: &VolumeId, start: Time) {
        if let Some(volume) = self.volumes.get_mut(id) {
            volume.flushed_at = volume.flushed_at.max(start);
        }
    }

    /// The engine has crashed: from now on the candidates are what the crash may have left.
    pub fn crash(&mut self, crash: Crash) {
        let now = self.tick();
        self.copying.clear();
        for write in self.writes.0.iter_mut().filter(|write| write.state == WriteState::Flying) {
            write.state = WriteState::Failed;
            write.end = now;
        }
        for volume in self.volumes.values_mut() {
            volume.crash(crash, now, &self.writes);
        }
    }

    /// The engine says which volumes exist, with their sizes.
    ///
    /// # Errors
    /// A volume that must exist does not, or the reverse, or has a wrong size.
    pub fn observe_volumes(&mut self, found: &[(VolumeId, u64)]) -> Result<(), Violation> {
        for (id, size_bytes) in found {
            let volume = self.volumes.get_mut(id);
            let Some(volume) = volume else {
                return Err(Violation(format!("volume {:?} exists, but never did or was deleted", name(id))));
            };
            volume.observe_size(*size_bytes)?;
            volume.presence = Presence::Certain;
        }
        let is_found = |id: &VolumeId| found.iter().any(|(other, _)| other == id);
        for volume in self.volumes.values() {
            if volume.presence == Presence::Certain && !is_found(&volume.id) {
                return Err(Violation(format!("volume {:?} is gone", name(&volume.id))));
            }
        }
        self.volumes.retain(|id, _| is_found(id));
        self.settle_rollbacks();
        Ok(())
    }
}

/// The number by which reports call a volume.
#[must_use]
pub fn name(id: &VolumeId) -> u32 {
    u32::from_le_bytes([id[0], id[1], id[2], id[3]])
}
