//! Commands for a logical unit that is not there (SAM-5 5.11, SPC-4 6.4.1).

use bytes::Bytes;

use super::{ReportLuns, Step, cut};
use crate::cdb::Cdb;
use crate::command::{self, Command, Lookup, Operation};
use crate::completion::Completion;
use crate::sense::{AdditionalSense, Sense, SenseFormat};

/// PERIPHERAL QUALIFIER 011b, PERIPHERAL DEVICE TYPE 1Fh: no device can be here.
const NO_DEVICE: u8 = 0x7f;

/// Answers a command sent to a number without a unit. Never a [`Step::Media`].
///
/// INQUIRY says that no device is here, REPORT LUNS works, REQUEST SENSE returns LOGICAL UNIT NOT SUPPORTED
/// as data, and everything else ends with that.
pub fn execute(cdb: &Cdb) -> Step {
    respond(cdb).unwrap_or_else(|sense| Step::Done(Completion::check(sense, SenseFormat::Fixed)))
}

const NOT_SUPPORTED: Sense = Sense::illegal(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);

fn respond(cdb: &Cdb) -> Result<Step, Sense> {
    let Lookup::Found(command) = command::find(cdb) else { return Err(NOT_SUPPORTED) };
    let done = match command.operation {
        Operation::Inquiry => {
            check_bits(command, cdb)?;
            inquiry(command, cdb)?
        }
        Operation::RequestSense => {
            check_bits(command, cdb)?;
            let format = if cdb.bit(1, 0x01) { SenseFormat::Descriptor } else { SenseFormat::Fixed };
            cut(NOT_SUPPORTED.encode(format), command.length_of(cdb))
        }
        Operation::ReportLuns => {
            check_bits(command, cdb)?;
            return Ok(Step::ReportLuns(ReportLuns::parse(command, cdb)?));
        }
        _ => return Err(NOT_SUPPORTED),
    };
    Ok(Step::Done(done))
}

fn check_bits(command: &Command, cdb: &Cdb) -> Result<(), Sense> {
    let reserved = command.reserved_bit(cdb, true);
    reserved.map_or(Ok(()), |(byte, bit)| Err(Sense::invalid_cdb_bit(byte, bit)))
}

/// Standard data, or the list of the one vital product data page there is: the list.
fn inquiry(command: &Command, cdb: &Cdb) -> Result<Completion, Sense> {
    let page = cdb.byte(2);
    let data = match (cdb.bit(1, 0x01), page) {
        (true, 0x00) => vec![NO_DEVICE, 0, 0, 1, 0],
        (false, 0x00) => {
            const LEN: usize = 36;
            let mut data = vec![NO_DEVICE, 0, 0x06, 0x02, 31];
            data.resize(LEN, 0);
            data
        }
        _ => return Err(Sense::invalid_cdb_byte(2)),
    };
    Ok(cut(Bytes::from(data), command.length_of(cdb)))
}
