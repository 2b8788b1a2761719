//! Third-party copies of the scripted array: EXTENDED COPY and tokens.

use std::time::Duration;

use initiator::Answer;
use tokio::time::Instant;

use super::identity::naa;
use super::{BLOCK, BLOCKS, Lie, State, good, sense};
use crate::bytes_at::{length, number, slice};
use crate::request::{Request, put};

/// A token given out, with the data that it stands for and where that was.
pub(crate) struct Token {
    name: Vec<u8>,
    data: Vec<u8>,
    place: (u16, u64, u64),
    /// When it has to be used again.
    until: Instant,
    is_deleted: bool,
}

/// What became of an operation: blocks, and the token.
pub(crate) struct Outcome {
    blocks: u64,
    token: Option<Vec<u8>>,
}

impl State {
    pub(super) fn copy(&mut self, lun: u16, request: &Request) -> Option<Answer> {
        Some(match (request.cdb[0], request.cdb[1] & 0x1f) {
            (0x83, 0x00) => self.extended_copy(&request.data_out),
            (0x83, 0x10) => self.populate(lun, request),
            (0x83, 0x11) => self.write_using(lun, request),
            (0x84, 0x03) => good(self.operating_parameters()),
            (0x84, 0x07) => self.information(&request.cdb),
            _ => return None,
        })
    }

    fn operating_parameters(&self) -> Vec<u8> {
        let list: &[u8] = if self.lies(Lie::NoDescriptors) { &[] } else { &[0x02, 0xe4] };
        let mut data = vec![0; 44];
        put(&mut data, 0, 4, 40 + list.len() as u64);
        put(&mut data, 8, 2, 2);
        put(&mut data, 10, 2, 4);
        put(&mut data, 16, 4, 16 << 20);
        data[43] = list.len() as u8;
        data.extend(list);
        data
    }

    fn extended_copy(&mut self, list: &[u8]) -> Answer {
        let any = self.lies(Lie::AnyCopy);
        let names = length(list, 2, 2);
        let units: Vec<Option<u16>> = slice(list, 16, names)
            .chunks(32)
            .map(|cscd| (0..2).find(|lun| slice(cscd, 8, 16) == naa(*lun)))
            .collect();
        for segment in slice(list, 16 + names, length(list, 8, 4)).chunks(28) {
            let unit = |at| units.get(length(segment, at, 2)).copied().flatten();
            let (Some(from), Some(to)) = (unit(4), unit(6)) else {
                return if any { good(Vec::new()) } else { sense(0x0a, 0x0d, 0x02) };
            };
            let (blocks, source, target) =
                (number(segment, 10, 2), number(segment, 12, 8), number(segment, 20, 8));
            if source + blocks > BLOCKS || target + blocks > BLOCKS {
                return if any { good(Vec::new()) } else { sense(0x0a, 0x21, 0) };
            }
            let mut data = self.unit(from).read(source, blocks);
            if self.lies(Lie::CorruptCopy) {
                data[BLOCK + 7] ^= 1;
            }
            self.unit(to).write(target, &data);
        }
        good(Vec::new())
    }

    fn populate(&mut self, lun: u16, request: &Request) -> Answer {
        let list = &request.data_out;
        let (lba, blocks) = (number(list, 16, 8), number(list, 24, 4));
        let end = lba + blocks;
        if end > BLOCKS && !self.lies(Lie::EndlessToken) {
            return sense(5, 0x21, 0);
        }
        let data = self.unit(lun).read(lba, blocks);
        let mut name = vec![self.tokens.len() as u8 + 1; 512];
        put(&mut name, 0, 4, 0x0080_0000);
        put(&mut name, 6, 2, 0x01f8);
        let seconds = if self.lies(Lie::PatientToken) { 0 } else { number(list, 4, 4) };
        let until = Instant::now() + Duration::from_secs(if seconds == 0 { 30 } else { seconds });
        let place = (lun, lba, blocks);
        self.tokens.push(Token { name: name.clone(), data, place, until, is_deleted: false });
        let id = number(&request.cdb, 6, 4) as u32;
        self.results.insert(id, Outcome { blocks, token: Some(name) });
        good(Vec::new())
    }

    fn write_using(&mut self, lun: u16, request: &Request) -> Answer {
        let list = &request.data_out;
        let (lba, blocks) = (number(list, 536, 8), number(list, 544, 4));
        let wanted = slice(list, 16, 512);
        let found = self.tokens.iter_mut().find(|token| token.name == wanted);
        match found {
            Some(token) if token.is_deleted => return sense(5, 0x23, 0x09),
            Some(token) if token.until < Instant::now() => return sense(5, 0x23, 0x07),
            Some(token) if list[2] & 2 != 0 => token.is_deleted = !self.lies.contains(&Lie::UndyingToken),
            _ => {}
        }
        let known = self
            .tokens
            .iter()
            .find(|token| token.name == wanted)
            .map(|token| (token.data.clone(), token.place));
        let data = match known {
            Some((_, (from, at, blocks))) if self.lies(Lie::LiveToken) => {
                Some(self.unit(from).read(at, blocks))
            }
            Some((data, _)) => Some(data),
            None if number(wanted, 0, 4) == 0xffff_0001 && self.lies(Lie::LazyZero) => None,
            None if number(wanted, 0, 4) == 0xffff_0001 => Some(vec![0; blocks as usize * BLOCK]),
            None if self.lies(Lie::AnyToken) => Some(vec![7; blocks as usize * BLOCK]),
            None if self.lies(Lie::OddTokenSense) => return sense(5, 0x26, 0),
            None => return sense(5, 0x23, 0x04),
        };
        if let Some(data) = data {
            self.unit(lun).write(lba, &data);
        }
        let id = number(&request.cdb, 6, 4) as u32;
        self.results.insert(id, Outcome { blocks, token: None });
        good(Vec::new())
    }

    fn information(&self, cdb: &[u8; 16]) -> Answer {
        let id = number(cdb, 2, 4) as u32;
        let Some(result) = self.results.get(&id) else { return sense(5, 0x24, 0) };
        let mut data = vec![0; 36];
        data[5] = 1;
        put(&mut data, 16, 8, result.blocks);
        if let Some(token) = &result.token {
            put(&mut data, 32, 4, 514);
            data.extend([0, 0]);
            data.extend(token);
        }
        let whole = data.len() as u64 - 4;
        put(&mut data, 0, 4, whole);
        good(data)
    }
}
