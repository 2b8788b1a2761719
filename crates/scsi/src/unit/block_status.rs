//! GET LBA STATUS (SBC-3 5.6).

use bytes::Bytes;

use super::dispatch::Task;
use super::range::Range;
use super::{LogicalUnit, Step, cut};
use crate::completion::Completion;
use crate::media::{BlockExtent, MediaCommand};
use crate::sense::Sense;

/// Bytes before the first descriptor.
const HEADER: u32 = 8;
/// Bytes of an LBA status descriptor.
const DESCRIPTOR: u32 = 16;
/// Descriptors in one answer at most; hosts ask on from where it ended.
const DESCRIPTORS_MAX: u32 = 1024;
/// Bytes of the volume one command looks at, at most: the answer may tell of fewer blocks than there are
/// (SBC-3 5.6.1), and a volume of many TiB in small pieces would take seconds to walk.
const LOOKED_AT_MAX: u64 = 1 << 30;

impl LogicalUnit {
    pub(super) fn get_lba_status(&self, task: &Task<'_>) -> Result<Step, Sense> {
        let Range { offset, len } = self.rest_from(task.command.lba_of(task.cdb))?;
        let len = len.min(LOOKED_AT_MAX);
        let wanted = task.length().saturating_sub(HEADER) / DESCRIPTOR;
        let max_extents = usize::try_from(wanted.clamp(1, DESCRIPTORS_MAX)).unwrap_or(1);
        Ok(self.media(task, MediaCommand::BlockStatus { offset, len, max_extents }, offset, len))
    }
}

/// A run of blocks of one state, ends in blocks.
struct Run {
    end: u64,
    mapped: bool,
}

/// The parameter data for `extents`, which start at `offset` and tell of at most `len` bytes.
///
/// Extents need not end at block boundaries: a block is mapped if any byte of it is.
pub(super) fn report(
    extents: &[BlockExtent],
    offset: u64,
    len: u64,
    shift: u32,
    allocation_len: u32,
) -> Completion {
    let mut data = vec![0; 8];
    let mut start = offset >> shift;
    for run in runs(extents, offset, len, shift) {
        // What is looked at has far fewer than 2³² blocks.
        let blocks = u32::try_from(run.end - start).unwrap_or(u32::MAX);
        data.extend_from_slice(&start.to_be_bytes());
        data.extend_from_slice(&blocks.to_be_bytes());
        // PROVISIONING STATUS: 0h mapped or unknown, 1h deallocated.
        data.extend_from_slice(&[if run.mapped { 0 } else { 1 }, 0, 0, 0]);
        start = run.end;
    }
    complete(data, allocation_len)
}

/// PARAMETER DATA LENGTH counts from the byte after itself, cut or not.
fn complete(mut data: Vec<u8>, allocation_len: u32) -> Completion {
    let parameter_len = u32::try_from(data.len() - 4).unwrap_or(u32::MAX);
    data.iter_mut().zip(parameter_len.to_be_bytes()).for_each(|(to, from)| *to = from);
    cut(Bytes::from(data), allocation_len)
}

/// Extents as runs of whole blocks, neighbours of one state merged.
fn runs(extents: &[BlockExtent], offset: u64, len: u64, shift: u32) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::with_capacity(extents.len());
    let limit = offset.saturating_add(len);
    let mut at = offset;
    let mut block = offset >> shift;
    for extent in extents {
        at = at.saturating_add(extent.len).min(limit);
        // A block that is partly mapped belongs to the mapped side.
        let end = if extent.mapped { at.div_ceil(1 << shift) } else { at >> shift };
        if end <= block {
            continue;
        }
        block = end;
        match runs.last_mut() {
            Some(last) if last.mapped == extent.mapped => last.end = end,
            _ => runs.push(Run { end, mapped: extent.mapped }),
        }
    }
    runs
}
