//! Making a clone independent of what it was made of.
//!
//! The pool does it, in the background. That a clone is to be detached is part of what is remembered of its origin, in
//! the same transaction as the pool's own note; that it is done the pool alone knows. So nothing is to be done at the end:
//! an origin that is to be left, and that the pool is not at work on any more, is none.

use super::record::Origin;
use crate::{Detachment, Group, Outcome, Result, State, VolumeId, VolumeRecord, VolumeView};
use std::collections::BTreeSet;

impl State {
    /// What is remembered of a volume, without the origin that it has left.
    pub(crate) fn current(&self, record: &VolumeRecord) -> VolumeRecord {
        VolumeRecord { origin: self.origin_of(record).cloned(), ..record.clone() }
    }

    /// What a volume was cloned from, unless it was detached since.
    pub(crate) fn origin_of<'a>(&self, record: &'a VolumeRecord) -> Option<&'a Origin> {
        let engine = self.engine_of(record);
        let left = |origin: &Origin| {
            origin.leaving && engine.as_ref().is_ok_and(|engine| engine.detachment(record.id).is_none())
        };
        record.origin.as_ref().filter(|origin| !left(origin))
    }

    /// How far the detaching of a volume is; none if it is not being detached.
    pub(crate) fn detachment(&self, record: &VolumeRecord) -> Option<Detachment> {
        record.origin.as_ref().filter(|origin| origin.leaving)?;
        self.engine_of(record).ok()?.detachment(record.id)
    }

    /// A volume, what was cloned from it, and so on, and the snapshots of all these.
    fn family(&self, volume: VolumeId) -> Vec<VolumeId> {
        let mut family = BTreeSet::from([volume]);
        loop {
            let before = family.len();
            let from = |record: &VolumeRecord, family: &BTreeSet<VolumeId>| {
                self.origin_of(record).is_some_and(|origin| family.contains(&origin.volume))
            };
            let more: Vec<_> = self
                .volume_records()
                .filter(|record| from(record, &family))
                .map(|record| record.id)
                .collect();
            family.extend(more);
            if family.len() == before {
                break;
            }
        }
        let snapshots: Vec<_> =
            family.iter().flat_map(|id| self.snapshots_of(*id)).map(|record| record.id).collect();
        family.into_iter().chain(snapshots).collect()
    }
}

impl Group {
    /// Begins to make a clone independent of what it was made of: that can be deleted then, and what only one of them
    /// needs is no space that the other keeps. It goes on in the background; [`VolumeView::detachment`] says how far it
    /// is.
    ///
    /// # Errors
    /// `NotFound`, `Offline`; `NoSpace` if what it may take does not fit.
    pub async fn detach_volume(&self, volume: &str) -> Result<(Outcome, VolumeView)> {
        let _change = self.changes.lock().await;
        let former = self.volume(volume)?;
        let Some(origin) = former.record.origin.clone().filter(|_| former.detachment.is_none()) else {
            return Ok((Outcome::Unchanged, former));
        };
        let record = VolumeRecord { origin: Some(Origin { leaving: true, ..origin }), ..former.record };
        let (engine, family) = {
            let state = self.state.read();
            (state.engine_of(&record)?, state.family(record.id))
        };
        engine.detach_volume(record.id, family, crate::volumes::fact(&record)?).await?;
        self.keep(&record).await?;
        tracing::info!(volume = %record.name, "volume is being detached");
        Ok((Outcome::Changed, self.volume(volume)?))
    }

    /// Does not go on with detaching a clone: it stays what it was.
    ///
    /// # Errors
    /// `NotFound`, `Offline`.
    pub async fn cancel_detach(&self, volume: &str) -> Result<(Outcome, VolumeView)> {
        let _change = self.changes.lock().await;
        let former = self.volume(volume)?;
        let Some(origin) = former.record.origin.clone().filter(|_| former.detachment.is_some()) else {
            return Ok((Outcome::Unchanged, former));
        };
        let record = VolumeRecord { origin: Some(Origin { leaving: false, ..origin }), ..former.record };
        let engine = self.state.read().engine_of(&record)?;
        engine.cancel_detach(record.id, crate::volumes::fact(&record)?).await?;
        self.keep(&record).await?;
        tracing::info!(volume = %record.name, "volume is not detached");
        Ok((Outcome::Changed, self.volume(volume)?))
    }
}
