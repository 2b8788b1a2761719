//! Parameter data that checks read: identification, port groups, limits, capacity.

use crate::bytes_at::{bit, byte, length, number, slice, text};
use crate::exchange::hex;
use crate::scene::Size;

/// READ CAPACITY (16) (SBC-3 5.16): number and length of the blocks.
pub(crate) fn capacity(data: &[u8]) -> Option<Size> {
    let blocks = number(data, 0, 8).checked_add(1)?;
    let block_size = u32::try_from(number(data, 8, 4)).ok()?;
    (data.len() >= 12).then_some(Size { blocks, block_size })
}

/// What a designation descriptor names (SPC-4 7.8.6.1, ASSOCIATION).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Association {
    Unit,
    Port,
    Target,
    Reserved,
}

/// One designation descriptor of VPD page 83h.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Designator {
    pub(crate) association: Association,
    /// DESIGNATOR TYPE.
    pub(crate) kind: u8,
    pub(crate) code_set: u8,
    pub(crate) bytes: Vec<u8>,
}

impl Designator {
    pub(crate) const NAA: u8 = 3;
    pub(crate) const EUI64: u8 = 2;
    pub(crate) const T10: u8 = 1;
    pub(crate) const RELATIVE_PORT: u8 = 4;
    pub(crate) const PORT_GROUP: u8 = 5;
    pub(crate) const SCSI_NAME: u8 = 8;

    /// For people.
    pub(crate) fn text(&self) -> String {
        let value = if self.code_set == 1 { hex(&self.bytes).replace(' ', "") } else { text(&self.bytes) };
        match self.kind {
            Self::NAA => format!("naa.{value}"),
            Self::EUI64 => format!("eui.{value}"),
            Self::T10 => format!("t10.{value}"),
            Self::SCSI_NAME => value,
            kind => format!("type {kind} {value}"),
        }
    }

    /// The number of a relative port or port group.
    pub(crate) fn number(&self) -> u64 {
        number(&self.bytes, 2, 2)
    }
}

/// The designation descriptors of VPD page 83h; an error in words if their lengths do not fit.
pub(crate) fn designators(page: &[u8]) -> Result<Vec<Designator>, String> {
    let mut rest = slice(page, 4, length(page, 2, 2));
    if rest.len() != length(page, 2, 2) {
        return Err("PAGE LENGTH is more than what was returned".to_owned());
    }
    let mut found = Vec::new();
    while !rest.is_empty() {
        let bytes = slice(rest, 4, length(rest, 3, 1));
        if rest.len() < 4 || bytes.len() != length(rest, 3, 1) {
            return Err("a designation descriptor is cut off".to_owned());
        }
        let association = match byte(rest, 1) >> 4 & 3 {
            0 => Association::Unit,
            1 => Association::Port,
            2 => Association::Target,
            _ => Association::Reserved,
        };
        let (kind, code_set) = (byte(rest, 1) & 0x0f, byte(rest, 0) & 0x0f);
        found.push(Designator { association, kind, code_set, bytes: bytes.to_vec() });
        rest = slice(rest, 4 + bytes.len(), usize::MAX);
    }
    Ok(found)
}

/// A target port group (SPC-4 REPORT TARGET PORT GROUPS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortGroup {
    pub(crate) number: u64,
    /// ASYMMETRIC ACCESS STATE.
    pub(crate) state: u8,
    /// Which states it may have: T_SUP to AO_SUP.
    pub(crate) supported: u8,
    /// Relative target port identifiers.
    pub(crate) ports: Vec<u64>,
}

/// The groups of REPORT TARGET PORT GROUPS; an error in words if the lengths do not fit.
pub(crate) fn port_groups(data: &[u8]) -> Result<Vec<PortGroup>, String> {
    let mut rest = slice(data, 4, length(data, 0, 4));
    if rest.len() != length(data, 0, 4) {
        return Err("RETURN DATA LENGTH is more than what was returned".to_owned());
    }
    let mut groups = Vec::new();
    while !rest.is_empty() {
        let count = length(rest, 7, 1);
        let ports = slice(rest, 8, count * 4);
        if rest.len() < 8 || ports.len() != count * 4 {
            return Err("a target port group descriptor is cut off".to_owned());
        }
        let ports = ports.chunks(4).map(|port| number(port, 2, 2)).collect();
        let (state, supported) = (byte(rest, 0) & 0x0f, byte(rest, 1));
        groups.push(PortGroup { number: number(rest, 2, 2), state, supported, ports });
        rest = slice(rest, 8 + count * 4, usize::MAX);
    }
    Ok(groups)
}

/// Block Limits VPD page (SBC-3 6.6.3), the fields that checks use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockLimits {
    /// PAGE LENGTH.
    pub(crate) page_length: usize,
    pub(crate) compare_and_write_max: u64,
    pub(crate) transfer_granularity: u64,
    pub(crate) transfer_max: u64,
    pub(crate) transfer_optimal: u64,
    pub(crate) unmap_blocks_max: u64,
    pub(crate) unmap_descriptors_max: u64,
    pub(crate) unmap_granularity: u64,
    pub(crate) unmap_alignment: u64,
    pub(crate) unmap_alignment_valid: bool,
    pub(crate) write_same_max: u64,
}

impl BlockLimits {
    pub(crate) fn parse(page: &[u8]) -> Self {
        Self {
            page_length: length(page, 2, 2),
            compare_and_write_max: number(page, 5, 1),
            transfer_granularity: number(page, 6, 2),
            transfer_max: number(page, 8, 4),
            transfer_optimal: number(page, 12, 4),
            unmap_blocks_max: number(page, 20, 4),
            unmap_descriptors_max: number(page, 24, 4),
            unmap_granularity: number(page, 28, 4),
            unmap_alignment: number(page, 32, 4) & 0x7fff_ffff,
            unmap_alignment_valid: bit(page, 32, 0x80),
            write_same_max: number(page, 36, 8),
        }
    }
}

/// A command in the answer to REPORT SUPPORTED OPERATION CODES (SPC-4 6.35.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SupportedCommand {
    pub(crate) opcode: u8,
    pub(crate) service_action: Option<u16>,
    pub(crate) cdb_len: u64,
}

/// All commands that a unit reports.
pub(crate) fn supported_commands(data: &[u8]) -> Vec<SupportedCommand> {
    let list = slice(data, 4, length(data, 0, 4));
    let mut found = Vec::new();
    let mut rest = list;
    while rest.len() >= 8 {
        let action = bit(rest, 5, 0x01).then(|| u16::try_from(number(rest, 2, 2)).unwrap_or(0));
        found.push(SupportedCommand {
            opcode: byte(rest, 0),
            service_action: action,
            cdb_len: number(rest, 6, 2),
        });
        // CTDP: a command timeouts descriptor of twelve bytes follows.
        let skip = if bit(rest, 5, 0x02) { 20 } else { 8 };
        rest = slice(rest, skip, usize::MAX);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn designators_are_taken_apart_and_cut_ones_refused() {
        let page = [0, 0x83, 0, 16, 1, 3, 0, 4, 0x60, 1, 2, 3, 0x51, 0x14, 0, 4, 0, 0, 0, 9];
        let found = designators(&page).unwrap();
        assert_eq!(found[0].text(), "naa.60010203");
        assert_eq!((found[1].association, found[1].kind, found[1].number()), (Association::Port, 4, 9));
        assert!(designators(&page[..18]).is_err());
        assert!(designators(&[0, 0x83, 0, 4, 1, 3, 0, 9]).is_err());
    }

    #[test]
    fn port_groups_are_taken_apart_and_cut_ones_refused() {
        let data = [0, 0, 0, 12, 0x80, 0x0f, 0, 7, 0, 0, 0, 1, 0, 0, 0, 3];
        let groups = port_groups(&data).unwrap();
        assert_eq!(groups, [PortGroup { number: 7, state: 0, supported: 0x0f, ports: vec![3] }]);
        assert!(port_groups(&data[..12]).is_err());
        assert!(port_groups(&[0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 5]).is_err());
    }

    #[test]
    fn supported_commands_come_with_or_without_timeouts() {
        let mut data = vec![0, 0, 0, 28, 0x28, 0, 0, 0, 0, 0, 0, 10];
        data.extend([0x9e, 0, 0, 0x10, 0, 0x03, 0, 16]);
        data.extend([0; 12]);
        let found = supported_commands(&data);
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].opcode, found[1].service_action, found[1].cdb_len), (0x9e, Some(0x10), 16));
    }
}
