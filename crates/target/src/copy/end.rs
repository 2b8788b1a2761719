//! The source or the destination of a copy.

use crate::unit::{LogicalUnitHandle, Piece};
use scsi::{ByteRange, CopyAgent, CopyFault, CopyGrant, CopySide, NexusId};
use std::sync::Arc;

/// A unit as a copy uses it.
pub(super) struct End {
    pub(super) unit: Arc<LogicalUnitHandle>,
    side: CopySide,
    /// The nexus that sent the command, if that is one of this unit.
    nexus: Option<NexusId>,
    initiator: String,
    read_only: bool,
    /// The unit's stamp when the copy began: a reset since then ends it.
    stamp: u64,
}

impl End {
    pub(super) fn new(
        unit: Arc<LogicalUnitHandle>,
        nexus: Option<NexusId>,
        initiator: String,
        read_only: bool,
        side: CopySide,
    ) -> Self {
        let stamp = unit.stamp();
        Self { unit, side, nexus, initiator, read_only, stamp }
    }

    fn agent(&self) -> CopyAgent<'_> {
        CopyAgent { nexus: self.nexus, initiator: &self.initiator, read_only: self.read_only }
    }

    /// What the host may do here now.
    pub(super) fn admit(&self) -> Result<CopyGrant, CopyFault> {
        self.unit.admit_copy(self.agent(), self.side, self.stamp)
    }

    /// The same, and counts a write of `range` as under way until the piece is dropped.
    pub(super) fn begin(&self, range: ByteRange) -> Result<(CopyGrant, Piece<'_>), CopyFault> {
        self.unit.begin_piece(self.agent(), self.stamp, range)
    }
}
