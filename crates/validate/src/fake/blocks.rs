//! The blocks of the scripted array.

use std::collections::{BTreeMap, BTreeSet};

use initiator::Answer;

use super::{BLOCK, BLOCKS, Lie, State, good, sense, sense_at};
use crate::bytes_at::number;
use crate::request::{Request, put};

/// One logical unit's blocks; what is not there is zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unit {
    data: BTreeMap<u64, Vec<u8>>,
    pub(crate) mapped: BTreeSet<u64>,
}

impl Unit {
    pub(crate) fn read(&self, lba: u64, blocks: u64) -> Vec<u8> {
        (lba..lba.saturating_add(blocks))
            .flat_map(|at| self.data.get(&at).cloned().unwrap_or_else(|| vec![0; BLOCK]))
            .collect()
    }

    pub(crate) fn write(&mut self, lba: u64, data: &[u8]) {
        for (at, block) in (lba..u64::MAX).zip(data.chunks(BLOCK)) {
            self.data.insert(at, block.to_vec());
            self.mapped.insert(at);
        }
    }

    fn unmap(&mut self, lba: u64, blocks: u64, stays: bool) {
        for at in lba..lba + blocks {
            self.data.remove(&at);
            if !stays {
                self.mapped.remove(&at);
            }
        }
    }
}

impl State {
    pub(super) fn unit(&mut self, lun: u16) -> &mut Unit {
        self.units.get_mut(&lun).expect("a unit that is there")
    }

    pub(super) fn transfer(&mut self, session: usize, lun: u16, request: &Request) -> Option<Answer> {
        let cdb = &request.cdb;
        let (lba, blocks) = match cdb[0] {
            0x28 | 0x2a | 0x35 => (number(cdb, 2, 4), number(cdb, 7, 2)),
            0x88 | 0x8a | 0x8f | 0x93 => (number(cdb, 2, 8), number(cdb, 10, 4)),
            0x89 => (number(cdb, 2, 8), u64::from(cdb[13])),
            0x9e if cdb[1] & 0x1f == 0x12 => (number(cdb, 2, 8), 1),
            0x42 => return Some(self.unmap(lun, request)),
            _ => return None,
        };
        if cdb[0] == 0x89 && self.lies(Lie::NoCompareAndWrite) {
            return None;
        }
        if lba.checked_add(blocks).is_none_or(|end| end > BLOCKS) && !self.lies(Lie::NoEnd) {
            return Some(sense(5, 0x21, 0));
        }
        Some(match cdb[0] {
            0x28 | 0x88 => good(self.read(session, lun, lba, blocks)),
            0x2a | 0x8a => self.write_through(session, request),
            0x89 => self.compare_and_write(lun, lba, blocks, request),
            0x93 => self.write_same(lun, lba, blocks, request),
            0x9e => good(self.lba_status(lun, lba)),
            _ => good(Vec::new()),
        })
    }

    fn read(&mut self, session: usize, lun: u16, lba: u64, blocks: u64) -> Vec<u8> {
        let split = self.lies(Lie::SplitBrain) && self.sessions[session].path == 1;
        let mut data = match split {
            true => vec![0; blocks as usize * BLOCK],
            false => self.unit(lun).read(lba, blocks),
        };
        if self.lies(Lie::DigestCorrupts) && self.sessions[session].digests {
            data[0] ^= 1;
        }
        data
    }

    /// A write, whoever has reserved.
    pub(super) fn write_through(&mut self, session: usize, request: &Request) -> Answer {
        let lun = self.sessions[session].lun;
        let at = if request.cdb[0] == 0x2a { number(&request.cdb, 2, 4) } else { number(&request.cdb, 2, 8) };
        self.unit(lun).write(at, &request.data_out);
        good(Vec::new())
    }

    fn compare_and_write(&mut self, lun: u16, lba: u64, blocks: u64, request: &Request) -> Answer {
        if blocks > 1 {
            return sense(5, 0x24, 0);
        }
        let (old, new) = request.data_out.split_at(request.data_out.len() / 2);
        let there = self.unit(lun).read(lba, blocks);
        let difference = there.iter().zip(old).position(|(a, b)| a != b);
        let (blind, empty) = (self.lies(Lie::BlindSwap), self.lies(Lie::EmptySwap));
        if let Some(at) = difference.filter(|_| !blind) {
            let at = at as u32 + u32::from(self.lies(Lie::WrongOffset));
            return sense_at(0x0e, 0x1d, 0, Some(at));
        }
        if !empty {
            self.unit(lun).write(lba, new);
        }
        good(Vec::new())
    }

    fn write_same(&mut self, lun: u16, lba: u64, blocks: u64, request: &Request) -> Answer {
        let blocks = blocks + u64::from(self.lies(Lie::WideSame));
        for at in lba..lba + blocks {
            self.unit(lun).write(at, &request.data_out);
        }
        good(Vec::new())
    }

    fn unmap(&mut self, lun: u16, request: &Request) -> Answer {
        let list = request.data_out.get(8..).unwrap_or_default();
        let ranges: Vec<_> =
            list.chunks(16).map(|range| (number(range, 0, 8), number(range, 8, 4))).collect();
        if ranges.iter().any(|(lba, blocks)| lba + blocks > BLOCKS) {
            return sense(5, 0x21, 0);
        }
        let (wide, stays) = (self.lies(Lie::WideUnmap), self.lies(Lie::StillMapped));
        for (lba, blocks) in ranges {
            let blocks = blocks + u64::from(wide && blocks > 0);
            self.unit(lun).unmap(lba, blocks, stays);
        }
        good(Vec::new())
    }

    fn lba_status(&mut self, lun: u16, lba: u64) -> Vec<u8> {
        let mapped = self.unit(lun).mapped.clone();
        let is_mapped = mapped.contains(&lba);
        let same = (lba..BLOCKS).take_while(|at| mapped.contains(at) == is_mapped).count();
        let mut data = vec![0; 24];
        put(&mut data, 0, 4, 20);
        put(&mut data, 8, 8, lba + u64::from(self.lies(Lie::StatusElsewhere)));
        put(&mut data, 16, 4, same as u64);
        data[20] = u8::from(!is_mapped);
        data
    }
}
