//! Which volume answers for what a volume or snapshot holds, and how much of the pool it may take.
//!
//! A snapshot's space is that of the volume it was made of, and a layer that several volumes lie on is the oldest one's.
//! The pool's records do not say which snapshot is of which volume, nor how old volumes are, nor how much they may take;
//! who made them tells again after opening ([`crate::Pool::set_owners`], [`crate::Pool::set_limit`]), and until then each
//! answers for itself, without limits.

use crate::format::{LayerId, VolumeId};
use crate::state::State;
use std::collections::BTreeMap;

/// What a volume with its snapshots may take, in blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) blocks: u64,
    /// Blocks and nodes that layers of it map.
    pub(crate) taken: u64,
    /// Blocks admitted that will be mapped.
    pub(crate) admitted: u64,
}

/// Kept in memory only.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// Changes whenever layers, volumes or snapshots come or go.
    pub(crate) shape: u64,
    owners: BTreeMap<VolumeId, VolumeId>,
    /// When volumes were made, in ms since 1970.
    since: BTreeMap<VolumeId, u64>,
    limits: BTreeMap<VolumeId, Limit>,
    /// What all of the pool may take, in blocks.
    pub(crate) pool_limit: Option<u64>,
    /// Somebody deletes snapshots when space is short.
    pub(crate) relief: bool,
    /// Space is short when there is no more room than so many blocks.
    pub(crate) low: u64,
    /// It was said to be short.
    said: bool,
}

impl Accounts {
    /// The volume that answers for `id`: itself, unless `id` is a snapshot of another.
    pub(crate) fn owner(&self, id: &VolumeId) -> VolumeId {
        self.owners.get(id).copied().unwrap_or(*id)
    }

    /// From now on `owner` answers for the snapshot `id`.
    pub(crate) fn set_owner(&mut self, id: VolumeId, owner: VolumeId) {
        self.owners.insert(id, owner);
        self.shape += 1;
    }

    /// The volume or snapshot is gone.
    pub(crate) fn forget(&mut self, id: &VolumeId) {
        self.owners.remove(id);
        self.since.remove(id);
        self.limits.remove(id);
        self.shape += 1;
    }

    /// The limit of a volume, and what it has taken; none without one.
    pub(crate) fn limit(&self, id: &VolumeId) -> Option<Limit> {
        self.limits.get(id).copied()
    }

    /// `account` has come to take `after` instead of `before`.
    pub(crate) fn moved(&mut self, account: Option<VolumeId>, before: u64, after: u64) {
        if let Some(limit) = account.and_then(|id| self.limits.get_mut(&id)) {
            limit.taken = (limit.taken + after).saturating_sub(before);
        }
    }

    /// Whoever asked for `blocks` of `account` has got them or not.
    pub(crate) fn let_go(&mut self, account: Option<VolumeId>, blocks: u64) {
        if let Some(limit) = account.and_then(|id| self.limits.get_mut(&id)) {
            limit.admitted = limit.admitted.saturating_sub(blocks);
        }
    }

    /// `blocks` of `account` are as good as taken.
    pub(crate) fn admit(&mut self, account: Option<VolumeId>, blocks: u64) {
        if let Some(limit) = account.and_then(|id| self.limits.get_mut(&id)) {
            limit.admitted += blocks;
        }
    }

    /// True if `account` may not take `blocks` more.
    pub(crate) fn is_beyond(&self, account: Option<VolumeId>, blocks: u64) -> bool {
        let limit = account.and_then(|id| self.limits.get(&id));
        limit.is_some_and(|limit| limit.taken + limit.admitted + blocks > limit.blocks)
    }

    /// Older volumes come first.
    fn rank(&self, owner: VolumeId) -> (u64, VolumeId) {
        (self.since.get(&owner).copied().unwrap_or(u64::MAX), owner)
    }
}

impl State {
    /// A volume is as old as this, and may take so many blocks.
    pub(crate) fn set_limit(&mut self, id: VolumeId, since_unix_ms: u64, blocks: Option<u64>) {
        self.accounts.since.insert(id, since_unix_ms);
        match blocks {
            Some(blocks) => self.accounts.limits.entry(id).or_default().blocks = blocks,
            None => _ = self.accounts.limits.remove(&id),
        }
        self.assign_layers();
    }

    /// Finds out anew which volume with a limit each layer counts for.
    pub(crate) fn assign_layers(&mut self) {
        let mut oldest: BTreeMap<LayerId, (u64, VolumeId)> = BTreeMap::new();
        if !self.accounts.limits.is_empty() {
            for (id, entry) in &self.volumes {
                let rank = self.accounts.rank(self.accounts.owner(id));
                let found = oldest.entry(entry.record.top).or_insert(rank);
                *found = rank.min(*found);
            }
        }
        let mut taken: BTreeMap<VolumeId, u64> = BTreeMap::new();
        // Layers have larger numbers than those they lie on.
        for (id, layer) in self.layers.iter_mut().rev() {
            let rank = oldest.get(id).copied();
            layer.account =
                rank.map(|(_, owner)| owner).filter(|owner| self.accounts.limits.contains_key(owner));
            if let Some(account) = layer.account {
                *taken.entry(account).or_default() += layer.mapped + layer.map.count();
            }
            if let Some((parent, rank)) = layer.parent.zip(rank) {
                let found = oldest.entry(parent).or_insert(rank);
                *found = rank.min(*found);
            }
        }
        for (id, limit) in &mut self.accounts.limits {
            limit.taken = taken.get(id).copied().unwrap_or(0);
        }
    }

    /// What a volume may still take; none without a limit.
    pub(crate) fn room_of(&self, id: &VolumeId) -> Option<u64> {
        let limit = self.accounts.limit(id)?;
        Some(limit.blocks.saturating_sub(limit.taken + limit.admitted))
    }

    /// True once whenever there is no more room than is called low.
    pub(crate) fn notice_low(&mut self) -> bool {
        let low = self.accounts.low > 0 && self.room() <= self.accounts.low;
        let news = low && !self.accounts.said;
        self.accounts.said = low;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answers_for_itself_until_told_otherwise() {
        let mut accounts = Accounts::default();
        assert_eq!(accounts.owner(&[1; 16]), [1; 16]);
        accounts.set_owner([2; 16], [1; 16]);
        assert_eq!(accounts.owner(&[2; 16]), [1; 16]);
        let before = accounts.shape;
        accounts.forget(&[2; 16]);
        assert!(accounts.owner(&[2; 16]) == [2; 16] && accounts.shape > before);
    }

    #[test]
    fn what_is_under_way_counts_as_taken() {
        let mut accounts = Accounts::default();
        let account = Some([1; 16]);
        accounts.limits.insert([1; 16], Limit { blocks: 10, taken: 4, admitted: 0 });
        assert!(!accounts.is_beyond(account, 6) && accounts.is_beyond(account, 7));
        accounts.admit(account, 3);
        assert!(!accounts.is_beyond(account, 3) && accounts.is_beyond(account, 4));
        accounts.moved(account, 4, 7);
        accounts.let_go(account, 3);
        assert_eq!(accounts.limit(&[1; 16]), Some(Limit { blocks: 10, taken: 7, admitted: 0 }));
        assert!(!accounts.is_beyond(None, u64::MAX));
    }
}
