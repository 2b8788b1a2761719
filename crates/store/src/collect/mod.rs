//! Garbage collection: the first chooser of the mover.
//!
//! A round takes the segments with the fewest live blocks, moves these to segments of the relocation stream (or
//! has the next checkpoint write them anew, if they are map nodes), and ends with a checkpoint, after which the
//! segments are free.

mod choose;
mod relocate;
mod unwiped;

use crate::engine::Engine;
use crate::format::{Location, SegmentId, Stream};
use crate::map::{Find, NodeKey};
use crate::recover::{Found, Scanner};
use crate::state::{Needed, State};
use block::{BlockError, Result};
use relocate::Moving;
use std::sync::Arc;

/// A segment to be emptied.
#[derive(Debug, Clone, Copy)]
struct Victim {
    id: SegmentId,
    stream: Stream,
    live: u32,
}

impl Engine {
    /// One bounded round of collection, if free slabs are few. True if there was something to do.
    pub(crate) async fn collect(self: &Arc<Self>) -> Result<bool> {
        let mut free = self.slabs.lock().free();
        let (stalled, scarce) = {
            let state = self.state();
            let stalled = state.is_stalled(free);
            let scarce = state.is_scarce(free);
            if !stalled && (free >= state.budget.collect_below || state.collected_enough(scarce)) {
                return Ok(false);
            }
            (stalled, scarce)
        };
        if stalled && free <= self.state().budget.relocation_floor {
            // The fewer nodes wait to be written, the more slabs there are for moving blocks.
            self.checkpoint_now().await?;
            free = self.slabs.lock().free();
        }
        let (victims, empty) = self.state().choose(scarce, free);
        if victims.is_empty() && !empty {
            if stalled && self.note_round(stalled) {
                self.zeros_by_checkpoint().await?;
            }
            // Rounds go on until what waits has been written or has failed: nobody else would look again.
            return Ok(stalled);
        }
        let walked = if empty { Vec::new() } else { self.empty_segments(&victims).await? };
        self.checkpoint_now().await?;
        // Map nodes have moved with the checkpoint.
        for victim in walked {
            self.state().note_rest(victim);
        }
        if self.note_round(stalled) {
            self.zeros_by_checkpoint().await?;
        }
        Ok(true)
    }

    /// Moves what lives in `victims`, as far as one round goes. Returns those of which all was found that could be.
    async fn empty_segments(self: &Arc<Self>, victims: &[Victim]) -> Result<Vec<SegmentId>> {
        let _gate = self.relocation_gate.lock().await;
        let mut moving = Moving::default();
        let mut walked = Vec::new();
        for victim in victims {
            let whole = match victim.stream {
                Stream::Nodes => self.renew_nodes(victim).await?,
                _ => self.gather(victim, &mut moving).await?,
            };
            if !whole {
                break;
            }
            walked.push(victim.id);
            // Victims are emptied whole or not at all; only between them a round can be enough.
            let state = self.state();
            if state.dirty_soon() + moving.dirties() >= state.budget.dirty_nodes {
                break;
            }
        }
        let all = self.relocate(moving).await?;
        Ok(if all { walked } else { Vec::new() })
    }

    /// Has the next checkpoint write the nodes anew that live in `victim`.
    async fn renew_nodes(&self, victim: &Victim) -> Result<bool> {
        let Some((mut scanner, _pin)) = self.walk(victim) else { return Ok(true) };
        while let Some(found) = self.next_of(victim, &mut scanner).await {
            let mut block = found.data_block;
            for piece in &found.descriptor.pieces {
                if let crate::format::batch::PieceKind::Node { level, .. } = piece.kind {
                    let place = Location::new(victim.id, block);
                    let key = NodeKey::new(level, piece.address.0);
                    loop {
                        let step = self.state().renew(piece.layer, key, place);
                        let Err(needed) = step else { break };
                        if let Err(error) = self.load(needed).await {
                            self.give_up(victim, &error);
                            return Ok(true);
                        }
                    }
                }
                block += piece.data_blocks();
            }
        }
        Ok(true)
    }

    /// The next batch of a victim; none at its end, which is also where it cannot be read.
    async fn next_of(&self, victim: &Victim, scanner: &mut Scanner<'_>) -> Option<Found> {
        scanner.next().await.unwrap_or_else(|error| {
            self.give_up(victim, &error);
            None
        })
    }

    /// A segment that cannot be read, or whose blocks cannot be looked up, stays as it is; others are collected.
    fn give_up(&self, victim: &Victim, error: &BlockError) {
        let mut state = self.state();
        if state.segments.get(victim.id).is_some() {
            state.segments.change(victim.id).damaged = true;
        }
        state.degrade(&format!("segment {} cannot be collected: {error}", victim.id));
    }

    /// A walk over the batches of a segment, which is pinned meanwhile.
    fn walk(&self, victim: &Victim) -> Option<(Scanner<'_>, crate::engine::Pin<'_>)> {
        let pin = self.pin(victim.id)?;
        let state = self.state();
        let segment = state.segments.get(victim.id)?;
        let (copies, used) = (segment.copies, segment.used);
        drop(state);
        Some((Scanner::new(self, victim.id, victim.stream, copies, 0, used), pin))
    }
}

impl State {
    /// Writes wait for a slab and none of the `free` ones is for them.
    pub(crate) fn is_stalled(&self, free: u64) -> bool {
        let head = &self.heads[usize::from(Stream::Host.code())];
        self.host.waits_for_room() && head.reserved() == 0 && !head.reserving && free <= self.host_floor_now()
    }

    /// The last round gained nothing, and little was written since; nothing at all, if slabs are scarce.
    fn collected_enough(&self, scarce: bool) -> bool {
        let little = if scarce { 1 } else { self.budget.slab_payload };
        self.background.content_at.is_some_and(|at| self.counters.written_blocks < at + little)
    }

    /// Marks a node dirty if it is stored at `place`.
    fn renew(
        &mut self,
        layer: crate::format::LayerId,
        key: NodeKey,
        place: Location,
    ) -> std::result::Result<(), Needed> {
        let Some(map) = self.map(layer) else { return Ok(()) };
        match map.find_node(key) {
            Find::Absent => Ok(()),
            Find::Load(load) if load.key == key && load.entry.location != place => Ok(()),
            Find::Load(load) => Err(Needed { layer, load }),
            Find::Here => {
                if map.home(key) == Some(place) {
                    self.with_layer(layer, |layer, _| layer.map.rewrite(key));
                }
                Ok(())
            }
        }
    }

    /// A segment was walked over and what was found was moved. What is left cannot be: at the second time, the
    /// segment is given up as damaged.
    fn note_rest(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(id).filter(|segment| segment.live > 0) else { return };
        let (live, suspect) = (segment.live, segment.suspect);
        let segment = self.segments.change(id);
        segment.suspect = true;
        if suspect {
            segment.damaged = true;
            self.degrade(&format!("{live} blocks of segment {id} are damaged; they stay where they are"));
        }
    }
}
