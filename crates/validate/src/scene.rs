//! What a check works with: the nexuses, the unit's size, the scratch range, and where findings go.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::exchange::Log;
use crate::fabric::Fabric;
use crate::nexus::{Nexus, Reply};
use crate::outcome::{Outcome, failed, skipped};
use crate::request::{self, Request};

/// A range of logical blocks that checks may overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScratchRange {
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub blocks: u64,
}

/// What READ CAPACITY (16) said at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
}

/// What a check found on its way.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) wrong: Vec<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// The stage of every check.
pub(crate) struct Scene {
    pub(crate) fabric: Rc<dyn Fabric>,
    /// The first `paths` go each through another path; the rest repeat the paths in turn.
    pub(crate) nexuses: Vec<Nexus>,
    pub(crate) path_count: usize,
    /// Two nexuses to each other logical unit that may be used.
    pub(crate) others: Vec<Vec<Nexus>>,
    pub(crate) size: Size,
    pub(crate) range: Option<ScratchRange>,
    /// Drawn for this run; part of its keys and patterns.
    pub(crate) run: u32,
    pub(crate) log: Rc<Log>,
    pub(crate) findings: RefCell<Findings>,
}

impl Scene {
    /// One nexus for each path.
    pub(crate) fn paths(&self) -> &[Nexus] {
        self.nexuses.get(..self.path_count).unwrap_or(&self.nexuses)
    }

    /// Nexus number `number`, counted from 0.
    pub(crate) fn nexus(&self, number: usize) -> Outcome<&Nexus> {
        match self.nexuses.get(number) {
            Some(nexus) => Ok(nexus),
            None => skipped(format!("needs {} nexuses", number + 1)),
        }
    }

    pub(crate) fn first(&self) -> Outcome<&Nexus> {
        self.nexus(0)
    }

    /// Says that something is wrong; the check goes on and fails in the end.
    pub(crate) fn wrong(&self, message: impl Into<String>) {
        self.log.suspect();
        self.findings.borrow_mut().wrong.push(message.into());
    }

    /// Says that something is wrong unless it holds.
    pub(crate) fn ensure(&self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.wrong(message());
        }
    }

    /// Takes down a step's failure; the check goes on.
    pub(crate) fn note_failure(&self, result: Outcome) -> Outcome {
        match result {
            Err(crate::outcome::Stop::Failed(message)) => {
                self.wrong(message);
                Ok(())
            }
            other => other,
        }
    }

    /// Says what works but will be complained about.
    pub(crate) fn warn(&self, message: impl Into<String>) {
        self.findings.borrow_mut().warnings.push(message.into());
    }

    /// Says what is worth knowing.
    pub(crate) fn note(&self, message: impl Into<String>) {
        self.findings.borrow_mut().notes.push(message.into());
    }

    /// The reservation key of nexus number `number` in this run: `PV`, the run, the number.
    pub(crate) fn key(&self, number: usize) -> u64 {
        u64::from(u16::from_be_bytes(*b"PV")) << 48
            | u64::from(self.run) << 16
            | u64::try_from(number).unwrap_or(0).saturating_add(1)
    }

    /// Whether a key is of this run.
    pub(crate) fn is_own(&self, key: u64) -> bool {
        key >> 16 == self.key(0) >> 16
    }

    /// The same request through every path at a time; answers in the order of the paths.
    pub(crate) async fn on_every_path(&self, request: &Request) -> Outcome<Vec<Reply>> {
        join_all(self.paths().iter().map(|nexus| nexus.ask(request.clone()))).await.into_iter().collect()
    }

    /// Takes every unit attention of every nexus.
    pub(crate) async fn settle(&self) -> Outcome {
        join_all(self.nexuses.iter().map(Nexus::settle)).await.into_iter().collect()
    }

    /// The scratch range's blocks from `offset` on, `blocks` of them.
    pub(crate) fn scratch(&self, offset: u64, blocks: u64) -> Outcome<u64> {
        let Some(range) = self.range else { return skipped("needs --destructive") };
        if offset.saturating_add(blocks) > range.blocks {
            return skipped(format!(
                "needs {} blocks of scratch space, the range has {}",
                offset.saturating_add(blocks),
                range.blocks
            ));
        }
        Ok(range.lba.saturating_add(offset))
    }

    /// How many blocks `bytes` are, at least one.
    pub(crate) fn blocks_of(&self, bytes: u32) -> u32 {
        (bytes / self.size.block_size.max(1)).max(1)
    }

    /// `blocks` blocks of which each tells its place and `seed`, so that none looks like another.
    pub(crate) fn pattern(&self, seed: u64, blocks: u32) -> Bytes {
        let mut data = Vec::new();
        for block in 0..u64::from(blocks) {
            let words = u64::from(self.size.block_size / 8);
            for word in 0..words {
                let mixed = (seed ^ u64::from(self.run) << 32).wrapping_add(block << 16).wrapping_add(word);
                data.extend(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            }
        }
        data.into()
    }

    /// Zeroes for `blocks` blocks.
    pub(crate) fn zeroes(&self, blocks: u32) -> Bytes {
        let length = u64::from(blocks).saturating_mul(self.size.block_size.into());
        vec![0; usize::try_from(length).unwrap_or(0)].into()
    }

    /// Reads blocks and wants all of them.
    pub(crate) async fn read(&self, nexus: &Nexus, lba: u64, blocks: u32) -> Outcome<Bytes> {
        let request = request::read(lba, blocks, self.size.block_size);
        let wanted = usize::try_from(request.read_len).unwrap_or(usize::MAX);
        let data = nexus.good(request).await?;
        match data.len() == wanted {
            true => Ok(data),
            false => {
                failed(format!("READ(16) through {} returned {} of {wanted} bytes", nexus.label, data.len()))
            }
        }
    }

    /// Writes a whole number of blocks.
    pub(crate) async fn write(&self, nexus: &Nexus, lba: u64, data: Bytes) -> Outcome {
        let blocks = u32::try_from(data.len()).unwrap_or(0) / self.size.block_size.max(1);
        nexus.good(request::write(lba, blocks, data)).await.map(drop)
    }

    /// Reads back and compares with what has to be there; `what` names it.
    pub(crate) async fn holds(&self, nexus: &Nexus, lba: u64, wanted: &[u8], what: &str) -> Outcome {
        let blocks = u32::try_from(wanted.len()).unwrap_or(0) / self.size.block_size.max(1);
        let found = self.read(nexus, lba, blocks).await?;
        match first_difference(&found, wanted) {
            None => Ok(()),
            Some(at) => failed(format!(
                "{what}: byte {at} from block {lba} on is {:02x} where {:02x} is expected, read through {}",
                found.get(at).copied().unwrap_or(0),
                wanted.get(at).copied().unwrap_or(0),
                nexus.label
            )),
        }
    }
}

/// Where two runs of bytes of the same length first differ.
pub(crate) fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}
