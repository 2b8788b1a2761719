//! What a unit lets a copy do with it, whichever unit took the command.

use crate::cdb::Cdb;
use crate::command::{self, Lookup};
use crate::completion::Status;
use crate::copy::{CopyAgent, CopyGrant, CopySide, DeviceAnswer, Geometry};
use crate::sense::Sense;
use crate::unit::nexus::Nexus;
use crate::unit::{LogicalUnit, NexusId};

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
        self.availability.check().and(self.check_sanitization()).map_err(check)?;
        let nexus = self.copy_nexus(agent, side)?;
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

    /// The nexus that sent the command, or one of the same host at this unit, through whatever port, that no
    /// reservation shuts out (SPC-4 5.17.7.4 lets a copy manager look for it). None for a host that has no nexus here,
    /// where nobody has reserved anything against it.
    fn copy_nexus(&self, agent: CopyAgent<'_>, side: CopySide) -> Result<Option<&Nexus>, DeviceAnswer> {
        let of_initiator = |nexus: &&Nexus| {
            let rest = nexus.info.initiator_port.strip_prefix(agent.initiator);
            rest.is_some_and(|rest| rest.starts_with(",i,"))
        };
        let admitted = |nexus: NexusId| !self.is_shut_out_of(nexus, side);
        let found = match agent.nexus {
            Some(id) => self.nexuses.get(id).filter(|nexus| admitted(nexus.id)),
            None => self.nexuses.iter().filter(of_initiator).find(|nexus| admitted(nexus.id)),
        };
        match found {
            None if !admitted(NOBODY) => {
                Err(DeviceAnswer { status: Status::ReservationConflict, sense: None })
            }
            found => Ok(found),
        }
    }

    fn is_shut_out_of(&self, nexus: NexusId, side: CopySide) -> bool {
        const READ_16: [u8; 16] = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        const WRITE_16: [u8; 16] = [0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let cdb = Cdb::from(if side == CopySide::Source { READ_16 } else { WRITE_16 });
        match command::find(&cdb) {
            Lookup::Found(command) => self.is_shut_out(nexus, command, &cdb),
            _ => true,
        }
    }
}

/// A nexus that no unit knows.
const NOBODY: NexusId = NexusId(u64::MAX);
