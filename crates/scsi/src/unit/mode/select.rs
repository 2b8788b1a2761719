//! MODE SELECT(6) and (10) (SPC-4 6.9 and 6.10).

use super::ModeState;
use super::page::Page;
use crate::command::Operation;
use crate::completion::Completion;
use crate::sense::{AdditionalSense, Sense};
use crate::unit::attention::UnitAttention;
use crate::unit::dispatch::Task;
use crate::unit::parameters::gather;
use crate::unit::{DataOut, LogicalUnit, Step};

/// PF: the list holds pages as the standard defines them. Others are not understood.
const PF: u8 = 0x10;
const TOO_SHORT: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

/// A parameter list, and how far it has been read: for field pointers.
struct List<'a> {
    rest: &'a [u8],
    at: u16,
}

impl<'a> List<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Sense> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(TOO_SHORT)?;
        self.rest = rest;
        self.at = self.at.saturating_add(u16::try_from(len).unwrap_or(u16::MAX));
        Ok(taken)
    }
}

impl LogicalUnit {
    /// All pages are checked before any takes effect. Other nexuses are told if something changed.
    pub(in crate::unit) fn mode_select(&mut self, task: &Task<'_>, data_out: DataOut) -> Result<Step, Sense> {
        let list = gather(self.data(task, data_out)?);
        if list.is_empty() {
            return Ok(Step::Done(Completion::good()));
        }
        if !task.cdb.bit(1, PF) {
            return Err(Sense::invalid_cdb_bit(1, 4));
        }
        let mut list = List { rest: &list, at: 0 };
        self.skip_header(task, &mut list)?;
        let mut state = self.mode;
        while !list.rest.is_empty() {
            state = self.selected_page(&mut list, state)?;
        }
        Ok(self.apply(task, state))
    }

    /// Turning the write cache off makes what it holds stable first (SBC-3 6.5.5).
    fn apply(&mut self, task: &Task<'_>, state: ModeState) -> Step {
        let flush = self.mode.write_cache && !state.write_cache;
        if self.mode != state {
            let former = std::mem::replace(&mut self.mode, state);
            self.raise_all(UnitAttention::ModeParametersChanged, Some(task.nexus));
            self.thresholds_set(former);
        }
        if flush { self.flush_all(task) } else { Step::Done(Completion::good()) }
    }

    /// Mode data length and medium type are reserved here, the device-specific bits are ignored. A block
    /// descriptor may only say what is so: the unit cannot be reformatted.
    fn skip_header(&self, task: &Task<'_>, list: &mut List<'_>) -> Result<(), Sense> {
        let (long, descriptor_len, pointer) = if task.command.operation == Operation::ModeSelect6 {
            let header = list.take(4)?;
            (false, usize::from(header.get(3).copied().unwrap_or(0)), 3)
        } else {
            let header = list.take(8)?;
            let &[_, _, _, _, flags, _, high, low] = header else { return Err(TOO_SHORT) };
            (flags & 0x01 != 0, usize::from(u16::from_be_bytes([high, low])), 6)
        };
        if descriptor_len == 0 {
            return Ok(());
        }
        let current = self.block_descriptor(long);
        if descriptor_len != current.len() {
            return Err(Sense::invalid_parameter(pointer, None));
        }
        let at = list.at;
        let descriptor = list.take(descriptor_len)?;
        // 0 blocks means "as they are" (SBC-3 6.5.2.2).
        let blocks_len = if long { 8 } else { 4 };
        let (blocks, block_len) = descriptor.split_at(blocks_len);
        let (blocks_now, block_len_now) = current.split_at(blocks_len);
        let same_blocks = blocks == blocks_now || blocks.iter().all(|byte| *byte == 0);
        if same_blocks && block_len == block_len_now {
            Ok(())
        } else {
            Err(Sense::invalid_parameter(at, None))
        }
    }

    /// One page, which may differ from the current one only in bits that can be changed.
    fn selected_page(&self, list: &mut List<'_>, state: ModeState) -> Result<ModeState, Sense> {
        const PS: u8 = 0x80;
        const SPF: u8 = 0x40;
        let at = list.at;
        let &[code, next] = list.take(2)? else { return Err(TOO_SHORT) };
        // PS is reserved here, but hosts send back what MODE SENSE gave them.
        let code = code & !PS;
        let long = code & SPF != 0;
        let mut header = vec![code, next];
        if long {
            header.extend_from_slice(list.take(2)?);
        }
        let subpage = if long { next } else { 0 };
        let thin = self.config.thin;
        let known = |page: &Page| page.header().first() == Some(&code) && page.code().1 == subpage;
        let page = Page::ALL.into_iter().find(|page| known(page) && page.exists(thin));
        let page = page.ok_or(Sense::invalid_parameter(at, Some(6)))?;
        if header != page.header() {
            return Err(Sense::invalid_parameter(at.saturating_add(if long { 2 } else { 1 }), None));
        }
        let body = list.take(page.len() - page.header_len())?;
        let sent = [&header[..], body].concat();
        let current = page.encode(state, true);
        let changeable = page.encode(ModeState::changeable(&self.config), false);
        let mut bytes = sent.iter().zip(&current).zip(&changeable).skip(page.header_len());
        let wrong = bytes.position(|((sent, current), mask)| (sent ^ current) & !mask != 0);
        match wrong {
            Some(byte) => {
                let offset = u16::try_from(byte + page.header_len()).unwrap_or(0);
                Err(Sense::invalid_parameter(at.saturating_add(offset), None))
            }
            None => Ok(page.decode(&sent, state)),
        }
    }
}
