//! REPORT LUNS (SPC-4 6.33): answered by the target, for any unit, there or not.

use bytes::Bytes;

use super::cut;
use crate::cdb::Cdb;
use crate::command::Command;
use crate::completion::Completion;
use crate::lun::Lun;
use crate::sense::Sense;

/// Which units SELECT REPORT asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Select {
    /// 00h, 02h: all that have a number. There are no well-known units, so both are the same.
    All,
    /// 01h: well-known units only.
    WellKnown,
}

/// A REPORT LUNS that waits for the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the command waits for the list"]
pub struct ReportLuns {
    select: Select,
    allocation_len: u32,
}

impl ReportLuns {
    /// Bytes before the first entry.
    const HEADER: usize = 8;

    /// An allocation length below 16 is an error (SPC-4 6.33.1).
    pub(crate) fn parse(command: &Command, cdb: &Cdb) -> Result<Self, Sense> {
        let select = match cdb.byte(2) {
            0x00 | 0x02 => Select::All,
            0x01 => Select::WellKnown,
            _ => return Err(Sense::invalid_cdb_byte(2)),
        };
        let allocation_len = command.length_of(cdb);
        if allocation_len < 16 {
            return Err(Sense::invalid_cdb_byte(6));
        }
        Ok(Self { select, allocation_len })
    }

    /// The completion, listing the units this nexus may see, in the order given.
    pub fn complete(self, luns: &[Lun]) -> Completion {
        let luns = if self.select == Select::All { luns } else { &[] };
        let mut list = Vec::with_capacity(Self::HEADER + 8 * luns.len());
        let list_len = u32::try_from(8 * luns.len()).unwrap_or(u32::MAX);
        list.extend_from_slice(&list_len.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
        luns.iter().for_each(|lun| list.extend_from_slice(&lun.to_wire()));
        cut(Bytes::from(list), self.allocation_len)
    }
}
