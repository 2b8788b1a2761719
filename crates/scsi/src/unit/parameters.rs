//! Data-Out, checked against what the command takes.

use bytes::{Bytes, BytesMut};

use super::dispatch::Task;
use super::{DataOut, LogicalUnit};
use crate::completion::total_len;
use crate::sense::{AdditionalSense, Sense};

/// Less data than the command takes. Nothing is done (FCP-4 9.4.2 spells out what a device may do then;
/// iSCSI leaves it to the device).
const TOO_LITTLE: Sense = Sense::illegal(AdditionalSense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT);

impl LogicalUnit {
    /// Exactly the bytes `task` takes. More may have been offered, fewer not.
    pub(super) fn data(&self, task: &Task<'_>, data_out: DataOut) -> Result<Vec<Bytes>, Sense> {
        let wanted = task.command.data_out_len(task.cdb, self.config.block_size.bytes());
        exactly(data_out.chunks, u64::from(wanted))
    }

    /// The same for commands where another amount means that the host meant another command.
    pub(super) fn exact_data(&self, task: &Task<'_>, data_out: DataOut) -> Result<Vec<Bytes>, Sense> {
        let wanted = task.command.data_out_len(task.cdb, self.config.block_size.bytes());
        if data_out.expected_len == wanted { self.data(task, data_out) } else { Err(task.bad_length()) }
    }

    /// The bytes of a write of `len` bytes. If the initiator announced fewer whole blocks, only those are
    /// written and the transport reports the overflow; part of a block cannot be written.
    pub(super) fn blocks_to_write(&self, len: u64, data_out: DataOut) -> Result<Vec<Bytes>, Sense> {
        let announced = u64::from(data_out.expected_len).max(total_len(&data_out.chunks));
        let wanted = len.min(announced);
        if wanted % u64::from(self.config.block_size.bytes()) != 0 {
            return Err(TOO_LITTLE);
        }
        exactly(data_out.chunks, wanted)
    }
}

fn exactly(mut chunks: Vec<Bytes>, wanted: u64) -> Result<Vec<Bytes>, Sense> {
    let offered = total_len(&chunks);
    if offered < wanted {
        return Err(TOO_LITTLE);
    }
    if offered > wanted {
        let _ = split_off(&mut chunks, wanted);
    }
    Ok(chunks)
}

/// One buffer of all chunks; copies only if there are several.
pub(super) fn gather(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() <= 1 {
        return chunks.pop().unwrap_or_default();
    }
    let mut all = BytesMut::new();
    chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
    all.freeze()
}

/// Cuts `chunks` after `len` bytes and returns the rest, without copying.
pub(super) fn split_off(chunks: &mut Vec<Bytes>, len: u64) -> Vec<Bytes> {
    let mut left = len;
    for at in 0..chunks.len() {
        let Some(chunk) = chunks.get_mut(at) else { break };
        let chunk_len = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if left < chunk_len {
            let tail = chunk.split_off(usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len()));
            let mut rest = chunks.split_off(at + 1);
            rest.insert(0, tail);
            if left == 0 {
                chunks.truncate(at);
            }
            return rest;
        }
        left -= chunk_len;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(parts: &[&'static str]) -> Vec<Bytes> {
        parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect()
    }

    #[test]
    fn splitting_anywhere_keeps_every_byte() {
        let parts = ["abc", "", "defgh", "i"];
        for at in 0..=9_usize {
            let mut first = chunks(&parts);
            let rest = split_off(&mut first, u64::try_from(at).unwrap());
            let (first, rest) = (gather(first), gather(rest));
            assert_eq!(first.len(), at);
            assert_eq!([&first[..], &rest[..]].concat(), b"abcdefghi");
        }
    }

    #[test]
    fn splitting_past_the_end_leaves_nothing() {
        let mut all = chunks(&["ab"]);
        assert!(split_off(&mut all, 3).is_empty());
        assert_eq!(gather(all), "ab");
        assert!(gather(Vec::new()).is_empty());
    }
}
