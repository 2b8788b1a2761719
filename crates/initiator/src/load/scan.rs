//! Reading everything back: the source of the phase that proves an earlier run's writes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::LoadError;
use super::source::{Next, Op, Source, Way};
use crate::verify::inspector::Inspector;
use crate::verify::ledger::{Entry, LedgerError};
use crate::verify::stamp::Generation;

/// Longest read of the scan, in bytes.
const READ_BYTES_MAX: u64 = 256 << 10;

/// How far a scan is; its sessions share it and take a page of the ledger at a time.
#[derive(Debug, Default)]
pub(crate) struct ScanCursor(Mutex<u64>);

impl ScanCursor {
    /// The next page of the ledger that holds anything.
    fn claim(&self, inspector: &Inspector) -> Result<Option<Range<u64>>, LedgerError> {
        let mut next = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let page = inspector.ledger().next_page(*next)?;
        *next = page.as_ref().map_or(inspector.ledger().units(), |page| page.end);
        Ok(page)
    }

    /// Units behind the cursor.
    pub(crate) fn position(&self) -> u64 {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The scanning source of one session.
pub(crate) struct Scan {
    inspector: Arc<Inspector>,
    cursor: Arc<ScanCursor>,
    runs: VecDeque<Range<u64>>,
    entries: Vec<Entry>,
}

impl Scan {
    pub(crate) fn new(inspector: Arc<Inspector>, cursor: Arc<ScanCursor>) -> Self {
        Self { inspector, cursor, runs: VecDeque::new(), entries: Vec::new() }
    }

    /// Takes over a page and splits what was ever written in it into reads.
    fn refill(&mut self) -> Result<bool, LedgerError> {
        let Some(page) = self.cursor.claim(&self.inspector)? else { return Ok(false) };
        let count = usize::try_from(page.end - page.start).unwrap_or(0);
        self.inspector.ledger().read(page.start, count, &mut self.entries)?;
        let longest = READ_BYTES_MAX / u64::from(self.inspector.unit().bytes());
        for (unit, entry) in page.zip(&self.entries) {
            if entry.ceiling == Generation(0) {
                continue;
            }
            match self.runs.back_mut() {
                Some(run) if run.end == unit && run.end - run.start < longest => run.end += 1,
                _ => self.runs.push_back(unit..unit + 1),
            }
        }
        Ok(true)
    }

    fn units(&self, op: &Op) -> (u64, usize) {
        let unit = self.inspector.unit().bytes();
        (op.offset / u64::from(unit), usize::try_from(op.length / unit).unwrap_or(0))
    }
}

impl Source for Scan {
    fn next(&mut self) -> Result<Next, LoadError> {
        loop {
            if let Some(run) = self.runs.pop_front() {
                let offset = self.inspector.address(run.start);
                let length = self.inspector.address(run.end - run.start);
                let length = u32::try_from(length).unwrap_or(0);
                return Ok(Next::Op(Op { way: Way::Read, offset, length, data: Bytes::new() }));
            }
            if !self.refill()? {
                return Ok(Next::End);
            }
        }
    }

    fn completed(&mut self, op: Op, data: &[u8]) -> Result<(), LoadError> {
        let (first, _) = self.units(&op);
        Ok(self.inspector.inspect(first, data, &mut self.entries)?)
    }

    fn failed(&mut self, op: Op, why: &str) -> Result<(), LoadError> {
        let (first, count) = self.units(&op);
        Ok(self.inspector.unreadable(first, count, why)?)
    }
}
