//! Whose commands a reservation shuts out (SPC-4 5.13.1 and tables 66 and 67, SBC-3 table 13, SPC-2 table 8).

use super::kind::ReservationType;
use super::state::Standing;
use crate::cdb::Cdb;
use crate::command::{Command, Conflict};
use crate::unit::{LogicalUnit, NexusId};

impl LogicalUnit {
    /// Whether `command` ends with RESERVATION CONFLICT because of what another nexus has reserved.
    pub(in crate::unit) fn is_shut_out(&self, nexus: NexusId, command: &Command, cdb: &Cdb) -> bool {
        let reserving = &self.reserving;
        if let Some(owner) = reserving.spc2_owner {
            return owner != nexus && !command.runs_despite_spc2_reserve;
        }
        let Some(kind) = reserving.state.kind() else { return false };
        let standing = self.nexuses.get(nexus).map_or(Standing::Other, |nexus| nexus.standing);
        !admits(kind, standing) && conflicts(command.conflict, kind, cdb)
    }
}

/// Whether a reservation of this type lets a nexus of this standing do everything.
fn admits(kind: ReservationType, standing: Standing) -> bool {
    match standing {
        Standing::Holder => true,
        Standing::Registrant => kind.admits_registrants(),
        Standing::Other => false,
    }
}

/// Whether a command of this class is one of those the type is against.
fn conflicts(class: Conflict, kind: ReservationType, cdb: &Cdb) -> bool {
    match class {
        Conflict::Never => false,
        Conflict::ExclusiveAccess => kind.excludes_readers(),
        Conflict::Any => true,
        Conflict::AnyIfSet { byte, mask } => cdb.bit(usize::from(byte), mask),
        Conflict::AnyUnlessSet { byte, mask } => !cdb.bit(usize::from(byte), mask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{COMMANDS, Operation};

    #[test]
    fn who_is_admitted_by_which_type() {
        for kind in ReservationType::ALL {
            assert!(admits(kind, Standing::Holder));
            assert!(!admits(kind, Standing::Other));
            let others = !matches!(kind, ReservationType::WriteExclusive | ReservationType::ExclusiveAccess);
            assert_eq!(admits(kind, Standing::Registrant), others, "{kind:?}");
        }
    }

    /// SBC-3 table 13: START is allowed, STOP is not. SPC-4 table 66: removal may be allowed, not prevented.
    #[test]
    fn a_bit_of_the_cdb_decides_for_some_commands() {
        let class = |operation: Operation| {
            COMMANDS.iter().find(|command| command.operation == operation).unwrap().conflict
        };
        for kind in ReservationType::ALL {
            let start_stop = class(Operation::StartStopUnit);
            assert!(!conflicts(start_stop, kind, &Cdb::new(&[0x1b, 0, 0, 0, 1, 0])));
            assert!(conflicts(start_stop, kind, &Cdb::new(&[0x1b, 0, 0, 0, 0, 0])));
            let removal = class(Operation::PreventAllowMediumRemoval);
            assert!(conflicts(removal, kind, &Cdb::new(&[0x1e, 0, 0, 0, 1, 0])));
            assert!(!conflicts(removal, kind, &Cdb::new(&[0x1e, 0, 0, 0, 0, 0])));
        }
    }

    /// A command that changes the medium is shut out by every type, whichever it is.
    #[test]
    fn every_command_that_writes_conflicts_with_every_type() {
        for command in COMMANDS.iter().filter(|command| command.writes) {
            for kind in ReservationType::ALL {
                assert!(conflicts(command.conflict, kind, &Cdb::default()), "{} {kind:?}", command.name);
            }
        }
    }
}
