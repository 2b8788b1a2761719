//! Who the scripted array says it is: INQUIRY, REPORT LUNS, capacity, port groups, operation codes, pages.

use initiator::Answer;

use super::{BLOCKS, Lie, State, good, sense};
use crate::bytes_at::number;
use crate::request::{Request, put};

/// Every command that is there: operation code, service action, CDB length.
const COMMANDS: [(u8, Option<u16>, u16); 34] = [
    (0x00, None, 6),
    (0x03, None, 6),
    (0x12, None, 6),
    (0x16, None, 6),
    (0x17, None, 6),
    (0x1a, None, 6),
    (0x25, None, 10),
    (0x28, None, 10),
    (0x2a, None, 10),
    (0x35, None, 10),
    (0x42, None, 10),
    (0x4d, None, 10),
    (0x5a, None, 10),
    (0x5e, Some(0), 10),
    (0x5e, Some(1), 10),
    (0x5e, Some(2), 10),
    (0x5e, Some(3), 10),
    (0x5f, Some(0), 10),
    (0x5f, Some(6), 10),
    (0x83, Some(0x00), 16),
    (0x83, Some(0x10), 16),
    (0x83, Some(0x11), 16),
    (0x84, Some(0x03), 16),
    (0x84, Some(0x07), 16),
    (0x88, None, 16),
    (0x89, None, 16),
    (0x8a, None, 16),
    (0x8f, None, 16),
    (0x93, None, 16),
    (0x9e, Some(0x10), 16),
    (0x9e, Some(0x12), 16),
    (0xa0, None, 12),
    (0xa3, Some(0x0a), 12),
    (0xa3, Some(0x0c), 12),
];

/// The NAA name of a unit.
pub(super) fn naa(lun: u16) -> Vec<u8> {
    let mut name = vec![0x60; 16];
    put(&mut name, 14, 2, lun.into());
    name
}

impl State {
    pub(super) fn identify(&mut self, session: usize, lun: u16, request: &Request) -> Option<Answer> {
        let cdb = &request.cdb;
        let path = self.sessions[session].path;
        Some(match (cdb[0], cdb[1] & 0x1f) {
            (0x00, _) => good(Vec::new()),
            (0x12, 0) => good(self.standard(path)),
            (0x12, _) => self.vital(path, lun, cdb[2]),
            (0x03, _) => good(vec![0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (0x25, _) => {
                let last = BLOCKS - 1 + u64::from(self.lies(Lie::OtherCapacity));
                let mut data = vec![0; 8];
                put(&mut data, 0, 4, last);
                put(&mut data, 4, 4, 512);
                good(data)
            }
            (0x9e, 0x10) => good(self.capacity()),
            (0xa0, _) => good(self.luns(lun)),
            (0xa3, 0x0a) => good(self.groups(path)),
            (0xa3, 0x0c) => self.operation_codes(cdb),
            (0x1a, _) => good(vec![3, 0, 0x10, 0]),
            (0x5a, _) if cdb[2] == 0x3f => good(vec![0, 6, 0, 0x10, 0, 0, 0, 0]),
            (0x5a, _) if cdb[2] == 0x1c && cdb[3] == 2 && !self.lies(Lie::NoThresholds) => {
                good(self.thresholds())
            }
            (0x5a, _) => sense(5, 0x24, 0),
            (0x4d, _) => self.log(cdb[2] & 0x3f),
            _ => return None,
        })
    }

    fn standard(&self, path: usize) -> Vec<u8> {
        let mut data = vec![0; 36];
        let tpgs = match path {
            1 if self.lies(Lie::OtherTpgs) => 0,
            _ if self.lies(Lie::FalseExplicit) => 0x30,
            _ => 0x10,
        };
        data[..8].copy_from_slice(&[0, 0, 6, 0x12, 31, tpgs, 0, 2]);
        data[8..].copy_from_slice(b"SCRIPTEDArray           0001");
        if path == 1 && self.lies(Lie::OtherProduct) {
            data[16] = b'B';
        }
        data
    }

    fn vital(&self, path: usize, lun: u16, page: u8) -> Answer {
        let body = match page {
            0x00 => vec![0x00, 0x80, 0x83, 0x8f, 0xb0, 0xb2],
            0x80 if path == 1 && self.lies(Lie::OtherSerial) => b"SERIAL-OTHER".to_vec(),
            0x80 => format!("SERIAL-{lun}").into_bytes(),
            0x83 => self.designators(path, lun),
            0x8f if !self.lies(Lie::MissingPage) => self.third_party(),
            0xb0 => self.limits(),
            0xb2 => vec![if self.lies(Lie::NoThresholds) { 0 } else { 8 }, 0xe4, 2, 0],
            _ => return sense(5, 0x24, 0),
        };
        let mut data = vec![0, page, 0, 0];
        put(&mut data, 2, 2, body.len() as u64);
        data.extend(body);
        good(data)
    }

    fn designators(&self, path: usize, lun: u16) -> Vec<u8> {
        let mut data = Vec::new();
        let mut name = naa(lun);
        name[3] ^= u8::from(path == 1 && self.lies(Lie::OtherName));
        if !self.lies(Lie::Nameless) {
            data.extend([1, 3, 0, 16]);
            data.extend(name);
        }
        let port = if self.lies(Lie::SamePort) { 1 } else { 1 + path as u8 };
        let group = if self.lies(Lie::UnknownGroup) { 9 } else { 1 + path as u8 };
        data.extend([0x51, 0x14, 0, 4, 0, 0, 0, port]);
        data.extend([0x51, 0x15, 0, 4, 0, 0, 0, group]);
        let name = format!("iqn.a:b,t,0x000{}\0", path + 1);
        data.extend([0x53, 0x18, 0, name.len() as u8]);
        data.extend(name.into_bytes());
        data
    }

    fn third_party(&self) -> Vec<u8> {
        let mut data = vec![0; 36];
        put(&mut data, 2, 2, 32);
        put(&mut data, 10, 2, if self.lies(Lie::NoRanges) { 0 } else { 4 });
        put(&mut data, 12, 4, 60);
        put(&mut data, 16, 4, 30);
        put(&mut data, 20, 8, BLOCKS);
        data
    }

    fn limits(&self) -> Vec<u8> {
        let mut page = vec![0; 64];
        put(&mut page, 5, 1, if self.lies(Lie::HiddenCompare) { 0 } else { 1 });
        put(&mut page, 8, 4, 65536);
        put(&mut page, 12, 4, if self.lies(Lie::AbsurdLimits) { 65537 } else { 1024 });
        put(&mut page, 20, 4, if self.lies(Lie::NoUnmapLimit) { 0 } else { 1 << 20 });
        put(&mut page, 24, 4, 16);
        put(&mut page, 28, 4, 64);
        page[4..].to_vec()
    }

    fn capacity(&self) -> Vec<u8> {
        let mut data = vec![0; 32];
        put(&mut data, 0, 8, BLOCKS - 1);
        put(&mut data, 8, 4, 512);
        data[13] = 3;
        put(&mut data, 14, 2, 0xc000 | u64::from(self.lies(Lie::Misaligned)));
        data
    }

    fn luns(&self, lun: u16) -> Vec<u8> {
        let luns: Vec<u16> = self
            .units
            .keys()
            .copied()
            .filter(|other| *other != lun || !self.lies(Lie::UnlistedLun))
            .collect();
        let mut data = vec![0; 8];
        put(&mut data, 0, 4, 8 * luns.len() as u64);
        for lun in luns {
            data.extend([0, lun as u8, 0, 0, 0, 0, 0, 0]);
        }
        data
    }

    fn groups(&self, path: usize) -> Vec<u8> {
        let state = if self.lies(Lie::NoActiveGroup) { 2 } else { 0 };
        let second = if self.lies(Lie::OtherGroups) { path as u8 } else { 1 };
        let second = if state == 2 || self.lies(Lie::BusyStandby) { 2 } else { second };
        let supported = if self.lies(Lie::ImpossibleState) { 0x80 } else { 0x8f };
        let mut data = vec![0, 0, 0, 24];
        data.extend([state, supported, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
        data.extend([second, supported, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        data
    }

    fn operation_codes(&self, cdb: &[u8; 16]) -> Answer {
        let commands =
            COMMANDS.iter().filter(|(code, ..)| *code != 0x89 || !self.lies(Lie::NoCompareAndWrite));
        let mut all: Vec<_> = commands.copied().collect();
        if self.lies(Lie::FalseSupport) {
            all.push((0xa8, None, 12));
        }
        if cdb[2] & 7 == 0 {
            let mut data = vec![0; 4];
            put(&mut data, 0, 4, 8 * all.len() as u64);
            for (code, action, length) in all {
                let mut entry = vec![code, 0, 0, 0, 0, u8::from(action.is_some()), 0, 0];
                put(&mut entry, 2, 2, action.unwrap_or(0).into());
                put(&mut entry, 6, 2, length.into());
                data.extend(entry);
            }
            return good(data);
        }
        let action = number(cdb, 4, 2) as u16;
        let found = all
            .iter()
            .find(|(code, wanted, _)| *code == cdb[3] && wanted.is_none_or(|wanted| wanted == action));
        let Some((code, _, length)) = found else { return good(vec![0, 1, 0, 0]) };
        let length = length + u16::from(self.lies(Lie::OtherLength));
        let mut data = vec![0; 4 + usize::from(length)];
        data[1] = 3;
        put(&mut data, 2, 2, length.into());
        data[4] = *code;
        good(data)
    }

    fn thresholds(&self) -> Vec<u8> {
        let mut data = vec![0; 8 + 16 + 8];
        put(&mut data, 0, 2, 30);
        data[8] = if self.lies(Lie::OddThresholds) { 0x5d } else { 0x5c };
        data[9] = 2;
        put(&mut data, 10, 2, 20);
        data
    }

    fn log(&self, page: u8) -> Answer {
        if page != 0x0c {
            return sense(5, 0x24, 0);
        }
        let used: u64 = self.units.values().map(|unit| unit.mapped.len() as u64).sum();
        let format = if self.lies(Lie::OddLog) { 0 } else { 3 };
        let mut data = vec![
            0x8c, 0, 0, 24, 0, 1, format, 8, 0, 0, 0, 9, 0, 0, 0, 0, 0, 2, format, 8, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        put(&mut data, 20, 4, used);
        good(data)
    }
}
