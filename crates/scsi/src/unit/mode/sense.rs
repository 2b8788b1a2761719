//! MODE SENSE(6) and (10) (SPC-4 6.11 and 6.12).

use bytes::Bytes;

use super::ModeState;
use super::page::Page;
use crate::command::Operation;
use crate::completion::Completion;
use crate::sense::{AdditionalSense, Sense};
use crate::unit::dispatch::Task;
use crate::unit::{LogicalUnit, cut};

/// DBD: no block descriptors.
const DBD: u8 = 0x08;
/// LLBAA: long block descriptors are welcome, MODE SENSE(10) only.
const LLBAA: u8 = 0x10;
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;
/// Device-specific parameter (SBC-3 6.5.1): write-protected; DPO and FUA are understood.
const WP: u8 = 0x80;
const DPOFUA: u8 = 0x10;

impl LogicalUnit {
    pub(in crate::unit) fn mode_sense(&self, task: &Task<'_>) -> Result<Completion, Sense> {
        let (state, fixed) = match task.cdb.byte(2) >> 6 {
            0 => (self.mode, true),
            1 => (ModeState::changeable(&self.config), false),
            2 => (self.default_mode(), true),
            _ => return Err(Sense::illegal(AdditionalSense::SAVING_NOT_SUPPORTED)),
        };
        let mut pages = Vec::with_capacity(64);
        for page in self.requested(task.cdb.byte(2) & 0x3f, task.cdb.byte(3))? {
            pages.append(&mut page.encode(state, fixed));
        }
        let short = task.command.operation == Operation::ModeSense6;
        let long_descriptor = !short && task.cdb.bit(1, LLBAA);
        let descriptor =
            if task.cdb.bit(1, DBD) { Vec::new() } else { self.block_descriptor(long_descriptor) };
        let mut data = self.mode_header(task, short, long_descriptor, descriptor.len(), pages.len());
        data.extend_from_slice(&descriptor);
        data.append(&mut pages);
        Ok(cut(Bytes::from(data), task.length()))
    }

    /// MODE DATA LENGTH counts what follows it (SPC-4 7.5.5).
    fn mode_header(
        &self,
        task: &Task<'_>,
        short: bool,
        long: bool,
        descriptor: usize,
        pages: usize,
    ) -> Vec<u8> {
        let protected = self.check_writable(task.read_only).is_err();
        let device = DPOFUA | if protected { WP } else { 0 };
        let body = descriptor + pages;
        let descriptor_len = u8::try_from(descriptor).unwrap_or(u8::MAX);
        if short {
            return vec![u8::try_from(3 + body).unwrap_or(u8::MAX), 0, device, descriptor_len];
        }
        let [high, low] = u16::try_from(6 + body).unwrap_or(u16::MAX).to_be_bytes();
        vec![high, low, 0, device, u8::from(long), 0, 0, descriptor_len]
    }

    /// SBC-3 6.5.2: number of blocks and their length.
    pub(super) fn block_descriptor(&self, long: bool) -> Vec<u8> {
        let block_len = self.config.block_size.bytes().to_be_bytes();
        if long {
            return [&self.blocks.to_be_bytes()[..], &[0; 4], &block_len].concat();
        }
        // The block length has 24 bits here; the byte above them is reserved and 0.
        let blocks = u32::try_from(self.blocks).unwrap_or(u32::MAX);
        [blocks.to_be_bytes(), block_len].concat()
    }

    /// The pages a page code and subpage code stand for (SPC-4 table 134).
    fn requested(&self, code: u8, subpage: u8) -> Result<Vec<Page>, Sense> {
        let matches = |page: &Page| {
            let (its_code, its_subpage) = page.code();
            page.exists(self.config.thin)
                && (code == ALL_PAGES || code == its_code)
                && (subpage == ALL_SUBPAGES || subpage == its_subpage)
        };
        let pages: Vec<Page> = Page::ALL.into_iter().filter(matches).collect();
        let known_code = code == ALL_PAGES || Page::ALL.iter().any(|page| page.code().0 == code);
        match pages.is_empty() || (code == ALL_PAGES && subpage != 0 && subpage != ALL_SUBPAGES) {
            false => Ok(pages),
            true if known_code => Err(Sense::invalid_cdb_byte(3)),
            true => Err(Sense::invalid_cdb_bit(2, 5)),
        }
    }
}
