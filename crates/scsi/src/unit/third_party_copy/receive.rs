//! What became of a copy: the RECEIVE COPY commands and RECEIVE ROD TOKEN INFORMATION (SPC-4 6.22 to 6.26).

use bytes::Bytes;

use super::lists::{Ending, Listed};
use super::{CONCURRENT_MAX, DESCRIPTOR_TYPES, DESCRIPTORS_LEN_MAX, SEGMENTS_MAX, TARGETS_MAX};
use crate::command::Operation;
use crate::completion::{Completion, Status};
use crate::copy::SEGMENT_BYTES_MAX;
use crate::rod::ROD_TOKEN_LEN;
use crate::sense::Sense;
use crate::unit::dispatch::Task;
use crate::unit::{LogicalUnit, cut};

/// When it is worth asking again, in milliseconds, and what is said when the copy is over.
const UPDATE_DELAY_MS: u32 = 100;
const NO_MORE_UPDATES: u32 = 0xffff_fffe;
/// TRANSFER COUNT UNITS: blocks of the copy destination, bytes, mebibytes.
const LOGICAL_BLOCKS: u8 = 0xf1;
const BYTES: u8 = 0x00;
const MEBIBYTES: u8 = 0x02;
/// SERVICE ACTION codes of the commands that work with tokens.
const POPULATE_TOKEN: u8 = 0x10;
const WRITE_USING_TOKEN: u8 = 0x11;

impl LogicalUnit {
    pub(super) fn receive_copy(&mut self, task: &Task<'_>) -> Result<Completion, Sense> {
        if task.command.operation == Operation::ReceiveCopyOperatingParameters {
            return Ok(cut(Bytes::from(self.copy_operating_parameters()), task.length()));
        }
        let shift = self.config.block_size.shift();
        let unknown = Sense::invalid_cdb_byte(u16::from(task.command.list.byte));
        let listed = self.copies.find(task.nexus, task.command.list_of(task.cdb)).ok_or(unknown)?;
        let mut data = match task.command.operation {
            Operation::ReceiveCopyStatusLid1 => status_lid1(listed),
            Operation::ReceiveCopyFailureDetailsLid1 => failure_details(listed, unknown)?,
            Operation::ReceiveCopyStatusLid4 => status(listed, shift),
            _ => token_information(listed, shift).ok_or(unknown)?,
        };
        let available = u32::try_from(data.len().saturating_sub(4)).unwrap_or(u32::MAX);
        data.iter_mut().zip(available.to_be_bytes()).for_each(|(to, from)| *to = from);
        Ok(cut(Bytes::from(data), task.length()))
    }

    /// SPC-4 table 244.
    fn copy_operating_parameters(&self) -> Vec<u8> {
        const SNLID: u8 = 0x01;
        let granularity = u8::try_from(self.config.block_size.shift()).unwrap_or(0);
        let types = u8::try_from(DESCRIPTOR_TYPES.len()).unwrap_or(0);
        let available = 40 + u32::from(types);
        let mut data = available.to_be_bytes().to_vec();
        data.extend_from_slice(&[SNLID, 0, 0, 0]);
        data.extend_from_slice(&TARGETS_MAX.to_be_bytes());
        data.extend_from_slice(&SEGMENTS_MAX.to_be_bytes());
        data.extend_from_slice(&DESCRIPTORS_LEN_MAX.to_be_bytes());
        data.extend_from_slice(&SEGMENT_BYTES_MAX.to_be_bytes());
        // No inline data, no held data, no stream devices.
        data.resize(34, 0);
        data.extend_from_slice(&u16::from(CONCURRENT_MAX).to_be_bytes());
        data.extend_from_slice(&[CONCURRENT_MAX, granularity, 0, 0, 0, 0, 0, types]);
        data.extend_from_slice(&DESCRIPTOR_TYPES);
        data
    }
}

fn u16_of(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// SPC-4 table 253. No held data.
fn status_lid1(listed: &Listed) -> Vec<u8> {
    let progress = &listed.progress;
    let code = match &listed.outcome {
        None => 0x00,
        Some(outcome) if outcome.ending == Ending::Complete => 0x01,
        Some(_) => 0x02,
    };
    let (units, count) = match u32::try_from(progress.bytes()) {
        Ok(bytes) => (BYTES, bytes),
        Err(_) => (MEBIBYTES, u32::try_from(progress.bytes() >> 20).unwrap_or(u32::MAX)),
    };
    let mut data = vec![0, 0, 0, 0, code];
    data.extend_from_slice(&u16_of(progress.segments()).to_be_bytes());
    data.push(units);
    data.extend_from_slice(&count.to_be_bytes());
    data
}

/// SPC-4 table 246: told once.
fn failure_details(listed: &mut Listed, unknown: Sense) -> Result<Vec<u8>, Sense> {
    let outcome = listed.outcome.as_ref().ok_or(unknown)?;
    let mut data = vec![0; 4];
    if outcome.status == Status::Good || listed.failure_told {
        return Ok(data);
    }
    listed.failure_told = true;
    data.resize(56, 0);
    data.extend_from_slice(&[outcome.status.code(), 0]);
    data.extend_from_slice(&u16::try_from(outcome.sense.len()).unwrap_or(0).to_be_bytes());
    data.extend_from_slice(&outcome.sense);
    Ok(data)
}

/// SPC-4 table 248.
fn status(listed: &Listed, shift: u32) -> Vec<u8> {
    let progress = &listed.progress;
    let has_segments = ![POPULATE_TOKEN, WRITE_USING_TOKEN].contains(&listed.action);
    let (code, delay, completion, sense) = match &listed.outcome {
        None => (if listed.in_background { 0x12 } else { 0x11 }, UPDATE_DELAY_MS, 0, Bytes::new()),
        Some(outcome) => {
            (outcome.ending.code(), NO_MORE_UPDATES, outcome.status.code(), outcome.sense.clone())
        }
    };
    let field_len = sense.len().next_multiple_of(4);
    let (units, count) = match has_segments {
        true => (BYTES, progress.bytes()),
        false => (LOGICAL_BLOCKS, progress.bytes() >> shift),
    };
    let mut data = vec![0, 0, 0, 0, listed.action, code];
    // OPERATION COUNTER wraps.
    data.extend_from_slice(&u16_of(progress.pieces() & 0xffff).to_be_bytes());
    data.extend_from_slice(&delay.to_be_bytes());
    data.extend_from_slice(&[
        completion,
        u8::try_from(field_len).unwrap_or(0),
        u8::try_from(sense.len()).unwrap_or(0),
        units,
    ]);
    data.extend_from_slice(&count.to_be_bytes());
    data.extend_from_slice(&if has_segments { u16_of(progress.segments()) } else { 0 }.to_be_bytes());
    data.extend_from_slice(&[0; 6]);
    data.extend_from_slice(&sense);
    data.resize(32 + field_len, 0);
    data
}

/// SPC-4 tables 256 and 257. None for a copy that has nothing to do with tokens.
fn token_information(listed: &Listed, shift: u32) -> Option<Vec<u8>> {
    if ![POPULATE_TOKEN, WRITE_USING_TOKEN].contains(&listed.action) {
        return None;
    }
    let mut data = status(listed, shift);
    let token = listed.outcome.as_ref().and_then(|outcome| outcome.token.as_ref());
    let len = token.map_or(0, |_| 2 + ROD_TOKEN_LEN);
    data.extend_from_slice(&u32::try_from(len).unwrap_or(0).to_be_bytes());
    if let Some(token) = token {
        data.extend_from_slice(&[0, 0]);
        data.extend_from_slice(token.bytes());
    }
    Some(data)
}
