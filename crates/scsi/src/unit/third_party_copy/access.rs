//! What a unit lets a copy do with it, whichever unit took the command.

use crate::completion::Status;
use crate::copy::{CopyAgent, CopyGrant, CopySide, DeviceAnswer, Geometry};
use crate::sense::Sense;
use crate::unit::LogicalUnit;
use crate::unit::nexus::Nexus;

impl LogicalUnit {
    /// Whether copies are offloaded to the unit.
    pub fn offload(&self) -> bool {
        self.config.offload
    }

    /// Whether a copy may read this unit, as its source, or write it, as its destination. Asked before each piece, so
    /// that a host that loses its rights stops at once.
    ///
    /// # Errors
    /// The status a READ or WRITE of that host would end with.
    pub fn admit_copy(&self, agent: CopyAgent<'_>, side: CopySide) -> Result<CopyGrant, DeviceAnswer> {
        let check = |sense: Sense| DeviceAnswer { status: Status::CheckCondition, sense: Some(sense) };
        self.availability.check().map_err(check)?;
        let nexus = self.copy_nexus(agent);
        if side == CopySide::Destination {
            let own = nexus.filter(|_| agent.nexus.is_some());
            let read_only = own.map_or(agent.read_only, |nexus| nexus.info.read_only);
            self.check_writable(read_only).map_err(check)?;
        }
        Ok(CopyGrant {
            geometry: Geometry { block_size: self.config.block_size, blocks: self.blocks },
            durability: self.durability(false),
            nexus: nexus.map(|nexus| nexus.id),
        })
    }

    /// The nexus that sent the command, or one of the same host at this unit, through whatever port.
    fn copy_nexus(&self, agent: CopyAgent<'_>) -> Option<&Nexus> {
        let of_initiator = |nexus: &&Nexus| {
            let rest = nexus.info.initiator_port.strip_prefix(agent.initiator);
            rest.is_some_and(|rest| rest.starts_with(",i,"))
        };
        match agent.nexus {
            Some(id) => self.nexuses.get(id),
            None => self.nexuses.iter().find(of_initiator),
        }
    }
}
