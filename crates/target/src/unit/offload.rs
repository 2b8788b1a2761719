//! A unit as copies use it: what they may do with it, piece by piece, and the tokens that stand for parts of it.

use super::LogicalUnitHandle;
use crate::copies::Copies;
use crate::operations::{Epoch, STRANGER};
use scsi::{ByteRange, CopyAgent, CopyCommand, CopyFault, CopyGrant, CopySide, CopyWork, NexusId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What copies a unit has seen since it was first served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyCounts {
    /// EXTENDED COPY and WRITE USING TOKEN commands that this unit took and that were done.
    pub copies: u64,
    /// POPULATE TOKEN commands that were done.
    pub tokens: u64,
    /// Those of any kind that ended early.
    pub failed: u64,
    /// Bytes copied by commands that this unit took, holes included.
    pub bytes: u64,
}

/// What a unit keeps for copies.
#[derive(Default)]
pub(super) struct Offload {
    copies: Option<Arc<Copies>>,
    naa: [u8; 16],
    /// Tokens may stand for parts of the unit: who writes has to say so.
    has_tokens: AtomicBool,
    /// The unit goes.
    closed: AtomicBool,
    done: AtomicU64,
    tokens: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

impl Offload {
    pub(super) fn of(naa: [u8; 16]) -> Self {
        Self { naa, ..Self::default() }
    }
}

/// A write of a copy that is under way; its end is counted when it is dropped.
pub(crate) struct Piece<'a> {
    unit: &'a LogicalUnitHandle,
    nexus: NexusId,
    /// The nexus is one of the unit.
    at_home: bool,
    epoch: Epoch,
    range: ByteRange,
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        self.unit.changed(self.range);
        {
            let operations = &mut self.unit.inner.lock().operations;
            operations.end(self.nexus, self.epoch);
            if !self.at_home {
                operations.detach(self.nexus);
            }
        }
        self.unit.look_if_moved(self.range.len, false);
    }
}

impl LogicalUnitHandle {
    /// Lets copies be offloaded to the unit, together with the others of `copies`; if not `offered`, not for now.
    #[must_use]
    pub fn with_copies(mut self, copies: Arc<Copies>, offered: bool) -> Self {
        self.offload.copies = Some(copies);
        self.inner.get_mut().unit.set_offload(offered);
        self
    }

    /// Offers the unit for copy offload or takes that back: commands, INQUIRY bit and VPD page come and go, tokens and
    /// copies under way end, and hosts are told that INQUIRY data has changed. Without
    /// [`LogicalUnitHandle::with_copies`] nothing happens.
    pub fn set_offload(&self, offered: bool) {
        let Some(copies) = &self.offload.copies else { return };
        self.inner.lock().unit.set_offload(offered);
        if !offered {
            copies.cancel_tokens_of(&self.offload.naa);
        }
    }

    /// The unit goes: copies that use it end. Ready when none touches its volume any more.
    pub async fn close_to_copies(&self) {
        self.offload.closed.store(true, Ordering::SeqCst);
        if let Some(copies) = &self.offload.copies {
            copies.cancel_tokens_of(&self.offload.naa);
        }
        let quiet = self.inner.lock().operations.abort_all();
        // An error means that the unit is gone, and with it all who waited.
        let _ = quiet.await;
    }

    /// What copies it has seen.
    pub fn copy_counts(&self) -> CopyCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let offload = &self.offload;
        CopyCounts {
            copies: count(&offload.done),
            tokens: count(&offload.tokens),
            failed: count(&offload.failed),
            bytes: count(&offload.bytes),
        }
    }

    pub(crate) fn count_copy(&self, command: &CopyCommand, fault: Option<CopyFault>) {
        let offload = &self.offload;
        let makes_token = matches!(command.work, CopyWork::CreateToken { .. });
        let counter = match fault {
            Some(_) => &offload.failed,
            None if makes_token => &offload.tokens,
            None => &offload.done,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if !makes_token {
            offload.bytes.fetch_add(command.progress.bytes(), Ordering::Relaxed);
        }
    }

    pub(crate) fn copies(&self) -> Option<&Copies> {
        self.offload.copies.as_deref()
    }

    pub(crate) fn naa(&self) -> [u8; 16] {
        self.offload.naa
    }

    pub(crate) fn is_thin(&self) -> bool {
        self.thin
    }

    pub(crate) fn knows(&self, nexus: NexusId) -> bool {
        self.inner.lock().unit.knows(nexus)
    }

    /// Whether tokens may stand for parts of the unit; set while no token can come or go.
    pub(crate) fn set_has_tokens(&self, has_tokens: bool) {
        self.offload.has_tokens.store(has_tokens, Ordering::SeqCst);
    }

    /// A range is about to change, or has just changed. Said at both times: a token made while a write is under way
    /// must not outlive it.
    pub(crate) fn changed(&self, range: ByteRange) {
        if self.offload.has_tokens.load(Ordering::SeqCst)
            && let Some(copies) = self.copies()
        {
            copies.changed(self, &self.offload.naa, range);
        }
    }

    /// What a copy that began at `stamp` may do here now.
    pub(crate) fn admit_copy(
        &self,
        agent: CopyAgent<'_>,
        side: CopySide,
        stamp: u64,
    ) -> Result<CopyGrant, CopyFault> {
        self.admitted(&mut self.inner.lock(), agent, side, stamp)
    }

    fn admitted(
        &self,
        inner: &mut super::Inner,
        agent: CopyAgent<'_>,
        side: CopySide,
        stamp: u64,
    ) -> Result<CopyGrant, CopyFault> {
        let own = agent.nexus.unwrap_or(STRANGER);
        if inner.operations.ended(own, stamp).is_some() {
            return Err(CopyFault::Stopped);
        }
        if self.offload.closed.load(Ordering::SeqCst) || !inner.unit.offload() {
            return Err(CopyFault::Unreachable(side));
        }
        self.look_at_volume(inner);
        inner.unit.admit_copy(agent, side).map_err(|answer| CopyFault::Refused(side, answer))
    }

    /// The same for the destination, and a write of `range` begins.
    pub(crate) fn begin_piece(
        &self,
        agent: CopyAgent<'_>,
        stamp: u64,
        range: ByteRange,
    ) -> Result<(CopyGrant, Piece<'_>), CopyFault> {
        let (grant, epoch) = {
            let mut inner = self.inner.lock();
            let grant = self.admitted(&mut inner, agent, CopySide::Destination, stamp)?;
            let nexus = grant.nexus.unwrap_or(STRANGER);
            (grant, inner.operations.begin(nexus))
        };
        let (nexus, at_home) = (grant.nexus.unwrap_or(STRANGER), grant.nexus.is_some());
        self.changed(range);
        Ok((grant, Piece { unit: self, nexus, at_home, epoch, range }))
    }
}
