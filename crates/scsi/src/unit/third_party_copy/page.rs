//! The Third-party Copy VPD page, 8Fh (SPC-4 7.8.17, SBC-4 6.6.9).

use super::{
    CONCURRENT_MAX, COPY_MANAGER_UNIT, DESCRIPTOR_TYPES, DESCRIPTORS_LEN_MAX, RANGES_MAX, SEGMENTS_MAX,
    TARGETS_MAX, TOKEN_BYTES_MAX, TOKEN_BYTES_OPTIMAL,
};
use crate::command::{Feature, of_opcode};
use crate::copy::SEGMENT_BYTES_MAX;
use crate::rod::{INACTIVITY_SECONDS_DEFAULT, INACTIVITY_SECONDS_MAX};
use crate::unit::BlockSize;

const BLOCK_DEVICE_ROD_LIMITS: u16 = 0x0000;
const SUPPORTED_COMMANDS: u16 = 0x0001;
const PARAMETER_DATA: u16 = 0x0004;
const SUPPORTED_DESCRIPTORS: u16 = 0x0008;
const SUPPORTED_CSCD_IDS: u16 = 0x000c;
const ROD_TOKEN_FEATURES: u16 = 0x0106;
const GENERAL_COPY_OPERATIONS: u16 = 0x8001;

/// The page without its header: third-party copy descriptors in the order of their types.
pub(in crate::unit) fn third_party_copy_page(block_size: BlockSize) -> Vec<u8> {
    let mut body = Vec::with_capacity(256);
    push(&mut body, BLOCK_DEVICE_ROD_LIMITS, block_device_rod_limits(block_size));
    push(&mut body, SUPPORTED_COMMANDS, supported_commands());
    push(&mut body, PARAMETER_DATA, parameter_data());
    push(&mut body, SUPPORTED_DESCRIPTORS, counted(&DESCRIPTOR_TYPES));
    push(&mut body, SUPPORTED_CSCD_IDS, supported_cscd_ids());
    push(&mut body, ROD_TOKEN_FEATURES, rod_token_features());
    push(&mut body, GENERAL_COPY_OPERATIONS, general_copy_operations(block_size));
    body
}

/// Pads a descriptor so that its length with its header is a multiple of four.
fn push(body: &mut Vec<u8>, kind: u16, mut descriptor: Vec<u8>) {
    descriptor.resize(descriptor.len().next_multiple_of(4), 0);
    body.extend_from_slice(&kind.to_be_bytes());
    body.extend_from_slice(&u16::try_from(descriptor.len()).unwrap_or(0).to_be_bytes());
    body.append(&mut descriptor);
}

/// A list behind one byte of its length.
fn counted(list: &[u8]) -> Vec<u8> {
    let mut counted = vec![u8::try_from(list.len()).unwrap_or(0)];
    counted.extend_from_slice(list);
    counted
}

/// Sizes in logical blocks.
fn block_device_rod_limits(block_size: BlockSize) -> Vec<u8> {
    let mut body = vec![0; 6];
    body.extend_from_slice(&RANGES_MAX.to_be_bytes());
    body.extend_from_slice(&INACTIVITY_SECONDS_MAX.to_be_bytes());
    body.extend_from_slice(&INACTIVITY_SECONDS_DEFAULT.to_be_bytes());
    body.extend_from_slice(&(TOKEN_BYTES_MAX >> block_size.shift()).to_be_bytes());
    body.extend_from_slice(&(TOKEN_BYTES_OPTIMAL >> block_size.shift()).to_be_bytes());
    body
}

/// From the command table: for each operation code its service actions.
fn supported_commands() -> Vec<u8> {
    let mut list = Vec::new();
    for opcode in [0x83, 0x84] {
        let offload = of_opcode(opcode).iter().filter(|command| command.feature == Feature::Offload);
        let actions: Vec<u8> = offload.filter_map(|command| command.service_action).collect();
        list.push(opcode);
        list.extend_from_slice(&counted(&actions));
    }
    counted(&list)
}

fn parameter_data() -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&TARGETS_MAX.to_be_bytes());
    body.extend_from_slice(&SEGMENTS_MAX.to_be_bytes());
    body.extend_from_slice(&DESCRIPTORS_LEN_MAX.to_be_bytes());
    // No inline data.
    body.resize(28, 0);
    body
}

fn supported_cscd_ids() -> Vec<u8> {
    let mut body = vec![0, 2];
    body.extend_from_slice(&COPY_MANAGER_UNIT.to_be_bytes());
    body
}

/// REMOTE TOKENS 4h: a token of one volume is good at every other, and each is a target of its own.
fn rod_token_features() -> Vec<u8> {
    const REMOTE_TOKENS: u8 = 0x04;
    const SECONDS_MIN: u32 = 1;
    let mut body = vec![0; 12];
    if let Some(first) = body.first_mut() {
        *first = REMOTE_TOKENS;
    }
    body.extend_from_slice(&SECONDS_MIN.to_be_bytes());
    // A token in use lives on: only inactivity ends it, and writes.
    body.extend_from_slice(&u32::MAX.to_be_bytes());
    body.extend_from_slice(&INACTIVITY_SECONDS_MAX.to_be_bytes());
    body.extend_from_slice(&[0; 14]);
    let mut features = block_rod_features();
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&u16::try_from(features.len()).unwrap_or(0).to_be_bytes());
    body.append(&mut features);
    body
}

/// The block ROD device type specific features descriptor (SPC-4 table 653), in bytes.
fn block_rod_features() -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0x2c, 0, 0, 0, 0];
    body.extend_from_slice(&TOKEN_BYTES_MAX.to_be_bytes());
    for _ in 0..3 {
        body.extend_from_slice(&TOKEN_BYTES_OPTIMAL.to_be_bytes());
    }
    body.resize(48, 0);
    body
}

fn general_copy_operations(block_size: BlockSize) -> Vec<u8> {
    let concurrent = u32::from(CONCURRENT_MAX);
    let mut body = Vec::with_capacity(32);
    body.extend_from_slice(&concurrent.to_be_bytes());
    body.extend_from_slice(&concurrent.to_be_bytes());
    body.extend_from_slice(&SEGMENT_BYTES_MAX.to_be_bytes());
    body.push(u8::try_from(block_size.shift()).unwrap_or(0));
    body.resize(32, 0);
    body
}
