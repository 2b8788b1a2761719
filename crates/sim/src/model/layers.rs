//! Snapshots of several volumes at one instant, and rollbacks, in the model.

use super::checks::Found;
use super::volume::VolumeModel;
use super::world::{Model, WriteState, Writes, name};
use super::{Time, Violation, VolumeId};
use crate::content::{Content, WriteId};
use crate::life::Fork;
use std::collections::{BTreeMap, BTreeSet};

/// A rollback of which nobody has said yet whether it happened: it did if `safety` is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rollback {
    safety: VolumeId,
    volume: VolumeId,
    write: WriteId,
}

/// What was found in snapshots of one instant, by the moment at which they were begun.
#[derive(Default)]
pub(super) struct Groups(BTreeMap<Time, Seen>);

/// What all snapshots of a group together have shown.
#[derive(Default)]
struct Seen {
    /// The start of the newest write that one of them has, and which has it.
    newest: Option<(Time, u32)>,
    /// Acknowledged writes that one of them lacks: end, limit, and who lacks it.
    missing: BTreeSet<(Time, Time, u32)>,
}

impl Groups {
    /// A group that has a write has all that were acknowledged, to any of its volumes, before that write began.
    pub(super) fn check(
        &mut self,
        volume: &VolumeModel,
        found: &[Found],
        writes: &Writes,
    ) -> Result<(), Violation> {
        let Some(group) = volume.group else { return Ok(()) };
        let seen = self.0.entry(group).or_default();
        let id = name(&volume.id);
        let certain = found.iter().filter(|found| found.matches.len() == 1);
        let newest = certain.map(|found| (writes.of(found.matches[0].write).start, id)).max();
        seen.newest = seen.newest.max(newest);
        for found in found {
            for candidate in volume.cells.get(&found.sector).into_iter().flatten() {
                let write = writes.of(candidate.write);
                let older = found.matches.iter().all(|other| writes.of(other.write).end < write.start);
                if write.state == WriteState::Acked && older {
                    seen.missing.insert((write.end, candidate.limit, id));
                }
            }
        }
        let Some((newest, holder)) = seen.newest else { return Ok(()) };
        // A candidate limited to before `newest` came with a clone, which need not have caught it.
        let missing = seen.missing.iter().find(|(end, limit, _)| *end < newest && *limit >= newest);
        missing.map_or(Ok(()), |(end, _, id)| {
            Err(Violation(format!(
                "snapshots of one instant: {holder} has a write begun at {newest}, {id} lacks one that had ended at {end}"
            )))
        })
    }
}

impl Model {
    /// `id` is to get the content of `snapshot`: a write of all of it, which the snapshot's content is known for.
    pub fn begin_rollback(&mut self, id: &VolumeId, snapshot: &VolumeId, safety: VolumeId) -> WriteId {
        let sectors = self.get(id).sectors();
        let kept = self.get(snapshot).sectors();
        let of_sector = |sector: u32| {
            if sector >= kept {
                return vec![Content::Zeros];
            }
            let candidates =
                self.volumes.get(snapshot).map(|volume| volume.candidates(sector)).unwrap_or_default();
            let mut contents = Vec::new();
            for content in
                candidates.into_iter().flat_map(|candidate| self.writes.contents(candidate.write, sector))
            {
                if !contents.contains(&content) {
                    contents.push(content);
                }
            }
            contents
        };
        let contents = (0..sectors).map(of_sector).collect();
        let write = self.writes.next();
        self.writes.set_contents(write, contents);
        for end in [id, snapshot] {
            self.get(end).alone = false;
        }
        let write = self.begin_write(id, 0, sectors, false, true);
        self.set_whole(write);
        self.rollbacks.push(Rollback { safety, volume: *id, write });
        write
    }

    /// The rollback was acknowledged.
    pub fn ack_rollback(&mut self, id: &VolumeId, write: WriteId) {
        self.rollbacks.retain(|rollback| rollback.write != write);
        self.ack_write(id, write);
    }

    /// After opening: the safety snapshots say which rollbacks have happened.
    pub(super) fn settle_rollbacks(&mut self) {
        for Rollback { safety, volume, write } in std::mem::take(&mut self.rollbacks) {
            match self.volumes.contains_key(&safety) {
                true => self.ack_write(&volume, write),
                false => self.refuse_write(&volume, write),
            }
        }
    }

    /// A snapshot or clone was taken, or may have been.
    pub(crate) fn end_fork(&mut self, fork: &Fork) {
        let buffered = self.volume(&fork.source).is_some_and(|source| source.buffered);
        self.fork(fork.id, &fork.source, fork.start, fork.frozen, buffered);
        let Some(made) = self.volumes.get_mut(&fork.id) else { return };
        made.group = fork.group;
        if let Some(write) = fork.rollback {
            made.withdraw(write, &self.writes);
        }
    }
}
