//! Judges what reads return and gathers the faults, for all sessions of a run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::check::{Content, Fault, FaultReport, judge};
use super::ledger::{Entry, Ledger, LedgerError};
use super::stamp::{Generation, RunId, StampSize};

/// Faults reported one by one; all are counted.
const FAULTS_LISTED_MAX: usize = 100;

/// The ledger with what was found under it.
#[derive(Debug)]
pub struct Inspector {
    ledger: Ledger,
    unit: StampSize,
    checked: AtomicU64,
    unacknowledged: AtomicU64,
    fault_count: AtomicU64,
    faults: Mutex<Vec<FaultReport>>,
}

impl Inspector {
    /// Judges by this ledger, whose units are `unit` long.
    pub fn new(ledger: Ledger, unit: StampSize) -> Self {
        Self {
            ledger,
            unit,
            checked: AtomicU64::new(0),
            unacknowledged: AtomicU64::new(0),
            fault_count: AtomicU64::new(0),
            faults: Mutex::default(),
        }
    }

    /// The record it judges by.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Size of a unit.
    pub fn unit(&self) -> StampSize {
        self.unit
    }

    /// Identity of the stamps.
    pub fn run(&self) -> RunId {
        self.ledger.run()
    }

    /// Where a unit begins, in bytes.
    pub fn address(&self, unit: u64) -> u64 {
        unit * u64::from(self.unit.bytes())
    }

    /// Units that held a stamp or should have, and were judged.
    pub fn checked(&self) -> u64 {
        self.checked.load(Relaxed)
    }

    /// Units found to hold a write that was sent and not acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        self.unacknowledged.load(Relaxed)
    }

    /// Faults found.
    pub fn fault_count(&self) -> u64 {
        self.fault_count.load(Relaxed)
    }

    /// The first faults found.
    pub fn faults(&self) -> Vec<FaultReport> {
        self.faults.lock().map(|faults| faults.clone()).unwrap_or_default()
    }

    /// Judges the data of whole units from `first` on, none of which is being written. What is
    /// seen is recorded: a write that was read as done may not be undone later. `entries` is
    /// working memory.
    ///
    /// # Errors
    /// Only if the ledger fails. Faults are no errors here, they are gathered.
    pub fn inspect(&self, first: u64, data: &[u8], entries: &mut Vec<Entry>) -> Result<(), LedgerError> {
        let units = data.chunks_exact(self.unit.length());
        self.ledger.read(first, units.len(), entries)?;
        for ((unit, entry), number) in units.zip(entries.iter()).zip(first..) {
            match judge(self.run(), self.address(number), *entry, unit) {
                Ok(Content::Generation(seen)) => self.note(number, *entry, seen)?,
                Ok(Content::Untouched) if entry.ceiling == Generation(0) => {}
                Ok(Content::Untouched) => _ = self.checked.fetch_add(1, Relaxed),
                Err(fault) => self.report(FaultReport::new(self.address(number), *entry, &fault)),
            }
        }
        Ok(())
    }

    /// Reports units that cannot be read at all.
    ///
    /// # Errors
    /// Only if the ledger fails.
    pub fn unreadable(&self, first: u64, count: usize, why: &str) -> Result<(), LedgerError> {
        let mut entries = Vec::new();
        self.ledger.read(first, count, &mut entries)?;
        for (entry, number) in entries.iter().zip(first..).filter(|(entry, _)| entry.floor > Generation(0)) {
            let fault = FaultReport::new(self.address(number), *entry, &Fault::Corrupt);
            self.report(FaultReport { found: format!("unreadable: {why}"), ..fault });
        }
        Ok(())
    }

    fn note(&self, number: u64, entry: Entry, seen: Generation) -> Result<(), LedgerError> {
        self.checked.fetch_add(1, Relaxed);
        if seen > entry.floor {
            self.unacknowledged.fetch_add(1, Relaxed);
        }
        self.ledger.observe(number, entry, seen)
    }

    fn report(&self, fault: FaultReport) {
        self.fault_count.fetch_add(1, Relaxed);
        if let Ok(mut faults) = self.faults.lock()
            && faults.len() < FAULTS_LISTED_MAX
        {
            faults.push(fault);
        }
    }
}
