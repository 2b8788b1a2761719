//! Third-party copy (SPC-4 5.17): EXTENDED COPY, ROD tokens, and what became of them.
//!
//! A unit is the copy manager for the commands it takes. It decodes them, names the work as a
//! [`CopyCommand`](crate::CopyCommand), and remembers by list identifier what came of it.

mod access;
mod descriptors;
mod finish;
mod lists;
mod page;
mod parameter_list;
mod receive;
mod token_commands;

use bytes::Bytes;
use std::sync::Arc;

use super::dispatch::Task;
use super::finish::Pending;
use super::parameters::gather;
use super::{DataOut, LogicalUnit, Step};
use crate::command::Operation;
use crate::completion::Completion;
use crate::copy::{CopyCommand, CopyProgress, CopyWork};
use crate::media::MediaCommand;
use crate::sense::{AdditionalSense, Sense};

pub(super) use finish::PendingCopy;
pub(super) use lists::CopyLists;
pub(super) use page::third_party_copy_page;

/// CSCD descriptors in a list (MAXIMUM CSCD DESCRIPTOR COUNT).
const TARGETS_MAX: u16 = 8;
/// Segment descriptors in a list (MAXIMUM SEGMENT DESCRIPTOR COUNT).
const SEGMENTS_MAX: u16 = 64;
/// Bytes of both (MAXIMUM DESCRIPTOR LIST LENGTH).
const DESCRIPTORS_LEN_MAX: u32 = 4096;
/// Copies with list identifiers that one nexus may have under way.
const CONCURRENT_MAX: u8 = 32;
/// Block device range descriptors in a list of POPULATE TOKEN and WRITE USING TOKEN.
const RANGES_MAX: u16 = 64;
/// Bytes of one token, and of one WRITE USING TOKEN.
const TOKEN_BYTES_MAX: u64 = 256 << 20;
/// Bytes after which a host gets on best with another command.
const TOKEN_BYTES_OPTIMAL: u64 = 64 << 20;

/// Types of descriptors in an EXTENDED COPY list (SPC-4 tables 132 and 145).
const BLOCK_TO_BLOCK: u8 = 0x02;
const BLOCK_TO_BLOCK_WITH_OFFSET: u8 = 0x0a;
const IDENTIFICATION: u8 = 0xe4;
/// Those implemented, in ascending order.
const DESCRIPTOR_TYPES: [u8; 3] = [BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_WITH_OFFSET, IDENTIFICATION];
/// The CSCD descriptor ID of the unit that takes the command (SPC-4 table 131).
const COPY_MANAGER_UNIT: u16 = 0xffff;

/// How the result of a copy is to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Header {
    /// LIST IDENTIFIER; none: nobody will ask.
    list: Option<u32>,
    /// IMMED: status before the copy is done.
    immediate: bool,
}

impl LogicalUnit {
    pub(super) fn third_party_copy(&mut self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        match task.command.operation {
            Operation::CopyOperationAbort => return self.copy_operation_abort(task).map(Step::Done),
            Operation::ExtendedCopyLid1 | Operation::ExtendedCopyLid4 => {}
            Operation::PopulateToken | Operation::WriteUsingToken => {}
            _ => return self.receive_copy(task).map(Step::Done),
        }
        let list = gather(self.data(task, data_out)?);
        if list.is_empty() {
            return Ok(Step::Done(Completion::good()));
        }
        let (header, work) = match task.command.operation {
            Operation::ExtendedCopyLid1 => self.extended_copy(&parameter_list::lid1(&list)?, &list)?,
            Operation::ExtendedCopyLid4 => self.extended_copy(&parameter_list::lid4(&list)?, &list)?,
            Operation::PopulateToken => self.populate_token(task, &list)?,
            _ => self.write_using_token(task, &list)?,
        };
        self.start_copy(task, header, work)
    }

    fn extended_copy(&self, lists: &parameter_list::Lists, all: &Bytes) -> Result<(Header, CopyWork), Sense> {
        let targets = descriptors::targets(all, lists.targets.clone(), &self.config.identity.naa)?;
        let segments = descriptors::segments(all, lists.segments.clone(), &targets)?;
        Ok((lists.header, CopyWork::Segments(segments)))
    }

    fn start_copy(&mut self, task: &Task<'_>, header: Header, work: CopyWork) -> Result<Step, Sense> {
        let progress = Arc::new(CopyProgress::default());
        if let Some(list) = header.list {
            let action = task.command.service_action.unwrap_or(0);
            let begun = self.copies.begin(task.nexus, list, action, header.immediate, Arc::clone(&progress));
            match begun {
                Ok(()) => {}
                Err(lists::Refused::InUse) => {
                    return Err(Sense::illegal(AdditionalSense::OPERATION_IN_PROGRESS));
                }
                Err(lists::Refused::TooMany) => return Ok(Step::Done(Completion::busy())),
            }
        }
        let copy = PendingCopy::new(task, header.list, &work, self.config.block_size, Arc::clone(&progress));
        let pending = Pending::of_copy(task.command.operation, copy);
        let command = MediaCommand::Copy(CopyCommand { work, progress });
        Ok(if header.immediate {
            Step::Background(command, pending, Completion::good())
        } else {
            Step::Media(command, pending)
        })
    }

    /// SPC-4 6.3: the copy ends before its next piece; its result is kept.
    fn copy_operation_abort(&mut self, task: &Task<'_>) -> Result<Completion, Sense> {
        let list = task.command.list_of(task.cdb);
        if self.copies.stop(task.nexus, list) {
            Ok(Completion::good())
        } else {
            Err(Sense::invalid_cdb_byte(u16::from(task.command.list.byte)))
        }
    }
}

/// `N` bytes of `data` from `at` on; zeroes past its end.
fn array<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    let rest = data.get(at..).unwrap_or_default();
    array.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    array
}

fn byte(data: &[u8], at: usize) -> u8 {
    data.get(at).copied().unwrap_or(0)
}

fn be16(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(data, at))
}

fn be32(data: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(data, at))
}

fn be64(data: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(data, at))
}
