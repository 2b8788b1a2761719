//! The command table: one definition a command, read by decoding, REPORT SUPPORTED OPERATION CODES, the
//! sizing of Data-Out and the reservation check.

mod definition;
mod layout;
mod table;

pub use definition::Command;
pub use layout::{Attention, Conflict, Feature, Field, Operation, OutLength, Reach, Timeouts, Transfer};
pub use table::{COMMANDS, Lookup, find, of_opcode};

use crate::cdb::Cdb;

/// Data-Out bytes the command in `cdb` takes from the host, 0 for unknown commands.
///
/// Computed from the CDB alone, unchecked against any capacity or limit: the caller caps it.
pub fn data_out_len(cdb: &[u8], block_size: u32) -> u32 {
    let cdb = Cdb::new(cdb);
    match find(&cdb) {
        Lookup::Found(command) => command.data_out_len(&cdb, block_size),
        Lookup::UnknownServiceAction | Lookup::UnknownOpcode => 0,
    }
}
