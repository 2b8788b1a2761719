//! What a unit lets a copy do that another unit was asked for.

use crate::completion::Status;
use crate::copy::{CopyGrant, CopySide, DeviceAnswer, Geometry};
use crate::sense::Sense;
use crate::unit::{LogicalUnit, NexusId};

impl LogicalUnit {
    /// Whether a copy may read this unit, as its source, or write it, as its destination. Asked before each piece, so
    /// that a host that loses its rights stops at once.
    ///
    /// `nexus` is the one that sent the command, if it is one of this unit; `read_only` says that the host may not
    /// write.
    ///
    /// # Errors
    /// The status a READ or WRITE of that host would end with.
    pub fn admit_copy(
        &self,
        nexus: Option<NexusId>,
        read_only: bool,
        side: CopySide,
    ) -> Result<CopyGrant, DeviceAnswer> {
        let check = || {
            self.availability.check()?;
            let own_nexus = nexus.and_then(|nexus| self.nexuses.get(nexus));
            let read_only = own_nexus.map_or(read_only, |nexus| nexus.info.read_only);
            match side {
                CopySide::Source => Ok(()),
                CopySide::Destination => self.check_writable(read_only),
            }
        };
        check().map_err(|sense: Sense| DeviceAnswer {
            status: Status::CheckCondition,
            sense: Some(sense),
        })?;
        Ok(CopyGrant {
            geometry: Geometry { block_size: self.config.block_size, blocks: self.blocks },
            durability: self.durability(false),
        })
    }
}
