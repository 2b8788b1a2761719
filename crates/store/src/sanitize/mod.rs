//! Sanitizing: of what a volume held, nothing is left on any disk of the pool.
//!
//! Space that is given back keeps its bytes until it is written again, and a log-structured pool writes elsewhere. So
//! they are made to go:
//!
//! 1. One transaction notes that the volume is being sanitized, and gives it an empty layer of its own. What it held
//!    is then garbage like that of a deleted volume, but for what snapshots, clones and copies refer to. From here on
//!    neither a crash nor a closing brings it back.
//! 2. The background loop gives up the former layers ([`crate::layers`]), then makes a pass over the pool ([`pass`]):
//!    blocks that no volume can see any more are given up ([`prune`]), all segments are emptied by the collector's
//!    means, and each slab is filled with zeros once it is free. No slab is taken meanwhile that was not. When no segment
//!    is left that began before the pass did, and no free slab, the old content is gone.
//! 3. A volume that is to be overwritten is written to as a host would ([`fill`]).
//! 4. One transaction removes the note.
//!
//! After a crash, 1 holds, 2 begins again, and 3 goes on. Several volumes share a pass; one that comes later has to wait
//! for the next, as what it held may be where this one has been.
//!
//! A volume that is deleted meanwhile leaves its note, so that the pass is finished.

mod fill;
mod pass;
mod prune;
mod status;

pub(crate) use status::Status;

use crate::catalog::{Changes, LayerRecord, SanitizePhase, SanitizeRecord, VolumeRecord};
use crate::engine::Engine;
use crate::format::VolumeId;
use crate::layer::Layer;
use crate::state::State;
use crate::volume::Shared;
use block::{BlockError, ErrorKind, Result};
use pass::Pass;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the engine knows of the volumes that are being sanitized.
pub(crate) struct Sanitizing {
    /// As in the catalog.
    records: BTreeMap<VolumeId, SanitizeRecord>,
    /// There while old content is made to go.
    pass: Option<Pass>,
    /// The label says that volumes of the pool may be being sanitized.
    labelled: bool,
    /// Those that a task overwrites.
    filling: BTreeSet<VolumeId>,
    /// The background loop is about to be woken.
    napping: bool,
}

impl Sanitizing {
    /// What the catalog says.
    pub(crate) fn new(records: &BTreeMap<VolumeId, SanitizeRecord>) -> Self {
        let (pass, filling) = (None, BTreeSet::new());
        Self { records: records.clone(), pass, labelled: false, filling, napping: false }
    }

    /// True if there is a note of `id`: a volume that was deleted may still have one.
    pub(crate) fn knows(&self, id: &VolumeId) -> bool {
        self.records.contains_key(id)
    }

    /// What the deletion of `id` changes in the catalog: nothing, if what it held still has to go.
    pub(crate) fn after_deletion(&self, id: &VolumeId) -> Vec<(VolumeId, Option<SanitizeRecord>)> {
        let over = |record: &&SanitizeRecord| record.phase != SanitizePhase::Wiping;
        self.records.get(id).filter(over).map(|_| (*id, None)).into_iter().collect()
    }

    /// Takes in what a transaction has changed.
    pub(crate) fn take_in(&mut self, changed: Vec<(VolumeId, Option<SanitizeRecord>)>) {
        for (id, record) in changed {
            match record {
                Some(record) => _ = self.records.insert(id, record),
                None => _ = self.records.remove(&id),
            }
        }
    }

    /// The volumes that are to be overwritten, and that no task overwrites yet: one will.
    fn begin_filling(&mut self) -> Vec<VolumeId> {
        let volumes = self.in_phase(SanitizePhase::Filling);
        volumes.into_iter().filter(|id| self.filling.insert(*id)).collect()
    }

    /// The volumes in `phase`.
    fn in_phase(&self, phase: SanitizePhase) -> Vec<VolumeId> {
        let records = self.records.iter().filter(|(_, record)| record.phase == phase);
        records.map(|(id, _)| *id).collect()
    }
}

impl Engine {
    /// Begins to sanitize a volume: it is empty then, with `pattern` if it is to be overwritten.
    ///
    /// # Errors
    /// `Busy` if it is being sanitized, `Invalid` for a snapshot, `Closed` if it is deleted; the disk's.
    pub(crate) async fn begin_sanitize(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        pattern: Vec<u8>,
        unrestricted_exit: bool,
    ) -> Result<()> {
        self.label_sanitizing().await?;
        // What is in progress ends before.
        let _quiet = shared.hold_all().await;
        let id = shared.id;
        let note = SanitizeRecord { phase: SanitizePhase::Wiping, unrestricted_exit, pattern };
        let prepare = |state: &mut State| {
            state.refusal(&self.name).map_or(Ok(()), Err)?;
            let record = state.can_begin(shared)?;
            let (pool, top) = state.next_layer();
            let record = VolumeRecord { top, ..record };
            let layer = LayerRecord::default();
            let changes = Changes {
                pool: Some(pool),
                layers: vec![(top, Some(layer))],
                volumes: vec![(id, Some(record))],
                sanitizing: vec![(id, Some(note.clone()))],
                ..Changes::default()
            };
            Ok((changes, (pool, record, layer, note)))
        };
        self.transact(prepare, |state, (pool, record, layer, note)| {
            state.pool_record = pool;
            state.insert_layer(record.top, Layer::new(layer));
            if let Some(entry) = state.volumes.get_mut(&id) {
                entry.record = record;
                entry.shared.set_top(record.top);
                entry.shared.sanitizing.begin();
            }
            state.sanitizing.records.insert(id, note);
            state.set_reservations();
            state.background.layers_changed = true;
        })
        .await?;
        shared.sanitizing.wake();
        tracing::info!(volume = %uuid::Uuid::from_bytes(id), "sanitizing begins");
        self.work_wanted.happen();
        Ok(())
    }

    /// Takes reads and writes of a volume again that could not be sanitized.
    ///
    /// # Errors
    /// `Busy` if it is being sanitized, `Invalid` if that was begun without `unrestricted_exit`; the disk's.
    pub(crate) async fn leave_sanitize(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<()> {
        let id = shared.id;
        let prepare = |state: &mut State| {
            state.refusal(&self.name).map_or(Ok(()), Err)?;
            let changed = match state.sanitizing.records.get(&id) {
                None => Vec::new(),
                Some(SanitizeRecord { phase: SanitizePhase::Failed, unrestricted_exit: true, .. }) => {
                    vec![(id, None)]
                }
                Some(SanitizeRecord { phase: SanitizePhase::Failed, .. }) => {
                    return Err(shared.error(ErrorKind::Invalid, "has to be sanitized before it is used"));
                }
                Some(_) => return Err(shared.error(ErrorKind::Busy, "is being sanitized")),
            };
            Ok((Changes { sanitizing: changed.clone(), ..Changes::default() }, changed))
        };
        self.transact(prepare, |state, changed| {
            state.sanitizing.take_in(changed);
            shared.sanitizing.end(None);
        })
        .await?;
        shared.sanitizing.wake();
        Ok(())
    }

    /// From the first sanitizing after an opening on, the label says that this pool is not for builds that know nothing
    /// of it: they would take reads and writes meanwhile, and never finish. Twice, as each label has two of the four
    /// slots.
    async fn label_sanitizing(self: &Arc<Self>) -> Result<()> {
        let _gate = self.grow_gate.lock().await;
        {
            let state = self.state();
            state.refusal(&self.name).map_or(Ok(()), Err)?;
            if state.sanitizing.labelled {
                return Ok(());
            }
        }
        for _ in 0..2 {
            let catalog = self.catalog();
            self.blocking(move || catalog.update_labels(|label| label.sanitizing = true)).await?;
        }
        self.state().sanitizing.labelled = true;
        Ok(())
    }

    /// Notes in one transaction that those of `volumes` that are in phase `from` have come to `next`, or that it is over
    /// with `None`. `error` says why it failed, if it did.
    ///
    /// # Errors
    /// The pool takes no changes; the disk's.
    async fn note_phase(
        &self,
        from: SanitizePhase,
        volumes: Vec<VolumeId>,
        error: Option<&BlockError>,
        next: impl Fn(&SanitizeRecord) -> Option<SanitizePhase>,
    ) -> Result<()> {
        let prepare = |state: &mut State| {
            // The background loop may finish what it has begun: closing waits for it.
            let finishing = from == SanitizePhase::Wiping;
            let refusal =
                state.refusal(&self.name).filter(|error| error.kind != ErrorKind::Closed || !finishing);
            refusal.map_or(Ok(()), Err)?;
            let mut changed = Vec::new();
            for id in volumes {
                let record = state.sanitizing.records.get(&id).filter(|record| record.phase == from);
                let Some(record) = record else { continue };
                let phase = next(record).filter(|_| state.volumes.contains_key(&id));
                changed.push((id, phase.map(|phase| SanitizeRecord { phase, ..record.clone() })));
            }
            Ok((Changes { sanitizing: changed.clone(), ..Changes::default() }, changed))
        };
        let mut told = Vec::new();
        self.transact(prepare, |state, changed| {
            for (id, record) in &changed {
                let Some(entry) = state.volumes.get(id) else { continue };
                told.push(Arc::clone(&entry.shared));
                match record {
                    None => entry.shared.sanitizing.end(None),
                    Some(SanitizeRecord { phase: SanitizePhase::Failed, unrestricted_exit, .. }) => {
                        let unknown = BlockError::new(ErrorKind::Device, &self.name, "it failed");
                        let error = error.cloned().unwrap_or(unknown);
                        entry.shared.sanitizing.end(Some((error, *unrestricted_exit)));
                    }
                    Some(_) => {}
                }
            }
            state.sanitizing.take_in(changed);
        })
        .await?;
        told.iter().for_each(|shared| shared.sanitizing.wake());
        Ok(())
    }

    /// The pool takes no writes: what is being sanitized is not, as far as can be told before the next opening.
    pub(crate) fn cannot_sanitize(&self) {
        let error = BlockError::new(ErrorKind::ReadOnly, &self.name, "takes no writes");
        let told = {
            let mut state = self.state();
            if state.sanitizing.pass.take().is_some() {
                self.slabs.lock().end_wipe();
            }
            state.cannot_sanitize(&error)
        };
        told.iter().for_each(|shared| shared.sanitizing.wake());
    }
}

impl State {
    /// All that is being sanitized is not any more. Returns the volumes that have to be told.
    fn cannot_sanitize(&mut self, error: &BlockError) -> Vec<Arc<Shared>> {
        let Self { sanitizing, volumes, .. } = self;
        let mut told = Vec::new();
        for (id, record) in &mut sanitizing.records {
            if std::mem::replace(&mut record.phase, SanitizePhase::Failed) == SanitizePhase::Failed {
                continue;
            }
            if let Some(entry) = volumes.get(id) {
                entry.shared.sanitizing.end(Some((error.clone(), record.unrestricted_exit)));
                told.push(Arc::clone(&entry.shared));
            }
        }
        told
    }

    /// The record of a volume that can be sanitized now.
    pub(crate) fn can_begin(&self, shared: &Shared) -> Result<VolumeRecord> {
        let Some(entry) = self.volumes.get(&shared.id) else {
            return Err(shared.error(ErrorKind::Closed, "was deleted"));
        };
        if self.layers.get(&entry.record.top).is_none_or(|layer| layer.record.frozen) {
            return Err(shared.error(ErrorKind::Invalid, "is a snapshot, and cannot be sanitized"));
        }
        match self.sanitizing.records.get(&shared.id) {
            Some(note) if note.phase != SanitizePhase::Failed => {
                Err(shared.error(ErrorKind::Busy, "is being sanitized"))
            }
            _ => Ok(entry.record),
        }
    }
}
