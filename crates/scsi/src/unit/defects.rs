//! READ DEFECT DATA(10) and (12) (SBC-3 5.17 and 5.18).

use bytes::Bytes;

use super::cut;
use super::dispatch::Task;
use crate::command::Operation;
use crate::completion::Completion;
use crate::sense::Sense;

/// REQ_PLIST, REQ_GLIST in the CDB; PLISTV, GLISTV in the answer.
const LISTS: u8 = 0x18;
const FORMAT: u8 = 0x07;

/// A virtual disk has no defect that a host could know of: both lists are valid and empty, in whichever of the
/// standard's formats.
pub(super) fn read_defect_data(task: &Task<'_>) -> Result<Completion, Sense> {
    let ten = task.command.operation == Operation::ReadDefectData10;
    let byte = if ten { 2 } else { 1 };
    let flags = task.cdb.byte(byte);
    // Short block, long block, bytes from index, physical sector; extended ones of the last two; not vendor's.
    if flags & FORMAT == 0x07 || flags & FORMAT == 0x06 {
        return Err(Sense::invalid_cdb_bit(u16::try_from(byte).unwrap_or(0), 2));
    }
    let told = flags & (LISTS | FORMAT);
    let header = if ten { vec![0, told, 0, 0] } else { vec![0, told, 0, 0, 0, 0, 0, 0] };
    Ok(cut(Bytes::from(header), task.length()))
}
